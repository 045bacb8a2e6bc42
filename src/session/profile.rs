//! Profiles as TOML text: target, defaults, exclusions, ordered rules, overrides by name.
//!
//! A profile that was read keeps the text it came from. Saving changes only what was changed: the difference between
//! what the file said and what holds now is carried into the document, so that comments and order survive, and an
//! untouched profile gives back its own bytes. `docs/profile.md` describes the form.
mod list;
pub(super) mod read;
#[cfg(test)]
mod tests;
mod write;

use toml_edit::DocumentMut;

use super::preset::Preset;
use crate::core::{Dtype, Family, Result, Settings};

/// Which of the built-in presets lies under the profile's own rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PresetChoice {
    /// The one that speaks for the model's class.
    #[default]
    Automatic,
    /// No preset.
    None,
    /// The one of that name.
    Named(String),
}

/// Choices, with the text they came from.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The choices.
    pub settings: Settings,
    /// What to call it: a profile's name, or the file's.
    pub name: Option<String>,
    /// Which preset to use; [`Profile::set_preset`] puts its rules into the settings.
    pub preset: PresetChoice,
    /// The class of the model it was made for. Only for people.
    pub architecture: Option<String>,
    /// Patterns of preset rules that the file switches off.
    off: Vec<String>,
    origin: Option<Box<Origin>>,
}

/// The file behind a profile.
#[derive(Clone, Debug)]
struct Origin {
    text: String,
    document: DocumentMut,
    said: Said,
}

/// Everything that a file can say.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    /// Without the preset's rules, which are no part of a file.
    settings: Settings,
    architecture: Option<String>,
    preset: PresetChoice,
    off: Vec<String>,
}

impl Said {
    fn nothing(target: Family) -> Self {
        Self { settings: Settings::new(target), architecture: None, preset: PresetChoice::Automatic, off: Vec::new() }
    }
}

impl Profile {
    /// A profile without a text behind it.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            name: None,
            preset: PresetChoice::Automatic,
            architecture: None,
            off: Vec::new(),
            origin: None,
        }
    }

    /// Reads a profile. `file` is what messages call it; `dtype` gives a target's spelling of a dtype, or says what is
    /// wrong with it.
    ///
    /// The preset's rules are not read with it: which ones they are is known only with the model. See
    /// [`Profile::set_preset`].
    pub fn parse(text: &str, file: &str, dtype: &dyn Fn(Family, &str) -> Result<Dtype>) -> Result<Self> {
        let (document, said) = read::profile(text, file, dtype)?;
        Ok(Self {
            settings: said.settings.clone(),
            name: None,
            preset: said.preset.clone(),
            architecture: said.architecture.clone(),
            off: said.off.clone(),
            origin: Some(Box::new(Origin { text: text.to_owned(), document, said })),
        })
    }

    /// The text with the choices as they are now. Comments, and the order of what did not change, survive.
    pub fn to_text(&self) -> String {
        let now = self.said();
        match &self.origin {
            Some(origin) if origin.said == now => origin.text.clone(),
            Some(origin) => {
                let mut document = origin.document.clone();
                write::update(&mut document, &origin.said, &now);
                document.to_string()
            }
            None => {
                let target = now.settings.target;
                let mut document = write::template(target);
                write::update(&mut document, &Said::nothing(target), &now);
                document.to_string()
            }
        }
    }

    /// Puts a preset's rules under the profile's own; those that the file switches off are switched off.
    pub fn set_preset(&mut self, preset: Option<Preset>) {
        self.off = self.switched_off();
        let (name, mut rules) = preset.map(|p| (p.name, p.rules)).unzip();
        for rule in rules.iter_mut().flatten() {
            rule.enabled &= !self.off.iter().any(|p| p == rule.pattern.as_str());
        }
        self.settings.preset_name = name;
        self.settings.preset = rules.unwrap_or_default();
    }

    /// Patterns of preset rules that are switched off. The file's order stays; what the file says of a preset that is
    /// not here stays too.
    pub(super) fn switched_off(&self) -> Vec<String> {
        let rules = &self.settings.preset;
        let mut off = self.off.clone();
        off.retain(|p| rules.iter().find(|r| r.pattern.as_str() == p).is_none_or(|r| !r.enabled));
        for rule in rules.iter().filter(|r| !r.enabled) {
            if !off.iter().any(|p| p == rule.pattern.as_str()) {
                off.push(rule.pattern.as_str().to_owned());
            }
        }
        off
    }

    fn said(&self) -> Said {
        Said {
            settings: Settings { preset: Vec::new(), preset_name: None, importance: None, ..self.settings.clone() },
            architecture: self.architecture.clone(),
            preset: self.preset.clone(),
            // Without a preset there is nothing to switch off.
            off: match self.preset {
                PresetChoice::None => Vec::new(),
                _ => self.switched_off(),
            },
        }
    }
}
