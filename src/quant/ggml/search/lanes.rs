//! The searches of the parent for sixteen sub-blocks at once: a lane does what the scalar search does, in its order.
//!
//! Codes are not carried through a search. A lane remembers which factor won, and who wants the codes rounds again.

mod affine;

pub(in crate::quant::ggml) use affine::affine;

use crate::quant::ggml::{EPSILON, MAGIC};
use crate::quant::simd::{LANES, Simd};

/// Element `i` of sixteen sub-blocks.
pub(in crate::quant::ggml) type Row = [f32; LANES];

/// The nearest integer of each lane, between `low` and `high`.
///
/// The sum with [`MAGIC`] keeps the integer in its low bits, where the order of bits is that of the floats. `TAME` leaves out what only matters beyond 2^22 and for NaN.
#[inline(always)]
pub(in crate::quant::ggml) fn rounded<S: Simd, const TAME: bool>(s: S, v: S::F, low: i32, high: i32) -> S::F {
    let mut bits = s.bits(s.add(v, s.splat(MAGIC)));
    if !TAME {
        bits = s.or_i(s.and_i(bits, s.splat_i(0x7f_ffff)), s.splat_i(0x4b00_0000));
    }
    // As integers, which leaves the float units to the sums.
    let zero = MAGIC.to_bits() as i32;
    s.from_bits(s.min_i(s.max_i(bits, s.splat_i(zero + low)), s.splat_i(zero + high)))
}

#[inline(always)]
fn round<S: Simd, const TAME: bool>(s: S, v: S::F, low: i32, high: i32) -> S::F {
    s.sub(rounded::<S, TAME>(s, v, low, high), s.splat(MAGIC))
}

/// Each lane's value of largest magnitude, the first of several, and that magnitude. NaN is skipped.
#[inline(always)]
fn extreme<S: Simd>(s: S, x: &[Row]) -> (S::F, S::F) {
    let (mut low, mut high) = (s.zero(), s.zero());
    for x in x {
        let x = s.load(x);
        (low, high) = (s.min(x, low), s.max(x, high));
    }
    let depth = s.neg(low);
    let magnitude = s.max(high, depth);
    let mut max = s.select(s.lt(high, depth), low, high);
    // As far below zero as above it: the first counts.
    if s.any(s.and_m(s.eq(high, depth), s.lt(s.zero(), high))) {
        for x in x.iter().rev() {
            let x = s.load(x);
            max = s.select(s.eq(s.abs(x), magnitude), x, max);
        }
    }
    (max, magnitude)
}

/// Whether no lane has a NaN or an infinity.
#[inline(always)]
fn finite<S: Simd>(s: S, x: &[Row]) -> bool {
    let mut nothing = s.zero();
    for x in x {
        nothing = s.add(nothing, s.mul(s.load(x), s.zero()));
    }
    s.all(s.eq(nothing, s.zero()))
}

/// What [`symmetric`] found.
pub(in crate::quant::ggml) struct Symmetric<S: Simd> {
    pub scale: S::F,
    /// The codes are `nearest_int(factor * x)` plus the half, or zero where this is a NaN (a zero has its codes).
    pub factor: S::F,
}

/// As [`super::symmetric`].
#[inline(always)]
pub(in crate::quant::ggml) fn symmetric<S: Simd, const N: usize>(
    s: S,
    half: i32,
    x: &[Row; N],
    w: &[Row; N],
) -> Symmetric<S> {
    let (max, magnitude) = extreme(s, x);
    let tiny = s.lt(magnitude, s.splat(EPSILON));
    let max = s.select(tiny, s.splat(1.0), max);
    let mut wx = [[0.0; LANES]; N];
    for i in 0..N {
        s.store(s.mul(s.load(&w[i]), s.load(&x[i])), &mut wx[i]);
    }
    // Without NaN and infinity nothing is beyond one code more than the half.
    if finite(s, x) {
        walk::<S, N, true>(s, half, x, w, &wx, max, tiny)
    } else {
        walk::<S, N, false>(s, half, x, w, &wx, max, tiny)
    }
}

