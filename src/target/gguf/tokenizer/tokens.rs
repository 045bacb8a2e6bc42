//! Tokens with what a GGUF file says of them, and the keys as they are put together.
use super::proto::Type;
use crate::format::gguf::{Pair, Value};

/// Keys, each of which stands once: a later value takes the earlier one's place, as in Python's dicts.
#[derive(Default)]
pub(super) struct Pairs(pub Vec<Pair>);

impl Pairs {
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        let pair = Pair::new(key, value);
        match self.0.iter_mut().find(|p| p.key == pair.key) {
            Some(old) => *old = pair,
            None => self.0.push(pair),
        }
    }

    /// Keys of no value are not written: a Python writer drops empty texts and lists.
    pub fn put_text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.put(key, text);
        }
    }

    /// The tokens of a vocabulary, with their scores where `scored`, and their types.
    pub fn put_tokens(&mut self, model: &str, pre: &str, tokens: &[Token], scored: bool) {
        self.put("tokenizer.ggml.model", model);
        self.put("tokenizer.ggml.pre", pre);
        self.put("tokenizer.ggml.tokens", Value::strings(tokens.iter().map(|t| &t.text)));
        if scored {
            let scores: Vec<f32> = tokens.iter().map(|t| t.score).collect();
            self.put("tokenizer.ggml.scores", scores.as_slice());
        }
        let types: Vec<i32> = tokens.iter().map(|t| t.kind as i32).collect();
        self.put("tokenizer.ggml.token_type", types.as_slice());
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub text: String,
    pub score: f32,
    pub kind: Type,
}

impl Token {
    pub fn new(text: impl Into<String>, score: f32, kind: Type) -> Self {
        Self { text: text.into(), score, kind }
    }

    /// What stands at an id without a token.
    pub fn hole(id: usize) -> Self {
        Self::new(format!("[PAD{id}]"), -10_000.0, Type::Unused)
    }
}

/// Whether a token should never be made of text although its tokenizer does not call it special.
pub(super) fn looks_special(text: &str) -> bool {
    const KNOWN: [&str; 4] = ["<pad>", "<mask>", "<2mass>", "[@BOS@]"];
    const AROUND: [(&str, &str); 3] = [("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")];
    KNOWN.contains(&text) || AROUND.iter().any(|(start, end)| text.starts_with(start) && text.ends_with(end))
}

/// Tokens that the tokenizer wants found in text as they are written: a blank for U+2581.
pub(super) fn with_blanks(text: &str) -> String {
    text.replace('\u{2581}', " ")
}
