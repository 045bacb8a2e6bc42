use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::core::plan::Part;
use crate::core::recipe::{Smooth, Window};
use crate::core::{Cancel, Dtype, Family};
use crate::target::nunchaku::awq::AwqCodec;
use crate::target::nunchaku::layers::Words;
use crate::target::nunchaku::parts::parts;
use crate::target::nunchaku::{read, stored};
use crate::target::values::InMemory;

const ROWS: usize = 256;
const COLS: usize = 384;

/// Numbers that look random, with a few directions that stand out.
fn weights() -> Vec<f32> {
    let mut state = 11u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let (up, down): (Vec<f32>, Vec<f32>) =
        ((0..ROWS * 2).map(|_| next()).collect(), (0..COLS * 2).map(|_| next()).collect());
    (0..ROWS * COLS)
        .map(|i| {
            let (row, col) = (i / COLS, i % COLS);
            let strong = up[2 * row] * down[2 * col] + up[2 * row + 1] * down[2 * col + 1];
            next() * 0.05 + strong
        })
        .collect()
}

/// A weight with a bias.
struct Source(InMemory, Vec<f32>);

impl Values for Source {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        self.0.read(rows, out)
    }
    fn bias(&self) -> Result<Vec<f32>> {
        Ok(self.1.clone())
    }
}

fn source() -> Source {
    let bias = (0..ROWS).map(|i| bf16(to_bf16((i as f32 * 0.37).sin()))).collect();
    Source(InMemory::new(&[ROWS as u64, COLS as u64], weights()).expect("values"), bias)
}

fn recipe(precision: Precision, kernel: Kernel) -> Recipe {
    Recipe {
        svd_rank: if precision == Precision::Awq { 0 } else { 16 },
        scale_search: crate::core::ScaleSearch::Mse,
        kernel: Some(Arc::new(kernel)),
        ..Recipe::plain(Family::Nunchaku, Dtype::new(precision.name()), precision.group() as i64)
    }
}

fn codec(precision: Precision, recipe: &Recipe) -> Box<dyn Codec> {
    let shape = [ROWS as u64, COLS as u64];
    match precision {
        Precision::Awq => Box::new(AwqCodec::new(&shape, recipe).expect("a codec")),
        _ => Box::new(SvdqCodec::new(precision, &shape, recipe).expect("a codec")),
    }
}

/// The arrays of a layer, and what its codec says they mean while it makes them.
fn written(precision: Precision, kernel: Kernel) -> (Recipe, Vec<Part>, Vec<Vec<u8>>, Vec<f32>) {
    let recipe = recipe(precision, kernel);
    let (codec, source) = (codec(precision, &recipe), source());
    let prepared = codec.prepare(&source, &Cancel::new()).expect("prepared");
    let parts = parts("l.weight", [ROWS as u64, COLS as u64], &recipe, precision, Words::Classic);
    let mut arrays: Vec<Vec<u8>> = parts.iter().map(|p| vec![0; p.bytes() as usize]).collect();
    let (g, mut slab, mut means) = (codec.geometry(), Vec::new(), Vec::new());
    for i in 0..g.slabs() {
        source.read(g.slab(i), &mut slab).expect("read");
        let pieces = prepared.pieces(g.slab(i));
        let mut bytes: Vec<Vec<u8>> = pieces.iter().map(|p| vec![0; p.len()]).collect();
        let mut places: Vec<&mut [u8]> = bytes.iter_mut().map(Vec::as_mut_slice).collect();
        prepared.encode(g.slab(i), &slab, &mut places);
        let mut back = vec![0.0; slab.len()];
        prepared.decode(g.slab(i), &bytes.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut back);
        means.extend(back);
        for (piece, bytes) in pieces.iter().zip(&bytes) {
            arrays[piece.part][piece.bytes.start as usize..piece.bytes.end as usize].copy_from_slice(bytes);
        }
    }
    for (part, bytes) in prepared.whole().into_iter().chain(prepared.finish()) {
        arrays[part].copy_from_slice(&bytes);
    }
    (recipe, parts, arrays, means)
}

/// What arrays mean, rows at a time.
fn decoded(codec: &dyn Codec, arrays: &[Vec<u8>], rows: Range<usize>) -> Vec<f32> {
    let prepared = codec.load(&|part| Ok(arrays[part].clone())).expect("loaded");
    let pieces = prepared.pieces(rows.clone());
    let bytes: Vec<&[u8]> =
        pieces.iter().map(|p| &arrays[p.part][p.bytes.start as usize..p.bytes.end as usize]).collect();
    let mut out = vec![0.0; rows.len() * codec.geometry().cols];
    prepared.decode(rows, &bytes, &mut out);
    out
}

fn relative(values: &[f32], back: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let (error, all) = values.iter().zip(back).fold((0.0, 0.0), |(e, a), (v, b)| (e + square(v - b), a + square(*v)));
    (error / all).sqrt()
}

fn smooth() -> Smooth {
    Smooth::new((0..COLS).map(|i| bf16(to_bf16(0.5 + (i % 7) as f32 / 4.0))).collect())
}

