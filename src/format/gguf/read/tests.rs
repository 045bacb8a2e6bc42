//! What is read, what is refused, and with which words.
use proptest::prelude::*;

use super::super::testing::Raw;
use super::super::value::Item;
use super::super::write::{self, Entry, Limits};
use super::super::{Kind, Pair, Type, Value};
use super::*;

/// What a header keeps of a file.
fn kept(header: &Header) -> usize {
    let keys: usize = header.keys.iter().map(|p| p.key.len() + p.value.raw().len()).sum();
    keys + header.tensors.iter().map(|t| t.name.len() + t.dims.len() * 8).sum::<usize>()
}

#[test]
fn a_header_is_read_in_its_order() {
    let raw = Raw::new(2, 4)
        .key("general.architecture", 8, &Raw::default().string("llama").0)
        .alignment(64)
        .array("scores", 6, 2)
        .with(&1.5f32.to_le_bytes())
        .with(&(-2f32).to_le_bytes())
        .key("flag", 7, &[1])
        .info("b", &[32, 2], 8, 0)
        .info("a", &[3], 0, 128);
    let data = raw.0.len().next_multiple_of(64) as u64;
    let mut raw = raw;
    raw.0.resize(data as usize + 192, 0);
    let header = raw.read().expect("a valid file");
    assert_eq!((header.version, header.alignment, header.data), (3, 64, data));
    let shown = header.shown();
    let shown: Vec<_> = shown.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        shown,
        [("general.architecture", "llama"), ("general.alignment", "64"), ("scores", "[1.5, -2]"), ("flag", "true")]
    );
    let tensors: Vec<_> =
        header.tensors.iter().map(|t| (&*t.name, t.shape(), t.kind.name(), t.offset, t.bytes)).collect();
    assert_eq!(tensors, [(&b"b"[..], vec![2, 32], "Q8_0", 0, 68), (&b"a"[..], vec![3], "F32", 128, 12)]);
    assert_eq!(header.warnings, Vec::<String>::new());
    assert_eq!(header.get("flag"), Some(&Value::from(true)));
    assert_eq!(header.get("flags"), None);
}

/// Written by the gguf package 0.19.0 for Python, with every kind of key that it writes.
const PYTHON: &[u8] = include_bytes!("../../../../tests/data/gguf/python.gguf");

#[test]
fn what_the_python_library_writes_is_read() {
    let header = Raw(PYTHON.to_vec()).read().expect("a valid file");
    let shown: Vec<String> = header.keys.iter().map(|p| format!("{} = {:?}", p.name(), p.value)).collect();
    assert_eq!(
        shown,
        [
            "general.architecture = string test",
            "k.u8 = u8 200",
            "k.i8 = i8 -100",
            "k.u16 = u16 60000",
            "k.i16 = i16 -30000",
            "k.u32 = u32 4000000000",
            "k.i32 = i32 -2000000000",
            "k.u64 = u64 18446744073709551615",
            "k.i64 = i64 -9223372036854775808",
            "k.f32 = f32 0.1",
            "k.f64 = f64 0.1",
            "k.bool = bool true",
            "k.string = string naïve 重み",
            r#"k.strings = array of string ["a", "bc", ""]"#,
            "k.ints = array of i32 [1, -2, 3]",
            "k.floats = array of f32 [0.5, -1]",
            "k.bools = array of bool [true, false]",
            "k.bytes = array of u8 [0, 255]",
            "general.alignment = u32 64",
        ]
    );
    let tensors: Vec<_> =
        header.tensors.iter().map(|t| (&*t.name, t.shape(), t.kind.name(), t.offset, t.bytes)).collect();
    assert_eq!(
        tensors,
        [
            (&b"plain"[..], vec![2, 3], "F32", 0, 24),
            (b"half", vec![4], "F16", 64, 8),
            (b"blocks", vec![2, 32], "Q8_0", 128, 68),
            (b"ints", vec![1, 1, 1], "I64", 256, 8),
        ]
    );
    let at = |t: &Info| (header.data + t.offset) as usize;
    let blocks = &header.tensors[2];
    assert_eq!(PYTHON[at(blocks)..][..68], (0..68).collect::<Vec<u8>>());

    // And written again, byte for byte.
    let entry = |t: &Info| Entry { name: t.name.clone(), dims: t.dims.to_vec(), kind: t.kind };
    let entries: Vec<Entry> = header.tensors.iter().map(entry).collect();
    let places = write::places(&header.keys, &entries, Limits::GGML).expect("a layout");
    assert_eq!(write::write_header(&header.keys, &entries, &places), PYTHON[..header.data as usize]);
    assert_eq!(places.total, PYTHON.len() as u64);
}

