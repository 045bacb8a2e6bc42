//! Popups: a frame in the middle, over what is below.
use ratatui::style::Style;

use super::pen::Pen;
use super::{diff, jobs, map, rules};
use crate::core::name::clean;
use crate::core::units;
use crate::tui::action::{self, Group};
use crate::tui::app::{App, Screen};
use crate::tui::backend::ConvertPage;
use crate::tui::overlay::{self, Asked, Confirm, List, Overlay, Page, Picker, Prompt};
use crate::tui::{text, theme};

pub(super) type Cursor = Option<(u16, u16)>;

/// Draws a popup; where its text cursor is, if it has one.
pub fn draw(app: &App, overlay: &Overlay, screen: &mut Screen, pen: &mut Pen) -> Cursor {
    match overlay {
        Overlay::Filter(_) => None,
        Overlay::Help(list) => help(app, list, screen, pen),
        Overlay::Picker(picker) => self::picker(picker, screen, pen),
        Overlay::Page(page) => self::page(app, page, pen),
        Overlay::Prompt(prompt) => self::prompt(prompt, pen),
        Overlay::Jobs => jobs::draw(app, pen),
        Overlay::Rules(page) => rules::draw(app, page, screen, pen),
        Overlay::Map(map) => map::draw(app, map, screen, pen),
        Overlay::Diff(page) => diff::draw(app, page, screen, pen),
        Overlay::Command(line, scroll) => command(line, *scroll, pen),
        Overlay::Confirm(what) => confirm(app, *what, pen),
    }
}

pub(super) fn frame<'a>(pen: &'a mut Pen, width: u16, height: u16, title: &str, foot: &str) -> (Pen<'a>, u16, u16) {
    // A second borrow of the same rectangle is needed for the frame and for what is inside of it.
    let (w, h) = (width.min(pen.width()), height.min(pen.height()));
    let (x, y) = ((pen.width() - w) / 2, (pen.height() - h) / 2);
    {
        let mut all = pen.part(x, y, w, h);
        all.clear();
        all.framed(title, Style::new(), theme::heading());
        all.footnote(foot, theme::dim());
    }
    let inner = pen.part(x.saturating_add(2), y.saturating_add(1), w.saturating_sub(4), h.saturating_sub(2));
    let (w, h) = (inner.width(), inner.height());
    (inner, w, h)
}

fn field(pen: &mut Pen, x: u16, y: u16, input: &tui_input::Input) -> Cursor {
    let (left, top, w, _) = pen.place();
    let room = usize::from(w.saturating_sub(x)).max(1);
    let scroll = input.visual_scroll(room);
    let shown: String = clean(input.value()).chars().skip(scroll).collect();
    pen.put(x, y, &shown, Style::new());
    let at = input.visual_cursor().saturating_sub(scroll).min(usize::from(u16::MAX)) as u16;
    Some((left.saturating_add(x).saturating_add(at), top.saturating_add(y)))
}

/// The first item to draw so that `at` is in sight.
pub(super) fn first(at: usize, rows: usize) -> usize {
    at.saturating_sub(rows.saturating_sub(1))
}

fn picker(picker: &Picker, screen: &mut Screen, pen: &mut Pen) -> Cursor {
    let items = picker.shown();
    let label = picker.items.iter().map(|i| text::width(&i.label)).max().unwrap_or(0).max(6) as u16;
    let figure = picker.items.iter().map(|i| text::width(&i.figure)).max().unwrap_or(0) as u16;
    let about = picker.items.iter().map(|i| text::width(&i.about)).max().unwrap_or(0) as u16;
    let title = format!("{} of {}", picker.title, picker.whose);
    let width = (label + figure + about + 12).max(text::width(&title) as u16 + 6).max(30);
    let height = picker.items.len() as u16 + 3;
    // Where not all of it fits, how far one is.
    let all = usize::from(height) <= usize::from(pen.height());
    let at = (picker.list.at + 1).min(items.len());
    let place = if all { String::new() } else { format!("{at}/{} · ", items.len()) };
    let (mut pen, w, h) = frame(pen, width, height, &title, &format!("{place}Enter sets it"));
    let cursor = field(&mut pen, 2, 0, &picker.list.input);
    pen.put(0, 0, "›", theme::accent());
    let rows = usize::from(h.saturating_sub(1));
    let first = first(picker.list.at, rows);
    let (l, t, ..) = pen.place();
    screen.list = Some((l, t.saturating_add(1), w, h.saturating_sub(1), first));
    for (i, item) in items.iter().enumerate().skip(first).take(rows) {
        let y = (i - first) as u16 + 1;
        let current = picker.current.as_ref() == Some(&item.choice);
        pen.put(2, y, &text::cut(&item.label, usize::from(w.saturating_sub(2))), theme::accent());
        pen.right(3 + label + figure, y, &item.figure, Style::new());
        let x = 5 + label + figure;
        pen.put(x, y, &text::cut(&item.about, usize::from(w.saturating_sub(x))), theme::dim());
        if current {
            pen.put(1, y, theme::NOW, theme::mark());
        }
        if i == picker.list.at {
            pen.put(0, y, theme::CURSOR, Style::new());
            pen.style_row(y, theme::cursor());
        }
    }
    if items.is_empty() {
        pen.put(2, 1, "nothing matches", theme::dim());
    }
    cursor
}

