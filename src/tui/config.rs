//! The desk's settings out of TOML. What is not understood is told and left out: a desk with a wrong setting is worth
//! more than none.
use std::ops::Range;

use toml_edit::{Document, Item, TableLike};

use super::action::{Action, TABLE};
use super::app::App;
use super::key::{self, Code, Key, Named};
use super::keymap::{Binding, Keymap};
use super::theme::environment::{Environment, Wish};
use super::theme::palette::Theme;
use crate::core::name::nearest;

/// The keys of the file.
const ROOT: &[&str] = &["theme", "ascii", "mouse", "keys"];

/// What the file says, as far as it says anything.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The colours.
    pub theme: Option<Theme>,
    /// Whether glyphs are ASCII.
    pub ascii: Option<bool>,
    /// Whether the desk takes the mouse when it opens.
    pub mouse: Option<bool>,
    /// What the keys mean.
    pub keymap: Keymap,
    /// What was not understood: `config.toml:3: …`.
    pub complaints: Vec<String>,
}

impl Config {
    /// Reads a text; `file` is what it is called in complaints.
    pub fn parse(file: &str, text: &str) -> Self {
        let mut reader = Reader { file, text, complaints: Vec::new() };
        let mut config = Self::default();
        match Document::parse(text) {
            Ok(document) => config.take(&mut reader, document.as_table()),
            Err(e) => {
                // Of what the parser says, the first line is the sentence.
                let what = e.message().lines().next().unwrap_or("not TOML").to_owned();
                reader.complain(e.span(), format!("{what}; until that is mended nothing of the file counts"));
            }
        }
        config.complaints = reader.complaints;
        config
    }
    /// A file that is there and cannot be read.
    pub fn unreadable(file: &str, why: &str) -> Self {
        Self { complaints: vec![format!("{file}: {why}")], ..Self::default() }
    }
    /// All complaints in one line, if there are any.
    pub fn complaint(&self) -> Option<String> {
        let first = self.complaints.first()?;
        Some(match self.complaints.len() {
            1 => first.clone(),
            n => format!("(1 of {n}) {first} · {}", self.complaints[1..].join(" · ")),
        })
    }

    /// Sets up a desk: what was asked for when it was started comes first, then what is said here, then what the
    /// environment says.
    pub fn apply(self, app: &mut App, wish: Wish, environment: &Environment) {
        let wish = Wish { theme: wish.theme.or(self.theme), ascii: wish.ascii.or(self.ascii), ..wish };
        app.look = environment.look(wish);
        app.mouse = self.mouse.unwrap_or(true);
        for complaint in &self.complaints {
            log::warn!("{complaint}");
        }
        if let Some(complaint) = self.complaint() {
            app.complain(complaint);
        }
        app.keymap = self.keymap;
    }

    fn take(&mut self, reader: &mut Reader, root: &dyn TableLike) {
        for (name, item) in root.iter() {
            let span = root.key(name).and_then(|k| k.span()).or(item.span());
            match name {
                "theme" => self.theme = reader.theme(item),
                "ascii" => self.ascii = reader.boolean(name, item),
                "mouse" => self.mouse = reader.boolean(name, item),
                "keys" => match item.as_table_like() {
                    Some(table) => self.keymap = reader.keys(table),
                    None => reader.complain(span, "`keys` is a table: write [keys] above the actions"),
                },
                _ => reader.unknown(span, "key", name, ROOT),
            }
        }
    }
}

type Span = Option<Range<usize>>;

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    complaints: Vec<String>,
}

