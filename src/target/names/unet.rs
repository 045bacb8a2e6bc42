//! The UNet of Stable Diffusion 1, 2 and XL. The original numbers all blocks of a side in one go, diffusers per level, so
//! the numbers come from what blocks there are.
use std::collections::HashMap;

use super::Side;
use super::map::{Sources, ending};
use super::table::{Family, Layout};

const VIDEO: &str = "a part of a video UNet, whose names are not known";

pub(super) const UNET: Family = Family {
    name: "unet",
    diffusers: &[
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "down_blocks.0.resnets.0.conv1.weight",
        "up_blocks.0.resnets.0.conv1.weight",
        "conv_out.weight",
    ],
    original: &[
        "input_blocks.0.0.weight",
        "time_embed.0.weight",
        "input_blocks.1.0.in_layers.2.weight",
        "output_blocks.0.0.in_layers.2.weight",
        "out.2.weight",
    ],
    refuse: &[("time_stack.", VIDEO), ("time_mixer.", VIDEO), ("temporal_transformer_blocks.", VIDEO)],
    layout: Layout::Unet,
};

/// Layers: diffusers', the original's.
type Layers = &'static [(&'static str, &'static str)];

const OUTSIDE: Layers = &[
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    // Of the upscaler: a table of noise levels.
    ("class_embedding", "label_emb"),
];
/// Embeddings of the size and pooled text (XL), or of an image or noise level (2): one name in the original.
const ADDED: Layers = &[("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2")];
const CLASS: Layers = &[("class_embedding.linear_1", "label_emb.0.0"), ("class_embedding.linear_2", "label_emb.0.2")];
const RESNET: Layers = &[
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];
const DOWN: Layers = &[("conv", "op")];
const UP: Layers = &[("conv", "conv")];

/// What a block's layers are called.
#[derive(Clone, Copy)]
enum Inside {
    Layers(Layers),
    /// The same on both sides.
    Attention,
}

/// What begins the names of a block: diffusers', the original's.
type Block = (String, String, Inside);

/// New names, by what the old ones begin with.
pub(super) struct Names {
    side: Side,
    blocks: HashMap<String, (String, Inside)>,
    outside: Vec<(&'static str, &'static str)>,
}

impl Names {
    /// Of the tensors of a layout.
    pub fn of(side: Side, sources: &Sources) -> Self {
        let mut blocks = Vec::new();
        middle(&mut blocks);
        let label = if side == Side::Original {
            by_original(sources, &mut blocks);
            [if is_wide(sources) { CLASS } else { ADDED }, &[]]
        } else {
            down(sources, &mut blocks);
            up(sources, &mut blocks);
            [ADDED, CLASS]
        };
        let turned = |(diffusers, original, inside): Block| match side {
            Side::Original => (original, (diffusers, inside)),
            Side::Diffusers | Side::Both => (diffusers, (original, inside)),
        };
        let outside = OUTSIDE.iter().chain(label.into_iter().flatten()).copied().collect();
        Self { side, blocks: blocks.into_iter().map(turned).collect(), outside }
    }
    /// What a tensor is called in the other layout.
    pub fn new_name(&self, name: &str) -> Option<String> {
        if let Some((layer, ending)) = ending(name)
            && let Some(layer) = self.turn(&self.outside, layer)
        {
            return Some(format!("{layer}{ending}"));
        }
        // A block's names begin with two to four segments.
        let dots = name.match_indices('.').take(4).skip(1);
        let (block, inside, rest) =
            dots.filter_map(|(dot, _)| name.split_at_checked(dot + 1)).find_map(|(at, rest)| {
                let (block, inside) = self.blocks.get(at)?;
                Some((block, *inside, rest))
            })?;
        match inside {
            Inside::Attention => {
                let first = rest.split('.').next().unwrap_or(rest);
                ["norm", "proj_in", "proj_out", "transformer_blocks"].contains(&first).then(|| format!("{block}{rest}"))
            }
            Inside::Layers(layers) => {
                let (layer, ending) = ending(rest)?;
                Some(format!("{block}{}{ending}", self.turn(layers, layer)?))
            }
        }
    }
    fn turn(&self, layers: &[(&'static str, &'static str)], layer: &str) -> Option<&'static str> {
        let turned = |(diffusers, original): &(&'static str, &'static str)| match self.side {
            Side::Original => (*original, *diffusers),
            Side::Diffusers | Side::Both => (*diffusers, *original),
        };
        layers.iter().map(turned).find(|(old, _)| *old == layer).map(|(_, new)| new)
    }
}

