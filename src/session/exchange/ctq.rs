//! The layer configs of convert_to_quant: JSON that says by patterns which layers get which format.
//!
//! There the most specific pattern wins, whatever its place: first those with a `\d` and at least eight literal characters,
//! among these and among the others those with more literal characters, and of equal ones the first. Here the last rule
//! wins; so an import lists them from the least specific to the most, each saying everything. An export names layers one
//! by one, as a pattern's weight there cannot be chosen.
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::sdnq::Imported;
use crate::core::recipe::group_size;
use crate::core::rules::Pattern;
use crate::core::{Dtype, Error, Family, Patch, Result, Rule, Settings};
use crate::session::Profile;

/// Their formats with ours, and what is lost in between.
const FORMATS: [(&str, &str, Option<i64>, Option<&str>); 9] = [
    ("float8_e4m3fn", "float8_e4m3fn", None, None),
    ("int8_tensorwise", "int8_tensorwise", None, None),
    ("nvfp4", "nvfp4", None, None),
    ("mxfp8", "mxfp8", None, None),
    ("float8_e4m3fn_rowwise", "float8_e4m3fn", None, Some("stock ComfyUI knows fp8 with one scale only")),
    ("float8_e4m3fn_blockwise", "float8_e4m3fn", None, Some("stock ComfyUI knows fp8 with one scale only")),
    ("float8_e4m3fn_block3d", "float8_e4m3fn", None, Some("stock ComfyUI knows fp8 with one scale only")),
    ("int8_blockwise", "int8_tensorwise", Some(group_size::ROW), Some("stock ComfyUI knows int8 by row, not by block")),
    ("hybrid_mxfp8", "mxfp8", None, Some("stock ComfyUI knows mxfp8 alone")),
];

/// A profile from a layer config.
///
/// # Errors
/// If it is not one, or a pattern is no regular expression here.
pub fn import(file: &Value) -> Result<Imported> {
    let root = file.as_object().ok_or_else(|| Error::failed("is no JSON object"))?;
    let mut warnings = Vec::new();
    let mut settings = Settings::new(Family::Comfy);
    if let Some(default) = root.get("_default") {
        match said("_default", default, &mut warnings)? {
            Some(patch) if patch.keep == Some(true) => settings.defaults = patch,
            Some(patch) => settings.defaults = Patch { keep: None, ..patch },
            None => {}
        }
    }
    let mut rules = Vec::new();
    for (order, (key, value)) in root.iter().filter(|(key, _)| !key.starts_with('_')).enumerate() {
        if let Some(patch) = said(key, value, &mut warnings)? {
            let pattern = Pattern::new(&of_weight(key)).map_err(|e| e.at(format!("`{key}`")))?;
            let rule = Rule { pattern, patch, reason: None, enabled: true };
            rules.push((specificity(key), Reverse(order), rule));
        }
    }
    // The first of equal ones wins there, so it comes last here.
    rules.sort_by_key(|(weight, order, _)| (*weight, *order));
    settings.rules = rules.into_iter().map(|(.., rule)| rule).collect();
    if let Some(list) = root.get("_exclusions").and_then(Value::as_array).filter(|l| !l.is_empty()) {
        warnings.push(format!("`_exclusions` with {} entries is passed over, as convert_to_quant does", list.len()));
    }
    Ok(Imported { profile: Profile::new(settings), warnings })
}

/// What an entry says of the layers it matches; nothing of a template's that was left empty.
fn said(key: &str, value: &Value, warnings: &mut Vec<String>) -> Result<Option<Patch>> {
    let wrong = |what: String| Error::failed(format!("`{key}`: {what}"));
    let map = value.as_object().ok_or_else(|| wrong(format!("takes an object; it is {value}")))?;
    if map.get("skip").and_then(Value::as_bool) == Some(true) {
        return Ok(Some(Patch::keep()));
    }
    let format = match map.get("format").and_then(Value::as_str) {
        Some("") => return Ok(None),
        Some(format) => format,
        None => return Err(wrong("has no `format`, and no `skip`".into())),
    };
    let known = FORMATS.iter().find(|(theirs, ..)| *theirs == format);
    let (theirs, ours, size, lost) = known.ok_or_else(|| wrong(format!("the format `{format}` is not known")))?;
    if let Some(lost) = lost {
        warnings.push(format!("`{key}`: {format} becomes {ours}: {lost}"));
    }
    let mut patch = Patch { dtype: Some(Dtype::new(ours)), group_size: *size, ..Patch::default() };
    if *ours == "int8_tensorwise" && patch.group_size.is_none() {
        patch.group_size = match map.get("scaling_mode").and_then(Value::as_str) {
            None | Some("tensor") => Some(group_size::TENSOR),
            _ => Some(group_size::ROW),
        };
    }
    let by_tensor = map.get("scaling_mode").and_then(Value::as_str).is_none_or(|mode| mode == "tensor");
    if *theirs == "float8_e4m3fn" && !by_tensor {
        warnings.push(format!("`{key}`: its `scaling_mode` is left out: stock ComfyUI knows fp8 with one scale only"));
    }
    if map.get("full_precision_matrix_mult").and_then(Value::as_bool) == Some(true) {
        warnings
            .push(format!("`{key}`: `full_precision_matrix_mult` is left out: it is about running, not about weights"));
    }
    // A layer that is named is meant, whatever a less specific entry says.
    patch.keep = Some(false);
    Ok(Some(patch))
}

/// How specific a pattern is: more is more. As convert_to_quant counts: escapes and signs of its own are no literals.
fn specificity(pattern: &str) -> (bool, usize) {
    let mut literals = 0;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '.' | '*' | '+' | '?' | '^' | '$' | '{' | '}' | '|' => {}
            _ => literals += 1,
        }
    }
    (pattern.contains(r"\d") && literals >= 8, literals)
}

/// A pattern over a layer's name as one over its weight's: what ends with the layer ends before `.weight`.
fn of_weight(pattern: &str) -> String {
    let mut out = String::new();
    let (mut in_class, mut chars) = (false, pattern.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '$' if !in_class => out.push_str(r"\.weight"),
            _ => {}
        }
        out.push(c);
    }
    out
}

/// What becomes of a layer, as it is told to convert_to_quant.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its name, without `.weight`.
    pub name: String,
    /// Its dtype and group size; none where it is kept.
    pub dtype: Option<(Dtype, i64)>,
}

/// A layer config for those layers, and what it cannot say.
pub fn export(layers: &[Layer]) -> (Value, Vec<String>) {
    let mut warnings = Vec::new();
    let mut out = Map::new();
    for layer in layers {
        let key = format!("^{}$", regex::escape(&layer.name));
        let entry = match &layer.dtype {
            None => json!({"skip": true}),
            Some((dtype, size)) => {
                match FORMATS.iter().find(|(_, ours, _, lost)| *ours == dtype.as_str() && lost.is_none()) {
                    Some((theirs, ..)) if *theirs == "int8_tensorwise" => {
                        let mode = if *size == group_size::TENSOR { "tensor" } else { "row" };
                        json!({"format": theirs, "scaling_mode": mode, "simple": true})
                    }
                    Some((theirs, ..)) => json!({"format": theirs, "simple": true}),
                    None => {
                        warnings
                            .push(format!("`{}`: convert_to_quant has no {dtype}: it is left as it is", layer.name));
                        json!({"skip": true})
                    }
                }
            }
        };
        out.insert(key, entry);
    }
    (Value::Object(out), warnings)
}
