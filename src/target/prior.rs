//! What an error in a tensor costs the model, as far as one can tell without running it: a factor α for each tensor, so
//! that damage ≈ Σ α·‖W−Ŵ‖²/‖W‖².
//!
//! Relative errors alone say nothing between tensors: trained weights are distributed alike, so quantizing a small tensor
//! and the token table costs the same by them, and not by what the model then says. The error does add up nearly linearly
//! in the relative error of each tensor (Malinovskii et al., *Pushing the limits of LLM quantization via the linearity
//! theorem*, 2024), with a factor that belongs to the tensor. Here it is estimated, never measured.
use std::collections::HashMap;
use std::sync::LazyLock;

use rayon::prelude::*;

use crate::core::Model;
use crate::core::model::Tensor;

/// Where the factors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The part that each tensor plays: factors measured on other language models, where a median tensor has 1. Of a part
    /// that nobody has measured, its size.
    Role,
    /// Its elements, where a median matrix has 1: for models of other kinds, which nobody has measured so.
    Size,
}

impl Basis {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Size => "size",
        }
    }
    /// In words, after "estimated".
    pub fn about(self) -> &'static str {
        match self {
            Self::Role => "by role, or size",
            Self::Size => "by size",
        }
    }
}

/// A factor for each tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Prior {
    /// Where they come from.
    pub basis: Basis,
    /// α, by tensor.
    pub alpha: Vec<f32>,
}

/// The parts of a language model by the ends of their names, and what an error there costs: geometric means of the
/// Kullback-Leibler divergence per relative error over three models of 0.8 to 9 billion parameters.
const ROLES: &[(f32, &[&str])] = &[
    (54.0, &["token_embd", "embed_tokens", "tok_embeddings", "word_embeddings", "wte", "shared"]),
    (52.0, &["lm_head", "embed_out"]),
    (
        1.75,
        &[
            "ffn_down",
            "ffn_down_exps",
            "ffn_down_shexp",
            "down_proj",
            "mlp.c_proj",
            "feed_forward.w2",
            "fc2",
            "wo",
            "w2",
        ],
    ),
    (
        1.65,
        &["attn_output", "o_proj", "attn.c_proj", "out_proj", "attention.wo", "SelfAttention.o", "EncDecAttention.o"],
    ),
    (1.6, &["ffn_up", "ffn_up_exps", "ffn_up_shexp", "up_proj", "mlp.c_fc", "fc1", "w3", "wi", "wi_1"]),
    (1.2, &["ffn_gate", "ffn_gate_exps", "ffn_gate_shexp", "gate_proj", "w1", "wi_0"]),
    (2.8, &["gate_up_proj"]),
    (1.06, &["attn_q", "q_proj", "SelfAttention.q", "EncDecAttention.q", "wq"]),
    (1.0, &["attn_v", "v_proj", "SelfAttention.v", "EncDecAttention.v", "wv"]),
    (0.53, &["attn_k", "k_proj", "SelfAttention.k", "EncDecAttention.k", "wk"]),
    // Of what is fused, the sum of its parts.
    (2.59, &["attn_qkv", "qkv_proj", "attn.c_attn", "query_key_value"]),
    (0.7, &["attn_gate"]),
    (0.15, &["ssm_alpha", "ssm_beta"]),
];

fn role(name: &str) -> Option<f32> {
    static BY_END: LazyLock<HashMap<&str, f32>> =
        LazyLock::new(|| ROLES.iter().flat_map(|(alpha, ends)| ends.iter().map(|e| (*e, *alpha))).collect());
    let layer = name.strip_suffix(".weight")?;
    // The head of a GGUF file is called just that.
    if layer == "output" {
        return Some(52.0);
    }
    // Ends of two segments come before those of one: `mlp.c_proj`, `down_proj`.
    let last = layer.rfind('.').map_or(0, |dot| dot + 1);
    let two = layer.get(..last.saturating_sub(1)).and_then(|l| l.rfind('.')).map_or(0, |dot| dot + 1);
    let found = layer.get(two..).and_then(|end| BY_END.get(end)).or_else(|| BY_END.get(layer.get(last..)?));
    found.copied()
}