/// Tenths of a code beyond the half, two by two. None at all comes first, and stands until a better one comes.
const STEPS: [[i32; 2]; 9] = [[-9, -8], [-7, -6], [-5, -4], [-3, -2], [-1, 1], [2, 3], [4, 5], [6, 7], [8, 9]];

#[inline(always)]
fn walk<S: Simd, const N: usize, const TAME: bool>(
    s: S,
    half: i32,
    x: &[Row; N],
    w: &[Row; N],
    wx: &[Row; N],
    max: S::F,
    tiny: S::M,
) -> Symmetric<S> {
    let mut best = Best { factor: s.zero(), scale: s.zero(), gain: s.zero() };
    let factor = s.div(s.splat(-(half as f32)), max);
    let [(sumlx, suml2)] = products::<S, N, TAME, 2, 1>(s, half, x, w, wx, [factor]);
    best.factor = factor;
    best.scale = s.select(s.eq(suml2, s.zero()), s.zero(), s.div(sumlx, suml2));
    best.gain = s.mul(best.scale, sumlx);
    for [a, b] in STEPS {
        let factors = [factor_of(s, half, a, max), factor_of(s, half, b, max)];
        // Up to which code a factor leads decides which limits are needed at all.
        let sums = match b {
            _ if !TAME => both::<S, N, false, 2>(s, half, x, w, wx, factors),
            ..=-6 => both::<S, N, true, 0>(s, half, x, w, wx, factors),
            -5..=4 => both::<S, N, true, 1>(s, half, x, w, wx, factors),
            _ => both::<S, N, true, 2>(s, half, x, w, wx, factors),
        };
        best.offer(s, factors[0], sums[0]);
        best.offer(s, factors[1], sums[1]);
    }
    Symmetric { scale: s.select(tiny, s.zero(), best.scale), factor: s.select(tiny, s.splat(f32::NAN), best.factor) }
}

/// What a walk has found so far.
struct Best<S: Simd> {
    factor: S::F,
    scale: S::F,
    /// `scale · Σw·x·l`.
    gain: S::F,
}

impl<S: Simd> Best<S> {
    /// Takes a factor by its sums where it is better.
    #[inline(always)]
    fn offer(&mut self, s: S, factor: S::F, (sumlx, suml2): (S::F, S::F)) {
        let better = s.and_m(s.lt(s.zero(), suml2), s.lt(s.mul(self.gain, suml2), s.mul(sumlx, sumlx)));
        let scale = s.div(sumlx, suml2);
        self.factor = s.select(better, factor, self.factor);
        self.scale = s.select(better, scale, self.scale);
        self.gain = s.select(better, s.mul(self.scale, sumlx), self.gain);
    }
}

#[inline(always)]
fn factor_of<S: Simd>(s: S, half: i32, step: i32, max: S::F) -> S::F {
    s.div(s.splat(-(half as f32 + 0.1 * step as f32)), max)
}

/// The sums of two factors: beside each other where there are registers for that.
#[inline(always)]
fn both<S: Simd, const N: usize, const TAME: bool, const LIMITS: u8>(
    s: S,
    half: i32,
    x: &[Row; N],
    w: &[Row; N],
    wx: &[Row; N],
    factors: [S::F; 2],
) -> [(S::F, S::F); 2] {
    if S::WIDE {
        return products::<S, N, TAME, LIMITS, 2>(s, half, x, w, wx, factors);
    }
    let [a] = products::<S, N, TAME, LIMITS, 1>(s, half, x, w, wx, [factors[0]]);
    let [b] = products::<S, N, TAME, LIMITS, 1>(s, half, x, w, wx, [factors[1]]);
    [a, b]
}

