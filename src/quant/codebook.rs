//! Codes that look up their value in a codebook: the `2^bits` levels of a block, placed where its values are.
//!
//! The levels are those of Lloyd and Max, as SDNQ 0.2.8 finds them (`quant_utils.py`: `quantize_weight_codebook`): they
//! start evenly from the least value to the greatest, and then some rounds bring down the squared error:
//!
//! 1. cut halfway between neighbouring levels: `midpoint = (level + next) / 2`, rounded to f32;
//! 2. give each value to the level of its cell: its code is the number of midpoints below it, so that a value on a
//!    midpoint takes the lower level;
//! 3. move each level to the mean of its cell; a level whose cell is empty stays.
//!
//! Levels stay sorted, since a mean lies in its cell. The value of a code is its level, and nothing else is stored.
//!
//! SDNQ adds up f32 in the order of the values; here sums are f64, over the sorted values. So the levels are SDNQ's but
//! for its rounding, unless that moves a value to another cell. What rounding is left here, of `n` values no more than
//! `2^-53 n` times the sum of their magnitudes, matters only to levels that are as much smaller than the rest.
//!
//! # What is not finite
//! As for [`affine`](super::affine): callers refuse it first; what becomes of it here is defined but useless. Finite
//! values have finite levels, even where their range overflows.

mod lloyd;
mod nearest;
#[cfg(test)]
mod tests;

use super::Blocks;
use super::affine::Range;
use super::lanes::Level;
use lloyd::Lloyd;
use nearest::{Decode, Encode};

/// The levels of each block after `steps` rounds; 24 is SDNQ's default.
///
/// `values` is `[outer, groups, len, inner]`; `levels` is `[outer, groups, 2^bits, inner]`, ascending, in the unit of
/// the values. The rounds end early where nothing moves any more.
///
/// # Panics
/// If `bits` is not 1 to 8, or a length does not fit `blocks`.
pub fn levels(bits: u8, blocks: Blocks, values: &[f32], steps: usize, levels: &mut [f32]) {
    check_lengths(bits, blocks, values.len(), levels.len());
    if values.is_empty() {
        levels.fill(0.0);
        return;
    }
    let Blocks { len, inner, .. } = blocks;
    let count = 1 << bits;
    let mut lloyd = Lloyd::new(count, len);
    for (values, levels) in values.chunks_exact(len * inner).zip(levels.chunks_exact_mut(count * inner)) {
        for at in 0..inner {
            let found = lloyd.run(values[at..].iter().step_by(inner), steps);
            for (level, found) in levels[at..].iter_mut().step_by(inner).zip(found) {
                *level = *found;
            }
        }
    }
}

/// The code of each value: that of the nearest level, the lower one where two are as near.
///
/// Shapes as for [`levels`]; `codes` has the shape of `values`, and a code is the level's number in its block.
///
/// # Panics
/// If `bits` is not 1 to 8, or a length does not fit `blocks`.
pub fn encode(bits: u8, blocks: Blocks, values: &[f32], levels: &[f32], codes: &mut [u8]) {
    encode_at(Level::best(), bits, blocks, values, levels, codes);
}

fn encode_at(level: Level, bits: u8, blocks: Blocks, values: &[f32], levels: &[f32], codes: &mut [u8]) {
    check_lengths(bits, blocks, values.len(), levels.len());
    assert_eq!(codes.len(), values.len(), "one code per value");
    level.run(Encode { bits, blocks, values, levels, codes });
}

/// The value of each code: its level.
///
/// Shapes as for [`encode`]. A code of `2^bits` or more, which [`encode`] does not give, has some value or other.
///
/// # Panics
/// If `bits` is not 1 to 8, or a length does not fit `blocks`.
pub fn decode(bits: u8, blocks: Blocks, codes: &[u8], levels: &[f32], values: &mut [f32]) {
    decode_at(Level::best(), bits, blocks, codes, levels, values);
}

fn decode_at(level: Level, bits: u8, blocks: Blocks, codes: &[u8], levels: &[f32], values: &mut [f32]) {
    check_lengths(bits, blocks, values.len(), levels.len());
    assert_eq!(codes.len(), values.len(), "one code per value");
    level.run(Decode { bits, blocks, codes, levels, values });
}

