//! Four registers of four: what every x86-64 (SSE2) and every aarch64 (NEON) has.
#![allow(unsafe_code, reason = "intrinsics that the target guarantees")]

#[cfg(target_arch = "aarch64")]
use core::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

use super::{LANES, Portable, Simd};

/// Needs nothing beyond the target.
#[derive(Clone, Copy)]
pub(super) struct Quads;

/// A method for each line: its arguments, and an expression for one of the four registers.
macro_rules! methods {
    ($($name:ident$(<const $n:ident>)?($($a:ident: $A:ident),*) -> $R:ident = $e:expr;)*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe, reason = "some lines are safe")]
        fn $name$(<const $n: u32>)?(self, $($a: Self::$A),*) -> Self::$R {
            // SAFETY: the target guarantees the instructions.
            unsafe {
                [
                    { $(let $a = $a[0];)* $e },
                    { $(let $a = $a[1];)* $e },
                    { $(let $a = $a[2];)* $e },
                    { $(let $a = $a[3];)* $e },
                ]
            }
        }
    )*};
}

/// The methods that go through memory, the same for both.
macro_rules! memory {
    ($load:ident, $store:ident, $load_i:ident, $store_i:ident, $four:ty) => {
        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> Self::F {
            let from = from.as_ptr();
            // SAFETY: all four quarters lie in the array.
            unsafe { [$load(from), $load(from.add(4)), $load(from.add(8)), $load(from.add(12))] }
        }
        #[inline(always)]
        fn store(self, vector: Self::F, to: &mut [f32; LANES]) {
            for (vector, to) in vector.into_iter().zip(to.as_chunks_mut::<4>().0) {
                // SAFETY: a quarter has four floats.
                unsafe { $store(to.as_mut_ptr(), vector) }
            }
        }
        #[inline(always)]
        fn load_i(self, from: &[i32; LANES]) -> Self::I {
            let from = from.as_ptr();
            // SAFETY: all four quarters lie in the array.
            unsafe { [0, 4, 8, 12].map(|i| $load_i(from.add(i).cast::<$four>())) }
        }
        #[inline(always)]
        fn store_i(self, vector: Self::I, to: &mut [i32; LANES]) {
            for (vector, to) in vector.into_iter().zip(to.as_chunks_mut::<4>().0) {
                // SAFETY: a quarter has four integers.
                unsafe { $store_i(to.as_mut_ptr().cast::<$four>(), vector) }
            }
        }
        #[inline(always)]
        fn store_bytes(self, a: Self::I, to: &mut [u8; LANES]) {
            let mut all = [0; LANES];
            self.store_i(a, &mut all);
            Portable.store_bytes(all, to);
        }
        #[inline(always)]
        fn load_bytes(self, from: &[u8; LANES]) -> Self::I {
            self.load_i(&Portable.load_bytes(from))
        }
        #[inline(always)]
        fn lookup(self, table: &[f32; 16], index: Self::I) -> Self::F {
            let mut all = [0; LANES];
            self.store_i(index, &mut all);
            self.load(&Portable.lookup(table, all))
        }
        #[inline(always)]
        fn least(self, a: Self::F) -> f32 {
            let mut all = [0.0; LANES];
            self.store(a, &mut all);
            Portable.least(all)
        }
        #[inline(always)]
        fn lookup4(self, table: &[f32; 4], index: Self::I) -> Self::F {
            let mut all = [0; LANES];
            self.store_i(index, &mut all);
            self.load(&Portable.lookup4(table, all))
        }
        #[inline(always)]
        fn lookup8(self, table: &[f32; 8], index: Self::I) -> Self::F {
            let mut all = [0; LANES];
            self.store_i(index, &mut all);
            self.load(&Portable.lookup8(table, all))
        }
        #[inline(always)]
        fn transpose(self, from: &[f32], stride: usize, to: &mut [[f32; LANES]; 16]) {
            transpose(from, stride, to);
        }
    };
}

/// Once per architecture, and not once per kernel.
#[inline(never)]
fn transpose(from: &[f32], stride: usize, to: &mut [[f32; LANES]; 16]) {
    Portable.transpose(from, stride, to);
}

