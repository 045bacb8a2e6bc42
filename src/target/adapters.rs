//! Adapters that are merged into a model's weights as these are read.
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::codec::{Geometry, Values};
use super::lora::config::Config;
use super::lora::delta::{Array, Delta, Norms};
use super::lora::keys::{self, Keys, Role};
use super::lora::targets::{self, Base, Field, Other, Piece, Update, Why};
use super::lora::{self, Step};
use super::names;
use super::sdnq::layers::{self, Kind, Surroundings};
use crate::core::dtype::StorageExt;
use crate::core::{Error, Model, Result, TensorId, name};
use crate::format::{self, Blob, Changes, OpenOptions, Opened};
use crate::quant::cast;

/// Names of what has no place in the model are told one by one up to so many.
const TOLD: usize = 8;

/// An adapter's file, and how strongly it is merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The file, or PEFT's folder.
    pub path: String,
    /// What its changes are multiplied by.
    pub strength: f32,
}

impl Wish {
    /// Reads `FILE` or `FILE:STRENGTH`.
    ///
    /// # Errors
    /// If the strength is not a finite number.
    pub fn parse(text: &str) -> Result<Self> {
        let number = |s: &str| s.parse::<f32>().ok().filter(|n| n.is_finite());
        match text.rsplit_once(':') {
            // A drive's letter, or a name with a colon in it, has no number behind it.
            Some((path, strength)) if !path.is_empty() && number(strength).is_some() => {
                Ok(Self { path: path.to_owned(), strength: number(strength).unwrap_or(1.0) })
            }
            Some((path, "nan" | "NaN" | "inf" | "-inf")) => {
                Err(Error::usage(format!("{path}: a strength is a number, as in {path}:0.8")))
            }
            _ => Ok(Self { path: text.to_owned(), strength: 1.0 }),
        }
    }
}

/// One opened adapter.
#[derive(Debug)]
struct Adapter {
    opened: Opened,
    keys: Keys,
    config: Config,
    strength: f32,
}

/// All adapters of a model.
#[derive(Debug)]
struct Adapters {
    all: Vec<Adapter>,
    /// By tensor of the model: the adapter, and its change.
    updates: Vec<Vec<(usize, Update)>>,
    /// By tensor: its dimensions but for the first, and whether it lies transposed.
    inputs: Vec<(Vec<u64>, bool)>,
}

/// Opens adapters and has them merged into a model's tensors as these are read. What has no place is a warning.
///
/// # Errors
/// If a file cannot be read, or nothing of it has a place in the model.
pub fn merge(opened: &mut Opened, wishes: &[Wish]) -> Result<()> {
    if wishes.is_empty() {
        return Ok(());
    }
    if let Some(why) = &opened.model.foreign {
        return Err(Error::failed(format!("--lora: {}: {why}", opened.model.label)));
    }
    let mut warnings = Vec::new();
    let mut all = Vec::new();
    let mut updates: Vec<Vec<(usize, Update)>> = vec![Vec::new(); opened.model.tensors.len()];
    let others = others(&opened.model);
    let transposed = transposed(&opened.model);
    let inputs: Vec<(Vec<u64>, bool)> = opened
        .model
        .tensors
        .iter()
        .zip(transposed)
        .map(|(t, turned)| (t.shape.get(1..).unwrap_or_default().to_vec(), turned))
        .collect();
    for (number, wish) in wishes.iter().enumerate() {
        let at = |e: Error| e.at(format!("--lora {}", wish.path));
        let adapter = open(wish).map_err(at)?;
        let base: Vec<Base> = opened
            .model
            .tensors
            .iter()
            .zip(&inputs)
            .map(|(t, (_, turned))| Base { name: &t.name, shape: &t.shape, transposed: *turned })
            .collect();
        let found = targets::find(&adapter.keys.modules, &base, &others);
        let changed: usize = found.updates.iter().map(Vec::len).sum();
        if changed == 0 {
            let what = adapter.keys.modules.first().map_or("nothing that is known", |m| m.path.as_str());
            return Err(at(Error::failed(format!(
                "none of its {} modules has a place in {}; its first is `{what}`",
                adapter.keys.modules.len(),
                opened.model.label
            ))));
        }
        warnings.extend(told(wish, &adapter, &found));
        for (mine, new) in updates.iter_mut().zip(found.updates) {
            mine.extend(new.into_iter().map(|update| (number, update)));
        }
        all.push(adapter);
    }
    let model = opened.model_mut();
    for (tensor, updates) in model.tensors.iter_mut().zip(&updates) {
        tensor.merged = !updates.is_empty();
        if tensor.merged && !tensor.is_float() {
            return Err(Error::failed(format!("--lora: `{}` is no float tensor and cannot be changed", tensor.name)));
        }
    }
    model.warnings.append(&mut warnings);
    model.adapters = wishes.iter().map(|w| format!("{}:{}", w.path, w.strength)).collect();
    let adapters = Adapters { all, updates, inputs };
    adapters.check_split()?;
    opened.changes = Some(Arc::new(adapters));
    Ok(())
}

