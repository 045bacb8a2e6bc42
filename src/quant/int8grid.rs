//! Codes of 4 or 6 bits whose values are int8: what ComfyUI calls `asym_w4a8_int8`.
//!
//! A row has one scale in F32, a group of it another one in E4M3 relative to that; what a code stands for is a whole
//! number of -127 to 127 once the group's scale is applied, so that the product is one of int8:
//!
//! `value = clamp(round(level * s_rel), -127, 127) * s_channel`
//!
//! | bits | levels | stored as | bytes of a row of K |
//! |---|---|---|---|
//! | 4 | the sixteen of [`LEVELS`] | their index | K/2, the even column in the low half |
//! | 6 | -31 to 31 | level + 32 | K/2 of low halves, then K/4 of the two upper bits, four columns to a byte |
//!
//! The encoder is comfy-kitchen 0.2's (`backends/eager/w4a8_int8.py`): codes nearest for a scale by the greatest value,
//! two rounds of the best scale for the codes and the best codes for the scale, then the codes nearest on the int8 grid;
//! with 6 bits the neighbours of the group's scale are tried too. Sums run from left to right, where it leaves the order
//! to torch: its codes may differ where two are almost equally near.
#[cfg(test)]
mod tests;

use super::minifloat::FloatCode;
use crate::core::ScaleSearch;

/// Levels that fit the distribution of a rotated weight, normalized by the greatest of a group.
pub const LEVELS: [f32; 16] = [
    -0.980602, -0.794529, -0.638165, -0.500986, -0.377321, -0.263187, -0.155210, -0.050720, 0.052541, 0.156985,
    0.265284, 0.379533, 0.502636, 0.638953, 0.794876, 0.980671,
];

/// The greatest level of 6 bits.
const TOP: f32 = 31.0;
/// No scale is smaller.
const LEAST: f32 = 1e-8;
/// Rounds of scale for codes, codes for scale.
const ROUNDS: usize = 2;
/// The greatest E4M3 code that is a number.
const GREATEST: u8 = 0x7e;

/// What codes stand for.
#[derive(Clone, Debug, PartialEq)]
pub enum Levels {
    /// Sixteen, ascending.
    Sixteen([f32; 16]),
    /// Whole numbers from -8 to 7.
    Uniform4,
    /// Whole numbers from -31 to 31.
    Uniform6,
}

impl Levels {
    /// Bits of a code.
    pub fn bits(&self) -> usize {
        match self {
            Self::Sixteen(_) | Self::Uniform4 => 4,
            Self::Uniform6 => 6,
        }
    }
    /// Bytes of a row of so many columns, a multiple of 4.
    pub fn row_bytes(&self, cols: usize) -> usize {
        cols * self.bits() / 8
    }
    /// The level of a code.
    fn level(&self, code: u8) -> f32 {
        match self {
            Self::Sixteen(levels) => levels[usize::from(code & 15)],
            Self::Uniform4 => f32::from(code & 15) - 8.0,
            Self::Uniform6 => f32::from(code & 63) - 32.0,
        }
    }
    /// The first and the last code that an encoder gives.
    fn ends(&self) -> (u8, u8) {
        match self {
            Self::Sixteen(_) | Self::Uniform4 => (0, 15),
            Self::Uniform6 => (1, 63),
        }
    }
    /// The code of the nearest level.
    fn nearest(&self, value: f32) -> u8 {
        let whole = |least: f32, most: f32, zero: f32| (value.round_ties_even().clamp(least, most) + zero) as u8;
        match self {
            Self::Sixteen(levels) => levels.windows(2).map(|w| u8::from(value > (w[0] + w[1]) * 0.5)).sum(),
            Self::Uniform4 => whole(-8.0, 7.0, 8.0),
            Self::Uniform6 => whole(-TOP, TOP, 32.0),
        }
    }
    /// What a group's values are divided by at first.
    fn first_scale(&self, amax: f32) -> f32 {
        let top = match self {
            Self::Sixteen(_) => 1.0,
            Self::Uniform4 => 7.0,
            Self::Uniform6 => TOP,
        };
        (amax / top).max(LEAST)
    }
}

/// What a level is on the int8 grid.
fn on_grid(level: f32, s_rel: f32) -> f32 {
    (level * s_rel).round_ties_even().clamp(-127.0, 127.0)
}

