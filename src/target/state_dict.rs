//! The conversion as a pure function: arrays in, arrays and metadata out; in memory, stateless, no files.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::{Context, Description, Output};
use super::metadata;
use super::pass::{Pass, Sink};
use crate::core::dtype::{Storage, StorageExt};
use crate::core::model::{FileInfo, Origin, Span, Stored, plain_tensors};
use crate::core::plan::Action;
use crate::core::{Cancel, Error, Loss, Model, Result, Settings};
use crate::format::{Blob, Opened};

/// One array in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its element type.
    pub storage: Storage,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its elements, little-endian, row by row.
    pub bytes: Vec<u8>,
}

/// What became of a state dictionary.
#[derive(Clone, Debug, Default)]
pub struct Converted {
    /// The arrays, self-description included where it stands as tensors.
    pub tensors: BTreeMap<String, Array>,
    /// Metadata for the file's header.
    pub metadata: BTreeMap<String, String>,
    /// The loss of each quantized weight.
    pub losses: BTreeMap<String, Loss>,
}

/// Converts a dictionary of arrays by `settings`, as a single file of their target would hold it.
///
/// # Errors
/// If an array's bytes do not fit its shape, a weight is not finite, or a setting means nothing to the target.
pub fn convert_state_dict(tensors: BTreeMap<String, Array>, settings: &Settings) -> Result<Converted> {
    let opened = Arc::new(opened(tensors)?);
    let model = &opened.model;
    let plan = super::plan(model, settings)?;
    let context = Context { model, settings, output: Output::File, headers: &[], files: Default::default() };
    let target = super::get(plan.family);
    let Description { metadata: header, of_row, beside, by_tensor, .. } = target.description(&plan, &context)?;
    let mut out = Converted { metadata: header.into_iter().collect(), ..Converted::default() };
    let mut layers = Vec::new();
    for row in &plan.rows {
        let id = row.sources.first().copied().ok_or_else(|| Error::failed("a row without a source"))?;
        let parts: Vec<Mutex<Vec<u8>>> = row.parts.iter().map(|p| Mutex::new(vec![0; p.bytes() as usize])).collect();
        let sink = Parts(&parts);
        if row.parts.is_empty() {
            continue;
        }
        if row.action == Action::Copy {
            let mut bytes = vec![0; row.bytes_after() as usize];
            super::values::copy(&opened, row, 0, &mut bytes)?;
            sink.write(0, 0, &bytes)?;
        } else {
            let codec = target.codec(&row.shape, model.tensor(id).storage, &row.action)?;
            let values = super::values::of_row(&opened, row, codec.geometry())?;
            let cancel = Cancel::new();
            let pass = Pass {
                name: &row.name,
                codec: codec.as_ref(),
                values: values.as_ref(),
                sink: &sink,
                cancel: &cancel,
                detail: false,
            };
            let loss = pass.run(&|_| ())?.sums.loss();
            if let Some(facts) = of_row.map(|f| f(row, model)).filter(|f| !f.is_empty() && !row.excluded) {
                let layer = crate::core::name::layer(&row.name);
                let text = metadata::text(&facts, Some(&loss));
                if by_tensor {
                    let shape = vec![text.len() as u64];
                    let array = Array { storage: Storage::U8, shape, bytes: text.into_bytes() };
                    out.tensors.insert(metadata::tensor_name(layer), array);
                } else {
                    layers.push(format!("{}:{text}", serde_json::Value::String(layer.to_owned())));
                }
            }
            if let Some((name, bytes)) = beside.and_then(|f| f(row)) {
                out.tensors.insert(name, Array { storage: Storage::U8, shape: vec![bytes.len() as u64], bytes });
            }
            if !row.excluded {
                out.losses.insert(row.name.clone(), loss);
            }
        }
        for (part, bytes) in row.parts.iter().zip(parts) {
            let bytes = bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
            let array = Array { storage: part.storage, shape: part.shape.clone(), bytes };
            if out.tensors.insert(part.name.clone(), array).is_some() {
                return Err(Error::failed(format!("two tensors would be called `{}`", part.name)));
            }
        }
    }
    if !layers.is_empty() {
        out.metadata.insert(metadata::HEADER_KEY.into(), format!("{{{}}}", layers.join(",")));
    }
    Ok(out)
}

