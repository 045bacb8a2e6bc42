//! BERT and its like, for embeddings: MiniLM, BGE, RoBERTa.
use std::ops::Range;

use super::{Architecture, DECODER, Names};
use crate::core::Result;
use crate::target::gguf::hf::config::Config;
use crate::target::gguf::hf::keys::names::CONTEXT;
use crate::target::gguf::hf::keys::{Keys, Rope};

pub(super) static BERT: Architecture = Architecture {
    name: "bert",
    classes: &["BertModel", "BertForMaskedLM", "CamembertModel", "RobertaModel", "XLMRobertaModel"],
    prefixes: &["bert.", "roberta."],
    dropped: DROPPED,
    names: &[
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
    ],
    layers: "encoder.layer.",
    layer_names: LAYER,
    rows,
    keys,
    optional: &["token_types"],
    ..DECODER
};

/// What is for other tasks than embedding.
pub(super) const DROPPED: &[&str] = &["embeddings.position_ids", "pooler.*", "cls.*"];

const LAYER: Names = &[
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

/// Positions that a model of RoBERTa's kind does not use: its first is the one after that of padding.
fn unused(config: &Config) -> Result<u32> {
    let class = config.get(&["architectures"]).and_then(|a| a.get(0)?.as_str().map(str::to_owned));
    match class.is_some_and(|c| c.starts_with("Roberta") || c.starts_with("XLMRoberta")) {
        true => Ok(config.count(&["pad_token_id"])?.map_or(0, |id| id.saturating_add(1))),
        false => Ok(0),
    }
}

fn rows(name: &str, rows: u64, config: &Config) -> Result<Range<u64>> {
    match name {
        "position_embd.weight" => Ok(u64::from(unused(config)?).min(rows)..rows),
        _ => Ok(0..rows),
    }
}

fn keys(keys: &mut Keys) -> Result<()> {
    encoder(keys)?;
    let context = keys.config.need(CONTEXT)?;
    keys.set("context_length", context.saturating_sub(unused(keys.config)?));
    Ok(())
}

/// What every encoder has. Pooling comes from the files of sentence-transformers.
pub(super) fn encoder(keys: &mut Keys) -> Result<()> {
    let rope = Rope::of(keys.config, None)?;
    keys.common(&rope)?;
    keys.set("attention.causal", false);
    Ok(())
}
