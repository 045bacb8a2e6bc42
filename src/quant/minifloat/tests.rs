use super::*;
use proptest::prelude::*;

const MATRIX: &[u8] = include_bytes!("../../../tests/data/sdnq/matrix.bin");
const GOLDEN: &[u8] = include_bytes!("../../../tests/data/sdnq/floats.bin");

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

    pub fn scales(code: FloatCode, b: Blocks, values: &[f32], scale: &mut [f32], zero_point: &mut [f32]) {
        for (n, block) in each(b) {
            if code.is_signed() {
                let amax = block.iter().fold(0.0f32, |max, &i| max.max(values[i].abs()));
                scale[n] = amax / code.max();
            } else {
                let min = block.iter().map(|&i| values[i]).min_by(f32::total_cmp).unwrap_or(0.0);
                let max = block.iter().map(|&i| values[i]).max_by(f32::total_cmp).unwrap_or(0.0);
                zero_point[n] = min;
                scale[n] = (max - min) / code.max();
            }
        }
    }

    /// Of all codes, one after another in the order of their values: is `t` beyond the middle between the best so far
    /// and the next? Sums of two values are exact in f64.
    pub fn nearest(code: FloatCode, t: f32) -> u32 {
        let nearer = |best: u32, next: u32| {
            let twice = f64::from(code.value(best)) + f64::from(code.value(next));
            let further = 2.0 * f64::from(t.abs()) > twice;
            let tie = 2.0 * f64::from(t.abs()) == twice;
            if further || tie && next.is_multiple_of(2) { next } else { best }
        };
        let magnitude = (1..=code.last()).fold(0, nearer);
        let negative_zero = code == FloatCode::E4M3FN || code == FloatCode::E5M2;
        let negative = t.is_sign_negative() && (magnitude > 0 || negative_zero);
        magnitude | if negative { 1 << (code.bits() - 1) } else { 0 }
    }

    /// [`nearest`] to many: the codes are in the order of their values, so the middles between them are too.
    pub struct Nearest {
        code: FloatCode,
        middles: Vec<f64>,
    }

    impl Nearest {
        pub fn new(code: FloatCode) -> Self {
            let value = |c: u32| f64::from(code.value(c));
            Self { code, middles: (0..code.last()).map(|c| (value(c) + value(c + 1)) / 2.0).collect() }
        }

        pub fn of(&self, t: f32) -> u32 {
            let u = f64::from(t.abs());
            let below = self.middles.partition_point(|&middle| middle < u) as u32;
            let magnitude = if self.middles.get(below as usize) == Some(&u) { below + below % 2 } else { below };
            let negative = t.is_sign_negative() && (magnitude > 0 || self.code.is_ocp());
            magnitude | if negative { 1 << (self.code.bits() - 1) } else { 0 }
        }
    }

    pub fn encode(code: FloatCode, b: Blocks, values: &[f32], scale: &[f32], zero_point: &[f32], codes: &mut [u16]) {
        let (nearest, max) = (Nearest::new(code), code.max());
        for (n, block) in each(b) {
            for i in block {
                let t = match code.is_signed() {
                    true => (values[i] / scale[n]).clamp(-max, max),
                    false => ((values[i] - zero_point[n]) / scale[n]).clamp(0.0, max),
                };
                codes[i] = if t.is_nan() { 0 } else { nearest.of(t) as u16 };
            }
        }
    }

    pub fn decode(code: FloatCode, b: Blocks, codes: &[u16], scale: &[f32], zero_point: &[f32], values: &mut [f32]) {
        for (n, block) in each(b) {
            for i in block {
                let product = code.value(u32::from(codes[i])) * scale[n];
                values[i] = if code.is_signed() { product } else { zero_point[n] + product };
            }
        }
    }
}

/// By SDNQ's names.
fn code(name: &str) -> FloatCode {
    match name {
        "float8_e4m3fn" => return FloatCode::E4M3FN,
        "float8_e5m2" => return FloatCode::E5M2,
        _ => {}
    }
    let (_, form) = name.trim_end_matches("_sdnq").split_once("_e").unwrap();
    let (form, signed) = match form.strip_suffix("fnu") {
        Some(form) => (form, false),
        None => (form.strip_suffix("fn").unwrap(), true),
    };
    let (e, m) = form.split_once('m').unwrap();
    FloatCode::new(e.parse().unwrap(), m.parse().unwrap(), signed).unwrap()
}

