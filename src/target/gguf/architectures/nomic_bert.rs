//! Nomic's BERT, with rotary positions and a gate.
use serde_json::json;

use super::bert::{DROPPED, encoder};
use super::{Architecture, DECODER, Names};
use crate::core::Result;
use crate::target::gguf::hf::keys::Keys;

pub(super) static NOMIC_BERT: Architecture = Architecture {
    name: "nomic-bert",
    classes: &["NomicBertModel"],
    prefixes: &["bert."],
    dropped: DROPPED,
    names: &[
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("emb_ln", "token_embd_norm"),
    ],
    layers: "encoder.layers.",
    layer_names: LAYER,
    keys,
    optional: &["token_types"],
    ..DECODER
};

const LAYER: Names = &[
    ("attn.Wqkv", "attn_qkv"),
    ("attn.out_proj", "attn_output"),
    ("norm1", "attn_output_norm"),
    ("mlp.fc11", "ffn_up"),
    ("mlp.fc12", "ffn_gate"),
    ("mlp.fc2", "ffn_down"),
    ("norm2", "layer_output_norm"),
];

fn keys(keys: &mut Keys) -> Result<()> {
    let config = keys.config;
    for (key, expected) in [
        ("activation_function", json!("swiglu")),
        ("causal", json!(false)),
        ("qkv_proj_bias", json!(false)),
        ("mlp_fc1_bias", json!(false)),
        ("mlp_fc2_bias", json!(false)),
        ("prenorm", json!(false)),
        ("rotary_emb_fraction", json!(1.0)),
        ("rotary_emb_interleaved", json!(false)),
    ] {
        config.demand(key, &expected)?;
    }
    encoder(keys)?;
    // It is stretched when it is run; the file says what it was trained with.
    if let Some(trained) = config.count(&["max_trained_positions"])? {
        keys.set("context_length", trained);
    }
    Ok(())
}
