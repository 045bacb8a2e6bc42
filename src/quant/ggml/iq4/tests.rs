use super::super::fixtures::{self, Family, TAME, WILD};
use super::*;
use proptest::prelude::*;

const KINDS: [(Kind, &str); 2] = [(Kind::Nl, "iq4_nl"), (Kind::Xs, "iq4_xs")];

#[test]
fn the_bytes_are_ggml_s() {
    let importance = fixtures::floats("imatrix.f32");
    for (kind, name) in KINDS {
        for input in ["bf16", "edge"] {
            let values = fixtures::floats(&format!("in_{input}.f32"));
            for (with, importance) in [("none", None), ("imatrix", Some(&importance[..]))] {
                let file = format!("{name}.{input}.{with}.bin");
                let expected = fixtures::bytes(&file);
                let mut out = vec![0xaa; expected.len()];
                plain(kind, 1024, &values, importance, &mut out);
                fixtures::same_blocks(&out, &expected, kind.bytes(), &file);
                for level in Level::available() {
                    out.fill(0xaa);
                    encode_at(level, kind, 1024, &values, importance, &mut out);
                    fixtures::same_blocks(&out, &expected, kind.bytes(), &format!("{file} at {level:?}"));
                }
            }
        }
    }
}

#[test]
fn the_values_are_ggml_s() {
    let check = |kind: Kind, file: &str, expected: u64| {
        let bytes = fixtures::bytes(file);
        let mut out = vec![0.0; bytes.len() / kind.bytes() * kind.values()];
        decode(kind, &bytes, &mut out);
        assert_eq!(fixtures::hash(&out), expected, "{file}");
    };
    check(Kind::Nl, "iq4_nl.bf16.imatrix.bin", 0xbff1_168f_f1ab_eb3c);
    check(Kind::Xs, "iq4_xs.bf16.imatrix.bin", 0xeb3b_1687_4ff5_a869);
}

/// ggml's search for the nearest level.
fn bisect(x: f32) -> u8 {
    let last = LEVELS.len() - 1;
    if x <= LEVELS[0] {
        return 0;
    }
    if x >= LEVELS[last] {
        return last as u8;
    }
    let (mut low, mut high) = (0, last);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if x < LEVELS[middle] { high = middle } else { low = middle }
    }
    (if x - LEVELS[high - 1] < LEVELS[high] - x { high - 1 } else { high }) as u8
}

#[test]
fn middles_decide_as_differences_do() {
    let mut tried = vec![0.0, -0.0, f32::MIN, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -1e-40];
    for pair in LEVELS.windows(2) {
        for center in [pair[0], (pair[0] + pair[1]) / 2.0, pair[1]] {
            tried.extend((-3000..=3000).map(|ulps| f32::from_bits(center.to_bits().wrapping_add_signed(ulps))));
        }
        tried.extend((0..=1000).map(|i| pair[0] + (pair[1] - pair[0]) * i as f32 / 1000.0));
    }
    for x in tried {
        assert_eq!(nearest(x), bisect(x), "{x}");
    }
}

#[test]
fn a_block_of_zeros_has_the_level_one_throughout() {
    let mut out = [0xaa; 18];
    encode(Kind::Nl, 32, &[0.0; 32], None, &mut out);
    assert_eq!(out[..2], [0, 0]);
    assert_eq!(out[2..], [0x88; 16]);
}

#[test]
fn what_is_not_finite_is_left_to_the_plain_loop() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = fixtures::values(Family::Normal, 5, 2048);
        values[700] = bad;
        for (kind, _) in KINDS {
            let mut expected = vec![0; 2048 / kind.values() * kind.bytes()];
            plain(kind, 1024, &values, None, &mut expected);
            for level in Level::available() {
                let mut out = vec![0xaa; expected.len()];
                encode_at(level, kind, 1024, &values, None, &mut out);
                assert_eq!(out, expected, "{kind:?} at {level:?} with {bad}");
            }
        }
    }
}

fn lanes_are_the_plain_loop(kind: Kind, row_len: usize, values: &[f32], importance: Option<&[f32]>) {
    let mut expected = vec![0; values.len() / kind.values() * kind.bytes()];
    plain(kind, row_len, values, importance, &mut expected);
    for level in Level::available() {
        let mut out = vec![0xaa; expected.len()];
        encode_at(level, kind, row_len, values, importance, &mut out);
        fixtures::same_blocks(&out, &expected, kind.bytes(), &format!("{kind:?} at {level:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn lanes_of_iq4_nl((row_len, values, importance) in fixtures::rows(&TAME, 32)) {
        lanes_are_the_plain_loop(Kind::Nl, row_len, &values, importance.as_deref());
    }

    #[test]
    fn lanes_of_iq4_xs((row_len, values, importance) in fixtures::rows(&TAME, 256)) {
        lanes_are_the_plain_loop(Kind::Xs, row_len, &values, importance.as_deref());
    }

    #[test]
    fn lanes_of_extreme_values((row_len, values, importance) in fixtures::rows(&WILD, 256)) {
        lanes_are_the_plain_loop(Kind::Nl, row_len, &values, importance.as_deref());
        lanes_are_the_plain_loop(Kind::Xs, row_len, &values, importance.as_deref());
    }

    #[test]
    fn lanes_of_any_bits(bits in prop::collection::vec(any::<u32>(), 512)) {
        // Exponents of all magnitudes, none of them for infinities.
        let values: Vec<f32> = bits.iter().map(|b| f32::from_bits(b & !(1 << 30))).collect();
        lanes_are_the_plain_loop(Kind::Nl, 256, &values, None);
        lanes_are_the_plain_loop(Kind::Xs, 256, &values, None);
    }
}
