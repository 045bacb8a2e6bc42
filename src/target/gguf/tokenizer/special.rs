//! Special tokens: their ids, which of them a text gets, the merges, the chat template.
//!
//! As gguf-py's `SpecialVocab`: the post-processor of `tokenizer.json` counts more than `tokenizer_config.json`, whose
//! names of tokens count more than the ids of `config.json`.
use serde_json::{Map, Value};

use super::files::Folder;
use super::tokens::Pairs;
use super::{recover, template};
use crate::core::{Error, Result};
use crate::format::gguf;

/// A kind of special token, the key of its id, and the key that says whether a text gets one.
const KINDS: [(&str, &str, Option<&str>); 8] = [
    ("bos", "tokenizer.ggml.bos_token_id", Some("tokenizer.ggml.add_bos_token")),
    ("eos", "tokenizer.ggml.eos_token_id", Some("tokenizer.ggml.add_eos_token")),
    ("unk", "tokenizer.ggml.unknown_token_id", None),
    // The format's own spelling.
    ("sep", "tokenizer.ggml.seperator_token_id", Some("tokenizer.ggml.add_sep_token")),
    ("pad", "tokenizer.ggml.padding_token_id", None),
    ("mask", "tokenizer.ggml.mask_token_id", None),
    ("eot", "tokenizer.ggml.eot_token_id", None),
    ("eom", "tokenizer.ggml.eom_token_id", None),
];

