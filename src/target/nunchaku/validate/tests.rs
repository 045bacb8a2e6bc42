//! Tiny files, whole and broken on purpose.
use serde_json::{Value, json};

use super::*;
use crate::core::Storage;
use crate::core::dtype::StorageExt;
use crate::format::safetensors::{Entry, write_header};
use crate::format::{self, OpenOptions};
use crate::target::check::passes;
use crate::target::nunchaku::table::{self, Kind, Terms};

/// A file that is still to be written.
#[derive(Clone)]
struct Draft {
    name: &'static str,
    metadata: Vec<(String, String)>,
    /// Name, type, shape and bytes.
    arrays: Vec<(String, Storage, Vec<u64>, Vec<u8>)>,
    /// config.json beside it.
    config: Option<Value>,
}

fn ones(name: &str, storage: Storage, shape: &[u64]) -> (String, Storage, Vec<u64>, Vec<u8>) {
    let count: u64 = shape.iter().product();
    let one: &[u8] = match storage {
        Storage::BF16 => &[0x80, 0x3f],
        Storage::F8_E4M3 => &[0x38],
        other => &[0; 8][..other.bytes().unwrap_or(1) as usize],
    };
    (name.to_owned(), storage, shape.to_vec(), one.repeat(count as usize))
}

impl Draft {
    /// Every array of the config's model, all ones.
    fn new(config: Value, precision: Precision) -> Self {
        let terms = Terms { precision, rank: 16, skip_refiners: false };
        let class = metadata::class_name(&config).expect("a class");
        let classic = class == "FluxTransformer2DModel";
        let mut arrays = Vec::new();
        for layer in table::layers(&config, terms).expect("a table") {
            arrays.extend(layer.arrays(terms, classic).into_iter().map(|(n, t, s)| ones(&n, t, &s)));
            if let (Kind::Codes { .. }, Precision::Fp4) = (layer.kind, precision) {
                arrays.push(ones(&format!("{}.wcscales", layer.name), Storage::BF16, &layer.shape[..1]));
            }
        }
        for (name, .., bytes) in &mut arrays {
            if name.starts_with("single_transformer_blocks.") && name.ends_with(".out_proj.bias") {
                bytes.fill(0);
            }
        }
        let skip_refiners = (class == "ZImageTransformer2DModel").then_some(false);
        let found = Found { precision, rank: 16, skip_refiners };
        let metadata = metadata::header(&config.to_string(), found, false).expect("a header");
        Self { name: "m.safetensors", metadata, arrays, config: None }
    }
    fn remove(&mut self, name: &str) {
        let before = self.arrays.len();
        self.arrays.retain(|(n, ..)| n != name);
        assert_eq!(self.arrays.len(), before - 1, "{name} was there");
    }
    fn array(&mut self, name: &str) -> &mut (String, Storage, Vec<u64>, Vec<u8>) {
        self.arrays.iter_mut().find(|(n, ..)| n == name).unwrap_or_else(|| panic!("no {name}"))
    }
    fn set(&mut self, key: &str, value: &str) {
        let pair = self.metadata.iter_mut().find(|(k, _)| k == key).unwrap_or_else(|| panic!("no {key}"));
        pair.1 = value.to_owned();
    }
    /// Changes a key whose value is JSON.
    fn change(&mut self, key: &str, change: impl FnOnce(&mut Value)) {
        let pair = self.metadata.iter().find(|(k, _)| k == key).unwrap_or_else(|| panic!("no {key}"));
        let mut value: Value = serde_json::from_str(&pair.1).expect("JSON");
        change(&mut value);
        self.set(key, &value.to_string());
    }
    /// The checks that read no numbers, and need no file.
    fn of_arrays(&self) -> Vec<Check> {
        let span = crate::core::model::Span { file: 0, offset: 0, len: 1 };
        let stored = |(name, storage, shape, _): &(String, Storage, Vec<u64>, Vec<u8>)| Stored {
            name: name.clone(),
            storage: *storage,
            shape: shape.clone(),
            span,
        };
        let stored: Vec<Stored> = self.arrays.iter().map(stored).collect();
        let by_name: ByName = stored.iter().map(|s| (s.name.as_str(), s)).collect();
        let pairs = self.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let found = metadata::find(&stored).unwrap_or_default();
        let header = header::read(&pairs, found, &mut Vec::new());
        arrays::checks(&header, found, &stored, &by_name)
    }
    fn checks(&self) -> Option<Vec<Check>> {
        let dir = tempfile::tempdir().expect("a folder");
        let mut offset = 0;
        let mut entries = Vec::new();
        let mut data = Vec::new();
        for (name, storage, shape, bytes) in &self.arrays {
            let len = bytes.len() as u64;
            entries.push(Entry { name: name.clone(), storage: *storage, shape: shape.clone(), offset, len });
            data.extend(bytes);
            offset += len;
        }
        let path = match &self.config {
            Some(config) => {
                std::fs::write(dir.path().join("config.json"), config.to_string()).expect("written");
                dir.path().join("diffusion_pytorch_model.safetensors")
            }
            None => dir.path().join(self.name),
        };
        std::fs::write(&path, [write_header(&self.metadata, &entries), data].concat()).expect("written");
        let label = if self.config.is_some() { dir.path() } else { path.as_path() };
        let opened = format::open(&label.display().to_string(), &OpenOptions::default()).expect("a whole file");
        validate(&opened, &Cancel::new()).expect("read")
    }
}

