//! Two sets of choices side by side.
use ratatui::style::Style;

use super::pen::Pen;
use super::popup::{Cursor, first, frame};
use crate::core::name::clean;
use crate::core::units;
use crate::tui::app::{App, Screen};
use crate::tui::diff::{Against, DiffPage, Line, Side};
use crate::tui::losses::Sums;
use crate::tui::{text, theme};

/// Lines of the two sides with their heading and the line below.
const HEAD: u16 = 5;

/// Draws it.
pub fn draw(app: &App, page: &DiffPage, screen: &mut Screen, pen: &mut Pen) -> Cursor {
    let width = pen.width().saturating_sub(2).clamp(20, 110);
    let (title, then) = match page.against {
        Against::Saved if app.session.profile.name.is_some() && app.session.history().saved_at().is_some() => {
            ("What differs from the saved profile", "saved")
        }
        Against::Saved => ("What differs from the beginning", "then"),
        Against::Pinned => ("What differs from what was pinned", "pinned"),
    };
    let keys = "Enter marks these · Tab other side · Esc closes";
    let list = page.changes.len() + if page.text.is_empty() { 0 } else { page.text.len() + 2 };
    let height = (list.max(1).min(usize::from(u16::MAX) / 2) as u16).saturating_add(HEAD + 3);
    let (mut pen, w, h) = frame(pen, width, height, title, keys);
    side(then, &page.sides.0, 1, &mut pen);
    side("now", &page.sides.1, 2, &mut pen);
    pen.put(10, 0, "size", theme::dim());
    pen.put(22, 0, "bits", theme::dim());
    pen.put(32, 0, "error", theme::dim());
    pen.put(44, 0, "damage, estimated", theme::dim());
    if page.changes.is_empty() {
        pen.put(0, HEAD - 1, "nothing: every tensor is treated as before", theme::dim());
    } else {
        pen.put(2, HEAD - 1, &text::cut("what changes", usize::from(w)), theme::heading());
    }
    let rows = usize::from(h.saturating_sub(HEAD));
    let start = first(page.at, rows);
    let (l, t, ..) = pen.place();
    screen.list = Some((l, t.saturating_add(HEAD), w, h.saturating_sub(HEAD), start));
    for (i, c) in page.changes.iter().enumerate().skip(start).take(rows) {
        let y = HEAD + (i - start) as u16;
        let what = format!("{} → {}", c.labels.0, c.labels.1);
        let sizes = format!("{:>6} → {:>6}", units::size_short(c.bytes.0), units::size_short(c.bytes.1));
        let n = c.ids.len();
        let errors = format!("{:>8} → {:>8}", error(&c.sums.0, n), error(&c.sums.1, n));
        let damage = format!("{:>8} → {:>8}", damage(&c.sums.0, n), damage(&c.sums.1, n));
        let mut right = format!("{:>13}  {sizes}  {errors}", text::tensors(c.ids.len()));
        if usize::from(w) > 2 + 24 + text::width(&right) + 2 + text::width(&damage) {
            right = format!("{right}  {damage}");
        }
        let room = usize::from(w).saturating_sub(text::width(&right) + 4);
        let x = if room >= 12 { pen.put(2, y, &text::cut(&what, room), theme::accent()) } else { 0 };
        if room >= 12 {
            pen.right(w, y, &right, Style::new());
        } else {
            pen.put(x + 2, y, &text::cut(&format!("{what}  {sizes}"), usize::from(w.saturating_sub(2))), Style::new());
        }
        if i == page.at {
            pen.put(0, y, theme::CURSOR, Style::new());
            pen.style_row(y, theme::cursor());
        }
    }
    let mut y = HEAD + page.changes.len().saturating_sub(start).min(usize::from(h)) as u16 + 1;
    if !page.text.is_empty() && y < h {
        pen.put(0, y, "the profile's text", theme::heading());
        // What lies below the frame is not drawn.
        for (kind, line) in page.text.iter().take(usize::from(h.saturating_sub(y + 1))) {
            y += 1;
            let (sign, style) = match kind {
                Line::New => ("+ ", theme::good()),
                Line::Lost => ("- ", theme::bad()),
                Line::Heading => ("  ", theme::dim()),
            };
            let x = pen.put(2, y, sign, style);
            pen.put(x, y, &text::cut(&clean(line), usize::from(w.saturating_sub(x))), style);
        }
    }
    None
}

fn side(name: &str, side: &Side, y: u16, pen: &mut Pen) {
    pen.put(0, y, name, theme::heading());
    pen.put(10, y, &units::size(side.totals.bytes_after), Style::new());
    pen.put(22, y, &format!("{:.2}", side.totals.bits_per_weight), Style::new());
    let n = side.totals.quantized as usize;
    pen.put(32, y, &error(&side.sums, n), Style::new());
    let x = pen.put(44, y, &damage(&side.sums, n), Style::new());
    if (side.sums.measured as usize) < n {
        pen.put(x + 2, y, &format!("{} of {n} measured", side.sums.measured), theme::dim());
    }
}

fn error(sums: &Sums, of: usize) -> String {
    figure(sums, of, units::percent(sums.relative_error()))
}

fn damage(sums: &Sums, of: usize) -> String {
    figure(sums, of, units::error(sums.damage))
}

/// A sum once everything in it is known; until then how much is. `~` says that some of it is from samples.
fn figure(sums: &Sums, of: usize, text: String) -> String {
    match sums.measured as usize {
        0 if of > 0 => "?".into(),
        n if n < of => format!("{n}/{of}"),
        _ if sums.sampled > 0 => format!("{text}~"),
        _ => text,
    }
}
