//! `mixdown diff`.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::args::{DiffArgs, Global, ModelArg};
use super::inspect::header;
use super::{print_bytes, print_json, signals};
use crate::core::{Error, Loss, Result, Tensor, TensorId, name, units};
use crate::engine::compare;
use crate::engine::convert::Progress;
use crate::format::Opened;
use crate::target::check::{self, Check, Level};
use crate::target::faithful;

pub fn run(global: &Global, args: &DiffArgs) -> Result<u8> {
    let (first, second) = match (&args.models[..], args.demo) {
        ([a, b], false) => (Some(a), b),
        ([b], true) => (None, b),
        _ => return Err(Error::usage("diff compares two models: A and B, or --demo and B")),
    };
    let open = |label: Option<&String>| {
        let component = args.component.clone();
        super::open(&ModelArg { model: label.cloned(), demo: label.is_none(), component }, global)
    };
    let (a, b) = (open(first)?, open(Some(second))?);
    let mut found = Difference::of(&a, &b);
    if args.values {
        found.values = values(&a, &b, global)?;
    }
    if args.check {
        found.checks = faithful::checks(&a, &b);
        found.checks.extend(args.values.then(|| numbers(&found.values)));
    }
    let code = match args.check {
        true => u8::from(!check::passes(&found.checks)),
        false => u8::from(!found.same()),
    };
    match args.json {
        true => print_json(&found.json())?,
        false => print_bytes(found.text(args.check).as_bytes())?,
    };
    Ok(code)
}

/// What two models differ by.
#[derive(Default)]
struct Difference {
    added: BTreeMap<String, Value>,
    removed: BTreeMap<String, Value>,
    changed: BTreeMap<String, [Value; 2]>,
    tensors_added: Vec<String>,
    tensors_removed: Vec<String>,
    tensors_changed: Vec<[Tensor; 2]>,
    /// Of tensors of one name and shape.
    values: Vec<(String, compare::Difference)>,
    checks: Vec<Check>,
}

