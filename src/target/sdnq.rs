//! SDNQ: quantized weights that diffusers, transformers and SD.Next load through the `sdnq` library.
//!
//! Layout and arithmetic follow sdnq 0.2.8; integer codes, scales and zero points equal its own bit for bit.
pub mod code;
pub mod codes;
pub mod config;
#[cfg(test)]
mod golden;
pub mod layers;
pub mod loader;
pub mod patterns;
pub mod read;
pub mod recover;
pub mod resolve;
pub mod validate;

use serde_json::json;

use super::codec::{Codec, LONGEST_ROW};
use super::layout::{Context, Description};
use super::metadata::Facts;
use super::{Alternative, DtypeInfo, Knob, Target, kept, row_of};
use crate::core::dtype::StorageExt;
use crate::core::model::TensorId;
use crate::core::plan::{Action, Plan, Row};
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::rules::{Decision, hadamard};
use crate::core::{Dtype, Error, Model, Patch, Result, Settings, Storage, Tensor};
use crate::quant::minifloat::FloatCode;
use code::Code;
use layers::{Quantizable, Surroundings};

/// sdnq quantizes nothing smaller: channels, elements.
const MIN_CHANNELS: u64 = 32;
const MIN_ELEMENTS: u64 = 16384;
/// sdnq's own default for the search of the low-rank branch.
const SVD_STEPS: u32 = 8;

/// Group sizes that are worth a look, coarse ones first.
const GROUP_SIZES: [i64; 5] = [group_size::ROW, 256, 128, 64, 32];

/// The target.
#[derive(Debug)]
pub struct Sdnq;

impl Target for Sdnq {
    fn family(&self) -> Family {
        Family::Sdnq
    }

    fn dtypes(&self) -> Vec<DtypeInfo> {
        code::all()
            .map(|c| DtypeInfo { name: Dtype::new(&c.name()), bits: f64::from(c.bits()), about: c.about() })
            .collect()
    }

    fn parse_dtype(&self, name: &str) -> Result<Dtype> {
        Code::named(name).map(|code| Dtype::new(&code.name()))
    }

    fn ladder(&self, first: &Dtype, codebook: bool) -> Vec<(Dtype, f64)> {
        code::by_size()
            .into_iter()
            .skip_while(|code| code.name() != first.as_str())
            .filter(|code| !codebook || code.takes_codebook())
            .map(|code| (Dtype::new(&code.name()), f64::from(code.bits())))
            .collect()
    }

    fn default_dtype(&self) -> Dtype {
        Dtype::new("int8")
    }

    fn has(&self, knob: Knob) -> Result<(), String> {
        match knob {
            Knob::Mixtures => Err("SDNQ has no mixtures".into()),
            Knob::Importance => Err("SDNQ weighs all columns alike".into()),
            Knob::ScaleSearch => Err("SDNQ's scales follow from the greatest value".into()),
            Knob::ConvRot => Err("SDNQ calls it --hadamard".into()),
            Knob::Nunchaku => Err("SDNQ has no such kernels".into()),
            Knob::KeepNames => Err("SDNQ keeps the source's names anyway".into()),
            Knob::KeyNames => Err("SDNQ has no prefixes, and no other header".into()),
            _ => Ok(()),
        }
    }

    fn alternatives(&self, recipe: Option<&Recipe>) -> Vec<Alternative> {
        let whole = |code: &Code| matches!(code, Code::Int(_)) && (2..=8).contains(&code.bits());
        let native = [FloatCode::E4M3FN, FloatCode::E5M2].map(Code::Float);
        let dtype = |code: &Code| Patch { dtype: Some(Dtype::new(&code.name())), ..Patch::default() };
        let alternative = |usual: bool, patch: Patch| Alternative { patch, usual };
        let codes: Vec<Code> = code::all().collect();
        let usual: Vec<&Code> = codes.iter().filter(|c| whole(c) || native.contains(c)).collect();
        let now = recipe.and_then(|r| code_of(&r.dtype).ok());
        let mut out: Vec<Alternative> = usual.iter().map(|c| alternative(true, dtype(c))).collect();
        if let (Some(recipe), Some(code)) = (recipe, now) {
            let mine = |patch: Patch| alternative(true, Patch { dtype: Some(recipe.dtype.clone()), ..patch });
            out.extend(GROUP_SIZES.map(|n| mine(Patch { group_size: Some(n), ..Patch::default() })));
            let turned = if recipe.hadamard > 0 { 0 } else { hadamard::DEFAULT };
            out.push(mine(Patch { hadamard: Some(turned), ..Patch::default() }));
            if code.takes_codebook() {
                out.push(mine(Patch { codebook: Some(!recipe.codebook), ..Patch::default() }));
            }
            out.extend([0, 16, 32, 64].map(|n| mine(Patch { svd_rank: Some(n), ..Patch::default() })));
        }
        for code in usual.iter().filter(|c| now != Some(***c) && !matches!(c, Code::Float(_))) {
            let grouped = |n| Patch { group_size: Some(n), ..dtype(code) };
            out.extend(GROUP_SIZES.map(|n| alternative(false, grouped(n))));
        }
        out.extend(codes.iter().filter(|c| !usual.contains(c)).map(|c| alternative(false, dtype(c))));
        out
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        let dtype = settings.defaults.dtype.clone().unwrap_or_else(|| self.default_dtype());
        if settings.defaults.codebook == Some(true) && !code_of(&dtype)?.takes_codebook() {
            return Err(Error::usage(format!(
                "a codebook needs an unsigned integer dtype of up to 8 bits, not {dtype}; say uint4, for one"
            )));
        }
        Ok(())
    }

