//! `mixdown bench`: several dtypes or mixtures of one model side by side.
mod plot;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::args::{BenchArgs, Global};
use super::{print_bytes, print_json, settings, signals};
use crate::core::plan::{Plan, total_loss};
use crate::core::{Cancel, Dtype, Error, Loss, LossSums, Patch, Result, Settings, name, units};
use crate::engine::convert::{self, Progress, Request};
use crate::engine::output;
use crate::format::{Opened, save};
use crate::target::layout::{Context, Layout, Output};
use crate::target::{self, is_float};

/// What came of one of them.
struct Outcome {
    mode: Dtype,
    file_bytes: u64,
    bits_per_weight: f64,
    loss: Loss,
    seconds: f64,
    run: Option<f64>,
}

pub fn run(global: &Global, args: &BenchArgs) -> Result<u8> {
    let mut which = args.model.clone();
    if let Some(model) = &args.model_flag
        && which.model.replace(model.clone()).is_some()
    {
        return Err(Error::usage("--model takes the place of MODEL; give one of them"));
    }
    if args.run.as_ref().is_some_and(|command| !command.contains("{}")) {
        return Err(Error::usage(
            "--run: put {} where the file's name goes, as in --run 'llama-perplexity -m {} -f t.txt'",
        ));
    }
    if args.settings.dtype.is_some() || args.settings.dynamic.is_some() {
        return Err(Error::usage("--modes names the dtypes; --dtype and --dynamic have no place beside it"));
    }
    if let (None, false, Some(last)) = (&which.model, which.demo, args.modes.last().filter(|m| Path::new(m).exists())) {
        return Err(Error::usage(format!("`{last}` was taken for a mode: write MODEL before --modes")));
    }
    let opened = super::open_with(&which, &args.settings.lora, global)?;
    let profile = settings::profile(&args.settings, &opened, None)?;
    settings::save(&args.settings, &profile, &opened, None)?;
    if let Some(path) = &args.plot {
        save::check_side_file(path, "--plot", &opened, None)?;
    }
    let family = target::get(profile.settings.target);
    let modes: Vec<Dtype> = args
        .modes
        .iter()
        .map(|m| family.parse_dtype(m).map_err(|e| settings::elsewhere(e, family.family(), m).at("--modes")))
        .collect::<Result<_>>()?;
    let cancel = signals::cancel_on_signal()?;
    let modes: Vec<(Dtype, Settings)> = modes
        .into_iter()
        .map(|mode| {
            let defaults = Patch { dtype: Some(mode.clone()), ..profile.settings.defaults.clone() };
            (mode, Settings { defaults, ..profile.settings.clone() })
        })
        .collect();
    // What cannot be done is said before anything is.
    let mut warnings = opened.model.warnings.clone();
    for (mode, settings) in &modes {
        let plan = Work { opened: &opened, settings, global, cancel: &cancel }.plan().map_err(|e| e.at(mode))?.0;
        warnings.extend(plan.warnings.iter().map(|w| format!("{mode}: {w}")));
    }
    super::plan::warn_all(&warnings[opened.model.warnings.len()..], global);
    let mut outcomes = Vec::new();
    for (mode, settings) in &modes {
        let work = Work { opened: &opened, settings, global, cancel: &cancel };
        outcomes.push(work.outcome(mode.clone(), args.run.as_deref()).map_err(|e| e.at(mode))?);
    }
    if let Some(path) = &args.plot {
        let points: Vec<plot::Point> = outcomes
            .iter()
            .map(|o| plot::Point { name: o.mode.as_str(), bytes: o.file_bytes, loss: o.loss.relative_error })
            .collect();
        save::write_file(path, plot::svg(&opened.model.title, &points).as_bytes())?;
    }
    if args.json {
        let modes: Vec<Value> = outcomes.iter().map(Outcome::json).collect();
        return print_json(&json!({
            "model": opened.model.label,
            "target": profile.settings.target.name(),
            "modes": modes,
            "warnings": warnings,
        }));
    }
    print_bytes(table(&outcomes).as_bytes())
}

struct Work<'a> {
    opened: &'a Arc<Opened>,
    settings: &'a Settings,
    global: &'a Global,
    cancel: &'a Cancel,
}

impl Work<'_> {
    fn outcome(&self, mode: Dtype, command: Option<&str>) -> Result<Outcome> {
        let (plan, losses, file_bytes, seconds, run) = match command {
            None => {
                let (plan, losses, file_bytes, seconds) = self.measured()?;
                (plan, losses, file_bytes, seconds, None)
            }
            Some(command) => self.ran(&mode, command)?,
        };
        let model = &self.opened.model;
        Ok(Outcome {
            mode,
            file_bytes,
            bits_per_weight: plan.totals(|row| is_float(model, row)).bits_per_weight,
            loss: total_loss(losses.iter().flatten()).loss(),
            seconds,
            run,
        })
    }

    /// What would be done, and the bytes of its files.
    fn plan(&self) -> Result<(Plan, u64)> {
        let model = &self.opened.model;
        let plan = target::plan(model, self.settings)?;
        target::get(self.settings.target).obstacles(model, self.settings)?;
        let output = output::natural_output(self.opened, self.settings, None);
        let context = Context::of(self.opened, self.settings, output);
        let bytes = Layout::new(&plan, &context)?.file_bytes();
        Ok((plan, bytes))
    }

    /// In memory.
    fn measured(&self) -> Result<(Plan, Vec<Option<LossSums>>, u64, f64)> {
        let (plan, bytes) = self.plan()?;
        let (started, progress) = (Instant::now(), Progress::default());
        let losses = super::convert::with_bar(&progress, self.global, || {
            convert::measure(self.opened, &plan, &|_| true, super::limits(self.global)?, self.cancel, &progress)
        })?;
        Ok((plan, losses, bytes, started.elapsed().as_secs_f64()))
    }

    /// Into a file that a command then looks at.
    #[allow(clippy::type_complexity, reason = "taken apart where it is made")]
    fn ran(&self, mode: &Dtype, command: &str) -> Result<(Plan, Vec<Option<LossSums>>, u64, f64, Option<f64>)> {
        let folder = tempfile::tempdir()
            .map_err(|e| Error::failed(format!("cannot make a temporary folder: {e}")).because(e))?;
        let name = match output::natural_output(self.opened, self.settings, None) {
            Output::Folder { .. } => mode.to_string(),
            Output::File if self.settings.target == crate::core::Family::Gguf => format!("{mode}.gguf"),
            Output::File => format!("{mode}.safetensors"),
        };
        let request = Request { output: folder.path().join(name), force: false, max_shard: None };
        let progress = Progress::default();
        let report = super::convert::with_bar(&progress, self.global, || {
            let limits = super::limits(self.global)?;
            convert::run(self.opened, self.settings, &request, limits, self.cancel, &progress)
        })?;
        let figure = figure_of(command, &request.output, self.cancel)?;
        Ok((report.plan, report.losses, report.file_bytes, report.seconds, Some(figure)))
    }
}

