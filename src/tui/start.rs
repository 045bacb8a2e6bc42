//! The start screen: which model? Elm style as the desk, and on the same terminal. Nothing here waits for a disk:
//! whatever is read is read on a thread, and the first frame is drawn before.
pub mod item;
pub mod path;
mod scout;
pub mod state;
#[cfg(test)]
mod tests;
pub mod update;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::Stage;
use super::event::{self, Event, Waker};
use super::msg::Msg as Input;
use super::terminal::Screen;
use super::theme::Look;
use crate::core::{Cancel, Error, Result};
pub use item::{DEMO, Pick};
use scout::Scout;
use state::Start;
use update::{Effect, Msg, News};

/// How long the first frame waits for the list of recent models, which is there at once unless the disk hangs.
const AT_ONCE: Duration = Duration::from_millis(30);

/// Opens what was picked; called on a thread.
pub type Open<T> = Arc<dyn Fn(&Pick) -> Result<T> + Send + Sync>;

/// What came of the screen.
#[derive(Debug)]
pub enum Outcome<T> {
    /// A model was picked and opened.
    Picked(T),
    /// The program is to end, with that exit code.
    Quit(u8),
}

/// What is being opened, and whom to tell.
struct Opener<T> {
    open: Open<T>,
    sender: Sender<(u64, Result<T, String>)>,
    waker: Waker,
}

impl<T: Send + 'static> Opener<T> {
    fn start(&self, request: u64, pick: Pick) -> std::io::Result<()> {
        let (open, sender, waker) = (Arc::clone(&self.open), self.sender.clone(), self.waker.clone());
        let work = move || {
            let opened = catch_unwind(AssertUnwindSafe(|| open(&pick)));
            let opened =
                opened.unwrap_or_else(|_| Err(Error::failed("mixdown stumbled over this model; please report it")));
            // Nobody who listens any more: another was picked.
            let _ = sender.send((request, opened.map_err(|e| e.to_string())));
            waker.wake();
        };
        std::thread::Builder::new().name("open".into()).spawn(work).map(|_| ())
    }
}

/// Asks which model, until one was opened. `given` is the profile that the command line names.
pub fn run<T: Send + 'static>(
    stage: &mut Stage,
    given: Option<String>,
    back: bool,
    open: Open<T>,
) -> Result<Outcome<T>> {
    let io = |e: std::io::Error| Error::failed(format!("the terminal cannot be used: {e}")).because(e);
    let waker = stage.waker();
    let look = stage.look();
    let (screen, events) = stage.open().map_err(io)?;
    let (sender, news) = unbounded();
    let scout = Scout { news: sender, waker: waker.clone(), cancel: Cancel::new() };
    let (sender, opened) = unbounded();
    let opener = Opener { open, sender, waker: waker.clone() };
    let helpers = Helpers { waker, scout, news, opener, opened };
    let mut start = Start { back, ..Start::new(given) };
    helpers.scout.look_around();
    if let Ok(first) = helpers.news.recv_timeout(AT_ONCE) {
        update::update(&mut start, Msg::News(first));
    }
    let outcome = turn(&mut start, screen, events, &helpers, &look);
    helpers.scout.cancel.cancel();
    outcome.map_err(io)
}

/// Whoever works while the screen stands, and what comes from them.
struct Helpers<T> {
    waker: Waker,
    scout: Scout,
    news: Receiver<News>,
    opener: Opener<T>,
    opened: Receiver<(u64, Result<T, String>)>,
}

/// The loop: waits for an event, takes what else has come, draws once.
fn turn<T: Send + 'static>(
    start: &mut Start,
    screen: &mut Screen,
    events: &Receiver<Event>,
    helpers: &Helpers<T>,
    look: &Look,
) -> std::io::Result<Outcome<T>> {
    let Helpers { waker, scout, news, opener, opened } = helpers;
    // After another screen nothing of it may shine through.
    screen.forget()?;
    // A desk that was left with answers waiting left this raised, and nobody is told twice.
    waker.take();
    for first in news.try_iter() {
        update::update(start, Msg::News(first));
    }
    let mut draws = true;
    loop {
        if std::mem::take(&mut draws) {
            screen.draw(|frame| {
                view::draw(start, frame);
                look.apply(frame.buffer_mut());
            })?;
        }
        let Ok(first) = events.recv() else { return Ok(Outcome::Quit(0)) };
        let mut messages = Vec::new();
        for event in std::iter::once(first).chain(events.try_iter().take(512)) {
            match event {
                Event::Term(event) => {
                    let msg = event::message(event);
                    // There and back at once is no other size, and yet nothing is left of what was drawn.
                    if let Some(Input::Resize(..)) = msg {
                        screen.forget()?;
                    }
                    messages.extend(msg.and_then(message));
                    draws = true;
                }
                Event::Gone => return Ok(Outcome::Quit(129)),
                #[cfg(unix)]
                Event::Signal(signal_hook::consts::SIGCONT) => {
                    screen.forget()?;
                    draws = true;
                }
                Event::Signal(signal) => return Ok(Outcome::Quit(128 + signal.clamp(0, 127) as u8)),
                Event::Wake => {}
            }
        }
        if waker.take() {
            messages.extend(news.try_iter().map(Msg::News));
            for (request, opened) in opened.try_iter() {
                match opened {
                    // Whoever pressed Esc meanwhile does not want it any more.
                    Ok(model) if start.opening.as_ref().is_some_and(|(r, _)| *r == request) => {
                        return Ok(Outcome::Picked(model));
                    }
                    Ok(_) => {}
                    Err(why) => messages.push(Msg::Failed(request, why)),
                }
            }
        }
        // A wake-up may come after what it tells of was taken.
        draws |= !messages.is_empty();
        for msg in messages {
            for effect in update::update(start, msg) {
                match effect {
                    Effect::Open(request, pick) => {
                        if let Err(e) = opener.start(request, pick) {
                            update::update(start, Msg::Failed(request, format!("it cannot be opened now: {e}")));
                        }
                    }
                    Effect::List(folder) => scout.list(folder),
                    Effect::Redraw => screen.forget()?,
                    Effect::Suspend => start.note = screen.suspend().err(),
                    Effect::Quit(code) => return Ok(Outcome::Quit(code)),
                }
            }
        }
    }
}

/// What an event means here.
fn message(msg: Input) -> Option<Msg> {
    match msg {
        Input::Key(key) => Some(Msg::Key(key)),
        Input::Paste(text) => Some(Msg::Paste(text)),
        Input::Click(x, y) => Some(Msg::Click(x, y)),
        Input::Wheel(_, _, notches) => Some(Msg::Wheel(notches)),
        _ => None,
    }
}
