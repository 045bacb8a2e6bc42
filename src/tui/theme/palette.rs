//! Palettes: what each of the sixteen colours that views draw in looks like.

/// Red, green, blue.
pub type Rgb = (u8, u8, u8);

macro_rules! themes {
    ($($variant:ident $name:literal $doc:literal;)*) => {
        /// What a person can ask for.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum Theme { #[default] $(#[doc = $doc] $variant),* }
        impl Theme {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
            /// What it is.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }
        }
    };
}
themes! {
    Auto "auto" "Dark or light where COLORFGBG tells, else the terminal's own sixteen colours";
    Dark "dark" "For a dark background";
    Light "light" "For a light background";
    HighContrast "high-contrast" "White and bright colours on black";
    None "none" "No colour; bold, dim, underlined and reversed only";
    Terminal "terminal" "The terminal's own sixteen colours";
}

impl Theme {
    /// The theme of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name() == name)
    }
    /// Its colours, unless they are the terminal's own, or none.
    pub fn palette(self) -> Option<&'static Palette> {
        match self {
            Self::Dark => Some(&DARK),
            Self::Light => Some(&LIGHT),
            Self::HighContrast => Some(&HIGH_CONTRAST),
            Self::Auto | Self::None | Self::Terminal => None,
        }
    }
}

/// Colours in place of the sixteen.
#[derive(Debug)]
pub struct Palette {
    /// In their usual order: black, red, green, yellow, blue, magenta, cyan, grey, and the same brighter.
    pub colours: [Rgb; 16],
    /// What is written in no colour, and on what; without it the terminal's own.
    pub ground: Option<(Rgb, Rgb)>,
    /// A grey in place of the terminal's dim, which on a light background is often too pale to read.
    pub dim: Option<Rgb>,
}

const fn rgb(hex: u32) -> Rgb {
    ((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

const fn all(hex: [u32; 16]) -> [Rgb; 16] {
    let mut out = [(0, 0, 0); 16];
    let mut i = 0;
    while i < 16 {
        out[i] = rgb(hex[i]);
        i += 1;
    }
    out
}

/// [`Theme::Dark`].
pub static DARK: Palette = Palette {
    colours: all([
        0x1b1f24, 0xff7b72, 0x56d364, 0xe3b341, 0x79c0ff, 0xd2a8ff, 0x56d4dd, 0xb1bac4, //
        0x8b949e, 0xffa198, 0x7ee787, 0xf2cc60, 0xa5d6ff, 0xe2c5ff, 0x9be9ef, 0xf0f6fc,
    ]),
    ground: None,
    dim: None,
};

/// [`Theme::Light`]. Its white is dark: what is written in the strongest colour must be read best.
pub static LIGHT: Palette = Palette {
    colours: all([
        0x24292f, 0xb3131f, 0x116329, 0x7a5200, 0x0550ae, 0x7b2bbd, 0x0b5c74, 0x57606a, //
        0x656d76, 0xa40e26, 0x1a7f37, 0x845700, 0x0860ca, 0x9a34c0, 0x1b6f87, 0x1f2328,
    ]),
    ground: None,
    dim: Some(rgb(0x656d76)),
};

/// [`Theme::HighContrast`].
pub static HIGH_CONTRAST: Palette = Palette {
    colours: all([
        0x000000, 0xff7878, 0x5cff5c, 0xffff00, 0x9cc4ff, 0xff9cff, 0x00ffff, 0xffffff, //
        0xd0d0d0, 0xff9c9c, 0x9cff9c, 0xffff9c, 0xb8d4ff, 0xffb8ff, 0x9cffff, 0xffffff,
    ]),
    ground: Some((rgb(0xffffff), rgb(0x000000))),
    dim: Some(rgb(0xd0d0d0)),
};

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG's ratio of contrast, from 1 to 21.
    fn contrast(a: Rgb, b: Rgb) -> f64 {
        let light = |(r, g, b): Rgb| {
            let [r, g, b] = [r, g, b].map(|c| {
                let c = f64::from(c) / 255.0;
                if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            });
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (light(a) + 0.05, light(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn every_colour_can_be_read_on_its_background() {
        fn check(palette: &Palette, ground: u32, least: f64) {
            for (i, colour) in palette.colours.iter().enumerate().skip(1).chain(palette.dim.iter().map(|c| (99, c))) {
                let is = contrast(*colour, rgb(ground));
                assert!(is >= least, "colour {i} {colour:?} on {ground:06x}: {is:.1}, not {least}");
            }
        }
        check(&DARK, 0x000000, 4.5);
        check(&DARK, 0x282c34, 4.5);
        check(&LIGHT, 0xffffff, 4.5);
        check(&LIGHT, 0xf6f8fa, 4.5);
        check(&HIGH_CONTRAST, 0x000000, 7.0);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for theme in Theme::ALL {
            assert_eq!(Theme::parse(theme.name()), Some(*theme));
        }
        assert_eq!(Theme::parse("solarized"), None);
        assert_eq!(Theme::default(), Theme::Auto);
    }
}
