//! The space that a search spans, and the best factors within it.
//!
//! `A · K = W` and `Aᵀ · W = [K, next] · H` are all that is known of `A`: `K` orthonormal, `W` tall, `H` small. The best
//! approximation of `A` whose columns lie in the span of `W` follows from `WᵀW` and `H` alone.
use super::basis::{self, Tall};
use nalgebra::{DMatrix, DVector};

/// Directions of `W` weaker than this share of the strongest (of their squares) are drowned by its rounding in `AᵀW`,
/// whose relative error is about 2^-23: the square of that over this share is what they add to a residual, at most 1e-9.
const WEAKEST: f64 = 1e-5;

/// Blocks of `K`, and what `A` makes of them.
pub(super) struct Space {
    /// `K`, and the block that comes next.
    basis: Vec<Tall>,
    /// `W = A · K`.
    forth: Vec<Tall>,
    /// `WᵀW`.
    gram: DMatrix<f64>,
    /// `[K, next]ᵀ · AᵀW`.
    back: DMatrix<f64>,
}

/// Coefficients of the factors: `up = W · up`, `down = ([K, next] · down)ᵀ`.
pub(super) struct Best {
    /// Energy of the approximation.
    pub captured: f64,
    up: DMatrix<f64>,
    down: DMatrix<f64>,
}

impl Space {
    /// Of a block of random vectors, which is made orthonormal.
    pub(super) fn new(mut start: Tall) -> Self {
        start.make_orthonormal();
        Self { basis: vec![start], forth: Vec::new(), gram: DMatrix::zeros(0, 0), back: DMatrix::zeros(0, 0) }
    }

    /// The block that `A` is to be multiplied with.
    pub(super) fn next(&self) -> Option<&Tall> {
        self.basis.last()
    }

    /// Dimensions of `K`.
    pub(super) fn size(&self) -> usize {
        self.gram.nrows()
    }

    /// Adds `forth = A · next` and `back = Aᵀ · forth`. Whether there is a next block: without, the space is all there is.
    pub(super) fn grow(&mut self, forth: Tall, back: Tall) -> bool {
        let (before, cols) = (self.size(), forth.cols);
        let mut gram = DMatrix::zeros(before + cols, before + cols);
        gram.view_mut((0, 0), (before, before)).copy_from(&self.gram);
        let mut at = 0;
        for block in &self.forth {
            let cross = block.cross(&forth);
            gram.view_mut((before, at), (cols, block.cols)).copy_from(&cross.transpose());
            gram.view_mut((at, before), (block.cols, cols)).copy_from(&cross);
            at += block.cols;
        }
        gram.view_mut((before, before), (cols, cols)).copy_from(&forth.gram());
        (self.gram, at) = (gram, 0);
        self.forth.push(forth);

        let within: Vec<DMatrix<f64>> = self.basis.iter().map(|block| block.cross(&back)).collect();
        let next = self.beyond(&back, &within);
        let open = next.lengths().iter().any(|length| *length > 0.0);
        let rows = self.basis.iter().chain([&next]).map(|block| block.cols).sum();
        let mut grown = DMatrix::zeros(rows, before + cols);
        grown.view_mut((0, 0), self.back.shape()).copy_from(&self.back);
        let beyond = next.cross(&back);
        for part in within.iter().chain([&beyond]) {
            grown.view_mut((at, before), part.shape()).copy_from(part);
            at += part.nrows();
        }
        self.basis.push(next);
        self.back = grown;
        open
    }

    /// An orthonormal basis of what `block` has beyond the space, given what it has `within` each block of it; filled up at random where it has less than it has
    /// columns: Krylov spaces end where a few directions outshine all others by more than f32 can tell apart.
    fn beyond(&self, block: &Tall, within: &[DMatrix<f64>]) -> Tall {
        let mut next = Tall { cols: block.cols, stride: block.stride, values: block.values.clone() };
        // What rounding left of a vector that was in the space already is no direction. Projecting twice is enough
        // (Giraud, Langou, Rozložník 2005); the second time, nothing much is lost of what is one.
        let (mut lengths, mut least, mut settled) = (next.lengths(), 1e-5, false);
        for round in 0..6 {
            for (block, within) in self.basis.iter().zip(within) {
                let within = if round == 0 { within.clone() } else { block.nearly_cross(&next) };
                next.add_times(block, &-within);
            }
            let kept: Vec<bool> =
                next.lengths().iter().zip(&lengths).map(|(left, all)| *left > 0.0 && *left >= all * least).collect();
            let dropped = kept.iter().zip(&lengths).any(|(kept, length)| !kept && *length > 0.0);
            next.keep(&kept);
            next.make_orthonormal();
            let full: Vec<bool> = next.lengths().iter().map(|length| *length > 0.0).collect();
            let filling = round < 2 && full.contains(&false);
            if settled && !dropped && !filling {
                break;
            }
            // Columns that depend on each other come out of this as noise that the next projection takes away.
            settled = !filling;
            if filling {
                next.fill(&full, &super::random(block.rows(), block.cols, self.size() as u64));
            }
            (lengths, least) = (next.lengths(), 0.1);
        }
        next
    }

