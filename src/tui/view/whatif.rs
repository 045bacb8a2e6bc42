//! The lines of the what-if table.
use ratatui::style::Style;

use super::pen::Pen;
use crate::core::units;
use crate::tui::whatif::{Choice, Figure};
use crate::tui::{text, theme};

/// Columns of the figures: size, relative error with its sign, and the sign of the best.
const FIGURES: u16 = 8 + 11 + 2;
/// Columns of the MSE, where there is room for it beside a label that tells one line from another.
const MSE: u16 = 10;
const LABEL: u16 = 30;

fn with_mse(w: u16) -> bool {
    w >= FIGURES + MSE + LABEL
}

/// What stands above the figures.
pub fn heading(w: u16) -> &'static str {
    if with_mse(w) { "size       MSE  relative ◂ " } else { "size  relative ◂ " }
}

/// Draws a line: what it is, its size and loss, and whether it is the best of its size. From narrow ones the MSE goes.
pub fn draw(choice: &Choice, y: u16, cursor: Option<Style>, pen: &mut Pen) {
    let w = pen.width();
    let mse = with_mse(w);
    let figures = if mse { FIGURES + MSE } else { FIGURES };
    let names = usize::from(w.saturating_sub(figures + 2));
    if choice.now {
        pen.put(1, y, theme::NOW, theme::mark());
    }
    let label = match choice.partly {
        Some(n) => format!("{} ({n} of them)", choice.label),
        None => choice.label.clone(),
    };
    pen.put(2, y, &text::cut(&label, names), theme::accent());
    let mut x = w.saturating_sub(figures) + 8;
    pen.right(x, y, &units::size_short(choice.bytes), Style::new());
    let dim = theme::dim();
    let (error, relative, sign) = match choice.figure {
        None => (String::new(), theme::WAITING.to_owned(), ""),
        Some(Figure::Failed) => (String::new(), "failed".to_owned(), "!"),
        Some(Figure::Loss { relative_error: 0.0, .. }) => (String::new(), theme::KEPT.to_owned(), ""),
        Some(Figure::Loss { relative_error, mse, sampled }) => {
            (units::error(mse), units::percent(relative_error), if sampled { "~" } else { "" })
        }
    };
    if mse {
        x += MSE;
        pen.right(x, y, &error, dim);
    }
    x += 10;
    pen.right(x, y, &relative, Style::new());
    pen.put(x, y, sign, dim);
    if choice.best {
        pen.put(x + 1, y, theme::BEST, theme::good());
    }
    if let Some(style) = cursor {
        pen.put(0, y, theme::CURSOR, Style::new());
        pen.style_row(y, style);
    }
}
