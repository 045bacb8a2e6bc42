//! Qwen 2 with experts, one of which is always asked.
use super::qwen2::plain;
use super::{Architecture, DECODER, Names};
use crate::core::Result;
use crate::target::gguf::hf::keys::Keys;

pub(super) static QWEN2MOE: Architecture = Architecture {
    name: "qwen2moe",
    classes: &["Qwen2MoeForCausalLM"],
    layer_names: LAYER,
    banks: BANKS,
    keys,
    optional: &["ffn_gate", "ffn_up", "ffn_down"],
    ..DECODER
};

const LAYER: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.experts.{}.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.{}.up_proj", "ffn_up_exps"),
    ("mlp.experts.{}.down_proj", "ffn_down_exps"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
];

/// As transformers 5 has experts in memory, and some files too.
pub(super) const BANKS: &[(&str, &[&str])] =
    &[("mlp.experts.gate_up_proj", &["ffn_gate_exps", "ffn_up_exps"]), ("mlp.experts.down_proj", &["ffn_down_exps"])];

/// What Qwen's experts have besides.
pub(super) fn keys(keys: &mut Keys) -> Result<()> {
    plain(keys)?;
    keys.count("expert_feed_forward_length", &["moe_intermediate_size"])?;
    keys.count("expert_shared_feed_forward_length", &["shared_expert_intermediate_size"])
}
