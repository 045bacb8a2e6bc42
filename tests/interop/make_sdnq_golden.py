#!/usr/bin/env python3
"""Writes tests/data/sdnq/*.bin with the real library, for the golden tests of src/quant.

    SDNQ_USE_TORCH_COMPILE=0 python tests/interop/make_sdnq_golden.py      (sdnq 0.2.8, torch on a CPU)

matrix.bin   16x96 F32, row-major, little endian.
affine.bin   for every name of NAMES, for every geometry of GEOMETRIES, one after another:
             the stored weight (packed as sdnq packs; int8 as I8; uint1 one byte per eight values),
             scale (F32), zero_point (F32, unsigned only), and, if the name is in DECODED, the dequantized values (F32).
wide.bin     for every name of WIDE, for every geometry of WIDE_GEOMETRIES ("row" alone for the names of MENDED):
             the codes (I16, unsigned U16), scale (F32), zero_point (F32, unsigned only).
             The library takes 2^bits for the largest code of MENDED's names, and that code wraps to 0 when packed;
             here its table is set to 2^bits - 1, and all else is the library's.
packed.bin   512 random U16, then for 9 to 15 bits their upper bits as codes, packed (words, little endian).
floats.bin   for every name of FLOATS, for every geometry: scale (F32), zero_point (F32, unsigned only), and, of the
             types that torch has, the codes (F8_E4M3, F8_E5M2);
             then for every format of custom_floats() and the two types of torch, the values (F32) of codes():
             all of them up to 8 bits, and 64 of a wider format;
             then for every name of DECODED_FLOATS, by row: the library's own codes (a byte each), scale, zero_point
             (unsigned only), and the dequantized values (F32).
hadamard.bin 256 F32, then what rotate_hadamard makes of them in F64 for every group of HADAMARD_GROUPS.
codebook.bin 4096 F32, then for every name and view of CODEBOOKS, of matrix.bin or else of those values: the codes (U8)
             and the levels (F32, in the place of the axis that is reduced) after 24 steps.
"""
import pathlib

import torch
from sdnq.common import dtype_dict
from sdnq.packed_float import pack_float, unpack_float
from sdnq.packed_int import pack_int, unpack_int
from sdnq.quant_utils import quantize_weight, quantize_weight_codebook, rotate_hadamard

NAMES = ["int2", "int3", "int4", "int5", "int6", "int7", "int8",
         "uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8"]
# name, the first row taken, the view of the rows from it on, the axis reduced over
GEOMETRIES = [
    ("row", 0, (16, 96), -1),
    ("groups of 32", 0, (16, 3, 32), -1),
    ("tensor", 10, (6, 96), None),
    ("conv", 0, (16, 32, 3), 1),
    ("conv, groups of 8", 0, (16, 4, 8, 3), 2),
]
DECODED = ["int4", "uint4"]
WIDE = ["int9", "int10", "int11", "int12", "int13", "int14", "int15", "int16",
        "uint9", "uint10", "uint11", "uint12", "uint13", "uint14", "uint15", "uint16"]
WIDE_GEOMETRIES = ["row", "tensor", "conv, groups of 8"]
MENDED = ["uint9", "uint10", "uint11", "uint12", "uint13", "uint14", "uint15"]
TORCH_FLOATS = ["float8_e4m3fn", "float8_e5m2"]
FLOATS = TORCH_FLOATS + [
    "float8_e4m3fn_sdnq", "float6_e3m2fn", "float5_e1m3fn", "float4_e2m1fn", "float6_e5m0fn", "float12_e4m7fn",
    "float16_e5m10fn", "float8_e4m4fnu", "float4_e2m2fnu", "float6_e3m3fnu", "float1_e1m0fnu", "float16_e1m15fnu"]
DECODED_FLOATS = ["float6_e3m2fn", "float6_e3m3fnu"]
HADAMARD_GROUPS = [4, 8, 16, 32, 64, 128, 256]
# name, whether of matrix.bin, the view, the axis reduced over
CODEBOOKS = [
    ("uint1", True, (16, 96), -1),
    ("uint2", True, (16, 3, 32), -1),
    ("uint4", True, (16, 96), -1),
    ("uint3", True, (16, 4, 8, 3), 2),
    ("uint4", False, (8, 512), -1),
    ("uint5", False, (2, 2048), -1),
    ("uint2", False, (4096,), None),
    ("uint8", False, (4096,), None),
]
OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "sdnq"


def matrix():
    torch.manual_seed(20)
    w = torch.randn(16, 96, dtype=torch.float32)
    w[1] = 0.0                                  # an all-zero row
    w[2, 32:64] = 0.0                           # an all-zero group
    w[3] = 0.75                                 # a constant row
    w[4] *= 1e-30                               # tiny
    w[5] *= 1e30                                # large
    w[6] = w[6].abs() + 3.0                     # all positive, far from zero
    w[7] = torch.arange(96) / 2.0 - 24.0        # ties of the rounding
    w[8] *= 1e-42                               # subnormal
    w[9, 5] = 1000.0                            # an outlier
    w[10] = (torch.arange(96) % 16) - 8.0       # exactly the codes of int4
    return w


def quantize(v, dim, name):
    q, scale, zero_point = quantize_weight(v, dim, name)
    q = q.to(torch.int32)
    # 0/0 is cast as the platform likes (and to True for uint1); the golden files hold 0 there, as mixdown writes.
    q = torch.where((scale == 0) & (v == (0 if zero_point is None else zero_point)), torch.zeros_like(q), q)
    return q, scale, zero_point


