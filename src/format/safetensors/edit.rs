//! A file's metadata written anew; its arrays are copied as they are.
use std::path::Path;

use super::{Entry, read_header, write_header};
use crate::core::{Cancel, Error, Result};
use crate::format::Blob;
use crate::format::save::{self, Staging};

/// Bytes that are copied at a time.
const COPY: usize = 4 << 20;
/// The least that is brought to the disk at once.
const FLUSH: u64 = 256 << 20;

/// A file's metadata, in its order.
///
/// # Errors
/// If it is no whole safetensors file.
pub fn metadata(path: &Path) -> Result<Vec<(String, String)>> {
    Ok(read_header(&Blob::open(path)?)?.metadata)
}

/// Replaces the metadata of a file: beside it a new one is written, whose arrays are the same bytes in the same order, and
/// takes its place when it is whole. A link is followed.
///
/// # Errors
/// If it is no whole safetensors file, lies in the Hugging Face cache, or the new one cannot be written; or the work was
/// asked to stop. Then the file is as it was.
pub fn set_metadata(path: &Path, metadata: &[(String, String)], cancel: &Cancel) -> Result<()> {
    let fail = |what: String| Error::failed(format!("{}: {what}", path.display()));
    let real = path.canonicalize().map_err(|e| fail(format!("cannot be opened: {e}")).because(e))?;
    // Blobs of the cache are called by what is in them.
    if real.parent().is_some_and(|p| p.ends_with("blobs") && p.parent().is_some_and(|r| r.join("snapshots").is_dir())) {
        return Err(fail("lies in the Hugging Face cache, where files are never changed; copy it first".into()));
    }
    let blob = Blob::open(&real)?;
    let header = read_header(&blob)?;
    let data = blob.len() - header.arrays.iter().map(|a| a.span.len).sum::<u64>();
    let entries: Vec<Entry> = header
        .arrays
        .into_iter()
        .map(|a| Entry {
            name: a.name,
            storage: a.storage,
            shape: a.shape,
            offset: a.span.offset - data,
            len: a.span.len,
        })
        .collect();
    let head = write_header(metadata, &entries);
    if head.len() as u64 - 8 > super::MAX_HEADER {
        return Err(fail(format!(
            "its header would have more than {} bytes, which no reader takes",
            super::MAX_HEADER
        )));
    }
    let len = head.len() as u64 + blob.len() - data;
    save::check_space(&real, len)?;
    let staging = Staging::new(&real, false, true)?;
    let sink = staging.weights(Path::new(""), len)?;
    sink.write_at(0, &head)?;
    let mut buffer = vec![0; COPY];
    let mut at = data;
    while at < blob.len() {
        cancel.check()?;
        let part = &mut buffer[..COPY.min((blob.len() - at) as usize)];
        blob.read_at(at, part)?;
        sink.write_at(head.len() as u64 + at - data, part)?;
        sink.flush(FLUSH)?;
        at += part.len() as u64;
    }
    blob.check_unchanged()?;
    sink.sync()?;
    // An open file cannot be replaced everywhere.
    drop((blob, sink));
    staging.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Storage;

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// A file of two arrays, of which the first in the header is the last in the data.
    fn file(folder: &Path) -> std::path::PathBuf {
        let entry =
            |name: &str, offset, len| Entry { name: name.into(), storage: Storage::U8, shape: vec![len], offset, len };
        let mut bytes = write_header(&pairs(&[("format", "pt")]), &[entry("b", 3, 5), entry("a", 0, 3)]);
        bytes.extend(b"aaabbbbb");
        let path = folder.join("m.safetensors");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    #[test]
    fn arrays_stay_as_they_are() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = file(dir.path());
        let before = std::fs::read(&path).expect("there");
        for wanted in [pairs(&[("format", "pt"), ("long", &"x".repeat(1000))]), pairs(&[]), pairs(&[("format", "pt")])]
        {
            set_metadata(&path, &wanted, &Cancel::new()).expect("replaced");
            assert_eq!(metadata(&path).expect("read"), wanted);
            let header = read_header(&Blob::open(&path).expect("open")).expect("whole");
            assert_eq!(header.arrays.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
            let bytes = std::fs::read(&path).expect("there");
            assert!(bytes.ends_with(b"aaabbbbb"));
        }
        assert_eq!(std::fs::read(&path).expect("there"), before, "as it was at first");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_cannot_be_changed_is_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = file(dir.path());
        let before = std::fs::read(&path).expect("there");
        let stopped = Cancel::new();
        stopped.cancel();
        assert!(set_metadata(&path, &pairs(&[]), &stopped).is_err());
        std::fs::write(dir.path().join("short.safetensors"), &before[..before.len() - 1]).expect("written");
        assert!(set_metadata(&dir.path().join("short.safetensors"), &pairs(&[]), &Cancel::new()).is_err());
        assert_eq!(std::fs::read(&path).expect("there"), before);
        let blobs = dir.path().join("models--a--b/blobs");
        std::fs::create_dir_all(&blobs).expect("a cache");
        std::fs::create_dir_all(blobs.with_file_name("snapshots")).expect("a cache");
        std::fs::rename(&path, blobs.join("hash")).expect("moved");
        let message = set_metadata(&blobs.join("hash"), &pairs(&[]), &Cancel::new()).expect_err("a blob").to_string();
        assert!(message.contains("copy it first"), "{message}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 2);
    }
}