#[cfg(target_arch = "x86_64")]
impl Simd for Quads {
    type F = [__m128; 4];
    type I = [__m128i; 4];
    type M = [__m128i; 4];

    methods! {
        add(a: F, b: F) -> F = _mm_add_ps(a, b);
        sub(a: F, b: F) -> F = _mm_sub_ps(a, b);
        mul(a: F, b: F) -> F = _mm_mul_ps(a, b);
        div(a: F, b: F) -> F = _mm_div_ps(a, b);
        sqrt(a: F) -> F = _mm_sqrt_ps(a);
        abs(a: F) -> F = _mm_andnot_ps(_mm_set1_ps(-0.0), a);
        neg(a: F) -> F = _mm_xor_ps(_mm_set1_ps(-0.0), a);
        max(a: F, b: F) -> F = _mm_max_ps(a, b);
        min(a: F, b: F) -> F = _mm_min_ps(a, b);
        lt(a: F, b: F) -> M = _mm_castps_si128(_mm_cmplt_ps(a, b));
        le(a: F, b: F) -> M = _mm_castps_si128(_mm_cmple_ps(a, b));
        eq(a: F, b: F) -> M = _mm_castps_si128(_mm_cmpeq_ps(a, b));
        select(mask: M, yes: F, no: F) -> F = _mm_castsi128_ps(blend(mask, _mm_castps_si128(yes), _mm_castps_si128(no)));
        add_i(a: I, b: I) -> I = _mm_add_epi32(a, b);
        sub_i(a: I, b: I) -> I = _mm_sub_epi32(a, b);
        mul_i(a: I, b: I) -> I = {
            let even = _mm_mul_epu32(a, b);
            let odd = _mm_mul_epu32(_mm_srli_si128::<4>(a), _mm_srli_si128::<4>(b));
            _mm_unpacklo_epi32(_mm_shuffle_epi32::<0b00_00_10_00>(even), _mm_shuffle_epi32::<0b00_00_10_00>(odd))
        };
        max_i(a: I, b: I) -> I = blend(_mm_cmpgt_epi32(a, b), a, b);
        min_i(a: I, b: I) -> I = blend(_mm_cmpgt_epi32(a, b), b, a);
        and_i(a: I, b: I) -> I = _mm_and_si128(a, b);
        or_i(a: I, b: I) -> I = _mm_or_si128(a, b);
        xor_i(a: I, b: I) -> I = _mm_xor_si128(a, b);
        shl<const N>(a: I) -> I = _mm_sll_epi32(a, _mm_cvtsi32_si128(N as i32));
        shr<const N>(a: I) -> I = _mm_srl_epi32(a, _mm_cvtsi32_si128(N as i32));
        sar<const N>(a: I) -> I = _mm_sra_epi32(a, _mm_cvtsi32_si128(N as i32));
        eq_i(a: I, b: I) -> M = _mm_cmpeq_epi32(a, b);
        gt_i(a: I, b: I) -> M = _mm_cmpgt_epi32(a, b);
        select_i(mask: M, yes: I, no: I) -> I = blend(mask, yes, no);
        bits(a: F) -> I = _mm_castps_si128(a);
        from_bits(a: I) -> F = _mm_castsi128_ps(a);
        to_float(a: I) -> F = _mm_cvtepi32_ps(a);
        to_int(a: F) -> I = _mm_cvttps_epi32(a);
        and_m(a: M, b: M) -> M = _mm_and_si128(a, b);
        or_m(a: M, b: M) -> M = _mm_or_si128(a, b);
        not_m(a: M) -> M = _mm_xor_si128(a, _mm_set1_epi32(-1));
    }
    memory!(_mm_loadu_ps, _mm_storeu_ps, _mm_loadu_si128, _mm_storeu_si128, __m128i);

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        // SAFETY: the target guarantees the instruction.
        unsafe { [_mm_set1_ps(value); 4] }
    }
    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        // SAFETY: the target guarantees the instruction.
        unsafe { [_mm_set1_epi32(value); 4] }
    }
    #[inline(always)]
    fn mask_bits(self, a: Self::M) -> u32 {
        // SAFETY: the target guarantees the instruction.
        let [a, b, c, d] = a.map(|m| unsafe { _mm_movemask_ps(_mm_castsi128_ps(m)) as u32 });
        a | b << 4 | c << 8 | d << 12
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn blend(mask: __m128i, yes: __m128i, no: __m128i) -> __m128i {
    // SAFETY: the target guarantees the instruction.
    unsafe { _mm_or_si128(_mm_and_si128(mask, yes), _mm_andnot_si128(mask, no)) }
}

#[cfg(target_arch = "aarch64")]
impl Simd for Quads {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type M = [uint32x4_t; 4];

    methods! {
        add(a: F, b: F) -> F = vaddq_f32(a, b);
        sub(a: F, b: F) -> F = vsubq_f32(a, b);
        mul(a: F, b: F) -> F = vmulq_f32(a, b);
        div(a: F, b: F) -> F = vdivq_f32(a, b);
        sqrt(a: F) -> F = vsqrtq_f32(a);
        abs(a: F) -> F = vabsq_f32(a);
        neg(a: F) -> F = vnegq_f32(a);
        max(a: F, b: F) -> F = vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a: F, b: F) -> F = vbslq_f32(vcltq_f32(a, b), a, b);
        lt(a: F, b: F) -> M = vcltq_f32(a, b);
        le(a: F, b: F) -> M = vcleq_f32(a, b);
        eq(a: F, b: F) -> M = vceqq_f32(a, b);
        select(mask: M, yes: F, no: F) -> F = vbslq_f32(mask, yes, no);
        add_i(a: I, b: I) -> I = vaddq_s32(a, b);
        sub_i(a: I, b: I) -> I = vsubq_s32(a, b);
        mul_i(a: I, b: I) -> I = vmulq_s32(a, b);
        max_i(a: I, b: I) -> I = vmaxq_s32(a, b);
        min_i(a: I, b: I) -> I = vminq_s32(a, b);
        and_i(a: I, b: I) -> I = vandq_s32(a, b);
        or_i(a: I, b: I) -> I = vorrq_s32(a, b);
        xor_i(a: I, b: I) -> I = veorq_s32(a, b);
        shl<const N>(a: I) -> I = vshlq_s32(a, vdupq_n_s32(N as i32));
        shr<const N>(a: I) -> I = vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-(N as i32))));
        sar<const N>(a: I) -> I = vshlq_s32(a, vdupq_n_s32(-(N as i32)));
        eq_i(a: I, b: I) -> M = vceqq_s32(a, b);
        gt_i(a: I, b: I) -> M = vcgtq_s32(a, b);
        select_i(mask: M, yes: I, no: I) -> I = vbslq_s32(mask, yes, no);
        bits(a: F) -> I = vreinterpretq_s32_f32(a);
        from_bits(a: I) -> F = vreinterpretq_f32_s32(a);
        to_float(a: I) -> F = vcvtq_f32_s32(a);
        // The instruction saturates, and makes zero of NaN.
        to_int(a: F) -> I = {
            let limit = vdupq_n_f32(2_147_483_648.0);
            let fits = vandq_u32(vcgeq_f32(a, vnegq_f32(limit)), vcltq_f32(a, limit));
            vbslq_s32(fits, vcvtq_s32_f32(a), vdupq_n_s32(i32::MIN))
        };
        and_m(a: M, b: M) -> M = vandq_u32(a, b);
        or_m(a: M, b: M) -> M = vorrq_u32(a, b);
        not_m(a: M) -> M = vmvnq_u32(a);
    }
    memory!(vld1q_f32, vst1q_f32, vld1q_s32, vst1q_s32, i32);

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        // SAFETY: the target guarantees the instruction.
        unsafe { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        // SAFETY: the target guarantees the instruction.
        unsafe { [vdupq_n_s32(value); 4] }
    }
    #[inline(always)]
    fn mask_bits(self, a: Self::M) -> u32 {
        let powers = self.load_i(&core::array::from_fn(|lane| 1 << lane));
        // SAFETY: the target guarantees the instruction.
        unsafe { (0..4).map(|i| vaddvq_u32(vandq_u32(a[i], vreinterpretq_u32_s32(powers[i])))).sum() }
    }
}
