//! Small float codes with a scale per block, and a zero point per block when unsigned: [`affine`](super::affine) with
//! floats for codes.
//!
//! A code is `[sign][E exponent bits][M mantissa bits]`, the sign only where there is one. With exponent e, mantissa m
//! and the bias `b = 2^(E-1) - 1` it is worth `m / 2^M * 2^(1-b)` where e is 0, else `(1 + m / 2^M) * 2^(e-b)`. The
//! formats differ in their greatest number, `max`:
//!
//! | format | `max` | above it |
//! |---|---|---|
//! | SDNQ's `float{n}_e{E}m{M}fn` and, unsigned, `…fnu` | `(2 - 2^-M) * 2^(2^E-1-b)` | nothing: all are numbers |
//! | OCP `float8_e4m3fn` | 448 | S.1111.111 is NaN |
//! | OCP `float8_e5m2` | 57344 | where e is 31: infinity and NaNs |
//!
//! One exponent bit makes a uniform grid; no mantissa bits make zero and powers of two. The formulas are SDNQ 0.2.8's
//! (`quant_utils.py`: `get_scale_symmetric`, `get_scale_asymmetric`, `quantize_weight`; `packed_float.py`:
//! `unpack_float`). For F32 sources, scales, zero points and the codes of the OCP types equal its own bit for bit. So do
//! the values of codes, but for the sign of a zero, which SDNQ drops.
//!
//! | | signed | unsigned |
//! |---|---|---|
//! | zero point | none | `min(W)` |
//! | scale | `max(abs W) / max` | `(max(W) - min(W)) / max` |
//! | code | nearest to `clamp(W / scale, -max, max)` | nearest to `clamp((W - zero_point) / scale, 0, max)` |
//! | value | `q * scale` | `zero_point + q * scale`, rounded twice |
//!
//! Divisions are true divisions in f32, and the nearest code is the nearest to their result; of two equally near it is
//! the even one. `0 / 0`, where a block is constant, gives code 0. A negative value that rounds to zero keeps its sign
//! in the OCP types, as a cast in torch does, and becomes code 0 in the others.
//!
//! SDNQ's encoder of its own types is not that near: it rounds up from 9/16 of a step, and with one exponent bit it
//! makes 0 of values just below 2. For a normal matrix of 256x1024 by row, the mean squared error of its codes is
//! 1.037 to 1.103 times that of the nearest for formats of two exponent bits or more, 1.047 times in the median, and
//! 1.2 to 350000 times with one (`tests/interop/measure_floats.py`).
//!
//! # Small scales
//! Where values are so small that the scale is subnormal, it is coarse: values are clamped, or do not reach `max`.
//! Where it underflows to zero, the quotients are infinite and the codes are the ends of the range, as in SDNQ, and all
//! decode to zero, or to the zero point.
//!
//! # What is not finite
//! NaN and infinities are for callers to refuse, as with [`affine`](super::affine); none is ever encoded as such. A
//! code that stands for one decodes to it.

mod kernels;
#[cfg(test)]
mod tests;

use super::affine::Range;
use super::affine::kernels::Scales;
use super::lanes::Level;
use super::{Blocks, Word};
use kernels::{Decode, Encode, EncodeBy};

/// A float format of 1 to 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FloatCode {
    exponent_bits: u8,
    mantissa_bits: u8,
    signed: bool,
    /// Magnitudes above the greatest number, which are infinite or not numbers: the OCP types have some.
    reserved: u8,
}

impl FloatCode {
    /// OCP E4M3, `float8_e4m3fn`: up to 448, no infinity, one NaN of either sign.
    pub const E4M3FN: Self = Self { exponent_bits: 4, mantissa_bits: 3, signed: true, reserved: 1 };
    /// OCP E5M2, `float8_e5m2`: up to 57344, with the infinities and NaNs of IEEE 754.
    pub const E5M2: Self = Self { exponent_bits: 5, mantissa_bits: 2, signed: true, reserved: 4 };

