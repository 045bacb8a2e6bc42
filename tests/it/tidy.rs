//! The house's invariants, each an absence, held by reading the source.
use std::path::{Path, PathBuf};

/// Every file of `src`, with its layer and its text up to its tests.
fn sources() -> Vec<(PathBuf, String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found)
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path)
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).expect("below src").to_owned();
            let layer = relative.components().next().expect("a name").as_os_str().to_string_lossy().replace(".rs", "");
            let text = std::fs::read_to_string(&path).expect("readable");
            // Tests may touch what the code may not.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            (relative, layer, code)
        })
        .collect()
}

/// Lines of code that name any of `words`; comments may speak of everything.
fn naming(layers: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, layer, code) in sources() {
        if !layers.contains(&layer.as_str()) || path.to_string_lossy().contains("test") {
            continue;
        }
        for (i, line) in code.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // `use crate::{core, engine}` names both.
            let grouped = |w: &str| {
                let inside = code.split_once("crate::{").map(|(_, rest)| rest);
                let module = w.strip_prefix("crate::");
                matches!((inside, module), (Some(i), Some(m)) if i.split([',', '{', '}', ' ', ':']).any(|t| t == m))
            };
            if let Some(word) = words.iter().find(|w| code.contains(**w) || grouped(w)) {
                found.push(format!("src/{}:{}: names {word}", path.display(), i + 1));
            }
        }
    }
    found
}

#[test]
fn layers_import_only_what_lies_below() {
    fn check(layer: &str, never: &[&str]) {
        let words: Vec<String> = never.iter().map(|n| format!("crate::{n}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(naming(&[layer], &words), Vec::<String>::new(), "{layer} must not import {never:?}");
    }
    check("core", &["quant", "format", "target", "session", "engine", "cli", "tui"]);
    check("quant", &["format", "target", "session", "engine", "cli", "tui"]);
    check("format", &["quant", "target", "session", "engine", "cli", "tui"]);
    check("target", &["session", "engine", "cli", "tui"]);
    check("session", &["quant", "format", "target", "engine", "cli", "tui"]);
    check("engine", &["session", "cli", "tui"]);
    check("tui", &["cli"]);
}

#[test]
fn the_domain_knows_no_files_threads_or_terminal() {
    let never = ["std::fs", "std::thread", "ratatui", "crossterm", "std::io", "std::net"];
    assert_eq!(naming(&["core", "quant", "session"], &never), Vec::<String>::new());
}

#[test]
fn only_the_desk_draws() {
    let others = ["core", "quant", "format", "target", "session", "engine", "cli", "main", "lib"];
    assert_eq!(naming(&others, &["ratatui", "crossterm"]), Vec::<String>::new());
}

#[test]
fn only_format_opens_weight_files() {
    let others = ["core", "quant", "target", "session", "engine", "tui"];
    assert_eq!(naming(&others, &["File::open", "fs::read(", "fs::File"]), Vec::<String>::new());
}

#[test]
fn nothing_is_unfinished() {
    let all = ["core", "quant", "format", "target", "session", "engine", "cli", "tui", "main", "lib"];
    assert_eq!(naming(&all, &["todo!", "unimplemented!", ".unwrap()", "dbg!"]), Vec::<String>::new());
}

#[test]
fn files_are_short_enough_to_read() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(path, _, code)| (path, code.lines().count()))
        .filter(|(_, lines)| *lines > 600)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert_eq!(long, Vec::<String>::new());
}
