//! What to do with one tensor.
use std::fmt;
use std::sync::Arc;

use super::dtype::Dtype;
use super::imatrix::Importance;

/// A family of output files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Plain floats.
    Float,
    /// SDNQ, for diffusers, transformers and SD.Next.
    Sdnq,
    /// GGUF, for llama.cpp and what is built on it.
    Gguf,
    /// Single files that ComfyUI loads by itself.
    Comfy,
    /// SVDQuant, for Nunchaku's kernels.
    Nunchaku,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 5] = [Self::Float, Self::Sdnq, Self::Comfy, Self::Gguf, Self::Nunchaku];

    /// Its name on the command line and in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Sdnq => "sdnq",
            Self::Gguf => "gguf",
            Self::Comfy => "comfy",
            Self::Nunchaku => "nunchaku",
        }
    }
    /// The family of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How values are grouped for one scale, as the user says it: `0` the target's choice, `-1` a row, `-2` the whole tensor.
pub mod group_size {
    /// The target's automatic choice.
    pub const AUTO: i64 = 0;
    /// One scale per row.
    pub const ROW: i64 = -1;
    /// One scale for the whole tensor.
    pub const TENSOR: i64 = -2;

    /// In words: `auto`, `row`, `tensor`, `64`.
    pub fn name(size: i64) -> String {
        match size {
            AUTO => "auto".into(),
            ROW => "row".into(),
            TENSOR => "tensor".into(),
            n => n.to_string(),
        }
    }
}

/// How the scale of a group is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScaleSearch {
    /// So that the greatest value is the greatest code.
    #[default]
    Absmax,
    /// Of that one and those near it, the one with the least squared error.
    Mse,
}

impl ScaleSearch {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Absmax, Self::Mse];

    /// Its name on the command line and in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absmax => "absmax",
            Self::Mse => "mse",
        }
    }
    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// How to quantize one tensor, complete: nothing is left to be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// Whose words these are.
    pub family: Family,
    /// Storage type of the codes, in the target's words.
    pub dtype: Dtype,
    /// Values that share one scale; [`group_size`] has the special ones. In a plan's rows it is resolved: never `0`.
    pub group_size: i64,
    /// Rank of the low-rank branch; 0 for none.
    pub svd_rank: u32,
    /// Power iterations of its search.
    pub svd_steps: u32,
    /// Values that a Hadamard rotation mixes before anything else; 0 for none. In a plan's rows it divides a row.
    pub hadamard: u32,
    /// Whether codes stand for levels found for each group (Lloyd-Max) instead of equal steps.
    pub codebook: bool,
    /// How scales are found.
    pub scale_search: ScaleSearch,
    /// The dimension that groups run along: 1, or 0 for the weight of a transposed convolution. Follows from the layer.
    pub axis: u8,
    /// What weighs the errors of columns, where something does.
    pub importance: Option<Importance>,
    /// What the runtime's kernel does around the layer, where that shows in its arrays.
    pub kernel: Option<Arc<Kernel>>,
}

/// What a kernel does around a layer, which the layer's arrays have to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Whether what smooths it stands there twice, as some loaders want.
    pub twice: bool,
    /// Whether there is a scale of all its scales.
    pub tensor_scale: bool,
    /// Whether there are scales of its rows.
    pub row_scales: bool,
    /// Whether it has a bias, be it of zeros.
    pub bias: bool,
    /// Whether GELU before it is shifted to be above zero, which the bias takes back.
    pub shifted: bool,
    /// Fields whose rows lie interleaved, one of each in turn; 0: they lie one after another.
    pub fields: u32,
    /// What columns are multiplied by before quantization, and inputs divided by.
    pub smooth: Option<Smooth>,
    /// Of a layer whose arrays hold several, one below the other: its rows, and the shape of all.
    pub window: Option<Window>,
    /// Of a layer whose columns are those of two, each with arrays of its own: how many the first has.
    pub first_cols: Option<u64>,
}

/// Rows of a matrix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Which.
    pub rows: std::ops::Range<u64>,
    /// Rows and columns of the whole.
    pub of: [u64; 2],
}

