//! The order of the rows: the tree, or a list by some figure; and the way from one bad tensor to the next.
use crate::core::TensorId;
use crate::tui::app::{App, Focus};
use crate::tui::losses::Known;
use crate::tui::text::tensors;

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// It is a tree.
    #[default]
    Tree,
    /// Names, in natural order.
    Name,
    /// Bytes in the output.
    Size,
    /// Relative error.
    Error,
    /// Estimated damage.
    Damage,
    /// Estimated damage for each byte.
    Gain,
}

impl Sort {
    /// After "by".
    pub fn word(self) -> &'static str {
        match self {
            Self::Tree => "group",
            Self::Name => "name",
            Self::Size => "size",
            Self::Error => "error",
            Self::Damage => "damage, estimated",
            Self::Gain => "damage per byte, estimated",
        }
    }
}

/// The figure of a tensor that a list is ordered by; `None` where it is not known.
fn figure(app: &App, sort: Sort, id: TensorId) -> Option<f64> {
    let i = id.index();
    let row = app.board.row(id)?;
    match sort {
        Sort::Tree | Sort::Name => None,
        Sort::Size => Some(row.bytes_after() as f64),
        Sort::Error => match app.losses.of_row(app.board.index(id)?)? {
            Known::Loss(loss, _) => Some(loss.relative_error),
            Known::Failed(_) => None,
        },
        Sort::Damage => app.losses.damage(&(i..i + 1)).map(|(damage, _)| damage),
        Sort::Gain => app.losses.damage(&(i..i + 1)).map(|(damage, _)| damage / row.bytes_after().max(1) as f64),
    }
}

/// Tensors by a figure, the largest first, those without one last.
pub fn order(app: &App, sort: Sort) -> Vec<TensorId> {
    let mut all: Vec<(Option<f64>, TensorId)> = app.session.model.ids().map(|id| (figure(app, sort, id), id)).collect();
    let key = |f: Option<f64>| f.unwrap_or(f64::NEG_INFINITY);
    all.sort_by(|a, b| key(b.0).total_cmp(&key(a.0)).then(a.1.cmp(&b.1)));
    all.into_iter().map(|(_, id)| id).collect()
}

/// Shows a list in that order, or the tree. The order stands until it is asked for again: nothing jumps as figures arrive.
pub fn arrange(app: &mut App, sort: Sort) {
    let ids = (sort != Sort::Tree).then(|| order(app, sort));
    app.sort = sort;
    if matches!(sort, Sort::Tree | Sort::Name) {
        let node = app.node();
        super::moves::keeping(app, |app| {
            app.tree.arrange(ids.as_deref());
            if let Some(node) = node.filter(|_| sort == Sort::Tree) {
                app.tree.reveal(node);
            }
        });
        return;
    }
    app.tree.arrange(ids.as_deref());
    app.cursor = 0;
    app.screen.offset = 0;
    let measured = app.losses.sums(&(0..app.session.model.tensors.len())).measured;
    if u64::from(measured) < app.board.totals.quantized && sort != Sort::Size {
        let key = app.keymap.keys_of(crate::tui::action::Action::TrialShown).unwrap_or_default();
        app.say(format!("{measured} of {} measured; {key} measures the rest", app.board.totals.quantized));
    }
}

/// `` ` ``: the tree or a list of everything.
pub fn toggle(app: &mut App) {
    let sort = if app.tree.is_list() { Sort::Tree } else { Sort::Name };
    arrange(app, sort);
}

/// `] e`, `[ e`: the next tensor by estimated damage, down or up from where the last such step led; from elsewhere the worst.
/// One whose recipe was changed since leaves its place to the one after it.
pub fn next_worst(app: &mut App, down: bool) {
    let known = |id: &TensorId| figure(app, Sort::Damage, *id).is_some_and(|d| d > 0.0) && app.tree.shows(*id);
    let list: Vec<TensorId> = order(app, Sort::Damage).into_iter().filter(known).collect();
    let to = match app.worst_at.as_ref().filter(|(id, ..)| app.tensor() == Some(*id)) {
        None => Some(0),
        Some((id, before, action)) => {
            let at = list.iter().position(|i| i == id);
            let before = (*before).min(list.len());
            match at.filter(|_| app.board.row(*id).is_some_and(|r| r.action == *action)) {
                Some(at) if down => Some(at + 1),
                Some(at) => at.checked_sub(1),
                None if down => Some(before + usize::from(at == Some(before))),
                None => before.checked_sub(1),
            }
        }
    };
    match to.and_then(|at| Some((at, *list.get(at)?))) {
        Some((at, id)) => {
            go_to(app, id);
            app.worst_at = app.board.row(id).map(|row| (id, at, row.action.clone()));
            let key = app.keymap.command(crate::tui::action::Action::Back);
            // Other things are gone back from first.
            let next = app.range.is_none() && app.filter.is_empty() && app.focus == Focus::Tree;
            let unmarks = if next { format!(": {key} unmarks") } else { String::new() };
            let marks = match app.session.marks.len() {
                0 => String::new(),
                n => format!(" · keys act on the {} marked{unmarks}", tensors(n)),
            };
            app.say(format!("number {} of {} by estimated damage{marks}", at + 1, list.len()));
        }
        None if list.is_empty() => {
            let key = app.keymap.keys_of(crate::tui::action::Action::TrialShown).unwrap_or_default();
            app.complain(format!("nothing is measured yet: {key} measures what is shown"));
        }
        None => app.say(if down { "that is the least of them" } else { "that is the worst of them" }),
    }
}

/// Moves the cursor to a tensor, opening the groups above it.
pub fn go_to(app: &mut App, id: TensorId) {
    let Some(leaf) = app.tree.leaf_of(id) else { return };
    if !app.tree.is_list() && app.tree.row_of(leaf).is_none() {
        app.tree.reveal(leaf);
    }
    if let Some(row) = app.tree.row_of(leaf) {
        app.cursor = row;
    }
}
