//! Changing what becomes of tensors.
use std::collections::HashSet;
use std::sync::Arc;

use super::trials;
use crate::core::plan::Action;
use crate::core::recipe::group_size;
use crate::core::{Dtype, Patch, Recipe, Result, TensorId};
use crate::session::Edit;
use crate::tui::action::Action as Key;
use crate::tui::app::App;
use crate::tui::aside;
use crate::tui::backend::{Form, Priority};
use crate::tui::board::{self, Board};
use crate::tui::msg::Effect;
use crate::tui::overlay::Choice;
use crate::tui::text::tensors;

/// Up to so many tensors are measured anew without being asked for.
const AT_ONCE: usize = 64;

/// Makes a change that can be undone, and then what follows from it; one that makes no plan is taken back.
fn edit(
    app: &mut App,
    title: String,
    edit: Edit,
    then: impl FnOnce(&mut App, &mut Vec<Effect>) + Send + 'static,
    fx: &mut Vec<Effect>,
) {
    app.session.edit(title, edit);
    let landed = |app: &mut App, planned: Result<()>, fx: &mut Vec<Effect>| match planned {
        Ok(()) => then(app, fx),
        Err(e) => {
            app.session.take_back();
            app.refuse(&e);
        }
    };
    aside::replan(app, landed, fx);
}

/// What came of a change.
enum Came {
    /// Something: what it is called, and what is to be said besides.
    So(String, Option<String>),
    /// Nothing, for this reason: it is taken back.
    Vain(String),
}

/// What was to be done is what was done.
fn as_meant(_: &App, title: String) -> Came {
    Came::So(title, None)
}

/// Makes a change of some tensors, and has measured what it touched. `title` says what it is to do, and `came` what it did.
fn change(
    app: &mut App,
    title: String,
    change: Edit,
    ids: Vec<TensorId>,
    came: impl FnOnce(&App, String) -> Came + Send + 'static,
    fx: &mut Vec<Effect>,
) {
    let known: HashSet<TensorId> = ids.iter().copied().filter(|id| is_known(app, *id)).collect();
    let then = {
        let title = title.clone();
        move |app: &mut App, fx: &mut Vec<Effect>| {
            let again: Vec<TensorId> =
                ids.iter().copied().filter(|id| ids.len() <= AT_ONCE || known.contains(id)).collect();
            // What is looked at comes first.
            let here = app.tensor();
            let priority = |id| if Some(id) == here { Priority::Cursor } else { Priority::Marked };
            trials::ask_all(app, &again, priority, fx);
            match came(app, title) {
                Came::So(title, more) => {
                    app.session.retitle(&title);
                    app.say(more.map_or(title.clone(), |more| format!("{title} · {more}")));
                }
                Came::Vain(why) => {
                    app.session.take_back();
                    app.complain(why);
                    aside::replan(app, |_, _, _| (), fx);
                }
            }
        }
    };
    edit(app, title, change, then, fx);
}

fn is_known(app: &App, id: TensorId) -> bool {
    app.board.index(id).is_some_and(|i| app.losses.of_row(i).is_some())
}

/// Makes a change of what is quantized at all, and says how many more or fewer tensors that is. `then` follows.
pub fn change_all(
    app: &mut App,
    title: String,
    change: Edit,
    then: impl FnOnce(&mut App, &mut Vec<Effect>) + Send + 'static,
    fx: &mut Vec<Effect>,
) {
    let before = quantized(app);
    let known: HashSet<TensorId> = before.iter().copied().filter(|id| is_known(app, *id)).collect();
    let plan = Arc::clone(&app.board);
    let landed = {
        let title = title.clone();
        move |app: &mut App, fx: &mut Vec<Effect>| {
            changed_all(app, &title, &plan, &before, &known, fx);
            then(app, fx);
        }
    };
    edit(app, title, change, landed, fx);
}