impl Reader<'_> {
    fn line(&self, span: Span) -> usize {
        let before = self.text.get(..span.map_or(0, |s| s.start)).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }
    fn complain(&mut self, span: Span, what: impl AsRef<str>) {
        let line = self.line(span);
        self.complain_at(line, what);
    }
    fn complain_at(&mut self, line: usize, what: impl AsRef<str>) {
        self.complaints.push(format!("{}:{line}: {}", self.file, what.as_ref()));
    }
    fn unknown(&mut self, span: Span, what: &str, name: &str, allowed: &[&str]) {
        let meant = match nearest(name, allowed) {
            Some(near) => format!("did you mean `{near}`?"),
            None if allowed.len() > 10 => "docs/keys.md lists them".into(),
            None => format!("allowed: {}", allowed.join(", ")),
        };
        self.complain(span, format!("unknown {what} `{name}`; {meant}"));
    }
    fn boolean(&mut self, name: &str, item: &Item) -> Option<bool> {
        let is = item.as_bool();
        if is.is_none() {
            self.complain(item.span(), format!("`{name}` is true or false"));
        }
        is
    }
    fn theme(&mut self, item: &Item) -> Option<Theme> {
        let names: Vec<&str> = Theme::ALL.iter().map(|t| t.name()).collect();
        let theme = item.as_str().and_then(Theme::parse);
        match (theme, item.as_str()) {
            (None, Some(name)) => self.unknown(item.span(), "theme", name, &names),
            (None, None) => self.complain(item.span(), format!("`theme` is one of \"{}\"", names.join("\", \""))),
            _ => {}
        }
        theme
    }

    fn keys(&mut self, table: &dyn TableLike) -> Keymap {
        let mut bindings = Vec::new();
        self.bindings("", table, &mut bindings);
        let (keymap, conflicts) = Keymap::with(&bindings);
        for c in conflicts {
            let line = bindings.iter().find(|b| b.action == c.action).map_or(1, |b| b.line);
            let (action, other) = (c.action.spec().name, c.other.spec().name);
            let (keys, there) = (key::show(&c.keys), key::show(&c.there));
            let why = if c.keys == c.there {
                format!("is `{other}` already")
            } else if c.keys.len() < c.there.len() {
                format!("is the beginning of `{there}`, which is `{other}`")
            } else {
                format!("begins with `{there}`, which is `{other}`")
            };
            self.complain_at(line, format!("`{keys}` for `{action}` {why}; give one of them other keys"));
        }
        keymap
    }

    /// `"recipe.dtype" = "t"`; without the quotation marks TOML makes a table of `recipe`, which means the same.
    fn bindings(&mut self, group: &str, table: &dyn TableLike, out: &mut Vec<Binding>) {
        for (name, item) in table.iter() {
            let name = if group.is_empty() { name.to_owned() } else { format!("{group}.{name}") };
            if let Some(inner) = item.as_table_like().filter(|_| group.is_empty()) {
                self.bindings(&name, inner, out);
                continue;
            }
            let key = name.rsplit('.').next().filter(|_| !group.is_empty()).unwrap_or(&name);
            let span = table.key(key).and_then(|k| k.span()).or(item.span());
            let Some(spec) = TABLE.iter().find(|s| s.name == name) else {
                let names: Vec<&str> = TABLE.iter().map(|s| s.name).collect();
                self.unknown(span, "action", &name, &names);
                continue;
            };
            if matches!(spec.action, Action::Back | Action::Stop) {
                let keys = spec.keys.join(", ");
                self.complain(span, format!("`{name}` stays on {keys}: there must always be a way back"));
                continue;
            }
            let texts = match (item.as_str(), item.as_array()) {
                (Some(text), _) => Some(vec![text.to_owned()]),
                (_, Some(array)) => array.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
                _ => None,
            };
            let Some(texts) = texts else {
                self.complain(item.span(), format!("`{name}` takes a key, \"F2\", or several, [\"t\", \"F2\"]"));
                continue;
            };
            let mut keys = Vec::new();
            for text in &texts {
                match sequence(text) {
                    Ok(sequence) => keys.push(sequence),
                    Err(why) => self.complain(span.clone(), format!("`{name}`: {why}")),
                }
            }
            let line = self.line(span);
            out.push(Binding { action: spec.action, unbinds: texts.is_empty(), keys, line });
        }
    }
}

