"""Adapters baked into a model: the merged weights are PEFT's own."""

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertModel

from support import mixdown, mixdown_json, read, refused

LAYERS = ["query", "value", "dense"]
ADAPTERS = {
    "lora": LoraConfig(r=8, lora_alpha=16, target_modules=LAYERS),
    "rank stabilized": LoraConfig(r=8, lora_alpha=16, use_rslora=True, target_modules=LAYERS),
    "dora": LoraConfig(r=8, lora_alpha=16, use_dora=True, target_modules=LAYERS),
    "loha": LoHaConfig(r=4, alpha=8, target_modules=LAYERS),
    "lokr": LoKrConfig(r=4, alpha=8, target_modules=LAYERS),
}


@pytest.fixture(scope="session", params=ADAPTERS)
def adapted(request, tiny_bert, tmp_path_factory):
    """An adapter of random numbers, and the weights that PEFT merges it into."""
    torch.manual_seed(13)
    model = get_peft_model(BertModel.from_pretrained(tiny_bert), ADAPTERS[request.param])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # DoRA's magnitudes are norms; everything else is about as small as training makes it.
            parameter.data = parameter * 1.1 if "magnitude" in name else torch.randn_like(parameter) * 0.05
    folder = tmp_path_factory.mktemp("adapter") / request.param.replace(" ", "-")
    model.save_pretrained(folder)
    return folder, dict(model.merge_and_unload().state_dict())


@pytest.mark.parametrize("what", ["folder", "file"])
def test_merged_weights_are_peft_s(adapted, what, tiny_bert, tmp_path):
    folder, merged = adapted
    adapter = folder if what == "folder" else folder / "adapter_model.safetensors"
    out = tmp_path / "merged.safetensors"
    mixdown("convert", tiny_bert, "--to", "float", "--dtype", "f32", "--lora", adapter, "-o", out)
    ours, source = load_file(out), read(tiny_bert)
    changed = [name for name in source if not torch.equal(merged[name], source[name])]
    assert changed and ours.keys() == source.keys()
    for name in source:
        if name in changed:
            torch.testing.assert_close(ours[name], merged[name], rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(ours[name], source[name]), name


def test_bfloat16_weights_are_peft_s_rounded(adapted, tiny_bert, tmp_path):
    folder, merged = adapted
    out = tmp_path / "merged.safetensors"
    mixdown("convert", tiny_bert, "--to", "float", "--dtype", "bf16", "--lora", folder, "-o", out)
    for name, ours in load_file(out).items():
        if ours.dtype == torch.bfloat16:
            # Half a step of bfloat16, where the sums differ in their last bits by another rounding.
            torch.testing.assert_close(ours.float(), merged[name], rtol=2.0**-8, atol=1e-6)


def test_a_conversion_quantizes_what_was_merged(adapted, tiny_bert, tmp_path):
    folder, merged = adapted
    out, source = tmp_path / "out.safetensors", tmp_path / "merged"
    mixdown("convert", tiny_bert, "--to", "comfy", "--dtype", "int8", "--lora", folder, "-o", out)
    model = BertModel.from_pretrained(tiny_bert)
    model.load_state_dict(merged)
    model.save_pretrained(source)
    expected = tmp_path / "expected.safetensors"
    mixdown("convert", source, "--to", "comfy", "--dtype", "int8", "-o", expected)
    ours, theirs = load_file(out), load_file(expected)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if tensor.dtype == torch.int8:
            # A sum in another order may move a code to its neighbour.
            assert (ours[name].int() - tensor.int()).abs().max() <= 1, name


def test_strength_scales_and_zero_is_nothing(tiny_bert, tmp_path):
    source = read(tiny_bert)
    name = "encoder.layer.0.attention.self.query"
    file = tmp_path / "diff.safetensors"
    save_file({f"diffusion_model.{name}.diff": torch.full_like(source[f"{name}.weight"], 0.5)}, file)
    for strength, moved in [("", 0.5), (":2", 1.0), (":-1", -0.5), (":0", 0.0)]:
        out = tmp_path / f"out{len(strength)}{moved}.safetensors"
        mixdown("convert", tiny_bert, "--to", "float", "--dtype", "f32", "--lora", f"{file}{strength}", "-o", out)
        torch.testing.assert_close(load_file(out)[f"{name}.weight"], source[f"{name}.weight"] + moved)


def test_what_has_no_place_is_told(tiny_bert, tmp_path):
    source = read(tiny_bert)
    name = "encoder.layer.0.attention.self.query"
    shape = source[f"{name}.weight"].shape
    file = tmp_path / "partly.safetensors"
    save_file({f"{name}.diff": torch.ones(shape), "encoder.layer.0.attention.self.quary.diff": torch.ones(shape)}, file)
    plan = mixdown_json("plan", tiny_bert, "--to", "comfy", "--lora", file)
    row = next(row for row in plan["tensors"] if row["name"] == f"{name}.weight")
    assert not row["excluded"]
    nothing = tmp_path / "nothing.safetensors"
    save_file({"some.other.model.diff": torch.ones(4, 4)}, nothing)
    error = refused("plan", tiny_bert, "--lora", nothing)
    assert "none of its 1 modules has a place" in error and "some.other.model" in error
