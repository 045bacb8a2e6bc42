//! Recognising SDNQ layers among a model's arrays, by what mixdown's own files say of themselves.
use crate::core::dtype::StorageExt;
use std::path::{Path, PathBuf};

use crate::core::model::{Encoding, Origin, Stored, Tensor};
use crate::core::name::natural;
use crate::core::plan::Part;
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::{Dtype, Error, Result, Storage};
use crate::format::Opened;
use crate::target::metadata::{self, Settings};

use super::code::Code;
use super::resolve::parts;

/// Turns the arrays of each described layer into the tensor they came from; descriptions themselves are no tensors.
pub fn recognise(opened: &mut Opened) -> Result<()> {
    let descriptions = metadata::find(opened)?;
    if descriptions.is_empty() {
        return Ok(());
    }
    let model = &mut opened.model;
    let mut by_name: std::collections::HashMap<String, u32> =
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
    if tensors.is_empty() {
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
    if let Some(serde_json::Value::Object(config)) = &mut model.config {
        config.shift_remove("quantization_config");
    }
    let beside = match &model.origin {
        Origin::Component { name } => Path::new(name).join("quantization_config.json"),
        _ => PathBuf::from("quantization_config.json"),
    };
    opened.companions.retain(|c| c.relative != beside);
    Ok(())
}

fn packed(
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
        dtype: Dtype::new(&code.name()),
        group_size: settings.group_size.ok_or_else(|| need("group_size"))?,
        svd_rank: settings.svd_rank.unwrap_or(0),
        svd_steps: settings.svd_steps.unwrap_or(super::SVD_STEPS),
        hadamard: settings.hadamard_group_size.unwrap_or(0),
        codebook: settings.use_codebook.unwrap_or(false),
        axis: settings.axis.unwrap_or(1),
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
        indexes.push(i);
    }
    Ok(Tensor {
        name,
        shape,
        storage,
        bytes,
        encoding: Encoding::Packed { family: Family::Sdnq, recipe, parts: indexes },
    })
}
