//! The files of a GGUF output: which tensors each has, its keys, and where its bytes lie.
use std::collections::HashSet;
use std::sync::Arc;

use super::hf::general::Parameters;
use super::hf::{self, Mapped};
use super::metadata::{self, About, Losses};
use super::mixtures::keys;
use super::sheet::Sheet;
use crate::core::plan::{Plan, Row};
use crate::core::{Error, Loss, Model, Result, Settings};
use crate::format::Files;
use crate::format::gguf::write::{Entry, Limits, Places, places, write_header};
use crate::format::gguf::{ALIGNMENT, Header, Pair, Type, split};

/// How many files, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Division {
    /// One file.
    One,
    /// As many as it takes for none to have more bytes of tensors.
    Size(u64),
    /// Those of the source.
    Kept,
}

/// Files as they will lie.
#[derive(Clone, Debug)]
pub struct Laid {
    /// Rows and body of each.
    pub bodies: Vec<(Vec<usize>, Body)>,
    /// What a person should know of the keys.
    pub warnings: Vec<String>,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Body {
    keys: Vec<Pair>,
    entries: Vec<Entry>,
    /// Where everything lies.
    pub places: Places,
    /// What it says of itself, in the first file.
    about: Option<About>,
}

impl Body {
    /// The header, once losses are known.
    pub fn header(&self, plan: &Plan, loss: &dyn Fn(usize) -> Option<Loss>) -> Vec<u8> {
        write_header(&self.all_keys(Some(&losses(plan, self.about.as_ref(), loss))), &self.entries, &self.places)
    }

