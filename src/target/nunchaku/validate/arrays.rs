//! A single file's arrays: all that its model needs, none too many, each of its type and shape.
use std::collections::BTreeSet;

use serde_json::Value;

use super::ByName;
use super::header::{Header, is_full_size};
use crate::core::Storage;
use crate::core::dtype::StorageExt;
use crate::core::model::Stored;
use crate::target::check::{Check, Findings};
use crate::target::nunchaku::metadata::{self, Found, Precision};
use crate::target::nunchaku::table::{self, Kind, Terms};

/// What the C++ reader takes: of every type and none empty.
pub fn container(stored: &[Stored]) -> Vec<Check> {
    let mut found = Findings::new("container");
    let known = [Storage::BF16, Storage::F16, Storage::F32, Storage::I8, Storage::I32, Storage::I64, Storage::F8_E4M3];
    for array in stored {
        if !known.contains(&array.storage) {
            found.error(format!("`{}` is {}, which Nunchaku's reader does not know", array.name, array.storage.name()));
        }
        if array.span.len == 0 {
            found.error(format!("`{}` is empty, which Nunchaku's reader refuses", array.name));
        }
    }
    found.close("every array is of a type that Nunchaku's reader knows")
}

/// Whether a type may stand where 16 bits are asked for.
fn is_half(storage: Storage) -> bool {
    matches!(storage, Storage::BF16 | Storage::F16)
}

/// Completeness, shapes and types against the model's table, or, where there is none, of each layer by itself.
pub fn checks(header: &Header, arrays: Option<Found>, stored: &[Stored], by_name: &ByName) -> Vec<Check> {
    let mut complete = Findings::new("complete");
    let mut shapes = Findings::new("shapes");
    let mut size = Findings::new("config");
    let terms = terms(header, arrays);
    let class = header.config.as_ref().and_then(metadata::class_name);
    let classic = class == Some("FluxTransformer2DModel");
    let table = header.config.as_ref().zip(terms).and_then(|(c, t)| Some((table::layers(c, t)?, t)));
    let mut known: BTreeSet<String> = BTreeSet::new();
    match &table {
        None => {
            complete.warn("of which arrays the model consists is not known without its config, so holes are not seen")
        }
        Some((layers, terms)) => {
            for layer in layers {
                for (name, storage, shape) in layer.arrays(*terms, classic) {
                    match by_name.get(name.as_str()) {
                        None => complete.error(if classic {
                            format!("`{name}` is missing: FLUX's C++ loader leaves it uninitialised, without a word")
                        } else {
                            format!("`{name}` is missing")
                        }),
                        Some(array) => {
                            if !(array.storage == storage || storage == Storage::BF16 && is_half(array.storage)) {
                                shapes.error(format!("`{name}` is {}, not {}", array.storage.name(), storage.name()));
                            }
                            if array.shape != shape {
                                shapes.error(format!("`{name}` has the shape {:?}, not {shape:?}", array.shape));
                            }
                        }
                    }
                    known.insert(name);
                }
                if let (Kind::Codes { .. }, Precision::Fp4) = (layer.kind, terms.precision) {
                    known.extend(["wtscale", "wcscales"].map(|s| format!("{}.{s}", layer.name)));
                }
            }
            for array in stored.iter().filter(|a| !known.contains(&a.name)) {
                complete.error(format!("`{}` is none of the model's: an unexpected key on loading", array.name));
            }
        }
    }
    let mut all = Vec::new();
    if let Some(config) = &header.config {
        self::size(config, class, stored, &mut size);
        all.extend(size.close("the blocks are as many as the config says"));
    }
    all.extend(complete.close(format!("all {} arrays are there, and no others", stored.len())));
    layers(stored, by_name, &mut shapes);
    all.extend(shapes.close("every array has the shape and type that its layer wants"));
    all.extend(scales(class, stored, by_name));
    all.extend(leftovers(stored, by_name));
    all
}

