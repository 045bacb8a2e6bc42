//! The GGUF container: a header of typed keys and tensor infos, then the tensors' bytes, each padded to an alignment.
//!
//! Layout (versions 2 and 3, little-endian): `GGUF`, version u32, tensor count i64, key count i64; the keys; the infos
//! (name, dimensions from the innermost, type, offset within the data); zeros up to the alignment; the data. A string
//! is a u64 length and bytes; an array is an element type, a u64 count and elements.
//!
//! The reader takes what ggml takes and refuses what ggml refuses, with three exceptions that other programs' files
//! need and that it warns of: longer tensor names, more than four dimensions, tensors that do not lie gaplessly.
//! Everything is kept as the bytes it was, so that what is not understood can be written again unchanged.
pub mod read;
pub mod split;
pub mod tensors;
pub mod types;
pub mod value;
pub mod write;

pub use read::{Header, Info, read_header};
pub use types::Type;
pub use value::{Item, Kind, Pair, Value};

/// The first bytes of every file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written; 2 has the same bytes.
pub const VERSION: u32 = 3;
/// The key of the alignment.
pub const ALIGNMENT: &str = "general.alignment";
/// The alignment of a file that does not say.
pub const DEFAULT_ALIGNMENT: u32 = 32;
/// Longest tensor name that ggml reads, in bytes.
pub const MAX_NAME: usize = 63;
/// Longest tensor name in files for diffusion models.
pub const MAX_LONG_NAME: usize = 127;
/// Most dimensions that ggml reads.
pub const MAX_DIMS: usize = 4;
/// Most dimensions that are read of files for diffusion models.
pub const MAX_MANY_DIMS: usize = 8;
/// Longest key, in bytes.
pub const MAX_KEY: u64 = 65_535;

/// The alignment that keys ask for: a u32 and a power of two.
pub(crate) fn alignment(keys: &[Pair]) -> Result<u64, String> {
    let Some(pair) = keys.iter().find(|p| *p.key == *ALIGNMENT.as_bytes()) else {
        return Ok(u64::from(DEFAULT_ALIGNMENT));
    };
    let value = &pair.value;
    if value.is_array() || value.kind() != Kind::U32 {
        return Err(format!("key `{ALIGNMENT}` is {}, expected u32", value.type_name()));
    }
    match value.as_u64() {
        Some(n) if n.is_power_of_two() => Ok(n),
        n => Err(format!("key `{ALIGNMENT}` is {}, expected a power of two", n.unwrap_or_default())),
    }
}

#[cfg(test)]
pub(crate) mod testing;
