//! What a layer was before it was quantized: found from the shapes of its arrays, and from what a config says of it.
//!
//! A file does not say a layer's shape, kind or group size, and the config says only what was asked. But few layouts
//! give the same arrays: each that could have given the scale's shape is tried, and the one that the config agrees with
//! most is taken.
use std::collections::HashMap;

use super::code::Code;
use super::codes::SdnqCodec;
use super::layers::{self, Kind, Surroundings};
use super::loader::{Config, LayerConfig};
use super::resolve;
use crate::core::dtype::StorageExt;
use crate::core::model::{Placed, Stored};
use crate::core::plan::Part;
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::{Dtype, Error, Result, Storage, name};

/// The arrays that quantizing a layer leaves, besides its weight and scale.
pub const BESIDE: [&str; 3] = ["zero_point", "svd_up", "svd_down"];
/// Those of scales that are quantized themselves.
pub const DOUBLE: [&str; 4] = ["scale_2", "scale_zero_point", "zero_point_scale", "zero_point_2"];

/// The arrays of a layer. Indexes are into the model's.
#[derive(Clone, Copy, Debug)]
pub struct Arrays<'a> {
    /// The weight's full name.
    pub name: &'a str,
    all: &'a [Stored],
    by_name: &'a HashMap<String, u32>,
}

impl<'a> Arrays<'a> {
    /// Those of the layer whose weight has that name.
    pub fn new(name: &'a str, all: &'a [Stored], by_name: &'a HashMap<String, u32>) -> Self {
        Self { name, all, by_name }
    }
    /// The one of that last name.
    pub fn get(&self, last: &str) -> Option<(u32, &'a Stored)> {
        let index = *self.by_name.get(&self.full(last))?;
        Some((index, self.all.get(index as usize)?))
    }
    /// The same, or an error that it is missing.
    pub fn need(&self, last: &str) -> Result<(u32, &'a Stored)> {
        self.get(last).ok_or_else(|| Error::failed(format!("tensor `{}` is missing", self.full(last))))
    }
    /// The full name of an array.
    pub fn full(&self, last: &str) -> String {
        format!("{}.{last}", name::layer(self.name))
    }
    fn shape(&self, last: &str) -> Option<&'a [u64]> {
        self.get(last).map(|(_, s)| s.shape.as_slice())
    }
}

/// What is known of all layers of a model.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Its config.
    pub config: &'a Config,
    /// The type of its weights, where its config says that.
    pub dtype: Option<Storage>,
}

/// A layer as it was, and how it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// The weight's shape.
    pub shape: Vec<u64>,
    /// What was done to it.
    pub recipe: Recipe,
    /// The type that it had.
    pub storage: Storage,
    /// Its arrays, as its codec takes them.
    pub parts: Vec<Placed>,
    /// Whether it may be a convolution that was made a matrix, the size of whose kernels is lost.
    pub flattened: bool,
}

/// A layout that could have given the arrays.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    kind: Kind,
    shape: Vec<u64>,
    group_size: i64,
    turned: bool,
}

