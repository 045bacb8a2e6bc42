//! What happens, and what is to be done about it.
use std::path::PathBuf;
use std::time::Instant;

use super::backend::{Answer, Job, Priority};
use super::key::Key;
use crate::core::{Result, Row};

/// What `update` takes.
pub enum Msg {
    /// The desk has just been opened.
    Opened,
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The mouse was pressed there.
    Click(u16, u16),
    /// The mouse was moved there with its button down.
    Drag(u16, u16),
    /// The mouse's button was let go.
    Release,
    /// The wheel was turned there, that many notches down.
    Wheel(u16, u16, i32),
    /// The screen has another size.
    Resize(u16, u16),
    /// It is now that late.
    Tick(Instant),
    /// Trials have come to an end.
    Answers(Vec<Answer>),
    /// A conversion was started, or not.
    Started(Result<Box<dyn Job>>),
    /// The profile was saved, or not.
    Saved(Result<PathBuf>),
}

/// What `update` asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A trial.
    Request(Box<Row>, Priority),
    /// Losses of rows as they might be, in place of those asked for before.
    WhatIf(Vec<Row>),
    /// A conversion.
    Convert {
        /// Where to.
        output: PathBuf,
        /// Over what is there.
        force: bool,
    },
    /// The profile saved, under that name or as that file.
    Save(String),
    /// A text on the clipboard.
    Copy(String),
    /// The whole screen drawn anew.
    Redraw,
    /// The mouse taken, or left to the terminal.
    Mouse(bool),
    /// The program stopped until the shell resumes it.
    Suspend,
    /// Another model in this one's place.
    Another,
    /// The end.
    Quit(u8),
}
