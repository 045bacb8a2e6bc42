//! Types by pattern: `--tensor-type-file`, with llama-quantize's own rules.
//!
//! Entries are `PATTERN=TYPE`, separated by white space; the first whose pattern is found in a name decides. Patterns
//! are ECMAScript's, byte by byte, and *put in lower case before they are read*, so `\D` means `\d` there and a capital
//! never matches. Files written for llama-quantize mean here what they mean there.
use crate::core::rules::Pattern;
use crate::core::{Error, Result};
use crate::format::gguf::Type;

/// A pattern and the dtype of what it matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Searched in names.
    pub pattern: Pattern,
    /// As it was written.
    pub dtype: String,
}

/// The entries of a file's text; the first that matches decides.
pub fn parse_file(text: &str) -> Result<Vec<Entry>> {
    text.split_ascii_whitespace().map(parse_entry).collect()
}

fn parse_entry(entry: &str) -> Result<Entry> {
    let wrong = |what: &str| Error::usage(format!("`{entry}`: {what}; write PATTERN=TYPE, as `attn_v=q6_K`"));
    match entry.split_once('=').ok_or_else(|| wrong("no `=`"))? {
        ("", _) => Err(wrong("no pattern")),
        (_, "") => Err(wrong("no type")),
        (pattern, dtype) => Ok(Entry { pattern: compile(&pattern.to_ascii_lowercase())?, dtype: dtype.to_owned() }),
    }
}

/// A type that tensors can be brought into, by its name in any case.
pub fn parse_type(name: &str) -> Result<Type> {
    let found = Type::by_name(name).filter(|t| t.holds_weights());
    found.ok_or_else(|| {
        let all = || Type::ALL.iter().filter(|t| t.holds_weights()).map(|t| t.name());
        let near = crate::target::near(name, all());
        let (words, names) = if near.is_empty() { ("it has", all().collect()) } else { ("near ones:", near) };
        Error::usage(format!("GGUF has no tensor type `{name}`; {words} {}", names.join(", ")))
    })
}

/// A pattern of ECMAScript, in lower case, as the regex crate reads it.
fn compile(pattern: &str) -> Result<Pattern> {
    let refuse = |what: &str| Error::usage(format!("`{pattern}`: {what} is not supported in a pattern"));
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = rest.next() {
        match (c, class) {
            ('\\', _) => match rest.next() {
                Some(d @ '1'..='9') => return Err(refuse(&format!("the reference \\{d}"))),
                // A NUL; no name has one.
                Some('0') => out.push_str("\\x00"),
                Some('b') if class => out.push_str("\\x08"),
                Some(d) => out.extend(['\\', d]),
                None => return Err(refuse("a `\\` at the end")),
            },
            ('(', false) if rest.peek() == Some(&'?') => {
                rest.next();
                match rest.next() {
                    Some(':') => out.push_str("(?:"),
                    Some('=' | '!') => return Err(refuse("looking ahead")),
                    _ => return Err(refuse("`(?`")),
                }
            }
            ('[', false) => {
                class = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            // Only names of classes are brackets within brackets; the regex crate has more uses for them.
            ('[', true) if rest.peek() != Some(&':') => out.push_str("\\["),
            ('[', true) => {
                out.push('[');
                for c in rest.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ('&' | '~', true) => out.extend(['\\', c]),
            (']', true) => {
                class = false;
                out.push(']');
            }
            (c, _) => out.push(c),
        }
    }
    Pattern::new(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_wins() {
        fn check(file: &str, name: &str, expected: Option<Type>) {
            let file = parse_file(file).expect(file);
            let found = file.iter().find(|e| e.pattern.hits(&[name])).map(|e| parse_type(&e.dtype).expect("a type"));
            assert_eq!(found, expected, "{name}");
        }
        let file = "blk\\.[0-3]\\.ffn_down=q8_0\n\tffn_down=Q5_K  attn_v=iq4_NL\n";
        check(file, "blk.2.ffn_down.weight", Some(Type::Q8_0));
        check(file, "blk.12.ffn_down.weight", Some(Type::Q5_K));
        check(file, "blk.12.attn_v.weight", Some(Type::IQ4_NL));
        check(file, "blk.12.attn_q.weight", None);
        check("", "blk.12.attn_q.weight", None);
        check("ATTN_Q=q8_0", "blk.12.attn_q.weight", Some(Type::Q8_0));
        check("attn_q=q8_0", "blk.12.ATTN_Q.weight", None);
        // In lower case `\D` asks for a digit.
        check("blk\\.\\D\\.=q8_0", "blk.1.attn_q.weight", Some(Type::Q8_0));
        check("^blk\\.(?:1|3)\\.attn_(q|k)\\.weight$=q8_0", "blk.3.attn_k.weight", Some(Type::Q8_0));
        check("blk\\.[[:digit:]]{2}\\.=q8_0", "blk.31.attn_k.weight", Some(Type::Q8_0));
        check("blk\\.[[&&1]\\.=q8_0", "blk.1.attn_k.weight", Some(Type::Q8_0));
        check("a=nvfp4", "a", Some(Type::NVFP4));
        check("a=f16", "a", Some(Type::F16));
    }

    #[test]
    fn broken_entries_say_what_is_wrong() {
        fn check(entry: &str, expected: &str) {
            let read = parse_file(entry).and_then(|all| all.iter().try_for_each(|e| parse_type(&e.dtype).map(drop)));
            let message = read.expect_err(entry).to_string();
            assert!(message.contains(expected), "{entry}: {message}");
        }
        check("attn_v", "no `=`");
        check("=q8_0", "no pattern");
        check("attn_v=", "no type");
        check("attn_v=q4_x", "Q4_K");
        check("attn_v=q8_1", "no tensor type");
        check("attn_v=i32", "no tensor type");
        check("attn_(v=q8_0", "regular expression");
        check("blk\\.(?!0)=q8_0", "looking ahead");
        check("(a)\\1=q8_0", "reference");
    }
}
