//! What ComfyUI's loader fails on, or silently gets wrong.
//!
//! It makes an empty model from the shapes of a few weights, and fills each layer from what the file holds beside it
//! (`comfy/ops.py`). Most faults of a layer are errors there; a weight of bytes without a description is none, and is
//! taken as it is, without its scale.
use std::collections::{BTreeMap, BTreeSet};

use super::describe::{HEADER, SUFFIX};
use super::format::Format;
use super::read::{self, ByName, Said};
use super::{detection, loads_with};
use crate::core::dtype::StorageExt;
use crate::core::model::{Encoding, Stored, Tensor};
use crate::core::{Cancel, Result, Storage};
use crate::format::Opened;
use crate::quant::cast;
use crate::target::check::{Check, Findings};
use crate::target::sdnq::layers::{self, Kind, Surroundings};

/// Formats that stock ComfyUI knows, and those of a custom node.
const STOCK: [&str; 8] = [
    "float8_e4m3fn",
    "float8_e5m2",
    "int8_tensorwise",
    "nvfp4",
    "mxfp8",
    "convrot_w4a4",
    "asym_w4a8_int8",
    "awq_w4a16",
];
const CUSTOM: [&str; 5] =
    ["float8_e4m3fn_rowwise", "float8_e4m3fn_blockwise", "float8_e4m3fn_block3d", "int8_blockwise", "hybrid_mxfp8"];
/// What stands beside a quantized weight, with the longest names first.
const BESIDE: [&str; 11] = [
    "weight_scale_2",
    "weight_scale",
    "weight_s_rel",
    "weight_s_channel",
    "weight_codebook",
    "weight_zeros",
    "weight_zero",
    "weight_scalar",
    "scale_weight",
    "scale_input",
    "input_scale",
];
/// Bytes that are looked at a time.
const CHUNK: u64 = 1 << 20;

/// Checks a model as its files have it: opened, but not recognised. `None` when nothing in it says that it is ComfyUI's.
///
/// # Errors
/// If a file cannot be read, or the work was asked to stop.
pub fn validate(opened: &Opened, cancel: &Cancel) -> Result<Option<Vec<Check>>> {
    let model = &opened.model;
    let header: Vec<&str> = texts(opened);
    let descriptions: Vec<&Stored> = model.stored.iter().filter(|s| s.name.ends_with(SUFFIX)).collect();
    let legacy = model.stored.iter().any(|s| read::is_legacy(&s.name));
    let scaled = model.stored.iter().any(|s| beside(&s.name).is_some());
    if header.is_empty() && descriptions.is_empty() && !legacy && !scaled {
        return Ok(None);
    }
    let mut all = All {
        opened,
        by_name: model.stored.iter().enumerate().map(|(i, s)| (s.name.clone(), i as u32)).collect(),
        legacy,
        layers: BTreeMap::new(),
        described: Findings::new("described"),
        formats: Findings::new("formats"),
        complete: Findings::new("complete"),
        shapes: Findings::new("shapes"),
        modules: Findings::new("modules"),
        leftovers: Findings::new("leftovers"),
    };
    all.descriptions(&descriptions)?;
    all.header(&header);
    if legacy {
        all.described.warn(
            "`scaled_fp8` marks the old form: ComfyUI converts it on loading; `mixdown convert --to comfy` does so for good",
        );
    }
    let tensors = all.walk();
    all.strays();
    let mut checks = all.described.close(format!("{} layers say how they are read", all.layers.len()));
    let known: BTreeSet<&str> = all.layers.values().filter_map(|s| s.format.as_deref()).collect();
    checks.extend(all.formats.close(known.into_iter().collect::<Vec<_>>().join(", ")));
    checks.extend(all.complete.close("every layer has all of its arrays, once"));
    checks.extend(all.shapes.close("every array has the shape and type that the format wants"));
    checks.extend(all.modules.close("nothing is quantized that ComfyUI reads otherwise"));
    checks
        .extend(all.leftovers.close("no scale that belongs to no layer, and no weight of bytes without a description"));
    checks.extend(numbers(opened, &tensors, cancel)?);
    checks.push(needs(&tensors));
    checks.extend(recognised(opened));
    Ok(Some(checks))
}

