//! Pages that look at the whole: the map, what differs, the command line.
use crate::session::Profile;
use crate::session::command;
use crate::tui::action::Action;
use crate::tui::app::App;
use crate::tui::aside::{self, Landing, Meanwhile};
use crate::tui::backend::Planner;
use crate::tui::diff::{Against, DiffPage};
use crate::tui::key::{Code, Key, Named};
use crate::tui::map::{self, Map};
use crate::tui::msg::Effect;
use crate::tui::overlay::Overlay;
use crate::tui::text::tensors;

/// `M`
pub fn open_map(app: &mut App) {
    let at = app.tensor().or_else(|| app.node().and_then(|n| app.tree.tensors(n).next()));
    let mut map = Map::new(&app.session.model, at);
    map.range = map::range(app, &map);
    if map.kinds.is_empty() {
        return app.complain("the model has no matrices");
    }
    app.overlays.push(Overlay::Map(map));
}

/// Finds anew between what the figures lie: they are others, or more.
pub fn refresh_map(app: &mut App) {
    let Some(Overlay::Map(map)) = app.overlays.last() else { return };
    let range = map::range(app, map);
    if let Some(Overlay::Map(map)) = app.overlays.last_mut() {
        map.range = range;
    }
}

/// A key on the map.
pub fn map_key(app: &mut App, key: Key) {
    let Some(Overlay::Map(map)) = app.overlays.last_mut() else { return };
    match (key.code, key.text()) {
        (Code::Named(Named::Down), _) | (_, Some('j')) => map.go(1, 0),
        (Code::Named(Named::Up), _) | (_, Some('k')) => map.go(-1, 0),
        (Code::Named(Named::Right), _) | (_, Some('l')) => map.go(0, 1),
        (Code::Named(Named::Left), _) | (_, Some('h')) => map.go(0, -1),
        (Code::Named(Named::PageDown), _) => map.go(10, 0),
        (Code::Named(Named::PageUp), _) => map.go(-10, 0),
        (Code::Named(Named::Home), _) | (_, Some('0')) => map.at.1 = 0,
        (Code::Named(Named::End), _) | (_, Some('$')) => map.go(0, isize::MAX / 2),
        (_, Some('v')) => {
            map.quantity = map.quantity.next();
            refresh_map(app);
        }
        (_, Some('q' | 'M')) => {
            app.overlays.pop();
        }
        (_, Some(' ')) => {
            let id = map.tensor();
            map.go(0, 1);
            app.range = None;
            app.session.marks.toggle(id);
        }
        (Code::Named(Named::Enter), _) => {
            let id = map.tensor();
            app.overlays.pop();
            if let Some(id) = id {
                if !app.tree.shows(id) {
                    super::popup::set_filter(app, "");
                }
                super::arrange::go_to(app, id);
            }
        }
        _ => {}
    }
}

/// `B`: remembers the present choices to compare with.
pub fn pin(app: &mut App) {
    app.pinned = Some(app.session.profile.clone());
    let key = app.keymap.keys_of(Action::Differences).unwrap_or_default();
    app.say(format!("pinned: {key} compares what you choose from here on with it"));
}

/// `d`: what differs from what was pinned, else from what was saved.
pub fn open_diff(app: &mut App, fx: &mut Vec<Effect>) {
    let against = if app.pinned.is_some() { Against::Pinned } else { Against::Saved };
    show_diff(app, against, fx);
}

fn show_diff(app: &mut App, against: Against, fx: &mut Vec<Effect>) {
    let then: Profile = match (&app.pinned, against) {
        (Some(pinned), Against::Pinned) => pinned.clone(),
        _ => app.session.saved().clone(),
    };
    let work = move |planner: &dyn Planner| -> Landing {
        let plan = planner.plan(&then.settings);
        Box::new(move |app, _| match plan {
            Ok(plan) => {
                app.overlays.push(Overlay::Diff(DiffPage::new(app, against, &then, &plan)));
                aside::discard(app, plan);
            }
            Err(e) => app.complain(e.to_string()),
        })
    };
    aside::run(app, Meanwhile::Wait, work, fx);
}

/// A key on the page of differences.
pub fn diff_key(app: &mut App, key: Key, fx: &mut Vec<Effect>) {
    let Some(Overlay::Diff(page)) = app.overlays.last_mut() else { return };
    let last = page.changes.len().saturating_sub(1);
    let at = match (key.code, key.text()) {
        (Code::Named(Named::Down), _) | (_, Some('j')) => page.at.saturating_add(1),
        (Code::Named(Named::Up), _) | (_, Some('k')) => page.at.saturating_sub(1),
        (Code::Named(Named::PageDown), _) => page.at.saturating_add(10),
        (Code::Named(Named::PageUp), _) => page.at.saturating_sub(10),
        (Code::Named(Named::Home), _) | (_, Some('g')) => 0,
        (Code::Named(Named::End), _) | (_, Some('G')) => last,
        (_, Some('q' | 'd')) => {
            app.overlays.pop();
            return;
        }
        (Code::Named(Named::Tab), _) => {
            let other = match page.against {
                Against::Saved if app.pinned.is_none() => {
                    let key = app.keymap.keys_of(Action::Pin).unwrap_or_default();
                    return app.complain(format!("nothing is pinned: {key} pins the present choices"));
                }
                Against::Saved => Against::Pinned,
                Against::Pinned => Against::Saved,
            };
            app.overlays.pop();
            return show_diff(app, other, fx);
        }
        (Code::Named(Named::Enter), _) => {
            let ids = page.changes.get(page.at).map(|c| c.ids.clone()).unwrap_or_default();
            let Some(first) = ids.first().copied() else { return };
            app.overlays.pop();
            app.session.marks.clear();
            app.say(format!("{} marked", tensors(ids.len())));
            super::select::mark(app, ids);
            return super::arrange::go_to(app, first);
        }
        _ => return,
    };
    page.at = at.min(last);
}

/// `Y`: the choices as a command line, shown and on the clipboard.
pub fn command(app: &mut App, fx: &mut Vec<Effect>) {
    let output =
        app.output.clone().unwrap_or_else(|| app.backend.default_output(app.session.settings(), &app.board.plan));
    let saved = app.session.profile.name.clone().filter(|_| !app.session.is_dirty());
    let line =
        command::line(&app.session.profile, &app.backend.model_words(), &output.to_string_lossy(), saved.as_deref());
    match line {
        Ok(line) => {
            fx.push(Effect::Copy(line.clone()));
            app.overlays.push(Overlay::Command(line, 0));
        }
        Err(command::NeedsProfile(why)) => {
            let key = app.keymap.keys_of(Action::Save).unwrap_or_default();
            app.complain(format!("no flag says that {why}: save the profile ({key}), and the line names it"));
        }
    }
}
