//! Codes of 4 bits and their scales, of either precision, in the order of the values.
use crate::core::ScaleSearch;
use crate::quant::blockfloat::{self, NVFP4_BLOCK};
use crate::quant::four::{self, GROUP, bf16, to_bf16};

/// E4M3's 1: the scale of a block of zeros.
const ONE: u8 = 0x38;
/// The greatest E2M1 value times the greatest E4M3 value.
const MOST: f32 = 6.0 * 448.0;

/// How values become codes and scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Floats, in blocks of 16, instead of integers in groups of 64.
    pub floats: bool,
    /// How scales are found.
    pub search: ScaleSearch,
}

/// Values in codes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coded {
    /// Two codes to a byte, the first in the high half.
    pub codes: Vec<u8>,
    /// Scales: bits of BF16, or E4M3 codes.
    pub scales: Vec<u16>,
    /// The scale of all scales.
    pub tensor_scale: f32,
}

impl Scheme {
    /// Values that share a scale.
    pub fn group(self) -> usize {
        if self.floats { NVFP4_BLOCK } else { GROUP }
    }
    /// Whether there is a scale of all scales.
    pub fn has_tensor_scale(self) -> bool {
        self.floats
    }
    /// That scale, for a greatest magnitude.
    pub fn tensor_scale(self, most: f32) -> f32 {
        let scale = bf16(to_bf16(most / MOST));
        // Of zeros any scale is right that can be divided by.
        if scale > 0.0 { scale } else { 1.0 }
    }

    /// The codes of whole groups.
    pub fn encode(self, tensor_scale: f32, values: &[f32]) -> Coded {
        let groups = values.len() / self.group();
        let (mut codes, mut scales) = (vec![0; values.len() / 2], vec![0; groups]);
        if self.floats {
            let mut bytes = vec![0; groups];
            blockfloat::encode_nvfp4(self.search, tensor_scale, values, &mut codes, &mut bytes);
            for (scale, byte) in scales.iter_mut().zip(bytes) {
                *scale = u16::from(if byte == 0 { ONE } else { byte });
            }
        } else {
            let mut single = vec![0; values.len()];
            four::encode_signed(self.search, values, &mut single, &mut scales);
            for (byte, pair) in codes.iter_mut().zip(single.as_chunks::<2>().0) {
                *byte = pair[0] << 4 | pair[1];
            }
        }
        Coded { codes, scales, tensor_scale }
    }

    /// What codes mean.
    pub fn decode(self, coded: &Coded, tensor_scale: f32, out: &mut [f32]) {
        if self.floats {
            let bytes: Vec<u8> = coded.scales.iter().map(|s| *s as u8).collect();
            blockfloat::decode_nvfp4(tensor_scale, &coded.codes, &bytes, out);
        } else {
            let mut single = vec![0; out.len()];
            unpaired(&coded.codes, &mut single);
            four::decode_signed(&single, &coded.scales, out);
        }
    }
}

/// A byte for each code.
pub fn unpaired(codes: &[u8], single: &mut [u8]) {
    for (pair, byte) in single.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
        *pair = [byte >> 4, byte & 15];
    }
}

/// Two codes to a byte.
pub fn paired(single: &[u8]) -> Vec<u8> {
    single.as_chunks::<2>().0.iter().map(|pair| pair[0] << 4 | pair[1] & 15).collect()
}
