//! Values that a row changes as they are read: heads whose rows lie in another order, norms that count from one, matrices
//! that lie transposed.
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{InMemory, Recut, as_read};
use crate::core::model::Encoding;
use crate::core::plan::Change;
use crate::core::{Error, Result, Row, Storage};
use crate::format::Opened;
use crate::quant::cast;
use crate::target::codec::{Geometry, Values};

/// About how many values a strip of a transposed matrix has.
const STRIP: usize = 1 << 20;
/// Strips that are kept: workers read near each other, so one strip serves several slabs.
const KEPT: usize = 2;
/// About how many values are read at a time for a strip.
const BLOCK: usize = 1 << 18;

/// The values of a row, changed as it says.
pub fn of_row(opened: &Arc<Opened>, row: &Row, geometry: Geometry) -> Result<Box<dyn Values>> {
    let matrix = || {
        let [rows, rest @ ..] = row.shape.as_slice() else {
            return Err(Error::failed(format!("`{}` has no rows to change", row.name)));
        };
        Ok((*rows, rest.iter().product::<u64>()))
    };
    let changed: Box<dyn Values> = match &row.change {
        Change::None => return as_read(opened, row, geometry),
        Change::Values(values) => Box::new(InMemory::new(&row.shape, values.to_vec())?),
        Change::AddOne => {
            // A sum of halves is a half again, as those who wrote the model's class have it.
            let half = row.sources.iter().all(|id| {
                let tensor = opened.model.tensor(*id);
                matches!(tensor.encoding, Encoding::Plain(_)) && !tensor.merged && tensor.storage == Storage::F16
            });
            return Ok(Box::new(OneMore { inner: as_read(opened, row, geometry)?, half }));
        }
        Change::PermuteHeads(heads) => {
            let (rows, cols) = matrix()?;
            if *heads == 0 || !rows.is_multiple_of(2 * heads) {
                return Err(Error::failed(format!("`{}` has {rows} rows, which are not {heads} heads", row.name)));
            }
            let inner = as_read(opened, row, Geometry::of_rows(rows, cols))?;
            Box::new(Permuted { inner, head: (rows / heads) as usize })
        }
        Change::Transpose => {
            let (rows, cols) = matrix()?;
            let inner = as_read(opened, row, Geometry::of_rows(cols, rows))?;
            let strip = (STRIP / (cols as usize).max(1)).clamp(1, (rows as usize).max(1));
            Box::new(Transposed { inner, geometry: Geometry::of_rows(rows, cols), strip, kept: Mutex::default() })
        }
    };
    let g = changed.geometry();
    if (g.rows, g.cols) == (geometry.rows, geometry.cols) {
        return Ok(changed);
    }
    Ok(Box::new(Recut { inner: changed, geometry }))
}

/// Bytes that a change holds besides what is read.
pub fn memory(row: &Row) -> u64 {
    let widest = row.shape.iter().copied().max().unwrap_or(0);
    match row.change {
        Change::None | Change::AddOne | Change::Values(_) => 0,
        Change::PermuteHeads(_) => row.shape.iter().skip(1).product::<u64>().saturating_mul(8),
        Change::Transpose => (4 * (STRIP * (KEPT + 2) + BLOCK) as u64).saturating_add(widest.saturating_mul(8)),
    }
}

struct OneMore {
    inner: Box<dyn Values>,
    half: bool,
}

impl Values for OneMore {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        self.inner.read(rows, out)?;
        out.iter_mut().for_each(|v| *v += 1.0);
        if self.half {
            let mut bytes = Vec::with_capacity(out.len() * 2);
            cast::encode(Storage::F16, out, &mut bytes);
            cast::decode(Storage::F16, &bytes, out);
        }
        Ok(())
    }
}

struct Permuted {
    inner: Box<dyn Values>,
    /// Rows of a head.
    head: usize,
}

impl Values for Permuted {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let (cols, half) = (self.inner.geometry().cols, self.head / 2);
        out.clear();
        let mut halves = [Vec::new(), Vec::new()];
        let mut at = rows.start;
        while at < rows.end {
            let start = at / self.head * self.head;
            let (from, to) = (at - start, rows.end.min(start + self.head) - start);
            let pairs = from / 2..to.div_ceil(2);
            for (side, read) in halves.iter_mut().enumerate() {
                let first = start + side * half;
                self.inner.read(first + pairs.start..first + pairs.end, read)?;
            }
            for row in from..to {
                let line = (row / 2 - pairs.start) * cols;
                out.extend_from_slice(halves[row % 2].get(line..line + cols).unwrap_or_default());
            }
            at = start + to;
        }
        Ok(())
    }
}

