//! NVFP4 in lanes: a block is sixteen of them.
use super::super::lanes::Kernel;
use super::NVFP4_BLOCK;

/// The greatest E2M1 value.
const MOST: f32 = 6.0;

/// The greatest magnitude.
#[inline(always)]
pub(super) fn greatest<const N: usize>(values: &[f32; N]) -> f32 {
    // Halves against each other, so that no long chain of comparisons waits for itself.
    let mut most = values.map(f32::abs);
    let mut n = N;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            most[i] = if most[i + n] > most[i] { most[i + n] } else { most[i] };
        }
    }
    most[0]
}

/// The E4M3 code of a magnitude of at most 448, rounded half to even.
#[inline(always)]
fn e4m3(magnitude: f32) -> u8 {
    /// 2^-6, the least with an exponent of its own.
    const NORMAL: f32 = 0.015625;
    /// A float whose last place is 2^-9, the step below that.
    const STEPS: f32 = 16384.0;
    let bits = magnitude.to_bits();
    let normal = (bits + ((bits >> 20) & 1) + 0x7_ffff).wrapping_sub(120 << 23) >> 20;
    let subnormal = (magnitude + STEPS).to_bits() - STEPS.to_bits();
    (if magnitude < NORMAL { subnormal } else { normal }) as u8
}

/// The value of an E4M3 code without its sign.
#[inline(always)]
pub(super) fn e4m3_value(code: u8) -> f32 {
    let code = u32::from(code & 0x7f);
    if code < 8 { code as f32 * 0.001953125 } else { f32::from_bits((code << 20) + (120 << 23)) }
}

/// The E2M1 code of a quotient: the nearest, of two equally near the even one; the sign is kept even of a zero.
#[inline(always)]
pub(super) fn e2m1(quotient: f32) -> u32 {
    let m = quotient.abs();
    let code = u32::from(m > 0.25)
        + u32::from(m >= 0.75)
        + u32::from(m > 1.25)
        + u32::from(m >= 1.75)
        + u32::from(m > 2.5)
        + u32::from(m >= 3.5)
        + u32::from(m > 5.0);
    code | (quotient.to_bits() >> 28 & 8)
}

/// The codes of a block for the product of its scales.
#[inline(always)]
fn codes_of(values: &[f32; NVFP4_BLOCK], total: f32) -> [u32; NVFP4_BLOCK] {
    if total == 0.0 {
        return [0; NVFP4_BLOCK];
    }
    let mut codes = [0; NVFP4_BLOCK];
    for (code, value) in codes.iter_mut().zip(values) {
        *code = e2m1(value / total);
    }
    codes
}

/// The magnitude that the E2M1 code of a quotient stands for: below 2 the steps are 1/2, below 4 they are 1, then 2, and
/// rounded half to even the multiples of each are the even codes of it.
#[inline(always)]
pub(super) fn e2m1_nearest(quotient: f32) -> f32 {
    /// A float whose last place is 1/2.
    const HALVES: f32 = 6_291_456.0;
    let m = quotient.abs();
    let steps = if m < 2.0 { HALVES } else { HALVES * 2.0 };
    let steps = if m < 4.0 { steps } else { HALVES * 4.0 };
    let nearest = (m + steps) - steps;
    if nearest < MOST { nearest } else { MOST }
}

/// What the codes of a block are off by for the product of its scales, squared and summed.
#[inline(always)]
fn error_of(values: &[f32; NVFP4_BLOCK], total: f32) -> f32 {
    let mut errors = values.map(|v| v * v);
    if total != 0.0 {
        for (error, value) in errors.iter_mut().zip(values) {
            let off = value.abs() - e2m1_nearest(value / total) * total;
            *error = off * off;
        }
    }
    let mut n = NVFP4_BLOCK;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            errors[i] += errors[i + n];
        }
    }
    errors[0]
}

/// How far below the scale that fits the greatest value a better one is looked for, in codes: an E4M3 code is a step of
/// 1/8 to 1/16, and E2M1 codes repeat themselves at half the scale, eight codes below.
const LOWER: u8 = 7;
/// And how far above it.
const HIGHER: u8 = 2;

/// NVFP4 codes and scales; with `SEARCH`, the scale with the least squared error among those near.
pub(super) struct EncodeFours<'a, const SEARCH: bool> {
    pub tensor: f32,
    pub values: &'a [f32],
    pub codes: &'a mut [u8],
    pub scales: &'a mut [u8],
}

impl<const SEARCH: bool> Kernel for EncodeFours<'_, SEARCH> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let blocks = self.values.as_chunks::<NVFP4_BLOCK>().0.iter().zip(self.codes.as_chunks_mut::<8>().0);
        for ((values, bytes), scale) in blocks.zip(self.scales) {
            // Of a tensor of zeros this is 0/0, which is no more than 448 either: code 0.
            let wanted = greatest(values) / MOST / self.tensor;
            let wanted = if wanted > 0.0 { wanted } else { 0.0 };
            *scale = e4m3(if wanted < 448.0 { wanted } else { 448.0 });
            if SEARCH && *scale > 0 {
                let first = *scale;
                let mut least = error_of(values, self.tensor * e4m3_value(first));
                for tried in first.saturating_sub(LOWER).max(1)..=(first + HIGHER).min(0x7e) {
                    let error = error_of(values, self.tensor * e4m3_value(tried));
                    if error < least {
                        (least, *scale) = (error, tried);
                    }
                }
            }
            let codes = codes_of(values, self.tensor * e4m3_value(*scale)).map(|code| code as u8);
            let (low, high) = codes.split_at(8);
            for (bytes, eight) in bytes.as_chunks_mut::<4>().0.iter_mut().zip([low, high]) {
                *bytes = packed(eight);
            }
        }
    }
}

/// Eight codes in four bytes, the first of each two in the high half: as one number, whose bytes are moved together.
#[inline(always)]
fn packed(codes: &[u8]) -> [u8; 4] {
    let mut eight = [0; 8];
    eight.copy_from_slice(codes);
    let all = u64::from_le_bytes(eight);
    let pairs = (all << 4 | all >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    ((fours | fours >> 16) as u32).to_le_bytes()
}

/// The two values of each byte.
const PAIRS: [[f32; 2]; 256] = {
    const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
    let mut out = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        out[byte] = [VALUES[byte >> 4], VALUES[byte & 15]];
        byte += 1;
    }
    out
};

/// The values of NVFP4 codes.
pub(super) struct DecodeFours<'a> {
    pub tensor: f32,
    pub codes: &'a [u8],
    pub scales: &'a [u8],
    pub values: &'a mut [f32],
}

impl Kernel for DecodeFours<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let blocks = self.values.as_chunks_mut::<NVFP4_BLOCK>().0.iter_mut().zip(self.codes.as_chunks::<8>().0);
        for ((values, bytes), scale) in blocks.zip(self.scales) {
            let total = self.tensor * e4m3_value(*scale);
            let mut block = [0.0; NVFP4_BLOCK];
            for (pair, byte) in block.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                *pair = PAIRS[usize::from(*byte)];
            }
            *values = block.map(|value| value * total);
        }
    }
}
