//! The state of the start screen.
use tui_input::Input;

use super::item::{Item, Section};
use super::path;
use crate::format::find::Listing;
use crate::tui::filter::{Finder, Query};
use crate::tui::key::Key;

/// The start screen.
#[derive(Debug)]
pub struct Start {
    /// Whether there is a desk to go back to.
    pub back: bool,
    /// What was typed.
    pub input: Input,
    /// Every model that is known, by section.
    pub items: Vec<Item>,
    /// Rows that the text leaves.
    pub shown: Vec<Item>,
    /// Index among them.
    pub at: usize,
    /// The text as a filter; none where it is a path.
    pub query: Option<Query>,
    /// Sections that are still being looked for.
    pub looking: Vec<Section>,
    /// Names of the saved profiles.
    pub profiles: Vec<String>,
    /// The profile that the command line names.
    pub given: Option<String>,
    /// The folder that was typed, and what is in it; `None` while it is being listed.
    pub folder: Option<(String, Option<Result<Listing, String>>)>,
    /// Keys that wait for that.
    pub ahead: Vec<Key>,
    /// What went wrong. It stays until a key is pressed.
    pub note: Option<String>,
    /// The model that is being opened: which request, and its name.
    pub opening: Option<(u64, String)>,
    /// Requests so far.
    pub requests: u64,
    /// What is on the screen.
    pub screen: Screen,
    /// The cursor was moved by hand since the text changed: it stays on its row.
    pub(super) moved: bool,
}

/// What is where, filled in by drawing.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// Left, top, width, height of the list.
    pub list: (u16, u16, u16, u16),
    /// The first line that is drawn.
    pub offset: usize,
    /// The item of each line that is drawn; headings have none.
    pub lines: Vec<Option<usize>>,
}

impl Start {
    /// A start screen before anybody has looked around.
    pub fn new(given: Option<String>) -> Self {
        let demo = Item { profile: given.clone(), ..Item::demo() };
        let mut start = Self {
            back: false,
            input: Input::default(),
            items: vec![demo],
            shown: Vec::new(),
            at: 0,
            query: None,
            looking: vec![Section::Recent, Section::Here, Section::Cache],
            profiles: Vec::new(),
            given,
            folder: None,
            ahead: Vec::new(),
            note: None,
            opening: None,
            requests: 0,
            screen: Screen::default(),
            moved: false,
        };
        start.refresh();
        start
    }

    /// The row under the cursor.
    pub fn current(&self) -> Option<&Item> {
        self.shown.get(self.at)
    }
    /// Whether a path is typed.
    pub fn is_path(&self) -> bool {
        path::is_path(self.input.value())
    }

    /// Whether the folder that is typed is being listed.
    pub fn is_listing(&self) -> bool {
        matches!(self.folder, Some((_, None)))
    }

    /// Takes models that were found.
    pub fn add(&mut self, found: Vec<Item>) {
        for mut item in found {
            if self.items.iter().any(|i| i.is(&item) || item.repeats(i)) {
                continue;
            }
            item.profile = self.given.clone().or(item.last.clone());
            self.items.retain(|i| !i.repeats(&item));
            let at = self.items.partition_point(|i| i.section <= item.section);
            self.items.insert(at, item);
        }
        self.refresh();
    }

    /// Finds out anew what is shown. The cursor stays on its row once it was moved; before, it is on the best one.
    pub fn refresh(&mut self) {
        let before = self.current().cloned().filter(|_| self.moved);
        let text = self.input.value().to_owned();
        let mut best = 0;
        if path::is_path(&text) {
            self.query = None;
            self.shown = self.in_folder(&text);
        } else {
            self.query = query(&text, &self.items);
            (self.shown, best) = found(self.query.as_ref(), &self.items);
            if self.shown.is_empty() && !text.trim().is_empty() {
                let typed = text.trim();
                let place = "open it: an id, a short name, a path".into();
                self.shown =
                    vec![Item { place, profile: self.given.clone(), ..Item::new(Section::Typed, typed, typed) }];
            }
        }
        let kept = before.and_then(|b| self.shown.iter().position(|i| i.is(&b)));
        self.at = kept.unwrap_or(if self.moved { self.at } else { best }).min(self.shown.len().saturating_sub(1));
    }

    fn in_folder(&self, text: &str) -> Vec<Item> {
        let (folder, stem) = path::split(text);
        let Some((_, Some(Ok(listing)))) = self.folder.as_ref().filter(|(f, _)| *f == folder) else {
            return Vec::new();
        };
        let row = |label: Option<&str>, name: &str| {
            label.map(|label| Item { profile: self.given.clone(), ..Item::new(Section::Folder, label, name) })
        };
        let itself = listing.kind.filter(|_| stem.is_empty()).and_then(|kind| {
            let row = row(listing.path.to_str(), "this folder")?;
            Some(Item { format: kind.name().into(), bytes: Some(listing.bytes), ..row })
        });
        let inside = path::matching(&listing.entries, &stem).into_iter().filter_map(|e| {
            let whole = listing.path.join(&e.name);
            let name = format!("{}{}", e.name, if e.is_folder { "/" } else { "" });
            let enter = e.kind.is_none().then(|| format!("{folder}{name}"));
            let row = row(whole.to_str(), &name)?;
            let format = e.kind.map_or("", |k| k.name()).into();
            Some(Item { format, bytes: e.kind.map(|_| e.bytes), enter, ..row })
        });
        itself.into_iter().chain(inside).collect()
    }
}

/// What a filter looks at.
pub fn haystack(item: &Item) -> String {
    format!("{} {}", item.name, item.place)
}

/// Words as they are written where any row has them so, else their letters in order: as the desk's filter.
fn query(text: &str, items: &[Item]) -> Option<Query> {
    let query = Query::parse(text).ok().flatten()?;
    if let Query::Fuzzy(_) = query {
        let literal = Query::literal(text);
        let mut finder = Finder::default();
        if items.iter().any(|i| finder.score(&literal, &haystack(i)).is_some()) {
            return Some(literal);
        }
    }
    Some(query)
}

/// Rows that a filter leaves, in their order, and which of them fits best.
fn found(query: Option<&Query>, items: &[Item]) -> (Vec<Item>, usize) {
    let Some(query) = query else { return (items.to_vec(), 0) };
    let mut finder = Finder::default();
    let scored = items.iter().filter_map(|i| Some((finder.score(query, &haystack(i))?, i)));
    let hits: Vec<(u32, &Item)> = scored.collect();
    let best = hits.iter().enumerate().max_by_key(|(n, (score, _))| (*score, std::cmp::Reverse(*n)));
    let best = best.map_or(0, |(n, _)| n);
    (hits.into_iter().map(|(_, i)| i.clone()).collect(), best)
}
