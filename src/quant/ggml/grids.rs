//! The lattice points of the IQ types, and the way from any point to those near it.
//!
//! The points are data of ggml (MIT, `assets/ggml/NOTICE.md`). A coordinate code `l` stands for the odd number `2 l + 1`
//! while searching, and for a value of the type when decoding.
use crate::quant::simd::LANES;
use std::sync::OnceLock;

static POINTS: &[u8] = include_bytes!("../../../assets/ggml/grids.bin");

/// The points of one type: codes of `N` coordinates, packed lowest first.
#[derive(Clone, Copy)]
pub(super) struct Points<const N: usize>(&'static [u8]);

/// 256 points of 8 coordinates of 2 bits.
pub(super) const IQ2_XXS: Points<8> = Points::at(0, 256);
/// 512 points of 8 coordinates of 2 bits.
pub(super) const IQ2_XS: Points<8> = Points::at(256, 512);
/// 1024 points of 8 coordinates of 2 bits.
pub(super) const IQ2_S: Points<8> = Points::at(768, 1024);
/// 2048 points of 8 coordinates of 2 bits, for −1, 0 and 1.
pub(super) const IQ1: Points<8> = Points::at(1792, 2048);
/// 256 points of 4 coordinates of 3 bits.
pub(super) const IQ3_XXS: Points<4> = Points::at(3840, 256);
/// 512 points of 4 coordinates of 3 bits.
pub(super) const IQ3_S: Points<4> = Points::at(4096, 512);

impl<const N: usize> Points<N> {
    /// Bits of a coordinate's code.
    pub(super) const BITS: usize = if N == 8 { 2 } else { 3 };
    /// How many levels a coordinate has.
    pub(super) const LEVELS: usize = if N == 8 { 3 } else { 8 };

    const fn at(first: usize, count: usize) -> Self {
        Self(POINTS.split_at(2 * first).1.split_at(2 * count).0)
    }

    /// How many points there are.
    fn len(self) -> usize {
        self.0.len() / 2
    }

    /// The packed code of a point.
    #[inline(always)]
    pub(super) fn code(self, index: usize) -> u16 {
        u16::from_le_bytes([self.0[2 * index], self.0[2 * index + 1]])
    }

    /// The code of each coordinate of a point.
    #[inline(always)]
    pub(super) fn levels(self, index: usize) -> [u8; N] {
        unpack(self.code(index))
    }
}

/// The coordinates of a packed code.
#[inline(always)]
pub(super) fn unpack<const N: usize>(code: u16) -> [u8; N] {
    let bits = Points::<N>::BITS;
    std::array::from_fn(|i| (code >> (bits * i)) as u8 & ((1 << bits) - 1))
}

/// Coordinates as a packed code.
#[inline(always)]
pub(super) fn pack<const N: usize>(levels: [u8; N]) -> u16 {
    let bits = Points::<N>::BITS;
    levels.iter().enumerate().fold(0, |code, (i, &l)| code | u16::from(l) << (bits * i))
}

/// What lies at or near a point of the full lattice.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// A point of the grid, by its index.
    On(u16),
    /// The indices of the nearest points of the grid, the nearest first and the lower index first among equals.
    Off(&'a [u16]),
}

/// The way from a packed code to a point of the grid or its neighbours.
pub(super) struct Grid<const N: usize> {
    #[cfg(test)]
    points: Points<N>,
    /// By packed code: the index of the point, or the complement of the list's number.
    map: Vec<i32>,
    /// Where each list begins in `near`; one more than there are lists.
    #[cfg(test)]
    starts: Vec<u32>,
    #[cfg(test)]
    near: Vec<u16>,
    /// Where each list begins in `groups`; one more than there are lists.
    group_starts: Vec<u32>,
    /// The spread codes of the points in `near`, sixteen at a time, each list filled up with its first.
    groups: Vec<[i32; LANES]>,
}

/// The coordinates of a packed code in four bits each.
#[inline(always)]
pub(super) fn spread<const N: usize>(code: u16) -> i32 {
    unpack::<N>(code).iter().enumerate().fold(0, |spread, (i, &l)| spread | i32::from(l) << (4 * i))
}

/// The packed code of coordinates in four bits each.
#[inline(always)]
pub(super) fn gather<const N: usize>(spread: i32) -> u16 {
    pack::<N>(std::array::from_fn(|i| (spread >> (4 * i)) as u8 & 7))
}

impl<const N: usize> Grid<N> {
    /// Lists of all points at the `shells` smallest distances that occur. ggml sorts all points by (squared distance,
    /// index), which no two points share: the order is total and does not depend on the sort.
    fn new(points: Points<N>, shells: usize) -> Self {
        let bits = Points::<N>::BITS;
        let mut map = vec![-1; 1 << (bits * N)];
        let levels: Vec<[u8; N]> = (0..points.len()).map(|i| points.levels(i)).collect();
        for i in 0..points.len() {
            map[usize::from(points.code(i))] = i as i32;
        }
        let (mut starts, mut near) = (vec![0], Vec::new());
        let mut distances = vec![0usize; points.len()];
        // Half of the distance between odd numbers: at most 7² in each coordinate.
        let mut counts = [0usize; 49 * 8 + 1];
        for (code, place) in map.iter_mut().enumerate() {
            let from: [u8; N] = unpack(code as u16);
            // A search never asks for the code 3 of a coordinate with three levels.
            if *place >= 0 || from.iter().any(|&l| usize::from(l) >= Points::<N>::LEVELS) {
                continue;
            }
            counts.fill(0);
            for (d, to) in distances.iter_mut().zip(&levels) {
                *d = from.iter().zip(to).map(|(&a, &b)| usize::from(a.abs_diff(b)).pow(2)).sum();
                counts[*d] += 1;
            }
            for (shell, _) in counts.iter().enumerate().filter(|(_, n)| **n > 0).take(shells) {
                near.extend((0..points.len()).filter(|&j| distances[j] == shell).map(|j| j as u16));
            }
            *place = !(starts.len() as i32 - 1);
            starts.push(near.len() as u32);
        }
        let (mut group_starts, mut groups) = (vec![0], Vec::new());
        for list in starts.windows(2) {
            let list = &near[list[0] as usize..list[1] as usize];
            for group in list.chunks(LANES) {
                let point = |lane| group.get(lane).unwrap_or(&list[0]);
                groups.push(std::array::from_fn(|lane| spread::<N>(points.code(usize::from(*point(lane))))));
            }
            group_starts.push(groups.len() as u32);
        }
        Self {
            #[cfg(test)]
            points,
            map,
            #[cfg(test)]
            starts,
            #[cfg(test)]
            near,
            group_starts,
            groups,
        }
    }

    /// The neighbours of a code as spread codes, sixteen at a time, the last ones filled up with the first; none if there
    /// is a point with this code.
    #[inline(always)]
    pub(super) fn groups(&self, code: u16) -> Option<&[[i32; LANES]]> {
        let list = self.map[usize::from(code)];
        (list < 0).then(|| {
            let list = !list as usize;
            &self.groups[self.group_starts[list] as usize..self.group_starts[list + 1] as usize]
        })
    }

    /// The point with this packed code, or its neighbours.
    #[cfg(test)]
    pub(super) fn place(&self, code: u16) -> Place<'_> {
        match self.map[usize::from(code)] {
            index @ 0.. => Place::On(index as u16),
            list => {
                let list = !list as usize;
                Place::Off(&self.near[self.starts[list] as usize..self.starts[list + 1] as usize])
            }
        }
    }

    /// The index of the point with this packed code; 0 if there is none, which only values that are not finite lead to.
    pub(super) fn index(&self, code: u16) -> u16 {
        self.map[usize::from(code)].try_into().unwrap_or(0)
    }

    /// The points.
    #[cfg(test)]
    pub(super) fn points(&self) -> Points<N> {
        self.points
    }
}

