//! What comes from outside: the terminal, signals, and the engine's wake-up. One bounded channel, three kinds.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use crossterm::event::{self as term, KeyCode, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind};

use super::key::{Code, Key, Named};
use super::msg::Msg;

/// Something from outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// From the terminal.
    Term(term::Event),
    /// The terminal is gone.
    Gone,
    /// A signal.
    Signal(i32),
    /// The engine has something.
    Wake,
}

/// Tells the desk that there is something to look at. Calls that come together are one.
#[derive(Clone, Debug)]
pub struct Waker {
    raised: Arc<AtomicBool>,
    sender: Sender<Event>,
}

impl Waker {
    /// Tells it. Never waits: where the channel is full, the desk is about to look anyway.
    pub fn wake(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            match self.sender.try_send(Event::Wake) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }
    /// Whether it was told.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }
    /// Whether it was told since the last time.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }
}

/// The channel, and what wakes it.
pub fn channel() -> (Sender<Event>, Receiver<Event>, Waker) {
    let (sender, receiver) = bounded(256);
    (sender.clone(), receiver, Waker { raised: Arc::default(), sender })
}

/// Reads the terminal on a thread of its own until the desk is closed.
pub fn read_terminal(sender: Sender<Event>) -> std::io::Result<()> {
    let read = move || loop {
        let event = match term::read() {
            Ok(event) => Event::Term(event),
            Err(_) => Event::Gone,
        };
        let gone = matches!(event, Event::Gone);
        if sender.send(event).is_err() || gone {
            return;
        }
    };
    std::thread::Builder::new().name("terminal".into()).spawn(read).map(|_| ())
}

/// Reads signals on a thread of their own; what is returned ends it.
#[cfg(unix)]
pub fn read_signals(sender: Sender<Event>) -> std::io::Result<signal_hook::iterator::Handle> {
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCONT])?;
    let handle = signals.handle();
    let read = move || {
        for signal in signals.forever() {
            if sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(read)?;
    Ok(handle)
}

/// What an event of the terminal means, if anything.
pub fn message(event: term::Event) -> Option<Msg> {
    match event {
        term::Event::Key(k) if k.kind != KeyEventKind::Release => key(k.code, k.modifiers).map(Msg::Key),
        term::Event::Key(_) | term::Event::FocusGained | term::Event::FocusLost => None,
        term::Event::Paste(text) => Some(Msg::Paste(text)),
        term::Event::Resize(w, h) => Some(Msg::Resize(w, h)),
        term::Event::Mouse(m) => match m.kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Msg::Click(m.column, m.row)),
            MouseEventKind::Drag(MouseButton::Left) => Some(Msg::Drag(m.column, m.row)),
            MouseEventKind::Up(MouseButton::Left) => Some(Msg::Release),
            MouseEventKind::ScrollDown => Some(Msg::Wheel(m.column, m.row, 1)),
            MouseEventKind::ScrollUp => Some(Msg::Wheel(m.column, m.row, -1)),
            _ => None,
        },
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
    let named = |n| Some(Code::Named(n));
    let mut shift = modifiers.contains(KeyModifiers::SHIFT);
    let ctrl = modifiers.contains(KeyModifiers::CONTROL);
    let code = match code {
        KeyCode::Char(c) => Some(Code::Char(if ctrl { c.to_ascii_lowercase() } else { c })),
        KeyCode::F(n) => Some(Code::F(n)),
        KeyCode::Enter => named(Named::Enter),
        KeyCode::Esc => named(Named::Esc),
        KeyCode::Tab => named(Named::Tab),
        KeyCode::BackTab => {
            shift = true;
            named(Named::Tab)
        }
        KeyCode::Backspace => named(Named::Backspace),
        KeyCode::Delete => named(Named::Delete),
        KeyCode::Insert => named(Named::Insert),
        KeyCode::Left => named(Named::Left),
        KeyCode::Right => named(Named::Right),
        KeyCode::Up => named(Named::Up),
        KeyCode::Down => named(Named::Down),
        KeyCode::Home => named(Named::Home),
        KeyCode::End => named(Named::End),
        KeyCode::PageUp => named(Named::PageUp),
        KeyCode::PageDown => named(Named::PageDown),
        _ => None,
    }?;
    // Shift is in the character already.
    let shift = shift && !matches!(code, Code::Char(_));
    Some(Key { code, ctrl, alt: modifiers.contains(KeyModifiers::ALT), shift })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_that_come_together_are_one() {
        let (_sender, receiver, waker) = channel();
        for _ in 0..1000 {
            waker.wake();
        }
        assert_eq!(receiver.try_iter().count(), 1);
        assert!(waker.take() && !waker.take());
        waker.wake();
        assert_eq!(receiver.try_iter().count(), 1);
    }

    #[test]
    fn a_full_channel_loses_no_wake_up() {
        let (sender, receiver, waker) = channel();
        while sender.try_send(Event::Gone).is_ok() {}
        waker.wake();
        assert_eq!(receiver.try_iter().filter(|e| matches!(e, Event::Wake)).count(), 0);
        assert!(waker.take(), "the flag tells what the channel could not");
    }

    #[test]
    fn keys_of_the_terminal() {
        fn check(code: KeyCode, modifiers: KeyModifiers, shown: &str) {
            assert_eq!(key(code, modifiers).map(|k| k.to_string()).as_deref(), Some(shown));
        }
        check(KeyCode::Char('G'), KeyModifiers::SHIFT, "G");
        check(KeyCode::Char('d'), KeyModifiers::CONTROL, "Ctrl-d");
        check(KeyCode::BackTab, KeyModifiers::SHIFT, "Shift-Tab");
        check(KeyCode::Left, KeyModifiers::SHIFT, "Shift-Left");
        check(KeyCode::Char(' '), KeyModifiers::NONE, "Space");
    }
}
