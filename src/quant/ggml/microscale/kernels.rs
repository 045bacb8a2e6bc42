//! The lanes.
//!
//! A value's magnitude code is how many of the seven midpoints it lies above. Under an ordinary scale the midpoints are
//! exact products, and ggml's differences are exact where two of them could be mistaken, so the nearest by comparison of
//! differences is the nearest by midpoints, and a midpoint belongs to the lesser code.

use super::super::abreast::{self, Format, largest};
use super::Kind;
use super::scalar::{self, VALUES, half_power, half_ue4m3};
use crate::quant::simd::{Kernel, LANES, Simd};

/// Between twice the magnitudes.
const MIDDLES: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];

/// Quantizes blocks.
pub(super) struct Encode<'a> {
    pub kind: Kind,
    pub values: &'a [f32],
    pub out: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.kind {
            Kind::Mxfp4 => abreast::encode::<S, Mxfp4, 32, 17>(s, self.values, self.out),
            Kind::Nvfp4 => {
                // A part of a block is the unit: its scale and its codes do not lie together.
                for (x, out) in self.values.chunks(4 * 64).zip(self.out.chunks_mut(4 * 36)) {
                    nvfp4(s, x, out);
                }
            }
        }
    }
}

/// The codes of `x` among `middles`.
#[inline(always)]
fn nearest<S: Simd>(s: S, x: S::F, middles: [S::F; 7]) -> S::I {
    let magnitude = s.abs(x);
    let mut code = s.splat_i(0);
    for (below, middle) in middles.into_iter().enumerate() {
        code = s.select_i(s.lt(middle, magnitude), s.splat_i(below as i32 + 1), code);
    }
    let sign = s.and_i(s.shr::<28>(s.bits(x)), s.splat_i(8));
    // Zero has no sign.
    s.select_i(s.lt(middles[0], magnitude), s.or_i(code, sign), code)
}

struct Mxfp4;

impl Format<32, 17> for Mxfp4 {
    #[inline(always)]
    fn encode<S: Simd>(s: S, x: &[[f32; 32]; LANES], out: &mut [[u8; 17]; LANES]) {
        let mut amax = [0; LANES];
        s.store_i(s.bits(largest(s, x)), &mut amax);
        let mut middles = [s.zero(); 7];
        for (middle, m) in middles.iter_mut().zip(MIDDLES) {
            *middle = s.splat(m);
        }
        for ((x, out), amax) in x.iter().zip(out).zip(amax) {
            let amax = amax as u32;
            // From 2^-100 to 2^120 scales and their inverses are normal numbers.
            if !(0x0d80_0000..0x7b80_0000).contains(&amax) {
                scalar::mxfp4(x, out);
                continue;
            }
            // The floor of the logarithm is the exponent, save where the logarithm rounds up to the next.
            let close = amax & 0x7f_ff80 == 0x7f_ff80;
            let e = if close { scalar::exponent(f32::from_bits(amax)) } else { (amax >> 23) as u8 - 2 };
            // A power of two: values are divided by it exactly, down to where they are 0 anyhow.
            let inverse = s.splat(f32::from_bits((255 - u32::from(e)) << 23));
            let x = x.as_chunks().0;
            let low = nearest(s, s.mul(s.load(&x[0]), inverse), middles);
            let high = nearest(s, s.mul(s.load(&x[1]), inverse), middles);
            out[0] = e;
            if let Some(nibbles) = out.last_chunk_mut() {
                s.store_bytes(s.or_i(low, s.shl::<4>(high)), nibbles);
            }
        }
    }
}

