//! The loops of [`minifloat`](super), written for the vectorizer: integer arithmetic on the bits of floats, without
//! branches or tables. They walk the blocks as [`affine`](super::super::affine)'s do.

use super::super::affine::kernels::{Strips, by_length};
use super::super::lanes::Kernel;
use super::super::{Blocks, Word};
use super::{FloatCode, power};

/// What an exponent of all ones is in an `f32`: an infinity, or with a mantissa, NaN.
const INFINITY: u32 = 0xff << 23;
const SIGN: u32 = 1 << 31;

/// A format as numbers that the bits of a float are shifted by, added to and compared with.
#[derive(Clone, Copy)]
struct Form {
    /// The greatest magnitude.
    max: f32,
    /// The smallest magnitude with an exponent of its own.
    normal: f32,
    /// Below `normal` magnitudes are multiples of a step: this is the power of two whose last place is that step.
    steps: f32,
    /// Bits of an `f32`'s mantissa that a code has no room for.
    dropped: u32,
    /// Added before `dropped` bits are shifted out: just less than half of the last place kept, and the change of bias.
    rounding: u32,
    /// The difference of the biases, in the exponent of an `f32`.
    bias: u32,
    /// How far below the sign of an `f32` a code's sign lies.
    sign: u32,
    /// A negative quotient with bits above these keeps its sign.
    negative: u32,
    /// All bits but a code's sign.
    magnitude: u32,
    /// The bits of a mantissa.
    mantissa: u32,
    /// The greatest magnitude's code; those above it are infinite or not numbers.
    last: u32,
}

impl Form {
    fn of(code: FloatCode) -> Self {
        let (exponent_bits, mantissa_bits) = (u32::from(code.exponent_bits), u32::from(code.mantissa_bits));
        let dropped = 23 - mantissa_bits;
        let bias = ((127 - code.bias()) as u32) << 23;
        // Half a step is the greatest magnitude that rounds to zero. Only the OCP types have a negative zero.
        let zero = power(-code.bias() - mantissa_bits as i32).to_bits();
        Self {
            max: code.max(),
            normal: power(1 - code.bias()),
            steps: power(1 - code.bias() + dropped as i32),
            dropped,
            rounding: ((1 << (dropped - 1)) - 1u32).wrapping_sub(bias),
            bias,
            sign: 31 - exponent_bits - mantissa_bits,
            negative: if code.is_ocp() { SIGN - 1 } else { SIGN + zero },
            magnitude: (1 << (exponent_bits + mantissa_bits)) - 1,
            mantissa: (1 << mantissa_bits) - 1,
            last: code.last(),
        }
    }
}

/// The code of a magnitude of at most `max`, rounded half to even.
///
/// Adding `steps` leaves the multiple of the step in the low bits of the sum.
///
/// Where there are no mantissa bits, the last bit is the exponent's, and stays even or odd when the bias changes: the
/// difference of the biases is even. But with one exponent bit, nothing lies between `normal` and `max`.
#[inline(always)]
fn round(magnitude: f32, form: Form) -> u32 {
    let bits = magnitude.to_bits();
    let odd = (bits >> form.dropped) & 1;
    let normal = bits.wrapping_add(odd).wrapping_add(form.rounding) >> form.dropped;
    let subnormal = (magnitude + form.steps).to_bits().wrapping_sub(form.steps.to_bits());
    if magnitude < form.normal { subnormal } else { normal }
}

/// The code of a quotient that has a sign.
#[inline(always)]
fn signed(t: f32, form: Form) -> u32 {
    let magnitude = t.abs();
    let code = round(if magnitude < form.max { magnitude } else { form.max }, form);
    if t.to_bits() > form.negative { code | (SIGN >> form.sign) } else { code }
}

/// [`encode_by`](super::encode_by).
pub(super) struct EncodeBy<'a> {
    pub code: FloatCode,
    pub inverse: f32,
    pub values: &'a [f32],
    pub codes: &'a mut [u8],
}

