//! The rules' page: a row for each rule in the order in which they speak, and below them the reason of the one under the
//! cursor.
use ratatui::style::Style;

use super::pen::Pen;
use super::popup::{Cursor, first, frame};
use crate::core::Rule;
use crate::core::name::clean;
use crate::tui::app::{App, Screen};
use crate::tui::overlay::{Line, RulesPage};
use crate::tui::update::rules;
use crate::tui::{text, theme};

/// Lines of the reason, with the one above them.
const BELOW: u16 = 3;

/// What a line says, whether it holds, and why it is there.
struct Row<'a> {
    whose: &'static str,
    says: String,
    pattern: String,
    enabled: Option<bool>,
    reason: Option<&'a str>,
}

fn row(app: &App, line: Line) -> Row<'_> {
    let s = app.session.settings();
    let pattern =
        rules::pattern(app.session.settings(), line).map(|p| clean(p.as_str()).into_owned()).unwrap_or_default();
    let of = |whose, rule: Option<&'_ Rule>| (whose, rule.map_or(String::new(), |r| rules::write(&r.patch)));
    let (whose, says) = match line {
        Line::Preset(i) => of("preset", s.preset.get(i)),
        Line::Include(_) => ("only", "quantize".into()),
        Line::Exclude(_) => ("exclude", rules::KEEP.into()),
        Line::Rule(i) => of("rule", s.rules.get(i)),
        Line::ByHand => ("by hand", String::new()),
    };
    let rule = match line {
        Line::Preset(i) => s.preset.get(i),
        Line::Rule(i) => s.rules.get(i),
        _ => None,
    };
    let pattern = if line == Line::ByHand { "set by hand, tensor by tensor".into() } else { pattern };
    Row { whose, says, pattern, enabled: rule.map(|r| r.enabled), reason: rule.and_then(|r| r.reason.as_deref()) }
}

/// Draws it.
pub fn draw(app: &App, page: &RulesPage, screen: &mut Screen, pen: &mut Pen) -> Cursor {
    let lines = rules::lines(app.session.settings());
    let rows: Vec<Row> = lines.iter().map(|line| row(app, *line)).collect();
    let width = pen.width().saturating_sub(4).clamp(20, 116);
    let height = (rows.len().max(1).min(usize::from(u16::MAX) / 2) as u16) + 1 + BELOW + 2;
    let title = match &app.session.settings().preset_name {
        Some(name) => format!("Rules · later ones win, what keeps a layer stays · preset {}", clean(name)),
        None => "Rules · later ones win, what keeps a layer stays".to_owned(),
    };
    let keys = [
        "Space on/off · n new · e edit · x remove · J K order · Enter shows · Esc",
        "Space on/off · n new · e edit · x remove · J K · Enter",
        "Space n e x J K Enter Esc",
    ];
    let foot = keys.iter().find(|k| usize::from(width) > text::width(k) + 4).copied().unwrap_or_default();
    let (mut pen, w, h) = frame(pen, width, height, &title, foot);
    let below = if h > BELOW { BELOW } else { 0 };
    let top = u16::from(h > BELOW + 2);
    let room = usize::from(h - below - top);
    let first = first(page.at, room);
    let (l, t, ..) = pen.place();
    screen.list = Some((l, t.saturating_add(top), w, h - below - top, first));
    // Whose, the pattern, what it says, how many it matches and decides.
    let says = rows.iter().map(|r| text::width(&r.says)).max().unwrap_or(0).clamp(4, 24);
    // The counts are the last to go.
    let says = says.min(usize::from(w).saturating_sub(14 + 2 + 18 + 8)).max(4);
    let longest = rows.iter().map(|r| text::width(&r.pattern)).max().unwrap_or(0).max(7);
    let fixed = 14 + 2 + says + 9 + 9;
    let pattern = longest.min(usize::from(w).saturating_sub(fixed).max(8));
    let ends = [14 + pattern + 2, 14 + pattern + 2 + says + 9, 14 + pattern + 2 + says + 18].map(|x| x as u16);
    if top > 0 {
        for (x, word) in [(2, "on"), (6, "whose"), (14, "pattern"), (ends[0], "says")] {
            pen.put(x, 0, word, theme::dim());
        }
        pen.right(ends[1], 0, "matches", theme::dim());
        pen.right(ends[2], 0, "decides", theme::dim());
    }
    if rows.is_empty() {
        pen.put(2, top, "no rules yet: n makes one, or mark tensors and generalise", theme::dim());
    }
    for (i, row) in rows.iter().enumerate().skip(first).take(room) {
        let y = top + (i - first) as u16;
        let (matched, decided) = page.counts.get(i).copied().unwrap_or_default();
        let style = if row.enabled == Some(false) || matched == 0 { theme::dim() } else { Style::new() };
        let mark = match row.enabled {
            Some(true) => "[x]",
            Some(false) => "[ ]",
            None => "",
        };
        pen.put(2, y, mark, style);
        pen.put(6, y, row.whose, theme::dim());
        pen.put(14, y, &text::cut(&row.pattern, pattern), theme::accent().patch(style));
        pen.put(ends[0], y, &text::cut(&row.says, says), style);
        pen.right(ends[1], y, &matched.to_string(), style);
        pen.right(ends[2], y, &decided.to_string(), style);
        if i == page.at {
            pen.put(0, y, theme::CURSOR, Style::new());
            pen.style_row(y, theme::cursor());
        }
    }
    if let (Some(row), true) = (rows.get(page.at), below > 0) {
        let (matched, decided) = page.counts.get(page.at).copied().unwrap_or_default();
        let state = if row.enabled == Some(false) { "off · " } else { "" };
        let why = row.reason.map(|why| clean(why).into_owned());
        let facts = why.unwrap_or_else(|| format!("matches {}, decides {decided}", text::tensors(matched)));
        let facts = format!("{state}{facts}");
        let lines = text::wrap(&facts, usize::from(w));
        let last = usize::from(BELOW) - 1;
        for (y, line) in lines.iter().take(last).enumerate() {
            let more = if y + 1 == last && lines.len() > last { "…" } else { "" };
            pen.put(0, h - below + 1 + y as u16, &text::cut(&format!("{line}{more}"), usize::from(w)), theme::dim());
        }
    }
    None
}
