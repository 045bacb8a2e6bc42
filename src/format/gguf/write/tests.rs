//! Layouts, and what no reader would take.
use super::super::testing::Raw;
use super::*;

fn kind(name: &str) -> Type {
    Type::by_name(name).expect("a type")
}

#[test]
fn tensors_follow_each_other_padded() {
    fn check(alignment: Option<u32>, offsets: [u64; 3], total: u64) {
        let keys: Vec<Pair> = alignment.map(|n| Pair::new("general.alignment", n)).into_iter().collect();
        let entries = [
            Entry::new("a", &[3, 256], kind("Q4_K")),
            Entry::new("b", &[5], kind("F16")),
            Entry::new("c", &[], kind("I8")),
        ];
        let places = places(&keys, &entries, Limits::GGML).expect("a layout");
        assert_eq!(places.offsets, offsets);
        assert_eq!(places.bytes, [432, 10, 1]);
        assert_eq!(places.header % places.alignment, 0);
        assert_eq!(places.total - places.header, total);
        let mut bytes = write_header(&keys, &entries, &places);
        assert_eq!(bytes.len() as u64, places.header);
        bytes.resize(places.total as usize, 0);
        let header = Raw(bytes).read().expect("a file");
        assert_eq!((header.data, header.alignment), (places.header, places.alignment));
        assert_eq!(header.tensors[0].shape(), [3, 256]);
    }
    check(None, [0, 448, 480], 512);
    check(Some(1), [0, 432, 442], 443);
    check(Some(8), [0, 432, 448], 456);
    check(Some(4096), [0, 4096, 8192], 12288);
}

#[test]
fn a_header_has_the_bytes_of_the_format() {
    let keys = [Pair::new("general.architecture", "x"), Pair::new("n", 2u32)];
    let entries = [Entry::new("t", &[2, 1, 3], kind("F32"))];
    let places = places(&keys, &entries, Limits::GGML).expect("a layout");
    let expected = Raw::new(1, 2)
        .key("general.architecture", 8, &Raw::default().string("x").0)
        .key("n", 4, &2u32.to_le_bytes())
        .info("t", &[3, 1, 2], 0, 0)
        .data(0);
    assert_eq!(write_header(&keys, &entries, &places), expected.0);
}

#[test]
fn figures_that_come_last_do_not_move_anything() {
    let of = |losses: &[f32], total: f64| {
        [Pair::new("mixdown.loss.mse", losses), Pair::new("mixdown.loss.total", total), Pair::new("n", 1u8)]
    };
    let entries = [Entry::new("t", &[4], kind("F32"))];
    let before = places(&of(&[0.0; 3], 0.0), &entries, Limits::GGML).expect("a layout");
    let after = places(&of(&[1e-9, f32::NAN, 3e8], 1.0 / 3.0), &entries, Limits::GGML).expect("a layout");
    assert_eq!(before, after);
}

#[test]
fn what_readers_refuse_is_not_written() {
    fn check(keys: &[Pair], entries: &[Entry], limits: Limits, part: &str) {
        let message = places(keys, entries, limits).expect_err(part).to_string();
        assert!(message.contains(part), "{message}: {part}");
    }
    let one = |name: &str, shape: &[u64], k: &str| [Entry::new(name, shape, kind(k))];
    let no_key = Pair { key: Box::default(), value: 1u8.into() };
    check(&[no_key], &[], Limits::GGML, "0 bytes long");
    check(&[Pair::new("k", 1u8), Pair::new("k", 1u8)], &[], Limits::GGML, "`k` would be in the output twice");
    check(&[Pair::new("general.alignment", 3u32)], &[], Limits::GGML, "power of two");
    check(&[Pair::new("general.alignment", 32u64)], &[], Limits::GGML, "expected u32");
    let twice = [one("a", &[1], "F32"), one("a", &[1], "F32")].concat();
    check(&[], &twice, Limits::GGML, "two tensors");
    check(&[], &one(&"n".repeat(64), &[1], "F32"), Limits::GGML, "64 bytes");
    check(&[], &one(&"n".repeat(128), &[1], "F32"), Limits::DIFFUSION, "128 bytes");
    check(&[], &one("a\0", &[1], "F32"), Limits::GGML, "zero in its name");
    check(&[], &one("a", &[1; 5], "F32"), Limits::GGML, "5 dimensions");
    check(&[], &one("a", &[2, 48], "Q4_0"), Limits::GGML, "blocks of 32");
    check(&[], &one("a", &[1 << 32, 1 << 32], "F32"), Limits::GGML, "more elements");
    check(&[], &one("a", &[1 << 62], "F64"), Limits::GGML, "more bytes");
    check(&[], &one("a", &[1 << 62], "I16"), Limits::GGML, "larger than a file can be");
    let long = one(&"n".repeat(127), &[1, 1, 3, 2, 2], "F32");
    assert_eq!(places(&[], &long, Limits::DIFFUSION).expect("theirs are longer").bytes, [48]);
}
