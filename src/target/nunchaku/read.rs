//! Recognising Nunchaku's layers among a model's arrays. Fused layers become those of diffusers again, and biases lose
//! what kernels want of them.
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::codec::SvdqCodec;
use super::layers::{self, Columns, Layer, Way, Words};
use super::parts::{Precision, Role, roles, word};
use crate::core::dtype::StorageExt;
use crate::core::model::{Encoding, Model, Placed, Stored, Tensor};
use crate::core::name::{self, natural};
use crate::core::recipe::{Kernel, Recipe, Window};
use crate::core::{Dtype, Error, Family, Loss, Result, Storage};
use crate::format::Opened;
use crate::quant::four::bf16;
use crate::target::check::Level;

/// The dtype of a bias that a kernel wants otherwise than the model has it.
pub const BIAS: &str = "bias";

/// The arrays of a layer, as they are found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The layer's name in the file.
    pub name: String,
    /// How it is kept.
    pub precision: Precision,
    /// What its arrays are called.
    pub words: Words,
    /// Rows and columns.
    pub shape: [u64; 2],
    /// Rank of its branch.
    pub rank: u64,
    /// Which of the arrays that need not be there are.
    pub kernel: Kernel,
    /// The arrays, by what they hold.
    pub arrays: Vec<(Role, u32)>,
}

impl Found {
    /// The array that holds something.
    pub fn array(&self, role: Role) -> Option<u32> {
        self.arrays.iter().find(|(r, _)| *r == role).map(|(_, array)| *array)
    }

    fn recipe(&self, dtype: &str, kernel: Kernel) -> Recipe {
        Recipe {
            svd_rank: u32::try_from(self.rank).unwrap_or(0),
            kernel: Some(Arc::new(kernel)),
            ..Recipe::plain(Family::Nunchaku, Dtype::new(dtype), self.precision.group() as i64)
        }
    }

    fn placed(&self, stored: &[Stored], kernel: &Kernel) -> Option<Vec<Placed>> {
        let place = |role: &Role| {
            let array = self.array(*role)?;
            Some(Placed { array, storage: stored.get(array as usize)?.storage, transposed: false })
        };
        roles(self.precision, kernel).iter().map(place).collect()
    }
}

/// Every layer of a file, in its order.
pub fn found(model: &Model) -> Result<Vec<Found>> {
    let by_name: HashMap<&str, u32> =
        model.stored.iter().enumerate().map(|(i, s)| (s.name.as_str(), i as u32)).collect();
    let codes = model.stored.iter().filter_map(|s| Some((s, s.name.strip_suffix(".qweight")?)));
    let mut all = Vec::new();
    for (codes, layer) in codes {
        let get = |word: &str| by_name.get(format!("{layer}.{word}").as_str()).copied();
        if get("wscales").is_some() && matches!(codes.storage, Storage::I8 | Storage::I32) {
            all.push(of(model, layer, codes, &get).map_err(|e| e.at(format!("layer `{layer}`")))?);
        }
    }
    Ok(all)
}

