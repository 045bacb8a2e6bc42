//! Work beside the desk: what takes long for a large model is done on a thread of its own, and keys that only move about are
//! answered meanwhile. One work at a time; what would change something waits for it, in its order.
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, TryRecvError, bounded};

use super::app::App;
use super::backend::Planner;
use super::board::Board;
use super::msg::{Effect, Msg};
use crate::core::{Error, Model, Result, Settings};
use crate::engine::panic_message;

/// What is done at the desk with what was found out.
pub type Landing = Box<dyn FnOnce(&mut App, &mut Vec<Effect>) + Send>;

/// A model of more tensors is large: a plan of so many takes about half of the 16 ms that a key may wait for its frame.
const LARGE: usize = 4096;
/// Work that takes longer is said to be under way.
const SAID_AFTER: Duration = Duration::from_millis(100);

/// What keys do while work is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// Those that only move about are answered: what they are about stays as it is.
    LookAround,
    /// They wait: something is about to open that they are meant for.
    Wait,
}

/// Work that is under way.
struct Work {
    meanwhile: Meanwhile,
    landing: Receiver<Landing>,
    since: Instant,
}

/// The one place for it.
#[derive(Default)]
pub struct Aside {
    /// Whether work is done on a thread of its own; else it is done at once.
    pub apart: bool,
    work: Option<Work>,
    /// Work that nothing waits for.
    look: Option<Receiver<Landing>>,
    /// What came meanwhile and waits.
    held: VecDeque<Msg>,
}

impl Aside {
    /// Of a model of so many tensors.
    pub fn new(tensors: usize) -> Self {
        Self { apart: tensors > LARGE, ..Self::default() }
    }
    /// Whether work is under way.
    pub fn is_busy(&self) -> bool {
        self.work.is_some()
    }
    /// Whether something is looked up that nothing waits for.
    pub fn is_looking(&self) -> bool {
        self.look.is_some()
    }
    /// Waits until something is done; the next tick takes it.
    pub fn wait(&self) {
        let all = self.work.iter().map(|w| &w.landing).chain(&self.look);
        let mut select = Select::new();
        let mut any = false;
        for landing in all {
            select.recv(landing);
            any = true;
        }
        if any {
            select.ready();
        }
    }
    /// Whether messages wait for it.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }
    /// How many keys do.
    fn waiting(&self) -> usize {
        self.held.iter().filter(|msg| matches!(msg, Msg::Key(_))).count()
    }
    /// Whether keys that only move about are answered: else they would come before what was pressed earlier.
    pub fn lets_look_around(&self) -> bool {
        self.held.is_empty() && self.work.as_ref().is_none_or(|w| w.meanwhile == Meanwhile::LookAround)
    }
    /// The next message that waited, where nothing is to be waited for any more. It is to be taken as any other is, and what
    /// follows from it done, before the one after it.
    pub fn take_held(&mut self) -> Option<Msg> {
        if self.is_busy() { None } else { self.held.pop_front() }
    }
    /// Lets go of what waits: it was meant for what did not come to be. How many keys that were.
    pub fn forget(&mut self) -> usize {
        let keys = self.waiting();
        self.held.clear();
        keys
    }
    /// Keeps a message until the work is done.
    pub fn hold(&mut self, msg: Msg) {
        self.held.push_back(msg);
    }
    /// What is said of it, where it takes so long that it is to be seen.
    pub fn says(&self, now: Instant) -> Option<String> {
        let work = self.work.as_ref().filter(|w| w.since + SAID_AFTER <= now)?;
        let word = if work.meanwhile == Meanwhile::LookAround { "planning…" } else { "working…" };
        Some(match self.waiting() {
            0 => word.to_owned(),
            1 => format!("{word} 1 key waits"),
            n => format!("{word} {n} keys wait"),
        })
    }
    /// When it will be.
    pub fn seen_at(&self) -> Option<Instant> {
        self.work.as_ref().map(|w| w.since + SAID_AFTER)
    }
}

/// Does work, of a large model beside the desk, and then what it says.
pub fn run(
    app: &mut App,
    meanwhile: Meanwhile,
    work: impl FnOnce(&dyn Planner) -> Landing + Send + 'static,
    fx: &mut Vec<Effect>,
) {
    if !app.aside.apart {
        return work(Arc::clone(&app.planner).as_ref())(app, fx);
    }
    let landing = start(app, work);
    app.aside.work = Some(Work { meanwhile, landing, since: app.now });
}