/// Text of 1024 features is Stable Diffusion 2's, which embeds its labels as classes.
fn is_wide(sources: &Sources) -> bool {
    let text = sources.names().find(|name| name.ends_with(".attn2.to_k.weight"));
    text.and_then(|name| sources.shape(name)).is_some_and(|shape| shape.get(1) == Some(&1024))
}

fn resnet(diffusers: String, original: String) -> Block {
    (format!("{diffusers}."), format!("{original}."), Inside::Layers(RESNET))
}

fn attention(diffusers: String, original: String) -> Block {
    (format!("{diffusers}."), format!("{original}."), Inside::Attention)
}

fn middle(blocks: &mut Vec<Block>) {
    blocks.push(resnet("mid_block.resnets.0".into(), "middle_block.0".into()));
    blocks.push(attention("mid_block.attentions.0".into(), "middle_block.1".into()));
    blocks.push(resnet("mid_block.resnets.1".into(), "middle_block.2".into()));
}

/// How many there are, counted from 0. Each one counted is a tensor, so this ends.
fn count(has: impl Fn(usize) -> bool) -> usize {
    (0..).take_while(|i| has(*i)).count()
}

fn down(sources: &Sources, blocks: &mut Vec<Block>) {
    let mut n = 1;
    let has = |level: usize, i: usize| sources.has(&format!("down_blocks.{level}.resnets.{i}.conv1.weight"));
    for level in 0..count(|level| has(level, 0)) {
        for i in 0..count(|i| has(level, i)) {
            blocks.push(resnet(format!("down_blocks.{level}.resnets.{i}"), format!("input_blocks.{n}.0")));
            blocks.push(attention(format!("down_blocks.{level}.attentions.{i}"), format!("input_blocks.{n}.1")));
            n += 1;
        }
        if sources.has(&format!("down_blocks.{level}.downsamplers.0.conv.weight")) {
            blocks.push(downsampler(level, n));
            n += 1;
        }
    }
}

fn downsampler(level: usize, n: usize) -> Block {
    (format!("down_blocks.{level}.downsamplers.0."), format!("input_blocks.{n}.0."), Inside::Layers(DOWN))
}

fn upsampler(level: usize, n: usize, at: usize) -> Block {
    (format!("up_blocks.{level}.upsamplers.0."), format!("output_blocks.{n}.{at}."), Inside::Layers(UP))
}

fn up(sources: &Sources, blocks: &mut Vec<Block>) {
    let mut n = 0;
    let has = |level: usize, i: usize| sources.has(&format!("up_blocks.{level}.resnets.{i}.conv1.weight"));
    for level in 0..count(|level| has(level, 0)) {
        let resnets = count(|i| has(level, i));
        for i in 0..resnets {
            blocks.push(resnet(format!("up_blocks.{level}.resnets.{i}"), format!("output_blocks.{n}.0")));
            blocks.push(attention(format!("up_blocks.{level}.attentions.{i}"), format!("output_blocks.{n}.1")));
            n += 1;
        }
        if sources.has(&format!("up_blocks.{level}.upsamplers.0.conv.weight")) && n > 0 {
            // It comes after the attention, if there is one.
            let attends = sources.has(&format!("up_blocks.{level}.attentions.{}.norm.weight", resnets - 1));
            blocks.push(upsampler(level, n - 1, 1 + usize::from(attends)));
        }
    }
}

fn by_original(sources: &Sources, blocks: &mut Vec<Block>) {
    let (mut level, mut i) = (0, 0);
    for n in 1.. {
        if sources.has(&format!("input_blocks.{n}.0.op.weight")) {
            blocks.push(downsampler(level, n));
            (level, i) = (level + 1, 0);
        } else if sources.has(&format!("input_blocks.{n}.0.in_layers.2.weight")) {
            blocks.push(resnet(format!("down_blocks.{level}.resnets.{i}"), format!("input_blocks.{n}.0")));
            blocks.push(attention(format!("down_blocks.{level}.attentions.{i}"), format!("input_blocks.{n}.1")));
            i += 1;
        } else {
            break;
        }
    }
    (level, i) = (0, 0);
    for n in 0..count(|n| sources.has(&format!("output_blocks.{n}.0.in_layers.2.weight"))) {
        blocks.push(resnet(format!("up_blocks.{level}.resnets.{i}"), format!("output_blocks.{n}.0")));
        let at = (1..=2).find(|at| sources.has(&format!("output_blocks.{n}.{at}.conv.weight")));
        if at != Some(1) {
            blocks.push(attention(format!("up_blocks.{level}.attentions.{i}"), format!("output_blocks.{n}.1")));
        }
        i += 1;
        if let Some(at) = at {
            blocks.push(upsampler(level, n, at));
            (level, i) = (level + 1, 0);
        }
    }
}
