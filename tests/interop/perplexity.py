#!/usr/bin/env python3
"""Perplexity against size: a model in every GGUF mixture, run by llama.cpp, beside the torch original.

    python tests/interop/perplexity.py [--model DIR] [--text FILE] [--mixtures Q4_0 Q4_K_M ...] [--markdown] [--jobs N]

DIR is a folder of transformers (default: the demo model), FILE a UTF-8 text (default: the demo's held-out one).

How it is computed. The text becomes tokens once, by transformers' tokenizer, without special tokens; both sides get the
same numbers. They are cut into windows of `--window` tokens (256, and no more than the model's context), the last one as
long as it comes. Where the tokenizer has a `bos` token, the input of a window is that token and then all of the window's
but the last, and every token of the text is scored exactly once. Where it has none, the input is the window without its
last token, and its first token is not scored. No window sees another. Perplexity is exp of the mean of -log p of the
scored tokens, p by softmax in float64 of the logits.

The original is computed by transformers in F32 on the CPU. llama.cpp has its defaults, on the CPU: the cache in F16, and
inputs of quantized layers rounded to 8 bits, as everyone has it who runs the file there.

Importance matrices are of text that the original writes itself (`--calibration` windows, sampled with a fixed seed), so
nothing of the scored text is in them: the mean square of each input of each Linear layer but the output head, as
llama-imatrix has it. Other kinds of layers get none.

IQ1_S and IQ1_M are left out: mixdown does not write them. So is COPY, which is the source's own type.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import llama

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("MIXDOWN_BIN", ROOT / "target" / "release" / "mixdown")).resolve()
DEMO = ROOT / "assets" / "demo"
# By their own bits; those that are nothing without an importance matrix.
MIXTURES = """Q1_0 TQ1_0 TQ2_0 IQ2_XXS Q2_0 IQ2_XS IQ2_S IQ2_M Q2_K_S Q2_K IQ3_XXS IQ3_XS IQ3_S Q3_K_S IQ3_M Q3_K_M
    Q3_K_L IQ4_XS MXFP4_MOE Q4_0 IQ4_NL Q4_K_S Q4_K_M Q4_1 Q5_0 Q5_K_S Q5_K_M Q5_1 Q6_K Q8_0 F16 BF16 F32""".split()
ONLY_WITH = {"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "Q2_K_S", "IQ3_XXS", "IQ3_XS"}

Window = tuple[list[int], list[int]]


class Original:
    """A folder in transformers, in F32 on the CPU."""

    def __init__(self, folder: Path):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def windows(self, text: str, length: int) -> list[Window]:
        """What goes in, and the tokens that are scored, one for each of the last inputs."""
        tokens = self.tokenizer.encode(text, add_special_tokens=False)
        length = min(length, getattr(self.model.config, "max_position_embeddings", length))
        bos = self.tokenizer.bos_token_id
        parts = [tokens[i : i + length] for i in range(0, len(tokens), length)]
        if bos is None:
            return [(part[:-1], part[1:]) for part in parts if len(part) > 1]
        return [([bos, *part[:-1]], part) for part in parts]

    @torch.no_grad()
    def logits(self, tokens: list[int]) -> np.ndarray:
        return self.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].numpy()

    @torch.no_grad()
    def importance(self, count: int, length: int) -> dict[str, np.ndarray]:
        """By the names of weights, of `count` windows that the model writes."""
        torch.manual_seed(0)
        bos, limit = self.tokenizer.bos_token_id, getattr(self.model.config, "max_position_embeddings", length)
        start = torch.full((count, 1), bos) if bos is not None else torch.randint(self.model.config.vocab_size, (count, 1))
        more = min(length, limit) - 1
        sampled = dict(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=None, pad_token_id=0)
        written = self.model.generate(
            start, attention_mask=torch.ones_like(start), max_new_tokens=more, min_new_tokens=more, **sampled
        )
        sums: dict[str, torch.Tensor] = {}

        def hook(name: str):
            def add(_, inputs) -> None:
                squares = inputs[0].double().square().flatten(0, -2).sum(0)
                sums[name] = sums.get(name, 0) + squares

            return add

        head = self.model.get_output_embeddings()
        layers = [(n, m) for n, m in self.model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
        hooks = [m.register_forward_pre_hook(hook(f"{n}.weight")) for n, m in layers]
        for part in written.split(16):
            self.model(input_ids=part, use_cache=False)
        for each in hooks:
            each.remove()
        return {n: (s / written.numel()).float().numpy()[None] for n, s in sums.items()}


def perplexity(model, windows: list[Window]) -> float:
    """Of an `Original` or a `llama.Model`."""
    nats = scored = 0
    for tokens, targets in windows:
        logits = model.logits(tokens).astype(np.float64)
        # Of the logits, what the tokenizer has no token for is left in: both sides have it.
        top = logits.max(1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(1))
        nats += (total - logits[np.arange(len(targets)), targets]).sum()
        scored += len(targets)
    return float(np.exp(nats / scored))


@dataclass
class Row:
    size: int
    bits: float
    perplexity: float


@dataclass
class Job:
    """A mixture to be made of a model and measured, without an importance matrix and with one."""

    model: Path
    mixture: str
    flags: list[str]
    matrix: Path | None
    windows: list[Window]

    def run(self) -> tuple["Row | None", "Row | None", list[str]]:
        """With what failed. None for what is nothing without a matrix, or the same with one."""
        rows, failed, before = [], [], None
        for matrix in (None, self.matrix):
            rows.append(None)
            if matrix is None and (self.mixture in ONLY_WITH or len(rows) > 1):
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    out = Path(folder) / "model.gguf"
                    more = ["--imatrix", matrix] if matrix else []
                    tensors = convert(self.model, self.mixture, out, *self.flags, *more)
                    if (content := digest(out, tensors)) != before:
                        rows[-1] = measure(out, tensors, self.windows)
                    before = content
                except RuntimeError as error:
                    failed.append(f"{self.mixture}{' with a matrix' if matrix else ''}: {error}")
        return rows[0], rows[1], failed


def mixdown(*args: object) -> str:
    run = subprocess.run([BINARY, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr.strip())
    return run.stdout


def convert(model: Path, mixture: str, out: Path, *flags: object) -> list[dict]:
    """The report of each tensor: the gguf package does not know every type that llama.cpp has."""
    return json.loads(mixdown("convert", model, "--dtype", mixture, *flags, "-o", out, "--quiet", "--json"))["tensors"]


def digest(path: Path, tensors: list[dict]) -> str:
    """Of what a file ends with, its tensors, and of their types."""
    sha = hashlib.sha256(repr([(t["name"], t["to"]) for t in tensors]).encode())
    with path.open("rb") as file:
        file.seek(-sum(t["bytes_after"] for t in tensors), os.SEEK_END)
        sha.update(file.read())
    return sha.hexdigest()


def measure(path: Path, tensors: list[dict], windows: list[Window]) -> Row:
    bits = 8 * sum(t["bytes_after"] for t in tensors) / sum(math.prod(t["shape"]) for t in tensors)
    with llama.Model(path, max(len(tokens) for tokens, _ in windows)) as model:
        return Row(path.stat().st_size, bits, perplexity(model, windows))


def named(folder: Path, entries: dict[str, np.ndarray], flags: list[str]) -> dict[str, np.ndarray]:
    """By the names that tensors have in GGUF, where one is made of one."""
    plan = json.loads(mixdown("plan", folder, "--to", "gguf", *flags, "--json"))
    names = {row["sources"][0]: row["name"] for row in plan["tensors"] if len(row["sources"]) == 1}
    return {names[name]: values for name, values in entries.items() if name in names}


def table(rows: dict[str, tuple[Row | None, Row | None]], original: float) -> list[list[str]]:
    """A line for each mixture: without an importance matrix, and with one where it changes something."""

    def cells(row: Row | None) -> list[str]:
        # Zero is added for no "-0.00".
        more = row and round(100 * (row.perplexity / original - 1), 2) + 0.0
        return [f"{row.perplexity:.4f}", f"{more:+.2f} %"] if row else ["", ""]

    head = ["mixture", "bytes", "bits per weight", "perplexity", "against torch", "with a matrix", "against torch"]
    lines = [head]
    for name, (plain, weighed) in rows.items():
        first = plain or weighed
        assert first
        if plain and weighed and abs(weighed.bits - plain.bits) > 1e-9:
            print(f"{name} with a matrix: {weighed.size} bytes, {weighed.bits:.2f} bits per weight", file=sys.stderr)
        lines.append([name, f"{first.size:,}", f"{first.bits:.2f}", *cells(plain), *cells(weighed)])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Perplexity against size, of every GGUF mixture of a model.")
    parser.add_argument("--model", type=Path, default=DEMO / "model", help="a folder of transformers")
    parser.add_argument("--text", type=Path, default=DEMO / "heldout.txt", help="UTF-8 text to score")
    parser.add_argument("--mixtures", nargs="+", default=MIXTURES, metavar="NAME", help="default: all that are written")
    parser.add_argument("--window", type=int, default=256, help="tokens in a window (default: %(default)s)")
    parser.add_argument("--calibration", type=int, default=128, help="windows for the matrix; 0: none (default: %(default)s)")
    parser.add_argument("--pre", help="`--pre` of mixdown, where it does not know the tokenizer")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="files at a time (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()

    logging.disable_progress_bar()
    # A small model is no faster on more, and what it samples does not depend on their number.
    torch.set_num_threads(1)
    source = Original(args.model)
    windows = source.windows(args.text.read_bytes().decode(), args.window)
    original = perplexity(source, windows)
    flags = ["--pre", args.pre] if args.pre else []
    rows: dict[str, tuple[Row | None, Row | None]] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        matrix = None
        if args.calibration:
            entries = named(args.model, source.importance(args.calibration, args.window), flags)
            matrix = llama.write_imatrix(Path(folder) / "imatrix.gguf", entries)
        jobs = [Job(args.model, name, flags, matrix, windows) for name in args.mixtures]
        with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
            for job, (plain, weighed, errors) in zip(jobs, pool.map(Job.run, jobs)):
                if plain or weighed:
                    rows[job.mixture] = plain, weighed
                failed += errors
                print(f"{len(rows)} of {len(jobs)}", end="\r", file=sys.stderr, flush=True)
    scored = sum(len(targets) for _, targets in windows)
    print(f"torch, F32: perplexity {original:.4f} of {scored:,} tokens in {len(windows)} windows")
    lines = table(rows, original)
    if args.markdown:
        for i, line in enumerate(lines):
            print("| " + " | ".join(line) + " |")
            if i == 0:
                print("|---|" + "---:|" * (len(line) - 1))
    else:
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        for line in lines:
            print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))
    for line in failed:
        print(f"failed: {line}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
