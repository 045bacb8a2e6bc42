//! What the files say besides their weights: the model's configuration, and how its layers are kept.
use serde_json::{Map, Value, json};

use super::metadata;
use super::parts::Precision;
use super::sheet::Sheet;
use super::table::{self, Terms};
use crate::core::dtype::StorageExt;
use crate::core::plan::{Action, Plan, Row};
use crate::core::{Error, Model, Result, Settings, name};
use crate::target::layout::{Context, Description, pretty};
use crate::target::metadata::Facts;

/// The configuration of the model's class: said to be elsewhere, beside the weights, or the donor's of smoothing.
///
/// # Errors
/// If there is none, or it is of another class of models.
pub fn config(model: &Model, settings: &Settings, sheet: &Sheet) -> Result<Value> {
    let n = &settings.nunchaku;
    let donors = || settings.donor.as_ref()?.config.as_ref();
    let (mut found, from) = match (&settings.config, &model.config, donors()) {
        (Some(text), ..) => {
            let config = serde_json::from_str(text)
                .map_err(|e| Error::failed(format!("the configuration of the model is not JSON: {e}")).because(e))?;
            (config, n.model_path.as_ref().or(n.config_yaml.as_ref()).map(|at| format!("the config of {at}")))
        }
        (None, Some(config), _) => (config.clone(), None),
        (None, None, Some(config)) => (config.clone(), n.smooth_from.as_ref().map(|at| format!("the config in {at}"))),
        (None, None, None) => (Value::Null, None),
    };
    let is_object = found.as_object().is_some_and(|o| !o.is_empty());
    if !is_object {
        return Err(Error::failed(format!(
            "{}: has no config.json beside it, which Nunchaku's loaders build the model from; \
             name the folder or id that has it (--model-path), a description of the model (--config-yaml), or a Nunchaku \
             file of the base model (--smooth-from)",
            model.label
        )));
    }
    if let (Some(family), Some(config)) = (sheet.family, found.as_object_mut()) {
        // A configuration of the original code base does not say which class it is of.
        config.entry("_class_name").or_insert_with(|| json!(family.class));
    }
    let of = metadata::class_name(&found).zip(sheet.family);
    if let Some((class, family)) = of.filter(|(class, family)| *class != family.class) {
        let from = from.unwrap_or_else(|| format!("{}: config.json", model.label));
        let class = name::clean(class);
        return Err(Error::failed(format!("is of a {class}, and the model is a {}", family.class)).at(from));
    }
    Ok(found)
}

/// What speaks against the configuration being that of the model: the loaders, which believe it, would ask for other arrays.
pub fn doubt(model: &Model, settings: &Settings, rows: &[Row], sheet: &Sheet) -> Option<String> {
    let config = config(model, settings, sheet).ok()?;
    let (precision, rank) = sheet.family.and_then(|_| of_rows(rows))?;
    let terms = Terms {
        precision: in_header(precision),
        rank: u64::from(rank),
        skip_refiners: sheet.skips_refiners().unwrap_or(false),
    };
    let arrays = rows.iter().flat_map(|row| &row.parts).map(|part| (part.name.as_str(), part.shape.as_slice()));
    let blocks = metadata::fits(&config, rows.iter().map(|row| row.name.as_str()));
    let why = blocks.and_then(|()| table::fits(&config, terms, arrays)).err()?;
    Some(format!("Nunchaku's loaders would refuse the file: the config {why}"))
}

fn in_header(precision: Precision) -> metadata::Precision {
    if precision == Precision::Nvfp4 { metadata::Precision::Fp4 } else { metadata::Precision::Int4 }
}

/// What is the same of every layer with a branch: its dtype and rank.
fn of_rows(rows: &[Row]) -> Option<(Precision, u32)> {
    rows.iter().find_map(|row| match &row.action {
        Action::Quantize(recipe) if recipe.svd_rank > 0 => {
            Some((Precision::named(recipe.dtype.as_str())?, recipe.svd_rank))
        }
        _ => None,
    })
}

/// Everything that an output says besides its weights.
pub fn description(plan: &Plan, context: &Context) -> Result<Description> {
    let mut described = Description::default();
    described.metadata.push(("format".into(), "pt".into()));
    described.of_row = Some(facts);
    let Some((precision, rank)) = of_rows(&plan.rows) else { return Ok(described) };
    let sheet = Sheet::new(context.model, context.settings)?;
    if context.settings.nunchaku.lite {
        if !context.is_folder() {
            return Err(Error::usage("Nunchaku Lite is a folder that diffusers loads: let the output's name be one"));
        }
        let mut folder = config(context.model, context.settings, &sheet)?;
        if let Some(folder) = folder.as_object_mut() {
            folder.insert("quantization_config".into(), lite(plan, precision, rank));
        }
        described.sidecars.push(("config.json".into(), pretty(&folder)));
        return Ok(described);
    }
    if context.is_folder() {
        return Err(Error::usage(
            "Nunchaku loads single files: let the output's name end in .safetensors, or write a folder for diffusers (--lite)",
        ));
    }
    let config = config(context.model, context.settings, &sheet)?;
    let text = String::from_utf8_lossy(&pretty(&config)).into_owned();
    let found = metadata::Found {
        precision: in_header(precision),
        rank: u64::from(rank),
        skip_refiners: sheet.skips_refiners(),
    };
    let extra = context.settings.nunchaku.extra_metadata;
    described.metadata.extend(metadata::header(&text, found, extra).map_err(|e| e.at("config.json"))?);
    Ok(described)
}

/// The configuration of diffusers' loader: which layers are kept how.
fn lite(plan: &Plan, precision: Precision, rank: u32) -> Value {
    let layers = |wanted: &dyn Fn(Precision) -> bool| -> Vec<&str> {
        let of = |row: &Row| match &row.action {
            Action::Quantize(recipe) => Precision::named(recipe.dtype.as_str()).is_some_and(wanted),
            _ => false,
        };
        plan.rows.iter().filter(|row| of(row)).map(|row| name::layer(&row.name)).collect()
    };
    let mut out = Map::new();
    out.insert("quant_method".into(), json!("nunchaku_lite"));
    out.insert("compute_dtype".into(), json!("bfloat16"));
    out.insert(
        "svdq_w4a4".into(),
        json!({
            "precision": precision.name(),
            "group_size": precision.group(),
            "rank": rank,
            "targets": layers(&|p| p != Precision::Awq),
        }),
    );
    let awq = layers(&|p| p == Precision::Awq);
    if !awq.is_empty() {
        let group = Precision::Awq.group();
        out.insert("awq_w4a16".into(), json!({"precision": "int4", "group_size": group, "targets": awq}));
    }
    Value::Object(out)
}

/// mixdown's own description of a layer.
fn facts(row: &Row, model: &Model) -> Facts {
    let Action::Quantize(recipe) = &row.action else { return Facts::new() };
    let mut d = Facts::new();
    d.insert("target".into(), json!("nunchaku"));
    d.insert("weights_dtype".into(), json!(recipe.dtype.as_str()));
    d.insert("group_size".into(), json!(recipe.group_size));
    if recipe.svd_rank > 0 {
        d.insert("use_svd".into(), json!(true));
        d.insert("svd_rank".into(), json!(recipe.svd_rank));
        d.insert("svd_steps".into(), json!(recipe.svd_steps));
    }
    d.insert("original_shape".into(), json!(row.shape));
    d.insert("original_dtype".into(), json!(row.sources.first().map(|id| model.tensor(*id).storage.name())));
    d
}