def custom_floats():
    """Names and bits of the library's own formats."""
    for e in range(1, 6):
        for m in range(16):
            for signed in (True, False):
                bits = signed + e + m
                if bits <= 16:
                    name = f"float{bits}_e{e}m{m}fn" + ("" if signed else "u")
                    yield (name + "_sdnq" if name == "float8_e4m3fn" else name), bits


def codes(bits):
    if bits <= 8:
        return torch.arange(max(2**bits, 16), dtype=torch.int32) % 2**bits      # no fewer than a unit packs
    return torch.arange(64, dtype=torch.int32) * 40503 % 2**bits


def pack_codes(c, bits):
    dtypes = {8: torch.uint8, 16: torch.uint16}
    return c.to(dtypes[bits]) if bits in dtypes else pack_int(c, f"uint{bits}")


def floats(w):
    out = bytearray()

    def write(*tensors):
        for t in tensors:
            if t is not None:
                out.extend(t.contiguous().numpy().tobytes())

    for name in FLOATS:
        for _, first, view, dim in GEOMETRIES:
            q, scale, zero_point = quantize_weight(w[first:].reshape(view).clone(), dim, name)
            write(scale, zero_point, q.view(torch.uint8) if name in TORCH_FLOATS else None)
    for name, bits in custom_floats():
        c = codes(bits)
        write(unpack_float(pack_codes(c, bits), name, c.shape))
    for name in TORCH_FLOATS:
        write(codes(8).to(torch.uint8).view(dtype_dict[name]["torch_dtype"]).to(torch.float32))
    for name in DECODED_FLOATS:
        bits = dtype_dict[name]["num_bits"]
        q, scale, zero_point = quantize_weight(w.clone(), -1, name)
        p = pack_float(q, name)
        f = unpack_float(p, name, q.shape)
        f = f * scale if zero_point is None else torch.addcmul(zero_point, f, scale)
        write(unpack_int(p, f"uint{bits}", q.shape).to(torch.uint8), scale, zero_point, f)
    return out


def affine(w):
    out = bytearray()
    for name in NAMES:
        unsigned = dtype_dict[name]["is_unsigned"]
        for _, first, view, dim in GEOMETRIES:
            v = w[first:].reshape(view).clone()
            q, scale, zero_point = quantize(v, dim, name)
            if dtype_dict[name]["is_packed"]:
                stored = pack_int(q, name)
                stored = stored.to(torch.uint8)
            else:
                stored = q.to(dtype_dict[name]["torch_dtype"])
            out += stored.contiguous().numpy().tobytes()
            out += scale.contiguous().numpy().tobytes()
            if unsigned:
                out += zero_point.contiguous().numpy().tobytes()
            if name in DECODED:
                f = q.to(torch.float32)
                f = f * scale if zero_point is None else torch.addcmul(zero_point, f, scale)
                out += f.contiguous().numpy().tobytes()
    return out


def wide(w):
    out = bytearray()
    for name in WIDE:
        unsigned = dtype_dict[name]["is_unsigned"]
        if name in MENDED:
            dtype_dict[name]["max"] = 2 ** dtype_dict[name]["num_bits"] - 1
        for geometry, first, view, dim in GEOMETRIES:
            if geometry not in (["row"] if name in MENDED else WIDE_GEOMETRIES):
                continue
            q, scale, zero_point = quantize(w[first:].reshape(view).clone(), dim, name)
            out += q.to(torch.uint16 if unsigned else torch.int16).contiguous().numpy().tobytes()
            out += scale.contiguous().numpy().tobytes()
            if unsigned:
                out += zero_point.contiguous().numpy().tobytes()
    return out


def packed():
    torch.manual_seed(21)
    v = torch.randint(0, 65536, (512,), dtype=torch.int32)
    out = bytearray(v.to(torch.uint16).numpy().tobytes())
    for bits in range(9, 16):
        out += pack_int(v >> (16 - bits), f"uint{bits}").contiguous().numpy().tobytes()
    return out


def hadamard():
    torch.manual_seed(22)
    v = torch.randn(256, dtype=torch.float32)
    out = bytearray(v.numpy().tobytes())
    for group in HADAMARD_GROUPS:
        out += rotate_hadamard(v.to(torch.float64), group_size=group).contiguous().numpy().tobytes()
    return out


def codebook(w):
    torch.manual_seed(23)
    v = torch.randn(4096, dtype=torch.float32) * 0.02
    out = bytearray(v.numpy().tobytes())
    for name, of_matrix, view, dim in CODEBOOKS:
        q, levels = quantize_weight_codebook((w if of_matrix else v).reshape(view).clone(), dim, name, steps=24)
        out += q.to(torch.uint8).contiguous().numpy().tobytes()
        out += levels.contiguous().numpy().tobytes()
    return out


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    w = matrix()
    files = {"matrix": w.numpy().tobytes(), "affine": affine(w), "wide": wide(w),
             "packed": packed(), "floats": floats(w), "hadamard": hadamard(), "codebook": codebook(w)}
    for name, data in files.items():
        (OUT / f"{name}.bin").write_bytes(data)
        print(name, len(data), "bytes")


if __name__ == "__main__":
    main()
