//! Parts of packed tensors in the form their codec knows, whatever form they are stored in.
//!
//! What is stored as it is, is read as it is. Another float type is converted as it is read, and a matrix that lies
//! transposed is gathered in strips of its rows, so that nothing is ever read an element at a time.
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::dtype::StorageExt;
use crate::core::model::{Placed, Stored};
use crate::core::{Error, Result, Storage};
use crate::format::{Blob, Opened};
use crate::quant::cast;

/// About how many bytes a strip of a transposed matrix has.
const STRIP: usize = 2 << 20;
/// Strips that are kept: workers read near each other, so one strip serves several slabs.
const KEPT: usize = 4;
/// Stored rows that are turned at a time.
const BLOCK: usize = 64;
/// Stored rows of up to this many bytes are read whole: that costs less than a call for each.
const SHORT_ROW: usize = 4096;

/// The parts of one tensor.
#[derive(Debug)]
pub struct Parts {
    opened: Arc<Opened>,
    parts: Vec<Placed>,
    /// For each part that is a transposed matrix.
    turned: Vec<Option<Turned>>,
}

impl Parts {
    /// Those of an opened model, as its recogniser placed them.
    pub fn new(opened: &Arc<Opened>, parts: &[Placed]) -> Result<Self> {
        let turned = parts
            .iter()
            .map(|p| if p.transposed { Turned::of(array(opened, p)).map(Some) } else { Ok(None) })
            .collect::<Result<_>>()?;
        Ok(Self { opened: Arc::clone(opened), parts: parts.to_vec(), turned })
    }

    /// Some bytes of a part.
    pub fn read(&self, part: usize, bytes: Range<u64>) -> Result<Vec<u8>> {
        let (placed, stored) = self.part(part)?;
        let wrong = || Error::failed(format!("tensor `{}` has no bytes {bytes:?}", stored.name));
        if let Some(turned) = &self.turned[part] {
            return turned.read(&self.opened, stored, placed.storage, bytes);
        }
        let (native, own) = (element(placed.storage)?, element(stored.storage)?);
        let span = bytes.start / native * own..bytes.end.div_ceil(native) * own;
        if span.end > stored.span.len || !bytes.start.is_multiple_of(native) || bytes.start > bytes.end {
            return Err(wrong());
        }
        let mut read = vec![0; (span.end - span.start) as usize];
        blob(&self.opened, stored).read_at(stored.span.offset + span.start, &mut read)?;
        let mut read = converted(stored, placed.storage, read)?;
        read.truncate((bytes.end - bytes.start) as usize);
        Ok(read)
    }

    /// All bytes of a part.
    pub fn all(&self, part: usize) -> Result<Vec<u8>> {
        let (placed, stored) = self.part(part)?;
        self.read(part, 0..stored.span.len / element(stored.storage)? * element(placed.storage)?)
    }

    /// Bytes that reading a part holds besides what is read.
    pub fn memory(opened: &Opened, part: &Placed) -> u64 {
        match Turned::of(array(opened, part)) {
            // The strips, and one that is being gathered with the lines that it comes from.
            Ok(turned) if part.transposed => (turned.strip_bytes() * (KEPT + 2)) as u64,
            _ => 0,
        }
    }

    fn part(&self, part: usize) -> Result<(Placed, &Stored)> {
        let placed = *self.parts.get(part).ok_or_else(|| Error::failed(format!("part {part} is not there")))?;
        Ok((placed, array(&self.opened, &placed)))
    }
}

fn array<'a>(opened: &'a Opened, part: &Placed) -> &'a Stored {
    &opened.model.stored[part.array as usize]
}

fn blob<'a>(opened: &'a Opened, stored: &Stored) -> &'a Blob {
    &opened.blobs[stored.span.file as usize]
}

/// Bytes of an element.
fn element(storage: Storage) -> Result<u64> {
    storage.bytes().ok_or_else(|| Error::failed(format!("{} has elements smaller than a byte", storage.name())))
}

/// Elements of an array as another type that holds the same numbers.
fn converted(stored: &Stored, to: Storage, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let from = stored.storage;
    if from == to {
        return Ok(bytes);
    }
    let fails = |what: String| Err(Error::failed(format!("tensor `{}`: {what}", stored.name)));
    if (from, to) == (Storage::I64, Storage::U8) {
        let narrow = |wide: &[u8; 8]| u8::try_from(i64::from_le_bytes(*wide));
        return match bytes.as_chunks::<8>().0.iter().map(narrow).collect() {
            Ok(narrow) => Ok(narrow),
            Err(_) => fails("holds a number that is no byte, where each stands for the bits of one".into()),
        };
    }
    let mut values = vec![0.0; bytes.len() / element(from)? as usize];
    let mut out = Vec::with_capacity(values.len() * 4);
    if cast::decode(from, &bytes, &mut values) && cast::encode(to, &values, &mut out) {
        return Ok(out);
    }
    fails(format!("{} cannot be read as {}", from.name(), to.name()))
}

