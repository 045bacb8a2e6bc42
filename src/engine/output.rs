//! What an output path means.
use std::path::{Path, PathBuf};

use crate::core::model::Origin;
use crate::core::{Error, Family, Result, Settings};
use crate::format::Opened;
use crate::target::layout::Output;

/// What an output path means for a model.
pub fn output_kind(opened: &Opened, settings: &Settings, output: &Path, max_shard: Option<u64>) -> Result<Output> {
    let extension = output.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let is_gguf = settings.target == Family::Gguf;
    let wrong = |form: &str, other: &str| {
        let path = output.display();
        Err(Error::usage(format!(
            "{path}: {} is written as {form}; name a {form} file or a folder, or say --to {other}",
            settings.target
        )))
    };
    let shards =
        |what: &str| Err(Error::usage(format!("--max-shard-size: a single {what} file has no shards; name a folder")));
    if settings.target == Family::Comfy && max_shard.is_some() {
        return Err(Error::usage("--max-shard-size: ComfyUI loads single files"));
    }
    if is_single(settings) && max_shard.is_some() {
        return Err(Error::usage("--max-shard-size: Nunchaku loads single files; a folder (--lite) may have shards"));
    }
    if is_gguf && settings.gguf.keep_split && max_shard.is_some() {
        return Err(Error::usage("--keep-split and --max-shard-size ask for different files; say one of them"));
    }
    match extension.as_deref() {
        Some("safetensors") if is_gguf => wrong(".gguf", "sdnq"),
        Some("gguf") if !is_gguf => wrong(".safetensors", "gguf"),
        Some("safetensors") if max_shard.is_some() => shards(".safetensors"),
        Some("gguf") if max_shard.is_some() => shards(".gguf"),
        Some("safetensors" | "gguf") => Ok(Output::File),
        _ => {
            let name = output.file_name().map(|n| n.to_string_lossy().into_owned());
            Ok(folder_output(opened, settings, name.as_deref(), max_shard))
        }
    }
}

/// The form an output has when nobody says otherwise: that of the source.
pub fn natural_output(opened: &Opened, settings: &Settings, max_shard: Option<u64>) -> Output {
    let keeps_several = settings.target == Family::Gguf && settings.gguf.keep_split && opened.model.files.len() > 1;
    let is_lite = settings.target == Family::Nunchaku && settings.nunchaku.lite;
    match (&opened.model.origin, max_shard) {
        _ if is_lite => folder_output(opened, settings, None, max_shard),
        (Origin::File, None) if !keeps_several => Output::File,
        _ if settings.target == Family::Comfy || is_single(settings) => Output::File,
        // One file is all that llama.cpp wants.
        (_, None) if settings.target == Family::Gguf && !keeps_several => Output::File,
        _ => folder_output(opened, settings, None, max_shard),
    }
}

/// Whether one of Nunchaku's own files is written.
fn is_single(settings: &Settings) -> bool {
    settings.target == Family::Nunchaku && !settings.nunchaku.lite
}

fn folder_output(opened: &Opened, settings: &Settings, name: Option<&str>, max_shard: Option<u64>) -> Output {
    let model = &opened.model;
    let weights = match &model.origin {
        Origin::Component { name } => PathBuf::from(name),
        _ => PathBuf::new(),
    };
    let first = model.files.first().and_then(|f| f.path.file_name()).map(|n| n.to_string_lossy().into_owned());
    let is_diffusers = model.config.as_ref().is_some_and(|c| c.get("_class_name").is_some())
        || first.is_some_and(|n| n.starts_with("diffusion_pytorch_model"));
    let stem = match name {
        // Loaders find the others by the name of the first, so it may as well say what it is.
        Some(name) if settings.target == Family::Gguf => name,
        _ if is_diffusers => "diffusion_pytorch_model",
        _ => "model",
    };
    Output::Folder { weights, stem: stem.into(), max_shard }
}