fn flux() -> Value {
    json!({
        "_class_name": "FluxTransformer2DModel", "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 64,
        "num_attention_heads": 2, "joint_attention_dim": 96, "pooled_projection_dim": 48, "guidance_embeds": true,
        "in_channels": 16,
    })
}

fn qwen() -> Value {
    json!({
        "_class_name": "QwenImageTransformer2DModel", "num_layers": 1, "attention_head_dim": 64,
        "num_attention_heads": 2, "joint_attention_dim": 96, "in_channels": 16, "out_channels": 4,
    })
}

fn z_image() -> Value {
    json!({
        "_class_name": "ZImageTransformer2DModel", "dim": 384, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 3,
        "cap_feat_dim": 64, "in_channels": 16,
    })
}

/// What a draft, once changed, is found to be.
fn check(draft: &Draft, change: impl FnOnce(&mut Draft), level: Level, name: &str, part: &str) {
    let mut draft = draft.clone();
    change(&mut draft);
    let checks = draft.checks().expect("it is Nunchaku's");
    let hit = checks.iter().any(|c| c.level == level && c.name == name && c.detail.contains(part));
    let bad: Vec<&Check> = checks.iter().filter(|c| c.level != Level::Ok).collect();
    assert!(hit, "{name}: `{part}` in {bad:#?}");
}

fn error(draft: &Draft, change: impl FnOnce(&mut Draft), name: &str, part: &str) {
    check(draft, change, Level::Error, name, part);
}

fn warn(draft: &Draft, change: impl FnOnce(&mut Draft), name: &str, part: &str) {
    check(draft, change, Level::Warn, name, part);
}

#[test]
fn whole_files_pass() {
    for config in [flux(), qwen(), z_image()] {
        for precision in [Precision::Int4, Precision::Fp4] {
            let checks = Draft::new(config.clone(), precision).checks().expect("it is Nunchaku's");
            assert!(passes(&checks), "{config}: {checks:#?}");
            let names: Vec<&str> = checks.iter().map(|c| c.name).collect();
            for name in ["container", "metadata", "precision", "complete", "shapes", "scales", "numbers", "loads with"]
            {
                assert!(names.contains(&name), "{name} in {names:?}");
            }
        }
    }
}