/// The neighbours of IQ2_XXS.
pub(super) fn iq2_xxs() -> &'static Grid<8> {
    static GRID: OnceLock<Grid<8>> = OnceLock::new();
    GRID.get_or_init(|| Grid::new(IQ2_XXS, 2))
}

/// The neighbours of IQ2_XS.
pub(super) fn iq2_xs() -> &'static Grid<8> {
    static GRID: OnceLock<Grid<8>> = OnceLock::new();
    GRID.get_or_init(|| Grid::new(IQ2_XS, 2))
}

/// The neighbours of IQ2_S.
pub(super) fn iq2_s() -> &'static Grid<8> {
    static GRID: OnceLock<Grid<8>> = OnceLock::new();
    GRID.get_or_init(|| Grid::new(IQ2_S, 1))
}

/// The neighbours of IQ3_XXS.
pub(super) fn iq3_xxs() -> &'static Grid<4> {
    static GRID: OnceLock<Grid<4>> = OnceLock::new();
    GRID.get_or_init(|| Grid::new(IQ3_XXS, 2))
}

/// The neighbours of IQ3_S.
pub(super) fn iq3_s() -> &'static Grid<4> {
    static GRID: OnceLock<Grid<4>> = OnceLock::new();
    GRID.get_or_init(|| Grid::new(IQ3_S, 3))
}

