//! The loops of [`affine`](super), written for the vectorizer.
//!
//! A contiguous block (`inner == 1`) of a usual length is walked with that length as a constant; 16 and 32 are better
//! left to the general loop, whose remainder the vectorizer handles, than written out.
//! With `inner > 1` the scales of a block are repeated into a strip as long as a few rows of it,
//! so that the loops stay long even for a 3x3 convolution's nine positions.

use super::super::lanes::Kernel;
use super::super::{Blocks, Word};
use super::{IntCode, Range};

/// Adding and taking away 1.5 · 2^23 rounds half to even, and leaves the integer in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;
/// Values in a strip.
const STRIP: usize = 512;

/// Run a `[const LEN]` method with `LEN` a usual block length, or 0 for any.
macro_rules! by_length {
    ($len:expr, $self:ident . $method:ident) => {
        match $len {
            8 => $self.$method::<8>(),
            64 => $self.$method::<64>(),
            128 => $self.$method::<128>(),
            256 => $self.$method::<256>(),
            _ => $self.$method::<0>(),
        }
    };
}
pub(in crate::quant) use by_length;

/// The bits of a float as an integer that orders as the float does, with `-0.0 < 0.0`. Its own inverse.
#[inline(always)]
fn key(bits: i32) -> i32 {
    bits ^ ((bits >> 31) & i32::MAX)
}

#[inline(always)]
fn key_of(value: f32) -> i32 {
    key(value.to_bits() as i32)
}

#[inline(always)]
fn of_key(bits: i32) -> f32 {
    f32::from_bits(key(bits) as u32)
}

/// The bits of the absolute value, which order as it does.
#[inline(always)]
fn magnitude(value: f32) -> i32 {
    (value.to_bits() & 0x7fff_ffff) as i32
}

/// The lesser of two, -0.0 below 0.0.
#[inline(always)]
pub(super) fn least(a: f32, b: f32) -> f32 {
    of_key(key_of(a).min(key_of(b)))
}

/// The greater of two, -0.0 below 0.0.
#[inline(always)]
pub(super) fn greatest(a: f32, b: f32) -> f32 {
    of_key(key_of(a).max(key_of(b)))
}

/// Integers, not floats, are compared: their minimum does not depend on the order, so the compiler may use lanes.
#[inline(always)]
fn range(values: &[f32]) -> Range {
    let (mut min, mut max) = (key_of(f32::INFINITY), key_of(f32::NEG_INFINITY));
    for &value in values {
        min = min.min(key_of(value));
        max = max.max(key_of(value));
    }
    Range { min: of_key(min), max: of_key(max) }
}

#[inline(always)]
fn greatest_magnitude(values: &[f32]) -> f32 {
    let mut max = 0;
    for &value in values {
        max = max.max(magnitude(value));
    }
    f32::from_bits(max as u32)
}

/// [`Range::of`].
pub(super) struct Extent<'a> {
    pub values: &'a [f32],
}

impl Kernel for Extent<'_> {
    type Output = Range;
    #[inline(always)]
    fn run(self) -> Range {
        range(self.values)
    }
}

/// Whether no value is NaN or infinite.
pub(super) struct Finite<'a> {
    pub values: &'a [f32],
}

impl Kernel for Finite<'_> {
    type Output = bool;
    #[inline(always)]
    fn run(self) -> bool {
        greatest_magnitude(self.values).is_finite()
    }
}

/// [`scales`](super::scales) for codes whose greatest value is `top`.
pub(in crate::quant) struct Scales<'a, const SIGNED: bool> {
    pub top: f32,
    pub blocks: Blocks,
    pub values: &'a [f32],
    pub scale: &'a mut [f32],
    pub zero_point: &'a mut [f32],
}