/// The layer whose arrays these are. `said` is its shape where the file tells it.
pub fn recover(arrays: &Arrays, layer: &LayerConfig, around: Around, said: Option<&[u64]>) -> Result<Recovered> {
    if let Some(why) = layer.refusal() {
        return Err(Error::failed(why));
    }
    let code = layer.code()?;
    let (_, weight) = arrays.need("weight")?;
    let (_, scale) = arrays.need("scale")?;
    check_present(arrays, layer, code)?;
    let found = candidates(arrays, layer, code, around, said)?;
    let fitting: Vec<(Candidate, Option<Factors>)> = found
        .iter()
        .filter_map(|c| {
            let factors = factors(arrays, layer, c);
            (arrays.get("svd_up").is_none() || factors.is_some()).then(|| (c.clone(), factors))
        })
        .collect();
    let best = fitting.iter().map(|(c, _)| score(c, arrays, layer, around, said)).max();
    let Some((candidate, factors)) = fitting.iter().find(|(c, _)| Some(score(c, arrays, layer, around, said)) == best)
    else {
        return Err(Error::failed(match found.first() {
            None => format!(
                "`{}` of shape {:?} is in no way that of scales of {} in `{}` of shape {:?}",
                scale.name, scale.shape, layer.weights_dtype, weight.name, weight.shape
            ),
            Some(c) => format!(
                "`{}` of shape {:?} and `{}` of shape {:?} are not factors of a weight of shape {:?}",
                arrays.full("svd_up"),
                arrays.shape("svd_up").unwrap_or_default(),
                arrays.full("svd_down"),
                arrays.shape("svd_down").unwrap_or_default(),
                c.shape
            ),
        }));
    };
    let recipe = Recipe {
        family: Family::Sdnq,
        dtype: Dtype::new(&code.name()),
        group_size: candidate.group_size,
        svd_rank: factors.map_or(0, |f| f.rank),
        svd_steps: layer.svd_steps,
        hadamard: layer.hadamard(&candidate.shape),
        codebook: layer.use_codebook,
        axis: candidate.kind.axis(),
        scale_search: Default::default(),
        importance: None,
        kernel: None,
    };
    let storage = original(arrays, around);
    let turned_factors = factors.is_some_and(|f| f.turned);
    let factor_storage = super::factor_storage(storage);
    let parts = resolve::parts(arrays.name, &candidate.shape, code, &recipe, factor_storage)
        .iter()
        .map(|part| place(arrays, code, part, candidate.turned, turned_factors))
        .collect::<Result<Vec<Placed>>>()?;
    // What its codec would refuse later is better said now.
    SdnqCodec::new(&candidate.shape, code, &recipe, factor_storage)?;
    let flattened = candidate.turned
        && around.config.quant_conv
        && layer.use_quantized_matmul_conv
        && (!layer.use_quantized_matmul || name::last(name::layer(arrays.name)).contains("conv"));
    Ok(Recovered { shape: candidate.shape.clone(), recipe, storage, parts, flattened })
}

/// That a layer has exactly the arrays that its dtype has.
pub fn check_present(arrays: &Arrays, layer: &LayerConfig, code: Code) -> Result<()> {
    let fails = |what: String| Err(Error::failed(what));
    if let Some(extra) = DOUBLE.iter().find(|last| arrays.get(last).is_some()) {
        return fails(format!("has `{}`: its scales are quantized themselves, which is not read", arrays.full(extra)));
    }
    let wants_zero = code.has_zero_point() && !layer.use_codebook;
    let what = if layer.use_codebook { "a codebook".to_owned() } else { code.name() };
    match (wants_zero, arrays.get("zero_point").is_some()) {
        (true, false) => return fails(format!("tensor `{}` is missing: {what} has one", arrays.full("zero_point"))),
        (false, true) => return fails(format!("has `{}`, where {what} has none", arrays.full("zero_point"))),
        _ => {}
    }
    match (arrays.get("svd_up"), arrays.get("svd_down")) {
        (Some(_), None) => fails(format!("tensor `{}` is missing beside `svd_up`", arrays.full("svd_down"))),
        (None, Some(_)) => fails(format!("tensor `{}` is missing beside `svd_down`", arrays.full("svd_up"))),
        _ => Ok(()),
    }
}

/// Codes in packed words; an error where they do not fill whole units.
fn packed_codes(code: Code, weight: &Stored) -> Result<u64> {
    let words: u64 = weight.shape.iter().product();
    let container = if code.is_wide() { 16 } else { 8 };
    let bits = words.checked_mul(container).filter(|bits| bits.is_multiple_of(u64::from(code.bits())));
    let codes = bits.map(|bits| bits / u64::from(code.bits()));
    codes.filter(|n| *n > 0 && code.packed_shape(*n).as_deref() == Some(weight.shape.as_slice())).ok_or_else(|| {
        Error::failed(format!(
            "tensor `{}` of shape {:?} does not hold whole units of {}",
            weight.name,
            weight.shape,
            code.name()
        ))
    })
}

