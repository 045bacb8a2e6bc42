//! Codes of 1 to 8 bits packed into bytes, and of 9 to 16 bits into 16-bit words, without padding: every unit of a few
//! codes fills whole bytes or words.
//!
//! The layouts are those of SDNQ 0.2.8 (`packed_int/pack.py`). `a..b` are bits, `v0, v1, …` the codes of a unit:
//!
//! | bits | codes → bytes | layout |
//! |---|---|---|
//! | 1 | 8 → 1 | bit i is `v_i` |
//! | 2 | 4 → 1 | `v0 ǀ v1<<2 ǀ v2<<4 ǀ v3<<6` |
//! | 3 | 8 → 3 | byte j is `v_j ǀ v_{3+j}<<3`; then bits 6..8 of the bytes are `v6[0..2]`, `v7[0..2]`, and `v6[2]`, `v7[2]` |
//! | 4 | 2 → 1 | `v0 ǀ v1<<4` |
//! | 5 | 8 → 5 | bytes 0, 1, 2 are `v_j ǀ v_{5+j}[0..3]<<5`; byte 3 is `v3 ǀ v5[3..5]<<5 ǀ v7[4]<<7`; byte 4 is `v4 ǀ v6[3..5]<<5 ǀ v7[3]<<7` |
//! | 6 | 4 → 3 | byte j is `v_j`, with `v3[4..6]`, `v3[2..4]`, `v3[0..2]` above them |
//! | 7 | 8 → 7 | byte j is `v_j ǀ v7[6-j]<<7` |
//! | 8 | 1 → 1 | the code |
//!
//! A unit is handled as one integer: its codes loaded as a little-endian word, shifted together in place. With 1, 2 and 4
//! bits the word shrinks to one byte, which the compiler does in lanes; the rest is a handful of shifts for eight codes.
//!
//! Wider codes go into words `w0, w1, …`, which are stored little-endian:
//!
//! | bits | codes → words | layout |
//! |---|---|---|
//! | 9 | 16 → 9 | `w_j` is `v_j ǀ v_{8+j}[0..7]<<9` for j below 8; bits `2i..2i+2` of `w8` are `v_{8+i}[7..9]` |
//! | 10 | 8 → 5 | `w_j` is `v_j ǀ v_{5+j}[0..6]<<10` for j below 3; `w3` is `v3 ǀ v5[6..10]<<10 ǀ v7[8..10]<<14`; `w4` is `v4 ǀ v6[6..10]<<10 ǀ v7[6..8]<<14` |
//! | 11 | 16 → 11 | `w_j` is `v_j ǀ v_{8+j}[0..5]<<11` for j below 8; `w_{8+j}` is `v_{8+j}[5..11] ǀ v_{11+j}[5..11]<<6` for j below 3, and above these `v14[5..9]`, `v15[5..9]`, and `v14[9..11] ǀ v15[9..11]<<2` |
//! | 12 | 4 → 3 | `w_j` is `v_j`, with `v3[8..12]`, `v3[4..8]`, `v3[0..4]` above them |
//! | 13 | 16 → 13 | `w_{3k+i}` is `v_{3k+i} ǀ v_{13+i}[3k..3k+3]<<13` for k below 4, i below 3; `w12` is `v12 ǀ v13[12]<<13 ǀ v14[12]<<14 ǀ v15[12]<<15` |
//! | 14 | 8 → 7 | `w_j` is `v_j ǀ v7[12-2j..14-2j]<<14` |
//! | 15 | 16 → 15 | `w_j` is `v_j ǀ v15[14-j]<<15` |
//! | 16 | 1 → 1 | the code |

mod wide;
mod words;

use super::lanes::{Kernel, Level};

/// Codes in a unit: 8, 4, 8, 2, 8, 4, 8 for 1 to 7 bits, 16, 8, 16, 4, 16, 8, 16 for 9 to 15, and 1 for 8 and 16, which
/// are not packed.
///
/// # Panics
/// If `bits` is not 1 to 16.
pub const fn unit(bits: u8) -> usize {
    match bits {
        8 | 16 => 1,
        4 => 2,
        2 | 6 | 12 => 4,
        1 | 3 | 5 | 7 | 10 | 14 => 8,
        9 | 11 | 13 | 15 => 16,
        _ => panic!("codes have 1 to 16 bits"),
    }
}

