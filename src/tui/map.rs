//! The map: blocks across, kinds of layers down, a cell for each matrix; so that what stands out is seen at a glance.
use std::collections::BTreeMap;

use super::app::App;
use super::losses::Known;
use crate::core::name;
use crate::core::{Model, TensorId};
use crate::session::kinds;

/// What the cells show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantity {
    /// Estimated damage.
    #[default]
    Damage,
    /// Relative error.
    Error,
    /// Bits per weight.
    Bits,
}

impl Quantity {
    /// The one after it.
    pub fn next(self) -> Self {
        match self {
            Self::Damage => Self::Error,
            Self::Error => Self::Bits,
            Self::Bits => Self::Damage,
        }
    }
    /// In a heading.
    pub fn word(self) -> &'static str {
        match self {
            Self::Damage => "damage, estimated",
            Self::Error => "relative error",
            Self::Bits => "bits per weight",
        }
    }
}

/// A row of the map: a kind of layer.
#[derive(Clone, Debug)]
pub struct Kind {
    /// `transformer_blocks.*.attn.to_q`.
    pub label: String,
    /// Its matrices by block; `None` where a block has none.
    pub cells: Vec<Option<TensorId>>,
}

/// The map of a model, and where one is in it.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// Kinds, in the order of their first matrices.
    pub kinds: Vec<Kind>,
    /// Row and column of the cursor.
    pub at: (usize, usize),
    /// What is shown.
    pub quantity: Quantity,
    /// The least and the most of it.
    pub range: (f64, f64),
}

/// How many blocks a map has room for: more are no picture.
const BLOCKS: u32 = 4096;

impl Map {
    /// The map of a model's matrices; the cursor at `at`, where that is one.
    pub fn new(model: &Model, at: Option<TensorId>) -> Self {
        let mut order: Vec<(String, Vec<(u32, TensorId)>)> = Vec::new();
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        for id in model.ids() {
            let tensor = model.tensor(id);
            if !tensor.is_float() || tensor.shape.len() < 2 {
                continue;
            }
            let kind = kinds::kind(&tensor.name);
            let block = kinds::block(&tensor.name).unwrap_or(0).min(BLOCKS);
            let i = *index.entry(kind.clone()).or_insert_with(|| {
                order.push((kind, Vec::new()));
                order.len() - 1
            });
            if let Some((_, cells)) = order.get_mut(i) {
                cells.push((block, id));
            }
        }
        // Natural order, with what lies in no block first: the model's ends.
        order.sort_by(|a, b| a.0.contains('*').cmp(&b.0.contains('*')).then_with(|| name::natural(&a.0, &b.0)));
        let mut map = Self::default();
        for (label, cells) in order {
            // Where a name has several numbers (experts, blocks of blocks) they follow each other.
            let plain = cells.windows(2).all(|w| w[0].0 < w[1].0);
            let width = if plain { cells.last().map_or(0, |c| c.0 as usize + 1) } else { cells.len() };
            let mut row = vec![None; width];
            for (i, (block, id)) in cells.iter().enumerate() {
                let column = if plain { *block as usize } else { i };
                if at == Some(*id) {
                    map.at = (map.kinds.len(), column);
                }
                if let Some(slot) = row.get_mut(column) {
                    *slot = Some(*id);
                }
            }
            let label = label.strip_suffix(".weight").map_or(label.clone(), str::to_owned);
            map.kinds.push(Kind { label, cells: row });
        }
        map
    }

    /// Columns of the widest row.
    pub fn width(&self) -> usize {
        self.kinds.iter().map(|k| k.cells.len()).max().unwrap_or(0)
    }
    /// The matrix under the cursor.
    pub fn tensor(&self) -> Option<TensorId> {
        self.kinds.get(self.at.0)?.cells.get(self.at.1).copied().flatten()
    }
    /// Moves by rows and columns.
    pub fn go(&mut self, down: isize, right: isize) {
        let step = |at: usize, by: isize, len: usize| at.saturating_add_signed(by).min(len.saturating_sub(1));
        self.at.0 = step(self.at.0, down, self.kinds.len());
        let width = if down == 0 { self.kinds.get(self.at.0).map_or(0, |k| k.cells.len()) } else { self.width() };
        self.at.1 = step(self.at.1, right, width);
    }
}

/// The least and the most that cells show, of what is not nothing.
pub fn range(app: &App, map: &Map) -> (f64, f64) {
    let ids = map.kinds.iter().flat_map(|k| k.cells.iter().flatten());
    let known = ids.filter_map(|id| figure(app, map.quantity, *id)).filter(|f| *f > 0.0);
    known.fold((f64::INFINITY, 0.0), |(least, most), f| (f.min(least), f.max(most)))
}

/// The figure of a cell, where it is known.
pub fn figure(app: &App, quantity: Quantity, id: TensorId) -> Option<f64> {
    let row = app.board.row(id)?;
    match quantity {
        Quantity::Bits => Some(8.0 * row.bytes_after() as f64 / row.elements().max(1) as f64),
        _ if !row.is_lossy() => Some(0.0),
        Quantity::Error => match app.losses.of_row(app.board.index(id)?)? {
            Known::Loss(loss, _) => Some(loss.relative_error),
            Known::Failed(_) => None,
        },
        Quantity::Damage => app.losses.damage(&(id.index()..id.index() + 1)).map(|(damage, _)| damage),
    }
}

/// Where a figure stands between the least and the most: 0 to 1. Losses on a log scale, of at least a decade, so that
/// equal ones look equal.
pub fn level(quantity: Quantity, figure: f64, (least, most): (f64, f64)) -> f64 {
    match quantity {
        Quantity::Bits => (figure / 16.0).clamp(0.0, 1.0),
        _ if figure <= 0.0 || most <= 0.0 => 0.0,
        _ => {
            let low = least.min(most / 10.0);
            // The least of them is still something; nothing is what is kept.
            ((figure / low).ln() / (most / low).ln()).clamp(1e-9, 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::testing::model_of;

    #[test]
    fn kinds_down_and_blocks_across() {
        let names =
            ["embed.weight", "blocks.0.q.weight", "blocks.0.k.weight", "blocks.2.q.weight", "blocks.1.norm.weight"];
        let mut model = model_of(&names);
        for tensor in &mut model.tensors {
            tensor.shape = if tensor.name.contains("norm") { vec![4] } else { vec![4, 4] };
        }
        let map = Map::new(&model, model.find("blocks.2.q.weight"));
        let drawn: Vec<String> = map
            .kinds
            .iter()
            .map(|k| {
                let cells: String = k.cells.iter().map(|c| if c.is_some() { '#' } else { '.' }).collect();
                format!("{} {cells}", k.label)
            })
            .collect();
        assert_eq!(drawn, ["embed #", "blocks.*.k #", "blocks.*.q #.#"]);
        assert_eq!((map.at, map.width()), ((2, 2), 3));
        assert_eq!(map.tensor(), model.find("blocks.2.q.weight"));
    }

    #[test]
    fn levels() {
        fn check(quantity: Quantity, figure: f64, range: (f64, f64), expected: f64) {
            assert!((level(quantity, figure, range) - expected).abs() < 1e-9);
        }
        check(Quantity::Bits, 8.0, (0.0, 0.0), 0.5);
        check(Quantity::Error, 1e-4, (1e-6, 1e-2), 0.5);
        check(Quantity::Error, 1e-2, (1e-6, 1e-2), 1.0);
        check(Quantity::Error, 0.0, (1e-6, 1e-2), 0.0);
        // All alike: all at the top of their decade.
        check(Quantity::Damage, 3.0, (3.0, 3.0), 1.0);
    }
}
