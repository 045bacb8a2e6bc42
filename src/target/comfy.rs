//! Single files that ComfyUI loads by itself: quantized weights, their scales, and beside each layer a tensor
//! `….comfy_quant` that says how to read it.
//!
//! Formats and arithmetic are comfy-kitchen's, the library that ComfyUI computes with; its loader's rules
//! (`comfy/ops.py`, `comfy/utils.py`, `comfy/model_detection.py`) decide what may be quantized.
pub mod codec;
pub mod describe;
pub mod detection;
pub mod format;
#[cfg(test)]
mod golden;
pub mod read;
pub mod validate;

use std::collections::BTreeSet;

use super::codec::{Codec, LONGEST_ROW};
use super::layout::{Context, Description};
use super::sdnq::layers::{self, Kind, Surroundings};
use super::{Alternative, DtypeInfo, Knob, Target, kept, row_of};
use crate::core::dtype::StorageExt;
use crate::core::model::TensorId;
use crate::core::options::Names;
use crate::core::plan::{Action, Plan, Row};
use crate::core::recipe::{Family, Recipe, ScaleSearch, group_size};
use crate::core::rules::Decision;
use crate::core::{Dtype, Error, Model, Patch, Result, Settings, Storage, Tensor};
use format::{Format, ROTATION};

/// The target.
#[derive(Debug)]
pub struct Comfy;

/// ComfyUI quantizes layers smaller than this with more loss of speed than gain of room; so do its users' tools.
const MIN_ELEMENTS: u64 = 4096;

impl Target for Comfy {
    fn family(&self) -> Family {
        Family::Comfy
    }

    fn dtypes(&self) -> Vec<DtypeInfo> {
        Format::written().map(|f| DtypeInfo { name: f.dtype(), bits: f.bits(), about: f.about() }).collect()
    }

    fn parse_dtype(&self, name: &str) -> Result<Dtype> {
        match Format::named(name) {
            Some(format) if format.is_written() => Ok(format.dtype()),
            Some(format) => Err(Error::usage(format!(
                "ComfyUI itself does not know {}: it is read, not written; say float8_e4m3fn or int8_tensorwise",
                format.name()
            ))),
            None => Err(super::unknown_dtype(Family::Comfy, name, Format::written().map(Format::name))),
        }
    }

    fn default_dtype(&self) -> Dtype {
        Format::E4m3.dtype()
    }

    fn has(&self, knob: Knob) -> Result<(), String> {
        Err(match knob {
            Knob::GroupSize
            | Knob::MetadataTensors
            | Knob::Hadamard
            | Knob::ConvRot
            | Knob::ScaleSearch
            | Knob::QuantEmbedding
            | Knob::KeyNames
            | Knob::KeepNames
            | Knob::DiffusersNames => return Ok(()),
            Knob::SvdRank => "ComfyUI's formats have no low-rank branch",
            Knob::Codebook => "ComfyUI's formats have their own levels",
            Knob::QuantConv => "ComfyUI never quantizes convolutions",
            Knob::Dynamic => "ComfyUI's formats are chosen by rules",
            Knob::Mixtures => "ComfyUI's files have no mixtures",
            Knob::Importance => "ComfyUI's formats weigh all columns alike",
            Knob::Nunchaku => "ComfyUI has other files",
        }
        .into())
    }

    fn alternatives(&self, recipe: Option<&Recipe>) -> Vec<Alternative> {
        let dtype = |f: Format| Patch { dtype: Some(f.dtype()), ..Patch::default() };
        let mut out: Vec<Alternative> =
            Format::written().map(|f| Alternative { patch: dtype(f), usual: true }).collect();
        let Some((recipe, format)) = recipe.and_then(|r| Some((r, Format::of(&r.dtype)?))) else {
            return out;
        };
        let mine = |patch: Patch| Alternative { patch: Patch { dtype: Some(format.dtype()), ..patch }, usual: true };
        let other = match recipe.scale_search {
            ScaleSearch::Absmax => ScaleSearch::Mse,
            ScaleSearch::Mse => ScaleSearch::Absmax,
        };
        out.push(mine(Patch { scale_search: Some(other), ..Patch::default() }));
        if format == Format::Int8 {
            out.extend(
                [group_size::ROW, group_size::TENSOR].map(|n| mine(Patch { group_size: Some(n), ..Patch::default() })),
            );
        }
        if format.rotation() == Some(false) {
            let turned = if recipe.hadamard > 0 { 0 } else { ROTATION };
            out.push(mine(Patch { hadamard: Some(turned), ..Patch::default() }));
        }
        if matches!(format, Format::W4a8 | Format::W6a8 | Format::Awq) {
            out.extend([16, 32, 64, 128].map(|n| mine(Patch { group_size: Some(n), ..Patch::default() })));
        }
        let searched = |f: Format| Patch { scale_search: Some(ScaleSearch::Mse), ..dtype(f) };
        out.extend(
            Format::written().filter(|f| *f != format).map(|f| Alternative { patch: searched(f), usual: false }),
        );
        out
    }

