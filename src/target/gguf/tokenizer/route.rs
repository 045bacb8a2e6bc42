//! Which tokenizer of a folder an architecture has, as convert_hf_to_gguf decides it.
use serde_json::Value;

use super::files::Folder;
use super::proto::Algorithm;
use super::special::Special;
use super::tokens::Pairs;
use super::{Request, Vocabulary, Wanted, bpe, llama, unigram, wordpiece};
use crate::core::{Error, Result};

/// Files that a tokenizer may be in, for the error that there is none.
pub const FILES: [&str; 6] =
    ["tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt"];

pub(super) fn vocabulary(request: &Request) -> Result<Option<Vocabulary>> {
    let folder = Folder::open(request)?;
    let mut any = folder.tokenizer.is_some();
    for name in FILES.iter().skip(1) {
        any = any || folder.read(name)?.is_some();
    }
    if !any {
        if folder.read("tekken.json")?.is_some() {
            let what = "tekken.json: Mistral's own form of a tokenizer is not read; put the tokenizer.json of the same \
                        model beside it";
            return Err(Error::failed(what));
        }
        return Ok(None);
    }
    let mut pairs = Pairs::default();
    let tokens = match request.family {
        Wanted::Auto => by_architecture(&folder, &mut pairs)?,
        Wanted::Bpe => bpe::put(&folder, &mut pairs)?,
        Wanted::WordPiece => wordpiece::put(&folder, &mut pairs)?,
        Wanted::SentencePiece => sentence_piece(&folder, false, &mut pairs)?,
        Wanted::Unigram => t5(&folder, &mut pairs)?,
    };
    Ok(Some(Vocabulary { pairs: pairs.0, tokens, warnings: folder.warnings.into_inner() }))
}

/// As the architecture has it.
fn by_architecture(folder: &Folder, pairs: &mut Pairs) -> Result<usize> {
    match folder.request.architecture {
        "llama" | "mistral3" | "mistral4" => like_llama(folder, pairs),
        "qwen2" | "qwen3" => sentence_piece_or_bpe(folder, pairs).map(|(n, _)| n),
        // Without their model file these are BPE whose blanks are U+2581, and no blank comes first.
        "gemma" | "gemma2" | "gemma3" | "gemma-embedding" => {
            let (tokens, pieces) = sentence_piece_or_bpe(folder, pairs)?;
            if folder.request.architecture == "gemma" {
                infill(folder, 107, &["prefix", "suffix", "middle", "fsep", "eot"])?.without_template().put(pairs);
            }
            if pieces {
                pairs.put("tokenizer.ggml.add_space_prefix", false);
            }
            Ok(tokens)
        }
        "phi3" | "phimoe" => match folder.setting("tokenizer_class").and_then(Value::as_str) {
            Some("GPT2Tokenizer") => bpe::put(folder, pairs),
            _ => sentence_piece(folder, true, pairs),
        },
        "phi2" => {
            pairs.put("tokenizer.ggml.add_bos_token", false);
            bpe::put(folder, pairs)
        }
        "modern-bert" => {
            for kind in ["bos", "eos", "sep"] {
                pairs.put(&format!("tokenizer.ggml.add_{kind}_token"), true);
            }
            bpe::put(folder, pairs)
        }
        "eurobert" => {
            pairs.put("tokenizer.ggml.add_bos_token", false);
            bpe::put(folder, pairs)
        }
        "bert" | "nomic-bert" | "nomic-bert-moe" | "jina-bert-v2" | "jina-bert-v3" | "neo-bert" => {
            like_bert(folder, pairs)
        }
        "t5" | "t5encoder" => t5(folder, pairs),
        _ => by_files(folder, pairs),
    }
}

/// As the folder has it: BPE unless nothing of the kind is there.
fn by_files(folder: &Folder, pairs: &mut Pairs) -> Result<usize> {
    match kind(folder) {
        Some("WordPiece") => wordpiece::put(folder, pairs),
        Some("Unigram") => t5(folder, pairs),
        None if folder.read("vocab.json")?.is_none() => match folder.read("tokenizer.model")? {
            Some(_) => sentence_piece(folder, false, pairs),
            None => t5(folder, pairs),
        },
        _ => bpe::put(folder, pairs),
    }
}

