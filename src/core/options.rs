//! What only some targets know, for a whole file.
use std::collections::BTreeMap;

use super::dtype::Dtype;
use super::recipe::Smooth;

/// Whose names an output's tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Names {
    /// The source's.
    Source,
    /// Those of the original code bases, which ComfyUI reads.
    Original,
    /// diffusers'.
    Diffusers,
}

impl Names {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Source, Self::Original, Self::Diffusers];

    /// In profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Original => "original",
            Self::Diffusers => "diffusers",
        }
    }
    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|n| n.name() == name)
    }
}

/// Options of files for ComfyUI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComfyOptions {
    /// Whether the header describes the layers too, as some tools read them.
    pub header: bool,
    /// What every name begins with, in the place of what they begin with in the source.
    pub key_prefix: Option<String>,
}

/// Options of files for Nunchaku.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NunchakuOptions {
    /// Whether a folder for diffusers' general loader is written, with no layer fused, instead of a single file.
    pub lite: bool,
    /// A Nunchaku file of the base model, or one of the magnitudes of layers' inputs: where smoothing comes from.
    pub smooth_from: Option<String>,
    /// deepcompressor's description of the model, which says where its configuration lies.
    pub config_yaml: Option<String>,
    /// The model's folder or id, where its configuration lies.
    pub model_path: Option<String>,
    /// Whether the header says more than loaders read.
    pub extra_metadata: bool,
}

/// What a Nunchaku file of the base model gives, or one of the magnitudes of layers' inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Donor {
    /// What layers are smoothed by, by the layer's name there.
    pub smoothing: BTreeMap<String, Smooth>,
    /// The rank of its layers' branches.
    pub rank: Option<u32>,
    /// The configuration of the base model.
    pub config: Option<serde_json::Value>,
}

/// llama-quantize's options, for GGUF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GgufOptions {
    /// Every tensor gets the mixture's own type.
    pub pure: bool,
    /// The type of the output head.
    pub output_type: Option<Dtype>,
    /// The type of the table of token embeddings.
    pub embedding_type: Option<Dtype>,
    /// Whether the output head stays as it is.
    pub leave_output: bool,
    /// Whether tensors that are quantized already may be quantized again.
    pub allow_requantize: bool,
    /// Whether the output has as many files as the source, with the same tensors in each.
    pub keep_split: bool,
    /// Whether each tensor's loss is written into the file.
    pub embed_loss: bool,
    /// Keys to set: `KEY=TYPE:VALUE`.
    pub override_kv: Vec<String>,
    /// Layers to leave out: `3,7`.
    pub prune_layers: Option<String>,
    /// The pre-tokenizer's name in llama.cpp, where the tokenizer's files do not tell.
    pub pre: Option<String>,
}
