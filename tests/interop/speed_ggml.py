#!/usr/bin/env python3
"""How fast mixdown quantizes to GGUF's types beside ggml, on this machine: prints a table, exits with 1 if bytes differ.

    python tests/interop/speed_ggml.py [--dir DIR] [--seconds S] [--types Q4_K,Q6_K] [--markdown]

It needs numpy and llama-cpp-python, of which only libggml-base is used (GGML_BASE names another one); llama.cpp's own
build must be for x86-64, for there the bytes are the same. Both sides work on one thread and on the same values, more
than the caches hold, and take turns, slice after slice; the best slice of each counts, in MB/s of f32.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parents[2]
ROWS, COLS = 4096, 4096
# The number in GGUF, and values and bytes of a block.
TYPES = {
    "F16": (1, 1, 2),
    "BF16": (30, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "IQ2_XXS": (16, 256, 66),
    "IQ2_XS": (17, 256, 74),
    "IQ2_S": (22, 256, 82),
    "IQ3_XXS": (18, 256, 98),
    "IQ3_S": (21, 256, 110),
    "IQ4_NL": (20, 32, 18),
    "IQ4_XS": (23, 256, 136),
    "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66),
    "MXFP4": (39, 32, 17),
    "NVFP4": (40, 64, 36),
    "Q1_0": (41, 128, 18),
    "Q2_0": (42, 64, 18),
}
# These take no importance matrix, or do not look at it.
WITHOUT = {"F16", "BF16", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0"}
# And these are nothing without one.
ONLY_WITH = {"IQ2_XXS", "IQ2_XS"}


class Ggml:
    """libggml-base."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(self.find()), mode=ctypes.RTLD_GLOBAL)
        quantize = self.library.ggml_quantize_chunk
        quantize.restype = ctypes.c_size_t
        quantize.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
        self.library.ggml_type_name.restype = ctypes.c_char_p

    @staticmethod
    def find() -> Path:
        if "GGML_BASE" in os.environ:
            return Path(os.environ["GGML_BASE"])
        package = importlib.util.find_spec("llama_cpp")
        if package is None or package.origin is None:
            sys.exit("install llama-cpp-python, or name a libggml-base in GGML_BASE")
        folder = Path(package.origin).parent / "lib"
        return next(path for path in folder.iterdir() if path.name.startswith(("libggml-base.", "ggml-base.")))

    def has(self, kind: str) -> bool:
        name = self.library.ggml_type_name(TYPES[kind][0])
        return name is not None and name.decode().lower() == kind.lower()

    def seconds(self, kind: str, values: numpy.ndarray, importance: numpy.ndarray | None, out: numpy.ndarray) -> float:
        rows, cols = values.shape
        weights = None if importance is None else importance.ctypes.data
        start = time.perf_counter()
        size = self.library.ggml_quantize_chunk(
            TYPES[kind][0], values.ctypes.data, out.ctypes.data, 0, rows, cols, weights
        )
        seconds = time.perf_counter() - start
        if size != out.size:
            sys.exit(f"ggml wrote {size} bytes of {kind} in place of {out.size}")
        return seconds


class Bench:
    """`benches/ggml.rs`, kept running."""

    def __init__(self) -> None:
        built = subprocess.run(
            ["cargo", "bench", "--bench", "ggml", "--no-run", "--message-format=json", "--quiet"],
            cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        messages = [json.loads(line) for line in built.stdout.splitlines()]
        (path,) = {
            message["executable"]
            for message in messages
            if message.get("executable") and message["target"]["name"] == "ggml"
        }
        self.process = subprocess.Popen([path, "jobs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, **job: object) -> float:
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())["seconds"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def rows_for(seconds_of_a_row: float) -> int:
    """As many rows as take a hundredth of a second, from 4 to 256; a divisor of all."""
    rows = 256
    while rows > 4 and rows * seconds_of_a_row > 0.01:
        rows //= 2
    return rows


def compared(ggml: Ggml, bench: Bench, folder: Path, kind: str, values, weights, seconds: float):
    """MB/s of both sides, and whether their bytes are the same."""
    _, block, size = TYPES[kind]
    job = {
        "values": str(folder / "values.f32"),
        "importance": None if weights is None else str(folder / "importance.f32"),
        "cols": COLS,
        "type": kind,
        "out": None,
    }

    def room(rows: int) -> numpy.ndarray:
        return numpy.zeros(rows * COLS // block * size, numpy.uint8)

    # The bytes first, which also warms up.
    few, out = 64, folder / "out.bin"
    expected = room(few)
    theirs = ggml.seconds(kind, values[:few], weights, expected)
    ours = bench.seconds(**job | {"from": 0, "to": few, "out": str(out)})
    same = out.read_bytes() == expected.tobytes()

    their_rows, our_rows = rows_for(theirs / few), rows_for(ours / few)
    place = room(their_rows)
    times: tuple[list[float], list[float]] = ([], [])
    end, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turn < 5:
        first = turn * their_rows % ROWS
        times[0].append(ggml.seconds(kind, values[first : first + their_rows], weights, place) / their_rows)
        # Half a matrix away, so that neither finds in the cache what the other has read.
        first = (turn * our_rows + ROWS // 2) % ROWS
        times[1].append(bench.seconds(**job | {"from": first, "to": first + our_rows}) / our_rows)
        turn += 1
    return *(COLS * 4 / min(of) / 1e6 for of in times), same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where the values are written [default: the temporary folder]")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line of the table")
    parser.add_argument("--types", type=lambda text: text.upper().split(","), default=list(TYPES))
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()

    ggml, bench = Ggml(), Bench()
    generator = numpy.random.default_rng(1)
    values = generator.standard_normal((ROWS, COLS), dtype=numpy.float32) * numpy.float32(0.02)
    importance = numpy.square(generator.standard_normal(COLS, dtype=numpy.float32))
    folder = Path(tempfile.mkdtemp(prefix="mixdown-speed-", dir=given.dir))
    values.tofile(folder / "values.f32")
    importance.tofile(folder / "importance.f32")

    line = "| {:8} | {:>9} | {:>12} | {:>6} |{}" if given.markdown else "{:20} {:>9} {:>12} {:>8}{}"
    print(f"{ROWS} x {COLS} normal f32, one thread, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    equal = True
    try:
        for title, weights in [("no importance matrix", None), ("importance matrix", importance)]:
            print("\n" + line.format(title, "ggml MB/s", "mixdown MB/s", "ratio", ""))
            if given.markdown:
                print("|---|---:|---:|---:|")
            for kind in given.types:
                if kind in (ONLY_WITH if weights is None else WITHOUT):
                    continue
                if not ggml.has(kind):
                    print(f"{kind}: unknown to this ggml")
                    continue
                theirs, ours, same = compared(ggml, bench, folder, kind, values, weights, given.seconds)
                equal &= same
                note = "" if same else "  BYTES DIFFER"
                print(line.format(kind, f"{theirs:.0f}", f"{ours:.0f}", f"{ours / theirs:.1f}", note), flush=True)
    finally:
        bench.close()
        shutil.rmtree(folder)
    print("\nThe bytes are the same." if equal else "\nBytes differ.")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
