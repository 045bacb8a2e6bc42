//! Targets: families of output files. A target knows its dtypes, how values become its parts and come back, what its
//! consumer calls things, and what its files say of themselves. Plans are made here.
pub mod adapters;
pub mod against;
pub mod architecture;
pub mod check;
pub mod codec;
pub mod comfy;
pub mod faithful;
pub mod float;
pub mod gguf;
pub mod items;
mod late;
pub mod layout;
pub mod lora;
pub mod metadata;
pub mod names;
pub mod nunchaku;
pub mod parts;
pub mod pass;
pub mod prior;
pub mod sdnq;
pub mod state_dict;
pub mod values;

use rayon::prelude::*;

use crate::core::model::Encoding;
use crate::core::options::Names;
use crate::core::plan::{Action, Change, Part, Row};
use crate::core::recipe::Recipe;
use crate::core::rules::Decision;
use crate::core::{Dtype, Error, Family, Model, Patch, Plan, Result, Settings, Storage, Tensor, TensorId};
use crate::format::{self, OpenOptions, Opened};
use codec::Codec;
use items::Item;

/// A dtype that a target offers.
#[derive(Clone, Debug, PartialEq)]
pub struct DtypeInfo {
    /// Its canonical name.
    pub name: Dtype,
    /// Bits per element, scales not counted.
    pub bits: f64,
    /// What it is good for, in a few words.
    pub about: &'static str,
}

/// A setting that not every target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Knob {
    /// Values per scale.
    GroupSize,
    /// The low-rank branch.
    SvdRank,
    /// Self-description as tensors or in the header.
    MetadataTensors,
    /// A Hadamard rotation before quantization.
    Hadamard,
    /// Levels found for each group.
    Codebook,
    /// Quantizing convolutions.
    QuantConv,
    /// Quantizing embedding tables.
    QuantEmbedding,
    /// A dtype for each layer by the loss it may have.
    Dynamic,
    /// llama-quantize's options.
    Mixtures,
    /// An importance matrix.
    Importance,
    /// How scales are found.
    ScaleSearch,
    /// A rotation before quantization, by ComfyUI's name.
    ConvRot,
    /// How the output's names begin, and what its header says of layers.
    KeyNames,
    /// The source's names, where consumers have others.
    KeepNames,
    /// Names as diffusers has them.
    DiffusersNames,
    /// Nunchaku's options.
    Nunchaku,
}

/// Another way to treat a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// What is laid over its settings.
    pub patch: Patch,
    /// Whether it is among the first things that a person would think of.
    pub usual: bool,
}