fn open(wish: &Wish) -> Result<Adapter> {
    let opened = format::open(&wish.path, &OpenOptions::default())?;
    if !opened.gguf.is_empty() {
        return Err(Error::failed("adapters are read from .safetensors files"));
    }
    let arrays: Vec<(&str, &[u64])> =
        opened.model.stored.iter().map(|s| (s.name.as_str(), s.shape.as_slice())).collect();
    let keys = keys::parse(&arrays);
    let config = config(&opened, Path::new(&wish.path))?;
    Ok(Adapter { opened, keys, config, strength: wish.strength })
}

/// What scales an adapter without alphas: PEFT's config beside it, or what diffusers writes into the header.
fn config(opened: &Opened, path: &Path) -> Result<Config> {
    if let Some(text) = opened.model.metadata().get("lora_adapter_metadata") {
        let json = serde_json::from_str(text)
            .map_err(|e| Error::failed(format!("`lora_adapter_metadata` in the header is not JSON: {e}")).because(e))?;
        return Config::of_diffusers(&json);
    }
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    match folder.map(|f| format::folder::json_beside(f, "adapter_config.json")).transpose()?.flatten() {
        Some(json) => Config::of_peft(&json),
        None => Ok(Config::default()),
    }
}

/// The model's tensors by the names of the other layout, diffusers' or the original.
fn others(model: &Model) -> Vec<Other> {
    let tensors: Vec<(&str, &[u64])> = model.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let Some(mapped) = names::to_original(&tensors).or_else(|_| names::to_diffusers(&tensors)).ok() else {
        return Vec::new();
    };
    let other = |renamed: names::Renamed| {
        let mut at = 0;
        let pieces = renamed.pieces.into_iter().map(|piece| {
            let rows = piece.rows.start as usize..piece.rows.end as usize;
            at += rows.len();
            Piece { tensor: piece.source, other: at - rows.len()..at, rows }
        });
        Other { name: renamed.name, pieces: pieces.collect() }
    };
    mapped.tensors.into_iter().map(other).collect()
}

fn transposed(model: &Model) -> Vec<bool> {
    let around = Surroundings::of(model);
    model.tensors.iter().map(|t| layers::kind(&t.name, &t.shape, None, around) == Kind::Conv1D).collect()
}

/// What of an adapter has no place, for people.
fn told(wish: &Wish, adapter: &Adapter, found: &targets::Targets) -> Vec<String> {
    let mut out = Vec::new();
    let mut list = |what: &str, lines: Vec<String>| {
        let more = lines.len().saturating_sub(TOLD);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        if !lines.is_empty() {
            let shown: Vec<String> = lines.into_iter().take(TOLD).collect();
            out.push(format!("{}: {what}: {}{rest}", wish.path, shown.join(", ")));
        }
    };
    let unmatched = found.unmatched.iter().map(|u| {
        let path = adapter.keys.modules.get(u.module).map_or("", |m| m.path.as_str());
        match &u.why {
            Why::Name(Some(near)) => format!("`{path}` (near: `{near}`)"),
            Why::Name(None) => format!("`{path}`"),
            Why::Shape { name, expected, found } => {
                format!("`{path}` is {}×{} where `{name}` is {}×{}", found.0, found.1, expected.0, expected.1)
            }
        }
    });
    list("no place in the model", unmatched.collect());
    let unknown = adapter.keys.unknown.iter().map(|u| {
        let name = adapter.opened.model.stored.get(u.key).map_or("", |s| s.name.as_str());
        format!("`{name}` ({})", u.why)
    });
    list("not understood", unknown.collect());
    for (n, what) in [(found.text_encoder, "a text encoder"), (found.model, "a diffusion model")] {
        if n > 0 {
            out.push(format!("{}: {n} modules are for {what}, which this is not", wish.path));
        }
    }
    out
}

impl Adapters {
    /// Magnitudes of inputs are by the norms of all rows of a layer: where these lie in several tensors, or beside
    /// another's in one, what is read of one does not tell.
    fn check_split(&self) -> Result<()> {
        let mut places: HashMap<(usize, usize), u32> = HashMap::new();
        for (number, update) in self.updates.iter().flatten().filter(|(_, u)| u.field == Field::Weight) {
            *places.entry((*number, update.module)).or_default() += 1;
        }
        for (id, updates) in self.updates.iter().enumerate() {
            for (number, update) in updates {
                let is_split = places.get(&(*number, update.module)).is_some_and(|n| *n > 1);
                let module = self.all.get(*number).and_then(|a| a.keys.modules.get(update.module));
                let Some(module) = module.filter(|_| is_split) else { continue };
                if module.arrays.iter().any(|(role, _)| matches!(role, Role::DoraScale | Role::Magnitude))
                    && self
                        .deltas(TensorId(id as u32))?
                        .iter()
                        .any(|(delta, _, u)| u == update && delta.needs_column_norms())
                {
                    return Err(Error::failed(format!(
                        "--lora: `{}` has a magnitude for each input of a layer that lies in several tensors here; merge \
                         it into the model as its makers call its tensors",
                        name::clean(&module.path)
                    )));
                }
            }
        }
        Ok(())
    }

