"""What converting to Nunchaku costs, and what its low-rank search finds, against a full SVD.

    python tests/interop/speed_nunchaku.py [--layer] [--blocks] [--dtype int4]

--layer: one layer of FLUX's size (9216×3072, spectrum i^-0.5), converted, against numpy's full SVD of the same matrix:
time, and the norm of what the branch leaves. --blocks: one double and one single block of FLUX.1 in full size; the whole
model has 19 and 38 of them. Run it with nothing else running.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import nunchaku_rules as rules

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("MIXDOWN_BIN", ROOT / "target" / "release" / "mixdown")).resolve()
D = 3072


def convert(source: Path, out: Path, *flags: str) -> float:
    """Seconds."""
    command = [BINARY, "convert", source, "--to", "nunchaku", *flags, "-o", out, "--force", "--quiet"]
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True)
    return time.perf_counter() - start


def folder(at: Path, tensors: dict[str, torch.Tensor], config: dict) -> Path:
    at.mkdir(parents=True)
    (at / "config.json").write_text(json.dumps(config))
    save_file(tensors, at / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    return at


def layer(work: Path, dtype: str) -> None:
    n, k, rank = 9216, D, 32
    generator = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(n, k, generator=generator))[0]
    v = torch.linalg.qr(torch.randn(k, k, generator=generator))[0]
    weight = ((u * torch.arange(1, k + 1) ** -0.5) @ v.T).to(torch.bfloat16)
    source = folder(work / "layer", {"blocks.0.qkv.weight": weight}, {"_class_name": "Made"})
    out = work / "layer-out"
    seconds = min(convert(source, out, "--lite", "--dtype", dtype) for _ in range(3))
    matrix = weight.to(torch.float32).numpy()
    start = time.perf_counter()
    _, s, _ = np.linalg.svd(matrix, full_matrices=False)
    full = time.perf_counter() - start
    best = float(np.sqrt((s[rank:].astype(np.float64) ** 2).sum()))
    found = next(iter(rules.layers(out).values()))
    ours = float(np.linalg.norm(matrix.astype(np.float64) - found.up @ found.down))
    print(f"{n}×{k}, rank {rank}, {dtype}: {seconds:.1f} s whole; full SVD {full:.1f} s, {full / seconds:.1f}×")
    print(f"  residual {ours:.5f}, the best {best:.5f}: {100 * (ours / best - 1):+.2f} %")
    error = np.linalg.norm(found.weight - matrix) / np.linalg.norm(matrix)
    print(f"  relative error of the effective weight {error:.4f}")


def blocks(work: Path, dtype: str) -> None:
    shapes: dict[str, tuple[int, int]] = {}
    double, single = "transformer_blocks.0", "single_transformer_blocks.0"
    for name in ["norm1.linear", "norm1_context.linear"]:
        shapes[f"{double}.{name}"] = (6 * D, D)
    for name in ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"]:
        shapes[f"{double}.attn.{name}"] = (D, D)
    for name in ["ff", "ff_context"]:
        shapes[f"{double}.{name}.net.0.proj"], shapes[f"{double}.{name}.net.2"] = (4 * D, D), (D, 4 * D)
    shapes[f"{single}.norm.linear"] = (3 * D, D)
    for name in ["to_q", "to_k", "to_v"]:
        shapes[f"{single}.attn.{name}"] = (D, D)
    shapes[f"{single}.proj_mlp"], shapes[f"{single}.proj_out"] = (4 * D, D), (D, 5 * D)
    rest = {
        "x_embedder": (D, 64),
        "context_embedder": (D, 4096),
        "norm_out.linear": (2 * D, D),
        "proj_out": (64, D),
        "time_text_embed.text_embedder.linear_1": (D, 768),
    }
    generator = torch.Generator().manual_seed(0)
    config = {"_class_name": "FluxTransformer2DModel", "num_layers": 1, "num_single_layers": 1}
    times = {}
    for which in [double, single]:
        tensors = {}
        for name, (n, k) in (shapes | rest).items():
            if name.startswith(which) or name in rest:
                tensors[f"{name}.weight"] = (torch.randn(n, k, generator=generator) * 0.02).to(torch.bfloat16)
                tensors[f"{name}.bias"] = torch.zeros(n, dtype=torch.bfloat16)
        source = folder(work / which.split(".")[0], tensors, config)
        times[which] = convert(source, work / f"{which.split('.')[0]}.safetensors", "--dtype", dtype)
        print(f"{which.split('.')[0]}: {times[which]:.1f} s")
    total = 19 * times[double] + 38 * times[single]
    print(f"FLUX.1, 19 and 38 such blocks, {dtype}: {total / 60:.0f} min")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layer", action="store_true")
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--dtype", default="int4")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("SPEED_DIR")) as work:
        if args.layer or not args.blocks:
            layer(Path(work), args.dtype)
        if args.blocks or not args.layer:
            blocks(Path(work), args.dtype)


if __name__ == "__main__":
    main()