/// The same of work that nothing waits for. One at a time: see [`Aside::is_looking`].
pub fn look(app: &mut App, work: impl FnOnce(&dyn Planner) -> Landing + Send + 'static, fx: &mut Vec<Effect>) {
    if !app.aside.apart {
        return work(Arc::clone(&app.planner).as_ref())(app, fx);
    }
    app.aside.look = Some(start(app, work));
}

/// Starts work on a thread of its own; where none can be had it is done here.
fn start(app: &App, work: impl FnOnce(&dyn Planner) -> Landing + Send + 'static) -> Receiver<Landing> {
    let planner = Arc::clone(&app.planner);
    let (sender, landing) = bounded(1);
    let doing: Box<dyn FnOnce() + Send> = Box::new(move || {
        let landing = catch_unwind(AssertUnwindSafe(|| work(planner.as_ref()))).unwrap_or_else(|panic| -> Landing {
            let why = panic_message(panic.as_ref());
            // Where the desk can be left in order.
            Box::new(move |_, _| panic!("{why}"))
        });
        // A desk that was left does not wait for it.
        let _ = sender.send(landing);
        planner.wake();
    });
    let held = Arc::new(Mutex::new(Some(doing)));
    let take =
        |held: &Mutex<Option<Box<dyn FnOnce() + Send>>>| held.lock().unwrap_or_else(PoisonError::into_inner).take();
    let apart = {
        let held = Arc::clone(&held);
        move || take(&held).into_iter().for_each(|doing| doing())
    };
    if std::thread::Builder::new().name("aside".into()).spawn(apart).is_err()
        && let Some(doing) = take(&held)
    {
        doing();
    }
    landing
}

/// Takes what has been done, where it has. What waited for it comes next: see [`Aside::take_held`].
pub fn land(app: &mut App, fx: &mut Vec<Effect>) {
    let done = |landing: &Receiver<Landing>| match landing.try_recv() {
        Err(TryRecvError::Empty) => None,
        landing => Some(landing.ok()),
    };
    if let Some(landing) = app.aside.work.as_ref().and_then(|w| done(&w.landing)) {
        app.aside.work = None;
        landing.into_iter().for_each(|landing| landing(app, fx));
    }
    if let Some(landing) = app.aside.look.as_ref().and_then(done) {
        app.aside.look = None;
        landing.into_iter().for_each(|landing| landing(app, fx));
    }
}

/// Lets go of a plan. Of a large model that takes a while too.
pub fn discard(app: &App, old: impl Send + 'static) {
    if app.aside.apart {
        // Where no thread can be had, it is let go here.
        let _ = std::thread::Builder::new().name("aside".into()).spawn(move || drop(old));
    }
}

/// A plan, ready for the desk.
pub struct Planned {
    pub(super) board: Board,
    /// What it was made of.
    pub(super) settings: Arc<Settings>,
    /// Rows with which something else is done than before; `None`: everything may be another.
    pub(super) changed: Option<Vec<u32>>,
    /// The first plan brings it along.
    pub(super) prior: Option<super::backend::Prior>,
}

impl Planned {
    /// Resolves settings over a model. `before` is the plan that it replaces, empty where there was none.
    pub fn new(planner: &dyn Planner, model: &Model, settings: Arc<Settings>, before: &Board) -> Result<Self> {
        let plan = Arc::new(planner.plan(&settings)?);
        let totals = planner.totals(&plan);
        let board = Board::new(model, plan, totals, Some(before));
        let changed = board.changed_since(before);
        let prior = before.is_empty().then(|| planner.prior());
        Ok(Self { board, settings, changed, prior })
    }
}

/// Resolves the settings anew, and then does what follows from it.
pub fn replan(
    app: &mut App,
    then: impl FnOnce(&mut App, Result<(), Error>, &mut Vec<Effect>) + Send + 'static,
    fx: &mut Vec<Effect>,
) {
    let settings = Arc::new(app.session.settings().clone());
    let model = Arc::clone(&app.session.model);
    let before = Arc::clone(&app.board);
    let work = move |planner: &dyn Planner| -> Landing {
        let planned = Planned::new(planner, &model, settings, &before);
        Box::new(move |app, fx| {
            let old = (Arc::clone(&app.board), Arc::clone(&app.settings));
            let result = planned.map(|planned| app.take_plan(planned));
            then(app, result, fx);
            // What is said of a group was said of the plan before.
            if app.facts.is_some() {
                app.rest_at = Some(app.now);
            }
            discard(app, old);
        })
    };
    run(app, Meanwhile::LookAround, work, fx);
}
