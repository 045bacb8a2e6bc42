//! Sixteen super-blocks at a time.
//!
//! In the searches a lane is a sub-block: the sixteen of one super-block, or the eight of two. Between them, where an
//! importance matrix makes the search for the scales' own scale a long one, a lane is a super-block.

use super::layout::{Block, pack, unpack_scales};
use super::{Kind, scales, steps};
use crate::quant::ggml::search::lanes::{Row, affine, opening, positive, refined, rounded, symmetric};
use crate::quant::ggml::{MAGIC, SUPER_BLOCK, f16_value};
use crate::quant::simd::{self, LANES, Simd};

/// The search of a sub-block's scale.
const AFFINE: u8 = 0;
const SYMMETRIC: u8 = 1;
const REFINED: u8 = 2;

/// Super-blocks of a batch.
const BATCH: usize = LANES;

pub(super) struct Encode<'a> {
    pub kind: Kind,
    pub row_len: usize,
    pub values: &'a [f32],
    pub importance: Option<&'a [f32]>,
    pub out: &'a mut [u8],
}

impl simd::Kernel for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { kind, row_len, values, importance, out } = self;
        // One body for each shape of sub-blocks and way of searching; the kind decides in it at run time.
        match (kind, importance) {
            (Kind::Q2K, _) => batches::<S, AFFINE, 16>(s, kind, row_len, values, importance, out),
            (Kind::Q4K | Kind::Q5K, _) => batches::<S, AFFINE, 32>(s, kind, row_len, values, importance, out),
            (Kind::Q3K, None) => batches::<S, REFINED, 16>(s, kind, row_len, values, importance, out),
            (Kind::Q3K | Kind::Q6K, _) => batches::<S, SYMMETRIC, 16>(s, kind, row_len, values, importance, out),
        }
    }
}

/// What a batch works on; reused, for it is larger than what one would like to clear each time.
struct Work {
    /// The values, sub-blocks side by side: group after group, each of as many rows as a sub-block has values.
    x: [Row; SUPER_BLOCK],
    /// Per row of `x`: codes, where a search has to keep them.
    kept: [Row; SUPER_BLOCK],
    /// What the codes that a search did not keep can be found from again; per group.
    factor: [Row; BATCH],
    base: [Row; BATCH],
    /// Per sub-block, of super-block after super-block.
    scale: [f32; SUPER_BLOCK],
    min: [f32; SUPER_BLOCK],
    total: [f32; SUPER_BLOCK],
}

#[inline(always)]
fn batches<S: Simd, const SEARCH: u8, const N: usize>(
    s: S,
    kind: Kind,
    row_len: usize,
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let mut work = Work {
        x: [[0.0; LANES]; SUPER_BLOCK],
        kept: [[0.0; LANES]; SUPER_BLOCK],
        factor: [[0.0; LANES]; BATCH],
        base: [[0.0; LANES]; BATCH],
        scale: [0.0; SUPER_BLOCK],
        min: [0.0; SUPER_BLOCK],
        total: [0.0; SUPER_BLOCK],
    };
    let mut padded = [0.0; BATCH * SUPER_BLOCK];
    let outs = out.chunks_mut(BATCH * kind.bytes());
    for (i, out) in outs.enumerate() {
        let left = &values[i * BATCH * SUPER_BLOCK..];
        let (whole, next) = match left.split_first_chunk() {
            Some(split) => split,
            None => {
                padded[..left.len()].copy_from_slice(left);
                padded[left.len()..].fill(0.0);
                (&padded, &[][..])
            }
        };
        let columns = importance.map(|w| Columns { importance: w, first: i * BATCH * SUPER_BLOCK % row_len });
        batch::<S, SEARCH, N>(s, kind, whole, next, columns, &mut work, out);
    }
}

/// The importance of a batch's columns.
#[derive(Clone, Copy)]
struct Columns<'a> {
    importance: &'a [f32],
    /// The column of the batch's first value.
    first: usize,
}

