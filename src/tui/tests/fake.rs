//! A backend that answers when it is asked, with figures that follow from the dtype alone.
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::core::dtype::StorageExt;
use crate::core::histogram::Histogram;
use crate::core::imatrix::Imatrix;
use crate::core::model::{Encoding, Model, Tensor};
use crate::core::plan::{Action, Part, Totals};
use crate::core::profile::ErrorProfile;
use crate::core::{Dtype, Error, Family, Loss, Patch, Plan, Recipe, Result, Row, Settings, Storage, TensorId};
use crate::session::{Profile, TargetChoice};
use crate::tui::backend::*;

/// What a test can look at, and what it can stage.
#[derive(Default)]
pub struct State {
    /// Trials that were asked for and not yet answered, by name.
    pub asked: RefCell<Vec<(Row, Priority)>>,
    /// Every trial that was ever asked for.
    pub log: RefCell<Vec<String>>,
    /// Rows that a what-if table asked for and got no answer to yet.
    pub what_if: RefCell<Vec<Row>>,
    /// Why trials fail, if they do.
    pub broken: RefCell<Option<String>>,
    /// The conversion that was started.
    pub job: RefCell<Option<Rc<Stage>>>,
    /// What conversions are refused with.
    pub refuse: RefCell<Option<String>>,
    /// Names that profiles were saved under.
    pub saved: RefCell<Vec<String>>,
}

/// A conversion whose progress the test decides.
pub struct Stage {
    pub progress: RefCell<Progress>,
    pub cancelled: Cell<bool>,
    pub losses: RefCell<Vec<(String, Loss)>>,
}

pub struct Fake {
    pub model: Arc<Model>,
    pub state: Rc<State>,
    /// Whether no plan can be made.
    pub refuses: bool,
}

/// A model from lines of name and shape.
pub fn model(spec: &str) -> Model {
    let lines: Vec<(&str, Vec<u64>)> = spec
        .lines()
        .filter_map(|l| l.trim().split_once(' '))
        .map(|(name, shape)| (name, shape.split('x').map(|n| n.parse().unwrap()).collect()))
        .collect();
    let names: Vec<&str> = lines.iter().map(|(n, _)| *n).collect();
    let mut model = crate::core::model::testing::model_of(&names);
    for tensor in &mut model.tensors {
        let shape = &lines.iter().find(|(n, _)| *n == tensor.name).unwrap().1;
        *tensor = Tensor {
            shape: shape.clone(),
            bytes: shape.iter().product::<u64>() * 2,
            encoding: Encoding::Plain(0),
            ..tensor.clone()
        };
    }
    model
}

pub fn bits(dtype: &Dtype) -> u32 {
    dtype.as_str().trim_start_matches(|c: char| c.is_alphabetic()).parse().unwrap_or(8)
}

/// A quarter of the error for each bit.
pub fn loss(action: &Action) -> Loss {
    let relative_error = match action {
        Action::Quantize(r) => 0.25f64.powi(bits(&r.dtype) as i32) * f64::from(1 + r.svd_rank).recip(),
        _ => 1e-6,
    };
    let mse = relative_error * 1e-3;
    Loss {
        mse,
        max_error: mse.sqrt() * 3.0,
        relative_error,
        sqnr_db: -10.0 * relative_error.log10(),
        weighted_relative_error: None,
    }
}

struct Headers {
    model: Arc<Model>,
    refuses: bool,
}

fn dtypes(family: Family) -> Vec<DtypeChoice> {
    let one =
        |name: &str, about| DtypeChoice { name: Dtype::new(name), bits: f64::from(bits(&Dtype::new(name))), about };
    match family {
        Family::Float => vec![one("float16", "half")],
        _ => vec![one("int8", "near lossless"), one("int6", ""), one("uint4", "the usual 4 bit"), one("int4", "")],
    }
}