/// The kind of model of `tokenizer.json`, if there is such a file; very old ones do not say it.
fn kind<'f>(folder: &'f Folder) -> Option<&'f str> {
    folder.tokenizer.as_ref()?;
    let model = folder.model().unwrap_or(&Value::Null);
    Some(model.get("type").and_then(Value::as_str).unwrap_or("BPE"))
}

/// `tokenizer.model`, or what is left of it in `tokenizer.json`.
fn sentence_piece(folder: &Folder, phi: bool, pairs: &mut Pairs) -> Result<usize> {
    if let Some(model) = llama::model(folder, "tokenizer.model")? {
        return llama::put(folder, &model, phi, pairs);
    }
    match (&folder.tokenizer, folder.model()) {
        (Some(tokenizer), Some(model)) if bpe::falls_back_to_bytes(model, tokenizer) => {
            llama::put_json(folder, tokenizer, pairs)
        }
        _ => bpe::put(folder, pairs),
    }
}

/// `tokenizer.model` if there is one (and whether), else BPE.
fn sentence_piece_or_bpe(folder: &Folder, pairs: &mut Pairs) -> Result<(usize, bool)> {
    match llama::model(folder, "tokenizer.model")? {
        Some(model) => llama::put(folder, &model, false, pairs).map(|n| (n, true)),
        None => bpe::put(folder, pairs).map(|n| (n, false)),
    }
}

fn like_llama(folder: &Folder, pairs: &mut Pairs) -> Result<usize> {
    if let Some(add) = folder.setting("add_prefix_space").and_then(Value::as_bool) {
        pairs.put("tokenizer.ggml.add_space_prefix", add);
    }
    let tokens = sentence_piece(folder, false, pairs)?;
    match folder.vocab_size()? {
        // Code Llama.
        Some(32_016) => infill(folder, 32_010, &["prefix", "suffix", "middle", "eot"])?.put(pairs),
        // Granite's small models.
        Some(49_152) => pairs.put("tokenizer.ggml.add_bos_token", false),
        _ => {}
    }
    Ok(tokens)
}

/// The tokens of models that fill in code; only the end of the text has a key by now.
fn infill<'f>(folder: &'f Folder<'f>, eot: u32, kinds: &[&'static str]) -> Result<Special<'f>> {
    let mut special = Special::read(folder, kinds, None, false)?;
    special.set("eot", &eot.into());
    Ok(special)
}

fn like_bert(folder: &Folder, pairs: &mut Pairs) -> Result<usize> {
    if let Some(model) = llama::model(folder, "sentencepiece.bpe.model")? {
        return unigram::put_xlmr(folder, &model, pairs);
    }
    match (&folder.tokenizer, kind(folder)) {
        (Some(tokenizer), Some("Unigram")) => unigram::put_json(folder, tokenizer, true, pairs),
        (Some(_), Some("WordPiece")) => wordpiece::put(folder, pairs),
        (tokenizer, _) if tokenizer.is_some() || folder.read("vocab.txt")?.is_none() => {
            let tokens = bpe::put(folder, pairs)?;
            wordpiece::put_types(folder, pairs);
            Ok(tokens)
        }
        _ => wordpiece::put(folder, pairs),
    }
}

fn t5(folder: &Folder, pairs: &mut Pairs) -> Result<usize> {
    for name in ["tokenizer.model", "spiece.model"] {
        if let Some(model) = llama::model(folder, name)? {
            return match model.algorithm {
                Algorithm::Bpe => llama::put(folder, &model, false, pairs),
                _ => unigram::put_t5(folder, &model, pairs),
            };
        }
    }
    match (&folder.tokenizer, kind(folder)) {
        (Some(tokenizer), Some("Unigram")) => unigram::put_json(folder, tokenizer, false, pairs),
        _ => Err(Error::failed(
            "spiece.model: not found; a Unigram tokenizer is in it, in tokenizer.model, or in a tokenizer.json of that kind",
        )),
    }
}
