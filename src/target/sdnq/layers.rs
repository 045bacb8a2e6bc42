//! What kind of layer a tensor's name and shape speak of. The consumer knows by the module's class; a file does not say.
use crate::core::model::Model;
use crate::core::name;

/// A layer's kind, as far as SDNQ cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A matrix product: what SDNQ quantizes.
    Linear,
    /// A table of vectors, of PyTorch's own class.
    Embedding,
    /// A table of vectors that the model's class wraps in a class of its own, or whose class is not known.
    OtherEmbedding,
    /// A table that the output head, or another table, shares.
    TiedEmbedding,
    /// Kernels: 3 to 5 dimensions.
    Convolution,
    /// Kernels whose first dimension is the input's.
    TransposedConvolution,
    /// Kernels of a class of the model's own.
    OtherConvolution,
    /// A matrix product of transformers' own class, with its weight transposed (GPT-2).
    Conv1D,
    /// One of many experts, or what chooses among them: transformers stacks them on loading.
    Expert,
    /// Norms, biases, single parameters.
    Other,
}

/// Whether a layer is quantized, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantizable {
    /// By default.
    Yes,
    /// When embeddings are asked for.
    Embeddings,
    /// When convolutions are asked for.
    Convolutions,
    /// Never; why, for people.
    No(&'static str),
}