/// Those that are not kept.
fn quantized(app: &App) -> Vec<TensorId> {
    app.session.model.ids().filter(|id| !is_kept(app, *id)).collect()
}

/// What follows from another choice of what is quantized.
fn changed_all(
    app: &mut App,
    title: &str,
    plan: &Board,
    before: &[TensorId],
    known: &HashSet<TensorId>,
    fx: &mut Vec<Effect>,
) {
    let after = quantized(app);
    // What was measured is measured again where something else is done with it now.
    let other = |id: &TensorId| match (plan.row(*id), app.board.row(*id)) {
        (Some(a), Some(b)) => a.action != b.action,
        _ => true,
    };
    let fresh: Vec<TensorId> = after
        .iter()
        .copied()
        .filter(|id| before.binary_search(id).is_err() || (known.contains(id) && other(id)))
        .collect();
    let changed = app.session.model.ids().filter(other).count();
    if fresh.len() <= AT_ONCE || known.len() >= before.len() {
        trials::ask_all(app, &fresh, |_| Priority::Marked, fx);
    }
    app.say(match (after.len(), before.len()) {
        (a, b) if a > b => format!("{title} · {} more quantized", tensors(a - b)),
        (a, b) if a < b => format!("{title} · {} fewer quantized", tensors(b - a)),
        _ if changed > 0 => format!("{title} · {} changed", tensors(changed)),
        _ => format!("{title} · no tensor is changed by that"),
    });
}

/// `to_q.weight`, `38 tensors`.
pub fn whose(app: &App, ids: &[TensorId]) -> String {
    match ids {
        [id] => crate::core::name::clean(&app.session.model.tensor(*id).name).into_owned(),
        _ => tensors(ids.len()),
    }
}

pub(super) fn names(app: &App, id: TensorId) -> Vec<&str> {
    let source = app.session.model.tensor(id).name.as_str();
    let output = app.board.row(id).map(|r| r.name.as_str()).filter(|n| *n != source);
    std::iter::once(source).chain(output).collect()
}

/// Tensors with those that the output joins them to: what is set for one of these is set for all.
fn together(app: &App, ids: &[TensorId]) -> Vec<TensorId> {
    let mut seen = HashSet::new();
    let joined = |id: &TensorId| match app.board.row(*id) {
        Some(row) if !row.slices.is_empty() => row.sources.clone(),
        _ => vec![*id],
    };
    ids.iter().flat_map(joined).filter(|id| seen.insert(*id)).collect()
}

pub(super) fn is_kept(app: &App, id: TensorId) -> bool {
    app.board.row(id).is_none_or(|r| r.excluded)
}

/// Why tensors are still kept after they were asked to be quantized: how many they are, and the reasons, the commonest
/// first.
fn reasons(app: &App, ids: &[TensorId]) -> Option<(usize, String)> {
    let mut counts = Vec::<(&str, usize)>::new();
    for row in ids.iter().filter_map(|id| app.board.row(*id)).filter(|r| r.excluded) {
        let reason = row.reason.as_deref().unwrap_or("it cannot be quantized");
        match counts.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, n)) => *n += 1,
            None => counts.push((reason, 1)),
        }
    }
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let all = counts.iter().map(|(_, n)| n).sum();
    let why = match &counts[..] {
        [] => return None,
        [(one, _)] => (*one).to_owned(),
        [(a, n), (b, m)] => format!("{a} ({n}), {b} ({m})"),
        [(a, n), rest @ ..] => format!("{a} ({n}), and {} other reasons", rest.len()),
    };
    Some((all, app.keymap.for_flags(&why)))
}

/// The same as a sentence's end.
fn stuck(app: &App, ids: &[TensorId]) -> Option<String> {
    let (n, why) = reasons(app, ids)?;
    Some(match ids.len() {
        1 => format!("stays as it is: {why}"),
        _ => format!("{n} stay as they are: {why}"),
    })
}

