use super::*;
use core::convert::Infallible;
use core::sync::atomic::{AtomicUsize, Ordering};
use nalgebra::DMatrix;

/// A matrix in memory.
struct Matrix {
    rows: usize,
    cols: usize,
    chunk_rows: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn of(rows: usize, cols: usize, chunk_rows: usize, f: impl Fn(usize, usize) -> f32) -> Self {
        let values = (0..rows * cols).map(|i| f(i / cols, i % cols)).collect();
        Self { rows, cols, chunk_rows, values }
    }

    fn random(rows: usize, cols: usize, chunk_rows: usize, seed: u64) -> Self {
        let tall = random(rows * cols, 1, seed);
        Self { rows, cols, chunk_rows, values: tall.values.iter().step_by(tall.stride).copied().collect() }
    }

    /// `left · diag(sigma) · right` of random orthonormal factors: a matrix whose singular values are known.
    fn of_spectrum(rows: usize, cols: usize, sigma: &[f64]) -> Self {
        let orthonormal = |rows, seed| {
            let mut tall = random(rows, sigma.len(), seed);
            tall.make_orthonormal();
            tall
        };
        let (left, right) = (orthonormal(rows, 1), orthonormal(cols, 2));
        let at = |t: &Tall, row: usize, col: usize| f64::from(t.values[row * t.stride + col]);
        Self::of(rows, cols, 64, |i, j| {
            sigma.iter().enumerate().map(|(k, s)| at(&left, i, k) * s * at(&right, j, k)).sum::<f64>() as f32
        })
    }

    fn low_rank(&self, rank: usize, steps: usize) -> LowRank {
        low_rank(self, rank, steps, 7, &|| false).unwrap().unwrap()
    }

    /// The norm of what the factors leave of the matrix.
    fn residual(&self, factors: &LowRank) -> f64 {
        let mut values = self.values.clone();
        subtract(&factors.up, &factors.down, factors.rank, self.cols, &mut values);
        basis::energy(&values).sqrt()
    }

    /// The least residual there is, from all singular values.
    fn best_residual(&self, rank: usize) -> f64 {
        let a = DMatrix::from_row_slice(self.rows, self.cols, &self.values).cast::<f64>();
        let mut sigma: Vec<f64> = a.singular_values().iter().copied().collect();
        sigma.sort_by(|a, b| b.total_cmp(a));
        sigma.iter().skip(rank).map(|s| s * s).sum::<f64>().sqrt()
    }
}

impl Chunks for Matrix {
    type Error = Infallible;
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn chunk_rows(&self) -> usize {
        self.chunk_rows
    }
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<(), Infallible> {
        out.clear();
        out.extend(self.values.chunks(self.chunk_rows * self.cols).nth(chunk).unwrap());
        Ok(())
    }
}

#[test]
fn shapes_and_orthonormal_rows() {
    let check = |rows: usize, cols: usize, rank: usize, expected: usize| {
        let factors = Matrix::random(rows, cols, 16, 3).low_rank(rank, 8);
        assert_eq!(factors.rank, expected, "{rows}x{cols} rank {rank}");
        assert_eq!((factors.up.len(), factors.down.len()), (rows * expected, expected * cols));
        for i in 0..expected {
            for j in 0..=i {
                let row = |k: usize| factors.down[k * cols..(k + 1) * cols].iter();
                let dot: f64 = row(i).zip(row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot - expected).abs() < 1e-5, "{rows}x{cols}: rows {i} and {j} of down: {dot}");
            }
        }
    };
    check(64, 96, 8, 8);
    check(100, 70, 32, 32);
    check(1, 50, 32, 1);
    check(50, 1, 32, 1);
    check(1, 1, 1, 1);
    check(20, 7, 32, 7);
    check(7, 300, 32, 7);
    check(33, 33, 0, 0);
}

#[test]
fn the_residual_is_nearly_the_least() {
    let check = |what: &str, matrix: &Matrix, rank: usize| {
        let got = matrix.residual(&matrix.low_rank(rank, 8));
        let least = matrix.best_residual(rank);
        let all = basis::energy(&matrix.values).sqrt();
        assert!(got <= least * 1.006 + all * 2e-6, "{what}: {got}, least {least}");
    };
    let spectrum = |f: fn(i32) -> f64| Matrix::of_spectrum(160, 240, &(1..=160).map(f).collect::<Vec<_>>());
    check("random", &Matrix::random(300, 200, 64, 1), 32);
    check("1/sqrt", &spectrum(|i| f64::from(i).powf(-0.5)), 32);
    check("1/i", &spectrum(|i| 1.0 / f64::from(i)), 16);
    check("2^-i", &spectrum(|i| 0.5f64.powi(i)), 8);
    check("one giant", &spectrum(|i| if i == 1 { 1e4 } else { f64::from(i).powf(-0.5) }), 16);
    check("rank 5", &Matrix::of_spectrum(120, 100, &[5.0, 4.0, 3.0, 2.0, 1.0]), 16);
    check("small", &Matrix::random(24, 18, 5, 9), 18);
    check("few columns", &Matrix::random(500, 20, 64, 9), 8);
    check("few rows", &Matrix::random(20, 500, 64, 9), 8);
}

