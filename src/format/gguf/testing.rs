//! Files for tests, byte by byte: the writer would refuse most of them.
use super::{Header, MAGIC};
use crate::core::Result;
use crate::format::Blob;

/// A file as its bytes.
#[derive(Clone, Debug, Default)]
pub struct Raw(pub Vec<u8>);

impl Raw {
    /// A start of version 3 that claims so many tensors and keys.
    pub fn new(tensors: i64, keys: i64) -> Self {
        Self::of_version(3, tensors, keys)
    }
    pub fn of_version(version: u32, tensors: i64, keys: i64) -> Self {
        Self(MAGIC.to_vec()).with(&version.to_le_bytes()).with(&tensors.to_le_bytes()).with(&keys.to_le_bytes())
    }
    pub fn with(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn u64(self, n: u64) -> Self {
        self.with(&n.to_le_bytes())
    }
    pub fn string(self, text: impl AsRef<[u8]>) -> Self {
        self.u64(text.as_ref().len() as u64).with(text.as_ref())
    }
    /// A key, the number of its type, and its bytes.
    pub fn key(self, key: impl AsRef<[u8]>, kind: i32, value: &[u8]) -> Self {
        self.string(key).with(&kind.to_le_bytes()).with(value)
    }
    /// An array's key, up to its elements.
    pub fn array(self, key: &str, element: i32, count: u64) -> Self {
        self.key(key, 9, &element.to_le_bytes()).u64(count)
    }
    pub fn alignment(self, n: u32) -> Self {
        self.key("general.alignment", 4, &n.to_le_bytes())
    }
    pub fn info(self, name: impl AsRef<[u8]>, dims: &[i64], kind: i32, offset: u64) -> Self {
        let dims: Vec<u8> =
            (dims.len() as u32).to_le_bytes().into_iter().chain(dims.iter().flat_map(|d| d.to_le_bytes())).collect();
        self.string(name).with(&dims).with(&kind.to_le_bytes()).u64(offset)
    }
    /// Zeros up to a multiple of 32, and so many bytes of data.
    pub fn data(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 0);
        self
    }
    pub fn blob(&self) -> Blob {
        Blob::Memory { name: "m.gguf", bytes: self.0.clone().into() }
    }
    pub fn read(&self) -> Result<Header> {
        super::read_header(&self.blob())
    }
}
