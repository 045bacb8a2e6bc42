//! The best few directions of a matrix: `A ≈ up · down`, from a handful of sweeps over its rows.
//!
//! A randomized range finder with power iterations (Halko, Martinsson, Tropp 2011, algorithm 4.4), arranged so that a
//! matrix larger than memory can be used: each sweep reads every chunk of rows once and forms `Aᵀ(A · V)` from it, both
//! products while the chunk is in the cache. `V` has [`OVERSAMPLING`] columns more than asked for and is made
//! orthonormal after every sweep. The last sweep only forms `W = A · V`; the eigenvectors `Q` of `WᵀW` then turn it into
//! the factors: `up = W · Q = U · S`, `down = (V · Q)ᵀ`, which is the best approximation within the span of `V`.
//!
//! The quality asked for is that of `torch.svd_lowrank(A, q = rank, niter = steps)`, which SDNQ uses (`quant_utils.py`,
//! `apply_svdquant`): the sweeps end at `steps`, or when the next would no longer matter to the residual.
//!
//! # The same result every time
//! The chunks are divided into lanes by the shape alone; a lane is summed in order by one thread, and the lanes are then
//! added in order. So the result does not depend on the number of threads. It does depend on whether the machine fuses
//! multiplication and addition, in the last bits; [`subtract`] and [`add`] do not.

mod apply;
mod basis;
mod product;
#[cfg(test)]
mod tests;

pub use apply::{add, subtract};

use basis::Tall;
use nalgebra::DMatrix;
use product::Product;
use rayon::prelude::*;

/// Columns of the search beyond the rank asked for.
pub const OVERSAMPLING: usize = 16;
/// The most lanes, and the most bytes their sums may take together.
const LANES: usize = 16;
const LANE_BYTES: usize = 64 << 20;
/// Rows multiplied at a time: what is read of `A` for the first product is still near for the second.
const ROWS: usize = 64;
/// Columns of `A` multiplied at a time: as many rows of `V` stay in the second-level cache.
const DEPTH: usize = 512;
/// Columns of `A` copied together for the second product: the rows of `A` are far apart, often by a multiple of the
/// cache's stride.
const PANEL: usize = 64;

/// The rows of a matrix, delivered chunk by chunk. Chunk boundaries come from the shape, never from threads or memory.
///
/// Every sweep reads every chunk once, several at a time. Chunks of 64 rows and more, and as many chunks as the machine
/// has threads and more, make the most of it.
pub trait Chunks: Sync {
    /// What reading can fail with.
    type Error: Send;
    /// Rows of the matrix.
    fn rows(&self) -> usize;
    /// Columns of the matrix.
    fn cols(&self) -> usize;
    /// Rows of every chunk but the last, at least 1.
    fn chunk_rows(&self) -> usize;
    /// Make `out` the rows from `chunk · chunk_rows` on, row-major.
    ///
    /// # Errors
    /// If the rows cannot be read.
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<(), Self::Error>;
}

/// Two thin factors whose product approximates a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Columns of `up`, rows of `down`.
    pub rank: usize,
    /// `U · S`, `[rows, rank]`, the columns by falling norm.
    pub up: Vec<f32>,
    /// `Vᵀ`, `[rank, cols]`, orthonormal rows; the entry of largest magnitude of each row is positive. Where the matrix
    /// has a smaller rank, rows may be zero.
    pub down: Vec<f32>,
}

/// The best approximation of `a` with `rank` (or as many as the matrix has rows or columns), nearly.
///
/// `steps` is the most power iterations, at least 1 is done; 8 is ample. Runs on the current rayon pool. `cancel` is
/// asked before every chunk; `None` is the answer to it.
///
/// The values should be finite and their squares within the range of f32; factors that would not be finite are returned
/// as zeros.
///
/// # Errors
/// The first error of [`Chunks::read`].
///
/// # Panics
/// If a chunk has another length than the shape says.
pub fn low_rank<C: Chunks>(
    a: &C,
    rank: usize,
    steps: usize,
    seed: u64,
    cancel: &(dyn Fn() -> bool + Sync),
) -> Result<Option<LowRank>, C::Error> {
    let (rows, cols) = (a.rows(), a.cols());
    let rank = rank.min(rows).min(cols);
    if rank == 0 {
        return Ok(Some(LowRank {
            rank,
            up: Vec::new(),
            down: Vec::new(),
        }));
    }
    let mut v = random(cols, (rank + OVERSAMPLING).min(rows).min(cols), seed);
    let mut watch = Watch::new(rank, cols);
    for step in 0..steps.max(1) {
        let Some(sweep) = sweep::<C, true>(a, &v, step == 0, cancel)? else {
            return Ok(None);
        };
        v = Tall {
            values: sweep.back,
            ..v
        }
        .orthonormal();
        if watch.converged(sweep.energy, &sweep.gram) {
            break;
        }
    }
    let Some(last) = sweep::<C, false>(a, &v, false, cancel)? else {
        return Ok(None);
    };
    let (_, directions) = leading(last.gram, rank);
    let up = Tall {
        values: last.forth,
        ..Tall::zeros(0, v.cols)
    }
    .times(&directions);
    let down = v.times(&directions);
    Ok(Some(factors(rank, &up, &down)))
}

