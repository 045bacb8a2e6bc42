//! Two sets of choices side by side: what differs, and what it costs.
use std::collections::HashMap;

use super::app::App;
use super::losses::{Known, Sums};
use crate::core::plan::Totals;
use crate::core::{Plan, Row, TensorId};
use crate::session::Profile;

/// What the present choices are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// As they were last saved, loaded, or begun with.
    Saved,
    /// As they were when they were pinned.
    Pinned,
}

/// One side of the table.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Sums over the plan.
    pub totals: Totals,
    /// Losses, as far as they are known.
    pub sums: Sums,
}

/// Tensors that change alike.
#[derive(Clone, Debug)]
pub struct Change {
    /// What they were made into, and are now.
    pub labels: (String, String),
    /// Them.
    pub ids: Vec<TensorId>,
    /// Their bytes.
    pub bytes: (u64, u64),
    /// Their losses.
    pub sums: (Sums, Sums),
}

/// What becomes of a line of the profile's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is lost.
    Lost,
    /// It is new.
    New,
    /// It stays, and says what the lines below it belong to.
    Heading,
}

/// The page.
#[derive(Clone, Debug)]
pub struct DiffPage {
    /// What is compared with.
    pub against: Against,
    /// Then and now.
    pub sides: (Side, Side),
    /// What changes, the most bytes first.
    pub changes: Vec<Change>,
    /// Lines that the profile's text loses and gains, under the headings of their tables.
    pub text: Vec<(Line, String)>,
    /// The one under the cursor.
    pub at: usize,
}

fn sums(app: &App, plan: &Plan) -> Sums {
    let mut sums = Sums::default();
    for row in plan.rows.iter().filter(|r| r.is_lossy()) {
        match app.losses.find(&row.name, &row.action) {
            Some(Known::Loss(loss, quality)) => {
                sums.add(loss, *quality, row.elements(), app.losses.alpha_of(row.sources.first()));
            }
            Some(Known::Failed(_)) => sums.failed += 1,
            None => {}
        }
    }
    sums
}

impl DiffPage {
    /// Compares the present choices with others.
    pub fn new(app: &App, against: Against, then: &Profile, plan: &Plan) -> Self {
        let now = &app.board.plan;
        let mut changes: Vec<Change> = Vec::new();
        // Two plans over one model have a row for the same sources, whatever their order.
        let of = |r: &'_ Row| (r.sources.clone(), r.slices.clone());
        let befores: HashMap<_, &Row> = plan.rows.iter().map(|r| (of(r), r)).collect();
        for row in &now.rows {
            let Some(id) = row.sources.first() else { continue };
            let Some(before) = befores.get(&of(row)).copied() else { continue };
            if before.action == row.action {
                continue;
            }
            let labels = (before.describe(), row.describe());
            let change = match changes.iter_mut().find(|c| c.labels == labels) {
                Some(change) => change,
                None => {
                    let empty = Change { labels, ids: Vec::new(), bytes: (0, 0), sums: Default::default() };
                    changes.push(empty);
                    match changes.last_mut() {
                        Some(change) => change,
                        None => continue,
                    }
                }
            };
            change.ids.push(*id);
            change.bytes.0 += before.bytes_after();
            change.bytes.1 += row.bytes_after();
            let alpha = app.losses.alpha_of(Some(id));
            for (row, sums) in [(before, &mut change.sums.0), (row, &mut change.sums.1)] {
                if let Some(Known::Loss(loss, quality)) = app.losses.find(&row.name, &row.action) {
                    sums.add(loss, *quality, row.elements(), alpha);
                } else if !row.is_lossy() {
                    sums.measured += 1;
                }
            }
        }
        changes.sort_by_key(|c| std::cmp::Reverse(c.bytes.0.max(c.bytes.1)));
        let side = |plan: &Plan| Side { totals: app.planner.totals(plan), sums: sums(app, plan) };
        let sides = (side(plan), side(now));
        let text = under_headings(&then.to_text(), &app.session.profile.to_text());
        Self { against, sides, changes, text, at: 0 }
    }
}

/// What one text has and the other has not, under the headings of the tables that they stand in.
fn under_headings(before: &str, after: &str) -> Vec<(Line, String)> {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // Of tables that are called the same, which of them.
    let heading = |of: &[&str], at: usize| {
        let above = of.get(..=at)?.iter().rposition(|l| l.starts_with('['))?;
        Some((above, of[..above].iter().filter(|l| **l == of[above]).count()))
    };
    let mut out = Vec::new();
    let mut last: Option<(&str, usize)> = None;
    for (new, at) in differences(&a, &b) {
        let of = if new { &b } else { &a };
        if of[at].is_empty() {
            continue;
        }
        if let Some((above, nth)) = heading(of, at) {
            let table = Some((of[above], nth));
            if above != at && last != table {
                // A rule is known by its pattern.
                let rule = of[above..at].iter().find(|l| of[above].starts_with("[[") && l.starts_with("pattern"));
                let rule = rule.map_or(String::new(), |l| format!("  {l}"));
                out.push((Line::Heading, format!("{}{rule}", of[above])));
            }
            last = table;
        }
        out.push((if new { Line::New } else { Line::Lost }, of[at].to_owned()));
    }
    out
}

/// Lines that one text has and the other has not, by their places, in the order of the texts: the longest common run of
/// lines stays out.
fn differences(a: &[&str], b: &[&str]) -> Vec<(bool, usize)> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut out = Vec::new();
    // A table of all pairs would be too much of a profile with a line for each of thousands of tensors.
    if a.len().saturating_mul(b.len()) > 1 << 22 {
        out.extend((0..a.len()).map(|i| (false, head + i)));
        out.extend((0..b.len()).map(|j| (true, head + j)));
        return out;
    }
    let width = b.len() + 1;
    let mut longest = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = if a[i] == b[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || i < a.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            out.push((false, head + i));
            i += 1;
        } else {
            out.push((true, head + j));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_come_and_go() {
        fn check(before: &str, after: &str, expected: &str) {
            let sign = |line: &Line| match line {
                Line::Lost => '-',
                Line::New => '+',
                Line::Heading => '=',
            };
            let got: Vec<String> =
                under_headings(before, after).iter().map(|(line, l)| format!("{}{l}", sign(line))).collect();
            assert_eq!(got.join(" "), expected);
        }
        check("a\nb\nc", "a\nb\nc", "");
        check("a\nb\nc", "a\nc", "-b");
        check("a\nc", "a\nb\nc", "+b");
        check("a\nb\nc\nd", "a\nx\nc\ny", "-b +x -d +y");
        check("", "a", "+a");
        // Under the heading of its table, unless that is new too.
        check("[t]\na\nb", "[t]\na\nc", "=[t] -b +c");
        check("[t]\na\n[u]\nb", "[t]\nx\n[u]\ny", "=[t] -a +x =[u] -b +y");
        check("[t]\na", "[t]\na\n[u]\nb\nc", "+[u] +b +c");
        // Of rules, which.
        check(
            "[[rule]]\npattern = 'x'\na\n[[rule]]\npattern = 'y'\na",
            "[[rule]]\npattern = 'x'\nb\n[[rule]]\npattern = 'y'\nb",
            "=[[rule]]  pattern = 'x' -a +b =[[rule]]  pattern = 'y' -a +b",
        );
    }
}
