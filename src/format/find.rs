//! Looking around for models: in a folder, in the cache, behind a path as it is typed. Names and sizes only: nothing is
//! opened, and every look is bounded in depth, number and time.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{gguf, hub};
use crate::core::Cancel;

/// What a found model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A safetensors file.
    Safetensors,
    /// A GGUF file, or the first of several.
    Gguf,
    /// A folder with weights of one model.
    Folder,
    /// A folder with weights in folders of its own.
    Pipeline,
}

impl Kind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Folder => "folder",
            Self::Pipeline => "pipeline",
        }
    }
}

/// A model that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What opens it: a path, or an id of the cache.
    pub label: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its weights.
    pub bytes: u64,
}

/// How far a look goes.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Levels of folders below the first.
    pub depth: usize,
    /// Entries of folders that are looked at.
    pub entries: usize,
    /// Until when.
    pub until: Option<Instant>,
    /// Stops it.
    pub cancel: Cancel,
}

impl Bounds {
    /// As far as the start screen looks.
    pub fn shallow(cancel: Cancel) -> Self {
        Self { depth: 2, entries: 4000, until: Some(Instant::now() + Duration::from_secs(2)), cancel }
    }
    fn spent(&self) -> bool {
        self.entries == 0 || self.cancel.is_cancelled() || self.until.is_some_and(|t| t <= Instant::now())
    }
}

/// A name in a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// The name.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// What it is, if it is a model.
    pub kind: Option<Kind>,
    /// Bytes of its weights.
    pub bytes: u64,
}

/// What a folder holds that is a folder or a model, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Where it lies, with `~` written out.
    pub path: PathBuf,
    /// What the folder itself is, if it is a model.
    pub kind: Option<Kind>,
    /// Bytes of its weights.
    pub bytes: u64,
    /// Its entries.
    pub entries: Vec<Listed>,
}

/// Names and sizes in a folder; links count as what they lead to.
struct Names {
    folders: Vec<String>,
    files: BTreeMap<String, u64>,
}

