//! Tall matrices of a few columns: their Gram matrix, and an orthonormal basis of what they span.
//!
//! A tall matrix is row-major with its columns padded by zeros to a multiple of [`COLUMNS`].

use super::product::{COLUMNS, Product};
use crate::quant::lanes::{Kernel, Level};
use nalgebra::DMatrix;
use rayon::prelude::*;

/// Rows that one task sums up, whatever the number of threads.
const RUN: usize = 512;
/// Rows that are worked on at a time, and summed in f32 where that is enough.
const FEW: usize = 64;

/// A tall matrix `[rows, stride]`, of which `cols` columns are in use.
pub(super) struct Tall {
    pub cols: usize,
    pub stride: usize,
    pub values: Vec<f32>,
}

impl Tall {
    pub(super) fn zeros(rows: usize, cols: usize) -> Self {
        let stride = cols.next_multiple_of(COLUMNS);
        Self { cols, stride, values: vec![0.0; rows * stride] }
    }

    /// `selfᵀ · self`, in f64.
    pub(super) fn gram(&self) -> DMatrix<f64> {
        cross(self, self)
    }

    /// `self += other · by`.
    pub(super) fn add_times(&mut self, other: &Self, by: &DMatrix<f64>) {
        let (stride, by) = (self.stride, other.factor(by));
        let runs = self.values.par_chunks_mut(RUN * stride).zip(other.values.par_chunks(RUN * other.stride));
        runs.for_each(|(out, rows)| other.add_product(rows, &by, stride, out));
    }

    /// `self = self · by`, for a square `by`.
    fn turn(&mut self, by: &DMatrix<f64>) {
        let mut values = core::mem::take(&mut self.values);
        let (stride, by) = (self.stride, self.factor(by));
        values.par_chunks_mut(RUN * stride).for_each_init(Vec::new, |product, rows| {
            product.clear();
            product.resize(rows.len(), 0.0);
            self.add_product(rows, &by, stride, product);
            rows.copy_from_slice(product);
        });
        self.values = values;
    }

    /// `by` as a right factor: row-major and padded.
    fn factor(&self, by: &DMatrix<f64>) -> Vec<f32> {
        let stride = by.ncols().next_multiple_of(COLUMNS);
        let mut padded = vec![0.0; self.stride * stride];
        for (to, row) in padded.chunks_exact_mut(stride).zip(by.row_iter()) {
            to.iter_mut().zip(row.iter()).for_each(|(to, from)| *to = *from as f32);
        }
        padded
    }

    fn add_product(&self, rows: &[f32], by: &[f32], stride: usize, out: &mut [f32]) {
        Product {
            a: rows,
            a_row: self.stride,
            a_step: 1,
            rows: rows.len() / self.stride,
            depth: self.cols,
            b: by,
            b_row: stride,
            cols: stride,
            out,
            out_row: stride,
        }
        .add_fused();
    }

    /// Make the columns an orthonormal basis of their span; some become zero if the span is smaller.
    ///
    /// Cholesky QR, again and again until the columns were nearly orthonormal beforehand: two rounds as a rule. The
    /// shift keeps the first round's factor regular where the columns are dependent to within rounding. What defeats
    /// it, exactly dependent columns, goes to Gram and Schmidt.
    pub(super) fn make_orthonormal(&mut self) {
        let identity = DMatrix::identity(self.cols, self.cols);
        for _ in 0..4 {
            let gram = self.gram();
            let near = (&gram - &identity).amax() < 0.1;
            let shift = gram.trace() * 1e-15;
            let Some(factor) = (gram + &identity * shift).cholesky() else {
                break;
            };
            let Some(inverse) = factor.l().solve_lower_triangular(&identity) else {
                break;
            };
            if !inverse.iter().all(|v| v.is_finite()) {
                break;
            }
            self.turn(&inverse.transpose());
            if near {
                return;
            }
        }
        self.gram_schmidt();
    }

    /// Columns one after another in f64, each made orthogonal to those before it twice over, which is enough; one that
    /// has next to nothing left is set to zero.
    fn gram_schmidt(&mut self) {
        let mut done: Vec<Vec<f64>> = Vec::new();
        for col in 0..self.cols {
            let mut column: Vec<f64> = self.column(col).map(|v| f64::from(*v)).collect();
            let before = norm(&column);
            for _ in 0..2 {
                for other in &done {
                    let along: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
                    column.iter_mut().zip(other).for_each(|(v, other)| *v -= along * other);
                }
            }
            let left = norm(&column);
            let keep = left.is_finite() && left > before * 1e-6;
            column.iter_mut().for_each(|v| *v = if keep { *v / left } else { 0.0 });
            self.column(col).zip(&column).for_each(|(to, from)| *to = *from as f32);
            if keep {
                done.push(column);
            }
        }
    }

