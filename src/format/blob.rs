//! A weight file, open for reads by position.
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::core::{Error, Result};

/// An open file, or bytes in the binary.
#[derive(Debug)]
pub enum Blob {
    /// On disk.
    Disk {
        /// The open file.
        file: File,
        /// Where it was opened.
        path: PathBuf,
        /// Its length then.
        len: u64,
        /// Its time of modification then.
        modified: Option<SystemTime>,
    },
    /// In memory.
    Memory {
        /// What to call it.
        name: &'static str,
        /// The bytes.
        bytes: std::borrow::Cow<'static, [u8]>,
    },
}

impl Blob {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        let place = |e: io::Error| Error::failed(format!("{}: cannot be opened: {e}", path.display())).because(e);
        // Asked before opening: a pipe would wait for a writer that never comes.
        if !std::fs::metadata(path).map_err(place)?.is_file() {
            return Err(Error::failed(format!("{}: not a regular file", path.display())));
        }
        let file = File::open(path).map_err(place)?;
        let meta = file.metadata().map_err(place)?;
        if !meta.is_file() {
            return Err(Error::failed(format!("{}: not a regular file", path.display())));
        }
        Ok(Self::Disk { file, path: path.to_owned(), len: meta.len(), modified: meta.modified().ok() })
    }
    /// Its length in bytes, as it was when opened.
    pub fn len(&self) -> u64 {
        match self {
            Self::Disk { len, .. } => *len,
            Self::Memory { bytes, .. } => bytes.len() as u64,
        }
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Its path, or its name in the binary.
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk { path, .. } => path,
            Self::Memory { name, .. } => Path::new(name),
        }
    }
    /// Fills `out` with the bytes from `offset` on.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match self {
            Self::Disk { file, path, .. } => read_exact_at(file, offset, out).map_err(|e| {
                let what = if e.kind() == io::ErrorKind::UnexpectedEof {
                    "the file ends early; it has changed since it was opened".to_owned()
                } else {
                    e.to_string()
                };
                Error::failed(format!(
                    "{}: {} bytes at offset {offset} cannot be read: {what}",
                    path.display(),
                    out.len()
                ))
                .because(e)
            }),
            Self::Memory { name, bytes } => {
                let range = usize::try_from(offset).ok().and_then(|a| Some(a..a.checked_add(out.len())?));
                match range.and_then(|r| bytes.get(r)) {
                    Some(slice) => {
                        out.copy_from_slice(slice);
                        Ok(())
                    }
                    None => Err(Error::failed(format!("{name}: {} bytes at offset {offset} are not there", out.len()))),
                }
            }
        }
    }
    /// An error when the file is not what it was when opened.
    pub fn check_unchanged(&self) -> Result<()> {
        if let Self::Disk { path, len, modified, .. } = self {
            let now = std::fs::metadata(path).ok();
            let same = now.is_some_and(|m| m.len() == *len && m.modified().ok() == *modified);
            if !same {
                return Err(Error::failed(format!(
                    "{}: has changed since it was opened; open it again",
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`, without moving a cursor that threads would share.
#[cfg(unix)]
pub(super) fn write_all_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at `offset`.
#[cfg(windows)]
pub(super) fn write_all_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
