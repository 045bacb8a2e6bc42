//! The engine behind the desk: what the program uses where tests use a stepped fake.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backend::{
    Alternative, Answer, Backend, ConvertPage, DtypeChoice, Form, Job, JobState, Knob, PageGroup, Planner, Prior,
    Priority, Progress,
};
use crate::core::imatrix::Imatrix;
use crate::core::model::Origin;
use crate::core::plan::{Action, Totals};
use crate::core::recipe::group_size;
use crate::core::{Dtype, Error, Family, Loss, Patch, Plan, Result, Row, ScaleSearch, Settings, TensorId, units};
use crate::engine::Limits;
use crate::engine::convert::{self, Request, State};
use crate::engine::output;
use crate::engine::trials::Trials;
use crate::format::{Opened, find, profiles, save};
use crate::session::{Profile, TargetChoice, preset};
use crate::target;

/// An opened model and its workers.
pub struct Live {
    opened: Arc<Opened>,
    planner: Arc<dyn Planner>,
    trials: Trials,
    limits: Limits,
    /// What the session began with: coming back to that target brings back its preset, as the profile has it.
    began: Settings,
}

impl Live {
    /// Starts the trial workers; `wake` is called when there is something to drain.
    pub fn new(
        opened: Arc<Opened>,
        limits: Limits,
        began: Settings,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self> {
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(wake);
        let planner = Arc::new(Headers { opened: Arc::clone(&opened), wake: Arc::clone(&wake) });
        let trials = Trials::new(Arc::clone(&opened), limits, move || wake())?;
        Ok(Self { opened, planner, trials, limits, began })
    }
}

/// Plans of an opened model.
struct Headers {
    opened: Arc<Opened>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Planner for Headers {
    fn plan(&self, settings: &Settings) -> Result<Plan> {
        target::plan(&self.opened.model, settings)
    }

    fn totals(&self, plan: &Plan) -> Totals {
        plan.totals(|row| target::is_float(&self.opened.model, row))
    }

    fn prior(&self) -> Prior {
        Prior::of(&self.opened.model)
    }

    fn alternatives(&self, settings: &Settings, ids: &[TensorId], now: &Action) -> Result<Vec<Alternative>> {
        let target = target::get(settings.target);
        let model = &self.opened.model;
        let recipe = match now {
            Action::Quantize(recipe) => Some(recipe),
            _ => None,
        };
        let mut list = target.alternatives(recipe);
        if ids.len() > 1 {
            // Of many tensors what a person would think of first; of one, everything.
            list.retain(|a| a.usual);
        }
        // Who takes one means these layers, whatever is done otherwise.
        let included = |patch: Patch| Patch { keep: Some(false), ..patch };
        let patches: Vec<Patch> = list.iter().map(|a| included(a.patch.clone())).chain([Patch::keep()]).collect();
        let by_tensor = target.variants(model, ids, settings, &patches)?;
        let usual = list.iter().map(|a| a.usual).chain([true]);
        Ok(patches
            .into_iter()
            .zip(usual)
            .enumerate()
            .map(|(i, (patch, usual))| Alternative {
                patch,
                usual,
                rows: by_tensor.iter().filter_map(|rows| rows.get(i).cloned()).collect(),
            })
            .collect())
    }

    fn page(&self, settings: &Settings, output: &Path) -> Result<ConvertPage> {
        let model = &self.opened.model;
        let kind = output::output_kind(&self.opened, settings, output, None)?;
        let is_folder = kind != target::layout::Output::File;
        let plan = target::plan(model, settings)?;
        let context = target::layout::Context::of(&self.opened, settings, kind);
        let layout = target::layout::Layout::new(&plan, &context)?;
        let mut warnings: Vec<String> = plan.warnings.iter().chain(&layout.warnings).cloned().collect();
        // What stands in the way is said before anybody presses Enter; `force` is asked for on its own.
        let barred = save::check_target(output, is_folder, true, &self.opened).err();
        let occupied = barred.is_none() && save::check_target(output, is_folder, false, &self.opened).is_err();
        warnings.extend(barred.map(|e| e.to_string()));
        if let Err(e) = save::check_space(output, layout.file_bytes()) {
            warnings.push(e.to_string());
        }
        Ok(ConvertPage {
            loads_with: target::get(plan.family).loads_with(model, &plan),
            file_bytes: layout.file_bytes(),
            free_bytes: save::free_space(output),
            warnings,
            occupied,
            groups: groups(&plan),
        })
    }

    fn wake(&self) {
        (self.wake)();
    }
}

impl Backend for Live {
    fn planner(&self) -> Arc<dyn Planner> {
        Arc::clone(&self.planner)
    }