/// What of these is quantized now: what was done is told of them, unless of none.
fn took(app: &App, ids: &[TensorId]) -> Vec<TensorId> {
    let free: Vec<TensorId> = ids.iter().copied().filter(|id| !is_kept(app, *id)).collect();
    if free.is_empty() { ids.to_vec() } else { free }
}

/// Overrides by which tensors are kept or not, and that say no more than they must.
fn set_keep(app: &App, ids: &[TensorId], keep: bool) -> Edit {
    let mut bare = app.session.settings().clone();
    let search = bare.search(ids.len());
    let mut list = Vec::new();
    for id in &together(app, ids) {
        let name = app.session.model.tensor(*id).name.clone();
        let mut patch = bare.overrides.remove(&name).unwrap_or_default();
        patch.keep = None;
        if !patch.is_empty() {
            bare.overrides.insert(name.clone(), patch.clone());
        }
        if bare.decide_found(&search, &names(app, *id)).keeps() != keep {
            patch.keep = Some(keep);
        }
        list.push((name, (!patch.is_empty()).then_some(patch)));
    }
    Edit::Overrides(list)
}

/// `x`: keeps them as they are, or, when all are, no longer.
pub fn exclude(app: &mut App, fx: &mut Vec<Effect>) {
    let all = app.targets();
    let free: Vec<TensorId> = all.iter().copied().filter(|id| !is_kept(app, *id)).collect();
    if !free.is_empty() {
        return keep(app, free, fx);
    }
    let said: Vec<TensorId> = {
        let decide = app.session.settings().decider(all.len());
        all.iter().copied().filter(|id| decide(&names(app, *id)).keeps()).collect()
    };
    if said.is_empty() {
        // Those that were included in vain.
        let included = |id: &TensorId| app.override_of(*id).is_some_and(|patch| patch.keep == Some(false));
        let vain: Vec<TensorId> = all.iter().copied().filter(included).collect();
        if !vain.is_empty() {
            return unsay(app, vain, fx);
        }
        let drops = |id: &TensorId| app.board.row(*id).is_none_or(|r| board::label(r) == board::DROP);
        let kept = if all.iter().all(drops) { "" } else { "kept already: " };
        let why = reasons(app, &all).map_or("not part of the output".to_owned(), |(_, why)| why);
        return app.say(format!("{}: {kept}{why}", whose(app, &all)));
    }
    let edit = set_keep(app, &said, false);
    let ids = said.clone();
    let came = move |app: &App, _| Came::So(format!("include {}", whose(app, &took(app, &ids))), stuck(app, &ids));
    change(app, format!("include {}", whose(app, &said)), edit, said, came, fx);
}

fn keep(app: &mut App, ids: Vec<TensorId>, fx: &mut Vec<Effect>) {
    let edit = set_keep(app, &ids, true);
    change(app, format!("exclude {}", whose(app, &ids)), edit, ids, as_meant, fx);
}

/// No longer says that they are included.
fn unsay(app: &mut App, ids: Vec<TensorId>, fx: &mut Vec<Effect>) {
    let without = |id: &TensorId| {
        let mut patch = app.override_of(*id).cloned().unwrap_or_default();
        patch.keep = None;
        (app.session.model.tensor(*id).name.clone(), (!patch.is_empty()).then_some(patch))
    };
    let edit = Edit::Overrides(together(app, &ids).iter().map(without).collect());
    change(app, format!("no longer include {}", whose(app, &ids)), edit, ids, as_meant, fx);
}

/// The tensors that a recipe is set on: of several, those that are not kept; where all are, those that a person excluded,
/// else all. And how many others there are.
pub fn reach(app: &App) -> (Vec<TensorId>, usize) {
    use crate::core::rules::Cause;
    let all = app.targets();
    let by_person = |id: &TensorId| {
        let cause = app.board.row(*id).map(|r| &r.cause);
        matches!(cause, Some(Cause::Override | Cause::Rule(_) | Cause::Exclude(_) | Cause::NotIncluded))
    };
    let mut reached: Vec<TensorId> = all.iter().copied().filter(|id| !is_kept(app, *id)).collect();
    if reached.is_empty() {
        let decide = app.session.settings().decider(all.len());
        let keeps = |id: &TensorId| decide(&names(app, *id)).keeps();
        reached = all.iter().copied().filter(|id| by_person(id) && keeps(id)).collect();
    }
    let others = all.len() - reached.len();
    if reached.is_empty() { (all, 0) } else { (reached, others) }
}

