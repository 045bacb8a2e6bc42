//! T5's encoder, which diffusion models read prompts with; the names are those that ComfyUI-GGUF maps back.
use serde_json::{Value as Json, json};

use super::{Architecture, DECODER, Names};
use crate::core::{Model, Result};
use crate::target::gguf::hf::keys::Keys;

pub(super) static T5: Architecture = Architecture {
    name: "t5encoder",
    classes: &["T5EncoderModel", "UMT5EncoderModel"],
    prefixes: &[],
    dropped: &["decoder.*"],
    names: &[(TABLE, "token_embd"), (TWIN, "token_embd"), ("encoder.final_layer_norm", "enc.output_norm")],
    twins: &[("encoder.embed_tokens.weight", "shared.weight")],
    layers: "encoder.block.",
    blocks: "enc.blk.",
    layer_names: LAYER,
    keys,
    runs_alone: false,
    optional: &["attn_rel_b", "ffn_gate"],
    ..DECODER
};

const TABLE: &str = "shared";
const TWIN: &str = "encoder.embed_tokens";

const LAYER: Names = &[
    ("layer.0.layer_norm", "attn_norm"),
    ("layer.0.SelfAttention.q", "attn_q"),
    ("layer.0.SelfAttention.k", "attn_k"),
    ("layer.0.SelfAttention.v", "attn_v"),
    ("layer.0.SelfAttention.o", "attn_o"),
    ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
    ("layer.1.layer_norm", "ffn_norm"),
    ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
    ("layer.1.DenseReluDense.wi_1", "ffn_up"),
    ("layer.1.DenseReluDense.wi", "ffn_up"),
    ("layer.1.DenseReluDense.wo", "ffn_down"),
];

/// Tokens that it sees at once where the config does not say.
const CONTEXT: u32 = 512;

fn keys(keys: &mut Keys) -> Result<()> {
    let context = keys.config.count(&["n_positions"])?.unwrap_or(CONTEXT);
    keys.set("context_length", context);
    keys.need("embedding_length", &["d_model"])?;
    keys.need("feed_forward_length", &["d_ff"])?;
    keys.layers()?;
    keys.need("attention.head_count", &["num_heads"])?;
    keys.need("attention.key_length", &["d_kv"])?;
    keys.need("attention.value_length", &["d_kv"])?;
    let epsilon = keys.config.need_number(&["layer_norm_epsilon"])? as f32;
    keys.set("attention.layer_norm_epsilon", epsilon);
    keys.need("attention.relative_buckets_count", &["relative_attention_num_buckets"])?;
    keys.set("attention.layer_norm_rms_epsilon", epsilon);
    keys.file_type();
    Ok(())
}

/// The config of an encoder that is there without one, as single files for ComfyUI are: its shapes tell all but what
/// every T5 has.
pub fn config(model: &Model) -> Option<Json> {
    let shape = |name: &str| {
        let tensor = model.tensor(model.find(name)?);
        match tensor.shape[..] {
            [rows, cols] => Some((rows, cols)),
            _ => None,
        }
    };
    let block = "encoder.block.0.layer.";
    let (buckets, heads) = shape(&format!("{block}0.SelfAttention.relative_attention_bias.weight"))?;
    let (inner, width) = shape(&format!("{block}0.SelfAttention.q.weight"))?;
    let (_, feed) = shape(&format!("{block}1.DenseReluDense.wo.weight"))?;
    let (vocabulary, _) = shape("shared.weight").or_else(|| shape("encoder.embed_tokens.weight"))?;
    let layers = (0u32..).take_while(|i| model.find(&format!("encoder.block.{i}.layer.0.layer_norm.weight")).is_some());
    Some(json!({
        "architectures": ["T5EncoderModel"],
        "d_model": width,
        "d_ff": feed,
        "d_kv": inner.checked_div(heads)?,
        "num_heads": heads,
        "num_layers": layers.count(),
        "relative_attention_num_buckets": buckets,
        "layer_norm_epsilon": 1e-6,
        "vocab_size": vocabulary,
    }))
}
