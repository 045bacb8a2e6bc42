//! Diffusion models as ComfyUI-GGUF reads them: named as in the original code, with the shapes and the types that its
//! converter gives them before anything is quantized.
pub mod architectures;
pub mod types;

use std::collections::{HashMap, HashSet};

use super::hf::Item;
use super::mixtures::keys::QUANTIZATION_VERSION;
use crate::core::model::Tensor;
use crate::core::options::Names;
use crate::core::plan::{Change, Slice};
use crate::core::{Error, Model, Result, Storage, TensorId, name};
use crate::format::gguf::{MAX_LONG_NAME, Pair, Type};
use crate::target::names::{self, Unmapped};
use architectures::Architecture;

/// Elements up to which a tensor stays F32.
const SMALL: u64 = 1024;
/// Elements from which on a tensor may be laid out anew.
const LARGE: u64 = 512;
/// Values of a super-block.
const BLOCK: u64 = 256;
/// Most dimensions of what has another type than F32.
const DIMS: usize = 4;

/// A diffusion model as tensors and keys.
#[derive(Clone, Debug)]
pub struct Diffusion {
    /// What it is.
    pub architecture: &'static Architecture,
    /// The shapes of tensors that were laid out anew, by name.
    pub shapes: Vec<(String, Vec<u64>)>,
    /// Its tensors, in no particular order.
    pub items: Vec<Item>,
    /// What a tensor is called in the original layout, where it has another name.
    pub judged: HashMap<String, String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// The model as a diffusion model; none if it is none that is known. Reads no weights.
///
/// # Errors
/// If it is one that ComfyUI-GGUF has no name for, a part of a fused layer is missing, or a tensor holds no floats or
/// has too long a name.
pub fn map(model: &Model, wanted: Names) -> Result<Option<Diffusion>> {
    let tensors: Vec<(&str, &[u64])> = model.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let Some((family, _)) = names::recognise(&tensors) else { return Ok(None) };
    let (pieces, left) = match names::to_original(&tensors) {
        Ok(mapped) => {
            let mut all: Vec<Pieces> = mapped.tensors.into_iter().map(|t| (t.name, t.pieces)).collect();
            let mut left = 0;
            for source in mapped.unknown {
                let Some((name, shape)) = tensors.get(source) else { continue };
                match name.strip_prefix(mapped.prefix) {
                    Some(name) => all.push((name.to_owned(), whole(source, shape))),
                    None => left += 1,
                }
            }
            (all, left)
        }
        Err(Unmapped::Already(_)) => stripped(&tensors),
        Err(Unmapped::Unrecognised) => return Ok(None),
        Err(Unmapped::Broken(why)) => return Err(Error::failed(format!("{}: {}", model.label, name::clean(&why)))),
    };
    let has: HashSet<&str> = pieces.iter().map(|(name, _)| name.as_str()).collect();
    let architecture = architectures::of_family(family, |name| has.contains(name)).ok_or_else(|| {
        let known: Vec<&str> = architectures::ALL.iter().map(|a| a.name).collect();
        Error::failed(format!(
            "{}: ComfyUI-GGUF has no architecture for {family} models; it has {}",
            model.label,
            known.join(", ")
        ))
    })?;
    let mut diffusion = Diffusion {
        architecture,
        shapes: Vec::new(),
        items: Vec::with_capacity(pieces.len()),
        judged: HashMap::new(),
        warnings: Vec::new(),
    };
    if left > 0 {
        diffusion.warnings.push(format!("{left} tensors are of other models than the {family} one and are left out"));
    }
    if wanted == Names::Source {
        for (name, pieces) in pieces {
            for source in pieces.iter().filter_map(|p| model.tensors.get(p.source)) {
                diffusion.judged.entry(source.name.clone()).or_insert_with(|| name.clone());
            }
        }
        for (i, (name, shape)) in tensors.iter().enumerate() {
            if diffusion.judged.contains_key(*name) {
                diffusion.take(model, (*name).to_owned(), &whole(i, shape))?;
            }
        }
    } else {
        for (name, pieces) in pieces {
            diffusion.take(model, name, &pieces)?;
        }
    }
    Ok(Some(diffusion))
}

fn whole(source: usize, shape: &[u64]) -> Vec<names::Piece> {
    vec![names::Piece { source, rows: 0..shape.first().copied().unwrap_or(1) }]
}

/// A tensor's name, and rows of which tensors it is made of.
type Pieces = (String, Vec<names::Piece>);

/// Tensors of the original layout without what their names begin with, and how many others there are beside them.
fn stripped(tensors: &[(&str, &[u64])]) -> (Vec<Pieces>, usize) {
    let prefix = names::prefix(tensors);
    let own = tensors.iter().enumerate().filter_map(|(i, (name, shape))| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_owned(), whole(i, shape)))
    });
    let own: Vec<Pieces> = own.collect();
    let left = tensors.len() - own.len();
    (own, left)
}

