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
    for (blocks, out) in blocks.chunks(LANES).zip(out.chunks_mut(LANES)) {
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

/// The bits of the largest magnitude of each block; above those of infinity where there is a NaN.
#[inline(always)]
pub(super) fn largest<S: Simd, const B: usize>(s: S, x: &[[f32; B]; LANES]) -> S::I {
    let mut rows = [[0.0; LANES]; LANES];
    for (row, x) in rows.iter_mut().zip(x) {
        let mut most = s.splat_i(0);
        for x in x.as_chunks().0 {
            most = s.max_i(s.bits(s.abs(s.load(x))), most);
        }
        s.store(s.from_bits(most), row);
    }
    let mut columns = [[0.0; LANES]; LANES];
    s.transpose(rows.as_flattened(), LANES, &mut columns);
    let mut most = s.splat_i(0);
    for column in &columns {
        most = s.max_i(s.bits(s.load(column)), most);
    }
    most
}

/// The least and the greatest value of each block, between `least` and `greatest`, without NaN; of two zeros either.
#[inline(always)]
pub(super) fn extremes<S: Simd, const B: usize>(
    s: S,
    x: &[[f32; B]; LANES],
    least: f32,
    greatest: f32,
) -> (S::F, S::F) {
    let (mut low_rows, mut high_rows) = ([[0.0; LANES]; LANES], [[0.0; LANES]; LANES]);
    for ((low_row, high_row), x) in low_rows.iter_mut().zip(&mut high_rows).zip(x) {
        let (mut low, mut high) = (s.splat(least), s.splat(greatest));
        for x in x.as_chunks().0 {
            let x = s.load(x);
            (low, high) = (s.min(x, low), s.max(x, high));
        }
        s.store(low, low_row);
        s.store(high, high_row);
    }
    let (mut low, mut high) = (s.splat(least), s.splat(greatest));
    let mut columns = [[0.0; LANES]; LANES];
    s.transpose(low_rows.as_flattened(), LANES, &mut columns);
    for column in &columns {
        low = s.min(s.load(column), low);
    }
    s.transpose(high_rows.as_flattened(), LANES, &mut columns);
    for column in &columns {
        high = s.max(s.load(column), high);
    }
    (low, high)
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
