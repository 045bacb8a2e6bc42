//! Text measured in the columns it takes on screen.
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of a text in at most that many columns; an ellipsis says that something was cut off.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    // Measured as a whole: a sign can change the width of the one before it.
    let fits = |end: usize| text.get(..end).is_some_and(|head| width(head) < columns);
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| fits(*end)).last().unwrap_or(0);
    let mut out = text.get(..end).unwrap_or_default().to_owned();
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The end of a text in at most that many columns.
pub fn cut_left(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let fits = |start: usize| text.get(start..).is_some_and(|tail| width(tail) < columns);
    let starts = text.char_indices().rev().map(|(at, _)| at);
    let start = starts.take_while(|start| fits(*start)).last().unwrap_or(text.len());
    let tail = text.get(start..).unwrap_or_default();
    if columns > 0 { format!("…{tail}") } else { String::new() }
}

/// Lines of at most that many columns, broken at blanks where there are any.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if columns == 0 {
        return lines;
    }
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            if width(&line) + c.width().unwrap_or(0) > columns {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// `1 tensor`, `38 tensors`.
pub fn tensors(n: usize) -> String {
    format!("{n} tensor{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cuts_by_columns() {
        fn check(text: &str, columns: usize, left: &str, right: &str) {
            assert_eq!((cut(text, columns).as_str(), cut_left(text, columns).as_str()), (left, right));
        }
        check("to_q.weight", 20, "to_q.weight", "to_q.weight");
        check("to_q.weight", 5, "to_q…", "…ight");
        check("重み重み", 5, "重み…", "…重み");
        check("重み重み", 4, "重…", "…み");
        check("abc", 0, "", "");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_asked(text in "\\PC{0,40}", columns in 0usize..20) {
            prop_assert!(width(&cut(&text, columns)) <= columns.max(width(&text).min(columns)));
            for line in wrap(&text, columns.max(2)) {
                prop_assert!(width(&line) <= columns.max(2) + 1, "{line:?}");
            }
        }
    }
}
