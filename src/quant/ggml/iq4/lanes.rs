//! Sixteen blocks of 32 side by side, a lane each.
//!
//! Of the sixteen roundings that a block is tried with, the last fifteen divide it by its greatest value and multiply it
//! by −134 to −120. Over that range no product passes more than one middle between levels, for the least ratio of two
//! middles of the same sign is 93.5 to 115.5. So an element has two candidate levels and one middle, found beforehand,
//! and its terms of both sums are computed twice rather than fifteen times; which of the two a rounding takes is still
//! decided by the product itself, and the sums still run in order.
use super::super::{EPSILON, f16_bits};
use super::{Kind, LEVELS, block, put_scales};
use crate::quant::simd::{Kernel, LANES, Simd};

/// Values of sixteen blocks.
const GROUP: usize = 32 * LANES;
/// Roundings that share a pass over the elements: as many as the registers hold sums for.
const PASS: usize = 5;
/// `y (BEND − CURVE |y|)` is the place of `127 y` among the levels, counted from the level 1: close enough that the
/// middle beside it is the only one which `120 y` to `134 y` can pass.
const BEND: f32 = 0.0879 * 127.0;
const CURVE: f32 = 0.000_207 * 127.0 * 127.0;

/// The levels below and above a middle, and the middle; the sixteenth is the fifteenth again.
const ABOVE: [f32; 16] = {
    let mut above = LEVELS;
    let mut i = 0;
    while i < 15 {
        above[i] = LEVELS[i + 1];
        i += 1;
    }
    above
};
const BELOW: [f32; 16] = {
    let mut below = LEVELS;
    below[15] = LEVELS[14];
    below
};
const MIDDLES: [f32; 16] = {
    let mut middles = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        middles[i] = (BELOW[i] + ABOVE[i]) / 2.0;
        i += 1;
    }
    middles
};

/// [`super::encode`] for checked lengths.
pub(super) struct Encode<'a> {
    pub(super) kind: Kind,
    pub(super) row_len: usize,
    pub(super) values: &'a [f32],
    pub(super) importance: Option<&'a [f32]>,
    pub(super) out: &'a mut [u8],
}

type Columns = [[f32; LANES]; 32];

impl Kernel for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { kind, row_len, values, importance, out } = self;
        let bytes = kind.bytes() * (GROUP / kind.values());
        let mut variances = [0.0; LANES];
        let (mut padded, mut weights) = ([0.0; GROUP], [0.0; GROUP]);
        for (g, (group, out)) in values.chunks(GROUP).zip(out.chunks_mut(bytes)).enumerate() {
            let start = g * GROUP;
            let group = if group.len() == GROUP {
                group
            } else {
                padded[..group.len()].copy_from_slice(group);
                &padded
            };
            let weights = importance.map(|importance| {
                let column = start % row_len;
                if let Some(weights) = importance.get(column..column + GROUP) {
                    return weights;
                }
                for (b, weights) in weights.chunks_exact_mut(32).enumerate() {
                    weights.copy_from_slice(&importance[(start + 32 * b) % row_len..][..32]);
                }
                &weights
            });
            let variance = match (kind, weights) {
                (Kind::Xs, Some(_)) => {
                    // A sum over 256 in order is slow; sixteen at once are not.
                    if g % 8 == 0 {
                        variances = super_variances(s, &values[start..]);
                    }
                    let pair = &variances[2 * (g % 8)..][..2];
                    Some(std::array::from_fn(|lane| pair[lane / 8]))
                }
                _ => None,
            };
            group_of_blocks(s, kind, group, weights, variance, out);
        }
    }
}

/// The variance of each of the first sixteen super-blocks there are.
#[inline(always)]
fn super_variances<S: Simd>(s: S, values: &[f32]) -> [f32; LANES] {
    let mut variances = [0.0; LANES];
    if values.len() >= 256 * LANES {
        let (mut sum, mut tile) = (s.zero(), [[0.0; LANES]; 16]);
        for t in 0..16 {
            s.transpose(&values[16 * t..], 256, &mut tile);
            for x in &tile {
                let x = s.load(x);
                sum = s.add(sum, s.mul(x, x));
            }
        }
        s.store(s.mul(sum, s.splat(2.0 / 256.0)), &mut variances);
    } else {
        for (v, x) in variances.iter_mut().zip(values.chunks_exact(256)) {
            *v = x.iter().fold(0.0f32, |sum, x| sum + x * x) * (2.0 / 256.0);
        }
    }
    variances
}

