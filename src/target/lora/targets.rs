//! Which tensors of a model the modules of an adapter mean.
//!
//! A model's tensors go by the names of its original code or by diffusers', and an adapter by either, whatever the
//! model does. Where the two differ, the caller gives the names of the other layout, in pieces of the model's tensors;
//! so the three thin products of `to_q`, `to_k` and `to_v` come to be added to rows of one `qkv`, and the other way
//! round.
use std::collections::HashMap;
use std::ops::Range;

use super::keys::{Kind, Module};
use super::names::{self, Candidate, Part};
use crate::core::name;

/// A tensor of the model.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// Its name, as the model's file has it.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [u64],
    /// Whether it lies `[in, out]`, as transformers' `Conv1D` stores a layer of GPT-2.
    pub transposed: bool,
}

/// Rows of a tensor of the model that are rows of one of the other layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The tensor, by its index.
    pub tensor: usize,
    /// Its rows.
    pub rows: Range<usize>,
    /// The rows of the other layout's tensor; as many.
    pub other: Range<usize>,
}

/// A tensor of the other layout, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Where its rows are.
    pub pieces: Vec<Piece>,
}

/// Which of a module's changes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// That of the weight.
    Weight,
    /// That of the bias.
    Bias,
}

/// A change of some rows of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The module, by its index.
    pub module: usize,
    /// Which of its changes.
    pub field: Field,
    /// The rows of the tensor.
    pub rows: Range<usize>,
    /// The rows of the change; as many.
    pub delta: Range<usize>,
}

/// A change that has no place in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// The module, by its index.
    pub module: usize,
    /// Which of its changes.
    pub field: Field,
    /// Why.
    pub why: Why,
}

/// Why a change has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The model has nothing of the name; what it has that is called nearly the same.
    Name(Option<String>),
    /// What the model has of the name is of another shape.
    Shape {
        /// The tensor's name.
        name: String,
        /// Its rows and columns.
        expected: (u64, u64),
        /// The change's.
        found: (u64, u64),
    },
}

/// Where the changes of an adapter go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// By tensor of the model: replacements first, the rest in the adapter's order.
    pub updates: Vec<Vec<Update>>,
    /// What has no place.
    pub unmatched: Vec<Unmatched>,
    /// Modules for a text encoder, which this model is not or does not hold.
    pub text_encoder: usize,
    /// Modules for a diffusion model, where this is a text encoder.
    pub model: usize,
}

/// Unmatched names that a nearest one is looked for: a whole adapter for another model is better described by the
/// first.
const NEAREST: usize = 8;

/// Finds the tensors that an adapter's modules mean. Pieces that do not lie within the model are passed over.
pub fn find(modules: &[Module], base: &[Base], others: &[Other]) -> Targets {
    let index = Index::of(base, others);
    let mut targets = Targets { updates: vec![Vec::new(); base.len()], ..Targets::default() };
    let mut of_model = Vec::new();
    let (mut found_model, mut found_encoder) = (false, false);
    let mut order: Vec<usize> = (0..modules.len()).collect();
    // What takes a tensor's place must not undo what is added to it.
    order.sort_by_key(|i| modules.get(*i).is_none_or(|m| m.kind != Kind::Set));
    for (number, module) in order.into_iter().filter_map(|i| Some((i, modules.get(i)?))) {
        let (candidates, part) = names::candidates(&module.path);
        let mut missing = Vec::new();
        let weight = (module.kind != Kind::Bias).then_some((Field::Weight, module.shape));
        let bias = module.bias.map(|length| (Field::Bias, (length, 1)));
        for (field, shape) in weight.into_iter().chain(bias) {
            match index.resolve(&candidates, field, module.kind, shape) {
                Ok(pieces) => {
                    for (tensor, rows, delta) in pieces {
                        if let Some(updates) = targets.updates.get_mut(tensor) {
                            updates.push(Update { module: number, field, rows, delta });
                        }
                    }
                }
                Err(why) => missing.push(Unmatched { module: number, field, why }),
            }
        }
        let fields = usize::from(weight.is_some()) + usize::from(bias.is_some());
        match (part, missing.len() < fields) {
            (Some(Part::TextEncoder), false) => targets.text_encoder += 1,
            (Some(Part::Model), false) => of_model.push(missing),
            (_, is_found) => {
                let counted = if part == Some(Part::TextEncoder) { &mut found_encoder } else { &mut found_model };
                *counted |= is_found;
                targets.unmatched.extend(missing);
            }
        }
    }
    if found_encoder && !found_model {
        targets.model = of_model.len();
    } else {
        targets.unmatched.extend(of_model.into_iter().flatten());
    }
    targets.unmatched.sort_by_key(|u| u.module);
    let unnamed = targets.unmatched.iter_mut().filter(|u| matches!(u.why, Why::Name(_)));
    for unmatched in unnamed.take(NEAREST) {
        let near = modules.get(unmatched.module).and_then(|m| index.nearest(&m.path));
        unmatched.why = Why::Name(near.map(str::to_owned));
    }
    targets
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Base(usize),
    Other(usize),
}

type Rows = (usize, Range<usize>, Range<usize>);

struct Index<'a> {
    base: &'a [Base<'a>],
    others: &'a [Other],
    dotted: HashMap<&'a str, Vec<Place>>,
    underscored: HashMap<String, Vec<Place>>,
}

