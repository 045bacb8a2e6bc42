//! SVDQuant for Nunchaku's kernels: weights and activations of 4 bits beside a low-rank branch of 16. Single files of the
//! families that have them, with layers fused, and "Nunchaku Lite", a diffusers folder of any model.
pub mod awq;
pub mod codec;
mod describe;
pub mod donor;
mod four;
pub mod layers;
pub mod layout;
pub mod metadata;
pub mod parts;
pub mod read;
mod search;
pub mod sheet;
mod stored;
pub mod table;
pub mod validate;

use rayon::prelude::*;

use super::codec::Codec;
use super::layout::{Context, Description};
use super::{Alternative, DtypeInfo, Knob, Target};
use crate::core::options::Names;
use crate::core::plan::{Action, Plan, Row};
use crate::core::rules::Decision;
use crate::core::{Dtype, Error, Family, Model, Patch, Recipe, Result, Settings, Storage, Tensor, TensorId};
use parts::Precision;
use sheet::Sheet;

/// The target.
#[derive(Debug)]
pub struct Nunchaku;

impl Target for Nunchaku {
    fn family(&self) -> Family {
        Family::Nunchaku
    }

    fn dtypes(&self) -> Vec<DtypeInfo> {
        let info = |precision: Precision| {
            let (bits, about) = match precision {
                Precision::Int4 => (4.0, "weights and activations; RTX 20 to 40, A100; wants smoothing"),
                Precision::Nvfp4 => (4.0, "weights and activations; RTX 50; good without smoothing"),
                Precision::Awq => (4.0, "weights only, for layers of few inputs"),
            };
            DtypeInfo { name: Dtype::new(precision.name()), bits, about }
        };
        Precision::ALL.into_iter().map(info).collect()
    }

    fn parse_dtype(&self, name: &str) -> Result<Dtype> {
        let lower = name.trim().to_ascii_lowercase();
        let lower = match lower.as_str() {
            "fp4" | "fp4_e2m1_all" => Precision::Nvfp4.name(),
            "awq" => Precision::Awq.name(),
            other => other,
        };
        let found = Precision::named(lower).map(|p| Dtype::new(p.name()));
        found.ok_or_else(|| super::unknown_dtype(self.family(), name, Precision::ALL.iter().map(|p| p.name())))
    }

    fn default_dtype(&self) -> Dtype {
        Dtype::new(Precision::Int4.name())
    }

    fn has(&self, knob: Knob) -> Result<(), String> {
        Err(match knob {
            Knob::SvdRank | Knob::ScaleSearch | Knob::Nunchaku => return Ok(()),
            Knob::GroupSize => "Nunchaku's dtypes have groups of their own, 64 and 16",
            Knob::MetadataTensors => "Nunchaku's files describe themselves in the header",
            Knob::Hadamard | Knob::ConvRot => "Nunchaku's kernels smooth and do not rotate",
            Knob::Codebook => "Nunchaku's codes have their own levels",
            Knob::QuantConv | Knob::QuantEmbedding => "Nunchaku quantizes linear layers only",
            Knob::Dynamic => "a file of Nunchaku's has one dtype",
            Knob::Mixtures => "a file of Nunchaku's has one dtype",
            Knob::Importance => "Nunchaku's layers take smoothing, not an importance matrix",
            Knob::KeyNames | Knob::KeepNames | Knob::DiffusersNames => "Nunchaku's names follow from the architecture",
        }
        .into())
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        let precision = settings.defaults.dtype.as_ref().and_then(|d| Precision::named(d.as_str()));
        if precision == Some(Precision::Awq) {
            return Err(Error::usage(
                "awq_int4 is for single layers: say int4 or nvfp4, and awq_int4 in a rule (--tensor-type)",
            ));
        }
        sheet::check_group(settings.defaults.group_size, precision.unwrap_or(Precision::Int4))
    }

    fn names(&self, _: &Settings) -> Names {
        Names::Diffusers
    }

    fn row(&self, model: &Model, id: TensorId, _: &Tensor, _: &Decision, settings: &Settings) -> Result<Row> {
        let rows = Sheet::new(model, settings)?.variants(id, &[Patch::default()])?;
        rows.into_iter().next().ok_or_else(|| Error::failed(format!("`{}` is in no output", model.tensor(id).name)))
    }

