"""What Nunchaku's loaders ask of a file, restated, and what its kernels make of the numbers. numpy alone.

    python tests/interop/nunchaku_rules.py FILE|FOLDER

tells what each loader would refuse, and of every quantized layer what it is. As a module:

    read(path)          the arrays and the metadata of a single file or a Lite folder
    layers(path)        every quantized layer dequantized, in natural order, by its stored name
    unfused(path)       the weights and biases of those layers under diffusers' names
    faults(path)        what the file's loaders fail on, by loader; empty lists where nothing is wrong
    load_lite(folder)   what diffusers' own loader makes of a Lite folder

Rules are those of nunchaku 1.2 (`models/transformers`, `models/linear.py`), ComfyUI-nunchaku 1.0 (`nodes/models`) and
diffusers 0.42 (`quantizers/nunchaku`). Positions are computed element by element from where the kernels look.
"""

import json
import re
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# ---------------------------------------------------------------- files

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I8": 1, "U8": 1, "I16": 2, "I32": 4, "I64": 8, "F8_E4M3": 1, "BOOL": 1}


@dataclass
class Array:
    dtype: str
    shape: tuple[int, ...]
    raw: bytes

    def bits(self) -> np.ndarray:
        """The elements as unsigned integers, in the order of memory."""
        return np.frombuffer(self.raw, {1: np.uint8, 2: "<u2", 4: "<u4", 8: "<u8"}[SIZES[self.dtype]])

    def values(self) -> np.ndarray:
        """The elements as numbers, in the order of memory."""
        bits = self.bits()
        if self.dtype == "BF16":
            return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        if self.dtype == "F8_E4M3":
            return E4M3[bits]
        return bits.view({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[self.dtype]).astype(np.float64)

    def natural(self) -> np.ndarray:
        return self.values().reshape(self.shape)


@dataclass
class File:
    path: Path
    arrays: dict[str, Array]
    metadata: dict[str, str] | None
    """Of a single file; None where its header has none."""
    config: dict | None = None
    """Of a folder."""

    @property
    def lite(self) -> bool:
        return self.config is not None


def read_one(path: Path) -> tuple[dict[str, Array], dict[str, str] | None]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        arrays[name] = Array(entry["dtype"], tuple(entry["shape"]), data[8 + length + start : 8 + length + end])
    return arrays, metadata


def read(path: Path | str) -> File:
    path = Path(path)
    if path.is_file():
        return File(path, *read_one(path))
    arrays: dict[str, Array] = {}
    for file in sorted(path.glob("*.safetensors")):
        arrays |= read_one(file)[0]
    return File(path, arrays, None, json.loads((path / "config.json").read_text()))


def e4m3(code: int) -> float:
    sign, exponent, mantissa = -1 if code & 0x80 else 1, code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return float("nan")
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


E4M3 = np.array([e4m3(code) for code in range(256)])
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
GELU_SHIFT = 0.171875

# ---------------------------------------------------------------- layouts: where the kernels look


def unpack_codes(array: Array) -> np.ndarray:
    """The codes [N, K] of a W4A4 layer."""
    rows, cols = array.shape[0], array.shape[1] * 2
    n, k = np.ogrid[:rows, :cols]
    b, p, q, g = n // 128, n // 16 % 8, n // 8 % 2, n % 8
    c, h, t, r = k // 64, k // 32 % 2, k // 8 % 4, k % 8
    word = (((b * (cols // 64) + c) * 8 + p) * 32 + (4 * g + t)) * 4 + (2 * q + h)
    return np.frombuffer(array.raw, np.uint8)[4 * word + r // 2] >> (4 * (r % 2)) & 15


def unpack_vectors(array: Array, rows: int) -> np.ndarray:
    """Values of 16 bits [rows, groups]: the scales of int4, biases, smoothing factors."""
    values = array.values()
    groups = len(values) // rows
    n, group = np.ogrid[:rows, :groups]
    b, a, e, c, d = n // 128, n // 16 % 8, n // 8 % 2, n // 2 % 4, n % 2
    return values[(b * groups + group) * 128 + 16 * a + 4 * c + 2 * e + d]


def unpack_vector(array: Array) -> np.ndarray:
    return unpack_vectors(array, int(np.prod(array.shape)))[:, 0]


def unpack_micro(array: Array, rows: int) -> np.ndarray:
    """The scales [rows, groups] of nvfp4."""
    values = array.values()
    groups = len(values) // rows
    n, group = np.ogrid[:rows, :groups]
    b, a, e, c = n // 128, n // 32 % 4, n // 8 % 4, n % 8
    return values[((b * (groups // 4) + group // 4) * 128 + 16 * c + 4 * e + a) * 4 + group % 4]


def unpack_up(array: Array) -> np.ndarray:
    """The factor [N, rank] of the output."""
    channels, rank = array.shape
    n, rho = np.ogrid[:channels, :rank]
    s, q, g = n // 16, n // 8 % 2, n % 8
    z, h, t, e = rho // 16, rho // 8 % 2, rho // 2 % 4, rho % 2
    return array.values()[(s * (rank // 16) + z) * 256 + 8 * (4 * g + t) + 4 * q + 2 * h + e]


def unpack_down(array: Array) -> np.ndarray:
    """The factor [rank, K] of the input, as stored: divided by the smoothing factors already."""
    channels, rank = array.shape
    rho, k = np.ogrid[:rank, :channels]
    s, h, t, e = k // 16, k // 8 % 2, k // 2 % 4, k % 2
    z, q, g = rho // 16, rho // 8 % 2, rho % 8
    return array.values()[(s * (rank // 16) + z) * 256 + 8 * (4 * g + t) + 4 * q + 2 * h + e]


def unpack_awq(array: Array) -> np.ndarray:
    """The codes [N, K] of an AWQ layer, its rows as they are stored."""
    rows, cols = array.shape[0] * 4, array.shape[1] * 2
    n, k = np.ogrid[:rows, :cols]
    word = (n // 4 * (cols // 64) + k // 64) * 64 + n % 4 * 16 + k // 32 % 2 * 8 + k % 8
    return np.frombuffer(array.raw, "<u2")[word] >> (4 * (k // 8 % 4)) & 15


# ---------------------------------------------------------------- layers


@dataclass
class Layer:
    kind: str
    """int4, fp4 or awq."""
    weight: np.ndarray
    """[N, K] what the layer multiplies its input by, rows in the source's order."""
    bias: np.ndarray | None
    """[N] the source's: without what the kernels' shifts and the runtime's 1 were folded in."""
    quantized: np.ndarray
    """[N, K] the codes' values: for W4A4 of the smoothed residual."""
    smooth: np.ndarray = field(default_factory=lambda: np.ones(0))
    up: np.ndarray = field(default_factory=lambda: np.ones((0, 0)))
    down: np.ndarray = field(default_factory=lambda: np.ones((0, 0)))


SHIFTED = re.compile(r"(^|\.)transformer_blocks\.\d+\.(mlp_fc2|mlp_context_fc2|img_mlp\.net\.2|txt_mlp\.net\.2)$")
SHIFTED_SINGLE = re.compile(r"single_transformer_blocks\.\d+\.mlp_fc2$")


def is_shifted(layer: str) -> bool:
    """Whether GELU's output comes shifted to the layer, in int4."""
    return bool(SHIFTED.search(layer) or SHIFTED_SINGLE.search(layer))


def fields_of(layer: str) -> int:
    """How many vectors an AWQ layer makes, whose rows are interleaved."""
    if re.search(r"single_transformer_blocks\.\d+\.norm\.linear$", layer):
        return 3
    return 6 if re.search(r"\.(norm1\.linear|norm1_context\.linear|img_mod\.1|txt_mod\.1)$", layer) else 1


def w4a4(layer: str, arrays: dict[str, Array], lite: bool) -> Layer:
    def part(*names: str) -> Array | None:
        return next((arrays[f"{layer}.{n}"] for n in names if f"{layer}.{n}" in arrays), None)

    codes = unpack_codes(arrays[f"{layer}.qweight"])
    rows, cols = codes.shape
    scales = arrays[f"{layer}.wscales"]
    if scales.dtype == "F8_E4M3":
        kind, values = "fp4", E2M1[codes]
        quantized = values * np.repeat(unpack_micro(scales, rows), 16, axis=1)
        if (tensor := part("wtscale")) is not None:
            quantized = quantized * tensor.values()[0]
        if (channels := part("wcscales")) is not None:
            quantized = quantized * unpack_vector(channels)[:, None]
    else:
        kind, values = "int4", (codes.astype(np.int64) ^ 8) - 8
        quantized = values * np.repeat(unpack_vectors(scales, rows), 64, axis=1)
    smooth = unpack_vector(part("smooth_factor", "smooth"))
    up, down = unpack_up(part("proj_up", "lora_up")), unpack_down(part("proj_down", "lora_down"))
    weight = quantized / smooth + up @ down
    bias = part("bias")
    bias = None if bias is None else unpack_vector(bias)
    if bias is not None and kind == "int4" and not lite and is_shifted(layer):
        bias = bias + GELU_SHIFT * (quantized / smooth).sum(axis=1)
    return Layer(kind, weight, bias, quantized, smooth, up, down)


def awq(layer: str, arrays: dict[str, Array], lite: bool) -> Layer:
    codes = unpack_awq(arrays[f"{layer}.qweight"]).astype(np.float64)
    rows = codes.shape[0]
    scales, zeros = (arrays[f"{layer}.{n}"].values().reshape(-1, rows).T for n in ("wscales", "wzeros"))
    weight = codes * np.repeat(scales, 64, axis=1) + np.repeat(zeros, 64, axis=1)
    bias = arrays[f"{layer}.bias"].values().copy() if f"{layer}.bias" in arrays else None
    fields = 1 if lite else fields_of(layer)
    if fields > 1:
        # Row i is stored from row (i mod fields) · each + i div fields.
        stored = np.arange(rows)
        source = stored % fields * (rows // fields) + stored // fields
        natural = np.empty_like(weight)
        natural[source] = weight
        weight = natural
        if bias is not None:
            moved = np.empty_like(bias)
            moved[source] = bias
            moved = moved.reshape(fields, -1)
            moved[sorted({1, fields - 2})] -= 1
            bias = moved.reshape(-1)
    return Layer("awq", weight, bias, weight)


def layers(path: Path | str | File) -> dict[str, Layer]:
    file = path if isinstance(path, File) else read(path)
    found = {}
    for name, array in file.arrays.items():
        if name.endswith(".qweight"):
            layer = name.removesuffix(".qweight")
            found[layer] = (w4a4 if array.dtype == "I8" else awq)(layer, file.arrays, file.lite)
    return found


# Rows of a stored layer are those of several of diffusers', one after the other.
FUSED = {
    "attn.to_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "attn.add_qkv_proj": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "attention.to_qkv": ("attention.to_q", "attention.to_k", "attention.to_v"),
    "feed_forward.net.0.proj": ("feed_forward.w3", "feed_forward.w1"),
    "feed_forward.net.2": ("feed_forward.w2",),
}


def unfused(path: Path | str | File) -> dict[str, np.ndarray]:
    """`….weight` and `….bias` of every quantized layer, as diffusers calls them."""
    file = path if isinstance(path, File) else read(path)
    found = layers(file)
    if file.lite:
        named = found
    else:
        named = {flux_name(f"{name}.")[:-1]: layer for name, layer in found.items()}
    out: dict[str, np.ndarray] = {}

    def put(name: str, weight: np.ndarray, bias: np.ndarray | None) -> None:
        out[f"{name}.weight"] = weight
        if bias is not None:
            out[f"{name}.bias"] = bias

    for name, layer in named.items():
        single = re.match(r"(single_transformer_blocks\.\d+)\.(attn\.to_out|mlp_fc1|mlp_fc2)$", name)
        if single and not file.lite:
            block, which = single.groups()
            if which == "mlp_fc1":
                put(f"{block}.proj_mlp", layer.weight, layer.bias)
            elif which == "mlp_fc2":
                put(f"{block}.proj_out", np.hstack([named[f"{block}.attn.to_out"].weight, layer.weight]), layer.bias)
            continue
        end = next((end for end in FUSED if name.endswith("." + end)), None)
        if end is None or file.lite:
            put(name, layer.weight, layer.bias)
            continue
        parts = FUSED[end]
        weights = np.split(layer.weight, len(parts))
        biases = [None] * len(parts) if layer.bias is None else np.split(layer.bias, len(parts))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            put(name.removesuffix(end) + part, weight, bias)
    return out


# ---------------------------------------------------------------- names: classic to V2

DOUBLE = [
    (".mlp_context_fc1.", ".ff_context.net.0.proj."),
    (".mlp_context_fc2.", ".ff_context.net.2."),
    (".mlp_fc1.", ".ff.net.0.proj."),
    (".mlp_fc2.", ".ff.net.2."),
    (".qkv_proj_context.", ".attn.add_qkv_proj."),
    (".qkv_proj.", ".attn.to_qkv."),
    (".out_proj_context.", ".attn.to_add_out."),
    (".out_proj.", ".attn.to_out.0."),
    (".norm_added_q.", ".attn.norm_added_q."),
    (".norm_added_k.", ".attn.norm_added_k."),
    (".norm_q.", ".attn.norm_q."),
    (".norm_k.", ".attn.norm_k."),
]
SINGLE = [
    (".qkv_proj.", ".attn.to_qkv."),
    (".out_proj.", ".attn.to_out."),
    (".norm_q.", ".attn.norm_q."),
    (".norm_k.", ".attn.norm_k."),
]


def flux_name(name: str) -> str:
    """What the V2 loader calls a tensor of a FLUX file, before it is looked up."""
    if "transformer_blocks." not in name:
        return name
    table = SINGLE if "single_transformer_blocks." in name else DOUBLE
    if ".attn." not in name:
        name = next((name.replace(old, new) for old, new in table if old in name), name)
    for old, new in ((".lora_down", ".proj_down"), (".lora_up", ".proj_up")):
        name = name.replace(old, new)
    if name.endswith(".smooth_orig"):
        return name.replace(".smooth_orig", ".smooth_factor_orig")
    return re.sub(r"\.smooth$", ".smooth_factor", name)


# ---------------------------------------------------------------- what models are made of

Table = dict[str, tuple[str, tuple[int, ...]]]


def quantized(name: str, n: int, k: int, precision: str, rank: int, bias: bool = True) -> Table:
    table: Table = {
        f"{name}.qweight": ("I8", (n, k // 2)),
        f"{name}.wscales": ("BF16", (k // 64, n)) if precision == "int4" else ("F8_E4M3", (k // 16, n)),
        f"{name}.smooth_factor": ("BF16", (k,)),
        f"{name}.smooth_factor_orig": ("BF16", (k,)),
        f"{name}.proj_down": ("BF16", (k, rank)),
        f"{name}.proj_up": ("BF16", (n, rank)),
    }
    if bias:
        table[f"{name}.bias"] = ("BF16", (n,))
    if precision == "fp4":
        table[f"{name}.wcscales"] = ("BF16", (n,))
    return table


def modulation(name: str, n: int, k: int) -> Table:
    return {
        f"{name}.qweight": ("I32", (n // 4, k // 2)),
        f"{name}.wscales": ("BF16", (k // 64, n)),
        f"{name}.wzeros": ("BF16", (k // 64, n)),
        f"{name}.bias": ("BF16", (n,)),
    }


def linear(name: str, n: int, k: int, bias: bool = True) -> Table:
    table: Table = {f"{name}.weight": ("BF16", (n, k))}
    return table | {f"{name}.bias": ("BF16", (n,))} if bias else table


def norm(name: str, n: int) -> Table:
    return {f"{name}.weight": ("BF16", (n,))}


def flux_table(c: dict, precision: str, rank: int) -> Table:
    """Of `NunchakuFluxTransformer2DModelV2`."""
    head, heads = c.get("attention_head_dim", 128), c.get("num_attention_heads", 24)
    d, channels = head * heads, c.get("in_channels", 64)
    pixels = c.get("patch_size", 1) ** 2 * (c.get("out_channels") or channels)
    table = linear("x_embedder", d, channels) | linear("context_embedder", d, c.get("joint_attention_dim", 4096))
    embedders = {"timestep": 256, "text": c.get("pooled_projection_dim", 768)}
    if c.get("guidance_embeds", False):
        embedders["guidance"] = 256
    for embedder, k in embedders.items():
        at = f"time_text_embed.{embedder}_embedder"
        table |= linear(f"{at}.linear_1", d, k) | linear(f"{at}.linear_2", d, d)
    table |= linear("norm_out.linear", 2 * d, d) | linear("proj_out", pixels, d)
    for i in range(c.get("num_layers", 19)):
        at = f"transformer_blocks.{i}"
        table |= modulation(f"{at}.norm1.linear", 6 * d, d) | modulation(f"{at}.norm1_context.linear", 6 * d, d)
        for name in ("q", "k", "added_q", "added_k"):
            table |= norm(f"{at}.attn.norm_{name}", head)
        shapes = {
            "attn.to_qkv": (3 * d, d),
            "attn.add_qkv_proj": (3 * d, d),
            "attn.to_out.0": (d, d),
            "attn.to_add_out": (d, d),
            "ff.net.0.proj": (4 * d, d),
            "ff.net.2": (d, 4 * d),
            "ff_context.net.0.proj": (4 * d, d),
            "ff_context.net.2": (d, 4 * d),
        }
        for name, (n, k) in shapes.items():
            table |= quantized(f"{at}.{name}", n, k, precision, rank)
    for i in range(c.get("num_single_layers", 38)):
        at = f"single_transformer_blocks.{i}"
        table |= modulation(f"{at}.norm.linear", 3 * d, d)
        table |= norm(f"{at}.attn.norm_q", head) | norm(f"{at}.attn.norm_k", head)
        for name, (n, k) in {
            "attn.to_qkv": (3 * d, d),
            "attn.to_out": (d, d),
            "mlp_fc1": (4 * d, d),
            "mlp_fc2": (d, 4 * d),
        }.items():
            table |= quantized(f"{at}.{name}", n, k, precision, rank)
    return table


def qwen_table(c: dict, precision: str, rank: int) -> Table:
    """Of `NunchakuQwenImageTransformer2DModel`, of the size that the config says."""
    head, heads = c.get("attention_head_dim", 128), c.get("num_attention_heads", 24)
    d, text = head * heads, c.get("joint_attention_dim", 3584)
    channels = c.get("in_channels", 64)
    pixels = c.get("patch_size", 2) ** 2 * (c.get("out_channels") or channels)
    table = linear("img_in", d, channels) | linear("txt_in", d, text) | norm("txt_norm", text)
    at = "time_text_embed.timestep_embedder"
    table |= linear(f"{at}.linear_1", d, 256) | linear(f"{at}.linear_2", d, d)
    table |= linear("norm_out.linear", 2 * d, d) | linear("proj_out", pixels, d)
    for i in range(c.get("num_layers", 60)):
        at = f"transformer_blocks.{i}"
        table |= modulation(f"{at}.img_mod.1", 6 * d, d) | modulation(f"{at}.txt_mod.1", 6 * d, d)
        for name in ("q", "k", "added_q", "added_k"):
            table |= norm(f"{at}.attn.norm_{name}", head)
        shapes = {"attn.to_qkv": (3 * d, d), "attn.add_qkv_proj": (3 * d, d)}
        shapes |= {"attn.to_out.0": (d, d), "attn.to_add_out": (d, d)}
        for mlp in ("img_mlp", "txt_mlp"):
            shapes |= {f"{mlp}.net.0.proj": (4 * d, d), f"{mlp}.net.2": (d, 4 * d)}
        for name, (n, k) in shapes.items():
            table |= quantized(f"{at}.{name}", n, k, precision, rank)
    return table


def zimage_table(c: dict, precision: str, rank: int, skip_refiners: bool) -> Table:
    """Of `NunchakuZImageTransformer2DModel`."""
    d, head = c.get("dim", 3840), c.get("dim", 3840) // c.get("n_heads", 30)
    channels, text, small = c.get("in_channels", 16), c.get("cap_feat_dim", 2560), min(d, 256)
    hidden = int(d / 3 * 8)
    table: Table = {"x_pad_token": ("BF16", (1, d)), "cap_pad_token": ("BF16", (1, d))}
    for p, f in zip(c.get("all_patch_size", [2]), c.get("all_f_patch_size", [1]), strict=True):
        pixels = f * p * p * channels
        table |= linear(f"all_x_embedder.{p}-{f}", d, pixels) | linear(f"all_final_layer.{p}-{f}.linear", pixels, d)
        table |= linear(f"all_final_layer.{p}-{f}.adaLN_modulation.1", d, small)
    table |= linear("t_embedder.mlp.0", 1024, 256) | linear("t_embedder.mlp.2", small, 1024)
    table |= norm("cap_embedder.0", text) | linear("cap_embedder.1", d, text)
    refiners = c.get("n_refiner_layers", 2)
    for group, count in (("layers", c.get("n_layers", 30)), ("noise_refiner", refiners), ("context_refiner", refiners)):
        for i in range(count):
            at = f"{group}.{i}"
            for name in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"):
                table |= norm(f"{at}.{name}", d)
            table |= norm(f"{at}.attention.norm_q", head) | norm(f"{at}.attention.norm_k", head)
            if group != "context_refiner":
                table |= linear(f"{at}.adaLN_modulation.0", 4 * d, small)
            if skip_refiners and group != "layers":
                for name in ("to_q", "to_k", "to_v", "to_out.0"):
                    table |= linear(f"{at}.attention.{name}", d, d, bias=False)
                table |= linear(f"{at}.feed_forward.net.0.proj", 2 * hidden, d, bias=False)
                table |= linear(f"{at}.feed_forward.net.2", d, hidden, bias=False)
                continue
            shapes = {
                "attention.to_qkv": (3 * d, d),
                "attention.to_out.0": (d, d),
                "feed_forward.net.0.proj": (2 * hidden, d),
                "feed_forward.net.2": (d, hidden),
            }
            for name, (n, k) in shapes.items():
                table |= quantized(f"{at}.{name}", n, k, precision, rank, bias=False)
    return table


# ---------------------------------------------------------------- what loaders fail on


def parsed(metadata: dict[str, str] | None, key: str, found: list[str]) -> dict:
    """A key's JSON object; what is wrong with it is told."""
    if metadata is None:
        found.append("no metadata: TypeError: 'NoneType' object is not subscriptable")
        return {}
    if key not in metadata:
        found.append(f"metadata has no `{key}`: KeyError")
        return {}
    try:
        value = json.loads(metadata[key])
    except json.JSONDecodeError as e:
        found.append(f"`{key}` is not JSON: {e}")
        return {}
    if not isinstance(value, dict):
        found.append(f"`{key}` is no object")
        return {}
    return value


def precision_of(file: File) -> str:
    dtypes = {
        file.arrays[scales].dtype
        for name, array in file.arrays.items()
        if array.dtype == "I8" and name.endswith(".qweight") and (scales := name[:-7] + "wscales") in file.arrays
    }
    return "fp4" if dtypes == {"F8_E4M3"} else "int4"


def strict(arrays: dict[str, Array], table: Table, precision: str) -> list[str]:
    """`patch_scale_key`, then `load_state_dict`: every key, type and shape, and none too many."""
    found = []
    for name, (dtype, shape) in table.items():
        if name not in arrays:
            if not name.endswith(".wcscales"):
                found.append(f"`{name}` is missing")
            continue
        array = arrays[name]
        if array.dtype != dtype:
            found.append(f"`{name}` is {array.dtype}, not {dtype}")
        if array.shape != shape:
            found.append(f"`{name}` has the shape {array.shape}, not {shape}")
    for name in arrays.keys() - table.keys():
        # In fp4, layers take their `wtscale` out before the rest is looked at.
        popped = precision == "fp4" and name.endswith(".wtscale") and name[:-7] + "qweight" in table
        if not popped:
            found.append(f"`{name}` is unexpected")
        elif int(np.prod(arrays[name].shape)) != 1 or arrays[name].dtype not in ("BF16", "F16", "F32"):
            found.append(f"`{name}` is no single number")
    return found


def quantization(file: File, found: list[str], required: bool) -> dict:
    if not required and file.metadata is not None and "quantization_config" not in file.metadata:
        return {}
    return parsed(file.metadata, "quantization_config", found)


def hardware(config: dict, precision: str) -> list[str]:
    """`check_hardware_compatibility`, on a machine for that precision."""
    found = []
    weight = config.get("weight")
    if not isinstance(weight, dict) or "dtype" not in weight or "group_size" not in weight:
        return ["`quantization_config` has no `weight` with dtype and group_size: KeyError: 'weight'"]
    if weight["dtype"] not in ("int4", "fp4_e2m1_all"):
        found.append(f"`quantization_config`: weights of {weight['dtype']}: unsupported quantization dtype")
    if weight["dtype"] == "fp4_e2m1_all" and weight["group_size"] != 16:
        found.append("only nvfp4 is supported, with groups of 16")
    if (weight["dtype"] == "int4") != (precision == "int4"):
        found.append(f"`quantization_config` says {weight['dtype']}, the scales say {precision}")
    return found


def container(file: File) -> list[str]:
    """What the C++ reader takes."""
    found = []
    for name, array in file.arrays.items():
        if array.dtype not in ("BF16", "F16", "F32", "I8", "I32", "I64", "F8_E4M3", "F8_E5M2"):
            found.append(f"`{name}` is {array.dtype}, which the C++ reader does not know")
        if 0 in array.shape:
            found.append(f"`{name}` is empty: offsets are repeated")
    return found


def numbers(file: File) -> list[str]:
    """What no loader looks at: whether scales are numbers that can be divided and multiplied by."""
    found = []
    for name, array in file.arrays.items():
        if array.dtype not in ("BF16", "F16", "F32", "F8_E4M3"):
            continue
        values = array.values()
        if not np.isfinite(values).all():
            found.append(f"`{name}` has values that are not finite")
        last = name.rsplit(".", 1)[-1]
        if last in ("smooth", "smooth_factor", "wtscale") and not (values > 0).all():
            found.append(f"`{name}` has values that are not above zero")
        layer = name.removesuffix(".wscales")
        if array.dtype == "F8_E4M3" and not {f"{layer}.wtscale", f"{layer}.wcscales"} & file.arrays.keys():
            found.append(f"`{layer}` has neither `wtscale` nor `wcscales`")
    return found


def flux_v1(file: File) -> list[str]:
    """The C++ model: holes are silent there, so here they are faults; its size is fixed, so that is left to V2."""
    found = container(file)
    config = parsed(file.metadata, "config", found)
    quantization_config = quantization(file, found, required=True)
    precision = precision_of(file)
    if quantization_config:
        found += hardware(quantization_config, precision)
    table = flux_table(config, precision, quantization_config.get("rank", 32)) if config else {}
    # V2 takes its own names too; the C++ model knows the old ones alone.
    found += [f"`{name}` is V2's name" for name in file.arrays if "transformer_blocks." in name and ".attn." in name]
    renamed = {flux_name(name): (name, array) for name, array in file.arrays.items()}
    for name, (dtype, shape) in table.items():
        if name not in renamed:
            if not name.endswith(".wcscales"):
                found.append(f"`{name}` (in V2's names) is missing: silently left uninitialised")
            continue
        stored, array = renamed[name]
        kinds = ("BF16", "F16") if dtype == "BF16" else (dtype,)
        if array.dtype not in kinds or array.shape != shape:
            found.append(f"`{stored}` is {array.dtype} {array.shape}, not {dtype} {shape}: an assertion in C")
    return found


def flux_v2(file: File) -> list[str]:
    found: list[str] = []
    config = parsed(file.metadata, "config", found)
    rank = quantization(file, found, required=False).get("rank", 32)
    precision = precision_of(file)
    renamed = {flux_name(name): array for name, array in file.arrays.items()}
    return found + (strict(renamed, flux_table(config, precision, rank), precision) if config else [])


def comfy_flux(file: File) -> list[str]:
    """ComfyUI-nunchaku's FLUX loader."""
    found: list[str] = []
    comfy = parsed(file.metadata, "comfy_config", found)
    config = parsed(file.metadata, "config", found)
    if found:
        return found
    if "model_class" not in comfy:
        return ["`comfy_config`: KeyError: 'model_class'"]
    if comfy["model_class"] not in ("Flux", "FluxSchnell"):
        found.append(f"`comfy_config`: no class {comfy['model_class']}")
    model = comfy.get("model_config")
    if not isinstance(model, dict):
        return found + ["`comfy_config`: KeyError: 'model_config'"]
    heads = config.get("num_attention_heads", 24)
    channels = config.get("in_channels", 64)
    guidance = config.get("guidance_embeds", False)
    if comfy["model_class"] != ("Flux" if guidance else "FluxSchnell"):
        found.append(f"`comfy_config`: {comfy['model_class']} with guidance {guidance}")
    expected = {
        "image_model": "flux",
        "in_channels": channels // 4,
        "out_channels": (config.get("out_channels") or channels) // 4,
        "patch_size": 2,
        "depth": config.get("num_layers", 19),
        "depth_single_blocks": config.get("num_single_layers", 38),
        "hidden_size": heads * config.get("attention_head_dim", 128),
        "num_heads": heads,
        "mlp_ratio": 4.0,
        "context_in_dim": config.get("joint_attention_dim", 4096),
        "vec_in_dim": config.get("pooled_projection_dim", 768),
        "axes_dim": list(config.get("axes_dims_rope", (16, 56, 56))),
        "theta": 10000,
        "qkv_bias": True,
        "guidance_embed": guidance,
        "disable_unet_model_creation": True,
    }
    for key, value in expected.items():
        if model.get(key) != value:
            found.append(f"`comfy_config`: {key} is {model.get(key)}, not {value}")
    return found


def qwen(file: File) -> list[str]:
    found: list[str] = []
    config = parsed(file.metadata, "config", found)
    rank = quantization(file, found, required=False).get("rank", 32)
    precision = precision_of(file)
    return found + (strict(file.arrays, qwen_table(config, precision, rank), precision) if config else [])


def zimage(file: File) -> list[str]:
    found: list[str] = []
    config = parsed(file.metadata, "config", found)
    quantization_config = quantization(file, found, required=False)
    rank, skip = quantization_config.get("rank", 32), quantization_config.get("skip_refiners", False)
    precision = precision_of(file)
    if precision == "fp4":
        # The fused q, k and v run with a scale of 1 whatever `wtscale` says (`NunchakuZImageFusedModule`).
        for name, array in file.arrays.items():
            if name.endswith("attention.to_qkv.wtscale") and array.values()[0] != 1:
                found.append(f"`{name}` is never applied; scale by `wcscales`")
    return found + (strict(file.arrays, zimage_table(config, precision, rank, skip), precision) if config else [])


def comfy_v2(file: File) -> list[str]:
    """ComfyUI-nunchaku's loaders of Qwen-Image and Z-Image take the precision from the metadata."""
    found: list[str] = []
    config = quantization(file, found, required=True)
    return found or hardware(config, precision_of(file)) + ([] if "rank" in config else ["no `rank`"])


def lite(file: File) -> list[str]:
    """diffusers: `NunchakuLiteQuantizationConfig`, then the layers that its targets become."""
    config = (file.config or {}).get("quantization_config")
    if not isinstance(config, dict) or config.get("quant_method") != "nunchaku_lite":
        return ["config.json: quantization_config.quant_method is not nunchaku_lite"]
    found: list[str] = []
    sections = {key: config[key] for key in ("svdq_w4a4", "awq_w4a16") if config.get(key) is not None}
    if not sections:
        found.append("neither `svdq_w4a4` nor `awq_w4a16`")
    known = {"quant_method", "compute_dtype", "svdq_w4a4", "awq_w4a16"}
    found += [f"quantization_config has a `{key}`" for key in config.keys() - known]
    expected: Table = {}
    for key, section in sections.items():
        precision, targets = section.get("precision"), section.get("targets")
        groups = {"int4": 64, "nvfp4": 16} if key == "svdq_w4a4" else {"int4": 64}
        if section.get("group_size") != groups.get(precision):
            found.append(f"{key}: groups of {section.get('group_size')} with {precision}")
        if not isinstance(targets, list) or not targets or not all(isinstance(t, str) and t for t in targets):
            found.append(f"{key}: targets are not a list of names")
            continue
        if len(set(targets)) != len(targets):
            found.append(f"{key}: a target is named twice")
        rank = section.get("rank")
        if key == "svdq_w4a4" and (not isinstance(rank, int) or rank < 16 or rank % 16):
            found.append(f"rank {rank}: the kernels want a multiple of 16, at least 16")
            continue
        for target in targets:
            codes = file.arrays.get(f"{target}.qweight")
            if codes is None:
                found.append(f"`{target}.qweight` is missing: it stays on the meta device")
                continue
            bias = f"{target}.bias" in file.arrays
            if key == "svdq_w4a4":
                n, k = codes.shape[0], codes.shape[1] * 2
                if n % 128 or k % 128:
                    found.append(f"`{target}` is {n} × {k}: not multiples of 128")
                table = quantized(target, n, k, "int4" if precision == "int4" else "fp4", rank, bias)
                del table[f"{target}.smooth_factor_orig"]
                if precision == "nvfp4":
                    table[f"{target}.wtscale"] = ("BF16", (1,))
            else:
                table = modulation(target, codes.shape[0] * 4, codes.shape[1] * 2)
                if not bias:
                    del table[f"{target}.bias"]
            expected |= table
    for name, (dtype, shape) in expected.items():
        array = file.arrays.get(name)
        if array is None:
            found.append(f"`{name}` is missing: it stays on the meta device")
        elif (array.dtype, array.shape) != (dtype, shape):
            found.append(f"`{name}` is {array.dtype} {array.shape}, not {dtype} {shape}")
    targets = {t for section in sections.values() for t in section.get("targets") or []}
    for name in file.arrays.keys() - expected.keys():
        if name.rsplit(".", 1)[0] in targets or name.endswith(".qweight"):
            found.append(f"`{name}` is ignored")
    return found


RULES = {
    "FluxTransformer2DModel": {"flux_v1": flux_v1, "flux_v2": flux_v2, "comfy_flux": comfy_flux},
    "QwenImageTransformer2DModel": {"qwen": qwen, "comfy": comfy_v2},
    "ZImageTransformer2DModel": {"zimage": zimage, "comfy": comfy_v2},
}


def faults(path: Path | str | File, class_name: str | None = None) -> dict[str, list[str]]:
    """What every loader of the file fails on, by the loader's name. The class is the config's, or the one that is given."""
    file = path if isinstance(path, File) else read(path)
    if file.lite:
        return {"lite": lite(file), "numbers": numbers(file)}
    if class_name is None:
        found: list[str] = []
        class_name = parsed(file.metadata, "config", found).get("_class_name")
        if class_name not in RULES:
            return {"metadata": found or [f"no rules for the class {class_name}"]}
    return {name: rule(file) for name, rule in RULES[class_name].items()} | {"numbers": numbers(file)}


# ---------------------------------------------------------------- the loaders themselves


def load_lite(folder: Path | str, class_name: str | None = None) -> dict:
    """The tensors of the model that diffusers' `from_pretrained` makes of a Lite folder.

    Its kernels are downloaded code for a GPU. Nothing here runs them, so an empty module stands in their place, and the
    checks for a GPU are answered.
    """
    import os
    import types
    from unittest import mock

    os.environ["DIFFUSERS_TRUST_REMOTE_KERNELS"] = "true"
    import diffusers
    import torch
    from diffusers.utils import constants, import_utils

    kernels = types.ModuleType("kernels")
    kernels.get_kernel = lambda *_, **__: types.SimpleNamespace(ops=types.SimpleNamespace())
    name = class_name or json.loads((Path(folder) / "config.json").read_text())["_class_name"]
    with (
        mock.patch.dict(sys.modules, {"kernels": kernels}),
        mock.patch.object(import_utils, "_kernels_available", True),
        mock.patch.object(import_utils, "_kernels_version", "99.0"),
        mock.patch.object(constants, "DIFFUSERS_TRUST_REMOTE_KERNELS", True),
        mock.patch.object(torch.cuda, "is_available", lambda: True),
        mock.patch.object(torch.cuda, "get_device_capability", lambda *_: (12, 0)),
    ):
        model = getattr(diffusers, name).from_pretrained(str(folder), torch_dtype=torch.bfloat16, device_map=None)
    return dict(model.state_dict())


def main() -> int:
    file = read(sys.argv[1])
    wrong = 0
    for loader, found in faults(file).items():
        print(f"{loader}: {'ok' if not found else ''}")
        wrong += len(found)
        for fault in found[:20]:
            print(f"  {fault}")
        if len(found) > 20:
            print(f"  … and {len(found) - 20} more")
    if wrong == 0:
        for name, layer in layers(file).items():
            n, k = layer.weight.shape
            norm_of = float(np.sqrt((layer.weight**2).mean()))
            print(f"{name}: {layer.kind} {n}×{k}, rank {layer.down.shape[0] if layer.kind != 'awq' else 0}, rms {norm_of:.6g}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
