"""Writes tests/data/comfy/golden.safetensors: small weights, and what comfy-kitchen makes of them.

    python tests/interop/make_comfy_golden.py

For each weight `WEIGHT/w`, and for each way to quantize it `WEIGHT/CASE/l.…` (the arrays of a layer `l`, as ComfyUI saves
them) and `WEIGHT/CASE/back` (what comfy-kitchen dequantizes them to, in F32).
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
import kitchen  # noqa: E402

OUT = Path(__file__).parent.parent / "data" / "comfy" / "golden.safetensors"


def weights():
    """Matrices with what is awkward: zeros, blocks of zeros, outliers, tiny and large values, negative zeros."""
    generator = torch.Generator().manual_seed(7)

    def normal(rows, cols, scale):
        return torch.randn(rows, cols, generator=generator) * scale

    even = normal(32, 128, 0.02)
    even[3] = 0
    even[5, :48] = 0
    even[7, 9] = 1.5
    even[9] *= 1e-4
    even[11, ::3] = -0.0
    odd = normal(40, 72, 3.0)
    odd[0, 0] = -31.0
    powers = torch.exp2(torch.randint(-40, 40, (36, 64), generator=generator).float())
    # Scales just above and below powers of two, where a rounded logarithm decides.
    powers[:, ::32] = 448 * torch.exp2(torch.arange(-36, 36).float().reshape(36, 2)) * (
        1 + torch.arange(72).reshape(36, 2) % 9 * 2.0**-23
    )
    powers[:, 1::32] = 0
    return {"even": even, "odd": odd, "powers": powers}


def main():
    out = {}
    for name, weight in weights().items():
        out[f"{name}/w"] = weight
        for case in kitchen.CASES:
            if not kitchen.fits(case, weight.shape):
                continue
            arrays = kitchen.quantize(case, "l", weight)
            back = kitchen.dequantize(arrays, "l", weight.shape)
            key = f"{name}/{case}"
            out |= {f"{key}/{part}": array.contiguous() for part, array in arrays.items()}
            out[f"{key}/back"] = back.contiguous()
    OUT.parent.mkdir(exist_ok=True)
    save_file({key: out[key].clone() for key in sorted(out)}, OUT)
    print(f"{OUT}: {OUT.stat().st_size} bytes, {sum(k.endswith('/back') for k in out)} cases")


if __name__ == "__main__":
    main()
