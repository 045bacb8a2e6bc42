//! Integer codes with an affine meaning: `value = zero_point + q · scale`, one scale (and zero point) per block.
//!
//! Signed codes are symmetric about zero and have no zero point; unsigned codes count upward from the smallest value of
//! their block, which is the zero point: a float offset, not a code. The formulas are those of SDNQ 0.2.8
//! (`quant_utils.py`: `get_scale_symmetric`, `get_scale_asymmetric`, `quantize_weight`), and codes, scales and zero
//! points equal its own bit for bit for F32 sources:
//!
//! | | signed | unsigned |
//! |---|---|---|
//! | zero point | none | `min(W)` |
//! | scale | `max(abs W) / max` | `(max(W) - min(W)) / max` |
//! | code | `clamp(round(W / scale), min, max)` | `clamp(round((W - zero_point) / scale), 0, max)` |
//! | value | `q * scale` | `zero_point + q * scale`, rounded twice |
//!
//! Divisions are true divisions, `round` is half to even, all in f32. `0 / 0`, where a block is constant, gives q = 0
//! (SDNQ casts the NaN, and its scale of 0 makes the code mean nothing).
//!
//! There is one exception to equal bits: SDNQ takes `2^bits` for the `max` of `uint9` to `uint15`, and that top code
//! becomes 0 when it is packed. Here `max` is `2^bits - 1` for every width. Nothing that reads a file knows `max`, so
//! SDNQ reads such codes as they are meant.
//!
//! # Codes in memory
//! A code lies in a [`Word`], as `q - min`, counted from 0, as [`bitpack`](super::bitpack) takes it: 0 of `int4` is 8.
//! Where signed codes of 8 or 16 bits are stored as two's complement, [`encode_stored`] and [`decode_stored`] take and
//! give that form.
//!
//! # What is not finite
//! NaN and infinities have no code. Callers refuse them first, with [`first_non_finite`]; what these functions make of
//! them is defined (some code, a scale that is not finite) but useless.

pub(super) mod kernels;
#[cfg(test)]
mod tests;

use super::lanes::Level;
use super::{Blocks, Word};
use kernels::{Decode, Encode, Extent, Scales};

/// An integer code range of 1 to 16 bits, symmetric or counted up from a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IntCode {
    bits: u8,
    signed: bool,
}

impl IntCode {
    /// `bits` is 1 to 16 for unsigned codes, 2 to 16 for signed ones (one signed bit has no positive code); else `None`.
    pub const fn new(bits: u8, signed: bool) -> Option<Self> {
        let least = if signed { 2 } else { 1 };
        if bits < least || bits > 16 { None } else { Some(Self { bits, signed }) }
    }

    /// Bits of a code.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Whether codes are symmetric about zero and need no zero point.
    pub const fn is_signed(self) -> bool {
        self.signed
    }

    /// The smallest code: `-2^(bits-1)`, or 0 when unsigned.
    pub const fn min(self) -> i32 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    /// The largest code: `2^(bits-1) - 1`, or `2^bits - 1` when unsigned.
    pub const fn max(self) -> i32 {
        if self.signed { (1 << (self.bits - 1)) - 1 } else { (1 << self.bits) - 1 }
    }

    /// The length `zero_point` has for `scales` scales.
    const fn zero_points(self, scales: usize) -> usize {
        if self.signed { 0 } else { scales }
    }
}

/// The least and the greatest of some values: what a scale is made of, for blocks that arrive in pieces.
///
/// Zeros are told apart, `-0.0 < 0.0`, so that merging gives the same bits in any order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least value; infinity if there was none.
    pub min: f32,
    /// The greatest value; minus infinity if there was none.
    pub max: f32,
}

impl Range {
    /// The range of no values, neutral to [`merge`](Self::merge).
    pub const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY };

    /// The range of `values`.
    pub fn of(values: &[f32]) -> Self {
        Level::best().run(Extent { values })
    }

    /// The range of both.
    pub fn merge(self, other: Self) -> Self {
        Self { min: kernels::least(self.min, other.min), max: kernels::greatest(self.max, other.max) }
    }

    /// The scale and the zero point (0 when signed), the same bits as [`scales`] gives for all the values at once.
    pub fn scale_of(self, code: IntCode) -> (f32, f32) {
        self.scale_to(code.signed, code.max() as f32)
    }

    /// The scale and the zero point (0 when signed) of codes whose greatest value is `top`.
    pub(super) fn scale_to(self, signed: bool, top: f32) -> (f32, f32) {
        if self == Self::EMPTY {
            (0.0, 0.0)
        } else if signed {
            (self.min.abs().max(self.max.abs()) / top, 0.0)
        } else {
            ((self.max - self.min) / top, self.min)
        }
    }
}

/// The scale of each block, and its zero point when `code` is unsigned.
///
/// `values` is `[outer, groups, len, inner]`; `scale` is `[outer, groups, inner]`, and so is `zero_point`, which is
/// empty when `code` is signed. Both in the unit of the values.
///
/// # Panics
/// If a length does not fit `blocks`.
pub fn scales(code: IntCode, blocks: Blocks, values: &[f32], scale: &mut [f32], zero_point: &mut [f32]) {
    scales_at(Level::best(), code, blocks, values, scale, zero_point);
}

