//! What tensors of the same kind in different blocks have in common, and the shortest pattern for a set of names.
use std::collections::{BTreeMap, BTreeSet};

use crate::core::rules::Pattern;

/// A name with its block numbers taken out: `blocks.*.attn.to_q.weight`, and the numbers.
fn take_apart(name: &str) -> (Vec<&str>, Vec<u32>) {
    let mut numbers = Vec::new();
    let segments: Vec<&str> = name.split('.').collect();
    let last = segments.len();
    let kind = segments
        .into_iter()
        .enumerate()
        .map(|(i, segment)| match segment.parse::<u32>() {
            // The first number counts blocks; a later one only where more than the parameter's name follows, as the
            // layers of a sequence (`mlp.0.weight`, `mlp.2.weight`) are of different kinds.
            Ok(n) if numbers.is_empty() || i + 2 < last => {
                numbers.push(n);
                "*"
            }
            _ => segment,
        })
        .collect();
    (kind, numbers)
}

/// What a tensor is called in every block: `blocks.*.attn.to_q.weight`. Of a group's path the same.
pub fn kind(name: &str) -> String {
    take_apart(name).0.join(".")
}

/// The number of the block that a tensor lies in.
pub fn block(name: &str) -> Option<u32> {
    take_apart(name).1.first().copied()
}

/// Whether a name is of that kind, or lies below it.
pub fn is_of(name: &str, kind: &str) -> bool {
    let mut segments = name.split('.');
    kind.split('.').all(|k| match (k, segments.next()) {
        ("*", Some(s)) => s.bytes().all(|b| b.is_ascii_digit()),
        (k, Some(s)) => k == s,
        (_, None) => false,
    })
}

/// Numbers as a pattern: `\d+` for all, `[0-3]`, `(0|1|18)`.
fn numbers(some: &BTreeSet<u32>) -> String {
    let texts: Vec<String> = some.iter().map(u32::to_string).collect();
    match &texts[..] {
        [one] => one.clone(),
        all if all.iter().all(|t| t.len() == 1) => {
            let (first, last) = (&all[0], &all[all.len() - 1]);
            let run = some.last().zip(some.first()).is_some_and(|(l, f)| l - f + 1 == some.len() as u32);
            if run && all.len() > 2 { format!("[{first}-{last}]") } else { format!("[{}]", all.concat()) }
        }
        all => format!("({})", all.join("|")),
    }
}

/// The shortest pattern, of those that are tried, that is found in exactly the names of `marked` among `all`. If none of
/// them is, the names themselves.
pub fn generalise(all: &[&str], marked: &BTreeSet<usize>) -> String {
    let chosen: Vec<&str> = marked.iter().filter_map(|i| all.get(*i).copied()).collect();
    let others = || all.iter().enumerate().filter(|(i, _)| !marked.contains(i)).map(|(_, name)| *name);
    let exact = |text: &String| {
        // What is too much is found soon, what is too little after all of the marked: the cheaper test comes first.
        Pattern::new(text).is_ok_and(|p| {
            chosen.iter().take(8).all(|n| p.hits(&[n]))
                && !others().any(|n| p.hits(&[n]))
                && chosen.iter().all(|n| p.hits(&[n]))
        })
    };
    let mut candidates = words(&chosen);
    let mut kinds: BTreeMap<Vec<&str>, BTreeSet<u32>> = BTreeMap::new();
    for name in &chosen {
        let (kind, numbers) = take_apart(name);
        kinds.entry(kind).or_default().extend(numbers.first());
    }
    let segments: Vec<&[&str]> = kinds.keys().map(Vec::as_slice).collect();
    // Where the same blocks of every kind are marked, and not all of them, the pattern names these.
    let blocks = kinds.values().next().filter(|first| !first.is_empty() && kinds.values().all(|k| k == *first));
    for block in std::iter::once(ANY.to_owned()).chain(blocks.map(numbers)) {
        candidates.extend(windows(&pieces(&segments, &block)));
    }
    candidates.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    candidates.dedup();
    if let Some(found) = candidates.into_iter().find(exact) {
        return found;
    }
    let names: Vec<String> = chosen.iter().map(|n| regex::escape(n)).collect();
    match &names[..] {
        [one] => format!("^{one}$"),
        all => format!("^({})$", all.join("|")),
    }
}

/// Any number.
const ANY: &str = r"\d+";

/// Words that all names have: `norm`.
fn words(names: &[&str]) -> Vec<String> {
    let Some(first) = names.first() else { return Vec::new() };
    first
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| word.len() > 2 && names.iter().all(|n| n.contains(*word)))
        .flat_map(|word| [word.to_owned(), format!(r"\.{word}"), format!(r"{word}\.")])
        .collect()
}

