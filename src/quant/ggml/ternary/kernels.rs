//! The loops, for the vectorizer.

use super::super::floats::{from_f16, to_f16};
use super::Kind;
use crate::quant::lanes::Kernel;

/// Quantizes blocks.
pub(super) struct Encode<'a> {
    pub kind: Kind,
    pub values: &'a [f32],
    pub out: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        match self.kind {
            Kind::TQ1_0 => each(self.values, self.out, thirds),
            Kind::TQ2_0 => each(self.values, self.out, quarters),
            Kind::Q2_0 => each(self.values, self.out, consecutive),
            Kind::Q1_0 => signs(self.values, self.out),
        }
    }
}

#[inline(always)]
fn each<const B: usize, const N: usize>(values: &[f32], out: &mut [u8], encode: impl Fn(&[f32; B], &mut [u8; N])) {
    for (x, out) in values.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        encode(x, out);
    }
}

/// The scale's bits, and a digit for every value.
///
/// A magnitude times the inverse of the largest is about 1 at most, so rounding is two comparisons. Where the inverse is
/// infinite, C's conversion makes every digit 1; so do the comparisons, with 0 for it. NaN and infinities do not reach
/// them by a product with anything but zero or one another, and compare as C's conversion has them: not at all.
#[inline(always)]
fn digits<const B: usize>(x: &[f32; B]) -> ([u8; 2], [u8; B]) {
    let mut amax = 0;
    for v in x {
        amax = (v.to_bits() & 0x7fff_ffff).max(amax);
    }
    let amax = f32::from_bits(amax);
    let id = 1.0 / amax;
    let id = if id < f32::INFINITY { id } else { 0.0 };
    let mut digits = [0; B];
    for (digit, v) in digits.iter_mut().zip(x) {
        let v = v * id;
        *digit = 1 + u8::from(v >= 0.5) - u8::from(v <= -0.5);
    }
    (to_f16(amax).to_le_bytes(), digits)
}

#[inline(always)]
fn thirds(x: &[f32; 256], out: &mut [u8; 54]) {
    let (d, t) = digits(x);
    number::<32, 5>(&t[..160], &mut out[..32]);
    number::<16, 5>(&t[160..240], &mut out[32..48]);
    number::<4, 4>(&t[240..], &mut out[48..52]);
    out[52..].copy_from_slice(&d);
}

/// Bytes of digits `STRIDE` apart.
#[inline(always)]
#[allow(clippy::manual_div_ceil, reason = "a sum and a division are vectorized, a remainder is not")]
fn number<const STRIDE: usize, const DIGITS: usize>(t: &[u8], out: &mut [u8]) {
    for m in 0..STRIDE {
        let mut q = 0u8;
        for n in 0..DIGITS {
            q = q * 3 + t[m + n * STRIDE];
        }
        let q = u16::from(if DIGITS == 4 { q * 3 } else { q });
        out[m] = ((q * 256 + 242) / 243) as u8;
    }
}

#[inline(always)]
fn quarters(x: &[f32; 256], out: &mut [u8; 66]) {
    let (d, t) = digits(x);
    for (half, out) in out[..64].chunks_exact_mut(32).enumerate() {
        let t = &t[128 * half..128 * half + 128];
        for m in 0..32 {
            out[m] = t[m] | t[m + 32] << 2 | t[m + 64] << 4 | t[m + 96] << 6;
        }
    }
    out[64..].copy_from_slice(&d);
}

#[inline(always)]
fn consecutive(x: &[f32; 64], out: &mut [u8; 18]) {
    let (d, t) = digits(x);
    out[..2].copy_from_slice(&d);
    for (byte, t) in out[2..].iter_mut().zip(t.as_chunks::<4>().0) {
        let t = u32::from_le_bytes(*t);
        *byte = (t | t >> 6 | t >> 12 | t >> 18) as u8;
    }
}

