//! What happens to the start screen.
use super::item::{Item, Pick, Section};
use super::path;
use super::state::Start;
use crate::format::find::Listing;
use crate::tui::key::{Key, Named};
use crate::tui::overlay::{Typed, paste_into, type_into};

/// What `update` takes.
#[derive(Debug)]
pub enum Msg {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The mouse was pressed there.
    Click(u16, u16),
    /// The wheel was turned there, that many notches down.
    Wheel(i32),
    /// Somebody who looks around has something to tell.
    News(News),
    /// A model could not be opened: which request, and why.
    Failed(u64, String),
}

/// What was found.
#[derive(Debug)]
pub enum News {
    /// Models.
    Items(Vec<Item>),
    /// A recent model that is not there any more.
    Missing(String),
    /// There is no more to come.
    Ended(Section),
    /// Names of the saved profiles.
    Profiles(Vec<String>),
    /// What is in a folder.
    Listed(String, Result<Listing, String>),
}

/// What `update` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A model opened, as that request.
    Open(u64, Pick),
    /// A folder listed.
    List(String),
    /// The whole screen drawn anew.
    Redraw,
    /// The program stopped until the shell resumes it.
    Suspend,
    /// The end.
    Quit(u8),
}

/// Takes a message.
pub fn update(start: &mut Start, msg: Msg) -> Vec<Effect> {
    let mut fx = Vec::new();
    match msg {
        Msg::Key(k) => key(start, k, &mut fx),
        Msg::Paste(text) => {
            paste_into(&mut start.input, text.trim());
            typed(start, &mut fx);
        }
        Msg::Click(x, y) => click(start, x, y, &mut fx),
        Msg::Wheel(notches) => {
            let by = notches.unsigned_abs() as usize * 3;
            go(start, if notches < 0 { start.at.saturating_sub(by) } else { start.at.saturating_add(by) });
        }
        Msg::News(news) => take(start, news, &mut fx),
        Msg::Failed(request, why) => {
            if start.opening.as_ref().is_some_and(|(r, _)| *r == request) {
                start.opening = None;
                start.note = Some(why);
            }
        }
    }
    fx
}

fn take(start: &mut Start, news: News, fx: &mut Vec<Effect>) {
    match news {
        News::Items(found) => start.add(found),
        News::Missing(label) => {
            let gone = |i: &&mut Item| i.section == Section::Recent && i.label == label;
            start.items.iter_mut().filter(gone).for_each(|i| i.missing = true);
            start.refresh();
        }
        News::Ended(section) => start.looking.retain(|s| *s != section),
        News::Profiles(names) => start.profiles = names,
        News::Listed(folder, listing) => {
            if let Some((_, there)) = start.folder.as_mut().filter(|(f, _)| *f == folder) {
                *there = Some(listing);
                start.refresh();
                for k in std::mem::take(&mut start.ahead) {
                    key(start, k, fx);
                }
            }
        }
    }
}

fn key(start: &mut Start, key: Key, fx: &mut Vec<Effect>) {
    start.note = None;
    let back = key.is(Named::Esc) || key == Key::ctrl('c');
    if back {
        start.ahead.clear();
    } else if !start.ahead.is_empty() || start.is_listing() && (key.is(Named::Enter) || key.is(Named::Tab)) {
        // Typed faster than the disk answers: it means what it will mean then.
        return start.ahead.push(key);
    }
    if back && start.opening.take().is_some() {
        return;
    }
    match key {
        k if k == Key::ctrl('c') => fx.push(Effect::Quit(130)),
        k if k.is(Named::Esc) && start.input.value().is_empty() => fx.push(Effect::Quit(0)),
        k if k.is(Named::Esc) => set_text(start, "", fx),
        k if k == Key::ctrl('l') => fx.push(Effect::Redraw),
        k if k == Key::ctrl('z') => fx.push(Effect::Suspend),
        k if k.is(Named::Down) || k == Key::ctrl('n') || k == Key::ctrl('j') => go(start, start.at.saturating_add(1)),
        k if k.is(Named::Up) || k == Key::ctrl('p') || k == Key::ctrl('k') => go(start, start.at.saturating_sub(1)),
        k if k.is(Named::PageDown) => go(start, start.at.saturating_add(page(start))),
        k if k.is(Named::PageUp) => go(start, start.at.saturating_sub(page(start))),
        k if k.is(Named::Enter) => enter(start, true, fx),
        k if k == Key::ctrl('o') => enter(start, false, fx),
        k if k.is(Named::Tab) && start.is_path() => complete(start, fx),
        k if k.is(Named::Tab) => profile(start, true),
        k if k == (Key { shift: true, ..Key::named(Named::Tab) }) => profile(start, false),
        k => {
            if type_into(&mut start.input, k) == Typed::Changed {
                typed(start, fx);
            }
        }
    }
}

