use super::super::fixtures::{self, Family, TAME, WILD};
use super::*;
use proptest::prelude::*;

const KINDS: [(Kind, &str); 3] = [(Kind::Xxs, "iq2_xxs"), (Kind::Xs, "iq2_xs"), (Kind::S, "iq2_s")];

#[test]
fn the_bytes_are_ggml_s() {
    let (values, importance) = (fixtures::floats("in_bf16.f32"), fixtures::floats("imatrix.f32"));
    for (kind, name) in KINDS {
        for (with, importance) in [("none", None), ("imatrix", Some(&importance[..]))] {
            if importance.is_none() && kind.requires_importance() {
                continue;
            }
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
    check(Kind::Xxs, "iq2_xxs.bf16.imatrix.bin", 0xe0e7_ee7b_07aa_6a13);
    check(Kind::Xs, "iq2_xs.bf16.imatrix.bin", 0x1b97_1333_e3c9_ec76);
    check(Kind::S, "iq2_s.bf16.imatrix.bin", 0x1951_06b2_a8a3_9098);
}

#[test]
fn zeros_are_bytes_of_zero() {
    for (kind, _) in KINDS {
        let mut out = vec![0xaa; kind.bytes()];
        encode(kind, 256, &[0.0; 256], Some(&[1.0; 256]), &mut out);
        assert_eq!(out, vec![0; kind.bytes()], "{kind:?}");
    }
}

#[test]
fn values_without_weight_have_no_scale() {
    // IQ2_XXS starts from a fit, which has nothing to fit to; the others from the greatest value.
    let values = fixtures::values(Family::Normal, 3, 256);
    let check = |kind: Kind, zero: bool| {
        let mut out = vec![0; kind.bytes()];
        encode(kind, 256, &values, Some(&[0.0; 256]), &mut out);
        assert_eq!(out[..2] == [0, 0], zero, "{kind:?}");
    };
    check(Kind::Xxs, true);
    check(Kind::Xs, false);
    check(Kind::S, false);
}

#[test]
#[should_panic(expected = "Xxs needs an importance matrix")]
fn importance_is_required() {
    encode(Kind::Xxs, 256, &[0.0; 256], None, &mut [0; 66]);
}

#[test]
fn what_is_not_finite_does_not_panic() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let mut values = fixtures::values(Family::Normal, 5, 256);
        values[7] = bad;
        for (kind, _) in KINDS {
            encode(kind, 256, &values, Some(&[1.0; 256]), &mut vec![0; kind.bytes()]);
        }
    }
}

fn lanes_are_the_plain_loop(row_len: usize, values: &[f32], importance: Option<&[f32]>) {
    for (kind, _) in KINDS {
        if importance.is_none() && kind.requires_importance() {
            continue;
        }
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