/// What the table depends on: as the arrays tell, or, where those disagree, as the header says.
fn terms(header: &Header, arrays: Option<Found>) -> Option<Terms> {
    let quantization = header.quantization.as_ref();
    let said = |key: &str| quantization.and_then(|q| q.get(key));
    let skip_refiners = said("skip_refiners").and_then(Value::as_bool).unwrap_or(false);
    let (precision, rank) = match arrays {
        Some(found) => (found.precision, found.rank),
        None => {
            let dtype = said("weight")?.get("dtype")?.as_str()?;
            let precision = [Precision::Int4, Precision::Fp4].into_iter().find(|p| p.dtype() == dtype)?;
            (precision, said("rank").and_then(Value::as_u64).unwrap_or(32))
        }
    };
    Some(Terms { precision, rank, skip_refiners })
}

/// The config against what loaders build whatever it says.
fn size(config: &Value, class: Option<&str>, stored: &[Stored], found: &mut Findings) {
    if let Err(e) = metadata::fits(config, stored.iter().map(|s| s.name.as_str())) {
        found.error(format!("`config` {e}"));
    }
    match class {
        Some("FluxTransformer2DModel") if !is_full_size(Some(config)) => found.warn(
            "not of FLUX.1's size, 19 and 38 blocks of 24 heads of 128: the C++ model cannot load it, only …2DModelV2",
        ),
        Some("QwenImageTransformer2DModel") => {
            let is = |key: &str, n: u64| config.get(key).is_none_or(|v| v.as_u64() == Some(n));
            if !(is("num_layers", 60) && is("num_attention_heads", 24) && is("attention_head_dim", 128)) {
                found.warn(
                    "not of 60 blocks of 24 heads of 128: nunchaku's loader builds those whatever the config says",
                );
            }
        }
        _ => {}
    }
}

/// Each layer by itself: what its codes' shape makes of the others.
fn layers(stored: &[Stored], by_name: &ByName, found: &mut Findings) {
    for codes in stored {
        let Some(layer) = codes.name.strip_suffix(".qweight") else { continue };
        let [first, second] = codes.shape[..] else {
            found.error(format!("`{}` {:?} is no matrix", codes.name, codes.shape));
            continue;
        };
        match codes.storage {
            Storage::I8 => {
                let (n, k) = (first, second.saturating_mul(2));
                if !n.is_multiple_of(128) || !k.is_multiple_of(128) {
                    found.error(format!("`{layer}` is {n} × {k}: the kernels want multiples of 128"));
                }
                let rows = |s: &Stored| s.shape.first().copied();
                let has = |part: &str| by_name.get(format!("{layer}.{part}").as_str());
                if let Some(scales) = has("wscales") {
                    let group = if scales.storage == Storage::F8_E4M3 { 16 } else { 64 };
                    if scales.shape != [k / group, n] {
                        let shape = &scales.shape;
                        found.error(format!("`{}` has the shape {shape:?}, not [{}, {n}]", scales.name, k / group));
                    }
                } else {
                    found.error(format!("`{layer}` has no `wscales`"));
                }
                for (parts, channels) in [
                    (["lora_up", "proj_up"], n),
                    (["lora_down", "proj_down"], k),
                    (["smooth", "smooth_factor"], k),
                    (["smooth_orig", "smooth_factor_orig"], k),
                ] {
                    match parts.iter().find_map(|p| has(p)) {
                        None => found.error(format!("`{layer}` has neither `{}` nor `{}`", parts[0], parts[1])),
                        Some(part) if rows(part) != Some(channels) => {
                            found.error(format!("`{}` has the shape {:?}, not of {channels}", part.name, part.shape));
                        }
                        Some(_) => {}
                    }
                }
                if has("wzeros").is_some() {
                    found.error(format!("`{layer}.wzeros`: a layer of codes in I8 has none"));
                }
            }
            Storage::I32 => {
                let (n, k) = (first.saturating_mul(4), second.saturating_mul(2));
                if !n.is_multiple_of(8) || !k.is_multiple_of(64) {
                    found.error(format!("`{layer}` is {n} × {k}: AWQ's kernel wants multiples of 8 and 64"));
                }
                for part in ["wscales", "wzeros"] {
                    let name = format!("{layer}.{part}");
                    match by_name.get(name.as_str()) {
                        None => found.error(format!("`{name}` is missing")),
                        Some(a) if a.shape != [k / 64, n] || !is_half(a.storage) => found.error(format!(
                            "`{name}` is {} {:?}, not of 16 bits [{}, {n}]",
                            a.storage.name(),
                            a.shape,
                            k / 64
                        )),
                        Some(_) => {}
                    }
                }
            }
            other => found.error(format!("`{}` is {}; codes are I8, of AWQ I32", codes.name, other.name())),
        }
    }
}

