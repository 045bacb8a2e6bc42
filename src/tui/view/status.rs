//! The bottom lines: how a conversion stands, the figures of the whole, and what is said to the person.
use ratatui::style::Style;

use super::pen::Pen;
use crate::core::name::clean;
use crate::core::units;
use crate::tui::action::Action;
use crate::tui::app::{App, Focus, Level};
use crate::tui::key;
use crate::tui::overlay::{self, Overlay};
use crate::tui::{text, theme};

/// `converting 37 % ▕████▍     ▏ 1.9 GiB/s · 0:08 left · name`
pub fn job(app: &App, pen: &mut Pen) {
    let Some(conversion) = app.running_job() else { return };
    let p = &conversion.progress;
    let word = if conversion.cancelling { "cancelling" } else { "converting" };
    let x = pen.put(1, 0, &format!("{word} {:>3} % ", (p.share() * 100.0).floor()), theme::accent());
    let width = (pen.width() / 4).clamp(4, 24);
    let x = bar(pen, x, 0, width, p.share());
    let left = p.left().map_or(String::new(), |s| format!(" · {} left", units::clock(s)));
    let name = if p.current.is_empty() { String::new() } else { format!(" · {}", clean(&p.current)) };
    let rest = format!(" {}/s{left}{name}", units::size(p.speed() as u64));
    pen.put(x, 0, &text::cut(&rest, usize::from(pen.width().saturating_sub(x))), Style::new());
}

/// A bar in eighths of a cell between two edges; the column after it.
pub fn bar(pen: &mut Pen, x: u16, y: u16, width: u16, share: f64) -> u16 {
    let x = pen.put(x, y, "▕", theme::dim());
    let eighths = (share.clamp(0.0, 1.0) * f64::from(width) * 8.0).floor() as usize;
    for i in 0..width {
        let here = eighths.saturating_sub(usize::from(i) * 8).min(8);
        pen.put(x + i, y, theme::LEFT_EIGHTHS[here], theme::accent());
    }
    pen.put(x + width, y, "▏", theme::dim())
}

/// Size before and after, bits per weight, mean loss, trials running. The first is the last to go.
pub fn figures(app: &App, pen: &mut Pen) {
    if !app.is_planned() {
        let bytes = app.session.model.tensors.iter().map(|t| t.bytes).sum();
        pen.put(1, 0, &units::size(bytes), theme::heading());
        return;
    }
    let t = &app.board.totals;
    let all = 0..app.session.model.tensors.len();
    let sums = app.losses.sums(&all);
    let loss = match (sums.measured, t.quantized) {
        (0, 0) => "nothing quantized".to_owned(),
        (0, _) => "loss not measured".to_owned(),
        (n, of) if u64::from(n) < of => {
            format!("mean MSE {}~ of {n}/{of}", units::error(sums.mse()))
        }
        _ => format!("mean MSE {}{}", units::error(sums.mse()), if sums.sampled > 0 { "~" } else { "" }),
    };
    let failed = sums.failed;
    let running = app.backend.trials_running() + app.waiting.len();
    let mut fields = vec![
        format!("{} → {}", units::size(t.bytes_before), units::size(t.bytes_after)),
        format!("{:.2} bits/weight", t.bits_per_weight),
        loss,
    ];
    if failed > 0 {
        fields.push(format!("! {failed} failed"));
    }
    if running > 0 {
        fields.push(format!("{running} trial{} running", if running == 1 { "" } else { "s" }));
    }
    let mut x = 1;
    for (i, field) in fields.iter().enumerate() {
        let gap = if i == 0 { "" } else { " · " };
        if i > 0 && usize::from(x) + text::width(gap) + text::width(field) > usize::from(pen.width()) {
            break;
        }
        x = pen.put(x, 0, gap, theme::dim());
        x = pen.put(x, 0, field, if i == 0 { theme::heading() } else { Style::new() });
    }
}

