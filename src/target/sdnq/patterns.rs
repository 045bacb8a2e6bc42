//! Lists of layer patterns, as sdnq matches them.
use std::collections::HashMap;

/// A list of patterns. A pattern is met by a parameter's name when it is the name, or one of its dotted segments; one
/// with a `*` also as a wildcard; one that begins with a dot is met by every name that begins with the rest.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    list: Vec<String>,
    /// Those that are met by equality, and their first place in the list.
    exact: HashMap<String, usize>,
    /// The places of all others.
    others: Vec<usize>,
}

impl Patterns {
    /// A list in its order.
    pub fn new(list: Vec<String>) -> Self {
        let mut patterns = Self { list, ..Self::default() };
        for (i, pattern) in patterns.list.iter().enumerate() {
            if !pattern.starts_with('.') {
                patterns.exact.entry(pattern.clone()).or_insert(i);
            }
            if pattern.starts_with('.') || pattern.contains('*') {
                patterns.others.push(i);
            }
        }
        patterns
    }

    /// The place of the first that `name` meets.
    pub fn first(&self, name: &str) -> Option<usize> {
        let segments = name.split('.').chain([name]);
        let exact = segments.filter_map(|s| self.exact.get(s)).copied().min();
        let before = exact.unwrap_or(usize::MAX);
        let other = self.others.iter().copied().take_while(|i| *i < before).find(|i| {
            let pattern = &self.list[*i];
            match pattern.strip_prefix('.') {
                Some(prefix) => name.starts_with(prefix),
                None => wildcard(pattern, name),
            }
        });
        other.or(exact)
    }

    /// Whether `name` meets any.
    pub fn meets(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The patterns.
    pub fn list(&self) -> &[String] {
        &self.list
    }
}

/// What a wildcard is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    Char(char),
    Any,
    Anything,
}

/// Whether a name begins as a pattern says: `*` is anything, a dot before it a dot, any other dot any character.
///
/// sdnq hands such a pattern to Python's `re.match` with `.*` made `\.*` and then `*` made `.*`. Other characters that
/// mean something to `re` are letters here.
fn wildcard(pattern: &str, name: &str) -> bool {
    let mut chars = pattern.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Anything,
            '.' if chars.peek() != Some(&'*') => Token::Any,
            c => Token::Char(c),
        });
    }
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut token) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: it takes one character more.
    let mut retry = None;
    loop {
        let fits = match (tokens.get(token), name.get(at)) {
            // Nothing says that the name must end here.
            (None, _) => return true,
            (Some(Token::Anything), _) => {
                retry = Some((at, token));
                token += 1;
                continue;
            }
            (Some(_), None) => return false,
            (Some(Token::Any), Some(c)) => *c != '\n',
            (Some(Token::Char(expected)), Some(c)) => c == expected,
        };
        if fits {
            at += 1;
            token += 1;
        } else if let Some((from, star)) = retry {
            retry = Some((from + 1, star));
            at = from + 1;
            token = star + 1;
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patterns(list: &[&str]) -> Patterns {
        Patterns::new(list.iter().map(|p| (*p).to_owned()).collect())
    }

    #[test]
    fn a_pattern_is_met_as_in_sdnq() {
        fn check(pattern: &str, name: &str, expected: bool) {
            assert_eq!(patterns(&[pattern]).meets(name), expected, "{pattern} and {name}");
        }
        check("proj_out.weight", "proj_out.weight", true);
        check("proj_out", "blocks.0.proj_out.weight", true);
        check("proj", "blocks.0.proj_out.weight", false);
        check("blocks.0", "blocks.0.proj_out.weight", false);
        check("weight", "blocks.0.proj_out.weight", true);
        check(".proj_out", "proj_out.weight", true);
        check(".proj_out", "blocks.0.proj_out.weight", false);
        check(".blocks.0", "blocks.01.proj_out.weight", true);
        check("blocks.*.norm", "blocks.17.norm.linear.weight", true);
        check("blocks.*.norm", "blocksx17.norm.linear.weight", false);
        check("blocks.0.norm*", "blocks.0.norm1.linear.weight", true);
        // The dot that no star follows is any character, as it is in `re`.
        check("blocks.0.norm*", "blocks_0_norm1.linear.weight", true);
        check("blocks.0.norm*", "model.blocks.0.norm1.weight", false);
        check("*norm", "blocks.0.norm1.linear.weight", true);
        check("*", "anything", true);
        check("*attn*q", "blocks.0.attn.to_k.weight", false);
        check("*attn*q", "blocks.0.attn.to_q.weight", true);
        // Not a regular expression.
        check("*[0-9]", "blocks.0.weight", false);
        check("(a*", "(abc", true);
    }

    #[test]
    fn the_first_of_a_list_is_found() {
        fn check(list: &[&str], name: &str, expected: Option<usize>) {
            assert_eq!(patterns(list).first(name), expected, "{list:?} and {name}");
        }
        check(&["x", "a*", "a.weight", "weight"], "a.weight", Some(1));
        check(&["weight", "a*", "a.weight"], "a.weight", Some(0));
        check(&["b*", ".b", "a.weight", "a.weight"], "a.weight", Some(2));
        check(&[".a", "weight"], "a.weight", Some(0));
        check(&[], "a.weight", None);
    }

    proptest! {
        /// The same as the regular expression that sdnq makes, for letters that mean nothing to one.
        #[test]
        fn a_wildcard_is_the_expression(pattern in "[ab.*]{0,8}\\*[ab.*]{0,8}", name in "[ab.]{0,12}") {
            let expression = pattern.replace(".*", "\\.*").replace('*', ".*");
            let expected = regex::Regex::new(&format!("^(?:{expression})")).expect("valid").is_match(&name);
            prop_assert_eq!(wildcard(&pattern, &name), expected);
        }
    }
}
