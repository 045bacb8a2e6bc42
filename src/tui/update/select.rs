//! Marks: ranges, kinds, expressions, the worst; and the rule that marks stand for.
use std::collections::{BTreeMap, BTreeSet};

use super::{arrange, rules};
use crate::core::rules::Pattern;
use crate::core::tree::NodeId;
use crate::core::{Patch, TensorId};
use crate::session::{Marks, kinds};
use crate::tui::app::App;
use crate::tui::overlay::{Asked, Overlay, Prompt};
use crate::tui::text::tensors;

/// A range that grows with the cursor.
#[derive(Clone, Debug)]
pub struct Range {
    /// Where it began.
    from: NodeId,
    /// What was marked before.
    before: Marks,
}

/// `v`: begins a range, or ends it.
pub fn range(app: &mut App) {
    app.range = match app.range.take() {
        Some(_) => None,
        None => app.node().map(|from| Range { from, before: app.session.marks.clone() }),
    };
    grow(app);
}

/// Marks what lies between the range's beginning and the cursor.
pub fn grow(app: &mut App) {
    let Some(range) = &app.range else { return };
    let from = app.tree.row_near(range.from);
    let (a, b) = (from.min(app.cursor), from.max(app.cursor));
    let rows = app.tree.visible().get(a..=b).unwrap_or_default();
    let mut marks = range.before.clone();
    // An open group's children are rows of their own: those that the range reaches are marked.
    for node in rows.iter().filter(|n| app.tree.tensor(**n).is_some() || !app.tree.is_open(**n)) {
        marks.extend(app.tree.tensors(*node).filter(|id| app.tree.shows(*id)));
    }
    app.session.marks = marks;
}

/// Esc: what was marked before the range.
pub fn give_up_range(app: &mut App) -> bool {
    match app.range.take() {
        Some(range) => {
            app.session.marks = range.before;
            true
        }
        None => false,
    }
}

/// Marks more; a range that was begun ends where it is.
pub fn mark(app: &mut App, ids: impl IntoIterator<Item = TensorId>) {
    app.range = None;
    app.session.marks.extend(ids);
}

/// `.`: marks what is called the same in every block.
pub fn kind(app: &mut App) {
    let Some(node) = app.node() else { return };
    let kind = kinds::kind(app.tree.path(node, &app.session.model));
    let like = |id: &TensorId| kinds::is_of(&app.session.model.tensor(*id).name, &kind) && app.tree.shows(*id);
    let ids: Vec<TensorId> = app.session.model.ids().filter(like).collect();
    app.say(format!("{kind}: {} marked", tensors(ids.len())));
    mark(app, ids);
}

/// Tensors whose names an expression is found in, of those that are shown.
fn found(app: &App, text: &str) -> Result<Vec<TensorId>, String> {
    let pattern = Pattern::new(text).map_err(|e| e.to_string())?;
    let hit = |id: &TensorId| pattern.hits(&[&app.session.model.tensor(*id).name]) && app.tree.shows(*id);
    Ok(app.session.model.ids().filter(hit).collect())
}

/// Says of a prompt's text what it would do. Once when it changes: that takes a look at every name.
pub fn preview(app: &mut App) {
    let Some(Overlay::Prompt(prompt)) = app.overlays.last() else { return };
    let text = prompt.input.value();
    let said = match prompt.asked {
        _ if text.is_empty() => None,
        Asked::MarkRegex => Some(match found(app, text) {
            Ok(ids) => format!("matches {}", tensors(ids.len())),
            Err(why) => why,
        }),
        Asked::Rule(_) => rules::preview(app, text),
        _ => None,
    };
    if let Some(Overlay::Prompt(prompt)) = app.overlays.last_mut() {
        prompt.preview = said;
    }
}

/// Marks names that match an expression.
pub fn mark_regex(app: &mut App, text: &str) {
    match found(app, text) {
        Ok(ids) if ids.is_empty() => app.complain(format!("`{text}` matches nothing that is shown")),
        Ok(ids) => {
            app.say(format!("{} marked", tensors(ids.len())));
            mark(app, ids);
        }
        Err(why) => app.complain(why),
    }
}

/// Marks so many tensors of the largest estimated damage.
pub fn mark_worst(app: &mut App, text: &str) {
    let Ok(n) = text.parse::<usize>() else {
        return app.complain(format!("`{text}` is not a number"));
    };
    let known = |id: &TensorId| {
        app.tree.shows(*id) && app.losses.damage(&(id.index()..id.index() + 1)).is_some_and(|(d, _)| d > 0.0)
    };
    let worst: Vec<TensorId> = arrange::order(app, arrange::Sort::Damage).into_iter().filter(known).take(n).collect();
    if worst.is_empty() {
        let key = app.keymap.keys_of(crate::tui::action::Action::TrialShown).unwrap_or_default();
        return app.complain(format!("nothing is measured yet: {key} measures what is shown"));
    }
    let first = worst[0];
    let n = worst.len();
    mark(app, worst);
    arrange::go_to(app, first);
    app.say(format!("the worst {} marked, by estimated damage", tensors(n)));
}

/// Asks for a text.
pub fn ask(app: &mut App, asked: Asked, text: &str) {
    app.overlays.push(Overlay::Prompt(Prompt { asked, input: text.to_owned().into(), preview: None }));
    preview(app);
}

/// `Ctrl-g`: the rule that the marks stand for, to be looked at before it is one. Without marks: of what was set by hand.
pub fn generalise(app: &mut App) {
    let model = &app.session.model;
    let overrides = &app.session.settings().overrides;
    let marked: BTreeSet<usize> = match app.session.marks.is_empty() {
        false => app.session.marks.iter().map(TensorId::index).collect(),
        true => {
            // The largest set by hand alike.
            let mut sets: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
            for (name, patch) in overrides {
                if let Some(id) = model.find(name) {
                    sets.entry(patch.to_string()).or_default().insert(id.index());
                }
            }
            sets.into_values().max_by_key(BTreeSet::len).unwrap_or_default()
        }
    };
    if marked.is_empty() {
        return app.complain("mark tensors first, or set something by hand");
    }
    let names: Vec<&str> = model.tensors.iter().map(|t| t.name.as_str()).collect();
    let pattern = kinds::generalise(&names, &marked);
    let patches: BTreeSet<String> = marked
        .iter()
        .map(|i| {
            let patch = overrides.get(names[*i]).cloned().unwrap_or_default();
            rules::write(&Patch { keep: patch.keep.filter(|k| *k), ..patch })
        })
        .collect();
    let said = match (patches.len(), patches.first()) {
        (1, Some(patch)) if patch != rules::ANY => patch.clone(),
        _ => {
            let rows = marked.iter().filter_map(|i| app.board.row(TensorId(*i as u32)));
            // `keep` only where all of them are.
            rows.filter(|r| !r.excluded).map(|r| r.to.clone()).next().unwrap_or_else(|| rules::KEEP.to_owned())
        }
    };
    ask(app, Asked::Rule(None), &format!("{pattern}={said}"));
}

/// Whether there is something to make a rule of; why not.
pub fn can_generalise(app: &App) -> Result<(), String> {
    if app.session.marks.is_empty() && app.session.settings().overrides.is_empty() {
        return Err("mark tensors first, or set something by hand".into());
    }
    Ok(())
}
