//! Tensors that are never quantized, whatever the mixture says.
use super::Source;

/// Parts of names, with why.
const PARTS: &[(&[&str], &str)] = &[
    (&["_norm.weight"], "norm"),
    (&["ffn_gate_inp.weight"], "router of the experts"),
    (&["ffn_gate_tid2eid.weight"], "table of token ids and experts"),
    (&["altup", "laurel"], "very small"),
    (&["per_layer_model_proj"], "small projection"),
    (&["ssm_conv1d", "shortconv.conv.weight"], "small convolution"),
    (&["indexer.k_proj.weight", "indexer.q_proj.weight"], "small projection of the indexer"),
    (
        &[
            "time_mix_first.weight",
            "time_mix_w0.weight",
            "time_mix_w1.weight",
            "time_mix_w2.weight",
            "time_mix_v0.weight",
            "time_mix_v1.weight",
            "time_mix_v2.weight",
            "time_mix_a0.weight",
            "time_mix_a1.weight",
            "time_mix_a2.weight",
            "time_mix_g1.weight",
            "time_mix_g2.weight",
            "time_mix_decay_w1.weight",
            "time_mix_decay_w2.weight",
            "time_mix_lerp_fused.weight",
        ],
        "small weight of the time mix",
    ),
    (&["attn_rel_b.weight", ".rel_pos"], "relative positions"),
    (&[".position_embd", "sam.pos_embd"], "positions"),
    (&["sam.neck.", "sam.net_", ".patch_embd", ".patch_merger"], "sensitive part of the vision tower"),
    (&["a.rvq.codebook", "mm.a.code_embd"], "codebook of the audio tower"),
];

/// Whole names, with why.
const WHOLE: &[(&str, &str)] = &[("position_embd.weight", "positions"), ("token_types.weight", "token types")];

/// Parts of names that one architecture keeps besides.
const GLM5_NEXT: &[&str] = &[
    "hc_",
    "indexer.attn_q_b",
    "indexer.attn_k",
    "indexer.proj",
    "indexer_compressor_gate",
    "indexer_compressor_ape",
    "ssm_f_a.weight",
    "ssm_f_b.weight",
    "ssm_g_a.weight",
    "ssm_g_b.weight",
    "ssm_beta.weight",
    "attn_kv_a_mqa.weight",
    "attn_k_b.weight",
    "attn_v_b.weight",
];

/// Why a tensor of an architecture is never quantized; none if it may be.
pub fn reason(arch: &str, tensor: &Source) -> Option<&'static str> {
    let name = tensor.name.as_str();
    let part = |parts: &[&str]| parts.iter().any(|p| name.contains(p));
    if tensor.n_dims() < 2 {
        return Some("one dimension");
    }
    if !ends_as_weight(name) {
        return Some("not a weight");
    }
    if let Some((_, why)) = WHOLE.iter().find(|(whole, _)| name == *whole) {
        return Some(why);
    }
    if let Some((_, why)) = PARTS.iter().find(|(parts, _)| part(parts)) {
        return Some(why);
    }
    (arch == "glm5-next" && part(GLM5_NEXT)).then_some("sensitive part of this architecture")
}

/// Whether a name's last `weight` is its end. A name of five bytes without the word passes too: what the check compares
/// wraps around, and such a file must come out the same.
fn ends_as_weight(name: &str) -> bool {
    name.ends_with("weight") || (name.len() == 5 && !name.contains("weight"))
}