/// The number of experts that an expert's tensor has beside it: the factors are those of all of them together.
fn experts(model: &Model) -> impl Fn(&str) -> f32 {
    let number = |name: &str| {
        let (_, after) = name.split_once(".experts.")?;
        after.split('.').next()?.parse::<u32>().ok()
    };
    let most = model.tensors.iter().filter_map(|t| number(&t.name)).max().map_or(1, |n| n.saturating_add(1));
    move |name| if number(name).is_some() { most as f32 } else { 1.0 }
}

fn is_matrix(tensor: &Tensor) -> bool {
    tensor.is_float() && tensor.shape.len() >= 2
}

impl Prior {
    /// The factors of a model's tensors. A model with a token table is one of language.
    pub fn of(model: &Model) -> Self {
        let mut sizes: Vec<u64> = model.tensors.iter().filter(|t| is_matrix(t)).map(Tensor::elements).collect();
        sizes.sort_unstable();
        let median = sizes.get(sizes.len() / 2).copied().unwrap_or(1).max(1) as f32;
        let roles: Vec<Option<f32>> = model.tensors.par_iter().map(|t| role(&t.name)).collect();
        let has_table = roles.iter().flatten().any(|alpha| *alpha > 53.0);
        let basis = if has_table { Basis::Role } else { Basis::Size };
        let by_size = |t: &Tensor| t.elements() as f32 / median;
        let experts = experts(model);
        let alpha = |(t, role): (&Tensor, &Option<f32>)| match (basis, role) {
            (Basis::Role, Some(alpha)) => alpha / experts(&t.name),
            _ => by_size(t),
        };
        Self { basis, alpha: model.tensors.iter().zip(&roles).map(alpha).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::testing::model_of;

    #[test]
    fn roles_by_name() {
        fn check(name: &str, alpha: Option<f32>) {
            assert_eq!(role(name), alpha, "{name}");
        }
        check("model.embed_tokens.weight", Some(54.0));
        check("token_embd.weight", Some(54.0));
        check("lm_head.weight", Some(52.0));
        check("output.weight", Some(52.0));
        check("blk.3.attn_output.weight", Some(1.65));
        check("model.layers.0.self_attn.o_proj.weight", Some(1.65));
        check("model.layers.0.mlp.experts.7.down_proj.weight", Some(1.75));
        check("model.layers.0.block_sparse_moe.experts.1.w1.weight", Some(1.2));
        check("h.0.attn.c_proj.weight", Some(1.65));
        check("h.0.mlp.c_proj.weight", Some(1.75));
        check("blk.0.attn_k.weight", Some(0.53));
        check("model.layers.0.self_attn.q_proj.bias", None);
        check("transformer_blocks.0.attn.to_q.weight", None);
    }

    #[test]
    fn experts_share_what_one_layer_would_cost() {
        let names: Vec<String> = std::iter::once("model.embed_tokens.weight".to_owned())
            .chain((0..4).map(|e| format!("model.layers.0.mlp.experts.{e}.down_proj.weight")))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let prior = Prior::of(&model_of(&names));
        assert_eq!(prior.basis, Basis::Role);
        let experts: f32 = prior.alpha.iter().filter(|a| **a < 50.0).sum();
        assert_eq!(experts, 1.75);
    }

    #[test]
    fn what_is_no_language_model_counts_its_elements() {
        let mut model = model_of(&["a.to_q.weight", "b.to_q.weight", "c.to_q.weight"]);
        for (tensor, rows) in model.tensors.iter_mut().zip([64, 64, 256]) {
            tensor.shape = vec![rows, 64];
        }
        let prior = Prior::of(&model);
        assert_eq!((prior.basis, &prior.alpha[..]), (Basis::Size, &[1.0, 1.0, 4.0][..]));
    }
}
