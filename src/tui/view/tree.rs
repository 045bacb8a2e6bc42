//! The tree: a row per group and tensor. Columns stand still; the name gives way to them, the least needed first.
use ratatui::style::{Modifier, Style};

use super::pen::Pen;
use crate::core::name::clean;
use crate::core::tree::NodeId;
use crate::core::{TensorId, units};
use crate::tui::app::{App, Focus, Screen};
use crate::tui::board;
use crate::tui::filter::Finder;
use crate::tui::losses::{Known, Quality};
use crate::tui::{text, theme};

/// Widths of the columns beside the name; 0 leaves one out.
struct Columns {
    shape: u16,
    from: u16,
    to: u16,
    size: u16,
    loss: u16,
    damage: u16,
}

/// Makes the columns narrower by one step.
type Narrow = fn(&mut Columns);

impl Columns {
    /// As many as fit beside a name of some width.
    fn fit(app: &App, width: u16) -> Self {
        let to = app.board.label_width.clamp(5, 14) as u16;
        let from = app.board.from_width.clamp(5, 8) as u16;
        let mut c = Self { shape: 12, from: from + 1, to: to + 1, size: 13, loss: 10, damage: DAMAGE + 1 };
        let sum = |c: &Self| c.shape + c.from + c.to + c.size + c.loss + c.damage;
        // A list has whole names, and no groups above them.
        let more = if app.tree.is_list() { 12 } else { 0 };
        let narrower: [(u16, Narrow); 8] = [
            (26 + more, |c| c.from = 0),
            (26 + more, |c| c.size = 7),
            (22 + more, |c| c.shape = 0),
            (14 + more, |c| c.to = c.to.min(8)),
            (14, |c| c.damage = 0),
            (14 + more, |c| c.size = 0),
            (10, |c| c.to = 0),
            (10, |c| c.loss = 0),
        ];
        for (name, narrow) in narrower {
            if sum(&c) + name > width {
                narrow(&mut c);
            }
        }
        c
    }
    fn sum(&self) -> u16 {
        self.shape + self.from + self.to + self.size + self.loss + self.damage
    }
}

/// Draws it.
pub fn draw(app: &App, screen: &mut Screen, pen: &mut Pen) {
    let focused = app.focus == Focus::Tree && app.overlays.is_empty();
    let mut title = "Tensors".to_owned();
    if app.tree.is_list() {
        title.push_str(&format!(" by {}", app.sort.word()));
    }
    if !app.filter.is_empty() {
        title.push_str(&format!(" /{}", clean(&app.filter)));
    }
    let mut foot = format!("{}/{}", app.tree.shown(), app.session.model.tensors.len());
    if !app.session.marks.is_empty() {
        foot.push_str(&format!(" · {} marked", app.session.marks.len()));
    }
    let mut inside = pen.framed(&title, theme::frame(focused), theme::heading());
    let w = inside.width();
    let columns = Columns::fit(app, w);
    let titles = u16::from(inside.height() >= 4);
    if titles > 0 {
        heads(&columns, &mut inside.part(0, 0, w, 1));
    }
    let h = inside.height().saturating_sub(titles);
    let mut rows = inside.part(0, titles, w, h);
    screen.tree = rows.place();
    screen.page = usize::from(h).max(1);
    screen.offset = offset(screen.offset, app.cursor, screen.page, app.tree.visible().len());
    let mut finder = Finder::default();
    for y in 0..h {
        let at = screen.offset + usize::from(y);
        let Some(node) = app.tree.visible().get(at) else { break };
        row(app, &columns, *node, &mut finder, &mut rows.part(0, y, w, 1));
        if at == app.cursor {
            rows.put(0, y, theme::CURSOR, Style::new());
            rows.style_row(y, if app.focus == Focus::Tree { theme::cursor() } else { theme::cursor_away() });
        }
    }
    if app.tree.visible().is_empty() {
        let why = if app.tree.filtered() { "no name matches" } else { "no tensors" };
        rows.put(2, 0, why, theme::dim());
    }
    pen.footnote(&foot, theme::dim());
}

