//! What is only ever read: a layer of two layers' columns, and a bias as the model had it.
use std::ops::Range;

use super::awq::is_scale;
use super::codec::{SvdqCodec, shifts, words};
use super::four::{Coded, Scheme, paired};
use super::layout::{self, BLOCK};
use super::parts::{Precision, roles};
use crate::core::recipe::{Kernel, Recipe, Window};
use crate::core::{Cancel, Error, Result, ScaleSearch};
use crate::quant::four::{GROUP, bf16};
use crate::target::codec::{Codec, Geometry, Piece, Prepared, Values};

fn only_read<T>() -> Result<T> {
    Err(Error::failed("such a layer is only read"))
}

/// A layer whose columns are those of two.
pub struct Joined {
    geometry: Geometry,
    first: SvdqCodec,
    rest: SvdqCodec,
    /// Arrays of the first.
    parts: usize,
}

impl Joined {
    /// For a matrix of which the first so many columns are a layer's, the others another's.
    pub fn new(precision: Precision, shape: &[u64], recipe: &Recipe, first_cols: u64) -> Result<Self> {
        let (rows, rest_cols) = match *shape {
            [rows, cols] if first_cols < cols => (rows, cols - first_cols),
            _ => return Err(Error::failed(format!("shape {shape:?} has no {first_cols} columns and others"))),
        };
        let kernel = recipe.kernel.as_deref().cloned().unwrap_or_default();
        let one = Recipe { kernel: Some(Kernel { first_cols: None, ..kernel.clone() }.into()), ..recipe.clone() };
        Ok(Self {
            geometry: Geometry { rows: rows as usize, cols: (first_cols + rest_cols) as usize, slab_rows: BLOCK },
            first: SvdqCodec::new(precision, &[rows, first_cols], &one)?,
            rest: SvdqCodec::new(precision, &[rows, rest_cols], &one)?,
            parts: roles(precision, &kernel).len(),
        })
    }
}

impl Codec for Joined {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn is_global(&self) -> bool {
        true
    }
    fn prepare(&self, _: &dyn Values, _: &Cancel) -> Result<Box<dyn Prepared>> {
        only_read()
    }
    fn load(&self, part: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(Both {
            first: self.first.load(part)?,
            rest: self.rest.load(&|i| part(i + self.parts))?,
            cols: [self.first.geometry().cols, self.rest.geometry().cols],
            parts: self.parts,
        }))
    }
}

struct Both {
    first: Box<dyn Prepared>,
    rest: Box<dyn Prepared>,
    cols: [usize; 2],
    parts: usize,
}

impl Prepared for Both {
    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        Vec::new()
    }
    fn pieces(&self, rows: Range<usize>) -> Vec<Piece> {
        let theirs = self.rest.pieces(rows.clone()).into_iter().map(|p| Piece { part: p.part + self.parts, ..p });
        self.first.pieces(rows).into_iter().chain(theirs).collect()
    }
    fn encode(&self, _: Range<usize>, _: &[f32], _: &mut [&mut [u8]]) {}
    fn decode(&self, rows: Range<usize>, pieces: &[&[u8]], out: &mut [f32]) {
        let [first, rest] = self.cols;
        let mine = self.first.pieces(rows.clone()).len();
        let Some((left, right)) = pieces.split_at_checked(mine) else { return };
        let (mut a, mut b) = (vec![0.0; rows.len() * first], vec![0.0; rows.len() * rest]);
        self.first.decode(rows.clone(), left, &mut a);
        self.rest.decode(rows, right, &mut b);
        let lines = a.chunks_exact(first.max(1)).zip(b.chunks_exact(rest.max(1)));
        for (out, (a, b)) in out.chunks_exact_mut(first + rest).zip(lines) {
            let (left, right) = out.split_at_mut(first);
            left.copy_from_slice(a);
            right.copy_from_slice(b);
        }
    }
}

/// A bias: what kernels add to it is taken away, and its order is that of its layer's rows.
pub struct Bias {
    geometry: Geometry,
    kernel: Kernel,
    window: Window,
}

