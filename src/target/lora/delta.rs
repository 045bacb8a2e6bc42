//! What an adapter changes of a weight, slab of rows by slab of rows.
//!
//! The change of a weight is as large as the weight, its factors are small: rows of it are made when they are wanted.
//! Formulas are those of PEFT and ComfyUI, which agree but for DoRA (see [`Delta::apply`]); all of it in f32.
use std::ops::Range;

use crate::core::{Error, Result};

mod build;
mod matrix;

pub use build::Array;
use matrix::{Matrix, add_scaled, blocks, room};

/// The change of one weight, or of one bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    form: Form,
    rows: usize,
    cols: usize,
    /// Alpha by rank, or what the config says.
    scale: f32,
    dora: Option<Dora>,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Plain(Matrix),
    /// Elementwise product.
    Hadamard(Matrix, Matrix),
    /// Element (i·b + j, k·d + l) is left (i, k) by right (j, l).
    Kronecker(Matrix, Matrix),
    /// Takes the weight's place.
    Set(Matrix),
}

#[derive(Clone, Debug, PartialEq)]
struct Dora {
    magnitude: Vec<f32>,
    axis: Axis,
}

/// What shares a magnitude, and a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    /// A row: an output.
    Row,
    /// So many columns beside each other, through all rows: an input, with its kernel.
    Input(usize),
}

/// Sums of squares of a weight's inputs, for a DoRA whose magnitudes are theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct Norms {
    squares: Vec<f64>,
    rows: usize,
}

