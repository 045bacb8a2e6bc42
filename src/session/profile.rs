//! Profiles as TOML text: target, defaults, exclusions, ordered rules, overrides by name. Comments survive a save.
use crate::core::Settings;

/// Choices, with the text they came from.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The choices.
    pub settings: Settings,
    /// What to call it: a profile's name, or the file's.
    pub name: Option<String>,
}

impl Profile {
    /// A profile without a text behind it.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            name: None,
        }
    }
}
