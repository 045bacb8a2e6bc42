"""Every integer format that SDNQ and mixdown share, in every geometry of groups."""

from functools import cache
from pathlib import Path

import pytest
import torch
from sdnq.quantizer import sdnq_quantize_layer_weight

from support import largest_difference, load_strict, mixdown_json, quantized_rows, read, sdnq_layers, stored

DTYPES = [f"int{n}" for n in range(8, 1, -1)] + [f"uint{n}" for n in range(8, 0, -1)]
GROUP_SIZES = [0, -1, -2, 32]


@pytest.fixture(params=[(d, g) for d in DTYPES for g in GROUP_SIZES], ids=lambda p: f"{p[0]}, groups of {p[1]}")
def flags(request) -> list[str]:
    dtype, group_size = request.param
    return ["--to", "sdnq", "--dtype", dtype, "--group-size", str(group_size)]


@cache
def loaded(folder: Path) -> torch.nn.Module:
    return load_strict(folder)


def test_the_strict_loader_takes_it_and_computes_what_mixdown_decodes(tiny_bert, convert, decode, flags, note):
    folder = convert(tiny_bert, *flags)
    model = loaded(folder)
    assert sdnq_layers(model).keys() == quantized_rows(mixdown_json("plan", tiny_bert, *flags)).keys()
    difference = largest_difference(model, read(decode(folder)), of_row=True)
    note("all formats: largest difference of a weight, of its row's maximum", difference)
    assert difference <= 1e-6


def test_codes_scales_and_zero_points_are_the_librarys_own(tiny_bert, convert, flags):
    original = read(tiny_bert / "model.safetensors")
    converted = read(convert(tiny_bert, *flags))
    rows = quantized_rows(mixdown_json("plan", tiny_bert, *flags))
    assert rows
    for layer, row in rows.items():
        _, expected = sdnq_quantize_layer_weight(
            original[layer + ".weight"],
            layer_class_name="Linear",
            weights_dtype=row["to"],
            group_size=row["group_size"],
        )
        parts = stored(converted, layer)
        for part in ("weight", "scale", "zero_point"):
            want = expected[part]
            assert (part in parts) == (want is not None), f"{layer}.{part}"
            if want is None:
                continue
            if part == "weight" and row["to"] == "uint1":
                want = want.to(torch.uint8)  # the library keeps a byte's worth in each int64
            assert parts[part].dtype == want.dtype and parts[part].shape == want.shape, f"{layer}.{part}"
            assert torch.equal(parts[part], want), f"{layer}.{part}"


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.endswith("8")])
def test_the_automatic_group_size_is_the_librarys_own(tiny_bert, dtype):
    # 8 bits are left out: there the library makes groups of 1024 and mixdown a row, which fast kernels need.
    original = read(tiny_bert / "model.safetensors")
    rows = quantized_rows(mixdown_json("plan", tiny_bert, "--to", "sdnq", "--dtype", dtype, "--group-size", 0))
    for layer, row in rows.items():
        weight = original[layer + ".weight"]
        own, asked = (
            sdnq_quantize_layer_weight(weight, layer_class_name="Linear", weights_dtype=dtype, group_size=size)[0]
            for size in (0, row["group_size"])
        )
        assert asked.group_size == own.group_size, layer