    fn names(&self, settings: &Settings) -> Names {
        settings.names.unwrap_or(Names::Original)
    }

    fn row(
        &self,
        model: &Model,
        id: TensorId,
        tensor: &Tensor,
        decision: &Decision,
        settings: &Settings,
    ) -> Result<Row> {
        let class = model.architecture.as_deref().unwrap_or_default();
        let row = self.unnamed(class, id, tensor, decision, settings)?;
        Ok(renamed(row, settings.comfy.key_prefix.as_deref()))
    }

    fn codec(&self, shape: &[u64], _: Storage, action: &Action) -> Result<Box<dyn Codec>> {
        match action {
            Action::Quantize(recipe) => {
                let unknown = || Error::failed(format!("comfy has no dtype `{}`", recipe.dtype));
                let format = Format::of(&recipe.dtype).ok_or_else(unknown)?;
                Ok(Box::new(codec::ComfyCodec::new(format, shape, recipe)?))
            }
            other => super::float::codec(shape, other),
        }
    }

    fn description(&self, plan: &Plan, context: &Context) -> Result<Description> {
        if context.is_folder() {
            return Err(Error::usage("ComfyUI loads single files: let the output's name end in .safetensors"));
        }
        Ok(describe::description(plan, context))
    }

    fn loads_with(&self, _: &Model, plan: &Plan) -> String {
        loads_with(plan.rows.iter().filter_map(|r| format_of(&r.action)))
    }
}

/// The format of what is quantized.
fn format_of(action: &Action) -> Option<Format> {
    match action {
        Action::Quantize(recipe) => Format::of(&recipe.dtype),
        _ => None,
    }
}

/// Who loads a file with layers of such formats.
pub fn loads_with(formats: impl Iterator<Item = Format>) -> String {
    let formats: BTreeSet<&str> = formats.map(Format::name).collect();
    let version = |since: &str| -> Vec<u32> { since.split('.').filter_map(|n| n.parse().ok()).collect() };
    let known = formats.iter().filter_map(|name| Some(Format::named(name)?.since())).filter(|s| !s.is_empty());
    let newest = known.max_by_key(|since| version(since));
    let unknown: Vec<&str> =
        formats.iter().copied().filter(|n| Format::named(n).is_some_and(|f| f.since().is_empty())).collect();
    let mut out = match newest {
        Some(since) => format!("ComfyUI ≥ {since}"),
        None => "ComfyUI".to_owned(),
    };
    if !unknown.is_empty() {
        out.push_str(&format!(", if it knows {}", unknown.join(", ")));
    }
    out
}

/// What names of a checkpoint's other models begin with.
const OTHERS: [&str; 8] = [
    "vae.",
    "first_stage_model.",
    "cond_stage_model.",
    "conditioner.",
    "text_encoder.",
    "text_encoder_2.",
    "text_encoders.",
    "model_ema.",
];

/// Begins a row's names with `prefix`, in the place of what they begin with; not those of a checkpoint's other models.
fn renamed(mut row: Row, prefix: Option<&str>) -> Row {
    let is_other = OTHERS.iter().any(|other| row.name.starts_with(other));
    let Some(prefix) = prefix.filter(|_| !is_other) else { return row };
    let rename = |name: &str| format!("{prefix}{}", without_prefix(name));
    row.name = rename(&row.name);
    for part in &mut row.parts {
        part.name = rename(&part.name);
    }
    row
}

/// What single files put before the names of a diffusion model.
pub const PREFIXES: [&str; 2] = ["model.diffusion_model.", "diffusion_model."];

/// A name without such a prefix.
pub fn without_prefix(name: &str) -> &str {
    PREFIXES.iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name)
}

