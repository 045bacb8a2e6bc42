//! Importance matrices: for each column of a weight, the mean square of what was multiplied with it.
//!
//! llama-imatrix writes them in two forms. GGUF: `NAME.in_sum2` (sums of squares, a row for each matrix of the weight)
//! and `NAME.counts` (tokens, one for each matrix). Legacy, which has no magic number: an i32 number of entries; each an
//! i32 length and a name, an i32 number of calls, an i32 number of values, and f32 values, which are means times calls;
//! then perhaps an i32 number of chunks, and an i32 length and the name of the data set.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::cursor::Cursor;
use super::gguf::{self, Header, Item, Value};
use super::{Blob, gguf::Info};
use crate::core::imatrix::{Entry, Imatrix};
use crate::core::{Error, Result};

/// Largest file that is read. The largest models' take some 2 GB.
const MAX_FILE: u64 = 16 << 30;
/// Bytes that are decoded at a time.
const CHUNK: u64 = 1 << 20;

/// Reads a file of either form.
pub fn open(path: &Path) -> Result<Imatrix> {
    read(&Blob::open(path)?)
}

/// Reads either form.
pub fn read(blob: &Blob) -> Result<Imatrix> {
    let place = blob.path().display();
    if blob.len() > MAX_FILE {
        return Err(Error::failed(format!(
            "{place}: {} bytes are too many for an importance matrix, expected at most {MAX_FILE}",
            blob.len()
        )));
    }
    let mut magic = [0; 4];
    let is_gguf = blob.len() >= 4 && blob.read_at(0, &mut magic).map(|()| magic == gguf::MAGIC)?;
    let read = if is_gguf {
        // Its errors begin with the file's name already.
        read_gguf(blob, &gguf::read_header(blob)?)
    } else {
        read_legacy(blob)
    };
    let file = blob.path().file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    read.map(|imatrix| Imatrix { file, ..imatrix }).map_err(|e| e.at(place))
}

