//! The formulas as they stand, and what must hold for all values.
use super::*;
use proptest::prelude::*;

const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// The nearest of some ascending magnitudes, of two equally near the one with the even index.
fn nearest(magnitudes: &[f32], value: f64) -> usize {
    let off = |i: &usize| (f64::from(magnitudes[*i]) - value).abs();
    (0..magnitudes.len()).min_by(|a, b| off(a).total_cmp(&off(b)).then((a % 2).cmp(&(b % 2)))).expect("some")
}

/// NVFP4, one value at a time.
fn reference(tensor: f32, values: &[f32]) -> (Vec<u8>, Vec<u8>) {
    let e4m3: Vec<f32> = (0..127).map(e4m3_value).collect();
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for block in values.chunks(NVFP4_BLOCK) {
        let amax = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let wanted = (amax / 6.0 / tensor).min(448.0);
        let scale = if wanted > 0.0 { nearest(&e4m3, f64::from(wanted)) } else { 0 };
        let total = tensor * e4m3[scale];
        let code = |v: f32| match total {
            0.0 => 0,
            _ => {
                nearest(&E2M1, f64::from((v / total).abs())) as u8 | if (v / total).is_sign_negative() { 8 } else { 0 }
            }
        };
        codes.extend(block.chunks(2).map(|pair| code(pair[0]) << 4 | code(pair[1])));
        scales.push(scale as u8);
    }
    (codes, scales)
}

#[test]
fn values_between_two_codes_take_the_nearer_or_the_even_one() {
    let ties = E2M1.windows(2).map(|two| (two[0] + two[1]) / 2.0);
    let near: Vec<f32> = ties.chain(E2M1[..7].iter().copied()).collect();
    for value in near.iter().flat_map(|v| [v.next_down(), *v, v.next_up()]) {
        // The six makes both scales 1.
        let mut values = [0.0; NVFP4_BLOCK];
        (values[0], values[1], values[2]) = (6.0, value, -value);
        let code = nearest(&E2M1, f64::from(value.abs())) as u8 | u8::from(value.is_sign_negative()) << 3;
        for level in Level::available() {
            let (mut codes, mut scales) = ([0; 8], [0; 1]);
            encode_nvfp4_at(level, ScaleSearch::Absmax, 1.0, &values, &mut codes, &mut scales);
            assert_eq!(codes[..2], [0x70 | code, (code ^ 8) << 4], "{value}");
        }
    }
}

fn blocks(block: usize) -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        8 => -2.0f32..2.0,
        2 => Just(0.0f32),
        1 => Just(-0.0f32),
        1 => -1e-6f32..1e-6,
        1 => (0u32..8, 0u32..8).prop_map(|(a, b)| E2M1[a as usize] * 0.25 * (1 << b) as f32),
    ];
    // More than are encoded at once.
    (1usize..40).prop_flat_map(move |n| prop::collection::vec(value.clone(), n * block))
}

fn amax(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

#[test]
fn where_scales_lie() {
    fn check(row: usize, block: usize, blocks: usize, at: usize) {
        assert_eq!(tiled(row, block, blocks), at, "row {row}, block {block} of {blocks}");
    }
    check(0, 0, 4, 0);
    check(0, 3, 4, 3);
    check(1, 0, 4, 16);
    check(32, 0, 4, 4);
    check(96, 1, 4, 13);
    check(128, 0, 4, 512);
    check(0, 4, 8, 512);
    check(128, 0, 8, 1024);
}

#[test]
fn exponents_are_those_of_a_rounded_logarithm() {
    fn check(amax: f32, code: u8) {
        assert_eq!(exponent(amax), code, "{amax:e}");
    }
    check(0.0, 0);
    check(448.0, 127);
    check(448.0 * 1.001, 128);
    check(447.0, 127);
    check(448.0 * 0.5, 126);
    // 2^-10 and three steps of an F32 above it: the logarithm rounds down for two of them.
    let above = |steps: u32| f32::from_bits((2f32.powi(-10)).to_bits() + steps) * 448.0;
    check(above(0), 117);
    check(above(2), 117);
    check(above(4), 118);
    check(f32::MIN_POSITIVE, 0);
}

proptest! {
    #[test]
    fn every_level_equals_the_reference(values in blocks(NVFP4_BLOCK), by in 0.25f32..4.0) {
        let tensor = nvfp4_tensor_scale(amax(&values)) * by;
        let expected = reference(tensor, &values);
        for level in Level::available() {
            let (mut codes, mut scales) = (vec![0; values.len() / 2], vec![0; values.len() / NVFP4_BLOCK]);
            encode_nvfp4_at(level, ScaleSearch::Absmax, tensor, &values, &mut codes, &mut scales);
            prop_assert_eq!(&(codes.clone(), scales.clone()), &expected);
            let mut back = vec![0.0; values.len()];
            decode_nvfp4_at(level, tensor, &codes, &scales, &mut back);
            for (i, b) in back.iter().enumerate() {
                let code = codes[i / 2] >> (4 * (1 - i % 2)) & 15;
                let total = tensor * e4m3_value(scales[i / NVFP4_BLOCK]);
                let value = E2M1[usize::from(code & 7)] * total * if code > 7 { -1.0 } else { 1.0 };
                prop_assert_eq!(*b, value);
            }
        }
    }

    #[test]
    fn a_search_loses_no_more(values in blocks(NVFP4_BLOCK)) {
        let tensor = nvfp4_tensor_scale(amax(&values));
        let error = |search| {
            let (mut codes, mut scales) = (vec![0; values.len() / 2], vec![0; values.len() / NVFP4_BLOCK]);
            let mut back = vec![0.0; values.len()];
            encode_nvfp4(search, tensor, &values, &mut codes, &mut scales);
            decode_nvfp4(tensor, &codes, &scales, &mut back);
            values.iter().zip(back).map(|(v, b)| f64::from(v - b).powi(2)).sum::<f64>()
        };
        // Every level finds the same.
        let found = |level| {
            let (mut codes, mut scales) = (vec![0; values.len() / 2], vec![0; values.len() / NVFP4_BLOCK]);
            encode_nvfp4_at(level, ScaleSearch::Mse, tensor, &values, &mut codes, &mut scales);
            (codes, scales)
        };
        for level in Level::available() {
            prop_assert_eq!(found(level), found(Level::best()));
        }
        // The search adds sixteen squares in F32.
        prop_assert!(error(ScaleSearch::Mse) <= error(ScaleSearch::Absmax) * (1.0 + 32.0 * f64::from(f32::EPSILON)));
    }

    #[test]
    fn mxfp8_is_near(values in blocks(MXFP8_BLOCK), search: bool) {
        let search = if search { ScaleSearch::Mse } else { ScaleSearch::Absmax };
        let (mut codes, mut scales) = (vec![0; values.len()], vec![0; values.len() / MXFP8_BLOCK]);
        let mut back = vec![0.0; values.len()];
        encode_mxfp8(search, &values, &mut codes, &mut scales);
        decode_mxfp8(&codes, &scales, &mut back);
        for (values, back) in values.chunks(MXFP8_BLOCK).zip(back.chunks(MXFP8_BLOCK)) {
            // Half a step of the greatest binade, 1/16 of its values; searched, what stands out may be cut by half.
            let bound = amax(values) * if search == ScaleSearch::Mse { 0.5 } else { 1.0 / 16.0 };
            for (v, b) in values.iter().zip(back) {
                prop_assert!((v - b).abs() <= bound, "{} became {}", v, b);
            }
        }
    }
}
