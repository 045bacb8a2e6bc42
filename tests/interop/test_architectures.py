"""Tiny random models of other libraries and shapes: saved by the library, converted, loaded and run."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
import sdnq  # (tells diffusers and transformers of the format)
import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    UNet2DConditionModel,
)
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from support import largest_difference, load_strict, mixdown_json, quantized_rows, read, sdnq_layers

FLAGS = ["--to", "sdnq", "--dtype", "uint4", "--group-size", "64"]
FLOAT = ["--to", "float", "--dtype", "f32"]

# The same in mixdown's flags and in sdnq's arguments.
SAME = {
    "uint4, groups of 64": (FLAGS, {"weights_dtype": "uint4", "group_size": 64}),
    "int8": (["--to", "sdnq", "--dtype", "int8"], {"weights_dtype": "int8", "group_size": -1}),
}
# Ways of storing whose parts mixdown computes otherwise than sdnq.
OTHER = {
    "rank 16": [*FLAGS, "--svd-rank", "16"],
    "rotated": [*FLAGS, "--hadamard"],
    "levels": [*FLAGS, "--codebook"],
    "levels, rotated, rank 16": [*FLAGS, "--svd-rank", "16", "--hadamard", "--codebook"],
    "a custom float": ["--to", "sdnq", "--dtype", "float6_e3m2fn", "--group-size", "32"],
}
RECIPES = {name: flags for name, (flags, _) in SAME.items()} | OTHER
EVERY_RECIPE = {"diffusers Flux", "diffusers UNet", "BERT"}


# ---------------------------------------------------------------- models


def flux() -> FluxTransformer2DModel:
    torch.manual_seed(11)
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=128,
        pooled_projection_dim=64,
        axes_dims_rope=(8, 12, 12),
        guidance_embeds=True,
    )


def qwen_image() -> QwenImageTransformer2DModel:
    torch.manual_seed(15)
    return QwenImageTransformer2DModel(
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=128,
        axes_dims_rope=(8, 12, 12),
    )


def unet() -> UNet2DConditionModel:
    torch.manual_seed(16)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def bert() -> BertModel:
    torch.manual_seed(17)
    return BertModel(
        BertConfig(
            vocab_size=256,
            hidden_size=192,
            intermediate_size=320,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=96,
        )
    )


def clip() -> CLIPTextModel:
    torch.manual_seed(18)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=256,
            hidden_size=192,
            intermediate_size=320,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=96,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def qwen3(tied: bool) -> Qwen3ForCausalLM:
    torch.manual_seed(12)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=256,
            hidden_size=128,
            intermediate_size=320,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=64,
            tie_word_embeddings=tied,
        )
    )


@torch.no_grad()
def run_flux(model: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(13)
    return model(
        hidden_states=torch.randn(1, 16, 16, generator=generator),
        encoder_hidden_states=torch.randn(1, 5, 128, generator=generator),
        pooled_projections=torch.randn(1, 64, generator=generator),
        timestep=torch.tensor([0.5]),
        img_ids=torch.randint(0, 4, (16, 3), generator=generator).float(),
        txt_ids=torch.zeros(5, 3),
        guidance=torch.tensor([3.5]),
    ).sample


@torch.no_grad()
def run_qwen_image(model: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(13)
    return model(
        hidden_states=torch.randn(1, 16, 64, generator=generator),
        encoder_hidden_states=torch.randn(1, 5, 128, generator=generator),
        encoder_hidden_states_mask=torch.ones(1, 5, dtype=torch.int64),
        timestep=torch.tensor([0.5]),
        img_shapes=[[(1, 4, 4)]],
    ).sample


@torch.no_grad()
def run_unet(model: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(13)
    sample = torch.randn(1, 4, 16, 16, generator=generator)
    return model(sample, torch.tensor([10]), torch.randn(1, 7, 64, generator=generator)).sample


@torch.no_grad()
def run_qwen3(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=torch.arange(3, 35).unsqueeze(0)).logits


@torch.no_grad()
def run_encoder(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=torch.arange(3, 35).unsqueeze(0)).last_hidden_state


def load_pipeline(folder: Path) -> DiffusionPipeline:
    return DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, **ABSENT)


@torch.no_grad()
def run_pipeline(pipeline: DiffusionPipeline) -> torch.Tensor:
    generator = torch.Generator().manual_seed(14)
    return pipeline(
        prompt_embeds=torch.randn(1, 5, 128, generator=generator),
        pooled_prompt_embeds=torch.randn(1, 64, generator=generator),
        height=64,
        width=64,
        num_inference_steps=2,
        output_type="latent",
        generator=generator,
    ).images


def diffusers_model(cls: type) -> Callable[[Path], torch.nn.Module]:
    return lambda folder: cls.from_pretrained(folder, torch_dtype=torch.float32).eval()


def transformers_model(cls: type) -> Callable[[Path], torch.nn.Module]:
    return lambda folder: cls.from_pretrained(folder, dtype=torch.float32).eval()


@dataclass(frozen=True)
class Architecture:
    """How a model is made, loaded by its own library and run; and what is quantized of it besides matrices."""

    make: Callable[[], torch.nn.Module]
    load: Callable[[Path], torch.nn.Module]
    run: Callable[[torch.nn.Module], torch.Tensor]
    flags: list[str] = field(default_factory=list)
    arguments: dict[str, bool] = field(default_factory=dict)


CONVOLUTIONS = (["--quant-conv"], {"quant_conv": True})
EMBEDDINGS = (["--quant-embedding"], {"quant_embedding": True})
load_flux, load_qwen3 = diffusers_model(FluxTransformer2DModel), transformers_model(AutoModelForCausalLM)
CASES = {
    "diffusers Flux": Architecture(flux, load_flux, run_flux),
    "diffusers Qwen-Image": Architecture(qwen_image, diffusers_model(QwenImageTransformer2DModel), run_qwen_image),
    "diffusers UNet": Architecture(unet, diffusers_model(UNet2DConditionModel), run_unet, *CONVOLUTIONS),
    "Qwen3": Architecture(lambda: qwen3(tied=False), load_qwen3, run_qwen3),
    "Qwen3, tied": Architecture(lambda: qwen3(tied=True), load_qwen3, run_qwen3),
    "BERT": Architecture(bert, transformers_model(BertModel), run_encoder, *EMBEDDINGS),
    "CLIP's text encoder": Architecture(clip, transformers_model(CLIPTextModel), run_encoder, *EMBEDDINGS),
}
ABSENT = dict.fromkeys(["vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"])
LOADERS = ["its own library", "sdnq.load_sdnq_model"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    """A model of CASES, saved by its own library."""

    @cache
    def save(name: str) -> Path:
        folder = tmp_path_factory.mktemp("architecture") / "model"
        CASES[name].make().save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module")
def loaded(convert) -> Callable[[str, Path], torch.nn.Module]:
    """A converted model in one of LOADERS; it is only looked at, so once is enough."""

    @cache
    def load(name: str, loader: str, folder: Path) -> torch.nn.Module:
        return (CASES[name].load if loader == LOADERS[0] else load_strict)(folder)

    return load


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    """A Flux pipeline's folder with a scheduler and a transformer, and nothing else."""
    folder = tmp_path_factory.mktemp("pipeline") / "flux"
    FluxPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), transformer=flux(), **ABSENT).save_pretrained(folder)
    return folder


