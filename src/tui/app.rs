//! The state of the desk. What was chosen lies in the session; here is what is on the screen and how it came there.
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::{Aside, Planned};
use super::backend::{Backend, Job, JobState, Planner, Progress};
use super::board::Board;
use super::filter::Query;
use super::key::Key;
use super::keymap::Keymap;
use super::losses::{Losses, Quality, Sums};
use super::overlay::Overlay;
use super::theme::Look;
use super::update::{Range, Sort, Stamp};
use super::whatif::WhatIf;
use crate::core::plan::{Action, Totals};
use crate::core::tree::{NodeId, Tree};
use crate::core::{Error, Family, Loss, Patch, Plan, Result, Row, Settings, TensorId};
use crate::session::{Profile, Session};

/// Which pane the keys go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The tree.
    #[default]
    Tree,
    /// The inspector.
    Inspector,
}

/// How high the columns of a histogram are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// By the square root of the count: the shape and the tails.
    #[default]
    Root,
    /// By the count.
    Linear,
    /// By its logarithm: single values too.
    Log,
}

impl Scale {
    /// The one after it.
    pub fn next(self) -> Self {
        match self {
            Self::Root => Self::Linear,
            Self::Linear => Self::Log,
            Self::Log => Self::Root,
        }
    }
    /// In a heading; the usual one goes without saying.
    pub fn word(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Linear => " (linear)",
            Self::Log => " (log)",
        }
    }
}

/// How a message is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something was done. It goes away by itself.
    Info,
    /// Something could not be done. It stays until a key is pressed.
    Error,
}

/// A line for the person.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// How it is meant.
    pub level: Level,
    /// What it says.
    pub text: String,
    /// When it goes away.
    pub until: Option<Instant>,
}

/// A conversion that was started.
pub struct Conversion {
    /// The job; dropped when it has ended.
    pub job: Option<Box<dyn Job>>,
    /// The plan it carries out.
    pub board: Arc<Board>,
    /// How it stood when last looked at.
    pub progress: Progress,
    /// When it was seen to have ended.
    pub ended: Option<Instant>,
    /// Whether it was asked to stop.
    pub cancelling: bool,
    /// Losses that became final, the latest last.
    pub written: VecDeque<(String, Loss)>,
    /// Their sums.
    pub sums: Sums,
    /// The worst of them: name, and what is estimated that it costs.
    pub worst: Vec<(String, f64)>,
    /// Who loads the result.
    pub loads_with: String,
}

impl Conversion {
    /// Lines that are held of what was written.
    const LINES: usize = 200;
    /// How many of the worst are named.
    const WORST: usize = 3;

    /// A conversion that has just been started.
    pub fn new(job: Box<dyn Job>, board: Arc<Board>, loads_with: String) -> Self {
        let progress = job.progress();
        Self {
            job: Some(job),
            board,
            progress,
            ended: None,
            cancelling: false,
            written: VecDeque::new(),
            sums: Sums::default(),
            worst: Vec::new(),
            loads_with,
        }
    }

    /// Takes a loss that has become final; `alpha` is what a relative error of 1 there is estimated to cost.
    pub fn note(&mut self, row: &Row, loss: Loss, alpha: f32) {
        self.sums.add(&loss, Quality::Written, row.elements(), alpha);
        let damage = f64::from(alpha) * loss.weighed();
        let at = self.worst.partition_point(|(_, d)| *d >= damage);
        self.worst.insert(at, (row.name.clone(), damage));
        self.worst.truncate(Self::WORST);
        self.written.push_back((row.name.clone(), loss));
        if self.written.len() > Self::LINES {
            self.written.pop_front();
        }
    }
}

/// What a group is made of, and its worst: of a large one only looked at when the cursor rests.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The group.
    pub node: NodeId,
    /// Kinds of treatment: how many tensors and bytes.
    pub kinds: Vec<(String, (usize, u64))>,
    /// The worst, with their shares of the damage of all.
    pub worst: Vec<(TensorId, f64)>,
}

/// Groups of at most this many tensors are looked at for every frame.
pub const LOOKED_AT: usize = 4096;

/// Where the map's cells are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    /// Left, top, width, height.
    pub place: (u16, u16, u16, u16),
    /// Columns of a cell.
    pub each: u16,
    /// Row and column of the first.
    pub first: (usize, usize),
}

/// What is on the screen, filled in by drawing: sizes for paging, places for clicks.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// Columns and rows.
    pub size: (u16, u16),
    /// First row of the tree that is drawn.
    pub offset: usize,
    /// Rows of the tree that fit.
    pub page: usize,
    /// Left, top, width, height of the tree's rows.
    pub tree: (u16, u16, u16, u16),
    /// First line of the inspector that is drawn, and how far it can go.
    pub inspector: (usize, usize),
    /// Places of the topmost list's rows: left, top, width, height, first item.
    pub list: Option<(u16, u16, u16, u16, usize)>,
    /// The map's cells.
    pub cells: Option<Cells>,
    /// The same of the what-if table.
    pub choices: Option<(u16, u16, u16, u16, usize)>,
}

