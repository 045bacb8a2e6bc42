//! Names by the tables: which rows go where.
use std::collections::HashMap;
use std::ops::Range;

use super::table::{self, Rule, Section, Way};
use super::{Piece, Renamed};

/// The given tensors, by their names without the prefix.
pub(super) struct Sources<'a> {
    tensors: Vec<(Option<&'a str>, &'a [u64])>,
    by_name: HashMap<&'a str, usize>,
}

/// What comes out: tensors, and the sources that no rule names.
type Out = Result<(Vec<Renamed>, Vec<usize>), String>;

impl<'a> Sources<'a> {
    /// Of names (None: not the model's) and shapes.
    pub fn new(tensors: impl Iterator<Item = (Option<&'a str>, &'a [u64])>) -> Self {
        let tensors: Vec<_> = tensors.collect();
        let by_name = tensors.iter().enumerate().filter_map(|(i, (name, _))| Some(((*name)?, i))).collect();
        Self { tensors, by_name }
    }
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }
    pub fn shape(&self, name: &str) -> Option<&'a [u64]> {
        self.tensors.get(*self.by_name.get(name)?).map(|(_, shape)| *shape)
    }
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.tensors.iter().filter_map(|(name, _)| *name)
    }
    fn iter(&self) -> impl Iterator<Item = (usize, Option<&'a str>, &'a [u64])> {
        self.tensors.iter().enumerate().map(|(i, (name, shape))| (i, *name, *shape))
    }
    /// The width of a layer's input, by its weight.
    fn width(&self, layer: &str) -> Result<u64, String> {
        let weight = format!("{layer}.weight");
        let shape =
            self.shape(&weight).ok_or_else(|| format!("{weight} is missing: its shape tells which rows are which"))?;
        shape.get(1).copied().ok_or_else(|| format!("{weight}: a matrix was expected, not {shape:?}"))
    }
}

fn rows(shape: &[u64]) -> u64 {
    shape.first().copied().unwrap_or(1)
}

/// Where a name stands in the tables.
struct Hit<'a> {
    rule: usize,
    part: usize,
    /// The block's number.
    number: &'a str,
    ending: &'a str,
}

struct Book {
    rules: Vec<Rule>,
    by_name: HashMap<String, (usize, usize)>,
}

impl Book {
    fn new(sections: &[Section], diffusers: bool) -> Self {
        let rules = table::rules(sections);
        let mut by_name = HashMap::new();
        for (i, rule) in rules.iter().enumerate() {
            let names = if diffusers { rule.parts.as_slice() } else { std::slice::from_ref(&rule.whole) };
            by_name.extend(names.iter().enumerate().map(|(part, name)| (name.clone(), (i, part))));
        }
        Self { rules, by_name }
    }
    fn find<'a>(&self, name: &'a str) -> Option<(&Rule, Hit<'a>)> {
        // In the tables `*` stands for a number; in a file it stands for itself.
        if name.contains('*') {
            return None;
        }
        let hit = self.look(name, name, "").or_else(|| {
            let (before, number, after) = numbered(name)?;
            self.look(&format!("{before}*{after}"), name, number)
        })?;
        Some((self.rules.get(hit.rule)?, hit))
    }
    fn look<'a>(&self, pattern: &str, name: &'a str, number: &'a str) -> Option<Hit<'a>> {
        let entry = |pattern: &str, layer: bool| {
            let (rule, part) = *self.by_name.get(pattern)?;
            (self.rules.get(rule)?.layer == layer).then_some((rule, part))
        };
        if let Some((rule, part)) = entry(pattern, false) {
            return Some(Hit { rule, part, number, ending: "" });
        }
        let stem = ending(pattern)?.0;
        let (rule, part) = entry(stem, true)?;
        Some(Hit { rule, part, number, ending: ending(name)?.1 })
    }
}

/// A layer and what is called so of it.
pub(super) fn ending(name: &str) -> Option<(&str, &str)> {
    let layer = name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias"))?;
    Some((layer, name.get(layer.len()..)?))
}