/// A positive number for each column. Two are equal if they are the same, not if they look alike.
#[derive(Clone, Debug)]
pub struct Smooth {
    all: Arc<Vec<f32>>,
    part: std::ops::Range<usize>,
}

impl Smooth {
    /// Of all columns.
    pub fn new(all: Vec<f32>) -> Self {
        Self { part: 0..all.len(), all: Arc::new(all) }
    }
    /// Of some of the columns that it is of.
    pub fn of_cols(&self, cols: std::ops::Range<usize>) -> Option<Self> {
        let part = self.part.start.checked_add(cols.start)?..self.part.start.checked_add(cols.end)?;
        (part.start <= part.end && part.end <= self.part.end).then(|| Self { all: Arc::clone(&self.all), part })
    }
    /// The numbers.
    pub fn values(&self) -> &[f32] {
        self.all.get(self.part.clone()).unwrap_or_default()
    }
}

impl PartialEq for Smooth {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.all, &other.all) && self.part == other.part
    }
}

impl Eq for Smooth {}

impl std::hash::Hash for Smooth {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.all), &self.part).hash(state);
    }
}

impl Recipe {
    /// Codes with a scale per group along dimension 1, and nothing else.
    pub fn plain(family: Family, dtype: Dtype, group_size: i64) -> Self {
        Self {
            family,
            dtype,
            group_size,
            svd_rank: 0,
            svd_steps: 8,
            hadamard: 0,
            codebook: false,
            scale_search: ScaleSearch::Absmax,
            axis: 1,
            importance: None,
            kernel: None,
        }
    }
}

/// A partial recipe: what a rule or an override says, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Patch {
    /// `true`: leave the tensor as it is. `false`: quantize it even if an earlier rule keeps it.
    pub keep: Option<bool>,
    /// See [`Recipe::dtype`].
    pub dtype: Option<Dtype>,
    /// See [`Recipe::group_size`].
    pub group_size: Option<i64>,
    /// See [`Recipe::svd_rank`].
    pub svd_rank: Option<u32>,
    /// See [`Recipe::svd_steps`].
    pub svd_steps: Option<u32>,
    /// See [`Recipe::hadamard`]: the most values to mix, a power of two; 0 for no rotation.
    pub hadamard: Option<u32>,
    /// See [`Recipe::codebook`].
    pub codebook: Option<bool>,
    /// See [`Recipe::scale_search`].
    pub scale_search: Option<ScaleSearch>,
}

impl Patch {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
    /// Takes over every field that `later` says.
    pub fn apply(&mut self, later: &Self) {
        fn over<T: Clone>(mine: &mut Option<T>, theirs: &Option<T>) {
            if theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
        over(&mut self.keep, &later.keep);
        over(&mut self.dtype, &later.dtype);
        over(&mut self.group_size, &later.group_size);
        over(&mut self.svd_rank, &later.svd_rank);
        over(&mut self.svd_steps, &later.svd_steps);
        over(&mut self.hadamard, &later.hadamard);
        over(&mut self.codebook, &later.codebook);
        over(&mut self.scale_search, &later.scale_search);
    }
    /// A patch that keeps a tensor as it is.
    pub fn keep() -> Self {
        Self { keep: Some(true), ..Self::default() }
    }
}

impl fmt::Display for Patch {
    /// `uint4 group 64 rank 16`, `keep`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match self.keep {
            Some(true) => words.push("keep".to_owned()),
            Some(false) => words.push("quantize".to_owned()),
            None => {}
        }
        words.extend(self.dtype.as_ref().map(ToString::to_string));
        words.extend(self.group_size.map(|g| format!("group {}", group_size::name(g))));
        words.extend(self.svd_rank.map(|r| format!("rank {r}")));
        words.extend(self.svd_steps.map(|s| format!("steps {s}")));
        words.extend(self.hadamard.map(|h| if h == 0 { "no hadamard".into() } else { format!("hadamard {h}") }));
        words.extend(self.codebook.map(|c| if c { "codebook".to_owned() } else { "no codebook".to_owned() }));
        words.extend(self.scale_search.map(|s| format!("scales by {}", s.name())));
        f.write_str(&words.join(" "))
    }
}
