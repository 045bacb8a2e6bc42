//! The two functions behind everything: values → parts, parts → values, a slab of rows at a time.
//!
//! Trial, conversion and reading all go through a [`Codec`]; there is no second implementation of any format. A tensor
//! is a matrix of rows; slabs are fixed by its shape, so that neither threads nor memory move a result.
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use crate::core::{Cancel, Result};

/// About how many elements a slab has: 256 KiB of f32, which stay in a core's cache beside what they are made of and
/// become.
const SLAB: u64 = 1 << 16;
/// A slab has a multiple of this many elements, so that packed codes of any width fill whole units.
const UNIT: u64 = 16;
/// Rows that fill the registers of a product of matrices. So many are whole units, whatever their length.
const TILE_ROWS: usize = 16;
const _: () = assert!(TILE_ROWS.is_multiple_of(UNIT as usize));
/// The longest row that is worked on as a row; a shape with longer ones, or with fewer than two dimensions, is flat.
pub const LONGEST_ROW: u64 = 1 << 21;

/// A matrix and its division into slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Its rows: the first dimension.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// Rows of every slab but the last.
    pub slab_rows: usize,
}

impl Geometry {
    /// Of a shape: its first dimension by all others, or one column.
    pub fn of(shape: &[u64]) -> Self {
        let row = shape.get(1..).filter(|rest| !rest.is_empty());
        let row = row.and_then(|rest| rest.iter().try_fold(1u64, |n, d| n.checked_mul(*d)));
        let (rows, cols) = match (shape, row) {
            (&[rows, ..], Some(cols)) if cols <= LONGEST_ROW => (rows, cols),
            _ => (shape.iter().product(), 1),
        };
        // As few rows as fill whole units, whatever the length of a row.
        let multiple = if cols == 0 { 1 } else { UNIT >> cols.trailing_zeros().min(UNIT.trailing_zeros()) };
        let fit = SLAB / cols.max(1) / multiple * multiple;
        Self { rows: rows as usize, cols: cols as usize, slab_rows: fit.max(multiple) as usize }
    }
    /// Of so many rows of so many elements, each a unit by itself.
    pub fn of_rows(rows: u64, cols: u64) -> Self {
        Self { rows: rows as usize, cols: cols as usize, slab_rows: (SLAB / cols.max(1)).max(1) as usize }
    }
    /// Number of slabs.
    pub fn slabs(&self) -> usize {
        if self.cols == 0 { 0 } else { self.rows.div_ceil(self.slab_rows) }
    }
    /// The rows of a slab.
    pub fn slab(&self, index: usize) -> Range<usize> {
        let start = index * self.slab_rows;
        start..(start + self.slab_rows).min(self.rows)
    }
    /// Rows that have at most so many elements together, a multiple of 16; where fewer rows have that many,
    /// whole slabs, and at least one, whatever it has.
    pub fn chunk_rows(&self, elements: usize) -> usize {
        let rows = elements / self.cols.max(1);
        let multiple = if rows >= TILE_ROWS { TILE_ROWS } else { self.slab_rows };
        (rows / multiple * multiple).max(multiple)
    }
    /// Elements of the largest slab.
    pub fn slab_elements(&self) -> usize {
        self.slab_rows.min(self.rows) * self.cols
    }
}

