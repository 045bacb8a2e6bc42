"""The checker is itself checked: it reads what an independent writer writes, and refuses what is broken on purpose.

The writer lays arrays out as the public packer does, by splitting axes and permuting them; the checker computes where each
element is. Nothing of mixdown runs here.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nunchaku_rules as rules

RANK = 16

# ---------------------------------------------------------------- a writer


def bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to bfloat16, as its bits."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def back(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def rounded(values: np.ndarray) -> np.ndarray:
    return back(bf16(values))


def pack_codes(codes: np.ndarray) -> bytes:
    n, k = codes.shape
    axes = codes.reshape(n // 128, 8, 2, 8, k // 64, 2, 4, 8)  # block, pack, q, g, tile, h, t, r
    registers = axes.transpose(0, 4, 1, 3, 6, 2, 5, 7).astype(np.uint32)
    return (registers << np.arange(0, 32, 4, dtype=np.uint32)).sum(-1).astype("<u4").tobytes()


def pack_vectors(bits: np.ndarray) -> bytes:
    n, groups = bits.shape
    return bits.reshape(n // 128, 8, 2, 4, 2, groups).transpose(0, 5, 1, 3, 2, 4).tobytes()


def pack_micro(codes: np.ndarray) -> bytes:
    n, groups = codes.shape
    return codes.reshape(n // 128, 4, 4, 8, groups // 4, 4).transpose(0, 4, 3, 2, 1, 5).tobytes()


def pack_factor(bits: np.ndarray, down: bool) -> bytes:
    rows, cols = bits.shape
    tiles = bits.reshape(rows // 16, 16, cols // 16, 16).transpose((2, 0, 1, 3) if down else (0, 2, 1, 3))
    lanes = tiles.reshape(*tiles.shape[:2], 2, 8, 2, 4, 2)  # q, g, h, t, e
    return lanes.transpose(0, 1, 3, 5, 2, 4, 6).tobytes()


def pack_awq(codes: np.ndarray) -> bytes:
    n, k = codes.shape
    words = codes.astype(np.uint16).reshape(-1, 4, 8)
    words = (words << np.array([0, 4, 8, 12], np.uint16)[:, None]).sum(1).astype("<u2")
    return words.reshape(n // 4, 4, k // 64, 16).transpose(0, 2, 1, 3).tobytes()


def save(path: Path, arrays: dict[str, rules.Array], metadata: dict[str, str] | None) -> Path:
    header: dict = {} if metadata is None else {"__metadata__": metadata}
    at = 0
    for name, array in arrays.items():
        header[name] = {"dtype": array.dtype, "shape": array.shape, "data_offsets": [at, at + len(array.raw)]}
        at += len(array.raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(a.raw for a in arrays.values()))
    return path


def plain(values: np.ndarray) -> rules.Array:
    return rules.Array("BF16", values.shape, bf16(values).tobytes())


def vector(values: np.ndarray) -> rules.Array:
    return rules.Array("BF16", values.shape, pack_vectors(bf16(values)[:, None]))


def nearest(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """The index of the nearest of the levels."""
    return np.searchsorted((ascending[1:] + ascending[:-1]) / 2, values)


def w4a4(
    name: str, weight: np.ndarray, bias: np.ndarray | None, precision: str, classic: bool, shift: bool = False
) -> dict[str, rules.Array]:
    """A layer with smoothing factors that are not 1, and a branch by a full decomposition."""
    n, k = weight.shape
    smooth = rounded(np.exp(np.sin(np.arange(k)) / 4))
    smoothed = weight * smooth
    # A decomposition of the smaller square is faster.
    if n > k:
        _, v = np.linalg.eigh(smoothed.T @ smoothed)
        v = v[:, ::-1].T
        u, s = smoothed @ v[:RANK].T, np.ones(RANK)
    else:
        _, u = np.linalg.eigh(smoothed @ smoothed.T)
        u = u[:, ::-1]
        v, s = (u[:, :RANK].T @ smoothed), np.ones(RANK)
    up, down = bf16(u[:, :RANK] * s[:RANK]), bf16(v[:RANK] / smooth)
    residual = smoothed - back(up) @ (back(down) * smooth)
    parts: dict[str, rules.Array] = {}
    if precision == "int4":
        scales = bf16(np.abs(residual.reshape(n, -1, 64)).max(-1) / 7)
        steps = np.repeat(back(scales), 64, axis=1)
        codes = np.clip(np.round(residual / steps), -7, 7).astype(np.int64)
        quantized = codes * steps
        parts["wscales"] = rules.Array("BF16", (k // 64, n), pack_vectors(scales))
    else:
        tensor = rounded(np.array([np.abs(residual).max() / (6 * 448)]))
        wanted = np.abs(residual.reshape(n, -1, 16)).max(-1) / 6 / tensor
        scales = nearest(wanted, rules.E4M3[:0x7F]).astype(np.uint8)
        steps = np.repeat(rules.E4M3[scales], 16, axis=1) * tensor
        steps[steps == 0] = 1
        ratio = residual / steps
        codes = nearest(np.abs(ratio), rules.E2M1[:8]) | (ratio < 0) << 3
        quantized = rules.E2M1[codes] * np.repeat(rules.E4M3[scales], 16, axis=1) * tensor
        parts["wscales"] = rules.Array("F8_E4M3", (k // 16, n), pack_micro(scales))
        # Fused layers of three have a scale for each channel instead.
        if n == 3 * k:
            parts["wcscales"] = vector(np.full(n, tensor[0]))
        else:
            parts["wtscale"] = plain(tensor)
    if bias is not None:
        if shift and precision == "int4":
            bias = bias - rules.GELU_SHIFT * (quantized / smooth).sum(1)
        parts["bias"] = vector(bias)
    parts["qweight"] = rules.Array("I8", (n, k // 2), pack_codes(codes & 15))
    words = ("smooth", "smooth_orig", "lora_down", "lora_up")
    if not classic:
        words = ("smooth_factor", "smooth_factor_orig", "proj_down", "proj_up")
    parts |= {
        words[0]: vector(smooth),
        words[1]: vector(np.ones(k)),
        words[2]: rules.Array("BF16", (k, RANK), pack_factor(down, down=True)),
        words[3]: rules.Array("BF16", (n, RANK), pack_factor(up, down=False)),
    }
    return {f"{name}.{part}": array for part, array in parts.items()}


def awq(name: str, weight: np.ndarray, bias: np.ndarray, fields: int) -> dict[str, rules.Array]:
    n, k = weight.shape
    bias = bias.reshape(fields, -1).copy()
    if fields > 1:
        bias[sorted({1, fields - 2})] += 1
    bias = bias.T.reshape(n)
    weight = weight.reshape(fields, -1, k).transpose(1, 0, 2).reshape(n, -1, 64)
    low, high = rounded(weight.min(-1)), weight.max(-1)
    scales = rounded((high - low) / 15)
    codes = np.clip(np.round((weight - low[..., None]) / scales[..., None]), 0, 15).astype(np.uint8).reshape(n, k)
    return {
        f"{name}.qweight": rules.Array("I32", (n // 4, k // 2), pack_awq(codes)),
        f"{name}.wscales": plain(scales.T.copy()),
        f"{name}.wzeros": plain(low.T.copy()),
        f"{name}.bias": plain(bias),
    }


# ---------------------------------------------------------------- tiny models

FLUX = {
    "_class_name": "FluxTransformer2DModel",
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 64,
    "num_attention_heads": 2,
    "joint_attention_dim": 96,
    "pooled_projection_dim": 48,
    "guidance_embeds": True,
    "axes_dims_rope": [16, 24, 24],
    "in_channels": 16,
}
QWEN = {
    "_class_name": "QwenImageTransformer2DModel",
    "num_layers": 1,
    "attention_head_dim": 64,
    "num_attention_heads": 2,
    "joint_attention_dim": 96,
    "in_channels": 16,
    "out_channels": 4,
    "axes_dims_rope": [16, 24, 24],
}
ZIMAGE = {
    "_class_name": "ZImageTransformer2DModel",
    "dim": 384,
    "n_layers": 1,
    "n_refiner_layers": 1,
    "n_heads": 3,
    "n_kv_heads": 3,
    "cap_feat_dim": 64,
    "axes_dims": [32, 48, 48],
    "in_channels": 16,
}
CONFIGS = {"flux": FLUX, "qwen": QWEN, "zimage": ZIMAGE}

COMFY = {
    "model_class": "Flux",
    "model_config": {
        "image_model": "flux",
        "in_channels": 4,
        "out_channels": 4,
        "patch_size": 2,
        "depth": 1,
        "depth_single_blocks": 1,
        "hidden_size": 128,
        "num_heads": 2,
        "mlp_ratio": 4.0,
        "context_in_dim": 96,
        "vec_in_dim": 48,
        "axes_dim": [16, 24, 24],
        "theta": 10000,
        "qkv_bias": True,
        "guidance_embed": True,
        "disable_unet_model_creation": True,
    },
}


def metadata_of(config: dict, precision: str, **more: object) -> dict[str, str]:
    dtype, group = ("int4", 64) if precision == "int4" else ("fp4_e2m1_all", 16)
    part = {"dtype": dtype, "scale_dtype": None, "group_size": group}
    quantization = {"method": "svdquant", "weight": part, "activation": part, "rank": RANK} | more
    return {
        "config": json.dumps(config),
        "quantization_config": json.dumps(quantization),
        "model_class": "Nunchaku" + config["_class_name"],
        "comfy_config": json.dumps(COMFY if config is FLUX else {}),
    }


class Tiny:
    """A random model in diffusers' names, and the arrays of its file."""

    def __init__(self, kind: str, precision: str):
        self.random = np.random.default_rng(7)
        self.source: dict[str, np.ndarray] = {}
        self.arrays: dict[str, rules.Array] = {}
        self.precision, self.kind = precision, kind
        getattr(self, kind)()
        config = CONFIGS[kind]
        table = {"flux": rules.flux_table, "qwen": rules.qwen_table}.get(kind)
        table = table(config, precision, RANK) if table else rules.zimage_table(config, precision, RANK, False)
        quantized = {name.rsplit(".", 1)[0] for name in table if name.endswith(".qweight")}
        stored = {rules.flux_name(name) for name in self.arrays}
        for name, (_, shape) in table.items():
            if name not in stored and name.rsplit(".", 1)[0] not in quantized:
                if kind == "flux" and ".attn.norm" in name:
                    name = name.replace(".attn.", ".")
                self.arrays[name] = plain(self.random.normal(0, 1, shape))
        self.metadata = metadata_of(config, precision, **({"skip_refiners": False} if kind == "zimage" else {}))

    def linear(self, name: str, n: int, k: int, bias: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
        weight = rounded(self.random.normal(0, 1 / 16, (n, k)))
        self.source[f"{name}.weight"] = weight
        if not bias:
            return weight, None
        self.source[f"{name}.bias"] = rounded(self.random.normal(0, 1, n))
        return weight, self.source[f"{name}.bias"]

    def put(self, name: str, *parts: str, n: int, k: int, bias: bool = True, shift: bool = False) -> None:
        """A W4A4 layer of one or several of diffusers', with `n` rows each."""
        made = [self.linear(part, n, k, bias) for part in parts]
        weight = np.vstack([w for w, _ in made])
        biases = np.concatenate([b for _, b in made]) if bias else None
        self.arrays |= w4a4(name, weight, biases, self.precision, self.kind == "flux", shift)

    def modulation(self, name: str, fields: int, d: int) -> None:
        self.arrays |= awq(name, *self.linear(name, fields * d, d), fields)

    def flux(self) -> None:
        d, at = 128, "transformer_blocks.0"
        self.modulation(f"{at}.norm1.linear", 6, d)
        self.modulation(f"{at}.norm1_context.linear", 6, d)
        self.put(f"{at}.qkv_proj", *(f"{at}.attn.to_{x}" for x in "qkv"), n=d, k=d)
        self.put(f"{at}.qkv_proj_context", *(f"{at}.attn.add_{x}_proj" for x in "qkv"), n=d, k=d)
        self.put(f"{at}.out_proj", f"{at}.attn.to_out.0", n=d, k=d)
        self.put(f"{at}.out_proj_context", f"{at}.attn.to_add_out", n=d, k=d)
        for stored, source in (("mlp", "ff"), ("mlp_context", "ff_context")):
            self.put(f"{at}.{stored}_fc1", f"{at}.{source}.net.0.proj", n=4 * d, k=d)
            self.put(f"{at}.{stored}_fc2", f"{at}.{source}.net.2", n=d, k=4 * d, shift=True)
        at = "single_transformer_blocks.0"
        self.modulation(f"{at}.norm.linear", 3, d)
        self.put(f"{at}.qkv_proj", *(f"{at}.attn.to_{x}" for x in "qkv"), n=d, k=d)
        self.put(f"{at}.mlp_fc1", f"{at}.proj_mlp", n=4 * d, k=d)
        weight, bias = self.linear(f"{at}.proj_out", d, 5 * d)
        self.arrays |= w4a4(f"{at}.out_proj", weight[:, :d], np.zeros(d), self.precision, True)
        self.arrays |= w4a4(f"{at}.mlp_fc2", weight[:, d:], bias, self.precision, True, shift=True)

    def qwen(self) -> None:
        d, at = 128, "transformer_blocks.0"
        self.modulation(f"{at}.img_mod.1", 6, d)
        self.modulation(f"{at}.txt_mod.1", 6, d)
        self.put(f"{at}.attn.to_qkv", *(f"{at}.attn.to_{x}" for x in "qkv"), n=d, k=d)
        self.put(f"{at}.attn.add_qkv_proj", *(f"{at}.attn.add_{x}_proj" for x in "qkv"), n=d, k=d)
        for name in ("attn.to_out.0", "attn.to_add_out"):
            self.put(f"{at}.{name}", f"{at}.{name}", n=d, k=d)
        for mlp in ("img_mlp", "txt_mlp"):
            self.put(f"{at}.{mlp}.net.0.proj", f"{at}.{mlp}.net.0.proj", n=4 * d, k=d)
            self.put(f"{at}.{mlp}.net.2", f"{at}.{mlp}.net.2", n=d, k=4 * d, shift=True)

    def zimage(self) -> None:
        d, hidden = 384, 1024
        for at in ("layers.0", "noise_refiner.0", "context_refiner.0"):
            self.put(f"{at}.attention.to_qkv", *(f"{at}.attention.to_{x}" for x in "qkv"), n=d, k=d, bias=False)
            self.put(f"{at}.attention.to_out.0", f"{at}.attention.to_out.0", n=d, k=d, bias=False)
            ff = f"{at}.feed_forward"
            self.put(f"{ff}.net.0.proj", f"{ff}.w3", f"{ff}.w1", n=hidden, k=d, bias=False)
            self.put(f"{ff}.net.2", f"{ff}.w2", n=d, k=hidden, bias=False)

    def file(self) -> rules.File:
        return rules.File(Path("tiny"), dict(self.arrays), dict(self.metadata))


@pytest.fixture(scope="module")
def tiny() -> Callable[[str, str], Tiny]:
    made: dict[tuple[str, str], Tiny] = {}

    def get(kind: str, precision: str) -> Tiny:
        return made.get((kind, precision)) or made.setdefault((kind, precision), Tiny(kind, precision))

    return get


ALL = [(kind, precision) for kind in CONFIGS for precision in ("int4", "fp4")]

# ---------------------------------------------------------------- what is right passes


@pytest.mark.parametrize(("kind", "precision"), ALL)
def test_what_is_right_passes(tiny, tmp_path: Path, kind: str, precision: str) -> None:
    made = tiny(kind, precision)
    path = save(tmp_path / "tiny.safetensors", made.arrays, made.metadata)
    assert {name: found for name, found in rules.faults(path).items() if found} == {}


@pytest.mark.parametrize(("kind", "precision"), ALL)
def test_weights_come_back_in_their_order(tiny, kind: str, precision: str) -> None:
    made = tiny(kind, precision)
    read = rules.unfused(made.file())
    assert read.keys() == made.source.keys()
    for name, source in made.source.items():
        error = np.linalg.norm(read[name] - source) / np.linalg.norm(source)
        # Biases are exact but for bfloat16; weights have four bits.
        assert error < (0.01 if name.endswith(".bias") else 0.15), f"{name}: {error}"


def test_a_wrong_order_would_be_seen(tiny) -> None:
    """Arrays in natural order give weights that have nothing to do with the source's."""
    made = tiny("flux", "int4")
    file = made.file()
    layer = "transformer_blocks.0.mlp_fc1"
    array = file.arrays[f"{layer}.qweight"]
    codes = rules.unpack_codes(array)
    natural = (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8)
    file.arrays[f"{layer}.qweight"] = rules.Array("I8", array.shape, natural.tobytes())
    source = made.source["transformer_blocks.0.ff.net.0.proj.weight"]
    wrong = rules.layers(file)[layer].weight
    assert np.linalg.norm(wrong - source) / np.linalg.norm(source) > 0.5


# ---------------------------------------------------------------- what is broken is refused

QKV = {
    "flux": "transformer_blocks.0.qkv_proj",
    "qwen": "transformer_blocks.0.attn.to_qkv",
    "zimage": "layers.0.attention.to_qkv",
}


RULES = {rule.__name__: rule for rule in (rules.flux_v1, rules.flux_v2, rules.comfy_flux, rules.qwen, rules.zimage)}
RULES["numbers"] = rules.numbers


def broken(file: rules.File, loader: str, part: str) -> None:
    # All of a file's loaders take a while; one that has no name of its own is asked for by the file's class.
    found = RULES[loader](file) if loader in RULES else rules.faults(file)[loader]
    assert any(part in fault for fault in found), f"{loader}: {found}"


LOADERS = {"flux": ["flux_v1", "flux_v2"], "qwen": ["qwen"], "zimage": ["zimage"]}


@pytest.mark.parametrize(("kind", "precision"), ALL)
def test_every_array_is_needed(tiny, kind: str, precision: str) -> None:
    made = tiny(kind, precision)
    for name in made.arrays:
        file = made.file()
        del file.arrays[name]
        # Scales of a tensor have a default; that a layer has none of either kind is a matter of its numbers.
        if name.endswith(("wtscale", "wcscales")):
            if name.startswith((QKV[kind], f"{QKV[kind].split('.')[0]}.0.mlp")):
                assert any("neither" in fault for fault in rules.numbers(file)), name
            continue
        for loader in LOADERS[kind]:
            found = RULES[loader](file)
            assert any("missing" in fault for fault in found), f"{loader}: {name}"


@pytest.mark.parametrize("kind", CONFIGS)
def test_types_and_shapes_are_exact(tiny, kind: str) -> None:
    made = tiny(kind, "int4")

    def check(part: str, change: Callable[[rules.Array], rules.Array], expected: str) -> None:
        file = made.file()
        name = f"{QKV[kind]}.{part}"
        file.arrays[name] = change(file.arrays[name])
        for loader in LOADERS[kind]:
            broken(file, loader, expected)

    check("qweight", lambda a: rules.Array("U8", a.shape, a.raw), "U8")
    check("qweight", lambda a: rules.Array(a.dtype, a.shape[::-1], a.raw), "(64, 384)" if kind != "zimage" else "(192, 1152)")
    check("wscales", lambda a: rules.Array(a.dtype, a.shape[::-1], a.raw), "wscales")
    check("wscales", lambda a: rules.Array("F32", a.shape, a.raw * 2), "F32")


def test_keys_that_int4_must_not_have(tiny) -> None:
    for kind in CONFIGS:
        for part, shape in (("wtscale", (1,)), ("wcscales", (384,)), ("wzeros", (2, 384))):
            file = tiny(kind, "int4").file()
            file.arrays[f"{QKV[kind]}.{part}"] = plain(np.ones(shape))
            broken(file, LOADERS[kind][-1], "unexpected")


def test_metadata_that_is_missing_or_wrong(tiny) -> None:
    def check(kind: str, loader: str, change: Callable[[rules.File], None], expected: str, precision: str = "int4") -> None:
        file = tiny(kind, precision).file()
        change(file)
        broken(file, loader, expected)

    def without(key: str) -> Callable[[rules.File], None]:
        return lambda file: file.metadata.pop(key)

    def quantization(**more: object) -> Callable[[rules.File], None]:
        def change(file: rules.File) -> None:
            value = json.loads(file.metadata["quantization_config"]) | more
            file.metadata["quantization_config"] = json.dumps({k: v for k, v in value.items() if v is not None})

        return change

    check("flux", "metadata", lambda f: setattr(f, "metadata", None), "NoneType")
    check("flux", "metadata", without("config"), "KeyError")
    check("flux", "flux_v1", without("quantization_config"), "KeyError")
    check("qwen", "comfy", without("quantization_config"), "KeyError")
    check("flux", "flux_v2", quantization(rank=32), "(384, 16), not (384, 32)")
    check("zimage", "zimage", quantization(rank=None), "not (384, 32)")
    check("zimage", "zimage", quantization(skip_refiners=True), "noise_refiner.0.attention.to_q.weight` is missing")
    check("zimage", "comfy", quantization(weight=None), "KeyError: 'weight'")
    check("flux", "flux_v1", quantization(weight={"dtype": "fp4_e2m1_all", "group_size": 32}), "groups of 16")
    check("flux", "flux_v1", quantization(weight={"dtype": "int4", "group_size": 64}), "the scales say fp4", "fp4")
    check("flux", "comfy_flux", without("comfy_config"), "KeyError")
    check("flux", "comfy_flux", lambda f: f.metadata.update(comfy_config="{}"), "model_class")
    depth = COMFY | {"model_config": COMFY["model_config"] | {"depth": 19}}
    check("flux", "comfy_flux", lambda f: f.metadata.update(comfy_config=json.dumps(depth)), "depth is 19")
    schnell = COMFY | {"model_class": "FluxSchnell"}
    check("flux", "comfy_flux", lambda f: f.metadata.update(comfy_config=json.dumps(schnell)), "guidance")


def test_numbers_that_cannot_be(tiny) -> None:
    def check(part: str, value: float, expected: str) -> None:
        file = tiny("flux", "int4").file()
        array = file.arrays[f"{QKV['flux']}.{part}"]
        values = array.values()
        values[5] = value
        file.arrays[f"{QKV['flux']}.{part}"] = rules.Array("BF16", array.shape, bf16(values).tobytes())
        broken(file, "numbers", expected)

    check("wscales", float("nan"), "not finite")
    check("smooth", 0.0, "not above zero")


def test_a_scale_that_z_images_kernel_leaves_out(tiny) -> None:
    file = tiny("zimage", "fp4").file()
    layer = QKV["zimage"]
    file.arrays[f"{layer}.wtscale"] = plain(file.arrays.pop(f"{layer}.wcscales").values()[:1])
    broken(file, "zimage", "never applied")


# ---------------------------------------------------------------- tables


def test_tables_count_the_published_files() -> None:
    flux = {"guidance_embeds": True}
    assert len(rules.flux_table(flux, "int4", 32)) == 2604
    assert len(rules.qwen_table({"out_channels": 16}, "int4", 128)) == 4093
    assert len(rules.zimage_table({}, "int4", 32, skip_refiners=False)) == 1099


@pytest.mark.parametrize("kind", CONFIGS)
def test_tables_are_diffusers_models(kind: str) -> None:
    """What is not quantized has diffusers' names and shapes, and the rest are its layers."""
    diffusers = pytest.importorskip("diffusers")
    torch = pytest.importorskip("torch")
    config = {k: v for k, v in CONFIGS[kind].items() if k != "_class_name"}
    with torch.device("meta"):
        model = getattr(diffusers, CONFIGS[kind]["_class_name"])(**config)
    theirs = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    made = Tiny(kind, "int4")
    for name, source in made.source.items():
        assert theirs.pop(name) == source.shape, name
    ours = {rules.flux_name(name): a.shape for name, a in made.arrays.items()}
    quantized = {name.rsplit(".", 1)[0] for name in ours if name.endswith(".qweight")}
    assert {name: shape for name, shape in ours.items() if name.rsplit(".", 1)[0] not in quantized} == theirs


# ---------------------------------------------------------------- Lite


@pytest.fixture
def lite(tmp_path: Path) -> Callable[[str], tuple[Path, dict[str, np.ndarray], dict[str, rules.Array]]]:
    def make(precision: str) -> tuple[Path, dict[str, np.ndarray], dict[str, rules.Array]]:
        torch = pytest.importorskip("torch")
        diffusers = pytest.importorskip("diffusers")
        torch.manual_seed(7)
        model = diffusers.FluxTransformer2DModel(**{k: v for k, v in FLUX.items() if k != "_class_name"})
        source = {name: rounded(t.numpy()) for name, t in model.state_dict().items()}
        targets: dict[str, list[str]] = {"svdq_w4a4": [], "awq_w4a16": []}
        arrays: dict[str, rules.Array] = {}
        for name, module in model.named_modules():
            if not isinstance(module, torch.nn.Linear) or not name.startswith(("transformer", "single")):
                continue
            weight, bias = source[f"{name}.weight"], source[f"{name}.bias"]
            if "norm" in name:
                targets["awq_w4a16"].append(name)
                arrays |= awq(name, weight, bias, fields=1)
            else:
                targets["svdq_w4a4"].append(name)
                made = w4a4(name, weight, bias, "int4" if precision == "int4" else "fp4", classic=False)
                del made[f"{name}.smooth_factor_orig"]
                if precision == "nvfp4":
                    made.setdefault(f"{name}.wtscale", plain(np.ones(1)))
                    made.setdefault(f"{name}.wcscales", vector(np.ones(len(weight))))
                arrays |= made
        done = {t for ts in targets.values() for t in ts}
        arrays |= {n: plain(v) for n, v in source.items() if n.rsplit(".", 1)[0] not in done}
        group = 64 if precision == "int4" else 16
        quantization = {
            "quant_method": "nunchaku_lite",
            "compute_dtype": "bfloat16",
            "svdq_w4a4": {"precision": precision, "group_size": group, "rank": RANK, "targets": targets["svdq_w4a4"]},
            "awq_w4a16": {"precision": "int4", "group_size": 64, "targets": targets["awq_w4a16"]},
        }
        folder = tmp_path / "lite"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(FLUX | {"quantization_config": quantization}))
        save(folder / "diffusion_pytorch_model.safetensors", arrays, {"format": "pt"})
        return folder, source, arrays

    return make


