//! The program in a terminal of its own, watched as a person would: by what is on the screen.
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::Sandbox;

/// How long a condition may take to come true; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the tests' own environment must not decide.
const UNSET: [&str; 11] = [
    "NO_COLOR",
    "COLORTERM",
    "COLORFGBG",
    "LC_ALL",
    "LC_CTYPE",
    "LANG",
    "MIXDOWN_CONFIG",
    "MIXDOWN_TEST_PANIC",
    "HF_HOME",
    "HF_HUB_CACHE",
    "XDG_CACHE_HOME",
];

/// A program and the terminal it runs in.
pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    parser: Arc<Mutex<vt100::Parser>>,
    bytes: Arc<AtomicUsize>,
    pub sandbox: Sandbox,
}

fn non_zero(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).expect("a terminal has columns and rows")
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

impl Terminal {
    /// Runs the desk on the built-in model.
    pub fn demo(env: &[(&str, &str)]) -> Self {
        Self::start(&[env!("CARGO_BIN_EXE_mixdown"), "--demo"], env)
    }
    /// The same, with a config.toml and flags.
    pub fn configured(config: &str, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("config/mixdown/config.toml", config);
        Self::start_in(sandbox, &[&[env!("CARGO_BIN_EXE_mixdown"), "--demo"], flags].concat(), env)
    }
    /// Runs any program in 100×30 cells, with a home of its own.
    pub fn start(words: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_in(Sandbox::new(), words, env)
    }
    /// The same, in a home that was furnished before.
    pub fn start_in(sandbox: Sandbox, words: &[&str], env: &[(&str, &str)]) -> Self {
        let pair = native_pty_system().openpty(size(100, 30)).expect("a pseudo terminal");
        let mut command = CommandBuilder::new(words[0]);
        command.args(&words[1..]);
        command.cwd(sandbox.path(""));
        command.env("HOME", sandbox.path(""));
        command.env("XDG_CONFIG_HOME", sandbox.path("config"));
        command.env("XDG_STATE_HOME", sandbox.path("state"));
        command.env("TERM", "xterm-256color");
        for name in UNSET {
            command.env_remove(name);
        }
        for (name, value) in env {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).expect("the program starts");
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().expect("a reader");
        let parser = Arc::new(Mutex::new(vt100::Parser::new(non_zero(30), non_zero(100), 0)));
        let bytes = Arc::new(AtomicUsize::new(0));
        let (theirs, count) = (Arc::clone(&parser), Arc::clone(&bytes));
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 14];
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                theirs.lock().expect("the parser").process(&buffer[..n]);
                count.fetch_add(n, Ordering::SeqCst);
            }
        });
        let writer = pair.master.take_writer().expect("a writer");
        Self { child, master: pair.master, writer, parser, bytes, sandbox }
    }
    /// Types.
    pub fn send(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).expect("the terminal takes keys");
        self.writer.flush().expect("the terminal takes keys");
    }
    /// Makes it another size.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.parser.lock().expect("the parser").set_size(non_zero(rows), non_zero(columns));
        self.master.resize(size(columns, rows)).expect("a new size");
    }
    /// Looks at the screen.
    pub fn screen<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.parser.lock().expect("the parser").screen())
    }
    /// The text on the screen.
    pub fn text(&self) -> String {
        self.screen(vt100::Screen::contents)
    }
    /// Bytes that came from the program so far.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
    /// Waits until the screen shows a text.
    pub fn until(&self, text: &str) {
        self.until_that(text, |screen| screen.contents().contains(text));
    }
    /// Waits until the screen is as it should be.
    pub fn until_that(&self, what: &str, mut is_so: impl FnMut(&vt100::Screen) -> bool) {
        let began = Instant::now();
        while !self.screen(&mut is_so) {
            assert!(began.elapsed() < PATIENCE, "never came: {what}\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    /// Sends it a signal.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(sent.is_ok_and(|s| s.success()), "kill -{name} {id}");
    }
    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.process_id().expect("it runs")
    }
    /// Waits for its end; the exit code.
    pub fn end(&mut self) -> u32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                return status.exit_code();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    /// Asserts that every mode that was put on is off again.
    pub fn assert_restored(&self) {
        self.until_that("the terminal as it was", |s| {
            !s.alternate_screen()
                && !s.hide_cursor()
                && !s.bracketed_paste()
                && s.mouse_protocol_mode() == vt100::MouseProtocolMode::None
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}
