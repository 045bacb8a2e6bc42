//! The desk without a terminal, for tests: keys in, screens out.
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Modifier;

use super::app::App;
use super::backend::Backend;
use super::msg::{Effect, Msg};
use super::{key, update, view};
use crate::core::Result;
use crate::session::Session;

/// A desk that is driven by hand. Its clock moves only when it is told to.
pub struct Driver {
    /// The desk.
    pub app: App,
    /// What was asked of the terminal: redraw, suspend, quit.
    pub left: Vec<Effect>,
    terminal: Terminal<TestBackend>,
}

impl Driver {
    /// A desk of that size.
    pub fn new(session: Session, backend: Box<dyn Backend>, size: (u16, u16)) -> Result<Self> {
        let mut driver = Self::over(App::new(session, backend, Instant::now())?, size);
        driver.pass(100);
        Ok(driver)
    }
    /// A desk of a large model, as it is first seen: its plan is being made.
    pub fn unplanned(session: Session, backend: Box<dyn Backend>, size: (u16, u16)) -> Self {
        let mut driver = Self::over(App::unplanned(session, backend, Instant::now()), size);
        driver.app.aside.apart = true;
        driver.send(Msg::Opened);
        driver
    }
    fn over(mut app: App, (width, height): (u16, u16)) -> Self {
        app.screen.size = (width, height);
        let Ok(terminal) = Terminal::new(TestBackend::new(width, height));
        let mut driver = Self { app, left: Vec::new(), terminal };
        driver.draw();
        driver
    }
    /// Takes a message and carries out what follows from it.
    pub fn send(&mut self, msg: Msg) {
        let mut next = Some(msg);
        while let Some(msg) = next {
            let effects = update::update(&mut self.app, msg);
            let left = update::perform(&mut self.app, effects);
            self.left.extend(left);
            next = self.app.aside.take_held();
        }
    }
    /// Presses keys at once, one after another.
    pub fn press(&mut self, keys: &str) {
        for key in key::sequence(keys).unwrap_or_default() {
            self.send(Msg::Key(key));
        }
    }
    /// Presses keys, written as `l j Space t 4 Enter`; after each the cursor rests a while.
    pub fn keys(&mut self, keys: &str) -> &mut Self {
        for key in key::sequence(keys).unwrap_or_default() {
            self.send(Msg::Key(key));
            self.draw();
            self.land();
            self.pass(100);
        }
        self
    }
    /// Waits for what is done aside.
    pub fn land(&mut self) {
        while self.app.aside.is_busy() || self.app.aside.is_looking() {
            self.app.aside.wait();
            self.pass(0);
        }
    }
    /// Types text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            self.send(Msg::Key(key::Key::char(c)));
        }
        self
    }
    /// Lets time pass.
    pub fn pass(&mut self, milliseconds: u64) {
        let now = self.app.now + Duration::from_millis(milliseconds);
        self.send(Msg::Tick(now));
    }
    /// Takes the answers that have come.
    pub fn answers(&mut self) -> &mut Self {
        let answers = self.app.backend.drain();
        self.send(Msg::Answers(answers));
        self
    }
    /// Waits until no trial runs any more; at most ten seconds of real time.
    pub fn settle(&mut self) -> &mut Self {
        for _ in 0..2000 {
            let busy = self.app.backend.trials_running() > 0;
            self.answers();
            if !busy {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }
    /// Makes the screen that large.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.terminal.backend_mut().resize(width, height);
        self.send(Msg::Resize(width, height));
        self.draw();
    }
    /// Draws a frame.
    pub fn draw(&mut self) -> &Buffer {
        let Self { app, terminal, .. } = self;
        let Ok(_) = terminal.draw(|frame| view::draw(app, frame));
        terminal.backend().buffer()
    }
    /// The screen as text; below it, where it is reversed: `line:from-to`.
    pub fn screen(&mut self) -> String {
        shown(self.draw())
    }
}

/// A screen as text; below it, where it is reversed: `line:from-to`.
pub fn shown(buffer: &Buffer) -> String {
    let area = buffer.area;
    let (mut text, mut runs) = (String::new(), String::new());
    for y in 0..area.height {
        let mut line = String::new();
        let mut skip = 0;
        let mut run: Option<u16> = None;
        for x in 0..=area.width {
            let cell = buffer.cell((x, y));
            let reversed = x < area.width && cell.is_some_and(|c| c.modifier.contains(Modifier::REVERSED));
            match (run, reversed) {
                (None, true) => run = Some(x),
                (Some(from), false) => {
                    let _ = write!(runs, " {}:{from}-{}", y + 1, x - 1);
                    run = None;
                }
                _ => {}
            }
            if let Some(cell) = cell.filter(|_| x < area.width && skip == 0) {
                line.push_str(cell.symbol());
                skip = super::text::width(cell.symbol()).max(1);
            }
            skip = skip.saturating_sub(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    format!("{text}reversed:{runs}\n")
}
