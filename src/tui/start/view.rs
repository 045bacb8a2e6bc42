//! What the start screen looks like: a text, one list with headings, what is wrong, and the keys.
use ratatui::Frame;
use ratatui::style::Style;

use super::item::{Item, Section};
use super::state::{Screen, Start, haystack};
use crate::core::name::clean;
use crate::core::units;
use crate::tui::app::SMALLEST;
use crate::tui::filter::Finder;
use crate::tui::view::pen::Pen;
use crate::tui::{text, theme};

/// Draws everything.
pub fn draw(start: &mut Start, frame: &mut Frame) {
    let area = frame.area();
    let mut screen = std::mem::take(&mut start.screen);
    let cursor = all(start, &mut screen, &mut Pen::new(frame.buffer_mut(), area));
    start.screen = screen;
    if let Some((x, y)) = cursor.filter(|(x, y)| *x < area.width && *y < area.height) {
        frame.set_cursor_position((x, y));
    }
}

fn all(start: &Start, screen: &mut Screen, pen: &mut Pen) -> Option<(u16, u16)> {
    let (w, h) = (pen.width(), pen.height());
    screen.list = (0, 0, 0, 0);
    screen.lines.clear();
    if w < SMALLEST.0 || h < SMALLEST.1 {
        pen.put(0, 0, &format!("needs {}×{}", SMALLEST.0, SMALLEST.1), Style::new());
        return None;
    }
    let top = u16::from(h >= 10);
    if top > 0 {
        let x = pen.put(1, 0, "mixdown", theme::heading());
        pen.put(x + 2, 0, "a mixing desk for model weights", theme::dim());
    }
    let note = note(start, usize::from(w.saturating_sub(2)), usize::from(h / 3).max(1));
    let below = (note.len() as u16).max(1);
    let body = h.saturating_sub(top + below);
    let cursor = list(start, screen, &mut pen.part(0, top, w, body));
    let mut bottom = pen.part(0, top + body, w, below);
    for (y, line) in note.iter().enumerate() {
        bottom.put(1, y as u16, line, if start.note.is_some() { theme::bad() } else { Style::new() });
    }
    if note.is_empty() {
        hints(start, &mut bottom);
    }
    cursor
}

/// What is wrong, whole, or what is being waited for.
fn note(start: &Start, width: usize, most: usize) -> Vec<String> {
    let text = match (&start.note, &start.opening) {
        (Some(why), _) => format!("! {}", clean(why)),
        (None, Some((_, name))) => format!("opening {} · Esc stops waiting", clean(name)),
        (None, None) => return Vec::new(),
    };
    let mut lines = text::wrap(&text, width);
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = text::cut(&format!("{last}…"), width);
        }
    }
    lines
}

/// The frame with the text and the rows; where the text cursor is.
fn list(start: &Start, screen: &mut Screen, pen: &mut Pen) -> Option<(u16, u16)> {
    let (w, h) = (pen.width(), pen.height());
    let columns = Columns::new(start, usize::from(w.saturating_sub(2)));
    pen.framed("Open a model", Style::new(), theme::heading());
    // Where there is no room for every row's place, there is for that of one.
    let place = start.current().filter(|i| columns.place == 0 && !i.place.is_empty()).map(|i| clean(&i.place));
    let foot = match place {
        Some(place) => text::cut_left(&place, usize::from(w).saturating_sub(5)),
        None if start.looking.is_empty() => String::new(),
        None => "looking around…".to_owned(),
    };
    pen.footnote(&foot, theme::dim());
    let mut inner = pen.part(1, 1, w.saturating_sub(2), h.saturating_sub(2));
    let w = inner.width();
    inner.put(0, 0, " ›", theme::accent());
    let cursor = field(start, &mut inner.part(3, 0, w.saturating_sub(4), 1));
    let rows = inner.height().saturating_sub(1);
    let mut part = inner.part(0, 1, w, rows);
    let lines = lines(start);
    let at = lines.iter().position(|l| *l == Line::Item(start.at)).unwrap_or(0);
    let rows = usize::from(rows);
    // The heading above the first row of a section comes into sight with it.
    let from = at.saturating_sub(usize::from(at > 0 && matches!(lines.get(at - 1), Some(Line::Head(_)))));
    screen.offset = screen.offset.min(from).max((at + 1).saturating_sub(rows)).min(lines.len().saturating_sub(rows));
    screen.list = part.place();
    let shown = lines.iter().skip(screen.offset).take(rows);
    for (y, line) in shown.enumerate() {
        let y = y as u16;
        screen.lines.push(match line {
            Line::Item(i) => Some(*i),
            Line::Head(_) | Line::Word(_) => None,
        });
        match line {
            Line::Head(section) => {
                part.put(1, y, section.title(), theme::heading());
            }
            Line::Word(word) => {
                part.put(3, y, &text::cut(word, usize::from(w.saturating_sub(3))), theme::dim());
            }
            Line::Item(i) => {
                let Some(item) = start.shown.get(*i) else { continue };
                row(start, item, &columns, &mut part, y);
                if *i == start.at {
                    part.put(0, y, theme::CURSOR, Style::new());
                    part.style_row(y, theme::cursor());
                }
            }
        }
    }
    cursor
}

