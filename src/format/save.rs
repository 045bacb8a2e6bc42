//! Saving: everything is written beside its final name and renamed when it is whole. Dropped before that, it is gone.
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::blob::write_all_at;
use super::{Content, Opened};
use crate::core::{Cancel, Error, Result, units};

/// Bytes that are copied at a time.
const COPY: usize = 4 << 20;

/// What is being written: a single file or a folder, under a temporary name in the same parent.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    force: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    File(tempfile::NamedTempFile),
    Folder(tempfile::TempDir),
}

/// A weight file that is being filled by position.
#[derive(Debug)]
pub struct Sink {
    file: File,
    path: PathBuf,
    /// Bytes written since the last flush.
    pending: AtomicU64,
}

impl Sink {
    /// Writes all of `bytes` at `offset`.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        write_all_at(&self.file, offset, bytes)
            .map_err(|e| Error::failed(format!("{}: cannot be written: {e}", self.path.display())).because(e))?;
        self.pending.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
    /// Brings what was written to the disk if that is so many bytes or more, while others may write on: all of it at the
    /// end would be waited for.
    pub fn flush(&self, least: u64) -> Result<()> {
        if self.pending.load(Ordering::Relaxed) < least {
            return Ok(());
        }
        self.pending.store(0, Ordering::Relaxed);
        self.file.sync_data().map_err(|e| self.cannot_flush(e))
    }
    /// Waits until the bytes are on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.cannot_flush(e))
    }
    fn cannot_flush(&self, e: std::io::Error) -> Error {
        Error::failed(format!("{}: cannot be flushed: {e}", self.path.display())).because(e)
    }
}

fn cannot(path: &Path, e: std::io::Error) -> Error {
    Error::failed(format!("{}: cannot be written: {e}", path.display())).because(e)
}

/// The folder a path lies in.
pub fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Refuses a small file (a report, a profile) that would replace the model or the output.
pub fn check_side_file(path: &Path, flag: &str, source: &Opened, output: Option<&Path>) -> Result<()> {
    let parent = parent_of(path);
    if !parent.is_dir() {
        return Err(Error::failed(format!(
            "{flag} {}: the folder {} does not exist",
            path.display(),
            parent.display()
        )));
    }
    if path.is_dir() {
        return Err(Error::failed(format!("{flag} {}: is a folder", path.display())));
    }
    let companions = source.companions.iter().filter_map(|c| match &c.content {
        Content::File(path) => Some(path.as_path()),
        Content::Embedded(_) => None,
    });
    let mut sources = source.sources().map(super::Blob::path).chain(companions);
    if sources.any(|s| same_file::is_same_file(path, s).unwrap_or(false)) {
        return Err(Error::failed(format!("{flag} {}: is part of the model that is being read", path.display())));
    }
    if output.is_some_and(|o| o == path || path.starts_with(o) || same_file::is_same_file(path, o).unwrap_or(false)) {
        return Err(Error::failed(format!("{flag} {}: is the output itself", path.display())));
    }
    Ok(())
}

/// Refuses what must not be overwritten: an existing output without `force`, the source itself by whatever name, and a
/// folder that holds no model.
pub fn check_target(target: &Path, folder: bool, force: bool, source: &Opened) -> Result<()> {
    let parent = parent_of(target);
    if !parent.is_dir() {
        return Err(Error::failed(format!(
            "{}: the folder {} does not exist; make it first",
            target.display(),
            parent.display()
        )));
    }
    let Ok(meta) = fs::symlink_metadata(target) else {
        return Ok(());
    };
    let same = |path: &Path| same_file::is_same_file(target, path).unwrap_or(false);
    let companions = source.companions.iter().filter_map(|c| match &c.content {
        Content::File(path) => Some(path.as_path()),
        Content::Embedded(_) => None,
    });
    let mut sources = source.sources().map(super::Blob::path).chain(companions).chain([source.model.root.as_path()]);
    // A folder must not be replaced when any source lies in it either.
    let real = target.canonicalize().unwrap_or_else(|_| target.to_owned());
    if sources.any(|s| same(s) || (meta.is_dir() && s.canonicalize().is_ok_and(|s| s.starts_with(&real)))) {
        return Err(Error::failed(format!(
            "{}: is the model that is being read; choose another output",
            target.display()
        )));
    }
    if meta.is_dir() && !folder {
        return Err(Error::failed(format!("{}: is a folder, not a file", target.display())));
    }
    let empty = meta.is_dir() && fs::read_dir(target).is_ok_and(|mut d| d.next().is_none());
    if !force && !empty {
        return Err(Error::failed(format!("{}: exists already; --force replaces it", target.display())));
    }
    // `-o ~/models --force` is a slip of the hand, not a wish to lose everything in it.
    if folder && !empty && !(meta.is_dir() && holds_model(target)) {
        return Err(Error::failed(format!(
            "{}: holds no model, so it is not replaced; remove it yourself",
            target.display()
        )));
    }
    Ok(())
}