    /// Energy that the best approximation of a rank captures.
    pub(super) fn captured(&self, rank: usize) -> f64 {
        match self.whitened() {
            Some((_, energies)) => sum_of_largest(energies.symmetric_eigenvalues(), rank),
            None => self.best(rank).captured,
        }
    }

    /// The inverse of the Cholesky factor `L` of `WᵀW`, and `AᵀA` over the orthonormal basis `W · L⁻ᵀ`; `None` where
    /// `W` is not well-conditioned.
    fn whitened(&self) -> Option<(DMatrix<f64>, DMatrix<f64>)> {
        let factor = self.gram.clone().cholesky()?.unpack();
        let diagonal = factor.diagonal().map(|v| v * v);
        // The least entry is no bound of the least eigenvalue; a margin of ten is what these Gram matrices need.
        let well_conditioned = diagonal.min() > diagonal.max() * WEAKEST * 10.0;
        if !well_conditioned {
            return None;
        }
        let inverse = factor.solve_lower_triangular(&DMatrix::identity(self.size(), self.size()))?;
        let turned = &self.back * inverse.transpose();
        Some((inverse, turned.tr_mul(&turned)))
    }

    /// The best approximation of a rank.
    pub(super) fn best(&self, rank: usize) -> Best {
        let finite = |m: &DMatrix<f64>| m.iter().all(|v| v.is_finite());
        if !finite(&self.gram) || !finite(&self.back) {
            let zero = |rows| DMatrix::zeros(rows, rank);
            return Best { captured: 0.0, up: zero(self.size()), down: zero(self.back.nrows()) };
        }
        let (whitening, energies) = match self.whitened() {
            Some((inverse, energies)) => (inverse, energies),
            None => {
                let (values, vectors) = leading(self.gram.clone(), self.size());
                let stronger_than = |share: f64| values.iter().take_while(|v| **v > values[0].max(0.0) * share).count();
                let strong = stronger_than(WEAKEST);
                if stronger_than(WEAKEST * 100.0) < rank.min(self.size()) {
                    // Weak directions are wanted: `W` itself knows them better than `AᵀW` does.
                    let (values, vectors) = (values.rows(0, rank), vectors.columns(0, rank));
                    let mut down = DMatrix::zeros(self.back.nrows(), rank);
                    down.rows_mut(0, self.size()).copy_from(&vectors);
                    return Best { captured: values.map(|v| v.max(0.0)).sum(), up: vectors.into(), down };
                }
                let mut rows = vectors.columns(0, strong).transpose();
                for (mut row, value) in rows.row_iter_mut().zip(values.iter()) {
                    row /= value.sqrt();
                }
                let turned = &self.back * rows.transpose();
                (rows, turned.tr_mul(&turned))
            }
        };
        let (values, vectors) = leading(energies, rank);
        let lengths = values.map(|v| v.max(0.0).sqrt());
        let mut up = whitening.tr_mul(&vectors);
        let mut down = &self.back * &up;
        for (k, length) in lengths.iter().enumerate() {
            up.column_mut(k).scale_mut(*length);
            down.column_mut(k).scale_mut(if *length > 0.0 { length.recip() } else { 0.0 });
        }
        Best { captured: lengths.map(|v| v * v).sum(), up, down }
    }

    /// The factors of coefficients, as tall matrices.
    pub(super) fn factors(&self, best: &Best) -> (Tall, Tall) {
        (combine(&self.forth, &best.up), combine(&self.basis, &best.down))
    }
}

fn combine(blocks: &[Tall], by: &DMatrix<f64>) -> Tall {
    let rows = blocks.first().map_or(0, Tall::rows);
    let (mut sum, mut at) = (Tall::zeros(rows, by.ncols()), 0);
    for block in blocks {
        sum.add_times(block, &by.rows(at, block.cols).into());
        at += block.cols;
    }
    sum
}