fn of(model: &Model, layer: &str, codes: &Stored, get: &dyn Fn(&str) -> Option<u32>) -> Result<Found> {
    let stored = |array: u32| model.stored.get(array as usize);
    let words = if get("lora_down").is_some() { Words::Classic } else { Words::Second };
    let &[height, width] = codes.shape.as_slice() else {
        return Err(Error::failed(format!("its codes have shape {:?}, not that of a matrix", codes.shape)));
    };
    let scales = get("wscales").and_then(stored).map(|s| s.storage);
    let (precision, factor) = match (codes.storage, scales) {
        (Storage::I32, _) => (Precision::Awq, 4),
        (_, Some(Storage::F8_E4M3)) => (Precision::Nvfp4, 1),
        _ => (Precision::Int4, 1),
    };
    let too_large = || Error::failed(format!("its codes have shape {:?}", codes.shape));
    let rows = height.checked_mul(factor).ok_or_else(too_large)?;
    let cols = width.checked_mul(2).ok_or_else(too_large)?;
    let mut kernel = Kernel {
        bias: get("bias").is_some(),
        tensor_scale: get("wtscale").is_some(),
        row_scales: get("wcscales").is_some(),
        ..Kernel::default()
    };
    kernel.twice = get(word(Role::SmoothOrig, words)).is_some();
    let mut arrays = Vec::new();
    for role in roles(precision, &kernel) {
        let called = word(role, words);
        let array = get(called).ok_or_else(|| Error::failed(format!("has no `{called}`")))?;
        let Some(found) = stored(array) else { continue };
        let is_right = match role {
            Role::Codes => true,
            Role::Scales => precision == Precision::Nvfp4 || found.storage == Storage::BF16,
            _ => found.storage == Storage::BF16,
        };
        if !is_right {
            return Err(Error::failed(format!("`{called}` is {}, and mixdown reads BF16 there", found.storage.name())));
        }
        arrays.push((role, array));
    }
    let down = arrays.iter().find(|(role, _)| *role == Role::Down).and_then(|(_, array)| stored(*array));
    let rank = down.and_then(|s| s.shape.get(1)).copied().unwrap_or(0);
    let found =
        Found { name: layer.to_owned(), precision, words, shape: [rows, cols], rank, kernel: kernel.clone(), arrays };
    // Every array has the elements that its codec will ask for.
    let recipe = found.recipe(precision.name(), kernel);
    let parts = super::parts::parts(&format!("{layer}.weight"), found.shape, &recipe, precision, words);
    for (part, (_, array)) in parts.iter().zip(&found.arrays) {
        let Some(array) = stored(*array) else { continue };
        if array.shape.iter().product::<u64>() != part.shape.iter().product::<u64>() {
            return Err(Error::failed(format!(
                "`{}` has shape {:?}, and {:?} was expected",
                array.name, array.shape, part.shape
            )));
        }
    }
    match precision {
        Precision::Awq => drop(super::awq::AwqCodec::new(&found.shape, &recipe)?),
        _ => drop(SvdqCodec::new(precision, &found.shape, &recipe)?),
    }
    Ok(found)
}

/// Whether a folder says that diffusers' general loader made it.
fn is_lite(model: &Model) -> bool {
    let method = model.config.as_ref().and_then(|c| c.get("quantization_config")?.get("quant_method")?.as_str());
    method == Some("nunchaku_lite")
}

