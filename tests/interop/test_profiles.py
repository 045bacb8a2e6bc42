"""Profiles as SDNQConfig: the library takes what mixdown exports, does what the plan says, and its own config comes back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sdnq
import torch
from sdnq import SDNQConfig
from sdnq.quantizer import sdnq_post_load_quant
from transformers import AutoModel

from support import load_strict, mixdown, mixdown_json, quantized_rows, sdnq_layers

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
    "floats and wide integers": """
        target = "sdnq"
        defaults = { dtype = "float4_e2m1fn", group_size = 32 }
        [[rule]]
        pattern = 'key'
        dtype = "float8_e4m3fn"
        [[rule]]
        pattern = 'query'
        dtype = "int12"
    """,
    "embedding tables": """
        target = "sdnq"
        quant_embedding = true
        defaults = { dtype = "uint4", group_size = 32 }
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
    "rotations and codebooks": """
        target = "sdnq"
        preset = false
        [defaults]
        dtype = "uint4"
        hadamard = true
        codebook = true
        [[rule]]
        pattern = 'query'
        dtype = "int8"
        [[rule]]
        pattern = 'key'
        hadamard = false
        [[rule]]
        pattern = 'value'
        hadamard = 16
        codebook = false
    """,
    "a table by hand": """
        target = "sdnq"
        [tensor."embeddings.word_embeddings.weight"]
        dtype = "uint4"
    """,
    "tables with a branch": """
        target = "sdnq"
        quant_embedding = true
        defaults = { dtype = "uint4", group_size = 64, svd_rank = 8 }
    """,
}
CASES = [(name, known) for known in (False, True) for name in PROFILES] + [(name, True) for name in WITH_MODEL]
# The library sorts the entries when it saves. Where one must come before another mixdown warns; for a model, none must.
IN_ANY_ORDER = [case for case in CASES if case != ("rules over each other", False)]

Recipe = tuple[str, int, int, int, bool]


