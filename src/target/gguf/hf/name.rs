//! What the name of a model tells: who made it, what it is called, of which size and version it is. The rules are those
//! of gguf-py, so that files are called alike.
use std::sync::LazyLock;

use regex::Regex;

/// A name in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Without who made it.
    pub full: Option<String>,
    /// Who made it.
    pub organization: Option<String>,
    /// What models of the line are called.
    pub basename: Option<String>,
    /// What it was tuned for.
    pub finetune: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its size: `7B`.
    pub size_label: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Basename,
    Size,
    Finetune,
    Version,
    Type,
}

/// A pattern that is known to be one; what it matches is the whole part.
fn pattern(text: &str) -> Option<Regex> {
    Regex::new(&format!("^(?i:{text})$")).ok()
}
static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(r"(v|iter)?\d+([.]\d+)*"));
static TYPE: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(r"i?q\d(_\w)*|b?fp?(16|32)"));
static SIZE: LazyLock<Option<Regex>> =
    LazyLock::new(|| pattern(r"(([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl)"));
static TUNED: LazyLock<Option<Regex>> = LazyLock::new(|| pattern(r"chat|instruct|vision|lora"));
static KEPT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^(v\d+(?:\.\d+)*|\d.*)$").ok());

fn is(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

/// The parts of an id such as `org/Name-7B-Instruct-v0.2`, of a model of so many parameters.
pub fn parts(id: &str, parameters: u64) -> Parts {
    if id.contains(' ') {
        return Parts { full: Some(id.to_owned()), ..Parts::default() };
    }
    let (organization, full) = match id.split_once('/') {
        Some((org, rest)) => (Some(org).filter(|o| !o.starts_with('.')), rest),
        None => (None, id),
    };
    let mut words: Vec<(String, Vec<Kind>)> =
        full.split('-').filter(|p| !p.is_empty()).map(|p| (p.to_owned(), Vec::new())).collect();
    for (i, (word, kinds)) in words.iter_mut().enumerate() {
        if is(&VERSION, word) {
            kinds.push(Kind::Version);
        } else if is(&TYPE, word) {
            kinds.push(Kind::Type);
            *word = word.to_uppercase();
        } else if i > 0 && is(&SIZE, word) {
            let (label, is_size) = size(word, parameters);
            *word = label;
            kinds.push(if is_size { Kind::Size } else { Kind::Finetune });
        } else if i > 0 && is(&TUNED, word) {
            kinds.push(Kind::Finetune);
        }
    }
    // A size in numbers says more than one in words.
    let numbered = |w: &str| w.chars().any(|c| c.is_ascii_digit());
    if words.iter().any(|(w, kinds)| kinds.contains(&Kind::Size) && numbered(w)) {
        for (word, kinds) in &mut words {
            if word.chars().all(char::is_alphabetic) {
                kinds.retain(|k| *k != Kind::Size);
            }
        }
    }
    let mut at_start = true;
    for (word, kinds) in &mut words {
        let letter = word.chars().next().is_some_and(char::is_alphabetic);
        if at_start && ((kinds.is_empty() && letter) || kinds.contains(&Kind::Version)) {
            kinds.push(Kind::Basename);
        } else {
            at_start = false;
            if kinds.is_empty() {
                kinds.push(Kind::Finetune);
            }
        }
    }
    // A version at the end belongs to the model, not to the line.
    for (_, kinds) in words.iter_mut().rev() {
        if !kinds.contains(&Kind::Basename) || kinds.len() < 2 {
            break;
        }
        kinds.retain(|k| *k != Kind::Basename);
    }
    let joined = |take: &dyn Fn(&[Kind]) -> bool| {
        let mut taken: Vec<&str> = Vec::new();
        taken.extend(words.iter().filter(|(_, kinds)| take(kinds)).map(|(w, _)| w.as_str()));
        Some(taken).filter(|t| !t.is_empty())
    };
    let text = |words: Option<Vec<&str>>| words.map(|w| w.join("-"));
    let sizes = joined(&|k| k.contains(&Kind::Size)).map(|all| {
        let mut once: Vec<&str> = Vec::new();
        all.into_iter().for_each(|s| {
            if !once.contains(&s) {
                once.push(s)
            }
        });
        once
    });
    let size_label = text(sizes);
    let finetune = text(joined(&|k| k.contains(&Kind::Finetune)));
    let version = text(joined(&|k| k.contains(&Kind::Version) && !k.contains(&Kind::Basename)));
    let basename = text(joined(&|k| k.contains(&Kind::Basename)));
    // Words without any hint tell nothing apart.
    let told = size_label.is_some() || finetune.is_some() || version.is_some();
    Parts {
        full: Some(full.to_owned()),
        organization: organization.map(str::to_owned),
        basename: basename.filter(|_| told),
        finetune,
        version,
        size_label,
    }
}

/// A word that may be a size, as sizes are written, and whether it is one for a model of so many parameters: a context
/// length looks the same.
fn size(word: &str, parameters: u64) -> (String, bool) {
    let mut label: Vec<char> = word.replace('_', ".").chars().collect();
    let digit = |c: Option<&char>| c.is_some_and(char::is_ascii_digit);
    // `7b1` is 7.1B.
    if let [front @ .., unit, last] = &label[..]
        && last.is_ascii_digit()
    {
        label = front.iter().chain(&['.', *last, *unit]).copied().collect();
    }
    let n = label.len();
    if n > 1
        && digit(label.get(n - 2))
        && let Some(last) = label.last_mut().filter(|c| "kmbt".contains(**c))
    {
        *last = last.to_ascii_uppercase();
    }
    let text: String = label.iter().collect();
    let Some((last, number)) = label.split_last() else { return (text, true) };
    let number_text: String = number.iter().collect();
    let power = " KMBT".find(*last);
    if let (Ok(number), Some(power), true) = (number_text.parse::<f64>(), power, parameters > 0) {
        let says = number * 1000f64.powi(power as i32);
        if (says - parameters as f64).abs() > (7 * parameters / 8) as f64 {
            return (number_text + &last.to_ascii_lowercase().to_string(), false);
        }
    }
    (text, true)
}

/// An id as a title: words in lower case begin with a capital, versions and numbers stay.
pub fn title(id: &str) -> String {
    let words = id.trim().replace('-', " ");
    let word = |w: &str| {
        let lower = w.chars().any(char::is_lowercase) && !w.chars().any(char::is_uppercase);
        if lower && !is(&KEPT, w) { capitals(w) } else { w.to_owned() }
    };
    words.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Every run of letters with a capital, the rest of it small.
fn capitals(word: &str) -> String {
    let mut after_letter = false;
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        match after_letter {
            false => out.extend(c.to_uppercase()),
            true => out.extend(c.to_lowercase()),
        }
        after_letter = c.is_alphabetic();
    }
    out
}

/// A count of parameters as people say it: two digits at least.
pub fn rounded(parameters: u64) -> String {
    let n = parameters as f64;
    let (scaled, unit) = match n {
        n if n > 1e12 => (n * 1e-12, 'T'),
        n if n > 1e9 => (n * 1e-9, 'B'),
        n if n > 1e6 => (n * 1e-6, 'M'),
        n => (n * 1e-3, 'K'),
    };
    let whole = format!("{scaled:.0}");
    let digits = whole.trim_start_matches('0').len();
    format!("{scaled:.*}{unit}", 2usize.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_a_model_is() {
        fn check(id: &str, parameters: u64, expected: [Option<&str>; 5]) {
            let p = parts(id, parameters);
            let found = [&p.organization, &p.basename, &p.finetune, &p.version, &p.size_label];
            assert_eq!(found.map(|f| f.as_deref()), expected, "{id}");
        }
        let seven = 7_241_732_096;
        check(
            "mistralai/Mistral-7B-Instruct-v0.2",
            seven,
            [Some("mistralai"), Some("Mistral"), Some("Instruct"), Some("v0.2"), Some("7B")],
        );
        check("Qwen2.5-0.5B", 494_032_768, [None, Some("Qwen2.5"), None, None, Some("0.5B")]);
        check("org/bloom-7b1", 7_069_016_064, [Some("org"), Some("bloom"), None, None, Some("7.1B")]);
        check("Phi-3-mini-4k-instruct", 3_821_079_552, [None, Some("Phi-3"), Some("4k-instruct"), None, Some("mini")]);
        check("Tiny-llama", 103_000, [None; 5]);
        check("Mixtral-8x7B-v0.1", 46_702_792_704, [None, Some("Mixtral"), None, Some("v0.1"), Some("8x7B")]);
        check("all-MiniLM-L6-v2", 22_713_216, [None, Some("all-MiniLM-L6"), None, Some("v2"), None]);
        check("my model", 10, [None; 5]);
    }

    #[test]
    fn titles_have_capitals() {
        fn check(id: &str, expected: &str) {
            assert_eq!(title(id), expected);
        }
        check("Tiny-llama", "Tiny Llama");
        check("base-7b-v0.2", "Base 7b v0.2");
        check("tiny-qwen2moe", "Tiny Qwen2Moe");
        check("nomic-embed-text-v1.5", "Nomic Embed Text v1.5");
        check("GPT-neox", "GPT Neox");
    }

    #[test]
    fn sizes_are_rounded_to_two_digits() {
        fn check(n: u64, expected: &str) {
            assert_eq!(rounded(n), expected);
        }
        check(7_241_732_096, "7.2B");
        check(494_032_768, "494M");
        check(102_976, "103K");
        check(12_000, "12K");
        check(1_500, "1.5K");
        check(46_702_792_704, "47B");
    }
}