impl<'a> Index<'a> {
    fn of(base: &'a [Base<'a>], others: &'a [Other]) -> Self {
        let mut index = Self { base, others, dotted: HashMap::new(), underscored: HashMap::new() };
        for (i, tensor) in base.iter().enumerate() {
            index.add(tensor.name, Place::Base(i));
        }
        for (i, other) in others.iter().enumerate() {
            index.add(&other.name, Place::Other(i));
        }
        index
    }
    fn add(&mut self, name: &'a str, place: Place) {
        for form in names::forms(name) {
            self.dotted.entry(form).or_default().push(place);
            if let Some(layer) = form.strip_suffix(".weight") {
                self.dotted.entry(layer).or_default().push(place);
            }
            let layer = name::layer(form);
            self.underscored.entry(layer.replace('.', "_")).or_default().push(place);
        }
    }
    /// The places of a candidate.
    fn places(&self, candidate: &Candidate, field: Field) -> &[Place] {
        let bias;
        let name = match (field, candidate.underscored) {
            (Field::Weight, _) => &candidate.name,
            (Field::Bias, underscored) => {
                bias = format!("{}{}bias", candidate.name, if underscored { '_' } else { '.' });
                &bias
            }
        };
        let found = if candidate.underscored { self.underscored.get(name) } else { self.dotted.get(name.as_str()) };
        found.map_or(&[], Vec::as_slice)
    }
    /// The rows of the model that a change is for. Of what goes by the same name, that which has the shape.
    fn resolve(&self, candidates: &[Candidate], field: Field, kind: Kind, shape: (u64, u64)) -> Result<Vec<Rows>, Why> {
        let mut why = Why::Name(None);
        let turns = kind == Kind::Lora && field == Field::Weight;
        for candidate in candidates {
            let first_rows = candidate.first_rows && field == Field::Weight;
            // Names that underscores make the same are few; a file of thousands is not read for each module.
            for place in self.places(candidate, field).iter().take(16) {
                match self.rows(*place, turns, shape, first_rows) {
                    Ok(rows) => return Ok(rows),
                    Err(mismatch) if matches!(why, Why::Name(_)) => why = mismatch,
                    Err(_) => {}
                }
            }
        }
        Err(why)
    }
    /// The same of one place. `turns` says whether the change can be transposed.
    fn rows(&self, place: Place, turns: bool, found: (u64, u64), first_rows: bool) -> Result<Vec<Rows>, Why> {
        let mismatch = |name: &str, expected| Err(Why::Shape { name: name.to_owned(), expected, found });
        let fits = |expected: (u64, u64)| {
            expected.1 == found.1 && if first_rows { found.0 <= expected.0 } else { found.0 == expected.0 }
        };
        match place {
            Place::Base(i) => {
                let Some(tensor) = self.base.get(i) else { return Err(Why::Name(None)) };
                let stored = matrix(tensor.shape);
                let transposed = tensor.transposed && turns && tensor.shape.len() == 2;
                let expected = if transposed { (stored.1, stored.0) } else { stored };
                if !fits(expected) || (transposed && first_rows) {
                    return mismatch(tensor.name, expected);
                }
                let rows = usize::try_from(if transposed { stored.0 } else { found.0 }).unwrap_or_default();
                Ok(vec![(i, 0..rows, 0..rows)])
            }
            Place::Other(i) => {
                let Some(other) = self.others.get(i) else { return Err(Why::Name(None)) };
                let lies_within = |piece: &&Piece| {
                    let tensor = self.base.get(piece.tensor);
                    let rows = tensor.filter(|t| !t.transposed).map_or(0, |t| matrix(t.shape).0);
                    piece.rows.len() == piece.other.len() && u64::try_from(piece.rows.end).is_ok_and(|end| end <= rows)
                };
                let pieces: Vec<&Piece> = other.pieces.iter().filter(lies_within).collect();
                let end = pieces.iter().map(|p| p.other.end).max().unwrap_or_default();
                let cols = |piece: &&Piece| self.base.get(piece.tensor).map_or(0, |t| matrix(t.shape).1);
                let expected = (end as u64, pieces.first().map_or(0, cols));
                if !fits(expected) || pieces.iter().any(|p| cols(p) != found.1) {
                    return mismatch(&other.name, expected);
                }
                let limit = usize::try_from(found.0).unwrap_or(usize::MAX);
                let cut = |piece: &Piece| {
                    let delta = piece.other.start.min(limit)..piece.other.end.min(limit);
                    (piece.tensor, piece.rows.start..piece.rows.start + delta.len(), delta)
                };
                Ok(pieces.into_iter().map(cut).filter(|(_, _, delta)| !delta.is_empty()).collect())
            }
        }
    }
    /// The name that is nearest to one that nothing has, among those that end alike.
    fn nearest(&self, path: &str) -> Option<&'a str> {
        let (candidates, _) = names::candidates(path);
        let wanted = candidates.last().filter(|c| c.name.len() <= 128)?;
        let end = |name: &str| name.rsplit(['.', '_']).next().map(str::to_owned);
        let last = end(&wanted.name);
        let names = self.base.iter().map(|b| b.name).chain(self.others.iter().map(|o| o.name.as_str()));
        let layers = names.filter_map(|name| Some((name, names::forms(name).last()?.strip_suffix(".weight")?)));
        let alike = layers.filter(|(_, layer)| {
            layer.len().abs_diff(wanted.name.len()) <= wanted.name.len() / 4 && end(layer) == last
        });
        let near = alike.take(512).map(|(name, layer)| {
            let layer = if wanted.underscored { layer.replace('.', "_") } else { layer.to_owned() };
            (name::distance(&layer, &wanted.name), name)
        });
        near.min().filter(|(edits, _)| *edits <= 1 + wanted.name.len() / 4).map(|(_, name)| name)
    }
}

/// Rows and columns of a tensor; a number is one row of one.
fn matrix(shape: &[u64]) -> (u64, u64) {
    let (rows, rest) = shape.split_first().map_or((1, &[][..]), |(rows, rest)| (*rows, rest));
    (rows, rest.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
