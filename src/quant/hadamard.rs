//! Rotation by a Hadamard matrix: every value becomes a sum over its group, with signs, so that no outlier stands alone.
//!
//! Each `group` of consecutive values, a power of two, is multiplied by a symmetric matrix of `±1 / sqrt(group)`. These
//! are the matrices of SDNQ 0.2.8 (`quant_utils.py`: `build_hadamard`, `rotate_hadamard`):
//!
//! | group | matrix |
//! |---|---|
//! | a power of 4 | the Kronecker power of `M4 = [[1,1,1,-1], [1,1,-1,1], [1,-1,1,1], [-1,1,1,1]]` |
//! | another power of 2 | Sylvester's: the Kronecker power of `[[1,1], [1,-1]]` |
//!
//! Both are their own inverse. A Kronecker power is applied one factor at a time, each to the values that lie
//! `4^k` apart: `log2(group)` additions per value instead of `group`.
//!
//! The order of the additions is fixed and none is fused, so that the bits do not depend on the machine.

use super::lanes::{Kernel, Level};

/// Multiply every `group` consecutive values by the matrix above, in place. Its own inverse, but for rounding.
///
/// # Panics
/// If `group` is not a power of two, is below 4, or does not divide the number of values.
pub fn rotate(group: usize, values: &mut [f32]) {
    rotate_at(Level::best(), group, values);
}

fn rotate_at(level: Level, group: usize, values: &mut [f32]) {
    assert!(group >= 4 && group.is_power_of_two(), "a group of {group}");
    assert!(values.len().is_multiple_of(group), "{} values in groups of {group}", values.len());
    if group.trailing_zeros().is_multiple_of(2) {
        level.run(Rotate::<true> { group, values });
    } else {
        level.run(Rotate::<false> { group, values });
    }
}

/// Values that go through the short strides together: few enough for the fastest cache, enough for long loops.
const RUN: usize = 4096;

/// By powers of `M4`, or by Sylvester's matrix.
struct Rotate<'a, const M4: bool> {
    group: usize,
    values: &'a mut [f32],
}

impl<const M4: bool> Kernel for Rotate<'_, M4> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Self { group, values } = self;
        let run = group * (RUN / group).max(1);
        for values in values.chunks_mut(run) {
            next_to_each_other::<M4>(scale(group), values);
            if group >= 16 {
                four_apart::<M4>(values);
                values.chunks_exact_mut(group).for_each(further_apart::<M4>);
            } else if group == 8 {
                values.chunks_exact_mut(8).for_each(halves);
            }
        }
    }
}

/// `1 / sqrt(group)`, rounded once.
fn scale(group: usize) -> f32 {
    (1.0 / (group as f64).sqrt()) as f32
}

/// One factor of the matrix on four values: that of `M4`, or two of Sylvester's.
#[inline(always)]
fn factor<const M4: bool>([x0, x1, x2, x3]: [f32; 4]) -> [f32; 4] {
    let (a, b, c, d) = (x0 + x1, x0 - x1, x2 + x3, x2 - x3);
    if M4 { [a + d, a - d, c + b, c - b] } else { [a + c, b + d, a - c, b - d] }
}

/// The first factor, and the division by `sqrt(group)`.
#[inline(always)]
fn next_to_each_other<const M4: bool>(scale: f32, values: &mut [f32]) {
    for v in values.as_chunks_mut::<4>().0 {
        *v = factor::<M4>(v.map(|v| v * scale));
    }
}

/// The second factor.
#[inline(always)]
fn four_apart<const M4: bool>(values: &mut [f32]) {
    for v in values.as_chunks_mut::<16>().0 {
        // Left to itself, the compiler takes many chunks at once and gathers their values: ten times slower.
        let v = core::hint::black_box(v);
        for i in 0..4 {
            [v[i], v[4 + i], v[8 + i], v[12 + i]] = factor::<M4>([v[i], v[4 + i], v[8 + i], v[12 + i]]);
        }
    }
}

