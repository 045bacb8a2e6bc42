//! Gemma 3, the language model of it.
use std::ops::Range;

use super::gemma::NAMES;
use super::{Architecture, DECODER, Names, from_one};
use crate::core::Result;
use crate::target::gguf::hf::config::Config;
use crate::target::gguf::hf::keys::{Keys, Rope};

pub(super) static GEMMA3: Architecture = Architecture {
    name: "gemma3",
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    // The eyes of the larger ones are a file of their own.
    dropped: &["lm_head.weight", "*.rotary_emb.inv_freq", "vision_tower.*", "multi_modal_projector.*"],
    names: NAMES,
    layer_names: LAYER,
    change: from_one,
    rows,
    keys,
    ..DECODER
};

const LAYER: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The table of tokens may have more rows than there are tokens.
fn rows(name: &str, rows: u64, config: &Config) -> Result<Range<u64>> {
    let tokens = config.count(&["vocab_size"])?.map_or(rows, u64::from);
    Ok(if name == "token_embd.weight" { 0..rows.min(tokens) } else { 0..rows })
}

fn keys(keys: &mut Keys) -> Result<()> {
    let mut rope = Rope::of(keys.config, Some(1_000_000.0))?;
    rope.sliding_theta.get_or_insert(10000.0);
    keys.common(&rope)?;
    let config = keys.config;
    if let Some(last) = config.number(&["final_logit_softcapping"])?.filter(|n| *n != 0.0) {
        keys.set("final_logit_softcapping", last as f32);
    }
    // llama.cpp knows the pattern by heart.
    if config.find(&["sliding_window_pattern"]).is_none_or(|(_, pattern)| pattern != 1) {
        keys.set("attention.sliding_window", config.need(&["sliding_window"])?);
    }
    Ok(())
}
