//! The mouse: a click selects, a click on what is selected opens it, the wheel scrolls.
use super::{moves, popup, whatif};
use crate::tui::app::App;
use crate::tui::msg::Effect;

fn inside(x: u16, y: u16, (left, top, width, height): (u16, u16, u16, u16)) -> Option<usize> {
    (x >= left && x < left.saturating_add(width) && y >= top && y < top.saturating_add(height))
        .then(|| usize::from(y - top))
}

/// A press.
pub fn click(app: &mut App, x: u16, y: u16, fx: &mut Vec<Effect>) {
    if let (Some(cells), Some(crate::tui::overlay::Overlay::Map(map))) = (app.screen.cells, app.overlays.last_mut()) {
        if let Some(row) = inside(x, y, cells.place) {
            let at = (cells.first.0 + row, cells.first.1 + usize::from((x - cells.place.0) / cells.each.max(1)));
            if map.kinds.get(at.0).is_some_and(|k| at.1 < k.cells.len()) {
                if at == map.at {
                    return super::pages::map_key(app, crate::tui::key::Key::named(crate::tui::key::Named::Enter));
                }
                map.at = at;
            }
        }
        return;
    }
    if !app.overlays.is_empty() {
        if let Some((l, t, w, h, first)) = app.screen.list
            && let Some(row) = inside(x, y, (l, t, w, h))
        {
            popup::choose(app, first + row, fx);
        }
        return;
    }
    let edge = app.screen.size.0.saturating_sub(app.side());
    let heads = app.screen.tree.1.saturating_sub(2);
    if app.two_panes() && app.beside && (x == edge || x + 1 == edge) && y >= heads {
        app.dragging = true;
        return;
    }
    if let Some((l, t, w, h, first)) = app.screen.choices
        && let Some(row) = inside(x, y, (l, t, w, h))
    {
        let there = app.focus == crate::tui::app::Focus::Inspector;
        app.focus = crate::tui::app::Focus::Inspector;
        if there && app.what_if.at == first + row {
            whatif::take(app, fx);
        } else {
            app.what_if.at = first + row;
            app.what_if.above = false;
        }
        return;
    }
    if let Some(row) = inside(x, y, app.screen.tree) {
        let row = app.screen.offset + row;
        if row >= app.tree.visible().len() {
            return;
        }
        app.focus = crate::tui::app::Focus::Tree;
        if row == app.cursor {
            moves::enter(app);
        } else {
            app.cursor = row;
        }
    }
}

/// The edge between the panes goes where the mouse goes.
pub fn drag(app: &mut App, x: u16) {
    if app.dragging {
        app.side = Some(app.screen.size.0.saturating_sub(x));
    }
}

/// A turn of the wheel.
pub fn wheel(app: &mut App, x: u16, y: u16, notches: i32) {
    let step = |at: usize, last: usize| {
        let by = notches.unsigned_abs() as usize * 3;
        if notches < 0 { at.saturating_sub(by) } else { at.saturating_add(by).min(last) }
    };
    if let Some(overlay) = app.overlays.last_mut() {
        popup::scroll(overlay, &app.keymap, notches);
    } else if inside(x, y, app.screen.tree).is_some() {
        app.cursor = step(app.cursor, app.tree.visible().len().saturating_sub(1));
    } else if app.focus == crate::tui::app::Focus::Inspector && !app.what_if.is_empty() {
        let to = step(app.what_if.at, app.what_if.shown().count().saturating_sub(1));
        app.what_if.above = app.what_if.at == 0 && to == 0;
        app.what_if.at = to;
    } else if app.inspector_shown() {
        app.scroll = step(app.scroll, app.screen.inspector.1);
    }
}
