//! The best few directions of a matrix: `A ≈ up · down`, from a handful of sweeps over its rows.
//!
//! A randomized block Lanczos method (Musco and Musco 2015, algorithm 2), arranged so that a matrix larger than memory can
//! be used: each sweep reads every chunk of rows once and forms `W = A · V` and `Aᵀ · W` from it, both products while the
//! chunk is in the cache. What `Aᵀ · W` adds to the space searched so far becomes the next `V`, so that nothing found is
//! thrown away, and few columns suffice: four sweeps with half as many columns as the rank reach what a power iteration
//! needs three and a half sweeps of one and a half times the rank for, which is twice the work. The factors are the best
//! approximation of `A` within the span of all `W`.
//!
//! The quality asked for is that of `torch.svd_lowrank(A, q = rank, niter = steps)`, which SDNQ uses (`quant_utils.py`,
//! `apply_svdquant`): the sweeps end at `steps` and one, or when the next would no longer matter to the residual.
//!
//! # The same result every time
//! The chunks are divided into lanes by the shape alone; a lane is summed in order by one thread, and the lanes are then
//! added in order. So the result does not depend on the number of threads. It does depend on whether the machine fuses
//! multiplication and addition, in the last bits; [`subtract`] and [`add`] do not.

mod apply;
mod basis;
mod product;
mod space;
#[cfg(test)]
mod tests;

pub use apply::{add, subtract};

use basis::Tall;
use core::ops::Range;
use product::{COLUMNS, Product};
use rayon::prelude::*;
use space::{Space, Watch};
use std::sync::{Mutex, PoisonError};

/// Dimensions of the search beyond the rank asked for, at least.
const OVERSAMPLING: usize = 16;
/// About how many elements a chunk should have: fewer, and passing over `AᵀW` costs more than the arithmetic; more, and
/// they leave the cache before they are used again.
pub const CHUNK: usize = 3 << 17;
/// The most lanes, and the most bytes their sums may take together.
const LANES: usize = 8;
/// The most bytes that the lanes' sums take together.
const LANE_BYTES: usize = 64 << 20;
/// Rows multiplied at a time: what is read of `A` for the first product is still near for the second.
const ROWS: usize = 32;
/// The search starts from what one chunk in so many says of the rest: vectors that lean towards the leading directions
/// nearly as much as after a whole sweep.
const SAMPLED: usize = 8;
/// Columns of `A` multiplied at a time: they stay in the first-level cache, and so do as many rows of `V` where the rank
/// is small. They are copied beside each other, since the rows of `A` are far apart, often by a multiple of the cache's stride.
const PANEL: usize = 128;

/// The rows of a matrix, delivered chunk by chunk. Chunk boundaries come from the shape, never from threads or memory.
///
/// Every sweep reads every chunk once, several at a time. Chunks of whole multiples of 16 rows, and as many chunks as
/// the machine has threads and more, make the most of it.
pub trait Chunks: Sync {
    /// What reading can fail with.
    type Error: Send;
    /// Rows of the matrix.
    fn rows(&self) -> usize;
    /// Columns of the matrix.
    fn cols(&self) -> usize;
    /// Rows of every chunk but the last, at least 1.
    fn chunk_rows(&self) -> usize;
    /// The rows of a chunk.
    fn rows_of(&self, chunk: usize) -> Range<usize> {
        let start = chunk * self.chunk_rows();
        start..(start + self.chunk_rows()).min(self.rows())
    }
    /// Make `out` the rows of a chunk, row-major.
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
        return Ok(Some(LowRank { rank, up: Vec::new(), down: Vec::new() }));
    }
    let sweeps = steps.max(1) + 1;
    let mut start = random(cols, block(rank, sweeps).min(rows).min(cols), seed);
    let (mut lanes, buffers) = (lanes(a, start.stride), Buffers::default());
    if rows / SAMPLED >= 2 * rank + OVERSAMPLING && rows.div_ceil(a.chunk_rows()) >= 2 * SAMPLED {
        match sweep(a, &start, &mut lanes, &buffers, Scope::Sample, cancel)? {
            Some(sampled) => start.lean_to(&sampled.back),
            None => return Ok(None),
        }
    }
    let mut space = Space::new(start);
    let mut watch = None;
    for step in 0..sweeps {
        let scope = if step == 0 { Scope::AllAndEnergy } else { Scope::All };
        let Some(v) = space.next() else { break };
        let Some(swept) = sweep(a, v, &mut lanes, &buffers, scope, cancel)? else {
            return Ok(None);
        };
        let watch = watch.get_or_insert_with(|| Watch::new(swept.energy));
        let open = space.grow(swept.forth, swept.back);
        let whole = space.size() >= rank;
        if !open || watch.converged(space.captured(rank.min(space.size())), whole) {
            break;
        }
    }
    let (up, down) = space.factors(&space.best(rank));
    Ok(Some(factors(rank, &up, &down)))
}

