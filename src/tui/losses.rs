//! What is known of losses: by row and action, so that undo, redo and toggling back find it again at once.
use std::collections::VecDeque;
use std::ops::Range;

use hashbrown::HashMap;

use super::backend::{Answer, Measure, Outcome};
use super::board::Board;
use crate::core::plan::Action;
use crate::core::{Family, Loss, Row};

/// How much a figure can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// From a sample; the exact figure follows.
    Sampled,
    /// From every value.
    Exact,
    /// From what was written.
    Written,
}

/// What is known of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// Its loss.
    Loss(Loss, Quality),
    /// It could not be measured.
    Failed(String),
}

/// Histograms take 80 KB a tensor, so only those of the latest trials are held.
const MEASURES: usize = 128;

/// So many tensors' alternatives are remembered.
const TABLES: usize = 256;

/// Of other tensors so many losses are kept, the latest.
const KEPT: usize = 16;

/// Losses, and the histograms of the latest.
#[derive(Debug, Default)]
pub struct Losses {
    known: HashMap<String, Vec<(Family, Action, Known)>>,
    measures: VecDeque<(Family, String, Action, Measure)>,
    /// Whose alternatives are remembered, the latest last.
    tried: VecDeque<String>,
    /// α by tensor: what an error there is estimated to cost.
    alpha: Vec<f32>,
    /// By row of the current plan.
    now: Vec<Option<Known>>,
    /// Whether no tensor has a part in two rows.
    one_each: bool,
    /// Rows of which something became known since the last adding up.
    changed: Vec<u32>,
    /// By tensor.
    own: Vec<Sums>,
    /// Of each block of tensors.
    each: Vec<Sums>,
    /// Before each block of tensors, the sums of all before it; at the end, of all.
    blocks: Vec<Sums>,
}

/// Tensors whose sums are put together.
const BLOCK: usize = 512;

/// Sums over measured rows, from which a group's figures follow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Rows measured.
    pub measured: u32,
    /// Of these, from a sample only.
    pub sampled: u32,
    /// Rows that could not be measured.
    pub failed: u32,
    /// Elements of the measured ones.
    pub elements: u64,
    /// Σ(w−ŵ)².
    pub squared_error: f64,
    /// Σw², of those in which anything was lost.
    pub squared_weight: f64,
    /// Σα·relative error.
    pub damage: f64,
}

impl Sums {
    /// Adds a row's loss; `alpha` is what a relative error of 1 there is estimated to cost.
    pub fn add(&mut self, loss: &Loss, quality: Quality, elements: u64, alpha: f32) {
        let error = loss.mse * elements as f64;
        self.measured += 1;
        self.sampled += u32::from(quality == Quality::Sampled);
        self.elements += elements;
        self.squared_error += error;
        if loss.relative_error > 0.0 {
            self.squared_weight += error / loss.relative_error;
        }
        self.damage += f64::from(alpha) * loss.weighed();
    }
    /// Of some together.
    fn of(all: &[Self]) -> Self {
        let mut sums = Self::default();
        all.iter().for_each(|s| sums.merge(s));
        sums
    }
    /// Adds others.
    fn merge(&mut self, other: &Self) {
        self.measured += other.measured;
        self.sampled += other.sampled;
        self.failed += other.failed;
        self.elements += other.elements;
        self.squared_error += other.squared_error;
        self.squared_weight += other.squared_weight;
        self.damage += other.damage;
    }
    /// These less some that are part of them.
    fn without(&self, part: &Self) -> Self {
        Self {
            measured: self.measured - part.measured,
            sampled: self.sampled - part.sampled,
            failed: self.failed - part.failed,
            elements: self.elements - part.elements,
            squared_error: (self.squared_error - part.squared_error).max(0.0),
            squared_weight: (self.squared_weight - part.squared_weight).max(0.0),
            damage: (self.damage - part.damage).max(0.0),
        }
    }
    /// Σ(w−ŵ)²/Σw².
    pub fn relative_error(&self) -> f64 {
        if self.squared_weight > 0.0 { self.squared_error / self.squared_weight } else { 0.0 }
    }
    /// mean((w−ŵ)²).
    pub fn mse(&self) -> f64 {
        self.squared_error / self.elements.max(1) as f64
    }
}

impl Losses {
    /// Nothing is known yet; `alpha` by tensor.
    pub fn new(alpha: Vec<f32>) -> Self {
        Self { alpha, ..Self::default() }
    }

    /// What is known of a row under an action, whatever the plan says.
    pub fn find(&self, name: &str, action: &Action) -> Option<&Known> {
        self.known.get(name)?.iter().find(|(_, a, _)| a == action).map(|(.., known)| known)
    }

