//! The small files that lie around a model's weights: what describes its vocabulary, how to sample from it, its card.
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::{Companion, Content, Opened};
use crate::core::model::Origin;
use crate::core::{Error, Result};

/// A vocabulary of a million tokens has less than this; what is larger is no such file.
const MAX: u64 = 256 << 20;

/// Reads files by their names within a model's folder.
#[derive(Clone, Debug, Default)]
pub struct Files<'a> {
    folder: Option<PathBuf>,
    companions: &'a [Companion],
}

impl<'a> Files<'a> {
    /// Those of an opened model. A bare file that no config describes has none.
    pub fn of(opened: &'a Opened) -> Self {
        let model = &opened.model;
        let folder = match &model.origin {
            Origin::Demo => None,
            Origin::Folder => Some(model.root.clone()),
            Origin::Component { name } => Some(model.root.join(name)),
            Origin::File => model.config.as_ref().and_then(|_| model.root.parent()).map(Path::to_owned),
        };
        Self { folder, companions: &opened.companions }
    }

    /// All bytes of a file; `None` where there is none of that name. Names may come from files: none leads out.
    ///
    /// # Errors
    /// If it cannot be read, or has more than 256 MiB.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let relative = Path::new(name);
        if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(Error::failed(format!("`{name}` is not the name of a file in the model's folder")));
        }
        let Some(folder) = &self.folder else {
            let found = self.companions.iter().find(|c| c.relative == relative);
            return found.filter(|c| matches!(c.content, Content::Embedded(_))).map(|c| c.content.read()).transpose();
        };
        let path = folder.join(relative);
        let Ok(meta) = std::fs::metadata(&path) else { return Ok(None) };
        let fail = |what: String| Error::failed(format!("{}: {what}", path.display()));
        if !meta.is_file() {
            return Err(fail("not a regular file".into()));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(&path)
            .and_then(|f| f.take(MAX + 1).read_to_end(&mut bytes))
            .map_err(|e| fail(format!("cannot be read: {e}")).because(e))?;
        if bytes.len() as u64 > MAX {
            return Err(fail(format!("more than {MAX} bytes are too many for this file")));
        }
        Ok(Some(bytes))
    }

    /// A small JSON file; `None` where there is none of that name.
    pub fn json(&self, name: &str) -> Result<Option<serde_json::Value>> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let wrong = |e: serde_json::Error| Error::failed(format!("{name}: is not valid JSON: {e}")).because(e);
        super::json::parse(&bytes).map(Some).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_by_name_and_none_outside() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("1_Pooling")).expect("a folder");
        std::fs::write(folder.path().join("1_Pooling/config.json"), "{\"a\": 1}").expect("written");
        std::fs::write(folder.path().join("broken.json"), "{").expect("written");
        let files = Files { folder: Some(folder.path().to_owned()), companions: &[] };
        assert_eq!(files.json("1_Pooling/config.json").expect("read"), Some(serde_json::json!({"a": 1})));
        assert_eq!(files.read("README.md").expect("none"), None);
        fn check(files: &Files, name: &str, expected: &str) {
            let message = files.json(name).expect_err(name).to_string();
            assert!(message.contains(expected), "{message}");
        }
        check(&files, "../secret.json", "not the name of a file");
        check(&files, "/etc/passwd", "not the name of a file");
        check(&files, "broken.json", "broken.json: is not valid JSON");
        check(&files, "1_Pooling", "not a regular file");
    }

    #[test]
    fn the_built_in_model_has_its_files_too() {
        let opened = crate::format::demo::open().expect("the demo");
        let files = Files::of(&opened);
        assert!(files.json("tokenizer.json").expect("read").is_some());
        assert_eq!(files.read("README.md").expect("none"), None);
    }
}
