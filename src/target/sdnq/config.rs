//! `quantization_config`: what sdnq's loader needs to find its layers again.
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::codes::Code;
use super::resolve_group;
use crate::core::Model;
use crate::core::plan::{Action, Plan, Row};
use crate::core::recipe::Recipe;

/// The sdnq whose loader these files are written for.
const SDNQ_VERSION: &str = "0.2.8";

/// The config of a plan: the most common recipe as the general rule, every other layer by its full name.
pub fn quantization_config(plan: &Plan, model: &Model) -> Value {
    let quantized: Vec<(&Row, &Recipe)> = plan
        .rows
        .iter()
        .filter_map(|row| match &row.action {
            Action::Quantize(recipe) => Some((row, recipe)),
            _ => None,
        })
        .collect();
    let general = most_common(&quantized);
    let mut other = Map::new();
    for (row, recipe) in &quantized {
        let differs = differences(row, recipe, &general);
        if !differs.is_empty() {
            other.insert(row.name.clone(), Value::Object(differs));
        }
    }
    // The loader makes every layer of a quantizable class a quantized one unless it is listed here, by full name.
    let kept: Vec<&str> = plan
        .rows
        .iter()
        .filter(|row| {
            row.excluded && row.shape.len() >= 2 && row.name.ends_with(".weight") && super::super::is_float(model, row)
        })
        .map(|row| row.name.as_str())
        .collect();
    let quantized_names: Vec<&str> = quantized.iter().map(|(row, _)| row.name.as_str()).collect();
    let kept: Vec<&str> = kept.into_iter().chain(tied_heads(&quantized_names)).collect();
    json!({
        "add_skip_keys": true,
        "codebook_steps": 24,
        "dequantize_fp32": true,
        "dynamic_loss_threshold": null,
        "group_size": general.group_size,
        "hadamard_group_size": 256,
        "is_integer": true,
        "is_training": false,
        "is_unsigned": general.dtype.as_str().starts_with('u'),
        "minimum_allowed_channel_size": super::MIN_CHANNELS,
        "minimum_allowed_numel": super::MIN_ELEMENTS,
        "modules_dtype_dict": {},
        "modules_quant_config": other,
        "modules_to_not_convert": kept,
        "modules_to_not_use_matmul": [],
        "non_blocking": false,
        "quant_conv": false,
        "quant_embedding": false,
        "quant_method": "sdnq",
        "quantization_device": null,
        "quantized_matmul_dtype": null,
        "return_device": null,
        "scale_dtype": null,
        "sdnq_version": SDNQ_VERSION,
        "svd_rank": if general.svd_rank > 0 { general.svd_rank } else { 32 },
        "svd_steps": general.svd_steps,
        "use_codebook": false,
        "use_codebook_scale": false,
        "use_dynamic_quantization": false,
        "use_grad_ckpt": true,
        "use_hadamard": false,
        "use_quantized_matmul": false,
        "use_quantized_matmul_conv": false,
        "use_static_quantization": true,
        "use_stochastic_rounding": false,
        "use_svd": general.svd_rank > 0,
        "weights_dtype": general.dtype.as_str(),
        "zero_point_dtype": null,
    })
}

/// Output heads that share the embedding's weight: they are not in the file, yet the loader would quantize them. A name
/// that the model does not have does no harm.
fn tied_heads<'a>(quantized: &[&str]) -> impl Iterator<Item = &'a str> {
    // As the loader reads it: the first is any segment, the others are full names.
    let heads = ["lm_head", "proj_out.weight", "cls.predictions.decoder.weight", "embed_out.weight"];
    let meant = |head: &str| quantized.iter().any(|n| *n == head || n.split('.').any(|segment| segment == head));
    heads.into_iter().filter(|head| !meant(head)).collect::<Vec<_>>().into_iter()
}

fn most_common(quantized: &[(&Row, &Recipe)]) -> Recipe {
    let mut counts: BTreeMap<(&str, i64, u32, u32), (usize, &Recipe)> = BTreeMap::new();
    for (_, r) in quantized {
        counts.entry((r.dtype.as_str(), r.group_size, r.svd_rank, r.svd_steps)).or_insert((0, r)).0 += 1;
    }
    match counts.into_values().max_by_key(|(n, _)| *n) {
        Some((_, recipe)) => recipe.clone(),
        None => Recipe::plain(crate::core::Dtype::new("int8"), -1),
    }
}

/// What must be said of a layer for the loader to find `recipe` where the general rule is another.
fn differences(row: &Row, recipe: &Recipe, general: &Recipe) -> Map<String, Value> {
    let mut d = Map::new();
    if recipe.dtype != general.dtype {
        d.insert("weights_dtype".into(), json!(recipe.dtype.as_str()));
    }
    let svd = recipe.svd_rank > 0;
    if svd != (general.svd_rank > 0) {
        d.insert("use_svd".into(), json!(svd));
    }
    let (out, channels) = (row.shape.first().copied().unwrap_or(1), row.shape.iter().skip(1).product::<u64>());
    // The loader narrows a rank to the layer's own; only a rank that does not come out by itself is said.
    let found = u64::from(if general.svd_rank > 0 { general.svd_rank } else { 32 }).min(out).min(channels);
    if svd && found != u64::from(recipe.svd_rank) {
        d.insert("svd_rank".into(), json!(recipe.svd_rank));
    }
    let bits = Code::parse(recipe.dtype.as_str()).map_or(8, Code::bits);
    if resolve_group(general.group_size, bits, svd, channels) != recipe.group_size {
        d.insert("group_size".into(), json!(recipe.group_size));
    }
    d
}
