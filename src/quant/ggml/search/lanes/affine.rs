//! The search for a scale and a minimum.

use super::{Row, round};
use crate::quant::ggml::search::Steps;
use crate::quant::simd::{LANES, Simd};

/// What [`affine`] found.
#[derive(Clone, Copy)]
pub(in crate::quant::ggml) struct Affine<S: Simd> {
    pub scale: S::F,
    pub min: S::F,
    /// The codes are `nearest_int(factor * (x - base))`.
    pub factor: S::F,
    pub base: S::F,
}

/// As [`affine`](super::super::affine), for `K` times sixteen sub-blocks, loop after loop: while one waits for a quotient, the
/// others go on, however few the registers.
#[inline(always)]
pub(in crate::quant::ggml) fn affine<S: Simd, const N: usize, const K: usize>(
    s: S,
    steps: Steps,
    x: [&[Row; N]; K],
    w: [&[Row; N]; K],
) -> [Affine<S>; K] {
    let mut walks = [Walk::start(s, x[0], w[0]); K];
    for k in 1..K {
        walks[k] = Walk::start(s, x[k], w[k]);
    }
    let mut codes = [[[0.0; LANES]; N]; K];
    let (mut factors, mut sums, mut trials) = ([s.zero(); K], [[s.zero(); 3]; K], [Trial::none(s); K]);
    for step in FIRST..=steps.count {
        for k in 0..K {
            factors[k] = walks[k].factor_at(s, steps, step);
        }
        for k in 0..K {
            sums[k] = if walks[k].is_tame(s, factors[k]) {
                codes_and_sums::<S, N, true>(s, steps.top, x[k], w[k], factors[k], walks[k].min, &mut codes[k])
            } else {
                codes_and_sums::<S, N, false>(s, steps.top, x[k], w[k], factors[k], walks[k].min, &mut codes[k])
            };
        }
        for k in 0..K {
            trials[k] = walks[k].trial(s, step, factors[k], sums[k]);
        }
        for k in 0..K {
            trials[k].error = error(s, steps.magnitudes, x[k], w[k], trials[k].scale, trials[k].min, &codes[k]);
        }
        for k in 0..K {
            walks[k].take(s, step, trials[k]);
        }
    }
    let mut found = [walks[0].found(s); K];
    for k in 1..K {
        found[k] = walks[k].found(s);
    }
    found
}

/// The range as it is, which any better step replaces.
const FIRST: i32 = -1;

/// A scale and a minimum on trial.
#[derive(Clone, Copy)]
struct Trial<S: Simd> {
    factor: S::F,
    scale: S::F,
    min: S::F,
    error: S::F,
    /// Not where the codes are all alike.
    valid: S::M,
}

impl<S: Simd> Trial<S> {
    #[inline(always)]
    fn none(s: S) -> Self {
        Self { factor: s.zero(), scale: s.zero(), min: s.zero(), error: s.zero(), valid: s.lt(s.zero(), s.zero()) }
    }
}

/// What [`affine`] knows of sixteen sub-blocks, and has found so far.
#[derive(Clone, Copy)]
struct Walk<S: Simd> {
    sum_w: S::F,
    sum_x: S::F,
    /// No |x| is larger.
    reach: S::F,
    /// A NaN among the values is one in the sum.
    numbers: bool,
    max: S::F,
    flat: S::M,
    flat_min: S::F,
    min: S::F,
    best: S::F,
    scale: S::F,
    factor: S::F,
    base: S::F,
}

impl<S: Simd> Walk<S> {
    #[inline(always)]
    fn start<const N: usize>(s: S, x: &[Row; N], w: &[Row; N]) -> Self {
        let first = s.load(&x[0]);
        let (mut least, mut max) = (first, first);
        let mut sum_w = s.load(&w[0]);
        let mut sum_x = s.mul(sum_w, first);
        for i in 1..N {
            let (x, w) = (s.load(&x[i]), s.load(&w[i]));
            least = s.min(x, least);
            max = s.max(x, max);
            sum_w = s.add(sum_w, w);
            sum_x = s.add(sum_x, s.mul(w, x));
        }
        let min = s.select(s.lt(s.zero(), least), s.zero(), least);
        let flat = s.le(max, min);
        Self {
            sum_w,
            sum_x,
            reach: s.max(s.abs(least), s.abs(max)),
            numbers: s.all(s.eq(sum_x, sum_x)),
            max,
            flat,
            flat_min: s.neg(min),
            min,
            best: s.zero(),
            scale: s.zero(),
            factor: s.zero(),
            base: min,
        }
    }

