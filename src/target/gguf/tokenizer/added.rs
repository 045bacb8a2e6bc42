//! The vocabulary of `tokenizer.json` as a Hugging Face tokenizer has it: the model's tokens, the added ones, and what
//! `tokenizer_config.json` says of them.
use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::files::{Folder, bounded};
use crate::core::{Error, Result};

/// A token that is looked for before the model sees a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Added {
    pub id: usize,
    pub special: bool,
    /// Whether it is looked for in the normalized text.
    pub normalized: bool,
}

/// A vocabulary.
#[derive(Debug, Default)]
pub(super) struct Vocab {
    /// By id; there may be holes.
    pub tokens: BTreeMap<usize, String>,
    /// By text.
    pub added: HashMap<String, Added>,
    /// Tokens of the model alone.
    pub base: usize,
    /// The special tokens that have a name, and the additional ones.
    pub named: Vec<String>,
    /// Behind the last added token.
    pub end: usize,
}

impl Vocab {
    /// Of a tokenizer.
    pub fn read(folder: &Folder, tokenizer: &Value) -> Result<Self> {
        let mut vocab = Self { named: named(folder), ..Self::default() };
        match tokenizer.get("model").and_then(|m| m.get("vocab")) {
            Some(Value::Object(all)) => {
                for (text, id) in all {
                    let id = bounded(id, "tokenizer.json: an id of `vocab`")?;
                    if let Some(other) = vocab.tokens.insert(id, text.clone()) {
                        return Err(Error::failed(format!(
                            "tokenizer.json: `vocab` gives id {id} to both {other:?} and {text:?}"
                        )));
                    }
                }
                vocab.base = all.len();
            }
            Some(Value::Array(all)) => {
                bounded(&all.len().into(), "tokenizer.json: the length of `vocab`")?;
                for (id, entry) in all.iter().enumerate() {
                    let text = entry.get(0).and_then(Value::as_str);
                    let text = text.ok_or_else(|| {
                        Error::failed(format!("tokenizer.json: token {id} of `vocab` is not a pair of text and score"))
                    })?;
                    vocab.tokens.insert(id, text.into());
                }
                vocab.base = all.len();
            }
            _ => return Err(Error::failed("tokenizer.json: its model has no `vocab`")),
        }
        let ids: HashMap<String, usize> = vocab.tokens.iter().map(|(id, text)| (text.clone(), *id)).collect();
        vocab.add_listed(folder, tokenizer, &ids)?;
        vocab.add_configured(folder, &ids)?;
        Ok(vocab)
    }

    /// `added_tokens`. What they say of their ids does not count where the tokenizer counts otherwise.
    fn add_listed(&mut self, folder: &Folder, tokenizer: &Value, ids: &HashMap<String, usize>) -> Result<()> {
        for entry in tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let Some(text) = entry.get("content").and_then(Value::as_str) else { continue };
            let said = bounded(entry.get("id").unwrap_or(&Value::Null), "tokenizer.json: an id of `added_tokens`")?;
            let id = self.add(text, ids, flag(entry, "special"), flag(entry, "normalized"));
            if id != said {
                folder.warn(format!("tokenizer.json: added token {text:?} says id {said}, and has {id}"));
            }
        }
        Ok(())
    }

    /// `added_tokens_decoder`, whose flags count more, and the named tokens, which are special whatever they say.
    fn add_configured(&mut self, folder: &Folder, ids: &HashMap<String, usize>) -> Result<()> {
        let mut listed = Vec::new();
        for (id, entry) in folder.setting("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
            let Some(text) = entry.get("content").and_then(Value::as_str) else { continue };
            listed.push((id_of(id)?, text, flag(entry, "special"), flag(entry, "normalized")));
        }
        listed.sort_unstable_by_key(|l| l.0);
        for (_, text, special, normalized) in listed {
            self.add(text, ids, special, normalized);
        }
        for text in self.named.clone() {
            let normalized = self.added.get(&text).is_some_and(|a| a.normalized);
            self.add(&text, ids, true, normalized);
        }
        Ok(())
    }

    /// Adds a token: at its id in the vocabulary, or behind all others.
    fn add(&mut self, text: &str, ids: &HashMap<String, usize>, special: bool, normalized: bool) -> usize {
        let known = self.added.get(text).map(|a| a.id).or_else(|| ids.get(text).copied());
        let id = known.unwrap_or_else(|| self.next());
        self.end = self.end.max(id + 1);
        self.tokens.insert(id, text.into());
        self.added.insert(text.into(), Added { id, special, normalized });
        id
    }

    /// Where a token goes that has no id.
    fn next(&self) -> usize {
        self.end.max(self.base)
    }

    /// The largest id.
    pub fn last(&self) -> Option<usize> {
        self.tokens.last_key_value().map(|(id, _)| *id)
    }
}

/// An id that is written as a key.
pub(super) fn id_of(key: &str) -> Result<usize> {
    let id = key.trim().parse::<u64>().map_or(Value::from(key), Value::from);
    bounded(&id, "tokenizer_config.json: an id of `added_tokens_decoder`")
}

fn flag(entry: &Value, key: &str) -> bool {
    entry.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// A token as `tokenizer_config.json` writes it: its text, or an object of it.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn named(folder: &Folder) -> Vec<String> {
    const NAMES: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
    let mut all: Vec<&str> =
        NAMES.iter().filter_map(|n| folder.setting(&format!("{n}_token"))).filter_map(content).collect();
    for key in ["additional_special_tokens", "extra_special_tokens"] {
        match folder.setting(key) {
            Some(Value::Array(list)) => all.extend(list.iter().filter_map(content)),
            Some(Value::Object(list)) => all.extend(list.values().filter_map(content)),
            _ => {}
        }
    }
    let mut named: Vec<String> = Vec::new();
    for text in all {
        if !text.is_empty() && !named.iter().any(|n| n == text) {
            named.push(text.into());
        }
    }
    named
}
