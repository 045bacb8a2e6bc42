//! `quantization_config`: what sdnq's loader needs to find its layers again.
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::architecture::HEADS;
use super::code::Code;
use super::layers::{self, Kind, Surroundings};
use super::resolve::{Group, channels, resolve_hadamard};
use crate::core::Model;
use crate::core::plan::{Action, Plan, Row};
use crate::core::recipe::{Family, Recipe};

/// The sdnq whose loader these files are written for.
const SDNQ_VERSION: &str = "0.2.8";

/// A row that is quantized, with what the loader must know of it.
struct Layer<'a> {
    row: &'a Row,
    recipe: &'a Recipe,
    kind: Kind,
}

/// The config of a plan: the most common recipe as the general rule, every other layer by its full name.
pub fn quantization_config(plan: &Plan, model: &Model) -> Value {
    let around = Surroundings::of(model);
    let quantized: Vec<Layer> = plan
        .rows
        .iter()
        .filter_map(|row| match &row.action {
            Action::Quantize(recipe) => {
                Some(Layer { row, recipe, kind: layers::kind_in(model, &row.name, &row.shape, around) })
            }
            _ => None,
        })
        .collect();
    let general = most_common(&quantized);
    let mut dtypes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut other = Map::new();
    for layer in &quantized {
        if layer.recipe.dtype != general.dtype {
            dtypes.entry(layer.recipe.dtype.as_str()).or_default().push(&layer.row.name);
        }
        let differs = differences(layer, &general);
        if !differs.is_empty() {
            other.insert(layer.row.name.clone(), Value::Object(differs));
        }
    }
    // The loader makes every layer of a quantizable class a quantized one unless it is listed here, by full name.
    let kept = plan
        .rows
        .iter()
        .filter(|row| {
            row.excluded && row.shape.len() >= 2 && row.name.ends_with(".weight") && super::super::is_float(model, row)
        })
        .map(|row| row.name.as_str());
    let has = |kinds: &[Kind]| quantized.iter().any(|l| kinds.contains(&l.kind));
    let names: Vec<&str> = quantized.iter().map(|l| l.row.name.as_str()).collect();
    let embeddings = has(&[Kind::Embedding]);
    let kept: Vec<&str> = kept.chain(not_in_the_file(&names, embeddings)).collect();
    let code = Code::parse(general.dtype.as_str());
    json!({
        "add_skip_keys": true,
        "codebook_steps": super::codes::CODEBOOK_STEPS,
        "dequantize_fp32": true,
        "dynamic_loss_threshold": null,
        "group_size": general.group_size,
        "hadamard_group_size": if general.hadamard > 0 { general.hadamard } else { 256 },
        "is_integer": code.is_none_or(Code::is_integer),
        "is_training": false,
        "is_unsigned": code.is_some_and(|c| !c.is_signed()),
        "minimum_allowed_channel_size": super::MIN_CHANNELS,
        "minimum_allowed_numel": super::MIN_ELEMENTS,
        "modules_dtype_dict": dtypes,
        "modules_quant_config": other,
        "modules_to_not_convert": kept,
        "modules_to_not_use_matmul": [],
        "non_blocking": false,
        "quant_conv": has(&[Kind::Convolution, Kind::TransposedConvolution]),
        "quant_embedding": embeddings,
        "quant_method": "sdnq",
        "quantization_device": null,
        "quantized_matmul_dtype": null,
        "return_device": null,
        "scale_dtype": null,
        "sdnq_version": SDNQ_VERSION,
        "svd_rank": if general.svd_rank > 0 { general.svd_rank } else { 32 },
        "svd_steps": general.svd_steps,
        "use_codebook": general.codebook,
        "use_codebook_scale": false,
        "use_dynamic_quantization": false,
        "use_grad_ckpt": true,
        "use_hadamard": general.hadamard > 0,
        "use_quantized_matmul": false,
        "use_quantized_matmul_conv": false,
        "use_static_quantization": true,
        "use_stochastic_rounding": false,
        "use_svd": general.svd_rank > 0,
        "weights_dtype": general.dtype.as_str(),
        "zero_point_dtype": null,
    })
}

/// Layers that share another's weight: they are not in the file, yet the loader would quantize them. A name that the
/// model does not have does no harm.
fn not_in_the_file(quantized: &[&str], embeddings: bool) -> Vec<&'static str> {
    // As the loader reads it: the first is any segment, the others are full names.
    let heads = HEADS.into_iter().map(|head| if head == "lm_head.weight" { "lm_head" } else { head });
    let tables = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
    let tables = tables.into_iter().filter(|_| embeddings);
    let meant = |head: &str| quantized.iter().any(|n| *n == head || n.split('.').any(|segment| segment == head));
    heads.chain(tables).filter(|head| !meant(head)).collect()
}

fn most_common(quantized: &[Layer]) -> Recipe {
    let mut counts: BTreeMap<_, (usize, &Recipe)> = BTreeMap::new();
    for Layer { recipe: r, .. } in quantized {
        // Rotations of one limit come out by the layer's channels; only whether there is one tells recipes apart.
        let key = (r.dtype.as_str(), r.group_size, r.svd_rank, r.svd_steps, r.hadamard > 0, r.codebook);
        counts.entry(key).or_insert((0, r)).0 += 1;
    }
    let mut general = match counts.into_values().max_by_key(|(n, _)| *n) {
        Some((_, recipe)) => recipe.clone(),
        None => Recipe::plain(Family::Sdnq, crate::core::Dtype::new("int8"), -1),
    };
    if general.hadamard > 0 {
        general.hadamard = quantized.iter().map(|l| l.recipe.hadamard).max().unwrap_or(general.hadamard);
    }
    general
}

/// What must be said of a layer, besides its dtype, for the loader to find its recipe where the general rule is another.
fn differences(layer: &Layer, general: &Recipe) -> Map<String, Value> {
    let Layer { row, recipe, kind } = *layer;
    let mut d = Map::new();
    let svd = recipe.svd_rank > 0;
    if svd != (general.svd_rank > 0) {
        d.insert("use_svd".into(), json!(svd));
    }
    let (rows, cols) = (row.shape.first().copied().unwrap_or(1), row.shape.iter().skip(1).product::<u64>());
    // The loader narrows a rank to the layer's own; only a rank that does not come out by itself is said.
    let found = u64::from(if general.svd_rank > 0 { general.svd_rank } else { 32 }).min(rows).min(cols);
    if svd && found != u64::from(recipe.svd_rank) {
        d.insert("svd_rank".into(), json!(recipe.svd_rank));
    }
    if resolve_hadamard(general.hadamard, &row.shape) != recipe.hadamard {
        if (recipe.hadamard > 0) != (general.hadamard > 0) {
            d.insert("use_hadamard".into(), json!(recipe.hadamard > 0));
        }
        if recipe.hadamard > 0 {
            d.insert("hadamard_group_size".into(), json!(recipe.hadamard));
        } else {
            d.insert("use_hadamard".into(), json!(false));
        }
    }
    if recipe.codebook != general.codebook {
        d.insert("use_codebook".into(), json!(recipe.codebook));
    }
    let bits = Code::parse(recipe.dtype.as_str()).map_or(8, Code::bits);
    let group = Group { kind, bits, svd, codebook: recipe.codebook, hadamard: recipe.hadamard };
    if group.derive(general.group_size, channels(kind, &row.shape)) != recipe.group_size {
        d.insert("group_size".into(), json!(recipe.group_size));
    }
    d
}