    /// What a relative error of 1 in a tensor is estimated to cost.
    pub fn alpha_of(&self, id: Option<&crate::core::TensorId>) -> f32 {
        id.and_then(|id| self.alpha.get(id.index())).copied().unwrap_or(1.0)
    }

    /// Takes a trial's answer. It is shown unless the row has another action by now: the one place where staleness is
    /// decided.
    pub fn answer(&mut self, board: &Board, answer: Answer) -> bool {
        let Some(row) = board.find(&answer.name) else { return false };
        let family = board.plan.family;
        let stale = board.plan.rows[row].action != answer.action;
        let (known, measure) = match answer.outcome {
            Outcome::Sampled(m) => (Known::Loss(m.loss, Quality::Sampled), Some(m)),
            Outcome::Exact(m) => (Known::Loss(m.loss, Quality::Exact), Some(m)),
            Outcome::Failed(text) => (Known::Failed(text), None),
        };
        // A sample does not replace what is known exactly.
        let better = match (&known, self.now.get(row)) {
            (Known::Loss(_, new), Some(Some(Known::Loss(_, old)))) => new >= old,
            _ => true,
        };
        if stale || answer.what_if {
            // Not of what the row is now, but true of what it was, or might be: undo, or taking it, brings it back.
            if answer.what_if {
                self.remember(&answer.name);
            }
            if !matches!(known, Known::Failed(_)) || answer.what_if {
                self.note(family, answer.name, answer.action, known);
            }
            return false;
        }
        if let Some(measure) = measure.filter(|m| m.weights.range().is_some()) {
            self.measures.retain(|(f, n, a, _)| (*f, n, a) != (family, &answer.name, &answer.action));
            self.measures.push_front((family, answer.name.clone(), answer.action.clone(), measure));
            self.measures.truncate(MEASURES);
        }
        if better {
            if let Some(slot) = self.now.get_mut(row) {
                *slot = Some(known.clone());
                self.changed.push(row as u32);
            }
            self.note(family, answer.name, answer.action, known);
        }
        true
    }

    /// Takes a loss that a conversion reports of what it wrote.
    pub fn written(&mut self, board: &Board, family: Family, name: String, action: Action, loss: Loss) {
        let known = Known::Loss(loss, Quality::Written);
        if let Some(row) =
            board.find(&name).filter(|i| board.plan.family == family && board.plan.rows[*i].action == action)
            && let Some(slot) = self.now.get_mut(row)
        {
            *slot = Some(known.clone());
            self.changed.push(row as u32);
        }
        self.note(family, name, action, known);
    }

    /// Notes whose alternatives were looked at last. Of others only what is known exactly is kept: a table has hundreds of
    /// lines, and a model thousands of tensors.
    fn remember(&mut self, name: &str) {
        if self.tried.back().is_some_and(|last| last == name) {
            return;
        }
        self.tried.retain(|n| n != name);
        self.tried.push_back(name.to_owned());
        if self.tried.len() > TABLES
            && let Some(oldest) = self.tried.pop_front()
            && let Some(list) = self.known.get_mut(&oldest)
        {
            list.retain(|(.., known)| matches!(known, Known::Loss(_, quality) if *quality >= Quality::Exact));
            // Of a small tensor all of them are exact.
            let most = list.len().saturating_sub(KEPT);
            list.drain(..most);
        }
    }

    fn note(&mut self, family: Family, name: String, action: Action, known: Known) {
        let list = self.known.entry(name).or_default();
        match list.iter_mut().find(|(f, a, _)| (*f, a) == (family, &action)) {
            // A sample does not replace what is known exactly.
            Some((.., Known::Loss(_, old))) if matches!(&known, Known::Loss(_, new) if new < old) => {}
            Some((.., slot)) => *slot = known,
            None => list.push((family, action, known)),
        }
    }

    /// Looks up again what is known: the plan changed, in those rows or, where none are named, in any.
    pub fn refresh(&mut self, board: &Board, tensors: usize, changed: Option<Vec<u32>>) {
        let family = board.plan.family;
        let known = |row: &Row| {
            let list = self.known.get(&row.name)?;
            list.iter().find(|(f, a, _)| *f == family && *a == row.action).map(|(.., known)| known.clone())
        };
        if let Some(changed) = changed.filter(|_| self.now.len() == board.plan.rows.len()) {
            for i in &changed {
                if let (Some(slot), Some(row)) = (self.now.get_mut(*i as usize), board.plan.rows.get(*i as usize)) {
                    *slot = known(row);
                }
            }
            self.changed.extend(changed);
            return self.sum_up(board, tensors);
        }
        self.now = board.plan.rows.iter().map(known).collect();
        let mut seen = vec![false; tensors];
        let first = |r: &crate::core::Row| r.sources.first().map(|id| id.index());
        self.one_each = board.plan.rows.iter().filter_map(first).all(|id| match seen.get_mut(id) {
            Some(slot) => !std::mem::replace(slot, true),
            None => false,
        });
        // Everything may be another by now.
        self.own.clear();
        self.sum_up(board, tensors);
    }

