use serde_json::json;

use super::*;
use crate::core::model::testing::model_of;
use crate::core::model::{Span, Stored, plain_tensors};

/// A model of BF16 tensors with no bytes behind it.
pub(super) fn model(config: Json, tensors: &[(&str, &[u64])]) -> Model {
    let mut model = model_of(&[]);
    model.stored = tensors
        .iter()
        .map(|(name, shape)| Stored {
            name: (*name).to_owned(),
            storage: Storage::BF16,
            shape: shape.to_vec(),
            span: Span { file: 0, offset: 0, len: 2 * shape.iter().product::<u64>() },
        })
        .collect();
    model.tensors = plain_tensors(&model.stored);
    model.config = Some(config);
    model
}

/// A config of a class, with what most have.
pub(super) fn config(class: &str, more: Json) -> Json {
    let mut config = json!({
        "architectures": [class],
        "num_hidden_layers": 2,
        "max_position_embeddings": 128,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": 320,
    });
    let (Some(config_map), Some(more)) = (config.as_object_mut(), more.as_object()) else { panic!("objects") };
    config_map.extend(more.clone());
    config
}

/// The keys of an architecture, without what all begin with.
pub(super) fn keys(config: Json) -> Vec<String> {
    let mapped = draft(&model(config, &[])).expect("a known architecture");
    let prefix = format!("{}.", mapped.architecture.name);
    let shown = |p: &Pair| {
        let name = p.name().into_owned();
        format!("{} {} {}", name.strip_prefix(&prefix).unwrap_or(&name), p.value.type_name(), p.value.shown())
    };
    mapped.keys.iter().map(shown).collect()
}

#[test]
fn a_text_encoder_without_a_config_is_told_by_its_shapes() {
    let mut encoder = model(
        Json::Null,
        &[
            ("shared.weight", &[100, 64]),
            ("encoder.embed_tokens.weight", &[100, 64]),
            ("encoder.block.0.layer.0.SelfAttention.q.weight", &[96, 64]),
            ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", &[32, 3]),
            ("encoder.block.0.layer.0.layer_norm.weight", &[64]),
            ("encoder.block.0.layer.1.DenseReluDense.wo.weight", &[64, 128]),
            ("encoder.block.1.layer.0.layer_norm.weight", &[64]),
        ],
    );
    encoder.config = None;
    let mapped = draft(&encoder).expect("a T5");
    assert_eq!(mapped.architecture.name, "t5encoder");
    for (key, expected) in [
        ("block_count", 2),
        ("context_length", 512),
        ("embedding_length", 64),
        ("feed_forward_length", 128),
        ("attention.head_count", 3),
        ("attention.key_length", 32),
        ("attention.relative_buckets_count", 32),
    ] {
        assert_eq!(mapped.number(&format!("t5encoder.{key}")), Some(expected), "{key}");
    }
    // The second table goes.
    let mut names: Vec<&str> = mapped.items.iter().map(|i| i.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "enc.blk.0.attn_norm.weight",
            "enc.blk.0.attn_q.weight",
            "enc.blk.0.attn_rel_b.weight",
            "enc.blk.0.ffn_down.weight",
            "enc.blk.1.attn_norm.weight",
            "token_embd.weight"
        ]
    );
    encoder.tensors.retain(|t| !t.name.contains("relative"));
    assert!(draft(&encoder).expect_err("no T5").to_string().contains("no config.json"));
}

