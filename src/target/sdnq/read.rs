//! Recognising SDNQ layers among a model's arrays: by what mixdown's own files say of themselves, and by the config
//! that every SDNQ model has beside its weights.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::code::Code;
use super::loader::{self, Config};
use super::recover::{Around, Arrays, BESIDE, recover};
use super::resolve::parts;
use crate::core::dtype::StorageExt;
use crate::core::model::{Encoding, Model, Origin, Placed, Stored, Tensor};
use crate::core::name::{self, natural};
use crate::core::plan::Part;
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::{Dtype, Error, Result, Storage};
use crate::format::Opened;
use crate::target::metadata::{self, Settings};

/// Turns the arrays of each quantized layer into the tensor they came from; descriptions themselves are no tensors.
pub fn recognise(opened: &mut Opened) -> Result<()> {
    let descriptions = metadata::find(opened)?;
    let model = Arc::make_mut(&mut opened.model);
    let config = loader::of(model).cloned();
    if descriptions.is_empty() && config.is_none() {
        return Ok(());
    }
    let mut by_name: HashMap<String, u32> =
        model.stored.iter().enumerate().map(|(i, s)| (s.name.clone(), i as u32)).collect();
    let mut tensors = Vec::new();
    for (layer, settings) in &descriptions {
        if settings.target.as_deref() != Some("sdnq") {
            continue;
        }
        match packed(layer, settings, &mut by_name, &model.stored) {
            Ok(tensor) => tensors.push(tensor),
            Err(e) => {
                // It can still be looked at; its codes must not be taken for weights.
                model.foreign = Some(format!("layer `{layer}` is not what its metadata says: {e}"));
                return Ok(());
            }
        }
        // Its description is no tensor of the model; one that is not of our making stays.
        let key = metadata::tensor_name(layer);
        if by_name.get(&key).is_some_and(|i| metadata::is_description(&model.stored[*i as usize])) {
            by_name.remove(&key);
        }
    }
    if let Some(config) = &config
        && let Err(why) = configured(model, config, &mut by_name, &mut tensors)
    {
        model.foreign = Some(why.to_string());
        return Ok(());
    }
    if tensors.is_empty() && config.is_none() {
        return Ok(());
    }
    model.format = "sdnq".into();
    model.tensors.retain(|t| by_name.contains_key(&t.name));
    model.tensors.append(&mut tensors);
    model.tensors.sort_by(|a, b| natural(&a.name, &b.name));
    if let Some(pair) = model.tensors.windows(2).find(|w| w[0].name == w[1].name) {
        return Err(Error::failed(format!("{}: tensor `{}` is described twice", model.label, pair[0].name)));
    }
    // The quantization is undone by reading; a config that still speaks of it would be wrong of what is written.
    if let Some(Value::Object(config)) = &mut model.config {
        config.shift_remove("quantization_config");
    }
    model.quantization = None;
    let beside = match &model.origin {
        Origin::Component { name } => Path::new(name).join("quantization_config.json"),
        _ => PathBuf::from("quantization_config.json"),
    };
    opened.companions.retain(|c| c.relative != beside);
    Ok(())
}

/// The layers that are left, by the config; their arrays are taken out of `by_name`.
fn configured(
    model: &mut Model,
    config: &Value,
    by_name: &mut HashMap<String, u32>,
    tensors: &mut Vec<Tensor>,
) -> Result<()> {
    let config = Config::parse(config).map_err(|e| e.at("its quantization_config"))?;
    let around = Around { config: &config, dtype: dtype_of(model) };
    let mut flattened = Vec::new();
    for weight in &model.stored {
        let is_plain = matches!(weight.storage, Storage::F64 | Storage::F32 | Storage::F16 | Storage::BF16);
        if is_plain || !weight.name.ends_with(".weight") || !by_name.contains_key(&weight.name) {
            continue;
        }
        let layer = name::layer(&weight.name);
        let fails = |e: Error| e.at(format!("layer `{layer}`"));
        let said = config.kwargs(&weight.name).map_err(fails)?;
        let arrays = Arrays::new(&weight.name, &model.stored, by_name);
        let is_coded = said.code().is_ok_and(|code| holds_codes(code, weight.storage)) && config.converts(&weight.name);
        if arrays.get("scale").is_none() && !is_coded {
            continue;
        }
        let found = recover(&arrays, &said, around, None).map_err(fails)?;
        if found.flattened {
            flattened.push(weight.name.clone());
        }
        let bytes = found.parts.iter().map(|p| model.stored[p.array as usize].span.len).sum();
        by_name.remove(&weight.name);
        for last in BESIDE.into_iter().chain(["scale"]) {
            by_name.remove(&format!("{layer}.{last}"));
        }
        tensors.push(Tensor {
            name: weight.name.clone(),
            shape: found.shape,
            storage: found.storage,
            bytes,
            encoding: Encoding::Packed { recipe: found.recipe, parts: found.parts },
            merged: false,
        });
    }
    if let [first, rest @ ..] = flattened.as_slice() {
        model.warnings.push(format!(
            "`{first}` and {} others are convolutions that were made matrices for their products: nothing says how \
             large their kernels are, so they stay matrices",
            rest.len()
        ));
    }
    Ok(())
}

