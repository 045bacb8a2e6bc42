//! Built-in presets: which layers of a model family are better left as they are, each with its reason.
//!
//! They follow the skip lists that sdnq applies by itself, so that what mixdown leaves alone is what the library would
//! leave alone.
use std::sync::OnceLock;

use super::profile::read::Source;
use crate::core::{Dtype, Family, Result, Rule};

/// The texts of `assets/presets`. The first speaks for every class that has none of its own.
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
    /// The classes it speaks for; none: those that no other preset speaks for.
    pub classes: Vec<String>,
    /// What it says.
    pub rules: Vec<Rule>,
}

/// Every built-in preset.
pub fn all() -> &'static [Preset] {
    static ALL: OnceLock<Vec<Preset>> = OnceLock::new();
    // A test reads each of them: none is ever missing here.
    ALL.get_or_init(|| TEXTS.iter().filter_map(|text| parse(text).ok()).collect())
}

/// The preset of that name.
pub fn by_name(name: &str) -> Option<Preset> {
    all().iter().find(|p| p.name == name).cloned()
}

/// The preset for models of a class: its own, else the one for classes that nobody knows, if the target has one.
pub fn for_class(family: Family, class: Option<&str>) -> Option<Preset> {
    let speaking = || all().iter().filter(|p| p.targets.contains(&family));
    speaking()
        .find(|p| p.classes.iter().any(|c| Some(c.as_str()) == class))
        .or_else(|| speaking().find(|p| p.classes.is_empty()))
        .cloned()
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
    let classes = source.strings(root, "classes")?;
    Ok(Preset {
        name: word("name")?,
        about: word("about")?,
        rules: source.rules(root, targets.first().copied().unwrap_or(Family::Sdnq))?,
        targets,
        classes: classes.into_iter().map(|(class, _)| class).collect(),
    })
}

#[cfg(test)]
pub(super) mod tests;
