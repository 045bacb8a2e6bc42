//! A matrix of which rows are made when they are wanted.
use std::ops::Range;

use super::build::transpose;

/// Columns that are made at once: so many of a factor's rows stay in the cache while the rows of a slab go by.
const BLOCK: usize = 512;

/// Rows and columns of numbers, whole or as a product.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    rows: usize,
    cols: usize,
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq)]
enum Parts {
    Whole(Vec<f32>),
    /// `a · b`, `a` being rows × rank and `b` rank × columns.
    Product {
        a: Vec<f32>,
        b: Vec<f32>,
        rank: usize,
    },
}

impl Matrix {
    /// A matrix that is there. `None` when there are not so many numbers.
    pub(super) fn whole(rows: usize, cols: usize, data: Vec<f32>) -> Option<Self> {
        (rows.checked_mul(cols)? == data.len()).then_some(Self { rows, cols, parts: Parts::Whole(data) })
    }
    /// A product. `None` when there are not so many numbers.
    pub(super) fn product(rows: usize, rank: usize, cols: usize, a: Vec<f32>, b: Vec<f32>) -> Option<Self> {
        let fits = rows.checked_mul(rank)? == a.len() && rank.checked_mul(cols)? == b.len();
        fits.then_some(Self { rows, cols, parts: Parts::Product { a, b, rank } })
    }
    /// Columns as rows.
    pub(super) fn transposed(self) -> Self {
        let (rows, cols) = (self.cols, self.rows);
        let parts = match self.parts {
            Parts::Whole(data) => Parts::Whole(transpose(&data, cols, rows)),
            Parts::Product { a, b, rank } => {
                Parts::Product { a: transpose(&b, rank, rows), b: transpose(&a, cols, rank), rank }
            }
        };
        Self { rows, cols, parts }
    }
    pub(super) fn rows(&self) -> usize {
        self.rows
    }
    pub(super) fn cols(&self) -> usize {
        self.cols
    }
    /// Part of a row, from a column on. Each element is a running sum over the rank in ascending order, so that it is
    /// the same however the matrix is cut.
    pub(super) fn row(&self, row: usize, from: usize, out: &mut [f32]) {
        match &self.parts {
            Parts::Whole(data) => {
                let start = row * self.cols + from;
                if let Some(part) = data.get(start..start + out.len()) {
                    out.copy_from_slice(part);
                }
            }
            Parts::Product { a, b, rank } => {
                out.fill(0.0);
                let weights = a.get(row * rank..(row + 1) * rank).unwrap_or_default();
                // Four rows of `b` for one pass over the sums. Every slice is as long as `out`: no checks in the loop.
                let width = out.len();
                let part = |p: usize| b.get(p * self.cols + from..).and_then(|b| b.get(..width)).unwrap_or_default();
                let (fours, rest) = weights.as_chunks::<4>();
                for (i, weights) in fours.iter().enumerate() {
                    add_four(weights, [0, 1, 2, 3].map(|j| part(4 * i + j)), out);
                }
                for (j, weight) in rest.iter().enumerate() {
                    add_scaled(*weight, part(4 * fours.len() + j), out);
                }
            }
        }
    }
}

fn add_four(weights: &[f32; 4], parts: [&[f32]; 4], out: &mut [f32]) {
    let [w0, w1, w2, w3] = *weights;
    let [p0, p1, p2, p3] = parts;
    for ((((out, p0), p1), p2), p3) in out.iter_mut().zip(p0).zip(p1).zip(p2).zip(p3) {
        *out = *out + w0 * p0 + w1 * p1 + w2 * p2 + w3 * p3;
    }
}

/// `out += weight · part`.
pub(super) fn add_scaled(weight: f32, part: &[f32], out: &mut [f32]) {
    for (out, part) in out.iter_mut().zip(part) {
        *out += weight * part;
    }
}

/// Walks a slab block of columns by block of columns: `visit(row, first column, part of the slab's row)`.
pub(super) fn blocks(
    rows: Range<usize>,
    cols: usize,
    slab: &mut [f32],
    mut visit: impl FnMut(usize, usize, &mut [f32]),
) {
    for from in (0..cols).step_by(BLOCK) {
        let to = (from + BLOCK).min(cols);
        for (row, line) in rows.clone().zip(slab.chunks_exact_mut(cols)) {
            if let Some(part) = line.get_mut(from..to) {
                visit(row, from, part);
            }
        }
    }
}

/// Room for a block.
pub(super) fn room() -> [f32; BLOCK] {
    [0.0; BLOCK]
}
