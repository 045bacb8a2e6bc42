//! The same search in lanes: sixteen scales side by side where they are tried, sixteen neighbours where one is chosen.
//!
//! Each lane does what the plain loop does, in its order. What a coordinate adds to a distance depends on its level
//! alone, so a scale has a table for each coordinate, and a distance is the sum of what is looked up there.
use super::super::grids::{Grid, Points, gather, spread};
use super::super::nearest_int;
use super::{Again, Found, Scheme, Super};
use crate::quant::ggml::{EPSILON, c_max};
use crate::quant::simd::{Kernel, LANES, Simd};

/// Encodes whole super-blocks of checked lengths; `put` writes one.
pub(in super::super) struct Encode<'a, const N: usize, P> {
    pub(in super::super) scheme: &'static Scheme<N>,
    pub(in super::super) row_len: usize,
    pub(in super::super) values: &'a [f32],
    pub(in super::super) importance: Option<&'a [f32]>,
    pub(in super::super) bytes: usize,
    pub(in super::super) out: &'a mut [u8],
    pub(in super::super) put: P,
}

impl<const N: usize, P: Fn(&Super, &mut [u8])> Kernel for Encode<'_, N, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { scheme, row_len, values, importance, bytes, out, put } = self;
        let grid = (scheme.grid)();
        for (b, (values, out)) in values.chunks_exact(256).zip(out.chunks_exact_mut(bytes)).enumerate() {
            let importance = importance.map(|i| &i[b * 256 % row_len..][..256]);
            let variance = scheme.variance(values);
            let mut blocks = [Found { zero: true, ..Found::default() }; 16];
            let mut weights = [0.0; 32];
            for (b, (x, found)) in values.chunks_exact(scheme.block).zip(&mut blocks).enumerate() {
                let weights = &mut weights[..scheme.block];
                scheme.weigh(x, importance.map(|i| &i[b * scheme.block..][..scheme.block]), variance, weights);
                *found = block(s, scheme, grid, x, weights);
            }
            put(&scheme.finish(blocks), out);
        }
    }
}

/// Entries of a coordinate's table; two rows of sixteen hold the tables of all.
const fn stride(coordinates: usize) -> usize {
    32 / coordinates
}

/// A point of the grid sought by its neighbourhood.
struct Cell {
    /// The magnitude of each coordinate, and the square root of its weight, once for each level.
    x: [[f32; LANES]; 2],
    root: [[f32; LANES]; 2],
}

impl Cell {
    #[inline(always)]
    fn new<const N: usize>(x: &[f32], weights: &[f32]) -> Self {
        let mut cell = Self { x: [[0.0; LANES]; 2], root: [[0.0; LANES]; 2] };
        for i in 0..N {
            let root = weights[i].sqrt();
            for l in 0..stride(N) {
                let at = i * stride(N) + l;
                cell.x[at / LANES][at % LANES] = x[i];
                cell.root[at / LANES][at % LANES] = root;
            }
        }
        cell
    }

    /// The spread code of the neighbour with the least weighted distance; the first of equals, and the very first if no
    /// distance is a finite number.
    #[inline(always)]
    fn nearest<S: Simd, const N: usize>(&self, s: S, groups: &[[i32; LANES]], scale: f32) -> i32 {
        let mut levels = [0.0; LANES];
        for (i, level) in levels.iter_mut().enumerate() {
            *level = (2 * (i % stride(N)) + 1) as f32;
        }
        let mut tables = [[0.0; LANES]; 2];
        for ((x, root), table) in self.x.iter().zip(&self.root).zip(&mut tables) {
            let diff = s.sub(s.mul(s.splat(scale), s.load(&levels)), s.load(x));
            s.store(s.mul(s.mul(s.load(root), diff), diff), table);
        }
        let tables = tables.as_flattened();
        let none = s.splat(f32::MAX);
        if let [group] = groups {
            let d2 = s.min(distances::<S, N>(s, tables, s.load_i(group)), none);
            let nearest = s.eq(d2, s.splat(s.least(d2)));
            return group[s.mask_bits(nearest).trailing_zeros() as usize % LANES];
        }
        let (mut best, mut place) = (none, s.splat_i(0));
        for (g, group) in groups.iter().enumerate() {
            let d2 = distances::<S, N>(s, tables, s.load_i(group));
            let nearer = s.lt(d2, best);
            best = s.select(nearer, d2, best);
            place = s.select_i(nearer, s.splat_i(g as i32), place);
        }
        let mut places = [0; LANES];
        s.store_i(place, &mut places);
        let mut lanes = s.mask_bits(s.eq(best, s.splat(s.least(best))));
        let mut lane = lanes.trailing_zeros() as usize % LANES;
        lanes &= lanes.wrapping_sub(1);
        // Among equals the earlier group wins, then the earlier lane.
        while lanes != 0 {
            let other = lanes.trailing_zeros() as usize;
            if places[other] < places[lane] {
                lane = other;
            }
            lanes &= lanes - 1;
        }
        groups[places[lane] as usize][lane]
    }
}

