//! Popups as a stack of values: what each of them holds. Their keys are in `update::popup`, their looks in `view`.
use std::path::PathBuf;

use tui_input::{Input, InputRequest};

use super::action::{Action, TABLE};
use super::backend::{ConvertPage, Form};
use super::diff::DiffPage;
use super::filter::{Finder, Query};
use super::key::{Code, Key, Named};
use super::keymap::Keymap;
use super::map::Map;
use crate::core::Dtype;
use crate::core::recipe::group_size;
use crate::core::rules::hadamard;

/// A popup.
#[derive(Debug)]
pub enum Overlay {
    /// Every action; Enter carries one out.
    Help(List),
    /// One of several values.
    Picker(Picker),
    /// The filter's text, on the bottom line.
    Filter(Input),
    /// What a conversion would do.
    Page(Page),
    /// A line of text.
    Prompt(Prompt),
    /// Conversions and trials.
    Jobs,
    /// The rules.
    Rules(RulesPage),
    /// The map of the model.
    Map(Map),
    /// What differs from other choices.
    Diff(DiffPage),
    /// The choices as a command line, and the first line of it that is shown.
    Command(String, u16),
    /// A question about what cannot be undone.
    Confirm(Confirm),
}

/// A text that narrows a list, and where one is in it.
#[derive(Debug, Default)]
pub struct List {
    /// The text.
    pub input: Input,
    /// Index among the items that are left.
    pub at: usize,
}

impl List {
    /// Moves among `len` items or edits the text. Whether the key meant any of this.
    pub fn key(&mut self, key: Key, len: usize) -> bool {
        let last = len.saturating_sub(1);
        let at = match key {
            k if k.is(Named::Down) || k == Key::ctrl('n') || k == Key::ctrl('j') => self.at.saturating_add(1),
            k if k.is(Named::Up) || k == Key::ctrl('p') || k == Key::ctrl('k') => self.at.saturating_sub(1),
            k if k.is(Named::PageDown) => self.at.saturating_add(10),
            k if k.is(Named::PageUp) => self.at.saturating_sub(10),
            _ => {
                let typed = type_into(&mut self.input, key);
                if typed == Typed::Changed {
                    self.at = 0;
                }
                return typed != Typed::Nothing;
            }
        };
        self.at = at.min(last);
        true
    }
}

/// The actions that a text leaves in the list of all.
pub fn actions(text: &str, keymap: &Keymap) -> Vec<Action> {
    let all = || TABLE.iter().map(|s| s.action);
    match Query::parse(text.trim_start_matches("re:")) {
        Ok(Some(query)) => {
            let mut finder = Finder::default();
            let mut hits: Vec<_> = all()
                .filter_map(|a| {
                    let spec = a.spec();
                    let by_key = keymap.has(a, text).then_some(u32::MAX);
                    by_key.or(finder.score(&query, &format!("{} {}", spec.doc, spec.name))).map(|s| (s, a))
                })
                .collect();
            hits.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
            hits.into_iter().map(|(_, a)| a).collect()
        }
        _ => all().collect(),
    }
}

/// A value that a picker offers.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// A dtype.
    Dtype(Dtype),
    /// A group size.
    GroupSize(i64),
    /// A rank.
    SvdRank(u32),
    /// How many values a rotation mixes.
    Hadamard(u32),
    /// A dtype for all that nothing else is said of.
    Default(Dtype),
    /// A family, and which of its forms.
    Target(Form),
    /// The state after so many changes.
    State(usize),
}

/// A value with what is said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name.
    pub label: String,
    /// A figure, right-aligned.
    pub figure: String,
    /// What it is.
    pub about: String,
    /// It.
    pub choice: Choice,
}

/// One of several values.
#[derive(Debug)]
pub struct Picker {
    /// What is chosen: `dtype`.
    pub title: String,
    /// For what: `38 tensors`.
    pub whose: String,
    /// What can be chosen.
    pub items: Vec<Item>,
    /// The one that holds now.
    pub current: Option<Choice>,
    /// Where one is.
    pub list: List,
}

impl Picker {
    /// A picker that begins at the current value.
    pub fn new(title: &str, whose: String, items: Vec<Item>, current: Option<Choice>) -> Self {
        let at = items.iter().position(|i| Some(&i.choice) == current.as_ref()).unwrap_or(0);
        Self { title: title.into(), whose, items, current, list: List { at, ..List::default() } }
    }

    /// What the typed text leaves, the best first; a number that is not listed is offered too.
    pub fn shown(&self) -> Vec<Item> {
        let text = self.list.input.value().trim().to_lowercase();
        if text.is_empty() {
            return self.items.clone();
        }
        let mut hits: Vec<(u8, &Item)> = self
            .items
            .iter()
            .filter_map(|item| {
                let label = item.label.to_lowercase();
                let rank = if label == text {
                    0
                } else if label.starts_with(&text) {
                    1
                } else if label.contains(&text) {
                    2
                } else if is_subsequence(&text, &label) {
                    3
                } else {
                    return None;
                };
                Some((rank, item))
            })
            .collect();
        hits.sort_by_key(|(rank, _)| *rank);
        let typed = self.typed(&text).filter(|t| !hits.iter().any(|(_, i)| i.choice == t.choice));
        typed.into_iter().chain(hits.into_iter().map(|(_, i)| i.clone())).collect()
    }

