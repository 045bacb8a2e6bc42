//! The last pass over a frame: roles become the theme's colours, glyphs what the terminal can show.
//!
//! Views draw in sixteen colours and in Unicode. Nothing else knows of themes.
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::depth::{Depth, NAMED, bring_down, indexed};
use super::glyphs::{Glyphs, ascii};
use super::palette::{Palette, Rgb, Theme};

/// How the desk looks.
#[derive(Clone, Debug)]
pub struct Look {
    theme: Theme,
    glyphs: Glyphs,
    depth: Depth,
    /// What the colours by number become, of which the first sixteen are those with a name.
    table: Box<[Color; 256]>,
    /// In place of the terminal's own colours: of what is written, and of what it is written on.
    ground: (Color, Color),
    dim: Dim,
}

/// What becomes of dim.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dim {
    /// It stays.
    Kept,
    /// A grey.
    Grey(Color),
    /// It goes.
    Dropped,
}

impl Default for Look {
    /// Everything as the views draw it.
    fn default() -> Self {
        Self::new(Theme::Terminal, Glyphs::Unicode, Depth::True)
    }
}

impl Look {
    /// A theme on a terminal of so many colours.
    pub fn new(theme: Theme, glyphs: Glyphs, depth: Depth) -> Self {
        let depth = if theme == Theme::None { Depth::None } else { depth };
        let palette = theme.palette();
        let colour = |rgb: Rgb| bring_down(rgb, depth);
        let table = std::array::from_fn(|i| match (i, palette, depth) {
            (_, _, Depth::None) => Color::Reset,
            (0..16, Some(palette), _) => colour(palette.colours[i]),
            (0..16, None, _) => NAMED[i],
            (_, _, Depth::Sixteen) => colour(indexed(i as u8)),
            _ => Color::Indexed(i as u8),
        });
        let ground = palette
            .and_then(|p: &Palette| p.ground)
            .map_or((Color::Reset, Color::Reset), |(on, under)| (colour(on), colour(under)));
        let dim = match palette.and_then(|p| p.dim) {
            None => Dim::Kept,
            // Pale on white cannot be read; without colours it is better not dim at all.
            Some(_) if depth == Depth::None => Dim::Dropped,
            Some(grey) => Dim::Grey(colour(grey)),
        };
        Self { theme, glyphs, depth, table: Box::new(table), ground, dim }
    }
    /// Its theme.
    pub fn theme(&self) -> Theme {
        self.theme
    }
    /// Its glyphs.
    pub fn glyphs(&self) -> Glyphs {
        self.glyphs
    }
    /// How many colours it has.
    pub fn depth(&self) -> Depth {
        self.depth
    }
    /// Whether it leaves every frame as it is drawn.
    fn is_plain(&self) -> bool {
        self.theme.palette().is_none() && self.depth == Depth::True && self.glyphs == Glyphs::Unicode
    }

    /// Translates a frame.
    pub fn apply(&self, buffer: &mut Buffer) {
        if self.is_plain() {
            return;
        }
        let mut near = Near::new(self.depth);
        for cell in &mut buffer.content {
            self.colours(cell, &mut near);
            if self.glyphs == Glyphs::Ascii && !cell.symbol().is_ascii() {
                let mut chars = cell.symbol().chars();
                if let (Some(c), None) = (chars.next(), chars.next())
                    && let Some(sign) = ascii(c)
                {
                    cell.set_char(sign);
                }
            }
        }
    }

    fn colours(&self, cell: &mut Cell, near: &mut Near) {
        if cell.modifier.contains(Modifier::DIM) && self.dim != Dim::Kept {
            cell.modifier.remove(Modifier::DIM);
            if let Dim::Grey(grey) = self.dim {
                cell.bg = self.colour(cell.bg, self.ground.1, near);
                cell.fg = grey;
                return;
            }
        }
        cell.fg = self.colour(cell.fg, self.ground.0, near);
        cell.bg = self.colour(cell.bg, self.ground.1, near);
        cell.underline_color = self.colour(cell.underline_color, Color::Reset, near);
    }

    fn colour(&self, colour: Color, ground: Color, near: &mut Near) -> Color {
        let by_number = |i: usize| self.table[i];
        match colour {
            Color::Reset => ground,
            Color::Rgb(r, g, b) => near.of((r, g, b)),
            Color::Indexed(i) => by_number(i.into()),
            Color::Black => by_number(0),
            Color::Red => by_number(1),
            Color::Green => by_number(2),
            Color::Yellow => by_number(3),
            Color::Blue => by_number(4),
            Color::Magenta => by_number(5),
            Color::Cyan => by_number(6),
            Color::Gray => by_number(7),
            Color::DarkGray => by_number(8),
            Color::LightRed => by_number(9),
            Color::LightGreen => by_number(10),
            Color::LightYellow => by_number(11),
            Color::LightBlue => by_number(12),
            Color::LightMagenta => by_number(13),
            Color::LightCyan => by_number(14),
            Color::White => by_number(15),
        }
    }
}

/// The nearest of what there is, with what was found before: heat maps have few colours in many cells.
struct Near {
    depth: Depth,
    known: [(u32, Color); 1024],
}

impl Near {
    fn new(depth: Depth) -> Self {
        Self { depth, known: [(u32::MAX, Color::Reset); 1024] }
    }
    fn of(&mut self, rgb: Rgb) -> Color {
        if matches!(self.depth, Depth::None | Depth::True) {
            return bring_down(rgb, self.depth);
        }
        let key = u32::from_be_bytes([0, rgb.0, rgb.1, rgb.2]);
        let slot = &mut self.known[(key.wrapping_mul(0x9E37_79B1) >> 22) as usize];
        if slot.0 != key {
            *slot = (key, bring_down(rgb, self.depth));
        }
        slot.1
    }
}

