//! What a model is by its tensors' names, and where names do not tell, by a size.
use crate::core::Model;

/// Tensor names that only one architecture has; every one of a line must be there, and the first line that fits wins:
/// what has more names of its own stands before what it was made from.
/// The class is the one a config would name, so that presets find it; where no library has one, a plain name.
const BY_NAMES: &[(&str, &[&str])] = &[
    // Diffusion models as diffusers lays them out.
    (
        "ChromaTransformer2DModel",
        &["distilled_guidance_layer.in_proj.weight", "transformer_blocks.0.attn.add_q_proj.weight"],
    ),
    (
        "Flux2Transformer2DModel",
        &[
            "double_stream_modulation_img.linear.weight",
            "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight",
            "context_embedder.weight",
        ],
    ),
    (
        "FluxTransformer2DModel",
        &[
            "transformer_blocks.0.attn.add_q_proj.weight",
            "single_transformer_blocks.0.proj_mlp.weight",
            "context_embedder.weight",
        ],
    ),
    (
        "HunyuanVideo15Transformer3DModel",
        &["context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight", "cond_type_embed.weight"],
    ),
    (
        "HunyuanImageTransformer2DModel",
        &[
            "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight",
            "time_guidance_embed.timestep_embedder.linear_1.weight",
        ],
    ),
    (
        "HunyuanVideoTransformer3DModel",
        &["context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight", "x_embedder.proj.weight"],
    ),
    ("HunyuanDiT2DModel", &["time_extra_emb.pooler.q_proj.weight", "text_embedder.linear_1.weight"]),
    (
        "AuraFlowTransformer2DModel",
        &["joint_transformer_blocks.0.attn.add_q_proj.weight", "time_step_proj.linear_1.weight"],
    ),
    ("MochiTransformer3DModel", &["time_embed.pooler.to_kv.weight", "time_embed.caption_proj.weight"]),
    ("PixArtTransformer2DModel", &["adaln_single.emb.timestep_embedder.linear_1.bias", "pos_embed.proj.bias"]),
    (
        "CosmosTransformer3DModel",
        &["time_embed.t_embedder.linear_1.weight", "transformer_blocks.0.norm1.linear_1.weight"],
    ),
    (
        "LTX2VideoTransformer3DModel",
        &["audio_proj_in.weight", "audio_time_embed.emb.timestep_embedder.linear_1.weight"],
    ),
    (
        "LTXVideoTransformer3DModel",
        &[
            "proj_in.weight",
            "time_embed.emb.timestep_embedder.linear_1.weight",
            "transformer_blocks.0.scale_shift_table",
        ],
    ),
    ("Krea2Transformer2DModel", &["text_fusion.projector.weight", "img_in.weight"]),
    (
        "MiniMaxH3Transformer3DModel",
        &["token_refiner.refiner_blocks.0.attn.to_q.weight", "audio_proj_in.weight", "proj_in.weight"],
    ),
    // Of Lens, Qwen-Image 2.1 and Qwen-Image, ComfyUI's names are the library's.
    ("Lens", &["transformer_blocks.0.img_mlp.w1.weight", "transformer_blocks.0.attn.norm_added_q.weight"]),
    ("QwenImage21Transformer2DModel", &["txt_in.text_norm.weight", "modulation.1.weight", "img_in.weight"]),
    (
        "QwenImageTransformer2DModel",
        &["transformer_blocks.0.img_mod.1.weight", "transformer_blocks.0.txt_mod.1.weight"],
    ),
    ("ZImageTransformer2DModel", &["noise_refiner.0.attention.to_q.weight", "cap_embedder.0.weight"]),
    ("WanTransformer3DModel", &["blocks.0.attn1.to_q.weight", "condition_embedder.time_embedder.linear_1.weight"]),
    (
        "SD3Transformer2DModel",
        &["transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight", "context_embedder.weight"],
    ),
    (
        "CogVideoXTransformer3DModel",
        &["transformer_blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight", "time_embedding.linear_1.weight"],
    ),
    (
        "UNet2DConditionModel",
        &["down_blocks.0.resnets.0.conv1.weight", "mid_block.resnets.0.conv1.weight", "conv_in.weight"],
    ),
    // Diffusion models as their authors' and ComfyUI's single files lay them out.
    ("SD3", &["joint_blocks.0.context_block.attn.qkv.weight", "x_embedder.proj.weight"]),
    ("StableCascade", &["clf.1.weight", "down_blocks.0.2.attention.attn.to_q.weight"]),
    ("StableCascade", &["clf.1.weight", "clip_mapper.weight"]),
    ("StableCascadeUNet", &["clf.1.weight", "clip_txt_pooled_mapper.weight"]),
    ("StableAudio", &["transformer.rotary_pos_emb.inv_freq", "to_timestep_embed.0.weight"]),
    ("AuraFlow", &["double_layers.0.attn.w1q.weight", "cond_seq_linear.weight"]),
    ("HunyuanDiT", &["mlp_t5.0.weight", "extra_embedder.0.weight"]),
    ("HunyuanVideo15", &["txt_in.individual_token_refiner.blocks.0.norm1.weight", "cond_type_embedding.weight"]),
    (
        "HunyuanImage",
        &[
            "txt_in.individual_token_refiner.blocks.0.norm1.weight",
            "byt5_in.fc1.weight",
            "single_blocks.0.linear1.weight",
        ],
    ),
    ("HunyuanVideo", &["txt_in.individual_token_refiner.blocks.0.norm1.weight", "img_in.proj.weight"]),
    ("Flux2", &["double_blocks.0.img_attn.qkv.weight", "double_stream_modulation_img.lin.weight"]),
    (
        "ChromaRadiance",
        &[
            "double_blocks.0.img_attn.qkv.weight",
            "distilled_guidance_layer.in_proj.weight",
            "nerf_image_embedder.embedder.0.weight",
        ],
    ),
    ("Chroma", &["double_blocks.0.img_attn.qkv.weight", "distilled_guidance_layer.in_proj.weight"]),
    // It has Flux's blocks.
    ("Hunyuan3D", &["latent_in.weight", "cond_in.weight", "double_blocks.0.img_attn.qkv.weight"]),
    ("Flux", &["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]),
    ("Mochi", &["t5_yproj.weight", "blocks.0.attn.qkv_x.weight"]),
    ("MiniMaxH3", &["video_patch_proj.weight", "audio_patch_proj.weight"]),
    ("LTXAV", &["adaln_single.emb.timestep_embedder.linear_1.bias", "audio_adaln_single.linear.weight"]),
    ("LTXV", &["adaln_single.emb.timestep_embedder.linear_1.bias", "patchify_proj.weight"]),
    ("ACEStep", &["genre_embedder.weight", "lyric_embs.weight"]),
    ("PixArt", &["t_block.1.weight", "y_embedder.y_proj.fc1.weight"]),
    ("Cosmos", &["blocks.block0.blocks.0.block.attn.to_q.0.weight", "x_embedder.proj.1.weight"]),
    ("NewBie", &["cap_embedder.1.weight", "noise_refiner.0.attention.qkv.weight", "clip_text_pooled_proj.0.weight"]),
    (
        "ZImage",
        &["cap_embedder.1.weight", "noise_refiner.0.attention.qkv.weight", "layers.0.adaLN_modulation.0.weight"],
    ),
    ("Lumina2", &["cap_embedder.1.weight", "noise_refiner.0.attention.qkv.weight"]),
    ("CogVideoX", &["blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight"]),
    ("WanModel", &["head.modulation", "head.head.weight", "patch_embedding.weight"]),
    ("WanModel", &["blocks.0.self_attn.q.weight", "blocks.0.cross_attn.q.weight", "patch_embedding.weight"]),
    ("Hunyuan3D", &["t_embedder.mlp.2.weight", "blocks.0.attn1.k_norm.weight", "x_embedder.weight"]),
    ("HiDreamImageTransformer2DModel", &["caption_projection.0.linear.weight", "x_embedder.proj.weight"]),
    ("Anima", &["blocks.0.mlp.layer1.weight", "llm_adapter.blocks.0.cross_attn.q_proj.weight"]),
    ("CosmosPredict2", &["blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight"]),
    ("Boogu", &["double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight", "x_embedder.weight"]),
    (
        "OmniGen2Transformer2DModel",
        &["time_caption_embed.timestep_embedder.linear_1.bias", "ref_image_patch_embedder.weight"],
    ),
    (
        "Lumina2Transformer2DModel",
        &["time_caption_embed.timestep_embedder.linear_1.bias", "noise_refiner.0.attn.to_q.weight"],
    ),
    ("Ideogram4Transformer2DModel", &["embed_image_indicator.weight", "input_proj.weight"]),
    ("ErnieImageTransformer2DModel", &["layers.0.adaLN_sa_ln.weight", "layers.0.mlp.linear_fc2.weight"]),
    ("Krea2", &["txtfusion.projector.weight", "first.weight"]),
    (
        "Kandinsky5Transformer3DModel",
        &["visual_transformer_blocks.0.cross_attention.key_norm.weight", "visual_embeddings.in_layer.weight"],
    ),
    ("SVD", &["input_blocks.1.1.time_stack.0.attn1.to_q.weight", "input_blocks.0.0.weight"]),
    ("SD1", &["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", "input_blocks.0.0.weight"]),
    (
        "SDXLRefiner",
        &["input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", "input_blocks.11.0.in_layers.0.weight"],
    ),
    ("SDXL", &["input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight"]),
    ("SDXL", &["input_blocks.0.0.weight", "label_emb.0.0.weight"]),
    // Text encoders and language models.
    ("UMT5EncoderModel", &["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"]),
    ("T5EncoderModel", &["encoder.block.0.layer.0.SelfAttention.q.weight", "encoder.final_layer_norm.weight"]),
    ("CLIPTextModelWithProjection", &["text_model.encoder.layers.30.mlp.fc1.weight"]),
    ("CLIPTextModel", &["text_model.encoder.layers.0.self_attn.q_proj.weight"]),
    ("OpenCLIP", &["transformer.resblocks.0.attn.in_proj_weight", "transformer.resblocks.0.ln_1.weight"]),
    ("JinaCLIP2", &["encoder.layers.0.mixer.Wqkv.weight"]),
    ("Qwen3VLForConditionalGeneration", &["visual.deepstack_merger_list.0.norm.weight"]),
    ("Qwen2_5_VLForConditionalGeneration", &["visual.merger.ln_q.weight", "visual.blocks.0.mlp.gate_proj.weight"]),
    ("Qwen3_5ForConditionalGeneration", &["language_model.layers.0.linear_attn.A_log"]),
    ("Qwen3_5ForCausalLM", &["model.layers.0.linear_attn.A_log", "model.layers.0.linear_attn.in_proj_a.weight"]),
    ("Mistral3ForConditionalGeneration", &["multi_modal_projector.patch_merger.merging_layer.weight"]),
    ("Gemma4ForConditionalGeneration", &["language_model.layers.0.layer_scalar"]),
    ("Gemma4ForCausalLM", &["model.layers.0.layer_scalar", "model.layers.0.pre_feedforward_layernorm.weight"]),
    (
        "Gemma3ForConditionalGeneration",
        &[
            "language_model.layers.0.pre_feedforward_layernorm.weight",
            "multi_modal_projector.mm_input_projection_weight",
        ],
    ),
    (
        "Gemma3ForCausalLM",
        &["model.layers.0.pre_feedforward_layernorm.weight", "model.layers.0.self_attn.q_norm.weight"],
    ),
    ("Gemma2ForCausalLM", &["model.layers.0.pre_feedforward_layernorm.weight"]),
    // It has biases as Qwen 2 has.
    ("GptOssForCausalLM", &["model.layers.0.self_attn.sinks", "model.layers.0.self_attn.q_proj.weight"]),
    ("GptOssForCausalLM", &["layers.0.self_attn.sinks", "layers.0.self_attn.q_proj.weight"]),
    ("Qwen3ForCausalLM", &["model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.k_norm.weight"]),
    ("Qwen2ForCausalLM", &["model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.gate_proj.weight"]),
    ("MixtralForCausalLM", &["model.layers.0.block_sparse_moe.gate.weight"]),
    ("Phi3ForCausalLM", &["model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"]),
    ("LlamaForCausalLM", &["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight"]),
    ("GPT2LMHeadModel", &["h.0.attn.c_attn.weight", "wte.weight"]),
    ("BertModel", &["encoder.layer.0.attention.self.query.weight", "embeddings.word_embeddings.weight"]),
    ("CLIPVisionModel", &["vision_model.encoder.layers.0.self_attn.q_proj.weight"]),
    ("AutoencoderKL", &["decoder.conv_in.weight", "encoder.conv_in.weight"]),
    ("AutoencoderKLWan", &["decoder.conv1.weight", "encoder.conv1.weight", "decoder.middle.0.residual.0.gamma"]),
    ("AutoencoderKLLTXVideo", &["decoder.conv_in.conv.weight", "encoder.conv_in.conv.weight"]),
];

/// Classes that share all their names with another: the other, a tensor, its dimension, the size there that tells, and
/// what the class then is.
const BY_SIZE: &[(&str, &str, usize, u64, &str)] = &[
    // The width of the text: OpenCLIP's instead of CLIP-L's.
    ("SD1", "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1, 1024, "SD2"),
    // The tokens of Mistral's newer tokenizer.
    ("LlamaForCausalLM", "model.embed_tokens.weight", 0, 131_072, "MistralForCausalLM"),
];

/// Prefixes under which single files carry a diffusion model or a wrapped encoder.
const PREFIXES: [&str; 9] = [
    "",
    "model.diffusion_model.",
    "diffusion_model.",
    "model.model.",
    "model.",
    "net.",
    "transformer.",
    "language_model.",
    "bert.",
];

/// The class that a model's names speak of.
pub(super) fn by_names(model: &Model) -> Option<&'static str> {
    PREFIXES.iter().find_map(|prefix| {
        let find = |name: &str| model.find(&format!("{prefix}{name}"));
        let (class, _) = BY_NAMES.iter().find(|(_, names)| names.iter().all(|n| find(n).is_some()))?;
        let fits = |(of, name, dimension, size, _): &&(&str, &str, usize, u64, &str)| {
            of == class && find(name).is_some_and(|id| model.tensor(id).shape.get(*dimension) == Some(size))
        };
        Some(BY_SIZE.iter().find(fits).map_or(*class, |(.., then)| *then))
    })
}

#[cfg(test)]
mod tests;
