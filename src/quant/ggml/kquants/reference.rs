//! A super-block encoded value by value: what the lanes are held to.

use super::layout::{Block, pack, unpack_scales};
use super::scales::{against_largest, assemble};
use super::{Kind, steps};
use crate::quant::ggml::search::{affine, positive, refined, symmetric};
use crate::quant::ggml::{SUPER_BLOCK, f16_value, nearest_int};

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
    if importance.is_none() || kind == Kind::Q6K {
        if !against_largest(kind, &scales[..n], &mins[..n], &mut block) {
            return out.fill(0);
        }
    } else {
        let (mut ls, mut lm, mut dmin) = ([0; 16], [0; 16], 0.0);
        let d = if kind == Kind::Q3K {
            symmetric(32, &scales, &totals, &mut ls)
        } else {
            let top = if kind == Kind::Q2K { 15 } else { 63 };
            dmin = positive(top, &mins[..n], &totals[..n], &mut lm[..n]);
            positive(top, &scales[..n], &totals[..n], &mut ls[..n])
        };
        assemble(kind, d, dmin, &ls, &lm, &mut block);
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
