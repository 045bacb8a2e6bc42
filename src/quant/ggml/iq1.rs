//! IQ1_S and IQ1_M, decoded only: eight elements share a point of −1, 0 and 1, shifted by an eighth.
//!
//! ggml's encoder sorts by value alone, so that its bytes depend on the C library's `qsort`.
use super::{f16_at, f16_value, grids};

#[cfg(test)]
mod tests;

/// A type of this family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 50 bytes: 1.5625 bits per weight.
    S,
    /// 56 bytes: 1.75 bits per weight.
    M,
}

impl Kind {
    /// Bytes of a super-block of 256 values.
    pub const fn bytes(self) -> usize {
        match self {
            Self::S => 50,
            Self::M => 56,
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
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        match kind {
            Kind::S => {
                let d = f16_at(bytes, 0);
                for (i, out) in out.chunks_exact_mut(8).enumerate() {
                    let high = word(34 + 2 * (i / 4));
                    let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
                    let index = u16::from(bytes[2 + i]) | (high >> (3 * (i % 4)) & 7) << 8;
                    put(index, scale, high & 0x8000 != 0, out);
                }
            }
            Kind::M => {
                // The scale of the super-block lies in the high halves of the four words of scales.
                let scales: [u16; 4] = std::array::from_fn(|k| word(48 + 2 * k));
                let d = scales.iter().enumerate().fold(0, |d, (k, s)| d | s >> 12 << (4 * k));
                let d = f16_value(d);
                for (i, out) in out.chunks_exact_mut(8).enumerate() {
                    let scale = d * f32::from(2 * (scales[i / 8] >> (3 * (i / 2 % 4)) & 7) + 1);
                    let high = u16::from(bytes[32 + i / 2] >> (4 * (i % 2)));
                    put(u16::from(bytes[i]) | (high & 7) << 8, scale, high & 8 != 0, out);
                }
            }
        }
    }
}

/// Eight elements: the shifted point times the scale.
#[inline(always)]
fn put(index: u16, scale: f32, down: bool, out: &mut [f32]) {
    let shift = if down { -0.125 } else { 0.125 };
    for (l, out) in grids::IQ1.levels(usize::from(index)).into_iter().zip(out) {
        *out = scale * (f32::from(l) - 1.0 + shift);
    }
}
