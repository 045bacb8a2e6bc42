//! Every operation at every level of the machine, against the scalar it stands for.
use proptest::prelude::*;

use super::*;
use crate::quant::ggml::{c_int, nearest_int};

/// Numbers of all kinds: the bits are what is random.
fn any_float() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => any::<u32>().prop_map(f32::from_bits),
        4 => -100f32..100.0,
        2 => (-40i32..40).prop_map(|i| i as f32 / 2.0),
        1 => prop::sample::select(vec![
            0.0, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, f32::MIN_POSITIVE, 1e-45, -1e-45,
            f32::MAX, 2147483520.0, 2147483648.0, -2147483648.0, -2147483904.0, 4194304.0, 8388608.0, 12582912.0,
        ]),
    ]
}

fn any_int() -> impl Strategy<Value = i32> {
    prop_oneof![any::<i32>(), -300i32..300, prop::sample::select(vec![i32::MIN, i32::MAX, 0, -1])]
}

fn sixteen<T: std::fmt::Debug>(one: impl Strategy<Value = T>) -> impl Strategy<Value = [T; LANES]> {
    prop::collection::vec(one, LANES).prop_map(|v| v.try_into().expect("sixteen"))
}

/// Bits, but any NaN for any NaN: which one an operation yields is not promised.
fn canonical(v: f32) -> u32 {
    if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }
}

struct Floats<'a>(&'a [f32; LANES], &'a [f32; LANES], &'a [i32; LANES], &'a [i32; LANES]);

impl Kernel for Floats<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (a, b, c, d) = (s.load(self.0), s.load(self.1), s.load_i(self.2), s.load_i(self.3));
        let float = |name: &str, got: S::F, expected: &dyn Fn(usize) -> f32| {
            let mut out = [0.0; LANES];
            s.store(got, &mut out);
            for (i, v) in out.iter().enumerate() {
                let want = expected(i);
                assert_eq!(
                    canonical(*v),
                    canonical(want),
                    "{name}, lane {i}: {v}, not {want} of {:?} {:?}",
                    self.0,
                    self.1
                );
            }
        };
        let int = |name: &str, got: S::I, expected: &dyn Fn(usize) -> i32| {
            let mut out = [0; LANES];
            s.store_i(got, &mut out);
            for (i, v) in out.iter().enumerate() {
                assert_eq!(*v, expected(i), "{name}, lane {i} of {:?} {:?} {:?}", self.0, self.2, self.3);
            }
        };
        let mask = |name: &str, got: S::M, expected: &dyn Fn(usize) -> bool| {
            let want = (0..LANES).fold(0, |bits, i| bits | u32::from(expected(i)) << i);
            assert_eq!(s.mask_bits(got), want, "{name} of {:?} {:?}", self.0, self.1);
            assert_eq!((s.any(got), s.all(got)), (want != 0, want == 0xffff), "{name}");
        };
        let (x, y, m, n) = (self.0, self.1, self.2, self.3);

        float("load", a, &|i| x[i]);
        float("splat", s.splat(x[3]), &|_| x[3]);
        float("zero", s.zero(), &|_| 0.0);
        float("add", s.add(a, b), &|i| x[i] + y[i]);
        float("sub", s.sub(a, b), &|i| x[i] - y[i]);
        float("mul", s.mul(a, b), &|i| x[i] * y[i]);
        float("div", s.div(a, b), &|i| x[i] / y[i]);
        float("sqrt", s.sqrt(a), &|i| x[i].sqrt());
        float("abs", s.abs(a), &|i| x[i].abs());
        float("neg", s.neg(a), &|i| -x[i]);
        float("max", s.max(a, b), &|i| if x[i] > y[i] { x[i] } else { y[i] });
        float("min", s.min(a, b), &|i| if x[i] < y[i] { x[i] } else { y[i] });
        mask("lt", s.lt(a, b), &|i| x[i] < y[i]);
        mask("le", s.le(a, b), &|i| x[i] <= y[i]);
        mask("eq", s.eq(a, b), &|i| x[i] == y[i]);
        mask("eq itself", s.eq(a, a), &|i| !x[i].is_nan());
        float("select", s.select(s.lt(a, b), a, b), &|i| if x[i] < y[i] { x[i] } else { y[i] });

        int("load_i", c, &|i| m[i]);
        int("splat_i", s.splat_i(m[5]), &|_| m[5]);
        int("add_i", s.add_i(c, d), &|i| m[i].wrapping_add(n[i]));
        int("sub_i", s.sub_i(c, d), &|i| m[i].wrapping_sub(n[i]));
        int("mul_i", s.mul_i(c, d), &|i| m[i].wrapping_mul(n[i]));
        int("max_i", s.max_i(c, d), &|i| m[i].max(n[i]));
        int("min_i", s.min_i(c, d), &|i| m[i].min(n[i]));
        int("and_i", s.and_i(c, d), &|i| m[i] & n[i]);
        int("or_i", s.or_i(c, d), &|i| m[i] | n[i]);
        int("xor_i", s.xor_i(c, d), &|i| m[i] ^ n[i]);
        int("shl", s.shl::<5>(c), &|i| m[i] << 5);
        int("shr", s.shr::<5>(c), &|i| (m[i] as u32 >> 5) as i32);
        int("sar", s.sar::<5>(c), &|i| m[i] >> 5);
        mask("eq_i", s.eq_i(c, d), &|i| m[i] == n[i]);
        mask("gt_i", s.gt_i(c, d), &|i| m[i] > n[i]);
        int("select_i", s.select_i(s.gt_i(c, d), c, d), &|i| m[i].max(n[i]));

        int("bits", s.bits(a), &|i| x[i].to_bits() as i32);
        float("from_bits", s.from_bits(c), &|i| f32::from_bits(m[i] as u32));
        float("to_float", s.to_float(c), &|i| m[i] as f32);
        int("to_int", s.to_int(a), &|i| c_int(x[i]));
        int("nearest_int", s.nearest_int(a), &|i| nearest_int(x[i]));
        let mut bytes = [0; LANES];
        s.store_bytes(c, &mut bytes);
        assert_eq!(bytes, m.map(|m| m as u8), "store_bytes");
        int("load_bytes", s.load_bytes(&bytes), &|i| i32::from(m[i] as u8));

        mask("and_m", s.and_m(s.lt(a, b), s.gt_i(c, d)), &|i| x[i] < y[i] && m[i] > n[i]);
        mask("or_m", s.or_m(s.lt(a, b), s.gt_i(c, d)), &|i| x[i] < y[i] || m[i] > n[i]);
        mask("not_m", s.not_m(s.lt(a, b)), &|i| x[i].partial_cmp(&y[i]) != Some(core::cmp::Ordering::Less));
        float("lookup", s.lookup(x, c), &|i| x[(m[i] & 15) as usize]);
        let four = std::array::from_fn(|i| x[i]);
        float("lookup4", s.lookup4(&four, c), &|i| x[(m[i] & 3) as usize]);
        let eight = std::array::from_fn(|i| x[i]);
        float("lookup8", s.lookup8(&eight, c), &|i| x[(m[i] & 7) as usize]);
    }
}