/// A family of output files.
pub trait Target: Sync {
    /// Which.
    fn family(&self) -> Family;
    /// What it can write, the usual ones first.
    fn dtypes(&self) -> Vec<DtypeInfo>;
    /// The canonical dtype of a name in any case, aliases included; an unknown name lists the near ones.
    fn parse_dtype(&self, name: &str) -> Result<Dtype> {
        let lower = name.trim().to_ascii_lowercase();
        let all = self.dtypes();
        if let Some(d) = all.iter().find(|d| d.name.as_str().eq_ignore_ascii_case(&lower)) {
            return Ok(d.name.clone());
        }
        Err(unknown_dtype(self.family(), name, all.iter().map(|d| d.name.as_str())))
    }
    /// The dtypes that a dynamic choice tries for a layer, from `first` on, with bits per element. None: it has no such.
    fn ladder(&self, _first: &Dtype, _codebook: bool) -> Vec<(Dtype, f64)> {
        Vec::new()
    }
    /// What it writes when nothing is said.
    fn default_dtype(&self) -> Dtype;
    /// Whether it has a setting; if not, why, for people.
    fn has(&self, knob: Knob) -> Result<(), String>;
    /// Refuses settings that contradict each other for every tensor.
    fn check(&self, _: &Settings) -> Result<()> {
        Ok(())
    }
    /// Names for dtypes of whole files, where single tensors depart from one by rules of the target's own.
    fn mixtures(&self) -> Vec<DtypeInfo> {
        Vec::new()
    }
    /// Whose names its consumer knows.
    fn names(&self, settings: &Settings) -> Names {
        match settings.names {
            Some(Names::Diffusers) => Names::Diffusers,
            _ => Names::Source,
        }
    }
    /// What becomes of one tensor, given what the rules say of it: `tensor` is `id`'s, or one that is made of it and others.
    fn row(
        &self,
        model: &Model,
        id: TensorId,
        tensor: &Tensor,
        decision: &Decision,
        settings: &Settings,
    ) -> Result<Row>;
    /// What becomes of every tensor, in output order, and what a person should know of it.
    fn rows(&self, model: &Model, settings: &Settings) -> Result<(Vec<Row>, Vec<String>)> {
        let (items, warnings) = items::items(model, self.names(settings));
        let search = settings.search(model.tensors.len());
        let rows: Result<Vec<Row>> = match items {
            Some(items) => {
                let decide = |item: &Item| items::decide(model, settings, &search, item);
                items.par_iter().map(|item| self.of_item(model, item, settings, &decide(item))).collect()
            }
            None => {
                let ids: Vec<TensorId> = model.ids().collect();
                let row = |id: &TensorId| {
                    let tensor = model.tensor(*id);
                    let decision = settings.decide_found(&search, &[tensor.name.as_str()]);
                    self.row(model, *id, tensor, &decision, settings)
                };
                ids.par_iter().map(row).collect()
            }
        };
        Ok((rows?, warnings))
    }
    /// What becomes of a tensor that is made of others.
    fn of_item(&self, model: &Model, item: &Item, settings: &Settings, decision: &Decision) -> Result<Row> {
        let id = item.sources.first().copied().ok_or_else(|| Error::failed("a tensor that is made of nothing"))?;
        Ok(items::finish(model, item, self.row(model, id, &item.tensor, decision, settings)?))
    }
    /// Other ways to treat a tensor that is treated by `recipe`, or that is kept: what is tried first comes first.
    fn alternatives(&self, _recipe: Option<&Recipe>) -> Vec<Alternative> {
        let dtype = |d: DtypeInfo| Patch { dtype: Some(d.name), ..Patch::default() };
        self.dtypes().into_iter().map(|d| Alternative { patch: dtype(d), usual: true }).collect()
    }
    /// What becomes of each of some tensors when each of some patches is laid over what the settings say of it.
    fn variants(
        &self,
        model: &Model,
        ids: &[TensorId],
        settings: &Settings,
        patches: &[Patch],
    ) -> Result<Vec<Vec<Row>>> {
        let search = settings.search(ids.len());
        if let (Some(items), _) = items::items(model, self.names(settings)) {
            // Of what is fused, the first says what becomes of it; of what is split, its first part.
            let of = |id: &TensorId| {
                let item = items.iter().find(|i| i.sources.contains(id));
                let item =
                    item.ok_or_else(|| Error::failed(format!("`{}` is in no output", model.tensor(*id).name)))?;
                let said = items::decide(model, settings, &search, item);
                patches.iter().map(|patch| self.of_item(model, item, settings, &said.with(patch))).collect()
            };
            return ids.par_iter().map(of).collect();
        }
        let of = |id: &TensorId| {
            let tensor = model.tensor(*id);
            let decision = settings.decide_found(&search, &[tensor.name.as_str()]);
            patches.iter().map(|patch| self.row(model, *id, tensor, &decision.with(patch), settings)).collect()
        };
        ids.par_iter().map(of).collect()
    }
    /// Whether what a patch says holds for a file as a whole: its consumer takes it for no single layer.
    fn is_for_all(&self, _: &Patch) -> bool {
        false
    }
    /// Refuses what can be planned and must not be written.
    fn obstacles(&self, _: &Model, _: &Settings) -> Result<()> {
        Ok(())
    }
    /// How values of that shape, stored as `storage` before, become the parts of an action of this target.
    fn codec(&self, shape: &[u64], storage: Storage, action: &Action) -> Result<Box<dyn Codec>>;
    /// What the output says of itself besides its tensors.
    fn description(&self, plan: &Plan, context: &layout::Context) -> Result<layout::Description>;
    /// Who loads it, and from which version on.
    fn loads_with(&self, model: &Model, plan: &Plan) -> String;
}

/// The target of a family.
pub fn get(family: Family) -> &'static dyn Target {
    match family {
        Family::Float => &float::Float,
        Family::Sdnq => &sdnq::Sdnq,
        Family::Comfy => &comfy::Comfy,
        Family::Gguf => &gguf::Gguf,
        Family::Nunchaku => &nunchaku::Nunchaku,
    }
}

/// Opens a model and recognises what its files hold: quantized tensors become tensors again.
pub fn open(label: &str, options: &OpenOptions) -> Result<Opened> {
    let mut opened = format::open(label, options)?;
    recognise(&mut opened)?;
    Ok(opened)
}

