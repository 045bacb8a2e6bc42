//! Four-bit floats under shared eight-bit scales: MXFP4, NVFP4.
//!
//! | type | values | bytes of a block | scale of |
//! |---|---|---|---|
//! | MXFP4 | 32 | an exponent e; nibbles, low for the first 16 values, high for the rest | 32 values: 2^(e - 127) |
//! | NVFP4 | 64 | four scales, unsigned E4M3; nibbles of each 16 values, low for the first 8, high for the rest | 16 values |
//!
//! A code is a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6 (OCP E2M1). Bytes equal those of ggml's x86-64 build
//! (`ggml-quants.c`), which works with twice these numbers and half the scale, takes the nearest, of two equally near the
//! lesser in magnitude, and never writes a negative zero. MXFP4's exponent is that of the largest magnitude, less 2;
//! NVFP4's scale is a sixth of it, rounded to E4M3 with halves up. A tensor's own scale, which NVFP4 files of other makers
//! have, does not exist here. Neither type minds an importance matrix.
//!
//! Where no magnitude in a block reaches 2^-125, MXFP4's exponent wraps as it does in ggml: to 252 to 255, or lower with
//! subnormal values. All codes are 0 then, and so are the values; but llama.cpp refuses a file with an exponent of 255.

mod kernels;
mod scalar;
#[cfg(test)]
mod tests;

use crate::quant::lanes::Level;
use crate::quant::simd;

/// Which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A power of two for 32 values.
    Mxfp4,
    /// An E4M3 scale for 16 values, four to a block.
    Nvfp4,
}

impl Kind {
    /// Values in a block.
    pub const fn block(self) -> usize {
        match self {
            Self::Mxfp4 => 32,
            Self::Nvfp4 => 64,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Mxfp4 => 17,
            Self::Nvfp4 => 36,
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
    simd::run(level, kernels::Encode { kind, values, out });
}

fn decode_at(level: Level, kind: Kind, bytes: &[u8], out: &mut [f32]) {
    assert!(out.len().is_multiple_of(kind.block()), "whole blocks");
    assert_eq!(bytes.len() * kind.block(), out.len() * kind.block_bytes(), "a place for every block");
    simd::run(level, kernels::Decode { kind, bytes, out });
}
