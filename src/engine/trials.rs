//! Trials: one tensor quantized in memory, for its loss.
//!
//! Slots, not a queue: at most one request waits and one answer lies ready per row, so a stalled listener costs
//! nothing and the newest recipe wins. Large tensors answer twice, first from a sample of their rows.
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rayon::ThreadPool;

use super::{Limits, panic_message, pool};
use crate::core::error::Kind;
use crate::core::histogram::Histogram;
use crate::core::plan::{Action, Row};
use crate::core::{Cancel, Error, Loss, Result};
use crate::format::Opened;
use crate::target;
use crate::target::codec::{Geometry, Values};
use crate::target::pass::{Measured, Nowhere, Pass};

/// Tensors above this many elements are sampled first; below it the exact answer comes within milliseconds.
const SAMPLE_ABOVE: usize = 1 << 21;
/// Elements of a sample.
const SAMPLE: usize = 1 << 19;

/// What is worked on first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Everything else.
    Rest,
    /// On the screen.
    Visible,
    /// Marked.
    Marked,
    /// Under the cursor.
    Cursor,
}

/// What came of a trial.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// From a sample of the rows; the exact answer follows.
    Sampled(Measure),
    /// From every value.
    Exact(Measure),
    /// It could not be done.
    Failed(String),
}

/// Loss and histograms.
#[derive(Clone, Debug)]
pub struct Measure {
    /// The loss.
    pub loss: Loss,
    /// Of the weights.
    pub weights: Histogram,
    /// Of decoded value minus weight.
    pub errors: Histogram,
}

/// An answer, with what it answers: it is stale when the row's action is another by now.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The row.
    pub name: String,
    /// What was tried.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
}

struct Request {
    row: Row,
    priority: Priority,
    order: u64,
}

#[derive(Default)]
struct State {
    pending: HashMap<String, Request>,
    running: HashMap<String, (Action, Cancel)>,
    done: HashMap<String, Answer>,
    order: u64,
    stopping: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    opened: Arc<Opened>,
    pool: ThreadPool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held left at worst a request unanswered; the slots themselves are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trial workers of an opened model.
pub struct Trials {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Trials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trials").field("workers", &self.workers.len()).finish()
    }
}

impl Trials {
    /// Starts the workers. `wake` is called when there is something new to [`drain`](Self::drain).
    pub fn new(opened: Arc<Opened>, limits: Limits, wake: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            opened,
            pool: pool(limits.threads, "trial")?,
            wake: Box::new(wake),
        });
        // Two of them keep the pool busy while one is between tensors.
        let workers = (0..limits.threads.min(2))
            .map(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("trials-{i}"))
                    .spawn(move || work(&shared))
                    .map_err(|e| Error::failed(format!("cannot start a thread: {e}")).because(e))
            })
            .collect::<Result<_>>()?;
        Ok(Self { shared, workers })
    }

    /// Asks for a row's loss. A newer request for the same row replaces an older one, waiting or running.
    pub fn request(&self, row: &Row, priority: Priority) {
        let mut state = self.shared.state();
        if let Some((action, cancel)) = state.running.get(&row.name) {
            if *action == row.action {
                return;
            }
            cancel.cancel();
        }
        state.order += 1;
        let order = state.order;
        state.pending.insert(row.name.clone(), Request { row: row.clone(), priority, order });
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Takes what is ready.
    pub fn drain(&self) -> Vec<Answer> {
        self.shared.state().done.drain().map(|(_, answer)| answer).collect()
    }

    /// Requests that wait or run.
    pub fn running(&self) -> usize {
        let state = self.shared.state();
        state.pending.len() + state.running.len()
    }

    /// Drops what waits and stops what runs.
    pub fn cancel_all(&self) {
        let mut state = self.shared.state();
        state.pending.clear();
        for (_, cancel) in state.running.values() {
            cancel.cancel();
        }
    }
}

