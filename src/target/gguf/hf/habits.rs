//! What transformers takes where a config does not say: its own values of the class, as of transformers 5.
//!
//! Configs of models that are made of several (Gemma 3 with eyes) say of each only what is not so. Of the others the
//! numbers that keep norms from dividing by zero are here, which llama.cpp demands; sizes that a config of such a model
//! lacks are a mistake.
use serde_json::{Map, Value};

/// A key, and its value as JSON.
type Habits = &'static [(&'static str, &'static str)];

const RMS_6: Habits = &[("rms_norm_eps", "1e-6")];
const RMS_5: Habits = &[("rms_norm_eps", "1e-5")];
const BERT: Habits = &[("layer_norm_eps", "1e-12")];
const T5: Habits = &[("layer_norm_epsilon", "1e-6")];
const GEMMA3: Habits = &[
    ("vocab_size", "262208"),
    ("hidden_size", "2304"),
    ("intermediate_size", "9216"),
    ("num_hidden_layers", "26"),
    ("num_attention_heads", "8"),
    ("num_key_value_heads", "4"),
    ("head_dim", "256"),
    ("max_position_embeddings", "131072"),
    ("rms_norm_eps", "1e-6"),
    ("sliding_window", "4096"),
];

/// By class.
const TABLE: [(&str, Habits); 25] = [
    ("LlamaForCausalLM", RMS_6),
    ("LLaMAForCausalLM", RMS_6),
    ("LlamaModel", RMS_6),
    ("MistralForCausalLM", RMS_6),
    ("MixtralForCausalLM", RMS_5),
    ("Qwen2ForCausalLM", RMS_6),
    ("Qwen2Model", RMS_6),
    ("Qwen2MoeForCausalLM", RMS_6),
    ("Qwen3ForCausalLM", RMS_6),
    ("Qwen3Model", RMS_6),
    ("Qwen3MoeForCausalLM", RMS_6),
    ("GemmaForCausalLM", RMS_6),
    ("Gemma2ForCausalLM", RMS_6),
    ("Gemma3ForCausalLM", GEMMA3),
    ("Gemma3ForConditionalGeneration", GEMMA3),
    ("Phi3ForCausalLM", RMS_5),
    ("Olmo2ForCausalLM", RMS_5),
    ("Olmo3ForCausalLM", RMS_5),
    ("Starcoder2ForCausalLM", &[("norm_epsilon", "1e-5")]),
    ("GPT2LMHeadModel", &[("layer_norm_epsilon", "1e-5")]),
    ("BertModel", BERT),
    ("BertForMaskedLM", BERT),
    ("NomicBertModel", BERT),
    ("T5EncoderModel", T5),
    ("UMT5EncoderModel", T5),
];
/// Classes that are BERT in this.
const LIKE_BERT: [&str; 3] = ["CamembertModel", "RobertaModel", "XLMRobertaModel"];

/// Those of a class.
pub fn of(class: &str) -> Map<String, Value> {
    let own = TABLE.iter().find(|(name, _)| *name == class).map(|(_, habits)| *habits);
    let habits = own.or(LIKE_BERT.contains(&class).then_some(BERT)).unwrap_or_default();
    let parsed = |(key, text): &(&str, &str)| Some(((*key).to_owned(), serde_json::from_str(text).ok()?));
    habits.iter().filter_map(parsed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_are_those_of_transformers() {
        fn check(class: &str, key: &str, expected: Option<f64>) {
            assert_eq!(of(class).get(key).and_then(Value::as_f64), expected, "{class} {key}");
        }
        check("Gemma3ForConditionalGeneration", "max_position_embeddings", Some(131_072.0));
        check("Gemma3ForCausalLM", "rms_norm_eps", Some(1e-6));
        check("LlamaForCausalLM", "rms_norm_eps", Some(1e-6));
        check("MixtralForCausalLM", "rms_norm_eps", Some(1e-5));
        check("XLMRobertaModel", "layer_norm_eps", Some(1e-12));
        check("LlamaForCausalLM", "hidden_size", None);
        check("MambaForCausalLM", "rms_norm_eps", None);
        for (class, habits) in TABLE {
            assert_eq!(of(class).len(), habits.len(), "{class}: all of them are JSON");
        }
    }
}
