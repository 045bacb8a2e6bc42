use super::super::testing::{bits, first_difference, floats, golden, values};
use super::*;
use proptest::prelude::*;

const KINDS: [(Kind, &str); 2] = [(Kind::Mxfp4, "mxfp4"), (Kind::Nvfp4, "nvfp4")];

#[test]
fn bytes_are_ggmls() {
    let values = floats(&golden("values.f32"));
    for (kind, name) in KINDS {
        let expected = golden(&format!("{name}.bin"));
        let mut out = vec![0; expected.len()];
        encode(kind, 1024, &values, None, &mut out);
        assert_eq!(first_difference(&out, &expected, kind.block_bytes()), None, "{name}");
        let mut back = vec![0.0; 256];
        decode(kind, &expected[..256 / kind.block() * kind.block_bytes()], &mut back);
        assert_eq!(bits(&back), bits(&floats(&golden(&format!("{name}.f32")))), "{name}");
    }
}

#[test]
fn just_below_a_power_of_two_the_logarithm_rounds_up() {
    let check = |amax: f32, e: u8| {
        let mut out = [0; 17];
        encode(Kind::Mxfp4, 32, &[amax; 32], None, &mut out);
        assert_eq!(out[0], e, "{amax}");
        assert_eq!(scalar::exponent(amax), e, "{amax}");
    };
    check(1.0, 125);
    check(0.75, 124);
    // Of 20 less 2^-20 or less, not of the same below 0.
    check(2f32.powi(20).next_down(), 145);
    check(f32::from_bits(2f32.powi(20).to_bits() - 12), 144);
    check(1.0f32.next_down(), 124);
    check(0.0, 0);
    // Below 2^-125 it wraps.
    check(f32::MIN_POSITIVE, 255);
}

#[test]
fn a_value_in_the_middle_takes_the_lesser_code() {
    // A largest magnitude of 6 makes either scale 1.
    let check = |v: f32, code: u8| {
        let mut x = [0.0; 64];
        for part in x.chunks_mut(16) {
            (part[0], part[1]) = (6.0, v);
        }
        let (mut mx, mut nv) = ([0; 17], [0; 36]);
        encode(Kind::Mxfp4, 32, &x[..32], None, &mut mx);
        encode(Kind::Nvfp4, 64, &x, None, &mut nv);
        assert_eq!((mx[0], mx[2] & 15), (127, code), "{v}");
        assert_eq!((nv[0], nv[5] & 15), (0x38, code), "{v}");
    };
    check(0.25, 0);
    check(0.25f32.next_up(), 1);
    check(-0.25, 0);
    check(-0.26, 9);
    check(0.75, 1);
    check(2.5, 4);
    check(2.5f32.next_up(), 5);
    check(5.0, 6);
    check(-5.1, 15);
}

#[test]
fn scales_round_half_up_and_end_early() {
    let check = |v: f32, code: u8| assert_eq!(scalar::to_ue4m3(v), code, "{v}");
    check(1.0, 0x38);
    check(1.0625, 0x39);
    check(1.0625f32.next_down(), 0x38);
    check(1.9375, 0x40);
    check(2f32.powi(-9), 1);
    check(2f32.powi(-10), 1);
    check(2f32.powi(-10) * 0.99, 0);
    check(2f32.powi(-6).next_down(), 7);
    check(240.0, 0x77);
    check(248.0, 0x7e);
    check(256.0, 0x7e);
    check(1e30, 0x7e);
    check(f32::NAN, 0);
    check(-1.0, 0);
}

fn reference(kind: Kind, x: &[f32], out: &mut [u8]) {
    match kind {
        Kind::Mxfp4 => {
            for (x, out) in x.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
                scalar::mxfp4(x, out);
            }
        }
        Kind::Nvfp4 => {
            for (x, out) in x.chunks_exact(64).zip(out.chunks_exact_mut(36)) {
                for (part, x) in x.as_chunks().0.iter().enumerate() {
                    let (scale, codes) = scalar::nvfp4(x);
                    out[part] = scale;
                    out[4 + 8 * part..][..8].copy_from_slice(&codes);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn lanes_are_the_formula(rows in prop::collection::vec(values(64), 1..20)) {
        let x = rows.concat();
        for (kind, name) in KINDS {
            let mut expected = vec![0; x.len() / kind.block() * kind.block_bytes()];
            reference(kind, &x, &mut expected);
            for level in Level::available() {
                let mut out = vec![0xaa; expected.len()];
                encode_at(level, kind, &x, &mut out);
                prop_assert_eq!(first_difference(&out, &expected, kind.block_bytes()), None, "{} {:?}", name, level);
            }
        }
    }

    #[test]
    fn any_bytes_decode_by_the_formula(bytes in prop::collection::vec(any::<u8>(), 36 * 3)) {
        for (kind, name) in KINDS {
            let bytes = &bytes[..3 * kind.block_bytes()];
            let mut expected = Vec::new();
            for block in bytes.chunks_exact(kind.block_bytes()) {
                let (scales, codes) = if kind == Kind::Mxfp4 { block.split_at(1) } else { block.split_at(4) };
                for (scale, codes) in scales.iter().zip(codes.chunks_exact(codes.len() / scales.len())) {
                    let d = if kind == Kind::Mxfp4 { scalar::half_power(*scale) } else { scalar::half_ue4m3(*scale) };
                    expected.extend(codes.iter().map(|c| scalar::VALUES[usize::from(c & 15)] * d));
                    expected.extend(codes.iter().map(|c| scalar::VALUES[usize::from(c >> 4)] * d));
                }
            }
            for level in Level::available() {
                let mut out = vec![1.0; expected.len()];
                decode_at(level, kind, bytes, &mut out);
                prop_assert_eq!(bits(&out), bits(&expected), "{} {:?}", name, level);
            }
        }
    }
}
