//! Recognising quantized layers among a model's arrays: by the tensors and the header that ComfyUI reads, and by what
//! older files have in their place.
use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::codec::ComfyCodec;
use super::describe::{HEADER, SUFFIX};
use super::format::Format;
use crate::core::model::{Encoding, Placed, Stored, Tensor};
use crate::core::name::natural;
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::{Error, Result, Storage};
use crate::format::Opened;
use crate::target::metadata;

/// A description longer than this is something else.
const MAX_BYTES: u64 = 1 << 16;
/// The marker of files that were made before there were descriptions.
const LEGACY: &str = "scaled_fp8";

/// What is said of how a layer is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// The format's name; none where it must be told from the arrays.
    pub format: Option<String>,
    /// Values that share a scale.
    pub group_size: Option<i64>,
    /// Whether it says that the weight is rotated.
    pub rotated: bool,
    /// Values that a rotation mixes, where that is said.
    pub rotation: Option<u32>,
    /// The layer's shape, where it was written down.
    pub shape: Option<Vec<u64>>,
}

impl Said {
    /// Reads a description.
    ///
    /// # Errors
    /// If it is no JSON object.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|e| Error::failed(format!("its description is not JSON: {e}")).because(e))?;
        Self::of(&value)
    }

    fn of(value: &Value) -> Result<Self> {
        let map = value.as_object().ok_or_else(|| Error::failed("its description is not a JSON object"))?;
        // Some tools put what belongs to the object one level below.
        let get = |key: &str| map.get(key).or_else(|| map.get("params")?.get(key));
        let number = |key: &str| get(key).and_then(Value::as_u64);
        let sizes = |v: &Value| v.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>();
        Ok(Self {
            format: get("format").and_then(Value::as_str).map(str::to_owned),
            group_size: number("group_size").and_then(|n| i64::try_from(n).ok()),
            rotated: get("convrot").and_then(Value::as_bool).unwrap_or(false),
            rotation: number("convrot_groupsize").and_then(|n| u32::try_from(n).ok()),
            shape: get("orig_shape").and_then(sizes),
        })
    }
}

/// The arrays of a model by name.
pub type ByName = HashMap<String, u32>;

/// What is said of every layer: by its name, without what names of tensors end in.
pub fn said(opened: &Opened) -> Result<Vec<(String, Said)>> {
    let mut found: Vec<(String, Said)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let model = &opened.model;
    for stored in model.stored.iter().filter(|s| is_description(s)) {
        let layer = stored.name.strip_suffix(SUFFIX).unwrap_or_default();
        let mut bytes = vec![0; stored.span.len as usize];
        opened.blobs[stored.span.file as usize].read_at(stored.span.offset, &mut bytes)?;
        places.insert(layer.to_owned(), found.len());
        found.push((layer.to_owned(), Said::parse(&bytes).map_err(|e| e.at(format!("`{}`", stored.name)))?));
    }
    let names: HashSet<&str> = model.stored.iter().map(|s| s.name.as_str()).collect();
    let has = |name: &str| names.contains(name);
    for text in model.files.iter().flat_map(|f| &f.metadata).filter(|(k, _)| k == HEADER).map(|(_, text)| text) {
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Error::failed(format!("`{HEADER}` in the header is not JSON: {e}")).because(e))?;
        for (layer, value) in value.get("layers").and_then(Value::as_object).into_iter().flatten() {
            let said = Said::of(value).map_err(|e| e.at(format!("`{HEADER}`: `{layer}`")))?;
            // Names may lack the prefix that the file's own have.
            let known = std::iter::once(String::new()).chain(super::PREFIXES.map(str::to_owned));
            let mut names = known.map(|prefix| format!("{prefix}{layer}"));
            let Some(layer) = names.find(|n| has(&format!("{n}.weight"))) else { continue };
            match places.get(&layer).and_then(|i| found.get_mut(*i)) {
                Some((_, old)) => *old = said,
                None => {
                    places.insert(layer.clone(), found.len());
                    found.push((layer, said));
                }
            }
        }
    }
    let legacy = names.iter().any(|name| is_legacy(name));
    if found.is_empty() {
        // A weight of bytes beside a scale is quantized, whoever forgot to say so.
        for weight in
            model.stored.iter().filter(|s| matches!(s.storage, Storage::F8_E4M3 | Storage::F8_E5M2 | Storage::I8))
        {
            let Some(layer) = weight.name.strip_suffix(".weight") else { continue };
            let scales = if legacy { &["scale_weight"][..] } else { &["weight_scale", "scale_weight"] };
            if scales.iter().any(|s| has(&format!("{layer}.{s}"))) {
                found.push((layer.to_owned(), Said::default()));
            }
        }
    }
    Ok(found)
}