/// Whether a folder is what a conversion writes: weights or a config at its top, or a pipeline.
fn holds_model(folder: &Path) -> bool {
    let known = |name: &str| folder.join(name).is_file();
    known("model_index.json")
        || known("config.json")
        || fs::read_dir(folder)
            .is_ok_and(|mut d| d.any(|e| e.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "safetensors"))))
}

/// Free bytes where a path would be written; `None` where the system does not tell.
pub fn free_space(target: &Path) -> Option<u64> {
    fs4::available_space(parent_of(target)).ok()
}

/// Refuses to start what cannot fit.
pub fn check_space(target: &Path, needed: u64) -> Result<()> {
    match free_space(target) {
        Some(free) if free < needed => Err(Error::failed(format!(
            "{}: {} needed, {} free on that disk",
            target.display(),
            units::size(needed),
            units::size(free)
        ))),
        _ => Ok(()),
    }
}

impl Staging {
    /// Starts a file or a folder beside its final name.
    pub fn new(target: &Path, folder: bool, force: bool) -> Result<Self> {
        let parent = parent_of(target);
        let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.is_empty() {
            return Err(Error::usage(format!("{}: not a name that can be written", target.display())));
        }
        let prefix = format!(".{name}.");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        let kind = if folder {
            Kind::Folder(builder.tempdir_in(&parent).map_err(|e| cannot(&parent, e))?)
        } else {
            Kind::File(builder.tempfile_in(&parent).map_err(|e| cannot(&parent, e))?)
        };
        Ok(Self { target: target.to_owned(), force, kind })
    }

    /// The weight file (`relative` within the folder), of its final length.
    pub fn weights(&self, relative: &Path, len: u64) -> Result<Sink> {
        let (file, path) = match &self.kind {
            Kind::File(f) => (f.as_file().try_clone().map_err(|e| cannot(f.path(), e))?, self.target.clone()),
            Kind::Folder(d) => {
                let path = d.path().join(relative);
                fs::create_dir_all(parent_of(&path)).map_err(|e| cannot(&path, e))?;
                (File::create(&path).map_err(|e| cannot(&path, e))?, path)
            }
        };
        file.set_len(len).map_err(|e| cannot(&path, e))?;
        Ok(Sink { file, path, pending: AtomicU64::new(0) })
    }

    /// A small file of a folder.
    pub fn text(&self, relative: &Path, bytes: &[u8]) -> Result<()> {
        let Kind::Folder(d) = &self.kind else {
            return Ok(());
        };
        let path = d.path().join(relative);
        fs::create_dir_all(parent_of(&path)).map_err(|e| cannot(&path, e))?;
        let mut file = File::create(&path).map_err(|e| cannot(&path, e))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| cannot(&path, e))
    }

    /// A file of the source's folder.
    pub fn copy(&self, relative: &Path, content: &Content, cancel: &Cancel) -> Result<()> {
        match content {
            Content::Embedded(bytes) => self.text(relative, bytes),
            Content::File(from) => {
                let Kind::Folder(d) = &self.kind else {
                    return Ok(());
                };
                let path = d.path().join(relative);
                fs::create_dir_all(parent_of(&path)).map_err(|e| cannot(&path, e))?;
                let failed = |e: std::io::Error| {
                    Error::failed(format!("{}: cannot be copied to {}: {e}", from.display(), path.display())).because(e)
                };
                let mut source = File::open(from).map_err(failed)?;
                let mut copy = File::create(&path).map_err(failed)?;
                let mut buffer = vec![0; COPY];
                loop {
                    cancel.check()?;
                    let n = source.read(&mut buffer).map_err(failed)?;
                    if n == 0 {
                        break;
                    }
                    copy.write_all(&buffer[..n]).map_err(failed)?;
                }
                copy.sync_all().map_err(failed)
            }
        }
    }

    /// Gives it its final name. What stood there before (with `force`) is gone only when the new is in place.
    pub fn commit(self) -> Result<()> {
        let target = self.target;
        match self.kind {
            Kind::File(f) => {
                readable_like_others(f.path());
                if target.is_dir() {
                    return Err(Error::failed(format!("{}: is a folder, not a file", target.display())));
                }
                let kept = if self.force { f.persist(&target) } else { f.persist_noclobber(&target) };
                kept.map_err(|e| cannot(&target, e.error))?;
            }
            Kind::Folder(d) => {
                let path = d.path().to_owned();
                folder_like_others(&path);
                let old = match fs::symlink_metadata(&target) {
                    Err(_) => None,
                    Ok(m) if m.is_dir() && fs::remove_dir(&target).is_ok() => None,
                    Ok(_) if self.force => {
                        let aside = path.with_extension("replaced");
                        fs::rename(&target, &aside).map_err(|e| cannot(&target, e))?;
                        Some(aside)
                    }
                    Ok(_) => {
                        return Err(Error::failed(format!(
                            "{}: exists already; --force replaces it",
                            target.display()
                        )));
                    }
                };
                if let Err(e) = fs::rename(&path, &target) {
                    if let Some(aside) = &old {
                        // Put back what stood there; the first failure is the one to tell.
                        let _ = fs::rename(aside, &target);
                    }
                    return Err(cannot(&target, e));
                }
                // The folder has its final name now; there is nothing left for the guard to remove.
                let _ = d.keep();
                if let Some(aside) = old {
                    let removed = if aside.is_dir() { fs::remove_dir_all(&aside) } else { fs::remove_file(&aside) };
                    removed.map_err(|e| cannot(&aside, e))?;
                }
            }
        }
        sync_folder(&parent_of(&target));
        Ok(())
    }
}

