//! The files of a model's folder as JSON, and what is asked of them.
use std::cell::RefCell;

use serde_json::Value;

use super::Request;
use crate::core::{Error, Result};

/// Most tokens of a vocabulary. The largest known has a quarter of a million; ids and sizes beyond this are lies.
pub(super) const MOST: usize = 1 << 21;

/// The folder with its two files that everything asks for.
pub(super) struct Folder<'a> {
    pub request: &'a Request<'a>,
    /// `tokenizer.json`.
    pub tokenizer: Option<Value>,
    /// `tokenizer_config.json`.
    pub settings: Option<Value>,
    pub warnings: RefCell<Vec<String>>,
}

impl<'a> Folder<'a> {
    pub fn open(request: &'a Request<'a>) -> Result<Self> {
        let tokenizer = json(request, "tokenizer.json")?;
        let settings = json(request, "tokenizer_config.json")?;
        for (name, value) in [("tokenizer.json", &tokenizer), ("tokenizer_config.json", &settings)] {
            if value.as_ref().is_some_and(|v| !v.is_object()) {
                return Err(Error::failed(format!("{name}: is not a JSON object")));
            }
        }
        Ok(Self { request, tokenizer, settings, warnings: RefCell::default() })
    }

    pub fn warn(&self, what: impl Into<String>) {
        self.warnings.borrow_mut().push(what.into());
    }

    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        (self.request.read)(name)
    }

    /// A text file.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        match String::from_utf8(bytes) {
            // As Python reads text: all ends of lines are one.
            Ok(text) => Ok(Some(text.replace("\r\n", "\n").replace('\r', "\n"))),
            Err(_) => Err(Error::failed(format!("{name}: is not UTF-8 text"))),
        }
    }

    pub fn json(&self, name: &str) -> Result<Option<Value>> {
        json(self.request, name)
    }

    /// A value of `tokenizer_config.json`.
    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.settings.as_ref()?.get(key)
    }

    /// The model of `tokenizer.json`.
    pub fn model(&self) -> Option<&Value> {
        self.tokenizer.as_ref()?.get("model")
    }

    /// A value of `config.json`; what it says of the text model, where it says several, comes first.
    pub fn hparam(&self, key: &str) -> Option<&Value> {
        let config = self.request.config;
        let text = config.get("text_config").and_then(|c| c.get(key));
        text.or_else(|| config.get(key)).filter(|v| !v.is_null())
    }

    /// Tokens that the model's embedding has.
    pub fn vocab_size(&self) -> Result<Option<usize>> {
        let Some(value) = self.hparam("vocab_size") else { return Ok(None) };
        bounded(value, "config.json: `vocab_size`").map(Some)
    }
}

/// An id or a size that a vocabulary may have.
pub(super) fn bounded(value: &Value, what: &str) -> Result<usize> {
    let number = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= MOST);
    number.ok_or_else(|| {
        let shown: String = value.to_string().chars().take(40).collect();
        Error::failed(format!("{what} is {shown}, expected a number up to {MOST}"))
    })
}

fn json(request: &Request, name: &str) -> Result<Option<Value>> {
    let Some(bytes) = (request.read)(name)? else { return Ok(None) };
    let value = crate::format::json::parse(&bytes);
    value.map(Some).map_err(|e| Error::failed(format!("{name}: is not valid JSON: {e}")).because(e))
}
