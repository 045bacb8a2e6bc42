//! The desk: a terminal UI, Elm style. Events become messages, `update` changes the state and says what is to be done,
//! `view` reads the state. Only this module knows ratatui and crossterm.
pub mod action;
pub mod app;
pub mod backend;
pub mod board;
pub mod config;
pub mod diff;
pub mod event;
pub mod filter;
pub mod key;
pub mod keymap;
mod live;
pub mod losses;
pub mod map;
pub mod msg;
pub mod overlay;
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

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

pub use event::Waker;
pub use live::Live;

use crate::core::{Error, Result};
use crate::session::Session;
use app::App;
use backend::{Backend, JobState};
use config::Config;
use event::Event;
use msg::{Effect, Msg};
use terminal::Screen;
use theme::environment::{Environment, Wish};

/// How the desk is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A message to begin with.
    pub greeting: Option<String>,
    /// What config.toml is called, and its text or why it cannot be read.
    pub config: Option<(String, Result<String, String>)>,
    /// How it is asked to look, before the file is.
    pub wish: Wish,
}

/// Frames are not drawn more often than this for news from the engine; a key is answered at once.
const FRAME: Duration = Duration::from_millis(33);
/// How long a conversion may take to clean up when the program is told to end.
const CLEAN_UP: Duration = Duration::from_secs(20);

/// Opens the desk and runs it to its end; the exit code. What `make` reports is reported before the screen is taken.
pub fn run(make: impl FnOnce(Waker) -> Result<(Session, Box<dyn Backend>)>, options: Options) -> Result<u8> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Error::usage(
            "there is no terminal; without one use `mixdown inspect`, `plan`, `trial` or `convert`",
        ));
    }
    let io = |e: std::io::Error| Error::failed(format!("the terminal cannot be used: {e}")).because(e);
    let (sender, receiver, waker) = event::channel();
    let (session, backend) = make(waker.clone())?;
    let mut app = App::new(session, backend, Instant::now())?;
    app.panic_key = std::env::var_os("MIXDOWN_TEST_PANIC").is_some_and(|v| v == "ui");
    if let Some(text) = options.greeting {
        app.say(text);
    }
    let config = match &options.config {
        Some((file, Ok(text))) => Config::parse(file, text),
        Some((file, Err(why))) => Config::unreadable(file, why),
        None => Config::default(),
    };
    config.apply(&mut app, options.wish, &Environment::read());
    let mut screen = Screen::new(app.mouse, &app.look).map_err(io)?;
    #[cfg(unix)]
    let signals = event::read_signals(sender.clone()).map_err(io)?;
    event::read_terminal(sender).map_err(io)?;
    let code = turn(&mut app, &mut screen, &receiver, &waker);
    end_jobs(&mut app);
    drop(screen);
    #[cfg(unix)]
    signals.close();
    code.map_err(io)
}

/// The loop: waits for an event or a deadline, takes what else has come, draws once.
fn turn(app: &mut App, screen: &mut Screen, events: &Receiver<Event>, waker: &Waker) -> std::io::Result<u8> {
    let mut drawn = Instant::now();
    screen.draw(app)?;
    let effects = update::update(app, Msg::Opened);
    update::perform(app, effects);
    let mut stale = false;
    loop {
        let deadline = app.next_deadline().into_iter().chain(stale.then(|| drawn + FRAME)).min();
        let first = match deadline {
            Some(at) => match events.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            },
            None => match events.recv() {
                Ok(event) => Some(event),
                Err(_) => return Ok(0),
            },
        };
        let due = deadline.is_some_and(|at| at <= Instant::now());
        let mut messages = vec![Msg::Tick(Instant::now())];
        let mut at_once = false;
        for event in first.into_iter().chain(events.try_iter().take(512)) {
            match event {
                Event::Term(event) => {
                    if let Some(msg) = event::message(event) {
                        messages.push(msg);
                        at_once = true;
                    }
                }
                Event::Gone => return Ok(129),
                #[cfg(unix)]
                Event::Signal(signal_hook::consts::SIGCONT) => {
                    screen.forget()?;
                    at_once = true;
                }
                Event::Signal(signal) => return Ok(128 + signal.clamp(0, 127) as u8),
                Event::Wake => {}
            }
        }
        stale |= waker.take();
        let draws = at_once || due || stale && drawn.elapsed() >= FRAME;
        // Answers are summed up over the whole model: once a frame, however fast they come.
        if stale && draws {
            messages.push(Msg::Answers(app.backend.drain()));
        }
        for msg in messages {
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
                    Effect::Quit(code) => return Ok(code),
                    Effect::Request(..) | Effect::WhatIf(_) | Effect::Convert { .. } | Effect::Save(_) => {}
                }
            }
        }
        if draws {
            screen.draw(app)?;
            drawn = Instant::now();
            stale = false;
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
