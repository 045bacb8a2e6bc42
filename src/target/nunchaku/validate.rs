//! What Nunchaku's loaders fail on, or silently get wrong: a single file, or a Lite folder for diffusers.
//!
//! The worst is what no loader says: FLUX's C++ model leaves an array that is missing uninitialised.
mod arrays;
mod header;
mod lite;
mod numbers;

use std::collections::HashMap;

use serde_json::Value;

use super::metadata::{self, Found, Precision};
use crate::core::model::Stored;
use crate::core::{Cancel, Result};
use crate::format::Opened;
use crate::target::check::{Check, Findings, Level, passes};

/// A file's arrays by name.
pub(super) type ByName<'a> = HashMap<&'a str, &'a Stored>;

/// Checks a model as its files have it: opened, but not recognised. `None` when nothing in it says that it is Nunchaku's.
///
/// # Errors
/// If a file cannot be read, or the work was asked to stop.
pub fn validate(opened: &Opened, cancel: &Cancel) -> Result<Option<Vec<Check>>> {
    let model = &opened.model;
    let by_name: ByName = model.stored.iter().map(|s| (s.name.as_str(), s)).collect();
    if let Some(config) = lite::config(model.config.as_ref()) {
        let has_class = model.config.as_ref().is_some_and(|c| c.get("_class_name").is_some());
        let mut checks = lite::checks(config, has_class, &by_name);
        checks.extend(numbers::checks(opened, false, cancel)?);
        return Ok(Some(checks));
    }
    let pairs = model.metadata();
    let method = pairs.get(metadata::QUANTIZATION).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let says = method.is_some_and(|q| q.get("method").and_then(Value::as_str) == Some("svdquant"));
    let has = |codes: &Stored| {
        let layer = codes.name.strip_suffix(".qweight")?;
        by_name.get(format!("{layer}.wscales").as_str())
    };
    let coded = model.stored.iter().any(|s| s.storage == crate::core::Storage::I8 && has(s).is_some());
    if !says && !coded {
        return Ok(None);
    }
    let mut checks = arrays::container(&model.stored);
    let mut precision = Findings::new("precision");
    let found = match metadata::find(&model.stored) {
        Ok(Some(found)) => Some(found),
        Ok(None) => {
            precision.error("no layer has codes in I8 with scales beside them");
            None
        }
        Err(e) => {
            precision.error(e.to_string());
            None
        }
    };
    let header = header::read(&pairs, found, &mut checks);
    header::precision(found, &header, &model.files, &mut precision);
    let fine = found.map_or_else(String::new, |f| {
        format!("{} by the scales' type, rank {}, and all say so", f.precision.name(), f.rank)
    });
    checks.extend(precision.close(fine));
    checks.extend(arrays::checks(&header, found, &model.stored, &by_name));
    let class = header.config.as_ref().and_then(metadata::class_name);
    checks.extend(numbers::checks(opened, class == Some("FluxTransformer2DModel"), cancel)?);
    let sound = passes(&checks);
    checks.push(needs(found, &header, sound));
    Ok(Some(checks))
}

/// Who loads it, and where.
fn needs(found: Option<Found>, header: &header::Header, sound: bool) -> Check {
    let place = match found.map(|f| f.precision) {
        Some(Precision::Fp4) => "on GPUs of sm 120 and 121 (RTX 50)",
        _ => "on GPUs of sm 75, 80, 86 and 89 (RTX 20 to 40, A100)",
    };
    let config = header.config.as_ref();
    let who = match config.and_then(metadata::class_name) {
        Some("FluxTransformer2DModel") if header::is_full_size(config) => {
            "nunchaku (NunchakuFluxTransformer2dModel and …V2) and ComfyUI-nunchaku"
        }
        Some("FluxTransformer2DModel") => "nunchaku, NunchakuFluxTransformer2DModelV2 alone",
        Some(class) => metadata::model_class(class).unwrap_or("nunchaku"),
        None => "nunchaku",
    };
    let strength = match (config.and_then(metadata::class_name), found) {
        (Some("FluxTransformer2DModel"), Some(found)) if found.rank != 32 && header::is_full_size(config) => {
            "; the C++ model keeps 32 ranks for the file's own branch, so a LoRA's strength would scale the others too"
        }
        _ => "",
    };
    loads_with(sound, format!("{who}, {place}{strength}"))
}

/// The last check: who loads it, unless there were errors.
fn loads_with(sound: bool, who: String) -> Check {
    match sound {
        true => Check { name: "loads with", level: Level::Ok, detail: who },
        false => Check { name: "loads with", level: Level::Warn, detail: format!("would, but for the errors: {who}") },
    }
}

#[cfg(test)]
mod tests;
