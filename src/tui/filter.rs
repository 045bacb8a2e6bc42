//! The live filter: words as they are written or, where no name has them, their letters in order; after `re:` a regular
//! expression.
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use crate::core::rules;

/// A compiled filter text.
#[derive(Debug)]
pub enum Query {
    /// Words, each of whose letters are found in order.
    Fuzzy(Pattern),
    /// A regular expression, searched.
    Regex(regex::Regex),
}

impl Query {
    /// Reads a filter text. Nothing but blanks filters nothing; an error says what is wrong with the expression.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if let Some(pattern) = text.strip_prefix("re:") {
            if pattern.is_empty() {
                return Ok(None);
            }
            rules::Pattern::new(pattern).map_err(|e| e.to_string())?;
            return regex::Regex::new(pattern).map(|r| Some(Self::Regex(r))).map_err(|e| e.to_string());
        }
        if text.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some(Self::Fuzzy(Pattern::parse(text, CaseMatching::Smart, Normalization::Smart))))
    }

    /// The same words, but only as they are written. What is filtered is marked and changed: `mlp` must not mean
    /// `model.layers.0.input` while there are layers called that.
    pub fn literal(text: &str) -> Self {
        use nucleo_matcher::pattern::AtomKind;
        Self::Fuzzy(Pattern::new(text, CaseMatching::Smart, Normalization::Smart, AtomKind::Substring))
    }
}

/// Matches many names with one set of buffers.
pub struct Finder {
    matcher: Matcher,
    buffer: Vec<char>,
}

impl Default for Finder {
    fn default() -> Self {
        Self { matcher: Matcher::new(Config::DEFAULT), buffer: Vec::new() }
    }
}

impl Finder {
    /// How well a name matches, where it does.
    pub fn score(&mut self, query: &Query, name: &str) -> Option<u32> {
        match query {
            Query::Fuzzy(pattern) => pattern.score(Utf32Str::new(name, &mut self.buffer), &mut self.matcher),
            Query::Regex(regex) => regex.is_match(name).then_some(1),
        }
    }
    /// Which of its characters matched.
    pub fn letters(&mut self, query: &Query, name: &str) -> Vec<u32> {
        let mut out = Vec::new();
        match query {
            Query::Fuzzy(pattern) => {
                pattern.indices(Utf32Str::new(name, &mut self.buffer), &mut self.matcher, &mut out);
                out.sort_unstable();
                out.dedup();
            }
            Query::Regex(regex) => {
                if let Some(hit) = regex.find(name) {
                    out.extend(
                        name.char_indices()
                            .enumerate()
                            .filter(|(_, (at, _))| hit.range().contains(at))
                            .map(|(i, _)| i as u32),
                    );
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str, name: &str) -> Option<String> {
        let query = Query::parse(text).unwrap()?;
        let mut finder = Finder::default();
        finder.score(&query, name)?;
        let chars: Vec<char> = name.chars().collect();
        Some(finder.letters(&query, name).into_iter().map(|i| chars[i as usize]).collect())
    }

    #[test]
    fn words_and_expressions() {
        fn check(text: &str, name: &str, found: Option<&str>) {
            assert_eq!(letters(text, name).as_deref(), found, "{text} in {name}");
        }
        check("toq", "blocks.0.attn.to_q.weight", Some("toq"));
        check("0 to_q", "blocks.0.attn.to_q.weight", Some("0to_q"));
        check("zzz", "blocks.0.attn.to_q.weight", None);
        check("re:to_[qk]", "blocks.0.attn.to_q.weight", Some("to_q"));
        check("re:^to", "blocks.0.attn.to_q.weight", None);
        check("", "anything", None);
        check("re:", "anything", None);
    }

    #[test]
    fn words_as_written() {
        fn check(text: &str, name: &str, matches: bool) {
            assert_eq!(Finder::default().score(&Query::literal(text), name).is_some(), matches, "{text} in {name}");
        }
        check("mlp", "model.layers.0.mlp.up_proj.weight", true);
        check("mlp", "model.layers.0.input_layernorm.weight", false);
        check("up 0", "model.layers.0.mlp.up_proj.weight", true);
        check("up 1", "model.layers.0.mlp.up_proj.weight", false);
    }

    #[test]
    fn a_broken_expression_says_so() {
        let error = Query::parse("re:a(").unwrap_err();
        assert!(error.contains("not a regular expression"), "{error}");
    }
}
