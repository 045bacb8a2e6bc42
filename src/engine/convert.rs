//! The conversion: a plan carried out into files, in the background, with progress, and nothing left behind unless it
//! is whole.
//!
//! Each worker reads a slab, encodes it and writes it to the place that the layout gives it. There is no queue between
//! reading, computing and writing, and nothing waits for anything: offsets are known before the first byte is read.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rayon::ThreadPool;

use super::output::output_kind;
use super::{Limits, panic_message, pool};
use crate::core::error::Kind;
use crate::core::plan::{Action, Plan, Row};
use crate::core::{Cancel, Error, Loss, LossSums, Result, Settings};
use crate::format::{Opened, save};
use crate::target::codec::{Codec, Prepared, Values};
use crate::target::layout::{Context, Layout, Output};
use crate::target::pass::{Measured, Pass, Sink};
use crate::target::{self, values};

/// A low-rank search that needs no more than this is one worker's business; a larger one has the pool to itself.
const SMALL_SEARCH: u64 = 16 << 20;
/// Bytes that are copied at a time.
const COPY: u64 = 4 << 20;
/// Bytes that are brought to the disk together.
const FLUSH: u64 = 32 << 20;
/// How often it is looked whether there are as many.
const FLUSH_EVERY: Duration = Duration::from_millis(20);

/// What is to be written, and where.
#[derive(Clone, Debug)]
pub struct Request {
    /// A file ending in `.safetensors` or `.gguf`, or a folder.
    pub output: PathBuf,
    /// Whether something that stands there is replaced.
    pub force: bool,
    /// Bytes of tensors that a shard may hold.
    pub max_shard: Option<u64>,
}

/// Where a conversion stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// On its way.
    Running,
    /// The output stands under its name; its weight files have so many bytes.
    Done(u64),
    /// It could not be done; nothing is left of it.
    Failed(String),
    /// Somebody stopped it; nothing is left of it.
    Cancelled,
}

