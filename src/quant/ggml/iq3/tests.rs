use super::super::fixtures::{self, Family, TAME, WILD};
use super::*;
use proptest::prelude::*;

const KINDS: [(Kind, &str); 2] = [(Kind::Xxs, "iq3_xxs"), (Kind::S, "iq3_s")];

#[test]
fn the_bytes_are_ggml_s() {
    let (values, importance) = (fixtures::floats("in_bf16.f32"), fixtures::floats("imatrix.f32"));
    for (kind, name) in KINDS {
        for (with, importance) in [("none", None), ("imatrix", Some(&importance[..]))] {
            let file = format!("{name}.bf16.{with}.bin");
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

#[test]
fn the_values_are_ggml_s() {
    let check = |kind: Kind, file: &str, expected: u64| {
        let bytes = fixtures::bytes(file);
        let mut out = vec![0.0; bytes.len() / kind.bytes() * 256];
        decode(kind, &bytes, &mut out);
        assert_eq!(fixtures::hash(&out), expected, "{file}");
    };
    check(Kind::Xxs, "iq3_xxs.bf16.imatrix.bin", 0xdc31_fbdc_6c1b_3e92);
    check(Kind::S, "iq3_s.bf16.imatrix.bin", 0x72d6_6ae5_e2a0_e0b4);
}

#[test]
fn zeros_are_bytes_of_zero() {
    for (kind, _) in KINDS {
        let mut out = vec![0xaa; kind.bytes()];
        encode(kind, 256, &[0.0; 256], None, &mut out);
        assert_eq!(out, vec![0; kind.bytes()], "{kind:?}");
    }
}

#[test]
fn a_zero_sub_block_of_iq3_s_shifts_those_after_it() {
    // As in ggml, whose reader then finds the third sub-block's points in the second's place.
    let mut values = fixtures::values(Family::Normal, 9, 256);
    let mut whole = [0; 110];
    encode(Kind::S, 256, &values, None, &mut whole);
    values[32..64].fill(0.0);
    let mut shifted = [0; 110];
    encode(Kind::S, 256, &values, None, &mut shifted);
    let (points, signs) = (2, 74);
    assert_eq!(shifted[points..points + 8], whole[points..points + 8]);
    assert_eq!(shifted[points + 8..points + 56], whole[points + 16..points + 64]);
    assert_eq!(shifted[points + 56..points + 64], [0; 8]);
    assert_eq!(shifted[signs + 4..signs + 28], whole[signs + 8..signs + 32]);
}

#[test]
fn what_is_not_finite_does_not_panic() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let mut values = fixtures::values(Family::Normal, 5, 256);
        values[7] = bad;
        for (kind, _) in KINDS {
            encode(kind, 256, &values, None, &mut vec![0; kind.bytes()]);
        }
    }
}

fn lanes_are_the_plain_loop(row_len: usize, values: &[f32], importance: Option<&[f32]>) {
    for (kind, _) in KINDS {
        let mut expected = vec![0; values.len() / 256 * kind.bytes()];
        plain(kind, row_len, values, importance, &mut expected);
        for level in Level::available() {
            let mut out = vec![0xaa; expected.len()];
            encode_at(level, kind, row_len, values, importance, &mut out);
            fixtures::same_blocks(&out, &expected, kind.bytes(), &format!("{kind:?} at {level:?}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn lanes_of_any_family((row_len, values, importance) in fixtures::rows(&TAME, 256)) {
        lanes_are_the_plain_loop(row_len, &values, importance.as_deref());
    }

    #[test]
    fn lanes_of_extreme_values((row_len, values, importance) in fixtures::rows(&WILD, 256)) {
        lanes_are_the_plain_loop(row_len, &values, importance.as_deref());
    }
}
