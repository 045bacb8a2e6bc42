//! Groups in lanes: sixteen values at a time.
use super::super::lanes::Kernel;
use super::GROUP;

const LANES: usize = 16;
/// Added and taken away again it rounds to whole numbers, half to even, as long as they are far below 2^22.
const ROUND: f32 = 12_582_912.0;
/// Smaller scales that are tried: less 1/32 of the first at a time. 7/8, for a greatest value that becomes -8, is one.
const TRIED: usize = 11;

#[inline(always)]
fn shrunk(step: usize) -> f32 {
    1.0 - step as f32 / 32.0
}

/// See [`super::to_bf16`].
#[inline(always)]
pub(super) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

#[inline(always)]
fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// What the lanes of `f` over a group come to, folded by `g`.
#[inline(always)]
fn fold(values: &[f32; GROUP], start: f32, f: impl Fn(f32, f32) -> f32, g: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    for part in values.as_chunks::<LANES>().0 {
        for (lane, value) in lanes.iter_mut().zip(part) {
            *lane = f(*lane, *value);
        }
    }
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = g(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

/// The sum of the squares of what `off` makes of a group.
#[inline(always)]
fn squares(values: &[f32; GROUP], off: impl Fn(f32) -> f32) -> f32 {
    // All of them before any is added: the compiler then sees one loop, and takes the widest registers for it.
    let mut squares = [0.0; GROUP];
    for (square, value) in squares.iter_mut().zip(values) {
        let off = off(*value);
        *square = off * off;
    }
    fold(&squares, 0.0, |a, b| a + b, |a, b| a + b)
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// The whole number nearest to `value * inverse`, between two others.
#[inline(always)]
fn code(value: f32, inverse: f32, least: f32, most: f32) -> f32 {
    let whole = (value * inverse + ROUND) - ROUND;
    greater(lesser(whole, most), least)
}

/// Signed codes.
pub(super) struct Signed<'a, const SEARCH: bool> {
    pub values: &'a [f32],
    pub codes: &'a mut [u8],
    pub scales: &'a mut [u16],
}

impl<const SEARCH: bool> Kernel for Signed<'_, SEARCH> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let least = if SEARCH { -8.0 } else { -7.0 };
        let groups = self.values.as_chunks::<GROUP>().0.iter().zip(self.codes.as_chunks_mut::<GROUP>().0);
        for ((values, codes), stored) in groups.zip(self.scales) {
            let most = fold(values, 0.0, |a, v| greater(a, v.abs()), greater);
            // Of zeros any scale is right that can be divided by; so it is where the quotient rounds to nothing.
            let first = if most / 7.0 >= f32::MIN_POSITIVE { most / 7.0 } else { 1.0 };
            let mut best = to_bf16(first);
            if SEARCH {
                let mut error = f32::INFINITY;
                for step in 0..TRIED {
                    let bits = to_bf16(first * shrunk(step));
                    let (scale, inverse) = (from_bf16(bits), 1.0 / from_bf16(bits));
                    let sum = squares(values, |v| v - code(v, inverse, least, 7.0) * scale);
                    if sum < error {
                        (error, best) = (sum, bits);
                    }
                }
            }
            let inverse = 1.0 / from_bf16(best);
            for (out, value) in codes.iter_mut().zip(values) {
                *out = code(*value, inverse, least, 7.0) as i32 as u8 & 15;
            }
            *stored = best;
        }
    }
}

/// Unsigned codes.
pub(super) struct Unsigned<'a, const SEARCH: bool> {
    pub values: &'a [f32],
    pub codes: &'a mut [u8],
    pub scales: &'a mut [u16],
    pub zeros: &'a mut [u16],
}

/// Scale and zero point from `low` to `high`, rounded as they are stored.
#[inline(always)]
fn between(low: f32, high: f32) -> (u16, u16) {
    let zero = to_bf16(low);
    let scale = (high - from_bf16(zero)) / 15.0;
    (to_bf16(if scale >= f32::MIN_POSITIVE { scale } else { 1.0 }), zero)
}

impl<const SEARCH: bool> Kernel for Unsigned<'_, SEARCH> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let groups = self.values.as_chunks::<GROUP>().0.iter().zip(self.codes.as_chunks_mut::<GROUP>().0);
        let stored = self.scales.iter_mut().zip(self.zeros);
        for ((values, codes), (scale, zero)) in groups.zip(stored) {
            let low = fold(values, f32::INFINITY, lesser, lesser);
            let high = fold(values, f32::NEG_INFINITY, greater, greater);
            let mut best = between(low, high);
            if SEARCH {
                let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
                let mut error = f32::INFINITY;
                for step in 0..TRIED {
                    let half = half * shrunk(step);
                    let tried = between(middle - half, middle + half);
                    let (scale, zero) = (from_bf16(tried.0), from_bf16(tried.1));
                    let inverse = 1.0 / scale;
                    let sum = squares(values, |v| v - (code(v - zero, inverse, 0.0, 15.0) * scale + zero));
                    if sum < error {
                        (error, best) = (sum, tried);
                    }
                }
            }
            let (bits, zero_bits) = best;
            let (inverse, from) = (1.0 / from_bf16(bits), from_bf16(zero_bits));
            for (out, value) in codes.iter_mut().zip(values) {
                *out = code(value - from, inverse, 0.0, 15.0) as i32 as u8;
            }
            (*scale, *zero) = (bits, zero_bits);
        }
    }
}