/// Progress as state: whoever shows it looks when it likes.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    rows_done: AtomicUsize,
    rows_total: AtomicUsize,
    current: Mutex<String>,
    losses: Mutex<Vec<(String, Loss)>>,
    state: Mutex<State>,
    seconds: OnceLock<f64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            rows_done: AtomicUsize::new(0),
            rows_total: AtomicUsize::new(0),
            current: Mutex::default(),
            losses: Mutex::default(),
            state: Mutex::new(State::Running),
            seconds: OnceLock::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Source bytes worked off, and all of them.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_done.load(Ordering::Relaxed), self.bytes_total.load(Ordering::Relaxed))
    }
    /// Rows finished, and all of them.
    pub fn rows(&self) -> (usize, usize) {
        (self.rows_done.load(Ordering::Relaxed), self.rows_total.load(Ordering::Relaxed))
    }
    /// What is being worked on.
    pub fn current(&self) -> String {
        lock(&self.current).clone()
    }
    /// Losses that came since the last call, by row.
    pub fn take_losses(&self) -> Vec<(String, Loss)> {
        std::mem::take(&mut lock(&self.losses))
    }
    /// Where it stands.
    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }
    /// Seconds since it began, until it ended.
    pub fn seconds(&self) -> f64 {
        self.seconds.get().copied().unwrap_or_else(|| self.started.elapsed().as_secs_f64())
    }
    /// Sets out on so much.
    pub(super) fn begin(&self, rows: usize, bytes: u64) {
        self.rows_total.store(rows, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }
    /// Turns to a row.
    pub(super) fn turn_to(&self, row: &Row) {
        row.name.clone_into(&mut lock(&self.current));
    }
    /// Turns to something of that name.
    pub(super) fn look_at(&self, name: &str) {
        name.clone_into(&mut lock(&self.current));
    }
    /// Is done with something of so many bytes.
    pub(super) fn done_with(&self, bytes: u64) {
        self.rows_done.fetch_add(1, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
    /// Is done with a row.
    pub(super) fn leave(&self, row: &Row) {
        self.rows_done.fetch_add(1, Ordering::Relaxed);
        self.bytes_done.fetch_add(row.bytes_before, Ordering::Relaxed);
    }
    fn end(&self, state: State) {
        let _ = self.seconds.set(self.started.elapsed().as_secs_f64());
        *lock(&self.state) = state;
    }
}

/// What a conversion did.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan that was carried out.
    pub plan: Plan,
    /// The loss of each of its rows; `None` for what was kept.
    pub losses: Vec<Option<LossSums>>,
    /// Bytes of the weight files.
    pub file_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A conversion in the background.
#[derive(Debug)]
pub struct Job {
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Where it writes.
    pub output: PathBuf,
    cancel: Cancel,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Job {
    /// Starts one. What is wrong with the request itself is said at once.
    pub fn start(opened: Arc<Opened>, settings: &Settings, request: Request, limits: Limits) -> Result<Self> {
        check(&opened, settings, &request)?;
        let progress = Arc::new(Progress::default());
        let cancel = Cancel::new();
        let output = request.output.clone();
        let (settings, theirs, stop) = (settings.clone(), Arc::clone(&progress), cancel.clone());
        let thread = std::thread::Builder::new()
            .name("convert".into())
            .spawn(move || {
                let result =
                    catch_unwind(AssertUnwindSafe(|| run(&opened, &settings, &request, limits, &stop, &theirs)));
                theirs.end(match result {
                    Ok(Ok(report)) => State::Done(report.file_bytes),
                    Ok(Err(e)) if e.kind() == Kind::Interrupted => State::Cancelled,
                    Ok(Err(e)) => State::Failed(e.to_string()),
                    Err(panic) => State::Failed(panic_message(panic.as_ref())),
                });
            })
            .map_err(|e| Error::failed(format!("cannot start a thread: {e}")).because(e))?;
        Ok(Self { progress, output, cancel, thread: Some(thread) })
    }
    /// Asks it to stop; its state says when it has.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

/// A plan and its place, checked: everything that can be refused before weights are read.
pub fn check(opened: &Opened, settings: &Settings, request: &Request) -> Result<(Plan, Layout)> {
    let output = output_kind(opened, settings, &request.output, request.max_shard)?;
    save::check_target(&request.output, output != Output::File, request.force, opened)?;
    let mut plan = target::plan(&opened.model, settings)?;
    target::get(settings.target).obstacles(&opened.model, settings)?;
    let context = Context::of(opened, settings, output.clone());
    let layout = Layout::new(&plan, &context)?;
    plan.warnings.extend(layout.warnings.iter().cloned());
    let beside: u64 = opened
        .companions
        .iter()
        .map(|c| match &c.content {
            crate::format::Content::Embedded(bytes) => bytes.len() as u64,
            crate::format::Content::File(path) => path.metadata().map_or(0, |m| m.len()),
        })
        .sum();
    let beside = if output == Output::File { 0 } else { beside };
    save::check_space(&request.output, layout.file_bytes().saturating_add(beside))?;
    Ok((plan, layout))
}

/// Carries a plan out. Blocks until it is done, failed or cancelled; only when done is anything left.
pub fn run(
    opened: &Arc<Opened>,
    settings: &Settings,
    request: &Request,
    limits: Limits,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Report> {
    let (plan, layout) = check(opened, settings, request)?;
    for blob in opened.sources() {
        blob.check_unchanged()?;
    }
    let is_folder = matches!(output_kind(opened, settings, &request.output, request.max_shard)?, Output::Folder { .. });
    let staging = save::Staging::new(&request.output, is_folder, request.force)?;
    let sinks: Vec<save::Sink> =
        layout.files.iter().map(|f| staging.weights(&f.name, f.bytes)).collect::<Result<_>>()?;

    let places = Some((&layout, sinks.as_slice()));
    let losses = std::thread::scope(|scope| {
        let (working, done) = crossbeam_channel::bounded::<()>(0);
        let flushing = std::thread::Builder::new()
            .name("flush".into())
            .spawn_scoped(scope, || flush(&sinks, done))
            .map_err(|e| Error::failed(format!("cannot start a thread: {e}")).because(e))?;
        let losses = Work { opened, plan: &plan, wanted: &|_| true, places, cancel, progress }.run(limits);
        drop(working);
        // What the work failed with says more than what the disk then failed with.
        let flushed = flushing.join().unwrap_or_else(|panic| Err(Error::failed(panic_message(panic.as_ref()))));
        losses.and_then(|losses| flushed.map(|()| losses))
    })?;

    let loss = |row: usize| losses[row].as_ref().map(LossSums::loss);
    for row in 0..plan.rows.len() {
        if let Some((file, offset, bytes)) =
            loss(row).and_then(|l| layout.description_of(&plan, &opened.model, row, &l))
        {
            sinks[file].write_at(offset, &bytes)?;
        }
        if let Some((file, offset, bytes)) = layout.beside(&plan, row) {
            sinks[file].write_at(offset, &bytes)?;
        }
    }
    for (file, sink) in sinks.iter().enumerate() {
        sink.write_at(0, &layout.header(&plan, &opened.model, file, &loss)?)?;
        cancel.check()?;
        sink.sync()?;
    }
    if is_folder {
        for (relative, bytes) in &layout.sidecars {
            staging.text(relative, bytes)?;
        }
        for companion in &opened.companions {
            cancel.check()?;
            if !layout.sidecars.iter().any(|(relative, _)| *relative == companion.relative) {
                staging.copy(&companion.relative, &companion.content, cancel)?;
            }
        }
    }
    cancel.check()?;
    drop(sinks);
    staging.commit()?;
    let seconds = progress.started.elapsed().as_secs_f64();
    Ok(Report { file_bytes: layout.file_bytes(), plan, losses, seconds })
}

/// Brings to the disk what is written, as it is written, until `done` hangs up.
fn flush(sinks: &[save::Sink], done: Receiver<()>) -> Result<()> {
    while done.recv_timeout(FLUSH_EVERY) == Err(RecvTimeoutError::Timeout) {
        sinks.iter().try_for_each(|sink| sink.flush(FLUSH))?;
    }
    Ok(())
}

/// The losses of a plan's rows, with nothing written: the same passes as [`run`], row for row.
pub fn measure(
    opened: &Arc<Opened>,
    plan: &Plan,
    wanted: &(dyn Fn(&Row) -> bool + Sync),
    limits: Limits,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Vec<Option<LossSums>>> {
    let wanted = &|row: &Row| !row.excluded && wanted(row);
    Work { opened, plan, wanted, places: None, cancel, progress }.run(limits)
}

/// A piece of work that one thread does at a time.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// Bytes of a source array, as they are.
    Copy { row: usize, offset: u64, len: u64 },
    /// One slab of a row whose slabs need nothing of each other.
    Slab { row: usize, slab: usize },
    /// A row that needs a look at all of it, but is small.
    Whole { row: usize },
}

struct Work<'a> {
    opened: &'a Arc<Opened>,
    plan: &'a Plan,
    wanted: &'a (dyn Fn(&Row) -> bool + Sync),
    /// Where bytes go; nowhere in a trial.
    places: Option<(&'a Layout, &'a [save::Sink])>,
    cancel: &'a Cancel,
    progress: &'a Progress,
}

/// A row while its slabs are worked on; made when the first of them is, gone with the last.
struct Live {
    codec: Box<dyn Codec>,
    values: Box<dyn Values>,
    prepared: Box<dyn Prepared>,
    measured: Mutex<Vec<Option<Measured>>>,
    left: AtomicUsize,
}

impl Work<'_> {
    fn run(&self, limits: Limits) -> Result<Vec<Option<LossSums>>> {
        let mut units = Vec::new();
        let mut large = Vec::new();
        let (mut slab_elements, mut fixed) = (1u64, 0u64);
        let mut per_worker = 0u64;
        let rows = || self.plan.rows.iter().enumerate().filter(|(_, row)| (self.wanted)(row));
        for (r, row) in rows() {
            if let Action::Copy = row.action {
                let total = row.bytes_after();
                let mut offset = 0;
                while offset < total {
                    let len = COPY.min(total - offset);
                    units.push(Unit::Copy { row: r, offset, len });
                    offset += len;
                }
                if total == 0 {
                    self.progress.rows_done.fetch_add(1, Ordering::Relaxed);
                }
                continue;
            }
            let codec = self.codec(row)?;
            let g = codec.geometry();
            slab_elements = slab_elements.max(g.slab_elements() as u64);
            let search = match &row.action {
                Action::Quantize(recipe) => {
                    slab_elements = slab_elements.max(target::search_chunk(recipe).min(row.elements()));
                    target::search_memory(&row.shape, recipe)
                }
                _ => 0,
            };
            // A packed source brings its own factors along; what a slab becomes is there as numbers and as bytes.
            let share = row.bytes_after() / (g.slabs().max(1) as u64);
            per_worker = per_worker
                .max(values::memory_of_row(self.opened, row).saturating_add(2 * share).saturating_add(codec.memory()));
            match (codec.is_global(), g.slabs()) {
                (_, 0) => drop(self.progress.rows_done.fetch_add(1, Ordering::Relaxed)),
                (false, slabs) => units.extend((0..slabs).map(|slab| Unit::Slab { row: r, slab })),
                (true, 1) if search <= SMALL_SEARCH => {
                    per_worker = per_worker.max(search);
                    units.push(Unit::Whole { row: r });
                }
                (true, _) => {
                    fixed = fixed.max(search);
                    large.push(r);
                }
            }
        }
        self.progress.rows_total.store(rows().count(), Ordering::Relaxed);
        let bytes: u64 = rows().map(|(_, r)| r.bytes_before).sum();
        self.progress.bytes_total.store(bytes, Ordering::Relaxed);

        let workers = limits.workers(slab_elements, per_worker, fixed)?;
        let pool = pool(workers, "convert")?;
        let losses: Vec<Mutex<Option<LossSums>>> = self.plan.rows.iter().map(|_| Mutex::default()).collect();
        self.small(&pool, workers, &units, &losses)?;
        for r in large {
            *lock(&losses[r]) = Some(pool.install(|| self.whole(r))?);
        }
        // What is kept has no loss to show, even where a packed source was decoded for it.
        let excluded = self.plan.rows.iter().map(|row| row.excluded);
        Ok(losses
            .into_iter()
            .zip(excluded)
            .map(|(sums, excluded)| sums.into_inner().unwrap_or_else(PoisonError::into_inner).filter(|_| !excluded))
            .collect())
    }

    /// Units in order, each taken by the next free worker; the first error stops all.
    fn small(
        &self,
        pool: &ThreadPool,
        workers: usize,
        units: &[Unit],
        losses: &[Mutex<Option<LossSums>>],
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<Error>> = Mutex::default();
        let stop = AtomicBool::new(false);
        let live: Vec<Mutex<Option<Arc<Live>>>> = self.plan.rows.iter().map(|_| Mutex::default()).collect();
        pool.scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|_| {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) else {
                            return;
                        };
                        if let Err(e) = self.unit(*unit, &live, losses) {
                            stop.store(true, Ordering::Relaxed);
                            lock(&failed).get_or_insert(e);
                        }
                    }
                });
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn unit(&self, unit: Unit, live: &[Mutex<Option<Arc<Live>>>], losses: &[Mutex<Option<LossSums>>]) -> Result<()> {
        self.cancel.check()?;
        match unit {
            Unit::Copy { row, offset, len } => self.copy(row, offset, len),
            Unit::Whole { row } => {
                *lock(&losses[row]) = Some(self.whole(row)?);
                Ok(())
            }
            Unit::Slab { row, slab } => {
                let mine = {
                    let mut slot = lock(&live[row]);
                    match &*slot {
                        Some(there) => Arc::clone(there),
                        None => Arc::clone(slot.insert(Arc::new(self.live(row)?))),
                    }
                };
                let measured = self
                    .pass(row, mine.codec.as_ref(), mine.values.as_ref(), &self.sink(row))
                    .slab(mine.prepared.as_ref(), slab)?;
                self.advance(row, measured.sums.elements);
                lock(&mine.measured)[slab] = Some(measured);
                if mine.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    *lock(&live[row]) = None;
                    for (part, bytes) in mine.prepared.finish() {
                        self.sink(row).write(part, 0, &bytes)?;
                    }
                    let mut sums = LossSums::default();
                    for measured in lock(&mine.measured).iter().flatten() {
                        sums.merge(&measured.sums);
                    }
                    *lock(&losses[row]) = Some(sums);
                    self.finished(row, Some(&sums));
                }
                Ok(())
            }
        }
    }

    fn codec(&self, row: &Row) -> Result<Box<dyn Codec>> {
        let storage = values::storage_of_row(self.opened, row);
        target::get(self.plan.family).codec(&row.shape, storage, &row.action)
    }

    fn live(&self, r: usize) -> Result<Live> {
        let row = &self.plan.rows[r];
        let codec = self.codec(row)?;
        let values = values::of_row(self.opened, row, codec.geometry())?;
        let prepared = self.pass(r, codec.as_ref(), values.as_ref(), &self.sink(r)).prepare()?;
        let slabs = codec.geometry().slabs();
        let measured = Mutex::new((0..slabs).map(|_| None).collect());
        Ok(Live { codec, values, prepared, measured, left: AtomicUsize::new(slabs) })
    }

    fn whole(&self, r: usize) -> Result<LossSums> {
        let row = &self.plan.rows[r];
        self.cancel.check()?;
        row.name.clone_into(&mut lock(&self.progress.current));
        let codec = self.codec(row)?;
        let values = values::of_row(self.opened, row, codec.geometry())?;
        let sink = self.sink(r);
        let sums =
            self.pass(r, codec.as_ref(), values.as_ref(), &sink).run(&|elements| self.advance(r, elements))?.sums;
        self.finished(r, Some(&sums));
        Ok(sums)
    }

    fn pass<'p>(&'p self, row: usize, codec: &'p dyn Codec, values: &'p dyn Values, sink: &'p RowSink<'p>) -> Pass<'p> {
        Pass { name: &self.plan.rows[row].name, codec, values, sink, cancel: self.cancel, detail: false }
    }

    fn sink(&self, row: usize) -> RowSink<'_> {
        RowSink { places: self.places, row }
    }

    fn copy(&self, r: usize, offset: u64, len: u64) -> Result<()> {
        let row = &self.plan.rows[r];
        let mut bytes = vec![0; len as usize];
        values::copy(self.opened, row, offset, &mut bytes)?;
        self.sink(r).write(0, offset, &bytes)?;
        self.progress.bytes_done.fetch_add(len, Ordering::Relaxed);
        if offset + len == row.bytes_after() {
            self.finished(r, None);
        }
        Ok(())
    }

    fn advance(&self, r: usize, elements: u64) {
        let row = &self.plan.rows[r];
        let share = elements as f64 / row.elements().max(1) as f64;
        self.progress.bytes_done.fetch_add((row.bytes_before as f64 * share) as u64, Ordering::Relaxed);
    }

    fn finished(&self, r: usize, sums: Option<&LossSums>) {
        let row = &self.plan.rows[r];
        self.progress.rows_done.fetch_add(1, Ordering::Relaxed);
        row.name.clone_into(&mut lock(&self.progress.current));
        if let Some(sums) = sums.filter(|_| !row.excluded) {
            lock(&self.progress.losses).push((row.name.clone(), sums.loss()));
        }
    }
}

struct RowSink<'a> {
    places: Option<(&'a Layout, &'a [save::Sink])>,
    row: usize,
}

impl Sink for RowSink<'_> {
    fn write(&self, part: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let Some((layout, sinks)) = self.places else {
            return Ok(());
        };
        let (file, start) = layout.place(self.row, part)?;
        sinks[file].write_at(start + offset, bytes)
    }
}