impl Columns<'_> {
    /// Of super-block `i` of the batch.
    fn of(&self, i: usize) -> &[f32] {
        &self.importance[(self.first + i * SUPER_BLOCK) % self.importance.len()..][..SUPER_BLOCK]
    }
}

#[inline(always)]
fn batch<S: Simd, const SEARCH: u8, const N: usize>(
    s: S,
    kind: Kind,
    values: &[f32; BATCH * SUPER_BLOCK],
    next: &[f32],
    columns: Option<Columns>,
    work: &mut Work,
    out: &mut [u8],
) {
    let count = out.len() / kind.bytes();
    // Super-blocks of a group.
    let together = N / 16;
    let groups = count.div_ceil(together);
    let sigma2 = match columns {
        Some(_) if kind != Kind::Q6K => mean_squares(s, kind, values),
        _ => [0.0; LANES],
    };
    let pieces = values.chunks_exact(N * LANES);
    for ((to, from), _) in work.x.as_chunks_mut::<N>().0.iter_mut().zip(pieces).zip(0..groups) {
        spread(s, from, to);
    }
    if SEARCH == REFINED {
        refine::<S, N>(s, groups, values, next, work);
    } else {
        // Two by two: a batch has room for an even number, and where the last has no neighbour, what is found of the place
        // beside it is not used.
        for first in (0..groups).step_by(2) {
            fetch_ahead::<S, N>(s, next, first);
            search::<S, SEARCH, N>(s, kind, first, columns, &sigma2, work);
            fetch_ahead::<S, N>(s, next, first + 1);
        }
    }

    let mut blocks = [const { Block::ZERO }; BATCH];
    let mut zero = [false; BATCH];
    let n = kind.sub_blocks();
    if SEARCH != REFINED && columns.is_some() && kind != Kind::Q6K {
        scales_by_importance::<S, SEARCH>(s, kind, work, &mut blocks);
    } else {
        for (i, block) in blocks.iter_mut().enumerate().take(count) {
            let of = i * n..(i + 1) * n;
            zero[i] = !scales::against_largest(kind, &work.scale[of.clone()], &work.min[of], block);
        }
    }
    // From here on the codes of the scales count, not the scales.
    for (i, block) in blocks.iter().enumerate().take(count) {
        let (d, dmin) = (f16_value(block.d), f16_value(block.dmin));
        let (scales, mins) = unpack_scales(kind, &block.scales);
        let of = i * n..(i + 1) * n;
        work.scale[of.clone()].iter_mut().zip(&scales).for_each(|(to, code)| *to = d * f32::from(*code));
        work.min[of].iter_mut().zip(&mins).for_each(|(to, code)| *to = dmin * f32::from(*code));
    }
    for group in 0..groups {
        let mut codes = [0; 2 * SUPER_BLOCK];
        assign::<S, SEARCH, N>(s, kind, group, work, &mut codes);
        for (i, codes) in codes.as_chunks::<SUPER_BLOCK>().0.iter().enumerate().take(together) {
            let i = group * together + i;
            if let Some(out) = out.chunks_exact_mut(kind.bytes()).nth(i) {
                if zero[i] {
                    out.fill(0);
                } else {
                    blocks[i].codes = *codes;
                    pack(kind, &blocks[i], out);
                }
            }
        }
    }
}

