"""Hugging Face folders become the GGUF that llama.cpp's converter makes of them, in one pass, and llama.cpp runs it."""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
import xllamacpp

import hf_models
from test_minilm import SENTENCES
from support import ROOT, mixdown, mixdown_json, refused

# The converter, in the source distribution of the package that carries llama.cpp; the whole of it is never built.
SOURCE = "llama-cpp-python==0.3.36"
CONVERTER = ROOT / "target" / "llama.cpp-0.3.36"
# What a share of the models, or all of them with --full, is converted to besides F16.
SHARE = ["llama", "mixtral", "gpt2", "gemma2", "bert"]
TYPES = ["f16", "bf16", "f32", "q8_0"]
# Keys that only mixdown writes.
OWN = ("mixdown.", "general.quantized_by")
# The converter writes this key while it goes through the tensors, before all others.
MOVED = {"phi3": "phi3.rope.scaling.attn_factor"}
# The converter's Gemma names this token after its vocabulary, which is another's here.
MORE = {"gemma": "tokenizer.ggml.eot_token_id"}
TOKENS = [5, 60, 200, 31, 7, 90, 150, 33]


@pytest.fixture(scope="session")
def converter(tmp_path_factory) -> Path:
    """llama.cpp's converter: fetched from PyPI once, kept in target."""
    if not CONVERTER.is_dir():
        folder = tmp_path_factory.mktemp("sdist")
        name = SOURCE.split("=")[0]
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", name, "-d", folder, SOURCE]
        subprocess.run(pip, check=True, capture_output=True)
        inside = "vendor/llama.cpp/"
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            wanted = [m for m in archive.getmembers() if m.isfile() and inside in m.name]
            wanted = [m for m in wanted if m.name.split(inside)[1].startswith(("conversion/", "gguf-py/gguf/"))]
            archive.extractall(folder, members=wanted, filter="data")
        # Under its name only when it is whole; another worker may have been first.
        mine = Path(tempfile.mkdtemp(dir=CONVERTER.parent)) / "llama.cpp"
        shutil.copytree(next(folder.glob("*/vendor/llama.cpp")), mine)
        try:
            mine.rename(CONVERTER)
        except OSError:
            assert CONVERTER.is_dir()
        shutil.rmtree(mine.parent)
    return CONVERTER


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: hf_models.build(name, folder) for name in hf_models.NAMES}


def pre(name: str) -> list[str]:
    """Vocabularies of words need no pre-tokenizer."""
    return [] if "bert" in name else ["--pre", "gpt-2"]