/// Every layout whose scales have the shape that the scales have.
fn candidates(
    arrays: &Arrays,
    layer: &LayerConfig,
    code: Code,
    around: Around,
    said: Option<&[u64]>,
) -> Result<Vec<Candidate>> {
    let (_, weight) = arrays.need("weight")?;
    let scale = arrays.need("scale")?.1.shape.as_slice();
    let levels = if layer.use_codebook { 1u64 << code.bits() } else { 1 };
    let packed = if code.is_packed() { Some(packed_codes(code, weight)?) } else { None };
    let one_for_all = if layer.use_codebook { *scale == [levels] } else { scale.iter().all(|n| *n == 1) };
    let mut found = Vec::new();
    if !(one_for_all && layer.group_size == group_size::TENSOR) {
        for axis in (0..scale.len()).rev().filter(|axis| scale[*axis] == levels) {
            found.extend(
                view(scale, axis, packed, weight).and_then(|view| of_view(view, axis, packed.is_some(), levels)),
            );
        }
    }
    if one_for_all {
        let tensor = |kind, shape, turned| Candidate { kind, shape, group_size: group_size::TENSOR, turned };
        match (packed, weight.shape.as_slice()) {
            (None, &[rows, cols]) => {
                found.push(tensor(Kind::Linear, vec![rows, cols], false));
                found.push(tensor(Kind::Linear, vec![cols, rows], true));
            }
            (None, shape) if (3..=5).contains(&shape.len()) => {
                found.push(tensor(Kind::Convolution, shape.to_vec(), false));
            }
            (Some(codes), _) if layer.group_size == group_size::TENSOR => {
                // One scale and a row of bytes do not say how long a row was; something beside them must.
                let matrix = scale.len() == 2 || (layer.use_codebook && !around.config.quant_conv);
                let sides = [arrays.shape("svd_up"), arrays.shape("bias")].into_iter().flatten().flatten();
                for rows in sides.filter(|n| matrix && **n > 0 && codes.is_multiple_of(**n)) {
                    found.push(tensor(Kind::Linear, vec![*rows, codes / rows], false));
                }
                if let Some(shape) = said.filter(|s| s.len() >= 2 && s.iter().product::<u64>() == codes) {
                    let kind = if shape.len() == 2 { Kind::Linear } else { Kind::Convolution };
                    found.push(tensor(kind, shape.to_vec(), false));
                }
                if found.is_empty() {
                    return Err(Error::failed(
                        "its shape is nowhere in the file: its codes are packed and share one scale, \
                         and it has no bias or low-rank factor as long as a side",
                    ));
                }
            }
            _ => {}
        }
    }
    // A row of no values, or a shape whose product does not exist, is nothing to work on.
    found.retain(|c| c.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).is_some_and(|n| n > 0));
    Ok(found)
}

/// The codes' shape as the library has it, if the scales are reduced along `axis`.
fn view(scale: &[u64], axis: usize, packed: Option<u64>, weight: &Stored) -> Option<Vec<u64>> {
    let Some(codes) = packed else {
        let others = |(i, (a, b)): (usize, (&u64, &u64))| i == axis || a == b;
        let same = scale.len() == weight.shape.len() && scale.iter().zip(&weight.shape).enumerate().all(others);
        return same.then(|| weight.shape.clone());
    };
    let rest = scale.iter().enumerate().filter(|(i, _)| *i != axis).try_fold(1u64, |n, (_, d)| n.checked_mul(*d))?;
    let mut view = scale.to_vec();
    view[axis] = codes.checked_div(rest).filter(|_| codes.is_multiple_of(rest))?;
    Some(view)
}