/// Scales and codes of all groups. Few sub-blocks have a code that is worth moving: these are gathered, so that only they
/// are walked through.
#[inline(always)]
fn refine<S: Simd, const N: usize>(
    s: S,
    groups: usize,
    values: &[f32; BATCH * SUPER_BLOCK],
    next: &[f32],
    work: &mut Work,
) {
    /// Groups of gathered sub-blocks at a time.
    const K: usize = 2;
    let x = work.x.as_chunks::<N>().0;
    let kept = work.kept.as_chunks_mut::<N>().0;
    let (mut moving, mut count) = ([0; SUPER_BLOCK], 0);
    for (group, (x, kept)) in x.iter().zip(kept.iter_mut()).enumerate().take(groups) {
        fetch_ahead::<S, N>(s, next, group);
        let (scale, lanes) = opening(s, 4, x, kept);
        s.store(scale, &mut work.scale.as_chunks_mut().0[group]);
        let mut lanes = s.mask_bits(lanes);
        while lanes != 0 {
            moving[count] = group * LANES + lanes.trailing_zeros() as usize;
            count += 1;
            lanes &= lanes - 1;
        }
    }
    let mut x = [[[0.0; LANES]; N]; K];
    let mut codes = x;
    for moving in moving[..count].chunks(K * LANES) {
        x[K - 1] = [[0.0; LANES]; N];
        for (x, moving) in x.iter_mut().zip(moving.chunks(LANES)) {
            let mut runs = [[0.0; N]; LANES];
            for (run, sub_block) in runs.iter_mut().zip(moving) {
                run.copy_from_slice(&values[sub_block * N..][..N]);
            }
            spread(s, runs.as_flattened(), x);
        }
        let scales = refined::<S, N, K>(s, 4, &x, &mut codes);
        for ((moving, scale), codes) in moving.chunks(LANES).zip(scales).zip(&codes) {
            let mut row = [0.0; LANES];
            s.store(scale, &mut row);
            for (lane, (sub_block, scale)) in moving.iter().zip(row).enumerate() {
                work.scale[*sub_block] = scale;
                for (kept, codes) in kept[sub_block / LANES].iter_mut().zip(codes) {
                    kept[sub_block % LANES] = codes[lane];
                }
            }
        }
    }
}

/// The next batch's values come from memory while this one's are worked on: group by group, for memory takes only so many
/// requests.
#[inline(always)]
fn fetch_ahead<S: Simd, const N: usize>(s: S, next: &[f32], group: usize) {
    if let Some(values) = next.chunks_exact(N * LANES).nth(group) {
        s.prefetch(values);
    }
}

/// `16 · N` values as `N` rows of sixteen lanes, each lane a run of `N`.
#[inline(always)]
fn spread<S: Simd, const N: usize>(s: S, from: &[f32], to: &mut [Row; N]) {
    for (part, to) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        s.transpose(&from[part * 16..], N, to);
    }
}

/// The mean (of all but Q2_K: twice the mean) of the squares of each super-block.
#[inline(always)]
fn mean_squares<S: Simd>(s: S, kind: Kind, values: &[f32; BATCH * SUPER_BLOCK]) -> [f32; LANES] {
    let mut sum = s.zero();
    let mut rows = [[0.0; LANES]; 16];
    for part in 0..16 {
        s.transpose(&values[part * 16..], SUPER_BLOCK, &mut rows);
        for row in &rows {
            let x = s.load(row);
            sum = s.add(sum, s.mul(x, x));
        }
    }
    let mut out = [0.0; LANES];
    let sum = if kind == Kind::Q2K { sum } else { s.mul(s.splat(2.0), sum) };
    s.store(s.div(sum, s.splat(256.0)), &mut out);
    out
}

