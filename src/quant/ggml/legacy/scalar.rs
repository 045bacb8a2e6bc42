//! The formulas, a value at a time and in ggml's order. Tests hold the lanes to them, and lanes leave them the blocks
//! whose scale is zero, subnormal, infinite or not a number.

use super::super::c_int;
#[cfg(test)]
use super::super::floats::from_f16;
use super::super::floats::to_f16;
use super::{BLOCK, Kind};

/// One block without importance.
pub(super) fn encode(kind: Kind, x: &[f32; BLOCK], out: &mut [u8]) {
    match kind {
        Kind::Q4_0 => symmetric(8, x, out),
        Kind::Q5_0 => symmetric(16, x, out),
        Kind::Q4_1 => offset(15, x, out),
        Kind::Q5_1 => offset(31, x, out),
        Kind::Q8_0 => bytes(x, out),
    }
}

/// 1 / d, or 0.
pub(super) fn inverse(d: f32) -> f32 {
    if d != 0.0 { 1.0 / d } else { 0.0 }
}

fn symmetric(half: i32, x: &[f32; BLOCK], out: &mut [u8]) {
    let (mut amax, mut max) = (0.0f32, 0.0f32);
    for &v in x {
        if amax < v.abs() {
            (amax, max) = (v.abs(), v);
        }
    }
    let d = max / -half as f32;
    let id = inverse(d);
    let codes = x.map(|v| i32::from(c_int(v * id + (half as f32 + 0.5)) as i8).min(2 * half - 1) as u8);
    put(out, &[d], &codes, half == 16);
}

fn offset(top: i32, x: &[f32; BLOCK], out: &mut [u8]) {
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &v in x {
        if v < min {
            min = v;
        }
        if v > max {
            max = v;
        }
    }
    let d = (max - min) / top as f32;
    let id = inverse(d);
    let codes = x.map(|v| {
        let q = c_int((v - min) * id + 0.5);
        // Four bits are capped as signed bytes; five are cut.
        if top == 15 { i32::from(q as i8).min(15) as u8 } else { q as u8 & 31 }
    });
    put(out, &[d, min], &codes, top == 31);
}

fn bytes(x: &[f32; BLOCK], out: &mut [u8]) {
    let mut amax = 0.0f32;
    for v in x {
        amax = if amax > v.abs() { amax } else { v.abs() };
    }
    let d = amax / 127.0;
    let id = inverse(d);
    out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
    for (q, v) in out[2..].iter_mut().zip(x) {
        *q = c_int((v * id).round()) as u8;
    }
}

/// The bytes of a block: scales, fifth bits, nibbles.
#[inline(always)]
pub(super) fn put(out: &mut [u8], scales: &[f32], codes: &[u8; BLOCK], five: bool) {
    for (out, scale) in out.as_chunks_mut::<2>().0.iter_mut().zip(scales) {
        *out = to_f16(*scale).to_le_bytes();
    }
    let out = &mut out[2 * scales.len()..];
    let out = if five {
        let (high, rest) = out.split_at_mut(4);
        for (byte, codes) in high.iter_mut().zip(codes.as_chunks::<8>().0) {
            // The fifth bit of each byte, gathered by a product whose terms do not meet.
            let bits = u64::from_le_bytes(*codes) >> 4 & 0x0101_0101_0101_0101;
            *byte = (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
        }
        rest
    } else {
        out
    };
    let (low, high) = codes.split_at(BLOCK / 2);
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = low & 15 | high << 4;
    }
}

/// Whole rows with importance.
#[cfg(test)]
pub(super) fn encode_weighted(kind: Kind, values: &[f32], importance: &[f32], out: &mut [u8]) {
    use super::super::search;
    let mut out = out.chunks_exact_mut(kind.block_bytes());
    for row in values.chunks_exact(importance.len()) {
        let mut sum = 0.0f32;
        for x in row {
            sum += x * x;
        }
        let mean = sum / row.len() as f32;
        let blocks = row.as_chunks::<BLOCK>().0.iter().zip(importance.as_chunks::<BLOCK>().0);
        for ((x, importance), out) in blocks.zip(&mut out) {
            let weights: [f32; BLOCK] = std::array::from_fn(|i| importance[i] * (mean + x[i] * x[i]).sqrt());
            let mut codes = [0; BLOCK];
            let mut offset = |top| {
                let (d, min) = search::affine(super::search::steps(top), x, &weights, &mut codes);
                [d, -min]
            };
            match kind {
                Kind::Q4_0 | Kind::Q5_0 => {
                    let five = kind == Kind::Q5_0;
                    let d = search::symmetric(if five { 16 } else { 8 }, x, &weights, &mut codes);
                    put(out, &[d], &codes, five);
                }
                Kind::Q4_1 => {
                    let scales = offset(15);
                    put(out, &scales, &codes, false);
                }
                Kind::Q5_1 => {
                    let scales = offset(31);
                    put(out, &scales, &codes, true);
                }
                Kind::Q8_0 => encode(kind, x, out),
            }
        }
    }
}

/// The values of one block.
#[cfg(test)]
pub(super) fn decode(kind: Kind, block: &[u8], out: &mut [f32; BLOCK]) {
    let half = |at: usize| from_f16(u16::from_le_bytes([block[at], block[at + 1]]));
    let d = half(0);
    if kind == Kind::Q8_0 {
        for (v, q) in out.iter_mut().zip(&block[2..]) {
            *v = f32::from(*q as i8) * d;
        }
        return;
    }
    let offset = matches!(kind, Kind::Q4_1 | Kind::Q5_1);
    let five = matches!(kind, Kind::Q5_0 | Kind::Q5_1);
    let m = if offset { half(2) } else { 0.0 };
    let fifth = &block[if offset { 4 } else { 2 }..];
    let nibbles = &block[block.len() - BLOCK / 2..];
    for (j, v) in out.iter_mut().enumerate() {
        let nibble = if j < 16 { nibbles[j] & 15 } else { nibbles[j - 16] >> 4 };
        let high = if five { (fifth[j / 8] >> (j % 8) & 1) << 4 } else { 0 };
        let q = i32::from(nibble | high);
        *v = match (offset, five) {
            (true, _) => q as f32 * d + m,
            (false, true) => (q - 16) as f32 * d,
            (false, false) => (q - 8) as f32 * d,
        };
    }
}