/// The segments that all kinds begin and end with, and between them one piece for what differs. The first number is
/// written as `block`.
fn pieces(kinds: &[&[&str]], block: &str) -> Vec<String> {
    let Some(first) = kinds.first() else { return Vec::new() };
    let shortest = kinds.iter().map(|k| k.len()).min().unwrap_or(0);
    let before = (0..shortest).take_while(|i| kinds.iter().all(|k| k[*i] == first[*i])).count();
    let from_end = |k: &[&str], i: usize| k[k.len() - 1 - i].to_owned();
    let after =
        (0..shortest - before).take_while(|i| kinds.iter().all(|k| from_end(k, *i) == from_end(first, *i))).count();
    let mut seen = false;
    let mut text = |segment: &str| match segment {
        "*" if !std::mem::replace(&mut seen, true) => block.to_owned(),
        "*" => ANY.to_owned(),
        s => regex::escape(s),
    };
    let mut out: Vec<String> = first[..before].iter().map(|s| text(s)).collect();
    let middles: BTreeSet<String> = kinds
        .iter()
        .map(|k| k[before..k.len() - after].iter().map(|s| text(s)).collect::<Vec<_>>().join(r"\."))
        .collect();
    match middles.len() {
        0 | 1 if middles.iter().all(String::is_empty) => {}
        _ => out.push(one_of(&middles.into_iter().collect::<Vec<_>>())),
    }
    out.extend(first[first.len() - after..].iter().map(|s| text(s)));
    out
}

/// `to_[kqv]`, `(attn|ff)`.
fn one_of(texts: &[String]) -> String {
    let Some(first) = texts.first() else { return String::new() };
    let chars: Vec<Vec<char>> = texts.iter().map(|t| t.chars().collect()).collect();
    let head: Vec<char> = chars[0].clone();
    let common = (0..head.len()).take_while(|i| chars.iter().all(|c| c.get(*i) == Some(&head[*i]))).count();
    let one_more = |c: &Vec<char>| c.len() == common + 1 && c[common].is_ascii_alphanumeric();
    // What ends in a backslash would take the bracket for its own.
    if texts.len() > 1 && common > 0 && chars.iter().all(one_more) && head[common - 1] != '\\' {
        let class: String = chars.iter().map(|c| c[common]).collect();
        return format!("{}[{class}]", head[..common].iter().collect::<String>());
    }
    if texts.len() == 1 { first.clone() } else { format!("({})", texts.join("|")) }
}

/// Every run of pieces, loose and held at its ends.
fn windows(pieces: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for from in 0..pieces.len() {
        for to in from + 1..=pieces.len() {
            let run = pieces[from..to].join(r"\.");
            let heads: &[&str] = if from == 0 { &["", "^"] } else { &["", r"\."] };
            let tails: &[&str] = if to == pieces.len() { &["", "$"] } else { &["", r"\."] };
            out.extend(
                heads.iter().flat_map(|h| tails.iter().map(move |t| (h, t))).map(|(h, t)| format!("{h}{run}{t}")),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two kinds of blocks with a layer in which numbers are no blocks.
    fn names() -> Vec<String> {
        let mut out = vec!["embed.weight".to_owned(), "proj_out.weight".to_owned(), "norm_out.weight".to_owned()];
        for block in 0..12 {
            for layer in ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "mlp.0", "mlp.2", "norm1", "norm2"] {
                out.push(format!("blocks.{block}.{layer}.weight"));
            }
        }
        out
    }

    #[test]
    fn kinds_of_names() {
        fn check(name: &str, expected: &str) {
            assert_eq!(kind(name), expected);
            assert!(is_of(name, expected));
        }
        check("blocks.3.attn.to_q.weight", "blocks.*.attn.to_q.weight");
        check("blocks.3.mlp.2.weight", "blocks.*.mlp.2.weight");
        check("down_blocks.1.attentions.0.proj_in.weight", "down_blocks.*.attentions.*.proj_in.weight");
        check("blk.0.attn_q.weight", "blk.*.attn_q.weight");
        check("layers.7.weight", "layers.*.weight");
        check("proj_out.weight", "proj_out.weight");
        check("blocks.3.attn", "blocks.*.attn");
        assert!(is_of("blocks.3.attn.to_q.weight", "blocks.*.attn"));
        assert!(!is_of("blocks.x.attn.to_q.weight", "blocks.*.attn"));
        assert!(!is_of("blocks.3", "blocks.*.attn"));
    }

    #[test]
    fn the_shortest_rule() {
        fn check(wanted: impl Fn(&str) -> bool, expected: &str) {
            let names = names();
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            let marked = (0..all.len()).filter(|i| wanted(all[*i])).collect();
            assert_eq!(generalise(&all, &marked), expected);
        }
        check(|n| n.contains("to_q"), "to_q");
        check(|n| n.contains("norm"), "norm");
        check(|n| n.contains("norm") && n.contains("blocks"), r"\.norm");
        check(|n| n.contains("to_q") || n.contains("to_k") || n.contains("to_v"), "to_[kqv]");
        check(|n| n.contains("attn"), "attn");
        check(|n| n == "proj_out.weight", "proj");
        check(|n| n.starts_with("blocks.0."), r"blocks\.0");
    }

    proptest! {
        #[test]
        fn exactly_what_was_marked(picks in prop::collection::btree_set(0usize..99, 1..12)) {
            let names = names();
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            let pattern = Pattern::new(&generalise(&all, &picks)).expect("a pattern");
            for (i, name) in all.iter().enumerate() {
                prop_assert_eq!(pattern.hits(&[name]), picks.contains(&i), "{} {}", pattern, name);
            }
        }
    }
}