#[test]
fn everything_that_ggml_takes_is_taken() {
    fn check(what: &str, raw: Raw) {
        let header = raw.read().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(header.warnings, Vec::<String>::new(), "{what}");
    }
    check("nothing at all", Raw::new(0, 0));
    check("version 2", Raw::of_version(2, 1, 0).info("a", &[2], 0, 0).data(8));
    check("keys alone, not padded", Raw::new(0, 1).key("k", 0, &[1]));
    check("no dimensions", Raw::new(1, 0).info("a", &[], 0, 0).data(4));
    check("a dimension of 0", Raw::new(2, 0).info("a", &[0, 5], 12, 0).info("b", &[1], 24, 0).data(1));
    check("0 times what would be too many", Raw::new(1, 0).info("a", &[0, i64::MAX, i64::MAX], 0, 0).data(0));
    check("no name", Raw::new(1, 0).info("", &[1], 24, 0).data(1));
    check("the longest name", Raw::new(1, 0).info("n".repeat(63), &[1], 24, 0).data(1));
    check("a last tensor that is not padded", Raw::new(1, 0).info("a", &[1], 24, 0).data(1));
    check("bytes after the last tensor", Raw::new(1, 0).info("a", &[1], 24, 0).data(1000));
    check("alignment 1", {
        let raw = Raw::new(2, 1).alignment(1).info("a", &[3], 24, 0).info("b", &[2], 24, 3);
        raw.with(&[1; 5])
    });
    check(
        "odd strings",
        Raw::new(0, 2).key(b"\xff\0k", 8, &Raw::default().string(b"\0\xfe").0).array("e", 8, 1).string(""),
    );
    check("empty arrays", Raw::new(0, 2).array("a", 8, 0).array("b", 12, 0));
    check("a truth of 7", Raw::new(0, 1).key("b", 7, &[7]));
    for t in Type::ALL.iter().copied() {
        let data = t.bytes() as usize;
        check(t.name(), Raw::new(1, 0).info("a", &[t.block() as i64], t.id(), 0).data(data));
    }
}

#[test]
fn what_other_programs_need_is_taken_with_a_warning() {
    fn check(raw: Raw, part: &str) {
        let warnings = raw.read().expect(part).warnings;
        assert!(matches!(&warnings[..], [one] if one.contains(part)), "{warnings:?} {part}");
    }
    check(Raw::new(1, 0).info("n".repeat(64), &[1], 24, 0).data(1), "a name longer than 63 bytes");
    check(Raw::new(1, 0).info("n".repeat(127), &[1], 24, 0).data(1), "a name longer than 63 bytes");
    check(Raw::new(1, 0).info("patch", &[1, 2, 2, 3, 1], 0, 0).data(48), "`patch` has more than 4 dimensions");
    let arch = |keys| Raw::new(1, keys).key("general.architecture", 8, &Raw::default().string("wan").0);
    let deep = |raw: Raw| raw.info("patch", &[1, 2, 2, 3, 1], 0, 0).data(48);
    check(deep(arch(2).key("wan.block_count", 4, &[1, 0, 0, 0])), "`patch` has more than 4 dimensions");
    assert_eq!(deep(arch(1)).read().expect("a diffusion model").warnings, Vec::<String>::new());
    check(Raw::new(2, 0).info("a", &[1], 24, 0).info("b", &[1], 24, 64).data(65), "`b` has another offset");
    check(Raw::new(2, 0).info("a", &[1], 24, 32).info("b", &[1], 24, 0).data(64), "2 tensors, `a` first, have another");
    check(Raw::new(2, 0).info("a", &[64], 24, 0).info("b", &[64], 24, 32).data(96), "`b` has another offset");
    check(Raw::new(1, 0).info(b"a\0b", &[1], 24, 0).data(1), "a name that is not text");
    check(Raw::new(1, 0).info(b"\xff", &[1], 24, 0).data(1), "a name that is not text");
}

