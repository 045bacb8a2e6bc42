use super::super::fixtures;
use super::*;

#[test]
fn the_values_are_ggml_s() {
    let check = |kind: Kind, file: &str, expected: u64| {
        let bytes = fixtures::bytes(file);
        let mut out = vec![0.0; bytes.len() / kind.bytes() * 256];
        decode(kind, &bytes, &mut out);
        assert_eq!(fixtures::hash(&out), expected, "{file}");
    };
    check(Kind::S, "iq1_s.bf16.imatrix.bin", 0xb943_481e_cec5_4ae8);
    check(Kind::M, "iq1_m.bf16.imatrix.bin", 0x2770_7587_4ea8_2cc8);
}

#[test]
fn a_block_by_hand() {
    // Scale 2, all points the first (all −1), the sub-blocks' codes 0 with the shift up, but the first: code 1, down.
    let mut bytes = [0; 50];
    bytes[1] = 0x40;
    bytes[35] = 0x90;
    let mut out = [0.0; 256];
    decode(Kind::S, &bytes, &mut out);
    assert_eq!(out[..32], [2.0 * 3.0 * (-1.0 - 0.125); 32]);
    assert_eq!(out[32..], [2.0 * (-1.0 + 0.125); 224]);
}
