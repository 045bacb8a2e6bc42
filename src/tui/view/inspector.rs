//! The inspector: of a tensor its recipe, loss and histograms; of a group what it is made of.
use ratatui::style::Style;

use super::pen::Pen;
use super::{histogram, tree, whatif};
use crate::core::dtype::StorageExt;
use crate::core::name::clean;
use crate::core::plan::Action;
use crate::core::profile::ErrorProfile;
use crate::core::recipe::group_size;
use crate::core::rules::Cause;
use crate::core::tree::NodeId;
use crate::core::{Loss, Row, TensorId, units};
use crate::tui::action::Action as Key;
use crate::tui::app::Scale;
use crate::tui::app::{App, Focus, LOOKED_AT, Screen};
use crate::tui::backend::Measure;
use crate::tui::losses::{Known, Quality};
use crate::tui::whatif::Choice;
use crate::tui::{facts, text, theme};

/// A line of the inspector.
enum Line<'a> {
    Text(String, Style),
    /// Two words with their figures.
    Pairs(Vec<(&'static str, String)>),
    /// A heading, and what stands at its right.
    Head(&'static str, &'static str),
    /// A line of the what-if table.
    Choice(&'a Choice, Option<Style>),
    /// Two histograms, of that height.
    Histograms(&'a Measure, u16, Scale),
    /// The error by row and by column.
    Profile(&'a ErrorProfile, bool),
    Blank,
}

impl Line<'_> {
    fn height(&self) -> usize {
        match self {
            Self::Histograms(_, h, _) => usize::from(*h),
            Self::Profile(..) => usize::from(histogram::PROFILE),
            _ => 1,
        }
    }
}

/// Draws it.
pub fn draw(app: &App, screen: &mut Screen, pen: &mut Pen) {
    let focused = app.focus == Focus::Inspector && app.overlays.is_empty();
    let title = match app.node() {
        _ if focused_on_marks(app) => "Marked".into(),
        Some(node) => clean(app.tree.path(node, &app.session.model)).into_owned(),
        None => "Nothing here".into(),
    };
    let mut inside = pen.framed(&title, theme::frame(focused), theme::heading());
    let (w, h) = (inside.width(), inside.height());
    let mut inside = inside.part(1, 0, w.saturating_sub(2), h);
    let w = inside.width();
    let Some(node) = app.node() else { return };
    let lines = match app.tree.tensor(node) {
        // What becomes of it is not known yet.
        _ if !app.is_planned() => {
            let range = app.tree.range(node);
            let bytes = app.session.model.tensors.get(range.clone()).unwrap_or_default().iter().map(|t| t.bytes).sum();
            let text = format!("{} · {}", text::tensors(range.len()), units::size(bytes));
            vec![Line::Text(text, theme::accent()), Line::Text("planning…".into(), theme::dim())]
        }
        _ if focused_on_marks(app) => marked(app, w),
        Some(id) => tensor(app, id, w, h),
        None => group(app, node, w),
    };
    let tall: usize = lines.iter().map(Line::height).sum();
    let last = tall.saturating_sub(usize::from(h));
    let first = first_line(app, &lines, usize::from(h)).min(last);
    screen.inspector = (first, last);
    let heights = lines.iter().scan(0, |y, line| Some(std::mem::replace(y, *y + line.height())));
    let choices: Vec<usize> =
        heights.zip(&lines).filter(|(_, l)| matches!(l, Line::Choice(..))).map(|(y, _)| y).collect();
    if let Some(top) = choices.first() {
        // Lines of the table follow each other, so the first of them that is drawn says where all are.
        let (l, t, ..) = inside.place();
        let (hidden, below) = (first.saturating_sub(*top), top.saturating_sub(first));
        let rows = choices.len().saturating_sub(hidden).min(usize::from(h).saturating_sub(below));
        screen.choices = Some((l, t.saturating_add(below as u16), w, rows as u16, hidden));
    }
    let mut y = 0usize;
    for line in &lines {
        let next = y + line.height();
        // What begins above the first line is left out as a whole.
        if y >= first && y - first < usize::from(h) {
            put(line, (y - first) as u16, &mut inside);
        }
        y = next;
    }
    if last > 0 {
        pen.footnote(&format!("{}–{}/{tall}", first + 1, (first + usize::from(h)).min(tall)), theme::dim());
    }
}

fn put(line: &Line, y: u16, pen: &mut Pen) {
    let w = pen.width();
    match line {
        Line::Blank => {}
        Line::Text(text, style) => {
            pen.put(0, y, text, *style);
        }
        Line::Head(title, right) => {
            let x = pen.put(0, y, title, theme::heading());
            let room = usize::from(w.saturating_sub(x + 1));
            let rule = room.saturating_sub(text::width(right) + usize::from(!right.is_empty()));
            pen.put(x + 1, y, &"─".repeat(rule), theme::dim());
            pen.right(w, y, right, theme::dim());
        }
        Line::Pairs(pairs) => {
            let column = w / pairs.len().max(1) as u16;
            for (i, (word, figure)) in pairs.iter().enumerate() {
                let x = column * i as u16;
                pen.put(x, y, word, theme::dim());
                pen.right((x + column).saturating_sub(u16::from(i + 1 < pairs.len()) * 2), y, figure, Style::new());
            }
        }
        Line::Choice(choice, cursor) => whatif::draw(choice, y, *cursor, pen),
        Line::Profile(profile, whole) => {
            let half = w.saturating_sub(2) / 2;
            histogram::profile("Rows", &profile.rows, *whole, &mut pen.part(0, y, half, histogram::PROFILE));
            histogram::profile("Columns", &profile.cols, true, &mut pen.part(half + 2, y, half, histogram::PROFILE));
        }
        Line::Histograms(measure, height, scale) => {
            let half = w.saturating_sub(2) / 2;
            histogram::draw(&measure.weights, "Weights", *scale, &mut pen.part(0, y, half, *height));
            histogram::draw(&measure.errors, "Errors", *scale, &mut pen.part(half + 2, y, half, *height));
        }
    }
}

/// Where the marks are what is looked at, not the cursor's tensor.
fn focused_on_marks(app: &App) -> bool {
    app.focus == Focus::Inspector && !app.session.marks.is_empty()
}

/// The line to begin at: where one has scrolled to or, in the table, where its cursor is in sight.
fn first_line(app: &App, lines: &[Line], h: usize) -> usize {
    let mut y = 0usize;
    if app.what_if.above {
        return 0;
    }
    for line in lines {
        if matches!(line, Line::Choice(_, Some(_))) {
            // From the last of them on what follows the table is to be read.
            if app.what_if.at + 1 == app.what_if.shown().count() {
                return usize::MAX;
            }
            // With a little of what follows, and from the top as long as that is in sight.
            return (y + 2).saturating_sub(h.saturating_sub(1));
        }
        y += line.height();
    }
    app.scroll
}

/// The what-if table, where there is anything to choose from.
fn what_if<'a>(app: &'a App, w: u16, lines: &mut Vec<Line<'a>>) {
    let table = &app.what_if;
    if table.is_empty() {
        return;
    }
    let focused = app.focus == Focus::Inspector;
    lines.push(Line::Blank);
    lines.push(Line::Head("What if", whatif::heading(w)));
    if table.measured() < table.ids.len() {
        let text = format!("losses from {} of {}", table.measured(), text::tensors(table.ids.len()));
        wrapped(lines, &text, w, theme::dim());
    }
    for (i, choice) in table.shown().enumerate() {
        let cursor = (focused && i == table.at).then(theme::cursor);
        lines.push(Line::Choice(choice, cursor));
    }
    let (hidden, key) = (table.hidden(), |a| app.keymap.keys_of(a).unwrap_or_default());
    if hidden > 0 {
        lines.push(Line::Text(format!("  {}: {hidden} more", key(Key::ExpandAll)), theme::dim()));
    }
}

/// The marked tensors together.
fn marked(app: &App, w: u16) -> Vec<Line<'_>> {
    let rows: Vec<&Row> = app.what_if.ids.iter().filter_map(|id| app.board.row(*id)).collect();
    let (before, after) = (rows.iter().map(|r| r.bytes_before).sum(), rows.iter().map(|r| r.bytes_after()).sum());
    let mut lines = vec![Line::Text(format!("{} marked", text::tensors(app.session.marks.len())), theme::accent())];
    let left = app.session.marks.len() - rows.len().min(app.session.marks.len());
    if left > 0 {
        wrapped(&mut lines, &format!("{} of them kept as they are", text::tensors(left)), w, theme::dim());
    }
    lines.push(Line::Text(sizes(before, after), Style::new()));
    what_if(app, w, &mut lines);
    lines
}

/// Words with their figures: two beside each other, where both fit.
fn pairs<'a>(lines: &mut Vec<Line<'a>>, w: u16, all: Vec<(&'static str, String)>) {
    if w >= 36 {
        lines.push(Line::Pairs(all));
    } else {
        lines.extend(all.into_iter().map(|pair| Line::Pairs(vec![pair])));
    }
}

fn wrapped(lines: &mut Vec<Line>, text: &str, w: u16, style: Style) {
    lines.extend(text::wrap(&clean(text), usize::from(w)).into_iter().map(|l| Line::Text(l, style)));
}

fn tensor<'a>(app: &'a App, id: TensorId, w: u16, h: u16) -> Vec<Line<'a>> {
    let tensor = app.session.model.tensor(id);
    let mut lines = Vec::new();
    let Some(row) = app.board.row(id) else {
        lines.push(Line::Text("not part of the output".into(), theme::dim()));
        return lines;
    };
    lines.extend(recipe(row, w).into_iter().map(|l| Line::Text(l, theme::accent())));
    let cause = app.session.settings().explain(&row.cause);
    let by = if matches!(row.cause, Cause::Defaults | Cause::Preset(_) | Cause::Rule(_)) { "by " } else { "" };
    match &row.reason.as_deref().map(|reason| app.keymap.for_flags(reason)) {
        // Nobody chose it: the layer cannot be quantized, and the reason says why.
        Some(reason) if row.excluded && row.cause == Cause::Defaults => wrapped(&mut lines, reason, w, theme::dim()),
        Some(reason) if *reason == cause => wrapped(&mut lines, reason, w, theme::dim()),
        reason => {
            wrapped(&mut lines, &format!("{by}{cause}"), w, theme::dim());
            if let Some(reason) = reason {
                wrapped(&mut lines, reason, w, theme::warn());
            }
        }
    }
    let what = format!("{} {}", tensor.dtype_name(), tree::shape(&tensor.shape));
    // Of what is fused, its own share; of what is cut in two, both.
    let own = id.index()..id.index() + 1;
    let (before, after) = match row.slices.is_empty() {
        true => (row.bytes_before, row.bytes_after()),
        false => (app.board.before(&own), app.board.after(&own)),
    };
    wrapped(&mut lines, &format!("{what} · {}", sizes(before, after)), w, Style::new());
    if !row.slices.is_empty() {
        let others = row.sources.len() - 1;
        let whole = format!("{} {}", clean(&row.name), tree::shape(&row.shape));
        let text = match others {
            0 => format!("a part of it is {whole}"),
            1 => format!("with another in {whole}"),
            n => format!("with {n} others in {whole}"),
        };
        wrapped(&mut lines, &text, w, Style::new());
    } else if row.name != tensor.name {
        wrapped(&mut lines, &format!("called {} in the file", clean(&row.name)), w, Style::new());
    }
    for other in app.board.measured_with(id).skip(1) {
        let Some(part) = app.board.plan.rows.get(other) else { continue };
        let known = app.losses.of_row(other).and_then(|known| match known {
            Known::Loss(loss, _) => Some(format!(" · {} → {}", part.to, units::percent(loss.relative_error))),
            Known::Failed(_) => None,
        });
        let text =
            format!("another is {} {}{}", clean(&part.name), tree::shape(&part.shape), known.unwrap_or_default());
        wrapped(&mut lines, &text, w, Style::new());
    }
    lines.push(Line::Blank);
    lines.push(Line::Head("Loss", ""));
    loss(app, id, row, w, &mut lines);
    if row.is_lossy()
        && let Some(measure) = app.losses.measure(app.board.plan.family, &row.name, &row.action)
    {
        lines.push(Line::Blank);
        let used: usize = lines.iter().map(Line::height).sum();
        let room = usize::from(h).saturating_sub(used).clamp(5, 9);
        lines.push(Line::Histograms(measure, room as u16, app.scale));
        if !measure.profile.rows.is_empty() {
            // Of a sample the rows have other numbers than in the tensor.
            let whole = measure.profile.rows.len() as u64 == row.shape.first().copied().unwrap_or(0);
            lines.push(Line::Profile(&measure.profile, whole));
        }
    }
    if app.what_if.ids == [id] {
        what_if(app, w, &mut lines);
    }
    lines.push(Line::Blank);
    lines.push(Line::Head("Written as", ""));
    for part in &row.parts {
        let name = clean(&part.name);
        let facts = format!("{} {}", part.storage.name(), tree::shape(&part.shape));
        let room = usize::from(w).saturating_sub(text::width(&facts) + 1);
        let name = text::cut_left(&name, room);
        let gap = " ".repeat((usize::from(w)).saturating_sub(text::width(&name) + text::width(&facts)));
        lines.push(Line::Text(format!("{name}{gap}{facts}"), Style::new()));
    }
    lines
}