/// A strip that a thread may still be reading.
type Slot = Arc<Mutex<Option<Vec<u8>>>>;

/// A matrix `[rows, cols]` that is stored as `[cols, rows]`.
#[derive(Debug)]
struct Turned {
    rows: usize,
    cols: usize,
    /// Bytes of an element as stored.
    size: usize,
    /// Rows of every strip but the last.
    strip: usize,
    kept: Mutex<VecDeque<(usize, Slot)>>,
}

impl Turned {
    fn of(stored: &Stored) -> Result<Self> {
        let &[cols, rows] = stored.shape.as_slice() else {
            return Err(Error::failed(format!("tensor `{}` of shape {:?} is no matrix", stored.name, stored.shape)));
        };
        let (rows, cols, size) = (rows as usize, cols as usize, element(stored.storage)? as usize);
        let strip = (STRIP / (cols * size).max(1)).clamp(1, rows.max(1));
        Ok(Self { rows, cols, size, strip, kept: Mutex::default() })
    }

    fn strip_bytes(&self) -> usize {
        self.strip * self.cols * self.size
    }

    fn read(&self, opened: &Opened, stored: &Stored, to: Storage, bytes: Range<u64>) -> Result<Vec<u8>> {
        let row = self.cols * element(to)? as usize;
        let (start, end) = (bytes.start as usize, bytes.end as usize);
        if row == 0 || start > end || end > self.rows * row {
            return Err(Error::failed(format!("tensor `{}` has no bytes {bytes:?}", stored.name)));
        }
        let rows = start / row..end.div_ceil(row);
        let mut gathered = Vec::with_capacity(rows.len() * self.cols * self.size);
        let mut at = rows.start;
        while at < rows.end {
            let strip = at / self.strip;
            let first = strip * self.strip;
            let until = rows.end.min(first + self.strip);
            self.with_strip(opened, stored, strip, |bytes| {
                let row = self.cols * self.size;
                gathered.extend_from_slice(&bytes[(at - first) * row..(until - first) * row]);
            })?;
            at = until;
        }
        let native = converted(stored, to, gathered)?;
        Ok(native[start - rows.start * row..end - rows.start * row].to_vec())
    }

    /// Shows a strip to `f`; read once, while other strips are read beside it.
    fn with_strip(&self, opened: &Opened, stored: &Stored, strip: usize, f: impl FnOnce(&[u8])) -> Result<()> {
        let slot = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            match kept.iter().find(|(s, _)| *s == strip) {
                Some((_, slot)) => Arc::clone(slot),
                None => {
                    if kept.len() == KEPT {
                        kept.pop_front();
                    }
                    let slot = Slot::default();
                    kept.push_back((strip, Arc::clone(&slot)));
                    slot
                }
            }
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match slot.take() {
            Some(bytes) => bytes,
            None => self.gather(opened, stored, strip * self.strip)?,
        };
        f(&bytes);
        *slot = Some(bytes);
        Ok(())
    }

