//! The rules: in which order they speak, what each of them matches and decides, and changing them.
use std::sync::Arc;

use rayon::prelude::*;

use super::{popup, recipe, select};
use crate::core::rules::{Cause, Pattern, TensorType};
use crate::core::{Model, Patch, Rule, Settings};
use crate::session::{Edit, kinds};
use crate::tui::app::App;
use crate::tui::aside::{self, Landing, Meanwhile};
use crate::tui::backend::{Knob, Planner};
use crate::tui::board::Board;
use crate::tui::msg::Effect;
use crate::tui::overlay::{Asked, Line, Overlay, RulesPage};
use crate::tui::text::tensors;

/// What a rule says that leaves the dtype open.
pub const ANY: &str = "*";
/// What a rule says that keeps a tensor as it is.
pub const KEEP: &str = "keep";
/// What a rule says that includes a tensor again.
pub const QUANTIZE: &str = "quantize";

/// What a rule says, as it is typed: `uint4,group_size=64`, `keep`.
pub fn write(patch: &Patch) -> String {
    let mut out = match (patch.keep, &patch.dtype) {
        (Some(true), _) => return KEEP.into(),
        (_, Some(dtype)) => dtype.to_string(),
        (Some(false), None) => QUANTIZE.into(),
        (None, None) => ANY.into(),
    };
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!(",{key}={value}"));
        }
    };
    add("group_size", patch.group_size.map(|n| n.to_string()));
    add("svd_rank", patch.svd_rank.map(|n| n.to_string()));
    add("svd_steps", patch.svd_steps.map(|n| n.to_string()));
    add("hadamard", patch.hadamard.map(|n| n.to_string()));
    add("codebook", patch.codebook.map(|on| on.to_string()));
    add("scale_search", patch.scale_search.map(|s| s.name().to_owned()));
    out
}

/// Reads a rule as it is typed: `PATTERN=DTYPE[,group_size=N]…`, `PATTERN=keep`.
pub fn read(app: &App, text: &str) -> Result<(Pattern, Patch), String> {
    let read = TensorType::parse(text).map_err(|e| e.to_string())?;
    let mut patch = read.patch;
    match read.dtype.as_str() {
        KEEP => patch = Patch::keep(),
        QUANTIZE => patch.keep = Some(false),
        ANY => {}
        dtype => {
            let family = app.session.settings().target;
            patch.dtype = Some(app.backend.parse_dtype(family, dtype).map_err(|e| e.to_string())?);
        }
    }
    let family = app.session.settings().target;
    let knobs = [
        (patch.group_size.is_some(), Knob::GroupSize),
        (patch.svd_rank.is_some() || patch.svd_steps.is_some(), Knob::SvdRank),
        (patch.hadamard.is_some(), Knob::Hadamard),
        (patch.codebook.is_some(), Knob::Codebook),
        (patch.scale_search.is_some(), Knob::ScaleSearch),
    ];
    for (_, knob) in knobs.into_iter().filter(|(said, _)| *said) {
        app.backend.can(family, knob)?;
    }
    if patch.is_empty() {
        return Err(format!("`{text}` says nothing: name a dtype, or `{KEEP}`"));
    }
    Ok((read.pattern, patch))
}

/// The lines of the page, in the order in which they speak.
pub fn lines(s: &Settings) -> Vec<Line> {
    let preset = (0..s.preset.len()).map(Line::Preset);
    let include = (0..s.include.len()).map(Line::Include);
    let exclude = (0..s.exclude.len()).map(Line::Exclude);
    let rules = (0..s.rules.len()).map(Line::Rule);
    let by_hand = (!s.overrides.is_empty()).then_some(Line::ByHand);
    preset.chain(include).chain(exclude).chain(rules).chain(by_hand).collect()
}

/// The pattern of a line.
pub fn pattern(s: &Settings, line: Line) -> Option<&Pattern> {
    match line {
        Line::Preset(i) => s.preset.get(i).map(|r| &r.pattern),
        Line::Include(i) => s.include.get(i),
        Line::Exclude(i) => s.exclude.get(i),
        Line::Rule(i) => s.rules.get(i).map(|r| &r.pattern),
        Line::ByHand => None,
    }
}

