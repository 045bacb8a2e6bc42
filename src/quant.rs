//! Arithmetic on slices of `f32`: no files, no threads of its own making, no knowledge of any consumer.
//!
//! | module | what it does |
//! |---|---|
//! | [`affine`] | integer codes of 1 to 16 bits with a scale, and a zero point when unsigned, per block |
//! | [`bitpack`] | codes of 1 to 7 bits packed into bytes, of 9 to 15 into 16-bit words |
//! | [`blockfloat`] | float codes with a scale per block of a row: NVFP4 and MXFP8 |
//! | [`cast`] | stored floats to and from `f32` |
//! | [`codebook`] | codes of 1 to 8 bits that look up their value among the levels of their block |
//! | [`ggml`] | the block types of GGUF |
//! | [`hadamard`] | values rotated by a Hadamard matrix, group by group |
//! | [`int8grid`] | codes of 4 or 6 bits whose values are int8 |
//! | [`lowrank`] | the best few directions of a matrix, found in a few sweeps over its rows |
//! | [`minifloat`] | float codes of 1 to 16 bits, with a scale and a zero point as in [`affine`] |
//!
//! A scheme is written twice: as the plain loop a reader checks against the formula (in its tests), and as loops that
//! the compiler turns into lanes, instantiated per instruction set by `lanes`. A property test holds the two equal
//! bit for bit. Nothing in [`affine`], [`minifloat`], [`bitpack`], [`codebook`] and [`hadamard`] fuses or reorders a
//! float operation, so their bytes do not depend on the machine.
//!
//! A block whose sums may not be reordered is a lane of its own: `simd` has sixteen of them.
//!
//! A length that does not fit the shape is a mistake of the caller, not of the data, and panics.

pub mod affine;
pub mod bitpack;
pub mod blockfloat;
mod blocks;
pub mod cast;
pub mod codebook;
mod compare;
pub mod four;
pub mod ggml;
pub mod hadamard;
pub mod int8grid;
mod lanes;
pub mod lowrank;
pub mod minifloat;
#[allow(dead_code, reason = "a set of operations; each scheme uses some")]
mod simd;
mod word;

pub use blocks::Blocks;
pub use compare::compare;
pub use word::Word;
