//! What sdnq's loaders would fail on, or silently get wrong.
//!
//! The loader makes an empty model from its class and config, by its own rules, and fills it with what the files hold.
//! The strict one (`sdnq.load_sdnq_model`) refuses what does not fit; that of diffusers and transformers computes NaN
//! with a scale that is missing and takes a weight of the wrong shape as it is. So everything is checked here: what the
//! config makes of each layer is compared with its arrays.
//!
//! A file does not name its modules' classes. What depends on them alone (whether a matrix is an `Embedding`) is a
//! warning where the name leaves doubt.
mod numbers;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::layers::{self, Kind, Surroundings};
use super::loader::{self, Config, LayerConfig};
use super::read::{self, holds_codes};
use super::recover::{self, Around, Arrays, BESIDE, DOUBLE, Recovered};
use crate::core::dtype::StorageExt;
use crate::core::model::{Origin, Stored};
use crate::core::recipe::group_size;
use crate::core::{Cancel, Model, Result, Storage, name};
use crate::format::Opened;
use crate::target::architecture::HEADS;
use crate::target::check::{Check, Findings};
use crate::target::metadata::{self, Settings};

/// Dtypes that the loader knows and mixdown does not read.
const UNREAD: [&str; 10] =
    ["float16", "fp16", "bfloat16", "bf16", "float32", "fp32", "int32", "uint32", "float8_e4m3fnuz", "float8_e5m2fnuz"];

/// Checks a model as its files have it: opened, but not recognised. `None` when nothing in it says that it is SDNQ's.
///
/// # Errors
/// If a file cannot be read, or the work was asked to stop.
pub fn validate(opened: &Opened, cancel: &Cancel) -> Result<Option<Vec<Check>>> {
    let model = &opened.model;
    let mut warnings = Vec::new();
    let mut described = metadata::settings(opened, &mut warnings)?;
    described.retain(|_, s| s.target.as_deref() == Some("sdnq"));
    if loader::of(model).is_none() && described.is_empty() {
        return Ok(None);
    }
    let (mut checks, config) = config(model);
    checks.extend(agreement(model));
    checks.extend(files(opened));
    let by_name = model.stored.iter().enumerate().map(|(i, s)| (s.name.clone(), i as u32)).collect();
    let mut all = All {
        model,
        config: config.as_ref(),
        described: &described,
        left: model.stored.iter().enumerate().map(|(i, s)| (s.name.clone(), i as u32)).collect(),
        by_name: &by_name,
        around: Surroundings::of(model),
        dtypes: Findings::new("dtypes"),
        complete: Findings::new("complete"),
        shapes: Findings::new("shapes"),
        listed: Findings::new("listed"),
        leftovers: Findings::new("leftovers"),
        quantized: Vec::new(),
        floats: 0,
    };
    all.walk();
    all.heads();
    let layers = all.quantized.len();
    let dtypes: BTreeSet<&str> = all.quantized.iter().map(|l| l.dtype.as_str()).collect();
    let dtypes = format!("{layers} layers of {}", dtypes.into_iter().collect::<Vec<_>>().join(", "));
    checks.extend(all.dtypes.close(dtypes));
    checks.extend(all.complete.close("every layer has all of its arrays"));
    checks.extend(all.shapes.close("every array has the shape and type that the loader makes"));
    if config.is_some() {
        let fine = format!("the config keeps {} matrices in float, and no other layer", all.floats);
        checks.extend(all.listed.close(fine));
    }
    checks.extend(all.leftovers.close("no array that belongs to no layer"));
    let mut values = Findings::new("numbers");
    values.extend(numbers::check(opened, &all.quantized, cancel)?);
    checks.extend(values.close("scales, zero points, factors and codes are numbers"));
    checks.extend(strict(opened));
    checks.extend(class(model));
    let mut own = Findings::new("description");
    warnings.into_iter().for_each(|w| own.warn(w));
    if !described.is_empty() {
        checks.extend(own.close(format!("{} layers are described in the file", described.len())));
    }
    Ok(Some(checks))
}

/// Whether there is a config, and it can be understood.
fn config(model: &Model) -> (Vec<Check>, Option<Config>) {
    let mut found = Findings::new("config");
    let Some(value) = loader::of(model) else {
        match model.origin {
            Origin::File => found.warn("none beside this file; it is judged by its own description"),
            _ => found.error("neither quantization_config.json nor config.json says that the model is quantized"),
        }
        return (found.close(""), None);
    };
    let entry = loader::entry(model);
    match entry {
        None => found.warn("config.json has no quantization_config: from_pretrained takes the model for unquantized"),
        Some(entry) if entry.get("quant_method").is_none() => {
            found.warn(
                "quantization_config in config.json lacks quant_method: from_pretrained does not know whose it is",
            );
        }
        _ => {}
    }
    let config = match Config::parse(value) {
        Ok(config) => Some(config),
        Err(e) => {
            found.error(e.to_string());
            None
        }
    };
    for pattern in config.iter().flat_map(|c| c.kept.list()) {
        if pattern.contains('*') && pattern.contains(['[', ']', '(', ')', '+', '?', '{', '}', '^', '$', '|', '\\']) {
            found.warn(format!("`{pattern}` is a regular expression to the loader; it is checked as a wildcard"));
        }
    }
    let summary = config.as_ref().map(|c| said(c.general())).unwrap_or_default();
    (found.close(summary), config)
}

