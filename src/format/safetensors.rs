//! The safetensors container: 8 bytes of header length, a JSON header, then the arrays.
//!
//! The reader accepts what the safetensors library accepts and refuses what it refuses, but names the tensor and
//! keeps the file's order; it also refuses a tensor that is named twice, which the library lets pass.
pub mod edit;

use std::borrow::Cow;
use std::fmt;

use hashbrown::HashSet;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::Blob;
use crate::core::dtype::{Storage, StorageExt};
use crate::core::model::{Span, Stored};
use crate::core::{Error, Result};

/// Longest header the safetensors library reads.
pub const MAX_HEADER: u64 = 100_000_000;
/// The header's key for metadata, which no tensor can have.
pub const METADATA: &str = "__metadata__";

/// What a header says.
#[derive(Debug, Default, PartialEq)]
pub struct Header {
    /// `__metadata__`, in file order.
    pub metadata: Vec<(String, String)>,
    /// The arrays, in file order; `span.file` is 0.
    pub arrays: Vec<Stored>,
}

/// Reads and checks the header of a file: arrays lie gaplessly in the data, and the file ends where they end.
pub fn read_header(blob: &Blob) -> Result<Header> {
    let place = blob.path().display().to_string();
    let fail = |what: String| Error::failed(format!("{place}: {what}"));
    let len = blob.len();
    if len < 8 {
        return Err(fail(format!(
            "{len} bytes are too few for a safetensors file, which starts with 8 bytes of header length"
        )));
    }
    let mut prefix = [0u8; 8];
    blob.read_at(0, &mut prefix)?;
    let n = u64::from_le_bytes(prefix);
    if n > MAX_HEADER {
        return Err(fail(format!(
            "header length {n} at offset 0 is over the limit of {MAX_HEADER}; this is not a safetensors file"
        )));
    }
    if n > len - 8 {
        return Err(fail(format!(
            "header length {n} at offset 0 reaches beyond the file's {len} bytes; the file is cut short"
        )));
    }
    let mut text = vec![0u8; n as usize];
    blob.read_at(8, &mut text)?;
    let halves = split(&text);
    let raw = match halves.as_ref().and_then(|(first, second)| RawHeader::of_halves(first, second)) {
        Some(raw) => raw,
        None => serde_json::from_slice(&text).map_err(|e| fail(format!("header is not valid: {e}")).because(e))?,
    };
    check(raw, n + 8, len).map_err(|e| e.at(&place))
}

/// Longer headers are parsed in two halves, side by side.
const LONG: usize = 1 << 20;

/// A long header as two objects, cut between two of its entries. Only a guess: a name may look like a cut. But then
/// neither half is an object.
fn split(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if text.len() < LONG {
        return None;
    }
    let at = text.len() / 2;
    let at = at + text.get(at..)?.windows(3).position(|w| w == b"},\"")?;
    let (first, second) = (text.get(..=at)?, text.get(at + 2..)?);
    Some(([first, b"}"].concat(), [b"{", second].concat()))
}

/// Proves what every later read relies on.
fn check(raw: RawHeader, data: u64, file_len: u64) -> Result<Header> {
    let mut header = Header { metadata: raw.metadata, arrays: Vec::with_capacity(raw.arrays.len()) };
    // Of one model most tensors have one dtype.
    let mut last: (Cow<str>, Option<Storage>) = (Cow::Borrowed(""), None);
    for (name, a) in raw.arrays {
        if last.0 != a.dtype {
            last = (a.dtype.clone(), <Storage as StorageExt>::parse(&a.dtype));
        }
        let storage = last.1.ok_or_else(|| {
            Error::failed(format!("tensor `{name}` has the dtype `{}`, which mixdown does not know", a.dtype))
        })?;
        let [start, end] = a.data_offsets;
        let expected =
            a.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).and_then(|n| storage.array_bytes(n)).ok_or_else(
                || Error::failed(format!("tensor `{name}` has a shape {:?} too large to exist", a.shape)),
            )?;
        if start > end || end - start != expected {
            return Err(Error::failed(format!(
                "tensor `{name}`: offsets {start}..{end} do not hold {} of shape {:?}, which takes {expected} bytes",
                storage.name(),
                a.shape
            )));
        }
        let span = Span { file: 0, offset: data.saturating_add(start), len: expected };
        header.arrays.push(Stored { name, storage, shape: a.shape, span });
    }
    if let Some(name) = named_twice(&header.arrays) {
        return Err(Error::failed(format!("tensor `{name}` is named twice")));
    }
    let mut order: Vec<&Stored> = header.arrays.iter().collect();
    order.sort_by_key(|s| (s.span.offset, s.span.len));
    let mut at = data;
    for s in order {
        if s.span.offset != at {
            let what = if s.span.offset < at { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return Err(Error::failed(format!(
                "tensor `{}` at offset {} {what} (expected {at})",
                s.name, s.span.offset
            )));
        }
        at = at.saturating_add(s.span.len);
    }
    if at > file_len {
        return Err(Error::failed(format!(
            "the file is cut short: its tensors end at {at}, the file at {file_len} ({} bytes are missing); download it again",
            at - file_len
        )));
    }
    if at < file_len {
        return Err(Error::failed(format!(
            "{} bytes follow the last tensor, which safetensors does not allow",
            file_len - at
        )));
    }
    Ok(header)
}

