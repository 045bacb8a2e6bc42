//! What the tensors of a diffusion model are called: by diffusers, and in the single files of the original code bases,
//! which ComfyUI reads. Fused layers become several and the other way round; no value changes, only rows move.
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

mod dit;
mod flux;
mod hunyuan;
mod lumina;
mod map;
mod qwen;
mod table;
mod unet;
mod video;

use table::{Family, Layout};

/// Rows (of the first dimension) of a source tensor. A tensor without dimensions is one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which of the given tensors.
    pub source: usize,
    /// Its rows.
    pub rows: Range<u64>,
}

/// A tensor of the other layout: pieces one after another along the first dimension; every other dimension is that of
/// the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Its name, without the prefix.
    pub name: String,
    /// What it is made of.
    pub pieces: Vec<Piece>,
}

/// What a family's tensors are called in the other layout. Every row of every source is in one place: a piece, or a
/// tensor of `unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The family.
    pub family: &'static str,
    /// What the names of the original layout began with, of those given. Not part of the new names.
    pub prefix: &'static str,
    /// The tensors, in the order of their first sources.
    pub tensors: Vec<Renamed>,
    /// Sources that no rule names, or that lack the prefix (text encoders, an autoencoder): they keep their names.
    pub unknown: Vec<usize>,
}

/// Whose names they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// diffusers' layout.
    Diffusers,
    /// That of the original code, which ComfyUI reads.
    Original,
    /// The family's names are the same in both.
    Both,
}

/// Why there is no mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// No family knows these names.
    Unrecognised,
    /// The tensors of this family have the wanted names already.
    Already(&'static str),
    /// Something is missing, or is not of the shape it must have; which tensor, for people.
    Broken(String),
}

impl fmt::Display for Unmapped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unrecognised => f.write_str("no known family of diffusion models has these tensor names"),
            Self::Already(family) => write!(f, "the tensors of this {family} model are called so already"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Unmapped {}

/// In this order: what one family's names tell may also be told by those of a later one.
const FAMILIES: &[&Family] = &[
    &flux::CHROMA,
    &flux::FLUX2,
    &flux::FLUX,
    &dit::SD3,
    &dit::AURAFLOW,
    &dit::PIXART,
    &qwen::QWEN_IMAGE,
    &qwen::QWEN_IMAGE_21,
    &qwen::HIDREAM,
    &qwen::KANDINSKY5,
    &lumina::Z_IMAGE,
    &lumina::LUMINA2,
    &video::WAN,
    &video::LTX2,
    &video::LTX,
    &hunyuan::HUNYUAN,
    &hunyuan::COMFY,
    &hunyuan::HUNYUAN15,
    &hunyuan::HUNYUAN_IMAGE,
    &video::COSMOS1,
    &video::COSMOS2,
    &video::MOCHI,
    &unet::UNET,
];

/// What names of the original layout may begin with: in ComfyUI's checkpoints and saved models, in NVIDIA's and
/// AuraFlow's files.
const PREFIXES: [&str; 6] = ["", "model.diffusion_model.", "diffusion_model.", "net.", "model.model.", "model."];

/// Which family and layout some tensors are of, by their names; None if no family knows them. The shapes do not tell
/// more than the names.
pub fn recognise(tensors: &[(&str, &[u64])]) -> Option<(&'static str, Side)> {
    find(tensors).map(|found| (found.family.name, found.side))
}

/// What the names of the original layout begin with; nothing if no family knows them, or they are diffusers'.
pub fn prefix(tensors: &[(&str, &[u64])]) -> &'static str {
    find(tensors).map_or("", |found| found.prefix)
}

/// To the names of the original layout.
pub fn to_original(tensors: &[(&str, &[u64])]) -> Result<Mapped, Unmapped> {
    to(Side::Original, tensors)
}

/// To diffusers' names.
pub fn to_diffusers(tensors: &[(&str, &[u64])]) -> Result<Mapped, Unmapped> {
    to(Side::Diffusers, tensors)
}

struct Found {
    family: &'static Family,
    side: Side,
    prefix: &'static str,
}

fn find(tensors: &[(&str, &[u64])]) -> Option<Found> {
    let names: HashSet<&str> = tensors.iter().map(|(name, _)| *name).collect();
    let all = |prefix: &str, marks: &[&str]| {
        !marks.is_empty() && marks.iter().all(|mark| names.contains(format!("{prefix}{mark}").as_str()))
    };
    PREFIXES.iter().find_map(|prefix| {
        FAMILIES.iter().find_map(|family| {
            let same = matches!(family.layout, Layout::Same);
            let side = if all(prefix, family.original) {
                if same { Side::Both } else { Side::Original }
            } else if prefix.is_empty() && all("", family.diffusers) {
                Side::Diffusers
            } else {
                return None;
            };
            Some(Found { family, side, prefix })
        })
    })
}

fn to(wanted: Side, tensors: &[(&str, &[u64])]) -> Result<Mapped, Unmapped> {
    let Found { family, side, prefix } = find(tensors).ok_or(Unmapped::Unrecognised)?;
    if side == wanted {
        return Err(Unmapped::Already(family.name));
    }
    // What lacks the prefix is not the diffusion model's.
    let sources = map::Sources::new(tensors.iter().map(|(name, shape)| (name.strip_prefix(prefix), *shape)));
    if let Some((name, why)) = sources.names().find_map(|name| Some((name, family.refused(name)?))) {
        return Err(Unmapped::Broken(format!("{name}: {why}")));
    }
    let (renamed, unknown) = match family.layout {
        Layout::Same => map::same(&sources),
        Layout::Unet => {
            let names = unet::Names::of(side, &sources);
            map::rename(&sources, |name| names.new_name(name))
        }
        Layout::Sections(sections) if wanted == Side::Original => map::join(&sources, sections),
        Layout::Sections(sections) => map::split(&sources, sections),
    }
    .map_err(Unmapped::Broken)?;
    distinct(tensors, prefix, &renamed, &unknown).map_err(Unmapped::Broken)?;
    Ok(Mapped { family: family.name, prefix, tensors: renamed, unknown })
}

/// Two tensors of one name would overwrite each other.
fn distinct(tensors: &[(&str, &[u64])], prefix: &str, renamed: &[Renamed], unknown: &[usize]) -> Result<(), String> {
    let kept =
        unknown.iter().filter_map(|i| tensors.get(*i)).map(|(name, _)| name.strip_prefix(prefix).unwrap_or(name));
    let mut seen = HashSet::new();
    for name in renamed.iter().map(|tensor| tensor.name.as_str()).chain(kept) {
        if !seen.insert(name) {
            return Err(format!("{name}: two tensors would be called so"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
