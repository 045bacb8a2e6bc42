//! What the environment says of the terminal. It is read once; nothing is asked of the terminal itself.
use super::depth::Depth;
use super::glyphs::Glyphs;
use super::look::Look;
use super::palette::Theme;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// As the environment says.
    #[default]
    Auto,
    /// Whatever it says.
    Always,
    /// Never.
    Never,
}

/// What a person asked for; `None` leaves it to the environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The colours.
    pub theme: Option<Theme>,
    /// Glyphs as ASCII, or as they are.
    pub ascii: Option<bool>,
    /// Whether there is colour at all.
    pub colour: When,
}

/// The variables that matter.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    term: Option<String>,
    colorterm: Option<String>,
    no_color: bool,
    colorfgbg: Option<String>,
    locale: Option<String>,
    windows: bool,
}

impl Environment {
    /// The program's own.
    pub fn read() -> Self {
        Self::of(|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()), cfg!(windows))
    }
    fn of(get: impl Fn(&str) -> Option<String>, windows: bool) -> Self {
        // An empty variable says as much as none.
        let get = |name| get(name).filter(|v| !v.is_empty());
        Self {
            term: get("TERM"),
            colorterm: get("COLORTERM"),
            no_color: get("NO_COLOR").is_some(),
            colorfgbg: get("COLORFGBG"),
            locale: ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(get),
            windows,
        }
    }
    /// How the desk looks here.
    pub fn look(&self, wish: Wish) -> Look {
        let theme = match wish.theme.unwrap_or_default() {
            Theme::Auto => self.theme(),
            theme => theme,
        };
        let glyphs = match wish.ascii {
            Some(true) => Glyphs::Ascii,
            Some(false) => Glyphs::Unicode,
            None => self.glyphs(),
        };
        Look::new(theme, glyphs, self.depth(wish.colour))
    }
    /// How many colours there are.
    fn depth(&self, when: When) -> Depth {
        if when == When::Never || when == When::Auto && self.no_color {
            return Depth::None;
        }
        let has = |text: &Option<String>, words: &[&str]| {
            text.as_ref().is_some_and(|t| words.iter().any(|w| t.to_ascii_lowercase().contains(w)))
        };
        if has(&self.colorterm, &["truecolor", "24bit"]) || has(&self.term, &["truecolor", "direct"]) {
            Depth::True
        } else if has(&self.term, &["256"]) {
            Depth::Indexed
        } else if self.windows && self.term.is_none() {
            // The console of Windows 10 and later; nothing there sets these variables.
            Depth::True
        } else if when == When::Auto && matches!(self.term.as_deref(), Some("dumb")) {
            Depth::None
        } else {
            Depth::Sixteen
        }
    }
    /// Dark or light where a terminal said so in COLORFGBG: `15;0`, `0;default;15`. The last number is the background's.
    fn theme(&self) -> Theme {
        let ground = self.colorfgbg.as_deref().and_then(|v| v.rsplit(';').next()).and_then(|n| n.parse::<u8>().ok());
        match ground {
            Some(0..=6 | 8) => Theme::Dark,
            Some(7 | 9..=15) => Theme::Light,
            _ => Theme::Terminal,
        }
    }
    /// ASCII where a locale is named that is not one of UTF-8. Where none is named, as in containers and on Windows,
    /// the terminal is still one of today.
    fn glyphs(&self) -> Glyphs {
        match &self.locale {
            Some(locale) if !locale.to_ascii_lowercase().replace('-', "").contains("utf8") => Glyphs::Ascii,
            _ => Glyphs::Unicode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An environment from `NAME=VALUE` words.
    fn environment(words: &str) -> Environment {
        let get = |name: &str| {
            let found = words.split_whitespace().filter_map(|w| w.split_once('=')).find(|(n, _)| *n == name);
            found.map(|(_, value)| value.to_owned())
        };
        Environment::of(get, false)
    }

    #[test]
    fn how_many_colours_there_are() {
        fn check(words: &str, auto: Depth, always: Depth) {
            let environment = environment(words);
            assert_eq!(environment.depth(When::Auto), auto, "{words}");
            assert_eq!(environment.depth(When::Always), always, "{words}");
            assert_eq!(environment.depth(When::Never), Depth::None, "{words}");
        }
        check("", Depth::Sixteen, Depth::Sixteen);
        check("TERM=xterm", Depth::Sixteen, Depth::Sixteen);
        check("TERM=linux", Depth::Sixteen, Depth::Sixteen);
        check("TERM=xterm-256color", Depth::Indexed, Depth::Indexed);
        check("TERM=xterm-256color COLORTERM=truecolor", Depth::True, Depth::True);
        check("TERM=xterm-direct", Depth::True, Depth::True);
        check("TERM=screen COLORTERM=24bit", Depth::True, Depth::True);
        check("TERM=dumb", Depth::None, Depth::Sixteen);
        check("TERM=xterm-256color NO_COLOR=1", Depth::None, Depth::Indexed);
        check("TERM=xterm-256color NO_COLOR=", Depth::Indexed, Depth::Indexed);
        assert_eq!(Environment::of(|_| None, true).depth(When::Auto), Depth::True, "Windows says nothing");
    }

    #[test]
    fn dark_or_light() {
        fn check(words: &str, theme: Theme) {
            assert_eq!(environment(words).look(Wish::default()).theme(), theme, "{words}");
        }
        check("", Theme::Terminal);
        check("COLORFGBG=15;0", Theme::Dark);
        check("COLORFGBG=0;15", Theme::Light);
        check("COLORFGBG=0;default;15", Theme::Light);
        check("COLORFGBG=12;8", Theme::Dark);
        check("COLORFGBG=15;default", Theme::Terminal);
        check("COLORFGBG=nonsense", Theme::Terminal);
        let wish = Wish { theme: Some(Theme::Light), ..Wish::default() };
        assert_eq!(environment("COLORFGBG=15;0").look(wish).theme(), Theme::Light, "who asks is answered");
    }

    #[test]
    fn glyphs_or_ascii() {
        fn check(words: &str, glyphs: Glyphs) {
            assert_eq!(environment(words).look(Wish::default()).glyphs(), glyphs, "{words}");
        }
        check("", Glyphs::Unicode);
        check("LANG=en_US.UTF-8", Glyphs::Unicode);
        check("LANG=C.utf8", Glyphs::Unicode);
        check("LC_CTYPE=UTF-8", Glyphs::Unicode);
        check("LANG=C", Glyphs::Ascii);
        check("LANG=POSIX", Glyphs::Ascii);
        check("LANG=de_DE.ISO-8859-1", Glyphs::Ascii);
        check("LANG=en_US.UTF-8 LC_ALL=C", Glyphs::Ascii);
        check("LANG=C LC_CTYPE=en_US.UTF-8", Glyphs::Unicode);
        check("LC_ALL= LANG=C", Glyphs::Ascii);
        let wish = |ascii| Wish { ascii: Some(ascii), ..Wish::default() };
        assert_eq!(environment("LANG=C").look(wish(false)).glyphs(), Glyphs::Unicode);
        assert_eq!(environment("LANG=C.UTF-8").look(wish(true)).glyphs(), Glyphs::Ascii);
    }
}
