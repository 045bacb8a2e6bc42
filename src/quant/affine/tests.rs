use super::*;
use crate::quant::bitpack;
use proptest::prelude::*;

const MATRIX: &[u8] = include_bytes!("../../../tests/data/sdnq/matrix.bin");
const GOLDEN: &[u8] = include_bytes!("../../../tests/data/sdnq/affine.bin");
const WIDE: &[u8] = include_bytes!("../../../tests/data/sdnq/wide.bin");

/// The formulas as they stand in the module's documentation, one value at a time.
mod reference {
    use super::*;

    fn index(b: Blocks, outer: usize, group: usize, at: usize, inner: usize) -> usize {
        ((outer * b.groups + group) * b.len + at) * b.inner + inner
    }

    /// Every block's number and the indices of its values.
    fn each(b: Blocks) -> impl Iterator<Item = (usize, Vec<usize>)> {
        let blocks = (0..b.outer).flat_map(move |o| (0..b.groups).map(move |g| (o, g)));
        let blocks = blocks.flat_map(move |(o, g)| (0..b.inner).map(move |i| (o, g, i)));
        blocks.enumerate().map(move |(n, (o, g, i))| (n, (0..b.len).map(|at| index(b, o, g, at, i)).collect()))
    }

    pub fn scales(code: IntCode, b: Blocks, values: &[f32], scale: &mut [f32], zero_point: &mut [f32]) {
        for (n, block) in each(b) {
            if code.is_signed() {
                let amax = block.iter().fold(0.0f32, |max, &i| max.max(values[i].abs()));
                scale[n] = amax / code.max() as f32;
            } else {
                let min = block.iter().map(|&i| values[i]).min_by(f32::total_cmp).unwrap_or(0.0);
                let max = block.iter().map(|&i| values[i]).max_by(f32::total_cmp).unwrap_or(0.0);
                zero_point[n] = min;
                scale[n] = (max - min) / code.max() as f32;
            }
        }
    }

    pub fn encode<W: Word>(
        code: IntCode,
        b: Blocks,
        values: &[f32],
        scale: &[f32],
        zero_point: &[f32],
        codes: &mut [W],
    ) {
        for (n, block) in each(b) {
            for i in block {
                let value = if code.is_signed() { values[i] } else { values[i] - zero_point[n] };
                let t = (value / scale[n]).round_ties_even().clamp(code.min() as f32, code.max() as f32);
                codes[i] = W::of((t as i32 - code.min()) as u32);
            }
        }
    }

    pub fn decode<W: Word>(
        code: IntCode,
        b: Blocks,
        codes: &[W],
        scale: &[f32],
        zero_point: &[f32],
        values: &mut [f32],
    ) {
        for (n, block) in each(b) {
            for i in block {
                let product = (codes[i].code() as i32 + code.min()) as f32 * scale[n];
                values[i] = if code.is_signed() { product } else { zero_point[n] + product };
            }
        }
    }
}

