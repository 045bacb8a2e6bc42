//! The mixtures: which tensors of a model get more bits, or fewer, than the mixture's own type.
//!
//! One function for each row of llama-quantize's rule; the first row that speaks of a tensor decides.
use super::{Hyper, Mixture, Options};
use crate::format::gguf::Type;
use Mixture as M;
use Type::*;

/// What a tensor is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Output,
    TokenEmbedding,
    /// `attn_v`, and the fused weights that hold it: `attn_qkv`, `attn_kv_b`.
    Value,
    Key,
    Query,
    AttentionOutput,
    Up,
    Gate,
    Down,
    Other,
}

impl Part {
    /// By the first word that its name holds.
    pub(super) fn of(name: &str) -> Self {
        const WORDS: [(&str, Part); 9] = [
            ("attn_qkv.weight", Part::Value),
            ("attn_kv_b.weight", Part::Value),
            ("attn_v.weight", Part::Value),
            ("attn_k.weight", Part::Key),
            ("attn_q.weight", Part::Query),
            ("attn_output.weight", Part::AttentionOutput),
            ("ffn_up", Part::Up),
            ("ffn_gate", Part::Gate),
            ("ffn_down", Part::Down),
        ];
        match name {
            "output.weight" => Part::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Part::TokenEmbedding,
            _ => WORDS.iter().find(|(word, _)| name.contains(word)).map_or(Part::Other, |(_, part)| *part),
        }
    }

    /// Its name, for people.
    fn word(self) -> &'static str {
        match self {
            Part::Output => "output",
            Part::TokenEmbedding => "token_embd",
            Part::Value => "attn_v",
            Part::Key => "attn_k",
            Part::Query => "attn_q",
            Part::AttentionOutput => "attn_output",
            Part::Up => "ffn_up",
            Part::Gate => "ffn_gate",
            Part::Down => "ffn_down",
            Part::Other => "other",
        }
    }
}

/// A tensor where the rule meets it.
pub(super) struct Seat<'a> {
    pub(super) name: &'a str,
    pub(super) part: Part,
    pub(super) cols: u64,
    /// Whether it holds a matrix for each expert.
    pub(super) stacked: bool,
    /// How many tensors of its kind the rule met before.
    pub(super) nth: u64,
    /// How many attention values the file has.
    pub(super) values: u64,
    /// Whether the file has no `output.weight`.
    pub(super) tied: bool,
}