/// A strip that a thread may still be reading.
type Slot = Arc<Mutex<Option<Vec<f32>>>>;

struct Transposed {
    inner: Box<dyn Values>,
    geometry: Geometry,
    /// Rows of every strip but the last.
    strip: usize,
    kept: Mutex<VecDeque<(usize, Slot)>>,
}

impl Values for Transposed {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let cols = self.geometry.cols;
        out.clear();
        let mut at = rows.start;
        while at < rows.end {
            let strip = at / self.strip;
            let first = strip * self.strip;
            let until = rows.end.min(first + self.strip);
            let slot = self.slot(strip);
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            let values = match slot.take() {
                Some(values) => values,
                None => self.gather(first)?,
            };
            out.extend_from_slice(values.get((at - first) * cols..(until - first) * cols).unwrap_or_default());
            *slot = Some(values);
            at = until;
        }
        Ok(())
    }
}

impl Transposed {
    fn slot(&self, strip: usize) -> Slot {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = kept.iter().find(|(s, _)| *s == strip) {
            return Arc::clone(slot);
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        let slot = Slot::default();
        kept.push_back((strip, Arc::clone(&slot)));
        slot
    }

    /// The rows of the strip that begins at `first`, row by row.
    fn gather(&self, first: usize) -> Result<Vec<f32>> {
        let Geometry { rows, cols, .. } = self.geometry;
        let count = self.strip.min(rows - first);
        let mut out = vec![0.0; count * cols];
        let lines = (BLOCK / rows.max(1)).clamp(1, cols.max(1));
        let mut block = Vec::new();
        for start in (0..cols).step_by(lines) {
            self.inner.read(start..cols.min(start + lines), &mut block)?;
            for (line, values) in block.chunks_exact(rows.max(1)).enumerate() {
                for (row, value) in values.iter().skip(first).take(count).enumerate() {
                    out[row * cols + start + line] = *value;
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbered(rows: usize, cols: usize) -> Box<dyn Values> {
        let values = (0..rows * cols).map(|i| i as f32).collect();
        Box::new(InMemory::new(&[rows as u64, cols as u64], values).expect("values"))
    }

    fn all(values: &dyn Values) -> Vec<f32> {
        let mut out = Vec::new();
        values.read(0..values.geometry().rows, &mut out).expect("read");
        out
    }

    #[test]
    fn rows_of_the_halves_of_a_head_take_turns() {
        fn check(rows: usize, heads: usize, expected: &[f32]) {
            let permuted = Permuted { inner: numbered(rows, 1), head: rows / heads };
            assert_eq!(all(&permuted), expected, "{rows} rows of {heads} heads");
        }
        check(4, 1, &[0.0, 2.0, 1.0, 3.0]);
        check(8, 2, &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        check(6, 1, &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        check(4, 2, &[0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn halves_stay_halves_when_one_is_added() {
        fn check(value: f32, half: bool, expected: f32) {
            let inner = Box::new(InMemory::new(&[1], vec![value]).expect("values"));
            assert_eq!(all(&OneMore { inner, half }), [expected], "{value}");
        }
        check(0.5, false, 1.5);
        check(0.000_488_281_25, false, 1.000_488_3);
        // Half the distance of two halves above one: to even.
        check(0.000_488_281_25, true, 1.0);
        check(-0.25, true, 0.75);
    }

    proptest! {
        #[test]
        fn slabs_are_cut_from_the_whole(
            heads in 1usize..5, half in 1usize..6, cols in 1usize..5, a: prop::sample::Index, b: prop::sample::Index,
        ) {
            let rows = heads * half * 2;
            let permuted = Permuted { inner: numbered(rows, cols), head: half * 2 };
            let transposed = Transposed {
                inner: numbered(cols, rows),
                geometry: Geometry::of_rows(rows as u64, cols as u64),
                strip: half,
                kept: Mutex::default(),
            };
            let (a, b) = (a.index(rows + 1), b.index(rows + 1));
            let (a, b) = (a.min(b), a.max(b));
            for values in [&permuted as &dyn Values, &transposed] {
                let mut part = Vec::new();
                values.read(a..b, &mut part).expect("read");
                prop_assert_eq!(&part[..], &all(values)[a * cols..b * cols]);
            }
            let turned: Vec<f32> =
                (0..rows).flat_map(|r| (0..cols).map(move |c| (c * rows + r) as f32)).collect();
            prop_assert_eq!(all(&transposed), turned);
        }
    }
}
