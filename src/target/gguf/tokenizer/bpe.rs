//! Byte-level BPE: `tokenizer.json`, or `vocab.json` with `merges.txt`.
use std::collections::HashMap;

use serde_json::{Value, json};

use super::added::Vocab;
use super::decode::{byte, decode};
use super::files::{Folder, MOST};
use super::pre;
use super::proto::Type;
use super::special::{Special, USUAL};
use super::tokens::{Pairs, Token, looks_special, with_blanks};
use crate::core::{Error, Result};

/// Writes a BPE vocabulary; gives its number of tokens.
pub(super) fn put(folder: &Folder, pairs: &mut Pairs) -> Result<usize> {
    let slow;
    let tokenizer = match &folder.tokenizer {
        Some(tokenizer) => tokenizer,
        None => {
            slow = from_two_files(folder)?;
            &slow
        }
    };
    let vocab = Vocab::read(folder, tokenizer)?;
    let tokens = tokens(folder, tokenizer, &vocab)?;
    let pre = match folder.request.pre {
        Some(pre) => pre,
        None => pre::recognize(tokenizer, folder.request.architecture, &vocab)?,
    };
    pairs.put_tokens("gpt2", pre, &tokens, false);
    Special::read(folder, &USUAL, None, true)?.put(pairs);
    Ok(tokens.len())
}

/// The tokens as they are found in text, from the first id to the last that the model's embedding has.
pub(super) fn tokens(folder: &Folder, tokenizer: &Value, vocab: &Vocab) -> Result<Vec<Token>> {
    let last = vocab.last().ok_or_else(|| Error::failed("tokenizer.json: its vocabulary is empty"))?;
    let size = folder.vocab_size()?.unwrap_or(last + 1);
    let decoder = tokenizer.get("decoder").filter(|d| !d.is_null());
    let mut tokens = Vec::with_capacity(size.min(MOST));
    for id in 0..size {
        let Some(text) = vocab.tokens.get(&id) else {
            tokens.push(Token { score: 0.0, ..Token::hole(id) });
            continue;
        };
        let token = match vocab.added.get(text) {
            None => Token::new(text.as_str(), 0.0, Type::Normal),
            Some(added) => {
                let text = if added.normalized { text.clone() } else { decode(text, decoder) };
                if added.special || looks_special(&text) {
                    Token::new(text, 0.0, Type::Control)
                } else {
                    Token::new(with_blanks(&text), 0.0, Type::UserDefined)
                }
            }
        };
        tokens.push(token);
    }
    within(folder, vocab, size)?;
    unique(folder, &mut tokens);
    Ok(tokens)
}

/// Refuses tokens that the embedding has no row for; those that only `tokenizer_config.json` names are left out.
fn within(folder: &Folder, vocab: &Vocab, size: usize) -> Result<()> {
    for (id, text) in vocab.tokens.range(size..) {
        let named = vocab.added.get(text).is_some_and(|a| a.id == *id) && vocab.named.contains(text);
        if named && *id >= vocab.base {
            folder.warn(format!("token {text:?} has no id below `vocab_size` ({size}), and is left out"));
        } else {
            return Err(Error::failed(format!(
                "tokenizer.json: token {text:?} has id {id}, but config.json's `vocab_size` is {size}"
            )));
        }
    }
    Ok(())
}

/// llama.cpp stops at a text that two ids have: the later one becomes a place without a token.
pub(super) fn unique(folder: &Folder, tokens: &mut [Token]) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter_mut().enumerate() {
        if let Some(first) = seen.get(&token.text) {
            folder.warn(format!("token {id} has the text of token {first}, {:?}, and is made unused", token.text));
            *token = Token { score: token.score, ..Token::hole(id) };
        }
        seen.entry(token.text.clone()).or_insert(id);
    }
}

/// `tokenizer.json` as transformers makes it of the two files of older models.
fn from_two_files(folder: &Folder) -> Result<Value> {
    let missing =
        || Error::failed("vocab.json: not found; a BPE tokenizer is in tokenizer.json, or in it and merges.txt");
    let vocab = folder.json("vocab.json")?.ok_or_else(missing)?;
    let mut added: Vec<Value> = Vec::new();
    if let Some(Value::Object(all)) = folder.json("added_tokens.json")? {
        added = all.into_iter().map(|(text, id)| json!({"id": id, "content": text, "special": false})).collect();
    }
    let class = folder.setting("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let qwen = class.starts_with("Qwen2") || class.is_empty() && folder.request.architecture.starts_with("qwen");
    // Its end of text is special without anybody saying so.
    if let Some(id) = vocab.get("<|endoftext|>") {
        added.push(json!({"id": id, "content": "<|endoftext|>", "special": true}));
    }
    let bytes = json!({"type": "ByteLevel", "use_regex": !qwen});
    let pre_tokenizer = if qwen {
        let regex = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, bytes]})
    } else {
        bytes
    };
    Ok(json!({
        "model": {"type": "BPE", "vocab": vocab}, "added_tokens": added,
        "pre_tokenizer": pre_tokenizer, "decoder": {"type": "ByteLevel"},
    }))
}

/// Whether `tokenizer.json` is SentencePiece's BPE: bytes for what has no piece, and a decoder of several steps.
pub(super) fn falls_back_to_bytes(model: &Value, tokenizer: &Value) -> bool {
    let decoder = tokenizer.get("decoder").and_then(|d| d.get("type")).and_then(Value::as_str);
    model.get("type").and_then(Value::as_str).unwrap_or("BPE") == "BPE"
        && model.get("byte_fallback") == Some(&true.into())
        && decoder == Some("Sequence")
}

/// The kind of a piece that may be a byte.
pub(super) fn kind_of(text: &str, otherwise: Type) -> Type {
    if byte(text).is_some() { Type::Byte } else { otherwise }
}
