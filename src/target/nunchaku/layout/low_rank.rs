//! The low-rank branch's factors, in tiles of 16 × 16 whose elements lie as the lanes of a matrix product hold them. Both
//! are stored with the channel first, `up` as `[N, rank]` and `down` as `[K, rank]`, and a tile of `down` is of `Vᵀ`.

/// Rows and columns of a tile.
const SIDE: usize = 16;
/// Elements of a tile.
const AREA: usize = SIDE * SIDE;

/// Packs the tile whose upper left corner is at the start of `natural`, rows of which are `stride` apart.
#[inline(always)]
fn pack_tile(natural: &[u16], stride: usize, tile: &mut [u16; AREA]) {
    for (g, lanes) in tile.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let upper = &natural[g * stride..][..SIDE];
        let lower = &natural[(g + 8) * stride..][..SIDE];
        for (t, lane) in lanes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let (left, right) = (2 * t, 8 + 2 * t);
            *lane = [
                upper[left],
                upper[left + 1],
                upper[right],
                upper[right + 1],
                lower[left],
                lower[left + 1],
                lower[right],
                lower[right + 1],
            ];
        }
    }
}

/// The inverse of [`pack_tile`].
#[inline(always)]
fn unpack_tile(tile: &[u16; AREA], stride: usize, natural: &mut [u16]) {
    for (g, lanes) in tile.as_chunks::<32>().0.iter().enumerate() {
        for (q, row) in [g, g + 8].into_iter().enumerate() {
            let row = &mut natural[row * stride..][..SIDE];
            for (t, lane) in lanes.as_chunks::<8>().0.iter().enumerate() {
                for h in 0..2 {
                    row[8 * h + 2 * t] = lane[4 * q + 2 * h];
                    row[8 * h + 2 * t + 1] = lane[4 * q + 2 * h + 1];
                }
            }
        }
    }
}

/// Packs `natural` `[channels, rank]`, the factor of the output. Channels and rank are multiples of 16, and every 16
/// channels may be packed alone.
pub fn pack_up(rank: usize, natural: &[u16], out: &mut [u16]) {
    assert!(rank.is_multiple_of(SIDE) && natural.len() == out.len(), "whole tiles");
    for (rows, strip) in natural.chunks_exact(SIDE * rank).zip(out.chunks_exact_mut(SIDE * rank)) {
        for (z, tile) in strip.as_chunks_mut::<AREA>().0.iter_mut().enumerate() {
            pack_tile(&rows[SIDE * z..], rank, tile);
        }
    }
}

/// The inverse of [`pack_up`].
pub fn unpack_up(rank: usize, packed: &[u16], natural: &mut [u16]) {
    assert!(rank.is_multiple_of(SIDE) && natural.len() == packed.len(), "whole tiles");
    for (rows, strip) in natural.chunks_exact_mut(SIDE * rank).zip(packed.chunks_exact(SIDE * rank)) {
        for (z, tile) in strip.as_chunks::<AREA>().0.iter().enumerate() {
            unpack_tile(tile, rank, &mut rows[SIDE * z..]);
        }
    }
}

/// Packs `natural` `[rank, channels]`, the factor of the input, whole. `out` is `[channels, rank]` in tiles. Channels and
/// rank are multiples of 16.
pub fn pack_down(channels: usize, rank: usize, natural: &[u16], out: &mut [u16]) {
    assert!(channels.is_multiple_of(SIDE) && rank.is_multiple_of(SIDE), "whole tiles");
    assert!(natural.len() == channels * rank && natural.len() == out.len(), "a whole factor");
    for (s, strip) in out.chunks_exact_mut(SIDE * rank).enumerate() {
        for (z, tile) in strip.as_chunks_mut::<AREA>().0.iter_mut().enumerate() {
            pack_tile(&natural[SIDE * (z * channels + s)..], channels, tile);
        }
    }
}

/// The inverse of [`pack_down`].
pub fn unpack_down(channels: usize, rank: usize, packed: &[u16], natural: &mut [u16]) {
    assert!(channels.is_multiple_of(SIDE) && rank.is_multiple_of(SIDE), "whole tiles");
    assert!(natural.len() == channels * rank && natural.len() == packed.len(), "a whole factor");
    for (s, strip) in packed.chunks_exact(SIDE * rank).enumerate() {
        for (z, tile) in strip.as_chunks::<AREA>().0.iter().enumerate() {
            unpack_tile(tile, channels, &mut natural[SIDE * (z * channels + s)..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::target::nunchaku::layout::golden::noise;

    /// Where an element of `up` is, by its channel and rank.
    fn up_place(n: usize, rho: usize, rank: usize) -> usize {
        let (s, q, g) = (n / 16, n / 8 % 2, n % 8);
        let (z, h, t, e) = (rho / 16, rho / 8 % 2, rho / 2 % 4, rho % 2);
        (s * (rank / 16) + z) * 256 + 8 * (4 * g + t) + 4 * q + 2 * h + e
    }

    /// Where an element of `down` is, by its channel and rank.
    fn down_place(k: usize, rho: usize, rank: usize) -> usize {
        let (s, h, t, e) = (k / 16, k / 8 % 2, k / 2 % 4, k % 2);
        let (z, q, g) = (rho / 16, rho / 8 % 2, rho % 8);
        (s * (rank / 16) + z) * 256 + 8 * (4 * g + t) + 4 * q + 2 * h + e
    }

    proptest! {
        #[test]
        fn every_element_is_where_the_kernel_looks((channels, rank) in (1usize..20, 1usize..6), seed: u64) {
            let (channels, rank) = (channels * 16, rank * 16);
            let bytes = noise(2 * channels * rank, seed);
            let natural: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
            let mut packed = vec![0; natural.len()];
            let mut back = vec![0; natural.len()];

            pack_up(rank, &natural, &mut packed);
            for (i, value) in natural.iter().enumerate() {
                prop_assert_eq!(packed[up_place(i / rank, i % rank, rank)], *value, "up, element {}", i);
            }
            unpack_up(rank, &packed, &mut back);
            prop_assert_eq!(&back, &natural);

            pack_down(channels, rank, &natural, &mut packed);
            for (i, value) in natural.iter().enumerate() {
                let at = down_place(i % channels, i / channels, rank);
                prop_assert_eq!(packed[at], *value, "down, element {}", i);
            }
            back.fill(0);
            unpack_down(channels, rank, &packed, &mut back);
            prop_assert_eq!(&back, &natural);
        }
    }
}
