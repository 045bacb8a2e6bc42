//! Where everything lies in the output: files, offsets, headers, and what stands beside the weights. Known to the byte
//! before any weight is read.
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::gguf::file;
use super::metadata::{self, Facts};
use crate::core::dtype::Storage;
use crate::core::plan::{Plan, Row};
use crate::core::{Error, Family, Loss, Model, Result, Settings};
use crate::format::safetensors::{Entry, MAX_HEADER, METADATA, write_header};
use crate::format::{Files, Opened, gguf};

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
    /// Headers of the model's files, where they are GGUF.
    pub headers: &'a [Arc<gguf::Header>],
    /// Files that lie around the weights.
    pub files: Files<'a>,
}

impl<'a> Context<'a> {
    /// For an output of an opened model.
    pub fn of(opened: &'a Opened, settings: &'a Settings, output: Output) -> Self {
        Self { model: &opened.model, settings, output, headers: &opened.gguf, files: Files::of(opened) }
    }
    /// Whether a folder is written.
    pub fn is_folder(&self) -> bool {
        matches!(self.output, Output::Folder { .. })
    }
}

/// Makes the tensor of bytes that stands beside a row: its name, its bytes.
pub type Beside = fn(&Row) -> Option<(String, Vec<u8>)>;

/// What an output says of itself besides its tensors.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Header metadata of every weight file.
    pub metadata: Vec<(String, String)>,
    /// Facts of a row that is described.
    pub of_row: Option<fn(&Row, &Model) -> Facts>,
    /// What the consumer wants to be told of a row, as a tensor of bytes beside it.
    pub beside: Option<Beside>,
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
    body: Body,
}

/// What its header is made of.
#[derive(Clone, Debug)]
enum Body {
    Safetensors { entries: Vec<Entry>, header: u64 },
    Gguf(Box<file::Body>),
}

impl File {
    /// Its arrays, where it is safetensors.
    fn entries(&self) -> &[Entry] {
        match &self.body {
            Body::Safetensors { entries, .. } => entries,
            Body::Gguf(_) => &[],
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Place {
    file: usize,
    parts: Vec<u64>,
    described: Option<u64>,
    beside: Option<u64>,
}

/// What an array of the output is of its row.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Part(usize),
    Description,
    Beside,
}

/// An output, to the byte.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The weight files.
    pub files: Vec<File>,
    /// Other files that are written, relative to the output.
    pub sidecars: Vec<(PathBuf, Vec<u8>)>,
    /// What a person should know of what the files say.
    pub warnings: Vec<String>,
    description: Description,
    /// By row: which file, and where in it each part and the description begin.
    places: Vec<Place>,
}

impl Layout {
    /// Lays a plan out.
    pub fn new(plan: &Plan, context: &Context) -> Result<Self> {
        let description = super::get(plan.family).description(plan, context)?;
        let places = vec![Place::default(); plan.rows.len()];
        let mut layout = Self { files: Vec::new(), sidecars: Vec::new(), warnings: Vec::new(), description, places };
        if plan.family == Family::Gguf {
            layout.add_gguf(plan, context)?;
            return Ok(layout);
        }
        let shards = match &context.output {
            Output::Folder { max_shard: Some(max), .. } => split(plan, *max),
            _ => vec![(0..plan.rows.len()).collect()],
        };
        let count = shards.len();
        for (i, rows) in shards.into_iter().enumerate() {
            let name = match &context.output {
                Output::File => PathBuf::new(),
                Output::Folder { weights, stem, .. } if count == 1 => weights.join(format!("{stem}.safetensors")),
                Output::Folder { weights, stem, .. } => {
                    weights.join(format!("{stem}-{:05}-of-{count:05}.safetensors", i + 1))
                }
            };
            layout.add_file(plan, context.model, name, rows)?;
        }
        layout.check_names()?;
        if let Output::Folder { weights, stem, .. } = &context.output {
            let sidecars = std::mem::take(&mut layout.description.sidecars);
            layout.sidecars = sidecars.into_iter().map(|(name, bytes)| (weights.join(name), bytes)).collect();
            if count > 1 {
                layout.sidecars.push((weights.join(format!("{stem}.safetensors.index.json")), layout.index()));
            }
        }
        Ok(layout)
    }

