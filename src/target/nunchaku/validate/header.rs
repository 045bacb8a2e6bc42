//! A single file's metadata.
use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::model::FileInfo;
use crate::target::check::{Check, Findings};
use crate::target::nunchaku::metadata::{self, COMFY, CONFIG, Found, MODEL_CLASS, Precision, QUANTIZATION};

/// What the header says, as far as it can be read.
#[derive(Debug, Default)]
pub struct Header {
    /// The transformer's config.
    pub config: Option<Value>,
    /// How the file is quantized.
    pub quantization: Option<Value>,
}

/// FLUX.1's own size, which the C++ model has whatever the config says.
const FULL: [(&str, u64); 4] =
    [("num_layers", 19), ("num_single_layers", 38), ("num_attention_heads", 24), ("attention_head_dim", 128)];

/// Whether FLUX's C++ model has the config's size.
pub fn is_full_size(config: Option<&Value>) -> bool {
    config.is_some_and(|c| FULL.iter().all(|(key, n)| c.get(*key).is_none_or(|v| v.as_u64() == Some(*n))))
}

/// A key that must be a JSON object.
fn object(pairs: &BTreeMap<&str, &str>, key: &str, found: &mut Findings) -> Option<Value> {
    let Some(text) = pairs.get(key) else {
        found.error(format!("`{key}` is missing: loaders end with a KeyError; `mixdown metadata add` puts it there"));
        return None;
    };
    match serde_json::from_str::<Value>(text) {
        Ok(value @ Value::Object(_)) => Some(value),
        Ok(_) => {
            found.error(format!("`{key}` is no JSON object"));
            None
        }
        Err(e) => {
            found.error(format!("`{key}` is not JSON: {e}"));
            None
        }
    }
}

/// Reads the four keys, and tells what is wrong with them.
pub fn read(pairs: &BTreeMap<&str, &str>, arrays: Option<Found>, checks: &mut Vec<Check>) -> Header {
    let mut found = Findings::new("metadata");
    if pairs.is_empty() {
        found.error(
            "the file has none: loaders end with `'NoneType' object is not subscriptable`; `mixdown metadata add` repairs it",
        );
        checks.extend(found.close(""));
        return Header::default();
    }
    let config = object(pairs, CONFIG, &mut found);
    let quantization = object(pairs, QUANTIZATION, &mut found);
    let class = config.as_ref().and_then(metadata::class_name);
    if let (Some(config), None) = (&config, class) {
        let keys = config.as_object().map_or(0, |o| o.len());
        found.error(format!("`{CONFIG}` has no `_class_name` among its {keys} keys"));
    }
    let expected = class.and_then(metadata::model_class);
    match (pairs.get(MODEL_CLASS), expected) {
        (_, None) => {
            if let Some(class) = class {
                found.error(format!("`{CONFIG}` is of a {class}, which Nunchaku does not load"));
            }
        }
        (None, Some(expected)) => found.warn(format!("`{MODEL_CLASS}` is missing; it would be {expected}")),
        (Some(class), Some(expected)) if *class != expected => {
            found.warn(format!("`{MODEL_CLASS}` is {class}, not {expected}; no loader of this model reads it"));
        }
        _ => {}
    }
    if let Some(quantization) = &quantization {
        terms(quantization, arrays, &mut found);
    }
    checks.extend(found.close("config, quantization_config and model_class are there and fit"));
    if class == Some("FluxTransformer2DModel") {
        checks.extend(comfy(pairs, config.as_ref()));
    }
    Header { config, quantization }
}

