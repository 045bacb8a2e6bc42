"""Tiny random models of each architecture that becomes GGUF, as transformers writes their folders."""

import json
from pathlib import Path

import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind it at all.",
    "In the beginning there was a model; it had weights, and each weight was a number.",
    "Numbers such as 1, 22 and 333 are split in their own way: 3.14159 and 2024-11-27.",
    "def convert(model): return [quantize(tensor) for tensor in model.tensors]",
]
HIDDEN, LAYERS, HEADS, KEYS, FEED, EXPERTS = 64, 2, 4, 2, 96, 4


def bpe(folder: Path) -> int:
    """A small byte-level BPE as tokenizer.json with what stands beside it; the number of its tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|user|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=318, special_tokens=special, initial_alphabet=alphabet)
    )
    made = t.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        additional_special_tokens=["<|user|>"],
        chat_template="{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}",
    )
    made.save_pretrained(folder)
    return len(made)


def wordpiece(folder: Path) -> int:
    """BERT's kind of vocabulary."""
    words = sorted({w for line in TEXT for w in "".join(c if c.isalnum() else " " for c in line.lower()).split()})
    letters = sorted({c for line in TEXT for c in line.lower() if not c.isspace()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *words]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(tokens)) + "\n")
    made = t.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    made.save_pretrained(folder)
    return len(made)


def decoder(**more) -> dict:
    """What most of them are called in a config."""
    return dict(
        hidden_size=HIDDEN,
        intermediate_size=FEED,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEYS,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=0,
        **more,
    )


LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
LONG = dict(
    rope_type="longrope",
    rope_theta=10000.0,
    long_factor=[1.0 + i / 4 for i in range(8)],
    short_factor=[1.0 + i / 8 for i in range(8)],
    original_max_position_embeddings=256,
)
ROPE = dict(rope_type="default", rope_theta=10000.0)
MOE = dict(num_experts=EXPERTS, num_experts_per_tok=2, moe_intermediate_size=32)

# name: (class, config class, config, dtype)
MODELS: dict[str, tuple] = {
    "llama": (t.LlamaForCausalLM, t.LlamaConfig, decoder(rope_parameters=LLAMA3, attention_bias=True), "bfloat16"),
    "llama-linear": (
        t.LlamaForCausalLM,
        t.LlamaConfig,
        decoder(rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.0), tie_word_embeddings=True),
        "float16",
    ),
    "mistral": (t.MistralForCausalLM, t.MistralConfig, decoder(head_dim=32, sliding_window=None), "float32"),
    "mixtral": (
        t.MixtralForCausalLM,
        t.MixtralConfig,
        decoder(num_local_experts=EXPERTS, num_experts_per_tok=2),
        "bfloat16",
    ),
    "qwen2": (t.Qwen2ForCausalLM, t.Qwen2Config, decoder(rope_parameters=YARN), "bfloat16"),
    "qwen2moe": (
        t.Qwen2MoeForCausalLM,
        t.Qwen2MoeConfig,
        decoder(shared_expert_intermediate_size=64, **MOE),
        "bfloat16",
    ),
    "qwen3": (t.Qwen3ForCausalLM, t.Qwen3Config, decoder(head_dim=32, tie_word_embeddings=True), "bfloat16"),
    "qwen3moe": (
        t.Qwen3MoeForCausalLM,
        t.Qwen3MoeConfig,
        # llama.cpp has no other.
        decoder(head_dim=32, norm_topk_prob=True, **MOE),
        "bfloat16",
    ),
    "gemma": (t.GemmaForCausalLM, t.GemmaConfig, decoder(head_dim=32), "bfloat16"),
    "gemma2": (t.Gemma2ForCausalLM, t.Gemma2Config, decoder(head_dim=32, query_pre_attn_scalar=32, sliding_window=32), "float16"),
    "gemma3": (t.Gemma3ForCausalLM, t.Gemma3TextConfig, decoder(head_dim=32, query_pre_attn_scalar=32, sliding_window=32), "bfloat16"),
    "phi3": (
        t.Phi3ForCausalLM,
        t.Phi3Config,
        # llama.cpp takes the long factors where its context is longer than the original one, however short the text.
        decoder(pad_token_id=0, rope_parameters=LONG, original_max_position_embeddings=256)
        | dict(max_position_embeddings=512),
        "bfloat16",
    ),
    "olmo2": (t.Olmo2ForCausalLM, t.Olmo2Config, decoder(), "float32"),
    "starcoder2": (t.Starcoder2ForCausalLM, t.Starcoder2Config, decoder(), "bfloat16"),
    "gpt2": (
        t.GPT2LMHeadModel,
        t.GPT2Config,
        dict(n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_positions=128, n_ctx=128),
        "float32",
    ),
    "bert": (
        t.BertModel,
        t.BertConfig,
        dict(
            hidden_size=HIDDEN,
            intermediate_size=FEED,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=64,
        ),
        "float32",
    ),
}