fn read_legacy(blob: &Blob) -> Result<Imatrix> {
    /// Name length, calls, number of values, and a value.
    const LEAST_ENTRY: u64 = 4 + 4 + 4 + 4;
    let mut cursor = Cursor::new(blob, MAX_FILE);
    let count = cursor.i32(format_args!("the number of entries"))?;
    let room = cursor.remaining() / LEAST_ENTRY;
    if count < 1 || count as u64 > room {
        return Err(Error::failed(format!(
            "claims {count} entries at offset 0, and the file has room for {room}; it is no importance matrix, or cut short"
        )));
    }
    let mut imatrix = Imatrix { legacy: true, ..Imatrix::default() };
    for i in 0..count {
        let at = cursor.at();
        let len = length(&mut cursor, &format!("the name of entry {i}"))?;
        let name = cursor.bytes(len, format_args!("the name of entry {i}"))?;
        // As C reads it: up to the first zero.
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let calls = cursor.i32(format_args!("the calls of entry `{name}`"))?;
        let values = length(&mut cursor, &format!("the values of entry `{name}`"))?;
        if values == 0 {
            return Err(Error::failed(format!("entry `{name}` at offset {at} has no values")));
        }
        let mut raw = Vec::new();
        cursor.append(&mut raw, values * 4, format_args!("the {values} values of entry `{name}`"))?;
        let mut values = floats(&raw);
        if calls > 0 {
            values.iter_mut().for_each(|v| *v /= calls as f32);
        }
        imatrix.entries.insert(name, Arc::new(Entry { values, counts: vec![calls as f32] }));
    }
    // What follows is not in every file, and nothing depends on it.
    if cursor.remaining() >= 4 {
        imatrix.chunks = cursor.i32(format_args!("the number of chunks"))?.max(0) as u32;
    }
    if cursor.remaining() >= 4 {
        let len = cursor.i32(format_args!("the length of the data set's name"))?;
        if let Some(len) = u64::try_from(len).ok().filter(|n| *n > 0 && *n <= cursor.remaining()) {
            let name = cursor.bytes(len, format_args!("the data set's name"))?;
            imatrix.datasets.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
    Ok(imatrix)
}

/// A length of the legacy form; the bytes it stands for are checked when they are read.
fn length(cursor: &mut Cursor, what: &str) -> Result<u64> {
    let at = cursor.at();
    let n = cursor.i32(format_args!("the length of {what}"))?;
    u64::try_from(n)
        .map_err(|_| Error::failed(format!("{what} at offset {at} claim a length of {n}, expected 0 or more")))
}

fn read_gguf(blob: &Blob, header: &Header) -> Result<Imatrix> {
    const DATASETS: &str = "imatrix.datasets";
    let missing = |key: &str| {
        let kind = header.get("general.type").and_then(Value::as_str).unwrap_or("model");
        Error::failed(format!("has no key `{key}`; it is a GGUF file of type `{kind}`, not an importance matrix"))
    };
    let number = |key: &str| {
        let value = header.get(key).ok_or_else(|| missing(key))?;
        let n = value.as_u64().and_then(|n| u32::try_from(n).ok());
        n.ok_or_else(|| Error::failed(format!("key `{key}` is {value:?}, expected u32")))
    };
    let datasets = header.get(DATASETS).ok_or_else(|| missing(DATASETS))?;
    let name = |item: Item| match item {
        Item::String(s) => Some(String::from_utf8_lossy(s).into_owned()),
        _ => None,
    };
    let datasets: Option<Vec<String>> = datasets.items().map(name).collect();
    let mut imatrix = Imatrix {
        datasets: datasets.ok_or_else(|| Error::failed(format!("key `{DATASETS}` does not hold strings")))?,
        chunks: number("imatrix.chunk_count")?,
        chunk_size: Some(number("imatrix.chunk_size")?),
        ..Imatrix::default()
    };
    let mut pairs: BTreeMap<String, [Option<&Info>; 2]> = BTreeMap::new();
    for t in &header.tensors {
        let name = String::from_utf8_lossy(&t.name);
        for (i, suffix) in [".in_sum2", ".counts"].into_iter().enumerate() {
            if let Some(weight) = name.strip_suffix(suffix) {
                pairs.entry(weight.to_owned()).or_default()[i] = Some(t);
            }
        }
    }
    for (name, pair) in pairs {
        let [Some(sums), Some(counts)] = pair else {
            let suffix = if pair[0].is_none() { "in_sum2" } else { "counts" };
            return Err(Error::failed(format!("entry `{name}` has no tensor `{name}.{suffix}`")));
        };
        let values = read_floats(blob, header, sums).map_err(|e| e.at(format!("entry `{name}`")))?;
        let counts = read_floats(blob, header, counts).map_err(|e| e.at(format!("entry `{name}`")))?;
        // llama-quantize passes over empty entries.
        if values.is_empty() || counts.is_empty() {
            continue;
        }
        let entry = means(values, counts).map_err(|e| e.at(format!("entry `{name}`")))?;
        imatrix.entries.insert(name, Arc::new(entry));
    }
    if imatrix.entries.is_empty() {
        return Err(Error::failed("holds no entry: no tensor ends in `.in_sum2`"));
    }
    Ok(imatrix)
}

/// Sums over counts, matrix by matrix; 1 where nothing was counted. Counts are whole numbers, as their reader takes them.
fn means(mut values: Vec<f32>, mut counts: Vec<f32>) -> Result<Entry> {
    if !values.len().is_multiple_of(counts.len()) {
        return Err(Error::failed(format!("{} sums cannot be shared by {} counts", values.len(), counts.len())));
    }
    let cols = values.len() / counts.len();
    for (matrix, count) in values.chunks_exact_mut(cols).zip(&mut counts) {
        *count = count.round();
        if *count > 0.0 {
            matrix.iter_mut().for_each(|v| *v /= *count);
        } else {
            matrix.fill(1.0);
        }
    }
    Ok(Entry { values, counts })
}

/// All values of an F32 tensor. Its header was checked against the file.
fn read_floats(blob: &Blob, header: &Header, t: &Info) -> Result<Vec<f32>> {
    if t.kind != gguf::Type::F32 {
        let name = String::from_utf8_lossy(&t.name);
        return Err(Error::failed(format!("tensor `{name}` is {}, expected F32", t.kind)));
    }
    let mut values = Vec::new();
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < t.bytes {
        bytes.resize(CHUNK.min(t.bytes - at) as usize, 0);
        blob.read_at(header.data + t.offset + at, &mut bytes)?;
        values.extend(floats(&bytes));
        at += bytes.len() as u64;
    }
    Ok(values)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[cfg(test)]
mod tests;
