//! Between the bytes of stored floats and `f32`.
use std::sync::OnceLock;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use super::lanes::{Kernel, Level};
use crate::core::Storage;

/// Decodes little-endian `bytes` of a float type; `out` has one place per element.
///
/// F64 is rounded to f32. Returns `false`, with `out` untouched, for a type that is not a float.
pub fn decode(storage: Storage, bytes: &[u8], out: &mut [f32]) -> bool {
    match storage {
        Storage::F32 => each(bytes, out, |b: [u8; 4]| f32::from_le_bytes(b)),
        Storage::F64 => each(bytes, out, |b: [u8; 8]| f64::from_le_bytes(b) as f32),
        Storage::BF16 => Level::best().run(Widen { bytes, out }),
        Storage::F16 => {
            // In blocks, so that the conversion instruction is asked for once and not per element.
            let mut block = [0u16; 64];
            for (bytes, out) in bytes.chunks(128).zip(out.chunks_mut(64)) {
                let block = &mut block[..out.len()];
                for (bits, b) in block.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *bits = u16::from_le_bytes(*b);
                }
                block.reinterpret_cast::<f16>().convert_to_f32_slice(out);
            }
        }
        Storage::F8_E4M3 => table(bytes, out, e4m3()),
        Storage::F8_E5M2 => table(bytes, out, e5m2()),
        _ => return false,
    }
    true
}

/// Rounds `values` to the nearest (ties to even) of F32, F16 or BF16, little-endian; `false` for other types.
pub fn encode(storage: Storage, values: &[f32], out: &mut Vec<u8>) -> bool {
    let size = match storage {
        Storage::F32 => 4,
        Storage::F16 | Storage::BF16 => 2,
        _ => return false,
    };
    let start = out.len();
    out.resize(start + size * values.len(), 0);
    encode_to(storage, values, &mut out[start..])
}

/// The same into bytes that are there, as many as the values take.
pub fn encode_to(storage: Storage, values: &[f32], bytes: &mut [u8]) -> bool {
    match storage {
        Storage::F32 => {
            for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
        Storage::BF16 => Level::best().run(Narrow { values, bytes }),
        Storage::F16 => {
            let mut block = [f16::ZERO; 64];
            for (values, bytes) in values.chunks(64).zip(bytes.chunks_mut(128)) {
                let block = &mut block[..values.len()];
                block.convert_from_f32_slice(values);
                for (bytes, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(block) {
                    *bytes = value.to_le_bytes();
                }
            }
        }
        _ => return false,
    }
    true
}

/// BF16 is the upper half of an f32.
struct Widen<'a> {
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        each(self.bytes, self.out, |b: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
    }
}

struct Narrow<'a> {
    values: &'a [f32],
    bytes: &'a mut [u8],
}

impl Kernel for Narrow<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        for (bytes, value) in self.bytes.as_chunks_mut::<2>().0.iter_mut().zip(self.values) {
            *bytes = bf16::from_f32(*value).to_le_bytes();
        }
    }
}

#[inline(always)]
fn each<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    for (v, b) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *v = f(*b);
    }
}

fn table(bytes: &[u8], out: &mut [f32], table: &[f32; 256]) {
    for (v, b) in out.iter_mut().zip(bytes) {
        *v = table[usize::from(*b)];
    }
}

/// OCP 8-bit float E4M3 ("fn"): bias 7, no infinity, only S.1111.111 is NaN.
fn e4m3() -> &'static [f32; 256] {
    static TABLE: OnceLock<[f32; 256]> = OnceLock::new();
    TABLE.get_or_init(|| std::array::from_fn(|code| small_float(code as u8, 3, 7, code & 0x7f == 0x7f)))
}

/// OCP 8-bit float E5M2: bias 15, infinities and NaNs as in IEEE 754.
fn e5m2() -> &'static [f32; 256] {
    static TABLE: OnceLock<[f32; 256]> = OnceLock::new();
    TABLE.get_or_init(|| std::array::from_fn(|code| f16::from_bits((code as u16) << 8).to_f32()))
}

fn small_float(code: u8, mantissa_bits: u32, bias: i32, nan: bool) -> f32 {
    if nan {
        return f32::NAN;
    }
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let mantissa = f32::from(code & ((1 << mantissa_bits) - 1)) / (1u32 << mantissa_bits) as f32;
    let exponent = i32::from((code & 0x7f) >> mantissa_bits);
    let magnitude =
        if exponent == 0 { mantissa * 2f32.powi(1 - bias) } else { (1.0 + mantissa) * 2f32.powi(exponent - bias) };
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_become_values() {
        fn check(storage: Storage, bytes: &[u8], expected: &[f32]) {
            let mut out = vec![0.0; expected.len()];
            assert!(decode(storage, bytes, &mut out));
            assert_eq!(out, expected, "{storage:?}");
        }
        check(Storage::F32, &1.5f32.to_le_bytes(), &[1.5]);
        check(Storage::F64, &(-0.1f64).to_le_bytes(), &[-0.1f32]);
        check(Storage::BF16, &[0x80, 0x3f, 0x00, 0xc0], &[1.0, -2.0]);
        check(Storage::F16, &[0x00, 0x3c, 0x01, 0x00], &[1.0, 5.960_464_5e-8]);
        check(Storage::F8_E4M3, &[0x38, 0x7e, 0x01, 0xb8, 0x80], &[1.0, 448.0, 2f32.powi(-9), -1.0, -0.0]);
        check(Storage::F8_E5M2, &[0x3c, 0x7b, 0x01, 0xfc], &[1.0, 57344.0, 2f32.powi(-16), f32::NEG_INFINITY]);
        assert!(!decode(Storage::I32, &[0; 4], &mut [0.0]));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bits in prop::collection::vec(any::<u16>(), 0..200)) {
            for storage in [Storage::BF16, Storage::F16] {
                let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
                let mut values = vec![0.0; bits.len()];
                decode(storage, &bytes, &mut values);
                let mut back = Vec::new();
                encode(storage, &values, &mut back);
                for (i, v) in values.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
                    prop_assert_eq!(&back[2 * i..2 * i + 2], &bytes[2 * i..2 * i + 2], "{}", v);
                }
            }
        }
    }
}