/// A name around its first number, if that is written as a block's number is.
fn numbered(name: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = name.split_at_checked(name.find(|c: char| c.is_ascii_digit())?)?;
    let (number, after) = rest.split_at_checked(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()))?;
    (number == "0" || (number.len() <= 9 && !number.starts_with('0'))).then_some((before, number, after))
}

fn fill(pattern: &str, hit: &Hit) -> String {
    format!("{}{}", pattern.replacen('*', hit.number, 1), hit.ending)
}

/// The names stay.
pub(super) fn same(sources: &Sources) -> Out {
    rename(sources, |name: &str| Some(name.to_owned()))
}

/// New names for whole tensors.
pub(super) fn rename(sources: &Sources, new: impl Fn(&str) -> Option<String>) -> Out {
    let (mut tensors, mut unknown) = (Vec::new(), Vec::new());
    for (i, name, shape) in sources.iter() {
        match name.and_then(&new) {
            Some(name) => tensors.push(Renamed { name, pieces: vec![Piece { source: i, rows: 0..rows(shape) }] }),
            None => unknown.push(i),
        }
    }
    Ok((tensors, unknown))
}

/// From diffusers' names.
pub(super) fn join(sources: &Sources, sections: &[Section]) -> Out {
    let book = Book::new(sections, true);
    let (mut wholes, mut unknown) = (Vec::new(), Vec::new());
    let mut by_key = HashMap::new();
    for (i, name, _) in sources.iter() {
        let Some((name, (rule, hit))) = name.and_then(|name| Some((name, book.find(name)?))) else {
            unknown.push(i);
            continue;
        };
        let at = *by_key.entry((hit.rule, hit.number, hit.ending)).or_insert_with(|| {
            wholes.push((rule, vec![None; rule.parts.len()], (hit.number, hit.ending)));
            wholes.len() - 1
        });
        let slot = wholes.get_mut(at).and_then(|(_, parts, _)| parts.get_mut(hit.part));
        if slot.is_some_and(|slot| slot.replace(i).is_some()) {
            return Err(format!("{name} is there twice"));
        }
    }
    let mut tensors = Vec::with_capacity(wholes.len());
    for (rule, parts, (number, ending)) in wholes {
        let hit = Hit { rule: 0, part: 0, number, ending };
        let name = fill(&rule.whole, &hit);
        // Of two alternatives, the one that the block's kind has.
        let only = match rule.way {
            Way::Either(mark, _) => Some(usize::from(!sources.has(&mark.replacen('*', number, 1)))),
            _ => None,
        };
        let mut found = Vec::with_capacity(parts.len());
        for (at, (part, pattern)) in parts.iter().zip(&rule.parts).enumerate() {
            if only.is_some_and(|only| only != at) {
                if part.is_some() {
                    return Err(format!("{} is there, but its block is of the other kind", fill(pattern, &hit)));
                }
                continue;
            }
            let tensor = part.and_then(|i| Some((i, sources.tensors.get(i)?.1)));
            found.push(tensor.ok_or_else(|| format!("{} is missing: it is a part of {name}", fill(pattern, &hit)))?);
        }
        let width = || {
            let first = rule.parts.first().map(String::as_str).unwrap_or_default();
            sources.width(&first.replacen('*', number, 1))
        };
        let pieces = stack(rule.way, &found, width).map_err(|why| format!("{name}: {why}"))?;
        tensors.push(Renamed { name, pieces });
    }
    Ok((tensors, unknown))
}

