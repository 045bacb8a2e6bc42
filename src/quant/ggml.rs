//! The block types of GGUF, byte for byte as llama.cpp built for x86-64 writes them.
//!
//! A row is cut into blocks; a block holds the codes of its values and the scales to read them by. Rows are independent
//! of each other, and so are blocks, but for the sums over a row that some types take with an importance matrix.
//!
//! Identity of bytes rests on arithmetic: every float operation is rounded by itself, in the order in which ggml's C
//! source has it, and nothing is fused. Where C would convert an integer out of range, the answer of x86 is given
//! (`c_int`). ggml for other machines fuses, so its bytes differ there; these do not.

mod abreast;
#[cfg(test)]
mod fixtures;
pub mod floats;
mod grids;
pub mod iq1;
pub mod iq2;
pub mod iq3;
pub mod iq4;
pub mod kquants;
mod lattice;
pub mod legacy;
pub mod microscale;
mod search;
pub mod ternary;
#[cfg(test)]
mod testing;

use half::f16;

/// A block type that this module encodes and decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// One of [`legacy`].
    Legacy(legacy::Kind),
    /// One of [`ternary`].
    Ternary(ternary::Kind),
    /// One of [`microscale`].
    Microscale(microscale::Kind),
    /// One of [`kquants`].
    K(kquants::Kind),
    /// One of [`iq1`], decoded only.
    Iq1(iq1::Kind),
    /// One of [`iq2`].
    Iq2(iq2::Kind),
    /// One of [`iq3`].
    Iq3(iq3::Kind),
    /// One of [`iq4`].
    Iq4(iq4::Kind),
}

impl Type {
    /// Every type, in the order of the numbers.
    pub const ALL: [Self; 25] = [
        Self::Legacy(legacy::Kind::Q4_0),
        Self::Legacy(legacy::Kind::Q4_1),
        Self::Legacy(legacy::Kind::Q5_0),
        Self::Legacy(legacy::Kind::Q5_1),
        Self::Legacy(legacy::Kind::Q8_0),
        Self::K(kquants::Kind::Q2K),
        Self::K(kquants::Kind::Q3K),
        Self::K(kquants::Kind::Q4K),
        Self::K(kquants::Kind::Q5K),
        Self::K(kquants::Kind::Q6K),
        Self::Iq2(iq2::Kind::Xxs),
        Self::Iq2(iq2::Kind::Xs),
        Self::Iq3(iq3::Kind::Xxs),
        Self::Iq1(iq1::Kind::S),
        Self::Iq4(iq4::Kind::Nl),
        Self::Iq3(iq3::Kind::S),
        Self::Iq2(iq2::Kind::S),
        Self::Iq4(iq4::Kind::Xs),
        Self::Iq1(iq1::Kind::M),
        Self::Ternary(ternary::Kind::TQ1_0),
        Self::Ternary(ternary::Kind::TQ2_0),
        Self::Microscale(microscale::Kind::Mxfp4),
        Self::Microscale(microscale::Kind::Nvfp4),
        Self::Ternary(ternary::Kind::Q1_0),
        Self::Ternary(ternary::Kind::Q2_0),
    ];