/// Whether an array marks a file of the old form, whatever its names begin with.
pub fn is_legacy(name: &str) -> bool {
    super::without_prefix(name) == LEGACY
}

/// Whether an array has the form of a description.
pub fn is_description(stored: &Stored) -> bool {
    stored.name.ends_with(SUFFIX)
        && matches!(stored.storage, Storage::U8 | Storage::I8)
        && stored.shape.len() == 1
        && stored.span.len <= MAX_BYTES
}

/// Turns the arrays of each quantized layer into the tensor they came from.
pub fn recognise(opened: &mut Opened) -> Result<()> {
    let bytes = |s: &Stored| matches!(s.storage, Storage::U8 | Storage::I8 | Storage::F8_E4M3 | Storage::F8_E5M2);
    if opened.model.format != "safetensors" || !opened.model.stored.iter().any(bytes) {
        return Ok(());
    }
    let said = match said(opened) {
        Ok(said) if said.is_empty() => return Ok(()),
        Ok(said) => said,
        Err(e) => {
            opened.model_mut().foreign = Some(e.to_string());
            return Ok(());
        }
    };
    let ours = metadata::find(opened)?;
    let model = opened.model_mut();
    let mut by_name: ByName = model.stored.iter().enumerate().map(|(i, s)| (s.name.clone(), i as u32)).collect();
    let mut tensors = Vec::new();
    for (layer, said) in &said {
        let mut said = said.clone();
        let (mut storage, described) = (Storage::BF16, ours.get(layer));
        if let Some(facts) = described {
            said.shape = facts.original_shape.clone().or(said.shape);
            let name = facts.original_dtype.as_deref();
            storage = name.and_then(<Storage as crate::core::dtype::StorageExt>::parse).unwrap_or(storage);
        }
        let named = |n: &str| by_name.get(n).and_then(|i| model.stored.get(*i as usize));
        match packed(layer, &said, &by_name, &model.stored) {
            Ok((mut tensor, used)) => {
                // Of what says nothing of it, the type of its bias is the likeliest.
                if described.is_none() {
                    let bias =
                        named(&format!("{layer}.bias")).map(|s| s.storage).filter(|s| super::super::castable(*s) == *s);
                    storage = bias.unwrap_or(storage);
                }
                tensor.storage = storage;
                tensors.push(tensor);
                for name in used {
                    by_name.remove(&name);
                }
            }
            Err(e) => {
                // It can still be looked at; its codes must not be taken for weights.
                model.foreign = Some(format!("layer `{layer}` is not what its description says: {e}"));
                return Ok(());
            }
        }
        by_name.remove(&metadata::tensor_name(layer));
    }
    // What was there for quantized layers alone means nothing without them.
    for stored in &model.stored {
        let of_scales = ["scale_input", "scale_weight", "input_scale"];
        let ends = |end: &&str| stored.name.strip_suffix(*end).is_some_and(|before| before.ends_with('.'));
        if is_legacy(&stored.name) || (stored.shape.iter().product::<u64>() <= 2 && of_scales.iter().any(ends)) {
            by_name.remove(&stored.name);
        }
    }
    model.format = "comfy".into();
    model.tensors.retain(|t| by_name.contains_key(&t.name));
    model.tensors.append(&mut tensors);
    model.tensors.sort_by(|a, b| natural(&a.name, &b.name));
    if let Some(pair) = model.tensors.windows(2).find(|w| w[0].name == w[1].name) {
        return Err(Error::failed(format!("{}: tensor `{}` is described twice", model.label, pair[0].name)));
    }
    Ok(())
}

