//! Hugging Face models as GGUF: both names of a tensor, bytes that were planned, and what is missing. That the tensors and
//! keys are those of llama.cpp's converter is held by `tests/interop`.
use serde_json::Value;

use crate::support::{Sandbox, f32s, safetensors, values};

#[test]
fn the_demo_becomes_gguf_in_one_pass() {
    let s = Sandbox::new();
    let plan = s.json("plan --demo -o x.gguf --json");
    let row = |name: &str| -> Value {
        let rows = plan["tensors"].as_array().expect("rows");
        rows.iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let query = row("blk.0.attn_q.weight");
    assert_eq!(query["sources"], serde_json::json!(["model.layers.0.self_attn.q_proj.weight"]));
    assert_eq!((&query["from"], &query["to"]), (&"BF16".into(), &"Q4_K".into()));
    let norm = row("blk.0.attn_norm.weight");
    assert_eq!((&norm["to"], &norm["excluded"]), (&"F32".into(), &true.into()));
    s.run("convert --demo -o x.gguf --quiet");
    let bytes = std::fs::metadata(s.path("x.gguf")).expect("a file").len();
    assert_eq!(plan["totals"]["file_bytes"], bytes);
    let inside = s.json("inspect x.gguf --json");
    assert_eq!(inside["metadata"]["llama.block_count"], "4");
    // The same in two steps: what is quantized are the source's own values.
    s.run("convert --demo --to gguf --dtype f32 -o f32.gguf --quiet");
    s.run("convert f32.gguf -o y.gguf --quiet");
    let diff = s.json("diff x.gguf y.gguf --values --json");
    assert_eq!(diff["tensors"]["changed"], serde_json::json!([]), "{diff}");
}

#[test]
fn names_of_either_side_are_rules() {
    let s = Sandbox::new();
    let plan = s.json(
        "plan --demo --to gguf --dtype Q8_0 --json --tensor-type layers.1.self_attn=Q5_0 --tensor-type blk.2.ffn_up=Q4_0 --exclude lm_head",
    );
    let to = |name: &str| {
        let rows = plan["tensors"].as_array().expect("rows");
        rows.iter().find(|r| r["name"] == name).map(|r| r["to"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(to("blk.1.attn_k.weight").as_deref(), Some("Q5_0"));
    assert_eq!(to("blk.2.ffn_up.weight").as_deref(), Some("Q4_0"));
    assert_eq!(to("blk.2.ffn_down.weight").as_deref(), Some("Q8_0"));
    assert_eq!(to("output.weight").as_deref(), Some("BF16"));
    let told = ["the tokenizer has no merges: every byte is a token of its own"];
    assert_eq!(plan["warnings"], serde_json::json!(told));
}

const LLAMA: &str = r#"{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "max_position_embeddings": 8,
    "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 8}"#;

/// The weights of that, and some more.
fn one_layer(more: &[(&'static str, &[usize])]) -> Vec<u8> {
    let shapes: [(&'static str, &[usize]); 11] = [
        ("model.embed_tokens.weight", &[8, 64]),
        ("model.norm.weight", &[64]),
        ("model.layers.0.input_layernorm.weight", &[64]),
        ("model.layers.0.self_attn.q_proj.weight", &[64, 64]),
        ("model.layers.0.self_attn.k_proj.weight", &[64, 64]),
        ("model.layers.0.self_attn.v_proj.weight", &[64, 64]),
        ("model.layers.0.self_attn.o_proj.weight", &[64, 64]),
        ("model.layers.0.post_attention_layernorm.weight", &[64]),
        ("model.layers.0.mlp.gate_proj.weight", &[64, 64]),
        ("model.layers.0.mlp.up_proj.weight", &[64, 64]),
        ("model.layers.0.mlp.down_proj.weight", &[64, 64]),
    ];
    let all = shapes.iter().chain(more);
    let arrays: Vec<_> = all.map(|(n, s)| f32s(n, s, &values(1, s.iter().product()))).collect();
    safetensors(&arrays)
}

#[test]
fn what_llama_cpp_would_not_load_is_refused_before_a_byte_is_written() {
    let s = Sandbox::new();
    s.write("m/config.json", LLAMA);
    let check = |more: &[(&'static str, &[usize])], parts: &[&str]| {
        s.write("m/model.safetensors", one_layer(more));
        s.run("convert m -o x.gguf").fails(1, parts);
        assert!(!s.path("x.gguf").exists());
    };
    check(
        &[("model.layers.3.mlp.up_proj.weight", &[64, 64])],
        &["`model.layers.3.mlp.up_proj.weight` is of layer 3", "`num_hidden_layers` 1"],
    );
    check(&[("lm_head.weight", &[8, 32])], &["`lm_head.weight` has shape [8, 32]", "`hidden_size` 64"]);
}

#[test]
fn what_is_missing_is_named() {
    let s = Sandbox::new();
    let weights = one_layer(&[]);
    s.write("bare/model.safetensors", &weights);
    s.run("convert bare -o x.gguf").fails(1, &["has no config.json", "give the model's folder"]);
    let check = |config: &str, parts: &[&str]| {
        s.write("m/model.safetensors", &weights);
        s.write("m/config.json", config);
        s.run("convert m -o x.gguf").fails(1, parts);
        assert!(!s.path("x.gguf").exists());
    };
    check(r#"{"architectures": ["MambaForCausalLM"]}"#, &["MambaForCausalLM", "LlamaForCausalLM, LLaMAForCausalLM"]);
    check(r#"{"architectures": ["LlamaForCausalLM"]}"#, &["config.json has no `n_layers` or `num_hidden_layers`"]);
    let llama = LLAMA;
    check(llama, &["there is no tokenizer beside the weights", "tokenizer.json"]);
    s.run("convert m -o x.gguf --pre no-such").fails(2, &["--pre no-such", "llama-bpe"]);
    s.run("convert m -o x --to sdnq --pre gpt-2").fails(2, &["--pre", "gguf"]);
}