    /// The number in a GGUF file, the name, values of a block, and bytes of a block.
    const fn facts(self) -> (u32, &'static str, usize, usize) {
        use kquants::Kind;
        match self {
            Self::Legacy(kind @ legacy::Kind::Q4_0) => (2, "Q4_0", legacy::BLOCK, kind.block_bytes()),
            Self::Legacy(kind @ legacy::Kind::Q4_1) => (3, "Q4_1", legacy::BLOCK, kind.block_bytes()),
            Self::Legacy(kind @ legacy::Kind::Q5_0) => (6, "Q5_0", legacy::BLOCK, kind.block_bytes()),
            Self::Legacy(kind @ legacy::Kind::Q5_1) => (7, "Q5_1", legacy::BLOCK, kind.block_bytes()),
            Self::Legacy(kind @ legacy::Kind::Q8_0) => (8, "Q8_0", legacy::BLOCK, kind.block_bytes()),
            Self::Ternary(kind @ ternary::Kind::TQ1_0) => (34, "TQ1_0", kind.block(), kind.block_bytes()),
            Self::Ternary(kind @ ternary::Kind::TQ2_0) => (35, "TQ2_0", kind.block(), kind.block_bytes()),
            Self::Ternary(kind @ ternary::Kind::Q1_0) => (41, "Q1_0", kind.block(), kind.block_bytes()),
            Self::Ternary(kind @ ternary::Kind::Q2_0) => (42, "Q2_0", kind.block(), kind.block_bytes()),
            Self::Microscale(kind @ microscale::Kind::Mxfp4) => (39, "MXFP4", kind.block(), kind.block_bytes()),
            Self::Microscale(kind @ microscale::Kind::Nvfp4) => (40, "NVFP4", kind.block(), kind.block_bytes()),
            Self::K(Kind::Q2K) => (10, "Q2_K", SUPER_BLOCK, Kind::Q2K.bytes()),
            Self::K(Kind::Q3K) => (11, "Q3_K", SUPER_BLOCK, Kind::Q3K.bytes()),
            Self::K(Kind::Q4K) => (12, "Q4_K", SUPER_BLOCK, Kind::Q4K.bytes()),
            Self::K(Kind::Q5K) => (13, "Q5_K", SUPER_BLOCK, Kind::Q5K.bytes()),
            Self::K(Kind::Q6K) => (14, "Q6_K", SUPER_BLOCK, Kind::Q6K.bytes()),
            Self::Iq1(kind @ iq1::Kind::S) => (19, "IQ1_S", SUPER_BLOCK, kind.bytes()),
            Self::Iq1(kind @ iq1::Kind::M) => (29, "IQ1_M", SUPER_BLOCK, kind.bytes()),
            Self::Iq2(kind @ iq2::Kind::Xxs) => (16, "IQ2_XXS", SUPER_BLOCK, kind.bytes()),
            Self::Iq2(kind @ iq2::Kind::Xs) => (17, "IQ2_XS", SUPER_BLOCK, kind.bytes()),
            Self::Iq2(kind @ iq2::Kind::S) => (22, "IQ2_S", SUPER_BLOCK, kind.bytes()),
            Self::Iq3(kind @ iq3::Kind::Xxs) => (18, "IQ3_XXS", SUPER_BLOCK, kind.bytes()),
            Self::Iq3(kind @ iq3::Kind::S) => (21, "IQ3_S", SUPER_BLOCK, kind.bytes()),
            Self::Iq4(kind @ iq4::Kind::Nl) => (20, "IQ4_NL", kind.values(), kind.bytes()),
            Self::Iq4(kind @ iq4::Kind::Xs) => (23, "IQ4_XS", kind.values(), kind.bytes()),
        }
    }

    /// The type of that name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// The number in a GGUF file.
    pub const fn number(self) -> u32 {
        self.facts().0
    }

    /// ggml's name.
    pub const fn name(self) -> &'static str {
        self.facts().1
    }

    /// Values of a block; a row is a whole number of blocks.
    pub const fn block(self) -> usize {
        self.facts().2
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        self.facts().3
    }

    /// Whether there is an encoder.
    pub const fn can_encode(self) -> bool {
        !matches!(self, Self::Iq1(_))
    }

    /// Whether there is no encoding without an importance matrix.
    pub const fn requires_importance(self) -> bool {
        matches!(self, Self::Iq2(kind) if kind.requires_importance())
    }

    /// Encodes whole rows of `row_len` values, each a whole number of blocks; `importance` has a weight for each column.
    ///
    /// # Panics
    /// If the lengths do not fit each other, if the importance that [`Type::requires_importance`] asks for is missing, or
    /// without [`Type::can_encode`].
    pub fn encode(self, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match self {
            Self::Legacy(kind) => legacy::encode(kind, row_len, values, importance, out),
            Self::Ternary(kind) => ternary::encode(kind, row_len, values, importance, out),
            Self::Microscale(kind) => microscale::encode(kind, row_len, values, importance, out),
            Self::K(kind) => kquants::encode(kind, row_len, values, importance, out),
            Self::Iq1(kind) => panic!("{kind:?} of IQ1 is decoded only"),
            Self::Iq2(kind) => iq2::encode(kind, row_len, values, importance, out),
            Self::Iq3(kind) => iq3::encode(kind, row_len, values, importance, out),
            Self::Iq4(kind) => iq4::encode(kind, row_len, values, importance, out),
        }
    }

    /// Decodes whole blocks.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::Legacy(kind) => legacy::decode(kind, bytes, out),
            Self::Ternary(kind) => ternary::decode(kind, bytes, out),
            Self::Microscale(kind) => microscale::decode(kind, bytes, out),
            Self::K(kind) => kquants::decode(kind, bytes, out),
            Self::Iq1(kind) => iq1::decode(kind, bytes, out),
            Self::Iq2(kind) => iq2::decode(kind, bytes, out),
            Self::Iq3(kind) => iq3::decode(kind, bytes, out),
            Self::Iq4(kind) => iq4::decode(kind, bytes, out),
        }
    }
}

