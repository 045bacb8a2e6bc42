//! `out += a · b` for small single-threaded pieces of a matrix product, in registers.
//!
//! One tile, `R` rows by `C` vectors, is held in registers while the depth is walked. Each element of `out` is a plain
//! running sum over the depth in ascending order, so the tiling and the width do not show in the result; whether a step
//! rounds once (fused) or twice (exact) does, and the caller chooses.

use core::ops::Range;

/// Columns come in whole multiples of this.
pub(super) const COLUMNS: usize = 16;

/// `out += a · b`, all in place and strided; `cols` is a multiple of [`COLUMNS`].
pub(super) struct Product<'a> {
    /// Element `(row, p)` is at `row · a_row + p · a_step`.
    pub a: &'a [f32],
    pub a_row: usize,
    pub a_step: usize,
    pub rows: usize,
    pub depth: usize,
    /// Element `(p, col)` is at `p · b_row + col`.
    pub b: &'a [f32],
    pub b_row: usize,
    pub cols: usize,
    /// Element `(row, col)` is at `row · out_row + col`.
    pub out: &'a mut [f32],
    pub out_row: usize,
}

impl Product<'_> {
    /// With fused steps where the machine has them: the result is one machine's.
    pub(super) fn add_fused(self) {
        self.run::<true>();
    }

    /// With a rounding after every multiplication and every addition: the same bits on every machine.
    pub(super) fn add_exact(self) {
        self.run::<false>();
    }

    #[allow(unsafe_code, reason = "each call follows the detection of its features")]
    fn run<const FUSED: bool>(self) {
        if self.rows == 0 || self.depth == 0 || self.cols == 0 {
            return;
        }
        // The tiles below go by pointer; these are the bounds of all they touch.
        assert!(self.cols.is_multiple_of(COLUMNS));
        assert!((self.rows - 1) * self.a_row + (self.depth - 1) * self.a_step < self.a.len());
        assert!((self.depth - 1) * self.b_row + self.cols <= self.b.len());
        assert!((self.rows - 1) * self.out_row + self.cols <= self.out.len());
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the feature was detected on this machine.
                return unsafe { avx512::<FUSED>(self) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the features were detected on this machine.
                return unsafe { avx2::<FUSED>(self) };
            }
        }
        self.panels::<simd::Plain, 4, 4, 4>();
    }

    /// Panels of columns, three vectors wide and then what is left; tiles of one, two and three vectors have so many
    /// rows, as many as the registers hold.
    #[inline(always)]
    fn panels<S: simd::Simd, const ONE: usize, const TWO: usize, const THREE: usize>(mut self) {
        let mut col = 0;
        while col < self.cols {
            let vectors = ((self.cols - col) / S::WIDTH).min(3);
            let to = col + vectors * S::WIDTH;
            match vectors {
                3 => self.panel::<S, THREE, 3>(col..to),
                2 => self.panel::<S, TWO, 2>(col..to),
                _ => self.panel::<S, ONE, 1>(col..to),
            }
            col = to;
        }
    }

    #[inline(always)]
    fn panel<S: simd::Simd, const R: usize, const C: usize>(&mut self, cols: Range<usize>) {
        let mut row = 0;
        while row + R <= self.rows {
            self.tile::<S, R, C>(row, cols.start);
            row += R;
        }
        // What is left in as few tiles as may be: a tile of one row waits for its own sums.
        if row + 8 <= self.rows {
            self.tile::<S, 8, C>(row, cols.start);
            row += 8;
        }
        if row + 4 <= self.rows {
            self.tile::<S, 4, C>(row, cols.start);
            row += 4;
        }
        while row < self.rows {
            self.tile::<S, 1, C>(row, cols.start);
            row += 1;
        }
    }

    #[inline(always)]
    #[allow(unsafe_code, reason = "a bounds check per load costs more than the load")]
    fn tile<S: simd::Simd, const R: usize, const C: usize>(&mut self, row: usize, col: usize) {
        // SAFETY: `run` asserted that rows, depth and columns lie within the slices, and `panels` and `panel` keep
        // `row + R <= rows` and `col + C · WIDTH <= cols`. The level of `S` is that of the caller.
        unsafe {
            let a = self.a.as_ptr().add(row * self.a_row);
            let b = self.b.as_ptr().add(col);
            let out = self.out.as_mut_ptr().add(row * self.out_row + col);
            let mut sum = [[S::zero(); C]; R];
            for (r, sum) in sum.iter_mut().enumerate() {
                for (c, sum) in sum.iter_mut().enumerate() {
                    *sum = S::load(out.add(r * self.out_row + c * S::WIDTH));
                }
            }
            for p in 0..self.depth {
                let b = b.add(p * self.b_row);
                let b: [S::Vector; C] = core::array::from_fn(|c| S::load(b.add(c * S::WIDTH)));
                let a = a.add(p * self.a_step);
                for (r, sum) in sum.iter_mut().enumerate() {
                    let a = S::splat(*a.add(r * self.a_row));
                    for (sum, b) in sum.iter_mut().zip(b) {
                        *sum = S::add_product(*sum, a, b);
                    }
                }
            }
            for (r, sum) in sum.iter().enumerate() {
                for (c, sum) in sum.iter().enumerate() {
                    S::store(out.add(r * self.out_row + c * S::WIDTH), *sum);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512<const FUSED: bool>(product: Product) {
    product.panels::<simd::Avx512<FUSED>, 16, 12, 8>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<const FUSED: bool>(product: Product) {
    product.panels::<simd::Avx2<FUSED>, 8, 6, 4>();
}

/// Vectors of floats, as little of them as a tile needs.
#[allow(unsafe_code, reason = "intrinsics; every method is called under the features of its type")]
mod simd {
    /// # Safety
    /// Every method needs the instruction set of the type; `load` and `store` need `WIDTH` floats behind the pointer.
    pub(super) unsafe trait Simd {
        const WIDTH: usize;
        type Vector: Copy;
        unsafe fn zero() -> Self::Vector;
        unsafe fn splat(value: f32) -> Self::Vector;
        unsafe fn load(from: *const f32) -> Self::Vector;
        unsafe fn store(to: *mut f32, vector: Self::Vector);
        unsafe fn add_product(sum: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    }

    /// Whatever the compiler makes of eight floats.
    pub(super) struct Plain;

    // SAFETY: needs nothing beyond the target.
    unsafe impl Simd for Plain {
        const WIDTH: usize = 8;
        type Vector = [f32; 8];
        #[inline(always)]
        unsafe fn zero() -> [f32; 8] {
            [0.0; 8]
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> [f32; 8] {
            [value; 8]
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> [f32; 8] {
            unsafe { from.cast::<[f32; 8]>().read_unaligned() }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: [f32; 8]) {
            unsafe { to.cast::<[f32; 8]>().write_unaligned(vector) }
        }
        #[inline(always)]
        unsafe fn add_product(sum: [f32; 8], a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
            core::array::from_fn(|i| sum[i] + a[i] * b[i])
        }
    }

    macro_rules! x86 {
        ($name:ident, $width:literal, $vector:ident, $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident,
         $add:ident, $mul:ident) => {
            #[cfg(target_arch = "x86_64")]
            pub(super) struct $name<const FUSED: bool>;

            // SAFETY: the intrinsics' features are the trait's condition.
            #[cfg(target_arch = "x86_64")]
            unsafe impl<const FUSED: bool> Simd for $name<FUSED> {
                const WIDTH: usize = $width;
                type Vector = core::arch::x86_64::$vector;
                #[inline(always)]
                unsafe fn zero() -> Self::Vector {
                    unsafe { core::arch::x86_64::$zero() }
                }
                #[inline(always)]
                unsafe fn splat(value: f32) -> Self::Vector {
                    unsafe { core::arch::x86_64::$splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self::Vector {
                    unsafe { core::arch::x86_64::$load(from) }
                }
                #[inline(always)]
                unsafe fn store(to: *mut f32, vector: Self::Vector) {
                    unsafe { core::arch::x86_64::$store(to, vector) }
                }
                #[inline(always)]
                unsafe fn add_product(sum: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                    use core::arch::x86_64::{$add, $fma, $mul};
                    unsafe { if FUSED { $fma(a, b, sum) } else { $add(sum, $mul(a, b)) } }
                }
            }
        };
    }

    x86!(
        Avx2,
        8,
        __m256,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_mul_ps
    );
    x86!(
        Avx512,
        16,
        __m512,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_mul_ps
    );
}
