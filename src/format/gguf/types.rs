//! ggml's tensor types: how many bytes hold how many elements. What the bytes mean is not known here.
use crate::core::dtype::Storage;

macro_rules! types {
    ($($variant:ident = $id:literal, $name:literal, $block:literal, $bytes:literal;)*) => {
        /// A tensor type of ggml, by its name there.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Type { $($variant = $id),* }

        impl Type {
            /// Every type that ggml has, by number. The missing numbers belonged to types it removed.
            pub const ALL: &'static [Type] = &[$(Type::$variant),*];

            /// Its name: ggml's own, in capitals.
            pub const fn name(self) -> &'static str {
                match self { $(Type::$variant => $name),* }
            }
            /// Elements of a block; 1 for plain numbers. A row holds whole blocks.
            pub const fn block(self) -> u64 {
                match self { $(Type::$variant => $block),* }
            }
            /// Bytes of a block.
            pub const fn bytes(self) -> u64 {
                match self { $(Type::$variant => $bytes),* }
            }
        }
    };
}

types! {
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

impl Type {
    /// Its number in files.
    pub const fn id(self) -> i32 {
        self as i32
    }
    /// The type of that number.
    pub fn by_id(id: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.id() == id)
    }
    /// The type of that name, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name.trim()))
    }
    /// The type that holds elements of `storage` as they are.
    pub fn by_storage(storage: Storage) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.storage() == Some(storage))
    }
    /// What its elements are, where they are plain numbers.
    pub fn storage(self) -> Option<Storage> {
        Some(match self {
            Self::F32 => Storage::F32,
            Self::F16 => Storage::F16,
            Self::BF16 => Storage::BF16,
            Self::F64 => Storage::F64,
            Self::I8 => Storage::I8,
            Self::I16 => Storage::I16,
            Self::I32 => Storage::I32,
            Self::I64 => Storage::I64,
            _ => return None,
        })
    }
    /// Whether elements lie in blocks that must be decoded.
    pub fn is_quantized(self) -> bool {
        self.block() > 1
    }
    /// Whether values can be brought into it and read from it as f32: not the integers, F64, and what ggml makes of
    /// activations only.
    pub fn holds_weights(self) -> bool {
        use Type::*;
        !matches!(self, I8 | I16 | I32 | I64 | F64 | Q8_1 | Q8_K)
    }
    /// Bits per element.
    pub fn bits(self) -> f64 {
        self.bytes() as f64 * 8.0 / self.block() as f64
    }
    /// Whether rows of that many elements are whole blocks.
    pub fn fits(self, cols: u64) -> bool {
        cols.is_multiple_of(self.block())
    }
    /// Bytes of a row of so many elements; `None` where they do not fill whole blocks, or are too many.
    pub fn row_bytes(self, elements: u64) -> Option<u64> {
        self.fits(elements).then(|| (elements / self.block()).checked_mul(self.bytes()))?
    }
    /// Bytes of a tensor of those dimensions, the row's length first; `None` as for [`row_bytes`](Self::row_bytes).
    /// No dimensions are one element.
    pub fn array_bytes(self, dims: &[u64]) -> Option<u64> {
        let (row, rest) = dims.split_first().map_or((1, dims), |(row, rest)| (*row, rest));
        // An empty tensor is empty however large its other dimensions are.
        if dims.contains(&0) {
            return self.fits(row).then_some(0);
        }
        rest.iter().try_fold(self.row_bytes(row)?, |n, d| n.checked_mul(*d))
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_find_one_type_each() {
        for (i, t) in Type::ALL.iter().enumerate() {
            assert_eq!(Type::by_id(t.id()), Some(*t));
            assert_eq!(Type::by_name(&t.name().to_lowercase()), Some(*t));
            assert!(Type::ALL[..i].iter().all(|u| u.id() < t.id() && u.name() != t.name()), "{t}");
        }
    }

    #[test]
    fn types_are_found_in_any_case() {
        fn check(name: &str, id: i32, bits: f64) {
            let found = Type::by_name(name).expect(name);
            assert_eq!((found.id(), found.bits()), (id, bits), "{name}");
        }
        check("q4_K", 12, 4.5);
        check("iq1_m", 29, 1.75);
        check(" MXFP4 ", 39, 4.25);
        check("Q2_0", 42, 2.25);
        assert_eq!(Type::by_name("COUNT"), None);
    }

    #[test]
    fn numbers_that_ggml_removed_or_never_had_are_no_types() {
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 43, 100, 101, -1, i32::MIN, i32::MAX] {
            assert_eq!(Type::by_id(id), None, "{id}");
        }
    }

    #[test]
    fn plain_types_are_as_wide_as_their_storage() {
        use crate::core::dtype::StorageExt;
        let plain: Vec<&Type> = Type::ALL.iter().filter(|t| !t.is_quantized()).collect();
        assert_eq!(plain.len(), 8);
        for t in plain {
            let storage = t.storage().expect("plain");
            assert_eq!((storage.bytes(), storage.name().as_str(), t.block()), (Some(t.bytes()), t.name(), 1));
            assert_eq!(Type::by_storage(storage), Some(*t));
        }
        assert_eq!(Type::by_storage(Storage::F8_E4M3), None);
    }

    #[test]
    fn bytes_of_tensors() {
        fn check(name: &str, dims: &[u64], bytes: Option<u64>) {
            assert_eq!(Type::by_name(name).expect("a type").array_bytes(dims), bytes, "{name} {dims:?}");
        }
        check("F32", &[], Some(4));
        check("F16", &[3, 5], Some(30));
        check("Q4_K", &[512, 3], Some(864));
        check("Q4_0", &[32, 2, 3, 4, 5], Some(18 * 120));
        check("Q4_0", &[], None);
        check("Q4_K", &[128, 2], None);
        check("Q4_K", &[0, 7], Some(0));
        check("F32", &[u64::MAX, 0], Some(0));
        check("Q4_0", &[16, 0], None);
        check("I8", &[u64::MAX, u64::MAX, 0], Some(0));
        check("I8", &[1 << 32, 1 << 32], None);
        check("F64", &[1 << 61, 1], None);
    }
}
