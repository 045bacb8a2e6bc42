//! All keys of a Hugging Face model, in the order of convert_hf_to_gguf.
use serde_json::Value as Json;

use super::card::Card;
use super::general::{self, About, Parameters};
use super::{Mapped, training};
use crate::core::model::Origin;
use crate::core::{Error, Model, Result};
use crate::format::Files;
use crate::format::gguf::Pair;
use crate::target::gguf::mixtures::keys::QUANTIZATION_VERSION;
use crate::target::gguf::tokenizer::{self, Vocabulary};

/// Keys, and what a person should know of them.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// In the order of the file.
    pub keys: Vec<Pair>,
    /// For people.
    pub warnings: Vec<String>,
}

/// Makes them, from what was mapped and from the files that lie around the weights. `rows` has the table of tokens;
/// `pre` is what a person calls the pre-tokenizer.
pub fn keys(
    mapped: &Mapped,
    model: &Model,
    files: &Files,
    parameters: Parameters,
    rows: Option<u64>,
    pre: Option<&str>,
) -> Result<Made> {
    let mut made = Made::default();
    let card = files.read("README.md")?.unwrap_or_default();
    let about = About {
        card: Card::read(&String::from_utf8_lossy(&card)),
        path: mapped.config.text(&["_name_or_path"]),
        // Some that are found in the wild are broken; nothing depends on them.
        generation: files.json("generation_config.json").unwrap_or_else(|e| {
            made.warnings.push(e.to_string());
            None
        }),
        folder: called(model),
        parameters,
    };
    made.warnings.extend(mapped.config.warnings());
    made.keys.push(Pair::new("general.architecture", mapped.architecture.name));
    made.keys.extend(general::keys(&about));
    made.keys.extend(mapped.keys.iter().cloned());
    if let Some(pooling) = pooling(files)? {
        made.keys.push(Pair::new(&format!("{}.pooling_type", mapped.architecture.name), pooling));
    }
    made.keys.push(Pair::new("general.quantization_version", QUANTIZATION_VERSION));
    if let Some(vocabulary) = vocabulary(mapped, model, files, pre)? {
        if let Some(rows) = rows.filter(|rows| *rows != vocabulary.tokens as u64) {
            made.warnings.push(format!(
                "the table of tokens has {rows} rows and the vocabulary {} tokens: llama.cpp will not load this",
                vocabulary.tokens
            ));
        }
        made.keys.extend(vocabulary.pairs);
        made.warnings.extend(vocabulary.warnings);
    } else {
        made.warnings.push(
            "there is no tokenizer beside the weights: ComfyUI has its own, but for UMT5, and llama.cpp will not load this"
                .into(),
        );
    }
    let state = files.json("trainer_state.json").ok().flatten();
    made.keys.extend(training::keys(&mapped.config, state.as_ref(), &about.card));
    let rest = mapped.config.rest(&made.keys);
    if !rest.is_empty() {
        made.keys.push(Pair::new("mixdown.hf_config", Json::Object(rest).to_string().as_str()));
    }
    Ok(made)
}

fn vocabulary(mapped: &Mapped, model: &Model, files: &Files, pre: Option<&str>) -> Result<Option<Vocabulary>> {
    let config = mapped.config.value();
    let request = tokenizer::Request {
        read: &|name| files.read(name),
        config: &config,
        architecture: mapped.architecture.name,
        family: tokenizer::Wanted::Auto,
        pre,
    };
    if let Some(vocabulary) = tokenizer::vocabulary(&request).map_err(|e| e.at(&model.label))? {
        return Ok(Some(vocabulary));
    }
    if !mapped.architecture.runs_alone {
        return Ok(None);
    }
    Err(Error::failed(format!(
        "{}: there is no tokenizer beside the weights, and llama.cpp needs one; looked for {}",
        model.label,
        tokenizer::FILES.join(", ")
    )))
}

/// What a model's name is read from: its id in a cache, else its folder's name.
fn called(model: &Model) -> String {
    if model.origin != Origin::File {
        return model.title.clone();
    }
    let folder = model.root.parent().and_then(|p| p.canonicalize().ok());
    let name = folder.and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| model.title.clone())
}

/// How a model of sentence-transformers makes one vector of its tokens': the number that llama.cpp has for it.
fn pooling(files: &Files) -> Result<Option<u32>> {
    let Some(modules) = files.json("modules.json")? else { return Ok(None) };
    let is_pooling = |m: &&Json| m.get("type").and_then(Json::as_str).is_some_and(|t| t.ends_with("Pooling"));
    let module = modules.as_array().into_iter().flatten().find(is_pooling);
    let Some(path) = module.and_then(|m| m.get("path")?.as_str()) else { return Ok(None) };
    let name = format!("{path}/config.json");
    let missing = || Error::failed(format!("{name}: modules.json names it, and it is not there; download it"));
    let config = files.json(&name)?.ok_or_else(missing)?;
    const MODES: [(&str, &str, u32); 3] = [
        ("pooling_mode_mean_tokens", "mean", 1),
        ("pooling_mode_cls_token", "cls", 2),
        ("pooling_mode_lasttoken", "lasttoken", 3),
    ];
    let on = |key: &str| config.get(key).and_then(Json::as_bool) == Some(true);
    let mode = config.get("pooling_mode").and_then(Json::as_str);
    let found = MODES.iter().find(|m| on(m.0)).or_else(|| MODES.iter().find(|m| mode == Some(m.1)));
    let unknown = || Error::failed(format!("{name}: llama.cpp pools by the mean, the first or the last token only"));
    found.map(|m| Some(m.2)).ok_or_else(unknown)
}
