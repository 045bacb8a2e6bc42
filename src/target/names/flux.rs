//! FLUX.1 (dev, schnell, fill, kontext, and smaller ones), FLUX.2, Chroma.
use super::table::{Family, Layout, Section, Way};

const DOUBLE: &str = "transformer_blocks.*.";
const SINGLE: &str = "single_transformer_blocks.*.";

/// What all three have in a block of two streams.
const STREAMS: Section = Section {
    at: &[(DOUBLE, "double_blocks.*.")],
    layers: &[("attn.to_out.0", "img_attn.proj"), ("attn.to_add_out", "txt_attn.proj")],
    params: &[
        ("attn.norm_q.weight", "img_attn.norm.query_norm.scale"),
        ("attn.norm_k.weight", "img_attn.norm.key_norm.scale"),
        ("attn.norm_added_q.weight", "txt_attn.norm.query_norm.scale"),
        ("attn.norm_added_k.weight", "txt_attn.norm.key_norm.scale"),
    ],
    fused: &[
        (&["attn.to_q", "attn.to_k", "attn.to_v"], "img_attn.qkv", Way::Even),
        (&["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"], "txt_attn.qkv", Way::Even),
    ],
    ..Section::EMPTY
};

const STREAMS_MLP: Section = Section {
    at: &[(DOUBLE, "double_blocks.*.")],
    layers: &[
        ("ff.net.0.proj", "img_mlp.0"),
        ("ff.net.2", "img_mlp.2"),
        ("ff_context.net.0.proj", "txt_mlp.0"),
        ("ff_context.net.2", "txt_mlp.2"),
    ],
    ..Section::EMPTY
};

const SINGLE_NORMS: Section = Section {
    at: &[(SINGLE, "single_blocks.*.")],
    params: &[("attn.norm_q.weight", "norm.query_norm.scale"), ("attn.norm_k.weight", "norm.key_norm.scale")],
    ..Section::EMPTY
};

const SINGLE_LINEAR: Section = Section {
    at: &[(SINGLE, "single_blocks.*.")],
    layers: &[("proj_out", "linear2")],
    fused: &[(&["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"], "linear1", Way::Wide(3))],
    ..Section::EMPTY
};

const INPUT: Section =
    Section { layers: &[("x_embedder", "img_in"), ("context_embedder", "txt_in")], ..Section::EMPTY };

const OUTPUT: Section = Section {
    layers: &[("proj_out", "final_layer.linear")],
    fused: &[(&["norm_out.linear"], "final_layer.adaLN_modulation.1", Way::Swapped)],
    ..Section::EMPTY
};

pub(super) const FLUX: Family = Family {
    name: "flux",
    diffusers: &[
        "x_embedder.weight",
        "context_embedder.weight",
        "time_text_embed.text_embedder.linear_1.weight",
        "transformer_blocks.0.norm1_context.linear.weight",
        "single_transformer_blocks.0.norm.linear.weight",
        "proj_out.weight",
    ],
    original: &[
        "img_in.weight",
        "txt_in.weight",
        "vector_in.in_layer.weight",
        "double_blocks.0.img_mod.lin.weight",
        "single_blocks.0.modulation.lin.weight",
        "final_layer.linear.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        INPUT,
        OUTPUT,
        STREAMS,
        STREAMS_MLP,
        SINGLE_NORMS,
        SINGLE_LINEAR,
        Section {
            layers: &[
                ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
                ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
                ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
                ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
                ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
                ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[(DOUBLE, "double_blocks.*.")],
            layers: &[("norm1.linear", "img_mod.lin"), ("norm1_context.linear", "txt_mod.lin")],
            ..Section::EMPTY
        },
        Section { at: &[(SINGLE, "single_blocks.*.")], layers: &[("norm.linear", "modulation.lin")], ..Section::EMPTY },
    ]),
};

pub(super) const CHROMA: Family = Family {
    name: "chroma",
    diffusers: &["distilled_guidance_layer.in_proj.weight", "x_embedder.weight", "proj_out.weight"],
    original: &["distilled_guidance_layer.in_proj.weight", "img_in.weight", "final_layer.linear.weight"],
    refuse: &[],
    layout: Layout::Sections(&[
        INPUT,
        STREAMS,
        STREAMS_MLP,
        SINGLE_NORMS,
        SINGLE_LINEAR,
        Section {
            same: &["distilled_guidance_layer.in_proj", "distilled_guidance_layer.out_proj"],
            layers: &[
                ("distilled_guidance_layer.layers.*.linear_1", "distilled_guidance_layer.layers.*.in_layer"),
                ("distilled_guidance_layer.layers.*.linear_2", "distilled_guidance_layer.layers.*.out_layer"),
                ("proj_out", "final_layer.linear"),
            ],
            params: &[("distilled_guidance_layer.norms.*.weight", "distilled_guidance_layer.norms.*.scale")],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const FLUX2: Family = Family {
    name: "flux2",
    diffusers: &["double_stream_modulation_img.linear.weight", "x_embedder.weight", "proj_out.weight"],
    original: &["double_stream_modulation_img.lin.weight", "img_in.weight", "final_layer.linear.weight"],
    refuse: &[],
    layout: Layout::Sections(&[
        INPUT,
        OUTPUT,
        STREAMS,
        SINGLE_NORMS,
        Section {
            layers: &[
                ("time_guidance_embed.timestep_embedder.linear_1", "time_in.in_layer"),
                ("time_guidance_embed.timestep_embedder.linear_2", "time_in.out_layer"),
                ("time_guidance_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
                ("time_guidance_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
                ("double_stream_modulation_img.linear", "double_stream_modulation_img.lin"),
                ("double_stream_modulation_txt.linear", "double_stream_modulation_txt.lin"),
                ("single_stream_modulation.linear", "single_stream_modulation.lin"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[(DOUBLE, "double_blocks.*.")],
            layers: &[
                ("ff.linear_in", "img_mlp.0"),
                ("ff.linear_out", "img_mlp.2"),
                ("ff_context.linear_in", "txt_mlp.0"),
                ("ff_context.linear_out", "txt_mlp.2"),
            ],
            ..Section::EMPTY
        },
        // Fused on both sides.
        Section {
            at: &[(SINGLE, "single_blocks.*.")],
            layers: &[("attn.to_qkv_mlp_proj", "linear1"), ("attn.to_out", "linear2")],
            ..Section::EMPTY
        },
    ]),
};
