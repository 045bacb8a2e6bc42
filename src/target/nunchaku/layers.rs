//! What Nunchaku's files call the layers of a model, and what each is made of: of diffusers' layers some are stacked, one
//! is cut in two, and the rows of modulation layers lie interleaved.
use std::collections::HashMap;
use std::ops::Range;

use crate::core::options::Names;
use crate::core::plan::Slice;
use crate::core::{Model, TensorId, name};
use crate::target::items::{self, Item};

/// How a layer of a single file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Weights and activations of 4 bits, with a low-rank branch.
    Svdq,
    /// The same behind a GELU that its kernel shifts.
    Shifted,
    /// Weights of 4 bits in so many interleaved fields.
    Awq(u32),
}

/// Which columns of a source a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// All of them.
    All,
    /// As many as it has rows, without its bias.
    First,
    /// The others, with its bias.
    Rest,
}

/// A layer of a block: its name there, what it is, and diffusers' layers whose rows it has.
pub struct Layer {
    /// Its name in its block.
    pub stored: &'static str,
    /// How it is kept.
    pub way: Way,
    /// diffusers' layers.
    pub of: &'static [&'static str],
    /// Which columns of these it has.
    pub columns: Columns,
}

const fn layer(stored: &'static str, way: Way, of: &'static [&'static str]) -> Layer {
    Layer { stored, way, of, columns: Columns::All }
}

/// Layers of the blocks whose names begin so.
struct Section {
    at: &'static str,
    layers: &'static [Layer],
    /// What stays a float and is called otherwise: diffusers' name in the block, and its own.
    renamed: &'static [(&'static str, &'static str)],
}

/// How parts of a layer are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// `smooth`, `lora_down`.
    Classic,
    /// `smooth_factor`, `proj_down`.
    Second,
}

/// A family of models that has single files.
pub struct Family {
    /// diffusers' class.
    pub class: &'static str,
    /// What its parts are called.
    pub words: Words,
    /// Whether its layers have a bias even where the source has none.
    pub always_bias: bool,
    sections: &'static [Section],
    /// Layers whose kernel is given no scale of all scales: those of their rows have to hold it.
    pub row_scaled: &'static [&'static str],
    /// Blocks that may stay as they are, all together: their beginnings.
    pub refiners: &'static [&'static str],
}

use Columns::{All, First, Rest};
use Way::{Awq, Shifted, Svdq};