fn code(name: &str) -> IntCode {
    let (signed, bits) = match name.strip_prefix("uint") {
        Some(bits) => (false, bits),
        None => (true, name.strip_prefix("int").unwrap()),
    };
    IntCode::new(bits.parse().unwrap(), signed).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Codes, scales and zero points of `values`.
fn quantize<W: Word>(code: IntCode, blocks: Blocks, values: &[f32]) -> (Vec<W>, Vec<f32>, Vec<f32>) {
    let mut scale = vec![f32::NAN; blocks.scales()];
    let mut zero_point = vec![f32::NAN; code.zero_points(blocks.scales())];
    let mut codes = vec![W::of(0xaaaa); values.len()];
    scales(code, blocks, values, &mut scale, &mut zero_point);
    encode(code, blocks, values, &scale, &zero_point, &mut codes);
    (codes, scale, zero_point)
}

#[test]
fn code_ranges() {
    let check = |name: &str, min, max| assert_eq!((code(name).min(), code(name).max()), (min, max), "{name}");
    check("int2", -2, 1);
    check("int4", -8, 7);
    check("int8", -128, 127);
    check("uint1", 0, 1);
    check("uint4", 0, 15);
    check("uint8", 0, 255);
    check("int9", -256, 255);
    check("uint15", 0, 32767);
    check("int16", -32768, 32767);
    check("uint16", 0, 65535);
    for (bits, signed) in [(0, false), (0, true), (1, true), (17, false), (17, true)] {
        assert_eq!(IntCode::new(bits, signed), None);
    }
}

#[test]
fn one_block() {
    let check = |name: &str, values: &[f32], codes: &[u8], scale: f32, zero_point: &[f32]| {
        let got = quantize(code(name), Blocks::whole(values.len()), values);
        assert_eq!(got, (codes.to_vec(), vec![scale], zero_point.to_vec()), "{name} {values:?}");
    };
    // Signed codes count from the smallest code: 0 of int4 is 8.
    check("int4", &[-7.0, 0.0, 1.0, 7.0], &[1, 8, 9, 15], 1.0, &[]);
    check("int8", &[-127.0, 0.0, 63.0], &[1, 128, 191], 1.0, &[]);
    check("uint4", &[-5.0, 0.0, 10.0], &[0, 5, 15], 1.0, &[-5.0]);
    check("uint1", &[1.0, 2.0, 1.4], &[0, 1, 0], 1.0, &[1.0]);
    // Half goes to even, both ways.
    check("int4", &[7.0, 0.5, 1.5, 2.5, -0.5, -1.5], &[15, 8, 10, 10, 8, 6], 1.0, &[]);
    check("uint2", &[0.0, 3.0, 0.5, 1.5], &[0, 3, 0, 2], 1.0, &[0.0]);
    // A scale of zero: the code is zero.
    check("int4", &[0.0, 0.0], &[8, 8], 0.0, &[]);
    check("uint4", &[0.75, 0.75], &[0, 0], 0.0, &[0.75]);
    // The largest finite values do not overflow when signed.
    check("int2", &[f32::MAX, -f32::MAX], &[3, 1], f32::MAX, &[]);
    check("uint4", &[3.0], &[0], 0.0, &[3.0]);
}

#[test]
fn one_block_of_wide_codes() {
    let check = |name: &str, values: &[f32], codes: &[u16], scale: f32, zero_point: &[f32]| {
        let got = quantize(code(name), Blocks::whole(values.len()), values);
        assert_eq!(got, (codes.to_vec(), vec![scale], zero_point.to_vec()), "{name} {values:?}");
    };
    check("int9", &[-255.0, 0.0, 255.0, 1.5], &[1, 256, 511, 258], 1.0, &[]);
    // The top code of uint9 is 511, which nine bits hold.
    check("uint9", &[0.0, 511.0, 2.5], &[0, 511, 2], 1.0, &[0.0]);
    check("int16", &[32767.0, -32767.0, 0.5], &[65535, 1, 32768], 1.0, &[]);
    check("uint16", &[-1.0, 65534.0, 0.0], &[0, 65535, 1], 1.0, &[-1.0]);
    // A narrow code may lie in a wide word.
    check("int4", &[-7.0, 0.0, 7.0], &[1, 8, 15], 1.0, &[]);
}

#[test]
#[should_panic(expected = "codes of 9 bits in words of 8")]
fn a_wide_code_does_not_go_into_a_byte() {
    encode(code("int9"), Blocks::whole(1), &[1.0], &[1.0], &[], &mut [0u8]);
}

#[test]
fn decode_undoes_exact_codes() {
    let check = |name: &str, values: &[f32]| {
        let blocks = Blocks::whole(values.len());
        let (codes, scale, zero_point) = quantize::<u16>(code(name), blocks, values);
        let mut back = vec![f32::NAN; values.len()];
        decode(code(name), blocks, &codes, &scale, &zero_point, &mut back);
        assert_eq!(back, values, "{name}");
    };
    check("int11", &[-1023.0, 0.0, 1.0, 1023.0]);
    check("uint16", &[-10.0, 65525.0, 0.0, 100.0]);
    check("int4", &[-7.0, -1.0, 0.0, 3.0, 7.0]);
    check("int8", &[0.0, 127.0, -127.0, 64.0]);
    check("uint8", &[-10.0, 245.0, 0.0, 100.0]);
    check("uint3", &[1.0, 8.0, 4.0]);
    check("uint5", &[0.25; 9]);
}

#[test]
fn the_smallest_code_can_be_read() {
    let mut values = [0.0];
    decode(code("int8"), Blocks::whole(1), &[0u8], &[0.5], &[], &mut values);
    assert_eq!(values, [-64.0]);
    decode(code("int16"), Blocks::whole(1), &[0u16], &[0.5], &[], &mut values);
    assert_eq!(values, [-16384.0]);
}

#[test]
fn as_twos_complement() {
    fn check<W: Word + std::fmt::Debug>(name: &str, values: [f32; 5], stored: [W; 5]) {
        let (code, whole, mut codes, mut back) = (code(name), Blocks::whole(5), [W::of(0); 5], [0.0; 5]);
        encode_stored(code, whole, &values, &[1.0], &[], &mut codes);
        assert_eq!(codes, stored, "{name}");
        decode_stored(code, whole, &stored, &[1.0], &[], &mut back);
        assert_eq!(back, values, "{name}");
    }
    check("int8", [-127.0, -1.0, 0.0, 127.0, -128.0], [-127i8, -1, 0, 127, -128].map(|q| q as u8));
    check("int16", [-32767.0, -1.0, 0.0, 32767.0, -32768.0], [-32767i16, -1, 0, 32767, -32768].map(|q| q as u16));
    check("int5", [-15.0, -1.0, 0.0, 15.0, -16.0], [-15i8, -1, 0, 15, -16].map(|q| q as u8));
}

#[test]
fn what_is_not_finite_is_found_and_harmless() {
    let check = |at: usize, len: usize, value: f32| {
        let mut values = vec![1.0; len];
        assert_eq!(first_non_finite(&values), None);
        values[at] = value;
        assert_eq!(first_non_finite(&values), Some(at));
        for name in ["int4", "uint4", "int8", "uint8", "uint1", "int16", "uint16"] {
            let _ = quantize::<u16>(code(name), Blocks::whole(len), &values);
        }
    };
    check(0, 1, f32::NAN);
    check(4095, 4096, f32::INFINITY);
    check(4096, 4097, f32::NEG_INFINITY);
    check(9000, 10_000, -f32::NAN);
    assert_eq!(first_non_finite(&[]), None);
    assert_eq!(first_non_finite(&[f32::MAX, -f32::MAX, f32::from_bits(1)]), None);
}

#[test]
fn a_range_in_pieces() {
    let check = |name: &str, values: &[f32], pieces: usize| {
        let (_, scale, zero_point) = quantize::<u16>(code(name), Blocks::whole(values.len()), values);
        let range = values.chunks(pieces).map(Range::of).fold(Range::EMPTY, Range::merge);
        let (s, z) = range.scale_of(code(name));
        assert_eq!(s.to_bits(), scale[0].to_bits());
        assert_eq!(z.to_bits(), zero_point.first().map_or(0, |z| z.to_bits()));
    };
    let values: Vec<f32> = floats(MATRIX);
    for name in ["int3", "int8", "uint1", "uint8", "int16", "uint13"] {
        for pieces in [1, 7, 100, 10_000] {
            check(name, &values, pieces);
            check(name, &[0.0, -0.0, 3.0, 0.0], pieces);
        }
    }
    assert_eq!(Range::EMPTY.scale_of(code("uint4")), (0.0, 0.0));
}

#[test]
fn nothing_is_quantized_to_nothing() {
    for blocks in [Blocks::rows(0, 8), Blocks::whole(0), Blocks { outer: 2, groups: 1, len: 0, inner: 3 }] {
        let (codes, scale, zero_point) = quantize::<u8>(code("uint4"), blocks, &[]);
        assert!(codes.is_empty());
        assert!(scale.iter().chain(&zero_point).all(|&v| v == 0.0));
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Against the files that `tests/interop/make_sdnq_golden.py` wrote; the order of things is described there.
#[test]
fn equal_to_sdnq_bit_for_bit() {
    let matrix = floats(MATRIX);
    let geometries = [
        ("row", Blocks::rows(16, 96)),
        ("groups of 32", Blocks { outer: 16, groups: 3, len: 32, inner: 1 }),
        ("tensor", Blocks::whole(6 * 96)),
        ("conv", Blocks { outer: 16, groups: 1, len: 32, inner: 3 }),
        ("conv, groups of 8", Blocks { outer: 16, groups: 4, len: 8, inner: 3 }),
    ];
    let mut golden = GOLDEN;
    let mut take = |bytes: usize| golden.split_off(..bytes).unwrap();
    let names = "int2 int3 int4 int5 int6 int7 int8 uint1 uint2 uint3 uint4 uint5 uint6 uint7 uint8";
    for name in names.split(' ') {
        for (geometry, blocks) in geometries {
            let code = code(name);
            let values = &matrix[matrix.len() - blocks.values()..];
            let (mut codes, scale, zero_point) = quantize(code, blocks, values);
            let packed_len = bitpack::packed_len(code.bits(), values.len()).unwrap();
            let mut packed = vec![0; packed_len];
            bitpack::pack(code.bits(), &codes, &mut packed);

            let expected = take(packed_len).to_vec();
            let mut expected_codes = vec![0; values.len()];
            bitpack::unpack(code.bits(), &expected, &mut expected_codes);
            if name == "int8" {
                encode_stored(code, blocks, values, &scale, &zero_point, &mut codes);
                packed.clone_from(&codes);
            }
            assert_eq!(bits(&scale), bits(&floats(take(4 * scale.len()))), "scale, {name} {geometry}");
            assert_eq!(bits(&zero_point), bits(&floats(take(4 * zero_point.len()))), "zero point, {name} {geometry}");
            assert_eq!(codes, expected_codes, "codes, {name} {geometry}");
            assert_eq!(packed, expected, "packed, {name} {geometry}");

            if ["int4", "uint4"].contains(&name) {
                let mut back = vec![0.0; values.len()];
                decode(code, blocks, &codes, &scale, &zero_point, &mut back);
                // Torch may fuse the multiplication and the addition, one rounding less: relative to the row's largest.
                let expected = floats(take(4 * values.len()));
                let rows = back.chunks(96).zip(expected.chunks(96)).zip(values.chunks(96));
                for ((back, expected), row) in rows {
                    let tolerance = row.iter().fold(0.0f32, |max, v| max.max(v.abs())) * 2e-7;
                    for (back, expected) in back.iter().zip(expected) {
                        assert!((back - expected).abs() <= tolerance, "{back} {expected}, {name} {geometry}");
                    }
                }
            }
        }
    }
    assert!(take(0).is_empty() && golden.is_empty(), "the golden file has more in it");
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
}

/// As above, for codes in words.
#[test]
fn wide_codes_equal_to_sdnq_bit_for_bit() {
    let matrix = floats(MATRIX);
    let row = ("row", Blocks::rows(16, 96));
    let tensor = ("tensor", Blocks::whole(6 * 96));
    let conv = ("conv, groups of 8", Blocks { outer: 16, groups: 4, len: 8, inner: 3 });
    let mut golden = WIDE;
    let mut take = |bytes: usize| golden.split_off(..bytes).unwrap();
    for (signed, width) in [true, false].into_iter().flat_map(|s| (9..=16).map(move |b| (s, b))) {
        let code = IntCode::new(width, signed).unwrap();
        let mended = !signed && width < 16;
        for (geometry, blocks) in if mended { vec![row] } else { vec![row, tensor, conv] } {
            let values = &matrix[matrix.len() - blocks.values()..];
            let (codes, scale, zero_point) = quantize::<u16>(code, blocks, values);
            let expected = words(take(2 * codes.len()));
            let stored: Vec<u16> = codes.iter().map(|c| c.wrapping_add_signed(code.min() as i16)).collect();
            assert_eq!(stored, expected, "codes, {code:?} {geometry}");
            assert_eq!(bits(&scale), bits(&floats(take(4 * scale.len()))), "scale, {code:?} {geometry}");
            assert_eq!(bits(&zero_point), bits(&floats(take(4 * zero_point.len()))), "zero point, {code:?} {geometry}");
        }
    }
    assert!(take(0).is_empty() && golden.is_empty(), "the golden file has more in it");
}

/// Values in which ties, zeros of both signs, subnormals and huge numbers are common.
fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -4.0f32..4.0,
        2 => (-20i8..20).prop_map(|v| f32::from(v) / 2.0),
        1 => prop_oneof![Just(0.0f32), Just(-0.0)],
        1 => any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |v| v.is_finite()),
    ]
}

