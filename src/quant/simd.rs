//! Sixteen lanes of `f32` and `i32`, for kernels whose order of operations is fixed.
//!
//! `lanes` leaves the vectorizing to the compiler, which may not reorder a float sum. Where each lane is a block of its
//! own, a loop over the elements of sixteen blocks at once keeps every block's own order: that is what these vectors are
//! for. Every instruction set has sixteen lanes ([`LANES`]), in one register (AVX-512), in two (AVX2: two independent
//! chains, which also hides latency), in four (SSE2, NEON) or in an array. So a kernel has one shape, is written
//! once over [`Simd`], and its bytes do not depend on the machine.
//!
//! A value of a type that implements [`Simd`] is the proof that the machine has the instructions; only [`run`] makes
//! one. Its methods are therefore safe. A kernel must be `#[inline(always)]` down to the last helper.

use super::lanes::Level;

mod portable;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod quads;
#[cfg(target_arch = "x86_64")]
mod x86;

use portable::Portable;

/// Lanes of every vector.
pub(crate) const LANES: usize = 16;

/// Sixteen numbers of `f32` (`F`), of `i32` (`I`), or of yes and no (`M`).
///
/// Every float operation rounds once, to nearest even, and nothing is fused. Loads and stores need no alignment.
pub(crate) trait Simd: Copy {
    /// Sixteen `f32`.
    type F: Copy;
    /// Sixteen `i32`.
    type I: Copy;
    /// Sixteen answers of a comparison.
    type M: Copy;
    /// Whether a vector is one register, and there are enough of them for the sums of two factors in one loop.
    const WIDE: bool = false;

    /// Says that these values are wanted soon, and does nothing else.
    #[inline(always)]
    fn prefetch(self, _values: &[f32]) {}
    fn splat(self, value: f32) -> Self::F;
    fn load(self, from: &[f32; LANES]) -> Self::F;
    fn store(self, vector: Self::F, to: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    fn sqrt(self, a: Self::F) -> Self::F;
    /// The sign bit is cleared.
    fn abs(self, a: Self::F) -> Self::F;
    /// The sign bit is turned.
    fn neg(self, a: Self::F) -> Self::F;
    /// `a > b ? a : b`: the second operand wins with a NaN and between zeros.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`: the second operand wins with a NaN and between zeros.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b`, no with a NaN.
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a <= b`, no with a NaN.
    fn le(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a == b`, no with a NaN.
    fn eq(self, a: Self::F, b: Self::F) -> Self::M;
    /// The yes-lanes of `yes`, the others of `no`.
    fn select(self, mask: Self::M, yes: Self::F, no: Self::F) -> Self::F;

    fn splat_i(self, value: i32) -> Self::I;
    fn load_i(self, from: &[i32; LANES]) -> Self::I;
    fn store_i(self, vector: Self::I, to: &mut [i32; LANES]);
    /// Wrapping.
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Wrapping.
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// The low 32 bits of the products.
    fn mul_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn min_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn xor_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn shl<const BY: u32>(self, a: Self::I) -> Self::I;
    /// Zeros come in from the left.
    fn shr<const BY: u32>(self, a: Self::I) -> Self::I;
    /// The sign comes in from the left.
    fn sar<const BY: u32>(self, a: Self::I) -> Self::I;
    fn eq_i(self, a: Self::I, b: Self::I) -> Self::M;
    /// `a > b`, signed.
    fn gt_i(self, a: Self::I, b: Self::I) -> Self::M;
    fn select_i(self, mask: Self::M, yes: Self::I, no: Self::I) -> Self::I;

    /// The bits of a float.
    fn bits(self, a: Self::F) -> Self::I;
    /// The float of these bits.
    #[allow(clippy::wrong_self_convention, reason = "`self` is the instruction set")]
    fn from_bits(self, a: Self::I) -> Self::F;
    /// To the nearest `f32`, ties to even.
    fn to_float(self, a: Self::I) -> Self::F;
    /// C's `(int)` on x86: toward zero, and `i32::MIN` for what does not fit and for NaN.
    fn to_int(self, a: Self::F) -> Self::I;
    /// The lowest byte of every lane.
    fn store_bytes(self, a: Self::I, to: &mut [u8; LANES]);
    /// A byte for every lane, zero-extended.
    fn load_bytes(self, from: &[u8; LANES]) -> Self::I;

    /// Lane `i` of each to `to[i]`.
    #[inline(always)]
    fn store_beside(self, of: [Self::I; 4], to: &mut [[i32; 4]; LANES]) {
        let mut rows = [[0; LANES]; 4];
        for (row, of) in rows.iter_mut().zip(of) {
            self.store_i(of, row);
        }
        for (i, to) in to.iter_mut().enumerate() {
            *to = [rows[0][i], rows[1][i], rows[2][i], rows[3][i]];
        }
    }

    fn and_m(self, a: Self::M, b: Self::M) -> Self::M;
    fn or_m(self, a: Self::M, b: Self::M) -> Self::M;
    fn not_m(self, a: Self::M) -> Self::M;
    /// Bit `i` is lane `i`.
    fn mask_bits(self, a: Self::M) -> u32;

    /// `table[index]`, for indices in `0..16`; only their low four bits are read.
    fn lookup(self, table: &[f32; 16], index: Self::I) -> Self::F;
    /// The least lane; the lanes must be numbers.
    fn least(self, a: Self::F) -> f32;
    /// `table[index]`, for indices in `0..4`; only their low two bits are read.
    fn lookup4(self, table: &[f32; 4], index: Self::I) -> Self::F;
    /// `table[index]`, for indices in `0..8`; only their low three bits are read.
    fn lookup8(self, table: &[f32; 8], index: Self::I) -> Self::F;
    /// `to[i]` lane `j` becomes `from[j * stride + i]`: sixteen pieces of `from`, sixteen long, side by side.
    ///
    /// # Panics
    /// If the last piece does not fit.
    fn transpose(self, from: &[f32], stride: usize, to: &mut [[f32; LANES]; 16]);

    /// The codes of 32 values, capped at `TOP` (15 or 31), in the order of GGML's blocks: low nibbles of `low`, high ones of
    /// `high`. Codes must be from 0 to 255, or `i32::MIN` for 0. Yields their fifth bits.
    #[inline(always)]
    fn store_nibbles<const TOP: i32>(self, low: Self::I, high: Self::I, to: &mut [u8; LANES]) -> u32 {
        let (top, nibble) = (self.splat_i(TOP), self.splat_i(15));
        let (low, high) = (self.min_i(low, top), self.min_i(high, top));
        self.store_bytes(self.or_i(self.and_i(low, nibble), self.shl::<4>(high)), to);
        if TOP == 15 {
            return 0;
        }
        self.mask_bits(self.gt_i(low, nibble)) | self.mask_bits(self.gt_i(high, nibble)) << 16
    }

    /// Has these values fetched from memory.
    #[inline(always)]
    fn fetch(self, _values: &[f32]) {}

    /// Lane `i` is the least lane of `of[i]`; of two zeros either, and not for NaN.
    #[inline(always)]
    fn least_lanes(self, of: &[Self::F; LANES]) -> Self::F {
        let columns = columns(self, of);
        let mut least = self.load(&columns[0]);
        for column in &columns[1..] {
            least = self.min(self.load(column), least);
        }
        least
    }

    /// Lane `i` is the greatest lane of `of[i]`; of two zeros either, and not for NaN.
    #[inline(always)]
    fn greatest_lanes(self, of: &[Self::F; LANES]) -> Self::F {
        let columns = columns(self, of);
        let mut greatest = self.load(&columns[0]);
        for column in &columns[1..] {
            greatest = self.max(self.load(column), greatest);
        }
        greatest
    }

    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }

