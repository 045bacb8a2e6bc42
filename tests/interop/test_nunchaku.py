"""Nunchaku's files: what its loaders ask for, and what its kernels would compute with, told by readers of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import nunchaku_rules as rules
from support import header, mixdown, mixdown_json, quantized_rows, read, refused

PRECISIONS = ["int4", "nvfp4"]
FAMILIES = ["flux", "qwen", "z_image"]
# Gaussian weights keep no more than this of a layer with 4 bits and a branch: 4.5 bits of noise are 0.1.
NOISE = 0.115


def with_biases(model: torch.nn.Module) -> torch.nn.Module:
    """As a trained model has them: not zero."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.to(torch.bfloat16)


@pytest.fixture(scope="session")
def flux(tmp_path_factory) -> Path:
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(7)
    model = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=128,
        pooled_projection_dim=64,
        axes_dims_rope=(16, 24, 24),
        guidance_embeds=True,
    )
    folder = tmp_path_factory.mktemp("nunchaku-flux") / "transformer"
    with_biases(model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory) -> Path:
    from diffusers import QwenImageTransformer2DModel

    torch.manual_seed(8)
    model = QwenImageTransformer2DModel(
        num_layers=1, attention_head_dim=64, num_attention_heads=2, joint_attention_dim=128, axes_dims_rope=(16, 24, 24)
    )
    folder = tmp_path_factory.mktemp("nunchaku-qwen") / "transformer"
    with_biases(model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def z_image(tmp_path_factory) -> Path:
    from diffusers import ZImageTransformer2DModel

    torch.manual_seed(9)
    model = ZImageTransformer2DModel(
        dim=384,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=3,
        n_kv_heads=3,
        cap_feat_dim=128,
        axes_dims=[32, 48, 48],
        axes_lens=[32, 32, 32],
    )
    folder = tmp_path_factory.mktemp("nunchaku-z") / "transformer"
    with_biases(model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(request) -> Path:
    return request.getfixturevalue(request.param)


def single(source: Path, out: Path, *flags: str) -> Path:
    mixdown("convert", source, "--to", "nunchaku", *flags, "-o", out)
    return out


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def floats(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.to(torch.float64).numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", FAMILIES, indirect=True)
def test_a_single_file_is_what_the_loaders_ask_for_and_means_the_source(model, precision, tmp_path):
    """Names, types, shapes and metadata by the loaders' rules; values by formulas of the kernels' own reading."""
    out = single(model, tmp_path / f"svdq-{precision}.safetensors", "--dtype", precision)
    assert {loader: found for loader, found in rules.faults(out).items() if found} == {}
    source = floats(read(model))
    found = rules.unfused(out)
    plain = {name for name in source if name not in found}
    for name, values in found.items():
        if name.endswith(".bias"):
            # Rounded once, after a shift of at most a few units.
            expected = source.get(name, np.zeros_like(values))
            assert np.allclose(values, expected, atol=2e-2), name
        else:
            assert relative(values, source[name]) < NOISE, name
    kept = {rules.flux_name(name): tensor for name, tensor in load_file(out).items()}
    for name in plain:
        assert np.array_equal(kept[name].to(torch.float64).numpy(), source[name]), name


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", FAMILIES, indirect=True)
def test_mixdown_reads_its_own_file_as_the_formulas_do(model, precision, tmp_path):
    """Fused layers under diffusers' names again, biases without what the kernels want; equal to 1e-6."""
    out = single(model, tmp_path / "n.safetensors", "--dtype", precision)
    back = tmp_path / "back.safetensors"
    mixdown("convert", out, "--to", "float", "--dtype", "F32", "-o", back)
    ours, theirs = floats(load_file(back)), rules.unfused(out)
    for name, values in theirs.items():
        # A bias of FLUX's that the source does not have is zero, and stays.
        assert np.abs(ours[name] - values).max() <= 1e-6 * max(1.0, np.abs(values).max()), name
    names = set(read(model)) | {name for name in theirs if name.endswith(".bias")}
    assert set(ours) == names


@pytest.mark.parametrize("rank", [16, 64])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_ranks(flux, precision, rank, tmp_path):
    out = single(flux, tmp_path / "n.safetensors", "--dtype", precision, "--svd-rank", str(rank))
    # FLUX's first loader takes any rank that the header names.
    assert {loader: found for loader, found in rules.faults(out).items() if found} == {}
    assert json.loads(header(out)["quantization_config"])["rank"] == rank
    assert {layer.down.shape[0] for layer in rules.layers(out).values() if layer.kind != "awq"} == {rank}
    back = tmp_path / "back.safetensors"
    mixdown("convert", out, "--to", "float", "--dtype", "F32", "-o", back)
    ours = floats(load_file(back))
    for name, values in rules.unfused(out).items():
        assert np.abs(ours[name] - values).max() <= 1e-6 * max(1.0, np.abs(values).max()), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_losses_are_those_of_the_file(flux, precision, tmp_path):
    """The loss that was shown is that of the effective weight that the formulas find."""
    out = tmp_path / "n.safetensors"
    report = mixdown_json("convert", flux, "--to", "nunchaku", "--dtype", precision, "-o", out)
    found, source = rules.layers(out), floats(read(flux))
    rows = quantized_rows(report)
    assert set(rows) == set(found)
    for name, row in rows.items():
        wanted = np.vstack([source[s] for s in row["sources"] if s.endswith(".weight")])
        if wanted.shape != found[name].weight.shape:
            first = name.endswith("out_proj")
            wanted = wanted[:, : wanted.shape[0]] if first else wanted[:, wanted.shape[0] :]
        mse = float(((found[name].weight - wanted) ** 2).mean())
        assert row["mse"] == pytest.approx(mse, rel=1e-4), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_lite_folder_loads_in_diffusers(flux, precision, tmp_path):
    """diffusers' own loader, its kernels stubbed: every tensor arrives as it was written."""
    folder = tmp_path / "lite"
    mixdown("convert", flux, "--to", "nunchaku", "--lite", "--dtype", precision, "-o", folder)
    assert {loader: found for loader, found in rules.faults(folder).items() if found} == {}
    loaded, written = rules.load_lite(folder), read(folder)
    for name, tensor in written.items():
        assert not loaded[name].is_meta, name
        assert torch.equal(loaded[name].view(torch.uint8), tensor.view(torch.uint8)), name
    missing = [name for name, tensor in loaded.items() if tensor.is_meta]
    assert missing == []
    source = floats(read(flux))
    for name, values in rules.unfused(folder).items():
        if name.endswith(".weight"):
            assert relative(values, source[name]) < NOISE, name


def test_what_a_file_is_smoothed_by_can_be_another_files(flux, tmp_path):
    """A file whose smoothing is not 1 is the donor; the layers still mean the source's weights."""
    donor = single(flux, tmp_path / "donor.safetensors")
    tensors = load_file(donor)
    generator = torch.Generator().manual_seed(5)
    for name, tensor in tensors.items():
        if name.endswith((".smooth", ".smooth_orig")):
            tensors[name] = (torch.rand(tensor.shape, generator=generator) + 0.5).to(torch.bfloat16)
    save_file(tensors, donor, header(donor))
    out = single(flux, tmp_path / "n.safetensors", "--smooth-from", str(donor))
    assert {loader: found for loader, found in rules.faults(out).items() if found} == {}
    found, theirs = rules.layers(out), rules.layers(donor)
    for name, layer in found.items():
        if layer.kind != "awq":
            assert np.array_equal(layer.smooth, theirs[name].smooth), name
    source = floats(read(flux))
    for name, values in rules.unfused(out).items():
        expected = source.get(name, np.zeros_like(values))
        if name.endswith(".bias"):
            assert np.allclose(values, expected, atol=2e-2), name
        else:
            assert relative(values, expected) < NOISE, name


def test_a_donor_gives_rank_and_config_too_where_nothing_else_says_them(flux, tmp_path):
    """The weights alone are a model: the donor has the config that loaders ask for."""
    donor = single(flux, tmp_path / "donor.safetensors", "--svd-rank", "16")
    alone = tmp_path / "alone.safetensors"
    save_file(read(flux), alone)
    assert "config" in refused("convert", alone, "--to", "nunchaku", "-o", tmp_path / "no.safetensors")
    out = single(alone, tmp_path / "n.safetensors", "--smooth-from", str(donor))
    assert {loader: found for loader, found in rules.faults(out).items() if found} == {}
    mine, theirs = (json.loads(header(file)["config"]) for file in (out, donor))
    assert mine == theirs
    assert json.loads(header(out)["quantization_config"])["rank"] == 16
    assert all(layer.up.shape[1] == 16 for layer in rules.layers(out).values() if layer.kind != "awq")
    chosen = single(alone, tmp_path / "c.safetensors", "--smooth-from", str(donor), "--svd-rank", "32")
    assert json.loads(header(chosen)["quantization_config"])["rank"] == 32


def smoothing(magnitudes: torch.Tensor) -> np.ndarray:
    roots = torch.sqrt(magnitudes)
    return (roots / torch.exp(torch.log(roots).mean())).numpy()


def test_magnitudes_of_inputs_smooth(flux, tmp_path):
    """By the names of diffusers' layers, with and without `.weight`; a fused layer's inputs are those of its first, and
    what is cut in two has each its columns."""
    generator = torch.Generator().manual_seed(6)
    rows = {}
    for i, (name, tensor) in enumerate(read(flux).items()):
        if tensor.ndim == 2:
            key = name if i % 2 else name.removesuffix(".weight")
            rows[key] = torch.exp(torch.randn(tensor.shape[1], generator=generator))
    save_file(rows, tmp_path / "magnitudes.safetensors")
    out = single(flux, tmp_path / "n.safetensors", "--smooth-from", str(tmp_path / "magnitudes.safetensors"))
    assert {loader: found for loader, found in rules.faults(out).items() if found} == {}
    expected = {name.removesuffix(".weight"): smoothing(row) for name, row in rows.items()}
    of = {"qkv_proj": "attn.to_q", "qkv_proj_context": "attn.add_q_proj", "out_proj": "attn.to_out.0"}
    of |= {"out_proj_context": "attn.to_add_out", "mlp_fc1": "ff.net.0.proj", "mlp_fc2": "ff.net.2"}
    of |= {"mlp_context_fc1": "ff_context.net.0.proj", "mlp_context_fc2": "ff_context.net.2"}
    seen = 0
    for name, layer in rules.layers(out).items():
        if layer.kind == "awq":
            continue
        block, last = name.rsplit(".", 1)
        if block.startswith("single"):
            wide = expected[f"{block}.proj_out"]
            cut = layer.smooth.shape[0] if last == "out_proj" else wide.shape[0] - layer.smooth.shape[0]
            one = {"out_proj": wide[:cut], "mlp_fc2": wide[cut:], "mlp_fc1": expected.get(f"{block}.proj_mlp")}
            wanted = one.get(last, expected[f"{block}.attn.to_q"])
        else:
            wanted = expected[f"{block}.{of[last]}"]
        assert np.allclose(layer.smooth, wanted, rtol=2**-8), name
        seen += 1
    assert seen == 12
    source = floats(read(flux))
    for name, values in rules.unfused(out).items():
        if name.endswith(".weight"):
            assert relative(values, source[name]) < NOISE, name


def test_what_smooths_another_model_is_refused(flux, qwen, tmp_path):
    strange = {f"layers.{i}.attention.to_q": torch.ones(128) * (i + 1) for i in range(2)}
    save_file(strange, tmp_path / "strange.safetensors")
    line = refused("convert", flux, "--to", "nunchaku", "--smooth-from", tmp_path / "strange.safetensors", "-o", tmp_path / "a.safetensors")
    assert "layers.0.attention.to_q" in line
    other = single(qwen, tmp_path / "qwen.safetensors")
    tensors = load_file(other)
    for name in tensors:
        if name.endswith(("smooth_factor", "smooth_factor_orig")):
            tensors[name] = torch.full_like(tensors[name], 2)
    save_file(tensors, other, header(other))
    line = refused("convert", flux, "--to", "nunchaku", "--smooth-from", other, "-o", tmp_path / "b.safetensors")
    assert "QwenImageTransformer2DModel" in line or "no layer finds" in line


def test_the_config_of_another_class_is_refused(flux, qwen, tmp_path):
    line = refused("convert", flux, "--to", "nunchaku", "--model-path", qwen, "-o", tmp_path / "a.safetensors")
    assert "QwenImageTransformer2DModel" in line


def test_a_config_that_asks_for_other_arrays_is_warned_of(flux, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((flux / "config.json").read_text())
    for change, named in [
        ({}, None),
        ({"guidance_embeds": False}, "guidance_embedder"),
        ({"num_layers": 2}, "num_layers"),
        ({"joint_attention_dim": 256}, "context_embedder"),
    ]:
        (other / "config.json").write_text(json.dumps(config | change))
        report = mixdown_json("plan", flux, "--to", "nunchaku", "--dtype", "nvfp4", "--model-path", other)
        warned = [warning for warning in report["warnings"] if "loaders would refuse" in warning]
        assert [named in warning for warning in warned] == ([True] if named else [])


def test_plain_refiners_are_read_back(z_image, tmp_path):
    """Their gates stand before their values there, in one array; diffusers has two."""
    out = single(z_image, tmp_path / "plain.safetensors", "--exclude", "refiner")
    mixdown("validate", out, "--against", z_image)
    back = tmp_path / "back"
    mixdown("convert", out, "--to", "float", "-o", back)
    source, restored = floats(read(z_image)), floats(read(back))
    assert restored.keys() == source.keys()
    for name, values in restored.items():
        if "refiner" in name:
            assert np.array_equal(values, source[name]), name


def test_a_layer_of_fewer_rows_than_the_rank_is_whole_in_its_branch(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    generator = torch.Generator().manual_seed(9)
    weight = torch.randn(128, 256, generator=generator).to(torch.bfloat16)
    save_file({"blocks.0.proj.weight": weight}, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"_class_name": "Made"}))
    out = tmp_path / "lite"
    mixdown("convert", folder, "--to", "nunchaku", "--lite", "--svd-rank", "256", "-o", out)
    [layer] = rules.layers(out).values()
    assert layer.up.shape[1] == 256
    assert relative(layer.weight, weight.float().numpy()) < 0.01


def test_a_branch_keeps_what_codes_alone_lose(flux, tmp_path):
    """Weights with a decaying spectrum: far below what rounding to the nearest loses."""
    from safetensors.torch import load_file as load

    folder = tmp_path / "transformer"
    folder.mkdir()
    (folder / "config.json").write_text((flux / "config.json").read_text())
    weights = {name: tensor for file in flux.glob("*.safetensors") for name, tensor in load(file).items()}
    generator = torch.Generator().manual_seed(1)
    for name, tensor in weights.items():
        if tensor.ndim == 2 and "transformer_blocks" in name:
            n, k = tensor.shape
            rank = min(n, k)
            u = torch.linalg.qr(torch.randn(n, rank, generator=generator))[0]
            v = torch.linalg.qr(torch.randn(k, rank, generator=generator))[0]
            weights[name] = ((u * torch.arange(1, rank + 1) ** -1.0) @ v.T).to(torch.bfloat16)
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    report = mixdown_json("trial", folder, "--to", "nunchaku")
    for name, row in quantized_rows(report).items():
        if row["svd_rank"] > 0:
            source = weights[row["sources"][0]].to(torch.float64).numpy()
            groups = source.reshape(-1, 64)
            scale = np.abs(groups).max(axis=1, keepdims=True) / 7
            nearest = np.round(groups / scale) * scale
            plain = float(((nearest - groups) ** 2).sum() / (groups**2).sum())
            assert row["relative_error"] < plain / 4, name


def test_what_the_loaders_would_refuse_is_refused(flux, tmp_path):
    one = "transformer_blocks.0.mlp_fc1"
    cases = [
        (["--svd-rank", "24"], "multiples of 16"),
        (["--exclude", "ff.net.0.proj"], f"{one}.weight"),
        (["--tensor-type", "mlp_fc1=nvfp4"], "one dtype"),
    ]
    for flags, said in cases:
        assert said in refused("convert", flux, "--to", "nunchaku", *flags, "-o", tmp_path / "n.safetensors"), flags
    assert "--lite" in refused("convert", flux, "--to", "nunchaku", "-o", tmp_path / "folder", code=2)
    assert not (tmp_path / "n.safetensors").exists()


@pytest.mark.parametrize(("family", "arrays"), [("flux", 2604), ("qwen", 4093), ("z_image", 1099)])
def test_full_size_models_have_the_arrays_of_the_published_files(family, arrays, tmp_path):
    """Headers in full size over a hole: a plan reads no weight."""
    import diffusers

    make = {
        "flux": lambda: diffusers.FluxTransformer2DModel(guidance_embeds=True),
        "qwen": diffusers.QwenImageTransformer2DModel,
        "z_image": diffusers.ZImageTransformer2DModel,
    }[family]
    with torch.device("meta"):
        model = make()
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": type(model).__name__, **model.config}))
    header, at = {}, 0
    for name, tensor in model.state_dict().items():
        size = 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(tmp_path / "diffusion_pytorch_model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    out = tmp_path / "out.safetensors"
    report = mixdown_json("plan", tmp_path, "--to", "nunchaku", "-o", out)
    assert report["totals"]["output_tensors"] == arrays
    if family == "flux":
        # The published file's size.
        assert report["totals"]["file_bytes"] / 2**30 == pytest.approx(6.30, abs=0.01)


def test_a_trained_model_loses_less_than_by_rounding(minilm, tmp_path):
    """MiniLM's layers of 384, rank 32, in int4: below what codes of the same groups lose alone."""
    report = mixdown_json("trial", minilm, "--to", "nunchaku", "--lite", "--dtype", "int4")
    source = floats(read(minilm))
    rows = {name: row for name, row in quantized_rows(report).items() if row["svd_rank"] > 0}
    assert len(rows) == 36
    for name, row in rows.items():
        groups = source[f"{name}.weight"].reshape(-1, 64)
        scale = np.abs(groups).max(axis=1, keepdims=True) / 7
        nearest = np.round(groups / scale) * scale
        assert row["relative_error"] < ((nearest - groups) ** 2).sum() / (groups**2).sum(), name
    assert any("smoothing" in warning for warning in report["warnings"])


def test_a_file_without_metadata_is_repaired(flux, tmp_path):
    """The tensors alone, as public tools leave them: named by validate, repaired from the folder, and then fine."""
    out = single(flux, tmp_path / "n.safetensors")
    assert json.loads(validated(out))["ok"], validated(out)
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(out), bare)
    assert not json.loads(validated(bare))["ok"]
    mixdown("metadata", "add", bare, "--from", flux)
    report = json.loads(validated(bare, "--against", flux))
    assert report["ok"], [check for check in report["checks"] if check["level"] == "error"]
    assert {loader: found for loader, found in rules.faults(bare).items() if found} == {}
    before, after = load_file(out), load_file(bare)
    assert set(before) == set(after)
    assert all(torch.equal(before[name].view(torch.uint8), after[name].view(torch.uint8)) for name in before)


def validated(path: Path, *flags: object) -> str:
    import subprocess

    from support import BINARY

    command = [BINARY, "validate", path, *flags, "--json"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("precision", PRECISIONS)
def test_against_its_source_a_file_is_judged(flux, precision, tmp_path):
    """Fine as it was written; rows out of order are named."""
    out = single(flux, tmp_path / "n.safetensors", "--dtype", precision)
    report = json.loads(validated(out, "--against", flux))
    assert report["ok"], [check for check in report["checks"] if check["level"] == "error"]
    tensors = load_file(out)
    name = "transformer_blocks.0.mlp_fc1.qweight"
    tensors[name] = tensors[name].view(-1, 128, tensors[name].shape[1]).flip(0).reshape(tensors[name].shape).contiguous()
    save_file(tensors, out, header(out))
    wrong = [check for check in json.loads(validated(out, "--against", flux))["checks"] if check["level"] == "error"]
    assert any("ff.net.0.proj.weight" in check["detail"] for check in wrong), wrong
