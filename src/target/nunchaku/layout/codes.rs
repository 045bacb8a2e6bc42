//! The 4-bit codes of a W4A4 layer. A tile is 128 × 64: in it, each of the 32 lanes finds its four registers of eight
//! codes side by side, for every 16 rows.
use super::{BLOCK, TILE};

/// Bytes of the lanes' registers for 16 rows of a tile.
const PACK: usize = 16 * TILE / 2;

/// Eight codes in the bytes of a word, the first in the lowest, as the eight nibbles of a register.
#[inline(always)]
fn squeeze(codes: [u8; 8]) -> u32 {
    let v = u64::from_le_bytes(codes) & 0x0f0f_0f0f_0f0f_0f0f;
    let v = (v | (v >> 4)) & 0x00ff_00ff_00ff_00ff;
    let v = (v | (v >> 8)) & 0x0000_ffff_0000_ffff;
    (v | (v >> 16)) as u32
}

/// The inverse of [`squeeze`].
#[inline(always)]
fn spread(register: u32) -> [u8; 8] {
    let v = u64::from(register);
    let v = (v | (v << 16)) & 0x0000_ffff_0000_ffff;
    let v = (v | (v << 8)) & 0x00ff_00ff_00ff_00ff;
    ((v | (v << 4)) & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes()
}

/// Packs `codes` `[rows, cols]`, one in the low four bits of each byte, into `out` of half as many bytes.
///
/// Rows and columns are multiples of [`BLOCK`].
pub fn pack_codes(cols: usize, codes: &[u8], out: &mut [u8]) {
    assert!(cols.is_multiple_of(BLOCK) && codes.len() == 2 * out.len(), "whole blocks of codes");
    for (rows, block) in codes.chunks_exact(BLOCK * cols).zip(out.chunks_exact_mut(BLOCK * cols / 2)) {
        for (i, pack) in block.as_chunks_mut::<PACK>().0.iter_mut().enumerate() {
            let (tile, sixteen) = (i / 8, i % 8);
            for (g, lanes) in pack.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                let at = (16 * sixteen + g) * cols + TILE * tile;
                let upper = registers(rows, at);
                let lower = registers(rows, at + 8 * cols);
                for (t, lane) in lanes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                    let four = [upper[t], upper[4 + t], lower[t], lower[4 + t]];
                    for (bytes, register) in lane.as_chunks_mut::<4>().0.iter_mut().zip(four) {
                        *bytes = register.to_le_bytes();
                    }
                }
            }
        }
    }
}

/// The registers of one row of a tile.
#[inline(always)]
fn registers(rows: &[u8], at: usize) -> [u32; 8] {
    let mut out = [0; 8];
    for (register, eight) in out.iter_mut().zip(rows[at..at + TILE].as_chunks::<8>().0) {
        *register = squeeze(*eight);
    }
    out
}

/// The inverse of [`pack_codes`]: the codes, 0 to 15, one in each byte of `codes` `[rows, cols]`.
pub fn unpack_codes(cols: usize, packed: &[u8], codes: &mut [u8]) {
    assert!(cols.is_multiple_of(BLOCK) && codes.len() == 2 * packed.len(), "whole blocks of codes");
    for (rows, block) in codes.chunks_exact_mut(BLOCK * cols).zip(packed.chunks_exact(BLOCK * cols / 2)) {
        for (i, pack) in block.as_chunks::<PACK>().0.iter().enumerate() {
            let (tile, sixteen) = (i / 8, i % 8);
            for (g, lanes) in pack.as_chunks::<64>().0.iter().enumerate() {
                let at = (16 * sixteen + g) * cols + TILE * tile;
                for (q, h) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let at = at + 8 * q * cols + 32 * h;
                    let half = rows[at..at + 32].as_chunks_mut::<8>().0;
                    for (eight, lane) in half.iter_mut().zip(lanes.as_chunks::<16>().0) {
                        *eight = spread(u32::from_le_bytes(lane.as_chunks::<4>().0[2 * q + h]));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where the code of a row and a column is: the byte, and how far its nibble is shifted.
    fn place(n: usize, k: usize, cols: usize) -> (usize, usize) {
        let (b, p, q, g) = (n / 128, n / 16 % 8, n / 8 % 2, n % 8);
        let (c, h, t, r) = (k / 64, k / 32 % 2, k / 8 % 4, k % 8);
        let word = (((b * (cols / 64) + c) * 8 + p) * 32 + (4 * g + t)) * 4 + (2 * q + h);
        (4 * word + r / 2, 4 * (r % 2))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_code_is_where_the_kernel_looks((rows, cols) in (1usize..4, 1usize..5), seed: u64) {
            let (rows, cols) = (rows * 128, cols * 128);
            let codes = super::super::golden::noise(rows * cols, seed);
            let mut packed = vec![0; rows * cols / 2];
            pack_codes(cols, &codes, &mut packed);
            for (i, code) in codes.iter().enumerate() {
                let (byte, shift) = place(i / cols, i % cols, cols);
                prop_assert_eq!((packed[byte] >> shift) & 15, code & 15, "row {}, column {}", i / cols, i % cols);
            }
            let mut back = vec![0xff; codes.len()];
            unpack_codes(cols, &packed, &mut back);
            prop_assert!(back.iter().zip(&codes).all(|(b, c)| *b == c & 15));
        }

        #[test]
        fn a_block_is_packed_alone(seed: u64) {
            let codes = super::super::golden::noise(256 * 128, seed);
            let mut whole = vec![0; codes.len() / 2];
            pack_codes(128, &codes, &mut whole);
            let mut second = vec![0; 128 * 64];
            pack_codes(128, &codes[128 * 128..], &mut second);
            prop_assert_eq!(&whole[128 * 64..], &second[..]);
        }
    }
}
