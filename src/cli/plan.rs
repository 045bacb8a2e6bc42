//! `mixdown plan`.
use std::time::Instant;

use super::args::{Global, PlanArgs};
use super::report::Report;
use super::{print_bytes, print_json, settings};
use crate::core::{Result, units};
use crate::engine::output;
use crate::target;
use crate::target::layout::{Context, Layout};

pub fn run(global: &Global, args: &PlanArgs) -> Result<u8> {
    let started = Instant::now();
    let opened = super::open_with(&args.model, &args.settings.lora, global)?;
    let (profile, notes) = super::dynamic::profile(global, &args.settings, &opened, args.output.as_deref())?;
    let max_shard = shard_size(args.max_shard_size.as_deref())?;
    let kind = match &args.output {
        Some(path) => output::output_kind(&opened, &profile.settings, path, max_shard)?,
        None => output::natural_output(&opened, &profile.settings, max_shard),
    };
    let mut plan = target::plan(&opened.model, &profile.settings)?;
    let context = Context::of(&opened, &profile.settings, kind);
    let layout = Layout::new(&plan, &context)?;
    plan.warnings.extend(layout.warnings.iter().cloned());
    let mut warnings = opened.model.warnings.clone();
    warnings.extend(notes.into_iter().chain(plan.warnings.iter().cloned()));
    let report = Report {
        model: &opened.model,
        plan: &plan,
        dtype: settings::said_dtype(&profile.settings),
        output: args.output.as_deref(),
        losses: &[],
        file_bytes: layout.file_bytes(),
        warnings,
        seconds: started.elapsed().as_secs_f64(),
        wanted: &|_| true,
    };
    if args.json {
        return print_json(&report.json());
    }
    warn_all(&plan.warnings, global);
    print_bytes(report.table().as_bytes())
}

/// `--max-shard-size`.
pub fn shard_size(text: Option<&str>) -> Result<Option<u64>> {
    text.map(|t| units::parse_size(t).map_err(|e| e.at("--max-shard-size"))).transpose()
}

/// Warnings that belong to the plan; those of opening were said already.
pub fn warn_all(warnings: &[String], global: &Global) {
    if !global.quiet {
        for warning in warnings {
            super::logging::warn(warning, global);
        }
    }
}
