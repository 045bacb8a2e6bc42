//! A header's tensors as a model's: plain numbers as they are, blocks as rows of bytes and the type that they are of.
use super::read::{Header, Info, lossy};
use crate::core::model::{Encoding, Placed, Span, Stored, Tensor};
use crate::core::recipe::{Family, Recipe};
use crate::core::{Dtype, Storage, name};

/// The arrays of a file, in file order; `span.file` is 0. Blocks are bytes of shape `[rows, bytes of a row]`.
pub fn arrays(header: &Header) -> Vec<Stored> {
    let array = |t: &Info| Stored {
        name: lossy(&t.name),
        storage: t.kind.storage().unwrap_or(Storage::U8),
        shape: if t.kind.is_quantized() { t.matrix().to_vec() } else { t.shape() },
        span: Span { file: 0, offset: header.data.saturating_add(t.offset), len: t.bytes },
    };
    header.tensors.iter().map(array).collect()
}

/// The tensors of a model, in natural order. `stored` has the [`arrays`] of each header in turn.
pub fn tensors<'a>(headers: impl IntoIterator<Item = &'a Header>, stored: &[Stored]) -> Vec<Tensor> {
    let infos = headers.into_iter().flat_map(|h| &h.tensors);
    let tensor = |(i, (info, array)): (usize, (&Info, &Stored))| {
        let (storage, encoding) = if info.kind.is_quantized() {
            let recipe = Recipe::plain(Family::Gguf, Dtype::new(info.kind.name()), info.kind.block() as i64);
            let part = Placed { array: i as u32, storage: array.storage, transposed: false };
            // What the values were before is not known; they are decoded to f32.
            (Storage::F32, Encoding::Packed { recipe, parts: vec![part] })
        } else {
            (array.storage, Encoding::Plain(i as u32))
        };
        Tensor {
            name: array.name.clone(),
            shape: info.shape(),
            storage,
            bytes: array.span.len,
            encoding,
            merged: false,
        }
    };
    let mut tensors: Vec<Tensor> = infos.zip(stored).enumerate().map(tensor).collect();
    tensors.sort_by(|a, b| name::natural(&a.name, &b.name));
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::gguf::Type;

    fn info(name: &str, dims: &[u64], kind: &str, offset: u64) -> Info {
        let kind = Type::by_name(kind).expect("a type");
        let bytes = kind.array_bytes(dims).expect("a size");
        Info { name: name.as_bytes().into(), dims: dims.into(), kind, offset, bytes }
    }

    #[test]
    fn numbers_are_plain_and_blocks_are_rows_of_bytes() {
        let header = Header {
            version: 3,
            alignment: 32,
            keys: Vec::new(),
            tensors: vec![
                info("z", &[512, 3, 2], "Q4_K", 0),
                info("a", &[5, 3], "BF16", 1728),
                info("empty", &[256, 0], "Q6_K", 1760),
                info("one", &[], "I32", 1760),
            ],
            data: 64,
            warnings: Vec::new(),
        };
        let stored = arrays(&header);
        let shown: Vec<_> = stored
            .iter()
            .map(|s| (s.name.as_str(), s.storage, s.shape.as_slice(), s.span.offset, s.span.len))
            .collect();
        assert_eq!(
            shown,
            [
                ("z", Storage::U8, &[6, 288][..], 64, 1728),
                ("a", Storage::BF16, &[3, 5], 1792, 30),
                ("empty", Storage::U8, &[0, 210], 1824, 0),
                ("one", Storage::I32, &[], 1824, 4),
            ]
        );
        let tensors = tensors([&header], &stored);
        let shown: Vec<_> =
            tensors.iter().map(|t| (t.name.as_str(), t.dtype_name(), t.shape.as_slice(), t.bytes)).collect();
        assert_eq!(
            shown,
            [
                ("a", "BF16".into(), &[3, 5][..], 30),
                ("empty", "Q6_K".into(), &[0, 256], 0),
                ("one", "I32".into(), &[], 4),
                ("z", "Q4_K".into(), &[2, 3, 512], 1728),
            ]
        );
        let Encoding::Packed { recipe, parts } = &tensors[3].encoding else { panic!("blocks are packed") };
        assert_eq!((recipe.family, parts[0].array), (Family::Gguf, 0));
    }
}
