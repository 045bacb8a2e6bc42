//! How fast whole layers are quantized and read again, for `tests/interop/speed.py`, which runs sdnq beside it.
//!
//! Called with the word `jobs`: a job per line comes in as JSON, its times go out as JSON, `{"seconds": [...]}`, a
//! number per round after one that warms up. Weights are BF16, row-major, in a file; all work is done on a pool of so
//! many threads.
//! * `{"job": "encode", "file", "rows", "cols", "dtype", "group_size", "svd_rank", "hadamard", "codebook", "threads",
//!   "rounds"}`: from BF16 bytes to stored bytes.
//! * `"decode"`: from stored bytes to f32.
//! * `"copy"`: the BF16 bytes to memory that is warm, slab by slab: what the machine's memory allows.
//! * `{"job": "low_rank", "file", "rows", "cols", "svd_rank", "threads", "rounds", "out"}`: the search for the low-rank
//!   branch; `up` and `down` are written to `out` as f32.
use std::io::{BufRead, Write};
use std::ops::Range;
use std::time::Instant;

use mixdown::core::recipe::Recipe;
use mixdown::core::{Cancel, Dtype, Result, Storage};
use mixdown::quant::{cast, lowrank};
use mixdown::target::codec::{Codec, Geometry, Piece, Prepared, Values};
use mixdown::target::sdnq::code::Code;
use mixdown::target::sdnq::codes::SdnqCodec;
use mixdown::target::sdnq::resolve::parts;
use rayon::prelude::*;
use serde::Deserialize;

/// Power iterations, as sdnq's default.
const STEPS: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Encode,
    Decode,
    Copy,
    LowRank,
}

#[derive(Deserialize)]
struct Job {
    job: What,
    file: String,
    rows: u64,
    cols: u64,
    #[serde(default)]
    dtype: String,
    #[serde(default)]
    group_size: i64,
    #[serde(default)]
    svd_rank: u32,
    #[serde(default)]
    hadamard: u32,
    #[serde(default)]
    codebook: bool,
    threads: usize,
    rounds: usize,
    #[serde(default)]
    out: String,
}

fn main() {
    if !std::env::args().any(|arg| arg == "jobs") {
        println!("run tests/interop/speed.py, which gives this bench its jobs");
        return;
    }
    let mut matrix = (String::new(), Vec::new());
    for line in std::io::stdin().lock().lines().map_while(Result::ok).filter(|l| !l.is_empty()) {
        let job: Job = serde_json::from_str(&line).expect("a job");
        if matrix.0 != job.file {
            matrix = (job.file.clone(), std::fs::read(&job.file).expect("a file"));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(job.threads).build().expect("a pool");
        let seconds = pool.install(|| run(&job, &matrix.1));
        println!("{}", serde_json::json!({ "seconds": seconds }));
        std::io::stdout().flush().expect("a reader");
    }
}

fn run(job: &Job, bytes: &[u8]) -> Vec<f64> {
    let weights = Weights { geometry: Geometry::of(&[job.rows, job.cols]), bytes };
    if matches!(job.job, What::LowRank) {
        let mut found = None;
        let seconds = time(job.rounds, || {
            found = lowrank::low_rank(&weights, job.svd_rank as usize, STEPS, 1, &|| false).expect("memory");
        });
        let found = found.expect("factors");
        let factors: Vec<u8> = found.up.iter().chain(&found.down).flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(&job.out, factors).expect("written");
        return seconds;
    }
    if matches!(job.job, What::Copy) {
        let (mut copy, slab) = (vec![0u8; bytes.len()], 2 * weights.geometry.slab_elements());
        return time(job.rounds, || {
            let slabs = copy.par_chunks_mut(slab).zip(bytes.par_chunks(slab));
            slabs.for_each(|(to, from)| to.copy_from_slice(from));
        });
    }
    let shape = [job.rows, job.cols];
    let code = Code::parse(&job.dtype).expect("a dtype");
    let recipe = Recipe {
        svd_rank: job.svd_rank,
        hadamard: job.hadamard,
        codebook: job.codebook,
        ..Recipe::plain(mixdown::core::Family::Sdnq, Dtype::new(&job.dtype), job.group_size)
    };
    let codec = SdnqCodec::new(&shape, code, &recipe, Storage::BF16).expect("a codec");
    let parts = parts("a.weight", &shape, code, &recipe, Storage::BF16);
    let mut stored: Vec<Vec<u8>> = parts.iter().map(|part| vec![0; part.bytes() as usize]).collect();
    if matches!(job.job, What::Encode) {
        return time(job.rounds, || encode(&codec, &weights, &mut stored));
    }
    encode(&codec, &weights, &mut stored);
    let mut values = vec![0.0; weights.geometry.rows * weights.geometry.cols];
    time(job.rounds, || decode(&codec, &stored, &mut values))
}

fn time(rounds: usize, mut f: impl FnMut()) -> Vec<f64> {
    f();
    let mut round = || {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..rounds).map(|_| round()).collect()
}

fn encode(codec: &SdnqCodec, weights: &Weights, stored: &mut [Vec<u8>]) {
    let geometry = weights.geometry;
    let ready = codec.prepare(weights, &Cancel::new()).expect("prepared");
    for (i, bytes) in ready.whole() {
        stored[i].copy_from_slice(&bytes);
    }
    // Every slab's own places, so that no thread waits for another.
    let mut left: Vec<&mut [u8]> = stored.iter_mut().map(Vec::as_mut_slice).collect();
    let mut places = |slab: usize| -> Vec<&mut [u8]> {
        let pieces = ready.pieces(geometry.slab(slab));
        pieces.iter().map(|piece| left[piece.part].split_off_mut(..piece.len()).expect("room")).collect()
    };
    let slabs: Vec<_> = (0..geometry.slabs()).map(|slab| (geometry.slab(slab), places(slab))).collect();
    slabs.into_par_iter().for_each_init(Vec::new, |values, (rows, mut places)| {
        Values::read(weights, rows.clone(), values).expect("values");
        ready.encode(rows, values, &mut places);
    });
}

fn decode(codec: &SdnqCodec, stored: &[Vec<u8>], values: &mut [f32]) {
    let geometry = codec.geometry();
    let ready: Box<dyn Prepared> = codec.load(&|part| Ok(stored[part].clone())).expect("loaded");
    values.par_chunks_mut(geometry.slab_elements()).enumerate().for_each(|(slab, out)| {
        let pieces = ready.pieces(geometry.slab(slab));
        let bytes = |p: &Piece| &stored[p.part][p.bytes.start as usize..p.bytes.end as usize];
        ready.decode(geometry.slab(slab), &pieces.iter().map(bytes).collect::<Vec<_>>(), out);
    });
}

/// BF16 values in memory.
struct Weights<'a> {
    geometry: Geometry,
    bytes: &'a [u8],
}

impl Values for Weights<'_> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        out.resize(rows.len() * self.geometry.cols, 0.0);
        let bytes = rows.start * self.geometry.cols * 2..rows.end * self.geometry.cols * 2;
        cast::decode(Storage::BF16, &self.bytes[bytes], out);
        Ok(())
    }
}

impl lowrank::Chunks for Weights<'_> {
    type Error = mixdown::core::Error;
    fn rows(&self) -> usize {
        self.geometry.rows
    }
    fn cols(&self) -> usize {
        self.geometry.cols
    }
    fn chunk_rows(&self) -> usize {
        self.geometry.chunk_rows(lowrank::CHUNK)
    }
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<()> {
        Values::read(self, self.rows_of(chunk), out)
    }
}
