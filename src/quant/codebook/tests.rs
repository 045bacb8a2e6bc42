use super::*;
use proptest::prelude::*;

const MATRIX: &[u8] = include_bytes!("../../../tests/data/sdnq/matrix.bin");
const GOLDEN: &[u8] = include_bytes!("../../../tests/data/sdnq/codebook.bin");

/// The rounds as they stand in the module's documentation, one block, one value at a time.
mod reference {
    use super::*;

    pub fn levels(count: usize, values: &[f32], steps: usize) -> Vec<f32> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let mut levels = vec![0.0; count];
        uniform(Range { min: sorted[0], max: sorted[sorted.len() - 1] }, &mut levels);
        // Of the first 0, 1, 2, … values.
        let sums: Vec<f64> =
            (0..=sorted.len()).map(|n| sorted[..n].iter().fold(0.0, |sum, v| sum + f64::from(*v))).collect();
        for _ in 0..steps {
            let codes: Vec<u8> = sorted.iter().map(|v| code(*v, &levels)).collect();
            for (i, level) in levels.iter_mut().enumerate() {
                let cell: Vec<usize> = (0..sorted.len()).filter(|at| usize::from(codes[*at]) == i).collect();
                if let ([first, ..], [.., last]) = (&*cell, &*cell) {
                    let mean = ((sums[last + 1] - sums[*first]) / cell.len() as f64) as f32;
                    let outside = [(mean < sorted[*first], *first), (mean > sorted[*last], *last)];
                    *level = outside.iter().find(|(outside, _)| *outside).map_or(mean, |(_, end)| sorted[*end]);
                }
            }
        }
        levels
    }

    pub fn code(value: f32, levels: &[f32]) -> u8 {
        levels.windows(2).filter(|pair| value > midpoint(pair[0], pair[1])).count() as u8
    }
}

fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Where the values of block `number` are, with `len` of them to a block.
fn block(blocks: Blocks, len: usize, number: usize) -> Vec<usize> {
    let (before, at) = (number / blocks.inner, number % blocks.inner);
    (0..len).map(|i| (before * len + i) * blocks.inner + at).collect()
}

fn take<T: Copy>(from: &[T], at: &[usize]) -> Vec<T> {
    at.iter().map(|i| from[*i]).collect()
}

fn levels_of(bits: u8, blocks: Blocks, values: &[f32], steps: usize) -> Vec<f32> {
    let mut found = vec![f32::NAN; blocks.scales() << bits];
    levels(bits, blocks, values, steps, &mut found);
    found
}

fn codes_of(bits: u8, blocks: Blocks, values: &[f32], levels: &[f32]) -> Vec<u8> {
    let mut codes = vec![0xaa; values.len()];
    encode(bits, blocks, values, levels, &mut codes);
    codes
}

#[test]
fn one_block() {
    let check = |bits: u8, values: &[f32], steps: usize, expected: &[f32]| {
        let found = levels_of(bits, Blocks::whole(values.len()), values, steps);
        assert_eq!(found, expected, "{bits} bits, {values:?}, {steps} steps");
    };
    check(1, &[0.0, 1.0, 2.0, 3.0], 0, &[0.0, 3.0]);
    check(1, &[3.0, 1.0, 0.0, 2.0], 1, &[0.5, 2.5]);
    // A value on a midpoint belongs to the lower level.
    check(1, &[0.0, 1.0, 2.0], 1, &[0.5, 2.0]);
    // The cut moves to 2.25, and 2 changes cells.
    check(1, &[0.0, 2.0, 3.0, 4.0, 0.0], 1, &[2.0 / 3.0, 3.5]);
    check(1, &[0.0, 0.0, 1.0, 1.75, 3.0], 1, &[1.0 / 3.0, 2.375]);
    check(1, &[0.0, 0.0, 1.0, 1.5, 9.0], 24, &[0.625, 9.0]);
    // A level without values stays.
    check(2, &[0.0, 0.0, 0.5, 9.0], 24, &[0.125 + 0.125 / 3.0, 3.0, 6.0, 9.0]);
    check(2, &[0.75; 5], 24, &[0.75; 4]);
    check(3, &[-2.5], 24, &[-2.5; 8]);
    check(1, &[0.0, -0.0], 24, &[0.0, 0.0]);
    // A range that overflows.
    check(1, &[-f32::MAX, f32::MAX], 24, &[-f32::MAX, f32::MAX]);
    check(2, &[-f32::MAX, f32::MAX], 0, &[-f32::MAX, -f32::MAX / 3.0, f32::MAX / 3.0, f32::MAX]);
}

