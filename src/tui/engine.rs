//! The real thing behind the desk: targets, trials, conversions and profile files.
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backend::{
    Answer, Backend, ConvertPage, DtypeInfo, Job, JobState, Knob, Outcome, PageGroup, Priority, Progress,
};
use super::event::Waker;
use crate::core::plan::{Action, Totals};
use crate::core::recipe::group_size;
use crate::core::{Family, Loss, Patch, Plan, Result, Row, Settings, units};
use crate::engine::trials::Trials;
use crate::engine::{Limits, convert};
use crate::format::{Opened, profiles, save};
use crate::session::{Profile, TargetChoice, preset};
use crate::target;
use crate::target::layout::{Context, Layout, Output};

/// An opened model with everything that can be done with it.
pub struct Engine {
    opened: Arc<Opened>,
    limits: Limits,
    trials: Trials,
    /// Where profiles were saved, by the name they have since.
    saved: RefCell<HashMap<String, PathBuf>>,
    /// Exact losses by row and action, for the page before a conversion.
    losses: RefCell<HashMap<(String, Action), Loss>>,
}

impl Engine {
    /// Starts the workers.
    pub fn new(opened: Arc<Opened>, limits: Limits, waker: Waker) -> Result<Self> {
        let trials = Trials::new(Arc::clone(&opened), limits, move || waker.wake())?;
        Ok(Self { opened, limits, trials, saved: RefCell::default(), losses: RefCell::default() })
    }
}

impl Backend for Engine {
    fn plan(&self, settings: &Settings) -> Result<Plan> {
        target::plan(&self.opened.model, settings)
    }
    fn totals(&self, plan: &Plan) -> Totals {
        plan.totals(|row| target::is_float(&self.opened.model, row))
    }
    fn dtypes(&self, family: Family) -> Vec<DtypeInfo> {
        target::get(family).dtypes()
    }
    fn can(&self, family: Family, knob: Knob) -> Result<(), String> {
        target::get(family).has(knob)
    }
    fn settings_for(&self, family: Family, from: &Settings) -> TargetChoice {
        // Dtypes, group sizes and ranks of one target mean nothing to another: what speaks of keeping survives.
        let keep = |p: &Patch| Patch { keep: p.keep, ..Patch::default() };
        let mut rules = from.rules.clone();
        for rule in &mut rules {
            rule.patch = keep(&rule.patch);
        }
        rules.retain(|r| !r.patch.is_empty());
        let overrides = from.overrides.iter().map(|(n, p)| (n.clone(), keep(p))).filter(|(_, p)| !p.is_empty());
        TargetChoice {
            target: family,
            defaults: keep(&from.defaults),
            preset: preset::for_class(family, self.opened.model.architecture.as_deref())
                .map(|p| p.rules)
                .unwrap_or_default(),
            overrides: overrides.collect(),
            rules,
        }
    }
    fn request(&self, row: &Row, priority: Priority) {
        self.trials.request(row, priority);
    }
    fn drain(&self) -> Vec<Answer> {
        let answers = self.trials.drain();
        for answer in &answers {
            if let Outcome::Exact(measure) = &answer.outcome {
                self.losses.borrow_mut().insert((answer.name.clone(), answer.action.clone()), measure.loss);
            }
        }
        answers
    }
    fn trials_running(&self) -> usize {
        self.trials.running()
    }
    fn cancel_trials(&self) {
        self.trials.cancel_all();
    }
    fn convert(&self, settings: &Settings, output: &Path, force: bool) -> Result<Box<dyn Job>> {
        let request = convert::Request { output: output.to_owned(), force, max_shard: None };
        Ok(Box::new(Running(convert::Job::start(Arc::clone(&self.opened), settings, request, self.limits)?)))
    }
    fn page(&self, settings: &Settings, output: &Path) -> Result<ConvertPage> {
        let model = &self.opened.model;
        let plan = self.plan(settings)?;
        let kind = convert::output_kind(&self.opened, output, None)?;
        let layout = Layout::new(&plan, &Context { model, settings, output: kind })?;
        Ok(ConvertPage {
            loads_with: target::get(settings.target).loads_with(model),
            file_bytes: layout.file_bytes(),
            free_bytes: save::free_space(output),
            groups: groups(&plan, &self.losses.borrow()),
            warnings: plan.warnings,
        })
    }
    fn save_profile(&self, profile: &mut Profile, target: &str) -> Result<PathBuf> {
        let known = self.saved.borrow().get(target).cloned();
        let path = known.map_or_else(|| profiles::locate(target), Ok)?;
        profiles::write(&path, &profile.to_text())?;
        profile.name = profiles::name_of(&path);
        if let Some(name) = &profile.name {
            self.saved.borrow_mut().insert(name.clone(), path.clone());
        }
        Ok(path)
    }
    fn default_output(&self, settings: &Settings) -> PathBuf {
        let model = &self.opened.model;
        let stem = model.root.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_else(|| "model".into());
        let name = format!("{stem}-{}", settings.target);
        match convert::natural_output(&self.opened) {
            Output::File => PathBuf::from(format!("{name}.safetensors")),
            Output::Folder { .. } => PathBuf::from(name),
        }
    }
}