/// Values of a super-block of the K types.
pub const SUPER_BLOCK: usize = 256;

/// 1.5 · 2^23: adding it leaves a float of up to 2^22 rounded to an integer in the low bits.
pub(crate) const MAGIC: f32 = 12_582_912.0;

/// What has no larger magnitude counts as a block of zeros.
pub(crate) const EPSILON: f32 = 1e-15;

/// Half to even where `|v| <= 2^22`, and a defined value for anything else, NaN included.
#[inline(always)]
pub(crate) fn nearest_int(v: f32) -> i32 {
    ((v + MAGIC).to_bits() & 0x7f_ffff) as i32 - 0x40_0000
}

/// C's `(int)` on x86: toward zero, and `i32::MIN` for what does not fit and for NaN.
#[allow(dead_code, reason = "for the types that convert so")]
#[inline(always)]
pub(crate) fn c_int(v: f32) -> i32 {
    if (-2_147_483_648.0..2_147_483_648.0).contains(&v) { v as i32 } else { i32::MIN }
}

/// C's `a > b ? a : b`: the second wins with a NaN and between zeros.
#[inline(always)]
pub(crate) fn c_max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// C's `a < b ? a : b`: the second wins with a NaN and between zeros.
#[inline(always)]
pub(crate) fn c_min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The nearest half-precision float, ties to even, too large ones infinite, and one NaN for each sign.
#[inline]
pub(crate) fn f16_bits(v: f32) -> u16 {
    if v.is_nan() { (v.to_bits() >> 16) as u16 & 0x8000 | 0x7e00 } else { f16::from_f32(v).to_bits() }
}

