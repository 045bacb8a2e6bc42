//! What things look like, by the part they play. No meaning is carried by colour alone.
//!
//! Views draw in these sixteen colours and these glyphs; [`Look`] makes of them what the person and the terminal want.
pub mod depth;
pub mod environment;
pub mod glyphs;
mod look;
pub mod palette;

pub use look::Look;

use ratatui::style::{Color, Modifier, Style};

/// The row of the cursor, the thing to look at first.
pub fn cursor() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}
/// The row of the cursor while another pane has the focus.
pub fn cursor_away() -> Style {
    Style::new().add_modifier(Modifier::UNDERLINED)
}
/// Names of panes and headings.
pub fn heading() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}
/// What one looks at second.
pub fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}
/// What was chosen: dtypes, keys.
pub fn accent() -> Style {
    Style::new().fg(Color::Cyan)
}
/// Marks.
pub fn mark() -> Style {
    Style::new().fg(Color::Yellow)
}
/// Letters that a filter found.
pub fn found() -> Style {
    Style::new().fg(Color::Yellow).add_modifier(Modifier::UNDERLINED | Modifier::BOLD)
}
/// Something went well.
pub fn good() -> Style {
    Style::new().fg(Color::Green)
}
/// Something to be aware of.
pub fn warn() -> Style {
    Style::new().fg(Color::Yellow)
}
/// Something went wrong.
pub fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}
/// Frames.
pub fn frame(focused: bool) -> Style {
    if focused { Style::new() } else { dim() }
}

/// The cursor, where colours and reversed video are not seen.
pub const CURSOR: &str = "▌";
/// A marked tensor; a group all of which is marked.
pub const MARKED: &str = "●";
/// A group some of which is marked.
pub const PARTLY: &str = "◐";
/// A closed group.
pub const CLOSED: &str = "▸";
/// An open group.
pub const OPENED: &str = "▾";
/// What holds now, in a list.
pub const NOW: &str = "•";
/// A figure that is being found.
pub const WAITING: &str = "…";
/// On the line of best trade-offs.
pub const BEST: &str = "◂";
/// Kept as it is.
pub const KEPT: &str = "─";
/// Eighths of a cell, from nothing to full.
pub const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// Eighths of a cell from the left.
pub const LEFT_EIGHTHS: [&str; 9] = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