/// Independent numbers of mean 0 and variance 1, nearly normal: sums of four uniform ones, each 16 bits of splitmix64
/// (Steele, Lea, Flood 2014). A search for a range needs no better, and this has the same bits everywhere.
fn random(rows: usize, cols: usize, seed: u64) -> Tall {
    let mut tall = Tall::zeros(rows, cols);
    let mut state = seed;
    for row in tall.values.chunks_exact_mut(tall.stride) {
        for value in &mut row[..cols] {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let z = z ^ (z >> 31);
            let sum = (z & 0xffff) + ((z >> 16) & 0xffff) + ((z >> 32) & 0xffff) + (z >> 48);
            *value = (sum as f32 / 65_535.0 - 2.0) * 1.732_050_8;
        }
    }
    tall
}

/// When to stop: the energy `|A·V|²` of the leading directions rises from sweep to sweep, and what is left of `|A|²` is
/// the residual's. Each sweep's rise is about the same fraction of the rise before it.
struct Watch {
    rank: usize,
    cols: usize,
    total: f64,
    captured: f64,
    rise: Option<f64>,
}

impl Watch {
    fn new(rank: usize, cols: usize) -> Self {
        Self {
            rank,
            cols,
            total: 0.0,
            captured: 0.0,
            rise: None,
        }
    }

    /// `energy` of the matrix, if this is the first sweep, whose columns are not orthonormal yet.
    fn converged(&mut self, energy: Option<f64>, gram: &DMatrix<f64>) -> bool {
        if let Some(total) = energy {
            self.total = total;
            self.captured = total * self.rank as f64 / self.cols as f64;
            return false;
        }
        let (captured, _) = leading(gram.clone(), self.rank);
        let left = (self.total - captured).max(0.0);
        let rise = (captured - self.captured).max(0.0);
        let ratio = self.rise.map(|before| {
            if before > 0.0 {
                (rise / before).min(0.99)
            } else {
                0.0
            }
        });
        (self.captured, self.rise) = (captured, Some(rise));
        // Two more half steps are already paid for: the basis found last, and the factors taken from it. A residual of
        // nothing but rounding is not worth a sweep either.
        let ahead = ratio.map_or(f64::INFINITY, |ratio| rise * ratio * ratio / (1.0 - ratio));
        rise <= 0.02 * left || ahead <= 0.002 * left || left <= 1e-10 * self.total
    }
}

/// The sum of the largest eigenvalues, and their eigenvectors as columns, the largest first.
fn leading(gram: DMatrix<f64>, rank: usize) -> (f64, DMatrix<f64>) {
    let size = gram.nrows();
    if !gram.iter().all(|v| v.is_finite()) {
        return (0.0, DMatrix::zeros(size, rank));
    }
    let eigen = gram.symmetric_eigen();
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
    order.truncate(rank);
    let sum = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0)).sum();
    (
        sum,
        DMatrix::from_fn(size, rank, |row, col| eigen.eigenvectors[(row, order[col])]),
    )
}

/// Strip the padding, turn `down` round, settle the signs.
fn factors(rank: usize, up: &Tall, down: &Tall) -> LowRank {
    let (rows, cols) = (up.values.len() / up.stride, down.values.len() / down.stride);
    let mut result = LowRank {
        rank,
        up: vec![0.0; rows * rank],
        down: vec![0.0; rank * cols],
    };
    if !up.values.iter().chain(&down.values).all(|v| v.is_finite()) {
        return result;
    }
    for (to, from) in result
        .up
        .chunks_exact_mut(rank)
        .zip(up.values.chunks_exact(up.stride))
    {
        to.copy_from_slice(&from[..rank]);
    }
    // By bands of columns, so that the writes of a band stay in the cache.
    for band in (0..cols).step_by(64) {
        for (k, to) in result.down.chunks_exact_mut(cols).enumerate() {
            for col in band..cols.min(band + 64) {
                to[col] = down.values[col * down.stride + k];
            }
        }
    }
    for (k, row) in result.down.chunks_exact_mut(cols).enumerate() {
        let largest =
            row.iter().copied().fold(
                0.0f32,
                |largest, v| if v.abs() > largest.abs() { v } else { largest },
            );
        if largest < 0.0 {
            row.iter_mut().for_each(|v| *v = -*v);
            result
                .up
                .iter_mut()
                .skip(k)
                .step_by(rank)
                .for_each(|v| *v = -*v);
        }
    }
    result
}

