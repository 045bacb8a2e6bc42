//! GGUF, for llama.cpp and what is built on it: its files are models, dequantized as they are read. What writing them
//! needs is here in parts: which type each tensor gets ([`mixtures`]) and what a file says of itself ([`metadata`]).
pub mod blocks;
pub mod metadata;
pub mod mixtures;

use super::codec::Codec;
use super::layout;
use super::{DtypeInfo, Knob, Target};
use crate::core::plan::{Action, Plan, Row};
use crate::core::rules::Decision;
use crate::core::{Dtype, Error, Family, Model, Result, Settings, Storage, TensorId};
use crate::format::gguf::Type;

/// The family.
pub struct Gguf;

fn refused() -> Error {
    Error::failed("this version reads GGUF files and does not write them")
}

impl Target for Gguf {
    fn family(&self) -> Family {
        Family::Gguf
    }
    fn dtypes(&self) -> Vec<DtypeInfo> {
        let blocks = Type::ALL.iter().filter(|t| t.is_quantized());
        blocks.map(|t| DtypeInfo { name: Dtype::new(t.name()), bits: t.bits(), about: "blocks of ggml" }).collect()
    }
    fn default_dtype(&self) -> Dtype {
        Dtype::new("Q4_K")
    }
    fn has(&self, _: Knob) -> Result<(), String> {
        Err(refused().to_string())
    }
    fn row(&self, _: &Model, _: TensorId, _: &Decision, _: &Settings) -> Result<Row> {
        Err(refused())
    }
    fn codec(&self, _: &[u64], _: Storage, _: &Action) -> Result<Box<dyn Codec>> {
        Err(refused())
    }
    fn description(&self, _: &Plan, _: &layout::Context) -> Result<layout::Description> {
        Err(refused())
    }
    fn loads_with(&self, _: &Model) -> String {
        "llama.cpp".into()
    }
}
