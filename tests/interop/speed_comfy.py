"""How fast mixdown writes ComfyUI's files, beside `ctq --simple` (convert_to_quant) on the CPU.

    pip install numpy torch safetensors scipy && pip install --no-deps convert-to-quant comfy-kitchen
    cargo build --release && python tests/interop/speed_comfy.py [--layers 14] [--markdown]

Both convert the same file of 3072×12288 matrices in bfloat16 (14 of them are 1 GiB), with the same number of threads,
in turn; time is that of the whole run less that of a run over one small matrix, which is Python's start for the one and
nothing for the other. mixdown has `--memory 256MiB`; the peak of resident memory is the system's.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from speed import BINARY, measured

FORMATS = {
    "fp8": ([], ["--dtype", "float8_e4m3fn"]),
    "int8 by row": (["--int8", "--scaling_mode", "row"], ["--dtype", "int8"]),
    "nvfp4": (["--nvfp4"], ["--dtype", "nvfp4"]),
    "mxfp8": (["--mxfp8"], ["--dtype", "mxfp8"]),
}


def model(path: Path, layers: int, shape: tuple[int, int]) -> Path:
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(shape, generator=generator) * 0.02).bfloat16()
    # Signs differ from layer to layer: no cache has seen them, and no generator must make them.
    save_file({f"blocks.{i}.fc.weight": weight.roll(i, 0).clone() for i in range(layers)}, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=14)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    ctq = Path(sys.executable).parent / "ctq"
    with tempfile.TemporaryDirectory() as folder:
        files = [model(Path(folder) / "large.safetensors", args.layers, (3072, 12288))]
        files.append(model(Path(folder) / "small.safetensors", 1, (64, 64)))
        out = Path(folder) / "out.safetensors"
        gib = files[0].stat().st_size / 2**30
        if args.markdown:
            print(f"| {gib:.2f} GiB | ctq --simple | mixdown | | peak: ctq | mixdown |\n|---|---:|---:|---:|---:|---:|")
        for name in args.formats:
            theirs, ours = FORMATS[name]
            both = []
            for writer in (
                lambda f: [ctq, "-i", f, "-o", out, "--simple", "--comfy_quant", "--optimizer", "original", *theirs],
                lambda f: [BINARY, "convert", f, "--to", "comfy", *ours, "-o", out, "--force", "--memory", "256MiB"],
            ):
                times = []
                for file in files:
                    times.append(measured(writer(file))[:2])
                    out.unlink(missing_ok=True)
                both.append((times[0][0] - times[1][0], times[0][1]))
            (a, peak_a), (b, peak_b) = both
            cells = [name, f"{a:.1f} s", f"{b:.2f} s", f"{a / b:.0f}×", f"{peak_a:.0f} MiB", f"{peak_b:.0f} MiB"]
            print("| " + " | ".join(cells) + " |" if args.markdown else "  ".join(cells))


if __name__ == "__main__":
    main()