fn pattern_of(app: &App, line: Line) -> Option<&str> {
    let own = matches!(line, Line::Rule(_) | Line::Exclude(_));
    pattern(app.session.settings(), line).filter(|_| own).map(Pattern::as_str)
}

fn cause(line: Line) -> Cause {
    match line {
        Line::Preset(i) => Cause::Preset(i),
        Line::Include(_) => Cause::NotIncluded,
        Line::Exclude(i) => Cause::Exclude(i),
        Line::Rule(i) => Cause::Rule(i),
        Line::ByHand => Cause::Override,
    }
}

/// What each line matches, and of how many tensors it has the last word.
fn count(model: &Model, settings: &Settings, board: &Board) -> Vec<(usize, usize)> {
    let tensors = &model.tensors;
    let overrides = settings.overrides.len();
    lines(settings)
        .into_iter()
        .map(|line| {
            let matched = match pattern(settings, line) {
                Some(p) => tensors.par_iter().filter(|t| p.hits(&[&t.name])).count(),
                None => overrides,
            };
            let cause = cause(line);
            if matches!(line, Line::Include(_)) {
                // It keeps what none of them matches; of what one matches it decides nothing.
                return (matched, 0);
            }
            (matched, board.plan.rows.iter().filter(|r| r.cause == cause).count())
        })
        .collect()
}

/// Counts, and then what is done with the counts.
fn counted(
    app: &mut App,
    meanwhile: Meanwhile,
    then: impl FnOnce(&mut App, Vec<(usize, usize)>) + Send + 'static,
    fx: &mut Vec<Effect>,
) {
    let (model, board) = (Arc::clone(&app.session.model), Arc::clone(&app.board));
    let settings = Arc::clone(&app.settings);
    let work = move |_: &dyn Planner| -> Landing {
        let counts = count(&model, &settings, &board);
        Box::new(move |app, _| then(app, counts))
    };
    aside::run(app, meanwhile, work, fx);
}

/// Opens the page, at the first line that is such.
pub fn open(app: &mut App, is_such: impl Fn(&App, Line, usize) -> bool + Send + 'static, fx: &mut Vec<Effect>) {
    let then = move |app: &mut App, counts: Vec<(usize, usize)>| {
        let mut lines = lines(app.session.settings()).into_iter().zip(&counts);
        let at = lines.position(|(line, (matched, _))| is_such(app, line, *matched)).unwrap_or(0);
        app.overlays.push(Overlay::Rules(RulesPage { counts, at }));
    };
    counted(app, Meanwhile::Wait, then, fx);
}

/// Counts anew and keeps the cursor inside.
pub fn refresh(app: &mut App, fx: &mut Vec<Effect>) {
    let page = |app: &mut App| app.overlays.iter().position(|o| matches!(o, Overlay::Rules(_)));
    if page(app).is_none() {
        return;
    }
    let then = move |app: &mut App, counts: Vec<(usize, usize)>| {
        if let Some(Overlay::Rules(page)) = page(app).and_then(|i| app.overlays.get_mut(i)) {
            page.at = page.at.min(counts.len().saturating_sub(1));
            page.counts = counts;
        }
    };
    counted(app, Meanwhile::LookAround, then, fx);
}

fn at(app: &App) -> Option<(Line, usize)> {
    let Some(Overlay::Rules(page)) = app.overlays.last() else { return None };
    lines(app.session.settings()).get(page.at).map(|line| (*line, page.at))
}

fn go(app: &mut App, to: usize) {
    if let Some(Overlay::Rules(page)) = app.overlays.last_mut() {
        page.at = to;
    }
}

