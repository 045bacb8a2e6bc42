//! Adding and subtracting a product of two thin factors.

use super::product::{COLUMNS, Product};

/// Columns of a block of the product, and rows: 16 KB of it, and as much of `down` as stays in the cache.
const BLOCK: usize = 256;
const ROWS: usize = 16;

/// `values -= up_rows · down`.
///
/// `up_rows` is `[rows, rank]`, `down` is `[rank, cols]`, `values` is `[rows, cols]`. Each element of the product is
/// summed over the rank in ascending order, every step rounded, and then subtracted: the same bits whatever the slab of
/// rows, the thread or the machine.
///
/// # Panics
/// If a length does not fit.
pub fn subtract(up_rows: &[f32], down: &[f32], rank: usize, cols: usize, values: &mut [f32]) {
    blocks(up_rows, down, rank, cols, values, |value, product| value - product);
}

/// `values += up_rows · down`: what a reader of the file does. Otherwise as [`subtract`].
///
/// # Panics
/// If a length does not fit.
pub fn add(up_rows: &[f32], down: &[f32], rank: usize, cols: usize, values: &mut [f32]) {
    blocks(up_rows, down, rank, cols, values, |value, product| value + product);
}

fn blocks(up: &[f32], down: &[f32], rank: usize, cols: usize, values: &mut [f32], f: impl Fn(f32, f32) -> f32 + Copy) {
    assert_eq!(down.len(), rank * cols, "down is [{rank}, {cols}]");
    if rank == 0 || cols == 0 {
        return;
    }
    assert_eq!(up.len() * cols, values.len() * rank, "up is [rows, {rank}], values are [rows, {cols}]");
    let mut product = vec![0.0f32; ROWS * BLOCK];
    // Columns outside, so that the block of `down` is read from the cache by every row.
    for first in (0..cols).step_by(BLOCK) {
        let width = BLOCK.min(cols - first);
        let whole = width / COLUMNS * COLUMNS;
        for (up, values) in up.chunks(ROWS * rank).zip(values.chunks_mut(ROWS * cols)) {
            Product {
                a: up,
                a_row: rank,
                a_step: 1,
                rows: up.len() / rank,
                depth: rank,
                b: &down[first..],
                b_row: cols,
                cols: whole,
                out: &mut product,
                out_row: BLOCK,
            }
            .set_exact();
            for ((up, product), values) in
                up.chunks_exact(rank).zip(product.chunks_exact_mut(BLOCK)).zip(values.chunks_exact_mut(cols))
            {
                for (col, product) in product[..width].iter_mut().enumerate().skip(whole) {
                    let down = down[first + col..].iter().step_by(cols);
                    *product = up.iter().zip(down).fold(0.0, |sum, (up, down)| sum + up * down);
                }
                for (value, product) in values[first..first + width].iter_mut().zip(product) {
                    *value = f(*value, *product);
                }
            }
        }
    }
}