#[derive(Debug, PartialEq)]
enum Line {
    Head(Section),
    Item(usize),
    Word(String),
}

fn lines(start: &Start) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut section = None;
    for (i, item) in start.shown.iter().enumerate() {
        if section.replace(item.section) != Some(item.section) {
            lines.push(Line::Head(item.section));
        }
        lines.push(Line::Item(i));
    }
    if start.shown.is_empty() && start.is_path() {
        lines.push(Line::Word(match &start.folder {
            Some((_, Some(Err(why)))) => clean(why).into_owned(),
            Some((_, None)) | None => "…".into(),
            Some((_, Some(Ok(_)))) => "no model and no folder of that name here; Enter opens it as it is typed".into(),
        }));
    }
    lines
}

fn field(start: &Start, pen: &mut Pen) -> Option<(u16, u16)> {
    let (left, top, w, _) = pen.place();
    let input = &start.input;
    if input.value().is_empty() {
        let hint = "type to find one; a path begins with / or ~ or ./";
        pen.put(0, 0, &text::cut(hint, usize::from(w)), theme::dim());
        return Some((left, top));
    }
    let scroll = input.visual_scroll(usize::from(w).max(1));
    // Scrolled by columns, not by characters: wide ones count twice.
    let mut skipped = 0;
    let cleaned = clean(input.value()).into_owned();
    let shown: String = cleaned
        .chars()
        .skip_while(|c| {
            let skip = skipped < scroll;
            skipped += if skip { text::width(c.encode_utf8(&mut [0; 4])) } else { 0 };
            skip
        })
        .collect();
    pen.put(0, 0, &shown, Style::new());
    let at = input.visual_cursor().saturating_sub(scroll).min(usize::from(w)) as u16;
    Some((left.saturating_add(at), top))
}

/// How wide the parts of a row are, from the left: name, place, profile, format, size, when.
struct Columns {
    name: usize,
    place: usize,
    profile: usize,
    format: usize,
    size: usize,
    when: usize,
}

impl Columns {
    fn new(start: &Start, width: usize) -> Self {
        let most = |f: &dyn Fn(&Item) -> usize| start.shown.iter().map(f).max().unwrap_or(0);
        // What goes first where it is narrow: the place, when, the format, the profile, the size.
        let given = |at_least: usize, columns: usize| if width >= at_least { columns } else { 0 };
        let size = given(34, if most(&|i| usize::from(i.bytes.is_some())) > 0 { 6 } else { 0 });
        let profile = given(44, most(&|i| profile(i).map_or(0, |p| text::width(&p))).min(22));
        let format = given(54, most(&|i| text::width(&i.format)).min(11));
        let when = given(66, most(&|i| text::width(&i.when)).min(14));
        let gaps = [profile, format, size, when].iter().filter(|c| **c > 0).count() * 2;
        let room = width.saturating_sub(4 + gaps + profile + format + size + when);
        let longest = most(&|i| text::width(&i.name));
        let place = if room >= 34 { most(&|i| text::width(&i.place)) } else { 0 };
        let name = longest.min(if place > 0 { (room * 3 / 5).max(room.saturating_sub(place + 2)) } else { room });
        let place = place.min(room.saturating_sub(name + 2));
        Self { name, place, profile, format, size, when }
    }
}

