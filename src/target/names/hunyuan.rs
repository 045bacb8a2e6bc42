//! HunyuanVideo, which has two sets of original names; HunyuanVideo 1.5 and HunyuanImage, which are written as ComfyUI
//! names them: diffusers reads no single files of these.
use super::table::{Family, Layout, Section, Way};

const DIFFUSERS: &[&str] = &[
    "x_embedder.proj.weight",
    "context_embedder.proj_in.weight",
    "time_text_embed.text_embedder.linear_1.weight",
    "single_transformer_blocks.0.proj_mlp.weight",
    "proj_out.weight",
];

/// What Tencent's files and ComfyUI's modules call the same.
const ANY: Section = Section {
    layers: &[
        ("x_embedder.proj", "img_in.proj"),
        ("context_embedder.proj_in", "txt_in.input_embedder"),
        ("proj_out", "final_layer.linear"),
    ],
    fused: &[(&["norm_out.linear"], "final_layer.adaLN_modulation.1", Way::Swapped)],
    ..Section::EMPTY
};

const POOLED: Section = Section {
    layers: &[
        ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
        ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
    ],
    ..Section::EMPTY
};

const REFINER: &str = "context_embedder.token_refiner.refiner_blocks.*.";
const REFINER_ORIGINAL: &str = "txt_in.individual_token_refiner.blocks.*.";

const REFINER_NORMS: Section = Section {
    at: &[(REFINER, REFINER_ORIGINAL)],
    same: &["norm1", "norm2"],
    layers: &[("norm_out.linear", "adaLN_modulation.1")],
    ..Section::EMPTY
};

const SINGLE: Section = Section {
    at: &[("single_transformer_blocks.*.", "single_blocks.*.")],
    layers: &[("proj_out", "linear2")],
    fused: &[(&["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"], "linear1", Way::Wide(3))],
    ..Section::EMPTY
};

const QKV: &[&str] = &["attn.to_q", "attn.to_k", "attn.to_v"];
const ADDED: &[&str] = &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"];

/// Tencent's names: diffusers reads them, and so does ComfyUI.
pub(super) const HUNYUAN: Family = Family {
    name: "hunyuan-video",
    diffusers: DIFFUSERS,
    original: &[
        "img_in.proj.weight",
        "txt_in.input_embedder.weight",
        "vector_in.in_layer.weight",
        "double_blocks.0.img_mod.linear.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        ANY,
        POOLED,
        REFINER_NORMS,
        SINGLE,
        Section {
            layers: &[
                ("time_text_embed.timestep_embedder.linear_1", "time_in.mlp.0"),
                ("time_text_embed.timestep_embedder.linear_2", "time_in.mlp.2"),
                ("time_text_embed.guidance_embedder.linear_1", "guidance_in.mlp.0"),
                ("time_text_embed.guidance_embedder.linear_2", "guidance_in.mlp.2"),
                ("context_embedder.time_text_embed.timestep_embedder.linear_1", "txt_in.t_embedder.mlp.0"),
                ("context_embedder.time_text_embed.timestep_embedder.linear_2", "txt_in.t_embedder.mlp.2"),
                ("context_embedder.time_text_embed.text_embedder.linear_1", "txt_in.c_embedder.linear_1"),
                ("context_embedder.time_text_embed.text_embedder.linear_2", "txt_in.c_embedder.linear_2"),
            ],
            ..Section::EMPTY
        },
        Section {
            at: &[(REFINER, REFINER_ORIGINAL)],
            layers: &[("attn.to_out.0", "self_attn_proj"), ("ff.net.0.proj", "mlp.fc1"), ("ff.net.2", "mlp.fc2")],
            fused: &[(QKV, "self_attn_qkv", Way::Even)],
            ..Section::EMPTY
        },
        Section {
            at: &[("transformer_blocks.*.", "double_blocks.*.")],
            layers: &[
                ("norm1.linear", "img_mod.linear"),
                ("norm1_context.linear", "txt_mod.linear"),
                ("attn.norm_q", "img_attn_q_norm"),
                ("attn.norm_k", "img_attn_k_norm"),
                ("attn.to_out.0", "img_attn_proj"),
                ("attn.norm_added_q", "txt_attn_q_norm"),
                ("attn.norm_added_k", "txt_attn_k_norm"),
                ("attn.to_add_out", "txt_attn_proj"),
                ("ff.net.0.proj", "img_mlp.fc1"),
                ("ff.net.2", "img_mlp.fc2"),
                ("ff_context.net.0.proj", "txt_mlp.fc1"),
                ("ff_context.net.2", "txt_mlp.fc2"),
            ],
            fused: &[(QKV, "img_attn_qkv", Way::Even), (ADDED, "txt_attn_qkv", Way::Even)],
            ..Section::EMPTY
        },
        Section {
            at: &[("single_transformer_blocks.*.", "single_blocks.*.")],
            layers: &[("norm.linear", "modulation.linear"), ("attn.norm_q", "q_norm"), ("attn.norm_k", "k_norm")],
            ..Section::EMPTY
        },
    ]),
};

const COMFY_REFINER: Section = Section {
    at: &[(REFINER, REFINER_ORIGINAL)],
    layers: &[("attn.to_out.0", "self_attn.proj"), ("ff.net.0.proj", "mlp.0"), ("ff.net.2", "mlp.2")],
    fused: &[(QKV, "self_attn.qkv", Way::Even)],
    ..Section::EMPTY
};

