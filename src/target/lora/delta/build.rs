//! A change made of a module's arrays: shapes checked, scale and magnitudes sorted out.
use super::super::keys::{Kind, Module, Role};
use super::super::targets::Field;
use super::matrix::Matrix;
use super::{Axis, Delta, Dora, Form};
use crate::core::{Error, Result};

/// An array of an adapter file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its name in the file.
    pub key: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its numbers, row by row.
    pub data: Vec<f32>,
}

/// Beyond any adapter: the core of a Tucker decomposition is multiplied out, to rank by columns.
const MAX_RANK: usize = 1 << 14;

/// What a tensor of some shape is expected to be, and what is there.
fn wrong(array: &Array, expected: &str) -> Error {
    Error::failed(format!("{}: {:?}, expected {expected}", array.key, array.shape))
}

/// Arrays by the parts they play.
struct Arrays(Vec<(Role, Array)>);

impl Arrays {
    fn take(&mut self, role: Role) -> Option<Array> {
        let at = self.0.iter().position(|(r, _)| *r == role)?;
        Some(self.0.swap_remove(at).1)
    }
    fn need(&mut self, role: Role) -> Result<Array> {
        self.take(role).ok_or_else(|| Error::failed(format!("an array of an adapter is missing ({role:?})")))
    }
}

/// What an array is as a matrix: the first dimension by all others.
struct Flat {
    rows: usize,
    cols: usize,
}

impl Array {
    fn flat(&self) -> Result<Flat> {
        let small = |n: u64| usize::try_from(n).ok();
        let (rows, rest) = self.shape.split_first().map_or((1, &[][..]), |(rows, rest)| (*rows, rest));
        let cols = rest.iter().try_fold(1usize, |n, dim| n.checked_mul(small(*dim)?));
        let flat = small(rows).zip(cols).map(|(rows, cols)| Flat { rows, cols });
        let flat = flat.filter(|f| f.rows.checked_mul(f.cols) == Some(self.data.len()) && !self.data.is_empty());
        flat.ok_or_else(|| wrong(self, &format!("a shape of {} numbers", self.data.len())))
    }
    fn dim(&self, index: usize) -> usize {
        self.shape.get(index).and_then(|dim| usize::try_from(*dim).ok()).unwrap_or(1)
    }
    fn number(&self) -> Result<f32> {
        match self.data.as_slice() {
            [number] => Ok(*number),
            _ => Err(wrong(self, "one number")),
        }
    }
}

impl Delta {
    /// The change that a field of a module makes, of all of the module's arrays.
    ///
    /// `inputs` are the dimensions of the weight after its first: `[in]`, or `[in, k, k]` of a convolution.
    /// `transposed` is that of [`Base`](super::super::targets::Base). `config` is what the update is scaled by where
    /// the file has no alpha.
    pub fn new(
        module: &Module,
        field: Field,
        arrays: Vec<(Role, Array)>,
        inputs: &[u64],
        transposed: bool,
        config: Option<f32>,
    ) -> Result<Self> {
        // One of these would spread through the whole weight. Of alpha see `scale`.
        let broken = |(role, array): &&(Role, Array)| *role != Role::Alpha && !array.data.iter().all(|v| v.is_finite());
        if let Some((_, array)) = arrays.iter().find(broken) {
            return Err(Error::failed(format!("{}: holds what is no number, or infinite", array.key)));
        }
        let mut arrays = Arrays(arrays);
        if field == Field::Bias {
            return bias(&mut arrays, config);
        }
        let alpha = arrays.take(Role::Alpha);
        let (form, rank) = form(module.kind, &mut arrays)?;
        let (rows, cols) = form.size().ok_or_else(|| Error::failed(format!("{}: too large", module.path)))?;
        let scale = match (module.kind, alpha) {
            (Kind::Diff | Kind::Set | Kind::Bias, _) => 1.0,
            (_, Some(alpha)) => scale(&alpha, rank)?,
            (_, None) => config.unwrap_or(1.0),
        };
        let mut delta = Self { form, rows, cols, scale, dora: None };
        // Only a LoRA is trained on such a layer; a full difference lies as the weight does.
        let turned = transposed && module.kind == Kind::Lora;
        if turned {
            delta = delta.transposed();
        }
        let kernel = inputs
            .get(1..)
            .unwrap_or_default()
            .iter()
            .try_fold(1usize, |n, dim| n.checked_mul(usize::try_from(*dim).ok()?));
        let kernel = kernel.filter(|k| *k > 0 && delta.cols.is_multiple_of(*k)).unwrap_or(1);
        if let Some(magnitude) = arrays.take(Role::Magnitude) {
            // PEFT's are the outputs', whatever their shape; a table's outputs, and a transposed layer's, are columns.
            let of_columns = module.kind == Kind::Embedding || turned;
            delta.dora = Some(dora(magnitude, of_columns.then_some(1), &delta)?);
        } else if let Some(magnitude) = arrays.take(Role::DoraScale) {
            // LyCORIS': `[out, 1…]` or `[1, in, 1…]`. ComfyUI tells them apart in the same way.
            let of_rows = magnitude.dim(0) == delta.rows && magnitude.data.len() == delta.rows;
            delta.dora = Some(dora(magnitude, (!of_rows).then_some(kernel), &delta)?);
        }
        Ok(delta)
    }
    /// That of a layer whose weight lies `[in, out]`.
    fn transposed(self) -> Self {
        match self.form {
            Form::Plain(matrix) => {
                Self { form: Form::Plain(matrix.transposed()), rows: self.cols, cols: self.rows, ..self }
            }
            _ => self,
        }
    }
}