/// The largest eigenvalues, and their eigenvectors as columns, the largest first.
fn leading(matrix: DMatrix<f64>, rank: usize) -> (DVector<f64>, DMatrix<f64>) {
    let size = matrix.nrows();
    let eigen = matrix.symmetric_eigen();
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
    let value = |k: usize, _| order.get(k).map_or(0.0, |&i| eigen.eigenvalues[i]);
    let vector = |row: usize, k: usize| order.get(k).map_or(0.0, |&i| eigen.eigenvectors[(row, i)]);
    (DVector::from_fn(rank, value), DMatrix::from_fn(size, rank, vector))
}

fn sum_of_largest(values: DVector<f64>, count: usize) -> f64 {
    let mut values: Vec<f64> = values.iter().copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values.iter().take(count).map(|v| v.max(0.0)).sum()
}

/// When to stop: the energy captured rises from sweep to sweep, and what is left of `|A|²` is the residual's. Each
/// sweep's rise is about the same fraction of the rise before it.
pub(super) struct Watch {
    total: f64,
    /// The energy captured, and whether the space had the whole rank then.
    captured: Option<(f64, bool)>,
    /// What the last sweep added, and whether the space had the whole rank before it.
    rise: Option<(f64, bool)>,
}

impl Watch {
    /// For a matrix of an energy.
    pub(super) fn new(total: f64) -> Self {
        Self { total, captured: None, rise: None }
    }

    /// Whether more sweeps would hardly lower the residual that `captured` leaves: never while the space has not the
    /// `whole` rank yet.
    pub(super) fn converged(&mut self, captured: f64, whole: bool) -> bool {
        let left = (self.total - captured).max(0.0);
        let rise = self.captured.map(|(before, _)| (captured - before).max(0.0));
        let ahead = match (self.rise, rise) {
            (Some((before, of_whole)), Some(rise)) if before > 0.0 => {
                // A rise from less than the rank is steeper than those that follow.
                let least = if of_whole { 0.0 } else { STEADY };
                let ratio = (rise / before).clamp(least, 0.99);
                rise * ratio / (1.0 - ratio)
            }
            (Some(_), Some(_)) => 0.0,
            _ => f64::INFINITY,
        };
        self.rise = self.captured.zip(rise).map(|((_, before), rise)| (rise, before));
        self.captured = Some((captured, whole));
        // What is left is a difference of sums that f32 has rounded: too little of it tells nothing.
        whole && (self.total == 0.0 || (left > 1e-6 * self.total && ahead <= AHEAD * left))
    }
}

/// The ratio of one sweep's rise to the one before, at least, as long as none could be seen: values without any
/// structure come near it.
const STEADY: f64 = 0.6;

/// The share of the residual's energy that further sweeps may still be expected to take: 0.3 % of its norm.
const AHEAD: f64 = 0.006;

impl Tall {
    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.stride
    }

    /// Becomes `other` and a little of itself, a thousandth, by which it still has something of every direction.
    pub(super) fn lean_to(&mut self, other: &Self) {
        let norm = |t: &Self| basis::energy(&t.values).sqrt();
        let share = 1e-3 * norm(other) / norm(self);
        if share > 0.0 && share.is_finite() {
            self.values.iter_mut().zip(&other.values).for_each(|(v, other)| *v = other + share as f32 * *v);
        }
    }

    /// Sets the other columns to zero.
    fn keep(&mut self, columns: &[bool]) {
        if columns.iter().all(|keep| *keep) {
            return;
        }
        for row in self.values.chunks_exact_mut(self.stride) {
            row.iter_mut().zip(columns).filter(|(_, keep)| !**keep).for_each(|(value, _)| *value = 0.0);
        }
    }

    /// Takes the other columns from `fresh`.
    fn fill(&mut self, full: &[bool], fresh: &Self) {
        for (row, fresh) in self.values.chunks_exact_mut(self.stride).zip(fresh.values.chunks_exact(fresh.stride)) {
            row.iter_mut().zip(fresh).zip(full).filter(|(_, full)| !**full).for_each(|((v, fresh), _)| *v = *fresh);
        }
    }

    /// The length of each column.
    fn lengths(&self) -> Vec<f64> {
        basis::squares(self).into_iter().map(f64::sqrt).collect()
    }

    /// `selfᵀ · other`, in f64.
    fn cross(&self, other: &Self) -> DMatrix<f64> {
        basis::cross(self, other)
    }

    /// The same to the precision of f32: enough where little is left to be found.
    fn nearly_cross(&self, other: &Self) -> DMatrix<f64> {
        basis::nearly_cross(self, other)
    }
}