#[test]
fn other_files_are_not_its_business() {
    let mut draft = Draft::new(flux(), Precision::Int4);
    draft.metadata = vec![("format".into(), "pt".into())];
    draft.arrays = vec![ones("a.weight", Storage::BF16, &[8, 8])];
    assert_eq!(draft.checks(), None);
}

#[test]
fn metadata_that_loaders_fail_on() {
    let flux = Draft::new(flux(), Precision::Int4);
    error(&flux, |d| d.metadata.clear(), "metadata", "'NoneType' object is not subscriptable");
    error(&flux, |d| d.metadata.retain(|(k, _)| k != "config"), "metadata", "`config` is missing");
    error(&flux, |d| d.set("config", "{"), "metadata", "`config` is not JSON");
    error(&flux, |d| d.metadata.retain(|(k, _)| k != "quantization_config"), "metadata", "KeyError");
    warn(&flux, |d| d.metadata.retain(|(k, _)| k != "model_class"), "metadata", "NunchakuFluxTransformer2dModel");
    warn(&flux, |d| d.set("model_class", "X"), "metadata", "`model_class` is X");
    error(&flux, |d| d.set("config", r#"{"_class_name":"Chroma"}"#), "metadata", "does not load");
    let quantization = |change: fn(&mut Value)| move |d: &mut Draft| d.change("quantization_config", change);
    error(&flux, quantization(|q| q["method"] = json!("awq")), "metadata", "not svdquant");
    error(&flux, quantization(|q| q["weight"] = json!({})), "metadata", "KeyError: 'weight'");
    error(&flux, quantization(|q| q["weight"]["group_size"] = json!(32)), "metadata", "groups of 32");
    error(&flux, quantization(|q| q["activation"]["group_size"] = json!(16)), "metadata", "not as `weight`");
    error(&flux, quantization(|q| q["rank"] = json!(32)), "metadata", "the branches have 16");
    error(&flux, quantization(|q| q["rank"] = Value::Null), "metadata", "loaders take 32");
    let z = Draft::new(z_image(), Precision::Int4);
    error(&z, quantization(|q| q["skip_refiners"] = json!(true)), "metadata", "skip_refiners is true");
}

#[test]
fn what_comfyui_fails_on() {
    let flux = Draft::new(flux(), Precision::Int4);
    error(&flux, |d| d.set("comfy_config", "{}"), "comfy", "will not load in ComfyUI");
    error(&flux, |d| d.metadata.retain(|(k, _)| k != "comfy_config"), "comfy", "missing");
    let comfy = |change: fn(&mut Value)| move |d: &mut Draft| d.change("comfy_config", change);
    error(&flux, comfy(|c| c["model_class"] = json!("Chroma")), "comfy", "knows no class Chroma");
    error(&flux, comfy(|c| c["model_class"] = json!("FluxSchnell")), "comfy", "FluxSchnell");
    error(&flux, comfy(|c| c["model_config"]["depth"] = json!(19)), "comfy", "depth is 19");
    // Qwen-Image's loaders read none.
    let mut qwen = Draft::new(qwen(), Precision::Int4);
    qwen.set("comfy_config", "nonsense");
    assert!(passes(&qwen.checks().expect("it is Nunchaku's")));
}

#[test]
fn a_precision_that_disagrees() {
    let flux = Draft::new(flux(), Precision::Int4);
    let other = metadata::quantization_config(Precision::Fp4, 16, None);
    error(&flux, |d| d.set("quantization_config", &other), "precision", "the scales' type says int4");
    warn(&flux, |d| d.name = "svdq-fp4_r16-flux.safetensors", "precision", "the file's name says fp4");
    error(&flux, |d| d.array("transformer_blocks.0.qkv_proj.wscales").1 = Storage::F16, "types", "both BF16 and F16");
    let mixed = |d: &mut Draft| {
        *d.array("transformer_blocks.0.qkv_proj.wscales") =
            ones("transformer_blocks.0.qkv_proj.wscales", Storage::F8_E4M3, &[8, 384]);
    };
    error(&flux, mixed, "precision", "a file has one of each");
}

#[test]
fn holes_and_strangers() {
    for config in [flux(), qwen(), z_image()] {
        let draft = Draft::new(config, Precision::Int4);
        for (name, ..) in &draft.arrays {
            let part = format!("`{name}` is missing");
            let mut draft = draft.clone();
            draft.remove(name);
            let missing = |c: &Check| c.level == Level::Error && c.name == "complete" && c.detail.contains(&part);
            assert!(draft.of_arrays().iter().any(missing), "{part}");
        }
        let stranger = |d: &mut Draft| d.arrays.push(ones("lora.weight", Storage::BF16, &[8]));
        error(&draft, stranger, "complete", "`lora.weight` is none of the model's");
    }
    let flux = Draft::new(flux(), Precision::Int4);
    let more = |d: &mut Draft| d.change("config", |c| c["num_layers"] = json!(19));
    error(&flux, more, "config", "says 19 `transformer_blocks`");
    warn(&flux, |_| {}, "config", "only …2DModelV2");
}

#[test]
fn shapes_and_types_that_do_not_fit() {
    let flux = Draft::new(flux(), Precision::Int4);
    let at = "transformer_blocks.0.qkv_proj";
    let replaced = |part: &str, storage, shape: &[u64]| {
        let name = format!("{at}.{part}");
        let array = ones(&name, storage, shape);
        move |d: &mut Draft| *d.array(&name) = array
    };
    error(&flux, replaced("qweight", Storage::U8, &[384, 64]), "container", "does not know");
    error(&flux, replaced("qweight", Storage::I8, &[64, 384]), "shapes", "has the shape [64, 384]");
    error(&flux, replaced("wscales", Storage::BF16, &[384, 2]), "shapes", "[384, 2]");
    error(&flux, replaced("lora_up", Storage::BF16, &[128, 16]), "shapes", "[128, 16]");
    error(&flux, replaced("bias", Storage::F32, &[384]), "types", "is F32");
    error(&flux, replaced("bias", Storage::BF16, &[128]), "shapes", "[128], not [384]");
    let norm = |d: &mut Draft| {
        let name = "transformer_blocks.0.norm1.linear.wzeros";
        *d.array(name) = ones(name, Storage::BF16, &[16, 768]);
    };
    error(&flux, norm, "shapes", "not of 16 bits [2, 768]");
    let empty = |d: &mut Draft| d.arrays.push(ones("nothing", Storage::BF16, &[0]));
    error(&flux, empty, "container", "is empty");
    let eight = |d: &mut Draft| *d.array("proj_out.weight") = ones("proj_out.weight", Storage::F8_E4M3, &[16, 128]);
    error(&flux, eight, "leftovers", "proj_out.weight` is F8_E4M3");
}

#[test]
fn second_scales() {
    let int4 = Draft::new(flux(), Precision::Int4);
    let at = "transformer_blocks.0.mlp_fc1";
    let tensor = |d: &mut Draft| d.arrays.push(ones(&format!("{at}.wtscale"), Storage::BF16, &[1]));
    error(&int4, tensor, "scales", "int4 has none");
    error(&int4, tensor, "complete", "wtscale` is none of the model's");
    let fp4 = Draft::new(flux(), Precision::Fp4);
    error(&fp4, |d| d.remove(&format!("{at}.wcscales")), "scales", "neither `wtscale` nor `wcscales`");
    let zero = |d: &mut Draft| {
        tensor(d);
        d.array(&format!("{at}.wtscale")).3.fill(0);
    };
    error(&fp4, zero, "numbers", "must be above zero");
    let z = Draft::new(z_image(), Precision::Fp4);
    let ignored = |d: &mut Draft| {
        d.remove("layers.0.attention.to_qkv.wcscales");
        d.arrays.push(ones("layers.0.attention.to_qkv.wtscale", Storage::BF16, &[1]));
    };
    error(&z, ignored, "scales", "never applied");
}

#[test]
fn numbers_that_cannot_be() {
    let flux = Draft::new(flux(), Precision::Int4);
    let at = "single_transformer_blocks.0";
    let set =
        |name: String, bits: u16| move |d: &mut Draft| d.array(&name).3[10..12].copy_from_slice(&bits.to_le_bytes());
    error(&flux, set(format!("{at}.mlp_fc1.lora_up"), 0x7fc0), "numbers", "has NaN at 5");
    error(&flux, set(format!("{at}.mlp_fc1.smooth"), 0), "numbers", "has 0 at 5, where it must be above zero");
    error(&flux, set(format!("{at}.mlp_fc1.wscales"), 0xbf80), "numbers", "has -1 at 5");
    error(&flux, set(format!("{at}.out_proj.bias"), 0x3f80), "numbers", "would be added twice");
}

#[test]
fn lite_folders() {
    let layer = "transformer_blocks.0.attn.to_q";
    let awq = "transformer_blocks.0.norm1.linear";
    let make = |precision: Precision| {
        let terms = Terms { precision, rank: 16, skip_refiners: false };
        let of = |name: &str, kind, shape: [u64; 2]| {
            table::Layer { name: name.into(), kind, shape: shape.to_vec() }.arrays(terms, false)
        };
        let codes = of(layer, Kind::Codes { bias: true }, [128, 256]);
        let all =
            codes.into_iter().filter(|(n, ..)| !n.ends_with("_orig")).chain(of(awq, Kind::Modulation, [768, 128]));
        let mut arrays: Vec<_> = all.map(|(n, t, s)| ones(&n, t, &s)).collect();
        let (name, group) = match precision {
            Precision::Int4 => ("int4", 64),
            Precision::Fp4 => {
                arrays.push(ones(&format!("{layer}.wcscales"), Storage::BF16, &[128]));
                arrays.push(ones(&format!("{layer}.wtscale"), Storage::BF16, &[1]));
                ("nvfp4", 16)
            }
        };
        let quantization = json!({
            "quant_method": "nunchaku_lite", "compute_dtype": "bfloat16",
            "svdq_w4a4": {"precision": name, "group_size": group, "rank": 16, "targets": [layer]},
            "awq_w4a16": {"precision": "int4", "group_size": 64, "targets": [awq]},
        });
        let config = Some(json!({"_class_name": "FluxTransformer2DModel", "quantization_config": quantization}));
        Draft { name: "", metadata: Vec::new(), arrays, config }
    };
    for precision in [Precision::Int4, Precision::Fp4] {
        let checks = make(precision).checks().expect("it is Nunchaku's");
        assert!(passes(&checks), "{checks:#?}");
    }
    let int4 = make(Precision::Int4);
    for (name, ..) in int4.arrays.iter().filter(|(n, ..)| !n.ends_with(".bias")) {
        error(&int4, |d| d.remove(name), "complete", &format!("`{name}` is missing"));
    }
    let fp4 = make(Precision::Fp4);
    error(&fp4, |d| d.remove(&format!("{layer}.wtscale")), "complete", "wtscale` is missing");
    let section = |key: &'static str, value: Value| {
        move |d: &mut Draft| {
            if let Some(config) = &mut d.config {
                config["quantization_config"]["svdq_w4a4"][key] = value;
            }
        }
    };
    error(&int4, section("group_size", json!(16)), "config", "group_size is not 64");
    error(&int4, section("rank", json!(8)), "config", "rank 8");
    error(&int4, section("rank", json!(32)), "shapes", "not BF16 [256, 32]");
    error(&int4, section("targets", json!([])), "complete", "its layer is no target");
    error(&int4, section("precision", json!("nvfp4")), "shapes", "not F8_E4M3");
    let more = |d: &mut Draft| d.arrays.push(ones(&format!("{layer}.smooth_factor_orig"), Storage::BF16, &[256]));
    warn(&int4, more, "complete", "Lite has none");
}
