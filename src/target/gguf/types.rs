//! Tensor types of ggml as the choice of types needs them, and values of metadata keys.
use std::fmt;

macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $name:literal, $block:literal, $bytes:literal;)*) => {
        /// A tensor type of ggml, by its name there. The number is its id in a file.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum GgmlType { $($variant = $id),* }

        impl GgmlType {
            /// Every type, by id.
            pub const ALL: &'static [GgmlType] = &[$(GgmlType::$variant),*];

            /// Its name, for people: ggml's own, in capitals.
            pub fn name(self) -> &'static str {
                match self { $(GgmlType::$variant => $name),* }
            }

            /// Values in a block, and the block's bytes.
            pub fn block(self) -> (u64, u64) {
                match self { $(GgmlType::$variant => ($block, $bytes)),* }
            }
        }
    };
}

ggml_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 36;
    Q2_K = 10, "Q2_K", 256, 84;
    Q3_K = 11, "Q3_K", 256, 110;
    Q4_K = 12, "Q4_K", 256, 144;
    Q5_K = 13, "Q5_K", 256, 176;
    Q6_K = 14, "Q6_K", 256, 210;
    Q8_K = 15, "Q8_K", 256, 292;
    IQ2_XXS = 16, "IQ2_XXS", 256, 66;
    IQ2_XS = 17, "IQ2_XS", 256, 74;
    IQ3_XXS = 18, "IQ3_XXS", 256, 98;
    IQ1_S = 19, "IQ1_S", 256, 50;
    IQ4_NL = 20, "IQ4_NL", 32, 18;
    IQ3_S = 21, "IQ3_S", 256, 110;
    IQ2_S = 22, "IQ2_S", 256, 82;
    IQ4_XS = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    IQ1_M = 29, "IQ1_M", 256, 56;
    BF16 = 30, "BF16", 1, 2;
    TQ1_0 = 34, "TQ1_0", 256, 54;
    TQ2_0 = 35, "TQ2_0", 256, 66;
    MXFP4 = 39, "MXFP4", 32, 17;
    NVFP4 = 40, "NVFP4", 64, 36;
    Q1_0 = 41, "Q1_0", 128, 18;
    Q2_0 = 42, "Q2_0", 64, 18;
}

impl GgmlType {
    /// The type with an id; none for the removed and the unknown.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| *t as u32 == id)
    }
    /// The type of a name in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name.trim()))
    }
    /// Whether it is a plain float, or integers: a block of one value.
    pub fn is_plain(self) -> bool {
        self.block().0 == 1
    }
    /// Whether values can be brought into it: not the integers, F64, and what ggml makes of activations only.
    pub fn is_writable(self) -> bool {
        use GgmlType::*;
        !matches!(self, I8 | I16 | I32 | I64 | F64 | Q8_1 | Q8_K)
    }
    /// Whether its values can be read as f32, and so quantized.
    pub fn is_readable(self) -> bool {
        self.is_writable()
    }
    /// Bits per value.
    pub fn bits(self) -> f64 {
        let (values, bytes) = self.block();
        bytes as f64 * 8.0 / values as f64
    }
    /// Whether rows of that many values are whole blocks.
    pub fn fits(self, cols: u64) -> bool {
        cols.is_multiple_of(self.block().0)
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of a metadata key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// Float, 32 bits.
    F32(f32),
    /// Float, 64 bits.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Str(String),
    /// An array of texts.
    Strings(Vec<String>),
    /// An array of floats of 32 bits.
    F32s(Vec<f32>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_id_and_by_name() {
        fn check(id: u32, name: &str, expected: Option<GgmlType>, bits: f64) {
            assert_eq!(GgmlType::from_id(id), expected, "{id}");
            assert_eq!(GgmlType::parse(name), expected, "{name}");
            assert!(expected.is_none_or(|t| t.bits() == bits), "{name}");
        }
        check(12, "q4_K", Some(GgmlType::Q4_K), 4.5);
        check(29, "iq1_m", Some(GgmlType::IQ1_M), 1.75);
        check(39, " MXFP4 ", Some(GgmlType::MXFP4), 4.25);
        check(42, "Q2_0", Some(GgmlType::Q2_0), 2.25);
        check(4, "DEPRECATED", None, 0.0);
        check(43, "COUNT", None, 0.0);
    }
}
