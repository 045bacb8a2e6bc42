//! Sixteen blocks at a time, so that what happens once in a block happens in lanes.

use crate::quant::simd::{LANES, Simd};

/// A format of blocks of `B` values in `N` bytes.
///
/// Implementations are `#[inline(always)]`, as everything is that handles vectors.
pub(super) trait Format<const B: usize, const N: usize> {
    /// Quantizes sixteen blocks.
    fn encode<S: Simd>(s: S, x: &[[f32; B]; LANES], out: &mut [[u8; N]; LANES]);
}

/// Quantizes whole blocks; the last few are filled up to sixteen with zeros.
#[inline(always)]
pub(super) fn encode<S: Simd, T: Format<B, N>, const B: usize, const N: usize>(s: S, values: &[f32], out: &mut [u8]) {
    let (blocks, out) = (values.as_chunks::<B>().0, out.as_chunks_mut::<N>().0);
    let (mut some, mut some_out) = ([[0.0; B]; LANES], [[0; N]; LANES]);
    let ahead = blocks.get(2 * LANES..).unwrap_or_default().chunks(LANES).map(<[_]>::as_flattened);
    let ahead = ahead.chain(core::iter::repeat(&[][..]));
    for ((blocks, out), ahead) in blocks.chunks(LANES).zip(out.chunks_mut(LANES)).zip(ahead) {
        s.fetch(ahead);
        let few = blocks.len() < LANES;
        if few {
            some[..blocks.len()].copy_from_slice(blocks);
        }
        // One call for both cases: the body is large.
        let x: &[[f32; B]; LANES] = if few { &some } else { blocks.first_chunk().unwrap_or(&some) };
        T::encode(s, x, if few { &mut some_out } else { out.first_chunk_mut().unwrap_or(&mut some_out) });
        if few {
            out.copy_from_slice(&some_out[..out.len()]);
        }
    }
}

/// The largest magnitude of each block; NaN is skipped.
#[inline(always)]
pub(super) fn largest<S: Simd, const B: usize>(s: S, x: &[[f32; B]; LANES]) -> S::F {
    let mut rows = [s.zero(); LANES];
    for (row, x) in rows.iter_mut().zip(x) {
        for x in x.as_chunks().0 {
            *row = s.max(s.abs(s.load(x)), *row);
        }
    }
    s.greatest_lanes(&rows)
}

/// The least and the greatest value of each block, between `least` and `greatest`; NaN is skipped, and of two zeros it
/// is either.
#[inline(always)]
pub(super) fn extremes<S: Simd, const B: usize>(
    s: S,
    x: &[[f32; B]; LANES],
    least: f32,
    greatest: f32,
) -> (S::F, S::F) {
    let (mut low, mut high) = ([s.splat(least); LANES], [s.splat(greatest); LANES]);
    for ((low, high), x) in low.iter_mut().zip(&mut high).zip(x) {
        for x in x.as_chunks().0 {
            let x = s.load(x);
            (*low, *high) = (s.min(x, *low), s.max(x, *high));
        }
    }
    (s.least_lanes(&low), s.greatest_lanes(&high))
}

/// The nearest f16 of each lane, in two bytes.
#[inline(always)]
pub(super) fn halves<S: Simd>(s: S, v: S::F) -> [[u8; 2]; LANES] {
    // As `floats::to_f16`.
    let magnitude = s.bits(s.abs(v));
    let odd = s.and_i(s.shr::<13>(magnitude), s.splat_i(1));
    let normal = s.shr::<13>(s.add_i(s.add_i(magnitude, odd), s.splat_i(0xfff - (112 << 23))));
    let half = s.splat(0.5);
    let subnormal = s.sub_i(s.bits(s.add(s.abs(v), half)), s.bits(half));
    let small = s.select_i(s.gt_i(s.splat_i(0x3880_0000), magnitude), subnormal, normal);
    let rounded = s.select_i(s.gt_i(s.splat_i(0x4780_0000), magnitude), small, s.splat_i(0x7c00));
    let rounded = s.select_i(s.gt_i(magnitude, s.splat_i(0x7f80_0000)), s.splat_i(0x7e00), rounded);
    let sign = s.and_i(s.shr::<16>(s.bits(v)), s.splat_i(0x8000));
    let mut words = [0; LANES];
    s.store_i(s.or_i(rounded, sign), &mut words);
    let mut halves = [[0; 2]; LANES];
    for (half, word) in halves.iter_mut().zip(words) {
        *half = (word as u16).to_le_bytes();
    }
    halves
}

/// Where both `d` and `1 / d` are normal numbers.
#[inline(always)]
pub(super) fn ordinary<S: Simd>(s: S, d: S::F) -> S::M {
    let d = s.abs(d);
    s.and_m(s.le(s.splat(f32::from_bits(0x0280_0000)), d), s.lt(d, s.splat(f32::INFINITY)))
}

/// A vector's lanes.
#[inline(always)]
pub(super) fn lanes<S: Simd>(s: S, vector: S::F) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    s.store(vector, &mut lanes);
    lanes
}
