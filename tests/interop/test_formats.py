"""Every dtype that SDNQ and mixdown share, in every kind of layer, with every group size and every way of storing.

One conversion and one load hold many layers. By default a share of the product is tried, always the same; `--full`
tries all of it.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import pytest
import torch
from sdnq.common import dtype_dict
from sdnq.dequantizer import SDNQDequantizer
from sdnq.packed_int import pack_int
from sdnq.quant_utils import quantize_weight_codebook

from layers import (
    KINDS,
    UNIT,
    VARIANTS,
    Case,
    Variant,
    cases,
    codes,
    exact,
    has_wrong_maximum,
    largest_code,
    levels_axis,
    levels_of,
    load,
    own,
    residual,
    run,
    sample_input,
    save,
    share,
    tensor_types,
    values,
    weights,
)
from support import Tensors, dequantized, mixdown, read, sdnq_layers, stored

TABLES = list(product(KINDS, VARIANTS))
PLAIN = [(kind, name) for kind, name in TABLES if name == "plain"]
COMPUTED = [(kind, name) for kind, name in TABLES if not VARIANTS[name].levels and name != "plain"]
LEVELS = [(kind, name) for kind, name in TABLES if VARIANTS[name].levels]
LOW_RANK = [(kind, name) for kind, name in TABLES if VARIANTS[name].rank]


@dataclass(frozen=True)
class Table:
    """Layers of one kind, stored in one way: as they were, as mixdown wrote and reads them, as sdnq loaded them."""

    kind: str
    variant: Variant
    cases: list[Case]
    original: Tensors
    converted: Tensors
    decoded: Tensors
    model: torch.nn.Module
    by_sdnq: dict[Case, tuple[SDNQDequantizer, dict]] = field(default_factory=dict)

    def layers(self) -> Iterator[tuple[Case, torch.nn.Module, torch.Tensor]]:
        """Each case with its layer and its original weight."""
        for case in self.cases:
            yield case, self.model.get_submodule(case.name), self.original[case.name + ".weight"]

    def own(self, case: Case) -> tuple[SDNQDequantizer, dict]:
        """A case's layer as sdnq quantizes it."""
        if case not in self.by_sdnq:
            weight = self.original[case.name + ".weight"]
            self.by_sdnq[case] = own(self.kind, self.variant, case, weight)
        return self.by_sdnq[case]


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    kind, name = request.param
    variant = VARIANTS[name]
    some, full = cases(kind, variant), request.config.getoption("--full")
    if not variant.levels and not full:
        some = share(some, TABLES.index(request.param))
    folder = tmp_path_factory.mktemp("table")
    original = weights(kind, some)
    save(folder / "model", kind, original)
    flags = ["--quant-conv", "--quant-embedding", *variant.flags, *tensor_types(some)]
    mixdown("convert", folder / "model", "--to", "sdnq", *flags, "-o", folder / "sdnq")
    decoded = folder / "decoded.safetensors"
    mixdown("convert", folder / "sdnq", "--to", "float", "--dtype", "f32", "-o", decoded)
    model = load(folder / "sdnq", quickly=full)
    yield Table(kind, variant, some, original, read(folder / "sdnq"), read(decoded), model)
    shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Layers as small as these take longer with several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tables(some: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("table", some, ids=", ".join, indirect=True)


def squared_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a.double() - b.double()).square().sum().item()


# ---------------------------------------------------------------- all of them


@tables(TABLES)
def test_the_strict_loader_takes_it_and_computes_what_mixdown_decodes(table, note):
    assert sdnq_layers(table.model).keys() == {case.name for case in table.cases}
    for case, layer, _ in table.layers():
        decoded, library = table.decoded[case.name + ".weight"], dequantized(layer)
        weight, off = exact(layer)
        assert layer.sdnq_dequantizer.weights_dtype == case.dtype
        assert decoded.dtype == torch.float32 and decoded.shape == library.shape, case.name
        rows = decoded.flatten(1).abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        difference = ((library - decoded).flatten(1).abs() / rows).max().item()
        rotated = "rotated" if table.variant.rotated else "not rotated"
        note(f"formats, {rotated}: largest difference of a weight from sdnq's, of its row's maximum", difference)
        for computed in (library, decoded):
            assert ((computed - weight).abs() <= off).all(), case.name
        # A rotation sums up as many products as it mixes values.
        assert difference <= 1e-6 or table.variant.rotated, case.name


