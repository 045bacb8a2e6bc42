//! What was opened: tensors, metadata, config and where the bytes lie; never the bytes themselves.
use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use super::dtype::{Storage, StorageExt};
use super::recipe::Recipe;

/// Index of a tensor in its [`Model`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

impl TensorId {
    /// As an index into [`Model::tensors`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where an array's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index into [`Model::files`].
    pub file: u32,
    /// From the start of the file, in bytes.
    pub offset: u64,
    /// In bytes.
    pub len: u64,
}

/// One array of a file, as its header describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub storage: Storage,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub span: Span,
}

/// How a tensor's values come from stored arrays.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoding {
    /// One array, its elements the values. Index into [`Model::stored`].
    Plain(u32),
    /// Quantized: the arrays are the parts that `recipe` makes, in that order.
    Packed {
        /// Who wrote it, and how.
        recipe: Recipe,
        /// Where each part lies.
        parts: Vec<Placed>,
    },
}

/// A part of a packed tensor, and the array that holds it, which may lie in another form than the part has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Index into [`Model::stored`].
    pub array: u32,
    /// The element type that the part has; the array's own may be another that holds the same numbers.
    pub storage: Storage,
    /// Whether the part is a matrix `[rows, cols]` and the array holds it as `[cols, rows]`.
    pub transposed: bool,
}

/// One named tensor of the model, as a person thinks of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape, in PyTorch order. A packed tensor has the shape of its values.
    pub shape: Vec<u64>,
    /// The type of its values: for a packed tensor the one they had before.
    pub storage: Storage,
    /// Bytes of all arrays that belong to it.
    pub bytes: u64,
    /// Where its values come from.
    pub encoding: Encoding,
    /// Whether adapters change its values as they are read.
    pub merged: bool,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
    /// Rows of the matrix it is read as: the first dimension; 1 for a scalar.
    pub fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }
    /// Elements of a row of that matrix.
    pub fn cols(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }
    /// The array that holds it, where it is just one, in the form that files have it.
    pub fn sole_array(&self) -> Option<u32> {
        match &self.encoding {
            Encoding::Plain(i) => Some(*i),
            Encoding::Packed { parts, .. } => match parts[..] {
                [part] if !part.transposed => Some(part.array),
                _ => None,
            },
        }
    }
    /// What a person calls its type: `BF16`, or the dtype it is quantized to.
    pub fn dtype_name(&self) -> String {
        match &self.encoding {
            Encoding::Plain(_) => self.storage.name(),
            Encoding::Packed { recipe, .. } => recipe.dtype.to_string(),
        }
    }
    /// Whether its values are floats, stored plainly or packed.
    pub fn is_float(&self) -> bool {
        self.storage.is_float()
    }
}

/// One tensor for each array, in natural order.
pub fn plain_tensors(stored: &[Stored]) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = stored
        .par_iter()
        .enumerate()
        .map(|(i, s)| Tensor {
            name: s.name.clone(),
            shape: s.shape.clone(),
            storage: s.storage,
            bytes: s.span.len,
            encoding: Encoding::Plain(i as u32),
            merged: false,
        })
        .collect();
    tensors.par_sort_by(|a, b| super::name::natural(&a.name, &b.name));
    tensors
}

/// What kind of thing was opened; decides what an output folder must be complete with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A single weight file.
    File,
    /// A folder (or an index) with one model.
    Folder,
    /// A component of a diffusers pipeline folder.
    Component {
        /// The component's folder name.
        name: String,
    },
    /// The built-in model.
    Demo,
}

/// A weight file, as listed in a model.
#[derive(Clone, Debug, PartialEq)]
pub struct FileInfo {
    /// Where it is; for the built-in model its bare name.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// The header's metadata, in file order.
    pub metadata: Vec<(String, String)>,
}

/// A model: what was opened, without the bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// As a person would call it: `FLUX.1-dev › transformer`.
    pub title: String,
    /// The path or id it was opened by.
    pub label: String,
    /// File, folder, component or built in.
    pub origin: Origin,
    /// The folder that holds it, or the file.
    pub root: PathBuf,
    /// `safetensors` or `gguf`, or the family of a quantized file (`sdnq`).
    pub format: String,
    /// Recognised from config.json, else from tensor names.
    pub architecture: Option<String>,
    /// Whether its token table is its output head too.
    pub tied: bool,
    /// Integers among the keys of a GGUF file, by key; of an array its first.
    pub numbers: BTreeMap<String, u64>,
    /// config.json, where there is one.
    pub config: Option<serde_json::Value>,
    /// quantization_config.json beside the weights, where there is one.
    pub quantization: Option<serde_json::Value>,
    /// The weight files.
    pub files: Vec<FileInfo>,
    /// Every array of every file, in file order.
    pub stored: Vec<Stored>,
    /// The tensors, in natural order of their names.
    pub tensors: Vec<Tensor>,
    /// Adapters that are merged into it, as `FILE:STRENGTH`.
    pub adapters: Vec<String>,
    /// What was noticed while opening.
    pub warnings: Vec<String>,
    /// Why its arrays are not the model's weights, where somebody else quantized it in a way that is not read.
    pub foreign: Option<String>,
}

impl Model {
    /// A tensor by its id. Ids are only made for tensors that exist.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.index()]
    }
    /// All ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = TensorId> + use<> {
        (0..self.tensors.len() as u32).map(TensorId)
    }
    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        self.tensors.binary_search_by(|t| super::name::natural(&t.name, name)).ok().map(|i| TensorId(i as u32))
    }
    /// Σ elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(Tensor::elements).sum()
    }
    /// Σ bytes of all arrays.
    pub fn bytes(&self) -> u64 {
        self.stored.iter().map(|s| s.span.len).sum()
    }
    /// Metadata of all files; where two disagree, the first wins.
    pub fn metadata(&self) -> BTreeMap<&str, &str> {
        let mut all = BTreeMap::new();
        for (k, v) in self.files.iter().flat_map(|f| &f.metadata) {
            all.entry(k.as_str()).or_insert(v.as_str());
        }
        all
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A model of 64×64 BF16 tensors of those names, with no bytes behind it.
    pub fn model_of(names: &[&str]) -> Model {
        let mut names: Vec<&str> = names.to_vec();
        names.sort_by(|a, b| crate::core::name::natural(a, b));
        let stored: Vec<Stored> = names
            .iter()
            .enumerate()
            .map(|(i, n)| Stored {
                name: (*n).to_owned(),
                storage: Storage::BF16,
                shape: vec![64, 64],
                span: Span { file: 0, offset: i as u64 * 8192, len: 8192 },
            })
            .collect();
        let tensors = plain_tensors(&stored);
        Model {
            title: "test".into(),
            label: "test".into(),
            origin: Origin::File,
            root: "test.safetensors".into(),
            format: "safetensors".into(),
            architecture: None,
            tied: false,
            numbers: BTreeMap::new(),
            config: None,
            quantization: None,
            files: Vec::new(),
            stored,
            tensors,
            adapters: Vec::new(),
            warnings: Vec::new(),
            foreign: None,
        }
    }
}