/// Bytes that `values` codes take, or `None` if they do not fill whole units.
///
/// # Panics
/// If `bits` is not 1 to 16.
pub const fn packed_len(bits: u8, values: usize) -> Option<usize> {
    let unit = unit(bits);
    if values.is_multiple_of(unit) { Some(values / unit * (unit * bits as usize / 8)) } else { None }
}

/// Pack `codes`, each below `2^bits`, into `out`.
///
/// # Panics
/// If `bits` is not 1 to 8, or `out` is not [`packed_len`] long.
pub fn pack(bits: u8, codes: &[u8], out: &mut [u8]) {
    pack_at(Level::best(), bits, codes, out);
}

/// The codes that [`pack`] packed.
///
/// # Panics
/// If `bits` is not 1 to 8, or `packed` is not [`packed_len`] long for `codes`.
pub fn unpack(bits: u8, packed: &[u8], codes: &mut [u8]) {
    unpack_at(Level::best(), bits, packed, codes);
}

/// Pack `codes`, each below `2^bits`, into `out`, whose words are little-endian.
///
/// # Panics
/// If `bits` is not 9 to 16, or `out` is not [`packed_len`] long.
pub fn pack16(bits: u8, codes: &[u16], out: &mut [u8]) {
    pack16_at(Level::best(), bits, codes, out);
}

/// The codes that [`pack16`] packed.
///
/// # Panics
/// If `bits` is not 9 to 16, or `packed` is not [`packed_len`] long for `codes`.
pub fn unpack16(bits: u8, packed: &[u8], codes: &mut [u16]) {
    unpack16_at(Level::best(), bits, packed, codes);
}

fn pack_at(level: Level, bits: u8, codes: &[u8], out: &mut [u8]) {
    assert!(bits <= 8, "{bits} bits do not go into bytes");
    assert_eq!(packed_len(bits, codes.len()), Some(out.len()), "{} codes of {bits} bits", codes.len());
    level.run(Pack { bits, codes, out });
}

fn unpack_at(level: Level, bits: u8, packed: &[u8], codes: &mut [u8]) {
    assert!(bits <= 8, "{bits} bits do not go into bytes");
    assert_eq!(packed_len(bits, codes.len()), Some(packed.len()), "{} codes of {bits} bits", codes.len());
    level.run(Unpack { bits, packed, codes });
}

fn pack16_at(level: Level, bits: u8, codes: &[u16], out: &mut [u8]) {
    assert!(bits > 8, "{bits} bits do not fill words");
    assert_eq!(packed_len(bits, codes.len()), Some(out.len()), "{} codes of {bits} bits", codes.len());
    level.run(Pack16 { bits, codes, out });
}

fn unpack16_at(level: Level, bits: u8, packed: &[u8], codes: &mut [u16]) {
    assert!(bits > 8, "{bits} bits do not fill words");
    assert_eq!(packed_len(bits, codes.len()), Some(packed.len()), "{} codes of {bits} bits", codes.len());
    level.run(Unpack16 { bits, packed, codes });
}

struct Pack<'a> {
    bits: u8,
    codes: &'a [u8],
    out: &'a mut [u8],
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Self { bits, codes, out } = self;
        match bits {
            1 => each::<8, 1>(codes, out, |v| [words::pack1(u64::from_le_bytes(v))]),
            2 => each::<4, 1>(codes, out, |v| [words::pack2(u32::from_le_bytes(v))]),
            3 => each::<8, 3>(codes, out, |v| low(words::pack3(u64::from_le_bytes(v)))),
            4 => each::<2, 1>(codes, out, |v| [words::pack4(u16::from_le_bytes(v))]),
            5 => each::<8, 5>(codes, out, |v| low(words::pack5(u64::from_le_bytes(v)))),
            6 => each::<4, 3>(codes, out, |v| low(words::pack6(u64::from(u32::from_le_bytes(v))))),
            7 => each::<8, 7>(codes, out, |v| low(words::pack7(u64::from_le_bytes(v)))),
            _ => out.copy_from_slice(codes),
        }
    }
}

struct Unpack<'a> {
    bits: u8,
    packed: &'a [u8],
    codes: &'a mut [u8],
}