impl Kind {
    /// Whether SDNQ's loader can take it quantized.
    pub fn quantizable(self) -> Quantizable {
        match self {
            Self::Linear => Quantizable::Yes,
            Self::Embedding => Quantizable::Embeddings,
            Self::Convolution | Self::TransposedConvolution => Quantizable::Convolutions,
            Self::OtherEmbedding => {
                Quantizable::No("an embedding that may be of a class of its own: SDNQ quantizes nn.Embedding alone")
            }
            Self::TiedEmbedding => Quantizable::No("an embedding that other layers share: they would get its codes"),
            Self::OtherConvolution => {
                Quantizable::No("a convolution of a class of its own: SDNQ quantizes PyTorch's alone")
            }
            Self::Conv1D => Quantizable::No("transformers' Conv1D: SDNQ does not quantize this class"),
            Self::Expert => Quantizable::No(
                "part of a mixture of experts: transformers stacks these on loading, SDNQ does not quantize stacks",
            ),
            Self::Other => Quantizable::No("not a layer that SDNQ quantizes"),
        }
    }
    /// The dimension that groups run along.
    pub fn axis(self) -> u8 {
        u8::from(self != Self::TransposedConvolution)
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

/// Those of them that are PyTorch's own class wherever they are met, but for [`OWN_EMBEDDINGS`].
const TABLES: [&str; 12] = [
    "embed_tokens",
    "tok_embeddings",
    "token_embedding",
    "token_embeddings",
    "word_embedding",
    "word_embeddings",
    "position_embedding",
    "position_embeddings",
    "token_type_embeddings",
    "relative_attention_bias",
    "wte",
    "wpe",
];

/// Model classes, by how their names begin, whose token table is a scaled embedding of a class of its own.
const OWN_EMBEDDINGS: [&str; 26] = [
    "Gemma",
    "VaultGemma",
    "T5Gemma",
    "DiffusionGemma",
    "EmbeddingGemma",
    "Bart",
    "MBart",
    "M2M100",
    "NllbMoe",
    "PLBart",
    "PegasusX",
    "BigBirdPegasus",
    "BioGpt",
    "Blenderbot",
    "XGLM",
    "TrOCR",
    "SeamlessM4T",
    "MiniCPM3",
    "PPFormulaNet",
    "MuseSpark",
    "MuseGlimmer",
    "Inkling",
    "Ovis2",
    "Idefics",
    "Marian",
    "Moonshine",
];

/// Model classes, by how their names begin, whose convolutions are of classes of their own.
const OWN_CONVOLUTIONS: [&str; 9] = [
    "AutoencoderKLWan",
    "AutoencoderKLQwenImage",
    "AutoencoderKLCogVideoX",
    "AutoencoderKLMochi",
    "AutoencoderKLCosmos",
    "AutoencoderKLMagvit",
    "AutoencoderKLKVAE",
    "AutoencoderKLMiniMax",
    "EasyAnimate",
];

/// What must be known of a model to tell its layers apart.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The model's class.
    pub class: &'a str,
    /// Whether the token table is also the output head.
    pub tied: bool,
}

impl<'a> Surroundings<'a> {
    /// Those of a model.
    pub fn of(model: &'a Model) -> Self {
        Self { class: model.architecture.as_deref().unwrap_or_default(), tied: model.tied }
    }
}

/// The kind of a tensor. Not for biases: their names end differently. `bias` is the length of its layer's bias.
pub fn kind(name: &str, shape: &[u64], bias: Option<u64>, around: Surroundings) -> Kind {
    let Some(layer) = name.strip_suffix(".weight") else {
        return Kind::Other;
    };
    match shape.len() {
        2 if is_embedding(layer) => embedding(layer, around),
        2 if is_conv1d(layer, shape) => Kind::Conv1D,
        2 if is_expert(layer) => Kind::Expert,
        2 => Kind::Linear,
        3..=5 if OWN_CONVOLUTIONS.iter().any(|c| around.class.starts_with(c)) => Kind::OtherConvolution,
        3..=5 if is_transposed(layer, shape, bias) => Kind::TransposedConvolution,
        3..=5 => Kind::Convolution,
        _ => Kind::Other,
    }
}

/// The kind of a tensor of a model.
pub fn kind_in(model: &Model, name: &str, shape: &[u64], around: Surroundings) -> Kind {
    // Only a convolution's kind depends on its bias, and looking for one takes longer than all the rest.
    let bias = || model.find(&format!("{}.bias", name::layer(name))).map(|id| model.tensor(id).elements());
    kind(name, shape, if matches!(shape.len(), 3..=5) { bias() } else { None }, around)
}

fn is_embedding(layer: &str) -> bool {
    // Flux's `x_embedder` and `time_text_embed.….linear_1` are products; only tables are called one of these.
    EMBEDDINGS.contains(&name::last(layer))
}

fn embedding(layer: &str, around: Surroundings) -> Kind {
    let module = name::last(layer);
    let is_token_table = matches!(module, "embed_tokens" | "wte" | "word_embeddings" | "word_embedding");
    if module == "shared" || (around.tied && is_token_table) {
        Kind::TiedEmbedding
    } else if !TABLES.contains(&module)
        || (module == "embed_tokens" && OWN_EMBEDDINGS.iter().any(|c| around.class.starts_with(c)))
    {
        Kind::OtherEmbedding
    } else {
        Kind::Embedding
    }
}

/// A bias is as long as there are output channels, which tells where the two first dimensions differ; else the name.
fn is_transposed(layer: &str, shape: &[u64], bias: Option<u64>) -> bool {
    let (first, second) = (shape[0], shape[1]);
    match bias {
        Some(bias) if first != second && bias == first => false,
        Some(bias) if first != second && bias == second => true,
        _ => layer.split('.').any(|segment| {
            let hints = ["conv_transpose", "convtranspose", "transposed_conv", "deconv", "upconv", "up_conv", "convtr"];
            let numbered = segment.strip_prefix("conv_t").or_else(|| segment.strip_prefix("conv_tr"));
            hints.iter().any(|hint| segment.contains(hint))
                || numbered.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        }),
    }
}

/// GPT-2's class stores `[in, out]`; other models call linear layers the same, so the shape decides where it can.
fn is_conv1d(layer: &str, shape: &[u64]) -> bool {
    let [rows, cols] = *shape else { return false };
    match name::last(layer) {
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
            assert_eq!(kind(name, shape, None, Surroundings { class: "", tied: false }), expected, "{name}");
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
        check("h.0.attn.c_attn.weight", &[768, 2304], Kind::Conv1D);
        check("h.0.mlp.c_proj.weight", &[3072, 768], Kind::Conv1D);
        check("transformer.h.0.attn.c_attn.weight", &[2304, 2048], Kind::Linear);
        check("model.layers.0.mlp.experts.17.up_proj.weight", &[768, 2048], Kind::Expert);
        check("model.layers.0.mlp.gate.weight", &[128, 2048], Kind::Expert);
        check("model.layers.0.mlp.gate_proj.weight", &[6144, 2048], Kind::Linear);
        check("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", &[32, 64], Kind::Embedding);
    }

    #[test]
    fn convolutions() {
        fn check(name: &str, shape: &[u64], bias: Option<u64>, expected: Kind) {
            let around = Surroundings { class: "UNet2DConditionModel", tied: false };
            assert_eq!(kind(name, shape, bias, around), expected, "{name}");
        }
        check("conv_in.weight", &[320, 4, 3, 3], Some(320), Kind::Convolution);
        check("up.0.conv.weight", &[256, 128, 4, 4], Some(128), Kind::TransposedConvolution);
        check("up.0.conv.weight", &[256, 256, 4, 4], Some(256), Kind::Convolution);
        check("decoder.block.0.conv_t1.weight", &[256, 256, 16], Some(256), Kind::TransposedConvolution);
        check("decoder.conv_temporal.weight", &[256, 256, 3], None, Kind::Convolution);
        check("deconv.weight", &[64, 32, 4, 4], None, Kind::TransposedConvolution);
        let wan = Surroundings { class: "AutoencoderKLWan", tied: false };
        assert_eq!(kind("decoder.conv_in.weight", &[384, 16, 3, 3, 3], Some(384), wan), Kind::OtherConvolution);
    }

    #[test]
    fn embeddings() {
        fn check(name: &str, class: &str, tied: bool, expected: Kind) {
            assert_eq!(kind(name, &[32000, 2048], None, Surroundings { class, tied }), expected, "{name} of {class}");
        }
        check("model.embed_tokens.weight", "LlamaForCausalLM", false, Kind::Embedding);
        check("model.embed_tokens.weight", "LlamaForCausalLM", true, Kind::TiedEmbedding);
        check("model.embed_tokens.weight", "Gemma3ForCausalLM", false, Kind::OtherEmbedding);
        check("shared.weight", "T5EncoderModel", false, Kind::TiedEmbedding);
        check("embeddings.position_embeddings.weight", "BertModel", false, Kind::Embedding);
        check("model.embed_positions.weight", "OPTForCausalLM", false, Kind::OtherEmbedding);
    }
}
