"""ComfyUI's formats: what mixdown writes, as comfy-kitchen reads and computes with it; and the bytes comfy-kitchen makes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import kitchen
from support import BINARY, header, mixdown, mixdown_json, quantized_rows, read, refused

# What is asked of mixdown for each way comfy-kitchen has, and one that it cannot write.
WAYS = {
    "float8_e4m3fn": ["--dtype", "float8_e4m3fn"],
    "float8_e5m2": ["--dtype", "float8_e5m2"],
    "int8_tensor": ["--dtype", "int8_tensorwise", "--group-size", "-2"],
    "int8_row": ["--dtype", "int8_tensorwise"],
    "int8_convrot": ["--dtype", "int8_tensorwise", "--convrot=64"],
    "nvfp4": ["--dtype", "nvfp4"],
    "mxfp8": ["--dtype", "mxfp8"],
    "convrot_w4a4": ["--dtype", "convrot_w4a4", "--convrot=64"],
    "w4a8": ["--dtype", "asym_w4a8_int8", "--convrot=64"],
    "w6a8": ["--dtype", "asym_w6a8_int8", "--convrot=64"],
    "awq": ["--dtype", "awq_w4a16"],
}
SEARCHED = {f"{way}, scales by mse": [*flags, "--scale-search", "mse"] for way, flags in WAYS.items()}
# comfy-kitchen's arithmetic is mixdown's, operation for operation.
EXACT = ["float8_e4m3fn", "float8_e5m2", "int8_tensor", "int8_row", "nvfp4", "mxfp8"]


@pytest.fixture(scope="session")
def flux(tmp_path_factory) -> Path:
    """A random FLUX transformer of one double and one single block, as diffusers saves it."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(3)
    model = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=96,
        pooled_projection_dim=64,
        axes_dims_rope=(8, 12, 12),
        guidance_embeds=True,
    )
    folder = tmp_path_factory.mktemp("flux") / "transformer"
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(request) -> Path:
    return request.getfixturevalue(request.param)


def mixdown_output(*args: object) -> str:
    """What the binary prints, whether it succeeds or not."""
    return subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, check=False).stdout


def converted(convert, source: Path, flags: list[str]) -> Path:
    return convert(source, "--to", "comfy", *flags, out="out.safetensors")


def unquantized(source: Path, out: Path, *flags: str) -> Path:
    """A file for ComfyUI in which nothing is quantized: only names change."""
    mixdown("convert", source, "--to", "comfy", "--exclude", ".", *flags, "-o", out)
    return out


def shapes_of(arrays, decoded):
    return {layer: tuple(decoded[f"{layer}.weight"].shape) for layer in kitchen.layers(arrays)}


@pytest.mark.parametrize("model", ["flux", "minilm"], indirect=True)
@pytest.mark.parametrize("way", [*WAYS, *SEARCHED])
def test_comfy_kitchen_decodes_what_mixdown_does(model, way, convert, decode):
    file = converted(convert, model, (WAYS | SEARCHED)[way])
    arrays, decoded = kitchen.load(file), read(decode(file))
    layers = shapes_of(arrays, decoded)
    assert layers
    for layer, shape in layers.items():
        theirs = kitchen.dequantize(arrays, layer, shape)
        ours = decoded[f"{layer}.weight"]
        # A rotation adds up in another order; everything else is the same operations.
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6 * ours.abs().amax().item())


@pytest.mark.parametrize("way", WAYS)
def test_linear_layers_run(way, flux, convert, decode):
    file = converted(convert, flux, WAYS[way])
    arrays, decoded = kitchen.load(file), read(decode(file))
    generator = torch.Generator().manual_seed(5)
    for layer, shape in shapes_of(arrays, decoded).items():
        if shape[1] % 16:
            continue
        activations = torch.randn(8, shape[1], generator=generator).bfloat16()
        weight = kitchen.tensor(arrays, layer, shape, torch.bfloat16)
        out = torch.nn.functional.linear(activations, weight).float()
        expected = activations.float() @ decoded[f"{layer}.weight"].T
        # Activations are rounded to the format's own, in bfloat16 sums: a few per cent at 8 bits, more at 4.
        error = ((out[:, : shape[0]] - expected).norm() / expected.norm()).item()
        assert error < (0.2 if way == "convrot_w4a4" else 0.05), (layer, error)


