//! The what-if table: other ways to treat what is acted on, each with its size and its loss.
use std::collections::HashSet;

use super::backend::Alternative;
use super::losses::{Known, Losses, Sums};
use crate::core::plan::Action;
use crate::core::tradeoff::corners;
use crate::core::{Patch, Row, TensorId};

/// Of a set of more tensors than this, so many are measured, spread over all of it.
pub const MEASURED: usize = 16;

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// `uint4 g64 r32`.
    pub label: String,
    /// What taking it says.
    pub patch: Patch,
    /// Whether it is among the first things that a person would think of.
    pub usual: bool,
    /// Bytes of all the tensors then.
    pub bytes: u64,
    /// Rows whose losses make up its loss.
    rows: Vec<Row>,
    /// Of how many of the tensors it is possible, where not of all: the others stay as they are.
    pub partly: Option<usize>,
    /// Whether it is what holds now.
    pub now: bool,
    /// Its loss, as far as it is known.
    pub figure: Option<Figure>,
    /// Whether no mixture of two others is both smaller and better: a corner of the line of best trade-offs.
    pub best: bool,
}

/// A loss in the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// Relative error and MSE; whether they come from a sample.
    Loss {
        /// Σ(w−ŵ)²/Σw².
        relative_error: f64,
        /// mean((w−ŵ)²).
        mse: f64,
        /// From a sample of rows.
        sampled: bool,
    },
    /// It could not be measured.
    Failed,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WhatIf {
    /// What it is about.
    pub ids: Vec<TensorId>,
    /// Its lines, the largest first.
    choices: Vec<Choice>,
    /// The line under the cursor, among the shown ones.
    pub at: usize,
    /// Whether what stands above the table is looked at, from its top.
    pub above: bool,
    /// Whether every line is shown, not only the usual ones and the best.
    pub all: bool,
}

impl WhatIf {
    /// A table of alternatives, each with a row for each of `ids`; `now` has the rows that hold.
    pub fn new(ids: Vec<TensorId>, now: &[&Row], alternatives: Vec<Alternative>) -> Self {
        let step = ids.len().div_ceil(MEASURED).max(1);
        let mut seen: HashSet<Vec<Action>> = HashSet::new();
        let mut choices = Vec::new();
        let stays: Vec<&Action> = now.iter().map(|r| &r.action).collect();
        let held =
            Alternative { patch: Patch::default(), usual: true, rows: now.iter().map(|r| (*r).clone()).collect() };
        for Alternative { patch, usual, rows } in std::iter::once(held).chain(alternatives) {
            let keeps = patch.keep == Some(true);
            // Where it changes nothing it is not offered: the layer stays as it is for some reason.
            if rows.is_empty() || (!keeps && !patch.is_empty() && rows.iter().all(|r| r.excluded)) {
                continue;
            }
            if !seen.insert(rows.iter().map(|r| r.action.clone()).collect()) {
                continue;
            }
            let goes = rows.iter().filter(|r| !r.excluded).count();
            choices.push(Choice {
                label: label(&rows, &patch),
                partly: Some(goes).filter(|n| !keeps && *n > 0 && *n < rows.len()),
                usual,
                bytes: rows.iter().map(Row::bytes_after).sum(),
                now: rows.iter().map(|r| &r.action).eq(stays.iter().copied()),
                rows: rows.into_iter().step_by(step).collect(),
                patch,
                figure: None,
                best: false,
            });
        }
        choices.sort_by_key(|c| std::cmp::Reverse(c.bytes));
        let mut table = Self { ids, choices, at: 0, above: false, all: false };
        let now = table.shown().position(|c| c.now);
        table.at = now.unwrap_or(0);
        table
    }

    /// How many of the tensors the losses come from.
    pub fn measured(&self) -> usize {
        self.choices.first().map_or(0, |c| c.rows.len())
    }

