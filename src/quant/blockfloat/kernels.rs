//! NVFP4 in lanes.
use super::super::simd::{self, LANES, Simd};
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

/// The value of an E4M3 code without its sign.
#[inline(always)]
pub(super) fn e4m3_value(code: u8) -> f32 {
    let code = u32::from(code & 0x7f);
    if code < 8 { code as f32 * 0.001953125 } else { f32::from_bits((code << 20) + (120 << 23)) }
}

/// NVFP4 codes and scales; with `SEARCH`, the scale with the least squared error among those near. A lane is a block.
pub(super) struct EncodeFours<'a, const SEARCH: bool> {
    pub tensor: f32,
    pub values: &'a [f32],
    pub codes: &'a mut [u8],
    pub scales: &'a mut [u8],
}

/// The values of sixteen blocks: `columns[i]` has the `i`th of each.
type Columns = [[f32; LANES]; NVFP4_BLOCK];

impl<const SEARCH: bool> simd::Kernel for EncodeFours<'_, SEARCH> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (blocks, codes) = (self.values.as_chunks::<NVFP4_BLOCK>().0, self.codes.as_chunks_mut::<8>().0);
        let mut columns = [[0.0; LANES]; NVFP4_BLOCK];
        for ((blocks, codes), scales) in
            blocks.chunks(LANES).zip(codes.chunks_mut(LANES)).zip(self.scales.chunks_mut(LANES))
        {
            if blocks.len() == LANES {
                s.transpose(blocks.as_flattened(), NVFP4_BLOCK, &mut columns);
            } else {
                // The last few, and blocks of zeros beside them.
                let mut padded = [[0.0; NVFP4_BLOCK]; LANES];
                padded[..blocks.len()].copy_from_slice(blocks);
                s.transpose(padded.as_flattened(), NVFP4_BLOCK, &mut columns);
            }
            let fits = fitting(s, &columns, self.tensor);
            let scale = if SEARCH { searched(s, &columns, self.tensor, fits) } else { fits };
            let mut found = [0; LANES];
            s.store_bytes(scale, &mut found);
            scales.copy_from_slice(&found[..scales.len()]);
            let total = s.mul(s.splat(self.tensor), e4m3_values(s, scale));
            for (half, columns) in columns.as_chunks::<8>().0.iter().enumerate() {
                let words = four_bytes(s, columns, total);
                for (bytes, word) in codes.iter_mut().zip(words) {
                    bytes[half * 4..half * 4 + 4].copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
}

/// The codes of the scales that fit the greatest value of each block.
#[inline(always)]
fn fitting<S: Simd>(s: S, columns: &Columns, tensor: f32) -> S::I {
    let mut most = s.zero();
    for column in columns {
        most = s.max(s.abs(s.load(column)), most);
    }
    // Of a tensor of zeros this is 0/0, which is no more than 0: code 0.
    let wanted = s.div(s.div(most, s.splat(MOST)), s.splat(tensor));
    e4m3(s, s.min(s.max(wanted, s.zero()), s.splat(448.0)))
}

/// The E4M3 codes of magnitudes of at most 448, rounded half to even.
#[inline(always)]
fn e4m3<S: Simd>(s: S, magnitude: S::F) -> S::I {
    /// 2^-6, the least with an exponent of its own.
    const NORMAL: f32 = 0.015625;
    /// A float whose last place is 2^-9, the step below that.
    const STEPS: f32 = 16384.0;
    let bits = s.bits(magnitude);
    let odd = s.and_i(s.shr::<20>(bits), s.splat_i(1));
    let normal = s.shr::<20>(s.add_i(s.add_i(bits, odd), s.splat_i(0x7_ffff - (120 << 23))));
    let subnormal = s.sub_i(s.bits(s.add(magnitude, s.splat(STEPS))), s.splat_i(STEPS.to_bits() as i32));
    s.select_i(s.lt(magnitude, s.splat(NORMAL)), subnormal, normal)
}

/// What [`e4m3_value`] says of each.
#[inline(always)]
fn e4m3_values<S: Simd>(s: S, code: S::I) -> S::F {
    let low = s.mul(s.to_float(code), s.splat(0.001953125));
    let high = s.from_bits(s.add_i(s.shl::<20>(code), s.splat_i(120 << 23)));
    s.select(s.gt_i(s.splat_i(8), code), low, high)
}

/// The step of E2M1 codes at a magnitude, as the float whose last place it is: below 2 a half, below 4 one, then two.
#[inline(always)]
fn steps<S: Simd>(s: S, magnitude: S::F) -> S::F {
    let (two, four) = (s.lt(magnitude, s.splat(2.0)), s.lt(magnitude, s.splat(4.0)));
    s.select(four, s.select(two, s.splat(HALVES), s.splat(HALVES * 2.0)), s.splat(HALVES * 4.0))
}

/// A float whose last place is 1/2.
const HALVES: f32 = 6_291_456.0;

/// The E2M1 codes of quotients: the nearest, of two equally near the even one; the sign is kept even of a zero.
///
/// Below 2 the codes are the halves, 0 to 3; below 4 the ones and two more, 4 and 5; then the twos and four more, 6 and 7.
/// A sum with a float whose last place is such a step has their number in its last bits, rounded half to even.
#[inline(always)]
fn e2m1<S: Simd>(s: S, quotient: S::F) -> S::I {
    // No number has code 0.
    let m = s.max(s.abs(quotient), s.zero());
    let steps = steps(s, m);
    // The exponent of the steps, above that of halves, is how often two more are to be added.
    let more = s.shr::<22>(s.sub_i(s.bits(steps), s.splat_i(HALVES.to_bits() as i32)));
    let code = s.add_i(s.sub_i(s.bits(s.add(m, steps)), s.bits(steps)), more);
    let sign = s.and_i(s.shr::<28>(s.bits(quotient)), s.splat_i(8));
    s.or_i(s.min_i(code, s.splat_i(7)), sign)
}

/// The codes of half of each block for the products of their scales, two in a byte, the first in its high half.
#[inline(always)]
fn four_bytes<S: Simd>(s: S, half: &[[f32; LANES]; 8], total: S::F) -> [i32; LANES] {
    let mut word = s.splat_i(0);
    for pair in half.as_chunks::<2>().0.iter().rev() {
        let first = e2m1(s, s.div(s.load(&pair[0]), total));
        let second = e2m1(s, s.div(s.load(&pair[1]), total));
        word = s.or_i(s.shl::<8>(word), s.or_i(s.shl::<4>(first), second));
    }
    let word = s.select_i(s.eq(total, s.zero()), s.splat_i(0), word);
    let mut words = [0; LANES];
    s.store_i(word, &mut words);
    words
}

/// What the codes of each block are off by for the product of its scales, squared and summed.
#[inline(always)]
fn errors<S: Simd>(s: S, columns: &Columns, total: S::F) -> S::F {
    let mut errors = [s.zero(); NVFP4_BLOCK];
    for (error, column) in errors.iter_mut().zip(columns) {
        let magnitude = s.abs(s.load(column));
        let quotient = s.div(magnitude, total);
        let steps = steps(s, quotient);
        let nearest = s.min(s.sub(s.add(quotient, steps), steps), s.splat(MOST));
        let off = s.sub(magnitude, s.mul(nearest, total));
        *error = s.mul(off, off);
    }
    let mut n = NVFP4_BLOCK;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            errors[i] = s.add(errors[i], errors[i + n]);
        }
    }
    errors[0]
}

