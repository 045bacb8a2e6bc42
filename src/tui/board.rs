//! The plan as the tree sees it: per tensor, and summed over any range of tensors at once.
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::core::model::Encoding;
use crate::core::plan::{Action, Totals};
use crate::core::{Model, Plan, Row, Storage, Tensor, TensorId};

/// What is said of a tensor that is left as it is.
pub const KEEP: &str = "keep";
/// What stands there where nothing is written.
pub const DROP: &str = "drop";

/// A plan with its look-ups. Made anew when the plan changes; every question about a group is then O(1).
#[derive(Debug)]
pub struct Board {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its sums.
    pub totals: Totals,
    by_name: Arc<HashMap<String, u32>>,
    row_of: Vec<Option<u32>>,
    before: Vec<u64>,
    after: Vec<u64>,
    quantized: Vec<u32>,
    elements: Vec<u64>,
    /// For each tensor the first of the run of tensors up to it that have the same label.
    same_to: Vec<u32>,
    same_from: Vec<u32>,
    /// The same of the quantized ones alone, with the last of these.
    same_quantized: Vec<(u32, u32)>,
    from: Arc<Vec<Arc<str>>>,
    /// Columns that the widest label takes.
    pub label_width: usize,
    /// Columns that the widest source dtype takes.
    pub from_width: usize,
}

/// What is written in the `to` column.
pub fn label(row: &Row) -> &str {
    match row.action {
        Action::Copy if row.parts.is_empty() => DROP,
        Action::Copy => KEEP,
        _ => &row.to,
    }
}

/// What each tensor is now. Neighbours mostly are alike, and share a name.
fn sources(model: &Model) -> Vec<Arc<str>> {
    let mut last: Option<(Storage, Arc<str>)> = None;
    let mut name = |t: &Tensor| match (&t.encoding, &last) {
        (Encoding::Plain(_), Some((storage, name))) if *storage == t.storage => Arc::clone(name),
        (Encoding::Plain(_), _) => {
            let name: Arc<str> = t.dtype_name().into();
            last = Some((t.storage, Arc::clone(&name)));
            name
        }
        (Encoding::Packed { .. }, _) => t.dtype_name().into(),
    };
    model.tensors.iter().map(&mut name).collect()
}

impl Board {
    /// The look-ups of a plan over its model. What does not change from one plan to the next is taken over.
    pub fn new(model: &Model, plan: Arc<Plan>, totals: Totals, before: Option<&Self>) -> Self {
        let n = model.tensors.len();
        let same_rows = |b: &&Self| {
            b.plan.rows.len() == plan.rows.len() && b.plan.rows.iter().zip(&plan.rows).all(|(a, b)| a.name == b.name)
        };
        let by_name = before.filter(same_rows).map(|b| Arc::clone(&b.by_name)).unwrap_or_else(|| {
            Arc::new(plan.rows.iter().enumerate().map(|(i, r)| (r.name.clone(), i as u32)).collect())
        });
        let from = before.map(|b| Arc::clone(&b.from)).unwrap_or_else(|| Arc::new(sources(model)));
        let mut board = Self {
            by_name,
            row_of: vec![None; n],
            before: Vec::with_capacity(n + 1),
            after: Vec::with_capacity(n + 1),
            quantized: Vec::with_capacity(n + 1),
            elements: Vec::with_capacity(n + 1),
            same_to: Vec::with_capacity(n),
            same_from: Vec::with_capacity(n),
            same_quantized: Vec::with_capacity(n),
            from,
            label_width: plan.rows.iter().map(|r| super::text::width(label(r))).max().unwrap_or(0),
            from_width: 0,
            plan,
            totals,
        };
        board.from_width = board.from.iter().map(|f| super::text::width(f)).max().unwrap_or(0);
        // What several tensors are fused into is counted with the first of them; what a tensor is split into, with it.
        let mut after = vec![0u64; n];
        for (i, row) in board.plan.rows.iter().enumerate() {
            for (k, id) in row.sources.iter().enumerate() {
                if let Some(slot) = board.row_of.get_mut(id.index()) {
                    slot.get_or_insert(i as u32);
                    if k == 0 {
                        after[id.index()] += row.bytes_after();
                    }
                }
            }
        }
        let (mut b, mut a, mut q, mut e) = (0, 0, 0, 0);
        board.before.push(0);
        board.after.push(0);
        board.quantized.push(0);
        board.elements.push(0);
        for (i, tensor) in model.tensors.iter().enumerate() {
            b += tensor.bytes;
            a += after[i];
            q += u32::from(board.row(TensorId(i as u32)).is_some_and(|r| !r.excluded));
            e += tensor.elements();
            board.before.push(b);
            board.after.push(a);
            board.quantized.push(q);
            board.elements.push(e);
            let to = match board.same_to.last() {
                Some(first) if board.to(i) == board.to(i - 1) => *first,
                _ => i as u32,
            };
            let from = match board.same_from.last() {
                Some(first) if board.from[i] == board.from[i - 1] => *first,
                _ => i as u32,
            };
            let quantized = board.row(TensorId(i as u32)).is_some_and(|r| !r.excluded);
            let last = board.same_quantized.last().copied();
            board.same_quantized.push(match (last, quantized) {
                (None, true) => (0, i as u32),
                (None, false) => (0, u32::MAX),
                (Some(run), false) => run,
                (Some((first, last)), true) if last == u32::MAX || board.to(last as usize) == board.to(i) => {
                    (first, i as u32)
                }
                (Some((_, last)), true) => (last + 1, i as u32),
            });
            board.same_to.push(to);
            board.same_from.push(from);
        }
        board
    }

    fn to(&self, tensor: usize) -> &str {
        self.row(TensorId(tensor as u32)).map_or("─", label)
    }
    /// The row that a tensor goes into.
    pub fn row(&self, id: TensorId) -> Option<&Row> {
        self.plan.rows.get(self.index(id)?)
    }
    /// That row's index.
    pub fn index(&self, id: TensorId) -> Option<usize> {
        self.row_of.get(id.index()).copied().flatten().map(|i| i as usize)
    }
    /// The row of that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).map(|i| *i as usize)
    }
    /// Bytes of a range of tensors now.
    pub fn before(&self, r: &Range<usize>) -> u64 {
        self.before[r.end] - self.before[r.start]
    }
    /// Their bytes in the output.
    pub fn after(&self, r: &Range<usize>) -> u64 {
        self.after[r.end] - self.after[r.start]
    }
    /// How many of them are quantized.
    pub fn quantized(&self, r: &Range<usize>) -> usize {
        (self.quantized[r.end] - self.quantized[r.start]) as usize
    }
    /// Their elements.
    pub fn elements(&self, r: &Range<usize>) -> u64 {
        self.elements[r.end] - self.elements[r.start]
    }
    /// What all of them become that are quantized, or, where none is, all of them; `None` where they differ.
    pub fn becomes(&self, r: &Range<usize>) -> Option<&str> {
        let last = r.end.checked_sub(1)?;
        if self.quantized(r) > 0 {
            let (first, last) = self.same_quantized[last];
            return (first as usize <= r.start).then(|| self.to(last as usize));
        }
        (self.same_to[last] as usize <= r.start).then(|| self.to(last))
    }
    /// What all of them are now, or `None` where they differ.
    pub fn is(&self, r: &Range<usize>) -> Option<&str> {
        let last = r.end.checked_sub(1)?;
        (self.same_from[last] as usize <= r.start).then(|| &*self.from[last])
    }
}
