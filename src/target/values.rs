//! Values of tensors: read from files as they are, or decoded as they are read.
mod changed;

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use super::codec::{Codec, Geometry, Prepared, Values};
use super::gguf::blocks::Blocks;
use super::parts::Parts;
use crate::core::dtype::StorageExt;
use crate::core::model::{Encoding, Stored};
use crate::core::{Error, Family, Result, Row, Storage, TensorId};
use crate::format::{Blob, Opened};
use crate::quant::cast;

/// The values of a float tensor of an opened model.
pub fn of(opened: &Arc<Opened>, id: TensorId) -> Result<Box<dyn Values>> {
    divided(opened, id, Geometry::of(&opened.model.tensor(id).shape))
}

/// The values of a row of a plan, with its bias: of its source, or of what it is made of.
pub fn of_row(opened: &Arc<Opened>, row: &Row, geometry: Geometry) -> Result<Box<dyn Values>> {
    let inner = changed::of_row(opened, row, geometry)?;
    if row.bias.is_empty() {
        return Ok(inner);
    }
    let mut bias = Vec::new();
    for slice in &row.bias {
        let missing = || Error::failed(format!("`{}` has no bias", row.name));
        let id = row.sources.get(slice.source).copied().ok_or_else(missing)?;
        let g = Geometry::of_rows(opened.model.tensor(id).rows(), 1);
        bias.push((slice.rows.start as usize..slice.rows.end as usize, divided(opened, id, g)?));
    }
    Ok(Box::new(Biased { inner, bias }))
}

/// The same before a bias and what changes them.
fn as_read(opened: &Arc<Opened>, row: &Row, geometry: Geometry) -> Result<Box<dyn Values>> {
    let source = |i: usize| {
        let missing = || Error::failed(format!("`{}` has no source", row.name));
        row.sources.get(i).copied().ok_or_else(missing)
    };
    if row.slices.is_empty() {
        return divided(opened, source(0)?, geometry);
    }
    let mut slices = Vec::new();
    let mut at = 0;
    for slice in &row.slices {
        let id = source(slice.source)?;
        let tensor = opened.model.tensor(id);
        let g = Geometry::of_rows(tensor.rows(), tensor.cols());
        let mut values = divided(opened, id, g)?;
        let mut cols = g.cols;
        if let Some(wanted) = &slice.cols {
            let wanted = wanted.start as usize..wanted.end as usize;
            if wanted.end > g.cols || wanted.start > wanted.end {
                return Err(Error::failed(format!("`{}` has no columns {wanted:?}", tensor.name)));
            }
            cols = wanted.len();
            values = Box::new(Columns { inner: values, cols: wanted });
        }
        let elements = (slice.rows.end - slice.rows.start) as usize * cols;
        slices.push((at..at + elements, slice.rows.start as usize * cols, values));
        at += elements;
    }
    if at != geometry.rows * geometry.cols {
        return Err(Error::failed(format!("`{}` has {at} values of its sources, not those of its shape", row.name)));
    }
    Ok(Box::new(Joined { slices, geometry }))
}

/// Bytes that reading a row holds besides what is read.
pub fn memory_of_row(opened: &Opened, row: &Row) -> u64 {
    let rows = row.slices.iter().filter_map(|s| row.sources.get(s.source));
    let longest = rows.map(|id| opened.model.tensor(*id).cols()).max().unwrap_or(0);
    let sources = row.sources.iter().map(|id| memory(opened, *id));
    let bias = row.bias.iter().map(|s| (s.rows.end - s.rows.start).saturating_mul(4));
    sources.chain(bias).fold(longest.saturating_mul(4), u64::saturating_add).saturating_add(changed::memory(row))
}

/// The type of a row's first source; of values that have none, F32.
pub fn storage_of_row(opened: &Opened, row: &Row) -> Storage {
    row.sources.first().map_or(Storage::F32, |id| opened.model.tensor(*id).storage)
}

/// Bytes `offset..offset + out.len()` of the arrays that a row's values lie in, one after another.
pub fn copy(opened: &Opened, row: &Row, offset: u64, out: &mut [u8]) -> Result<()> {
    let array = |id: &TensorId| {
        let packed = || Error::failed(format!("`{}` is packed and cannot be copied", row.name));
        let tensor = opened.model.tensor(*id);
        let stored = &opened.model.stored[tensor.sole_array().ok_or_else(packed)? as usize];
        Ok::<_, Error>((stored, stored.span.len / tensor.rows().max(1)))
    };
    let missing = || Error::failed(format!("`{}` has no source", row.name));
    if row.slices.is_empty() {
        let (stored, _) = array(row.sources.first().ok_or_else(missing)?)?;
        return blob(opened, stored).read_at(stored.span.offset + offset, out);
    }
    let mut at = 0;
    for slice in &row.slices {
        let (stored, line) = array(row.sources.get(slice.source).ok_or_else(missing)?)?;
        let (start, len) = (slice.rows.start * line, (slice.rows.end - slice.rows.start) * line);
        let (from, to) = (offset.max(at), (offset + out.len() as u64).min(at + len));
        if from < to {
            let part = &mut out[(from - offset) as usize..(to - offset) as usize];
            blob(opened, stored).read_at(stored.span.offset + start + (from - at), part)?;
        }
        at += len;
    }
    Ok(())
}

/// Values and the bias that belongs to them.
struct Biased {
    inner: Box<dyn Values>,
    /// Rows of vectors.
    bias: Vec<(Range<usize>, Box<dyn Values>)>,
}