#[test]
fn a_config_becomes_the_keys_of_its_architecture() {
    fn check(class: &str, more: Json, expected: &[&str]) {
        assert_eq!(keys(config(class, more)), expected, "{class}");
    }
    const SIZES: [&str; 6] = [
        "block_count u32 2",
        "context_length u32 128",
        "embedding_length u32 64",
        "feed_forward_length u32 96",
        "attention.head_count u32 4",
        "attention.head_count_kv u32 2",
    ];
    let sizes = |more: &[&'static str]| -> Vec<&'static str> { SIZES.iter().chain(more).copied().collect() };
    check(
        "LlamaForCausalLM",
        json!({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
        &sizes(&[
            "rope.freq_base f32 500000",
            "attention.layer_norm_rms_epsilon f32 0.00001",
            "general.file_type u32 0",
            "vocab_size u32 320",
            "rope.dimension_count u32 16",
            "attention.key_length u32 16",
            "attention.value_length u32 16",
        ]),
    );
    check(
        "MistralForCausalLM",
        json!({"head_dim": 32, "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}}),
        &sizes(&[
            "rope.scaling.type string linear",
            "rope.scaling.factor f32 2",
            "rope.freq_base f32 10000",
            "attention.layer_norm_rms_epsilon f32 0.00001",
            "attention.key_length u32 32",
            "attention.value_length u32 32",
            "general.file_type u32 0",
            "vocab_size u32 320",
            "rope.dimension_count u32 32",
        ]),
    );
    check(
        "MixtralForCausalLM",
        json!({"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": null}),
        &sizes(&[
            "rope.freq_base f32 1000000",
            "attention.layer_norm_rms_epsilon f32 0.00001",
            "expert_count u32 8",
            "expert_used_count u32 2",
            "general.file_type u32 0",
            "vocab_size u32 320",
            "rope.dimension_count u32 16",
        ]),
    );
    let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
        "beta_fast": 32.0}, "rope_theta": 1000000.0});
    check(
        "Qwen2ForCausalLM",
        yarn,
        &sizes(&[
            "rope.scaling.type string yarn",
            "rope.scaling.factor f32 4",
            "rope.scaling.original_context_length u32 32",
            "rope.scaling.yarn_beta_fast f32 32",
            "rope.freq_base f32 1000000",
            "attention.layer_norm_rms_epsilon f32 0.00001",
            "general.file_type u32 0",
        ]),
    );
    check(
        "Qwen2MoeForCausalLM",
        json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64}),
        &sizes(&[
            "rope.freq_base f32 10000",
            "attention.layer_norm_rms_epsilon f32 0.00001",
            "expert_count u32 4",
            "expert_used_count u32 2",
            "general.file_type u32 0",
            "expert_feed_forward_length u32 32",
            "expert_shared_feed_forward_length u32 64",
        ]),
    );
    check(
        "Gemma2ForCausalLM",
        json!({"head_dim": 32, "sliding_window": 64, "attn_logit_softcapping": 40.0}),
        &[
            "context_length u32 128",
            "embedding_length u32 64",
            "block_count u32 2",
            "feed_forward_length u32 96",
            "attention.head_count u32 4",
            "attention.head_count_kv u32 2",
            "attention.layer_norm_rms_epsilon f32 0.00001",
            "attention.key_length u32 32",
            "attention.value_length u32 32",
            "general.file_type u32 0",
            "attn_logit_softcapping f32 40",
            "final_logit_softcapping f32 30",
            "attention.sliding_window u32 64",
        ],
    );
    // As transformers 4 wrote it: the two bases apart.
    let gemma3 = json!({"head_dim": 32, "sliding_window": 512, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}});
    let expected = sizes(&[
        "rope.scaling.type string linear",
        "rope.scaling.factor f32 8",
        "rope.freq_base f32 1000000",
        "rope.freq_base_swa f32 10000",
        "attention.layer_norm_rms_epsilon f32 0.00001",
        "attention.key_length u32 32",
        "attention.value_length u32 32",
        "general.file_type u32 0",
        "attention.sliding_window u32 512",
    ]);
    check("Gemma3ForCausalLM", gemma3, &expected);
    check(
        "Phi3ForCausalLM",
        json!({"original_max_position_embeddings": 64, "sliding_window": null}),
        &[
            "context_length u32 128",
            "rope.scaling.original_context_length u32 64",
            "embedding_length u32 64",
            "feed_forward_length u32 96",
            "block_count u32 2",
            "attention.head_count u32 4",
            "attention.head_count_kv u32 2",
            "attention.layer_norm_rms_epsilon f32 0.00001",
            "rope.dimension_count u32 16",
            "rope.freq_base f32 10000",
            "general.file_type u32 0",
            "attention.sliding_window u32 0",
        ],
    );
    check(
        "Olmo3ForCausalLM",
        json!({"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}),
        &sizes(&[
            "rope.freq_base f32 10000",
            "attention.layer_norm_rms_epsilon f32 0.00001",
            "general.file_type u32 0",
            "attention.sliding_window u32 32",
            "attention.sliding_window_pattern array of bool [true, false]",
        ]),
    );
    let gpt2 = json!({"architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_positions": 1024, "n_embd": 64, "n_head": 4,
        "layer_norm_epsilon": 1e-5});
    assert_eq!(
        keys(gpt2),
        [
            "block_count u32 2",
            "context_length u32 1024",
            "embedding_length u32 64",
            "feed_forward_length u32 256",
            "attention.head_count u32 4",
            "attention.layer_norm_epsilon f32 0.00001",
            "general.file_type u32 0",
        ]
    );
    let bert = |class: &str| {
        json!({"architectures": [class], "num_hidden_layers": 2, "max_position_embeddings": 514, "hidden_size": 64,
        "intermediate_size": 96, "num_attention_heads": 4, "layer_norm_eps": 0.5, "pad_token_id": 1})
    };
    for (class, context) in [("BertModel", 514), ("XLMRobertaModel", 512)] {
        let expected = [
            "block_count u32 2".to_owned(),
            format!("context_length u32 {context}"),
            "embedding_length u32 64".into(),
            "feed_forward_length u32 96".into(),
            "attention.head_count u32 4".into(),
            "attention.layer_norm_epsilon f32 0.5".into(),
            "general.file_type u32 0".into(),
            "attention.causal bool false".into(),
        ];
        assert_eq!(keys(bert(class)), expected, "{class}");
    }
}

#[test]
fn what_a_config_lacks_is_named() {
    fn check(config: Option<Json>, expected: &str) {
        let mut model = model(json!({}), &[]);
        model.config = config;
        assert_eq!(draft(&model).expect_err(expected).to_string(), expected);
    }
    let without = |class: &str, key: &str| {
        let mut c = config(class, json!({}));
        c.as_object_mut().expect("an object").remove(key);
        Some(c)
    };
    let needs = |keys: &str| format!("test: config.json has no {keys}, which GGUF needs");
    check(None, "test: has no config.json, from which GGUF's keys are made; give the model's folder");
    check(Some(json!({})), "test: config.json names no `architectures`, so GGUF's keys cannot be made");
    check(without("LlamaForCausalLM", "num_attention_heads"), &needs("`num_attention_heads` or `n_head` or `n_heads`"));
    check(without("LlamaForCausalLM", "vocab_size"), &needs("`vocab_size`"));
    check(without("Qwen3ForCausalLM", "hidden_size"), &needs("`hidden_size` or `n_embd` or `dim`"));
    check(
        Some(config("NomicBertModel", json!({"activation_function": "gelu"}))),
        "test: config.json says `activation_function` is \"gelu\", and GGUF has this architecture with \"swiglu\" only",
    );
}

#[test]
fn what_keeps_norms_from_zero_is_that_of_transformers_where_a_config_lacks_it() {
    fn check(class: &str, expected: &str) {
        let mut config = config(
            class,
            json!({"n_positions": 8, "n_embd": 64, "d_model": 64, "d_ff": 8, "d_kv": 8,
            "num_heads": 8, "relative_attention_num_buckets": 32}),
        );
        config.as_object_mut().expect("an object").remove("rms_norm_eps");
        let keys = keys(config);
        assert!(keys.iter().any(|k| k == expected), "{class}: {keys:?}");
    }
    check("LlamaForCausalLM", "attention.layer_norm_rms_epsilon f32 0.000001");
    check("MistralForCausalLM", "attention.layer_norm_rms_epsilon f32 0.000001");
    check("MixtralForCausalLM", "attention.layer_norm_rms_epsilon f32 0.00001");
    check("Qwen2ForCausalLM", "attention.layer_norm_rms_epsilon f32 0.000001");
    check("Qwen3MoeForCausalLM", "attention.layer_norm_rms_epsilon f32 0.000001");
    check("Gemma3ForCausalLM", "attention.layer_norm_rms_epsilon f32 0.000001");
    check("Phi3ForCausalLM", "attention.layer_norm_rms_epsilon f32 0.00001");
    check("Olmo2ForCausalLM", "attention.layer_norm_rms_epsilon f32 0.00001");
    check("Starcoder2ForCausalLM", "attention.layer_norm_epsilon f32 0.00001");
    check("BertModel", "attention.layer_norm_epsilon f32 0.000000000001");
    check("NomicBertModel", "attention.layer_norm_epsilon f32 0.000000000001");
    check("T5EncoderModel", "attention.layer_norm_rms_epsilon f32 0.000001");
}

/// As google/gemma-3-4b-it has it: the language model is said with what is not so by default.
#[test]
fn a_config_that_leaves_out_what_transformers_knows_is_enough() {
    let published = json!({
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 255_999,
        "eoi_token_index": 256_000,
        "eos_token_id": [1, 106],
        "image_token_index": 262_144,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 256,
        "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560,
            "intermediate_size": 10_240,
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024
        },
        "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0",
        "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model", "num_hidden_layers": 27}
    });
    let expected = [
        "block_count u32 34",
        "context_length u32 131072",
        "embedding_length u32 2560",
        "feed_forward_length u32 10240",
        "attention.head_count u32 8",
        "attention.head_count_kv u32 4",
        "rope.scaling.type string linear",
        "rope.scaling.factor f32 8",
        "rope.freq_base f32 1000000",
        "rope.freq_base_swa f32 10000",
        "attention.layer_norm_rms_epsilon f32 0.000001",
        "attention.key_length u32 256",
        "attention.value_length u32 256",
        "general.file_type u32 0",
        "attention.sliding_window u32 1024",
    ];
    assert_eq!(keys(published.clone()), expected);
    let table: [(&str, &[u64]); 1] = [("language_model.model.embed_tokens.weight", &[262_208, 2560])];
    let mapped = draft(&model(published, &table)).expect("mapped");
    assert_eq!(shown(&mapped.items), ["token_embd.weight [262208, 2560] BF16 of 1"]);
    // The vocabulary is as large as transformers has it, and what was left out is not kept as if it were said.
    assert_eq!(mapped.config.value().get("vocab_size"), Some(&json!(262_208)));
    let rest = mapped.config.rest(&mapped.keys);
    assert!(!rest.contains_key("vocab_size") && rest.contains_key("eos_token_id"), "{rest:?}");
}

