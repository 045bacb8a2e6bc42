//! Mixtral: a llama with experts.
use super::llama::{complete, factors};
use super::{Architecture, DECODER, Names, interleaved};

pub(super) static MIXTRAL: Architecture = Architecture {
    name: "llama",
    classes: &["MixtralForCausalLM"],
    layer_names: LAYER,
    change: interleaved,
    keys: |keys| complete(keys, THETA),
    generated: |config| factors(config, THETA),
    ..DECODER
};

/// The base of positions where a config says none.
const THETA: f64 = 1_000_000.0;

const LAYER: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
    ("block_sparse_moe.experts.{}.w1", "ffn_gate_exps"),
    ("block_sparse_moe.experts.{}.w2", "ffn_down_exps"),
    ("block_sparse_moe.experts.{}.w3", "ffn_up_exps"),
];