    /// Adds up what is known: something became so. Only what changed is added up anew: a frame does this, at any size of
    /// model.
    pub fn sum_up(&mut self, board: &Board, tensors: usize) {
        let whole = !self.one_each || self.own.len() != tensors || self.changed.len() > tensors / 8;
        if whole {
            self.own.clear();
            self.own.resize(tensors, Sums::default());
            for row in 0..board.plan.rows.len() {
                self.take(board, row);
            }
            self.each = self.own.chunks(BLOCK).map(Sums::of).collect();
        } else {
            let mut blocks = Vec::new();
            for row in std::mem::take(&mut self.changed) {
                let id = board.plan.rows[row as usize].sources.first().map(|id| id.index());
                if let Some(id) = id.filter(|id| *id < self.own.len()) {
                    self.own[id] = Sums::default();
                    blocks.push(id / BLOCK);
                }
                self.take(board, row as usize);
            }
            blocks.sort_unstable();
            blocks.dedup();
            for block in blocks {
                let end = self.own.len().min((block + 1) * BLOCK);
                self.each[block] = Sums::of(&self.own[block * BLOCK..end]);
            }
        }
        self.changed.clear();
        self.blocks.clear();
        let mut total = Sums::default();
        for block in &self.each {
            self.blocks.push(total);
            total.merge(block);
        }
        self.blocks.push(total);
    }

    /// Adds what is known of a row to its tensor's sums.
    fn take(&mut self, board: &Board, row: usize) {
        let (Some(known), Some(r)) = (self.now.get(row), board.plan.rows.get(row)) else { return };
        let Some(id) = r.sources.first().map(|id| id.index()) else { return };
        let Some(sums) = self.own.get_mut(id) else { return };
        match known {
            Some(Known::Loss(loss, quality)) => {
                sums.add(loss, *quality, r.elements(), self.alpha.get(id).copied().unwrap_or(1.0));
            }
            Some(Known::Failed(_)) => sums.failed += 1,
            None => {}
        }
    }

    /// What is known of a row of the current plan.
    pub fn of_row(&self, row: usize) -> Option<&Known> {
        self.now.get(row)?.as_ref()
    }
    /// Relative error of some rows together, where each of them is known.
    pub fn relative_error_of(&self, board: &Board, rows: &[u32]) -> Option<f64> {
        let mut sums = Sums::default();
        for row in rows {
            let Some(Known::Loss(loss, quality)) = self.of_row(*row as usize) else { return None };
            sums.add(loss, *quality, board.plan.rows.get(*row as usize)?.elements(), 0.0);
        }
        (!rows.is_empty()).then(|| sums.relative_error())
    }
    /// What a tensor's error is estimated to cost, and as a share of what all measured ones do.
    pub fn damage(&self, r: &Range<usize>) -> Option<(f64, f64)> {
        let all = self.blocks.last()?.damage;
        let sums = self.sums(r);
        (sums.measured > 0).then(|| (sums.damage, if all > 0.0 { sums.damage / all } else { 0.0 }))
    }
    /// Sums over a range of tensors.
    pub fn sums(&self, r: &Range<usize>) -> Sums {
        let (start, end) = (r.start.min(self.own.len()), r.end.min(self.own.len()));
        let (first, last) = (start.div_ceil(BLOCK), end / BLOCK);
        let mut sums = Sums::default();
        if first >= last {
            self.own.get(start..end).unwrap_or_default().iter().for_each(|s| sums.merge(s));
            return sums;
        }
        self.own[start..first * BLOCK].iter().for_each(|s| sums.merge(s));
        if let (Some(a), Some(b)) = (self.blocks.get(first), self.blocks.get(last)) {
            sums.merge(&b.without(a));
        }
        self.own[last * BLOCK..end].iter().for_each(|s| sums.merge(s));
        sums
    }
    /// The histograms of a row, where they are still held.
    pub fn measure(&self, family: Family, name: &str, action: &Action) -> Option<&Measure> {
        self.measures.iter().find(|(f, n, a, _)| *f == family && n == name && a == action).map(|(.., m)| m)
    }
}
