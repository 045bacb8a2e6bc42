//! When trials are asked for, and what becomes of their answers.
use std::time::Duration;

use crate::core::TensorId;
use crate::core::plan::Action;
use crate::tui::app::{App, LOOKED_AT};
use crate::tui::backend::{Answer, Outcome, Priority};
use crate::tui::facts;
use crate::tui::losses::{Known, Quality};
use crate::tui::msg::Effect;
use crate::tui::text::tensors;

/// How long the cursor stays at a tensor before its loss is wanted.
const REST: Duration = Duration::from_millis(80);
/// How the message begins while trials run.
const MEASURING: &str = "measuring ";

/// The tensor under the cursor and what is to become of it.
pub fn under_cursor(app: &App) -> Option<(TensorId, Action)> {
    Some((app.tensor()?, app.row()?.action.clone()))
}

/// The cursor has come to something new.
pub fn rest_soon(app: &mut App) {
    app.rest_at = app.node().map(|_| app.now + REST);
}

/// Asks for the trial of the tensor where the cursor rests.
pub fn rest(app: &mut App, fx: &mut Vec<Effect>) {
    if app.rest_at.is_none_or(|t| t > app.now) || app.aside.is_busy() {
        return;
    }
    app.rest_at = None;
    super::whatif::refresh(app, fx);
    look_at_group(app);
    let Some(id) = app.tensor() else { return };
    let Some(row) = app.board.row(id) else { return };
    let failed = matches!(app.board.index(id).and_then(|i| app.losses.of_row(i)), Some(Known::Failed(_)));
    let seen = app.losses.measure(app.board.plan.family, &row.name, &row.action).is_some();
    if !failed && (!seen || !is_exact(app, id)) {
        ask(app, id, Priority::Cursor, fx);
    }
}

/// Looks at a large group, where the cursor rests at one.
fn look_at_group(app: &mut App) {
    let large = |node: &crate::core::tree::NodeId| app.tree.range(*node).len() > LOOKED_AT;
    app.facts = app.node().filter(large).map(|node| facts::of(app, node));
}

/// Whether all that is measured with a tensor is known exactly; of what is fused, the first of its tensors answers.
fn is_exact(app: &App, id: TensorId) -> bool {
    let exact = |i| matches!(app.losses.of_row(i), Some(Known::Loss(_, quality)) if *quality >= Quality::Exact);
    let mut own = app.board.measured_with(id).filter(|i| app.board.plan.rows[*i].is_lossy()).peekable();
    match own.peek() {
        Some(_) => own.all(exact),
        None => app.board.index(id).is_some_and(exact),
    }
}

/// Asks for a tensor's trial, unless the same is asked already or there is nothing to measure.
fn ask(app: &mut App, id: TensorId, priority: Priority, fx: &mut Vec<Effect>) -> bool {
    let mut rows: Vec<usize> = app.board.measured_with(id).collect();
    if rows.is_empty() {
        rows.extend(app.board.index(id));
    }
    let mut asked = false;
    for row in rows.into_iter().filter_map(|i| app.board.plan.rows.get(i)).filter(|row| row.is_lossy()) {
        if app.asked.get(&row.name) == Some(&row.action) && priority != Priority::Cursor {
            continue;
        }
        app.asked.insert(row.name.clone(), row.action.clone());
        fx.push(Effect::Request(Box::new(row.clone()), priority));
        asked = true;
    }
    asked
}

/// Asks for those that are not known exactly; how many there were to ask for.
pub fn ask_all(
    app: &mut App,
    ids: &[TensorId],
    priority: impl Fn(TensorId) -> Priority,
    fx: &mut Vec<Effect>,
) -> usize {
    let mut asked = 0;
    // All at once would hold up the keys of a large model's desk.
    let (ids, later) = ids.split_at(ids.len().min(AT_ONCE));
    if !later.is_empty() {
        let lossy = |id: &TensorId| app.board.row(*id).is_some_and(|r| r.is_lossy());
        app.waiting = later.iter().copied().filter(lossy).collect();
        asked = app.waiting.len();
    }
    for id in ids {
        // Of what is fused from several tensors, one asks.
        if app.board.measured_with(*id).next().is_none() || is_exact(app, *id) {
            continue;
        }
        asked += usize::from(ask(app, *id, priority(*id), fx));
    }
    asked
}

