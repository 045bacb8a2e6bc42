//! Against the public packer, by a file that `tests/interop/make_nunchaku_golden.py` wrote.
use std::collections::BTreeMap;

use super::*;

/// Bytes that look like chance, the same for the same seed.
pub(super) fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// The cases of a kind: the shape of the natural array, its bytes, and the packed one's.
fn cases(kind: &str) -> Vec<(Vec<usize>, Vec<u8>, Vec<u8>)> {
    let file =
        safetensors::SafeTensors::deserialize(include_bytes!("../../../../tests/data/nunchaku/golden.safetensors"));
    let file = file.expect("the golden file");
    let all: BTreeMap<String, _> = file.tensors().into_iter().collect();
    let of_kind = all.iter().filter_map(|(name, natural)| {
        let case = name.strip_suffix("/natural").filter(|case| case.starts_with(kind))?;
        let packed = &all[&format!("{case}/packed")];
        Some((natural.shape().to_vec(), natural.data().to_vec(), packed.data().to_vec()))
    });
    let cases: Vec<_> = of_kind.collect();
    assert!(cases.len() >= 2, "{kind} has {} cases", cases.len());
    cases
}

/// One code a byte, of two.
fn codes(nibbles: &[u8]) -> Vec<u8> {
    nibbles.iter().flat_map(|b| [b & 15, b >> 4]).collect()
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
}

/// A function fills an array of so many elements as expected.
fn check<T: Copy + Default + PartialEq + std::fmt::Debug>(what: &str, expected: &[T], fill: impl FnOnce(&mut [T])) {
    let mut out = vec![T::default(); expected.len()];
    fill(&mut out);
    let other = out.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(other, None, "{what}: the first element that differs");
}

#[test]
fn codes_are_the_public_packers() {
    for (shape, natural, packed) in cases("codes/") {
        let (cols, natural) = (2 * shape[1], codes(&natural));
        check("packed", &packed, |out| pack_codes(cols, &natural, out));
        check("unpacked", &natural, |out| unpack_codes(cols, &packed, out));
    }
    for (shape, natural, packed) in cases("awq/") {
        let (cols, natural) = (2 * shape[1], codes(&natural));
        check("packed", &packed, |out| pack_awq(cols, &natural, out));
        check("unpacked", &natural, |out| unpack_awq(cols, &packed, out));
    }
}

#[test]
fn vectors_are_the_public_packers() {
    for (shape, natural, packed) in cases("vectors/") {
        let (natural, packed) = (words(&natural), words(&packed));
        check("packed", &packed, |out| pack_vectors(shape[1], &natural, out));
        check("unpacked", &natural, |out| unpack_vectors(shape[1], &packed, out));
    }
    for (shape, natural, packed) in cases("micro/") {
        check("packed", &packed, |out| pack_micro(shape[1], &natural, out));
        check("unpacked", &natural, |out| unpack_micro(shape[1], &packed, out));
    }
}

#[test]
fn factors_are_the_public_packers() {
    for (shape, natural, packed) in cases("up/") {
        let (natural, packed) = (words(&natural), words(&packed));
        check("packed", &packed, |out| pack_up(shape[1], &natural, out));
        check("unpacked", &natural, |out| unpack_up(shape[1], &packed, out));
    }
    for (shape, natural, packed) in cases("down/") {
        let (natural, packed) = (words(&natural), words(&packed));
        check("packed", &packed, |out| pack_down(shape[1], shape[0], &natural, out));
        check("unpacked", &natural, |out| unpack_down(shape[1], shape[0], &packed, out));
    }
}

/// The layer of an adaptive norm, with `fields` vectors: its rows interleaved, and 1 added to the biases of its scales.
#[test]
fn norms_are_the_public_packers() {
    for fields in [3, 6] {
        let mut of_layer = cases(&format!("norm/{fields}/")).into_iter();
        let mut next = || of_layer.next().expect("in order of name: bias, codes, scales");
        let (_, bias, stored_bias) = next();
        let (shape, natural, packed) = next();
        let (rows, cols, natural) = (shape[0], 2 * shape[1], codes(&natural));
        let stored: Vec<u8> =
            (0..rows).flat_map(|row| natural[interleave(fields, rows, row) * cols..][..cols].to_vec()).collect();
        check("codes", &packed, |out| pack_awq(cols, &stored, out));

        let (_, natural, packed) = next();
        let (natural, packed) = (words(&natural), words(&packed));
        let stored: Vec<u16> = (0..rows).map(|row| natural[interleave(fields, rows, row)]).collect();
        assert_eq!(stored, packed, "scales");

        let (natural, packed) = (words(&bias), words(&stored_bias));
        for (row, stored) in packed.iter().enumerate() {
            let from = interleave(fields, rows, row);
            let is_scale = [1, fields - 2].contains(&(from / (rows / fields)));
            let expected = half::bf16::from_bits(natural[from]).to_f32() + f32::from(u8::from(is_scale));
            assert_eq!(half::bf16::from_bits(*stored).to_f32(), expected, "{fields} fields, row {row}");
        }
    }
}