/// The value of half-precision bits.
#[inline]
pub(crate) fn f16_value(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

/// The nearest bfloat16, ties to even; a NaN keeps its high bits and is quiet.
#[allow(dead_code, reason = "for the types that convert so")]
#[inline]
pub(crate) fn bf16_bits(v: f32) -> u16 {
    let bits = v.to_bits();
    if v.is_nan() { (bits >> 16) as u16 | 0x40 } else { ((bits + (0x7fff + (bits >> 16 & 1))) >> 16) as u16 }
}

/// The value of bfloat16 bits.
#[allow(dead_code, reason = "for the types that convert so")]
#[inline(always)]
pub(crate) fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The half-precision number at `at`.
#[inline(always)]
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16_value(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Stores half precision at `at`.
#[inline(always)]
fn put_f16(bytes: &mut [u8], at: usize, value: f32) {
    bytes[at..at + 2].copy_from_slice(&f16_bits(value).to_le_bytes());
}

/// Panics unless there are whole rows of whole blocks of `size` values and `bytes` bytes.
fn check_lengths(size: usize, row_len: usize, bytes: usize, values: &[f32], importance: Option<&[f32]>, out: &[u8]) {
    assert!(row_len.is_multiple_of(size), "a row of {row_len} is not of whole blocks of {size}");
    assert!(row_len > 0 && values.len().is_multiple_of(row_len), "whole rows");
    assert_eq!(out.len(), values.len() / size * bytes, "bytes for every block");
    assert!(importance.is_none_or(|i| i.len() == row_len), "a weight for every column");
}

/// Calls `each` with every block of `size` values, its weights and its bytes.
#[cfg(test)]
fn blocks(
    size: usize,
    row_len: usize,
    bytes: usize,
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    mut each: impl FnMut(&[f32], Option<&[f32]>, &mut [u8]),
) {
    check_lengths(size, row_len, bytes, values, importance, out);
    for (b, (values, out)) in values.chunks_exact(size).zip(out.chunks_exact_mut(bytes)).enumerate() {
        each(values, importance.map(|i| &i[b * size % row_len..][..size]), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_numbered_and_named_once() {
        let facts: Vec<_> = Type::ALL.iter().map(|t| (t.number(), t.name())).collect();
        assert!(facts.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 != w[1].1), "{facts:?}");
        let q4 = Type::named("q4_k").expect("a type");
        assert_eq!((q4.number(), q4.name(), q4.block(), q4.bytes()), (12, "Q4_K", 256, 144));
        let mut bytes = [0; 144];
        q4.encode(256, &[1.0; 256], None, &mut bytes);
        let mut values = [0.0; 256];
        q4.decode(&bytes, &mut values);
        assert!(values.iter().all(|v| (v - 1.0).abs() < 1e-2), "{values:?}");
    }

    #[test]
    fn nearest_is_half_to_even_and_wraps() {
        let check = |v: f32, expected: i32| assert_eq!(nearest_int(v), expected, "{v}");
        check(0.5, 0);
        check(1.5, 2);
        check(-2.5, -2);
        check(-0.49, 0);
        check(4_194_303.0, 4_194_303);
        check(4_194_304.0, -4_194_304);
        check(f32::NAN, 0);
        check(f32::INFINITY, -4_194_304);
        check(1e30, 0x49_f2ca - 0x40_0000);
    }

    #[test]
    fn integers_convert_as_on_x86() {
        let check = |v: f32, expected: i32| assert_eq!(c_int(v), expected, "{v}");
        check(1.9, 1);
        check(-1.9, -1);
        check(2_147_483_520.0, 2_147_483_520);
        check(2_147_483_648.0, i32::MIN);
        check(-2_147_483_648.0, i32::MIN);
        check(f32::NAN, i32::MIN);
        check(f32::NEG_INFINITY, i32::MIN);
    }

    #[test]
    fn the_second_operand_wins() {
        assert!(c_max(f32::NAN, 1.0) == 1.0 && c_max(1.0, f32::NAN).is_nan());
        assert!(c_min(f32::NAN, 1.0) == 1.0 && c_min(1.0, f32::NAN).is_nan());
        assert!(c_max(0.0, -0.0).is_sign_negative() && c_min(-0.0, 0.0).is_sign_positive());
    }

    #[test]
    fn halves_round_to_even_and_have_one_nan() {
        let check = |v: f32, bits: u16| assert_eq!(f16_bits(v), bits, "{v}");
        check(1.0, 0x3c00);
        check(-2.0, 0xc000);
        check(1.0 + 1.0 / 2048.0, 0x3c00);
        check(1.0 + 3.0 / 2048.0, 0x3c02);
        check(2f32.powi(-24), 0x0001);
        check(2f32.powi(-25), 0x0000);
        check(2f32.powi(-25) * 1.01, 0x0001);
        check(65519.0, 0x7bff);
        check(65520.0, 0x7c00);
        check(f32::from_bits(0x7f80_0001), 0x7e00);
        check(f32::from_bits(0xffc1_2345), 0xfe00);
        for bits in 0..=u16::MAX {
            let v = f16_value(bits);
            assert_eq!(f16_bits(v), if v.is_nan() { bits & 0x8000 | 0x7e00 } else { bits });
        }
    }

    #[test]
    fn bfloats_round_to_even_and_keep_nans_quiet() {
        let check = |bits: u32, expected: u16| assert_eq!(bf16_bits(f32::from_bits(bits)), expected, "{bits:x}");
        check(0x3f80_0000, 0x3f80);
        check(0x3f80_8000, 0x3f80);
        check(0x3f81_8000, 0x3f82);
        check(0x3f80_8001, 0x3f81);
        check(0x7f7f_ffff, 0x7f80);
        check(0x0000_8001, 0x0001);
        check(0x7f80_0001, 0x7fc0);
        check(0xff80_ffff, 0xffc0);
        for bits in 0..=u16::MAX {
            let v = bf16_value(bits);
            assert_eq!(bf16_bits(v), if v.is_nan() { bits | 0x40 } else { bits });
        }
    }
}
