//! Theirs as ours.
use serde_json::{Map, Value};

use super::pattern::{Meant, Relation};
use super::{Dtypes, Kwargs, SVD_RANK, SVD_STEPS};
use crate::core::recipe::group_size;
use crate::core::rules::{Pattern, hadamard};
use crate::core::{Dtype, Error, Family, Patch, Result, Rule, Settings};
use crate::session::Profile;
use crate::session::profile::PresetChoice;

/// A profile that was another tool's.
#[derive(Clone, Debug)]
pub struct Imported {
    /// It.
    pub profile: Profile,
    /// What it does not say.
    pub warnings: Vec<String>,
}

/// Settings that are ours too.
const OURS: &[&str] = &[
    "quant_method",
    "weights_dtype",
    "group_size",
    "use_svd",
    "svd_rank",
    "svd_steps",
    "use_hadamard",
    "hadamard_group_size",
    "use_codebook",
    "quant_conv",
    "quant_embedding",
    "add_skip_keys",
    "modules_to_not_convert",
    "modules_dtype_dict",
    "modules_quant_config",
];
/// Settings that decide nothing about the file: how the library works, and what follows from others.
const IDLE: &[&str] = &[
    "sdnq_version",
    "is_integer",
    "is_unsigned",
    "quantization_device",
    "return_device",
    "non_blocking",
    "use_grad_ckpt",
];
/// Settings of which mixdown knows one value, with what it does.
const FIXED: &[(&str, &str, &str)] = &[
    ("scale_dtype", "null", "scales are written as they are"),
    ("zero_point_dtype", "null", "zero points are written as they are"),
    ("use_codebook_scale", "false", "scales are written as they are"),
    ("codebook_steps", "24", "a codebook is found in 24 steps"),
    ("use_dynamic_quantization", "false", "every layer gets the dtype that is said, unless --dynamic chooses"),
    ("dynamic_loss_threshold", "null", "give it to --dynamic"),
    ("use_stochastic_rounding", "false", "values are rounded to the nearest"),
    ("dequantize_fp32", "true", "scales are F32"),
    ("minimum_allowed_numel", "16384", "layers of fewer than 16384 elements are kept"),
    ("minimum_allowed_channel_size", "32", "layers of fewer than 32 channels are kept"),
    ("quantized_matmul_dtype", "null", "the file is for any product; who loads it chooses"),
    ("use_quantized_matmul", "false", "the file is for any product; who loads it chooses"),
    ("use_quantized_matmul_conv", "false", "the file is for any product; who loads it chooses"),
    ("modules_to_not_use_matmul", "[]", "the file is for any product; who loads it chooses"),
    ("is_training", "false", "the file is for inference"),
    ("use_static_quantization", "true", "the file is for inference"),
];

/// A profile from an `SDNQConfig`: a `quantization_config.json`, or a `config.json` with one in it.
pub fn import(file: &Value, dtypes: &Dtypes) -> Result<Imported> {
    let root = file.as_object().ok_or_else(|| Error::failed("is no JSON object"))?;
    let config = match root.get("quantization_config") {
        Some(Value::Object(config)) => config,
        _ => root,
    };
    match config.get("quant_method").and_then(Value::as_str) {
        Some("sdnq" | "sdnq_training") => {}
        None if config.contains_key("weights_dtype") => {}
        Some(other) => return Err(Error::failed(format!("is a config of `{other}`, not of sdnq"))),
        None => return Err(Error::failed("is no config of sdnq: it has neither `quant_method` nor `weights_dtype`")),
    }
    let mut reader = Reader { dtypes, warnings: Vec::new() };
    reader.pass_over(config);
    let general = Theirs::default().with(config)?;
    let skip = boolean(config, "add_skip_keys")?.unwrap_or(true);
    let mut settings = Settings::new(Family::Sdnq);
    let recipe = general.kwargs(dtypes)?;
    settings.defaults = Patch {
        dtype: Some(recipe.dtype.clone()),
        group_size: Some(recipe.group_size),
        svd_rank: (recipe.svd_rank > 0).then_some(recipe.svd_rank),
        svd_steps: (recipe.svd_rank > 0 || recipe.svd_steps != SVD_STEPS).then_some(recipe.svd_steps),
        hadamard: (recipe.hadamard > 0).then_some(recipe.hadamard),
        codebook: recipe.codebook.then_some(true),
        ..Patch::default()
    };
    settings.quant_conv = boolean(config, "quant_conv")?.unwrap_or(false);
    settings.quant_embedding = boolean(config, "quant_embedding")?.unwrap_or(false);
    for text in texts(config.get("modules_to_not_convert"), "modules_to_not_convert")? {
        let pattern = pattern(&Meant::from_sdnq(&text), &text)?;
        if !settings.exclude.contains(&pattern) {
            settings.exclude.push(pattern);
        }
    }
    let entries = reader.entries(config, &general)?;
    settings.rules = rules(&entries, &recipe)?;
    settings.rules.extend(reader.dtype_rules(config, &recipe, &entries)?);
    if skip && settings.rules.iter().any(|r| r.patch.dtype.is_some()) {
        reader.warnings.push(
            "a rule that names a dtype quantizes its layers though the preset keeps them; SDNQ keeps what its own list \
             has (add_skip_keys)"
                .into(),
        );
    }
    let mut profile = Profile::new(settings);
    profile.preset = if skip { PresetChoice::Automatic } else { PresetChoice::None };
    let class = root.get("_class_name").or_else(|| root.get("architectures")?.get(0));
    profile.architecture = class.and_then(Value::as_str).map(str::to_owned);
    Ok(Imported { profile, warnings: reader.warnings })
}

