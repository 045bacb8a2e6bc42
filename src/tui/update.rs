//! What happens to the desk: `update` takes a message, changes the state, and says what is to be done outside.
//!
//! Short queries of the backend are made here, long ones aside; whatever acts on the outside is an [`Effect`].
mod arrange;
mod mouse;
mod moves;
mod pages;
mod pick;
pub(crate) mod popup;
mod recipe;
pub(crate) mod rules;
pub(crate) mod select;
mod trials;
mod whatif;
mod work;

pub use arrange::Sort;
pub use select::Range;
pub use whatif::Stamp;
pub use work::perform;

use super::action::{self, Action};
use super::app::{App, Focus, Level};
use super::aside;
use super::key::{Code, Key, Named};
use super::keymap::Found;
use super::msg::{Effect, Msg};
use super::overlay::{Asked, Line, List, Overlay};
use super::whatif::WhatIf;

/// Takes a message.
pub fn update(app: &mut App, msg: Msg) -> Vec<Effect> {
    let mut fx = Vec::new();
    if app.aside.is_busy() && waits(app, &msg) {
        app.aside.hold(msg);
        return fx;
    }
    let (under, node) = (trials::under_cursor(app), app.node());
    match msg {
        Msg::Opened => opened(app, &mut fx),
        Msg::Key(k) => key(app, k, &mut fx),
        Msg::Paste(text) => popup::paste(app, &text),
        Msg::Click(x, y) => mouse::click(app, x, y, &mut fx),
        Msg::Drag(x, _) => mouse::drag(app, x),
        Msg::Release => app.dragging = false,
        Msg::Wheel(x, y, notches) => mouse::wheel(app, x, y, notches),
        Msg::Resize(w, h) => {
            app.screen.size = (w, h);
            // What has the focus is seen at every size.
            if app.focus == Focus::Inspector && !app.inspector_shown() {
                moves::toggle_inspector(app);
                app.focus = Focus::Inspector;
            }
        }
        Msg::Tick(now) => {
            app.now = now;
            if app.note.as_ref().and_then(|n| n.until).is_some_and(|t| t <= now) {
                app.note = None;
            }
            work::look_at_jobs(app);
            aside::land(app, &mut fx);
            trials::rest(app, &mut fx);
        }
        Msg::Answers(answers) => trials::answers(app, answers, &mut fx),
        Msg::Started(started) => work::started(app, started),
        Msg::Saved(saved) => work::saved(app, saved),
    }
    if trials::under_cursor(app) != under || app.node() != node {
        app.scroll = 0;
        trials::rest_soon(app);
    }
    if app.node() != node {
        select::grow(app);
    }
    // What is no longer looked at is no longer measured; what is acted on in the inspector is at once.
    if app.aside.is_busy() {
        // It is about what will hold when that is done.
    } else if app.focus == Focus::Inspector {
        whatif::refresh(app, &mut fx);
    } else if !whatif::is_current(app) {
        if !app.what_if.ids.is_empty() {
            app.what_if = WhatIf::default();
            app.what_if_of = None;
            fx.push(Effect::WhatIf(Vec::new()));
        }
        if app.rest_at.is_none() && app.node() == node {
            trials::rest_soon(app);
        }
    }
    fx
}

/// The desk has just been opened.
fn opened(app: &mut App, fx: &mut Vec<Effect>) {
    if app.is_planned() {
        return trials::opening(app, fx);
    }
    let then = |app: &mut App, planned: crate::core::Result<()>, fx: &mut Vec<Effect>| match planned {
        Ok(()) => trials::opening(app, fx),
        Err(e) => {
            app.aside.forget();
            app.failed = Some(e);
        }
    };
    aside::replan(app, then, fx);
}

/// Whether a message waits until the work beside the desk is done: whatever is more than a look around.
fn waits(app: &App, msg: &Msg) -> bool {
    match msg {
        Msg::Key(key) => !app.aside.lets_look_around() || !looks_around(app, *key),
        Msg::Wheel(..) => !app.aside.lets_look_around(),
        // They belong to a click that may wait.
        Msg::Drag(..) | Msg::Release => app.aside.holds(),
        Msg::Paste(_) | Msg::Click(..) => true,
        _ => false,
    }
}