/// The distances of sixteen points, given what each level of each coordinate adds.
#[inline(always)]
fn distances<S: Simd, const N: usize>(s: S, tables: &[f32], mut codes: S::I) -> S::F {
    let mut d2 = s.zero();
    if N == 8 {
        for table in tables.as_chunks().0 {
            d2 = s.add(d2, s.lookup4(table, codes));
            codes = s.shr::<4>(codes);
        }
    } else {
        for table in tables.as_chunks().0 {
            d2 = s.add(d2, s.lookup8(table, codes));
            codes = s.shr::<4>(codes);
        }
    }
    d2
}

/// Searches one sub-block.
#[inline(always)]
fn block<S: Simd, const N: usize>(s: S, scheme: &Scheme<N>, grid: &Grid<N>, values: &[f32], weights: &[f32]) -> Found {
    let top = 2.0 * Points::<N>::LEVELS as f32 - 1.0;
    let cells = scheme.block / N;
    let (mut magnitudes, mut found) = ([0.0f32; 32], Found::default());
    scheme.split(values, weights, &mut magnitudes, &mut found.signs);
    let x = &magnitudes[..scheme.block];
    let max = x[1..].iter().fold(x[0], |max, &x| c_max(max, x));
    if max < scheme.least || max == 0.0 {
        return Found { zero: true, ..Found::default() };
    }
    let always = scheme.again == Again::Always;
    let (mut scale, width) = if always {
        let scale = plain_scale(s, Points::<N>::LEVELS as i32 + 1, x, weights);
        (scale, scale * Points::<N>::LEVELS as f32)
    } else {
        (max / top, max)
    };
    if always && width <= 0.0 {
        return Found { zero: true, ..Found::default() };
    }

    let tries = 2 * scheme.steps as usize + 1;
    let mut ids = [0.0; 32];
    let mut scales = [0.0; 32];
    for t in 0..tries {
        ids[t] = (top + (t as i32 - scheme.steps) as f32 * scheme.step) / width;
        scales[t] = 1.0 / ids[t];
    }
    let mut neighbourhoods: [Cell; 8] = std::array::from_fn(|_| Cell { x: [[0.0; LANES]; 2], root: [[0.0; LANES]; 2] });
    // The spread code of each point for each scale, and whether it was on the grid.
    let mut codes = [[[0i32; LANES]; 2]; 8];
    let mut on_grid = [0u32; 8];
    for k in 0..cells {
        let cell = Cell::new::<N>(&x[N * k..][..N], &weights[N * k..][..N]);
        for half in 0..tries.div_ceil(LANES) {
            let rounded = round::<S, N>(s, &ids[LANES * half..], &x[N * k..][..N]);
            let last = (tries - LANES * half).min(LANES);
            for t in 0..last {
                let code = rounded[t] as u16;
                codes[k][half][t] = match grid.groups(code) {
                    Some(groups) => cell.nearest::<S, N>(s, groups, scales[LANES * half + t]),
                    None => {
                        on_grid[k] |= 1 << (LANES * half + t);
                        spread::<N>(code)
                    }
                };
            }
        }
        neighbourhoods[k] = cell;
    }

    let (mut best, mut kept) = (0.0, None);
    for half in 0..tries.div_ceil(LANES) {
        let (mut qx, mut q2) = (s.zero(), s.zero());
        for (k, codes) in codes[..cells].iter().enumerate() {
            let mut rest = s.load_i(&codes[half]);
            for i in N * k..N * k + N {
                let q = s.lookup8(&ODD, rest);
                rest = s.shr::<4>(rest);
                qx = s.add(qx, s.mul(s.splat(weights[i] * x[i]), q));
                q2 = s.add(q2, s.mul(s.mul(s.splat(weights[i]), q), q));
            }
        }
        let (mut qxs, mut q2s) = ([0.0; LANES], [0.0; LANES]);
        s.store(qx, &mut qxs);
        s.store(q2, &mut q2s);
        let last = (tries - LANES * half).min(LANES);
        for t in 0..last {
            let (qx, q2) = (qxs[t], q2s[t]);
            if q2 > 0.0 && qx * qx > best * q2 {
                scale = qx / q2;
                best = scale * qx;
                kept = Some(LANES * half + t);
            }
        }
    }

    let mut points = [0i32; 8];
    let mut was_on_grid = [scheme.again != Again::All; 8];
    if let Some(t) = kept {
        for k in 0..cells {
            points[k] = codes[k][t / LANES][t % LANES];
            was_on_grid[k] = on_grid[k] >> t & 1 == 1;
        }
    }
    if (always || was_on_grid[..cells].contains(&false)) && scale > 0.0 {
        let id = 1.0 / scale;
        for k in 0..cells {
            if scheme.again == Again::Each && was_on_grid[k] {
                continue;
            }
            let mut code = 0;
            for i in (N * k..N * k + N).rev() {
                let l = nearest_int(0.5 * (id * x[i] - 1.0)).clamp(0, Points::<N>::LEVELS as i32 - 1);
                code = code << Points::<N>::BITS | l;
            }
            points[k] = match grid.groups(code as u16) {
                Some(groups) => neighbourhoods[k].nearest::<S, N>(s, groups, scale),
                None => spread::<N>(code as u16),
            };
        }
        let (mut qx, mut q2) = (0.0f32, 0.0f32);
        for i in 0..scheme.block {
            let q = ODD[(points[i / N] >> (4 * (i % N)) & 7) as usize];
            qx += weights[i] * x[i] * q;
            q2 += weights[i] * q * q;
        }
        if q2 > 0.0 {
            scale = qx / q2;
        }
    }
    scheme.put_scale(scale, &mut found);
    for (to, &point) in found.points.iter_mut().zip(&points[..cells]) {
        *to = grid.index(gather::<N>(point));
    }
    found
}

