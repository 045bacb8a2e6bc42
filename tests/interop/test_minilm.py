"""A trained sentence encoder, converted to SDNQ, in the two loaders its users have."""

import json
from pathlib import Path

import pytest
import sdnq
import torch
from transformers import AutoModel, AutoTokenizer

from support import (
    largest_difference,
    load_strict,
    mixdown_json,
    quantized_rows,
    read,
    sdnq_layers,
    weight_files,
)

RECIPES = {
    "int8": ["--dtype", "int8"],
    "uint4 with a branch of rank 32": ["--dtype", "uint4", "--svd-rank", "32"],
    "mixed": [
        "--tensor-type", "attention.*query=uint5,group_size=64",
        "--tensor-type", "output.dense=int4,svd_rank=8",
        "--exclude", "pooler",
    ],
    "sharded": ["--dtype", "int8", "--max-shard-size", "20MB"],
}  # fmt: skip


def float_model(folder: Path) -> torch.nn.Module:
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


LOADERS = {
    "sdnq.load_sdnq_model": load_strict,
    "transformers": float_model,
}
SENTENCES = [
    "The cat sat on the mat.",
    "A quarterly report shows that revenue fell by 3.2 % against last year.",
    "def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "Wo geht es hier zum Bahnhof?",
    "Mitochondria turn nutrients into adenosine triphosphate.",
    "In 1969, two people walked on the Moon while a third circled above them, alone and out of reach behind it.",
    "¿Cuánto cuesta un kilo de tomates? 🍅",
]
# A word or two leave little to average over: int8 takes such texts below 0.999, whoever rounds the weights.
SHORT_TEXTS = ["ok", "ok.", "OK, thanks!", "Hello"]


def with_sdnq(recipe: str) -> list[str]:
    return ["--to", "sdnq", *RECIPES[recipe]]


def plan(model: Path, recipe: str) -> dict:
    flags = with_sdnq(recipe)
    if "--max-shard-size" in flags:
        flags = flags[: flags.index("--max-shard-size")]
    return mixdown_json("plan", model, *flags)


@pytest.fixture(params=RECIPES)
def recipe(request) -> str:
    return request.param


@pytest.fixture(params=LOADERS)
def load(request):
    return LOADERS[request.param]


def test_exactly_the_planned_layers_are_quantized_modules(minilm, convert, recipe, load):
    planned = quantized_rows(plan(minilm, recipe))
    layers = sdnq_layers(load(convert(minilm, *with_sdnq(recipe))))
    assert layers.keys() == planned.keys()
    assert {name: layer.sdnq_dequantizer.weights_dtype for name, layer in layers.items()} == {
        name: row["to"] for name, row in planned.items()
    }


def test_the_library_computes_the_weights_that_mixdown_decodes(minilm, convert, decode, recipe, load, note):
    folder = convert(minilm, *with_sdnq(recipe))
    difference = largest_difference(load(folder), read(decode(folder)))
    note("MiniLM: largest difference of a weight", difference)
    assert difference <= 1e-6


def test_tensors_that_are_not_quantized_arrive_unchanged(minilm, convert, recipe, load):
    original = read(minilm / "model.safetensors")
    model = load(convert(minilm, *with_sdnq(recipe)))
    quantized = {name + ".weight" for name in sdnq_layers(model)}
    arrived = model.state_dict()
    for name, tensor in original.items():
        if name not in quantized and name in arrived:
            assert torch.equal(arrived[name], tensor), name


@torch.no_grad()
def embeddings(folder: Path, model: torch.nn.Module, texts: list[str]) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))


def test_int8_keeps_the_embeddings_of_sentences(minilm, convert, load, note):
    folder = convert(minilm, *with_sdnq("int8"))
    original = embeddings(minilm, float_model(minilm), SENTENCES)
    cosines = (original * embeddings(folder, load(folder), SENTENCES)).sum(1)
    note("MiniLM int8: least cosine, sentences", cosines.min())
    assert cosines.min() >= 0.999


def test_int8_embeddings_are_those_of_the_librarys_own_int8(minilm, convert, load, note):
    folder = convert(minilm, *with_sdnq("int8"))
    texts = SENTENCES + SHORT_TEXTS
    own = sdnq.sdnq_post_load_quant(float_model(minilm), torch_dtype=torch.float32, weights_dtype="int8", group_size=-1)
    original = embeddings(minilm, float_model(minilm), texts)
    ours, theirs = ((original * embeddings(minilm, model, texts)).sum(1) for model in (load(folder), own))
    note("MiniLM int8: least cosine, short texts", ours.min())
    note("MiniLM int8: least cosine, short texts, the library's own", theirs.min())
    assert (ours - theirs).abs().max() <= 1e-6


def test_the_recipe_reaches_the_layers_its_patterns_name(minilm):
    rows = quantized_rows(plan(minilm, "mixed"))
    assert not any("pooler" in name for name in rows)
    for name, row in rows.items():
        wanted = ("int8", -1, 0)
        if name.endswith("query"):
            wanted = ("uint5", 64, 0)
        elif name.endswith("output.dense"):
            wanted = ("int4", row["group_size"], 8)
        assert (row["to"], row["group_size"], row["svd_rank"]) == wanted, name


def test_the_index_of_the_shards_tells_what_is_where(minilm, convert):
    folder = convert(minilm, *with_sdnq("sharded"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = weight_files(folder)
    where, total = {}, 0
    for number, file in enumerate(files, 1):
        assert file.name == f"model-{number:05}-of-{len(files):05}.safetensors"
        tensors = read(file)
        held = sum(t.nbytes for t in tensors.values())
        assert held <= 20_000_000 or len(tensors) == 1, file.name
        total += held
        where |= dict.fromkeys(tensors, file.name)
    assert len(files) > 1
    assert index["weight_map"] == where
    assert index["metadata"]["total_size"] == total