    /// What is said of a row, if anything is.
    fn facts(&self, row: &Row, model: &Model) -> Option<Facts> {
        self.description.of_row.filter(|_| !row.excluded).map(|f| f(row, model)).filter(|f| !f.is_empty())
    }

    fn add_gguf(&mut self, plan: &Plan, context: &Context) -> Result<()> {
        let max = match &context.output {
            Output::Folder { max_shard, .. } => *max_shard,
            Output::File => None,
        };
        let division = match max {
            _ if context.settings.gguf.keep_split => file::Division::Kept,
            Some(max) => file::Division::Size(max),
            None => file::Division::One,
        };
        let laid = file::bodies(plan, context.model, context.headers, &context.files, context.settings, division)?;
        self.warnings = laid.warnings;
        let count = laid.bodies.len();
        for (i, (rows, body)) in laid.bodies.into_iter().enumerate() {
            let name = match &context.output {
                Output::File if count > 1 => {
                    return Err(Error::usage("--keep-split writes several files; name a folder for them"));
                }
                Output::File => PathBuf::new(),
                Output::Folder { weights, stem, .. } if count == 1 => weights.join(format!("{stem}.gguf")),
                Output::Folder { weights, stem, .. } => weights.join(gguf::split::name(stem, i, count)),
            };
            for (row, offset) in rows.iter().zip(&body.places.offsets) {
                self.places[*row] = Place { file: i, parts: vec![body.places.header + offset], ..Place::default() };
            }
            self.files.push(File { name, bytes: body.places.total, rows, body: Body::Gguf(Box::new(body)) });
        }
        Ok(())
    }

    fn add_file(&mut self, plan: &Plan, model: &Model, name: PathBuf, rows: Vec<usize>) -> Result<()> {
        let file = self.files.len();
        let mut arrays: Vec<(usize, Slot, Entry)> = Vec::new();
        let text = |name: String, len: u64| Entry { name, storage: Storage::U8, shape: vec![len], offset: 0, len };
        for &row in &rows {
            for (part, p) in plan.rows[row].parts.iter().enumerate() {
                let (name, shape) = (p.name.clone(), p.shape.clone());
                let entry = Entry { name, storage: p.storage, shape, offset: 0, len: p.bytes() };
                arrays.push((row, Slot::Part(part), entry));
            }
            if let Some((name, bytes)) = self.description.beside.and_then(|f| f(&plan.rows[row])) {
                arrays.push((row, Slot::Beside, text(name, bytes.len() as u64)));
            }
            if !self.description.by_tensor {
                continue;
            }
            if let Some(facts) = self.facts(&plan.rows[row], model) {
                let len = metadata::text(&facts, None).len() as u64;
                let name = metadata::tensor_name(crate::core::name::layer(&plan.rows[row].name));
                arrays.push((row, Slot::Description, text(name, len)));
            }
        }
        // Wide elements first, so that every array is aligned to its own element; loaders view them in place.
        arrays.sort_by_key(|(_, _, e)| std::cmp::Reverse(e.storage.bitsize()));
        let mut at = 0;
        for (_, _, entry) in &mut arrays {
            entry.offset = at;
            at += entry.len;
        }
        let mut slots = Vec::with_capacity(arrays.len());
        let mut entries = Vec::with_capacity(arrays.len());
        for (row, slot, entry) in arrays {
            slots.push((row, slot));
            entries.push(entry);
        }
        let header = write_header(&self.metadata(&rows, plan, model, &|_| None), &entries).len() as u64;
        if header - 8 > MAX_HEADER {
            return Err(Error::failed(format!(
                "the header of the output would be {header} bytes long, and loaders read at most {MAX_HEADER}; \
                 write shards (--max-shard-size) or, for sdnq, --metadata-tensors"
            )));
        }
        for ((row, slot), entry) in slots.into_iter().zip(&entries) {
            let place = &mut self.places[row];
            place.file = file;
            place.parts.resize(plan.rows[row].parts.len(), 0);
            match slot {
                Slot::Part(part) => place.parts[part] = header + entry.offset,
                Slot::Description => place.described = Some(header + entry.offset),
                Slot::Beside => place.beside = Some(header + entry.offset),
            }
        }
        self.files.push(File { name, bytes: header + at, rows, body: Body::Safetensors { entries, header } });
        Ok(())
    }