@pytest.fixture(scope="session")
def reference(models, converter, tmp_path_factory, request) -> dict[tuple[str, str], Path]:
    """What the converter makes, by model and type."""
    folder = tmp_path_factory.mktemp("reference")
    every = request.config.getoption("--full")
    wanted = [(n, t) for n in models for t in TYPES if t == "f16" or every or n in SHARE]
    made = {(n, t): folder / f"{n}-{t}.gguf" for n, t in wanted}
    jobs = [
        {"folder": str(models[n]), "out": str(out), "type": t, "pre": pre(n)[-1] if pre(n) else "default", "bpe": "bert" not in n}
        for (n, t), out in made.items()
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("convert_reference.py")
    subprocess.run([sys.executable, script, converter, folder / "jobs.json"], check=True, capture_output=True)
    return made


@pytest.fixture(scope="session")
def ours(models, tmp_path_factory):
    """What mixdown makes, once for each set of flags."""
    folder, done = tmp_path_factory.mktemp("ours"), {}

    def make(name: str, dtype: str, *flags: object) -> Path:
        key = (name, dtype, *map(str, flags))
        if key not in done:
            out = folder / f"{len(done)}-{name}-{dtype}.gguf"
            mixdown("convert", models[name], "--dtype", dtype, *pre(name), *flags, "-o", out)
            done[key] = out
        return done[key]

    return make


def keys(path: Path) -> dict[str, tuple[list[str], object]]:
    fields = gguf.GGUFReader(path).fields.items()
    return {k: ([t.name for t in f.types], f.contents()) for k, f in fields if not k.startswith("GGUF.")}


def tensors(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    return {t.name: (t.tensor_type.name, t.shape.tolist(), t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("name", hf_models.NAMES)
def test_keys_are_the_converters(name, ours, reference):
    made, expected = keys(ours(name, "f16")), keys(reference[name, "f16"])
    common = {k: v for k, v in made.items() if not k.startswith(OWN) and k != MORE.get(name)}
    assert common == expected
    moved = MOVED.get(name)
    assert [k for k in common if k != moved] == [k for k in expected if k != moved]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", hf_models.NAMES)
def test_tensors_are_the_converters(name, dtype, ours, reference):
    if (name, dtype) not in reference:
        pytest.skip("with --full")
    made, expected = tensors(ours(name, dtype)), tensors(reference[name, dtype])
    assert list(sorted(made)) == list(sorted(expected))
    for tensor, (kind, shape, data) in expected.items():
        assert made[tensor][:2] == (kind, shape), tensor
        assert made[tensor][2] == data, f"{tensor}: {kind}"


def server(path: Path, **more) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup = 128, 1, False
    params.cpuparams.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    for key, value in more.items():
        setattr(params, key, value)
    return xllamacpp.Server(params)


def log_probabilities(path: Path, tokens: list[int] = TOKENS) -> tuple[list[int], np.ndarray]:
    """A prompt, and the log-probability of every token after it as llama.cpp computes it."""
    running = server(path)
    for shift in range(len(tokens)):
        prompt = tokens[shift:] + tokens[:shift]
        asked = {"prompt": prompt, "n_predict": 1, "temperature": 0, "logprobs": 1000}
        # Nothing where the likeliest is an end, or half a character.
        if answer := running.handle_completions(asked)["choices"][0]["logprobs"]:
            found = answer["content"][0]["top_logprobs"]
            return prompt, np.array([t["logprob"] for t in sorted(found, key=lambda t: t["id"])])
    raise AssertionError("no prompt is answered by a whole character")


@pytest.mark.parametrize("name", [n for n in hf_models.NAMES if "bert" not in n])
def test_llama_cpp_computes_what_transformers_does(name, models, ours, note):
    prompt, found = log_probabilities(ours(name, "f32"))
    model = transformers.AutoModelForCausalLM.from_pretrained(models[name], dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1).numpy()
    assert found.shape == expected.shape
    # Far apart, or equal would mean nothing.
    assert np.ptp(expected) > 2
    difference = np.abs(found - expected).max() / np.ptp(expected)
    note("largest difference of log-probabilities from transformers', in parts of their range", difference)
    # ggml has a table of GELU in half floats.
    assert difference < 2e-3, name


def test_the_demo_computes_what_transformers_does(tmp_path):
    mixdown("convert", "--demo", "--dtype", "f32", "-o", tmp_path / "demo.gguf")
    prompt, found = log_probabilities(tmp_path / "demo.gguf", list(b"Once there was a lit"))
    folder = ROOT / "assets" / "demo" / "model"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1).numpy()
    assert np.abs(found - expected).max() / np.ptp(expected) < 2e-3


def cosines(path: Path, folder: Path, texts: list[str]) -> list[float]:
    """How near llama.cpp's embeddings of texts are to transformers'."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    running, all = server(path, embedding=True), []
    for text in texts:
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
        found = np.array(running.handle_embeddings({"input": text})["data"][0]["embedding"])
        all.append(found @ expected / np.linalg.norm(found) / np.linalg.norm(expected))
    return all


def test_llama_cpp_embeds_what_transformers_does(models, ours):
    assert min(cosines(ours("bert", "f32"), models["bert"], ["the lazy dog had a model", "weights"])) > 0.9999


@pytest.mark.parametrize(("dtype", "least"), [("F16", 0.9999), ("Q8_0", 0.999), ("Q4_K_M", 0.97)])
def test_a_trained_encoder_embeds_alike(dtype, least, minilm, tmp_path, note):
    mixdown("convert", minilm, "--dtype", dtype, "-o", tmp_path / "minilm.gguf")
    least_found = min(cosines(tmp_path / "minilm.gguf", minilm, SENTENCES))
    note(f"least cosine of MiniLM's embeddings as {dtype}", least_found)
    assert least_found > least


@pytest.mark.parametrize("name", ["llama", "mixtral", "gpt2"])
@pytest.mark.parametrize("mixture", ["Q4_K_M", "Q4_0", "IQ4_NL"])
def test_one_pass_is_two_by_way_of_f32(name, mixture, ours, reference, tmp_path):
    mixdown("convert", reference[name, "f32"], "--dtype", mixture, "-o", tmp_path / "two.gguf")
    assert tensors(ours(name, mixture)) == tensors(tmp_path / "two.gguf")


@pytest.mark.parametrize("name", hf_models.NAMES)
def test_a_quantized_file_is_faithful_to_the_float_one(name, ours):
    mixdown("diff", ours(name, "f16"), ours(name, "Q4_K_M"), "--check")


def test_shards_in_and_out(models, ours, tmp_path):
    folder = tmp_path / "Tiny-mixtral"
    model = transformers.AutoModelForCausalLM.from_pretrained(models["mixtral"])
    model.save_pretrained(folder, max_shard_size="150KB")
    for file in models["mixtral"].glob("token*"):
        shutil.copy(file, folder)
    parts = len(list(folder.glob("*.safetensors")))
    assert parts > 3
    flags = ["--to", "gguf", "--dtype", "f16", "--pre", "gpt-2"]
    mixdown("convert", folder, *flags, "-o", tmp_path / "one.gguf")
    whole = tensors(ours("mixtral", "f16"))
    assert tensors(tmp_path / "one.gguf") == whole
    for out, more in (("split", ["--max-shard-size", "100KB"]), ("kept", ["--keep-split"])):
        mixdown("convert", folder, *flags, *more, "-o", tmp_path / out)
        files = sorted((tmp_path / out).glob("*.gguf"))
        assert len(files) == parts if more == ["--keep-split"] else len(files) > 2
        assert {k: v for f in files for k, v in tensors(f).items()} == whole
        log_probabilities(files[0])


def test_rules_know_both_names(models):
    plan = mixdown_json(
        "plan", models["mixtral"], "--to", "gguf", "--dtype", "Q8_0", "--pre", "gpt-2",
        "--tensor-type", "block_sparse_moe.experts.3.w1=Q4_0", "--tensor-type", "blk.1.attn_v=Q5_0",
        "--exclude", "lm_head",
    )  # fmt: skip
    rows = {row["name"]: row for row in plan["tensors"]}
    assert rows["blk.0.ffn_gate_exps.weight"]["to"] == "Q4_0"
    assert len(rows["blk.0.ffn_gate_exps.weight"]["sources"]) == hf_models.EXPERTS
    assert (rows["blk.0.attn_v.weight"]["to"], rows["blk.1.attn_v.weight"]["to"]) == ("Q8_0", "Q5_0")
    assert rows["output.weight"]["to"] == "BF16"
    assert rows["blk.0.attn_norm.weight"]["to"] == "F32" and rows["blk.0.attn_norm.weight"]["excluded"]
    assert plan["warnings"] == []


def test_what_was_done_before_it_is_kept(models, ours):
    made = {k: v[1] for k, v in keys(ours("llama", "f16")).items()}
    assert made["mixdown.training.fine_tuned_from"] == "acme/Base-7B-v0.2"
    rest = json.loads(made["mixdown.hf_config"])
    config = json.loads((models["llama"] / "config.json").read_text())
    assert rest and all(config[key] == value for key, value in rest.items())
    assert "use_cache" in rest and "hidden_size" not in rest


def broken(models: dict[str, Path], to: Path, change) -> Path:
    shutil.copytree(models["llama"], to)
    change(to)
    return to


def edit(**more):
    def change(folder: Path) -> None:
        file = folder / "config.json"
        config = {**json.loads(file.read_text()), **more}
        file.write_text(json.dumps({k: v for k, v in config.items() if v != "none"}))

    return change


def split_by_vowels(folder: Path) -> None:
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    split = {"type": "Split", "pattern": {"Regex": "[aeiou]+"}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]}
    file.write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("change", "flags", "expected"),
    [
        (lambda f: [p.unlink() for p in f.glob("token*")], [], "there is no tokenizer beside the weights"),
        (split_by_vowels, [], "--pre"),
        (lambda f: None, ["--pre", "no-such"], "no-such"),
        (edit(num_attention_heads="none"), ["--pre", "gpt-2"], "config.json has no `num_attention_heads`"),
        (edit(architectures=["NoModel"]), ["--pre", "gpt-2"], "NoModel: no GGUF is made of this architecture"),
        (edit(hidden_size="wide"), ["--pre", "gpt-2"], "`hidden_size` is \"wide\", expected a whole number"),
    ],
    ids=["no tokenizer", "unknown pre-tokenizer", "no such pre-tokenizer", "no heads", "no such model", "no number"],
)
def test_what_is_missing_is_named(change, flags, expected, models, tmp_path):
    folder = broken(models, tmp_path / "broken", change)
    run = refused("convert", folder, *flags, "-o", tmp_path / "x.gguf", code=2 if flags[1:] == ["no-such"] else 1)
    assert expected in run
    assert not (tmp_path / "x.gguf").exists()


def test_files_that_are_not_needed_may_be_missing(models, ours, tmp_path):
    def change(folder: Path) -> None:
        for name in ("generation_config.json", "tokenizer_config.json", "README.md"):
            (folder / name).unlink()

    folder = broken(models, tmp_path / "Tiny-llama", change)
    mixdown("convert", folder, "--dtype", "f16", "--pre", "gpt-2", "-o", tmp_path / "x.gguf")
    assert tensors(tmp_path / "x.gguf") == tensors(ours("llama", "f16"))
