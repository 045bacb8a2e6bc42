//! The terminal and what comes from it, held from the first screen to the last: the start screen and the desk share them.
use std::io::IsTerminal;

use crossbeam_channel::{Receiver, Sender};

use super::config::Config;
use super::event::{self, Event, Waker};
use super::terminal::Screen;
use super::theme::Look;
use super::theme::environment::{Environment, Wish};
use crate::core::{Error, Result};

/// A terminal that can be drawn on. It is taken when the first screen is shown, and given back when this is dropped.
pub struct Stage {
    screen: Option<Screen>,
    pub(super) config: Config,
    pub(super) wish: Wish,
    pub(super) environment: Environment,
    sender: Sender<Event>,
    events: Receiver<Event>,
    waker: Waker,
    #[cfg(unix)]
    signals: Option<signal_hook::iterator::Handle>,
}

impl Stage {
    /// Finds the terminal; the screen stays as it is. `config` is what config.toml is called, and its text or why it
    /// cannot be read; `wish` how things are asked to look, before the file is.
    pub fn new(config: Option<(String, Result<String, String>)>, wish: Wish) -> Result<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Err(Error::usage(
                "there is no terminal; without one use `mixdown inspect`, `plan`, `trial` or `convert`",
            ));
        }
        let (sender, events, waker) = event::channel();
        let config = match &config {
            Some((file, Ok(text))) => Config::parse(file, text),
            Some((file, Err(why))) => Config::unreadable(file, why),
            None => Config::default(),
        };
        Ok(Self {
            screen: None,
            config,
            wish,
            environment: Environment::read(),
            sender,
            events,
            waker,
            #[cfg(unix)]
            signals: None,
        })
    }
    /// What tells whoever draws that there is something to look at.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
    /// How things look.
    pub(super) fn look(&self) -> Look {
        let (theme, ascii) = (self.wish.theme.or(self.config.theme), self.wish.ascii.or(self.config.ascii));
        self.environment.look(Wish { theme, ascii, ..self.wish })
    }
    /// Takes the terminal, unless it was taken before.
    pub(super) fn open(&mut self) -> std::io::Result<(&mut Screen, &Receiver<Event>)> {
        let screen = match self.screen.take() {
            Some(screen) => screen,
            None => {
                let screen = Screen::new(self.config.mouse.unwrap_or(true), &self.look())?;
                #[cfg(unix)]
                {
                    self.signals = Some(event::read_signals(self.sender.clone())?);
                }
                event::read_terminal(self.sender.clone())?;
                screen
            }
        };
        Ok((self.screen.insert(screen), &self.events))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.screen.take());
        #[cfg(unix)]
        if let Some(signals) = self.signals.take() {
            signals.close();
        }
    }
}
