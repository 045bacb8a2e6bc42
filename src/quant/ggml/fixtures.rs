//! What the tests of the IQ types share: ggml's own bytes, and values of every kind.
use proptest::prelude::*;

macro_rules! files {
    ($($name:literal,)*) => { [$(($name, include_bytes!(concat!("../../../tests/data/ggml/", $name)).as_slice())),*] };
}

/// Files of `tests/data/ggml`.
const FILES: [(&str, &[u8]); 22] = files![
    "imatrix.f32",
    "in_bf16.f32",
    "in_edge.f32",
    "iq1_m.bf16.imatrix.bin",
    "iq1_m.bf16.none.bin",
    "iq1_s.bf16.imatrix.bin",
    "iq2_s.bf16.imatrix.bin",
    "iq2_s.bf16.none.bin",
    "iq2_xs.bf16.imatrix.bin",
    "iq2_xxs.bf16.imatrix.bin",
    "iq3_s.bf16.imatrix.bin",
    "iq3_s.bf16.none.bin",
    "iq3_xxs.bf16.imatrix.bin",
    "iq3_xxs.bf16.none.bin",
    "iq4_nl.bf16.imatrix.bin",
    "iq4_nl.bf16.none.bin",
    "iq4_nl.edge.imatrix.bin",
    "iq4_nl.edge.none.bin",
    "iq4_xs.bf16.imatrix.bin",
    "iq4_xs.bf16.none.bin",
    "iq4_xs.edge.imatrix.bin",
    "iq4_xs.edge.none.bin",
];

/// A file of `tests/data/ggml`.
pub(super) fn bytes(name: &str) -> Vec<u8> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("{name} is not among the files")).1.to_vec()
}

/// The floats of a file of `tests/data/ggml`.
pub(super) fn floats(name: &str) -> Vec<f32> {
    bytes(name).chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// FNV-1a over the bits of decoded values: files of them would be large.
pub(super) fn hash(values: &[f32]) -> u64 {
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    values.iter().flat_map(|v| v.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}

/// Panics at the first block of `size` bytes that differs.
pub(super) fn same_blocks(got: &[u8], expected: &[u8], size: usize, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (b, (got, expected)) in got.chunks(size).zip(expected.chunks(size)).enumerate() {
        assert_eq!(got, expected, "{what}: block {b}");
    }
}

/// Nothing but a seed: proptest's own vectors of thousands of floats are slow to make and to shrink.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In 0..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Nearly normal.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.unit()).sum::<f32>() * 1.4 - 4.2
    }
}

/// What values look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    Normal,
    HeavyTailed,
    Bf16,
    Grid,
    Ternary,
    ConstantBlocks,
    ZeroBlocks,
    Zero,
    Spiked,
    Tiny,
    Denormal,
    Large,
    Huge,
}

/// Families that every type takes.
pub(super) const TAME: [Family; 11] = [
    Family::Normal,
    Family::HeavyTailed,
    Family::Bf16,
    Family::Grid,
    Family::Ternary,
    Family::ConstantBlocks,
    Family::ZeroBlocks,
    Family::Zero,
    Family::Spiked,
    Family::Tiny,
    Family::Large,
];
/// Families that the grid types may refuse in ggml.
pub(super) const WILD: [Family; 2] = [Family::Denormal, Family::Huge];

/// `n` values.
pub(super) fn values(family: Family, seed: u64, n: usize) -> Vec<f32> {
    let mut noise = Noise(seed | 1);
    let mut block = 1.0;
    (0..n)
        .map(|i| {
            if i % 16 == 0 {
                block = noise.unit();
            }
            let x = noise.normal();
            match family {
                Family::Normal => x * 0.02,
                Family::HeavyTailed => x / (noise.unit() + 1e-3),
                Family::Bf16 => f32::from_bits((x * 0.03).to_bits() & 0xffff_0000),
                Family::Grid => (x * 4.0).round() / 8.0,
                Family::Ternary => (x * 0.7).round().clamp(-1.0, 1.0) * 0.03,
                Family::ConstantBlocks => block - 0.3,
                Family::ZeroBlocks => x * f32::from(u8::from(block > 0.4 && i % 7 != 3)),
                Family::Zero => [0.0, -0.0][i % 2],
                Family::Spiked => x * if block > 0.9 && i % 16 == 5 { 50.0 } else { 1e-4 },
                Family::Tiny => x * 10f32.powf(-18.0 + 12.0 * block),
                Family::Denormal => x * 10f32.powf(-44.0 + 30.0 * block),
                Family::Large => x * 10f32.powf(8.0 * block),
                Family::Huge => x * 10f32.powf(14.0 + 24.0 * block),
            }
        })
        .collect()
}

/// `n` weights: of one magnitude, some zero, of all magnitudes, or zero in whole blocks.
pub(super) fn importance(kind: u8, seed: u64, n: usize) -> Vec<f32> {
    let mut noise = Noise(seed | 1);
    let mut block = 0.0;
    (0..n)
        .map(|i| {
            if i % 32 == 0 {
                block = noise.unit();
            }
            let w = noise.normal().powi(2);
            match kind {
                0 => w,
                1 => w * f32::from(u8::from(noise.unit() < 0.5)),
                2 => 10f32.powf(noise.unit() * 18.0 - 12.0),
                _ => w * f32::from(u8::from(block < 0.6)),
            }
        })
        .collect()
}

/// Rows of values of one of `families`: the length of a row in units of `block`, the values, and importance or none.
pub(super) fn rows(
    families: &'static [Family],
    block: usize,
) -> impl Strategy<Value = (usize, Vec<f32>, Option<Vec<f32>>)> {
    (prop::sample::select(families), any::<u64>(), 1..5usize, 1..12usize, prop::option::of(0..4u8)).prop_map(
        move |(family, seed, blocks, rows, kind)| {
            let row_len = blocks * block;
            let importance = kind.map(|kind| importance(kind, seed.rotate_left(17), row_len));
            (row_len, values(family, seed, rows * row_len), importance)
        },
    )
}