const FLUX_BLOCKS: &[Layer] = &[
    layer("norm1.linear", Awq(6), &["norm1.linear"]),
    layer("norm1_context.linear", Awq(6), &["norm1_context.linear"]),
    layer("qkv_proj", Svdq, &["attn.to_q", "attn.to_k", "attn.to_v"]),
    layer("qkv_proj_context", Svdq, &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
    layer("out_proj", Svdq, &["attn.to_out.0"]),
    layer("out_proj_context", Svdq, &["attn.to_add_out"]),
    layer("mlp_fc1", Svdq, &["ff.net.0.proj"]),
    layer("mlp_fc2", Shifted, &["ff.net.2"]),
    layer("mlp_context_fc1", Svdq, &["ff_context.net.0.proj"]),
    layer("mlp_context_fc2", Shifted, &["ff_context.net.2"]),
];

const FLUX_NORMS: &[(&str, &str)] = &[
    ("attn.norm_q.weight", "norm_q.weight"),
    ("attn.norm_k.weight", "norm_k.weight"),
    ("attn.norm_added_q.weight", "norm_added_q.weight"),
    ("attn.norm_added_k.weight", "norm_added_k.weight"),
];

const FLUX_SINGLE: &[Layer] = &[
    layer("norm.linear", Awq(3), &["norm.linear"]),
    layer("qkv_proj", Svdq, &["attn.to_q", "attn.to_k", "attn.to_v"]),
    layer("mlp_fc1", Svdq, &["proj_mlp"]),
    Layer { stored: "out_proj", way: Svdq, of: &["proj_out"], columns: First },
    Layer { stored: "mlp_fc2", way: Shifted, of: &["proj_out"], columns: Rest },
];

const QWEN_BLOCKS: &[Layer] = &[
    layer("img_mod.1", Awq(6), &["img_mod.1"]),
    layer("txt_mod.1", Awq(6), &["txt_mod.1"]),
    layer("attn.to_qkv", Svdq, &["attn.to_q", "attn.to_k", "attn.to_v"]),
    layer("attn.add_qkv_proj", Svdq, &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
    layer("attn.to_out.0", Svdq, &["attn.to_out.0"]),
    layer("attn.to_add_out", Svdq, &["attn.to_add_out"]),
    layer("img_mlp.net.0.proj", Svdq, &["img_mlp.net.0.proj"]),
    layer("img_mlp.net.2", Shifted, &["img_mlp.net.2"]),
    layer("txt_mlp.net.0.proj", Svdq, &["txt_mlp.net.0.proj"]),
    layer("txt_mlp.net.2", Shifted, &["txt_mlp.net.2"]),
];

const Z_IMAGE_BLOCKS: &[Layer] = &[
    layer("attention.to_qkv", Svdq, &["attention.to_q", "attention.to_k", "attention.to_v"]),
    layer("attention.to_out.0", Svdq, &["attention.to_out.0"]),
    // The value comes before its gate.
    layer("feed_forward.net.0.proj", Svdq, &["feed_forward.w3", "feed_forward.w1"]),
    layer("feed_forward.net.2", Svdq, &["feed_forward.w2"]),
];

impl Family {
    /// The layer that is stored under a name, and its block.
    pub fn find<'a>(&'static self, stored: &'a str) -> Option<(&'a str, &'static Layer)> {
        self.sections.iter().find_map(|section| {
            let (block, rest) = block(stored, section.at)?;
            Some((block, section.layers.iter().find(|l| l.stored == rest)?))
        })
    }

    /// What the file calls a tensor that stays a float; or, the other way, what diffusers calls it.
    pub fn rename(&self, name: &str, to_diffusers: bool) -> Option<String> {
        self.sections.iter().find_map(|section| {
            let (block, rest) = block(name, section.at)?;
            let pair =
                section.renamed.iter().find(|(theirs, own)| rest == if to_diffusers { *own } else { *theirs })?;
            Some(format!("{block}{}", if to_diffusers { pair.0 } else { pair.1 }))
        })
    }
}

/// Families that have single files.
pub const FAMILIES: [Family; 3] = [
    Family {
        class: "FluxTransformer2DModel",
        words: Words::Classic,
        always_bias: true,
        sections: &[
            Section { at: "transformer_blocks.", layers: FLUX_BLOCKS, renamed: FLUX_NORMS },
            Section { at: "single_transformer_blocks.", layers: FLUX_SINGLE, renamed: FLUX_NORMS },
        ],
        row_scaled: &[],
        refiners: &[],
    },
    Family {
        class: "QwenImageTransformer2DModel",
        words: Words::Second,
        always_bias: false,
        sections: &[Section { at: "transformer_blocks.", layers: QWEN_BLOCKS, renamed: &[] }],
        row_scaled: &[],
        refiners: &[],
    },
    Family {
        class: "ZImageTransformer2DModel",
        words: Words::Second,
        always_bias: false,
        sections: &[
            Section { at: "layers.", layers: Z_IMAGE_BLOCKS, renamed: &[] },
            Section { at: "noise_refiner.", layers: Z_IMAGE_BLOCKS, renamed: &[] },
            Section { at: "context_refiner.", layers: Z_IMAGE_BLOCKS, renamed: &[] },
        ],
        row_scaled: &["attention.to_qkv"],
        refiners: &["noise_refiner.", "context_refiner."],
    },
];

/// The family of a class.
pub fn family(class: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|f| f.class == class)
}

/// A tensor of a single file before anything is done to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Its name (`….weight`), shape and sources.
    pub item: Item,
    /// Its bias: rows of its sources.
    pub bias: Vec<Slice>,
    /// Bytes of the bias in the source.
    pub bias_bytes: u64,
    /// What it is, where the family quantizes it.
    pub way: Option<Way>,
    /// What diffusers calls the layers it is made of.
    pub of: Vec<String>,
    /// Which of their columns it has; none: all.
    pub cols: Option<Range<u64>>,
}

