"""Runs llama.cpp's convert_hf_to_gguf over several folders in one process: its imports take longer than it does.

`convert_reference.py LLAMA_CPP JOBS.json`, where a job is {"folder", "out", "type", "pre", "bpe"}. The vocabularies of
tiny models are no known ones, so the name of the pre-tokenizer is told; with `bpe` a class that asks for SentencePiece
takes tokenizer.json.
"""

import json
import logging
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
root, jobs = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
sys.path[:0] = [str(root), str(root / "gguf-py")]

import gguf  # noqa: E402
import torch  # noqa: E402
from conversion import get_model_class  # noqa: E402
from conversion.base import ModelBase, ModelType, TextModel, get_model_architecture  # noqa: E402

logging.disable(logging.WARNING)
TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


def own_config(folder: Path, _: bool = False) -> dict:
    return json.loads((folder / "config.json").read_text())


def run(job: dict) -> None:
    folder = Path(job["folder"])
    # transformers has a class of Nomic's name that reads other keys than the checkpoints have.
    nomic = own_config(folder)["architectures"] == ["NomicBertModel"]
    ModelBase.load_hparams = staticmethod(own_config if nomic else load_hparams)
    model_class = get_model_class(get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT))
    TextModel.get_vocab_base_pre = lambda self, tokenizer: job["pre"]
    if job["bpe"]:
        model_class._set_vocab_sentencepiece = lambda self: self._set_vocab_gpt2()
        # These know nothing but SentencePiece, with settings of its own.
        if model_class.__name__ in ("Phi3MiniModel", "GemmaModel", "Gemma2Model"):
            model_class.set_vocab = lambda self: self._set_vocab_gpt2()
    with torch.inference_mode():
        model_class(folder, TYPES[job["type"]], Path(job["out"])).write()


load_hparams = ModelBase.load_hparams
for job in jobs:
    run(job)