/// The layers that the `_M` mixtures give more bits: an eighth at either end, and every third between.
fn more(i: u64, n: u64) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// What the mixture says of a tensor, with why; none: its own type.
pub(super) fn special(seat: &Seat, model: &Hyper, options: &Options) -> Option<(Type, String)> {
    let (mixture, part) = (options.mixture, seat.part);
    let default = mixture.default_type();
    let some = |(ty, why): (Type, &str)| Some((ty, format!("{} of {mixture}: {why}", part.word())));
    if model.arch == "glm5-next" && ["attn_q_a", "attn_q_b", "nextn.eh_proj"].iter().any(|w| seat.name.contains(w)) {
        return Some((Q8_0, "never below Q8_0 in this architecture".into()));
    }
    if part == Part::Output || (seat.tied && part == Part::TokenEmbedding) {
        if let Some(ty) = options.output_type {
            return Some((ty, "`--output-tensor-type`: it is the output too".into()));
        }
        let why = if part == Part::Output { "the output needs its bits" } else { "it is the output too" };
        let ty = match mixture {
            M::Mxfp4Moe => Q8_0,
            _ if model.arch == "falcon" || !default.fits(seat.cols) => Q8_0,
            M::Iq1S | M::Iq1M | M::Iq2Xxs | M::Iq2Xs | M::Iq2S | M::Iq2M | M::Iq3Xxs => Q5_K,
            _ if default == Q8_0 => Q8_0,
            _ => Q6_K,
        };
        return some((ty, why));
    }
    if mixture == M::Mxfp4Moe {
        let expert = model.arch != "bailingmoe3" || matches!(part, Part::Up | Part::Gate | Part::Down);
        return match seat.stacked && expert {
            true => Some((MXFP4, "experts of MXFP4_MOE".into())),
            false => Some((Q8_0, "not an expert of MXFP4_MOE".into())),
        };
    }
    if part == Part::TokenEmbedding {
        let ty = match mixture {
            M::Iq2Xxs | M::Iq2Xs | M::Iq1S | M::Iq1M => Q2_K,
            M::Iq2S | M::Iq2M | M::Iq3Xxs => IQ3_S,
            M::Tq1_0 | M::Tq2_0 | M::Q2_0 => Q4_K,
            _ => return None,
        };
        return some((ty, "embeddings need more bits"));
    }
    if matches!(mixture, M::Iq1S | M::Iq1M | M::Iq2Xxs | M::Iq2Xs | M::Iq2S | M::Iq2M) {
        return lowest(seat, model, mixture).and_then(some);
    }
    match part {
        Part::Value => value(seat, model, options).and_then(some),
        Part::Key if model.experts == 8 => some((Q8_0, "small beside eight experts")),
        Part::Key | Part::Query => match mixture {
            M::Iq3Xs => some((IQ3_XXS, "bears fewer bits")),
            M::Iq3Xxs => some((IQ2_S, "bears fewer bits")),
            _ => None,
        },
        Part::Down => down(seat, model, options).and_then(some),
        Part::AttentionOutput => attention_output(model, mixture).and_then(some),
        Part::Gate | Part::Up => {
            let n = model.layers;
            let middle = model.layer(seat).is_some_and(|i| i >= n / 8 && i < 7 * n / 8);
            if mixture == M::Iq3Xs && middle { some((IQ3_XXS, "fewer bits in the middle layers")) } else { None }
        }
        Part::Output | Part::TokenEmbedding | Part::Other => None,
    }
}

/// The mixtures of about one and two bits. Layers are counted here, even those of experts.
fn lowest(seat: &Seat, model: &Hyper, mixture: Mixture) -> Option<(Type, &'static str)> {
    let wider = matches!(mixture, M::Iq2S | M::Iq2M);
    let step = if wider { IQ3_S } else { Q2_K };
    match seat.part {
        Part::Value if model.gqa >= 4 || model.experts >= 4 => Some((Q4_K, "small, as heads share it")),
        Part::Value => Some((step, "more bits for values")),
        Part::Key if model.experts == 8 => Some((Q4_K, "small beside eight experts")),
        Part::Down => (seat.nth < model.layers / 8).then_some((step, "more bits in the first layers")),
        Part::AttentionOutput if model.experts == 8 => Some((Q5_K, "small beside eight experts")),
        Part::AttentionOutput => match mixture {
            M::Iq1S | M::Iq1M => Some((IQ2_XXS, "more bits for the attention's output")),
            _ => wider.then_some((IQ3_S, "more bits for the attention's output")),
        },
        _ => None,
    }
}

fn value(seat: &Seat, model: &Hyper, options: &Options) -> Option<(Type, &'static str)> {
    const SHARED: &str = "small, as heads share it";
    const ALL: &str = "more bits for values";
    const FIRST: &str = "more bits in the first layers";
    let shared = model.gqa >= 4;
    let chosen = match options.mixture {
        M::Q2K => Some(if shared { (Q4_K, SHARED) } else { (Q3_K, ALL) }),
        M::Q2KS | M::Iq3Xs | M::Iq3S if shared => Some((Q4_K, SHARED)),
        M::Iq3Xxs if shared => Some((Q4_K, SHARED)),
        M::Iq3Xxs if options.has_imatrix => Some((IQ3_XXS, "the importance matrix suffices")),
        M::Iq3Xxs => Some((IQ3_S, "more bits without an importance matrix")),
        M::Iq3M => Some((Q4_K, ALL)),
        M::Q3KM => Some(if seat.nth < 2 { (Q5_K, FIRST) } else { (Q4_K, ALL) }),
        M::Q3KL => Some((Q5_K, ALL)),
        M::Iq4Nl | M::Iq4Xs if shared => Some((Q5_K, SHARED)),
        M::Q4KM | M::Q5KM if more(seat.nth, seat.values) => Some((Q6_K, "more bits in some layers")),
        M::Q4KS if seat.nth < 4 => Some((Q5_K, FIRST)),
        _ => None,
    };
    if model.experts == 8 {
        return Some((Q8_0, "small beside eight experts"));
    }
    let so_far = chosen.map_or(options.mixture.default_type(), |(ty, _)| ty);
    if model.seventy && matches!(so_far, Q3_K | Q4_K) {
        return Some((Q5_K, "eight times smaller than attn_q in a 70B model"));
    }
    chosen
}

