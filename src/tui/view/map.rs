//! The map of the model: a cell for each matrix, darker the more there is of what is shown.
use ratatui::style::{Color, Modifier, Style};

use super::pen::Pen;
use super::popup::{Cursor, frame};
use super::tree;
use crate::core::name::clean;
use crate::core::units;
use crate::tui::app::{App, Cells, Screen};
use crate::tui::map::{self, Map, Quantity};
use crate::tui::{text, theme};

/// From nothing to the most. The glyph says it; the colour says it finer.
const SHADES: [&str; 5] = ["·", "░", "▒", "▓", "█"];
/// From cool to hot, of the 256 colours.
const HEAT: [u8; 8] = [24, 31, 37, 71, 142, 178, 208, 196];

fn cell(level: f64) -> (&'static str, Style) {
    let pick = |n: usize| ((level * n as f64).ceil() as usize).clamp(0, n);
    let glyph = SHADES[pick(SHADES.len() - 1)];
    let heat = HEAT[pick(HEAT.len()).saturating_sub(1)];
    (glyph, if level > 0.0 { Style::new().fg(Color::Indexed(heat)) } else { theme::dim() })
}

/// Draws it over the whole screen.
pub fn draw(app: &App, map: &Map, screen: &mut Screen, pen: &mut Pen) -> Cursor {
    let (width, height) = (pen.width(), pen.height());
    let keys = "v figure · Enter goes there · Space marks · Esc";
    let foot = if usize::from(width) > text::width(keys) + 8 { keys } else { "Esc" };
    let (mut pen, w, h) = frame(pen, width, height, &format!("Map · {}", map.quantity.word()), foot);
    // The line of blocks above, three lines of what is under the cursor below.
    let (top, below) = (u16::from(h > 4), if h > 6 { 3 } else { 0 });
    let room = h.saturating_sub(top + below);
    let longest = map.kinds.iter().map(|k| text::width(&k.label)).max().unwrap_or(0) as u16;
    let names = longest.min(w * 2 / 5).max(1);
    let across = map.width().max(1);
    let space = usize::from(w.saturating_sub(names + 1));
    let each = (space / across).clamp(1, 3);
    let shown = (space / each).max(1);
    let left = map.at.1.saturating_sub(shown.saturating_sub(1)).min(across.saturating_sub(1));
    let first = map.at.0.saturating_sub(usize::from(room).saturating_sub(1));
    let range = map.range;
    if top > 0 {
        for column in (left..(left + shown).min(across)).filter(|c| c.is_multiple_of(5)) {
            let x = names + 1 + ((column - left) * each) as u16;
            pen.put(x, 0, &column.to_string(), theme::dim());
        }
    }
    let (l, t, ..) = pen.place();
    screen.cells = Some(Cells {
        place: (l.saturating_add(names + 1), t.saturating_add(top), (shown * each) as u16, room),
        each: each as u16,
        first: (first, left),
    });
    for (i, kind) in map.kinds.iter().enumerate().skip(first).take(usize::from(room)) {
        let y = top + (i - first) as u16;
        let style = if i == map.at.0 { theme::heading() } else { Style::new() };
        pen.put(0, y, &text::cut_left(&clean(&kind.label), usize::from(names)), style);
        for (column, id) in kind.cells.iter().enumerate().skip(left).take(shown) {
            let x = names + 1 + ((column - left) * each) as u16;
            let Some(id) = id else { continue };
            let (glyph, mut style) = match map::figure(app, map.quantity, *id) {
                Some(figure) => cell(map::level(map.quantity, figure, range)),
                None => ("?", theme::dim()),
            };
            if app.session.marks.contains(*id) {
                style = style.add_modifier(Modifier::UNDERLINED);
            }
            if (i, column) == map.at {
                style = style.add_modifier(Modifier::REVERSED);
            }
            pen.put(x, y, &glyph.repeat(each.min(2)), style);
        }
    }
    if below > 0 {
        legend(map.quantity, range, h - below, &mut pen);
        under_cursor(app, map, h - below + 1, &mut pen);
    }
    None
}

fn legend(quantity: Quantity, (least, most): (f64, f64), y: u16, pen: &mut Pen) {
    let mut x = 0;
    for i in 0..=8 {
        let (glyph, style) = cell(f64::from(i) / 8.0);
        x = pen.put(x, y, glyph, style);
    }
    let figure = |f: f64| match quantity {
        Quantity::Damage => units::error(f),
        Quantity::Error => units::percent(f),
        Quantity::Bits => format!("{f:.2}"),
    };
    let text = match (quantity, most > 0.0) {
        (Quantity::Bits, _) => "  · none … █ 16 bits".to_owned(),
        (_, false) => "  nothing is measured yet".to_owned(),
        _ => format!("  · kept   ░ {} … █ {}   ? not measured", figure(least), figure(most)),
    };
    pen.put(x, y, &text, theme::dim());
}

fn under_cursor(app: &App, map: &Map, y: u16, pen: &mut Pen) {
    let w = usize::from(pen.width());
    let Some(id) = map.tensor() else {
        pen.put(0, y, "no such layer in this block", theme::dim());
        return;
    };
    let tensor = app.session.model.tensor(id);
    pen.put(0, y, &text::cut_left(&clean(&tensor.name), w), theme::heading());
    let Some(row) = app.board.row(id) else { return };
    let mut facts = vec![tree::shape(&tensor.shape), crate::tui::board::label(row).to_owned()];
    facts.push(units::size(row.bytes_after()));
    facts.extend(map::figure(app, Quantity::Bits, id).map(|b| format!("{b:.2} bits")));
    if row.is_lossy() {
        facts.extend(map::figure(app, Quantity::Error, id).map(|e| format!("error {}", units::percent(e))));
        if let Some((damage, share)) = app.losses.damage(&(id.index()..id.index() + 1)) {
            facts.push(format!(
                "damage {} ({} {}, estimated)",
                units::error(damage),
                units::percent(share),
                app.share_of()
            ));
        }
    }
    pen.put(0, y + 1, &text::cut(&facts.join(" · "), w), Style::new());
}
