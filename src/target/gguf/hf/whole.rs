//! Whether what was made of a model is what llama.cpp loads: every tensor that it asks for, none besides, each in its
//! shape. It would say so only when the file is there.
use std::collections::{BTreeMap, BTreeSet};

use super::keys::names::{CONTEXT, EXPERTS, LAYERS};
use super::{Item, Mapped, in_layer};
use crate::core::plan::Change;
use crate::core::{Model, Result, name as names};
use crate::target::gguf::architectures::Architecture;

/// A size that keys tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Whatever it is.
    Any,
    Hidden,
    Context,
    /// All query heads.
    Queries,
    /// All heads of keys, or of values.
    Keys,
    /// Queries, keys and values.
    Together,
    FeedForward,
    /// Gate and up.
    Twice,
    Experts,
    ExpertForward,
    SharedForward,
}
use Size::*;

/// Shapes by a name within a layer, in PyTorch's order.
const SHAPES: [(&str, &[Size]); 29] = [
    ("token_embd.weight", &[Any, Hidden]),
    ("position_embd.weight", &[Context, Hidden]),
    ("token_types.weight", &[Any, Hidden]),
    ("output.weight", &[Any, Hidden]),
    ("output_norm.weight", &[Hidden]),
    ("enc.output_norm.weight", &[Hidden]),
    ("token_embd_norm.weight", &[Hidden]),
    ("attn_norm.weight", &[Hidden]),
    ("ffn_norm.weight", &[Hidden]),
    ("post_attention_norm.weight", &[Hidden]),
    ("post_ffw_norm.weight", &[Hidden]),
    ("attn_output_norm.weight", &[Hidden]),
    ("layer_output_norm.weight", &[Hidden]),
    ("attn_q.weight", &[Queries, Hidden]),
    ("attn_k.weight", &[Keys, Hidden]),
    ("attn_v.weight", &[Keys, Hidden]),
    ("attn_qkv.weight", &[Together, Hidden]),
    ("attn_output.weight", &[Hidden, Queries]),
    ("attn_o.weight", &[Hidden, Queries]),
    ("ffn_up.weight", &[FeedForward, Hidden]),
    ("ffn_gate.weight", &[FeedForward, Hidden]),
    ("ffn_down.weight", &[Hidden, FeedForward]),
    ("ffn_gate_inp.weight", &[Experts, Hidden]),
    ("ffn_gate_exps.weight", &[Experts, ExpertForward, Hidden]),
    ("ffn_up_exps.weight", &[Experts, ExpertForward, Hidden]),
    ("ffn_down_exps.weight", &[Experts, Hidden, ExpertForward]),
    ("ffn_gate_shexp.weight", &[SharedForward, Hidden]),
    ("ffn_up_shexp.weight", &[SharedForward, Hidden]),
    ("ffn_down_shexp.weight", &[Hidden, SharedForward]),
];

/// Checks it.
///
/// # Errors
/// At the first tensor that is missing, too many, or of another shape than config.json says.
pub fn check(mapped: &Mapped, model: &Model) -> Result<()> {
    let layers = layers(mapped, model)?;
    outside(mapped)?;
    within(mapped, &layers)?;
    mapped.items.iter().try_for_each(|item| shape(mapped, model, item))
}

/// Names within each layer. The number of layers is that of config.json.
fn layers(mapped: &Mapped, model: &Model) -> Result<BTreeMap<u64, BTreeSet<String>>> {
    let config = &mapped.config;
    let count = mapped.key("block_count").unwrap_or(0);
    let mut layers: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for item in &mapped.items {
        let Some(rest) = item.name.strip_prefix(mapped.architecture.blocks) else { continue };
        let Some((number, own)) = rest.split_once('.').and_then(|(n, own)| Some((n.parse::<u64>().ok()?, own))) else {
            continue;
        };
        layers.entry(number).or_default().insert(own.to_owned());
        if number >= count {
            let range = count.checked_sub(1).map_or("none".into(), |last| format!("layers 0 to {last}"));
            return Err(config.error(format!(
                "`{}` is of layer {number}, and config.json says {}: expected {range}",
                called(model, item),
                config.quote(LAYERS).unwrap_or_default(),
            )));
        }
    }
    match (0..count).find(|layer| !layers.contains_key(layer)) {
        None => Ok(layers),
        Some(missing) => Err(config.error(format!(
            "no tensor is of layer {missing}, and config.json says {}: expected layers 0 to {}",
            config.quote(LAYERS).unwrap_or_default(),
            count.saturating_sub(1)
        ))),
    }
}

/// What llama.cpp demands of those, by their names on either side.
fn demanded(architecture: &Architecture, of: &'static [(&str, &str)]) -> Vec<(&'static str, &'static str)> {
    let optional = |to: &str| architecture.optional.contains(&to);
    of.iter().filter(|(_, to)| !optional(to)).copied().collect()
}

fn outside(mapped: &Mapped) -> Result<()> {
    let has = |to: &str| mapped.items.iter().any(|i| i.name.strip_suffix(".weight") == Some(to));
    match demanded(mapped.architecture, mapped.architecture.names).into_iter().find(|(_, to)| !has(to)) {
        None => Ok(()),
        Some((from, to)) => Err(mapped.config.error(format!(
            "has no tensor `{from}.weight`, which llama.cpp needs as `{to}.weight` for {}",
            mapped.architecture.name
        ))),
    }
}