/// Rows put together by what is done with them, the largest first.
fn groups(plan: &Plan, losses: &HashMap<(String, Action), Loss>) -> Vec<PageGroup> {
    let mut groups: Vec<(PageGroup, Option<(f64, f64)>)> = Vec::new();
    for row in &plan.rows {
        let what = match &row.action {
            Action::Quantize(r) => {
                let rank = if r.svd_rank > 0 { format!("  rank {}", r.svd_rank) } else { String::new() };
                format!("{}  group {}{rank}", r.dtype, group_size::name(r.group_size))
            }
            Action::Cast(_) if !row.excluded => row.to.clone(),
            _ => "kept".into(),
        };
        let at = groups.iter().position(|(g, _)| g.what == what).unwrap_or_else(|| {
            let group = PageGroup { what, tensors: 0, before: 0, after: 0, relative_error: None };
            groups.push((group, Some((0.0, 0.0))));
            groups.len() - 1
        });
        let (group, sums) = &mut groups[at];
        group.tensors += 1;
        group.before += row.bytes_before;
        group.after += row.bytes_after();
        // A group's error is known when that of each of its rows is.
        let loss = losses.get(&(row.name.clone(), row.action.clone())).filter(|_| !row.excluded);
        *sums = match (*sums, loss) {
            (Some((error, weight)), Some(loss)) => {
                let e = loss.mse * row.elements() as f64;
                let w = if loss.relative_error > 0.0 { e / loss.relative_error } else { 0.0 };
                Some((error + e, weight + w))
            }
            _ => None,
        };
    }
    for (group, sums) in &mut groups {
        group.relative_error = sums.map(|(e, w)| if w > 0.0 { e / w } else { 0.0 });
    }
    let mut groups: Vec<PageGroup> = groups.into_iter().map(|(g, _)| g).collect();
    groups.sort_by_key(|g| (g.what == "kept", std::cmp::Reverse(g.before)));
    groups
}

/// A conversion of the engine.
struct Running(convert::Job);

impl Job for Running {
    fn progress(&self) -> Progress {
        let p = &self.0.progress;
        let ((bytes_done, bytes_total), (rows_done, rows_total)) = (p.bytes(), p.rows());
        let elapsed = p.seconds();
        let state = match p.state() {
            convert::State::Running => JobState::Running,
            convert::State::Done(bytes) => {
                JobState::Done(format!("{} in {}", units::size(bytes), units::clock(elapsed)))
            }
            convert::State::Failed(why) => JobState::Failed(why),
            convert::State::Cancelled => JobState::Cancelled,
        };
        let (current, output) = (p.current(), self.0.output.clone());
        Progress { state, bytes_done, bytes_total, rows_done, rows_total, current, elapsed, output }
    }
    fn cancel(&self) {
        self.0.cancel();
    }
    fn take_losses(&self) -> Vec<(String, Loss)> {
        self.0.progress.take_losses()
    }
}
