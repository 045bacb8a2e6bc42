//! Architectures of Hugging Face models that become GGUF: what their tensors are called on either side, what is done to
//! them on the way, and which keys llama.cpp reads. A file for each.
mod bert;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod llama;
mod mixtral;
mod nomic_bert;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod starcoder2;
pub mod t5;

use std::ops::Range;

use super::hf::config::Config;
use super::hf::keys::Keys;
use crate::core::plan::Change;
use crate::core::{Error, Result};

/// Names on either side, without `.weight` and `.bias`. A `{}` stands for the number of an expert, whose weights are
/// stacked.
pub type Names = &'static [(&'static str, &'static str)];

/// Tensors that are made: their names, their values.
pub type Generated = Vec<(&'static str, Vec<f32>)>;

/// An architecture, as tables.
#[derive(Debug)]
pub struct Architecture {
    /// What llama.cpp calls it, and its keys begin with.
    pub name: &'static str,
    /// Classes of transformers that are it.
    pub classes: &'static [&'static str],
    /// What names may begin with and the tables leave out.
    pub prefixes: &'static [&'static str],
    /// Tensors without a place in the file: whole names, or a beginning or an ending with a `*` for the rest.
    pub dropped: &'static [&'static str],
    /// Outside of layers.
    pub names: Names,
    /// Tensors that are there twice: the first is dropped where there is the second.
    pub twins: Names,
    /// What names of layers begin with, up to their number.
    pub layers: &'static str,
    /// The same in the file.
    pub blocks: &'static str,
    /// Within a layer.
    pub layer_names: Names,
    /// Within a layer, banks of experts that lie in one tensor: it is cut into equal parts, of the rows of each expert.
    pub banks: &'static [(&'static str, &'static [&'static str])],
    /// What llama.cpp loads a model without, as it is called in the file without `blk.N.` and `.weight`.
    pub optional: &'static [&'static str],
    /// What is done to the values of a tensor, by its name in the file without `blk.N.`.
    pub change: fn(&str, &Config) -> Result<Change>,
    /// Which rows of a tensor are taken, by its name in the file and its rows.
    pub rows: fn(&str, u64, &Config) -> Result<Range<u64>>,
    /// Its keys.
    pub keys: fn(&mut Keys) -> Result<()>,
    /// Tensors that are made from the config: their names, their values.
    pub generated: fn(&Config) -> Result<Generated>,
    /// Whether llama.cpp runs it, which takes a tokenizer; ComfyUI has its own for text encoders.
    pub runs_alone: bool,
}

/// What most of them are.
const DECODER: Architecture = Architecture {
    name: "",
    classes: &[],
    prefixes: &["model."],
    dropped: &["*.rotary_emb.inv_freq"],
    names: &[("embed_tokens", "token_embd"), ("norm", "output_norm"), ("lm_head", "output")],
    twins: &[],
    layers: "layers.",
    blocks: "blk.",
    layer_names: &[],
    banks: &[],
    // The table of tokens is taken for it.
    optional: &["output"],
    change: |_, _| Ok(Change::None),
    rows: |_, rows, _| Ok(0..rows),
    keys: |_| Ok(()),
    generated: |_| Ok(Vec::new()),
    runs_alone: true,
};

/// Every one.
static ALL: [&Architecture; 16] = [
    &llama::LLAMA,
    &mixtral::MIXTRAL,
    &qwen2::QWEN2,
    &qwen2moe::QWEN2MOE,
    &qwen3::QWEN3,
    &qwen3moe::QWEN3MOE,
    &gemma::GEMMA,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &phi3::PHI3,
    &olmo2::OLMO2,
    &starcoder2::STARCODER2,
    &gpt2::GPT2,
    &bert::BERT,
    &nomic_bert::NOMIC_BERT,
    &t5::T5,
];

