//! What a single file says in its header, all of it text: `config`, `quantization_config`, `model_class` and
//! `comfy_config`, and where a file does not say it, what its tensors tell.
//!
//! Loaders fail without `config`, and FLUX's without `quantization_config`; a rank other than 32 must be told; ComfyUI's
//! FLUX loader fails without a `comfy_config` of substance. No loader reads `model_class` but ComfyUI's, for T5.
use serde_json::{Map, Value, json};

use crate::core::model::Stored;
use crate::core::{Error, Result, Storage};

/// The header's key for the text of the transformer's config.json.
pub const CONFIG: &str = "config";
/// The header's key for how the file is quantized. A source's config may have it too, of itself.
pub const QUANTIZATION: &str = "quantization_config";
/// The header's key for the class that loads the file.
pub const MODEL_CLASS: &str = "model_class";
/// The header's key for what ComfyUI builds a FLUX from.
pub const COMFY: &str = "comfy_config";

/// What the weights' codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Integers, a scale of 16 bits for 64 of them.
    Int4,
    /// NVFP4: e2m1, a scale in e4m3 for 16 of them.
    Fp4,
}

impl Precision {
    /// As it stands in files' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Fp4 => "fp4",
        }
    }
    /// As `quantization_config` calls it.
    pub fn dtype(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Fp4 => "fp4_e2m1_all",
        }
    }
    /// Input channels that share a scale.
    pub fn group_size(self) -> u64 {
        match self {
            Self::Int4 => 64,
            Self::Fp4 => 16,
        }
    }
}

/// The text of `quantization_config`. `skip_refiners` is Z-Image's alone.
pub fn quantization_config(precision: Precision, rank: u64, skip_refiners: Option<bool>) -> String {
    let (weight_scale, activation_scale) = match precision {
        Precision::Int4 => (Value::Null, Value::Null),
        Precision::Fp4 => (json!([null, "fp8_e4m3_nan"]), json!("fp8_e4m3_nan")),
    };
    let part =
        |scale: Value| json!({"dtype": precision.dtype(), "scale_dtype": scale, "group_size": precision.group_size()});
    let mut config = json!({
        "method": "svdquant",
        "weight": part(weight_scale),
        "activation": part(activation_scale),
        "rank": rank,
    });
    if let Some(skip) = skip_refiners {
        config["skip_refiners"] = json!(skip);
    }
    config.to_string()
}

/// Classes of diffusers and transformers, and Nunchaku's that load them.
const CLASSES: [(&str, &str); 6] = [
    ("FluxTransformer2DModel", "NunchakuFluxTransformer2dModel"),
    ("QwenImageTransformer2DModel", "NunchakuQwenImageTransformer2DModel"),
    ("ZImageTransformer2DModel", "NunchakuZImageTransformer2DModel"),
    ("SanaTransformer2DModel", "NunchakuSanaTransformer2DModel"),
    ("UNet2DConditionModel", "NunchakuSDXLUNet2DConditionModel"),
    ("T5EncoderModel", "NunchakuT5EncoderModel"),
];

/// Nunchaku's class for a `_class_name`.
pub fn model_class(class_name: &str) -> Option<&'static str> {
    CLASSES.iter().find(|(source, _)| *source == class_name).map(|(_, class)| *class)
}

/// The class that a config is of.
pub fn class_name(config: &Value) -> Option<&str> {
    let of_architectures = || config.get("architectures")?.as_array()?.first()?.as_str();
    config.get("_class_name").and_then(Value::as_str).or_else(of_architectures)
}

