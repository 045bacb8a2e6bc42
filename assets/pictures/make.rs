//! The pictures of README and docs: the real program in a pseudo terminal, keys, and its screen as SVG.
//!
//! `cargo run --release --example pictures` writes them anew, beside this file.
#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this needs a pseudo terminal of Unix");
}

#[cfg(unix)]
mod unix {
    use std::fmt::Write as _;
    use std::io::{Read, Write as _};
    use std::num::NonZeroU16;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use portable_pty::{Child, CommandBuilder, PtySize, native_pty_system};
    use vt100::{Cell, Color, Screen};

    /// Columns and rows.
    const SIZE: (u16, u16) = (112, 32);
    /// Width and height of a cell.
    const CELL: (f32, f32) = (8.4, 18.0);
    const MARGIN: f32 = 10.0;
    const INK: &str = "#d8dee9";
    const PAPER: &str = "#1b1f27";
    /// The sixteen colours that a terminal has names for.
    const NAMED: [&str; 16] = [
        "#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9", "#5c6370", "#ff7b86",
        "#b5e890", "#ffd68a", "#82c8ff", "#dc9bf0", "#79d8e3", "#ffffff",
    ];

    /// A picture: its name, and the keys that lead to it, each with what must be seen before the next.
    const PICTURES: &[(&str, &[Step])] = &[
        ("desk", &[UINT4, ("/0.self_attn.q_proj\r", "q_proj"), ("\x1b", "Weights")]),
        ("what-if", &[UINT4, ("]e", "number 1"), ("W", "take it"), ("kkkk", "")]),
        ("map", &[UINT4, ("+down_proj\r", "marked"), ("tint6\r", "int6"), ("\x1b", ""), ("M", "Map")]),
        (
            "rules",
            &[
                UINT4,
                ("+down_proj\r", "marked"),
                ("tint8\r", "int8"),
                ("\x07", "Rule"),
                ("\r", "rule"),
                ("E", "decides"),
            ],
        ),
        ("convert", &[UINT4, ("+down_proj\r", "marked"), ("tint8\r", "int8"), ("\x1b", ""), ("c", "disk")]),
    ];

    /// The recording: as above, a frame after each step.
    const RECORDING: &[Step] = &[
        ("", "Tensors"),
        ("Duint4\r", "by default"),
        ("+norm\r", "marked"),
        ("x", ""),
        ("\x1b", ""),
        ("+down_proj\r", "marked"),
        ("tint8\r", "int8"),
        ("\x07", "Rule"),
        ("\r", "rule"),
        ("]e", "number 1"),
        ("W", "take it"),
        ("kk", ""),
        ("\r", "on"),
        ("\x1b", ""),
        ("M", "Map"),
        ("q", ""),
        ("\x13", "Save the profile"),
        ("mine\r", "saved"),
        ("c", "Convert"),
        ("\r", "written"),
        ("w", "Jobs"),
    ];

    type Step = (&'static str, &'static str);

    /// Four bits for everything.
    const UINT4: Step = ("Duint4\r", "by default");

