use serde_json::json;

use super::*;
use crate::core::model::testing::model_of;
use crate::core::model::{Span, Stored, plain_tensors};

/// A model of BF16 tensors with no bytes behind it.
fn model(config: Json, tensors: &[(&str, &[u64])]) -> Model {
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
fn config(class: &str, more: Json) -> Json {
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
fn keys(config: Json) -> Vec<String> {
    let mapped = map(&model(config, &[])).expect("a known architecture");
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
    let mapped = map(&encoder).expect("a T5");
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
    assert!(map(&encoder).expect_err("no T5").to_string().contains("no config.json"));
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
        assert_eq!(map(&model).expect_err(expected).to_string(), expected);
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
    let mapped = map(&model(config("MixtralForCausalLM", experts), &tensors)).expect("mapped");
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
    let mapped = map(&model(config("Qwen3MoeForCausalLM", experts), &tensors)).expect("mapped");
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
    let mapped = map(&model(roberta, &[("embeddings.position_embeddings.weight", &[10, 4])])).expect("mapped");
    assert_eq!(shown(&mapped.items), ["position_embd.weight [8, 4] F32 of 1"]);
    assert_eq!(mapped.items[0].slices, [Slice::of_rows(0, 2..10)]);
    let gpt2 = json!({"architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_positions": 8, "n_embd": 4, "n_head": 1});
    let mapped = map(&model(gpt2, &[("h.0.mlp.c_fc.weight", &[4, 16])])).expect("mapped");
    assert_eq!(shown(&mapped.items), ["blk.0.ffn_up.weight [16, 4] BF16 of 1"]);
    let long = json!({"rope_scaling": {"type": "longrope", "long_factor": [1.0, 2.0], "short_factor": [1.0, 1.5]},
        "hidden_size": 16, "original_max_position_embeddings": 64});
    let mapped = map(&model(config("Phi3ForCausalLM", long), &[])).expect("mapped");
    assert_eq!(
        shown(&mapped.items),
        ["rope_factors_long.weight [2] F32 of 0", "rope_factors_short.weight [2] F32 of 0"]
    );
    // One pair turns fast enough to stay, one is between, one is stretched by the whole factor.
    let llama3 = json!({"hidden_size": 24, "rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
        "original_max_position_embeddings": 256}});
    let mapped = map(&model(config("LlamaForCausalLM", llama3), &[])).expect("mapped");
    let Change::Values(factors) = &mapped.items[0].change else { panic!("values") };
    assert_eq!((factors.len(), factors[0], factors[2]), (3, 1.0, 8.0));
    assert!(factors[1] > 1.0 && factors[1] < 8.0, "{factors:?}");
}

#[test]
fn what_is_no_such_model_is_refused() {
    fn check(class: &str, more: Json, tensors: &[(&str, &[u64])], expected: &str) {
        let message = map(&model(config(class, more), tensors)).expect_err(expected).to_string();
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
    check(
        "LlamaForCausalLM",
        json!({}),
        &[("model.norm.weight", &[4]), ("norm.weight", &[4])],
        "two tensors would be called `output_norm.weight`",
    );
}
