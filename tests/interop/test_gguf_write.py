"""GGUF files are what ggml and llama.cpp make and take: same bytes for each tensor, and every file runs."""

import subprocess
import sys

import gguf
import numpy as np
import pytest

import llama
from support import BINARY, mixdown, mixdown_json, refused

MODELS = {
    "dense": dict(),
    "tied": dict(tied=True, dtype="bf16"),
    "experts": dict(experts=llama.EXPERTS, dtype="f16"),
}
PLAIN = (
    "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS "
    "IQ3_S IQ3_M TQ1_0 TQ2_0 MXFP4_MOE F16 BF16 F32"
).split()
WEIGHTED = "Q4_0 Q5_1 Q2_K Q2_K_S Q3_K_M Q4_K_M Q5_K_S Q6_K IQ4_NL IQ4_XS IQ3_S IQ3_XXS IQ3_XS IQ2_S IQ2_M IQ2_XS IQ2_XXS".split()
# What a share of the models, or all of them with --full, is tried with.
SAMPLE = ["Q4_0", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "IQ4_XS", "MXFP4_MOE"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llamas")
    return {name: llama.write_llama(folder / f"{name}.gguf", **options) for name, options in MODELS.items()}


@pytest.fixture(scope="module")
def matrices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrices")
    wanted = {name: {k: v for k, v in o.items() if k != "dtype"} for name, o in MODELS.items()}
    entries = {name: llama.importance(**options) for name, options in wanted.items()}
    return {name: (llama.write_imatrix(folder / f"{name}.gguf", e), e) for name, e in entries.items()}


def same_as_ggml(source, made, entries=None):
    """Every tensor of `made` is ggml's bytes of the source's values, or the source's own."""
    theirs, ours = llama.tensors(source), llama.tensors(made)
    assert set(ours) == set(theirs)
    quantized = 0
    for name, (kind, data) in ours.items():
        before, original = theirs[name]
        if kind == before:
            assert data.tobytes() == original.tobytes(), name
            continue
        values = gguf.dequantize(original, before) if before != gguf.GGMLQuantizationType.F32 else original
        if kind in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.F32):
            expected = gguf.quantize(values, kind).tobytes()
        else:
            expected = llama.ggml_bytes(kind, values, (entries or {}).get(name))
        assert data.tobytes() == expected, f"{name}: {kind.name}"
        quantized += 1
    return quantized


@pytest.mark.parametrize("mode", PLAIN)
@pytest.mark.parametrize("name", MODELS)
def test_bytes_are_ggmls_and_the_file_runs(name, mode, models, tmp_path, request):
    if name != "dense" and mode not in SAMPLE and not request.config.getoption("--full"):
        pytest.skip("a share of them")
    out = tmp_path / f"{mode}.gguf"
    plan = mixdown_json("plan", models[name], "--to", "gguf", "--dtype", mode, "-o", out)
    report = mixdown_json("convert", models[name], "--dtype", mode, "-o", out)
    assert plan["totals"]["file_bytes"] == report["totals"]["file_bytes"] == out.stat().st_size
    quantized = same_as_ggml(models[name], out)
    assert quantized == sum(not t["excluded"] for t in report["tensors"])
    llama.runs(out)
    mixdown("diff", models[name], out, "--check")


@pytest.mark.parametrize("mode", WEIGHTED)
@pytest.mark.parametrize("name", MODELS)
def test_an_importance_matrix_weighs_columns_as_ggml_has_it(name, mode, models, matrices, tmp_path, request):
    if name != "experts" and mode not in SAMPLE and not request.config.getoption("--full"):
        pytest.skip("a share of them")
    path, entries = matrices[name]
    out = tmp_path / f"{mode}.gguf"
    report = mixdown_json("convert", models[name], "--dtype", mode, "-o", out, "--imatrix", path)
    assert same_as_ggml(models[name], out, entries) > 0
    weighed = {t["name"] for t in report["tensors"] if "weighted_relative_error" in t}
    assert weighed == {t["name"] for t in report["tensors"] if not t["excluded"] and t["name"] in entries}
    fields = gguf.GGUFReader(out).fields
    assert fields["quantize.imatrix.file"].contents() == path.name
    assert fields["quantize.imatrix.dataset"].contents() == "words.txt"
    assert fields["quantize.imatrix.entries_count"].contents() == len(entries)
    assert fields["quantize.imatrix.chunks_count"].contents() == 3
    llama.runs(out)


def test_q1_0_and_q2_0_run(models, tmp_path):
    for mode in ["Q1_0", "Q2_0"]:
        mixdown("convert", models["tied"], "--dtype", mode, "-o", tmp_path / f"{mode}.gguf")
        llama.runs(tmp_path / f"{mode}.gguf")


def test_near_lossless_files_say_what_the_source_says(models, tmp_path):
    expected = llama.runs(models["dense"], 16)
    for mode in ["F16", "Q8_0"]:
        out = tmp_path / f"{mode}.gguf"
        mixdown("convert", models["dense"], "--dtype", mode, "-o", out)
        # The first words: one that is nearly as likely may come later.
        assert llama.runs(out, 16)[:4] == expected[:4]


def test_alignments_are_kept(tmp_path):
    source = llama.write_llama(tmp_path / "m.gguf", alignment=64)
    out = tmp_path / "out.gguf"
    mixdown("convert", source, "-o", out)
    reader = gguf.GGUFReader(out)
    assert reader.alignment == 64
    assert all(t.data_offset % 64 == 0 for t in reader.tensors)
    llama.runs(out)