/// Scales of tensors and channels, which nvfp4 alone has, and one type for everything of 16 bits.
fn scales(class: Option<&str>, stored: &[Stored], by_name: &ByName) -> Vec<Check> {
    let mut found = Findings::new("scales");
    for array in stored.iter().filter(|a| a.storage == Storage::I8) {
        let Some(layer) = array.name.strip_suffix(".qweight") else { continue };
        let has = |part: &str| by_name.get(format!("{layer}.{part}").as_str());
        let is_fp4 = has("wscales").is_some_and(|s| s.storage == Storage::F8_E4M3);
        let second: Vec<&str> = ["wtscale", "wcscales"].into_iter().filter(|s| has(s).is_some()).collect();
        match (is_fp4, &second[..]) {
            (false, [part, ..]) => found.error(format!("`{layer}.{part}`: int4 has none, and loading ends at it")),
            (true, []) => found.error(format!("`{layer}` has neither `wtscale` nor `wcscales`: its scale would be 1")),
            (true, ["wtscale"]) if class == Some("ZImageTransformer2DModel") && layer.ends_with("attention.to_qkv") => {
                found.error(format!(
                    "`{layer}.wtscale` is never applied by Z-Image's fused kernel, which reads `wcscales`"
                ));
            }
            _ => {}
        }
        if let Some(tensor) = has("wtscale")
            && tensor.shape.iter().product::<u64>() != 1
        {
            found.error(format!("`{}` has the shape {:?}, not [1]", tensor.name, tensor.shape));
        }
    }
    let mut all = found.close("second scales are where they are read");
    let mut types = Findings::new("types");
    let halves: BTreeSet<&str> = stored
        .iter()
        .filter(|s| is_half(s.storage))
        .map(|s| if s.storage == Storage::F16 { "F16" } else { "BF16" })
        .collect();
    if halves.len() > 1 {
        let odd = stored.iter().find(|s| s.storage == Storage::F16).map_or("", |s| s.name.as_str());
        types.error(format!("both BF16 and F16, the latter in `{odd}`: loaders assert that all have torch_dtype's"));
    }
    for array in stored {
        let is_scale = array.name.ends_with(".wtscale");
        if array.storage == Storage::F32 && !is_scale {
            types.error(format!("`{}` is F32: loaders assert 16 bits", array.name));
        }
    }
    all.extend(types.close(format!("all floats are {}", halves.first().copied().unwrap_or("of no type"))));
    all
}

/// Arrays of 8 bits that are no layer's.
fn leftovers(stored: &[Stored], by_name: &ByName) -> Vec<Check> {
    let mut found = Findings::new("leftovers");
    for array in stored {
        let scales = array.name.strip_suffix(".wscales").map(|l| format!("{l}.qweight"));
        let is_scales = scales.is_some_and(|codes| by_name.contains_key(codes.as_str()));
        let wrong = match array.storage {
            Storage::F8_E4M3 | Storage::F8_E5M2 => !is_scales,
            Storage::I8 | Storage::U8 => !array.name.ends_with(".qweight"),
            _ => false,
        };
        if wrong {
            found.error(format!(
                "`{}` is {}, which is no layer of Nunchaku's: it would be taken for plain values",
                array.name,
                array.storage.name()
            ));
        }
    }
    found.close("what is not quantized has 16 bits")
}
