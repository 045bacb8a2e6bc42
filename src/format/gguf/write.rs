//! Writing a header. Where everything lies is known from names and shapes alone; numbers among the keys have a fixed
//! width, so a header whose figures come last has the length it had at the start.
use std::collections::HashSet;

use super::read::lossy;
use super::types::Type;
use super::value::{Pair, push_string};
use super::{MAGIC, MAX_DIMS, MAX_KEY, MAX_LONG_NAME, MAX_MANY_DIMS, MAX_NAME, VERSION};
use crate::core::{Error, Result};

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Box<[u8]>,
    /// As they will stand in the file: the length of a row first. Trailing ones are kept.
    pub dims: Vec<u64>,
    /// How elements lie.
    pub kind: Type,
}

impl Entry {
    /// A tensor of a shape in PyTorch's order.
    pub fn new(name: &str, shape: &[u64], kind: Type) -> Self {
        Self { name: name.as_bytes().into(), dims: shape.iter().rev().copied().collect(), kind }
    }
}

/// Whose files they are: what their readers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest tensor name in bytes.
    pub name: usize,
    /// Most dimensions.
    pub dims: usize,
}

impl Limits {
    /// Of ggml: llama.cpp and everything built on it.
    pub const GGML: Self = Self { name: MAX_NAME, dims: MAX_DIMS };
    /// Of the readers of diffusion models.
    pub const DIFFUSION: Self = Self { name: MAX_LONG_NAME, dims: MAX_MANY_DIMS };
}

/// Where everything lies in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// What offsets are multiples of.
    pub alignment: u64,
    /// Bytes before the data: keys, infos and padding.
    pub header: u64,
    /// From the start of the data, by tensor.
    pub offsets: Vec<u64>,
    /// Bytes of each tensor, padding not counted. Between them lie zeros.
    pub bytes: Vec<u64>,
    /// Bytes of the file.
    pub total: u64,
}

/// Lays a file out: tensors one after another, each padded to the alignment that the keys ask for, the last one too.
pub fn places(keys: &[Pair], tensors: &[Entry], limits: Limits) -> Result<Places> {
    check_keys(keys)?;
    let alignment = super::alignment(keys).map_err(Error::failed)?;
    let overflow = || Error::failed("the output is larger than a file can be");
    let mut seen = HashSet::new();
    // Magic, version, counts.
    let mut header = 4 + 4 + 8 + 8u64;
    for pair in keys {
        header = header.checked_add(8 + pair.key.len() as u64 + pair.value.file_bytes()).ok_or_else(overflow)?;
    }
    let mut at = 0u64;
    let (mut offsets, mut all_bytes) = (Vec::with_capacity(tensors.len()), Vec::with_capacity(tensors.len()));
    for t in tensors {
        if !seen.insert(&t.name) {
            return Err(Error::failed(format!("two tensors of the output would be called `{}`", lossy(&t.name))));
        }
        let bytes = check_entry(t, limits)?;
        header += 8 + t.name.len() as u64 + 4 + 8 * t.dims.len() as u64 + 4 + 8;
        offsets.push(at);
        all_bytes.push(bytes);
        at = bytes.checked_next_multiple_of(alignment).and_then(|b| at.checked_add(b)).ok_or_else(overflow)?;
    }
    let header = header.checked_next_multiple_of(alignment).ok_or_else(overflow)?;
    let total = header.checked_add(at).filter(|t| i64::try_from(*t).is_ok()).ok_or_else(overflow)?;
    Ok(Places { alignment, header, offsets, bytes: all_bytes, total })
}

/// The bytes before the data, as many as [`places`] said.
pub fn write_header(keys: &[Pair], tensors: &[Entry], places: &Places) -> Vec<u8> {
    let mut out = Vec::with_capacity(places.header as usize);
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as i64).to_le_bytes());
    out.extend((keys.len() as i64).to_le_bytes());
    for pair in keys {
        push_string(&mut out, &pair.key);
        pair.value.write(&mut out);
    }
    for (t, offset) in tensors.iter().zip(&places.offsets) {
        push_string(&mut out, &t.name);
        out.extend((t.dims.len() as u32).to_le_bytes());
        for d in &t.dims {
            out.extend(d.to_le_bytes());
        }
        out.extend(t.kind.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(places.alignment as usize), 0);
    out
}

fn check_keys(keys: &[Pair]) -> Result<()> {
    let mut seen = HashSet::new();
    for pair in keys {
        let name = pair.name();
        if pair.key.is_empty() || pair.key.len() as u64 > MAX_KEY {
            return Err(Error::failed(format!(
                "the key `{name}` is {} bytes long, and readers take 1 to {MAX_KEY}",
                pair.key.len()
            )));
        }
        if !seen.insert(&pair.key) {
            return Err(Error::failed(format!("the key `{name}` would be in the output twice")));
        }
    }
    Ok(())
}

/// The bytes of a tensor that readers take.
fn check_entry(t: &Entry, limits: Limits) -> Result<u64> {
    let name = lossy(&t.name);
    let fail = |what: String| Err(Error::failed(format!("tensor `{name}` {what}")));
    if t.name.len() > limits.name {
        return fail(format!("has a name of {} bytes, and readers take {}; rename it", t.name.len(), limits.name));
    }
    if t.name.contains(&0) {
        return fail("has a zero in its name, where readers cut it off".into());
    }
    if t.dims.len() > limits.dims {
        return fail(format!("has {} dimensions, and readers take {}", t.dims.len(), limits.dims));
    }
    let elements = t.dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d).filter(|n| i64::try_from(*n).is_ok()));
    if elements.is_none() {
        return fail(format!("has dimensions {:?}, more elements than can exist", t.dims));
    }
    let row = t.dims.first().copied().unwrap_or(1);
    match t.kind.array_bytes(&t.dims) {
        Some(bytes) => Ok(bytes),
        None if !row.is_multiple_of(t.kind.block()) => {
            fail(format!("has rows of {row} elements, which do not fill blocks of {} for {}", t.kind.block(), t.kind))
        }
        None => fail(format!("has dimensions {:?}, more bytes than can exist", t.dims)),
    }
}

#[cfg(test)]
mod tests;