/// Sets what was chosen.
pub fn set(app: &mut App, choice: &Choice, fx: &mut Vec<Effect>) {
    let (word, patch) = match choice {
        Choice::Target(form) => return target(app, *form, fx),
        Choice::State(n) => return go_to_state(app, *n, fx),
        Choice::Default(dtype) => return default_dtype(app, dtype, fx),
        Choice::Dtype(dtype) => (dtype.to_string(), Patch { dtype: Some(dtype.clone()), ..Patch::default() }),
        Choice::GroupSize(n) => {
            (format!("group {}", group_size::name(*n)), Patch { group_size: Some(*n), ..Patch::default() })
        }
        Choice::SvdRank(n) => (format!("rank {n}"), Patch { svd_rank: Some(*n), ..Patch::default() }),
        Choice::Hadamard(n) => {
            let patch = Patch { hadamard: Some(*n), ..Patch::default() };
            (patch.to_string(), patch)
        }
    };
    put(app, &word, &patch, fx);
}

/// Lays a patch over what is acted on.
fn put(app: &mut App, word: &str, patch: &Patch, fx: &mut Vec<Effect>) {
    let (ids, others) = reach(app);
    if ids.is_empty() {
        return;
    }
    if patch.dtype.is_none() && ids.iter().all(|id| is_kept(app, *id)) {
        return app.complain(kept(app, &ids));
    }
    if is_for_all(app, patch) {
        return for_all(app, word, patch, None, fx);
    }
    let more = (others > 0).then(|| format!("{} left as kept", tensors(others)));
    lay(app, word, ids, patch, more, fx);
}

/// Why nothing but a dtype can be set.
pub(super) fn kept(app: &App, ids: &[TensorId]) -> String {
    let decide = app.session.settings().decider(ids.len());
    if !ids.iter().any(|id| decide(&names(app, *id)).keeps()) {
        let why = reasons(app, ids).map_or("not part of the output".to_owned(), |(_, why)| why);
        return format!("{}: {why}", whose(app, ids));
    }
    let (are, it) = if ids.len() == 1 { ("as it is", "it") } else { ("as they are", "them") };
    format!("{}: kept {are}; {} includes {it}", whose(app, ids), app.keymap.command(Key::Exclude))
}

/// Where what is quantized takes more room than what it was made from.
fn larger(app: &App, ids: &[TensorId]) -> Option<String> {
    let grows = |id: &&TensorId| app.board.row(**id).is_some_and(|r| r.bytes_after() > r.bytes_before);
    match (ids.iter().filter(grows).count(), ids.len()) {
        (0, _) => None,
        (1, 1) => Some("larger than it is now".into()),
        (n, _) => Some(format!("{n} larger than they are now")),
    }
}

/// Where the target does without what was asked for, because it cannot; its reason stands in the row. Of how many, and why.
fn without(app: &App, ids: &[TensorId], patch: &Patch) -> Option<(usize, String)> {
    let missing = |r: &Recipe| {
        (patch.hadamard.is_some_and(|n| n > 0) && r.hadamard == 0) || (patch.codebook == Some(true) && !r.codebook)
    };
    let without: Vec<TensorId> = ids.iter().copied().filter(|id| recipe_of(app, *id).is_some_and(missing)).collect();
    let reason = app.board.row(*without.first()?).and_then(|r| r.reason.clone());
    let why = reason.unwrap_or_else(|| "not possible there".into());
    Some((without.len(), app.keymap.for_flags(&why)))
}

