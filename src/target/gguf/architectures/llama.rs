//! Llama, and what has its shape: Mistral.
use super::super::hf::config::Config;
use super::super::hf::keys::names::{HEADS, HIDDEN};
use super::super::hf::keys::{Keys, MOST_HEAD, Rope};
use super::{Architecture, DECODER, Generated, Names, interleaved};
use crate::core::Result;

pub(super) static LLAMA: Architecture = Architecture {
    name: "llama",
    classes: &["LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel", "MistralForCausalLM"],
    layer_names: LAYER,
    change: interleaved,
    keys,
    generated: |config| factors(config, THETA),
    ..DECODER
};

/// A layer's tensors, which many others call so too.
pub(super) const LAYER: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The base of positions where a config says none.
const THETA: f64 = 10000.0;

fn keys(keys: &mut Keys) -> Result<()> {
    complete(keys, THETA)?;
    // transformers has it even where the file does not say it.
    if keys.config.head()?.is_none() {
        let dim = head(keys.config)?;
        keys.set("attention.key_length", dim);
        keys.set("attention.value_length", dim);
    }
    Ok(())
}

/// The keys of the family.
pub(super) fn complete(keys: &mut Keys, theta: f64) -> Result<()> {
    let rope = Rope::of(keys.config, Some(theta))?;
    keys.common(&rope)?;
    keys.need("vocab_size", &["vocab_size"])?;
    keys.set("rope.dimension_count", head(keys.config)?);
    Ok(())
}

fn head(config: &Config) -> Result<u32> {
    if let Some(dim) = config.head()? {
        return Ok(dim);
    }
    let dim = config.need(HIDDEN)? / config.need(HEADS)?.max(1);
    let said = || [HIDDEN, HEADS].iter().filter_map(|keys| config.quote(keys)).collect::<Vec<_>>().join(" and ");
    let wrong = || config.error(format!("config.json: {} make heads of {dim}, expected 1 to {MOST_HEAD}", said()));
    (1..=MOST_HEAD).contains(&dim).then_some(dim).ok_or_else(wrong)
}

/// Llama 3 stretches slow turns more than fast ones: a factor for each pair of a head.
pub(super) fn factors(config: &Config, theta: f64) -> Result<Generated> {
    let rope = Rope::of(config, Some(theta))?;
    if !rope.kind().is_some_and(|kind| kind.eq_ignore_ascii_case("llama3")) {
        return Ok(Vec::new());
    }
    let number = |key: &str, habit: f64| rope.number(key).unwrap_or(habit);
    let (base, factor) = (number("rope_theta", theta), number("factor", 8.0));
    let (low, high) = (number("low_freq_factor", 1.0), number("high_freq_factor", 4.0));
    let original = number("original_max_position_embeddings", 8192.0);
    let dim = head(config)?;
    // Step by step in the width that the reference computes in, dividing as it does: by the reciprocal.
    let factors = (0..dim).step_by(2).map(|i| {
        let frequency = 1.0 / (base as f32).powf(i as f32 / dim as f32);
        let wavelength = 1.0 / frequency * (2.0 * std::f64::consts::PI) as f32;
        if wavelength < (original / high) as f32 {
            return 1.0;
        }
        if wavelength > (original / low) as f32 {
            return factor as f32;
        }
        let smooth = (1.0 / wavelength * original as f32 - low as f32) / (high - low) as f32;
        1.0 / ((1.0 - smooth) / factor as f32 + smooth)
    });
    Ok(vec![("rope_freqs.weight", factors.collect())])
}
