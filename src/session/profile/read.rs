//! Profiles and presets out of TOML. Every complaint names the place: `flux.toml:7:1: …`.
use std::fmt::Write as _;
use std::ops::Range;

use toml_edit::{Document, DocumentMut, Item, TableLike, Value};

use super::{PresetChoice, Said};
use crate::core::name::nearest;
use crate::core::options::{ComfyOptions, GgufOptions, Names, NunchakuOptions};
use crate::core::recipe::group_size;
use crate::core::rules::{Pattern, hadamard};
use crate::core::{Dtype, Error, Family, Patch, Result, Rule, ScaleSearch, Settings};
use crate::session::preset;

const ROOT: &[&str] = &[
    "target",
    "architecture",
    "preset",
    "exclude",
    "include",
    "quant_conv",
    "quant_embedding",
    "metadata_tensors",
    "names",
    "imatrix",
    "gguf",
    "comfy",
    "nunchaku",
    "defaults",
    "rule",
    "tensor",
];
const PATCH: &[&str] =
    &["keep", "dtype", "group_size", "svd_rank", "svd_steps", "hadamard", "codebook", "scale_search"];
const RULE: &[&str] = &[
    "pattern",
    "keep",
    "dtype",
    "group_size",
    "svd_rank",
    "svd_steps",
    "hadamard",
    "codebook",
    "scale_search",
    "reason",
    "enabled",
];
const PRESET: &[&str] = &["name", "off"];

const COMFY: &[&str] = &["quant_metadata", "key_prefix"];
const NUNCHAKU: &[&str] = &["lite", "smooth_from", "config_yaml", "model_path", "extra_metadata"];
const GGUF: &[&str] = &[
    "pure",
    "output_tensor_type",
    "token_embedding_type",
    "leave_output_tensor",
    "allow_requantize",
    "keep_split",
    "embed_loss",
    "override_kv",
    "prune_layers",
    "pre",
];

type Span = Option<Range<usize>>;

/// A text and what to call it.
#[derive(Clone, Copy)]
pub(in crate::session) struct Source<'a> {
    pub text: &'a str,
    pub file: &'a str,
    /// A target's spelling of a dtype.
    pub dtype: &'a dyn Fn(Family, &str) -> Result<Dtype>,
}

/// A document to edit and what it says.
pub(super) fn profile(
    text: &str,
    file: &str,
    dtype: &dyn Fn(Family, &str) -> Result<Dtype>,
) -> Result<(DocumentMut, Said)> {
    let source = Source { text, file, dtype };
    let document = source.document()?;
    let said = source.said(document.as_table())?;
    Ok((document.into_mut(), said))
}