struct Transpose<'a>(&'a [f32], usize);

impl Kernel for Transpose<'_> {
    type Output = [[f32; LANES]; 16];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let mut to = [[0.0; LANES]; 16];
        s.transpose(self.0, self.1, &mut to);
        to
    }
}

#[test]
fn pieces_lie_side_by_side() {
    for stride in [16, 17, 32] {
        let from: Vec<f32> = (0..15 * stride + 16).map(|i| i as f32).collect();
        for level in Level::available() {
            let to = run(level, Transpose(&from, stride));
            for (i, to) in to.iter().enumerate() {
                for (lane, v) in to.iter().enumerate() {
                    assert_eq!(*v, from[lane * stride + i], "{level:?}, stride {stride}, lane {lane}, element {i}");
                }
            }
        }
    }
}

struct Beside<'a>(&'a [[i32; LANES]; 4]);

impl Kernel for Beside<'_> {
    type Output = [[i32; 4]; LANES];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let mut of = [s.splat_i(0); 4];
        for (of, from) in of.iter_mut().zip(self.0) {
            *of = s.load_i(from);
        }
        let mut to = [[0; 4]; LANES];
        s.store_beside(of, &mut to);
        to
    }
}

#[test]
fn lanes_lie_beside_each_other() {
    let of: [[i32; LANES]; 4] = core::array::from_fn(|i| core::array::from_fn(|lane| (100 * lane + i) as i32));
    let expected: [[i32; 4]; LANES] = core::array::from_fn(|lane| core::array::from_fn(|i| (100 * lane + i) as i32));
    for level in Level::available() {
        assert_eq!(run(level, Beside(&of)), expected, "{level:?}");
    }
}

struct Ends<'a>(&'a [[f32; LANES]; LANES]);

impl Kernel for Ends<'_> {
    type Output = [[f32; LANES]; 2];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let mut rows = [s.zero(); LANES];
        for (row, from) in rows.iter_mut().zip(self.0) {
            *row = s.load(from);
        }
        let mut ends = [[0.0; LANES]; 2];
        s.store(s.least_lanes(&rows), &mut ends[0]);
        s.store(s.greatest_lanes(&rows), &mut ends[1]);
        ends
    }
}

#[test]
fn each_vector_has_its_ends() {
    // Whichever lane they lie in.
    for turn in 0..LANES {
        let value = |i: usize, lane: usize| (i * 100) as f32 + ((lane + turn + i) % LANES * 7 % LANES) as f32 - 8.0;
        let rows: [[f32; LANES]; LANES] = core::array::from_fn(|i| core::array::from_fn(|lane| value(i, lane)));
        for level in Level::available() {
            let ends = run(level, Ends(&rows));
            for (i, found) in ends[0].iter().zip(&ends[1]).enumerate() {
                let least = (i * 100) as f32 - 8.0;
                assert_eq!(found, (&least, &(least + 15.0)), "{level:?}, vector {i}, turn {turn}");
            }
        }
    }
}

#[test]
fn a_piece_that_does_not_fit_is_refused() {
    for level in Level::available() {
        let short = vec![0.0; 15 * 16 + 15];
        assert!(std::panic::catch_unwind(|| run(level, Transpose(&short, 16))).is_err(), "{level:?}");
    }
}

proptest! {
    #[test]
    fn every_level_equals_the_scalar(
        a in sixteen(any_float()), b in sixteen(any_float()), c in sixteen(any_int()), d in sixteen(any_int()),
        same in any::<u16>(),
    ) {
        // Some lanes are made equal, which chance does not do.
        let b = core::array::from_fn(|i| if same >> i & 1 == 1 { a[i] } else { b[i] });
        let d = core::array::from_fn(|i| if same >> i & 1 == 0 { c[i] } else { d[i] });
        for level in Level::available() {
            run(level, Floats(&a, &b, &c, &d));
        }
        Floats(&a, &b, &c, &d).run(Portable);
    }
}