fn help(app: &App, list: &List, screen: &mut Screen, pen: &mut Pen) -> Cursor {
    enum Line {
        Head(Group),
        Item(usize),
    }
    let actions = overlay::actions(list.input.value(), &app.keymap);
    let grouped = list.input.value().trim().is_empty();
    let mut lines = Vec::new();
    let mut group = None;
    for (i, a) in actions.iter().enumerate() {
        if grouped && group != Some(a.spec().group) {
            group = Some(a.spec().group);
            lines.push(Line::Head(a.spec().group));
        }
        lines.push(Line::Item(i));
    }
    let width = pen.width().saturating_sub(4).clamp(20, 110);
    let (mut pen, w, h) = frame(
        pen,
        width,
        pen.height().saturating_sub(2).max(6),
        "Help",
        &format!("{}/{} · type to find · Enter does it · Esc closes", (list.at + 1).min(actions.len()), actions.len()),
    );
    let cursor = field(&mut pen, 2, 0, &list.input);
    pen.put(0, 0, "›", theme::accent());
    let rows = usize::from(h.saturating_sub(1));
    let at = lines.iter().position(|l| matches!(l, Line::Item(i) if *i == list.at)).unwrap_or(0);
    // The heading above the first item is worth a row.
    let first = if list.at == 0 { 0 } else { first(at, rows) };
    if !grouped {
        let (l, t, ..) = pen.place();
        screen.list = Some((l, t.saturating_add(1), w, h.saturating_sub(1), first));
    }
    for (i, line) in lines.iter().enumerate().skip(first).take(rows) {
        let y = (i - first) as u16 + 1;
        match line {
            Line::Head(group) => {
                pen.put(0, y, group.title(), theme::heading());
            }
            Line::Item(item) => {
                let Some(a) = actions.get(*item) else { continue };
                let (text, can) = about(app, *a);
                let style = if can { Style::new() } else { theme::dim() };
                match app.keymap.all_keys_of(*a) {
                    keys if keys.is_empty() => pen.put(2, y, "(no key)", theme::dim()),
                    keys => pen.put(2, y, &keys, theme::accent().patch(style)),
                };
                pen.put(20, y, &text::cut(&text, usize::from(w.saturating_sub(20))), style);
                if *item == list.at {
                    pen.put(0, y, theme::CURSOR, Style::new());
                    pen.style_row(y, theme::cursor());
                }
            }
        }
    }
    if lines.is_empty() {
        pen.put(2, 1, "nothing matches", theme::dim());
    }
    cursor
}

/// What an action does and, where it means nothing now, why; and whether it does.
pub(super) fn about(app: &App, action: action::Action) -> (String, bool) {
    let doc = action.spec().doc;
    match action::when(action, app) {
        Ok(()) => (doc.to_owned(), true),
        Err(why) => (format!("{doc} ({why})"), false),
    }
}

fn prompt(prompt: &Prompt, pen: &mut Pen) -> Cursor {
    let (title, about) = match prompt.asked {
        Asked::Output => ("Convert into", "a folder, or a file that ends in .safetensors (GGUF: .gguf)"),
        Asked::Profile => ("Save the profile as", "a name, or a path that ends in .toml"),
        Asked::Imatrix => ("Importance matrix", "a file of llama.cpp, GGUF or legacy; nothing for none"),
        Asked::MarkRegex => ("Mark names that match", "a regular expression, searched in names: attn.*to_q"),
        Asked::MarkWorst => ("Mark the worst", "how many, by estimated damage"),
        Asked::Rule(_) => ("Rule", "PATTERN=DTYPE[,group_size=N][,svd_rank=N]…, PATTERN=keep, or PATTERN=quantize"),
    };
    let about = prompt.preview.as_deref().unwrap_or(about);
    let width = pen.width().saturating_sub(4).clamp(24, 96);
    let (mut pen, w, _) = frame(pen, width, 4, title, "Enter · Esc");
    pen.put(0, 1, &text::cut(&clean(about), usize::from(w)), theme::dim());
    field(&mut pen, 0, 0, &prompt.input)
}