impl Difference {
    fn of(a: &Opened, b: &Opened) -> Self {
        let mut found = Self::default();
        let (mine, theirs) = (faithful::keys(a), faithful::keys(b));
        for key in mine.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            match (mine.get(key), theirs.get(key)) {
                (Some(x), None) => drop(found.removed.insert(key.clone(), header(&x.shown))),
                (None, Some(y)) => drop(found.added.insert(key.clone(), header(&y.shown))),
                (Some(x), Some(y)) if x.raw != y.raw => {
                    found.changed.insert(key.clone(), [header(&x.shown), header(&y.shown)]);
                }
                _ => {}
            }
        }
        let missing = |from: &Opened, other: &Opened| -> Vec<String> {
            let names = from.model.tensors.iter().map(|t| &t.name);
            names.filter(|n| other.model.find(n).is_none()).cloned().collect()
        };
        (found.tensors_added, found.tensors_removed) = (missing(b, a), missing(a, b));
        for x in &a.model.tensors {
            let Some(y) = b.model.find(&x.name).map(|id| b.model.tensor(id)) else { continue };
            if x.shape != y.shape || x.dtype_name() != y.dtype_name() {
                found.tensors_changed.push([x.clone(), y.clone()]);
            }
        }
        found
    }

    fn same(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
            && self.tensors_added.is_empty()
            && self.tensors_removed.is_empty()
            && self.tensors_changed.is_empty()
            && self.values.iter().all(|(_, d)| !d.differs)
    }

    fn json(&self) -> Value {
        let both = |[a, b]: &[Value; 2]| json!({"a": a, "b": b});
        let map = |keys: &BTreeMap<String, Value>| -> Map<String, Value> {
            keys.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let changed: Map<String, Value> = self.changed.iter().map(|(k, v)| (k.clone(), both(v))).collect();
        let tensor = |[a, b]: &[Tensor; 2]| {
            json!({
                "name": a.name,
                "dtype": {"a": a.dtype_name(), "b": b.dtype_name()},
                "shape": {"a": a.shape, "b": b.shape},
            })
        };
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|c| json!({"name": c.name, "ok": c.level == Level::Ok, "detail": c.detail}))
            .collect();
        let mut document = json!({
            "metadata": {"added": map(&self.added), "removed": map(&self.removed), "changed": changed},
            "tensors": {
                "added": self.tensors_added,
                "removed": self.tensors_removed,
                "changed": self.tensors_changed.iter().map(tensor).collect::<Vec<_>>(),
            },
            "checks": checks,
            "same": self.same(),
        });
        if !self.values.is_empty() {
            let value = |(name, d): &(String, compare::Difference)| {
                // JSON has no word for what is no number: null.
                let Loss { mse, max_error, relative_error, .. } = d.sums.loss();
                json!({
                    "name": name, "same": !d.differs,
                    "mse": mse, "max_error": max_error, "relative_error": relative_error,
                })
            };
            document["values"] = self.values.iter().map(value).collect();
        }
        document
    }

    /// For people; of a check only what it found.
    fn text(&self, checked: bool) -> String {
        let mut out = if checked { String::new() } else { self.differences() };
        for check in &self.checks {
            out.push_str(&format!("{} {}: {}\n", check.level.mark(), check.name, name::clean(&check.detail)));
        }
        if out.is_empty() { "no difference\n".into() } else { out }
    }

    fn differences(&self) -> String {
        let mut out = String::new();
        let word = |v: &Value| match v {
            Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        for (title, keys, mark) in [("added", &self.added, '+'), ("removed", &self.removed, '-')] {
            if !keys.is_empty() {
                out.push_str(&format!("keys {title}\n"));
            }
            for (key, value) in keys {
                out.push_str(&format!("  {mark} {} = {}\n", name::clean(key), name::clean(&word(value))));
            }
        }
        if !self.changed.is_empty() {
            out.push_str("keys changed\n");
        }
        for (key, [a, b]) in &self.changed {
            let (a, b) = (word(a), word(b));
            out.push_str(&format!("  ~ {} = {} → {}\n", name::clean(key), name::clean(&a), name::clean(&b)));
        }
        for (title, names, mark) in [("added", &self.tensors_added, '+'), ("removed", &self.tensors_removed, '-')] {
            if !names.is_empty() {
                out.push_str(&format!("tensors {title}: {}\n", names.len()));
            }
            for n in names {
                out.push_str(&format!("  {mark} {}\n", name::clean(n)));
            }
        }
        if !self.tensors_changed.is_empty() {
            out.push_str(&format!("tensors changed: {}\n", self.tensors_changed.len()));
        }
        for [a, b] in &self.tensors_changed {
            let mut what = Vec::new();
            if a.dtype_name() != b.dtype_name() {
                what.push(format!("{} → {}", a.dtype_name(), b.dtype_name()));
            }
            if a.shape != b.shape {
                what.push(format!("{:?} → {:?}", a.shape, b.shape));
            }
            out.push_str(&format!("  ~ {}  {}\n", name::clean(&a.name), what.join("  ")));
        }
        let mut worst: Vec<&(String, compare::Difference)> = self.values.iter().filter(|(_, d)| d.differs).collect();
        if !worst.is_empty() {
            out.push_str(&format!("values differ in {} of {} tensors\n", worst.len(), self.values.len()));
            worst.sort_by(|a, b| b.1.sums.loss().relative_error.total_cmp(&a.1.sums.loss().relative_error));
        }
        for (n, d) in worst {
            let loss = d.sums.loss();
            let how = match (d.sums.elements, d.sums.is_finite()) {
                (0, _) => "other bytes".to_owned(),
                (_, false) => "some are no numbers".to_owned(),
                _ => format!(
                    "MSE {}  max error {}  relative {}",
                    units::error(loss.mse),
                    units::error(loss.max_error),
                    units::percent(loss.relative_error)
                ),
            };
            out.push_str(&format!("  ~ {}  {how}\n", name::clean(n)));
        }
        out
    }
}

/// The numbers of the tensors that both have in one shape.
fn values(a: &Arc<Opened>, b: &Arc<Opened>, global: &Global) -> Result<Vec<(String, compare::Difference)>> {
    let pairs: Vec<(TensorId, TensorId)> = a
        .model
        .ids()
        .filter_map(|id| Some((id, b.model.find(&a.model.tensor(id).name)?)))
        .filter(|(x, y)| {
            let (x, y) = (a.model.tensor(*x), b.model.tensor(*y));
            let floats = x.is_float() && y.is_float();
            x.shape == y.shape && (floats || (!x.is_float() && x.storage == y.storage))
        })
        .collect();
    let (cancel, progress) = (signals::cancel_on_signal()?, Progress::default());
    let sums = super::convert::with_bar(&progress, global, || {
        compare::values(a, b, &pairs, super::limits(global)?, &cancel, &progress)
    })?;
    Ok(pairs.iter().map(|(id, _)| a.model.tensor(*id).name.clone()).zip(sums).collect())
}

/// Whether what became of the values is still the model.
fn numbers(values: &[(String, compare::Difference)]) -> Check {
    /// An error as large as the weights themselves says that they are others.
    const LOST: f64 = 1.0;
    let broken = |d: &compare::Difference| match d.sums.elements {
        // What is no float is not quantized, so nothing of it may change.
        0 => d.differs,
        _ => d.differs && (!d.sums.is_finite() || d.sums.loss().relative_error >= LOST),
    };
    let lost: Vec<&str> = values.iter().filter(|(_, d)| broken(d)).map(|(n, _)| n.as_str()).collect();
    let detail = match lost[..] {
        [] => format!("{} tensors hold what they held, within their loss", values.len()),
        [first, ..] => format!("{} tensors hold something else, `{first}` for one", lost.len()),
    };
    Check { name: "values", level: if lost.is_empty() { Level::Ok } else { Level::Error }, detail }
}
