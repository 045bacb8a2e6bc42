//! AVX2 and AVX-512.
#![allow(unsafe_code, reason = "intrinsics; a value of the type proves that the machine has them")]

use core::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// Proof that the machine has AVX2.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Proof that the machine has AVX-512 F, BW, VL and DQ (and so AVX2).
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

#[target_feature(enable = "avx2")]
pub(super) fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// A method for each line: its arguments, and an expression for one of the two registers (AVX2) or for the only one
/// (AVX-512).
macro_rules! methods {
    (twice $($name:ident$(<const $n:ident>)?($($a:ident: $A:ident),*) -> $R:ident = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name$(<const $n: u32>)?(self, $($a: Self::$A),*) -> Self::$R {
            // SAFETY: `self` proves the features.
            unsafe {
                [{ $(let $a = $a[0];)* $e }, { $(let $a = $a[1];)* $e }]
            }
        }
    )*};
    (once $($name:ident$(<const $n:ident>)?($($a:ident: $A:ident),*) -> $R:ident = $e:expr;)*) => {$(
        #[inline(always)]
        fn $name$(<const $n: u32>)?(self, $($a: Self::$A),*) -> Self::$R {
            // SAFETY: `self` proves the features.
            unsafe { $e }
        }
    )*};
}

/// Lane `i` is the fold of the lanes of row `i` of eight.
macro_rules! fold_lanes {
    ($op:ident, $rows:expr) => {{
        let rows: [__m256; 8] = $rows;
        let mut pairs = [rows[0]; 4];
        for (pair, rows) in pairs.iter_mut().zip(rows.as_chunks::<2>().0) {
            *pair = $op(_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1]));
        }
        let mut fours = [rows[0]; 2];
        for (four, pairs) in fours.iter_mut().zip(pairs.as_chunks::<2>().0) {
            *four = $op(
                _mm256_shuffle_ps::<0b01_00_01_00>(pairs[0], pairs[1]),
                _mm256_shuffle_ps::<0b11_10_11_10>(pairs[0], pairs[1]),
            );
        }
        $op(_mm256_permute2f128_ps::<0x20>(fours[0], fours[1]), _mm256_permute2f128_ps::<0x31>(fours[0], fours[1]))
    }};
}

/// The same of sixteen rows in two registers each, or in one.
macro_rules! fold_sixteen {
    (two $op:ident, $of:expr) => {{
        let mut folded = [$of[0][0]; 2];
        for (half, folded) in folded.iter_mut().enumerate() {
            let mut rows = [$of[0][0]; 8];
            for (row, of) in rows.iter_mut().zip(&$of[8 * half..]) {
                *row = $op(of[0], of[1]);
            }
            *folded = fold_lanes!($op, rows);
        }
        folded
    }};
    (one $op:ident, $of:expr) => {{
        let mut folded = [_mm256_setzero_ps(); 2];
        for (half, folded) in folded.iter_mut().enumerate() {
            let mut rows = [_mm256_setzero_ps(); 8];
            for (row, of) in rows.iter_mut().zip(&$of[8 * half..]) {
                *row = $op(_mm512_castps512_ps256(*of), _mm512_extractf32x8_ps::<1>(*of));
            }
            *folded = fold_lanes!($op, rows);
        }
        _mm512_insertf32x8::<1>(_mm512_castps256_ps512(folded[0]), folded[1])
    }};
}

impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type M = [__m256; 2];

    methods! { twice
        add(a: F, b: F) -> F = _mm256_add_ps(a, b);
        sub(a: F, b: F) -> F = _mm256_sub_ps(a, b);
        mul(a: F, b: F) -> F = _mm256_mul_ps(a, b);
        div(a: F, b: F) -> F = _mm256_div_ps(a, b);
        sqrt(a: F) -> F = _mm256_sqrt_ps(a);
        abs(a: F) -> F = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        neg(a: F) -> F = _mm256_xor_ps(_mm256_set1_ps(-0.0), a);
        max(a: F, b: F) -> F = _mm256_max_ps(a, b);
        min(a: F, b: F) -> F = _mm256_min_ps(a, b);
        lt(a: F, b: F) -> M = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        le(a: F, b: F) -> M = _mm256_cmp_ps::<_CMP_LE_OQ>(a, b);
        eq(a: F, b: F) -> M = _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b);
        select(mask: M, yes: F, no: F) -> F = _mm256_blendv_ps(no, yes, mask);
        add_i(a: I, b: I) -> I = _mm256_add_epi32(a, b);
        sub_i(a: I, b: I) -> I = _mm256_sub_epi32(a, b);
        mul_i(a: I, b: I) -> I = _mm256_mullo_epi32(a, b);
        max_i(a: I, b: I) -> I = _mm256_max_epi32(a, b);
        min_i(a: I, b: I) -> I = _mm256_min_epi32(a, b);
        and_i(a: I, b: I) -> I = _mm256_and_si256(a, b);
        or_i(a: I, b: I) -> I = _mm256_or_si256(a, b);
        xor_i(a: I, b: I) -> I = _mm256_xor_si256(a, b);
        shl<const N>(a: I) -> I = _mm256_sllv_epi32(a, _mm256_set1_epi32(N as i32));
        shr<const N>(a: I) -> I = _mm256_srlv_epi32(a, _mm256_set1_epi32(N as i32));
        sar<const N>(a: I) -> I = _mm256_srav_epi32(a, _mm256_set1_epi32(N as i32));
        eq_i(a: I, b: I) -> M = _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b));
        gt_i(a: I, b: I) -> M = _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b));
        select_i(mask: M, yes: I, no: I) -> I = _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(no), _mm256_castsi256_ps(yes), mask));
        bits(a: F) -> I = _mm256_castps_si256(a);
        from_bits(a: I) -> F = _mm256_castsi256_ps(a);
        to_float(a: I) -> F = _mm256_cvtepi32_ps(a);
        to_int(a: F) -> I = _mm256_cvttps_epi32(a);
        and_m(a: M, b: M) -> M = _mm256_and_ps(a, b);
        or_m(a: M, b: M) -> M = _mm256_or_ps(a, b);
        not_m(a: M) -> M = _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        // SAFETY: `self` proves the features.
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        // SAFETY: `self` proves the features; both halves lie in the array.
        unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
    }
    #[inline(always)]
    fn store(self, vector: Self::F, to: &mut [f32; LANES]) {
        // SAFETY: `self` proves the features; both halves lie in the array.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), vector[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), vector[1]);
        }
    }
    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        // SAFETY: `self` proves the features.
        unsafe { [_mm256_set1_epi32(value); 2] }
    }
    #[inline(always)]
    fn load_i(self, from: &[i32; LANES]) -> Self::I {
        let from = from.as_ptr().cast::<__m256i>();
        // SAFETY: `self` proves the features; both halves lie in the array.
        unsafe { [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))] }
    }
    #[inline(always)]
    fn store_i(self, vector: Self::I, to: &mut [i32; LANES]) {
        let to = to.as_mut_ptr().cast::<__m256i>();
        // SAFETY: `self` proves the features; both halves lie in the array.
        unsafe {
            _mm256_storeu_si256(to, vector[0]);
            _mm256_storeu_si256(to.add(1), vector[1]);
        }
    }
    #[inline(always)]
    fn store_bytes(self, a: Self::I, to: &mut [u8; LANES]) {
        // SAFETY: `self` proves the features; the array has sixteen bytes.
        unsafe {
            let low = _mm256_set1_epi32(0xff);
            let words = _mm256_packus_epi32(_mm256_and_si256(a[0], low), _mm256_and_si256(a[1], low));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
    }
    #[inline(always)]
    fn store_nibbles<const TOP: i32>(self, low: Self::I, high: Self::I, to: &mut [u8; LANES]) -> u32 {
        // SAFETY: `self` proves the features; the array has sixteen bytes.
        unsafe {
            let words = [_mm256_packus_epi32(low[0], high[0]), _mm256_packus_epi32(low[1], high[1])];
            // Fours of low and of high, in turn: 0, 16, 8, 24, then 4, 20, 12, 28.
            let bytes = _mm256_min_epu8(_mm256_packus_epi16(words[0], words[1]), _mm256_set1_epi8(TOP as i8));
            let nibbles = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
            let pairs = _mm256_or_si256(nibbles, _mm256_srli_epi64::<28>(nibbles));
            let pairs = _mm256_permutevar8x32_epi32(pairs, _mm256_setr_epi32(0, 4, 2, 6, 0, 0, 0, 0));
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(pairs));
            if TOP == 15 {
                return 0;
            }
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7));
            _mm256_movemask_epi8(_mm256_slli_epi16::<3>(bytes)) as u32
        }
    }
    #[inline(always)]
    fn fetch(self, values: &[f32]) {
        for line in values.chunks(16) {
            // SAFETY: a hint, which may be given for any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; LANES]) -> Self::I {
        // SAFETY: `self` proves the features; the array has sixteen bytes.
        unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            [_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))]
        }
    }
    #[inline(always)]
    fn mask_bits(self, a: Self::M) -> u32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm256_movemask_ps(a[0]) as u32 | (_mm256_movemask_ps(a[1]) as u32) << 8 }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], index: Self::I) -> Self::F {
        let [low, high] = self.load(table);
        // SAFETY: `self` proves the features.
        unsafe {
            // The permutes read three bits of the index, and the fourth becomes the sign that the blend reads.
            // Not with `map`, whose closure is not always inlined into code that has the features.
            let [a, b] = index;
            [
                _mm256_blendv_ps(
                    _mm256_permutevar8x32_ps(low, a),
                    _mm256_permutevar8x32_ps(high, a),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<28>(a)),
                ),
                _mm256_blendv_ps(
                    _mm256_permutevar8x32_ps(low, b),
                    _mm256_permutevar8x32_ps(high, b),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<28>(b)),
                ),
            ]
        }
    }
    #[inline(always)]
    fn least(self, a: Self::F) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe {
            let eight = _mm256_min_ps(a[0], a[1]);
            let four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_min_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn lookup4(self, table: &[f32; 4], index: Self::I) -> Self::F {
        // SAFETY: `self` proves the features; the table has four floats. The permute reads two bits of the index.
        unsafe {
            let table = _mm_loadu_ps(table.as_ptr());
            let table = _mm256_set_m128(table, table);
            [_mm256_permutevar_ps(table, index[0]), _mm256_permutevar_ps(table, index[1])]
        }
    }
    #[inline(always)]
    fn lookup8(self, table: &[f32; 8], index: Self::I) -> Self::F {
        // SAFETY: `self` proves the features; the table has eight floats. The permute reads three bits of the index.
        unsafe {
            let table = _mm256_loadu_ps(table.as_ptr());
            [_mm256_permutevar8x32_ps(table, index[0]), _mm256_permutevar8x32_ps(table, index[1])]
        }
    }
    #[inline(always)]
    fn least_lanes(self, of: &[Self::F; LANES]) -> Self::F {
        // SAFETY: `self` proves the features.
        unsafe { fold_sixteen!(two _mm256_min_ps, of) }
    }
    #[inline(always)]
    fn greatest_lanes(self, of: &[Self::F; LANES]) -> Self::F {
        // SAFETY: `self` proves the features.
        unsafe { fold_sixteen!(two _mm256_max_ps, of) }
    }
    #[inline(always)]
    fn prefetch(self, values: &[f32]) {
        prefetch(values);
    }
    #[inline(always)]
    fn transpose(self, from: &[f32], stride: usize, to: &mut [[f32; LANES]; 16]) {
        // SAFETY: `self` proves the features.
        unsafe { transpose(from, stride, to) }
    }
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type M = __mmask16;
    const WIDE: bool = true;

    methods! { once
        add(a: F, b: F) -> F = _mm512_add_ps(a, b);
        sub(a: F, b: F) -> F = _mm512_sub_ps(a, b);
        mul(a: F, b: F) -> F = _mm512_mul_ps(a, b);
        div(a: F, b: F) -> F = _mm512_div_ps(a, b);
        sqrt(a: F) -> F = _mm512_sqrt_ps(a);
        abs(a: F) -> F = _mm512_abs_ps(a);
        neg(a: F) -> F = _mm512_xor_ps(_mm512_set1_ps(-0.0), a);
        max(a: F, b: F) -> F = _mm512_max_ps(a, b);
        min(a: F, b: F) -> F = _mm512_min_ps(a, b);
        lt(a: F, b: F) -> M = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        le(a: F, b: F) -> M = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b);
        eq(a: F, b: F) -> M = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b);
        select(mask: M, yes: F, no: F) -> F = _mm512_mask_blend_ps(mask, no, yes);
        add_i(a: I, b: I) -> I = _mm512_add_epi32(a, b);
        sub_i(a: I, b: I) -> I = _mm512_sub_epi32(a, b);
        mul_i(a: I, b: I) -> I = _mm512_mullo_epi32(a, b);
        max_i(a: I, b: I) -> I = _mm512_max_epi32(a, b);
        min_i(a: I, b: I) -> I = _mm512_min_epi32(a, b);
        and_i(a: I, b: I) -> I = _mm512_and_si512(a, b);
        or_i(a: I, b: I) -> I = _mm512_or_si512(a, b);
        xor_i(a: I, b: I) -> I = _mm512_xor_si512(a, b);
        shl<const N>(a: I) -> I = _mm512_slli_epi32::<N>(a);
        shr<const N>(a: I) -> I = _mm512_srli_epi32::<N>(a);
        sar<const N>(a: I) -> I = _mm512_srai_epi32::<N>(a);
        eq_i(a: I, b: I) -> M = _mm512_cmpeq_epi32_mask(a, b);
        gt_i(a: I, b: I) -> M = _mm512_cmpgt_epi32_mask(a, b);
        select_i(mask: M, yes: I, no: I) -> I = _mm512_mask_blend_epi32(mask, no, yes);
        bits(a: F) -> I = _mm512_castps_si512(a);
        from_bits(a: I) -> F = _mm512_castsi512_ps(a);
        to_float(a: I) -> F = _mm512_cvtepi32_ps(a);
        to_int(a: F) -> I = _mm512_cvttps_epi32(a);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        // SAFETY: `self` proves the features; the array has sixteen floats.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, vector: Self::F, to: &mut [f32; LANES]) {
        // SAFETY: `self` proves the features; the array has sixteen floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), vector) }
    }
    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    fn load_i(self, from: &[i32; LANES]) -> Self::I {
        // SAFETY: `self` proves the features; the array has sixteen integers.
        unsafe { _mm512_loadu_epi32(from.as_ptr()) }
    }
    #[inline(always)]
    fn store_i(self, vector: Self::I, to: &mut [i32; LANES]) {
        // SAFETY: `self` proves the features; the array has sixteen integers.
        unsafe { _mm512_storeu_epi32(to.as_mut_ptr(), vector) }
    }
    #[inline(always)]
    fn store_bytes(self, a: Self::I, to: &mut [u8; LANES]) {
        // SAFETY: `self` proves the features; the array has sixteen bytes.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(a)) }
    }
    #[inline(always)]
    fn fetch(self, values: &[f32]) {
        for line in values.chunks(16) {
            // SAFETY: a hint, which may be given for any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; LANES]) -> Self::I {
        // SAFETY: `self` proves the features; the array has sixteen bytes.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn and_m(self, a: Self::M, b: Self::M) -> Self::M {
        a & b
    }
    #[inline(always)]
    fn or_m(self, a: Self::M, b: Self::M) -> Self::M {
        a | b
    }
    #[inline(always)]
    fn not_m(self, a: Self::M) -> Self::M {
        !a
    }
    #[inline(always)]
    fn mask_bits(self, a: Self::M) -> u32 {
        u32::from(a)
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; 16], index: Self::I) -> Self::F {
        let table = self.load(table);
        // SAFETY: `self` proves the features. The permute reads four bits of the index.
        unsafe { _mm512_permutexvar_ps(index, table) }
    }
    #[inline(always)]
    fn least_lanes(self, of: &[Self::F; LANES]) -> Self::F {
        // SAFETY: `self` proves the features.
        unsafe { fold_sixteen!(one _mm256_min_ps, of) }
    }
    #[inline(always)]
    fn greatest_lanes(self, of: &[Self::F; LANES]) -> Self::F {
        // SAFETY: `self` proves the features.
        unsafe { fold_sixteen!(one _mm256_max_ps, of) }
    }
    #[inline(always)]
    fn least(self, a: Self::F) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_reduce_min_ps(a) }
    }
    #[inline(always)]
    fn lookup4(self, table: &[f32; 4], index: Self::I) -> Self::F {
        // SAFETY: `self` proves the features; the table has four floats. The permute reads two bits of the index.
        unsafe {
            let table = _mm512_broadcast_f32x4(_mm_loadu_ps(table.as_ptr()));
            _mm512_permutevar_ps(table, index)
        }
    }
    #[inline(always)]
    fn lookup8(self, table: &[f32; 8], index: Self::I) -> Self::F {
        // SAFETY: `self` proves the features; the table has eight floats. The permute reads four bits of the index, and
        // the table lies there twice.
        unsafe {
            let table = _mm512_broadcast_f32x8(_mm256_loadu_ps(table.as_ptr()));
            _mm512_permutexvar_ps(index, table)
        }
    }
    #[inline(always)]
    fn store_beside(self, [a, b, c, d]: [Self::I; 4], to: &mut [[i32; 4]; LANES]) {
        // SAFETY: `self` proves the features; `to` has sixteen quarters of a register.
        unsafe {
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            // Quarter `q` of register `i` is of lane `4 q + i`.
            let registers = [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ];
            for (i, register) in registers.into_iter().enumerate() {
                let to = to.as_mut_ptr().add(i).cast::<__m128i>();
                _mm_storeu_si128(to, _mm512_castsi512_si128(register));
                _mm_storeu_si128(to.add(4), _mm512_extracti32x4_epi32::<1>(register));
                _mm_storeu_si128(to.add(8), _mm512_extracti32x4_epi32::<2>(register));
                _mm_storeu_si128(to.add(12), _mm512_extracti32x4_epi32::<3>(register));
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, values: &[f32]) {
        prefetch(values);
    }
    #[inline(always)]
    fn transpose(self, from: &[f32], stride: usize, to: &mut [[f32; LANES]; 16]) {
        // SAFETY: `self` proves the features.
        unsafe { transpose_wide(from, stride, to) }
    }
}

/// Line by line to the second-level cache.
#[inline(always)]
fn prefetch(values: &[f32]) {
    for line in values.chunks(64 / size_of::<f32>()) {
        // SAFETY: a hint, of every x86-64; it takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
}

/// Four columns at a time: quarter `q` of register `i` is of row `4 q + i`, so that all that follows stays in quarters.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_wide(from: &[f32], stride: usize, to: &mut [[f32; LANES]; 16]) {
    assert!(stride.checked_mul(LANES - 1).and_then(|last| last.checked_add(16)).is_some_and(|end| end <= from.len()));
    for (part, to) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let quarter = |row: usize| {
            // SAFETY: `row < 16` and `4 part + 4 <= 16`, so this ends at or before the asserted end.
            unsafe { _mm_loadu_ps(from.as_ptr().add(row * stride + 4 * part)) }
        };
        let register = |i: usize| {
            let first = _mm512_broadcast_f32x4(quarter(i));
            let second = _mm512_mask_broadcast_f32x4(first, 0x00f0, quarter(i + 4));
            let third = _mm512_mask_broadcast_f32x4(second, 0x0f00, quarter(i + 8));
            _mm512_mask_broadcast_f32x4(third, 0xf000, quarter(i + 12))
        };
        let (a, b, c, d) = (register(0), register(1), register(2), register(3));
        let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
        let columns = [
            _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd),
            _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd),
            _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ];
        for (to, column) in to.iter_mut().zip(columns) {
            // SAFETY: a row has sixteen floats.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), column) }
        }
    }
}

/// In four tiles of eight by eight.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(from: &[f32], stride: usize, to: &mut [[f32; LANES]; 16]) {
    assert!(stride.checked_mul(LANES - 1).and_then(|last| last.checked_add(16)).is_some_and(|end| end <= from.len()));
    for tile in 0..4 {
        let (lane, column) = (tile / 2 * 8, tile % 2 * 8);
        let row = |i: usize| {
            // SAFETY: `lane + i < 16` and `column + 8 <= 16`, so this ends at or before the asserted end.
            unsafe { _mm256_loadu_ps(from.as_ptr().add((lane + i) * stride + column)) }
        };
        // Rows i and i + 4 share a register, so that the rest stays within halves.
        let pair = |i: usize| {
            let (a, b) = (row(i), row(i + 4));
            (_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
        };
        let rows = [pair(0), pair(1), pair(2), pair(3)];
        for (half, [a, b, c, d]) in [rows.map(|r| r.0), rows.map(|r| r.1)].into_iter().enumerate() {
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            let columns = [
                _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
                _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
            ];
            for (i, values) in columns.into_iter().enumerate() {
                let to = &mut to[column + half * 4 + i][lane..][..8];
                // SAFETY: the slice has eight floats.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) }
            }
        }
    }
}
