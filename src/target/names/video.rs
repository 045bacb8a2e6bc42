//! Wan, LTX-Video, Cosmos, Mochi.
use super::table::{Family, Layout, Section, Way};

const SHAPED: &str = "a part of Wan-Animate, whose tensors are of other shapes in the other layout";

pub(super) const WAN: Family = Family {
    name: "wan",
    diffusers: &[
        "patch_embedding.weight",
        "condition_embedder.time_embedder.linear_1.weight",
        "blocks.0.ffn.net.0.proj.weight",
        "scale_shift_table",
    ],
    original: &["patch_embedding.weight", "time_embedding.0.weight", "blocks.0.ffn.0.weight", "head.modulation"],
    refuse: &[("motion_encoder.", SHAPED), ("face_adapter.", SHAPED)],
    layout: Layout::Sections(&[
        Section {
            same: &["patch_embedding", "vace_patch_embedding"],
            layers: &[
                ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
                ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
                ("condition_embedder.time_proj", "time_projection.1"),
                ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
                ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
                ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
                ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
                ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
                ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
                ("proj_out", "head.head"),
            ],
            params: &[
                ("scale_shift_table", "head.modulation"),
                ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[("blocks.*.", "blocks.*."), ("vace_blocks.*.", "vace_blocks.*.")],
            // The norm before cross attention is the third one built, and the second one run.
            layers: &[("ffn.net.0.proj", "ffn.0"), ("ffn.net.2", "ffn.2"), ("norm2", "norm3")],
            params: &[("scale_shift_table", "modulation")],
            ..Section::EMPTY
        },
        Section {
            at: &[
                ("blocks.*.attn1.", "blocks.*.self_attn."),
                ("blocks.*.attn2.", "blocks.*.cross_attn."),
                ("vace_blocks.*.attn1.", "vace_blocks.*.self_attn."),
                ("vace_blocks.*.attn2.", "vace_blocks.*.cross_attn."),
            ],
            same: &["norm_q", "norm_k"],
            layers: &[
                ("to_q", "q"),
                ("to_k", "k"),
                ("to_v", "v"),
                ("to_out.0", "o"),
                ("add_k_proj", "k_img"),
                ("add_v_proj", "v_img"),
                ("norm_added_k", "norm_k_img"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[("vace_blocks.*.", "vace_blocks.*.")],
            layers: &[("proj_in", "before_proj"), ("proj_out", "after_proj")],
            ..Section::EMPTY
        },
    ]),
};

/// What both LTX models have.
const LTX_VIDEO: Section = Section {
    same: &["caption_projection.linear_1", "caption_projection.linear_2", "proj_out"],
    layers: &[
        ("proj_in", "patchify_proj"),
        ("time_embed.linear", "adaln_single.linear"),
        ("time_embed.emb.timestep_embedder.linear_1", "adaln_single.emb.timestep_embedder.linear_1"),
        ("time_embed.emb.timestep_embedder.linear_2", "adaln_single.emb.timestep_embedder.linear_2"),
    ],
    params: &[
        ("scale_shift_table", "scale_shift_table"),
        ("transformer_blocks.*.scale_shift_table", "transformer_blocks.*.scale_shift_table"),
    ],
    ..Section::EMPTY
};

const LTX_ATTENTION: Section = Section {
    same: &["to_q", "to_k", "to_v", "to_out.0"],
    layers: &[("norm_q", "q_norm"), ("norm_k", "k_norm")],
    ..Section::EMPTY
};

const LTX_BLOCK: Section = Section {
    at: &[
        ("transformer_blocks.*.attn1.", "transformer_blocks.*.attn1."),
        ("transformer_blocks.*.attn2.", "transformer_blocks.*.attn2."),
    ],
    ..LTX_ATTENTION
};

const LTX_FEED: Section =
    Section { same: &["transformer_blocks.*.ff.net.0.proj", "transformer_blocks.*.ff.net.2"], ..Section::EMPTY };

pub(super) const LTX: Family = Family {
    name: "ltx-video",
    diffusers: &["proj_in.weight", "time_embed.linear.weight", "transformer_blocks.0.attn1.norm_q.weight"],
    original: &["patchify_proj.weight", "adaln_single.linear.weight", "transformer_blocks.0.attn1.q_norm.weight"],
    refuse: &[],
    layout: Layout::Sections(&[LTX_VIDEO, LTX_BLOCK, LTX_FEED]),
};

pub(super) const LTX2: Family = Family {
    name: "ltx2",
    diffusers: &["proj_in.weight", "audio_proj_in.weight", "audio_time_embed.linear.weight"],
    original: &["patchify_proj.weight", "audio_patchify_proj.weight", "audio_adaln_single.linear.weight"],
    refuse: &[],
    layout: Layout::Sections(&[
        LTX_VIDEO,
        LTX_BLOCK,
        LTX_FEED,
        Section {
            at: &[
                ("transformer_blocks.*.audio_attn1.", "transformer_blocks.*.audio_attn1."),
                ("transformer_blocks.*.audio_attn2.", "transformer_blocks.*.audio_attn2."),
                ("transformer_blocks.*.audio_to_video_attn.", "transformer_blocks.*.audio_to_video_attn."),
                ("transformer_blocks.*.video_to_audio_attn.", "transformer_blocks.*.video_to_audio_attn."),
            ],
            ..LTX_ATTENTION
        },
        Section {
            same: &[
                "audio_caption_projection.linear_1",
                "audio_caption_projection.linear_2",
                "audio_proj_out",
                "transformer_blocks.*.audio_ff.net.0.proj",
                "transformer_blocks.*.audio_ff.net.2",
            ],
            layers: &[("audio_proj_in", "audio_patchify_proj")],
            params: &[("audio_scale_shift_table", "audio_scale_shift_table")],
            ..Section::EMPTY
        },
        Section {
            at: &[("transformer_blocks.*.", "transformer_blocks.*.")],
            params: &[
                ("audio_scale_shift_table", "audio_scale_shift_table"),
                ("video_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_video"),
                ("audio_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_audio"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[
                ("audio_time_embed.", "audio_adaln_single."),
                ("av_cross_attn_video_scale_shift.", "av_ca_video_scale_shift_adaln_single."),
                ("av_cross_attn_audio_scale_shift.", "av_ca_audio_scale_shift_adaln_single."),
                ("av_cross_attn_video_a2v_gate.", "av_ca_a2v_gate_adaln_single."),
                ("av_cross_attn_audio_v2a_gate.", "av_ca_v2a_gate_adaln_single."),
            ],
            same: &["linear", "emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2"],
            ..Section::EMPTY
        },
    ]),
};

/// What both generations of Cosmos have.
const COSMOS: Section = Section {
    layers: &[
        ("patch_embed.proj", "x_embedder.proj.1"),
        ("time_embed.t_embedder.linear_1", "t_embedder.1.linear_1"),
        ("time_embed.t_embedder.linear_2", "t_embedder.1.linear_2"),
        ("proj_out", "final_layer.linear"),
    ],
    ..Section::EMPTY
};

pub(super) const COSMOS2: Family = Family {
    name: "cosmos-predict2",
    diffusers: &["patch_embed.proj.weight", "time_embed.norm.weight", "transformer_blocks.0.norm1.linear_1.weight"],
    original: &["x_embedder.proj.1.weight", "t_embedding_norm.weight", "blocks.0.mlp.layer1.weight"],
    refuse: &[],
    layout: Layout::Sections(&[
        COSMOS,
        Section {
            layers: &[
                ("time_embed.norm", "t_embedding_norm"),
                ("norm_out.linear_1", "final_layer.adaln_modulation.1"),
                ("norm_out.linear_2", "final_layer.adaln_modulation.2"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[("transformer_blocks.*.", "blocks.*.")],
            layers: &[
                ("norm1.linear_1", "adaln_modulation_self_attn.1"),
                ("norm1.linear_2", "adaln_modulation_self_attn.2"),
                ("norm2.linear_1", "adaln_modulation_cross_attn.1"),
                ("norm2.linear_2", "adaln_modulation_cross_attn.2"),
                ("norm3.linear_1", "adaln_modulation_mlp.1"),
                ("norm3.linear_2", "adaln_modulation_mlp.2"),
                ("ff.net.0.proj", "mlp.layer1"),
                ("ff.net.2", "mlp.layer2"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[
                ("transformer_blocks.*.attn1.", "blocks.*.self_attn."),
                ("transformer_blocks.*.attn2.", "blocks.*.cross_attn."),
            ],
            layers: &[
                ("to_q", "q_proj"),
                ("to_k", "k_proj"),
                ("to_v", "v_proj"),
                ("to_out.0", "output_proj"),
                ("norm_q", "q_norm"),
                ("norm_k", "k_norm"),
            ],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const COSMOS1: Family = Family {
    name: "cosmos",
    diffusers: &["patch_embed.proj.weight", "time_embed.norm.weight", "learnable_pos_embed.pos_emb_t"],
    original: &["x_embedder.proj.1.weight", "affline_norm.weight", "blocks.block0.blocks.2.block.layer1.weight"],
    refuse: &[],
    layout: Layout::Sections(&[
        COSMOS,
        Section {
            layers: &[
                ("time_embed.norm", "affline_norm"),
                ("norm_out.linear_1", "final_layer.adaLN_modulation.1"),
                ("norm_out.linear_2", "final_layer.adaLN_modulation.2"),
            ],
            params: &[
                ("learnable_pos_embed.pos_emb_t", "extra_pos_embedder.pos_emb_t"),
                ("learnable_pos_embed.pos_emb_h", "extra_pos_embedder.pos_emb_h"),
                ("learnable_pos_embed.pos_emb_w", "extra_pos_embedder.pos_emb_w"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[("transformer_blocks.*.", "blocks.block*.blocks.")],
            layers: &[
                ("norm1.linear_1", "0.adaLN_modulation.1"),
                ("norm1.linear_2", "0.adaLN_modulation.2"),
                ("norm2.linear_1", "1.adaLN_modulation.1"),
                ("norm2.linear_2", "1.adaLN_modulation.2"),
                ("norm3.linear_1", "2.adaLN_modulation.1"),
                ("norm3.linear_2", "2.adaLN_modulation.2"),
                ("ff.net.0.proj", "2.block.layer1"),
                ("ff.net.2", "2.block.layer2"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[
                ("transformer_blocks.*.attn1.", "blocks.block*.blocks.0.block.attn."),
                ("transformer_blocks.*.attn2.", "blocks.block*.blocks.1.block.attn."),
            ],
            same: &["to_out.0"],
            layers: &[
                ("to_q", "to_q.0"),
                ("norm_q", "to_q.1"),
                ("to_k", "to_k.0"),
                ("norm_k", "to_k.1"),
                ("to_v", "to_v.0"),
            ],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const MOCHI: Family = Family {
    name: "mochi",
    diffusers: &[
        "patch_embed.proj.weight",
        "time_embed.pooler.to_kv.weight",
        "transformer_blocks.0.norm1.linear.weight",
    ],
    original: &["x_embedder.proj.weight", "t5_y_embedder.to_kv.weight", "t5_yproj.weight", "blocks.0.mod_x.weight"],
    refuse: &[],
    layout: Layout::Sections(&[
        Section {
            layers: &[
                ("patch_embed.proj", "x_embedder.proj"),
                ("time_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
                ("time_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
                ("time_embed.pooler.to_kv", "t5_y_embedder.to_kv"),
                ("time_embed.pooler.to_q", "t5_y_embedder.to_q"),
                ("time_embed.pooler.to_out", "t5_y_embedder.to_out"),
                ("time_embed.caption_proj", "t5_yproj"),
                ("proj_out", "final_layer.linear"),
            ],
            params: &[("pos_frequencies", "pos_frequencies")],
            fused: &[(&["norm_out.linear"], "final_layer.mod", Way::Swapped)],
            ..Section::EMPTY
        },
        Section {
            at: &[("transformer_blocks.*.", "blocks.*.")],
            layers: &[
                ("norm1.linear", "mod_x"),
                ("attn1.norm_q", "attn.q_norm_x"),
                ("attn1.norm_k", "attn.k_norm_x"),
                ("attn1.to_out.0", "attn.proj_x"),
                ("attn1.norm_added_q", "attn.q_norm_y"),
                ("attn1.norm_added_k", "attn.k_norm_y"),
                ("attn1.to_add_out", "attn.proj_y"),
                ("ff.net.2", "mlp_x.w2"),
                ("ff_context.net.2", "mlp_y.w2"),
            ],
            fused: &[
                (&["attn1.to_q", "attn1.to_k", "attn1.to_v"], "attn.qkv_x", Way::Even),
                (&["attn1.add_q_proj", "attn1.add_k_proj", "attn1.add_v_proj"], "attn.qkv_y", Way::Even),
                // Here it is gate and value that are ordered differently.
                (&["ff.net.0.proj"], "mlp_x.w1", Way::Swapped),
                (&["ff_context.net.0.proj"], "mlp_y.w1", Way::Swapped),
                (
                    &["norm1_context.linear", "norm1_context.linear_1"],
                    "mod_y",
                    Way::Either("transformer_blocks.*.attn1.to_add_out.weight", "blocks.*.attn.proj_y.weight"),
                ),
            ],
            ..Section::EMPTY
        },
    ]),
};