/// What ComfyUI builds a FLUX from; `None` for other models, whose loaders read none (`{}` is written).
pub fn comfy_config(config: &Value) -> Option<Value> {
    if class_name(config) != Some("FluxTransformer2DModel") {
        return None;
    }
    // What a config leaves out has the default of diffusers' class.
    let number = |key: &str, default: u64| config.get(key).and_then(Value::as_u64).unwrap_or(default);
    let guidance = config.get("guidance_embeds").and_then(Value::as_bool).unwrap_or(false);
    let heads = number("num_attention_heads", 24);
    let channels = number("in_channels", 64);
    let axes = config.get("axes_dims_rope").filter(|a| a.is_array()).cloned().unwrap_or(json!([16, 56, 56]));
    Some(json!({
        "model_class": if guidance { "Flux" } else { "FluxSchnell" },
        "model_config": {
            "image_model": "flux",
            // Four pixels of the latent are one token.
            "in_channels": channels / 4,
            "out_channels": number("out_channels", channels) / 4,
            "patch_size": 2,
            "depth": number("num_layers", 19),
            "depth_single_blocks": number("num_single_layers", 38),
            "hidden_size": heads.saturating_mul(number("attention_head_dim", 128)),
            "num_heads": heads,
            "mlp_ratio": 4.0,
            "context_in_dim": number("joint_attention_dim", 4096),
            "vec_in_dim": number("pooled_projection_dim", 768),
            "axes_dim": axes,
            "theta": 10000,
            "qkv_bias": true,
            "guidance_embed": guidance,
            // Otherwise ComfyUI also builds the model in full size.
            "disable_unet_model_creation": true,
        },
    }))
}

/// A source's config as a file should have it: the same text, unless it says how the source itself is quantized.
///
/// # Errors
/// If it is no JSON object.
pub fn source_config(text: &str) -> Result<String> {
    let object = |value: Value| if let Value::Object(map) = value { Some(map) } else { None };
    let config: Option<Map<String, Value>> = crate::format::json::parse(text.as_bytes()).ok().and_then(object);
    let mut config = config.ok_or_else(|| Error::failed("not a JSON object, which a model's config is"))?;
    Ok(match config.shift_remove(QUANTIZATION) {
        Some(_) => crate::format::json::write(&Value::Object(config)),
        None => text.to_owned(),
    })
}

