//! One and two bits, and three values to a digit: TQ1_0, TQ2_0, Q1_0, Q2_0.
//!
//! | type | values | bytes of a block | value |
//! |---|---|---|---|
//! | TQ1_0 | 256 | 52 bytes of base-3 digits; d f16 | (t - 1) · d |
//! | TQ2_0 | 256 | 64 bytes, two bits each; d f16 | (t - 1) · d |
//! | Q1_0 | 128 | d f16; 128 bits, the lowest first | d, or -d where the bit is 0 |
//! | Q2_0 | 64 | d f16; 64 codes of two bits, the lowest first | (t - 1) · d |
//!
//! Where digits have three values, d is the largest magnitude, and t is 0, 1 or 2 as the value is nearest to -d, 0 or d,
//! a half away from zero. Q1_0 keeps signs, and the mean magnitude, summed in order. None minds an importance matrix.
//! Bytes equal those of ggml's x86-64 build (`ggml-quants.c`).
//!
//! Two-bit digits of TQ2_0 lie 32 values apart, in each half of the block. In TQ1_0 five digits make a byte, 32 apart in
//! the first 160 values and 16 apart in the next 80; four digits, 4 apart, make one in the last 16. The byte is
//! the number they write, the first most significant, as a fraction of 243 in units of 1/256, rounded up: multiplied
//! by 3, it yields its digits one by one as carries.

mod kernels;
#[cfg(test)]
mod scalar;
#[cfg(test)]
mod tests;

use crate::quant::lanes::Level;

/// Which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Five ternary digits to a byte.
    TQ1_0,
    /// Four ternary digits to a byte.
    TQ2_0,
    /// Signs.
    Q1_0,
    /// Four ternary digits to a byte, 64 to a block.
    Q2_0,
}

impl Kind {
    /// Values in a block.
    pub const fn block(self) -> usize {
        match self {
            Self::TQ1_0 | Self::TQ2_0 => 256,
            Self::Q1_0 => 128,
            Self::Q2_0 => 64,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::TQ1_0 => 54,
            Self::TQ2_0 => 66,
            Self::Q1_0 | Self::Q2_0 => 18,
        }
    }
}

/// Quantizes whole rows of `row_len` values, a multiple of the block.
pub fn encode(kind: Kind, row_len: usize, values: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    assert!(
        row_len > 0 && row_len.is_multiple_of(kind.block()) && values.len().is_multiple_of(row_len),
        "whole blocks"
    );
    encode_at(Level::best(), kind, values, out);
}

/// The values that `bytes` stand for.
pub fn decode(kind: Kind, bytes: &[u8], out: &mut [f32]) {
    decode_at(Level::best(), kind, bytes, out);
}

fn encode_at(level: Level, kind: Kind, values: &[f32], out: &mut [u8]) {
    assert_eq!(out.len() * kind.block(), values.len() * kind.block_bytes(), "a place for every block");
    level.run(kernels::Encode { kind, values, out });
}

fn decode_at(level: Level, kind: Kind, bytes: &[u8], out: &mut [f32]) {
    assert!(out.len().is_multiple_of(kind.block()), "whole blocks");
    assert_eq!(bytes.len() * kind.block(), out.len() * kind.block_bytes(), "a place for every block");
    level.run(kernels::Decode { kind, bytes, out });
}
