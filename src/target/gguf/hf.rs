//! A Hugging Face model as the tensors and keys of a GGUF file, before any type is chosen: what convert_hf_to_gguf makes.
pub mod assemble;
pub mod card;
pub mod config;
pub mod general;
pub mod habits;
pub mod keys;
pub mod name;
pub mod training;
mod whole;

use std::collections::{BTreeMap, HashSet};

use serde_json::Value as Json;

use super::architectures::{self, Architecture, Placed};
use crate::core::model::Tensor;
use crate::core::plan::{Change, Slice};
use crate::core::{Error, Model, Result, Storage, TensorId, name as names};
use crate::format::gguf::{Pair, Type};
use config::Config;

/// A tensor of the file.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name there.
    pub name: String,
    /// Its shape, in PyTorch's order.
    pub shape: Vec<u64>,
    /// What it is made from.
    pub sources: Vec<TensorId>,
    /// Rows of these, one after another; none: the first as a whole.
    pub slices: Vec<Slice>,
    /// What is done to the values.
    pub change: Change,
    /// The type that holds its values and that llama.cpp computes with: what is not quantized has it.
    pub from: Type,
}

/// A model under the names of GGUF.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// What it is.
    pub architecture: &'static Architecture,
    /// Its config.
    pub config: Config,
    /// The keys of the architecture; `general.file_type` among them has its place only.
    pub keys: Vec<Pair>,
    /// Its tensors, in no particular order.
    pub items: Vec<Item>,
}

/// Names the tensors of a model as llama.cpp does, and makes the keys of its architecture. Reads no weights.
///
/// # Errors
/// If there is no config that names a known architecture, a key that is needed is missing, a tensor has no place, or
/// llama.cpp would not load what comes of it.
pub fn map(model: &Model) -> Result<Mapped> {
    let mapped = draft(model)?;
    whole::check(&mapped, model)?;
    Ok(mapped)
}

/// What is made of the tensors that are there, be they enough or not.
fn draft(model: &Model) -> Result<Mapped> {
    let made = if model.config.is_none() { architectures::t5::config(model) } else { None };
    let Some(json) = model.config.as_ref().or(made.as_ref()) else {
        return Err(Error::failed(format!(
            "{}: has no config.json, from which GGUF's keys are made; give the model's folder",
            model.label
        )));
    };
    let class = class_of(json).ok_or_else(|| {
        Error::failed(format!("{}: config.json names no `architectures`, so GGUF's keys cannot be made", model.label))
    })?;
    let architecture = architectures::of(class).map_err(|e| e.at(&model.label))?;
    let config = Config::new(&model.label, json).with_habits(habits::of(class));
    let mut keys = keys::Keys::new(architecture.name, &config);
    (architecture.keys)(&mut keys)?;
    let keys = keys.done();
    let items = items(model, architecture, &config)?;
    Ok(Mapped { architecture, config, keys, items })
}

/// The class of a config, that of the language model where there are several.
fn class_of(config: &Json) -> Option<&str> {
    fn own(config: &Json) -> Option<&str> {
        config.get("architectures")?.get(0)?.as_str()
    }
    config.get("text_config").and_then(own).or_else(|| own(config))
}

fn items(model: &Model, architecture: &'static Architecture, config: &Config) -> Result<Vec<Item>> {
    let at = |e: Error| e.at(&model.label);
    let mut items = Vec::new();
    let mut experts: BTreeMap<String, Vec<(u32, TensorId)>> = BTreeMap::new();
    for id in model.ids() {
        let tensor = model.tensor(id);
        let twin = architecture.twins.iter().find(|(twin, _)| *twin == tensor.name);
        if twin.is_some_and(|(_, other)| model.find(other).is_some()) {
            continue;
        }
        match architecture.place(&tensor.name).map_err(at)? {
            Placed::Dropped => {}
            Placed::Banks(names) => items.extend(banks(model, id, names).map_err(at)?),
            Placed::Named(name, Some(expert)) => experts.entry(name).or_default().push((expert, id)),
            Placed::Named(name, None) => items.push(item(model, architecture, config, name, id).map_err(at)?),
        }
    }
    for (name, mut of) in experts {
        of.sort_unstable();
        items.push(stacked(model, config, name, &of).map_err(at)?);
    }
    for (name, values) in (architecture.generated)(config)? {
        items.push(Item {
            name: name.to_owned(),
            shape: vec![values.len() as u64],
            sources: Vec::new(),
            slices: Vec::new(),
            change: Change::Values(values.into()),
            from: Type::F32,
        });
    }
    let mut seen = HashSet::new();
    if let Some(twice) = items.iter().find(|item| !seen.insert(item.name.as_str())) {
        return Err(Error::failed(format!("{}: two tensors would be called `{}`", model.label, twice.name)));
    }
    Ok(items)
}

