//! A super-block encoded value by value: what the lanes are held to.

use super::layout::{Block, pack, pack_pairs, pack_sixes, unpack_scales};
use super::{Kind, steps};
use crate::quant::ggml::search::{affine, positive, refined, symmetric};
use crate::quant::ggml::{EPSILON, SUPER_BLOCK, c_max, c_min, f16_bits, f16_value, nearest_int};

/// As [`super::encode`].
pub(super) fn encode(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (i, (x, out)) in values.chunks(SUPER_BLOCK).zip(out.chunks_mut(kind.bytes())).enumerate() {
        let importance = importance.map(|w| &w[i * SUPER_BLOCK % row_len..][..SUPER_BLOCK]);
        super_block(kind, x, importance, out);
    }
}

fn super_block(kind: Kind, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let mut block = Block::ZERO;
    let size = SUPER_BLOCK / kind.sub_blocks();
    let mut sum = 0.0;
    for x in x {
        sum += x * x;
    }
    let sigma2 = if kind == Kind::Q2K { sum / 256.0 } else { 2.0 * sum / 256.0 };

    let (mut scales, mut mins, mut totals) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    for (j, (x, codes)) in x.chunks(size).zip(block.codes.chunks_mut(size)).enumerate() {
        let mut weights = [0.0; 32];
        let weights = &mut weights[..size];
        let mut squares = 0.0;
        for x in x {
            squares += x * x;
        }
        let average = (squares / 32.0).sqrt();
        for (i, (w, x)) in weights.iter_mut().zip(x).enumerate() {
            *w = match (kind, importance) {
                (Kind::Q6K, Some(importance)) => importance[j * size + i],
                (_, Some(importance)) => importance[j * size + i] * (sigma2 + x * x).sqrt(),
                (Kind::Q2K, None) => x.abs(),
                (Kind::Q4K | Kind::Q5K, None) => average + x.abs(),
                (Kind::Q3K | Kind::Q6K, None) => x * x,
            };
            totals[j] += *w;
        }
        match kind {
            Kind::Q3K if importance.is_none() => scales[j] = refined(4, x, codes),
            Kind::Q3K => scales[j] = symmetric(4, x, weights, codes),
            Kind::Q6K => scales[j] = symmetric(32, x, weights, codes),
            _ => (scales[j], mins[j]) = affine(steps(kind, importance.is_some()), x, weights, codes),
        }
    }

    let n = kind.sub_blocks();
    match kind {
        Kind::Q2K | Kind::Q4K | Kind::Q5K => {
            let (mut ls, mut lm) = ([0; 16], [0; 16]);
            let top = if kind == Kind::Q2K { 15 } else { 63 };
            let (d, dmin) = if importance.is_some() {
                (
                    positive(top, &scales[..n], &totals[..n], &mut ls[..n]),
                    positive(top, &mins[..n], &totals[..n], &mut lm[..n]),
                )
            } else {
                (largest(kind, top, &scales[..n], &mut ls), largest(kind, top, &mins[..n], &mut lm))
            };
            (block.d, block.dmin) = (f16_bits(d), f16_bits(dmin));
            if kind == Kind::Q2K {
                for j in 0..16 {
                    block.scales[j] = ls[j] | lm[j] << 4;
                }
            } else {
                let eight = |l: [u8; 16]| core::array::from_fn(|j| if kind == Kind::Q5K { l[j].min(63) } else { l[j] });
                block.scales = pack_pairs(&eight(ls), &eight(lm));
            }
        }
        Kind::Q3K if importance.is_some() => {
            let mut codes = [0; 16];
            block.d = f16_bits(symmetric(32, &scales, &totals, &mut codes));
            block.scales = pack_sixes(&codes);
        }
        Kind::Q3K | Kind::Q6K => {
            let (mut max, mut magnitude) = (0.0, 0.0);
            for s in scales {
                if s.abs() > magnitude {
                    (max, magnitude) = (s, s.abs());
                }
            }
            if kind == Kind::Q6K {
                if magnitude < EPSILON {
                    return out.fill(0);
                }
                let iscale = -128.0 / max;
                block.d = f16_bits(1.0 / iscale);
                block.scales = scales.map(|s| nearest_int(iscale * s).min(127) as u8);
            } else if max != 0.0 {
                let iscale = -32.0 / max;
                block.d = f16_bits(1.0 / iscale);
                block.scales = pack_sixes(&scales.map(|s| ((nearest_int(iscale * s) as i8).clamp(-32, 31) + 32) as u8));
            }
        }
    }

    let (d, dmin) = (f16_value(block.d), f16_value(block.dmin));
    let (scales, mins) = unpack_scales(kind, &block.scales);
    for (j, (x, codes)) in x.chunks(size).zip(block.codes.chunks_mut(size)).enumerate() {
        let (d, min) = (d * f32::from(scales[j]), dmin * f32::from(mins[j]));
        if d == 0.0 {
            continue;
        }
        for (x, code) in x.iter().zip(codes) {
            *code = match kind {
                Kind::Q2K => nearest_int((x + min) / d).clamp(0, 3),
                Kind::Q3K => nearest_int(x / d).clamp(-4, 3) + 4,
                Kind::Q4K => nearest_int((x + min) / d).clamp(0, 15),
                Kind::Q5K => nearest_int((x + min) / d).clamp(0, 31),
                Kind::Q6K => nearest_int(x / d).clamp(-32, 31) + 32,
            } as u8;
        }
    }
    pack(kind, &block, out);
}

/// Codes of scales (or minima) against the largest of them. Yields the step.
fn largest(kind: Kind, top: i32, values: &[f32], codes: &mut [u8; 16]) -> f32 {
    let max = values.iter().fold(0.0, |max, v| c_max(*v, max));
    let inverse = if max > 0.0 { top as f32 / max } else { 0.0 };
    for (code, v) in codes.iter_mut().zip(values) {
        let l = nearest_int(inverse * v) as u8;
        *code = if kind == Kind::Q2K { l } else { l.min(63) };
    }
    if max > 0.0 { max / top as f32 } else { c_min(max, 0.0) }
}
