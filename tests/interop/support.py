"""What the interop tests share: the binary, and the ways the consumers read what it wrote."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import sdnq
import torch
from safetensors import safe_open
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("MIXDOWN_BIN", ROOT / "target" / "release" / "mixdown")).resolve()

Tensors = dict[str, torch.Tensor]


# ---------------------------------------------------------------- the binary


def mixdown(*args: object) -> str:
    """Runs the binary, which must succeed, and returns what it printed."""
    run = subprocess.run([BINARY, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert run.returncode == 0, f"mixdown {' '.join(map(str, args))}: exit {run.returncode}\n{run.stderr}{run.stdout}"
    return run.stdout


def refused(*args: object, code: int = 1) -> str:
    """Runs the binary, which must fail, and returns its one line of error."""
    run = subprocess.run([BINARY, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert run.returncode == code, f"mixdown {' '.join(map(str, args))}: exit {run.returncode}\n{run.stderr}"
    return run.stderr


def mixdown_json(*args: object) -> dict:
    return json.loads(mixdown(*args, "--json"))


def quantized_rows(report: dict) -> dict[str, dict]:
    """The rows of a plan, trial or conversion that are quantized, by layer name."""
    return {row["name"].removesuffix(".weight"): row for row in report["tensors"] if not row["excluded"]}


# ---------------------------------------------------------------- files


def weight_files(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]


def read(path: Path) -> Tensors:
    """Every tensor of a file, or of a folder's files."""
    tensors: Tensors = {}
    for file in weight_files(path):
        for name, tensor in load_file(file).items():
            assert name not in tensors, f"{name} is in two files"
            tensors[name] = tensor
    return tensors


def header(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return opened.metadata() or {}


def digest(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in weight_files(path)}


# ---------------------------------------------------------------- SDNQ


def load_strict(folder: Path) -> torch.nn.Module:
    """SDNQ's own loader: a missing, unexpected or misshapen tensor is an error."""
    return sdnq.load_sdnq_model(str(folder), dtype=torch.float32).eval()


def sdnq_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "sdnq_dequantizer")}


@torch.no_grad()
def dequantized(layer: torch.nn.Module) -> torch.Tensor:
    """The layer's weight, as the library computes it."""
    return layer.sdnq_dequantizer(
        layer.weight,
        layer.scale,
        zero_point=layer.zero_point,
        svd_up=layer.svd_up,
        svd_down=layer.svd_down,
        skip_compile=True,
        dtype=torch.float32,
    )


def stored(tensors: Tensors, layer: str) -> Tensors:
    """A layer's tensors by their last name."""
    return {name.removeprefix(layer + "."): t for name, t in tensors.items() if name.startswith(layer + ".")}


def largest_difference(model: torch.nn.Module, decoded: Tensors, *, of_row: bool = False) -> float:
    """The largest difference of the library's weights from `decoded`; with `of_row`, in parts of its row's maximum."""
    largest = 0.0
    for name, layer in sdnq_layers(model).items():
        weight, expected = dequantized(layer), decoded[name + ".weight"]
        assert expected.dtype == torch.float32 and expected.shape == weight.shape, name
        difference = (weight - expected).abs()
        if of_row:
            difference /= expected.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        largest = max(largest, difference.max().item())
    return largest