@pytest.mark.parametrize("way", EXACT)
def test_bytes_are_those_of_comfy_kitchen(way, minilm, convert):
    source = read(minilm)
    arrays = load_file(converted(convert, minilm, WAYS[way]))
    for layer in kitchen.layers(arrays):
        for name, theirs in kitchen.quantize(way, layer, source[f"{layer}.weight"]).items():
            if name.endswith(".comfy_quant"):
                assert json.loads(bytes(arrays[name])) == json.loads(bytes(theirs))
                continue
            ours = arrays[name]
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, name
            assert torch.equal(ours.reshape(-1).view(torch.uint8), theirs.reshape(-1).view(torch.uint8)), name


@pytest.mark.parametrize("way", [way for way in WAYS if way != "awq"])
def test_what_comfy_kitchen_wrote_is_read(way, tmp_path):
    weight = torch.randn(96, 192, generator=torch.Generator().manual_seed(11)) * 0.05
    arrays = kitchen.quantize(way, "blocks.0.fc", weight)
    file = tmp_path / "kitchen.safetensors"
    save_file({name: array.contiguous() for name, array in arrays.items()}, file)
    back = tmp_path / "back.safetensors"
    mixdown("convert", file, "--to", "float", "--dtype", "f32", "-o", back)
    ours = load_file(back)
    assert ours.keys() == {"blocks.0.fc.weight"}
    theirs = kitchen.dequantize(arrays, "blocks.0.fc", weight.shape)
    torch.testing.assert_close(ours["blocks.0.fc.weight"], theirs, rtol=0, atol=1e-6)


def test_the_header_says_the_same(flux, convert):
    file = converted(convert, flux, ["--dtype", "nvfp4", "--quant-metadata"])
    arrays, said = load_file(file), json.loads(header(file)["_quantization_metadata"])
    assert said["format_version"] == "1.0"
    assert said["layers"] == {layer: json.loads(bytes(arrays[f"{layer}.comfy_quant"])) for layer in kitchen.layers(arrays)}


def test_layers_are_described_in_mixdown_s_own_words(flux, convert, decode):
    with_tensors = load_file(converted(convert, flux, ["--dtype", "mxfp8"]))
    without = load_file(converted(convert, flux, ["--dtype", "mxfp8", "--no-metadata-tensors"]))
    own = {name for name in with_tensors if name.endswith(".weight_metadata")}
    assert own == {f"{layer}.weight_metadata" for layer in kitchen.layers(with_tensors)}
    assert with_tensors.keys() - own == without.keys()


def test_a_smaller_error_is_promised_and_kept(minilm):
    plain = quantized_rows(mixdown_json("trial", minilm, "--to", "comfy", "--dtype", "nvfp4"))
    searched = quantized_rows(
        mixdown_json("trial", minilm, "--to", "comfy", "--dtype", "nvfp4", "--scale-search", "mse")
    )
    for name, row in searched.items():
        assert row["mse"] < plain[name]["mse"], name


def test_folders_are_refused(flux, tmp_path):
    error = refused("convert", flux, "--to", "comfy", "-o", tmp_path / "folder", code=2)
    assert "single files" in error and not (tmp_path / "folder").exists()


# ---------------------------------------------------------------- names


def test_a_diffusers_folder_becomes_a_file_with_the_original_layers(flux, tmp_path):
    # Nothing is quantized: every byte must come through.
    file = unquantized(flux, tmp_path / "original.safetensors")
    source, original = read(flux), load_file(file)
    def stacked(*names: str) -> torch.Tensor:
        return torch.cat([source[f"{name}.weight"] for name in names])

    double, single = "transformer_blocks.0.attn", "single_transformer_blocks.0"
    shift, scale = source["norm_out.linear.weight"].chunk(2)
    expected = {
        "img_in": source["x_embedder.weight"],
        "double_blocks.0.img_attn.qkv": stacked(f"{double}.to_q", f"{double}.to_k", f"{double}.to_v"),
        "double_blocks.0.txt_attn.qkv": stacked(f"{double}.add_q_proj", f"{double}.add_k_proj", f"{double}.add_v_proj"),
        "single_blocks.0.linear1": stacked(*(f"{single}.attn.to_{x}" for x in "qkv"), f"{single}.proj_mlp"),
        "single_blocks.0.linear2": source[f"{single}.proj_out.weight"],
        # diffusers has them the other way round.
        "final_layer.adaLN_modulation.1": torch.cat([scale, shift]),
    }
    for layer, tensor in expected.items():
        assert torch.equal(original[f"{layer}.weight"], tensor), layer
    assert sum(t.numel() for t in original.values()) == sum(t.numel() for t in source.values())


