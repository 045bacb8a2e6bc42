//! Names, plans, and sets of files that do not belong together.
use super::super::testing::Raw;
use super::super::write::{Entry, Limits, places, write_header};
use super::super::{Type, Value};
use super::*;

#[test]
fn names() {
    fn check(file: &str, parsed: Option<(&str, usize, usize)>) {
        assert_eq!(parse_name(file), parsed, "{file}");
    }
    assert_eq!(name("a/b", 0, 3), "a/b-00001-of-00003.gguf");
    check("m-00001-of-00003.gguf", Some(("m", 0, 3)));
    check("m-q4-00012-of-00012.gguf", Some(("m-q4", 11, 12)));
    check("-00001-of-00001.gguf", Some(("", 0, 1)));
    check("m-100000-of-100000.gguf", Some(("m", 99_999, 100_000)));
    check("m.gguf", None);
    check("m-00000-of-00003.gguf", None);
    check("m-00004-of-00003.gguf", None);
    check("m-1-of-3.gguf", None);
    check("m-000001-of-000003.gguf", None);
    check("m-0000a-of-00003.gguf", None);
    check("m-+0001-of-00003.gguf", None);
    check("m-00001-of-00003.safetensors", None);
    check("m-99999999999999999999999-of-99999999999999999999999.gguf", None);
}

#[test]
fn plans() {
    fn check(padded: &[u64], max: Option<u64>, most: Option<usize>, files: &[(usize, usize)]) {
        let planned: Vec<_> = plan(padded, max, most).into_iter().map(|r| (r.start, r.end)).collect();
        assert_eq!(planned, files, "{padded:?} {max:?} {most:?}");
    }
    check(&[], Some(1), None, &[(0, 0)]);
    check(&[5, 5, 5], None, None, &[(0, 3)]);
    check(&[5, 5, 5], Some(10), None, &[(0, 2), (2, 3)]);
    check(&[5, 5, 5], Some(9), None, &[(0, 1), (1, 2), (2, 3)]);
    check(&[50, 1, 50], Some(10), None, &[(0, 1), (1, 2), (2, 3)]);
    check(&[0, 50], Some(10), None, &[(0, 1), (1, 2)]);
    check(&[1, 1, 1], Some(10), Some(2), &[(0, 2), (2, 3)]);
    check(&[u64::MAX, u64::MAX], Some(u64::MAX), None, &[(0, 2)]);
}

#[test]
fn only_the_first_file_has_the_keys() {
    let source = [Pair::new("a", 1u8), Pair::new("split.count", 9u16), Pair::new("b", 2u8)];
    let shown = |no| -> Vec<String> {
        let keys = keys(&source, no, 3, 7).expect("few enough");
        keys.iter().map(|p| format!("{} {:?}", p.name(), p.value)).collect()
    };
    assert_eq!(shown(0), ["a u8 1", "b u8 2", "split.no u16 0", "split.count u16 3", "split.tensors.count i32 7"]);
    assert_eq!(shown(2), ["split.no u16 2", "split.count u16 3", "split.tensors.count i32 7"]);
    assert!(keys(&source, 70_000, 70_001, 7).is_err());
}