/// The settings of a layer as they are said there.
#[derive(Clone, Debug)]
struct Theirs {
    weights_dtype: String,
    group_size: i64,
    use_svd: bool,
    svd_rank: u32,
    svd_steps: u32,
    use_hadamard: bool,
    hadamard_group_size: u32,
    use_codebook: bool,
}

impl Default for Theirs {
    fn default() -> Self {
        Self {
            weights_dtype: "int8".into(),
            group_size: 0,
            use_svd: false,
            svd_rank: SVD_RANK,
            svd_steps: SVD_STEPS,
            use_hadamard: false,
            hadamard_group_size: hadamard::DEFAULT,
            use_codebook: false,
        }
    }
}

impl Theirs {
    /// With what `map` says instead.
    fn with(&self, map: &Map<String, Value>) -> Result<Self> {
        let count = |key: &str, old: u32| Ok::<_, Error>(count(map, key)?.unwrap_or(old));
        Ok(Self {
            weights_dtype: string(map, "weights_dtype")?.unwrap_or_else(|| self.weights_dtype.clone()),
            group_size: whole(map, "group_size")?.unwrap_or(self.group_size),
            use_svd: boolean(map, "use_svd")?.unwrap_or(self.use_svd),
            svd_rank: count("svd_rank", self.svd_rank)?,
            svd_steps: count("svd_steps", self.svd_steps)?,
            use_hadamard: boolean(map, "use_hadamard")?.unwrap_or(self.use_hadamard),
            hadamard_group_size: count("hadamard_group_size", self.hadamard_group_size)?,
            use_codebook: boolean(map, "use_codebook")?.unwrap_or(self.use_codebook),
        })
    }

    fn kwargs(&self, dtypes: &Dtypes) -> Result<Kwargs> {
        // The library takes the next power of two, and rotates nothing by less than 4.
        let rotation = self.hadamard_group_size.checked_next_power_of_two().unwrap_or(u32::MAX).min(65536);
        Ok(Kwargs {
            dtype: (dtypes.parse)(&self.weights_dtype)?,
            // Other negative numbers are a row there.
            group_size: if self.group_size < group_size::TENSOR { group_size::ROW } else { self.group_size },
            svd_rank: if self.use_svd { self.svd_rank } else { 0 },
            svd_steps: self.svd_steps,
            hadamard: if self.use_hadamard { hadamard::size(rotation.into()).unwrap_or(0) } else { 0 },
            codebook: self.use_codebook,
        })
    }
}

/// An entry of `modules_quant_config`.
struct Entry {
    text: String,
    meant: Meant,
    kwargs: Kwargs,
}

fn may_meet(a: &Meant, b: &Meant) -> bool {
    a.relation(b) != Relation::Apart && b.relation(a) != Relation::Apart
}

