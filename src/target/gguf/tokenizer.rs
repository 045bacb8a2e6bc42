//! A model's tokenizer as the keys of a GGUF file, out of the small files that lie beside its weights.
//!
//! The judge is llama.cpp's convert_hf_to_gguf: the same keys with the same values in the same order. Where its way
//! ends in an error that a person could not mend, or in a file that llama.cpp refuses, this one goes on and says so in
//! a warning.
mod added;
mod bpe;
mod decode;
mod files;
mod llama;
mod pre;
mod proto;
mod recover;
mod route;
mod special;
mod template;
mod tokens;
mod unigram;
mod wordpiece;

use serde_json::Value;

use crate::core::Result;
use crate::format::gguf::Pair;

pub use pre::NAMES as PRE_NAMES;

/// Reads a small file of the model's folder by its name; `None` where there is none.
pub type Read<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>;

/// Which kind of tokenizer is wanted of a folder that may hold several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The one that convert_hf_to_gguf takes for the architecture.
    #[default]
    Auto,
    /// Merges of bytes (`gpt2`).
    Bpe,
    /// SentencePiece, or what was one (`llama`).
    SentencePiece,
    /// BERT's (`bert`).
    WordPiece,
    /// The likeliest pieces (`t5`).
    Unigram,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The model's folder.
    pub read: Read<'a>,
    /// `config.json`.
    pub config: &'a Value,
    /// GGUF's name of the architecture: `llama`, `qwen2`, `gemma3`, `bert`.
    pub architecture: &'a str,
    /// The kind.
    pub family: Wanted,
    /// llama.cpp's name of the pre-tokenizer, where the person says it.
    pub pre: Option<&'a str>,
}

/// What a model's tokenizer becomes in a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    /// `tokenizer.*`, in convert_hf_to_gguf's order.
    pub pairs: Vec<Pair>,
    /// Tokens: the rows that the embedding must have.
    pub tokens: usize,
    /// For the person.
    pub warnings: Vec<String>,
}

/// The tokenizer of a folder as keys; `None` where it has none at all ([`FILES`] were looked for).
pub fn vocabulary(request: &Request) -> Result<Option<Vocabulary>> {
    if let Some(pre) = request.pre {
        pre::check(pre)?;
    }
    route::vocabulary(request)
}

pub use route::FILES;

#[cfg(test)]
mod tests;