@tables(TABLES)
@torch.no_grad()
def test_a_layer_computes_what_pytorchs_own_computes_with_the_decoded_weight(table, note):
    # An output is a sum of n products: in f32 either sum is off by n units of the sum of their magnitudes.
    x = sample_input(table.kind)
    n = table.original[table.cases[0].name + ".weight"][0].numel()
    for case, layer, _ in table.layers():
        weight = table.decoded[case.name + ".weight"]
        _, off = exact(layer)
        magnitude = x if table.kind == "Embedding" else x.abs()
        most = run(table.kind, (2 * n * UNIT * weight.abs() + 2 * off).float(), magnitude)
        difference = (layer(x) - run(table.kind, weight, x)).abs()
        note("formats: largest difference of an output, of the most that rounding explains", (difference / most).max())
        assert (difference <= most).all(), case.name


@tables(TABLES)
def test_group_sizes_are_the_librarys_own(table):
    for case, layer, _ in table.layers():
        expected, _ = table.own(case)
        assert layer.sdnq_dequantizer.group_size == expected.group_size, case.name
        assert layer.sdnq_dequantizer.hadamard_group_size == expected.hadamard_group_size, case.name


# ---------------------------------------------------------------- codes and a scale


@tables(PLAIN)
def test_codes_scales_and_zero_points_are_the_librarys_own(table):
    for case in table.cases:
        if has_wrong_maximum(case.dtype):
            continue
        _, expected = table.own(case)
        parts = stored(table.converted, case.name)
        assert parts.keys() == {part for part, tensor in expected.items() if tensor is not None}, case.name
        for part, tensor in parts.items():
            want = expected[part]
            if part == "weight" and dtype_dict[case.dtype]["num_bits"] == 1:
                want = want.to(torch.uint8)  # the library keeps a byte's worth in each int64
            assert tensor.dtype == want.dtype and tensor.shape == want.shape, f"{case.name}.{part}"
            # The library rounds custom floats in a way of its own: see the next test.
            if part != "weight" or dtype_dict[case.dtype]["is_integer"] or not dtype_dict[case.dtype]["is_packed"]:
                assert torch.equal(tensor.view(want.dtype), want), f"{case.name}.{part}"


@tables(PLAIN)
def test_custom_floats_are_at_least_as_near_as_the_librarys_own(table, note):
    for case, layer, weight in table.layers():
        entry = dtype_dict[case.dtype]
        if entry["is_integer"] or not entry["is_packed"]:
            continue
        dequantizer, parts = table.own(case)
        theirs = squared_error(dequantizer(**parts, skip_compile=True), weight)
        ours = squared_error(dequantized(layer), weight)
        note("custom floats: squared error, of the library's own", ours / theirs)
        assert ours <= theirs, case.name


@tables(PLAIN)
def test_wide_unsigned_integers_use_the_codes_that_fit_their_bits(table):
    for case, layer, weight in table.layers():
        if not has_wrong_maximum(case.dtype):
            continue
        w = weight.view(layer.sdnq_dequantizer.quantized_weight_shape)
        dims = [d for d in range(w.ndim) if layer.scale.shape[d] == 1 and w.shape[d] > 1]
        zero_point = w.amin(dim=dims, keepdim=True)
        scale = (w.amax(dim=dims, keepdim=True) - zero_point) / largest_code(case.dtype)
        expected = ((w - zero_point) / scale).round().clamp(0, largest_code(case.dtype))
        assert torch.equal(layer.zero_point, zero_point), case.name
        assert torch.equal(layer.scale, scale), case.name
        assert torch.equal(layer.weight, pack_int(expected.to(torch.int32), case.dtype)), case.name


# ---------------------------------------------------------------- rotations and low-rank branches