@pytest.mark.parametrize("precision", ["int4", "nvfp4"])
def test_a_lite_folder(lite, precision: str) -> None:
    folder, source, arrays = lite(precision)
    assert rules.faults(folder) == {"lite": [], "numbers": []}
    for name, weight in rules.unfused(folder).items():
        error = np.linalg.norm(weight - source[name]) / np.linalg.norm(source[name])
        assert error < 0.15, f"{name}: {error}"
    torch = pytest.importorskip("torch")
    loaded = rules.load_lite(folder)
    assert loaded.keys() == arrays.keys()
    for name, tensor in loaded.items():
        assert tensor.device.type == "cpu", f"{name} was not filled"
        assert tuple(tensor.shape) == arrays[name].shape, name
        assert tensor.contiguous().view(torch.uint8).numpy().tobytes() == arrays[name].raw, name


def test_lite_folders_that_are_broken(lite) -> None:
    folder, _, _ = lite("int4")

    def check(change: Callable[[rules.File], object], expected: str) -> None:
        file = rules.read(folder)
        change(file)
        found = rules.faults(file)["lite"]
        assert any(expected in fault for fault in found), found

    layer = "transformer_blocks.0.attn.to_q"

    def section(key: str, value: object) -> Callable[[rules.File], object]:
        return lambda f: f.config["quantization_config"]["svdq_w4a4"].update({key: value})

    check(lambda f: f.config.pop("quantization_config"), "nunchaku_lite")
    check(lambda f: f.arrays.pop(f"{layer}.proj_up"), "proj_up` is missing")
    check(lambda f: f.arrays.update({f"{layer}.smooth_factor_orig": plain(np.ones(128))}), "is ignored")
    check(section("group_size", 16), "groups of 16")
    check(section("rank", 8), "multiple of 16")
    check(section("rank", 32), "not BF16 (128, 32)")
    check(section("targets", []), "not a list")
    check(section("targets", ["nowhere"]), "nowhere.qweight` is missing")
