//! SDNQ: quantized weights that diffusers, transformers and SD.Next load through the `sdnq` library.
//!
//! Layout and arithmetic follow sdnq 0.2.8; integer codes, scales and zero points equal its own bit for bit.
pub mod codes;
pub mod config;
pub mod layers;
pub mod read;

use serde_json::json;

use super::codec::{Codec, LONGEST_ROW};
use super::layout::{Context, Description};
use super::metadata::Facts;
use super::{DtypeInfo, Knob, Target, kept, row_of};
use crate::core::dtype::StorageExt;
use crate::core::model::TensorId;
use crate::core::plan::{Action, Part, Plan, Row};
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::rules::Decision;
use crate::core::{Dtype, Error, Model, Result, Settings, Storage};
use codes::Code;
use layers::Kind;

/// sdnq quantizes nothing smaller: input channels, elements.
const MIN_CHANNELS: u64 = 32;
const MIN_ELEMENTS: u64 = 16384;
/// sdnq's own default for the search of the low-rank branch.
const SVD_STEPS: u32 = 8;

/// The target.
#[derive(Debug)]
pub struct Sdnq;

impl Target for Sdnq {
    fn family(&self) -> Family {
        Family::Sdnq
    }

    fn dtypes(&self) -> Vec<DtypeInfo> {
        codes::all()
            .map(|c| DtypeInfo { name: Dtype::new(&c.name()), bits: f64::from(c.bits()), about: c.about() })
            .collect()
    }

    fn parse_dtype(&self, name: &str) -> Result<Dtype> {
        match Code::parse(name) {
            Some(code) => Ok(Dtype::new(&code.name())),
            None => {
                let names: Vec<String> = codes::all().map(|c| c.name()).collect();
                Err(super::unknown_dtype(Family::Sdnq, name, names.iter().map(String::as_str)))
            }
        }
    }

    fn default_dtype(&self) -> Dtype {
        Dtype::new("int8")
    }

    fn has(&self, _: Knob) -> Result<(), String> {
        Ok(())
    }

    fn row(&self, model: &Model, id: TensorId, decision: &Decision, settings: &Settings) -> Result<Row> {
        let tensor = model.tensor(id);
        let keep = |reason: String| Ok(kept(model, id, decision, Some(reason)));
        if layers::is_leftover(&tensor.name, &tensor.shape) {
            let reason =
                "left out: the model makes this constant itself, and SDNQ's strict loader refuses it".to_owned();
            let row = kept(model, id, decision, Some(reason));
            return Ok(Row { parts: Vec::new(), ..row });
        }
        if !tensor.is_float() {
            return keep(format!("{} is not a float type", tensor.storage.name()));
        }
        if decision.keeps() {
            let cause = decision.kept_by.as_ref().unwrap_or(&decision.by);
            return keep(settings.explain(cause));
        }
        match layers::kind(&tensor.name, &tensor.shape) {
            Kind::Linear => {}
            other => return keep(other.why_kept().to_owned()),
        }
        let (out, channels) = (tensor.rows(), tensor.cols());
        if channels < MIN_CHANNELS || out * channels < MIN_ELEMENTS {
            return keep(format!(
                "{out}×{channels} is below SDNQ's minimum of {MIN_CHANNELS} input channels and {MIN_ELEMENTS} elements"
            ));
        }
        if channels > LONGEST_ROW {
            return keep(format!("rows of {channels} elements are longer than mixdown works on ({LONGEST_ROW})"));
        }
        let asked = asked(&decision.patch)?;
        let code = code_of(&asked.dtype)?;
        if code.packed_shape(out * channels).is_none() {
            return keep(format!("{} elements do not fill {}'s units of {}", out * channels, code.name(), code.unit()));
        }
        let recipe = resolve(&asked, code, out, channels);
        let parts = parts(&tensor.name, &tensor.shape, code, &recipe, factor_storage(tensor.storage));
        let reason = (asked.group_size > 0 && asked.group_size != recipe.group_size).then(|| {
            let found = match recipe.group_size {
                group_size::ROW => "one scale per row".to_owned(),
                n => format!("groups of {n}"),
            };
            format!("{channels} input channels do not divide into groups of {}: SDNQ takes {found}", asked.group_size)
        });
        Ok(row_of(tensor, id, decision, Action::Quantize(recipe), parts, reason))
    }

    fn codec(&self, shape: &[u64], storage: Storage, action: &Action) -> Result<Box<dyn Codec>> {
        match action {
            Action::Quantize(recipe) => {
                Ok(Box::new(codes::SdnqCodec::new(shape, code_of(&recipe.dtype)?, recipe, factor_storage(storage))?))
            }
            other => super::float::codec(shape, other),
        }
    }

    fn description(&self, plan: &Plan, context: &Context) -> Result<Description> {
        let mut described = Description::default();
        described.metadata.push(("format".into(), "pt".into()));
        // The folder's strict loader refuses tensors it does not know; a single file's loaders pass them over.
        described.by_tensor = context.settings.metadata_tensors.unwrap_or(!context.is_folder());
        if context.is_folder() {
            let quantization = config::quantization_config(plan, context.model);
            let mut config = match context.model.config.clone() {
                Some(serde_json::Value::Object(map)) => map,
                _ => serde_json::Map::new(),
            };
            config.insert("quantization_config".into(), quantization.clone());
            described.sidecars.push(("config.json".into(), super::layout::pretty(&config.into())));
            described.sidecars.push(("quantization_config.json".into(), super::layout::pretty(&quantization)));
        }
        described.of_row = Some(|row: &Row, model: &Model| -> Facts {
            let Action::Quantize(r) = &row.action else {
                return Facts::new();
            };
            let mut d = Facts::new();
            d.insert("target".into(), json!("sdnq"));
            d.insert("weights_dtype".into(), json!(r.dtype.as_str()));
            d.insert("quantized_matmul_dtype".into(), json!(null));
            d.insert("group_size".into(), json!(r.group_size));
            d.insert("use_svd".into(), json!(r.svd_rank > 0));
            d.insert("svd_rank".into(), json!(r.svd_rank));
            d.insert("svd_steps".into(), json!(r.svd_steps));
            d.insert("use_hadamard".into(), json!(false));
            d.insert("original_shape".into(), json!(row.shape));
            let storage = row.sources.first().map(|id| model.tensor(*id).storage.name());
            d.insert("original_dtype".into(), json!(storage));
            d
        });
        Ok(described)
    }