/// The entries as rules: the first that matches wins there, the last here. A rule says everything in which a weaker one
/// might differ, so that only its own word counts.
fn rules(entries: &[Entry], general: &Kwargs) -> Result<Vec<Rule>> {
    // Whole names never meet each other, and most entries are such.
    let wide: Vec<usize> = (0..entries.len()).filter(|i| !matches!(entries[*i].meant, Meant::Name(_))).collect();
    let mut rules = Vec::new();
    for (i, entry) in entries.iter().enumerate().rev() {
        let is_name = matches!(entry.meant, Meant::Name(_));
        let weaker =
            entries.iter().enumerate().skip(i + 1).filter(|(k, other)| {
                (!is_name || wide.binary_search(k).is_ok()) && may_meet(&entry.meant, &other.meant)
            });
        let others: Vec<&Kwargs> = weaker.map(|(_, other)| &other.kwargs).chain([general]).collect();
        let mine = &entry.kwargs;
        let differs = |same: fn(&Kwargs, &Kwargs) -> bool| others.iter().any(|other| !same(mine, other));
        let patch = Patch {
            keep: None,
            dtype: differs(|a, b| a.dtype == b.dtype).then(|| mine.dtype.clone()),
            group_size: differs(|a, b| a.group_size == b.group_size).then_some(mine.group_size),
            svd_rank: differs(|a, b| a.svd_rank == b.svd_rank).then_some(mine.svd_rank),
            svd_steps: differs(|a, b| a.svd_steps == b.svd_steps || a.svd_rank == 0).then_some(mine.svd_steps),
            hadamard: differs(|a, b| a.hadamard == b.hadamard).then_some(mine.hadamard),
            codebook: differs(|a, b| a.codebook == b.codebook).then_some(mine.codebook),
            scale_search: None,
        };
        if !patch.is_empty() {
            rules.push(Rule { pattern: pattern(&entry.meant, &entry.text)?, patch, reason: None, enabled: true });
        }
    }
    Ok(rules)
}

struct Reader<'a> {
    dtypes: &'a Dtypes<'a>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn warn(&mut self, text: String) {
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// Says which settings are left out.
    fn pass_over(&mut self, map: &Map<String, Value>) {
        for (key, value) in map {
            let key = key.as_str();
            if OURS.contains(&key) || IDLE.contains(&key) {
                continue;
            }
            let said = format!("`{key}` = {value} is left out");
            match FIXED.iter().find(|(k, ..)| *k == key) {
                Some((_, usual, does)) => {
                    let none = value.is_null() || value.as_str() == Some("none");
                    let text = value.to_string();
                    if text != *usual && !none {
                        self.warn(format!("{said}: {does}"));
                    }
                }
                None => self.warn(format!("{said}: not a setting that mixdown knows of SDNQ")),
            }
        }
    }

    fn entries(&mut self, config: &Map<String, Value>, general: &Theirs) -> Result<Vec<Entry>> {
        let Some(map) = object(config, "modules_quant_config")? else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::with_capacity(map.len());
        for (text, value) in map {
            let at = |e: Error| e.at(format_args!("modules_quant_config: `{text}`"));
            let entry = value.as_object().ok_or_else(|| at(Error::failed("takes an object")))?;
            self.pass_over(entry);
            let kwargs = general.with(entry).and_then(|t| t.kwargs(self.dtypes)).map_err(at)?;
            entries.push(Entry { text: text.clone(), meant: Meant::from_sdnq(text), kwargs });
        }
        Ok(entries)
    }

    /// `modules_dtype_dict` as rules that come after those of `entries`: it has the last word on dtypes.
    fn dtype_rules(&mut self, config: &Map<String, Value>, general: &Kwargs, entries: &[Entry]) -> Result<Vec<Rule>> {
        let Some(map) = object(config, "modules_dtype_dict")? else {
            return Ok(Vec::new());
        };
        let mut rules: Vec<(Meant, Rule)> = Vec::new();
        for (key, value) in map.iter().rev() {
            let asked = self.asked(key).map_err(|e| e.at("modules_dtype_dict"))?;
            for text in texts(Some(value), key)? {
                let meant = Meant::from_sdnq(&text);
                let dtype = self.dtype_for(&asked, &meant, &text, general, entries)?;
                let below = entries.iter().map(|e| (&e.meant, Some(&e.kwargs.dtype)));
                let below = below.chain(rules.iter().map(|(meant, rule)| (meant, rule.patch.dtype.as_ref())));
                let mut others = below.filter(|(other, _)| may_meet(&meant, other));
                if dtype != general.dtype || others.any(|(_, d)| d != Some(&dtype)) {
                    let patch = Patch { dtype: Some(dtype), ..Patch::default() };
                    let rule = Rule { pattern: pattern(&meant, &text)?, patch, reason: None, enabled: true };
                    rules.push((meant, rule));
                }
            }
        }
        Ok(rules.into_iter().map(|(_, rule)| rule).collect())
    }

    /// What a key of `modules_dtype_dict` asks for.
    fn asked(&self, key: &str) -> Result<Asked> {
        let key = key.to_lowercase();
        if !(key.starts_with("minimum") || key.ends_with("bit") || key.ends_with("bits")) {
            return Ok(Asked::Dtype((self.dtypes.parse)(&key)?));
        }
        let mut rest = key.as_str();
        for prefix in ["minimum", "-", "_"] {
            rest = rest.strip_prefix(prefix).unwrap_or(rest);
        }
        for suffix in ["bits", "bit", "-", "_"] {
            rest = rest.strip_suffix(suffix).unwrap_or(rest);
        }
        let (unsigned, digits) = match rest.strip_prefix("uint") {
            Some(digits) => (true, digits),
            None => (false, rest.strip_prefix("int").unwrap_or(rest)),
        };
        let bits: u32 = digits.parse().map_err(|_| Error::failed(format!("`{key}` names no number of bits")))?;
        let name = format!("{}{digits}", if unsigned || bits <= 4 { "uint" } else { "int" });
        Ok(Asked::AtLeast(bits, (self.dtypes.parse)(&name)?))
    }

    fn resolve(&self, asked: &Asked, before: &Dtype) -> Dtype {
        match asked {
            Asked::Dtype(dtype) => dtype.clone(),
            Asked::AtLeast(bits, dtype) if (self.dtypes.bits)(before) < *bits => dtype.clone(),
            Asked::AtLeast(..) => before.clone(),
        }
    }

    /// The dtype of the layers that a pattern means. What they have otherwise may depend on `entries`.
    fn dtype_for(
        &mut self,
        asked: &Asked,
        meant: &Meant,
        text: &str,
        general: &Kwargs,
        entries: &[Entry],
    ) -> Result<Dtype> {
        let met: Vec<&Entry> = entries.iter().filter(|e| may_meet(meant, &e.meant)).collect();
        if let Some(first) = met.first().filter(|e| meant.relation(&e.meant) == Relation::Inside) {
            return Ok(self.resolve(asked, &first.kwargs.dtype));
        }
        let dtype = self.resolve(asked, &general.dtype);
        let mut others = met.iter().map(|e| (e, self.resolve(asked, &e.kwargs.dtype)));
        if let Some((entry, other)) = others.find(|(_, other)| *other != dtype) {
            let entry = &entry.text;
            self.warn(format!("layers that both `{text}` and `{entry}` match become {dtype}; SDNQ makes them {other}"));
        }
        Ok(dtype)
    }
}