fn confirm(app: &App, what: Confirm, pen: &mut Pen) -> Cursor {
    let running = app.running_job().map(|j| (j.progress.share() * 100.0).floor()).unwrap_or_default();
    let (title, question, answers) = match what {
        Confirm::StopJob => (
            "Cancel the conversion?",
            format!("It is at {running} %; what it wrote is removed."),
            "Ctrl-c y Enter  cancel it      Esc  let it run",
        ),
        Confirm::QuitWhileConverting if app.another => (
            "Open another model while converting?",
            format!("It is at {running} %; what it wrote is removed."),
            "O  cancel it and go on      Esc  stay",
        ),
        Confirm::QuitWhileConverting => (
            "Quit while converting?",
            format!("It is at {running} %; what it wrote is removed."),
            "q  cancel it and quit      Esc  stay",
        ),
    };
    let (mut pen, w, _) = frame(pen, 60, 5, title, "");
    pen.put(0, 0, &text::cut(&question, usize::from(w)), Style::new());
    pen.put(0, 2, &text::cut(answers, usize::from(w)), theme::accent());
    None
}

/// The command line over the whole width, with nothing beside it and each break escaped, so that what is selected with
/// the mouse is the same command.
fn command(line: &str, scroll: u16, pen: &mut Pen) -> Cursor {
    let (w, h) = (pen.width(), pen.height());
    let mut lines = text::wrap(&clean(line), usize::from(w.saturating_sub(2)));
    let last = lines.len().saturating_sub(1);
    lines.iter_mut().take(last).for_each(|l| l.push_str(" \\"));
    let room = usize::from(h.saturating_sub(3)).max(1);
    let first = usize::from(scroll).min(lines.len().saturating_sub(room));
    let rows = lines.len().min(room) as u16;
    let mut pen = pen.part(0, (h.saturating_sub(rows + 3)) / 2, w, rows + 3);
    pen.clear();
    let more = if lines.len() > room { " · j and k scroll" } else { "" };
    pen.put(0, 0, "The same on the command line", theme::heading());
    for (y, line) in lines.iter().skip(first).take(room).enumerate() {
        pen.put(0, y as u16 + 1, line, theme::accent());
    }
    let about = format!("copied, where the terminal lets programs use the clipboard{more} · y again · Esc closes");
    pen.put(0, rows + 1, &text::cut(&about, usize::from(w)), theme::dim());
    None
}

fn page(app: &App, page: &Page, pen: &mut Pen) -> Cursor {
    let width = pen.width().saturating_sub(4).clamp(20, 92);
    let inner = usize::from(width.saturating_sub(4));
    let mut lines: Vec<(String, Style)> = Vec::new();
    let title = clean(&app.session.model.title).into_owned();
    let output = clean(&page.output.display().to_string()).into_owned();
    let room = inner.saturating_sub(text::width(&title) + 7);
    lines.push((format!("{title}   →   {}", text::cut_left(&output, room.max(8))), theme::heading()));
    let mut warnings = Vec::new();
    match &page.page {
        Err(why) => lines.extend(text::wrap(&clean(why), inner).into_iter().map(|l| (l, theme::bad()))),
        Ok(p) => {
            lines.push((p.loads_with.clone(), theme::dim()));
            lines.push((String::new(), Style::new()));
            table(app, p, inner, &mut lines);
            lines.push((String::new(), Style::new()));
            let said = page.error.as_deref().unwrap_or_default();
            for warning in p.warnings.iter().filter(|w| !said.contains(w.as_str())) {
                warnings.extend(text::wrap(&format!("! {}", clean(warning)), inner));
            }
        }
    }
    let mut foot: Vec<(String, Style)> = Vec::new();
    let occupied = page.page.as_ref().is_ok_and(|p| p.occupied);
    match &page.error {
        _ if page.force => foot.push(("what is there is overwritten (f: do not)".into(), theme::warn())),
        Some(_) if occupied => {
            foot.push(("! not started: something of that name is there (f: overwrite it)".into(), theme::bad()));
        }
        None if occupied => {
            foot.push(("! something of that name is there already (f: overwrite it)".into(), theme::warn()));
        }
        _ => {}
    }
    if let Some(error) = page.error.as_ref().filter(|_| !occupied || page.force) {
        foot.extend(text::wrap(&format!("! {}", clean(error)), inner).into_iter().map(|l| (l, theme::bad())));
    }
    if let Ok(p) = &page.page {
        let free = p.free_bytes.map_or(String::new(), |f| format!(", {} free", units::size(f)));
        let short = p.free_bytes.is_some_and(|f| f < p.file_bytes);
        let style = if short { theme::bad() } else { Style::new() };
        let sign = if short { "! " } else { "" };
        foot.push((format!("{sign}disk: {} needed{free}", units::size(p.file_bytes)), style));
    }
    let wanted = lines.len() + warnings.len() + foot.len() + 4;
    let (mut pen, w, h) = frame(pen, width, wanted.min(usize::from(u16::MAX)) as u16, "Convert", "");
    let h = usize::from(h);
    foot.push((String::new(), Style::new()));
    if wanted > h + 2 {
        lines.retain(|(text, _)| !text.is_empty());
        foot.retain(|(text, _)| !text.is_empty());
    }
    // To overwrite is offered where there is something.
    let all = if occupied || page.force { OVER_KEYS } else { PAGE_KEYS };
    let keys = all.iter().find(|keys| text::width(keys) <= inner).or(all.last()).copied().unwrap_or_default();
    // Where there is no room for all, the keys are what stays, then what stands in the way, then that there are warnings.
    let room = h.saturating_sub(1);
    let in_the_way = foot.iter().filter(|(text, _)| !text.is_empty()).count() - usize::from(page.page.is_ok());
    foot.truncate(room.saturating_sub(usize::from(!warnings.is_empty())).max(in_the_way));
    let room = room.saturating_sub(foot.len());
    let head = room.saturating_sub(warnings.len().min((room / 2).max(1))).min(lines.len());
    if let Some(last) = lines.pop().filter(|_| head > 0) {
        // The total is the last to go, but for where it goes.
        lines.truncate(if head > 1 { head - 1 } else { 1 });
        lines.extend(Some(last).filter(|_| lines.len() < head));
    } else {
        lines.clear();
    }
    let room = room.saturating_sub(lines.len());
    let first = page.scroll.min(warnings.len().saturating_sub(room));
    let more = warnings.len().saturating_sub(first + room);
    let mut shown: Vec<(String, Style)> =
        warnings.into_iter().skip(first).take(room).map(|l| (l, theme::warn())).collect();
    if more > 0
        && let Some(last) = shown.last_mut()
    {
        last.0 = match room {
            1 => format!("(+{more}) {}", last.0),
            _ => format!("! {} more lines: j and k scroll", more + 1),
        };
    }
    for (y, (text, style)) in lines.into_iter().chain(shown).chain(foot).take(h.saturating_sub(1)).enumerate() {
        pen.put(0, y as u16, &text::cut(&text, usize::from(w)), style);
    }
    pen.put(0, h.saturating_sub(1) as u16, &text::cut(keys, usize::from(w)), theme::accent());
    None
}

