//! Importance matrices: for each column of a weight, the mean square of what was multiplied with it.
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{Error, Result};

/// An importance matrix for each of a model's weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// The base name of its file.
    pub file: String,
    /// By the weight's name.
    pub entries: BTreeMap<String, Arc<Entry>>,
    /// Names of the texts it was made from.
    pub datasets: Vec<String>,
    /// Chunks of text that were evaluated; 0 if the file does not say.
    pub chunks: u32,
    /// Tokens of a chunk, where the file says.
    pub chunk_size: Option<u32>,
    /// Whether it came in the older form.
    pub legacy: bool,
}

/// What is known of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Importance of each column, matrix after matrix, as llama-quantize uses it.
    pub values: Vec<f32>,
    /// Tokens that each matrix saw (calls, one number for all, in the legacy form). A matrix that saw none has values
    /// of 1 in the GGUF form.
    pub counts: Vec<f32>,
}

impl Imatrix {
    /// Importance of the columns of a weight of so many matrices (1, or its experts). `None` if it has no entry; an
    /// error if the entry is of another shape.
    pub fn of(&self, name: &str, cols: u64, matrices: u64) -> Result<Option<Importance>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let (have, width) = (entry.values.len() as u64, usize::try_from(cols).unwrap_or(0));
        if width == 0 || cols.checked_mul(matrices) != Some(have) {
            return Err(Error::failed(format!(
                "the importance matrix has {have} values for `{name}`, expected {cols} for each of {matrices}; \
                 it was made for another model"
            )));
        }
        Ok(Some(Importance { entry: Arc::clone(entry), cols: width }))
    }
}

/// The importance of one weight's columns. Two are equal if they are the same entry, not if they look alike.
#[derive(Clone, Debug)]
pub struct Importance {
    entry: Arc<Entry>,
    cols: usize,
}

impl Importance {
    /// Of a weight's only matrix.
    pub fn new(values: Vec<f32>) -> Self {
        let cols = values.len();
        Self { entry: Arc::new(Entry { values, counts: vec![1.0] }), cols }
    }
    /// Of a matrix's columns; `None` where it says nothing: all of it zero, or some of it no number.
    pub fn matrix(&self, index: usize) -> Option<&[f32]> {
        let slice = self.entry.values.get(index * self.cols..(index + 1) * self.cols)?;
        let useful = slice.iter().all(|v| v.is_finite() && *v >= 0.0) && slice.iter().any(|v| *v > 0.0);
        useful.then_some(slice)
    }
    /// Matrices of which it says nothing, and all.
    pub fn silent(&self) -> (usize, usize) {
        let all = self.entry.values.len() / self.cols.max(1);
        ((0..all).filter(|i| self.matrix(*i).is_none()).count(), all)
    }
}

impl PartialEq for Importance {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry) && self.cols == other.cols
    }
}

impl Eq for Importance {}

impl Hash for Importance {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.entry).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_zeros_or_of_no_numbers_says_nothing() {
        let entry = Entry { values: vec![0.0, 0.0, 1.0, 0.0, f32::NAN, 1.0, -1.0, 2.0], counts: vec![1.0; 4] };
        let imatrix = Imatrix { entries: BTreeMap::from([("a".into(), Arc::new(entry))]), ..Imatrix::default() };
        let importance = imatrix.of("a", 2, 4).expect("its shape").expect("an entry");
        assert_eq!(importance.matrix(0), None);
        assert_eq!(importance.matrix(1), Some(&[1.0, 0.0][..]));
        assert_eq!(importance.matrix(2), None);
        assert_eq!(importance.matrix(3), None);
        assert_eq!(importance.matrix(4), None);
        assert_eq!(importance.silent(), (3, 4));
        assert_eq!(imatrix.of("b", 2, 4).expect("no entry"), None);
        assert!(imatrix.of("a", 4, 4).is_err());
    }
}