impl Kernel for Unpack<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Self { bits, packed, codes } = self;
        match bits {
            1 => each::<1, 8>(packed, codes, |[v]| words::unpack1(v).to_le_bytes()),
            2 => each::<1, 4>(packed, codes, |[v]| words::unpack2(v).to_le_bytes()),
            3 => each::<3, 8>(packed, codes, |v| words::unpack3(word(v)).to_le_bytes()),
            4 => each::<1, 2>(packed, codes, |[v]| words::unpack4(v).to_le_bytes()),
            5 => each::<5, 8>(packed, codes, |v| words::unpack5(word(v)).to_le_bytes()),
            6 => each::<3, 4>(packed, codes, |v| low(words::unpack6(word(v)))),
            7 => each::<7, 8>(packed, codes, |v| words::unpack7(word(v)).to_le_bytes()),
            _ => codes.copy_from_slice(packed),
        }
    }
}

struct Pack16<'a> {
    bits: u8,
    codes: &'a [u16],
    out: &'a mut [u8],
}

impl Kernel for Pack16<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Self { bits, codes, out } = self;
        match bits {
            9 => each_packed::<16, 18, _, _>(codes, out, wide::pack9),
            10 => each_packed::<8, 10, _, _>(codes, out, wide::pack10),
            11 => each_packed::<16, 22, _, _>(codes, out, wide::pack11),
            12 => each_packed::<4, 6, _, _>(codes, out, wide::pack12),
            13 => each_packed::<16, 26, _, _>(codes, out, wide::pack13),
            14 => each_packed::<8, 14, _, _>(codes, out, wide::pack14),
            15 => each_packed::<16, 30, _, _>(codes, out, wide::pack15),
            _ => {
                for (code, out) in codes.iter().zip(out.as_chunks_mut::<2>().0) {
                    *out = code.to_le_bytes();
                }
            }
        }
    }
}

struct Unpack16<'a> {
    bits: u8,
    packed: &'a [u8],
    codes: &'a mut [u16],
}

impl Kernel for Unpack16<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Self { bits, packed, codes } = self;
        match bits {
            9 => each_unpacked::<18, 16, _, _>(packed, codes, wide::unpack9),
            10 => each_unpacked::<10, 8, _, _>(packed, codes, wide::unpack10),
            11 => each_unpacked::<22, 16, _, _>(packed, codes, wide::unpack11),
            12 => each_unpacked::<6, 4, _, _>(packed, codes, wide::unpack12),
            13 => each_unpacked::<26, 16, _, _>(packed, codes, wide::unpack13),
            14 => each_unpacked::<14, 8, _, _>(packed, codes, wide::unpack14),
            15 => each_unpacked::<30, 16, _, _>(packed, codes, wide::unpack15),
            _ => {
                for (packed, code) in packed.as_chunks::<2>().0.iter().zip(codes) {
                    *code = u16::from_le_bytes(*packed);
                }
            }
        }
    }
}

/// Turn every `N` codes, in `P` words of four, into `M` bytes, the low ones of `Q` words.
#[inline(always)]
fn each_packed<const N: usize, const M: usize, const P: usize, const Q: usize>(
    codes: &[u16],
    to: &mut [u8],
    f: impl Fn([u64; P]) -> [u64; Q],
) {
    for (codes, to) in codes.as_chunks::<N>().0.iter().zip(to.as_chunks_mut::<M>().0) {
        let (codes, _) = codes.as_chunks::<4>();
        let packed = f(core::array::from_fn(|i| {
            let [a, b, c, d] = codes[i].map(u64::from);
            a | (b << 16) | (c << 32) | (d << 48)
        }));
        to.copy_from_slice(&packed.map(u64::to_le_bytes).as_flattened()[..M]);
    }
}

/// Turn every `N` bytes, the low ones of `P` words, into `M` codes, in `Q` words of four.
#[inline(always)]
fn each_unpacked<const N: usize, const M: usize, const P: usize, const Q: usize>(
    from: &[u8],
    codes: &mut [u16],
    f: impl Fn([u64; P]) -> [u64; Q],
) {
    for (from, codes) in from.as_chunks::<N>().0.iter().zip(codes.as_chunks_mut::<M>().0) {
        let mut bytes = [[0; 8]; P];
        bytes.as_flattened_mut()[..N].copy_from_slice(from);
        let words = f(bytes.map(u64::from_le_bytes));
        for (codes, word) in codes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *codes = [word as u16, (word >> 16) as u16, (word >> 32) as u16, (word >> 48) as u16];
        }
    }
}