/// The first row to draw: the cursor stays inside, and nothing is scrolled past the end.
fn offset(old: usize, cursor: usize, page: usize, rows: usize) -> usize {
    let margin = (page / 6).min(3);
    let low = cursor.saturating_add(margin + 1).saturating_sub(page);
    let high = cursor.saturating_sub(margin);
    old.max(low).min(high).min(rows.saturating_sub(page))
}

fn heads(c: &Columns, pen: &mut Pen) {
    let mut x = pen.width().saturating_sub(c.sum());
    pen.put(2, 0, "name", theme::dim());
    for (width, title, right) in [
        (c.shape, "shape", false),
        (c.from, "from", false),
        (c.to, "to", false),
        (c.size, "size", true),
        (c.loss, "error ", true),
        (c.damage, "damage", false),
    ] {
        if width > 0 {
            if right {
                pen.right(x + width - 1, 0, title, theme::dim());
            } else {
                pen.put(x, 0, title, theme::dim());
            }
        }
        x += width;
    }
}

fn row(app: &App, c: &Columns, node: NodeId, finder: &mut Finder, pen: &mut Pen) {
    let range = app.tree.range(node);
    let tensor = app.tree.tensor(node);
    let names = pen.width().saturating_sub(c.sum()).saturating_sub(1);
    mark(app, node, pen);
    name(app, node, finder, &mut pen.part(2, 0, names.saturating_sub(2), 1));

    let mut x = pen.width().saturating_sub(c.sum());
    let dim = theme::dim();
    if c.shape > 0 {
        let shape = match tensor {
            Some(id) => shape(&app.session.model.tensor(id).shape),
            None => text::tensors(range.len()),
        };
        pen.put(x, 0, &text::cut(&shape, usize::from(c.shape) - 1), dim);
        x += c.shape;
    }
    if c.from > 0 {
        pen.put(x, 0, &text::cut(app.board.is(&range).unwrap_or("mixed"), usize::from(c.from) - 1), dim);
        x += c.from;
    }
    let to = app.board.becomes(&range).unwrap_or("mixed");
    if c.to > 0 {
        let style = if to == board::KEEP { dim } else { theme::accent() };
        pen.put(x, 0, &text::cut(to, usize::from(c.to) - 1), style);
        x += c.to;
    }
    if c.size > 0 {
        let (before, after) = (app.board.before(&range), app.board.after(&range));
        let then = units::size_short(after);
        let text =
            if before == after || c.size < 13 { then } else { format!("{}→{then:>5}", units::size_short(before)) };
        x += c.size;
        pen.right(x - 1, 0, &text, Style::new());
    }
    if c.loss > 0 {
        x += c.loss;
        let (figure, sign, style) = loss(app, node);
        pen.right(x - 2, 0, &figure, style);
        pen.put(x - 2, 0, sign, style);
    }
    if c.damage > 0
        && let Some((_, share)) = app.losses.damage(&range)
    {
        pen.put(x, 0, &bar(share), theme::accent());
    }
}

/// Columns of the bar of damage.
const DAMAGE: u16 = 6;
/// The share of the whole at which it is empty; decades from there to all of it are of equal length.
const LEAST: f64 = 1e-4;

/// A share of the whole on a log scale. The inspector has the figure.
fn bar(share: f64) -> String {
    let length = if share > LEAST { 1.0 - share.log10() / LEAST.log10() } else { 0.0 };
    let eighths = (length.min(1.0) * f64::from(DAMAGE) * 8.0).round() as usize;
    let mut out = theme::LEFT_EIGHTHS[8].repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        out.push_str(theme::LEFT_EIGHTHS[eighths % 8]);
    }
    out
}

