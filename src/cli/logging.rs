//! Messages beside the results: warnings, `-v`, and a log file.
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

use super::args::{Color, Global};
use crate::core::name::clean;
use crate::core::{Error, Result};

struct Logger {
    file: Option<Mutex<File>>,
    stderr: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // Libraries have much to say that nobody asked for.
        metadata.target().starts_with("mixdown")
    }
    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let line = format!("{:5} {}", record.level(), clean(&text));
        if let Some(file) = &self.file {
            // A log that cannot be written must not stop the work it tells of.
            let _ = writeln!(file.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        }
        if self.stderr {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
    fn flush(&self) {}
}

/// Starts the log that the flags ask for.
pub fn start(global: &Global) -> Result<()> {
    let file = match &global.log {
        Some(path) => Some(Mutex::new(
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|e| Error::failed(format!("{}: cannot be written: {e}", path.display())).because(e))?,
        )),
        None => None,
    };
    let stderr = global.verbose > 0;
    if file.is_none() && !stderr {
        return Ok(());
    }
    log::set_max_level(if global.verbose > 1 { LevelFilter::Debug } else { LevelFilter::Info });
    log::set_boxed_logger(Box::new(Logger { file, stderr }))
        .map_err(|e| Error::failed(format!("logging cannot start: {e}")))
}

/// A warning on stderr.
pub fn warn(text: &str, global: &Global) {
    let _ = writeln!(std::io::stderr(), "{} {}", label("warning:", global), clean(text));
}

/// `error:` or `warning:`, in colour where that is wanted.
pub fn label(word: &str, global: &Global) -> String {
    let colour = match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    };
    match (colour, word.starts_with('e')) {
        (true, true) => format!("\x1b[1;31m{word}\x1b[0m"),
        (true, false) => format!("\x1b[1;33m{word}\x1b[0m"),
        _ => word.to_owned(),
    }
}
