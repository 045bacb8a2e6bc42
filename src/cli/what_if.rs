//! `mixdown trial --what-if`: the desk's what-if table, for scripts.
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{Global, TrialArgs};
use super::{print_bytes, print_json, signals};
use crate::core::plan::{Action, Plan, Row};
use crate::core::rules::Pattern;
use crate::core::tradeoff::corners;
use crate::core::{Error, LossSums, Patch, Result, Settings, TensorId, name, units};
use crate::engine::convert::{self, Progress};
use crate::format::Opened;
use crate::target;

/// A tensor with its rows as they might be, the one that holds first.
struct Table {
    id: TensorId,
    rows: Vec<Row>,
    losses: Vec<Option<LossSums>>,
}

pub fn run(global: &Global, args: &TrialArgs, opened: &Arc<Opened>, settings: &Settings) -> Result<u8> {
    let Some(pattern) = &args.tensor else {
        return Err(Error::usage("--what-if tries hundreds of ways for each tensor: say with --tensor REGEX which"));
    };
    let pattern = Pattern::new(pattern).map_err(|e| e.at("--tensor"))?;
    let model = &opened.model;
    let plan = target::plan(model, settings)?;
    let mut tables = Vec::new();
    for row in &plan.rows {
        let names = row.sources.iter().map(|id| model.tensor(*id).name.as_str());
        if let (true, Some(id)) =
            (pattern.hits(&names.chain([row.name.as_str()]).collect::<Vec<_>>()), row.sources.first())
        {
            tables.push(Table { id: *id, rows: alternatives(opened, settings, *id, row)?, losses: Vec::new() });
        }
    }
    if tables.is_empty() {
        return Err(Error::failed(format!("{}: no tensor's name matches `{pattern}`", model.label)));
    }
    // One plan in which each tensor comes in many rows: they are only measured.
    let rows: Vec<Row> = tables.iter().flat_map(|t| t.rows.iter().cloned()).collect();
    let all = Plan { family: plan.family, rows, warnings: Vec::new() };
    let cancel = signals::cancel_on_signal()?;
    let progress = Progress::default();
    let mut losses = super::convert::with_bar(&progress, global, || {
        convert::measure(opened, &all, &|_| true, super::limits(global)?, &cancel, &progress)
    })?;
    for table in &mut tables {
        let rest = losses.split_off(table.rows.len().min(losses.len()));
        table.losses = std::mem::replace(&mut losses, rest);
    }
    if args.json {
        let tensors: Vec<Value> = tables.iter().map(|t| t.json(opened)).collect();
        return print_json(&json!({ "target": plan.family.name(), "model": model.label, "tensors": tensors }));
    }
    let text: Vec<String> = tables.iter().map(|t| t.text(opened)).collect();
    print_bytes(text.join("\n").as_bytes())
}

/// What holds, and every other way that is possible.
fn alternatives(opened: &Opened, settings: &Settings, id: TensorId, now: &Row) -> Result<Vec<Row>> {
    let target = target::get(settings.target);
    let recipe = match &now.action {
        Action::Quantize(recipe) => Some(recipe),
        _ => None,
    };
    let included = |patch: Patch| Patch { keep: Some(false), ..patch };
    let patches = target.alternatives(recipe).into_iter().map(|a| included(a.patch));
    let patches: Vec<Patch> = std::iter::once(Patch::keep()).chain(patches).collect();
    let rows = target.variants(&opened.model, &[id], settings, &patches)?.into_iter().flatten();
    let mut seen = HashSet::from([now.action.clone()]);
    let mut out = vec![now.clone()];
    for (i, row) in rows.enumerate() {
        // Where it changes nothing the layer stays as it is for some reason.
        if (i == 0 || !row.excluded) && seen.insert(row.action.clone()) {
            out.push(row);
        }
    }
    Ok(out)
}

impl Table {
    /// Rows by size, each with whether it holds now and whether it is one of the best trade-offs.
    fn lines(&self) -> Vec<(&Row, Option<&LossSums>, bool, bool)> {
        let loss = |i: usize| self.losses.get(i).and_then(Option::as_ref);
        let error = |i: usize, row: &Row| if row.excluded { Some(0.0) } else { Some(loss(i)?.loss().relative_error) };
        let points: Vec<_> = self.rows.iter().enumerate().map(|(i, r)| Some((r.bytes_after(), error(i, r)?))).collect();
        let best = corners(&points);
        let mut lines: Vec<_> = self.rows.iter().enumerate().map(|(i, row)| (row, loss(i), i == 0, best[i])).collect();
        lines.sort_by_key(|(row, ..)| std::cmp::Reverse(row.bytes_after()));
        lines
    }

    fn json(&self, opened: &Opened) -> Value {
        let choices: Vec<Value> = self
            .lines()
            .into_iter()
            .map(|(row, loss, now, best)| {
                let loss = loss.map(LossSums::loss);
                let hadamard = match &row.action {
                    Action::Quantize(recipe) => recipe.hadamard,
                    _ => 0,
                };
                json!({
                    "label": row.describe(),
                    "to": row.to,
                    "group_size": row.group_size(),
                    "svd_rank": row.svd_rank(),
                    "hadamard": hadamard,
                    "bytes_after": row.bytes_after(),
                    "mse": loss.map(|l| l.mse),
                    "max_error": loss.map(|l| l.max_error),
                    "relative_error": loss.map(|l| l.relative_error),
                    "now": now,
                    "best": best,
                })
            })
            .collect();
        json!({ "name": opened.model.tensor(self.id).name, "choices": choices })
    }

    fn text(&self, opened: &Opened) -> String {
        let mut out = format!("{}\n", name::clean(&opened.model.tensor(self.id).name));
        for (row, loss, now, best) in self.lines() {
            let loss = loss.map(LossSums::loss);
            out.push_str(&format!(
                "{} {:<24} {:>9} {:>10} {:>9} {}\n",
                if now { "•" } else { " " },
                row.describe(),
                units::size(row.bytes_after()),
                loss.map_or_else(String::new, |l| units::error(l.mse)),
                loss.map_or_else(|| "─".to_owned(), |l| units::percent(l.relative_error)),
                if best { "◂" } else { "" },
            ));
        }
        out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
    }
}
