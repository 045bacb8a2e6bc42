"""ComfyUI's layers by comfy-kitchen, the library ComfyUI computes with; and the rules of ComfyUI's own loader, which is
no library: what `comfy/ops.py` asks of a layer before it hands it to comfy-kitchen, and what makes it fail."""

import json

import comfy_kitchen  # noqa: F401  registers its layouts
import torch
from comfy_kitchen.tensor import QuantizedTensor, TensorCoreFP8Layout, get_layout_class, register_layout_class
from safetensors import safe_open
from safetensors.torch import load_file


class Fp8E5m2(TensorCoreFP8Layout):
    """As ComfyUI registers it."""


register_layout_class("TensorCoreFP8E4M3Layout", TensorCoreFP8Layout)
register_layout_class("TensorCoreFP8E5M2Layout", Fp8E5m2)

# Format: type of the stored weight, layout, and the arrays without which the loader fails.
FORMATS = {
    "float8_e4m3fn": (torch.float8_e4m3fn, "TensorCoreFP8E4M3Layout", ["weight_scale"]),
    "float8_e5m2": (torch.float8_e5m2, "TensorCoreFP8E5M2Layout", ["weight_scale"]),
    "int8_tensorwise": (torch.int8, "TensorWiseINT8Layout", ["weight_scale"]),
    "nvfp4": (torch.uint8, "TensorCoreNVFP4Layout", ["weight_scale", "weight_scale_2"]),
    "mxfp8": (torch.float8_e4m3fn, "TensorCoreMXFP8Layout", ["weight_scale"]),
    "convrot_w4a4": (torch.int8, "TensorCoreConvRotW4A4Layout", ["weight_scale"]),
    "asym_w4a8_int8": (torch.int8, "AsymW4A8Int8Layout", ["weight_s_rel", "weight_s_channel"]),
    "awq_w4a16": (torch.int8, "TensorCoreAWQW4A16Layout", ["weight_scale", "weight_zeros"]),
}

# How comfy-kitchen itself quantizes: the format and what is said beside it. It has no quantizer for awq_w4a16.
CASES = {
    "float8_e4m3fn": ("float8_e4m3fn", {}),
    "float8_e5m2": ("float8_e5m2", {}),
    "int8_tensor": ("int8_tensorwise", {}),
    "int8_row": ("int8_tensorwise", {"per_channel": True}),
    "int8_convrot": ("int8_tensorwise", {"per_channel": True, "convrot": True, "convrot_groupsize": 64}),
    "nvfp4": ("nvfp4", {}),
    "mxfp8": ("mxfp8", {}),
    "convrot_w4a4": ("convrot_w4a4", {"convrot_groupsize": 64}),
    "w4a8": ("asym_w4a8_int8", {"group_size": 16, "convrot_groupsize": 64}),
    "w6a8": ("asym_w4a8_int8", {"group_size": 16, "convrot_groupsize": 64, "bits": 6}),
}


def fits(case, shape):
    """Whether a weight of that shape can be quantized so at all."""
    return shape[1] % 64 == 0 or case in {"float8_e4m3fn", "float8_e5m2", "int8_tensor", "int8_row", "nvfp4", "mxfp8"}


def quantize(case, layer, weight):
    """The arrays of a layer as ComfyUI saves them, the description included."""
    kind, options = CASES[case]
    layout = FORMATS[kind][1]
    if kind == "float8_e5m2":
        data, params = TensorCoreFP8Layout.quantize(weight, dtype=torch.float8_e5m2)
        tensor = QuantizedTensor(data, layout, params)
    else:
        tensor = QuantizedTensor.from_float(weight, layout, **options)
    arrays = dict(tensor.state_dict(f"{layer}.weight"))
    if kind == "mxfp8":
        arrays[f"{layer}.weight_scale"] = arrays[f"{layer}.weight_scale"].view(torch.uint8)
    said = {"format": kind}
    said |= {key: options[key] for key in ("convrot", "convrot_groupsize", "group_size") if key in options}
    arrays[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    return arrays


def load(path):
    """A file's arrays, with what its header says of layers put beside them, as ComfyUI does before anything else."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    arrays = load_file(path)
    for layer, said in json.loads(metadata.get("_quantization_metadata", '{"layers": {}}'))["layers"].items():
        assert f"{layer}.weight" in arrays, f"the header speaks of {layer}, which is not there"
        arrays[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    return arrays


def layers(arrays):
    """The layers that are quantized."""
    return [name.removesuffix(".comfy_quant") for name in arrays if name.endswith(".comfy_quant")]


def tensor(arrays, layer, shape, dtype=torch.float32):
    """comfy-kitchen's tensor of a layer whose module has that shape."""
    said = json.loads(bytes(arrays[f"{layer}.comfy_quant"].tolist()))
    storage, layout, needed = FORMATS[said["format"]]
    weight = arrays[f"{layer}.weight"]
    assert weight.dtype == storage, f"{layer}: {weight.dtype}"
    for suffix in needed:
        assert f"{layer}.{suffix}" in arrays, f"Missing {suffix} for layer {layer}"
    rows, cols = shape
    get = {suffix: arrays.get(f"{layer}.{suffix}") for suffix in (*needed, "weight_codebook")}
    more = {}
    scale = get.get("weight_scale")
    match said["format"]:
        case "float8_e4m3fn" | "float8_e5m2":
            assert scale.numel() == 1 and weight.shape == shape
        case "int8_tensorwise":
            assert weight.shape == shape and scale.shape in {(), (rows, 1)}, scale.shape
            if said.get("convrot"):
                more = {"convrot": True, "convrot_groupsize": said.get("convrot_groupsize", 256)}
        case "nvfp4":
            more = {"block_scale": scale.view(torch.float8_e4m3fn)}
            scale = get["weight_scale_2"]
        case "mxfp8":
            scale = scale.view(torch.float8_e8m0fnu)
        case "convrot_w4a4":
            assert weight.shape == (rows, cols // 2) and scale.shape == (rows,)
            more = {
                "convrot_groupsize": said.get("convrot_groupsize", 256),
                "quant_group_size": 64,
                "linear_dtype": said.get("linear_dtype", "int4"),
            }
        case "asym_w4a8_int8":
            scale = get["weight_s_rel"]
            more = {
                "s_channel": get["weight_s_channel"],
                "codebook": get["weight_codebook"],
                "group_size": said.get("group_size", 16),
                "convrot_groupsize": said.get("convrot_groupsize", 256),
            }
        case "awq_w4a16":
            more = {"zeros": get["weight_zeros"], "group_size": said.get("group_size", 64)}
    params = get_layout_class(layout).Params(scale=scale, orig_dtype=dtype, orig_shape=tuple(shape), **more)
    return QuantizedTensor(weight, layout, params)


def dequantize(arrays, layer, shape):
    """What ComfyUI computes with, in F32, without padding."""
    whole = tensor(arrays, layer, tuple(shape)).dequantize()
    return whole[: shape[0], : shape[1]].contiguous()
