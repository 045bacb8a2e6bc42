//! The settings resolved over a model: a row for each layer of the output.
use std::sync::Arc;

use super::awq;
use super::codec::{MOST_RANK, RANK_TILE};
use super::layers::{self, Family, Made, Way, Words};
use super::layout::BLOCK;
use super::metadata;
use super::parts::{Precision, parts};
use crate::core::dtype::StorageExt;
use crate::core::model::Encoding;
use crate::core::plan::{Action, Part, Row, Slice};
use crate::core::recipe::{Kernel, Recipe, Smooth, group_size};
use crate::core::rules::{Cause, Decision};
use crate::core::{Error, Model, Patch, Result, ScaleSearch, Settings, Storage, TensorId, name};
use crate::target::items::{self, Item};
use crate::target::sdnq::layers::{Kind, Surroundings, kind};
use crate::target::{castable, kept, names, row_of};

/// Rank of the branch where nothing is said. Loaders of FLUX take 32 for the file's own rank when they scale a LoRA.
pub const RANK: u32 = 32;

/// A model and what becomes of it.
pub struct Sheet<'a> {
    model: &'a Model,
    settings: &'a Settings,
    /// None: diffusers' general loader, which has no families.
    pub family: Option<&'static Family>,
    mades: Vec<Made>,
    decisions: Vec<Decision>,
}

/// The class of a model that has single files.
pub fn class(model: &Model) -> Option<&'static str> {
    let said = model.config.as_ref().and_then(|c| c.get("_class_name")?.as_str()).and_then(layers::family);
    let tensors = || model.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect::<Vec<_>>();
    let class = match said {
        Some(family) => family.class,
        None => match names::recognise(&tensors())?.0 {
            "flux" => "FluxTransformer2DModel",
            "qwen-image" => "QwenImageTransformer2DModel",
            "z-image" => "ZImageTransformer2DModel",
            _ => return None,
        },
    };
    Some(class)
}

impl<'a> Sheet<'a> {
    /// Finds the layers, and what is said of each.
    pub fn new(model: &'a Model, settings: &'a Settings) -> Result<Self> {
        let search = settings.search(model.tensors.len());
        let decide = |mades: &[Made]| -> Vec<Decision> {
            mades.iter().map(|made| items::decide(model, settings, &search, &made.item)).collect()
        };
        if settings.nunchaku.lite {
            let mades = unfused(model);
            return Ok(Self { model, settings, family: None, decisions: decide(&mades), mades });
        }
        let family = class(model).and_then(layers::family).ok_or_else(|| {
            let known: Vec<&str> = layers::FAMILIES.iter().map(|f| f.class).collect();
            let is = model.architecture.as_deref().unwrap_or("of no known architecture");
            Error::failed(format!(
                "{}: is {}, and Nunchaku has single files of {}; with --lite diffusers' own loader takes any model of its classes",
                model.label,
                name::clean(is),
                known.join(", ")
            ))
        })?;
        let of = |plain: &[&str]| layers::made(model, family, plain).map_err(|e| Error::failed(e).at(&model.label));
        let mut mades = of(&[])?;
        let mut decisions = decide(&mades);
        let refines = |made: &Made| family.refiners.iter().any(|at| made.item.tensor.name.starts_with(at));
        let mut refiners = mades.iter().zip(&decisions).filter(|(made, _)| made.way.is_some() && refines(made));
        let kept = refiners.clone().count() > 0 && refiners.all(|(_, decision)| decision.keeps());
        if kept {
            mades = of(family.refiners)?;
            decisions = decide(&mades);
        }
        Ok(Self { model, settings, family: Some(family), mades, decisions })
    }

    /// Whether the refiners stay as they are.
    pub fn skips_refiners(&self) -> Option<bool> {
        let refiners = self.family.map(|f| f.refiners).filter(|r| !r.is_empty())?;
        let refines = |made: &&Made| refiners.iter().any(|at| made.item.tensor.name.starts_with(at));
        Some(!self.mades.iter().filter(refines).any(|made| made.way.is_some()))
    }

    /// Rows in the order of the output.
    pub fn rows(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(self.mades.len());
        for (made, decision) in self.mades.iter().zip(&self.decisions) {
            rows.extend(self.of(made, decision)?);
        }
        Ok(rows)
    }

    /// What becomes of a tensor's layer with each of some patches laid over what is said of it.
    pub fn variants(&self, id: TensorId, patches: &[Patch]) -> Result<Vec<Row>> {
        let is = |made: &&Made| made.item.sources.contains(&id);
        let mut all = self.mades.iter().zip(&self.decisions);
        let found = all.clone().find(|(made, _)| is(made) && made.way.is_some()).or_else(|| all.find(|(m, _)| is(m)));
        let (made, decision) =
            found.ok_or_else(|| Error::failed(format!("`{}` is not in the output", self.model.tensor(id).name)))?;
        let row = |patch: &Patch| {
            let rows = self.of(made, &decision.with(patch))?;
            rows.into_iter().next().ok_or_else(|| Error::failed("a layer that becomes nothing"))
        };
        patches.iter().map(row).collect()
    }

