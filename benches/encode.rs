//! How fast values become codes and codes become values. `cargo bench --bench encode`.
//!
//! MB/s count the f32 values, the inputs are larger than the caches, and the outputs are reused.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use mixdown::quant::affine::{self, IntCode};
use mixdown::quant::lowrank::{Chunks, low_rank, subtract};
use mixdown::quant::minifloat::{self, FloatCode};
use mixdown::quant::{Blocks, bitpack, codebook, hadamard};
use rayon::prelude::*;

const ROWS: usize = 4096;
const COLS: usize = 6144;
/// Rows handled at a time: encoded and packed while they are in the cache.
const SLAB: usize = 32;

fn main() {
    println!("values: {ROWS} x {COLS} f32, {} MB", ROWS * COLS * 4 / 1_000_000);
    divan::main();
}

/// Something like weights: a sum of uniform numbers.
fn values() -> Vec<f32> {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..ROWS * COLS).map(|_| (next() + next() + next()) * 0.04).collect()
}

#[derive(Clone, Copy)]
enum Code {
    Int(IntCode),
    Float(FloatCode),
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    code: Code,
    group: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Case {
    fn bits(self) -> u8 {
        match self.code {
            Code::Int(code) => code.bits(),
            Code::Float(code) => code.bits(),
        }
    }

    fn is_signed(self) -> bool {
        match self.code {
            Code::Int(code) => code.is_signed(),
            Code::Float(code) => code.is_signed(),
        }
    }

    fn blocks(self, rows: usize) -> Blocks {
        Blocks::grouped(rows, COLS, self.group).expect("a group size of the table")
    }

    fn scales(self, values: &[f32], scale: &mut [f32], zero_point: &mut [f32]) {
        match self.code {
            Code::Int(code) => affine::scales(code, self.blocks(SLAB), values, scale, zero_point),
            Code::Float(code) => minifloat::scales(code, self.blocks(SLAB), values, scale, zero_point),
        }
    }
}

const fn case(name: &'static str, bits: u8, signed: bool, group: usize) -> Case {
    Case { name, code: Code::Int(IntCode::new(bits, signed).expect("a width")), group }
}

const fn float(name: &'static str, code: Option<FloatCode>, group: usize) -> Case {
    Case { name, code: Code::Float(code.expect("a format")), group }
}

const CASES: [Case; 18] = [
    case("int8 row", 8, true, COLS),
    case("int4 g64", 4, true, 64),
    case("int3 g64", 3, true, 64),
    case("int2 g64", 2, true, 64),
    case("uint8 g64", 8, false, 64),
    case("uint5 g64", 5, false, 64),
    case("uint4 g64", 4, false, 64),
    case("uint4 g32", 4, false, 32),
    case("uint4 g16", 4, false, 16),
    case("uint4 g128", 4, false, 128),
    case("int4 g32", 4, true, 32),
    case("uint1 g64", 1, false, 64),
    case("uint1 g8", 1, false, 8),
    float("float8_e4m3fn row", Some(FloatCode::E4M3FN), COLS),
    float("float8_e5m2 row", Some(FloatCode::E5M2), COLS),
    float("float6_e3m2fn g64", FloatCode::new(3, 2, true), 64),
    float("float4_e2m1fn g64", FloatCode::new(2, 1, true), 64),
    float("float4_e2m2fnu g64", FloatCode::new(2, 2, false), 64),
];

/// What a slab of rows becomes.
struct Slab {
    codes: Vec<u8>,
    packed: Vec<u8>,
    scale: Vec<f32>,
    zero_point: Vec<f32>,
}

impl Slab {
    fn new(case: Case) -> Self {
        let blocks = case.blocks(SLAB);
        let zero_points = if case.is_signed() { 0 } else { blocks.scales() };
        let packed = bitpack::packed_len(case.bits(), blocks.values()).expect("whole units");
        Self {
            codes: vec![0; blocks.values()],
            packed: vec![0; packed],
            scale: vec![0.0; blocks.scales()],
            zero_point: vec![0.0; zero_points],
        }
    }

    fn encode(&mut self, case: Case, values: &[f32]) {
        let (Self { codes, scale, zero_point, .. }, blocks) = (&mut *self, case.blocks(SLAB));
        case.scales(values, scale, zero_point);
        match case.code {
            Code::Int(code) => affine::encode(code, blocks, values, scale, zero_point, codes),
            Code::Float(code) => minifloat::encode(code, blocks, values, scale, zero_point, codes),
        }
        bitpack::pack(case.bits(), &self.codes, &mut self.packed);
    }