impl Made {
    /// A tensor that stays as it is.
    pub fn plain(item: Item) -> Self {
        Self { item, bias: Vec::new(), bias_bytes: 0, way: None, of: Vec::new(), cols: None }
    }
}

/// A block's name, and what comes after it: `layers.0.`, `attention.to_q.weight`.
fn block<'a>(name: &'a str, at: &str) -> Option<(&'a str, &'a str)> {
    let number = name.strip_prefix(at)?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0)?;
    let rest = number.get(digits..)?.strip_prefix('.')?;
    Some((name.get(..name.len() - rest.len())?, rest))
}

/// diffusers' tensors of a model, by name.
struct Sources<'a> {
    model: &'a Model,
    items: Vec<Item>,
    by_name: HashMap<String, usize>,
}

impl Sources<'_> {
    fn find(&self, name: &str) -> Option<(usize, &Item)> {
        let at = *self.by_name.get(name)?;
        Some((at, self.items.get(at)?))
    }

    /// Rows of items one after another, some columns of each; of nothing, nothing.
    fn stacked(&self, name: &str, parts: &[&Item], cols: Option<Range<u64>>) -> Option<Item> {
        let mut item = Item { sources: Vec::new(), slices: Vec::new(), ..(*parts.first()?).clone() };
        let (wide, narrow) = (item.tensor.cols().max(1), cols.as_ref().map(|c| c.end - c.start));
        name.clone_into(&mut item.tensor.name);
        item.tensor.bytes = 0;
        for part in parts {
            let slices = add(&mut item.sources, self.model, part);
            item.slices.extend(slices.into_iter().map(|s| Slice { cols: cols.clone(), ..s }));
            item.tensor.merged |= part.tensor.merged;
            item.tensor.bytes += part.tensor.bytes / wide * narrow.unwrap_or(wide);
        }
        if let Some(rows) = item.tensor.shape.first_mut() {
            *rows = item.slices.iter().map(|s| s.rows.end - s.rows.start).sum();
        }
        if let (Some(narrow), Some(cols)) = (narrow, item.tensor.shape.get_mut(1)) {
            *cols = narrow;
        }
        Some(item)
    }
}

/// An item's rows, as slices of `sources`, to which its own are added.
pub fn add(sources: &mut Vec<TensorId>, model: &Model, item: &Item) -> Vec<Slice> {
    let mut at = |id: TensorId| {
        sources.iter().position(|s| *s == id).unwrap_or_else(|| {
            sources.push(id);
            sources.len() - 1
        })
    };
    if item.slices.is_empty() {
        let whole = |id: &TensorId| Slice::of_rows(at(*id), 0..model.tensor(*id).rows());
        return item.sources.first().map(whole).into_iter().collect();
    }
    let placed = |slice: &Slice| Some(Slice { source: at(*item.sources.get(slice.source)?), ..slice.clone() });
    item.slices.iter().filter_map(placed).collect()
}

/// What diffusers has of a model, whatever its own names are.
fn sources(model: &Model) -> Sources<'_> {
    let items = items::items(model, Names::Diffusers).0.unwrap_or_else(|| {
        let whole = |id: TensorId| Item { tensor: model.tensor(id).clone(), sources: vec![id], slices: Vec::new() };
        model.ids().map(whole).collect()
    });
    let by_name = items.iter().enumerate().map(|(i, item)| (item.tensor.name.clone(), i)).collect();
    Sources { model, items, by_name }
}