impl<const SIGNED: bool> Scales<'_, SIGNED> {
    #[inline(always)]
    fn contiguous<const LEN: usize>(self) {
        let len = if LEN > 0 { LEN } else { self.blocks.len };
        let top = self.top;
        let blocks = self.values.chunks_exact(len);
        if SIGNED {
            for (block, scale) in blocks.zip(self.scale) {
                *scale = greatest_magnitude(block) / top;
            }
        } else {
            for ((block, scale), zero_point) in blocks.zip(self.scale).zip(self.zero_point) {
                let range = range(block);
                *zero_point = range.min;
                *scale = (range.max - range.min) / top;
            }
        }
    }

    /// The extremes at a strip's positions are gathered first, then folded to those at the `inner` positions.
    #[inline(always)]
    fn strided(self) {
        let Blocks { len, inner, .. } = self.blocks;
        let width = strip_width(self.blocks);
        // Keys, or where codes are signed, magnitudes and no least.
        let (mut min, mut max) = (vec![i32::MAX; width], vec![i32::MIN; width]);
        for (i, (block, scale)) in
            self.values.chunks_exact(len * inner).zip(self.scale.chunks_exact_mut(inner)).enumerate()
        {
            min.fill(i32::MAX);
            max.fill(i32::MIN);
            for strip in block.chunks(width) {
                if SIGNED {
                    for (&value, max) in strip.iter().zip(&mut max) {
                        *max = magnitude(value).max(*max);
                    }
                } else {
                    for ((&value, min), max) in strip.iter().zip(&mut min).zip(&mut max) {
                        *min = key_of(value).min(*min);
                        *max = key_of(value).max(*max);
                    }
                }
            }
            for (position, scale) in scale.iter_mut().enumerate() {
                let positions = || (position..width).step_by(inner);
                let greatest = positions().fold(i32::MIN, |most, at| most.max(max[at]));
                if SIGNED {
                    *scale = f32::from_bits(greatest as u32) / self.top;
                } else {
                    let least = of_key(positions().fold(i32::MAX, |least, at| least.min(min[at])));
                    self.zero_point[i * inner + position] = least;
                    *scale = (of_key(greatest) - least) / self.top;
                }
            }
        }
    }
}

impl<const SIGNED: bool> Kernel for Scales<'_, SIGNED> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        if self.values.is_empty() {
            self.scale.fill(0.0);
            self.zero_point.fill(0.0);
        } else if self.blocks.inner == 1 {
            by_length!(self.blocks.len, self.contiguous)
        } else {
            self.strided()
        }
    }
}

/// The ends of a code range as floats, and what turns a code into a word.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    min: f32,
    max: f32,
    offset: u32,
}

impl Ends {
    /// `offset` is taken from a code for its word.
    pub fn of(code: IntCode, offset: i32) -> Self {
        Self { min: code.min() as f32, max: code.max() as f32, offset: offset as u32 }
    }
}

/// Clamping before rounding is the same as after, since the ends are integers, and keeps the sum within 2^22.
#[inline(always)]
fn code_of<W: Word, const SIGNED: bool>(value: f32, scale: f32, zero_point: f32, ends: Ends) -> W {
    let mut t = if SIGNED { value / scale } else { (value - zero_point) / scale };
    if SIGNED && t.is_nan() {
        t = 0.0;
    }
    // These comparisons send NaN to the lower end, which is 0 when unsigned.
    t = if t > ends.min { t } else { ends.min };
    t = if t < ends.max { t } else { ends.max };
    W::of((t + ROUND).to_bits().wrapping_sub(ends.offset))
}

#[inline(always)]
fn value_of<W: Word, const SIGNED: bool>(code: W, scale: f32, zero_point: f32, (turn, min): (u32, i32)) -> f32 {
    if SIGNED {
        ((code.code() ^ turn) as i32 + min) as f32 * scale
    } else {
        zero_point + code.code() as i32 as f32 * scale
    }
}

/// [`encode`](super::encode).
pub(super) struct Encode<'a, W, const SIGNED: bool> {
    pub ends: Ends,
    pub blocks: Blocks,
    pub values: &'a [f32],
    pub scale: &'a [f32],
    pub zero_point: &'a [f32],
    pub codes: &'a mut [W],
}

impl<W: Word, const SIGNED: bool> Encode<'_, W, SIGNED> {
    #[inline(always)]
    fn contiguous<const LEN: usize>(self) {
        let len = if LEN > 0 { LEN } else { self.blocks.len };
        let ends = self.ends;
        let blocks = self.values.chunks_exact(len).zip(self.codes.chunks_exact_mut(len));
        for (i, ((values, codes), &scale)) in blocks.zip(self.scale).enumerate() {
            let zero_point = if SIGNED { 0.0 } else { self.zero_point[i] };
            for (code, &value) in codes.iter_mut().zip(values) {
                *code = code_of::<W, SIGNED>(value, scale, zero_point, ends);
            }
        }
    }

    #[inline(always)]
    fn strided(self) {
        let Blocks { len, inner, .. } = self.blocks;
        let ends = self.ends;
        let mut strips = Strips::new(self.blocks);
        let blocks = self.values.chunks_exact(len * inner).zip(self.codes.chunks_exact_mut(len * inner));
        for (i, (values, codes)) in blocks.enumerate() {
            let (scale, zero_point) = strips.repeat::<SIGNED>(i, self.scale, self.zero_point);
            for (values, codes) in values.chunks(scale.len()).zip(codes.chunks_mut(scale.len())) {
                for (((code, &value), &scale), &zero_point) in codes.iter_mut().zip(values).zip(scale).zip(zero_point) {
                    *code = code_of::<W, SIGNED>(value, scale, zero_point, ends);
                }
            }
        }
    }
}

