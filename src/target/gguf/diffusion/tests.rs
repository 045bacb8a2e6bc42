use super::*;
use crate::core::model::testing::model_of;

/// A model of tensors of those names, types and shapes.
fn model(tensors: &[(&str, Storage, &[u64])]) -> Model {
    let mut model = model_of(&tensors.iter().map(|t| t.0).collect::<Vec<_>>());
    for (name, storage, shape) in tensors {
        let id = model.find(name).expect("a tensor");
        let tensor = &mut model.tensors[id.index()];
        (tensor.storage, tensor.shape) = (*storage, shape.to_vec());
    }
    model
}

/// Marks of an architecture in the original layout, and tensors besides.
fn with(marks: &[&str], more: &[(&str, Storage, &[u64])]) -> Diffusion {
    let mut all: Vec<(&str, Storage, &[u64])> =
        marks.iter().filter(|m| more.iter().all(|t| t.0 != **m)).map(|m| (*m, Storage::BF16, &[64, 64][..])).collect();
    all.extend(more);
    map(&model(&all), Names::Original).expect("a model").expect("a diffusion model")
}

fn item<'d>(diffusion: &'d Diffusion, name: &str) -> &'d Item {
    let found = diffusion.items.iter().find(|i| i.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", diffusion.items.iter().map(|i| &i.name).collect::<Vec<_>>()))
}

const FLUX: &[&str] = &[
    "img_in.weight",
    "txt_in.weight",
    "vector_in.in_layer.weight",
    "double_blocks.0.img_mod.lin.weight",
    "single_blocks.0.modulation.lin.weight",
    "final_layer.linear.weight",
];
const WAN: &[&str] = &["patch_embedding.weight", "time_embedding.0.weight", "blocks.0.ffn.0.weight", "head.modulation"];
const UNET: &[&str] = &[
    "input_blocks.0.0.weight",
    "time_embed.0.weight",
    "input_blocks.1.0.in_layers.2.weight",
    "output_blocks.0.0.in_layers.2.weight",
    "out.2.weight",
];

#[test]
fn names_tell_the_architecture() {
    fn check(names: &[&str], expected: &str) {
        assert_eq!(with(names, &[]).architecture.name, expected, "{names:?}");
    }
    check(FLUX, "flux");
    check(WAN, "wan");
    check(UNET, "sd1");
    check(&[UNET, &["label_emb.0.0.weight"]].concat(), "sdxl");
    check(&["txt_norm.weight", "img_in.weight", "transformer_blocks.0.img_mod.1.weight"], "qwen_image");
    check(&["patchify_proj.weight", "adaln_single.linear.weight", "transformer_blocks.0.attn1.q_norm.weight"], "ltxv");
    check(&["caption_projection.0.linear.weight", "double_stream_blocks.0.block.adaLN_modulation.1.weight"], "hidream");
    check(&["x_embedder.proj.1.weight", "t_embedding_norm.weight", "blocks.0.mlp.layer1.weight"], "cosmos");
}

#[test]
fn other_models_are_none() {
    let none = map(&model_of(&["model.embed_tokens.weight", "model.norm.weight"]), Names::Original);
    assert!(none.expect("no error").is_none());
    let mochi = ["x_embedder.proj.weight", "t5_y_embedder.to_kv.weight", "t5_yproj.weight", "blocks.0.mod_x.weight"];
    let message = map(&model_of(&mochi), Names::Original).expect_err("none has it").to_string();
    assert!(message.contains("mochi") && message.contains("qwen_image"), "{message}");
}

#[test]
fn what_is_not_quantized_has_the_type_of_the_converter() {
    fn check(marks: &[&str], name: &str, storage: Storage, shape: &[u64], expected: Type) {
        let diffusion = with(marks, &[(name, storage, shape)]);
        assert_eq!(item(&diffusion, name).from, expected, "{name} of {storage:?} {shape:?}");
    }
    use Storage::{BF16, F8_E4M3, F16, F32};
    check(FLUX, "img_in.bias", BF16, &[3072], Type::F32);
    check(FLUX, "img_in.bias", F32, &[3072], Type::F32);
    check(FLUX, "img_in.bias", F16, &[3072], Type::F16);
    check(FLUX, "img_in.bias", F8_E4M3, &[3072], Type::F16);
    check(FLUX, "img_in.weight", BF16, &[32, 32], Type::F32);
    check(FLUX, "img_in.weight", F16, &[32, 32], Type::F16);
    check(FLUX, "img_in.weight", BF16, &[32, 33], Type::BF16);
    check(FLUX, "img_in.weight", F32, &[64, 64], Type::F16);
    check(FLUX, "img_in.weight", F8_E4M3, &[64, 64], Type::F16);
    check(WAN, "blocks.0.modulation", BF16, &[1, 6, 1536], Type::F32);
    check(WAN, "head.modulation", F32, &[1, 2, 1536], Type::F32);
    check(WAN, "head.modulation", F16, &[1, 2, 1536], Type::F16);
    check(WAN, "patch_embedding.weight", BF16, &[64, 16, 1, 2, 2], Type::F32);
    check(WAN, "patch_embedding.weight", F16, &[64, 16, 1, 2, 2], Type::F32);
}

