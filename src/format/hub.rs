//! The Hugging Face cache and short names: where a model's snapshot lies. Never the network.
pub mod config;
mod pipeline;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::core::{Error, Result};

/// The folder of a cached model; `None` when the label is neither a short name nor `org/name[@revision]`.
pub fn resolve(label: &str) -> Result<Option<PathBuf>> {
    resolve_with(label, &MODEL)
}

/// What a snapshot is looked for.
struct Wanted {
    /// What it is called in messages: "a model".
    what: &'static str,
    /// Whether a snapshot's folder has it.
    is_in: fn(&Path) -> bool,
}

const MODEL: Wanted = Wanted { what: "a model", is_in: holds_model };

fn resolve_with(label: &str, wanted: &Wanted) -> Result<Option<PathBuf>> {
    let (name, revision) = match label.split_once('@') {
        Some((name, revision)) => (name, Some(revision)),
        None => (label, None),
    };
    let id = match aliases().get(&name.to_ascii_lowercase()) {
        Some(id) => {
            log::info!("`{name}` is short for {id}");
            id.as_str()
        }
        None => name,
    };
    if !is_id(id) || revision.is_some_and(|r| !is_revision(r)) {
        return Ok(None);
    }
    let roots = cache_roots(&|key| std::env::var_os(key).filter(|v| !v.is_empty()).map(PathBuf::from));
    let root = roots.first().cloned().unwrap_or_default();
    log::info!("cache: {}", root.display());
    find_snapshot(&root, id, revision, wanted).map(Some)
}

/// Ids of the models in the cache, in order, with their folders; until `enough`.
pub fn cached(enough: &dyn Fn() -> bool) -> Vec<(String, PathBuf)> {
    let roots = cache_roots(&|key| std::env::var_os(key).filter(|v| !v.is_empty()).map(PathBuf::from));
    roots.first().map(|root| cached_in(root, enough)).unwrap_or_default()
}

fn cached_in(root: &Path, enough: &dyn Fn() -> bool) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let id = |e: std::fs::DirEntry| {
        let id = e.file_name().to_str()?.strip_prefix("models--")?.replacen("--", "/", 1);
        is_id(&id).then_some(id)
    };
    let mut ids: Vec<String> = entries.take_while(|_| !enough()).filter_map(|e| id(e.ok()?)).collect();
    ids.sort_by_key(|id| id.to_ascii_lowercase());
    let found = ids.into_iter().take_while(|_| !enough());
    found.filter_map(|id| find_snapshot(root, &id, None, &MODEL).ok().map(|folder| (id, folder))).collect()
}

