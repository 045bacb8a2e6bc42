//! Scales, biases and smoothing factors. Each lane holds accumulators of two neighbouring channels in every eight, so
//! vectors of 16 bits go in pairs; micro scales go four to a lane.
//!
//! What is stored as `[groups, rows]` is `[rows / 128, groups, 128]` in memory.
use super::BLOCK;

/// Where, of every 16 channels, the one at each place comes from.
const SIXTEEN: [usize; 16] = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];

/// Packs `values` `[rows, groups]` of 16 bits: the scales of int4 groups.
///
/// Rows are a multiple of [`BLOCK`]; `out` is as long as `values`.
pub fn pack_vectors(groups: usize, values: &[u16], out: &mut [u16]) {
    assert!(values.len() == out.len() && values.len().is_multiple_of(BLOCK * groups), "whole blocks of values");
    for (rows, block) in values.chunks_exact(BLOCK * groups).zip(out.chunks_exact_mut(BLOCK * groups)) {
        for (group, vector) in block.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            for (a, sixteen) in vector.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                for (to, from) in sixteen.iter_mut().zip(SIXTEEN) {
                    *to = rows[(16 * a + from) * groups + group];
                }
            }
        }
    }
}

/// The inverse of [`pack_vectors`].
pub fn unpack_vectors(groups: usize, packed: &[u16], values: &mut [u16]) {
    assert!(values.len() == packed.len() && values.len().is_multiple_of(BLOCK * groups), "whole blocks of values");
    for (rows, block) in values.chunks_exact_mut(BLOCK * groups).zip(packed.chunks_exact(BLOCK * groups)) {
        for (group, vector) in block.as_chunks::<BLOCK>().0.iter().enumerate() {
            for (a, sixteen) in vector.as_chunks::<16>().0.iter().enumerate() {
                for (from, to) in sixteen.iter().zip(SIXTEEN) {
                    rows[(16 * a + to) * groups + group] = *from;
                }
            }
        }
    }
}

/// [`pack_vectors`] of one group: biases, smoothing factors (over input channels), scales of output channels.
pub fn pack_vector(values: &[u16], out: &mut [u16]) {
    pack_vectors(1, values, out);
}

/// The inverse of [`pack_vector`].
pub fn unpack_vector(packed: &[u16], values: &mut [u16]) {
    unpack_vectors(1, packed, values);
}

/// The row of a block whose four scales are at a place, of 128.
#[inline(always)]
fn micro_row(place: usize) -> usize {
    32 * (place % 4) + 8 * (place / 4 % 4) + place / 16
}

/// Packs `values` `[rows, groups]` of one byte: the scales of nvfp4's groups, in e4m3.
///
/// Rows are a multiple of [`BLOCK`] and groups of 4; `out` is as long as `values`.
pub fn pack_micro(groups: usize, values: &[u8], out: &mut [u8]) {
    assert!(groups.is_multiple_of(4) && values.len() == out.len(), "scales by fours");
    assert!(values.len().is_multiple_of(BLOCK * groups), "whole blocks of scales");
    for (rows, block) in values.chunks_exact(BLOCK * groups).zip(out.chunks_exact_mut(BLOCK * groups)) {
        let rows = rows.as_chunks::<4>().0;
        for (four, lanes) in block.as_chunks_mut::<{ 4 * BLOCK }>().0.iter_mut().enumerate() {
            for (place, scales) in lanes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *scales = rows[micro_row(place) * (groups / 4) + four];
            }
        }
    }
}

/// The inverse of [`pack_micro`].
pub fn unpack_micro(groups: usize, packed: &[u8], values: &mut [u8]) {
    assert!(groups.is_multiple_of(4) && values.len() == packed.len(), "scales by fours");
    assert!(values.len().is_multiple_of(BLOCK * groups), "whole blocks of scales");
    for (rows, block) in values.chunks_exact_mut(BLOCK * groups).zip(packed.chunks_exact(BLOCK * groups)) {
        let rows = rows.as_chunks_mut::<4>().0;
        for (four, lanes) in block.as_chunks::<{ 4 * BLOCK }>().0.iter().enumerate() {
            for (place, scales) in lanes.as_chunks::<4>().0.iter().enumerate() {
                rows[micro_row(place) * (groups / 4) + four] = *scales;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::target::nunchaku::layout::golden::noise;

    /// Where a value of 16 bits is.
    fn place(n: usize, group: usize, groups: usize) -> usize {
        let (b, a, e, c, d) = (n / 128, n / 16 % 8, n / 8 % 2, n / 2 % 4, n % 2);
        (b * groups + group) * 128 + 16 * a + 4 * c + 2 * e + d
    }

    /// Where a micro scale is.
    fn micro_place(n: usize, group: usize, groups: usize) -> usize {
        let (b, a, e, c) = (n / 128, n / 32 % 4, n / 8 % 4, n % 8);
        let (four, j) = (group / 4, group % 4);
        ((b * (groups / 4) + four) * 128 + 16 * c + 4 * e + a) * 4 + j
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_value_is_where_the_kernel_looks((blocks, groups) in (1usize..4, 1usize..9), seed: u64) {
            let rows = blocks * 128;
            let values: Vec<u16> =
                noise(2 * rows * groups, seed).as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
            let mut packed = vec![0; values.len()];
            pack_vectors(groups, &values, &mut packed);
            for (i, value) in values.iter().enumerate() {
                prop_assert_eq!(packed[place(i / groups, i % groups, groups)], *value, "value {}", i);
            }
            let mut back = vec![0; values.len()];
            unpack_vectors(groups, &packed, &mut back);
            prop_assert_eq!(back, values);
        }

        #[test]
        fn every_micro_scale_is_where_the_kernel_looks((blocks, fours) in (1usize..4, 1usize..7), seed: u64) {
            let (rows, groups) = (blocks * 128, fours * 4);
            let values = noise(rows * groups, seed);
            let mut packed = vec![0; values.len()];
            pack_micro(groups, &values, &mut packed);
            for (i, value) in values.iter().enumerate() {
                prop_assert_eq!(packed[micro_place(i / groups, i % groups, groups)], *value, "scale {}", i);
            }
            let mut back = vec![0; values.len()];
            unpack_micro(groups, &packed, &mut back);
            prop_assert_eq!(back, values);
        }
    }

    #[test]
    fn even_a_bias_is_permuted() {
        let natural: Vec<u16> = (0..128).collect();
        let mut packed = vec![0; 128];
        pack_vector(&natural, &mut packed);
        assert_eq!(packed[..16], [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]);
        assert_eq!(packed[16..20], [16, 17, 24, 25]);
        let mut back = vec![0; 128];
        unpack_vector(&packed, &mut back);
        assert_eq!(back, natural);
    }
}
