"""Models of single layers: one kind of layer and one way of storing it, a layer for each dtype and group size."""

import contextlib
import json
import math
import unittest.mock
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sdnq
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sdnq.common import dtype_dict, weights_dtype_order
from sdnq.dequantizer import unpack_weights
from sdnq.packed_float import unpack_float
from sdnq.packed_int import pack_int
from sdnq.quant_utils import get_hadamard
from sdnq.quantizer import sdnq_quantize_layer_weight

from support import Tensors

# Every dtype of sdnq's own order but the plain float in it: 31 integers, the hardware's two floats, 135 custom ones.
DTYPES = [name for name in weights_dtype_order if name != "float16"]
UNIT = 2.0**-24  # the relative error of rounding to f32


# ---------------------------------------------------------------- kinds of layers


@dataclass(frozen=True)
class Kind:
    """A class of PyTorch's, a shape whose channels divide into `groups`, and a name that tells a file's reader its kind."""

    make: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    groups: int
    module: str


# 16384 elements are the least that sdnq quantizes. Rotations: of 64 and 16 (powers of 4), of 128 and 32 (not).
KINDS = {
    "Linear": Kind(lambda: torch.nn.Linear(192, 96, bias=False), (96, 192), 64, "linear"),
    "Embedding": Kind(lambda: torch.nn.Embedding(160, 128), (160, 128), 32, "word_embeddings"),
    "Conv1d": Kind(lambda: torch.nn.Conv1d(64, 96, 3, bias=False), (96, 64, 3), 32, "conv"),
    "Conv2d": Kind(lambda: torch.nn.Conv2d(96, 24, 3, bias=False), (24, 96, 3, 3), 32, "conv"),
    "ConvTranspose2d": Kind(
        lambda: torch.nn.ConvTranspose2d(64, 48, 3, bias=False), (64, 48, 3, 3), 32, "conv_transpose"
    ),
}