fn named_twice(arrays: &[Stored]) -> Option<&str> {
    let mut names = HashSet::with_capacity(arrays.len());
    arrays.iter().map(|s| s.name.as_str()).find(|name| !names.insert(*name))
}

#[derive(Deserialize)]
struct RawArray<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

#[derive(Default)]
struct RawHeader<'a> {
    metadata: Vec<(String, String)>,
    arrays: Vec<(String, RawArray<'a>)>,
}

impl<'a> RawHeader<'a> {
    /// The header that two objects are together, if they are.
    fn of_halves(first: &'a [u8], second: &'a [u8]) -> Option<Self> {
        let parse = |half| serde_json::from_slice::<Self>(half).ok();
        let (first, second) = rayon::join(|| parse(first), || parse(second));
        let (mut raw, mut rest) = (first?, second?);
        raw.arrays.append(&mut rest.arrays);
        match (raw.metadata.is_empty(), rest.metadata.is_empty()) {
            (_, true) => Some(raw),
            (true, false) => Some(Self { metadata: rest.metadata, ..raw }),
            // Given twice: the whole says so.
            (false, false) => None,
        }
    }
}

impl<'de> Deserialize<'de> for RawHeader<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader<'de>, A::Error> {
                let mut header = RawHeader::default();
                let mut described = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        if std::mem::replace(&mut described, true) {
                            return Err(A::Error::custom(format!("`{METADATA}` is named twice")));
                        }
                        header.metadata = map.next_value::<Pairs>()?.0;
                    } else {
                        header.arrays.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A JSON object of strings, in order.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Strings)
    }
}

/// One array of a header to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub storage: Storage,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its offset within the data.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
}

/// The bytes before the data: length, JSON, and spaces up to a multiple of 8, as the library writes them.
pub fn write_header(metadata: &[(String, String)], entries: &[Entry]) -> Vec<u8> {
    // Written as a stream: a model of 200,000 tensors has a header of 30 MB, which need not exist twice.
    let mut out = vec![0; 8];
    let mut first = true;
    let mut key = |out: &mut Vec<u8>, key: &str| {
        out.push(if std::mem::take(&mut first) { b'{' } else { b',' });
        quote(out, key);
        out.push(b':');
    };
    if !metadata.is_empty() {
        key(&mut out, METADATA);
        for (i, (k, v)) in metadata.iter().enumerate() {
            out.push(if i == 0 { b'{' } else { b',' });
            quote(&mut out, k);
            out.push(b':');
            quote(&mut out, v);
        }
        out.push(b'}');
    }
    for e in entries {
        key(&mut out, &e.name);
        let shape: Vec<String> = e.shape.iter().map(ToString::to_string).collect();
        let (start, end) = (e.offset, e.offset + e.len);
        let text = format!(
            "{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{start},{end}]}}",
            e.storage.name(),
            shape.join(",")
        );
        out.extend_from_slice(text.as_bytes());
    }
    if first {
        out.push(b'{');
    }
    out.push(b'}');
    out.resize(out.len().next_multiple_of(8), b' ');
    let len = out.len() as u64 - 8;
    out[..8].copy_from_slice(&len.to_le_bytes());
    out
}

