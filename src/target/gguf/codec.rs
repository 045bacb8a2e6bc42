//! Values in blocks of ggml: rows of the last dimension, each a whole number of blocks.
use std::ops::Range;

use crate::core::imatrix::Importance;
use crate::core::recipe::Recipe;
use crate::core::{Cancel, Error, Result};
use crate::quant::ggml::Type;
use crate::target::codec::{Codec, Geometry, Piece, Prepared, Values};

/// The codec of one tensor.
#[derive(Clone, Debug)]
pub struct BlockCodec {
    kind: Type,
    geometry: Geometry,
    /// Rows of each of the tensor's matrices: a bank of experts has many.
    matrix_rows: usize,
    importance: Option<Importance>,
}

impl BlockCodec {
    /// That of a type of ggml, for a tensor of a shape in PyTorch's order.
    ///
    /// # Errors
    /// If the type is not written, rows are not whole blocks, or an importance matrix is needed and not there.
    pub fn new(shape: &[u64], recipe: &Recipe) -> Result<Self> {
        let name = recipe.dtype.as_str();
        let kind = Type::named(name).filter(|t| t.can_encode()).ok_or_else(|| unwritten(name))?;
        let [outer @ .., rows, cols] = shape else {
            return Err(Error::failed(format!("a tensor of shape {shape:?} has no rows to quantize to {name}")));
        };
        if !cols.is_multiple_of(kind.block() as u64) {
            return Err(Error::failed(format!("rows of {cols} are not whole blocks of {} for {name}", kind.block())));
        }
        if kind.requires_importance() && recipe.importance.is_none() {
            return Err(Error::failed(format!("{name} needs an importance matrix; give --imatrix")));
        }
        let all = outer.iter().fold(*rows, |n, d| n.saturating_mul(*d));
        let geometry = Geometry::of_rows(all, *cols);
        Ok(Self { kind, geometry, matrix_rows: *rows as usize, importance: recipe.importance.clone() })
    }

    /// The rows of a range that belong to each matrix.
    fn matrices(&self, rows: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (height, mut at) = (self.matrix_rows.max(1), rows.start);
        std::iter::from_fn(move || {
            let matrix = at / height;
            let part = at..((matrix + 1) * height).min(rows.end);
            at = part.end;
            (!part.is_empty()).then_some((matrix, part))
        })
    }

    fn bytes(&self, rows: usize) -> usize {
        rows * self.geometry.cols / self.kind.block() * self.kind.bytes()
    }
}

/// Why a type is not written.
pub fn unwritten(name: &str) -> Error {
    match name {
        "IQ1_S" | "IQ1_M" => Error::failed(format!(
            "{name} is read but not written: its bytes depend on the C library that llama.cpp was built with; \
             IQ2_XXS is the next larger"
        )),
        _ => Error::failed(format!("mixdown does not write {name}")),
    }
}

impl Codec for BlockCodec {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn prepare(&self, _: &dyn Values, _: &Cancel) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(self.clone()))
    }
    fn load(&self, _: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(self.clone()))
    }
    fn is_global(&self) -> bool {
        false
    }
    fn importance(&self, rows: Range<usize>) -> Vec<(Range<usize>, &[f32])> {
        let Some(importance) = &self.importance else { return Vec::new() };
        self.matrices(rows).filter_map(|(matrix, rows)| Some((rows, importance.matrix(matrix)?))).collect()
    }
}

