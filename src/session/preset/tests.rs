//! Presets hold to sdnq: every decision is compared with a port of its own matching over its own lists.
mod comfy;

use regex::Regex;

use super::*;
use crate::core::Settings;

/// preset, classes, sdnq's own patterns (`common.py` of sdnq 0.2.8).
#[rustfmt::skip]
const SKIP: &[(&str, &[&str], &[&str])] = &[
    ("common", &[], &[".time_embed", ".context_embedder", ".condition_embedder", ".x_embedder", ".t_embedder", ".y_embedder", ".proj_in", ".emb_in", ".txt_in", ".img_in", ".vid_in", ".proj_out", ".norm_out", ".emb_out", ".txt_out", ".img_out", ".vid_out", ".final_layer", "multi_modal_projector", "time_text_embed", "patch_embedding", "patch_embed", "patch_emb", "lm_head", "wte"]),
    ("flux", &["FluxTransformer2DModel", "LongCatImageTransformer2DModel"], &["single_transformer_blocks.0.norm.linear.weight", "time_text_embed", "time_embed", "context_embedder", "x_embedder", ".proj_out", "norm_out"]),
    ("flux2", &["Flux2Transformer2DModel"], &["double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation", "time_guidance_embed", "context_embedder", "x_embedder", ".proj_out", "norm_out"]),
    ("chroma", &["ChromaTransformer2DModel"], &["distilled_guidance_layer", "time_text_embed", "context_embedder", "x_embedder", ".proj_out", "norm_out"]),
    ("qwen-image", &["QwenImageTransformer2DModel"], &["transformer_blocks.0.img_mod.1.weight", "time_text_embed", "txt_in", "img_in", "proj_out", "norm_out"]),
    ("wan", &["WanTransformer3DModel", "ChronoEditTransformer3DModel"], &["scale_shift_table", "patch_embedding", "condition_embedder", "proj_out", "norm_out"]),
    ("longcat-video", &["LongCatVideoTransformer3DModel"], &["blocks.0.adaLN_modulation.1.weight", "x_embedder", "t_embedder", "y_embedder", "final_layer"]),
    ("ltx2", &["LTX2VideoTransformer3DModel"], &["audio_time_embed", "time_embed", "audio_caption_projection", "caption_projection", "proj_in", "audio_proj_in", "proj_out", "audio_proj_out", "av_cross_attn_audio_scale_shift", "av_cross_attn_audio_v2a_gate", "av_cross_attn_video_a2v_gate", "av_cross_attn_video_scale_shift"]),
    ("lumina2", &["Lumina2Transformer2DModel"], &["layers.0.norm1.linear.weight", "time_caption_embed", "x_embedder", "norm_out"]),
    ("z-image", &["ZImageTransformer2DModel"], &["layers.0.adaLN_modulation.0.weight", "t_embedder", "cap_embedder", "siglip_embedder", "all_x_embedder", "all_final_layer"]),
    ("ideogram4", &["Ideogram4Transformer2DModel"], &["layers.0.adaln_modulation.weight", "input_proj", "llm_cond_proj", "llm_cond_norm", "final_layer", "t_embedding", "adaln_proj", "embed_image_indicator"]),
    ("cosmos", &["CosmosTransformer3DModel"], &["transformer_blocks.0.norm*", "patch_embed", "time_embed", "norm_out", "proj_out", "crossattn_proj"]),
    ("glm-image", &["GlmImageTransformer2DModel"], &["transformer_blocks.0.norm1.linear.weight", "image_projector", "glyph_projector", "prior_projector", "time_condition_embed", "norm_out", "proj_out"]),
    ("glm-image-ar", &["GlmImageForConditionalGeneration"], &["lm_head", "patch_embed", "embeddings", "embed_tokens", "vqmodel"]),
    ("hunyuan-image3", &["HunyuanImage3ForCausalMM"], &["lm_head", "patch_embed", "time_embed", "time_embed_2", "final_layer", "wte", "ln_f", "timestep_emb", "vae", "vision_aligner", "head", "post_layernorm", "embeddings"]),
    ("emu3", &["Emu3ForCausalLM"], &["lm_head", "vq_model", "tokenizer"]),
    ("gemma3n", &["Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"], &["lm_head", "correction_coefs", "prediction_coefs", "embedding_projection"]),
    ("gemma4", &["Gemma4ForConditionalGeneration"], &["lm_head", "embed_audio", "embed_vision", "patch_embedder", "embed_tokens", "subsample_conv_projection", "output_proj"]),
    ("moondream", &["MoondreamModel", "HfMoondream"], &["lm_head", "region", "wte", "post_ln", "proj_mlp", "patch_emb", "pos_emb"]),
    ("seedvr", &["NaDiT", "NaDiTUpscaler"], &[".emb_in", ".txt_in", ".vid_in", ".emb_scale", ".vid_out", ".vid_out_norm", ".vid_out_ada"]),
    ("hidream-o1", &["HiDreamO1Qwen3VLTransformer"], &["lm_head", "embed_tokens", "x_embedder", "t_embedder1", "final_layer2", "patch_embed", "pos_embed"]),
];
/// sdnq's `utils.check_param_name_in`.
pub(in crate::session) fn check_param_name_in(name: &str, list: &[&str]) -> bool {
    list.iter().any(|param| {
        if let Some(prefix) = param.strip_prefix('.') {
            return name.starts_with(prefix);
        }
        // `re.match` looks from the start of the text.
        let pattern = param.replace(".*", "\\.*").replace('*', ".*");
        name == *param
            || name.split('.').any(|segment| segment == *param)
            || (param.contains('*') && Regex::new(&format!("^(?:{pattern})")).expect("a pattern").is_match(name))
    })
}

