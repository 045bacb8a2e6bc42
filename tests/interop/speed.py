#!/usr/bin/env python3
"""How fast mixdown is beside sdnq, on this machine: prints tables, always exits 0.

    python tests/interop/speed.py [--dir DIR] [--rounds N] [--only kernels,low-rank,process,sharded]

Run it with the libraries of requirements.txt, after `cargo build --release`. The two sides take turns, each warmed up;
figures are medians of the rounds, ratios those of each round's pair. DIR needs 16 GB, which are freed again.
"""

import os

os.environ.update(SDNQ_USE_TORCH_COMPILE="0", SDNQ_DEVICE="cpu", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("MIXDOWN_BIN", ROOT / "target" / "release" / "mixdown")).resolve()
THREADS = 2
ROWS, COLS = 3072, 12288
RANK, STEPS = 32, 8
# dtype, group size
KERNELS = [
    ("int8", -1),
    ("uint8", -1),
    ("uint4", 64),
    ("int5", 128),
    ("uint3", 32),
    ("int12", -1),
    ("float8_e4m3fn", -1),
    ("float6_e3m2fn", 32),
    ("float4_e2m1fn", 32),
]
PROCESSES = [("int8", -1), ("uint4", 64)]
MIB, GB = 1 << 20, 10**9


# ---------------------------------------------------------------- figures