/// The filter's text, an unfinished chord, a message, or the keys that matter here. Where the text cursor is, if in it.
pub fn line(app: &App, pen: &mut Pen) -> Option<(u16, u16)> {
    let (left, top, w, _) = pen.place();
    if let Some(Overlay::Filter(input)) = app.overlays.last() {
        let x = pen.put(1, 0, "/", theme::accent());
        let broken = app.note.as_ref().filter(|n| n.level == Level::Error);
        let count = match broken {
            Some(note) => format!("! {} ", note.text),
            None => format!("{}/{}  Enter keeps it · Esc drops it ", app.tree.shown(), app.session.model.tensors.len()),
        };
        let count = text::cut(&count, usize::from(w) * 2 / 3);
        let room = usize::from(w.saturating_sub(x)).saturating_sub(text::width(&count) + 1).max(1);
        let scroll = input.visual_scroll(room);
        let shown: String = clean(input.value()).chars().skip(scroll).collect();
        pen.put(x, 0, &shown, Style::new());
        pen.right(w, 0, &count, if broken.is_some() { theme::bad() } else { theme::dim() });
        let at = input.visual_cursor().saturating_sub(scroll).min(usize::from(w)) as u16;
        return Some((left.saturating_add(x).saturating_add(at), top));
    }
    if !app.chord.is_empty() {
        let mut x = pen.put(1, 0, &key::show(&app.chord), theme::accent());
        let after = app.keymap.after(&app.chord);
        let wide: usize = after.iter().map(|(keys, a)| 3 + text::width(keys) + text::width(a.spec().doc)).sum();
        for (keys, action) in after {
            x = pen.put(x, 0, &format!("  {keys} "), theme::accent());
            // Where there is no room for all that they do, their names: none is cut off.
            let word = action.spec().name.rsplit('.').next().unwrap_or_default().replace('_', " ");
            let says = if usize::from(x) + wide <= usize::from(w) { action.spec().doc } else { &word };
            x = pen.put(x, 0, says, theme::dim());
        }
        return None;
    }
    if let Some(note) = &app.note {
        let (sign, style) = match note.level {
            Level::Info => ("", Style::new()),
            Level::Error => ("! ", theme::bad()),
        };
        let text = format!("{sign}{}", clean(&note.text));
        pen.put(1, 0, &text::cut(&text, usize::from(w.saturating_sub(1))), style);
        return None;
    }
    if let Some(Overlay::Help(list)) = app.overlays.last() {
        // Whole, where the list has not the room.
        if let Some(action) = overlay::actions(list.input.value(), &app.keymap).get(list.at) {
            let (text, _) = super::popup::about(app, *action);
            pen.put(1, 0, &text::cut(&text, usize::from(w.saturating_sub(1))), theme::dim());
        }
        return None;
    }
    hints(app, pen);
    None
}

fn hints(app: &App, pen: &mut Pen) {
    let hints: &[(Action, &str)] = if app.focus == Focus::Inspector && !app.what_if.is_empty() {
        &[
            (Action::Enter, "take it"),
            (Action::Undo, "undo"),
            (Action::ExpandAll, "every dtype"),
            (Action::CollapseAll, "fewer"),
            (Action::Back, "to the tree"),
            (Action::Help, "help"),
        ]
    } else if app.session.marks.is_empty() {
        &[
            (Action::Exclude, "exclude"),
            (Action::Dtype, "dtype"),
            (Action::Trial, "measure"),
            (Action::Convert, "convert"),
            (Action::Filter, "filter"),
            (Action::Help, "help"),
            (Action::Quit, "quit"),
        ]
    } else {
        &[
            (Action::Exclude, "exclude marked"),
            (Action::Dtype, "dtype"),
            (Action::Trial, "measure"),
            (Action::Back, "unmark"),
            (Action::Help, "help"),
        ]
    };
    let mut x = 1;
    for (action, word) in hints {
        let Some(keys) = app.keymap.keys_of(*action) else { continue };
        if usize::from(x) + text::width(&keys) + 1 + text::width(word) > usize::from(pen.width()) {
            break;
        }
        x = pen.put(x, 0, &keys, theme::accent());
        x = pen.put(x + 1, 0, word, theme::dim());
        x += 3;
    }
}
