use super::*;
use crate::core::model::testing::model_of;
use crate::core::{Family as Target, Settings, Storage};
use crate::target::nunchaku::sheet::Sheet;

/// A model of a class with tensors of those shapes, with no bytes behind it.
fn model(class: &str, tensors: &[(String, Vec<u64>)]) -> Model {
    let mut all = model_of(&tensors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    for tensor in &mut all.tensors {
        let (_, shape) = tensors.iter().find(|(name, _)| *name == tensor.name).expect("given");
        tensor.shape.clone_from(shape);
        tensor.bytes = 2 * shape.iter().product::<u64>();
    }
    all.config = Some(serde_json::json!({"_class_name": class}));
    all
}

/// A linear layer, with a bias.
fn linear(name: &str, rows: u64, cols: u64) -> Vec<(String, Vec<u64>)> {
    vec![(format!("{name}.weight"), vec![rows, cols]), (format!("{name}.bias"), vec![rows])]
}

fn vector(name: &str, len: u64) -> Vec<(String, Vec<u64>)> {
    vec![(format!("{name}.weight"), vec![len])]
}

/// FLUX.1-dev in full size: 19 and 38 blocks of 3072.
fn flux() -> Vec<(String, Vec<u64>)> {
    const D: u64 = 3072;
    let mut all = Vec::new();
    for (name, rows, cols) in [("x_embedder", D, 64), ("context_embedder", D, 4096), ("proj_out", 64, D)] {
        all.extend(linear(name, rows, cols));
    }
    all.extend(linear("norm_out.linear", 2 * D, D));
    for (name, width) in [("timestep", 256), ("guidance", 256), ("text", 768)] {
        all.extend(linear(&format!("time_text_embed.{name}_embedder.linear_1"), D, width));
        all.extend(linear(&format!("time_text_embed.{name}_embedder.linear_2"), D, D));
    }
    for i in 0..19 {
        let at = |layer: &str| format!("transformer_blocks.{i}.{layer}");
        for name in ["norm1.linear", "norm1_context.linear"] {
            all.extend(linear(&at(name), 6 * D, D));
        }
        for name in ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"] {
            all.extend(linear(&at(&format!("attn.{name}")), D, D));
        }
        for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
            all.extend(vector(&at(&format!("attn.{name}")), 128));
        }
        for name in ["ff", "ff_context"] {
            all.extend(linear(&at(&format!("{name}.net.0.proj")), 4 * D, D));
            all.extend(linear(&at(&format!("{name}.net.2")), D, 4 * D));
        }
    }
    for i in 0..38 {
        let at = |layer: &str| format!("single_transformer_blocks.{i}.{layer}");
        all.extend(linear(&at("norm.linear"), 3 * D, D));
        all.extend(linear(&at("proj_mlp"), 4 * D, D));
        all.extend(linear(&at("proj_out"), D, 5 * D));
        for name in ["to_q", "to_k", "to_v"] {
            all.extend(linear(&at(&format!("attn.{name}")), D, D));
        }
        for name in ["norm_q", "norm_k"] {
            all.extend(vector(&at(&format!("attn.{name}")), 128));
        }
    }
    all
}

/// Qwen-Image in full size: 60 blocks of 3072.
fn qwen() -> Vec<(String, Vec<u64>)> {
    const D: u64 = 3072;
    let mut all = Vec::new();
    all.extend(linear("img_in", D, 64));
    all.extend(linear("txt_in", D, 3584));
    all.extend(vector("txt_norm", 3584));
    all.extend(linear("time_text_embed.timestep_embedder.linear_1", D, 256));
    all.extend(linear("time_text_embed.timestep_embedder.linear_2", D, D));
    all.extend(linear("norm_out.linear", 2 * D, D));
    all.extend(linear("proj_out", 64, D));
    for i in 0..60 {
        let at = |layer: &str| format!("transformer_blocks.{i}.{layer}");
        for name in ["img_mod.1", "txt_mod.1"] {
            all.extend(linear(&at(name), 6 * D, D));
        }
        for name in ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"] {
            all.extend(linear(&at(&format!("attn.{name}")), D, D));
        }
        for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
            all.extend(vector(&at(&format!("attn.{name}")), 128));
        }
        for name in ["img_mlp", "txt_mlp"] {
            all.extend(linear(&at(&format!("{name}.net.0.proj")), 4 * D, D));
            all.extend(linear(&at(&format!("{name}.net.2")), D, 4 * D));
        }
    }
    all
}