    fn all_keys(&self, losses: Option<&Losses>) -> Vec<Pair> {
        let mut keys = self.keys.clone();
        for pair in self.about.iter().flat_map(|about| metadata::entries(about, losses)) {
            keys::Edit::Append(pair).apply(&mut keys);
        }
        keys
    }
}

/// What is known when all weights are written.
fn losses(plan: &Plan, about: Option<&About>, loss: &dyn Fn(usize) -> Option<Loss>) -> Losses {
    let mut all = Losses::default();
    let (mut error, mut elements) = (0.0, 0.0);
    for (i, row) in plan.rows.iter().enumerate() {
        let Some(loss) = loss(i) else { continue };
        error += loss.mse * row.elements() as f64;
        elements += row.elements() as f64;
        all.max_error = all.max_error.max(loss.max_error as f32);
        if about.is_some_and(|a| a.tensors.is_some()) {
            all.mse_of.push(loss.mse as f32);
            all.max_error_of.push(loss.max_error as f32);
        }
    }
    all.mse = if elements > 0.0 { (error / elements) as f32 } else { 0.0 };
    all
}

/// Lays the files out; `around` are those that lie around the source's weights.
pub fn bodies(
    plan: &Plan,
    model: &Model,
    headers: &[Arc<Header>],
    around: &Files,
    settings: &Settings,
    division: Division,
) -> Result<Laid> {
    let sheet = Sheet::new(model, settings)?;
    let (keys, warnings) = match (&sheet.mapped, &sheet.diffusion) {
        (Some(mapped), _) => made(mapped, &sheet, model, around, settings.gguf.pre.as_deref())?,
        (None, Some(diffusion)) => (diffusion.keys(), Vec::new()),
        (None, None) => (keys_of(headers), Vec::new()),
    };
    let keys = edited(&sheet, keys);
    let names: Vec<&[u8]> = headers.iter().flat_map(|h| h.tensors.iter().map(|t| &*t.name)).collect();
    let entries: Vec<Entry> = plan.rows.iter().map(|row| entry(row, model, &names)).collect::<Result<_>>()?;
    let mut seen = HashSet::new();
    if let Some(twice) = entries.iter().find(|e| !seen.insert(&e.name)) {
        let name = String::from_utf8_lossy(&twice.name);
        return Err(Error::failed(format!("two tensors of the output would be called `{name}`")));
    }
    let limits = if sheet.diffusion.is_some() { Limits::DIFFUSION } else { limits(headers) };
    let alignment = crate::format::gguf::alignment(&keys).map_err(Error::failed)?;
    let padded: Vec<u64> = plan.rows.iter().map(|r| r.bytes_after().next_multiple_of(alignment)).collect();
    let files = match division {
        Division::Kept if model.files.len() > 1 => {
            let file = |row: &Row| sheet.file_of(row);
            // Rows stand in the order of the source's files, some of which may have none.
            let mut at = 0;
            let range = |no: usize| {
                let start = at;
                at += plan.rows.iter().filter(|row| file(row) == no).count();
                start..at
            };
            (0..model.files.len()).map(range).collect()
        }
        Division::Size(max) => split::plan(&padded, Some(max), None),
        Division::One | Division::Kept => split::plan(&padded, None, None),
    };
    let about = about(&sheet, plan, model);
    let count = files.len();
    let mut bodies = Vec::with_capacity(count);
    for (no, rows) in files.into_iter().enumerate() {
        let keys = if count > 1 { split::keys(&keys, no, count, entries.len())? } else { keys.clone() };
        let entries = entries[rows.clone()].to_vec();
        let about = (no == 0).then(|| about.clone());
        let mut body = Body { keys, entries, places: Places::default(), about };
        body.places = places(&body.all_keys(None), &body.entries, limits)?;
        bodies.push((rows.collect(), body));
    }
    Ok(Laid { bodies, warnings })
}

/// The keys of a Hugging Face model, and what a person should know of them.
fn made(
    mapped: &Mapped,
    sheet: &Sheet,
    model: &Model,
    around: &Files,
    pre: Option<&str>,
) -> Result<(Vec<Pair>, Vec<String>)> {
    let parameters = Parameters::of(sheet.shapes());
    let table = sheet.shapes().find(|(name, _)| *name == "token_embd.weight");
    let rows = table.and_then(|(_, shape)| shape.first().copied());
    let made = hf::assemble::keys(mapped, model, around, parameters, rows, pre)?;
    Ok((made.keys, made.warnings))
}

/// The source's keys.
fn keys_of(headers: &[Arc<Header>]) -> Vec<Pair> {
    let mut keys: Vec<Pair> = headers.first().map(|h| h.keys.clone()).unwrap_or_default();
    // Usually the first file has them all.
    for pair in headers.iter().skip(1).flat_map(|h| split::without(&h.keys)) {
        if *pair.key != *ALIGNMENT.as_bytes() && !keys.iter().any(|p| p.key == pair.key) {
            keys.push(pair);
        }
    }
    keys
}

/// The keys with what quantizing changes.
fn edited(sheet: &Sheet, mut keys: Vec<Pair>) -> Vec<Pair> {
    let arch = sheet.architecture();
    if let Some(pruning) = &sheet.pruning {
        for pair in &mut keys {
            if pair.value.is_array() && pruning.is_per_layer(&arch, &pair.name(), pair.value.count()) {
                pair.value = pair.value.only(&pruning.kept());
            }
        }
    }
    let blocks = sheet.pruning.as_ref().map(|p| (arch.as_str(), p.block_count()));
    for edit in keys::edits(sheet.file_type(), &sheet.overrides, sheet.imatrix().as_ref(), blocks) {
        match edit {
            // What is made here has these two where llama.cpp's converter has them.
            keys::Edit::Append(pair) if sheet.is_made() && keys.iter().any(|p| p.key == pair.key) => {
                keys.iter_mut().filter(|p| p.key == pair.key).for_each(|p| p.value = pair.value.clone());
            }
            edit => edit.apply(&mut keys),
        }
    }
    keys
}

/// What readers of the source take, readers of the output take too.
fn limits(headers: &[Arc<Header>]) -> Limits {
    let names = headers.iter().flat_map(|h| &h.tensors);
    let beyond = names.clone().any(|t| t.name.len() > Limits::GGML.name || t.dims.len() > Limits::GGML.dims);
    if beyond { Limits::DIFFUSION } else { Limits::GGML }
}

fn entry(row: &Row, model: &Model, names: &[&[u8]]) -> Result<Entry> {
    let kind = Type::by_name(&row.to).ok_or_else(|| Error::failed(format!("GGUF has no type `{}`", row.to)))?;
    let mut entry = Entry::new(&row.name, &row.shape, kind);
    // A name may be no UTF-8; it is kept as it was.
    let own = row.sources.first().map(|id| model.tensor(*id)).filter(|t| t.name == row.name);
    if let Some(raw) = own.and_then(|t| t.sole_array()).and_then(|i| names.get(i as usize)) {
        entry.name = (*raw).into();
    }
    Ok(entry)
}

fn about(sheet: &Sheet, plan: &Plan, model: &Model) -> About {
    let mut counts: Vec<(String, u64)> = Vec::new();
    for row in &plan.rows {
        let elements = row.elements();
        match counts.iter_mut().find(|(from, _)| *from == row.from) {
            Some((_, n)) => *n += elements,
            None => counts.push((row.from.clone(), elements)),
        }
    }
    let most = counts.into_iter().max_by_key(|(_, n)| *n).map(|(from, _)| from).unwrap_or_default();
    let named = |key: &str| model.metadata().get(key).map(|s| (*s).to_owned());
    About {
        quantized: plan.rows.iter().any(|r| Type::by_name(&r.to).is_some_and(Type::is_quantized)),
        format: sheet.format().to_owned(),
        // Of what was quantized before, the type that it had at first.
        original_dtype: named("mixdown.original_dtype").unwrap_or(most),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tensors: sheet
            .embeds_loss()
            .then(|| plan.rows.iter().filter(|r| !r.excluded).map(|r| r.name.clone()).collect()),
    }
}
