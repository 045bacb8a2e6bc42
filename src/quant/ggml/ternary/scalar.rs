//! The formulas, a value at a time and in ggml's order; the lanes are held to them.

use super::super::floats::{from_f16, to_f16};
use super::Kind;

/// One block.
pub(super) fn encode(kind: Kind, x: &[f32], out: &mut [u8]) {
    if kind == Kind::Q1_0 {
        let mut sum = 0.0f32;
        for v in x {
            sum += v.abs();
        }
        out.fill(0);
        out[..2].copy_from_slice(&to_f16(sum / 128.0).to_le_bytes());
        for (j, v) in x.iter().enumerate() {
            out[2 + j / 8] |= u8::from(*v >= 0.0) << (j % 8);
        }
        return;
    }
    let mut amax = 0.0f32;
    for v in x {
        amax = if amax > v.abs() { amax } else { v.abs() };
    }
    let d = to_f16(amax).to_le_bytes();
    let id = if amax != 0.0 { 1.0 / amax } else { 0.0 };
    let digit = |j: usize| {
        let v = (x[j] * id).round();
        // C's lroundf of what is not finite has zeros in its low bits.
        (if v.is_finite() { v as i32 + 1 } else { 1 }) as u16
    };
    match kind {
        Kind::TQ1_0 => {
            let number = |at: usize, stride: usize, digits: usize| {
                (0..digits).fold(0, |q, n| q * 3 + digit(at + n * stride)) * if digits == 4 { 3 } else { 1 }
            };
            let byte = |q: u16| (q * 256).div_ceil(243) as u8;
            for (m, out) in out[..32].iter_mut().enumerate() {
                *out = byte(number(m, 32, 5));
            }
            for (m, out) in out[32..48].iter_mut().enumerate() {
                *out = byte(number(160 + m, 16, 5));
            }
            for (m, out) in out[48..52].iter_mut().enumerate() {
                *out = byte(number(240 + m, 4, 4));
            }
            out[52..].copy_from_slice(&d);
        }
        Kind::TQ2_0 => {
            for (b, byte) in out[..64].iter_mut().enumerate() {
                let at = b / 32 * 128 + b % 32;
                *byte = (0..4).fold(0, |q, n| q | digit(at + 32 * n) << (2 * n)) as u8;
            }
            out[64..].copy_from_slice(&d);
        }
        _ => {
            out[..2].copy_from_slice(&d);
            for (b, byte) in out[2..].iter_mut().enumerate() {
                *byte = (0..4).fold(0, |q, n| q | digit(4 * b + n) << (2 * n)) as u8;
            }
        }
    }
}

/// The values of one block.
pub(super) fn decode(kind: Kind, block: &[u8], out: &mut [f32]) {
    let at = if matches!(kind, Kind::Q1_0 | Kind::Q2_0) { 0 } else { block.len() - 2 };
    let d = from_f16(u16::from_le_bytes([block[at], block[at + 1]]));
    for (j, v) in out.iter_mut().enumerate() {
        let digit = match kind {
            Kind::Q1_0 => {
                *v = if block[2 + j / 8] >> (j % 8) & 1 == 1 { d } else { -d };
                continue;
            }
            Kind::Q2_0 => block[2 + j / 4] >> (2 * (j % 4)) & 3,
            Kind::TQ2_0 => block[j / 128 * 32 + j % 32] >> (2 * (j % 128 / 32)) & 3,
            Kind::TQ1_0 => {
                let (byte, n) = match j {
                    0..160 => (j % 32, j / 32),
                    160..240 => (32 + (j - 160) % 16, (j - 160) / 16),
                    _ => (48 + (j - 240) % 4, (j - 240) / 4),
                };
                let q = block[byte].wrapping_mul(3u8.pow(n as u32));
                ((u16::from(q) * 3) >> 8) as u8
            }
        };
        *v = f32::from(digit as i8 - 1) * d;
    }
}
