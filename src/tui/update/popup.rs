//! Keys in popups. The topmost gets them; Esc closes it.
use super::{Step, moves, pages, recipe, rules, run, select, work};
use crate::core::TensorId;
use crate::tui::action::Action;
use crate::tui::app::App;
use crate::tui::filter::{Finder, Query};
use crate::tui::key::{Key, Named};
use crate::tui::keymap::{Found, Keymap};
use crate::tui::msg::Effect;
use crate::tui::overlay::{self, Asked, Confirm, Overlay, Prompt, Typed, paste_into, type_into};

/// A key for the topmost popup.
pub fn key(app: &mut App, key: Key, fx: &mut Vec<Effect>) {
    if key.is(Named::Esc) {
        if matches!(app.overlays.pop(), Some(Overlay::Filter(_))) {
            set_filter(app, "");
        }
        return;
    }
    // Elsewhere its key may be text.
    if key.text().is_none() && app.keymap.find(&[key]) == Found::Action(Action::Redraw) {
        return fx.push(Effect::Redraw);
    }
    let Some(top) = app.overlays.last_mut() else { return };
    match top {
        Overlay::Help(list) => {
            let shown = overlay::actions(list.input.value(), &app.keymap);
            if key.is(Named::Enter) {
                let at = list.at;
                choose(app, at, fx);
            } else {
                list.key(key, shown.len());
            }
        }
        Overlay::Picker(picker) => {
            if key.is(Named::Enter) {
                let at = picker.list.at;
                choose(app, at, fx);
            } else {
                let len = picker.shown().len();
                picker.list.key(key, len);
            }
        }
        Overlay::Filter(input) => {
            if key.is(Named::Enter) {
                app.overlays.pop();
            } else if key.is(Named::Down) || key.is(Named::Up) {
                moves::go(app, if key.is(Named::Down) { Action::Down } else { Action::Up });
            } else if type_into(input, key) == Typed::Changed {
                let text = input.value().to_owned();
                set_filter(app, &text);
            }
        }
        Overlay::Page(_) => page(app, key, fx),
        Overlay::Prompt(prompt) => {
            if key.is(Named::Enter) {
                let (asked, text) = (prompt.asked, prompt.input.value().trim().to_owned());
                answer(app, asked, &text, fx);
            } else if type_into(&mut prompt.input, key) == Typed::Changed {
                select::preview(app);
            }
        }
        Overlay::Jobs => match key.text() {
            Some('x') => work::stop(app, fx),
            Some('q' | 'w') => {
                app.overlays.pop();
            }
            _ => {}
        },
        Overlay::Rules(page) => match key.text() {
            Some(' ') => rules::toggle(app, fx),
            Some('x') => rules::remove(app, fx),
            Some('J') => rules::shift(app, true, fx),
            Some('K') => rules::shift(app, false, fx),
            Some('e') => rules::edit(app, false),
            Some('n') => rules::edit(app, true),
            Some('u') => super::history(app, Step::Undo, rules::refresh, fx),
            Some('U') => super::history(app, Step::Redo, rules::refresh, fx),
            Some('q' | 'P' | 'E') => {
                app.overlays.pop();
            }
            _ if key.is(Named::Delete) => rules::remove(app, fx),
            _ if key.is(Named::Enter) => rules::show(app),
            _ => page.key(key),
        },
        Overlay::Map(_) => pages::map_key(app, key),
        Overlay::Diff(_) => pages::diff_key(app, key, fx),
        Overlay::Command(line, scroll) => match key.text() {
            Some('y' | 'Y') => fx.push(Effect::Copy(line.clone())),
            Some('j') => *scroll = scroll.saturating_add(1),
            Some('k') => *scroll = scroll.saturating_sub(1),
            Some('q') => {
                app.overlays.pop();
            }
            _ if key.is(Named::Down) => *scroll = scroll.saturating_add(1),
            _ if key.is(Named::Up) => *scroll = scroll.saturating_sub(1),
            _ => {}
        },
        Overlay::Confirm(what) => {
            let again = match what {
                Confirm::StopJob => 'y',
                Confirm::QuitWhileConverting if app.another => 'O',
                Confirm::QuitWhileConverting => 'q',
            };
            if key.is(Named::Enter) || key.text() == Some(again) || key.text() == Some('y') {
                confirm(app, fx);
            } else if key.text() == Some('n') {
                app.overlays.pop();
            }
        }
    }
}