    fn decode(&mut self, case: Case, values: &mut [f32]) {
        bitpack::unpack(case.bits(), &self.packed, &mut self.codes);
        let (Self { codes, scale, zero_point, .. }, blocks) = (&*self, case.blocks(SLAB));
        match case.code {
            Code::Int(code) => affine::decode(code, blocks, codes, scale, zero_point, values),
            Code::Float(code) => minifloat::decode(code, blocks, codes, scale, zero_point, values),
        }
    }
}

fn slabs(case: Case) -> Vec<Slab> {
    (0..ROWS / SLAB).map(|_| Slab::new(case)).collect()
}

fn bytes() -> BytesCount {
    BytesCount::new(ROWS * COLS * 4)
}

#[divan::bench(args = CASES)]
fn encode_one_thread(bencher: Bencher, case: Case) {
    let (values, mut slabs) = (values(), slabs(case));
    bencher.counter(bytes()).bench_local(|| {
        for (slab, values) in slabs.iter_mut().zip(values.chunks_exact(SLAB * COLS)) {
            slab.encode(case, black_box(values));
        }
    });
}

#[divan::bench(args = CASES)]
fn encode_all_threads(bencher: Bencher, case: Case) {
    let (values, mut slabs) = (values(), slabs(case));
    bencher.counter(bytes()).bench_local(|| {
        let pairs = slabs.par_iter_mut().zip(values.par_chunks_exact(SLAB * COLS));
        pairs.for_each(|(slab, values)| slab.encode(case, black_box(values)));
    });
}

#[divan::bench(args = CASES)]
fn only_scales(bencher: Bencher, case: Case) {
    let (values, mut slabs) = (values(), slabs(case));
    bencher.counter(bytes()).bench_local(|| {
        for (slab, values) in slabs.iter_mut().zip(values.chunks_exact(SLAB * COLS)) {
            case.scales(black_box(values), &mut slab.scale, &mut slab.zero_point);
        }
    });
}

#[divan::bench(args = CASES)]
fn decode_one_thread(bencher: Bencher, case: Case) {
    let (mut values, mut slabs) = (values(), slabs(case));
    for (slab, values) in slabs.iter_mut().zip(values.chunks_exact(SLAB * COLS)) {
        slab.encode(case, values);
    }
    bencher.counter(bytes()).bench_local(|| {
        for (slab, values) in slabs.iter_mut().zip(values.chunks_exact_mut(SLAB * COLS)) {
            slab.decode(case, black_box(values));
        }
    });
}

/// Unsigned, in groups of 64.
#[divan::bench(args = [9, 12, 16])]
fn encode_wide_one_thread(bencher: Bencher, bits: u8) {
    let case = case("wide", bits, false, 64);
    let (values, mut slabs, mut codes) = (values(), slabs(case), vec![0u16; SLAB * COLS]);
    let (blocks, code) = (case.blocks(SLAB), IntCode::new(bits, false).expect("a width"));
    bencher.counter(bytes()).bench_local(|| {
        for (slab, values) in slabs.iter_mut().zip(values.chunks_exact(SLAB * COLS)) {
            affine::scales(code, blocks, black_box(values), &mut slab.scale, &mut slab.zero_point);
            affine::encode(code, blocks, values, &slab.scale, &slab.zero_point, &mut codes);
            bitpack::pack16(bits, &codes, &mut slab.packed);
        }
    });
}

#[divan::bench(args = 1..=7)]
fn pack(bencher: Bencher, bits: u8) {
    let codes: Vec<u8> = (0..ROWS * COLS).map(|i| ((i * 37) >> 3) as u8 >> (8 - bits)).collect();
    let mut out = vec![0; bitpack::packed_len(bits, codes.len()).expect("whole units")];
    bencher.counter(bytes()).bench_local(|| bitpack::pack(bits, black_box(&codes), &mut out));
}

#[divan::bench(args = 1..=7)]
fn unpack(bencher: Bencher, bits: u8) {
    let mut codes = vec![0; ROWS * COLS];
    let packed = vec![0x6c; bitpack::packed_len(bits, codes.len()).expect("whole units")];
    bencher.counter(bytes()).bench_local(|| bitpack::unpack(bits, black_box(&packed), &mut codes));
}

#[divan::bench(args = 9..=15)]
fn pack16(bencher: Bencher, bits: u8) {
    let codes: Vec<u16> = (0..ROWS * COLS).map(|i| ((i * 4099) >> 3) as u16 >> (16 - bits)).collect();
    let mut out = vec![0; bitpack::packed_len(bits, codes.len()).expect("whole units")];
    bencher.counter(bytes()).bench_local(|| bitpack::pack16(bits, black_box(&codes), &mut out));
}

#[divan::bench(args = 9..=15)]
fn unpack16(bencher: Bencher, bits: u8) {
    let mut codes = vec![0; ROWS * COLS];
    let packed = vec![0x6c; bitpack::packed_len(bits, codes.len()).expect("whole units")];
    bencher.counter(bytes()).bench_local(|| bitpack::unpack16(bits, black_box(&packed), &mut codes));
}

/// Bits and group size.
const CODEBOOKS: [(u8, usize); 5] = [(4, 512), (4, COLS / 2), (2, 128), (6, 2048), (8, COLS)];

fn codebook_case((bits, group): (u8, usize)) -> (Blocks, Vec<f32>) {
    let blocks = Blocks::grouped(SLAB, COLS, group).expect("a group size of the table");
    (blocks, vec![0.0; blocks.scales() << bits])
}

/// 24 rounds, a slab of rows.
#[divan::bench(args = CODEBOOKS)]
fn codebook_levels(bencher: Bencher, case: (u8, usize)) {
    let values = &values()[..SLAB * COLS];
    let (blocks, mut levels) = codebook_case(case);
    bencher
        .counter(BytesCount::new(SLAB * COLS * 4))
        .bench_local(|| codebook::levels(case.0, blocks, black_box(values), 24, &mut levels));
}

#[divan::bench(args = CODEBOOKS)]
fn codebook_encode(bencher: Bencher, case: (u8, usize)) {
    let values = &values()[..SLAB * COLS];
    let (blocks, mut levels) = codebook_case(case);
    let mut codes = vec![0; values.len()];
    codebook::levels(case.0, blocks, values, 1, &mut levels);
    bencher
        .counter(BytesCount::new(SLAB * COLS * 4))
        .bench_local(|| codebook::encode(case.0, blocks, black_box(values), &levels, &mut codes));
}

#[divan::bench(args = CODEBOOKS)]
fn codebook_decode(bencher: Bencher, case: (u8, usize)) {
    let mut values = values();
    let values = &mut values[..SLAB * COLS];
    let (blocks, mut levels) = codebook_case(case);
    let mut codes = vec![0; values.len()];
    codebook::levels(case.0, blocks, values, 1, &mut levels);
    codebook::encode(case.0, blocks, values, &levels, &mut codes);
    bencher
        .counter(BytesCount::new(SLAB * COLS * 4))
        .bench_local(|| codebook::decode(case.0, blocks, black_box(&codes), &levels, values));
}

#[divan::bench(args = [4, 8])]
fn codebook_sums(bencher: Bencher, bits: u8) {
    let values = &values()[..SLAB * COLS];
    let mut levels = vec![0.0; 1 << bits];
    codebook::uniform(affine::Range::of(values), &mut levels);
    bencher.counter(BytesCount::new(SLAB * COLS * 4)).bench_local(|| codebook::Sums::of(&levels, black_box(values)));
}

#[divan::bench(args = [4, 16, 64, 128, 256, 1024, 4096, 8192])]
fn rotate(bencher: Bencher, group: usize) {
    let mut values = values();
    bencher.counter(bytes()).bench_local(|| hadamard::rotate(group, black_box(&mut values)));
}

/// What memory allows: every value read and written once.
#[divan::bench]
fn negate(bencher: Bencher) {
    let mut values = values();
    bencher.counter(bytes()).bench_local(|| black_box(&mut values).iter_mut().for_each(|v| *v = -*v));
}

#[divan::bench]
fn first_non_finite(bencher: Bencher) {
    let values = values();
    bencher.counter(bytes()).bench_local(|| affine::first_non_finite(black_box(&values)));
}

/// The matrix that the low-rank search is timed on, in memory.
struct Matrix {
    values: Vec<f32>,
}

impl Matrix {
    const ROWS: usize = 3072;
    const COLS: usize = 12288;
    const CHUNK: usize = 64;
}

impl Chunks for Matrix {
    type Error = std::convert::Infallible;
    fn rows(&self) -> usize {
        Self::ROWS
    }
    fn cols(&self) -> usize {
        Self::COLS
    }
    fn chunk_rows(&self) -> usize {
        Self::CHUNK
    }
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<(), Self::Error> {
        let size = Self::CHUNK * Self::COLS;
        out.clear();
        out.extend_from_slice(&self.values[chunk * size..(chunk + 1) * size]);
        Ok(())
    }
}

#[divan::bench(args = [1, 2], sample_count = 10)]
fn low_rank_3072x12288_r32(bencher: Bencher, threads: usize) {
    let mut values = values();
    let more = values.clone();
    values.extend_from_slice(&more);
    values.truncate(Matrix::ROWS * Matrix::COLS);
    let matrix = Matrix { values };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    bencher.bench_local(|| pool.install(|| low_rank(black_box(&matrix), 32, 8, 1, &|| false)));
}

#[divan::bench]
fn subtract_rank_32(bencher: Bencher) {
    let (mut values, up, down) = (values(), vec![0.001; ROWS * 32], vec![0.001; 32 * COLS]);
    bencher.counter(bytes()).bench_local(|| {
        for (values, up) in values.chunks_exact_mut(SLAB * COLS).zip(up.chunks_exact(SLAB * 32)) {
            subtract(up, &down, 32, COLS, black_box(values));
        }
    });
}
