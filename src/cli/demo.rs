//! `--demo`: the built-in model, in MODEL's place.
use crate::core::Result;
use crate::format::{self, Opened};
use crate::target;

/// Opens it.
pub fn open() -> Result<Opened> {
    let mut opened = format::demo::open()?;
    target::recognise(&mut opened)?;
    Ok(opened)
}
