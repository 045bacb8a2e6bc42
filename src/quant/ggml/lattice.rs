//! The search that IQ2 and IQ3 share: a scale for each sub-block, and for each few elements a sign and a point of a grid.
//!
//! It is written twice: as the plain loop (`reference`, for the tests), and in lanes, which are held to it.
use super::grids::Grid;
use super::{c_max, nearest_int};

mod lanes;
#[cfg(test)]
mod reference;

pub(super) use lanes::Encode;

/// How one type searches.
pub(super) struct Scheme<const N: usize> {
    /// The points.
    pub(super) grid: fn() -> &'static Grid<N>,
    /// Elements of a sub-block, 16 or 32.
    pub(super) block: usize,
    /// The search tries `2 steps + 1` scales.
    pub(super) steps: i32,
    /// How far apart they are, in units of the greatest value.
    pub(super) step: f32,
    /// Whether eight signs are stored as seven, the number of minuses being even.
    pub(super) even_signs: bool,
    /// A sub-block whose greatest value is below this is zero.
    pub(super) least: f32,
    /// How the points are found once more when the scale is found.
    pub(super) again: Again,
    /// The mean square, times this, stands for the variance.
    pub(super) variance: f32,
    /// How much an element weighs without an importance matrix: this much of the variance, and its square.
    pub(super) variance_weight: f32,
    /// The stored scale is the greatest one, over 31, times this.
    pub(super) fudge: f32,
}

/// Which points are sought again with the scale that was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// All of them; and the search starts from the scale of a plain quantizer.
    Always,
    /// Those that were not on the grid.
    Each,
    /// All of them, if there is one that was not on the grid.
    All,
}

/// What was found for a sub-block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Found {
    /// The scale, not negative.
    pub(super) scale: f32,
    /// Whether the sub-block is zero, and nothing of it was searched.
    pub(super) zero: bool,
    /// Indices of points.
    pub(super) points: [u16; 8],
    /// Eight signs each, the first in the lowest bit; a set bit is a minus.
    pub(super) signs: [u8; 4],
}

/// What was found for a super-block of 256.
pub(super) struct Super {
    /// Its sub-blocks; 8 or 16 are in use.
    pub(super) blocks: [Found; 16],
    /// The scale of each, of 4 bits.
    pub(super) codes: [u8; 16],
    /// The scale of them all before rounding to half precision.
    pub(super) d: f32,
    /// Whether every scale is zero.
    pub(super) empty: bool,
}

impl<const N: usize> Scheme<N> {
    fn variance(&self, values: &[f32]) -> f32 {
        let sum = values.iter().fold(0.0f32, |sum, x| sum + x * x);
        self.variance * sum / 256.0
    }

    /// What each element of a sub-block weighs.
    #[inline(always)]
    fn weigh(&self, x: &[f32], importance: Option<&[f32]>, variance: f32, weights: &mut [f32]) {
        match importance {
            Some(importance) => {
                for ((w, x), q) in weights.iter_mut().zip(x).zip(importance) {
                    *w = q * (variance + x * x).sqrt();
                }
            }
            // Not a sum with zero: the variance may have overflowed.
            None if self.variance_weight == 0.0 => {
                for (w, x) in weights.iter_mut().zip(x) {
                    *w = x * x;
                }
            }
            None => {
                for (w, x) in weights.iter_mut().zip(x) {
                    *w = self.variance_weight * variance + x * x;
                }
            }
        }
    }

    /// The scales in 4 bits.
    fn finish(&self, blocks: [Found; 16]) -> Super {
        let greatest = blocks.iter().filter(|b| !b.zero).fold(0.0, |most, b| c_max(most, b.scale));
        let mut codes = [0; 16];
        if greatest == 0.0 {
            return Super { blocks, codes, d: 0.0, empty: true };
        }
        let d = greatest / 31.0;
        let id = 1.0 / d;
        for (code, found) in codes.iter_mut().zip(&blocks) {
            *code = nearest_int(0.5 * (id * found.scale - 1.0)).clamp(0, 15) as u8;
        }
        Super { blocks, codes, d: d * self.fudge, empty: false }
    }

    /// The magnitudes and signs of a sub-block. With `even_signs` an odd number of minuses is evened out at the element
    /// that matters least, whose magnitude becomes negative.
    #[inline(always)]
    fn split(&self, x: &[f32], weights: &[f32], magnitudes: &mut [f32; 32], signs: &mut [u8; 4]) {
        for (k, x) in x.chunks_exact(8).enumerate() {
            let (x, w): (&[f32], &[f32]) = (x, &weights[8 * k..8 * k + 8]);
            let out = &mut magnitudes[8 * k..8 * k + 8];
            let mut s = 0u8;
            for i in 0..8 {
                let plus = x[i] >= 0.0;
                out[i] = if plus { x[i] } else { -x[i] };
                s |= u8::from(!plus) << i;
            }
            if self.even_signs && s.count_ones() % 2 == 1 {
                let matters = |i: usize| w[i] * x[i] * x[i];
                let mut least = 0;
                for i in 1..8 {
                    if matters(i) < matters(least) {
                        least = i;
                    }
                }
                out[least] = -out[least];
                s ^= 1 << least;
            }
            signs[k] = if self.even_signs { s & 127 } else { s };
        }
    }

    /// The scale without its sign, which the elements take.
    #[inline(always)]
    fn put_scale(&self, scale: f32, found: &mut Found) {
        found.scale = scale;
        if scale < 0.0 {
            found.scale = -scale;
            for signs in &mut found.signs[..self.block / 8] {
                *signs = if self.even_signs { !*signs & 127 } else { !*signs };
            }
        }
    }
}

/// The end of ggml's `make_qp_quants`: a fit to the codes of a scale, which are then changed one by one while that helps.
/// A negative code is a byte: it counts as itself in the first sums, and as 256 more thereafter.
#[inline(always)]
fn refine(iscale: f32, most: i32, x: &[f32], weights: &[f32]) -> f32 {
    let mut codes = [0u8; 32];
    let (mut lx, mut l2) = (0.0f32, 0.0f32);
    for (i, (&x, &w)) in x.iter().zip(weights).enumerate() {
        let l = nearest_int(iscale * x).min(most);
        codes[i] = l as u8;
        lx += w * x * l as f32;
        l2 += w * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (i, (&x, &w)) in x.iter().zip(weights).enumerate() {
            let old = f32::from(codes[i]);
            let (mut without_lx, mut without_l2) = (lx - w * x * old, l2 - w * old * old);
            if without_lx > 0.0 && without_l2 > 0.0 {
                let new = nearest_int(x * without_l2 / without_lx).min(most);
                if new != i32::from(codes[i]) {
                    without_lx += w * x * new as f32;
                    without_l2 += w * new as f32 * new as f32;
                    if without_lx * without_lx * l2 > lx * lx * without_l2 {
                        (codes[i], lx, l2, changed) = (new as u8, without_lx, without_l2, true);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if l2 > 0.0 { lx / l2 } else { 0.0 }
}