/// Scales, minima, and sums of weights of the sub-blocks of two groups, `first` and the one after it.
#[inline(always)]
fn search<S: Simd, const SEARCH: u8, const N: usize>(
    s: S,
    kind: Kind,
    first: usize,
    columns: Option<Columns>,
    sigma2: &[f32; LANES],
    work: &mut Work,
) {
    let x = work.x.as_chunks::<N>().0;
    let x = [&x[first], &x[first + 1]];
    let mut w = [[[0.0; LANES]; N]; 2];
    for (k, (x, w)) in x.into_iter().zip(&mut w).enumerate() {
        let total = match columns {
            Some(columns) => weights_by_importance::<S, N>(s, kind, first + k, columns, sigma2, x, w),
            None => {
                weights::<S, N>(s, kind, x, w);
                s.zero()
            }
        };
        s.store(total, &mut work.total.as_chunks_mut().0[first + k]);
    }
    let to = |all: &mut [f32; SUPER_BLOCK], k: usize, row: S::F| s.store(row, &mut all.as_chunks_mut().0[first + k]);
    if SEARCH == SYMMETRIC {
        let half = if kind == Kind::Q3K { 4 } else { 32 };
        for (k, (x, w)) in x.into_iter().zip(&w).enumerate() {
            let found = symmetric(s, half, x, w);
            to(&mut work.scale, k, found.scale);
            s.store(found.factor, &mut work.factor[first + k]);
        }
    } else {
        let found = affine(s, steps(kind, columns.is_some()), x, [&w[0], &w[1]]);
        for (k, found) in found.into_iter().enumerate() {
            to(&mut work.scale, k, found.scale);
            to(&mut work.min, k, found.min);
            s.store(found.factor, &mut work.factor[first + k]);
            s.store(found.base, &mut work.base[first + k]);
        }
    }
}

/// The weights of a group's values.
#[inline(always)]
fn weights<S: Simd, const N: usize>(s: S, kind: Kind, x: &[Row; N], w: &mut [Row; N]) {
    let mut average = s.zero();
    if N == 32 {
        for x in x {
            let x = s.load(x);
            average = s.add(average, s.mul(x, x));
        }
        average = s.sqrt(s.div(average, s.splat(32.0)));
    }
    for (w, x) in w.iter_mut().zip(x) {
        let x = s.load(x);
        let weight = match kind {
            Kind::Q2K => s.abs(x),
            Kind::Q4K | Kind::Q5K => s.add(average, s.abs(x)),
            Kind::Q3K | Kind::Q6K => s.mul(x, x),
        };
        s.store(weight, w);
    }
}

/// The same by importance; yields their sums.
#[inline(always)]
fn weights_by_importance<S: Simd, const N: usize>(
    s: S,
    kind: Kind,
    group: usize,
    columns: Columns,
    sigma2: &[f32; LANES],
    x: &[Row; N],
    w: &mut [Row; N],
) -> S::F {
    if N == 16 {
        spread(s, columns.of(group), w);
    } else {
        let mut both = [0.0; 2 * SUPER_BLOCK];
        both[..SUPER_BLOCK].copy_from_slice(columns.of(2 * group));
        both[SUPER_BLOCK..].copy_from_slice(columns.of(2 * group + 1));
        spread(s, &both, w);
    }
    let mut total = s.zero();
    if kind != Kind::Q6K {
        let sigma2: Row = core::array::from_fn(|lane| sigma2[(group * LANES + lane) / kind.sub_blocks()]);
        let sigma2 = s.load(&sigma2);
        for (w, x) in w.iter_mut().zip(x) {
            let x = s.load(x);
            let weight = s.mul(s.load(w), s.sqrt(s.add(sigma2, s.mul(x, x))));
            s.store(weight, w);
            total = s.add(total, weight);
        }
    }
    total
}