/// A better approximation than the one that `down` belongs to, `[rank, cols]`, by one sweep: the best within the span of
/// `A · downᵀ`. Where `down` holds the leading directions of a matrix that is close to `a`, one is enough.
///
/// # Errors
/// The first error of [`Chunks::read`].
///
/// # Panics
/// If a chunk or `down` has another length than the shape says.
pub fn improve<C: Chunks>(
    a: &C,
    down: &[f32],
    rank: usize,
    cancel: &(dyn Fn() -> bool + Sync),
) -> Result<Option<LowRank>, C::Error> {
    let cols = a.cols();
    assert_eq!(down.len(), rank * cols, "down is [{rank}, {cols}]");
    if rank == 0 {
        return Ok(Some(LowRank { rank, up: Vec::new(), down: Vec::new() }));
    }
    let mut start = Tall::zeros(cols, rank);
    for (k, row) in down.chunks_exact(cols).enumerate() {
        start.values.iter_mut().skip(k).step_by(start.stride).zip(row).for_each(|(to, from)| *to = *from);
    }
    let (mut lanes, buffers, mut space) = (lanes(a, start.stride), Buffers::default(), Space::new(start));
    let Some(v) = space.next() else { return Ok(None) };
    let Some(swept) = sweep(a, v, &mut lanes, &buffers, Scope::All, cancel)? else {
        return Ok(None);
    };
    space.grow(swept.forth, swept.back);
    let (up, down) = space.factors(&space.best(rank));
    Ok(Some(factors(rank, &up, &down)))
}

/// What a sweep reads and measures.
#[derive(Clone, Copy, PartialEq)]
enum Scope {
    /// Every chunk, for the products and `|A|²`.
    AllAndEnergy,
    /// Every chunk.
    All,
    /// One chunk of every [`SAMPLED`].
    Sample,
}

/// Columns of a block: half the rank, but so many that all sweeps together have some to spare.
fn block(rank: usize, sweeps: usize) -> usize {
    rank.div_ceil(2).max((rank + OVERSAMPLING).div_ceil(sweeps)).next_multiple_of(COLUMNS)
}

/// Bytes that a search holds besides the chunks being read: the space it spans, on either side of the matrix, and the
/// lanes' sums.
pub fn memory(rows: u64, cols: u64, rank: u64, steps: u64) -> u64 {
    let sweeps = steps.max(1) + 1;
    let block = block(rank.min(1 << 32) as usize, sweeps.min(1 << 32) as usize) as u64;
    // Every block of both sides, one more of the columns, and while one is made orthonormal, twice; the factors.
    let blocks = rows.saturating_add(cols).saturating_mul(sweeps + 1).saturating_mul(block);
    let passing = rows.saturating_add(cols.saturating_mul(3)).saturating_mul(block);
    let found = rows.saturating_add(cols).saturating_mul(rank).saturating_mul(2);
    blocks.saturating_add(passing).saturating_add(found).saturating_mul(4).saturating_add(LANE_BYTES as u64)
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

/// Strip the padding, turn `down` round, settle the signs.
fn factors(rank: usize, up: &Tall, down: &Tall) -> LowRank {
    let (rows, cols) = (up.values.len() / up.stride, down.values.len() / down.stride);
    let mut result = LowRank { rank, up: vec![0.0; rows * rank], down: vec![0.0; rank * cols] };
    if !up.values.iter().chain(&down.values).all(|v| v.is_finite()) {
        return result;
    }
    for (to, from) in result.up.chunks_exact_mut(rank).zip(up.values.chunks_exact(up.stride)) {
        to.copy_from_slice(&from[..rank]);
    }
    // By bands of columns, so that what is read stays in the cache for the next row.
    for (band, from) in down.values.chunks(64 * down.stride).enumerate() {
        for (k, to) in result.down.chunks_exact_mut(cols).enumerate() {
            let from = from.iter().skip(k).step_by(down.stride);
            to[band * 64..].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
    }
    for (k, row) in result.down.chunks_exact_mut(cols).enumerate() {
        let largest = row.iter().copied().fold(0.0f32, |largest, v| if v.abs() > largest.abs() { v } else { largest });
        if largest < 0.0 {
            row.iter_mut().for_each(|v| *v = -*v);
            result.up.iter_mut().skip(k).step_by(rank).for_each(|v| *v = -*v);
        }
    }
    result
}

/// What a sweep over the rows of `A` yields.
struct Sweep {
    /// `A · V`.
    forth: Tall,
    /// `Aᵀ · A · V`.
    back: Tall,
    /// `|A|²`, if asked for.
    energy: f64,
}

/// A contiguous part of the chunks, summed in order by one thread at a time. Kept from sweep to sweep: fresh memory costs
/// as much as the arithmetic on it.
#[derive(Default)]
struct Lane {
    /// `W = A · V` of the lane's rows, `[rows, stride]`.
    forth: Vec<f32>,
    /// The lane's part of `Aᵀ · W`, `[cols, stride]`.
    back: Vec<f32>,
    /// The lane's part of `|A|²`.
    energy: f64,
    /// Whether nothing was added yet; then `back` means nothing.
    empty: bool,
    work: Work,
}

/// Buffers for chunks: as many as there are threads reading at once, whatever the number of lanes.
#[derive(Default)]
struct Buffers(Mutex<Vec<Vec<f32>>>);

impl Buffers {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<f32>) -> T) -> T {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let result = f(&mut buffer);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        result
    }
}

