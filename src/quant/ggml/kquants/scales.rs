//! Scales of sub-blocks as codes of a few bits.

use super::Kind;
use super::layout::{Block, pack_pairs, pack_sixes};
use crate::quant::ggml::{EPSILON, c_max, f16_bits, nearest_int};

/// The scales of a super-block (and its minima) against the largest of them. `false` for a super-block of zero bytes.
#[inline(always)]
pub(super) fn against_largest(kind: Kind, scales: &[f32], mins: &[f32], block: &mut Block) -> bool {
    match kind {
        Kind::Q2K | Kind::Q4K | Kind::Q5K => {
            let (mut ls, mut lm) = ([0; 16], [0; 16]);
            let (d, dmin) = (largest(kind, scales, &mut ls), largest(kind, mins, &mut lm));
            assemble(kind, d, dmin, &ls, &lm, block);
        }
        Kind::Q3K | Kind::Q6K => {
            let (mut max, mut magnitude) = (0.0, 0.0);
            for s in scales {
                if s.abs() > magnitude {
                    (max, magnitude) = (*s, s.abs());
                }
            }
            let mut codes = [0; 16];
            if kind == Kind::Q6K {
                if magnitude < EPSILON {
                    return false;
                }
                let factor = -128.0 / max;
                for (code, s) in codes.iter_mut().zip(scales) {
                    *code = nearest_int(factor * s).min(127) as u8;
                }
                assemble(kind, 1.0 / factor, 0.0, &codes, &[0; 16], block);
            } else if max != 0.0 {
                let factor = -32.0 / max;
                for (code, s) in codes.iter_mut().zip(scales) {
                    *code = ((nearest_int(factor * s) as i8).clamp(-32, 31) + 32) as u8;
                }
                assemble(kind, 1.0 / factor, 0.0, &codes, &[0; 16], block);
            } else {
                // Not the codes of zero, but zeros.
                (block.d, block.scales) = (0, [0; 16]);
            }
        }
    }
    true
}

/// Codes against the largest value. Yields the step.
#[inline(always)]
fn largest(kind: Kind, values: &[f32], codes: &mut [u8; 16]) -> f32 {
    let top = if kind == Kind::Q2K { 15.0 } else { 63.0 };
    let mut max = 0.0;
    for v in values {
        max = c_max(*v, max);
    }
    let inverse = if max > 0.0 { top / max } else { 0.0 };
    for (code, v) in codes.iter_mut().zip(values) {
        let l = nearest_int(inverse * v) as u8;
        *code = if kind == Kind::Q2K { l } else { l.min(63) };
    }
    if max > 0.0 { max / top } else { 0.0 }
}

/// Steps and codes as they are stored.
#[inline(always)]
pub(super) fn assemble(kind: Kind, d: f32, dmin: f32, scales: &[u8; 16], mins: &[u8; 16], block: &mut Block) {
    (block.d, block.dmin) = (f16_bits(d), f16_bits(dmin));
    let eight = |l: &[u8; 16]| core::array::from_fn(|j| if kind == Kind::Q5K { l[j].min(63) } else { l[j] });
    block.scales = match kind {
        Kind::Q2K => core::array::from_fn(|j| scales[j] | mins[j] << 4),
        Kind::Q3K => pack_sixes(scales),
        Kind::Q4K | Kind::Q5K => pack_pairs(&eight(scales), &eight(mins)),
        Kind::Q6K => *scales,
    };
}