    fn loads_with(&self, model: &Model) -> String {
        let diffusers = model.config.as_ref().is_some_and(|c| c.get("_class_name").is_some());
        if diffusers { "sdnq ≥ 0.2.2 · diffusers ≥ 0.40".into() } else { "sdnq ≥ 0.2.2 · transformers".into() }
    }
}

fn code_of(dtype: &Dtype) -> Result<Code> {
    Code::parse(dtype.as_str()).ok_or_else(|| Error::usage(format!("sdnq has no dtype `{dtype}`")))
}

/// What was asked of a tensor, with the target's defaults where nothing was.
fn asked(patch: &crate::core::Patch) -> Result<Recipe> {
    let dtype = patch.dtype.clone().unwrap_or_else(|| Sdnq.default_dtype());
    let code = code_of(&dtype)?;
    // Rows for 8 bit: sdnq's own rule makes groups of 1024, which costs its fast matrix product a requantization.
    let size = patch.group_size.unwrap_or(if code.bits() == 8 { group_size::ROW } else { group_size::AUTO });
    if size < group_size::TENSOR {
        return Err(Error::usage(format!(
            "group size {size}: give 0 (auto), -1 (row), -2 (tensor) or a number of values"
        )));
    }
    let svd_steps = patch.svd_steps.unwrap_or(SVD_STEPS);
    Ok(Recipe { svd_rank: patch.svd_rank.unwrap_or(0), svd_steps, ..Recipe::plain(dtype, size) })
}

/// The recipe with its group size and rank as they come out for a layer of `out` × `channels`.
fn resolve(asked: &Recipe, code: Code, out: u64, channels: u64) -> Recipe {
    let svd_rank = u64::from(asked.svd_rank).min(out).min(channels) as u32;
    let group_size = resolve_group(asked.group_size, code.bits(), svd_rank > 0, channels);
    Recipe { group_size, svd_rank, ..asked.clone() }
}

/// The rule by which sdnq's loader finds a Linear's groups again (`quantizer.py`, group size selection).
pub(crate) fn resolve_group(asked: i64, bits: u8, svd: bool, channels: u64) -> i64 {
    let asked = match asked {
        group_size::AUTO => 1i64 << (2 + u32::from(bits) + u32::from(svd)),
        other => other,
    };
    if asked <= 0 {
        return asked;
    }
    let mut size = asked as u64;
    if size >= channels {
        return group_size::ROW;
    }
    let mut groups = channels / size;
    while groups * size != channels {
        // The number of groups shrinks first and the size follows from it: 240 channels in 64s become 120, not 80.
        groups -= 1;
        if groups <= 1 {
            return group_size::ROW;
        }
        size = channels / groups;
    }
    if groups <= 1 { group_size::ROW } else { size as i64 }
}

/// The low-rank factors have the type that the weight had.
fn factor_storage(storage: Storage) -> Storage {
    super::castable(storage)
}

/// The arrays of a quantized layer, in this order: weight, scale, zero point, low-rank factors.
pub(crate) fn parts(name: &str, shape: &[u64], code: Code, recipe: &Recipe, factors: Storage) -> Vec<Part> {
    let layer = crate::core::name::layer(name);
    let part = |suffix: &str, storage, shape| Part { name: format!("{layer}.{suffix}"), storage, shape };
    let (out, channels) = (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<u64>());
    let scale_shape = match recipe.group_size {
        group_size::TENSOR => vec![1, 1],
        n if n > 0 => vec![out, channels / n as u64, 1],
        _ => vec![out, 1],
    };
    let weight_shape = match (code.packed_shape(out * channels), recipe.group_size) {
        (Some(packed), _) if code.is_packed() => packed,
        (_, n) if n > 0 => vec![out, channels / n as u64, n as u64],
        _ => vec![out, channels],
    };
    let mut parts =
        vec![part("weight", code.storage(), weight_shape), part("scale", Storage::F32, scale_shape.clone())];
    if code.has_zero_point() {
        parts.push(part("zero_point", Storage::F32, scale_shape));
    }
    if recipe.svd_rank > 0 {
        let rank = u64::from(recipe.svd_rank);
        parts.push(part("svd_up", factors, vec![out, rank]));
        parts.push(part("svd_down", factors, vec![rank, channels]));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_out_as_the_loader_finds_them() {
        fn check(asked: i64, bits: u8, svd: bool, channels: u64, size: i64) {
            assert_eq!(
                resolve_group(asked, bits, svd, channels),
                size,
                "{asked} for {channels} channels of {bits} bits"
            );
        }
        check(0, 4, false, 3072, 64);
        check(0, 4, true, 3072, 128);
        check(0, 8, false, 3072, 1024);
        check(0, 8, false, 1536, -1);
        check(0, 1, false, 64, 8);
        check(64, 4, false, 192, 64);
        check(64, 4, false, 240, 120);
        check(128, 4, false, 3072, 128);
        check(48, 4, false, 64, -1);
        check(64, 4, false, 64, -1);
        check(-1, 4, false, 3072, -1);
        check(-2, 4, false, 3072, -2);
    }
}
