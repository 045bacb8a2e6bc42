//! IQ3_XXS and IQ3_S: four elements share a point of a grid, a scale is shared by 32 elements.
use super::grids::{self, Points, even_signs};
use super::iq2::put_nibbles;
use super::lattice::{Again, Encode, Scheme, Super};
use super::{SUPER_BLOCK, check_lengths, f16_at, put_f16};
use crate::quant::lanes::Level;
use crate::quant::simd;

#[cfg(test)]
mod tests;

/// A type of this family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 98 bytes: 3.0625 bits per weight.
    Xxs,
    /// 110 bytes: 3.4375 bits per weight.
    S,
}

static XXS: Scheme<4> = Scheme {
    grid: grids::iq3_xxs,
    block: 32,
    steps: 15,
    step: 0.2,
    even_signs: true,
    least: 1e-8,
    again: Again::Each,
    variance: 2.0,
    variance_weight: 0.0,
    fudge: 1.0125,
};
static S: Scheme<4> =
    Scheme { grid: grids::iq3_s, steps: 9, even_signs: false, least: 0.0, again: Again::All, fudge: 1.033, ..XXS };

impl Kind {
    /// Bytes of a super-block of 256 values.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Xxs => 98,
            Self::S => 110,
        }
    }

    fn scheme(self) -> &'static Scheme<4> {
        match self {
            Self::Xxs => &XXS,
            Self::S => &S,
        }
    }
}

/// Encode whole rows of `row_len` values, a multiple of 256, with `row_len` weights of importance if there are any.
///
/// # Panics
/// If the lengths do not fit.
pub fn encode(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
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
    match kind {
        Kind::Xxs if found.empty => {}
        Kind::Xxs => {
            let (points, signs) = out[2..].split_at_mut(64);
            let out = points.chunks_exact_mut(8).zip(signs.chunks_exact_mut(4));
            for ((block, &code), (points, out)) in found.blocks.iter().zip(&found.codes).zip(out) {
                for (out, &point) in points.iter_mut().zip(&block.points) {
                    *out = point as u8;
                }
                let signs = (0..4).fold(u32::from(code) << 28, |all, k| all | u32::from(block.signs[k]) << (7 * k));
                out.copy_from_slice(&signs.to_le_bytes());
            }
        }
        Kind::S => {
            let (low, rest) = out[2..].split_at_mut(64);
            let (high, rest) = rest.split_at_mut(8);
            let (signs, scales) = rest.split_at_mut(32);
            // ggml's writer does not step over a zero sub-block: what follows one lies where the zero one should be,
            // all but the high bits. The bytes are ggml's, so this does likewise.
            let present = found.blocks[..8].iter().enumerate().filter(|(_, block)| !block.zero);
            for (at, (b, block)) in present.enumerate() {
                for k in 0..8 {
                    low[8 * at + k] = block.points[k] as u8;
                    high[b] |= ((block.points[k] >> 8) as u8) << k;
                }
                signs[4 * at..4 * at + 4].copy_from_slice(&block.signs);
            }
            put_nibbles(&found.codes[..8], scales);
        }
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
        for (i, out) in out.chunks_exact_mut(8).enumerate() {
            let low = [usize::from(bytes[2 + 2 * i]), usize::from(bytes[3 + 2 * i])];
            let (first, last) = out.split_at_mut(4);
            match kind {
                Kind::Xxs => {
                    const VALUES: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];
                    let signs = &bytes[66 + 4 * (i / 4)..][..4];
                    let signs = u32::from_le_bytes([signs[0], signs[1], signs[2], signs[3]]);
                    let scale = d * (0.5 + (signs >> 28) as f32) * 0.5;
                    let signs = even_signs(signs >> (7 * (i % 4)));
                    put(grids::IQ3_XXS, &VALUES, low[0], scale, signs, first);
                    put(grids::IQ3_XXS, &VALUES, low[1], scale, signs >> 4, last);
                }
                Kind::S => {
                    const VALUES: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];
                    let high = usize::from(bytes[66 + i / 4] >> (2 * (i % 4)));
                    let code = bytes[106 + i / 8] >> (4 * (i / 4 % 2)) & 15;
                    let (scale, signs) = (d * f32::from(1 + 2 * code), bytes[74 + i]);
                    put(grids::IQ3_S, &VALUES, low[0] | (high & 1) << 8, scale, signs, first);
                    put(grids::IQ3_S, &VALUES, low[1] | (high >> 1 & 1) << 8, scale, signs >> 4, last);
                }
            }
        }
    }
}

/// Four elements: the point times the scale, with signs.
#[inline(always)]
fn put(points: Points<4>, values: &[f32; 8], index: usize, scale: f32, signs: u8, out: &mut [f32]) {
    for (i, (l, out)) in points.levels(index).into_iter().zip(out).enumerate() {
        *out = scale * values[usize::from(l)] * if signs >> i & 1 == 1 { -1.0 } else { 1.0 };
    }
}
