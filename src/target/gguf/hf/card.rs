//! The front matter of a model card: as much of YAML as cards use, keys with texts and lists of texts.
use std::collections::BTreeMap;

/// What a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A text; numbers and switches are texts here.
    Text(String),
    /// Texts.
    List(Vec<String>),
}

/// A card: its front matter, and what stands below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    said: BTreeMap<String, Said>,
    /// The text for people.
    pub body: String,
}

impl Card {
    /// Reads README.md. What is not understood is passed over.
    pub fn read(text: &str) -> Self {
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some("---") {
            return Self { said: BTreeMap::new(), body: text.to_owned() };
        }
        let mut front: Vec<&str> = Vec::new();
        for line in lines.by_ref() {
            if line.trim_end() == "---" {
                break;
            }
            front.push(line);
        }
        Self { said: entries(&front), body: lines.collect::<Vec<_>>().join("\n") }
    }

    /// The text of the first of some keys that is there.
    pub fn text(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|k| match self.said.get(*k)? {
            Said::Text(text) => Some(text.clone()),
            Said::List(all) => Some(all.join(",")),
        })
    }

    /// The texts of the first of some keys that is there; a single one is a list of one.
    pub fn list(&self, keys: &[&str]) -> Option<Vec<String>> {
        keys.iter().find_map(|k| match self.said.get(*k)? {
            Said::Text(text) => Some(vec![text.clone()]),
            Said::List(all) => Some(all.clone()),
        })
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn entries(lines: &[&str]) -> BTreeMap<String, Said> {
    let mut said = BTreeMap::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let Some((key, rest)) = line.split_once(':').filter(|(key, _)| indent(line) == 0 && !key.is_empty()) else {
            continue;
        };
        let is_item = |l: &&str| l.trim_start().starts_with("- ") || l.trim() == "-";
        let below = lines.iter().skip(at).take_while(|l| l.trim().is_empty() || indent(l) > 0 || is_item(l)).count();
        let below = lines.get(at..at + below).unwrap_or_default();
        at += below.len();
        let rest = rest.trim();
        let value = match rest {
            "" => items(below),
            _ if rest.starts_with('[') => {
                let whole = std::iter::once(rest).chain(below.iter().map(|l| l.trim())).collect::<Vec<_>>().join(" ");
                Some(Said::List(flow(&whole)))
            }
            "|" | "|-" | "|+" => Some(Said::Text(block(below, "\n"))),
            ">" | ">-" | ">+" => Some(Said::Text(block(below, " "))),
            // A comment, and nothing else.
            _ if rest.starts_with('#') => items(below),
            _ if rest.starts_with('{') => None,
            _ => Some(Said::Text(scalar(&block(&[&[rest], below].concat(), " ")))),
        };
        if let Some(value) = value.filter(|v| !matches!(v, Said::Text(t) if t.is_empty() || t == "null" || t == "~")) {
            said.insert(scalar(key), value);
        }
    }
    said
}

/// Items of a list below its key. Those that are tables themselves are passed over.
fn items(lines: &[&str]) -> Option<Said> {
    let first = lines.iter().find(|l| !l.trim().is_empty())?;
    let depth = indent(first);
    let own = lines.iter().filter(|l| indent(l) == depth && !l.trim().is_empty());
    let texts: Vec<&str> = own.map(|l| l.trim().strip_prefix('-').map(str::trim)).collect::<Option<_>>()?;
    let is_table = |t: &str| !t.starts_with(['"', '\'']) && (t.contains(": ") || t.ends_with(':'));
    Some(Said::List(texts.into_iter().filter(|t| !t.is_empty() && !is_table(t)).map(scalar).collect()))
}

fn block(lines: &[&str], between: &str) -> String {
    lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join(between).trim().to_owned()
}

/// `[a, "b, c"]`.
fn flow(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut end = |word: &mut String| {
        let text = scalar(word);
        if !text.is_empty() {
            all.push(text);
        }
        word.clear();
    };
    for c in text.chars().skip(1) {
        match (quote, c) {
            (None, ',') => end(&mut word),
            (None, ']') => break,
            (None, '"' | '\'') if word.trim().is_empty() => {
                quote = Some(c);
                word.push(c);
            }
            (Some(q), c) if q == c => {
                quote = None;
                word.push(c);
            }
            _ => word.push(c),
        }
    }
    end(&mut word);
    all
}

/// A text without its quotes or the comment behind it.
fn scalar(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote)
            && let Some((inner, _)) = rest.rsplit_once(quote)
        {
            return match quote {
                '"' => inner.replace("\\\"", "\"").replace("\\n", "\n").replace("\\\\", "\\"),
                _ => inner.replace("''", "'"),
            };
        }
    }
    text.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "---
license: apache-2.0  # as it is
language:
- en
- no

tags: [tiny, 'a, b', \"c\"]
base_model:
  - acme/Base-7B
  - acme/Other-7B
name: \"Tiny: the \\\"model\\\"\"
description: >
  A small
  model.
model-index:
- name: tiny
  results:
  - task: x
version: 1.0
datasets: acme/words
empty:
---
# Tiny
- learning_rate: 1e-4
";

    #[test]
    fn cards_are_read_as_people_write_them() {
        let card = Card::read(CARD);
        fn check(found: Option<String>, expected: Option<&str>) {
            assert_eq!(found.as_deref(), expected);
        }
        check(card.text(&["license"]), Some("apache-2.0"));
        check(card.text(&["model_name", "name"]), Some("Tiny: the \"model\""));
        check(card.text(&["description"]), Some("A small model."));
        check(card.text(&["version"]), Some("1.0"));
        check(card.text(&["empty"]), None);
        assert_eq!(card.list(&["language"]), Some(vec!["en".into(), "no".into()]));
        assert_eq!(card.list(&["tags"]), Some(vec!["tiny".into(), "a, b".into(), "c".into()]));
        assert_eq!(card.list(&["base_model"]), Some(vec!["acme/Base-7B".into(), "acme/Other-7B".into()]));
        assert_eq!(card.list(&["datasets"]), Some(vec!["acme/words".into()]));
        assert_eq!(card.list(&["model-index"]), Some(Vec::new()));
        assert_eq!(card.body, "# Tiny\n- learning_rate: 1e-4");
    }

    #[test]
    fn a_card_without_front_matter_is_text() {
        assert_eq!(Card::read("# Tiny\n").text(&["name"]), None);
        assert_eq!(Card::read("").body, "");
        assert_eq!(Card::read("---\nname: x").text(&["name"]).as_deref(), Some("x"));
    }
}
