//! `mixdown trial`.
use std::time::Instant;

use super::args::{Global, TrialArgs};
use super::report::Report;
use super::{print_bytes, print_json, settings, signals};
use crate::core::Result;
use crate::core::plan::Row;
use crate::core::rules::Pattern;
use crate::engine::convert::{self, Progress};
use crate::engine::output;
use crate::format::save;
use crate::target;
use crate::target::layout::{Context, Layout};

pub fn run(global: &Global, args: &TrialArgs) -> Result<u8> {
    let started = Instant::now();
    let opened = super::open_with(&args.model, &args.settings.lora, global)?;
    let (profile, notes) = super::dynamic::profile(global, &args.settings, &opened, None)?;
    if args.what_if {
        return super::what_if::run(global, args, &opened, &profile.settings);
    }
    let only = args.tensor.as_deref().map(Pattern::new).transpose().map_err(|e| e.at("--tensor"))?;
    let mut plan = target::plan(&opened.model, &profile.settings)?;
    let output = output::natural_output(&opened, &profile.settings, None);
    let context = Context::of(&opened, &profile.settings, output);
    let layout = Layout::new(&plan, &context)?;
    plan.warnings.extend(layout.warnings.iter().cloned());
    let wanted = |row: &Row| {
        let names = row.sources.iter().map(|id| opened.model.tensor(*id).name.as_str());
        only.as_ref().is_none_or(|p| p.hits(&names.chain([row.name.as_str()]).collect::<Vec<_>>()))
    };
    if let Some(path) = &args.csv {
        save::check_side_file(path, "--csv", &opened, None)?;
    }
    let cancel = signals::cancel_on_signal()?;
    let progress = Progress::default();
    let losses = super::convert::with_bar(&progress, global, || {
        convert::measure(&opened, &plan, &wanted, super::limits(global)?, &cancel, &progress)
    })?;
    let mut warnings = opened.model.warnings.clone();
    warnings.extend(notes.into_iter().chain(plan.warnings.iter().cloned()));
    let report = Report {
        model: &opened.model,
        plan: &plan,
        dtype: settings::said_dtype(&profile.settings),
        output: None,
        losses: &losses,
        file_bytes: layout.file_bytes(),
        warnings,
        seconds: started.elapsed().as_secs_f64(),
        wanted: &wanted,
    };
    if let Some(path) = &args.csv {
        save::write_file(path, report.csv().as_bytes())?;
    }
    if args.json {
        return print_json(&report.json());
    }
    super::plan::warn_all(&plan.warnings, global);
    print_bytes(report.table().as_bytes())
}
