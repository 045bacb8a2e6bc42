//! The search that IQ2 and IQ3 share: a scale for each sub-block, and for each few elements a sign and a point of a grid.
//!
//! This is the plain loop, in ggml's order of operations.
use super::grids::{Grid, Place, Points, pack, unpack};
use super::{EPSILON, c_max, nearest_int};

mod lanes;

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
    /// The scale of them all before rounding to half precision; 0 if there is none.
    pub(super) d: f32,
}

/// The level of a coordinate.
#[inline(always)]
fn level<const N: usize>(id: f32, x: f32) -> u8 {
    let most = Points::<N>::LEVELS as i32 - 1;
    nearest_int(0.5 * (id * x - 1.0)).clamp(0, most) as u8
}

impl<const N: usize> Scheme<N> {
    /// Quantizes 256 values by the plain loop. `importance` has a weight for each.
    pub(super) fn super_block(&self, values: &[f32], importance: Option<&[f32]>) -> Super {
        let variance = self.variance(values);
        let mut blocks = [Found { zero: true, ..Found::default() }; 16];
        let mut weights = [0.0; 32];
        for (b, (x, found)) in values.chunks_exact(self.block).zip(&mut blocks).enumerate() {
            let weights = &mut weights[..self.block];
            self.weigh(x, importance.map(|i| &i[b * self.block..][..self.block]), variance, weights);
            *found = self.block(x, weights);
        }
        self.finish(blocks)
    }

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
            return Super { blocks, codes, d: 0.0 };
        }
        let d = greatest / 31.0;
        let id = 1.0 / d;
        for (code, found) in codes.iter_mut().zip(&blocks) {
            *code = nearest_int(0.5 * (id * found.scale - 1.0)).clamp(0, 15) as u8;
        }
        Super { blocks, codes, d: d * self.fudge }
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
                let minus = !(x[i] >= 0.0);
                out[i] = if minus { -x[i] } else { x[i] };
                s |= u8::from(minus) << i;
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

    /// Searches one sub-block.
    fn block(&self, values: &[f32], weights: &[f32]) -> Found {
        let grid = (self.grid)();
        let top = 2.0 * Points::<N>::LEVELS as f32 - 1.0;
        let cells = self.block / N;
        let (mut x, mut found) = ([0.0f32; 32], Found::default());
        self.split(values, weights, &mut x, &mut found.signs);
        let x = &x[..self.block];
        let max = x[1..].iter().fold(x[0], |max, &x| c_max(max, x));
        if max < self.least || max == 0.0 {
            return Found { zero: true, ..Found::default() };
        }
        let mut roots = [0.0f32; 32];
        for (r, w) in roots.iter_mut().zip(weights) {
            *r = w.sqrt();
        }
        let near = |at: usize, code: u16, scale: f32| match grid.place(code) {
            Place::On(_) => (code, true),
            Place::Off(list) => (grid.points().code(nearest(grid, list, &x[N * at..], &roots[N * at..], scale)), false),
        };
        let sums = |codes: &[u16; 8]| {
            let (mut qx, mut q2) = (0.0f32, 0.0f32);
            for (k, &code) in codes[..cells].iter().enumerate() {
                for (i, l) in unpack::<N>(code).into_iter().enumerate() {
                    let (w, x, q) = (weights[N * k + i], x[N * k + i], f32::from(2 * l + 1));
                    qx += w * x * q;
                    q2 += w * q * q;
                }
            }
            (qx, q2)
        };
        let code_at = |k: usize, id: f32| pack::<N>(std::array::from_fn(|i| level::<N>(id, x[N * k + i])));

        let (mut scale, width) = match self.again {
            Again::Always => {
                let scale = plain_scale(Points::<N>::LEVELS as i32 + 1, x, weights);
                (scale, scale * Points::<N>::LEVELS as f32)
            }
            _ => (max / top, max),
        };
        if self.again == Again::Always && width <= 0.0 {
            return Found { zero: true, ..Found::default() };
        }
        let mut best = 0.0;
        let mut kept = [0u16; 8];
        let mut on_grid = [self.again != Again::All; 8];
        for step in -self.steps..=self.steps {
            let id = (top + step as f32 * self.step) / width;
            let (mut codes, mut on) = ([0; 8], [true; 8]);
            for k in 0..cells {
                (codes[k], on[k]) = near(k, code_at(k, id), 1.0 / id);
            }
            let (qx, q2) = sums(&codes);
            if q2 > 0.0 && qx * qx > best * q2 {
                scale = qx / q2;
                best = scale * qx;
                (kept, on_grid) = (codes, on);
            }
        }
        let again = match self.again {
            Again::Always => true,
            _ => on_grid[..cells].contains(&false),
        };
        if again && scale > 0.0 {
            for k in 0..cells {
                if self.again != Again::Each || !on_grid[k] {
                    kept[k] = near(k, code_at(k, 1.0 / scale), scale).0;
                }
            }
            let (qx, q2) = sums(&kept);
            if q2 > 0.0 {
                scale = qx / q2;
            }
        }
        self.put_scale(scale, &mut found);
        for (point, &code) in found.points.iter_mut().zip(&kept[..cells]) {
            *point = grid.index(code);
        }
        found
    }
}

/// The neighbour with the least weighted distance; the first of equals. Where no distance is a finite number, ggml
/// aborts, and this takes the first.
fn nearest<const N: usize>(grid: &Grid<N>, list: &[u16], x: &[f32], weights: &[f32], scale: f32) -> usize {
    let (mut best, mut at) = (f32::MAX, list[0]);
    for &index in list {
        let mut d2 = 0.0;
        for (i, l) in grid.points().levels(usize::from(index)).into_iter().enumerate() {
            let diff = scale * f32::from(2 * l + 1) - x[i];
            d2 += weights[i] * diff * diff;
        }
        if d2 < best {
            (best, at) = (d2, index);
        }
    }
    usize::from(at)
}

/// The scale of a plain quantizer to 0..=`most`: ggml's `make_qp_quants`, whose codes are bytes, so that a negative one
/// counts as itself in the first sums and as 256 more thereafter.
fn plain_scale(most: i32, x: &[f32], weights: &[f32]) -> f32 {
    let max = x.iter().fold(0.0, |max, &x| c_max(max, x));
    if max < EPSILON {
        return 0.0;
    }
    let error = |scale: f32, code: &dyn Fn(f32) -> f32| {
        x.iter().zip(weights).fold(0.0, |sum, (&x, &w)| {
            let diff = x - scale * code(x);
            sum + w * diff * diff
        })
    };
    let mut iscale = most as f32 / max;
    let mut least = error(1.0 / iscale, &|x| f32::from(nearest_int(iscale * x) as u8));
    for step in (-4..=4).filter(|&s| s != 0) {
        let tried = (0.1 * step as f32 + most as f32) / max;
        let e = error(1.0 / tried, &|x| nearest_int(tried * x).min(most) as f32);
        if e < least {
            (least, iscale) = (e, tried);
        }
    }
    refine(iscale, most, x, weights)
}

/// The rest of [`plain_scale`]: the fit to the codes of a scale, which are then changed one by one while that helps.
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
