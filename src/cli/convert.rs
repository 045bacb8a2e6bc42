//! `mixdown convert`.
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::args::{ConvertArgs, Global};
use super::report::Report;
use super::{print_bytes, print_json, settings, signals};
use crate::core::{Result, name, units};
use crate::engine::convert::{self, Progress, Request};
use crate::format::save;

pub fn run(global: &Global, args: &ConvertArgs) -> Result<u8> {
    let opened = super::open_with(&args.model, &args.settings.lora, global)?;
    let (profile, notes) = super::dynamic::profile(global, &args.settings, &opened, Some(&args.output))?;
    let max_shard = super::plan::shard_size(args.max_shard_size.as_deref())?;
    let request = Request { output: args.output.clone(), force: args.force, max_shard };
    if let Some(path) = &args.loss_report {
        save::check_side_file(path, "--loss-report", &opened, Some(&args.output))?;
    }
    let cancel = signals::cancel_on_signal()?;
    let progress = Progress::default();
    let report = with_bar(&progress, global, || {
        convert::run(&opened, &profile.settings, &request, super::limits(global)?, &cancel, &progress)
    })?;
    let mut warnings = opened.model.warnings.clone();
    warnings.extend(notes.into_iter().chain(report.plan.warnings.iter().cloned()));
    let told = Report {
        model: &opened.model,
        plan: &report.plan,
        dtype: settings::said_dtype(&profile.settings),
        output: Some(&args.output),
        losses: &report.losses,
        file_bytes: report.file_bytes,
        warnings,
        seconds: report.seconds,
        wanted: &|_| true,
    };
    if let Some(path) = &args.loss_report {
        told.write(path)?;
    }
    if args.json {
        return print_json(&told.json());
    }
    super::plan::warn_all(&report.plan.warnings, global);
    if global.quiet {
        return Ok(0);
    }
    let path = args.output.display().to_string();
    let merged = match opened.model.tensors.iter().filter(|t| t.merged).count() {
        0 => String::new(),
        n => format!("adapters are merged into {n} tensors\n"),
    };
    print_bytes(format!("{}{merged}wrote {}\n", told.summary(), name::clean(&path)).as_bytes())
}

/// Runs something with a progress bar on stderr, where that is a terminal.
pub fn with_bar<T>(progress: &Progress, global: &Global, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if global.quiet || !std::io::stderr().is_terminal() {
        return work();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let style = indicatif::ProgressStyle::with_template("{percent:>3} % ▕{bar:20}▏ {wide_msg}")
                .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
            let bar = indicatif::ProgressBar::new(0).with_style(style.progress_chars("██▏ "));
            while !done.load(Ordering::Acquire) {
                let (now, total) = progress.bytes();
                bar.set_length(total.max(1));
                bar.set_position(now.min(total));
                let seconds = progress.seconds().max(1e-3);
                let rate = now as f64 / seconds;
                let left = if now > 0 { (total.saturating_sub(now)) as f64 / rate } else { f64::NAN };
                bar.set_message(format!(
                    "{}/s · {} left · {}",
                    units::size(rate as u64),
                    units::clock(left),
                    name::clean(&progress.current())
                ));
                std::thread::park_timeout(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        });
        // Told even when the work panics: a scope waits for its threads.
        struct Finished<'a>(&'a AtomicBool, std::thread::Thread);
        impl Drop for Finished<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
                self.1.unpark();
            }
        }
        let _finished = Finished(&done, watcher.thread().clone());
        work()
    })
}
