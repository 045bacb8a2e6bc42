//! The first line: what is open, and what it is being made into.
use super::pen::Pen;
use crate::core::name::clean;
use crate::core::units;
use crate::tui::app::App;
use crate::tui::{text, theme};

/// Draws it.
pub fn draw(app: &App, pen: &mut Pen) {
    let model = &app.session.model;
    let profile = match &app.session.profile.name {
        Some(name) => format!(" · profile {}", clean(name)),
        None => String::new(),
    };
    let star = if app.session.is_dirty() { " *" } else { "" };
    let doing = app.aside.says(app.now).or((!app.is_planned()).then(|| "planning…".into()));
    let doing = doing.map_or(String::new(), |doing| format!("{doing} · "));
    let right = format!("{doing}{}{profile}{star} ", app.session.settings().target);
    let room = usize::from(pen.width()).saturating_sub(text::width(&right) + 2);
    let facts = [format!("{} parameters", units::count(app.parameters)), text::tensors(model.tensors.len())];
    let mut left = clean(&model.title).into_owned();
    for fact in facts {
        if 11 + text::width(&left) + 3 + text::width(&fact) <= room {
            left = format!("{left} · {fact}");
        }
    }
    let x = pen.put(1, 0, "mixdown", theme::heading());
    pen.put(x + 2, 0, &text::cut(&left, room.saturating_sub(10)), theme::dim());
    pen.right(pen.width(), 0, &right, theme::accent());
}