fn profile(item: &Item) -> Option<String> {
    let name = item.profile.as_ref()?;
    // Of a path the last part is what a person calls it.
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    Some(format!("with {}", clean(name)))
}

fn row(start: &Start, item: &Item, c: &Columns, pen: &mut Pen, y: u16) {
    let style = if item.missing { theme::dim() } else { Style::new() };
    let hits = match &start.query {
        Some(query) => Finder::default().letters(query, &haystack(item)),
        None => Vec::new(),
    };
    let name: Vec<char> = clean(&item.name).chars().collect();
    let shown = text::cut(&clean(&item.name), c.name);
    letters(pen, 3, y, &shown, &|i| hits.contains(&(i as u32)), style);
    let mut x = 3 + c.name;
    if c.place > 0 {
        let whole = clean(&item.place);
        // Of a path the end tells more; of a sentence the beginning.
        let is_path = whole.contains(['/', '\\']);
        let shown = if is_path { text::cut_left(&whole, c.place) } else { text::cut(&whole, c.place) };
        let gone = if is_path { whole.chars().count() - shown.chars().count() } else { 0 };
        let found = |i: usize| hits.contains(&((name.len() + 1 + gone + i) as u32)) && (gone == 0 || i > 0);
        letters(pen, (x + 2) as u16, y, &shown, &found, theme::dim());
        x += 2 + c.place;
    }
    // Figures stand at the right edge, whatever the names are.
    let width = usize::from(pen.width()).saturating_sub(1);
    let right = [c.profile, c.format, c.size, c.when];
    let mut x = x.max(width.saturating_sub(right.iter().filter(|w| **w > 0).map(|w| w + 2).sum()));
    if item.missing {
        let room = usize::from(pen.width()).saturating_sub(x + 2);
        pen.put((x + 2) as u16, y, &text::cut("not there any more", room), style);
        return;
    }
    let mut put = |text: &str, width: usize, right: bool, style: Style| {
        if width > 0 {
            let text = text::cut(text, width);
            let at = x + 2 + if right { width - text::width(&text).min(width) } else { 0 };
            pen.put(at as u16, y, &text, style);
            x += 2 + width;
        }
    };
    put(&profile(item).unwrap_or_default(), c.profile, false, theme::accent());
    put(&clean(&item.format), c.format, false, Style::new());
    put(&item.bytes.map(units::size_short).unwrap_or_default(), c.size, true, Style::new());
    put(&item.when, c.when, true, theme::dim());
}

/// Writes a text, with the letters that a filter found.
fn letters(pen: &mut Pen, x: u16, y: u16, text: &str, found: &dyn Fn(usize) -> bool, style: Style) {
    let mut x = x;
    for (i, c) in text.chars().enumerate() {
        let style = if found(i) { style.patch(theme::found()) } else { style };
        x = pen.put(x, y, c.encode_utf8(&mut [0; 4]), style);
    }
}

fn hints(start: &Start, pen: &mut Pen) {
    let mut hints: Vec<(&str, String)> = Vec::new();
    let item = start.current();
    match item {
        Some(i) if i.enter.is_some() => hints.push(("Enter", "goes in".into())),
        Some(i) if i.missing => {}
        Some(i) => match profile(i) {
            Some(with) => {
                hints.push(("Enter", format!("opens it {with}")));
                hints.push(("Ctrl-o", "without".into()));
            }
            None => hints.push(("Enter", "opens it".into())),
        },
        None => {}
    }
    let can_choose = item.is_some_and(|i| !i.missing && (i.last.is_some() || !start.profiles.is_empty()));
    if start.is_path() {
        hints.push(("Tab", "completes".into()));
    } else if can_choose {
        let word = if item.is_some_and(|i| i.profile.is_none()) { "with a profile" } else { "another profile" };
        hints.push(("Tab", word.into()));
    }
    let esc = match (start.input.value().is_empty(), start.back) {
        (false, _) => "clears",
        (true, true) => "goes back",
        (true, false) => "quits",
    };
    hints.push(("Esc", esc.into()));
    let mut x = 1;
    for (key, word) in hints {
        if usize::from(x) + text::width(key) + 1 + text::width(&word) > usize::from(pen.width()) {
            break;
        }
        x = pen.put(x, 0, key, theme::accent());
        x = pen.put(x + 1, 0, &word, theme::dim()) + 3;
    }
}