/// Writes a small file whole: beside its name, flushed, renamed.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = parent_of(path);
    let mut file =
        tempfile::Builder::new().prefix(".").suffix(".partial").tempfile_in(&parent).map_err(|e| cannot(path, e))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| cannot(path, e))?;
    readable_like_others(file.path());
    file.persist(path).map_err(|e| cannot(path, e.error))?;
    sync_folder(&parent);
    Ok(())
}

/// Temporary files are private; what people keep has the permissions their umask gives.
#[cfg(unix)]
fn readable_like_others(path: &Path) {
    set_mode(path, 0o666);
}
#[cfg(unix)]
fn folder_like_others(path: &Path) {
    set_mode(path, 0o777);
}
#[cfg(unix)]
fn set_mode(path: &Path, wanted: u32) {
    use std::os::unix::fs::PermissionsExt;
    // A scratch file tells the umask without changing it for other threads.
    let probe = parent_of(path).join(format!(".{}.mode.partial", std::process::id()));
    if let Ok(file) = fs::OpenOptions::new().write(true).create_new(true).open(&probe) {
        let given = file.metadata().map(|m| m.permissions().mode() & 0o666);
        let _ = fs::remove_file(&probe);
        if let Ok(given) = given {
            // Read permission of a folder goes with the right to enter it.
            let mode = wanted & (given | ((given & 0o444) >> 2));
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
        }
    }
}
#[cfg(not(unix))]
fn readable_like_others(_: &Path) {}
#[cfg(not(unix))]
fn folder_like_others(_: &Path) {}

/// The rename itself must survive a power cut; systems that cannot flush a folder say so and are believed.
fn sync_folder(folder: &Path) {
    #[cfg(unix)]
    if let Ok(f) = File::open(folder) {
        let _ = f.sync_all();
    }
    #[cfg(not(unix))]
    let _ = folder;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut all: Vec<String> = fs::read_dir(folder)
            .expect("a folder")
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn nothing_is_there_until_it_is_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("m.safetensors");
        let staging = Staging::new(&out, false, false).expect("a start");
        staging.weights(Path::new(""), 4).expect("a sink").write_at(2, b"ab").expect("written");
        assert!(!out.exists());
        staging.commit().expect("renamed");
        assert_eq!(fs::read(&out).expect("there"), b"\0\0ab");
        assert_eq!(names(dir.path()), ["m.safetensors"]);
    }

    #[test]
    fn dropped_it_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in [false, true] {
            let staging = Staging::new(&dir.path().join("out"), folder, false).expect("a start");
            staging.weights(Path::new("sub/w"), 10).expect("a sink");
            drop(staging);
            assert_eq!(names(dir.path()), Vec::<String>::new());
        }
    }

    #[test]
    fn a_folder_replaces_another_only_when_forced() {
        let dir = tempfile::tempdir().expect("a folder");
        let out = dir.path().join("out");
        fs::create_dir(&out).expect("made");
        fs::write(out.join("old"), "x").expect("written");
        let again = |force| {
            let staging = Staging::new(&out, true, force).expect("a start");
            staging.text(Path::new("new"), b"y").expect("written");
            staging.commit()
        };
        assert!(again(false).is_err());
        assert_eq!(names(&out), ["old"]);
        again(true).expect("replaced");
        assert_eq!(names(&out), ["new"]);
        assert_eq!(names(dir.path()), ["out"]);
    }
}