impl Kernel for EncodeBy<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let form = Form::of(self.code);
        for (code, value) in self.codes.iter_mut().zip(self.values) {
            *code = signed(value * self.inverse, form) as u8;
        }
    }
}

#[inline(always)]
fn code_of<W: Word, const SIGNED: bool>(value: f32, scale: f32, zero_point: f32, form: Form) -> W {
    if SIGNED {
        W::of(signed(value / scale, form))
    } else {
        let t = (value - zero_point) / scale;
        // NaN goes to zero.
        let t = if t > 0.0 { t } else { 0.0 };
        W::of(round(if t < form.max { t } else { form.max }, form))
    }
}

#[inline(always)]
fn value_of<W: Word, const SIGNED: bool>(code: W, scale: f32, zero_point: f32, form: Form) -> f32 {
    let code = code.code();
    let magnitude = code & form.magnitude;
    let normal = f32::from_bits((magnitude << form.dropped) + form.bias);
    let subnormal = f32::from_bits(magnitude | form.steps.to_bits()) - form.steps;
    let value = if magnitude > form.mantissa { normal } else { subnormal };
    if SIGNED {
        let special = if magnitude > form.last { INFINITY } else { 0 };
        let sign = (code << form.sign) & SIGN;
        f32::from_bits(value.to_bits() | special | sign) * scale
    } else {
        zero_point + value * scale
    }
}

/// [`encode`](super::encode).
pub(super) struct Encode<'a, W, const SIGNED: bool> {
    pub code: FloatCode,
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
        let form = Form::of(self.code);
        let blocks = self.values.chunks_exact(len).zip(self.codes.chunks_exact_mut(len));
        for (i, ((values, codes), &scale)) in blocks.zip(self.scale).enumerate() {
            let zero_point = if SIGNED { 0.0 } else { self.zero_point[i] };
            for (code, &value) in codes.iter_mut().zip(values) {
                *code = code_of::<W, SIGNED>(value, scale, zero_point, form);
            }
        }
    }

    #[inline(always)]
    fn strided(self) {
        let Blocks { len, inner, .. } = self.blocks;
        let form = Form::of(self.code);
        let mut strips = Strips::new(self.blocks);
        let blocks = self.values.chunks_exact(len * inner).zip(self.codes.chunks_exact_mut(len * inner));
        for (i, (values, codes)) in blocks.enumerate() {
            let (scale, zero_point) = strips.repeat::<SIGNED>(i, self.scale, self.zero_point);
            for (values, codes) in values.chunks(scale.len()).zip(codes.chunks_mut(scale.len())) {
                for (((code, &value), &scale), &zero_point) in codes.iter_mut().zip(values).zip(scale).zip(zero_point) {
                    *code = code_of::<W, SIGNED>(value, scale, zero_point, form);
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
    pub code: FloatCode,
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
        let form = Form::of(self.code);
        let blocks = self.values.chunks_exact_mut(len).zip(self.codes.chunks_exact(len));
        for (i, ((values, codes), &scale)) in blocks.zip(self.scale).enumerate() {
            let zero_point = if SIGNED { 0.0 } else { self.zero_point[i] };
            for (value, &code) in values.iter_mut().zip(codes) {
                *value = value_of::<W, SIGNED>(code, scale, zero_point, form);
            }
        }
    }

    #[inline(always)]
    fn strided(self) {
        let Blocks { len, inner, .. } = self.blocks;
        let form = Form::of(self.code);
        let mut strips = Strips::new(self.blocks);
        let blocks = self.values.chunks_exact_mut(len * inner).zip(self.codes.chunks_exact(len * inner));
        for (i, (values, codes)) in blocks.enumerate() {
            let (scale, zero_point) = strips.repeat::<SIGNED>(i, self.scale, self.zero_point);
            for (values, codes) in values.chunks_mut(scale.len()).zip(codes.chunks(scale.len())) {
                for (((value, &code), &scale), &zero_point) in values.iter_mut().zip(codes).zip(scale).zip(zero_point) {
                    *value = value_of::<W, SIGNED>(code, scale, zero_point, form);
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
