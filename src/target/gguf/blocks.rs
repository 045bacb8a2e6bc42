//! The values of a tensor that lies in blocks of ggml, decoded as they are read.
use std::cell::Cell;
use std::ops::Range;

use super::super::codec::{Geometry, Values};
use super::super::parts::Parts;
use crate::core::recipe::Recipe;
use crate::core::{Error, Result, Tensor};
use crate::quant::ggml::Type;

/// Decodes a tensor's only part. Rows that are asked for need not end where blocks do: an expert of a bank, or a run of
/// a tensor that is taken as one long column, is cut out of the blocks that hold it.
#[derive(Debug)]
pub struct Blocks {
    parts: Parts,
    kind: Type,
    geometry: Geometry,
}

impl Blocks {
    /// Those of a tensor whose recipe names a type of ggml, divided as is asked.
    pub fn new(tensor: &Tensor, recipe: &Recipe, parts: Parts, geometry: Geometry) -> Result<Self> {
        let name = recipe.dtype.as_str();
        let Some(kind) = Type::named(name) else {
            return Err(Error::failed(format!("tensor `{}`: mixdown does not decode {name}", tensor.name)));
        };
        let row = tensor.shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(kind.block() as u64) {
            return Err(Error::failed(format!(
                "tensor `{}`: rows of {row} are not whole blocks of {name}, which have {}",
                tensor.name,
                kind.block()
            )));
        }
        Ok(Self { parts, kind, geometry })
    }
}

impl Values for Blocks {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let (block, bytes) = (self.kind.block(), self.kind.bytes() as u64);
        let wanted = rows.start * self.geometry.cols..rows.end * self.geometry.cols;
        // Rows are whole blocks, so blocks lie one after another whatever the shape.
        let (first, end) = (wanted.start / block, wanted.end.div_ceil(block));
        let stored = self.parts.read(0, first as u64 * bytes..end as u64 * bytes)?;
        let ahead = wanted.start - first * block;
        if ahead == 0 && wanted.len() == (end - first) * block {
            out.resize(wanted.len(), 0.0);
            self.kind.decode(&stored, out);
            return Ok(());
        }
        thread_local!(static WHOLE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
        let mut whole = WHOLE.take();
        whole.resize((end - first) * block, 0.0);
        self.kind.decode(&stored, &mut whole);
        out.clear();
        out.extend_from_slice(&whole[ahead..ahead + wanted.len()]);
        WHOLE.set(whole);
        Ok(())
    }
}