/// Turns the arrays of each quantized layer into the tensors they came from.
pub fn recognise(opened: &mut Opened) -> Result<()> {
    let is_code = |s: &Stored| matches!(s.storage, Storage::I8 | Storage::I32) && s.name.ends_with(".qweight");
    if opened.model.format != "safetensors" || !opened.model.stored.iter().any(is_code) {
        return Ok(());
    }
    let model = Arc::make_mut(&mut opened.model);
    let layers = match found(model) {
        Ok(layers) if layers.is_empty() => return Ok(()),
        Ok(layers) => layers,
        Err(why) => {
            model.foreign = Some(why.to_string());
            return Ok(());
        }
    };
    let header = |key: &str| model.files.iter().flat_map(|f| &f.metadata).find(|(k, _)| k == key).map(|(_, v)| v);
    let config: Option<Value> = header("config").and_then(|text| serde_json::from_str(text).ok());
    if model.config.is_none() {
        model.config = config;
    }
    let class = model.config.as_ref().and_then(|c| c.get("_class_name")?.as_str());
    let family = if is_lite(model) { None } else { class.and_then(layers::family) };
    let mut taken: Vec<u32> = layers.iter().flat_map(|l| l.arrays.iter().map(|(_, array)| *array)).collect();
    taken.sort_unstable();
    let mut tensors = Vec::new();
    let mut halves: HashMap<String, (&Found, &Layer)> = HashMap::new();
    for layer in &layers {
        let Some((block, known)) = family.and_then(|f| f.find(&layer.name)) else {
            tensors.extend(whole(layer, &layer.name, Way::Svdq, &model.stored));
            continue;
        };
        match known.columns {
            Columns::All => tensors.extend(split(layer, block, known, &model.stored)),
            _ => {
                let Some((other, their)) = halves.remove(block) else {
                    halves.insert(block.to_owned(), (layer, known));
                    continue;
                };
                let (first, rest) = match their.columns {
                    Columns::First => (other, layer),
                    _ => (layer, other),
                };
                tensors.extend(joined(first, rest, block, known, &model.stored));
            }
        }
    }
    tensors.extend(halves.into_values().flat_map(|(layer, _)| whole(layer, &layer.name, Way::Svdq, &model.stored)));
    model.format = "nunchaku".into();
    model.tensors.retain(|t| t.sole_array().is_none_or(|array| taken.binary_search(&array).is_err()));
    if let Some(family) = family {
        plain(model, family);
    }
    for tensor in &mut model.tensors {
        if let Some(name) = family.and_then(|f| f.rename(&tensor.name, true)) {
            tensor.name = name;
        }
    }
    model.tensors.append(&mut tensors);
    model.tensors.sort_by(|a, b| natural(&a.name, &b.name));
    if let Some(pair) = model.tensors.windows(2).find(|w| w[0].name == w[1].name) {
        let twice = name::clean(&pair[0].name);
        return Err(Error::failed(format!("{}: tensor `{twice}` is there twice", model.label)));
    }
    // The quantization is undone by reading; a config that still speaks of it would be wrong of what is written.
    if let Some(Value::Object(config)) = &mut model.config {
        config.shift_remove("quantization_config");
    }
    model.quantization = None;
    Ok(())
}

/// Layers of a family that stay floats in its file (Z-Image's refiners), as diffusers has them: their rows are those of
/// the layers they are made of, one after another.
fn plain(model: &mut Model, family: &'static layers::Family) {
    let mut more = Vec::new();
    for tensor in &mut model.tensors {
        let Some(array) = tensor.sole_array() else { continue };
        let Some((layer, what)) = tensor.name.rsplit_once('.').filter(|(_, w)| ["weight", "bias"].contains(w)) else {
            continue;
        };
        let Some((block, known)) = family.find(layer) else { continue };
        let Some(stored) = model.stored.get_mut(array as usize) else { continue };
        let (count, rows) = (known.of.len() as u64, tensor.shape.first().copied().unwrap_or(0));
        if count == 0
            || known.columns != Columns::All
            || !rows.is_multiple_of(count)
            || !stored.span.len.is_multiple_of(count)
        {
            continue;
        }
        let names: Vec<String> = known.of.iter().map(|part| format!("{block}{part}.{what}")).collect();
        // The array becomes that of the first; the others get arrays of their own, which lie behind it.
        let (start, len) = (stored.span.offset, stored.span.len / count);
        let mut piece = stored.clone();
        piece.span.len = len;
        if let Some(height) = piece.shape.first_mut() {
            *height = rows / count;
        }
        for (i, name) in names.into_iter().enumerate() {
            piece.name.clone_from(&name);
            piece.span.offset = start + i as u64 * len;
            let shape = piece.shape.clone();
            let own = Tensor { name, shape, bytes: len, ..tensor.clone() };
            if i == 0 {
                *stored = piece.clone();
                *tensor = own;
            } else {
                more.push((piece.clone(), own));
            }
        }
    }
    for (piece, tensor) in more {
        let encoding = Encoding::Plain(model.stored.len() as u32);
        model.stored.push(piece);
        model.tensors.push(Tensor { encoding, ..tensor });
    }
}