/// More keys, which no loader reads but other tools of this kind of file write.
pub fn extras(config: &Value) -> Vec<(String, String)> {
    let first = |keys: &[&str]| keys.iter().find_map(|k| config.get(*k)?.as_u64());
    let heads = first(&["num_attention_heads", "n_heads", "num_heads"]);
    let of_heads = || Some(heads?.saturating_mul(first(&["attention_head_dim", "head_dim"])?));
    let class = class_name(config);
    let text = |key: &str| config.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |n: Option<u64>| n.map(|n| n.to_string());
    [
        ("full_config", Some(config.to_string())),
        ("model_type", text("model_type").or_else(|| Some(class?.to_owned()))),
        ("architectures", class.map(|c| json!([c]).to_string())),
        ("hidden_size", number(first(&["hidden_size", "dim", "d_model", "inner_dim"]).or_else(of_heads))),
        ("num_attention_heads", number(heads)),
        ("num_hidden_layers", number(first(&["num_hidden_layers", "num_layers", "n_layers"]))),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

/// What the arrays of a file tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What its codes are.
    pub precision: Precision,
    /// The rank of its layers' branches.
    pub rank: u64,
    /// Whether its refiners are plain; `None` where it has no refiners.
    pub skip_refiners: Option<bool>,
}

/// Reads precision and rank off the arrays of a file; `None` where none is a W4A4 layer of Nunchaku's.
///
/// The scales beside codes in I8 tell the precision: e4m3, or 16 bits. Other arrays in e4m3 say nothing of it.
///
/// # Errors
/// If layers disagree, or one has scales of another type or no branch.
pub fn find(stored: &[Stored]) -> Result<Option<Found>> {
    let by_name: std::collections::HashMap<&str, &Stored> = stored.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut found: Option<(Found, &str)> = None;
    for codes in stored.iter().filter(|s| s.storage == Storage::I8) {
        let Some(layer) = codes.name.strip_suffix(".qweight") else { continue };
        let Some(scales) = by_name.get(format!("{layer}.wscales").as_str()) else { continue };
        let precision = match scales.storage {
            Storage::F8_E4M3 => Precision::Fp4,
            Storage::BF16 | Storage::F16 => Precision::Int4,
            other => {
                return Err(Error::failed(format!(
                    "`{}` is {other:?}; scales of int4 have 16 bits, those of fp4 are F8_E4M3",
                    scales.name
                )));
            }
        };
        let down = ["lora_down", "proj_down"].iter().find_map(|d| by_name.get(format!("{layer}.{d}").as_str()));
        let rank = down.and_then(|d| d.shape.get(1).copied()).ok_or_else(|| {
            Error::failed(format!(
                "`{layer}` has no `lora_down` or `proj_down` [K, rank]: it is no layer of Nunchaku's"
            ))
        })?;
        match found {
            None => found = Some((Found { precision, rank, skip_refiners: None }, layer)),
            Some((first, at)) if (first.precision, first.rank) != (precision, rank) => {
                return Err(Error::failed(format!(
                    "`{at}` is {} with rank {}, `{layer}` {} with rank {rank}; a file has one of each",
                    first.precision.name(),
                    first.rank,
                    precision.name()
                )));
            }
            Some(_) => {}
        }
    }
    let refiners = || stored.iter().map(|s| s.name.as_str()).filter(|n| n.contains("refiner."));
    Ok(found.map(|(found, _)| Found {
        skip_refiners: refiners().next().map(|_| !refiners().any(|n| n.ends_with("attention.to_qkv.qweight"))),
        ..found
    }))
}

/// Blocks that a config counts: their names' beginning, the key, and what it is where the key is not there.
const BLOCKS: [(&str, &str, &str, u64); 5] = [
    ("FluxTransformer2DModel", "transformer_blocks", "num_layers", 19),
    ("FluxTransformer2DModel", "single_transformer_blocks", "num_single_layers", 38),
    ("QwenImageTransformer2DModel", "transformer_blocks", "num_layers", 60),
    ("ZImageTransformer2DModel", "layers", "n_layers", 30),
    ("ZImageTransformer2DModel", "noise_refiner", "n_refiner_layers", 2),
];

/// Refuses the config of a model of another size: as many blocks as it says are in the file, no fewer and no more.
///
/// # Errors
/// If it says another number, or the file has a kind of blocks that the config's class has not.
pub fn fits<'a>(config: &Value, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let name = class_name(config).unwrap_or_default();
    let mut ours: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for name in names {
        let mut words = name.split('.');
        if let (Some(kind), Some(Ok(number))) = (words.next(), words.next().map(str::parse::<u64>)) {
            let count = ours.entry(kind).or_default();
            *count = (*count).max(number.saturating_add(1));
        }
    }
    for (_, kind, key, default) in BLOCKS.iter().filter(|(class, ..)| *class == name) {
        let says = config.get(*key).and_then(Value::as_u64).unwrap_or(*default);
        let has = ours.remove(kind).unwrap_or(0);
        if says != has {
            return Err(Error::failed(format!(
                "says {says} `{kind}` ({key}), and the file has {has}: it is another model's"
            )));
        }
    }
    let foreign = |kind: &str| BLOCKS.iter().any(|(class, other, ..)| *class != name && *other == kind);
    match ours.keys().find(|kind| foreign(kind)) {
        Some(kind) if BLOCKS.iter().any(|(class, ..)| *class == name) => {
            Err(Error::failed(format!("is of a {name}, which has no `{kind}` as the file has")))
        }
        _ => Ok(()),
    }
}

/// All that a single file's header says, made of its config's text and what its arrays are.
///
/// # Errors
/// If the config is no JSON object, or of a class that Nunchaku does not load.
pub fn header(config: &str, found: Found, with_extras: bool) -> Result<Vec<(String, String)>> {
    let text = source_config(config)?;
    let value = crate::format::json::parse(text.as_bytes()).unwrap_or_default();
    let name = class_name(&value).ok_or_else(|| {
        Error::failed("has no `_class_name`, so it cannot be told which of Nunchaku's classes loads it")
    })?;
    let class = model_class(name).ok_or_else(|| {
        let known = CLASSES.map(|(source, _)| source).join(", ");
        Error::failed(format!("is of a {name}, which Nunchaku does not load; it loads {known}"))
    })?;
    let skip_refiners = found.skip_refiners.filter(|_| name == "ZImageTransformer2DModel");
    let comfy = comfy_config(&value).unwrap_or_else(|| json!({}));
    let mut pairs = vec![
        (CONFIG.to_owned(), text),
        (QUANTIZATION.to_owned(), quantization_config(found.precision, found.rank, skip_refiners)),
        (MODEL_CLASS.to_owned(), class.to_owned()),
        (COMFY.to_owned(), comfy.to_string()),
    ];
    if with_extras {
        pairs.extend(extras(&value));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests;
