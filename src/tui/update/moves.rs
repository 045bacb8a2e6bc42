//! Moving about in the tree and between the panes.
use crate::core::tree::NodeId;
use crate::tui::action::Action;
use crate::tui::app::{App, Focus};

/// Moves the cursor, or the inspector's text where that has the focus.
pub fn go(app: &mut App, action: Action) {
    let page = app.screen.page.max(1);
    let choices = app.what_if.shown().count();
    let (at, last) = match app.focus {
        Focus::Tree => (app.cursor, app.tree.visible().len().saturating_sub(1)),
        Focus::Inspector if choices > 0 => (app.what_if.at, choices - 1),
        Focus::Inspector => (app.scroll, app.screen.inspector.1),
    };
    let to = match action {
        Action::Down => at.saturating_add(1),
        Action::Up => at.saturating_sub(1),
        Action::HalfDown => at.saturating_add(page.div_ceil(2)),
        Action::HalfUp => at.saturating_sub(page.div_ceil(2)),
        Action::PageDown => at.saturating_add(page),
        Action::PageUp => at.saturating_sub(page),
        Action::Top => 0,
        Action::Bottom => last,
        _ => at,
    }
    .min(last);
    match app.focus {
        Focus::Tree => app.cursor = to,
        Focus::Inspector if choices > 0 => {
            app.what_if.above = at == 0 && to == 0;
            app.what_if.at = to;
        }
        Focus::Inspector => app.scroll = to,
    }
}

/// Changes the tree and keeps the cursor at its node, or at the nearest one that is still shown.
pub fn keeping(app: &mut App, change: impl FnOnce(&mut App)) {
    let node = app.node();
    change(app);
    if let Some(node) = node {
        app.cursor = app.tree.row_near(node);
    }
    app.cursor = app.cursor.min(app.tree.visible().len().saturating_sub(1));
}

/// Opens the group under the cursor, or steps into it.
pub fn open(app: &mut App) {
    let Some(node) = app.node() else { return };
    if app.tree.tensor(node).is_some() {
        return;
    }
    if app.tree.is_open(node) {
        app.cursor = (app.cursor + 1).min(app.tree.visible().len().saturating_sub(1));
    } else {
        keeping(app, |app| app.tree.set_open(node, true));
    }
}

/// Opens or closes the group under the cursor; on a tensor, goes to the inspector.
pub fn enter(app: &mut App) {
    let Some(node) = app.node() else { return };
    if app.tree.tensor(node).is_none() {
        let open = !app.tree.is_open(node);
        keeping(app, |app| app.tree.set_open(node, open));
    } else {
        if !app.inspector_shown() {
            toggle_inspector(app);
        }
        app.focus = Focus::Inspector;
        app.what_if.above = true;
    }
}

/// Closes the group under the cursor, or goes to the one above.
pub fn close(app: &mut App) {
    let Some(node) = app.node() else { return };
    if app.tree.tensor(node).is_none() && app.tree.is_open(node) && !app.tree.filtered() {
        keeping(app, |app| app.tree.set_open(node, false));
    } else if let Some(parent) = app.tree.parent(node) {
        app.cursor = app.tree.row_near(parent);
    }
}

/// Opens or closes everything at or below a node, or everything.
pub fn fold(app: &mut App, below: Option<NodeId>, open: bool) {
    keeping(app, |app| app.tree.set_all_open(below, open));
}

/// Shows or hides the inspector: beside the tree where there is room, else over it.
pub fn toggle_inspector(app: &mut App) {
    if app.two_panes() {
        app.beside = !app.beside;
    } else {
        app.over = !app.over;
    }
    app.scroll = 0;
    if !app.inspector_shown() {
        app.focus = Focus::Tree;
    }
}
