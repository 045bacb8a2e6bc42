//! How a family's two sets of names are written down.

/// A family of models.
pub(super) struct Family {
    /// Its name, for people.
    pub name: &'static str,
    /// Tensors that tell diffusers' layout; all must be there.
    pub diffusers: &'static [&'static str],
    /// Those that tell the original one.
    pub original: &'static [&'static str],
    /// What a name must not contain, and why.
    pub refuse: &'static [(&'static str, &'static str)],
    /// The names.
    pub layout: Layout,
}

pub(super) enum Layout {
    /// The same in both.
    Same,
    /// Of tables.
    Sections(&'static [Section]),
    /// Of the UNet: its numbers count differently.
    Unet,
}

impl Family {
    /// Why a tensor of this name rules out a mapping.
    pub fn refused(&self, name: &str) -> Option<&'static str> {
        self.refuse.iter().find(|(part, _)| name.contains(part)).map(|(_, why)| *why)
    }
}

/// How parts make up a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A whole of one part.
    Whole,
    /// Parts of equal height.
    Even,
    /// As many parts as told are as high as the layer's input is wide; the rest are of equal height.
    Wide(usize),
    /// One part, whose second half comes first: shift and scale, which the two code bases order differently.
    Swapped,
    /// The same, if the part is just twice as high as the layer's input is wide: the last block of Stable Diffusion 3
    /// has a pair there, all others have six.
    SwappedPair,
    /// One of two parts: the first in blocks that have a certain tensor (diffusers' name, the original's), the second in
    /// the last block, which lacks it.
    Either(&'static str, &'static str),
}

/// Names that begin alike. `*` stands for a block's number, and is the first number of the name.
pub(super) struct Section {
    /// What the names begin with: diffusers', the original's. All that follows is there once for each.
    pub at: &'static [(&'static str, &'static str)],
    /// Layers (`.weight` and `.bias`) that are called the same.
    pub same: &'static [&'static str],
    /// Layers: diffusers', the original's.
    pub layers: &'static [(&'static str, &'static str)],
    /// Tensors that are called neither weight nor bias on one of the sides.
    pub params: &'static [(&'static str, &'static str)],
    /// Layers that the original stacks into one, or whose rows it orders differently.
    pub fused: &'static [(&'static [&'static str], &'static str, Way)],
}

impl Section {
    pub const EMPTY: Self = Self { at: &[("", "")], same: &[], layers: &[], params: &[], fused: &[] };
}

/// One line of a table, with the names in full but for the block's number.
#[derive(Debug)]
pub(super) struct Rule {
    /// diffusers' names.
    pub parts: Vec<String>,
    /// The original's name.
    pub whole: String,
    pub way: Way,
    /// Whether `.weight` or `.bias` follows.
    pub layer: bool,
}

/// All lines of a family.
pub(super) fn rules(sections: &[Section]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for section in sections {
        for (diffusers, original) in section.at {
            let mut push = |parts: &[&str], whole: &str, way, layer| {
                let parts = parts.iter().map(|part| format!("{diffusers}{part}")).collect();
                rules.push(Rule { parts, whole: format!("{original}{whole}"), way, layer });
            };
            section.same.iter().for_each(|name| push(&[name], name, Way::Whole, true));
            section.layers.iter().for_each(|(part, whole)| push(&[part], whole, Way::Whole, true));
            section.params.iter().for_each(|(part, whole)| push(&[part], whole, Way::Whole, false));
            section.fused.iter().for_each(|(parts, whole, way)| push(parts, whole, *way, true));
        }
    }
    rules
}
