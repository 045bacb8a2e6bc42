//! Blocks without an importance matrix, and decoding, in lanes.
//!
//! The extremes and scales of sixteen blocks are found side by side; then each block's values are rounded, sixteen at a
//! time. A block whose scale is not an ordinary number is `scalar`'s.

use super::super::abreast::{self, Format, extremes, halves, lanes, largest, ordinary};
use super::super::floats::from_f16;
use super::{BLOCK, Kind, scalar};
use crate::quant::simd::{Kernel, LANES, Simd};

/// Quantizes blocks.
pub(super) struct Encode<'a> {
    pub kind: Kind,
    pub values: &'a [f32],
    pub out: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { kind, values, out } = self;
        match kind {
            Kind::Q4_0 => abreast::encode::<S, Symmetric<8>, 32, 18>(s, values, out),
            Kind::Q5_0 => abreast::encode::<S, Symmetric<16>, 32, 22>(s, values, out),
            Kind::Q4_1 => abreast::encode::<S, Offset<15>, 32, 20>(s, values, out),
            Kind::Q5_1 => abreast::encode::<S, Offset<31>, 32, 24>(s, values, out),
            Kind::Q8_0 => abreast::encode::<S, Bytes, 32, 34>(s, values, out),
        }
    }
}

/// Codes -HALF to HALF - 1, the value of largest magnitude being -HALF.
struct Symmetric<const HALF: i32>;

impl<const HALF: i32, const N: usize> Format<BLOCK, N> for Symmetric<HALF> {
    #[inline(always)]
    fn encode<S: Simd>(s: S, x: &[[f32; BLOCK]; LANES], out: &mut [[u8; N]; LANES]) {
        let (low, high) = extremes(s, x, 0.0, 0.0);
        let depth = s.neg(low);
        let mut max = lanes(s, s.select(s.lt(high, depth), low, high));
        // As far below zero as above it: the first counts.
        let tied = s.mask_bits(s.eq(high, depth));
        for (b, (max, x)) in max.iter_mut().zip(x).enumerate() {
            if tied >> b & 1 == 1 {
                *max = x.iter().copied().find(|v| v.abs() == *max).unwrap_or(0.0);
            }
        }
        let d = s.div(s.load(&max), s.splat(-HALF as f32));
        let fine = s.mask_bits(ordinary(s, d));
        let id = lanes(s, s.div(s.splat(1.0), d));
        let d = halves(s, d);
        let middle = s.splat(HALF as f32 + 0.5);
        for (b, (x, out)) in x.iter().zip(out).enumerate() {
            if fine >> b & 1 == 0 {
                scalar::encode(if HALF == 8 { Kind::Q4_0 } else { Kind::Q5_0 }, x, out);
                continue;
            }
            let id = s.splat(id[b]);
            let [low, high] = both(s, x);
            let low = s.to_int(s.add(s.mul(low, id), middle));
            let high = s.to_int(s.add(s.mul(high, id), middle));
            out[..2].copy_from_slice(&d[b]);
            put(s, &mut out[2..], HALF == 16, low, high);
        }
    }
}

/// Codes 0 to TOP from the least value up.
struct Offset<const TOP: i32>;

impl<const TOP: i32, const N: usize> Format<BLOCK, N> for Offset<TOP> {
    #[inline(always)]
    fn encode<S: Simd>(s: S, x: &[[f32; BLOCK]; LANES], out: &mut [[u8; N]; LANES]) {
        let (low, high) = extremes(s, x, f32::MAX, -f32::MAX);
        let d = s.div(s.sub(high, low), s.splat(TOP as f32));
        // The sign of a minimum of zero is that of the first zero.
        let fine = s.mask_bits(s.and_m(ordinary(s, d), s.not_m(s.eq(low, s.zero()))));
        let (min, id) = (lanes(s, low), lanes(s, s.div(s.splat(1.0), d)));
        let m_bytes = halves(s, low);
        let d = halves(s, d);
        let half = s.splat(0.5);
        for (b, (x, out)) in x.iter().zip(out).enumerate() {
            if fine >> b & 1 == 0 {
                scalar::encode(if TOP == 15 { Kind::Q4_1 } else { Kind::Q5_1 }, x, out);
                continue;
            }
            let (m, id) = (s.splat(min[b]), s.splat(id[b]));
            let [low, high] = both(s, x);
            let low = s.to_int(s.add(s.mul(s.sub(low, m), id), half));
            let high = s.to_int(s.add(s.mul(s.sub(high, m), id), half));
            // Four bits are capped; five would be cut, and are below 32.
            out[..2].copy_from_slice(&d[b]);
            out[2..4].copy_from_slice(&m_bytes[b]);
            put(s, &mut out[4..], TOP == 31, low, high);
        }
    }
}

#[inline(always)]
fn both<S: Simd>(s: S, x: &[f32; BLOCK]) -> [S::F; 2] {
    let x = x.as_chunks().0;
    [s.load(&x[0]), s.load(&x[1])]
}