/// The values of one tensor, wherever they come from.
pub trait Values: Send + Sync {
    /// Its shape as a matrix.
    fn geometry(&self) -> Geometry;
    /// Replaces `out` by the values of some rows.
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()>;
    /// The bias that belongs to them, a number for each row; none where there is none.
    fn bias(&self) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// How the values of one tensor become parts and come back.
pub trait Codec: Send + Sync {
    /// The matrix it is made for.
    fn geometry(&self) -> Geometry;
    /// Finds what must be known of the whole tensor before any slab can be encoded: low-rank factors, a scale for all.
    fn prepare(&self, values: &dyn Values, cancel: &Cancel) -> Result<Box<dyn Prepared>>;
    /// The same, with what another codec's [`Prepared::found`] gave for the same values, where that can be used again.
    fn prepare_with(&self, values: &dyn Values, cancel: &Cancel, _: Option<Found>) -> Result<Box<dyn Prepared>> {
        self.prepare(values, cancel)
    }
    /// The same from parts that are stored; `part` gives all bytes of a part.
    fn load(&self, part: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>>;
    /// Whether [`prepare`](Self::prepare) reads the values; such tensors are worked on one at a time.
    fn is_global(&self) -> bool;
    /// Bytes that one [`Prepared`] holds from the first slab to the last.
    fn memory(&self) -> u64 {
        0
    }
    /// Which of some rows have columns that are weighed, and how.
    fn importance(&self, _rows: Range<usize>) -> Vec<(Range<usize>, &[f32])> {
        Vec::new()
    }
}

/// What was found of a whole tensor and does not depend on the dtype: low-rank factors. Its maker knows what it is.
pub type Found = Arc<dyn Any + Send + Sync>;

/// A codec that knows what it must of the whole tensor.
pub trait Prepared: Send + Sync {
    /// What a codec of another dtype may use again for the same values.
    fn found(&self) -> Option<Found> {
        None
    }
    /// The parts that hold the facts of the whole tensor, with their bytes.
    fn whole(&self) -> Vec<(usize, Vec<u8>)>;
    /// Which bytes of which parts hold a slab.
    fn pieces(&self, rows: Range<usize>) -> Vec<Piece>;
    /// Fills each of those pieces, which have their lengths.
    fn encode(&self, rows: Range<usize>, values: &[f32], pieces: &mut [&mut [u8]]);
    /// Parts of which a slab's bytes lie too scattered for pieces: whole, once every slab has been encoded.
    fn finish(&self) -> Vec<(usize, Vec<u8>)> {
        Vec::new()
    }
    /// What those bytes mean, in f32: what the file's consumer computes with.
    fn decode(&self, rows: Range<usize>, pieces: &[&[u8]], out: &mut [f32]);
}

/// A range of bytes of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which part.
    pub part: usize,
    /// Its bytes.
    pub bytes: Range<u64>,
}

impl Piece {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        (self.bytes.end - self.bytes.start) as usize
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Makes `buffer` as long as some pieces together, and is their places in it, one after another.
pub fn room<'a>(pieces: &[Piece], buffer: &'a mut Vec<u8>) -> Vec<&'a mut [u8]> {
    // What is there is overwritten: fresh zeros would cost as much as the arithmetic on them.
    buffer.resize(pieces.iter().map(Piece::len).sum(), 0);
    let mut rest = buffer.as_mut_slice();
    let cut = |piece: &Piece| rest.split_off_mut(..piece.len()).unwrap_or_default();
    pieces.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_shape_is_rows_of_its_first_dimension() {
        fn check(shape: &[u64], rows: usize, cols: usize) {
            let g = Geometry::of(shape);
            assert_eq!((g.rows, g.cols), (rows, cols), "{shape:?}");
        }
        check(&[96, 64], 96, 64);
        check(&[96, 64, 3, 3], 96, 576);
        check(&[96], 96, 1);
        check(&[], 1, 1);
        check(&[2, 2048, 2048], 8_388_608, 1);
        check(&[0, u64::MAX, 2], 0, 1);
    }

    proptest! {
        #[test]
        fn slabs_cover_every_row_once(rows in 0u64..5000, cols in 1u64..700_000) {
            let g = Geometry::of(&[rows, cols]);
            let mut at = 0;
            for i in 0..g.slabs() {
                prop_assert_eq!(g.slab(i).start, at);
                prop_assert!(!g.slab(i).is_empty());
                at = g.slab(i).end;
            }
            prop_assert_eq!(at, g.rows);
            prop_assert_eq!(g.slab_rows * g.cols % 16, 0);
        }
    }
}