/// The tensor of a layer, and the names of its arrays.
///
/// # Errors
/// If an array is missing, or its type or shape is not what the format wants; the message names it.
pub fn packed(layer: &str, said: &Said, by_name: &ByName, stored: &[Stored]) -> Result<(Tensor, Vec<String>)> {
    let find = |suffix: &str| {
        let name = format!("{layer}.{suffix}");
        by_name.get(&name).and_then(|i| Some((*i, stored.get(*i as usize)?)))
    };
    let need = |suffix: &str| find(suffix).ok_or_else(|| Error::failed(format!("`{layer}.{suffix}` is missing")));
    let (_, weight) = need("weight")?;
    let (format, recipe, shape) = resolve(layer, said, weight, &find)?;
    let name = format!("{layer}.weight");
    let mut used = vec![format!("{layer}{SUFFIX}")];
    let mut parts = Vec::new();
    let mut bytes = 0;
    for part in format.parts(&name, &shape, &recipe) {
        let suffix = part.name.get(layer.len() + 1..).unwrap_or_default();
        let old = if suffix == "weight_scale" { "scale_weight" } else { suffix };
        let (array, there) = find(suffix)
            .or_else(|| find(old))
            .ok_or_else(|| Error::failed(format!("`{layer}.{suffix}` is missing, which {} needs", format.name())))?;
        let free = suffix == "weight_scale" && !matches!(format, Format::Nvfp4 | Format::Mxfp8 | Format::Awq);
        check(&part, there, free.then_some(&recipe), &shape)?;
        used.push(there.name.clone());
        bytes += there.span.len;
        parts.push(Placed {
            array,
            storage: if is_same(part.storage, there.storage) { there.storage } else { part.storage },
            transposed: false,
        });
    }
    for more in ["input_scale", "scale_input", "weight_scalar", "pre_quant_scale"] {
        used.extend(find(more).map(|(_, s)| s.name.clone()));
    }
    if find("pre_quant_scale").is_some() {
        return Err(Error::failed(format!(
            "`{layer}.pre_quant_scale` scales activations, which is not undone by reading"
        )));
    }
    // What the codec would not take later is told now, by its layer's name.
    ComfyCodec::new(format, &shape, &recipe).map_err(|e| e.at(format!("`{name}`")))?;
    let tensor = Tensor {
        name,
        shape,
        storage: Storage::BF16,
        bytes,
        encoding: Encoding::Packed { recipe, parts },
        merged: false,
    };
    Ok((tensor, used))
}

/// Whether bytes of one type may stand for those of the other.
fn is_same(wanted: Storage, there: Storage) -> bool {
    let byte = |s| matches!(s, Storage::U8 | Storage::I8 | Storage::F8_E4M3 | Storage::F8_E8M0);
    wanted == there || (byte(wanted) && byte(there))
}

/// Whether an array can be a part. Of a scale whose shape is free, only the number of elements counts.
fn check(part: &crate::core::plan::Part, there: &Stored, free: Option<&Recipe>, shape: &[u64]) -> Result<()> {
    let is_float = |s: Storage| matches!(s, Storage::F32 | Storage::F16 | Storage::BF16 | Storage::F64);
    let fits = is_same(part.storage, there.storage) || (is_float(part.storage) && is_float(there.storage));
    if !fits {
        return Err(Error::failed(format!("`{}` is {:?}, not {:?}", there.name, there.storage, part.storage)));
    }
    let count = |s: &[u64]| s.iter().product::<u64>();
    let fits = match free {
        Some(recipe) => count(&there.shape) == scales(recipe, shape),
        None => part.shape == there.shape || (count(&part.shape) == 1 && count(&there.shape) == 1),
    };
    if !fits {
        return Err(Error::failed(format!("`{}` has the shape {:?}, not {:?}", there.name, there.shape, part.shape)));
    }
    Ok(())
}

/// Scales of a layer whose recipe says how many values share one.
fn scales(recipe: &Recipe, shape: &[u64]) -> u64 {
    let (rows, cols) = (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<u64>());
    match recipe.group_size {
        group_size::TENSOR => 1,
        group_size::ROW => rows,
        n if n > 0 && recipe.axis == 0 => (rows / n as u64) * (cols / n as u64),
        n if n > 0 => rows * (cols / n as u64),
        _ => 0,
    }
}