    fn column(&mut self, col: usize) -> impl Iterator<Item = &mut f32> {
        self.values.iter_mut().skip(col).step_by(self.stride)
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Element by element.
pub(super) fn add<T: Copy + core::ops::AddAssign>(sum: &mut [T], other: &[T]) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += *other);
}

/// `leftᵀ · right` of two tall matrices of as many rows, in f64.
pub(super) fn cross(left: &Tall, right: &Tall) -> DMatrix<f64> {
    let (mut wide, mut other) = (Vec::new(), Vec::new());
    sum_of_runs(left, right, move |a, b, sum| {
        widen(a, &mut wide);
        widen(b, &mut other);
        transposed(&wide, left.stride, &other, right.stride, sum).add_fused();
    })
}

/// [`cross`] with a few rows at a time summed in f32, at a fraction of the cost.
pub(super) fn nearly_cross(left: &Tall, right: &Tall) -> DMatrix<f64> {
    let mut few = vec![0.0; left.stride * right.stride];
    sum_of_runs(left, right, move |a, b, sum| {
        transposed(a, left.stride, b, right.stride, &mut few).set_fused();
        sum.iter_mut().zip(&few).for_each(|(sum, few)| *sum += f64::from(*few));
    })
}

/// The sum of the squares of each column.
pub(super) fn squares(tall: &Tall) -> Vec<f64> {
    let squares = |rows: &[f32]| Level::best().run(Squares { rows, stride: tall.stride });
    let partial: Vec<Vec<f64>> = tall.values.par_chunks(RUN * tall.stride).map(squares).collect();
    let mut sum = vec![0.0; tall.cols];
    for partial in partial {
        add(&mut sum, &partial);
    }
    sum
}

struct Squares<'a> {
    rows: &'a [f32],
    stride: usize,
}

impl Kernel for Squares<'_> {
    type Output = Vec<f64>;
    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let mut sums = vec![0.0; self.stride];
        for row in self.rows.chunks_exact(self.stride) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) * f64::from(*value));
        }
        sums
    }
}

/// What `add` makes of a few rows of both, in f64: sums of fixed runs of rows, added in order.
fn sum_of_runs(
    left: &Tall,
    right: &Tall,
    add_few: impl FnMut(&[f32], &[f32], &mut [f64]) + Clone + Sync + Send,
) -> DMatrix<f64> {
    let runs = left.values.par_chunks(RUN * left.stride).zip(right.values.par_chunks(RUN * right.stride));
    let partial = runs.map_with(add_few, |add_few, (left_rows, right_rows)| {
        let mut sum = vec![0.0; left.stride * right.stride];
        for (a, b) in left_rows.chunks(FEW * left.stride).zip(right_rows.chunks(FEW * right.stride)) {
            add_few(a, b, &mut sum);
        }
        sum
    });
    let partial: Vec<Vec<f64>> = partial.collect();
    let mut sum = vec![0.0; left.stride * right.stride];
    for partial in partial {
        add(&mut sum, &partial);
    }
    DMatrix::from_fn(left.cols, right.cols, |row, col| sum[row * right.stride + col])
}

/// `aᵀ · b` of a few rows.
fn transposed<'a, T>(a: &'a [T], a_step: usize, b: &'a [T], b_row: usize, out: &'a mut [T]) -> Product<'a, T> {
    Product { a, a_row: 1, a_step, rows: a_step, depth: a.len() / a_step, b, b_row, cols: b_row, out, out_row: b_row }
}

fn widen(from: &[f32], to: &mut Vec<f64>) {
    to.clear();
    to.extend(from.iter().map(|v| f64::from(*v)));
}

/// The sum of squares, in sixteen running sums that are added in order.
pub(super) fn energy(values: &[f32]) -> f64 {
    Level::best().run(Energy { values })
}

struct Energy<'a> {
    values: &'a [f32],
}

impl Kernel for Energy<'_> {
    type Output = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        let mut sums = [0.0f64; 16];
        let (runs, rest) = self.values.as_chunks::<16>();
        for run in runs {
            for (sum, value) in sums.iter_mut().zip(run) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        let rest: f64 = rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        sums.iter().sum::<f64>() + rest
    }
}