    #[inline(always)]
    fn any(self, mask: Self::M) -> bool {
        self.mask_bits(mask) != 0
    }

    #[inline(always)]
    fn all(self, mask: Self::M) -> bool {
        self.mask_bits(mask) == (1 << LANES) - 1
    }

    /// ggml's `nearest_int`: half to even where `|a| <= 2^22`, and a defined value for anything else.
    #[inline(always)]
    fn nearest_int(self, a: Self::F) -> Self::I {
        let bits = self.bits(self.add(a, self.splat(super::ggml::MAGIC)));
        self.sub_i(self.and_i(bits, self.splat_i(0x7f_ffff)), self.splat_i(0x40_0000))
    }
}

/// Sixteen vectors, transposed.
#[inline(always)]
fn columns<S: Simd>(s: S, rows: &[S::F; LANES]) -> [[f32; LANES]; 16] {
    let (mut flat, mut columns) = ([[0.0; LANES]; LANES], [[0.0; LANES]; 16]);
    for (row, flat) in rows.iter().zip(&mut flat) {
        s.store(*row, flat);
    }
    s.transpose(flat.as_flattened(), LANES, &mut columns);
    columns
}

/// A computation over [`Simd`]. `run` must be `#[inline(always)]`, and so must be all it calls with the vectors.
pub(crate) trait Kernel {
    /// What it yields.
    type Output;
    /// The computation.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` at `level`, or plainly if the machine lacks it.
#[cfg_attr(target_arch = "x86_64", allow(unsafe_code, reason = "each call follows the detection of its features"))]
pub(crate) fn run<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        // SAFETY: the features were detected on this machine.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if super::lanes::has_avx512() => unsafe { x86::avx512(kernel) },
        // SAFETY: the feature was detected on this machine.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 if super::lanes::has_avx2() => unsafe { x86::avx2(kernel) },
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        _ => kernel.run(quads::Quads),
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        _ => kernel.run(Portable),
    }
}

#[cfg(test)]
mod tests;
