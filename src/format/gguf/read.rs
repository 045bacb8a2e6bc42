//! Reading a header. No length in it is believed: each is held against what the file still has before anything is
//! read or reserved, and what is kept is never more than what was read.
use std::collections::{BTreeMap, HashSet};

use super::types::Type;
use super::value::{Item, Kind, Pair, Value};
use super::{MAGIC, MAX_DIMS, MAX_KEY, MAX_LONG_NAME, MAX_MANY_DIMS, MAX_NAME, VERSION};
use crate::core::{Error, Result, units};
use crate::format::Blob;
use crate::format::cursor::Cursor;

/// Longest string, and most elements of an array: ggml's own limits.
const MAX_LEN: u64 = 1 << 30;
/// Longest header. ggml has no limit for all of it; the largest vocabularies take some 20 MB.
const MAX_HEADER: u64 = 1 << 30;
/// Fewest bytes of a key: length, one letter, type, one byte of value.
const LEAST_PAIR: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of a tensor info: length of no name, number of no dimensions, type, offset.
const LEAST_INFO: u64 = 8 + 4 + 4 + 8;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// What offsets are multiples of.
    pub alignment: u64,
    /// The keys, in file order.
    pub keys: Vec<Pair>,
    /// The tensors, in file order.
    pub tensors: Vec<Info>,
    /// Where the data begins, from the start of the file.
    pub data: u64,
    /// What ggml would refuse and is read nevertheless.
    pub warnings: Vec<String>,
}

/// What a header says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// UTF-8 by convention.
    pub name: Box<[u8]>,
    /// As in the file: the length of a row first.
    pub dims: Box<[u64]>,
    /// How elements lie.
    pub kind: Type,
    /// From the start of the data.
    pub offset: u64,
    /// Its bytes, padding not counted.
    pub bytes: u64,
}

impl Info {
    /// The shape in PyTorch's order: the length of a row last.
    pub fn shape(&self) -> Vec<u64> {
        self.dims.iter().rev().copied().collect()
    }
    /// Rows and the bytes of each.
    pub fn matrix(&self) -> [u64; 2] {
        let row = self.kind.row_bytes(self.dims.first().copied().unwrap_or(1)).unwrap_or(0);
        // The whole is checked when it is read: where there are bytes, they are whole rows.
        let rows = self.bytes.checked_div(row).unwrap_or(0);
        [rows, row]
    }
}

impl Header {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.iter().find(|p| *p.key == *key.as_bytes()).map(|p| &p.value)
    }
    /// Integers among the keys, by key; of an array its first.
    pub fn numbers(&self) -> BTreeMap<String, u64> {
        let number = |p: &Pair| {
            let n = match p.value.items().next()? {
                Item::Unsigned(n) => n,
                Item::Signed(n) => n.try_into().ok()?,
                _ => return None,
            };
            Some((p.name().into_owned(), n))
        };
        self.keys.iter().filter_map(number).collect()
    }
    /// The keys as text, for people.
    pub fn shown(&self) -> Vec<(String, String)> {
        self.keys.iter().map(|p| (p.name().into_owned(), p.value.shown())).collect()
    }
}

/// Reads and checks the header of a file, and that every tensor it names lies within the file.
pub fn read_header(blob: &Blob) -> Result<Header> {
    read(blob).map_err(|e| e.at(blob.path().display()))
}

fn read(blob: &Blob) -> Result<Header> {
    let mut cursor = Cursor::new(blob, MAX_HEADER);
    let magic: [u8; 4] = cursor.take(format_args!("the magic number"))?;
    if magic != MAGIC {
        return Err(Error::failed(format!(
            "starts with {}, expected `GGUF` at offset 0; this is not a GGUF file",
            magic.escape_ascii()
        )));
    }
    let version = cursor.u32(format_args!("the version"))?;
    match version {
        2 | VERSION => {}
        v if v & 0xFFFF == 0 && v != 0 => {
            return Err(Error::failed(format!(
                "version 0x{v:08x} at offset 4 has its bytes in the other order; big-endian files are not read"
            )));
        }
        v => return Err(Error::failed(format!("version {v} at offset 4, expected 2 or {VERSION}"))),
    }
    let tensors = cursor.i64(format_args!("the number of tensors"))?;
    let tensor_count = cursor.count(tensors, LEAST_INFO, "tensors")?;
    let keys = cursor.i64(format_args!("the number of keys"))?;
    let key_count = cursor.count(keys, LEAST_PAIR, "keys")?;
    let keys = read_keys(&mut cursor, key_count)?;
    let alignment = super::alignment(&keys).map_err(Error::failed)?;
    let mut tensors = read_infos(&mut cursor, tensor_count)?;
    let data = place(&cursor, &tensors, alignment)?;
    let warnings = check_places(&mut tensors, data, alignment, cursor.len(), is_for_llama(&keys))?;
    Ok(Header { version, alignment, keys, tensors, data, warnings })
}