/// Opens a model as its files have it: quantized layers are not recognised. For what checks files.
pub fn open_arrays(label: &str, options: &OpenOptions) -> Result<Opened> {
    let mut opened = format::open(label, options)?;
    let model = opened.model_mut();
    model.architecture = architecture::of(model);
    model.tied = architecture::is_tied(model);
    Ok(opened)
}

/// Finds packed tensors among a model's arrays, and its architecture.
pub fn recognise(opened: &mut Opened) -> Result<()> {
    sdnq::read::recognise(opened)?;
    comfy::read::recognise(opened)?;
    nunchaku::read::recognise(opened)?;
    let model = opened.model_mut();
    model.architecture = architecture::of(model);
    model.tied = architecture::is_tied(model);
    model.foreign = model.foreign.take().or_else(|| foreign(model));
    Ok(())
}

/// Whether somebody else quantized a model: its codes must not be taken for weights.
fn foreign(model: &Model) -> Option<String> {
    let config = model.config.as_ref().and_then(|c| c.get("quantization_config"));
    if let Some(method) = config.and_then(|q| q.get("quant_method")).and_then(|m| m.as_str()) {
        return Some(format!("config.json says it is quantized by `{method}`"));
    }
    let scales = ["weight_scale", "weight_scale_inv", "scale_weight", "scale"];
    let coded = |t: &&Tensor| matches!(t.storage, Storage::F8_E4M3 | Storage::F8_E5M2 | Storage::U8 | Storage::I8);
    let scaled = |t: &Tensor| {
        let layer = t.name.strip_suffix(".weight")?;
        scales.iter().map(|s| format!("{layer}.{s}")).find(|s| model.find(s).is_some())
    };
    let plain = model.tensors.iter().filter(|t| matches!(t.encoding, Encoding::Plain(_)));
    let (tensor, scale) = plain.filter(coded).find_map(|t| Some((t, scaled(t)?)))?;
    Some(format!("`{}` is quantized, with its scale in `{scale}`", tensor.name))
}

/// Resolves settings over a model. Reads no weights.
pub fn plan(model: &Model, settings: &Settings) -> Result<Plan> {
    if let Some(why) = &model.foreign {
        return Err(Error::failed(format!(
            "{}: {why}; this version reads plain floats and what mixdown wrote, so start from the unquantized model",
            model.label
        )));
    }
    let target = get(settings.target);
    target.check(settings)?;
    let (rows, mut warnings) = target.rows(model, settings)?;
    warnings.extend(target.obstacles(model, settings).err().map(|e| e.to_string()));
    let mut strangers: Vec<&str> =
        settings.overrides.keys().map(String::as_str).filter(|n| model.find(n).is_none()).collect();
    // A tensor may be called as the output calls it.
    strangers.retain(|name| !rows.iter().any(|row| row.name == *name));
    match strangers[..] {
        [] => {}
        [name] => warnings.push(format!("the profile sets `{name}`, which this model does not have")),
        [name, ..] => warnings.push(format!(
            "the profile sets {} tensors that this model does not have, `{name}` for one",
            strangers.len()
        )),
    }
    let larger: Vec<&Row> = rows.iter().filter(|r| !r.excluded && r.bytes_after() > r.bytes_before).collect();
    if let (Some(row), Action::Quantize(_)) = (larger.first(), larger.first().map_or(&Action::Copy, |r| &r.action)) {
        warnings.push(format!(
            "{} layers become larger than they are, `{}` for one; {}",
            larger.len(),
            row.name,
            if row.svd_rank() > 0 { "lower the rank" } else { "choose fewer bits" }
        ));
    }
    if settings.target != Family::Float && model.tensors.iter().any(|t| matches!(t.encoding, Encoding::Packed { .. })) {
        warnings.push("the source is quantized already: losses are against what it decodes to".into());
    }
    let patterns = settings.exclude.iter().chain(&settings.include).chain(settings.rules.iter().map(|r| &r.pattern));
    for pattern in patterns {
        let hits = |name: &String| pattern.hits(&[name]);
        if !model.tensors.iter().any(|t| hits(&t.name)) && !rows.iter().any(|row| hits(&row.name)) {
            warnings.push(format!("`{pattern}` matches no tensor"));
        }
    }
    Ok(Plan { family: settings.target, rows, warnings })
}