/// The layer whose codes, seen in that shape, have scales along `axis`.
fn of_view(view: Vec<u64>, axis: usize, packed: bool, levels: u64) -> Option<Candidate> {
    let by_row = |kind| Some(Candidate { kind, shape: view.clone(), group_size: group_size::ROW, turned: false });
    let grouped = |kind| {
        let (groups, size) = (view[axis - 1], view[axis]);
        let channels = groups.checked_mul(size).filter(|_| groups > 1)?;
        let mut shape = view.clone();
        shape.splice(axis - 1..=axis, [channels]);
        Some(Candidate { kind, shape, group_size: i64::try_from(size).ok()?, turned: false })
    };
    match (view.len(), axis) {
        (2, 1) => by_row(Kind::Linear),
        (2, 0) if !packed && levels == 1 => {
            let shape = vec![view[1], view[0]];
            Some(Candidate { kind: Kind::Linear, shape, group_size: group_size::ROW, turned: true })
        }
        (3, 2) => grouped(Kind::Linear),
        (3..=5, 1) => by_row(Kind::Convolution),
        (4..=6, 2) => grouped(Kind::Convolution),
        (3..=5, 0) => by_row(Kind::TransposedConvolution),
        _ => None,
    }
}

/// Low-rank factors as they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Factors {
    rank: u32,
    turned: bool,
}

fn factors(arrays: &Arrays, layer: &LayerConfig, c: &Candidate) -> Option<Factors> {
    let (&[up0, up1], &[down0, down1]) = (arrays.shape("svd_up")?, arrays.shape("svd_down")?) else { return None };
    let (rows, cols) = (c.shape[0], c.shape.iter().skip(1).product::<u64>());
    let straight = (up0, down1) == (rows, cols) && up1 == down0;
    let turned = (up1, down0) == (rows, cols) && up0 == down1;
    // Square factors tell nothing; the config does.
    let turned = turned && (!straight || layer.has_quantized_matmul(c.kind, &c.shape));
    let rank = u32::try_from(if turned { up0 } else { up1 }).ok().filter(|r| *r > 0)?;
    (straight || turned).then_some(Factors { rank, turned })
}

/// What a layer may be that its shape calls `kind`: a matrix may be a table, or kernels that were flattened.
pub fn kinds(
    name: &str,
    kind: Kind,
    shape: &[u64],
    layer: &LayerConfig,
    config: &Config,
) -> impl Iterator<Item = Kind> + use<> {
    let by_name = layers::kind(name, shape, None, Surroundings { class: "", tied: false });
    let is_table = matches!(by_name, Kind::Embedding | Kind::OtherEmbedding | Kind::TiedEmbedding);
    let is_matrix = kind == Kind::Linear;
    let table = (is_matrix && is_table && config.quant_embedding).then_some(Kind::Embedding);
    let flat = (is_matrix && config.quant_conv && layer.use_quantized_matmul_conv).then_some(Kind::Convolution);
    [table, Some(kind), flat].into_iter().flatten()
}

/// How well a layout goes with everything else that is known; of equal ones the first is taken.
fn score(c: &Candidate, arrays: &Arrays, layer: &LayerConfig, around: Around, said: Option<&[u64]>) -> [bool; 5] {
    let is_convolution = c.kind != Kind::Linear;
    let agrees = kinds(arrays.name, c.kind, &c.shape, layer, around.config)
        .filter_map(|kind| layer.layout(kind, &c.shape).ok())
        .any(|l| (l.recipe.group_size, l.turned) == (c.group_size, c.turned));
    let outputs = c.shape[usize::from(c.kind == Kind::TransposedConvolution)];
    [
        said == Some(c.shape.as_slice()),
        !is_convolution || around.config.quant_conv,
        arrays.shape("bias").is_none_or(|bias| *bias == [outputs]),
        agrees,
        c.shape[0] > 1,
    ]
}

/// The type that the weight had: what was left of it has it still.
fn original(arrays: &Arrays, around: Around) -> Storage {
    let kept = ["svd_up", "bias"].into_iter().filter_map(|last| arrays.get(last)).map(|(_, s)| s.storage);
    let wide = |s: &Storage| matches!(s, Storage::F64 | Storage::F32 | Storage::F16 | Storage::BF16);
    kept.chain(around.dtype).find(wide).unwrap_or(Storage::BF16)
}

