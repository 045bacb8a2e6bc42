//! A histogram of columns in eighths of a cell, with its axis below.
use super::pen::Pen;
use crate::core::histogram::Histogram;
use crate::core::profile::{peaks, worst};
use crate::tui::app::Scale;
use crate::tui::text;
use crate::tui::theme;

/// Draws it over the whole rectangle.
pub fn draw(histogram: &Histogram, title: &str, scale: Scale, pen: &mut Pen) {
    let (w, h) = (pen.width(), pen.height());
    if w < 8 || h < 2 {
        return;
    }
    pen.put(0, 0, &format!("{title}{}", scale.word()), theme::heading());
    let Some((low, high)) = histogram.range() else {
        pen.put(0, 1, "no values", theme::dim());
        return;
    };
    // Around zero, so that two tensors, and weights and errors, can be compared at a glance.
    let reach = low.abs().max(high.abs());
    if reach == 0.0 {
        pen.put(0, 1, "all zero", theme::dim());
        return;
    }
    let bars = h.saturating_sub(2);
    let counts = histogram.columns(-reach, reach, usize::from(w));
    let scaled = |count: f64| match scale {
        Scale::Root => count.sqrt(),
        Scale::Linear => count,
        Scale::Log => count.ln_1p(),
    };
    let most = scaled(counts.iter().copied().fold(0.0, f64::max));
    for (x, count) in counts.iter().enumerate() {
        let full = f64::from(bars) * 8.0;
        let mut eighths = if most > 0.0 { (scaled(*count) / most * full).round() as usize } else { 0 };
        if *count > 0.0 {
            eighths = eighths.max(1);
        }
        for row in 0..bars {
            let here = eighths.saturating_sub(usize::from(row) * 8).min(8);
            if here > 0 {
                pen.put(x as u16, h - 2 - row, theme::EIGHTHS[here], theme::accent());
            }
        }
    }
    pen.put(0, h - 1, &edge(-reach), theme::dim());
    pen.put(w / 2, h - 1, "0", theme::dim());
    pen.right(w, h - 1, &edge(reach), theme::dim());
}

/// Lines of an error profile.
pub const PROFILE: u16 = 3;

/// The error along one dimension: in each column the worst of what falls into it, and which stands out how far.
pub fn profile(title: &str, errors: &[f32], numbered: bool, pen: &mut Pen) {
    let w = pen.width();
    let x = pen.put(0, 0, title, theme::heading());
    if let Some((at, times)) = worst(errors) {
        pen.right(
            w,
            0,
            &text::cut(
                &if numbered { format!("#{at} {times:.1}×") } else { format!("{times:.1}×") },
                usize::from(w.saturating_sub(x + 1)),
            ),
            theme::dim(),
        );
    }
    for (x, peak) in peaks(errors, usize::from(w)).into_iter().enumerate() {
        let eighths = (f64::from(peak) * 16.0).ceil() as usize;
        for row in 0..2 {
            let here = eighths.saturating_sub(row * 8).min(8);
            pen.put(x as u16, 2 - row as u16, theme::EIGHTHS[here], theme::accent());
        }
    }
}

fn edge(value: f32) -> String {
    let magnitude = value.abs();
    if (0.01..1000.0).contains(&magnitude) { format!("{value:.2}") } else { format!("{value:.0e}") }
}
