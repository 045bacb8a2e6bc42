//! What the tests of the types share: rows that try a quantizer, and bytes that ggml made.
use proptest::prelude::*;

/// A file of `tests/data/ggml/simple`: `values.f32` has 26 rows of 1024 values, `importance.f32` their weights;
/// `TYPE.bin` and `TYPE.weighted.bin` what ggml 0.25 makes of them without and with the weights, and `TYPE.f32` what it
/// makes of the first 256 values of `TYPE.bin`.
pub(super) fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/ggml/simple/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The values' bits, all NaN alike: which NaN an operation yields is the machine's choice.
pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// The first block where two runs of bytes differ.
pub(super) fn first_difference(a: &[u8], b: &[u8], block: usize) -> Option<(usize, Vec<u8>, Vec<u8>)> {
    assert_eq!(a.len(), b.len());
    let mut blocks = a.chunks(block).zip(b.chunks(block)).enumerate();
    blocks.find(|(_, (a, b))| a != b).map(|(i, (a, b))| (i, a.to_vec(), b.to_vec()))
}

/// `len` values of one of many kinds.
pub(super) fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
    (0u8..16, any::<u64>()).prop_map(move |(kind, seed)| row(kind, seed, len))
}

/// Weights with zeros among them, or all alike.
pub(super) fn weights(len: usize) -> impl Strategy<Value = Vec<f32>> {
    (0u8..3, any::<u64>()).prop_map(move |(kind, seed)| {
        let mut dice = Dice(seed | 1);
        let mut weight = || match kind {
            0 => 1.0,
            1 if dice.roll(3) == 0 => 0.0,
            _ => dice.gauss().powi(2),
        };
        (0..len).map(|_| weight()).collect()
    })
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
    fn gauss(&mut self) -> f32 {
        (0..6).map(|_| self.roll(1 << 20) as f32 / (1 << 20) as f32 - 0.5).sum::<f32>() * 1.414
    }
    fn sign(&mut self) -> f32 {
        if self.roll(2) == 0 { 1.0 } else { -1.0 }
    }
}

fn row(kind: u8, seed: u64, len: usize) -> Vec<f32> {
    let mut dice = Dice(seed | 1);
    let scale = 10f32.powi(dice.roll(7) as i32 - 5);
    let mut value = |i: usize| match kind {
        0 => dice.gauss() * scale,
        // A heavy tail.
        1 => dice.gauss().powi(7) * scale,
        // From bf16, and on coarse grids: ties.
        2 => f32::from_bits((dice.gauss() * scale).to_bits() & 0xffff_0000),
        3 => (dice.gauss() * 16.0).round() / 16.0,
        4 => dice.roll(16) as f32 / 8.0 - 1.0,
        5 => (dice.roll(3) as f32 - 1.0) * scale,
        6 => dice.roll(65) as f32 * 0.25,
        // Constant, zero, and both zeros.
        7 => scale,
        8 => 0.0,
        9 => dice.sign() * 0.0,
        // Zero in part.
        10 if (i / 37).is_multiple_of(3) => 0.0,
        // Of one sign.
        11 => dice.gauss().abs() * scale + scale,
        12 => -dice.gauss().abs() * scale,
        // Denormal, tiny to huge, and just below powers of two.
        13 => dice.sign() * f32::from_bits(dice.roll(1 << 23) as u32),
        14 => dice.gauss() * 10f32.powi(i as i32 / 32 % 77 - 38),
        15 => f32::from_bits(2f32.powi(i as i32 / 32 % 40 - 20).to_bits() - dice.roll(80) as u32),
        _ => dice.gauss() * scale,
    };
    (0..len).map(&mut value).collect()
}