/// A layer's settings in a few words.
fn said(layer: &LayerConfig) -> String {
    let mut words = vec![layer.weights_dtype.clone(), format!("group size {}", group_size::name(layer.group_size))];
    if layer.use_svd {
        words.push(format!("rank {}", layer.svd_rank));
    }
    if layer.use_hadamard {
        words.push(format!("rotated in {}", layer.hadamard_group_size));
    }
    if layer.use_codebook {
        words.push("with a codebook".into());
    }
    if layer.use_quantized_matmul {
        words.push("products of codes".into());
    }
    words.join(", ")
}

/// Whether both places of the config say the same. Each loader reads one.
fn agreement(model: &Model) -> Vec<Check> {
    let parse = |v: &Value| Config::parse(v).ok();
    let (Some(file), Some(entry)) = (model.quantization.as_ref().and_then(parse), loader::entry(model).and_then(parse))
    else {
        return Vec::new();
    };
    let mut found = Findings::new("configs agree");
    for key in file.differences(&entry) {
        found.error(format!("`{key}` is not the same in quantization_config.json and config.json"));
    }
    found.close("quantization_config.json and config.json say the same")
}

/// Whether the weight files are those that loaders read.
fn files(opened: &Opened) -> Vec<Check> {
    let mut found = Findings::new("files");
    if let Some(index) = &opened.index {
        for name in &index.unnamed {
            found.warn(format!("`{name}` is in a shard, but {} does not name it", index.name));
        }
        let bytes = opened.model.bytes();
        if let Some(said) = index.total_size.filter(|said| *said != bytes) {
            found.warn(format!("{} says that tensors have {said} bytes, they have {bytes}", index.name));
        }
    }
    for file in &opened.strays {
        found.warn(format!(
            "{file} is no part of the model, but sdnq.load_sdnq_model reads every safetensors file of the folder"
        ));
    }
    found.close(match opened.model.files.len() {
        1 => "one weight file".to_owned(),
        n => format!("{n} shards, every tensor where the index says"),
    })
}

/// Tensors that are nothing to a model's class.
fn strict(opened: &Opened) -> Vec<Check> {
    let mut found = Findings::new("strict loader");
    if opened.model.origin == Origin::File {
        return Vec::new();
    }
    let described = opened.model.stored.iter().filter(|s| metadata::is_description(s)).count();
    if described > 0 {
        found.warn(format!(
            "{described} layers are described in tensors, which sdnq.load_sdnq_model refuses; from_pretrained does not"
        ));
    }
    for s in opened.model.stored.iter().filter(|s| layers::is_leftover(&s.name, &s.shape)) {
        found.warn(format!(
            "`{}` is a constant that the model makes itself: sdnq.load_sdnq_model may refuse it",
            s.name
        ));
    }
    found.close("no tensor of a kind that sdnq.load_sdnq_model refuses")
}

/// Whether the loader finds out what to make.
fn class(model: &Model) -> Vec<Check> {
    if model.origin == Origin::File {
        return Vec::new();
    }
    let mut found = Findings::new("class");
    let config = model.config.as_ref();
    let named = config.and_then(|c| c.get("_class_name").or_else(|| c.get("architectures")?.get(0))?.as_str());
    if named.is_none() {
        found.warn("config.json does not name the model's class: sdnq.load_sdnq_model must be told model_cls");
    }
    found.close(named.unwrap_or_default())
}

/// A quantized layer, for what reads its numbers.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The weight's full name.
    name: String,
    dtype: String,
    /// Whether scales are levels, which may have either sign.
    codebook: bool,
}

/// The walk over all arrays.
struct All<'a> {
    model: &'a Model,
    config: Option<&'a Config>,
    described: &'a BTreeMap<String, Settings>,
    by_name: &'a HashMap<String, u32>,
    /// Arrays that no description has claimed.
    left: HashMap<String, u32>,
    around: Surroundings<'a>,
    dtypes: Findings,
    complete: Findings,
    shapes: Findings,
    listed: Findings,
    leftovers: Findings,
    quantized: Vec<Layer>,
    /// Matrices that are kept.
    floats: usize,
}

