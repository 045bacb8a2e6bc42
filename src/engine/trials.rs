//! Trials: one tensor quantized in memory, for its loss.
//!
//! Slots, not a queue: at most one request waits and one answer lies ready per row, so a stalled listener costs
//! nothing and the newest recipe wins. Large tensors answer twice, first from a sample of their rows.
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rayon::ThreadPool;

use super::{Limits, give_way, idle_pool, panic_message, quiet_pool};
use crate::core::error::Kind;
use crate::core::histogram::Histogram;
use crate::core::plan::{Action, Row};
use crate::core::profile::ErrorProfile;
use crate::core::{Cancel, Error, Loss, Result};
use crate::format::Opened;
use crate::target;
use crate::target::codec::{Geometry, Values};
use crate::target::pass::{Detail, Measured, Nowhere, Pass};

/// Tensors above this many elements are sampled first; below it the exact answer comes within milliseconds.
const SAMPLE_ABOVE: usize = 1 << 21;
/// Elements of a sample.
const SAMPLE: usize = 1 << 19;

/// What is worked on first. Histograms and profiles are made for the two highest only.
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
    /// Of the weights; empty where the request was for the loss alone (see [`Priority`]).
    pub weights: Histogram,
    /// Of decoded value minus weight.
    pub errors: Histogram,
    /// Where the errors lie.
    pub profile: ErrorProfile,
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
    /// Whether it was asked for by [`Trials::what_if`].
    pub what_if: bool,
}

/// What is taken first: the highest priority, and of one priority who asked first. Of the cursor's own requests the
/// newest: where it has been is no longer looked at.
type Rank = (Reverse<Priority>, u64);

fn rank(priority: Priority, order: u64) -> Rank {
    (Reverse(priority), if priority == Priority::Cursor { u64::MAX - order } else { order })
}

struct Request {
    row: Row,
    rank: Rank,
}

#[derive(Default)]
struct State {
    pending: HashMap<String, Request>,
    /// The same by rank.
    queue: BTreeMap<Rank, String>,
    running: HashMap<String, (Action, Cancel)>,
    done: HashMap<String, Answer>,
    /// Alternatives that wait, run, and were answered; at most one set of them at a time.
    alternatives: VecDeque<Row>,
    trying: Vec<Trying>,
    tried: Vec<Answer>,
    order: u64,
    stopping: bool,
}

/// An alternative at work.
struct Trying {
    id: u64,
    name: String,
    action: Action,
    cancel: Cancel,
}

/// What a worker takes.
struct Task {
    id: u64,
    row: Row,
    cancel: Cancel,
    detail: bool,
    urgent: bool,
    what_if: bool,
}

impl State {
    /// The next thing to do: what is under the cursor, then its alternatives, then the rest.
    /// `cursor_only`: nothing but the first of these.
    fn take(&mut self, cursor_only: bool) -> Option<Task> {
        // Never two of one row at once: the second would answer for the first.
        let best = self.queue.iter().find(|(_, name)| !self.running.contains_key(*name)).map(|(rank, _)| *rank);
        if cursor_only && best.is_none_or(|rank| rank.0.0 < Priority::Cursor) {
            return None;
        }
        let cancel = Cancel::new();
        self.order += 1;
        let id = self.order;
        if best.is_none_or(|rank| rank.0.0 < Priority::Cursor)
            && let Some(row) = self.alternatives.pop_front()
        {
            let (name, action) = (row.name.clone(), row.action.clone());
            self.trying.push(Trying { id, name, action, cancel: cancel.clone() });
            return Some(Task { id, row, cancel, detail: false, urgent: false, what_if: true });
        }
        let name = self.queue.remove(&best?)?;
        let Request { row, rank } = self.pending.remove(&name)?;
        self.running.insert(row.name.clone(), (row.action.clone(), cancel.clone()));
        // They take 80 KB each: for what is looked at, not for every tensor of a model.
        let detail = rank.0.0 >= Priority::Marked;
        let urgent = rank.0.0 == Priority::Cursor;
        Some(Task { id, row, cancel, detail, urgent, what_if: false })
    }

    fn ask(&mut self, row: Row, priority: Priority) {
        if let Some((action, cancel)) = self.running.get(&row.name) {
            // One that was told to stop answers nobody.
            if *action == row.action && !cancel.is_cancelled() {
                return;
            }
            cancel.cancel();
        }
        self.order += 1;
        let rank = rank(priority, self.order);
        let name = row.name.clone();
        self.queue.insert(rank, name.clone());
        if let Some(before) = self.pending.insert(name, Request { row, rank }) {
            self.queue.remove(&before.rank);
        }
    }