/// Format, recipe and shape, from what is said and what is there.
fn resolve<'a>(
    layer: &str,
    said: &Said,
    weight: &Stored,
    find: &impl Fn(&str) -> Option<(u32, &'a Stored)>,
) -> Result<(Format, Recipe, Vec<u64>)> {
    let fails = |what: String| Err(Error::failed(format!("`{}`: {what}", weight.name)));
    let &[rows, stored_cols] = weight.shape.as_slice() else {
        return fails(format!("the shape {:?} is not that of a matrix", weight.shape));
    };
    let tag = match (&said.format, weight.storage) {
        (Some(tag), _) => tag.as_str(),
        (None, Storage::F8_E4M3) => "float8_e4m3fn",
        (None, Storage::F8_E5M2) => "float8_e5m2",
        (None, Storage::I8) => "int8_tensorwise",
        (None, other) => return fails(format!("its description has no `format`, and {other:?} does not tell it")),
    };
    if rows == 0 || stored_cols == 0 {
        return fails(format!("the shape {:?} is that of nothing", weight.shape));
    }
    let rotation = said.rotation.unwrap_or(super::format::ROTATION);
    let recipe = |format: Format, group: i64| Recipe {
        hadamard: match format.rotation() {
            Some(always) if always || said.rotated => rotation,
            _ => 0,
        },
        ..Recipe::plain(Family::Comfy, format.dtype(), group)
    };
    let shape = |cols: u64| vec![rows, cols];
    // The layer's own shape, where the stored one is padded and something tells.
    let unpadded = |format: Format, cols: u64| {
        let bias = find("bias").map(|(_, s)| s.shape.as_slice());
        let own = said.shape.clone().or_else(|| match bias {
            Some(&[n]) => Some(vec![n, cols]),
            _ => None,
        });
        let is_own =
            |s: &Vec<u64>| matches!(s[..], [r, c] if r <= rows && c <= cols && format.padded(r, c) == (rows, cols));
        own.filter(is_own).unwrap_or_else(|| shape(cols))
    };
    let group = said.group_size;
    Ok(match tag {
        "nvfp4" => {
            let shape = unpadded(Format::Nvfp4, stored_cols.saturating_mul(2));
            (Format::Nvfp4, recipe(Format::Nvfp4, 16), shape)
        }
        "mxfp8" | "hybrid_mxfp8" => {
            let shape = unpadded(Format::Mxfp8, stored_cols);
            (Format::Mxfp8, recipe(Format::Mxfp8, 32), shape)
        }
        "convrot_w4a4" => (Format::W4a4, recipe(Format::W4a4, group_size::ROW), shape(stored_cols.saturating_mul(2))),
        "asym_w4a8_int8" => {
            let size = group.unwrap_or(16);
            let scales = find("weight_s_rel").map_or(0, |(_, s)| s.shape.get(1).copied().unwrap_or(0));
            let cols = scales.saturating_mul(size.max(0) as u64);
            let format = match (stored_cols.saturating_mul(8).checked_div(cols), find("weight_codebook")) {
                (Some(6), _) => Format::W6a8,
                (Some(4), Some(_)) => Format::W4a8,
                (Some(4), None) => Format::W4a8Uniform,
                _ => return fails(format!("rows of {stored_cols} bytes for {scales} groups of {size}")),
            };
            (format, recipe(format, size), shape(cols))
        }
        "awq_w4a16" => (Format::Awq, recipe(Format::Awq, group.unwrap_or(64)), shape(stored_cols.saturating_mul(2))),
        "float8_e4m3fn"
        | "float8_e5m2"
        | "int8_tensorwise"
        | "float8_e4m3fn_rowwise"
        | "float8_e4m3fn_blockwise"
        | "float8_e4m3fn_block3d"
        | "int8_blockwise" => {
            let (_, scale) = find("weight_scale")
                .or_else(|| find("scale_weight"))
                .ok_or_else(|| Error::failed(format!("`{layer}.weight_scale` is missing, which {tag} needs")))?;
            let (size, axis) = block(&scale.shape, rows, stored_cols)
                .ok_or_else(|| Error::failed(format!("`{}` has the shape {:?}", scale.name, scale.shape)))?;
            let is_int = tag.starts_with("int8");
            // What is rotated has a scale for each row; of a single row the shape does not tell.
            let size = if is_int && said.rotated && rows == 1 { group_size::ROW } else { size };
            let format = match (weight.storage, size) {
                (Storage::F8_E5M2, group_size::TENSOR) => Format::E5m2,
                (Storage::F8_E4M3, group_size::TENSOR) => Format::E4m3,
                (Storage::F8_E4M3, _) => Format::E4m3Blocks,
                (Storage::I8, group_size::TENSOR | group_size::ROW) if is_int => Format::Int8,
                (Storage::I8, _) if is_int => Format::Int8Blocks,
                (other, _) => return fails(format!("{other:?} is not what {tag} is stored as")),
            };
            (format, Recipe { axis, ..recipe(format, size) }, shape(stored_cols))
        }
        other => return fails(format!("the format `{other}` is not known")),
    })
}

/// How values share scales of that shape, as group size and axis: 0 for square blocks.
fn block(scale: &[u64], rows: u64, cols: u64) -> Option<(i64, u8)> {
    let divides = |n: u64, of: u64| n > 0 && of.is_multiple_of(n);
    match *scale {
        [] | [1] | [1, 1] => Some((group_size::TENSOR, 1)),
        [n] | [n, 1] if n == rows => Some((group_size::ROW, 1)),
        [r, c, 1] | [r, c] if r == rows && divides(c, cols) => Some(((cols / c) as i64, 1)),
        [r, c] if divides(r, rows) && divides(c, cols) && rows / r == cols / c => Some(((rows / r) as i64, 0)),
        _ => None,
    }
}