/// What a key of `modules_dtype_dict` asks for.
enum Asked {
    Dtype(Dtype),
    /// So many bits at least: that dtype where there are fewer.
    AtLeast(u32, Dtype),
}

fn pattern(meant: &Meant, text: &str) -> Result<Pattern> {
    Pattern::new(&meant.regex()).map_err(|e| e.at(format_args!("`{text}`")))
}

fn wrong(key: &str, form: &str, value: &Value) -> Error {
    let mut is = value.to_string();
    if is.chars().count() > 40 {
        is = is.chars().take(40).chain(['…']).collect();
    }
    Error::failed(format!("`{key}` takes {form}; it is {is}"))
}

/// What is there and not null.
fn given<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|v| !v.is_null())
}

fn boolean(map: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    let read = |v: &Value| v.as_bool().ok_or_else(|| wrong(key, "true or false", v));
    given(map, key).map(read).transpose()
}

fn string(map: &Map<String, Value>, key: &str) -> Result<Option<String>> {
    let read = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a string", v));
    given(map, key).map(read).transpose()
}

fn whole(map: &Map<String, Value>, key: &str) -> Result<Option<i64>> {
    let read = |v: &Value| v.as_i64().ok_or_else(|| wrong(key, "a whole number", v));
    given(map, key).map(read).transpose()
}

fn count(map: &Map<String, Value>, key: &str) -> Result<Option<u32>> {
    let read = |v: &Value| {
        let n = v.as_u64().and_then(|n| u32::try_from(n).ok());
        n.ok_or_else(|| wrong(key, "a whole number from 0 up", v))
    };
    given(map, key).map(read).transpose()
}

fn object<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a Map<String, Value>>> {
    given(map, key).map(|v| v.as_object().ok_or_else(|| wrong(key, "an object", v))).transpose()
}

/// Texts of an array; a text alone is one, as the library has it.
fn texts(value: Option<&Value>, key: &str) -> Result<Vec<String>> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(list)) => {
            let text = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "strings", v));
            list.iter().map(text).collect()
        }
        Some(other) => Err(wrong(key, "an array of strings", other)),
    }
}