    fn dtypes(&self, family: Family) -> Vec<DtypeChoice> {
        choices(target::get(family).dtypes())
    }

    fn defaults(&self, family: Family) -> Vec<DtypeChoice> {
        let target = target::get(family);
        let mixtures = target.mixtures();
        choices(if mixtures.is_empty() { target.dtypes() } else { mixtures })
    }

    fn parse_dtype(&self, family: Family, name: &str) -> Result<Dtype> {
        target::get(family).parse_dtype(name)
    }

    fn is_for_all(&self, family: Family, patch: &Patch) -> bool {
        target::get(family).is_for_all(patch)
    }

    fn can(&self, family: Family, knob: Knob) -> Result<(), String> {
        target::get(family).has(match knob {
            Knob::GroupSize => target::Knob::GroupSize,
            Knob::SvdRank => target::Knob::SvdRank,
            Knob::Hadamard => target::Knob::Hadamard,
            Knob::Codebook => target::Knob::Codebook,
            Knob::ScaleSearch => target::Knob::ScaleSearch,
            Knob::QuantConv => target::Knob::QuantConv,
            Knob::QuantEmbedding => target::Knob::QuantEmbedding,
            Knob::Importance => target::Knob::Importance,
        })
    }

    fn settings_for(&self, form: Form, from: &Settings) -> TargetChoice {
        let family = form.family;
        // Dtypes of one target mean nothing to another; what is kept stays kept.
        let keep_only = |p: &Patch| Patch { keep: p.keep, ..Patch::default() };
        let rules = from.rules.iter().map(|r| crate::core::Rule { patch: keep_only(&r.patch), ..r.clone() });
        let overrides: BTreeMap<String, Patch> =
            from.overrides.iter().map(|(n, p)| (n.clone(), keep_only(p))).filter(|(_, p)| !p.is_empty()).collect();
        let back = family == self.began.target;
        let (preset_name, preset) = if back {
            (self.began.preset_name.clone(), self.began.preset.clone())
        } else {
            let preset = preset::for_class(family, self.opened.model.architecture.as_deref());
            (preset.as_ref().map(|p| p.name.clone()), preset.map(|p| p.rules).unwrap_or_default())
        };
        TargetChoice {
            target: family,
            defaults: Patch { dtype: Some(target::get(family).default_dtype()), ..Patch::default() },
            preset_name,
            preset,
            rules: rules.filter(|r| !r.patch.is_empty()).collect(),
            overrides,
            quant_conv: back && self.began.quant_conv,
            quant_embedding: back && self.began.quant_embedding,
            lite: form.lite,
        }
    }

    fn imatrix(&self, path: &str) -> Result<Arc<Imatrix>> {
        crate::format::imatrix::open(Path::new(path)).map(Arc::new)
    }

    fn request(&self, rows: Vec<(Row, Priority)>) {
        self.trials.request_all(rows);
    }

    fn drain(&self) -> Vec<Answer> {
        self.trials.drain()
    }

    fn trials_running(&self) -> usize {
        self.trials.running()
    }

    fn what_if(&self, rows: Vec<Row>) {
        self.trials.what_if(rows);
    }

    fn trying(&self) -> usize {
        self.trials.trying()
    }

    fn cancel_trials(&self) {
        self.trials.cancel_all();
    }

    fn convert(&self, settings: &Settings, output: &Path, force: bool) -> Result<Box<dyn Job>> {
        let request = Request { output: output.to_owned(), force, max_shard: None };
        Ok(Box::new(Running(convert::Job::start(Arc::clone(&self.opened), settings, request, self.limits)?)))
    }