impl Bias {
    /// Of so many numbers.
    pub fn new(shape: &[u64], recipe: &Recipe) -> Result<Self> {
        let kernel = recipe.kernel.as_deref().cloned().unwrap_or_default();
        match (kernel.window.clone(), shape) {
            (Some(window), &[len]) if window.rows.end.checked_sub(window.rows.start) == Some(len) => {
                Ok(Self { geometry: Geometry::of(shape), kernel, window })
            }
            _ => Err(Error::failed(format!("shape {shape:?} is not that of a bias"))),
        }
    }
}

impl Codec for Bias {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn is_global(&self) -> bool {
        true
    }
    fn prepare(&self, _: &dyn Values, _: &Cancel) -> Result<Box<dyn Prepared>> {
        only_read()
    }
    fn load(&self, part: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>> {
        let [rows, cols] = self.window.of.map(|n| n as usize);
        let packed = words(&part(0)?);
        if packed.len() != rows {
            return Err(Error::failed(format!("it has {} numbers where there should be {rows}", packed.len())));
        }
        let fields = self.kernel.fields.max(1) as usize;
        let mut natural = vec![0; rows];
        if self.kernel.bias {
            layout::unpack_vector(&packed, &mut natural);
        } else {
            for (row, value) in natural.iter_mut().enumerate() {
                let place = if fields > 1 { layout::interleaved(fields, rows, row) } else { row };
                *value = packed.get(place).copied().unwrap_or_default();
            }
        }
        let mut bias: Vec<f32> = natural.into_iter().map(bf16).collect();
        for (row, value) in bias.iter_mut().enumerate() {
            if is_scale(fields, row / (rows / fields).max(1)) {
                *value -= 1.0;
            }
        }
        if self.kernel.shifted {
            unshift(&mut bias, [rows, cols], part)?;
        }
        let wanted = self.window.rows.start as usize..self.window.rows.end as usize;
        let missing = || Error::failed(format!("its layer has no rows {wanted:?}"));
        Ok(Box::new(AtHand(bias.get(wanted.clone()).ok_or_else(missing)?.to_vec())))
    }
}

/// Gives a bias back what the shift of GELU took: codes, scales and smoothing are the parts after it.
fn unshift(bias: &mut [f32], [rows, cols]: [usize; 2], part: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<()> {
    let (codes, scales, smooth) = (part(1)?, words(&part(2)?), words(&part(3)?));
    let groups = cols / GROUP;
    if (codes.len(), scales.len(), smooth.len()) != (rows * cols / 2, rows * groups, cols) {
        return Err(Error::failed("its layer's arrays do not have the sizes of its shape"));
    }
    let mut natural = vec![0; cols];
    layout::unpack_vector(&smooth, &mut natural);
    let smooth: Vec<f32> = natural.into_iter().map(bf16).collect();
    let scheme = Scheme { floats: false, search: ScaleSearch::Absmax };
    let (mut single, mut values) = (vec![0; BLOCK * cols], vec![0.0; BLOCK * cols]);
    let mut order = vec![0; BLOCK * groups];
    let blocks = codes.chunks_exact(BLOCK * cols / 2).zip(scales.chunks_exact(BLOCK * groups));
    for ((codes, scales), bias) in blocks.zip(bias.chunks_exact_mut(BLOCK)) {
        layout::unpack_codes(cols, codes, &mut single);
        layout::unpack_vectors(groups, scales, &mut order);
        let coded = Coded { codes: paired(&single), scales: order.clone(), tensor_scale: 1.0 };
        scheme.decode(&coded, 1.0, &mut values);
        for (value, shift) in bias.iter_mut().zip(shifts(Some(&smooth), cols, &values)) {
            *value = (f64::from(*value) + shift) as f32;
        }
    }
    Ok(())
}

/// Numbers that are at hand.
struct AtHand(Vec<f32>);

impl Prepared for AtHand {
    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        Vec::new()
    }
    fn pieces(&self, _: Range<usize>) -> Vec<Piece> {
        Vec::new()
    }
    fn encode(&self, _: Range<usize>, _: &[f32], _: &mut [&mut [u8]]) {}
    fn decode(&self, rows: Range<usize>, _: &[&[u8]], out: &mut [f32]) {
        if let Some(values) = self.0.get(rows) {
            out.copy_from_slice(values);
        }
    }
}
