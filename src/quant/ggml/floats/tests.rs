use super::super::testing::{bits, first_difference, floats, golden, values};
use super::super::{bf16_bits, bf16_value, f16_bits, f16_value};
use super::*;
use proptest::prelude::*;

const KINDS: [(Kind, &str); 2] = [(Kind::F16, "f16"), (Kind::Bf16, "bf16")];

#[test]
fn bytes_are_ggmls() {
    let values = floats(&golden("values.f32"));
    for (kind, name) in KINDS {
        let expected = golden(&format!("{name}.bin"));
        let mut out = vec![0; expected.len()];
        encode(kind, 1024, &values, None, &mut out);
        assert_eq!(first_difference(&out, &expected, 2), None, "{name}");
        let mut back = vec![0.0; 256];
        decode(kind, &expected[..512], &mut back);
        assert_eq!(bits(&back), bits(&floats(&golden(&format!("{name}.f32")))), "{name}");
    }
}

#[test]
fn every_half_widens_and_narrows() {
    for half in 0..=u16::MAX {
        assert_eq!(bits(&[from_f16(half)]), bits(&[f16_value(half)]), "{half:#x}");
        assert_eq!(to_f16(from_f16(half)), f16_bits(f16_value(half)), "{half:#x}");
        assert_eq!(from_bf16(half).to_bits(), bf16_value(half).to_bits(), "{half:#x}");
        assert_eq!(to_bf16(from_bf16(half)), bf16_bits(bf16_value(half)), "{half:#x}");
    }
}

#[test]
fn halves_round_to_even_at_every_border() {
    // Around each f16 and around the middle between it and the next.
    for half in 0..0x7c00u16 {
        let (low, high) = (f16_value(half), f16_value(half + 1));
        for v in [low, if high.is_finite() { (low + high) / 2.0 } else { 65520.0 }] {
            for v in [v.next_down(), v, v.next_up()] {
                assert_eq!(to_f16(v), f16_bits(v), "{v}");
                assert_eq!(to_f16(-v), f16_bits(-v), "-{v}");
            }
        }
    }
}

proptest! {
    #[test]
    fn lanes_are_the_conversion_of_each(seeds in prop::collection::vec(any::<u32>(), 0..70), values in values(64)) {
        let values: Vec<f32> = seeds.into_iter().map(f32::from_bits).chain(values).collect();
        for level in Level::available() {
            for (kind, one) in [(Kind::F16, f16_bits as fn(f32) -> u16), (Kind::Bf16, bf16_bits)] {
                let mut out = vec![0; 2 * values.len()];
                encode_at(level, kind, &values, &mut out);
                let expected: Vec<u8> = values.iter().flat_map(|v| one(*v).to_le_bytes()).collect();
                prop_assert_eq!(&out, &expected, "{:?} {:?}", level, kind);
                let mut back = vec![1.0; values.len()];
                decode_at(level, kind, &out, &mut back);
                let value = if kind == Kind::F16 { f16_value } else { bf16_value };
                let expected: Vec<f32> = values.iter().map(|v| value(one(*v))).collect();
                prop_assert_eq!(bits(&back), bits(&expected), "{:?} {:?}", level, kind);
            }
        }
    }
}
