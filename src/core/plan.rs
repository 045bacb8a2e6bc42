//! A profile resolved over a model: what becomes of each tensor, and its exact bytes; made without reading weights.
use std::ops::Range;
use std::sync::Arc;

use super::dtype::{Storage, StorageExt};
use super::loss::LossSums;
use super::model::TensorId;
use super::recipe::{Family, Recipe, ScaleSearch, group_size};
use super::rules::Cause;

/// One array of the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its full name in the file.
    pub name: String,
    /// Its element type.
    pub storage: Storage,
    /// Its shape.
    pub shape: Vec<u64>,
}

impl Part {
    /// Its bytes. Shapes of parts come from shapes of tensors that exist, so they do not overflow.
    pub fn bytes(&self) -> u64 {
        self.storage.array_bytes(self.shape.iter().product()).unwrap_or(u64::MAX)
    }
}

/// What is done with a row's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The bytes are copied.
    Copy,
    /// The values are rounded to another float type.
    Cast(Storage),
    /// The values are quantized. The recipe is resolved: its group size is never *auto*.
    Quantize(Recipe),
}

impl std::hash::Hash for Action {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Copy => 0u8.hash(state),
            // The crate's type has no hash; equal types have equal names.
            Self::Cast(storage) => storage.name().hash(state),
            Self::Quantize(recipe) => recipe.hash(state),
        }
    }
}

/// Some rows of a source, by its first dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Index into [`Row::sources`].
    pub source: usize,
    /// Its rows.
    pub rows: Range<u64>,
    /// Its columns; none: all of them.
    pub cols: Option<Range<u64>>,
}

impl Slice {
    /// Rows as a whole.
    pub fn of_rows(source: usize, rows: Range<u64>) -> Self {
        Self { source, rows, cols: None }
    }
}

/// What is done to the values of a row's sources before anything else.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Change {
    /// Nothing.
    #[default]
    None,
    /// Each of so many heads has its rows in another order: those of its first half and of its second take turns.
    PermuteHeads(u64),
    /// One is added to each.
    AddOne,
    /// The source is a matrix whose columns become the rows.
    Transpose,
    /// There is no source: these are the values.
    Values(Arc<[f32]>),
}

/// One output weight with everything that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its full output name.
    pub name: String,
    /// What becomes of its sources' values first.
    pub change: Change,
    /// The tensors it is made from.
    pub sources: Vec<TensorId>,
    /// Rows of these, one after another; none: the first as a whole.
    pub slices: Vec<Slice>,
    /// Rows of these, which are vectors, that are its bias: where a consumer has weight and bias as one.
    pub bias: Vec<Slice>,
    /// Its shape, in PyTorch order.
    pub shape: Vec<u64>,
    /// The source's dtype.
    pub from: String,
    /// The output's dtype.
    pub to: String,
    /// What is done.
    pub action: Action,
    /// Whether it is not quantized, whatever the reason.
    pub excluded: bool,
    /// Why it is kept, or why it differs from what was asked.
    pub reason: Option<String>,
    /// What decided.
    pub cause: Cause,
    /// Its arrays in the output.
    pub parts: Vec<Part>,
    /// Bytes of the sources.
    pub bytes_before: u64,
}

impl Row {
    /// Bytes of all its arrays, without self-description.
    pub fn bytes_after(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum()
    }
    /// Elements of the weight.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
    /// What is done, in a few words: `uint4 g64 r32`, `keep`, `BF16`.
    pub fn describe(&self) -> String {
        let recipe = match &self.action {
            Action::Copy if self.parts.is_empty() => return "drop".into(),
            Action::Copy => return "keep".into(),
            Action::Cast(storage) => return storage.name(),
            Action::Quantize(recipe) => recipe,
        };
        let mut text = recipe.dtype.to_string();
        match self.group_size() {
            None => {}
            Some(group_size::ROW) => text.push_str(" row"),
            Some(group_size::TENSOR) => text.push_str(" tensor"),
            Some(n) => text.push_str(&format!(" g{n}")),
        }
        if recipe.svd_rank > 0 {
            text.push_str(&format!(" r{}", recipe.svd_rank));
        }
        if recipe.hadamard > 0 {
            text.push_str(&format!(" h{}", recipe.hadamard));
        }
        text.push_str(if recipe.codebook { " codebook" } else { "" });
        text.push_str(if recipe.scale_search == ScaleSearch::Mse { " mse" } else { "" });
        text.push_str(if recipe.importance.is_some() { " imatrix" } else { "" });
        text
    }
    /// Group size as resolved, when it is quantized to a dtype that leaves it open.
    pub fn group_size(&self) -> Option<i64> {
        match &self.action {
            Action::Quantize(recipe) if recipe.family != Family::Gguf => Some(recipe.group_size),
            _ => None,
        }
    }
    /// Rank of the low-rank branch, 0 for none.
    pub fn svd_rank(&self) -> u32 {
        match &self.action {
            Action::Quantize(recipe) => recipe.svd_rank,
            _ => 0,
        }
    }
    /// Whether a loss is taken: anything but a copy of bytes.
    pub fn is_lossy(&self) -> bool {
        !self.excluded
    }
}

/// What a conversion would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is written.
    pub family: Family,
    /// In output order.
    pub rows: Vec<Row>,
    /// What a person should know before it is done.
    pub warnings: Vec<String>,
}

/// Sums over a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Rows.
    pub tensors: u64,
    /// Arrays in the output, self-description not counted.
    pub output_tensors: u64,
    /// Rows that are quantized.
    pub quantized: u64,
    /// Elements of all rows.
    pub parameters: u64,
    /// Bytes of the sources.
    pub bytes_before: u64,
    /// Bytes of the rows' arrays.
    pub bytes_after: u64,
    /// 8·Σ bytes after / Σ elements, over float tensors.
    pub bits_per_weight: f64,
}

impl Plan {
    /// Its sums. `is_float` tells whether a row holds float weights.
    pub fn totals(&self, is_float: impl Fn(&Row) -> bool) -> Totals {
        let mut t = Totals::default();
        let (mut float_bytes, mut float_elements) = (0u64, 0u64);
        for row in &self.rows {
            let after = row.bytes_after();
            t.tensors += 1;
            t.output_tensors += row.parts.len() as u64;
            t.quantized += u64::from(!row.excluded);
            t.parameters += row.elements();
            t.bytes_before += row.bytes_before;
            t.bytes_after += after;
            if is_float(row) {
                float_bytes += after;
                float_elements += row.elements();
            }
        }
        t.bits_per_weight = if float_elements == 0 { 0.0 } else { 8.0 * float_bytes as f64 / float_elements as f64 };
        t
    }
}

/// Losses of a whole conversion: each quantized tensor weighs by its elements.
pub fn total_loss<'a>(losses: impl IntoIterator<Item = &'a LossSums>) -> LossSums {
    let mut total = LossSums::default();
    for sums in losses {
        total.merge(sums);
    }
    total
}