fn scales_at(level: Level, code: IntCode, blocks: Blocks, values: &[f32], scale: &mut [f32], zero_point: &mut [f32]) {
    check_lengths(code, blocks, values.len(), scale.len(), zero_point.len());
    let top = code.max() as f32;
    if code.signed {
        level.run(Scales::<true> { top, blocks, values, scale, zero_point });
    } else {
        level.run(Scales::<false> { top, blocks, values, scale, zero_point });
    }
}

/// The code of each value, `q - min` in a word, for the scales and zero points given.
///
/// Shapes as for [`scales`]; `codes` has the shape of `values`. A value beyond the range takes the nearest end of it.
///
/// # Panics
/// If a length does not fit `blocks`, or a code not the word.
pub fn encode<W: Word>(
    code: IntCode,
    blocks: Blocks,
    values: &[f32],
    scale: &[f32],
    zero_point: &[f32],
    codes: &mut [W],
) {
    encode_at(Level::best(), code, Form::Counted, blocks, values, scale, zero_point, codes);
}

/// [`encode`] to words of two's complement where `code` is signed.
///
/// # Panics
/// If a length does not fit `blocks`, or a code not the word.
pub fn encode_stored<W: Word>(
    code: IntCode,
    blocks: Blocks,
    values: &[f32],
    scale: &[f32],
    zero_point: &[f32],
    codes: &mut [W],
) {
    encode_at(Level::best(), code, Form::Stored, blocks, values, scale, zero_point, codes);
}

/// What a word says of a signed code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Its distance from the smallest code.
    Counted,
    /// The code in two's complement.
    Stored,
}

impl Form {
    /// What is taken from a code for its word.
    fn offset(self, code: IntCode) -> i32 {
        if self == Self::Counted { code.min() } else { 0 }
    }

    /// What a word is turned by, and then moved by, to be the code.
    fn back<W: Word>(self, code: IntCode) -> (u32, i32) {
        let sign = 1 << (W::BITS - 1);
        match self {
            Self::Stored if code.signed => (sign, -(sign as i32)),
            _ => (0, code.min()),
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "those of `encode`, and how")]
fn encode_at<W: Word>(
    level: Level,
    code: IntCode,
    form: Form,
    blocks: Blocks,
    values: &[f32],
    scale: &[f32],
    zero_point: &[f32],
    codes: &mut [W],
) {
    check_lengths(code, blocks, values.len(), scale.len(), zero_point.len());
    check_codes(code, values.len(), codes);
    let ends = kernels::Ends::of(code, form.offset(code));
    if code.signed {
        level.run(Encode::<W, true> { ends, blocks, values, scale, zero_point, codes });
    } else {
        level.run(Encode::<W, false> { ends, blocks, values, scale, zero_point, codes });
    }
}

/// The value of each code: what a reader of the file computes with.
///
/// Shapes as for [`encode`].
///
/// # Panics
/// If a length does not fit `blocks`, or a code not the word.
pub fn decode<W: Word>(
    code: IntCode,
    blocks: Blocks,
    codes: &[W],
    scale: &[f32],
    zero_point: &[f32],
    values: &mut [f32],
) {
    decode_at(Level::best(), code, Form::Counted, blocks, codes, scale, zero_point, values);
}

/// [`decode`] of words of two's complement where `code` is signed.
///
/// # Panics
/// If a length does not fit `blocks`, or a code not the word.
pub fn decode_stored<W: Word>(
    code: IntCode,
    blocks: Blocks,
    codes: &[W],
    scale: &[f32],
    zero_point: &[f32],
    values: &mut [f32],
) {
    decode_at(Level::best(), code, Form::Stored, blocks, codes, scale, zero_point, values);
}

#[allow(clippy::too_many_arguments, reason = "those of `decode`, and how")]
fn decode_at<W: Word>(
    level: Level,
    code: IntCode,
    form: Form,
    blocks: Blocks,
    codes: &[W],
    scale: &[f32],
    zero_point: &[f32],
    values: &mut [f32],
) {
    check_lengths(code, blocks, values.len(), scale.len(), zero_point.len());
    check_codes(code, values.len(), codes);
    let back = form.back::<W>(code);
    if code.signed {
        level.run(Decode::<W, true> { back, blocks, codes, scale, zero_point, values });
    } else {
        level.run(Decode::<W, false> { back, blocks, codes, scale, zero_point, values });
    }
}

/// Where the first NaN or infinity is.
pub fn first_non_finite(values: &[f32]) -> Option<usize> {
    const RUN: usize = 4096;
    let level = Level::best();
    let run = values.chunks(RUN).position(|run| !level.run(kernels::Finite { values: run }))? * RUN;
    let within = values.get(run..)?.iter().position(|value| !value.is_finite())?;
    Some(run + within)
}

fn check_lengths(code: IntCode, blocks: Blocks, values: usize, scale: usize, zero_point: usize) {
    assert_eq!(values, blocks.values(), "values of {blocks:?}");
    assert_eq!(scale, blocks.scales(), "scales of {blocks:?}");
    assert_eq!(zero_point, code.zero_points(blocks.scales()), "zero points of {blocks:?}");
}

fn check_codes<W: Word>(code: IntCode, values: usize, codes: &[W]) {
    assert!(code.bits <= W::BITS, "codes of {} bits in words of {}", code.bits, W::BITS);
    assert_eq!(codes.len(), values, "one code per value");
}
