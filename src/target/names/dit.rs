//! Stable Diffusion 3, AuraFlow, PixArt.
use super::table::{Family, Layout, Section, Way};

const TEXT_TIME: Section = Section {
    layers: &[
        ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
        ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
        ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
        ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
    ],
    ..Section::EMPTY
};

pub(super) const SD3: Family = Family {
    name: "sd3",
    diffusers: &[
        "pos_embed.proj.weight",
        "context_embedder.weight",
        "time_text_embed.text_embedder.linear_1.weight",
        "transformer_blocks.0.norm1_context.linear.weight",
        "proj_out.weight",
    ],
    original: &[
        "x_embedder.proj.weight",
        "context_embedder.weight",
        "y_embedder.mlp.0.weight",
        "joint_blocks.0.context_block.adaLN_modulation.1.weight",
        "final_layer.linear.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        TEXT_TIME,
        Section {
            same: &["context_embedder"],
            layers: &[("pos_embed.proj", "x_embedder.proj"), ("proj_out", "final_layer.linear")],
            params: &[("pos_embed.pos_embed", "pos_embed")],
            fused: &[(&["norm_out.linear"], "final_layer.adaLN_modulation.1", Way::Swapped)],
            ..Section::EMPTY
        },
        Section {
            at: &[("transformer_blocks.*.", "joint_blocks.*.")],
            layers: &[
                ("norm1.linear", "x_block.adaLN_modulation.1"),
                ("attn.norm_q", "x_block.attn.ln_q"),
                ("attn.norm_k", "x_block.attn.ln_k"),
                ("attn.to_out.0", "x_block.attn.proj"),
                ("attn2.norm_q", "x_block.attn2.ln_q"),
                ("attn2.norm_k", "x_block.attn2.ln_k"),
                ("attn2.to_out.0", "x_block.attn2.proj"),
                ("ff.net.0.proj", "x_block.mlp.fc1"),
                ("ff.net.2", "x_block.mlp.fc2"),
                ("attn.norm_added_q", "context_block.attn.ln_q"),
                ("attn.norm_added_k", "context_block.attn.ln_k"),
                ("attn.to_add_out", "context_block.attn.proj"),
                ("ff_context.net.0.proj", "context_block.mlp.fc1"),
                ("ff_context.net.2", "context_block.mlp.fc2"),
            ],
            fused: &[
                (&["attn.to_q", "attn.to_k", "attn.to_v"], "x_block.attn.qkv", Way::Even),
                (&["attn2.to_q", "attn2.to_k", "attn2.to_v"], "x_block.attn2.qkv", Way::Even),
                (&["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"], "context_block.attn.qkv", Way::Even),
                (&["norm1_context.linear"], "context_block.adaLN_modulation.1", Way::SwappedPair),
            ],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const AURAFLOW: Family = Family {
    name: "auraflow",
    diffusers: &["register_tokens", "pos_embed.proj.weight", "joint_transformer_blocks.0.norm1_context.linear.weight"],
    original: &["register_tokens", "init_x_linear.weight", "double_layers.0.modC.1.weight"],
    refuse: &[],
    layout: Layout::Sections(&[
        Section {
            layers: &[
                ("pos_embed.proj", "init_x_linear"),
                ("context_embedder", "cond_seq_linear"),
                ("time_step_proj.linear_1", "t_embedder.mlp.0"),
                ("time_step_proj.linear_2", "t_embedder.mlp.2"),
                ("proj_out", "final_linear"),
            ],
            params: &[("register_tokens", "register_tokens"), ("pos_embed.pos_embed", "positional_encoding")],
            fused: &[(&["norm_out.linear"], "modF.1", Way::Swapped)],
            ..Section::EMPTY
        },
        Section {
            at: &[("joint_transformer_blocks.*.", "double_layers.*.")],
            layers: &[
                ("norm1.linear", "modX.1"),
                ("norm1_context.linear", "modC.1"),
                ("attn.to_q", "attn.w2q"),
                ("attn.to_k", "attn.w2k"),
                ("attn.to_v", "attn.w2v"),
                ("attn.to_out.0", "attn.w2o"),
                ("attn.add_q_proj", "attn.w1q"),
                ("attn.add_k_proj", "attn.w1k"),
                ("attn.add_v_proj", "attn.w1v"),
                ("attn.to_add_out", "attn.w1o"),
                ("ff.linear_1", "mlpX.c_fc1"),
                ("ff.linear_2", "mlpX.c_fc2"),
                ("ff.out_projection", "mlpX.c_proj"),
                ("ff_context.linear_1", "mlpC.c_fc1"),
                ("ff_context.linear_2", "mlpC.c_fc2"),
                ("ff_context.out_projection", "mlpC.c_proj"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[("single_transformer_blocks.*.", "single_layers.*.")],
            layers: &[
                ("norm1.linear", "modCX.1"),
                ("attn.to_q", "attn.w1q"),
                ("attn.to_k", "attn.w1k"),
                ("attn.to_v", "attn.w1v"),
                ("attn.to_out.0", "attn.w1o"),
                ("ff.linear_1", "mlp.c_fc1"),
                ("ff.linear_2", "mlp.c_fc2"),
                ("ff.out_projection", "mlp.c_proj"),
            ],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const PIXART: Family = Family {
    name: "pixart",
    diffusers: &[
        "pos_embed.proj.weight",
        "adaln_single.linear.weight",
        "caption_projection.linear_1.weight",
        "transformer_blocks.0.ff.net.0.proj.weight",
    ],
    original: &[
        "x_embedder.proj.weight",
        "t_block.1.weight",
        "y_embedder.y_proj.fc1.weight",
        "blocks.0.mlp.fc1.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        Section {
            layers: &[
                ("pos_embed.proj", "x_embedder.proj"),
                ("adaln_single.linear", "t_block.1"),
                ("adaln_single.emb.timestep_embedder.linear_1", "t_embedder.mlp.0"),
                ("adaln_single.emb.timestep_embedder.linear_2", "t_embedder.mlp.2"),
                ("adaln_single.emb.resolution_embedder.linear_1", "csize_embedder.mlp.0"),
                ("adaln_single.emb.resolution_embedder.linear_2", "csize_embedder.mlp.2"),
                ("adaln_single.emb.aspect_ratio_embedder.linear_1", "ar_embedder.mlp.0"),
                ("adaln_single.emb.aspect_ratio_embedder.linear_2", "ar_embedder.mlp.2"),
                ("caption_projection.linear_1", "y_embedder.y_proj.fc1"),
                ("caption_projection.linear_2", "y_embedder.y_proj.fc2"),
                ("proj_out", "final_layer.linear"),
            ],
            params: &[
                ("pos_embed.pos_embed", "pos_embed"),
                ("caption_projection.y_embedding", "y_embedder.y_embedding"),
                ("scale_shift_table", "final_layer.scale_shift_table"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[("transformer_blocks.*.", "blocks.*.")],
            layers: &[
                ("attn1.to_out.0", "attn.proj"),
                ("attn2.to_q", "cross_attn.q_linear"),
                ("attn2.to_out.0", "cross_attn.proj"),
                ("ff.net.0.proj", "mlp.fc1"),
                ("ff.net.2", "mlp.fc2"),
            ],
            params: &[("scale_shift_table", "scale_shift_table")],
            fused: &[
                (&["attn1.to_q", "attn1.to_k", "attn1.to_v"], "attn.qkv", Way::Even),
                (&["attn2.to_k", "attn2.to_v"], "cross_attn.kv_linear", Way::Even),
            ],
            ..Section::EMPTY
        },
    ]),
};
