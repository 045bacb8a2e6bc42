//! Profiles as `SDNQConfig`, the settings of the `sdnq` library, and back.
//!
//! Both decide by the names of weights, in different ways. Ours go field by field, and the last rule that matches wins.
//! In sdnq (`utils.get_quant_kwargs` of 0.2.8) a layer that matches `modules_to_not_convert` is kept, whatever else is
//! said of it; of `modules_quant_config` the first entry that matches counts, as a whole; then the first list of
//! `modules_dtype_dict` that matches decides the dtype. The library sorts these when it saves a model.
mod export;
mod import;
pub mod pattern;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::core::recipe::group_size;
use crate::core::{Dtype, Patch, Result};

pub use export::{Exported, Known, Layer, export};
pub use import::{Imported, import};

/// What the library takes when nothing is said.
const SVD_RANK: u32 = 32;
const SVD_STEPS: u32 = 8;

/// What the target knows of its dtypes.
pub struct Dtypes<'a> {
    /// The one that is taken when nothing is said.
    pub default: Dtype,
    /// The canonical spelling of a name, or what is wrong with it.
    pub parse: &'a dyn Fn(&str) -> Result<Dtype>,
    /// Bits of an element, scales not counted.
    pub bits: &'a dyn Fn(&Dtype) -> u32,
}

/// What the library is told of a layer.
#[derive(Clone, Debug, PartialEq)]
struct Kwargs {
    dtype: Dtype,
    group_size: i64,
    /// 0: no low-rank branch.
    svd_rank: u32,
    svd_steps: u32,
    /// 0: no rotation.
    hadamard: u32,
    codebook: bool,
}

impl Kwargs {
    /// What a profile's word comes to where it says nothing more.
    fn of(patch: &Patch, dtypes: &Dtypes) -> Self {
        let dtype = patch.dtype.clone().unwrap_or_else(|| dtypes.default.clone());
        let bits = (dtypes.bits)(&dtype);
        Self {
            // The target writes 8 bits by rows unless it is told otherwise; the library would make groups of 1024.
            group_size: patch.group_size.unwrap_or(if bits == 8 { group_size::ROW } else { group_size::AUTO }),
            svd_rank: patch.svd_rank.unwrap_or(0),
            svd_steps: patch.svd_steps.unwrap_or(SVD_STEPS),
            hadamard: patch.hadamard.unwrap_or(0),
            // Where there can be none the target does without; the library would refuse.
            codebook: patch.codebook == Some(true) && dtype.as_str().starts_with("uint") && bits <= 8,
            dtype,
        }
    }

    /// All of it, in the library's words.
    fn json(&self) -> Map<String, Value> {
        let rank = if self.svd_rank > 0 { self.svd_rank } else { SVD_RANK };
        let rotation = if self.hadamard > 0 { self.hadamard } else { crate::core::rules::hadamard::DEFAULT };
        let mut map = Map::new();
        map.insert("weights_dtype".into(), json!(self.dtype.as_str()));
        map.insert("group_size".into(), json!(self.group_size));
        map.insert("use_svd".into(), json!(self.svd_rank > 0));
        map.insert("svd_rank".into(), json!(rank));
        map.insert("svd_steps".into(), json!(self.svd_steps));
        map.insert("use_hadamard".into(), json!(self.hadamard > 0));
        map.insert("hadamard_group_size".into(), json!(rotation));
        map.insert("use_codebook".into(), json!(self.codebook));
        map
    }

    /// What must be said of it beside `general`.
    fn beside(&self, general: &Self) -> Map<String, Value> {
        let general = general.json();
        let mut map = self.json();
        map.retain(|key, value| {
            let counts = match key.as_str() {
                "svd_rank" | "svd_steps" => self.svd_rank > 0,
                "hadamard_group_size" => self.hadamard > 0,
                _ => true,
            };
            counts && general.get(key) != Some(value)
        });
        map
    }

    /// Whether it comes to the same.
    fn is_like(&self, other: &Self) -> bool {
        self.beside(other).is_empty() && other.beside(self).is_empty()
    }
}
