//! The low-rank branch of a layer: of what quantization leaves, round after round.
//!
//! A round takes the best few directions of what the codes so far do not hold, rounds them as they are stored, and
//! quantizes what they leave (SVDQuant, Li et al. 2024, section 4.2, iterated as deepcompressor does). The rounds end when
//! one is no better than the best before it.
use rayon::prelude::*;

use super::four::{Coded, Scheme};
use crate::core::{Cancel, Error, Result};
use crate::quant::four::{bf16, to_bf16};
use crate::quant::lowrank;
use crate::target::codec::{Geometry, Values};

/// Fixed, so that the same weights give the same file on every run.
const SEED: u64 = 0x6d69_7864_6f77_6e00;
/// Rounds at most. Most layers are done sooner.
const ROUNDS: usize = 12;
/// A round that takes off less than this share of the error is the last.
const WORTH: f64 = 2e-3;

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
        let g = self.geometry();
        let mut coded: Vec<Coded> = Vec::new();
        let mut best: Option<(f64, Branch)> = None;
        for _ in 0..ROUNDS {
            let rest = Rest { layer: self, coded: &coded };
            let found = lowrank::low_rank(&rest, self.rank, self.steps, SEED, &|| cancel.is_cancelled())?;
            let found = found.ok_or_else(Error::interrupted)?;
            let mut branch = Branch { up: found.up, down: found.down, tensor_scale: 1.0 };
            branch.up.iter_mut().for_each(|v| *v = rounded(*v));
            for row in branch.down.chunks_exact_mut(g.cols.max(1)) {
                match self.smooth {
                    Some(smooth) => row.iter_mut().zip(smooth).for_each(|(v, s)| *v = rounded(*v / s)),
                    None => row.iter_mut().for_each(|v| *v = rounded(*v)),
                }
            }
            if self.scheme.has_tensor_scale() {
                let most = self.slabs(cancel, |first, mut slab| {
                    self.residual(&branch, first, &mut slab);
                    slab.iter().fold(0.0f32, |most, v| if v.abs() > most { v.abs() } else { most })
                })?;
                branch.tensor_scale = self.scheme.tensor_scale(most.into_iter().fold(0.0, f32::max));
            }
            let round = self.slabs(cancel, |first, mut slab| {
                self.residual(&branch, first, &mut slab);
                let coded = self.scheme.encode(branch.tensor_scale, &slab);
                let mut back = vec![0.0; slab.len()];
                self.scheme.decode(&coded, branch.tensor_scale, &mut back);
                let error: f64 = slab.iter().zip(&back).map(|(v, b)| f64::from(v - b).powi(2)).sum();
                (error, Coded { tensor_scale: branch.tensor_scale, ..coded })
            })?;
            let error = round.iter().map(|(error, _)| error).sum::<f64>();
            let before = best.as_ref().map(|(error, _)| *error);
            if before.is_none_or(|before| error < before) {
                best = Some((error, branch));
            }
            if before.is_some_and(|before| error > before * (1.0 - WORTH)) || self.rank == 0 {
                break;
            }
            coded = round.into_iter().map(|(_, coded)| coded).collect();
        }
        Ok(best.map(|(_, branch)| branch).unwrap_or_default())
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

/// What the codes of the last round do not hold; before the first, everything.
struct Rest<'a> {
    layer: &'a Layer<'a>,
    coded: &'a [Coded],
}

impl lowrank::Chunks for Rest<'_> {
    type Error = Error;
    fn rows(&self) -> usize {
        self.layer.geometry().rows
    }
    fn cols(&self) -> usize {
        self.layer.geometry().cols
    }
    fn chunk_rows(&self) -> usize {
        self.layer.geometry().slab_rows
    }
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<()> {
        self.layer.values.read(self.layer.geometry().slab(chunk), out)?;
        smoothed(self.layer.smooth, out);
        if let Some(coded) = self.coded.get(chunk) {
            self.layer.scheme.subtract(coded, out);
        }
        Ok(())
    }
}