    fn typed(&self, text: &str) -> Option<Item> {
        let choice = match self.items.first()?.choice {
            Choice::GroupSize(_) => Choice::GroupSize(text.parse().ok().filter(|n| *n >= group_size::TENSOR)?),
            Choice::SvdRank(_) => Choice::SvdRank(text.parse().ok()?),
            Choice::Hadamard(_) => {
                let n = text.parse().ok()?;
                Choice::Hadamard(if n == 0 { 0 } else { hadamard::size(n)? })
            }
            Choice::Dtype(_) | Choice::Default(_) | Choice::Target(_) | Choice::State(_) => return None,
        };
        if let Some(item) = self.items.iter().find(|i| i.choice == choice) {
            return Some(item.clone());
        }
        Some(Item { label: text.into(), figure: String::new(), about: String::new(), choice })
    }
}

fn is_subsequence(text: &str, of: &str) -> bool {
    let mut chars = of.chars();
    text.chars().all(|c| chars.any(|d| d == c))
}

/// A line of the rules' page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A rule of the preset.
    Preset(usize),
    /// An entry of `include`.
    Include(usize),
    /// An entry of `exclude`.
    Exclude(usize),
    /// A rule of the profile.
    Rule(usize),
    /// Everything that was set by hand.
    ByHand,
}

/// Rules in the order in which they speak.
#[derive(Debug)]
pub struct RulesPage {
    /// Of each line, how many tensors it matches, and of how many it has the last word.
    pub counts: Vec<(usize, usize)>,
    /// The one under the cursor.
    pub at: usize,
}

impl RulesPage {
    /// Moves, where the key means that.
    pub fn key(&mut self, key: Key) {
        self.at = self.moved(key).unwrap_or(self.at);
    }
    /// Where a key leads that moves.
    pub fn moved(&self, key: Key) -> Option<usize> {
        let last = self.counts.len().saturating_sub(1);
        let at = match (key.code, key.text()) {
            (Code::Named(Named::Down), _) | (_, Some('j')) => self.at.saturating_add(1),
            (Code::Named(Named::Up), _) | (_, Some('k')) => self.at.saturating_sub(1),
            (Code::Named(Named::PageDown), _) => self.at.saturating_add(10),
            (Code::Named(Named::PageUp), _) => self.at.saturating_sub(10),
            (Code::Named(Named::Home), _) | (_, Some('g')) => 0,
            (Code::Named(Named::End), _) | (_, Some('G')) => last,
            _ => return None,
        };
        Some(at.min(last))
    }
}

/// What a conversion would do.
#[derive(Debug)]
pub struct Page {
    /// Where to.
    pub output: PathBuf,
    /// Over what is there.
    pub force: bool,
    /// What it would do, or why not.
    pub page: Result<ConvertPage, String>,
    /// Why it was not started.
    pub error: Option<String>,
    /// First line of the warnings.
    pub scroll: usize,
    /// Whether it was drawn: what was typed before that does not agree to it.
    pub seen: bool,
}

/// What a line of text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The path of a conversion.
    Output,
    /// The name of the profile.
    Profile,
    /// An expression of names to mark.
    MarkRegex,
    /// The file of an importance matrix; none for none.
    Imatrix,
    /// How many of the worst to mark.
    MarkWorst,
    /// A rule, in place of a line or as the last.
    Rule(Option<Line>),
}

/// A line of text.
#[derive(Debug)]
pub struct Prompt {
    /// What for.
    pub asked: Asked,
    /// The text.
    pub input: Input,
    /// What it would do, said while it is typed.
    pub preview: Option<String>,
}

/// A question about what cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// Whether to stop a conversion.
    StopJob,
    /// Whether to stop a conversion and to quit.
    QuitWhileConverting,
}

/// What a key did to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// It changed it.
    Changed,
    /// It moved in it.
    Moved,
    /// The key means nothing to a text.
    Nothing,
}

/// Edits a text. Every printable key is text.
pub fn type_into(input: &mut Input, key: Key) -> Typed {
    use InputRequest as R;
    let request = match (key.text(), key.code) {
        (Some(c), _) => R::InsertChar(c),
        (None, Code::Char('h')) if key.ctrl => R::DeletePrevChar,
        (None, Code::Char('w')) if key.ctrl => R::DeletePrevWord,
        (None, Code::Char('u')) if key.ctrl => R::DeleteLine,
        (None, Code::Char('k')) if key.ctrl => R::DeleteTillEnd,
        (None, Code::Char('a')) if key.ctrl => R::GoToStart,
        (None, Code::Char('e')) if key.ctrl => R::GoToEnd,
        (_, Code::Named(Named::Backspace)) if key.ctrl || key.alt => R::DeletePrevWord,
        (_, Code::Named(Named::Backspace)) => R::DeletePrevChar,
        (_, Code::Named(Named::Delete)) => R::DeleteNextChar,
        (_, Code::Named(Named::Left)) if key.ctrl || key.alt => R::GoToPrevWord,
        (_, Code::Named(Named::Right)) if key.ctrl || key.alt => R::GoToNextWord,
        (_, Code::Named(Named::Left)) => R::GoToPrevChar,
        (_, Code::Named(Named::Right)) => R::GoToNextChar,
        (_, Code::Named(Named::Home)) => R::GoToStart,
        (_, Code::Named(Named::End)) => R::GoToEnd,
        _ => return Typed::Nothing,
    };
    match input.handle(request) {
        Some(changed) if changed.value => Typed::Changed,
        _ => Typed::Moved,
    }
}

/// Inserts pasted text; line breaks and control characters are left out.
pub fn paste_into(input: &mut Input, text: &str) {
    for c in text.chars().filter(|c| !c.is_control()) {
        input.handle(InputRequest::InsertChar(c));
    }
}
