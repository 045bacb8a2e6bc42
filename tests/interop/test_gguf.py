"""GGUF files that the gguf package wrote are read as it reads them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from support import mixdown, mixdown_json, refused

QUANTIZED = ["Q4_0", "Q5_1", "Q8_0", "Q2_K", "Q4_K", "Q6_K", "IQ4_XS", "TQ1_0", "MXFP4", "NVFP4"]


def write(path, tensors, raw=(), **options):
    """A file of float tensors as they are, and of quantized ones as zeros: name, shape, type."""
    writer = gguf.GGUFWriter(path, "llama", **options)
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    writer.add_string("general.name", "naïve \"重み\"")
    writer.add_array("tokenizer.ggml.tokens", [f"<{i}>" for i in range(500)])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_uint64("general.large", 2**64 - 1)
    writer.add_int8("general.small", -5)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    for name, shape, kind in raw:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        bytes_ = np.zeros((*shape[:-1], shape[-1] // block * size), np.uint8)
        writer.add_tensor(name, bytes_, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def floats(*shape, dtype=np.float32, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_keys_and_tensors_are_what_the_library_wrote(tmp_path):
    kinds = [gguf.GGMLQuantizationType[name] for name in QUANTIZED]
    raw = [(f"blk.{i}.ffn_up_exps.weight", (2, 3, 512), kind) for i, kind in enumerate(kinds)]
    path = write(tmp_path / "m.gguf", {"a": floats(3, 5), "b": floats(7, dtype=np.float16)}, raw)
    report = mixdown_json("inspect", path)
    assert (report["format"], report["architecture"]) == ("gguf", "llama")
    metadata = report["metadata"]
    assert metadata["llama.block_count"] == "2"
    assert metadata["llama.rope.freq_base"] == "10000"
    assert metadata["general.name"] == "naïve \"重み\""
    assert metadata["tokenizer.ggml.tokens"].startswith('500 × string: "<0>", "<1>"')
    assert metadata["tokenizer.ggml.scores"] == [0.5, -1]
    assert metadata["tokenizer.ggml.add_bos_token"] == "true"
    assert metadata["general.large"] == str(2**64 - 1)
    assert metadata["general.small"] == "-5"
    theirs = {t.name: t for t in gguf.GGUFReader(path).tensors}
    assert [t["name"] for t in report["tensors"]] == list(theirs)
    for tensor in report["tensors"]:
        their = theirs[tensor["name"]]
        assert tensor["dtype"] == their.tensor_type.name
        assert tensor["shape"] == [int(n) for n in reversed(their.shape)]
        assert tensor["bytes"] == their.n_bytes


def test_plain_tensors_become_safetensors_bit_for_bit(tmp_path):
    tensors = {"a.weight": floats(6, 96), "b.weight": floats(4, 32, dtype=np.float16), "c": floats(9)}
    path = write(tmp_path / "m.gguf", tensors)
    out = tmp_path / "out.safetensors"
    mixdown("convert", path, "--to", "float", "--dtype", "f32", "-o", out)
    for name, tensor in load_file(out).items():
        assert torch.equal(tensor, torch.from_numpy(tensors[name]).float()), name


def test_several_files_are_one_model(tmp_path):
    tensors = {f"blk.{i}.attn_q.weight": floats(8, 64, seed=i) for i in range(5)}
    write(tmp_path / "m.gguf", tensors, split_max_tensors=2)
    first = tmp_path / "m-00001-of-00003.gguf"
    report = mixdown_json("inspect", first)
    assert [t["name"] for t in report["tensors"]] == list(tensors)
    assert len({t["file"] for t in report["tensors"]}) == 3
    assert "m-00001-of-00003.gguf" in refused("inspect", tmp_path / "m-00002-of-00003.gguf")
    (tmp_path / "m-00003-of-00003.gguf").unlink()
    assert "m-00003-of-00003.gguf" in refused("inspect", first)


@pytest.mark.parametrize("cut", [3, 20, 100, 4000, -1])
def test_a_file_that_is_cut_short_is_refused(tmp_path, cut):
    path = write(tmp_path / "m.gguf", {"a.weight": floats(64, 64)})
    path.write_bytes(path.read_bytes()[:cut])
    assert "m.gguf: " in refused("inspect", path)


DATA = Path(__file__).resolve().parents[1] / "data" / "ggml"


def decodes(name):
    """Whether the library knows what blocks of that type mean: of some it knows only the size."""
    kind = gguf.GGMLQuantizationType[name]
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


# Blocks that ggml wrote, by type: `q4_K.bf16.none.bin`, `simple/q4_0.bin`.
BLOCKS = {}
for file in sorted(DATA.glob("*.bin")) + sorted((DATA / "simple").glob("*.bin")):
    name = file.name.split(".")[0].upper()
    if name in gguf.GGMLQuantizationType.__members__ and name not in ("F16", "BF16") and decodes(name):
        BLOCKS.setdefault(name, []).append(file)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_decode_as_the_library_decodes_them(tmp_path, name):
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    arrays = {}
    for file in BLOCKS[name]:
        blocks = np.frombuffer(file.read_bytes(), np.uint8).reshape(-1, size)
        # Without the scales that overflow: an infinity has no place in a model.
        finite = np.isfinite(gguf.dequantize(blocks, kind)).all(axis=-1)
        arrays[f"{file.stem}.weight"] = blocks[finite]
    assert all(len(blocks) for blocks in arrays.values())
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for layer, blocks in arrays.items():
        writer.add_tensor(layer, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    mixdown("convert", tmp_path / "m.gguf", "--to", "float", "--dtype", "f32", "-o", tmp_path / "m.safetensors")
    ours = load_file(tmp_path / "m.safetensors")
    for layer, blocks in arrays.items():
        expected = gguf.dequantize(blocks, kind)
        mine = ours[layer].numpy()
        assert mine.shape == expected.shape == (len(blocks), block)
        # Both round each product and sum in f32, not always in the same order: at most three roundings apart.
        worst = np.abs(mine - expected).max(axis=1)
        assert (worst <= np.abs(expected).max(axis=1) * 3 * 2.0**-24).all(), f"{layer}: {worst.max()}"