impl Drop for Trials {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.cancel_all();
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its panics; there is nothing to learn from joining it.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared) {
    loop {
        let mut state = shared.state();
        let (row, cancel) = loop {
            if state.stopping {
                return;
            }
            // Never two of one row at once: the second would answer for the first.
            let best = state
                .pending
                .iter()
                .filter(|(name, _)| !state.running.contains_key(*name))
                .max_by_key(|(_, r)| (r.priority, r.order))
                .map(|(name, _)| name.clone());
            match best.and_then(|name| state.pending.remove(&name)) {
                Some(request) => {
                    let cancel = Cancel::new();
                    state.running.insert(request.row.name.clone(), (request.row.action.clone(), cancel.clone()));
                    break (request.row, cancel);
                }
                None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let answer = |outcome: Outcome| {
            if !cancel.is_cancelled() {
                let answer = Answer { name: row.name.clone(), action: row.action.clone(), outcome };
                shared.state().done.insert(row.name.clone(), answer);
                (shared.wake)();
            }
        };
        let result = catch_unwind(AssertUnwindSafe(|| {
            shared.pool.install(|| {
                if std::env::var_os("MIXDOWN_TEST_PANIC").is_some_and(|v| v == "trial") {
                    panic!("as MIXDOWN_TEST_PANIC asks");
                }
                if row.elements() as usize > SAMPLE_ABOVE
                    && let Ok(sampled) = measure(&shared.opened, &row, &cancel, true)
                {
                    answer(Outcome::Sampled(sampled));
                }
                measure(&shared.opened, &row, &cancel, false)
            })
        }));
        // The slot is free before the answer wakes anybody, so that an idle count is true when it is read.
        let outcome = match result {
            Ok(Ok(measure)) => Some(Outcome::Exact(measure)),
            Ok(Err(e)) if e.kind() == Kind::Interrupted => None,
            Ok(Err(e)) => Some(Outcome::Failed(e.to_string())),
            Err(panic) => Some(Outcome::Failed(panic_message(panic.as_ref()))),
        };
        shared.state().running.remove(&row.name);
        match outcome {
            Some(outcome) => answer(outcome),
            None => (shared.wake)(),
        }
        shared.changed.notify_all();
    }
}

/// The loss of a row, on the current pool. `sampled`: of some of its rows only.
pub fn measure(opened: &Arc<Opened>, row: &Row, cancel: &Cancel, sampled: bool) -> Result<Measure> {
    let measured = run(opened, row, cancel, sampled, true, &|_| ())?;
    let (weights, errors) = measured.histograms.map(|h| *h).unwrap_or_default();
    Ok(Measure { loss: measured.sums.loss(), weights, errors })
}

/// One row through its codec, with nothing written.
pub fn run(
    opened: &Arc<Opened>,
    row: &Row,
    cancel: &Cancel,
    sampled: bool,
    histograms: bool,
    done: &(dyn Fn(u64) + Sync),
) -> Result<Measured> {
    let id = row.sources.first().copied().ok_or_else(|| Error::failed(format!("`{}` has no source", row.name)))?;
    let mut values = target::values::of(opened, id)?;
    let mut shape = row.shape.clone();
    if sampled {
        let sample = Sampled::of(values);
        if let Some(first) = shape.first_mut() {
            *first = sample.geometry().rows as u64;
        }
        values = Box::new(sample);
    }
    // Every target makes casts alike; what is quantized is its own.
    let family = family_of(row);
    let codec = target::get(family).codec(&shape, opened.model.tensor(id).storage, &row.action)?;
    let pass =
        Pass { name: &row.name, codec: codec.as_ref(), values: values.as_ref(), sink: &Nowhere, cancel, histograms };
    pass.run(done)
}

/// The family whose codec makes a row.
fn family_of(row: &Row) -> crate::core::Family {
    match row.action {
        Action::Quantize(_) => crate::core::Family::Sdnq,
        _ => crate::core::Family::Float,
    }
}

/// Some rows of a tensor, spread over all of it by a fixed stride with a fixed jitter.
struct Sampled {
    inner: Box<dyn Values>,
    rows: Vec<usize>,
    geometry: Geometry,
}

impl Sampled {
    fn of(inner: Box<dyn Values>) -> Self {
        let g = inner.geometry();
        // A multiple of 8 rows, so that packed codes of any width end on a byte.
        let wanted = (SAMPLE / g.cols.max(1)).clamp(8, g.rows.max(1)).next_multiple_of(8).min(g.rows / 8 * 8).max(1);
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let rows: Vec<usize> = (0..wanted)
            .map(|i| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (from, to) = (i * g.rows / wanted, (i + 1) * g.rows / wanted);
                from + (seed >> 33) as usize % (to - from).max(1)
            })
            .collect();
        let geometry = Geometry::of(&[rows.len() as u64, g.cols as u64]);
        Self { inner, rows, geometry }
    }
}

impl Values for Sampled {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        let mut row = Vec::new();
        for r in &self.rows[rows] {
            self.inner.read(*r..*r + 1, &mut row)?;
            out.extend_from_slice(&row);
        }
        Ok(())
    }
}