/// Bytes that finding what all slabs of a layer share holds besides the slabs themselves: for a low-rank branch factors
/// in f32 and as stored, and sketches; for the levels of a transposed convolution its values.
pub fn search_memory(shape: &[u64], recipe: &Recipe) -> u64 {
    let rows = shape.first().copied().unwrap_or(1);
    let cols: u64 = shape.iter().skip(1).product();
    let low_rank = match u64::from(recipe.svd_rank) {
        0 => 0,
        rank => crate::quant::lowrank::memory(rows, cols, rank.min(rows).min(cols), u64::from(recipe.svd_steps)),
    };
    let levels = if recipe.codebook && recipe.axis == 0 { rows.saturating_mul(cols).saturating_mul(4 * 3) } else { 0 };
    low_rank.max(levels)
}

/// Elements that finding a low-rank branch reads at a time, in each thread.
pub fn search_chunk(recipe: &Recipe) -> u64 {
    if recipe.svd_rank > 0 { crate::quant::lowrank::CHUNK as u64 } else { 0 }
}

/// Whether a row holds float weights.
pub fn is_float(model: &Model, row: &Row) -> bool {
    row.sources.iter().all(|id| model.tensor(*id).is_float())
}

/// A row that leaves a tensor as it is, or, where its source is packed, gives it back its own type.
pub(crate) fn kept(tensor: &Tensor, id: TensorId, decision: &Decision, reason: Option<String>) -> Row {
    let storage = match tensor.encoding {
        // A stored type that mixdown cannot cast to is only ever copied.
        Encoding::Packed { .. } => castable(tensor.storage),
        Encoding::Plain(_) if tensor.merged => castable(tensor.storage),
        Encoding::Plain(_) => tensor.storage,
    };
    let action = match tensor.encoding {
        Encoding::Plain(_) if !tensor.merged => Action::Copy,
        _ => Action::Cast(storage),
    };
    let part = Part { name: tensor.name.clone(), storage, shape: tensor.shape.clone() };
    let row = row_of(tensor, id, decision, action, vec![part], reason);
    Row { excluded: true, ..row }
}

/// The float type that values of a type are written as: itself, or the nearest that mixdown writes.
pub(crate) fn castable(storage: Storage) -> Storage {
    match storage {
        Storage::F32 | Storage::F64 => Storage::F32,
        Storage::F16 => Storage::F16,
        _ => Storage::BF16,
    }
}

pub(crate) fn row_of(
    tensor: &Tensor,
    id: TensorId,
    decision: &Decision,
    action: Action,
    parts: Vec<Part>,
    reason: Option<String>,
) -> Row {
    use crate::core::dtype::StorageExt;
    let to = match &action {
        Action::Quantize(recipe) => recipe.dtype.to_string(),
        Action::Cast(storage) => storage.name(),
        Action::Copy => tensor.storage.name(),
    };
    Row {
        name: tensor.name.clone(),
        change: Change::None,
        sources: vec![id],
        slices: Vec::new(),
        bias: Vec::new(),
        shape: tensor.shape.clone(),
        from: tensor.dtype_name(),
        to,
        action,
        excluded: false,
        reason,
        cause: decision.kept_by.clone().unwrap_or_else(|| decision.by.clone()),
        parts,
        bytes_before: tensor.bytes,
    }
}

/// Says which names are near an unknown one.
pub(crate) fn unknown_dtype<'a>(family: Family, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let all: Vec<&str> = known.collect();
    let near = near(name, all.iter().copied());
    // A name that shares nothing with ours is another tool's: then all of them are more help than the nearest.
    let (words, names) = if near.is_empty() { ("it has", all) } else { ("near ones:", near) };
    Error::usage(format!("{family} has no dtype `{name}`; {words} {}", names.join(", ")))
}

/// The six names most like an unknown one; none if even the nearest has little in common with it.
pub(crate) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = name.to_ascii_lowercase();
    let mut by_distance: Vec<(usize, &str)> =
        known.map(|k| (crate::core::name::distance(&lower, &k.to_ascii_lowercase()), k)).collect();
    let is_near = by_distance.iter().any(|(d, k)| *d * 2 <= k.len().max(name.len()));
    // What begins alike was more likely meant than what ends alike.
    let alike = |k: &str| k.chars().zip(lower.chars()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    by_distance.sort_by_key(|(d, k)| (2 * *d as i64 - alike(k) as i64, *k));
    by_distance.into_iter().filter(|_| is_near).take(6).map(|(_, k)| k).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered() {
        let message = get(Family::Sdnq).parse_dtype("unt4").expect_err("a typo").to_string();
        assert!(message.contains("uint4") && message.contains("int4"), "{message}");
        assert_eq!(get(Family::Sdnq).parse_dtype("UINT4").expect("any case").as_str(), "uint4");
    }
}