/// The sums of `w·x·l` and of `w·l·l`. `LIMITS`: none, for codes that are less than the half away from zero; the upper one,
/// for codes not farther than the half; or both.
#[inline(always)]
fn products<S: Simd, const N: usize, const TAME: bool, const LIMITS: u8, const K: usize>(
    s: S,
    half: i32,
    x: &[Row; N],
    w: &[Row; N],
    wx: &[Row; N],
    factors: [S::F; K],
) -> [(S::F, S::F); K] {
    let top = s.splat_i(MAGIC.to_bits() as i32 + half - 1);
    let mut sums = [(s.zero(), s.zero()); K];
    for i in 0..N {
        let (x, w, wx) = (s.load(&x[i]), s.load(&w[i]), s.load(&wx[i]));
        for (factor, (sumlx, suml2)) in factors.iter().zip(&mut sums) {
            let v = s.mul(*factor, x);
            let l = if LIMITS == 2 {
                round::<S, TAME>(s, v, -half, half - 1)
            } else {
                let sum = s.add(v, s.splat(MAGIC));
                let sum = if LIMITS == 1 { s.from_bits(s.min_i(s.bits(sum), top)) } else { sum };
                s.sub(sum, s.splat(MAGIC))
            };
            *sumlx = s.add(*sumlx, s.mul(wx, l));
            *suml2 = s.add(*suml2, s.mul(s.mul(w, l), l));
        }
    }
    sums
}

/// Codes by the value of largest magnitude; and, per value, `w·x·l` and `w·l·l` (`TERMS`), or `w·x` and `w`. Yields the
/// sums of the terms, and the tiny lanes.
#[inline(always)]
fn start<S: Simd, const N: usize, const TERMS: bool>(
    s: S,
    half: i32,
    x: &[Row; N],
    codes: &mut [Row; N],
    first: &mut [Row; N],
    second: &mut [Row; N],
) -> ([S::F; 2], S::M) {
    let (max, magnitude) = extreme(s, x);
    let tiny = s.lt(magnitude, s.splat(EPSILON));
    let factor = s.div(s.splat(-(half as f32)), s.select(tiny, s.splat(1.0), max));
    let (mut sumlx, mut suml2) = (s.zero(), s.zero());
    for i in 0..N {
        let x = s.load(&x[i]);
        let l = round::<S, false>(s, s.mul(factor, x), -half, half - 1);
        s.store(l, &mut codes[i]);
        let w = s.mul(x, x);
        let wx = s.mul(w, x);
        let (wxl, wll) = (s.mul(wx, l), s.mul(s.mul(w, l), l));
        s.store(if TERMS { wxl } else { wx }, &mut first[i]);
        s.store(if TERMS { wll } else { w }, &mut second[i]);
        sumlx = s.add(sumlx, wxl);
        suml2 = s.add(suml2, wll);
    }
    ([sumlx, suml2], tiny)
}

/// The scale by the sums; tiny lanes get their codes.
#[inline(always)]
fn finish<S: Simd, const N: usize>(s: S, half: i32, sums: [S::F; 2], tiny: S::M, codes: &mut [Row; N]) -> S::F {
    if s.any(tiny) {
        for code in codes {
            s.store(s.select(tiny, s.splat(-(half as f32)), s.load(code)), code);
        }
    }
    let [sumlx, suml2] = sums;
    let some = s.and_m(s.not_m(tiny), s.lt(s.zero(), suml2));
    s.select(some, s.div(sumlx, suml2), s.zero())
}