/// The tensors of a family's single file, in the order of their first sources. `plain` says which blocks stay floats,
/// by what their names begin with. An error names what is missing.
pub fn made(model: &Model, family: &Family, plain: &[&str]) -> Result<Vec<Made>, String> {
    let sources = sources(model);
    let mut out = Vec::new();
    let mut taken = vec![false; sources.items.len()];
    for (i, first) in sources.items.iter().enumerate() {
        if taken.get(i).copied().unwrap_or(true) {
            continue;
        }
        let full = first.tensor.name.as_str();
        let found = family.sections.iter().find_map(|section| {
            let (block, rest) = block(full, section.at)?;
            let layer = rest.strip_suffix(".weight").or_else(|| rest.strip_suffix(".bias"))?;
            section.layers.iter().any(|l| l.of.contains(&layer)).then_some((section, block, layer))
        });
        let Some((section, block, named)) = found else {
            if let Some(taken) = taken.get_mut(i) {
                *taken = true;
            }
            let mut item = first.clone();
            if let Some(name) = family.rename(full, false) {
                item.tensor.name = name;
            }
            out.push(Made::plain(item));
            continue;
        };
        let is_plain = plain.contains(&section.at);
        // A layer that is cut in two gives both.
        for layer in section.layers.iter().filter(|l| l.of.contains(&named)) {
            let mut weights = Vec::new();
            let mut biases = Vec::new();
            for part in layer.of {
                let name = format!("{block}{part}.weight");
                let (at, item) = sources.find(&name).ok_or_else(|| format!("`{}` is missing", name::clean(&name)))?;
                if item.tensor.shape.len() != 2 {
                    return Err(format!("`{}` is no matrix", name::clean(&name)));
                }
                weights.push((at, item));
                biases.extend(sources.find(&format!("{block}{part}.bias")));
            }
            let width = weights.first().map_or(0, |(_, item)| item.tensor.cols());
            if weights.iter().any(|(_, item)| item.tensor.cols() != width) {
                return Err(format!("the parts of `{}{}` are of different widths", name::clean(block), layer.stored));
            }
            if !biases.is_empty() && biases.len() != weights.len() {
                return Err(format!("some parts of `{}{}` have a bias, some none", name::clean(block), layer.stored));
            }
            for (at, _) in weights.iter().chain(&biases) {
                if let Some(taken) = taken.get_mut(*at) {
                    *taken = true;
                }
            }
            let items: Vec<&Item> = weights.iter().map(|(_, item)| *item).collect();
            let rows = items.iter().map(|i| i.tensor.rows()).sum::<u64>();
            let cols = match layer.columns {
                All => None,
                First | Rest if width <= rows => {
                    return Err(format!("`{}{named}.weight` is not as wide as it has to be", name::clean(block)));
                }
                First => Some(0..rows),
                Rest => Some(rows..width),
            };
            let vectors: Vec<&Item> = biases.iter().map(|(_, item)| *item).collect();
            if is_plain {
                // Attention stays as diffusers has it; the halves of a gate are one all the same.
                for (weight, bias) in keep_apart(&sources, layer, block, &items, &vectors) {
                    out.extend(weight.into_iter().chain(bias).map(Made::plain));
                }
                continue;
            }
            let Some(mut item) = sources.stacked(&format!("{block}{}.weight", layer.stored), &items, cols.clone())
            else {
                continue;
            };
            let mut bias = Vec::new();
            let mut bias_bytes = 0;
            if layer.columns != First {
                for vector in vectors {
                    bias.extend(add(&mut item.sources, model, vector));
                    bias_bytes += vector.tensor.bytes;
                }
            }
            let of = layer.of.iter().map(|part| format!("{block}{part}")).collect();
            out.push(Made { item, bias, bias_bytes, way: Some(layer.way), of, cols });
        }
    }
    Ok(out)
}

/// A layer that stays floats: weight and bias, of each of its parts or of all together.
fn keep_apart(
    sources: &Sources,
    layer: &Layer,
    block: &str,
    weights: &[&Item],
    biases: &[&Item],
) -> Vec<(Option<Item>, Option<Item>)> {
    let is_attention = layer.of.iter().any(|part| part.starts_with("attention."));
    if is_attention {
        let each = |(i, weight): (usize, &&Item)| (Some((*weight).clone()), biases.get(i).map(|b| (*b).clone()));
        return weights.iter().enumerate().map(each).collect();
    }
    let stacked =
        |what: &str, items: &[&Item]| sources.stacked(&format!("{block}{}.{what}", layer.stored), items, None);
    vec![(stacked("weight", weights), stacked("bias", biases))]
}

#[cfg(test)]
mod tests;