/// Yes.
pub fn confirm(app: &mut App, fx: &mut Vec<Effect>) {
    if let Some(Overlay::Confirm(what)) = app.overlays.pop() {
        match what {
            Confirm::StopJob => work::cancel(app),
            Confirm::QuitWhileConverting => {
                work::cancel(app);
                fx.push(work::left(app));
            }
        }
    }
}

/// Takes an item of the topmost list.
pub fn choose(app: &mut App, at: usize, fx: &mut Vec<Effect>) {
    match app.overlays.last() {
        Some(Overlay::Help(list)) => {
            if let Some(action) = overlay::actions(list.input.value(), &app.keymap).get(at).copied() {
                app.overlays.pop();
                run(app, action, fx);
            }
        }
        Some(Overlay::Picker(picker)) => {
            if let Some(item) = picker.shown().get(at) {
                app.overlays.pop();
                recipe::set(app, &item.choice, fx);
            }
        }
        Some(Overlay::Diff(_)) => {
            if let Some(Overlay::Diff(page)) = app.overlays.last_mut() {
                page.at = at.min(page.changes.len().saturating_sub(1));
            }
        }
        Some(Overlay::Rules(_)) => {
            if let Some(Overlay::Rules(page)) = app.overlays.last_mut() {
                let at = at.min(page.counts.len().saturating_sub(1));
                if std::mem::replace(&mut page.at, at) != at {
                    return;
                }
            }
            rules::toggle(app, fx);
        }
        _ => {}
    }
}

/// Scrolls a popup by notches of the wheel.
pub fn scroll(overlay: &mut Overlay, keymap: &Keymap, notches: i32) {
    let key = Key::named(if notches < 0 { Named::Up } else { Named::Down });
    match overlay {
        Overlay::Help(list) => {
            let len = overlay::actions(list.input.value(), keymap).len();
            list.key(key, len);
        }
        Overlay::Picker(picker) => {
            let len = picker.shown().len();
            picker.list.key(key, len);
        }
        Overlay::Rules(page) => page.key(key),
        Overlay::Map(map) => map.go(notches as isize, 0),
        Overlay::Diff(page) => {
            let last = page.changes.len().saturating_sub(1);
            page.at = page.at.saturating_add_signed(notches as isize).min(last);
        }
        Overlay::Page(page) if notches < 0 => page.scroll = page.scroll.saturating_sub(1),
        Overlay::Page(page) => page.scroll = page.scroll.saturating_add(1),
        _ => {}
    }
}

fn page(app: &mut App, key: Key, fx: &mut Vec<Effect>) {
    let Some(Overlay::Page(page)) = app.overlays.last_mut() else { return };
    if key.is(Named::Enter) {
        match &page.page {
            Ok(_) if !page.seen => app.say("this is what would be done: Enter again does it"),
            Ok(_) => {
                page.error = None;
                fx.push(Effect::Convert { output: page.output.clone(), force: page.force });
            }
            Err(why) => page.error = Some(why.clone()),
        }
        return;
    }
    match key.text() {
        Some('p') => {
            let input = page.output.display().to_string().into();
            app.overlays.push(Overlay::Prompt(Prompt { asked: Asked::Output, input, preview: None }));
        }
        Some('f') => {
            page.force = !page.force;
            page.error = None;
        }
        Some('j') => page.scroll = page.scroll.saturating_add(1),
        Some('k') => page.scroll = page.scroll.saturating_sub(1),
        Some('q') => {
            app.overlays.pop();
        }
        _ if key.is(Named::Down) => page.scroll = page.scroll.saturating_add(1),
        _ if key.is(Named::Up) => page.scroll = page.scroll.saturating_sub(1),
        _ => {}
    }
}

