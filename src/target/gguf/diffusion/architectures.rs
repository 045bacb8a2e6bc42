//! Architectures of diffusion models, as ComfyUI-GGUF has them: what a file calls itself, which tensors are never
//! quantized (from its patch of llama-quantize), and which stay whole before that (from its converter).
use Mark::{Is, Part};

/// What a tensor is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something in its name.
    Part(&'static str),
    /// Its name.
    Is(&'static str),
}

impl Mark {
    /// Whether a tensor of that name is meant.
    pub fn hits(self, name: &str) -> bool {
        match self {
            Part(part) => name.contains(part),
            Is(whole) => name == whole,
        }
    }
    /// What is looked for.
    pub fn text(self) -> &'static str {
        match self {
            Part(text) | Is(text) => text,
        }
    }
}

/// An architecture.
#[derive(Debug)]
pub struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// Families of [`crate::target::names`] that are it.
    pub families: &'static [&'static str],
    /// Names of the original layout that it has besides, where a family is of several architectures.
    pub also: &'static [&'static str],
    /// Whether tensors whose rows are not whole super-blocks are laid out anew, in rows of 256.
    pub reshapes: bool,
    /// Parts of the names of tensors that stay F32.
    pub precise: &'static [&'static str],
    /// Parts of the names of tensors that are left out.
    pub ignored: &'static [&'static str],
    /// Tensors that are never quantized.
    pub never: &'static [Mark],
}

const NONE: Architecture =
    Architecture { name: "", families: &[], also: &[], reshapes: false, precise: &[], ignored: &[], never: &[] };

const STREAMS: &[Mark] = &[
    Part("txt_in."),
    Part("img_in."),
    Part("time_in."),
    Part("vector_in."),
    Part("guidance_in."),
    Part("final_layer."),
];

const UNET: &[Mark] = &[
    Part("class_embedding."),
    Part("time_embedding."),
    Part("add_embedding."),
    Part("time_embed."),
    Part("label_emb."),
    Part("conv_in."),
    Part("conv_out."),
    Is("input_blocks.0.0.weight"),
    Is("out.2.weight"),
];

/// Every one. Of two that have the same families the first that fits is meant.
pub static ALL: [Architecture; 12] = [
    Architecture { name: "flux", families: &["flux", "flux2", "chroma"], never: STREAMS, ..NONE },
    Architecture {
        name: "sd3",
        families: &["sd3"],
        never: &[
            Part("final_layer."),
            Part("time_text_embed."),
            Part("context_embedder."),
            Part("t_embedder."),
            Part("y_embedder."),
            Part("x_embedder."),
            Is("proj_out.weight"),
            Is("pos_embed"),
        ],
        ..NONE
    },
    Architecture {
        name: "aura",
        families: &["auraflow"],
        never: &[
            Part("t_embedder."),
            Part("init_x_linear."),
            Is("modF.1.weight"),
            Is("cond_seq_linear.weight"),
            Is("final_linear.weight"),
            Is("positional_encoding"),
            Is("register_tokens"),
        ],
        ..NONE
    },
    Architecture {
        name: "hidream",
        families: &["hidream"],
        precise: &[".ff_i.gate.weight", "img_emb.emb_pos"],
        never: &[
            Part("p_embedder."),
            Part("t_embedder."),
            Part("x_embedder."),
            Part("final_layer."),
            Part(".ff_i.gate.weight"),
            Part("caption_projection."),
        ],
        ..NONE
    },
    Architecture {
        name: "cosmos",
        families: &["cosmos-predict2"],
        precise: &["pos_embedder"],
        ignored: &["_extra_state", "accum_"],
        never: &[
            Part("p_embedder."),
            Part("t_embedder."),
            Part("t_embedding_norm."),
            Part("x_embedder."),
            Part("pos_embedder."),
            Part("final_layer."),
        ],
        ..NONE
    },
    Architecture {
        name: "ltxv",
        families: &["ltx-video", "ltx2"],
        precise: &["scale_shift_table"],
        never: &[
            Part("adaln_single."),
            Part("caption_projection."),
            Part("patchify_proj."),
            Part("proj_out."),
            Part("scale_shift_table"),
        ],
        ..NONE
    },
    Architecture {
        name: "hyvid",
        families: &["hunyuan-video", "hunyuan-video-1.5", "hunyuan-image"],
        never: STREAMS,
        ..NONE
    },
    Architecture {
        name: "wan",
        families: &["wan"],
        precise: &[".modulation"],
        never: &[
            Part("modulation."),
            Part("patch_embedding."),
            Part("text_embedding."),
            Part("time_projection."),
            Part("time_embedding."),
            Part("img_emb."),
            Part("head."),
        ],
        ..NONE
    },
    Architecture {
        name: "sdxl",
        families: &["unet"],
        also: &["label_emb.0.0.weight"],
        reshapes: true,
        never: UNET,
        ..NONE
    },
    Architecture { name: "sd1", families: &["unet"], reshapes: true, never: UNET, ..NONE },
    Architecture {
        name: "lumina2",
        families: &["lumina2", "z-image"],
        never: &[
            Part("t_embedder."),
            Part("x_embedder."),
            Part("final_layer."),
            Part("cap_embedder."),
            Part("context_refiner."),
            Part("noise_refiner."),
        ],
        ..NONE
    },
    // The patch does not know this one; what goes in, what comes out and the time are kept as in the others.
    Architecture {
        name: "qwen_image",
        families: &["qwen-image", "qwen-image-2.1"],
        never: &[Part("img_in."), Part("txt_in."), Part("time_text_embed."), Part("norm_out."), Is("proj_out.weight")],
        ..NONE
    },
];

/// The architecture that calls itself so.
pub fn named(name: &str) -> Option<&'static Architecture> {
    ALL.iter().find(|a| a.name == name)
}

/// The architecture of a family; `has` tells whether it has a tensor of a name of the original layout.
pub fn of_family(family: &str, has: impl Fn(&str) -> bool) -> Option<&'static Architecture> {
    ALL.iter().find(|a| a.families.contains(&family) && a.also.iter().all(|name| has(name)))
}