/// Whether what a patch says can only be said of a whole file.
pub fn is_for_all(app: &App, patch: &Patch) -> bool {
    app.backend.is_for_all(app.session.settings().target, patch)
}

/// Lays a patch over the defaults. `more` are other changes that go with it.
pub fn for_all(app: &mut App, word: &str, patch: &Patch, more: Option<Edit>, fx: &mut Vec<Effect>) {
    let mut defaults = app.session.settings().defaults.clone();
    defaults.apply(&Patch { keep: None, ..patch.clone() });
    let edit = std::iter::once(Edit::Defaults(defaults)).chain(more).collect();
    change(app, format!("{word} for the whole file"), Edit::All(edit), quantized(app), as_meant, fx);
}

/// `b`: finds levels, or, where all have them, no longer.
pub fn codebook(app: &mut App, fx: &mut Vec<Effect>) {
    let ids = reach(app).0;
    let on = {
        let decide = app.session.settings().decider(ids.len());
        !ids.iter().all(|id| decide(&names(app, *id)).patch.codebook == Some(true))
    };
    let patch = Patch { codebook: Some(on), ..Patch::default() };
    put(app, &patch.to_string(), &patch, fx);
}

/// `I`: weighs errors by an importance matrix, or by none.
pub fn imatrix(app: &mut App, file: &str, fx: &mut Vec<Effect>) {
    let (title, edit) = match file {
        "" if app.session.settings().importance.is_none() => return app.say("there was no importance matrix"),
        "" => ("no importance matrix".to_owned(), Edit::Importance(None, None)),
        _ => match app.backend.imatrix(file) {
            Ok(held) => {
                let title = format!("importance matrix of {}", tensors(held.entries.len()));
                (title, Edit::Importance(Some(file.to_owned()), Some(held)))
            }
            Err(e) => return app.complain(e.to_string()),
        },
    };
    change(app, title, edit, quantized(app), as_meant, fx);
}

/// Whether convolutions are quantized too.
pub fn quant_conv(app: &mut App, fx: &mut Vec<Effect>) {
    let on = !app.session.settings().quant_conv;
    let title = if on { "quantize convolutions" } else { "leave convolutions" };
    change_all(app, title.into(), Edit::QuantConv(on), |_, _| (), fx);
}

/// Whether embedding tables are quantized too.
pub fn quant_embedding(app: &mut App, fx: &mut Vec<Effect>) {
    let on = !app.session.settings().quant_embedding;
    let title = if on { "quantize embedding tables" } else { "leave embedding tables" };
    change_all(app, title.into(), Edit::QuantEmbedding(on), |_, _| (), fx);
}

/// Lays a patch over the overrides of tensors; one that names a dtype means to quantize.
pub fn lay(app: &mut App, word: &str, ids: Vec<TensorId>, patch: &Patch, more: Option<String>, fx: &mut Vec<Effect>) {
    let all = together(app, &ids);
    let mut edit = app.session.patch(all.iter().copied(), patch);
    if patch.dtype.is_some() && patch.keep.is_none() {
        // To include is only said where the rules would keep.
        if let Edit::Overrides(list) = &mut edit {
            list.iter_mut().flat_map(|(_, patch)| patch).for_each(|patch| patch.keep = None);
        }
        let mut after = app.session.settings().clone();
        edit.clone().apply(&mut after);
        let decide = after.decider(all.len());
        if let Edit::Overrides(list) = &mut edit {
            for ((_, patch), id) in list.iter_mut().zip(&all) {
                if decide(&names(app, *id)).keeps() {
                    patch.get_or_insert_with(Patch::default).keep = Some(false);
                }
            }
        }
    }
    let title = format!("{word} on {}", whose(app, &ids));
    let (of, patch, word) = (ids.clone(), patch.clone(), word.to_owned());
    let came = move |app: &App, title: String| {
        if patch.keep == Some(true) {
            return Came::So(title, more);
        }
        let took = took(app, &of);
        let without = without(app, &of, &patch);
        if let Some((n, why)) = &without
            && *n == of.len()
        {
            return Came::Vain(format!("{}: {why}", whose(app, &of)));
        }
        let without = without.map(|(n, why)| format!("{} without: {why}", tensors(n)));
        let more = without.or_else(|| stuck(app, &of)).or_else(|| larger(app, &took)).or(more);
        Came::So(format!("{word} on {}", whose(app, &took)), more)
    };
    change(app, title, edit, ids, came, fx);
}