def test_several_files_run(models, tmp_path):
    split = llama.write_llama(tmp_path / "m.gguf", split_max_tensors=12)
    first = sorted(tmp_path.glob("m-*.gguf"))[0]
    whole, kept, sized = tmp_path / "whole.gguf", tmp_path / "kept", tmp_path / "sized"
    mixdown("convert", first, "-o", whole)
    mixdown("convert", first, "--to", "gguf", "-o", kept, "--keep-split")
    mixdown("convert", models["dense"], "--to", "gguf", "-o", sized, "--max-shard-size", "200KB")
    assert split.parent == tmp_path
    expected = llama.tensors(whole)
    for folder in [kept, sized]:
        files = sorted(folder.glob("*.gguf"))
        assert len(files) > 2 and files[0].name == f"{folder.name}-00001-of-{len(files):05}.gguf"
        made = {}
        for file in files:
            made |= llama.tensors(file)
        assert {n: (k, d.tobytes()) for n, (k, d) in made.items()} == {
            n: (k, d.tobytes()) for n, (k, d) in expected.items()
        }
        assert llama.runs(files[0]) == llama.runs(whole)
    assert len(list(kept.iterdir())) == len(list(tmp_path.glob("m-*.gguf")))


def test_layers_can_be_left_out(models, tmp_path):
    out = tmp_path / "out.gguf"
    mixdown("convert", models["dense"], "-o", out, "--prune-layers", "1")
    assert gguf.GGUFReader(out).fields["llama.block_count"].contents() == llama.LAYERS - 1
    llama.runs(out)


def test_overrides_and_single_types(models, tmp_path):
    out = tmp_path / "out.gguf"
    flags = ["--tensor-type", r"blk\.0\.ffn_down=q8_0", "--output-tensor-type", "q5_1", "--token-embedding-type", "q6_K"]
    mixdown("convert", models["dense"], "-o", out, *flags, "--override-kv", "general.name=str:other", "--exclude", "attn_q")
    made = {n: k.name for n, (k, _) in llama.tensors(out).items()}
    assert made["blk.0.ffn_down.weight"] == "Q8_0"
    assert (made["output.weight"], made["token_embd.weight"]) == ("Q5_1", "Q6_K")
    assert {k for n, k in made.items() if "attn_q" in n} == {"F32"}
    assert gguf.GGUFReader(out).fields["general.name"].contents() == "other"
    same_as_ggml(models["dense"], out)
    llama.runs(out)


def test_losses_stand_in_the_file(models, tmp_path):
    out = tmp_path / "out.gguf"
    report = mixdown_json("convert", models["tied"], "-o", out, "--embed-loss", "--loss-report", tmp_path / "l.csv")
    fields = {name: field.contents() for name, field in gguf.GGUFReader(out).fields.items()}
    quantized = [t for t in report["tensors"] if not t["excluded"]]
    assert fields["mixdown.quantized"] is True
    assert fields["mixdown.quantization_format"] == "Q4_K_M"
    assert fields["mixdown.original_dtype"] == "BF16"
    assert fields["mixdown.quantization_loss_mse"] == pytest.approx(report["totals"]["mean_mse"], rel=1e-6)
    assert fields["mixdown.quantization_loss_max"] == pytest.approx(max(t["max_error"] for t in quantized), rel=1e-6)
    assert fields["mixdown.loss.names"] == [t["name"] for t in quantized]
    assert fields["mixdown.loss.mse"] == pytest.approx([t["mse"] for t in quantized], rel=1e-6)
    assert len((tmp_path / "l.csv").read_text().splitlines()) == len(report["tensors"]) + 1
    # The figure is the one that numpy finds.
    name = quantized[0]["name"]
    (_, before), (kind, after) = llama.tensors(models["tied"])[name], llama.tensors(out)[name]
    values = gguf.dequantize(before, gguf.GGMLQuantizationType.BF16).astype(np.float64)
    mse = np.mean((values - gguf.dequantize(after, kind)) ** 2)
    assert quantized[0]["mse"] == pytest.approx(mse, rel=1e-6)


def test_quantizing_again_is_refused_unless_asked(models, tmp_path):
    once, twice = tmp_path / "once.gguf", tmp_path / "twice.gguf"
    mixdown("convert", models["dense"], "--dtype", "Q8_0", "-o", once)
    assert "--allow-requantize" in refused("convert", once, "-o", twice, code=2)
    assert not twice.exists()
    mixdown("convert", once, "-o", twice, "--allow-requantize")
    llama.runs(twice)


@pytest.mark.parametrize("name", MODELS)
def test_whole_files_are_llama_quantizes(name, models, tmp_path):
    """With llama-cpp-python, which is built for five minutes and so no part of the usual run."""
    lc = pytest.importorskip("llama_cpp")
    for mode in PLAIN:
        ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
        mixdown("convert", models[name], "--dtype", mode, "-o", ours, "--force")
        number = gguf.LlamaFileType[f"MOSTLY_{mode}" if mode != "F32" else "ALL_F32"] if mode != "MXFP4_MOE" else 38
        code = (
            "import ctypes, llama_cpp as lc, sys; p = lc.llama_model_quantize_default_params(); "
            "p.ftype = int(sys.argv[3]); lc.llama_backend_init(); "
            "sys.exit(lc.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(p)))"
        )
        subprocess.run([sys.executable, "-c", code, models[name], theirs, str(int(number))], check=True, capture_output=True)
        mine, other = llama.tensors(ours), llama.tensors(theirs)
        assert list(mine) == list(other), mode
        assert all(mine[n][0] == k and mine[n][1].tobytes() == d.tobytes() for n, (k, d) in other.items()), mode
    assert lc and BINARY