    /// The weight, and where it stays as it is, its bias beside it.
    fn of(&self, made: &Made, decision: &Decision) -> Result<Vec<Row>> {
        let (item, why) = (&made.item, self.treatment(made, decision));
        let Ok((precision, recipe)) = why else {
            let mut rows = vec![self.float(item, decision, why.err().flatten())?];
            if let Some(bias) = self.bias_alone(made) {
                rows.push(self.float(&bias, decision, None)?);
            }
            return Ok(rows);
        };
        let tensor = &item.tensor;
        let &[height, width] = tensor.shape.as_slice() else { return Ok(Vec::new()) };
        let words = self.family.map_or(Words::Second, |f| f.words);
        let parts = parts(&tensor.name, [height, width], &recipe, precision, words);
        let id = item.sources.first().copied().ok_or_else(|| Error::failed("a tensor that is made of nothing"))?;
        let row = row_of(tensor, id, decision, Action::Quantize(recipe), parts, None);
        let mut row = items::finish(self.model, item, row);
        row.bias.clone_from(&made.bias);
        row.bytes_before += made.bias_bytes;
        Ok(vec![row])
    }

    /// How a layer is quantized, or why it is not.
    fn treatment(&self, made: &Made, decision: &Decision) -> Result<(Precision, Recipe), Option<String>> {
        let Some(way) = made.way else { return Err(None) };
        let tensor = &made.item.tensor;
        let (height, width) = (tensor.rows(), tensor.cols());
        if !tensor.is_float() {
            return Err(Some(format!("{} is not a float type", tensor.storage.name())));
        }
        let deciding = decision.kept_by.as_ref().unwrap_or(&decision.by);
        if decision.keeps() {
            return Err(Some(self.settings.explain(deciding)));
        }
        let named = decision.patch.keep == Some(false) || matches!(decision.by, Cause::Rule(_) | Cause::Override);
        let lite = self.family.is_none();
        if lite && !named && !in_blocks(&tensor.name) {
            return Err(Some("is in no block: such layers are few and matter much".into()));
        }
        let asked = decision.patch.dtype.as_ref().and_then(|d| Precision::named(d.as_str()));
        // A rule that says no more than the defaults has not named the layer's dtype.
        let own = matches!(decision.by, Cause::Rule(_) | Cause::Override)
            && decision.patch.dtype != self.settings.defaults.dtype;
        let precision = match (way, asked.unwrap_or(Precision::Int4)) {
            (Way::Awq(_), _) if !lite || !own => Precision::Awq,
            (Way::Svdq | Way::Shifted, Precision::Awq) if !lite => {
                return Err(Some("awq_int4 has no branch, which the loaders want here".into()));
            }
            (_, asked) => asked,
        };
        let fields = if let Way::Awq(fields) = way { fields } else { 0 };
        let wanted = if precision == Precision::Awq { "multiples of 8 and 64" } else { "multiples of 128" };
        let fits = match precision {
            Precision::Awq => awq::fits(height, width, fields),
            _ => height.is_multiple_of(BLOCK as u64) && width.is_multiple_of(BLOCK as u64),
        };
        if height == 0 || width == 0 || !fits {
            return Err(Some(format!("is {height}×{width}: Nunchaku's kernels want {wanted}")));
        }
        let rank = decision.patch.svd_rank.or(self.settings.donor.as_ref().and_then(|d| d.rank)).unwrap_or(RANK);
        let has_bias = !made.bias.is_empty() || self.family.is_some_and(|f| f.always_bias);
        let floats = precision == Precision::Nvfp4;
        let layer = name::layer(&tensor.name);
        let by_row = self.family.is_some_and(|f| f.row_scaled.iter().any(|l| layer.ends_with(l)));
        let kernel = Kernel {
            twice: !lite && precision != Precision::Awq,
            tensor_scale: floats && !by_row,
            row_scales: floats && (lite || by_row),
            bias: has_bias,
            shifted: way == Way::Shifted && precision == Precision::Int4,
            fields: if lite { 0 } else { fields },
            smooth: self.smooth(made).filter(|_| precision != Precision::Awq),
            window: None,
            first_cols: None,
        };
        Ok((
            precision,
            Recipe {
                svd_rank: if precision == Precision::Awq { 0 } else { rank },
                svd_steps: decision.patch.svd_steps.unwrap_or(8),
                scale_search: decision.patch.scale_search.unwrap_or(ScaleSearch::Mse),
                kernel: Some(Arc::new(kernel)),
                ..Recipe::plain(
                    crate::core::Family::Nunchaku,
                    crate::core::Dtype::new(precision.name()),
                    precision.group() as i64,
                )
            },
        ))
    }

