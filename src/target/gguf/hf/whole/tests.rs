use serde_json::{Value as Json, json};

use super::super::map;
use super::super::tests::{config, model};

type Tensors = Vec<(String, Vec<u64>)>;

/// What belongs to a config of the class of those tests: two layers, each with these tensors.
fn tensors(outside: &[(&str, &[u64])], layer: &[(&str, &[u64])]) -> Tensors {
    let within = (0..2).flat_map(|i| layer.iter().map(move |(n, s)| (format!("model.layers.{i}.{n}"), s.to_vec())));
    outside.iter().map(|(n, s)| ((*n).to_owned(), s.to_vec())).chain(within).collect()
}

const OUTSIDE: [(&str, &[u64]); 2] = [("model.embed_tokens.weight", &[320, 64]), ("model.norm.weight", &[64])];
const ATTENTION: [(&str, &[u64]); 6] = [
    ("input_layernorm.weight", &[64]),
    ("self_attn.q_proj.weight", &[64, 64]),
    ("self_attn.k_proj.weight", &[32, 64]),
    ("self_attn.v_proj.weight", &[32, 64]),
    ("self_attn.o_proj.weight", &[64, 64]),
    ("post_attention_layernorm.weight", &[64]),
];
const FEED_FORWARD: [(&str, &[u64]); 3] =
    [("mlp.gate_proj.weight", &[96, 64]), ("mlp.up_proj.weight", &[96, 64]), ("mlp.down_proj.weight", &[64, 96])];
const EXPERTS: [(&str, &[u64]); 5] = [
    ("self_attn.q_norm.weight", &[16]),
    ("self_attn.k_norm.weight", &[16]),
    ("mlp.gate.weight", &[4, 64]),
    ("mlp.experts.gate_up_proj", &[4, 64, 64]),
    ("mlp.experts.down_proj", &[4, 64, 32]),
];

fn llama() -> Tensors {
    tensors(&OUTSIDE, &[&ATTENTION[..], &FEED_FORWARD].concat())
}

fn qwen3moe() -> Tensors {
    tensors(&OUTSIDE, &[&ATTENTION[..], &EXPERTS].concat())
}

fn says(class: &str, more: Json, tensors: Tensors) -> String {
    let tensors: Vec<(&str, &[u64])> = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
    map(&model(config(class, more), &tensors)).map_or_else(|e| e.to_string(), |_| "whole".into())
}

fn moe() -> Json {
    json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32})
}

#[test]
fn what_llama_cpp_loads_is_whole() {
    assert_eq!(says("LlamaForCausalLM", json!({}), llama()), "whole");
    assert_eq!(says("Qwen2ForCausalLM", json!({}), llama()), "whole");
    assert_eq!(says("Qwen3MoeForCausalLM", moe(), qwen3moe()), "whole");
    let mut head = llama();
    head.push(("lm_head.weight".into(), vec![320, 64]));
    assert_eq!(says("LlamaForCausalLM", json!({}), head), "whole");
}

#[test]
fn what_llama_cpp_does_not_load_is_refused() {
    fn check(class: &str, more: Json, tensors: Tensors, expected: &str) {
        assert_eq!(says(class, more, tensors), format!("test: {expected}"));
    }
    let without =
        |all: Tensors, name: &str| -> Tensors { all.into_iter().filter(|(n, _)| !n.contains(name)).collect() };
    let with = |all: Tensors, name: &str, shape: &[u64]| -> Tensors {
        let mut all = without(all, name);
        all.push((name.into(), shape.to_vec()));
        all
    };
    let llama_with = |more: Json, name: &str, shape: &[u64], expected: &str| {
        check("LlamaForCausalLM", more, with(llama(), name, shape), expected);
    };
    check(
        "LlamaForCausalLM",
        json!({"num_hidden_layers": 1}),
        llama(),
        "`model.layers.1.input_layernorm.weight` is of layer 1, and config.json says `num_hidden_layers` 1: expected layers 0 to 0",
    );
    check(
        "LlamaForCausalLM",
        json!({"num_hidden_layers": 3}),
        llama(),
        "no tensor is of layer 2, and config.json says `num_hidden_layers` 3: expected layers 0 to 2",
    );
    check(
        "LlamaForCausalLM",
        json!({}),
        without(llama(), "layers.1.self_attn.v_proj"),
        "layer 1 has no tensor for `blk.1.attn_v.weight` of llama, and layer 0 has one: llama.cpp needs the same of all layers",
    );
    check(
        "LlamaForCausalLM",
        json!({}),
        without(llama(), "self_attn.v_proj"),
        "layer 0 has no tensor for `blk.0.attn_v.weight` of llama, and llama.cpp needs it",
    );
    // What some layers have besides, all must have.
    llama_with(
        json!({}),
        "model.layers.0.self_attn.q_proj.bias",
        &[64],
        "layer 1 has no tensor for `blk.1.attn_q.bias` of llama, and layer 0 has one: llama.cpp needs the same of all layers",
    );
    // It has no layers without experts in these.
    let dense = |name: &str| name.starts_with("model.layers.0.mlp.");
    let mut hybrid: Tensors = qwen3moe().into_iter().filter(|(n, _)| !dense(n)).collect();
    hybrid.extend(llama().into_iter().filter(|(n, _)| dense(n)));
    check(
        "Qwen3MoeForCausalLM",
        moe(),
        hybrid,
        "layer 0 has no tensor for `blk.0.ffn_down_exps.weight` of qwen3moe, and layer 1 has one: llama.cpp needs the same of all layers",
    );
    for (name, to) in [("embed_tokens", "token_embd"), ("norm", "output_norm")] {
        check(
            "LlamaForCausalLM",
            json!({}),
            without(llama(), &format!("model.{name}.")),
            &format!("has no tensor `{name}.weight`, which llama.cpp needs as `{to}.weight` for llama"),
        );
    }
    llama_with(
        json!({}),
        "model.embed_tokens.weight",
        &[320, 32],
        "`model.embed_tokens.weight` has shape [320, 32], expected [any, 64], as config.json says `hidden_size` 64",
    );
    llama_with(
        json!({"head_dim": 32}),
        "model.layers.0.self_attn.q_proj.weight",
        &[64, 64],
        "`model.layers.0.self_attn.k_proj.weight` has shape [32, 64], expected [64, 64], as config.json says \
         `num_key_value_heads` 2, `head_dim` 32",
    );
    llama_with(
        json!({"num_attention_heads": 2, "head_dim": 16}),
        "model.layers.0.self_attn.o_proj.weight",
        &[64, 32],
        "`model.layers.0.self_attn.q_proj.weight` has shape [64, 64], expected [32, 64], as config.json says \
         `num_attention_heads` 2, `head_dim` 16",
    );
    llama_with(
        json!({}),
        "model.layers.0.mlp.up_proj.weight",
        &[64],
        "`model.layers.0.mlp.up_proj.weight` has shape [64], expected [96, 64], as config.json says `intermediate_size` 96",
    );
    check(
        "Qwen3MoeForCausalLM",
        json!({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
        qwen3moe(),
        "`model.layers.0.mlp.experts.down_proj` has shape [4, 64, 32], expected [8, 64, 32], as config.json says `num_experts` 8",
    );
}
