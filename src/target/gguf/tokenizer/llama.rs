//! SentencePiece as llama.cpp's `llama` tokenizer: `tokenizer.model`, or `tokenizer.json` where only that is left of one.
use serde_json::Value;

use super::added::{Vocab, id_of};
use super::bpe::{self, kind_of};
use super::files::{Folder, bounded};
use super::proto::{self, Model, Piece, Type};
use super::special::{Special, USUAL};
use super::tokens::{Pairs, Token, looks_special, with_blanks};
use crate::core::{Error, Result};

/// A model file of SentencePiece, by its name.
pub(super) fn model(folder: &Folder, name: &str) -> Result<Option<Model>> {
    let Some(bytes) = folder.read(name)? else { return Ok(None) };
    let model = proto::read(&bytes).map_err(|e| Error::failed(format!("{name}: is no SentencePiece model: {e}")))?;
    bounded(&model.pieces.len().into(), &format!("{name}: its number of pieces"))?;
    Ok(Some(model))
}

/// Pieces by id, and places without a token up to `size`; what lies beyond it is left out.
pub(super) fn pieces(folder: &Folder, pieces: &[Piece], size: usize) -> Vec<Token> {
    let mut tokens: Vec<Token> = (0..size).map(Token::hole).collect();
    for (token, piece) in tokens.iter_mut().zip(pieces) {
        // What its trainer was told to keep whole is a piece like any other to llama.cpp.
        let kind = if piece.kind == Type::UserDefined { Type::Normal } else { piece.kind };
        *token = Token::new(piece.text.as_str(), piece.score, kind);
    }
    if pieces.len() > size {
        folder.warn(format!("pieces from {size} on are left out: config.json's `vocab_size` is {size}"));
    }
    tokens
}

/// `added_tokens.json`, which says texts and ids.
pub(super) fn add_file(folder: &Folder, tokens: &mut [Token]) -> Result<()> {
    let Some(all) = folder.json("added_tokens.json")? else { return Ok(()) };
    for (text, id) in all.as_object().into_iter().flatten() {
        let id = bounded(id, "added_tokens.json: an id")?;
        set(folder, tokens, id, text, Type::UserDefined);
    }
    Ok(())
}

fn set(folder: &Folder, tokens: &mut [Token], id: usize, text: &str, kind: Type) {
    let most = tokens.len();
    match tokens.get_mut(id) {
        Some(token) => *token = Token::new(text, -1000.0, kind),
        None => folder.warn(format!("token {text:?} is left out: its id {id} is beyond the vocabulary's {most}")),
    }
}

/// Writes the vocabulary of `tokenizer.model`; gives its number of tokens. `phi` has the added tokens of Phi 3: of
/// `tokenizer.json` too, and with their blanks as they are.
pub(super) fn put(folder: &Folder, model: &Model, phi: bool, pairs: &mut Pairs) -> Result<usize> {
    let layers = folder.hparam("vocab_size_per_layer_input").filter(|_| !phi);
    let layers = layers.map(|v| bounded(v, "config.json: `vocab_size_per_layer_input`")).transpose()?;
    let size = layers.or(folder.vocab_size()?).filter(|n| *n > 0).unwrap_or(model.pieces.len());
    let mut tokens = pieces(folder, &model.pieces, size);
    add_file(folder, &mut tokens)?;
    for (id, entry) in folder.setting("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten() {
        let id = id_of(id)?;
        add(folder, &mut tokens, id, entry, phi);
    }
    if phi && let Some(tokenizer) = &folder.tokenizer {
        for entry in tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let id = bounded(entry.get("id").unwrap_or(&Value::Null), "tokenizer.json: an id of `added_tokens`")?;
            add(folder, &mut tokens, id, entry, phi);
        }
    }
    finish(folder, tokens, pairs)
}

fn add(folder: &Folder, tokens: &mut [Token], id: usize, entry: &Value, phi: bool) {
    let Some(text) = entry.get("content").and_then(Value::as_str) else { return };
    let special = entry.get("special") == Some(&true.into()) || !phi && looks_special(text);
    match special {
        true => set(folder, tokens, id, text, Type::Control),
        false if phi => set(folder, tokens, id, text, Type::UserDefined),
        false => set(folder, tokens, id, &with_blanks(text), Type::UserDefined),
    }
}

fn finish(folder: &Folder, mut tokens: Vec<Token>, pairs: &mut Pairs) -> Result<usize> {
    bpe::unique(folder, &mut tokens);
    pairs.put_tokens("llama", "default", &tokens, true);
    Special::read(folder, &USUAL, Some(tokens.len()), false)?.put(pairs);
    Ok(tokens.len())
}

/// Writes the vocabulary of a `tokenizer.json` that was SentencePiece's BPE; gives its number of tokens.
pub(super) fn put_json(folder: &Folder, tokenizer: &Value, pairs: &mut Pairs) -> Result<usize> {
    let vocab = Vocab::read(folder, tokenizer)?;
    let last = vocab.last().ok_or_else(|| Error::failed("tokenizer.json: its vocabulary is empty"))?;
    let size = folder.vocab_size()?.unwrap_or(0).max(last + 1);
    let mut tokens: Vec<Token> = (0..size).map(Token::hole).collect();
    for (id, text) in &vocab.tokens {
        let kind = match (vocab.named.contains(text), *id < vocab.base) {
            (true, false) => Type::Control,
            (true, true) => kind_of(text, Type::Control),
            (false, true) => kind_of(text, Type::Normal),
            (false, false) => Type::UserDefined,
        };
        if let Some(token) = tokens.get_mut(*id) {
            *token = Token::new(text.as_str(), -1000.0, kind);
        }
    }
    finish(folder, tokens, pairs)
}
