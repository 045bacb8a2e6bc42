//! The model that a YAML file of deepcompressor's is about: `name` and `path` of its `pipeline`.
//!
//! Two scalars of one mapping are no reason for a whole YAML parser. What stands elsewhere in the file is passed over;
//! what these two lines may be in YAML beyond a plain or quoted scalar is refused, never guessed.
use crate::core::{Error, Result};

/// What the file says of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// A short name.
    pub name: Option<String>,
    /// A folder or an id.
    pub path: Option<String>,
}

/// Reads `pipeline.name` and `pipeline.path`.
///
/// # Errors
/// If there is no `pipeline`, or the two are not written as scalars on lines of their own.
pub fn parse(text: &str) -> Result<Pipeline> {
    let mut found: Option<Pipeline> = None;
    let mut inside = false;
    // How far the mapping's keys are indented, once one was seen.
    let mut depth = None;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let fail = |what: String| Error::failed(format!("line {}: {what}", number + 1));
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        let content = content.trim_end();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if indent == 0 {
            inside = false;
            if key_of(content).is_some_and(|(key, _)| key == "pipeline") {
                if found.is_some() {
                    return Err(fail("`pipeline` is there twice".into()));
                }
                let (_, rest) = key_of(content).unwrap_or_default();
                if scalar(rest).map_err(&fail)?.is_some() {
                    return Err(fail("`pipeline` has no keys below it".into()));
                }
                (inside, found) = (true, Some(Pipeline::default()));
            }
            continue;
        }
        if !inside {
            continue;
        }
        if content.starts_with('\t') {
            return Err(fail("a tab, where YAML wants spaces".into()));
        }
        if *depth.get_or_insert(indent) != indent {
            // The keys of something else in it, or a scalar that goes on.
            continue;
        }
        let (key, rest) = key_of(content).ok_or_else(|| fail("no `key: value` of `pipeline`".into()))?;
        if let Some(pipeline) = &mut found {
            let place = match key {
                "name" => &mut pipeline.name,
                "path" => &mut pipeline.path,
                _ => continue,
            };
            if place.is_some() {
                return Err(fail(format!("`{key}` is there twice")));
            }
            *place = scalar(rest).map_err(|what| fail(format!("`{key}`: {what}")))?;
        }
    }
    found.ok_or_else(|| Error::failed("there is no `pipeline`, as deepcompressor's configs have it"))
}

/// A line's key, and what follows it.
fn key_of(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = line.split_once(':')?;
    // `a:b` is a scalar.
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then(|| (key.trim().trim_matches(['"', '\'']), rest.trim()))
}

/// A scalar on one line; `None` for none.
fn scalar(text: &str) -> Result<Option<String>, String> {
    let after = |rest: &str| match rest.trim() {
        rest if rest.is_empty() || rest.starts_with('#') => Ok(()),
        rest => Err(format!("`{rest}` after its end")),
    };
    if let Some(rest) = text.strip_prefix('\'') {
        let (mut value, mut rest) = (String::new(), rest);
        loop {
            let (part, left) = rest.split_once('\'').ok_or("its quote is not closed on this line")?;
            value.push_str(part);
            // A quote is doubled within quotes.
            match left.strip_prefix('\'') {
                Some(more) => {
                    value.push('\'');
                    rest = more;
                }
                None => {
                    after(left)?;
                    return Ok(Some(value));
                }
            }
        }
    }
    if let Some(rest) = text.strip_prefix('"') {
        let (value, left) = rest.split_once('"').ok_or("its quote is not closed on this line")?;
        if value.contains('\\') {
            return Err("an escape in it is not read; write it in single quotes".into());
        }
        after(left)?;
        return Ok(Some(value.to_owned()));
    }
    let plain = text.split_once(" #").map_or(text, |(value, _)| value).trim();
    let plain = if plain.starts_with('#') { "" } else { plain };
    match plain {
        "" | "~" | "null" | "Null" | "NULL" => Ok(None),
        v if v.starts_with(['&', '*', '!', '|', '>', '[', '{', '@', '`', '%']) => {
            Err(format!("`{v}` is not read; write it as a plain or quoted text on this line"))
        }
        v if v.contains(": ") || v.ends_with(':') => Err(format!("`{v}` is a mapping, not a text")),
        v => Ok(Some(v.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_scalars_are_read() {
        fn check(text: &str, name: Option<&str>, path: Option<&str>) {
            let read = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((read.name.as_deref(), read.path.as_deref()), (name, path), "{text}");
        }
        check("pipeline:\n  name: flux.1-dev\n  dtype: torch.bfloat16\neval:\n  name: x\n", Some("flux.1-dev"), None);
        check("a: 1\npipeline:   # ours\n\n    path: org/name # there\n    name: 'n'\n", Some("n"), Some("org/name"));
        check("---\npipeline:\n  \"path\": \"C#/x y\"\n  lora:\n    path: other\n", None, Some("C#/x y"));
        check("pipeline:\r\n  name: 'it''s'\r\n", Some("it's"), None);
        check("pipeline:\n  name: ''\n  path: null\n", Some(""), None);
        check("pipeline:\n  name: ~\n  path: C:\\models\\flux\n", None, Some("C:\\models\\flux"));
        check("pipeline:\n", None, None);
    }

    #[test]
    fn what_is_not_read_is_refused() {
        fn check(text: &str, part: &str) {
            let message = parse(text).expect_err(text).to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        check("quant:\n  name: x\n", "no `pipeline`");
        check("pipeline: {name: x}\n", "line 1: `{name: x}` is not read");
        check("pipeline: x\n", "no keys below it");
        check("pipeline:\n  name: *anchor\n", "line 2: `name`: `*anchor`");
        check("pipeline:\n  path: |\n    org/name\n", "is not read");
        check("pipeline:\n  name: a\n  name: b\n", "twice");
        check("pipeline:\n  name: a\npipeline:\n  name: b\n", "twice");
        check("pipeline:\n  - a\n", "no `key: value`");
        check("pipeline:\n  name: 'a\n", "not closed");
        check("pipeline:\n  name: \"a\\n\"\n", "single quotes");
        check("pipeline:\n  name: 'a' b\n", "after its end");
        check("pipeline:\n \tname: a\n", "a tab");
    }
}
