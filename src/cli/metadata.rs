//! `mixdown metadata`.
use std::path::Path;

use serde_json::{Map, Value};

use super::args::{Global, MetadataAddArgs, MetadataArgs, MetadataCommand};
use super::{inspect, logging, print_bytes, print_json, signals};
use crate::core::{Error, Result, name};
use crate::format::hub::config;
use crate::format::safetensors::edit;
use crate::format::{self, OpenOptions, Opened};
use crate::target::nunchaku::metadata as nunchaku;
use crate::target::nunchaku::table::{self, Terms};

type Pairs = Vec<(String, String)>;

pub fn run(global: &Global, args: &MetadataArgs) -> Result<u8> {
    match &args.command {
        MetadataCommand::Show { file } => show(file),
        MetadataCommand::Add(add) => self::add(global, add),
        MetadataCommand::Remove { file, keys } => remove(global, file, keys),
    }
}

fn show(file: &str) -> Result<u8> {
    let opened = format::open(file, &OpenOptions::default())?;
    let shown: Map<String, Value> =
        opened.model.metadata().into_iter().map(|(k, v)| (k.to_owned(), inspect::header(v))).collect();
    print_json(&Value::Object(shown))
}

/// A single safetensors file that may be changed.
fn open_file(file: &Path) -> Result<(Opened, Pairs)> {
    let place = file.display();
    if !file.is_file() {
        let what = if file.exists() { "not a file" } else { "no such file" };
        return Err(Error::failed(format!("{place}: {what}; metadata lies in the header of one .safetensors file")));
    }
    let opened = format::open(&place.to_string(), &OpenOptions::default())?;
    if !opened.gguf.is_empty() {
        return Err(Error::failed(format!(
            "{place}: a GGUF file; its keys are set when it is written, with `convert --override-kv`"
        )));
    }
    let pairs = edit::metadata(file)?;
    Ok((opened, pairs))
}

fn add(global: &Global, args: &MetadataAddArgs) -> Result<u8> {
    let file = args.file.as_path();
    let (opened, before) = open_file(file)?;
    let stored = &opened.model.stored;
    let place = file.display();
    let found = nunchaku::find(stored).map_err(|e| e.at(place.to_string()))?;
    let added = match (found, source(args)?) {
        (Some(found), Source::Config { text, from }) => {
            let at = |e: Error| e.at(&from);
            let value: Value = serde_json::from_str(&nunchaku::source_config(&text).map_err(at)?)
                .map_err(|e| Error::failed(format!("{from}: is not valid JSON: {e}")).because(e))?;
            let pairs = nunchaku::header(&text, found, args.extra_metadata).map_err(at)?;
            nunchaku::fits(&value, stored.iter().map(|s| s.name.as_str())).map_err(at)?;
            let terms = Terms {
                precision: found.precision,
                rank: found.rank,
                skip_refiners: found.skip_refiners.unwrap_or(false),
            };
            let arrays = stored.iter().map(|s| (s.name.as_str(), s.shape.as_slice()));
            if let Err(e) = table::fits(&value, terms, arrays) {
                logging::warn(&format!("{from}: {e}; `mixdown validate {place}` tells all that differs"), global);
            }
            pairs
        }
        (None, Source::Config { text, from }) => {
            if args.extra_metadata {
                return Err(Error::failed(format!(
                    "{place}: --extra-metadata is for Nunchaku's files, and this is none"
                )));
            }
            vec![(nunchaku::CONFIG.to_owned(), nunchaku::source_config(&text).map_err(|e| e.at(&from))?)]
        }
        (Some(_), Source::Pairs { from, .. }) => {
            return Err(Error::failed(format!(
                "{from}: has no `config` in its metadata, which a Nunchaku file needs; give a model's folder or id"
            )));
        }
        (None, Source::Pairs { pairs, from }) => {
            if args.extra_metadata {
                return Err(Error::failed(format!(
                    "{place}: --extra-metadata is for Nunchaku's files, and this is none"
                )));
            }
            if pairs.is_empty() {
                return Err(Error::failed(format!("{from}: has no metadata and no config.json to take any from")));
            }
            pairs
        }
    };
    let mut after = before.clone();
    let mut told = String::new();
    for (key, value) in added {
        let what = match after.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) if *old == value => continue,
            Some((_, old)) => {
                *old = value;
                "replaced"
            }
            None => {
                after.push((key.clone(), value));
                "added"
            }
        };
        told.push_str(&format!("{what} {}\n", name::clean(&key)));
    }
    replace(global, file, opened, &before, &after, &told)
}

/// What metadata is taken from.
enum Source {
    /// A config's text.
    Config { text: String, from: String },
    /// A file's own metadata, without a config that is another's business.
    Pairs { pairs: Pairs, from: String },
}

fn source(args: &MetadataAddArgs) -> Result<Source> {
    let config = |found: config::Found| Source::Config { text: found.text, from: found.path.display().to_string() };
    if let Some(yaml) = &args.config_yaml {
        return config::of_yaml(yaml).map(config);
    }
    if let Some(label) = &args.model_path {
        return config::of_model(label).map(config);
    }
    let label = args.from.as_deref().unwrap_or_default();
    if Path::new(label).extension().is_some_and(|x| x.eq_ignore_ascii_case("safetensors")) && Path::new(label).is_file()
    {
        if same_file::is_same_file(label, &args.file).unwrap_or(false) {
            return Err(Error::usage(format!("--from {label}: is the file itself")));
        }
        let pairs = edit::metadata(Path::new(label))?;
        // Another Nunchaku file of the model has the config; what else it says is of itself.
        let quantized = pairs.iter().any(|(k, _)| k == nunchaku::QUANTIZATION);
        let text = pairs.iter().find(|(k, _)| k == nunchaku::CONFIG).map(|(_, v)| v.clone());
        return Ok(match text {
            Some(text) if quantized => Source::Config { text, from: label.to_owned() },
            _ => Source::Pairs { pairs, from: label.to_owned() },
        });
    }
    config::of_model(label).map(config)
}

fn remove(global: &Global, file: &Path, keys: &[String]) -> Result<u8> {
    let (opened, before) = open_file(file)?;
    if let Some(key) = keys.iter().find(|key| !before.iter().any(|(k, _)| k == *key)) {
        let has = match &before[..] {
            [] => "it has no metadata".to_owned(),
            all => format!("it has {}", all.iter().map(|(k, _)| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
        };
        return Err(Error::failed(format!("{}: the metadata has no key `{key}`; {has}", file.display())));
    }
    let after: Pairs = before.iter().filter(|(k, _)| !keys.contains(k)).cloned().collect();
    let told: String =
        before.iter().filter(|(k, _)| keys.contains(k)).map(|(k, _)| format!("removed {}\n", name::clean(k))).collect();
    replace(global, file, opened, &before, &after, &told)
}

fn replace(global: &Global, file: &Path, opened: Opened, before: &Pairs, after: &Pairs, told: &str) -> Result<u8> {
    // A file that is open cannot be replaced everywhere.
    drop(opened);
    if before == after {
        return print_bytes(b"nothing to change\n");
    }
    let cancel = signals::cancel_on_signal()?;
    edit::set_metadata(file, after, &cancel)?;
    print_bytes(if global.quiet { b"" } else { told.as_bytes() })
}