/// Z-Image in full size: 30 blocks of 3840, and 2 refiners of each kind.
fn z_image() -> Vec<(String, Vec<u64>)> {
    const D: u64 = 3840;
    let mut all = Vec::new();
    all.extend(linear("all_x_embedder.2-1", D, 64));
    all.extend(linear("all_final_layer.2-1.linear", 64, D));
    all.extend(linear("all_final_layer.2-1.adaLN_modulation.1", D, 256));
    all.extend(vector("cap_embedder.0", 2560));
    all.extend(linear("cap_embedder.1", D, 2560));
    all.extend(linear("t_embedder.mlp.0", 1024, 256));
    all.extend(linear("t_embedder.mlp.2", 256, 1024));
    all.extend([("x_pad_token".to_owned(), vec![1, D]), ("cap_pad_token".to_owned(), vec![1, D])]);
    let mut block = |at: String, modulated: bool| {
        for name in ["to_q", "to_k", "to_v", "to_out.0"] {
            all.push((format!("{at}.attention.{name}.weight"), vec![D, D]));
        }
        for (name, rows, cols) in [("w1", 10_240, D), ("w2", D, 10_240), ("w3", 10_240, D)] {
            all.push((format!("{at}.feed_forward.{name}.weight"), vec![rows, cols]));
        }
        for (name, len) in [
            ("attention.norm_q", 128),
            ("attention.norm_k", 128),
            ("attention_norm1", D),
            ("attention_norm2", D),
            ("ffn_norm1", D),
            ("ffn_norm2", D),
        ] {
            all.extend(vector(&format!("{at}.{name}"), len));
        }
        if modulated {
            all.extend(linear(&format!("{at}.adaLN_modulation.0"), 4 * D, 256));
        }
    };
    for i in 0..30 {
        block(format!("layers.{i}"), true);
    }
    for i in 0..2 {
        block(format!("noise_refiner.{i}"), true);
        block(format!("context_refiner.{i}"), false);
    }
    all
}

fn settings(dtype: &str) -> Settings {
    let mut settings = Settings::new(Target::Nunchaku);
    settings.defaults.dtype = Some(crate::core::Dtype::new(dtype));
    settings
}

#[test]
fn full_size_models_have_as_many_arrays_as_the_published_files() {
    fn check(class: &str, tensors: &[(String, Vec<u64>)], dtype: &str, arrays: usize) {
        let (model, settings) = (model(class, tensors), settings(dtype));
        let rows = Sheet::new(&model, &settings).expect("layers").rows().expect("rows");
        assert_eq!(rows.iter().map(|r| r.parts.len()).sum::<usize>(), arrays, "{class} {dtype}");
    }
    check("FluxTransformer2DModel", &flux(), "int4", 2604);
    check("QwenImageTransformer2DModel", &qwen(), "int4", 4093);
    check("ZImageTransformer2DModel", &z_image(), "int4", 1099);
    // One more for each layer with a branch.
    check("FluxTransformer2DModel", &flux(), "nvfp4", 2604 + 19 * 8 + 38 * 4);
    check("ZImageTransformer2DModel", &z_image(), "nvfp4", 1099 + 34 * 4);
}

/// Sources and slices of a row, in words.
fn made_of(model: &Model, rows: &[crate::core::Row], name: &str) -> String {
    let row = rows.iter().find(|r| r.name == name).expect(name);
    let source = |slice: &Slice| {
        let of = &model.tensor(row.sources[slice.source]).name;
        let cols = slice.cols.as_ref().map(|c| format!("[{}..{}]", c.start, c.end)).unwrap_or_default();
        format!("{}{cols}", of.rsplit_once(".0.").map_or(of.as_str(), |(_, rest)| rest))
    };
    let list = |slices: &[Slice]| slices.iter().map(source).collect::<Vec<_>>().join(" ");
    format!("{} + {}", list(&row.slices), list(&row.bias))
}

#[test]
fn layers_are_made_of_those_that_diffusers_has() {
    let (model, settings) = (model("FluxTransformer2DModel", &flux()), settings("int4"));
    let rows = Sheet::new(&model, &settings).expect("layers").rows().expect("rows");
    let check = |name: &str, expected: &str| assert_eq!(made_of(&model, &rows, name), expected, "{name}");
    check(
        "transformer_blocks.0.qkv_proj.weight",
        "attn.to_q.weight attn.to_k.weight attn.to_v.weight + attn.to_q.bias attn.to_k.bias attn.to_v.bias",
    );
    check("transformer_blocks.0.mlp_fc2.weight", "ff.net.2.weight + ff.net.2.bias");
    check("single_transformer_blocks.0.norm_q.weight", " + ");
    check("single_transformer_blocks.0.out_proj.weight", "proj_out.weight[0..3072] + ");
    check("single_transformer_blocks.0.mlp_fc2.weight", "proj_out.weight[3072..15360] + proj_out.bias");
}

#[test]
fn refiners_that_are_excluded_stay_under_the_names_that_the_loader_has() {
    let model = model("ZImageTransformer2DModel", &z_image());
    let mut settings = settings("int4");
    settings.exclude.push(crate::core::rules::Pattern::new("_refiner").expect("a pattern"));
    let sheet = Sheet::new(&model, &settings).expect("layers");
    assert_eq!(sheet.skips_refiners(), Some(true));
    let rows = sheet.rows().expect("rows");
    let names: Vec<&str> = rows
        .iter()
        .map(|r| r.name.as_str())
        .filter(|n| n.starts_with("noise_refiner.0.") && !n.contains("norm"))
        .collect();
    assert_eq!(
        names,
        [
            "noise_refiner.0.adaLN_modulation.0.bias",
            "noise_refiner.0.adaLN_modulation.0.weight",
            "noise_refiner.0.attention.to_q.weight",
            "noise_refiner.0.attention.to_k.weight",
            "noise_refiner.0.attention.to_v.weight",
            "noise_refiner.0.attention.to_out.0.weight",
            "noise_refiner.0.feed_forward.net.0.proj.weight",
            "noise_refiner.0.feed_forward.net.2.weight",
        ]
    );
    assert!(sheet.obstacles(&rows).is_ok());
}

