//! Errors for people: one line that says what, where and what to do; causes behind it.
use std::fmt;

/// What a failure means for the exit code and for the TUI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The work could not be done (exit code 1).
    Failed,
    /// The request made no sense (exit code 2).
    Usage,
    /// Somebody asked it to stop.
    Interrupted,
}

/// A failure with its one-line message and, behind it, its cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with mixdown's own [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The work could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into(), source: None }
    }
    /// The request made no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), source: None }
    }
    /// Somebody asked it to stop.
    pub fn interrupted() -> Self {
        Self { kind: Kind::Interrupted, message: "interrupted".into(), source: None }
    }
    /// Adds what lies behind the failure (shown by `-v`).
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
    /// Puts the place in front of the message: `model.safetensors: …`.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        if self.kind != Kind::Interrupted {
            self.message = format!("{place}: {}", self.message);
        }
        self
    }
    /// What it means.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and values from files travel in messages: one line, no control characters.
        f.write_str(&super::name::clean(&self.message))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