/// Types of weights that are no codes.
fn is_wide(storage: Storage) -> bool {
    matches!(storage, Storage::F64 | Storage::F32 | Storage::F16 | Storage::BF16)
}

impl<'a> All<'a> {
    fn walk(&mut self) {
        for stored in &self.model.stored {
            if let Some(layer) = stored.name.strip_suffix(".weight") {
                let arrays = Arrays::new(&stored.name, &self.model.stored, self.by_name);
                if is_wide(stored.storage) {
                    self.float(layer, stored, &arrays);
                } else {
                    self.coded(layer, stored, &arrays);
                }
            } else if let Some((layer, last)) = stored.name.rsplit_once('.')
                && (BESIDE.contains(&last) || DOUBLE.contains(&last))
                && !self.by_name.contains_key(&format!("{layer}.weight"))
            {
                self.leftovers.error(format!("`{}` belongs to no layer: `{layer}.weight` is not there", stored.name));
            }
        }
        let missing = self.described.keys().filter(|layer| !self.by_name.contains_key(&format!("{layer}.weight")));
        for layer in missing {
            self.complete.error(format!("layer `{layer}` is described, but `{layer}.weight` is not there"));
        }
    }

    /// A weight that is not quantized.
    fn float(&mut self, layer: &str, stored: &Stored, arrays: &Arrays) {
        for last in BESIDE.into_iter().chain(DOUBLE).filter(|last| arrays.get(last).is_some()) {
            self.leftovers.error(format!("`{}` is there, but `{}` is not quantized", arrays.full(last), stored.name));
        }
        if arrays.get("scale").is_some() {
            self.leftovers.warn(format!(
                "`{}` is there, but `{}` is not quantized: nothing, unless the model has such a parameter",
                arrays.full("scale"),
                stored.name
            ));
        }
        if self.described.contains_key(layer) {
            self.complete
                .error(format!("layer `{layer}` is described as quantized, but its weight is {}", stored.storage));
        }
        let Some(config) = self.config else { return };
        let kind = layers::kind_in(self.model, &stored.name, &stored.shape, self.around);
        if stored.shape.len() >= 2 {
            self.floats += usize::from(!config.converts(&stored.name));
        }
        if !config.converts(&stored.name) {
            return;
        }
        let what = match kind {
            Kind::Linear => "a matrix",
            Kind::Convolution | Kind::TransposedConvolution if config.quant_conv => "a convolution",
            Kind::Embedding | Kind::TiedEmbedding if config.quant_embedding => "an embedding",
            Kind::OtherEmbedding if config.quant_embedding => {
                return self.listed.warn(format!(
                    "`{}` is not in modules_to_not_convert: if it is an Embedding, the loader makes it a quantized one",
                    stored.name
                ));
            }
            _ => return,
        };
        self.listed.error(format!(
            "`{}` is {what} in {}, but not in modules_to_not_convert: the loader makes it a quantized layer",
            stored.name, stored.storage
        ));
    }

    /// A weight that is not of a wide float type.
    fn coded(&mut self, layer: &str, stored: &Stored, arrays: &Arrays) {
        let has_scale = arrays.get("scale").is_some();
        if let Some(settings) = self.described.get(layer) {
            let dtype = settings.weights_dtype.clone().unwrap_or_default();
            let codebook = settings.use_codebook == Some(true);
            self.quantized.push(Layer { name: stored.name.clone(), dtype, codebook });
            if let Err(e) = read::packed(layer, settings, &mut self.left, &self.model.stored) {
                self.shapes.error(format!("layer `{layer}` is not what its description says: {e}"));
            }
        }
        let Some(config) = self.config else {
            // Of a config that cannot be understood that was said already.
            let is_said = self.described.contains_key(layer) || loader::of(self.model).is_some();
            if has_scale && !is_said {
                self.complete.error(format!("layer `{layer}` has a scale, but nothing says how it is quantized"));
            }
            return;
        };
        let said = match config.kwargs(&stored.name) {
            Ok(said) => said,
            Err(e) => return self.dtypes.error(format!("layer `{layer}`: {e}")),
        };
        let converts = config.converts(&stored.name);
        let holds = said.code().is_ok_and(|code| holds_codes(code, stored.storage));
        let is_coded = has_scale || (converts && holds);
        if !is_coded {
            return;
        }
        if !self.described.contains_key(layer) {
            let dtype = said.weights_dtype.clone();
            self.quantized.push(Layer { name: stored.name.clone(), dtype, codebook: said.use_codebook });
        }
        if !converts {
            self.listed.error(format!(
                "`{}` is quantized, but modules_to_not_convert lists it: the loader makes it a float layer",
                stored.name
            ));
        }
        if self.dtype(layer, &said) {
            self.layout(layer, arrays, &said, config);
        }
    }

