//! Tensor names: natural order, layers, and what may be shown of a name that came from a file.
use std::borrow::Cow;
use std::cmp::Ordering;

/// The layer a tensor belongs to: its name without `.weight`.
pub fn layer(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// What a layer is called within the one above it: the last dotted segment.
pub fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A name fit to be shown: control characters, and the invisible ones that reorder or hide text, become `\u{FFFD}`.
///
/// Names come from files that somebody else made; an escape sequence in one must not reach a terminal.
pub fn clean(name: &str) -> Cow<'_, str> {
    if name.chars().any(unshowable) {
        Cow::Owned(name.chars().map(|c| if unshowable(c) { '\u{FFFD}' } else { c }).collect())
    } else {
        Cow::Borrowed(name)
    }
}

fn unshowable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
}

/// Natural order, total, segment by segment: digit runs compare as numbers (`2` before `10`), and where two segments
/// are equal that way (`a1`, `a01`) their bytes decide. So equal means identical, and what shares a prefix of segments
/// lies together, which the tree relies on.
pub fn natural(a: &str, b: &str) -> Ordering {
    // Whole segments that both begin with are equal: names of one model have much in common.
    let same = common_prefix(a.as_bytes(), b.as_bytes());
    let from = a.as_bytes()[..same].iter().rposition(|c| *c == b'.').map_or(0, |dot| dot + 1);
    let (a, b) = (a.get(from..).unwrap_or(a), b.get(from..).unwrap_or(b));
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) => match segment(x.as_bytes(), y.as_bytes()).then_with(|| x.cmp(y)) {
                Ordering::Equal => {}
                other => return other,
            },
        }
    }
}

/// Bytes that both begin with. Eight at a time: sorting the names of a large model does little else.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (words_a, words_b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let mut words = words_a.iter().zip(words_b);
    let whole = match words.position(|(x, y)| x != y) {
        Some(i) => i * 8,
        None => words_a.len().min(words_b.len()) * 8,
    };
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(x, y)| x == y).count()
}

fn segment(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (n, rest_a) = digits(a);
                let (m, rest_b) = digits(b);
                match n.len().cmp(&m.len()).then_with(|| n.cmp(m)) {
                    Ordering::Equal => (a, b) = (rest_a, rest_b),
                    other => return other,
                }
            }
            (Some(x), Some(y)) => match x.cmp(y) {
                Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
                other => return other,
            },
        }
    }
}

/// Edits between two names (Levenshtein), to offer the near ones of an unknown name.
pub fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (y, cell) in b.chars().zip(row.iter_mut().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, left);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Of the allowed names the one that was probably meant.
pub fn nearest<'a>(name: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let near = allowed.iter().map(|a| (distance(&lower, a), *a)).min()?;
    (near.0 <= 1 + near.1.len() / 4).then_some(near.1)
}

/// The leading digit run without its zeros, and what follows it.
fn digits(s: &[u8]) -> (&[u8], &[u8]) {
    let end = s.iter().position(|c| !c.is_ascii_digit()).unwrap_or(s.len());
    let (run, rest) = s.split_at(end);
    let zeros = run.iter().take_while(|c| **c == b'0').count();
    (&run[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn natural_order() {
        fn check(lesser: &str, greater: &str) {
            assert_eq!(natural(lesser, greater), Ordering::Less, "{lesser} < {greater}");
            assert_eq!(natural(greater, lesser), Ordering::Greater, "{greater} > {lesser}");
        }
        check("blocks.2.a", "blocks.10.a");
        check("a01", "a1");
        check("a01.z", "a1.b");
        check("a", "a.b");
        check("to_q.weight", "to_q_proj.weight");
        check("x.9999999999999999999999", "x.10000000000000000000000");
        check("", "a");
    }

    #[test]
    fn distances() {
        fn check(a: &str, b: &str, edits: usize) {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
        check("uint4", "uint4", 0);
        check("unt4", "uint4", 1);
        check("", "ab", 2);
        check("Q4_K", "int4", 4);
    }

    #[test]
    fn unshowable_characters() {
        fn check(name: &str, shown: &str) {
            assert_eq!(clean(name), shown);
        }
        check("blocks.0.weight", "blocks.0.weight");
        check("a\x1b[31mred", "a\u{FFFD}[31mred");
        check("evil\u{202E}txt", "evil\u{FFFD}txt");
        check("naïve.重み", "naïve.重み");
    }

    proptest! {
        #[test]
        fn order_is_total(a in "[a-c0-1._]{0,6}", b in "[a-c0-1._]{0,6}", c in "[a-c0-1._]{0,6}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            prop_assert_eq!(natural(&a, &b) == Ordering::Equal, a == b);
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                prop_assert!(natural(&a, &c).is_le());
            }
        }
    }
}
