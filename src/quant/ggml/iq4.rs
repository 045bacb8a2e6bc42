//! IQ4_NL and IQ4_XS: four-bit indices into a table of sixteen levels, with a scale for 32 elements.
use super::{check_lengths, f16_at, nearest_int, put_f16};
use crate::quant::lanes::Level;
use crate::quant::simd;

mod lanes;
#[cfg(test)]
mod tests;

/// The levels.
pub(super) const LEVELS: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// A type of this family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 32 values in 18 bytes: 4.5 bits per weight.
    Nl,
    /// 256 values in 136 bytes: 4.25 bits per weight.
    Xs,
}

impl Kind {
    /// Values of a block.
    pub const fn values(self) -> usize {
        match self {
            Self::Nl => 32,
            Self::Xs => 256,
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Nl => 18,
            Self::Xs => 136,
        }
    }
}

/// Encode whole rows of `row_len` values, with `row_len` weights of importance if there are any.
///
/// # Panics
/// If the lengths do not fit.
pub fn encode(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_at(Level::best(), kind, row_len, values, importance, out);
}

fn encode_at(level: Level, kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    check_lengths(kind.values(), row_len, kind.bytes(), values, importance, out);
    simd::run(level, lanes::Encode { kind, row_len, values, importance, out });
}

/// The plain loop, which the lanes are held to.
#[cfg(test)]
fn plain(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    super::blocks(kind.values(), row_len, kind.bytes(), values, importance, out, |values, importance, out| {
        block(kind, values, importance, out);
    });
}

/// The index of the nearest level, the upper one of two; the last for what is no number.
///
/// ggml compares `x - lower < upper - x`; both differences are exact where they are nearly equal, so that this is
/// whether `x` is below the middle.
pub(super) fn nearest(x: f32) -> u8 {
    LEVELS.windows(2).fold(15, |index, pair| index - u8::from(x < (pair[0] + pair[1]) / 2.0))
}

/// One over, or zero for zero.
fn inverse(x: f32) -> f32 {
    if x != 0.0 { 1.0 / x } else { 0.0 }
}

fn block(kind: Kind, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let variance = values.iter().fold(0.0f32, |sum, x| sum + x * x) * (2.0 / values.len() as f32);
    let mut scales = [0.0f32; 8];
    for (b, (x, scale)) in values.chunks_exact(32).zip(&mut scales).enumerate() {
        let mut weights = [0.0; 32];
        match importance {
            Some(importance) => {
                for ((w, x), q) in weights.iter_mut().zip(x).zip(&importance[32 * b..]) {
                    *w = q * (variance + x * x).sqrt();
                }
            }
            None => weights.iter_mut().zip(x).for_each(|(w, x)| *w = x * x),
        }
        *scale = search(x, &weights);
    }
    match kind {
        Kind::Nl => {
            put_f16(out, 0, scales[0]);
            put_indices(values, inverse(scales[0]), &mut out[2..]);
        }
        Kind::Xs => {
            let mut inverses = [0.0; 8];
            put_scales(&scales, &mut inverses, out);
            for ((x, id), out) in values.chunks_exact(32).zip(inverses).zip(out[8..].chunks_exact_mut(16)) {
                put_indices(x, id, out);
            }
        }
    }
}

/// The head of an IQ4_XS block, and what its blocks of 32 are multiplied by: not what a reader will divide by, for the
/// scale of the super-block is not rounded.
fn put_scales(scales: &[f32], inverses: &mut [f32], out: &mut [u8]) {
    let (mut greatest, mut most) = (0.0f32, 0.0f32);
    for &scale in scales {
        if scale.abs() > most {
            (most, greatest) = (scale.abs(), scale);
        }
    }
    let d = -greatest / 32.0;
    put_f16(out, 0, d);
    let (id, mut high, mut low) = (inverse(d), 0u16, [0u8; 4]);
    for (b, (&scale, inverse_scale)) in scales.iter().zip(inverses).enumerate() {
        let l = nearest_int(id * scale).clamp(-32, 31);
        *inverse_scale = inverse(d * l as f32);
        let code = (l + 32) as u16;
        low[b / 2] |= ((code & 15) as u8) << (4 * (b % 2));
        high |= code >> 4 << (2 * b);
    }
    out[2..4].copy_from_slice(&high.to_le_bytes());
    out[4..8].copy_from_slice(&low);
}

/// The scale of 32 values: the best of the fits to sixteen roundings.
fn search(x: &[f32], weights: &[f32; 32]) -> f32 {
    let (mut amax, mut max) = (0.0, 0.0);
    for &x in x {
        if x.abs() > amax {
            (amax, max) = (x.abs(), x);
        }
    }
    if amax < 1e-15 {
        return 0.0;
    }
    let sums = |id: f32| {
        let (mut qx, mut q2) = (0.0f32, 0.0f32);
        for (x, w) in x.iter().zip(weights) {
            let q = LEVELS[usize::from(nearest(id * x))];
            qx += w * q * x;
            q2 += w * q * q;
        }
        (qx, q2)
    };
    let (qx, q2) = sums(1.0 / (-max / LEVELS[0]));
    let mut d = if q2 > 0.0 { qx / q2 } else { 0.0 };
    let mut best = d * qx;
    for step in -7..=7 {
        let (qx, q2) = sums((step as f32 + LEVELS[0]) / max);
        if q2 > 0.0 && qx * qx > best * q2 {
            d = qx / q2;
            best = d * qx;
        }
    }
    d
}

/// Indices of 32 values, the first half in the low bits.
fn put_indices(x: &[f32], id: f32, out: &mut [u8]) {
    for j in 0..16 {
        out[j] = nearest(id * x[j]) | nearest(id * x[16 + j]) << 4;
    }
}

/// Decode whole blocks.
///
/// # Panics
/// If the lengths do not fit.
pub fn decode(kind: Kind, bytes: &[u8], out: &mut [f32]) {
    assert!(bytes.len().is_multiple_of(kind.bytes()), "{} bytes of {kind:?}", bytes.len());
    assert_eq!(bytes.len() / kind.bytes() * kind.values(), out.len(), "values of {} bytes of {kind:?}", bytes.len());
    for (bytes, out) in bytes.chunks_exact(kind.bytes()).zip(out.chunks_exact_mut(kind.values())) {
        let d = f16_at(bytes, 0);
        match kind {
            Kind::Nl => get_indices(&bytes[2..], d, out),
            Kind::Xs => {
                let high = u16::from_le_bytes([bytes[2], bytes[3]]);
                for (b, (indices, out)) in bytes[8..].chunks_exact(16).zip(out.chunks_exact_mut(32)).enumerate() {
                    let low = bytes[4 + b / 2] >> (4 * (b % 2)) & 15;
                    let code = i32::from(low) | i32::from(high >> (2 * b) & 3) << 4;
                    get_indices(indices, d * (code - 32) as f32, out);
                }
            }
        }
    }
}

fn get_indices(indices: &[u8], d: f32, out: &mut [f32]) {
    let (first, last) = out.split_at_mut(16);
    for ((&pair, first), last) in indices.iter().zip(first).zip(last) {
        *first = d * LEVELS[usize::from(pair & 15)];
        *last = d * LEVELS[usize::from(pair >> 4)];
    }
}
