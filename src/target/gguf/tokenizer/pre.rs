//! llama.cpp's name of a pre-tokenizer (`tokenizer.ggml.pre`), told from what `tokenizer.json` says of it.
//!
//! convert_hf_to_gguf encodes a text and looks for the hash of the ids, so it knows only vocabularies that it has been
//! told of. Here the pre-tokenizer itself is read: its steps in one spelling, and a table of those that llama.cpp has
//! written out. Where several names mean the same steps, the architecture and the vocabulary tell which.
mod table;

use std::collections::HashSet;

use serde_json::Value;

use super::added::Vocab;
use crate::core::{Error, Result, name};

pub use table::NAMES;
use table::{Hint, PATTERNS};

/// Refuses a name that llama.cpp does not know: it would not load the file.
pub(super) fn check(name: &str) -> Result<()> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    let near = name::nearest(name, NAMES).map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
    Err(Error::usage(format!(
        "--pre {name}: llama.cpp knows no such pre-tokenizer{near}; it knows {}",
        NAMES.join(", ")
    )))
}

/// The name for a BPE tokenizer.
pub(super) fn recognize(tokenizer: &Value, architecture: &str, vocab: &Vocab) -> Result<&'static str> {
    let steps = steps(tokenizer);
    let named = PATTERNS.iter().find(|p| p.steps.iter().eq(&steps)).and_then(|p| {
        let texts: HashSet<&str> = vocab.tokens.values().map(String::as_str).collect();
        let ignores = tokenizer.get("model").and_then(|m| m.get("ignore_merges")) == Some(&true.into());
        p.names.iter().find(|(hint, _)| match hint {
            Hint::Architecture(all) => all.contains(&architecture),
            Hint::Token(token) => texts.contains(token),
            Hint::IgnoresMerges => ignores,
            Hint::Otherwise => true,
        })
    });
    named.map(|(_, name)| *name).ok_or_else(|| {
        Error::failed(format!(
            "tokenizer.json: its pre-tokenizer is none that llama.cpp is known to have: {}; say which is meant with \
             --pre NAME: {}",
            if steps.is_empty() { "none at all".into() } else { steps.join(", ") },
            NAMES.join(", ")
        ))
    })
}

/// The steps of a pre-tokenizer, each in one spelling.
fn steps(tokenizer: &Value) -> Vec<String> {
    let mut all = Vec::new();
    // Blanks are made into U+2581 by a normalizer where SentencePiece's way is told as BPE.
    if replaces_blanks(tokenizer.get("normalizer").unwrap_or(&Value::Null)) {
        all.push("blanks".into());
    }
    collect(tokenizer.get("pre_tokenizer").unwrap_or(&Value::Null), &mut all);
    all
}

fn replaces_blanks(normalizer: &Value) -> bool {
    match normalizer.get("type").and_then(Value::as_str) {
        Some("Sequence") => {
            normalizer.get("normalizers").and_then(Value::as_array).into_iter().flatten().any(replaces_blanks)
        }
        Some("Replace") => {
            let pattern = normalizer.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str);
            pattern == Some(" ") && normalizer.get("content").and_then(Value::as_str) == Some("\u{2581}")
        }
        _ => false,
    }
}

fn collect(step: &Value, all: &mut Vec<String>) {
    let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str, default| step.get(key).and_then(Value::as_bool).unwrap_or(default);
    let said = match text("type") {
        "" => return,
        "Sequence" => {
            for step in step.get("pretokenizers").and_then(Value::as_array).into_iter().flatten() {
                collect(step, all);
            }
            return;
        }
        "ByteLevel" if flag("use_regex", true) => "gpt-2 bytes".into(),
        "ByteLevel" => "bytes".into(),
        "Digits" if flag("individual_digits", false) => "each digit".into(),
        "Digits" => "digits".into(),
        "Punctuation" => format!("punctuation {}", text("behavior")),
        "Split" => {
            let pattern = step.get("pattern");
            let of = |key: &str| pattern.and_then(|p| p.get(key)).and_then(Value::as_str);
            let behavior = match (text("behavior"), flag("invert", false)) {
                // What is matched is kept, and all that is not is between two matches: the same pieces.
                ("Isolated", _) | ("Removed", true) => String::new(),
                (other, invert) => format!("{other}{} ", if invert { " inverted" } else { "" }),
            };
            match (of("Regex"), of("String")) {
                (Some(regex), _) => format!("split {behavior}{}", spelled(regex)),
                (_, string) => format!("split {behavior}text {:?}", string.unwrap_or_default()),
            }
        }
        other => other.into(),
    };
    all.push(said);
}

/// A pattern in the spelling of the table: escapes for ends of lines, one form for English contractions and for a
/// single digit, greedy where it is possessive (which splits the same texts).
fn spelled(regex: &str) -> String {
    const SAME: [(&str, &str); 10] = [
        ("\r", "\\r"),
        ("\n", "\\n"),
        ("\t", "\\t"),
        ("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
        ("'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
        ("'(?:[sdmt]|ll|ve|re)", "'s|'t|'re|'ve|'m|'ll|'d"),
        ("\\p{N}{1}|", "\\p{N}|"),
        ("]?+", "]?"),
        ("]++", "]+"),
        ("\\p{L}++", "\\p{L}+"),
    ];
    SAME.iter().fold(regex.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The name for a WordPiece tokenizer. llama.cpp has one way for them all; these are the two vocabularies that
/// convert_hf_to_gguf knows.
pub(super) fn of_word_pieces(vocab: &Vocab) -> &'static str {
    let at = |id: usize, text: &str| vocab.tokens.get(&id).is_some_and(|t| t == text);
    match at(101, "[CLS]") {
        true if at(1996, "the") => "jina-v2-en",
        true if at(4638, "的") => "bert-bge-large",
        _ => "default",
    }
}

#[cfg(test)]
mod tests;
