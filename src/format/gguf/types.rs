//! ggml's tensor types: how many bytes hold how many elements. What the bytes mean is not known here.
use crate::core::dtype::Storage;

/// A tensor type of ggml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    /// Its number in files.
    pub id: i32,
    /// Its name: `Q4_K`.
    pub name: &'static str,
    /// Elements of a block; 1 for plain numbers. A row holds whole blocks.
    pub block: u64,
    /// Bytes of a block.
    pub bytes: u64,
}

const fn of(id: i32, name: &'static str, block: u64, bytes: u64) -> Type {
    Type { id, name, block, bytes }
}

/// Every type that ggml has, by number. The missing numbers belonged to types it removed.
pub const TYPES: [Type; 35] = [
    of(0, "F32", 1, 4),
    of(1, "F16", 1, 2),
    of(2, "Q4_0", 32, 18),
    of(3, "Q4_1", 32, 20),
    of(6, "Q5_0", 32, 22),
    of(7, "Q5_1", 32, 24),
    of(8, "Q8_0", 32, 34),
    of(9, "Q8_1", 32, 36),
    of(10, "Q2_K", 256, 84),
    of(11, "Q3_K", 256, 110),
    of(12, "Q4_K", 256, 144),
    of(13, "Q5_K", 256, 176),
    of(14, "Q6_K", 256, 210),
    of(15, "Q8_K", 256, 292),
    of(16, "IQ2_XXS", 256, 66),
    of(17, "IQ2_XS", 256, 74),
    of(18, "IQ3_XXS", 256, 98),
    of(19, "IQ1_S", 256, 50),
    of(20, "IQ4_NL", 32, 18),
    of(21, "IQ3_S", 256, 110),
    of(22, "IQ2_S", 256, 82),
    of(23, "IQ4_XS", 256, 136),
    of(24, "I8", 1, 1),
    of(25, "I16", 1, 2),
    of(26, "I32", 1, 4),
    of(27, "I64", 1, 8),
    of(28, "F64", 1, 8),
    of(29, "IQ1_M", 256, 56),
    of(30, "BF16", 1, 2),
    of(34, "TQ1_0", 256, 54),
    of(35, "TQ2_0", 256, 66),
    of(39, "MXFP4", 32, 17),
    of(40, "NVFP4", 64, 36),
    of(41, "Q1_0", 128, 18),
    of(42, "Q2_0", 64, 18),
];

impl Type {
    /// The type of that number.
    pub fn by_id(id: i32) -> Option<Self> {
        TYPES.iter().find(|t| t.id == id).copied()
    }
    /// The type of that name, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        TYPES.iter().find(|t| t.name.eq_ignore_ascii_case(name)).copied()
    }
    /// The type that holds elements of `storage` as they are.
    pub fn by_storage(storage: Storage) -> Option<Self> {
        TYPES.iter().find(|t| t.storage() == Some(storage)).copied()
    }
    /// What its elements are, where they are plain numbers.
    pub fn storage(self) -> Option<Storage> {
        Some(match self.name {
            "F32" => Storage::F32,
            "F16" => Storage::F16,
            "BF16" => Storage::BF16,
            "F64" => Storage::F64,
            "I8" => Storage::I8,
            "I16" => Storage::I16,
            "I32" => Storage::I32,
            "I64" => Storage::I64,
            _ => return None,
        })
    }
    /// Whether elements lie in blocks that must be decoded.
    pub fn is_quantized(self) -> bool {
        self.storage().is_none()
    }
    /// Bytes of a row of so many elements; `None` where they do not fill whole blocks, or are too many.
    pub fn row_bytes(self, elements: u64) -> Option<u64> {
        elements.is_multiple_of(self.block).then(|| (elements / self.block).checked_mul(self.bytes))?
    }
    /// Bytes of a tensor of those dimensions, the row's length first; `None` as for [`row_bytes`](Self::row_bytes).
    /// No dimensions are one element.
    pub fn array_bytes(self, dims: &[u64]) -> Option<u64> {
        let (row, rest) = dims.split_first().map_or((1, dims), |(row, rest)| (*row, rest));
        // An empty tensor is empty however large its other dimensions are.
        if dims.contains(&0) {
            return row.is_multiple_of(self.block).then_some(0);
        }
        rest.iter().try_fold(self.row_bytes(row)?, |n, d| n.checked_mul(*d))
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_find_one_type_each() {
        for (i, t) in TYPES.iter().enumerate() {
            assert_eq!(Type::by_id(t.id), Some(*t));
            assert_eq!(Type::by_name(&t.name.to_lowercase()), Some(*t));
            assert!(TYPES[..i].iter().all(|u| u.id < t.id && u.name != t.name), "{t}");
        }
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
        let plain: Vec<&Type> = TYPES.iter().filter(|t| !t.is_quantized()).collect();
        assert_eq!(plain.len(), 8);
        for t in plain {
            let storage = t.storage().expect("plain");
            assert_eq!((storage.bytes(), storage.name().as_str(), t.block), (Some(t.bytes), t.name, 1));
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
