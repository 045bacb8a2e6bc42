//! What the program remembers between runs, as files. A state that cannot be read or written is no failure.
use std::path::PathBuf;

use super::save;
use crate::core::{Error, Result};

/// A larger list is not one that we wrote.
const MOST_BYTES: u64 = 1 << 20;

/// So many unsaved profiles are kept.
const DRAFTS: usize = 20;

/// The platform's folder for state.
pub fn folder() -> Result<PathBuf> {
    // As with profiles: people who live in a terminal expect XDG's variables to count on every system.
    if let Some(xdg) = std::env::var_os("XDG_STATE_HOME").filter(|v| !v.is_empty()) {
        return Ok(PathBuf::from(xdg).join("mixdown"));
    }
    directories::ProjectDirs::from("", "", "mixdown")
        .map(|d| d.state_dir().unwrap_or_else(|| d.data_local_dir()).to_owned())
        .ok_or_else(|| Error::failed("this system names no folder for state; set XDG_STATE_HOME"))
}

/// The text of the list of recent models; nothing where there is none.
pub fn read_recent() -> String {
    let read = || -> Option<String> {
        let path = folder().ok()?.join("recent.toml");
        let file = path.metadata().ok().filter(|m| m.is_file() && m.len() <= MOST_BYTES);
        file.and_then(|_| std::fs::read_to_string(path).ok())
    };
    read().unwrap_or_default()
}

/// Where profiles that were not saved are kept.
pub fn drafts() -> Result<PathBuf> {
    Ok(folder()?.join("unsaved"))
}

/// Keeps a profile that was not saved, in a file of its own: `model` tells it from others of its title,
/// `when` (seconds) from earlier ones. Only the latest are kept. Where it went.
pub fn write_draft(title: &str, model: &str, when: u64, text: &str) -> Result<PathBuf> {
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = title.chars().map(plain).take(80).collect();
    // FNV-1a: the same on every system and in every version.
    let tag = model.bytes().fold(0x811c_9dc5u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let folder = drafts()?;
    std::fs::create_dir_all(&folder)
        .map_err(|e| Error::failed(format!("{}: cannot be made: {e}", folder.display())).because(e))?;
    let path = folder.join(format!("{}-{tag:08x}-{when}.toml", name.trim_start_matches('.')));
    save::write_file(&path, text.as_bytes())?;
    let drafts = std::fs::read_dir(&folder).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    let mut drafts: Vec<PathBuf> = drafts;
    let age = |p: &PathBuf| p.file_stem().and_then(|s| s.to_str()?.rsplit('-').next()?.parse::<u64>().ok());
    drafts.retain(|p| age(p).is_some());
    drafts.sort_by_key(age);
    let old = drafts.len().saturating_sub(DRAFTS);
    for path in drafts.into_iter().take(old) {
        // One that cannot be removed is one more.
        let _ = std::fs::remove_file(path);
    }
    Ok(path)
}

/// Writes the list whole.
pub fn write_recent(text: &str) -> Result<()> {
    let folder = folder()?;
    std::fs::create_dir_all(&folder)
        .map_err(|e| Error::failed(format!("{}: cannot be made: {e}", folder.display())).because(e))?;
    save::write_file(&folder.join("recent.toml"), text.as_bytes())
}
