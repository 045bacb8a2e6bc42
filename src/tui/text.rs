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
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > columns {
            break;
        }
        used += w;
        out.push(c);
    }
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
    let mut tail = Vec::new();
    let mut used = 0;
    for c in text.chars().rev() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > columns {
            break;
        }
        used += w;
        tail.push(c);
    }
    if columns > 0 {
        tail.push('…');
    }
    tail.into_iter().rev().collect()
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
