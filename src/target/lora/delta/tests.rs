use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::keys::{self, Role};
use super::super::targets::Field;
use super::*;

/// Arrays of one module, by their parts' names; the numbers are drawn.
#[derive(Clone, Debug)]
struct Case {
    arrays: BTreeMap<&'static str, (Vec<usize>, Vec<f32>)>,
    inputs: Vec<u64>,
}

/// Numbers between -1 and 1, the same ones for the same seed.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn case(arrays: &[(&'static str, &[usize])], inputs: &[u64], seed: u64) -> Case {
    let drawn = arrays.iter().zip(seed..).map(|((name, shape), seed)| {
        let positive = matches!(*name, "dora_scale" | "lora_magnitude_vector" | "alpha");
        let drawn = numbers(shape.iter().product(), seed);
        (*name, (shape.to_vec(), drawn.into_iter().map(|v| if positive { v.abs() + 0.5 } else { v }).collect()))
    });
    Case { arrays: drawn.collect(), inputs: inputs.to_vec() }
}

impl Case {
    fn delta(&self, config: Option<f32>) -> Result<Delta> {
        let named: Vec<(String, Vec<u64>)> = self
            .arrays
            .iter()
            .map(|(name, (shape, _))| (format!("a.{name}"), shape.iter().map(|d| *d as u64).collect()))
            .collect();
        let names: Vec<(&str, &[u64])> = named.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let keys = keys::parse(&names);
        assert_eq!((keys.modules.len(), &keys.unknown[..]), (1, &[][..]), "{named:?}");
        let data: Vec<&Vec<f32>> = self.arrays.values().map(|(_, data)| data).collect();
        let module = &keys.modules[0];
        let arrays: Vec<(Role, Array)> = module
            .arrays
            .iter()
            .map(|(role, i)| {
                (*role, Array { key: named[*i].0.clone(), shape: named[*i].1.clone(), data: data[*i].clone() })
            })
            .collect();
        Delta::new(module, Field::Weight, arrays, &self.inputs, false, config)
    }
    fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }
    fn dim(&self, name: &str, index: usize) -> usize {
        self.arrays[name].0.get(index).copied().unwrap_or(1)
    }
    /// An element by its indices, those left out being 0.
    fn at(&self, name: &str, indices: &[usize]) -> f64 {
        let (shape, data) = &self.arrays[name];
        let flat = shape.iter().enumerate().fold(0, |flat, (i, dim)| flat * dim + indices.get(i).copied().unwrap_or(0));
        f64::from(data[flat])
    }
    /// Element (o, i, k) of `Σ a · b`, or of `Σ a · core · b`; and the sum of what is added, without signs.
    fn product(&self, [a, b, core]: [&str; 3], o: usize, i: usize, k: usize, kernel: usize) -> (f64, f64) {
        let (mut sum, mut size) = (0.0, 0.0);
        let mut add = |term: f64| {
            sum += term;
            size += term.abs();
        };
        if self.has(core) {
            // Of a LoCon `up` is [out, rank]; of LoHa and LoKr the first factor is [rank, out].
            let left = |p| if a == "lora_up.weight" { self.at(a, &[o, p]) } else { self.at(a, &[p, o]) };
            let (shape, data) = &self.arrays[core];
            for p in 0..shape[0] {
                for q in 0..shape[1] {
                    add(left(p) * f64::from(data[(p * shape[1] + q) * kernel + k]) * self.at(b, &[q, i]));
                }
            }
        } else {
            let (shape, data) = &self.arrays[b];
            let cols: usize = shape[1..].iter().product();
            for p in 0..shape[0] {
                add(self.at(a, &[o, p]) * f64::from(data[p * cols + i * kernel + k]));
            }
        }
        (sum, size)
    }
    /// Element (o, i, k) of the unscaled change, as the einsums of PEFT and ComfyUI say it, and what it is a sum of.
    fn element(&self, o: usize, i: usize, k: usize, kernel: usize) -> (f64, f64) {
        if self.has("lora_up.weight") {
            return self.product(["lora_up.weight", "lora_down.weight", "lora_mid.weight"], o, i, k, kernel);
        }
        if self.has("hada_w1_a") {
            let left = self.product(["hada_w1_a", "hada_w1_b", "hada_t1"], o, i, k, kernel);
            let right = self.product(["hada_w2_a", "hada_w2_b", "hada_t2"], o, i, k, kernel);
            return (left.0 * right.0, left.1 * right.1);
        }
        let (rows, cols) = if self.has("lokr_w2") {
            (self.dim("lokr_w2", 0), self.dim("lokr_w2", 1))
        } else if self.has("lokr_t2") {
            (self.dim("lokr_w2_a", 1), self.dim("lokr_w2_b", 1))
        } else {
            (self.dim("lokr_w2_a", 0), self.dim("lokr_w2_b", 1) / kernel)
        };
        let left = if self.has("lokr_w1") {
            let left = self.at("lokr_w1", &[o / rows, i / cols]);
            (left, left.abs())
        } else {
            self.product(["lokr_w1_a", "lokr_w1_b", ""], o / rows, i / cols, 0, 1)
        };
        let right = if self.has("lokr_w2") {
            let (shape, data) = &self.arrays["lokr_w2"];
            let right = f64::from(data[((o % rows) * shape[1] + i % cols) * kernel + k]);
            (right, right.abs())
        } else {
            self.product(["lokr_w2_a", "lokr_w2_b", "lokr_t2"], o % rows, i % cols, k, kernel)
        };
        (left.0 * right.0, left.1 * right.1)
    }
    /// The changed weight, and what it is a sum of.
    fn expected(&self, delta: &Delta, weight: &[f32], scale: f64, strength: f64) -> Vec<(f64, f64)> {
        let kernel: usize = self.inputs[1..].iter().map(|k| *k as usize).product();
        let (rows, cols) = (delta.rows(), delta.cols());
        let element = |n: usize| self.element(n / cols, n % cols / kernel, n % kernel, kernel);
        let change: Vec<(f64, f64)> = (0..rows * cols).map(element).collect();
        let name = if self.has("lora_magnitude_vector") { "lora_magnitude_vector" } else { "dora_scale" };
        let before = weight.iter().map(|w| f64::from(*w));
        if !self.has(name) {
            let by = scale * strength;
            return before.zip(change).map(|(w, (c, size))| (w + by * c, w.abs() + (by * size).abs())).collect();
        }
        let sums: Vec<f64> = before.clone().zip(&change).map(|(w, (c, _))| w + scale * c).collect();
        let sizes: Vec<f64> = before.clone().zip(&change).map(|(w, (_, s))| w.abs() + (scale * s).abs()).collect();
        let of_rows = name == "lora_magnitude_vector" || self.dim(name, 0) == rows;
        let group = |n: usize| if of_rows { n / cols } else { n % cols / kernel };
        let mut squares = vec![0.0; rows.max(cols)];
        sums.iter().enumerate().for_each(|(n, s)| squares[group(n)] += s * s);
        let decomposed = |n: usize, w: f64| {
            let factor = f64::from(self.arrays[name].1[group(n)]) / squares[group(n)].sqrt();
            // The norm is off by as much as the sums are, and with it every element.
            (
                w + strength * (factor * sums[n] - w),
                w.abs() * (1.0 + strength.abs()) + 4.0 * (strength * factor).abs() * sizes[n],
            )
        };
        before.enumerate().map(|(n, w)| decomposed(n, w)).collect()
    }
    /// The changed weight, made slab by slab.
    fn changed(&self, delta: &Delta, weight: &[f32], strength: f32, slab: usize) -> Vec<f32> {
        let cols = delta.cols();
        let slabs =
            || weight.chunks(slab * cols).enumerate().map(|(i, w)| (i * slab..i * slab + w.len() / cols, w.to_vec()));
        let mut norms = delta.norms();
        for (rows, weight) in slabs() {
            delta.accumulate(&mut norms, rows, &weight).unwrap();
        }
        let merged = slabs().flat_map(|(rows, mut weight)| {
            delta.apply(strength, rows, &mut weight, Some(&norms)).unwrap();
            weight
        });
        merged.collect()
    }
    fn check(&self, alpha_by: usize, strength: f32) {
        let delta = self.delta(None).unwrap();
        let weight = numbers(delta.rows() * delta.cols(), 99);
        let scale = match self.arrays.get("alpha") {
            Some((_, alpha)) if alpha_by > 0 => f64::from(alpha[0]) / alpha_by as f64,
            _ => 1.0,
        };
        let expected = self.expected(&delta, &weight, scale, f64::from(strength));
        let merged = self.changed(&delta, &weight, strength, delta.rows());
        // A sum of n products, each rounded, is off by at most n half ulps of the sum of their sizes; the longest here
        // has 8 · 8 terms (a core), of which two are multiplied, scaled and added in a handful of steps more.
        let bound = f64::from(f32::EPSILON) * 80.0;
        for (n, (merged, (expected, size))) in merged.iter().zip(&expected).enumerate() {
            let off = (f64::from(*merged) - expected).abs();
            assert!(off <= bound * size, "{self:?}\nelement {n}: {merged} expected {expected}");
        }
        // Rounding does not hide that nothing was changed.
        let change: f64 = expected.iter().zip(&weight).map(|((e, _), w)| (e - f64::from(*w)).abs()).sum();
        assert!(strength == 0.0 || change > 1e-3, "{self:?}: the case changes nothing");
    }
}