# ---------------------------------------------------------------- models by themselves


with_case = pytest.mark.parametrize("name", CASES)
with_recipe = pytest.mark.parametrize(
    ("name", "recipe"), [(n, r) for n in CASES for r in RECIPES if r in SAME or n in EVERY_RECIPE]
)
with_loader = pytest.mark.parametrize("loader", LOADERS)


@with_recipe
@with_loader
def test_exactly_the_planned_layers_are_quantized_modules(saved, convert, loaded, name, recipe, loader):
    flags = [*RECIPES[recipe], *CASES[name].flags]
    planned = quantized_rows(mixdown_json("plan", saved(name), *flags))
    layers = sdnq_layers(loaded(name, loader, convert(saved(name), *flags)))
    assert layers.keys() == planned.keys()
    classes = {layer.original_class.__name__ for layer in layers.values()}
    assert ("Conv2d" in classes) == ("--quant-conv" in flags)
    assert ("Embedding" in classes) == ("--quant-embedding" in flags)


@with_recipe
@with_loader
def test_the_library_computes_the_weights_that_mixdown_decodes(
    saved, convert, decode, loaded, name, recipe, loader, note
):
    folder = convert(saved(name), *RECIPES[recipe], *CASES[name].flags)
    difference = largest_difference(loaded(name, loader, folder), read(decode(folder)))
    note("tiny models: largest difference of a weight", difference)
    assert difference <= 1e-6