/// Codes of a row, one to a byte, its groups' scales (E4M3 codes), and its own scale, which is returned.
///
/// # Panics
/// If the lengths do not fit: `codes` as long as `values`, `s_rel` one for each `group`.
pub fn encode_row(
    levels: &Levels,
    group: usize,
    search: ScaleSearch,
    values: &[f32],
    codes: &mut [u8],
    s_rel: &mut [u8],
) -> f32 {
    check(group, values.len(), codes.len(), s_rel.len());
    let mut scales = vec![0.0f32; s_rel.len()];
    let mut most = 0.0f32;
    for ((values, codes), scale) in values.chunks(group).zip(codes.chunks_mut(group)).zip(&mut scales) {
        let amax = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        *scale = levels.first_scale(amax);
        assign(levels, *scale, values, codes);
        for _ in 0..ROUNDS {
            let (mut product, mut square) = (0.0f32, 0.0f32);
            for (value, code) in values.iter().zip(&*codes) {
                let level = levels.level(*code);
                product += value * level;
                square += level * level;
            }
            *scale = (product / square.max(LEAST)).max(LEAST);
            assign(levels, *scale, values, codes);
        }
        most = codes.iter().fold(most, |m, code| m.max((levels.level(*code) * *scale).abs()));
    }
    let s_channel = (most / 127.0).max(LEAST);
    let searched = search == ScaleSearch::Mse || *levels == Levels::Uniform6;
    for (((values, codes), scale), s_rel) in
        values.chunks(group).zip(codes.chunks_mut(group)).zip(scales).zip(s_rel.iter_mut())
    {
        *s_rel = e4m3_of(scale / s_channel);
        let mut least = regrid(levels, e4m3(*s_rel), s_channel, values, codes);
        if searched {
            let mut other = vec![0; codes.len()];
            for tried in [s_rel.saturating_sub(1).max(1), (*s_rel + 1).min(GREATEST)] {
                let error = regrid(levels, e4m3(tried), s_channel, values, &mut other);
                if error < least {
                    (least, *s_rel) = (error, tried);
                    codes.copy_from_slice(&other);
                }
            }
        }
    }
    s_channel
}

fn assign(levels: &Levels, scale: f32, values: &[f32], codes: &mut [u8]) {
    for (code, value) in codes.iter_mut().zip(values) {
        *code = levels.nearest(value / scale);
    }
}

/// The codes nearest on the grid, and their squared error in units of the row's scale.
fn regrid(levels: &Levels, s_rel: f32, s_channel: f32, values: &[f32], codes: &mut [u8]) -> f32 {
    let (first, last) = levels.ends();
    let mut sum = 0.0;
    for (code, value) in codes.iter_mut().zip(values) {
        let target = value / s_channel;
        let off = |code: u8| (on_grid(levels.level(code), s_rel) - target).abs();
        // The grid moves a level by less than the distance of two: the nearest is at hand.
        let mut best = levels.nearest(if s_rel > 0.0 { target / s_rel } else { 0.0 }).clamp(first, last);
        for next in [best.saturating_sub(1).max(first), (best + 1).min(last)] {
            if off(next) < off(best) {
                best = next;
            }
        }
        *code = best;
        sum += off(best) * off(best);
    }
    sum
}

/// The values of a row's codes, one to a byte.
///
/// # Panics
/// If the lengths do not fit.
pub fn decode_row(levels: &Levels, group: usize, codes: &[u8], s_rel: &[u8], s_channel: f32, values: &mut [f32]) {
    check(group, values.len(), codes.len(), s_rel.len());
    for ((values, codes), s_rel) in values.chunks_mut(group).zip(codes.chunks(group)).zip(s_rel) {
        let s_rel = e4m3(*s_rel);
        for (value, code) in values.iter_mut().zip(codes) {
            *value = on_grid(levels.level(*code), s_rel) * s_channel;
        }
    }
}

/// A row's codes as they are stored.
///
/// # Panics
/// If the lengths do not fit.
pub fn pack_row(levels: &Levels, codes: &[u8], bytes: &mut [u8]) {
    assert_eq!(bytes.len(), levels.row_bytes(codes.len()), "bytes of a row");
    let (low, high) = bytes.split_at_mut(codes.len() / 2);
    for (byte, pair) in low.iter_mut().zip(codes.as_chunks::<2>().0) {
        *byte = pair[0] & 15 | pair[1] << 4;
    }
    for (byte, four) in high.iter_mut().zip(codes.as_chunks::<4>().0) {
        *byte = four.iter().rev().fold(0, |byte, code| byte << 2 | (code >> 4 & 3));
    }
}

/// And back.
///
/// # Panics
/// If the lengths do not fit.
pub fn unpack_row(levels: &Levels, bytes: &[u8], codes: &mut [u8]) {
    assert_eq!(bytes.len(), levels.row_bytes(codes.len()), "bytes of a row");
    let (low, high) = bytes.split_at(codes.len() / 2);
    for (byte, pair) in low.iter().zip(codes.as_chunks_mut::<2>().0) {
        *pair = [byte & 15, byte >> 4];
    }
    for (byte, four) in high.iter().zip(codes.as_chunks_mut::<4>().0) {
        for (i, code) in four.iter_mut().enumerate() {
            *code |= (byte >> (2 * i) & 3) << 4;
        }
    }
}

fn check(group: usize, values: usize, codes: usize, scales: usize) {
    assert!(group > 0 && values.is_multiple_of(group), "{values} values in groups of {group}");
    assert_eq!((codes, scales), (values, values / group), "codes and scales of {values} values");
}

fn e4m3(code: u8) -> f32 {
    super::blockfloat::e4m3_value(code)
}

/// The nearest E4M3 code of a magnitude.
fn e4m3_of(magnitude: f32) -> u8 {
    let mut code = [0u8];
    let one = super::Blocks { outer: 1, groups: 1, len: 1, inner: 1 };
    super::minifloat::encode(FloatCode::E4M3FN, one, &[magnitude], &[1.0], &[], &mut code);
    code[0]
}
