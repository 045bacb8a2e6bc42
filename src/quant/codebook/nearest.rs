//! From values to the number of the nearest level and back, written for the vectorizer.
//!
//! Among up to sixteen cells a value's is found by comparing it with every midpoint, which lanes do well; among more, the
//! sixteenth of them is found so, and the rest by halves.

use super::super::Blocks;
use super::super::lanes::Kernel;
use super::midpoint;

/// Values handled together.
const RUN: usize = 64;

/// [`encode`](super::encode).
pub(super) struct Encode<'a> {
    pub bits: u8,
    pub blocks: Blocks,
    pub values: &'a [f32],
    pub levels: &'a [f32],
    pub codes: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Blocks { len, inner, .. } = self.blocks;
        if self.values.is_empty() {
            return;
        }
        let count = 1 << self.bits;
        let mut cells = Cells::new(self.bits);
        let blocks = self.values.chunks_exact(len * inner).zip(self.codes.chunks_exact_mut(len * inner));
        if inner == 1 {
            for ((values, codes), levels) in blocks.zip(self.levels.chunks_exact(count)) {
                cells.of(levels.iter());
                cells.find(values, codes);
            }
            return;
        }
        let (mut gathered, mut found) = (vec![0.0; len], vec![0; len]);
        for ((values, codes), levels) in blocks.zip(self.levels.chunks_exact(count * inner)) {
            for at in 0..inner {
                for (to, from) in gathered.iter_mut().zip(values[at..].iter().step_by(inner)) {
                    *to = *from;
                }
                cells.of(levels[at..].iter().step_by(inner));
                cells.find(&gathered, &mut found);
                for (to, from) in codes[at..].iter_mut().step_by(inner).zip(&found) {
                    *to = *from;
                }
            }
        }
    }
}

/// The cells of a block's levels.
struct Cells {
    bits: u8,
    /// The ends of the cells but the last, then infinities, which no value lies above.
    midpoints: [f32; 256],
    /// Of more than sixteen cells, the ends of each sixteenth of them; else of all.
    coarse: [f32; 15],
}

impl Cells {
    fn new(bits: u8) -> Self {
        Self { bits, midpoints: [f32::INFINITY; 256], coarse: [f32::INFINITY; 15] }
    }

    #[inline(always)]
    fn of<'a>(&mut self, levels: impl Iterator<Item = &'a f32> + Clone) {
        for ((at, low), high) in self.midpoints.iter_mut().zip(levels.clone()).zip(levels.skip(1)) {
            *at = midpoint(*low, *high);
        }
        let every = 1 << self.bits.saturating_sub(4);
        for (coarse, at) in self.coarse.iter_mut().zip(self.midpoints[every - 1..].iter().step_by(every)) {
            *coarse = *at;
        }
    }

    #[inline(always)]
    fn find(&self, values: &[f32], codes: &mut [u8]) {
        match self.bits {
            1 => self.find_by::<1>(values, codes),
            2 => self.find_by::<3>(values, codes),
            3 => self.find_by::<7>(values, codes),
            _ => self.find_by::<15>(values, codes),
        }
    }

    /// By so many comparisons, and then by halves.
    #[inline(always)]
    fn find_by<const COMPARISONS: usize>(&self, values: &[f32], codes: &mut [u8]) {
        let coarse: [f32; COMPARISONS] = core::array::from_fn(|i| self.coarse[i]);
        for (values, codes) in values.chunks(RUN).zip(codes.chunks_mut(RUN)) {
            let mut found = [0u32; RUN];
            let mut cells = 1 << self.bits.saturating_sub(4);
            for (found, value) in found.iter_mut().zip(values) {
                let mut above = 0;
                for end in coarse {
                    above += u32::from(*value > end);
                }
                *found = above * cells;
            }
            while cells > 1 {
                cells /= 2;
                for (found, value) in found.iter_mut().zip(values) {
                    let end = self.midpoints[(*found + cells - 1) as usize & 0xff];
                    *found += if *value > end { cells } else { 0 };
                }
            }
            for (code, found) in codes.iter_mut().zip(found) {
                *code = found as u8;
            }
        }
    }
}

/// [`decode`](super::decode).
pub(super) struct Decode<'a> {
    pub bits: u8,
    pub blocks: Blocks,
    pub codes: &'a [u8],
    pub levels: &'a [f32],
    pub values: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let Blocks { len, inner, .. } = self.blocks;
        if self.values.is_empty() {
            return;
        }
        let count = 1 << self.bits;
        let mut table = [0.0; 256];
        let blocks = self.values.chunks_exact_mut(len * inner).zip(self.codes.chunks_exact(len * inner));
        for ((values, codes), levels) in blocks.zip(self.levels.chunks_exact(count * inner)) {
            for at in 0..inner {
                for (to, from) in table.iter_mut().zip(levels[at..].iter().step_by(inner)) {
                    *to = *from;
                }
                if inner == 1 {
                    for (value, code) in values.iter_mut().zip(codes) {
                        *value = table[usize::from(*code)];
                    }
                } else {
                    let places = values[at..].iter_mut().step_by(inner);
                    for (value, code) in places.zip(codes[at..].iter().step_by(inner)) {
                        *value = table[usize::from(*code)];
                    }
                }
            }
        }
    }
}
