//! How fast GGUF's block types are encoded and decoded, on one thread. `cargo bench --bench ggml`.
//!
//! MB/s count the f32 values, the input is larger than the caches, the outputs are reused, and the best slice counts.
//!
//! Called with the word `jobs`, it works for `tests/interop/speed_ggml.py`, which runs ggml beside it. A job per line
//! comes in as JSON, `{"values", "importance", "cols", "type", "from", "to", "out"}`: the rows `from` to `to` of a file of
//! f32, an importance matrix in another file or null, and a file that the bytes go to or null. Its time goes out as JSON,
//! `{"seconds"}`.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use mixdown::quant::ggml::{Type, floats};
use serde::Deserialize;

const ROWS: usize = 4096;
const COLS: usize = 4096;
/// Rows of a slice.
const SLICE: usize = 256;

/// Something like weights: a sum of uniform numbers.
fn values() -> Vec<f32> {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..ROWS * COLS).map(|_| (next() + next() + next()) * 0.04).collect()
}

/// MB/s of the best slice, over half a second and at least one slice.
fn best(values: &[f32], mut work: impl FnMut(&[f32])) -> f64 {
    let mut least = Duration::MAX;
    let start = Instant::now();
    for slice in values.chunks(SLICE * COLS).cycle() {
        let slice_start = Instant::now();
        work(slice);
        least = least.min(slice_start.elapsed());
        if start.elapsed() > Duration::from_millis(500) {
            break;
        }
    }
    (SLICE * COLS * 4) as f64 / least.as_secs_f64() / 1e6
}

fn main() {
    if std::env::args().any(|arg| arg == "jobs") {
        return jobs();
    }
    let values = values();
    let importance: Vec<f32> = values[..COLS].iter().map(|v| v * v * 1e3).collect();
    let mut decoded = vec![0.0; SLICE * COLS];
    println!("{ROWS} x {COLS} f32, MB/s        encode  with importance    decode");
    for kind in Type::ALL {
        let mut out = vec![0; SLICE * COLS / kind.block() * kind.bytes()];
        let mut encode = |importance: Option<&[f32]>| {
            if !kind.can_encode() || kind.requires_importance() && importance.is_none() {
                return "-".to_owned();
            }
            format!("{:.0}", best(&values, |slice| kind.encode(COLS, black_box(slice), importance, &mut out)))
        };
        let (plain, weighted) = (encode(None), encode(Some(&importance)));
        let read = best(&values, |_| kind.decode(black_box(&out), &mut decoded));
        println!("{:24} {plain:>12} {weighted:>16} {read:9.0}", kind.name());
    }
}

#[derive(Deserialize)]
struct Job {
    values: String,
    importance: Option<String>,
    cols: usize,
    #[serde(rename = "type")]
    kind: String,
    from: usize,
    to: usize,
    out: Option<String>,
}

fn jobs() {
    let (mut values, mut importance) = (Floats::default(), Floats::default());
    let mut out = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
        let job: Job = serde_json::from_str(&line).expect("a job");
        let values = &values.of(&job.values)[job.from * job.cols..job.to * job.cols];
        let importance = job.importance.as_deref().map(|file| importance.of(file));
        let float = match &*job.kind {
            "F16" => Some(floats::Kind::F16),
            "BF16" => Some(floats::Kind::Bf16),
            _ => None,
        };
        let seconds = if let Some(kind) = float {
            out.resize(values.len() * 2, 0);
            time(|| floats::encode(kind, job.cols, black_box(values), importance, &mut out))
        } else {
            let kind = Type::named(&job.kind).expect("a type");
            out.resize(values.len() / kind.block() * kind.bytes(), 0);
            time(|| kind.encode(job.cols, black_box(values), importance, &mut out))
        };
        if let Some(file) = job.out {
            std::fs::write(file, &out).expect("written");
        }
        println!("{}", serde_json::json!({ "seconds": seconds }));
        std::io::stdout().flush().expect("a reader");
    }
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// A file of f32 that stays in memory until another is asked for.
#[derive(Default)]
struct Floats {
    file: String,
    values: Vec<f32>,
}

impl Floats {
    fn of(&mut self, file: &str) -> &[f32] {
        if self.file != file {
            let bytes = std::fs::read(file).expect("a file");
            self.values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            file.clone_into(&mut self.file);
        }
        &self.values
    }
}