fn answer(app: &mut App, asked: Asked, text: &str, fx: &mut Vec<Effect>) {
    if text.is_empty() && asked != Asked::Imatrix {
        return app.complain(match asked {
            Asked::Imatrix => "",
            Asked::Output => {
                "write where the conversion goes: a folder, or a file that ends in .safetensors (GGUF: .gguf)"
            }
            Asked::Profile => "write a name, or a path that ends in .toml",
            Asked::MarkRegex => "write a regular expression, as attn.*to_q",
            Asked::MarkWorst => "write how many",
            Asked::Rule(_) => "write PATTERN=DTYPE, or PATTERN=keep",
        });
    }
    // A rule that cannot be read stays to be put right.
    if let Asked::Rule(place) = asked {
        let prompt = app.overlays.pop();
        if !rules::set(app, place, text, fx) {
            app.overlays.extend(prompt);
        }
        return;
    }
    app.overlays.pop();
    // Kept as it is meant: what is saved or copied is not read by a shell.
    let path = app.backend.at_home(text).to_string_lossy().into_owned();
    match asked {
        Asked::Rule(_) => {}
        Asked::Imatrix => recipe::imatrix(app, if text.is_empty() { text } else { &path }, fx),
        Asked::MarkRegex => select::mark_regex(app, text),
        Asked::MarkWorst => select::mark_worst(app, text),
        Asked::Output => work::set_output(app, &path, fx),
        Asked::Profile => fx.push(Effect::Save(path)),
    }
}

/// Text from the clipboard, where there is a text field.
pub fn paste(app: &mut App, text: &str) {
    match app.overlays.last_mut() {
        Some(Overlay::Help(list)) => paste_into(&mut list.input, text),
        Some(Overlay::Picker(picker)) => paste_into(&mut picker.list.input, text),
        Some(Overlay::Prompt(prompt)) => {
            paste_into(&mut prompt.input, text);
            select::preview(app);
        }
        Some(Overlay::Filter(input)) => {
            paste_into(input, text);
            let text = input.value().to_owned();
            set_filter(app, &text);
        }
        _ => {}
    }
}

/// Filters the tree. A broken expression leaves the tree as it was and says what is wrong.
pub fn set_filter(app: &mut App, text: &str) {
    app.filter = text.to_owned();
    let query = match Query::parse(text) {
        Ok(query) => query,
        Err(e) => return app.complain(e),
    };
    app.note = None;
    let mut finder = Finder::default();
    let mut all = |query: &Query| -> Vec<Option<u32>> {
        app.session.model.tensors.iter().map(|t| finder.score(query, &t.name)).collect()
    };
    let as_written = matches!(query, Some(Query::Fuzzy(_))).then(|| Query::literal(text)).and_then(|query| {
        let scores = all(&query);
        scores.iter().any(Option::is_some).then_some((query, scores))
    });
    let (query, scores) = match (as_written, query) {
        (Some((query, scores)), _) => (Some(query), Some(scores)),
        (None, Some(query)) => {
            let scores = all(&query);
            (Some(query), Some(scores))
        }
        (None, None) => (None, None),
    };
    app.query = query;
    let node = app.node();
    moves::keeping(app, |app| match &scores {
        Some(scores) => app.tree.filter(Some(&|id: TensorId| scores[id.index()].is_some())),
        None => {
            if let Some(node) = node {
                app.tree.reveal(node);
            }
            app.tree.filter(None);
        }
    });
    // The best hit is the place to be.
    if let Some(scores) = scores {
        let best = scores.iter().enumerate().filter_map(|(i, s)| s.map(|s| (s, std::cmp::Reverse(i)))).max();
        let leaf = best.and_then(|(_, i)| app.tree.leaf_of(TensorId(i.0 as u32)));
        if let Some(row) = leaf.and_then(|leaf| app.tree.row_of(leaf)) {
            app.cursor = row;
        }
    }
}