/// Blocks whose sums run side by side: each is a chain that may not be reordered.
const ABREAST: usize = 8;

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "a column of the blocks")]
fn signs(values: &[f32], out: &mut [u8]) {
    let (blocks, out) = (values.as_chunks::<128>().0, out.as_chunks_mut::<18>().0);
    let (groups, rest) = blocks.as_chunks::<ABREAST>();
    let (out_groups, out_rest) = out.as_chunks_mut::<ABREAST>();
    for (blocks, out) in groups.iter().zip(out_groups) {
        let mut sums = [0.0f32; ABREAST];
        for i in 0..128 {
            for b in 0..ABREAST {
                sums[b] += blocks[b][i].abs();
            }
        }
        for b in 0..ABREAST {
            put_signs(sums[b], &blocks[b], &mut out[b]);
        }
    }
    for (block, out) in rest.iter().zip(out_rest) {
        let mut sum = 0.0;
        for v in block {
            sum += v.abs();
        }
        put_signs(sum, block, out);
    }
}

#[inline(always)]
fn put_signs(sum: f32, x: &[f32; 128], out: &mut [u8; 18]) {
    out[..2].copy_from_slice(&to_f16(sum / 128.0).to_le_bytes());
    let mut bits = [0u8; 128];
    for (bit, v) in bits.iter_mut().zip(x) {
        *bit = u8::from(*v >= 0.0);
    }
    for (byte, bits) in out[2..].iter_mut().zip(bits.as_chunks::<8>().0) {
        // Eight bits gathered by a product whose terms do not meet.
        *byte = (u64::from_le_bytes(*bits).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
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
    fn run(self) {
        match self.kind {
            Kind::TQ1_0 => restore::<256, 54>(self.bytes, self.out, |block, codes| {
                split::<32, 5>(&block[..32], &mut codes[..160]);
                split::<16, 5>(&block[32..48], &mut codes[160..240]);
                split::<4, 4>(&block[48..52], &mut codes[240..]);
                [block[52], block[53]]
            }),
            Kind::TQ2_0 => restore::<256, 66>(self.bytes, self.out, |block, codes| {
                for (codes, bytes) in codes.chunks_exact_mut(128).zip(block[..64].chunks_exact(32)) {
                    for m in 0..32 {
                        codes[m] = bytes[m] & 3;
                        codes[m + 32] = bytes[m] >> 2 & 3;
                        codes[m + 64] = bytes[m] >> 4 & 3;
                        codes[m + 96] = bytes[m] >> 6;
                    }
                }
                [block[64], block[65]]
            }),
            Kind::Q2_0 => restore::<64, 18>(self.bytes, self.out, |block, codes| {
                for (codes, byte) in codes.as_chunks_mut::<4>().0.iter_mut().zip(&block[2..]) {
                    let q = u32::from(*byte);
                    *codes = ((q | q << 6 | q << 12 | q << 18) & 0x0303_0303).to_le_bytes();
                }
                [block[0], block[1]]
            }),
            // A sign is a digit that is never 1.
            Kind::Q1_0 => restore::<128, 18>(self.bytes, self.out, |block, codes| {
                for (codes, byte) in codes.as_chunks_mut::<8>().0.iter_mut().zip(&block[2..]) {
                    for (i, code) in codes.iter_mut().enumerate() {
                        *code = byte >> i << 1 & 2;
                    }
                }
                [block[0], block[1]]
            }),
        }
    }
}

/// Blocks of N bytes that hold B digits. `unpack` writes the digits and gives the scale's bytes.
#[inline(always)]
fn restore<const B: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    unpack: impl Fn(&[u8; N], &mut [u8; B]) -> [u8; 2],
) {
    for (block, out) in bytes.as_chunks::<N>().0.iter().zip(out.as_chunks_mut::<B>().0) {
        let mut codes = [0; B];
        let d = from_f16(u16::from_le_bytes(unpack(block, &mut codes)));
        for (v, q) in out.iter_mut().zip(codes) {
            *v = f32::from(q as i8 - 1) * d;
        }
    }
}

/// The digits of bytes, `STRIDE` apart.
#[inline(always)]
fn split<const STRIDE: usize, const DIGITS: usize>(bytes: &[u8], codes: &mut [u8]) {
    let mut power = 1u8;
    for n in 0..DIGITS {
        for m in 0..STRIDE {
            codes[n * STRIDE + m] = ((u16::from(bytes[m].wrapping_mul(power)) * 3) >> 8) as u8;
        }
        power = power.wrapping_mul(3);
    }
}
