use std::collections::HashMap;

use serde_json::Value;

use super::config::Config;
use super::delta::Array;
use super::targets::{Base, Field, Targets};
use super::*;

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// An array as JSON has it, and its name.
fn array(key: &str, value: &Value) -> Array {
    let shape = value["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
    Array { key: key.to_owned(), shape, data: numbers(&value["data"]) }
}

/// A whole adapter merged into a whole model, in slabs of so many rows.
fn merged(base: &[Array], adapter: &[Array], config: &Config, slab: usize) -> (Vec<Vec<f32>>, Targets) {
    let names: Vec<(&str, &[u64])> = adapter.iter().map(|a| (a.key.as_str(), a.shape.as_slice())).collect();
    let keys = keys::parse(&names);
    assert_eq!(keys.unknown, []);
    let tensors: Vec<Base> = base.iter().map(|t| Base { name: &t.key, shape: &t.shape, transposed: false }).collect();
    let targets = targets::find(&keys.modules, &tensors, &[]);
    let mut deltas: HashMap<(usize, bool), Delta> = HashMap::new();
    for (tensor, updates) in base.iter().zip(&targets.updates) {
        for update in updates {
            let module = &keys.modules[update.module];
            let arrays = module.arrays.iter().map(|(role, i)| (*role, adapter[*i].clone())).collect();
            let scale = config.scale(&module.path);
            let delta = Delta::new(module, update.field, arrays, &tensor.shape[1..], false, scale).unwrap();
            deltas.insert((update.module, update.field == Field::Bias), delta);
        }
    }
    let merge_one = |(tensor, updates): (&Array, &Vec<targets::Update>)| {
        let cols = tensor.shape[1..].iter().product::<u64>() as usize;
        let step = |u: &targets::Update| Step {
            delta: &deltas[&(u.module, u.field == Field::Bias)],
            strength: 1.0,
            rows: u.rows.clone(),
            change: u.delta.clone(),
            norms: None,
        };
        let mut steps: Vec<Step> = updates.iter().map(step).collect();
        let slabs = || tensor.data.chunks(slab * cols).map(<[f32]>::to_vec).enumerate();
        for which in in_need_of_norms(&steps) {
            for (i, mut part) in slabs() {
                accumulate(&mut steps, which, i * slab, cols, &mut part).unwrap();
            }
        }
        let changed = slabs().flat_map(|(i, mut part)| {
            merge(&steps, i * slab, cols, &mut part).unwrap();
            part
        });
        changed.collect()
    };
    (base.iter().zip(&targets.updates).map(merge_one).collect(), targets)
}

/// What PEFT merges: `tests/interop/make_lora_merges.py`.
#[test]
fn golden_merges_of_peft() {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/lora/peft.json"));
    let golden: Value = serde_json::from_str(text).unwrap();
    let arrays = |value: &Value| value.as_object().unwrap().iter().map(|(k, v)| array(k, v)).collect::<Vec<_>>();
    let base = arrays(&golden["base"]);
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let config = Config::of_peft(&case["config"]).unwrap();
        let (found, targets) = merged(&base, &arrays(&case["arrays"]), &config, 4);
        assert_eq!(targets.unmatched, [], "{}", case["name"]);
        for (tensor, found) in base.iter().zip(found) {
            let expected = numbers(&case["merged"][&tensor.key]);
            let largest = expected.iter().fold(0f32, |max, v| max.max(v.abs()));
            let off = expected.iter().zip(&found).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
            // Both round a handful of times; 8 half ulps of the largest number.
            assert!(off <= 4.0 * f32::EPSILON * largest, "{} {}: {off}", case["name"], tensor.key);
            let moved = expected.iter().zip(&tensor.data).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
            assert!(moved > 0.01, "{} {}: the case changes nothing", case["name"], tensor.key);
        }
    }
}

fn lora(key: &str, up: &[f32], down: &[f32]) -> Vec<Array> {
    let array = |end: &str, shape: [usize; 2], data: &[f32]| Array {
        key: format!("{key}.{end}.weight"),
        shape: shape.map(|d| d as u64).to_vec(),
        data: data.to_vec(),
    };
    vec![array("lora_up", [up.len(), 1], up), array("lora_down", [1, down.len()], down)]
}

fn delta(arrays: Vec<Array>) -> Delta {
    let names: Vec<(&str, &[u64])> = arrays.iter().map(|a| (a.key.as_str(), a.shape.as_slice())).collect();
    let module = keys::parse(&names).modules.swap_remove(0);
    let inputs = &arrays[1].shape[1..];
    let roles = module.arrays.iter().map(|(role, i)| (*role, arrays[*i].clone())).collect();
    Delta::new(&module, Field::Weight, roles, inputs, false, None).unwrap()
}