/// Whether a key only moves about.
fn looks_around(app: &App, key: Key) -> bool {
    if let Some(top) = app.overlays.last() {
        return matches!(top, Overlay::Rules(page) if page.moved(key).is_some());
    }
    let keys: Vec<Key> = app.chord.iter().copied().chain([key]).collect();
    match app.keymap.find(&keys) {
        Found::Prefix | Found::Nothing => true,
        // The what-if table is made anew with the plan.
        Found::Action(_) if app.focus == Focus::Inspector => false,
        Found::Action(action) => action == Action::Enter || action.looks_around(),
    }
}

fn key(app: &mut App, key: Key, fx: &mut Vec<Effect>) {
    if app.panic_key && key.code == Code::F(12) {
        panic!("asked for by MIXDOWN_TEST_PANIC=ui");
    }
    if app.note.as_ref().is_some_and(|n| n.level == Level::Error) {
        app.note = None;
    }
    if key == Key::ctrl('c') {
        app.chord.clear();
        return work::stop(app, fx);
    }
    let types = !app.overlays.is_empty() && key.text().is_some();
    if !types && app.chord.is_empty() && app.keymap.find(&[key]) == Found::Action(Action::Suspend) {
        return fx.push(Effect::Suspend);
    }
    if !app.overlays.is_empty() {
        return popup::key(app, key, fx);
    }
    if !app.chord.is_empty() && key.is(Named::Esc) {
        return app.chord.clear();
    }
    app.chord.push(key);
    match app.keymap.find(&app.chord) {
        Found::Prefix => {}
        Found::Nothing => app.chord.clear(),
        Found::Action(action) => {
            app.chord.clear();
            run(app, action, fx);
        }
    }
}

/// Carries out an action, or says why it means nothing now.
pub fn run(app: &mut App, action: Action, fx: &mut Vec<Effect>) {
    if let Err(why) = action::when(action, app) {
        let key = app.keymap.keys_of(action).unwrap_or_else(|| action.spec().name.into());
        return app.complain(format!("{key}: {why}"));
    }
    match action {
        Action::Down
        | Action::Up
        | Action::HalfDown
        | Action::HalfUp
        | Action::PageDown
        | Action::PageUp
        | Action::Top
        | Action::Bottom => moves::go(app, action),
        Action::Open => moves::open(app),
        Action::Enter if app.focus == Focus::Inspector => whatif::take(app, fx),
        Action::Enter => moves::enter(app),
        Action::Close => moves::close(app),
        Action::CollapseAll if app.focus == Focus::Inspector => app.what_if.show_all(false),
        Action::ExpandAll if app.focus == Focus::Inspector => app.what_if.show_all(true),
        Action::CollapseAll => moves::fold(app, None, false),
        Action::ExpandAll => moves::fold(app, None, true),
        Action::CollapseBelow => moves::fold(app, app.node(), false),
        Action::ExpandBelow => moves::fold(app, app.node(), true),
        Action::Mark => {
            app.range = None;
            if let Some(node) = app.node() {
                let ids = app.shown_below(node);
                app.session.marks.toggle(ids);
                moves::go(app, Action::Down);
            }
        }
        Action::MarkShown => {
            let ids = app.shown();
            app.range = None;
            app.session.marks.toggle(ids);
        }
        Action::Invert => {
            app.range = None;
            for id in app.shown() {
                app.session.marks.toggle([id]);
            }
        }
        Action::Range => select::range(app),
        Action::Kind => select::kind(app),
        Action::MarkRegex => select::ask(app, Asked::MarkRegex, ""),
        Action::MarkWorst => select::ask(app, Asked::MarkWorst, "10"),
        Action::NextWorst => arrange::next_worst(app, true),
        Action::PreviousWorst => arrange::next_worst(app, false),
        Action::List => arrange::toggle(app),
        Action::SortName => arrange::arrange(app, Sort::Name),
        Action::SortSize => arrange::arrange(app, Sort::Size),
        Action::SortError => arrange::arrange(app, Sort::Error),
        Action::SortDamage => arrange::arrange(app, Sort::Damage),
        Action::SortGain => arrange::arrange(app, Sort::Gain),
        Action::SortTree => arrange::arrange(app, Sort::Tree),
        Action::Generalise => select::generalise(app),
        Action::Rules => {
            rules::open(app, |_, line, _| matches!(line, Line::Rule(_) | Line::Exclude(_) | Line::ByHand), fx);
        }
        Action::Filter => app.overlays.push(Overlay::Filter(app.filter.clone().into())),
        Action::Exclude => recipe::exclude(app, fx),
        Action::Dtype => pick::dtype(app),
        Action::GroupSize => pick::group_size(app),
        Action::SvdRank => pick::rank(app),
        Action::Hadamard => pick::hadamard(app),
        Action::DefaultDtype => pick::default(app),
        Action::Codebook => recipe::codebook(app, fx),
        Action::Target => pick::target(app),
        Action::Preset => rules::open(app, |_, line, hits| hits > 0 && matches!(line, Line::Preset(_)), fx),
        Action::Imatrix => {
            let file = app.session.settings().imatrix.clone().unwrap_or_default();
            select::ask(app, Asked::Imatrix, &file);
        }
        Action::QuantConv => recipe::quant_conv(app, fx),
        Action::QuantEmbedding => recipe::quant_embedding(app, fx),
        Action::Reset => recipe::reset(app, fx),
        Action::Copy => recipe::copy(app),
        Action::Paste => recipe::paste(app, fx),
        Action::Undo => history(app, Step::Undo, |_, _| (), fx),
        Action::Redo => history(app, Step::Redo, |_, _| (), fx),
        Action::WhatIf => whatif::open(app, fx),
        Action::History => pick::state(app),
        Action::Trial => trials::targets(app, fx),
        Action::TrialShown => trials::shown(app, fx),
        Action::Convert => work::open_page(app, fx),
        Action::Jobs => app.overlays.push(Overlay::Jobs),
        Action::Save => work::save(app, fx),
        Action::Focus => {
            app.focus = match app.focus {
                Focus::Tree => Focus::Inspector,
                Focus::Inspector => Focus::Tree,
            };
            app.what_if.above = true;
        }
        Action::Inspector => moves::toggle_inspector(app),
        Action::Map => pages::open_map(app),
        Action::Differences => pages::open_diff(app, fx),
        Action::Pin => pages::pin(app),
        Action::Command => pages::command(app, fx),
        Action::Scale => app.scale = app.scale.next(),
        Action::Redraw => fx.push(Effect::Redraw),
        Action::Help | Action::Palette => app.overlays.push(Overlay::Help(List::default())),
        Action::Back => back(app),
        Action::Mouse => {
            app.mouse = !app.mouse;
            fx.push(Effect::Mouse(app.mouse));
            let key = app.keymap.name(Action::Mouse);
            app.say(if app.mouse {
                format!("the desk has the mouse: {key} releases it")
            } else {
                format!("the terminal has the mouse and selects text: {key} takes it back")
            });
        }
        Action::Suspend => fx.push(Effect::Suspend),
        Action::Stop => work::stop(app, fx),
        Action::Quit => work::quit(app, false, fx),
        Action::Another => work::quit(app, true, fx),
    }
}

