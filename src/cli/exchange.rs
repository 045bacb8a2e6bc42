//! `mixdown profile export` and `import`: profiles as the settings of other tools.
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::args::{Global, ModelArg, Tool};
use super::{print_bytes, settings};
use crate::core::options::Names;
use crate::core::plan::Action;
use crate::core::recipe::{ScaleSearch, group_size};
use crate::core::{Dtype, Error, Family, Model, Result, Settings, name};
use crate::format::{json, profiles, save};
use crate::session::exchange::ctq;
use crate::session::exchange::sdnq::{self, Dtypes, Known, Layer};
use crate::session::preset;
use crate::session::profile::PresetChoice;
use crate::target;

/// A config is far smaller; a file of weights is not.
const LARGEST: u64 = 64 << 20;

/// `profile export`.
pub fn export(name: &str, model: &ModelArg, tool: Tool, output: Option<&Path>, global: &Global) -> Result<u8> {
    let mut profile = settings::load(name)?;
    let opened = match *model == ModelArg::default() {
        true => None,
        false => Some(super::open(model, global)?),
    };
    if let Some(path) = output {
        if path.extension().is_some_and(|e| e == "toml") {
            return Err(Error::usage(format!("--output {}: these settings are JSON", path.display())));
        }
        if let Some(opened) = &opened {
            save::check_side_file(path, "--output", opened, None)?;
        }
    }
    let mut warnings = Vec::new();
    if tool == Tool::Ctq {
        let opened = opened.as_deref().ok_or_else(|| {
            Error::usage(
                "--as ctq: which pattern wins there cannot be chosen, so layers are named one by one: give MODEL",
            )
        })?;
        settings::apply_preset(&mut profile, &opened.model)?;
        let (config, more) = ctq::export(&layers(&opened.model, &profile.settings, &mut warnings)?);
        warnings.extend(more);
        return told(&config, output, &warnings, global);
    }
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
    told(&exported.config, output, &warnings, global)
}

fn told(config: &Value, output: Option<&Path>, warnings: &[String], global: &Global) -> Result<u8> {
    super::plan::warn_all(warnings, global);
    let text = format!("{config:#}\n");
    match output {
        Some(path) => save::write_file(path, text.as_bytes()).map(|()| 0),
        None => print_bytes(text.as_bytes()),
    }
}

/// The layers of a model as a profile treats them.
fn layers(model: &Model, settings: &Settings, warnings: &mut Vec<String>) -> Result<Vec<ctq::Layer>> {
    if settings.target != Family::Comfy {
        return Err(Error::usage(format!(
            "--as ctq: convert_to_quant writes ComfyUI's files, this profile is for {}",
            settings.target
        )));
    }
    // It reads the source, whose names are the source's.
    let settings = Settings { names: Some(Names::Source), ..settings.clone() };
    let plan = target::plan(model, &settings)?;
    warnings.extend(plan.warnings.iter().cloned());
    let recipes = || {
        plan.rows.iter().filter_map(|row| match &row.action {
            Action::Quantize(recipe) => Some(recipe),
            _ => None,
        })
    };
    let lost = [
        ("rotated", recipes().filter(|r| r.hadamard > 0).count()),
        ("searched scales for", recipes().filter(|r| r.scale_search != ScaleSearch::Absmax).count()),
    ];
    for (what, n) in lost.into_iter().filter(|(_, n)| *n > 0) {
        warnings.push(format!("{n} layers are {what} here, which a layer config does not say"));
    }
    let matrices = plan.rows.iter().filter(|row| row.shape.len() == 2 && row.name.ends_with(".weight"));
    Ok(matrices
        .map(|row| ctq::Layer {
            name: name::layer(&row.name).to_owned(),
            dtype: match &row.action {
                Action::Quantize(r) => Some((r.dtype.clone(), r.group_size)),
                _ => None,
            },
        })
        .collect())
}

/// `profile import`.
pub fn import(file: &Path, tool: Tool, output: Option<&Path>, name: Option<&str>, global: &Global) -> Result<u8> {
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
    let imported = match tool {
        Tool::Sdnq => with_dtypes(|dtypes| sdnq::import(&config, dtypes)),
        Tool::Ctq => ctq::import(&config),
    }
    .map_err(|e| e.at(&place))?;
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
