#!/usr/bin/env python3
"""Writes tests/data/hf with convert_hf_to_gguf itself, for the golden tests of src/target/gguf/tokenizer.

    python tests/interop/make_hf_tokenizers.py LLAMA_CPP     (transformers, tokenizers, sentencepiece, torch on a CPU)

LLAMA_CPP is a checkout of llama.cpp, or `vendor/llama.cpp` of the sdist of PyPI's llama-cpp-python (0.3.36 made these).

`NAME/`               the small files of a model's folder: a tokenizer of a few hundred tokens, shaped as real ones are.
`NAME/expected.json`  what convert_hf_to_gguf makes of them: `architecture` as GGUF names it, `pre` (its table of hashes
                      knows none of these vocabularies, so the name is given to it; the test expects mixdown to tell it
                      by itself), `pairs` of key, type and value, in order.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "hf"
LLAMA_CPP = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(LLAMA_CPP / "gguf-py"), str(LLAMA_CPP)]

import gguf  # noqa: E402
from conversion import bert, gemma, gpt2, llama, phi, qwen, t5  # noqa: E402
from conversion.base import TextModel  # noqa: E402

TEXT = [
    "The mixing desk has a fader for every layer, and a meter that shows what each setting costs.",
    "A weight is a number; a layer is many of them, and a model is many layers.",
    "It's 3 or 33 or 333 of them: we'll say they've been told, haven't they?",
    "def quantize(weights, bits=4):\n    return [round(w * 2 ** bits) for w in weights]\n",
    "Größe und Übermut, naïve café, Ελλάδα, нещо на български, 我想在, ひらがな.",
] * 4
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
BYTES = pre_tokenizers.ByteLevel.alphabet()


# ---------------------------------------------------------------- tokenizers


def special(*tokens: str) -> list[AddedToken]:
    return [AddedToken(t, special=True, normalized=False) for t in tokens]


def byte_level(pre, tokens: int, first=(), normalizer=None) -> Tokenizer:
    """Merges of bytes; `first` are special tokens that take the first ids."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizer
    made.pre_tokenizer = pre
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, initial_alphabet=BYTES, special_tokens=special(*first), show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    return made


def split(regex: str):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def sentence_pieces(kind: str, tokens: int, **how) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder, "text")
        text.write_text("\n".join(t.replace("\n", " ") for t in TEXT), encoding="utf-8")
        prefix = pathlib.Path(folder, "m")
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(prefix), model_type=kind, vocab_size=tokens, minloglevel=2, **how
        )
        model = sentencepiece_model_pb2.ModelProto.FromString(prefix.with_suffix(".model").read_bytes())
    # Paths of this run.
    for field in ("input", "model_prefix"):
        model.trainer_spec.ClearField(field)
    model.normalizer_spec.ClearField("normalization_rule_tsv")
    return model.SerializeToString(deterministic=True)


def rule() -> str:
    """A normalizer of one rule, whose double array is small: A becomes a."""
    path = pathlib.Path(tempfile.mkdtemp(), "rule.tsv")
    path.write_text("41\t61\n")
    return str(path)


def llama_pieces() -> bytes:
    return sentence_pieces(
        "bpe", 380, byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity",
        remove_extra_whitespaces=False, user_defined_symbols=["[tool]"],
    )  # fmt: skip


def llama_json(pieces: bytes) -> Tokenizer:
    """The same as transformers converts it."""
    proto = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    vocab = {proto.id_to_piece(i): i for i in range(proto.vocab_size())}
    ranks = [(vocab[a + b], a, b) for a in vocab for b in vocab if a + b in vocab]
    made = Tokenizer(
        models.BPE(
            vocab=vocab, merges=[(a, b) for _, a, b in sorted(ranks)], unk_token="<unk>", fuse_unk=True,
            byte_fallback=True,
        )  # fmt: skip
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(special("<unk>", "<s>", "</s>"))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])]
    )
    return made