    /// No two arrays of the output may have one name, descriptions included.
    fn check_names(&self) -> Result<()> {
        let mut seen = HashSet::new();
        for entry in self.files.iter().flat_map(File::entries) {
            if !seen.insert(entry.name.as_str()) {
                return Err(Error::failed(format!(
                    "two tensors of the output would be called `{}`; exclude the layer it belongs to",
                    entry.name
                )));
            }
            if entry.name == METADATA {
                return Err(Error::failed(format!("a tensor cannot be called `{METADATA}` in a safetensors file")));
            }
        }
        Ok(())
    }

    fn metadata(
        &self,
        rows: &[usize],
        plan: &Plan,
        model: &Model,
        loss: &dyn Fn(usize) -> Option<Loss>,
    ) -> Vec<(String, String)> {
        let mut pairs = self.description.metadata.clone();
        if self.description.by_tensor {
            return pairs;
        }
        let mut layers = String::new();
        for &r in rows {
            let Some(facts) = self.facts(&plan.rows[r], model) else { continue };
            layers.push(if layers.is_empty() { '{' } else { ',' });
            let layer = crate::core::name::layer(&plan.rows[r].name);
            layers.push_str(&Value::from(layer).to_string());
            layers.push(':');
            layers.push_str(&metadata::text(&facts, loss(r).as_ref()));
        }
        if !layers.is_empty() {
            layers.push('}');
            pairs.push((metadata::HEADER_KEY.into(), layers));
        }
        pairs
    }

    fn index(&self) -> Vec<u8> {
        let mut map = serde_json::Map::new();
        let mut total = 0;
        for file in &self.files {
            let name = file.name.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            for entry in file.entries() {
                total += entry.len;
                map.insert(entry.name.clone(), json!(name));
            }
        }
        map.sort_keys();
        pretty(&json!({"metadata": {"total_size": total}, "weight_map": map}))
    }

    /// Where a part begins: which file, at which byte.
    pub fn place(&self, row: usize, part: usize) -> Result<(usize, u64)> {
        let place = self.places.get(row).and_then(|p| Some((p.file, *p.parts.get(part)?)));
        place.ok_or_else(|| Error::failed(format!("part {part} of row {row} has no place in the output")))
    }

    /// The description of a row that stands as a tensor: file, offset, bytes.
    pub fn description_of(&self, plan: &Plan, model: &Model, row: usize, loss: &Loss) -> Option<(usize, u64, Vec<u8>)> {
        let place = self.places.get(row)?;
        let facts = self.facts(&plan.rows[row], model)?;
        Some((place.file, place.described?, metadata::text(&facts, Some(loss)).into_bytes()))
    }

    /// What stands beside a row for its consumer: file, offset, bytes.
    pub fn beside(&self, plan: &Plan, row: usize) -> Option<(usize, u64, Vec<u8>)> {
        let place = self.places.get(row)?;
        let (_, bytes) = self.description.beside?(plan.rows.get(row)?)?;
        Some((place.file, place.beside?, bytes))
    }

    /// The header of a file, once its losses are known. It has the length that was planned.
    pub fn header(
        &self,
        plan: &Plan,
        model: &Model,
        file: usize,
        loss: &dyn Fn(usize) -> Option<Loss>,
    ) -> Result<Vec<u8>> {
        let f = &self.files[file];
        let (bytes, planned) = match &f.body {
            Body::Safetensors { entries, header } => {
                (write_header(&self.metadata(&f.rows, plan, model, loss), entries), *header)
            }
            Body::Gguf(body) => (body.header(plan, loss), body.places.header),
        };
        if bytes.len() as u64 != planned {
            return Err(Error::failed(format!("a header came out at {} bytes, planned were {planned}", bytes.len())));
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

/// JSON as people keep it.
pub fn pretty(value: &Value) -> Vec<u8> {
    let mut text = crate::format::json::write(value).into_bytes();
    text.push(b'\n');
    text
}
