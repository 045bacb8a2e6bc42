//! Models in several files: `PREFIX-00001-of-00003.gguf` and so on. The first has the keys; each has its own data.
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::read::Header;
use super::value::Pair;
use crate::core::{Error, Result};
use crate::format::Blob;

/// A file's place among the files, counted from 0.
pub const NO: &str = "split.no";
/// How many files there are; 0 and 1 are a model in one file.
pub const COUNT: &str = "split.count";
/// Tensors of all files.
pub const TENSORS: &str = "split.tensors.count";

/// The name of one of several files; `no` counts from 0, the name from 1.
pub fn name(prefix: &str, no: usize, count: usize) -> String {
    format!("{prefix}-{:05}-of-{count:05}.gguf", no + 1)
}

/// Prefix, place (from 0) and number of files that a file's name tells.
pub fn parse_name(file: &str) -> Option<(&str, usize, usize)> {
    let stem = file.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let number = |text: &str| -> Option<usize> {
        let digits = text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let (no, count) = (number(no)?, number(count)?);
    let place = no.checked_sub(1).filter(|place| *place < count)?;
    // Only the spelling that would be written: `0000001` names another file.
    (name(prefix, place, count) == file).then_some((prefix, place, count))
}

/// A model's files, the one that was opened among them, with their headers.
#[derive(Debug)]
pub struct Set {
    /// In order.
    pub files: Vec<(Blob, Header)>,
}

/// Opens a file, and if it is the first of several, the others too.
pub fn open(path: &Path) -> Result<Set> {
    let blob = Blob::open(path)?;
    let header = super::read_header(&blob)?;
    let fail = |what: String| Error::failed(format!("{}: {what}", path.display()));
    let number = |key: &str| -> Result<Option<u64>> {
        header.get(key).map_or(Ok(None), |v| {
            v.as_u64().map(Some).ok_or_else(|| fail(format!("key `{key}` is {}, expected a number", v.type_name())))
        })
    };
    let count = number(COUNT)?.unwrap_or(0);
    if count < 2 {
        return Ok(Set { files: vec![(blob, header)] });
    }
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let no = number(NO)?.unwrap_or(0);
    let named = parse_name(&file);
    let Some((prefix, place, names)) = named.filter(|(_, place, names)| *names as u64 == count && *place as u64 == no)
    else {
        return Err(fail(format!(
            "is file {} of {count}, expected a name that ends in -{:05}-of-{count:05}.gguf; give it its own name back",
            no.saturating_add(1),
            no.saturating_add(1)
        )));
    };
    if place != 0 {
        return Err(fail(format!("is file {} of {count}; open the first, {}", place + 1, name(prefix, 0, names))));
    }
    let claimed = number(TENSORS)?;
    let mut set = Set { files: vec![(blob, header)] };
    for i in 1..names {
        // A name beside the first: it cannot lead out of the folder.
        let other = path.with_file_name(name(prefix, i, names));
        set.files.push(open_other(&other, path, i as u64, count)?);
    }
    let tensors: u64 = set.files.iter().map(|(_, h)| h.tensors.len() as u64).sum();
    match claimed {
        Some(n) if n != tensors => {
            Err(fail(format!("key `{TENSORS}` is {n}, and the {count} files hold {tensors} tensors")))
        }
        _ => Ok(set),
    }
}

fn open_other(path: &Path, first: &Path, no: u64, count: u64) -> Result<(Blob, Header)> {
    if !path.is_file() {
        return Err(Error::failed(format!(
            "{}: file {} of {count}, {}, is missing; download it",
            first.display(),
            no + 1,
            path.display()
        )));
    }
    let blob = Blob::open(path)?;
    let header = super::read_header(&blob)?;
    let says = header.get(NO).and_then(super::Value::as_u64);
    if says != Some(no) {
        let says = says.map_or_else(|| "missing".into(), |n| n.to_string());
        return Err(Error::failed(format!("{}: key `{NO}` is {says}, expected {no} by its name", path.display())));
    }
    let says = header.get(COUNT).and_then(super::Value::as_u64);
    if says.is_some_and(|n| n != count) {
        return Err(Error::failed(format!("{}: key `{COUNT}` differs from that of the first file", path.display())));
    }
    Ok((blob, header))
}

/// The first of the files that a name is one of.
pub fn first_of(path: &Path) -> Option<PathBuf> {
    let file = path.file_name()?.to_str()?;
    let (prefix, _, count) = parse_name(file)?;
    Some(path.with_file_name(name(prefix, 0, count)))
}

/// Tensors of so many bytes (padding counted) into files of at most `max` bytes and `most` tensors: ranges, in order.
/// A tensor is never split, so one that is larger has a file of its own. No tensors are one file.
pub fn plan(padded: &[u64], max: Option<u64>, most: Option<usize>) -> Vec<Range<usize>> {
    let mut files = Vec::new();
    let (mut start, mut filled) = (0, 0u64);
    for (i, bytes) in padded.iter().enumerate() {
        let over = max.is_some_and(|m| filled.saturating_add(*bytes) > m) || most.is_some_and(|m| i - start >= m);
        if over && i > start {
            files.push(start..i);
            (start, filled) = (i, 0);
        }
        filled = filled.saturating_add(*bytes);
    }
    files.push(start..padded.len());
    files
}

/// The keys of one of several files: all of them in the first, and in each its place among the files.
pub fn keys(keys: &[Pair], no: usize, count: usize, tensors: usize) -> Result<Vec<Pair>> {
    let (Ok(no), Ok(count), Ok(tensors)) = (u16::try_from(no), u16::try_from(count), i32::try_from(tensors)) else {
        return Err(Error::failed(format!(
            "{tensors} tensors in {count} files are more than files can name; use larger ones"
        )));
    };
    let mut own = if no == 0 { without(keys) } else { Vec::new() };
    own.extend([Pair::new(NO, no), Pair::new(COUNT, count), Pair::new(TENSORS, tensors)]);
    Ok(own)
}

/// Keys without those of a split.
pub fn without(keys: &[Pair]) -> Vec<Pair> {
    keys.iter().filter(|p| ![NO, COUNT, TENSORS].iter().any(|k| *p.key == *k.as_bytes())).cloned().collect()
}

#[cfg(test)]
mod tests;
