//! A model's config.json, and which of its keys have a place in the file: the rest is kept as it is.
use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::keys::MOST_HEAD;
use crate::core::{Error, Result};
use crate::format::gguf::Pair;

/// Where configs of several models in one have that of the language model.
const INNER: [&str; 4] = ["text_config", "llm_config", "lm_config", "language_config"];
/// What other keys of GGUF say: the architecture; and how the weights were quantized, which is undone as they are read.
const ELSEWHERE: [&str; 3] = ["architectures", "_name_or_path", "quantization_config"];
/// What the vocabulary says, if it says the same.
const TOKENS: [(&str, &str); 3] = [
    ("bos_token_id", "tokenizer.ggml.bos_token_id"),
    ("eos_token_id", "tokenizer.ggml.eos_token_id"),
    ("pad_token_id", "tokenizer.ggml.padding_token_id"),
];

/// What is made of the tables that say how positions turn.
const ROPE: [&str; 17] = [
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "beta_fast",
    "beta_slow",
    "extrapolation_factor",
    "attention_factor",
    "attn_factor",
    "long_factor",
    "short_factor",
    "full_attention",
    "sliding_attention",
];

/// config.json, with that of the language model laid over it.
#[derive(Clone, Debug)]
pub struct Config {
    label: String,
    map: Map<String, Value>,
    /// What transformers takes where the file does not say.
    habits: Map<String, Value>,
    placed: RefCell<BTreeSet<String>>,
    displaced: RefCell<BTreeSet<String>>,
    warnings: RefCell<Vec<String>>,
}

impl Config {
    /// That of a model that errors call `label`.
    pub fn new(label: &str, config: &Value) -> Self {
        let mut map = config.as_object().cloned().unwrap_or_default();
        for inner in INNER {
            if let Some(Value::Object(over)) = map.shift_remove(inner) {
                map.extend(over);
            }
        }
        let placed = RefCell::new(ELSEWHERE.map(str::to_owned).into());
        let (displaced, warnings) = (RefCell::default(), RefCell::default());
        Self { label: label.to_owned(), map, habits: Map::new(), placed, displaced, warnings }
    }

    /// With what counts where it says nothing.
    pub fn with_habits(self, habits: Map<String, Value>) -> Self {
        Self { habits, ..self }
    }