impl Comfy {
    /// What becomes of a tensor, under the name it has.
    fn unnamed(
        &self,
        class: &str,
        id: TensorId,
        tensor: &Tensor,
        decision: &Decision,
        settings: &Settings,
    ) -> Result<Row> {
        let keep = |reason: String| Ok(kept(tensor, id, decision, Some(reason)));
        if !tensor.is_float() {
            return keep(format!("{} is not a float type", tensor.storage.name()));
        }
        if decision.keeps() {
            return keep(settings.explain(decision.kept_by.as_ref().unwrap_or(&decision.by)));
        }
        let included = decision.patch.keep == Some(false);
        let around = Surroundings { class, tied: false };
        let kind = layers::kind(&tensor.name, &tensor.shape, None, around);
        let is_table = matches!(kind, Kind::Embedding | Kind::OtherEmbedding | Kind::TiedEmbedding);
        match (tensor.name.ends_with(".weight"), tensor.shape.len()) {
            (false, _) => return keep("not a layer: ComfyUI quantizes weights of linear layers".into()),
            (true, 2) => {}
            (true, 3..=5) => return keep("a convolution, or a bank of experts: ComfyUI keeps these as floats".into()),
            (true, _) => return keep("not a matrix: a norm or a bias".into()),
        }
        if is_table && !settings.quant_embedding && !included {
            return keep("an embedding: quantized with --quant-embedding".into());
        }
        if tensor.elements() < MIN_ELEMENTS && !included {
            return keep(format!("{} elements: too small to gain anything", tensor.elements()));
        }
        if tensor.cols() > LONGEST_ROW || tensor.elements() == 0 {
            return keep(format!("rows of {} elements are not quantized", tensor.cols()));
        }
        let asked = asked(&decision.patch)?;
        let format = Format::of(&asked.dtype).unwrap_or(Format::E4m3);
        let mut notes = Vec::new();
        let (format, recipe) = match fit(format, &asked, &tensor.name, &tensor.shape, is_table) {
            Ok(recipe) => (format, recipe),
            Err(why) => {
                // What a format cannot hold gets one that can: int8 by row, which loses the least of those.
                notes.push(why);
                let other = Recipe { group_size: group_size::ROW, hadamard: 0, ..asked.clone() };
                match fit(Format::Int8, &other, &tensor.name, &tensor.shape, is_table) {
                    Ok(recipe) => (Format::Int8, recipe),
                    Err(why) => return keep(format!("{}; {why}", notes.join("; "))),
                }
            }
        };
        if asked.hadamard > 0 && recipe.hadamard == 0 && format.rotation().is_some() {
            notes.push(format!("no power of 4 up to {} divides its columns: not rotated", asked.hadamard));
        } else if format.rotation().is_some() && recipe.hadamard != asked.hadamard && asked.hadamard > 0 {
            let why = if asked.hadamard.is_power_of_two() && asked.hadamard.trailing_zeros() % 2 == 0 {
                "does not divide its columns"
            } else {
                "is no power of 4"
            };
            notes.push(format!("rotated by {}s: {} {why}", recipe.hadamard, asked.hadamard));
        }
        let parts = format.parts(&tensor.name, &tensor.shape, &recipe);
        let reason = (!notes.is_empty()).then(|| notes.join("; "));
        Ok(row_of(tensor, id, decision, Action::Quantize(recipe), parts, reason))
    }
}

/// The recipe of a layer in a format, or why it cannot be in it.
fn fit(format: Format, asked: &Recipe, name: &str, shape: &[u64], is_table: bool) -> Result<Recipe, String> {
    if is_table && !format.takes_embeddings() {
        return Err(format!("ComfyUI reads no embedding in {}", format.name()));
    }
    if format.hides_shape(shape) && detection::reads_shape(name) {
        return Err(format!("ComfyUI recognises the model by this layer's shape, which {} hides", format.name()));
    }
    format.resolve(asked, shape)
}

/// What was asked of a tensor, with the target's defaults where nothing was.
fn asked(patch: &Patch) -> Result<Recipe> {
    let dtype = patch.dtype.clone().unwrap_or_else(|| Comfy.default_dtype());
    let size = patch.group_size.unwrap_or(group_size::AUTO);
    if size < group_size::TENSOR {
        return Err(Error::usage(format!(
            "group size {size}: give 0 (the format's own), -1 (row), -2 (tensor) or a number of values"
        )));
    }
    Ok(Recipe {
        hadamard: patch.hadamard.unwrap_or(0),
        scale_search: patch.scale_search.unwrap_or_default(),
        ..Recipe::plain(Family::Comfy, dtype, size)
    })
}
