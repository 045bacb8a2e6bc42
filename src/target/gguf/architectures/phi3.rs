//! Phi 3: queries, keys and values in one matrix, and so gate and up.
use super::{Architecture, DECODER, Generated, Names};
use crate::core::Result;
use crate::target::gguf::hf::config::Config;
use crate::target::gguf::hf::keys::names::{FEED_FORWARD, HEADS, HIDDEN, KEY_HEADS, ORIGINAL, PARTIAL, RMS_EPSILON};
use crate::target::gguf::hf::keys::{Keys, Rope};

pub(super) static PHI3: Architecture =
    Architecture { name: "phi3", classes: &["Phi3ForCausalLM"], layer_names: LAYER, keys, generated, ..DECODER };

const LAYER: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

const CONTEXT: &[&str] = &["n_positions", "max_position_embeddings"];

fn rope(config: &Config) -> Result<Rope> {
    Rope::of(config, Some(10000.0))
}

/// Tokens that it was trained with before its context was stretched.
fn original(config: &Config) -> Result<f64> {
    ORIGINAL.iter().for_each(|key| config.place(key));
    let said = rope(config)?.number("original_max_position_embeddings");
    Ok(said.unwrap_or(f64::from(config.need(CONTEXT)?)))
}

/// Values of a head that are turned.
fn turned(config: &Config) -> Result<u32> {
    PARTIAL.iter().for_each(|key| config.place(key));
    let share = rope(config)?.number("partial_rotary_factor").unwrap_or(1.0);
    Ok((share * f64::from(config.need(HIDDEN)?)) as u32 / config.need(HEADS)?.max(1))
}

fn keys(keys: &mut Keys) -> Result<()> {
    let config = keys.config;
    let rope = rope(config)?;
    if let Some(factor) = attention_factor(config, &rope)? {
        keys.set("rope.scaling.attn_factor", factor as f32);
    }
    keys.need("context_length", CONTEXT)?;
    keys.set("rope.scaling.original_context_length", original(config)? as u32);
    keys.need("embedding_length", HIDDEN)?;
    keys.need("feed_forward_length", FEED_FORWARD)?;
    keys.layers()?;
    let heads = keys.need("attention.head_count", HEADS)?;
    keys.set("attention.head_count_kv", config.count(KEY_HEADS)?.unwrap_or(heads));
    keys.set("attention.layer_norm_rms_epsilon", config.number(RMS_EPSILON)?.unwrap_or(1e-5) as f32);
    keys.set("rope.dimension_count", turned(config)?);
    keys.set("rope.freq_base", rope.number("rope_theta").unwrap_or(10000.0) as f32);
    keys.file_type();
    // 0 tells Phi 4 from those before it.
    keys.set("attention.sliding_window", config.count(&["sliding_window"])?.unwrap_or(0));
    Ok(())
}

/// What scores are scaled by where the context is stretched.
fn attention_factor(config: &Config, rope: &Rope) -> Result<Option<f64>> {
    if rope.numbers("long_factor").is_none_or(|f| f.is_empty()) {
        if let Some(kind) = rope.kind().filter(|kind| *kind != "default") {
            rope.displace(config, kind);
        }
        return Ok(None);
    }
    let original = original(config)?;
    let scale = f64::from(config.need(CONTEXT)?) / original;
    let stretched = scale > 1.0;
    match rope.kind().map(str::to_lowercase).as_deref() {
        Some("su" | "longrope") if stretched => Ok(Some((1.0 + scale.ln() / original.ln()).sqrt())),
        Some("yarn") if stretched => Ok(Some(0.1 * scale.ln() + 1.0)),
        Some("su" | "longrope" | "yarn") => Ok(Some(1.0)),
        other => Err(config.error(format!(
            "config.json: `long_factor` is there, and `rope_type` is {}, expected longrope or yarn",
            other.unwrap_or("missing")
        ))),
    }
}

fn generated(config: &Config) -> Result<Generated> {
    let rope = rope(config)?;
    let Some(long) = rope.numbers("long_factor").filter(|f| !f.is_empty()) else { return Ok(Vec::new()) };
    let short = rope.numbers("short_factor").unwrap_or_default();
    let pairs = turned(config)? as usize / 2;
    if (long.len(), short.len()) != (pairs, pairs) {
        return Err(config.error(format!(
            "config.json: `long_factor` has {} numbers and `short_factor` {}, expected {pairs} of each",
            long.len(),
            short.len()
        )));
    }
    Ok(vec![("rope_factors_long.weight", long), ("rope_factors_short.weight", short)])
}
