//! `mixdown inspect`.
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::args::{Global, InspectArgs};
use super::{print_bytes, print_json};
use crate::core::dtype::StorageExt;
use crate::core::model::{Encoding, Stored};
use crate::core::recipe::group_size;
use crate::core::{Error, Family, Model, Result, Tensor, name, units};
use crate::target::metadata;

/// Header keys whose value is JSON: shown decoded.
pub fn header(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(v @ (Value::Object(_) | Value::Array(_))) => v,
        _ => Value::String(text.to_owned()),
    }
}

/// An array as it is shown. Blocks of GGUF are what a file calls a tensor: they have its dtype and shape, not a byte's.
struct Shown<'a> {
    array: &'a Stored,
    dtype: String,
    shape: &'a [u64],
}

fn shown(model: &Model) -> Vec<Shown<'_>> {
    let blocks: HashMap<u32, &Tensor> = model
        .tensors
        .iter()
        .filter_map(|t| match &t.encoding {
            Encoding::Packed { recipe, parts } if recipe.family == Family::Gguf => Some((parts.first()?.array, t)),
            _ => None,
        })
        .collect();
    let show = |(i, array): (usize, _)| match blocks.get(&(i as u32)) {
        Some(t) => Shown { array, dtype: t.dtype_name(), shape: &t.shape },
        None => Shown { array, dtype: array.storage.name(), shape: &array.shape },
    };
    model.stored.iter().enumerate().map(show).collect()
}

pub fn run(global: &Global, args: &InspectArgs) -> Result<u8> {
    let opened = super::open(&args.model, global)?;
    let model = &opened.model;
    let mut metadata_of: Map<String, Value> =
        model.metadata().into_iter().map(|(k, v)| (k.to_owned(), header(v))).collect();
    let mut warnings = Vec::new();
    let described = metadata::all(&opened, &mut warnings)?;
    let arrays: HashSet<&str> = model.stored.iter().map(|s| s.name.as_str()).collect();
    for (layer, facts) in &described {
        let key = metadata::tensor_name(layer);
        // What stands in the header is shown there already.
        if arrays.contains(key.as_str()) {
            metadata_of.insert(key, Value::Object(facts.clone()));
        }
    }
    let mut wanted = shown(model);
    if let Some(asked) = &args.tensor {
        wanted.retain(|s| s.array.name == *asked);
        if wanted.is_empty() {
            return Err(Error::failed(format!("{}: there is no tensor `{asked}`", model.label)));
        }
    }
    if args.json {
        let tensors: Vec<Value> = wanted
            .iter()
            .map(|s| {
                json!({
                    "name": s.array.name,
                    "dtype": s.dtype,
                    "shape": s.shape,
                    "bytes": s.array.span.len,
                    "file": model.files[s.array.span.file as usize].path.display().to_string(),
                })
            })
            .collect();
        return print_json(&json!({
            "format": model.format,
            "architecture": model.architecture,
            "parameters": model.parameters(),
            "bytes": model.bytes(),
            "metadata": metadata_of,
            "tensors": tensors,
        }));
    }
    metadata_of.retain(|k, _| k != metadata::HEADER_KEY && !k.ends_with(".weight_metadata"));
    print_bytes(text(model, &wanted, &metadata_of, &described).as_bytes())
}

/// What was done to each layer, a line each.
fn layers(described: &BTreeMap<String, metadata::Facts>) -> String {
    let mut out = String::from("\nlayers, as the file describes them (--json has every key)\n");
    let width = described.keys().map(|k| k.chars().count()).max().unwrap_or(0).min(80);
    for (layer, facts) in described {
        let word = |key: &str| facts.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
        let number = |key: &str| facts.get(key).and_then(Value::as_i64);
        let error = |key: &str| facts.get(key).and_then(Value::as_f64).map_or_else(|| "?".into(), units::error);
        let mut how = format!("{} → {}", word("original_dtype"), word("weights_dtype"));
        if let Some(size) = number("group_size") {
            how.push_str(&format!(" group {}", group_size::name(size)));
        }
        if let Some(rank) = number("svd_rank").filter(|r| *r > 0) {
            how.push_str(&format!(" rank {rank}"));
        }
        let (layer, how) = (name::clean(layer), name::clean(&how).into_owned());
        out.push_str(&format!("  {layer:width$}  {how:30}  MSE {:>9}  max {:>9}\n", error("mse"), error("max_error")));
    }
    out
}

fn text(
    model: &Model,
    wanted: &[Shown],
    metadata: &Map<String, Value>,
    described: &BTreeMap<String, metadata::Facts>,
) -> String {
    let mut out = format!(
        "{}\n{} · {} · {} parameters · {} tensors · {} in {}\n",
        name::clean(&model.title),
        model.format,
        model.architecture.as_deref().map(name::clean).unwrap_or("unknown architecture".into()),
        units::count(model.parameters()),
        model.tensors.len(),
        units::size(model.bytes()),
        match model.files.len() {
            1 => "1 file".to_owned(),
            n => format!("{n} files"),
        }
    );
    if !metadata.is_empty() {
        out.push_str("\nmetadata\n");
        for (k, v) in metadata {
            let value = match v {
                Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            out.push_str(&format!("  {} = {}\n", name::clean(k), name::clean(&value)));
        }
    }
    if !described.is_empty() {
        out.push_str(&layers(described));
    }
    out.push_str("\ntensors\n");
    let width = wanted.iter().map(|s| s.array.name.chars().count()).max().unwrap_or(0).min(80);
    for s in wanted {
        let shape: Vec<String> = s.shape.iter().map(ToString::to_string).collect();
        out.push_str(&format!(
            "  {:width$}  {:8} {:>16}  {:>9}\n",
            name::clean(&s.array.name),
            s.dtype,
            if shape.is_empty() { "scalar".into() } else { shape.join("×") },
            units::size(s.array.span.len)
        ));
    }
    out
}
