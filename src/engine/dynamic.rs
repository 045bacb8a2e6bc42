//! Dynamic quantization: for each layer the first dtype, from few bits to many, whose loss it bears.
//!
//! The loss is SDNQ's: mean((w−ŵ)²) over the variance of the weights. A dtype is given up as soon as what its slabs have
//! lost so far is more than the whole layer may lose, so the hopeless ones cost next to nothing.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::convert::Progress;
use super::{Limits, pool};
use crate::core::plan::{Action, Row};
use crate::core::recipe::Patch;
use crate::core::{Cancel, Dtype, Error, LossSums, Result, Settings};
use crate::format::Opened;
use crate::target::codec::{Found, Values};
use crate::target::pass::{Nowhere, Pass};
use crate::target::values::InMemory;
use crate::target::{self, Knob};

/// Variances below it count as this much, as in SDNQ.
const LEAST_VARIANCE: f64 = 1e-8;

/// What was chosen for a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The tensor's name.
    pub name: String,
    /// The dtype, or `None`: no dtype passes and it is kept.
    pub dtype: Option<Dtype>,
    /// What it may lose.
    pub threshold: f64,
}

/// What a layer of so many bits may lose unless a threshold is given: 10^(−bits/2).
pub fn default_threshold(bits: f64) -> f64 {
    10f64.powf(-bits / 2.0)
}

/// Chooses for every layer that `settings` quantize, from the dtype they give it upward. Reads all their weights.
pub fn choose(
    opened: &Arc<Opened>,
    settings: &Settings,
    threshold: Option<f64>,
    limits: Limits,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Vec<Choice>> {
    let target = target::get(settings.target);
    target.has(Knob::Dynamic).map_err(Error::usage)?;
    let plan = target::plan(&opened.model, settings)?;
    let rows: Vec<&Row> = plan.rows.iter().filter(|r| matches!(r.action, Action::Quantize(_))).collect();
    progress.begin(rows.len(), rows.iter().map(|r| r.bytes_before).sum());
    let mut choices = Vec::with_capacity(rows.len());
    for row in rows {
        progress.turn_to(row);
        choices.push(Layer { opened, settings, row, limits, cancel }.choose(threshold)?);
        progress.leave(row);
    }
    Ok(choices)
}

/// Writes choices into settings, as overrides by name.
pub fn apply(settings: &mut Settings, choices: &[Choice]) {
    for choice in choices {
        let patch = match &choice.dtype {
            Some(dtype) => Patch { dtype: Some(dtype.clone()), ..Patch::default() },
            None => Patch::keep(),
        };
        settings.overrides.entry(choice.name.clone()).or_default().apply(&patch);
    }
}

struct Layer<'a> {
    opened: &'a Arc<Opened>,
    settings: &'a Settings,
    row: &'a Row,
    limits: Limits,
    cancel: &'a Cancel,
}

impl Layer<'_> {
    fn choose(&self, threshold: Option<f64>) -> Result<Choice> {
        let Action::Quantize(asked) = &self.row.action else {
            return Err(Error::failed(format!("`{}` is not quantized", self.row.name)));
        };
        let model = &self.opened.model;
        let id = *self.row.sources.first().ok_or_else(|| Error::failed("a row without a source"))?;
        let target = target::get(self.settings.target);
        let ladder = target.ladder(&asked.dtype, asked.codebook);
        let bits = ladder.first().map_or(8.0, |(_, bits)| *bits);
        let threshold = threshold.unwrap_or_else(|| default_threshold(bits));

        let values = target::values::of(self.opened, id)?;
        let g = values.geometry();
        let whole = 4 * self.row.elements();
        // Read once, where that leaves most of the memory to the work itself.
        let held = whole <= self.limits.memory / 4;
        let fixed = target::search_memory(&self.row.shape, asked) + if held { 2 * whole } else { 0 };
        let threads = self.limits.workers(g.slab_elements() as u64, 0, fixed)?;
        pool(threads, "dynamic")?.install(|| {
            let values: Box<dyn Values> = if held {
                let mut all = Vec::new();
                values.read(0..g.rows, &mut all)?;
                Box::new(InMemory::new(&self.row.shape, all)?)
            } else {
                values
            };
            let bound = threshold * self.variance(values.as_ref())?.max(LEAST_VARIANCE);
            let decision = self.settings.decide(&[model.tensor(id).name.as_str()]);
            let mut found: Option<Found> = None;
            for (dtype, _) in ladder {
                self.cancel.check()?;
                let mut decision = decision.clone();
                decision.patch.dtype = Some(dtype.clone());
                let row = target.row(model, id, model.tensor(id), &decision, self.settings)?;
                if !matches!(row.action, Action::Quantize(_)) {
                    // Its elements do not fill this dtype's units.
                    continue;
                }
                if self.passes(&row, values.as_ref(), bound, &mut found)? {
                    return Ok(Choice { name: self.row.name.clone(), dtype: Some(dtype), threshold });
                }
            }
            Ok(Choice { name: self.row.name.clone(), dtype: None, threshold })
        })
    }

    /// The variance of the weights, as a sample's: over one less than their number.
    fn variance(&self, values: &dyn Values) -> Result<f64> {
        let g = values.geometry();
        let sums: Vec<(f64, f64)> = (0..g.slabs())
            .into_par_iter()
            .map(|i| {
                self.cancel.check()?;
                let mut slab = Vec::new();
                values.read(g.slab(i), &mut slab)?;
                Ok(slab.iter().fold((0.0, 0.0), |(sum, square), v| {
                    let v = f64::from(*v);
                    (sum + v, square + v * v)
                }))
            })
            .collect::<Result<_>>()?;
        let (sum, square) = sums.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let n = self.row.elements() as f64;
        Ok(((square - sum * sum / n) / (n - 1.0).max(1.0)).max(0.0))
    }

    /// Whether the mean squared error is at most `bound`.
    fn passes(&self, row: &Row, values: &dyn Values, bound: f64, found: &mut Option<Found>) -> Result<bool> {
        let id = *row.sources.first().ok_or_else(|| Error::failed("a row without a source"))?;
        let storage = self.opened.model.tensor(id).storage;
        let codec = target::get(self.settings.target).codec(&row.shape, storage, &row.action)?;
        let prepared = codec.prepare_with(values, self.cancel, found.clone())?;
        *found = prepared.found().or_else(|| found.take());
        let pass =
            Pass { name: &row.name, codec: codec.as_ref(), values, sink: &Nowhere, cancel: self.cancel, detail: false };
        let most = bound * row.elements() as f64;
        let (lost, hopeless) = (Mutex::new(0.0f64), AtomicBool::new(false));
        let slabs: Vec<LossSums> = (0..codec.geometry().slabs())
            .into_par_iter()
            .map(|i| {
                if hopeless.load(Ordering::Relaxed) {
                    return Ok(LossSums::default());
                }
                let sums = pass.slab(prepared.as_ref(), i)?.sums;
                let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
                *lost += sums.squared_error;
                // In another order these sums may differ in their last digits; only what is clearly beyond is given up.
                if *lost > most * (1.0 + 1e-9) {
                    hopeless.store(true, Ordering::Relaxed);
                }
                Ok(sums)
            })
            .collect::<Result<_>>()?;
        if hopeless.into_inner() {
            return Ok(false);
        }
        let mut all = LossSums::default();
        slabs.iter().for_each(|s| all.merge(s));
        Ok(all.squared_error <= most)
    }
}