#[test]
fn a_value_without_a_place_is_kept() {
    fn check(class: &str, more: Json, written: &[Pair], key: &str, kept: bool, warned: bool) {
        let mapped = draft(&model(config(class, more), &[])).expect("mapped");
        let keys: Vec<Pair> = mapped.keys.iter().chain(written).cloned().collect();
        let rest = mapped.config.rest(&keys);
        let warnings = mapped.config.warnings();
        assert_eq!((rest.contains_key(key), !warnings.is_empty()), (kept, warned), "{key}: {rest:?} {warnings:?}");
    }
    let rope =
        |kind: &str| json!({"rope_scaling": {"type": kind, "factor": 4.0, "original_max_position_embeddings": 32}});
    check("LlamaForCausalLM", rope("dynamic"), &[], "rope_scaling", true, true);
    check("LlamaForCausalLM", rope("linear"), &[], "rope_scaling", false, false);
    check("LlamaForCausalLM", rope("llama3"), &[], "rope_scaling", false, false);
    check("Qwen2ForCausalLM", rope("llama3"), &[], "rope_scaling", true, true);
    check("Qwen2ForCausalLM", rope("yarn"), &[], "rope_scaling", false, false);
    check("Qwen2ForCausalLM", json!({"rope_scaling": {"type": "yarn"}}), &[], "rope_scaling", true, true);
    check("Phi3ForCausalLM", rope("linear"), &[], "rope_scaling", true, true);
    check(
        "Phi3ForCausalLM",
        json!({"rope_parameters": {"rope_type": "default"}}),
        &[],
        "rope_parameters",
        false,
        false,
    );
    check("Qwen2ForCausalLM", json!({"partial_rotary_factor": 0.5}), &[], "partial_rotary_factor", true, false);
    check("Phi3ForCausalLM", json!({"partial_rotary_factor": 0.5}), &[], "partial_rotary_factor", false, false);
    check("LlamaForCausalLM", json!({"is_causal": true}), &[], "is_causal", true, false);
    let eos = [Pair::new("tokenizer.ggml.eos_token_id", 2u32)];
    check("LlamaForCausalLM", json!({"eos_token_id": 2}), &eos, "eos_token_id", false, false);
    check("LlamaForCausalLM", json!({"eos_token_id": 7}), &eos, "eos_token_id", true, false);
    check("LlamaForCausalLM", json!({"eos_token_id": [2, 7]}), &eos, "eos_token_id", true, false);
    check("LlamaForCausalLM", json!({"eos_token_id": 2}), &[], "eos_token_id", true, false);
}

