"""The figures that mixdown prints: the same everywhere, and true."""

import math

import numpy as np
import pytest
import torch

from support import (
    dequantized,
    digest,
    load_strict,
    mixdown,
    mixdown_json,
    quantized_rows,
    read,
    sdnq_layers,
    stored,
    weight_files,
)

RECIPES = {
    "int8": ["--to", "sdnq", "--dtype", "int8"],
    "uint4": ["--to", "sdnq", "--dtype", "uint4"],
    "int2, whole tensor": ["--to", "sdnq", "--dtype", "int2", "--group-size", "-2"],
    "uint4, rank 32": ["--to", "sdnq", "--dtype", "uint4", "--svd-rank", "32"],
    "bf16": ["--to", "float", "--dtype", "bf16"],
}
QUANTIZED = [name for name in RECIPES if name != "bf16"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_trial_and_convert_print_the_same_loss_for_each_tensor(minilm, tmp_path, recipe):
    trial = mixdown_json("trial", minilm, *RECIPES[recipe])
    conversion = mixdown_json("convert", minilm, *RECIPES[recipe], "-o", tmp_path / "out")
    assert trial["tensors"] == conversion["tensors"]
    for total in ("mean_mse", "relative_error", "bytes_after", "bits_per_weight"):
        assert trial["totals"][total] == conversion["totals"][total], total


@pytest.mark.parametrize("out", ["out", "out.safetensors"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_plan_predicts_the_size_of_the_files(minilm, tmp_path, recipe, out):
    plan = mixdown_json("plan", minilm, *RECIPES[recipe], "-o", tmp_path / out)
    conversion = mixdown_json("convert", minilm, *RECIPES[recipe], "-o", tmp_path / out)
    size = sum(file.stat().st_size for file in weight_files(tmp_path / out))
    assert plan["totals"]["file_bytes"] == conversion["totals"]["file_bytes"] == size


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_number_of_threads_changes_no_byte(minilm, tmp_path, recipe):
    for threads in (1, 2):
        mixdown("convert", minilm, *RECIPES[recipe], "--threads", threads, "-o", tmp_path / str(threads))
    assert digest(tmp_path / "1") == digest(tmp_path / "2")


def figures(original: np.ndarray, decoded: np.ndarray) -> dict[str, float | None]:
    original, decoded = original.astype(np.float64), decoded.astype(np.float64)
    error = original - decoded
    relative = float(np.square(error).sum() / np.square(original).sum()) if original.any() else 0.0
    return {
        "mse": float(np.square(error).mean()),
        "max_error": float(np.abs(error).max()),
        "relative_error": relative,
        "sqnr_db": -10 * math.log10(relative) if relative else None,
    }


@pytest.mark.parametrize("recipe", QUANTIZED)
def test_the_printed_loss_is_that_of_the_librarys_weights(minilm, convert, recipe, note):
    original = read(minilm / "model.safetensors")
    folder = convert(minilm, *RECIPES[recipe])
    tensors = read(folder)
    rows = quantized_rows(mixdown_json("trial", minilm, *RECIPES[recipe]))
    worst = 0.0
    for name, layer in sdnq_layers(load_strict(folder)).items():
        row, weight = rows[name], original[name + ".weight"].numpy()
        expected = figures(weight, dequantized(layer).numpy())
        # Without a low-rank branch the f32 decode is one product and one sum, rounded alike everywhere.
        # With one, a weight is a sum of rank + 1 products in f32, and the order of summation is free: two orders
        # differ by at most d = 2 * (rank + 1) * 2^-24 * (|code part| + |up| @ |down|) in that weight. The largest
        # error moves by no more than the largest d; the mean square by no more than 2 * mean(|e| * d) + mean(d^2),
        # which Cauchy-Schwarz turns into a relative 2 * r + r^2 with r = rms(d) / rms(e).
        absolute, relative = 0.0, 1e-6
        if row["svd_rank"]:
            parts = stored(tensors, name)
            low_rank = np.abs(parts["svd_up"].numpy()) @ np.abs(parts["svd_down"].numpy())
            d = 2 * (row["svd_rank"] + 1) * 2.0**-24 * (np.abs(dequantized(layer).numpy()) + 2 * low_rank)
            absolute, ratio = float(d.max()), math.sqrt(np.square(d).mean() / expected["mse"])
            relative += 2 * ratio + ratio**2
        for figure in ("mse", "relative_error"):
            worst = max(worst, abs(row[figure] / expected[figure] - 1))
            assert row[figure] == pytest.approx(expected[figure], rel=relative, abs=0), (name, figure)
        assert row["max_error"] == pytest.approx(expected["max_error"], rel=1e-6, abs=absolute), name
        # 10 log10(1 + x) is at most 4.35 x.
        assert row["sqnr_db"] == pytest.approx(expected["sqnr_db"], rel=0, abs=4.35 * relative), name
    branch = "with" if "--svd-rank" in RECIPES[recipe] else "without"
    note(f"loss, {branch} a low-rank branch: largest relative difference", worst)


def test_the_printed_loss_of_a_cast_is_that_of_torchs_cast(minilm):
    original = read(minilm / "model.safetensors")
    rows = quantized_rows(mixdown_json("trial", minilm, *RECIPES["bf16"])).values()
    assert rows
    for row in rows:
        tensor = original[row["name"]]
        expected = figures(tensor.numpy(), tensor.to(torch.bfloat16).float().numpy())
        for figure, value in expected.items():
            wanted = value if value is None else pytest.approx(value, rel=1e-6, abs=0)
            assert row[figure] == wanted, (row["name"], figure)


@pytest.mark.parametrize("recipe", QUANTIZED)
def test_the_totals_follow_from_the_rows(minilm, recipe):
    report = mixdown_json("trial", minilm, *RECIPES[recipe])
    totals, rows = report["totals"], quantized_rows(report).values()
    elements = [math.prod(row["shape"]) for row in rows]
    float_rows = [row for row in report["tensors"] if not row["from"].startswith(("I", "U", "BOOL"))]
    mean = sum(n * row["mse"] for n, row in zip(elements, rows, strict=True)) / sum(elements)
    assert totals["quantized"] == len(rows)
    assert totals["mean_mse"] == pytest.approx(mean, rel=1e-9)
    assert totals["bytes_after"] == sum(row["bytes_after"] for row in report["tensors"])
    bits = 8 * sum(row["bytes_after"] for row in float_rows) / sum(math.prod(row["shape"]) for row in float_rows)
    assert totals["bits_per_weight"] == pytest.approx(bits, rel=1e-9)