#[test]
fn broken_files_are_refused_in_one_line_that_says_where() {
    fn check(raw: Raw, parts: &[&str]) {
        let message = raw.read().expect_err(parts[0]).to_string();
        assert!(message.starts_with("m.gguf: ") && !message.contains('\n'), "{message}");
        for part in parts {
            assert!(message.contains(part), "{message}: {part}");
        }
    }
    let text = |bytes: &[u8]| Raw(bytes.to_vec());
    check(text(b""), &["the magic number at offset 0", "ends after 0"]);
    check(text(b"GGU"), &["the magic number", "takes 4 bytes"]);
    check(text(b"GGML\x01\0\0\0"), &["starts with GGML", "expected `GGUF` at offset 0"]);
    check(text(b"FUGG\x03\0\0\0"), &["starts with FUGG"]);
    check(Raw::of_version(0, 0, 0), &["version 0 at offset 4", "expected 2 or 3"]);
    check(Raw::of_version(1, 0, 0), &["version 1 at offset 4"]);
    check(Raw::of_version(4, 0, 0), &["version 4"]);
    check(Raw::of_version(3u32.swap_bytes(), 0, 0), &["0x03000000", "big-endian"]);

    // Counts.
    check(Raw::new(0, i64::MAX), &["claims 9223372036854775807 keys at offset 16", "room for 0"]);
    check(Raw::new(0, -1), &["claims -1 keys"]);
    check(Raw::new(0, 2).key("k", 0, &[1]), &["claims 2 keys", "room for 1"]);
    check(Raw::new(i64::MIN, 0), &["claims -9223372036854775808 tensors at offset 8"]);
    check(Raw::new(1 << 40, 0), &["claims 1099511627776 tensors"]);
    check(Raw::new(0, 2).key("k", 0, &[1]).with(&[0; 14]), &["key 1 at offset 38 is 0 bytes long"]);

    // Keys.
    check(Raw::new(0, 1).u64(u64::MAX).with(&[0; 40]), &["key 0 at offset 24 is 18446744073709551615 bytes"]);
    check(Raw::new(0, 1).key("k".repeat(65_536), 0, &[1]), &["65536 bytes long, expected 1 to 65535"]);
    check(Raw::new(0, 1).u64(50).with(&[b'k'; 40]), &["key 0 at offset 32 takes 50 bytes", "ends after 40"]);
    check(Raw::new(0, 2).key("k", 0, &[1]).key("k", 0, &[1]), &["key `k` at offset 38 is there twice"]);
    check(Raw::new(0, 1).key("k", 13, &[0; 8]), &["key `k` has the value type 13 at offset 33", "expected 0 to 12"]);
    check(Raw::new(0, 1).key("k", -1, &[0; 8]), &["value type -1"]);
    check(Raw::new(0, 1).key("k", 10, &[0; 7]), &["the value of key `k` at offset 37 takes 8 bytes"]);

    // Strings.
    check(Raw::new(0, 1).key("k", 8, &[0xff; 8]), &["string 0 of key `k` claims 18446744073709551615 bytes"]);
    check(Raw::new(0, 1).key("k", 8, &(1u64 << 30).to_le_bytes()), &["string 0 of key `k`", "takes 1073741824 bytes"]);
    check(Raw::new(0, 1).key("k", 8, &((1u64 << 30) + 1).to_le_bytes()), &["expected at most 1073741824"]);
    check(Raw::new(0, 1).key("k", 8, &Raw::default().u64(6).with(b"short").0), &["takes 6 bytes", "after 5"]);

    // Arrays.
    check(Raw::new(0, 1).array("k", 0, u64::MAX), &["claims 18446744073709551615 elements of u8", "offset 41"]);
    check(Raw::new(0, 1).array("k", 10, 1 << 61), &["elements of u64"]);
    check(
        Raw::new(0, 1).array("k", 8, 1 << 30).with(&[0; 100]),
        &["claims 1073741824 elements of string", "100 bytes"],
    );
    check(Raw::new(0, 1).array("k", 8, 2).string("x").with(&[0; 7]), &["the length of string 1 of key `k`"]);
    check(Raw::new(0, 1).array("k", 9, 1).with(&[0; 40]), &["arrays of arrays at offset 37"]);
    check(Raw::new(0, 1).array("k", 77, 1).with(&[0; 40]), &["element type 77"]);

    // Alignment.
    let of = |kind: i32, value: &[u8]| Raw::new(0, 1).key("general.alignment", kind, value);
    check(of(4, &0u32.to_le_bytes()), &["`general.alignment` is 0, expected a power of two"]);
    check(of(4, &48u32.to_le_bytes()), &["is 48, expected a power of two"]);
    check(of(10, &32u64.to_le_bytes()), &["is u64, expected u32"]);
    check(of(5, &32i32.to_le_bytes()), &["is i32, expected u32"]);
    check(of(8, &Raw::default().string("32").0), &["is string, expected u32"]);
    check(Raw::new(0, 1).array("general.alignment", 4, 1).with(&32u32.to_le_bytes()), &["is array of u32"]);
    check(Raw::new(1, 1).alignment(1 << 31).info("a", &[0], 0, 0), &["before its data", "alignment is 2147483648"]);

    // Tensors.
    let one = |dims: &[i64], kind: i32, offset: u64| Raw::new(1, 0).info("a", dims, kind, offset).data(64);
    check(
        Raw::new(1, 0).info("n".repeat(128), &[1], 24, 0).data(1),
        &["the name of tensor 0", "128 bytes", "most 127"],
    );
    check(Raw::new(2, 0).info("a", &[1], 24, 0).info("a", &[1], 24, 32).data(64), &["tensor `a` at offset", "twice"]);
    check(one(&[1; 9], 24, 0), &["tensor `a` at offset 33: 9 dimensions"]);
    check(Raw::new(1, 0).string("a").with(&u32::MAX.to_le_bytes()).with(&[0; 64]), &["4294967295 dimensions"]);
    check(one(&[4, -1], 24, 0), &["dimension -1, expected 0 or more"]);
    check(one(&[i64::MAX, 2], 24, 0), &["more elements than can exist"]);
    check(one(&[1 << 32, 1 << 32], 24, 0), &["more elements"]);
    check(one(&[1 << 62, 4, 0], 24, 0), &["more elements"]);
    check(one(&[1 << 62], 28, 0), &["more bytes than can exist"]);
    check(one(&[1 << 62], 0, 0), &["more bytes"]);
    check(one(&[i64::MAX], 1, 0), &["tensor `a` ends beyond what a file can hold"]);
    check(one(&[1], 24, u64::MAX), &["ends beyond"]);
    check(one(&[1], 24, u64::MAX - 40), &["ends beyond"]);
    check(one(&[48], 2, 0), &["rows of 48 elements, expected a multiple of 32 for Q4_0"]);
    check(one(&[], 12, 0), &["rows of 1 elements, expected a multiple of 256 for Q4_K"]);
    for id in [4, 5, 31, 36, 43, 100, 101, -1] {
        check(one(&[32], id, 0), &[&format!("type {id}, which ggml does not have")]);
    }
    check(one(&[65], 24, 0), &["tensor `a` lies at 64..129, and the file ends at 128", "1 B are missing"]);
    check(one(&[1 << 40], 24, 0), &["are missing"]);
    check(one(&[1], 24, 64), &["lies at 128..129"]);
    check(Raw::new(1, 0).info("a", &[0], 0, 0), &["ends at 57, before its data"]);
    let half = i64::MAX / 2;
    check(
        Raw::new(3, 0).info("a", &[half], 1, 0).info("b", &[half], 1, 0).info("c", &[half], 1, 0).data(0),
        &["are missing"],
    );
}