impl Planner for Headers {
    fn plan(&self, s: &Settings) -> Result<Plan> {
        if self.refuses {
            return Err(Error::usage("these settings make no plan"));
        }
        let rows = self.model.ids().map(|id| {
            let tensor = self.model.tensor(id);
            let decision = s.decide(&[&tensor.name]);
            // What the target leaves by itself: flat tensors, and kinds of layers that it is not told to take.
            let why = match &tensor.shape[..] {
                [] | [_] => Some("it has one dimension"),
                _ if s.target == Family::Float => None,
                [_, _, _, ..] if !s.quant_conv => Some("a convolution"),
                _ if tensor.name.starts_with("tables.") && !s.quant_embedding => {
                    Some("an embedding: quantized with --quant-embedding")
                }
                _ => None,
            };
            let elements = tensor.elements();
            let part =
                |name: &str, storage, n| Part { name: format!("{}{name}", tensor.name), storage, shape: vec![n] };
            let dtype = decision.patch.dtype.clone().unwrap_or(Dtype::new("int8"));
            let (action, to, parts) = if decision.keeps() || why.is_some() {
                (Action::Copy, "BF16".to_owned(), vec![part("", Storage::BF16, elements)])
            } else if s.target == Family::Float {
                (Action::Cast(Storage::F16), "F16".to_owned(), vec![part("", Storage::F16, elements)])
            } else {
                let group_size = decision.patch.group_size.filter(|g| *g != 0).unwrap_or(64);
                let group = if group_size > 0 { group_size as u64 } else { 64 };
                let svd_rank = decision.patch.svd_rank.unwrap_or(0);
                let hadamard = decision.patch.hadamard.unwrap_or(0).min(64);
                let codebook = decision.patch.codebook == Some(true) && dtype.as_str().starts_with('u');
                let recipe =
                    Recipe { svd_rank, hadamard, codebook, ..Recipe::plain(Family::Sdnq, dtype.clone(), group_size) };
                let codes = part("", Storage::U8, elements * u64::from(bits(&dtype)) / 8);
                let parts = vec![codes, part(".scale", Storage::F32, elements.div_ceil(group))];
                (Action::Quantize(recipe), dtype.to_string(), parts)
            };
            let unmet = matches!(&action, Action::Quantize(r) if decision.patch.codebook == Some(true) && !r.codebook);
            let unmet = unmet.then(|| format!("{to} takes no codebook"));
            Row {
                name: tensor.name.clone(),
                change: Default::default(),
                sources: vec![id],
                shape: tensor.shape.clone(),
                from: tensor.storage.name(),
                to,
                excluded: action == Action::Copy,
                action,
                reason: why.map(str::to_owned).or(unmet),
                cause: decision.kept_by.unwrap_or(decision.by),
                parts,
                slices: Vec::new(),
                bias: Vec::new(),
                bytes_before: tensor.bytes,
            }
        });
        Ok(Plan { family: s.target, rows: rows.collect(), warnings: Vec::new() })
    }
    fn totals(&self, plan: &Plan) -> Totals {
        plan.totals(|_| true)
    }
    fn alternatives(&self, settings: &Settings, ids: &[TensorId], _: &Action) -> Result<Vec<Alternative>> {
        let dtypes = dtypes(settings.target).into_iter().map(|d| Patch { dtype: Some(d.name), ..Patch::default() });
        let groups = [32, 128].map(|n| Patch { group_size: Some(n), ..Patch::default() });
        let included = |patch: Patch| Patch { keep: Some(false), ..patch };
        let all = dtypes.chain(groups).map(|p| (included(p), true));
        let odd = Patch { dtype: Some(Dtype::new("int5")), ..Patch::default() };
        all.chain([(included(odd), false), (Patch::keep(), true)])
            .map(|(patch, usual)| {
                let mut settings = settings.clone();
                for id in ids {
                    settings.overrides.entry(self.model.tensor(*id).name.clone()).or_default().apply(&patch);
                }
                let plan = self.plan(&settings)?;
                let rows = ids.iter().map(|id| plan.rows[id.index()].clone()).collect();
                Ok(Alternative { patch, usual, rows })
            })
            .collect()
    }
    fn prior(&self) -> Prior {
        Prior { basis: Basis::Size, alpha: self.model.tensors.iter().map(|t| t.elements() as f32 / 4096.0).collect() }
    }
    fn page(&self, s: &Settings, output: &Path) -> Result<ConvertPage> {
        if output.extension().is_some_and(|e| e == "gguf") {
            return Err(Error::usage("this version writes safetensors, not GGUF"));
        }
        let plan = self.plan(s)?;
        let group = |what: &str, kept: bool| {
            let rows: Vec<&Row> = plan.rows.iter().filter(|r| r.excluded == kept).collect();
            PageGroup {
                what: what.into(),
                tensors: rows.len(),
                before: rows.iter().map(|r| r.bytes_before).sum(),
                after: rows.iter().map(|r| r.bytes_after()).sum(),
                rows: (0..plan.rows.len() as u32).filter(|i| !kept && plan.rows[*i as usize].is_lossy()).collect(),
            }
        };
        Ok(ConvertPage {
            loads_with: "sdnq ≥ 0.2.2".into(),
            file_bytes: plan.rows.iter().map(Row::bytes_after).sum::<u64>() + 512,
            free_bytes: Some(81 << 30),
            occupied: output.ends_with("taken"),
            warnings: vec!["2 layers stay BF16: 1155 elements do not fit int6's units of 4".into()],
            groups: vec![group("quantized", false), group("kept", true)],
        })
    }
    fn wake(&self) {}
}