/// Runs a command on a file; the last number of the last line that it prints.
fn figure_of(command: &str, file: &Path, cancel: &Cancel) -> Result<f64> {
    let file = file.display().to_string();
    let (shell, flag, quoted) = match cfg!(windows) {
        true => ("cmd", "/C", format!("\"{file}\"")),
        false => ("sh", "-c", format!("'{}'", file.replace('\'', "'\\''"))),
    };
    let output = Command::new(shell)
        .arg(flag)
        .arg(command.replace("{}", &quoted))
        .output()
        .map_err(|e| Error::failed(format!("--run: cannot start {shell}: {e}")).because(e))?;
    // A signal that stopped the command was meant for both.
    cancel.check()?;
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default().trim().to_owned()
    };
    if !output.status.success() {
        let why = Some(last(&output.stderr)).filter(|w| !w.is_empty()).map_or_else(String::new, |w| format!(": {w}"));
        return Err(Error::failed(format!("--run: the command failed ({}){why}", output.status)));
    }
    let line = last(&output.stdout);
    number_in(&line)
        .ok_or_else(|| Error::failed(format!("--run: the last line that the command printed has no number: `{line}`")))
}

/// The last number of a line that stands by itself; what follows `+/-` or `±` is how sure it is.
fn number_in(line: &str) -> Option<f64> {
    let line = without_escapes(line);
    let sure = line.split("+/-").next().unwrap_or_default().split('±').next().unwrap_or_default();
    let apart = |c: char| c.is_whitespace() || matches!(c, '=' | ':' | ',' | ';' | '(' | ')' | '[' | ']' | '%');
    sure.split(apart).map(|w| w.trim_end_matches('.')).filter_map(|w| w.parse::<f64>().ok()).next_back()
}

/// Text without the sequences that colour it.
fn without_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // `ESC [ … letter`, the only kind that programs print into their results.
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

impl Outcome {
    fn json(&self) -> Value {
        json!({
            "mode": self.mode.as_str(),
            "file_bytes": self.file_bytes,
            "bits_per_weight": self.bits_per_weight,
            "mean_mse": self.loss.mse,
            "relative_error": self.loss.relative_error,
            "weighted_relative_error": self.loss.weighted_relative_error,
            "seconds": self.seconds,
            "run": self.run,
        })
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let ran = outcomes.iter().any(|o| o.run.is_some());
    let weighed = outcomes.iter().any(|o| o.loss.weighted_relative_error.is_some());
    let width = outcomes.iter().map(|o| o.mode.as_str().len()).max().unwrap_or(0).max("mode".len());
    let mut text = format!(
        "{:width$}  {:>9}  {:>11}  {:>9}  {:>9}{}  {:>7}{}\n",
        "mode",
        "file",
        "bits/weight",
        "mean MSE",
        "relative",
        if weighed { "   weighted" } else { "" },
        "seconds",
        if ran { "         run" } else { "" }
    );
    for o in outcomes {
        text.push_str(&format!(
            "{:width$}  {:>9}  {:>11.3}  {:>9}  {:>9}{}  {:>7.2}",
            name::clean(o.mode.as_str()),
            units::size(o.file_bytes),
            o.bits_per_weight,
            units::error(o.loss.mse),
            units::percent(o.loss.relative_error),
            match o.loss.weighted_relative_error {
                Some(w) => format!("  {:>9}", units::percent(w)),
                None if weighed => " ".repeat(11),
                None => String::new(),
            },
            o.seconds
        ));
        text.push_str(&o.run.map_or_else(String::new, |n| format!("  {n:>10}")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_of_a_line_counts() {
        fn check(line: &str, expected: Option<f64>) {
            assert_eq!(number_in(line), expected, "{line}");
        }
        check("Final estimate: PPL = 6.1234 +/- 0.0312", Some(6.1234));
        check("acc 0.71 ± 0.02", Some(0.71));
        check("\u{1b}[31mx\u{1b}[0m 3", Some(3.0));
        check("/tmp/.tmpV2/Q4_0.gguf hello", None);
        check("took (12.5) 50%", Some(50.0));
        check("6.5", Some(6.5));
        check("ppl=6.5.", Some(6.5));
        check("loss -1e-3 nats", Some(-1e-3));
        check("no figure", None);
        check("", None);
    }
}
