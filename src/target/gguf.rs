//! GGUF, for llama.cpp and what is built on it, written as llama-quantize would write it: a type for each tensor by
//! [`mixtures`], its values in blocks of ggml, the source's keys with what quantizing changes.
pub mod architectures;
pub mod blocks;
pub mod codec;
pub mod diffusion;
pub mod file;
pub mod hf;
pub mod metadata;
pub mod mixtures;
pub mod sheet;
pub mod tokenizer;
pub mod validate;

use super::codec::Codec;
use super::{DtypeInfo, Knob, Target};
use super::{layout, names};
use crate::core::plan::{Action, Plan, Row};
use crate::core::rules::Decision;
use crate::core::{Dtype, Error, Family, Model, Patch, Result, Settings, Storage, Tensor, TensorId};
use crate::format::gguf::Type;
use crate::quant::ggml;
use mixtures::Mixture;
use sheet::Sheet;

/// The target.
#[derive(Debug)]
pub struct Gguf;

impl Target for Gguf {
    fn family(&self) -> Family {
        Family::Gguf
    }

    fn dtypes(&self) -> Vec<DtypeInfo> {
        let written = |t: &Type| t.storage().is_some() || ggml::Type::named(t.name()).is_some_and(|g| g.can_encode());
        let types = Type::ALL.iter().filter(|t| t.holds_weights()).filter(|t| written(t));
        let mut all: Vec<DtypeInfo> =
            types.map(|t| DtypeInfo { name: Dtype::new(t.name()), bits: t.bits(), about: about(*t) }).collect();
        all.sort_by(|a, b| a.bits.total_cmp(&b.bits));
        all
    }

    fn mixtures(&self) -> Vec<DtypeInfo> {
        Mixture::ALL
            .iter()
            .map(|m| DtypeInfo { name: Dtype::new(m.name()), bits: m.default_type().bits(), about: m.about() })
            .collect()
    }

    /// The name of a type, or of a mixture; a few are both, and which is meant tells the place.
    fn parse_dtype(&self, name: &str) -> Result<Dtype> {
        if let Ok(ty) = mixtures::rules::parse_type(name) {
            return Ok(Dtype::new(ty.name()));
        }
        Mixture::parse(name).map(|m| Dtype::new(m.name())).map_err(|_| {
            let types = self.dtypes();
            let names = Mixture::ALL.iter().map(|m| m.name());
            let types = types.iter().map(|d| d.name.as_str()).filter(|t| !names.clone().any(|n| n == *t));
            super::unknown_dtype(Family::Gguf, name, names.clone().chain(types))
        })
    }

    fn default_dtype(&self) -> Dtype {
        Dtype::new(Mixture::Q4KM.name())
    }

    fn has(&self, knob: Knob) -> Result<(), String> {
        Err(match knob {
            Knob::GroupSize => "GGUF's types have blocks of a fixed size",
            Knob::SvdRank => "GGUF has no low-rank branch",
            Knob::MetadataTensors => "GGUF describes itself in its keys",
            Knob::Hadamard => "GGUF's types know no rotation",
            Knob::Codebook => "GGUF's types have their own levels",
            Knob::QuantConv | Knob::QuantEmbedding => "GGUF's mixtures choose the tensors",
            Knob::Dynamic => "GGUF's mixtures choose the types",
            Knob::ScaleSearch => "GGUF's types search their scales by themselves",
            Knob::ConvRot => "GGUF's types know no rotation",
            Knob::KeyNames | Knob::DiffusersNames => "GGUF's names follow from the architecture",
            Knob::Mixtures | Knob::Importance | Knob::KeepNames => return Ok(()),
            Knob::Nunchaku => "GGUF has no such kernels",
        }
        .into())
    }

    fn row(&self, model: &Model, id: TensorId, _: &Tensor, _: &Decision, settings: &Settings) -> Result<Row> {
        let (rows, _) = self.rows(model, settings)?;
        let name = &model.tensor(id).name;
        rows.into_iter()
            .find(|r| r.sources.contains(&id))
            .ok_or_else(|| Error::failed(format!("`{name}` is not in the output")))
    }

    fn rows(&self, model: &Model, settings: &Settings) -> Result<(Vec<Row>, Vec<String>)> {
        Sheet::new(model, settings)?.rows()
    }

    fn variants(
        &self,
        model: &Model,
        ids: &[TensorId],
        settings: &Settings,
        patches: &[Patch],
    ) -> Result<Vec<Vec<Row>>> {
        let sheet = Sheet::new(model, settings)?;
        ids.iter().map(|id| sheet.variants(*id, patches)).collect()
    }

    fn obstacles(&self, model: &Model, settings: &Settings) -> Result<()> {
        Sheet::new(model, settings)?.obstacles()
    }

    fn codec(&self, shape: &[u64], _: Storage, action: &Action) -> Result<Box<dyn Codec>> {
        match action {
            Action::Quantize(recipe) => Ok(Box::new(codec::BlockCodec::new(shape, recipe)?)),
            other => super::float::codec(shape, other),
        }
    }

    fn description(&self, _: &Plan, _: &layout::Context) -> Result<layout::Description> {
        // Its files have keys; see [`file`].
        Ok(layout::Description::default())
    }

    fn loads_with(&self, model: &Model, _: &Plan) -> String {
        let tensors: Vec<(&str, &[u64])> =
            model.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        let own = model.metadata().get("general.architecture").copied().unwrap_or_default();
        if diffusion::architectures::named(own).is_some() || names::recognise(&tensors).is_some() {
            return "ComfyUI with ComfyUI-GGUF".into();
        }
        let named = model.architecture.as_deref();
        let ours = named.filter(|_| model.format != "gguf").and_then(|class| architectures::of(class).ok());
        match ours.map(|a| a.name).or(named) {
            Some(arch) => format!("llama.cpp, as far as it knows {arch}"),
            None => "llama.cpp".into(),
        }
    }
}

fn about(ty: Type) -> &'static str {
    match ty {
        Type::F32 => "floats",
        Type::F16 => "half floats",
        Type::BF16 => "half floats with the range of F32",
        Type::Q4_0 | Type::Q5_0 | Type::Q8_0 => "blocks of 32 with a scale",
        Type::Q4_1 | Type::Q5_1 => "blocks of 32 with a scale and a minimum",
        Type::Q2_K | Type::Q4_K | Type::Q5_K => "super-blocks of 256, scales and minima",
        Type::Q3_K | Type::Q6_K => "super-blocks of 256, scales",
        Type::IQ4_NL | Type::IQ4_XS => "uneven levels",
        Type::IQ2_XXS | Type::IQ2_XS | Type::IQ2_S | Type::IQ3_XXS => "vectors from a grid; needs an importance matrix",
        Type::IQ3_S => "vectors from a grid",
        Type::TQ1_0 | Type::TQ2_0 => "ternary, for models trained so",
        Type::MXFP4 | Type::NVFP4 => "4-bit floats with small scales",
        Type::Q1_0 | Type::Q2_0 => "for models trained so",
        _ => "",
    }
}