/// The tensors of a model: names, shapes, types.
fn shown(items: &[Item]) -> Vec<String> {
    let mut all: Vec<String> =
        items.iter().map(|i| format!("{} {:?} {} of {}", i.name, i.shape, i.from, i.sources.len())).collect();
    all.sort();
    all
}

#[test]
fn experts_are_stacked_and_norms_are_wide() {
    let experts = json!({"num_local_experts": 2, "num_experts_per_tok": 1});
    let tensors: [(&str, &[u64]); 6] = [
        ("model.layers.0.block_sparse_moe.experts.0.w1.weight", &[96, 64]),
        ("model.layers.0.block_sparse_moe.experts.1.w1.weight", &[96, 64]),
        ("model.layers.0.block_sparse_moe.gate.weight", &[2, 64]),
        ("model.layers.0.self_attn.q_proj.weight", &[64, 64]),
        ("model.layers.0.self_attn.q_proj.bias", &[64]),
        ("model.layers.0.input_layernorm.weight", &[64]),
    ];
    let mapped = draft(&model(config("MixtralForCausalLM", experts), &tensors)).expect("mapped");
    let expected = [
        "blk.0.attn_norm.weight [64] F32 of 1",
        "blk.0.attn_q.bias [64] F32 of 1",
        "blk.0.attn_q.weight [64, 64] BF16 of 1",
        "blk.0.ffn_gate_exps.weight [2, 96, 64] BF16 of 2",
        "blk.0.ffn_gate_inp.weight [2, 64] F32 of 1",
    ];
    assert_eq!(shown(&mapped.items), expected);
    let bank = mapped.items.iter().find(|i| i.name.contains("_exps")).expect("a bank");
    assert_eq!(bank.slices, [Slice::of_rows(0, 0..96), Slice::of_rows(1, 0..96)]);
}