#[test]
fn no_prefix_of_a_file_is_a_file() {
    let raw = Raw::new(2, 3)
        .key("general.architecture", 8, &Raw::default().string("llama").0)
        .array("tokens", 8, 2)
        .string("a")
        .string("bc")
        .key("n", 11, &[1; 8])
        .info("a", &[32, 2], 8, 0)
        .info("b", &[3], 0, 96)
        .data(108);
    raw.read().expect("the whole is one");
    for n in 0..raw.0.len() {
        assert!(Raw(raw.0[..n].to_vec()).read().is_err(), "{n} bytes");
    }
}

#[test]
fn large_vocabularies_are_one_block() {
    let words: Vec<String> = (0..60_000).map(|i| format!("token number {i}")).collect();
    let keys = [Pair::new("tokens", Value::strings(&words)), Pair::new("after", 7u8)];
    let places = write::places(&keys, &[], Limits::GGML).expect("a layout");
    let raw = Raw(write::write_header(&keys, &[], &places));
    assert!(raw.0.len() as u64 > 4 * crate::format::cursor::CHUNK, "more than is read at a time");
    let header = raw.read().expect("a file");
    assert_eq!(header.keys, keys);
    let read: Vec<&[u8]> = header.keys[0]
        .value
        .items()
        .map(|i| match i {
            Item::String(s) => s,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(read.len(), words.len());
    assert!(read.iter().zip(&words).all(|(a, b)| *a == b.as_bytes()));
}

/// Elements of any kind, as they may lie in a file.
fn value() -> impl Strategy<Value = Value> {
    let kind = (0..12i32).prop_map(|i| Kind::by_id(if i < 9 { i } else { i + 1 }).expect("a kind"));
    let count = prop_oneof![Just(None), (0..5u64).prop_map(Some)];
    (kind, count, prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 5)).prop_map(
        |(kind, count, bytes)| {
            let mut raw = Vec::new();
            for text in bytes.iter().take(count.unwrap_or(1) as usize) {
                match kind.bytes() {
                    Some(n) => raw.extend(text.iter().copied().chain(std::iter::repeat(9)).take(n as usize)),
                    None => super::super::value::push_string(&mut raw, text),
                }
            }
            Value::of_raw(kind, count, raw.into())
        },
    )
}

fn keys() -> impl Strategy<Value = Vec<Pair>> {
    let key = prop::collection::vec(any::<u8>(), 1..20);
    let pairs = prop::collection::btree_map(key, value(), 0..6);
    let alignment = prop::option::of((0..12u32).prop_map(|n| 1u32 << n));
    (pairs, alignment).prop_map(|(pairs, alignment)| {
        let own = alignment.map(|n| Pair::new(super::super::ALIGNMENT, n));
        pairs.into_iter().map(|(key, value)| Pair { key: key.into(), value }).chain(own).collect()
    })
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let kind = prop::sample::select(Type::ALL.to_vec());
    let shape = (0..3u64, prop::collection::vec(0..4u64, 0..3));
    prop::collection::btree_map("[a-z.]{1,12}", (kind, shape), 0..6).prop_map(|all| {
        let entry = |(name, (kind, (blocks, rest))): (String, (Type, (u64, Vec<u64>)))| Entry {
            name: name.as_bytes().into(),
            dims: std::iter::once(blocks * kind.block()).chain(rest).collect(),
            kind,
        };
        all.into_iter().map(entry).collect()
    })
}

/// A whole file, its data zeros.
fn file() -> impl Strategy<Value = (Vec<Pair>, Vec<Entry>, Raw)> {
    (keys(), entries()).prop_map(|(keys, entries)| {
        let places = write::places(&keys, &entries, Limits::GGML).expect("a layout");
        let mut bytes = write::write_header(&keys, &entries, &places);
        bytes.resize(places.total as usize, 0);
        (keys, entries, Raw(bytes))
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_written_again_unchanged((keys, entries, raw) in file()) {
        let header = raw.read().expect("what is written is valid");
        prop_assert_eq!(&header.keys, &keys);
        prop_assert_eq!(&header.warnings, &Vec::<String>::new());
        let again: Vec<Entry> =
            header.tensors.iter().map(|t| Entry { name: t.name.clone(), dims: t.dims.to_vec(), kind: t.kind }).collect();
        prop_assert_eq!(&again, &entries);
        let places = write::places(&header.keys, &again, Limits::GGML).expect("a layout");
        prop_assert_eq!(places.header, header.data);
        prop_assert_eq!(places.total, raw.0.len() as u64);
        let offsets: Vec<u64> = header.tensors.iter().map(|t| t.offset).collect();
        prop_assert_eq!(&places.offsets, &offsets);
        prop_assert_eq!(write::write_header(&header.keys, &again, &places), &raw.0[..header.data as usize]);
        for pair in &header.keys {
            prop_assert_eq!(pair.value.items().count() as u64, pair.value.count());
        }
    }

    #[test]
    fn changed_files_are_refused_or_read_within_their_bounds(
        (_, _, mut raw) in file(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 8]>(), 1..=8usize), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (at, bytes, n) in changes {
            let at = at.index(raw.0.len());
            for (byte, new) in raw.0[at..].iter_mut().zip(&bytes[..n]) {
                *byte = *new;
            }
        }
        if let Some(cut) = cut {
            let n = cut.index(raw.0.len());
            raw.0.truncate(n);
        }
        if let Ok(header) = raw.read() {
            prop_assert!(kept(&header) <= raw.0.len(), "keeps more than it read");
            for t in &header.tensors {
                prop_assert!(t.bytes == 0 || header.data + t.offset + t.bytes <= raw.0.len() as u64);
            }
            for pair in &header.keys {
                prop_assert_eq!(pair.value.items().count() as u64, pair.value.count());
                prop_assert!(pair.value.shown().len() <= 8 * pair.value.raw().len() + 1000);
            }
        }
    }
}