fn item(model: &Model, architecture: &Architecture, config: &Config, name: String, id: TensorId) -> Result<Item> {
    let tensor = floats(model, id)?;
    let own = in_layer(&name);
    let change = (architecture.change)(own, config)?;
    let mut shape = tensor.shape.clone();
    let rows = (architecture.rows)(own, tensor.rows(), config)?;
    let slices = match rows == (0..tensor.rows()) || shape.is_empty() {
        true => Vec::new(),
        false => {
            shape[0] = rows.end - rows.start;
            vec![Slice::of_rows(0, rows)]
        }
    };
    if change == Change::Transpose {
        let [rows, cols] = shape[..] else {
            return Err(Error::failed(format!(
                "`{}` has shape {shape:?}, expected a matrix",
                names::clean(&tensor.name)
            )));
        };
        shape = vec![cols, rows];
    }
    if let Change::PermuteHeads(heads) = change
        && (heads == 0 || !shape.first().is_some_and(|rows| rows.is_multiple_of(2 * heads)))
    {
        return Err(Error::failed(format!(
            "`{}` has shape {shape:?}, which is not {heads} heads of two halves, as config.json says",
            names::clean(&tensor.name)
        )));
    }
    let from = natural(&name, &shape, [tensor.storage]);
    Ok(Item { name, shape, sources: vec![id], slices, change, from })
}

/// Equal parts of a tensor that holds the matrices of all experts.
fn banks(model: &Model, id: TensorId, called: Vec<String>) -> Result<Vec<Item>> {
    let tensor = floats(model, id)?;
    let parts = called.len() as u64;
    let [experts, rows, cols] = tensor.shape[..] else {
        return Err(Error::failed(format!(
            "`{}` has shape {:?}, expected experts, rows, columns",
            names::clean(&tensor.name),
            tensor.shape
        )));
    };
    if !rows.is_multiple_of(parts) {
        let name = names::clean(&tensor.name);
        return Err(Error::failed(format!("`{name}` has {rows} rows, which are not {parts} parts")));
    }
    let shape = vec![experts, rows / parts, cols];
    let width = rows / parts * cols;
    let part = |(i, name): (u64, String)| {
        let from = natural(&name, &shape, [tensor.storage]);
        let slice = Slice { source: 0, rows: 0..experts, cols: Some(i * width..(i + 1) * width) };
        let slices = if parts > 1 { vec![slice] } else { Vec::new() };
        Item { name, shape: shape.clone(), sources: vec![id], slices, change: Change::None, from }
    };
    Ok((0..).zip(called).map(part).collect())
}

/// The matrices of all experts, one after another.
fn stacked(model: &Model, config: &Config, name: String, of: &[(u32, TensorId)]) -> Result<Item> {
    let count =
        config.bounded(keys::names::EXPERTS, 1, u32::MAX)?.ok_or_else(|| config.missing(keys::names::EXPERTS))?;
    if of.len() != count as usize || of.iter().enumerate().any(|(i, (expert, _))| *expert as usize != i) {
        return Err(Error::failed(format!("`{name}` is made of {} experts, expected 0 to {}", of.len(), count - 1)));
    }
    let first = floats(model, of[0].1)?;
    let mut storages = Vec::new();
    let mut slices = Vec::new();
    for (source, (_, id)) in of.iter().enumerate() {
        let tensor = floats(model, *id)?;
        if tensor.shape != first.shape {
            return Err(Error::failed(format!(
                "`{}` has shape {:?}, and expert 0 {:?}",
                names::clean(&tensor.name),
                tensor.shape,
                first.shape
            )));
        }
        storages.push(tensor.storage);
        slices.push(Slice::of_rows(source, 0..tensor.rows()));
    }
    let mut shape = vec![u64::from(count)];
    shape.extend(&first.shape);
    let from = natural(&name, &shape, storages);
    Ok(Item { name, shape, sources: of.iter().map(|(_, id)| *id).collect(), slices, change: Change::None, from })
}

fn floats(model: &Model, id: TensorId) -> Result<&Tensor> {
    let tensor = model.tensor(id);
    match tensor.is_float() {
        true => Ok(tensor),
        false => Err(Error::failed(format!(
            "`{}` holds {}, expected floats",
            names::clean(&tensor.name),
            tensor.dtype_name()
        ))),
    }
}

/// A tensor's name without that of its layer.
fn in_layer(name: &str) -> &str {
    let name = name.strip_prefix("enc.").unwrap_or(name);
    name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, own)| own)
}

/// The type of a tensor that nothing is done to: what llama.cpp only computes with in F32 is F32, the rest what it was,
/// or what holds that.
fn natural(name: &str, shape: &[u64], storages: impl IntoIterator<Item = Storage>) -> Type {
    const WHOLE: [&str; 4] =
        ["ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "position_embd.weight", "token_types.weight"];
    let own = in_layer(name);
    if shape.len() <= 1 || own.ends_with("_norm.weight") || !own.ends_with(".weight") || WHOLE.contains(&own) {
        return Type::F32;
    }
    let mut storages = storages.into_iter();
    let first = storages.next().unwrap_or(Storage::F32);
    match Type::by_storage(first) {
        Some(ty) if matches!(ty, Type::F16 | Type::BF16) && storages.all(|s| s == first) => ty,
        // A type of eight bits, unpacked.
        None if !matches!(first, Storage::F64) && storages.all(|s| s == first) => Type::BF16,
        _ => Type::F32,
    }
}

impl Mapped {
    /// A key's value as an integer.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.keys.iter().find(|p| *p.key == *key.as_bytes()).and_then(|p| p.value.as_u64())
    }
}

#[cfg(test)]
mod tests;
