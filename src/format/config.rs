//! Where mixdown's own settings are kept, as a file. What its text means is the desk's business.
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The file's name in the folder.
pub const NAME: &str = "config.toml";

/// The platform's folder for settings, where profiles lie too.
pub fn folder() -> Option<PathBuf> {
    // People who live in a terminal expect XDG's variables to count on every system.
    if let Some(xdg) = std::env::var_os("XDG_CONFIG_HOME").filter(|v| !v.is_empty()) {
        return Some(PathBuf::from(xdg).join("mixdown"));
    }
    directories::ProjectDirs::from("", "", "mixdown").map(|d| d.config_dir().to_owned())
}

/// What the file is called in messages, and its text or why it cannot be read. Nothing where there is none.
///
/// MIXDOWN_CONFIG names another file; that one must be there.
pub fn read() -> Option<(String, Result<String, String>)> {
    match std::env::var_os("MIXDOWN_CONFIG").filter(|v| !v.is_empty()) {
        Some(path) => Some((path.to_string_lossy().into_owned(), text(Path::new(&path)))),
        None => {
            let path = folder()?.join(NAME);
            (path.symlink_metadata().is_ok()).then(|| (NAME.to_owned(), text(&path)))
        }
    }
}

fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => "there is no such file".into(),
        ErrorKind::InvalidData => "it is not text in UTF-8".into(),
        _ => format!("it cannot be read: {e}"),
    })
}