    /// The changes of a tensor, made of their factors.
    fn deltas(&self, id: TensorId) -> Result<Vec<(Delta, f32, Update)>> {
        let missing = || Error::failed("an adapter changes a tensor that is not there");
        let updates = self.updates.get(id.index()).ok_or_else(missing)?;
        let (inputs, transposed) = self.inputs.get(id.index()).ok_or_else(missing)?;
        updates
            .iter()
            .map(|(number, update)| {
                let adapter = self.all.get(*number).ok_or_else(missing)?;
                let module = adapter.keys.modules.get(update.module).ok_or_else(missing)?;
                let arrays = module.arrays.iter().map(|(role, i)| Ok((*role, adapter.array(*i)?)));
                let arrays = arrays.collect::<Result<Vec<_>>>()?;
                let scale = adapter.config.scale(&module.path);
                let delta = Delta::new(module, update.field, arrays, inputs, *transposed, scale)?;
                Ok((delta, adapter.strength, update.clone()))
            })
            .collect()
    }
}

impl Adapter {
    /// An array as numbers.
    fn array(&self, index: usize) -> Result<Array> {
        let missing = || Error::failed("an adapter's array is not there");
        let stored = self.opened.model.stored.get(index).ok_or_else(missing)?;
        if !stored.storage.is_float() {
            return Err(Error::failed(format!("`{}` holds {}, not floats", stored.name, stored.storage.name())));
        }
        let mut bytes = vec![0; stored.span.len as usize];
        self.opened.blobs[stored.span.file as usize].read_at(stored.span.offset, &mut bytes)?;
        let mut data = vec![0.0; stored.shape.iter().product::<u64>() as usize];
        cast::decode(stored.storage, &bytes, &mut data);
        Ok(Array { key: stored.name.clone(), shape: stored.shape.clone(), data })
    }
}

impl Changes for Adapters {
    fn memory(&self, id: TensorId) -> u64 {
        let arrays = self.updates.get(id.index()).into_iter().flatten().flat_map(|(number, update)| {
            let adapter = self.all.get(*number);
            let module = adapter.and_then(|a| a.keys.modules.get(update.module));
            let arrays = module.into_iter().flat_map(|m| &m.arrays);
            arrays
                .filter_map(move |(_, i)| adapter?.opened.model.stored.get(*i))
                .map(|s| s.shape.iter().product::<u64>())
        });
        // As they are read, and as the factors that are made of them.
        arrays.fold(0u64, |sum, n| sum.saturating_add(n.saturating_mul(8)))
    }
    fn blobs(&self) -> Vec<&Blob> {
        self.all.iter().flat_map(|adapter| &adapter.opened.blobs).collect()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Values of a tensor with its adapters merged into them.
struct Merged {
    inner: Box<dyn Values>,
    deltas: Vec<(Delta, f32, Update)>,
    norms: Vec<Option<Norms>>,
}

/// Lays a tensor's changes over its values, which are read as a matrix of its first dimension by the others.
pub(super) fn over(opened: &Opened, id: TensorId, inner: Box<dyn Values>) -> Result<Box<dyn Values>> {
    let changes = opened.changes.as_ref().and_then(|c| c.as_any().downcast_ref::<Adapters>());
    let Some(changes) = changes else { return Ok(inner) };
    let deltas = changes.deltas(id).map_err(|e| e.at(format!("tensor `{}`", opened.model.tensor(id).name)))?;
    let mut merged = Merged { inner, norms: vec![None; deltas.len()], deltas };
    merged.find_norms()?;
    Ok(Box::new(merged))
}

impl Merged {
    fn steps(&self) -> Vec<Step<'_>> {
        let steps = self.deltas.iter().zip(&self.norms);
        steps
            .map(|((delta, strength, update), norms)| Step {
                delta,
                strength: *strength,
                rows: update.rows.clone(),
                change: update.delta.clone(),
                norms: norms.clone(),
            })
            .collect()
    }

    /// Norms of columns need the whole tensor before any of it can be changed.
    fn find_norms(&mut self) -> Result<()> {
        let g = self.inner.geometry();
        for which in lora::in_need_of_norms(&self.steps()) {
            let mut steps = self.steps();
            let mut slab = Vec::new();
            for i in 0..g.slabs() {
                self.inner.read(g.slab(i), &mut slab)?;
                lora::accumulate(&mut steps, which, g.slab(i).start, g.cols, &mut slab)?;
            }
            let found = steps.into_iter().nth(which).and_then(|s| s.norms);
            if let Some(norms) = self.norms.get_mut(which) {
                *norms = found;
            }
        }
        Ok(())
    }
}

impl Values for Merged {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }
    fn read(&self, rows: std::ops::Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        self.inner.read(rows.clone(), out)?;
        lora::merge(&self.steps(), rows.start, self.inner.geometry().cols, out)
    }
}

#[cfg(test)]
mod tests;