    /// The rows of the strip that begins at `first`, row by row.
    fn gather(&self, opened: &Opened, stored: &Stored, first: usize) -> Result<Vec<u8>> {
        let (size, count) = (self.size, self.strip.min(self.rows - first));
        let whole = count == self.rows || self.rows * size <= SHORT_ROW;
        // Of each stored row: where the strip's elements begin in what is read, and how many bytes that is.
        let (skip, run) = if whole { (first * size, self.rows * size) } else { (0, count * size) };
        let mut out = vec![0; count * self.cols * size];
        let mut block = vec![0; BLOCK.min(self.cols) * run];
        for start in (0..self.cols).step_by(BLOCK) {
            let lines = BLOCK.min(self.cols - start);
            let at =
                |line: usize| stored.span.offset + ((line * self.rows + if whole { 0 } else { first }) * size) as u64;
            if whole {
                blob(opened, stored).read_at(at(start), &mut block[..lines * run])?;
            } else {
                for (i, line) in block.chunks_exact_mut(run).take(lines).enumerate() {
                    blob(opened, stored).read_at(at(start + i), line)?;
                }
            }
            for row in 0..count {
                let to = (row * self.cols + start) * size;
                let from = skip + row * size;
                for (i, element) in out[to..to + lines * size].chunks_exact_mut(size).enumerate() {
                    element.copy_from_slice(&block[i * run + from..i * run + from + size]);
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Span;
    use crate::core::model::testing::model_of;
    use proptest::prelude::*;

    /// Parts of a model with one array.
    fn parts(from: Storage, shape: &[u64], bytes: Vec<u8>, to: Storage, transposed: bool) -> Result<Parts> {
        let mut model = model_of(&["a"]);
        let span = Span { file: 0, offset: 3, len: bytes.len() as u64 };
        model.stored = vec![Stored { name: "a".into(), storage: from, shape: shape.to_vec(), span }];
        // Not at the file's start, and not its end.
        let bytes: Vec<u8> = [vec![9; 3], bytes, vec![9; 5]].concat();
        let blobs = vec![Blob::Memory { name: "m", bytes: bytes.into() }];
        let opened = Opened {
            model: Arc::new(model),
            blobs,
            companions: Vec::new(),
            index: None,
            strays: Vec::new(),
            gguf: Vec::new(),
            changes: None,
        };
        Parts::new(&Arc::new(opened), &[Placed { array: 0, storage: to, transposed }])
    }

    #[test]
    fn numbers_are_read_as_the_type_that_is_wanted() {
        fn check(from: Storage, bytes: &[u8], to: Storage, expected: &[u8]) {
            let parts = parts(from, &[2], bytes.to_vec(), to, false).expect("parts");
            assert_eq!(parts.all(0).expect("read"), expected, "{from} as {to}");
            let half = expected.len() as u64 / 2;
            assert_eq!(parts.read(0, half..2 * half).expect("read"), expected[half as usize..]);
        }
        check(Storage::U8, &[1, 2], Storage::U8, &[1, 2]);
        check(Storage::I64, &[1, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0], Storage::U8, &[1, 255]);
        check(Storage::BF16, &[0x80, 0x3f, 0, 0x40], Storage::F32, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
        check(Storage::F16, &[0, 0x3c, 0, 0x40], Storage::F32, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
        check(Storage::F32, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40], Storage::BF16, &[0x80, 0x3f, 0, 0x40]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let fails =
            |p: Result<Parts>, range: Range<u64>| p.and_then(|p| p.read(0, range)).expect_err("refused").to_string();
        let wide = [0, 1, 0, 0, 0, 0, 0, 0].to_vec();
        assert!(fails(parts(Storage::I64, &[1], wide.clone(), Storage::U8, false), 0..1).contains("`a`"));
        assert!(fails(parts(Storage::I64, &[1], wide.clone(), Storage::F32, false), 0..4).contains("I64"));
        assert!(fails(parts(Storage::U8, &[8], wide.clone(), Storage::U8, false), 0..9).contains("0..9"));
        assert!(fails(parts(Storage::U8, &[2, 4], wide.clone(), Storage::U8, true), 0..9).contains("0..9"));
        assert!(fails(parts(Storage::U8, &[8], wide, Storage::U8, true), 0..8).contains("matrix"));
    }

    #[test]
    fn strips_of_any_width_are_the_same_matrix() {
        // Rows too long to be read whole, and more strips than are kept.
        let (rows, cols) = (5000usize, 3000usize);
        let value = |row: usize, col: usize| (row * 31 + col * 7) as u8;
        let stored: Vec<u8> = (0..cols).flat_map(|c| (0..rows).map(move |r| value(r, c))).collect();
        let parts = parts(Storage::U8, &[cols as u64, rows as u64], stored, Storage::U8, true).expect("parts");
        let read = |row: usize, n: usize| {
            let bytes = parts.read(0, (row * cols) as u64..((row + n) * cols) as u64).expect("read");
            for (i, b) in bytes.iter().enumerate() {
                assert_eq!(*b, value(row + i / cols, i % cols), "row {}", row + i / cols);
            }
        };
        for row in (0..rows).step_by(617) {
            read(row, 100.min(rows - row));
        }
        read(0, 1500);
    }

    proptest! {
        #[test]
        fn a_transposed_matrix_is_read_as_it_was(
            rows in 1usize..90, cols in 1usize..90, cut in any::<(prop::sample::Index, prop::sample::Index)>(), half: bool,
        ) {
            let (size, storage) = if half { (2, Storage::BF16) } else { (1, Storage::I8) };
            let element = |r: usize, c: usize| ((r * cols + c) as u16).to_le_bytes()[..size].to_vec();
            let native: Vec<u8> = (0..rows).flat_map(|r| (0..cols).flat_map(move |c| element(r, c))).collect();
            let stored: Vec<u8> = (0..cols).flat_map(|c| (0..rows).flat_map(move |r| element(r, c))).collect();
            let shape = [cols as u64, rows as u64];
            let parts = parts(storage, &shape, stored, storage, true).expect("parts");
            let (a, b) = (cut.0.index(native.len() + 1), cut.1.index(native.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            prop_assert_eq!(parts.read(0, a as u64..b as u64).expect("read"), native[a..b].to_vec());
            prop_assert_eq!(parts.all(0).expect("read"), native);
        }
    }
}
