#!/usr/bin/env python3
"""Train the demo model that mixdown carries inside its binary.

    python assets/demo/train.py                 # text from the Debian archive
    python assets/demo/train.py --text FILE     # any UTF-8 text instead

A byte-level language model of the Llama architecture, trained on the six
novels of Jane Austen (public domain), which are read out of the Debian package
r-cran-janeaustenr 1.0.0-1; `apt-get download` and `dpkg` fetch and unpack it
into a temporary folder, as any user. The last 5 % of the text is held out.

Needs torch and transformers from PyPI. About 8 minutes on 2 otherwise idle
cores with AVX512-BF16. The seed and the thread count are fixed, so that a
second run on the same machine and versions gives the same weights.

Writes next to this script:

    model/          model.safetensors (BF16), config, tokenizer
    heldout.txt     the first 64 KB of the held-out text, for evaluate.py
"""

import argparse
import hashlib
import json
import math
import struct
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from evaluate import bits_per_byte

HERE = Path(__file__).resolve().parent

PACKAGE = "r-cran-janeaustenr"
NOVELS = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
EDITORS_NOTE = "A NOTE ON THE TEXT"  # a modern editor's, behind one of the novels
HELD_OUT = 0.05
HELD_OUT_FILE = 64 * 1024

# Ids 0 to 255 are the bytes. The reserved tokens bring the vocabulary to a
# multiple of 16, which low-precision matrix kernels ask of the head.
BOS, EOS, PAD, VOCAB = 256, 257, 258, 272
SPECIALS = ["<|bos|>", "<|eos|>", "<|pad|>"]
SPECIALS += [f"<|reserved_{i}|>" for i in range(VOCAB - 256 - len(SPECIALS))]

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": 256,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": PAD,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": VOCAB,
}


def fetch_novels():
    """The novels as a list of texts, from the Debian package."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "-q", "download", PACKAGE], cwd=folder, check=True)
        (package,) = Path(folder).glob("*.deb")
        print("text from", package.name)
        subprocess.run(["dpkg", "-x", package.name, "."], cwd=folder, check=True)
        return read_novels(Path(folder, NOVELS).read_bytes())


def read_novels(database):
    """The character vectors of an R lazy-load database, each as one text.

    The file is a row of zlib streams, each behind its unpacked length. Each
    stream is one object in R's XDR format: a header ending in the name of the
    encoding, then the type and length of the vector, then the strings.
    """
    novels = []
    while database:
        stream = zlib.decompressobj()
        data = stream.decompress(database[4:])
        database = stream.unused_data
        (encoding,) = struct.unpack_from(">I", data, 14)
        kind, count = struct.unpack_from(">II", data, 18 + encoding)
        if kind != 16:
            raise SystemExit(f"{NOVELS}: expected character vectors")
        offset = 26 + encoding
        lines = []
        for _ in range(count):
            (length,) = struct.unpack_from(">I", data, offset + 4)
            offset += 8
            lines.append(data[offset : offset + length].decode())
            offset += length
        if EDITORS_NOTE in lines:
            del lines[lines.index(EDITORS_NOTE) :]
        novels.append(unwrap(lines))
    return novels


def unwrap(lines):
    """Paragraphs on one line each, a blank line between them."""
    paragraphs = "\n".join(line.rstrip() for line in lines).strip().split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs if p.strip()) + "\n"


def byte_characters():
    """GPT-2's printable stand-in for each byte, in byte order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def write_tokenizer(folder):
    """A byte-level BPE without merges: every byte is the token of its value."""
    vocab = {character: byte for byte, character in enumerate(byte_characters())}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    bos = SPECIALS[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, BOS)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": SPECIALS[0],
            "clean_up_tokenization_spaces": False,
            "eos_token": SPECIALS[1],
            "pad_token": SPECIALS[2],
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def check_tokenizer(tokenizer, text):
    """Every byte is one token, and any text survives the round trip."""
    every_byte = "".join(map(chr, [*range(0x800), *range(0x800, 0xD800, 0x800), *range(0xE000, 0x110000, 0x1000)]))
    for text in [text, every_byte, "naïve 👩‍👩‍👧 \r\n\0\t  中文 don't  "]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if ids != list(text.encode()) or tokenizer.decode(ids) != text:
            raise SystemExit("the tokenizer does not map bytes to themselves")
    if len(tokenizer) != VOCAB or tokenizer.encode("a") != [BOS, ord("a")]:
        raise SystemExit("the tokenizer's special tokens are wrong")


