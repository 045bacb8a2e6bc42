"""Tiny random models of other libraries and shapes: saved by the library, converted, loaded and run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sdnq  # noqa: F401 (tells diffusers and transformers of the format)
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from support import largest_difference, load_strict, mixdown_json, quantized_rows, read, sdnq_layers

FLAGS = ["--to", "sdnq", "--dtype", "uint4", "--group-size", "64"]
FLOAT = ["--to", "float", "--dtype", "f32"]

Forward = Callable[[torch.nn.Module], torch.Tensor]


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
def run_qwen3(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=torch.arange(3, 35).unsqueeze(0)).logits


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


def load_flux(folder: Path) -> torch.nn.Module:
    return FluxTransformer2DModel.from_pretrained(folder, torch_dtype=torch.float32).eval()


def load_qwen3(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


CASES: dict[str, tuple[Callable[[], torch.nn.Module], Callable[[Path], torch.nn.Module], Forward]] = {
    "diffusers Flux": (flux, load_flux, run_flux),
    "Qwen3": (lambda: qwen3(tied=False), load_qwen3, run_qwen3),
    "Qwen3, tied": (lambda: qwen3(tied=True), load_qwen3, run_qwen3),
}
ABSENT = dict.fromkeys(["vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"])
LOADERS = ["its own library", "sdnq.load_sdnq_model"]


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> tuple[Path, Callable[[Path], torch.nn.Module], Forward]:
    """A saved model, its loader, and a forward pass."""
    make, load, run = CASES[request.param]
    folder = tmp_path_factory.mktemp("architecture") / "model"
    make().save_pretrained(folder)
    return folder, load, run


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    """A Flux pipeline's folder with a scheduler and a transformer, and nothing else."""
    folder = tmp_path_factory.mktemp("pipeline") / "flux"
    FluxPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), transformer=flux(), **ABSENT).save_pretrained(folder)
    return folder


# ---------------------------------------------------------------- models by themselves


@pytest.mark.parametrize("loader", LOADERS)
def test_exactly_the_planned_layers_are_quantized_modules(case, convert, loader):
    model, load, _ = case
    load = load if loader == LOADERS[0] else load_strict
    planned = quantized_rows(mixdown_json("plan", model, *FLAGS))
    assert planned
    assert sdnq_layers(load(convert(model, *FLAGS))).keys() == planned.keys()


@pytest.mark.parametrize("loader", LOADERS)
def test_the_library_computes_the_weights_that_mixdown_decodes(case, convert, decode, loader, note):
    model, load, _ = case
    load = load if loader == LOADERS[0] else load_strict
    folder = convert(model, *FLAGS)
    difference = largest_difference(load(folder), read(decode(folder)))
    note("tiny models: largest difference of a weight", difference)
    assert difference <= 1e-6


@pytest.mark.parametrize("loader", LOADERS)
def test_a_forward_pass_gives_what_the_decoded_weights_give(case, convert, loader, note):
    model, load, run = case
    quantized = (load if loader == LOADERS[0] else load_strict)(convert(model, *FLAGS))
    decoded = load(convert(convert(model, *FLAGS), *FLOAT))
    assert not sdnq_layers(decoded)
    want, got = run(decoded), run(quantized)
    assert got.isfinite().all()
    difference = (want - got).abs().max() / want.abs().max()
    note("tiny models: largest difference of an output, of its maximum", difference)
    assert difference <= 1e-5


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
