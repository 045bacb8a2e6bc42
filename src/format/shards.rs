//! `*.safetensors.index.json`: which shard holds which tensor.
use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use crate::core::{Error, Result};

/// An index file.
#[derive(Debug, Deserialize)]
pub struct Index {
    /// Tensor name → file name. The names stay within the index's own folder.
    pub weight_map: BTreeMap<String, String>,
    #[serde(default)]
    metadata: serde_json::Value,
}

impl Index {
    /// Bytes of all tensors, as it claims.
    pub fn total_size(&self) -> Option<u64> {
        self.metadata.get("total_size")?.as_u64()
    }
}

/// Largest index that is read; 200,000 tensors with long names take about 30 MB.
const MAX_INDEX: u64 = 512 << 20;

/// Reads an index.
pub fn read_index(path: &Path) -> Result<Index> {
    let fail = |what: String| Error::failed(format!("{}: {what}", path.display()));
    let value = super::json::read(path, MAX_INDEX)?.ok_or_else(|| fail("cannot be read".into()))?;
    let index: Index =
        serde_json::from_value(value).map_err(|e| fail(format!("is not a safetensors index: {e}")).because(e))?;
    if index.weight_map.is_empty() {
        return Err(fail("names no tensor".into()));
    }
    for (tensor, file) in &index.weight_map {
        if !is_inside(Path::new(file)) {
            return Err(fail(format!(
                "puts tensor `{tensor}` into `{file}`, which is outside the model's folder; refused"
            )));
        }
    }
    Ok(index)
}

/// Whether a relative path stays below where it starts, on any system.
pub fn is_inside(path: &Path) -> bool {
    let text = path.as_os_str().to_string_lossy();
    !text.is_empty()
        && !text.contains(['\\', '\0'])
        && !text.contains(':')
        && path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
        && path.components().any(|c| matches!(c, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_are_refused() {
        fn check(path: &str, inside: bool) {
            assert_eq!(is_inside(Path::new(path)), inside, "{path}");
        }
        check("model-00001-of-00002.safetensors", true);
        check("transformer/model.safetensors", true);
        check("../x", false);
        check("a/../../x", false);
        check("/etc/passwd", false);
        check("C:\\x", false);
        check("..\\x", false);
        check("", false);
        check(".", false);
    }
}