    fn save_profile(&self, profile: &mut Profile, name: &str) -> Result<PathBuf> {
        let path = profiles::locate(name)?;
        // Saving again is what Ctrl-s is for; over another profile it is a slip.
        if profile.name.as_deref() != Some(name) && path.exists() {
            return Err(Error::failed(format!(
                "{}: exists already; choose another name, or remove it",
                path.display()
            )));
        }
        profiles::write(&path, &profile.to_text())?;
        // The name is what the next save goes to: a path stays one.
        profile.name = Some(name.to_owned());
        Ok(path)
    }

    fn at_home(&self, typed: &str) -> PathBuf {
        find::at_home(typed)
    }

    fn model_words(&self) -> Vec<String> {
        let model = &self.opened.model;
        let mut words = vec![model.label.clone()];
        if let Origin::Component { name } = &model.origin {
            words.extend(["--component".to_owned(), name.clone()]);
        }
        words.extend(model.adapters.iter().flat_map(|adapter| ["--lora".to_owned(), adapter.clone()]));
        words
    }

    fn default_output(&self, settings: &Settings, plan: &Plan) -> PathBuf {
        let model = &self.opened.model;
        let stem = model.root.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
        let default = || settings.defaults.dtype.clone();
        let is_gguf = settings.target == Family::Gguf;
        // A mixture has tensors of several types, and its own name.
        let most = if is_gguf { default() } else { most_of(plan).or_else(default) };
        let dtype = most.unwrap_or_else(|| target::get(settings.target).default_dtype());
        let (name, ending) = match is_gguf {
            true => (gguf_name(&stem, dtype.as_str()), "gguf"),
            false => (format!("{stem}-{}-{dtype}", settings.target).to_lowercase(), "safetensors"),
        };
        match output::natural_output(&self.opened, settings, None) {
            target::layout::Output::File => PathBuf::from(format!("{name}.{ending}")),
            target::layout::Output::Folder { .. } => PathBuf::from(name),
        }
    }
}

fn choices(all: Vec<target::DtypeInfo>) -> Vec<DtypeChoice> {
    all.into_iter().map(|d| DtypeChoice { name: d.name, bits: d.bits, about: d.about }).collect()
}

/// The dtype of the most bytes that are quantized; of equals the first.
fn most_of(plan: &Plan) -> Option<Dtype> {
    let mut bytes = Vec::<(&Dtype, u64)>::new();
    for row in &plan.rows {
        let Action::Quantize(recipe) = &row.action else { continue };
        match bytes.iter_mut().find(|(dtype, _)| **dtype == recipe.dtype) {
            Some((_, sum)) => *sum += row.bytes_before,
            None => bytes.push((&recipe.dtype, row.bytes_before)),
        }
    }
    bytes.into_iter().rev().max_by_key(|(_, sum)| *sum).map(|(dtype, _)| dtype.clone())
}

/// `model-BF16-00001-of-00002` and `Q4_K_M`: `model-Q4_K_M`, as such files are called.
fn gguf_name(stem: &str, mixture: &str) -> String {
    let whole = format!("{stem}.gguf");
    let stem = crate::format::gguf::split::parse_name(&whole).map_or(stem, |(prefix, _, _)| prefix);
    let cut = ["bf16", "f16", "f32"].into_iter().find_map(|ty| {
        let (head, tail) = stem.rsplit_once(['-', '.'])?;
        tail.eq_ignore_ascii_case(ty).then_some(head)
    });
    format!("{}-{mixture}", cut.unwrap_or(stem))
}

/// Rows with which the same is done, the largest first, the kept ones last.
fn groups(plan: &Plan) -> Vec<PageGroup> {
    let mut groups: Vec<PageGroup> = Vec::new();
    for (i, row) in plan.rows.iter().enumerate() {
        let mut what = match (row.excluded, row.parts.is_empty()) {
            (false, _) => row.to.clone(),
            (true, false) => "kept".to_owned(),
            (true, true) => "left out".to_owned(),
        };
        if let (Action::Quantize(recipe), false) = (&row.action, row.excluded) {
            what.push_str(&match row.group_size() {
                None => String::new(),
                Some(size @ (group_size::ROW | group_size::TENSOR)) => format!("  {}", group_size::name(size)),
                Some(n) => format!("  group {n}"),
            });
            if recipe.svd_rank > 0 {
                what.push_str(&format!("  rank {}", recipe.svd_rank));
            }
            // How much a rotation mixes follows from the layer; that there is one is what was chosen.
            what.push_str(if recipe.hadamard > 0 { "  hadamard" } else { "" });
            what.push_str(if recipe.codebook && recipe.family == Family::Sdnq { "  codebook" } else { "" });
            what.push_str(if recipe.scale_search == ScaleSearch::Mse { "  mse" } else { "" });
        }
        let group = match groups.iter_mut().find(|g| g.what == what) {
            Some(group) => group,
            None => {
                groups.push(PageGroup { what, tensors: 0, before: 0, after: 0, rows: Vec::new() });
                match groups.last_mut() {
                    Some(group) => group,
                    None => continue,
                }
            }
        };
        group.tensors += 1;
        group.before += row.bytes_before;
        group.after += row.bytes_after();
        if row.is_lossy() {
            group.rows.push(i as u32);
        }
    }
    groups.sort_by_key(|g| (g.what == "left out", g.what == "kept", std::cmp::Reverse(g.before)));
    groups
}

struct Running(convert::Job);

impl Job for Running {
    fn progress(&self) -> Progress {
        let p = &self.0.progress;
        let (bytes_done, bytes_total) = p.bytes();
        let (rows_done, rows_total) = p.rows();
        let state = match p.state() {
            State::Running => JobState::Running,
            State::Done(bytes) => JobState::Done(format!("{} in {}", units::size(bytes), units::clock(p.seconds()))),
            State::Failed(message) => JobState::Failed(message),
            State::Cancelled => JobState::Cancelled,
        };
        Progress {
            state,
            bytes_done,
            bytes_total,
            rows_done,
            rows_total,
            current: p.current(),
            elapsed: p.seconds(),
            output: self.0.output.clone(),
        }
    }
    fn cancel(&self) {
        self.0.cancel();
    }
    fn take_losses(&self) -> Vec<(String, Loss)> {
        self.0.progress.take_losses()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_after_what_most_of_them_becomes() {
        let row = |dtype: &str, bytes_before: u64| Row {
            name: "a.weight".into(),
            change: Default::default(),
            sources: Vec::new(),
            shape: vec![1, 1],
            from: "BF16".into(),
            to: dtype.into(),
            action: Action::Quantize(crate::core::Recipe::plain(Family::Sdnq, Dtype::new(dtype), 64)),
            excluded: false,
            reason: None,
            cause: crate::core::rules::Cause::Defaults,
            parts: Vec::new(),
            slices: Vec::new(),
            bias: Vec::new(),
            bytes_before,
        };
        let check = |rows: &[(&str, u64)], expected: Option<&str>| {
            let rows = rows.iter().map(|(dtype, bytes)| row(dtype, *bytes)).collect();
            let plan = Plan { family: Family::Sdnq, rows, warnings: Vec::new() };
            assert_eq!(most_of(&plan).as_ref().map(Dtype::as_str), expected);
        };
        check(&[], None);
        check(&[("int8", 10), ("uint4", 6), ("uint4", 6)], Some("uint4"));
        check(&[("int8", 10), ("uint4", 10)], Some("int8"));
    }

    #[test]
    fn gguf_files_are_called_after_their_mixture() {
        fn check(stem: &str, expected: &str) {
            assert_eq!(gguf_name(stem, "Q4_K_M"), expected);
        }
        check("model", "model-Q4_K_M");
        check("model-BF16", "model-Q4_K_M");
        check("model.f16", "model-Q4_K_M");
        check("Llama-3-8B-F32-00001-of-00003", "Llama-3-8B-Q4_K_M");
        check("bf16", "bf16-Q4_K_M");
    }
}
