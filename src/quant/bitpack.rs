//! Codes of 1 to 8 bits packed into bytes, without padding: every unit of a few codes fills whole bytes.
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
//! Wider codes go into 16-bit words, with units of their own; they would be a second set of functions on `u16`.
//!
//! A unit is handled as one integer: its codes loaded as a little-endian word, shifted together in place. With 1, 2 and 4
//! bits the word shrinks to one byte, which the compiler does in lanes; the rest is a handful of shifts for eight codes.

mod words;

use super::lanes::{Kernel, Level};

/// Codes in a unit: 8, 4, 8, 2, 8, 4, 8 for 1 to 7 bits, and 1 for 8, which are not packed.
///
/// # Panics
/// If `bits` is not 1 to 8.
pub const fn unit(bits: u8) -> usize {
    match bits {
        1 | 3 | 5 | 7 => 8,
        2 | 6 => 4,
        4 => 2,
        8 => 1,
        _ => panic!("1 to 8 bits go into bytes"),
    }
}

/// Bytes that `values` codes take, or `None` if they do not fill whole units.
///
/// # Panics
/// If `bits` is not 1 to 8.
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

fn pack_at(level: Level, bits: u8, codes: &[u8], out: &mut [u8]) {
    assert_eq!(packed_len(bits, codes.len()), Some(out.len()), "{} codes of {bits} bits", codes.len());
    level.run(Pack { bits, codes, out });
}

fn unpack_at(level: Level, bits: u8, packed: &[u8], codes: &mut [u8]) {
    assert_eq!(packed_len(bits, codes.len()), Some(packed.len()), "{} codes of {bits} bits", codes.len());
    level.run(Unpack { bits, packed, codes });
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

    /// The table above, field by field: in byte `.0`, from bit `.1`, stand `.4` bits of code `.2` from its bit `.3`.
    type Field = (usize, u32, usize, u32, u32);

    fn layout(bits: u8) -> Vec<Field> {
        let n = u32::from(bits);
        let whole = |byte| (byte, 0, byte, 0, n);
        match bits {
            1 | 2 | 4 | 8 => (0..unit(bits)).map(|i| (0, i as u32 * n, i, 0, n)).collect(),
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
    }
}
