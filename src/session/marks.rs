//! Marked tensors. Commands act on the marks if there are any, else on the cursor.
use std::collections::BTreeSet;

use crate::core::TensorId;

/// A set of tensors, in the model's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeSet<TensorId>);

impl Marks {
    /// Marks all of them, or unmarks them when all are marked already. Whether they are marked now.
    pub fn toggle(&mut self, ids: impl IntoIterator<Item = TensorId> + Clone) -> bool {
        let all = ids.clone().into_iter().all(|id| self.0.contains(&id));
        for id in ids {
            if all {
                self.0.remove(&id)
            } else {
                self.0.insert(id)
            };
        }
        !all
    }
    /// Marks all of them.
    pub fn extend(&mut self, ids: impl IntoIterator<Item = TensorId>) {
        self.0.extend(ids);
    }
    /// Whether a tensor is marked.
    pub fn contains(&self, id: TensorId) -> bool {
        self.0.contains(&id)
    }
    /// How many of a range of tensors are marked.
    pub fn count_in(&self, range: std::ops::Range<usize>) -> usize {
        self.0.range(TensorId(range.start as u32)..TensorId(range.end as u32)).count()
    }
    /// The marked tensors.
    pub fn iter(&self) -> impl Iterator<Item = TensorId> {
        self.0.iter().copied()
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Unmarks everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