#[test]
fn banks_in_one_tensor_are_taken_apart() {
    let experts = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32});
    let tensors: [(&str, &[u64]); 2] = [
        ("model.layers.0.mlp.experts.gate_up_proj", &[4, 64, 16]),
        ("model.layers.0.mlp.experts.down_proj", &[4, 16, 32]),
    ];
    let mapped = draft(&model(config("Qwen3MoeForCausalLM", experts), &tensors)).expect("mapped");
    let expected = [
        "blk.0.ffn_down_exps.weight [4, 16, 32] BF16 of 1",
        "blk.0.ffn_gate_exps.weight [4, 32, 16] BF16 of 1",
        "blk.0.ffn_up_exps.weight [4, 32, 16] BF16 of 1",
    ];
    assert_eq!(shown(&mapped.items), expected);
    let up = mapped.items.iter().find(|i| i.name.contains("ffn_up")).expect("a bank");
    assert_eq!(up.slices, [Slice { source: 0, rows: 0..4, cols: Some(512..1024) }]);
}

#[test]
fn rows_are_cut_matrices_turned_and_factors_made() {
    let roberta = json!({"architectures": ["RobertaModel"], "num_hidden_layers": 1, "max_position_embeddings": 10,
        "hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1});
    let mapped = draft(&model(roberta, &[("embeddings.position_embeddings.weight", &[10, 4])])).expect("mapped");
    assert_eq!(shown(&mapped.items), ["position_embd.weight [8, 4] F32 of 1"]);
    assert_eq!(mapped.items[0].slices, [Slice::of_rows(0, 2..10)]);
    let gpt2 = json!({"architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_positions": 8, "n_embd": 4, "n_head": 1});
    let mapped = draft(&model(gpt2, &[("h.0.mlp.c_fc.weight", &[4, 16])])).expect("mapped");
    assert_eq!(shown(&mapped.items), ["blk.0.ffn_up.weight [16, 4] BF16 of 1"]);
    let long = json!({"rope_scaling": {"type": "longrope", "long_factor": [1.0, 2.0], "short_factor": [1.0, 1.5]},
        "hidden_size": 16, "original_max_position_embeddings": 64});
    let mapped = draft(&model(config("Phi3ForCausalLM", long), &[])).expect("mapped");
    assert_eq!(
        shown(&mapped.items),
        ["rope_factors_long.weight [2] F32 of 0", "rope_factors_short.weight [2] F32 of 0"]
    );
    // One pair turns fast enough to stay, one is between, one is stretched by the whole factor.
    let llama3 = json!({"hidden_size": 24, "rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
        "original_max_position_embeddings": 256}});
    let mapped = draft(&model(config("LlamaForCausalLM", llama3), &[])).expect("mapped");
    let Change::Values(factors) = &mapped.items[0].change else { panic!("values") };
    assert_eq!((factors.len(), factors[0], factors[2]), (3, 1.0, 8.0));
    assert!(factors[1] > 1.0 && factors[1] < 8.0, "{factors:?}");
}

#[test]
fn what_is_no_such_model_is_refused() {
    fn check(class: &str, more: Json, tensors: &[(&str, &[u64])], expected: &str) {
        let message = draft(&model(config(class, more), tensors)).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
    let experts = || json!({"num_local_experts": 3});
    check("MambaForCausalLM", json!({}), &[], "MambaForCausalLM: no GGUF is made of this architecture");
    check("LlamaForCausalLM", json!({}), &[("extra.weight", &[4])], "`extra.weight` has no place in llama");
    check(
        "MixtralForCausalLM",
        experts(),
        &[("model.layers.0.block_sparse_moe.experts.1.w1.weight", &[4, 4])],
        "`blk.0.ffn_gate_exps.weight` is made of 1 experts, expected 0 to 2",
    );
    check(
        "LlamaForCausalLM",
        json!({}),
        &[("model.layers.0.self_attn.q_proj.weight", &[60, 64])],
        "which is not 4 heads of two halves",
    );
    check("GPT2LMHeadModel", json!({"n_positions": 8}), &[("h.0.mlp.c_fc.weight", &[4])], "expected a matrix");
    let check_head = |class: &str, more: Json, expected: &str| check(class, more, &[], expected);
    let llama3 = || json!({"rope_type": "llama3"});
    check_head(
        "LlamaForCausalLM",
        json!({"head_dim": 4_294_967_294u32, "rope_scaling": llama3()}),
        "config.json: `head_dim` 4294967294, expected 1 to 65536",
    );
    check_head(
        "LlamaForCausalLM",
        json!({"hidden_size": u32::MAX, "num_attention_heads": 1, "rope_scaling": llama3()}),
        "`hidden_size` 4294967295 and `num_attention_heads` 1 make heads of 4294967295",
    );
    check_head(
        "Olmo3ForCausalLM",
        json!({"num_hidden_layers": u32::MAX, "sliding_window": 4096}),
        "config.json: `num_hidden_layers` 4294967295, expected 1 to 512",
    );
    check(
        "MixtralForCausalLM",
        json!({"num_local_experts": 0}),
        &[("model.layers.0.block_sparse_moe.experts.0.w1.weight", &[4, 4])],
        "config.json: `num_local_experts` 0, expected 1 to",
    );
    check(
        "LlamaForCausalLM",
        json!({}),
        &[("model.norm.weight", &[4]), ("norm.weight", &[4])],
        "two tensors would be called `output_norm.weight`",
    );
}