fn any_blocks() -> impl Strategy<Value = Blocks> {
    let len = prop_oneof![1usize..80, Just(8), Just(16), Just(32), Just(64), Just(128), Just(256), 500usize..600];
    let inner = prop_oneof![3 => Just(1usize), 2 => 2usize..12, 1 => 500usize..520];
    (1usize..4, 1usize..3, len, inner).prop_map(|(outer, groups, len, inner)| {
        let len = if inner > 100 { len.min(9) } else { len };
        Blocks { outer, groups, len, inner }
    })
}

/// The loops at every level against the reference, with codes in words of one kind.
fn check_levels<W: Word + std::fmt::Debug>(code: IntCode, blocks: Blocks, values: &[f32]) {
    let zero_points = code.zero_points(blocks.scales());
    let (mut scale, mut zero_point) = (vec![0.0; blocks.scales()], vec![0.0; zero_points]);
    let (mut codes, mut back) = (vec![W::default(); values.len()], vec![0.0; values.len()]);
    reference::scales(code, blocks, values, &mut scale, &mut zero_point);
    reference::encode(code, blocks, values, &scale, &zero_point, &mut codes);
    reference::decode(code, blocks, &codes, &scale, &zero_point, &mut back);
    for level in Level::available() {
        let (mut s, mut z) = (vec![f32::NAN; scale.len()], vec![f32::NAN; zero_points]);
        let (mut c, mut b) = (vec![W::of(0xaaaa); values.len()], vec![f32::NAN; values.len()]);
        scales_at(level, code, blocks, values, &mut s, &mut z);
        assert_eq!(bits(&s), bits(&scale));
        assert_eq!(bits(&z), bits(&zero_point));
        encode_at(level, code, Form::Counted, blocks, values, &scale, &zero_point, &mut c);
        assert_eq!(c, codes);
        decode_at(level, code, Form::Counted, blocks, &codes, &scale, &zero_point, &mut b);
        assert_eq!(bits(&b), bits(&back));
        // In two's complement: the same, counted from another code.
        encode_at(level, code, Form::Stored, blocks, values, &scale, &zero_point, &mut c);
        let stored = |word: &W| W::of(word.code().wrapping_add(code.min() as u32));
        assert_eq!(c, codes.iter().map(stored).collect::<Vec<_>>());
        decode_at(level, code, Form::Stored, blocks, &c, &scale, &zero_point, &mut b);
        assert_eq!(bits(&b), bits(&back));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_level_equals_the_reference(
        (blocks, values) in any_blocks().prop_flat_map(|b| (Just(b), prop::collection::vec(any_value(), b.values()))),
        width in 1u8..=16,
        signed in any::<bool>(),
    ) {
        let code = IntCode::new(width, signed && width > 1).unwrap();
        check_levels::<u16>(code, blocks, &values);
        if let Some(narrow) = IntCode::new(width.div_ceil(2), signed && width > 2) {
            check_levels::<u8>(narrow, blocks, &values);
        }
    }
}