#[test]
fn degenerate_matrices() {
    let check = |what: &str, matrix: &Matrix| {
        let factors = matrix.low_rank(8, 8);
        assert!(factors.up.iter().chain(&factors.down).all(|v| v.is_finite()), "{what}");
        let all = basis::energy(&matrix.values).sqrt();
        assert!(matrix.residual(&factors) <= all * 2e-6, "{what}: {} of {all}", matrix.residual(&factors));
    };
    check("zero", &Matrix::of(40, 60, 16, |_, _| 0.0));
    check("constant", &Matrix::of(40, 60, 16, |_, _| 0.75));
    check("one entry", &Matrix::of(40, 60, 16, |i, j| if (i, j) == (17, 33) { -3.0 } else { 0.0 }));
    check("outer product", &Matrix::of(40, 60, 16, |i, j| i as f32 * (j as f32 - 30.0)));
    check("two equal rows", &Matrix::of(3, 60, 16, |i, j| ((i / 2) * 60 + j) as f32));
    check("tiny", &Matrix::of(40, 60, 16, |i, j| if i % 4 == j % 4 { 1e-12 } else { 0.0 }));
}

#[test]
fn what_has_no_factors_gives_zeros() {
    let factors = Matrix::of(20, 20, 8, |i, _| if i == 3 { f32::NAN } else { 1.0 }).low_rank(4, 8);
    assert!(factors.up.iter().chain(&factors.down).all(|&v| v == 0.0));
}

#[test]
fn signs_are_settled() {
    let factors = Matrix::random(60, 40, 16, 5).low_rank(6, 8);
    for row in factors.down.chunks_exact(40) {
        let largest = row.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
        assert!(largest > 0.0);
    }
}

#[test]
fn the_same_on_any_number_of_threads() {
    let matrix = Matrix::random(700, 300, 16, 11);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| matrix.low_rank(12, 8))
    };
    let one = on(1);
    for threads in [2, 3, 5] {
        assert_eq!(on(threads), one, "{threads} threads");
    }
}

#[test]
fn more_steps_are_no_worse_and_one_is_done_at_least() {
    let matrix = Matrix::of_spectrum(160, 240, &(1..=160).map(|i| f64::from(i).powf(-0.5)).collect::<Vec<_>>());
    let residual = |steps| matrix.residual(&matrix.low_rank(16, steps));
    assert_eq!(residual(0), residual(1));
    assert!(residual(8) <= residual(2) && residual(2) <= residual(1));
}

#[test]
fn it_can_be_cancelled() {
    let matrix = Matrix::random(200, 50, 10, 1);
    for after in [0, 1, 15, 25] {
        let asked = AtomicUsize::new(0);
        let cancel = || asked.fetch_add(1, Ordering::Relaxed) >= after;
        assert_eq!(low_rank(&matrix, 4, 8, 7, &cancel), Ok(None), "after {after}");
    }
}

#[test]
fn an_error_of_reading_is_handed_on() {
    struct Broken;
    impl Chunks for Broken {
        type Error = &'static str;
        fn rows(&self) -> usize {
            32
        }
        fn cols(&self) -> usize {
            4
        }
        fn chunk_rows(&self) -> usize {
            8
        }
        fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<(), &'static str> {
            out.resize(32, 1.0);
            if chunk == 2 { Err("a bad disk") } else { Ok(()) }
        }
    }
    assert_eq!(low_rank(&Broken, 2, 8, 7, &|| false), Err("a bad disk"));
}

#[test]
fn subtract_and_add_sum_in_ascending_order() {
    let check = |rows: usize, rank: usize, cols: usize| {
        let up = Matrix::random(rows, rank, 1, 1).values;
        let down = Matrix::random(rank, cols, 1, 2).values;
        let start = Matrix::random(rows, cols, 1, 3).values;
        let product =
            |i: usize| (0..rank).fold(0.0f32, |sum, k| sum + up[i / cols * rank + k] * down[k * cols + i % cols]);
        let mut values = start.clone();
        subtract(&up, &down, rank, cols, &mut values);
        assert!((0..values.len()).all(|i| values[i] == start[i] - product(i)), "{rows} {rank} {cols}");
        values.clone_from(&start);
        add(&up, &down, rank, cols, &mut values);
        assert!((0..values.len()).all(|i| values[i] == start[i] + product(i)), "{rows} {rank} {cols}");
        // A slab at a time gives the same.
        let mut slabs = start.clone();
        for (up, slab) in up.chunks(3 * rank).zip(slabs.chunks_mut(3 * cols)) {
            add(up, &down, rank, cols, slab);
        }
        assert_eq!(slabs, values);
    };
    check(1, 1, 1);
    check(5, 3, 17);
    check(33, 32, 300);
    check(8, 48, 256);
    check(19, 7, 515);
    subtract(&[], &[], 0, 5, &mut [1.0; 5]);
    subtract(&[], &[], 2, 0, &mut []);
}
