//! Adapters (LoRA, LoHa, LoKr, DoRA, full differences) merged into a model's weights before these are quantized.
//!
//! [`keys`] tells what the arrays of an adapter's file are, [`targets`] which tensors of the model they mean, [`delta`]
//! what they add, and here is the order of it: adapters one after the other, each to what those before it have left.
use std::ops::Range;

use crate::core::{Error, Result};

pub mod config;
pub mod delta;
pub mod keys;
mod names;
pub mod targets;

use delta::{Delta, Norms};

/// One change of some rows of a tensor.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The change.
    pub delta: &'a Delta,
    /// What the user multiplies it by.
    pub strength: f32,
    /// Rows of the tensor.
    pub rows: Range<usize>,
    /// Rows of the change; as many.
    pub change: Range<usize>,
    /// Norms of the inputs, where the change needs them (see [`accumulate`]). They are of all rows of the change: where
    /// these lie in several tensors, the norms go on from one tensor's step to the next one's, and then to all of them.
    pub norms: Option<Norms>,
}

impl Step<'_> {
    /// What a slab of rows has of it: rows within the slab, rows of the change.
    fn within(&self, first: usize, rows: usize) -> Option<(Range<usize>, Range<usize>)> {
        let start = self.rows.start.max(first);
        let end = self.rows.end.min(first.checked_add(rows)?);
        if start >= end || self.rows.len() != self.change.len() {
            return None;
        }
        let skipped = start - self.rows.start;
        let change = self.change.start.checked_add(skipped)?;
        Some((start - first..end - first, change..change.checked_add(end - start)?))
    }
}

/// Changes a slab of rows of a tensor, `first` being the first of them. However the tensor is cut into slabs, the
/// numbers are the same.
pub fn merge(steps: &[Step], first: usize, cols: usize, slab: &mut [f32]) -> Result<()> {
    let rows = slab.len().checked_div(cols).unwrap_or_default();
    for step in steps {
        let Some((within, change)) = step.within(first, rows) else { continue };
        let part = slab.get_mut(within.start * cols..within.end * cols);
        let part = part.ok_or_else(|| Error::failed("rows of an adapter lie outside of the tensor"))?;
        step.delta.apply(step.strength, change, part, step.norms.as_ref())?;
    }
    Ok(())
}

/// The steps that [`merge`] cannot do before [`accumulate`] has seen the whole tensor; each of them after those before
/// it.
pub fn in_need_of_norms(steps: &[Step]) -> Vec<usize> {
    let needs = |step: &Step| step.delta.needs_column_norms() && step.strength != 0.0;
    steps.iter().enumerate().filter(|(_, step)| needs(step)).map(|(i, _)| i).collect()
}

/// Adds a slab to the norms that a step needs. `slab` is of the tensor as it was, and is left as the steps before
/// `which` make it. The slabs come in ascending order.
pub fn accumulate(steps: &mut [Step], which: usize, first: usize, cols: usize, slab: &mut [f32]) -> Result<()> {
    let Some((before, step)) = steps.get_mut(..=which).and_then(|steps| steps.split_last_mut()).map(|(s, b)| (b, s))
    else {
        return Ok(());
    };
    merge(before, first, cols, slab)?;
    let rows = slab.len().checked_div(cols).unwrap_or_default();
    let Some((within, change)) = step.within(first, rows) else { return Ok(()) };
    let part = slab.get(within.start * cols..within.end * cols).unwrap_or_default();
    step.delta.accumulate(step.norms.get_or_insert_with(|| step.delta.norms()), change, part)
}

#[cfg(test)]
mod tests;
