//! `--dynamic`: dtypes chosen by what they lose, before anything else is done.
use std::path::Path;
use std::sync::Arc;

use super::args::{Global, SettingsArgs};
use super::{convert, logging, settings, signals};
use crate::core::{Error, Result, units};
use crate::engine::convert::Progress;
use crate::engine::dynamic;
use crate::format::Opened;
use crate::session::profile::Profile;

/// The profile that the flags describe, with its dynamic choices made; what should be said of them.
pub fn profile(
    global: &Global,
    args: &SettingsArgs,
    opened: &Arc<Opened>,
    output: Option<&Path>,
) -> Result<(Profile, Vec<String>)> {
    let mut profile = settings::profile(args, opened, output)?;
    let mut notes = Vec::new();
    if let Some(text) = &args.dynamic {
        notes.extend(choose(global, text, opened, &mut profile)?);
        if !global.quiet {
            notes.iter().for_each(|note| logging::warn(note, global));
        }
    }
    if let Some(note) = settings::misnamed(&profile.settings, output) {
        if !global.quiet {
            logging::warn(&note, global);
        }
        notes.push(note);
    }
    settings::save(args, &profile, opened, output)?;
    Ok((profile, notes))
}

fn choose(global: &Global, text: &str, opened: &Arc<Opened>, profile: &mut Profile) -> Result<Vec<String>> {
    let threshold = match text {
        "auto" => None,
        number => Some(number.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(|| {
            Error::usage(format!("--dynamic={text}: give the loss that a layer may have, such as 0.01, or nothing"))
        })?),
    };
    settings::require(profile.settings.target, crate::target::Knob::Dynamic, "--dynamic")?;
    let (cancel, progress) = (signals::cancel_on_signal()?, Progress::default());
    let choices = convert::with_bar(&progress, global, || {
        dynamic::choose(opened, &profile.settings, threshold, super::limits(global)?, &cancel, &progress)
    })?;
    dynamic::apply(&mut profile.settings, &choices);
    let mut notes = vec![format!(
        "--dynamic read {} of weights and chose the dtypes of {} layers",
        units::size(progress.bytes().1),
        choices.len()
    )];
    let kept: Vec<&str> = choices.iter().filter(|c| c.dtype.is_none()).map(|c| c.name.as_str()).collect();
    if let [first, ..] = kept[..] {
        notes.push(format!("no dtype passes for {} of them, `{first}` for one: kept as they are", kept.len()));
    }
    Ok(notes)
}
