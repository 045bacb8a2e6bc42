//! What a file says of itself: a tensor `….comfy_quant` beside each layer, and the header.
use serde_json::{Map, Value, json};

use super::format::Format;
use super::format_of;
use crate::core::dtype::StorageExt;
use crate::core::plan::{Action, Plan, Row};
use crate::core::{Model, Recipe, name};
use crate::target::layout::{Context, Description};
use crate::target::metadata::Facts;

/// What follows a layer's name in the name of the tensor that says how to read it.
pub const SUFFIX: &str = ".comfy_quant";
/// The header's key for the same.
pub const HEADER: &str = "_quantization_metadata";

/// How a layer is read, as ComfyUI wants to be told.
pub fn comfy_quant(format: Format, recipe: &Recipe) -> Value {
    let mut out = Map::new();
    out.insert("format".into(), json!(format.tag()));
    match format {
        Format::Int8 if recipe.hadamard > 0 => {
            out.insert("convrot".into(), json!(true));
            out.insert("convrot_groupsize".into(), json!(recipe.hadamard));
        }
        Format::W4a4 => {
            out.insert("convrot_groupsize".into(), json!(recipe.hadamard));
        }
        Format::W4a8 | Format::W6a8 => {
            out.insert("group_size".into(), json!(recipe.group_size));
            out.insert("convrot_groupsize".into(), json!(recipe.hadamard));
        }
        Format::Awq => {
            out.insert("group_size".into(), json!(recipe.group_size));
        }
        _ => {}
    }
    Value::Object(out)
}

/// The same for a row, if it is quantized.
fn of_row(row: &Row) -> Option<Value> {
    match &row.action {
        Action::Quantize(recipe) => Some(comfy_quant(format_of(&row.action)?, recipe)),
        _ => None,
    }
}

/// Everything that a file says besides its weights.
pub fn description(plan: &Plan, context: &Context) -> Description {
    let mut described =
        Description { by_tensor: context.settings.metadata_tensors.unwrap_or(true), ..Description::default() };
    described.metadata.push(("format".into(), "pt".into()));
    if context.settings.comfy.header {
        let layers: Map<String, Value> =
            plan.rows.iter().filter_map(|row| Some((name::layer(&row.name).to_owned(), of_row(row)?))).collect();
        let text = json!({"format_version": "1.0", "layers": layers}).to_string();
        described.metadata.push((HEADER.into(), text));
    }
    described.beside = Some(|row: &Row| {
        let text = of_row(row)?.to_string();
        Some((format!("{}{SUFFIX}", name::layer(&row.name)), text.into_bytes()))
    });
    described.of_row = Some(facts);
    described
}

/// mixdown's own description of a layer.
fn facts(row: &Row, model: &Model) -> Facts {
    let (Action::Quantize(r), Some(format)) = (&row.action, format_of(&row.action)) else {
        return Facts::new();
    };
    let mut d = Facts::new();
    d.insert("target".into(), json!("comfy"));
    d.insert("weights_dtype".into(), json!(format.name()));
    d.insert("group_size".into(), json!(r.group_size));
    if r.hadamard > 0 {
        d.insert("use_hadamard".into(), json!(true));
        d.insert("hadamard_group_size".into(), json!(r.hadamard));
    }
    d.insert("scale_search".into(), json!(r.scale_search.name()));
    d.insert("original_shape".into(), json!(row.shape));
    let storage = row.sources.first().map(|id| model.tensor(*id).storage.name());
    d.insert("original_dtype".into(), json!(storage));
    d
}
