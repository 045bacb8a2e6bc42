//! Where the bits of a super-block lie.

use super::Kind;
use crate::quant::ggml::SUPER_BLOCK;

/// Codes and scales of a super-block, before they are laid out.
pub(super) struct Block {
    /// Half-precision bits of the scale of the scales.
    pub d: u16,
    /// Half-precision bits of the scale of the minima; of Q2_K, Q4_K and Q5_K only.
    pub dmin: u16,
    /// Codes of scales and minima, as stored: 16 bytes, or the first 12.
    pub scales: [u8; 16],
    /// A code for each value, from zero on.
    pub codes: [u8; SUPER_BLOCK],
}

impl Block {
    pub(super) const ZERO: Self = Self { d: 0, dmin: 0, scales: [0; 16], codes: [0; SUPER_BLOCK] };
}

/// Eight scales and eight minima of six bits (wider ones spill over, as in C) in twelve bytes.
pub(super) fn pack_pairs(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 16] {
    let mut out = [0; 16];
    for j in 0..4 {
        out[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        out[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        out[j + 8] = scales[j + 4] & 15 | mins[j + 4] << 4;
    }
    out
}

/// Sixteen scales of six bits in twelve bytes.
pub(super) fn pack_sixes(scales: &[u8; 16]) -> [u8; 16] {
    let mut out = [0; 16];
    for (j, s) in scales.iter().enumerate() {
        out[j % 8] |= (s & 15) << (j / 8 * 4);
        out[8 + j % 4] |= (s >> 4 & 3) << (j / 4 * 2);
    }
    out
}

/// The scales and the minima of a super-block's sub-blocks, from their bytes. Kinds without minima give zeros.
pub(super) fn unpack_scales(kind: Kind, bytes: &[u8; 16]) -> ([i8; 16], [u8; 16]) {
    let (mut scales, mut mins) = ([0; 16], [0; 16]);
    for j in 0..kind.sub_blocks() {
        (scales[j], mins[j]) = match kind {
            Kind::Q2K => ((bytes[j] & 15) as i8, bytes[j] >> 4),
            Kind::Q3K => {
                let low = bytes[j % 8] >> (j / 8 * 4) & 15;
                let high = bytes[8 + j % 4] >> (j / 4 * 2) & 3;
                ((low | high << 4) as i8 - 32, 0)
            }
            Kind::Q4K | Kind::Q5K if j < 4 => ((bytes[j] & 63) as i8, bytes[j + 4] & 63),
            Kind::Q4K | Kind::Q5K => {
                ((bytes[j + 4] & 15 | bytes[j - 4] >> 6 << 4) as i8, bytes[j + 4] >> 4 | bytes[j] >> 6 << 4)
            }
            Kind::Q6K => (bytes[j] as i8, 0),
        };
    }
    (scales, mins)
}

/// Lays a super-block out in `out`, which has [`Kind::bytes`] of them.
#[inline(always)]
pub(super) fn pack(kind: Kind, block: &Block, out: &mut [u8]) {
    let codes = &block.codes;
    let (d, dmin) = (block.d.to_le_bytes(), block.dmin.to_le_bytes());
    match kind {
        Kind::Q2K => {
            out[..16].copy_from_slice(&block.scales);
            pack_twos(codes, &mut out[16..80]);
            out[80..82].copy_from_slice(&d);
            out[82..84].copy_from_slice(&dmin);
        }
        Kind::Q3K => {
            let mut high = [0; 32];
            for (j, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                for (high, code) in high.iter_mut().zip(codes) {
                    *high |= (code >> 2) << j;
                }
            }
            out[..32].copy_from_slice(&high);
            pack_twos(codes, &mut out[32..96]);
            out[96..108].copy_from_slice(&block.scales[..12]);
            out[108..110].copy_from_slice(&d);
        }
        Kind::Q4K | Kind::Q5K => {
            out[..2].copy_from_slice(&d);
            out[2..4].copy_from_slice(&dmin);
            out[4..16].copy_from_slice(&block.scales[..12]);
            let mut low = &mut out[16..];
            if kind == Kind::Q5K {
                let mut high = [0; 32];
                for (j, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                    for (high, code) in high.iter_mut().zip(codes) {
                        *high |= (code >> 4) << j;
                    }
                }
                low[..32].copy_from_slice(&high);
                low = &mut low[32..];
            }
            for (low, codes) in low.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0) {
                for (i, low) in low.iter_mut().enumerate() {
                    *low = codes[i] & 15 | codes[i + 32] << 4;
                }
            }
        }
        Kind::Q6K => {
            let (low, rest) = out.split_at_mut(128);
            let (high, rest) = rest.split_at_mut(64);
            let halves = low.as_chunks_mut::<64>().0.iter_mut().zip(high.as_chunks_mut::<32>().0);
            for ((low, high), codes) in halves.zip(codes.as_chunks::<128>().0) {
                for i in 0..32 {
                    let [a, b, c, e] = [codes[i], codes[i + 32], codes[i + 64], codes[i + 96]];
                    low[i] = a & 15 | c << 4;
                    low[i + 32] = b & 15 | e << 4;
                    high[i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | e >> 4 << 6;
                }
            }
            rest[..16].copy_from_slice(&block.scales);
            rest[16..18].copy_from_slice(&d);
        }
    }
}

/// The low two bits of each code: byte `i` of a half has those of codes `i`, `i + 32`, `i + 64` and `i + 96`.
#[inline(always)]
fn pack_twos(codes: &[u8; SUPER_BLOCK], out: &mut [u8]) {
    for (out, codes) in out.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<128>().0) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = codes[i] & 3 | (codes[i + 32] & 3) << 2 | (codes[i + 64] & 3) << 4 | (codes[i + 96] & 3) << 6;
        }
    }
}