/// What is said of special tokens by default.
pub(super) const USUAL: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/// What a folder says.
pub(super) struct Special<'f> {
    folder: &'f Folder<'f>,
    kinds: Vec<&'static str>,
    /// Ids must be below it.
    tokens: Option<usize>,
    ids: Vec<(&'static str, u32)>,
    adds: Vec<(&'static str, bool)>,
    merges: Option<gguf::Value>,
    template: Option<Value>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
}

impl<'f> Special<'f> {
    /// Reads what the folder says; with its merges where `merges`.
    pub fn read(folder: &'f Folder<'f>, kinds: &[&'static str], tokens: Option<usize>, merges: bool) -> Result<Self> {
        let mut special = Self {
            folder,
            kinds: kinds.to_vec(),
            tokens,
            ids: Vec::new(),
            adds: Vec::new(),
            merges: None,
            template: template::read(folder)?,
            lowercase: None,
            strip_accents: None,
        };
        let settings = folder.settings.as_ref().and_then(Value::as_object).filter(|s| !s.is_empty());
        let mut settings: Option<Map<String, Value>> = settings.cloned();
        let mut added = &Vec::new();
        if let Some(tokenizer) = &folder.tokenizer {
            if merges {
                special.merges =
                    tokenizer.get("model").and_then(|m| m.get("merges")).map(json_merges).transpose()?.flatten();
            }
            if let Some(normalizer) = tokenizer.get("normalizer") {
                special.normalizer(normalizer);
            }
            if let Some(Value::Array(all)) = tokenizer.get("added_tokens") {
                added = all;
            }
            special.processors(tokenizer, &mut settings);
        }
        if let Some(settings) = &settings {
            special.settings(settings, added);
        }
        special.config();
        if let (Some(tokenizer), None) = (&folder.tokenizer, &folder.settings) {
            special.recover(tokenizer);
        }
        if merges && special.merges.is_none() {
            special.merges = folder.text("merges.txt")?.and_then(|text| text_merges(folder, &text));
        }
        if merges && special.merges.is_none() {
            // llama.cpp loads no BPE without the key; an empty list is a tokenizer of single bytes.
            folder.warn("the tokenizer has no merges: every byte is a token of its own");
            special.merges = Some(gguf::Value::strings([""; 0]));
        }
        Ok(special)
    }

    /// Says an id, unless one is known or it is none.
    pub fn set(&mut self, kind: &'static str, id: &Value) {
        let Some(number) = id.as_i64() else { return };
        let within = |id: &u32| self.tokens.is_none_or(|n| (*id as usize) < n);
        match u32::try_from(number).ok().filter(within) {
            Some(id) => {
                if !self.ids.iter().any(|(k, _)| *k == kind) {
                    self.ids.push((kind, id));
                }
            }
            None => self.folder.warn(format!("the {kind} token's id {number} is no token's, and is left out")),
        }
    }

    /// Forgets the chat template.
    pub fn without_template(mut self) -> Self {
        self.template = None;
        self
    }

    /// Writes the keys.
    pub fn put(self, pairs: &mut Pairs) {
        if let Some(merges) = self.merges {
            pairs.put("tokenizer.ggml.merges", merges);
        }
        for (kind, id) in self.ids {
            if let Some((_, key, _)) = KINDS.iter().find(|k| k.0 == kind) {
                pairs.put(key, id);
            }
        }
        for (kind, add) in self.adds {
            if let Some((_, _, Some(key))) = KINDS.iter().find(|k| k.0 == kind) {
                pairs.put(key, add);
            }
        }
        if let Some(template) = &self.template {
            template::put(template, pairs);
        }
        if let Some(lowercase) = self.lowercase {
            pairs.put("tokenizer.ggml.normalizer.lowercase", lowercase);
        }
        if let Some(strip) = self.strip_accents {
            pairs.put("tokenizer.ggml.normalizer.strip_accents", strip);
        }
    }

    fn add(&mut self, kind: &'static str, value: bool) {
        match self.adds.iter_mut().find(|(k, _)| *k == kind) {
            Some(old) => old.1 = value,
            None => self.adds.push((kind, value)),
        }
    }

    fn normalizer(&mut self, normalizer: &Value) {
        let flag = |key: &str| normalizer.get(key).and_then(Value::as_bool);
        match normalizer.get("type").and_then(Value::as_str) {
            Some("Lowercase") => self.lowercase = Some(true),
            Some("StripAccents") => self.strip_accents = Some(true),
            Some("BertNormalizer") => {
                // A null says nothing, also of what was said before it.
                if normalizer.get("lowercase").is_some() {
                    self.lowercase = flag("lowercase");
                }
                if normalizer.get("strip_accents").is_some() {
                    self.strip_accents = flag("strip_accents");
                }
            }
            Some("Sequence") => {
                for step in normalizer.get("normalizers").and_then(Value::as_array).into_iter().flatten() {
                    self.normalizer(step);
                }
            }
            _ => {}
        }
    }

    /// What the post-processor puts around a text.
    fn processors(&mut self, tokenizer: &Value, settings: &mut Option<Map<String, Value>>) {
        let mut around = Around::of(settings);
        let Some(processor) = tokenizer.get("post_processor").filter(|p| !p.is_null()) else { return };
        let one = std::slice::from_ref(processor);
        for step in processor.get("processors").and_then(Value::as_array).map_or(one, Vec::as_slice) {
            match step.get("type").and_then(Value::as_str) {
                Some("ByteLevel") => {
                    for kind in ["bos", "eos"] {
                        if !self.adds.iter().any(|(k, _)| *k == kind) {
                            self.adds.push((kind, false));
                        }
                    }
                }
                Some("RobertaProcessing") => {
                    for kind in ["bos", "eos", "sep"] {
                        self.add(kind, true);
                    }
                    if let Some(settings) = settings {
                        let first = |key: &str| step.get(key).and_then(|v| v.get(0)).cloned();
                        if !truthy(&around.cls) {
                            around.cls = first("cls").unwrap_or_else(|| around.bos.clone());
                            settings.insert("cls_token".into(), around.cls.clone());
                        }
                        if !truthy(&around.sep) {
                            around.sep = first("sep").unwrap_or_else(|| around.eos.clone());
                            settings.insert("sep_token".into(), around.sep.clone());
                        }
                    }
                }
                Some("TemplateProcessing") => self.template_processing(step, &mut around, settings),
                _ => {}
            }
        }
    }

    /// A template of a text, and one of two.
    fn template_processing(&mut self, step: &Value, around: &mut Around, settings: &mut Option<Map<String, Value>>) {
        let list = |key: &str| step.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (single, pair) = (list("single"), list("pair"));
        let (mut first, mut last) = (None, None);
        if let [start, .., end] = single {
            first = special_id(start);
            if let Some(token) = first {
                let token = Value::from(token);
                match settings {
                    None => around.bos = token.clone(),
                    Some(settings) if token != around.bos && token != around.cls => {
                        for (known, key) in [(&mut around.bos, "bos_token"), (&mut around.cls, "cls_token")] {
                            if !truthy(known) {
                                *known = token.clone();
                                settings.insert(key.into(), token.clone());
                            }
                        }
                    }
                    Some(_) => {}
                }
                self.add("bos", token == around.bos || token == around.cls);
            }
            last = special_id(end);
            if let Some(token) = last {
                let token = Value::from(token);
                match settings {
                    None => around.eos = token.clone(),
                    Some(settings) if token != around.eos => {
                        // What ended a text until now ends a turn.
                        if let Some(kind) = ["eot", "eom"].into_iter().find(|k| !self.kinds.contains(k)) {
                            self.kinds.push(kind);
                            settings.insert(format!("{kind}_token"), around.eos.clone());
                        }
                        around.eos = token.clone();
                        settings.insert("eos_token".into(), token.clone());
                    }
                    Some(_) => {}
                }
                self.add("eos", token == around.eos);
            }
        }
        let mut pair = pair;
        if first.is_some() && pair.first().and_then(special_id) == first {
            pair = pair.get(1..).unwrap_or_default();
        }
        if last.is_some() && pair.last().and_then(special_id) == last {
            pair = pair.split_last().map_or(pair, |(_, rest)| rest);
        }
        let sequence =
            |entry: &Value| entry.get("Sequence").and_then(|s| s.get("id")).and_then(Value::as_str).map(str::to_owned);
        let [a, middle @ .., b] = pair else { return };
        if sequence(a).as_deref() != Some("A") || sequence(b).as_deref() != Some("B") || middle.is_empty() {
            return;
        }
        let separates = |entry: Option<&Value>| {
            let token = entry.and_then(special_id).map(Value::from);
            token.is_some_and(|token| token == around.sep || token == around.eos)
        };
        let add = separates(middle.first()) && last.is_none() || middle.len() == 2 && separates(middle.get(1));
        self.add("sep", add);
        if add
            && !truthy(&around.sep)
            && let Some(settings) = settings
        {
            settings.insert("sep_token".into(), around.eos.clone());
        }
    }

    /// What `tokenizer_config.json` says, by now with what the post-processor has it mean.
    fn settings(&mut self, settings: &Map<String, Value>, added: &[Value]) {
        for kind in self.kinds.clone() {
            if let Some(Value::Bool(add)) = settings.get(&format!("add_{kind}_token"))
                && !self.adds.iter().any(|(k, _)| *k == kind)
            {
                self.adds.push((kind, *add));
            }
            let entry = settings.get(&format!("{kind}_token"));
            let Some(content) = entry.and_then(|e| e.as_str().or_else(|| e.get("content")?.as_str())) else { continue };
            let token = added.iter().find(|a| a.get("content").and_then(Value::as_str) == Some(content));
            if let Some(id) = token.and_then(|t| t.get("id")) {
                self.set(kind, id);
            }
        }
    }

    /// What nothing names, out of `tokenizer.json`. Others leave these ids out, and llama.cpp then takes its own.
    fn recover(&mut self, tokenizer: &Value) {
        for (kind, id) in recover::ids(tokenizer) {
            if self.kinds.contains(&kind) && !self.ids.iter().any(|(k, _)| *k == kind) {
                self.set(kind, &id);
            }
        }
        let lacks = |kind: &&str| self.kinds.contains(kind) && !self.ids.iter().any(|(k, _)| k == kind);
        let missing: Vec<&str> = ["bos", "eos", "unk", "sep", "pad", "mask"].into_iter().filter(lacks).collect();
        // Of a model that writes, these matter; what an encoder needs is found by its usual names.
        if missing.iter().any(|kind| ["bos", "eos"].contains(kind)) {
            self.folder.warn(format!(
                "there is no tokenizer_config.json, and tokenizer.json does not tell the ids of {}: they are left out",
                missing.join(", ")
            ));
        }
    }

    /// The ids of `config.json`.
    fn config(&mut self) {
        let config = self.folder.request.config;
        for kind in self.kinds.clone() {
            let key = format!("{kind}_token_id");
            let of = |config: &'f Value| config.get(&key).filter(|v| !v.is_null());
            if let Some(id) = of(config).or_else(|| of(config.get("text_config")?)) {
                // Of several that end a text the first is the one; llama.cpp finds the others by their names.
                self.set(kind, id.get(0).unwrap_or(id));
            }
        }
    }
}

/// The tokens around a text, as `tokenizer_config.json` writes them: text, an object, or nothing.
struct Around {
    bos: Value,
    cls: Value,
    eos: Value,
    sep: Value,
}

impl Around {
    /// A model with only `cls` and `sep` has them for `bos` and `eos`.
    fn of(settings: &mut Option<Map<String, Value>>) -> Self {
        let get = |key: &str| settings.as_ref().and_then(|s| s.get(key)).cloned().unwrap_or(Value::Null);
        let mut around =
            Self { bos: get("bos_token"), cls: get("cls_token"), eos: get("eos_token"), sep: get("sep_token") };
        if let Some(settings) = settings {
            let pairs = [(&mut around.bos, &around.cls, "bos_token"), (&mut around.eos, &around.sep, "eos_token")];
            for (token, other, key) in pairs {
                if !truthy(token) && truthy(other) {
                    *token = other.clone();
                    settings.insert(key.into(), other.clone());
                }
            }
        }
        around
    }
}

/// Whether Python takes it for something.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(s) => !s.is_empty(),
        Value::Object(o) => !o.is_empty(),
        _ => true,
    }
}

