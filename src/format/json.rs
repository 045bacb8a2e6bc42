//! JSON as Python writes it: `NaN` and `Infinity` stand in real configs, where JSON proper has no such numbers.
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::core::{Error, Result};

/// What stands for such a number between reading and writing; no config says this of itself.
const MARK: &str = "\u{1}number:";
const NUMBERS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];

/// Reads a JSON file of at most `most` bytes; `None` when there is no such file.
pub fn read(path: &Path, most: u64) -> Result<Option<Value>> {
    let fail = |what: String| Error::failed(format!("{}: {what}", path.display()));
    let Ok(meta) = std::fs::metadata(path) else { return Ok(None) };
    // A device or a pipe has no length, and may never end.
    if !meta.is_file() {
        return Err(fail("not a regular file".into()));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|f| f.take(most + 1).read_to_end(&mut text))
        .map_err(|e| fail(format!("cannot be read: {e}")).because(e))?;
    if text.len() as u64 > most {
        return Err(fail(format!("more than {most} bytes are too many for this file")));
    }
    parse(&text).map(Some).map_err(|e| fail(format!("is not valid JSON: {e}")).because(e))
}

/// Parses JSON, and Python's numbers that are none.
pub fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    match serde_json::from_slice(text) {
        Ok(value) => Ok(value),
        Err(e) => {
            let Ok(text) = std::str::from_utf8(text) else { return Err(e) };
            let mut rest = text;
            let mut out = String::with_capacity(text.len() + 64);
            let mut quoted = false;
            while let Some(c) = rest.chars().next() {
                let number = NUMBERS.iter().find(|n| !quoted && rest.starts_with(**n));
                let taken = if let Some(number) = number {
                    out.push_str(&Value::from(format!("{MARK}{number}")).to_string());
                    number.len()
                } else {
                    out.push(c);
                    let mut taken = c.len_utf8();
                    match c {
                        '"' => quoted = !quoted,
                        // An escape never ends a string, whatever follows.
                        '\\' if quoted => {
                            if let Some(next) = rest.chars().nth(1) {
                                out.push(next);
                                taken += next.len_utf8();
                            }
                        }
                        _ => {}
                    }
                    taken
                };
                rest = rest.get(taken..).unwrap_or_default();
            }
            serde_json::from_str(&out)
        }
    }
}

/// Indented JSON, with those numbers as they were read.
pub fn write(value: &Value) -> String {
    let mut text = format!("{value:#}");
    for number in NUMBERS {
        text = text.replace(&Value::from(format!("{MARK}{number}")).to_string(), number);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_comes_back() {
        fn check(text: &str, back: Option<&str>) {
            let got = parse(text.as_bytes()).ok().map(|v| write(&v).split_whitespace().collect::<String>());
            assert_eq!(got.as_deref(), back, "{text}");
        }
        check(r#"{"a":[0.0,Infinity,-Infinity,NaN]}"#, Some(r#"{"a":[0.0,Infinity,-Infinity,NaN]}"#));
        check(r#"{"a":"NaN","b\\\"Infinity":NaN}"#, Some(r#"{"a":"NaN","b\\\"Infinity":NaN}"#));
        check("{", None);
        check("NaNa", None);
    }
}
