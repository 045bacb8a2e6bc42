//! The command line: everything the desk does, for scripts. `cli.md`'s contract lives in the types of [`args`].
pub mod args;
mod convert;
mod demo;
mod inspect;
mod logging;
mod plan;
mod profile;
mod report;
mod settings;
mod signals;
mod trial;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use clap::{CommandFactory, Parser};

use crate::core::error::Kind;
use crate::core::{Error, Result};
use crate::engine::Limits;
use crate::format::{OpenOptions, Opened};
use crate::session::Session;
use crate::{target, tui};
use args::{Cli, Command, Global, ModelArg};

/// Parses the arguments, runs the command, and gives the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are printed to stdout and are no failure.
            let code = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return code;
        }
    };
    let global = cli.global.clone();
    let result = logging::start(&global).and_then(|()| dispatch(cli));
    match result {
        Ok(code) => code,
        Err(e) => report_error(&e, &global),
    }
}

fn report_error(e: &Error, global: &Global) -> u8 {
    if let (Kind::Interrupted, Some(signal)) = (e.kind(), signals::received()) {
        return 128 + signal;
    }
    let mut stderr = std::io::stderr().lock();
    // If stderr is gone there is nobody left to tell.
    let _ = writeln!(stderr, "{} {e}", logging::label("error:", global));
    if global.verbose > 0 {
        let mut cause = std::error::Error::source(e);
        while let Some(c) = cause {
            let _ = writeln!(stderr, "  because: {}", crate::core::name::clean(&c.to_string()));
            cause = c.source();
        }
    }
    match e.kind() {
        Kind::Usage => 2,
        Kind::Interrupted => 130,
        Kind::Failed => 1,
    }
}

fn dispatch(cli: Cli) -> Result<u8> {
    let global = &cli.global;
    match cli.command {
        None => desk(global, &cli.model, &cli.settings),
        Some(Command::Inspect(a)) => inspect::run(global, &a),
        Some(Command::Plan(a)) => plan::run(global, &a),
        Some(Command::Trial(a)) => trial::run(global, &a),
        Some(Command::Convert(a)) => convert::run(global, &a),
        Some(Command::Profile(a)) => profile::run(global, &a),
        Some(Command::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mixdown", &mut text);
            print_bytes(&text)
        }
        Some(Command::Man) => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut text)
                .map_err(|e| Error::failed(format!("the manual page cannot be made: {e}")).because(e))?;
            print_bytes(&text)
        }
    }
}

fn desk(global: &Global, model: &ModelArg, choices: &args::SettingsArgs) -> Result<u8> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Error::usage(
            "the desk needs a terminal; without one use `mixdown inspect`, `plan`, `trial` or `convert` (see --help)",
        ));
    }
    let opened = open(model, global)?;
    let profile = settings::profile(choices, &opened.model, None)?;
    let limits = limits(global)?;
    let make = move |wake: tui::Waker| {
        let session = Session::new(Arc::new(opened.model.clone()), profile);
        let live = tui::Live::new(opened, limits, move || wake.wake())?;
        Ok((session, Box::new(live) as Box<dyn tui::backend::Backend>))
    };
    tui::run(make, tui::Options::default())
}

/// Opens what MODEL names, or the built-in model.
fn open(model: &ModelArg, global: &Global) -> Result<Arc<Opened>> {
    let opened = match (&model.model, model.demo) {
        (None, true) => demo::open()?,
        (Some(label), false) => target::open(label, &OpenOptions { component: model.component.clone() })?,
        (None, false) => {
            return Err(Error::usage("which model? give a file, a folder or an id, or --demo for the built-in one"));
        }
        (Some(_), true) => {
            return Err(Error::usage("--demo takes the place of MODEL; give one of them"));
        }
    };
    if !global.quiet {
        for warning in &opened.model.warnings {
            logging::warn(warning, global);
        }
    }
    Ok(Arc::new(opened))
}

fn limits(global: &Global) -> Result<Limits> {
    let mut limits = Limits::default();
    if let Some(threads) = global.threads {
        if threads == 0 {
            return Err(Error::usage("--threads 0: give at least 1"));
        }
        limits.threads = threads;
    }
    if let Some(memory) = &global.memory {
        limits.memory = crate::core::units::parse_size(memory).map_err(|e| e.at("--memory"))?;
    }
    Ok(limits)
}

/// Prints to stdout; a reader that has gone away is no failure.
fn print_bytes(bytes: &[u8]) -> Result<u8> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::failed(format!("stdout cannot be written: {e}")).because(e))
        }
        _ => Ok(0),
    }
}

fn print_json(value: &serde_json::Value) -> Result<u8> {
    print_bytes(format!("{value:#}\n").as_bytes())
}
