"""Writes tests/data/nunchaku/golden.safetensors: small arrays, and how deepcompressor's packer lays them out.

    python tests/interop/make_nunchaku_golden.py DEEPCOMPRESSOR

DEEPCOMPRESSOR is a checkout of github.com/mit-han-lab/deepcompressor (Apache-2.0); the file was made with its revision
69f3473. Only its two modules on packing are loaded, so nothing of it has to be installed but torch.

Arrays come in pairs, `KIND/SHAPE/natural` and `KIND/SHAPE/packed`. Every array of 16 bits is stored as I16, all else as U8;
natural codes are two to a byte, the first in the low nibble.
"""

import importlib.util
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "data" / "nunchaku" / "golden.safetensors"


def load(root: Path) -> tuple[types.ModuleType, types.ModuleType]:
    """Its modules `backend.nunchaku.utils` and `backend.tinychat.utils`, without what its packages import besides."""
    backend = root / "deepcompressor" / "backend"
    for package in ("dc", "dc.nunchaku", "dc.tinychat"):
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = []

    def module(name: str, file: Path) -> types.ModuleType:
        spec = importlib.util.spec_from_file_location(name, file)
        made = importlib.util.module_from_spec(spec)
        sys.modules[name] = made
        spec.loader.exec_module(made)
        return made

    module("dc.utils", backend / "utils.py")
    tinychat = module("dc.tinychat.utils", backend / "tinychat" / "utils.py")
    return module("dc.nunchaku.utils", backend / "nunchaku" / "utils.py"), tinychat


def main() -> None:
    nunchaku, tinychat = load(Path(sys.argv[1]))
    packer = nunchaku.NunchakuWeightPacker(bits=4)
    generator = torch.Generator().manual_seed(7)
    out: dict[str, torch.Tensor] = {}

    def pair(key: str, natural: torch.Tensor, packed: torch.Tensor, stored: torch.dtype) -> None:
        out[f"{key}/natural"] = natural.contiguous().view(stored).reshape(natural.shape).clone()
        out[f"{key}/packed"] = packed.contiguous().flatten().view(stored).clone()

    def floats(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(torch.bfloat16)

    def nibbles(codes: torch.Tensor) -> torch.Tensor:
        return (codes[:, ::2] | (codes[:, 1::2] << 4)).to(torch.uint8)

    for rows, cols in ((256, 128), (128, 256)):
        codes = torch.randint(0, 16, (rows, cols), generator=generator, dtype=torch.int32)
        pair(f"codes/{rows}x{cols}", nibbles(codes), packer.pack_weight(codes.clone()), torch.uint8)
    for rows, groups in ((128, 1), (384, 1), (256, 2), (128, 6)):
        values = floats(rows, groups)
        scale = values.reshape(rows, 1, groups, 1)
        packed = packer.pack_scale(scale, group_size=64 if groups > 1 else -1)
        pair(f"vectors/{rows}x{groups}", values, packed, torch.int16)
    for rows, groups in ((128, 8), (256, 16)):
        values = torch.randint(1, 0x7F, (rows, groups), generator=generator, dtype=torch.uint8)
        scale = values.view(torch.float8_e4m3fn).to(torch.bfloat16).reshape(rows, 1, groups, 1)
        pair(f"micro/{rows}x{groups}", values, packer.pack_scale(scale, group_size=16), torch.uint8)
    for channels, rank in ((32, 16), (32, 48), (48, 32)):
        up, down = floats(channels, rank), floats(rank, channels)
        pair(f"up/{channels}x{rank}", up, packer.pack_lowrank_weight(up, down=False), torch.int16)
        pair(f"down/{channels}x{rank}", down, packer.pack_lowrank_weight(down, down=True), torch.int16)
    for rows, cols in ((8, 64), (12, 192)):
        codes = torch.randint(0, 16, (rows, cols), generator=generator, dtype=torch.int32)
        pair(f"awq/{rows}x{cols}", nibbles(codes), tinychat.pack_w4(codes).view(torch.uint8), torch.uint8)
    # The whole of an adaptive norm's layer: codes that are exact, so that only the order of rows and the biases matter.
    for fields, rows in ((3, 24), (6, 48)):
        codes = torch.randint(-7, 8, (rows, 64), generator=generator).to(torch.bfloat16)
        bias = torch.randint(-8, 8, (rows,), generator=generator).to(torch.bfloat16)
        scale = torch.exp2(torch.randint(-3, 4, (rows, 1, 1, 1), generator=generator).float()).to(torch.bfloat16)
        weight = codes * scale.reshape(rows, 1)
        packed = nunchaku.convert_to_nunchaku_w4x16_linear_weight(
            weight, scale, bias=bias.clone(), adanorm_splits=fields
        )
        pair(f"norm/{fields}/codes/{rows}x64", nibbles((codes + 7).to(torch.int32)), packed[0].view(torch.uint8), torch.uint8)
        pair(f"norm/{fields}/scales", scale.reshape(rows), packed[1][0], torch.int16)
        pair(f"norm/{fields}/bias", bias, packed[3], torch.int16)
    OUT.parent.mkdir(exist_ok=True)
    save_file({key: out[key] for key in sorted(out)}, OUT)
    print(f"{OUT}: {OUT.stat().st_size} bytes, {len(out) // 2} cases")


main()
