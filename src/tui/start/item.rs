//! Rows of the start screen: what each says, and what comes of it.

/// What `--demo` opens, as a label.
pub const DEMO: &str = "--demo";

/// Headings of the list, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Opened before.
    Recent,
    /// In the folder where one is.
    Here,
    /// In the Hugging Face cache.
    Cache,
    /// The built-in model.
    Demo,
    /// In the folder that is typed.
    Folder,
    /// The text itself.
    Typed,
}

impl Section {
    /// As it is written above its rows.
    pub fn title(self) -> &'static str {
        match self {
            Self::Recent => "Recent",
            Self::Here => "In this folder",
            Self::Cache => "In the Hugging Face cache",
            Self::Demo => "To try things on",
            Self::Folder => "There",
            Self::Typed => "As typed",
        }
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Under which heading.
    pub section: Section,
    /// What opens it.
    pub label: String,
    /// Its path, whole, where it has one: by it the same model is known again.
    pub path: Option<String>,
    /// The component of a pipeline, where one was asked for.
    pub component: Option<String>,
    /// Its name.
    pub name: String,
    /// Where it lies, or what it is.
    pub place: String,
    /// What kind of file.
    pub format: String,
    /// Bytes of its weights.
    pub bytes: Option<u64>,
    /// When it was opened.
    pub when: String,
    /// It was there, and is not any more.
    pub missing: bool,
    /// The profile that it was last used with.
    pub last: Option<String>,
    /// The profile that it will be opened with.
    pub profile: Option<String>,
    /// What the text becomes when it is entered rather than opened.
    pub enter: Option<String>,
}

impl Item {
    /// A row that says nothing but its name.
    pub fn new(section: Section, label: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            section,
            label: label.into(),
            path: None,
            component: None,
            name: name.into(),
            place: String::new(),
            format: String::new(),
            bytes: None,
            when: String::new(),
            missing: false,
            last: None,
            profile: None,
            enter: None,
        }
    }
    /// The built-in model.
    pub fn demo() -> Self {
        Self { place: "a tiny model to try things on".into(), ..Self::new(Section::Demo, DEMO, "demo") }
    }
    /// Whether it is the same row, whatever else is said of it.
    pub fn is(&self, other: &Self) -> bool {
        (self.section, &self.label, &self.component) == (other.section, &other.label, &other.component)
    }
    /// Whether it opens the same model as a recent one.
    pub fn repeats(&self, recent: &Self) -> bool {
        let same = self.label == recent.label || self.path.as_ref() == Some(&recent.label);
        self.section != Section::Recent && recent.section == Section::Recent && recent.component.is_none() && same
    }
}

/// A model to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// A path, an id, a short name, or `--demo`.
    pub label: String,
    /// The component of a pipeline.
    pub component: Option<String>,
    /// The profile to open it with.
    pub profile: Option<String>,
}
