#!/usr/bin/env python3
"""Writes tests/data/sdnq/layers.safetensors with the real library, for the golden tests of src/target/sdnq.

    SDNQ_USE_TORCH_COMPILE=0 SDNQ_DEVICE=cpu python tests/interop/make_sdnq_layers.py      (sdnq 0.2.8, torch on a CPU)

`KIND`               the weight that all layers of a kind are made from, F32.
`LAYER/PART`         the stored parts, named as sdnq names them; codes of one bit one byte per eight values.
`LAYER/dequantized`  the weight that sdnq computes from them, F32.
The header's `layers` is JSON: an object of each layer's recipe, as sdnq resolved it.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from sdnq.common import dtype_dict
from sdnq.quantizer import sdnq_quantize_layer_weight

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "sdnq" / "layers.safetensors"
KINDS = {
    "Linear": (16, 64),
    "Conv1d": (8, 32, 3),
    "Conv2d": (8, 16, 3, 3),
    "ConvTranspose2d": (16, 8, 3, 3),
}
SVD = {"use_svd": True, "svd_rank": 4}
HADAMARD = {"use_hadamard": True}
CODEBOOK = {"use_codebook": True}
# kind, dtype, group size, the rest of the arguments, the type of the low-rank factors
LAYERS = [
    ("Linear", "int8", -1, {}, None),
    ("Linear", "int8", 32, {}, None),
    ("Linear", "int8", -2, {}, None),
    ("Linear", "uint8", -1, {}, None),
    ("Linear", "int7", 32, {}, None),
    ("Linear", "uint5", 16, {}, None),
    ("Linear", "int3", 0, {}, None),
    ("Linear", "uint2", 0, {}, None),
    ("Linear", "uint1", 0, {}, None),
    ("Linear", "int16", -1, {}, None),
    ("Linear", "uint16", -2, {}, None),
    ("Linear", "int9", 32, {}, None),
    ("Linear", "int11", -1, {}, None),
    ("Linear", "int14", -2, {}, None),
    ("Linear", "uint13", 32, {}, None),
    ("Linear", "float8_e4m3fn", -1, {}, None),
    ("Linear", "float8_e4m3fn", 32, {}, None),
    ("Linear", "float8_e5m2", -2, {}, None),
    ("Linear", "float8_e4m3fn_sdnq", 32, {}, None),
    ("Linear", "float6_e3m2fn", -1, {}, None),
    ("Linear", "float4_e2m1fn", 16, {}, None),
    ("Linear", "float1_e1m0fnu", 0, {}, None),
    ("Linear", "float16_e5m10fn", -1, {}, None),
    ("Linear", "float11_e4m7fnu", 32, {}, None),
    ("Conv1d", "uint5", 8, {}, None),
    ("Conv1d", "int12", -1, {}, None),
    ("Conv2d", "int8", -1, {}, None),
    ("Conv2d", "uint4", 8, {}, None),
    ("Conv2d", "float8_e5m2", -2, {}, None),
    ("Conv2d", "float7_e2m4fn", 8, {}, None),
    ("ConvTranspose2d", "int8", -1, {}, None),
    ("ConvTranspose2d", "uint4", -1, {}, None),
    ("ConvTranspose2d", "int6", -2, {}, None),
    ("Linear", "uint4", 32, SVD, "bfloat16"),
    ("Linear", "float6_e3m2fn", -1, SVD, "float32"),
    ("Conv2d", "int8", -1, SVD, "float16"),
    ("ConvTranspose2d", "uint4", -1, SVD, "float32"),
    ("Linear", "uint4", 32, HADAMARD, None),
    ("Linear", "int8", -1, HADAMARD, None),
    ("Conv1d", "int5", 16, HADAMARD, None),
    ("ConvTranspose2d", "float5_e2m2fn", -1, HADAMARD, None),
    ("Linear", "uint4", 32, CODEBOOK, None),
    ("Linear", "uint8", -1, CODEBOOK, None),
    ("Linear", "uint2", -2, CODEBOOK, None),
    ("Conv2d", "uint3", 8, CODEBOOK, None),
    ("ConvTranspose2d", "uint4", -1, CODEBOOK, None),
    ("Linear", "int4", 16, SVD | HADAMARD, "bfloat16"),
    ("Conv2d", "uint4", -1, SVD | HADAMARD, "float32"),
    ("Linear", "uint4", 32, SVD | HADAMARD | CODEBOOK, "bfloat16"),
]  # fmt: skip


def sources():
    torch.manual_seed(21)
    return {kind: (torch.randn(shape) * torch.randn(shape[:1]).exp().view(-1, *[1] * (len(shape) - 1)) + 0.1) * 0.03
            for kind, shape in KINDS.items()}  # fmt: skip


def main():
    tensors, layers = sources(), {}
    for kind, dtype, group_size, arguments, factors in LAYERS:
        entry = dtype_dict[dtype]
        dequantizer, parts = sdnq_quantize_layer_weight(
            tensors[kind], layer_class_name=kind, weights_dtype=dtype, group_size=group_size,
            torch_dtype=getattr(torch, factors) if factors else None, **arguments,
        )  # fmt: skip
        name = f"{kind} {dtype} {group_size} {' '.join(arguments)}".strip()
        parts = {part: tensor for part, tensor in parts.items() if tensor is not None}
        # As its loaders do: they compute in f32.
        upcast = {part: tensor.float() if part.startswith("svd") else tensor for part, tensor in parts.items()}
        dequantized = dequantizer(**upcast, dtype=torch.float32, skip_compile=True)
        if entry["num_bits"] == 1:
            parts["weight"] = parts["weight"].to(torch.uint8)
        for part, tensor in (parts | {"dequantized": dequantized}).items():
            tensors[f"{name}/{part}"] = tensor.contiguous()
        layers[name] = {
            "kind": kind,
            "dtype": dtype,
            "group_size": dequantizer.group_size or -1,
            "svd_rank": arguments.get("svd_rank", 0),
            "hadamard": dequantizer.hadamard_group_size if dequantizer.use_hadamard else 0,
            "codebook": dequantizer.use_codebook,
            "axis": 0 if kind == "ConvTranspose2d" else 1,
            "factors": factors or "float32",
            # Sums are added up in orders of their own, custom floats rounded in ways of their own, and the top codes of
            # uint9 to uint15 do not fit their bits in sdnq.
            "same_bytes": not arguments and (
                dtype.startswith("int") or dtype in ("float8_e4m3fn", "float8_e5m2")
                or dtype.startswith("uint") and not 9 <= entry["num_bits"] <= 15
            ),
        }  # fmt: skip
    save_file(tensors, OUT, metadata={"layers": json.dumps(layers)})
    print(len(layers), "layers,", OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