/// The token of a part of a template, where it is one.
fn special_id(entry: &Value) -> Option<&str> {
    entry.get("SpecialToken")?.get("id")?.as_str().filter(|s| !s.is_empty())
}

/// Merges of `tokenizer.json`: texts of two parts, or pairs, in whose parts a blank is written as GPT-2 does.
fn json_merges(merges: &Value) -> Result<Option<gguf::Value>> {
    let Some(all) = merges.as_array().filter(|a| !a.is_empty()) else { return Ok(None) };
    let mut texts: Vec<String> = Vec::with_capacity(all.len());
    for (i, merge) in all.iter().enumerate() {
        let part = |i: usize| merge.get(i).and_then(Value::as_str).map(|p| p.replace(' ', "\u{120}"));
        let text = match merge {
            Value::String(text) => Some(text.clone()),
            Value::Array(pair) if pair.len() == 2 => part(0).zip(part(1)).map(|(a, b)| format!("{a} {b}")),
            _ => None,
        };
        texts.push(
            text.ok_or_else(|| {
                Error::failed(format!("tokenizer.json: merge {i} is neither text nor a pair of texts"))
            })?,
        );
    }
    Ok(Some(gguf::Value::strings(texts)))
}

/// Merges of `merges.txt`: a line each, after one that may be a comment.
fn text_merges(folder: &Folder, text: &str) -> Option<gguf::Value> {
    let lines = text.lines().enumerate().skip_while(|(i, line)| *i == 0 && line.trim().starts_with('#'));
    let mut merges = Vec::new();
    for (i, line) in lines {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => {}
            [a, b] => merges.push(format!("{a} {b}")),
            _ => folder.warn(format!("merges.txt: line {} is not two parts, and is left out", i + 1)),
        }
    }
    if merges.is_empty() { None } else { Some(gguf::Value::strings(merges)) }
}
