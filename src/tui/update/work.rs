//! Converting, saving, stopping, quitting.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Result;
use crate::core::plan::Action as What;
use crate::tui::action::Action;
use crate::tui::app::{App, Conversion};
use crate::tui::aside::{self, Landing, Meanwhile};
use crate::tui::backend::{ConvertPage, Job, JobState, Planner, Progress};
use crate::tui::msg::{Effect, Msg};
use crate::tui::overlay::{Asked, Confirm, Overlay, Page, Prompt};

/// `c`: what would be done, before it is.
pub fn open_page(app: &mut App, fx: &mut Vec<Effect>) {
    let output =
        app.output.clone().unwrap_or_else(|| app.backend.default_output(app.session.settings(), &app.board.plan));
    look_up(
        app,
        output.clone(),
        move |app, page| {
            let seen = !app.aside.apart;
            app.overlays.push(Overlay::Page(Page { output, force: false, page, error: None, scroll: 0, seen }));
        },
        fx,
    );
}

/// Asks what would be done.
fn look_up(
    app: &mut App,
    output: PathBuf,
    then: impl FnOnce(&mut App, std::result::Result<ConvertPage, String>) + Send + 'static,
    fx: &mut Vec<Effect>,
) {
    let settings = Arc::clone(&app.settings);
    let work = move |planner: &dyn Planner| -> Landing {
        let page = planner.page(&settings, &output).map_err(|e| e.to_string());
        Box::new(move |app, _| then(app, page))
    };
    aside::run(app, Meanwhile::Wait, work, fx);
}

/// The page's path was given.
pub fn set_output(app: &mut App, text: &str, fx: &mut Vec<Effect>) {
    let output = PathBuf::from(text);
    app.output = Some(output.clone());
    look_up(
        app,
        output.clone(),
        move |app, found| {
            let seen = !app.aside.apart;
            if let Some(Overlay::Page(page)) = app.overlays.last_mut() {
                *page = Page { output, force: false, page: found, error: None, scroll: page.scroll, seen };
            }
        },
        fx,
    );
}

/// A conversion was started, or not.
pub fn started(app: &mut App, started: Result<Box<dyn Job>>) {
    match started {
        Ok(job) => {
            let mut loads_with = String::new();
            if let Some(Overlay::Page(page)) = app.overlays.last() {
                app.output = Some(page.output.clone());
                loads_with = page.page.as_ref().map(|p| p.loads_with.clone()).unwrap_or_default();
                app.overlays.pop();
            }
            let conversion = Conversion::new(job, Arc::clone(&app.board), loads_with);
            let key = app.keymap.keys_of(Action::Jobs).unwrap_or_default();
            app.say(format!("converting into {} · {key} shows it", conversion.progress.output.display()));
            app.jobs.push(conversion);
        }
        Err(e) => match app.overlays.last_mut() {
            Some(Overlay::Page(page)) => page.error = Some(e.to_string()),
            _ => app.complain(e.to_string()),
        },
    }
}

/// Looks how the conversions stand.
pub fn look_at_jobs(app: &mut App) {
    let mut ended = Vec::new();
    let mut news = false;
    for conversion in &mut app.jobs {
        let Some(job) = &conversion.job else { continue };
        conversion.progress = job.progress();
        for (name, loss) in job.take_losses() {
            let theirs = &conversion.board;
            let family = theirs.plan.family;
            let row = theirs.find(&name).map(|i| &theirs.plan.rows[i]).filter(|r| r.action != What::Copy);
            if let Some(row) = row.cloned() {
                conversion.note(&row, loss, app.losses.alpha_of(row.sources.first()));
                app.losses.written(&app.board, family, name, row.action.clone(), loss);
                news = true;
            }
        }
        if conversion.progress.state != JobState::Running {
            conversion.job = None;
            conversion.ended = Some(app.now);
            ended.push(conversion.progress.clone());
        }
    }
    if news {
        app.losses.sum_up(&app.board, app.session.model.tensors.len());
    }
    for progress in ended {
        if matches!(app.overlays.last(), Some(Overlay::Confirm(Confirm::StopJob | Confirm::QuitWhileConverting))) {
            app.overlays.pop();
        }
        tell(app, progress);
    }
}

/// Says what came of a conversion.
fn tell(app: &mut App, progress: Progress) {
    let output = progress.output.display();
    match progress.state {
        JobState::Done(summary) => {
            let key = app.keymap.keys_of(Action::Jobs).unwrap_or_default();
            app.say(format!("{output} is written: {summary} · {key} shows more"));
        }
        JobState::Failed(why) => app.complain(format!("{output} was not written: {why}")),
        JobState::Cancelled => app.say(format!("cancelled; {output} was not written")),
        JobState::Running => {}
    }
}

