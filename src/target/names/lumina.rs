//! Lumina 2 and Z-Image: one code base, grown apart in diffusers.
use super::table::{Family, Layout, Section, Way};

/// Queries are as wide as the model; keys and values may be of fewer heads, and are alike.
const QKV: Way = Way::Wide(1);

pub(super) const Z_IMAGE: Family = Family {
    name: "z-image",
    diffusers: &["all_x_embedder.2-1.weight", "cap_embedder.1.weight", "layers.0.feed_forward.w1.weight"],
    original: &[
        "x_embedder.weight",
        "cap_embedder.1.weight",
        "layers.0.feed_forward.w1.weight",
        "layers.0.adaLN_modulation.0.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        Section {
            same: &["cap_embedder.0", "cap_embedder.1", "t_embedder.mlp.0", "t_embedder.mlp.2"],
            layers: &[
                ("all_x_embedder.2-1", "x_embedder"),
                ("all_final_layer.2-1.linear", "final_layer.linear"),
                ("all_final_layer.2-1.adaLN_modulation.1", "final_layer.adaLN_modulation.1"),
            ],
            params: &[("x_pad_token", "x_pad_token"), ("cap_pad_token", "cap_pad_token")],
            ..Section::EMPTY
        },
        Section {
            at: &[
                ("layers.*.", "layers.*."),
                ("noise_refiner.*.", "noise_refiner.*."),
                ("context_refiner.*.", "context_refiner.*."),
            ],
            same: &[
                "adaLN_modulation.0",
                "attention_norm1",
                "attention_norm2",
                "ffn_norm1",
                "ffn_norm2",
                "feed_forward.w1",
                "feed_forward.w2",
                "feed_forward.w3",
            ],
            layers: &[
                ("attention.to_out.0", "attention.out"),
                ("attention.norm_q", "attention.q_norm"),
                ("attention.norm_k", "attention.k_norm"),
            ],
            fused: &[(&["attention.to_q", "attention.to_k", "attention.to_v"], "attention.qkv", QKV)],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const LUMINA2: Family = Family {
    name: "lumina2",
    diffusers: &["x_embedder.weight", "time_caption_embed.caption_embedder.1.weight", "layers.0.norm1.linear.weight"],
    original: &[
        "x_embedder.weight",
        "cap_embedder.1.weight",
        "layers.0.feed_forward.w1.weight",
        "layers.0.adaLN_modulation.1.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        Section {
            same: &["x_embedder"],
            layers: &[
                ("time_caption_embed.caption_embedder.0", "cap_embedder.0"),
                ("time_caption_embed.caption_embedder.1", "cap_embedder.1"),
                ("time_caption_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
                ("time_caption_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
                ("norm_out.linear_1", "final_layer.adaLN_modulation.1"),
                ("norm_out.linear_2", "final_layer.linear"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[
                ("layers.*.", "layers.*."),
                ("noise_refiner.*.", "noise_refiner.*."),
                ("context_refiner.*.", "context_refiner.*."),
            ],
            same: &["ffn_norm1", "ffn_norm2"],
            layers: &[
                ("norm2", "attention_norm2"),
                ("attn.to_out.0", "attention.out"),
                ("attn.norm_q", "attention.q_norm"),
                ("attn.norm_k", "attention.k_norm"),
                ("feed_forward.linear_1", "feed_forward.w1"),
                ("feed_forward.linear_2", "feed_forward.w2"),
                ("feed_forward.linear_3", "feed_forward.w3"),
            ],
            fused: &[(&["attn.to_q", "attn.to_k", "attn.to_v"], "attention.qkv", QKV)],
            ..Section::EMPTY
        },
        Section {
            at: &[("layers.*.", "layers.*."), ("noise_refiner.*.", "noise_refiner.*.")],
            layers: &[("norm1.norm", "attention_norm1"), ("norm1.linear", "adaLN_modulation.1")],
            ..Section::EMPTY
        },
        // Without modulation the norm is alone.
        Section {
            at: &[("context_refiner.*.", "context_refiner.*.")],
            layers: &[("norm1", "attention_norm1")],
            ..Section::EMPTY
        },
    ]),
};