fn read_keys(cursor: &mut Cursor, count: u64) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    let mut seen = HashSet::new();
    for i in 0..count {
        let at = cursor.at();
        let len = cursor.u64(format_args!("the length of key {i}"))?;
        if len == 0 || len > MAX_KEY {
            return Err(Error::failed(format!("key {i} at offset {at} is {len} bytes long, expected 1 to {MAX_KEY}")));
        }
        let key = cursor.bytes(len, format_args!("key {i}"))?;
        let name = String::from_utf8_lossy(&key).into_owned();
        if !seen.insert(key.clone()) {
            return Err(Error::failed(format!("key `{name}` at offset {at} is there twice")));
        }
        let value = read_value(cursor, &name)?;
        pairs.push(Pair { key, value });
    }
    Ok(pairs)
}

fn read_value(cursor: &mut Cursor, key: &str) -> Result<Value> {
    let at = cursor.at();
    let id = cursor.i32(format_args!("the type of key `{key}`"))?;
    let unknown = |at: u64, id: i32, what: &str| {
        Error::failed(format!("key `{key}` has the {what} type {id} at offset {at}, expected 0 to 12"))
    };
    let kind = Kind::by_id(id).ok_or_else(|| unknown(at, id, "value"))?;
    if kind != Kind::Array {
        let raw = match kind.bytes() {
            Some(n) => cursor.bytes(n, format_args!("the value of key `{key}`"))?,
            None => read_strings(cursor, 1, key)?,
        };
        return Ok(Value::of_raw(kind, None, raw));
    }
    let at = cursor.at();
    let id = cursor.i32(format_args!("the element type of key `{key}`"))?;
    let kind = Kind::by_id(id).ok_or_else(|| unknown(at, id, "element"))?;
    if kind == Kind::Array {
        return Err(Error::failed(format!(
            "key `{key}` holds arrays of arrays at offset {at}, expected an array of single values"
        )));
    }
    let at = cursor.at();
    let count = cursor.u64(format_args!("the length of key `{key}`"))?;
    let room = cursor.remaining();
    // A string has a length of 8 bytes, whatever is in it.
    let bytes = count.checked_mul(kind.bytes().unwrap_or(8)).filter(|b| *b <= room && count <= MAX_LEN);
    let Some(bytes) = bytes else {
        return Err(Error::failed(format!(
            "key `{key}` claims {count} elements of {} at offset {at}, and {room} bytes of the file are left",
            kind.name()
        )));
    };
    let raw = match kind {
        Kind::String => read_strings(cursor, count, key)?,
        _ => cursor.bytes(bytes, format_args!("the elements of key `{key}`"))?,
    };
    Ok(Value::of_raw(kind, Some(count), raw))
}

/// So many strings, with their lengths, as one block.
fn read_strings(cursor: &mut Cursor, count: u64, key: &str) -> Result<Box<[u8]>> {
    let mut raw = Vec::new();
    for i in 0..count {
        let at = cursor.at();
        let len = cursor.u64(format_args!("the length of string {i} of key `{key}`"))?;
        if len > MAX_LEN {
            return Err(Error::failed(format!(
                "string {i} of key `{key}` claims {len} bytes at offset {at}, expected at most {MAX_LEN}"
            )));
        }
        raw.extend(len.to_le_bytes());
        cursor.append(&mut raw, len, format_args!("string {i} of key `{key}`"))?;
    }
    Ok(raw.into_boxed_slice())
}

fn read_infos(cursor: &mut Cursor, count: u64) -> Result<Vec<Info>> {
    let mut infos = Vec::new();
    let mut seen = HashSet::new();
    for i in 0..count {
        let at = cursor.at();
        let len = cursor.u64(format_args!("the length of the name of tensor {i}"))?;
        if len > MAX_LONG_NAME as u64 {
            return Err(Error::failed(format!(
                "the name of tensor {i} at offset {at} is {len} bytes long, expected at most {MAX_LONG_NAME}"
            )));
        }
        let name = cursor.bytes(len, format_args!("the name of tensor {i}"))?;
        if !seen.insert(name.clone()) {
            return Err(Error::failed(format!("tensor `{}` at offset {at} is there twice", lossy(&name))));
        }
        infos.push(read_info(cursor, name)?);
    }
    Ok(infos)
}