#[test]
fn codes_are_the_nearest_level() {
    let check = |levels: &[f32], values: &[f32], expected: &[u8]| {
        let (bits, blocks) = (levels.len().ilog2() as u8, Blocks::whole(values.len()));
        assert_eq!(codes_of(bits, blocks, values, levels), expected, "{levels:?}");
    };
    check(&[-1.0, 2.0], &[-5.0, 0.4, 0.5, 0.6, 9.0], &[0, 0, 0, 1, 1]);
    check(&[0.0, 1.0, 4.0, 4.0], &[0.5, 0.6, 2.5, 2.6, 4.0, 4.1], &[0, 1, 1, 2, 2, 3]);
    let many: Vec<f32> = (0u16..256).map(f32::from).collect();
    check(&many, &[-1.0, 0.0, 17.4, 17.5, 17.6, 254.6, 1e9], &[0, 0, 17, 17, 18, 255, 255]);
    check(&many[..32], &[15.5, 15.6, 30.0, 99.0], &[15, 16, 30, 31]);
}

#[test]
fn levels_stand_in_the_place_of_the_reduced_axis() {
    // [2, 3], reduced over the first axis: a block per column.
    let blocks = Blocks { outer: 1, groups: 1, len: 2, inner: 3 };
    let values = [1.0, 20.0, -3.0, 2.0, 10.0, -3.0];
    let found = levels_of(1, blocks, &values, 24);
    assert_eq!(found, [1.0, 10.0, -3.0, 2.0, 20.0, -3.0]);
    let codes = codes_of(1, blocks, &values, &found);
    assert_eq!(codes, [0, 1, 0, 1, 0, 0]);
    let mut back = [f32::NAN; 6];
    decode(1, blocks, &codes, &found, &mut back);
    assert_eq!(back, values);
}

#[test]
fn nothing_has_no_levels_of_its_own() {
    for blocks in [Blocks::rows(0, 8), Blocks::whole(0), Blocks { outer: 2, groups: 1, len: 0, inner: 3 }] {
        let found = levels_of(2, blocks, &[], 24);
        assert!(found.iter().all(|level| *level == 0.0));
        assert_eq!(codes_of(2, blocks, &[], &found), Vec::<u8>::new());
        decode(2, blocks, &[], &found, &mut []);
    }
    let mut levels = [1.0; 4];
    uniform(Range::EMPTY, &mut levels);
    assert_eq!(levels, [0.0; 4]);
    assert!(!Sums::of(&levels, &[]).move_levels(&mut levels));
}

#[test]
fn what_is_not_finite_is_harmless() {
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for len in [3, 300] {
            let mut values = vec![1.0; len];
            values[1] = bad;
            values[2] = 2.0;
            for bits in [1, 4, 8] {
                let found = levels_of(bits, Blocks::whole(len), &values, 24);
                let _ = codes_of(bits, Blocks::whole(len), &values, &found);
                let mut levels = vec![0.0; 1 << bits];
                uniform(Range::of(&values), &mut levels);
                Sums::of(&levels, &values).move_levels(&mut levels);
            }
        }
    }
}

