//! The low-rank branch of a layer: of what quantization leaves, round after round.
//!
//! A round quantizes what a branch leaves, and takes the best few directions of what the codes do not hold as the next
//! branch, rounded as it is stored (SVDQuant, Li et al. 2024, section 4.2, iterated as deepcompressor does). The rounds end
//! when they are hardly better than the best before them.
//!
//! With `B` the branch and `E` what branch and codes leave of `W` together, the next branch is the best of rank `r` near
//! `B + E`: a step of projected gradient descent, and a timid one, for most of `E` is out of the branch's reach and the
//! codes follow a small change only in part. A longer step, `B +` [`STRETCH`] `· E`, gets as far in five rounds as twelve of
//! the plain ones do. A round reads the weight once: `B + E` is multiplied by the directions of `B` as soon as it is known,
//! and those are near enough to its own for one sweep to find them.
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

use super::four::Scheme;
use crate::core::{Cancel, Error, Result};
use crate::quant::four::{bf16, to_bf16};
use crate::quant::lowrank::{self, LowRank};
use crate::target::codec::{Geometry, Values};

/// Fixed, so that the same weights give the same file on every run.
const SEED: u64 = 0x6d69_7864_6f77_6e00;
/// Rounds at most: those beyond would each take off a percent or less.
const ROUNDS: usize = 6;
/// A round that takes off less than this share of the error is idle.
const WORTH: f64 = 2e-3;
/// So many idle rounds in a row end the search. A scale of all scales follows the greatest value, which goes up and down
/// from round to round; one round may lose by it what the next gains.
const PATIENCE: usize = 2;

/// Of what is left, how much a step goes towards. One is the plain iteration; on trained weights and on made ones, int4
/// and nvfp4, the rounds gain most at about three.
const STRETCH: f32 = 3.0;
/// Rows quantized at a time: few enough to stay in the second-level cache.
const ROWS: usize = 16;

/// A layer's values, and how they are to be kept.
pub struct Layer<'a> {
    /// The weight.
    pub values: &'a dyn Values,
    /// What its columns are multiplied by, where they are.
    pub smooth: Option<&'a [f32]>,
    /// Codes and scales.
    pub scheme: Scheme,
    /// Rank of the branch.
    pub rank: usize,
    /// Power iterations of a search.
    pub steps: usize,
}

/// A branch as it is stored: numbers of BF16.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Branch {
    /// `[rows, rank]`.
    pub up: Vec<f32>,
    /// `[rank, cols]`, for inputs that were not divided by anything.
    pub down: Vec<f32>,
    /// The scale of all scales.
    pub tensor_scale: f32,
}

fn rounded(value: f32) -> f32 {
    bf16(to_bf16(value))
}

impl Layer<'_> {
    fn geometry(&self) -> Geometry {
        self.values.geometry()
    }

    /// What is left of some rows beside a branch, as it is quantized.
    pub fn residual(&self, branch: &Branch, first: usize, values: &mut [f32]) {
        let (cols, rank) = (self.geometry().cols, self.rank);
        let rows = values.len() / cols.max(1);
        let up = branch.up.get(first * rank..(first + rows) * rank).unwrap_or_default();
        lowrank::subtract(up, &branch.down, rank, cols, values);
        smoothed(self.smooth, values);
    }

    /// Every slab of rows, in parallel on the current pool; what `f` makes of them, in order.
    fn slabs<T: Send>(&self, cancel: &Cancel, f: impl Fn(usize, Vec<f32>) -> T + Sync) -> Result<Vec<T>> {
        let g = self.geometry();
        (0..g.slabs())
            .into_par_iter()
            .map(|i| {
                cancel.check()?;
                let mut slab = Vec::new();
                self.values.read(g.slab(i), &mut slab)?;
                Ok(f(g.slab(i).start, slab))
            })
            .collect()
    }

    /// The best branch.
    pub fn branch(&self, cancel: &Cancel) -> Result<Branch> {
        let stop = || cancel.is_cancelled();
        let mut best: Option<(f64, Branch)> = None;
        let mut idle = 0;
        let mut found = lowrank::low_rank(&Smoothed(self), self.rank, self.steps, SEED, &stop)?;
        for _ in 0..ROUNDS {
            let directions = found.ok_or_else(Error::interrupted)?;
            let branch = self.as_stored(&directions, cancel)?;
            let round = Round { layer: self, branch: &branch, errors: Mutex::default() };
            found = lowrank::improve(&round, &directions.down, directions.rank, &stop)?;
            let error = round.error();
            let before = best.as_ref().map(|(error, _)| *error);
            if before.is_none_or(|before| error < before) {
                best = Some((error, branch));
            }
            idle = if before.is_some_and(|before| error > before * (1.0 - WORTH)) { idle + 1 } else { 0 };
            if self.rank == 0 || idle == PATIENCE {
                break;
            }
        }
        Ok(best.map(|(_, branch)| branch).unwrap_or_default())
    }

    /// Factors as they are stored, and the scale of all scales of what they leave. A small layer has not as many directions
    /// as the rank; the others are zeros.
    fn as_stored(&self, found: &LowRank, cancel: &Cancel) -> Result<Branch> {
        let (rows, cols) = (self.geometry().rows, self.geometry().cols);
        let mut up = vec![0.0; rows * self.rank];
        for (to, from) in up.chunks_exact_mut(self.rank.max(1)).zip(found.up.chunks_exact(found.rank.max(1))) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = rounded(*from));
        }
        let mut down = found.down.clone();
        down.resize(self.rank * cols, 0.0);
        for row in down.chunks_exact_mut(cols.max(1)) {
            unsmoothed(self.smooth, row);
        }
        down.iter_mut().for_each(|v| *v = rounded(*v));
        let mut branch = Branch { up, down, tensor_scale: 1.0 };
        if self.scheme.has_tensor_scale() {
            let most = self.slabs(cancel, |first, mut slab| {
                self.residual(&branch, first, &mut slab);
                slab.iter().fold(0.0f32, |most, v| if v.abs() > most { v.abs() } else { most })
            })?;
            branch.tensor_scale = self.scheme.tensor_scale(most.into_iter().fold(0.0, f32::max));
        }
        Ok(branch)
    }
}

