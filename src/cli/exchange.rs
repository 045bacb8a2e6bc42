//! `mixdown profile export` and `import`: profiles as the settings of other tools.
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::args::{Global, ModelArg};
use super::{print_bytes, settings};
use crate::core::plan::Action;
use crate::core::recipe::group_size;
use crate::core::{Dtype, Error, Family, Model, Result, Settings};
use crate::format::{json, profiles, save};
use crate::session::exchange::sdnq::{self, Dtypes, Known, Layer};
use crate::session::preset;
use crate::session::profile::PresetChoice;
use crate::target;

/// A config is far smaller; a file of weights is not.
const LARGEST: u64 = 64 << 20;

/// `profile export --as sdnq`.
pub fn export(name: &str, model: &ModelArg, output: Option<&Path>, global: &Global) -> Result<u8> {
    let mut profile = settings::load(name)?;
    let opened = match *model == ModelArg::default() {
        true => None,
        false => Some(super::open(model, global)?),
    };
    if let Some(path) = output {
        if path.extension().is_some_and(|e| e == "toml") {
            return Err(Error::usage(format!("--output {}: SDNQ's settings are JSON", path.display())));
        }
        if let Some(opened) = &opened {
            save::check_side_file(path, "--output", opened, None)?;
        }
    }
    let mut warnings = Vec::new();
    let known = match &opened {
        Some(opened) => {
            settings::apply_preset(&mut profile, &opened.model)?;
            Some(known(&opened.model, &profile.settings, &mut warnings)?)
        }
        None => {
            if let PresetChoice::Named(name) = &profile.preset {
                let preset = preset::by_name(name);
                profile.set_preset(preset);
            }
            None
        }
    };
    let exported = with_dtypes(|dtypes| sdnq::export(&profile, dtypes, known.as_ref()))?;
    warnings.extend(exported.warnings);
    super::plan::warn_all(&warnings, global);
    let text = format!("{:#}\n", exported.config);
    match output {
        Some(path) => save::write_file(path, text.as_bytes()).map(|()| 0),
        None => print_bytes(text.as_bytes()),
    }
}

/// `profile import --as sdnq`.
pub fn import(file: &Path, output: Option<&Path>, name: Option<&str>, global: &Global) -> Result<u8> {
    let path = match (output, name) {
        (Some(path), _) if path.extension().is_none_or(|e| e != "toml") => {
            return Err(Error::usage(format!("--output {}: a profile's file ends in .toml", path.display())));
        }
        (Some(path), _) => Some(path.to_owned()),
        (None, Some(name)) if name.ends_with(".toml") => {
            return Err(Error::usage(format!("--save {name}: give a name; -o writes a file")));
        }
        (None, Some(name)) => {
            let path = profiles::locate(name)?;
            if path.exists() {
                return Err(Error::failed(format!(
                    "--save {name}: {} exists already; choose another name",
                    path.display()
                )));
            }
            Some(path)
        }
        (None, None) => None,
    };
    let place = file.display().to_string();
    let config = json::read(file, LARGEST)?.ok_or_else(|| Error::failed("there is no such file").at(&place))?;
    let imported = with_dtypes(|dtypes| sdnq::import(&config, dtypes)).map_err(|e| e.at(&place))?;
    super::plan::warn_all(&imported.warnings, global);
    let text = imported.profile.to_text();
    match path {
        Some(path) => profiles::write(&path, &text).map(|()| 0),
        None => print_bytes(text.as_bytes()),
    }
}

fn with_dtypes<T>(work: impl FnOnce(&Dtypes) -> T) -> T {
    let target = target::get(Family::Sdnq);
    let bits: BTreeMap<Dtype, f64> = target.dtypes().into_iter().map(|d| (d.name, d.bits)).collect();
    work(&Dtypes {
        default: target.default_dtype(),
        parse: &|name| target.parse_dtype(name),
        bits: &|dtype| bits.get(dtype).copied().unwrap_or(8.0) as u32,
    })
}

/// What the library must know of a model to do with it what the plan does.
fn known(model: &Model, settings: &Settings, warnings: &mut Vec<String>) -> Result<Known> {
    if settings.target != Family::Sdnq {
        return Ok(Known::default());
    }
    let plan = target::plan(model, settings)?;
    warnings.extend(plan.warnings.iter().cloned());
    // The config that would stand beside the file knows what else there is, and which kinds of layers are quantized.
    let config = target::sdnq::config::quantization_config(&plan, model);
    let is = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    let (quant_conv, quant_embedding) = (is("quant_conv"), is("quant_embedding"));
    let rows = plan.rows.iter().filter(|row| {
        let matrix = row.shape.len() == 2 || (quant_conv && row.shape.len() > 2);
        matrix && row.name.ends_with(".weight") && target::is_float(model, row)
    });
    let layers: Vec<Layer> = rows
        .map(|row| Layer {
            name: row.name.clone(),
            kept: row.excluded,
            // Of some kinds the target groups nothing, whatever is asked for.
            rows: matches!(&row.action, Action::Quantize(r) if r.group_size == group_size::ROW)
                && (row.shape.len() > 2 || quant_embedding),
        })
        .collect();
    let names: HashSet<&str> = plan.rows.iter().map(|row| row.name.as_str()).collect();
    let kept = config.get("modules_to_not_convert").and_then(Value::as_array).into_iter().flatten();
    let kept = kept.filter_map(Value::as_str).filter(|name| !names.contains(name)).map(str::to_owned).collect();
    Ok(Known { layers, kept, quant_conv, quant_embedding })
}