/// One step back: the inspector that lies over the tree, the focus, the filter, the marks.
fn back(app: &mut App) {
    app.note = None;
    if select::give_up_range(app) {
    } else if app.over && !app.two_panes() {
        moves::toggle_inspector(app);
    } else if app.focus != Focus::Tree {
        app.focus = Focus::Tree;
    } else if !app.filter.is_empty() {
        popup::set_filter(app, "");
    } else if !app.session.marks.is_empty() {
        app.session.marks.clear();
    } else {
        let quit = app.keymap.keys_of(Action::Quit).unwrap_or_default();
        app.say(format!("nothing to go back from: {quit} quits"));
    }
}

/// A step in the history.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Undo,
    Redo,
}

/// A step in the history, and then whatever follows from it; one that makes no plan is taken back.
fn history(
    app: &mut App,
    step: Step,
    then: impl FnOnce(&mut App, &mut Vec<Effect>) + Send + 'static,
    fx: &mut Vec<Effect>,
) {
    let (title, word) = match step {
        Step::Undo => (app.session.undo(), "undid"),
        Step::Redo => (app.session.redo(), "did again"),
    };
    let Some(title) = title else { return };
    let landed = move |app: &mut App, planned: crate::core::Result<()>, fx: &mut Vec<Effect>| {
        match planned {
            Ok(()) => app.say(format!("{word}: {title}")),
            Err(e) => {
                match step {
                    Step::Undo => app.session.redo(),
                    Step::Redo => app.session.undo(),
                };
                app.refuse(&e);
            }
        }
        then(app, fx);
    };
    aside::replan(app, landed, fx);
}