/// From this width on, tree and inspector stand side by side.
pub const TWO_PANES: u16 = 100;
/// The smallest screen that is drawn on.
pub const SMALLEST: (u16, u16) = (20, 4);

/// The desk.
pub struct App {
    /// What was chosen.
    pub session: Session,
    /// The door to heavy work.
    pub backend: Box<dyn Backend>,
    /// What plans are made by.
    pub planner: Arc<dyn Planner>,
    /// Work that is done beside the desk.
    pub aside: Aside,
    /// Why there is no plan to begin with: the desk is left with it.
    pub failed: Option<Error>,
    /// The tensors.
    pub tree: Tree,
    /// The plan.
    pub board: Arc<Board>,
    /// The settings that it was made of; while none is being made, those of the session.
    pub settings: Arc<Settings>,
    /// What is known of losses.
    pub losses: Losses,
    /// The model's parameters.
    pub parameters: u64,
    /// What is known of a large group that the cursor rests at.
    pub facts: Option<Facts>,
    /// Where the last step to the next worst led: the tensor, its place among them, and what was to become of it.
    pub worst_at: Option<(TensorId, usize, Action)>,
    /// What the estimate of damage rests on, in words.
    pub basis: &'static str,
    /// The what-if table of what is acted on.
    pub what_if: WhatIf,
    /// What it was made for; `None` where it is still to be made.
    pub what_if_of: Option<Stamp>,
    /// Row of the cursor among the tree's visible rows.
    pub cursor: usize,
    /// Which pane the keys go to.
    pub focus: Focus,
    /// Columns of the inspector beside the tree, where somebody dragged the edge between them.
    pub side: Option<u16>,
    /// Whether that edge is being dragged.
    pub dragging: bool,
    /// Whether the inspector stands beside the tree, where there is room.
    pub beside: bool,
    /// Whether the inspector lies over the tree, where there is none.
    pub over: bool,
    /// First line of the inspector.
    pub scroll: usize,
    /// Popups; the topmost gets the keys.
    pub overlays: Vec<Overlay>,
    /// The choices that were pinned.
    pub pinned: Option<Profile>,
    /// How histograms are drawn.
    pub scale: Scale,
    /// The order of the rows.
    pub sort: Sort,
    /// A range of marks that grows with the cursor.
    pub range: Option<Range>,
    /// The filter's text.
    pub filter: String,
    /// The filter, compiled.
    pub query: Option<Query>,
    /// The line for the person.
    pub note: Option<Note>,
    /// Keys of an unfinished chord.
    pub chord: Vec<Key>,
    /// What the keys mean.
    pub keymap: Keymap,
    /// The copied recipe.
    pub clipboard: Option<(Family, Patch)>,
    /// Conversions, the latest last.
    pub jobs: Vec<Conversion>,
    /// Tensors whose trials are asked for once those before them are done.
    pub waiting: VecDeque<TensorId>,
    /// Trials asked for, by row.
    pub asked: HashMap<String, Action>,
    /// The time, as last told.
    pub now: Instant,
    /// When the cursor counts as resting.
    pub rest_at: Option<Instant>,
    /// What is on the screen.
    pub screen: Screen,
    /// How it looks.
    pub look: Look,
    /// Whether the mouse is the desk's; else it is the terminal's, which selects text.
    pub mouse: bool,
    /// The path of the last conversion page, so that it is not asked twice.
    pub output: Option<PathBuf>,
    /// What is quit for is another model.
    pub another: bool,
    /// `F12` panics, for the tests of restoring the terminal.
    pub panic_key: bool,
}

impl App {
    /// A desk over a session.
    pub fn new(session: Session, backend: Box<dyn Backend>, now: Instant) -> Result<Self> {
        let mut app = Self::unplanned(session, backend, now);
        app.plan()?;
        Ok(app)
    }

    /// Resolves the settings anew.
    pub fn plan(&mut self) -> Result<()> {
        let settings = Arc::new(self.session.settings().clone());
        let planned = Planned::new(self.planner.as_ref(), &self.session.model, settings, &self.board)?;
        self.take_plan(planned);
        Ok(())
    }

    /// Takes a plan that was made of the settings as they are.
    pub fn take_plan(&mut self, planned: Planned) {
        if let Some(prior) = planned.prior {
            self.losses = Losses::new(prior.alpha);
            self.basis = prior.basis.about();
        }
        self.board = Arc::new(planned.board);
        self.settings = planned.settings;
        self.losses.refresh(&self.board, self.session.model.tensors.len(), planned.changed);
    }

    /// Whether there is a plan, or only what was opened.
    pub fn is_planned(&self) -> bool {
        !self.board.is_empty() || self.session.model.tensors.is_empty()
    }