    pub fn main() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/pictures");
        for (name, steps) in PICTURES {
            let mut desk = Desk::open();
            for step in *steps {
                desk.step(step);
            }
            write(&folder.join(format!("{name}.svg")), &still(&desk.lines()));
        }
        let mut desk = Desk::open();
        let frames: Vec<String> = RECORDING
            .iter()
            .map(|step| {
                desk.step(step);
                desk.lines()
            })
            .collect();
        write(&folder.join("recording.svg"), &moving(&frames));
    }

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).expect("the picture can be written");
        println!("{} {} KB", path.display(), text.len() / 1000);
    }

    /// The program in a terminal, in a folder of its own.
    struct Desk {
        child: Box<dyn Child + Send + Sync>,
        writer: Box<dyn std::io::Write + Send>,
        _master: Box<dyn portable_pty::MasterPty + Send>,
        parser: Arc<Mutex<vt100::Parser>>,
        changed: Arc<Mutex<Instant>>,
        _home: tempfile::TempDir,
    }

    impl Desk {
        fn open() -> Self {
            let home = tempfile::tempdir().expect("a folder");
            let size = PtySize { rows: SIZE.1, cols: SIZE.0, pixel_width: 0, pixel_height: 0 };
            let pair = native_pty_system().openpty(size).expect("a pseudo terminal");
            // Beside this program, which lies in the folder of examples.
            let here = std::env::current_exe().expect("its own path");
            let program = here.ancestors().nth(2).expect("the folder of the build").join("mixdown");
            let mut command = CommandBuilder::new(program);
            command.arg("--demo");
            command.cwd(home.path());
            for (name, value) in [("TERM", "xterm-256color"), ("COLORTERM", "")] {
                command.env(name, value);
            }
            for name in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"] {
                command.env(name, home.path());
            }
            command.env_remove("NO_COLOR");
            let child = pair.slave.spawn_command(command).expect("mixdown is built: cargo build --release");
            drop(pair.slave);
            let mut reader = pair.master.try_clone_reader().expect("a reader");
            let rows = NonZeroU16::new(SIZE.1).expect("rows");
            let cols = NonZeroU16::new(SIZE.0).expect("columns");
            let parser = Arc::new(Mutex::new(vt100::Parser::new(rows, cols, 0)));
            let changed = Arc::new(Mutex::new(Instant::now()));
            let (theirs, clock) = (Arc::clone(&parser), Arc::clone(&changed));
            std::thread::spawn(move || {
                let mut buffer = [0; 1 << 14];
                while let Ok(n) = reader.read(&mut buffer) {
                    if n == 0 {
                        return;
                    }
                    theirs.lock().expect("the parser").process(&buffer[..n]);
                    *clock.lock().expect("the clock") = Instant::now();
                }
            });
            let writer = pair.master.take_writer().expect("a writer");
            let mut desk = Self { child, writer, _master: pair.master, parser, changed, _home: home };
            desk.step(&("", "Tensors"));
            desk
        }

        /// Presses keys and waits until what must be seen is seen and nothing moves any more.
        fn step(&mut self, (keys, seen): &Step) {
            self.writer.write_all(keys.as_bytes()).expect("keys");
            self.writer.flush().expect("keys");
            let began = Instant::now();
            loop {
                std::thread::sleep(Duration::from_millis(20));
                let quiet = self.changed.lock().expect("the clock").elapsed() > Duration::from_millis(400);
                let there = self.parser.lock().expect("the parser").screen().contents().contains(seen);
                if quiet && there && began.elapsed() > Duration::from_millis(500) {
                    return;
                }
                if began.elapsed() > Duration::from_secs(30) {
                    let screen = self.parser.lock().expect("the parser").screen().contents();
                    panic!("after {keys:?} there never was {seen:?}\n{screen}");
                }
            }
        }

        fn lines(&self) -> String {
            drawn(self.parser.lock().expect("the parser").screen())
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn colour(colour: Color, otherwise: &str) -> String {
        match colour {
            Color::Default => otherwise.to_owned(),
            Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
            Color::Idx(n @ 0..=15) => NAMED[usize::from(n)].to_owned(),
            Color::Idx(n @ 16..=231) => {
                let level = |i: u8| if i == 0 { 0 } else { 55 + 40 * i };
                let n = n - 16;
                format!("#{:02x}{:02x}{:02x}", level(n / 36), level(n / 6 % 6), level(n % 6))
            }
            Color::Idx(n) => {
                let grey = 8 + 10 * (n - 232);
                format!("#{grey:02x}{grey:02x}{grey:02x}")
            }
        }
    }

    /// How a cell looks: ink, paper, and attributes of SVG.
    fn look(cell: &Cell) -> (String, String, String) {
        let (ink, paper) = (colour(cell.fgcolor(), INK), colour(cell.bgcolor(), PAPER));
        let (ink, paper) = if cell.inverse() { (paper, ink) } else { (ink, paper) };
        let mut more = String::new();
        if cell.bold() {
            more.push_str(" font-weight=\"bold\"");
        }
        if cell.dim() {
            more.push_str(" opacity=\"0.6\"");
        }
        if cell.underline() {
            more.push_str(" text-decoration=\"underline\"");
        }
        (ink, paper, more)
    }

    /// A screen: runs of cells that look alike, each held to the grid.
    fn drawn(screen: &Screen) -> String {
        let mut out = String::new();
        for y in 0..SIZE.1 {
            let mut x = 0;
            while x < SIZE.0 {
                let Some(first) = screen.cell(y, x) else { break };
                let style = look(first);
                let (from, mut text) = (x, String::new());
                while x < SIZE.0 && screen.cell(y, x).is_some_and(|c| look(c) == style) {
                    let contents = screen.cell(y, x).map(|c| c.contents().to_owned()).unwrap_or_default();
                    text.push_str(if contents.is_empty() { " " } else { &contents });
                    x += 1;
                }
                run(&mut out, (from, x, y), &text, &style);
            }
        }
        out
    }

    fn run(
        out: &mut String,
        (from, to, y): (u16, u16, u16),
        text: &str,
        (ink, paper, more): &(String, String, String),
    ) {
        let left = MARGIN + f32::from(from) * CELL.0;
        let top = MARGIN + f32::from(y) * CELL.1;
        let width = f32::from(to - from) * CELL.0;
        if paper != PAPER {
            let _ = writeln!(
                out,
                r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{}" fill="{paper}"/>"#,
                CELL.1
            );
        }
        // Word by word, so that every one stands in its column whatever the font's widths are.
        let base = top + CELL.1 * 0.75;
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while let Some(begin) = (at..chars.len()).find(|i| chars[*i] != ' ') {
            let end = (begin..chars.len()).find(|i| chars[*i] == ' ').unwrap_or(chars.len());
            let word: String = chars[begin..end].iter().collect();
            let word = word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let x = left + begin as f32 * CELL.0;
            let length = (end - begin) as f32 * CELL.0;
            let _ = writeln!(
                out,
                r#"<text x="{x:.1}" y="{base:.1}" textLength="{length:.1}" lengthAdjust="spacingAndGlyphs" fill="{ink}"{more}>{word}</text>"#
            );
            at = end;
        }
    }

    fn open(extra: &str) -> String {
        let width = f32::from(SIZE.0) * CELL.0 + 2.0 * MARGIN;
        let height = f32::from(SIZE.1) * CELL.1 + 2.0 * MARGIN;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14" xml:space="preserve">
{extra}<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>
"#
        )
    }

    fn still(lines: &str) -> String {
        format!("{}{lines}</svg>\n", open(""))
    }

    /// One frame after the other, over and over.
    fn moving(frames: &[String]) -> String {
        let each = 1.6;
        let total = each * frames.len() as f32;
        let share = 100.0 / frames.len() as f32;
        let style = format!(
            "<style>.f{{visibility:hidden;animation:show {total:.1}s step-end infinite}}@keyframes show{{0%{{visibility:visible}}{share:.3}%{{visibility:hidden}}}}</style>\n"
        );
        let mut out = open(&style);
        for (i, frame) in frames.iter().enumerate() {
            let delay = each * i as f32;
            let _ = writeln!(out, r#"<g class="f" style="animation-delay:{delay:.1}s">"#);
            out.push_str(frame);
            out.push_str("</g>\n");
        }
        out.push_str("</svg>\n");
        out
    }
}
