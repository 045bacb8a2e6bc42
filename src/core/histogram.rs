//! A histogram that needs no range beforehand: bins are logarithmic in magnitude, counts merge by addition,
//! and any linear or logarithmic axis can be drawn from it afterwards.

const MANTISSA_BITS: u32 = 5;
const PER_OCTAVE: usize = 1 << MANTISSA_BITS;
const LOWEST: i32 = -60;
const HIGHEST: i32 = 20;
const BINS: usize = (HIGHEST - LOWEST) as usize * PER_OCTAVE;

/// Counts of values by sign and magnitude; a bin spans 1/32 of an octave (about 3 %).
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    negative: Vec<u64>,
    positive: Vec<u64>,
    /// Zeros, and what is too small to tell from zero (below 2^-60).
    zero: u64,
    min: f32,
    max: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { negative: Vec::new(), positive: Vec::new(), zero: 0, min: f32::INFINITY, max: f32::NEG_INFINITY }
    }
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts finite values; others are passed over.
    pub fn add(&mut self, values: impl IntoIterator<Item = f32>) {
        self.negative.resize(BINS, 0);
        self.positive.resize(BINS, 0);
        for v in values {
            if !v.is_finite() {
                continue;
            }
            self.min = self.min.min(v);
            self.max = self.max.max(v);
            match bin(v.abs()) {
                None => self.zero += 1,
                Some(i) if v < 0.0 => self.negative[i] += 1,
                Some(i) => self.positive[i] += 1,
            }
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.negative.resize(BINS.min(self.negative.len().max(other.negative.len())), 0);
        self.positive.resize(BINS.min(self.positive.len().max(other.positive.len())), 0);
        for (a, b) in self.negative.iter_mut().zip(&other.negative) {
            *a += b;
        }
        for (a, b) in self.positive.iter_mut().zip(&other.positive) {
            *a += b;
        }
        self.zero += other.zero;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Smallest and largest value seen; `None` while empty.
    pub fn range(&self) -> Option<(f32, f32)> {
        (self.min <= self.max).then_some((self.min, self.max))
    }

    /// Counts per column of a linear axis from `low` to `high`; a bin wider than a column is spread over those it covers.
    pub fn columns(&self, low: f32, high: f32, columns: usize) -> Vec<f64> {
        let mut out = vec![0.0; columns];
        if columns == 0 || low >= high {
            return out;
        }
        let (low, width) = (f64::from(low), f64::from(high) - f64::from(low));
        let mut spread = |a: f64, b: f64, count: u64| {
            if count == 0 {
                return;
            }
            let scale = columns as f64 / width;
            let (from, to) = ((a - low) * scale, (b - low) * scale);
            let span = (to - from).max(f64::MIN_POSITIVE);
            let first = from.floor().clamp(0.0, (columns - 1) as f64) as usize;
            let last = to.floor().clamp(0.0, (columns - 1) as f64) as usize;
            for (i, column) in out.iter_mut().enumerate().take(last + 1).skip(first) {
                // What lies outside the axis is counted in its first or last column.
                let left = if i == 0 { f64::NEG_INFINITY } else { i as f64 };
                let right = if i + 1 == columns { f64::INFINITY } else { (i + 1) as f64 };
                *column += count as f64 * ((to.min(right) - from.max(left)).max(0.0) / span).min(1.0);
            }
        };
        for (i, (positive, negative)) in self.positive.iter().zip(&self.negative).enumerate() {
            let (a, b) = edges(i);
            spread(a, b, *positive);
            spread(-b, -a, *negative);
        }
        if self.zero > 0 {
            let at = ((0.0 - low) / width * columns as f64).floor().clamp(0.0, (columns - 1) as f64) as usize;
            out[at] += self.zero as f64;
        }
        out
    }
}

fn bin(magnitude: f32) -> Option<usize> {
    let bits = magnitude.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    if exponent < LOWEST {
        return None;
    }
    let mantissa = (bits >> (23 - MANTISSA_BITS)) as usize & (PER_OCTAVE - 1);
    Some((((exponent - LOWEST) as usize) * PER_OCTAVE + mantissa).min(BINS - 1))
}

fn edges(index: usize) -> (f64, f64) {
    let octave = 2f64.powi((index / PER_OCTAVE) as i32 + LOWEST);
    let step = octave / PER_OCTAVE as f64;
    let a = octave + step * (index % PER_OCTAVE) as f64;
    (a, a + step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_of_a_few_values() {
        let mut h = Histogram::new();
        h.add([-0.9, 0.1, 0.1, 0.9, 0.0, f32::NAN]);
        let columns: Vec<f64> = h.columns(-1.0, 1.0, 4).iter().map(|c| c.round()).collect();
        assert_eq!(columns, [1.0, 0.0, 3.0, 1.0]);
        assert_eq!(h.range(), Some((-0.9, 0.9)));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(values in prop::collection::vec(-3f32..3.0, 1..100), columns in 1usize..50) {
            let mut h = Histogram::new();
            h.add(values.iter().copied());
            let total: f64 = h.columns(-1.0, 1.0, columns).iter().sum();
            prop_assert!((total - values.len() as f64).abs() < 1e-6);
        }
    }
}
