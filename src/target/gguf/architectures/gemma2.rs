//! Gemma 2: norms after each part too, and scores that are kept within bounds.
use super::gemma::{DROPPED, NAMES};
use super::{Architecture, DECODER, Names, from_one, gemma};
use crate::core::Result;
use crate::target::gguf::hf::keys::Keys;

pub(super) static GEMMA2: Architecture = Architecture {
    name: "gemma2",
    classes: &["Gemma2ForCausalLM"],
    dropped: DROPPED,
    names: NAMES,
    layer_names: LAYER,
    change: from_one,
    keys,
    ..DECODER
};

const LAYER: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

fn keys(keys: &mut Keys) -> Result<()> {
    gemma::keys(keys)?;
    let attention = keys.config.number(&["attn_logit_softcapping"])?.unwrap_or(50.0);
    let last = keys.config.number(&["final_logit_softcapping"])?.unwrap_or(30.0);
    let window = keys.config.count(&["sliding_window"])?.unwrap_or(4096);
    keys.set("attn_logit_softcapping", attention as f32);
    keys.set("final_logit_softcapping", last as f32);
    keys.set("attention.sliding_window", window);
    Ok(())
}
