//! Float codes with a scale per block of a row, as NVIDIA's tensor cores take them: NVFP4 and MXFP8.
//!
//! | | codes | block | scale of a block | scale of the tensor |
//! |---|---|---|---|---|
//! | NVFP4 | E2M1: ±0, 0.5, 1, 1.5, 2, 3, 4, 6 | 16 | E4M3 | F32: `amax / (448 * 6)` |
//! | MXFP8 | E4M3, up to 448 | 32 | E8M0, a power of two | none |
//!
//! The formulas are comfy-kitchen 0.2's (`backends/eager/quantization.py`), and so are the bytes, for every input that is
//! finite:
//!
//! * NVFP4: the scale of a block is `min(amax / 6 / tensor, 448)`, rounded to E4M3; a code is the nearest to
//!   `w / (tensor * scale)`, of two equally near the even one; where that product is 0 all codes are 0. Two codes share a
//!   byte, the first in the high half.
//! * MXFP8: the exponent of a block is `ceil(log2(max(amax / 448, 2^-127)))`, its logarithm rounded to F32 as there; a
//!   block of zeros has the exponent's code 0, which also stands for a scale of 0.
//!
//! Scales lie in the order that cuBLAS wants them: [`tiled`] says where.

mod kernels;
#[cfg(test)]
mod tests;

use super::Blocks;
use super::lanes::Level;
use super::minifloat::{self, FloatCode};
use super::simd;
use crate::core::ScaleSearch;
use kernels::{DecodeFours, EncodeFours};

/// Values that share a scale of NVFP4.
pub const NVFP4_BLOCK: usize = 16;
/// Values that share a scale of MXFP8.
pub const MXFP8_BLOCK: usize = 32;
/// Rows of a tile of scales.
pub const TILE_ROWS: usize = 128;
/// Scales of a row in a tile.
pub const TILE_COLS: usize = 4;

/// The greatest E2M1 value times the greatest E4M3 value.
const NVFP4_MAX: f32 = 6.0 * 448.0;

/// The value of an E4M3 code without its sign: what NVFP4's scales are.
pub fn e4m3_value(code: u8) -> f32 {
    kernels::e4m3_value(code)
}

/// Where the scale of row `row` and block `block` lies, in bytes, when rows have `blocks` scales, rounded up to a multiple
/// of [`TILE_COLS`]: tiles of 128 rows by 4 scales, in each of which rows 32 apart are neighbours.
pub fn tiled(row: usize, block: usize, blocks: usize) -> usize {
    let tile = (row / TILE_ROWS) * (blocks / TILE_COLS) + block / TILE_COLS;
    tile * TILE_ROWS * TILE_COLS + (row % 32) * 16 + (row % TILE_ROWS) / 32 * TILE_COLS + block % TILE_COLS
}

/// NVFP4's scale of a whole tensor whose greatest magnitude is `amax`.
pub fn nvfp4_tensor_scale(amax: f32) -> f32 {
    amax / NVFP4_MAX
}

/// NVFP4 codes and scales of whole blocks: `codes` has a byte for two values, `scales` an E4M3 code for sixteen.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn encode_nvfp4(search: ScaleSearch, tensor_scale: f32, values: &[f32], codes: &mut [u8], scales: &mut [u8]) {
    encode_nvfp4_at(Level::best(), search, tensor_scale, values, codes, scales);
}

fn encode_nvfp4_at(
    level: Level,
    search: ScaleSearch,
    tensor: f32,
    values: &[f32],
    codes: &mut [u8],
    scales: &mut [u8],
) {
    check(values.len(), NVFP4_BLOCK, codes.len() * 2, scales.len());
    match search {
        ScaleSearch::Absmax => simd::run(level, EncodeFours::<false> { tensor, values, codes, scales }),
        ScaleSearch::Mse => simd::run(level, EncodeFours::<true> { tensor, values, codes, scales }),
    }
}

/// The values of NVFP4 codes: `code * (tensor_scale * scale)`.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn decode_nvfp4(tensor_scale: f32, codes: &[u8], scales: &[u8], values: &mut [f32]) {
    decode_nvfp4_at(Level::best(), tensor_scale, codes, scales, values);
}

fn decode_nvfp4_at(level: Level, tensor: f32, codes: &[u8], scales: &[u8], values: &mut [f32]) {
    check(values.len(), NVFP4_BLOCK, codes.len() * 2, scales.len());
    simd::run(level, DecodeFours { tensor, codes, scales, values });
}

