//! Arrays, of which the compiler makes what the target has.

use super::{LANES, Simd};

/// Needs nothing beyond the target.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type F = [f32; LANES];
type I = [i32; LANES];
/// All ones or all zeros.
type M = [i32; LANES];

#[inline(always)]
fn each<A: Copy, R: Copy + Default>(a: [A; LANES], f: impl Fn(A) -> R) -> [R; LANES] {
    let mut out = [R::default(); LANES];
    for (out, a) in out.iter_mut().zip(a) {
        *out = f(a);
    }
    out
}

#[inline(always)]
fn both<A: Copy, B: Copy, R: Copy + Default>(a: [A; LANES], b: [B; LANES], f: impl Fn(A, B) -> R) -> [R; LANES] {
    let mut out = [R::default(); LANES];
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
    out
}

#[inline(always)]
fn mask(yes: bool) -> i32 {
    -i32::from(yes)
}

/// `yes` where the mask is ones.
#[inline(always)]
fn blend(mask: M, yes: I, no: I) -> I {
    both(both(mask, yes, |m, y| m & y), both(mask, no, |m, n| !m & n), |y, n| y | n)
}

macro_rules! methods {
    ($($name:ident($a:ident: $A:ty) -> $R:ty = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, a: $A) -> $R {
            each(a, |$a| $e)
        }
    )*};
    ($($name:ident($a:ident, $b:ident: $A:ty) -> $R:ty = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, a: $A, b: $A) -> $R {
            both(a, b, |$a, $b| $e)
        }
    )*};
}

impl Simd for Portable {
    type F = F;
    type I = I;
    type M = M;

    methods! {
        sqrt(a: F) -> F = a.sqrt();
        abs(a: F) -> F = f32::from_bits(a.to_bits() & 0x7fff_ffff);
        neg(a: F) -> F = f32::from_bits(a.to_bits() ^ 0x8000_0000);
        bits(a: F) -> I = a.to_bits() as i32;
        from_bits(a: I) -> F = f32::from_bits(a as u32);
        to_float(a: I) -> F = a as f32;
        to_int(a: F) -> I = crate::quant::ggml::c_int(a);
        not_m(a: M) -> M = !a;
    }

    methods! {
        add(a, b: F) -> F = a + b;
        sub(a, b: F) -> F = a - b;
        mul(a, b: F) -> F = a * b;
        div(a, b: F) -> F = a / b;
        max(a, b: F) -> F = if a > b { a } else { b };
        min(a, b: F) -> F = if a < b { a } else { b };
        lt(a, b: F) -> M = mask(a < b);
        le(a, b: F) -> M = mask(a <= b);
        eq(a, b: F) -> M = mask(a == b);
        add_i(a, b: I) -> I = a.wrapping_add(b);
        sub_i(a, b: I) -> I = a.wrapping_sub(b);
        mul_i(a, b: I) -> I = a.wrapping_mul(b);
        max_i(a, b: I) -> I = a.max(b);
        min_i(a, b: I) -> I = a.min(b);
        and_i(a, b: I) -> I = a & b;
        or_i(a, b: I) -> I = a | b;
        xor_i(a, b: I) -> I = a ^ b;
        eq_i(a, b: I) -> M = mask(a == b);
        gt_i(a, b: I) -> M = mask(a > b);
        and_m(a, b: M) -> M = a & b;
        or_m(a, b: M) -> M = a | b;
    }

    #[inline(always)]
    fn splat(self, value: f32) -> F {
        [value; LANES]
    }
    #[inline(always)]
    fn load(self, from: &F) -> F {
        *from
    }
    #[inline(always)]
    fn store(self, vector: F, to: &mut F) {
        *to = vector;
    }
    #[inline(always)]
    fn select(self, mask: M, yes: F, no: F) -> F {
        self.from_bits(blend(mask, self.bits(yes), self.bits(no)))
    }
    #[inline(always)]
    fn splat_i(self, value: i32) -> I {
        [value; LANES]
    }
    #[inline(always)]
    fn load_i(self, from: &I) -> I {
        *from
    }
    #[inline(always)]
    fn store_i(self, vector: I, to: &mut I) {
        *to = vector;
    }
    #[inline(always)]
    fn shl<const BY: u32>(self, a: I) -> I {
        each(a, |a| a << BY)
    }
    #[inline(always)]
    fn shr<const BY: u32>(self, a: I) -> I {
        each(a, |a| (a as u32 >> BY) as i32)
    }
    #[inline(always)]
    fn sar<const BY: u32>(self, a: I) -> I {
        each(a, |a| a >> BY)
    }
    #[inline(always)]
    fn select_i(self, mask: M, yes: I, no: I) -> I {
        blend(mask, yes, no)
    }
    #[inline(always)]
    fn store_bytes(self, a: I, to: &mut [u8; LANES]) {
        *to = each(a, |a| a as u8);
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; LANES]) -> I {
        each(*from, i32::from)
    }
    #[inline(always)]
    fn mask_bits(self, a: M) -> u32 {
        a.iter().enumerate().fold(0, |bits, (lane, m)| bits | (*m as u32 & 1) << lane)
    }
    #[inline(always)]
    fn least(self, a: F) -> f32 {
        a.into_iter().fold(f32::INFINITY, |least, a| if a < least { a } else { least })
    }
    #[inline(always)]
    fn lookup4(self, table: &[f32; 4], index: I) -> F {
        each(index, |i| table[i as usize & 3])
    }
    #[inline(always)]
    fn lookup8(self, table: &[f32; 8], index: I) -> F {
        each(index, |i| table[i as usize & 7])
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], index: I) -> F {
        each(index, |i| table[(i & 15) as usize])
    }
    #[inline(always)]
    fn transpose(self, from: &[f32], stride: usize, to: &mut [[f32; LANES]; 16]) {
        for lane in 0..LANES {
            for (to, v) in to.iter_mut().zip(&from[lane * stride..][..16]) {
                to[lane] = *v;
            }
        }
    }
}