/// The start of [`super::refined`]: scales, and the lanes of which a code might be moved. In all others this is the
/// result. `codes` are from `-half` to `half - 1`, and `-half` in tiny lanes.
#[inline(always)]
pub(in crate::quant::ggml) fn opening<S: Simd, const N: usize>(
    s: S,
    half: i32,
    x: &[Row; N],
    codes: &mut [Row; N],
) -> (S::F, S::M) {
    let (mut wxl, mut wll) = ([[0.0; LANES]; N], [[0.0; LANES]; N]);
    let (sums, tiny) = start::<S, N, true>(s, half, x, codes, &mut wxl, &mut wll);
    let (low, high) = (s.splat(-(half as f32)), s.splat((half - 1) as f32));
    // Nearer to its code than half a code by so much that no rounding on the way matters, and so without the quotient.
    let near = s.splat(0.4999);
    let mut far = s.lt(s.zero(), s.zero());
    for i in 0..N {
        let (x, l) = (s.load(&x[i]), s.load(&codes[i]));
        let slx = s.sub(sums[0], s.load(&wxl[i]));
        let sl2 = s.sub(sums[1], s.load(&wll[i]));
        let place = s.max(s.min(s.mul(x, sl2), s.mul(high, slx)), s.mul(low, slx));
        let off = s.abs(s.sub(place, s.mul(l, slx)));
        far = s.or_m(far, s.le(s.mul(near, slx), off));
    }
    // All terms of a lane have one sign, and so has their sum without one of them: where it is negative, nothing moves.
    let may = s.and_m(s.not_m(s.le(sums[0], s.zero())), s.not_m(tiny));
    // Very small and very large ones are beyond what was said of rounding.
    let (least, most) = (s.splat(1e-25), s.splat(1e30));
    let usual =
        s.and_m(s.and_m(s.le(least, sums[0]), s.le(sums[0], most)), s.and_m(s.le(least, sums[1]), s.le(sums[1], most)));
    (finish(s, half, sums, tiny, codes), s.and_m(may, s.or_m(far, s.not_m(usual))))
}

/// As [`super::refined`], for `K` times sixteen sub-blocks: a code waits for the one before it, so several walks side by
/// side take little longer than one. `codes` as of [`opening`].
#[inline(always)]
pub(in crate::quant::ggml) fn refined<S: Simd, const N: usize, const K: usize>(
    s: S,
    half: i32,
    x: &[[Row; N]; K],
    codes: &mut [[Row; N]; K],
) -> [S::F; K] {
    let (mut w, mut wx) = ([[[0.0; LANES]; N]; K], [[[0.0; LANES]; N]; K]);
    let mut sums = [[s.zero(); 2]; K];
    let mut tiny = [s.eq(s.zero(), s.zero()); K];
    for k in 0..K {
        (sums[k], tiny[k]) = start::<S, N, false>(s, half, &x[k], &mut codes[k], &mut wx[k], &mut w[k]);
    }
    for _ in 0..5 {
        let mut changed = s.lt(s.zero(), s.zero());
        for i in 0..N {
            for k in 0..K {
                let [sumlx, suml2] = sums[k];
                let (x, l) = (s.load(&x[k][i]), s.load(&codes[k][i]));
                let (w, wx) = (s.load(&w[k][i]), s.load(&wx[k][i]));
                let slx = s.sub(sumlx, s.mul(wx, l));
                let sl2 = s.sub(suml2, s.mul(s.mul(w, l), l));
                let new = round::<S, false>(s, s.div(s.mul(x, sl2), slx), -half, half - 1);
                let candidate = s.and_m(s.lt(s.zero(), slx), s.not_m(s.eq(new, l)));
                let slx = s.add(slx, s.mul(wx, new));
                let sl2 = s.add(sl2, s.mul(s.mul(w, new), new));
                let better = s.lt(s.mul(s.mul(sumlx, sumlx), sl2), s.mul(s.mul(slx, slx), suml2));
                let better = s.and_m(s.and_m(candidate, better), s.lt(s.zero(), sl2));
                s.store(s.select(better, new, l), &mut codes[k][i]);
                sums[k] = [s.select(better, slx, sumlx), s.select(better, sl2, suml2)];
                changed = s.or_m(changed, better);
            }
        }
        // A lane without a change is at a fixed point: another round leaves it as it is.
        if !s.any(changed) {
            break;
        }
    }
    let mut scales = [s.zero(); K];
    for k in 0..K {
        scales[k] = finish(s, half, sums[k], tiny[k], &mut codes[k]);
    }
    scales
}

/// The lowest byte of each lane.
#[inline(always)]
fn byte<S: Simd>(s: S, v: S::I) -> S::I {
    s.and_i(v, s.splat_i(255))
}