/// Names as they stand in checkpoints, kept and not, of all families.
const NAMES: &[&str] = &[
    "",
    "weight",
    "x_embedder.weight",
    "x_embedder.bias",
    "context_embedder.weight",
    "context_embedder_2.weight",
    "time_text_embed.timestep_embedder.linear_1.weight",
    "time_text_embed.guidance_embedder.linear_2.weight",
    "transformer_blocks.0.norm1.linear.weight",
    "transformer_blocks.0.norm1_context.linear.weight",
    "transformer_blocks.10.norm1.linear.weight",
    "transformer_blocks.0.attn.norm_q.weight",
    "transformer_blocks.0.attn.to_q.weight",
    "transformer_blocks.0.attn.add_k_proj.weight",
    "transformer_blocks.18.ff.net.0.proj.weight",
    "transformer_blocks.0.img_mod.1.weight",
    "transformer_blocks.1.img_mod.1.weight",
    "transformer_blocks.0.txt_mod.1.weight",
    "single_transformer_blocks.0.norm.linear.weight",
    "single_transformer_blocks.0.norm.linear.bias",
    "single_transformer_blocks.1.norm.linear.weight",
    "single_transformer_blocks.37.proj_out.weight",
    "single_transformer_blocks.37.proj_mlp.weight",
    "model.single_transformer_blocks.0.norm.linear.weight",
    "proj_out.weight",
    "proj_out_2.weight",
    "norm_out.linear.weight",
    "double_stream_modulation_img.linear.weight",
    "single_stream_modulation.linear.weight",
    "time_guidance_embed.timestep_embedder.linear_1.weight",
    "distilled_guidance_layer.layers.0.linear_1.weight",
    "txt_in.weight",
    "img_in.weight",
    "txt_norm.weight",
    "scale_shift_table",
    "blocks.0.scale_shift_table",
    "blocks.0.attn1.to_q.weight",
    "blocks.39.ffn.net.0.proj.weight",
    "patch_embedding.weight",
    "condition_embedder.time_embedder.linear_1.weight",
    "condition_embedder.text_embedder.linear_2.weight",
    "blocks.0.adaLN_modulation.1.weight",
    "blocks.1.adaLN_modulation.1.weight",
    "y_embedder.y_proj.fc1.weight",
    "final_layer.linear.weight",
    "final_layer2.linear.weight",
    "audio_proj_in.weight",
    "audio_time_embed.emb.timestep_embedder.linear_1.weight",
    "av_cross_attn_video_a2v_gate.linear.weight",
    "transformer_blocks.0.audio_to_video_attn.to_q.weight",
    "layers.0.norm1.linear.weight",
    "layers.0.adaLN_modulation.0.weight",
    "noise_refiner.0.adaLN_modulation.0.weight",
    "layers.0.attention.to_q.weight",
    "layers.0.feed_forward.w1.weight",
    "all_x_embedder.2-1.weight",
    "all_final_layer.2-1.linear.weight",
    "cap_embedder.1.weight",
    "t_embedder.mlp.0.weight",
    "time_caption_embed.timestep_embedder.linear_1.weight",
    "input_proj.weight",
    "llm_cond_proj.weight",
    "t_embedding.mlp_in.weight",
    "patch_embed.proj.weight",
    "model.visual.patch_embed.proj.weight",
    "time_embed.t_embedder.linear_1.weight",
    "crossattn_proj.0.weight",
    "glyph_projector.net.0.proj.weight",
    "lm_head.weight",
    "model.lm_head.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.mlp.gate_proj.weight",
    "model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "model.vision_model.embeddings.patch_embedding.weight",
    "vision_model.head.mlp.fc1.weight",
    "model.wte.weight",
    "transformer.wte.weight",
    "model.vqmodel.encoder.conv_in.weight",
    "vae.decoder.conv_in.weight",
    "model.language_model.layers.0.altup.correction_coefs.weight",
    "model.embed_vision.embedding_projection.weight",
    "model.audio_tower.output_proj.weight",
    "model.audio_tower.layers.0.attention.output_proj.weight",
    "region.coord_encoder.weight",
    "text.post_ln.weight",
    "vision.proj_mlp.fc1.weight",
    "vision.patch_emb.weight",
    "vid_in.proj.weight",
    "emb_scale.proj_in.weight",
    "vid_out_norm.weight",
    "blocks.0.mlp.vid.proj_in.weight",
    "blocks.0.vid_out.weight",
    "multi_modal_projector.linear_1.weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "down_blocks.1.attentions.0.proj_in.weight",
    "encoder.layer.0.attention.self.query.weight",
    "transformer_blocksX0.norm1.weight",
    "naïve.重み.proj_out.weight",
];