    /// The first of some keys that has a value, and that; `null` is none. It says nothing of a place in the file.
    pub fn find<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &Value)> {
        let of = |map: &'_ Map<String, Value>, key: &str| map.get(key).is_some_and(|v| !v.is_null());
        [&self.map, &self.habits].into_iter().find_map(|map| {
            let key = keys.iter().copied().find(|k| of(map, k))?;
            Some((key, map.get(key)?))
        })
    }

    /// The value of the first of some keys that has one, which gets a place in the file.
    pub fn get(&self, keys: &[&str]) -> Option<&Value> {
        let (key, value) = self.find(keys)?;
        self.place(key);
        Some(value)
    }

    /// Says that a key's value has its place in the file.
    pub fn place(&self, key: &str) {
        self.placed.borrow_mut().insert(key.to_owned());
    }

    /// Says that none of some keys has one, whatever else is said, and why.
    pub fn displace(&self, keys: &[&str], why: String) {
        self.displaced.borrow_mut().extend(keys.iter().map(|k| (*k).to_owned()));
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&why) {
            warnings.push(why);
        }
    }

    /// What a person should know.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().clone()
    }

    /// Keys and values, for an error: `hidden_size` 64.
    pub fn quote(&self, keys: &[&str]) -> Option<String> {
        let (key, value) = self.find(keys)?;
        let whose = if self.map.get(key) == Some(value) { "" } else { " (transformers' default)" };
        let value: String = value.to_string().chars().take(40).collect();
        Some(format!("`{key}` {value}{whose}"))
    }

    /// A count.
    pub fn count(&self, keys: &[&str]) -> Result<Option<u32>> {
        let Some(value) = self.get(keys) else { return Ok(None) };
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
        number.map(Some).ok_or_else(|| self.wrong(keys, value, "a whole number"))
    }

    /// A count that must be there.
    pub fn need(&self, keys: &[&str]) -> Result<u32> {
        self.count(keys)?.ok_or_else(|| self.missing(keys))
    }

    /// A count within bounds, which something is sized by.
    pub fn bounded(&self, keys: &[&str], least: u32, most: u32) -> Result<Option<u32>> {
        match self.count(keys)? {
            Some(n) if !(least..=most).contains(&n) => Err(self
                .error(format!("config.json: {}, expected {least} to {most}", self.quote(keys).unwrap_or_default()))),
            n => Ok(n),
        }
    }

    /// Values of a head, where it is said.
    pub fn head(&self) -> Result<Option<u32>> {
        self.bounded(&["head_dim"], 1, MOST_HEAD)
    }

    /// A number.
    pub fn number(&self, keys: &[&str]) -> Result<Option<f64>> {
        let Some(value) = self.get(keys) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(keys, value, "a number"))
    }

    /// A number that must be there.
    pub fn need_number(&self, keys: &[&str]) -> Result<f64> {
        self.number(keys)?.ok_or_else(|| self.missing(keys))
    }

    /// A text, if it is one.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        self.parsed(keys, Value::as_str)
    }

    /// What can be made of a value; what it cannot be made of has no place.
    pub fn parsed<'c, T>(&'c self, keys: &[&str], parse: impl FnOnce(&'c Value) -> Option<T>) -> Option<T> {
        let (key, value) = self.find(keys)?;
        let parsed = parse(value)?;
        self.place(key);
        Some(parsed)
    }

    /// Whether a switch is set to something.
    pub fn is(&self, key: &str, expected: bool) -> bool {
        self.parsed(&[key], |v| v.as_bool().filter(|b| *b == expected)).is_some()
    }

    /// What this architecture is only known with.
    pub fn demand(&self, key: &str, expected: &Value) -> Result<()> {
        match self.get(&[key]) {
            Some(value) if value != expected => Err(self.error(format!(
                "config.json says `{key}` is {value}, and GGUF has this architecture with {expected} only"
            ))),
            _ => Ok(()),
        }
    }

    /// An error that names the model.
    pub fn error(&self, what: String) -> Error {
        Error::failed(format!("{}: {what}", self.label))
    }

    /// What has no place in the file, whose keys are those.
    pub fn rest(&self, keys: &[Pair]) -> Map<String, Value> {
        let (placed, displaced) = (self.placed.borrow(), self.displaced.borrow());
        let whole = |value: &Value| value.as_object().is_none_or(|o| o.keys().all(|k| ROPE.contains(&k.as_str())));
        let written = |key: &str| keys.iter().find(|p| *p.key == *key.as_bytes()).and_then(|p| p.value.as_u64());
        let has_place = |key: &str, value: &Value| match TOKENS.iter().find(|t| t.0 == key) {
            Some((_, token)) => value.is_null() || value.as_u64().is_some_and(|id| written(token) == Some(id)),
            None => placed.contains(key) && !displaced.contains(key) && whole(value),
        };
        self.map.iter().filter(|(k, v)| !has_place(k, v)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// The whole of it, with what counts where it says nothing.
    pub fn value(&self) -> Value {
        let mut all = self.habits.clone();
        all.extend(
            self.map
                .iter()
                .filter(|(k, v)| !v.is_null() || !self.habits.contains_key(*k))
                .map(|(k, v)| (k.clone(), v.clone())),
        );
        Value::Object(all)
    }

    /// An error that none of some keys is there.
    pub fn missing(&self, keys: &[&str]) -> Error {
        let names: Vec<String> = keys.iter().map(|k| format!("`{k}`")).collect();
        self.error(format!("config.json has no {}, which GGUF needs", names.join(" or ")))
    }

    fn wrong(&self, keys: &[&str], value: &Value, expected: &str) -> Error {
        let key = keys.iter().find(|k| self.map.get(**k) == Some(value)).copied().unwrap_or_default();
        let value: String = value.to_string().chars().take(40).collect();
        self.error(format!("config.json: `{key}` is {value}, expected {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_found_by_any_of_their_names() {
        let config = Config::new(
            "m",
            &json!({"n_layer": 2, "num_layers": null, "rms_norm_eps": 1e-6, "use_cache": true,
            "text_config": {"hidden_size": 64}}),
        );
        assert_eq!(config.need(&["num_layers", "n_layer"]).expect("a count"), 2);
        assert_eq!(config.need(&["hidden_size"]).expect("a count"), 64);
        assert_eq!(config.number(&["rms_norm_eps"]).expect("a number"), Some(1e-6));
        assert_eq!(config.count(&["head_dim"]).expect("none"), None);
        assert_eq!(Value::Object(config.rest(&[])), json!({"num_layers": null, "use_cache": true}));
    }

    #[test]
    fn a_table_is_kept_whole_if_some_of_it_has_no_place() {
        fn check(rope: Value, kept: bool) {
            let config = Config::new("m", &json!({"rope_scaling": rope}));
            config.get(&["rope_scaling"]);
            assert_eq!(config.rest(&[]).contains_key("rope_scaling"), kept, "{rope}");
        }
        check(json!({"rope_type": "yarn", "factor": 4.0}), false);
        check(json!({"rope_type": "yarn", "factor": 4.0, "truncate": false}), true);
        check(json!(null), true);
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_named() {
        let config = Config::new("m", &json!({"hidden_size": "64", "n_head": -1, "eps": true}));
        fn check<T: std::fmt::Debug>(result: Result<T>, expected: &str) {
            assert_eq!(result.expect_err(expected).to_string(), expected);
        }
        check(
            config.need(&["num_layers", "n_layer"]),
            "m: config.json has no `num_layers` or `n_layer`, which GGUF needs",
        );
        check(config.need(&["hidden_size"]), "m: config.json: `hidden_size` is \"64\", expected a whole number");
        check(config.count(&["n_head"]), "m: config.json: `n_head` is -1, expected a whole number");
        check(config.number(&["eps"]), "m: config.json: `eps` is true, expected a number");
    }
}
