//! Writing into a rectangle: whatever does not fit is cut off, whatever lies outside is left out.
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::tui::text;

/// A rectangle to write into, with coordinates of its own.
pub struct Pen<'a> {
    buf: &'a mut Buffer,
    area: Rect,
}

impl<'a> Pen<'a> {
    /// All of `area` that lies in the buffer.
    pub fn new(buf: &'a mut Buffer, area: Rect) -> Self {
        let area = area.intersection(buf.area);
        Self { buf, area }
    }
    /// Columns.
    pub fn width(&self) -> u16 {
        self.area.width
    }
    /// Rows.
    pub fn height(&self) -> u16 {
        self.area.height
    }
    /// Where it lies: left, top, width, height.
    pub fn place(&self) -> (u16, u16, u16, u16) {
        (self.area.x, self.area.y, self.area.width, self.area.height)
    }
    /// A rectangle within it.
    pub fn part(&mut self, x: u16, y: u16, width: u16, height: u16) -> Pen<'_> {
        let (x, y) = (x.min(self.area.width), y.min(self.area.height));
        let area = Rect {
            x: self.area.x.saturating_add(x),
            y: self.area.y.saturating_add(y),
            width: width.min(self.area.width.saturating_sub(x)),
            height: height.min(self.area.height.saturating_sub(y)),
        };
        Pen { buf: self.buf, area }
    }
    /// Writes, and returns the column after it.
    pub fn put(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        if x >= self.area.width || y >= self.area.height {
            return x;
        }
        let room = usize::from(self.area.width - x);
        let at = (self.area.x.saturating_add(x), self.area.y.saturating_add(y));
        let (end, _) = self.buf.set_stringn(at.0, at.1, text, room, style);
        end.saturating_sub(self.area.x)
    }
    /// Writes so that it ends before column `end`.
    pub fn right(&mut self, end: u16, y: u16, text: &str, style: Style) {
        let width = text::width(text).min(usize::from(u16::MAX)) as u16;
        self.put(end.saturating_sub(width), y, text, style);
    }
    /// Lays a style over a row.
    pub fn style_row(&mut self, y: u16, style: Style) {
        if y < self.area.height {
            let row = Rect { y: self.area.y.saturating_add(y), height: 1, ..self.area };
            self.buf.set_style(row, style);
        }
    }
    /// Clears it, styles too.
    pub fn clear(&mut self) {
        for y in self.area.top()..self.area.bottom() {
            for x in self.area.left()..self.area.right() {
                if let Some(cell) = self.buf.cell_mut((x, y)) {
                    cell.reset();
                }
            }
        }
    }
    /// Draws a frame with a title, and returns what is inside.
    pub fn framed(&mut self, title: &str, style: Style, heading: Style) -> Pen<'_> {
        let (w, h) = (self.area.width, self.area.height);
        if w >= 2 && h >= 2 {
            let across = "─".repeat(usize::from(w - 2));
            self.put(0, 0, &format!("┌{across}┐"), style);
            self.put(0, h - 1, &format!("└{across}┘"), style);
            for y in 1..h - 1 {
                self.put(0, y, "│", style);
                self.put(w - 1, y, "│", style);
            }
            if !title.is_empty() && w > 6 {
                let title = text::cut_left(title, usize::from(w) - 4);
                self.put(1, 0, &format!(" {title} "), heading);
            }
        }
        self.part(1, 1, w.saturating_sub(2), h.saturating_sub(2))
    }
    /// Writes into the frame's bottom line, at the right.
    pub fn footnote(&mut self, text: &str, style: Style) {
        let (w, h) = (self.area.width, self.area.height);
        if !text.is_empty() && h >= 2 && usize::from(w) > text::width(text) + 4 {
            self.right(w - 1, h - 1, &format!(" {text} "), style);
        }
    }
}
