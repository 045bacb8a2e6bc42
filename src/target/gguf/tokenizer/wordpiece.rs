//! BERT's WordPiece: pieces within a word lose their `##`, those that start one get U+2581.
use serde_json::{Value, json};

use super::added::Vocab;
use super::bpe;
use super::files::{Folder, MOST};
use super::pre;
use super::proto::Type;
use super::special::{Special, USUAL};
use super::tokens::Pairs;
use crate::core::{Error, Result};

/// Writes a WordPiece vocabulary; gives its number of tokens.
pub(super) fn put(folder: &Folder, pairs: &mut Pairs) -> Result<usize> {
    let slow;
    let tokenizer = match &folder.tokenizer {
        Some(tokenizer) => tokenizer,
        None => {
            slow = from_list(folder)?;
            &slow
        }
    };
    let vocab = Vocab::read(folder, tokenizer)?;
    let pre = folder.request.pre.unwrap_or_else(|| pre::of_word_pieces(&vocab));
    let mut tokens = bpe::tokens(folder, tokenizer, &vocab)?;
    for token in &mut tokens {
        if token.kind != Type::Control {
            token.text = match token.text.strip_prefix("##") {
                Some(rest) => rest.into(),
                None => format!("\u{2581}{}", token.text),
            };
        }
    }
    bpe::unique(folder, &mut tokens);
    put_types(folder, pairs);
    pairs.put_tokens("bert", pre, &tokens, false);
    Special::read(folder, &USUAL, Some(tokens.len()), false)?.put(pairs);
    Ok(tokens.len())
}

/// The number of sentences that the model's embedding tells apart.
pub(super) fn put_types(folder: &Folder, pairs: &mut Pairs) {
    let types = folder.hparam("type_vocab_size").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    pairs.put("tokenizer.ggml.token_type_count", types.unwrap_or(1));
}

/// `tokenizer.json` as transformers makes it of a list of tokens.
fn from_list(folder: &Folder) -> Result<Value> {
    let text = folder.text("vocab.txt")?;
    let text =
        text.ok_or_else(|| Error::failed("vocab.txt: not found; a WordPiece tokenizer is in it or in tokenizer.json"))?;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > MOST {
        return Err(Error::failed(format!("vocab.txt: has {} lines, expected up to {MOST}", lines.len())));
    }
    let special = ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"];
    let added = special.iter().filter_map(|s| lines.iter().position(|l| l == s).map(|id| (id, s)));
    let added: Vec<Value> = added.map(|(id, s)| json!({"id": id, "content": s, "special": true})).collect();
    let vocab: serde_json::Map<String, Value> =
        lines.iter().enumerate().map(|(id, line)| ((*line).to_owned(), id.into())).collect();
    Ok(json!({"model": {"type": "WordPiece", "vocab": vocab}, "added_tokens": added}))
}