/// Where the lanes of `a` are summed, as many as its shape says.
fn lanes<C: Chunks>(a: &C, stride: usize) -> Vec<Lane> {
    let count = (LANE_BYTES / (a.cols() * stride * 4)).clamp(1, LANES).min(a.rows().div_ceil(a.chunk_rows()));
    (0..count).map(|_| Lane::default()).collect()
}

/// Read the chunks, each once. `None`: cancelled.
fn sweep<C: Chunks>(
    a: &C,
    v: &Tall,
    lanes: &mut [Lane],
    buffers: &Buffers,
    scope: Scope,
    cancel: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Sweep>, C::Error> {
    let (rows, cols, stride) = (a.rows(), a.cols(), v.stride);
    let (chunks, count) = (rows.div_ceil(a.chunk_rows()), lanes.len());
    let one = |chunk: usize, lane: &mut Lane, values: &mut Vec<f32>| -> Result<(), C::Error> {
        a.read(chunk, values)?;
        let chunk_rows = a.rows_of(chunk).len();
        assert_eq!(values.len(), chunk_rows * cols, "chunk {chunk} is [{chunk_rows}, {cols}]");
        for rows in values.chunks(ROWS * cols) {
            if scope == Scope::AllAndEnergy {
                lane.energy += basis::energy(rows);
            }
            lane.add(rows, cols, v);
        }
        Ok(())
    };
    let run = |(number, lane): (usize, &mut Lane)| -> Result<bool, C::Error> {
        lane.restart(cols * stride, stride);
        let mine = number * chunks / count..(number + 1) * chunks / count;
        for chunk in mine.filter(|chunk| scope != Scope::Sample || chunk.is_multiple_of(SAMPLED)) {
            if cancel() {
                return Ok(false);
            }
            buffers.with(|values| one(chunk, lane, values))?;
        }
        if lane.empty {
            lane.back.fill(0.0);
        }
        Ok(true)
    };
    let done: Vec<Result<bool, C::Error>> = lanes.par_iter_mut().enumerate().with_max_len(1).map(run).collect();
    for done in done {
        if !done? {
            return Ok(None);
        }
    }
    let energy = lanes.iter().map(|lane| lane.energy).sum();
    let forth = lanes.iter().map(|lane| &lane.forth[..]).collect::<Vec<_>>().concat();
    let mut back = Tall::zeros(cols, v.cols);
    let run = 4096;
    back.values.par_chunks_mut(run).enumerate().for_each(|(i, sum)| {
        for lane in &*lanes {
            basis::add(sum, &lane.back[i * run..]);
        }
    });
    Ok(Some(Sweep { forth: Tall { cols: v.cols, stride, values: forth }, back, energy }))
}

/// Buffers of a lane.
#[derive(Default)]
struct Work {
    /// `A · V` of the rows at hand.
    forth: Vec<f32>,
    /// A few columns of them.
    panel: Vec<f32>,
}

impl Lane {
    fn restart(&mut self, back: usize, stride: usize) {
        let Self { forth, energy, empty, work, .. } = self;
        forth.clear();
        (*energy, *empty) = (0.0, true);
        self.back.resize(back, 0.0);
        work.forth.resize(ROWS * stride, 0.0);
        work.panel.resize(ROWS * PANEL, 0.0);
    }

    /// Add up to `ROWS` rows of `A`.
    fn add(&mut self, a: &[f32], cols: usize, v: &Tall) {
        let (rows, stride) = (a.len() / cols, v.stride);
        let Work { forth, panel } = &mut self.work;
        let forth = &mut forth[..rows * stride];
        for first in (0..cols).step_by(PANEL) {
            let (a, depth) = fill(panel, a, cols, first);
            let b = &v.values[first * stride..];
            let product = Product {
                a,
                a_row: PANEL,
                a_step: 1,
                rows,
                depth,
                b,
                b_row: stride,
                cols: stride,
                out: forth,
                out_row: stride,
            };
            if first == 0 { product.set_fused() } else { product.add_fused() }
        }
        self.forth.extend_from_slice(forth);
        for first in (0..cols).step_by(PANEL) {
            let (a, width) = fill(panel, a, cols, first);
            let out = &mut self.back[first * stride..];
            let product = Product {
                a,
                a_row: 1,
                a_step: PANEL,
                rows: width,
                depth: rows,
                b: forth,
                b_row: stride,
                cols: stride,
                out,
                out_row: stride,
            };
            if self.empty { product.set_fused() } else { product.add_fused() }
        }
        self.empty = false;
    }
}

/// Copies up to [`PANEL`] columns of `a`, from `first` on, beside each other. Gives them and their number.
fn fill<'a>(panel: &'a mut [f32], a: &[f32], cols: usize, first: usize) -> (&'a [f32], usize) {
    let width = PANEL.min(cols - first);
    for (to, from) in panel.chunks_exact_mut(PANEL).zip(a.chunks_exact(cols)) {
        to[..width].copy_from_slice(&from[first..first + width]);
    }
    (panel, width)
}