impl Prepared for BlockCodec {
    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        Vec::new()
    }
    fn pieces(&self, rows: Range<usize>) -> Vec<Piece> {
        vec![Piece { part: 0, bytes: self.bytes(rows.start) as u64..self.bytes(rows.end) as u64 }]
    }
    fn encode(&self, rows: Range<usize>, values: &[f32], pieces: &mut [&mut [u8]]) {
        let cols = self.geometry.cols;
        let Some(bytes) = pieces.first_mut() else { return };
        let Some(importance) = &self.importance else {
            return self.kind.encode(cols, values, None, bytes);
        };
        // What an entry says nothing of counts alike, for the types that cannot do without.
        let even = vec![1.0; if self.kind.requires_importance() { cols } else { 0 }];
        for (matrix, part) in self.matrices(rows.clone()) {
            let within = part.start - rows.start..part.end - rows.start;
            let weights = importance.matrix(matrix).or((!even.is_empty()).then_some(&even[..]));
            let out = self.bytes(within.start)..self.bytes(within.end);
            self.kind.encode(cols, &values[within.start * cols..within.end * cols], weights, &mut bytes[out]);
        }
    }
    fn decode(&self, _: Range<usize>, pieces: &[&[u8]], out: &mut [f32]) {
        self.kind.decode(pieces.first().copied().unwrap_or_default(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Dtype, Family};

    fn recipe(dtype: &str, importance: Option<Importance>) -> Recipe {
        Recipe { importance, ..Recipe::plain(Family::Gguf, Dtype::new(dtype), 0) }
    }

    /// The bytes of some rows, in a place that holds others.
    fn encode(codec: &BlockCodec, rows: Range<usize>, values: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0xaa; codec.bytes(rows.len())];
        codec.encode(rows, values, &mut [&mut bytes]);
        bytes
    }

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.618).sin() * (1.0 + (i % 7) as f32)).collect()
    }

    #[test]
    fn slabs_give_the_bytes_of_the_whole() {
        let shape = [3, 5, 512];
        let weights: Vec<f32> = (0..512).map(|i| 0.1 + (i % 13) as f32).collect();
        for importance in [None, Some(Importance::new(weights))] {
            let codec = BlockCodec::new(&shape, &recipe("Q4_K", importance)).expect("a codec");
            let all = values(3 * 5 * 512);
            let whole = encode(&codec, 0..15, &all);
            assert_eq!(whole.len(), 15 * 2 * 144);
            for cut in 1..15 {
                let mut parts = encode(&codec, 0..cut, &all[..cut * 512]);
                parts.extend(encode(&codec, cut..15, &all[cut * 512..]));
                assert!(parts == whole, "cut at row {cut}");
            }
            assert_eq!(codec.pieces(3..7), [Piece { part: 0, bytes: 3 * 288..7 * 288 }]);
        }
    }

    #[test]
    fn each_matrix_has_its_own_importance() {
        let shape = [2, 4, 256];
        let weights: Vec<f32> = (0..512).map(|i| if i < 256 { 0.0 } else { 1.0 + (i % 5) as f32 * 3.0 }).collect();
        let entry = crate::core::imatrix::Entry { values: weights.clone(), counts: vec![1.0; 2] };
        let imatrix = crate::core::imatrix::Imatrix {
            entries: [("a".to_owned(), std::sync::Arc::new(entry))].into(),
            ..Default::default()
        };
        let importance = imatrix.of("a", 256, 2).expect("its shape");
        let codec = BlockCodec::new(&shape, &recipe("Q4_K", importance)).expect("a codec");
        let all = values(2 * 4 * 256);
        let bytes = encode(&codec, 0..8, &all);
        // The first says nothing, so it is encoded as without a matrix.
        let mut expected = vec![0; bytes.len()];
        let (first, second) = expected.split_at_mut(bytes.len() / 2);
        let kind = Type::named("Q4_K").expect("a type");
        kind.encode(256, &all[..1024], None, first);
        kind.encode(256, &all[1024..], Some(&weights[256..]), second);
        assert_eq!(bytes, expected);
        let spoken: Vec<_> = codec.importance(2..6).into_iter().map(|(rows, w)| (rows, w.len())).collect();
        assert_eq!(spoken, [(4..6, 256)]);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        fn check(shape: &[u64], dtype: &str, expected: &str) {
            let message = BlockCodec::new(shape, &recipe(dtype, None)).expect_err(dtype).to_string();
            assert!(message.contains(expected), "{message}");
        }
        check(&[4, 256], "IQ1_S", "read but not written");
        check(&[4, 256], "IQ2_XXS", "needs an importance matrix");
        check(&[4, 128], "Q4_K", "not whole blocks of 256");
        check(&[256], "Q4_K", "no rows");
        check(&[4, 256], "Q8_K", "does not write Q8_K");
    }
}
