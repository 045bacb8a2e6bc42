//! Where the config of a bare weight file comes from: the model's folder, a snapshot in the cache, or what a YAML file
//! of deepcompressor's names. Each step is logged.
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Wanted, pipeline, resolve_with};
use crate::core::{Error, Result};

/// Where a folder may have it: a pipeline's network, or a component's own folder.
const PLACES: [&str; 3] = ["transformer/config.json", "unet/config.json", "config.json"];
/// Bytes that such a file has at most; real ones have a few thousand.
const MOST: u64 = 16 << 20;

const CONFIG: Wanted = Wanted { what: "a transformer/config.json", is_in: |folder| place_in(folder).is_some() };

/// A config, as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// The config of a model: `label` is a config's own file, a folder, an id in the cache (`org/name[@revision]`) or a short
/// name.
///
/// # Errors
/// If there is none, or it cannot be read as text.
pub fn of_model(label: &str) -> Result<Found> {
    let path = Path::new(label);
    if path.is_file() {
        if path.extension().is_some_and(|x| x.eq_ignore_ascii_case("json")) {
            return read(path.to_owned());
        }
        return Err(Error::failed(format!("{label}: not a config.json; give that, a model's folder, or an id")));
    }
    if path.is_dir() {
        let found = place_in(path)
            .ok_or_else(|| Error::failed(format!("{label}: the folder has no {}", PLACES.join(", no "))))?;
        return read(found);
    }
    let folder = resolve_with(label, &CONFIG)?.ok_or_else(|| {
        Error::failed(format!("{label}: no such file or folder, and not an id of the form org/name or a short name"))
    })?;
    place_in(&folder).map_or_else(|| Err(Error::failed(format!("{label}: its config has gone away"))), read)
}

/// The config of the model that a YAML file of deepcompressor's names, as `pipeline.path` or else `pipeline.name`.
///
/// # Errors
/// If the file names none, or as for [`of_model`].
pub fn of_yaml(file: &Path) -> Result<Found> {
    let place = file.display().to_string();
    let named = pipeline::parse(&text(file)?).map_err(|e| e.at(&place))?;
    let (key, label) = match (named.path, named.name) {
        (Some(path), _) => ("path", path),
        (None, Some(name)) => ("name", name),
        (None, None) => {
            return Err(Error::failed(format!("{place}: `pipeline` has no `path` and no `name`, which say the model")));
        }
    };
    log::info!("{place}: pipeline.{key} is `{label}`");
    of_model(&label).map_err(|e| e.at(format!("{place}: pipeline.{key}")))
}

fn place_in(folder: &Path) -> Option<PathBuf> {
    PLACES.iter().map(|p| folder.join(p)).find(|p| p.is_file())
}

fn read(path: PathBuf) -> Result<Found> {
    log::info!("config: {}", path.display());
    Ok(Found { text: text(&path)?, path })
}

/// A small text file.
fn text(path: &Path) -> Result<String> {
    let fail = |what: String| Error::failed(format!("{}: {what}", path.display()));
    if !path.is_file() {
        return Err(fail(if path.exists() { "not a regular file" } else { "no such file" }.into()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|f| f.take(MOST + 1).read_to_end(&mut bytes))
        .map_err(|e| fail(format!("cannot be read: {e}")).because(e))?;
    if bytes.len() as u64 > MOST {
        return Err(fail(format!("more than {MOST} bytes are too many for this file")));
    }
    String::from_utf8(bytes).map_err(|e| fail("not text in UTF-8".into()).because(e))
}

#[cfg(test)]
mod tests {
    use super::super::find_snapshot;
    use super::*;

    fn write(path: PathBuf, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    #[test]
    fn a_folder_has_it_in_its_network() {
        fn check(files: &[&str], expected: Option<&str>) {
            let dir = tempfile::tempdir().expect("a folder");
            files.iter().for_each(|f| write(dir.path().join(f), f));
            let found = of_model(&dir.path().display().to_string());
            assert_eq!(found.map(|f| f.text).ok().as_deref(), expected, "{files:?}");
        }
        check(&["config.json", "transformer/config.json"], Some("transformer/config.json"));
        check(&["unet/config.json"], Some("unet/config.json"));
        check(&["config.json"], Some("config.json"));
        check(&["vae/config.json"], None);
    }

    #[test]
    fn a_snapshot_is_taken_that_has_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let repository = dir.path().join("models--org--name");
        // `refs/main` names a snapshot of which only the weights were downloaded.
        write(repository.join("refs/main"), "bbb");
        write(repository.join("snapshots/aaa/transformer/config.json"), "{}");
        write(repository.join("snapshots/bbb/model.safetensors"), "");
        let find = |revision| find_snapshot(dir.path(), "org/name", revision, &CONFIG);
        assert!(find(None).expect("the other one").ends_with("snapshots/aaa"));
        let message = find(Some("bbb")).expect_err("asked for by name").to_string();
        assert!(message.contains("with a transformer/config.json in it"), "{message}");
        write(repository.join("snapshots/bbb/transformer/config.json"), "{}");
        assert!(find(None).expect("by refs/main").ends_with("snapshots/bbb"));
    }

    #[test]
    fn a_yaml_file_names_the_model() {
        let dir = tempfile::tempdir().expect("a folder");
        let model = dir.path().join("model");
        write(model.join("transformer/config.json"), "{\"a\":1}");
        let yaml = dir.path().join("flux.yaml");
        write(yaml.clone(), &format!("pipeline:\n  name: flux.1-dev\n  path: '{}'\n", model.display()));
        assert_eq!(of_yaml(&yaml).expect("by its path").text, "{\"a\":1}");
        let check = |text: &str, part: &str| {
            write(yaml.clone(), text);
            let message = of_yaml(&yaml).expect_err(text).to_string();
            assert!(message.contains("flux.yaml") && message.contains(part), "{message}");
        };
        check("pipeline:\n  dtype: torch.bfloat16\n", "no `path` and no `name`");
        check("pipeline:\n  name: no such thing\n", "pipeline.name");
        check("quant: {}\n", "no `pipeline`");
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path().join("m.safetensors"), "x");
        let message =
            of_model(&dir.path().join("m.safetensors").display().to_string()).expect_err("weights").to_string();
        assert!(message.contains("not a config.json"), "{message}");
        write(dir.path().join("c.json"), "{}");
        assert_eq!(of_model(&dir.path().join("c.json").display().to_string()).expect("its own file").text, "{}");
        assert!(of_model("no such thing").is_err());
    }
}
