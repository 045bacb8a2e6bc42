//! The desk's only door to heavy work: tests put a stepped fake behind it, the program the engine.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::imatrix::Imatrix;
use crate::core::plan::{Action, Totals};
use crate::core::{Dtype, Family, Loss, Patch, Plan, Result, Row, Settings, TensorId};
use crate::session::{Profile, TargetChoice};

pub use crate::engine::trials::{Answer, Measure, Outcome, Priority};
pub use crate::target::prior::{Basis, Prior};

/// What files of a family look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The family.
    pub family: Family,
    /// Whether it is the folder of Nunchaku's that diffusers loads, not a single file.
    pub lite: bool,
}

impl Form {
    /// Every form of every family.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = Family::ALL.into_iter().map(|family| Self { family, lite: false });
        plain.chain([Self { family: Family::Nunchaku, lite: true }])
    }

    /// That of some settings.
    pub fn of(settings: &Settings) -> Self {
        Self { family: settings.target, lite: settings.nunchaku.lite && settings.target == Family::Nunchaku }
    }

    /// As a person calls it.
    pub fn name(self) -> String {
        if self.lite { format!("{} lite", self.family) } else { self.family.to_string() }
    }
}

/// What is asked of a model's headers. Of a large model that takes a while, so it can be asked on any thread.
pub trait Planner: Send + Sync {
    /// Resolves the settings over the model.
    fn plan(&self, settings: &Settings) -> Result<Plan>;
    /// Sums over a plan.
    fn totals(&self, plan: &Plan) -> Totals;
    /// What an error in each tensor is estimated to cost.
    fn prior(&self) -> Prior;
    /// Other ways to treat some tensors; `now` is what is done with the first of them.
    fn alternatives(&self, settings: &Settings, ids: &[TensorId], now: &Action) -> Result<Vec<Alternative>>;
    /// What is shown before a conversion is started.
    fn page(&self, settings: &Settings, output: &Path) -> Result<ConvertPage>;
    /// Tells the desk that something was found out.
    fn wake(&self);
}

/// What the desk asks of the engine. Queries answer at once; trials and conversions run elsewhere.
pub trait Backend {
    /// What plans are made by.
    fn planner(&self) -> Arc<dyn Planner>;
    /// The dtypes of a family, the usual ones first.
    fn dtypes(&self, family: Family) -> Vec<DtypeChoice>;
    /// The dtypes that a whole file can have: mixtures, where a family has them.
    fn defaults(&self, family: Family) -> Vec<DtypeChoice>;
    /// The canonical spelling of a dtype; an unknown name lists the near ones.
    fn parse_dtype(&self, family: Family, name: &str) -> Result<Dtype>;
    /// Whether a family has this knob; if not, why.
    fn can(&self, family: Family, knob: Knob) -> Result<(), String>;
    /// Whether what a patch says holds for a file of a family as a whole.
    fn is_for_all(&self, family: Family, patch: &Patch) -> bool;
    /// Everything that changes when this family is chosen.
    fn settings_for(&self, form: Form, from: &Settings) -> TargetChoice;
    /// Reads an importance matrix.
    fn imatrix(&self, path: &str) -> Result<Arc<Imatrix>>;
    /// Asks for trials; the newest request of a row wins.
    fn request(&self, rows: Vec<(Row, Priority)>);
    /// Takes the trials that have come to an end, or to a first estimate.
    fn drain(&self) -> Vec<Answer>;
    /// Trials that wait or run.
    fn trials_running(&self) -> usize;
    /// Asks for the losses of rows as they might be; they replace those asked for before.
    fn what_if(&self, rows: Vec<Row>);
    /// Of these, how many wait or run.
    fn trying(&self) -> usize;
    /// Drops the trials that wait and stops those that run.
    fn cancel_trials(&self);
    /// Starts a conversion in the background.
    fn convert(&self, settings: &Settings, output: &Path, force: bool) -> Result<Box<dyn Job>>;
    /// Saves the choices under a name, or as the file `….toml`; where they went.
    fn save_profile(&self, profile: &mut Profile, target: &str) -> Result<PathBuf>;
    /// A path that a person typed, with `~` as a shell would read it.
    fn at_home(&self, typed: &str) -> PathBuf;
    /// The model as words of a command line.
    fn model_words(&self) -> Vec<String>;
    /// Where a conversion would go if nobody said; called after what most of it becomes.
    fn default_output(&self, settings: &Settings, plan: &Plan) -> PathBuf;
}