impl<'a> Source<'a> {
    pub fn document(self) -> Result<Document<&'a str>> {
        Document::parse(self.text).map_err(|e| {
            // Of what the parser says, the first line is the sentence.
            let message = e.message().lines().next().unwrap_or("not TOML").to_owned();
            self.error(e.span(), message)
        })
    }

    fn said(self, root: &dyn TableLike) -> Result<Said> {
        self.only(root, ROOT)?;
        let target = self.target(root)?;
        let mut said = Said::nothing(target);
        said.architecture = self.string(root, "architecture")?;
        (said.preset, said.off) = self.preset(root, target)?;
        let s: &mut Settings = &mut said.settings;
        s.exclude = self.patterns(root, "exclude")?;
        s.include = self.patterns(root, "include")?;
        s.quant_conv = self.boolean(root, "quant_conv")?.unwrap_or(false);
        s.quant_embedding = self.boolean(root, "quant_embedding")?.unwrap_or(false);
        s.metadata_tensors = self.boolean(root, "metadata_tensors")?;
        if let Some(name) = self.string(root, "names")? {
            let names = Names::ALL.map(Names::name);
            let unknown = || self.unknown(value_span(root, "names"), "names", &name, &names);
            s.names = Some(Names::parse(&name).ok_or_else(unknown)?);
        }
        s.imatrix = self.string(root, "imatrix")?;
        if let Some(item) = root.get("comfy") {
            let table = self.table("comfy", item, "a table: [comfy]")?;
            self.only(table, COMFY)?;
            s.comfy = ComfyOptions {
                header: self.boolean(table, "quant_metadata")?.unwrap_or(false),
                key_prefix: self.string(table, "key_prefix")?,
            };
        }
        if let Some(item) = root.get("nunchaku") {
            let table = self.table("nunchaku", item, "a table: [nunchaku]")?;
            self.only(table, NUNCHAKU)?;
            s.nunchaku = NunchakuOptions {
                lite: self.boolean(table, "lite")?.unwrap_or(false),
                smooth_from: self.string(table, "smooth_from")?,
                config_yaml: self.string(table, "config_yaml")?,
                model_path: self.string(table, "model_path")?,
                extra_metadata: self.boolean(table, "extra_metadata")?.unwrap_or(false),
            };
        }
        if let Some(item) = root.get("gguf") {
            s.gguf = self.gguf(self.table("gguf", item, "a table: [gguf]")?)?;
        }
        if let Some(item) = root.get("defaults") {
            let table = self.table("defaults", item, "a table: [defaults]")?;
            self.only(table, PATCH)?;
            s.defaults = self.patch(table, target)?;
        }
        s.rules = self.rules(root, target)?;
        if let Some(item) = root.get("tensor") {
            let form = "a table of tables by name: [tensor.\"NAME\"]";
            let tensors = self.table("tensor", item, form)?;
            for (name, item) in tensors.iter() {
                let table = self.table(name, item, form)?;
                self.only(table, PATCH)?;
                let patch = self.patch(table, target)?;
                s.overrides.insert(name.to_owned(), patch);
            }
        }
        Ok(said)
    }

    fn gguf(self, table: &dyn TableLike) -> Result<GgufOptions> {
        self.only(table, GGUF)?;
        let on = |key| self.boolean(table, key).map(|on| on.unwrap_or(false));
        Ok(GgufOptions {
            pure: on("pure")?,
            output_type: self.dtype(table, "output_tensor_type", Family::Gguf)?,
            embedding_type: self.dtype(table, "token_embedding_type", Family::Gguf)?,
            leave_output: on("leave_output_tensor")?,
            allow_requantize: on("allow_requantize")?,
            keep_split: on("keep_split")?,
            embed_loss: on("embed_loss")?,
            override_kv: self.strings(table, "override_kv")?.into_iter().map(|(text, _)| text).collect(),
            prune_layers: self.string(table, "prune_layers")?,
            pre: self.string(table, "pre")?,
        })
    }

    fn dtype(self, table: &dyn TableLike, key: &str, target: Family) -> Result<Option<Dtype>> {
        let dtype = self.string(table, key)?;
        let canonical =
            |name: String| (self.dtype)(target, &name).map_err(|e| self.error(value_span(table, key), e.to_string()));
        dtype.map(canonical).transpose()
    }

    fn target(self, root: &dyn TableLike) -> Result<Family> {
        let names = Family::ALL.map(Family::name);
        let Some(name) = self.string(root, "target")? else {
            let message = format!("there is no `target`; allowed: {}", names.join(", "));
            return Err(self.error(Some(0..0), message));
        };
        Family::parse(&name).ok_or_else(|| self.unknown(value_span(root, "target"), "target", &name, &names))
    }

    fn preset(self, root: &dyn TableLike, target: Family) -> Result<(PresetChoice, Vec<String>)> {
        let Some(item) = root.get("preset") else {
            return Ok((PresetChoice::Automatic, Vec::new()));
        };
        if item.as_bool() == Some(false) {
            return Ok((PresetChoice::None, Vec::new()));
        }
        if let Some(name) = item.as_str() {
            return Ok((self.named(name, item.span(), target)?, Vec::new()));
        }
        let table = self.table("preset", item, "a preset's name, false, or a table with `name` and `off`")?;
        self.only(table, PRESET)?;
        let choice = match self.string(table, "name")? {
            Some(name) => self.named(&name, value_span(table, "name"), target)?,
            None => PresetChoice::Automatic,
        };
        let off = self.strings(table, "off")?;
        Ok((choice, off.into_iter().map(|(text, _)| text).collect()))
    }

    fn named(self, name: &str, span: Span, target: Family) -> Result<PresetChoice> {
        if preset::by_name(name).is_some() {
            return Ok(PresetChoice::Named(name.to_owned()));
        }
        let names = preset::names(target);
        Err(self.unknown(span, "preset", name, &names))
    }

    /// `[[rule]]`, or an array of inline tables.
    pub fn rules(self, root: &dyn TableLike, target: Family) -> Result<Vec<Rule>> {
        let Some(item) = root.get("rule") else {
            return Ok(Vec::new());
        };
        let form = "tables, each with a pattern: [[rule]]";
        if let Some(tables) = item.as_array_of_tables() {
            return tables.iter().map(|t| self.rule(t, t.span(), target)).collect();
        }
        let array = item.as_array().ok_or_else(|| self.wrong("rule", item, form))?;
        array
            .iter()
            .map(|value| match value.as_inline_table() {
                Some(table) => self.rule(table, table.span(), target),
                None => Err(self.wrong("rule", &Item::Value(value.clone()), form)),
            })
            .collect()
    }

    fn rule(self, table: &dyn TableLike, span: Span, target: Family) -> Result<Rule> {
        self.only(table, RULE)?;
        let Some(text) = self.string(table, "pattern")? else {
            return Err(self.error(span, "a rule without a `pattern`; it says which tensors are meant"));
        };
        Ok(Rule {
            pattern: self.pattern(&text, value_span(table, "pattern"))?,
            patch: self.patch(table, target)?,
            reason: self.string(table, "reason")?,
            enabled: self.boolean(table, "enabled")?.unwrap_or(true),
        })
    }

    fn patch(self, table: &dyn TableLike, target: Family) -> Result<Patch> {
        Ok(Patch {
            keep: self.boolean(table, "keep")?,
            dtype: self.dtype(table, "dtype", target)?,
            group_size: self.group_size(table)?,
            svd_rank: self.count(table, "svd_rank")?,
            svd_steps: self.count(table, "svd_steps")?,
            hadamard: self.hadamard(table)?,
            codebook: self.boolean(table, "codebook")?,
            scale_search: self.scale_search(table)?,
        })
    }

    fn group_size(self, table: &dyn TableLike) -> Result<Option<i64>> {
        let Some(item) = table.get("group_size") else {
            return Ok(None);
        };
        let words = [group_size::AUTO, group_size::ROW, group_size::TENSOR];
        let size = match (item.as_integer(), item.as_str()) {
            (Some(n), _) if n >= group_size::TENSOR => Some(n),
            (_, Some(word)) => words.into_iter().find(|n| group_size::name(*n) == word),
            _ => None,
        };
        let form = "a whole number from 1 up, \"auto\" (0), \"row\" (-1) or \"tensor\" (-2)";
        size.map(Some).ok_or_else(|| self.wrong("group_size", item, form))
    }

    fn scale_search(self, table: &dyn TableLike) -> Result<Option<ScaleSearch>> {
        let Some(name) = self.string(table, "scale_search")? else {
            return Ok(None);
        };
        let names = ScaleSearch::ALL.map(ScaleSearch::name);
        let unknown = || self.unknown(value_span(table, "scale_search"), "scale_search", &name, &names);
        ScaleSearch::parse(&name).map(Some).ok_or_else(unknown)
    }

    fn hadamard(self, table: &dyn TableLike) -> Result<Option<u32>> {
        let Some(item) = table.get("hadamard") else {
            return Ok(None);
        };
        let size = match (item.as_bool(), item.as_integer()) {
            (Some(on), _) => Some(if on { hadamard::DEFAULT } else { 0 }),
            (_, Some(n)) => u64::try_from(n).ok().and_then(hadamard::size),
            _ => None,
        };
        let form = format!("true ({}), false, or {}", hadamard::DEFAULT, hadamard::FORM);
        size.map(Some).ok_or_else(|| self.wrong("hadamard", item, &form))
    }

    fn count(self, table: &dyn TableLike, key: &str) -> Result<Option<u32>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        item.as_integer()
            .and_then(|n| u32::try_from(n).ok())
            .map(Some)
            .ok_or_else(|| self.wrong(key, item, "a whole number from 0 up"))
    }

    fn boolean(self, table: &dyn TableLike, key: &str) -> Result<Option<bool>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        let is = item.as_bool().map(Some);
        is.ok_or_else(|| self.wrong(key, item, "true or false"))
    }

    pub fn string(self, table: &dyn TableLike, key: &str) -> Result<Option<String>> {
        let Some(item) = table.get(key) else {
            return Ok(None);
        };
        let text = item.as_str().map(|s| Some(s.to_owned()));
        text.ok_or_else(|| self.wrong(key, item, "a string"))
    }

    /// Texts of an array with their places.
    pub fn strings(self, table: &dyn TableLike, key: &str) -> Result<Vec<(String, Span)>> {
        let Some(item) = table.get(key) else {
            return Ok(Vec::new());
        };
        let form = "an array of strings";
        let array = item.as_array().ok_or_else(|| self.wrong(key, item, form))?.iter();
        array
            .map(|value: &Value| match value.as_str() {
                Some(text) => Ok((text.to_owned(), value.span())),
                None => Err(self.wrong(key, &Item::Value(value.clone()), form)),
            })
            .collect()
    }

    fn patterns(self, table: &dyn TableLike, key: &str) -> Result<Vec<Pattern>> {
        self.strings(table, key)?.into_iter().map(|(text, span)| self.pattern(&text, span)).collect()
    }

    fn pattern(self, text: &str, span: Span) -> Result<Pattern> {
        Pattern::new(text).map_err(|e| self.error(span, e.to_string()))
    }

    fn table<'t>(self, key: &str, item: &'t Item, form: &str) -> Result<&'t dyn TableLike> {
        item.as_table_like().ok_or_else(|| self.wrong(key, item, form))
    }

    /// Complains of the first key that is none of `allowed`.
    pub fn only(self, table: &dyn TableLike, allowed: &[&str]) -> Result<()> {
        for (key, item) in table.iter() {
            if !allowed.contains(&key) {
                let span = table.key(key).and_then(|k| k.span()).or(item.span());
                return Err(self.unknown(span, "key", key, allowed));
            }
        }
        Ok(())
    }

    fn unknown(self, span: Span, what: &str, name: &str, allowed: &[&str]) -> Error {
        let mut message = format!("unknown {what} `{name}`;");
        if let Some(near) = nearest(name, allowed) {
            let _ = write!(message, " did you mean `{near}`?");
        }
        let _ = write!(message, " allowed: {}", allowed.join(", "));
        self.error(span, message)
    }

    fn wrong(self, key: &str, item: &Item, form: &str) -> Error {
        let is = match item {
            Item::Value(Value::Integer(n)) => n.value().to_string(),
            Item::Value(Value::String(s)) => format!("\"{}\"", s.value()),
            Item::Value(Value::Boolean(b)) => b.value().to_string(),
            Item::ArrayOfTables(_) => "an array of tables".into(),
            _ => match item.type_name() {
                name if name.starts_with(['a', 'i']) => format!("an {name}"),
                name => format!("a {name}"),
            },
        };
        self.error(item.span(), format!("`{key}` takes {form}; it is {is}"))
    }

    /// `FILE:LINE:COLUMN: message`.
    pub fn error(self, span: Span, message: impl Into<String>) -> Error {
        let (line, column) = place(self.text, span.map_or(0, |s| s.start));
        Error::failed(message).at(format_args!("{}:{line}:{column}", self.file))
    }
}

fn value_span(table: &dyn TableLike, key: &str) -> Span {
    table.get(key).and_then(Item::span)
}

/// Line and column, from 1, of a byte; columns are characters.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rsplit('\n').next().unwrap_or_default();
    let column = start.trim_start_matches('\u{FEFF}').chars().count() + 1;
    (line, column)
}
