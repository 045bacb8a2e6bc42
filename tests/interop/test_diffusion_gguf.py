"""Diffusion models as GGUF are what ComfyUI-GGUF loads: names, shapes and bytes are its converter's, and diffusers'
own conversion of single files takes them back to the model they were made from."""

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from diffusers import (
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    WanTransformer3DModel,
)
from diffusers.loaders import single_file_utils
from transformers import T5Config, T5EncoderModel

from comfy_gguf_rules import SHAPE, architecture, converted, faults, state_dict
from support import mixdown, mixdown_json, read, refused

KIND = gguf.GGMLQuantizationType
WIDTH = dict(num_attention_heads=4, attention_head_dim=64)


def flux() -> torch.nn.Module:
    return FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=2,
        joint_attention_dim=256,
        pooled_projection_dim=64,
        axes_dims_rope=(16, 24, 24),
        guidance_embeds=True,
        **WIDTH,
    )


def sd3() -> torch.nn.Module:
    return SD3Transformer2DModel(
        sample_size=8,
        pos_embed_max_size=8,
        in_channels=16,
        num_layers=2,
        joint_attention_dim=64,
        caption_projection_dim=256,
        pooled_projection_dim=64,
        **WIDTH,
    )


def wan() -> torch.nn.Module:
    return WanTransformer3DModel(text_dim=64, freq_dim=32, ffn_dim=512, num_layers=2, rope_max_seq_len=32, **WIDTH)


def unet() -> torch.nn.Module:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def convert_flux(state: dict) -> dict:
    """diffusers' conversion, which has the width of the large model in it."""
    source = inspect.getsource(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers)
    made = dict(vars(single_file_utils))
    exec(source.replace("inner_dim = 3072", "inner_dim = 256"), made)
    return made["convert_flux_transformer_checkpoint_to_diffusers"](state)


@dataclass
class Case:
    build: Callable[[], torch.nn.Module]
    arch: str
    dtype: torch.dtype
    back: Callable[[dict], dict] | None = None


CASES = {
    "flux": Case(flux, "flux", torch.bfloat16, convert_flux),
    "sd3": Case(sd3, "sd3", torch.float16, single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers),
    "wan": Case(wan, "wan", torch.bfloat16, single_file_utils.convert_wan_transformer_to_diffusers),
    "wan of floats": Case(wan, "wan", torch.float32, single_file_utils.convert_wan_transformer_to_diffusers),
    "unet": Case(unet, "sd1", torch.float32),
}
# What the mixtures give some weights that the test models have.
RAISED = {
    "flux": {"double_blocks.0.img_attn.qkv.weight": KIND.Q5_K, "single_blocks.0.linear1.weight": KIND.Q4_K},
    "sd3": {"joint_blocks.0.x_block.attn.qkv.weight": KIND.Q5_K, "joint_blocks.0.x_block.mlp.fc1.weight": KIND.Q4_K},
    "wan": {
        "blocks.1.self_attn.v.weight": KIND.Q6_K,
        "blocks.1.ffn.2.weight": KIND.Q6_K,
        "blocks.1.ffn.0.weight": KIND.Q4_K,
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("diffusion")
    made = {}
    for name, case in CASES.items():
        torch.manual_seed(23)
        made[name] = root / name
        model = case.build().to(case.dtype)
        model.save_pretrained(made[name], max_shard_size="1MB" if name == "flux" else "1GB")
    return made


def tensors(path: Path) -> dict[str, tuple]:
    every = gguf.GGUFReader(path).tensors
    return {t.name: (t.tensor_type, t.data.tobytes(), tuple(int(n) for n in reversed(t.shape))) for t in every}


@pytest.mark.parametrize("name", CASES)
def test_floats_are_the_converters(folders, tmp_path, name):
    case, out, original = CASES[name], tmp_path / "f.gguf", tmp_path / "original.safetensors"
    dtype = "bf16" if case.dtype == torch.bfloat16 else "f16"
    mixdown("convert", folders[name], "--to", "gguf", "--dtype", dtype, "-o", out)
    assert not faults(out)
    reader = gguf.GGUFReader(out)
    assert architecture(reader) == case.arch
    # The state dict that the converter would be given: the original names, nothing quantized.
    mixdown("convert", folders[name], "--to", "comfy", "--exclude", "", "-o", original)
    state = read(original)
    expected, shapes = converted(case.arch, state)
    found = tensors(out)
    assert found.keys() == expected.keys()
    for tensor, want in expected.items():
        assert found[tensor] == want, f"{tensor}: {found[tensor][0].name} {found[tensor][2]}, {want[0].name} {want[2]}"
    stated = {k.removeprefix(SHAPE) for k in reader.fields if k.startswith(SHAPE)}
    assert stated == shapes.keys() and bool(stated) == (case.arch == "sd1")
    for tensor, values in state_dict(out).items():
        assert values.shape == tuple(state[tensor].shape), tensor
    # A single file of those names makes the same tensors.
    again = tmp_path / "again.gguf"
    mixdown("convert", original, "--to", "gguf", "--dtype", dtype, "-o", again)
    assert tensors(again) == found
    assert list(tensors(again)) == list(found)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.back])
def test_diffusers_takes_the_names_back(folders, tmp_path, name):
    case, out = CASES[name], tmp_path / "f.gguf"
    dtype = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f16"}[case.dtype]
    mixdown("convert", folders[name], "--to", "gguf", "--dtype", dtype, "-o", out)
    back = case.back({k: torch.from_numpy(v) for k, v in state_dict(out).items()})
    before = read(folders[name])
    assert back.keys() == before.keys()
    for tensor, values in before.items():
        near = 1e-3 if case.dtype == torch.float32 else 0
        torch.testing.assert_close(back[tensor], values.float(), rtol=near, atol=near, msg=tensor)