impl Names {
    fn read(path: &Path, bounds: &mut Bounds) -> std::io::Result<Self> {
        let mut names = Self { folders: Vec::new(), files: BTreeMap::new() };
        for entry in std::fs::read_dir(path)? {
            if bounds.spent() {
                break;
            }
            bounds.entries = bounds.entries.saturating_sub(1);
            let Ok(entry) = entry else { continue };
            // What is no text cannot be typed, and a label is text.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let weighs = is_weights(&name) || name.ends_with(".json");
            match entry.file_type() {
                Ok(t) if t.is_dir() => names.folders.push(name),
                Ok(t) if t.is_file() && !weighs => {}
                Ok(_) => match entry.path().metadata() {
                    Ok(m) if m.is_dir() => names.folders.push(name),
                    Ok(m) if m.is_file() && weighs => drop(names.files.insert(name, m.len())),
                    _ => {}
                },
                Err(_) => {}
            }
        }
        names.folders.sort_by(|a, b| crate::core::name::natural(a, b));
        Ok(names)
    }
    fn weights(&self, ending: &str) -> impl Iterator<Item = (&String, &u64)> {
        self.files.iter().filter(move |(n, _)| n.ends_with(ending))
    }
    fn bytes(&self) -> u64 {
        let safetensors: u64 = self.weights(".safetensors").map(|(_, b)| *b).sum();
        if safetensors > 0 { safetensors } else { self.weights(".gguf").map(|(_, b)| *b).sum() }
    }
    /// What a folder is that holds these.
    fn kind(&self, path: &Path, bounds: &mut Bounds) -> Option<(Kind, u64)> {
        if self.files.contains_key("model_index.json") {
            let inside = |f: &String| Some(Self::read(&path.join(f), bounds).ok()?.bytes());
            return Some((Kind::Pipeline, self.folders.iter().filter_map(inside).sum()));
        }
        let indexed = self.files.keys().any(|n| n.ends_with(".safetensors.index.json"));
        let described = self.files.contains_key("config.json") && self.weights(".safetensors").next().is_some();
        (indexed || described).then(|| (Kind::Folder, self.bytes()))
    }
    /// The files that are models by themselves; of several that belong together the first, with the bytes of all.
    fn models(&self) -> Vec<(String, Kind, u64)> {
        let mut found: Vec<(String, Kind, u64)> = Vec::new();
        for (name, bytes) in &self.files {
            let kind = match (name.ends_with(".safetensors"), name.ends_with(".gguf")) {
                (true, _) => Kind::Safetensors,
                (_, true) => Kind::Gguf,
                _ => continue,
            };
            let first = gguf::split::parse_name(name)
                .map(|(prefix, _, count)| gguf::split::name(prefix, 0, count))
                .filter(|first| first != name && self.files.contains_key(first));
            match first.and_then(|first| found.iter_mut().find(|(n, ..)| *n == first)) {
                Some((_, _, all)) => *all = all.saturating_add(*bytes),
                None => found.push((name.clone(), kind, *bytes)),
            }
        }
        found
    }
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// Models in a folder and in the folders below it; `tell` gets each as it is found.
pub fn below(root: &Path, mut bounds: Bounds, tell: &mut dyn FnMut(Found)) {
    let mut waiting = std::collections::VecDeque::from([(PathBuf::new(), 0)]);
    // Level by level: what lies near is found before the bounds are spent.
    while let Some((relative, depth)) = waiting.pop_front() {
        if bounds.spent() {
            return;
        }
        let path = root.join(&relative);
        let Ok(names) = Names::read(&path, &mut bounds) else { continue };
        let label = |p: PathBuf| p.to_str().map(|p| if p.is_empty() { "." } else { p }.to_owned());
        if let Some((kind, bytes)) = names.kind(&path, &mut bounds) {
            if let Some(label) = label(relative) {
                tell(Found { label, path, kind, bytes });
            }
            continue;
        }
        if depth == bounds.depth {
            continue;
        }
        for (name, kind, bytes) in names.models() {
            if let Some(label) = label(relative.join(&name)) {
                tell(Found { label, path: path.join(name), kind, bytes });
            }
        }
        let folders = names.folders.iter().filter(|n| !is_hidden(n));
        waiting.extend(folders.map(|n| (relative.join(n), depth + 1)));
    }
}

/// Models in the Hugging Face cache; `tell` gets each as it is found.
pub fn cached(mut bounds: Bounds, tell: &mut dyn FnMut(Found)) {
    for (label, path) in hub::cached(&|| bounds.spent()) {
        let Ok(names) = Names::read(&path, &mut bounds) else { continue };
        let (kind, bytes) = names.kind(&path, &mut bounds).unwrap_or((Kind::Folder, names.bytes()));
        if bytes > 0 {
            tell(Found { label, path, kind, bytes });
        }
        if bounds.spent() {
            return;
        }
    }
}

/// Folders and models in the folder that was typed.
pub fn list(typed: &str, mut bounds: Bounds) -> Result<Listing, String> {
    let path = at_home(typed);
    let names = Names::read(&path, &mut bounds).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut entries = Vec::new();
    for name in &names.folders {
        // Whether it is a model is worth a look, as long as looking costs nothing one would wait for.
        let inside = path.join(name);
        let kind = if bounds.spent() || is_hidden(name) {
            None
        } else {
            Names::read(&inside, &mut bounds).ok().and_then(|n| n.kind(&inside, &mut bounds))
        };
        let (kind, bytes) = kind.unzip();
        entries.push(Listed { name: name.clone(), is_folder: true, kind, bytes: bytes.unwrap_or_default() });
    }
    for (name, kind, bytes) in names.models() {
        entries.push(Listed { name, is_folder: false, kind: Some(kind), bytes });
    }
    let (kind, bytes) = names.kind(&path, &mut bounds).unzip();
    Ok(Listing { path, kind, bytes: bytes.unwrap_or_default(), entries })
}

/// A path that a person typed, with `~` as a shell would read it.
pub fn at_home(typed: &str) -> PathBuf {
    let rest = typed.strip_prefix('~').map(|r| r.trim_start_matches(['/', '\\']));
    match (rest, home()) {
        (Some(rest), Some(home)) if typed == "~" || typed.starts_with("~/") || typed.starts_with("~\\") => {
            home.join(rest)
        }
        _ => PathBuf::from(typed),
    }
}

/// The person's own folder.
pub fn home() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE"));
    home.filter(|h| !h.is_empty()).map(PathBuf::from)
}

