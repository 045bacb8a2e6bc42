//! The preset's rules: which of them hold.
use rayon::prelude::*;

use super::recipe;
use crate::session::Edit;
use crate::tui::app::App;
use crate::tui::msg::Effect;
use crate::tui::overlay::{Overlay, PresetRules};

/// `P`: shows them.
pub fn open(app: &mut App) {
    let tensors = &app.session.model.tensors;
    let count = |rule: &crate::core::Rule| tensors.par_iter().filter(|t| rule.pattern.hits(&[&t.name])).count();
    let matches = app.session.settings().preset.iter().map(count).collect();
    app.overlays.push(Overlay::Preset(PresetRules { matches, at: 0 }));
}

/// Switches one off, or on again.
pub fn toggle(app: &mut App, at: usize, fx: &mut Vec<Effect>) {
    let mut rules = app.session.settings().preset.clone();
    let Some(rule) = rules.get_mut(at) else { return };
    rule.enabled = !rule.enabled;
    let title = format!("preset rule {} {}", rule.pattern, if rule.enabled { "on" } else { "off" });
    if let Some(Overlay::Preset(shown)) = app.overlays.last_mut() {
        shown.at = at;
    }
    recipe::change_all(app, title, Edit::Preset(rules), fx);
}