    /// What a layer is smoothed by.
    fn smooth(&self, made: &Made) -> Option<Smooth> {
        let smoothing = &self.settings.donor.as_ref()?.smoothing;
        let width = usize::try_from(made.item.tensor.cols()).ok()?;
        let own = smoothing.get(name::layer(&made.item.tensor.name));
        // Layers that are fused have the same inputs, so what one of them is smoothed by serves all.
        let of = || made.of.iter().find_map(|layer| smoothing.get(layer.as_str()));
        let found = own.or_else(of)?;
        let cols = made.cols.as_ref().map_or(0..width, |c| c.start as usize..c.end as usize);
        match found.values().len() {
            all if all == width => Some(found.clone()),
            _ if made.cols.is_some() => found.of_cols(cols),
            _ => None,
        }
    }

    /// Layers with a branch that are smoothed by nothing, and all of them.
    pub fn unsmoothed(&self, rows: &[Row]) -> (usize, usize) {
        let all = rows.iter().filter(|row| row.svd_rank() > 0);
        (all.clone().filter(|row| !is_smoothed(row)).count(), all.count())
    }

    /// The first of these layers.
    pub fn first_unsmoothed(&self, rows: &[Row]) -> Option<String> {
        let found = rows.iter().find(|row| row.svd_rank() > 0 && !is_smoothed(row))?;
        Some(name::clean(name::layer(&found.name)).into_owned())
    }

    /// A tensor that stays a float, of the type that loaders want.
    fn float(&self, item: &Item, decision: &Decision, reason: Option<String>) -> Result<Row> {
        let id = item.sources.first().copied().ok_or_else(|| Error::failed("a tensor that is made of nothing"))?;
        let tensor = &item.tensor;
        let mut row = items::finish(self.model, item, kept(tensor, id, decision, reason));
        if self.family.is_some() && tensor.is_float() {
            let is = match (&row.action, &tensor.encoding) {
                (Action::Copy, Encoding::Plain(_)) => tensor.storage,
                _ => castable(tensor.storage),
            };
            if is != Storage::BF16 || row.action != Action::Copy {
                row.action = Action::Cast(Storage::BF16);
                row.to = Storage::BF16.name();
                row.parts =
                    vec![Part { name: tensor.name.clone(), storage: Storage::BF16, shape: tensor.shape.clone() }];
            }
        }
        Ok(row)
    }

    /// The bias of a layer as a tensor of its own.
    fn bias_alone(&self, made: &Made) -> Option<Item> {
        let first = made.bias.first()?;
        let source = |slice: &Slice| made.item.sources.get(slice.source).copied();
        let mut tensor = self.model.tensor(source(first)?).clone();
        tensor.name = format!("{}.bias", name::layer(&made.item.tensor.name));
        tensor.shape = vec![made.bias.iter().map(|s| s.rows.end - s.rows.start).sum()];
        tensor.bytes = made.bias_bytes;
        let mut sources = Vec::new();
        let mut slices = Vec::new();
        for slice in &made.bias {
            let id = source(slice)?;
            let at = sources.iter().position(|s| *s == id).unwrap_or_else(|| {
                sources.push(id);
                sources.len() - 1
            });
            slices.push(Slice { source: at, ..slice.clone() });
        }
        if let ([id], [slice]) = (&sources[..], &slices[..])
            && slice.rows == (0..self.model.tensor(*id).rows())
        {
            slices.clear();
        }
        Some(Item { tensor, sources, slices })
    }

