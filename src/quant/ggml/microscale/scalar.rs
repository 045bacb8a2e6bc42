//! The formulas, a value at a time and in ggml's order. Tests hold the lanes to them, and lanes leave them the blocks
//! whose scale is out of the ordinary.

use super::super::c_int;

/// Twice what the codes stand for.
pub(super) const VALUES: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// The exponent for a largest magnitude of `amax`.
///
/// ggml takes log2 in f32, which rounds up to a whole number just below a power of two; so does f64's, rounded to f32.
pub(super) fn exponent(amax: f32) -> u8 {
    if amax > 0.0 { c_int((f64::from(amax).log2() as f32).floor() - 2.0 + 127.0) as u8 } else { 0 }
}

/// Half of 2^(e - 127); subnormal where e < 2.
pub(super) fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}

/// The E4M3 code of a scale, without a sign.
pub(super) fn to_ue4m3(v: f32) -> u8 {
    if v.is_nan() || v <= 0.0 {
        return 0;
    }
    let v = v.min(448.0);
    let bits = v.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return c_int(v * 512.0 + 0.5).min(7) as u8;
    }
    // Three bits of mantissa, the next rounds; a carry goes into the exponent by itself.
    let code = (exponent << 3 | (bits >> 20 & 7) as i32) + (bits >> 19 & 1) as i32;
    if exponent >= 15 || code >= 15 << 3 { 0x7e } else { code as u8 }
}

/// Half the value of an E4M3 code.
#[inline(always)]
pub(super) fn half_ue4m3(code: u8) -> f32 {
    if code == 0 || code == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = (u32::from(code >> 3 & 15), u32::from(code & 7));
    let subnormal = mantissa as f32 * (1.0 / 512.0);
    let normal = f32::from_bits((exponent + 120) << 23 | mantissa << 20);
    (if exponent == 0 { subnormal } else { normal }) * 0.5
}

/// The code of the value nearest to `x` under half a scale, the first of several.
fn nearest(x: f32, d: f32) -> u8 {
    let (mut best, mut least) = (0, (VALUES[0] * d - x).abs());
    for (code, value) in VALUES.iter().enumerate() {
        let error = (value * d - x).abs();
        if error < least {
            (best, least) = (code as u8, error);
        }
    }
    best
}

/// The largest magnitude; NaN is skipped.
fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |amax, v| if amax < v.abs() { v.abs() } else { amax })
}

/// A block of MXFP4.
pub(super) fn mxfp4(x: &[f32; 32], out: &mut [u8; 17]) {
    let e = exponent(largest(x));
    out[0] = e;
    for j in 0..16 {
        out[1 + j] = nearest(x[j], half_power(e)) | nearest(x[j + 16], half_power(e)) << 4;
    }
}

/// Sixteen values of NVFP4: a scale and eight bytes.
pub(super) fn nvfp4(x: &[f32; 16]) -> (u8, [u8; 8]) {
    let scale = to_ue4m3(largest(x) / 6.0);
    let d = half_ue4m3(scale);
    (scale, std::array::from_fn(|j| nearest(x[j], d) | nearest(x[j + 8], d) << 4))
}