impl Values for Biased {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        self.inner.read(rows, out)
    }
    fn bias(&self) -> Result<Vec<f32>> {
        let (mut all, mut part) = (Vec::new(), Vec::new());
        for (rows, values) in &self.bias {
            values.read(rows.clone(), &mut part)?;
            all.extend_from_slice(&part);
        }
        Ok(all)
    }
}

/// Some rows of a matrix.
struct Rows {
    inner: Box<dyn Values>,
    rows: Range<usize>,
}

impl Values for Rows {
    fn geometry(&self) -> Geometry {
        Geometry { rows: self.rows.len(), ..self.inner.geometry() }
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        self.inner.read(self.rows.start + rows.start..self.rows.start + rows.end, out)
    }
}

/// Some columns of a matrix.
struct Columns {
    inner: Box<dyn Values>,
    cols: Range<usize>,
}

impl Values for Columns {
    fn geometry(&self) -> Geometry {
        Geometry::of_rows(self.inner.geometry().rows as u64, self.cols.len() as u64)
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let (all, count) = (self.inner.geometry().cols, rows.len());
        self.inner.read(rows, out)?;
        for row in 0..count {
            out.copy_within(row * all + self.cols.start..row * all + self.cols.end, row * self.cols.len());
        }
        out.truncate(count * self.cols.len());
        Ok(())
    }
}

/// Values of several tensors, one after another.
struct Joined {
    /// Which values of all, from which value on of a tensor, and that tensor.
    slices: Vec<(Range<usize>, usize, Box<dyn Values>)>,
    geometry: Geometry,
}

impl Values for Joined {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let wanted = rows.start * self.geometry.cols..rows.end * self.geometry.cols;
        out.clear();
        let mut part = Vec::new();
        for (all, first, values) in &self.slices {
            let (from, to) = (wanted.start.max(all.start), wanted.end.min(all.end));
            if from >= to {
                continue;
            }
            let (from, to) = (from - all.start + first, to - all.start + first);
            let cols = values.geometry().cols.max(1);
            values.read(from / cols..to.div_ceil(cols), &mut part)?;
            let skip = from % cols;
            out.extend_from_slice(part.get(skip..skip + to - from).unwrap_or_default());
        }
        Ok(())
    }
}

/// The same as a matrix of another division, of as many elements.
pub fn divided(opened: &Arc<Opened>, id: TensorId, geometry: Geometry) -> Result<Box<dyn Values>> {
    let tensor = opened.model.tensor(id);
    if !tensor.merged {
        return unchanged(opened, id, geometry);
    }
    let matrix = Geometry::of_rows(tensor.rows(), tensor.cols());
    let merged = super::adapters::over(opened, id, unchanged(opened, id, matrix)?)?;
    if (matrix.rows, matrix.cols) == (geometry.rows, geometry.cols) {
        return Ok(merged);
    }
    Ok(Box::new(Recut { inner: merged, geometry }))
}

/// The same as they are stored, without what adapters change.
fn unchanged(opened: &Arc<Opened>, id: TensorId, geometry: Geometry) -> Result<Box<dyn Values>> {
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
            // Of arrays that hold several layers, some rows are this one.
            let window = recipe.kernel.as_ref().and_then(|k| k.window.as_ref()).filter(|_| tensor.shape.len() == 2);
            let codec = super::get(recipe.family).codec(
                window.map_or(&tensor.shape[..], |w| &w.of),
                tensor.storage,
                &super::Action::Quantize(recipe.clone()),
            )?;
            let parts = Parts::new(opened, parts)?;
            let prepared =
                codec.load(&|part| parts.all(part)).map_err(|e| e.at(format!("tensor `{}`", tensor.name)))?;
            let mut values: Box<dyn Values> = Box::new(Packed { parts, codec, prepared });
            if let Some(window) = window {
                let rows = window.rows.start as usize..window.rows.end as usize;
                values = Box::new(Rows { inner: values, rows });
            }
            let g = values.geometry();
            if (g.rows, g.cols) == (geometry.rows, geometry.cols) {
                return Ok(values);
            }
            Ok(Box::new(Recut { inner: values, geometry }))
        }
    }
}

/// Bytes that reading a tensor holds besides what is read: the factors of a packed one.
pub fn memory(opened: &Opened, id: TensorId) -> u64 {
    let tensor = opened.model.tensor(id);
    let changes = opened.changes.as_ref().filter(|_| tensor.merged).map_or(0, |c| c.memory(id));
    let stored = match &tensor.encoding {
        Encoding::Plain(_) => 0,
        Encoding::Packed { recipe, parts, .. } => {
            // One factor as f32, and once as stored while it is loaded.
            let factor = u64::from(recipe.svd_rank).saturating_mul(tensor.cols()).saturating_mul(8);
            // ComfyUI's scales lie in tiles, and are read whole.
            let scales = parts.iter().skip(1).filter_map(|p| opened.model.stored.get(p.array as usize));
            let scales = scales.filter(|_| recipe.family == Family::Comfy).map(|s| 2 * s.span.len);
            let scales = scales.fold(factor, u64::saturating_add);
            // Of Nunchaku's, AWQ's codes and those that a bias is shifted by are read whole, and turned.
            let whole = recipe.family == Family::Nunchaku && super::nunchaku::read::is_read_whole(recipe);
            let whole = parts.iter().filter_map(|p| opened.model.stored.get(p.array as usize).filter(|_| whole));
            let scales = whole.map(|s| s.span.len.saturating_mul(2)).fold(scales, u64::saturating_add);
            parts.iter().map(|p| Parts::memory(opened, p)).fold(scales, u64::saturating_add)
        }
    };
    stored.saturating_add(changes)
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

/// Values in rows of another length than they are kept by.
struct Recut {
    inner: Box<dyn Values>,
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