    fn rows(&self, model: &Model, settings: &Settings) -> Result<(Vec<Row>, Vec<String>)> {
        let sheet = Sheet::new(model, settings)?;
        let rows = sheet.rows()?;
        let mut warnings = Vec::new();
        let has_class = model.config.as_ref().is_none_or(|c| c.get("_class_name").is_some());
        if settings.nunchaku.lite && !has_class {
            warnings.push("diffusers loads Lite folders of its own classes; this model's config names none".into());
        }
        let is_int4 = rows.iter().any(|r| r.svd_rank() > 0 && r.to == Precision::Int4.name());
        warnings.extend(describe::doubt(model, settings, &rows, &sheet));
        let (rough, all) = sheet.unsmoothed(&rows);
        if let (Some(file), true) = (&settings.nunchaku.smooth_from, rough > 0) {
            let first = sheet.first_unsmoothed(&rows).unwrap_or_default();
            warnings.push(format!(
                "{rough} of {all} layers find no smoothing of their name and width in {file}, `{first}` for one"
            ));
        } else if is_int4 && rough > 0 {
            let how_many = if rough == all { "the layers".into() } else { format!("{rough} of {all} layers") };
            warnings.push(format!(
                "{how_many} of int4 have no smoothing: activations of 4 bits lose more than the losses here show; \
                 take it from a Nunchaku file of the base model (--smooth-from FILE), or write nvfp4, which needs none"
            ));
        }
        Ok((rows, warnings))
    }

    fn alternatives(&self, recipe: Option<&Recipe>) -> Vec<Alternative> {
        let dtype = recipe.map(|r| r.dtype.as_str()).and_then(Precision::named).unwrap_or(Precision::Int4);
        let branch = [Precision::Int4, Precision::Nvfp4].into_iter().flat_map(|precision| {
            [16, 32, 64, 128].map(|rank| Alternative {
                patch: Patch { dtype: Some(Dtype::new(precision.name())), svd_rank: Some(rank), ..Patch::default() },
                usual: precision == dtype,
            })
        });
        branch.collect()
    }

    fn is_for_all(&self, patch: &Patch) -> bool {
        let branch = |d: &Dtype| d.as_str() != Precision::Awq.name();
        patch.svd_rank.is_some() || patch.dtype.as_ref().is_some_and(branch)
    }

    fn variants(
        &self,
        model: &Model,
        ids: &[TensorId],
        settings: &Settings,
        patches: &[Patch],
    ) -> Result<Vec<Vec<Row>>> {
        let sheet = Sheet::new(model, settings)?;
        ids.par_iter().map(|id| sheet.variants(*id, patches)).collect()
    }

    fn obstacles(&self, model: &Model, settings: &Settings) -> Result<()> {
        let sheet = Sheet::new(model, settings)?;
        sheet.obstacles(&sheet.rows()?)?;
        describe::config(model, settings, &sheet).map(|_| ())
    }

    fn codec(&self, shape: &[u64], _: Storage, action: &Action) -> Result<Box<dyn Codec>> {
        match action {
            Action::Quantize(recipe) => match Precision::named(recipe.dtype.as_str()) {
                _ if recipe.dtype.as_str() == read::BIAS => Ok(Box::new(stored::Bias::new(shape, recipe)?)),
                Some(Precision::Awq) => Ok(Box::new(awq::AwqCodec::new(shape, recipe)?)),
                Some(precision) => match recipe.kernel.as_ref().and_then(|k| k.first_cols) {
                    Some(first) => Ok(Box::new(stored::Joined::new(precision, shape, recipe, first)?)),
                    None => Ok(Box::new(codec::SvdqCodec::new(precision, shape, recipe)?)),
                },
                None => Err(Error::failed(format!("nunchaku has no dtype `{}`", recipe.dtype))),
            },
            other => super::float::codec(shape, other),
        }
    }

    fn description(&self, plan: &Plan, context: &Context) -> Result<Description> {
        describe::description(plan, context)
    }

    fn loads_with(&self, _: &Model, plan: &Plan) -> String {
        let mut kernels = plan.rows.iter().filter_map(|row| match &row.action {
            Action::Quantize(recipe) if recipe.svd_rank > 0 => {
                Some((recipe.dtype.as_str(), !recipe.kernel.as_ref()?.twice))
            }
            _ => None,
        });
        let lite = kernels.clone().any(|(_, lite)| lite);
        let loader = if lite { "diffusers ≥ 0.40 with `kernels`" } else { "nunchaku ≥ 1.0, ComfyUI-nunchaku" };
        let cards = if kernels.any(|(dtype, _)| dtype == Precision::Nvfp4.name()) {
            "GeForce RTX 50 (sm 120, 121)"
        } else {
            "GeForce RTX 20 to 40, A100 (sm 75, 80, 86, 89)"
        };
        format!("{loader} · {cards}")
    }
}