/// Another way to treat some tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// What is laid over their settings.
    pub patch: Patch,
    /// Whether it is among the first things that a person would think of.
    pub usual: bool,
    /// What becomes of them, in their order.
    pub rows: Vec<Row>,
}

/// A dtype that can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct DtypeChoice {
    /// Its name.
    pub name: Dtype,
    /// Bits of a code, scales not counted.
    pub bits: f64,
    /// What it is, in a few words.
    pub about: &'static str,
}

/// A setting that not every family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    /// Values that share a scale.
    GroupSize,
    /// Rank of the low-rank branch.
    SvdRank,
    /// A rotation before quantization.
    Hadamard,
    /// Levels found for each group.
    Codebook,
    /// How scales are found.
    ScaleSearch,
    /// Quantizing convolutions.
    QuantConv,
    /// Quantizing embedding tables.
    QuantEmbedding,
    /// An importance matrix.
    Importance,
}

/// What is shown before a conversion is started.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertPage {
    /// Who can load the result: `sdnq ≥ 0.2.2 · diffusers ≥ 0.40`.
    pub loads_with: String,
    /// Bytes of the weight files.
    pub file_bytes: u64,
    /// Bytes free where they go.
    pub free_bytes: Option<u64>,
    /// What a person should know before.
    pub warnings: Vec<String>,
    /// Whether something stands there already that would be replaced.
    pub occupied: bool,
    /// What is done, put together by kind.
    pub groups: Vec<PageGroup>,
}

/// Tensors with which the same is done.
#[derive(Clone, Debug, PartialEq)]
pub struct PageGroup {
    /// `uint4 group 64`, `kept`.
    pub what: String,
    /// How many.
    pub tensors: usize,
    /// Their bytes now.
    pub before: u64,
    /// Their bytes then.
    pub after: u64,
    /// Their rows in the plan, where something is lost.
    pub rows: Vec<u32>,
}

/// A running or ended conversion. Dropping it stops it and waits until it has cleaned up.
pub trait Job {
    /// How far it is.
    fn progress(&self) -> Progress;
    /// Asks it to stop and to remove what it wrote.
    fn cancel(&self);
    /// Losses that became final since the last call, by row name.
    fn take_losses(&self) -> Vec<(String, Loss)>;
}

/// How a conversion stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It runs.
    Running,
    /// The file is complete; a summary.
    Done(String),
    /// It failed and left nothing behind.
    Failed(String),
    /// It was stopped and left nothing behind.
    Cancelled,
}

/// How far a conversion is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// How it stands.
    pub state: JobState,
    /// Source bytes dealt with.
    pub bytes_done: u64,
    /// All of them.
    pub bytes_total: u64,
    /// Rows written.
    pub rows_done: usize,
    /// All of them.
    pub rows_total: usize,
    /// The row at work.
    pub current: String,
    /// Seconds since it began.
    pub elapsed: f64,
    /// Where it goes.
    pub output: PathBuf,
}

impl Progress {
    /// Share done, at most 0.99 until the file is complete.
    pub fn share(&self) -> f64 {
        if matches!(self.state, JobState::Done(_)) {
            return 1.0;
        }
        (self.bytes_done as f64 / self.bytes_total.max(1) as f64).clamp(0.0, 0.99)
    }
    /// Source bytes per second.
    pub fn speed(&self) -> f64 {
        if self.elapsed > 0.0 { self.bytes_done as f64 / self.elapsed } else { 0.0 }
    }
    /// Seconds left, once there is something to reckon from.
    pub fn left(&self) -> Option<f64> {
        (self.bytes_done > 0 && self.elapsed > 0.5)
            .then(|| self.bytes_total.saturating_sub(self.bytes_done) as f64 / self.speed())
    }
}
