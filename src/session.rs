//! What the person has chosen: a profile over a model, marks, and a history in which every edit has its inverse.
//!
//! Text in, text out: nothing here opens a file or starts a thread.
pub mod command;
pub mod exchange;
pub mod history;
pub mod kinds;
pub mod marks;
pub mod preset;
pub mod profile;
pub mod recent;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::imatrix::Imatrix;
use crate::core::rules::Pattern;
use crate::core::{Family, Model, Patch, Rule, Settings, TensorId};

pub use history::History;
pub use marks::Marks;
pub use profile::Profile;

/// A change of the settings. Applying one gives its inverse.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Sets (or, with `None`, removes) the overrides of tensors by name.
    Overrides(Vec<(String, Option<Patch>)>),
    /// Another target with its defaults and its preset.
    Target(Box<TargetChoice>),
    /// The defaults.
    Defaults(Patch),
    /// The whole ordered list of rules.
    Rules(Vec<Rule>),
    /// The preset's rules (only their switches differ).
    Preset(Vec<Rule>),
    /// The list of exclusions.
    Exclude(Vec<Pattern>),
    /// The list of inclusions.
    Include(Vec<Pattern>),
    /// The importance matrix: its file, and what it holds.
    Importance(Option<String>, Option<Arc<Imatrix>>),
    /// Several at once, in that order.
    All(Vec<Edit>),
    /// Whether convolutions are quantized too.
    QuantConv(bool),
    /// Whether embedding tables are quantized too.
    QuantEmbedding(bool),
}

/// Everything that changes when another target is chosen: dtypes of one target mean nothing to another.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetChoice {
    /// The target.
    pub target: Family,
    /// Its defaults.
    pub defaults: Patch,
    /// Its rules for this model.
    pub preset: Vec<Rule>,
    /// What they are called.
    pub preset_name: Option<String>,
    /// Rules in its dtypes.
    pub rules: Vec<Rule>,
    /// Overrides in its dtypes.
    pub overrides: BTreeMap<String, Patch>,
    /// Whether it quantizes convolutions too.
    pub quant_conv: bool,
    /// Whether it quantizes embedding tables too.
    pub quant_embedding: bool,
    /// Whether it is the folder of Nunchaku's that diffusers loads.
    pub lite: bool,
}

impl Edit {
    /// Carries it out; what it returns undoes it.
    pub fn apply(self, s: &mut Settings) -> Self {
        use std::mem::replace;
        match self {
            Self::Overrides(list) => {
                // The inverse runs backwards, so that a name that comes twice gets its first value back.
                let mut inverse: Vec<_> = list
                    .into_iter()
                    .map(|(name, patch)| {
                        let before = match patch {
                            Some(patch) => s.overrides.insert(name.clone(), patch),
                            None => s.overrides.remove(&name),
                        };
                        (name, before)
                    })
                    .collect();
                inverse.reverse();
                Self::Overrides(inverse)
            }
            Self::Target(choice) => {
                let c = *choice;
                Self::Target(Box::new(TargetChoice {
                    target: replace(&mut s.target, c.target),
                    defaults: replace(&mut s.defaults, c.defaults),
                    preset: replace(&mut s.preset, c.preset),
                    preset_name: replace(&mut s.preset_name, c.preset_name),
                    rules: replace(&mut s.rules, c.rules),
                    overrides: replace(&mut s.overrides, c.overrides),
                    quant_conv: replace(&mut s.quant_conv, c.quant_conv),
                    quant_embedding: replace(&mut s.quant_embedding, c.quant_embedding),
                    lite: replace(&mut s.nunchaku.lite, c.lite),
                }))
            }
            Self::Defaults(patch) => Self::Defaults(replace(&mut s.defaults, patch)),
            Self::Rules(rules) => Self::Rules(replace(&mut s.rules, rules)),
            Self::Preset(rules) => Self::Preset(replace(&mut s.preset, rules)),
            Self::Exclude(list) => Self::Exclude(replace(&mut s.exclude, list)),
            Self::Include(list) => Self::Include(replace(&mut s.include, list)),
            Self::Importance(file, held) => {
                Self::Importance(replace(&mut s.imatrix, file), replace(&mut s.importance, held))
            }
            Self::All(edits) => {
                let mut inverse: Vec<Self> = edits.into_iter().map(|e| e.apply(s)).collect();
                inverse.reverse();
                Self::All(inverse)
            }
            Self::QuantConv(on) => Self::QuantConv(replace(&mut s.quant_conv, on)),
            Self::QuantEmbedding(on) => Self::QuantEmbedding(replace(&mut s.quant_embedding, on)),
        }
    }
}

