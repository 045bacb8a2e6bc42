//! How many colours a terminal has, and the nearest of them. Distances are taken in OKLab, where equal steps look equal.
use std::sync::LazyLock;

use ratatui::style::Color;

use super::palette::Rgb;

/// How many colours there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// None: attributes only.
    None,
    /// The terminal's sixteen.
    Sixteen,
    /// Those, a cube of 6×6×6 and a row of greys.
    Indexed,
    /// All.
    #[default]
    True,
}

/// The sixteen in their usual order.
pub const NAMED: [Color; 16] = [
    Color::Black,
    Color::Red,
    Color::Green,
    Color::Yellow,
    Color::Blue,
    Color::Magenta,
    Color::Cyan,
    Color::Gray,
    Color::DarkGray,
    Color::LightRed,
    Color::LightGreen,
    Color::LightYellow,
    Color::LightBlue,
    Color::LightMagenta,
    Color::LightCyan,
    Color::White,
];

/// What xterm makes of the sixteen; people change them, but rarely a red to a blue.
const XTERM: [Rgb; 16] = [
    (0, 0, 0),
    (205, 0, 0),
    (0, 205, 0),
    (205, 205, 0),
    (0, 0, 238),
    (205, 0, 205),
    (0, 205, 205),
    (229, 229, 229),
    (127, 127, 127),
    (255, 0, 0),
    (0, 255, 0),
    (255, 255, 0),
    (92, 92, 255),
    (255, 0, 255),
    (0, 255, 255),
    (255, 255, 255),
];

/// What a colour by number looks like.
pub fn indexed(n: u8) -> Rgb {
    let level = |i: u8| if i == 0 { 0 } else { 55 + 40 * i };
    match n {
        0..=15 => XTERM[usize::from(n)],
        16..=231 => (level((n - 16) / 36), level((n - 16) / 6 % 6), level((n - 16) % 6)),
        232..=255 => {
            let grey = 8 + 10 * (n - 232);
            (grey, grey, grey)
        }
    }
}

/// A colour where distances are as one sees them: lightness, green to red, blue to yellow.
#[derive(Clone, Copy)]
struct Lab {
    l: f32,
    a: f32,
    b: f32,
}

impl Lab {
    fn of((r, g, b): Rgb) -> Self {
        static LINEAR: LazyLock<[f32; 256]> = LazyLock::new(|| {
            std::array::from_fn(|i| {
                let c = i as f32 / 255.0;
                if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            })
        });
        let [r, g, b] = [r, g, b].map(|c| LINEAR[usize::from(c)]);
        let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
        let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
        let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
        Self {
            l: 0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
            a: 1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
            b: 0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
        }
    }
    fn distance(self, other: Self) -> f32 {
        (self.l - other.l).powi(2) + (self.a - other.a).powi(2) + (self.b - other.b).powi(2)
    }
    fn chroma(self) -> f32 {
        self.a.hypot(self.b)
    }
    /// The angle between two hues.
    fn hue(self, other: Self) -> f32 {
        let angle = (self.b.atan2(self.a) - other.b.atan2(other.a)).abs();
        angle.min(std::f32::consts::TAU - angle)
    }
}

fn least(candidates: impl Iterator<Item = (u8, f32)>) -> u8 {
    candidates.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(i, _)| i)
}

/// The nearest of the cube and the greys. The first sixteen are passed over: nobody knows what they look like.
pub fn nearest_indexed(rgb: Rgb) -> u8 {
    static LABS: LazyLock<Vec<Lab>> = LazyLock::new(|| (16..=255).map(|i| Lab::of(indexed(i))).collect());
    let lab = Lab::of(rgb);
    least((16..=255).zip(LABS.iter()).map(|(i, l)| (i, lab.distance(*l))))
}

/// The nearest of the sixteen. With so few a colour stays a colour, whose hue counts most, and a grey stays a grey: by
/// distance alone every dark green would be grey.
pub fn nearest_named(rgb: Rgb) -> u8 {
    static LABS: LazyLock<[Lab; 16]> = LazyLock::new(|| XTERM.map(Lab::of));
    const GREY: f32 = 0.035;
    let lab = Lab::of(rgb);
    let grey = lab.chroma() < GREY;
    let candidates = (0..16).zip(LABS.iter()).filter(|(_, l)| (l.chroma() < GREY) == grey);
    least(candidates.map(|(i, l)| {
        let light = (lab.l - l.l).powi(2);
        (i, if grey { light } else { lab.hue(*l).powi(2) + light })
    }))
}

/// That colour, or the nearest that there is.
pub fn bring_down(rgb: Rgb, depth: Depth) -> Color {
    match depth {
        Depth::None => Color::Reset,
        Depth::Sixteen => NAMED[usize::from(nearest_named(rgb))],
        Depth::Indexed => Color::Indexed(nearest_indexed(rgb)),
        Depth::True => Color::Rgb(rgb.0, rgb.1, rgb.2),
    }
}

#[cfg(test)]
mod tests {
    use super::super::palette::{DARK, HIGH_CONTRAST, LIGHT};
    use super::*;

    #[test]
    fn what_there_is_is_its_own_nearest() {
        for n in 16..=255 {
            assert_eq!(indexed(nearest_indexed(indexed(n))), indexed(n), "{n}");
        }
        for (n, rgb) in XTERM.iter().enumerate() {
            assert_eq!(usize::from(nearest_named(*rgb)), n);
        }
    }

    #[test]
    fn near_ones_of_256() {
        fn check(rgb: Rgb, near: Rgb) {
            assert_eq!(indexed(nearest_indexed(rgb)), near, "{rgb:?}");
        }
        check((250, 3, 2), (255, 0, 0));
        check((90, 140, 92), (95, 135, 95));
        check((20, 19, 18), (18, 18, 18));
        check((130, 130, 131), (128, 128, 128));
        // Viridis: from violet over green to yellow.
        check((68, 1, 84), (95, 0, 95));
        check((33, 145, 140), (0, 135, 135));
        check((253, 231, 37), (255, 215, 0));
    }

    #[test]
    fn near_ones_of_sixteen() {
        fn check(rgb: Rgb, near: Color) {
            assert_eq!(bring_down(rgb, Depth::Sixteen), near, "{rgb:?}");
        }
        check((10, 10, 12), Color::Black);
        check((120, 125, 130), Color::DarkGray);
        check((220, 222, 225), Color::Gray);
        check((250, 250, 250), Color::White);
        check((0x11, 0x63, 0x29), Color::Green);
        check((0xb3, 0x13, 0x1f), Color::Red);
        check((68, 1, 84), Color::Magenta);
        check((33, 145, 140), Color::Cyan);
        check((253, 231, 37), Color::LightYellow);
    }

    #[test]
    fn the_colours_of_a_palette_keep_their_names() {
        // A role may become brighter or darker, but no red may end as a grey or a green.
        for palette in [&DARK, &LIGHT, &HIGH_CONTRAST] {
            for (n, rgb) in palette.colours.iter().enumerate() {
                let hue = n % 8;
                if (1..7).contains(&hue) {
                    assert_eq!(usize::from(nearest_named(*rgb)) % 8, hue, "{rgb:?}");
                }
            }
        }
    }
}