/// Reads a super-block of [`Kind::bytes`] bytes.
#[inline(always)]
pub(super) fn unpack(kind: Kind, bytes: &[u8], block: &mut Block) {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let codes = &mut block.codes;
    block.dmin = 0;
    block.scales = [0; 16];
    match kind {
        Kind::Q2K => {
            block.scales.copy_from_slice(&bytes[..16]);
            unpack_twos(&bytes[16..80], codes);
            (block.d, block.dmin) = (half(80), half(82));
        }
        Kind::Q3K => {
            unpack_twos(&bytes[32..96], codes);
            add_high(&bytes[..32], 2, codes);
            block.scales[..12].copy_from_slice(&bytes[96..108]);
            block.d = half(108);
        }
        Kind::Q4K | Kind::Q5K => {
            (block.d, block.dmin) = (half(0), half(2));
            block.scales[..12].copy_from_slice(&bytes[4..16]);
            let low = if kind == Kind::Q5K { &bytes[48..] } else { &bytes[16..] };
            for (low, codes) in low.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<64>().0) {
                for (i, low) in low.iter().enumerate() {
                    codes[i] = low & 15;
                    codes[i + 32] = low >> 4;
                }
            }
            if kind == Kind::Q5K {
                add_high(&bytes[16..48], 4, codes);
            }
        }
        Kind::Q6K => {
            let halves = bytes[..128].as_chunks::<64>().0.iter().zip(bytes[128..192].as_chunks::<32>().0);
            for ((low, high), codes) in halves.zip(codes.as_chunks_mut::<128>().0) {
                for i in 0..32 {
                    codes[i] = low[i] & 15 | (high[i] & 3) << 4;
                    codes[i + 32] = low[i + 32] & 15 | (high[i] >> 2 & 3) << 4;
                    codes[i + 64] = low[i] >> 4 | (high[i] >> 4 & 3) << 4;
                    codes[i + 96] = low[i + 32] >> 4 | high[i] >> 6 << 4;
                }
            }
            block.scales.copy_from_slice(&bytes[192..208]);
            block.d = half(208);
        }
    }
}

#[inline(always)]
fn unpack_twos(bytes: &[u8], codes: &mut [u8; SUPER_BLOCK]) {
    for (bytes, codes) in bytes.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<128>().0) {
        for (i, byte) in bytes.iter().enumerate() {
            for part in 0..4 {
                codes[i + 32 * part] = byte >> (2 * part) & 3;
            }
        }
    }
}

/// Bit `j` of byte `i` is bit `at` of code `32 j + i`.
#[inline(always)]
fn add_high(bytes: &[u8], at: u32, codes: &mut [u8; SUPER_BLOCK]) {
    for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, byte) in codes.iter_mut().zip(bytes) {
            *code |= (byte >> j & 1) << at;
        }
    }
}
