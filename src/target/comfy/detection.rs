//! What ComfyUI recognises a model by: it reads the shapes of some weights before anything is loaded, and a weight whose
//! columns are packed has another.

/// Ends of the names of layers whose width is read (`comfy/model_detection.py`).
const READ: [&str; 34] = [
    // Flux, Qwen-Image, Lens
    "img_in",
    "txt_in",
    "vector_in.in_layer",
    // Stable Diffusion, LTX-Video
    "transformer_blocks.0.attn2.to_k",
    // Stable Diffusion 3
    "y_embedder.mlp.0",
    "context_embedder",
    // Hunyuan Video, 3D, DiT
    "txt_in.input_embedder",
    "latent_in",
    "cond_in",
    "extra_embedder.0",
    // Lumina 2, Z-Image
    "cap_embedder.1",
    "x_embedder",
    "dec_net.input_embedder.embedder.0",
    "dec_net.cond_embed",
    "dec_net.input_proj",
    "dec_net.final_layer.linear",
    // CogVideoX
    "blocks.0.norm1.linear",
    "patch_embed.text_proj",
    "ofs_embedding",
    "ofs_embedding.linear_1",
    // Cosmos, Anima
    "x_embedder.proj.1",
    // AuraFlow
    "cond_seq_linear",
    // Kandinsky 5
    "visual_embeddings.in_layer",
    // Stable Audio
    "to_global_embed.0",
    "to_cond_embed.0",
    "transformer.project_in",
    // Ideogram 4, Krea 2, MiniMax H3
    "input_proj",
    "first",
    "txtfusion.projector",
    "condition_proj",
    "time_embedder.proj_in",
    // PixArt, HiDream
    "y_proj.fc1",
    "caption_projection.0.linear",
    "patch_embedding",
];

/// Whether ComfyUI reads the shape of a weight of that name.
pub fn reads_shape(name: &str) -> bool {
    let layer = crate::core::name::layer(name);
    READ.iter().any(|end| layer.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_a_model_is_recognised_by() {
        fn check(name: &str, expected: bool) {
            assert_eq!(reads_shape(name), expected, "{name}");
        }
        check("img_in.weight", true);
        check("model.diffusion_model.img_in.weight", true);
        check("double_blocks.0.img_in.weight", true);
        check("double_blocks.0.img_attn.qkv.weight", false);
        check("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", true);
        check("transformer_blocks.10.attn2.to_k.weight", false);
        check("cap_embedder.1.weight", true);
        check("cap_embedder.10.weight", false);
    }
}
