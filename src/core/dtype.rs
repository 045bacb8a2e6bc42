//! Storage types, in safetensors' words, and dtypes, in a target's own words.
use std::fmt;
use std::sync::Arc;

/// How an array's elements lie in a file. Names are safetensors' own (`BF16`, `F8_E4M3`).
pub use safetensors::Dtype as Storage;

/// What [`Storage`] means for arithmetic.
pub trait StorageExt {
    /// safetensors' name: `BF16`.
    fn name(self) -> String;
    /// The type of that name.
    fn parse(name: &str) -> Option<Self>
    where
        Self: Sized;
    /// Bytes of one element; `None` for types smaller than a byte, which mixdown does not compute with.
    fn bytes(self) -> Option<u64>;
    /// Bytes of an array of that many elements; `None` when the product overflows or ends inside a byte.
    fn array_bytes(self, elements: u64) -> Option<u64>;
    /// Whether weights come in it: F64 F32 F16 BF16 F8_E4M3 F8_E5M2.
    #[allow(clippy::wrong_self_convention, reason = "the type is Copy, like the crate's own methods on it")]
    fn is_float(self) -> bool;
}

impl StorageExt for Storage {
    fn name(self) -> String {
        self.to_string()
    }
    fn parse(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }
    fn bytes(self) -> Option<u64> {
        let bits = self.bitsize() as u64;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
    fn array_bytes(self, elements: u64) -> Option<u64> {
        let bits = elements.checked_mul(self.bitsize() as u64)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
    fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8_E4M3 | Self::F8_E5M2)
    }
}

/// A dtype in its target's own words: `uint4`, `Q4_K`, `nvfp4`. Always the canonical spelling.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dtype(Arc<str>);

impl Dtype {
    /// Wraps a canonical name; targets make these from their tables.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for storage in [Storage::F64, Storage::BF16, Storage::F8_E4M3, Storage::F8_E5M2, Storage::U8, Storage::I64] {
            assert_eq!(<Storage as StorageExt>::parse(&storage.name()), Some(storage));
        }
        assert_eq!(<Storage as StorageExt>::parse("Q4_K"), None);
    }

    #[test]
    fn sizes_do_not_overflow() {
        assert_eq!(Storage::BF16.array_bytes(3), Some(6));
        assert_eq!(Storage::F64.array_bytes(u64::MAX / 4), None);
        assert_eq!(Storage::F4.array_bytes(3), None, "half a byte is left over");
    }
}