/// Scales as codes, by a search of their own for each super-block.
#[inline(always)]
fn scales_by_importance<S: Simd, const SEARCH: u8>(s: S, kind: Kind, work: &Work, blocks: &mut [Block; BATCH]) {
    let n = kind.sub_blocks();
    let mut of = [[[0.0; LANES]; 16]; 3];
    s.transpose(&work.scale, n, &mut of[0]);
    s.transpose(&work.min, n, &mut of[1]);
    s.transpose(&work.total, n, &mut of[2]);
    let [scale, min, total] = &of;
    let (mut ls, mut lm) = ([[0; LANES]; 16], [[0; LANES]; 16]);
    let (mut d, mut dmin) = ([0.0; LANES], [0.0; LANES]);
    if SEARCH == SYMMETRIC {
        let found = symmetric(s, 32, scale, total);
        let some = s.eq(found.factor, found.factor);
        for (l, scale) in ls.iter_mut().zip(scale) {
            let code = rounded::<S, false>(s, s.mul(found.factor, s.load(scale)), -32, 31);
            let code = s.sub_i(s.bits(code), s.splat_i(MAGIC.to_bits() as i32 - 32));
            s.store_i(s.select_i(some, code, s.splat_i(0)), l);
        }
        s.store(found.scale, &mut d);
    } else {
        let top = if kind == Kind::Q2K { 15 } else { 63 };
        s.store(positive(s, top, &scale[..n], &total[..n], &mut ls[..n]), &mut d);
        s.store(positive(s, top, &min[..n], &total[..n], &mut lm[..n]), &mut dmin);
    }
    for (i, block) in blocks.iter_mut().enumerate() {
        let of = |l: &[[i32; LANES]; 16]| core::array::from_fn(|j| l[j][i] as u8);
        scales::assemble(kind, d[i], dmin[i], &of(&ls), &of(&lm), block);
    }
}

/// The codes of a group, by the scales as they will be read: of super-block after super-block.
#[inline(always)]
fn assign<S: Simd, const SEARCH: u8, const N: usize>(
    s: S,
    kind: Kind,
    group: usize,
    work: &Work,
    codes: &mut [u8; 2 * SUPER_BLOCK],
) {
    let x = &work.x.as_chunks::<N>().0[group];
    let kept = &work.kept.as_chunks::<N>().0[group];
    let scale = s.load(&work.scale.as_chunks().0[group]);
    let min = s.load(&work.min.as_chunks().0[group]);
    let (low, high) = match kind {
        Kind::Q2K => (0, 3),
        Kind::Q3K => (-4, 3),
        Kind::Q4K => (0, 15),
        Kind::Q5K => (0, 31),
        Kind::Q6K => (-32, 31),
    };
    let affine = SEARCH == AFFINE;
    // Where the scale is zero, the search's codes stay.
    let stay = s.eq(scale, s.zero());
    let some_stay = s.any(stay);
    let (factor, base) = (s.load(&work.factor[group]), s.load(&work.base[group]));
    let found = s.eq(factor, factor);
    let magic = s.splat_i(MAGIC.to_bits() as i32 + low);
    for part in 0..N / 16 {
        let mut sixteen = [s.splat_i(0); 4];
        for (quarter, four) in sixteen.iter_mut().enumerate() {
            for i in 0..4 {
                let row = part * 16 + quarter * 4 + i;
                let x = s.load(&x[row]);
                let quotient = s.div(if affine { s.add(x, min) } else { x }, scale);
                let mut code = s.sub_i(s.bits(rounded::<S, false>(s, quotient, low, high)), magic);
                if some_stay {
                    let searched = if SEARCH == REFINED {
                        s.nearest_int(s.sub(s.load(&kept[row]), s.splat(low as f32)))
                    } else {
                        let v = s.mul(factor, if affine { s.sub(x, base) } else { x });
                        let code = s.sub_i(s.bits(rounded::<S, false>(s, v, low, high)), magic);
                        if affine { code } else { s.select_i(found, code, s.splat_i(0)) }
                    };
                    code = s.select_i(stay, searched, code);
                }
                *four = s.or_i(
                    *four,
                    match i {
                        0 => code,
                        1 => s.shl::<8>(code),
                        2 => s.shl::<16>(code),
                        _ => s.shl::<24>(code),
                    },
                );
            }
        }
        let mut words = [[0; 4]; LANES];
        s.store_beside(sixteen, &mut words);
        for (codes, words) in codes.chunks_exact_mut(N).zip(words) {
            for (codes, word) in codes[part * 16..][..16].as_chunks_mut().0.iter_mut().zip(words) {
                *codes = word.to_le_bytes();
            }
        }
    }
}
