//! The K types: super-blocks of 256 values in sub-blocks of 16 or 32, each with a scale (and a minimum) that is itself a
//! code of a few bits, read by one or two half-precision scales.
//!
//! ```text
//! Q2_K, Q4_K, Q5_K   value = d · scale · code - dmin · minimum
//! Q3_K, Q6_K         value = d · scale · (code - 4 or 32)
//! ```

mod encode;
mod layout;
#[cfg(test)]
mod reference;
mod scales;
#[cfg(test)]
mod tests;

use super::search::Steps;
use super::{SUPER_BLOCK, f16_value};
use crate::quant::{lanes, simd};
use layout::Block;

/// A K type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 2 bits: 16 sub-blocks with scales and minima of 4 bits.
    Q2K,
    /// 3 bits: 16 sub-blocks with scales of 6 bits.
    Q3K,
    /// 4 bits: 8 sub-blocks with scales and minima of 6 bits.
    Q4K,
    /// 5 bits: as Q4_K.
    Q5K,
    /// 6 bits: 16 sub-blocks with scales of 8 bits.
    Q6K,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Q2K, Self::Q3K, Self::Q4K, Self::Q5K, Self::Q6K];

    /// Bytes of a super-block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    const fn sub_blocks(self) -> usize {
        match self {
            Self::Q4K | Self::Q5K => 8,
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
        }
    }
}

// Codes, scales and the halves fill a block.
const _: () = assert!(Kind::Q2K.bytes() == 256 / 4 + 16 + 4);
const _: () = assert!(Kind::Q3K.bytes() == 256 / 4 + 256 / 8 + 12 + 2);
const _: () = assert!(Kind::Q4K.bytes() == 256 / 2 + 12 + 4);
const _: () = assert!(Kind::Q5K.bytes() == 256 / 2 + 256 / 8 + 12 + 4);
const _: () = assert!(Kind::Q6K.bytes() == 256 / 2 + 256 / 4 + 16 + 2);

/// How the search for scale and minimum of a sub-block walks.
const fn steps(kind: Kind, importance: bool) -> Steps {
    let top = match kind {
        Kind::Q2K => 3,
        Kind::Q4K => 15,
        _ => 31,
    };
    if importance {
        return Steps { top, from: -0.9, by: 0.05, count: 36, magnitudes: false };
    }
    match kind {
        Kind::Q2K => Steps { top, from: -0.5, by: 0.1, count: 15, magnitudes: true },
        Kind::Q4K => Steps { top, from: -1.0, by: 0.1, count: 20, magnitudes: false },
        _ => Steps { top, from: -0.5, by: 0.1, count: 15, magnitudes: false },
    }
}

/// Encodes whole rows of `row_len` values, a multiple of 256, into [`Kind::bytes`] for each 256 of them.
///
/// `importance` has a weight for each column. Without it the result is that of ggml's `quantize_row_*_ref`, with it that
/// of its `quantize_row_*_impl`.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn encode(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_at(lanes::Level::best(), kind, row_len, values, importance, out);
}

fn encode_at(
    level: lanes::Level,
    kind: Kind,
    row_len: usize,
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    assert!(row_len > 0 && row_len.is_multiple_of(SUPER_BLOCK), "rows of {row_len} in super-blocks");
    assert!(values.len().is_multiple_of(row_len), "{} values in rows of {row_len}", values.len());
    assert_eq!(values.len() / SUPER_BLOCK * kind.bytes(), out.len(), "bytes of {} values", values.len());
    assert!(importance.is_none_or(|w| w.len() == row_len), "a weight for each of {row_len} columns");
    simd::run(level, encode::Encode { kind, row_len, values, importance, out });
}

/// Decodes whole super-blocks into `out`, 256 values for each.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn decode(kind: Kind, bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len().is_multiple_of(kind.bytes()), "{} bytes of {kind:?}", bytes.len());
    assert_eq!(bytes.len() / kind.bytes() * SUPER_BLOCK, out.len(), "values of {} bytes of {kind:?}", bytes.len());
    lanes::Level::best().run(Decode { kind, bytes, out });
}

struct Decode<'a> {
    kind: Kind,
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl lanes::Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { kind, bytes, out } = self;
        let mut block = Block::ZERO;
        let size = SUPER_BLOCK / kind.sub_blocks();
        let middle = match kind {
            Kind::Q3K => 4,
            Kind::Q6K => 32,
            _ => 0,
        };
        for (bytes, out) in bytes.chunks_exact(kind.bytes()).zip(out.chunks_exact_mut(SUPER_BLOCK)) {
            layout::unpack(kind, bytes, &mut block);
            let (d, dmin) = (f16_value(block.d), f16_value(block.dmin));
            let (scales, mins) = layout::unpack_scales(kind, &block.scales);
            for (j, (out, codes)) in out.chunks_exact_mut(size).zip(block.codes.chunks_exact(size)).enumerate() {
                let (d, min) = (d * f32::from(scales[j]), dmin * f32::from(mins[j]));
                if matches!(kind, Kind::Q3K | Kind::Q6K) {
                    for (out, code) in out.iter_mut().zip(codes) {
                        *out = d * f32::from(*code as i8 - middle);
                    }
                } else {
                    for (out, code) in out.iter_mut().zip(codes) {
                        *out = d * f32::from(*code) - min;
                    }
                }
            }
        }
    }
}