impl<W: Word, const SIGNED: bool> Kernel for Encode<'_, W, SIGNED> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        if self.values.is_empty() {
        } else if self.blocks.inner == 1 {
            by_length!(self.blocks.len, self.contiguous)
        } else {
            self.strided()
        }
    }
}

/// [`decode`](super::decode).
pub(super) struct Decode<'a, W, const SIGNED: bool> {
    /// What a word is turned by, and then moved by, to be a signed code.
    pub back: (u32, i32),
    pub blocks: Blocks,
    pub codes: &'a [W],
    pub scale: &'a [f32],
    pub zero_point: &'a [f32],
    pub values: &'a mut [f32],
}

impl<W: Word, const SIGNED: bool> Decode<'_, W, SIGNED> {
    #[inline(always)]
    fn contiguous<const LEN: usize>(self) {
        let len = if LEN > 0 { LEN } else { self.blocks.len };
        let back = self.back;
        let blocks = self.values.chunks_exact_mut(len).zip(self.codes.chunks_exact(len));
        for (i, ((values, codes), &scale)) in blocks.zip(self.scale).enumerate() {
            let zero_point = if SIGNED { 0.0 } else { self.zero_point[i] };
            for (value, &code) in values.iter_mut().zip(codes) {
                *value = value_of::<W, SIGNED>(code, scale, zero_point, back);
            }
        }
    }

    #[inline(always)]
    fn strided(self) {
        let Blocks { len, inner, .. } = self.blocks;
        let back = self.back;
        let mut strips = Strips::new(self.blocks);
        let blocks = self.values.chunks_exact_mut(len * inner).zip(self.codes.chunks_exact(len * inner));
        for (i, (values, codes)) in blocks.enumerate() {
            let (scale, zero_point) = strips.repeat::<SIGNED>(i, self.scale, self.zero_point);
            for (values, codes) in values.chunks_mut(scale.len()).zip(codes.chunks(scale.len())) {
                for (((value, &code), &scale), &zero_point) in values.iter_mut().zip(codes).zip(scale).zip(zero_point) {
                    *value = value_of::<W, SIGNED>(code, scale, zero_point, back);
                }
            }
        }
    }
}

impl<W: Word, const SIGNED: bool> Kernel for Decode<'_, W, SIGNED> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        if self.values.is_empty() {
        } else if self.blocks.inner == 1 {
            by_length!(self.blocks.len, self.contiguous)
        } else {
            self.strided()
        }
    }
}

/// A whole number of rows of `inner`, about `STRIP` values and at least one row.
fn strip_width(blocks: Blocks) -> usize {
    blocks.inner * (STRIP / blocks.inner).clamp(1, blocks.len)
}

/// The scales and zero points of a block, repeated over a strip.
pub(in crate::quant) struct Strips {
    inner: usize,
    scale: Vec<f32>,
    zero_point: Vec<f32>,
}

impl Strips {
    pub fn new(blocks: Blocks) -> Self {
        let width = strip_width(blocks);
        Self { inner: blocks.inner, scale: vec![0.0; width], zero_point: vec![0.0; width] }
    }

    /// Of block number `block`; the zero points mean nothing when signed.
    #[inline(always)]
    pub fn repeat<const SIGNED: bool>(&mut self, block: usize, scale: &[f32], zero_point: &[f32]) -> (&[f32], &[f32]) {
        let here = block * self.inner..(block + 1) * self.inner;
        for row in self.scale.chunks_exact_mut(self.inner) {
            row.copy_from_slice(&scale[here.clone()]);
        }
        if !SIGNED {
            for row in self.zero_point.chunks_exact_mut(self.inner) {
                row.copy_from_slice(&zero_point[here.clone()]);
            }
        }
        (&self.scale, &self.zero_point)
    }
}
