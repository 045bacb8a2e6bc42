//! One row through its codec: read, encode, decode, compare. What a trial shows and what a conversion writes.
use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::codec::{Codec, Geometry, Prepared, Values, room};
use crate::core::histogram::Histogram;
use crate::core::profile::ErrorProfile;
use crate::core::{Cancel, Error, LossSums, Result};
use crate::quant::affine::first_non_finite;
use crate::quant::compare;

/// Takes the bytes of parts as they are made, in any order, from any thread.
pub trait Sink: Sync {
    /// `bytes` of a part, from `offset` within it.
    fn write(&self, part: usize, offset: u64, bytes: &[u8]) -> Result<()>;
}

/// A sink that keeps nothing: a trial.
#[derive(Debug)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, _: usize, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// What comes of a row, or of a slab of it.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The loss.
    pub sums: LossSums,
    /// More than that, when asked for.
    pub detail: Option<Box<Detail>>,
}

/// How the weights and the errors are distributed.
#[derive(Clone, Debug, Default)]
pub struct Detail {
    /// The weights.
    pub weights: Histogram,
    /// Decoded values minus weights.
    pub errors: Histogram,
    /// Where the errors lie.
    pub profile: ErrorProfile,
}

impl Measured {
    /// Adds the next slab.
    pub fn merge(&mut self, other: Self) {
        self.sums.merge(&other.sums);
        match (&mut self.detail, other.detail) {
            (Some(mine), Some(theirs)) => {
                mine.weights.merge(&theirs.weights);
                mine.errors.merge(&theirs.errors);
                mine.profile.merge(theirs.profile);
            }
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }
}

/// What a worker keeps from slab to slab.
#[derive(Default)]
struct Scratch {
    weights: Vec<f32>,
    bytes: Vec<u8>,
    decoded: Vec<f32>,
}

impl Scratch {
    const EMPTY: Self = Self { weights: Vec::new(), bytes: Vec::new(), decoded: Vec::new() };
}

/// Slabs that are worked on before their results are put together; many times the cores of most machines.
const AT_A_TIME: usize = 256;

/// A row and everything a pass over it needs.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// The row's name, for messages.
    pub name: &'a str,
    /// Its codec.
    pub codec: &'a dyn Codec,
    /// Its values.
    pub values: &'a dyn Values,
    /// Where its bytes go.
    pub sink: &'a dyn Sink,
    /// Asks it to stop.
    pub cancel: &'a Cancel,
    /// Whether more than the loss is wanted.
    pub detail: bool,
}

impl Pass<'_> {
    /// What must be known of the whole tensor; its bytes are written.
    pub fn prepare(&self) -> Result<Box<dyn Prepared>> {
        // A search over values that are not numbers would fail later and say less.
        let prepared = self.codec.prepare(&Checked(*self), self.cancel)?;
        for (part, bytes) in prepared.whole() {
            self.sink.write(part, 0, &bytes)?;
        }
        Ok(prepared)
    }

    /// Refuses values from row `start` on that are not numbers.
    fn refuse_non_finite(&self, start: usize, weights: &[f32]) -> Result<()> {
        match first_non_finite(weights) {
            None => Ok(()),
            Some(at) => Err(Error::failed(format!(
                "tensor `{}` has the value {} at {}; exclude it, or repair the source",
                self.name,
                weights[at],
                self.place(start, at)
            ))),
        }
    }

    /// Indexes of the element that comes `at` elements after row `start` begins, for people.
    fn place(&self, start: usize, at: usize) -> String {
        match self.values.geometry().cols {
            0 | 1 => format!("[{}]", start + at),
            cols => format!("[{}, {}]", start + at / cols, at % cols),
        }
    }

    /// One slab: its bytes go to the sink, its loss comes back.
    pub fn slab(&self, prepared: &dyn Prepared, slab: usize) -> Result<Measured> {
        self.cancel.check()?;
        // Fresh memory costs as much as the arithmetic on it.
        thread_local!(static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch::EMPTY) });
        let mut scratch = SCRATCH.take();
        let measured = self.slab_with(prepared, slab, &mut scratch);
        SCRATCH.set(scratch);
        measured
    }

    fn slab_with(&self, prepared: &dyn Prepared, slab: usize, scratch: &mut Scratch) -> Result<Measured> {
        let Scratch { weights, bytes, decoded } = scratch;
        let rows = self.codec.geometry().slab(slab);
        self.values.read(rows.clone(), weights)?;
        let pieces = prepared.pieces(rows.clone());
        let mut places = room(&pieces, bytes);
        prepared.encode(rows.clone(), weights, &mut places);
        let filled: Vec<&[u8]> = places.into_iter().map(|place| &*place).collect();
        for (piece, bytes) in pieces.iter().zip(&filled) {
            self.sink.write(piece.part, piece.bytes.start, bytes)?;
        }
        decoded.resize(weights.len(), 0.0);
        prepared.decode(rows.clone(), &filled, decoded);
        let mut sums = compare(weights, decoded);
        let cols = self.codec.geometry().cols;
        for (weighed, importance) in self.codec.importance(rows.clone()) {
            let within = (weighed.start - rows.start) * cols..(weighed.end - rows.start) * cols;
            sums.weigh(&weights[within.clone()], &decoded[within], importance);
        }
        if !sums.is_finite() {
            // What was written already is removed with the rest.
            self.refuse_non_finite(rows.start, weights)?;
            // The file would hold an infinity where the source has a number.
            if let Some(at) = first_non_finite(decoded) {
                return Err(Error::failed(format!(
                    "tensor `{}`: the value {} at {} is too large for what it is stored as; exclude it, or choose another dtype",
                    self.name,
                    weights[at],
                    self.place(rows.start, at)
                )));
            }
        }
        let detail = self.detail.then(|| {
            let mut detail = Box::<Detail>::default();
            detail.weights.add(weights.iter().copied());
            detail.errors.add(weights.iter().zip(&*decoded).map(|(w, d)| d - w));
            detail.profile = ErrorProfile::of(cols, weights, decoded);
            detail
        });
        Ok(Measured { sums, detail })
    }

    /// The whole row, its slabs side by side on the current pool; `done` hears of the elements of each.
    pub fn run(&self, done: &(dyn Fn(u64) + Sync)) -> Result<Measured> {
        let prepared = self.prepare()?;
        let slabs = self.codec.geometry().slabs();
        let mut all = Measured::default();
        // Details are large: only those of a few slabs are held at a time.
        for first in (0..slabs).step_by(AT_A_TIME) {
            let some: Result<Vec<Measured>> = (first..(first + AT_A_TIME).min(slabs))
                .into_par_iter()
                .map(|i| {
                    let measured = self.slab(prepared.as_ref(), i)?;
                    done(measured.sums.elements);
                    Ok(measured)
                })
                .collect();
            for slab in some? {
                // In order, whatever the threads did: floating sums are not associative.
                all.merge(slab);
            }
        }
        for (part, bytes) in prepared.finish() {
            self.sink.write(part, 0, &bytes)?;
        }
        Ok(all)
    }
}

/// The values of a pass, refused as they are read where they are not numbers.
struct Checked<'a>(Pass<'a>);

impl Values for Checked<'_> {
    fn geometry(&self) -> Geometry {
        self.0.values.geometry()
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let start = rows.start;
        self.0.values.read(rows, out)?;
        self.0.refuse_non_finite(start, out)
    }
    fn bias(&self) -> Result<Vec<f32>> {
        self.0.values.bias()
    }
}
