//! What quantizing costs a tensor: the difference between the values that went in and what the stored parts decode to.

/// Sums from which every figure of a [`Loss`] follows, accumulated in f64 and mergeable.
///
/// Chunks are fixed by a tensor's shape and merged in order, so the figures do not depend on threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// Elements compared.
    pub elements: u64,
    /// Σ(w−ŵ)².
    pub squared_error: f64,
    /// Σw².
    pub squared_weight: f64,
    /// max|w−ŵ|.
    pub max_error: f64,
    /// Σ i(w−ŵ)², where i is the importance of the column; 0 where nothing says it.
    pub weighted_error: f64,
    /// Σ iw², likewise.
    pub weighted_weight: f64,
}

impl LossSums {
    /// Compares `weights` with what they `decoded` to. Slices of equal length. Inlined, so that a caller can compile it
    /// for an instruction set; the figures are the same bits at every width.
    #[inline(always)]
    pub fn of(weights: &[f32], decoded: &[f32]) -> Self {
        const LANES: usize = 8;
        let mut error = [0.0f64; LANES];
        let mut weight = [0.0f64; LANES];
        // Rounded once, at the end: rounding keeps the order.
        let mut max = [0.0f64; LANES];
        let (mut w, mut d) = (weights.chunks_exact(LANES), decoded.chunks_exact(LANES));
        for (w, d) in (&mut w).zip(&mut d) {
            // A loop for each figure: all in one are not made lanes of.
            let w: [f64; LANES] = std::array::from_fn(|i| f64::from(w[i]));
            let e: [f64; LANES] = std::array::from_fn(|i| w[i] - f64::from(d[i]));
            for (sum, e) in error.iter_mut().zip(e) {
                *sum += e * e;
            }
            for (sum, w) in weight.iter_mut().zip(w) {
                *sum += w * w;
            }
            for (max, e) in max.iter_mut().zip(e.map(f64::abs)) {
                *max = if e > *max { e } else { *max };
            }
        }
        let mut sums = Self {
            elements: weights.len() as u64,
            squared_error: total(&error),
            squared_weight: total(&weight),
            max_error: f64::from(max.iter().fold(0.0, |max, e| if *e > max { *e } else { max }) as f32),
            ..Self::default()
        };
        for (w, d) in w.remainder().iter().zip(d.remainder()) {
            let e = f64::from(*w) - f64::from(*d);
            sums.squared_error += e * e;
            sums.squared_weight += f64::from(*w) * f64::from(*w);
            sums.max_error = sums.max_error.max(f64::from(e.abs() as f32));
        }
        sums
    }

    /// Adds what the errors of some rows weigh; `importance` has a number for each column.
    pub fn weigh(&mut self, weights: &[f32], decoded: &[f32], importance: &[f32]) {
        let rows = weights.chunks_exact(importance.len()).zip(decoded.chunks_exact(importance.len()));
        for (weights, decoded) in rows {
            for ((w, d), i) in weights.iter().zip(decoded).zip(importance) {
                let (w, e, i) = (f64::from(*w), f64::from(*w) - f64::from(*d), f64::from(*i));
                self.weighted_error += i * e * e;
                self.weighted_weight += i * w * w;
            }
        }
    }

    /// Whether all values compared were numbers: the sums of others are not finite, and those of f32 always are.
    pub fn is_finite(&self) -> bool {
        self.squared_error.is_finite() && self.squared_weight.is_finite()
    }

    /// Adds another part of the same tensor, or another tensor.
    pub fn merge(&mut self, other: &Self) {
        self.elements += other.elements;
        self.squared_error += other.squared_error;
        self.squared_weight += other.squared_weight;
        self.max_error = self.max_error.max(other.max_error);
        self.weighted_error += other.weighted_error;
        self.weighted_weight += other.weighted_weight;
    }

    /// The figures.
    pub fn loss(&self) -> Loss {
        let relative = if self.squared_error == 0.0 { 0.0 } else { self.squared_error / self.squared_weight };
        Loss {
            mse: if self.elements == 0 { 0.0 } else { self.squared_error / self.elements as f64 },
            max_error: self.max_error,
            relative_error: relative,
            sqnr_db: if relative == 0.0 { f64::INFINITY } else { -10.0 * relative.log10() },
            weighted_relative_error: (self.weighted_weight > 0.0).then(|| self.weighted_error / self.weighted_weight),
        }
    }
}

/// The sum of some lanes. A call, lest the compiler make pairs of what two such sums add up, and lanes of the pairs.
#[inline(never)]
fn total(lanes: &[f64]) -> f64 {
    lanes.iter().fold(0.0, |sum, lane| sum + lane)
}

/// The loss of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// mean((w−ŵ)²).
    pub mse: f64,
    /// max|w−ŵ|.
    pub max_error: f64,
    /// Σ(w−ŵ)²/Σw².
    pub relative_error: f64,
    /// −10·log10(relative error); infinite where nothing was lost.
    pub sqnr_db: f64,
    /// Σ i(w−ŵ)²/Σ iw² by the importance i of columns, of the tensors that an importance matrix speaks of.
    pub weighted_relative_error: Option<f64>,
}

impl Loss {
    /// The relative error that counts for what it costs the model: the weighted one where there is one.
    pub fn weighed(&self) -> f64 {
        self.weighted_relative_error.unwrap_or(self.relative_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures() {
        let sums = LossSums::of(&[1.0, -2.0, 2.0], &[1.0, -1.0, 2.0]);
        let loss = sums.loss();
        assert_eq!((loss.mse, loss.max_error, loss.relative_error), (1.0 / 3.0, 1.0, 1.0 / 9.0));
        assert!((loss.sqnr_db - 9.542_425_094).abs() < 1e-9);
    }

    #[test]
    fn errors_weigh_by_the_importance_of_their_column() {
        let (w, d) = ([1.0, -2.0, 2.0, 4.0], [1.0, -1.0, 0.0, 4.0]);
        let mut sums = LossSums::of(&w, &d);
        assert_eq!(sums.loss().weighted_relative_error, None);
        sums.weigh(&w, &d, &[0.5, 3.0]);
        let expected = (0.5 * 4.0 + 3.0) / (0.5 * (1.0 + 4.0) + 3.0 * (4.0 + 16.0));
        assert_eq!(sums.loss().weighted_relative_error, Some(expected));
    }

    #[test]
    fn nothing_lost() {
        let loss = LossSums::of(&[0.0; 9], &[0.0; 9]).loss();
        assert_eq!((loss.mse, loss.relative_error, loss.sqnr_db), (0.0, 0.0, f64::INFINITY));
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole(values in prop::collection::vec((-1f32..1.0, -1f32..1.0), 0..64), cut in 0usize..64) {
            let (w, d): (Vec<f32>, Vec<f32>) = values.into_iter().unzip();
            let cut = cut.min(w.len());
            let mut parts = LossSums::of(&w[..cut], &d[..cut]);
            parts.merge(&LossSums::of(&w[cut..], &d[cut..]));
            let whole = LossSums::of(&w, &d);
            prop_assert_eq!(parts.elements, whole.elements);
            prop_assert_eq!(parts.max_error, whole.max_error);
            // Sums of at most 64 terms in another order: each of 64 additions may round by 2^-53.
            prop_assert!((parts.squared_error - whole.squared_error).abs() <= whole.squared_error * 64.0 * f64::EPSILON);
        }
    }
}
