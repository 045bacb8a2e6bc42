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
    /// Of a tensor that is cut into several rows, those after the first.
    more: HashMap<u32, Vec<u32>>,
    before: Vec<u64>,
    after: Vec<u64>,
    quantized: Vec<u32>,
    dropped: Vec<u32>,
    /// What stays as it is; the rest of what is not quantized is cast.
    kept: Vec<u32>,
    /// Rows that lose something, each counted with its first tensor.
    lossy: Vec<u32>,
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
            more: HashMap::new(),
            lossy: Vec::with_capacity(n + 1),
            before: Vec::with_capacity(n + 1),
            after: Vec::with_capacity(n + 1),
            quantized: Vec::with_capacity(n + 1),
            dropped: Vec::with_capacity(n + 1),
            kept: Vec::with_capacity(n + 1),
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
        // What several tensors are fused into is measured with the first of them, and its bytes are theirs by their size.
        let (mut after, mut lossy) = (vec![0u64; n], vec![0u32; n]);
        for (i, row) in board.plan.rows.iter().enumerate() {
            let bytes = |id: &TensorId| model.tensors.get(id.index()).map_or(0, |t| t.bytes);
            let (all, mut left) = (row.sources.iter().map(bytes).sum::<u64>(), row.bytes_after());
            for (k, id) in row.sources.iter().enumerate().rev() {
                let Some(slot) = board.row_of.get_mut(id.index()) else { continue };
                match (slot.is_some(), k) {
                    (true, 0) => board.more.entry(id.0).or_default().push(i as u32),
                    (true, _) => {}
                    (false, _) => *slot = Some(i as u32),
                }
                let share = u128::from(row.bytes_after()) * u128::from(bytes(id)) / u128::from(all.max(1));
                let share = if k == 0 { left } else { share as u64 };
                left -= share;
                after[id.index()] += share;
                lossy[id.index()] += u32::from(k == 0 && row.is_lossy());
            }
        }
        let (mut b, mut a, mut q, mut d, mut k, mut e, mut l) = (0, 0, 0, 0, 0, 0, 0);
        board.before.push(0);
        board.after.push(0);
        board.quantized.push(0);
        board.dropped.push(0);
        board.kept.push(0);
        board.elements.push(0);
        board.lossy.push(0);
        for (i, tensor) in model.tensors.iter().enumerate() {
            b += tensor.bytes;
            a += after[i];
            q += u32::from(board.row(TensorId(i as u32)).is_some_and(|r| !r.excluded));
            d += u32::from(board.row(TensorId(i as u32)).is_none_or(|r| label(r) == DROP));
            k += u32::from(board.row(TensorId(i as u32)).is_some_and(|r| label(r) == KEEP));
            e += tensor.elements();
            l += lossy[i];
            board.lossy.push(l);
            board.before.push(b);
            board.after.push(a);
            board.quantized.push(q);
            board.dropped.push(d);
            board.kept.push(k);
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

    /// Whether it has no rows: of a model that is not planned yet, or that has no tensors.
    pub fn is_empty(&self) -> bool {
        self.plan.rows.is_empty()
    }

    /// Rows with which something else is done than in an earlier plan; `None` where the two have other rows.
    pub fn changed_since(&self, before: &Self) -> Option<Vec<u32>> {
        // Names are shared where they are the same.
        if !Arc::ptr_eq(&self.by_name, &before.by_name) || self.plan.family != before.plan.family {
            return None;
        }
        let mut changed = Vec::new();
        for (i, (a, b)) in before.plan.rows.iter().zip(&self.plan.rows).enumerate() {
            if (&a.sources, &a.slices, &a.shape) != (&b.sources, &b.slices, &b.shape) {
                return None;
            }
            if a.action != b.action {
                changed.push(i as u32);
            }
        }
        Some(changed)
    }

    fn to(&self, tensor: usize) -> &str {
        self.row(TensorId(tensor as u32)).map_or("─", label)
    }
    /// The row that a tensor goes into.
    pub fn row(&self, id: TensorId) -> Option<&Row> {
        self.plan.rows.get(self.index(id)?)
    }
    /// The rows that are measured with a tensor: it is the first of what they are made of.
    pub fn measured_with(&self, id: TensorId) -> impl Iterator<Item = usize> {
        let more = self.more.get(&id.0).into_iter().flatten().map(|i| *i as usize);
        let first = self.index(id).filter(|i| self.plan.rows.get(*i).is_some_and(|r| r.sources.first() == Some(&id)));
        first.into_iter().chain(more)
    }
    /// Rows of a range of tensors that lose something, each counted with its first tensor.
    pub fn lossy(&self, r: &Range<usize>) -> usize {
        (self.lossy[r.end] - self.lossy[r.start]) as usize
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
    /// How many of them are not written at all.
    pub fn dropped(&self, r: &Range<usize>) -> usize {
        (self.dropped[r.end] - self.dropped[r.start]) as usize
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
        // What is left out says nothing of what is not.
        let kept = (self.kept[r.end] - self.kept[r.start]) as usize;
        if kept > 0 && kept + self.dropped(r) == r.len() {
            return Some(KEEP);
        }
        (self.same_to[last] as usize <= r.start).then(|| self.to(last))
    }
    /// What all of them are now, or `None` where they differ.
    pub fn is(&self, r: &Range<usize>) -> Option<&str> {
        let last = r.end.checked_sub(1)?;
        (self.same_from[last] as usize <= r.start).then(|| &*self.from[last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::testing::model_of;
    use crate::core::plan::{Part, Slice};
    use crate::core::rules::Cause;
    use crate::core::{Dtype, Family, Recipe};

    fn row(name: &str, sources: &[u32], bytes: u64) -> Row {
        Row {
            name: name.into(),
            change: Default::default(),
            sources: sources.iter().map(|id| TensorId(*id)).collect(),
            slices: vec![Slice::of_rows(0, 0..1)],
            bias: Vec::new(),
            shape: vec![1, 1],
            from: "BF16".into(),
            to: "int4".into(),
            excluded: false,
            reason: None,
            cause: Cause::Defaults,
            action: Action::Quantize(Recipe::plain(Family::Sdnq, Dtype::new("int4"), 64)),
            parts: vec![Part { name: name.into(), storage: Storage::U8, shape: vec![bytes] }],
            bytes_before: 0,
        }
    }

    #[test]
    fn what_is_fused_is_shared_and_what_is_cut_is_measured_with_it() {
        let mut model = model_of(&["a", "b", "c"]);
        for (tensor, bytes) in model.tensors.iter_mut().zip([100, 300, 50]) {
            tensor.bytes = bytes;
        }
        // a and b become one, c two.
        let rows = vec![row("ab", &[0, 1], 41), row("c.first", &[2], 10), row("c.rest", &[2], 20)];
        let plan = Plan { family: Family::Sdnq, rows, warnings: Vec::new() };
        let board = Board::new(&model, Arc::new(plan), Totals::default(), None);
        let check = |id: u32, after: u64, measured: &[usize]| {
            let range = id as usize..id as usize + 1;
            assert_eq!(board.after(&range), after, "{id}");
            assert_eq!(board.measured_with(TensorId(id)).collect::<Vec<_>>(), measured, "{id}");
            assert_eq!(board.lossy(&range), measured.len(), "{id}");
        };
        check(0, 11, &[0]);
        check(1, 30, &[]);
        check(2, 30, &[1, 2]);
        assert_eq!(board.after(&(0..3)), 71);
        assert_eq!((board.quantized(&(0..3)), board.dropped(&(0..3))), (3, 0));
    }

    #[test]
    fn what_is_not_written_is_not_counted_as_kept() {
        let model = model_of(&["a", "b", "c"]);
        let left = |name: &str, id, parts: Vec<Part>| Row {
            excluded: true,
            action: Action::Copy,
            parts,
            ..row(name, &[id], 0)
        };
        let part = Part { name: "b".into(), storage: Storage::BF16, shape: vec![1] };
        // Of c there is no row at all.
        let rows = vec![left("a", 0, Vec::new()), left("b", 1, vec![part])];
        let plan = Plan { family: Family::Sdnq, rows, warnings: Vec::new() };
        let board = Board::new(&model, Arc::new(plan), Totals::default(), None);
        let dropped: Vec<usize> = (0..3).map(|i| board.dropped(&(i..i + 1))).collect();
        assert_eq!(dropped, [1, 0, 1]);
        assert_eq!(board.becomes(&(0..2)), Some(KEEP));
        assert_eq!(board.becomes(&(0..1)), Some(DROP));
        assert_eq!((board.quantized(&(0..3)), board.dropped(&(0..3))), (0, 2));
    }
}
