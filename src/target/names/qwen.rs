//! Qwen-Image, and others that are called the same everywhere, or nearly.
use super::table::{Family, Layout, Section, Way};

pub(super) const QWEN_IMAGE: Family = Family {
    name: "qwen-image",
    diffusers: &[],
    original: &["txt_norm.weight", "img_in.weight", "transformer_blocks.0.img_mod.1.weight"],
    refuse: &[],
    layout: Layout::Same,
};

pub(super) const QWEN_IMAGE_21: Family = Family {
    name: "qwen-image-2.1",
    diffusers: &["txt_in.text_norm.weight", "modulation.1.weight", "transformer_blocks.0.img_mlp.gate_layer.weight"],
    original: &["txt_in.text_norm.weight", "modulation.1.weight", "transformer_blocks.0.img_mlp.gate_up.weight"],
    refuse: &[],
    layout: Layout::Sections(&[
        Section {
            same: &[
                "time_text_embed.timestep_embedder.linear_1",
                "time_text_embed.timestep_embedder.linear_2",
                "txt_in.text_norm",
                "txt_in.in_layer",
                "txt_in.out_layer",
                "img_in",
                "modulation.1",
                "norm_out.linear",
                "proj_out",
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[("transformer_blocks.*.", "transformer_blocks.*.")],
            same: &[
                "attn.to_q",
                "attn.to_k",
                "attn.to_v",
                "attn.to_out.0",
                "attn.norm_q",
                "attn.norm_k",
                "img_mlp.out",
            ],
            fused: &[(&["img_mlp.gate_layer", "img_mlp.proj"], "img_mlp.gate_up", Way::Even)],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const HIDREAM: Family = Family {
    name: "hidream",
    diffusers: &[],
    original: &["caption_projection.0.linear.weight", "double_stream_blocks.0.block.adaLN_modulation.1.weight"],
    refuse: &[],
    layout: Layout::Same,
};

pub(super) const KANDINSKY5: Family = Family {
    name: "kandinsky5",
    diffusers: &[],
    original: &["visual_embeddings.in_layer.weight", "visual_transformer_blocks.0.visual_modulation.out_layer.weight"],
    refuse: &[],
    layout: Layout::Same,
};
