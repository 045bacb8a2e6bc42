//! Keys as people write them: `j`, `Ctrl-d`, `PgUp`, `Space`.
use std::fmt;
use std::str::FromStr;

/// A key without its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// A character; capital letters are characters of their own.
    Char(char),
    /// A function key.
    F(u8),
    /// One of the named keys.
    Named(Named),
}

macro_rules! named {
    ($($variant:ident $text:literal),* $(,)?) => {
        /// Keys that have a name instead of a character.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Named { $(#[doc = $text] $variant),* }
        impl Named {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}
named! {
    Enter "Enter", Esc "Esc", Tab "Tab", Backspace "Backspace", Delete "Delete", Insert "Insert",
    Left "Left", Right "Right", Up "Up", Down "Down",
    Home "Home", End "End", PageUp "PgUp", PageDown "PgDn",
}

/// A key with its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which.
    pub code: Code,
    /// With Ctrl.
    pub ctrl: bool,
    /// With Alt.
    pub alt: bool,
    /// With Shift; never of a character, which changes instead.
    pub shift: bool,
}

impl Key {
    /// A character.
    pub const fn char(c: char) -> Self {
        Self { code: Code::Char(c), ctrl: false, alt: false, shift: false }
    }
    /// A named key.
    pub const fn named(named: Named) -> Self {
        Self { code: Code::Named(named), ctrl: false, alt: false, shift: false }
    }
    /// A character with Ctrl.
    pub const fn ctrl(c: char) -> Self {
        Self { code: Code::Char(c), ctrl: true, alt: false, shift: false }
    }
    /// The text that it types, if it types any.
    pub fn text(self) -> Option<char> {
        match self.code {
            Code::Char(c) if !self.ctrl && !self.alt => Some(c),
            _ => None,
        }
    }
    /// Whether it is that named key, without modifiers.
    pub fn is(self, named: Named) -> bool {
        self == Self::named(named)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (on, prefix) in [(self.ctrl, "Ctrl-"), (self.alt, "Alt-"), (self.shift, "Shift-")] {
            if on {
                text.push_str(prefix);
            }
        }
        match self.code {
            Code::Char(' ') => text.push_str("Space"),
            Code::Char(c) => text.push(c),
            Code::F(n) => text.push_str(&format!("F{n}")),
            Code::Named(named) => text.push_str(named.name()),
        }
        f.pad(&text)
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut key = Self::char(' ');
        let mut rest = text;
        loop {
            let (after, flag) = if let Some(r) = rest.strip_prefix("Ctrl-") {
                (r, &mut key.ctrl)
            } else if let Some(r) = rest.strip_prefix("Alt-") {
                (r, &mut key.alt)
            } else if let Some(r) = rest.strip_prefix("Shift-") {
                (r, &mut key.shift)
            } else {
                break;
            };
            *flag = true;
            rest = after;
        }
        let mut chars = rest.chars();
        key.code = match (chars.next(), chars.next()) {
            (Some(c), None) => Code::Char(c),
            _ if rest == "Space" => Code::Char(' '),
            _ => match Named::ALL.iter().find(|n| n.name() == rest) {
                Some(named) => Code::Named(*named),
                None => match rest.strip_prefix('F').and_then(|n| n.parse().ok()) {
                    Some(n @ 1..=24) => Code::F(n),
                    _ => return Err(format!("`{text}` is not a key")),
                },
            },
        };
        if key.shift && matches!(key.code, Code::Char(_)) {
            return Err(format!("`{text}`: write the character that Shift makes"));
        }
        Ok(key)
    }
}

/// Reads keys separated by blanks: `g g`, `l j Space t 4 Enter`.
pub fn sequence(text: &str) -> Result<Vec<Key>, String> {
    text.split_whitespace().map(str::parse).collect()
}

/// Writes them so.
pub fn show(keys: &[Key]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = Key> {
        let code = prop_oneof![
            any::<char>()
                .prop_filter("a printable one", |c| !c.is_control() && (*c == ' ' || !c.is_whitespace()))
                .prop_map(Code::Char),
            (1u8..=24).prop_map(Code::F),
            prop::sample::select(Named::ALL).prop_map(Code::Named),
        ];
        (code, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(code, ctrl, alt, shift)| Key {
            code,
            ctrl,
            alt,
            shift: shift && !matches!(code, Code::Char(_)),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(key in keys()) {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn spellings() {
        fn check(text: &str, ok: bool) {
            assert_eq!(text.parse::<Key>().is_ok(), ok, "{text}");
        }
        check("Ctrl--", true);
        check("-", true);
        check("Shift-Tab", true);
        check("Shift-a", false);
        check("F25", false);
        check("Return", false);
        check("", false);
    }
}