fn tensor(
    layer: &Found,
    name: String,
    shape: Vec<u64>,
    recipe: Recipe,
    parts: Vec<Placed>,
    stored: &[Stored],
) -> Tensor {
    let all: u64 = parts.iter().filter_map(|p| stored.get(p.array as usize)).map(|s| s.span.len).sum();
    let own = shape.iter().product::<u64>() as f64 / layer.shape.iter().product::<u64>().max(1) as f64;
    Tensor {
        name,
        bytes: if shape.len() == 2 { (all as f64 * own.min(1.0)) as u64 } else { 0 },
        shape,
        storage: Storage::BF16,
        encoding: Encoding::Packed { recipe, parts },
        merged: false,
    }
}

/// A layer under a name, with its bias.
fn whole(layer: &Found, named: &str, way: Way, stored: &[Stored]) -> Vec<Tensor> {
    part(layer, named, way, None, stored)
}

/// Some rows of a layer under a name, with their bias.
fn part(layer: &Found, named: &str, way: Way, rows: Option<std::ops::Range<u64>>, stored: &[Stored]) -> Vec<Tensor> {
    let [all, cols] = layer.shape;
    let height = rows.as_ref().map_or(all, |r| r.end - r.start);
    let window = rows.map(|rows| Window { rows, of: layer.shape });
    let fields = if let Way::Awq(fields) = way { fields } else { 0 };
    let kernel = Kernel { fields, window: window.clone(), ..layer.kernel.clone() };
    let mut out = Vec::new();
    if let Some(parts) = layer.placed(stored, &kernel) {
        let recipe = layer.recipe(layer.precision.name(), kernel);
        out.push(tensor(layer, format!("{named}.weight"), vec![height, cols], recipe, parts, stored));
    }
    out.extend(bias(layer, named, way, window, stored));
    out
}

/// A layer's bias, as the model has it.
fn bias(layer: &Found, named: &str, way: Way, window: Option<Window>, stored: &[Stored]) -> Option<Tensor> {
    let array = layer.array(Role::Bias)?;
    let [all, _] = layer.shape;
    let height = window.as_ref().map_or(all, |w| w.rows.end - w.rows.start);
    let shifted = way == Way::Shifted && layer.precision == Precision::Int4;
    let place = |array: u32| Some(Placed { array, storage: stored.get(array as usize)?.storage, transposed: false });
    let mut parts = vec![place(array)?];
    if shifted {
        for role in [Role::Codes, Role::Scales, Role::Smooth] {
            parts.push(place(layer.array(role)?)?);
        }
    }
    let kernel = Kernel {
        shifted,
        fields: if let Way::Awq(fields) = way { fields } else { 0 },
        // A bias of AWQ lies in its natural order but for the fields.
        bias: layer.precision != Precision::Awq,
        window: Some(window.unwrap_or(Window { rows: 0..all, of: layer.shape })),
        ..Kernel::default()
    };
    let recipe = Recipe { svd_rank: 0, ..layer.recipe(BIAS, kernel) };
    Some(tensor(layer, format!("{named}.bias"), vec![height], recipe, parts, stored))
}

/// A layer whose rows are those of several.
fn split(layer: &Found, block: &str, known: &Layer, stored: &[Stored]) -> Vec<Tensor> {
    let count = known.of.len() as u64;
    let [rows, _] = layer.shape;
    match known.of {
        [one] => whole(layer, &format!("{block}{one}"), known.way, stored),
        // Every family's stacked layers are of one height.
        of if rows.is_multiple_of(count) => of
            .iter()
            .zip(0..)
            .flat_map(|(one, i)| {
                let rows = i * (rows / count)..(i + 1) * (rows / count);
                part(layer, &format!("{block}{one}"), known.way, Some(rows), stored)
            })
            .collect(),
        _ => whole(layer, &layer.name, known.way, stored),
    }
}

