use proptest::prelude::*;

use super::*;

/// Columns of the files in `tests/data/ggml`.
const COLUMNS: usize = 1024;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/ggml/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn floats(name: &str) -> Vec<f32> {
    data(name).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Encodes value by value, and at every level of the machine; all have to agree.
fn encoded(kind: Kind, row_len: usize, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut expected = vec![0; x.len() / SUPER_BLOCK * kind.bytes()];
    reference::encode(kind, row_len, x, importance, &mut expected);
    for level in lanes::Level::available() {
        let mut out = vec![0xaa; expected.len()];
        encode_at(level, kind, row_len, x, importance, &mut out);
        let blocks = out.chunks(kind.bytes()).zip(expected.chunks(kind.bytes()));
        for (i, (out, expected)) in blocks.enumerate() {
            assert_eq!(
                out,
                expected,
                "{kind:?} at {level:?}, super-block {i}: {:?}",
                &x[i * SUPER_BLOCK..][..SUPER_BLOCK]
            );
        }
    }
    expected
}

/// The files are what `ggml_quantize_chunk` of ggml 0.25.3 made of `in_*.f32`, on x86-64.
#[test]
fn the_bytes_are_those_of_ggml() {
    let importance = floats("imatrix.f32");
    for (kind, name) in Kind::ALL.into_iter().zip(["q2_K", "q3_K", "q4_K", "q5_K", "q6_K"]) {
        for rows in ["bf16", "edge"] {
            let x = floats(&format!("in_{rows}.f32"));
            for (file, importance) in [("none", None), ("imatrix", Some(&importance[..]))] {
                let file = format!("{name}.{rows}.{file}.bin");
                let (got, expected) = (encoded(kind, COLUMNS, &x, importance), data(&file));
                let differ = got.chunks(kind.bytes()).zip(expected.chunks(kind.bytes())).position(|(g, e)| g != e);
                assert_eq!((got.len(), differ), (expected.len(), None), "{file}");
            }
        }
    }
}

#[test]
fn codes_become_values() {
    // One super-block of each kind: the halves are 2 and 3 (0x4000, 0x4200), one scale is set, and a few codes.
    let check = |kind: Kind, set: &[(usize, u8)], expected: &[(usize, f32)]| {
        let mut bytes = vec![0; kind.bytes()];
        for (at, byte) in set {
            bytes[*at] = *byte;
        }
        let mut out = [0.0; SUPER_BLOCK];
        decode(kind, &bytes, &mut out);
        for (at, value) in expected {
            assert_eq!(out[*at], *value, "{kind:?}, value {at}");
        }
    };
    // The second sub-block: scale 5, minimum 1. Byte 16 of the codes has values 16, 48, 80 and 112 of the first half.
    check(Kind::Q2K, &[(81, 0x40), (83, 0x42), (1, 0x15), (32, 0b11_10_01_11)], &[(16, 27.0), (17, -3.0), (48, 0.0)]);
    // Scales of 6 bits around 32: sub-block 0 has 33. Without the high bit a code is 4 lower.
    check(Kind::Q3K, &[(109, 0x40), (96, 1), (104, 2), (32, 3), (0, 1)], &[(0, 6.0), (1, -8.0), (16, 256.0)]);
    check(Kind::Q4K, &[(1, 0x40), (3, 0x42), (4, 7), (8, 1), (16, 0xfa)], &[(0, 137.0), (1, -3.0), (32, 0.0)]);
    // Sub-block 4 has the low bits of its scale in byte 8 of the twelve, and the high ones in byte 0.
    check(Kind::Q4K, &[(1, 0x40), (4, 0x40), (12, 0x02), (80, 1)], &[(128, 36.0), (129, 0.0), (0, 0.0)]);
    check(Kind::Q5K, &[(1, 0x40), (3, 0x42), (4, 1), (8, 2), (16, 1), (48, 0x0f)], &[(0, 56.0), (1, -6.0)]);
    check(Kind::Q6K, &[(209, 0x40), (192, 0xff), (0, 0x0f), (128, 0b11)], &[(0, -62.0), (1, 64.0), (16, 0.0)]);
}

/// The search with an importance matrix can yield a scale code over 63: a negative scale wraps as a byte. Its high bits
/// fall into another scale, and the codes are then found by the scales as they will be read.
#[test]
fn a_wide_scale_spills_into_another() {
    let bytes = layout::pack_pairs(&[0x45, 0, 0, 0, 0, 0, 0, 0xff], &[0, 0x80, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[..12], [0x45, 0, 0, 0xc0, 0, 0x80, 0, 0, 0, 0, 0, 0x0f]);
    let (scales, mins) = layout::unpack_scales(Kind::Q4K, &bytes);
    assert_eq!((&scales[..8], &mins[..8]), (&[5, 0, 0, 0, 16, 0, 0, 63][..], &[0, 0, 0, 0, 0, 32, 0, 0][..]));
}

#[test]
fn zeros_stay_zeros() {
    for kind in Kind::ALL {
        for zero in [0.0, -0.0] {
            let bytes = encoded(kind, 512, &[zero; 1024], None);
            let mut out = [1.0; 1024];
            decode(kind, &bytes, &mut out);
            assert!(out.iter().all(|v| *v == 0.0), "{kind:?}");
        }
    }
}

#[test]
#[should_panic(expected = "rows of 300 in super-blocks")]
fn a_row_is_whole_super_blocks() {
    encode(Kind::Q4K, 300, &[0.0; 300], None, &mut [0; 144]);
}

#[test]
#[should_panic(expected = "a weight for each of 256 columns")]
fn importance_fits_the_row() {
    encode(Kind::Q4K, 256, &[0.0; 512], Some(&[1.0; 512]), &mut [0; 288]);
}

/// A sub-block's worth of values, of one nature.
fn any_values() -> impl Strategy<Value = Vec<f32>> {
    let many = |one: BoxedStrategy<f32>| prop::collection::vec(one, 32);
    let unit = || (-1f32..1.0).boxed();
    prop_oneof![
        4 => many(unit()),
        2 => many(unit()).prop_map(|v| v.iter().map(|v| f32::from_bits(v.to_bits() & 0xffff_0000)).collect()),
        2 => many(unit()).prop_map(|v| v.iter().map(|v| v / (1.0001 - v.abs()).powi(3)).collect()),
        1 => (many(unit()), -38i32..38).prop_map(|(v, e)| v.iter().map(|v| v * 10f32.powi(e)).collect()),
        1 => many(any::<u32>().prop_map(|b| Some(f32::from_bits(b)).filter(|v| v.is_finite()).unwrap_or(1.0)).boxed()),
        1 => many((-8i32..9).prop_map(|i| i as f32 / 8.0).boxed()),
        1 => many(unit()).prop_map(|v| v.iter().map(|v| v.abs() + 0.5).collect()),
        1 => many(unit()).prop_map(|v| v.iter().map(|v| -v.abs() - 0.5).collect()),
        1 => (-2f32..2.0).prop_map(|v| vec![v; 32]),
        1 => many((-1e-40f32..1e-40).boxed()),
        1 => Just(vec![0.0; 32]),
        1 => (0..32usize, -2f32..2.0).prop_map(|(i, v)| (0..32).map(|j| if i == j { v } else { 0.0 }).collect()),
    ]
}

fn any_importance() -> impl Strategy<Value = f32> {
    prop_oneof![6 => 0f32..2.0, 2 => Just(0.0f32), 1 => 1e20f32..1e38, 1 => 0f32..1e-30]
}

/// Rows of one or two super-blocks, enough of them, at times, for more than a batch; and a weight for each column.
fn any_rows() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>)> {
    (1usize..3, 1usize..12).prop_flat_map(|(blocks, rows)| {
        let values = prop::collection::vec(any_values(), blocks * rows * 8).prop_map(|v| v.concat());
        let importance = prop_oneof![
            3 => prop::collection::vec(any_importance(), blocks * SUPER_BLOCK),
            1 => Just(vec![0.0; blocks * SUPER_BLOCK]),
            1 => Just(vec![1.0; blocks * SUPER_BLOCK]),
        ];
        (Just(blocks * SUPER_BLOCK), values, importance)
    })
}

proptest! {
    #[test]
    fn every_level_equals_the_reference((row_len, values, importance) in any_rows()) {
        for kind in Kind::ALL {
            encoded(kind, row_len, &values, None);
            encoded(kind, row_len, &values, Some(&importance));
        }
    }

    #[test]
    fn what_is_laid_out_reads_back(codes in prop::collection::vec(any::<u8>(), SUPER_BLOCK), scales in any::<[u8; 16]>()) {
        for (kind, bits) in Kind::ALL.into_iter().zip(2..) {
            let mut block = Block { d: 0x1234, dmin: 0x5678, scales, codes: [0; SUPER_BLOCK] };
            for (to, code) in block.codes.iter_mut().zip(&codes) {
                *to = code & ((1 << bits) - 1);
            }
            let mut bytes = vec![0; kind.bytes()];
            layout::pack(kind, &block, &mut bytes);
            let mut back = Block::ZERO;
            layout::unpack(kind, &bytes, &mut back);
            let stored = if matches!(kind, Kind::Q2K | Kind::Q6K) { 16 } else { 12 };
            let least = if matches!(kind, Kind::Q3K | Kind::Q6K) { 0 } else { 0x5678 };
            prop_assert_eq!((back.d, back.dmin, back.codes), (block.d, least, block.codes), "{:?}", kind);
            prop_assert_eq!(&back.scales[..stored], &scales[..stored]);
        }
    }

    #[test]
    fn scales_of_six_bits_read_back(scales in any::<[u8; 16]>(), mins in any::<[u8; 8]>()) {
        let scales = scales.map(|s| s & 63);
        let (back, _) = layout::unpack_scales(Kind::Q3K, &layout::pack_sixes(&scales));
        prop_assert_eq!(back, scales.map(|s| s as i8 - 32));
        let (eight, mins) = (core::array::from_fn(|j| scales[j]), mins.map(|m| m & 63));
        let (back, least) = layout::unpack_scales(Kind::Q4K, &layout::pack_pairs(&eight, &mins));
        prop_assert_eq!((&back[..8], &least[..8]), (&eight.map(|s| s as i8)[..], &mins[..]));
    }
}