/// Up to four blocks: up to sixteen scales.
#[inline(always)]
fn nvfp4<S: Simd>(s: S, values: &[f32], out: &mut [u8]) {
    let mut some = [[0.0; 16]; LANES];
    let x: &[[f32; 16]; LANES] = if let Some(x) = values.as_chunks().0.first_chunk() {
        x
    } else {
        some.as_flattened_mut()[..values.len()].copy_from_slice(values);
        &some
    };
    let sixth = s.div(largest(s, x), s.splat(6.0));
    let fine = s.mask_bits(s.lt(sixth, s.splat(240.0)));
    // Three bits of mantissa, halves up, and a bias of 7 for 127; below its normal numbers E4M3 counts 512ths.
    let bits = s.bits(sixth);
    let normal = s.sub_i(s.shr::<20>(s.add_i(bits, s.splat_i(1 << 19))), s.splat_i(120 << 3));
    let subnormal = s.to_int(s.add(s.mul(sixth, s.splat(512.0)), s.splat(0.5)));
    let small = s.lt(sixth, s.splat(1.0 / 64.0));
    let code = s.select_i(small, s.min_i(subnormal, s.splat_i(7)), normal);
    // Halved.
    let normal = s.from_bits(s.shl::<20>(s.add_i(code, s.splat_i(119 << 3))));
    let d = s.select(small, s.mul(s.to_float(code), s.splat(1.0 / 1024.0)), normal);
    // Nothing lies above the midpoints of no scale.
    let d = s.select(s.eq(d, s.zero()), s.splat(f32::INFINITY), d);
    let mut scaled = [[0.0; LANES]; 7];
    for (scaled, m) in scaled.iter_mut().zip(MIDDLES) {
        s.store(s.mul(d, s.splat(m)), scaled);
    }
    let mut scales = [0; LANES];
    s.store_bytes(code, &mut scales);

    for (block, out) in out.as_chunks_mut::<36>().0.iter_mut().enumerate() {
        let (block_scales, codes) = out.split_at_mut(4);
        for (part, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let g = 4 * block + part;
            if fine >> g & 1 == 0 {
                (block_scales[part], *codes) = scalar::nvfp4(&x[g]);
                continue;
            }
            block_scales[part] = scales[g];
            let mut bytes = [0; LANES];
            let mut middles = [s.zero(); 7];
            for (middle, m) in middles.iter_mut().zip(&scaled) {
                *middle = s.splat(m[g]);
            }
            s.store_bytes(nearest(s, s.load(&x[g]), middles), &mut bytes);
            let bytes = u128::from_le_bytes(bytes);
            *codes = (bytes as u64 | (bytes >> 60) as u64).to_le_bytes();
        }
    }
}

/// Restores values.
pub(super) struct Decode<'a> {
    pub kind: Kind,
    pub bytes: &'a [u8],
    pub out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.kind {
            Kind::Mxfp4 => {
                for (block, out) in self.bytes.as_chunks::<17>().0.iter().zip(self.out.as_chunks_mut::<32>().0) {
                    let d = s.splat(half_power(block[0]));
                    let Some(nibbles) = block.last_chunk() else { continue };
                    let nibbles = s.load_bytes(nibbles);
                    let out = out.as_chunks_mut().0;
                    s.store(s.mul(s.lookup(&VALUES, nibbles), d), &mut out[0]);
                    s.store(s.mul(s.lookup(&VALUES, s.shr::<4>(nibbles)), d), &mut out[1]);
                }
            }
            Kind::Nvfp4 => {
                for (block, out) in self.bytes.as_chunks::<36>().0.iter().zip(self.out.as_chunks_mut::<64>().0) {
                    let (scales, codes) = block.split_at(4);
                    let parts = scales.iter().zip(codes.as_chunks::<8>().0).zip(out.as_chunks_mut().0);
                    for ((scale, codes), out) in parts {
                        let codes = u64::from_le_bytes(*codes);
                        // Low nibbles first; what is above a nibble is not read.
                        let codes = u128::from(codes) | u128::from(codes >> 4) << 64;
                        let codes = s.load_bytes(&codes.to_le_bytes());
                        s.store(s.mul(s.lookup(&VALUES, codes), s.splat(half_ue4m3(*scale))), out);
                    }
                }
            }
        }
    }
}