impl Diffusion {
    fn take(&mut self, model: &Model, name: String, pieces: &[names::Piece]) -> Result<()> {
        let judged = self.judged.get(&name).unwrap_or(&name);
        if self.architecture.ignored.iter().any(|part| judged.contains(part)) {
            return Ok(());
        }
        let shown = name::clean(&name);
        if name.len() > MAX_LONG_NAME {
            return Err(Error::failed(format!(
                "{}: `{shown}` is a name of {} bytes, and readers take {MAX_LONG_NAME}; rename the tensor",
                model.label,
                name.len()
            )));
        }
        let mut sources: Vec<TensorId> = Vec::new();
        let mut slices = Vec::new();
        for piece in pieces {
            let id = TensorId(piece.source as u32);
            let source = sources.iter().position(|s| *s == id).unwrap_or_else(|| {
                sources.push(id);
                sources.len() - 1
            });
            slices.push(Slice::of_rows(source, piece.rows.clone()));
        }
        let all: Vec<&Tensor> = sources.iter().map(|id| model.tensor(*id)).collect();
        let Some(first) = all.first() else { return Ok(()) };
        if let Some(other) = all.iter().find(|t| !t.is_float()) {
            let (label, holds) = (&model.label, other.dtype_name());
            return Err(Error::failed(format!(
                "{label}: `{shown}` holds {holds}, and readers of diffusion models take floats; remove it"
            )));
        }
        let mut shape = first.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = slices.iter().map(|s| s.rows.end - s.rows.start).sum();
        }
        if let [slice] = &slices[..]
            && slice.rows == (0..first.rows())
        {
            slices.clear();
        }
        let from = self.natural(judged, &shape, &all);
        if let Some(rows) = self.anew(&shape) {
            self.shapes.push((name.clone(), shape));
            shape = vec![rows, BLOCK];
        }
        self.items.push(Item { name, shape, sources, slices, change: Change::None, from });
        Ok(())
    }

    /// The type of a tensor that is not quantized.
    fn natural(&self, name: &str, shape: &[u64], sources: &[&Tensor]) -> Type {
        if shape.len() > DIMS {
            return Type::F32;
        }
        let all = |storage: Storage| sources.iter().all(|t| t.storage == storage);
        let wide = sources.iter().all(|t| matches!(t.storage, Storage::F32 | Storage::F64 | Storage::BF16));
        let elements = elements(shape);
        let small = shape.len() <= 1 || elements <= SMALL;
        if wide && (small || self.architecture.precise.iter().any(|part| name.contains(part))) {
            return Type::F32;
        }
        if all(Storage::BF16) { Type::BF16 } else { Type::F16 }
    }

    /// How many rows of a super-block a tensor becomes, if it does.
    fn anew(&self, shape: &[u64]) -> Option<u64> {
        let (elements, cols) = (elements(shape), shape.last().copied().unwrap_or(1));
        let odd = shape.len() > 1 && elements >= LARGE && !cols.is_multiple_of(BLOCK);
        (self.architecture.reshapes && odd && elements.is_multiple_of(BLOCK)).then_some(elements / BLOCK)
    }

    /// The keys of the file; `general.file_type` has its place only.
    pub fn keys(&self) -> Vec<Pair> {
        let mut keys = vec![
            Pair::new("general.architecture", self.architecture.name),
            Pair::new("general.quantization_version", QUANTIZATION_VERSION),
            Pair::new("general.file_type", 0u32),
        ];
        keys.extend(self.shapes.iter().map(|(name, shape)| {
            let dims: Vec<i32> = shape.iter().map(|d| i32::try_from(*d).unwrap_or(i32::MAX)).collect();
            Pair::new(&format!("{SHAPE}{name}"), &dims[..])
        }));
        keys
    }
}

/// What keys with the shape of a tensor begin with.
pub const SHAPE: &str = "comfy.gguf.orig_shape.";

fn elements(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |n, d| n.saturating_mul(*d))
}

#[cfg(test)]
mod tests;