def title(case: tuple[str, bool]) -> str:
    return f"{case[0]}{', for the model' if case[1] else ''}"


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """The tiny BERT with more words, so that its table is large enough to be quantized."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=128, hidden_size=192, intermediate_size=320, num_hidden_layers=1, num_attention_heads=4
    )
    folder = tmp_path_factory.mktemp("profiles") / "bert"
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def exported(request, bert, tmp_path) -> tuple[Path, dict]:
    """A profile's file, and its settings as the library's."""
    name, known = request.param
    profile = tmp_path / "profile.toml"
    profile.write_text((PROFILES | WITH_MODEL)[name])
    return profile, json.loads(mixdown("profile", "export", profile, "--as", "sdnq", *[bert][:known]))


def quantized_by_sdnq(model: torch.nn.Module, config: dict) -> torch.nn.Module:
    return sdnq_post_load_quant(model, torch_dtype=torch.float32, quantization_config=SDNQConfig.from_dict(config))


def load(folder: Path) -> torch.nn.Module:
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def recipes(model: torch.nn.Module) -> dict[str, Recipe]:
    """What each quantized layer became: dtype, group size, rank, rotation, codebook."""

    def recipe(layer: torch.nn.Module) -> Recipe:
        d = layer.sdnq_dequantizer
        rank = 0 if layer.svd_down is None else layer.svd_down.shape[0]
        return d.weights_dtype, d.group_size, rank, d.hadamard_group_size if d.use_hadamard else 0, d.use_codebook

    return {name: recipe(layer) for name, layer in sdnq_layers(model).items()}


def written(folder: Path, profile: Path, convert: Callable) -> dict[str, Recipe]:
    """What the library finds in a conversion with that profile; the plan says the same, as far as it says it."""
    found = recipes(load_strict(convert(folder, "--profile", profile)))
    rows = quantized_rows(mixdown_json("plan", folder, "--profile", profile))
    assert {name: (row["to"], row["group_size"], row["svd_rank"]) for name, row in rows.items()} == {
        name: recipe[:3] for name, recipe in found.items()
    }
    return found


@pytest.mark.parametrize("exported", CASES, ids=title, indirect=True)
def test_the_library_does_what_mixdown_does(bert, exported, convert):
    profile, config = exported
    found = written(bert, profile, convert)
    assert found
    assert recipes(quantized_by_sdnq(load(bert), config)) == found


@pytest.mark.parametrize("exported", IN_ANY_ORDER, ids=title, indirect=True)
def test_what_the_library_saves_comes_back(bert, exported, convert, tmp_path):
    profile, config = exported
    # Whatever the library adds while it quantizes: names of layers, and its own order.
    sdnq.save_sdnq_model(quantized_by_sdnq(load(bert), config), str(tmp_path / "saved"))
    saved = tmp_path / "saved" / "quantization_config.json"
    mixdown("profile", "import", saved, "--as", "sdnq", "-o", tmp_path / "back.toml")
    assert written(bert, tmp_path / "back.toml", convert) == written(bert, profile, convert)


def test_convolutions(convert, tmp_path):
    from diffusers import UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    make = lambda: UNet2DModel(  # noqa: E731
        block_out_channels=(64, 128), layers_per_block=1, norm_num_groups=8, sample_size=16, **blocks
    )
    torch.manual_seed(7)
    make().save_pretrained(tmp_path / "unet")
    (tmp_path / "p.toml").write_text("""
        target = "sdnq"
        quant_conv = true
        defaults = { dtype = "uint4", group_size = 32 }
        [[rule]]
        pattern = 'resnets\\.\\d+\\.conv1'
        dtype = "int8"
    """)
    config = json.loads(
        mixdown("profile", "export", tmp_path / "p.toml", "--as", "sdnq", tmp_path / "unet")
    )
    model = UNet2DModel.from_pretrained(tmp_path / "unet", torch_dtype=torch.float32)
    rows = quantized_rows(mixdown_json("plan", tmp_path / "unet", "--profile", tmp_path / "p.toml"))
    planned = {name: (row["to"], row["group_size"], row["svd_rank"]) for name, row in rows.items()}
    assert {len(row["shape"]) for row in rows.values()} == {2, 4}
    assert {name: r[:3] for name, r in recipes(quantized_by_sdnq(model, config)).items()} == planned


def test_the_config_beside_a_conversion_is_a_profile(bert, convert, tmp_path):
    flags = ["--dtype", "uint4", "--svd-rank", "4", "--exclude", "pooler", "--tensor-type", "query=int8,group_size=-2"]
    flags += ["--hadamard=32", "--quant-embedding"]
    folder = convert(bert, *flags)
    mixdown("profile", "import", folder / "config.json", "--as", "sdnq", "-o", tmp_path / "p.toml")
    assert written(bert, tmp_path / "p.toml", convert) == recipes(load_strict(folder))


def test_configs_of_the_library_mean_the_same_to_mixdown(bert, convert, tmp_path):
    config = SDNQConfig(
        weights_dtype="uint4",
        use_svd=True,
        svd_rank=4,
        use_hadamard=True,
        hadamard_group_size=48,
        modules_to_not_convert=["pooler", "encoder.layer.*.output*"],
        modules_dtype_dict={"minimum_6bit": ["query"], "int8": [".encoder.layer.0.attention.self.k"]},
        modules_quant_config={"*value*": {"group_size": 32, "use_svd": False}, "attention": {"group_size": -1}},
    ).to_dict()
    (tmp_path / "quantization_config.json").write_text(json.dumps(config, default=str))
    mixdown("profile", "import", tmp_path / "quantization_config.json", "--as", "sdnq", "-o", tmp_path / "p.toml")
    assert written(bert, tmp_path / "p.toml", convert) == recipes(quantized_by_sdnq(load(bert), config))