fn texts(opened: &Opened) -> Vec<&str> {
    let pairs = opened.model.files.iter().flat_map(|f| &f.metadata);
    pairs.filter(|(k, _)| k == HEADER).map(|(_, text)| text.as_str()).collect()
}

/// The layer that a scale stands beside.
fn beside(name: &str) -> Option<(&str, &'static str)> {
    BESIDE.iter().find_map(|end| Some((name.strip_suffix(end)?.strip_suffix('.')?, *end)))
}

struct All<'a> {
    opened: &'a Opened,
    by_name: ByName,
    /// Whether it is of the old form.
    legacy: bool,
    /// What is said of each layer.
    layers: BTreeMap<String, Said>,
    described: Findings,
    formats: Findings,
    complete: Findings,
    shapes: Findings,
    modules: Findings,
    leftovers: Findings,
}

impl<'a> All<'a> {
    fn stored(&self, name: &str) -> Option<&'a Stored> {
        self.opened.model.stored.get(*self.by_name.get(name)? as usize)
    }

    fn descriptions(&mut self, all: &[&Stored]) -> Result<()> {
        for stored in all {
            let layer = stored.name.strip_suffix(SUFFIX).unwrap_or_default();
            if !read::is_description(stored) {
                let (storage, shape) = (stored.storage.name(), &stored.shape);
                self.described.error(format!("`{}` is {storage} {shape:?}, not a text in U8", stored.name));
                continue;
            }
            let mut bytes = vec![0; stored.span.len as usize];
            self.opened.blobs[stored.span.file as usize].read_at(stored.span.offset, &mut bytes)?;
            match Said::parse(&bytes) {
                Ok(said) => drop(self.layers.insert(layer.to_owned(), said)),
                Err(e) => self.described.error(format!("`{}`: {e}", stored.name)),
            }
        }
        Ok(())
    }

    /// What the header says stands over what the tensors say.
    fn header(&mut self, texts: &[&str]) {
        for text in texts {
            let value = match serde_json::from_str::<serde_json::Value>(text) {
                Ok(value) => value,
                Err(e) => {
                    self.described.error(format!("`{HEADER}` in the header is not JSON: {e}"));
                    continue;
                }
            };
            let Some(layers) = value.get("layers").and_then(|l| l.as_object()) else {
                self.described.error(format!("`{HEADER}` in the header has no `layers`"));
                continue;
            };
            for (layer, value) in layers {
                let said = match Said::parse(value.to_string().as_bytes()) {
                    Ok(said) => said,
                    Err(e) => {
                        self.described.error(format!("`{HEADER}`: `{layer}`: {e}"));
                        continue;
                    }
                };
                let names = std::iter::once("").chain(super::PREFIXES).map(|p| format!("{p}{layer}"));
                let Some(layer) = names.into_iter().find(|n| self.by_name.contains_key(&format!("{n}.weight"))) else {
                    self.described.error(format!("`{HEADER}` speaks of `{layer}`, which has no weight in the file"));
                    continue;
                };
                match self.layers.get(&layer) {
                    Some(old) if *old != said => self.described.error(format!(
                        "`{layer}`: the header says otherwise than `{layer}{SUFFIX}`, and ComfyUI takes the header's word"
                    )),
                    _ => {}
                }
                self.layers.insert(layer, said);
            }
        }
    }

    /// Every layer against its arrays; those that can be read come back.
    fn walk(&mut self) -> Vec<Tensor> {
        let mut tensors = Vec::new();
        for (layer, said) in self.layers.clone() {
            let tag = match said.format.as_deref() {
                None => {
                    self.formats.error(format!("`{layer}`: the description has no `format`"));
                    continue;
                }
                Some(tag) if CUSTOM.contains(&tag) => {
                    self.formats.error(format!("`{layer}`: {tag} needs the custom node ComfyUI-QuantOps"));
                    continue;
                }
                Some(tag) if !STOCK.contains(&tag) => {
                    self.formats.error(format!("`{layer}`: ComfyUI knows no format `{tag}`"));
                    continue;
                }
                Some(tag) => tag,
            };
            let Some(weight) = self.stored(&format!("{layer}.weight")) else {
                self.complete.error(format!("`{layer}.weight` is missing"));
                continue;
            };
            if self.stored(&format!("{layer}.scale_weight")).is_some() {
                let both = self.stored(&format!("{layer}.weight_scale")).is_some();
                let what = if both { "stands beside" } else { "stands in the place of" };
                self.complete.error(format!("`{layer}.scale_weight` {what} `{layer}.weight_scale`"));
                if !both {
                    continue;
                }
            }
            let turned = said.rotation.is_some_and(|n| n < 4 || !n.is_power_of_two() || n.trailing_zeros() % 2 != 0);
            if turned {
                let size = said.rotation.unwrap_or_default();
                self.shapes.error(format!("`{layer}`: a rotation of {size}, which is no power of 4"));
                continue;
            }
            if weight.shape.len() > 2 {
                self.modules
                    .error(format!("`{layer}.weight` {:?} is no matrix: it is not read as quantized", weight.shape));
                continue;
            }
            match read::packed(&layer, &said, &self.by_name, &self.opened.model.stored) {
                Ok((tensor, _)) => {
                    self.module(&layer, tag, &tensor);
                    tensors.push(tensor);
                }
                Err(e) => {
                    let text = e.to_string();
                    if text.contains("pre_quant_scale") {
                        self.modules.warn(format!("{text}; ComfyUI does apply it"));
                        continue;
                    }
                    let findings = if text.contains("is missing") { &mut self.complete } else { &mut self.shapes };
                    findings.error(if text.contains(layer.as_str()) { text } else { format!("`{layer}`: {text}") });
                }
            }
        }
        tensors
    }

    /// Whether ComfyUI reads the module that a layer is as quantized.
    fn module(&mut self, layer: &str, tag: &str, tensor: &Tensor) {
        let format = match &tensor.encoding {
            Encoding::Packed { recipe, .. } => Format::of(&recipe.dtype),
            Encoding::Plain(_) => None,
        };
        let kind = layers::kind(&tensor.name, &tensor.shape, None, Surroundings { class: "", tied: false });
        let is_table = matches!(kind, Kind::Embedding | Kind::OtherEmbedding | Kind::TiedEmbedding);
        let Some(format) = format else { return };
        if format.tag() != tag {
            let weight = self.stored(&tensor.name);
            let (storage, scale) =
                (weight.map_or(String::new(), |s| s.storage.name().to_owned()), format!("{layer}.weight_scale"));
            let scale = self.stored(&scale).map(|s| s.shape.clone()).unwrap_or_default();
            self.shapes.error(format!("`{layer}` is said to be {tag}, and is {storage} with scales {scale:?}"));
        }
        if let (Format::Int8, Some(scale)) = (format, self.stored(&format!("{layer}.weight_scale")))
            && scale.shape.len() == 1
            && scale.shape != [1]
        {
            self.shapes.error(format!(
                "`{}` has the shape {:?}, which ComfyUI lays over columns: it should be [{}, 1]",
                scale.name, scale.shape, tensor.shape[0]
            ));
        }
        if is_table && !format.takes_embeddings() {
            self.modules.error(format!("`{layer}` is an embedding, which ComfyUI does not read in {tag}"));
        }
        if format.hides_shape(&tensor.shape) && detection::reads_shape(&tensor.name) {
            self.modules.error(format!(
                "`{layer}`: ComfyUI recognises the model by this weight's shape, which {tag} hides: it takes it for another"
            ));
        }
        if let Some(bias) = self.stored(&format!("{layer}.bias"))
            && bias.shape != [tensor.shape[0]]
        {
            self.shapes.error(format!("`{layer}.bias` {:?} does not fit {} rows", bias.shape, tensor.shape[0]));
        }
    }

    /// Arrays that belong to no quantized layer.
    fn strays(&mut self) {
        for stored in &self.opened.model.stored {
            if let Some((layer, _)) = beside(&stored.name)
                && !self.layers.contains_key(layer)
            {
                // With the weight undescribed, that is the fault, and it is told below.
                if !self.by_name.contains_key(&format!("{layer}.weight")) {
                    self.leftovers.warn(format!("`{}` belongs to no layer: an unexpected key on loading", stored.name));
                }
            }
            let Some(layer) = stored.name.strip_suffix(".weight") else { continue };
            let bytes = matches!(stored.storage, Storage::F8_E4M3 | Storage::F8_E5M2 | Storage::I8 | Storage::U8);
            if !bytes || self.layers.contains_key(layer) {
                continue;
            }
            let scaled = BESIDE.iter().find(|end| self.by_name.contains_key(&format!("{layer}.{end}")));
            match (scaled, stored.storage) {
                (Some(&"scale_weight"), _) if self.legacy => {}
                (Some(end), _) => self.leftovers.error(format!(
                    "`{}` has no description: ComfyUI takes its codes for values, and leaves out `{layer}.{end}`",
                    stored.name
                )),
                (None, Storage::F8_E4M3 | Storage::F8_E5M2) => self.leftovers.warn(format!(
                    "`{}` is {} without a scale: values are cast as they are",
                    stored.name,
                    stored.storage.name()
                )),
                (None, _) => self.leftovers.error(format!(
                    "`{}` is {} without a description: it has another shape, or means nothing",
                    stored.name,
                    stored.storage.name()
                )),
            }
        }
    }
}