fn kernels() -> Vec<(Precision, Kernel)> {
    let plain = Kernel { bias: true, twice: true, ..Kernel::default() };
    let floats = Kernel { tensor_scale: true, ..plain.clone() };
    vec![
        (Precision::Int4, plain.clone()),
        (Precision::Int4, Kernel { shifted: true, smooth: Some(smooth()), ..plain.clone() }),
        (Precision::Nvfp4, floats.clone()),
        (Precision::Nvfp4, Kernel { tensor_scale: false, row_scales: true, ..floats.clone() }),
        (Precision::Nvfp4, Kernel { smooth: Some(smooth()), row_scales: true, twice: false, ..floats }),
        (Precision::Awq, Kernel { bias: true, ..Kernel::default() }),
        (Precision::Awq, Kernel { bias: true, fields: 4, ..Kernel::default() }),
    ]
}

#[test]
fn what_is_read_is_what_was_shown() {
    for (precision, kernel) in kernels() {
        let (recipe, _, arrays, means) = written(precision, kernel);
        let codec = codec(precision, &recipe);
        assert_eq!(decoded(codec.as_ref(), &arrays, 0..ROWS), means, "{recipe:?}");
        for rows in [0..1, 100..130, 127..129, 255..256] {
            let expected = &means[rows.start * COLS..rows.end * COLS];
            assert_eq!(decoded(codec.as_ref(), &arrays, rows.clone()), expected, "{rows:?} {recipe:?}");
        }
        // Four bits of what a branch leaves of such weights; AWQ has no branch.
        let most = if precision == Precision::Awq { 0.1 } else { 0.03 };
        assert!(relative(&weights(), &means) < most, "{} {recipe:?}", relative(&weights(), &means));
    }
}

#[test]
fn a_bias_comes_back_without_what_kernels_want() {
    for (precision, kernel) in kernels() {
        let (recipe, parts, arrays, _) = written(precision, kernel.clone());
        let at = |word: &str| parts.iter().position(|p| p.name == format!("l.{word}")).expect(word);
        let mut order = vec![at("bias")];
        if kernel.shifted {
            order.extend(["qweight", "wscales", "smooth"].map(at));
        }
        let kernel = Kernel {
            bias: precision != Precision::Awq,
            window: Some(Window { rows: 64..192, of: [ROWS as u64, COLS as u64] }),
            ..kernel
        };
        let asked = Recipe { dtype: Dtype::new(read::BIAS), kernel: Some(Arc::new(kernel)), ..recipe };
        let codec = stored::Bias::new(&[128], &asked).expect("a codec");
        let prepared = codec.load(&|part| Ok(arrays[order[part]].clone())).expect("loaded");
        let mut back = vec![0.0; 128];
        prepared.decode(0..128, &[], &mut back);
        // A BF16 of a number of at most 4, and a shift that is summed in another order.
        for (value, expected) in back.iter().zip(&source().1[64..192]) {
            assert!((value - expected).abs() <= 2f32.powi(-7), "{value} {expected} {asked:?}");
        }
    }
}

#[test]
fn interleaved_rows_lie_where_the_runtime_wants_them() {
    let (_, parts, arrays, _) = written(Precision::Awq, Kernel { bias: true, fields: 4, ..Kernel::default() });
    let at = parts.iter().position(|p| p.name == "l.bias").expect("a bias");
    let stored: Vec<f32> = words(&arrays[at]).into_iter().map(bf16).collect();
    let natural = source().1;
    // Row i is of field i mod 4; the second field and the last but one are scales.
    for (i, value) in stored.iter().enumerate() {
        let (field, within) = (i % 4, i / 4);
        let one = if field == 1 || field == 2 { 1.0 } else { 0.0 };
        assert_eq!(*value, bf16(to_bf16(natural[field * (ROWS / 4) + within] + one)), "{i}");
    }
}

#[test]
fn a_branch_is_worth_its_room() {
    let values = weights();
    let (_, _, _, means) = written(Precision::Int4, Kernel::default());
    let (mut codes, mut scales, mut back) =
        (vec![0; values.len()], vec![0; values.len() / 64], vec![0.0; values.len()]);
    crate::quant::four::encode_signed(crate::core::ScaleSearch::Mse, &values, &mut codes, &mut scales);
    crate::quant::four::decode_signed(&codes, &scales, &mut back);
    assert!(relative(&values, &means) < relative(&values, &back) / 3.0);
}

#[test]
fn what_kernels_do_not_take_is_refused() {
    fn check(shape: &[u64], rank: u32, said: &str) {
        let asked = Recipe { svd_rank: rank, ..recipe(Precision::Int4, Kernel::default()) };
        let error = SvdqCodec::new(Precision::Int4, shape, &asked).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(said), "{shape:?} {rank}: {error}");
    }
    check(&[256, 100], 32, "multiples of 128");
    check(&[256, 256], 24, "multiples of 16");
    check(&[256, 256], 0, "multiples of 16");
    check(&[256], 32, "not that of a matrix");
}