    /// The same before there is a plan: it can be drawn, and [`Self::plan`] is to follow.
    pub fn unplanned(session: Session, backend: Box<dyn Backend>, now: Instant) -> Self {
        let plan = Plan { family: session.settings().target, rows: Vec::new(), warnings: Vec::new() };
        let (board, tree) = rayon::join(
            || Arc::new(Board::new(&session.model, Arc::new(plan), Totals::default(), None)),
            || Tree::new(&session.model),
        );
        Self {
            tree,
            losses: Losses::default(),
            parameters: session.model.parameters(),
            facts: None,
            worst_at: None,
            basis: "",
            what_if: WhatIf::default(),
            what_if_of: None,
            aside: Aside::new(session.model.tensors.len()),
            failed: None,
            board,
            planner: backend.planner(),
            settings: Arc::new(session.settings().clone()),
            session,
            backend,
            cursor: 0,
            focus: Focus::Tree,
            side: None,
            dragging: false,
            beside: true,
            over: false,
            scroll: 0,
            overlays: Vec::new(),
            pinned: None,
            scale: Scale::default(),
            sort: Sort::Tree,
            range: None,
            filter: String::new(),
            query: None,
            note: None,
            chord: Vec::new(),
            keymap: Keymap::default(),
            clipboard: None,
            jobs: Vec::new(),
            waiting: VecDeque::new(),
            asked: HashMap::new(),
            now,
            rest_at: Some(now),
            screen: Screen { size: (80, 24), page: 20, ..Screen::default() },
            look: Look::default(),
            mouse: true,
            output: None,
            another: false,
            panic_key: false,
        }
    }

    /// The node under the cursor.
    pub fn node(&self) -> Option<NodeId> {
        self.tree.visible().get(self.cursor).copied()
    }
    /// The tensor under the cursor, where it is one.
    pub fn tensor(&self) -> Option<TensorId> {
        self.tree.tensor(self.node()?)
    }
    /// The row of the tensor under the cursor.
    pub fn row(&self) -> Option<&Row> {
        self.board.row(self.tensor()?)
    }
    /// Tensors below a node that the filter shows.
    pub fn shown_below(&self, node: NodeId) -> Vec<TensorId> {
        self.tree.tensors(node).filter(|id| self.tree.shows(*id)).collect()
    }
    /// Every tensor that the filter shows.
    pub fn shown(&self) -> Vec<TensorId> {
        self.session.model.ids().filter(|id| self.tree.shows(*id)).collect()
    }
    /// What commands act on: the marks if there are any, else the cursor's tensor or its group's.
    pub fn targets(&self) -> Vec<TensorId> {
        if !self.session.marks.is_empty() {
            return self.session.marks.iter().collect();
        }
        self.node().map(|n| self.shown_below(n)).unwrap_or_default()
    }
    /// What was set by hand of a tensor.
    pub fn override_of(&self, id: TensorId) -> Option<&Patch> {
        self.session.settings().overrides.get(&self.session.model.tensor(id).name)
    }
    /// Whether the inspector is on the screen.
    pub fn inspector_shown(&self) -> bool {
        if self.two_panes() { self.beside } else { self.over }
    }
    /// Columns of the inspector beside the tree.
    pub fn side(&self) -> u16 {
        let w = self.screen.size.0;
        match self.side {
            // Neither pane is pushed out of sight.
            Some(side) => side.clamp(24, w.saturating_sub(40).max(24)),
            None => (w * 2 / 5).clamp(44, 64),
        }
    }
    /// Whether there is room for two panes.
    pub fn two_panes(&self) -> bool {
        self.screen.size.0 >= TWO_PANES
    }
    /// The conversion that runs.
    pub fn running_job(&self) -> Option<&Conversion> {
        self.jobs.iter().rev().find(|j| j.progress.state == JobState::Running)
    }
    /// Says something that goes away by itself.
    pub fn say(&mut self, text: impl Into<String>) {
        let until = Some(self.now + Duration::from_secs(6));
        self.note = Some(Note { level: Level::Info, text: text.into(), until });
    }
    /// Says why something could not be done.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.note = Some(Note { level: Level::Error, text: text.into(), until: None });
    }
    /// After a share of the damage: of all, or of as much as is measured.
    pub fn share_of(&self) -> &'static str {
        let measured = self.losses.sums(&(0..self.session.model.tensors.len())).measured;
        if u64::from(measured) < self.board.totals.quantized { "of measured" } else { "of all" }
    }
    /// Says why a change made no plan. What was typed ahead was meant for that plan, and is let go.
    pub fn refuse(&mut self, error: &Error) {
        let dropped = match self.aside.forget() {
            0 => String::new(),
            1 => "(and 1 key let go) ".into(),
            n => format!("(and {n} keys let go) "),
        };
        self.complain(format!("{dropped}{error}"));
    }
    /// When something changes on the screen though nothing happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let note = self.note.as_ref().and_then(|n| n.until);
        let job = self.running_job().map(|_| self.now + Duration::from_millis(100));
        // What would rest waits for the plan.
        let rest = self.rest_at.filter(|_| !self.aside.is_busy());
        let aside = self.aside.seen_at().filter(|at| *at > self.now);
        [note, job, rest, aside].into_iter().flatten().min()
    }
}