/// Where a cache may be, the first being the one that is used: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub,
/// XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub.
fn cache_roots(var: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = var("HOME").or_else(|| var("USERPROFILE"));
    [
        var("HF_HUB_CACHE"),
        var("HUGGINGFACE_HUB_CACHE"),
        var("HF_HOME").map(|p| p.join("hub")),
        var("XDG_CACHE_HOME").map(|p| p.join("huggingface/hub")),
        home.map(|p| p.join(".cache/huggingface/hub")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The snapshot that the revision (`main` without one) names, else the newest one that holds what is wanted.
fn find_snapshot(root: &Path, id: &str, revision: Option<&str>, wanted: &Wanted) -> Result<PathBuf> {
    let Wanted { what, is_in } = *wanted;
    let repository = root.join(format!("models--{}", id.replace('/', "--")));
    let snapshots = repository.join("snapshots");
    if !snapshots.is_dir() {
        return Err(Error::failed(format!(
            "{id}: not in the Hugging Face cache at {}; download it first (`hf download {id}`), mixdown never does",
            root.display()
        )));
    }
    let name = revision.unwrap_or("main");
    let by_ref = std::fs::read_to_string(repository.join("refs").join(name)).ok().map(|s| s.trim().to_owned());
    let named = [by_ref.as_deref(), revision].into_iter().flatten().filter(|h| is_revision(h));
    for hash in named {
        let folder = snapshots.join(hash);
        if folder.is_dir() && is_in(&folder) {
            log::info!("{id}: refs/{name} → snapshot {hash}");
            return Ok(folder);
        }
    }
    if let Some(revision) = revision {
        return Err(Error::failed(format!(
            "{id}: the cache has no snapshot of revision `{revision}` with {what} in it"
        )));
    }
    let mut all: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(&snapshots)
        .map_err(|e| Error::failed(format!("{}: cannot be listed: {e}", snapshots.display())).because(e))?
        .filter_map(|e| {
            let path = e.ok()?.path();
            let modified = path.metadata().ok()?.modified().ok()?;
            (path.is_dir() && is_in(&path)).then_some((modified, path))
        })
        .collect();
    all.sort();
    match all.pop() {
        Some((_, path)) => {
            log::info!("{id}: newest snapshot with {what}: {}", path.display());
            Ok(path)
        }
        None => {
            Err(Error::failed(format!("{id}: no snapshot in {} holds {what}; download it again", snapshots.display())))
        }
    }
}

fn holds_model(folder: &Path) -> bool {
    let here = |name: &str| folder.join(name).exists();
    here("model_index.json")
        || here("config.json")
        || std::fs::read_dir(folder).is_ok_and(|mut d| {
            d.any(|e| e.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "safetensors" || x == "gguf")))
        })
}

fn is_id(id: &str) -> bool {
    let word = |w: &str| {
        !w.is_empty()
            && w != "."
            && w != ".."
            && w.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    matches!(id.split('/').collect::<Vec<_>>()[..], [org, name] if word(org) && word(name))
}

fn is_revision(revision: &str) -> bool {
    super::shards::is_inside(Path::new(revision))
}

/// Short names → repositories.
pub fn aliases() -> &'static BTreeMap<String, String> {
    static TABLE: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let text = include_str!("../../assets/aliases.toml");
        let document = text.parse::<toml_edit::DocumentMut>().unwrap_or_default();
        document.iter().filter_map(|(k, v)| Some((k.to_ascii_lowercase(), v.as_str()?.to_owned()))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_root_that_is_set_wins() {
        fn check(vars: &[(&str, &str)], root: &str) {
            let got = cache_roots(&|key| vars.iter().find(|(k, _)| *k == key).map(|(_, v)| PathBuf::from(v)));
            assert_eq!(got.first(), Some(&PathBuf::from(root)), "{vars:?}");
        }
        check(&[("HOME", "/h"), ("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")], "/c");
        check(&[("HOME", "/h"), ("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")], "/f/hub");
        check(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub");
        check(&[("HOME", "/h")], "/h/.cache/huggingface/hub");
    }

    #[test]
    fn ids() {
        fn check(id: &str, ok: bool) {
            assert_eq!(is_id(id), ok, "{id}");
        }
        check("black-forest-labs/FLUX.1-dev", true);
        check("../x", false);
        check("a/b/c", false);
        check("model.safetensors", false);
        check("a/..", false);
    }

    #[test]
    fn snapshots_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let repository = dir.path().join("models--org--name");
        let model = |hash: &str, file: &str| {
            let s = repository.join("snapshots").join(hash);
            std::fs::create_dir_all(&s).expect("a snapshot");
            std::fs::write(s.join(file), "{}").expect("a file");
        };
        model("aaa", "config.json");
        model("bbb", "README.md");
        std::fs::create_dir_all(repository.join("refs")).expect("refs");
        std::fs::write(repository.join("refs/main"), "aaa\n").expect("a ref");
        let find = |revision| {
            find_snapshot(dir.path(), "org/name", revision, &MODEL).map(|p| p.file_name().map(|n| n.to_owned()))
        };
        assert_eq!(find(None).expect("by refs/main"), Some("aaa".into()));
        assert_eq!(find(Some("aaa")).expect("by hash"), Some("aaa".into()));
        assert!(find(Some("bbb")).expect_err("no model there").to_string().contains("bbb"));
        std::fs::write(repository.join("refs/main"), "../../..").expect("a ref");
        assert_eq!(find(None).expect("a ref that leaves is passed over"), Some("aaa".into()));
        std::fs::create_dir_all(dir.path().join("datasets--org--d")).expect("another folder");
        let cached = cached_in(dir.path(), &|| false);
        assert_eq!(cached, [("org/name".to_owned(), repository.join("snapshots/aaa"))]);
        assert!(
            find_snapshot(dir.path(), "org/other", None, &MODEL)
                .expect_err("not cached")
                .to_string()
                .contains("hf download")
        );
    }

    #[test]
    fn aliases_are_ids() {
        for (short, id) in aliases() {
            assert!(is_id(id), "{short} → {id}");
        }
    }
}
