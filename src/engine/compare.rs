//! The numbers of two models, tensor by tensor.
use std::sync::Arc;

use rayon::prelude::*;

use super::convert::Progress;
use super::{Limits, pool};
use crate::core::{Cancel, Error, LossSums, Result, TensorId};
use crate::format::Opened;
use crate::quant::compare;
use crate::target::codec::Geometry;
use crate::target::values;

/// What two tensors differ by.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The first's values are the weights, the second's what became of them; nothing where they are no floats.
    pub sums: LossSums,
    /// Whether any number is another. Two that are no numbers are the same.
    pub differs: bool,
}

/// What tensors of one shape differ by, in the order of `pairs`: floats by value, others by their bytes.
pub fn values(
    a: &Arc<Opened>,
    b: &Arc<Opened>,
    pairs: &[(TensorId, TensorId)],
    limits: Limits,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Vec<Difference>> {
    let geometry = |id: TensorId| Geometry::of(&a.model.tensor(id).shape);
    let largest = pairs.iter().map(|(id, _)| geometry(*id).slab_elements() as u64).max().unwrap_or(1);
    let held = pairs.iter().map(|(x, y)| values::memory(a, *x).saturating_add(values::memory(b, *y))).max();
    progress.begin(pairs.len(), pairs.iter().map(|(id, _)| a.model.tensor(*id).bytes).sum());
    let pool = pool(limits.workers(largest, held.unwrap_or(0), 0)?, "compare")?;
    pairs
        .iter()
        .map(|(x, y)| {
            let tensor = a.model.tensor(*x);
            progress.look_at(&tensor.name);
            if !tensor.is_float() {
                let differs = bytes_differ(a, *x, b, *y, cancel)?;
                progress.done_with(tensor.bytes);
                return Ok(Difference { sums: LossSums::default(), differs });
            }
            let g = geometry(*x);
            let at = |e: Error| e.at(format!("tensor `{}`", tensor.name));
            let (left, right) = (values::divided(a, *x, g).map_err(at)?, values::divided(b, *y, g).map_err(at)?);
            let slab = |i: usize| {
                cancel.check()?;
                let (mut weights, mut other) = (Vec::new(), Vec::new());
                left.read(g.slab(i), &mut weights)?;
                right.read(g.slab(i), &mut other)?;
                let differs = weights.iter().zip(&other).any(|(w, o)| w != o && !(w.is_nan() && o.is_nan()));
                Ok(Difference { sums: compare(&weights, &other), differs })
            };
            let slabs: Vec<Difference> =
                pool.install(|| (0..g.slabs()).into_par_iter().map(slab).collect::<Result<_>>())?;
            let mut all = Difference { sums: LossSums::default(), differs: false };
            for slab in slabs {
                all.sums.merge(&slab.sums);
                all.differs |= slab.differs;
            }
            progress.done_with(tensor.bytes);
            Ok(all)
        })
        .collect()
}

/// Whether two plain arrays hold other bytes.
fn bytes_differ(a: &Opened, x: TensorId, b: &Opened, y: TensorId, cancel: &Cancel) -> Result<bool> {
    const CHUNK: u64 = 1 << 20;
    let span = |opened: &Opened, id: TensorId| {
        let tensor = opened.model.tensor(id);
        let array = tensor.sole_array().and_then(|i| opened.model.stored.get(i as usize));
        array.map(|s| s.span).ok_or_else(|| Error::failed(format!("tensor `{}` is no plain array", tensor.name)))
    };
    let (left, right) = (span(a, x)?, span(b, y)?);
    if left.len != right.len {
        return Ok(true);
    }
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < left.len {
        cancel.check()?;
        let n = CHUNK.min(left.len - at) as usize;
        mine.resize(n, 0);
        theirs.resize(n, 0);
        a.blobs[left.file as usize].read_at(left.offset + at, &mut mine)?;
        b.blobs[right.file as usize].read_at(right.offset + at, &mut theirs)?;
        if mine != theirs {
            return Ok(true);
        }
        at += n as u64;
    }
    Ok(false)
}