/// An array's bytes. Its span was held against the file's length when that was opened.
pub fn bytes(opened: &Opened, stored: &Stored) -> Result<Vec<u8>> {
    let blob = opened.blobs.get(stored.span.file as usize);
    let blob = blob.ok_or_else(|| Error::failed(format!("`{}` lies in no file", stored.name)))?;
    let mut bytes = vec![0; usize::try_from(stored.span.len).map_err(|_| Error::failed("longer than memory"))?];
    blob.read_at(stored.span.offset, &mut bytes)?;
    Ok(bytes)
}

/// The greatest magnitude in the array of a bias.
pub fn greatest(opened: &Opened, tensor: &Tensor) -> Result<f64> {
    let Encoding::Packed { parts, .. } = &tensor.encoding else { return Ok(0.0) };
    let Some(stored) = parts.first().and_then(|part| opened.model.stored.get(part.array as usize)) else {
        return Ok(0.0);
    };
    let bytes = bytes(opened, stored)?;
    let words = bytes.as_chunks::<2>().0.iter().map(|b| bf16(u16::from_le_bytes(*b)).abs());
    Ok(f64::from(words.fold(0.0, f32::max)))
}

/// A layer whose columns are those of two.
fn joined(first: &Found, rest: &Found, block: &str, known: &Layer, stored: &[Stored]) -> Vec<Tensor> {
    let named = format!("{block}{}", known.of.first().copied().unwrap_or_default());
    let alike = (first.shape[0], first.rank, first.precision) == (rest.shape[0], rest.rank, rest.precision);
    let kernel = Kernel { first_cols: Some(first.shape[1]), ..rest.kernel.clone() };
    let parts = (first.placed(stored, &first.kernel), rest.placed(stored, &rest.kernel));
    let (true, true, (Some(mut parts), Some(more))) = (alike, same_arrays(&first.kernel, &rest.kernel), parts) else {
        let apart = [first, rest].map(|layer| whole(layer, &layer.name, Way::Svdq, stored));
        return apart.concat();
    };
    parts.extend(more);
    let shape = vec![rest.shape[0], first.shape[1] + rest.shape[1]];
    let recipe = rest.recipe(rest.precision.name(), kernel);
    let mut out = vec![tensor(rest, format!("{named}.weight"), shape, recipe, parts, stored)];
    out.extend(bias(rest, &named, Way::Shifted, None, stored));
    out
}

fn same_arrays(a: &Kernel, b: &Kernel) -> bool {
    let of = |k: &Kernel| (k.twice, k.bias, k.tensor_scale, k.row_scales);
    of(a) == of(b)
}

/// Whether all of a tensor's codes are read at once.
pub fn is_read_whole(recipe: &Recipe) -> bool {
    [Precision::Awq.name(), BIAS].contains(&recipe.dtype.as_str())
}

/// What a loss says of a layer against the one it was made from. `greatest` is the greatest number that is stored of it,
/// where it is a bias.
pub fn judge(recipe: &Recipe, loss: &Loss, greatest: f64) -> (Level, String) {
    if recipe.dtype.as_str() == BIAS {
        // It is stored in BF16, shifted: off by half of the greatest number's last place, 2^-8 of it, and by as much again
        // where the source had fewer bits than the sum.
        return match loss.max_error {
            e if e <= greatest / 256.0 => (Level::Ok, String::new()),
            e => (Level::Error, format!("is off by {e:.2e}: it is not the bias that it was")),
        };
    }
    // Four bits lose about a tenth of a weight's norm; what is out of order has nothing to do with the weight.
    let share = loss.relative_error.sqrt();
    match share {
        s if s <= 0.15 => (Level::Ok, String::new()),
        s if s <= 0.3 => (Level::Warn, format!("is off by {s:.3} of its norm, more than four bits lose")),
        s if (s - std::f64::consts::SQRT_2).abs() < 0.05 => {
            (Level::Error, format!("is off by {s:.3} of its norm: rows or codes are out of order"))
        }
        s => (Level::Error, format!("is off by {s:.3} of its norm: it is not the weight that it was")),
    }
}
