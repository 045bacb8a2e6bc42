//! The what-if table: when it is made, and what taking a line of it does.
use std::sync::{Arc, Weak};

use super::recipe;
use super::trials::rest_soon;
use crate::core::tree::NodeId;
use crate::core::{Patch, Row, TensorId};
use crate::tui::app::{App, Focus};
use crate::tui::aside::{self, Landing, Meanwhile};
use crate::tui::backend::Planner;
use crate::tui::board::Board;
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

/// What the table is about, without going through it: while this is the same, so is that.
#[derive(Clone, Debug)]
pub struct Stamp {
    board: Weak<Board>,
    focus: Focus,
    node: Option<NodeId>,
    marks: u64,
    filter: String,
}

impl Stamp {
    fn of(app: &App) -> Self {
        Self {
            board: Arc::downgrade(&app.board),
            focus: app.focus,
            node: app.node(),
            marks: app.session.marks.stamp(),
            filter: app.filter.clone(),
        }
    }
    fn holds(&self, app: &App) -> bool {
        std::ptr::eq(self.board.as_ptr(), Arc::as_ptr(&app.board))
            && (self.focus, self.node, self.marks) == (app.focus, app.node(), app.session.marks.stamp())
            && self.filter == app.filter
    }
}

/// Makes the table anew where it is about something else by now, or was made for another plan. Of a large model it comes
/// later: keys that are meant for it wait, and nothing else does.
pub fn refresh(app: &mut App, fx: &mut Vec<Effect>) {
    if app.what_if_of.as_ref().is_some_and(|stamp| stamp.holds(app)) {
        return;
    }
    let same_plan = app.what_if_of.as_ref().is_some_and(|s| std::ptr::eq(s.board.as_ptr(), Arc::as_ptr(&app.board)));
    let stamp = Stamp::of(app);
    let ids = subject(app);
    if ids == app.what_if.ids && same_plan {
        app.what_if_of = Some(stamp);
        return;
    }
    let now: Vec<Row> = match ids.len() {
        1..=MOST => ids.iter().filter_map(|id| app.board.row(*id)).cloned().collect(),
        _ => Vec::new(),
    };
    if ids.len() > MOST {
        app.say(format!("no what-if table of {}: mark at most {MOST}", tensors(ids.len())));
    }
    if now.len() < ids.len() || ids.is_empty() {
        app.what_if_of = Some(stamp);
        return put(app, WhatIf::new(ids, &[], Vec::new()), fx);
    }
    let later = app.aside.apart && app.focus == Focus::Tree;
    app.what_if_of = None;
    if later && app.aside.is_looking() {
        // What that is about is no longer looked at; when it is done this is called again.
        return;
    }
    // What stood there for the same tensors stands until then.
    if later && ids != app.what_if.ids {
        put(app, WhatIf::new(ids.clone(), &[], Vec::new()), fx);
    }
    let settings = Arc::clone(&app.settings);
    let work = move |planner: &dyn Planner| -> Landing {
        let made = planner.alternatives(&settings, &ids, &now[0].action);
        let made = made.map(|all| WhatIf::new(ids.clone(), &now.iter().collect::<Vec<_>>(), all));
        Box::new(move |app, fx| {
            if !stamp.holds(app) {
                return rest_soon(app);
            }
            app.what_if_of = Some(stamp);
            let table = made.unwrap_or_else(|why| {
                app.complain(why.to_string());
                WhatIf::new(ids, &[], Vec::new())
            });
            put(app, table, fx);
        })
    };
    match later {
        true => aside::look(app, work, fx),
        false => aside::run(app, Meanwhile::Wait, work, fx),
    }
}

/// Shows a table, and has what it lacks measured.
fn put(app: &mut App, mut table: WhatIf, fx: &mut Vec<Effect>) {
    table.refresh(&app.losses);
    let before = std::mem::take(&mut app.what_if);
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
    // Its keys stand there.
    app.note = None;
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
    recipe::lay(app, &word, ids, &patch, None, fx);
}
