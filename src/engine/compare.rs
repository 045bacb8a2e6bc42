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

/// What the values of tensors of one shape differ by, in the order of `pairs`: the first model's are the weights, the
/// second's what became of them.
pub fn values(
    a: &Arc<Opened>,
    b: &Arc<Opened>,
    pairs: &[(TensorId, TensorId)],
    limits: Limits,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Vec<LossSums>> {
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
            let g = geometry(*x);
            let at = |e: Error| e.at(format!("tensor `{}`", tensor.name));
            let (left, right) = (values::divided(a, *x, g).map_err(at)?, values::divided(b, *y, g).map_err(at)?);
            let slab = |i: usize| {
                cancel.check()?;
                let (mut weights, mut other) = (Vec::new(), Vec::new());
                left.read(g.slab(i), &mut weights)?;
                right.read(g.slab(i), &mut other)?;
                Ok(compare(&weights, &other))
            };
            let slabs: Vec<LossSums> =
                pool.install(|| (0..g.slabs()).into_par_iter().map(slab).collect::<Result<_>>())?;
            let mut sums = LossSums::default();
            slabs.iter().for_each(|s| sums.merge(s));
            progress.done_with(tensor.bytes);
            Ok(sums)
        })
        .collect()
}