    #[inline(always)]
    fn factor_at(&self, s: S, steps: Steps, step: i32) -> S::F {
        let beyond = if step == FIRST { 0.0 } else { steps.from + steps.by * step as f32 };
        // Flat lanes walk on with a range of one, and their result is not used.
        let range = s.select(self.flat, s.splat(1.0), s.sub(self.max, self.min));
        s.div(s.splat(beyond + steps.top as f32), range)
    }

    /// Whether all of `factor * (x - min)` are numbers that [`MAGIC`](crate::quant::ggml::MAGIC) rounds.
    #[inline(always)]
    fn is_tame(&self, s: S, factor: S::F) -> bool {
        let most = s.mul(s.abs(factor), s.add(self.reach, s.abs(self.min)));
        self.numbers && s.all(s.lt(most, s.splat(4e6)))
    }

    /// The best scale and minimum for the codes that have those sums.
    #[inline(always)]
    fn trial(&self, s: S, step: i32, factor: S::F, [sum_l, sum_l2, sum_xl]: [S::F; 3]) -> Trial<S> {
        let (sum_w, sum_x) = (self.sum_w, self.sum_x);
        let determinant = s.sub(s.mul(sum_w, sum_l2), s.mul(sum_l, sum_l));
        let mut scale = s.div(s.sub(s.mul(sum_w, sum_xl), s.mul(sum_x, sum_l)), determinant);
        let mut min = s.div(s.sub(s.mul(sum_l2, sum_x), s.mul(sum_l, sum_xl)), determinant);
        let above = s.lt(s.zero(), min);
        min = s.select(above, s.zero(), min);
        scale = s.select(above, s.div(sum_xl, sum_l2), scale);
        if step == FIRST {
            (scale, min) = (s.div(s.splat(1.0), factor), self.min);
        }
        Trial { factor, scale, min, error: s.zero(), valid: s.lt(s.zero(), determinant) }
    }

    #[inline(always)]
    fn take(&mut self, s: S, step: i32, trial: Trial<S>) {
        let mut better = s.and_m(trial.valid, s.lt(trial.error, self.best));
        if step == FIRST {
            better = s.eq(s.zero(), s.zero());
        }
        self.best = s.select(better, trial.error, self.best);
        self.scale = s.select(better, trial.scale, self.scale);
        self.factor = s.select(better, trial.factor, self.factor);
        self.base = s.select(better, self.min, self.base);
        self.min = s.select(better, trial.min, self.min);
    }

    #[inline(always)]
    fn found(&self, s: S) -> Affine<S> {
        Affine {
            scale: s.select(self.flat, s.zero(), self.scale),
            min: s.select(self.flat, self.flat_min, s.neg(self.min)),
            factor: s.select(self.flat, s.zero(), self.factor),
            base: s.select(self.flat, s.zero(), self.base),
        }
    }
}

/// Codes, and the sums of `w·l`, `w·l·l` and `w·l·x`.
#[inline(always)]
fn codes_and_sums<S: Simd, const N: usize, const TAME: bool>(
    s: S,
    top: i32,
    x: &[Row; N],
    w: &[Row; N],
    factor: S::F,
    min: S::F,
    codes: &mut [Row; N],
) -> [S::F; 3] {
    let mut sums = [s.zero(); 3];
    for i in 0..N {
        let (x, w) = (s.load(&x[i]), s.load(&w[i]));
        let l = round::<S, TAME>(s, s.mul(factor, s.sub(x, min)), 0, top);
        s.store(l, &mut codes[i]);
        let wl = s.mul(w, l);
        sums[0] = s.add(sums[0], wl);
        sums[1] = s.add(sums[1], s.mul(wl, l));
        sums[2] = s.add(sums[2], s.mul(wl, x));
    }
    sums
}

#[inline(always)]
fn error<S: Simd, const N: usize>(
    s: S,
    magnitudes: bool,
    x: &[Row; N],
    w: &[Row; N],
    scale: S::F,
    min: S::F,
    codes: &[Row; N],
) -> S::F {
    let mut sum = s.zero();
    for i in 0..N {
        let diff = s.sub(s.add(s.mul(scale, s.load(&codes[i])), min), s.load(&x[i]));
        let diff = if magnitudes { s.abs(diff) } else { s.mul(diff, diff) };
        sum = s.add(sum, s.mul(s.load(&w[i]), diff));
    }
    sum
}