def run(kind: str, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What PyTorch's own layer computes with a weight."""
    functions = {
        "Linear": F.linear,
        "Conv1d": F.conv1d,
        "Conv2d": F.conv2d,
        "ConvTranspose2d": F.conv_transpose2d,
        "Embedding": lambda ids, table: F.embedding(ids, table),
    }
    return functions[kind](x, weight)


def sample_input(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    shapes = {"Linear": (3, 192), "Conv1d": (2, 64, 9), "Conv2d": (2, 96, 5, 5), "ConvTranspose2d": (2, 64, 4, 4)}
    if kind == "Embedding":
        return torch.randint(160, (3, 7), generator=generator)
    return torch.randn(shapes[kind], generator=generator)


# ---------------------------------------------------------------- ways of storing


@dataclass(frozen=True)
class Variant:
    """What is done besides the codes, in mixdown's flags and in sdnq's arguments."""

    rank: int = 0
    rotated: bool = False
    levels: bool = False

    @property
    def flags(self) -> list[str]:
        flags = ["--dtype", "uint4", "--codebook"] if self.levels else ["--dtype", "int8"]
        flags += ["--svd-rank", str(self.rank)] if self.rank else []
        return flags + (["--hadamard"] if self.rotated else [])

    @property
    def arguments(self) -> dict[str, object]:
        arguments: dict[str, object] = {"use_codebook": self.levels, "use_hadamard": self.rotated}
        return arguments | ({"use_svd": True, "svd_rank": self.rank} if self.rank else {})


VARIANTS = {
    "plain": Variant(),
    "rank 8": Variant(rank=8),
    "rotated": Variant(rotated=True),
    "rotated, rank 8": Variant(rotated=True, rank=8),
    "levels": Variant(levels=True),
    "levels, rank 8": Variant(levels=True, rank=8),
    "levels, rotated": Variant(levels=True, rotated=True),
    "levels, rotated, rank 8": Variant(levels=True, rotated=True, rank=8),
}


# ---------------------------------------------------------------- cases


@dataclass(frozen=True)
class Case:
    """A layer: `name` is its module's, `group_size` what is asked for."""

    name: str
    dtype: str
    group_size: int


def cases(kind: str, variant: Variant) -> list[Case]:
    """Every dtype with every group size: automatic, a row, the whole tensor, a number."""
    sizes = {"auto": 0, "row": -1, "tensor": -2, "groups": KINDS[kind].groups}
    dtypes = [f"uint{bits}" for bits in range(1, 9)] if variant.levels else DTYPES
    return [
        Case(f"{dtype}.{word}.{KINDS[kind].module}", dtype, size) for dtype in dtypes for word, size in sizes.items()
    ]


def share(all_cases: list[Case], part: int) -> list[Case]:
    """One in eight: over eight parts every case, and within each of them every group size as often."""
    return [case for i, case in enumerate(all_cases) if (i + i // 8) % 8 == part % 8]


def tensor_types(some: list[Case]) -> Iterator[str]:
    for case in some:
        yield "--tensor-type"
        yield rf"^{case.name}\.={case.dtype},group_size={case.group_size}".replace(".", r"\.", 2)


class Layers(torch.nn.Module):
    """A model of such layers, made from its config as sdnq's loader does."""

    def __init__(self, kind: str, names: list[str], **_: object) -> None:
        super().__init__()
        for name in names:
            *path, last = name.split(".")
            place: torch.nn.Module = self
            for step in path:
                if not hasattr(place, step):
                    place.add_module(step, torch.nn.Module())
                place = getattr(place, step)
            place.add_module(last, KINDS[kind].make())


def weights(kind: str, some: list[Case]) -> Tensors:
    """Bell-shaped weights off zero, of rows (and transposed columns) of different widths."""
    shape = KINDS[kind].shape
    tensors = {}
    for i, case in enumerate(some):
        generator = torch.Generator().manual_seed(i)
        width = torch.exp(0.5 * torch.randn(shape[:2], generator=generator)).view(*shape[:2], *[1] * (len(shape) - 2))
        tensors[case.name + ".weight"] = (torch.randn(shape, generator=generator) * width + 0.1) * 0.03
    return tensors


def save(folder: Path, kind: str, tensors: Tensors) -> None:
    folder.mkdir(parents=True)
    names = [name.removesuffix(".weight") for name in tensors]
    (folder / "config.json").write_text(json.dumps({"architectures": ["Layers"], "kind": kind, "names": names}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path, *, quickly: bool = False) -> torch.nn.Module:
    """By SDNQ's own loader: a missing, unexpected or misshapen tensor is an error.

    It derives the shapes that it expects by quantizing a model without memory, which torch does slowly: `quickly` gives
    that model memory.
    """
    memory = unittest.mock.patch("accelerate.init_empty_weights", contextlib.nullcontext)
    with memory if quickly else contextlib.nullcontext():
        return sdnq.load_sdnq_model(str(folder), model_cls=Layers, dtype=torch.float32).eval()


# ---------------------------------------------------------------- what sdnq does itself


def asked_of_sdnq(kind: str, variant: Variant, case: Case) -> int:
    """The group size that makes sdnq do what mixdown does."""
    size = case.group_size
    if size == 0 and dtype_dict[case.dtype]["num_bits"] == 8:
        size = -1  # sdnq makes groups of 1024, which its fast matrix product has to quantize again
    if kind == "ConvTranspose2d" and size != -2:
        return -1  # sdnq cuts the output's dimension by the input's groups
    if kind == "Embedding":
        if size == -2 or variant.rank:
            return -1  # sdnq looks scales up by row
        if variant.rotated and (size <= 0 or size % 128):
            return -1
    return size


def own(kind: str, variant: Variant, case: Case, weight: torch.Tensor) -> tuple[sdnq.dequantizer.SDNQDequantizer, dict]:
    """The layer as sdnq quantizes it."""
    return sdnq_quantize_layer_weight(
        weight,
        layer_class_name=kind,
        weights_dtype=case.dtype,
        group_size=asked_of_sdnq(kind, variant, case),
        **variant.arguments,
    )


def has_wrong_maximum(dtype: str) -> bool:
    """sdnq's table says 2^n of these, which does not fit n bits: its largest codes wrap to 0. Its decoder is right."""
    entry = dtype_dict[dtype]
    return entry["is_integer"] and entry["is_unsigned"] and 9 <= entry["num_bits"] <= 15


def largest_code(dtype: str) -> float:
    """What the range of a block is divided by for its scale."""
    return dtype_dict[dtype]["max"] - has_wrong_maximum(dtype)


def values(dtype: str) -> torch.Tensor:
    """The values of all codes of a dtype as sdnq decodes them, sorted."""
    entry = dtype_dict[dtype]
    bits = entry["num_bits"]
    if entry["is_integer"]:
        return torch.arange(entry["min"], largest_code(dtype) + 1, dtype=torch.float64)
    if not entry["is_packed"]:
        every = torch.arange(256, dtype=torch.uint8).view(entry["torch_dtype"]).double()
        return every[every.isfinite()].sort().values
    codes = torch.arange(max(2**bits, 16), dtype=torch.int32) % 2**bits
    stored = codes.to(entry["storage_dtype"]) if bits in (8, 16) else pack_int(codes, f"uint{bits}")
    return unpack_float(stored, dtype, codes.shape).double().sort().values


def codes(layer: torch.nn.Module) -> torch.Tensor:
    """The values of a layer's codes before scale and zero point, in the shape that scales are spread over."""
    dequantizer = layer.sdnq_dequantizer
    shape = dequantizer.quantized_weight_shape
    return unpack_weights(layer.weight, dequantizer.weights_dtype, shape, dtype=torch.float32).double()


def spread(layer: torch.nn.Module) -> torch.Tensor:
    """The rotation of a layer's rows, or no rotation, in f64."""
    if not layer.sdnq_dequantizer.use_hadamard:
        return torch.eye(1, dtype=torch.float64)
    size = layer.sdnq_dequantizer.hadamard_group_size
    return get_hadamard(size).double().sign() / math.sqrt(size)


def rotate(matrix: torch.Tensor, off: torch.Tensor, rotation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotated rows; `off` is the most that they are off in f32, before and after."""
    size = len(rotation)
    if size == 1:
        return matrix, off
    blocks, offs = matrix.unflatten(1, (-1, size)), off.unflatten(1, (-1, size))
    offs = (offs + (size + 1) * UNIT * blocks.abs()) @ rotation.abs()
    return (blocks @ rotation).flatten(1), offs.flatten(1)


def low_rank(layer: torch.nn.Module, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's low-rank part, and the most that its sum with `matrix` is off in f32."""
    if layer.svd_up is None:
        return torch.zeros_like(matrix), torch.zeros_like(matrix)
    up, down = layer.svd_up.double(), layer.svd_down.double()
    return up @ down, (up.shape[1] + 1) * UNIT * (matrix.abs() + up.abs() @ down.abs())


def residual(layer: torch.nn.Module, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer's codes stand for, rotated and without its low-rank part, computed in f64 from the stored factors.

    With it the most that the same is off in f32, whatever the order of summation: a sum of n products is off by at most
    n units of the sum of their magnitudes.
    """
    matrix = weight.double().flatten(1)
    matrix, off = rotate(matrix, torch.zeros_like(matrix), spread(layer))
    branch, more = low_rank(layer, matrix)
    shape = layer.sdnq_dequantizer.quantized_weight_shape
    return (matrix - branch).view(shape), (off + more).view(shape)


def exact(layer: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight that a layer's stored parts mean, in f64, and the most that it is off in f32."""
    value, scale = codes(layer), layer.scale.double()
    off = torch.zeros_like(value)
    if layer.sdnq_dequantizer.use_codebook:
        value = levels_of(layer, value)
    elif layer.zero_point is None:
        value = value * scale
        off = UNIT * value.abs()
    else:
        product = value * scale
        value = layer.zero_point.double() + product
        off = UNIT * (product.abs() + value.abs())
    shape = layer.sdnq_dequantizer.original_shape
    matrix, off = value.reshape(shape).flatten(1), off.reshape(shape).flatten(1)
    branch, more = low_rank(layer, matrix)
    matrix, off = rotate(matrix + branch, off + more, spread(layer))
    return matrix.view(shape), off.view(shape)


def levels_of(layer: torch.nn.Module, indexes: torch.Tensor) -> torch.Tensor:
    """The levels that a codebook's indexes stand for."""
    axis = levels_axis(layer.sdnq_dequantizer)
    levels = layer.scale.double()
    return levels[indexes.long()] if axis is None else levels.gather(axis, indexes.long())


def levels_axis(dequantizer: sdnq.dequantizer.SDNQDequantizer) -> int | None:
    """The dimension of the grouped weight that is summed up by a block's scale or levels; `None`: all of them."""
    kind, size = dequantizer.layer_class_name, dequantizer.group_size
    if size == -2:
        return None
    axis = 0 if kind == "ConvTranspose2d" else 1
    return axis + 1 if size > 0 else axis
