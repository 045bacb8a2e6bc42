//! Where in a matrix the error lies: summed by row and by column, so that a channel that stands out is seen.

/// Squared errors of a matrix, by row and by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorProfile {
    /// Σ(w−ŵ)² of each row.
    pub rows: Vec<f32>,
    /// Σ(w−ŵ)² of each column.
    pub cols: Vec<f32>,
}

impl ErrorProfile {
    /// The errors of whole rows of `cols` values each.
    pub fn of(cols: usize, weights: &[f32], decoded: &[f32]) -> Self {
        let mut out = Self { rows: Vec::new(), cols: vec![0.0; cols] };
        if cols == 0 {
            return out;
        }
        for (w, d) in weights.chunks_exact(cols).zip(decoded.chunks_exact(cols)) {
            let mut row = 0.0f32;
            for ((sum, w), d) in out.cols.iter_mut().zip(w).zip(d) {
                let square = (w - d) * (w - d);
                *sum += square;
                row += square;
            }
            out.rows.push(row);
        }
        out
    }

    /// Adds the rows that follow.
    pub fn merge(&mut self, other: Self) {
        self.rows.extend(other.rows);
        if self.cols.is_empty() {
            self.cols = other.cols;
        } else {
            self.cols.iter_mut().zip(other.cols).for_each(|(a, b)| *a += b);
        }
    }
}

/// The largest of the values that fall into each of `buckets`, as a share of the largest of all.
pub fn peaks(values: &[f32], buckets: usize) -> Vec<f32> {
    let most = values.iter().copied().fold(0.0, f32::max);
    (0..buckets.min(values.len()))
        .map(|i| {
            let n = buckets.min(values.len());
            let (from, to) = (i * values.len() / n, (i + 1) * values.len() / n);
            let peak = values[from..to].iter().copied().fold(0.0, f32::max);
            if most > 0.0 { peak / most } else { 0.0 }
        })
        .collect()
}

/// The index of the largest value, and how many times the mean it is.
pub fn worst(values: &[f32]) -> Option<(usize, f64)> {
    let (at, most) = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    (mean > 0.0).then(|| (at, f64::from(*most) / mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_row_and_column() {
        let mut profile = ErrorProfile::of(3, &[1.0, 0.0, 2.0, 0.0, 0.0, 0.0], &[0.0, 0.0, 0.0, 0.0, 3.0, 0.0]);
        profile.merge(ErrorProfile::of(3, &[1.0, 1.0, 1.0], &[1.0, 1.0, 0.0]));
        assert_eq!(profile, ErrorProfile { rows: vec![5.0, 9.0, 1.0], cols: vec![1.0, 9.0, 5.0] });
    }

    #[test]
    fn what_stands_out() {
        assert_eq!(worst(&[1.0, 1.0, 10.0, 0.0]), Some((2, 10.0 / 3.0)));
        assert_eq!(worst(&[0.0; 4]), None);
        assert_eq!(worst(&[]), None);
        assert_eq!(peaks(&[1.0, 1.0, 10.0, 0.0], 2), [0.1, 1.0]);
        assert_eq!(peaks(&[1.0, 2.0], 9), [0.5, 1.0]);
        assert_eq!(peaks(&[], 9), [0.0; 0]);
    }
}