/// Whether a label that was opened before still leads somewhere: a path that is there, or a model of the cache.
pub fn is_there(label: &str) -> bool {
    Path::new(label).exists() || matches!(hub::resolve(label), Ok(Some(_)))
}

/// Where a label's model lies, in a form that does not depend on where one is; `None` of an id.
pub fn absolute(label: &str) -> Option<String> {
    let path = Path::new(label);
    let whole = path.exists().then(|| std::path::absolute(path).ok())??;
    whole.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, "12345").expect("a file");
        }
        dir
    }

    fn bounds() -> Bounds {
        Bounds { until: None, ..Bounds::shallow(Cancel::new()) }
    }

    fn look(dir: &Path, bounds: Bounds) -> Vec<String> {
        let mut all = Vec::new();
        below(dir, bounds, &mut |f| all.push(format!("{} {} {}", f.label, f.kind.name(), f.bytes)));
        all
    }

    #[test]
    fn models_are_found_near_and_not_far() {
        let dir = tree(&[
            "a.safetensors",
            "b.gguf",
            "b.txt",
            "s-00001-of-00002.gguf",
            "s-00002-of-00002.gguf",
            "t-00002-of-00002.gguf",
            "llm/config.json",
            "llm/model.safetensors",
            "llm/deeper/x.safetensors",
            "flux/model_index.json",
            "flux/vae/w.safetensors",
            "flux/transformer/w.safetensors",
            "loras/one.safetensors",
            "far/far/config.json",
            "far/far/model-1.safetensors",
            "far/far/away/model.safetensors",
            "far/off/loose.safetensors",
            ".hidden/m.safetensors",
        ]);
        assert_eq!(
            look(dir.path(), bounds()),
            [
                "a.safetensors safetensors 5",
                "b.gguf gguf 5",
                "s-00001-of-00002.gguf gguf 10",
                "t-00002-of-00002.gguf gguf 5",
                "flux pipeline 10",
                "llm folder 5",
                "loras/one.safetensors safetensors 5",
                "far/far folder 5",
            ]
        );
        assert_eq!(look(&dir.path().join("llm"), bounds()), [". folder 5"]);
    }

    #[test]
    fn a_look_ends_when_it_is_told_to() {
        let dir = tree(&["a/b.gguf", "c/d.gguf", "e.gguf"]);
        assert!(look(dir.path(), Bounds { entries: 0, ..bounds() }).is_empty());
        assert_eq!(look(dir.path(), Bounds { depth: 1, ..bounds() }), ["e.gguf gguf 5"]);
        let stopped = bounds();
        stopped.cancel.cancel();
        assert!(look(dir.path(), stopped).is_empty());
        assert!(look(&dir.path().join("nowhere"), bounds()).is_empty());
    }

    #[test]
    fn a_folder_is_listed_as_what_can_be_opened_or_entered() {
        let dir = tree(&["m/config.json", "m/model.safetensors", "n/readme.md", "x.gguf", "notes.txt", ".git/config"]);
        let listing = list(dir.path().to_str().expect("text"), bounds()).expect("a listing");
        let shown: Vec<(String, bool, Option<Kind>)> =
            listing.entries.into_iter().map(|e| (e.name, e.is_folder, e.kind)).collect();
        assert_eq!(
            shown,
            [
                (".git".into(), true, None),
                ("m".into(), true, Some(Kind::Folder)),
                ("n".into(), true, None),
                ("x.gguf".into(), false, Some(Kind::Gguf)),
            ]
        );
        assert!(list("/nowhere/at/all", bounds()).expect_err("no folder").contains("/nowhere/at/all"));
        assert_eq!(
            list(dir.path().join("m").to_str().expect("text"), bounds()).map(|l| l.kind),
            Ok(Some(Kind::Folder))
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_count_as_what_they_lead_to() {
        let dir = tree(&["real/blob.safetensors"]);
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, dir.path().join(name)).expect("a link");
        link(&dir.path().join("real/blob.safetensors"), "linked.safetensors");
        link(dir.path(), "circle");
        link(Path::new("/nowhere"), "broken.safetensors");
        let all = look(dir.path(), bounds());
        assert!(all.contains(&"linked.safetensors safetensors 5".to_owned()), "{all:?}");
        assert!(all.iter().all(|f| !f.starts_with("broken")), "{all:?}");
    }
}