fn down(seat: &Seat, model: &Hyper, options: &Options) -> Option<(Type, &'static str)> {
    const ALL: &str = "more bits for ffn_down";
    const FIRST: &str = "more bits in the first layers";
    const SOME: &str = "more bits in some layers";
    let (falcon, n) = (model.arch == "falcon", model.layers);
    let layer = model.layer(seat);
    let below = |limit: u64| layer.is_some_and(|i| i < limit);
    let some_layers = layer.is_some_and(|i| more(i, n));
    match options.mixture {
        M::Q2K => Some((Q3_K, ALL)),
        M::Q2KS if below(n / 8) => Some((Q4_K, FIRST)),
        M::Iq3Xxs if !options.has_imatrix => {
            Some(if below(n / 8) { (Q4_K, FIRST) } else { (Q3_K, "more bits without an importance matrix") })
        }
        M::Q3KM if below(n / 16) => Some((Q5_K, FIRST)),
        M::Q3KM if !falcon => Some((Q4_K, ALL)),
        M::Q3KM if some_layers => Some((Q4_K, SOME)),
        M::Iq3M if below(n / 8) => Some((Q4_K, FIRST)),
        M::Iq3M if model.experts == 8 && some_layers => Some((Q4_K, SOME)),
        M::Q3KL => Some((if falcon { Q4_K } else { Q5_K }, ALL)),
        M::Q4KM if falcon && below(n / 16) => Some((Q6_K, FIRST)),
        M::Q4KM if some_layers => Some((if falcon { Q5_K } else { Q6_K }, SOME)),
        M::Iq4Nl | M::Iq4Xs if below(n / 8) && !options.has_imatrix => Some((Q5_K, FIRST)),
        M::Q5KM if some_layers => Some((Q6_K, SOME)),
        M::Q4KS if !falcon && below(n / 8) => Some((Q5_K, FIRST)),
        M::Q4_0 if options.has_imatrix && below(n / 8) => Some((Q4_1, "a minimum in the first layers")),
        M::Q5_0 if options.has_imatrix && below(n / 8) => Some((Q5_1, "a minimum in the first layers")),
        _ => None,
    }
}

fn attention_output(model: &Hyper, mixture: Mixture) -> Option<(Type, &'static str)> {
    const ALL: &str = "more bits for the attention's output";
    if model.arch == "falcon" {
        return (mixture == M::Q3KL).then_some((Q4_K, ALL));
    }
    if model.experts == 8 {
        let raised = matches!(
            mixture,
            M::Q2K
                | M::Iq3Xs
                | M::Iq3Xxs
                | M::Iq3S
                | M::Iq3M
                | M::Q3KS
                | M::Q3KM
                | M::Iq4Nl
                | M::Iq4Xs
                | M::Q4KS
                | M::Q4KM
        );
        return raised.then_some((Q5_K, "small beside eight experts"));
    }
    match mixture {
        M::Q2K => Some((Q3_K, ALL)),
        M::Iq3Xxs => Some((IQ3_S, ALL)),
        M::Q3KM | M::Iq3M => Some((Q4_K, ALL)),
        M::Q3KL => Some((Q5_K, ALL)),
        _ => None,
    }
}
