//! Unigram models as llama.cpp's `t5` tokenizer: T5's `spiece.model`, XLM-R's `sentencepiece.bpe.model`, or their
//! `tokenizer.json`.
use serde_json::Value;

use super::added::Vocab;
use super::files::{Folder, bounded};
use super::llama;
use super::proto::{Algorithm, Model, Type};
use super::special::{Special, USUAL};
use super::tokens::{Pairs, Token};
use super::wordpiece::put_types;
use super::{bpe, files};
use crate::core::{Error, Result};

/// Facts of a normalizer.
struct Normalizer {
    add_prefix: bool,
    remove_whitespace: bool,
    charsmap: Vec<u8>,
}

impl From<&Model> for Normalizer {
    fn from(model: &Model) -> Self {
        Self {
            add_prefix: model.add_dummy_prefix,
            remove_whitespace: model.remove_extra_whitespaces,
            charsmap: model.charsmap.clone(),
        }
    }
}

/// Writes T5's vocabulary; gives its number of tokens.
pub(super) fn put_t5(folder: &Folder, model: &Model, pairs: &mut Pairs) -> Result<usize> {
    unigram(model)?;
    let size = folder.vocab_size()?.unwrap_or(model.pieces.len());
    let mut tokens = llama::pieces(folder, &model.pieces, size);
    llama::add_file(folder, &mut tokens)?;
    finish(folder, tokens, &model.into(), false, pairs)
}

/// Writes the vocabulary of XLM-R's model file: Hugging Face's ids have a `<pad>` in second place, and one piece less
/// at the end.
pub(super) fn put_xlmr(folder: &Folder, model: &Model, pairs: &mut Pairs) -> Result<usize> {
    unigram(model)?;
    let size = folder.vocab_size()?.unwrap_or(0).max(model.pieces.len());
    let tokens = llama::pieces(folder, &model.pieces, size);
    let [_, _, _, rest @ .., _] = tokens.as_slice() else {
        return Err(Error::failed("sentencepiece.bpe.model: has fewer than four pieces"));
    };
    let first = [("<s>", Type::Control), ("<pad>", Type::Control), ("</s>", Type::Control), ("<unk>", Type::Unknown)];
    let mut aligned: Vec<Token> = first.into_iter().map(|(text, kind)| Token::new(text, 0.0, kind)).collect();
    aligned.extend_from_slice(rest);
    if folder.request.architecture == "nomic-bert-moe" {
        // The model file knows nothing of it.
        match aligned.get_mut(250_001) {
            Some(token) => *token = Token::new("<mask>", 0.0, Type::Control),
            None => folder.warn("the vocabulary has no place for <mask>, which is left out"),
        }
    }
    finish(folder, aligned, &model.into(), true, pairs)
}

fn unigram(model: &Model) -> Result<()> {
    if model.algorithm == Algorithm::Unigram {
        return Ok(());
    }
    let found = model.algorithm;
    Err(Error::failed(format!("the SentencePiece model is of kind {found:?}, expected Unigram for this architecture")))
}

