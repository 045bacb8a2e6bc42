//! Both forms, and what is no importance matrix.
use super::*;
use crate::format::gguf::testing::Raw;
use crate::format::gguf::write::{Entry as Written, Limits, places, write_header};
use crate::format::gguf::{Pair, Type};
use proptest::prelude::*;

fn read_bytes(bytes: Vec<u8>) -> Result<Imatrix> {
    read(&Blob::Memory { name: "m.imatrix", bytes: bytes.into() })
}

/// A legacy file without its end.
fn legacy(count: i32, entries: &[(&str, i32, &[f32])]) -> Vec<u8> {
    let mut out = count.to_le_bytes().to_vec();
    for (name, calls, values) in entries {
        out.extend((name.len() as i32).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(calls.to_le_bytes());
        out.extend((values.len() as i32).to_le_bytes());
        out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    out
}

/// A GGUF file of F32 tensors.
fn gguf(keys: &[Pair], tensors: &[(&str, &[u64], &[f32])]) -> Vec<u8> {
    let kind = Type::by_name("F32").expect("a type");
    let entries: Vec<Written> = tensors.iter().map(|(name, shape, _)| Written::new(name, shape, kind)).collect();
    let places = places(keys, &entries, Limits::GGML).expect("a layout");
    let mut bytes = write_header(keys, &entries, &places);
    bytes.resize(places.total as usize, 0);
    for ((_, _, values), offset) in tensors.iter().zip(&places.offsets) {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let at = (places.header + offset) as usize;
        bytes[at..at + data.len()].copy_from_slice(&data);
    }
    bytes
}

fn keys() -> Vec<Pair> {
    vec![
        Pair::new("general.type", "imatrix"),
        Pair::new("imatrix.datasets", Value::strings(["a.txt", "b.txt"])),
        Pair::new("imatrix.chunk_count", 10u32),
        Pair::new("imatrix.chunk_size", 512u32),
    ]
}

#[test]
fn the_gguf_form_is_read() {
    let tensors: &[(&str, &[u64], &[f32])] = &[
        ("blk.0.ffn_up_exps.weight.in_sum2", &[3, 2], &[2.0, 4.0, 7.0, 9.0, 3.0, 6.0]),
        ("blk.0.ffn_up_exps.weight.counts", &[3, 1], &[2.0, 0.0, 3.0]),
        ("blk.0.attn_q.weight.counts", &[1, 1], &[4.4]),
        ("blk.0.attn_q.weight.in_sum2", &[1, 2], &[4.0, 1.0]),
        ("blk.0.attn_q.weight.in_sum", &[1, 2], &[9.0, 9.0]),
    ];
    let imatrix = read_bytes(gguf(&keys(), tensors)).expect("a file");
    assert_eq!(imatrix.datasets, ["a.txt", "b.txt"]);
    assert_eq!((imatrix.chunks, imatrix.chunk_size, imatrix.legacy), (10, Some(512), false));
    let slices = |name: &str, cols, matrices| -> Vec<Vec<f32>> {
        let importance = imatrix.of(name, cols, matrices).expect("fits").expect("is there");
        (0..matrices as usize).filter_map(|i| importance.matrix(i).map(<[f32]>::to_vec)).collect()
    };
    let experts = slices("blk.0.ffn_up_exps.weight", 2, 3);
    assert_eq!(experts, [[1.0, 2.0], [1.0, 1.0], [1.0, 2.0]], "the second expert saw nothing");
    assert_eq!(slices("blk.0.attn_q.weight", 2, 1), [[1.0, 0.25]]);
    assert_eq!(imatrix.entries["blk.0.attn_q.weight"].counts, [4.0], "counts are whole");
    assert_eq!(imatrix.of("blk.1.attn_q.weight", 2, 1).expect("no entry is no error"), None);
    let e = imatrix.of("blk.0.attn_q.weight", 4, 1).expect_err("another shape").to_string();
    assert!(e.contains("has 2 values for `blk.0.attn_q.weight`, expected 4"), "{e}");
}

#[test]
fn the_legacy_form_is_read() {
    let entries: &[(&str, i32, &[f32])] = &[("a.weight", 4, &[4.0, 1.0]), ("b.weight", 0, &[3.0]), ("c\0d", 1, &[1.0])];
    let bytes = legacy(3, entries);
    let bare = read_bytes(bytes.clone()).expect("a file");
    assert_eq!(*bare.entries["a.weight"], Entry { values: vec![1.0, 0.25], counts: vec![4.0] });
    assert_eq!(*bare.entries["b.weight"], Entry { values: vec![3.0], counts: vec![0.0] });
    assert!(bare.entries.contains_key("c"), "a name ends at its first zero");
    assert_eq!((bare.chunks, bare.chunk_size, bare.legacy), (0, None, true));
    let end = [&7i32.to_le_bytes()[..], &5i32.to_le_bytes(), b"a.txt"].concat();
    let whole = read_bytes([bytes.clone(), end.clone()].concat()).expect("a file");
    assert_eq!((whole.chunks, &whole.datasets[..]), (7, &["a.txt".to_owned()][..]));
    for cut in 0..end.len() {
        let cut = read_bytes([&bytes[..], &end[..cut]].concat()).expect("nothing depends on the end");
        assert_eq!((&cut.entries, cut.datasets.len()), (&bare.entries, 0));
    }
    for cut in 0..bytes.len() {
        assert!(read_bytes(bytes[..cut].to_vec()).is_err(), "{cut} bytes");
    }
}

#[test]
fn what_is_no_importance_matrix_is_refused_in_one_line() {
    fn check(bytes: Vec<u8>, part: &str) {
        let message = read_bytes(bytes).expect_err(part).to_string();
        assert!(message.starts_with("m.imatrix: ") && message.contains(part) && !message.contains('\n'), "{message}");
        assert!(!message.contains("m.imatrix: m.imatrix"), "{message}");
    }
    check(vec![], "the number of entries");
    check(vec![1, 0], "the number of entries");
    check(legacy(0, &[]), "claims 0 entries");
    check(legacy(-1, &[("a", 1, &[1.0])]), "claims -1 entries");
    check(legacy(i32::MAX, &[("a", 1, &[1.0])]), "claims 2147483647 entries at offset 0, and the file has room for 1");
    check(legacy(1, &[("a", 1, &[])]).into_iter().chain([0; 8]).collect(), "entry `a` at offset 4 has no values");
    let length = |n: i32| [&1i32.to_le_bytes()[..], &n.to_le_bytes(), &[0; 30]].concat();
    check(length(-1), "claim a length of -1");
    check(length(i32::MAX), "the name of entry 0 at offset 8 takes 2147483647 bytes");
    let values =
        |n: i32| [&1i32.to_le_bytes()[..], &1i32.to_le_bytes(), b"a", &[0; 4], &n.to_le_bytes(), &[0; 30]].concat();
    check(values(-7), "the values of entry `a`");
    check(values(i32::MAX), "the 2147483647 values of entry `a` at offset 17 takes 8589934588 bytes");
    check(b"\x10\0\0\0\0\0\0\0{\"a\":[1, 2, 3]}".to_vec(), "claims 16 entries");

    check(Raw::new(0, 0).0, "no key `imatrix.datasets`; it is a GGUF file of type `model`");
    check(Raw::new(0, 9).0, "claims 9 keys");
    check(gguf(&keys(), &[]), "holds no entry");
    check(gguf(&keys()[..3], &[]), "no key `imatrix.chunk_size`");
    let mut other = keys();
    other[1] = Pair::new("imatrix.datasets", 3u32);
    check(gguf(&other, &[]), "`imatrix.datasets` does not hold strings");
    other = keys();
    other[2] = Pair::new("imatrix.chunk_count", "ten");
    check(gguf(&other, &[]), "`imatrix.chunk_count` is string ten, expected u32");
    check(gguf(&keys(), &[("a.in_sum2", &[1], &[1.0])]), "entry `a` has no tensor `a.counts`");
    check(gguf(&keys(), &[("a.counts", &[1], &[1.0])]), "entry `a` has no tensor `a.in_sum2`");
    let uneven: &[(&str, &[u64], &[f32])] = &[("a.in_sum2", &[3], &[1.0; 3]), ("a.counts", &[2, 1], &[1.0; 2])];
    check(gguf(&keys(), uneven), "entry `a`: 3 sums cannot be shared by 2 counts");
}

proptest! {
    #[test]
    fn changed_files_never_hold_more_than_they_have(
        form in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 4]>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = if form {
            gguf(&keys(), &[("a.in_sum2", &[2, 3], &[1.0; 6]), ("a.counts", &[2, 1], &[3.0, 0.0])])
        } else {
            legacy(2, &[("a", 3, &[1.0; 6]), ("b", 1, &[2.0; 3])])
        };
        for (at, new) in changes {
            let at = at.index(bytes.len());
            for (byte, new) in bytes[at..].iter_mut().zip(new) {
                *byte = new;
            }
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let len = bytes.len();
        if let Ok(imatrix) = read_bytes(bytes) {
            let values: usize = imatrix.entries.values().map(|e| e.values.len() + e.counts.len()).sum();
            prop_assert!(values * 4 <= len);
        }
    }
}