/// Against the file that `tests/interop/make_sdnq_golden.py` wrote; the order of things is described there.
///
/// Of all these values none is so near to a midpoint that rounding moves it: the cells are the same in every round.
#[test]
fn near_to_sdnq() {
    let matrix = floats(MATRIX);
    let mut golden = GOLDEN;
    let normal = floats(golden.split_off(..4 * 4096).unwrap());
    let u = f64::from(f32::EPSILON) / 2.0;
    for (bits, values, blocks) in [
        (1, &matrix, Blocks::rows(16, 96)),
        (2, &matrix, Blocks::grouped(16, 96, 32).unwrap()),
        (4, &matrix, Blocks::rows(16, 96)),
        (3, &matrix, Blocks { outer: 16, groups: 4, len: 8, inner: 3 }),
        (4, &normal, Blocks::rows(8, 512)),
        (5, &normal, Blocks::rows(2, 2048)),
        (2, &normal, Blocks::whole(4096)),
        (8, &normal, Blocks::whole(4096)),
    ] {
        let count = 1usize << bits;
        let expected_codes = golden.split_off(..values.len()).unwrap();
        let expected = floats(golden.split_off(..4 * blocks.scales() * count).unwrap());
        let found = levels_of(bits, blocks, values, 24);
        assert_eq!(codes_of(bits, blocks, values, &found), expected_codes, "{bits} bits, {blocks:?}");

        let last_cells = codes_of(bits, blocks, values, &levels_of(bits, blocks, values, 23));
        for number in 0..blocks.scales() {
            let at = block(blocks, blocks.len, number);
            let at_levels = block(blocks, count, number);
            let (found, expected) = (take(&found, &at_levels), take(&expected, &at_levels));
            let (values, cells) = (take(values, &at), take(&last_cells, &at));
            let greatest = values.iter().fold(0.0, |max, v| f64::max(max, f64::from(v.abs())));
            // SDNQ rounds each of the additions to the sum of a cell, and the mean; here only the mean is rounded to
            // f32. Each time a relative error of `u` at most, of a sum that is not above that of the magnitudes; and
            // each mean may be wrong by half the least subnormal. A level that stays has the error of an earlier round.
            let tolerance: Vec<f64> = (0..count)
                .map(|level| {
                    let cell: Vec<f64> = values
                        .iter()
                        .zip(&cells)
                        .filter(|(_, c)| usize::from(**c) == level)
                        .map(|(v, _)| f64::from(v.abs()))
                        .collect();
                    let (n, mean) = match cell.len() {
                        0 => (values.len(), greatest),
                        n => (n, cell.iter().sum::<f64>() / n as f64),
                    };
                    (n + 1) as f64 * u * mean + 2f64.powi(-149)
                })
                .collect();
            let mut more = 0.0;
            let mut allowed = 0.0;
            for ((found, expected), tolerance) in found.iter().zip(&expected).zip(&tolerance) {
                let difference = (f64::from(*found) - f64::from(*expected)).abs();
                assert!(difference <= *tolerance, "{bits} bits, {blocks:?}, block {number}: {found}, not {expected}");
            }
            for (value, code) in values.iter().zip(take(expected_codes, &at)) {
                let code = usize::from(code);
                let error = |levels: &[f32]| (f64::from(*value) - f64::from(levels[code])).abs();
                more += error(&found).powi(2) - error(&expected).powi(2);
                // (e + t)² - e²
                allowed += tolerance[code] * (2.0 * error(&expected) + tolerance[code]);
            }
            assert!(more <= allowed, "{bits} bits, {blocks:?}, block {number}: squared error {more} above SDNQ's");
        }
    }
    assert!(golden.is_empty(), "the golden file has more in it");
}

/// Values among which there are equal ones, zeros of both signs, subnormals and huge numbers.
fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -4.0f32..4.0,
        2 => (-20i8..20).prop_map(|v| f32::from(v) / 2.0),
        1 => prop_oneof![Just(0.0f32), Just(-0.0)],
        1 => any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |v| v.is_finite()),
        1 => prop_oneof![Just(f32::MAX), Just(-f32::MAX)],
    ]
}

fn any_blocks() -> impl Strategy<Value = Blocks> {
    let contiguous = (1usize..3, 1usize..3, prop_oneof![1usize..130, 250usize..300])
        .prop_map(|(outer, groups, len)| Blocks { outer, groups, len, inner: 1 });
    let strided = (1usize..3, 1usize..3, 1usize..40, 2usize..6).prop_map(|(outer, groups, len, inner)| Blocks {
        outer,
        groups,
        len,
        inner,
    });
    prop_oneof![3 => contiguous, 1 => strided]
}

