//! What a check of a file came to.
use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Some consumer fails on it, or may; or it is not what it seems.
    Warn,
    /// The file's consumer fails on it, or computes something else.
    Error,
}

impl Level {
    /// In JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
    /// For people.
    pub fn mark(self) -> char {
        match self {
            Self::Ok => '✓',
            Self::Warn => '!',
            Self::Error => '✗',
        }
    }
}

/// One line of what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Which check.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, and where.
    pub detail: String,
}

impl Check {
    /// As `validate --json` prints it.
    pub fn json(&self) -> Value {
        json!({"name": self.name, "level": self.level.name(), "detail": self.detail})
    }
}

/// Whether a file passes: warnings do not count.
pub fn passes(checks: &[Check]) -> bool {
    checks.iter().all(|c| c.level != Level::Error)
}

/// Most lines of one level that a check has; the others are counted.
const MOST: usize = 20;

/// What one check has found so far.
#[derive(Clone, Debug)]
pub struct Findings {
    name: &'static str,
    found: Vec<(Level, String)>,
}

impl Findings {
    /// Of the check of that name.
    pub fn new(name: &'static str) -> Self {
        Self { name, found: Vec::new() }
    }
    /// Something that the consumer fails on.
    pub fn error(&mut self, detail: impl Into<String>) {
        self.found.push((Level::Error, detail.into()));
    }
    /// Something that it may fail on.
    pub fn warn(&mut self, detail: impl Into<String>) {
        self.found.push((Level::Warn, detail.into()));
    }
    /// Takes over what was found elsewhere.
    pub fn extend(&mut self, found: impl IntoIterator<Item = (Level, String)>) {
        self.found.extend(found);
    }
    /// The check's lines, errors first; `fine` is what to say when there are none.
    pub fn close(self, fine: impl Into<String>) -> Vec<Check> {
        let name = self.name;
        if self.found.is_empty() {
            return vec![Check { name, level: Level::Ok, detail: fine.into() }];
        }
        let mut lines = Vec::new();
        for level in [Level::Error, Level::Warn] {
            let all: Vec<&String> = self.found.iter().filter(|(l, _)| *l == level).map(|(_, d)| d).collect();
            lines.extend(all.iter().take(MOST).map(|d| Check { name, level, detail: (*d).clone() }));
            if all.len() > MOST {
                lines.push(Check { name, level, detail: format!("… and {} more", all.len() - MOST) });
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_first_and_the_rest_is_counted() {
        let mut findings = Findings::new("shapes");
        findings.warn("w");
        (0..22).for_each(|i| findings.error(format!("e{i}")));
        let lines = findings.close("fine");
        assert_eq!(lines.len(), 20 + 1 + 1);
        assert_eq!((lines[0].detail.as_str(), lines[0].level), ("e0", Level::Error));
        assert_eq!(lines[20].detail, "… and 2 more");
        assert_eq!(lines[21].level, Level::Warn);
        assert!(!passes(&lines) && passes(&lines[21..]));
        let fine = Findings::new("shapes").close("fine");
        assert_eq!(fine, [Check { name: "shapes", level: Level::Ok, detail: "fine".into() }]);
    }
}
