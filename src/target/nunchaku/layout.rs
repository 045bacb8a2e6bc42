//! How Nunchaku's kernels want their arrays: permutations between natural order (row-major, output channels first) and
//! what a warp of 32 lanes loads at once. Little-endian throughout.
//!
//! Everything but [`pack_down`] is contiguous per block of output channels: 128 of them ([`BLOCK`]), 16 for [`pack_up`],
//! 4 for AWQ. So a slab of whole blocks is packed alone, into its own part of the output.
//!
//! Lengths are the caller's to keep. Where they are not what a function says, it panics or leaves the rest as it was.
mod awq;
mod codes;
mod low_rank;
mod vectors;

#[cfg(test)]
mod golden;

pub use awq::{awq_place, interleave, interleaved, pack_awq, unpack_awq};
pub use codes::{pack_codes, unpack_codes};
pub use low_rank::{pack_down, pack_up, unpack_down, unpack_up};
pub use vectors::{pack_micro, pack_vector, pack_vectors, unpack_micro, unpack_vector, unpack_vectors};

/// Output channels that are packed together, and what both dimensions of a quantized layer are multiples of.
pub const BLOCK: usize = 128;
/// Input channels of one tile of codes.
const TILE: usize = 64;
