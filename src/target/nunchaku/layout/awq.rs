//! AWQ's W4A16 layers: words of 16 bits with four codes, each eight input channels from the next, and four rows side by
//! side. Their rows are interleaved where one layer makes the shifts, scales and gates of a block.
use super::TILE;

/// Rows that are packed together.
const ROWS: usize = 4;

/// Where the code of a row and a column is: its byte, and how many bits it is shifted in it.
#[inline]
pub fn awq_place(row: usize, col: usize, cols: usize) -> (usize, u32) {
    let tile = (row / ROWS) * (cols / TILE) + col / TILE;
    let word = tile * TILE + row % ROWS * 16 + col / 32 % 2 * 8 + col % 8;
    let nibble = col / 8 % 4;
    (2 * word + nibble / 2, 4 * (nibble % 2) as u32)
}

/// Packs `codes` `[rows, cols]`, one in the low four bits of each byte, into `out` of half as many bytes.
///
/// Rows are a multiple of 4 and columns of 64.
pub fn pack_awq(cols: usize, codes: &[u8], out: &mut [u8]) {
    assert!(cols.is_multiple_of(TILE) && codes.len() == 2 * out.len(), "whole tiles of codes");
    for (rows, strip) in codes.chunks_exact(ROWS * cols).zip(out.chunks_exact_mut(ROWS * cols / 2)) {
        for (i, words) in strip.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (tile, row, half) = (i / 8, i / 2 % 4, i % 2);
            let codes = rows[row * cols + TILE * tile + 32 * half..][..32].as_chunks::<8>().0;
            for (j, word) in words.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let pair = |a: usize| (codes[a][j] & 15) | (codes[a + 1][j] << 4);
                *word = [pair(0), pair(2)];
            }
        }
    }
}

/// The inverse of [`pack_awq`]: the codes, 0 to 15, one in each byte of `codes` `[rows, cols]`.
pub fn unpack_awq(cols: usize, packed: &[u8], codes: &mut [u8]) {
    assert!(cols.is_multiple_of(TILE) && codes.len() == 2 * packed.len(), "whole tiles of codes");
    for (rows, strip) in codes.chunks_exact_mut(ROWS * cols).zip(packed.chunks_exact(ROWS * cols / 2)) {
        for (i, words) in strip.as_chunks::<16>().0.iter().enumerate() {
            let (tile, row, half) = (i / 8, i / 2 % 4, i % 2);
            let codes = rows[row * cols + TILE * tile + 32 * half..][..32].as_chunks_mut::<8>().0;
            for (j, [low, high]) in words.as_chunks::<2>().0.iter().enumerate() {
                for (eight, code) in codes.iter_mut().zip([low & 15, low >> 4, high & 15, high >> 4]) {
                    eight[j] = code;
                }
            }
        }
    }
}

/// The source's row that is stored at `row`, where a layer of `rows` rows makes `fields` vectors: the runtime wants the
/// vectors' elements side by side. `fields` is at least 1 and divides `rows`.
#[inline]
pub fn interleave(fields: usize, rows: usize, row: usize) -> usize {
    row % fields * (rows / fields) + row / fields
}

/// Where a row of the source is stored: the inverse of [`interleave`].
#[inline]
pub fn interleaved(fields: usize, rows: usize, row: usize) -> usize {
    let each = rows / fields;
    row % each * fields + row / each
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::target::nunchaku::layout::golden::noise;

    proptest! {
        #[test]
        fn every_code_is_where_the_kernel_looks((rows, cols) in (1usize..6, 1usize..6), seed: u64) {
            let (rows, cols) = (rows * 4, cols * 64);
            let codes = noise(rows * cols, seed);
            let mut packed = vec![0; rows * cols / 2];
            pack_awq(cols, &codes, &mut packed);
            let words: Vec<u16> = packed.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
            for (i, code) in codes.iter().enumerate() {
                let (n, k) = (i / cols, i % cols);
                let word = ((n / 4) * (cols / 64) + k / 64) * 64 + (n % 4) * 16 + ((k / 32) % 2) * 8 + k % 8;
                prop_assert_eq!((words[word] >> (4 * ((k / 8) % 4))) & 15, u16::from(code & 15), "{}, {}", n, k);
                let (byte, shift) = awq_place(n, k, cols);
                prop_assert_eq!((packed[byte] >> shift) & 15, code & 15, "{}, {}", n, k);
            }
            let mut back = vec![0xff; codes.len()];
            unpack_awq(cols, &packed, &mut back);
            prop_assert!(back.iter().zip(&codes).all(|(b, c)| *b == c & 15));
        }

        #[test]
        fn rows_come_back(fields in 1usize..8, each in 1usize..40, at: proptest::sample::Index) {
            let (rows, row) = (fields * each, at.index(fields * each));
            prop_assert_eq!(interleaved(fields, rows, interleave(fields, rows, row)), row);
            prop_assert_eq!(interleave(fields, rows, interleaved(fields, rows, row)), row);
        }
    }

    #[test]
    fn fields_lie_side_by_side() {
        // Three fields a, b, c of two elements each: a0 a1 b0 b1 c0 c1 is stored as a0 b0 c0 a1 b1 c1.
        let stored: Vec<usize> = (0..6).map(|row| interleave(3, 6, row)).collect();
        assert_eq!(stored, [0, 2, 4, 1, 3, 5]);
    }
}