    /// Files an answer, unless nobody wants it any more. Only what ends a task frees its slot, in the same moment.
    fn file(&mut self, task: &Task, outcome: Option<Outcome>, last: bool) {
        let Task { row, cancel, what_if, .. } = task;
        if last && *what_if {
            self.trying.retain(|t| t.id != task.id);
        } else if last {
            self.running.remove(&row.name);
        }
        let Some(outcome) = outcome.filter(|_| !cancel.is_cancelled()) else { return };
        let answer = Answer { name: row.name.clone(), action: row.action.clone(), outcome, what_if: *what_if };
        if *what_if {
            self.tried.push(answer);
        } else {
            self.done.insert(row.name.clone(), answer);
        }
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Something was asked for; the end of a trial is nothing to who waits for the cursor alone.
    asked: Condvar,
    opened: Arc<Opened>,
    /// For what is under the cursor.
    pool: ThreadPool,
    /// For everything else: it is measured when nothing else is to be done.
    idle: ThreadPool,
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
        // Half of the memory; the other half is a conversion's, which may run beside. Each pool has a half of that.
        let each = |memory| Limits { memory, ..limits }.workers(1 << 18, 0, 0);
        let threads = each(limits.memory / 4).or_else(|_| each(limits.memory / 2).map(|_| 1))?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            asked: Condvar::new(),
            opened,
            pool: quiet_pool(threads, "trial")?,
            idle: idle_pool(threads, "trial-idle")?,
            wake: Box::new(wake),
        });
        // Two of them keep the pool busy while one is between tensors; the last is for the cursor alone.
        let all = limits.threads.min(2);
        let workers = (0..=all)
            .map(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("trials-{i}"))
                    .spawn(move || {
                        // Between small tensors they have as much to do as the pool.
                        give_way();
                        work(&shared, i == all);
                    })
                    .map_err(|e| Error::failed(format!("cannot start a thread: {e}")).because(e))
            })
            .collect::<Result<_>>()?;
        Ok(Self { shared, workers })
    }

    /// Asks for a row's loss. A newer request for the same row replaces an older one, waiting or running.
    pub fn request(&self, row: &Row, priority: Priority) {
        self.request_all([(row.clone(), priority)]);
    }

    /// Asks for those of several rows.
    pub fn request_all(&self, rows: impl IntoIterator<Item = (Row, Priority)>) {
        let mut state = self.shared.state();
        for (row, priority) in rows {
            state.ask(row, priority);
        }
        drop(state);
        self.shared.changed.notify_all();
        self.shared.asked.notify_all();
    }

    /// Asks for the losses of other actions than the rows have, in that order. They replace those that were asked for
    /// before; a sample is all that a large tensor's answer is made from.
    pub fn what_if(&self, rows: Vec<Row>) {
        let mut state = self.shared.state();
        let mut wanted: VecDeque<Row> = rows.into();
        for t in &state.trying {
            let before = wanted.len();
            // One that was told to stop answers nobody, so it is asked again.
            wanted.retain(|row| t.cancel.is_cancelled() || (&row.name, &row.action) != (&t.name, &t.action));
            if wanted.len() == before {
                t.cancel.cancel();
            }
        }
        state.alternatives = wanted;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Takes what is ready.
    pub fn drain(&self) -> Vec<Answer> {
        let mut state = self.shared.state();
        let tried = std::mem::take(&mut state.tried);
        state.done.drain().map(|(_, answer)| answer).chain(tried).collect()
    }

    /// Requests that wait or run, alternatives not counted.
    pub fn running(&self) -> usize {
        let state = self.shared.state();
        state.pending.len() + state.running.len()
    }

    /// Alternatives that wait or run.
    pub fn trying(&self) -> usize {
        let state = self.shared.state();
        state.alternatives.len() + state.trying.len()
    }

    /// Drops what waits and stops what runs.
    pub fn cancel_all(&self) {
        let mut state = self.shared.state();
        state.pending.clear();
        state.queue.clear();
        state.alternatives.clear();
        for cancel in state.running.values().map(|(_, c)| c).chain(state.trying.iter().map(|t| &t.cancel)) {
            cancel.cancel();
        }
    }
}

impl Drop for Trials {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.cancel_all();
        self.shared.changed.notify_all();
        self.shared.asked.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its panics; there is nothing to learn from joining it.
            let _ = worker.join();
        }
    }
}