const COMFY_TEXT: Section = Section {
    at: &[("context_embedder.time_text_embed.", "txt_in.")],
    layers: &[
        ("timestep_embedder.linear_1", "t_embedder.in_layer"),
        ("timestep_embedder.linear_2", "t_embedder.out_layer"),
        ("text_embedder.linear_1", "c_embedder.in_layer"),
        ("text_embedder.linear_2", "c_embedder.out_layer"),
    ],
    ..Section::EMPTY
};

const COMFY_DOUBLE: Section = Section {
    at: &[("transformer_blocks.*.", "double_blocks.*.")],
    layers: &[
        ("norm1.linear", "img_mod.lin"),
        ("norm1_context.linear", "txt_mod.lin"),
        ("attn.to_out.0", "img_attn.proj"),
        ("attn.to_add_out", "txt_attn.proj"),
        ("ff.net.0.proj", "img_mlp.0"),
        ("ff.net.2", "img_mlp.2"),
        ("ff_context.net.0.proj", "txt_mlp.0"),
        ("ff_context.net.2", "txt_mlp.2"),
    ],
    params: &[
        ("attn.norm_q.weight", "img_attn.norm.query_norm.scale"),
        ("attn.norm_k.weight", "img_attn.norm.key_norm.scale"),
        ("attn.norm_added_q.weight", "txt_attn.norm.query_norm.scale"),
        ("attn.norm_added_k.weight", "txt_attn.norm.key_norm.scale"),
    ],
    fused: &[(QKV, "img_attn.qkv", Way::Even), (ADDED, "txt_attn.qkv", Way::Even)],
    ..Section::EMPTY
};

const COMFY_SINGLE: Section = Section {
    at: &[("single_transformer_blocks.*.", "single_blocks.*.")],
    layers: &[("norm.linear", "modulation.lin")],
    params: &[("attn.norm_q.weight", "norm.query_norm.scale"), ("attn.norm_k.weight", "norm.key_norm.scale")],
    ..Section::EMPTY
};

/// The second text encoder, which reads the letters to be drawn.
const BYT5: Section = Section {
    at: &[("context_embedder_2.", "byt5_in.")],
    layers: &[("norm", "layernorm"), ("linear_1", "fc1"), ("linear_2", "fc2"), ("linear_3", "fc3")],
    ..Section::EMPTY
};

/// ComfyUI's own names, as it saves the model: read here, never written.
pub(super) const COMFY: Family = Family {
    name: "hunyuan-video",
    diffusers: &[],
    original: &[
        "img_in.proj.weight",
        "txt_in.input_embedder.weight",
        "vector_in.in_layer.weight",
        "double_blocks.0.img_mod.lin.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        ANY,
        POOLED,
        REFINER_NORMS,
        SINGLE,
        COMFY_TEXT,
        COMFY_REFINER,
        COMFY_DOUBLE,
        COMFY_SINGLE,
        Section {
            layers: &[
                ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
                ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
                ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
                ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
            ],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const HUNYUAN15: Family = Family {
    name: "hunyuan-video-1.5",
    diffusers: &[
        "x_embedder.proj.weight",
        "image_embedder.norm_in.weight",
        "cond_type_embed.weight",
        "proj_out.weight",
    ],
    original: &[
        "img_in.proj.weight",
        "vision_in.proj.0.weight",
        "cond_type_embedding.weight",
        "double_blocks.0.img_mod.lin.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        ANY,
        REFINER_NORMS,
        COMFY_TEXT,
        COMFY_REFINER,
        COMFY_DOUBLE,
        BYT5,
        Section {
            layers: &[
                ("time_embed.timestep_embedder.linear_1", "time_in.in_layer"),
                ("time_embed.timestep_embedder.linear_2", "time_in.out_layer"),
                ("time_embed.timestep_embedder_r.linear_1", "time_r_in.in_layer"),
                ("time_embed.timestep_embedder_r.linear_2", "time_r_in.out_layer"),
                ("image_embedder.norm_in", "vision_in.proj.0"),
                ("image_embedder.linear_1", "vision_in.proj.1"),
                ("image_embedder.linear_2", "vision_in.proj.3"),
                ("image_embedder.norm_out", "vision_in.proj.4"),
                ("cond_type_embed", "cond_type_embedding"),
            ],
            ..Section::EMPTY
        },
    ]),
};

pub(super) const HUNYUAN_IMAGE: Family = Family {
    name: "hunyuan-image",
    diffusers: &[
        "x_embedder.proj.weight",
        "context_embedder_2.norm.weight",
        "time_guidance_embed.timestep_embedder.linear_1.weight",
        "single_transformer_blocks.0.proj_mlp.weight",
        "proj_out.weight",
    ],
    original: &[
        "img_in.proj.weight",
        "byt5_in.layernorm.weight",
        "double_blocks.0.img_mod.lin.weight",
        "single_blocks.0.modulation.lin.weight",
    ],
    refuse: &[],
    layout: Layout::Sections(&[
        ANY,
        REFINER_NORMS,
        SINGLE,
        COMFY_TEXT,
        COMFY_REFINER,
        COMFY_DOUBLE,
        COMFY_SINGLE,
        BYT5,
        Section {
            layers: &[
                ("time_guidance_embed.timestep_embedder.linear_1", "time_in.in_layer"),
                ("time_guidance_embed.timestep_embedder.linear_2", "time_in.out_layer"),
                ("time_guidance_embed.timestep_embedder_r.linear_1", "time_r_in.in_layer"),
                ("time_guidance_embed.timestep_embedder_r.linear_2", "time_r_in.out_layer"),
                ("time_guidance_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
                ("time_guidance_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
            ],
            ..Section::EMPTY
        },
    ]),
};
