//! What must hold for all rows.
use super::*;
use proptest::prelude::*;

fn levels() -> impl Strategy<Value = Levels> {
    prop_oneof![Just(Levels::Sixteen(LEVELS)), Just(Levels::Uniform4), Just(Levels::Uniform6)]
}

#[test]
fn codes_as_they_are_stored() {
    fn check(levels: Levels, codes: &[u8], bytes: &[u8]) {
        let mut packed = vec![0; levels.row_bytes(codes.len())];
        pack_row(&levels, codes, &mut packed);
        assert_eq!(packed, bytes);
        let mut back = vec![0; codes.len()];
        unpack_row(&levels, &packed, &mut back);
        assert_eq!(back, codes);
    }
    check(Levels::Sixteen(LEVELS), &[1, 2, 15, 0], &[0x21, 0x0f]);
    check(Levels::Uniform6, &[0b11_0001, 0b10_0010, 0b01_0011, 0b00_0100], &[0x21, 0x43, 0b00_01_10_11]);
}

#[test]
fn a_level_is_a_whole_number_of_the_row_s_scale() {
    let levels = Levels::Sixteen(LEVELS);
    let mut values = [0.0; 4];
    // E4M3's 0x38 is 1, 0x78 is 256: levels of 1, and of 256, cut at 127.
    decode_row(&levels, 2, &[15, 0, 15, 8], &[0x38, 0x78], 0.5, &mut values);
    assert_eq!(values, [0.5, -0.5, 63.5, 6.5]);
}

proptest! {
    #[test]
    fn values_come_back_within_a_step(
        levels in levels(), scale in 1e-3f32..10.0, row in prop::collection::vec(-1.0f32..1.0, 64), search: bool,
    ) {
        let row: Vec<f32> = row.iter().map(|v| v * scale).collect();
        let (mut codes, mut s_rel) = (vec![0; 64], vec![0; 4]);
        let search = if search { ScaleSearch::Mse } else { ScaleSearch::Absmax };
        let s_channel = encode_row(&levels, 16, search, &row, &mut codes, &mut s_rel);
        let mut back = vec![0.0; 64];
        decode_row(&levels, 16, &codes, &s_rel, s_channel, &mut back);
        for (row, back) in row.chunks(16).zip(back.chunks(16)) {
            let amax = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            // The widest step of a scheme, in units of the greatest value, and as much again where the best scale for
            // all cuts the greatest; the grid adds half a step of the row's scale.
            let step = if levels == Levels::Uniform6 { 2.0 / 31.0 } else { 2.0 / 7.0 };
            for (v, b) in row.iter().zip(back) {
                prop_assert!((v - b).abs() <= amax * step + s_channel, "{} became {}", v, b);
            }
        }
    }

    #[test]
    fn packing_is_undone(levels in levels(), codes in prop::collection::vec(0u8..64, 32)) {
        let codes: Vec<u8> = codes.iter().map(|c| c & if levels.bits() == 4 { 15 } else { 63 }).collect();
        let (mut bytes, mut back) = (vec![0; levels.row_bytes(32)], vec![0; 32]);
        pack_row(&levels, &codes, &mut bytes);
        unpack_row(&levels, &bytes, &mut back);
        prop_assert_eq!(codes, back);
    }
}
