//! GPT-2, whose matrices lie transposed.
use super::{Architecture, DECODER, Names};
use crate::core::Result;
use crate::core::plan::Change;
use crate::target::gguf::hf::keys::Keys;
use crate::target::gguf::hf::keys::names::{EPSILON, HEADS, HIDDEN};

pub(super) static GPT2: Architecture = Architecture {
    name: "gpt2",
    classes: &["GPT2LMHeadModel"],
    prefixes: &["transformer."],
    dropped: &["*.attn.bias", "*.attn.masked_bias"],
    names: &[("wte", "token_embd"), ("wpe", "position_embd"), ("ln_f", "output_norm"), ("lm_head", "output")],
    layers: "h.",
    layer_names: LAYER,
    change: |name, _| {
        let turned = ["attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight"];
        Ok(if turned.contains(&name) { Change::Transpose } else { Change::None })
    },
    keys,
    ..DECODER
};

const LAYER: Names = &[
    ("ln_1", "attn_norm"),
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("ln_2", "ffn_norm"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
];

fn keys(keys: &mut Keys) -> Result<()> {
    keys.layers()?;
    keys.need("context_length", &["n_ctx", "n_positions"])?;
    let hidden = keys.need("embedding_length", HIDDEN)?;
    keys.set("feed_forward_length", keys.config.count(&["n_inner"])?.unwrap_or(hidden.saturating_mul(4)));
    keys.need("attention.head_count", HEADS)?;
    keys.set("attention.layer_norm_epsilon", keys.config.number(EPSILON)?.unwrap_or(1e-5) as f32);
    keys.file_type();
    Ok(())
}