/// `quantization_config` by itself, and its rank against the arrays'.
fn terms(config: &Value, arrays: Option<Found>, found: &mut Findings) {
    let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    if config.get("method").and_then(Value::as_str) != Some("svdquant") {
        found.error(format!("`{QUANTIZATION}`: method is {}, not svdquant", text(config.get("method"))));
    }
    let of = |part: &str| {
        let part = config.get(part)?;
        Some((part.get("dtype")?.as_str()?, part.get("group_size")?.as_u64()?))
    };
    match (of("weight"), of("activation")) {
        (None, _) => found.error(format!("`{QUANTIZATION}`: `weight` has no dtype and group_size: KeyError: 'weight'")),
        (Some(weight), activation) => {
            let known = [Precision::Int4, Precision::Fp4].map(|p| (p.dtype(), p.group_size()));
            if !known.contains(&weight) {
                let known = known.map(|(dtype, size)| format!("{dtype} with {size}")).join(" or ");
                found.error(format!(
                    "`{QUANTIZATION}`: weights are {} with groups of {}, not {known}",
                    weight.0, weight.1
                ));
            }
            if activation != Some(weight) {
                found.error(format!("`{QUANTIZATION}`: `activation` is not as `weight`"));
            }
        }
    }
    let rank = config.get("rank").and_then(Value::as_u64);
    match (rank, arrays) {
        (None, Some(arrays)) if arrays.rank == 32 => {
            found.warn(format!("`{QUANTIZATION}` has no `rank`; loaders take 32, which it is"));
        }
        (None, _) => found.error(format!("`{QUANTIZATION}` has no `rank`; loaders take 32")),
        (Some(rank), Some(arrays)) if rank != arrays.rank => found.error(format!(
            "`{QUANTIZATION}`: rank is {rank}, the branches have {}: a size mismatch on loading",
            arrays.rank
        )),
        _ => {}
    }
    let skip = config.get("skip_refiners").and_then(Value::as_bool).unwrap_or(false);
    if let Some(true) = arrays.and_then(|a| a.skip_refiners).map(|really| really != skip) {
        found.error(format!("`{QUANTIZATION}`: skip_refiners is {skip}, and the refiners are not so"));
    }
}

/// What ComfyUI's FLUX loader builds the model from.
fn comfy(pairs: &BTreeMap<&str, &str>, config: Option<&Value>) -> Vec<Check> {
    let mut found = Findings::new("comfy");
    let said = object(pairs, COMFY, &mut found);
    let expected = config.and_then(metadata::comfy_config);
    if let (Some(said), Some(expected)) = (said, expected) {
        let class = said.get("model_class").and_then(Value::as_str);
        match class {
            None => found.error(format!("`{COMFY}` has no `model_class`: it will not load in ComfyUI")),
            Some(class) if !["Flux", "FluxSchnell"].contains(&class) => {
                found.error(format!("`{COMFY}`: ComfyUI-nunchaku knows no class {class}"));
            }
            Some(class) if expected["model_class"] != class => {
                found.error(format!("`{COMFY}`: {class}, and `{CONFIG}` says {}", expected["model_class"]));
            }
            Some(_) => {}
        }
        match said.get("model_config").and_then(Value::as_object) {
            None => found.error(format!("`{COMFY}` has no `model_config`: it will not load in ComfyUI")),
            Some(model) => {
                for (key, value) in expected["model_config"].as_object().into_iter().flatten() {
                    match model.get(key) {
                        Some(said) if same(said, value) => {}
                        Some(said) => found.error(format!("`{COMFY}`: {key} is {said}, and `{CONFIG}` says {value}")),
                        // ComfyUI has defaults for some.
                        None => found.warn(format!("`{COMFY}`: {key} is missing; it would be {value}")),
                    }
                }
            }
        }
    }
    found.close("ComfyUI builds the same model")
}

/// 4 is 4.0.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a))
}

/// What the arrays tell against what the header and the file's name say.
pub fn precision(arrays: Option<Found>, header: &Header, files: &[FileInfo], found: &mut Findings) {
    let Some(arrays) = arrays else { return };
    let ours = arrays.precision;
    let said = header.quantization.as_ref().and_then(|q| q.get("weight")?.get("dtype")?.as_str());
    if said.is_some_and(|said| said != ours.dtype()) {
        let said = said.unwrap_or_default();
        found.error(format!("`{QUANTIZATION}` says {said}, the scales' type says {}", ours.dtype()));
    }
    for file in files {
        let name = file.path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let other = if ours == Precision::Int4 { Precision::Fp4 } else { Precision::Int4 };
        if name.contains(other.name()) && !name.contains(ours.name()) {
            found.warn(format!("the file's name says {}, and it is {}: the loader warns", other.name(), ours.name()));
        }
    }
    if !(16..=1024).contains(&arrays.rank) || !arrays.rank.is_multiple_of(16) {
        found.error(format!("rank {}: the kernels take multiples of 16, from 16 to 1024", arrays.rank));
    }
}
