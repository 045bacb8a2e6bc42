//! Integers of 4 bits with a scale per group of 64: signed ones, as SVDQuant has them (Li et al. 2024), and unsigned ones
//! with a zero point that is added, as AWQ's kernels have them (Lin et al. 2023).
//!
//! | | codes | value | scale | zero point |
//! |---|---|---|---|---|
//! | signed | -8..=7 | `code * scale` | BF16: `amax / 7` | none |
//! | unsigned | 0..=15 | `code * scale + zero` | BF16: `(max - zero) / 15` | BF16: `min` |
//!
//! Codes are found with the scale as it is stored, rounded. [`ScaleSearch::Mse`] takes, of that scale and some smaller
//! ones, the one with the least squared error; signed codes then use -8 too.
mod kernels;
#[cfg(test)]
mod tests;

use super::lanes::Level;
use crate::core::ScaleSearch;
use kernels::{Signed, Unsigned};

/// Values that share a scale.
pub const GROUP: usize = 64;

/// Signed codes, a byte for each with four bits in two's complement; scales as the bits of BF16.
///
/// # Panics
/// If `values` are not whole groups, or `codes` and `scales` are not of their number.
pub fn encode_signed(search: ScaleSearch, values: &[f32], codes: &mut [u8], scales: &mut [u16]) {
    encode_signed_at(Level::best(), search, values, codes, scales);
}

fn encode_signed_at(level: Level, search: ScaleSearch, values: &[f32], codes: &mut [u8], scales: &mut [u16]) {
    check(values.len(), codes.len(), scales.len());
    match search {
        ScaleSearch::Absmax => level.run(Signed::<false> { values, codes, scales }),
        ScaleSearch::Mse => level.run(Signed::<true> { values, codes, scales }),
    }
}

/// The values of signed codes.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn decode_signed(codes: &[u8], scales: &[u16], values: &mut [f32]) {
    check(values.len(), codes.len(), scales.len());
    let groups = values.as_chunks_mut::<GROUP>().0.iter_mut().zip(codes.as_chunks::<GROUP>().0);
    for ((values, codes), scale) in groups.zip(scales) {
        let scale = bf16(*scale);
        for (value, code) in values.iter_mut().zip(codes) {
            *value = f32::from((code << 4) as i8 >> 4) * scale;
        }
    }
}

/// Unsigned codes, a byte for each; scales and zero points as the bits of BF16.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn encode_unsigned(search: ScaleSearch, values: &[f32], codes: &mut [u8], scales: &mut [u16], zeros: &mut [u16]) {
    encode_unsigned_at(Level::best(), search, values, codes, scales, zeros);
}

fn encode_unsigned_at(
    level: Level,
    search: ScaleSearch,
    values: &[f32],
    codes: &mut [u8],
    scales: &mut [u16],
    zeros: &mut [u16],
) {
    check(values.len(), codes.len(), scales.len());
    assert_eq!(scales.len(), zeros.len(), "a zero point for each scale");
    match search {
        ScaleSearch::Absmax => level.run(Unsigned::<false> { values, codes, scales, zeros }),
        ScaleSearch::Mse => level.run(Unsigned::<true> { values, codes, scales, zeros }),
    }
}

/// The values of unsigned codes.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn decode_unsigned(codes: &[u8], scales: &[u16], zeros: &[u16], values: &mut [f32]) {
    check(values.len(), codes.len(), scales.len());
    assert_eq!(scales.len(), zeros.len(), "a zero point for each scale");
    let groups = values.as_chunks_mut::<GROUP>().0.iter_mut().zip(codes.as_chunks::<GROUP>().0);
    for ((values, codes), (scale, zero)) in groups.zip(scales.iter().zip(zeros)) {
        let (scale, zero) = (bf16(*scale), bf16(*zero));
        for (value, code) in values.iter_mut().zip(codes) {
            *value = f32::from(code & 15) * scale + zero;
        }
    }
}

/// The value of the bits of a BF16.
pub fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bits of the BF16 nearest to a finite number, of two equally near the even one.
pub fn to_bf16(value: f32) -> u16 {
    kernels::to_bf16(value)
}

fn check(values: usize, codes: usize, scales: usize) {
    assert!(values.is_multiple_of(GROUP), "{values} values in groups of {GROUP}");
    assert_eq!((codes, scales), (values, values / GROUP), "codes and scales of {values} values");
}