    /// Whether a layer's settings are such that the loader, and this program, can make something of it.
    fn dtype(&mut self, layer: &str, said: &LayerConfig) -> bool {
        let dtype = &said.weights_dtype;
        if UNREAD.contains(&dtype.as_str()) {
            self.dtypes.warn(format!("layer `{layer}` is of {dtype}, which is not checked"));
        } else if let Some(why) = said.refusal() {
            self.dtypes.error(format!("layer `{layer}`: {why}"));
        } else if dtype.chars().any(char::is_uppercase) {
            self.dtypes
                .error(format!("layer `{layer}`: the loader knows no `{dtype}`, only `{}`", dtype.to_lowercase()));
        } else {
            return true;
        }
        false
    }

    /// Whether a layer has the arrays that its settings make of it.
    fn layout(&mut self, layer: &str, arrays: &Arrays, said: &LayerConfig, config: &Config) {
        let present = said.code().and_then(|code| {
            arrays.need("scale")?;
            recover::check_present(arrays, said, code)
        });
        if let Err(e) = present {
            return self.complete.error(format!("layer `{layer}`: {e}"));
        }
        match (said.use_svd, arrays.get("svd_up").is_some()) {
            (true, false) => self.complete.error(format!(
                "layer `{layer}`: tensor `{}` is missing: its config says use_svd",
                arrays.full("svd_up")
            )),
            (false, true) => self.complete.error(format!(
                "layer `{layer}` has `{}`, but its config does not say use_svd: the loader leaves its product out",
                arrays.full("svd_up")
            )),
            _ => {}
        }
        let described = self.described.get(layer).and_then(|s| s.original_shape.as_deref());
        let found = match recover::recover(arrays, said, Around { config, dtype: None }, described) {
            Ok(found) => found,
            Err(e) => return self.shapes.error(format!("layer `{layer}`: {e}")),
        };
        if let Some(shape) = described.filter(|shape| **shape != found.shape) {
            self.shapes
                .error(format!("layer `{layer}` is described as {shape:?}, its arrays are of {:?}", found.shape));
        }
        self.compare(layer, arrays, said, config, &found);
    }

    /// The arrays that the loader makes of a layer's shape, against those that are there.
    fn compare(&mut self, layer: &str, arrays: &Arrays, said: &LayerConfig, config: &Config, found: &Recovered) {
        let shaped = match (found.shape.len(), found.recipe.axis) {
            (2, _) => Kind::Linear,
            (_, 0) => Kind::TransposedConvolution,
            _ => Kind::Convolution,
        };
        if shaped != Kind::Linear && !config.quant_conv {
            self.listed.error(format!("`{}` is a quantized convolution, but quant_conv is not set", arrays.name));
        }
        if layers::kind_in(self.model, arrays.name, &found.shape, self.around) == Kind::Embedding
            && !config.quant_embedding
        {
            self.listed.warn(format!(
                "`{}` is quantized, but quant_embedding is not set: if it is an Embedding, the loader makes it a float one",
                arrays.name
            ));
        }
        let mut complaint = None;
        // Whether a matrix is a table is for its class to say; one that is right for either is right.
        let table = (shaped == Kind::Linear && config.quant_embedding).then_some(Kind::Embedding);
        for kind in recover::kinds(arrays.name, shaped, &found.shape, said, config).chain(table) {
            let Ok(laid) = said.layout(kind, &found.shape) else { continue };
            let wrong = laid.parts(arrays.name, found.storage).into_iter().find_map(|part| {
                let (_, stored) = arrays.get(name::last(&part.name))?;
                // Types were compared when its shape was recovered.
                (stored.shape != part.shape).then(|| {
                    format!(
                        "`{}` is {} {:?}, and by its config ({}) the loader makes {:?}",
                        stored.name,
                        stored.storage.name(),
                        stored.shape,
                        self::said(said),
                        part.shape
                    )
                })
            });
            match (wrong, laid.trouble.map(|t| format!("layer `{layer}`: {t}"))) {
                (Some(wrong), _) => drop(complaint.get_or_insert(wrong)),
                (None, Some(trouble)) if kind == Kind::Embedding => return self.shapes.warn(trouble),
                (None, Some(trouble)) => return self.shapes.error(trouble),
                (None, None) => return,
            }
        }
        if let Some(complaint) = complaint {
            self.shapes.error(complaint);
        }
    }

    /// A head that shares the token table is not in the file, yet the loader may make it a quantized layer.
    fn heads(&mut self) {
        let Some(config) = self.config else { return };
        let in_file = |head: &&str| self.model.stored.iter().any(|s| s.name.ends_with(*head));
        if self.around.tied && !HEADS.iter().any(in_file) && HEADS.iter().all(|head| config.converts(head)) {
            self.listed.warn(
                "the output head shares the token table, and modules_to_not_convert does not list it (`lm_head`): \
                 the loader may make it a quantized layer",
            );
        }
    }
}