/// The factors from the third on, for one group.
#[inline(always)]
fn further_apart<const M4: bool>(values: &mut [f32]) {
    let mut apart = 16;
    while 4 * apart <= values.len() {
        for values in values.chunks_exact_mut(4 * apart) {
            let (x01, x23) = values.split_at_mut(2 * apart);
            let ((x0, x1), (x2, x3)) = (x01.split_at_mut(apart), x23.split_at_mut(apart));
            for i in 0..apart {
                [x0[i], x1[i], x2[i], x3[i]] = factor::<M4>([x0[i], x1[i], x2[i], x3[i]]);
            }
        }
        apart *= 4;
    }
    if apart < values.len() {
        halves(values);
    }
}

/// Sylvester's last factor, where their number is odd.
#[inline(always)]
fn halves(values: &mut [f32]) {
    let (low, high) = values.split_at_mut(values.len() / 2);
    for (x0, x1) in low.iter_mut().zip(high) {
        (*x0, *x1) = (*x0 + *x1, *x0 - *x1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &[u8] = include_bytes!("../../tests/data/sdnq/hadamard.bin");

    /// The sign of an element of the matrix: the product of those of its factors, digit by digit of row and column.
    fn sign(group: usize, mut row: usize, mut col: usize) -> f64 {
        const M4: [[f64; 4]; 4] =
            [[1.0, 1.0, 1.0, -1.0], [1.0, 1.0, -1.0, 1.0], [1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, 1.0]];
        if !group.trailing_zeros().is_multiple_of(2) {
            return if (row & col).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
        }
        let mut product = 1.0;
        while row + col > 0 {
            product *= M4[row % 4][col % 4];
            (row, col) = (row / 4, col / 4);
        }
        product
    }

    /// The sums as the formula has them, in f64.
    fn dense(group: usize, values: &[f32]) -> Vec<f64> {
        let row = |v: &[f32], row| v.iter().enumerate().map(|(col, &v)| f64::from(v) * sign(group, row, col)).sum();
        let groups = values.chunks_exact(group);
        groups
            .flat_map(|v| {
                (0..group).map(move |r| { let s: f64 = row(v, r); s } / (group as f64).sqrt())
            })
            .collect()
    }

    /// The same steps in the same order, one value at a time.
    fn reference(group: usize, values: &mut [f32]) {
        let scale = scale(group);
        let m4 = group.trailing_zeros().is_multiple_of(2);
        for x in values.chunks_exact_mut(group) {
            x.iter_mut().for_each(|v| *v *= scale);
            let mut apart = 1;
            while apart < group {
                let step = if 4 * apart <= group { 4 } else { 2 };
                for i in (0..group).filter(|i| i / apart % step == 0) {
                    let x0 = x[i];
                    let x1 = x[i + apart];
                    let (a, b) = (x0 + x1, x0 - x1);
                    (x[i], x[i + apart]) = (a, b);
                    if step == 4 {
                        let (x2, x3) = (x[i + 2 * apart], x[i + 3 * apart]);
                        let (c, d) = (x2 + x3, x2 - x3);
                        let y = if m4 { [a + d, a - d, c + b, c - b] } else { [a + c, b + d, a - c, b - d] };
                        (0..4).for_each(|k| x[i + k * apart] = y[k]);
                    }
                }
                apart *= step;
            }
        }
    }

    /// How far [`rotate`] may be from the exact sums of a group.
    ///
    /// A value is scaled, which rounds the scale and the product, and then goes through `log2(group)` additions; each
    /// of these roundings changes its part of a sum by a factor within `1 ± u`. A product below the normal range is
    /// wrong by up to half the least subnormal.
    fn bound(group: usize, values: &[f32]) -> f64 {
        let roundings = f64::from(group.trailing_zeros() + 2);
        let u = f64::from(f32::EPSILON) / 2.0;
        let parts = values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / (group as f64).sqrt();
        // 1 % for the products of several `u`, and for the sums of the test itself.
        1.01 * roundings * u * parts + group as f64 * 2f64.powi(-150)
    }

    fn check_near(group: usize, values: &[f32], rotated: &[f32], expected: &[f64]) {
        for ((values, rotated), expected) in values.chunks(group).zip(rotated.chunks(group)).zip(expected.chunks(group))
        {
            let bound = bound(group, values);
            for (i, (r, e)) in rotated.iter().zip(expected).enumerate() {
                assert!((f64::from(*r) - e).abs() <= bound, "group {group}, value {i}: {r}, not {e}");
            }
        }
    }

    #[test]
    fn one_value_is_spread_over_its_group() {
        let check = |values: &[f32], group: usize, expected: &[f32]| {
            let mut rotated = values.to_vec();
            rotate(group, &mut rotated);
            assert_eq!(rotated, expected);
        };
        check(&[2.0, 0.0, 0.0, 0.0], 4, &[1.0, 1.0, 1.0, -1.0]);
        check(&[0.0, 2.0, 0.0, 0.0], 4, &[1.0, 1.0, -1.0, 1.0]);
        check(&[0.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 0.0], 4, &[-1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0]);
        check(&[1.0; 4], 4, &[1.0; 4]);
        let (plus, minus) = (1.0, -1.0);
        let first = [plus, plus, plus, minus];
        let spread: Vec<f32> = first.iter().flat_map(|a| first.map(|b| a * b)).collect();
        check(&[[4.0].as_slice(), &[0.0; 15]].concat(), 16, &spread);
        check(&[], 256, &[]);
    }

    #[test]
    #[should_panic(expected = "24 values in groups of 16")]
    fn a_group_is_whole() {
        rotate(16, &mut [0.0; 24]);
    }

    #[test]
    #[should_panic(expected = "a group of 12")]
    fn a_group_is_a_power_of_two() {
        rotate(12, &mut [0.0; 24]);
    }

    /// Against the file that `tests/interop/make_sdnq_golden.py` wrote; the order of things is described there.
    #[test]
    fn near_to_sdnq() {
        let (values, mut golden) = GOLDEN.split_at(4 * 256);
        let values: Vec<f32> = values.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        for group in [4, 8, 16, 32, 64, 128, 256] {
            let expected = golden.split_off(..8 * 256).unwrap().as_chunks::<8>().0;
            let expected: Vec<f64> = expected.iter().map(|b| f64::from_le_bytes(*b)).collect();
            let mut rotated = values.clone();
            rotate(group, &mut rotated);
            check_near(group, &values, &rotated, &expected);
        }
        assert!(golden.is_empty(), "the golden file has more in it");
    }

    fn any_groups() -> impl Strategy<Value = (usize, Vec<f32>)> {
        let value = prop_oneof![8 => -4.0f32..4.0, 1 => Just(0.0f32), 1 => -1e30f32..1e30, 1 => -1e-38f32..1e-38];
        (2u32..11, 1usize..4).prop_flat_map(move |(log, groups)| {
            let group = 1 << log;
            (Just(group), prop::collection::vec(value.clone(), group * groups))
        })
    }

    proptest! {
        #[test]
        fn near_to_the_dense_matrix((group, values) in any_groups()) {
            let mut rotated = values.clone();
            rotate(group, &mut rotated);
            check_near(group, &values, &rotated, &dense(group, &values));
        }

        #[test]
        fn twice_is_nothing((group, values) in any_groups()) {
            let mut back = values.clone();
            rotate(group, &mut back);
            let once = back.clone();
            rotate(group, &mut back);
            // The second rotation's own error, and the first one's, of which up to `group` meet in a sum, scaled.
            for ((values, once), back) in values.chunks(group).zip(once.chunks(group)).zip(back.chunks(group)) {
                let bound = bound(group, once) + bound(group, values) * (group as f64).sqrt();
                for (v, b) in values.iter().zip(back) {
                    prop_assert!((f64::from(*v) - f64::from(*b)).abs() <= bound, "group {group}: {b}, not {v}");
                }
            }
        }

        #[test]
        fn every_level_equals_the_reference((group, values) in any_groups(), more in 0usize..40) {
            // Enough groups, at times, for more than one run.
            let values: Vec<f32> = values.iter().copied().cycle().take(values.len() * (1 + more)).collect();
            let mut expected = values.clone();
            reference(group, &mut expected);
            let expected: Vec<u32> = expected.iter().map(|v| v.to_bits()).collect();
            for level in Level::available() {
                let mut rotated = values.clone();
                rotate_at(level, group, &mut rotated);
                let rotated: Vec<u32> = rotated.iter().map(|v| v.to_bits()).collect();
                prop_assert_eq!(&rotated, &expected);
            }
        }
    }
}
