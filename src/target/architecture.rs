//! What a model is: by its config, else by its tensors' names.
mod names;

use serde_json::Value;

use crate::core::Model;

/// The architecture's class name; of a GGUF file, what llama.cpp calls it.
pub fn of(model: &Model) -> Option<String> {
    if model.format == "gguf" {
        return model.metadata().get("general.architecture").map(|name| (*name).to_owned());
    }
    model.config.as_ref().and_then(by_config).or_else(|| names::by_names(model).map(str::to_owned))
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