#[test]
fn what_is_missing_is_named() {
    fn check(without: &str, said: &str) {
        let mut tensors = flux();
        tensors.retain(|(name, _)| name != without);
        let (model, settings) = (model("FluxTransformer2DModel", &tensors), settings("int4"));
        let error = Sheet::new(&model, &settings).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(said), "{without}: {error}");
    }
    check("transformer_blocks.3.attn.to_k.weight", "`transformer_blocks.3.attn.to_k.weight` is missing");
    check("transformer_blocks.3.attn.to_k.bias", "some parts of `transformer_blocks.3.qkv_proj` have a bias");
}

#[test]
fn a_layer_that_stays_a_float_is_an_obstacle_unless_the_loader_takes_it() {
    let model = model("FluxTransformer2DModel", &flux());
    let mut settings = settings("int4");
    settings.exclude.push(crate::core::rules::Pattern::new(r"blocks\.0\.attn\.to_out").expect("a pattern"));
    let why = |settings: &Settings| {
        let sheet = Sheet::new(&model, settings).expect("layers");
        sheet.obstacles(&sheet.rows().expect("rows")).err().map(|e| e.to_string())
    };
    let said = why(&settings).expect("an obstacle");
    assert!(said.contains("transformer_blocks.0.out_proj.weight") && said.contains("excluded by"), "{said}");
    settings.nunchaku.lite = true;
    assert_eq!(why(&settings), None);
}

/// Settings with a rule for a layer.
fn with_rule(lite: bool, pattern: &str, patch: crate::core::Patch) -> Settings {
    let mut settings = settings("int4");
    settings.nunchaku.lite = lite;
    let pattern = crate::core::rules::Pattern::new(pattern).expect("a pattern");
    settings.rules.push(crate::core::Rule { pattern, patch, reason: None, enabled: true });
    settings
}

#[test]
fn a_rule_gives_a_layer_what_its_loader_takes() {
    let model = model("FluxTransformer2DModel", &flux());
    let awq = || crate::core::Patch { dtype: Some(crate::core::Dtype::new("awq_int4")), ..Default::default() };
    let include = || crate::core::Patch { keep: Some(false), ..Default::default() };
    let check = |lite: bool, pattern: &str, patch, name: &str, to: &str, is_obstacle: bool| {
        let settings = with_rule(lite, pattern, patch);
        let sheet = Sheet::new(&model, &settings).expect("layers");
        let rows = sheet.rows().expect("rows");
        let row = rows.iter().find(|r| r.name == name).expect(name);
        assert_eq!((row.to.as_str(), sheet.obstacles(&rows).is_err()), (to, is_obstacle), "{lite} {pattern}");
    };
    // Single files have a branch there, whatever a rule says; Lite takes either.
    check(false, "out_proj", awq(), "single_transformer_blocks.0.out_proj.weight", "BF16", true);
    check(true, "proj_out", awq(), "single_transformer_blocks.0.proj_out.weight", "awq_int4", false);
    // To be quantized is not to be quantized otherwise.
    check(true, "norm1.linear", include(), "transformer_blocks.0.norm1.linear.weight", "awq_int4", false);
}

#[test]
fn without_fusion_layers_keep_their_names_and_modulations_their_order() {
    let model = model("FluxTransformer2DModel", &flux());
    let mut settings = settings("nvfp4");
    settings.nunchaku.lite = true;
    let rows = Sheet::new(&model, &settings).expect("layers").rows().expect("rows");
    let check = |name: &str, to: &str, arrays: &str| {
        let row = rows.iter().find(|r| r.name == name).expect(name);
        let layer = crate::core::name::layer(name);
        let parts: Vec<&str> = row.parts.iter().filter_map(|p| p.name.strip_prefix(layer)?.strip_prefix('.')).collect();
        assert_eq!((row.to.as_str(), parts.join(" ").as_str()), (to, arrays), "{name}");
    };
    check(
        "transformer_blocks.0.attn.to_q.weight",
        "nvfp4",
        "qweight wscales smooth_factor proj_down proj_up bias wtscale wcscales",
    );
    check("transformer_blocks.0.norm1.linear.weight", "awq_int4", "qweight wscales wzeros bias");
    check("context_embedder.weight", "BF16", "weight");
    assert!(rows.iter().any(|r| r.name == "context_embedder.bias"));
    assert!(!rows.iter().any(|r| r.name == "transformer_blocks.0.attn.to_q.bias"));
    assert!(rows.iter().filter(|r| r.excluded).flat_map(|r| &r.parts).all(|p| p.storage == Storage::BF16));
}