/// A model, the choices made for it, and how they came about.
#[derive(Debug)]
pub struct Session {
    /// What was opened.
    pub model: Arc<Model>,
    /// The choices, with the text they came from.
    pub profile: Profile,
    /// What is marked.
    pub marks: Marks,
    history: History,
    saved: Profile,
    /// Whether `saved` is what the profile's file has.
    is_filed: bool,
    /// Whether the choices are others than those of `saved`: an edit may lead back to them.
    differs: bool,
}

impl Session {
    /// A session without history.
    pub fn new(model: Arc<Model>, profile: Profile) -> Self {
        let saved = profile.clone();
        Self {
            model,
            profile,
            marks: Marks::default(),
            history: History::default(),
            saved,
            is_filed: true,
            differs: false,
        }
    }
    /// The choices.
    pub fn settings(&self) -> &Settings {
        &self.profile.settings
    }
    /// Makes a change that can be undone; `title` says what it was (`uint4 on 38 tensors`).
    pub fn edit(&mut self, title: impl Into<String>, edit: Edit) {
        let inverse = edit.apply(&mut self.profile.settings);
        self.history.push(title.into(), inverse);
        self.compare();
    }
    fn compare(&mut self) {
        self.differs = self.history.is_dirty() && self.profile.settings != self.saved.settings;
    }
    /// Says better what the last change did, now that it is known.
    pub fn retitle(&mut self, title: &str) {
        self.history.retitle(title);
    }
    /// Takes the last change back; its title, or `None` when there is none.
    pub fn undo(&mut self) -> Option<String> {
        let title = self.history.undo(&mut self.profile.settings);
        self.compare();
        title
    }
    /// Takes the last change back as if it had never been made.
    pub fn take_back(&mut self) {
        self.history.take_back(&mut self.profile.settings);
        self.compare();
    }
    /// Makes the change again that was taken back last.
    pub fn redo(&mut self) -> Option<String> {
        let title = self.history.redo(&mut self.profile.settings);
        self.compare();
        title
    }
    /// Takes changes back, or makes them again, until so many hold.
    pub fn go_to(&mut self, n: usize) {
        while self.history.at() > n && self.history.undo(&mut self.profile.settings).is_some() {}
        while self.history.at() < n && self.history.redo(&mut self.profile.settings).is_some() {}
        self.compare();
    }
    /// What was changed, and how much of it holds now.
    pub fn history(&self) -> &History {
        &self.history
    }
    /// Whether there is a change to take back.
    pub fn can_undo(&self) -> bool {
        self.history.can_undo()
    }
    /// Whether there is a change to make again.
    pub fn can_redo(&self) -> bool {
        self.history.can_redo()
    }
    /// Whether the choices differ from what was last saved or loaded.
    pub fn is_dirty(&self) -> bool {
        self.history.is_dirty() && (self.differs || !self.is_filed)
    }
    /// The choices as they were last saved, loaded, or begun with.
    pub fn saved(&self) -> &Profile {
        &self.saved
    }
    /// Says that what stands now was saved.
    pub fn mark_saved(&mut self) {
        self.saved = self.profile.clone();
        self.is_filed = true;
        self.differs = false;
        self.history.mark_saved();
    }
    /// Says that what stands now differs from the profile's file.
    pub fn mark_unsaved(&mut self) {
        self.is_filed = false;
        self.history.mark_unsaved();
    }

