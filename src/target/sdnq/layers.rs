//! What kind of layer a tensor's name and shape speak of. The consumer knows by the module's class; a file does not say.

/// A layer's kind, as far as SDNQ cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A matrix product: what SDNQ quantizes.
    Linear,
    /// A table of vectors.
    Embedding,
    /// Kernels: 3 to 5 dimensions.
    Convolution,
    /// A matrix product of transformers' own class, with its weight transposed (GPT-2).
    Transposed,
    /// One of many experts, or what chooses among them: transformers stacks them on loading.
    Expert,
    /// Norms, biases, single parameters.
    Other,
}

impl Kind {
    /// Why a layer of this kind is left as it is.
    pub fn why_kept(self) -> &'static str {
        match self {
            Self::Linear => "a linear layer",
            Self::Embedding => "an embedding: SDNQ's loader expects it in float",
            Self::Convolution => "a convolution: SDNQ's loader expects it in float",
            Self::Transposed => "transformers' Conv1D: SDNQ does not quantize this class",
            Self::Expert => {
                "part of a mixture of experts: transformers stacks these on loading, SDNQ does not quantize stacks"
            }
            Self::Other => "not a linear layer",
        }
    }
}

/// Module names of embedding tables, as transformers, diffusers and the original code bases have them.
const EMBEDDINGS: [&str; 24] = [
    "embed_tokens",
    "embed_positions",
    "embed_tokens_per_layer",
    "embeddings",
    "embedding",
    "tok_embeddings",
    "token_embedding",
    "token_embeddings",
    "word_embedding",
    "word_embeddings",
    "position_embedding",
    "position_embeddings",
    "positional_embedding",
    "token_type_embeddings",
    "relative_attention_bias",
    "class_embedding",
    "wte",
    "wpe",
    "shared",
    "language_embeddings",
    "entity_embeddings",
    "pos_emb",
    "tok_emb",
    "x_pad_token",
];

/// The kind of a tensor. Not for biases: their names end differently.
pub fn kind(name: &str, shape: &[u64]) -> Kind {
    let Some(layer) = name.strip_suffix(".weight") else {
        return Kind::Other;
    };
    match shape.len() {
        2 if is_embedding(layer) => Kind::Embedding,
        2 if is_transposed(layer, shape) => Kind::Transposed,
        2 if is_expert(layer) => Kind::Expert,
        2 => Kind::Linear,
        3..=5 => Kind::Convolution,
        _ => Kind::Other,
    }
}

/// GPT-2's class stores `[in, out]`; other models call linear layers the same, so the shape decides where it can.
fn is_transposed(layer: &str, shape: &[u64]) -> bool {
    let [rows, cols] = *shape else { return false };
    match layer.rsplit('.').next().unwrap_or(layer) {
        "c_attn" | "q_attn" | "c_fc" => cols > rows,
        "c_proj" => rows >= cols,
        _ => false,
    }
}

fn is_expert(layer: &str) -> bool {
    let mut segments = layer.rsplit('.');
    let last = segments.next();
    let numbered = layer.split('.').zip(layer.split('.').skip(1));
    numbered.into_iter().any(|(a, b)| a == "experts" && !b.is_empty() && b.bytes().all(|c| c.is_ascii_digit()))
        || (matches!(last, Some("gate" | "router"))
            && matches!(segments.next(), Some("mlp" | "block_sparse_moe" | "moe")))
}

/// Constants that old checkpoints carry and today's model classes compute: not parameters, and no longer known by name.
pub fn is_leftover(name: &str, shape: &[u64]) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        "position_ids" => shape.len() <= 2,
        "inv_freq" => name.ends_with("rotary_emb.inv_freq"),
        "masked_bias" => true,
        // GPT-2's causal mask is called like a bias, but has four dimensions.
        "bias" => shape.len() == 4 && name.ends_with("attn.bias"),
        _ => false,
    }
}

fn is_embedding(layer: &str) -> bool {
    let module = layer.rsplit('.').next().unwrap_or(layer);
    // Flux's `x_embedder` and `time_text_embed.….linear_1` are products; only tables are called one of these.
    EMBEDDINGS.contains(&module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers() {
        fn check(name: &str, shape: &[u64], expected: bool) {
            assert_eq!(is_leftover(name, shape), expected, "{name}");
        }
        check("embeddings.position_ids", &[1, 512], true);
        check("model.layers.0.self_attn.rotary_emb.inv_freq", &[64], true);
        check("h.0.attn.bias", &[1, 1, 1024, 1024], true);
        check("h.0.attn.c_attn.bias", &[2304], false);
        check("h.0.attn.masked_bias", &[], true);
        check("embeddings.position_embeddings.weight", &[512, 384], false);
    }

    #[test]
    fn kinds() {
        fn check(name: &str, shape: &[u64], expected: Kind) {
            assert_eq!(kind(name, shape), expected, "{name}");
        }
        check("encoder.layer.0.attention.self.query.weight", &[384, 384], Kind::Linear);
        check("encoder.layer.0.attention.self.query.bias", &[384], Kind::Other);
        check("embeddings.word_embeddings.weight", &[30522, 384], Kind::Embedding);
        check("embeddings.LayerNorm.weight", &[384], Kind::Other);
        check("model.embed_tokens.weight", &[259, 256], Kind::Embedding);
        check("lm_head.weight", &[259, 256], Kind::Linear);
        check("x_embedder.weight", &[3072, 64], Kind::Linear);
        check("time_text_embed.timestep_embedder.linear_1.weight", &[3072, 256], Kind::Linear);
        check("conv_in.weight", &[320, 4, 3, 3], Kind::Convolution);
        check("scale_shift_table", &[6, 1536], Kind::Other);
        check("h.0.attn.c_attn.weight", &[768, 2304], Kind::Transposed);
        check("h.0.mlp.c_proj.weight", &[3072, 768], Kind::Transposed);
        check("transformer.h.0.attn.c_attn.weight", &[2304, 2048], Kind::Linear);
        check("model.layers.0.mlp.experts.17.up_proj.weight", &[768, 2048], Kind::Expert);
        check("model.layers.0.mlp.gate.weight", &[128, 2048], Kind::Expert);
        check("model.layers.0.mlp.gate_proj.weight", &[6144, 2048], Kind::Linear);
        check("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", &[32, 64], Kind::Embedding);
    }
}