/// Writes the vocabulary of a `tokenizer.json`; gives its number of tokens.
pub(super) fn put_json(folder: &Folder, tokenizer: &Value, typed: bool, pairs: &mut Pairs) -> Result<usize> {
    let vocab = Vocab::read(folder, tokenizer)?;
    let model = tokenizer.get("model").unwrap_or(&Value::Null);
    let scores = model.get("vocab").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let unknown = folder.setting("unk_token").and_then(|t| t.as_str().or_else(|| t.get("content")?.as_str()));
    let unknown = unknown.and_then(|t| vocab.added.get(t)).map(|a| a.id);
    let stated =
        model.get("unk_id").filter(|v| !v.is_null()).map(|v| bounded(v, "tokenizer.json: `unk_id`")).transpose()?;
    let unknown = unknown.or(stated).unwrap_or(3);
    let size = folder.vocab_size()?.unwrap_or(0).max(vocab.base);
    let mut tokens: Vec<Token> = (0..size).map(Token::hole).collect();
    for (id, (entry, token)) in scores.iter().zip(&mut tokens).enumerate() {
        let Some(text) = vocab.tokens.get(&id) else { continue };
        let score = entry.get(1).and_then(Value::as_f64);
        let score = score.ok_or_else(|| {
            Error::failed(format!("tokenizer.json: token {id} of `vocab` is not a pair of text and score"))
        })?;
        let kind = match vocab.added.get(text) {
            _ if id == unknown => Type::Unknown,
            Some(_) if vocab.named.contains(text) => Type::Control,
            Some(_) => Type::UserDefined,
            None => Type::Normal,
        };
        *token = Token::new(text.as_str(), score as f32, kind);
    }
    let normalizer = Normalizer {
        add_prefix: add_prefix(folder, tokenizer),
        remove_whitespace: folder.setting("clean_up_tokenization_spaces").and_then(Value::as_bool).unwrap_or(false),
        charsmap: match charsmap(tokenizer.get("normalizer").unwrap_or(&Value::Null)) {
            Some(text) => {
                base64(text).ok_or_else(|| Error::failed("tokenizer.json: `precompiled_charsmap` is not base64"))?
            }
            None => Vec::new(),
        },
    };
    finish(folder, tokens, &normalizer, typed, pairs)
}

/// Whether a blank comes before the first word.
fn add_prefix(folder: &Folder, tokenizer: &Value) -> bool {
    if let Some(add) = folder.setting("add_prefix_space").and_then(Value::as_bool) {
        return add;
    }
    let step = |step: &Value| {
        let scheme = step.get("prepend_scheme").and_then(Value::as_str).map(|s| s != "never");
        scheme.or_else(|| step.get("add_prefix_space").and_then(Value::as_bool))
    };
    let pre = tokenizer.get("pre_tokenizer").unwrap_or(&Value::Null);
    let steps = pre.get("pretokenizers").and_then(Value::as_array);
    step(pre).or_else(|| steps.into_iter().flatten().find_map(step)).unwrap_or(true)
}

fn charsmap(normalizer: &Value) -> Option<&str> {
    let of = |n: &Value| n.get("precompiled_charsmap").is_some();
    let steps = normalizer.get("normalizers").and_then(Value::as_array);
    let found = std::iter::once(normalizer).chain(steps.into_iter().flatten()).find(|n| of(n))?;
    found.get("precompiled_charsmap")?.as_str()
}

/// The bytes that base64 stands for.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0u32, 0);
    for c in text.bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xfff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

fn finish(folder: &Folder, mut tokens: Vec<Token>, n: &Normalizer, typed: bool, pairs: &mut Pairs) -> Result<usize> {
    debug_assert!(tokens.len() <= files::MOST + 1);
    bpe::unique(folder, &mut tokens);
    pairs.put_tokens("t5", "default", &tokens, true);
    pairs.put("tokenizer.ggml.add_space_prefix", n.add_prefix);
    if typed {
        put_types(folder, pairs);
    }
    pairs.put("tokenizer.ggml.remove_extra_whitespaces", n.remove_whitespace);
    if !n.charsmap.is_empty() {
        pairs.put("tokenizer.ggml.precompiled_charsmap", n.charsmap.as_slice());
    }
    Special::read(folder, &USUAL, Some(tokens.len()), false)?.put(pairs);
    Ok(tokens.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_all_lengths() {
        fn check(text: &str, expected: Option<&[u8]>) {
            assert_eq!(base64(text).as_deref(), expected, "{text}");
        }
        check("", Some(b""));
        check("TQ==", Some(b"M"));
        check("TWE=", Some(b"Ma"));
        check("TWFu", Some(b"Man"));
        check("//79/A==", Some(&[0xff, 0xfe, 0xfd, 0xfc]));
        check("TW u", None);
    }
}