/// One tensor of several, or of one with its halves swapped.
fn stack(way: Way, parts: &[(usize, &[u64])], width: impl Fn() -> Result<u64, String>) -> Result<Vec<Piece>, String> {
    let heights: Vec<u64> = parts.iter().map(|(_, shape)| rows(shape)).collect();
    let shapes = || parts.iter().map(|(_, shape)| format!("{shape:?}")).collect::<Vec<_>>().join(", ");
    let first = parts.first().map(|(_, shape)| *shape).unwrap_or_default();
    let alike = |shape: &[u64]| !shape.is_empty() && shape.get(1..) == first.get(1..);
    if parts.len() > 1 && !parts.iter().all(|(_, shape)| alike(shape)) {
        return Err(format!("its parts are of shapes that do not stack: {}", shapes()));
    }
    let equal = |heights: &[u64]| heights.windows(2).all(|pair| pair.first() == pair.last());
    match way {
        Way::Whole | Way::Swapped | Way::SwappedPair | Way::Either(..) => {
            let [(source, shape)] = *parts else { return Err("a single part was expected".to_owned()) };
            return Ok(pieces(source, halves(way, shape, width)?));
        }
        Way::Even if equal(&heights) => {}
        Way::Wide(n) => {
            let width = width()?;
            let (wide, rest) = heights.split_at_checked(n).unwrap_or((&heights, &[]));
            if wide.iter().any(|height| *height != width) || !equal(rest) || rest.contains(&0) {
                return Err(format!("its parts are of unexpected heights: {}, for an input of {width}", shapes()));
            }
        }
        Way::Even => return Err(format!("its parts are of different heights: {}", shapes())),
    }
    Ok(parts.iter().zip(heights).map(|((source, _), height)| Piece { source: *source, rows: 0..height }).collect())
}

fn pieces(source: usize, rows: Vec<Range<u64>>) -> Vec<Piece> {
    rows.into_iter().map(|rows| Piece { source, rows }).collect()
}

/// The rows of a tensor that stays one.
fn halves(way: Way, shape: &[u64], width: impl Fn() -> Result<u64, String>) -> Result<Vec<Range<u64>>, String> {
    let rows = rows(shape);
    let swap = match way {
        Way::Swapped => true,
        Way::SwappedPair => width()?.checked_mul(2) == Some(rows),
        _ => false,
    };
    if !swap {
        return Ok(std::iter::once(0..rows).collect());
    }
    if shape.is_empty() || rows % 2 == 1 {
        return Err(format!("it has two halves, but its shape is {shape:?}"));
    }
    Ok(vec![rows / 2..rows, 0..rows / 2])
}

/// From the original's names.
pub(super) fn split(sources: &Sources, sections: &[Section]) -> Out {
    let book = Book::new(sections, false);
    let (mut tensors, mut unknown) = (Vec::new(), Vec::new());
    for (i, name, shape) in sources.iter() {
        let Some((name, (rule, hit))) = name.and_then(|name| Some((name, book.find(name)?))) else {
            unknown.push(i);
            continue;
        };
        let width = || sources.width(&rule.whole.replacen('*', hit.number, 1));
        let skip = match rule.way {
            Way::Either(_, mark) => usize::from(!sources.has(&mark.replacen('*', hit.number, 1))),
            _ => 0,
        };
        let parts = unstack(rule.way, shape, rule.parts.len(), width).map_err(|why| format!("{name}: {why}"))?;
        tensors.extend(
            parts
                .into_iter()
                .zip(rule.parts.iter().skip(skip))
                .map(|(rows, part)| Renamed { name: fill(part, &hit), pieces: pieces(i, rows) }),
        );
    }
    Ok((tensors, unknown))
}

/// The rows of each of `n` parts.
fn unstack(
    way: Way,
    shape: &[u64],
    n: usize,
    width: impl Fn() -> Result<u64, String>,
) -> Result<Vec<Vec<Range<u64>>>, String> {
    let (wide, width) = match way {
        Way::Whole | Way::Swapped | Way::SwappedPair | Way::Either(..) => {
            return Ok(vec![halves(way, shape, width)?]);
        }
        Way::Even => (0, 0),
        Way::Wide(wide) => (wide.min(n), width()?),
    };
    let odd = || format!("{n} parts were expected, but its shape is {shape:?}");
    // Few parts: the tables have four at most.
    let (many, others) = (wide as u64, (n - wide) as u64);
    let rest = width.checked_mul(many).and_then(|wide| rows(shape).checked_sub(wide)).ok_or_else(odd)?;
    let nothing_left = wide > 0 && rest == 0;
    if shape.is_empty() || others == 0 || rest % others != 0 || nothing_left {
        return Err(odd());
    }
    let mut at = 0;
    let heights = (0..n).map(|i| if i < wide { width } else { rest / others });
    Ok(heights
        .map(|height| {
            let rows = at..at + height;
            at = rows.end;
            vec![rows]
        })
        .collect())
}
