"""Single files and self-descriptions: what the safetensors library finds in them."""

import json

import pytest
import torch
from safetensors import safe_open

from support import header, load_strict, mixdown_json, quantized_rows, read, stored

FLAGS = ["--to", "sdnq", "--dtype", "uint4", "--svd-rank", "4"]
SUFFIX = ".weight_metadata"


@pytest.fixture(scope="module")
def rows(tiny_bert) -> dict[str, dict]:
    return quantized_rows(mixdown_json("trial", tiny_bert, *FLAGS))


def check_description(description: dict, row: dict) -> None:
    assert description["target"] == "sdnq"
    assert description["weights_dtype"] == row["to"]
    assert description["group_size"] == row["group_size"]
    assert (description["use_svd"], description["svd_rank"]) == (True, row["svd_rank"])
    assert description["original_shape"] == row["shape"]
    assert description["original_dtype"] == row["from"]
    # Seven digits are printed.
    assert description["mse"] == pytest.approx(row["mse"], rel=1e-6)
    assert description["max_error"] == pytest.approx(row["max_error"], rel=1e-6)


def check_tensors(tensors: dict[str, torch.Tensor], rows: dict[str, dict]) -> None:
    assert {name.removesuffix(SUFFIX) for name in tensors if name.endswith(SUFFIX)} == rows.keys()
    for layer, row in rows.items():
        tensor = tensors[layer + SUFFIX]
        assert tensor.dtype == torch.uint8 and tensor.ndim == 1
        check_description(json.loads(tensor.numpy().tobytes()), row)


def check_header(description: str, rows: dict[str, dict]) -> None:
    layers = json.loads(description)
    assert layers.keys() == rows.keys()
    for layer, row in rows.items():
        check_description(layers[layer], row)


def test_a_single_file_opens_and_holds_what_the_folder_holds(tiny_bert, convert):
    file = convert(tiny_bert, *FLAGS, out="model.safetensors")
    folder = read(convert(tiny_bert, *FLAGS))
    with safe_open(file, framework="pt") as opened:
        names = [name for name in opened.keys() if not name.endswith(SUFFIX)]  # noqa: SIM118 (not a mapping)
        assert set(names) == folder.keys()
        for name in names:
            assert torch.equal(opened.get_tensor(name), folder[name]), name


def test_a_single_file_describes_each_layer_in_a_tensor(tiny_bert, convert, rows):
    file = convert(tiny_bert, *FLAGS, out="model.safetensors")
    assert "mixdown" not in header(file)
    check_tensors(read(file), rows)


def test_a_single_file_can_describe_its_layers_in_the_header(tiny_bert, convert, rows):
    file = convert(tiny_bert, *FLAGS, "--no-metadata-tensors", out="model.safetensors")
    assert not any(name.endswith(SUFFIX) for name in read(file))
    check_header(header(file)["mixdown"], rows)


def test_a_folder_describes_its_layers_in_the_header(tiny_bert, convert, rows):
    folder = convert(tiny_bert, *FLAGS)
    assert not any(name.endswith(SUFFIX) for name in read(folder))
    check_header(header(folder / "model.safetensors")["mixdown"], rows)


def test_a_folder_can_describe_each_layer_in_a_tensor(tiny_bert, convert, rows):
    folder = convert(tiny_bert, *FLAGS, "--metadata-tensors")
    assert "mixdown" not in header(folder / "model.safetensors")
    check_tensors(read(folder), rows)


def test_files_say_that_pytorch_reads_them(tiny_bert, convert):
    for file in (convert(tiny_bert, *FLAGS) / "model.safetensors", convert(tiny_bert, *FLAGS, out="model.safetensors")):
        assert header(file)["format"] == "pt"


def test_each_layer_has_the_parts_its_row_counts(tiny_bert, convert, rows):
    tensors = read(convert(tiny_bert, *FLAGS))
    for layer, row in rows.items():
        parts = stored(tensors, layer)
        parts.pop("bias", None)
        assert parts.keys() == {"weight", "scale", "zero_point", "svd_up", "svd_down"}
        assert sum(t.nbytes for t in parts.values()) == row["bytes_after"], layer


def test_the_strict_loader_takes_the_folder_without_tensors_of_its_own(tiny_bert, convert, rows):
    model = load_strict(convert(tiny_bert, *FLAGS))
    assert not any(name.endswith(SUFFIX) for name in model.state_dict())