fn read_info(cursor: &mut Cursor, name: Box<[u8]>) -> Result<Info> {
    let called = lossy(&name);
    let fail = |at: u64, what: String| Error::failed(format!("tensor `{called}` at offset {at}: {what}"));
    let at = cursor.at();
    let n = cursor.u32(format_args!("the number of dimensions of tensor `{called}`"))?;
    if n as usize > MAX_MANY_DIMS {
        return Err(fail(at, format!("{n} dimensions, expected at most {MAX_MANY_DIMS}")));
    }
    let mut dims = Vec::with_capacity(n as usize);
    let at = cursor.at();
    for _ in 0..n {
        let dim = cursor.i64(format_args!("the dimensions of tensor `{called}`"))?;
        let dim = u64::try_from(dim).map_err(|_| fail(at, format!("dimension {dim}, expected 0 or more")))?;
        dims.push(dim);
    }
    // Step by step as ggml does it: a later 0 does not heal what an earlier product was.
    let product = dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d).filter(|n| i64::try_from(*n).is_ok()));
    if product.is_none() {
        return Err(fail(at, format!("dimensions {dims:?} are more elements than can exist")));
    }
    let at = cursor.at();
    let id = cursor.i32(format_args!("the type of tensor `{called}`"))?;
    let kind = Type::by_id(id).ok_or_else(|| fail(at, format!("type {id}, which ggml does not have")))?;
    let row = dims.first().copied().unwrap_or(1);
    if !row.is_multiple_of(kind.block()) {
        return Err(fail(at, format!("rows of {row} elements, expected a multiple of {} for {kind}", kind.block())));
    }
    let bytes = kind.array_bytes(&dims);
    let bytes =
        bytes.ok_or_else(|| fail(at, format!("dimensions {dims:?} of {kind} are more bytes than can exist")))?;
    let offset = cursor.u64(format_args!("the offset of tensor `{called}`"))?;
    Ok(Info { name, dims: dims.into(), kind, offset, bytes })
}

/// Where the data begins: after the infos, at the next multiple of the alignment. A file with tensors reaches it.
fn place(cursor: &Cursor, tensors: &[Info], alignment: u64) -> Result<u64> {
    let data = cursor.at().checked_next_multiple_of(alignment).filter(|d| tensors.is_empty() || *d <= cursor.len());
    data.ok_or_else(|| {
        Error::failed(format!(
            "ends at {}, before its data: the header ends at {} and the alignment is {alignment}; it is cut short",
            cursor.len(),
            cursor.at()
        ))
    })
}

/// Whether a file may be meant for llama.cpp, which asks for keys of the architecture that is stated: files of diffusion
/// models have none, and readers of their own.
fn is_for_llama(keys: &[Pair]) -> bool {
    let stated = keys.iter().find(|p| *p.key == *b"general.architecture").and_then(|p| p.value.as_bytes());
    stated.is_none_or(|arch| keys.iter().any(|p| p.key.strip_prefix(arch).is_some_and(|rest| rest.starts_with(b"."))))
}

/// Proves that every tensor lies within the file, and says what ggml would not read.
fn check_places(tensors: &mut [Info], data: u64, alignment: u64, len: u64, llama: bool) -> Result<Vec<String>> {
    let mut end = 0u64;
    let mut expected = Some(0u64);
    let (mut long, mut deep, mut odd, mut cut) = (Few::default(), Few::default(), Few::default(), Few::default());
    for t in tensors.iter() {
        let called = || lossy(&t.name);
        let too_large = || Error::failed(format!("tensor `{}` ends beyond what a file can hold", called()));
        let last = t.offset.checked_add(t.bytes).and_then(|e| e.checked_add(data)).ok_or_else(too_large)?;
        let padded = t.bytes.checked_next_multiple_of(alignment).ok_or_else(too_large)?;
        if expected != Some(t.offset) {
            odd.note(&t.name);
        }
        expected = expected.and_then(|e| e.checked_add(padded));
        if expected.is_none() {
            return Err(too_large());
        }
        end = end.max(last);
        if last > len {
            return Err(Error::failed(format!(
                "tensor `{}` lies at {}..{last}, and the file ends at {len} ({} are missing); download it again",
                called(),
                data + t.offset,
                units::size(last - len)
            )));
        }
        if t.name.len() > MAX_NAME {
            long.note(&t.name);
        }
        if t.dims.len() > MAX_DIMS {
            deep.note(&t.name);
        }
        if t.name.contains(&0) || std::str::from_utf8(&t.name).is_err() {
            cut.note(&t.name);
        }
    }
    let mut warnings = Vec::new();
    if llama {
        long.warn(&mut warnings, &format!("a name longer than {MAX_NAME} bytes, which llama.cpp refuses"));
        deep.warn(&mut warnings, &format!("more than {MAX_DIMS} dimensions, which llama.cpp refuses"));
    }
    odd.warn(&mut warnings, "another offset than the tensors before them leave, which llama.cpp refuses");
    cut.warn(&mut warnings, "a name that is not text");
    Ok(warnings)
}

/// How many there are, and the first.
#[derive(Default)]
struct Few(Option<(u64, String)>);

impl Few {
    fn note(&mut self, name: &[u8]) {
        self.0.get_or_insert_with(|| (0, lossy(name))).0 += 1;
    }
    fn warn(self, warnings: &mut Vec<String>, what: &str) {
        match self.0 {
            None => {}
            Some((1, name)) => warnings.push(format!("tensor `{name}` has {what}")),
            Some((n, name)) => warnings.push(format!("{n} tensors, `{name}` first, have {what}")),
        }
    }
}

/// A name as text, for people.
pub(super) fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests;