    /// What loaders would refuse, or take without a word for something else.
    pub fn obstacles(&self, rows: &[Row]) -> Result<()> {
        let said = |what: String| Err(Error::failed(what).at(&self.model.label));
        let branches: Vec<(&Row, &Recipe)> = rows
            .iter()
            .filter_map(|row| match &row.action {
                Action::Quantize(recipe) if recipe.dtype.as_str() != Precision::Awq.name() => Some((row, recipe)),
                _ => None,
            })
            .collect();
        let Some((first, one)) = branches.first() else {
            return said("no layer is left to be quantized".into());
        };
        let differs = branches.iter().find(|(_, r)| (&r.dtype, r.svd_rank) != (&one.dtype, one.svd_rank));
        if let Some((row, r)) = differs {
            return said(format!(
                "`{}` is {} of rank {} and `{}` {} of rank {}: a file has one dtype and one rank",
                first.name, one.dtype, one.svd_rank, row.name, r.dtype, r.svd_rank
            ));
        }
        let rank = u64::from(one.svd_rank);
        if !rank.is_multiple_of(RANK_TILE) || !(RANK_TILE..=MOST_RANK).contains(&rank) {
            return said(format!(
                "rank {rank}: Nunchaku's kernels take multiples of {RANK_TILE} from {RANK_TILE} to {MOST_RANK}"
            ));
        }
        if let (Some(donor), Some(file)) = (&self.settings.donor, &self.settings.nunchaku.smooth_from) {
            let (rough, all) = self.unsmoothed(rows);
            if rough == all && !donor.smoothing.is_empty() {
                let (theirs, ours) = (donor.smoothing.keys().next(), name::layer(&first.name));
                return said(format!(
                    "no layer finds its smoothing in {file}, which has it of `{}`, not of `{ours}`{}",
                    name::clean(theirs.map_or("", String::as_str)),
                    if self.family.is_none() {
                        ": a Lite folder takes it from Lite folders and lists of magnitudes"
                    } else {
                        ""
                    }
                ));
            }
            let of = donor.config.as_ref().and_then(metadata::class_name);
            if let (Some(family), Some(of)) = (self.family, of)
                && of != family.class
            {
                return said(format!("{file} smooths a {}, and this is a {}", name::clean(of), family.class));
            }
        }
        if self.family.is_some() {
            let plain = self.mades.iter().zip(&self.decisions).find_map(|(made, decision)| {
                made.way?;
                Some((made, self.treatment(made, decision).err()?.unwrap_or_default()))
            });
            if let Some((made, why)) = plain {
                return said(format!(
                    "`{}` would stay a float ({why}), and Nunchaku's loaders want every such layer quantized; \
                     with --lite layers can stay",
                    made.item.tensor.name
                ));
            }
        }
        Ok(())
    }
}

fn is_smoothed(row: &Row) -> bool {
    matches!(&row.action, Action::Quantize(r) if r.kernel.as_ref().is_some_and(|k| k.smooth.is_some()))
}

/// Whether a name has a number of a block before its layer.
fn in_blocks(name: &str) -> bool {
    // The last two are the layer and what it has: `mlp.0.weight` is in no block.
    let mut above = name.rsplit('.').skip(2);
    above.any(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a layer makes scales and shifts for others, of one input row.
fn modulates(layer: &str) -> bool {
    let mut segments = layer.rsplit('.');
    let (last, above) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let numbered = last.bytes().all(|b| b.is_ascii_digit());
    (last == "linear" && (above.starts_with("norm") || above.contains("modulation")))
        || (numbered && (above.ends_with("_mod") || above.contains("adaLN_modulation")))
}

/// Every tensor under diffusers' name, linear layers with their biases.
fn unfused(model: &Model) -> Vec<Made> {
    let items = items::items(model, crate::core::options::Names::Diffusers).0.unwrap_or_else(|| {
        let whole = |id: TensorId| Item { tensor: model.tensor(id).clone(), sources: vec![id], slices: Vec::new() };
        model.ids().map(whole).collect()
    });
    let class = model.architecture.as_deref().unwrap_or_default();
    let around = Surroundings { class, tied: model.tied };
    let is_layer = |item: &Item| {
        kind(&item.tensor.name, &item.tensor.shape, None, around) == Kind::Linear && item.tensor.is_float()
    };
    let biases: std::collections::HashMap<String, usize> = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| Some((item.tensor.name.strip_suffix(".bias")?.to_owned(), i)))
        .collect();
    let bias_of = |item: &Item| {
        let bias = items.get(*biases.get(item.tensor.name.strip_suffix(".weight")?)?)?;
        (bias.tensor.shape == [item.tensor.rows()]).then_some(bias)
    };
    let taken: std::collections::HashSet<&str> = items
        .iter()
        .filter(|item| is_layer(item))
        .filter_map(|item| Some(bias_of(item)?.tensor.name.as_str()))
        .collect();
    let mut out = Vec::with_capacity(items.len());
    for item in items.iter().filter(|item| !taken.contains(item.tensor.name.as_str())) {
        let mut made = Made::plain(item.clone());
        if is_layer(item) {
            made.way = Some(if modulates(name::layer(&item.tensor.name)) { Way::Awq(0) } else { Way::Svdq });
            if let Some(bias) = bias_of(item) {
                made.bias = layers::add(&mut made.item.sources, model, bias);
                made.bias_bytes = bias.tensor.bytes;
            }
        }
        out.push(made);
    }
    out
}

/// What a group size may be: the dtype's own.
pub fn check_group(size: Option<i64>, precision: Precision) -> Result<()> {
    match size {
        None | Some(group_size::AUTO) => Ok(()),
        Some(size) if size == precision.group() as i64 => Ok(()),
        Some(size) => {
            Err(Error::usage(format!("group size {size}: {} has groups of {}", precision.name(), precision.group())))
        }
    }
}