/// Levels that lie evenly from the least value to the greatest: where the rounds start.
///
/// All are 0 if there was no value.
///
/// # Panics
/// If there are fewer than two levels.
pub fn uniform(range: Range, levels: &mut [f32]) {
    assert!(levels.len() > 1, "{} levels", levels.len());
    if range == Range::EMPTY {
        levels.fill(0.0);
        return;
    }
    let Range { min, max } = range;
    let top = (levels.len() - 1) as f32;
    let step = (max - min) / top;
    for (i, level) in levels.iter_mut().enumerate() {
        let even = if step.is_finite() {
            min + i as f32 * step
        } else {
            let part = i as f64 / f64::from(top);
            (f64::from(min) * (1.0 - part) + f64::from(max) * part) as f32
        };
        *level = if even > max { max } else { even };
    }
}

/// What a round needs to know of the values, for one block that arrives in slabs.
///
/// A round over a whole tensor: `Sums::of` each slab, merged in the order of the slabs, then [`move_levels`]. Each
/// round reads the tensor once more. It starts from [`uniform`] levels, and gives what [`levels`] gives, but for the
/// rounding of the sums.
///
/// [`move_levels`]: Self::move_levels
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    /// The sum of each cell's values.
    sum: Vec<f64>,
    /// How many values each cell has.
    count: Vec<u64>,
}

impl Sums {
    /// The sums of no values for so many levels, neutral to [`merge`](Self::merge).
    pub fn empty(levels: usize) -> Self {
        Self { sum: vec![0.0; levels], count: vec![0; levels] }
    }

    /// The sums of `values` in the cells of `levels`, which are ascending.
    ///
    /// # Panics
    /// If the number of levels is not 2, 4, …, 256.
    pub fn of(levels: &[f32], values: &[f32]) -> Self {
        const RUN: usize = 1024;
        assert!(levels.len().is_power_of_two() && (2..=256).contains(&levels.len()), "{} levels", levels.len());
        let bits = levels.len().ilog2() as u8;
        // Neighbours often have the same code; with four sums of a cell, they need not wait for each other.
        let (mut sum, mut count) = ([[0.0; 256]; 4], [[0u64; 256]; 4]);
        let mut codes = [0; RUN];
        for values in values.chunks(RUN) {
            let codes = &mut codes[..values.len()];
            encode(bits, Blocks::whole(values.len()), values, levels, codes);
            for (values, codes) in values.chunks(4).zip(codes.chunks(4)) {
                for (((&value, &code), sum), count) in values.iter().zip(codes).zip(&mut sum).zip(&mut count) {
                    sum[usize::from(code)] += f64::from(value);
                    count[usize::from(code)] += 1;
                }
            }
        }
        let all = 0..levels.len();
        Self {
            sum: all.clone().map(|i| (sum[0][i] + sum[1][i]) + (sum[2][i] + sum[3][i])).collect(),
            count: all.map(|i| count.iter().map(|count| count[i]).sum()).collect(),
        }
    }

    /// The sums of both, of the same levels. The order of merging shows in the last bits.
    pub fn merge(&mut self, other: &Self) {
        for (sum, other) in self.sum.iter_mut().zip(&other.sum) {
            *sum += other;
        }
        for (count, other) in self.count.iter_mut().zip(&other.count) {
            *count += other;
        }
    }

    /// Move each level to the mean of its cell, and say whether any moved. A level whose cell is empty stays.
    pub fn move_levels(&self, levels: &mut [f32]) -> bool {
        let mut moved = false;
        for ((level, sum), &count) in levels.iter_mut().zip(&self.sum).zip(&self.count) {
            if count > 0 {
                let mean = (sum / count as f64) as f32;
                moved |= mean != *level;
                *level = mean;
            }
        }
        // The rounding of a long sum may bring a mean out of its cell.
        levels.sort_unstable_by(f32::total_cmp);
        moved
    }
}

/// The value halfway between two levels, finite if they are.
fn midpoint(low: f32, high: f32) -> f32 {
    ((f64::from(low) + f64::from(high)) * 0.5) as f32
}

fn check_lengths(bits: u8, blocks: Blocks, values: usize, levels: usize) {
    assert!((1..=8).contains(&bits), "a codebook of {bits} bits");
    assert_eq!(values, blocks.values(), "values of {blocks:?}");
    assert_eq!(levels, blocks.scales() << bits, "levels of {blocks:?}");
}
