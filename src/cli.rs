//! The command line: everything the desk does, for scripts. `cli.md`'s contract lives in the types of [`args`].
pub mod args;
mod bench;
mod convert;
mod demo;
mod desk;
mod diff;
mod dynamic;
mod exchange;
mod inspect;
mod logging;
mod metadata;
mod plan;
mod profile;
mod report;
mod settings;
mod signals;
mod trial;
mod validate;
mod what_if;

use std::ffi::OsString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use clap::{CommandFactory, Parser};

use crate::core::error::Kind;
use crate::core::{Error, Result};
use crate::engine::Limits;
use crate::format::{OpenOptions, Opened};
use crate::target;
use crate::target::adapters::{Wish, merge};
use args::{Cli, Command, DeskArgs, Global, ModelArg};

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
    let result = logging::start(&global).and_then(|()| without_panics(|| dispatch(cli)));
    match result {
        Ok(code) => code,
        Err(e) => report_error(&e, &global),
    }
}

/// No panic reaches a user: it becomes an error that asks for a report.
fn without_panics(work: impl FnOnce() -> Result<u8>) -> Result<u8> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| log::error!("{info}")));
    let result = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::failed(format!("mixdown stumbled over itself ({text}); please report this, with --log FILE")))
    })
}

fn report_error(e: &Error, global: &Global) -> u8 {
    let mut stderr = std::io::stderr().lock();
    if let (Kind::Interrupted, Some(signal)) = (e.kind(), signals::received()) {
        if !global.quiet {
            let _ = writeln!(stderr, "interrupted; nothing was written");
        }
        return 128 + signal;
    }
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
    if cli.command.is_some() && (cli.model != ModelArg::default() || cli.settings != args::SettingsArgs::default()) {
        return Err(Error::usage("MODEL and settings come after the command: `mixdown plan MODEL --dtype int8`"));
    }
    if cli.command.is_some() && cli.desk != DeskArgs::default() {
        return Err(Error::usage("--theme and --ascii are the desk's: `mixdown --theme light MODEL`"));
    }
    match cli.command {
        None => desk::run(global, &cli.model, &cli.settings, cli.desk),
        Some(Command::Inspect(a)) => inspect::run(global, &a),
        Some(Command::Plan(a)) => plan::run(global, &a),
        Some(Command::Trial(a)) => trial::run(global, &a),
        Some(Command::Convert(a)) => convert::run(global, &a),
        Some(Command::Bench(a)) => bench::run(global, &a),
        Some(Command::Diff(a)) => diff::run(global, &a),
        Some(Command::Validate(a)) => validate::run(global, &a),
        Some(Command::Metadata(a)) => metadata::run(global, &a),
        Some(Command::Profile(a)) => profile::run(global, &a),
        Some(Command::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mixdown", &mut text);
            print_bytes(&text)
        }
        Some(Command::Man) => {
            let mut text = Vec::new();
            manual(&mut text).map_err(|e| Error::failed(format!("the manual page cannot be made: {e}")).because(e))?;
            print_bytes(&text)
        }
    }
}

/// The manual page: the program's own, then a section for each command.
fn manual(out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut cli = Cli::command();
    cli.build();
    clap_mangen::Man::new(cli.clone()).render(out)?;
    for command in cli.get_subcommands().filter(|c| c.get_name() != "help") {
        writeln!(out, ".SH \"MIXDOWN {}\"", command.get_name().to_uppercase())?;
        let page = clap_mangen::Man::new(command.clone());
        page.render_description_section(out)?;
        page.render_synopsis_section(out)?;
        page.render_options_section(out)?;
    }
    Ok(())
}

/// Opens what MODEL names, or the built-in model.
fn open(model: &ModelArg, global: &Global) -> Result<Arc<Opened>> {
    open_with(model, &[], global)
}

/// The same with adapters merged into it.
fn open_with(model: &ModelArg, adapters: &[String], global: &Global) -> Result<Arc<Opened>> {
    let mut opened = match (&model.model, model.demo) {
        (None, true) => demo::open()?,
        (Some(label), false) => target::open(label, &OpenOptions { component: model.component.clone() })?,
        (None, false) => {
            return Err(Error::usage("which model? give a file, a folder or an id, or --demo for the built-in one"));
        }
        (Some(_), true) => {
            return Err(Error::usage("--demo takes the place of MODEL; give one of them"));
        }
    };
    let wishes = adapters.iter().map(|text| Wish::parse(text)).collect::<Result<Vec<_>>>();
    merge(&mut opened, &wishes.map_err(|e| e.at("--lora"))?)?;
    if !global.quiet {
        for warning in &opened.model.warnings {
            logging::warn(warning, global);
        }
    }
    Ok(Arc::new(opened))
}

/// More threads than any machine has cores for this; starting a million of them would never end.
const MOST_THREADS: usize = 1024;

fn limits(global: &Global) -> Result<Limits> {
    let mut limits = Limits::default();
    if let Some(threads) = global.threads {
        if threads == 0 || threads > MOST_THREADS {
            return Err(Error::usage(format!("--threads {threads}: give 1 to {MOST_THREADS}")));
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