@pytest.mark.parametrize("name", ["flux", "sd3", "wan", "unet"])
@pytest.mark.parametrize(("dtype", "most"), [("Q8_0", 0.01), ("Q4_K_M", 0.1)])
def test_quantized_files_decode_to_what_mixdown_says(folders, tmp_path, name, dtype, most):
    out, plain, floats = tmp_path / "q.gguf", tmp_path / "p.gguf", tmp_path / "floats.safetensors"
    report = mixdown_json("convert", folders[name], "--to", "gguf", "--dtype", dtype, "-o", out)
    assert not faults(out)
    mixdown("convert", folders[name], "--to", "gguf", "--dtype", "f16", "-o", plain)
    mixdown("convert", out, "--to", "float", "--dtype", "f32", "-o", floats)
    theirs, ours, source = tensors(out), read(floats), state_dict(plain)
    quantized = [n for n, (kind, _, _) in theirs.items() if kind not in (KIND.F32, KIND.F16, KIND.BF16)]
    rows = {row["name"]: row for row in report["tensors"]}
    assert sorted(quantized) == sorted(n for n, row in rows.items() if not row["excluded"] and row["to"] != "F16")
    assert quantized
    for tensor, values in state_dict(out).items():
        assert np.array_equal(values.ravel(), ours[tensor].numpy().ravel()), tensor
        if tensor in quantized:
            error = np.square(values - source[tensor]).mean() / np.square(source[tensor]).mean()
            assert error**0.5 < most, tensor
    if dtype == "Q4_K_M":
        for tensor, kind in RAISED.get(name, {}).items():
            assert theirs[tensor][0] == kind, (tensor, theirs[tensor][0].name, rows[tensor])
    mixdown("diff", plain, out, "--check")


def test_a_file_is_requantized_by_the_same_rules(folders, tmp_path):
    plain, twice, once = tmp_path / "p.gguf", tmp_path / "2.gguf", tmp_path / "1.gguf"
    mixdown("convert", folders["wan"], "--to", "gguf", "--dtype", "bf16", "-o", plain)
    mixdown("convert", plain, "--dtype", "Q4_K_M", "-o", twice)
    mixdown("convert", folders["wan"], "--dtype", "Q4_K_M", "-o", once)
    assert tensors(twice) == tensors(once)


def test_the_transformer_of_a_pipeline_is_taken(folders, tmp_path):
    pipeline, out, alone = tmp_path / "pipeline", tmp_path / "p.gguf", tmp_path / "a.gguf"
    shutil.copytree(folders["flux"], pipeline / "transformer")
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (pipeline / "model_index.json").write_text(json.dumps(index))
    mixdown("convert", pipeline, "--to", "gguf", "--dtype", "Q8_0", "-o", out)
    mixdown("convert", folders["flux"], "--to", "gguf", "--dtype", "Q8_0", "-o", alone)
    assert tensors(out) == tensors(alone)


def test_every_way_to_say_more_works(folders, tmp_path):
    def kinds(*flags: str) -> dict[str, str]:
        plan = mixdown_json("plan", folders["wan"], "--to", "gguf", *flags)
        return {row["name"]: row["to"] for row in plan["tensors"]}

    value, up = "blocks.0.self_attn.v.weight", "blocks.0.ffn.0.weight"
    assert kinds("--dtype", "Q4_K_M")[value] == "Q6_K"
    assert kinds("--dtype", "Q4_K_M", "--pure")[value] == "Q4_K"
    assert kinds("--dtype", "Q4_K_M", "--exclude", r"ffn\.0\.weight")[up] == "BF16"
    kept = kinds("--dtype", "Q8_0", "--keep-names")
    assert kept["blocks.0.attn1.to_q.weight"] == "Q8_0" and kept["proj_out.weight"] == "BF16"
    assert "IQ" in refused("convert", folders["wan"], "--dtype", "IQ4_XS", "-o", tmp_path / "i.gguf", code=2)


@pytest.mark.parametrize("single", [False, True])
def test_a_text_encoder_gets_the_names_that_are_mapped_back(tmp_path, single):
    torch.manual_seed(29)
    config = T5Config(
        vocab_size=128, d_model=256, d_kv=64, d_ff=512, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    folder = tmp_path / "t5"
    source = folder
    if single:
        source = tmp_path / "t5xxl.safetensors"
        (folder / "model.safetensors").rename(source)
    for dtype, most in [("f16", 1e-3), ("Q8_0", 0.01), ("Q4_K_M", 0.1)]:
        out = tmp_path / f"t5-{dtype}.gguf"
        mixdown("convert", source, "--to", "gguf", "--dtype", dtype, "-o", out)
        assert not faults(out, text=True)
        before, after = read(source), state_dict(out, text=True)
        before.pop("encoder.embed_tokens.weight", None) if "shared.weight" in before else None
        assert after.keys() == before.keys()
        for tensor, values in before.items():
            error = np.square(after[tensor] - values.numpy()).mean() / max(np.square(values.numpy()).mean(), 1e-12)
            assert error**0.5 < most, (dtype, tensor)
    reader = gguf.GGUFReader(tmp_path / "t5-f16.gguf")
    keys = {k: f.parts[f.data[0]][0] for k, f in reader.fields.items() if k.startswith("t5encoder.")}
    assert keys["t5encoder.block_count"] == 2 and keys["t5encoder.attention.key_length"] == 64
    assert keys["t5encoder.attention.relative_buckets_count"] == 32
