//! The presets for ComfyUI: what each of them keeps and what it leaves to be quantized, in every layout a name comes in.
use std::collections::{BTreeMap, BTreeSet};

use super::super::{Preset, all};
use crate::core::{Family, Settings};

fn presets() -> BTreeMap<String, Preset> {
    all().iter().filter(|p| p.targets == [Family::Comfy]).map(|p| (p.name.clone(), p.clone())).collect()
}

fn keeps(preset: &Preset, tensor: &str) -> bool {
    let mut settings = Settings::new(Family::Comfy);
    settings.preset.clone_from(&preset.rules);
    settings.decide(&[tensor]).keeps()
}

/// preset, what it keeps, what it leaves. Names of both layouts, and names that only look like what is kept.
#[rustfmt::skip]
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("common",
        &["x_embedder.weight", "img_in.weight", "proj_in.weight", "context_embedder.weight", "time_embed.linear_1.weight", "time_text_embed.timestep_embedder.linear_1.weight", "t_embedder.mlp.0.weight", "adaln_single.linear.weight", "final_layer.linear.weight", "proj_out.weight", "norm_out.linear.weight", "blocks.0.norm1.weight", "blocks.0.attn.norm_q.weight", "embed_tokens.weight", "model.embed_tokens.weight", "lm_head.weight", "extra_embedder.0.weight", "blocks.3.adaLN_modulation.1.weight", "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", "wte.weight", "block.0.attn.q.bias", "layers.0.mlp.gate.weight", "distilled_guidance_layer.in_proj.weight", "double_stream_modulation_img.lin.weight", "blocks.0.scale_shift_table", "head.modulation", "image_embeddings.0.weight", "visual.blocks.0.attn.qkv.weight", "time_embed_r.linear_1.weight", "final_norm.linear.weight"],
        &["blocks.0.attn.to_q.weight", "blocks.3.proj_in.weight", "single_blocks.0.proj_out.weight", "layers.3.mlp.gate_proj.weight", "model.layers.0.self_attn.q_proj.weight", "blocks.0.ffn.0.weight", "blocks.0.attn.out.weight", "transformer_blocks.1.attn2.to_k.weight"]),
    ("flux",
        &["img_in.weight", "x_embedder.weight", "txt_in.weight", "context_embedder.weight", "vector_in.in_layer.weight", "guidance_in.out_layer.weight", "time_text_embed.text_embedder.linear_1.weight", "single_blocks.0.modulation.lin.weight", "single_transformer_blocks.0.norm.linear.weight", "final_layer.linear.weight", "final_layer.adaLN_modulation.1.weight", "proj_out.weight", "norm_out.linear.weight", "double_blocks.0.img_attn.norm.key_norm.scale"],
        &["double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_mod.lin.weight", "single_blocks.10.modulation.lin.weight", "single_blocks.0.linear2.weight", "transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.norm1.linear.weight", "single_transformer_blocks.37.proj_out.weight", "single_transformer_blocks.10.norm.linear.weight"]),
    ("flux2",
        &["img_in.weight", "txt_in.weight", "time_in.in_layer.weight", "guidance_in.in_layer.weight", "double_stream_modulation_img.lin.weight", "double_stream_modulation_txt.linear.weight", "single_stream_modulation.lin.weight", "final_layer.linear.weight", "x_embedder.weight", "context_embedder.weight", "time_guidance_embed.timestep_embedder.linear_1.weight", "proj_out.weight", "norm_out.linear.weight"],
        &["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight", "single_blocks.47.linear2.weight", "transformer_blocks.0.ff.linear_in.weight", "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight", "single_transformer_blocks.0.attn.to_out.weight"]),
    ("chroma",
        &["distilled_guidance_layer.layers.0.in_layer.weight", "distilled_guidance_layer.layers.0.linear_1.weight", "img_in.weight", "x_embedder.weight", "txt_in.weight", "context_embedder.weight", "final_layer.linear.weight", "proj_out.weight"],
        &["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight", "transformer_blocks.0.attn.to_q.weight", "single_transformer_blocks.0.proj_out.weight"]),
    ("chroma-small",
        &["distilled_guidance_layer.out_proj.weight", "img_in.weight", "txt_in.weight", "context_embedder.weight"],
        &["final_layer.linear.weight", "proj_out.weight", "double_blocks.0.img_attn.proj.weight", "single_blocks.0.linear1.weight"]),
    ("radiance",
        &["distilled_guidance_layer.in_proj.weight", "nerf_blocks.0.param_generator.weight", "nerf_image_embedder.embedder.0.weight", "img_in_patch.weight", "txt_in.weight", "nerf_final_layer_conv.conv.weight", "__x0__"],
        &["double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn.proj.weight", "single_blocks.0.linear2.weight"]),
    ("radiance-large",
        &["distilled_guidance_layer.in_proj.weight", "nerf_blocks.0.param_generator.weight", "txt_in.weight", "double_blocks.0.img_attn.proj.weight", "double_blocks.18.txt_attn.proj.weight", "img_in_patch.weight", "nerf_image_embedder.embedder.0.weight", "nerf_final_layer_conv.conv.weight", "__x0__"],
        &["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]),
    ("sd",
        &["time_embed.0.weight", "time_embedding.linear_1.weight", "label_emb.0.0.weight", "add_embedding.linear_1.weight", "input_blocks.0.0.weight", "conv_in.weight", "out.2.weight", "conv_out.weight", "input_blocks.4.0.emb_layers.1.weight", "down_blocks.0.resnets.0.time_emb_proj.weight", "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", "input_blocks.1.0.in_layers.0.weight"],
        &["input_blocks.4.1.transformer_blocks.0.attn1.to_k.weight", "input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight", "input_blocks.4.1.proj_in.weight", "middle_block.1.transformer_blocks.0.ff.net.2.weight", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight", "output_blocks.0.1.proj_out.weight", "input_blocks.1.0.in_layers.2.weight"]),
    ("sd3",
        &["x_embedder.proj.weight", "pos_embed.proj.weight", "t_embedder.mlp.0.weight", "y_embedder.mlp.0.weight", "time_text_embed.text_embedder.linear_1.weight", "context_embedder.weight", "final_layer.linear.weight", "proj_out.weight", "norm_out.linear.weight", "joint_blocks.0.x_block.attn.ln_q.weight"],
        &["joint_blocks.0.x_block.attn.qkv.weight", "joint_blocks.0.x_block.adaLN_modulation.1.weight", "joint_blocks.0.context_block.mlp.fc1.weight", "transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.norm1.linear.weight"]),
    ("qwen-image",
        &["time_text_embed.timestep_embedder.linear_1.weight", "img_in.weight", "txt_in.weight", "norm_out.linear.weight", "proj_out.weight", "transformer_blocks.0.img_mod.1.weight", "txt_norm.weight", "transformer_blocks.3.attn.norm_added_q.weight", "modulation.1.weight", "__index_timestep_zero__"],
        &["transformer_blocks.0.txt_mod.1.weight", "transformer_blocks.10.img_mod.1.weight", "transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.img_mlp.net.0.proj.weight"]),
    ("z-image",
        &["x_embedder.weight", "all_x_embedder.2-1.weight", "cap_embedder.0.weight", "cap_embedder.1.weight", "t_embedder.mlp.0.weight", "final_layer.linear.weight", "all_final_layer.2-1.linear.weight", "layers.0.adaLN_modulation.0.weight", "x_pad_token", "layers.0.attention.q_norm.weight", "layers.0.attention.norm_q.weight", "layers.29.ffn_norm2.weight", "dec_net.cond_embed.weight", "siglip_embedder.1.weight"],
        &["layers.0.attention.qkv.weight", "layers.0.attention.to_q.weight", "layers.29.feed_forward.w2.weight", "noise_refiner.0.attention.qkv.weight", "context_refiner.1.feed_forward.w1.weight"]),
    ("z-image-refiner",
        &["x_embedder.weight", "cap_embedder.1.weight", "noise_refiner.0.attention.qkv.weight", "noise_refiner.0.attention.to_q.weight", "context_refiner.1.feed_forward.w1.weight", "final_layer.linear.weight", "siglip_embedder.1.weight", "t_embedder.mlp.0.weight", "x_pad_token", "dec_net.cond_embed.weight", "layers.0.adaLN_modulation.0.weight"],
        &["layers.0.attention.qkv.weight", "layers.0.attention.to_q.weight", "layers.29.feed_forward.w2.weight"]),
    ("lumina2",
        &["x_embedder.weight", "cap_embedder.1.weight", "t_embedder.mlp.0.weight", "time_caption_embed.caption_embedder.1.weight", "clip_text_pooled_proj.1.weight", "time_text_embed.1.weight", "layers.0.adaLN_modulation.1.weight", "layers.0.norm1.linear.weight", "final_layer.linear.weight", "norm_out.linear_2.weight"],
        &["layers.0.attention.qkv.weight", "layers.0.attn.to_q.weight", "noise_refiner.0.attention.out.weight", "layers.0.feed_forward.linear_1.weight"]),
    ("wan",
        &["patch_embedding.weight", "vace_patch_embedding.weight", "pose_patch_embedding.weight", "text_embedding.0.weight", "time_embedding.0.weight", "time_projection.1.weight", "condition_embedder.time_proj.weight", "head.head.weight", "proj_out.weight", "blocks.0.modulation", "blocks.0.scale_shift_table", "img_emb.proj.1.weight", "ref_conv.weight", "control_adapter.conv.weight", "casual_audio_encoder.encoder.final_linear.weight", "audio_injector.injector.0.q.weight", "face_adapter.fuser_blocks.0.linear1_q.weight", "face_adapter.0.to_q.weight", "motion_encoder.enc.fc.0.weight", "trainable_cond_mask.weight", "blocks.0.self_attn.norm_q.weight", "video_model.time_projection.1.weight"],
        &["blocks.0.self_attn.q.weight", "blocks.0.attn1.to_q.weight", "blocks.0.cross_attn.k_img.weight", "blocks.39.ffn.0.weight", "blocks.0.ffn.net.0.proj.weight", "vace_blocks.0.after_proj.weight", "vace_blocks.0.proj_out.weight"]),
    ("hunyuan-video",
        &["img_in.proj.weight", "x_embedder.proj.weight", "txt_in.input_embedder.weight", "txt_in.t_embedder.mlp.0.weight", "context_embedder.proj_in.weight", "time_in.in_layer.weight", "vector_in.in_layer.weight", "time_text_embed.text_embedder.linear_1.weight", "time_guidance_embed.timestep_embedder.linear_1.weight", "vision_in.proj.1.weight", "image_embedder.linear_1.weight", "byt5_in.fc1.weight", "context_embedder_2.linear_1.weight", "cond_type_embedding.weight", "final_layer.linear.weight", "proj_out.weight", "norm_out.linear.weight"],
        &["double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn_qkv.weight", "single_blocks.0.linear1.weight", "txt_in.individual_token_refiner.blocks.0.self_attn.qkv.weight", "context_embedder.token_refiner.refiner_blocks.0.norm_out.linear.weight", "transformer_blocks.0.attn.to_q.weight", "single_transformer_blocks.0.proj_out.weight"]),
    ("hunyuan-dit",
        &["x_embedder.proj.weight", "pos_embed.proj.weight", "mlp_t5.0.weight", "text_embedder.linear_1.weight", "pooler.q_proj.weight", "time_extra_emb.pooler.q_proj.weight", "t_embedder.mlp.0.weight", "extra_embedder.0.weight", "final_layer.linear.weight", "proj_out.weight"],
        &["blocks.0.attn1.Wqkv.weight", "blocks.0.attn1.to_q.weight", "blocks.0.mlp.fc1.weight", "blocks.20.skip_linear.weight"]),
    ("ltxv",
        &["patchify_proj.weight", "proj_in.weight", "adaln_single.linear.weight", "time_embed.linear.weight", "caption_projection.linear_1.weight", "scale_shift_table", "transformer_blocks.0.attn2.to_k.weight", "proj_out.weight"],
        &["transformer_blocks.0.attn2.to_q.weight", "transformer_blocks.10.attn2.to_k.weight", "transformer_blocks.0.attn1.to_k.weight", "transformer_blocks.0.ff.net.0.proj.weight"]),
    ("ltx2",
        &["patchify_proj.weight", "audio_patchify_proj.weight", "proj_in.weight", "audio_proj_in.weight", "adaln_single.linear.weight", "av_ca_a2v_gate_adaln_single.linear.weight", "prompt_adaln_single.linear.weight", "av_cross_attn_video_a2v_gate.linear.weight", "audio_time_embed.linear.weight", "audio_caption_projection.linear_1.weight", "transformer_blocks.0.attn1.to_q.weight", "transformer_blocks.1.ff.net.2.weight", "transformer_blocks.46.attn1.to_q.weight", "transformer_blocks.47.audio_ff.net.2.weight", "audio_proj_out.weight", "proj_out.weight", "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q.weight", "vocoder.conv_pre.weight", "transformer_blocks.5.attn1.to_gate_logits.weight", "audio_scale_shift_table", "transformer_blocks.5.scale_shift_table_a2v_ca_audio"],
        &["transformer_blocks.2.attn1.to_q.weight", "transformer_blocks.10.attn1.to_q.weight", "transformer_blocks.45.ff.net.2.weight", "transformer_blocks.20.audio_to_video_attn.to_q.weight", "transformer_blocks.4.audio_ff.net.0.proj.weight"]),
    ("cosmos",
        &["x_embedder.proj.1.weight", "patch_embed.proj.weight", "t_embedder.1.linear_1.weight", "time_embed.t_embedder.linear_1.weight", "extra_pos_embedder.pos_emb_h", "blocks.block0.blocks.0.adaLN_modulation.1.weight", "blocks.0.adaln_modulation_mlp.1.weight", "transformer_blocks.0.norm2.linear_1.weight", "final_layer.linear.weight", "proj_out.weight", "crossattn_proj.0.weight"],
        &["blocks.block1.blocks.0.adaLN_modulation.1.weight", "blocks.block0.blocks.0.block.attn.to_q.0.weight", "blocks.1.adaln_modulation_mlp.1.weight", "blocks.0.self_attn.q_proj.weight", "transformer_blocks.1.norm2.linear_1.weight", "transformer_blocks.0.attn1.to_q.weight"]),
    ("anima",
        &["net.blocks.0.self_attn.q_proj.weight", "blocks.0.mlp.layer1.weight", "transformer_blocks.0.attn1.to_q.weight", "net.blocks.1.adaln_modulation_mlp.1.weight", "net.llm_adapter.blocks.3.cross_attn.q_proj.weight", "net.t_embedder.1.linear_1.weight", "net.x_embedder.proj.1.weight", "net.final_layer.linear.weight", "proj_out.weight"],
        &["net.blocks.1.self_attn.q_proj.weight", "net.blocks.10.mlp.layer1.weight", "net.blocks.2.adaln_modulation_mlp.1.weight", "blocks.20.mlp.layer2.weight"]),
    ("cogvideox",
        &["patch_embed.text_proj.weight", "patch_embed.proj.weight", "time_embedding.linear_1.weight", "ofs_embedding_linear_1.weight", "ofs_embedding.linear_1.weight", "blocks.0.norm1.linear.weight", "transformer_blocks.0.norm1.linear.weight", "norm_out.linear.weight", "proj_out.weight"],
        &["blocks.1.norm1.linear.weight", "transformer_blocks.1.norm1.linear.weight", "blocks.0.attn1.to_q.weight", "transformer_blocks.0.ff.net.0.proj.weight"]),
    ("auraflow",
        &["init_x_linear.weight", "pos_embed.proj.weight", "positional_encoding", "cond_seq_linear.weight", "context_embedder.weight", "t_embedder.mlp.0.weight", "time_step_proj.linear_1.weight", "modF.1.weight", "norm_out.linear.weight", "final_linear.weight", "proj_out.weight"],
        &["double_layers.0.attn.w1q.weight", "double_layers.0.modX.1.weight", "single_layers.0.modCX.1.weight", "joint_transformer_blocks.0.attn.to_q.weight", "single_transformer_blocks.0.ff.out_projection.weight"]),
    ("hidream",
        &["x_embedder.proj.weight", "t_embedder.timestep_embedder.linear_1.weight", "p_embedder.pooled_embedder.linear_1.weight", "caption_projection.0.linear.weight", "double_stream_blocks.0.block.ff_i.gate.weight", "final_layer.linear.weight"],
        &["double_stream_blocks.0.block.attn1.to_q.weight", "double_stream_blocks.0.block.adaLN_modulation.1.weight", "single_stream_blocks.0.block.ff_i.experts.0.w1.weight", "double_stream_blocks.0.block.ff_t.w1.weight"]),
    ("omnigen2",
        &["x_embedder.weight", "ref_image_patch_embedder.weight", "image_index_embedding", "time_caption_embed.caption_embedder.1.weight", "norm_out.linear_1.weight", "norm_out.linear_2.weight"],
        &["layers.0.attn.to_q.weight", "layers.0.norm1.linear.weight", "noise_refiner.0.attn.to_q.weight", "layers.0.feed_forward.linear_1.weight"]),
    ("boogu",
        &["x_embedder.weight", "ref_image_patch_embedder.weight", "image_index_embedding", "time_caption_embed.caption_embedder.1.weight", "norm_out.linear_1.weight", "norm_out.linear_2.weight"],
        &["double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight", "single_stream_layers.0.attn.to_q.weight", "single_stream_layers.0.feed_forward.linear_2.weight"]),
    ("kandinsky5",
        &["visual_embeddings.in_layer.weight", "text_embeddings.in_layer.weight", "pooled_text_embeddings.in_layer.weight", "time_embeddings.out_layer.weight", "out_layer.out_layer.weight", "out_layer.modulation.out_layer.weight", "time_embeddings.in_layer.weight"],
        &["visual_transformer_blocks.0.self_attention.out_layer.weight", "visual_transformer_blocks.0.feed_forward.in_layer.weight", "visual_transformer_blocks.0.visual_modulation.out_layer.weight"]),
    ("mochi",
        &["x_embedder.proj.weight", "patch_embed.proj.weight", "t_embedder.mlp.0.weight", "t5_y_embedder.to_kv.weight", "t5_yproj.weight", "time_embed.pooler.to_kv.weight", "final_layer.linear.weight", "proj_out.weight", "pos_frequencies"],
        &["blocks.0.attn.qkv_x.weight", "blocks.0.mod_x.weight", "transformer_blocks.0.attn1.to_q.weight", "transformer_blocks.0.norm1.linear.weight"]),
    ("pixart",
        &["x_embedder.proj.weight", "pos_embed.proj.weight", "t_block.1.weight", "adaln_single.linear.weight", "y_embedder.y_proj.fc1.weight", "caption_projection.linear_1.weight", "ar_embedder.mlp.0.weight", "final_layer.linear.weight", "proj_out.weight", "blocks.0.scale_shift_table"],
        &["blocks.0.attn.qkv.weight", "blocks.0.cross_attn.kv_linear.weight", "transformer_blocks.0.attn1.to_q.weight", "transformer_blocks.0.ff.net.2.weight"]),
    ("cascade",
        &["clip_txt_mapper.weight", "clip_txt_pooled_mapper.weight", "clip_mapper.weight", "embedding.1.weight", "clf.1.weight", "down_blocks.0.1.mapper.weight", "down_blocks.0.1.mapper_sca.weight", "down_blocks.1.0.channelwise.0.weight"],
        &["down_blocks.0.2.attention.attn.to_q.weight", "down_blocks.0.2.attention.to_q.weight", "down_blocks.0.2.kv_mapper.1.weight", "up_blocks.0.0.channelwise.0.weight"]),
    ("ace-step",
        &["proj_in.early_conv_layers.0.weight", "timestep_embedder.linear_1.weight", "t_block.1.weight", "speaker_embedder.weight", "genre_embedder.weight", "lyric_encoder.encoders.0.self_attn.linear_q.weight", "final_layer.linear.weight", "projectors.0.0.weight", "transformer_blocks.0.scale_shift_table"],
        &["transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.cross_attn.add_k_proj.weight", "transformer_blocks.0.attn.to_out.0.weight"]),
    ("hunyuan3d",
        &["latent_in.weight", "x_embedder.weight", "cond_in.weight", "time_in.in_layer.weight", "t_embedder.mlp.0.weight", "blocks.15.moe.gate.weight", "final_layer.linear.weight"],
        &["double_blocks.0.img_attn.qkv.weight", "blocks.0.attn1.to_q.weight", "blocks.15.moe.experts.0.net.2.weight", "blocks.11.skip_linear.weight"]),
    ("stable-audio",
        &["to_timestep_embed.0.weight", "to_global_embed.0.weight", "to_cond_embed.0.weight", "transformer.project_in.weight", "transformer.project_out.weight", "preprocess_conv.weight", "proj_in.weight", "transformer.global_cond_embedder.0.weight"],
        &["transformer.layers.0.self_attn.to_qkv.weight", "transformer.layers.0.ff.ff.0.proj.weight", "transformer_blocks.0.attn1.to_q.weight"]),
    ("lens",
        &["time_text_embed.timestep_embedder.linear_1.weight", "img_in.weight", "txt_in.weight", "transformer_blocks.5.img_mod.1.weight", "transformer_blocks.47.txt_mod.1.weight", "proj_out.weight", "norm_out.linear.weight", "txt_norm.0.weight"],
        &["transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.img_mlp.w1.weight", "transformer_blocks.0.attn.to_out.0.weight"]),
    ("krea2",
        &["first.weight", "img_in.weight", "last.linear.weight", "last.modulation.lin", "final_layer.linear.weight", "tmlp.0.weight", "tproj.1.weight", "time_mod_proj.weight", "txtmlp.1.weight", "txt_in.linear_1.weight", "txtfusion.projector.weight", "txtfusion.refiner_blocks.0.mlp.up.weight", "text_fusion.layerwise_blocks.0.attn.to_q.weight"],
        &["blocks.0.attn.wq.weight", "blocks.0.mlp.gate.weight", "transformer_blocks.0.attn.to_gate.weight", "transformer_blocks.0.ff.up.weight", "blocks.0.first.weight"]),
    ("ideogram4",
        &["input_proj.weight", "llm_cond_proj.weight", "embed_image_indicator.weight", "t_embedding.mlp_in.weight", "adaln_proj.weight", "layers.0.adaln_modulation.weight", "final_layer.linear.weight", "llm_cond_norm.weight"],
        &["layers.0.attention.to_q.weight", "layers.0.attention.qkv.weight", "layers.10.adaln_modulation.weight", "layers.0.feed_forward.w1.weight"]),
    ("minimax-h3",
        &["video_patch_proj.weight", "audio_patch_proj.weight", "proj_in.weight", "audio_proj_in.weight", "condition_proj.weight", "context_embedder.weight", "token_refiner.blocks.0.attn.qkv_proj.weight", "token_refiner.refiner_blocks.0.attn.to_q.weight", "time_embedder.proj_in.weight", "final_layer.video_out.weight", "audio_proj_out.weight", "norm_out.linear.weight", "time_embedder.linear_1.weight", "adaln_t_table"],
        &["blocks.0.attn.qkv_proj.weight", "blocks.0.mlp.fc1.weight", "transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.adaln_proj.linear.weight"]),
    ("t5",
        &["shared.weight", "encoder.embed_tokens.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "encoder.block.0.layer.0.layer_norm.weight", "encoder.final_layer_norm.weight", "decoder.block.0.layer.0.SelfAttention.q.weight", "lm_head.weight"],
        &["encoder.block.0.layer.0.SelfAttention.q.weight", "encoder.block.23.layer.1.DenseReluDense.wi_1.weight", "encoder.block.0.layer.1.DenseReluDense.wo.weight"]),
    ("mistral",
        &["model.embed_tokens.weight", "lm_head.weight", "model.layers.0.input_layernorm.weight", "model.norm.weight", "tekken_model", "model.multi_modal_projector.linear_1.weight", "model.vision_tower.patch_conv.weight", "model.vision_tower.transformer.layers.0.attention.q_proj.weight"],
        &["model.layers.0.self_attn.q_proj.weight", "model.layers.39.mlp.down_proj.weight", "model.language_model.layers.0.mlp.up_proj.weight"]),
    ("llama",
        &["model.embed_tokens.weight", "lm_head.weight", "model.layers.0.input_layernorm.weight", "model.norm.weight"],
        &["model.layers.0.self_attn.q_proj.weight", "model.layers.31.mlp.down_proj.weight", "model.layers.0.mlp.gate_proj.weight"]),
    ("qwen",
        &["model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_norm.weight", "model.norm.weight"],
        &["model.layers.0.self_attn.q_proj.weight", "model.layers.35.mlp.down_proj.weight", "model.layers.0.mlp.gate_proj.weight"]),
    ("qwen-vlm",
        &["model.embed_tokens.weight", "model.language_model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight", "model.language_model.layers.0.mlp.up_proj.weight", "visual.blocks.3.attn.qkv.weight", "model.visual.merger.linear_fc1.weight", "model.language_model.layers.4.linear_attn.in_proj_a.weight", "mtp.fc.weight"],
        &["model.layers.1.self_attn.q_proj.weight", "model.layers.10.mlp.up_proj.weight", "model.language_model.layers.4.linear_attn.in_proj_qkv.weight", "model.language_model.layers.4.linear_attn.out_proj.weight"]),
    ("gemma",
        &["model.embed_tokens.weight", "model.layers.0.pre_feedforward_layernorm.weight", "multi_modal_projector.mm_input_projection_weight", "vision_model.encoder.layers.0.mlp.fc1.weight", "model.vision_tower.embeddings.position_embedding.weight", "spiece_model", "text_embedding_projection.video_aggregate_embed.weight", "lm_head.weight"],
        &["model.layers.0.self_attn.q_proj.weight", "model.layers.47.mlp.down_proj.weight", "model.language_model.layers.0.mlp.up_proj.weight"]),
    ("gemma4",
        &["model.embed_tokens.weight", "model.language_model.embed_tokens_per_layer.weight", "model.layers.0.per_layer_input_gate.weight", "model.language_model.layers.0.per_layer_projection.weight", "model.audio_tower.layers.0.attention.q_proj.weight", "model.embed_vision.embedding_projection.weight", "lm_head.weight", "tokenizer_json", "text_embedding_projection.video_aggregate_embed.weight"],
        &["model.layers.0.self_attn.q_proj.weight", "model.language_model.layers.0.mlp.down_proj.weight", "model.layers.41.mlp.up_proj.weight"]),
    ("gpt-oss",
        &["model.embed_tokens.weight", "lm_head.weight", "layers.0.mlp.router.weight", "model.layers.0.self_attn.sinks", "layers.0.input_layernorm.weight", "tokenizer_json"],
        &["layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.o_proj.weight", "layers.0.mlp.experts.gate_up_proj.weight"]),
    ("text",
        &["model.embed_tokens.weight", "transformer.wte.weight", "lm_head.weight", "model.norm.weight", "multi_modal_projector.linear_1.weight", "vision_tower.encoder.layers.0.self_attn.q_proj.weight"],
        &["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight", "transformer.h.0.attn.c_attn.weight"]),
    ("visual",
        &["visual.blocks.0.mlp.gate_proj.weight", "visual.blocks.0.mlp.down_proj.weight", "model.visual.blocks.3.mlp.up_proj.weight", "visual.patch_embed.proj.weight"],
        &["visual.blocks.0.attn.qkv.weight", "visual.blocks.0.attn.proj.weight", "visual.merger.mlp.0.weight"]),
    ("clip",
        &["text_model.encoder.layers.0.self_attn.q_proj.weight", "text_model.encoder.layers.30.mlp.fc1.weight", "text_projection.weight", "transformer.resblocks.0.attn.in_proj_weight", "vision_model.encoder.layers.0.mlp.fc2.weight", "model.encoder.layers.0.mixer.Wqkv.weight"],
        &[]),
    ("vae",
        &["decoder.conv_in.weight", "encoder.mid.attn_1.q.weight", "encoder.mid_block.attentions.0.to_q.weight", "first_stage_model.decoder.conv_out.weight", "quant_conv.weight", "decoder.up.0.block.0.norm1.weight"],
        &[]),
];

#[test]
fn presets_keep_what_they_should_and_no_more() {
    let presets = presets();
    for (name, kept, left) in TABLE {
        let preset = &presets[&format!("comfy-{name}")];
        assert!(kept.len() + left.len() >= 6, "{name}");
        for prefix in ["", "model.diffusion_model.", "diffusion_model."] {
            for (tensors, expected) in [(kept, true), (left, false)] {
                for tensor in *tensors {
                    let tensor = format!("{prefix}{tensor}");
                    assert_eq!(keeps(preset, &tensor), expected, "{name}: {tensor}");
                }
            }
        }
    }
    let told: BTreeSet<String> = TABLE.iter().map(|(name, ..)| format!("comfy-{name}")).collect();
    assert_eq!(told, presets.into_keys().collect());
}

/// A rule that no name needs is a rule that no test would miss.
#[test]
fn every_rule_keeps_something_that_no_other_keeps() {
    let presets = presets();
    let of_many = ["blocks.9.attn.some_norm.weight", "first_stage_model.decoder.mid.attn_1.q.weight"];
    for (name, kept, _) in TABLE {
        let rules = &presets[&format!("comfy-{name}")].rules;
        for rule in rules {
            let alone =
                |tensor: &&str| rules.iter().filter(|r| r.pattern.hits(&[tensor])).all(|r| r.pattern == rule.pattern);
            let needed = kept.iter().chain(&of_many).any(|tensor| rule.pattern.hits(&[tensor]) && alone(tensor));
            assert!(needed, "{name}: {}", rule.pattern);
        }
    }
}

#[test]
fn diffusion_presets_leave_other_models_of_a_checkpoint_alone() {
    let encoders =
        ["t5", "mistral", "llama", "qwen", "qwen-vlm", "gemma", "gemma4", "gpt-oss", "text", "visual", "clip", "vae"];
    let presets = presets();
    for (name, ..) in TABLE.iter().filter(|(name, ..)| !encoders.contains(name)) {
        let preset = &presets[&format!("comfy-{name}")];
        for tensor in [
            "first_stage_model.decoder.mid.attn_1.q.weight",
            "vae.decoder.mid.attn_1.q.weight",
            "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
            "conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight",
            "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight",
        ] {
            assert!(keeps(preset, tensor), "{name}: {tensor}");
        }
    }
}

#[test]
fn a_class_has_one_preset() {
    let mut seen = BTreeMap::new();
    let mut of_none = Vec::new();
    let mut by_name_alone = Vec::new();
    for (name, preset) in presets() {
        match preset.classes {
            None => by_name_alone.push(name),
            Some(classes) if classes.is_empty() => of_none.push(name),
            Some(classes) => {
                for class in classes {
                    assert_eq!(seen.insert(class.clone(), name.clone()), None, "{class}");
                }
            }
        }
    }
    assert_eq!(of_none, ["comfy-common"]);
    let alone = ["comfy-chroma-small", "comfy-radiance-large", "comfy-text", "comfy-visual", "comfy-z-image-refiner"];
    assert_eq!(by_name_alone, alone);
    assert_eq!(seen.get("WanVACETransformer3DModel").map(String::as_str), Some("comfy-wan"));
}