#[test]
fn only_the_unets_are_laid_out_anew() {
    fn check(marks: &[&str], name: &str, shape: &[u64], expected: &[u64]) {
        let diffusion = with(marks, &[(name, Storage::F16, shape)]);
        let item = item(&diffusion, name);
        assert_eq!(item.shape, expected, "{name} {shape:?}");
        let key = Pair::new(
            &format!("comfy.gguf.orig_shape.{name}"),
            &shape.iter().map(|d| *d as i32).collect::<Vec<_>>()[..],
        );
        assert_eq!(diffusion.keys().contains(&key), shape != expected, "{name} {shape:?}");
    }
    check(UNET, "input_blocks.0.0.weight", &[320, 4, 3, 3], &[45, 256]);
    check(UNET, "input_blocks.1.1.proj_in.weight", &[320, 320], &[400, 256]);
    check(UNET, "time_embed.0.weight", &[1280, 256], &[1280, 256]);
    check(UNET, "time_embed.0.bias", &[1280], &[1280]);
    check(UNET, "out.2.weight", &[4, 10, 3, 3], &[4, 10, 3, 3]);
    check(UNET, "out.2.weight", &[16, 16], &[16, 16]);
    check(FLUX, "img_in.weight", &[3072, 64], &[3072, 64]);
}

#[test]
fn keys_come_in_the_converter_s_order() {
    let diffusion = with(UNET, &[("input_blocks.0.0.weight", Storage::F16, &[320, 4, 3, 3])]);
    let keys: Vec<String> = diffusion.keys().iter().map(|p| p.name().into_owned()).collect();
    assert_eq!(
        keys[..4],
        [
            "general.architecture",
            "general.quantization_version",
            "general.file_type",
            "comfy.gguf.orig_shape.input_blocks.0.0.weight"
        ]
    );
}

#[test]
fn a_checkpoint_loses_its_prefix_and_its_other_models() {
    let prefix = "model.diffusion_model.";
    let mut names: Vec<String> = FLUX.iter().map(|name| format!("{prefix}{name}")).collect();
    names.push("first_stage_model.decoder.conv_in.weight".into());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let diffusion = map(&model_of(&names), Names::Original).expect("a model").expect("a diffusion model");
    let mut found: Vec<&str> = diffusion.items.iter().map(|i| i.name.as_str()).collect();
    found.sort_unstable();
    let mut expected = FLUX.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(diffusion.warnings[0].starts_with("1 tensors"), "{:?}", diffusion.warnings);
}

/// One block of diffusers' Flux.
const DIFFUSERS: &[&str] = &[
    "x_embedder.weight",
    "context_embedder.weight",
    "time_text_embed.text_embedder.linear_1.weight",
    "transformer_blocks.0.norm1_context.linear.weight",
    "transformer_blocks.0.attn.to_q.weight",
    "transformer_blocks.0.attn.to_k.weight",
    "transformer_blocks.0.attn.to_v.weight",
    "single_transformer_blocks.0.norm.linear.weight",
    "norm_out.linear.weight",
    "proj_out.weight",
];

#[test]
fn diffusers_layers_are_fused_and_renamed() {
    let model = model_of(DIFFUSERS);
    let diffusion = map(&model, Names::Original).expect("a model").expect("a diffusion model");
    let fused = item(&diffusion, "double_blocks.0.img_attn.qkv.weight");
    assert_eq!((fused.shape.as_slice(), fused.slices.len()), (&[192, 64][..], 3));
    let parts: Vec<&str> = fused.sources.iter().map(|id| model.tensor(*id).name.as_str()).collect();
    assert_eq!(parts, DIFFUSERS[4..7]);
    // The halves change places.
    let swapped = item(&diffusion, "final_layer.adaLN_modulation.1.weight");
    assert_eq!(swapped.slices.iter().map(|s| s.rows.clone()).collect::<Vec<_>>(), [32..64, 0..32]);
    assert!(item(&diffusion, "img_in.weight").slices.is_empty());
}

#[test]
fn names_that_are_kept_are_judged_by_the_original_ones() {
    let diffusion = map(&model_of(DIFFUSERS), Names::Source).expect("a model").expect("a diffusion model");
    assert_eq!(diffusion.items.len(), DIFFUSERS.len());
    assert_eq!(diffusion.judged["x_embedder.weight"], "img_in.weight");
    assert_eq!(diffusion.judged["transformer_blocks.0.attn.to_k.weight"], "double_blocks.0.img_attn.qkv.weight");
    let prefixed: Vec<String> = FLUX.iter().map(|name| format!("model.diffusion_model.{name}")).collect();
    let names: Vec<&str> = prefixed.iter().map(String::as_str).chain(["vae.conv.weight"]).collect();
    let diffusion = map(&model_of(&names), Names::Source).expect("a model").expect("a diffusion model");
    assert_eq!(diffusion.judged["model.diffusion_model.img_in.weight"], "img_in.weight");
    assert!(diffusion.items.len() == FLUX.len() && diffusion.items.iter().all(|i| i.name.starts_with("model.")));
}

#[test]
fn a_part_that_is_missing_or_a_name_that_is_too_long_is_an_error() {
    fn check(names: &[&str], expected: &str) {
        let message = map(&model_of(names), Names::Original).expect_err("no model").to_string();
        assert!(message.contains(expected), "{message}");
    }
    let lacking: Vec<&str> = DIFFUSERS.iter().copied().filter(|n| !n.ends_with("to_k.weight")).collect();
    check(&lacking, "transformer_blocks.0.attn.to_k.weight is missing");
    let long = format!("{}.weight", "x".repeat(121));
    check(&[FLUX, &[long.as_str()]].concat(), "a name of 128 bytes, and readers take 127");
    let allowed = format!("{}.weight", "x".repeat(120));
    assert!(map(&model_of(&[FLUX, &[allowed.as_str()]].concat()), Names::Original).is_ok());
}