impl Form {
    fn size(&self) -> Option<(usize, usize)> {
        match self {
            Self::Plain(matrix) | Self::Hadamard(matrix, _) | Self::Set(matrix) => Some((matrix.rows(), matrix.cols())),
            Self::Kronecker(left, right) => {
                left.rows().checked_mul(right.rows()).zip(left.cols().checked_mul(right.cols()))
            }
        }
    }
}

fn scale(alpha: &Array, rank: Option<usize>) -> Result<f32> {
    // A LoKr of two whole matrices has no rank, and alpha then scales nothing; trainers write huge numbers there.
    let Some(rank) = rank else { return Ok(1.0) };
    let scale = alpha.number()? / rank as f32;
    if scale.is_finite() { Ok(scale) } else { Err(Error::failed(format!("{}: not a finite number", alpha.key))) }
}

fn bias(arrays: &mut Arrays, config: Option<f32>) -> Result<Delta> {
    let (array, scale) = match arrays.take(Role::DiffBias) {
        Some(array) => (array, 1.0),
        None => {
            let array = arrays.need(Role::UpBias)?;
            let scale = match (arrays.take(Role::Alpha), arrays.take(Role::Down)) {
                (Some(alpha), Some(down)) => scale(&alpha, Some(down.flat()?.rows))?,
                _ => config.unwrap_or(1.0),
            };
            (array, scale)
        }
    };
    array.flat()?;
    let rows = array.data.len();
    let form = Matrix::whole(rows, 1, array.data).map(Form::Plain);
    let form = form.ok_or_else(|| Error::failed(format!("{}: not a bias", array.key)))?;
    Ok(Delta { form, rows, cols: 1, scale, dora: None })
}

fn dora(magnitude: Array, inputs: Option<usize>, delta: &Delta) -> Result<Dora> {
    let (expected, axis) = match inputs {
        None => (delta.rows, Axis::Row),
        Some(kernel) => (delta.cols / kernel.max(1), Axis::Input(kernel.max(1))),
    };
    if magnitude.data.len() != expected {
        let about = format!("{} numbers, one for each {}", expected, if inputs.is_none() { "output" } else { "input" });
        return Err(wrong(&magnitude, &about));
    }
    Ok(Dora { magnitude: magnitude.data, axis })
}

