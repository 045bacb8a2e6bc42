//! Conversions: how each stands, and of the latest what it writes and what came of it.
use ratatui::style::Style;

use super::pen::Pen;
use super::popup::{Cursor, frame};
use super::status;
use crate::core::name::clean;
use crate::core::units;
use crate::tui::app::{App, Conversion};
use crate::tui::backend::JobState;
use crate::tui::{text, theme};

/// A line and its style.
type Line = (String, Style);

/// Draws it.
pub fn draw(app: &App, pen: &mut Pen) -> Cursor {
    let width = pen.width().saturating_sub(4).clamp(20, 96);
    let keys = if app.running_job().is_some() { "x cancels · Esc closes" } else { "Esc closes" };
    let (mut pen, w, h) = frame(pen, width, pen.height().saturating_sub(2).min(30), "Jobs", keys);
    let (trials, tried) = (app.backend.trials_running(), app.backend.trying());
    let running = |n: usize| if n == 0 { "none running".to_owned() } else { format!("{n} running") };
    let what_if = if tried > 0 { format!(" · what-if: {tried} to go") } else { String::new() };
    pen.put(0, 0, &format!("trials: {}{what_if}", running(trials)), Style::new());
    if app.jobs.is_empty() {
        pen.put(0, 2, "no conversion was started yet", theme::dim());
    }
    let mut y = 2;
    for (i, conversion) in app.jobs.iter().rev().enumerate() {
        if y >= h {
            break;
        }
        head(conversion, y, &mut pen);
        y += 1;
        let p = &conversion.progress;
        if p.state == JobState::Running {
            let x = status::bar(&mut pen, 0, y, 20, p.share());
            let left = p.left().map_or(String::new(), |s| format!(" · {} left", units::clock(s)));
            let percent = (p.share() * 100.0).floor();
            let speed = units::size(p.speed() as u64);
            let text = format!(" {percent:>3} % · {}/{} · {speed}/s{left}", p.rows_done, text::tensors(p.rows_total));
            pen.put(x, y, &text::cut(&text, usize::from(w.saturating_sub(x))), Style::new());
            y += 1;
        }
        // The latest has the room; of those before it the outcome is enough.
        let mut lines = outcome(conversion, usize::from(w), i == 0);
        if i == 0 {
            let others = (app.jobs.len() as u16 - 1).saturating_mul(3);
            let room = usize::from(h.saturating_sub(y).saturating_sub(others)).max(lines.len());
            let written = written(app, conversion, usize::from(w), room - lines.len());
            lines.extend(written);
        }
        for (line, style) in lines {
            pen.put(0, y, &text::cut(&line, usize::from(w)), style);
            y += 1;
        }
        y += 1;
    }
    None
}

fn head(conversion: &Conversion, y: u16, pen: &mut Pen) {
    let (word, style) = match &conversion.progress.state {
        JobState::Running if conversion.cancelling => ("cancelling", theme::warn()),
        JobState::Running => ("running", theme::accent()),
        JobState::Done(_) => ("done", theme::good()),
        JobState::Failed(_) => ("failed", theme::bad()),
        JobState::Cancelled => ("cancelled", theme::warn()),
    };
    let x = pen.put(0, y, &format!("{word:<11}"), style);
    let output = clean(&conversion.progress.output.display().to_string()).into_owned();
    pen.put(x, y, &text::cut_left(&output, usize::from(pen.width().saturating_sub(x))), Style::new());
}

/// What came of it; of the latest everything.
fn outcome(conversion: &Conversion, w: usize, latest: bool) -> Vec<Line> {
    let wrap = |text: &str, style: Style| text::wrap(&clean(text), w).into_iter().map(move |l| (l, style));
    match &conversion.progress.state {
        JobState::Running => Vec::new(),
        JobState::Cancelled => vec![("nothing was written".into(), theme::dim())],
        JobState::Failed(why) => wrap(why, theme::bad()).collect(),
        JobState::Done(summary) => {
            let mut lines: Vec<Line> = wrap(summary, Style::new()).collect();
            if !latest {
                return lines;
            }
            let sums = &conversion.sums;
            if sums.measured > 0 {
                lines.push((
                    format!(
                        "error {} · mean MSE {} · damage {}, estimated",
                        units::percent(sums.relative_error()),
                        units::error(sums.mse()),
                        units::error(sums.damage)
                    ),
                    Style::new(),
                ));
                let worst: Vec<String> = conversion
                    .worst
                    .iter()
                    .map(|(name, d)| {
                        format!("{} {}", clean(name), units::percent(d / sums.damage.max(f64::MIN_POSITIVE)))
                    })
                    .collect();
                lines.extend(wrap(&format!("most of the damage: {}", worst.join(", ")), Style::new()));
            }
            if !conversion.loads_with.is_empty() {
                lines.extend(wrap(&format!("loads with {}", conversion.loads_with), theme::dim()));
            }
            lines
        }
    }
}

/// The latest tensors written, with what they lost.
fn written(app: &App, conversion: &Conversion, w: usize, room: usize) -> Vec<Line> {
    let all = &conversion.written;
    if all.is_empty() || room < 2 {
        return Vec::new();
    }
    let shown = all.iter().skip(all.len().saturating_sub(room - 1));
    let figures = format!("{:>12}  {:>9}  {:>8}", "to", "error", "damage");
    let gap = " ".repeat(w.saturating_sub(text::width(&figures) + 15));
    let title = match conversion.progress.state {
        JobState::Running => "written so far",
        JobState::Done(_) => "written last",
        // Nothing of it is left.
        JobState::Failed(_) | JobState::Cancelled => return Vec::new(),
    };
    let head = (format!("{title:<15}{gap}{figures}"), theme::heading());
    std::iter::once(head)
        .chain(shown.map(|(name, loss)| {
            let to = conversion.board.find(name).map_or("", |i| &conversion.board.plan.rows[i].to);
            let alpha = app
                .losses
                .alpha_of(conversion.board.find(name).and_then(|i| conversion.board.plan.rows[i].sources.first()));
            let damage = units::error(f64::from(alpha) * loss.weighed());
            let figures = format!("{to:>12}  {:>9}  {damage:>8}", units::percent(loss.relative_error));
            let name = text::cut_left(&clean(name), w.saturating_sub(text::width(&figures) + 1));
            let gap = " ".repeat(w.saturating_sub(text::width(&name) + text::width(&figures)));
            (format!("{name}{gap}{figures}"), theme::dim())
        }))
        .collect()
}
