//! Marked tensors. Commands act on the marks if there are any, else on the cursor.
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::TensorId;

/// A set of tensors, in the model's order.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    set: BTreeSet<TensorId>,
    /// Another with every change; a copy has that of what it was copied from.
    stamp: u64,
}

impl PartialEq for Marks {
    fn eq(&self, other: &Self) -> bool {
        self.stamp == other.stamp || self.set == other.set
    }
}

impl Marks {
    /// What two sets have in common only where they are the same: so that a large one is not gone through to see whether it
    /// was changed.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }
    fn change(&mut self) {
        static CHANGES: AtomicU64 = AtomicU64::new(0);
        self.stamp = CHANGES.fetch_add(1, Ordering::Relaxed) + 1;
    }
    /// Marks all of them, or unmarks them when all are marked already. Whether they are marked now.
    pub fn toggle(&mut self, ids: impl IntoIterator<Item = TensorId> + Clone) -> bool {
        self.change();
        let all = ids.clone().into_iter().all(|id| self.set.contains(&id));
        for id in ids {
            if all {
                self.set.remove(&id)
            } else {
                self.set.insert(id)
            };
        }
        !all
    }
    /// Marks all of them.
    pub fn extend(&mut self, ids: impl IntoIterator<Item = TensorId>) {
        self.change();
        self.set.extend(ids);
    }
    /// Whether a tensor is marked.
    pub fn contains(&self, id: TensorId) -> bool {
        self.set.contains(&id)
    }
    /// How many of a range of tensors are marked.
    pub fn count_in(&self, range: std::ops::Range<usize>) -> usize {
        self.set.range(TensorId(range.start as u32)..TensorId(range.end as u32)).count()
    }
    /// The marked tensors.
    pub fn iter(&self) -> impl Iterator<Item = TensorId> {
        self.set.iter().copied()
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.set.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
    /// Unmarks everything.
    pub fn clear(&mut self) {
        self.change();
        self.set.clear();
    }
}
