//! Codes that stand for levels: each block has levels of its own, found by Lloyd's and Max's method.
use super::Blocks;

/// The levels of each block: `[outer, groups, 2^bits, inner]`, rising along their dimension.
pub fn levels(bits: u8, blocks: Blocks, values: &[f32], steps: usize, levels: &mut [f32]) {
    let count = 1usize << bits;
    let mut block = Vec::with_capacity(blocks.len);
    let mut found = vec![0.0f32; count];
    for b in 0..blocks.outer * blocks.groups {
        for i in 0..blocks.inner {
            let start = b * blocks.len * blocks.inner + i;
            block.clear();
            block.extend((0..blocks.len).map(|k| values[start + k * blocks.inner]));
            block.sort_unstable_by(f32::total_cmp);
            of_sorted(&block, steps, &mut found);
            for (k, level) in found.iter().enumerate() {
                levels[(b * count + k) * blocks.inner + i] = *level;
            }
        }
    }
}

fn of_sorted(sorted: &[f32], steps: usize, levels: &mut [f32]) {
    let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
        levels.fill(0.0);
        return;
    };
    let step = (max - min) / (levels.len() - 1) as f32;
    for (i, level) in levels.iter_mut().enumerate() {
        *level = min + i as f32 * step;
    }
    let mut sums = Vec::with_capacity(sorted.len() + 1);
    sums.push(0.0f64);
    for v in sorted {
        sums.push(sums[sums.len() - 1] + f64::from(*v));
    }
    for _ in 0..steps {
        let mut moved = false;
        let mut from = 0;
        for i in 0..levels.len() {
            let to = match levels.get(i + 1) {
                Some(next) => {
                    let middle = 0.5 * (levels[i] + next);
                    from + sorted[from..].partition_point(|v| *v <= middle)
                }
                None => sorted.len(),
            };
            if to > from {
                let mean = ((sums[to] - sums[from]) / (to - from) as f64) as f32;
                moved |= mean != levels[i];
                levels[i] = mean;
            }
            from = to;
        }
        levels.sort_unstable_by(f32::total_cmp);
        if !moved {
            break;
        }
    }
}

/// The nearest level of each value.
pub fn encode(bits: u8, blocks: Blocks, values: &[f32], levels: &[f32], codes: &mut [u8]) {
    each(bits, blocks, |at, of| {
        let value = values[at];
        let count = 1usize << bits;
        let (mut low, mut high) = (0, count - 1);
        while low < high {
            let mid = (low + high) / 2;
            let middle = 0.5 * (levels[of(mid)] + levels[of(mid + 1)]);
            if value <= middle { high = mid } else { low = mid + 1 }
        }
        codes[at] = low as u8;
    });
}

/// The level of each code.
pub fn decode(bits: u8, blocks: Blocks, codes: &[u8], levels: &[f32], values: &mut [f32]) {
    each(bits, blocks, |at, of| values[at] = levels[of(usize::from(codes[at]))]);
}

fn each(bits: u8, blocks: Blocks, mut f: impl FnMut(usize, &dyn Fn(usize) -> usize)) {
    let count = 1usize << bits;
    for b in 0..blocks.outer * blocks.groups {
        for k in 0..blocks.len {
            for i in 0..blocks.inner {
                f((b * blocks.len + k) * blocks.inner + i, &|level| (b * count + level) * blocks.inner + i);
            }
        }
    }
}

/// Sums of the values nearest to each level.
#[derive(Clone, Debug)]
pub struct Sums(Vec<(f64, u64)>);

impl Sums {
    /// Of some values.
    pub fn of(levels: &[f32], values: &[f32]) -> Self {
        let mut sums = vec![(0.0, 0); levels.len()];
        let at: Vec<f32> = levels.windows(2).map(|w| 0.5 * (w[0] + w[1])).collect();
        for v in values {
            let cell = at.partition_point(|m| m < v);
            sums[cell].0 += f64::from(*v);
            sums[cell].1 += 1;
        }
        Self(sums)
    }
    /// Adds those of more values.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.0 += theirs.0;
            mine.1 += theirs.1;
        }
    }
    /// Moves each level to the mean of its values.
    pub fn move_levels(&self, levels: &mut [f32]) {
        for (level, (sum, count)) in levels.iter_mut().zip(&self.0) {
            if *count > 0 {
                *level = (*sum / *count as f64) as f32;
            }
        }
        levels.sort_unstable_by(f32::total_cmp);
    }
}
