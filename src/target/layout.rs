//! Where everything lies in the output: files, offsets, headers, and what stands beside the weights. Known to the byte
//! before any weight is read.
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::metadata::{self, Facts};
use crate::core::dtype::Storage;
use crate::core::plan::{Plan, Row};
use crate::core::{Error, Loss, Model, Result, Settings};
use crate::format::safetensors::{Entry, write_header};

/// What an output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// One file.
    File,
    /// A folder. The weights lie in `weights` within it and are called `stem.safetensors`, or shards of that.
    Folder {
        /// Relative; empty for the folder itself.
        weights: PathBuf,
        /// `model`, `diffusion_pytorch_model`.
        stem: String,
        /// Bytes of tensors that a shard may hold.
        max_shard: Option<u64>,
    },
}

/// What a layout is made for.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// What was opened.
    pub model: &'a Model,
    /// What was chosen.
    pub settings: &'a Settings,
    /// What is written.
    pub output: Output,
}

impl Context<'_> {
    /// Whether a folder is written.
    pub fn is_folder(&self) -> bool {
        matches!(self.output, Output::Folder { .. })
    }
}

/// What an output says of itself besides its tensors.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Header metadata of every weight file.
    pub metadata: Vec<(String, String)>,
    /// Facts of a row that is described.
    pub of_row: Option<fn(&Row, &Model) -> Facts>,
    /// Facts as a tensor beside each layer (`true`) or in the header.
    pub by_tensor: bool,
    /// Small files beside the weights, by name.
    pub sidecars: Vec<(String, Vec<u8>)>,
}

/// One weight file of an output.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path within the output; the output's own name for a single file.
    pub name: PathBuf,
    /// Its length.
    pub bytes: u64,
    rows: Vec<usize>,
    entries: Vec<Entry>,
    header: u64,
}

/// An output, to the byte.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The weight files.
    pub files: Vec<File>,
    /// Other files that are written, relative to the output.
    pub sidecars: Vec<(PathBuf, Vec<u8>)>,
    description: Description,
    /// (row, part) → (file, offset in the file).
    places: HashMap<(usize, usize), (usize, u64)>,
    /// row → (file, offset) of its description.
    described: HashMap<usize, (usize, u64)>,
    facts: Vec<Option<Facts>>,
}

impl Layout {
    /// Lays a plan out.
    pub fn new(plan: &Plan, context: &Context) -> Result<Self> {
        let description = super::get(plan.family).description(plan, context)?;
        let facts: Vec<Option<Facts>> = plan
            .rows
            .iter()
            .map(|row| description.of_row.map(|f| f(row, context.model)).filter(|f| !f.is_empty() && !row.excluded))
            .collect();
        let mut layout = Self {
            files: Vec::new(),
            sidecars: Vec::new(),
            description,
            places: HashMap::new(),
            described: HashMap::new(),
            facts,
        };
        let shards = match &context.output {
            Output::Folder { max_shard: Some(max), .. } => split(plan, *max),
            _ => vec![(0..plan.rows.len()).collect()],
        };
        check_names(plan)?;
        let count = shards.len();
        for (i, rows) in shards.into_iter().enumerate() {
            let name = match &context.output {
                Output::File => PathBuf::new(),
                Output::Folder { weights, stem, .. } if count == 1 => weights.join(format!("{stem}.safetensors")),
                Output::Folder { weights, stem, .. } => {
                    weights.join(format!("{stem}-{:05}-of-{count:05}.safetensors", i + 1))
                }
            };
            layout.add_file(plan, name, rows);
        }
        if let Output::Folder { weights, stem, .. } = &context.output {
            let sidecars = std::mem::take(&mut layout.description.sidecars);
            layout.sidecars = sidecars.into_iter().map(|(name, bytes)| (weights.join(name), bytes)).collect();
            if count > 1 {
                layout.sidecars.push((weights.join(format!("{stem}.safetensors.index.json")), layout.index()));
            }
        }
        Ok(layout)
    }