struct Parts<'a>(&'a [Mutex<Vec<u8>>]);

impl Sink for Parts<'_> {
    fn write(&self, part: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut whole = self.0[part].lock().unwrap_or_else(PoisonError::into_inner);
        whole[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// A model whose files are the arrays themselves.
fn opened(tensors: BTreeMap<String, Array>) -> Result<Opened> {
    let mut stored = Vec::new();
    let mut blobs = Vec::new();
    let mut files = Vec::new();
    for (name, array) in tensors {
        let elements = array.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let expected = elements.and_then(|n| array.storage.array_bytes(n));
        if expected != Some(array.bytes.len() as u64) {
            return Err(Error::failed(format!(
                "tensor `{name}`: {} bytes do not hold {} of shape {:?}",
                array.bytes.len(),
                array.storage.name(),
                array.shape
            )));
        }
        let span = Span { file: blobs.len() as u32, offset: 0, len: array.bytes.len() as u64 };
        files.push(FileInfo { path: PathBuf::from(&name), bytes: span.len, metadata: Vec::new() });
        blobs.push(Blob::Memory { name: "memory", bytes: array.bytes.into() });
        stored.push(Stored { name, storage: array.storage, shape: array.shape, span });
    }
    let tensors = plain_tensors(&stored);
    let model = Model {
        title: "state dictionary".into(),
        label: "state dictionary".into(),
        origin: Origin::File,
        root: PathBuf::new(),
        format: "safetensors".into(),
        architecture: None,
        tied: false,
        numbers: BTreeMap::new(),
        config: None,
        quantization: None,
        files,
        stored,
        tensors,
        adapters: Vec::new(),
        warnings: Vec::new(),
        foreign: None,
    };
    let mut opened = Opened {
        model: Arc::new(model),
        blobs,
        companions: Vec::new(),
        index: None,
        strays: Vec::new(),
        gguf: Vec::new(),
        changes: None,
    };
    super::recognise(&mut opened)?;
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Dtype, Family};

    fn example() -> BTreeMap<String, Array> {
        let values: Vec<u8> = (0..128 * 128).flat_map(|i| ((i as f32 * 0.37).sin() * 0.1).to_le_bytes()).collect();
        BTreeMap::from([
            ("a.weight".into(), Array { storage: Storage::F32, shape: vec![128, 128], bytes: values }),
            ("a.bias".into(), Array { storage: Storage::F32, shape: vec![2], bytes: vec![0; 8] }),
        ])
    }

    #[test]
    fn a_layer_becomes_its_parts_and_comes_back() {
        let mut settings = Settings::new(Family::Sdnq);
        settings.defaults.dtype = Some(Dtype::new("uint4"));
        let packed = convert_state_dict(example(), &settings).expect("converted");
        let names: Vec<&str> = packed.tensors.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.bias", "a.scale", "a.weight", "a.weight_metadata", "a.zero_point"]);
        let facts = metadata::unpack_metadata(&packed.tensors["a.weight_metadata"].bytes).expect("JSON");
        assert_eq!(facts["weights_dtype"], "uint4");

        let mut settings = Settings::new(Family::Float);
        settings.defaults.dtype = Some(Dtype::new("F32"));
        let back = convert_state_dict(packed.tensors.clone(), &settings).expect("dequantized");
        assert_eq!(back.tensors.keys().map(String::as_str).collect::<Vec<_>>(), ["a.bias", "a.weight"]);
        let floats =
            |a: &Array| -> Vec<f32> { a.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect() };
        let sums = crate::core::LossSums::of(&floats(&example()["a.weight"]), &floats(&back.tensors["a.weight"]));
        assert_eq!(sums.loss(), packed.losses["a.weight"], "what was previewed is what is read back");
    }

    #[test]
    fn a_short_array_is_refused() {
        let mut tensors = example();
        tensors.insert("b".into(), Array { storage: Storage::F32, shape: vec![3], bytes: vec![0; 8] });
        let e = convert_state_dict(tensors, &Settings::new(Family::Float)).expect_err("too short");
        assert!(e.to_string().contains("`b`"));
    }
}