/// Encodes sixteen blocks, of which `out` may have room for fewer.
#[inline(always)]
fn group_of_blocks<S: Simd>(
    s: S,
    kind: Kind,
    values: &[f32],
    weights: Option<&[f32]>,
    variance: Option<[f32; LANES]>,
    out: &mut [u8],
) {
    let mut x: Columns = [[0.0; LANES]; 32];
    columns(s, values, &mut x);

    let (mut amax, mut max, mut bits) = (s.zero(), s.zero(), s.splat_i(0));
    for x in &x {
        let x = s.load(x);
        let ax = s.abs(x);
        let more = s.lt(amax, ax);
        amax = s.select(more, ax, amax);
        max = s.select(more, x, max);
        bits = s.max_i(bits, s.bits(ax));
    }
    if s.any(s.gt_i(bits, s.splat_i(0x7f7f_ffff))) {
        // Nothing said above holds for what is not finite.
        let size = kind.values();
        for (b, out) in out.chunks_exact_mut(kind.bytes()).enumerate() {
            block(kind, &values[b * size..][..size], weights.map(|w| &w[b * size..][..size]), out);
        }
        return;
    }

    let mut w: Columns = [[0.0; LANES]; 32];
    match weights {
        Some(weights) => {
            columns(s, weights, &mut w);
            let variance = match variance {
                Some(variance) => s.load(&variance),
                None => {
                    let mut sum = s.zero();
                    for x in &x {
                        let x = s.load(x);
                        sum = s.add(sum, s.mul(x, x));
                    }
                    s.mul(sum, s.splat(2.0 / 32.0))
                }
            };
            for (x, w) in x.iter().zip(&mut w) {
                let x = s.load(x);
                s.store(s.mul(s.load(w), s.sqrt(s.add(variance, s.mul(x, x)))), w);
            }
        }
        None => {
            for (x, w) in x.iter().zip(&mut w) {
                let x = s.load(x);
                s.store(s.mul(x, x), w);
            }
        }
    }

    let zero_block = s.lt(amax, s.splat(EPSILON));
    let scale = s.select(zero_block, s.zero(), search(s, &x, &w, max));
    let mut scales = [0.0; LANES];
    s.store(scale, &mut scales);
    let inverses = match kind {
        Kind::Nl => {
            let inverse = s.select(s.eq(scale, s.zero()), s.zero(), s.div(s.splat(1.0), scale));
            for (out, &scale) in out.chunks_exact_mut(18).zip(&scales) {
                out[..2].copy_from_slice(&f16_bits(scale).to_le_bytes());
            }
            inverse
        }
        Kind::Xs => {
            let mut inverses = [0.0; LANES];
            let blocks = scales.chunks_exact(8).zip(inverses.chunks_exact_mut(8));
            for (out, (scales, inverses)) in out.chunks_exact_mut(136).zip(blocks) {
                put_scales(scales, inverses, out);
            }
            s.load(&inverses)
        }
    };
    put_indices(s, kind, &x, inverses, out);
}

/// Lane `b` of column `j` is element `j` of block `b`.
#[inline(always)]
fn columns<S: Simd>(s: S, values: &[f32], to: &mut Columns) {
    let mut tile = [[0.0; LANES]; 16];
    for half in 0..2 {
        s.transpose(&values[16 * half..], 32, &mut tile);
        to[16 * half..16 * half + 16].copy_from_slice(&tile);
    }
}