/// Every format there is.
fn formats() -> impl Iterator<Item = FloatCode> {
    let all = (1..=5).flat_map(|e| (0..=15).flat_map(move |m| [(e, m, true), (e, m, false)]));
    [FloatCode::E4M3FN, FloatCode::E5M2].into_iter().chain(all.filter_map(|(e, m, s)| FloatCode::new(e, m, s)))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Codes, scales and zero points of `values`.
fn quantize(code: FloatCode, blocks: Blocks, values: &[f32]) -> (Vec<u16>, Vec<f32>, Vec<f32>) {
    let mut scale = vec![f32::NAN; blocks.scales()];
    let mut zero_point = vec![f32::NAN; code.zero_points(blocks.scales())];
    let mut codes = vec![0xaaaa; values.len()];
    scales(code, blocks, values, &mut scale, &mut zero_point);
    encode(code, blocks, values, &scale, &zero_point, &mut codes);
    (codes, scale, zero_point)
}

/// The codes of `values` as they are: of scale 1 and zero point 0.
fn codes_at(level: Level, code: FloatCode, values: &[f32]) -> Vec<u16> {
    let mut codes = vec![0xaaaa; values.len()];
    let zero_point = vec![0.0; code.zero_points(1)];
    encode_at(level, code, Blocks::whole(values.len()), values, &[1.0], &zero_point, &mut codes);
    codes
}

#[test]
fn the_formats() {
    let check = |name: &str, bits: u8, exponent_bits: u8, mantissa_bits: u8, signed: bool, max: f32| {
        let code = code(name);
        let got = (code.bits(), code.exponent_bits(), code.mantissa_bits(), code.is_signed(), code.max());
        assert_eq!(got, (bits, exponent_bits, mantissa_bits, signed, max), "{name}");
    };
    check("float8_e4m3fn", 8, 4, 3, true, 448.0);
    check("float8_e5m2", 8, 5, 2, true, 57344.0);
    check("float8_e4m3fn_sdnq", 8, 4, 3, true, 480.0);
    check("float16_e5m10fn", 16, 5, 10, true, 131008.0);
    check("float16_e1m15fnu", 16, 1, 15, false, 4.0 - 2.0f32.powi(-14));
    check("float9_e4m4fn", 9, 4, 4, true, 496.0);
    check("float6_e3m2fn", 6, 3, 2, true, 28.0);
    check("float6_e5m0fn", 6, 5, 0, true, 65536.0);
    check("float4_e2m1fn", 4, 2, 1, true, 6.0);
    check("float2_e1m0fn", 2, 1, 0, true, 2.0);
    check("float2_e2m0fnu", 2, 2, 0, false, 4.0);
    check("float1_e1m0fnu", 1, 1, 0, false, 2.0);
    assert_eq!(formats().count(), 2 + 65 + 70);
    for (e, m, signed) in [(0, 3, true), (6, 2, true), (5, 11, true), (5, 12, false), (1, 15, true), (1, 255, false)] {
        assert_eq!(FloatCode::new(e, m, signed), None, "e{e}m{m}");
    }
}

#[test]
fn the_values_of_codes() {
    let check = |name: &str, codes: &[u32], expected: &[f32]| {
        let got: Vec<f32> = codes.iter().map(|&c| code(name).value(c)).collect();
        assert_eq!(bits(&got), bits(expected), "{name}");
    };
    check("float4_e2m1fn", &[0, 1, 2, 3, 4, 5, 6, 7], &[0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
    check("float4_e2m1fn", &[8, 9, 15, 16 + 7], &[-0.0, -0.5, -6.0, 6.0]);
    // One exponent bit: a uniform grid. No mantissa bits: powers of two.
    check("float3_e1m2fnu", &[0, 1, 2, 3, 4, 5, 6, 7], &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
    check("float3_e3m0fnu", &[0, 1, 2, 3, 4, 5, 6, 7], &[0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]);
    check("float1_e1m0fnu", &[0, 1], &[0.0, 2.0]);
    check("float8_e4m3fn", &[0x00, 0x01, 0x08, 0x38, 0x7e, 0xfe], &[0.0, 0.001953125, 0.015625, 1.0, 448.0, -448.0]);
    check(
        "float8_e5m2",
        &[0x01, 0x3c, 0x7b, 0x7c, 0xfc],
        &[2f32.powi(-16), 1.0, 57344.0, f32::INFINITY, f32::NEG_INFINITY],
    );
    for (name, nan) in [("float8_e4m3fn", 0x7f), ("float8_e4m3fn", 0xff), ("float8_e5m2", 0x7d), ("float8_e5m2", 0xff)]
    {
        assert!(code(name).value(nan).is_nan(), "{name} {nan:x}");
    }
}

#[test]
fn one_block() {
    let check = |name: &str, values: &[f32], codes: &[u16], scale: f32, zero_point: &[f32]| {
        let got = quantize(code(name), Blocks::whole(values.len()), values);
        assert_eq!(got, (codes.to_vec(), vec![scale], zero_point.to_vec()), "{name} {values:?}");
    };
    check("float4_e2m1fn", &[6.0, -6.0, 0.5, -3.0, 0.0], &[7, 15, 1, 13, 0], 1.0, &[]);
    check("float4_e2m2fnu", &[1.0, 8.0, 1.5, 4.0], &[0, 15, 2, 10], 1.0, &[1.0]);
    check("float1_e1m0fnu", &[1.0, 3.0, 1.9, 2.0, 2.1], &[0, 1, 0, 0, 1], 1.0, &[1.0]);
    check("float8_e4m3fn", &[448.0, -1.0, 1.0], &[0x7e, 0xb8, 0x38], 1.0, &[]);
    // Half goes to even: 2.5 lies between 2 (code 4) and 3 (code 5), 5 between 4 (6) and 6 (7).
    check("float4_e2m1fn", &[6.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], &[7, 0, 2, 2, 4, 4, 6, 6], 1.0, &[]);
    // And 3 lies between 2 (code 4) and 4 (code 5), 6 between 4 and 8 (code 6).
    check("float3_e3m0fnu", &[0.0, 16.0, 3.0, 6.0, 12.0, 0.125], &[0, 7, 4, 6, 6, 0], 1.0, &[0.0]);
    // A negative value that rounds to zero.
    check("float4_e2m1fn", &[6.0, -0.25, -0.0, -0.2500001], &[7, 0, 0, 9], 1.0, &[]);
    check("float8_e5m2", &[57344.0, -0.0, -1e-6, 1e-6], &[0x7b, 0x80, 0x80, 0], 1.0, &[]);
    // A scale of zero.
    check("float8_e4m3fn", &[0.0, -0.0], &[0, 0], 0.0, &[]);
    check("float4_e2m2fnu", &[0.75, 0.75], &[0, 0], 0.0, &[0.75]);
    // A scale that underflows: codes are the ends of the range, as in SDNQ, and decode to zero.
    check("float8_e5m2", &[1e-42, -1e-43, 0.0], &[0x7b, 0xfb, 0], 0.0, &[]);
    check("float6_e5m1fnu", &[1e-42, 0.0], &[63, 0], 0.0, &[0.0]);
    // A subnormal scale: 1e-44 is 7 times the smallest number there is, and 7 / 6 of it rounds to 1.
    check("float4_e2m1fn", &[1e-44, -4e-45], &[7, 13], f32::from_bits(1), &[]);
    check("float4_e2m1fn", &[1e30, -5e29], &[7, 13], 1e30 / 6.0, &[]);
}

#[test]
fn a_quotient_that_overflows_is_clamped() {
    let check = |name: &str, codes: &[u16]| {
        let (code, scale) = (code(name), f32::from_bits(1));
        let (values, zero_point) = ([f32::MAX, f32::MIN], vec![-1.0; code.zero_points(1)]);
        let mut got = [0xaaaa; 2];
        encode(code, Blocks::whole(2), &values, &[scale], &zero_point, &mut got);
        assert_eq!(got, codes, "{name}");
    };
    check("float8_e4m3fn", &[0x7e, 0xfe]);
    check("float8_e5m2", &[0x7b, 0xfb]);
    check("float4_e2m1fn", &[7, 15]);
    check("float4_e2m2fnu", &[15, 0]);
}

#[test]
fn whatever_is_encoded_is_a_number() {
    let values = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, -1.0];
    for code in formats() {
        for scale in [1.0, 0.0, f32::INFINITY, f32::NAN] {
            let mut codes = [0xaaaau16; 6];
            let zero_point = vec![f32::NEG_INFINITY; code.zero_points(1)];
            encode(code, Blocks::whole(6), &values, &[scale], &zero_point, &mut codes);
            assert!(codes.iter().all(|&c| code.value(u32::from(c)).is_finite()), "{code:?} {codes:x?}");
        }
    }
}

/// At every code, at every middle between two, and right beside both; codes of up to 10 bits against all others.
#[test]
fn the_nearest_of_all_codes() {
    for code in formats() {
        let nearest = reference::Nearest::new(code);
        let every = if code.bits() <= 10 { 1 } else { 61 };
        let starts = (0..code.last()).step_by(every).chain([code.last() - 1]);
        let mut values: Vec<f32> = starts
            .flat_map(|c| {
                let (low, high) = (code.value(c), code.value(c + 1));
                let middle = low + (high - low) / 2.0;
                [low, low.next_up(), middle.next_down(), middle, middle.next_up(), high.next_down(), high]
            })
            .chain([code.max().next_up(), 2.0 * code.max(), f32::MAX, f32::from_bits(1)])
            .collect();
        if code.is_signed() {
            values.extend(values.clone().iter().map(|v| -v));
        }
        let expected: Vec<u16> = values.iter().map(|&v| nearest.of(v) as u16).collect();
        if code.bits() <= 10 {
            let by_force: Vec<u16> = values.iter().map(|&v| reference::nearest(code, v) as u16).collect();
            assert_eq!(expected, by_force, "{code:?}");
        }
        for level in Level::available() {
            let got = codes_at(level, code, &values);
            if let Some(i) = (0..values.len()).find(|&i| got[i] != expected[i]) {
                panic!("{code:?} {level:?}: {:e} is {:x}, not {:x}", values[i], got[i], expected[i]);
            }
        }
    }
}

#[test]
fn every_code_decodes_to_its_value() {
    for code in formats() {
        let codes: Vec<u16> = (0..1u32 << code.bits()).map(|c| c as u16).collect();
        let expected: Vec<f32> = codes.iter().map(|&c| code.value(u32::from(c)) * 0.75).collect();
        let zero_point = vec![0.0; code.zero_points(1)];
        for level in Level::available() {
            let mut values = vec![1.0; codes.len()];
            decode_at(level, code, Blocks::whole(codes.len()), &codes, &[0.75], &zero_point, &mut values);
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(values.iter().zip(&expected).all(same), "{code:?} {level:?}");
        }
    }
}

#[test]
fn bits_above_a_code_are_ignored() {
    let mut values = [0.0; 3];
    decode(code("float4_e2m1fn"), Blocks::whole(3), &[0xf7u8, 0x7f, 0x80], &[1.0], &[], &mut values);
    assert_eq!(values, [6.0, -6.0, 0.0]);
    decode(code("float4_e2m2fnu"), Blocks::whole(3), &[0xffu8, 0x10, 0x81], &[1.0], &[0.0], &mut values);
    assert_eq!(values, [7.0, 0.0, 0.25]);
}

#[test]
#[should_panic(expected = "9 bits in a word of 8")]
fn a_code_must_fit_its_word() {
    encode(code("float9_e4m4fn"), Blocks::whole(1), &[1.0], &[1.0], &[], &mut [0u8]);
}

#[test]
fn a_range_in_pieces() {
    let check = |code: FloatCode, values: &[f32], pieces: usize| {
        let (_, scale, zero_point) = quantize(code, Blocks::whole(values.len()), values);
        let range = values.chunks(pieces).map(Range::of).fold(Range::EMPTY, Range::merge);
        let (s, z) = range.float_scale_of(code);
        assert_eq!(s.to_bits(), scale[0].to_bits());
        assert_eq!(z.to_bits(), zero_point.first().map_or(0, |z| z.to_bits()));
    };
    let values: Vec<f32> = floats(MATRIX);
    for code in formats() {
        for pieces in [7, 10_000] {
            check(code, &values, pieces);
            check(code, &[0.0, -0.0, 3.0, 0.0], pieces);
        }
    }
    assert_eq!(Range::EMPTY.float_scale_of(FloatCode::E4M3FN), (0.0, 0.0));
}

#[test]
fn nothing_is_quantized_to_nothing() {
    for blocks in [Blocks::rows(0, 8), Blocks::whole(0), Blocks { outer: 2, groups: 1, len: 0, inner: 3 }] {
        for code in [FloatCode::E4M3FN, code("float4_e2m2fnu")] {
            let (codes, scale, zero_point) = quantize(code, blocks, &[]);
            assert!(codes.is_empty());
            assert!(scale.iter().chain(&zero_point).all(|&v| v == 0.0));
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Against the file that `tests/interop/make_sdnq_golden.py` wrote; the order of things is described there.
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

    let names = "float8_e4m3fn float8_e5m2 float8_e4m3fn_sdnq float6_e3m2fn float5_e1m3fn float4_e2m1fn float6_e5m0fn \
                 float12_e4m7fn float16_e5m10fn float8_e4m4fnu float4_e2m2fnu float6_e3m3fnu float1_e1m0fnu \
                 float16_e1m15fnu";
    for name in names.split_whitespace() {
        for (geometry, blocks) in geometries {
            let values = &matrix[matrix.len() - blocks.values()..];
            let (codes, scale, zero_point) = quantize(code(name), blocks, values);
            assert_eq!(bits(&scale), bits(&floats(take(4 * scale.len()))), "scale, {name} {geometry}");
            assert_eq!(bits(&zero_point), bits(&floats(take(4 * zero_point.len()))), "zero point, {name} {geometry}");
            if code(name).is_ocp() {
                assert_eq!(codes, words(take(codes.len())), "codes, {name} {geometry}");
            }
        }
    }

    // SDNQ reads a zero with a sign as a zero without.
    let equal = |ours: &f32, theirs: &f32| ours == theirs || ours.is_nan() && theirs.is_nan();
    for code in formats().filter(|code| !code.is_ocp()).chain([FloatCode::E4M3FN, FloatCode::E5M2]) {
        let codes: Vec<u32> = match code.bits() {
            bits @ 0..=8 => (0..1 << bits.max(4)).map(|c| c % (1 << bits)).collect(),
            bits => (0..64).map(|i| i * 40503 % (1 << bits)).collect(),
        };
        let values: Vec<f32> = codes.iter().map(|&c| code.value(c)).collect();
        let expected = floats(take(4 * codes.len()));
        assert!(values.iter().zip(&expected).all(|(a, b)| equal(a, b)), "{code:?} {values:?} {expected:?}");
    }

    for (name, fused) in [("float6_e3m2fn", false), ("float6_e3m3fnu", true)] {
        let (code, blocks) = (code(name), Blocks::rows(16, 96));
        let theirs = words(take(matrix.len()));
        let scale = floats(take(4 * 16));
        let zero_point = floats(take(4 * code.zero_points(16)));
        let expected = floats(take(4 * matrix.len()));
        let (mut ours, mut back) = (vec![0u16; matrix.len()], vec![0.0; matrix.len()]);
        decode(code, blocks, &theirs, &scale, &zero_point, &mut back);
        for ((back, expected), row) in back.chunks(96).zip(expected.chunks(96)).zip(matrix.chunks(96)) {
            // Torch may fuse the multiplication and the addition: each of the two roundings here is within half of
            // 2^-23 of what it rounds, which is at most the row's range, twice the row's largest; so is torch's one.
            // Of subnormal numbers each is within half of the smallest there is, and their sums are exact.
            let largest = row.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            let tolerance = if fused { 3.0 * largest * f32::EPSILON + f32::from_bits(1) } else { 0.0 };
            for (back, expected) in back.iter().zip(expected) {
                assert!((back - expected).abs() <= tolerance, "{back} {expected}, {name}");
            }
        }
        // SDNQ's own encoder does not always take the nearest code; it is never nearer.
        encode(code, blocks, &matrix, &scale, &zero_point, &mut ours);
        for (i, (&ours, &theirs)) in ours.iter().zip(&theirs).enumerate().filter(|(i, _)| scale[i / 96] > 0.0) {
            let t = f64::from((matrix[i] - zero_point.get(i / 96).unwrap_or(&0.0)) / scale[i / 96]);
            let off = |c: u16| (t - f64::from(code.value(u32::from(c)))).abs();
            assert!(off(ours) <= off(theirs), "{name} {t} {ours:x} {theirs:x}");
        }
    }
    assert!(take(0).is_empty() && golden.is_empty(), "the golden file has more in it");
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.iter().map(|&b| u16::from(b)).collect()
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

/// A block's values, or nothing but zeros in it now and then, so that scales of zero lie among others.
fn any_values(blocks: Blocks) -> impl Strategy<Value = Vec<f32>> {
    let factor = prop_oneof![8 => Just(1.0f32), 1 => Just(0.0), 1 => Just(1e-38)];
    let run = blocks.len * blocks.inner;
    let factors = prop::collection::vec(factor, blocks.outer * blocks.groups);
    (prop::collection::vec(any_value(), blocks.values()), factors).prop_map(move |(mut values, factors)| {
        for (values, factor) in values.chunks_exact_mut(run).zip(factors) {
            values.iter_mut().for_each(|v| *v *= factor);
        }
        values
    })
}

fn any_format() -> impl Strategy<Value = FloatCode> {
    prop::sample::select(formats().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_level_equals_the_reference(
        (blocks, values) in any_blocks().prop_flat_map(|b| (Just(b), any_values(b))),
        code in any_format(),
    ) {
        let zero_points = code.zero_points(blocks.scales());
        let (mut scale, mut zero_point) = (vec![0.0; blocks.scales()], vec![0.0; zero_points]);
        let (mut codes, mut back) = (vec![0; values.len()], vec![0.0; values.len()]);
        reference::scales(code, blocks, &values, &mut scale, &mut zero_point);
        reference::encode(code, blocks, &values, &scale, &zero_point, &mut codes);
        reference::decode(code, blocks, &codes, &scale, &zero_point, &mut back);
        for level in Level::available() {
            let (mut s, mut z) = (vec![f32::NAN; scale.len()], vec![f32::NAN; zero_points]);
            let (mut c, mut b) = (vec![0xaaaa; values.len()], vec![f32::NAN; values.len()]);
            scales_at(level, code, blocks, &values, &mut s, &mut z);
            prop_assert_eq!(bits(&s), bits(&scale));
            prop_assert_eq!(bits(&z), bits(&zero_point));
            encode_at(level, code, blocks, &values, &scale, &zero_point, &mut c);
            prop_assert_eq!(&c, &codes);
            decode_at(level, code, blocks, &codes, &scale, &zero_point, &mut b);
            prop_assert!(b.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
            if code.bits() <= 8 && code.is_signed() {
                // By reciprocals: the products are what is coded. They are numbers, as the scale is no less than normal.
                let inverse = 1.0 / scale.first().copied().unwrap_or(1.0).max(f32::MIN_POSITIVE);
                let products: Vec<f32> = values.iter().map(|v| v * inverse).collect();
                let whole = Blocks::whole(values.len());
                let (mut expected, mut bytes) = (vec![0; values.len()], vec![0xaau8; values.len()]);
                reference::encode(code, whole, &products, &vec![1.0; whole.scales()], &[], &mut expected);
                encode_by_at(level, code, inverse, &values, &mut bytes);
                prop_assert!(bytes.iter().zip(&expected).all(|(&a, &b)| u16::from(a) == b));
            }
            if code.bits() <= 8 {
                let mut bytes = vec![0xaau8; values.len()];
                encode_at(level, code, blocks, &values, &scale, &zero_point, &mut bytes);
                prop_assert!(bytes.iter().zip(&codes).all(|(&a, &b)| u16::from(a) == b));
                decode_at(level, code, blocks, &bytes, &scale, &zero_point, &mut b);
                prop_assert!(b.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
            }
        }
    }

    /// The nearest by brute force, of quotients from all over.
    #[test]
    fn the_nearest_of_any_value(code in any_format(), values in prop::collection::vec(any_value(), 1..20)) {
        let values: Vec<f32> = values.iter().map(|v| if code.is_signed() { *v } else { v.abs() }).collect();
        let expected: Vec<u16> = values.iter().map(|&v| reference::nearest(code, v) as u16).collect();
        prop_assert_eq!(codes_at(Level::best(), code, &values), expected);
    }
}