def spread(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def load() -> str:
    return "load " + " ".join(f"{x:.2f}" for x in os.getloadavg())


def title(text: str) -> None:
    print(f"\n== {text}   [{load()}]", flush=True)


# ---------------------------------------------------------------- mixdown's kernels


class Bench:
    """`benches/peer.rs`, kept running, so that a job costs no start."""

    def __init__(self) -> None:
        built = subprocess.run(
            ["cargo", "bench", "--bench", "peer", "--no-run", "--message-format=json", "--quiet"],
            cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        messages = [json.loads(line) for line in built.stdout.splitlines()]
        (path,) = {
            message["executable"]
            for message in messages
            if message.get("executable") and message["target"]["name"] == "peer"
        }
        self.process = subprocess.Popen([path, "jobs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, job: str, file: Path, **more: object) -> float:
        given = {"job": job, "file": str(file), "rows": ROWS, "cols": COLS, "threads": THREADS, "rounds": 1, **more}
        print(json.dumps(given), file=self.process.stdin, flush=True)
        (seconds,) = json.loads(self.process.stdout.readline())["seconds"]
        return seconds

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def timed(function: Callable[[], object]) -> float:
    """Warmed up once, like the bench."""
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def rounds_of(count: int, theirs: Callable[[], float], ours: Callable[[], float]) -> tuple[list[float], list[float]]:
    pairs = [(theirs(), ours()) for _ in range(count)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def print_pair(what: str, theirs: list[float], ours: list[float], per_second: float) -> None:
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    a, b = statistics.median(theirs), statistics.median(ours)
    print(
        f"{what:34} {a * 1e3:9.1f} ms {b * 1e3:9.1f} ms {per_second / a / 1e9:7.2f} {per_second / b / 1e9:7.2f} GB/s"
        f"   {statistics.median(ratios):6.1f} x ({spread(ratios)})",
        flush=True,
    )


def write_matrix(path: Path, matrix) -> None:
    import torch

    path.write_bytes(matrix.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())


def read_matrix(path: Path):
    import torch

    values = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.int16)
    return values.view(torch.bfloat16).view(ROWS, COLS)


def kernels(folder: Path, rounds: int) -> None:
    import torch
    from sdnq.common import dtype_dict
    from sdnq.packed_float import pack_float
    from sdnq.packed_int import pack_int
    from sdnq.quant_utils import quantize_weight
    from sdnq.quantizer import sdnq_quantize_layer_weight

    torch.manual_seed(1)
    file = folder / "normal.bf16"
    write_matrix(file, torch.randn(ROWS, COLS) * 0.03)
    weight = read_matrix(file)
    bench = Bench()

    def encode(dtype: str, size: int) -> object:
        entry = dtype_dict[dtype]
        codes, scale, zero_point = quantize_weight(weight.unflatten(1, (-1, size)) if size > 0 else weight, -1, dtype)
        if entry["is_packed"]:
            codes = pack_int(codes, dtype) if entry["is_integer"] else pack_float(codes, dtype)
        return codes.to(entry["storage_dtype"] if entry["is_packed"] else entry["torch_dtype"]), scale, zero_point

    title(f"BF16 {ROWS}x{COLS}, {THREADS} threads; GB/s of BF16; sdnq, mixdown, times as fast")
    copies = [bench.seconds("copy", file) for _ in range(rounds)]
    print(f"{'a copy of it, for comparison':34} {'':12} {1e3 * statistics.median(copies):9.1f} ms")
    for dtype, size in KERNELS:
        job = {"dtype": dtype, "group_size": size}
        what = f"{dtype}, {'by row' if size < 0 else f'groups of {size}'}"
        theirs, ours = rounds_of(
            rounds, lambda: timed(lambda: encode(dtype, size)), lambda: bench.seconds("encode", file, **job)
        )
        print_pair(f"encode {what}", theirs, ours, ROWS * COLS * 2)
        dequantizer, parts = sdnq_quantize_layer_weight(weight, "Linear", weights_dtype=dtype, group_size=size)
        theirs, ours = rounds_of(
            rounds,
            lambda: timed(lambda: dequantizer(**parts, dtype=torch.float32, skip_compile=True)),
            lambda: bench.seconds("decode", file, **job),
        )
        print_pair(f"decode {what}", theirs, ours, ROWS * COLS * 2)
    bench.close()


def low_rank(folder: Path, rounds: int) -> None:
    import torch

    torch.manual_seed(2)
    values = torch.arange(1, ROWS + 1) ** -0.5
    left = torch.linalg.qr(torch.randn(ROWS, ROWS)).Q
    right = torch.linalg.qr(torch.randn(COLS, ROWS)).Q
    matrices = {"normal": torch.randn(ROWS, COLS), "singular values i^-0.5": (left * values) @ right.T}
    bench = Bench()
    title(f"low-rank branch, {ROWS}x{COLS}, rank {RANK}, {THREADS} threads; torch.svd_lowrank, mixdown, times as fast")
    for i, (name, matrix) in enumerate(matrices.items()):
        # The bench keeps the last file it read, by name.
        file, out = folder / f"matrix-{i}.bf16", folder / "factors.f32"
        write_matrix(file, matrix)
        weight = read_matrix(file).float()
        found = {}

        def svd(weight=weight, found=found) -> None:
            u, s, v = torch.svd_lowrank(weight, q=RANK, niter=STEPS)
            found["torch"] = (u * s, v.T)

        theirs, ours = rounds_of(
            rounds, lambda: timed(svd), lambda: bench.seconds("low_rank", file, svd_rank=RANK, out=str(out))
        )
        print_pair(name, theirs, ours, ROWS * COLS * 2)
        factors = torch.frombuffer(bytearray(out.read_bytes()), dtype=torch.float32)
        found["mixdown"] = (factors[: ROWS * RANK].view(ROWS, RANK), factors[ROWS * RANK :].view(RANK, COLS))
        left_over = {who: (weight - up @ down).double().norm().item() for who, (up, down) in found.items()}
        exact = torch.linalg.eigvalsh((weight.double() @ weight.double().T))[: ROWS - RANK].clamp(min=0).sum().sqrt().item()
        print(
            f"{'':34} residual norm: torch {left_over['torch']:.6g}, mixdown {left_over['mixdown']:.6g} "
            f"({100 * (left_over['mixdown'] / left_over['torch'] - 1):+.4f} %), the least {exact:.6g}"
        )
    bench.close()


# ---------------------------------------------------------------- whole processes


def tensors(gigabytes: float) -> list[tuple[str, tuple[int, int]]]:
    """Blocks of a Llama of 2048 channels, as many as fill so much."""
    layers = {f"self_attn.{x}_proj": (2048, 2048) for x in "qkvo"}
    layers |= {"mlp.gate_proj": (5632, 2048), "mlp.up_proj": (5632, 2048), "mlp.down_proj": (2048, 5632)}
    of_block = 2 * sum(a * b for a, b in layers.values())
    return [
        (f"model.layers.{block}.{name}.weight", shape)
        for block in range(round(gigabytes * GB / of_block))
        for name, shape in layers.items()
    ]


def write_model(folder: Path, gigabytes: float, shards: int) -> int:
    """A model of BF16 matrices; a block of random values, repeated. Returns its bytes."""
    import torch

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["Blocks"]}))
    torch.manual_seed(3)
    block = (torch.randn(32 * MIB) * 0.03).to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    every = tensors(gigabytes)
    per_shard = math.ceil(len(every) / shards)
    where, total = {}, 0
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors"
        header, at = {}, 0
        for tensor, shape in every[shard * per_shard : (shard + 1) * per_shard]:
            size = 2 * math.prod(shape)
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            at += size
            where[tensor] = name
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            left = at
            while left:
                left -= file.write(block[:left])
        total += at
    if shards > 1:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


# A process begins with the peak of the one that it was forked from; this one has little.
LAUNCHER = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[2:], stdin=subprocess.DEVNULL)
seconds = time.perf_counter() - start
with open(sys.argv[1], "w") as file:
    print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=file)
sys.exit(code)
"""


def measured(command: list[object]) -> tuple[float, float, str]:
    """Runs a command: seconds, the most memory it held in MiB, what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures"
        launcher = [sys.executable, "-S", "-c", LAUNCHER, str(figures)]
        run = subprocess.run([*launcher, *map(str, command)], stdout=subprocess.PIPE, text=True)
        seconds, held = map(float, figures.read_text().split())
    if run.returncode:
        # The time of what failed is no result.
        raise subprocess.CalledProcessError(run.returncode, command, run.stdout)
    # Kilobytes on Linux, bytes on macOS.
    return seconds, held / (MIB if sys.platform == "darwin" else 1024), run.stdout


