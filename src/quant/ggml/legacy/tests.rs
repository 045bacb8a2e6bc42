use super::super::testing::{bits, first_difference, floats, golden, values, weights};
use super::*;
use proptest::prelude::*;

const KINDS: [(Kind, &str); 5] =
    [(Kind::Q4_0, "q4_0"), (Kind::Q4_1, "q4_1"), (Kind::Q5_0, "q5_0"), (Kind::Q5_1, "q5_1"), (Kind::Q8_0, "q8_0")];

#[test]
fn bytes_are_ggmls() {
    let values = floats(&golden("values.f32"));
    let importance = floats(&golden("importance.f32"));
    for (kind, name) in KINDS {
        let plain = golden(&format!("{name}.bin"));
        // Q8_0 ignores importance.
        let weighted = if kind == Kind::Q8_0 { plain.clone() } else { golden(&format!("{name}.weighted.bin")) };
        for (importance, expected) in [(None, &plain), (Some(&importance[..]), &weighted)] {
            let mut out = vec![0; expected.len()];
            encode(kind, 1024, &values, importance, &mut out);
            let weighted = importance.is_some();
            assert_eq!(first_difference(&out, expected, kind.block_bytes()), None, "{name} weighted: {weighted}");
        }
        let mut back = vec![0.0; 256];
        decode(kind, &plain[..256 / BLOCK * kind.block_bytes()], &mut back);
        assert_eq!(bits(&back), bits(&floats(&golden(&format!("{name}.f32")))), "{name}");
    }
}

/// The bytes of a block that starts with `values` and goes on with zeros.
fn block(kind: Kind, values: &[f32]) -> Vec<u8> {
    let mut x = [0.0; BLOCK];
    x[..values.len()].copy_from_slice(values);
    let mut out = vec![0; kind.block_bytes()];
    encode(kind, BLOCK, &x, None, &mut out);
    out
}

#[test]
fn eight_bits_round_half_away_from_zero() {
    // A largest magnitude of 127 makes the scale 1.
    let check = |v: f32, code: i8| assert_eq!(block(Kind::Q8_0, &[127.0, v])[3] as i8, code, "{v}");
    check(0.5, 1);
    check(0.5f32.next_down(), 0);
    check(1.5, 2);
    check(-2.5, -3);
    check(-2.5f32.next_down(), -2);
    check(126.5, 127);
    check(126.5f32.next_down(), 126);
    check(-127.0, -127);
    check(-0.0, 0);
}

#[test]
fn of_two_largest_magnitudes_the_first_counts() {
    let scale = |values: &[f32]| block(Kind::Q4_0, values)[..2].to_vec();
    // d is the largest, with its sign, by -8.
    assert_eq!(scale(&[1.0, 8.0, -8.0]), [0x00, 0xbc]);
    assert_eq!(scale(&[1.0, -8.0, 8.0]), [0x00, 0x3c]);
    assert_eq!(scale(&[]), [0x00, 0x80], "of nothing it is -0");
}

#[test]
fn a_minimum_of_zero_has_the_sign_of_the_first_zero() {
    let minimum = |values: &[f32]| block(Kind::Q4_1, values)[2..4].to_vec();
    assert_eq!(minimum(&[15.0, -0.0, 0.0]), [0x00, 0x80]);
    assert_eq!(minimum(&[15.0, 0.0, -0.0]), [0x00, 0x00]);
}

#[test]
#[should_panic(expected = "whole blocks")]
fn a_row_is_whole_blocks() {
    encode(Kind::Q8_0, 48, &[0.0; 96], None, &mut [0; 102]);
}

/// Rows that fill no whole number of sixteen blocks, each of its own kind.
fn rows() -> impl Strategy<Value = (usize, Vec<f32>)> {
    (1usize..6, 1usize..20).prop_flat_map(|(blocks, rows)| {
        let row = values(blocks * BLOCK);
        prop::collection::vec(row, rows).prop_map(move |rows| (blocks * BLOCK, rows.concat()))
    })
}

proptest! {
    #[test]
    fn lanes_are_the_formula((_, x) in rows()) {
        for (kind, name) in KINDS {
            let mut expected = vec![0; x.len() / BLOCK * kind.block_bytes()];
            for (x, out) in x.as_chunks().0.iter().zip(expected.chunks_exact_mut(kind.block_bytes())) {
                scalar::encode(kind, x, out);
            }
            for level in Level::available() {
                let mut out = vec![0xaa; expected.len()];
                encode_at(level, kind, BLOCK, &x, None, &mut out);
                prop_assert_eq!(first_difference(&out, &expected, kind.block_bytes()), None, "{} {:?}", name, level);
            }
        }
    }

    #[test]
    fn weighted_lanes_are_the_search(
        ((row_len, x), importance) in rows().prop_flat_map(|r| { let w = weights(r.0); (Just(r), w) }),
    ) {
        for (kind, name) in KINDS {
            let mut expected = vec![0; x.len() / BLOCK * kind.block_bytes()];
            scalar::encode_weighted(kind, &x, &importance, &mut expected);
            for level in Level::available() {
                let mut out = vec![0xaa; expected.len()];
                encode_at(level, kind, row_len, &x, Some(&importance), &mut out);
                prop_assert_eq!(first_difference(&out, &expected, kind.block_bytes()), None, "{} {:?}", name, level);
            }
        }
    }

    #[test]
    fn any_bytes_decode_by_the_formula(bytes in prop::collection::vec(any::<u8>(), 34 * 5)) {
        for (kind, name) in KINDS {
            let bytes = &bytes[..5 * kind.block_bytes()];
            let mut expected = vec![0.0; 5 * BLOCK];
            for (block, out) in bytes.chunks_exact(kind.block_bytes()).zip(expected.as_chunks_mut().0) {
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