    /// A format in which every code is a number; `None` unless it has 1 to 5 exponent bits and at most 16 bits in all.
    pub const fn new(exponent_bits: u8, mantissa_bits: u8, signed: bool) -> Option<Self> {
        let most = 16 - signed as u8;
        if exponent_bits == 0 || exponent_bits > 5 || mantissa_bits > most - exponent_bits {
            return None;
        }
        Some(Self { exponent_bits, mantissa_bits, signed, reserved: 0 })
    }

    /// Bits of a code.
    pub const fn bits(self) -> u8 {
        self.signed as u8 + self.exponent_bits + self.mantissa_bits
    }

    /// Bits of a code's exponent.
    pub const fn exponent_bits(self) -> u8 {
        self.exponent_bits
    }

    /// Bits of a code's mantissa.
    pub const fn mantissa_bits(self) -> u8 {
        self.mantissa_bits
    }

    /// Whether codes have a sign and need no zero point.
    pub const fn is_signed(self) -> bool {
        self.signed
    }

    /// The greatest value.
    pub fn max(self) -> f32 {
        self.value(self.last())
    }

    /// The value of `code`, of which the bits above [`bits`](Self::bits) are ignored: the formula as it stands.
    pub fn value(self, code: u32) -> f32 {
        let Self { exponent_bits, mantissa_bits, .. } = self;
        let m = code & ((1 << mantissa_bits) - 1);
        let e = (code >> mantissa_bits) & ((1 << exponent_bits) - 1);
        let fraction = m as f32 / (1 << mantissa_bits) as f32;
        let magnitude = if (e << mantissa_bits) + m > self.last() {
            if self == Self::E5M2 && m == 0 { f32::INFINITY } else { f32::NAN }
        } else if e == 0 {
            fraction * power(1 - self.bias())
        } else {
            (1.0 + fraction) * power(e as i32 - self.bias())
        };
        let negative = self.signed && (code >> (exponent_bits + mantissa_bits)) & 1 == 1;
        if negative { -magnitude } else { magnitude }
    }

    /// Whether it is one of the OCP types, which have codes that are no numbers, and a negative zero.
    const fn is_ocp(self) -> bool {
        self.reserved > 0
    }

    /// What is subtracted from an exponent.
    const fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1
    }

    /// The code of the greatest value.
    const fn last(self) -> u32 {
        (1 << (self.exponent_bits + self.mantissa_bits)) - 1 - self.reserved as u32
    }

    /// The length `zero_point` has for `scales` scales.
    const fn zero_points(self, scales: usize) -> usize {
        if self.signed { 0 } else { scales }
    }
}

impl Range {
    /// The scale and the zero point (0 when signed), the same bits as [`scales`] gives for all the values at once.
    pub fn float_scale_of(self, code: FloatCode) -> (f32, f32) {
        self.scale_to(code.signed, code.max())
    }
}

/// `2^exponent`, of a normal f32.
const fn power(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << 23)
}

/// The scale of each block, and its zero point when `code` is unsigned.
///
/// `values` is `[outer, groups, len, inner]`; `scale` is `[outer, groups, inner]`, and so is `zero_point`, which is
/// empty when `code` is signed. Both in the unit of the values.
///
/// # Panics
/// If a length does not fit `blocks`.
pub fn scales(code: FloatCode, blocks: Blocks, values: &[f32], scale: &mut [f32], zero_point: &mut [f32]) {
    scales_at(Level::best(), code, blocks, values, scale, zero_point);
}

fn scales_at(level: Level, code: FloatCode, blocks: Blocks, values: &[f32], scale: &mut [f32], zero_point: &mut [f32]) {
    check_lengths(code, blocks, values.len(), scale.len(), zero_point.len());
    let top = code.max();
    if code.signed {
        level.run(Scales::<true> { top, blocks, values, scale, zero_point });
    } else {
        level.run(Scales::<false> { top, blocks, values, scale, zero_point });
    }
}

/// The code nearest to each value, for the scales and zero points given.
///
/// Shapes as for [`scales`]; `codes` has the shape of `values`. A value beyond the range takes the nearest end of it.
///
/// # Panics
/// If a length does not fit `blocks`, or a code does not fit `W`.
pub fn encode<W: Word>(
    code: FloatCode,
    blocks: Blocks,
    values: &[f32],
    scale: &[f32],
    zero_point: &[f32],
    codes: &mut [W],
) {
    encode_at(Level::best(), code, blocks, values, scale, zero_point, codes);
}