/// Switches a line off, or on again.
pub fn toggle(app: &mut App, fx: &mut Vec<Effect>) {
    let s = app.session.settings();
    let (mut rules, is_preset, i) = match at(app) {
        Some((Line::Preset(i), _)) => (s.preset.clone(), true, i),
        Some((Line::Rule(i), _)) => (s.rules.clone(), false, i),
        Some((Line::ByHand, _)) => return app.complain("what was set by hand has no switch: x goes back to the rules"),
        Some(_) => return app.complain("it has no switch: x removes it, and undo brings it back"),
        None => return,
    };
    let Some(rule) = rules.get_mut(i) else { return };
    rule.enabled = !rule.enabled;
    let word = if is_preset { "preset rule" } else { "rule" };
    let title = format!("{word} {} {}", rule.pattern, if rule.enabled { "on" } else { "off" });
    let edit = if is_preset { Edit::Preset(rules) } else { Edit::Rules(rules) };
    recipe::change_all(app, title, edit, refresh, fx);
}

/// Removes a line.
pub fn remove(app: &mut App, fx: &mut Vec<Effect>) {
    let Some((line, _)) = at(app) else { return };
    let s = app.session.settings();
    let name = pattern(s, line).map(ToString::to_string).unwrap_or_default();
    let edit = match line {
        Line::Preset(_) => return app.complain("the preset's rules stay in the list: Space switches one off"),
        Line::Include(i) => Edit::Include(without(&s.include, i)),
        Line::Exclude(i) => Edit::Exclude(without(&s.exclude, i)),
        Line::Rule(i) => Edit::Rules(without(&s.rules, i)),
        Line::ByHand => Edit::Overrides(s.overrides.keys().map(|n| (n.clone(), None)).collect()),
    };
    let title = match line {
        Line::ByHand => "back to the rules everywhere".to_owned(),
        _ => format!("remove rule {name}"),
    };
    recipe::change_all(app, title, edit, refresh, fx);
    let last = lines(app.session.settings()).len().saturating_sub(1);
    if let Some(Overlay::Rules(page)) = app.overlays.last_mut() {
        page.at = page.at.min(last);
    }
}

fn without<T: Clone>(list: &[T], i: usize) -> Vec<T> {
    list.iter().enumerate().filter(|(k, _)| *k != i).map(|(_, t)| t.clone()).collect()
}

/// Moves a rule up or down: the last word counts.
pub fn shift(app: &mut App, down: bool, fx: &mut Vec<Effect>) {
    let Some((Line::Rule(i), row)) = at(app) else {
        return app.complain("only the profile's rules have an order that can be changed");
    };
    let mut rules = app.session.settings().rules.clone();
    let to = if down { i + 1 } else { i.wrapping_sub(1) };
    if to >= rules.len() {
        return app.say(if down { "it has the last word already" } else { "it speaks first already" });
    }
    rules.swap(i, to);
    let title = format!("rule {} {}", rules[to].pattern, if down { "later" } else { "earlier" });
    go(app, if down { row + 1 } else { row - 1 });
    recipe::change_all(app, title, Edit::Rules(rules), refresh, fx);
}

/// Opens a line's text to be changed, or a new one.
pub fn edit(app: &mut App, new: bool) {
    let s = app.session.settings();
    let line = at(app).map(|(line, _)| line);
    let (asked, text) = match line {
        _ if new => (Asked::Rule(None), String::new()),
        Some(Line::Rule(i)) => match s.rules.get(i) {
            Some(r) if r.patch.keep == Some(false) && r.patch.dtype.is_some() => {
                return app.complain("change this rule in the profile's file: it includes layers too");
            }
            Some(r) => (Asked::Rule(Some(Line::Rule(i))), format!("{}={}", r.pattern, write(&r.patch))),
            None => return,
        },
        Some(line @ Line::Exclude(_)) => {
            let text = pattern(s, line).map(|p| format!("{p}={KEEP}")).unwrap_or_default();
            (Asked::Rule(Some(line)), text)
        }
        Some(Line::Preset(_)) => {
            return app
                .complain("the preset's rules cannot be changed: Space switches one off, n adds one of your own");
        }
        Some(Line::Include(_)) => return app.complain("change `include` in the profile's file, or remove it with x"),
        Some(Line::ByHand) => return select::generalise(app),
        None => (Asked::Rule(None), String::new()),
    };
    select::ask(app, asked, &text);
}