#[cfg(test)]
mod tests {
    use super::super::palette::{HIGH_CONTRAST, LIGHT};
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    /// A cell drawn in that style, after the pass.
    fn shown(theme: Theme, depth: Depth, style: Style) -> Cell {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 1, 1));
        buffer.set_string(0, 0, "x", style);
        Look::new(theme, Glyphs::Unicode, depth).apply(&mut buffer);
        buffer.content[0].clone()
    }

    fn rgb((r, g, b): Rgb) -> Color {
        Color::Rgb(r, g, b)
    }

    #[test]
    fn roles_become_the_colours_of_the_theme() {
        fn check(theme: Theme, depth: Depth, colour: Color) {
            assert_eq!(shown(theme, depth, Style::new().fg(Color::Cyan)).fg, colour, "{theme:?} {depth:?}");
        }
        check(Theme::Terminal, Depth::True, Color::Cyan);
        check(Theme::Terminal, Depth::Sixteen, Color::Cyan);
        check(Theme::Terminal, Depth::None, Color::Reset);
        check(Theme::None, Depth::True, Color::Reset);
        check(Theme::Light, Depth::True, rgb(LIGHT.colours[6]));
        check(Theme::Light, Depth::Indexed, Color::Indexed(24));
        check(Theme::Light, Depth::Sixteen, Color::Cyan);
        check(Theme::Light, Depth::None, Color::Reset);
        check(Theme::HighContrast, Depth::Sixteen, Color::LightCyan);
    }

    #[test]
    fn only_high_contrast_paints_the_background() {
        fn check(theme: Theme, depth: Depth, fg: Color, bg: Color) {
            let cell = shown(theme, depth, Style::new());
            assert_eq!((cell.fg, cell.bg), (fg, bg), "{theme:?} {depth:?}");
        }
        for theme in [Theme::Terminal, Theme::None, Theme::Dark, Theme::Light] {
            check(theme, Depth::True, Color::Reset, Color::Reset);
        }
        check(Theme::HighContrast, Depth::True, Color::Rgb(255, 255, 255), Color::Rgb(0, 0, 0));
        check(Theme::HighContrast, Depth::Sixteen, Color::White, Color::Black);
        check(Theme::HighContrast, Depth::None, Color::Reset, Color::Reset);
    }

    #[test]
    fn dim_is_a_grey_where_dim_cannot_be_read() {
        fn check(theme: Theme, depth: Depth, plain: Color, cyan: Color, dim: bool) {
            for (style, fg) in [(Style::new(), plain), (Style::new().fg(Color::Cyan), cyan)] {
                let cell = shown(theme, depth, style.add_modifier(Modifier::DIM | Modifier::REVERSED));
                assert_eq!(cell.fg, fg, "{theme:?} {depth:?}");
                assert_eq!(cell.modifier.contains(Modifier::DIM), dim, "{theme:?} {depth:?}");
                assert!(cell.modifier.contains(Modifier::REVERSED));
            }
        }
        check(Theme::Terminal, Depth::True, Color::Reset, Color::Cyan, true);
        check(Theme::None, Depth::True, Color::Reset, Color::Reset, true);
        for (theme, palette) in [(Theme::Light, &LIGHT), (Theme::HighContrast, &HIGH_CONTRAST)] {
            let grey = rgb(palette.dim.unwrap());
            check(theme, Depth::True, grey, grey, false);
            check(theme, Depth::None, Color::Reset, Color::Reset, false);
        }
        check(Theme::Light, Depth::Sixteen, Color::DarkGray, Color::DarkGray, false);
    }

    #[test]
    fn colours_of_heat_maps_are_brought_down() {
        fn check(depth: Depth, by_number: Color, by_mix: Color) {
            let cell = shown(Theme::Terminal, depth, Style::new().fg(Color::Indexed(196)).bg(Color::Rgb(33, 145, 140)));
            assert_eq!((cell.fg, cell.bg), (by_number, by_mix), "{depth:?}");
        }
        check(Depth::True, Color::Indexed(196), Color::Rgb(33, 145, 140));
        check(Depth::Indexed, Color::Indexed(196), Color::Indexed(30));
        check(Depth::Sixteen, Color::LightRed, Color::Cyan);
        check(Depth::None, Color::Reset, Color::Reset);
    }

    #[test]
    fn what_was_found_before_is_found_again() {
        // More colours than are remembered, twice over.
        let mut near = Near::new(Depth::Indexed);
        for i in (0..2000u32).chain(0..2000) {
            let rgb = ((i * 7) as u8, (i * 13) as u8, (i >> 3) as u8);
            assert_eq!(near.of(rgb), bring_down(rgb, Depth::Indexed));
        }
    }

    #[test]
    fn glyphs_become_ascii_and_names_stay_as_they_are() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 20, 1));
        buffer.set_string(0, 0, "│▾ 重み.ä → ▇", Style::new());
        Look::new(Theme::Terminal, Glyphs::Ascii, Depth::True).apply(&mut buffer);
        let text: String = buffer.content.iter().map(Cell::symbol).collect();
        assert_eq!(text.replace("重 み ", "重み").trim_end(), "|- 重み.ä > %");
    }
}
