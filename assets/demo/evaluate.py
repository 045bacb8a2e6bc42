#!/usr/bin/env python3
"""Print the bits per byte of a byte-level model on the held-out text.

    python assets/demo/evaluate.py                       # the demo model itself
    python assets/demo/evaluate.py DIR [DIR ...]         # any copies of it
    python assets/demo/evaluate.py DIR --text FILE       # on another text

A model folder is anything `AutoModelForCausalLM.from_pretrained` opens with a
tokenizer of one token per byte. The text is cut into windows of the model's
context length; each window starts from a lone `<|bos|>`, and every byte is
predicted exactly once. Lower is better; 8 is a model that knows nothing.

Needs torch and transformers from PyPI; takes a few seconds on 2 cores.
"""

import argparse
import math
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

HERE = Path(__file__).resolve().parent


@torch.no_grad()
def bits_per_byte(model, tokens, bos, batch=16):
    """The mean cost in bits of each token of `tokens`, a 1-D tensor of byte ids."""
    window = model.config.max_position_embeddings
    count = len(tokens)
    padded = F.pad(tokens, (0, -count % window), value=-100).view(-1, window)
    inputs = F.pad(padded[:, :-1].clamp(min=0), (1, 0), value=bos)
    nats = 0.0
    for ids, targets in zip(inputs.split(batch), padded.split(batch)):
        logits = model(input_ids=ids, use_cache=False).logits.float()
        nats += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    return nats / math.log(2) / count


def evaluate(folder, text, dtype):
    """The bits per byte of the model in `folder` on `text`."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = torch.tensor(tokenizer.encode(text, add_special_tokens=False))
    if len(tokens) != len(text.encode()):
        raise SystemExit(f"{folder}: its tokenizer is not one token per byte")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return bits_per_byte(model, tokens, tokenizer.bos_token_id)


def main():
    parser = argparse.ArgumentParser(description="Print the bits per byte of model folders.")
    parser.add_argument("model", nargs="*", type=Path, default=[HERE / "model"], help="model folders")
    parser.add_argument("--text", type=Path, default=HERE / "heldout.txt", help="UTF-8 text to score")
    parser.add_argument("--dtype", default="float32", help="dtype to compute in (default: %(default)s)")
    args = parser.parse_args()

    logging.disable_progress_bar()
    text = args.text.read_bytes().decode()
    for folder in args.model:
        print(f"{evaluate(folder, text, args.dtype):.4f} bits per byte  {folder}")


if __name__ == "__main__":
    main()