/// `144 MiB → 45 MiB (31 %)`
fn sizes(before: u64, after: u64) -> String {
    if before == after {
        return units::size(after);
    }
    let share = units::percent(after as f64 / before.max(1) as f64);
    format!("{} → {} ({share})", units::size(before), units::size(after))
}

/// What is done, on one line if it fits, else on two.
fn recipe(row: &Row, w: u16) -> Vec<String> {
    let r = match &row.action {
        Action::Copy if row.parts.is_empty() => return vec!["left out".into()],
        Action::Copy => return vec![format!("keep as it is ({})", row.from)],
        Action::Cast(to) => return vec![format!("cast to {}", to.name())],
        Action::Quantize(r) => r,
    };
    let usual = match row.group_size() {
        Some(size) => format!("{}   group {}   rank {}", r.dtype, group_size::name(size), r.svd_rank),
        None => r.dtype.to_string(),
    };
    let rotation = (r.hadamard > 0).then(|| format!("hadamard {}", r.hadamard));
    let more: Vec<String> = rotation.into_iter().chain(r.codebook.then(|| "codebook".to_owned())).collect();
    let all = [&[usual.clone()][..], &more].concat().join("   ");
    if more.is_empty() || text::width(&all) <= usize::from(w) { vec![all] } else { vec![usual, more.join("   ")] }
}