fn any_values() -> impl Strategy<Value = (Blocks, Vec<f32>)> {
    any_blocks().prop_flat_map(|blocks| (Just(blocks), prop::collection::vec(any_value(), blocks.values())))
}

proptest! {
    #[test]
    fn levels_equal_the_reference((blocks, values) in any_values(), bits in 1u8..=8, steps in 0usize..12) {
        let found = levels_of(bits, blocks, &values, steps);
        for number in 0..blocks.scales() {
            let values = take(&values, &block(blocks, blocks.len, number));
            let found = take(&found, &block(blocks, 1 << bits, number));
            prop_assert_eq!(bits_of(&found), bits_of(&reference::levels(1 << bits, &values, steps)));
            prop_assert!(found.iter().all(|level| level.is_finite()));
            prop_assert!(found.is_sorted());
        }
    }

    #[test]
    fn every_level_equals_the_reference((blocks, values) in any_values(), bits in 1u8..=8, steps in 0usize..3) {
        let levels = levels_of(bits, blocks, &values, steps);
        let (mut codes, mut back) = (vec![0; values.len()], vec![0.0; values.len()]);
        for number in 0..blocks.scales() {
            let levels = take(&levels, &block(blocks, 1 << bits, number));
            for at in block(blocks, blocks.len, number) {
                codes[at] = reference::code(values[at], &levels);
                back[at] = levels[usize::from(codes[at])];
            }
        }
        for level in Level::available() {
            let (mut c, mut b) = (vec![0xaa; values.len()], vec![f32::NAN; values.len()]);
            encode_at(level, bits, blocks, &values, &levels, &mut c);
            prop_assert_eq!(&c, &codes);
            decode_at(level, bits, blocks, &codes, &levels, &mut b);
            prop_assert_eq!(bits_of(&b), bits_of(&back));
        }
    }

    /// A round takes away from the squared error, or nothing.
    #[test]
    fn rounds_do_no_harm(values in prop::collection::vec(-4.0f32..4.0, 1..300), bits in 1u8..=5, steps in 0usize..8) {
        let blocks = Blocks::whole(values.len());
        let error = |steps| {
            let levels = levels_of(bits, blocks, &values, steps);
            let codes = codes_of(bits, blocks, &values, &levels);
            let pairs = values.iter().zip(codes);
            pairs.map(|(v, c)| (f64::from(*v) - f64::from(levels[usize::from(c)])).powi(2)).sum::<f64>()
        };
        // Rounding moves a level, by t = 2^-24 of 4 at most: (e + t)² - e², with no error e above 8. And it moves a
        // midpoint, by as much, so that a value takes a level that is further from it by 2t.
        let t = 2f64.powi(-22);
        let rounding = values.len() as f64 * (t * (16.0 + t) + 2.0 * t * (16.0 + 2.0 * t));
        prop_assert!(error(steps + 1) <= error(steps) + rounding);
    }

    /// Sums of these values are exact, so that nothing depends on their order.
    #[test]
    fn slabs_give_what_a_block_gives(
        values in prop::collection::vec(any::<i16>().prop_map(|v| f32::from(v) / 256.0), 1..3000),
        slab in 1usize..2000,
        bits in 1u8..=8,
        steps in 0usize..24,
    ) {
        let expected = levels_of(bits, Blocks::whole(values.len()), &values, steps);
        let mut levels = vec![f32::NAN; 1 << bits];
        uniform(values.chunks(slab).map(Range::of).fold(Range::EMPTY, Range::merge), &mut levels);
        for _ in 0..steps {
            let mut sums = Sums::empty(levels.len());
            for slab in values.chunks(slab) {
                sums.merge(&Sums::of(&levels, slab));
            }
            let before = levels.clone();
            let moved = sums.move_levels(&mut levels);
            prop_assert_eq!(moved, levels != before);
        }
        prop_assert_eq!(levels, expected);
    }
}
