//! Self-description: what was done to a layer, as JSON, in a 1-D U8 tensor beside it or in the file's header.
//!
//! `docs/METADATA_KEYS.md` lists the keys. Losses have a fixed width, so that a plan knows the bytes before the losses.
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::core::model::Stored;
use crate::core::units::fixed_width;
use crate::core::{Error, Loss, Result, Storage};
use crate::format::Opened;

/// Facts about a layer, by standard key.
pub type Facts = serde_json::Map<String, Value>;

/// The header key that holds the facts of all layers of a file: one JSON object, by layer.
pub const HEADER_KEY: &str = "mixdown";
/// What follows a layer's name in the name of its description.
const SUFFIX: &str = ".weight_metadata";
/// A description is a few hundred bytes; what is longer than this is something else.
const MAX_BYTES: u64 = 1 << 20;

/// The name of the tensor that describes a layer.
pub fn tensor_name(layer: &str) -> String {
    format!("{layer}{SUFFIX}")
}

/// Facts and loss as JSON. A loss that is not known yet takes the same room.
pub fn text(facts: &Facts, loss: Option<&Loss>) -> String {
    let mut json = Value::Object(facts.clone()).to_string();
    json.pop();
    if !facts.is_empty() {
        json.push(',');
    }
    let (mse, max) = loss.map_or((0.0, 0.0), |l| (l.mse, l.max_error));
    json.push_str(&format!(
        "\"mse\":{},\"max_error\":{},\"mixdown_version\":\"{}\"}}",
        fixed_width(mse),
        fixed_width(max),
        env!("CARGO_PKG_VERSION")
    ));
    json
}

/// Settings → JSON → UTF-8 → the elements of a 1-D U8 tensor.
pub fn pack_metadata(settings: &Facts) -> Vec<u8> {
    Value::Object(settings.clone()).to_string().into_bytes()
}

/// The settings that [`pack_metadata`] packed.
///
/// # Errors
/// If the bytes are not a JSON object in UTF-8.
pub fn unpack_metadata(bytes: &[u8]) -> Result<Facts> {
    serde_json::from_slice(bytes).map_err(|e| Error::failed(format!("metadata is not a JSON object: {e}")).because(e))
}

/// Whether an array has the form of a description: its content tells whether it is one.
pub fn is_description(stored: &Stored) -> bool {
    stored.name.ends_with(SUFFIX)
        && stored.storage == Storage::U8
        && stored.shape.len() == 1
        && stored.span.len <= MAX_BYTES
}

/// What reading a layer needs of its description. Keys that are not known are passed over.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Settings {
    /// The family that wrote it.
    pub target: Option<String>,
    /// Storage type of the codes.
    pub weights_dtype: Option<String>,
    /// Values per scale; -1 a row, -2 the tensor.
    pub group_size: Option<i64>,
    /// Rank of the low-rank branch.
    pub svd_rank: Option<u32>,
    /// Power iterations of its search.
    pub svd_steps: Option<u32>,
    /// Values that a rotation mixes; 0 or absent for none.
    pub hadamard_group_size: Option<u32>,
    /// Whether codes stand for levels.
    pub use_codebook: Option<bool>,
    /// The dimension that groups run along; absent: 1.
    pub axis: Option<u8>,
    /// The weight's shape.
    pub original_shape: Option<Vec<u64>>,
    /// The weight's type, in safetensors' words.
    pub original_dtype: Option<String>,
}

/// The descriptions of an opened model's layers, from tensors and headers. What cannot be read is a warning.
pub fn find(opened: &mut Opened) -> Result<BTreeMap<String, Settings>> {
    let mut warnings = Vec::new();
    let found = settings(opened, &mut warnings)?;
    opened.model_mut().warnings.append(&mut warnings);
    Ok(found)
}

/// The same, with the warnings where they are wanted.
pub fn settings(opened: &Opened, warnings: &mut Vec<String>) -> Result<BTreeMap<String, Settings>> {
    let mut found = BTreeMap::new();
    for (layer, facts) in all(opened, warnings)? {
        match serde_json::from_value(Value::Object(facts)) {
            Ok(settings) => {
                found.insert(layer, settings);
            }
            Err(e) => warnings.push(format!("the metadata of `{layer}` is not understood: {e}")),
        }
    }
    Ok(found)
}

/// Everything that a model's files say of its layers, decoded.
pub fn all(opened: &Opened, warnings: &mut Vec<String>) -> Result<BTreeMap<String, Facts>> {
    let model = &opened.model;
    let mut found = BTreeMap::new();
    for file in &model.files {
        for (_, text) in file.metadata.iter().filter(|(k, _)| k == HEADER_KEY) {
            match serde_json::from_str::<BTreeMap<String, Facts>>(text) {
                Ok(layers) => found.extend(layers),
                Err(e) => {
                    warnings.push(format!("{}: header key `{HEADER_KEY}` is not understood: {e}", file.path.display()))
                }
            }
        }
    }
    for s in &model.stored {
        let Some(layer) = s.name.strip_suffix(SUFFIX) else {
            continue;
        };
        if !is_description(s) {
            continue;
        }
        let mut bytes = vec![0; s.span.len as usize];
        opened.blobs[s.span.file as usize].read_at(s.span.offset, &mut bytes)?;
        match unpack_metadata(&bytes) {
            Ok(facts) => {
                found.insert(layer.to_owned(), facts);
            }
            Err(e) => warnings.push(format!("tensor `{}`: {e}", s.name)),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_length_does_not_depend_on_the_loss() {
        let mut facts = Facts::new();
        facts.insert("weights_dtype".into(), json!("uint4"));
        let loss =
            Loss { mse: 1.23456e-6, max_error: 0.25, relative_error: 0.0, sqnr_db: 0.0, weighted_relative_error: None };
        let known = text(&facts, Some(&loss));
        assert_eq!(known.len(), text(&facts, None).len());
        assert!(
            known.starts_with(r#"{"weights_dtype":"uint4","mse":1.234560e-06,"max_error":2.500000e-01,"#),
            "{known}"
        );
        let parsed = unpack_metadata(known.as_bytes()).expect("JSON");
        assert_eq!(parsed["mse"], json!(1.23456e-6));
    }

    proptest! {
        #[test]
        fn a_tensor_decodes_to_the_dictionary_it_was_made_from(
            dtype in "[a-z]{1,4}[0-9]", group in any::<i64>(), rank in any::<u32>(), svd: bool,
            shape in prop::collection::vec(any::<u64>(), 0..4), extra in "\\PC{0,12}", mse in any::<f64>().prop_filter("finite", |v| v.is_finite()),
        ) {
            let mut facts = Facts::new();
            facts.insert("weights_dtype".into(), json!(dtype));
            facts.insert("group_size".into(), json!(group));
            facts.insert("svd_rank".into(), json!(rank));
            facts.insert("use_svd".into(), json!(svd));
            facts.insert("original_shape".into(), json!(shape));
            facts.insert("mse".into(), json!(mse));
            facts.insert(extra.clone(), json!(extra));
            prop_assert_eq!(unpack_metadata(&pack_metadata(&facts)).expect("JSON"), facts);
        }
    }
}