def test_names_go_there_and_back(flux, convert, tmp_path):
    file = unquantized(flux, tmp_path / "p.safetensors", "--key-prefix", "model.diffusion_model.")
    assert all(name.startswith("model.diffusion_model.") for name in load_file(file))
    back = load_file(convert(file, "--to", "float", "--dtype", "bf16", "--diffusers-names", out="back.safetensors"))
    source = read(flux)
    assert back.keys() == source.keys()
    for name, tensor in source.items():
        assert torch.equal(back[name], tensor), name


def test_what_is_kept_comes_back_to_the_byte(flux, convert):
    file = convert(flux, "--to", "comfy", "--dtype", "int8", out="out.safetensors")
    quantized = set(kitchen.layers(load_file(file)))
    assert "double_blocks.0.img_attn.qkv" in quantized and "img_in" not in quantized
    back = load_file(convert(file, "--to", "float", "--dtype", "bf16", "--diffusers-names", out="back.safetensors"))
    source = read(flux)
    assert back.keys() == source.keys()
    same = [name for name, tensor in source.items() if torch.equal(back[name], tensor)]
    assert {name for name in source if name.startswith(("x_embedder", "context_embedder", "norm_out", "proj_out"))} <= set(same)
    for name, tensor in source.items():
        # int8 by row: half a step of the row's greatest value, and bfloat16 above it.
        step = tensor.float().abs().amax() / 127
        assert (back[name].float() - tensor.float()).abs().max() <= step, name


def test_names_are_kept_when_asked(flux, tmp_path):
    file = tmp_path / "kept.safetensors"
    mixdown("convert", flux, "--to", "comfy", "--dtype", "int8", "--keep-names", "-o", file)
    assert "convert without --keep-names" in mixdown_output("validate", file)
    layers = kitchen.layers(load_file(file))
    assert "transformer_blocks.0.attn.to_q" in layers


# ---------------------------------------------------------------- older files


