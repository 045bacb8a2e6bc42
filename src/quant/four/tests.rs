use super::*;
use crate::quant::lanes::Level;
use proptest::prelude::*;

fn group(value: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..GROUP).map(value).collect()
}

fn signed(search: ScaleSearch, values: &[f32]) -> (Vec<u8>, Vec<u16>, Vec<f32>) {
    let (mut codes, mut scales) = (vec![0; values.len()], vec![0; values.len() / GROUP]);
    encode_signed(search, values, &mut codes, &mut scales);
    let mut back = vec![0.0; values.len()];
    decode_signed(&codes, &scales, &mut back);
    (codes, scales, back)
}

fn unsigned(search: ScaleSearch, values: &[f32]) -> Vec<f32> {
    let groups = values.len() / GROUP;
    let (mut codes, mut scales, mut zeros) = (vec![0; values.len()], vec![0; groups], vec![0; groups]);
    encode_unsigned(search, values, &mut codes, &mut scales, &mut zeros);
    assert!(codes.iter().all(|c| *c < 16));
    let mut back = vec![0.0; values.len()];
    decode_unsigned(&codes, &scales, &zeros, &mut back);
    back
}

fn error(values: &[f32], back: &[f32]) -> f64 {
    values.iter().zip(back).map(|(v, b)| f64::from(v - b).powi(2)).sum()
}

#[test]
fn whole_numbers_come_back() {
    let values = group(|i| (i % 15) as f32 - 7.0);
    let (codes, scales, back) = signed(ScaleSearch::Absmax, &values);
    assert_eq!((scales, &codes[..4]), (vec![0x3f80], &[9, 10, 11, 12][..]));
    assert_eq!(back, values);
    let values = group(|i| (i % 16) as f32 - 3.0);
    assert_eq!(unsigned(ScaleSearch::Absmax, &values), values);
}

#[test]
fn zeros_have_a_scale_that_can_be_divided_by() {
    for (values, name) in [(group(|_| 0.0), "zeros"), (group(|_| f32::MIN_POSITIVE / 4.0), "next to nothing")] {
        for search in ScaleSearch::ALL {
            let (_, scales, back) = signed(search, &values);
            assert!(bf16(scales[0]) > 0.0 && back.iter().all(|v| *v == 0.0), "{name} {search:?}");
            assert!(unsigned(search, &values).iter().all(|v| v.abs() < 1e-37), "{name} {search:?}");
        }
    }
}

#[test]
fn a_constant_is_its_own_zero_point() {
    assert!(unsigned(ScaleSearch::Mse, &group(|_| 0.75)).iter().all(|v| *v == 0.75));
}

#[test]
fn the_search_uses_minus_eight() {
    let values = group(|i| if i == 0 { -8.0 } else { (i % 15) as f32 - 7.0 });
    assert_eq!(signed(ScaleSearch::Mse, &values).2, values);
}

proptest! {
    #[test]
    fn every_level_finds_the_same(values in prop::collection::vec(-4.0f32..4.0, GROUP * 3), mse: bool) {
        let search = if mse { ScaleSearch::Mse } else { ScaleSearch::Absmax };
        let run = |level: Level| {
            let (mut a, mut b) = (vec![0; values.len()], vec![0; 3]);
            let (mut c, mut d, mut e) = (vec![0; values.len()], vec![0; 3], vec![0; 3]);
            encode_signed_at(level, search, &values, &mut a, &mut b);
            encode_unsigned_at(level, search, &values, &mut c, &mut d, &mut e);
            (a, b, c, d, e)
        };
        for level in Level::available() {
            prop_assert_eq!(run(level), run(Level::Plain), "{:?}", level);
        }
    }

    #[test]
    fn a_searched_scale_is_no_worse(values in prop::collection::vec(-4.0f32..4.0, GROUP)) {
        let of = |search| (error(&values, &signed(search, &values).2), error(&values, &unsigned(search, &values)));
        let (plain, searched) = (of(ScaleSearch::Absmax), of(ScaleSearch::Mse));
        // The sums are f32 in the search: a part in a million of them is rounding.
        prop_assert!(searched.0 <= plain.0 * (1.0 + 1e-5) && searched.1 <= plain.1 * (1.0 + 1e-5));
    }
}