impl Backend for Fake {
    fn planner(&self) -> Arc<dyn Planner> {
        Arc::new(Headers { model: Arc::clone(&self.model), refuses: self.refuses })
    }
    fn dtypes(&self, family: Family) -> Vec<DtypeChoice> {
        dtypes(family)
    }
    fn defaults(&self, family: Family) -> Vec<DtypeChoice> {
        self.dtypes(family)
    }
    fn parse_dtype(&self, _: Family, name: &str) -> Result<Dtype> {
        let known = ["int8", "int6", "int5", "uint4", "int4", "float16"].contains(&name);
        if known { Ok(Dtype::new(name)) } else { Err(Error::usage(format!("there is no dtype `{name}`"))) }
    }
    fn is_for_all(&self, _: Family, _: &Patch) -> bool {
        false
    }
    fn can(&self, family: Family, knob: Knob) -> Result<(), String> {
        match (family, knob) {
            (Family::Float, Knob::Importance) => Err("float weighs nothing".into()),
            (Family::Float, Knob::SvdRank) => Err("float has no low-rank branch".into()),
            (Family::Float, Knob::Hadamard) => Err("float rotates nothing".into()),
            (Family::Float, Knob::Codebook) => Err("float has no codes".into()),
            (Family::Float, Knob::QuantConv | Knob::QuantEmbedding) => Err("float casts every layer".into()),
            (Family::Float, _) => Err("float has no groups".into()),
            _ => Ok(()),
        }
    }
    fn settings_for(&self, form: Form, _: &Settings) -> TargetChoice {
        TargetChoice {
            target: form.family,
            defaults: Patch::default(),
            preset: Vec::new(),
            preset_name: None,
            rules: Vec::new(),
            overrides: Default::default(),
            quant_conv: false,
            quant_embedding: false,
            lite: form.lite,
        }
    }
    fn imatrix(&self, path: &str) -> Result<Arc<Imatrix>> {
        match path {
            "good.gguf" => Ok(Arc::new(Imatrix::default())),
            _ => Err(Error::failed(format!("{path}: no such file"))),
        }
    }
    fn request(&self, rows: Vec<(Row, Priority)>) {
        let mut asked = self.state.asked.borrow_mut();
        for (row, priority) in rows {
            self.state.log.borrow_mut().push(row.name.clone());
            asked.retain(|(r, _)| r.name != row.name);
            asked.push((row, priority));
        }
    }
    fn drain(&self) -> Vec<Answer> {
        let broken = self.state.broken.borrow().clone();
        let rows = std::mem::take(&mut *self.state.asked.borrow_mut());
        rows.into_iter()
            .map(|(row, _)| {
                let (mut weights, mut errors) = (Histogram::new(), Histogram::new());
                weights.add((0..256).map(|i| (i as f32 / 128.0 - 1.0).powi(3)));
                errors.add((0..256).map(|i| (i as f32 / 128.0 - 1.0) * 0.01));
                let profile =
                    ErrorProfile { rows: vec![1.0, 1.0, 8.0, 1.0], cols: (1..=64).map(|i| i as f32).collect() };
                let measure = Measure { loss: loss(&row.action), weights, errors, profile };
                let outcome = broken.clone().map_or(Outcome::Exact(measure), Outcome::Failed);
                Answer { name: row.name, action: row.action, outcome, what_if: false }
            })
            .chain(self.state.what_if.take().into_iter().map(|row| {
                let measure = Measure {
                    loss: loss(&row.action),
                    weights: Histogram::new(),
                    errors: Histogram::new(),
                    profile: ErrorProfile::default(),
                };
                let outcome = Outcome::Sampled(measure);
                Answer { name: row.name, action: row.action, outcome, what_if: true }
            }))
            .collect()
    }
    fn what_if(&self, rows: Vec<Row>) {
        *self.state.what_if.borrow_mut() = rows;
    }
    fn trying(&self) -> usize {
        self.state.what_if.borrow().len()
    }
    fn trials_running(&self) -> usize {
        self.state.asked.borrow().len()
    }
    fn cancel_trials(&self) {
        self.state.asked.borrow_mut().clear();
    }
    fn convert(&self, _: &Settings, output: &Path, force: bool) -> Result<Box<dyn Job>> {
        if let Some(why) = self.state.refuse.borrow().as_ref().filter(|_| !force) {
            return Err(Error::failed(why));
        }
        let stage = Rc::new(Stage {
            progress: RefCell::new(Progress {
                state: JobState::Running,
                bytes_done: 0,
                bytes_total: 1000,
                rows_done: 0,
                rows_total: self.model.tensors.len(),
                current: String::new(),
                elapsed: 0.0,
                output: output.to_owned(),
            }),
            cancelled: Cell::new(false),
            losses: RefCell::default(),
        });
        *self.state.job.borrow_mut() = Some(Rc::clone(&stage));
        Ok(Box::new(Handle(stage)))
    }
    fn save_profile(&self, profile: &mut Profile, target: &str) -> Result<PathBuf> {
        if target.contains('!') {
            return Err(Error::usage(format!("`{target}` is not a profile's name")));
        }
        self.state.saved.borrow_mut().push(target.into());
        profile.name = Some(target.into());
        Ok(PathBuf::from(format!("{target}.toml")))
    }
    fn at_home(&self, typed: &str) -> PathBuf {
        typed.into()
    }
    fn model_words(&self) -> Vec<String> {
        vec!["test.safetensors".into()]
    }
    fn default_output(&self, s: &Settings, _: &Plan) -> PathBuf {
        PathBuf::from(format!("./test-{}.safetensors", s.target))
    }
}

struct Handle(Rc<Stage>);

impl Job for Handle {
    fn progress(&self) -> Progress {
        self.0.progress.borrow().clone()
    }
    fn cancel(&self) {
        self.0.cancelled.set(true);
    }
    fn take_losses(&self) -> Vec<(String, Loss)> {
        std::mem::take(&mut self.0.losses.borrow_mut())
    }
}