/// So many trials are asked for at a time.
const AT_ONCE: usize = 4096;

/// Asks for more of those that wait, where there is room.
fn feed(app: &mut App, fx: &mut Vec<Effect>) {
    while app.asked.len() < AT_ONCE / 2
        && let Some(id) = app.waiting.pop_front()
    {
        if !is_exact(app, id) && app.board.measured_with(id).next().is_some() {
            ask(app, id, Priority::Rest, fx);
        }
    }
}

/// A model of at most this many bytes is measured as it is opened; a larger one is not read from end to end unasked.
const SMALL: u64 = 512 << 20;

/// On opening: a small model's losses, so that the figure a person came for is there at once.
pub fn opening(app: &mut App, fx: &mut Vec<Effect>) {
    let bytes: u64 = app.board.plan.rows.iter().filter(|r| r.is_lossy()).map(|r| r.bytes_before).sum();
    if bytes <= SMALL {
        let ids = app.shown();
        ask_all(app, &ids, |_| Priority::Rest, fx);
    }
}

/// `a`: the marks, or what is under the cursor.
pub fn targets(app: &mut App, fx: &mut Vec<Effect>) {
    let ids = app.targets();
    let asked = ask_all(app, &ids, |_| Priority::Marked, fx);
    say(app, &ids, asked);
}

/// `A`: everything that is shown, what is on the screen first.
pub fn shown(app: &mut App, fx: &mut Vec<Effect>) {
    let ids = app.shown();
    let first = app.screen.offset;
    let on_screen: std::collections::HashSet<TensorId> =
        app.tree.visible().iter().skip(first).take(app.screen.page).filter_map(|n| app.tree.tensor(*n)).collect();
    let asked = ask_all(app, &ids, |id| if on_screen.contains(&id) { Priority::Visible } else { Priority::Rest }, fx);
    say(app, &ids, asked);
}

fn say(app: &mut App, ids: &[TensorId], asked: usize) {
    let lossy = ids.iter().filter(|id| app.board.row(**id).is_some_and(|r| r.is_lossy())).count();
    match (lossy, asked) {
        (0, _) => app.say(format!(
            "nothing to measure: {} kept as {}",
            tensors(ids.len()),
            if ids.len() == 1 { "it is" } else { "they are" }
        )),
        (n, 0) => app.say(format!("{} measured already, or being measured", tensors(n))),
        (_, n) => app.say(format!("{MEASURING}{}", tensors(n))),
    }
}

/// Takes answers.
pub fn answers(app: &mut App, answers: Vec<Answer>, fx: &mut Vec<Effect>) {
    let (mut news, mut tried) = (false, false);
    for answer in answers {
        tried |= answer.what_if;
        let last = !answer.what_if && !matches!(answer.outcome, Outcome::Sampled(_));
        if last && app.asked.get(&answer.name) == Some(&answer.action) {
            app.asked.remove(&answer.name);
        }
        news |= app.losses.answer(&app.board, answer);
    }
    feed(app, fx);
    if news && app.asked.is_empty() {
        look_at_group(app);
    }
    // What has come to an end is no longer said to be under way.
    if app.asked.is_empty() && app.note.as_ref().is_some_and(|n| n.text.starts_with(MEASURING)) {
        app.note = None;
    }
    if tried || news {
        app.what_if.refresh(&app.losses);
    }
    if news {
        app.losses.sum_up(&app.board, app.session.model.tensors.len());
        super::pages::refresh_map(app);
    }
}