/// How the weight changes, and the rank that alpha is divided by.
fn form(kind: Kind, arrays: &mut Arrays) -> Result<(Form, Option<usize>)> {
    match kind {
        Kind::Lora => {
            let (up, down) = (arrays.need(Role::Up)?, arrays.need(Role::Down)?);
            let rank = down.flat()?.rows;
            let matrix = match arrays.take(Role::Mid) {
                None => product(up, down)?,
                Some(core) => {
                    let Flat { rows, cols } = up.flat()?;
                    let up =
                        Array { data: transpose(&up.data, rows, cols), shape: vec![cols as u64, rows as u64], ..up };
                    tucker(up, down, core)?
                }
            };
            Ok((Form::Plain(matrix), Some(rank)))
        }
        Kind::Embedding => {
            let (a, b) = (arrays.need(Role::EmbeddingA)?, arrays.need(Role::EmbeddingB)?);
            let rank = a.flat()?.rows;
            Ok((Form::Plain(product(b, a)?.transposed()), Some(rank)))
        }
        Kind::Loha => {
            let (a1, b1) = (arrays.need(Role::HadaW1A)?, arrays.need(Role::HadaW1B)?);
            let (a2, b2) = (arrays.need(Role::HadaW2A)?, arrays.need(Role::HadaW2B)?);
            let rank = b1.flat()?.rows;
            let about = format!("{}, {}", a2.key, b2.key);
            let left = factors(a1, b1, arrays.take(Role::HadaT1))?;
            let right = factors(a2, b2, arrays.take(Role::HadaT2))?;
            if (left.rows(), left.cols()) != (right.rows(), right.cols()) {
                let (found, expected) = ((right.rows(), right.cols()), (left.rows(), left.cols()));
                return Err(Error::failed(format!("{about}: a product of {found:?}, expected {expected:?}")));
            }
            Ok((Form::Hadamard(left, right), Some(rank)))
        }
        Kind::Lokr => {
            let mut rank = None;
            let mut side = |whole, a, b, core: Option<Role>| match arrays.take(whole) {
                Some(array) => {
                    let Flat { rows, cols } = array.flat()?;
                    Matrix::whole(rows, cols, array.data)
                        .ok_or_else(|| Error::failed(format!("{}: too large", array.key)))
                }
                None => {
                    let (a, b) = (arrays.need(a)?, arrays.need(b)?);
                    // Of two factored sides the second's counts.
                    rank = Some(b.flat()?.rows);
                    factors(a, b, core.and_then(|core| arrays.take(core)))
                }
            };
            let left = side(Role::LokrW1, Role::LokrW1A, Role::LokrW1B, None)?;
            let right = side(Role::LokrW2, Role::LokrW2A, Role::LokrW2B, Some(Role::LokrT2))?;
            Ok((Form::Kronecker(left, right), rank))
        }
        Kind::Diff | Kind::Set => {
            let array = arrays.need(if kind == Kind::Diff { Role::Diff } else { Role::Set })?;
            let Flat { rows, cols } = array.flat()?;
            let matrix = Matrix::whole(rows, cols, array.data);
            let matrix = matrix.ok_or_else(|| Error::failed(format!("{}: too large", array.key)))?;
            Ok((if kind == Kind::Diff { Form::Plain(matrix) } else { Form::Set(matrix) }, None))
        }
        Kind::Bias => Err(Error::failed("only the bias of this layer changes")),
    }
}

fn factors(a: Array, b: Array, core: Option<Array>) -> Result<Matrix> {
    match core {
        None => product(a, b),
        Some(core) => tucker(a, b, core),
    }
}

/// `a · b`, both flattened to matrices.
fn product(a: Array, b: Array) -> Result<Matrix> {
    let (left, right) = (a.flat()?, b.flat()?);
    if left.cols != right.rows {
        return Err(wrong(&a, &format!("[…, {}], the rank of {}", right.rows, b.key)));
    }
    let about = || Error::failed(format!("{}: not as many numbers as its shape says", a.key));
    Matrix::product(left.rows, right.rows, right.cols, a.data, b.data).ok_or_else(about)
}

/// `W[o, i, k…] = Σ a[p, o] · core[p, q, k…] · b[q, i]`: the second sum is done here, the first row by row.
fn tucker(a: Array, b: Array, core: Array) -> Result<Matrix> {
    let (left, right, middle) = (a.flat()?, b.flat()?, core.flat()?);
    let (p, q) = (middle.rows, core.dim(1));
    if left.rows != p || right.rows != q {
        return Err(wrong(&core, &format!("[{}, {}, …], the ranks of {} and {}", left.rows, right.rows, a.key, b.key)));
    }
    let kernel = middle.cols / q.max(1);
    let inputs = right.cols;
    let size = p.checked_mul(inputs).and_then(|n| n.checked_mul(kernel));
    let size = size.filter(|_| p <= MAX_RANK).ok_or_else(|| wrong(&core, "a smaller rank"))?;
    let mut sum = Vec::new();
    sum.try_reserve_exact(size).map_err(|_| wrong(&core, "a smaller rank"))?;
    sum.resize(size, 0f32);
    for (sum, core) in sum.chunks_exact_mut(inputs * kernel).zip(core.data.chunks_exact(middle.cols)) {
        for (core, b) in core.chunks_exact(kernel).zip(b.data.chunks_exact(inputs)) {
            for (sum, b) in sum.chunks_exact_mut(kernel).zip(b) {
                sum.iter_mut().zip(core).for_each(|(sum, core)| *sum += core * b);
            }
        }
    }
    let a_rows = transpose(&a.data, left.rows, left.cols);
    let about = || Error::failed(format!("{}: not as many numbers as its shape says", a.key));
    Matrix::product(left.cols, p, inputs * kernel, a_rows, sum).ok_or_else(about)
}

/// Columns as rows.
pub(super) fn transpose(data: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let column = |col: usize| data.iter().skip(col).step_by(cols.max(1)).take(rows).copied();
    (0..cols).flat_map(column).collect()
}
