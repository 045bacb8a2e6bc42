//! The 32-value blocks of GGML: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! | type | bytes of a block | value |
//! |---|---|---|
//! | Q4_0 | d f16; 16 bytes, low nibbles for the first 16 values, high for the rest | (q - 8) · d |
//! | Q4_1 | d, m f16; nibbles | q · d + m |
//! | Q5_0 | d f16; the fifth bits, a u32; nibbles | (q - 16) · d |
//! | Q5_1 | d, m f16; fifth bits; nibbles | q · d + m |
//! | Q8_0 | d f16; 32 signed bytes | q · d |
//!
//! Bytes equal those of ggml's x86-64 build (`ggml-quants.c`). Without an importance matrix the extremes of a block set
//! its scale. With one, `search` tries scales and keeps the one with the least weighted error, the weight of value x in
//! column c being `importance[c] · sqrt(mean of the row's x² + x²)`; Q8_0 has no such search.
//!
//! `scalar` has the loops to read. `kernels` and `search` hold the same sums in lanes.

mod kernels;
mod scalar;
mod search;
#[cfg(test)]
mod tests;

use crate::quant::lanes::Level;
use crate::quant::simd;

/// Values in a block.
pub const BLOCK: usize = 32;

/// Which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 4 bits, a scale.
    Q4_0,
    /// 4 bits, a scale and a minimum.
    Q4_1,
    /// 5 bits, a scale.
    Q5_0,
    /// 5 bits, a scale and a minimum.
    Q5_1,
    /// 8 bits, a scale.
    Q8_0,
}

impl Kind {
    /// Bytes of a block of 32 values.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
        }
    }
}

/// Quantizes whole rows of `row_len` values, a multiple of 32, weighing errors by `importance`, one weight per column.
pub fn encode(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_at(Level::best(), kind, row_len, values, importance, out);
}

/// The values that `bytes` stand for.
pub fn decode(kind: Kind, bytes: &[u8], out: &mut [f32]) {
    decode_at(Level::best(), kind, bytes, out);
}

fn encode_at(level: Level, kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    assert!(row_len > 0 && row_len.is_multiple_of(BLOCK) && values.len().is_multiple_of(row_len), "whole blocks");
    assert_eq!(out.len(), values.len() / BLOCK * kind.block_bytes(), "a place for every block");
    match importance {
        Some(importance) if kind != Kind::Q8_0 => {
            assert_eq!(importance.len(), row_len, "a weight per column");
            simd::run(level, search::Encode { kind, values, importance, out });
        }
        _ => simd::run(level, kernels::Encode { kind, values, out }),
    }
}

fn decode_at(level: Level, kind: Kind, bytes: &[u8], out: &mut [f32]) {
    assert!(out.len().is_multiple_of(BLOCK), "whole blocks");
    assert_eq!(bytes.len(), out.len() / BLOCK * kind.block_bytes(), "a place for every block");
    simd::run(level, kernels::Decode { kind, bytes, out });
}
