//! Blocks with an importance matrix: the search for a scale, and a minimum, with a block to a lane.

use super::super::abreast::halves;
use super::super::search::Steps;
use super::super::search::lanes::{Row, affine, rounded, symmetric};
use super::{BLOCK, Kind};
use crate::quant::ggml::MAGIC;
use crate::quant::simd::{Kernel, LANES, Simd};

/// The walk of Q4_1 and Q5_1.
pub(super) const fn steps(top: i32) -> Steps {
    Steps { top, from: -0.9, by: 0.05, count: 36, magnitudes: false }
}

/// Quantizes whole rows; as many values in a row as `importance` has.
pub(super) struct Encode<'a> {
    pub kind: Kind,
    pub values: &'a [f32],
    pub importance: &'a [f32],
    pub out: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { kind, values, importance, out } = self;
        match kind {
            Kind::Q4_0 => each::<S, 18, 8, false>(s, values, importance, out),
            Kind::Q5_0 => each::<S, 22, 16, false>(s, values, importance, out),
            Kind::Q4_1 => each::<S, 20, 15, true>(s, values, importance, out),
            Kind::Q5_1 => each::<S, 24, 31, true>(s, values, importance, out),
            // Has no search.
            Kind::Q8_0 => {}
        }
    }
}

/// Codes 0 to `LIMIT` with a minimum, else -`LIMIT` to `LIMIT` - 1.
#[inline(always)]
fn each<S: Simd, const N: usize, const LIMIT: i32, const MINIMUM: bool>(
    s: S,
    values: &[f32],
    importance: &[f32],
    out: &mut [u8],
) {
    let row_len = importance.len();
    let blocks_in_row = row_len / BLOCK;
    // Sixteen rows at a time have their sums of squares taken side by side; their blocks follow one another.
    for (values, out) in values.chunks(LANES * row_len).zip(out.chunks_mut(LANES * blocks_in_row * N)) {
        let means = mean_squares(s, row_len, values);
        let (mut row, mut column) = (0, 0);
        for (values, out) in values.chunks(LANES * BLOCK).zip(out.as_chunks_mut::<N>().0.chunks_mut(LANES)) {
            let mut x = [0.0; LANES * BLOCK];
            x[..values.len()].copy_from_slice(values);
            let (mut weights, mut mean) = ([0.0; LANES * BLOCK], [0.0; LANES]);
            let lanes = weights.as_chunks_mut::<BLOCK>().0.iter_mut().zip(&mut mean).take(out.len());
            for (weights, mean) in lanes {
                weights.copy_from_slice(&importance[column..column + BLOCK]);
                *mean = means[row];
                column += BLOCK;
                if column == row_len {
                    (row, column) = (row + 1, 0);
                }
            }
            let x = across(s, &x);
            let mut w = across(s, &weights);
            let mean = s.load(&mean);
            for (w, x) in w.iter_mut().zip(&x) {
                let x = s.load(x);
                let spread = s.sqrt(s.add(mean, s.mul(x, x)));
                s.store(s.mul(s.load(w), spread), w);
            }
            search::<S, N, LIMIT, MINIMUM>(s, &x, &w, out);
        }
    }
}

/// The mean of the squares of each of up to sixteen rows, summed in order.
#[inline(always)]
fn mean_squares<S: Simd>(s: S, row_len: usize, values: &[f32]) -> [f32; LANES] {
    let mut means = [0.0; LANES];
    if values.len() == LANES * row_len && row_len.is_multiple_of(LANES) {
        let mut sum = s.zero();
        let mut columns = [[0.0; LANES]; 16];
        for at in (0..row_len).step_by(LANES) {
            s.transpose(&values[at..], row_len, &mut columns);
            for x in &columns {
                let x = s.load(x);
                sum = s.add(sum, s.mul(x, x));
            }
        }
        s.store(s.div(sum, s.splat(row_len as f32)), &mut means);
    } else {
        for (mean, row) in means.iter_mut().zip(values.chunks_exact(row_len)) {
            let mut sum = 0.0;
            for x in row {
                sum += x * x;
            }
            *mean = sum / row_len as f32;
        }
    }
    means
}

/// Sixteen blocks side by side.
#[inline(always)]
fn across<S: Simd>(s: S, blocks: &[f32; LANES * BLOCK]) -> [Row; BLOCK] {
    let mut rows = [[0.0; LANES]; BLOCK];
    for (half, rows) in rows.as_chunks_mut().0.iter_mut().enumerate() {
        s.transpose(&blocks[half * 16..], BLOCK, rows);
    }
    rows
}

#[inline(always)]
fn search<S: Simd, const N: usize, const LIMIT: i32, const MINIMUM: bool>(
    s: S,
    x: &[Row; BLOCK],
    w: &[Row; BLOCK],
    out: &mut [[u8; N]],
) {
    let (scale, min, factor, base);
    if MINIMUM {
        let [found] = affine(s, steps(LIMIT), [x], [w]);
        (scale, min, factor, base) = (found.scale, s.neg(found.min), found.factor, found.base);
    } else {
        let found = symmetric(s, LIMIT, x, w);
        (scale, min, factor, base) = (found.scale, s.zero(), found.factor, s.zero());
    }
    let (lowest, highest) = if MINIMUM { (0, LIMIT) } else { (-LIMIT, LIMIT - 1) };
    // Without a factor, which then is a NaN, all codes are 0.
    let nothing = s.not_m(s.eq(factor, factor));
    let origin = s.splat_i(MAGIC.to_bits() as i32 + lowest);
    let mut codes = [s.splat_i(0); BLOCK];
    for (code, x) in codes.iter_mut().zip(x) {
        let x = s.load(x);
        let x = if MINIMUM { s.sub(x, base) } else { x };
        let bits = s.bits(rounded::<S, false>(s, s.mul(factor, x), lowest, highest));
        *code = s.select_i(nothing, s.splat_i(0), s.sub_i(bits, origin));
    }

    let mut fifth = s.splat_i(0);
    for code in codes.iter().rev() {
        fifth = s.or_i(s.shl::<1>(fifth), s.and_i(s.shr::<4>(*code), s.splat_i(1)));
    }
    let mut words = [[0; LANES]; 4];
    for (word, words) in words.iter_mut().enumerate() {
        let mut nibbles = s.splat_i(0);
        for j in (4 * word..4 * word + 4).rev() {
            let (low, high) = (s.and_i(codes[j], s.splat_i(15)), s.and_i(codes[j + 16], s.splat_i(15)));
            nibbles = s.or_i(s.shl::<8>(nibbles), s.or_i(low, s.shl::<4>(high)));
        }
        s.store_i(nibbles, words);
    }
    let (scale, min) = (halves(s, scale), halves(s, min));
    let mut fifths = [0; LANES];
    s.store_i(fifth, &mut fifths);
    let scales = if MINIMUM { 4 } else { 2 };
    for (b, out) in out.iter_mut().enumerate() {
        out[..2].copy_from_slice(&scale[b]);
        if MINIMUM {
            out[2..4].copy_from_slice(&min[b]);
        }
        if N == scales + 20 {
            out[scales..scales + 4].copy_from_slice(&fifths[b].to_le_bytes());
        }
        for (word, out) in words.iter().zip(out[N - 16..].as_chunks_mut().0) {
            *out = word[b].to_le_bytes();
        }
    }
}
