use serde_json::json;

use super::*;
use crate::core::plan::Change;

/// What a class makes of a tensor: its name, its expert, what is done to it.
fn placed(class: &str, name: &str) -> String {
    let architecture = of(class).expect(class);
    let config =
        Config::new("m", &json!({"architectures": [class], "num_attention_heads": 8, "num_key_value_heads": 2}));
    match architecture.place(name) {
        Err(e) => e.to_string(),
        Ok(Placed::Dropped) => "dropped".into(),
        Ok(Placed::Banks(names)) => names.join(" and "),
        Ok(Placed::Named(name, expert)) => {
            let own = name.strip_prefix("blk.").and_then(|n| n.split_once('.')).map_or(name.as_str(), |(_, own)| own);
            let change = match (architecture.change)(own, &config).expect("a change") {
                Change::None => String::new(),
                Change::PermuteHeads(heads) => format!(" heads {heads}"),
                Change::AddOne => " +1".into(),
                Change::Transpose => " transposed".into(),
                Change::Values(_) => " made".into(),
            };
            let expert = expert.map_or(String::new(), |e| format!(" expert {e}"));
            format!("{name}{expert}{change}")
        }
    }
}

#[test]
fn tensors_have_their_names_and_changes() {
    fn check(class: &str, names: &[(&str, &str)]) {
        for (name, expected) in names {
            assert_eq!(placed(class, name), *expected, "{class} {name}");
        }
    }
    check(
        "LlamaForCausalLM",
        &[
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.norm.weight", "output_norm.weight"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight heads 8"),
            ("model.layers.31.self_attn.k_proj.bias", "blk.31.attn_k.bias heads 2"),
            ("model.layers.7.self_attn.v_proj.weight", "blk.7.attn_v.weight"),
            ("model.layers.7.self_attn.o_proj.weight", "blk.7.attn_output.weight"),
            ("model.layers.7.input_layernorm.weight", "blk.7.attn_norm.weight"),
            ("model.layers.7.post_attention_layernorm.weight", "blk.7.ffn_norm.weight"),
            ("model.layers.7.mlp.down_proj.weight", "blk.7.ffn_down.weight"),
            ("model.layers.7.self_attn.rotary_emb.inv_freq", "dropped"),
            ("model.layers.7.mlp.router.weight", "`model.layers.7.mlp.router.weight` has no place in llama"),
            ("model.layers.x.mlp.down_proj.weight", "`model.layers.x.mlp.down_proj.weight` has no place in llama"),
        ],
    );
    check(
        "T5EncoderModel",
        &[
            ("shared.weight", "token_embd.weight"),
            ("encoder.embed_tokens.weight", "token_embd.weight"),
            ("encoder.final_layer_norm.weight", "enc.output_norm.weight"),
            ("encoder.block.1.layer.0.SelfAttention.o.weight", "enc.blk.1.attn_o.weight"),
            ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "enc.blk.0.attn_rel_b.weight"),
            ("encoder.block.1.layer.1.layer_norm.weight", "enc.blk.1.ffn_norm.weight"),
            ("encoder.block.1.layer.1.DenseReluDense.wi_0.weight", "enc.blk.1.ffn_gate.weight"),
            ("encoder.block.1.layer.1.DenseReluDense.wi_1.weight", "enc.blk.1.ffn_up.weight"),
            ("decoder.final_layer_norm.weight", "dropped"),
        ],
    );
    check("LlamaModel", &[("layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight")]);
    check(
        "MixtralForCausalLM",
        &[
            ("model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight heads 8"),
            ("model.layers.1.block_sparse_moe.gate.weight", "blk.1.ffn_gate_inp.weight"),
            ("model.layers.1.block_sparse_moe.experts.3.w1.weight", "blk.1.ffn_gate_exps.weight expert 3"),
            ("model.layers.1.block_sparse_moe.experts.11.w2.weight", "blk.1.ffn_down_exps.weight expert 11"),
            ("model.layers.1.block_sparse_moe.experts.0.w3.weight", "blk.1.ffn_up_exps.weight expert 0"),
        ],
    );
    check(
        "Qwen2ForCausalLM",
        &[
            ("model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight"),
            ("model.layers.1.self_attn.k_proj.bias", "blk.1.attn_k.bias"),
        ],
    );
    check(
        "Qwen2MoeForCausalLM",
        &[
            ("model.layers.1.mlp.gate.weight", "blk.1.ffn_gate_inp.weight"),
            ("model.layers.1.mlp.experts.2.gate_proj.weight", "blk.1.ffn_gate_exps.weight expert 2"),
            ("model.layers.1.mlp.shared_expert.down_proj.weight", "blk.1.ffn_down_shexp.weight"),
            ("model.layers.1.mlp.shared_expert_gate.weight", "blk.1.ffn_gate_inp_shexp.weight"),
            ("model.layers.1.mlp.experts.gate_up_proj", "blk.1.ffn_gate_exps.weight and blk.1.ffn_up_exps.weight"),
            ("model.layers.1.mlp.experts.down_proj", "blk.1.ffn_down_exps.weight"),
        ],
    );
    check(
        "Qwen3ForCausalLM",
        &[
            ("model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"),
            ("model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight"),
        ],
    );
    check(
        "Qwen3MoeForCausalLM",
        &[
            ("model.layers.1.self_attn.k_norm.weight", "blk.1.attn_k_norm.weight"),
            ("model.layers.1.mlp.experts.127.down_proj.weight", "blk.1.ffn_down_exps.weight expert 127"),
        ],
    );
    check(
        "GemmaForCausalLM",
        &[
            ("model.norm.weight", "output_norm.weight +1"),
            ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight +1"),
            ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight +1"),
            ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"),
            ("lm_head.weight", "dropped"),
        ],
    );
    for class in ["Gemma2ForCausalLM", "Gemma3ForCausalLM"] {
        check(
            class,
            &[
                ("model.layers.0.post_attention_layernorm.weight", "blk.0.post_attention_norm.weight +1"),
                ("model.layers.0.pre_feedforward_layernorm.weight", "blk.0.ffn_norm.weight +1"),
                ("model.layers.0.post_feedforward_layernorm.weight", "blk.0.post_ffw_norm.weight +1"),
            ],
        );
    }
    check(
        "Gemma3ForConditionalGeneration",
        &[
            ("language_model.model.layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight +1"),
            ("model.language_model.embed_tokens.weight", "token_embd.weight"),
            ("model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", "dropped"),
            ("multi_modal_projector.mm_input_projection_weight", "dropped"),
        ],
    );
    check(
        "Phi3ForCausalLM",
        &[
            ("model.layers.0.self_attn.qkv_proj.weight", "blk.0.attn_qkv.weight"),
            ("model.layers.0.mlp.gate_up_proj.weight", "blk.0.ffn_up.weight"),
        ],
    );
    check(
        "Olmo2ForCausalLM",
        &[
            ("model.layers.0.post_attention_layernorm.weight", "blk.0.post_attention_norm.weight"),
            ("model.layers.0.post_feedforward_layernorm.weight", "blk.0.post_ffw_norm.weight"),
            ("model.layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight"),
        ],
    );
    check(
        "Starcoder2ForCausalLM",
        &[
            ("model.layers.0.mlp.c_fc.bias", "blk.0.ffn_up.bias"),
            ("model.layers.0.mlp.c_proj.weight", "blk.0.ffn_down.weight"),
            ("model.norm.bias", "output_norm.bias"),
        ],
    );
    check(
        "GPT2LMHeadModel",
        &[
            ("transformer.wte.weight", "token_embd.weight"),
            ("wpe.weight", "position_embd.weight"),
            ("transformer.h.0.attn.c_attn.weight", "blk.0.attn_qkv.weight transposed"),
            ("transformer.h.0.attn.c_attn.bias", "blk.0.attn_qkv.bias"),
            ("transformer.h.0.mlp.c_proj.weight", "blk.0.ffn_down.weight transposed"),
            ("transformer.h.0.ln_2.bias", "blk.0.ffn_norm.bias"),
            ("h.0.attn.bias", "dropped"),
            ("transformer.h.0.attn.masked_bias", "dropped"),
        ],
    );
    check(
        "BertModel",
        &[
            ("embeddings.LayerNorm.gamma", "token_embd_norm.weight"),
            ("bert.embeddings.token_type_embeddings.weight", "token_types.weight"),
            ("encoder.layer.0.attention.self.query.bias", "blk.0.attn_q.bias"),
            ("encoder.layer.0.attention.output.LayerNorm.beta", "blk.0.attn_output_norm.bias"),
            ("encoder.layer.0.output.dense.weight", "blk.0.ffn_down.weight"),
            ("embeddings.position_ids", "dropped"),
            ("pooler.dense.weight", "dropped"),
            ("cls.predictions.bias", "dropped"),
        ],
    );
    check("RobertaModel", &[("roberta.embeddings.word_embeddings.weight", "token_embd.weight")]);
    check(
        "NomicBertModel",
        &[
            ("emb_ln.bias", "token_embd_norm.bias"),
            ("encoder.layers.0.attn.Wqkv.weight", "blk.0.attn_qkv.weight"),
            ("encoder.layers.0.mlp.fc12.weight", "blk.0.ffn_gate.weight"),
        ],
    );
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_are_known() {
    let message = of("MambaForCausalLM").expect_err("unknown").to_string();
    assert!(message.starts_with("MambaForCausalLM: no GGUF is made of this architecture"), "{message}");
    assert!(message.contains("LlamaForCausalLM") && message.contains("NomicBertModel"), "{message}");
}

#[test]
fn positions_that_a_model_does_not_use_are_cut() {
    fn check(class: &str, name: &str, rows: u64, expected: std::ops::Range<u64>) {
        let config = json!({"architectures": [class], "pad_token_id": 1, "vocab_size": 262_144});
        let found = (of(class).expect(class).rows)(name, rows, &Config::new("m", &config)).expect("rows");
        assert_eq!(found, expected, "{class} {name}");
    }
    check("RobertaModel", "position_embd.weight", 514, 2..514);
    check("XLMRobertaModel", "position_embd.weight", 8194, 2..8194);
    check("RobertaModel", "token_embd.weight", 514, 0..514);
    check("BertModel", "position_embd.weight", 512, 0..512);
    check("Gemma3ForCausalLM", "token_embd.weight", 262_208, 0..262_144);
    check("Gemma3ForCausalLM", "attn_q.weight", 262_208, 0..262_208);
}