def build(name: str, parent: Path) -> Path:
    """Writes a model's folder; the same bytes every time."""
    if name == "nomic-bert":
        return nomic(parent)
    kind, config, options, dtype = MODELS[name]
    # A model that is called Phi 3 must have Phi's own tokens in llama.cpp.
    folder = parent / ("Tiny-long" if name == "phi3" else f"Tiny-{name}")
    folder.mkdir(parents=True)
    tokens = (wordpiece if name == "bert" else bpe)(folder)
    torch.manual_seed(5)
    model = kind(config(vocab_size=tokens, **options))
    scatter(model)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    beside(name, folder)
    return folder


def scatter(model: torch.nn.Module) -> None:
    """A fresh model hardly computes: norms and biases are ones and zeros, weights nearly nothing. Here none is."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
        else:
            parameter.data *= 6


def beside(name: str, folder: Path) -> None:
    """What stands beside the weights of some."""
    if name == "llama":
        card = [
            "---",
            "license: apache-2.0",
            "language:",
            "- en",
            "- no",
            "pipeline_tag: text-generation",
            "tags: [tiny, 'test']",
            "base_model: acme/Base-7B-v0.2",
            "datasets:",
            "- acme/words",
            "---",
            "# Tiny",
        ]
        (folder / "README.md").write_text("\n".join(card) + "\n")
        generation = dict(temperature=0.6, top_p=0.9, top_k=40, repetition_penalty=1.1, do_sample=True)
        (folder / "generation_config.json").write_text(json.dumps(generation))
    if name == "bert":
        modules = [
            dict(idx=0, name="0", path="", type="sentence_transformers.models.Transformer"),
            dict(idx=1, name="1", path="1_Pooling", type="sentence_transformers.models.Pooling"),
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        pooling = dict(word_embedding_dimension=HIDDEN, pooling_mode_mean_tokens=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def nomic(parent: Path) -> Path:
    """transformers has no nomic-bert of its own: its tensors and config as nomic-embed-text-v1.5 has them."""
    from safetensors.torch import save_file

    folder = parent / "Tiny-nomic-bert"
    folder.mkdir(parents=True)
    tokens = wordpiece(folder)
    torch.manual_seed(5)
    shapes = {
        "embeddings.word_embeddings.weight": (tokens, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "emb_ln.weight": (HIDDEN,),
        "emb_ln.bias": (HIDDEN,),
    }
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        shapes |= {
            f"{layer}.attn.Wqkv.weight": (3 * HIDDEN, HIDDEN),
            f"{layer}.attn.out_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}.mlp.fc11.weight": (FEED, HIDDEN),
            f"{layer}.mlp.fc12.weight": (FEED, HIDDEN),
            f"{layer}.mlp.fc2.weight": (HIDDEN, FEED),
            **{f"{layer}.norm{n}.{p}": (HIDDEN,) for n in (1, 2) for p in ("weight", "bias")},
        }
    save_file({n: torch.randn(s) * 0.1 + len(s) % 2 for n, s in shapes.items()}, folder / "model.safetensors")
    config = dict(
        architectures=["NomicBertModel"],
        model_type="nomic_bert",
        activation_function="swiglu",
        causal=False,
        layer_norm_epsilon=1e-12,
        max_trained_positions=2048,
        mlp_fc1_bias=False,
        mlp_fc2_bias=False,
        n_embd=HIDDEN,
        n_head=HEADS,
        n_inner=FEED,
        n_layer=LAYERS,
        n_positions=8192,
        prenorm=False,
        qkv_proj_bias=False,
        rotary_emb_base=1000,
        rotary_emb_fraction=1.0,
        rotary_emb_interleaved=False,
        rotary_emb_scale_base=None,
        rotary_scaling_factor=None,
        type_vocab_size=2,
        vocab_size=tokens,
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


NAMES = [*MODELS, "nomic-bert"]