/// The relative error, and the sign that says how far to trust it.
fn loss(app: &App, node: NodeId) -> (String, &'static str, Style) {
    let range = app.tree.range(node);
    if app.board.quantized(&range) == 0 {
        return (theme::KEPT.into(), " ", theme::dim());
    }
    let waiting = |id| app.board.row(id).is_some_and(|r| app.asked.get(&r.name) == Some(&r.action));
    // Of what is cut into several, all of them together.
    let one = |id: &TensorId| app.board.measured_with(*id).nth(1).is_none();
    if let Some(id) = app.tree.tensor(node).filter(one) {
        return match app.board.index(id).and_then(|i| app.losses.of_row(i)) {
            Some(Known::Loss(loss, quality)) => {
                let sign = if *quality == Quality::Sampled { "~" } else { " " };
                (units::percent(loss.relative_error), sign, shade(loss.relative_error))
            }
            Some(Known::Failed(_)) => ("failed".into(), "!", theme::bad()),
            None if waiting(id) => ("…".into(), " ", theme::dim()),
            None => (String::new(), " ", Style::new()),
        };
    }
    let sums = app.losses.sums(&range);
    if sums.failed > 0 {
        return ("failed".into(), "!", theme::bad());
    }
    if sums.measured == 0 {
        return (String::new(), " ", Style::new());
    }
    let all = sums.measured as usize >= app.board.lossy(&range) && sums.sampled == 0;
    let relative = sums.relative_error();
    (units::percent(relative), if all { " " } else { "~" }, shade(relative))
}

/// The figure says it; the colour helps to find the worst.
fn shade(relative: f64) -> Style {
    match relative {
        r if r >= 0.02 => theme::bad(),
        r if r >= 0.002 => theme::warn(),
        _ => Style::new(),
    }
}

fn mark(app: &App, node: NodeId, pen: &mut Pen) {
    let range = app.tree.range(node);
    let marked = app.session.marks.count_in(range.clone());
    if marked > 0 {
        pen.put(1, 0, if marked == range.len() { theme::MARKED } else { theme::PARTLY }, theme::mark());
    }
}

fn name(app: &App, node: NodeId, finder: &mut Finder, pen: &mut Pen) {
    let model = &app.session.model;
    let indent = (app.tree.depth(node) * 2).min(usize::from(pen.width()) / 2) as u16;
    let glyph = match (app.tree.tensor(node), app.tree.is_open(node)) {
        (Some(_), _) => " ",
        (None, true) => theme::OPENED,
        (None, false) => theme::CLOSED,
    };
    let x = pen.put(indent, 0, glyph, theme::dim());
    let label = app.tree.label(node, model);
    let room = usize::from(pen.width().saturating_sub(x + 1));
    let label_ = clean(label);
    // Of a whole name the end tells more; the tree has what stands before it above.
    let shown = if app.tree.is_list() { text::cut_left(&label_, room) } else { text::cut(&label_, room) };
    let style = if app.tree.tensor(node).is_none() { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
    pen.put(x + 1, 0, &shown, style);
    let (Some(query), Some(id)) = (&app.query, app.tree.tensor(node)) else { return };
    let full = &model.tensor(id).name;
    let mut before = full.chars().count().saturating_sub(label.chars().count());
    if app.tree.is_list() {
        before += label.chars().count().saturating_sub(shown.chars().count());
    }
    let letters = finder.letters(query, full);
    let mut at = x + 1;
    for (i, c) in shown.chars().enumerate() {
        let one = c.to_string();
        let end = at.saturating_add(text::width(&one) as u16);
        if letters.binary_search(&((before + i) as u32)).is_ok() && c != '…' {
            pen.put(at, 0, &one, style.patch(theme::found()));
        }
        at = end;
    }
}

/// `3072×3072`; a scalar is `scalar`.
pub fn shape(shape: &[u64]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_of_damage() {
        fn check(share: f64, expected: &str) {
            assert_eq!(bar(share), expected, "{share}");
        }
        check(1.0, "██████");
        check(0.1, "████▌");
        check(0.01, "███");
        check(0.001, "█▌");
        check(0.0001, "");
        check(0.0, "");
    }

    #[test]
    fn the_cursor_stays_in_sight() {
        fn check(old: usize, cursor: usize, page: usize, rows: usize, new: usize) {
            let at = offset(old, cursor, page, rows);
            assert_eq!(at, new);
            assert!(at <= cursor && cursor < at + page);
        }
        check(0, 0, 10, 100, 0);
        check(0, 9, 10, 100, 1);
        check(50, 20, 10, 100, 19);
        check(95, 99, 10, 100, 90);
        check(0, 0, 1, 1, 0);
        check(7, 2, 10, 3, 0);
    }
}
