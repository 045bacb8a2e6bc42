//! Values of tensors: read from files as they are, or decoded as they are read.
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use super::codec::{Codec, Geometry, Prepared, Values};
use super::gguf::blocks::Blocks;
use super::parts::Parts;
use crate::core::dtype::StorageExt;
use crate::core::model::{Encoding, Stored};
use crate::core::{Error, Family, Result, TensorId};
use crate::format::{Blob, Opened};
use crate::quant::cast;

/// The values of a float tensor of an opened model.
pub fn of(opened: &Arc<Opened>, id: TensorId) -> Result<Box<dyn Values>> {
    divided(opened, id, Geometry::of(&opened.model.tensor(id).shape))
}

/// The same as a matrix of another division, of as many elements.
pub fn divided(opened: &Arc<Opened>, id: TensorId, geometry: Geometry) -> Result<Box<dyn Values>> {
    let tensor = opened.model.tensor(id);
    match &tensor.encoding {
        Encoding::Plain(i) => {
            let stored = &opened.model.stored[*i as usize];
            if !stored.storage.is_float() {
                return Err(Error::failed(format!(
                    "tensor `{}` holds {}, not floats",
                    tensor.name,
                    stored.storage.name()
                )));
            }
            Ok(Box::new(Plain { opened: Arc::clone(opened), stored: *i, geometry }))
        }
        Encoding::Packed { recipe, parts } if recipe.family == Family::Gguf => {
            Ok(Box::new(Blocks::new(tensor, recipe, Parts::new(opened, parts)?, geometry)?))
        }
        Encoding::Packed { recipe, parts } => {
            let codec = super::get(recipe.family).codec(
                &tensor.shape,
                tensor.storage,
                &super::Action::Quantize(recipe.clone()),
            )?;
            let parts = Parts::new(opened, parts)?;
            let prepared =
                codec.load(&|part| parts.all(part)).map_err(|e| e.at(format!("tensor `{}`", tensor.name)))?;
            let packed = Packed { parts, codec, prepared };
            let g = packed.geometry();
            if (g.rows, g.cols) == (geometry.rows, geometry.cols) {
                return Ok(Box::new(packed));
            }
            Ok(Box::new(Recut { inner: packed, geometry }))
        }
    }
}

/// Bytes that reading a tensor holds besides what is read: the factors of a packed one.
pub fn memory(opened: &Opened, id: TensorId) -> u64 {
    let tensor = opened.model.tensor(id);
    match &tensor.encoding {
        Encoding::Plain(_) => 0,
        Encoding::Packed { recipe, parts, .. } => {
            // One factor as f32, and once as stored while it is loaded.
            let factor = u64::from(recipe.svd_rank).saturating_mul(tensor.cols()).saturating_mul(8);
            parts.iter().map(|p| Parts::memory(opened, p)).fold(factor, u64::saturating_add)
        }
    }
}

fn blob<'a>(opened: &'a Opened, stored: &Stored) -> &'a Blob {
    &opened.blobs[stored.span.file as usize]
}

struct Plain {
    opened: Arc<Opened>,
    stored: u32,
    geometry: Geometry,
}

impl Values for Plain {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let stored = &self.opened.model.stored[self.stored as usize];
        let size = stored.storage.bytes().unwrap_or(1);
        let (start, count) = ((rows.start * self.geometry.cols) as u64, rows.len() * self.geometry.cols);
        // Fresh memory, and zeros in it, cost as much as the arithmetic on it.
        thread_local!(static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
        let mut bytes = BYTES.take();
        bytes.resize(count * size as usize, 0);
        let read = blob(&self.opened, stored).read_at(stored.span.offset + start * size, &mut bytes);
        if read.is_ok() {
            out.resize(count, 0.0);
            cast::decode(stored.storage, &bytes, out);
        }
        BYTES.set(bytes);
        read
    }
}

struct Packed {
    parts: Parts,
    codec: Box<dyn Codec>,
    prepared: Box<dyn Prepared>,
}

impl Values for Packed {
    fn geometry(&self) -> Geometry {
        self.codec.geometry()
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let mut pieces = Vec::new();
        for piece in self.prepared.pieces(rows.clone()) {
            pieces.push(self.parts.read(piece.part, piece.bytes)?);
        }
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        out.resize(rows.len() * self.codec.geometry().cols, 0.0);
        self.prepared.decode(rows, &pieces, out);
        Ok(())
    }
}

/// Packed values in rows of another length than they are packed by.
struct Recut {
    inner: Packed,
    geometry: Geometry,
}

impl Values for Recut {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let inner = self.inner.geometry();
        let wanted = rows.start * self.geometry.cols..rows.end * self.geometry.cols;
        let first = wanted.start / inner.cols.max(1);
        self.inner.read(first..wanted.end.div_ceil(inner.cols.max(1)), out)?;
        out.drain(..wanted.start - first * inner.cols);
        out.truncate(wanted.len());
        Ok(())
    }
}

/// Values that are at hand.
#[derive(Debug)]
pub struct InMemory {
    geometry: Geometry,
    values: Vec<f32>,
}

impl InMemory {
    /// A matrix of that shape; `values` has its elements.
    pub fn new(shape: &[u64], values: Vec<f32>) -> Result<Self> {
        let elements: u64 = shape.iter().product();
        if elements != values.len() as u64 {
            return Err(Error::failed(format!("shape {shape:?} has {elements} elements, not {}", values.len())));
        }
        Ok(Self { geometry: Geometry::of(shape), values })
    }
}

impl Values for InMemory {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        out.extend(&self.values[rows.start * self.geometry.cols..rows.end * self.geometry.cols]);
        Ok(())
    }
}
