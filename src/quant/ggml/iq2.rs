//! IQ2_XXS, IQ2_XS and IQ2_S: eight elements share a point of a grid, a scale is shared by 32 or 16 elements.
use super::grids::{self, Points, even_signs};
use super::lattice::{Again, Encode, Scheme, Super};
use super::{SUPER_BLOCK, check_lengths, f16_at, put_f16};
use crate::quant::lanes::Level;
use crate::quant::simd;

#[cfg(test)]
mod tests;

/// A type of this family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 66 bytes: 2.0625 bits per weight.
    Xxs,
    /// 74 bytes: 2.3125 bits per weight.
    Xs,
    /// 82 bytes: 2.5625 bits per weight.
    S,
}

static XXS: Scheme<8> = Scheme {
    grid: grids::iq2_xxs,
    block: 32,
    steps: 6,
    step: 0.1,
    even_signs: true,
    least: 1e-15,
    again: Again::Always,
    variance: 1.0,
    variance_weight: 0.0,
    fudge: 1.0,
};
static XS: Scheme<8> = Scheme { grid: grids::iq2_xs, block: 16, steps: 9, again: Again::Each, ..XXS };
static S: Scheme<8> = Scheme {
    grid: grids::iq2_s,
    even_signs: false,
    least: 1e-8,
    variance: 2.0,
    variance_weight: 0.25,
    fudge: 0.9875,
    ..XS
};

impl Kind {
    /// Bytes of a super-block of 256 values.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Xxs => 66,
            Self::Xs => 74,
            Self::S => 82,
        }
    }

    /// Whether there is no encoding without an importance matrix.
    pub const fn requires_importance(self) -> bool {
        matches!(self, Self::Xxs | Self::Xs)
    }

    fn scheme(self) -> &'static Scheme<8> {
        match self {
            Self::Xxs => &XXS,
            Self::Xs => &XS,
            Self::S => &S,
        }
    }
}

/// Encode whole rows of `row_len` values, a multiple of 256, with `row_len` weights of importance.
///
/// # Panics
/// If the lengths do not fit, or `importance` is missing where [`Kind::requires_importance`].
pub fn encode(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    assert!(importance.is_some() || !kind.requires_importance(), "{kind:?} needs an importance matrix");
    encode_at(Level::best(), kind, row_len, values, importance, out);
}

fn encode_at(level: Level, kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    check_lengths(SUPER_BLOCK, row_len, kind.bytes(), values, importance, out);
    let put = |found: &Super, out: &mut [u8]| write(kind, found, out);
    simd::run(level, Encode { scheme: kind.scheme(), row_len, values, importance, bytes: kind.bytes(), out, put });
}

/// The plain loop, which the lanes are held to.
#[cfg(test)]
fn plain(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    super::blocks(SUPER_BLOCK, row_len, kind.bytes(), values, importance, out, |values, importance, out| {
        write(kind, &kind.scheme().super_block(values, importance), out);
    });
}

fn write(kind: Kind, found: &Super, out: &mut [u8]) {
    out.fill(0);
    put_f16(out, 0, found.d);
    // Without a scale IQ2_S keeps its codes, the others have none.
    if found.empty && kind != Kind::S {
        return;
    }
    match kind {
        Kind::Xxs => {
            for ((block, &code), out) in found.blocks.iter().zip(&found.codes).zip(out[2..].chunks_exact_mut(8)) {
                let signs = (0..4).fold(u32::from(code) << 28, |all, k| all | u32::from(block.signs[k]) << (7 * k));
                let (points, rest) = out.split_at_mut(4);
                for (out, &point) in points.iter_mut().zip(&block.points) {
                    *out = point as u8;
                }
                rest.copy_from_slice(&signs.to_le_bytes());
            }
        }
        Kind::Xs => {
            let (points, scales) = out[2..].split_at_mut(64);
            for (block, out) in found.blocks.iter().zip(points.chunks_exact_mut(4)) {
                for k in 0..2 {
                    let code = block.points[k] | u16::from(block.signs[k]) << 9;
                    out[2 * k..2 * k + 2].copy_from_slice(&code.to_le_bytes());
                }
            }
            put_nibbles(&found.codes, scales);
        }
        Kind::S => {
            let (low, rest) = out[2..].split_at_mut(32);
            let (signs, rest) = rest.split_at_mut(32);
            let (high, scales) = rest.split_at_mut(8);
            for i in 0..32 {
                let block = &found.blocks[i / 2];
                let point = block.points[i % 2];
                low[i] = point as u8;
                signs[i] = block.signs[i % 2];
                high[i / 4] |= ((point >> 8) as u8) << (2 * (i % 4));
            }
            put_nibbles(&found.codes, scales);
        }
    }
}

/// Two codes a byte, the first in the low half.
pub(super) fn put_nibbles(codes: &[u8], out: &mut [u8]) {
    for (pair, out) in codes.chunks_exact(2).zip(out) {
        *out = pair[0] | pair[1] << 4;
    }
}

/// Decode whole super-blocks.
///
/// # Panics
/// If the lengths do not fit.
pub fn decode(kind: Kind, bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len().is_multiple_of(kind.bytes()), "{} bytes of {kind:?}", bytes.len());
    assert_eq!(bytes.len() / kind.bytes() * 256, out.len(), "values of {} bytes of {kind:?}", bytes.len());
    for (bytes, out) in bytes.chunks_exact(kind.bytes()).zip(out.chunks_exact_mut(256)) {
        let d = f16_at(bytes, 0);
        let scale = |code: u8| d * (0.5 + f32::from(code)) * 0.25;
        for (i, out) in out.chunks_exact_mut(8).enumerate() {
            match kind {
                Kind::Xxs => {
                    let block = &bytes[2 + 8 * (i / 4)..][..8];
                    let signs = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
                    let signs8 = even_signs(signs >> (7 * (i % 4)));
                    put(grids::IQ2_XXS, usize::from(block[i % 4]), scale((signs >> 28) as u8), signs8, out);
                }
                Kind::Xs => {
                    let code = u16::from_le_bytes([bytes[2 + 2 * i], bytes[3 + 2 * i]]);
                    let scale = scale(bytes[66 + i / 4] >> (4 * (i / 2 % 2)) & 15);
                    put(grids::IQ2_XS, usize::from(code & 511), scale, even_signs(u32::from(code >> 9)), out);
                }
                Kind::S => {
                    let high = usize::from(bytes[66 + i / 4] >> (2 * (i % 4)) & 3);
                    let scale = scale(bytes[74 + i / 4] >> (4 * (i / 2 % 2)) & 15);
                    put(grids::IQ2_S, usize::from(bytes[2 + i]) | high << 8, scale, bytes[34 + i], out);
                }
            }
        }
    }
}

/// Eight elements: the point times the scale, with signs.
#[inline(always)]
fn put(points: Points<8>, index: usize, scale: f32, signs: u8, out: &mut [f32]) {
    const VALUES: [f32; 4] = [8.0, 25.0, 43.0, 0.0];
    for (i, (l, out)) in points.levels(index).into_iter().zip(out).enumerate() {
        *out = scale * VALUES[usize::from(l)] * if signs >> i & 1 == 1 { -1.0 } else { 1.0 };
    }
}