#[test]
fn changes_of_some_rows() {
    fn check(rows: Range<usize>, change: Range<usize>, expected: [f32; 6]) {
        let delta = delta(lora("a", &[1.0, 2.0, 3.0], &[1.0]));
        let steps = [Step { delta: &delta, strength: 1.0, rows: rows.clone(), change, norms: None }];
        for slab in 1..=6 {
            let mut weight = [0.0; 6];
            for (i, part) in weight.chunks_mut(slab).enumerate() {
                merge(&steps, i * slab, 1, part).unwrap();
            }
            assert_eq!(weight, expected, "{rows:?} in slabs of {slab}");
        }
    }
    check(0..3, 0..3, [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
    check(2..5, 0..3, [0.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
    check(5..6, 1..2, [0.0, 0.0, 0.0, 0.0, 0.0, 2.0]);
    check(5..8, 0..3, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    check(0..0, 0..0, [0.0; 6]);
}

#[test]
fn adapters_come_one_after_the_other() {
    let plain = delta(lora("a", &[1.0, 1.0], &[3.0, 4.0]));
    let mut arrays = lora("a", &[0.0, 0.0], &[1.0, 1.0]);
    arrays.push(Array { key: "a.dora_scale".into(), shape: vec![2, 1], data: vec![10.0, 1.0] });
    let dora = delta(arrays);
    let step = |delta| Step { delta, strength: 1.0, rows: 0..2, change: 0..2, norms: None };
    let merged = |steps: &[Step]| {
        let mut weight = [0.0; 4];
        merge(steps, 0, 2, &mut weight).unwrap();
        weight
    };
    assert_eq!(merged(&[step(&plain), step(&dora)]), [6.0, 8.0, 0.6, 0.8]);
    assert_eq!(merged(&[step(&dora), step(&plain)]), [3.0, 4.0, 3.0, 4.0]);
}

/// Norms of the inputs of a fused layer whose parts are tensors of their own.
#[test]
fn norms_go_on_from_tensor_to_tensor() {
    let mut arrays = lora("a", &[0.0; 4], &[1.0, 1.0]);
    arrays.push(Array { key: "a.dora_scale".into(), shape: vec![1, 2], data: vec![5.0, 1.0] });
    let delta = delta(arrays);
    let tensors = [[3.0, 0.0, 0.0, 0.0], [4.0, 0.0, 0.0, 2.0]];
    let mut norms = None;
    for (i, tensor) in tensors.iter().enumerate() {
        let change = 2 * i..2 * i + 2;
        let mut steps = [Step { delta: &delta, strength: 1.0, rows: 0..2, change, norms: norms.take() }];
        accumulate(&mut steps, 0, 0, 2, &mut tensor.clone()).unwrap();
        norms = steps[0].norms.take();
    }
    for (i, (mut tensor, expected)) in tensors.into_iter().zip([[3.0, 0.0, 0.0, 0.0], [4.0, 0.0, 0.0, 1.0]]).enumerate()
    {
        let change = 2 * i..2 * i + 2;
        merge(&[Step { delta: &delta, strength: 1.0, rows: 0..2, change, norms: norms.clone() }], 0, 2, &mut tensor)
            .unwrap();
        assert_eq!(tensor, expected);
    }
}

#[test]
fn norms_are_of_what_came_before() {
    let plain = delta(lora("a", &[1.0, 1.0], &[3.0, 4.0]));
    let mut arrays = lora("a", &[0.0, 0.0], &[1.0, 1.0]);
    arrays.push(Array { key: "a.dora_scale".into(), shape: vec![1, 2], data: vec![2.0, 1.0] });
    let dora = delta(arrays);
    let step = |delta| Step { delta, strength: 1.0, rows: 0..2, change: 0..2, norms: None };
    let mut steps = [step(&plain), step(&dora)];
    assert_eq!(in_need_of_norms(&steps), [1]);
    accumulate(&mut steps, 1, 0, 2, &mut [0.0, 0.0]).unwrap();
    accumulate(&mut steps, 1, 1, 2, &mut [0.0, 0.0]).unwrap();
    let mut weight = [0.0; 4];
    merge(&steps, 0, 2, &mut weight).unwrap();
    // Columns (3, 3) and (4, 4), brought to lengths 2 and 1.
    let half = std::f32::consts::FRAC_1_SQRT_2;
    for (found, expected) in weight.iter().zip([2.0 * half, half, 2.0 * half, half]) {
        // A factor and a product are rounded.
        assert!((found - expected).abs() <= 2.0 * f32::EPSILON, "{weight:?}");
    }
}