/// Turn every `N` bytes of `from` into `M` bytes of `to`.
#[inline(always)]
fn each<const N: usize, const M: usize>(from: &[u8], to: &mut [u8], f: impl Fn([u8; N]) -> [u8; M]) {
    let (from, _) = from.as_chunks::<N>();
    let (to, _) = to.as_chunks_mut::<M>();
    for (from, to) in from.iter().zip(to) {
        *to = f(*from);
    }
}

/// The low `M` bytes of a word.
#[inline(always)]
fn low<const M: usize>(word: u64) -> [u8; M] {
    let bytes = word.to_le_bytes();
    core::array::from_fn(|i| bytes[i])
}

/// `N` bytes as the low ones of a word.
#[inline(always)]
fn word<const N: usize>(bytes: [u8; N]) -> u64 {
    let mut word = [0; 8];
    word[..N].copy_from_slice(&bytes);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &[u8] = include_bytes!("../../tests/data/sdnq/packed.bin");

    /// The tables above, field by field: in byte or word `.0`, from bit `.1`, stand `.4` bits of code `.2` from its bit
    /// `.3`.
    type Field = (usize, u32, usize, u32, u32);

    fn layout(bits: u8) -> Vec<Field> {
        let n = u32::from(bits);
        let whole = |byte| (byte, 0, byte, 0, n);
        match bits {
            1 | 2 | 4 | 8 | 16 => (0..unit(bits)).map(|i| (0, i as u32 * n, i, 0, n)).collect(),
            3 => {
                let mut fields: Vec<Field> = (0..3).flat_map(|j| [whole(j), (j, 3, 3 + j, 0, 3)]).collect();
                fields.extend([(0, 6, 6, 0, 2), (1, 6, 7, 0, 2), (2, 6, 6, 2, 1), (2, 7, 7, 2, 1)]);
                fields
            }
            5 => {
                let mut fields: Vec<Field> = (0..5).map(whole).collect();
                fields.extend((0..3).map(|j| (j, 5, 5 + j, 0, 3)));
                fields.extend([(3, 5, 5, 3, 2), (3, 7, 7, 4, 1), (4, 5, 6, 3, 2), (4, 7, 7, 3, 1)]);
                fields
            }
            6 => (0..3).flat_map(|j| [whole(j), (j, 6, 3, 4 - 2 * j as u32, 2)]).collect(),
            7 => (0..7).flat_map(|j| [whole(j), (j, 7, 7, 6 - j as u32, 1)]).collect(),
            9 => {
                let low = (0..8).flat_map(|j| [whole(j), (j, 9, 8 + j, 0, 7)]);
                low.chain((0..8).map(|i| (8, 2 * i as u32, 8 + i, 7, 2))).collect()
            }
            10 => {
                let mut fields: Vec<Field> = (0..5).map(whole).collect();
                fields.extend((0..3).map(|j| (j, 10, 5 + j, 0, 6)));
                fields.extend([(3, 10, 5, 6, 4), (3, 14, 7, 8, 2), (4, 10, 6, 6, 4), (4, 14, 7, 6, 2)]);
                fields
            }
            11 => {
                let mut fields: Vec<Field> = (0..8).flat_map(|j| [whole(j), (j, 11, 8 + j, 0, 5)]).collect();
                fields.extend((8..11).flat_map(|j| [(j, 0, j, 5, 6), (j, 6, 3 + j, 5, 6)]));
                fields.extend([(8, 12, 14, 5, 4), (9, 12, 15, 5, 4), (10, 12, 14, 9, 2), (10, 14, 15, 9, 2)]);
                fields
            }
            12 => (0..3).flat_map(|j| [whole(j), (j, 12, 3, 8 - 4 * j as u32, 4)]).collect(),
            13 => {
                let mut fields: Vec<Field> = (0..13).map(whole).collect();
                fields.extend((0..12).map(|j| (j, 13, 13 + j % 3, (j - j % 3) as u32, 3)));
                fields.extend((0..3).map(|i| (12, 13 + i as u32, 13 + i, 12, 1)));
                fields
            }
            14 => (0..7).flat_map(|j| [whole(j), (j, 14, 7, 12 - 2 * j as u32, 2)]).collect(),
            15 => (0..15).flat_map(|j| [whole(j), (j, 15, 15, 14 - j as u32, 1)]).collect(),
            _ => unreachable!(),
        }
    }

    /// One bit at a time.
    fn reference_pack(bits: u8, codes: &[u8]) -> Vec<u8> {
        let bytes = unit(bits) * usize::from(bits) / 8;
        let mut out = vec![0; packed_len(bits, codes.len()).unwrap()];
        for (codes, out) in codes.chunks_exact(unit(bits)).zip(out.chunks_exact_mut(bytes)) {
            for (byte, at, code, from, count) in layout(bits) {
                for i in 0..count {
                    out[byte] |= (codes[code] >> (from + i) & 1) << (at + i);
                }
            }
        }
        out
    }

    /// One bit at a time.
    fn reference_pack16(bits: u8, codes: &[u16]) -> Vec<u8> {
        let mut out = Vec::new();
        for codes in codes.chunks_exact(unit(bits)) {
            let mut words = vec![0u16; unit(bits) * usize::from(bits) / 16];
            for (word, at, code, from, count) in layout(bits) {
                for i in 0..count {
                    words[word] |= (codes[code] >> (from + i) & 1) << (at + i);
                }
            }
            out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        }
        out
    }

    #[test]
    fn a_layout_has_a_place_for_every_bit() {
        for bits in 1..=16 {
            let container = if bits <= 8 { 8 } else { 16 };
            let mut places: Vec<(usize, u32)> = Vec::new();
            let mut origins: Vec<(usize, u32)> = Vec::new();
            for (word, at, code, from, count) in layout(bits) {
                places.extend((0..count).map(|i| (word, at + i)));
                origins.extend((0..count).map(|i| (code, from + i)));
            }
            places.sort();
            origins.sort();
            let words = unit(bits) * usize::from(bits) / container as usize;
            let all = |n: usize, bits: u32| (0..n).flat_map(move |i| (0..bits).map(move |b| (i, b)));
            assert!(places.into_iter().eq(all(words, container)), "{bits} bits");
            assert!(origins.into_iter().eq(all(unit(bits), u32::from(bits))), "{bits} bits");
        }
    }

    #[test]
    fn lengths() {
        let check = |bits, values, expected| assert_eq!(packed_len(bits, values), expected, "{bits} bits, {values}");
        check(1, 16, Some(2));
        check(1, 12, None);
        check(2, 12, Some(3));
        check(3, 16, Some(6));
        check(3, 4, None);
        check(4, 6, Some(3));
        check(4, 7, None);
        check(5, 8, Some(5));
        check(6, 12, Some(9));
        check(6, 2, None);
        check(7, 24, Some(21));
        check(8, 5, Some(5));
        check(4, 0, Some(0));
        check(9, 32, Some(36));
        check(9, 8, None);
        check(10, 8, Some(10));
        check(11, 16, Some(22));
        check(12, 4, Some(6));
        check(12, 6, None);
        check(13, 16, Some(26));
        check(14, 16, Some(28));
        check(15, 16, Some(30));
        check(16, 3, Some(6));
    }

    #[test]
    #[allow(clippy::unusual_byte_groupings, reason = "the digits are grouped by code")]
    fn one_unit() {
        let check = |bits: u8, codes: &[u8], expected: &[u8]| {
            let mut out = vec![0; packed_len(bits, codes.len()).unwrap()];
            pack(bits, codes, &mut out);
            assert_eq!(out, expected, "{bits} bits");
            assert_eq!(reference_pack(bits, codes), expected, "reference, {bits} bits");
        };
        check(1, &[1, 0, 1, 1, 0, 0, 0, 1], &[0b1000_1101]);
        check(2, &[1, 2, 3, 0], &[0b00_11_10_01]);
        check(3, &[1, 2, 3, 4, 5, 6, 7, 0], &[0b11_100_001, 0b00_101_010, 0b01_110_011]);
        check(4, &[0x1, 0xf], &[0xf1]);
        check(5, &[1, 2, 3, 4, 5, 0b01_010, 0, 0b10_001], &[0b0100_0001, 2, 0b0010_0011, 0b1010_0100, 5]);
        check(6, &[1, 2, 3, 0b11_10_01], &[0b11_000001, 0b10_000010, 0b01_000011]);
        check(7, &[1, 2, 3, 4, 5, 6, 7, 0b1000001], &[0x81, 2, 3, 4, 5, 6, 0x87]);
        check(8, &[200, 3], &[200, 3]);
    }

    #[test]
    #[allow(clippy::unusual_byte_groupings, reason = "the digits are grouped by code")]
    fn one_unit_in_words() {
        let check = |bits: u8, codes: &[u16], expected: &[u16]| {
            let mut out = vec![0; packed_len(bits, codes.len()).unwrap()];
            pack16(bits, codes, &mut out);
            assert_eq!(out, expected.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>(), "{bits} bits");
        };
        check(10, &[1, 2, 3, 4, 5, 64, 128, 0b01_10_000001], &[1, 2, 0x403, 0x4404, 0x8805]);
        check(12, &[1, 2, 3, 0xabc], &[0xa001, 0xb002, 0xc003]);
        check(14, &[1, 2, 3, 4, 5, 6, 7, 0b11_00_00_10_00_00_01], &[0xc001, 2, 3, 0x8004, 5, 6, 0x4007]);
        check(16, &[0x1234, 5], &[0x1234, 5]);
    }

    /// Against the file that `tests/interop/make_sdnq_golden.py` wrote; the order of things is described there.
    #[test]
    fn wide_codes_are_packed_as_sdnq_packs_them() {
        let mut golden = GOLDEN;
        let random: Vec<u16> = {
            let words = golden.split_off(..1024).unwrap().as_chunks::<2>().0;
            words.iter().map(|b| u16::from_le_bytes(*b)).collect()
        };
        for bits in 9..16 {
            let codes: Vec<u16> = random.iter().map(|v| v >> (16 - bits)).collect();
            let expected = golden.split_off(..packed_len(bits, codes.len()).unwrap()).unwrap();
            let (mut out, mut back) = (vec![0xaa; expected.len()], vec![0xaaaa; codes.len()]);
            pack16(bits, &codes, &mut out);
            assert_eq!(out, expected, "{bits} bits");
            unpack16(bits, &out, &mut back);
            assert_eq!(back, codes, "{bits} bits");
        }
        assert!(golden.is_empty(), "the golden file has more in it");
    }

    #[test]
    #[should_panic(expected = "9 bits do not go into bytes")]
    fn wide_codes_do_not_go_into_bytes() {
        pack(9, &[0; 16], &mut [0; 18]);
    }

    proptest! {
        #[test]
        fn every_level_equals_the_reference(bits in 1u8..=8, codes in prop::collection::vec(any::<u8>(), 0..400)) {
            let whole = codes.len() / unit(bits) * unit(bits);
            let codes: Vec<u8> = codes[..whole].iter().map(|code| code >> (8 - bits)).collect();
            let expected = reference_pack(bits, &codes);
            for level in Level::available() {
                let (mut out, mut back) = (vec![0xaa; expected.len()], vec![0xaa; codes.len()]);
                pack_at(level, bits, &codes, &mut out);
                prop_assert_eq!(&out, &expected);
                unpack_at(level, bits, &out, &mut back);
                prop_assert_eq!(&back, &codes);
            }
        }

        #[test]
        fn every_level_equals_the_reference_in_words(
            bits in 9u8..=16,
            codes in prop::collection::vec(any::<u16>(), 0..200),
        ) {
            let whole = codes.len() / unit(bits) * unit(bits);
            let codes: Vec<u16> = codes[..whole].iter().map(|code| code >> (16 - bits)).collect();
            let expected = reference_pack16(bits, &codes);
            for level in Level::available() {
                let (mut out, mut back) = (vec![0xaa; expected.len()], vec![0xaaaa; codes.len()]);
                pack16_at(level, bits, &codes, &mut out);
                prop_assert_eq!(&out, &expected);
                unpack16_at(level, bits, &out, &mut back);
                prop_assert_eq!(&back, &codes);
            }
        }
    }
}
