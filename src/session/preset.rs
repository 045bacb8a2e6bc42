//! Built-in presets: which layers of a model family are better left as they are, each with its reason.
//!
//! Those for SDNQ follow the skip lists that sdnq applies by itself, so that what mixdown leaves alone is what the library
//! would leave alone. Those for ComfyUI keep what its model detection reads, and what its users' tools keep.
use std::sync::OnceLock;

use super::profile::read::Source;
use crate::core::{Dtype, Family, Result, Rule};

/// The texts of `assets/presets`.
const TEXTS: &[&str] = &[
    include_str!("../../assets/presets/common.toml"),
    include_str!("../../assets/presets/flux.toml"),
    include_str!("../../assets/presets/flux2.toml"),
    include_str!("../../assets/presets/chroma.toml"),
    include_str!("../../assets/presets/qwen-image.toml"),
    include_str!("../../assets/presets/wan.toml"),
    include_str!("../../assets/presets/longcat-video.toml"),
    include_str!("../../assets/presets/ltx2.toml"),
    include_str!("../../assets/presets/lumina2.toml"),
    include_str!("../../assets/presets/z-image.toml"),
    include_str!("../../assets/presets/ideogram4.toml"),
    include_str!("../../assets/presets/cosmos.toml"),
    include_str!("../../assets/presets/glm-image.toml"),
    include_str!("../../assets/presets/glm-image-ar.toml"),
    include_str!("../../assets/presets/hunyuan-image3.toml"),
    include_str!("../../assets/presets/emu3.toml"),
    include_str!("../../assets/presets/gemma3n.toml"),
    include_str!("../../assets/presets/gemma4.toml"),
    include_str!("../../assets/presets/moondream.toml"),
    include_str!("../../assets/presets/seedvr.toml"),
    include_str!("../../assets/presets/hidream-o1.toml"),
    include_str!("../../assets/presets/comfy-common.toml"),
    include_str!("../../assets/presets/comfy-ace-step.toml"),
    include_str!("../../assets/presets/comfy-anima.toml"),
    include_str!("../../assets/presets/comfy-auraflow.toml"),
    include_str!("../../assets/presets/comfy-boogu.toml"),
    include_str!("../../assets/presets/comfy-cascade.toml"),
    include_str!("../../assets/presets/comfy-chroma-small.toml"),
    include_str!("../../assets/presets/comfy-chroma.toml"),
    include_str!("../../assets/presets/comfy-clip.toml"),
    include_str!("../../assets/presets/comfy-cogvideox.toml"),
    include_str!("../../assets/presets/comfy-cosmos.toml"),
    include_str!("../../assets/presets/comfy-flux.toml"),
    include_str!("../../assets/presets/comfy-flux2.toml"),
    include_str!("../../assets/presets/comfy-gemma.toml"),
    include_str!("../../assets/presets/comfy-gemma4.toml"),
    include_str!("../../assets/presets/comfy-gpt-oss.toml"),
    include_str!("../../assets/presets/comfy-hidream.toml"),
    include_str!("../../assets/presets/comfy-hunyuan-dit.toml"),
    include_str!("../../assets/presets/comfy-hunyuan-video.toml"),
    include_str!("../../assets/presets/comfy-hunyuan3d.toml"),
    include_str!("../../assets/presets/comfy-ideogram4.toml"),
    include_str!("../../assets/presets/comfy-kandinsky5.toml"),
    include_str!("../../assets/presets/comfy-krea2.toml"),
    include_str!("../../assets/presets/comfy-lens.toml"),
    include_str!("../../assets/presets/comfy-llama.toml"),
    include_str!("../../assets/presets/comfy-ltx2.toml"),
    include_str!("../../assets/presets/comfy-ltxv.toml"),
    include_str!("../../assets/presets/comfy-lumina2.toml"),
    include_str!("../../assets/presets/comfy-minimax-h3.toml"),
    include_str!("../../assets/presets/comfy-mistral.toml"),
    include_str!("../../assets/presets/comfy-mochi.toml"),
    include_str!("../../assets/presets/comfy-omnigen2.toml"),
    include_str!("../../assets/presets/comfy-pixart.toml"),
    include_str!("../../assets/presets/comfy-qwen-image.toml"),
    include_str!("../../assets/presets/comfy-qwen-vlm.toml"),
    include_str!("../../assets/presets/comfy-qwen.toml"),
    include_str!("../../assets/presets/comfy-radiance-large.toml"),
    include_str!("../../assets/presets/comfy-radiance.toml"),
    include_str!("../../assets/presets/comfy-sd.toml"),
    include_str!("../../assets/presets/comfy-sd3.toml"),
    include_str!("../../assets/presets/comfy-stable-audio.toml"),
    include_str!("../../assets/presets/comfy-t5.toml"),
    include_str!("../../assets/presets/comfy-text.toml"),
    include_str!("../../assets/presets/comfy-vae.toml"),
    include_str!("../../assets/presets/comfy-visual.toml"),
    include_str!("../../assets/presets/comfy-wan.toml"),
    include_str!("../../assets/presets/comfy-z-image-refiner.toml"),
    include_str!("../../assets/presets/comfy-z-image.toml"),
];

