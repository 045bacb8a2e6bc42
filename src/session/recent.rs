//! Models opened lately, as TOML text: what the start screen offers first.
//!
//! The list is a convenience. What of it cannot be understood is left out, never an error.
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

/// Entries that are kept.
pub const MOST: usize = 30;
const HEAD: &str =
    "# Models opened at the desk, newest first. mixdown writes this; what it cannot read it leaves out.\n\n";

/// A model that was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What to open: an absolute path, an id, or `--demo`.
    pub model: String,
    /// The component of a pipeline folder, where one was asked for.
    pub component: Option<String>,
    /// What people call it.
    pub title: String,
    /// The format of its files.
    pub format: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// When, in seconds since 1970.
    pub opened: u64,
    /// The profile it was last used with: a name or an absolute path.
    pub profile: Option<String>,
}

impl Entry {
    fn is(&self, other: &Self) -> bool {
        (&self.model, &self.component) == (&other.model, &other.component)
    }
}

/// The list, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Its entries.
    pub entries: Vec<Entry>,
}

impl Recent {
    /// Reads a list. A broken text is an empty list, a broken entry is passed over.
    pub fn parse(text: &str) -> Self {
        let document = text.parse::<DocumentMut>().unwrap_or_default();
        let tables = document.get("model").and_then(Item::as_array_of_tables);
        let mut list = Self::default();
        for entry in tables.into_iter().flatten().filter_map(entry) {
            if list.entries.len() < MOST && !list.entries.iter().any(|e| e.is(&entry)) {
                list.entries.push(entry);
            }
        }
        list
    }
    /// The list as text.
    pub fn to_text(&self) -> String {
        let mut tables = ArrayOfTables::new();
        for e in self.entries.iter().take(MOST) {
            let mut table = Table::new();
            table["path"] = value(&e.model);
            if let Some(component) = &e.component {
                table["component"] = value(component);
            }
            table["title"] = value(&e.title);
            table["format"] = value(&e.format);
            table["bytes"] = value(i64::try_from(e.bytes).unwrap_or(i64::MAX));
            table["opened"] = value(i64::try_from(e.opened).unwrap_or(i64::MAX));
            if let Some(profile) = &e.profile {
                table["profile"] = value(profile);
            }
            tables.push(table);
        }
        let mut document = DocumentMut::new();
        if !tables.is_empty() {
            document.insert("model", Item::ArrayOfTables(tables));
        }
        format!("{HEAD}{document}")
    }
    /// Puts an entry first; what was known of the same model goes.
    pub fn push(&mut self, entry: Entry) {
        self.entries.retain(|e| !e.is(&entry));
        self.entries.insert(0, entry);
        self.entries.truncate(MOST);
    }
}

fn entry(table: &Table) -> Option<Entry> {
    let text = |key: &str| table.get(key).and_then(Item::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
    let number = |key: &str| table.get(key).and_then(Item::as_integer).and_then(|n| u64::try_from(n).ok());
    let model = text("path")?;
    Some(Entry {
        component: text("component"),
        title: text("title").unwrap_or_else(|| model.clone()),
        format: text("format").unwrap_or_default(),
        bytes: number("bytes").unwrap_or_default(),
        opened: number("opened").unwrap_or_default(),
        profile: text("profile"),
        model,
    })
}

/// How long ago something was: `just now`, `5 min ago`, `3 days ago`; nothing of what lies in the future or is unknown.
pub fn ago(now: u64, then: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let Some(seconds) = now.checked_sub(then).filter(|_| then > 0) else { return String::new() };
    let many = |n: u64, word: &str| format!("{n} {word}{} ago", if n == 1 { "" } else { "s" });
    match seconds {
        0..MINUTE => "just now".into(),
        MINUTE..HOUR => format!("{} min ago", seconds / MINUTE),
        HOUR..DAY => format!("{} h ago", seconds / HOUR),
        _ if seconds < 14 * DAY => many(seconds / DAY, "day"),
        _ if seconds < 60 * DAY => many(seconds / (7 * DAY), "week"),
        _ if seconds < 730 * DAY => many(seconds / (30 * DAY), "month"),
        _ => many(seconds / (365 * DAY), "year"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(model: &str) -> Entry {
        Entry { model: model.into(), title: model.into(), ..Entry::default() }
    }

    #[test]
    fn what_cannot_be_understood_is_left_out() {
        fn check(text: &str, expected: &[&str]) {
            let models: Vec<String> = Recent::parse(text).entries.into_iter().map(|e| e.model).collect();
            assert_eq!(models, expected, "{text}");
        }
        check("", &[]);
        check("not = [ toml", &[]);
        check("model = 3", &[]);
        check("[[model]]\ntitle = 'no path'\n[[model]]\npath = '/a'", &["/a"]);
        check("[[model]]\npath = 7\n[[model]]\npath = ''\n[[model]]\npath = '/b'\nbytes = -1\nopened = 'x'", &["/b"]);
        check(
            "[[model]]\npath = '/a'\n[[model]]\npath = '/a'\n[[model]]\npath = '/a'\ncomponent = 'vae'",
            &["/a", "/a"],
        );
        check(&"[[model]]\npath = '/a'\nunknown = true\n".repeat(3), &["/a"]);
    }

    #[test]
    fn the_newest_comes_first_and_there_are_not_too_many() {
        let mut list = Recent::default();
        for i in 0..40 {
            list.push(named(&format!("/m{i}")));
        }
        list.push(named("/m30"));
        assert_eq!(list.entries.len(), MOST);
        assert_eq!(list.entries[0].model, "/m30");
        assert_eq!(list.entries[1].model, "/m39");
        assert_eq!(list.entries.iter().filter(|e| e.model == "/m30").count(), 1);
    }

    #[test]
    fn times_as_people_say_them() {
        fn check(seconds: u64, expected: &str) {
            assert_eq!(ago(2_000_000_000, 2_000_000_000 - seconds), expected);
        }
        check(0, "just now");
        check(61, "1 min ago");
        check(3600 * 5, "5 h ago");
        check(86_400, "1 day ago");
        check(86_400 * 15, "2 weeks ago");
        check(86_400 * 90, "3 months ago");
        check(86_400 * 800, "2 years ago");
        assert_eq!(ago(5, 9), "");
        assert_eq!(ago(5, 0), "");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            names in prop::collection::vec(("\\PC{1,12}", prop::option::of("\\PC{1,6}"), any::<u32>()), 0..5)
        ) {
            let mut list = Recent::default();
            for (name, profile, n) in names {
                list.push(Entry { profile, bytes: n.into(), opened: n.into(), ..named(&name) });
            }
            prop_assert_eq!(Recent::parse(&list.to_text()), list);
        }
        #[test]
        fn any_text_gives_a_list(text in "\\PC{0,80}") {
            prop_assert!(Recent::parse(&text).entries.len() <= MOST);
        }
    }
}