fn encode_at<W: Word>(
    level: Level,
    code: FloatCode,
    blocks: Blocks,
    values: &[f32],
    scale: &[f32],
    zero_point: &[f32],
    codes: &mut [W],
) {
    check_lengths(code, blocks, values.len(), scale.len(), zero_point.len());
    check_codes(code, values.len(), codes);
    if code.signed {
        level.run(Encode::<W, true> { code, blocks, values, scale, zero_point, codes });
        encode_without_scale(code, blocks, values, scale, codes);
    } else {
        level.run(Encode::<W, false> { code, blocks, values, scale, zero_point, codes });
    }
}

/// The signed blocks whose scale is zero, over again: their quotients are infinite or 0/0, and machines differ in the
/// sign of that NaN.
fn encode_without_scale<W: Word>(code: FloatCode, blocks: Blocks, values: &[f32], scale: &[f32], codes: &mut [W]) {
    let Blocks { len, inner, .. } = blocks;
    let (last, minus) = (code.last(), 1 << (code.bits() - 1));
    for (block, _) in scale.iter().enumerate().filter(|(_, scale)| **scale == 0.0) {
        let first = block / inner * len * inner + block % inner;
        for at in (first..).step_by(inner).take(len) {
            codes[at] = W::of(match values[at] {
                value if value > 0.0 => last,
                value if value < 0.0 => last | minus,
                _ => 0,
            });
        }
    }
}

/// The byte code of each value multiplied by `inverse`: as [`encode`] would have it, for who multiplies by reciprocals.
///
/// # Panics
/// If `code` has no sign or more than 8 bits, or the lengths differ.
pub fn encode_by(code: FloatCode, inverse: f32, values: &[f32], codes: &mut [u8]) {
    encode_by_at(Level::best(), code, inverse, values, codes);
}

fn encode_by_at(level: Level, code: FloatCode, inverse: f32, values: &[f32], codes: &mut [u8]) {
    assert!(code.signed && code.bits() <= 8, "codes of {} bits", code.bits());
    assert_eq!(codes.len(), values.len(), "one code per value");
    level.run(EncodeBy { code, inverse, values, codes });
}

/// The value of each code: what a reader of the file computes with.
///
/// Shapes as for [`encode`]. Bits of a word above those of a code are ignored.
///
/// # Panics
/// If a length does not fit `blocks`, or a code does not fit `W`.
pub fn decode<W: Word>(
    code: FloatCode,
    blocks: Blocks,
    codes: &[W],
    scale: &[f32],
    zero_point: &[f32],
    values: &mut [f32],
) {
    decode_at(Level::best(), code, blocks, codes, scale, zero_point, values);
}

fn decode_at<W: Word>(
    level: Level,
    code: FloatCode,
    blocks: Blocks,
    codes: &[W],
    scale: &[f32],
    zero_point: &[f32],
    values: &mut [f32],
) {
    check_lengths(code, blocks, values.len(), scale.len(), zero_point.len());
    check_codes(code, values.len(), codes);
    if code.signed {
        level.run(Decode::<W, true> { code, blocks, codes, scale, zero_point, values });
    } else {
        level.run(Decode::<W, false> { code, blocks, codes, scale, zero_point, values });
    }
}

fn check_lengths(code: FloatCode, blocks: Blocks, values: usize, scale: usize, zero_point: usize) {
    assert_eq!(values, blocks.values(), "values of {blocks:?}");
    assert_eq!(scale, blocks.scales(), "scales of {blocks:?}");
    assert_eq!(zero_point, code.zero_points(blocks.scales()), "zero points of {blocks:?}");
}

fn check_codes<W: Word>(code: FloatCode, values: usize, codes: &[W]) {
    assert_eq!(codes.len(), values, "one code per value");
    assert!(code.bits() <= W::BITS, "{} bits in a word of {}", code.bits(), W::BITS);
}