    fn row(
        &self,
        model: &Model,
        id: TensorId,
        tensor: &Tensor,
        decision: &Decision,
        settings: &Settings,
    ) -> Result<Row> {
        let keep = |reason: String| Ok(kept(tensor, id, decision, Some(reason)));
        if layers::is_leftover(&tensor.name, &tensor.shape) {
            let reason =
                "left out: the model makes this constant itself, and SDNQ's strict loader refuses it".to_owned();
            let row = kept(tensor, id, decision, Some(reason));
            return Ok(Row { parts: Vec::new(), ..row });
        }
        if !tensor.is_float() {
            return keep(format!("{} is not a float type", tensor.storage.name()));
        }
        if decision.keeps() {
            let cause = decision.kept_by.as_ref().unwrap_or(&decision.by);
            return keep(settings.explain(cause));
        }
        let kind = layers::kind_in(model, &tensor.name, &tensor.shape, Surroundings::of(model));
        // Who includes a layer expressly means that layer, whatever kinds are quantized otherwise.
        let included = decision.patch.keep == Some(false);
        match kind.quantizable() {
            Quantizable::Yes => {}
            Quantizable::Embeddings if settings.quant_embedding || included => {}
            Quantizable::Convolutions if settings.quant_conv || included => {}
            Quantizable::Embeddings => return keep("an embedding: quantized with --quant-embedding".into()),
            Quantizable::Convolutions => return keep("a convolution: quantized with --quant-conv".into()),
            Quantizable::No(why) => return keep(why.to_owned()),
        }
        let (elements, channels) = (tensor.elements(), resolve::channels(kind, &tensor.shape));
        if channels < MIN_CHANNELS || elements < MIN_ELEMENTS {
            let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
            return keep(format!(
                "{} is below SDNQ's minimum of {MIN_CHANNELS} input channels and {MIN_ELEMENTS} elements",
                shape.join("×")
            ));
        }
        if tensor.cols() > LONGEST_ROW {
            return keep(format!(
                "rows of {} elements are longer than mixdown works on ({LONGEST_ROW})",
                tensor.cols()
            ));
        }
        let asked = asked(&decision.patch)?;
        let code = code_of(&asked.dtype)?;
        if code.packed_shape(elements).is_none() {
            return keep(format!("{elements} elements do not fill {}'s units of {}", code.name(), code.unit()));
        }
        let (recipe, reason) = resolve::resolve(&asked, code, kind, &tensor.shape);
        let parts = resolve::parts(&tensor.name, &tensor.shape, code, &recipe, factor_storage(tensor.storage));
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
            d.insert("use_hadamard".into(), json!(r.hadamard > 0));
            if r.hadamard > 0 {
                d.insert("hadamard_group_size".into(), json!(r.hadamard));
            }
            if r.codebook {
                d.insert("use_codebook".into(), json!(true));
            }
            if r.axis != 1 {
                d.insert("axis".into(), json!(r.axis));
            }
            d.insert("original_shape".into(), json!(row.shape));
            let storage = row.sources.first().map(|id| model.tensor(*id).storage.name());
            d.insert("original_dtype".into(), json!(storage));
            d
        });
        Ok(described)
    }

    fn loads_with(&self, model: &Model, _: &Plan) -> String {
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
    let hadamard = patch.hadamard.unwrap_or(0);
    if hadamard > 0 && !(hadamard.is_power_of_two() && hadamard >= 4) {
        return Err(Error::usage(format!("hadamard {hadamard}: give a power of two from 4 up, or 0 for none")));
    }
    Ok(Recipe {
        svd_rank: patch.svd_rank.unwrap_or(0),
        svd_steps,
        hadamard,
        codebook: patch.codebook.unwrap_or(false),
        ..Recipe::plain(Family::Sdnq, dtype, size)
    })
}

/// The low-rank factors have the type that the weight had.
fn factor_storage(storage: Storage) -> Storage {
    super::castable(storage)
}
