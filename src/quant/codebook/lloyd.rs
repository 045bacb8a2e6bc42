//! The rounds of a block, on its sorted values: a cell is then a run of them, and its sum a difference of two sums.

use super::super::affine::Range;
use super::{midpoint, uniform};

/// Blocks from this length on are sorted by digits.
const LONG: usize = 256;

/// One block after another, in the same memory.
pub(super) struct Lloyd {
    levels: Vec<f32>,
    midpoints: Vec<f32>,
    /// Where each cell ends, the last one left out.
    ends: Vec<usize>,
    keys: Vec<u32>,
    spare: Vec<u32>,
    sorted: Vec<f32>,
    /// Sums of the first 0, 1, 2, … sorted values.
    sums: Vec<f64>,
}

impl Lloyd {
    /// For blocks of up to `len` values.
    pub(super) fn new(levels: usize, len: usize) -> Self {
        Self {
            levels: vec![0.0; levels],
            midpoints: vec![0.0; levels - 1],
            ends: vec![0; levels - 1],
            keys: Vec::with_capacity(len),
            spare: Vec::with_capacity(len),
            sorted: Vec::with_capacity(len),
            sums: Vec::with_capacity(len + 1),
        }
    }

    /// The levels of a block after `steps` rounds, or fewer if nothing moves any more.
    pub(super) fn run<'a>(&mut self, values: impl Iterator<Item = &'a f32>, steps: usize) -> &[f32] {
        self.sort(values);
        let range = match self.sorted.as_slice() {
            [min, .., max] => Range { min: *min, max: *max },
            [one] => Range { min: *one, max: *one },
            [] => Range::EMPTY,
        };
        uniform(range, &mut self.levels);
        for step in 0..steps {
            if !self.cut(step == 0) {
                break;
            }
            self.move_levels();
        }
        &self.levels
    }

    fn sort<'a>(&mut self, values: impl Iterator<Item = &'a f32>) {
        self.keys.clear();
        self.keys.extend(values.map(|v| key(*v)));
        if self.keys.len() < LONG {
            self.keys.sort_unstable();
        } else {
            sort_by_digits(&mut self.keys, &mut self.spare);
        }
        self.sorted.clear();
        self.sorted.extend(self.keys.iter().map(|k| of_key(*k)));
        let mut sum = 0.0;
        self.sums.clear();
        self.sums.push(0.0);
        self.sums.extend(self.sorted.iter().map(|v| {
            sum += f64::from(*v);
            sum
        }));
    }

    /// Cut the values at the midpoints; whether any cell changed. From its last place a cut has seldom far to go.
    fn cut(&mut self, first: bool) -> bool {
        let Self { levels, midpoints, ends, sorted, .. } = self;
        for ((midpoint_, low), high) in midpoints.iter_mut().zip(&*levels).zip(&levels[1..]) {
            *midpoint_ = midpoint(*low, *high);
        }
        let mut changed = first;
        for (end, midpoint) in ends.iter_mut().zip(midpoints) {
            let mut at = if first { sorted.partition_point(|v| v <= midpoint) } else { *end };
            while at < sorted.len() && sorted[at] <= *midpoint {
                at += 1;
            }
            while at > 0 && sorted[at - 1] > *midpoint {
                at -= 1;
            }
            changed |= at != *end;
            *end = at;
        }
        changed
    }

    /// Each level to the mean of its cell, which rounding must not bring out of it.
    fn move_levels(&mut self) {
        let Self { levels, ends, sorted, sums, .. } = self;
        let mut start = 0;
        for (level, end) in levels.iter_mut().zip(ends.iter().copied().chain([sorted.len()])) {
            if start < end {
                let mean = ((sums[end] - sums[start]) / (end - start) as f64) as f32;
                let (least, greatest) = (sorted[start], sorted[end - 1]);
                *level = if mean < least {
                    least
                } else if mean > greatest {
                    greatest
                } else {
                    mean
                };
            }
            start = end;
        }
    }
}

/// The bits of a float as an integer that orders as the float does, with `-0.0 < 0.0`.
fn key(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ ((bits as i32 >> 31) as u32 | 1 << 31)
}

fn of_key(key: u32) -> f32 {
    f32::from_bits(key ^ (!(key as i32 >> 31) as u32 | 1 << 31))
}

/// By one byte after another, the lowest first; a byte that all keys share is passed over.
fn sort_by_digits(keys: &mut Vec<u32>, spare: &mut Vec<u32>) {
    let digit = |key: u32, place: usize| (key >> (8 * place)) as usize & 0xff;
    let mut starts = [[0usize; 256]; 4];
    for key in &*keys {
        for (place, starts) in starts.iter_mut().enumerate() {
            starts[digit(*key, place)] += 1;
        }
    }
    spare.resize(keys.len(), 0);
    for (place, starts) in starts.iter_mut().enumerate() {
        if starts.contains(&keys.len()) {
            continue;
        }
        let mut start = 0;
        for count in starts.iter_mut() {
            (*count, start) = (start, start + *count);
        }
        for key in &*keys {
            let start = &mut starts[digit(*key, place)];
            spare[*start] = *key;
            *start += 1;
        }
        std::mem::swap(keys, spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_sort_as_comparisons_do(bits in prop::collection::vec(any::<u32>(), 1..600), masks in any::<[u32; 2]>()) {
            // Masks make some bytes the same in all.
            let values: Vec<f32> = bits.iter().map(|b| f32::from_bits(b & masks[0] | masks[1])).collect();
            let mut expected = values.clone();
            expected.sort_by(f32::total_cmp);
            let mut keys: Vec<u32> = values.iter().map(|v| key(*v)).collect();
            sort_by_digits(&mut keys, &mut Vec::new());
            let sorted: Vec<u32> = keys.iter().map(|k| of_key(*k).to_bits()).collect();
            prop_assert_eq!(sorted, expected.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }
    }
}