/// A JSON string. Serializing text cannot fail.
fn quote(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn read(bytes: Vec<u8>) -> Result<Header> {
        read_header(&Blob::Memory { name: "m.safetensors", bytes: bytes.into() })
    }

    #[test]
    fn a_header_is_read_in_its_order() {
        let bytes = file(
            r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"z":{"dtype":"I8","shape":[1],"data_offsets":[1,2]}}"#,
            10,
        );
        let header = read(bytes).expect("a valid file");
        assert_eq!(header.metadata, [("format".to_owned(), "pt".to_owned())]);
        assert_eq!(header.arrays.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["b", "a", "z"]);
        assert_eq!(header.arrays[0].storage, Storage::F32);
    }

    #[test]
    fn broken_files_are_refused_in_one_line() {
        fn check(bytes: Vec<u8>, part: &str) {
            let message = read(bytes).expect_err(part).to_string();
            assert!(message.contains(part) && message.starts_with("m.safetensors: "), "{message}");
            assert!(!message.contains('\n'));
        }
        check(vec![1, 2, 3], "too few");
        check((1u64 << 63).to_le_bytes().to_vec(), "header length 9223372036854775808");
        check(file("{}", 0)[..9].to_vec(), "beyond the file");
        check(file("[1]", 0), "header is not valid");
        check(file(r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4), "`F99`");
        check(file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,3]}}"#, 3), "takes 4 bytes");
        check(file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4), "offsets 4..0");
        check(file(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#, 4), "too large");
        check(file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 2), "2 bytes are missing");
        check(file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5), "1 bytes follow");
        check(
            file(
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                6,
            ),
            "overlaps",
        );
        check(file(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}"#, 5), "gap");
        check(
            file(
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                1,
            ),
            "named twice",
        );
        check(
            file(r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#, 1),
            "too large",
        );
    }

    #[test]
    fn a_long_header_is_read_as_a_short_one() {
        // Enough to be parsed in halves, and names that look like the cut between two entries.
        fn check(name: impl Fn(usize) -> String, more: &str, expected: Result<usize, &str>) {
            let entries: Vec<Entry> = (0..LONG / 64)
                .map(|i| Entry { name: name(i), storage: Storage::U8, shape: vec![1], offset: i as u64, len: 1 })
                .collect();
            let bytes = write_header(&[("format".into(), "pt".into())], &entries);
            let mut text = String::from_utf8(bytes[8..].to_vec()).expect("text");
            text = format!("{}{more}}}", text.trim_end().trim_end_matches('}').to_owned() + "}");
            assert!(text.len() > LONG);
            let header = read(file(&text, entries.len()));
            match (header, expected) {
                (Ok(header), Ok(n)) => {
                    assert_eq!(header.arrays.len(), n);
                    assert_eq!(header.metadata, [("format".to_owned(), "pt".to_owned())]);
                    assert!(header.arrays.iter().zip(&entries).all(|(a, e)| a.name == e.name));
                }
                (Err(e), Err(part)) => assert!(e.to_string().contains(part), "{e}"),
                (other, expected) => panic!("{other:?}, not {expected:?}"),
            }
        }
        let n = LONG / 64;
        check(|i| format!("blocks.{i}.weight"), "", Ok(n));
        check(|i| format!("a long name, {i}}},"), "", Ok(n));
        check(
            |i| format!("a long name, {i}"),
            r#","a long name, 0":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#,
            Err("named twice"),
        );
        check(|i| format!("a long name, {i}"), r#","__metadata__":{"a":"b"}"#, Err("named twice"));
    }

    #[test]
    fn what_is_written_is_read_by_the_library() {
        let entries = [
            Entry { name: "a".into(), storage: Storage::F32, shape: vec![2, 1], offset: 0, len: 8 },
            Entry { name: "b".into(), storage: Storage::U8, shape: vec![3], offset: 8, len: 3 },
        ];
        let mut bytes = write_header(&[("format".into(), "pt".into())], &entries);
        assert_eq!(bytes.len() % 8, 0);
        bytes.extend([0; 11]);
        let theirs = safetensors::SafeTensors::deserialize(&bytes).expect("the library reads it");
        assert_eq!(theirs.tensor("b").expect("b").shape(), [3]);
        assert_eq!(read(bytes).expect("and so do we").arrays.len(), 2);
    }
}