def test_scaled_fp8_files_are_read(tmp_path):
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(2)) * 0.1
    scale = weight.abs().amax() / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    file = tmp_path / "legacy.safetensors"
    save_file(
        {
            "blocks.0.fc.weight": codes,
            "blocks.0.fc.scale_weight": scale.reshape(1),
            "blocks.0.fc.scale_input": torch.ones(1),
            "blocks.0.fc.bias": torch.zeros(64, dtype=torch.bfloat16),
            "scaled_fp8": torch.empty(2, dtype=torch.float8_e4m3fn),
        },
        file,
    )
    back, upgraded = tmp_path / "back.safetensors", tmp_path / "upgraded.safetensors"
    mixdown("convert", file, "--to", "float", "--dtype", "f32", "-o", back)
    ours = load_file(back)
    assert ours.keys() == {"blocks.0.fc.weight", "blocks.0.fc.bias"}
    assert torch.equal(ours["blocks.0.fc.weight"], codes.float() * scale)
    mixdown("convert", file, "--to", "comfy", "-o", upgraded)
    arrays = load_file(upgraded)
    assert json.loads(bytes(arrays["blocks.0.fc.comfy_quant"])) == {"format": "float8_e4m3fn"}
    # Its own greatest code is 448, so nothing moves.
    assert torch.equal(arrays["blocks.0.fc.weight"].view(torch.uint8), codes.view(torch.uint8))
    assert "scaled_fp8" not in arrays and "blocks.0.fc.scale_weight" not in arrays


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("float8_e4m3fn_rowwise", (64,), torch.float8_e4m3fn),
        ("float8_e4m3fn_blockwise", (2, 4), torch.float8_e4m3fn),
        ("float8_e4m3fn_block3d", (64, 4, 1), torch.float8_e4m3fn),
        ("int8_blockwise", (2, 4), torch.int8),
    ],
)
def test_formats_of_a_custom_node_are_read(name, shape, dtype, tmp_path):
    generator = torch.Generator().manual_seed(4)
    scale = torch.rand(shape, generator=generator) * 0.01 + 1e-3
    codes = (torch.randn(64, 128, generator=generator) * 40).round().clamp(-127, 127).to(dtype)
    said = torch.tensor(list(json.dumps({"format": name, "group_size": 32}).encode()), dtype=torch.uint8)
    file, back = tmp_path / "custom.safetensors", tmp_path / "back.safetensors"
    save_file({"fc.weight": codes, "fc.weight_scale": scale, "fc.comfy_quant": said}, file)
    mixdown("convert", file, "--to", "float", "--dtype", "f32", "-o", back)
    if scale.ndim == 1:
        whole = scale.reshape(64, 1).expand(64, 128)
    else:
        flat = scale.reshape(scale.shape[0], -1)
        whole = flat.repeat_interleave(64 // flat.shape[0], 0).repeat_interleave(128 // flat.shape[1], 1)
    assert torch.equal(load_file(back)["fc.weight"], codes.float() * whole)


# ---------------------------------------------------------------- another writer


@pytest.mark.parametrize(("theirs", "ours"), [([], []), (["--int8", "--scaling_mode", "row"], ["--dtype", "int8"])])
def test_layers_are_those_of_convert_to_quant(theirs, ours, tmp_path):
    generator = torch.Generator().manual_seed(1)
    source = {"norm.scale": torch.ones(128).bfloat16()}
    for i in range(2):
        source[f"double_blocks.{i}.img_attn.qkv.weight"] = (torch.randn(384, 128, generator=generator) * 0.03).bfloat16()
        source[f"double_blocks.{i}.img_attn.qkv.bias"] = (torch.randn(384, generator=generator) * 0.01).bfloat16()
    save_file(source, tmp_path / "source.safetensors")
    files = [tmp_path / "ctq.safetensors", tmp_path / "mixdown.safetensors"]
    command = [Path(sys.executable).parent / "ctq", "-i", tmp_path / "source.safetensors", "-o", files[0]]
    run = subprocess.run(
        [*map(str, command), "--simple", "--comfy_quant", "--optimizer", "original", *theirs],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    flags = ["--to", "comfy", *ours, "--no-metadata-tensors"]
    mixdown("convert", tmp_path / "source.safetensors", *flags, "-o", files[1])
    ctq, mine = map(load_file, files)
    assert ctq.keys() == mine.keys()
    for name, tensor in ctq.items():
        if name.endswith(".comfy_quant"):
            said = json.loads(bytes(tensor))
            # Passed over by ComfyUI: the shape of the scale tells.
            for key in ("orig_dtype", "per_row"):
                said.pop(key, None)
            assert json.loads(bytes(mine[name])) == said
        elif name.endswith(".bias"):
            # Its correction is of random activations; mixdown leaves biases alone.
            assert torch.equal(mine[name], source[name])
        else:
            assert mine[name].dtype == tensor.dtype and mine[name].shape == tensor.shape, name
            if name.endswith(".weight_scale") and tensor.numel() > 1:
                # It stores the reciprocal of 127 / amax, which is rounded twice, and ours once: together less than
                # 3 · 2^-24 of a value below 2^(e+1), which is less than three steps of 2^(e-23).
                steps = mine[name].view(torch.int32) - tensor.view(torch.int32)
                assert steps.abs().max() <= 2, name
                continue
            if tensor.dtype == torch.int8:
                # By such a scale a value moves by 127 · 3 · 2^-24 of a step and its division's rounding: only the code of
                # what lies so near to a half, which it often does exactly as BF16, is another, by one.
                steps = (mine[name].int() - tensor.int()).abs()
                exact = source[name].double() / mine[f"{name}_scale"].double()
                from_half = (exact.frac().abs() - 0.5).abs()[steps > 0]
                assert steps.max() <= 1 and (from_half <= 127 * 4 * 2**-24).all(), name
                continue
            assert torch.equal(mine[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
