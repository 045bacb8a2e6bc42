//! What a person waits for at the desk, in a real terminal: the first frame, a key, the first loss; and what an idle desk
//! costs.
//!
//! `cargo bench --bench wait`
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
    use std::io::{Read, Write};
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::{Duration, Instant};

    use mixdown::core::Storage;
    use mixdown::format::safetensors::{Entry, write_header};
    use portable_pty::{Child, CommandBuilder, PtySize, native_pty_system};

    /// Columns and rows of a large terminal.
    const SIZE: (u16, u16) = (200, 60);

    pub fn main() {
        let dir = tempfile::tempdir().expect("a folder");
        let small = model(&dir.path().join("small.safetensors"), 1_000);
        let large = model(&dir.path().join("large.safetensors"), 200_000);
        let matrix = matrix(&dir.path().join("matrix.safetensors"));
        println!("first frame, 1,000 tensors     {}", spread((0..9).map(|_| first_frame(&small)).collect()));
        println!("first frame, 200,000 tensors   {}", spread((0..5).map(|_| first_frame(&large)).collect()));
        // What is measured is the program: not the system finding memory for pages that nobody has read before.
        std::io::copy(&mut std::fs::File::open(&large).expect("a file"), &mut std::io::sink()).expect("it is read");
        println!("key to frame, 200,000, idle    {}", spread(keys(&large, &[], "")));
        // As many answers as can be shown, and trials that take all that the cores have.
        println!("key to frame, 200,000, answers {}", spread(keys(&large, &[], "A")));
        println!("key to frame, 200,000, trials  {}", spread(keys(&large, &["--svd-rank", "32"], "A")));
        let (sampled, exact): (Vec<_>, Vec<_>) = (0..5).map(|_| losses(&matrix)).unzip();
        let (looks, edits): (Vec<_>, Vec<_>) = (0..8).map(|i| edit(&large, i)).unzip();
        println!("key to frame, 200,000, planning {}", spread(looks.concat()));
        println!("change to its plan, 200,000    {}", spread(edits));
        println!("key to sampled loss 3072×12288 {}", spread(sampled));
        println!("key to exact loss 3072×12288   {}", spread(exact));
        println!("idle, CPU in 5 s               {}", idle(&small));
    }

    fn ms(d: Duration) -> f64 {
        d.as_secs_f64() * 1e3
    }

    /// Median, 99th percentile and most, in milliseconds.
    fn spread(mut all: Vec<Duration>) -> String {
        all.sort();
        let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
        format!("median {:7.2} ms   p99 {:7.2} ms   most {:7.2} ms", ms(at(0.5)), ms(at(0.99)), ms(at(1.0)))
    }

    /// A file of so many tensors of 128×128 whose data is a hole.
    fn model(path: &Path, tensors: usize) -> PathBuf {
        let layers =
            ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2", "norm1", "norm2"];
        let mut at = 0;
        let entries: Vec<Entry> = (0..tensors)
            .map(|i| {
                let (block, layer) = (i / layers.len(), layers[i % layers.len()]);
                let shape = if layer.starts_with("norm") { vec![128] } else { vec![128, 128] };
                let len = shape.iter().product::<u64>() * 2;
                let name = format!("transformer_blocks.{block}.{layer}.weight");
                at += len;
                Entry { name, storage: Storage::BF16, shape, offset: at - len, len }
            })
            .collect();
        write(path, &entries, |_| ())
    }

    /// A file of one matrix, which is not zero.
    fn matrix(path: &Path) -> PathBuf {
        let len = 3072 * 12288 * 2;
        let entry = Entry { name: "a.weight".into(), storage: Storage::BF16, shape: vec![3072, 12288], offset: 0, len };
        write(path, &[entry], |file| {
            let mut state = 1u32;
            let mut bytes = Vec::with_capacity(len as usize);
            for _ in 0..3072 * 12288 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Signs and the upper mantissa of values around 2^-6.
                bytes.extend(((state >> 16) as u16 & 0x807f | 0x3c80).to_le_bytes());
            }
            file.write_all(&bytes).expect("written");
        })
    }

    fn write(path: &Path, entries: &[Entry], data: impl FnOnce(&mut std::fs::File)) -> PathBuf {
        let header = write_header(&[], entries);
        let mut file = std::fs::File::create(path).expect("a file");
        file.write_all(&header).expect("written");
        data(&mut file);
        let end = entries.last().map_or(0, |e| e.offset + e.len);
        file.set_len(header.len() as u64 + end).expect("a hole");
        path.to_owned()
    }

    /// The program in a terminal; what it writes comes with the time at which it came.
    struct Desk {
        child: Box<dyn Child + Send + Sync>,
        writer: Box<dyn Write + Send>,
        _master: Box<dyn portable_pty::MasterPty + Send>,
        output: Receiver<(Instant, Vec<u8>)>,
        parser: vt100::Parser,
        began: Instant,
    }

    impl Desk {
        fn open(model: &Path) -> Self {
            Self::open_with(model, &[])
        }
        fn open_with(model: &Path, flags: &[&str]) -> Self {
            let size = PtySize { rows: SIZE.1, cols: SIZE.0, pixel_width: 0, pixel_height: 0 };
            let pair = native_pty_system().openpty(size).expect("a pseudo terminal");
            let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_mixdown"));
            command.arg(model);
            command.args(flags);
            command.cwd(model.parent().expect("a folder"));
            command.env("HOME", model.parent().expect("a folder"));
            command.env("TERM", "xterm-256color");
            let began = Instant::now();
            let child = pair.slave.spawn_command(command).expect("the program starts");
            drop(pair.slave);
            let mut reader = pair.master.try_clone_reader().expect("a reader");
            let (sender, output) = channel();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(n) = reader.read(&mut buffer) {
                    if n == 0 || sender.send((Instant::now(), buffer[..n].to_vec())).is_err() {
                        return;
                    }
                }
            });
            let writer = pair.master.take_writer().expect("a writer");
            let rows = std::num::NonZeroU16::new(SIZE.1).expect("rows");
            let cols = std::num::NonZeroU16::new(SIZE.0).expect("columns");
            let parser = vt100::Parser::new(rows, cols, 0);
            Self { child, writer, _master: pair.master, output, parser, began }
        }
        fn send(&mut self, keys: &str) -> Instant {
            let now = Instant::now();
            self.writer.write_all(keys.as_bytes()).expect("keys");
            self.writer.flush().expect("keys");
            now
        }
        /// When the screen first was as it should be.
        fn until(&mut self, is_so: impl Fn(&vt100::Screen) -> bool) -> Instant {
            loop {
                let (at, bytes) =
                    self.output.recv_timeout(Duration::from_secs(60)).expect("the screen comes to be as it should");
                self.parser.process(&bytes);
                if is_so(self.parser.screen()) {
                    return at;
                }
            }
        }
        /// Takes what comes until nothing has come for a while.
        fn rest(&mut self, quiet: Duration) {
            while let Ok((_, bytes)) = self.output.recv_timeout(quiet) {
                self.parser.process(&bytes);
            }
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn first_frame(model: &Path) -> Duration {
        let mut desk = Desk::open(model);
        let at = desk.until(|s| s.contents().contains("Tensors"));
        at - desk.began
    }

    /// Whether the desk is there with its plan.
    fn is_planned(screen: &vt100::Screen) -> bool {
        let contents = screen.contents();
        contents.contains("Tensors") && !contents.contains("planning…")
    }

    /// The row of the cursor.
    fn cursor(screen: &vt100::Screen) -> Option<u16> {
        (0..SIZE.1).find(|y| screen.cell(*y, 1).is_some_and(|c| c.contents() == "▌"))
    }

    /// From a key to the frame that answers it.
    fn keys(model: &Path, flags: &[&str], before: &str) -> Vec<Duration> {
        let mut desk = Desk::open_with(model, flags);
        desk.until(is_planned);
        desk.send("=gg");
        desk.rest(Duration::from_millis(500));
        desk.send(before);
        std::thread::sleep(Duration::from_millis(300));
        let mut all = Vec::new();
        for i in 0..400 {
            let was = cursor(desk.parser.screen());
            let key = if i / 40 % 2 == 0 { "j" } else { "k" };
            let sent = desk.send(key);
            let at = desk.until(|s| cursor(s) != was);
            all.push(at.saturating_duration_since(sent));
            // Faster than a key held down.
            std::thread::sleep(Duration::from_millis(15));
            while let Ok((_, bytes)) = desk.output.try_recv() {
                desk.parser.process(&bytes);
            }
        }
        all
    }

    /// From keys pressed while the plan of a change is made to their frames; from the change to its plan.
    fn edit(model: &Path, i: usize) -> (Vec<Duration>, Duration) {
        let mut desk = Desk::open(model);
        desk.until(is_planned);
        desk.send("=gg");
        desk.rest(Duration::from_millis(500));
        desk.send(&"j".repeat(i + 2));
        desk.rest(Duration::from_millis(500));
        let changed = desk.send("x");
        let mut looks = Vec::new();
        let planned = loop {
            let was = cursor(desk.parser.screen());
            // There and back: at the end of a page rows move and the cursor does not.
            let sent = desk.send(if looks.len() % 2 == 0 { "j" } else { "k" });
            let at = desk.until(|s| cursor(s) != was);
            looks.push(at.saturating_duration_since(sent));
            std::thread::sleep(Duration::from_millis(15));
            let contents = desk.parser.screen().contents();
            if contents.lines().last().is_some_and(|l| l.starts_with(" exclude ")) {
                break at;
            }
        };
        (looks, planned.saturating_duration_since(changed))
    }

    /// From the key that asks for another dtype to its first loss, and to the exact one.
    fn losses(model: &Path) -> (Duration, Duration) {
        let mut desk = Desk::open(model);
        desk.until(|s| s.contents().contains("from every value"));
        desk.rest(Duration::from_millis(1500));
        desk.send("t");
        desk.until(|s| s.contents().contains("Dtype of"));
        desk.send("uint4");
        desk.rest(Duration::from_millis(200));
        let sent = desk.send("\r");
        let sampled =
            desk.until(|s| s.contents().contains("from a sample") || s.contents().contains("from every value"));
        let exact = desk.until(|s| s.contents().contains("from every value"));
        (sampled - sent, exact - sent)
    }

    /// Processor time that the program took while nobody did anything.
    fn idle(model: &Path) -> String {
        let mut desk = Desk::open(model);
        desk.until(|s| s.contents().contains("Tensors"));
        desk.rest(Duration::from_secs(2));
        let Some(id) = desk.child.process_id() else { return "unknown".into() };
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let after = stat.rsplit_once(')')?.1;
            let fields: Vec<u64> = after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
            Some(fields.iter().sum::<u64>())
        };
        let Some(before) = ticks() else { return "unknown here".into() };
        std::thread::sleep(Duration::from_secs(5));
        let quiet = desk.output.try_recv().is_err();
        format!(
            "{} ms{}",
            (ticks().unwrap_or(before) - before) * 10,
            if quiet { ", nothing drawn" } else { ", and draws" }
        )
    }
}
