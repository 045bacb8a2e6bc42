//! How fast GGUF's block types are encoded and decoded, on one thread. `cargo bench --bench ggml`.
//!
//! MB/s count the f32 values, the input is larger than the caches, the outputs are reused, and the best slice counts.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mixdown::quant::ggml::Type;

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

/// MB/s of the best slice, over half a second and at least once through all slices.
fn best(values: &[f32], mut work: impl FnMut(&[f32])) -> f64 {
    let mut least = Duration::MAX;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        for slice in values.chunks(SLICE * COLS) {
            let start = Instant::now();
            work(slice);
            least = least.min(start.elapsed());
        }
    }
    (SLICE * COLS * 4) as f64 / least.as_secs_f64() / 1e6
}

fn main() {
    let values = values();
    let importance: Vec<f32> = values[..COLS].iter().map(|v| v * v * 1e3).collect();
    let mut decoded = vec![0.0; SLICE * COLS];
    println!("{ROWS} x {COLS} f32, MB/s        encode  with importance    decode");
    for kind in Type::ALL {
        let mut out = vec![0; SLICE * COLS / kind.block() * kind.bytes()];
        let plain = best(&values, |slice| kind.encode(COLS, black_box(slice), None, &mut out));
        let weighted = best(&values, |slice| kind.encode(COLS, black_box(slice), Some(&importance), &mut out));
        let read = best(&values, |_| kind.decode(black_box(&out), &mut decoded));
        println!("{:24} {plain:12.0} {weighted:16.0} {read:9.0}", kind.name());
    }
}
