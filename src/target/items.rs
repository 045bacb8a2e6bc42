//! What the tensors of an output are made of, where its consumer calls them otherwise than the source: some are several
//! of the source's in one, some a part of one.
use super::names::{self, Mapped, Unmapped};
use crate::core::model::{Encoding, Tensor};
use crate::core::options::Names;
use crate::core::plan::{Action, Row, Slice};
use crate::core::rules::{Cause, Decision, Search};
use crate::core::{Model, Patch, Settings, Storage, TensorId, name};

/// A tensor of the output before anything is done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name there, its shape, and what its values are now.
    pub tensor: Tensor,
    /// What it is made of.
    pub sources: Vec<TensorId>,
    /// Rows of these, one after another; none: the first as a whole.
    pub slices: Vec<Slice>,
}

/// The items of a model for a layout of names, or `None` where every tensor is its own; and what a person should know.
pub fn items(model: &Model, wanted: Names) -> (Option<Vec<Item>>, Vec<String>) {
    let tensors: Vec<(&str, &[u64])> = model.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let mapped = match wanted {
        Names::Source => return (None, Vec::new()),
        Names::Original => names::to_original(&tensors),
        Names::Diffusers => names::to_diffusers(&tensors),
    };
    match mapped {
        Ok(mapped) => (Some(of(model, &mapped)), strangers(model, &mapped)),
        Err(Unmapped::Already(_)) => (None, Vec::new()),
        Err(Unmapped::Unrecognised) if wanted == Names::Original => (None, Vec::new()),
        Err(why) => (None, vec![format!("tensors keep their names: {}", name::clean(&why.to_string()))]),
    }
}

/// What is said of tensors of blocks that the family does not have: its consumer will not know them either.
fn strangers(model: &Model, mapped: &Mapped) -> Vec<String> {
    let numbered = |n: &&str| n.split('.').any(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    let names = mapped.unknown.iter().filter_map(|i| model.tensors.get(*i)).map(|t| t.name.as_str());
    // Of a checkpoint with a prefix, what lacks it is another model.
    let own = names.filter(|n| mapped.prefix.is_empty() || n.starts_with(mapped.prefix)).filter(numbered);
    let own: Vec<&str> = own.collect();
    match own[..] {
        [] => Vec::new(),
        [first, ..] => vec![format!(
            "{} tensors keep their names, `{}` for one: {} models have none that are called so",
            own.len(),
            name::clean(first),
            mapped.family
        )],
    }
}

/// A model's tensors under the names of a layout, each a row that leaves it as it is.
pub fn rows(model: &Model, wanted: Names) -> Vec<Row> {
    let said = Decision { patch: Patch::default(), kept_by: None, by: Cause::Defaults };
    let kept = |tensor: &Tensor, id: TensorId| super::kept(tensor, id, &said, None);
    match items(model, wanted).0 {
        None => model.ids().map(|id| kept(model.tensor(id), id)).collect(),
        Some(items) => {
            let row = |item: &Item| Some(finish(model, item, kept(&item.tensor, *item.sources.first()?)));
            items.iter().filter_map(row).collect()
        }
    }
}

fn of(model: &Model, mapped: &Mapped) -> Vec<Item> {
    let mut items: Vec<Item> = mapped
        .tensors
        .iter()
        .filter_map(|renamed| {
            let mut sources: Vec<TensorId> = Vec::new();
            let mut slices = Vec::new();
            for piece in &renamed.pieces {
                let id = TensorId(piece.source as u32);
                let source = sources.iter().position(|s| *s == id).unwrap_or_else(|| {
                    sources.push(id);
                    sources.len() - 1
                });
                slices.push(Slice::of_rows(source, piece.rows.clone()));
            }
            Some(Item { tensor: joined(model, &renamed.name, &sources, &slices)?, sources, slices })
        })
        .collect();
    items.extend(mapped.unknown.iter().filter_map(|i| {
        let tensor = model.tensors.get(*i)?.clone();
        Some(Item { tensor, sources: vec![TensorId(*i as u32)], slices: Vec::new() })
    }));
    for item in &mut items {
        if let ([id], [slice]) = (&item.sources[..], &item.slices[..])
            && slice.rows == (0..model.tensor(*id).rows())
        {
            item.slices.clear();
        }
    }
    items
}

/// Some rows of some tensors as one.
fn joined(model: &Model, name: &str, sources: &[TensorId], slices: &[Slice]) -> Option<Tensor> {
    let all = || sources.iter().map(|id| model.tensor(*id));
    let first = all().next()?;
    let mut shape = first.shape.clone();
    if let Some(rows) = shape.first_mut() {
        *rows = slices.iter().map(|s| s.rows.end - s.rows.start).sum();
    }
    let bytes = slices.iter().filter_map(|s| {
        let tensor = model.tensor(*sources.get(s.source)?);
        Some(
            (u128::from(tensor.bytes) * u128::from(s.rows.end - s.rows.start) / u128::from(tensor.rows().max(1)))
                as u64,
        )
    });
    let wide = |s: Storage| matches!(s, Storage::F32 | Storage::F64);
    let packed = all().find(|t| matches!(t.encoding, Encoding::Packed { .. })).unwrap_or(first);
    Some(Tensor {
        name: name.to_owned(),
        shape,
        storage: all().map(|t| t.storage).find(|s| wide(*s)).unwrap_or(first.storage),
        bytes: bytes.sum(),
        encoding: packed.encoding.clone(),
        merged: all().any(|t| t.merged),
    })
}

/// What is said of an item: under the name of a source that something is set for, else of the first; or under its own.
pub fn decide(model: &Model, settings: &Settings, search: &Search, item: &Item) -> Decision {
    let mut names: Vec<&str> = item.sources.iter().map(|id| model.tensor(*id).name.as_str()).collect();
    names.push(&item.tensor.name);
    if let Some(set) = names.iter().position(|n| settings.overrides.contains_key(*n)) {
        names.swap(0, set);
    }
    settings.decide_found(search, &names)
}

/// A row that was resolved for an item's tensor as if that were the model's own.
pub fn finish(model: &Model, item: &Item, mut row: Row) -> Row {
    row.sources.clone_from(&item.sources);
    row.slices.clone_from(&item.slices);
    row.bytes_before = item.tensor.bytes;
    let mut types: Vec<(Storage, bool)> = Vec::new();
    for id in &item.sources {
        let tensor = model.tensor(*id);
        types.push((tensor.storage, matches!(tensor.encoding, Encoding::Plain(_))));
    }
    // Bytes of several types do not become one tensor by being copied.
    if row.action == Action::Copy && types.iter().any(|t| *t != types[0]) {
        let storage = super::castable(item.tensor.storage);
        row.action = Action::Cast(storage);
        row.parts.iter_mut().for_each(|part| part.storage = storage);
    }
    row
}