/// The architecture of a class of transformers.
///
/// # Errors
/// If it is none of those, which are listed then.
pub fn of(class: &str) -> Result<&'static Architecture> {
    let found = ALL.iter().find(|a| a.classes.contains(&class));
    found.copied().ok_or_else(|| {
        let classes: Vec<&str> = ALL.iter().flat_map(|a| a.classes).copied().collect();
        Error::failed(format!(
            "{}: no GGUF is made of this architecture; of these it is: {}",
            crate::core::name::clean(class),
            classes.join(", ")
        ))
    })
}

/// What becomes of a tensor's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It has no place in the file.
    Dropped,
    /// Its name there, and which expert's it is.
    Named(String, Option<u32>),
    /// The names of the banks that it holds.
    Banks(Vec<String>),
}

impl Architecture {
    /// A tensor's name in the file.
    ///
    /// # Errors
    /// If the architecture has no tensor that is called so.
    pub fn place(&self, name: &str) -> Result<Placed> {
        let joined = name.replace("language_model.", "");
        let mut own = joined.as_str();
        for prefix in self.prefixes {
            own = own.strip_prefix(prefix).unwrap_or(own);
        }
        if self.dropped.iter().any(|pattern| is_like(pattern, own)) {
            return Ok(Placed::Dropped);
        }
        if let Some((number, part)) = self.layer(own) {
            let part = part.strip_suffix(".weight").unwrap_or(part);
            if let Some((_, banks)) = self.banks.iter().find(|(from, _)| *from == part) {
                return Ok(Placed::Banks(
                    banks.iter().map(|to| format!("{}{number}.{to}.weight", self.blocks)).collect(),
                ));
            }
        }
        // Norms of old checkpoints have the names of TensorFlow.
        let endings = [(".weight", ".weight"), (".bias", ".bias"), (".gamma", ".weight"), (".beta", ".bias")];
        let (layer, ending) =
            endings.iter().find_map(|(is, will)| Some((own.strip_suffix(is)?, *will))).unwrap_or((own, ""));
        let found = self.named(layer).filter(|_| !ending.is_empty());
        let unknown = || Error::failed(format!("`{}` has no place in {}", crate::core::name::clean(name), self.name));
        found.map(|(name, expert)| Placed::Named(format!("{name}{ending}"), expert)).ok_or_else(unknown)
    }

    /// The number of a layer, and what the tensor is called within it.
    fn layer<'n>(&self, name: &'n str) -> Option<(u32, &'n str)> {
        let (number, part) = name.strip_prefix(self.layers)?.split_once('.')?;
        Some((number.parse().ok()?, part))
    }

    fn named(&self, layer: &str) -> Option<(String, Option<u32>)> {
        if let Some((_, to)) = self.names.iter().find(|(from, _)| *from == layer) {
            return Some(((*to).to_owned(), None));
        }
        let (number, part) = self.layer(layer)?;
        self.layer_names.iter().find_map(|(from, to)| {
            let expert = match from.split_once("{}") {
                None if *from == part => None,
                None => return None,
                Some((before, after)) => Some(part.strip_prefix(before)?.strip_suffix(after)?.parse().ok()?),
            };
            Some((format!("{}{number}.{to}", self.blocks), expert))
        })
    }
}

fn is_like(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => name == pattern,
    }
}

/// Queries and keys as llama.cpp's llama turns them: the halves of a head take turns.
fn interleaved(name: &str, config: &Config) -> Result<Change> {
    use super::hf::keys::names::{HEADS, KEY_HEADS};
    let heads = config.need(HEADS)?;
    match name.split('.').next() {
        Some("attn_q") => Ok(Change::PermuteHeads(heads.into())),
        Some("attn_k") => Ok(Change::PermuteHeads(config.count(KEY_HEADS)?.unwrap_or(heads).into())),
        _ => Ok(Change::None),
    }
}

/// Norms that count from zero in the checkpoint, and from one in the file.
fn from_one(name: &str, _: &Config) -> Result<Change> {
    Ok(if name.ends_with("norm.weight") { Change::AddOne } else { Change::None })
}

#[cfg(test)]
mod tests;