/// Whether scales and codes are numbers.
fn numbers(opened: &Opened, tensors: &[Tensor], cancel: &Cancel) -> Result<Vec<Check>> {
    let mut found = Findings::new("numbers");
    for tensor in tensors {
        let Encoding::Packed { parts, .. } = &tensor.encoding else { continue };
        for part in parts {
            cancel.check()?;
            let stored = &opened.model.stored[part.array as usize];
            if !stored.storage.is_float() {
                continue;
            }
            let size = stored.storage.bytes().unwrap_or(1).max(1);
            let (mut at, mut bytes, mut values) = (0, Vec::new(), Vec::new());
            while at < stored.span.len {
                let len = CHUNK.min(stored.span.len - at);
                bytes.resize(len as usize, 0);
                values.resize((len / size) as usize, 0.0);
                opened.blobs[stored.span.file as usize].read_at(stored.span.offset + at, &mut bytes)?;
                cast::decode(stored.storage, &bytes, &mut values);
                if let Some(i) = values.iter().position(|v: &f32| !v.is_finite()) {
                    found.error(format!("`{}` has {} at {}", stored.name, values[i], at / size + i as u64));
                    break;
                }
                at += len;
            }
        }
    }
    Ok(found.close("scales and codes are numbers"))
}

/// The ComfyUI that the file needs.
fn needs(tensors: &[Tensor]) -> Check {
    let formats = tensors.iter().filter_map(|t| match &t.encoding {
        Encoding::Packed { recipe, .. } => Format::of(&recipe.dtype),
        Encoding::Plain(_) => None,
    });
    Check { name: "loads with", level: crate::target::check::Level::Ok, detail: loads_with(formats) }
}

/// Whether ComfyUI will know what the model is.
fn recognised(opened: &Opened) -> Vec<Check> {
    let model = &opened.model;
    let mut found = Findings::new("recognised");
    let Some(class) = &model.architecture else {
        found.warn("no model that mixdown knows has such tensors; ComfyUI may know it");
        return found.close("");
    };
    let diffusers = ["Transformer2DModel", "Transformer3DModel", "UNet2DConditionModel"];
    if diffusers.iter().any(|end| class.ends_with(end)) && !class.starts_with("QwenImage") {
        found.error(format!(
            "tensors are called as diffusers calls them ({class}): ComfyUI renames those of plain floats only; convert \
             without --keep-names"
        ));
    }
    if class.starts_with("CLIP") {
        found.error("ComfyUI does not read quantized CLIP text encoders");
    }
    found.close(class.clone())
}
