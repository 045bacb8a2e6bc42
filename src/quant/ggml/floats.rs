//! F16 and BF16 as GGML stores them, and the f16 scales of its blocks.
//!
//! | | nearest | too large | subnormals | NaN |
//! |---|---|---|---|---|
//! | F16 | ties to even | infinity | kept | sign and 0x7E00: the payload is dropped |
//! | BF16 | ties to even | infinity | kept | the upper half, made quiet |
//!
//! The formulas are those of ggml's reference conversions (`ggml-impl.h`), which its quantizers use on every machine.

use crate::quant::lanes::{Kernel, Level};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an f32.
    Bf16,
}

/// Rounds `values` into `out`, two bytes each.
///
/// Rows and the importance matrix mean nothing to a float; they are there because every module of formats has them.
pub fn encode(kind: Kind, _row_len: usize, values: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    encode_at(Level::best(), kind, values, out);
}

/// Widens `bytes`, two to a value, exactly.
pub fn decode(kind: Kind, bytes: &[u8], out: &mut [f32]) {
    decode_at(Level::best(), kind, bytes, out);
}

fn encode_at(level: Level, kind: Kind, values: &[f32], out: &mut [u8]) {
    assert_eq!(out.len(), 2 * values.len(), "two bytes to a value");
    level.run(Encode { kind, values, out });
}

fn decode_at(level: Level, kind: Kind, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), 2 * out.len(), "two bytes to a value");
    level.run(Decode { kind, bytes, out });
}

/// The nearest f16.
#[inline(always)]
pub(crate) fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // The exponent moves from bias 127 to 15; half of what is cut off, less one if the last bit kept is 0, carries.
    let normal = magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
    // Beside 0.5, floats lie as far apart as subnormal f16: the addition rounds.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let large = if magnitude > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    let small = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let rounded = if magnitude < 0x4780_0000 { small } else { large };
    (bits >> 16 & 0x8000 | rounded) as u16
}

/// The value of an f16, exactly; a NaN keeps its payload.
#[inline(always)]
pub(crate) fn from_f16(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    // Read as an f32 the exponent is 112 too small, or 224 where all its bits are set.
    let normal = (magnitude << 13) + if magnitude < 0x7c00 { 112 << 23 } else { 224 << 23 };
    let subnormal = (f32::from_bits(magnitude | 0.5f32.to_bits()) - 0.5).to_bits();
    f32::from_bits(sign | if magnitude < 0x400 { subnormal } else { normal })
}

/// The nearest bf16.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded }) as u16
}

#[inline(always)]
fn from_bf16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

struct Encode<'a> {
    kind: Kind,
    values: &'a [f32],
    out: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let out = self.out.as_chunks_mut::<2>().0;
        match self.kind {
            Kind::F16 => each(self.values, out, |v| to_f16(*v).to_le_bytes()),
            Kind::Bf16 => each(self.values, out, |v| to_bf16(*v).to_le_bytes()),
        }
    }
}

struct Decode<'a> {
    kind: Kind,
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let bytes = self.bytes.as_chunks::<2>().0;
        match self.kind {
            Kind::F16 => each(bytes, self.out, |b| from_f16(u16::from_le_bytes(*b))),
            Kind::Bf16 => each(bytes, self.out, |b| from_bf16(u16::from_le_bytes(*b))),
        }
    }
}

#[inline(always)]
fn each<A, B>(from: &[A], to: &mut [B], f: impl Fn(&A) -> B) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f(from);
    }
}

#[cfg(test)]
mod tests;