/// What a prompt's text would do, said while it is typed.
pub fn preview(app: &App, text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    Some(match read(app, text) {
        Ok((pattern, patch)) => {
            let n = app.session.model.tensors.par_iter().filter(|t| pattern.hits(&[&t.name])).count();
            format!("matches {}: {patch}", tensors(n))
        }
        Err(why) => why,
    })
}

/// Takes a rule as it was typed, in place of a line or as the last. Whether it could be read.
pub fn set(app: &mut App, place: Option<Line>, text: &str, fx: &mut Vec<Effect>) -> bool {
    let (pattern, patch) = match read(app, text) {
        Ok(rule) => rule,
        Err(why) => {
            app.complain(why);
            return false;
        }
    };
    let s = app.session.settings();
    let mine = pattern.clone();
    let title = format!("rule {pattern}={}", write(&patch));
    let mut rules = s.rules.clone();
    let mut edits = Vec::new();
    match place {
        Some(Line::Rule(i)) if i < rules.len() => rules[i] = Rule { pattern, patch, ..rules[i].clone() },
        Some(Line::Exclude(i)) if patch == Patch::keep() => {
            let mut list = s.exclude.clone();
            if let Some(slot) = list.get_mut(i) {
                *slot = pattern;
            }
            edits.push(Edit::Exclude(list));
        }
        place => {
            if let Some(Line::Exclude(i)) = place {
                edits.push(Edit::Exclude(without(&s.exclude, i)));
            }
            rules.push(Rule { pattern, patch, reason: None, enabled: true });
        }
    }
    if rules != s.rules {
        edits.push(Edit::Rules(rules));
    }
    let mut after = s.clone();
    for edit in &edits {
        edit.clone().apply(&mut after);
    }
    let told = told(&after, &mine);
    if !told.is_empty() {
        edits.push(Edit::Overrides(told));
    }
    if edits.is_empty() {
        return true;
    }
    // The marks have become a rule, unless it was written on the page.
    if !app.overlays.iter().any(|o| matches!(o, Overlay::Rules(_))) {
        app.session.marks.clear();
    }
    recipe::change_all(app, title, Edit::All(edits), refresh, fx);
    // The cursor is at what was written, before anything moves it.
    let all = lines(app.session.settings());
    let row = all.iter().position(|line| pattern_of(app, *line) == Some(mine.as_str()));
    if let (Some(row), Some(Overlay::Rules(page))) =
        (row, app.overlays.iter_mut().rfind(|o| matches!(o, Overlay::Rules(_))))
    {
        page.at = row;
    }
    true
}

/// What need not be said by hand any more of the tensors that a pattern matches: what the rules say without it. To
/// include a layer expressly is more than any rule says.
fn told(after: &Settings, pattern: &Pattern) -> Vec<(String, Option<Patch>)> {
    let mut bare = after.clone();
    let mut out = Vec::new();
    for (name, by_hand) in after.overrides.iter().filter(|(name, _)| pattern.hits(&[name.as_str()])) {
        let with = after.decide(&[name]).patch;
        let left = by_hand.keep.filter(|keep| !keep).map(|keep| Patch { keep: Some(keep), ..Patch::default() });
        match &left {
            Some(left) => bare.overrides.insert(name.clone(), left.clone()),
            None => bare.overrides.remove(name),
        };
        if bare.decide(&[name]).patch == with && left.as_ref() != Some(by_hand) {
            out.push((name.clone(), left));
        }
    }
    out
}

/// Enter: shows what a line matches.
pub fn show(app: &mut App) {
    let Some((line, _)) = at(app) else { return };
    let text = match pattern(app.session.settings(), line) {
        Some(pattern) => format!("re:{pattern}"),
        None => {
            let names: Vec<&str> = app.session.model.tensors.iter().map(|t| t.name.as_str()).collect();
            let set = &app.session.settings().overrides;
            let marked = (0..names.len()).filter(|i| set.contains_key(names[*i])).collect();
            format!("re:{}", kinds::generalise(&names, &marked))
        }
    };
    app.overlays.pop();
    popup::set_filter(app, &text);
}
