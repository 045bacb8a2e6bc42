//! What a model is: by its config, else by its tensors' names.
use serde_json::Value;

use crate::core::Model;

/// Tensor names that only one architecture has; every one of a line must be there. `*` stands for one segment.
/// The class is the one a config would name, so that presets find it.
const BY_NAMES: &[(&str, &[&str])] = &[
    (
        "FluxTransformer2DModel",
        &[
            "transformer_blocks.0.attn.add_q_proj.weight",
            "single_transformer_blocks.0.proj_mlp.weight",
            "context_embedder.weight",
        ],
    ),
    ("Flux", &["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]),
    (
        "QwenImageTransformer2DModel",
        &["transformer_blocks.0.img_mod.1.weight", "transformer_blocks.0.txt_mod.1.weight"],
    ),
    ("ZImageTransformer2DModel", &["noise_refiner.0.attention.to_q.weight", "cap_embedder.0.weight"]),
    ("WanTransformer3DModel", &["blocks.0.attn1.to_q.weight", "condition_embedder.time_embedder.linear_1.weight"]),
    ("WanModel", &["blocks.0.self_attn.q.weight", "blocks.0.cross_attn.q.weight", "patch_embedding.weight"]),
    (
        "SD3Transformer2DModel",
        &["transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight", "context_embedder.weight"],
    ),
    (
        "UNet2DConditionModel",
        &["down_blocks.0.resnets.0.conv1.weight", "mid_block.resnets.0.conv1.weight", "conv_in.weight"],
    ),
    ("SDXL", &["input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight"]),
    ("T5EncoderModel", &["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"]),
    ("CLIPTextModel", &["text_model.encoder.layers.0.self_attn.q_proj.weight"]),
    ("Qwen3ForCausalLM", &["model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.k_norm.weight"]),
    ("Gemma3ForCausalLM", &["model.layers.0.pre_feedforward_layernorm.weight"]),
    ("Qwen2ForCausalLM", &["model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.gate_proj.weight"]),
    ("MixtralForCausalLM", &["model.layers.0.block_sparse_moe.gate.weight"]),
    ("Phi3ForCausalLM", &["model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"]),
    ("LlamaForCausalLM", &["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight"]),
    ("GPT2LMHeadModel", &["h.0.attn.c_attn.weight", "wte.weight"]),
    ("BertModel", &["encoder.layer.0.attention.self.query.weight", "embeddings.word_embeddings.weight"]),
    ("AutoencoderKL", &["decoder.conv_in.weight", "encoder.conv_in.weight"]),
];

/// Prefixes under which single files carry a diffusion model or a wrapped encoder.
const PREFIXES: [&str; 6] = ["", "model.diffusion_model.", "diffusion_model.", "model.", "transformer.", "bert."];

/// The architecture's class name; of a GGUF file, what llama.cpp calls it.
pub fn of(model: &Model) -> Option<String> {
    if model.format == "gguf" {
        return model.metadata().get("general.architecture").map(|name| (*name).to_owned());
    }
    model.config.as_ref().and_then(by_config).or_else(|| by_names(model).map(str::to_owned))
}

/// Output heads that share the token table unless they have a weight of their own in the file.
pub const HEADS: [&str; 4] =
    ["lm_head.weight", "proj_out.weight", "cls.predictions.decoder.weight", "embed_out.weight"];

/// Whether a model's token table is its output head too: its config says so, or it has no head and is of a class that
/// needs one.
pub fn is_tied(model: &Model) -> bool {
    let class = model.architecture.as_deref().unwrap_or_default();
    let generates = ["ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForMaskedLM", "ForPreTraining"];
    let says = model.config.as_ref().and_then(|c| {
        let inner = c.get("text_config").unwrap_or(c);
        c.get("tie_word_embeddings").or_else(|| inner.get("tie_word_embeddings"))?.as_bool()
    });
    let is_head = |name: &str| {
        HEADS
            .iter()
            .any(|head| name.strip_suffix(head).is_some_and(|before| before.is_empty() || before.ends_with('.')))
    };
    let has_head = || model.tensors.iter().any(|t| is_head(&t.name));
    generates.iter().any(|end| class.ends_with(end)) && says.unwrap_or_else(|| !has_head())
}

fn by_config(config: &Value) -> Option<String> {
    let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
    config
        .get("_class_name")
        .and_then(text)
        .or_else(|| config.get("architectures")?.as_array()?.first().and_then(text))
        .or_else(|| config.get("model_type").and_then(text))
}

fn by_names(model: &Model) -> Option<&'static str> {
    PREFIXES.iter().find_map(|prefix| {
        BY_NAMES
            .iter()
            .find(|(_, names)| names.iter().all(|n| model.find(&format!("{prefix}{n}")).is_some()))
            .map(|(class, _)| *class)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::testing::model_of;
    use serde_json::json;

    #[test]
    fn names_tell() {
        fn check(names: &[&str], class: Option<&str>) {
            assert_eq!(of(&model_of(names)).as_deref(), class);
        }
        check(&["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"], Some("Flux"));
        check(
            &[
                "model.diffusion_model.double_blocks.0.img_attn.qkv.weight",
                "model.diffusion_model.single_blocks.0.linear1.weight",
            ],
            Some("Flux"),
        );
        check(
            &["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight"],
            Some("LlamaForCausalLM"),
        );
        check(&["encoder.layer.0.attention.self.query.weight", "embeddings.word_embeddings.weight"], Some("BertModel"));
        check(&["a.weight"], None);
    }

    #[test]
    fn a_config_tells_first() {
        fn check(config: Value, class: Option<&str>) {
            assert_eq!(by_config(&config).as_deref(), class);
        }
        check(json!({"_class_name": "FluxTransformer2DModel"}), Some("FluxTransformer2DModel"));
        check(json!({"architectures": ["BertModel"], "model_type": "bert"}), Some("BertModel"));
        check(json!({"model_type": "bert"}), Some("bert"));
        check(json!({"architectures": []}), None);
    }

    #[test]
    fn a_head_that_is_not_in_the_file_is_tied() {
        fn check(class: &str, names: &[&str], tie: Option<bool>, expected: bool) {
            let mut model = model_of(names);
            model.architecture = Some(class.into());
            model.config = tie.map(|tie| json!({"tie_word_embeddings": tie}));
            assert_eq!(is_tied(&model), expected, "{class} {names:?} {tie:?}");
        }
        check("LlamaForCausalLM", &["model.embed_tokens.weight"], None, true);
        check("LlamaForCausalLM", &["model.embed_tokens.weight", "lm_head.weight"], None, false);
        check("LlamaForCausalLM", &["model.embed_tokens.weight", "model.lm_head.weight"], None, false);
        check("LlamaForCausalLM", &["model.embed_tokens.weight"], Some(false), false);
        check("BertModel", &["embeddings.word_embeddings.weight"], Some(true), false);
    }
}
