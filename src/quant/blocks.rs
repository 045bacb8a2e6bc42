//! How values divide into the blocks that share one scale.

/// How a run of values divides into groups that share one scale.
///
/// The values are viewed as `[outer, groups, len, inner]`, row-major, and reduced over `len`; the scales are
/// `[outer, groups, inner]`, row-major.
///
/// | what | outer | groups | len | inner |
/// |---|---|---|---|---|
/// | linear `[O, I]`, a scale per row | O | 1 | I | 1 |
/// | linear, groups of `g` | O | I / g | g | 1 |
/// | convolution `[O, I, kh, kw]`, reduced over I | O | 1 | I | kh · kw |
/// | convolution, groups of `g` | O | I / g | g | kh · kw |
/// | one scale for the tensor | 1 | 1 | all | 1 |
///
/// A slab of whole rows is the same with a smaller `outer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocks {
    /// Rows: output channels.
    pub outer: usize,
    /// Groups in a row.
    pub groups: usize,
    /// Values that share a scale.
    pub len: usize,
    /// Positions that lie between two neighbours of a block; 1 when a block is contiguous.
    pub inner: usize,
}

impl Blocks {
    /// One block per row of `[rows, cols]`.
    pub const fn rows(rows: usize, cols: usize) -> Self {
        Self { outer: rows, groups: 1, len: cols, inner: 1 }
    }

    /// Blocks of `size` along the rows of `[rows, cols]`; `None` unless `size` divides `cols`.
    pub const fn grouped(rows: usize, cols: usize, size: usize) -> Option<Self> {
        if size == 0 || !cols.is_multiple_of(size) {
            return None;
        }
        Some(Self { outer: rows, groups: cols / size, len: size, inner: 1 })
    }

    /// All `values` in one block.
    pub const fn whole(values: usize) -> Self {
        Self { outer: 1, groups: 1, len: values, inner: 1 }
    }

    /// How many values there are.
    pub const fn values(&self) -> usize {
        self.outer * self.groups * self.len * self.inner
    }

    /// How many blocks, hence scales, there are: `outer · groups · inner`.
    pub const fn scales(&self) -> usize {
        self.outer * self.groups * self.inner
    }

    /// The same blocks for another number of rows: what a slab of the tensor looks like.
    pub const fn with_outer(self, outer: usize) -> Self {
        Self { outer, ..self }
    }
}
