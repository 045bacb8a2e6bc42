//! The numbers of quantized layers: scales that are no numbers make a whole row of NaN.
use rayon::prelude::*;

use super::Layer;
use crate::core::dtype::StorageExt;
use crate::core::model::Stored;
use crate::core::{Cancel, Error, Result, Storage};
use crate::format::Opened;
use crate::quant::cast;
use crate::target::check::Level;

/// Bytes that are read at a time; a multiple of every element's size.
const CHUNK: u64 = 1 << 20;

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holds {
    /// Numbers of either sign.
    Numbers,
    /// Numbers that are not negative.
    Scales,
    /// Codes that are numbers themselves.
    Codes,
}

/// What is wrong with the arrays of some layers.
pub fn check(opened: &Opened, layers: &[Layer], cancel: &Cancel) -> Result<Vec<(Level, String)>> {
    let mut wanted: Vec<(&Stored, Holds)> = Vec::new();
    let by_name: std::collections::HashMap<&str, &Stored> =
        opened.model.stored.iter().map(|s| (s.name.as_str(), s)).collect();
    for layer in layers {
        let scales = if layer.codebook { Holds::Numbers } else { Holds::Scales };
        let parts = [("weight", Holds::Codes), ("scale", scales), ("zero_point", Holds::Numbers)];
        let factors = [("svd_up", Holds::Numbers), ("svd_down", Holds::Numbers)];
        for (last, holds) in parts.into_iter().chain(factors) {
            let full = format!("{}.{last}", crate::core::name::layer(&layer.name));
            let Some(stored) = by_name.get(full.as_str()) else { continue };
            let is_float = stored.storage.is_float();
            // Every integer is a code, but for those that stand for bytes.
            if is_float || (holds == Holds::Codes && stored.storage == Storage::I64) {
                wanted.push((stored, holds));
            }
        }
    }
    let found: Vec<Option<String>> =
        wanted.par_iter().map(|(stored, holds)| first_wrong(opened, stored, *holds, cancel)).collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().map(|detail| (Level::Error, detail)).collect())
}

/// The first element that should not be there.
fn first_wrong(opened: &Opened, stored: &Stored, holds: Holds, cancel: &Cancel) -> Result<Option<String>> {
    let size = stored.storage.bytes().ok_or_else(|| Error::failed(format!("`{}` cannot be read", stored.name)))?;
    let mut values = Vec::new();
    let mut at = 0;
    while at < stored.span.len {
        cancel.check()?;
        let mut bytes = vec![0; CHUNK.min(stored.span.len - at) as usize];
        opened.blobs[stored.span.file as usize].read_at(stored.span.offset + at, &mut bytes)?;
        values.clear();
        if stored.storage == Storage::I64 {
            let byte = |b: &[u8; 8]| u8::try_from(i64::from_le_bytes(*b)).map_or(f32::NAN, f32::from);
            values.extend(bytes.as_chunks::<8>().0.iter().map(byte));
        } else {
            values.resize(bytes.len() / size as usize, 0.0);
            cast::decode(stored.storage, &bytes, &mut values);
        }
        let wrong = |v: &f32| !v.is_finite() || (holds == Holds::Scales && *v < 0.0);
        if let Some(i) = values.iter().position(wrong) {
            let place = place(&stored.shape, at / size + i as u64);
            return Ok(Some(match (holds, stored.storage) {
                (_, Storage::I64) => format!("`{}` holds at {place} what is no byte of codes", stored.name),
                (Holds::Codes, _) => format!("`{}` holds at {place} a code for {}", stored.name, values[i]),
                _ => format!("`{}` is {} at {place}", stored.name, values[i]),
            }));
        }
        at += bytes.len() as u64;
    }
    Ok(None)
}

/// An element's indexes, for people.
fn place(shape: &[u64], mut index: u64) -> String {
    let mut indexes: Vec<u64> = shape
        .iter()
        .rev()
        .map(|n| {
            let i = index % (*n).max(1);
            index /= (*n).max(1);
            i
        })
        .collect();
    indexes.reverse();
    format!("{indexes:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(place(&[2, 3, 4], 0), "[0, 0, 0]");
        assert_eq!(place(&[2, 3, 4], 23), "[1, 2, 3]");
        assert_eq!(place(&[5], 4), "[4]");
        assert_eq!(place(&[], 0), "[]");
    }
}