/// The scale of each block: [`super::search`].
#[inline(always)]
fn search<S: Simd>(s: S, x: &Columns, w: &Columns, max: S::F) -> S::F {
    // What an element adds to the sums below its middle, and above it.
    let (mut middles, mut below, mut above): (Columns, [Columns; 2], [Columns; 2]);
    middles = [[0.0; LANES]; 32];
    below = [[[0.0; LANES]; 32]; 2];
    above = [[[0.0; LANES]; 32]; 2];
    let (inverse, half) = (s.div(s.splat(1.0), max), s.splat(0.5));
    let id = s.div(s.splat(1.0), s.div(s.neg(max), s.splat(LEVELS[0])));
    let (mut qx, mut q2) = (s.zero(), s.zero());
    for j in 0..32 {
        let (x, w) = (s.load(&x[j]), s.load(&w[j]));
        let y = s.mul(x, inverse);
        let place = s.mul(y, s.sub(s.splat(BEND), s.mul(s.splat(CURVE), s.abs(y))));
        // The first rounding has the other sign.
        let at = s.to_int(s.add(s.splat(8.0), place));
        let (low, high) = (s.lookup(&BELOW, at), s.lookup(&ABOVE, at));
        let q = s.select(s.lt(s.mul(id, x), s.mul(s.add(low, high), half)), low, high);
        let wq = s.mul(w, q);
        qx = s.add(qx, s.mul(wq, x));
        q2 = s.add(q2, s.mul(wq, q));
        let at = s.to_int(s.sub(s.splat(8.0), place));
        let (low, high) = (s.lookup(&BELOW, at), s.lookup(&ABOVE, at));
        s.store(s.mul(s.add(low, high), half), &mut middles[j]);
        let (wl, wh) = (s.mul(w, low), s.mul(w, high));
        s.store(s.mul(wl, x), &mut below[0][j]);
        s.store(s.mul(wl, low), &mut below[1][j]);
        s.store(s.mul(wh, x), &mut above[0][j]);
        s.store(s.mul(wh, high), &mut above[1][j]);
    }
    let mut d = s.select(s.lt(s.zero(), q2), s.div(qx, q2), s.zero());
    let mut best = s.mul(d, qx);
    for pass in 0..15 / PASS {
        let mut ids = [s.zero(); PASS];
        for (t, id) in ids.iter_mut().enumerate() {
            let step = (pass * PASS + t) as f32 - 7.0;
            *id = s.div(s.splat(step + LEVELS[0]), max);
        }
        let (mut qx, mut q2) = ([s.zero(); PASS], [s.zero(); PASS]);
        for j in 0..32 {
            let (x, middle) = (s.load(&x[j]), s.load(&middles[j]));
            let (low_qx, low_q2) = (s.load(&below[0][j]), s.load(&below[1][j]));
            let (high_qx, high_q2) = (s.load(&above[0][j]), s.load(&above[1][j]));
            for t in 0..PASS {
                let is_below = s.lt(s.mul(ids[t], x), middle);
                qx[t] = s.add(qx[t], s.select(is_below, low_qx, high_qx));
                q2[t] = s.add(q2[t], s.select(is_below, low_q2, high_q2));
            }
        }
        for t in 0..PASS {
            let better = s.lt(s.mul(best, q2[t]), s.mul(qx[t], qx[t]));
            let better = s.and_m(better, s.lt(s.zero(), q2[t]));
            d = s.select(better, s.div(qx[t], q2[t]), d);
            best = s.select(better, s.mul(d, qx[t]), best);
        }
    }
    d
}

/// The indices of the nearest levels, for products of any size.
#[inline(always)]
fn put_indices<S: Simd>(s: S, kind: Kind, x: &Columns, id: S::F, out: &mut [u8]) {
    let mut words = [[0i32; LANES]; 4];
    for (word, to) in words.iter_mut().enumerate() {
        let mut packed = s.splat_i(0);
        // The last element first, each shifting those before it up.
        for j in (4 * word..4 * word + 4).rev() {
            let (low, high) = (nearest(s, s.mul(id, s.load(&x[j]))), nearest(s, s.mul(id, s.load(&x[16 + j]))));
            packed = s.or_i(s.shl::<8>(packed), s.or_i(low, s.shl::<4>(high)));
        }
        s.store_i(packed, to);
    }
    let (head, stride, per) = match kind {
        Kind::Nl => (2, 18, 1),
        Kind::Xs => (8, 136, 8),
    };
    for b in 0..out.len() / stride * per {
        let at = b / per * stride + head + b % per * 16;
        for (out, word) in out[at..at + 16].chunks_exact_mut(4).zip(&words) {
            out.copy_from_slice(&word[b].to_le_bytes());
        }
    }
}

/// [`super::nearest`]. Between these bounds the place is close enough; beyond them all products have the same index.
#[inline(always)]
fn nearest<S: Simd>(s: S, x: S::F) -> S::I {
    // A product that is no number takes the upper bound, and is not below the middle.
    let c = s.max(s.min(x, s.splat(101.0)), s.splat(-127.0));
    let place = s.mul(c, s.sub(s.splat(BEND / 127.0), s.mul(s.splat(CURVE / (127.0 * 127.0)), s.abs(c))));
    let at = s.to_int(s.add(s.splat(8.0), place));
    let below = s.lt(x, s.lookup(&MIDDLES, at));
    s.select_i(below, at, s.add_i(at, s.splat_i(1)))
}