/// Keys to bind, or why they cannot be bound.
fn sequence(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = key::sequence(text).map_err(|e| format!("{e}; docs/keys.md says how keys are written"))?;
    if keys.is_empty() {
        return Err("an empty text is no key; [] unbinds, \"Space\" is the blank".into());
    }
    for key in &mut keys {
        if key.ctrl
            && let Code::Char(c) = &mut key.code
        {
            // Terminals know no capital letters with Ctrl.
            *c = c.to_ascii_lowercase();
        }
        if key.code == Code::Named(Named::Esc) || *key == Key::ctrl('c') {
            return Err(format!("`{key}` always means the same and cannot be bound"));
        }
        let same = [('i', "Tab"), ('m', "Enter"), ('[', "Esc"), ('h', "Backspace")];
        if let Some((_, other)) = same.iter().find(|(c, _)| *key == Key::ctrl(*c)) {
            return Err(format!("`{key}`: terminals send {other} for it"));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        Config::parse("config.toml", text).complaints
    }

    #[test]
    fn every_key_of_the_page() {
        let page = include_str!("../../docs/config.md");
        let text = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let config = Config::parse("config.toml", text);
        assert_eq!(config.complaints, Vec::<String>::new(), "{text}");
        assert!(ROOT.iter().all(|k| text.contains(k)), "the example has every key");
        assert!(Theme::ALL.iter().all(|t| page.contains(&format!("`{}`", t.name()))), "the page has every theme");
        assert_eq!((config.theme, config.ascii, config.mouse), (Some(Theme::Light), Some(true), Some(false)));
        assert_eq!(config.keymap.all_keys_of(Action::Dtype), "t  F2");
        assert_eq!(config.keymap.keys_of(Action::Suspend), None);
        assert_eq!(config.keymap.keys_of(Action::Quit).as_deref(), Some("Ctrl-q"));
    }

    #[test]
    fn nothing_said_is_nothing_changed() {
        let config = Config::parse("config.toml", "# a remark\n[keys]\n");
        assert_eq!((config.theme, config.ascii, config.mouse), (None, None, None));
        assert_eq!(config.keymap.keys_of(Action::Dtype).as_deref(), Some("t"));
        assert_eq!(config.complaint(), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_to_do() {
        fn check(text: &str, told: &str) {
            assert_eq!(complaints(text), [told], "{text}");
        }
        check("\nthem = \"dark\"", "config.toml:2: unknown key `them`; did you mean `theme`?");
        check("colour = 1", "config.toml:1: unknown key `colour`; allowed: theme, ascii, mouse, keys");
        check("theme = \"ligth\"", "config.toml:1: unknown theme `ligth`; did you mean `light`?");
        check(
            "theme = 3",
            "config.toml:1: `theme` is one of \"auto\", \"dark\", \"light\", \"high-contrast\", \"none\", \"terminal\"",
        );
        check("ascii = \"yes\"", "config.toml:1: `ascii` is true or false");
        check("keys = 1", "config.toml:1: `keys` is a table: write [keys] above the actions");
        check(
            "[keys]\n\"recipe.dtyp\" = \"t\"",
            "config.toml:2: unknown action `recipe.dtyp`; did you mean `recipe.dtype`?",
        );
        check(
            "[keys]\n\"work.jobs\" = 3",
            "config.toml:2: `work.jobs` takes a key, \"F2\", or several, [\"t\", \"F2\"]",
        );
        check(
            "[keys]\n\"work.jobs\" = \"Return\"",
            "config.toml:2: `work.jobs`: `Return` is not a key; docs/keys.md says how keys are written",
        );
        check(
            "[keys]\n\"work.jobs\" = \"\"",
            "config.toml:2: `work.jobs`: an empty text is no key; [] unbinds, \"Space\" is the blank",
        );
        check("[keys]\n\"work.jobs\" = \"Ctrl-i\"", "config.toml:2: `work.jobs`: `Ctrl-i`: terminals send Tab for it");
        check(
            "[keys]\n\"work.jobs\" = \"g Esc\"",
            "config.toml:2: `work.jobs`: `Esc` always means the same and cannot be bound",
        );
        check(
            "[keys]\n\"program.back\" = \"q\"",
            "config.toml:2: `program.back` stays on Esc: there must always be a way back",
        );
    }

    #[test]
    fn conflicts_name_both() {
        fn check(keys: &str, told: &str) {
            assert_eq!(complaints(&format!("[keys]\n{keys}")), [told], "{keys}");
        }
        check(
            "\"recipe.dtype\" = \"q\"",
            "config.toml:2: `q` for `recipe.dtype` is `program.quit` already; give one of them other keys",
        );
        check(
            "\"recipe.dtype\" = \"F2\"\n\"work.jobs\" = [\"F3\", \"F2\"]",
            "config.toml:3: `F2` for `work.jobs` is `recipe.dtype` already; give one of them other keys",
        );
        check(
            "\"recipe.dtype\" = \"g\"",
            "config.toml:2: `g` for `recipe.dtype` is the beginning of `g g`, which is `move.top`; give one of them other keys",
        );
        check(
            "\"recipe.dtype\" = \"q t\"",
            "config.toml:2: `q t` for `recipe.dtype` begins with `q`, which is `program.quit`; give one of them other keys",
        );
    }

    #[test]
    fn one_wrong_line_spoils_no_other() {
        let config =
            Config::parse("config.toml", "theme = \"dark\"\nmouse = 1\nascii = true\n[keys]\nrecipe.dtype = \"F2\"\n");
        assert_eq!((config.theme, config.ascii, config.mouse), (Some(Theme::Dark), Some(true), None));
        assert_eq!(config.keymap.keys_of(Action::Dtype).as_deref(), Some("F2"), "quotation marks may be left out");
        assert_eq!(config.complaint().as_deref(), Some("config.toml:2: `mouse` is true or false"));
    }

    #[test]
    fn a_broken_file_counts_for_nothing_and_says_where() {
        let config = Config::parse("config.toml", "theme = \"dark\"\nascii = \n");
        assert_eq!(config.theme, None);
        let told = config.complaint().unwrap();
        assert!(told.starts_with("config.toml:2: ") && told.ends_with("nothing of the file counts"), "{told}");
        let two = Config::parse("config.toml", "a = 1\nb = 2").complaint().unwrap();
        assert!(two.starts_with("(1 of 2) config.toml:1: ") && two.contains("config.toml:2: "), "{two}");
    }

    #[test]
    fn capital_letters_with_ctrl_are_small_ones() {
        let config = Config::parse("config.toml", "[keys]\nwork.jobs = \"Ctrl-J\"");
        assert_eq!(config.keymap.keys_of(Action::Jobs).as_deref(), Some("Ctrl-j"));
    }
}