/// Seven signs and the one that makes the number of minuses even.
#[inline(always)]
pub(super) fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | (seven.count_ones() as u8 & 1) << 7
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ggml's way: every point sorted by distance and index, as far as the last of the first `shells` distances.
    fn sorted<const N: usize>(points: Points<N>, from: [u8; N], shells: usize) -> Vec<u16> {
        let distance = |i: usize| -> i32 {
            let to = points.levels(i);
            from.iter().zip(&to).map(|(&a, &b)| (2 * i32::from(a) - 2 * i32::from(b)).pow(2)).sum()
        };
        let mut all: Vec<(i32, u16)> = (0..points.len()).map(|i| (distance(i), i as u16)).collect();
        all.sort_unstable();
        let mut seen: Vec<i32> = all.iter().map(|p| p.0).collect();
        seen.dedup();
        all.into_iter().take_while(|p| p.0 <= seen[shells.min(seen.len()) - 1]).map(|p| p.1).collect()
    }

    fn check<const N: usize>(grid: &Grid<N>, shells: usize) {
        let points = grid.points();
        for i in 0..points.len() {
            assert_eq!(grid.place(points.code(i)), Place::On(i as u16));
            assert!(grid.groups(points.code(i)).is_none());
        }
        // A walk over some of the codes, 7919 being a prime.
        let count = Points::<N>::LEVELS.pow(N as u32);
        for walk in (0..300).map(|i| i * 7919 % count) {
            let from: [u8; N] =
                std::array::from_fn(|i| (walk / Points::<N>::LEVELS.pow(i as u32) % Points::<N>::LEVELS) as u8);
            if let Place::Off(list) = grid.place(pack(from)) {
                assert_eq!(list, sorted(points, from, shells), "{from:?}");
                let groups = grid.groups(pack(from)).expect("as many");
                let spread_out: Vec<u16> = groups.as_flattened().iter().map(|&s| grid.index(gather::<N>(s))).collect();
                assert_eq!(spread_out[..list.len()], *list);
                assert!(
                    spread_out[list.len()..].iter().all(|&i| i == list[0])
                        && groups.len() == list.len().div_ceil(LANES)
                );
            }
        }
    }

    #[test]
    fn neighbours_are_the_nearest_in_order() {
        check(iq2_xxs(), 2);
        check(iq2_xs(), 2);
        check(iq2_s(), 1);
        check(iq3_xxs(), 2);
        check(iq3_s(), 3);
    }

    #[test]
    fn codes_pack_and_spread() {
        assert_eq!(pack::<8>([1, 2, 0, 0, 0, 0, 0, 2]), 0x8009);
        assert_eq!(pack::<4>([1, 2, 0, 7]), 0o7021);
        assert_eq!(spread::<4>(0o7021), 0x7021);
        assert_eq!(spread::<8>(0x8009), 0x2000_0021);
        assert_eq!(gather::<8>(0x2000_0021), 0x8009);
        assert_eq!(unpack::<4>(0o7021), [1, 2, 0, 7]);
    }

    #[test]
    fn the_eighth_sign_makes_them_even() {
        let check = |seven: u32, expected: u8| assert_eq!(even_signs(seven), expected);
        check(0, 0);
        check(1, 0x81);
        check(0b11, 0b11);
        check(0xff80 | 0x7f, 0xff);
    }
}