/// Columns times what they are smoothed by.
pub fn smoothed(smooth: Option<&[f32]>, values: &mut [f32]) {
    let Some(smooth) = smooth.filter(|s| !s.is_empty()) else { return };
    for row in values.chunks_exact_mut(smooth.len()) {
        row.iter_mut().zip(smooth).for_each(|(v, s)| *v *= s);
    }
}

/// Columns divided by what they are smoothed by.
pub fn unsmoothed(smooth: Option<&[f32]>, values: &mut [f32]) {
    let Some(smooth) = smooth.filter(|s| !s.is_empty()) else { return };
    for row in values.chunks_exact_mut(smooth.len()) {
        row.iter_mut().zip(smooth).for_each(|(v, s)| *v /= s);
    }
}

/// A weight as it is quantized.
struct Smoothed<'a>(&'a Layer<'a>);

impl lowrank::Chunks for Smoothed<'_> {
    type Error = Error;
    fn rows(&self) -> usize {
        self.0.geometry().rows
    }
    fn cols(&self) -> usize {
        self.0.geometry().cols
    }
    fn chunk_rows(&self) -> usize {
        self.0.geometry().chunk_rows(lowrank::CHUNK)
    }
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<()> {
        self.0.values.read(self.rows_of(chunk), out)?;
        smoothed(self.0.smooth, out);
        Ok(())
    }
}

/// What the next branch is to be near: the branch, and [`STRETCH`] times what it and the codes leave. Reading quantizes.
struct Round<'a> {
    layer: &'a Layer<'a>,
    branch: &'a Branch,
    /// Of each chunk, the squares of what is left.
    errors: Mutex<Vec<(usize, f64)>>,
}

impl Round<'_> {
    /// The squares of what is left, added up in the order of the chunks: the same in any order of reading.
    fn error(self) -> f64 {
        let mut errors = self.errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        errors.sort_by_key(|(chunk, _)| *chunk);
        errors.iter().map(|(_, error)| error).sum()
    }
}

impl lowrank::Chunks for Round<'_> {
    type Error = Error;
    fn rows(&self) -> usize {
        self.layer.geometry().rows
    }
    fn cols(&self) -> usize {
        self.layer.geometry().cols
    }
    fn chunk_rows(&self) -> usize {
        self.layer.geometry().chunk_rows(lowrank::CHUNK)
    }
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<()> {
        let (layer, span) = (self.layer, self.rows_of(chunk));
        layer.values.read(span.clone(), out)?;
        let (mut left, mut back, mut error) = (Vec::new(), Vec::new(), 0.0);
        for (i, rows) in out.chunks_mut(ROWS * self.cols().max(1)).enumerate() {
            left.clear();
            left.extend_from_slice(rows);
            layer.residual(self.branch, span.start + i * ROWS, &mut left);
            smoothed(layer.smooth, rows);
            let coded = layer.scheme.encode(self.branch.tensor_scale, &left);
            back.resize(left.len(), 0.0);
            layer.scheme.decode(&coded, self.branch.tensor_scale, &mut back);
            let mut squares = 0.0f32;
            for ((value, left), back) in rows.iter_mut().zip(&left).zip(&back) {
                let off = left - back;
                squares += off * off;
                *value = (*value - left) + STRETCH * off;
            }
            error += f64::from(squares);
        }
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).push((chunk, error));
        Ok(())
    }
}