/// The nearest integer of each lane, at most `top`.
#[inline(always)]
fn capped<S: Simd>(s: S, v: S::F, top: i32) -> S::I {
    s.min_i(s.nearest_int(v), s.splat_i(top))
}

/// As [`super::positive`]. Codes are bytes.
#[inline(always)]
pub(in crate::quant::ggml) fn positive<S: Simd>(
    s: S,
    top: i32,
    x: &[Row],
    w: &[Row],
    codes: &mut [[i32; LANES]],
) -> S::F {
    let mut max = s.zero();
    for x in x {
        max = s.max(max, s.load(x));
    }
    let tiny = s.lt(max, s.splat(EPSILON));
    let max = s.select(tiny, s.splat(1.0), max);
    let mut chosen = s.div(s.splat(top as f32), max);
    let scale = s.div(s.splat(1.0), chosen);
    let mut best = s.zero();
    for (x, w) in x.iter().zip(w) {
        let (x, w) = (s.load(x), s.load(w));
        let l = s.to_float(byte(s, s.nearest_int(s.mul(chosen, x))));
        let diff = s.sub(x, s.mul(scale, l));
        best = s.add(best, s.mul(s.mul(w, diff), diff));
    }
    for step in -4..=4 {
        if step == 0 {
            continue;
        }
        let factor = s.div(s.splat(0.1 * step as f32 + top as f32), max);
        let scale = s.div(s.splat(1.0), factor);
        let mut error = s.zero();
        for (x, w) in x.iter().zip(w) {
            let (x, w) = (s.load(x), s.load(w));
            let diff = s.sub(x, s.mul(scale, s.to_float(capped(s, s.mul(factor, x), top))));
            error = s.add(error, s.mul(s.mul(w, diff), diff));
        }
        let better = s.lt(error, best);
        best = s.select(better, error, best);
        chosen = s.select(better, factor, chosen);
    }
    let (mut sumlx, mut suml2) = (s.zero(), s.zero());
    for ((x, w), code) in x.iter().zip(w).zip(codes.iter_mut()) {
        let (x, w) = (s.load(x), s.load(w));
        let l = capped(s, s.mul(chosen, x), top);
        s.store_i(byte(s, l), code);
        let l = s.to_float(l);
        sumlx = s.add(sumlx, s.mul(s.mul(w, x), l));
        suml2 = s.add(suml2, s.mul(s.mul(w, l), l));
    }
    for _ in 0..5 {
        let mut changed = s.lt(s.zero(), s.zero());
        for ((x, w), code) in x.iter().zip(w).zip(codes.iter_mut()) {
            let (x, w, old) = (s.load(x), s.load(w), s.load_i(code));
            let l = s.to_float(old);
            let wx = s.mul(w, x);
            let slx = s.sub(sumlx, s.mul(wx, l));
            let sl2 = s.sub(suml2, s.mul(s.mul(w, l), l));
            let some = s.and_m(s.lt(s.zero(), slx), s.lt(s.zero(), sl2));
            let new = capped(s, s.div(s.mul(x, sl2), slx), top);
            let some = s.and_m(some, s.not_m(s.eq_i(new, old)));
            let l = s.to_float(new);
            let slx = s.add(slx, s.mul(wx, l));
            let sl2 = s.add(sl2, s.mul(s.mul(w, l), l));
            let better = s.lt(s.mul(s.mul(sumlx, sumlx), sl2), s.mul(s.mul(slx, slx), suml2));
            let better = s.and_m(some, better);
            s.store_i(s.select_i(better, byte(s, new), old), code);
            sumlx = s.select(better, slx, sumlx);
            suml2 = s.select(better, sl2, suml2);
            changed = s.or_m(changed, better);
        }
        if !s.any(changed) {
            break;
        }
    }
    if s.any(tiny) {
        for code in codes.iter_mut() {
            s.store_i(s.select_i(tiny, s.splat_i(0), s.load_i(code)), code);
        }
    }
    let some = s.and_m(s.not_m(tiny), s.lt(s.zero(), suml2));
    s.select(some, s.div(sumlx, suml2), s.zero())
}