/// What an error costs the model: an estimate, and what it rests on.
fn damage(app: &App, range: &std::ops::Range<usize>, w: u16, lines: &mut Vec<Line>) {
    if let Some((damage, share)) = app.losses.damage(range) {
        pairs(lines, w, vec![("damage", units::error(damage)), (app.share_of(), units::percent(share))]);
    }
}

fn figures(loss: &Loss, w: u16, lines: &mut Vec<Line>) {
    let sqnr = if loss.sqnr_db.is_finite() { format!("{:.1} dB", loss.sqnr_db) } else { "lossless".into() };
    pairs(lines, w, vec![("MSE", units::error(loss.mse)), ("SQNR", sqnr)]);
    let relative = units::percent(loss.relative_error);
    pairs(lines, w, vec![("max error", units::error(loss.max_error)), ("relative", relative)]);
    if let Some(weighted) = loss.weighted_relative_error {
        lines.push(Line::Pairs(vec![("weighted", units::percent(weighted))]));
    }
}

fn loss(app: &App, id: TensorId, row: &Row, w: u16, lines: &mut Vec<Line>) {
    let waiting = app.asked.get(&row.name) == Some(&row.action);
    match app.board.index(id).and_then(|i| app.losses.of_row(i)) {
        _ if !row.is_lossy() => lines.push(Line::Text("nothing is lost: it is kept".into(), theme::dim())),
        Some(Known::Loss(loss, quality)) => {
            figures(loss, w, lines);
            damage(app, &(id.index()..id.index() + 1), w, lines);
            let how = match quality {
                Quality::Sampled => "~ from a sample of its rows; exact figures follow",
                Quality::Exact => "from every value",
                Quality::Written => "of what was written",
            };
            wrapped(lines, &format!("{how}; damage estimated {}", app.basis), w, theme::dim());
        }
        Some(Known::Failed(why)) => wrapped(lines, &format!("the trial failed: {why}"), w, theme::bad()),
        None if waiting => lines.push(Line::Text("measuring…".into(), theme::dim())),
        None => lines.push(Line::Text(unmeasured(app), theme::dim())),
    }
}