def word_pieces() -> Tokenizer:
    """Characters and a few words: the library's trainer has another vocabulary each time."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = sorted(set("".join(TEXT).lower()) - set(" \n"))
    words = sorted(w for w in set(TEXT[1].lower().split()) if w.isalpha() and len(w) > 1)
    vocab = names + letters + words + [f"##{c}" for c in letters + ["er", "ing"]]
    made = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocab)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(special(*names))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def unigram_json(pieces: bytes) -> Tokenizer:
    """XLM-R's, as transformers converts it."""
    proto = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    rest = [(proto.id_to_piece(i), proto.get_score(i)) for i in range(3, proto.vocab_size())]
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *rest, ("<mask>", 0.0)]
    made = Tokenizer(models.Unigram(vocab, 3))
    model = sentencepiece_model_pb2.ModelProto.FromString(pieces)
    made.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(special("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


# ---------------------------------------------------------------- folders

Files = dict[str, object]


def added(token: str, is_special: bool, normalized: bool = False) -> dict:
    flags = {"lstrip": False, "rstrip": False, "single_word": False}
    return {"content": token, "normalized": normalized, "special": is_special} | flags


def folder(name: str, model: type, arch: str, pre: str | None, config: dict, files: Files) -> None:
    out = OUT / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for file, content in {"config.json": config, **files}.items():
        match content:
            case bytes():
                (out / file).write_bytes(content)
            case str():
                (out / file).write_text(content, encoding="utf-8")
            case Tokenizer():
                (out / file).write_text(content.to_str(), encoding="utf-8")
            case _:
                (out / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    converter = model.__new__(model)
    converter.dir_model = out
    converter.hparams = {**config, **config.get("text_config", {})}
    converter.gguf_writer = gguf.GGUFWriter(None, arch)
    converter.origin_hf_arch = config["architectures"][0]
    converter.get_vocab_base_pre = lambda tokenizer: pre
    converter.set_vocab()
    pairs = []
    for key, value in converter.gguf_writer.kv_data[0].items():
        if key == "general.architecture":
            continue
        what = value.value
        if isinstance(what, bytes):
            kind, what = "array of u8", list(what)
        elif isinstance(what, list):
            first = type(what[0])
            kind = {str: "string", bytes: "string", int: "i32", float: "f32"}.get(first, "i32")
            kind = f"array of {kind}"
            what = [w.decode() if isinstance(w, bytes) else int(w) if kind == "array of i32" else w for w in what]
        else:
            kind = {"STRING": "string", "UINT32": "u32", "BOOL": "bool"}[value.type.name]
        pairs.append([key, kind, what])
    expected = {"architecture": arch, "pre": pre, "pairs": pairs}
    text = json.dumps(expected, ensure_ascii=False, separators=(",", ":"))
    (out / "expected.json").write_text(text.replace('],["tok', '],\n["tok') + "\n", encoding="utf-8")
    print(f"{name}: {len(pairs)} keys, {sum(f.stat().st_size for f in out.iterdir())} bytes")


def main() -> None:
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"}

    made = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), 300)
    made.add_special_tokens(special("<|endoftext|>"))
    end = made.token_to_id("<|endoftext|>")
    config = {"architectures": ["GPT2LMHeadModel"], "vocab_size": 304, "bos_token_id": end, "eos_token_id": end}
    settings = fast | {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "add_bos_token": False}
    folder("gpt2", gpt2.GPT2Model, "gpt2", "gpt-2", config, {"tokenizer.json": made, "tokenizer_config.json": settings})

    # Two files, no tokenizer.json; the merges come with a comment.
    model = json.loads(made.to_str())["model"]
    merges = "#version: 0.2\n" + "\n".join(" ".join(m) for m in model["merges"]) + "\n"
    folder(
        "gpt2-slow", gpt2.GPT2Model, "gpt2", "gpt-2", {"model_type": "gpt2"} | config,
        {"vocab.json": model["vocab"] | {"<|endoftext|>": end}, "merges.txt": merges,
         "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"}},
    )  # fmt: skip

    made = byte_level(split(LLAMA_3), 290)
    made.add_special_tokens(special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"))
    ids = {t: made.token_to_id(t) for t in ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")}
    made.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", ids["<|begin_of_text|>"])],
            ),
        ]
    )  # fmt: skip
    text = json.loads(made.to_str())
    text["model"]["ignore_merges"] = True
    config = {
        "architectures": ["LlamaForCausalLM"], "vocab_size": 300, "bos_token_id": ids["<|begin_of_text|>"],
        "eos_token_id": [ids["<|end_of_text|>"], ids["<|eot_id|>"]],
    }  # fmt: skip
    settings = fast | {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "clean_up_tokenization_spaces": True}
    folder(
        "llama-bpe", llama.LlamaModel, "llama", "llama-bpe", config,
        {"tokenizer.json": text, "tokenizer_config.json": settings,
         "chat_template.jinja": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}\n"},
    )  # fmt: skip

    # A hole, tokens that only tokenizer_config.json calls special or names, several templates, an old form of merges.
    made = byte_level(split(QWEN), 280, normalizer=normalizers.NFC())
    text = json.loads(made.to_str())
    text["model"]["merges"] = [" ".join(m) for m in text["model"]["merges"]]
    for id_, token in ((280, "<|endoftext|>"), (281, "<|im_start|>"), (282, "<|im_end|>")):
        text["added_tokens"].append({"id": id_} | added(token, True))
    text["added_tokens"].append({"id": 283} | added("<tool_call>", False))
    text["added_tokens"].append({"id": 284} | added("Ġspace▁d", False))
    text["added_tokens"].append({"id": 286} | added("later", False, True))
    settings = fast | {
        "added_tokens_decoder": {
            "280": added("<|endoftext|>", True), "281": added("<|im_start|>", True), "282": added("<|im_end|>", True),
            "283": added("<tool_call>", False), "286": added("later", True),
        },
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "eos_token": {"__type": "AddedToken"} | added("<|im_end|>", True), "pad_token": "<|endoftext|>",
        "bos_token": None, "unk_token": None, "add_bos_token": False,
        "chat_template": [{"name": "default", "template": "{{ x }}"}, {"name": "tool use", "template": "{{ y }}"}],
    }  # fmt: skip
    config = {"architectures": ["Qwen2ForCausalLM"], "vocab_size": 290, "bos_token_id": 280, "eos_token_id": 282}
    folder(
        "qwen2", qwen.Qwen2Model, "qwen2", "qwen2", config, {"tokenizer.json": text, "tokenizer_config.json": settings}
    )

    pieces = llama_pieces()
    settings = {
        "added_tokens_decoder": {
            "0": added("<unk>", True), "1": added("<s>", True), "2": added("</s>", True),
            "381": added("<|user|>", False), "382": added("▁▁", False), "439": added("<far>", True),
        },
        "bos_token": added("<s>", True), "eos_token": added("</s>", True), "unk_token": added("<unk>", True),
        "add_bos_token": True, "add_eos_token": False, "add_prefix_space": False, "tokenizer_class": "LlamaTokenizer",
        "chat_template": "{{ messages }}",
    }  # fmt: skip
    config = {"architectures": ["LlamaForCausalLM"], "vocab_size": 385, "bos_token_id": 1, "eos_token_id": 2}
    extra = {"<more>": 380, "<|user|>": 381, "<far>": 439}
    files = {"tokenizer.model": pieces, "added_tokens.json": extra, "tokenizer_config.json": settings}
    folder("llama-spm", llama.LlamaModel, "llama", None, config, files)
    folder("llama-spm-bare", llama.LlamaModel, "llama", None, {"architectures": ["LlamaForCausalLM"]}, {"tokenizer.model": pieces})
    folder("gemma", gemma.GemmaModel, "gemma", None, config | {"pad_token_id": 0}, files)
    folder(
        "gemma3-vision", gemma.Gemma3Model, "gemma3", None,
        {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"vocab_size": 382}, "eos_token_id": [1, 2]},
        {"tokenizer.model": pieces},
    )  # fmt: skip

    made = llama_json(pieces)
    made.add_tokens([AddedToken("<|end|>", special=True, normalized=False), AddedToken("▁▁", normalized=False)])
    # Its code stops at an id beyond the vocabulary, and llama.cpp at a text that two ids have.
    del settings["added_tokens_decoder"]["439"], settings["added_tokens_decoder"]["382"]
    folder("phi3", phi.Phi3MiniModel, "phi3", None, config, files | {"tokenizer.json": made})
    settings = fast | {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    folder(
        "llama-hf", llama.LlamaModel, "llama", None, config | {"vocab_size": 382},
        {"tokenizer.json": made, "tokenizer_config.json": settings},
    )  # fmt: skip

    # Without its model file, Gemma 3 is BPE whose blanks are U+2581.
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    folder(
        "gemma3-json", gemma.Gemma3Model, "gemma3", "gemma4", {"architectures": ["Gemma3ForCausalLM"], "vocab_size": 384},
        {"tokenizer.json": made, "tokenizer_config.json": settings},
    )  # fmt: skip

    made = word_pieces()
    config = {"architectures": ["BertModel"], "vocab_size": made.get_vocab_size() + 2, "type_vocab_size": 2, "pad_token_id": 0}
    names = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
    settings = fast | {f"{k}_token": v for k, v in names.items()}
    folder(
        "bert", bert.BertModel, "bert", "default", config, {"tokenizer.json": made, "tokenizer_config.json": settings}
    )
    vocab = made.get_vocab()
    listed = "\n".join(sorted(vocab, key=vocab.get)) + "\n"
    folder(
        "bert-slow", bert.BertModel, "bert", "default", {"model_type": "bert"} | config,
        {"vocab.txt": listed, "tokenizer_config.json": settings | {"tokenizer_class": "BertTokenizer"}},
    )  # fmt: skip

    made = byte_level(
        pre_tokenizers.ByteLevel(add_prefix_space=False), 280, first=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    settings = fast | {f"{k}_token": v for k, v in names.items()}
    config = {"architectures": ["RobertaModel"], "vocab_size": 280, "type_vocab_size": 1, "pad_token_id": 1}
    folder(
        "roberta", bert.RobertaModel, "bert", "roberta-bpe", config,
        {"tokenizer.json": made, "tokenizer_config.json": settings},
    )  # fmt: skip

    pieces = sentence_pieces("unigram", 110, normalization_rule_tsv=rule())
    config = {"architectures": ["XLMRobertaModel"], "vocab_size": 112, "type_vocab_size": 1, "pad_token_id": 1}
    folder("xlmr", bert.XLMRobertaModel, "bert", None, config, {"sentencepiece.bpe.model": pieces})
    folder(
        "xlmr-json", bert.XLMRobertaModel, "bert", None, config | {"vocab_size": 113, "model_type": "xlm-roberta"},
        {"tokenizer.json": unigram_json(pieces),
         "tokenizer_config.json": settings
         | {"tokenizer_class": "XLMRobertaTokenizer", "clean_up_tokenization_spaces": True, "add_prefix_space": True}},
    )  # fmt: skip

    pieces = sentence_pieces(
        "unigram", 110, normalization_rule_tsv=rule(), pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        remove_extra_whitespaces=False,
    )  # fmt: skip
    config = {"architectures": ["T5ForConditionalGeneration"], "vocab_size": 115, "eos_token_id": 1, "pad_token_id": 0}
    folder(
        "t5", t5.T5Model, "t5", None, config,
        {"spiece.model": pieces, "added_tokens.json": {"<extra_id_0>": 111, "<extra_id_1>": 110},
         "tokenizer_config.json": {"eos_token": "</s>", "add_eos_token": True}},
    )  # fmt: skip


assert issubclass(gpt2.GPT2Model, TextModel)
main()