/// How far below the scale that fits the greatest value a better one is looked for, in codes: an E4M3 code is a step of
/// 1/8 to 1/16, and E2M1 codes repeat themselves at half the scale, eight codes below.
const LOWER: i32 = 7;
/// And how far above it.
const HIGHER: i32 = 2;

/// The scales with the least squared error among those near the ones that fit.
#[inline(always)]
fn searched<S: Simd>(s: S, columns: &Columns, tensor: f32, first: S::I) -> S::I {
    let tensor = s.splat(tensor);
    let (mut best, mut least) = (first, errors(s, columns, s.mul(tensor, e4m3_values(s, first))));
    // A block of zeros has none to look for.
    let some = s.gt_i(first, s.splat_i(0));
    for by in -LOWER..=HIGHER {
        let tried = s.add_i(first, s.splat_i(by));
        let is_code = s.and_m(s.gt_i(tried, s.splat_i(0)), s.gt_i(s.splat_i(0x7f), tried));
        let error = errors(s, columns, s.mul(tensor, e4m3_values(s, tried)));
        let better = s.and_m(s.and_m(some, is_code), s.lt(error, least));
        least = s.select(better, error, least);
        best = s.select_i(better, tried, best);
    }
    best
}

/// The values of E2M1 codes.
const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The values of NVFP4 codes.
pub(super) struct DecodeFours<'a> {
    pub tensor: f32,
    pub codes: &'a [u8],
    pub scales: &'a [u8],
    pub values: &'a mut [f32],
}

impl simd::Kernel for DecodeFours<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        /// Bytes of a block's codes.
        const BYTES: usize = NVFP4_BLOCK / 2;
        let (mut codes, mut totals) = ([[0; NVFP4_BLOCK]; LANES], [0.0; LANES]);
        let blocks = self.values.as_chunks_mut::<NVFP4_BLOCK>().0.chunks_mut(LANES);
        for ((blocks, bytes), scales) in blocks.zip(self.codes.chunks(LANES * BYTES)).zip(self.scales.chunks(LANES)) {
            let pairs = codes.as_flattened_mut().as_chunks_mut::<2>().0;
            for (pair, byte) in pairs.iter_mut().zip(bytes) {
                *pair = [byte >> 4, byte & 15];
            }
            let mut stored = [0; LANES];
            stored[..scales.len()].copy_from_slice(scales);
            // A scale has no sign that would count.
            let scale = e4m3_values(s, s.and_i(s.load_bytes(&stored), s.splat_i(0x7f)));
            s.store(s.mul(s.splat(self.tensor), scale), &mut totals);
            for ((values, codes), total) in blocks.iter_mut().zip(&codes).zip(&totals) {
                s.store(s.mul(s.lookup(&VALUES, s.load_bytes(codes)), s.splat(*total)), values);
            }
        }
    }
}