/// What a level stands for.
const ODD: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];

/// The packed code of the coordinates for each of sixteen scales.
#[inline(always)]
fn round<S: Simd, const N: usize>(s: S, ids: &[f32], x: &[f32]) -> [i32; LANES] {
    let mut codes = s.splat_i(0);
    if let Some(ids) = ids.first_chunk() {
        let ids = s.load(ids);
        for x in x.iter().rev() {
            let l = s.nearest_int(s.mul(s.splat(0.5), s.sub(s.mul(ids, s.splat(*x)), s.splat(1.0))));
            let l = s.min_i(s.max_i(l, s.splat_i(0)), s.splat_i(Points::<N>::LEVELS as i32 - 1));
            codes = s.or_i(if N == 8 { s.shl::<2>(codes) } else { s.shl::<3>(codes) }, l);
        }
    }
    let mut out = [0; LANES];
    s.store_i(codes, &mut out);
    out
}

/// The scale of a plain quantizer to 0..=`most`, its nine scales side by side: ggml's `make_qp_quants`.
#[inline(always)]
fn plain_scale<S: Simd>(s: S, most: i32, x: &[f32], weights: &[f32]) -> f32 {
    let max = x.iter().fold(0.0, |max, &x| c_max(max, x));
    if max < EPSILON {
        return 0.0;
    }
    // The unaltered scale comes first.
    const STEPS: [i32; 9] = [0, -4, -3, -2, -1, 1, 2, 3, 4];
    let (mut scales, mut first) = ([most as f32 / max; LANES], [0; LANES]);
    for (scale, &step) in scales.iter_mut().zip(&STEPS).skip(1) {
        *scale = (0.1 * step as f32 + most as f32) / max;
    }
    first[0] = 1;
    let is_first = s.gt_i(s.load_i(&first), s.splat_i(0));
    let tried = s.load(&scales);
    let (back, mut sum) = (s.div(s.splat(1.0), tried), s.zero());
    for (&x, &w) in x.iter().zip(weights) {
        let l = s.nearest_int(s.mul(tried, s.splat(x)));
        let l = s.select_i(is_first, s.and_i(l, s.splat_i(255)), s.min_i(l, s.splat_i(most)));
        let diff = s.sub(s.splat(x), s.mul(back, s.to_float(l)));
        sum = s.add(sum, s.mul(s.mul(s.splat(w), diff), diff));
    }
    let mut errors = [0.0; LANES];
    s.store(sum, &mut errors);
    let (mut least, mut iscale) = (errors[0], scales[0]);
    for t in 1..STEPS.len() {
        if errors[t] < least {
            (least, iscale) = (errors[t], scales[t]);
        }
    }
    super::refine(iscale, most, x, weights)
}
