use super::*;
use crate::core::model::testing::model_of;

#[track_caller]
fn check(names: &[&str], class: Option<&str>) {
    assert_eq!(by_names(&model_of(names)), class, "{names:?}");
}

/// Names as they stand in files: what tells the class, and much that other classes have too.
#[test]
fn names_of_single_files_tell() {
    let flux =
        ["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight", "img_in.weight", "txt_in.weight"];
    let with = |more: &[&'static str]| [&flux[..], more].concat();
    check(&with(&["vector_in.in_layer.weight", "final_layer.linear.weight"]), Some("Flux"));
    check(&with(&["double_stream_modulation_img.lin.weight", "single_stream_modulation.lin.weight"]), Some("Flux2"));
    check(&with(&["distilled_guidance_layer.in_proj.weight"]), Some("Chroma"));
    check(
        &with(&["distilled_guidance_layer.in_proj.weight", "nerf_image_embedder.embedder.0.weight"]),
        Some("ChromaRadiance"),
    );
    check(&with(&["latent_in.weight", "cond_in.weight"]), Some("Hunyuan3D"));
    let refiner = "txt_in.individual_token_refiner.blocks.0.norm1.weight";
    check(&with(&[refiner, "img_in.proj.weight", "vector_in.in_layer.weight"]), Some("HunyuanVideo"));
    check(&with(&[refiner, "img_in.proj.weight", "byt5_in.fc1.weight"]), Some("HunyuanImage"));
    check(
        &[refiner, "img_in.proj.weight", "byt5_in.fc1.weight", "cond_type_embedding.weight", "vision_in.proj.1.weight"],
        Some("HunyuanVideo15"),
    );
    // As its authors wrote it, before ComfyUI renames anything.
    check(&[refiner, "img_in.proj.weight", "double_blocks.0.img_attn_qkv.weight"], Some("HunyuanVideo"));
    check(
        &["joint_blocks.0.context_block.attn.qkv.weight", "x_embedder.proj.weight", "y_embedder.mlp.0.weight"],
        Some("SD3"),
    );
    check(
        &["double_layers.0.attn.w1q.weight", "cond_seq_linear.weight", "init_x_linear.weight", "modF.1.weight"],
        Some("AuraFlow"),
    );
    check(
        &["mlp_t5.0.weight", "extra_embedder.0.weight", "blocks.0.attn1.Wqkv.weight", "t_embedder.mlp.2.weight"],
        Some("HunyuanDiT"),
    );
    check(
        &["t5_yproj.weight", "blocks.0.attn.qkv_x.weight", "x_embedder.proj.weight", "t_embedder.mlp.2.weight"],
        Some("Mochi"),
    );
    check(
        &["t_block.1.weight", "y_embedder.y_proj.fc1.weight", "x_embedder.proj.weight", "t_embedder.mlp.2.weight"],
        Some("PixArt"),
    );
    check(
        &["genre_embedder.weight", "lyric_embs.weight", "t_block.1.weight", "transformer_blocks.0.attn.to_q.weight"],
        Some("ACEStep"),
    );
    check(
        &["t_embedder.mlp.2.weight", "blocks.0.attn1.k_norm.weight", "x_embedder.weight", "blocks.0.moe.gate.weight"],
        Some("Hunyuan3D"),
    );
    let ltx = ["adaln_single.emb.timestep_embedder.linear_1.bias", "patchify_proj.weight", "proj_out.weight"];
    check(&ltx, Some("LTXV"));
    check(&[&ltx[..], &["audio_adaln_single.linear.weight", "audio_patchify_proj.weight"]].concat(), Some("LTXAV"));
    let next = ["cap_embedder.1.weight", "noise_refiner.0.attention.qkv.weight", "cap_embedder.0.weight"];
    check(&[&next[..], &["layers.0.adaLN_modulation.0.weight"]].concat(), Some("ZImage"));
    check(&[&next[..], &["layers.0.adaLN_modulation.1.weight"]].concat(), Some("Lumina2"));
    check(
        &[&next[..], &["layers.0.adaLN_modulation.1.weight", "clip_text_pooled_proj.0.weight"]].concat(),
        Some("NewBie"),
    );
    let wan = ["head.modulation", "head.head.weight", "patch_embedding.weight", "blocks.0.self_attn.q.weight"];
    check(&wan, Some("WanModel"));
    check(&[&wan[..], &["vace_patch_embedding.weight", "vace_blocks.0.before_proj.weight"]].concat(), Some("WanModel"));
    check(&[&wan[..], &["casual_audio_encoder.encoder.final_linear.weight"]].concat(), Some("WanModel"));
    check(
        &[
            "blocks.block0.blocks.0.block.attn.to_q.0.weight",
            "x_embedder.proj.1.weight",
            "t_embedder.1.linear_1.weight",
        ],
        Some("Cosmos"),
    );
    let predict = ["blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight", "blocks.0.self_attn.q_proj.weight"];
    check(&predict, Some("CosmosPredict2"));
    check(&[&predict[..], &["llm_adapter.blocks.0.cross_attn.q_proj.weight"]].concat(), Some("Anima"));
    let omni =
        ["time_caption_embed.timestep_embedder.linear_1.bias", "x_embedder.weight", "noise_refiner.0.attn.to_q.weight"];
    check(&[&omni[..], &["ref_image_patch_embedder.weight"]].concat(), Some("OmniGen2Transformer2DModel"));
    check(
        &[
            &omni[..],
            &["ref_image_patch_embedder.weight", "double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight"],
        ]
        .concat(),
        Some("Boogu"),
    );
    check(&omni, Some("Lumina2Transformer2DModel"));
    check(
        &["caption_projection.0.linear.weight", "x_embedder.proj.weight", "p_embedder.pooled_embedder.linear_1.weight"],
        Some("HiDreamImageTransformer2DModel"),
    );
    check(
        &[
            "visual_transformer_blocks.0.cross_attention.key_norm.weight",
            "visual_embeddings.in_layer.weight",
            "out_layer.out_layer.weight",
        ],
        Some("Kandinsky5Transformer3DModel"),
    );
    check(
        &["embed_image_indicator.weight", "input_proj.weight", "layers.0.adaln_modulation.weight"],
        Some("Ideogram4Transformer2DModel"),
    );
    check(
        &["layers.0.adaLN_sa_ln.weight", "layers.0.mlp.linear_fc2.weight", "final_linear.weight"],
        Some("ErnieImageTransformer2DModel"),
    );
    check(&["txtfusion.projector.weight", "first.weight", "last.linear.weight", "tmlp.0.weight"], Some("Krea2"));
    check(&["video_patch_proj.weight", "audio_patch_proj.weight", "condition_proj.weight"], Some("MiniMaxH3"));
    check(
        &["blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight", "patch_embed.proj.weight"],
        Some("CogVideoX"),
    );
    check(
        &["transformer.rotary_pos_emb.inv_freq", "to_timestep_embed.0.weight", "to_cond_embed.0.weight"],
        Some("StableAudio"),
    );
    check(
        &["clf.1.weight", "clip_txt_pooled_mapper.weight", "down_blocks.0.2.attention.attn.to_q.weight"],
        Some("StableCascade"),
    );
    check(&["clf.1.weight", "clip_mapper.weight", "down_blocks.1.0.channelwise.0.weight"], Some("StableCascade"));
}

#[test]
fn names_of_a_librarys_folders_tell() {
    let flux = [
        "transformer_blocks.0.attn.add_q_proj.weight",
        "single_transformer_blocks.0.proj_mlp.weight",
        "context_embedder.weight",
    ];
    check(&flux, Some("FluxTransformer2DModel"));
    check(&[&flux[..], &["distilled_guidance_layer.in_proj.weight"]].concat(), Some("ChromaTransformer2DModel"));
    check(
        &[
            "transformer_blocks.0.attn.add_q_proj.weight",
            "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight",
            "double_stream_modulation_img.linear.weight",
            "context_embedder.weight",
        ],
        Some("Flux2Transformer2DModel"),
    );
    let refiner = "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight";
    check(&[refiner, "x_embedder.proj.weight"], Some("HunyuanVideoTransformer3DModel"));
    check(&[refiner, "x_embedder.proj.weight", "cond_type_embed.weight"], Some("HunyuanVideo15Transformer3DModel"));
    check(
        &[refiner, "x_embedder.proj.weight", "time_guidance_embed.timestep_embedder.linear_1.weight"],
        Some("HunyuanImageTransformer2DModel"),
    );
    check(
        &["transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight", "context_embedder.weight"],
        Some("SD3Transformer2DModel"),
    );
    let qwen = ["img_in.weight", "transformer_blocks.0.img_mod.1.weight", "transformer_blocks.0.txt_mod.1.weight"];
    check(&qwen, Some("QwenImageTransformer2DModel"));
    check(
        &[&qwen[..], &["transformer_blocks.0.img_mlp.w1.weight", "transformer_blocks.0.attn.norm_added_q.weight"]]
            .concat(),
        Some("Lens"),
    );
    let pixart = ["adaln_single.emb.timestep_embedder.linear_1.bias", "pos_embed.proj.bias", "proj_out.weight"];
    check(&pixart, Some("PixArtTransformer2DModel"));
    check(
        &[
            "proj_in.weight",
            "time_embed.emb.timestep_embedder.linear_1.weight",
            "transformer_blocks.0.scale_shift_table",
            "audio_proj_in.weight",
            "audio_time_embed.emb.timestep_embedder.linear_1.weight",
        ],
        Some("LTX2VideoTransformer3DModel"),
    );
    check(
        &[
            "proj_in.weight",
            "time_embed.emb.timestep_embedder.linear_1.weight",
            "transformer_blocks.0.scale_shift_table",
        ],
        Some("LTXVideoTransformer3DModel"),
    );
    check(
        &["blocks.0.attn1.to_q.weight", "condition_embedder.time_embedder.linear_1.weight", "patch_embedding.weight"],
        Some("WanTransformer3DModel"),
    );
}

#[test]
fn u_nets_are_told_by_where_the_text_comes_in_and_how_wide_it_is() {
    let first = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
    let second = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight";
    let common = ["input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight", second];
    check(&[&common[..], &["label_emb.0.0.weight", "input_blocks.8.0.in_layers.0.weight"]].concat(), Some("SDXL"));
    check(
        &[&common[..], &["label_emb.0.0.weight", "input_blocks.11.0.in_layers.0.weight"]].concat(),
        Some("SDXLRefiner"),
    );
    let sd1 = [&common[..], &[first, "input_blocks.11.0.in_layers.0.weight"]].concat();
    check(&sd1, Some("SD1"));
    check(&[&sd1[..], &["input_blocks.1.1.time_stack.0.attn1.to_q.weight"]].concat(), Some("SVD"));

    let mut model = model_of(&sd1);
    for (width, class) in [(768, "SD1"), (1024, "SD2")] {
        for tensor in model.tensors.iter_mut().filter(|t| t.name == first) {
            tensor.shape = vec![320, width];
        }
        assert_eq!(by_names(&model), Some(class), "{width}");
    }
    // A shape of one dimension tells nothing.
    for tensor in &mut model.tensors {
        tensor.shape = vec![1024];
    }
    assert_eq!(by_names(&model), Some("SD1"));
}

#[test]
fn text_encoders_are_told_too() {
    let t5 = ["encoder.block.0.layer.0.SelfAttention.q.weight", "encoder.final_layer_norm.weight", "shared.weight"];
    check(&t5, Some("T5EncoderModel"));
    check(
        &[&t5[..], &["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"]].concat(),
        Some("UMT5EncoderModel"),
    );
    let clip = ["text_model.encoder.layers.0.self_attn.q_proj.weight", "text_model.encoder.layers.0.mlp.fc1.weight"];
    check(&clip, Some("CLIPTextModel"));
    check(&[&clip[..], &["text_model.encoder.layers.30.mlp.fc1.weight"]].concat(), Some("CLIPTextModelWithProjection"));
    check(&["transformer.resblocks.0.ln_1.weight", "transformer.resblocks.0.attn.in_proj_weight"], Some("OpenCLIP"));
    check(&["model.encoder.layers.0.mixer.Wqkv.weight"], Some("JinaCLIP2"));

    check(&["decoder.conv_in.weight", "encoder.conv_in.weight", "post_quant_conv.weight"], Some("AutoencoderKL"));
    check(
        &["decoder.conv1.weight", "encoder.conv1.weight", "decoder.middle.0.residual.0.gamma", "conv2.weight"],
        Some("AutoencoderKLWan"),
    );
    check(&["decoder.conv_in.conv.weight", "encoder.conv_in.conv.weight"], Some("AutoencoderKLLTXVideo"));

    let llama = [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
    ];
    let with = |more: &[&'static str]| [&llama[..], more].concat();
    check(&llama, Some("LlamaForCausalLM"));
    let norms = ["model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.k_norm.weight"];
    check(&with(&norms), Some("Qwen3ForCausalLM"));
    check(&with(&["model.layers.0.self_attn.q_proj.bias"]), Some("Qwen2ForCausalLM"));
    check(
        &with(&[
            "visual.merger.ln_q.weight",
            "visual.blocks.0.mlp.gate_proj.weight",
            "model.layers.0.self_attn.q_proj.bias",
        ]),
        Some("Qwen2_5_VLForConditionalGeneration"),
    );
    check(
        &with(&[norms[0], norms[1], "visual.deepstack_merger_list.0.norm.weight"]),
        Some("Qwen3VLForConditionalGeneration"),
    );
    check(
        &["model.visual.deepstack_merger_list.0.norm.weight", "model.language_model.layers.0.mlp.gate_proj.weight"],
        Some("Qwen3VLForConditionalGeneration"),
    );
    check(&["model.language_model.layers.0.linear_attn.A_log"], Some("Qwen3_5ForConditionalGeneration"));
    check(
        &["model.layers.0.linear_attn.A_log", "model.layers.0.linear_attn.in_proj_a.weight"],
        Some("Qwen3_5ForCausalLM"),
    );
    let gemma = "model.layers.0.pre_feedforward_layernorm.weight";
    check(&with(&[gemma]), Some("Gemma2ForCausalLM"));
    check(&with(&[gemma, norms[0], norms[1]]), Some("Gemma3ForCausalLM"));
    check(&with(&[gemma, norms[0], norms[1], "model.layers.0.layer_scalar"]), Some("Gemma4ForCausalLM"));
    check(&["model.language_model.layers.0.layer_scalar"], Some("Gemma4ForConditionalGeneration"));
    check(
        &with(&["model.layers.0.self_attn.sinks", "model.layers.0.self_attn.q_proj.bias"]),
        Some("GptOssForCausalLM"),
    );
    check(&["layers.0.self_attn.sinks", "layers.0.self_attn.q_proj.weight"], Some("GptOssForCausalLM"));

    let mut model = model_of(&llama);
    for (tokens, class) in [(128_256, "LlamaForCausalLM"), (131_072, "MistralForCausalLM")] {
        for tensor in model.tensors.iter_mut().filter(|t| t.name == "model.embed_tokens.weight") {
            tensor.shape = vec![tokens, 5120];
        }
        assert_eq!(by_names(&model), Some(class), "{tokens}");
    }
}

#[test]
fn a_prefix_changes_nothing() {
    for (class, names) in BY_NAMES {
        for prefix in PREFIXES {
            let names: Vec<String> = names.iter().map(|n| format!("{prefix}{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(by_names(&model_of(&names)), Some(*class), "{names:?}");
        }
    }
    check(&["other.double_blocks.0.img_attn.qkv.weight", "other.single_blocks.0.linear1.weight"], None);
    check(&["double_blocks.0.img_attn.qkv.weight"], None);
    check(&[], None);
}