/// What a sweep over the rows of `A` yields, for `V` of `[cols, stride]`.
struct Sweep {
    /// `W = A · V`, `[rows, stride]`, if the sweep goes only forth.
    forth: Vec<f32>,
    /// `Aᵀ · W`, `[cols, stride]`, if it goes back as well.
    back: Vec<f32>,
    /// `Wᵀ · W`.
    gram: DMatrix<f64>,
    /// `|A|²`, if asked for.
    energy: Option<f64>,
}

/// A lane's part of a sweep; the Gram matrix is the upper part of `[stride, stride]`.
struct Lane {
    forth: Vec<f32>,
    back: Vec<f32>,
    gram: Vec<f64>,
    energy: f64,
}

fn sweep<C: Chunks, const BACK: bool>(
    a: &C,
    v: &Tall,
    measure: bool,
    cancel: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Sweep>, C::Error> {
    let (rows, cols, stride) = (a.rows(), a.cols(), v.stride);
    let chunks = rows.div_ceil(a.chunk_rows());
    let lanes = (LANE_BYTES / (cols * stride * 4))
        .clamp(1, LANES)
        .min(chunks);
    let lane = |lane: usize| -> Result<Option<Lane>, C::Error> {
        let back = if BACK { cols * stride } else { 0 };
        let mut sums = Lane {
            forth: Vec::new(),
            back: vec![0.0; back],
            gram: vec![0.0; stride * stride],
            energy: 0.0,
        };
        let mut chunk_values = Vec::new();
        let mut work = Work {
            forth: vec![0.0; ROWS * stride],
            panel: vec![0.0; ROWS * PANEL],
        };
        for chunk in lane * chunks / lanes..(lane + 1) * chunks / lanes {
            if cancel() {
                return Ok(None);
            }
            a.read(chunk, &mut chunk_values)?;
            let chunk_rows = a.chunk_rows().min(rows - chunk * a.chunk_rows());
            assert_eq!(
                chunk_values.len(),
                chunk_rows * cols,
                "chunk {chunk} is [{chunk_rows}, {cols}]"
            );
            for a in chunk_values.chunks(ROWS * cols) {
                if measure {
                    sums.energy += basis::energy(a);
                }
                work.add::<BACK>(a, cols, v, &mut sums);
            }
        }
        Ok(Some(sums))
    };
    let done: Vec<Result<Option<Lane>, C::Error>> = (0..lanes)
        .into_par_iter()
        .with_max_len(1)
        .map(lane)
        .collect();
    let mut parts = Vec::with_capacity(lanes);
    for part in done {
        let Some(part) = part? else { return Ok(None) };
        parts.push(part);
    }
    Ok(Some(merge(parts, v, measure)))
}

/// The lanes added up, in order.
fn merge(mut parts: Vec<Lane>, v: &Tall, measure: bool) -> Sweep {
    let mut gram = vec![0.0; v.stride * v.stride];
    let (mut energy, mut forth) = (0.0, Vec::new());
    for part in &parts {
        basis::add(&mut gram, &part.gram);
        energy += part.energy;
        forth.extend_from_slice(&part.forth);
    }
    let mut back = core::mem::take(&mut parts[0].back);
    let run = 4096;
    back.par_chunks_mut(run).enumerate().for_each(|(i, sum)| {
        for part in &parts[1..] {
            basis::add(sum, &part.back[i * run..]);
        }
    });
    let gram = basis::symmetric(&gram, v.stride, v.cols);
    Sweep {
        forth,
        back,
        gram,
        energy: measure.then_some(energy),
    }
}

/// Buffers of a lane.
struct Work {
    /// `A · V` of the rows at hand.
    forth: Vec<f32>,
    /// A few columns of them.
    panel: Vec<f32>,
}

impl Work {
    /// Add up to `ROWS` rows of `A`.
    fn add<const BACK: bool>(&mut self, a: &[f32], cols: usize, v: &Tall, sums: &mut Lane) {
        let (rows, stride) = (a.len() / cols, v.stride);
        let forth = &mut self.forth[..rows * stride];
        forth.fill(0.0);
        for first in (0..cols).step_by(DEPTH) {
            Product {
                a: &a[first..],
                a_row: cols,
                a_step: 1,
                rows,
                depth: DEPTH.min(cols - first),
                b: &v.values[first * stride..],
                b_row: stride,
                cols: stride,
                out: forth,
                out_row: stride,
            }
            .add_fused();
        }
        basis::add(&mut sums.gram, &basis::gram(forth, stride, v.cols));
        if !BACK {
            sums.forth.extend_from_slice(forth);
            return;
        }
        for first in (0..cols).step_by(PANEL) {
            let width = PANEL.min(cols - first);
            for (to, from) in self.panel.chunks_exact_mut(PANEL).zip(a.chunks_exact(cols)) {
                to[..width].copy_from_slice(&from[first..first + width]);
            }
            Product {
                a: &self.panel,
                a_row: 1,
                a_step: PANEL,
                rows: width,
                depth: rows,
                b: forth,
                b_row: stride,
                cols: stride,
                out: &mut sums.back[first * stride..],
                out_row: stride,
            }
            .add_fused();
        }
    }
}
