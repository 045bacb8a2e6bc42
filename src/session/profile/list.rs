//! Arrays of strings, changed in place: an entry that stays keeps the comments above it and behind it.
use toml_edit::{Array, Item, TableLike, Value};

/// An entry with what is written around it.
struct Entry {
    value: Value,
    /// What stands on the lines above it, and its indent; `None` when it begins on the line of the one before.
    above: Option<String>,
    /// What stands behind it and its comma, up to the end of the line.
    behind: String,
}

/// Makes the array of that key hold `new`; without any entry it goes.
pub(super) fn update(table: &mut dyn TableLike, key: &str, new: &[&str]) {
    if new.is_empty() {
        table.remove(key);
        return;
    }
    if table.get(key).is_none() {
        table.insert(key, Item::Value(Array::new().into()));
    }
    let Some(array) = table.get_mut(key).and_then(Item::as_array_mut) else {
        return;
    };
    let over_lines = |v: &Value| prefix(v).contains('\n') || suffix(v).contains('\n');
    if array.iter().any(over_lines) || trailing(array).contains('\n') {
        lines(array, new);
    } else {
        line(array, new);
    }
}

/// An array on one line; the spaces in it are the writer's.
fn line(array: &mut Array, new: &[&str]) {
    let mut free: Vec<Option<Value>> = array.iter().cloned().map(Some).collect();
    array.clear();
    for text in new {
        let same = free.iter_mut().find(|v| v.as_ref().and_then(Value::as_str) == Some(text));
        let value = same.and_then(Option::take);
        let mut value = value.unwrap_or_else(|| Value::from(*text));
        value.decor_mut().clear();
        array.push_formatted(value);
    }
    array.set_trailing("");
    array.set_trailing_comma(false);
}

fn prefix(v: &Value) -> &str {
    let prefix = v.decor().prefix();
    prefix.and_then(|p| p.as_str()).unwrap_or_default()
}

fn suffix(v: &Value) -> &str {
    let suffix = v.decor().suffix();
    suffix.and_then(|s| s.as_str()).unwrap_or_default()
}

fn trailing(array: &Array) -> &str {
    array.trailing().as_str().unwrap_or_default()
}

/// What ends a line, and what follows on the next ones.
fn split(text: &str) -> (&str, Option<String>) {
    match text.split_once('\n') {
        Some((line, rest)) => (line.trim_end_matches('\r'), Some(rest.to_owned())),
        None if text.trim().is_empty() => ("", None),
        None => (text, None),
    }
}

/// An array over several lines.
fn lines(array: &mut Array, new: &[&str]) {
    // What stands between one entry and the next, comma left out: a comment before it moves behind it.
    let mut between = String::new();
    let mut opening = String::new();
    let mut entries: Vec<Entry> = Vec::new();
    for value in array.iter() {
        between.push_str(prefix(value));
        let (end, above) = split(&between);
        match entries.last_mut() {
            Some(before) => before.behind = end.to_owned(),
            None => opening = end.to_owned(),
        }
        between = suffix(value).to_owned();
        entries.push(Entry { value: value.clone(), above, behind: String::new() });
    }
    between.push_str(trailing(array));
    let (end, closing) = split(&between);
    match entries.last_mut() {
        Some(before) => before.behind = end.to_owned(),
        None => opening = end.to_owned(),
    }
    let indent = entries.iter().find_map(|e| e.above.as_deref()?.rsplit('\n').next()).unwrap_or("    ").to_owned();
    let mut free: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    let comma = array.trailing_comma();
    array.clear();
    let mut line = opening;
    for text in new {
        let same = free.iter_mut().find(|e| e.as_ref().and_then(|e| e.value.as_str()) == Some(text));
        let mut entry = same.and_then(Option::take).unwrap_or_else(|| Entry {
            value: Value::from(*text),
            above: Some(indent.clone()),
            behind: String::new(),
        });
        // Behind a comment the line is over.
        if line.contains('#') && entry.above.is_none() {
            entry.above = Some(indent.clone());
        }
        let space = if array.is_empty() { "" } else { " " };
        let before = match entry.above {
            Some(above) => format!("{line}\n{above}"),
            None => format!("{line}{space}"),
        };
        entry.value.decor_mut().set_prefix(before);
        entry.value.decor_mut().set_suffix("");
        array.push_formatted(entry.value);
        line = entry.behind;
    }
    array.set_trailing(format!("{line}\n{}", closing.unwrap_or_default()));
    array.set_trailing_comma(comma);
}