fn page(start: &Start) -> usize {
    usize::from(start.screen.list.3).saturating_sub(1).max(1)
}

fn go(start: &mut Start, at: usize) {
    start.at = at.min(start.shown.len().saturating_sub(1));
    start.moved = true;
}

/// The text is another: what it leaves is shown, and the folder it speaks of is listed.
fn typed(start: &mut Start, fx: &mut Vec<Effect>) {
    start.moved = false;
    let text = start.input.value();
    let folder = path::is_path(text).then(|| path::split(text).0);
    if start.folder.as_ref().map(|(f, _)| f) != folder.as_ref() {
        start.folder = folder.clone().map(|f| (f, None));
        fx.extend(folder.map(Effect::List));
    }
    start.refresh();
}

fn set_text(start: &mut Start, text: &str, fx: &mut Vec<Effect>) {
    start.input = text.to_owned().into();
    typed(start, fx);
}

/// As a shell does: as far as all that match agree, then what the cursor is on.
fn complete(start: &mut Start, fx: &mut Vec<Effect>) {
    let Some((folder, Some(Ok(listing)))) = &start.folder else { return };
    let text = path::complete(start.input.value(), &listing.entries).or_else(|| {
        let item = start.current().filter(|i| i.section == Section::Folder)?;
        listing
            .entries
            .iter()
            .any(|e| e.name == item.name.trim_end_matches('/'))
            .then(|| format!("{folder}{}", item.name))
    });
    if let Some(text) = text {
        set_text(start, &text, fx);
    }
}

/// The next profile to open the row with: the last one, none, and all others.
fn profile(start: &mut Start, forward: bool) {
    let Some(item) = start.current() else { return };
    let mut choices = vec![item.last.clone(), None, start.given.clone()];
    choices.extend(start.profiles.iter().cloned().map(Some));
    let mut seen = Vec::new();
    choices.retain(|c| {
        !seen.contains(c) && {
            seen.push(c.clone());
            true
        }
    });
    let at = choices.iter().position(|c| *c == item.profile).unwrap_or(0);
    let next = (at + if forward { 1 } else { choices.len() - 1 }) % choices.len();
    if choices.len() == 1 {
        start.note = Some("no profile is saved yet: Ctrl-s saves one at the desk".into());
        return;
    }
    let (chosen, now) = (choices.swap_remove(next), item.clone());
    start.moved = true;
    let all = start.items.iter_mut().chain(&mut start.shown);
    all.filter(|i| i.is(&now)).for_each(|i| i.profile = chosen.clone());
}

/// Opens what the cursor is on, or goes into it.
fn enter(start: &mut Start, with_profile: bool, fx: &mut Vec<Effect>) {
    let item = match start.current() {
        Some(item) => item.clone(),
        None if start.is_path() => {
            let path = crate::format::find::at_home(start.input.value());
            let Some(label) = path.to_str() else { return };
            Item { profile: start.given.clone(), ..Item::new(Section::Typed, label, label) }
        }
        None => return,
    };
    if let Some(text) = &item.enter {
        return set_text(start, text, fx);
    }
    if item.missing {
        start.note = Some(format!("{} is not there any more; was it moved? Type its path", item.label));
        return;
    }
    start.requests += 1;
    start.opening = Some((start.requests, item.name.clone()));
    let profile = item.profile.filter(|_| with_profile);
    fx.push(Effect::Open(start.requests, Pick { label: item.label, component: item.component, profile }));
}

fn click(start: &mut Start, x: u16, y: u16, fx: &mut Vec<Effect>) {
    let (left, top, width, height) = start.screen.list;
    if x < left || x >= left.saturating_add(width) || y < top || y >= top.saturating_add(height) {
        return;
    }
    if let Some(at) = start.screen.lines.get(usize::from(y - top)).copied().flatten() {
        start.note = None;
        if at == start.at {
            enter(start, true, fx);
        } else {
            go(start, at);
        }
    }
}
