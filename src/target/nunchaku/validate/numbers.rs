//! Whether numbers are such that kernels can divide and multiply by them.
use crate::core::dtype::StorageExt;
use crate::core::model::Stored;
use crate::core::{Cancel, Result, Storage};
use crate::format::Opened;
use crate::quant::cast;
use crate::target::check::{Check, Findings};

/// Bytes that are looked at a time.
const CHUNK: u64 = 1 << 20;

/// Finite everywhere, and above zero where it is a divisor or a scale; in FLUX, `out_proj` of single blocks has no bias.
///
/// # Errors
/// If a file cannot be read, or the work was asked to stop.
pub fn checks(opened: &Opened, flux: bool, cancel: &Cancel) -> Result<Vec<Check>> {
    let mut found = Findings::new("numbers");
    let by_name: super::ByName = opened.model.stored.iter().map(|s| (s.name.as_str(), s)).collect();
    for array in opened.model.stored.iter().filter(|s| s.storage.is_float()) {
        let (layer, part) = array.name.rsplit_once('.').unwrap_or_default();
        let codes = by_name.get(format!("{layer}.qweight").as_str()).map(|s| s.storage);
        // Scales of nothing but zeros may be anything; nvfp4's are then 0 in other packers' files.
        let positive = match part {
            "smooth" | "smooth_factor" | "wtscale" => codes == Some(Storage::I8),
            "wscales" => codes == Some(Storage::I8) && array.storage != Storage::F8_E4M3,
            _ => false,
        };
        let zero =
            flux && array.name.starts_with("single_transformer_blocks.") && array.name.ends_with(".out_proj.bias");
        let wrong = |v: &f32| !v.is_finite() || positive && *v <= 0.0 || zero && *v != 0.0;
        if let Some((at, value)) = first(opened, array, wrong, cancel)? {
            found.error(match value {
                v if !v.is_finite() => format!("`{}` has {v} at {at}", array.name),
                v if zero => {
                    format!("`{}` has {v} at {at}: the bias belongs to `mlp_fc2`, and would be added twice", array.name)
                }
                v => format!("`{}` has {v} at {at}, where it must be above zero", array.name),
            });
        }
    }
    Ok(found.close("all numbers are finite, and scales and smoothing factors above zero"))
}

/// The first value that is wrong, and where it is.
fn first(opened: &Opened, array: &Stored, wrong: impl Fn(&f32) -> bool, cancel: &Cancel) -> Result<Option<(u64, f32)>> {
    let size = array.storage.bytes().unwrap_or(1).max(1);
    let (mut at, mut bytes, mut values) = (0, Vec::new(), Vec::new());
    while at < array.span.len {
        cancel.check()?;
        let len = CHUNK.min(array.span.len - at);
        bytes.resize(len as usize, 0);
        values.resize((len / size) as usize, 0.0f32);
        opened.blobs[array.span.file as usize].read_at(array.span.offset + at, &mut bytes)?;
        cast::decode(array.storage, &bytes, &mut values);
        if let Some(i) = values.iter().position(&wrong) {
            return Ok(Some((at / size + i as u64, values[i])));
        }
        at += len;
    }
    Ok(None)
}
