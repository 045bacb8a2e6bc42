"""Models that others quantized: what mixdown reads of them is what the library computes with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sdnq
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file
from sdnq import SDNQConfig, sdnq_post_load_quant
from transformers import AutoModel, BertModel

from support import mixdown, mixdown_json, read, refused, sdnq_layers

FLOAT = ["--to", "float", "--dtype", "f32"]


class Zoo(torch.nn.Module):
    """A layer of every kind that sdnq quantizes, with and without a bias, and a norm that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(192, 256)
        self.narrow = torch.nn.Linear(240, 64, bias=False)
        self.square = torch.nn.Linear(128, 128)
        self.tall = torch.nn.Linear(64, 5000)
        self.wide = torch.nn.Linear(5000, 64)
        self.table = torch.nn.Embedding(96, 256)
        self.conv1 = torch.nn.Conv1d(64, 96, 3)
        self.conv2 = torch.nn.Conv2d(64, 96, 3)
        self.conv3 = torch.nn.Conv3d(32, 48, 3, bias=False)
        self.point = torch.nn.Conv2d(64, 96, 1)
        self.up1 = torch.nn.ConvTranspose1d(64, 64, 4)
        self.up2 = torch.nn.ConvTranspose2d(64, 48, 3)
        self.norm = torch.nn.LayerNorm(64)


KINDS = {"quant_conv": True, "quant_embedding": True}
# What a layer is quantized with, by every setting that changes how it lies in a file.
CASES: dict[str, dict] = {
    "int8": {},
    "int8, rows": {"group_size": -1},
    "int8, groups": {"group_size": 32},
    "int8, one scale": {"group_size": -2},
    "int8, products of codes": {"use_quantized_matmul": True},
    "int8, products of codes, one scale": {"use_quantized_matmul": True, "group_size": -2},
    "int8, products of codes, groups": {"use_quantized_matmul": True, "group_size": 64},
    "int8, products of codes, low rank": {"use_quantized_matmul": True, "use_svd": True, "svd_rank": 8},
    "uint8, products of codes": {"weights_dtype": "uint8", "use_quantized_matmul": True},
    "fp8, products of codes": {"weights_dtype": "float8_e4m3fn", "use_quantized_matmul": True},
    "uint4": {"weights_dtype": "uint4"},
    "uint4, groups of 64": {"weights_dtype": "uint4", "group_size": 64},
    "uint4, low rank": {"weights_dtype": "uint4", "use_svd": True, "svd_rank": 16},
    "uint4, low rank, products of codes": {
        "weights_dtype": "uint4",
        "use_svd": True,
        "svd_rank": 16,
        "use_quantized_matmul": True,
    },
    "uint4, rotated": {"weights_dtype": "uint4", "use_hadamard": True},
    "int5, rotated in 32s, low rank": {
        "weights_dtype": "int5",
        "use_hadamard": True,
        "hadamard_group_size": 32,
        "use_svd": True,
    },
    "uint4, levels": {"weights_dtype": "uint4", "use_codebook": True, "codebook_steps": 2},
    "uint2, levels for rows": {"weights_dtype": "uint2", "use_codebook": True, "group_size": -1, "codebook_steps": 2},
    "uint8, levels": {"weights_dtype": "uint8", "use_codebook": True, "codebook_steps": 2},
    "uint1": {"weights_dtype": "uint1"},
    "float1_e1m0fnu": {"weights_dtype": "float1_e1m0fnu"},
    "int2": {"weights_dtype": "int2"},
    "int3": {"weights_dtype": "int3"},
    "uint7": {"weights_dtype": "uint7"},
    "int12": {"weights_dtype": "int12"},
    "uint16": {"weights_dtype": "uint16"},
    "float8_e4m3fn": {"weights_dtype": "float8_e4m3fn"},
    "float8_e5m2": {"weights_dtype": "float8_e5m2", "group_size": 32},
    "float8_e3m4fn": {"weights_dtype": "float8_e3m4fn", "group_size": 32},
    "float6_e3m2fn": {"weights_dtype": "float6_e3m2fn"},
    "float6_e3m3fnu": {"weights_dtype": "float6_e3m3fnu"},
    "float16_e5m10fn": {"weights_dtype": "float16_e5m10fn"},
}
TYPES = {"scale": torch.float32, "zero_point": torch.float32, "svd_up": torch.float64, "svd_down": torch.float64}
# An embedding with groups cannot be rotated or have a low-rank branch: the library itself fails at it.
NO_TABLE = [name for name, case in CASES.items() if case.keys() & {"use_svd", "use_hadamard"}]


@torch.no_grad()
def computed(layer: torch.nn.Module) -> torch.Tensor:
    """The layer's weight as the library computes it: scaled in F32, summed and rotated in F64."""
    parts = {
        key: value.to(dtype) if (value := getattr(layer, key, None)) is not None else None
        for key, dtype in TYPES.items()
    }
    dequantizer = layer.sdnq_dequantizer
    return dequantizer(
        layer.weight,
        **parts,
        skip_quantized_matmul=dequantizer.use_quantized_matmul,
        skip_compile=True,
        dtype=torch.float64,
    )


def save_zoo(folder: Path, dtype: torch.dtype = torch.float32, **settings: object) -> torch.nn.Module:
    """A zoo, quantized by sdnq and saved as its loader wants it: weights, and the config beside them."""
    torch.manual_seed(3)
    config = SDNQConfig(minimum_allowed_numel=1024, **settings)
    zoo = sdnq_post_load_quant(Zoo().to(dtype), torch_dtype=dtype, quantization_config=config)
    folder.mkdir()
    save_file({name: t.contiguous() for name, t in zoo.state_dict().items()}, folder / "model.safetensors")
    zoo.quantization_config.to_json_file(folder / "quantization_config.json")
    return zoo


def check_reading(folder: Path, model: torch.nn.Module, out: Path, note) -> None:
    """Every weight that mixdown restores is the one that the library computes; everything else is untouched."""
    mixdown("convert", folder, *FLOAT, "-o", out)
    restored, layers, original = read(out), sdnq_layers(model), model.state_dict()
    assert layers
    for name, layer in layers.items():
        want, got = computed(layer), restored.pop(name + ".weight")
        assert got.dtype == torch.float32 and got.shape == want.shape, name
        of_row = want.abs().flatten(1).amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        difference = ((want - got).abs().flatten(1).amax(dim=1) / of_row).max().item()
        note("read: largest difference of a weight, of its row's maximum", difference)
        assert difference <= 1e-6, name
    for name, tensor in restored.items():
        assert torch.equal(tensor, original[name].float()), name
    parts = {f"{name}.{part}" for name in layers for part in sdnq.common.sdnq_keys}
    assert restored.keys() == original.keys() - parts


@pytest.mark.parametrize("case", CASES)
def test_what_sdnq_wrote_is_read_as_it_computes(case, tmp_path, note):
    settings = KINDS | CASES[case]
    if case in NO_TABLE:
        settings["quant_embedding"] = False
    if settings.get("group_size", 0) >= 0:
        # The library unfolds groups of a transposed convolution along the wrong dimension.
        settings["modules_quant_config"] = {name: {"group_size": -1} for name in ("up1", "up2")}
    model = save_zoo(tmp_path / "zoo", **settings)
    check_reading(tmp_path / "zoo", model, tmp_path / "out.safetensors", note)
