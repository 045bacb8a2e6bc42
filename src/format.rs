//! Bytes on disk: opening models by their headers, reading spans of weights, saving atomically. Knows no quantization.
//!
//! Weights are read by position, never mapped: a file cut short under a map kills the process, and a map's pages
//! cannot be budgeted.
pub mod blob;
pub mod config;
mod cursor;
pub mod demo;
pub mod files;
pub mod find;
pub mod folder;
pub mod gguf;
pub mod hub;
pub mod imatrix;
pub mod json;
pub mod profiles;
pub mod safetensors;
pub mod save;
pub mod shards;
pub mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::model::{Encoding, FileInfo, Origin, Stored, plain_tensors};
use crate::core::{Error, Model, Result, Tensor, TensorId};

pub use blob::Blob;
pub use files::Files;

/// A model and the open files behind it.
#[derive(Debug)]
pub struct Opened {
    /// What the headers say.
    pub model: Arc<Model>,
    /// One for each of the model's files.
    pub blobs: Vec<Blob>,
    /// Files of the model's folder that are not its weights: an output folder is complete only with them.
    pub companions: Vec<Companion>,
    /// The index that named the weight files, where one did.
    pub index: Option<Index>,
    /// Names of safetensors files beside the weights that are not the model's.
    pub strays: Vec<String>,
    /// The header of each file of a GGUF model, in the order of `blobs`; none of another.
    pub gguf: Vec<Arc<gguf::Header>>,
    /// What changes tensors as they are read.
    pub changes: Option<Arc<dyn Changes>>,
}

/// Changes of a model's values that whoever reads them lays over them.
pub trait Changes: std::fmt::Debug + Send + Sync {
    /// Bytes that are held while a tensor is read.
    fn memory(&self, id: TensorId) -> u64;
    /// The files that they are read from.
    fn blobs(&self) -> Vec<&Blob>;
    /// Itself, for who knows what it is.
    fn as_any(&self) -> &dyn std::any::Any;
}

impl Opened {
    /// The files that values are read from: the model's, and those of what changes it.
    pub fn sources(&self) -> impl Iterator<Item = &Blob> {
        self.blobs.iter().chain(self.changes.iter().flat_map(|c| c.blobs()))
    }
    /// The model, while it is being recognised: later others hold it too, and would be left with the old one.
    pub fn model_mut(&mut self) -> &mut Model {
        Arc::make_mut(&mut self.model)
    }
}

/// What an index says that opening does not need.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Its file name.
    pub name: String,
    /// Bytes of all tensors, as it claims.
    pub total_size: Option<u64>,
    /// Tensors of its shards that it does not name.
    pub unnamed: Vec<String>,
}

/// A file that belongs to a model but holds no weights of it.
#[derive(Debug)]
pub struct Companion {
    /// Its path within the folder.
    pub relative: PathBuf,
    /// Its bytes, or where they are.
    pub content: Content,
}

/// Bytes that are at hand, or a file to copy.
#[derive(Clone, Debug)]
pub enum Content {
    /// In the binary.
    Embedded(&'static [u8]),
    /// On disk.
    File(PathBuf),
}

impl Content {
    /// All of it; for small files.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Embedded(bytes) => Ok(bytes.to_vec()),
            Self::File(path) => std::fs::read(path)
                .map_err(|e| Error::failed(format!("{}: cannot be read: {e}", path.display())).because(e)),
        }
    }
}

/// Which of several things a path may mean.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The component of a pipeline folder.
    pub component: Option<String>,
}

/// Opens what a person calls a model: a file, an index, a folder, a cache id, a short name. Reads headers only.
pub fn open(label: &str, options: &OpenOptions) -> Result<Opened> {
    let path = Path::new(label);
    if path.exists() {
        return folder::open_path(path, label, options);
    }
    match hub::resolve(label)? {
        Some(folder) => folder::open_path(&folder, label, options).map(|mut o| {
            let title = title_with(&o.model.origin, label);
            o.model_mut().title = title;
            o
        }),
        None => Err(Error::failed(format!(
            "{label}: no such file or folder, and not an id of the form org/name; see `mixdown --help` for what MODEL may be"
        ))),
    }
}

/// The components of a pipeline that have weights; none where the label is that of another kind of model.
pub fn components(label: &str) -> Result<Vec<String>> {
    let path = Path::new(label);
    let folder = if path.exists() { Some(path.to_owned()) } else { hub::resolve(label)? };
    folder.filter(|f| folder::is_pipeline(f)).map_or_else(|| Ok(Vec::new()), |f| folder::components(&f))
}

pub(crate) fn title_with(origin: &Origin, name: &str) -> String {
    match origin {
        Origin::Component { name: component } => format!("{name} › {component}"),
        _ => name.to_owned(),
    }
}

/// Makes a model of files whose headers were read.
pub(crate) struct Assembly {
    pub label: String,
    pub title: String,
    pub origin: Origin,
    pub root: PathBuf,
    pub config: Option<serde_json::Value>,
    pub quantization: Option<serde_json::Value>,
    pub files: Vec<(Blob, FileInfo, Vec<Stored>)>,
    pub companions: Vec<Companion>,
    pub index: Option<Index>,
    pub warnings: Vec<String>,
    /// For each of `files`, if they are GGUF.
    pub gguf: Vec<Arc<gguf::Header>>,
}

impl Assembly {
    pub fn finish(self) -> Result<Opened> {
        let mut blobs = Vec::new();
        let mut infos = Vec::new();
        let mut stored: Vec<Stored> = Vec::new();
        for (i, (blob, info, arrays)) in self.files.into_iter().enumerate() {
            stored.extend(arrays.into_iter().map(|mut s| {
                s.span.file = i as u32;
                s
            }));
            blobs.push(blob);
            infos.push(info);
        }
        let tensors = match &self.gguf[..] {
            [] => plain_tensors(&stored),
            headers => gguf::tensors::tensors(headers.iter().map(|h| &**h), &stored),
        };
        if let Some(pair) = tensors.windows(2).find(|w| w[0].name == w[1].name) {
            let file = |t: &Tensor| {
                let array = match &t.encoding {
                    Encoding::Plain(i) => Some(*i),
                    Encoding::Packed { parts, .. } => parts.first().map(|p| p.array),
                };
                let stored = array.and_then(|i| stored.get(i as usize));
                stored.map_or_else(String::new, |s| infos[s.span.file as usize].path.display().to_string())
            };
            return Err(Error::failed(format!(
                "{}: tensor `{}` is also in {}; each tensor must be in one file only",
                file(&pair[1]),
                pair[0].name,
                file(&pair[0])
            )));
        }
        let model = Model {
            title: self.title,
            label: self.label,
            origin: self.origin,
            root: self.root,
            format: if self.gguf.is_empty() { "safetensors".into() } else { "gguf".into() },
            architecture: None,
            tied: false,
            numbers: self.gguf.first().map(|h| h.numbers()).unwrap_or_default(),
            config: self.config,
            quantization: self.quantization,
            files: infos,
            stored,
            tensors,
            adapters: Vec::new(),
            warnings: self.warnings,
            foreign: None,
        };
        Ok(Opened {
            model: Arc::new(model),
            blobs,
            companions: self.companions,
            index: self.index,
            strays: Vec::new(),
            gguf: self.gguf,
            changes: None,
        })
    }
}