    /// An edit that says `patch` of those tensors on top of what their overrides say already.
    pub fn patch(&self, ids: impl IntoIterator<Item = TensorId>, patch: &Patch) -> Edit {
        Edit::Overrides(
            ids.into_iter()
                .map(|id| {
                    let name = self.model.tensor(id).name.clone();
                    let mut mine = self.settings().overrides.get(&name).cloned().unwrap_or_default();
                    mine.apply(patch);
                    (name, Some(mine))
                })
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Dtype;
    use crate::core::model::testing::model_of;
    use proptest::prelude::*;

    fn session() -> Session {
        let model = model_of(&["a.weight", "b.weight", "c.weight"]);
        Session::new(Arc::new(model), Profile::new(Settings::new(Family::Sdnq)))
    }

    #[test]
    fn undo_says_what_it_took_back() {
        let mut s = session();
        let edit = s.patch([TensorId(0)], &Patch::keep());
        s.edit("exclude a", edit);
        assert!(s.is_dirty());
        assert_eq!(s.undo().as_deref(), Some("exclude a"));
        assert!(!s.is_dirty());
        assert_eq!(s.undo(), None);
        assert_eq!(s.redo().as_deref(), Some("exclude a"));
        assert!(s.settings().overrides.contains_key("a.weight"));
    }

    #[test]
    fn what_leads_back_is_no_difference() {
        let mut s = session();
        s.edit("quantize convolutions", Edit::QuantConv(true));
        s.edit("leave convolutions", Edit::QuantConv(false));
        assert!(!s.is_dirty() && s.can_undo());
        s.undo();
        assert!(s.is_dirty());
        // What never was in a file differs from it, whatever is done.
        s.mark_unsaved();
        s.redo();
        assert!(s.is_dirty());
        s.mark_saved();
        assert!(!s.is_dirty());
    }

    #[test]
    fn patches_build_up() {
        let mut s = session();
        for patch in [
            Patch { dtype: Some(Dtype::new("int4")), ..Patch::default() },
            Patch { svd_rank: Some(8), ..Patch::default() },
        ] {
            let edit = s.patch([TensorId(1)], &patch);
            s.edit("set", edit);
        }
        assert_eq!(s.settings().overrides["b.weight"].to_string(), "int4 rank 8");
    }

    fn edits() -> impl Strategy<Value = Edit> {
        let patch = (prop::option::of(any::<bool>()), prop::option::of(0u32..4)).prop_map(|(keep, svd_rank)| Patch {
            keep,
            svd_rank,
            ..Patch::default()
        });
        let names = prop::collection::vec(("[a-c]", prop::option::of(patch.clone())), 0..4);
        let one = prop_oneof![
            names.prop_map(Edit::Overrides),
            patch.clone().prop_map(Edit::Defaults),
            any::<bool>().prop_map(Edit::QuantConv),
            any::<bool>().prop_map(Edit::QuantEmbedding),
            prop::collection::vec("[a-c]", 0..3)
                .prop_map(|l| Edit::Exclude(l.iter().filter_map(|p| Pattern::new(p).ok()).collect())),
        ];
        prop_oneof![4 => one.clone(), 1 => prop::collection::vec(one, 0..4).prop_map(Edit::All)]
    }

    proptest! {
        #[test]
        fn any_walk_can_be_undone(edits in prop::collection::vec(edits(), 0..12), back in 0usize..12) {
            let mut s = session();
            let start = s.settings().clone();
            for e in edits.clone() {
                s.edit("edit", e);
            }
            let end = s.settings().clone();
            for _ in 0..back.min(edits.len()) {
                s.undo();
            }
            while s.redo().is_some() {}
            prop_assert_eq!(s.settings(), &end);
            while s.undo().is_some() {}
            prop_assert_eq!(s.settings(), &start);
            prop_assert!(!s.is_dirty());
        }
    }
}