/// MXFP8 codes and exponents of whole blocks.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn encode_mxfp8(search: ScaleSearch, values: &[f32], codes: &mut [u8], scales: &mut [u8]) {
    check(values.len(), MXFP8_BLOCK, codes.len(), scales.len());
    let mut factors: Vec<f32> = Vec::with_capacity(scales.len());
    for (scale, block) in scales.iter_mut().zip(values.as_chunks::<MXFP8_BLOCK>().0) {
        *scale = exponent(kernels::greatest(block));
        // Where the exponent's code stands for 0, quotients are infinite and saturate, but for a block of zeros.
        factors.push(if *scale == 0 && block.iter().all(|v| *v == 0.0) { 1.0 } else { power(*scale) });
    }
    let blocks = Blocks { outer: scales.len(), groups: 1, len: MXFP8_BLOCK, inner: 1 };
    minifloat::encode(FloatCode::E4M3FN, blocks, values, &factors, &[], codes);
    if search == ScaleSearch::Mse {
        lower_exponents(values, codes, scales);
    }
}

/// Takes the exponent below where that costs less: the greatest value is cut, and all others have a bit more.
fn lower_exponents(values: &[f32], codes: &mut [u8], scales: &mut [u8]) {
    let one = Blocks { outer: 1, groups: 1, len: MXFP8_BLOCK, inner: 1 };
    let blocks = values.as_chunks::<MXFP8_BLOCK>().0.iter().zip(codes.as_chunks_mut::<MXFP8_BLOCK>().0);
    for ((values, codes), scale) in blocks.zip(scales) {
        // Below 2 nothing can be told from 0.
        if *scale < 2 {
            continue;
        }
        let error = |codes: &[u8], scale: f32| {
            let mut back = [0.0; MXFP8_BLOCK];
            minifloat::decode(FloatCode::E4M3FN, one, codes, &[scale], &[], &mut back);
            values.iter().zip(back).map(|(v, b)| f64::from(v - b).powi(2)).sum::<f64>()
        };
        let (now, below) = (power(*scale), power(*scale - 1));
        let mut tried = [0; MXFP8_BLOCK];
        minifloat::encode(FloatCode::E4M3FN, one, values, &[below], &[], &mut tried);
        if error(&tried, below) < error(codes, now) {
            *codes = tried;
            *scale -= 1;
        }
    }
}

/// The values of MXFP8 codes.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn decode_mxfp8(codes: &[u8], scales: &[u8], values: &mut [f32]) {
    check(values.len(), MXFP8_BLOCK, codes.len(), scales.len());
    let factors: Vec<f32> = scales.iter().map(|s| power(*s)).collect();
    let blocks = Blocks { outer: scales.len(), groups: 1, len: MXFP8_BLOCK, inner: 1 };
    minifloat::decode(FloatCode::E4M3FN, blocks, codes, &factors, &[], values);
}

fn check(values: usize, block: usize, codes: usize, scales: usize) {
    assert!(values.is_multiple_of(block), "{values} values in blocks of {block}");
    assert_eq!((codes, scales), (values, values / block), "codes and scales of {values} values");
}

/// The power of two of an E8M0 code; 0 for code 0, as comfy-kitchen has it.
fn power(code: u8) -> f32 {
    f32::from_bits(u32::from(code) << 23)
}

/// The exponent's code for a block whose greatest magnitude is `amax`.
fn exponent(amax: f32) -> u8 {
    if amax == 0.0 {
        return 0;
    }
    let needed = (amax / 448.0).max(2f32.powi(-127));
    // Below the normal range there is only 2^-127 itself, and what lies above it.
    let bits = needed.to_bits();
    let (biased, mantissa) = ((bits >> 23) as i32, bits & 0x7f_ffff);
    if biased == 0 {
        return u8::from(mantissa > 1 << 22);
    }
    let up = mantissa > rounded_away(biased - 127);
    (biased + i32::from(up)).clamp(0, 254) as u8
}

/// The greatest mantissa whose logarithm, `k + log2(1 + m / 2^23)` rounded to F32, is still `k`.
///
/// `log2(1 + f)` is `f / ln 2` for such small f; F32 has steps of `2^-23` of the power of two at or below |k|, and above
/// a negative k that is a power of two steps half as large. What is within half a step goes to k.
fn rounded_away(k: i32) -> u32 {
    let size = k.unsigned_abs();
    let Some(log) = size.checked_ilog2() else { return 0 };
    let shrinks = k < 0 && size.is_power_of_two();
    let half_step = f64::from(1u32 << log) / if shrinks { 4.0 } else { 2.0 };
    (half_step * std::f64::consts::LN_2) as u32
}
