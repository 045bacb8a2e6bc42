//! Qwen 2 and 2.5.
use super::llama::LAYER;
use super::{Architecture, DECODER};
use crate::core::Result;
use crate::target::gguf::hf::keys::{Keys, Rope};

pub(super) static QWEN2: Architecture = Architecture {
    name: "qwen2",
    classes: &["Qwen2ForCausalLM", "Qwen2Model"],
    layer_names: LAYER,
    keys: plain,
    ..DECODER
};

/// What an architecture has that has nothing of its own.
pub(super) fn plain(keys: &mut Keys) -> Result<()> {
    let rope = Rope::of(keys.config, Some(10000.0))?;
    keys.common(&rope)
}