@with_recipe
@with_loader
def test_a_forward_pass_gives_what_the_decoded_weights_give(saved, convert, loaded, name, recipe, loader, note):
    folder = convert(saved(name), *RECIPES[recipe], *CASES[name].flags)
    decoded = loaded(name, LOADERS[0], convert(folder, *FLOAT))
    assert not sdnq_layers(decoded)
    want, got = CASES[name].run(decoded), CASES[name].run(loaded(name, loader, folder))
    assert got.isfinite().all()
    difference = (want - got).abs().max() / want.abs().max()
    note("tiny models: largest difference of an output, of its maximum", difference)
    assert difference <= 1e-5


@with_case
@with_loader
@pytest.mark.parametrize("recipe", SAME)
def test_a_model_is_the_one_that_the_library_quantizes_itself(
    saved, convert, loaded, name, recipe, loader, note
):
    flags, arguments = SAME[recipe]
    folder = convert(saved(name), *flags, *CASES[name].flags)
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    own = sdnq.sdnq_post_load_quant(
        CASES[name].load(saved(name)),
        torch_dtype=torch.float32,
        add_skip_keys=False,
        modules_to_not_convert=config["modules_to_not_convert"],
        **arguments,
        **CASES[name].arguments,
    )
    quantized = loaded(name, loader, folder)
    assert sdnq_layers(own).keys() == sdnq_layers(quantized).keys()
    for key, tensor in own.state_dict().items():
        assert torch.equal(quantized.state_dict()[key], tensor), key
    want, got = CASES[name].run(own), CASES[name].run(quantized)
    difference = ((want - got).norm() / want.norm()).item()
    note("tiny models: relative difference of an output from the library's own", difference)
    # The parts are the same; torch adds up products in an order that hangs on where they lie.
    assert difference <= 1e-6


def test_a_tied_head_stays_tied(tmp_path, convert):
    qwen3(tied=True).save_pretrained(tmp_path / "tied")
    folder = convert(tmp_path / "tied", *FLAGS)
    assert "lm_head.weight" not in read(folder)
    model = load_qwen3(folder)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


# ---------------------------------------------------------------- a pipeline


def test_a_pipelines_folder_is_complete(pipeline, convert):
    folder = convert(pipeline, *FLAGS)
    files = {path.relative_to(pipeline) for path in pipeline.rglob("*") if path.is_file()}
    converted = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert files <= converted
    config = json.loads((folder / "transformer" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "sdnq"


def test_a_pipeline_runs_as_its_decoded_weights_do(pipeline, convert, note):
    quantized = load_pipeline(convert(pipeline, *FLAGS))
    decoded = load_pipeline(convert(convert(pipeline, *FLAGS), *FLOAT))
    planned = quantized_rows(mixdown_json("plan", pipeline, *FLAGS))
    assert sdnq_layers(quantized.transformer).keys() == planned.keys()
    assert not sdnq_layers(decoded.transformer)
    want, got = run_pipeline(decoded), run_pipeline(quantized)
    assert got.isfinite().all()
    difference = (want - got).abs().max() / want.abs().max()
    note("pipeline: largest difference of a latent, of its maximum", difference)
    assert difference <= 1e-5


def test_a_component_named_by_hand_is_that_component(pipeline, convert):
    folder = convert(pipeline, "--component", "transformer", *FLAGS)
    got = sdnq_layers(load_flux(folder / "transformer" if (folder / "transformer").is_dir() else folder))
    assert got.keys() == quantized_rows(mixdown_json("plan", pipeline, *FLAGS)).keys()