def quantize_by_sdnq(folder: Path, out: Path, dtype: str, size: int) -> None:
    """The peer's process: load, quantize, save."""
    start = time.perf_counter()
    import sdnq
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(THREADS)
    imported = time.perf_counter()
    state = load_file(folder / "model.safetensors")
    model = torch.nn.Module()
    with torch.device("meta"):
        for name, weight in state.items():
            *path, last = name.removesuffix(".weight").split(".")
            place = model
            for step in path:
                if not hasattr(place, step):
                    place.add_module(step, torch.nn.Module())
                place = getattr(place, step)
            place.add_module(last, torch.nn.Linear(*weight.shape[::-1], bias=False))
    model.load_state_dict(state, assign=True)
    del state
    sdnq.sdnq_post_load_quant(
        model, torch_dtype=torch.bfloat16, weights_dtype=dtype, group_size=size, add_skip_keys=False
    )
    out.mkdir()
    save_file(model.state_dict(), out / "model.safetensors", metadata={"format": "pt"})
    print(f"{imported - start:.2f} s of imports")


def convert(model: Path, out: Path, dtype: str, size: int, memory: str, *more: object) -> tuple[float, float, str]:
    shutil.rmtree(out, ignore_errors=True)
    flags = ["--to", "sdnq", "--dtype", dtype, "--group-size", size, "--memory", memory, "--threads", THREADS]
    return measured([BINARY, "convert", model, *flags, *more, "--quiet", "-o", out])


def same_layers(a: Path, b: Path) -> str:
    """Whether two files hold the same parts."""
    from safetensors import safe_open

    with safe_open(a, "pt") as x, safe_open(b, "pt") as y:
        if set(x.keys()) != set(y.keys()):
            return "other tensors"
        different = [name for name in x.keys() if not x.get_tensor(name).equal(y.get_tensor(name))]  # noqa: SIM118
    return f"{len(different)} tensors differ" if different else "the same bytes"


def process(folder: Path, rounds: int) -> None:
    model = folder / "model"
    size = write_model(model, 1.0, 1)
    title(f"a model of {size / GB:.2f} GB of BF16, whole processes: sdnq, mixdown --memory 256MiB")
    for dtype, group in PROCESSES:
        ours, theirs = [], []
        for _ in range(rounds + 1):
            shutil.rmtree(folder / "theirs", ignore_errors=True)
            theirs.append(measured([sys.executable, __file__, "--sdnq", model, folder / "theirs", dtype, group]))
            ours.append(convert(model, folder / "ours", dtype, group, "256MiB"))
        # The first round warmed up.
        theirs, ours = theirs[1:], ours[1:]
        a, b = (statistics.median(run[0] for run in runs) for runs in (theirs, ours))
        held = [max(run[1] for run in runs) for runs in (theirs, ours)]
        ratios = [x[0] / y[0] for x, y in zip(theirs, ours, strict=True)]
        print(
            f"{dtype + ', ' + str(group):14} {a:7.2f} s ({theirs[-1][2].strip()}), {held[0]:6.0f} MiB"
            f"   {b:7.2f} s, {held[1]:5.0f} MiB   {statistics.median(ratios):5.1f} x ({spread(ratios)}), "
            f"{held[0] / held[1]:.0f} x less memory; "
            + same_layers(folder / "theirs" / "model.safetensors", folder / "ours" / "model.safetensors"),
            flush=True,
        )
        shutil.rmtree(folder / "theirs", ignore_errors=True)
        shutil.rmtree(folder / "ours", ignore_errors=True)
    shutil.rmtree(model)


def sharded(folder: Path, _: int) -> None:
    model = folder / "sharded"
    size = write_model(model, 6.0, 6)
    title(f"a model of {size / GB:.2f} GB of BF16 in 6 shards, mixdown --memory 1GiB")
    for what, dtype, group, more in [
        ("int8", "int8", -1, []),
        ("uint4, groups of 64", "uint4", 64, []),
        ("uint4, rank 32, rotated", "uint4", 64, ["--svd-rank", 32, "--hadamard"]),
    ]:
        seconds, held, _ = convert(model, folder / "ours", dtype, group, "1GiB", *more)
        print(f"{what:26} {seconds:7.2f} s, {size / seconds / 1e9:5.2f} GB/s, {held:6.0f} MiB", flush=True)
        shutil.rmtree(folder / "ours", ignore_errors=True)
    shutil.rmtree(model)


PARTS = {"kernels": kernels, "low-rank": low_rank, "process": process, "sharded": sharded}


def main() -> None:
    if sys.argv[1:2] == ["--sdnq"]:
        model, out, dtype, size = sys.argv[2:]
        return quantize_by_sdnq(Path(model), Path(out), dtype, int(size))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where the models are written [default: the temporary folder]")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help=", ".join(PARTS))
    given = parser.parse_args()

    import sdnq
    import torch

    torch.set_num_threads(THREADS)
    print(f"sdnq {sdnq.__version__}, torch {torch.__version__}, {os.cpu_count()} cores, {BINARY}")
    folder = Path(tempfile.mkdtemp(prefix="mixdown-speed-", dir=given.dir))
    try:
        for part in given.only:
            PARTS[part](folder, given.rounds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