/// A folder with files of those names, split keys and tensors.
fn folder(files: &[(&str, &[Pair], &[&str])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (file, keys, tensors) in files {
        let kind = Type::by_name("I8").expect("a type");
        let entries: Vec<Entry> = tensors.iter().map(|t| Entry::new(t, &[1], kind)).collect();
        let places = places(keys, &entries, Limits::GGML).expect("a layout");
        let mut bytes = write_header(keys, &entries, &places);
        bytes.resize(places.total as usize, 0);
        std::fs::write(dir.path().join(file), bytes).expect("written");
    }
    dir
}

#[test]
fn files_of_a_model_are_found_and_checked() {
    fn check(files: &[(&str, &[Pair], &[&str])], open_file: &str, expected: Result<usize, &str>) {
        let dir = folder(files);
        let found = open(&dir.path().join(open_file));
        match (found, expected) {
            (Ok(set), Ok(n)) => assert_eq!(set.files.len(), n, "{open_file}"),
            (Err(e), Err(part)) => assert!(e.to_string().contains(part), "{e}: {part}"),
            (found, expected) => panic!("{open_file}: {:?}, expected {expected:?}", found.map(|s| s.files.len())),
        }
    }
    let of = |no, count, tensors| keys(&[], no, count, tensors).expect("few enough");
    let (a, b) = (of(0, 2, 3), of(1, 2, 3));
    let (first, second) = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf");
    let both: &[(&str, &[Pair], &[&str])] = &[(first, &a, &["x", "y"]), (second, &b, &["z"])];
    check(both, first, Ok(2));
    check(both, second, Err("is file 2 of 2; open the first, m-00001-of-00002.gguf"));
    check(&both[..1], first, Err("m-00002-of-00002.gguf, is missing"));
    check(&[(first, &a, &["x"]), both[1]], first, Err("`split.tensors.count` is 3, and the 2 files hold 2"));
    check(&[both[0], (second, &a, &["z"])], first, Err("`split.no` is 0, expected 1 by its name"));
    check(&[both[0], (second, &[], &["z"])], first, Err("`split.no` is missing, expected 1"));
    check(&[both[0], (second, &of(1, 3, 3), &["z"])], first, Err("`split.count` differs"));
    check(&[("renamed.gguf", &a, &["x"])], "renamed.gguf", Err("expected a name that ends in -00001-of-00002.gguf"));
    check(&[("m-00001-of-00009.gguf", &a, &["x"])], "m-00001-of-00009.gguf", Err("expected a name"));
    let text = [Pair::new("split.count", "2")];
    check(&[("m.gguf", &text, &[])], "m.gguf", Err("`split.count` is string, expected a number"));
    // What merging leaves behind is one file.
    let merged = [Pair::new(NO, 0u16), Pair::new(COUNT, 0u16), Pair::new(TENSORS, 3i32)];
    check(&[("m.gguf", &merged, &["x"])], "m.gguf", Ok(1));
}

#[test]
fn a_tensor_is_in_one_file_only() {
    let of = |no| keys(&[], no, 2, 2).expect("few enough");
    let dir = folder(&[("m-00001-of-00002.gguf", &of(0), &["x"]), ("m-00002-of-00002.gguf", &of(1), &["x"])]);
    let path = dir.path().join("m-00001-of-00002.gguf");
    let e = crate::format::open(&path.display().to_string(), &Default::default()).expect_err("twice").to_string();
    assert!(e.contains("tensor `x` is also in"), "{e}");
}

#[test]
fn a_folder_with_one_model_is_that_model() {
    let of = |no| keys(&[Pair::new("general.architecture", "llama")], no, 2, 3).expect("few enough");
    let dir =
        folder(&[("m-00001-of-00002.gguf", &of(0), &["x.10", "x.9"]), ("m-00002-of-00002.gguf", &of(1), &["x.2"])]);
    let open = || crate::format::open(&dir.path().display().to_string(), &Default::default());
    let opened = open().expect("one model");
    assert_eq!((opened.model.format.as_str(), opened.blobs.len(), opened.gguf.len()), ("gguf", 2, 2));
    let names: Vec<&str> = opened.model.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["x.2", "x.9", "x.10"]);
    assert_eq!(opened.gguf[0].get("general.architecture"), Some(&Value::from("llama")));
    assert_eq!(opened.model.metadata()["general.architecture"], "llama");

    std::fs::write(dir.path().join("other.gguf"), Raw::new(0, 0).0).expect("written");
    let e = open().expect_err("two models").to_string();
    assert!(e.contains("several GGUF models (m-00001-of-00002.gguf, other.gguf)"), "{e}");
}

#[test]
fn a_file_is_known_by_its_first_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("weights.bin");
    std::fs::write(&path, Raw::new(1, 0).info("a", &[2, 3], 0, 0).data(24).0).expect("written");
    let opened = crate::format::open(&path.display().to_string(), &Default::default()).expect("a GGUF file");
    assert_eq!(opened.model.tensors[0].shape, [3, 2]);
}