/// Every layer has what is demanded, and what the others have besides.
fn within(mapped: &Mapped, layers: &BTreeMap<u64, BTreeSet<String>>) -> Result<()> {
    let architecture = mapped.architecture;
    let demanded: BTreeSet<String> =
        demanded(architecture, architecture.layer_names).iter().map(|(_, to)| format!("{to}.weight")).collect();
    // Some have a table of positions in their first layer alone.
    let lone = |own: &&String| own.starts_with("attn_rel_b.");
    let anywhere: BTreeSet<&String> = layers.values().flatten().chain(&demanded).filter(|own| !lone(own)).collect();
    for (number, has) in layers {
        let Some(missing) = anywhere.iter().find(|own| !has.contains(**own)) else { continue };
        let blocks = architecture.blocks;
        let why = match layers.iter().find(|(_, other)| other.contains(*missing)) {
            Some((other, _)) => format!("layer {other} has one: llama.cpp needs the same of all layers"),
            None => "llama.cpp needs it".into(),
        };
        return Err(mapped.config.error(format!(
            "layer {number} has no tensor for `{blocks}{number}.{missing}` of {}, and {why}",
            architecture.name
        )));
    }
    Ok(())
}

fn shape(mapped: &Mapped, model: &Model, item: &Item) -> Result<()> {
    let own = in_layer(&item.name);
    let Some((_, sizes)) = SHAPES.iter().find(|(name, _)| *name == own) else { return Ok(()) };
    let expected: Vec<Option<u64>> = sizes.iter().map(|size| mapped.size(*size, own)).collect();
    let fits = |(found, expected): (&u64, &Option<u64>)| expected.is_none_or(|e| e == *found);
    if expected.len() == item.shape.len() && item.shape.iter().zip(&expected).all(fits) {
        return Ok(());
    }
    let wrong = item.shape.iter().zip(&expected).zip(*sizes);
    let mut said: Vec<String> = Vec::new();
    for (_, size) in wrong.filter(|((found, expected), _)| !fits((found, expected))) {
        said.extend(
            size.keys()
                .iter()
                .filter_map(|keys| mapped.config.quote(keys))
                .filter(|q| !said.contains(q))
                .collect::<Vec<_>>(),
        );
    }
    let shown: Vec<String> = expected.iter().map(|e| e.map_or("any".into(), |e| e.to_string())).collect();
    let by = if said.is_empty() { String::new() } else { format!(", as config.json says {}", said.join(", ")) };
    Err(mapped.config.error(format!(
        "`{}` has shape {:?}, expected [{}]{by}",
        called(model, item),
        item.shape,
        shown.join(", ")
    )))
}

/// What people call a tensor: as in their file, where it lies there as it is.
fn called(model: &Model, item: &Item) -> String {
    match item.sources[..] {
        [id] if item.slices.is_empty() && item.change != Change::Transpose => {
            names::clean(&model.tensor(id).name).into_owned()
        }
        _ => item.name.clone(),
    }
}

impl Mapped {
    /// The number of a key of the architecture.
    fn key(&self, key: &str) -> Option<u64> {
        self.number(&format!("{}.{key}", self.architecture.name))
    }

    fn size(&self, size: Size, own: &str) -> Option<u64> {
        let heads = self.key("attention.head_count")?;
        let key_heads = self.key("attention.head_count_kv").unwrap_or(heads);
        let hidden = self.key("embedding_length")?;
        let dim = self.key("attention.key_length").or_else(|| hidden.checked_div(heads))?;
        // Phi has gate and up in one.
        let size = if self.architecture.name == "phi3" && own == "ffn_up.weight" && size == FeedForward {
            Twice
        } else {
            size
        };
        match size {
            Any => None,
            Hidden => Some(hidden),
            Context => self.key("context_length"),
            Queries => Some(heads.saturating_mul(dim)),
            Keys => Some(key_heads.saturating_mul(dim)),
            Together => Some(heads.saturating_add(key_heads.saturating_mul(2)).saturating_mul(dim)),
            FeedForward => self.key("feed_forward_length"),
            Twice => self.key("feed_forward_length").map(|n| n.saturating_mul(2)),
            Experts => self.key("expert_count"),
            ExpertForward => self.key("expert_feed_forward_length").or_else(|| {
                // Mixtral has no key of its own for it.
                self.key("feed_forward_length").filter(|_| self.architecture.name == "llama")
            }),
            SharedForward => self.key("expert_shared_feed_forward_length"),
        }
    }
}

impl Size {
    /// What config.json calls what it is made of.
    fn keys(self) -> &'static [&'static [&'static str]] {
        const WIDTH: &[&str] = &["hidden_size", "n_embd", "dim", "d_model"];
        const COUNT: &[&str] = &["num_attention_heads", "n_head", "n_heads", "num_heads"];
        // What is not said is as many as there are of the other.
        const KEY_COUNT: &[&str] = &["num_key_value_heads", "n_kv_heads", "num_attention_heads", "n_head", "n_heads"];
        const HEAD: &[&str] = &["head_dim", "d_kv", "hidden_size", "n_embd", "dim"];
        match self {
            Any => &[],
            Hidden => &[WIDTH],
            Context => &[CONTEXT],
            Queries => &[COUNT, HEAD],
            Keys => &[KEY_COUNT, HEAD],
            Together => &[COUNT, KEY_COUNT, HEAD],
            FeedForward | Twice => &[&["intermediate_size", "n_inner", "hidden_dim", "d_ff"]],
            Experts => &[EXPERTS],
            ExpertForward => &[&["moe_intermediate_size", "intermediate_size"]],
            SharedForward => &[&["shared_expert_intermediate_size"]],
        }
    }
}

#[cfg(test)]
mod tests;