/// Fifth bits and nibbles.
#[inline(always)]
fn put<S: Simd>(s: S, out: &mut [u8], five: bool, low: S::I, high: S::I) {
    if five {
        let Some((bits, nibbles)) = out.split_first_chunk_mut::<4>() else { return };
        let Some(nibbles) = nibbles.first_chunk_mut() else { return };
        *bits = s.store_nibbles::<31>(low, high, nibbles).to_le_bytes();
    } else if let Some(nibbles) = out.first_chunk_mut() {
        s.store_nibbles::<15>(low, high, nibbles);
    }
}

/// Codes -127 to 127.
struct Bytes;

impl Format<BLOCK, 34> for Bytes {
    #[inline(always)]
    fn encode<S: Simd>(s: S, x: &[[f32; BLOCK]; LANES], out: &mut [[u8; 34]; LANES]) {
        let d = s.div(largest(s, x), s.splat(127.0));
        let fine = s.mask_bits(ordinary(s, d));
        let id = lanes(s, s.div(s.splat(1.0), d));
        let d = halves(s, d);
        // Half away from zero: from the middle between two numbers the greatest float below a half reaches the farther,
        // and from nothing nearer.
        let half = s.bits(s.splat(0.5f32.next_down()));
        let sign = s.bits(s.splat(-0.0));
        for (b, (x, out)) in x.iter().zip(out).enumerate() {
            if fine >> b & 1 == 0 {
                scalar::encode(Kind::Q8_0, x, out);
                continue;
            }
            out[..2].copy_from_slice(&d[b]);
            let id = s.splat(id[b]);
            for (x, out) in both(s, x).into_iter().zip(out[2..].as_chunks_mut().0) {
                let v = s.mul(x, id);
                let half = s.from_bits(s.or_i(half, s.and_i(s.bits(v), sign)));
                s.store_bytes(s.to_int(s.add(v, half)), out);
            }
        }
    }
}

/// Restores values.
pub(super) struct Decode<'a> {
    pub kind: Kind,
    pub bytes: &'a [u8],
    pub out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let out = self.out.as_chunks_mut::<BLOCK>().0;
        match self.kind {
            Kind::Q4_0 => restore::<S, 18, 2>(s, 8, self.bytes, out),
            Kind::Q4_1 => restore::<S, 20, 4>(s, 0, self.bytes, out),
            Kind::Q5_0 => restore::<S, 22, 2>(s, 16, self.bytes, out),
            Kind::Q5_1 => restore::<S, 24, 4>(s, 0, self.bytes, out),
            Kind::Q8_0 => restore_bytes(s, self.bytes, out),
        }
    }
}

/// Blocks of N bytes of which the first `SCALES` are scales, and the last 16 nibbles; fifth bits lie between. The code
/// `zero` stands for 0.
#[inline(always)]
fn restore<S: Simd, const N: usize, const SCALES: usize>(s: S, zero: i32, bytes: &[u8], out: &mut [[f32; BLOCK]]) {
    let zero = s.splat_i(zero);
    let bit_of_lane = s.load_i(&std::array::from_fn(|i| 1 << i));
    for (block, out) in bytes.as_chunks::<N>().0.iter().zip(out) {
        let d = s.splat(from_f16(u16::from_le_bytes([block[0], block[1]])));
        let m = s.splat(if SCALES == 4 { from_f16(u16::from_le_bytes([block[2], block[3]])) } else { 0.0 });
        let Some(nibbles) = block.last_chunk() else { continue };
        let nibbles = s.load_bytes(nibbles);
        let codes = [s.and_i(nibbles, s.splat_i(15)), s.shr::<4>(nibbles)];
        for (h, (mut code, out)) in codes.into_iter().zip(out.as_chunks_mut().0).enumerate() {
            if N == SCALES + 20 {
                let fifth = &block[SCALES + 2 * h..];
                let fifth = s.splat_i(i32::from(u16::from_le_bytes([fifth[0], fifth[1]])));
                let set = s.eq_i(s.and_i(fifth, bit_of_lane), bit_of_lane);
                code = s.or_i(code, s.select_i(set, s.splat_i(16), s.splat_i(0)));
            }
            let v = s.mul(s.to_float(s.sub_i(code, zero)), d);
            s.store(if SCALES == 4 { s.add(v, m) } else { v }, out);
        }
    }
}

#[inline(always)]
fn restore_bytes<S: Simd>(s: S, bytes: &[u8], out: &mut [[f32; BLOCK]]) {
    for (block, out) in bytes.as_chunks::<34>().0.iter().zip(out) {
        let d = s.splat(from_f16(u16::from_le_bytes([block[0], block[1]])));
        for (codes, out) in block[2..].as_chunks().0.iter().zip(out.as_chunks_mut().0) {
            let codes = s.sar::<24>(s.shl::<24>(s.load_bytes(codes)));
            s.store(s.mul(s.to_float(codes), d), out);
        }
    }
}
