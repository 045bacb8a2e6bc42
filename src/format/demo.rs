//! The built-in model: a small trained language model, in the binary. `assets/demo/NOTICE.md` says how it was made.
use super::{Assembly, Blob, Companion, Content, Opened, safetensors};
use crate::core::model::{FileInfo, Origin};
use crate::core::{Error, Result};

const WEIGHTS: &[u8] = include_bytes!("../../assets/demo/model/model.safetensors");
const CONFIG: &[u8] = include_bytes!("../../assets/demo/model/config.json");

/// The files that belong to it.
const COMPANIONS: [(&str, &[u8]); 4] = [
    ("config.json", CONFIG),
    ("generation_config.json", include_bytes!("../../assets/demo/model/generation_config.json")),
    ("tokenizer.json", include_bytes!("../../assets/demo/model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../assets/demo/model/tokenizer_config.json")),
];

/// Opens it.
pub fn open() -> Result<Opened> {
    let blob = Blob::Memory { name: "demo/model.safetensors", bytes: WEIGHTS.into() };
    let header = safetensors::read_header(&blob)?;
    let config = serde_json::from_slice(CONFIG)
        .map_err(|e| Error::failed(format!("the built-in config.json is broken: {e}")).because(e))?;
    let info = FileInfo { path: blob.path().to_owned(), bytes: blob.len(), metadata: header.metadata };
    let companions =
        COMPANIONS.iter().map(|(name, bytes)| Companion { relative: name.into(), content: Content::Embedded(bytes) });
    Assembly {
        label: "--demo".into(),
        title: "demo".into(),
        origin: Origin::Demo,
        root: "demo".into(),
        config: Some(config),
        quantization: None,
        files: vec![(blob, info, header.arrays)],
        companions: companions.collect(),
        index: None,
        warnings: Vec::new(),
        gguf: Vec::new(),
    }
    .finish()
}
