"""`--dynamic`: for each layer the first dtype, in sdnq's order, that loses little enough."""

import json
from pathlib import Path

import pytest
import sdnq
import torch
from safetensors.torch import save_file
from sdnq.common import dtype_dict, weights_dtype_order

from support import mixdown_json, quantized_rows

CODEBOOKS = [f"uint{bits}" for bits in range(1, 9)]


def matrices() -> dict[str, torch.Tensor]:
    """Weights that need more and more bits, and one that no integer of a few bits is good enough for."""
    generator = torch.Generator().manual_seed(9)
    normal = torch.randn(96, 192, generator=generator)
    factors = torch.randn(96, 4, generator=generator) @ torch.randn(4, 192, generator=generator)
    return {
        "two_values": normal.sign(),
        "ternary": normal.sign() * (normal.abs() > 0.7),
        "uniform": torch.rand(96, 192, generator=generator),
        "normal": normal,
        "skewed": normal.exp(),
        "wide": normal**3,
        "wider": normal**5,
        "four_directions": factors + 0.05 * normal,
        "small": normal * 1e-5,
    }


class Matrices(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, weight in matrices().items():
            layer = torch.nn.Linear(192, 96, bias=False)
            layer.weight = torch.nn.Parameter(weight * 0.02, requires_grad=False)
            self.add_module(name, layer)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dynamic") / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["Matrices"]}))
    save_file(Matrices().state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# flags, sdnq's arguments
SETTINGS = {
    "from uint2": (["--dtype", "uint2", "--dynamic"], {"weights_dtype": "uint2"}),
    "from uint4": (["--dtype", "uint4", "--dynamic"], {"weights_dtype": "uint4"}),
    "from int5, strict": (
        ["--dtype", "int5", "--dynamic=1e-4"],
        {"weights_dtype": "int5", "dynamic_loss_threshold": 1e-4},
    ),
    "from int2, by row": (
        ["--dtype", "int2", "--group-size", "-1", "--dynamic=0.01"],
        {"weights_dtype": "int2", "group_size": -1, "dynamic_loss_threshold": 0.01},
    ),
    "rotated": (
        ["--dtype", "uint3", "--hadamard", "--dynamic"],
        {"weights_dtype": "uint3", "use_hadamard": True},
    ),
    "levels": (["--dtype", "uint1", "--codebook", "--dynamic"], {"weights_dtype": "uint1", "use_codebook": True}),
    "levels by row, strict": (
        ["--dtype", "uint2", "--codebook", "--group-size", "-1", "--dynamic=3e-4"],
        {"weights_dtype": "uint2", "use_codebook": True, "group_size": -1, "dynamic_loss_threshold": 3e-4},
    ),
}


@pytest.fixture(params=SETTINGS)
def settings(request) -> tuple[list[str], dict]:
    flags, arguments = SETTINGS[request.param]
    return ["--to", "sdnq", *flags], arguments


def threshold(arguments: dict) -> float:
    bits = dtype_dict[arguments["weights_dtype"]]["num_bits"]
    return arguments.get("dynamic_loss_threshold", 10 ** (-bits / 2))


def chosen(model: Path, flags: list[str]) -> dict[str, str | None]:
    """The dtype of each layer; `None` where it is kept."""
    rows = quantized_rows(mixdown_json("plan", model, *flags))
    return {name: rows[name]["to"] if name in rows else None for name in matrices()}


def own_choice(arguments: dict) -> dict[str, str | None]:
    quantized = sdnq.sdnq_post_load_quant(
        Matrices(), torch_dtype=torch.float32, use_dynamic_quantization=True, add_skip_keys=False, **arguments
    )
    layers = dict(quantized.named_children())
    return {
        name: layer.sdnq_dequantizer.weights_dtype if hasattr(layer, "sdnq_dequantizer") else None
        for name, layer in layers.items()
    }


def own_loss(weight: torch.Tensor, dtype: str, arguments: dict) -> float:
    """What sdnq loses with a dtype, as its own search measures it."""
    others = {key: value for key, value in arguments.items() if key not in ("weights_dtype", "dynamic_loss_threshold")}
    dequantizer, parts = sdnq.quantizer.sdnq_quantize_layer_weight(
        weight, layer_class_name="Linear", weights_dtype=dtype, **others
    )
    error = torch.nn.functional.mse_loss(weight, dequantizer(**parts, skip_compile=True))
    return (error / weight.std().square().clamp(min=1e-8)).item()


def place(dtype: str | None) -> int:
    return len(weights_dtype_order) if dtype is None else weights_dtype_order.index(dtype)


def test_the_choice_is_the_librarys_own_or_a_smaller_one_that_the_library_encodes_worse(model, settings, note):
    flags, arguments = settings
    ours, theirs = chosen(model, flags), own_choice(arguments)
    weights = {name: layer.weight for name, layer in Matrices().named_children()}
    for name, dtype in ours.items():
        if dtype == theirs[name]:
            continue
        assert place(dtype) < place(theirs[name]), (name, dtype, theirs[name])
        assert not dtype_dict[dtype]["is_integer"], (name, dtype, theirs[name])
        assert own_loss(weights[name], dtype, arguments) > threshold(arguments), (name, dtype)
    note("dynamic: layers for which the library chooses the same, in a hundred", 100 * sum(
        dtype == theirs[name] for name, dtype in ours.items()
    ) / len(ours))  # fmt: skip


def test_the_choice_loses_little_enough_and_the_dtype_before_it_too_much(model, settings):
    flags, arguments = settings
    plain = [flag for flag in flags if not flag.startswith("--dynamic")]
    at = plain.index("--dtype") + 1
    order = [
        dtype for dtype in weights_dtype_order[place(arguments["weights_dtype"]) :]
        if dtype != "float16" and ("--codebook" not in plain or dtype in CODEBOOKS)
    ]  # fmt: skip

    def loss(name: str, dtype: str) -> float:
        trial = mixdown_json("trial", model, *plain[:at], dtype, *plain[at + 1 :], "--tensor", f"^{name}\\.")
        weight = getattr(Matrices(), name).weight.double()
        return quantized_rows(trial)[name]["mse"] / max(weight.var().item(), 1e-8)

    for name, dtype in chosen(model, flags).items():
        if dtype is not None:
            assert loss(name, dtype) <= threshold(arguments), (name, dtype)
        before = order.index(dtype) - 1 if dtype else len(order) - 1
        if before >= 0:
            assert loss(name, order[before]) > threshold(arguments), (name, order[before])