    fn add_file(&mut self, plan: &Plan, name: PathBuf, rows: Vec<usize>) {
        let file = self.files.len();
        /// A part of a row, or (`None`) its description.
        type Array = (Option<(usize, usize)>, usize, Entry);
        let mut arrays: Vec<Array> = Vec::new();
        for &row in &rows {
            for (part, p) in plan.rows[row].parts.iter().enumerate() {
                let entry = Entry {
                    name: p.name.clone(),
                    storage: p.storage,
                    shape: p.shape.clone(),
                    offset: 0,
                    len: p.bytes(),
                };
                arrays.push((Some((row, part)), row, entry));
            }
            if let Some(facts) = self.facts[row].as_ref().filter(|_| self.description.by_tensor) {
                let len = metadata::text(facts, None).len() as u64;
                let name = metadata::tensor_name(crate::core::name::layer(&plan.rows[row].name));
                arrays.push((None, row, Entry { name, storage: Storage::U8, shape: vec![len], offset: 0, len }));
            }
        }
        // Wide elements first, so that every array is aligned to its own element; loaders view them in place.
        arrays.sort_by_key(|(_, _, e)| std::cmp::Reverse(e.storage.bitsize()));
        let mut at = 0;
        for (_, _, entry) in &mut arrays {
            entry.offset = at;
            at += entry.len;
        }
        let entries: Vec<Entry> = arrays.iter().map(|(_, _, e)| e.clone()).collect();
        let header = write_header(&self.metadata(&rows, plan, &|_| None), &entries).len() as u64;
        for (place, row, entry) in &arrays {
            match place {
                Some(key) => drop(self.places.insert(*key, (file, header + entry.offset))),
                None => drop(self.described.insert(*row, (file, header + entry.offset))),
            }
        }
        self.files.push(File { name, bytes: header + at, rows, entries, header });
    }

    fn metadata(&self, rows: &[usize], plan: &Plan, loss: &dyn Fn(usize) -> Option<Loss>) -> Vec<(String, String)> {
        let mut pairs = self.description.metadata.clone();
        if !self.description.by_tensor {
            let layers: Vec<String> = rows
                .iter()
                .filter_map(|&r| {
                    let facts = self.facts[r].as_ref()?;
                    let layer = Value::String(crate::core::name::layer(&plan.rows[r].name).to_owned());
                    Some(format!("{layer}:{}", metadata::text(facts, loss(r).as_ref())))
                })
                .collect();
            if !layers.is_empty() {
                pairs.push((metadata::HEADER_KEY.into(), format!("{{{}}}", layers.join(","))));
            }
        }
        pairs
    }

    fn index(&self) -> Vec<u8> {
        let mut map = serde_json::Map::new();
        let mut total = 0;
        for file in &self.files {
            let name = file.name.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            for entry in &file.entries {
                total += entry.len;
                map.insert(entry.name.clone(), json!(name));
            }
        }
        map.sort_keys();
        pretty(&json!({"metadata": {"total_size": total}, "weight_map": map}))
    }

    /// Where a part begins: which file, at which byte.
    pub fn place(&self, row: usize, part: usize) -> Result<(usize, u64)> {
        self.places
            .get(&(row, part))
            .copied()
            .ok_or_else(|| Error::failed(format!("part {part} of row {row} has no place in the output")))
    }

    /// The description of a row that stands as a tensor: file, offset, bytes.
    pub fn description_of(&self, row: usize, loss: &Loss) -> Option<(usize, u64, Vec<u8>)> {
        let (file, offset) = *self.described.get(&row)?;
        Some((file, offset, metadata::text(self.facts[row].as_ref()?, Some(loss)).into_bytes()))
    }

    /// The header of a file, once its losses are known. It has the length that was planned.
    pub fn header(&self, plan: &Plan, file: usize, loss: &dyn Fn(usize) -> Option<Loss>) -> Result<Vec<u8>> {
        let f = &self.files[file];
        let bytes = write_header(&self.metadata(&f.rows, plan, loss), &f.entries);
        if bytes.len() as u64 != f.header {
            return Err(Error::failed(format!(
                "a header came out at {} bytes, planned were {}",
                bytes.len(),
                f.header
            )));
        }
        Ok(bytes)
    }

    /// Bytes of all weight files.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// Rows into shards of at most so many bytes of tensors; a row is never split.
fn split(plan: &Plan, max: u64) -> Vec<Vec<usize>> {
    let mut shards: Vec<Vec<usize>> = vec![Vec::new()];
    let mut filled = 0u64;
    for (i, row) in plan.rows.iter().enumerate() {
        let bytes = row.bytes_after();
        if filled > 0 && filled.saturating_add(bytes) > max {
            shards.push(Vec::new());
            filled = 0;
        }
        if let Some(shard) = shards.last_mut() {
            shard.push(i);
        }
        filled = filled.saturating_add(bytes);
    }
    shards
}

fn check_names(plan: &Plan) -> Result<()> {
    let mut seen = HashSet::new();
    for part in plan.rows.iter().flat_map(|r| &r.parts) {
        if !seen.insert(part.name.as_str()) {
            return Err(Error::failed(format!(
                "two tensors of the output would be called `{}`; exclude the layer it belongs to",
                part.name
            )));
        }
    }
    Ok(())
}

/// JSON as people keep it.
pub fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}").into_bytes();
    text.push(b'\n');
    text
}
