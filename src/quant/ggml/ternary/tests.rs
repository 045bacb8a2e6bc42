use super::super::testing::{bits, first_difference, floats, golden, values};
use super::*;
use proptest::prelude::*;

const KINDS: [(Kind, &str); 4] =
    [(Kind::TQ1_0, "tq1_0"), (Kind::TQ2_0, "tq2_0"), (Kind::Q1_0, "q1_0"), (Kind::Q2_0, "q2_0")];

#[test]
fn bytes_are_ggmls() {
    let values = floats(&golden("values.f32"));
    let importance = floats(&golden("importance.f32"));
    for (kind, name) in KINDS {
        let expected = golden(&format!("{name}.bin"));
        for importance in [None, Some(&importance[..])] {
            let mut out = vec![0; expected.len()];
            encode(kind, 1024, &values, importance, &mut out);
            assert_eq!(first_difference(&out, &expected, kind.block_bytes()), None, "{name}");
        }
        let mut back = vec![0.0; 256];
        decode(kind, &expected[..256 / kind.block() * kind.block_bytes()], &mut back);
        assert_eq!(bits(&back), bits(&floats(&golden(&format!("{name}.f32")))), "{name}");
    }
}

#[test]
fn a_digit_is_the_nearest_and_a_half_goes_away_from_zero() {
    let check = |v: f32, digit: u8| {
        let mut x = [0.0; 64];
        (x[0], x[1]) = (1.0, v);
        let mut out = [0; 18];
        encode(Kind::Q2_0, 64, &x, None, &mut out);
        assert_eq!(out[2] >> 2 & 3, digit, "{v}");
    };
    check(0.5, 2);
    check(0.5f32.next_down(), 1);
    check(-0.5, 0);
    check(-0.499_999_97, 1);
    check(-1.0, 0);
}

#[test]
fn signs_keep_that_of_zero_as_plus() {
    let mut x = [-1.0; 128];
    (x[1], x[2]) = (0.0, -0.0);
    let mut out = [0; 18];
    encode(Kind::Q1_0, 128, &x, None, &mut out);
    assert_eq!(out[2..4], [0b110, 0]);
}

proptest! {
    #[test]
    fn lanes_are_the_formula(rows in prop::collection::vec(values(256), 1..12)) {
        let x = rows.concat();
        for (kind, name) in KINDS {
            let mut expected = vec![0; x.len() / kind.block() * kind.block_bytes()];
            for (x, out) in x.chunks_exact(kind.block()).zip(expected.chunks_exact_mut(kind.block_bytes())) {
                scalar::encode(kind, x, out);
            }
            for level in Level::available() {
                let mut out = vec![0xaa; expected.len()];
                encode_at(level, kind, &x, &mut out);
                prop_assert_eq!(first_difference(&out, &expected, kind.block_bytes()), None, "{} {:?}", name, level);
            }
        }
    }

    #[test]
    fn any_bytes_decode_by_the_formula(bytes in prop::collection::vec(any::<u8>(), 66 * 3)) {
        for (kind, name) in KINDS {
            let bytes = &bytes[..3 * kind.block_bytes()];
            let mut expected = vec![0.0; 3 * kind.block()];
            for (block, out) in bytes.chunks_exact(kind.block_bytes()).zip(expected.chunks_exact_mut(kind.block())) {
                scalar::decode(kind, block, out);
            }
            for level in Level::available() {
                let mut out = vec![1.0; expected.len()];
                decode_at(level, kind, bytes, &mut out);
                prop_assert_eq!(bits(&out), bits(&expected), "{} {:?}", name, level);
            }
        }
    }
}
