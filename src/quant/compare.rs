//! What quantizing cost some values.
use super::lanes::{Kernel, Level};
use crate::core::LossSums;

/// The sums of [`LossSums::of`], the same bits, in lanes.
pub fn compare(weights: &[f32], decoded: &[f32]) -> LossSums {
    Level::best().run(Compare { weights, decoded })
}

struct Compare<'a> {
    weights: &'a [f32],
    decoded: &'a [f32],
}

impl Kernel for Compare<'_> {
    type Output = LossSums;
    #[inline(always)]
    fn run(self) -> LossSums {
        LossSums::of(self.weights, self.decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_same_bits_at_every_level(values in prop::collection::vec((-1f32..1.0, any::<f32>()), 0..200)) {
            let (weights, decoded): (Vec<f32>, Vec<f32>) = values.into_iter().unzip();
            let plain = format!("{:?}", LossSums::of(&weights, &decoded));
            for level in Level::available() {
                let sums = level.run(Compare { weights: &weights, decoded: &decoded });
                prop_assert_eq!(format!("{:?}", sums), plain.clone());
            }
        }

        #[test]
        fn what_is_no_number_shows(mut values in prop::collection::vec(-f32::MAX..f32::MAX, 1..100), at in any::<usize>()) {
            let zeros = vec![0.0; values.len()];
            prop_assert!(compare(&values, &zeros).is_finite());
            let at = at % values.len();
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[at] = bad;
                prop_assert!(!compare(&values, &zeros).is_finite());
                prop_assert!(!compare(&zeros, &values).is_finite());
                prop_assert!(!compare(&values, &values).is_finite());
            }
        }
    }
}