/// Every form that a change can have, small; the rank by which alpha is divided, 0 where nothing is.
fn cases(seed: u64) -> Vec<(usize, Case)> {
    let (conv, linear): (&[u64], &[u64]) = (&[4, 3, 3], &[8]);
    let alpha: (&str, &[usize]) = ("alpha", &[]);
    let of = |rank: usize, arrays: &[(&'static str, &[usize])], inputs: &[u64]| (rank, case(arrays, inputs, seed));
    vec![
        of(5, &[("lora_up.weight", &[6, 5]), ("lora_down.weight", &[5, 8]), alpha], linear),
        of(0, &[("lora_up.weight", &[6, 5]), ("lora_down.weight", &[5, 8])], linear),
        of(3, &[("lora_up.weight", &[6, 3, 1, 1]), ("lora_down.weight", &[3, 4, 3, 3]), alpha], conv),
        of(
            7,
            &[
                ("lora_up.weight", &[6, 8, 1, 1]),
                ("lora_down.weight", &[7, 4, 1, 1]),
                ("lora_mid.weight", &[8, 7, 3, 3]),
                alpha,
            ],
            conv,
        ),
        of(
            3,
            &[("hada_w1_a", &[6, 2]), ("hada_w1_b", &[2, 8]), ("hada_w2_a", &[6, 3]), ("hada_w2_b", &[3, 8]), alpha],
            linear,
        )
        .with_rank(2),
        of(
            2,
            &[
                ("hada_w1_a", &[2, 6]),
                ("hada_w1_b", &[2, 4]),
                ("hada_t1", &[2, 2, 3, 3]),
                ("hada_w2_a", &[3, 6]),
                ("hada_w2_b", &[3, 4]),
                ("hada_t2", &[3, 3, 3, 3]),
                alpha,
            ],
            conv,
        ),
        of(0, &[("lokr_w1", &[3, 2]), ("lokr_w2", &[2, 4]), alpha], linear),
        of(2, &[("lokr_w1", &[3, 2]), ("lokr_w2_a", &[2, 2]), ("lokr_w2_b", &[2, 4]), alpha], linear),
        of(4, &[("lokr_w1_a", &[3, 4]), ("lokr_w1_b", &[4, 2]), ("lokr_w2", &[2, 4]), alpha], linear),
        of(
            3,
            &[("lokr_w1_a", &[3, 4]), ("lokr_w1_b", &[4, 2]), ("lokr_w2_a", &[2, 3]), ("lokr_w2_b", &[3, 4]), alpha],
            linear,
        ),
        of(0, &[("lokr_w1", &[3, 2]), ("lokr_w2", &[2, 2, 3, 3])], conv),
        of(3, &[("lokr_w1", &[3, 2]), ("lokr_w2_a", &[2, 3]), ("lokr_w2_b", &[3, 18]), alpha], conv),
        of(
            2,
            &[("lokr_w1", &[3, 2]), ("lokr_t2", &[2, 2, 3, 3]), ("lokr_w2_a", &[2, 2]), ("lokr_w2_b", &[2, 2]), alpha],
            conv,
        ),
    ]
}

trait WithRank {
    fn with_rank(self, rank: usize) -> Self;
}

impl WithRank for (usize, Case) {
    fn with_rank(self, rank: usize) -> Self {
        (rank, self.1)
    }
}

#[test]
fn changes_of_every_form() {
    for (rank, case) in cases(1) {
        case.check(rank, 1.0);
        case.check(rank, -0.7);
    }
}

#[test]
fn dora_of_every_form() {
    for (rank, case) in cases(2) {
        let mut rows = case.clone();
        rows.arrays.insert("dora_scale", (vec![6, 1], numbers(6, 3).iter().map(|m| m.abs() + 0.5).collect()));
        let mut inputs = case.clone();
        let count = case.inputs[0] as usize;
        inputs.arrays.insert("dora_scale", (vec![1, count], numbers(count, 4).iter().map(|m| m.abs() + 0.5).collect()));
        for case in [rows, inputs] {
            case.check(rank, 1.0);
            case.check(rank, 0.4);
        }
        let mut peft = case;
        peft.arrays
            .insert("lora_magnitude_vector", (vec![1, 6], numbers(6, 5).iter().map(|m| m.abs() + 0.5).collect()));
        peft.check(rank, 1.0);
    }
}

#[test]
fn magnitudes_belong_to_rows_or_inputs() {
    fn check(name: &'static str, shape: &[usize], columns: bool) {
        let (_, mut case) = cases(1).swap_remove(2);
        case.arrays.insert(name, (shape.to_vec(), vec![1.0; shape.iter().product()]));
        assert_eq!(case.delta(None).unwrap().needs_column_norms(), columns, "{name} {shape:?}");
    }
    check("dora_scale", &[6, 1, 1, 1], false);
    check("dora_scale", &[1, 4, 1, 1], true);
    check("lora_magnitude_vector", &[6], false);
    check("lora_magnitude_vector", &[1, 6, 1, 1], false);
}

#[test]
fn zeros_stay_zeros() {
    let (_, mut case) = cases(1).swap_remove(1);
    case.arrays.insert("dora_scale", (vec![6, 1], vec![1.0; 6]));
    case.arrays.insert("lora_up.weight", (vec![6, 5], vec![0.0; 30]));
    let delta = case.delta(None).unwrap();
    assert_eq!(case.changed(&delta, &[0.0; 48], 1.0, 6), [0.0; 48]);
}

#[test]
fn what_scales_a_change() {
    fn check(alpha: Option<f32>, config: Option<f32>, scale: f32) {
        let (_, mut case) = cases(1).swap_remove(1);
        case.arrays.extend(alpha.map(|alpha| ("alpha", (vec![1], vec![alpha]))));
        assert_eq!(case.delta(config).unwrap().scale, scale);
    }
    check(None, None, 1.0);
    check(None, Some(0.25), 0.25);
    check(Some(10.0), None, 2.0);
    check(Some(10.0), Some(0.25), 2.0);
}

#[test]
fn a_whole_lokr_ignores_alpha() {
    let (_, mut case) = cases(1).swap_remove(6);
    case.arrays.insert("alpha", (vec![], vec![f32::INFINITY]));
    assert_eq!(case.delta(None).unwrap().scale, 1.0);
}

#[test]
fn embeddings_are_transposed() {
    let arrays: &[(&'static str, &[usize])] =
        &[("lora_embedding_A", &[2, 5]), ("lora_embedding_B", &[3, 2]), ("lora_magnitude_vector", &[3])];
    let mut case = case(arrays, &[3], 1);
    let delta = case.delta(None).unwrap();
    assert_eq!((delta.rows(), delta.cols(), delta.needs_column_norms()), (5, 3, true));
    case.arrays.remove("lora_magnitude_vector");
    let delta = case.delta(None).unwrap();
    let merged = case.changed(&delta, &[0.0; 15], 1.0, 2);
    for (n, merged) in merged.iter().enumerate() {
        let (entry, width) = (n / 3, n % 3);
        let expected: f64 =
            (0..2).map(|p| case.at("lora_embedding_A", &[p, entry]) * case.at("lora_embedding_B", &[width, p])).sum();
        // Two products: three roundings of numbers below 2.
        assert!((f64::from(*merged) - expected).abs() <= 3.0 * f64::from(f32::EPSILON), "{entry} {width}");
    }
}

#[test]
fn differences_and_replacements() {
    fn check(name: &'static str, strength: f32, expected: &[f32]) {
        let case = Case { arrays: [(name, (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]))].into(), inputs: vec![2] };
        let delta = case.delta(Some(9.0)).unwrap();
        assert_eq!(case.changed(&delta, &[10.0; 4], strength, 1), expected, "{name} {strength}");
    }
    check("diff", 1.0, &[11.0, 12.0, 13.0, 14.0]);
    check("diff", 0.5, &[10.5, 11.0, 11.5, 12.0]);
    check("set_weight", 1.0, &[1.0, 2.0, 3.0, 4.0]);
    check("set_weight", 0.5, &[1.0, 2.0, 3.0, 4.0]);
    check("set_weight", 0.0, &[10.0; 4]);
}

#[test]
fn what_lies_transposed() {
    fn check(kind: keys::Kind, arrays: &[(Role, &[u64], &[f32])], columns: bool, expected: &[f32]) {
        let module = keys::Module { path: "a".into(), kind, arrays: Vec::new(), shape: (2, 3), bias: None };
        let array = |shape: &[u64], data: &[f32]| Array { key: "a".into(), shape: shape.to_vec(), data: data.to_vec() };
        let arrays = arrays.iter().map(|(role, shape, data)| (*role, array(shape, data))).collect();
        let delta = Delta::new(&module, Field::Weight, arrays, &[2], true, None).unwrap();
        assert_eq!(delta.needs_column_norms(), columns);
        let mut weight = vec![0.0; delta.rows() * delta.cols()];
        let mut norms = delta.norms();
        delta.accumulate(&mut norms, 0..delta.rows(), &weight).unwrap();
        delta.apply(1.0, 0..delta.rows(), &mut weight, Some(&norms)).unwrap();
        assert_eq!(weight, expected);
    }
    let up: (Role, &[u64], &[f32]) = (Role::Up, &[2, 1], &[1.0, 2.0]);
    let down: (Role, &[u64], &[f32]) = (Role::Down, &[1, 3], &[2.0, 1.0, 2.0]);
    check(keys::Kind::Lora, &[up, down], false, &[2.0, 4.0, 1.0, 2.0, 2.0, 4.0]);
    // The outputs are columns here: (2, 1, 2) and twice that, of lengths 3 and 6.
    let magnitude: (Role, &[u64], &[f32]) = (Role::Magnitude, &[2], &[6.0, 3.0]);
    check(keys::Kind::Lora, &[up, down, magnitude], true, &[4.0, 2.0, 2.0, 1.0, 4.0, 2.0]);
    let diff: (Role, &[u64], &[f32]) = (Role::Diff, &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check(keys::Kind::Diff, &[diff], false, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn biases() {
    fn check(arrays: &[(Role, &[u64], &[f32])], config: Option<f32>, expected: &[f32]) {
        let module =
            keys::Module { path: "a".into(), kind: keys::Kind::Lora, arrays: Vec::new(), shape: (2, 2), bias: Some(2) };
        let array = |shape: &[u64], data: &[f32]| Array { key: "a".into(), shape: shape.to_vec(), data: data.to_vec() };
        let arrays = arrays.iter().map(|(role, shape, data)| (*role, array(shape, data))).collect();
        let delta = Delta::new(&module, Field::Bias, arrays, &[], false, config).unwrap();
        let mut bias = [1.0, 1.0];
        delta.apply(1.0, 0..2, &mut bias, None).unwrap();
        assert_eq!(bias, expected);
    }
    check(&[(Role::DiffBias, &[2], &[1.0, 2.0])], Some(0.5), &[2.0, 3.0]);
    check(&[(Role::UpBias, &[2], &[1.0, 2.0])], Some(0.5), &[1.5, 2.0]);
    check(&[(Role::UpBias, &[2], &[1.0, 2.0])], None, &[2.0, 3.0]);
    let of_alpha: &[(Role, &[u64], &[f32])] =
        &[(Role::UpBias, &[2], &[1.0, 2.0]), (Role::Alpha, &[], &[1.0]), (Role::Down, &[4, 1], &[0.0; 4])];
    check(of_alpha, None, &[1.25, 1.5]);
}

#[test]
fn errors_say_which_array_and_what_it_should_be() {
    fn check(arrays: &[(&'static str, &[usize])], inputs: &[u64], about: &str) {
        let error = case(arrays, inputs, 1).delta(None).unwrap_err().to_string();
        assert_eq!(error, about);
    }
    check(
        &[("lora_up.weight", &[6, 4]), ("lora_down.weight", &[5, 8])],
        &[8],
        "a.lora_up.weight: [6, 4], expected […, 5], the rank of a.lora_down.weight",
    );
    check(
        &[("lora_up.weight", &[6, 4]), ("lora_down.weight", &[4, 8]), ("alpha", &[2])],
        &[8],
        "a.alpha: [2], expected one number",
    );
    check(
        &[("lora_up.weight", &[6, 4]), ("lora_down.weight", &[4, 8]), ("dora_scale", &[7, 1])],
        &[8],
        "a.dora_scale: [7, 1], expected 8 numbers, one for each input",
    );
    check(
        &[("lora_up.weight", &[6, 4]), ("lora_down.weight", &[4, 8]), ("lora_magnitude_vector", &[8])],
        &[8],
        "a.lora_magnitude_vector: [8], expected 6 numbers, one for each output",
    );
    check(
        &[("lora_up.weight", &[6, 2]), ("lora_down.weight", &[3, 4]), ("lora_mid.weight", &[2, 2, 3, 3])],
        &[4, 3, 3],
        "a.lora_mid.weight: [2, 2, 3, 3], expected [2, 3, …], the ranks of a.lora_up.weight and a.lora_down.weight",
    );
    check(
        &[("hada_w1_a", &[6, 2]), ("hada_w1_b", &[2, 8]), ("hada_w2_a", &[6, 2]), ("hada_w2_b", &[2, 4])],
        &[8],
        "a.hada_w2_a, a.hada_w2_b: a product of (6, 4), expected (6, 8)",
    );
}

#[test]
fn numbers_that_are_none_are_refused() {
    for (name, value) in [("lora_up.weight", f32::NAN), ("lora_down.weight", f32::INFINITY), ("alpha", f32::NAN)] {
        let (_, mut case) = cases(1).swap_remove(0);
        if let Some((_, data)) = case.arrays.get_mut(name) {
            data[0] = value;
        }
        let error = case.delta(None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("a.{name}: ")), "{error}");
    }
}

#[test]
fn rows_outside_of_the_change_are_refused() {
    let (_, case) = cases(1).swap_remove(0);
    let delta = case.delta(None).unwrap();
    let mut weight = [0.0; 16];
    assert!(delta.apply(1.0, 4..6, &mut weight, None).is_ok());
    assert!(delta.apply(1.0, 5..7, &mut weight, None).is_err());
    assert!(delta.apply(1.0, 0..3, &mut weight, None).is_err());
}

#[test]
fn norms_of_some_rows_are_refused() {
    let (_, mut case) = cases(1).swap_remove(0);
    case.arrays.insert("dora_scale", (vec![1, 8], vec![1.0; 8]));
    let delta = case.delta(None).unwrap();
    let mut weight = [1.0; 48];
    let mut norms = delta.norms();
    assert!(delta.apply(1.0, 0..6, &mut weight, Some(&norms)).is_err());
    assert!(delta.accumulate(&mut norms, 0..3, &weight[..24]).is_ok());
    assert!(delta.accumulate(&mut norms, 0..3, &weight[..24]).is_err());
    assert!(delta.apply(1.0, 0..6, &mut weight, Some(&norms)).is_err());
    assert!(delta.accumulate(&mut norms, 3..6, &weight[24..]).is_ok());
    assert!(delta.apply(1.0, 0..6, &mut weight, Some(&norms)).is_ok());
}

proptest! {
    #[test]
    fn slabs_do_not_show(
        rows in 1usize..9, cols in prop_oneof![1usize..20, 500usize..530], rank in 1usize..10, slab in 1usize..9,
        strength in -2f32..2.0, dora in 0usize..3, seed in 0u64..1000,
    ) {
        let factors: [(&'static str, &[usize]); 2] =
            [("lora_up.weight", &[rows, rank]), ("lora_down.weight", &[rank, cols])];
        let mut case = case(&factors, &[cols as u64], seed);
        let shape = [vec![], vec![rows, 1], vec![1, cols]][dora].clone();
        if !shape.is_empty() {
            case.arrays.insert("dora_scale", (shape.clone(), vec![1.0; shape.iter().product()]));
        }
        let delta = case.delta(Some(0.5)).unwrap();
        let weight = numbers(rows * cols, seed);
        let whole = case.changed(&delta, &weight, strength, rows);
        prop_assert_eq!(&case.changed(&delta, &weight, strength, slab), &whole);
    }

    #[test]
    fn slabs_do_not_show_in_any_form(
        which in 0usize..13, slab in 1usize..6, strength in -2f32..2.0, seed in 0u64..1000,
    ) {
        let (_, case) = cases(seed).swap_remove(which);
        let delta = case.delta(None).unwrap();
        let weight = numbers(delta.rows() * delta.cols(), seed);
        let whole = case.changed(&delta, &weight, strength, delta.rows());
        prop_assert_eq!(case.changed(&delta, &weight, strength, slab), whole);
    }

    #[test]
    fn any_shapes_make_a_change_or_an_error(
        names in proptest::collection::btree_set(0usize..22, 1..7),
        dims in proptest::collection::vec(proptest::collection::vec(0u64..4, 0..4), 22),
        lie in 0usize..14, inputs in proptest::collection::vec(0u64..4, 0..3), transposed: bool,
    ) {
        const ALL: [&str; 22] = [
            "lora_up.weight", "lora_down.weight", "lora_mid.weight", "lora_up.bias", "alpha", "dora_scale",
            "lora_magnitude_vector", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
            "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "diff", "diff_b",
        ];
        let named: Vec<(String, &[u64])> = names.iter().map(|i| (format!("a.{}", ALL[*i]), &dims[*i][..])).collect();
        let refs: Vec<(&str, &[u64])> = named.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
        for module in keys::parse(&refs).modules {
            for field in [Field::Weight, Field::Bias] {
                // Now and then there are not as many numbers as the shape says.
                let count = |i: usize| named[i].1.iter().product::<u64>() as usize;
                let array = |i: usize| Array {
                    key: named[i].0.clone(),
                    shape: named[i].1.to_vec(),
                    data: vec![1.0; count(i).saturating_sub(usize::from(lie == i))],
                };
                let arrays = module.arrays.iter().map(|(role, i)| (*role, array(*i))).collect();
                if let Ok(delta) = Delta::new(&module, field, arrays, &inputs, transposed, None) {
                    let mut weight = vec![1.0; delta.rows() * delta.cols()];
                    let mut norms = delta.norms();
                    delta.accumulate(&mut norms, 0..delta.rows(), &weight).unwrap();
                    delta.apply(0.5, 0..delta.rows(), &mut weight, Some(&norms)).unwrap();
                }
            }
        }
    }
}
