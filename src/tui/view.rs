//! What the desk looks like. Reads the state; writes the screen, and into [`Screen`] what is where.
mod diff;
mod header;
mod histogram;
mod inspector;
mod jobs;
mod map;
pub mod pen;
mod popup;
mod rules;
mod status;
mod tree;
mod whatif;

use ratatui::Frame;

use super::app::{App, SMALLEST, Screen};
use super::overlay::Overlay;
use pen::Pen;

/// Draws everything.
pub fn draw(app: &mut App, frame: &mut Frame) {
    let mut screen = std::mem::take(&mut app.screen);
    let area = frame.area();
    screen.size = (area.width, area.height);
    app.screen.size = screen.size;
    let mut pen = Pen::new(frame.buffer_mut(), area);
    let cursor = all(app, &mut screen, &mut pen);
    app.screen = screen;
    if let Some(Overlay::Page(page)) = app.overlays.last_mut() {
        page.seen = true;
    }
    app.look.apply(frame.buffer_mut());
    if let Some((x, y)) = cursor.filter(|(x, y)| *x < area.width && *y < area.height) {
        frame.set_cursor_position((x, y));
    }
}

/// Draws everything; where the text cursor is, if there is one.
fn all(app: &App, screen: &mut Screen, pen: &mut Pen) -> Option<(u16, u16)> {
    screen.list = None;
    screen.choices = None;
    screen.cells = None;
    screen.tree = (0, 0, 0, 0);
    let (w, h) = (pen.width(), pen.height());
    if w < SMALLEST.0 || h < SMALLEST.1 {
        pen.put(0, 0, &format!("needs {}×{}", SMALLEST.0, SMALLEST.1), ratatui::style::Style::new());
        return None;
    }
    // A short screen gives up first the header, then the line of figures.
    let top = u16::from(h >= 10);
    let job = u16::from(app.running_job().is_some() && h >= 7);
    let figures = u16::from(h >= 7);
    let body = h.saturating_sub(top + job + figures + 1);
    if top > 0 {
        header::draw(app, &mut pen.part(0, 0, w, 1));
    }
    if app.two_panes() && app.beside {
        let side = app.side();
        tree::draw(app, screen, &mut pen.part(0, top, w - side, body));
        inspector::draw(app, screen, &mut pen.part(w - side, top, side, body));
    } else if app.inspector_shown() {
        screen.page = usize::from(body.saturating_sub(2)).max(1);
        inspector::draw(app, screen, &mut pen.part(0, top, w, body));
    } else {
        tree::draw(app, screen, &mut pen.part(0, top, w, body));
    }
    let mut y = top + body;
    if job > 0 {
        status::job(app, &mut pen.part(0, y, w, 1));
        y += 1;
    }
    if figures > 0 {
        status::figures(app, &mut pen.part(0, y, w, 1));
        y += 1;
    }
    let cursor = status::line(app, &mut pen.part(0, y, w, 1));
    let mut popup_cursor = None;
    for overlay in &app.overlays {
        // Popups leave the bottom line free: that is where messages appear.
        let at = popup::draw(app, overlay, screen, &mut pen.part(0, 0, w, h - 1));
        popup_cursor = at.or(popup_cursor);
    }
    popup_cursor.or(cursor)
}
