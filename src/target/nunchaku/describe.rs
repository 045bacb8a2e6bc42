//! What the files say besides their weights: the model's configuration, and how its layers are kept.
use serde_json::{Map, Value, json};

use super::metadata;
use super::parts::Precision;
use super::sheet::{Sheet, class};
use crate::core::dtype::StorageExt;
use crate::core::plan::{Action, Plan, Row};
use crate::core::{Error, Model, Result, Settings, name};
use crate::target::layout::{Context, Description, pretty};
use crate::target::metadata::Facts;

/// The configuration of the model's class: said to be elsewhere, beside the weights, or the donor's of smoothing, if it is
/// of such a model as `rows` are.
pub fn config(model: &Model, settings: &Settings, rows: &[Row]) -> Result<Value> {
    let donors = || settings.donor.as_ref()?.config.as_ref();
    let found = match (&settings.config, &model.config, donors()) {
        (Some(text), ..) => serde_json::from_str(text)
            .map_err(|e| Error::failed(format!("the configuration of the model is not JSON: {e}")).because(e))?,
        (None, Some(config), _) => config.clone(),
        (None, None, Some(config)) => {
            metadata::fits(config, rows.iter().map(|row| row.name.as_str())).map_err(|e| {
                e.at(format!("the configuration in {}", settings.nunchaku.smooth_from.as_deref().unwrap_or_default()))
            })?;
            config.clone()
        }
        (None, None, None) => Value::Null,
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
    Ok(found)
}

/// What is the same of every layer of a plan with a branch: its dtype and rank.
fn of_plan(plan: &Plan) -> Option<(Precision, u32)> {
    plan.rows.iter().find_map(|row| match &row.action {
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
    let Some((precision, rank)) = of_plan(plan) else { return Ok(described) };
    if context.settings.nunchaku.lite {
        if !context.is_folder() {
            return Err(Error::usage("Nunchaku Lite is a folder that diffusers loads: let the output's name be one"));
        }
        let mut folder = config(context.model, context.settings, &plan.rows)?;
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
    let sheet = Sheet::new(context.model, context.settings)?;
    let class = class(context.model).unwrap_or_default();
    let mut config = config(context.model, context.settings, &plan.rows)?;
    if let Some(config) = config.as_object_mut() {
        // A configuration of the original code base does not say which class it is of.
        config.entry("_class_name").or_insert_with(|| json!(class));
    }
    let text = String::from_utf8_lossy(&pretty(&config)).into_owned();
    let found = metadata::Found {
        precision: if precision == Precision::Nvfp4 { metadata::Precision::Fp4 } else { metadata::Precision::Int4 },
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