fn target(app: &mut App, form: Form, fx: &mut Vec<Effect>) {
    let family = form.name();
    if form == Form::of(app.session.settings()) {
        return app.say(format!("{family} is the target already"));
    }
    let choice = app.backend.settings_for(form, app.session.settings());
    let now = app.session.settings();
    let dropped = (now.rules.len() + now.overrides.len()).saturating_sub(choice.rules.len() + choice.overrides.len());
    let title = format!("target {family}");
    let then = {
        let title = title.clone();
        move |app: &mut App, _: &mut Vec<Effect>| {
            app.output = None;
            let undo = app.keymap.keys_of(Key::Undo).unwrap_or_default();
            app.say(match dropped {
                0 => title,
                n => format!("{title} · {n} settings in the other's dtypes are dropped: {undo} brings them back"),
            });
        }
    };
    edit(app, title, Edit::Target(Box::new(choice)), then, fx);
}

/// The dtype of all that nothing else is said of.
fn default_dtype(app: &mut App, dtype: &Dtype, fx: &mut Vec<Effect>) {
    let defaults = Patch { dtype: Some(dtype.clone()), ..app.session.settings().defaults.clone() };
    change(app, format!("{dtype} by default"), Edit::Defaults(defaults), quantized(app), as_meant, fx);
}

/// `R`: back to what the rules say.
pub fn reset(app: &mut App, fx: &mut Vec<Effect>) {
    let ids: Vec<TensorId> = app.targets().into_iter().filter(|id| app.override_of(*id).is_some()).collect();
    let all = together(app, &ids);
    let list = all.iter().map(|id| (app.session.model.tensor(*id).name.clone(), None)).collect();
    change(app, format!("back to the rules on {}", whose(app, &ids)), Edit::Overrides(list), ids, as_meant, fx);
}

/// `y`: copies what was asked for of this tensor, by whatever rule.
pub fn copy(app: &mut App) {
    let Some(id) = app.tensor() else { return };
    let decision = app.session.settings().decide(&names(app, id));
    let patch = Patch { keep: Some(decision.keeps()), ..decision.patch };
    app.say(format!("copied: {patch}"));
    app.clipboard = Some((app.session.settings().target, patch));
}

/// `p`: pastes it.
pub fn paste(app: &mut App, fx: &mut Vec<Effect>) {
    let Some((_, patch)) = app.clipboard.clone() else { return };
    let ids = app.targets();
    lay(app, &patch.to_string(), ids, &patch, None, fx);
}

pub(super) fn recipe_of(app: &App, id: TensorId) -> Option<&Recipe> {
    match &app.board.row(id)?.action {
        Action::Quantize(recipe) => Some(recipe),
        _ => None,
    }
}

/// Takes changes back, or makes them again, until so many hold.
fn go_to_state(app: &mut App, n: usize, fx: &mut Vec<Effect>) {
    let before = app.session.history().at();
    app.session.go_to(n);
    let then = move |app: &mut App, planned: Result<()>, _: &mut Vec<Effect>| match planned {
        Ok(()) => {
            let title = n.checked_sub(1).and_then(|i| app.session.history().titles().nth(i).map(str::to_owned));
            app.say(title.map_or("back at the beginning".to_owned(), |t| format!("as after: {t}")));
        }
        Err(e) => {
            app.session.go_to(before);
            app.refuse(&e);
        }
    };
    aside::replan(app, then, fx);
}