/// The array of a part, checked against it.
fn place(arrays: &Arrays, code: Code, part: &Part, turned: bool, turned_factors: bool) -> Result<Placed> {
    let last = name::last(&part.name);
    let (array, stored) = arrays.need(last)?;
    let is_factor = last.starts_with("svd_");
    let mut shape = part.shape.clone();
    if if is_factor { turned_factors } else { turned } {
        shape.reverse();
    }
    let wide = matches!(stored.storage, Storage::F64 | Storage::F32 | Storage::F16 | Storage::BF16);
    let holds = match last {
        // The library keeps a byte of 1-bit codes in each integer of 64.
        "weight" => stored.storage == part.storage || (code.bits(), stored.storage) == (1, Storage::I64),
        _ => wide,
    };
    if !holds || stored.shape != shape {
        return Err(Error::failed(format!(
            "tensor `{}` is {} {:?}, expected {} {shape:?}",
            stored.name,
            stored.storage.name(),
            stored.shape,
            part.storage.name()
        )));
    }
    // A row of scales and a column of them are the same bytes.
    let transposed = if is_factor { turned_factors } else { turned && last == "weight" };
    Ok(Placed { array, storage: part.storage, transposed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Span;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// The arrays of a layer `a`, from lines of `weight U8 2,3`.
    fn stored(arrays: &[(&str, Storage, Vec<u64>)]) -> Vec<Stored> {
        let span = Span { file: 0, offset: 0, len: 0 };
        let one = |(last, storage, shape): &(&str, Storage, Vec<u64>)| Stored {
            name: format!("a.{last}"),
            storage: *storage,
            shape: shape.clone(),
            span,
        };
        arrays.iter().map(one).collect()
    }

    fn find(stored: &[Stored], config: &Value) -> Result<Recovered> {
        let by_name = stored.iter().enumerate().map(|(i, s)| (s.name.clone(), i as u32)).collect();
        let config = Config::parse(config).expect("a config");
        let layer = config.kwargs("a.weight").expect("kwargs");
        let around = Around { config: &config, dtype: None };
        recover(&Arrays::new("a.weight", stored, &by_name), &layer, around, None)
    }

    /// `[shape] group size`, `T` where the weight lies transposed, the rank where there are factors.
    fn summary(r: &Recovered) -> String {
        let axis = if r.recipe.axis == 0 { " axis 0" } else { "" };
        let turned = if r.parts[0].transposed { " T" } else { "" };
        let rank = if r.recipe.svd_rank > 0 { format!(" rank {}", r.recipe.svd_rank) } else { String::new() };
        format!("{:?} {}{axis}{turned}{rank}", r.shape, r.recipe.group_size)
    }

    #[test]
    fn shapes_tell_what_a_layer_was() {
        fn check(dtype: &str, weight: &[u64], scale: &[u64], more: Value, expected: &str) {
            let mut config = json!({"weights_dtype": dtype});
            config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let code = Code::parse(dtype).expect("a dtype");
            let mut arrays = vec![("weight", code.storage(), weight.to_vec()), ("scale", Storage::F32, scale.to_vec())];
            if code.has_zero_point() && config["use_codebook"] != true {
                arrays.push(("zero_point", Storage::BF16, scale.to_vec()));
            }
            if let Some(bias) = config.get("bias").and_then(Value::as_u64) {
                arrays.push(("bias", Storage::F16, vec![bias]));
            }
            match find(&stored(&arrays), &config) {
                Ok(found) => assert_eq!(summary(&found), expected, "{dtype} {weight:?} {scale:?} {more}"),
                Err(e) => assert!(!expected.is_empty() && e.to_string().contains(expected), "{dtype} {weight:?}: {e}"),
            }
        }
        check("int8", &[256, 192], &[256, 1], json!({}), "[256, 192] -1");
        check("int8", &[256, 3, 64], &[256, 3, 1], json!({}), "[256, 192] 64");
        check("int8", &[192, 256], &[1, 256], json!({"use_quantized_matmul": true}), "[256, 192] -1 T");
        check("int8", &[256, 256], &[1, 256], json!({}), "[256, 256] -1 T");
        check("int8", &[256, 192], &[1, 1], json!({"group_size": -2}), "[256, 192] -2");
        check("int8", &[192, 256], &[1, 1], json!({"group_size": -2, "use_quantized_matmul": true}), "[256, 192] -2 T");
        check("int8", &[96, 64, 3, 3], &[96, 1, 3, 3], json!({"quant_conv": true}), "[96, 64, 3, 3] -1");
        check("int8", &[96, 2, 32, 3, 3], &[96, 2, 1, 3, 3], json!({"quant_conv": true}), "[96, 64, 3, 3] 32");
        check("int8", &[96, 2, 32, 3], &[96, 2, 1, 3], json!({"quant_conv": true}), "[96, 64, 3] 32");
        check("int8", &[64, 32, 3, 3], &[1, 32, 3, 3], json!({"quant_conv": true}), "[64, 32, 3, 3] -1 axis 0");
        check("int8", &[96, 64, 3, 3], &[1, 1, 1, 1], json!({"group_size": -2}), "[96, 64, 3, 3] -2");
        check("uint4", &[24576], &[256, 3, 1], json!({}), "[256, 192] 64");
        check("uint4", &[24576], &[256, 1], json!({}), "[256, 192] -1");
        check("uint4", &[27648], &[96, 1, 3, 3], json!({"quant_conv": true}), "[96, 64, 3, 3] -1");
        check("uint4", &[27648], &[96, 2, 1, 3, 3], json!({"quant_conv": true}), "[96, 64, 3, 3] 32");
        check("uint4", &[9216], &[1, 32, 3, 3], json!({"quant_conv": true}), "[64, 32, 3, 3] -1 axis 0");
        check("uint4", &[24576], &[256, 3, 16], json!({"use_codebook": true}), "[256, 192] 64");
        check("uint4", &[24576], &[256, 16], json!({"use_codebook": true}), "[256, 192] -1");
        check("uint8", &[256, 3, 64], &[256, 3, 256], json!({"use_codebook": true}), "[256, 192] 64");
        check(
            "uint4",
            &[27648],
            &[96, 16, 3, 3],
            json!({"use_codebook": true, "quant_conv": true}),
            "[96, 64, 3, 3] -1",
        );
        // Sixteen groups of four, or kernels of sixteen? There are no convolutions, then there are.
        check("uint4", &[8192], &[256, 16, 16], json!({"use_codebook": true, "group_size": 4}), "[256, 64] 4");
        check("float6_e3m2fn", &[12288, 3], &[256, 1], json!({}), "[256, 192] -1");
        check("int9", &[3072, 9], &[256, 3, 1], json!({}), "[256, 192] 64");
        check("uint4", &[24576], &[1, 1], json!({"group_size": -2, "bias": 256}), "[256, 192] -2");
        check("uint4", &[24576], &[1, 1], json!({"group_size": -2}), "nowhere in the file");
        check("uint4", &[24577], &[256, 1], json!({}), "in no way");
        check("int6", &[12289, 3], &[256, 1], json!({}), "in no way");
        check("int6", &[12288, 4], &[256, 1], json!({}), "whole units");
        check("int8", &[256, 192], &[255, 1], json!({}), "in no way");
        check("int8", &[256, 192], &[], json!({}), "expected F32 [1, 1]");
        check("int8", &[256, 192, 1, 1, 1, 1, 1], &[256, 1, 1, 1, 1, 1, 1], json!({}), "in no way");
        check("uint4", &[24576], &[0, 1], json!({}), "in no way");
    }

    #[test]
    fn factors_lie_straight_or_turned() {
        fn check(up: &[u64], down: &[u64], matmul: bool, expected: &str) {
            let arrays = stored(&[
                ("weight", Storage::U8, vec![8192]),
                ("scale", Storage::F32, vec![128, 1]),
                ("zero_point", Storage::F32, vec![128, 1]),
                ("svd_up", Storage::BF16, up.to_vec()),
                ("svd_down", Storage::BF16, down.to_vec()),
            ]);
            let config = json!({"weights_dtype": "uint4", "use_quantized_matmul": matmul});
            match find(&arrays, &config) {
                Ok(found) => {
                    let turned = if found.parts[3].transposed { " turned" } else { "" };
                    assert_eq!(format!("{}{turned}", summary(&found)), expected);
                    assert_eq!(found.parts[3].transposed, found.parts[4].transposed);
                }
                Err(e) => assert!(!expected.is_empty() && e.to_string().contains(expected), "{e}"),
            }
        }
        check(&[128, 32], &[32, 128], false, "[128, 128] -1 rank 32");
        check(&[32, 128], &[128, 32], false, "[128, 128] -1 rank 32 turned");
        check(&[128, 128], &[128, 128], false, "[128, 128] -1 rank 128");
        check(&[128, 128], &[128, 128], true, "[128, 128] -1 rank 128 turned");
        check(&[128, 32], &[16, 128], false, "not factors");
        check(&[32, 32], &[32, 32], false, "not factors");
        check(&[128, 0], &[0, 128], false, "not factors");
        check(&[128], &[128], false, "not factors");
    }

    #[test]
    fn what_is_missing_or_too_much_is_said() {
        fn check(dtype: &str, arrays: &[(&str, Storage, Vec<u64>)], parts: &[&str]) {
            let message = find(&stored(arrays), &json!({"weights_dtype": dtype})).expect_err("refused").to_string();
            for part in parts {
                assert!(message.contains(part), "`{part}` in: {message}");
            }
        }
        let weight = ("weight", Storage::U8, vec![8192]);
        let scale = ("scale", Storage::F32, vec![128, 1]);
        let zero = ("zero_point", Storage::F32, vec![128, 1]);
        let up = ("svd_up", Storage::F32, vec![128, 8]);
        check("uint4", std::slice::from_ref(&weight), &["a.scale", "missing"]);
        check("uint4", &[weight.clone(), scale.clone()], &["a.zero_point", "missing"]);
        check("int4", &[weight.clone(), scale.clone(), zero.clone()], &["a.zero_point", "none"]);
        check("uint4", &[weight.clone(), scale.clone(), zero.clone(), up], &["a.svd_down", "missing"]);
        let second = ("scale_2", Storage::F32, vec![1]);
        check("int4", &[weight.clone(), scale.clone(), second], &["a.scale_2"]);
        check("int8", &[weight.clone(), scale.clone()], &["a.scale"]);
        let wide = ("weight", Storage::I64, vec![128, 128]);
        check("int8", &[wide, scale.clone()], &["a.weight", "I64", "I8"]);
        let whole = ("scale", Storage::I32, vec![128, 1]);
        check("int4", &[weight, whole], &["a.scale", "I32", "F32"]);
    }

    proptest! {
        /// What the library would make of a layer is read as that layer.
        #[test]
        fn every_layout_is_found_again(
            bits in 1u8..=16, signed: bool, rows in 2u64..6, groups in 1u64..6, cols in 1u64..5,
            size in prop_oneof![Just(0i64), Just(-1), Just(-2), Just(16), Just(48)],
            matmul: bool, svd: bool, codebook: bool,
        ) {
            let name = format!("{}int{bits}", if signed { "" } else { "u" });
            prop_assume!(Code::parse(&name).is_some() && !(codebook && (signed || bits > 8)));
            let shape = vec![rows * 32, groups * cols * 16];
            let config = json!({
                "weights_dtype": name, "group_size": size, "use_quantized_matmul": matmul,
                "use_svd": svd, "svd_rank": 8, "use_codebook": codebook,
            });
            let parsed = Config::parse(&config).expect("a config");
            let laid = parsed.general().layout(Kind::Linear, &shape).expect("a layout");
            let span = Span { file: 0, offset: 0, len: 0 };
            let mut arrays: Vec<Stored> = laid.parts("a.weight", Storage::F32).into_iter()
                .map(|p| Stored { name: p.name, storage: p.storage, shape: p.shape, span }).collect();
            arrays.push(Stored { name: "a.bias".into(), storage: Storage::F32, shape: vec![shape[0]], span });
            let found = find(&arrays, &config);
            let found = found.map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(found.shape, shape);
            prop_assert_eq!(found.recipe, laid.recipe);
            prop_assert_eq!(found.parts[0].transposed, laid.turned);
        }
    }
}