impl Delta {
    /// Rows: outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Columns: inputs, of a convolution by its kernel.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// Whether the inputs' norms must be known before the first row can be changed.
    pub fn needs_column_norms(&self) -> bool {
        self.dora.as_ref().is_some_and(|dora| dora.axis != Axis::Row)
    }
    /// Norms of which nothing is known yet, for [`Self::accumulate`].
    pub fn norms(&self) -> Norms {
        let inputs = match &self.dora {
            Some(Dora { magnitude, axis: Axis::Input(_) }) => magnitude.len(),
            _ => 0,
        };
        Norms { squares: vec![0.0; inputs], rows: 0 }
    }
    /// Adds rows of the changed weight to its inputs' norms. `weight` is those rows as they are before this change and
    /// after those before it; every row must come once, in ascending order.
    pub fn accumulate(&self, norms: &mut Norms, rows: Range<usize>, weight: &[f32]) -> Result<()> {
        self.check(&rows, weight.len())?;
        let Some(Dora { axis: Axis::Input(width), .. }) = self.dora else { return Ok(()) };
        if rows.start != norms.rows {
            return Err(Error::failed(format!("norms of an adapter: row {} where {} is next", rows.start, norms.rows)));
        }
        norms.rows = rows.end;
        let mut sum = weight.to_vec();
        self.add_change(self.scale, rows, &mut sum);
        for row in sum.chunks_exact(self.cols.max(1)) {
            for (square, values) in norms.squares.iter_mut().zip(row.chunks_exact(width)) {
                *square += values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
            }
        }
        Ok(())
    }
    /// Changes rows of a weight: `weight += strength · scale · ΔW`.
    ///
    /// With DoRA (Liu et al., *DoRA: weight-decomposed low-rank adaptation*, 2024) the row or input `w` becomes
    /// `m · w' / ‖w'‖`, where `w' = w + scale · Δw`; of that, a strength other than 1 goes so much of the way, as in
    /// ComfyUI. PEFT and LyCORIS take the norm of `w'` whatever `m` belongs to, and so does this; ComfyUI takes that of `w`
    /// where `m` is the outputs'. `norms` are needed if [`Self::needs_column_norms`], and then of all rows.
    ///
    /// What replaces a weight does so at any strength but 0.
    pub fn apply(&self, strength: f32, rows: Range<usize>, weight: &mut [f32], norms: Option<&Norms>) -> Result<()> {
        self.check(&rows, weight.len())?;
        if strength == 0.0 {
            return Ok(());
        }
        let Some(dora) = &self.dora else {
            self.add_change(strength * self.scale, rows, weight);
            return Ok(());
        };
        let factors = match (dora.axis, norms) {
            (Axis::Row, _) => Vec::new(),
            (Axis::Input(width), Some(norms))
                if norms.rows == self.rows && norms.squares.len() == dora.magnitude.len() =>
            {
                let factors = dora.magnitude.iter().zip(&norms.squares).map(|(m, square)| factor(*m, *square));
                factors.flat_map(|factor| std::iter::repeat_n(factor, width)).collect()
            }
            (Axis::Input(_), _) => return Err(Error::failed("an adapter needs the norms of all rows of a weight")),
        };
        let mut sum = weight.to_vec();
        self.add_change(self.scale, rows.clone(), &mut sum);
        let cols = self.cols.max(1);
        let magnitudes = dora.magnitude.get(rows).unwrap_or_default();
        for (i, (weight, sum)) in weight.chunks_exact_mut(cols).zip(sum.chunks_exact_mut(cols)).enumerate() {
            match (dora.axis, magnitudes.get(i)) {
                (Axis::Row, magnitude) => {
                    let factor = factor(magnitude.copied().unwrap_or_default(), squares(sum));
                    sum.iter_mut().for_each(|s| *s *= factor);
                }
                (Axis::Input(_), _) => sum.iter_mut().zip(&factors).for_each(|(s, factor)| *s *= factor),
            }
            if strength == 1.0 {
                weight.copy_from_slice(sum);
            } else {
                weight.iter_mut().zip(sum).for_each(|(w, s)| *w += strength * (*s - *w));
            }
        }
        Ok(())
    }
    fn check(&self, rows: &Range<usize>, len: usize) -> Result<()> {
        let fits = rows.start <= rows.end && rows.end <= self.rows && rows.len().checked_mul(self.cols) == Some(len);
        let about = || format!("{} numbers are not rows {rows:?} of an adapter's {} × {}", len, self.rows, self.cols);
        if fits { Ok(()) } else { Err(Error::failed(about())) }
    }
    /// `slab += by · ΔW`, or `slab = W` of what replaces it.
    fn add_change(&self, by: f32, rows: Range<usize>, slab: &mut [f32]) {
        let cols = self.cols;
        match &self.form {
            Form::Plain(matrix) => {
                let mut room = room();
                blocks(rows, cols, slab, |row, from, part| {
                    let change = room.get_mut(..part.len()).unwrap_or_default();
                    matrix.row(row, from, change);
                    add_scaled(by, change, part);
                });
            }
            Form::Hadamard(left, right) => {
                let mut rooms = [room(), room()];
                blocks(rows, cols, slab, |row, from, part| {
                    let [a, b] = rooms.each_mut().map(|room| room.get_mut(..part.len()).unwrap_or_default());
                    left.row(row, from, a);
                    right.row(row, from, b);
                    a.iter_mut().zip(&*b).for_each(|(a, b)| *a *= b);
                    add_scaled(by, a, part);
                });
            }
            Form::Kronecker(left, right) => {
                let (mut a, mut b) = (vec![0.0; left.cols()], vec![0.0; right.cols()]);
                for (row, line) in rows.zip(slab.chunks_exact_mut(cols.max(1))) {
                    left.row(row / right.rows(), 0, &mut a);
                    right.row(row % right.rows(), 0, &mut b);
                    for (weight, part) in a.iter().zip(line.chunks_exact_mut(b.len())) {
                        add_scaled(by * weight, &b, part);
                    }
                }
            }
            Form::Set(matrix) => blocks(rows, cols, slab, |row, from, part| matrix.row(row, from, part)),
        }
    }
}

/// A magnitude by its norm. Nothing can be scaled to a length that it has not: zeros stay zeros.
fn factor(magnitude: f32, square: f64) -> f32 {
    (f64::from(magnitude) / square.sqrt().max(f64::from(f32::EPSILON))) as f32
}

fn squares(row: &[f32]) -> f64 {
    let (eights, rest) = row.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for eight in eights {
        for (sum, v) in sums.iter_mut().zip(eight) {
            *sum += f64::from(*v) * f64::from(*v);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
}

#[cfg(test)]
mod tests;