/// `cursor_only`: it takes nothing else, so that what is under the cursor never waits for what runs when nobody wants the
/// processor.
fn work(shared: &Shared, cursor_only: bool) {
    loop {
        let mut state = shared.state();
        let task = loop {
            if state.stopping {
                return;
            }
            match state.take(cursor_only) {
                Some(task) => break task,
                None => {
                    let signal = if cursor_only { &shared.asked } else { &shared.changed };
                    state = signal.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(state);
        let Task { row, cancel, detail, urgent, what_if, .. } = &task;
        let pool = if *urgent { &shared.pool } else { &shared.idle };
        let answer = |outcome: Option<Outcome>, last: bool| {
            shared.state().file(&task, outcome, last);
            (shared.wake)();
        };
        let measured = |sampled: bool| {
            pool.install(|| {
                if std::env::var_os("MIXDOWN_TEST_PANIC").is_some_and(|v| v == "trial") {
                    panic!("as MIXDOWN_TEST_PANIC asks");
                }
                measure(&shared.opened, row, cancel, sampled, *detail)
            })
        };
        let result = catch_unwind(AssertUnwindSafe(|| {
            if worth_sampling(row) {
                match measured(true) {
                    Ok(sampled) if *what_if => return Ok(Outcome::Sampled(sampled)),
                    // Answered here: a thread of the pool may hold no lock.
                    Ok(sampled) => answer(Some(Outcome::Sampled(sampled)), false),
                    // The exact trial says what is wrong.
                    Err(_) => {}
                }
            }
            measured(false).map(Outcome::Exact)
        }));
        let outcome = match result {
            Ok(Ok(outcome)) => Some(outcome),
            Ok(Err(e)) if e.kind() == Kind::Interrupted => None,
            Ok(Err(e)) => Some(Outcome::Failed(e.to_string())),
            Err(panic) => Some(Outcome::Failed(panic_message(panic.as_ref()))),
        };
        answer(outcome, true);
        shared.changed.notify_all();
    }
}

/// Whether a sample of the rows tells something before the exact answer comes: of a large matrix, and with a low-rank
/// branch only where the sample has many times its rank in rows; fewer rows are of a low rank by themselves.
fn worth_sampling(row: &Row) -> bool {
    let [rows, cols] = row.shape[..] else { return false };
    let sampled = sample_rows(rows as usize, cols as usize);
    let rank = row.svd_rank() as usize;
    // Rows of some layers lie in blocks that have to be whole.
    if matches!(&row.action, Action::Quantize(recipe) if recipe.kernel.is_some()) {
        return false;
    }
    row.elements() as usize > SAMPLE_ABOVE && sampled * 4 <= rows as usize && (rank == 0 || sampled >= rank * 16)
}

/// Rows of a sample: a multiple of 16, so that packed codes of any width fill whole units.
fn sample_rows(rows: usize, cols: usize) -> usize {
    (SAMPLE / cols.max(1)).clamp(16, rows.max(16)).next_multiple_of(16)
}

/// The loss of a row, on the current pool. `sampled`: of some of its rows only.
fn measure(opened: &Arc<Opened>, row: &Row, cancel: &Cancel, sampled: bool, detail: bool) -> Result<Measure> {
    let measured = run(opened, row, cancel, sampled, detail)?;
    let Detail { weights, errors, profile } = measured.detail.map(|d| *d).unwrap_or_default();
    Ok(Measure { loss: measured.sums.loss(), weights, errors, profile })
}

/// One row through its codec, with nothing written.
fn run(opened: &Arc<Opened>, row: &Row, cancel: &Cancel, sampled: bool, detail: bool) -> Result<Measured> {
    // Every target makes casts alike; what is quantized is its own.
    let family = match &row.action {
        Action::Quantize(recipe) => recipe.family,
        _ => crate::core::Family::Float,
    };
    let storage = target::values::storage_of_row(opened, row);
    let codec_of = |shape: &[u64]| target::get(family).codec(shape, storage, &row.action);
    let mut codec = codec_of(&row.shape)?;
    let mut values = target::values::of_row(opened, row, codec.geometry())?;
    if sampled {
        let sample = Sampled::of(values);
        codec = codec_of(&[sample.geometry().rows as u64, sample.geometry().cols as u64])?;
        values = Box::new(sample);
    }
    let pass = Pass { name: &row.name, codec: codec.as_ref(), values: values.as_ref(), sink: &Nowhere, cancel, detail };
    pass.run(&|_| ())
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
        let wanted = sample_rows(g.rows, g.cols);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::Part;
    use crate::core::recipe::Recipe;
    use crate::core::rules::Cause;
    use crate::core::{Dtype, Family, Storage, TensorId};

    fn row(shape: &[u64], svd_rank: u32) -> Row {
        let recipe = Recipe { svd_rank, ..Recipe::plain(Family::Sdnq, Dtype::new("uint4"), -1) };
        Row {
            name: "a.weight".into(),
            change: Default::default(),
            sources: vec![TensorId(0)],
            shape: shape.to_vec(),
            from: "F32".into(),
            to: "uint4".into(),
            action: Action::Quantize(recipe),
            excluded: false,
            reason: None,
            cause: Cause::Defaults,
            parts: vec![Part { name: "a.weight".into(), storage: Storage::U8, shape: vec![1] }],
            slices: Vec::new(),
            bias: Vec::new(),
            bytes_before: 0,
        }
    }

    #[test]
    fn samples_are_taken_where_they_tell_something() {
        fn check(shape: &[u64], svd_rank: u32, sampled: bool) {
            assert_eq!(worth_sampling(&row(shape, svd_rank)), sampled, "{shape:?} rank {svd_rank}");
        }
        check(&[4096, 4096], 0, true);
        check(&[4096, 4096], 8, true);
        check(&[4096, 4096], 32, false);
        check(&[64, 64], 0, false);
        check(&[4, 1 << 20], 0, false);
        check(&[1024, 512, 3, 3], 0, false);
        check(&[1 << 22], 0, false);
    }

    /// A file of one matrix of that many rows of 4096.
    fn opened(rows: usize) -> (tempfile::TempDir, Arc<Opened>) {
        let dir = tempfile::tempdir().expect("a folder");
        let entry = crate::format::safetensors::Entry {
            name: "a.weight".into(),
            storage: Storage::F32,
            shape: vec![rows as u64, 4096],
            offset: 0,
            len: rows as u64 * 4096 * 4,
        };
        let mut bytes = crate::format::safetensors::write_header(&[], &[entry]);
        bytes.extend((0..rows * 4096).flat_map(|i| ((i as f32 * 0.618).sin() * 0.02).to_le_bytes()));
        let path = dir.path().join("m.safetensors");
        std::fs::write(&path, bytes).expect("written");
        let opened = target::open(&path.display().to_string(), &Default::default()).expect("it opens");
        (dir, Arc::new(opened))
    }

    fn settle(trials: &Trials) -> Vec<Answer> {
        let mut answers = Vec::new();
        while trials.running() > 0 {
            answers.extend(trials.drain());
            std::thread::yield_now();
        }
        answers.extend(trials.drain());
        answers
    }

    #[test]
    fn the_newest_recipe_wins_and_a_cancelled_one_can_be_asked_again() {
        let (_dir, opened) = opened(1024);
        let trials = Trials::new(opened, Limits::default(), || ()).expect("workers");
        for _ in 0..20 {
            for rank in 0..8 {
                trials.request(&row(&[1024, 4096], rank), Priority::Cursor);
            }
            // The last one is asked for, stopped, and asked for again before it could notice.
            trials.cancel_all();
            let last = row(&[1024, 4096], 3);
            trials.request(&last, Priority::Cursor);
            let answers = settle(&trials);
            let end = answers.last().expect("an answer");
            assert_eq!(end.action, last.action);
            assert!(matches!(end.outcome, Outcome::Exact(_)), "{:?}", end.outcome);
        }
    }

    #[test]
    fn alternatives_answer_each_for_itself_and_the_newest_set_wins() {
        let (_dir, opened) = opened(64);
        let trials = Trials::new(opened, Limits::default(), || ()).expect("workers");
        let ranks = |ranks: std::ops::Range<u32>| ranks.map(|r| row(&[64, 4096], r)).collect::<Vec<_>>();
        for _ in 0..20 {
            trials.what_if(ranks(0..40));
            trials.what_if(ranks(2..5));
            let mut answers = Vec::new();
            while trials.trying() > 0 {
                answers.extend(trials.drain());
                std::thread::yield_now();
            }
            answers.extend(trials.drain());
            let mut seen: Vec<u32> = answers
                .iter()
                .filter_map(|a| match &a.action {
                    Action::Quantize(r) if a.what_if => Some(r.svd_rank),
                    _ => None,
                })
                .filter(|rank| (2..5).contains(rank))
                .collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, [2, 3, 4]);
        }
    }

    #[test]
    fn the_cursor_comes_first_and_others_in_their_order() {
        let mut queue = [
            (rank(Priority::Rest, 1), "rest 1"),
            (rank(Priority::Cursor, 2), "cursor 2"),
            (rank(Priority::Rest, 3), "rest 3"),
            (rank(Priority::Cursor, 4), "cursor 4"),
        ];
        queue.sort();
        assert_eq!(queue.map(|(_, name)| name), ["cursor 4", "cursor 2", "rest 1", "rest 3"]);
    }
}
