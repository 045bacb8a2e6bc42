//! Every switch of the terminal's modes is here: what is put on is taken off, once, on every way out.
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal};

use super::theme::Look;
use super::theme::depth::Depth;

/// Whether the modes are on.
static ON: AtomicBool = AtomicBool::new(false);

fn enter(mouse: bool) -> io::Result<()> {
    ON.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
    take_mouse(mouse)
}

fn take_mouse(on: bool) -> io::Result<()> {
    if on { execute!(io::stdout(), EnableMouseCapture) } else { execute!(io::stdout(), DisableMouseCapture) }
}

/// Takes everything off again, if it is on. Errors are passed over: there may be no terminal any more.
pub fn restore() {
    if ON.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        let _ = execute!(
            out,
            EndSynchronizedUpdate,
            DisableBracketedPaste,
            DisableMouseCapture,
            LeaveAlternateScreen,
            cursor::Show
        );
        let _ = disable_raw_mode();
        let _ = out.flush();
    }
}

type Hook = Box<dyn Fn(&std::panic::PanicHookInfo<'_>) + Send + Sync + 'static>;

/// Restores the terminal before a panic of the thread that draws is reported. A worker's panic is caught where it
/// works and becomes a failed trial or job; reporting it here would write over the screen.
fn hook_panics(ui: ThreadId) {
    let before: Hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == ui || !ON.load(Ordering::SeqCst) {
            restore();
            before(info);
        } else {
            log::error!("{info}");
        }
    }));
}

/// The screen, for as long as it is held.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    /// Whether the mouse is ours, while the screen is.
    mouse: bool,
}

impl Screen {
    /// Takes the terminal, with the mouse or without.
    pub fn new(mouse: bool, look: &Look) -> io::Result<Self> {
        hook_panics(std::thread::current().id());
        // crossterm has an opinion on NO_COLOR of its own; the look has weighed that against what was asked for.
        crossterm::style::force_color_output(look.depth() != Depth::None);
        let taken = enter(mouse).and_then(|()| {
            // A frame goes out in one write.
            Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(1 << 16, io::stdout())))
        });
        match taken {
            Ok(terminal) => Ok(Self { terminal, mouse }),
            Err(e) => {
                restore();
                Err(e)
            }
        }
    }
    /// Draws a frame.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> io::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        self.terminal.draw(draw)?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }
    /// Takes the mouse, or leaves it to the terminal, which then selects text with it.
    pub fn set_mouse(&mut self, on: bool) -> io::Result<()> {
        self.mouse = on;
        take_mouse(on)
    }
    /// Forgets what is on the screen, so that the next frame draws all of it.
    ///
    /// Not `Terminal::clear`, which asks the terminal for its cursor and waits for an answer that the input thread eats.
    pub fn forget(&mut self) -> io::Result<()> {
        let (w, h) = crossterm::terminal::size()?;
        self.terminal.resize(Rect::new(0, 0, w, h))
    }
    /// Puts a text on the clipboard of whoever sits at the terminal, where that allows it (OSC 52).
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        execute!(self.terminal.backend_mut(), crossterm::clipboard::CopyToClipboard::to_clipboard_from(text))
    }
    /// Gives the terminal back to the shell until it resumes us. `Err` says why that cannot be.
    pub fn suspend(&mut self) -> Result<(), String> {
        #[cfg(unix)]
        {
            if is_session_leader() {
                return Err("cannot suspend: no shell would resume it".into());
            }
            restore();
            let stopped = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
            enter(self.mouse)
                .and_then(|()| self.forget())
                .map_err(|e| format!("the terminal did not come back: {e}"))?;
            stopped.map_err(|e| format!("cannot suspend: {e}"))
        }
        #[cfg(not(unix))]
        Err("cannot suspend here".into())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether no shell stands behind us: then the kernel would ignore the stop, or nobody could end it.
#[cfg(unix)]
fn is_session_leader() -> bool {
    rustix::process::getsid(None).is_ok_and(|session| session == rustix::process::getpid())
}
