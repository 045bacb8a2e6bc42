//! OLMo 2 and 3: norms after each part, none before.
use super::qwen2::plain;
use super::{Architecture, DECODER, Names};
use crate::core::Result;
use crate::target::gguf::hf::keys::Keys;
use crate::target::gguf::hf::keys::names::LAYERS;

pub(super) static OLMO2: Architecture = Architecture {
    name: "olmo2",
    classes: &["Olmo2ForCausalLM", "Olmo3ForCausalLM"],
    layer_names: LAYER,
    keys,
    optional: &[],
    ..DECODER
};

const LAYER: Names = &[
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "post_attention_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

fn keys(keys: &mut Keys) -> Result<()> {
    plain(keys)?; // Holds the number of layers within bounds.
    let config = keys.config;
    let Some(window) = config.count(&["sliding_window"])? else { return Ok(()) };
    keys.set("attention.sliding_window", window);
    let pattern: Vec<bool> = match config.parsed(&["layer_types"], |v| v.as_array()) {
        Some(types) => types.iter().map(|t| t.as_str() == Some("sliding_attention")).collect(),
        None => (1..=config.need(LAYERS)?).map(|layer| !layer.is_multiple_of(4)).collect(),
    };
    keys.set("attention.sliding_window_pattern", pattern.as_slice());
    Ok(())
}
