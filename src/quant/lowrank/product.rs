//! `out = a · b` or `out += a · b` for small single-threaded pieces of a matrix product, in registers.
//!
//! One tile, `R` rows by `C` vectors, is held in registers while the depth is walked. Each element of `out` is a plain
//! running sum over the depth in ascending order, so the tiling and the width do not show in the result; whether a step
//! rounds once (fused) or twice (exact) does, and the caller chooses.

use core::ops::Range;
use simd::{Element, Simd};

/// Columns come in whole multiples of this.
pub(super) const COLUMNS: usize = 16;

/// `a · b`, all in place and strided; `cols` is a multiple of [`COLUMNS`].
pub(super) struct Product<'a, T = f32> {
    /// Element `(row, p)` is at `row · a_row + p · a_step`.
    pub a: &'a [T],
    pub a_row: usize,
    pub a_step: usize,
    pub rows: usize,
    pub depth: usize,
    /// Element `(p, col)` is at `p · b_row + col`.
    pub b: &'a [T],
    pub b_row: usize,
    pub cols: usize,
    /// Element `(row, col)` is at `row · out_row + col`.
    pub out: &'a mut [T],
    pub out_row: usize,
}

/// What a sum starts from.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    Zero,
    /// What `out` holds.
    Out,
}

impl<T: Element> Product<'_, T> {
    /// `out = a · b`, with fused steps where the machine has them: the result is one machine's.
    pub(super) fn set_fused(self) {
        self.run::<true>(Start::Zero);
    }

    /// `out += a · b`, likewise.
    pub(super) fn add_fused(self) {
        self.run::<true>(Start::Out);
    }

    /// `out = a · b`, with a rounding after every multiplication and every addition: the same bits on every machine.
    pub(super) fn set_exact(self) {
        self.run::<false>(Start::Zero);
    }

    #[allow(unsafe_code, reason = "each call follows the detection of its features")]
    fn run<const FUSED: bool>(self, start: Start) {
        // A sum of nothing would have to be written as zeros.
        assert!(start == Start::Out || self.depth > 0);
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
                return unsafe { avx512::<FUSED, T>(self, start) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the features were detected on this machine.
                return unsafe { avx2::<FUSED, T>(self, start) };
            }
        }
        self.panels::<simd::Plain<T>, 4, 4, 4>(start);
    }

    /// Panels of columns, three vectors wide and then what is left; tiles of one, two and three vectors have so many
    /// rows, as many as the registers hold.
    #[inline(always)]
    fn panels<S: Simd<Element = T>, const ONE: usize, const TWO: usize, const THREE: usize>(mut self, start: Start) {
        let mut col = 0;
        while col < self.cols {
            let vectors = ((self.cols - col) / S::WIDTH).min(3);
            let to = col + vectors * S::WIDTH;
            match vectors {
                3 => self.panel::<S, THREE, 3>(col..to, start),
                2 => self.panel::<S, TWO, 2>(col..to, start),
                _ => self.panel::<S, ONE, 1>(col..to, start),
            }
            col = to;
        }
    }

    #[inline(always)]
    fn panel<S: Simd<Element = T>, const R: usize, const C: usize>(&mut self, cols: Range<usize>, start: Start) {
        let mut row = 0;
        while row + R <= self.rows {
            self.tile::<S, R, C>(row, cols.start, start);
            row += R;
        }
        // What is left in as few tiles as may be: a tile of one row waits for its own sums.
        if row + 8 <= self.rows {
            self.tile::<S, 8, C>(row, cols.start, start);
            row += 8;
        }
        if row + 4 <= self.rows {
            self.tile::<S, 4, C>(row, cols.start, start);
            row += 4;
        }
        while row < self.rows {
            self.tile::<S, 1, C>(row, cols.start, start);
            row += 1;
        }
    }

    #[inline(always)]
    #[allow(unsafe_code, reason = "a bounds check per load costs more than the load")]
    fn tile<S: Simd<Element = T>, const R: usize, const C: usize>(&mut self, row: usize, col: usize, start: Start) {
        // SAFETY: `run` asserted that rows, depth and columns lie within the slices, and `panels` and `panel` keep
        // `row + R <= rows` and `col + C · WIDTH <= cols`. The level of `S` is that of the caller.
        unsafe {
            let a = self.a.as_ptr().add(row * self.a_row);
            let b = self.b.as_ptr().add(col);
            let out = self.out.as_mut_ptr().add(row * self.out_row + col);
            let mut sum = [[S::zero(); C]; R];
            if start == Start::Out {
                for (r, sum) in sum.iter_mut().enumerate() {
                    for (c, sum) in sum.iter_mut().enumerate() {
                        *sum = S::load(out.add(r * self.out_row + c * S::WIDTH));
                    }
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
fn avx512<const FUSED: bool, T: Element>(product: Product<T>, start: Start) {
    product.panels::<T::Avx512<FUSED>, 16, 12, 8>(start);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<const FUSED: bool, T: Element>(product: Product<T>, start: Start) {
    product.panels::<T::Avx2<FUSED>, 8, 6, 4>(start);
}

/// Vectors of floats, as little of them as a tile needs.
#[allow(unsafe_code, reason = "intrinsics; every method is called under the features of its type")]
mod simd {
    /// # Safety
    /// Every method needs the instruction set of the type; `load` and `store` need `WIDTH` floats behind the pointer.
    pub(in super::super) unsafe trait Simd {
        const WIDTH: usize;
        type Element;
        type Vector: Copy;
        unsafe fn zero() -> Self::Vector;
        unsafe fn splat(value: Self::Element) -> Self::Vector;
        unsafe fn load(from: *const Self::Element) -> Self::Vector;
        unsafe fn store(to: *mut Self::Element, vector: Self::Vector);
        unsafe fn add_product(sum: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    }

    /// A float, and its vectors in each instruction set.
    pub(in super::super) trait Element: Float {
        #[cfg(target_arch = "x86_64")]
        type Avx2<const FUSED: bool>: Simd<Element = Self>;
        #[cfg(target_arch = "x86_64")]
        type Avx512<const FUSED: bool>: Simd<Element = Self>;
    }

    /// What is done without instructions by name.
    pub(in super::super) trait Float:
        Copy + Default + core::ops::Add<Output = Self> + core::ops::Mul<Output = Self>
    {
    }

    /// Whatever the compiler makes of eight floats.
    pub(super) struct Plain<T>(core::marker::PhantomData<T>);

    // SAFETY: needs nothing beyond the target.
    unsafe impl<T: Float> Simd for Plain<T> {
        const WIDTH: usize = 8;
        type Element = T;
        type Vector = [T; 8];
        #[inline(always)]
        unsafe fn zero() -> [T; 8] {
            [T::default(); 8]
        }
        #[inline(always)]
        unsafe fn splat(value: T) -> [T; 8] {
            [value; 8]
        }
        #[inline(always)]
        unsafe fn load(from: *const T) -> [T; 8] {
            unsafe { from.cast::<[T; 8]>().read_unaligned() }
        }
        #[inline(always)]
        unsafe fn store(to: *mut T, vector: [T; 8]) {
            unsafe { to.cast::<[T; 8]>().write_unaligned(vector) }
        }
        #[inline(always)]
        unsafe fn add_product(sum: [T; 8], a: [T; 8], b: [T; 8]) -> [T; 8] {
            core::array::from_fn(|i| sum[i] + a[i] * b[i])
        }
    }

    macro_rules! element {
        ($element:ident, $avx2:ident, $avx512:ident) => {
            impl Float for $element {}
            impl Element for $element {
                #[cfg(target_arch = "x86_64")]
                type Avx2<const FUSED: bool> = $avx2<FUSED>;
                #[cfg(target_arch = "x86_64")]
                type Avx512<const FUSED: bool> = $avx512<FUSED>;
            }
        };
    }

    element!(f32, Singles256, Singles512);
    element!(f64, Doubles256, Doubles512);

    macro_rules! x86 {
        ($name:ident, $element:ident, $width:literal, $vector:ident, $zero:ident, $splat:ident, $load:ident, $store:ident,
         $fma:ident, $add:ident, $mul:ident) => {
            #[cfg(target_arch = "x86_64")]
            pub(in super::super) struct $name<const FUSED: bool>;

            // SAFETY: the intrinsics' features are the trait's condition.
            #[cfg(target_arch = "x86_64")]
            unsafe impl<const FUSED: bool> Simd for $name<FUSED> {
                const WIDTH: usize = $width;
                type Element = $element;
                type Vector = core::arch::x86_64::$vector;
                #[inline(always)]
                unsafe fn zero() -> Self::Vector {
                    unsafe { core::arch::x86_64::$zero() }
                }
                #[inline(always)]
                unsafe fn splat(value: $element) -> Self::Vector {
                    unsafe { core::arch::x86_64::$splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const $element) -> Self::Vector {
                    unsafe { core::arch::x86_64::$load(from) }
                }
                #[inline(always)]
                unsafe fn store(to: *mut $element, vector: Self::Vector) {
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
        Singles256,
        f32,
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
        Singles512,
        f32,
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
    x86!(
        Doubles256,
        f64,
        4,
        __m256d,
        _mm256_setzero_pd,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_fmadd_pd,
        _mm256_add_pd,
        _mm256_mul_pd
    );
    x86!(
        Doubles512,
        f64,
        8,
        __m512d,
        _mm512_setzero_pd,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_fmadd_pd,
        _mm512_add_pd,
        _mm512_mul_pd
    );
}
