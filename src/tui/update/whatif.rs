//! The what-if table: when it is made, and what taking a line of it does.
use super::recipe;
use crate::core::{Patch, Row, TensorId};
use crate::tui::app::{App, Focus};
use crate::tui::msg::Effect;
use crate::tui::text::tensors;
use crate::tui::whatif::WhatIf;

/// Of more tensors than this no table is made: every line would take a plan of its own.
const MOST: usize = 4096;

/// What the table is about: of one tensor it is made as the cursor rests, of several only for who looks at it.
fn subject(app: &App) -> Vec<TensorId> {
    match (app.focus, app.tensor()) {
        (Focus::Inspector, _) => recipe::reach(app).0,
        (Focus::Tree, Some(id)) if app.session.marks.is_empty() => vec![id],
        _ => Vec::new(),
    }
}

/// Whether the table is about what is acted on, or may be made once the cursor rests.
pub fn is_current(app: &App) -> bool {
    match (app.tensor(), app.session.marks.is_empty()) {
        (Some(id), true) => app.what_if.ids == [id],
        _ => app.what_if.ids.is_empty(),
    }
}

/// Makes the table anew where it is about something else by now, or was made for another plan.
pub fn refresh(app: &mut App, fx: &mut Vec<Effect>) {
    let ids = subject(app);
    if ids == app.what_if.ids && std::ptr::eq(std::sync::Arc::as_ptr(&app.board), app.what_if_of.as_ptr()) {
        return;
    }
    let before = std::mem::take(&mut app.what_if);
    app.what_if_of = std::sync::Arc::downgrade(&app.board);
    // An empty table is one too: it is not made again and again.
    let now: Vec<&Row> = ids.iter().filter_map(|id| app.board.row(*id)).collect();
    let whole = now.len() == ids.len() && (1..=MOST).contains(&ids.len());
    let made = match whole.then(|| app.planner.alternatives(app.session.settings(), &ids)) {
        Some(Ok(alternatives)) => Ok(WhatIf::new(ids.clone(), &now, alternatives)),
        Some(Err(e)) => Err(e.to_string()),
        None => Ok(WhatIf::new(ids.clone(), &[], Vec::new())),
    };
    if ids.len() > MOST {
        app.say(format!("no what-if table of {}: mark at most {MOST}", tensors(ids.len())));
    }
    let mut table = made.unwrap_or_else(|why| {
        app.complain(why);
        WhatIf::new(ids, &[], Vec::new())
    });
    table.refresh(&app.losses);
    if before.ids == table.ids {
        table.show_all(before.all);
        table.above = before.above;
    }
    fx.push(Effect::WhatIf(table.wanted(&app.losses)));
    app.what_if = table;
}

/// `W`: to the table, wherever it is.
pub fn open(app: &mut App, fx: &mut Vec<Effect>) {
    if !app.inspector_shown() {
        super::moves::toggle_inspector(app);
    }
    app.focus = Focus::Inspector;
    refresh(app, fx);
    app.what_if.above = false;
}

/// Enter: takes the line under the cursor.
pub fn take(app: &mut App, fx: &mut Vec<Effect>) {
    let Some(line) = app.what_if.line() else { return };
    if line.now {
        return app.say("that is what holds now");
    }
    let (word, mut patch, ids) = (line.label.clone(), line.patch.clone(), app.what_if.ids.clone());
    // To include what is included already need not be said.
    let kept = ids.iter().any(|id| app.board.row(*id).is_none_or(|r| r.excluded));
    if patch.keep == Some(false) && !kept {
        patch.keep = None;
    }
    if recipe::is_for_all(app, &patch) {
        let included = Patch { keep: Some(false), ..Patch::default() };
        let include = kept.then(|| app.session.patch(ids.iter().copied(), &included));
        return recipe::for_all(app, &word, &patch, include, fx);
    }
    recipe::lay(app, &word, ids, &patch, String::new(), fx);
}