/// The keys of that page, as fully as there is room.
const PAGE_KEYS: [&str; 4] = [
    "Enter  convert      p  change path      Esc  back",
    "Enter convert · p path · Esc",
    "Enter · p path · Esc",
    "Enter p Esc",
];

/// The same where something would be overwritten.
const OVER_KEYS: [&str; 4] = [
    "Enter  convert      p  change path      f  overwrite      Esc  back",
    "Enter convert · p path · f overwrite · Esc",
    "Enter · p path · f force · Esc",
    "Enter p f Esc",
];

fn table(app: &App, p: &ConvertPage, inner: usize, lines: &mut Vec<(String, Style)>) {
    let what = p.groups.iter().map(|g| text::width(&g.what)).max().unwrap_or(0).clamp(5, 30);
    let put = |what_: &str, tensors: usize, before: u64, after: u64, last: String| {
        let name = text::cut(what_, what);
        let pad = " ".repeat(what.saturating_sub(text::width(&name)));
        let sizes = format!("{:>8} → {:>8}", units::size(before), units::size(after));
        text::cut(&format!("{name}{pad}  {:>13}  {sizes}  {last}", text::tensors(tensors)), inner)
    };
    for g in &p.groups {
        let known = app.losses.relative_error_of(&app.board, &g.rows).map(units::percent);
        let line = |word: &str| {
            let error = known.as_ref().map_or(String::new(), |e| format!("{word}{e}"));
            put(&g.what, g.tensors, g.before, g.after, error)
        };
        // Where it is narrow the word goes, never the figure.
        let full = line("relative error ");
        lines.push((if full.ends_with('…') { line("") } else { full }, Style::new()));
    }
    let t = &app.board.totals;
    let sums = app.losses.sums(&(0..app.session.model.tensors.len()));
    let all = sums.measured > 0 && u64::from(sums.measured) == t.quantized && sums.sampled == 0;
    let error = if all { format!(" · error {}", units::percent(sums.relative_error())) } else { String::new() };
    let total = |more: &str| {
        let bits = format!("{:.2} bits/weight{more}", t.bits_per_weight);
        put("total", t.tensors as usize, t.bytes_before, t.bytes_after, bits)
    };
    let full = total(&error);
    let narrow =
        put("total", t.tensors as usize, t.bytes_before, t.bytes_after, format!("{:.2} bits", t.bits_per_weight));
    let by_width = [full, total(""), narrow];
    let fitting = by_width.iter().find(|l| !l.ends_with('…')).or(by_width.last());
    lines.extend(fitting.map(|l| (l.clone(), theme::heading())));
}
