//! The plain loop, in ggml's order of operations.
use super::super::grids::{Grid, Place, Points, pack, unpack};
use super::{Again, Found, Scheme, Super, refine};
use crate::quant::ggml::{EPSILON, c_max, nearest_int};

/// The level of a coordinate.
#[inline(always)]
fn level<const N: usize>(id: f32, x: f32) -> u8 {
    let most = Points::<N>::LEVELS as i32 - 1;
    nearest_int(0.5 * (id * x - 1.0)).clamp(0, most) as u8
}

impl<const N: usize> Scheme<N> {
    /// Quantizes 256 values by the plain loop. `importance` has a weight for each.
    pub(in super::super) fn super_block(&self, values: &[f32], importance: Option<&[f32]>) -> Super {
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