/// Who cancels within this time after the end meant what has ended.
const JUST: Duration = Duration::from_secs(3);

/// Asks the running conversion to stop.
pub fn cancel(app: &mut App) {
    for conversion in &mut app.jobs {
        if let Some(job) = &conversion.job {
            conversion.cancelling = true;
            job.cancel();
        }
    }
    app.say("cancelling");
}

/// `Ctrl-c`: asks once whether to cancel what runs; the second press is the answer.
pub fn stop(app: &mut App, fx: &mut Vec<Effect>) {
    match app.overlays.last() {
        Some(Overlay::Confirm(Confirm::StopJob)) => return super::popup::confirm(app, fx),
        // It stops things; it is no way to lose one's choices.
        Some(Overlay::Confirm(_)) => {
            app.overlays.pop();
            return;
        }
        _ => {}
    }
    if app.running_job().is_some() {
        app.overlays.push(Overlay::Confirm(Confirm::StopJob));
    } else if app.backend.trials_running() + app.backend.trying() > 0 {
        app.backend.cancel_trials();
        app.asked.clear();
        app.waiting.clear();
        app.say("the trials are stopped");
    } else if let Some(ended) = app.jobs.last().filter(|j| j.ended.is_some_and(|at| app.now < at + JUST)) {
        // It came too late: what came of it is not to be missed.
        let progress = ended.progress.clone();
        tell(app, progress);
    } else {
        let quit = app.keymap.keys_of(Action::Quit).unwrap_or_default();
        let esc = if app.overlays.is_empty() { "" } else { "Esc closes this, " };
        app.say(format!("nothing to cancel: {esc}{quit} quits"));
    }
}

/// `q`, and `O` for another model: asks only where a conversion runs. Choices that were not saved are kept.
pub fn quit(app: &mut App, another: bool, fx: &mut Vec<Effect>) {
    app.another = another;
    if app.running_job().is_some() {
        app.overlays.push(Overlay::Confirm(Confirm::QuitWhileConverting));
    } else {
        fx.push(left(app));
    }
}

/// How the desk is left, once it may be.
pub fn left(app: &App) -> Effect {
    if app.another { Effect::Another } else { Effect::Quit(0) }
}

/// `Ctrl-s`: saves where the profile came from, or asks for a name.
pub fn save(app: &mut App, fx: &mut Vec<Effect>) {
    match &app.session.profile.name {
        Some(name) => fx.push(Effect::Save(name.clone())),
        None => app.overlays.push(Overlay::Prompt(Prompt {
            asked: Asked::Profile,
            input: Default::default(),
            preview: None,
        })),
    }
}

/// The profile was saved, or not.
pub fn saved(app: &mut App, saved: Result<PathBuf>) {
    match saved {
        Ok(path) => {
            app.session.mark_saved();
            app.say(format!("saved {}", path.display()));
        }
        Err(e) => app.complain(e.to_string()),
    }
}

/// Carries out what needs no terminal, through the backend; what is left needs one. New messages come from some effects.
pub fn perform(app: &mut App, effects: Vec<Effect>) -> Vec<Effect> {
    let mut left = Vec::new();
    let mut waiting = std::collections::VecDeque::from(effects);
    while let Some(effect) = waiting.pop_front() {
        let msg = match effect {
            Effect::Request(row, priority) => {
                // Together: each by itself would wait for the workers' lock, and wake them.
                let mut rows = vec![(*row, priority)];
                while matches!(waiting.front(), Some(Effect::Request(..)))
                    && let Some(Effect::Request(row, priority)) = waiting.pop_front()
                {
                    rows.push((*row, priority));
                }
                app.backend.request(rows);
                continue;
            }
            Effect::WhatIf(rows) => {
                app.backend.what_if(rows);
                continue;
            }
            Effect::Convert { output, force } => {
                Msg::Started(app.backend.convert(app.session.settings(), &output, force))
            }
            Effect::Save(target) => {
                let mut profile = app.session.profile.clone();
                let saved = app.backend.save_profile(&mut profile, &target);
                if saved.is_ok() {
                    app.session.profile = profile;
                }
                Msg::Saved(saved)
            }
            other => {
                left.push(other);
                continue;
            }
        };
        waiting.extend(super::update(app, msg));
    }
    left
}
