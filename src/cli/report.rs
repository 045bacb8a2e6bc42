//! Rows and totals as JSON, CSV and tables. `plan`, `trial` and `convert` print the same rows in the same order.
use std::path::Path;

use serde_json::{Value, json};

use crate::core::plan::{Plan, Row, total_loss};
use crate::core::recipe::group_size;
use crate::core::{Dtype, LossSums, Model, Result, name, units};
use crate::format::save;
use crate::target;
use crate::target::prior::Prior;

/// Everything that the three commands say.
pub struct Report<'a> {
    /// The model.
    pub model: &'a Model,
    /// The plan.
    pub plan: &'a Plan,
    /// What most tensors become.
    pub dtype: Option<Dtype>,
    /// Where it goes, if anywhere.
    pub output: Option<&'a Path>,
    /// By row; empty for a plan.
    pub losses: &'a [Option<LossSums>],
    /// Bytes of the weight files.
    pub file_bytes: u64,
    /// What was noticed.
    pub warnings: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// Which rows are told.
    pub wanted: &'a dyn Fn(&Row) -> bool,
}

impl Report<'_> {
    fn loss(&self, row: usize) -> Option<&LossSums> {
        self.losses.get(row)?.as_ref()
    }

    /// What a row's error is estimated to cost the model.
    fn damage(&self, prior: &Prior, row: usize) -> Option<f64> {
        let id = self.plan.rows[row].sources.first()?;
        let alpha = prior.alpha.get(id.index())?;
        Some(f64::from(*alpha) * self.loss(row)?.loss().weighed())
    }

    fn rows(&self) -> impl Iterator<Item = (usize, &Row)> {
        self.plan.rows.iter().enumerate().filter(|(_, row)| (self.wanted)(row))
    }

    /// The document of the contract.
    pub fn json(&self) -> Value {
        let t = self.plan.totals(|row| target::is_float(self.model, row));
        let total = total_loss(self.losses.iter().flatten());
        let known = !self.losses.is_empty();
        let prior = Prior::of(self.model);
        let damages: Vec<Option<f64>> = (0..self.plan.rows.len()).map(|i| self.damage(&prior, i)).collect();
        let tensors: Vec<Value> = self
            .rows()
            .map(|(i, row)| {
                let mut json = self.row_json(i, row);
                json["estimated_damage"] = json!(damages[i]);
                json
            })
            .collect();
        json!({
            "target": self.plan.family.name(),
            "model": self.model.label,
            "output": self.output.map(|p| p.display().to_string()),
            "tensors": tensors,
            "warnings": self.warnings,
            "totals": {
                "tensors": t.tensors,
                "output_tensors": t.output_tensors,
                "quantized": t.quantized,
                "parameters": t.parameters,
                "bytes_before": t.bytes_before,
                "bytes_after": t.bytes_after,
                "file_bytes": self.file_bytes,
                "bits_per_weight": t.bits_per_weight,
                "mean_mse": known.then(|| total.loss().mse),
                "relative_error": known.then(|| total.loss().relative_error),
                "estimated_damage": known.then(|| damages.iter().flatten().sum::<f64>()),
                "damage_estimated_by": prior.basis.name(),
                "seconds": self.seconds,
            },
        })
    }

    fn row_json(&self, index: usize, row: &Row) -> Value {
        let loss = self.loss(index).map(LossSums::loss);
        let sources: Vec<&str> = row.sources.iter().map(|id| self.model.tensor(*id).name.as_str()).collect();
        let mut json = json!({
            "name": row.name,
            "sources": sources,
            "shape": row.shape,
            "from": row.from,
            "to": row.to,
            "excluded": row.excluded,
            "reason": row.reason,
            "group_size": row.group_size(),
            "svd_rank": row.svd_rank(),
            "bytes_before": row.bytes_before,
            "bytes_after": row.bytes_after(),
            "mse": loss.map(|l| l.mse),
            "max_error": loss.map(|l| l.max_error),
            "relative_error": loss.map(|l| l.relative_error),
            "sqnr_db": loss.map(|l| l.sqnr_db).filter(|d| d.is_finite()),
        });
        if let Some(weighted) = loss.and_then(|l| l.weighted_relative_error) {
            json["weighted_relative_error"] = json!(weighted);
        }
        json
    }

    /// The losses as CSV.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "name,shape,from,to,excluded,group_size,svd_rank,bytes_before,bytes_after,mse,max_error,relative_error,sqnr_db,weighted_relative_error\n",
        );
        for (i, row) in self.rows() {
            let loss = self.loss(i).map(LossSums::loss);
            let figure = |f: Option<f64>| f.filter(|v| v.is_finite()).map_or_else(String::new, |v| v.to_string());
            let fields = [
                quoted(&row.name),
                shape(row),
                row.from.clone(),
                row.to.clone(),
                row.excluded.to_string(),
                row.group_size().map_or_else(String::new, |g| g.to_string()),
                row.svd_rank().to_string(),
                row.bytes_before.to_string(),
                row.bytes_after().to_string(),
                figure(loss.map(|l| l.mse)),
                figure(loss.map(|l| l.max_error)),
                figure(loss.map(|l| l.relative_error)),
                figure(loss.map(|l| l.sqnr_db)),
                figure(loss.and_then(|l| l.weighted_relative_error)),
            ];
            text.push_str(&fields.join(","));
            text.push('\n');
        }
        text
    }

    /// Writes the losses to a file: CSV by its ending, else JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let is_csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let text = if is_csv { self.csv() } else { format!("{:#}\n", self.json()) };
        save::write_file(path, text.as_bytes())
    }

    /// A table for people: every row, then the totals.
    pub fn table(&self) -> String {
        let mut lines: Vec<[String; 6]> = Vec::new();
        let weighed = self.losses.iter().flatten().any(|s| s.weighted_weight > 0.0);
        for (i, row) in self.rows() {
            // After a trial, what was tried; the plan tells why the others were not.
            if !self.losses.is_empty() && self.loss(i).is_none() {
                continue;
            }
            let mut to = row.to.clone();
            if let Some(size) = row.group_size() {
                to.push_str(&match size {
                    group_size::ROW => " row".to_owned(),
                    group_size::TENSOR => " tensor".to_owned(),
                    n => format!(" g{n}"),
                });
            }
            if row.svd_rank() > 0 {
                to.push_str(&format!(" r{}", row.svd_rank()));
            }
            let last = match (self.loss(i), &row.reason) {
                (Some(sums), _) => {
                    let l = sums.loss();
                    let mut text = format!(
                        "{:>9}  {:>9}  {:>9}",
                        units::error(l.mse),
                        units::error(l.max_error),
                        units::percent(l.relative_error)
                    );
                    if weighed {
                        let weighted = l.weighted_relative_error.map_or_else(String::new, units::percent);
                        text.push_str(&format!("  {weighted:>9}"));
                    }
                    text
                }
                (None, Some(reason)) => reason.clone(),
                (None, None) => String::new(),
            };
            lines.push([
                name::clean(&row.name).into_owned(),
                shape(row),
                row.from.clone(),
                to,
                format!("{} → {}", units::size_short(row.bytes_before), units::size_short(row.bytes_after())),
                name::clean(&last).into_owned(),
            ]);
        }
        let loss_head = match (self.losses.is_empty(), weighed) {
            (true, _) => "",
            (false, false) => "      MSE  max error   relative",
            (false, true) => "      MSE  max error   relative   weighted",
        };
        let heads = ["tensor", "shape", "from", "to", "size", loss_head].map(str::to_owned);
        let mut widths = [0usize; 5];
        for line in lines.iter().chain([&heads]) {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(unicode_width::UnicodeWidthStr::width(cell.as_str()));
            }
        }
        let mut text = String::new();
        for line in [&heads].into_iter().chain(&lines) {
            let mut out = String::new();
            for (i, cell) in line.iter().enumerate() {
                let pad = widths.get(i).map_or(0, |w| w - unicode_width::UnicodeWidthStr::width(cell.as_str()));
                match i {
                    1 | 4 => out.push_str(&format!("{}{cell}  ", " ".repeat(pad))),
                    _ => out.push_str(&format!("{cell}{}  ", " ".repeat(pad))),
                }
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.summary());
        text
    }

    /// The totals, in a line or two.
    pub fn summary(&self) -> String {
        let t = self.plan.totals(|row| target::is_float(self.model, row));
        let mut text = format!(
            "{} of {} tensors to {}{} · {} → {} · {:.2} bits/weight · file {}\n",
            t.quantized,
            t.tensors,
            self.plan.family,
            self.dtype.as_ref().map_or_else(String::new, |d| format!(" {d}")),
            units::size(t.bytes_before),
            units::size(t.bytes_after),
            t.bits_per_weight,
            units::size(self.file_bytes),
        );
        if !self.losses.is_empty() {
            let l = total_loss(self.losses.iter().flatten()).loss();
            text.push_str(&format!(
                "mean MSE {} · max error {} · relative error {}{} · {:.1} s\n",
                units::error(l.mse),
                units::error(l.max_error),
                units::percent(l.relative_error),
                l.weighted_relative_error.map_or_else(String::new, |w| format!(" ({} weighted)", units::percent(w))),
                self.seconds
            ));
            let relative = |i: usize| self.loss(i).map(|s| s.loss().relative_error);
            let worst = self.rows().filter_map(|(i, row)| Some((relative(i)?, row)));
            if let Some((error, row)) = worst.max_by(|a, b| a.0.total_cmp(&b.0)) {
                text.push_str(&format!(
                    "worst {} · relative error {}\n",
                    name::clean(&row.name),
                    units::percent(error)
                ));
            }
        }
        text
    }
}

fn shape(row: &Row) -> String {
    if row.shape.is_empty() {
        return "scalar".into();
    }
    row.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
