#!/usr/bin/env python3
"""How fast mixdown converts a whole file beside llama.cpp's llama_model_quantize: prints a table, exits with 1 if tensors differ.

    python tests/interop/speed_llama.py [--dir DIR] [--rounds N] [--modes Q4_K_M,Q8_0] [--markdown]

It needs numpy, gguf and llama-cpp-python, after `cargo build --release`. The model is a Llama of 1.3 GB of BF16 with random
weights. Both sides work with two threads and take turns, each warmed up by a round that does not count; of llama.cpp
only the call is timed, of mixdown the whole process. Medians; ratios of each round's pair. DIR needs 4 GB.
"""

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy
from speed import BINARY, THREADS, measured, spread

EMBEDDING, FEED_FORWARD, HEADS, KV_HEADS, LAYERS, VOCABULARY = 2048, 5632, 32, 4, 14, 2048
MODES = ["Q4_K_M", "IQ4_XS", "Q8_0", "Q6_K", "Q2_K"]

# The parameters begin with the threads and the file type; they are given room for more than they have.
CALL = """
import ctypes, sys, time
class Params(ctypes.Structure):
    _fields_ = [("words", ctypes.c_int32 * 256)]
library, source, out, number, threads = sys.argv[1:]
llama = ctypes.CDLL(library)
llama.llama_model_quantize_default_params.restype = Params
params = llama.llama_model_quantize_default_params()
params.words[0], params.words[1] = int(threads), int(number)
quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
llama.llama_log_set(quiet, None)
llama.llama_backend_init()
start = time.perf_counter()
failed = llama.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params))
print(time.perf_counter() - start)
sys.exit(failed)
"""


def library() -> Path:
    package = importlib.util.find_spec("llama_cpp")
    if package is None:
        sys.exit("llama-cpp-python is not installed")
    return next((Path(package.origin).parent / "lib").glob("*llama.*"))


def shapes():
    yield "token_embd.weight", (VOCABULARY, EMBEDDING)
    yield "output_norm.weight", (EMBEDDING,)
    yield "output.weight", (VOCABULARY, EMBEDDING)
    narrow = EMBEDDING // HEADS * KV_HEADS
    for i in range(LAYERS):
        yield f"blk.{i}.attn_norm.weight", (EMBEDDING,)
        for part, rows in {"attn_q": EMBEDDING, "attn_k": narrow, "attn_v": narrow, "attn_output": EMBEDDING}.items():
            yield f"blk.{i}.{part}.weight", (rows, EMBEDDING)
        yield f"blk.{i}.ffn_norm.weight", (EMBEDDING,)
        yield f"blk.{i}.ffn_gate.weight", (FEED_FORWARD, EMBEDDING)
        yield f"blk.{i}.ffn_up.weight", (FEED_FORWARD, EMBEDDING)
        yield f"blk.{i}.ffn_down.weight", (EMBEDDING, FEED_FORWARD)


def write_model(path: Path) -> int:
    """Normal values, cut from one block at a new place for each tensor."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(EMBEDDING)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"t{i}" for i in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([float(-i) for i in range(VOCABULARY)])
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (VOCABULARY - 259)])
    kind = gguf.GGMLQuantizationType.BF16
    values = numpy.random.default_rng(1).standard_normal(24 << 20, dtype=numpy.float32) * numpy.float32(0.02)
    block, at = gguf.quantize(values.reshape(-1, 2048), kind).reshape(-1), 0
    for name, shape in shapes():
        if len(shape) == 1:
            writer.add_tensor(name, numpy.ones(shape, numpy.float32))
            continue
        size, at = 2 * shape[0] * shape[1], (at + 4098) % (8 << 20)
        writer.add_tensor(name, block[at : at + size].reshape(shape[0], -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.stat().st_size


def by_llama(model: Path, out: Path, mode: str) -> tuple[float, float]:
    """Seconds of the call, and the most memory that the process held, in MiB."""
    out.unlink(missing_ok=True)
    number = int(gguf.LlamaFileType[f"MOSTLY_{mode}"])
    _, held, printed = measured([sys.executable, "-c", CALL, library(), model, out, number, THREADS])
    return float(printed.split()[-1]), held


def by_mixdown(model: Path, out: Path, mode: str) -> tuple[float, float]:
    out.unlink(missing_ok=True)
    flags = ["--dtype", mode, "--memory", "256MiB", "--threads", THREADS, "--quiet"]
    seconds, held, _ = measured([BINARY, "convert", model, *flags, "-o", out])
    return seconds, held


def same_tensors(a: Path, b: Path) -> bool:
    ours, theirs = ({t.name: (t.tensor_type, t.data) for t in gguf.GGUFReader(path).tensors} for path in (a, b))
    return list(ours) == list(theirs) and all(
        ours[name][0] == kind and numpy.array_equal(ours[name][1], data) for name, (kind, data) in theirs.items()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where the files are written [default: the temporary folder]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", type=lambda text: text.upper().split(","), default=MODES)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="mixdown-speed-", dir=given.dir))
    model, ours, theirs = folder / "model.gguf", folder / "ours.gguf", folder / "theirs.gguf"
    line = "| {:7} | {:>11} | {:>9} | {:>20} | {:>13} |{}" if given.markdown else "{:8} {:>12} {:>10} {:>22} {:>14}{}"
    equal = True
    try:
        size = write_model(model)
        print(f"a Llama of {size / 1e9:.2f} GB of BF16, {THREADS} threads, {os.cpu_count()} cores")
        print(line.format("", "llama.cpp s", "mixdown s", "times as fast", "MiB held", ""))
        if given.markdown:
            print("|---|---:|---:|---:|---:|")
        for mode in given.modes:
            pairs = [(by_llama(model, theirs, mode), by_mixdown(model, ours, mode)) for _ in range(given.rounds + 1)][1:]
            same = same_tensors(ours, theirs)
            equal &= same
            a, b = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
            ratios = [a[0] / b[0] for a, b in pairs]
            held = " / ".join(f"{max(pair[side][1] for pair in pairs):.0f}" for side in (0, 1))
            ratio = f"{statistics.median(ratios):.1f} ({spread(ratios)})"
            note = "" if same else "  TENSORS DIFFER"
            print(line.format(mode, f"{a:.2f}", f"{b:.2f}", ratio, held, note), flush=True)
    except subprocess.CalledProcessError as failed:
        print(failed)
        return 1
    finally:
        shutil.rmtree(folder)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