@tables(COMPUTED)
def test_every_code_is_the_nearest_to_what_is_left_of_the_weight(table, note):
    # Rotations and products are sums in f32, which libraries add up in orders of their own; so codes are held against
    # the same computed in f64. A value is off by `off` and three roundings more; a code is not the nearest only where
    # two are as near within twice that.
    for case, layer, weight in table.layers():
        left, off = residual(layer, weight)
        scale = layer.scale.double()
        zero_point = layer.zero_point.double() if layer.zero_point is not None else torch.zeros_like(scale)
        off = off + 3 * UNIT * (left.abs() + zero_point.abs())
        dims = [d for d in range(left.ndim) if scale.shape[d] == 1 and left.shape[d] > 1]
        most_off = off.amax(dim=dims, keepdim=True)
        lowest, highest = left.amin(dim=dims, keepdim=True), left.amax(dim=dims, keepdim=True)
        span = scale * largest_code(case.dtype)
        if layer.zero_point is not None:
            assert ((zero_point - lowest).abs() <= most_off).all(), case.name
            assert ((span - (highest - lowest)).abs() <= 2 * most_off).all(), case.name
        else:
            assert ((span - torch.maximum(-lowest, highest)).abs() <= most_off).all(), case.name
        asked = (left - zero_point) / scale
        grid = values(case.dtype)
        above = torch.searchsorted(grid, asked).clamp(1, len(grid) - 1)
        nearest = torch.minimum((asked - grid[above]).abs(), (asked - grid[above - 1]).abs())
        excess = (asked - codes(layer)).abs() - nearest
        assert (excess <= 2 * off / scale).all(), case.name
        others = 1000 * (excess > 0).double().mean()
        note("rotated and low-rank: codes that are not the very nearest, in a thousand", others)


@tables(LOW_RANK)
def test_a_low_rank_branch_takes_as_much_of_the_weight_as_the_librarys_own(table, note):
    for case, layer, weight in table.layers():
        left, _ = residual(layer, weight)
        dequantizer, parts = table.own(case)
        assert layer.svd_up.shape == parts["svd_up"].shape and layer.svd_down.shape == parts["svd_down"].shape
        assert layer.svd_up.dtype == parts["svd_up"].dtype and layer.svd_down.dtype == parts["svd_down"].dtype
        theirs = torch.nn.Module()
        theirs.sdnq_dequantizer, theirs.svd_up, theirs.svd_down = dequantizer, parts["svd_up"], parts["svd_down"]
        ratio = (left.norm() / residual(theirs, weight)[0].norm()).item()
        note("low-rank: norm of what is left, of the library's own", ratio)
        # Both searches are random and end near the least. A percent of the norm is less than a tenth of a decibel.
        assert ratio <= 1.01, case.name


# ---------------------------------------------------------------- levels


@tables(LEVELS)
def test_every_index_is_that_of_the_nearest_level(table):
    for case, layer, weight in table.layers():
        left, off = residual(layer, weight)
        indexes, levels = codes(layer), layer.scale.double()
        distance = (left - levels_of(layer, indexes)).abs()
        for index in range(2 ** dtype_dict[case.dtype]["num_bits"]):
            other = levels_of(layer, torch.full_like(indexes, index))
            # A boundary is the f32 mean of two levels, a value is off by `off`.
            assert (distance <= (left - other).abs() + 2 * off + 2 * UNIT * levels.abs().max()).all(), case.name


@tables(LEVELS)
def test_levels_lose_no_more_than_the_librarys_own(table, note):
    # Both move levels to the means of their values round by round. Means are summed up in orders of their own: a value
    # between two levels to the last bit can fall to either, and its block of the hundreds ends in another optimum, as
    # often better as worse.
    all_ours = all_theirs = 0.0
    for case, layer, weight in table.layers():
        left, _ = residual(layer, weight)
        axis = levels_axis(layer.sdnq_dequantizer)
        indexes, levels = quantize_weight_codebook(left.float(), axis, case.dtype)
        assert layer.scale.shape == levels.shape and layer.scale.dtype == levels.dtype, case.name
        theirs = squared_error(levels[indexes.long()] if axis is None else levels.gather(axis, indexes.long()), left)
        ours = squared_error(levels_of(layer, codes(layer)), left)
        note("levels: squared error, of the library's own", ours / theirs if theirs else 1)
        assert ours <= 1.01 * theirs, case.name
        all_ours, all_theirs = all_ours + ours, all_theirs + theirs
    note("levels: squared error of all formats, of the library's own", all_ours / all_theirs)
    assert all_ours <= (1 + 1e-5) * all_theirs