    /// Rows whose losses are not known yet, the usual ones first.
    pub fn wanted(&self, losses: &Losses) -> Vec<Row> {
        let missing = |usual: bool| {
            // Of one tensor the cursor asks for what holds now.
            let alone = self.ids.len() == 1;
            let choices = self.choices.iter().filter(move |c| c.usual == usual && !(c.now && alone));
            let rows = choices.flat_map(|c| &c.rows);
            rows.filter(|r| r.is_lossy() && losses.find(&r.name, &r.action).is_none()).cloned()
        };
        missing(true).chain(missing(false)).collect()
    }

    /// Takes what is known of losses by now.
    pub fn refresh(&mut self, losses: &Losses) {
        let at = self.line().map(|c| c.patch.clone());
        for choice in &mut self.choices {
            choice.figure = figure(&choice.rows, losses);
        }
        // What leaves some as they are is no better for it.
        let point = |c: &Choice| Some((c.bytes, c.relative_error().filter(|_| c.partly.is_none())?));
        let points: Vec<Option<(u64, f64)>> = self.choices.iter().map(point).collect();
        for (choice, best) in self.choices.iter_mut().zip(corners(&points)) {
            choice.best = best;
        }
        // A line that became one of the best is shown from now on; the cursor stays where it was.
        let at = at.and_then(|patch| self.shown().position(|c| c.patch == patch));
        self.at = at.unwrap_or(self.at);
    }

    /// The lines to show. Of the odd ones those that are best, and no larger than what is usual.
    pub fn shown(&self) -> impl Iterator<Item = &Choice> {
        let usual = |c: &&Choice| c.usual && c.patch.svd_rank.is_none() && c.rows.iter().any(Row::is_lossy);
        let most = self.choices.iter().filter(usual).map(|c| c.bytes).max().unwrap_or(u64::MAX);
        self.choices.iter().filter(move |c| self.all || c.usual || c.now || c.best && c.bytes <= most)
    }
    /// The line under the cursor.
    pub fn line(&self) -> Option<&Choice> {
        self.shown().nth(self.at)
    }
    /// How many there are besides.
    pub fn hidden(&self) -> usize {
        self.choices.len() - self.shown().count()
    }
    /// Shows every line, or only the usual ones and the best. The cursor stays at its line where that is shown.
    pub fn show_all(&mut self, all: bool) {
        let at = self.line().map(|c| c.patch.clone());
        self.all = all;
        let now = self.shown().position(|c| c.now);
        let kept = at.and_then(|patch| self.shown().position(|c| c.patch == patch));
        self.at = kept.or(now).unwrap_or(0);
    }
    /// Whether there is anything to choose from.
    pub fn is_empty(&self) -> bool {
        self.choices.iter().all(|c| c.now)
    }
}

impl Choice {
    /// Its relative error, where it is known.
    pub fn relative_error(&self) -> Option<f64> {
        match self.figure? {
            Figure::Loss { relative_error, .. } => Some(relative_error),
            Figure::Failed => None,
        }
    }
}

fn figure(rows: &[Row], losses: &Losses) -> Option<Figure> {
    let mut sums = Sums::default();
    for row in rows.iter().filter(|r| r.is_lossy()) {
        match losses.find(&row.name, &row.action)? {
            Known::Loss(loss, quality) => sums.add(loss, *quality, row.elements(), 0.0),
            Known::Failed(_) => return Some(Figure::Failed),
        }
    }
    let (relative_error, mse) = (sums.relative_error(), sums.mse());
    Some(Figure::Loss { relative_error, mse, sampled: sums.sampled > 0 })
}

/// `uint4 g64 r32`; of several tensors what is said of all of them.
fn label(rows: &[Row], patch: &Patch) -> String {
    let [row] = rows else {
        if patch.is_empty() {
            return "as it is now".into();
        }
        let said = Patch { keep: patch.keep.filter(|keep| *keep), ..patch.clone() };
        return said.to_string();
    };
    row.describe()
}
