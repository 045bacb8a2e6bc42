//! The desk: a terminal UI, Elm style. Events become messages, `update` changes the state and says what is to be done,
//! `view` reads the state. Only this module knows ratatui and crossterm.
pub mod action;
pub mod app;
pub mod aside;
pub mod backend;
pub mod board;
pub mod config;
pub mod diff;
pub mod event;
pub mod facts;
pub mod filter;
pub mod key;
pub mod keymap;
mod live;
pub mod losses;
pub mod map;
pub mod msg;
pub mod overlay;
pub mod stage;
pub mod start;
mod terminal;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod text;
pub mod theme;
pub mod update;
mod view;
pub mod whatif;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

pub use event::Waker;
pub use live::Live;
pub use stage::Stage;

use crate::core::{Error, Result};
use crate::session::Session;
use app::App;
use backend::{Backend, JobState};
use event::Event;
use msg::{Effect, Msg};
use terminal::Screen;

/// Somebody who is told a text.
pub type Told = Box<dyn Fn(&str)>;

/// How the desk is run.
#[derive(Default)]
pub struct Options {
    /// A message to begin with.
    pub greeting: Option<String>,
    /// Keeps the text of a profile that was not saved when the desk is left.
    pub keep: Option<Told>,
    /// Told the name that the profile was saved under, when that is another than before.
    pub profile: Option<Told>,
}

/// Frames are not drawn more often than this for news from the engine; a key is answered at once.
const FRAME: Duration = Duration::from_millis(33);
/// Answers that are taken between two frames: a key never waits for more.
const AT_A_TIME: usize = 128;
/// How long a conversion may take to clean up when the program is told to end.
const CLEAN_UP: Duration = Duration::from_secs(20);

/// How a desk was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The program is to end, with that exit code.
    Quit(u8),
    /// Another model is wanted.
    Another,
}

/// Opens the desk and runs it to its end. What `make` reports is reported before the screen is taken.
pub fn run(
    stage: &mut Stage,
    make: impl FnOnce(Waker) -> Result<(Session, Box<dyn Backend>)>,
    options: Options,
) -> Result<Ended> {
    let io = |e: std::io::Error| Error::failed(format!("the terminal cannot be used: {e}")).because(e);
    let waker = stage.waker();
    let (session, backend) = make(waker.clone())?;
    let mut app = App::unplanned(session, backend, Instant::now());
    // A large model is seen before its plan is made; of any other, a settings error is told before the screen is taken.
    if !app.aside.apart {
        app.plan()?;
    }
    app.panic_key = std::env::var_os("MIXDOWN_TEST_PANIC").is_some_and(|v| v == "ui");
    if let Some(text) = options.greeting {
        app.say(text);
    }
    stage.config.clone().apply(&mut app, stage.wish, &stage.environment);
    let (screen, events) = stage.open().map_err(io)?;
    screen.set_mouse(app.mouse).map_err(io)?;
    let ended = turn(&mut app, screen, events, &waker, options.profile.as_deref());
    end_jobs(&mut app);
    if let Some(keep) = options.keep.filter(|_| app.session.is_dirty()) {
        keep(&app.session.profile.to_text());
    }
    match app.failed.take() {
        Some(e) => Err(e),
        None => ended.map_err(io),
    }
}

/// The loop: waits for an event or a deadline, takes what else has come, draws once.
fn turn(
    app: &mut App,
    screen: &mut Screen,
    events: &Receiver<Event>,
    waker: &Waker,
    profile: Option<&dyn Fn(&str)>,
) -> std::io::Result<Ended> {
    let drawn = Instant::now();
    let mut name = app.session.profile.name.clone();
    screen.draw(|frame| view::draw(app, frame))?;
    let effects = update::update(app, Msg::Opened);
    update::perform(app, effects);
    // Whether the engine has something, and when it was last asked for it.
    let (mut stale, mut looked) = (false, drawn);
    let mut backlog = VecDeque::new();
    loop {
        // What lies ready already is taken in smaller bites, sooner one after another.
        let pause = if backlog.is_empty() { FRAME } else { FRAME / 2 };
        let deadline = app.next_deadline().into_iter().chain(stale.then(|| looked + pause)).min();
        let first = match deadline {
            Some(at) => match events.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Quit(0)),
            },
            None => match events.recv() {
                Ok(event) => Some(event),
                Err(_) => return Ok(Ended::Quit(0)),
            },
        };
        let due = deadline.is_some_and(|at| at <= Instant::now());
        let mut messages = VecDeque::from([Msg::Tick(Instant::now())]);
        let mut at_once = false;
        for event in first.into_iter().chain(events.try_iter().take(512)) {
            match event {
                Event::Term(event) => {
                    if let Some(msg) = event::message(event) {
                        // There and back at once is no other size, and yet nothing is left of what was drawn.
                        if let Msg::Resize(..) = msg {
                            screen.forget()?;
                        }
                        messages.push_back(msg);
                        at_once = true;
                    }
                }
                Event::Gone => return Ok(Ended::Quit(129)),
                #[cfg(unix)]
                Event::Signal(signal_hook::consts::SIGCONT) => {
                    screen.forget()?;
                    at_once = true;
                }
                Event::Signal(signal) => return Ok(Ended::Quit(128 + signal.clamp(0, 127) as u8)),
                Event::Wake => {}
            }
        }
        // It stays raised until the answers are taken: until then there is nothing to be woken for.
        stale |= waker.is_raised();
        // A key goes before what the engine has, unless keys come so fast that this would never be seen.
        let news = stale && looked.elapsed() >= if at_once { FRAME * 4 } else { pause };
        let draws = at_once || due || news;
        if news {
            waker.take();
            backlog.extend(app.backend.drain());
            let some = backlog.drain(..backlog.len().min(AT_A_TIME)).collect();
            messages.push_back(Msg::Answers(some));
            stale = !backlog.is_empty();
            looked = Instant::now();
        }
        // What waited for a plan comes before what has come since.
        while let Some(msg) = app.aside.take_held().or_else(|| messages.pop_front()) {
            let effects = update::update(app, msg);
            for effect in update::perform(app, effects) {
                match effect {
                    Effect::Redraw => screen.forget()?,
                    Effect::Mouse(on) => screen.set_mouse(on)?,
                    Effect::Suspend => {
                        if let Err(why) = screen.suspend() {
                            app.complain(why);
                        }
                    }
                    Effect::Copy(text) => screen.copy(&text)?,
                    Effect::Another => return Ok(Ended::Another),
                    Effect::Quit(code) => return Ok(Ended::Quit(code)),
                    Effect::Request(..) | Effect::WhatIf(_) | Effect::Convert { .. } | Effect::Save(_) => {}
                }
            }
        }
        if app.failed.is_some() {
            return Ok(Ended::Quit(1));
        }
        if app.session.profile.name != name {
            name = app.session.profile.name.clone();
            if let (Some(tell), Some(name)) = (profile, &name) {
                tell(name);
            }
        }
        if draws {
            screen.draw(|frame| view::draw(app, frame))?;
        }
    }
}

/// Asks what runs to stop, and waits until it has removed what it wrote.
fn end_jobs(app: &mut App) {
    let until = Instant::now() + CLEAN_UP;
    for conversion in &app.jobs {
        let Some(job) = &conversion.job else { continue };
        job.cancel();
        while job.progress().state == JobState::Running && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
