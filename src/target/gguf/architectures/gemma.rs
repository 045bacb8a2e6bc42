//! Gemma: norms that count from zero, and no head of its own.
use super::llama::LAYER;
use super::{Architecture, DECODER, Names, from_one};
use crate::core::Result;
use crate::target::gguf::hf::keys::Keys;
use crate::target::gguf::hf::keys::names::{CONTEXT, FEED_FORWARD, HEADS, HIDDEN, KEY_HEADS, RMS_EPSILON};

pub(super) static GEMMA: Architecture = Architecture {
    name: "gemma",
    classes: &["GemmaForCausalLM"],
    dropped: DROPPED,
    names: NAMES,
    layer_names: LAYER,
    change: from_one,
    keys,
    ..DECODER
};

/// llama.cpp takes the table of tokens for the head.
pub(super) const DROPPED: &[&str] = &["lm_head.weight", "*.rotary_emb.inv_freq"];
pub(super) const NAMES: Names = &[("embed_tokens", "token_embd"), ("norm", "output_norm")];

/// Those of the first two Gemmas.
pub(super) fn keys(keys: &mut Keys) -> Result<()> {
    keys.need("context_length", CONTEXT)?;
    keys.need("embedding_length", HIDDEN)?;
    keys.layers()?;
    keys.need("feed_forward_length", FEED_FORWARD)?;
    let heads = keys.need("attention.head_count", HEADS)?;
    let key_heads = keys.config.count(KEY_HEADS)?.unwrap_or(heads);
    keys.set("attention.head_count_kv", key_heads);
    let epsilon = keys.config.number(RMS_EPSILON)?.unwrap_or(1e-6);
    keys.set("attention.layer_norm_rms_epsilon", epsilon as f32);
    let dim = keys.config.head()?.unwrap_or(256);
    keys.set("attention.key_length", dim);
    keys.set("attention.value_length", dim);
    keys.file_type();
    Ok(())
}
