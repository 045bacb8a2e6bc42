//! A type for every tensor of a diffusion model, as ComfyUI-GGUF's patch of llama-quantize chooses it.
//!
//! It differs in this: a type that a person names holds, `--pure` leaves the mixture out, and blocks of 32 that do not
//! fit fall back too, where the patched program stops.
use super::architectures::Architecture;
use crate::core::{Error, Result};
use crate::format::gguf::Type::{self, *};
use crate::target::gguf::mixtures::Mixture as M;
use crate::target::gguf::mixtures::{Choice, Kind, Named, Options, Source, never};

/// What a weight is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What attention weighs.
    Value,
    /// Query, key and value in one.
    Fused,
    /// The way down in a feed-forward part.
    Down,
    Other,
}

impl Part {
    fn of(name: &str) -> Self {
        const VALUE: &[&str] = &[
            "attn_v.weight",
            ".to_v.weight",
            ".v.weight",
            ".attn.w1v.weight",
            ".attn.w2v.weight",
            "_attn.v_proj.weight",
        ];
        const FUSED: &[&str] = &["attn_qkv.weight", "attn.qkv.weight", "attention.qkv.weight"];
        const DOWN: &[&str] = &[
            "ffn_down",
            ".ffn.2.weight",
            ".ff.net.2.weight",
            ".mlp.layer2.weight",
            ".adaln_modulation_mlp.2.weight",
            ".feed_forward.w2.weight",
        ];
        let any = |words: &[&str]| words.iter().any(|word| name.contains(word));
        let expert = name.contains("experts.") && name.contains(".w2.weight");
        match () {
            () if any(VALUE) => Self::Value,
            () if any(FUSED) => Self::Fused,
            () if expert || any(DOWN) => Self::Down,
            () => Self::Other,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Value => "attention's values",
            Self::Fused => "fused query, key and value",
            Self::Down => "feed-forward's way down",
            Self::Other => "other",
        }
    }

    /// What a mixture gives it, if not its own type; `nth` such tensors were before.
    fn special(self, mixture: M, nth: u64) -> Option<Type> {
        Some(match (self, mixture) {
            (Self::Value, M::Q2K) => Q3_K,
            (Self::Value, M::Q3KM) if nth < 2 => Q5_K,
            (Self::Value, M::Q3KM) => Q4_K,
            (Self::Value, M::Q3KL) => Q5_K,
            (Self::Value, M::Q4KS) if nth < 4 => Q5_K,
            (Self::Value, M::Q4KM | M::Q5KM) => Q6_K,
            (Self::Fused, M::Q3KM | M::Q3KL) => Q4_K,
            (Self::Fused, M::Q4KM) => Q5_K,
            (Self::Fused, M::Q5KM) => Q6_K,
            (Self::Down, M::Q3KM) => Q4_K,
            (Self::Down, M::Q3KL | M::Q4KS) => Q5_K,
            (Self::Down, M::Q4KM | M::Q5KM) => Q6_K,
            (Self::Down, M::Q4_0) => Q4_1,
            (Self::Down, M::Q5_0) => Q5_1,
            _ => return None,
        })
    }
}

/// The types of all tensors, in the order of the output. `judged` is what a tensor is called in the original layout,
/// which all rules speak of; `named` says which type a person named for it.
pub fn choose(
    architecture: &Architecture,
    tensors: &[Source],
    options: &Options,
    judged: &dyn Fn(&str) -> Option<String>,
    named: &dyn Fn(&str) -> Option<Named>,
) -> Vec<Choice> {
    let mut values = 0;
    let mut choices = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let name = judged(&tensor.name).unwrap_or_else(|| tensor.name.clone());
        if let Some(why) = kept(architecture, &name, tensor, options) {
            choices.push(Choice { ty: tensor.from, kind: Kind::Kept, why });
            continue;
        }
        let part = Part::of(&name);
        let nth = values;
        values += u64::from(part == Part::Value);
        let mixture = options.mixture;
        let default = mixture.default_type();
        let special = part.special(mixture, nth).filter(|ty| !options.pure && *ty != default);
        let wanted = match (named(&tensor.name), special) {
            (Some(Named { ty, by }), _) => Choice { ty, kind: Kind::Named, why: by },
            (None, Some(ty)) => {
                let what = if matches!(ty, Q4_1 | Q5_1) { "a minimum" } else { "more bits" };
                Choice { ty, kind: Kind::Mixture, why: format!("{} of {mixture}: {what}", part.word()) }
            }
            (None, None) => Choice { ty: default, kind: Kind::Default, why: format!("the type of {mixture}") },
        };
        choices.push(fitted(tensor, wanted));
    }
    choices
}

/// Why a tensor stays as it is, if it does.
fn kept(architecture: &Architecture, name: &str, tensor: &Source, options: &Options) -> Option<String> {
    if options.mixture == M::Copy {
        return Some("COPY leaves every tensor as it is".into());
    }
    let judged = Source { name: name.to_owned(), ..tensor.clone() };
    if let Some(why) = never::reason(architecture.name, &judged) {
        return Some(format!("never quantized: {why}"));
    }
    if let Some(mark) = architecture.never.iter().find(|mark| mark.hits(name)) {
        let what = mark.text().trim_end_matches('.');
        return Some(format!("never quantized: `{what}` of {}", architecture.name));
    }
    if tensor.n_dims() != 2 {
        return Some(format!("never quantized: {} dimensions", tensor.n_dims()));
    }
    (!tensor.from.holds_weights()).then(|| format!("{} is not quantized", tensor.from))
}

/// The choice, or F16 where rows are not whole blocks of it.
fn fitted(tensor: &Source, wanted: Choice) -> Choice {
    if wanted.ty.fits(tensor.cols()) {
        return wanted;
    }
    let why =
        format!("fallback from {}: rows of {} are not whole blocks of {}", wanted.ty, tensor.cols(), wanted.ty.block());
    Choice { ty: F16, kind: Kind::Fallback, why }
}

/// Refuses mixtures that diffusion models are not written in.
pub fn check(architecture: &Architecture, mixture: M) -> Result<()> {
    let why = match mixture.default_type() {
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_NL | IQ4_XS => {
            "ComfyUI-GGUF has no IQ mixtures for diffusion models; name such a type for single tensors"
        }
        MXFP4 => "its experts are not stacked, and ComfyUI-GGUF does not decode MXFP4",
        Q1_0 | Q2_0 => "ComfyUI-GGUF does not decode it",
        _ => return Ok(()),
    };
    Err(Error::usage(format!("{mixture} of a {} model: {why}; Q4_K_M is the usual choice", architecture.name)))
}

#[cfg(test)]
mod tests;
