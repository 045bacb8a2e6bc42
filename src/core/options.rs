//! What only some targets know, for a whole file.
use super::dtype::Dtype;

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
}
