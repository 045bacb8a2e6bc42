"""Profiles as SDNQConfig: the library takes what mixdown exports, does what the plan says, and its own config comes back."""

import json
from pathlib import Path

import pytest
import sdnq
import torch
from sdnq import SDNQConfig
from sdnq.quantizer import sdnq_post_load_quant
from transformers import AutoModel

from support import mixdown, mixdown_json, quantized_rows, sdnq_layers

PROFILES = {
    "defaults": 'target = "sdnq"',
    "a dtype, groups and a branch": """
        target = "sdnq"
        defaults = { dtype = "uint4", group_size = 64, svd_rank = 8 }
    """,
    "rules over each other": """
        target = "sdnq"
        exclude = ['pooler']
        [defaults]
        dtype = "uint5"
        [[rule]]
        pattern = '^encoder'
        dtype = "int8"
        [[rule]]
        pattern = '^encoder\\.layer\\.0\\.attention'
        dtype = "uint4"
        group_size = 32
        [tensor."encoder.layer.0.attention.self.key.weight"]
        group_size = "row"
        svd_rank = 4
    """,
    "the last rule wins": """
        target = "sdnq"
        preset = false
        [[rule]]
        pattern = '(^|\\.)attention(\\.|$)'
        dtype = "int4"
        group_size = 64
        [[rule]]
        pattern = 'query'
        dtype = "uint3"
        group_size = 16
    """,
    "another preset": """
        target = "sdnq"
        defaults = { dtype = "int6" }
        preset = { name = "glm-image-ar", off = ['(^|\\.)lm_head(\\.|$)'] }
    """,
}
# What only the names of the model can say.
WITH_MODEL = {
    "what sdnq has no words for": """
        target = "sdnq"
        exclude = ['layer\\.\\d+\\.attention\\.self\\.key']
        [[rule]]
        pattern = 'attention\\.(self|output)\\.[a-z]+\\.weight'
        dtype = "uint4"
    """,
    "rules that cross": """
        target = "sdnq"
        include = ['encoder']
        [[rule]]
        pattern = 'output'
        dtype = "uint4"
        [[rule]]
        pattern = 'dense'
        group_size = 64
        svd_rank = 4
    """,
    "what was excluded comes back": """
        target = "sdnq"
        exclude = ['attention']
        [[rule]]
        pattern = 'query'
        keep = false
    """,
}
CASES = [(name, known) for known in (False, True) for name in PROFILES] + [(name, True) for name in WITH_MODEL]
# The library sorts the entries when it saves. Where one must come before another mixdown warns; for a model, none must.
IN_ANY_ORDER = [case for case in CASES if case != ("rules over each other", False)]


def title(case: tuple[str, bool]) -> str:
    return f"{case[0]}{', for the model' if case[1] else ''}"


@pytest.fixture
def exported(request, tiny_bert, tmp_path) -> tuple[Path, dict]:
    """A profile's file, and its settings as the library's."""
    name, known = request.param
    profile = tmp_path / "profile.toml"
    profile.write_text((PROFILES | WITH_MODEL)[name])
    return profile, json.loads(mixdown("profile", "export", profile, "--as", "sdnq", *[tiny_bert][:known]))


def quantized_by_sdnq(folder: Path, config: dict) -> torch.nn.Module:
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    return sdnq_post_load_quant(model, torch_dtype=torch.float32, quantization_config=SDNQConfig.from_dict(config))


def recipes(model: torch.nn.Module) -> dict[str, tuple]:
    """What each quantized layer became."""

    def recipe(layer: torch.nn.Module) -> tuple:
        dequantizer = layer.sdnq_dequantizer
        rank = 0 if layer.svd_down is None else layer.svd_down.shape[0]
        return dequantizer.weights_dtype, dequantizer.group_size, rank

    return {name: recipe(layer) for name, layer in sdnq_layers(model).items()}


def planned(folder: Path, profile: Path) -> dict[str, tuple]:
    rows = quantized_rows(mixdown_json("plan", folder, "--profile", profile))
    return {name: (row["to"], row["group_size"], row["svd_rank"]) for name, row in rows.items()}


@pytest.mark.parametrize("exported", CASES, ids=title, indirect=True)
def test_the_library_does_what_the_plan_says(tiny_bert, exported):
    profile, config = exported
    plan = planned(tiny_bert, profile)
    assert plan
    assert recipes(quantized_by_sdnq(tiny_bert, config)) == plan


@pytest.mark.parametrize("exported", IN_ANY_ORDER, ids=title, indirect=True)
def test_what_the_library_saves_comes_back(tiny_bert, exported, tmp_path):
    profile, config = exported
    # Whatever the library adds while it quantizes: names of layers, and its own order.
    sdnq.save_sdnq_model(quantized_by_sdnq(tiny_bert, config), str(tmp_path / "saved"))
    saved = tmp_path / "saved" / "quantization_config.json"
    mixdown("profile", "import", saved, "--as", "sdnq", "-o", tmp_path / "back.toml")
    assert planned(tiny_bert, tmp_path / "back.toml") == planned(tiny_bert, profile)


def test_the_config_beside_a_conversion_is_a_profile(tiny_bert, convert, tmp_path):
    flags = ["--dtype", "uint4", "--svd-rank", "4", "--exclude", "pooler", "--tensor-type", "query=int8,group_size=-2"]
    folder = convert(tiny_bert, *flags)
    mixdown("profile", "import", folder / "config.json", "--as", "sdnq", "-o", tmp_path / "p.toml")
    rows = quantized_rows(mixdown_json("plan", tiny_bert, *flags))
    plan = {name: (row["to"], row["group_size"], row["svd_rank"]) for name, row in rows.items()}
    assert planned(tiny_bert, tmp_path / "p.toml") == plan


def test_configs_of_the_library_mean_the_same_to_mixdown(tiny_bert, tmp_path):
    config = SDNQConfig(
        weights_dtype="uint4",
        use_svd=True,
        svd_rank=4,
        modules_to_not_convert=["pooler", "encoder.layer.*.output*"],
        modules_dtype_dict={"minimum_6bit": ["query"], "int8": [".encoder.layer.0.attention.self.k"]},
        modules_quant_config={"*value*": {"group_size": 32, "use_svd": False}, "attention": {"group_size": -1}},
    ).to_dict()
    (tmp_path / "quantization_config.json").write_text(json.dumps(config, default=str))
    mixdown("profile", "import", tmp_path / "quantization_config.json", "--as", "sdnq", "-o", tmp_path / "p.toml")
    assert planned(tiny_bert, tmp_path / "p.toml") == recipes(quantized_by_sdnq(tiny_bert, config))