def decayed(model):
    """AdamW groups: weight decay for the layers' matrices only."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.dim() == 2 and ".layers." in n]
    others = [p for n, p in named if p.dim() != 2 or ".layers." not in n]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def learning_rate(step, steps, peak):
    """Linear warm-up over the first 5 %, then a cosine down to zero."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def train(tokens, args):
    """Train on `tokens` and return the model with its weights rounded to BF16.

    Both passes run in BF16, on a copy of the weights; the optimizer works on
    the float32 originals. Each sample starts from `<|bos|>` at a random place.
    """
    config = LlamaConfig(**CONFIG)
    model = LlamaForCausalLM(config).float()
    working = LlamaForCausalLM(config).bfloat16()
    optimizer = torch.optim.AdamW(decayed(model), betas=(0.9, 0.95), fused=True)
    window = torch.arange(config.max_position_embeddings)
    start = time.monotonic()
    total = 0.0
    for step in range(args.steps):
        with torch.no_grad():
            torch._foreach_copy_(list(working.parameters()), list(model.parameters()))
        places = torch.randint(len(tokens) - len(window), (args.batch, 1))
        targets = tokens[places + window]
        inputs = F.pad(targets[:, :-1], (1, 0), value=BOS)
        logits = working(input_ids=inputs, use_cache=False).logits.float()
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        for master, copy in zip(model.parameters(), working.parameters()):
            master.grad, copy.grad = copy.grad.float(), None
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr)
        optimizer.step()

        total += loss.item() / math.log(2)
        if (step + 1) % 50 == 0:
            seconds = time.monotonic() - start
            print(f"step {step + 1:5}  {total / 50:.3f} bits per byte  {seconds:.0f} s", flush=True)
            total = 0.0
    return model.bfloat16()


def save(model, folder):
    """Write the whole model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", CONFIG)
    ids = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    write_json(folder / "generation_config.json", ids)
    write_tokenizer(folder)


def sample(model, tokenizer, prompt="It was a truth "):
    """A few lines of the model's own, to look at."""
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=240, do_sample=True, temperature=0.7)
    return tokenizer.decode(out[0], skip_special_tokens=True)


def main():
    parser = argparse.ArgumentParser(description="Train mixdown's demo model.")
    parser.add_argument("--text", type=Path, help="train on this UTF-8 text")
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (default: next to this script)")
    parser.add_argument("--steps", type=int, default=1800, help="training steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="samples of 256 bytes per step (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1775, help="random seed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default: %(default)s)")
    args = parser.parse_args()

    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(args.seed)

    novels = [args.text.read_bytes().decode()] if args.text else fetch_novels()
    whole = "\n\n".join(novels)
    text = whole.encode()
    print(f"{len(text)} bytes of text, sha256 {hashlib.sha256(text).hexdigest()}")

    # Cut between paragraphs, so that both files are whole UTF-8.
    cut = text.index(b"\n\n", int(len(text) * (1 - HELD_OUT))) + 2
    held_out = text[cut:]
    slice_end = held_out.rfind(b"\n\n", 0, HELD_OUT_FILE) + 1
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "heldout.txt").write_bytes(held_out[:slice_end])

    save(train(torch.tensor(list(text[:cut])), args), args.out / "model")

    model = AutoModelForCausalLM.from_pretrained(args.out / "model", dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(args.out / "model")
    check_tokenizer(tokenizer, whole)
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    for name, part in [("held-out text", held_out), ("heldout.txt", held_out[:slice_end])]:
        score = bits_per_byte(model, torch.tensor(list(part)), BOS)
        print(f"{score:.4f} bits per byte on the {name} ({len(part)} bytes)")
    print(sample(model, tokenizer))


if __name__ == "__main__":
    main()
