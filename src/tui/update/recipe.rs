//! Changing what becomes of tensors.
use std::collections::HashSet;
use std::sync::Arc;

use super::trials;
use crate::core::plan::Action;
use crate::core::recipe::group_size;
use crate::core::rules::hadamard;
use crate::core::{Dtype, Family, Patch, Recipe, Result, TensorId};
use crate::session::Edit;
use crate::tui::app::App;
use crate::tui::aside;
use crate::tui::backend::{DtypeChoice, Form, Priority};
use crate::tui::board::Board;
use crate::tui::msg::Effect;
use crate::tui::overlay::{Choice, Item, Overlay, Picker};
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
            app.session.undo();
            app.complain(e.to_string());
        }
    };
    aside::replan(app, landed, fx);
}

/// Makes a change of some tensors, and has measured what it touched. `title` says what it does, and `said` what came of it.
fn change(
    app: &mut App,
    title: String,
    change: Edit,
    ids: Vec<TensorId>,
    said: impl FnOnce(&App, String) -> String + Send + 'static,
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
            let said = said(app, title);
            app.say(said);
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

fn names(app: &App, id: TensorId) -> Vec<&str> {
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

fn is_kept(app: &App, id: TensorId) -> bool {
    app.board.row(id).is_none_or(|r| r.excluded)
}

/// Why tensors are still kept after they were asked to be quantized.
fn stuck(app: &App, ids: &[TensorId]) -> Option<String> {
    let rows: Vec<_> = ids.iter().filter_map(|id| app.board.row(*id)).filter(|r| r.excluded).collect();
    let reason = rows.iter().find_map(|r| r.reason.clone()).unwrap_or_else(|| "it cannot be quantized".into());
    match (rows.len(), ids.len()) {
        (0, _) => None,
        (_, 1) => Some(format!("stays as it is: {reason}")),
        (n, _) => Some(format!("{n} stay as they are: {reason}")),
    }
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
        let edit = set_keep(app, &free, true);
        return change(app, format!("exclude {}", whose(app, &free)), edit, free, |_, title| title, fx);
    }
    let said: Vec<TensorId> = {
        let decide = app.session.settings().decider(all.len());
        all.iter().copied().filter(|id| decide(&names(app, *id)).keeps()).collect()
    };
    if said.is_empty() {
        let why = stuck(app, &all).unwrap_or_default();
        return app.complain(format!("{}: {why}", whose(app, &all)));
    }
    let edit = set_keep(app, &said, false);
    let ids = said.clone();
    let whether = move |app: &App, title| match stuck(app, &ids) {
        Some(why) => format!("{} · {why}", whose(app, &ids)),
        None => title,
    };
    change(app, format!("include {}", whose(app, &said)), edit, said, whether, fx);
}

/// The tensors that a recipe is set on: of several, those that are not kept; the kept ones when there are no others.
pub fn reach(app: &App) -> (Vec<TensorId>, usize) {
    let all = app.targets();
    let free: Vec<TensorId> = all.iter().copied().filter(|id| !is_kept(app, *id)).collect();
    let kept = all.len() - free.len();
    if free.is_empty() { (all, 0) } else { (free, kept) }
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
    let (ids, kept) = reach(app);
    if ids.is_empty() {
        return;
    }
    if patch.dtype.is_none() && ids.iter().all(|id| is_kept(app, *id)) {
        let key = app.keymap.keys_of(crate::tui::action::Action::Exclude).unwrap_or_default();
        return app.complain(format!("{}: kept as it is; {key} includes it", whose(app, &ids)));
    }
    if is_for_all(app, patch) {
        return for_all(app, word, patch, None, fx);
    }
    let more = if kept > 0 { format!(" · {} left as kept", tensors(kept)) } else { String::new() };
    lay(app, word, ids, patch, more, fx);
}

/// Where the target does without what was asked for, because it cannot; its reason stands in the row.
fn without(app: &App, ids: &[TensorId], patch: &Patch) -> Option<String> {
    let missing = |r: &Recipe| {
        (patch.hadamard.is_some_and(|n| n > 0) && r.hadamard == 0) || (patch.codebook == Some(true) && !r.codebook)
    };
    let without: Vec<TensorId> = ids.iter().copied().filter(|id| recipe_of(app, *id).is_some_and(missing)).collect();
    let reason = app.board.row(*without.first()?).and_then(|r| r.reason.clone());
    let why = reason.unwrap_or_else(|| "not possible there".into());
    Some(format!("{} without: {why}", tensors(without.len())))
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
    change(app, format!("{word} for the whole file"), Edit::All(edit), quantized(app), |_, title| title, fx);
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
    change(app, title, edit, quantized(app), |_, title| title, fx);
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
pub fn lay(app: &mut App, word: &str, ids: Vec<TensorId>, patch: &Patch, more: String, fx: &mut Vec<Effect>) {
    let all = together(app, &ids);
    let mut edit = app.session.patch(all.iter().copied(), patch);
    if patch.dtype.is_some() && patch.keep.is_none() {
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
    let (of, patch) = (ids.clone(), patch.clone());
    let said = move |app: &App, title: String| {
        let stuck = || stuck(app, &of).filter(|_| patch.keep != Some(true));
        match without(app, &of, &patch).or_else(stuck) {
            Some(why) => format!("{title} · {why}"),
            None => format!("{title}{more}"),
        }
    };
    change(app, title, edit, ids, said, fx);
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
            let undo = app.keymap.keys_of(crate::tui::action::Action::Undo).unwrap_or_default();
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
    change(app, format!("{dtype} by default"), Edit::Defaults(defaults), quantized(app), |_, title| title, fx);
}

/// `R`: back to what the rules say.
pub fn reset(app: &mut App, fx: &mut Vec<Effect>) {
    let ids: Vec<TensorId> = app.targets().into_iter().filter(|id| app.override_of(*id).is_some()).collect();
    let all = together(app, &ids);
    let list = all.iter().map(|id| (app.session.model.tensor(*id).name.clone(), None)).collect();
    change(app, format!("back to the rules on {}", whose(app, &ids)), Edit::Overrides(list), ids, |_, title| title, fx);
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
    lay(app, &patch.to_string(), ids, &patch, String::new(), fx);
}

fn item(label: String, figure: String, about: &str, choice: Choice) -> Item {
    Item { label, figure, about: about.into(), choice }
}

fn open(app: &mut App, title: &str, items: Vec<Item>, current: impl Fn(&App, TensorId, Patch) -> Option<Choice>) {
    let (ids, _) = reach(app);
    let (first, same) = {
        let decide = app.session.settings().decider(ids.len());
        let mut all = ids.iter().map(|id| current(app, *id, decide(&names(app, *id)).patch));
        let first = all.next().flatten();
        let same = all.all(|choice| choice == first);
        (first, same)
    };
    let picker = Picker::new(title, whose(app, &ids), items, first.filter(|_| same));
    app.overlays.push(Overlay::Picker(picker));
}

fn recipe_of(app: &App, id: TensorId) -> Option<&Recipe> {
    match &app.board.row(id)?.action {
        Action::Quantize(recipe) => Some(recipe),
        _ => None,
    }
}

/// `t`
pub fn pick_dtype(app: &mut App) {
    let items = app
        .backend
        .dtypes(app.session.settings().target)
        .into_iter()
        .map(|d| item(d.name.to_string(), format!("{} bit", d.bits), d.about, Choice::Dtype(d.name.clone())))
        .collect();
    open(app, "Dtype", items, |app, id, said| match recipe_of(app, id) {
        // What a mixture gives a tensor is a dtype of another name than the mixture's.
        Some(recipe) if recipe.family == Family::Gguf => Some(Choice::Dtype(recipe.dtype.clone())),
        // What is kept has none of these.
        None if is_kept(app, id) => None,
        _ => said.dtype.map(Choice::Dtype),
    });
}

/// `D`
pub fn pick_default(app: &mut App) {
    let family = app.session.settings().target;
    let all = app.backend.defaults(family).into_iter();
    // Of a mixture the bits depend on the model.
    let mixtures = family == Family::Gguf;
    let bits = |d: &DtypeChoice| if mixtures { String::new() } else { format!("{} bit", d.bits) };
    let items = all.map(|d| item(d.name.to_string(), bits(&d), d.about, Choice::Default(d.name.clone()))).collect();
    let title = if mixtures { "Mixture" } else { "Default dtype" };
    let settings = app.session.settings();
    let current = settings
        .defaults
        .dtype
        .clone()
        .or_else(|| app.backend.settings_for(Form::of(settings), settings).defaults.dtype);
    let whose = crate::core::name::clean(&app.session.model.title).into_owned();
    app.overlays.push(Overlay::Picker(Picker::new(title, whose, items, current.map(Choice::Default))));
}

/// `s`
pub fn pick_group_size(app: &mut App) {
    let words = [
        (group_size::AUTO, "what the target finds best"),
        (group_size::ROW, "one scale a row"),
        (group_size::TENSOR, "one scale for all"),
    ];
    let items = words
        .into_iter()
        .chain([16, 32, 64, 128, 256, 512].map(|n| (n, "")))
        .map(|(n, about)| item(group_size::name(n), String::new(), about, Choice::GroupSize(n)))
        .collect();
    open(app, "Group size", items, |_, _, said| Some(Choice::GroupSize(said.group_size.unwrap_or(group_size::AUTO))));
}

/// `r`
pub fn pick_rank(app: &mut App) {
    // Where a file has one rank for all, its kernels have tiles of 16, and at least one.
    let rank = |n: u32| Patch { svd_rank: Some(n), ..Patch::default() };
    let least = if app.backend.is_for_all(app.session.settings().target, &rank(0)) { 16 } else { 0 };
    let items = [0, 4, 8, 16, 32, 64, 128, 256]
        .into_iter()
        .filter(|n| *n >= least)
        .map(|n: u32| {
            item(n.to_string(), String::new(), if n == 0 { "no low-rank branch" } else { "" }, Choice::SvdRank(n))
        })
        .collect();
    open(app, "SVD rank", items, |app, id, said| {
        Some(Choice::SvdRank(said.svd_rank.or_else(|| Some(recipe_of(app, id)?.svd_rank)).unwrap_or(0)))
    });
}

/// `H`
pub fn pick_hadamard(app: &mut App) {
    let items = [0, 16, 32, 64, 128, 256, 512, 1024]
        .into_iter()
        .map(|n: u32| {
            let about = match n {
                0 => "no rotation",
                hadamard::DEFAULT => "the usual",
                _ => "",
            };
            item(n.to_string(), String::new(), about, Choice::Hadamard(n))
        })
        .collect();
    open(app, "Hadamard rotation", items, |_, _, said| Some(Choice::Hadamard(said.hadamard.unwrap_or(0))));
}

/// `Z`: every state since the beginning.
pub fn pick_state(app: &mut App) {
    let history = app.session.history();
    let saved = |n: usize| if history.saved_at() == Some(n) { "saved" } else { "" };
    let begin = item("the beginning".into(), String::new(), saved(0), Choice::State(0));
    let states = history
        .titles()
        .enumerate()
        .map(|(i, title)| item(title.to_owned(), format!("{}", i + 1), saved(i + 1), Choice::State(i + 1)));
    let items = std::iter::once(begin).chain(states).collect();
    let current = Some(Choice::State(history.at()));
    let whose = crate::core::name::clean(&app.session.model.title).into_owned();
    app.overlays.push(Overlay::Picker(Picker::new("History", whose, items, current)));
}

/// Takes changes back, or makes them again, until so many hold.
fn go_to_state(app: &mut App, n: usize, fx: &mut Vec<Effect>) {
    while app.session.history().at() > n && app.session.undo().is_some() {}
    while app.session.history().at() < n && app.session.redo().is_some() {}
    let then = move |app: &mut App, planned: Result<()>, _: &mut Vec<Effect>| match planned {
        Ok(()) => {
            let title = n.checked_sub(1).and_then(|i| app.session.history().titles().nth(i).map(str::to_owned));
            app.say(title.map_or("back at the beginning".to_owned(), |t| format!("as after: {t}")));
        }
        Err(e) => app.complain(e.to_string()),
    };
    aside::replan(app, then, fx);
}

fn about(form: Form) -> &'static str {
    match form.family {
        _ if form.lite => "the same of any diffusers model, a folder",
        Family::Float => "plain floats; undoes quantization",
        Family::Sdnq => "diffusers, transformers, SD.Next",
        Family::Gguf => "llama.cpp and what is built on it",
        Family::Comfy => "ComfyUI, in one file",
        Family::Nunchaku => "Nunchaku's kernels: 4-bit weights and activations",
    }
}

/// `T`
pub fn pick_target(app: &mut App) {
    let items = Form::all().map(|form| item(form.name(), String::new(), about(form), Choice::Target(form))).collect();
    let current = Some(Choice::Target(Form::of(app.session.settings())));
    let whose = crate::core::name::clean(&app.session.model.title).into_owned();
    app.overlays.push(Overlay::Picker(Picker::new("Target", whose, items, current)));
}