/// Every pattern as a name, and names that only look like it.
fn near(pattern: &str) -> Vec<String> {
    let p = pattern.trim_start_matches('.').replace('*', "");
    vec![
        p.clone(),
        format!(".{p}"),
        format!("{p}.weight"),
        format!("{p}.0.proj.weight"),
        format!("{p}_2.weight"),
        format!("my_{p}.weight"),
        format!("model.{p}"),
        format!("model.{p}.weight"),
        format!("model.x_{p}.weight"),
        p.replace('.', "_"),
        p.replace('.', "_") + ".weight",
        p.to_uppercase(),
    ]
}

#[test]
fn presets_keep_what_sdnq_keeps() {
    let near: Vec<String> = SKIP.iter().flat_map(|(_, _, patterns)| *patterns).flat_map(|p| near(p)).collect();
    for (name, _, patterns) in SKIP {
        let mut settings = Settings::new(Family::Sdnq);
        settings.preset = by_name(name).expect("a preset").rules;
        let mut kept = 0;
        for tensor in NAMES.iter().copied().chain(near.iter().map(String::as_str)) {
            let keeps = settings.decide(&[tensor]).keeps();
            assert_eq!(keeps, check_param_name_in(tensor, patterns), "{name}: {tensor}");
            kept += usize::from(keeps);
        }
        assert!(kept > 0, "{name}");
    }
}

#[test]
fn every_preset_reads_and_gives_its_reasons() {
    for text in TEXTS {
        let preset = parse(text).expect("a preset");
        assert_eq!(preset.targets.len(), 1);
        assert!(!preset.about.is_empty() && !preset.rules.is_empty());
        for rule in &preset.rules {
            assert_eq!(rule.patch, crate::core::Patch::keep(), "{}", preset.name);
            let reason = rule.reason.as_deref().unwrap_or_default();
            assert!(reason.len() > 10, "{}: {}", preset.name, rule.pattern);
        }
    }
    let of_sdnq = all().iter().filter(|p| p.targets == [Family::Sdnq]).map(|p| p.name.as_str());
    assert!(of_sdnq.eq(SKIP.iter().map(|(name, ..)| *name)));
    let named = [Family::Sdnq, Family::Comfy].into_iter().flat_map(names);
    assert!(named.eq(all().iter().map(|p| p.name.as_str())));
}

#[test]
fn classes_find_their_preset() {
    for (name, classes, _) in SKIP {
        for class in *classes {
            let found = for_class(Family::Sdnq, Some(class)).map(|p| p.name);
            assert_eq!(found.as_deref(), Some(*name), "{class}");
        }
    }
    fn check(family: Family, class: Option<&str>, expected: Option<&str>) {
        let found = for_class(family, class).map(|p| p.name);
        assert_eq!(found.as_deref(), expected, "{family} {class:?}");
    }
    check(Family::Sdnq, Some("BertModel"), Some("common"));
    check(Family::Sdnq, None, Some("common"));
    check(Family::Float, Some("FluxTransformer2DModel"), None);
    check(Family::Float, None, None);
    assert_eq!(by_name("flux.1"), None);
}

#[test]
fn malformed_presets_are_refused() {
    fn check(text: &str, message: &str) {
        assert_eq!(parse(text).expect_err("malformed").to_string(), message);
    }
    check("name = 1", "preset:1:8: `name` takes a string; it is 1");
    check("name = \"x\"", "preset:1:1: there is no `about`");
    check("target = [\"sdnx\"]", "preset:1:11: unknown target `sdnx`");
    check(
        "clases = []",
        "preset:1:1: unknown key `clases`; did you mean `classes`? allowed: name, about, target, classes, rule",
    );
}