fn unmeasured(app: &App) -> String {
    format!("not measured yet: {} measures it", app.keymap.name(crate::tui::action::Action::Trial))
}

fn group(app: &App, node: NodeId, w: u16) -> Vec<Line<'_>> {
    let range = app.tree.range(node);
    let quantized = app.board.quantized(&range);
    let (before, after) = (app.board.before(&range), app.board.after(&range));
    let dropped = app.board.dropped(&range);
    let more = if dropped > 0 { format!(", {dropped} left out") } else { String::new() };
    let kept = range.len() - quantized - dropped;
    let made = format!("{} · {quantized} quantized, {kept} kept{more}", text::tensors(range.len()));
    let mut lines = Vec::new();
    wrapped(&mut lines, &made, w, theme::accent());
    lines.push(Line::Text(sizes(before, after), Style::new()));
    let elements = app.board.elements(&range);
    lines.push(Line::Text(
        format!("{} parameters · {:.2} bits each", units::count(elements), 8.0 * after as f64 / elements.max(1) as f64),
        Style::new(),
    ));
    let sums = app.losses.sums(&range);
    lines.push(Line::Blank);
    lines.push(Line::Head("Loss", ""));
    if sums.failed > 0 {
        lines
            .push(Line::Text(format!("! {} could not be measured", text::tensors(sums.failed as usize)), theme::bad()));
    }
    if sums.measured == 0 {
        let text = if quantized == 0 { "nothing is lost: all is kept".into() } else { unmeasured(app) };
        lines.push(Line::Text(text, theme::dim()));
    } else {
        let relative = units::percent(sums.relative_error());
        pairs(&mut lines, w, vec![("MSE", units::error(sums.mse())), ("relative", relative)]);
        damage(app, &range, w, &mut lines);
        let of = format!(
            "of {} of {quantized}{}; damage estimated {}",
            sums.measured,
            if sums.sampled > 0 { ", some from a sample" } else { "" },
            app.basis
        );
        wrapped(&mut lines, &of, w, theme::dim());
    }
    if app.focus == Focus::Inspector {
        what_if(app, w, &mut lines);
    }
    let now = (range.len() <= LOOKED_AT).then(|| facts::of(app, node));
    let Some(facts) = now.as_ref().or(app.facts.as_ref().filter(|f| f.node == node)) else { return lines };
    lines.push(Line::Blank);
    lines.push(Line::Head("Made of", ""));
    for (what, (count, bytes)) in &facts.kinds {
        let (count, bytes) = (*count, *bytes);
        let text = text::cut(what, usize::from(w).saturating_sub(24));
        let figures = format!("{:>15} {:>8}", text::tensors(count), units::size(bytes));
        let gap = " ".repeat(usize::from(w).saturating_sub(text::width(&text) + text::width(&figures)));
        lines.push(Line::Text(format!("{text}{gap}{figures}"), Style::new()));
    }
    if !facts.worst.is_empty() {
        lines.push(Line::Blank);
        lines.push(Line::Head("Most damage", app.share_of()));
        let prefix = app.tree.path(node, &app.session.model).len() + 1;
        for (id, relative) in &facts.worst {
            let (id, relative) = (*id, *relative);
            let name = app.session.model.tensor(id).name.get(prefix..).unwrap_or_default();
            let figure = units::percent(relative);
            let name = text::cut_left(&clean(name), usize::from(w).saturating_sub(text::width(&figure) + 1));
            let gap = " ".repeat(usize::from(w).saturating_sub(text::width(&name) + text::width(&figure)));
            lines.push(Line::Text(format!("{name}{gap}{figure}"), Style::new()));
        }
    }
    lines
}
