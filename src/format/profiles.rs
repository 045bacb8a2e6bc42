//! Where profiles are kept, as files. What their text means is the session's business.
use std::path::{Path, PathBuf};

use super::save;
use crate::core::{Error, Result};

/// The platform's folder for them.
pub fn folder() -> Result<PathBuf> {
    super::config::folder()
        .map(|f| f.join("profiles"))
        .ok_or_else(|| Error::failed("this system names no folder for settings; set XDG_CONFIG_HOME"))
}

/// The file that a profile's name or path means.
pub fn locate(name: &str) -> Result<PathBuf> {
    if name.ends_with(".toml") {
        return Ok(PathBuf::from(name));
    }
    if name.contains(['/', '\\']) {
        return Err(Error::usage(format!("`{name}`: a path to a profile ends in .toml; a name has no slash")));
    }
    if name.is_empty() || name.starts_with('.') || name.contains(|c: char| c.is_control()) {
        return Err(Error::usage(format!("`{name}` is not a profile's name")));
    }
    Ok(folder()?.join(format!("{name}.toml")))
}

/// What a profile's file is called without its ending.
pub fn name_of(path: &Path) -> Option<String> {
    path.file_stem().map(|s| s.to_string_lossy().into_owned())
}

/// Names of the profiles in the folder, sorted.
pub fn list() -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(folder()?) else { return Ok(Vec::new()) };
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    let mut names: Vec<String> =
        paths.filter(|p| p.extension().is_some_and(|x| x == "toml")).filter_map(|p| name_of(&p)).collect();
    names.sort();
    Ok(names)
}

/// The text of one.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let hint = if missing { "; `mixdown profile list` shows what there is" } else { "" };
        Error::failed(format!("profile {}: cannot be read: {e}{hint}", path.display())).because(e)
    })
}

/// Writes one; the folder of profiles is made if need be, others must be there.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let parent = save::parent_of(path);
    if folder().is_ok_and(|f| f == parent) {
        std::fs::create_dir_all(&parent)
            .map_err(|e| Error::failed(format!("{}: cannot be made: {e}", parent.display())).because(e))?;
    }
    save::write_file(path, text.as_bytes())
}
