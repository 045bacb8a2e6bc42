use super::super::code::all;
use super::*;
use crate::core::{Dtype, LossSums};
use crate::quant::affine::IntCode;
use crate::target::values::InMemory;
use proptest::prelude::*;

fn weights(shape: &[u64]) -> Vec<f32> {
    let n = shape.iter().product::<u64>();
    (0..n).map(|i| ((i as f32 * 0.7).sin() + (i as f32 * 0.013).cos()) * 0.05).collect()
}

/// The pieces of some rows, made in memory that held something else.
fn encoded(ready: &dyn Prepared, rows: Rows<usize>, values: &[f32]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = ready.pieces(rows.clone()).iter().map(|piece| vec![0xa5; piece.len()]).collect();
    ready.encode(rows, values, &mut pieces.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    pieces
}

/// Encodes slab by slab and decodes again, once from memory and once from the stored parts; returns the decoded.
fn round_trip(shape: &[u64], recipe: &Recipe) -> Vec<f32> {
    let code = Code::parse(recipe.dtype.as_str()).expect("a dtype");
    let codec = SdnqCodec::new(shape, code, recipe, Storage::BF16).expect("it fits");
    let w = weights(shape);
    let values = InMemory::new(shape, w.clone()).expect("a matrix");
    let ready = codec.prepare(&values, &Cancel::new()).expect("prepared");
    let all = 0..shape[0] as usize;
    let pieces = encoded(&*ready, all.clone(), &w);
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    // What is stored is as long as the parts that the plan announced.
    let parts = super::super::resolve::parts("a.weight", shape, code, recipe, Storage::BF16);
    let mut lengths = vec![0; parts.len()];
    let whole = ready.whole();
    whole.iter().for_each(|(part, bytes)| lengths[*part] += bytes.len() as u64);
    ready.pieces(all.clone()).iter().for_each(|p| lengths[p.part] += p.bytes.end - p.bytes.start);
    assert_eq!(lengths, parts.iter().map(|p| p.bytes()).collect::<Vec<_>>(), "{recipe:?}");

    let mut decoded = vec![0.0; w.len()];
    ready.decode(all.clone(), &pieces, &mut decoded);
    let stored = |i: usize| Ok(whole.iter().find(|(p, _)| *p == i).map(|(_, b)| b.clone()).unwrap_or_default());
    let mut again = vec![0.0; w.len()];
    codec.load(&stored).expect("loaded").decode(all, &pieces, &mut again);
    assert_eq!(decoded, again, "what is read back is what was previewed");
    decoded
}

fn relative_error(shape: &[u64], recipe: &Recipe) -> f64 {
    LossSums::of(&weights(shape), &round_trip(shape, recipe)).loss().relative_error
}

fn recipe(dtype: &str, group_size: i64) -> Recipe {
    Recipe::plain(crate::core::Family::Sdnq, Dtype::new(dtype), group_size)
}

const LINEAR: &[u64] = &[32, 64];
const CONVOLUTION: &[u64] = &[16, 32, 3, 3];

#[test]
fn every_integer_comes_back_within_half_a_step() {
    for code in all().filter(|c| c.is_integer()) {
        for group in [-1, 32, -2] {
            let Code::Int(int) = code else { continue };
            let (w, d) = (weights(LINEAR), round_trip(LINEAR, &recipe(&code.name(), group)));
            let (scale, _) = Range::of(&w).scale_of(int);
            let worst = w.iter().zip(&d).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Half a step of the coarsest scale; f32 rounding of code·scale+zero adds an ulp of the largest value.
            assert!(worst <= scale * 0.5 + 1e-6, "{} group {group}: {worst} > {scale}/2", code.name());
        }
    }
}

#[test]
fn every_dtype_fits_every_kind_of_layer() {
    for code in all() {
        let name = code.name();
        for group in [-1, 16, -2] {
            for shape in [LINEAR, CONVOLUTION] {
                round_trip(shape, &recipe(&name, group));
            }
        }
        for group in [-1, -2] {
            round_trip(CONVOLUTION, &Recipe { axis: 0, ..recipe(&name, group) });
        }
    }
}

#[test]
fn branches_lower_the_error() {
    /// `recipe` must lose less than `than`.
    fn check(shape: &[u64], recipe: Recipe, than: Recipe) {
        let (error, before) = (relative_error(shape, &recipe), relative_error(shape, &than));
        assert!(error < before, "{recipe:?}: {error} is not below {before}");
    }
    for shape in [LINEAR, CONVOLUTION] {
        for group in [-1, 16, -2] {
            let plain = recipe("uint2", group);
            check(shape, Recipe { svd_rank: 8, ..plain.clone() }, plain.clone());
            check(shape, Recipe { codebook: true, ..plain.clone() }, plain.clone());
            check(shape, Recipe { svd_rank: 8, hadamard: 16, ..plain.clone() }, plain.clone());
        }
    }
    let transposed = Recipe { axis: 0, ..recipe("uint2", -1) };
    check(CONVOLUTION, Recipe { codebook: true, ..transposed.clone() }, transposed);
}

#[test]
fn a_rotation_spreads_an_outlier() {
    let mut w = weights(LINEAR);
    w[5] = 8.0;
    let values = InMemory::new(LINEAR, w.clone()).expect("a matrix");
    let error = |hadamard| {
        let recipe = Recipe { hadamard, ..recipe("int4", -1) };
        let codec = SdnqCodec::new(LINEAR, Code::parse("int4").expect("a dtype"), &recipe, Storage::F32).expect("fits");
        let ready = codec.prepare(&values, &Cancel::new()).expect("prepared");
        let pieces = encoded(&*ready, 0..32, &w);
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let mut decoded = vec![0.0; w.len()];
        ready.decode(0..32, &pieces, &mut decoded);
        LossSums::of(&w[..64], &decoded[..64]).loss().mse
    };
    assert!(error(64) < error(0), "{} {}", error(64), error(0));
}

#[test]
fn factors_are_used_again_where_they_are_the_same() {
    let values = InMemory::new(LINEAR, weights(LINEAR)).expect("a matrix");
    let prepare = |dtype: &str, hadamard: u32, found: Option<Found>| {
        let recipe = Recipe { svd_rank: 8, hadamard, ..recipe(dtype, -1) };
        let codec = SdnqCodec::new(LINEAR, Code::parse(dtype).expect("a dtype"), &recipe, Storage::F32).expect("fits");
        codec.prepare_with(&values, &Cancel::new(), found).expect("prepared").found().expect("factors")
    };
    let first = prepare("uint4", 0, None);
    assert!(Arc::ptr_eq(&first, &prepare("int8", 0, Some(first.clone()))));
    assert!(!Arc::ptr_eq(&first, &prepare("int8", 16, Some(first.clone()))), "rotated values have others");
}

#[test]
fn what_does_not_fit_is_refused() {
    fn check(shape: &[u64], recipe: Recipe) {
        let code = Code::parse(recipe.dtype.as_str()).expect("a dtype");
        assert!(SdnqCodec::new(shape, code, &recipe, Storage::F32).is_err(), "{shape:?} {recipe:?}");
    }
    check(&[64], recipe("int8", -1));
    check(&[33, 35], recipe("int6", -1));
    check(LINEAR, recipe("int8", 24));
    check(LINEAR, recipe("int8", 0));
    check(LINEAR, Recipe { hadamard: 128, ..recipe("int8", -1) });
    check(LINEAR, Recipe { hadamard: 24, ..recipe("int8", -1) });
    check(LINEAR, Recipe { codebook: true, ..recipe("int8", -1) });
    check(LINEAR, Recipe { axis: 0, ..recipe("int8", 16) });
}

proptest! {
    #[test]
    fn slabs_do_not_change_the_bytes(cut in 1usize..4, bits in 1u8..=16, signed: bool, conv: bool, rotated: bool) {
        let Some(code) = IntCode::new(bits, signed).map(Code::Int) else { return Ok(()) };
        let shape: &[u64] = if conv { &[64, 16, 2, 2] } else { &[64, 64] };
        let recipe = Recipe { hadamard: if rotated { 16 } else { 0 }, ..recipe(&code.name(), 8) };
        let codec = SdnqCodec::new(shape, code, &recipe, Storage::F32).expect("it fits");
        let w = weights(shape);
        let values = InMemory::new(shape, w.clone()).expect("a matrix");
        let ready = codec.prepare(&values, &Cancel::new()).expect("prepared");
        let whole = encoded(&*ready, 0..64, &w);
        let cut = cut * 16;
        let a = encoded(&*ready, 0..cut, &w[..cut * 64]);
        let b = encoded(&*ready, cut..64, &w[cut * 64..]);
        for ((a, b), whole) in a.iter().zip(&b).zip(&whole) {
            prop_assert_eq!(&[a.as_slice(), b.as_slice()].concat(), whole);
        }
    }
}