/// Rules that come with a model family.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// Its name: `flux`.
    pub name: String,
    /// What it is for, in one line.
    pub about: String,
    /// The targets it speaks for.
    pub targets: Vec<Family>,
    /// The classes it speaks for; an empty list: those that no other preset speaks for; none: it is only chosen by name.
    pub classes: Option<Vec<String>>,
    /// What it says.
    pub rules: Vec<Rule>,
}

/// Every built-in preset.
pub fn all() -> &'static [Preset] {
    static ALL: OnceLock<Vec<Preset>> = OnceLock::new();
    // A test reads each of them: none is ever missing here.
    ALL.get_or_init(|| TEXTS.iter().filter_map(|text| parse(text).ok()).collect())
}

/// What they say of themselves, without their rules: compiling hundreds of patterns would be felt on opening a model.
fn heads() -> &'static [(Preset, &'static str)] {
    static HEADS: OnceLock<Vec<(Preset, &'static str)>> = OnceLock::new();
    let head = |text: &&'static str| {
        let end = text.find("[[rule]]")?;
        Some((parse(text.get(..end)?).ok()?, *text))
    };
    HEADS.get_or_init(|| TEXTS.iter().filter_map(head).collect())
}

/// The names of those that speak for a target.
pub fn names(family: Family) -> Vec<&'static str> {
    heads().iter().filter(|(p, _)| p.targets.contains(&family)).map(|(p, _)| p.name.as_str()).collect()
}

/// The preset of that name.
pub fn by_name(name: &str) -> Option<Preset> {
    let (_, text) = heads().iter().find(|(p, _)| p.name == name)?;
    parse(text).ok()
}

/// The preset for models of a class: its own, else the one for classes that nobody knows, if the target has one.
pub fn for_class(family: Family, class: Option<&str>) -> Option<Preset> {
    let speaking = || heads().iter().filter(|(p, _)| p.targets.contains(&family));
    let named = |p: &Preset| p.classes.iter().flatten().any(|c| Some(c.as_str()) == class);
    let (_, text) = speaking()
        .find(|(p, _)| named(p))
        .or_else(|| speaking().find(|(p, _)| p.classes.as_ref().is_some_and(Vec::is_empty)))?;
    parse(text).ok()
}

fn parse(text: &str) -> Result<Preset> {
    let source = Source { text, file: "preset", dtype: &|_, name| Ok(Dtype::new(name)) };
    let document = source.document()?;
    let root = document.as_table();
    source.only(root, &["name", "about", "target", "classes", "rule"])?;
    let word = |key: &str| {
        let missing = || source.error(None, format!("there is no `{key}`"));
        source.string(root, key)?.ok_or_else(missing)
    };
    let targets = source
        .strings(root, "target")?
        .into_iter()
        .map(|(name, span)| {
            let unknown = || source.error(span, format!("unknown target `{name}`"));
            Family::parse(&name).ok_or_else(unknown)
        })
        .collect::<Result<Vec<_>>>()?;
    let classes = root.get("classes").map(|_| source.strings(root, "classes")).transpose()?;
    Ok(Preset {
        name: word("name")?,
        about: word("about")?,
        rules: source.rules(root, targets.first().copied().unwrap_or(Family::Sdnq))?,
        targets,
        classes: classes.map(|all| all.into_iter().map(|(class, _)| class).collect()),
    })
}

#[cfg(test)]
pub(super) mod tests;