/// Whether codes of a dtype are stored in that type.
pub fn holds_codes(code: Code, storage: Storage) -> bool {
    // The library keeps a byte of 1-bit codes in each integer of 64.
    storage == code.storage() || (code.bits(), storage) == (1, Storage::I64)
}

/// The type that a model's config says its weights have.
pub fn dtype_of(model: &Model) -> Option<Storage> {
    let config = model.config.as_ref()?;
    let said = config.get("dtype").or_else(|| config.get("torch_dtype"))?.as_str()?;
    match said.trim_start_matches("torch.") {
        "float32" => Some(Storage::F32),
        "float16" => Some(Storage::F16),
        "bfloat16" => Some(Storage::BF16),
        _ => None,
    }
}

/// The tensor whose description is `settings`, its arrays taken out of `by_name`.
pub fn packed(
    layer: &str,
    settings: &Settings,
    by_name: &mut std::collections::HashMap<String, u32>,
    stored: &[Stored],
) -> Result<Tensor> {
    let need = |what: &str| Error::failed(format!("its metadata lacks `{what}`"));
    let dtype = settings.weights_dtype.as_deref().ok_or_else(|| need("weights_dtype"))?;
    let code = Code::parse(dtype).ok_or_else(|| Error::failed(format!("its dtype `{dtype}` is not known")))?;
    let shape = settings.original_shape.clone().ok_or_else(|| need("original_shape"))?;
    let storage = settings.original_dtype.as_deref().ok_or_else(|| need("original_dtype"))?;
    let storage = <Storage as StorageExt>::parse(storage)
        .filter(|s| s.is_float())
        .ok_or_else(|| Error::failed(format!("its original_dtype `{storage}` is not a float type")))?;
    let recipe = Recipe {
        family: Family::Sdnq,
        dtype: Dtype::new(&code.name()),
        group_size: settings.group_size.ok_or_else(|| need("group_size"))?,
        svd_rank: settings.svd_rank.unwrap_or(0),
        svd_steps: settings.svd_steps.unwrap_or(super::SVD_STEPS),
        hadamard: settings.hadamard_group_size.unwrap_or(0),
        codebook: settings.use_codebook.unwrap_or(false),
        axis: settings.axis.unwrap_or(1),
        scale_search: Default::default(),
        importance: None,
        kernel: None,
    };
    let name = format!("{layer}.weight");
    // Everything that follows multiplies these.
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(|n| *n > 0);
    let Some(elements) = elements.filter(|_| (2..=5).contains(&shape.len())) else {
        return Err(Error::failed(format!("its original_shape {shape:?} is not that of a layer")));
    };
    let (size, axis) = (recipe.group_size, usize::from(recipe.axis));
    let divides = axis <= 1 && (size <= 0 || shape[axis] % size as u64 == 0);
    if code.packed_shape(elements).is_none() || size < group_size::TENSOR || size == group_size::AUTO || !divides {
        return Err(Error::failed(format!("group size {size} and {dtype} do not fit its shape {shape:?}")));
    }
    if recipe.codebook && !code.takes_codebook() {
        return Err(Error::failed(format!("{dtype} takes no codebook")));
    }
    let expected: Vec<Part> = parts(&name, &shape, code, &recipe, super::factor_storage(storage));
    let mut indexes = Vec::new();
    let mut bytes = 0;
    for part in &expected {
        let i =
            by_name.remove(&part.name).ok_or_else(|| Error::failed(format!("tensor `{}` is missing", part.name)))?;
        let found = &stored[i as usize];
        if (found.storage, &found.shape) != (part.storage, &part.shape) {
            return Err(Error::failed(format!(
                "tensor `{}` is {} {:?}, expected {} {:?}",
                part.name,
                found.storage.name(),
                found.shape,
                part.storage.name(),
                part.shape
            )));
        }
        bytes += found.span.len;
        indexes.push(Placed { array: i, storage: part.storage, transposed: false });
    }
    Ok(Tensor { name, shape, storage, bytes, encoding: Encoding::Packed { recipe, parts: indexes }, merged: false })
}
