//! What a pattern means, so that it can be said in sdnq's words and in regular expressions.
//!
//! sdnq (`utils.check_param_name_in`) knows four forms: `.text` is the beginning of a name; a text that is a whole name;
//! a text that is one segment between dots; and, where there is a `*` in it, a regular expression from the beginning of
//! the name on, in which `*` stands for `.*` and `.*` for `\..*`.
use std::fmt::Write as _;

/// At most so many patterns stand for one regular expression.
const MOST: usize = 64;

/// Which names a pattern means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// This one.
    Name(String),
    /// Those that begin so.
    Prefix(String),
    /// Those with this segment between dots.
    Segment(String),
    /// Those of this form.
    Wild(Wild),
    /// Whatever a regular expression of another tool means; it begins with `^`.
    Other(String),
}

/// Texts with anything between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wild {
    /// Whether it begins where the name begins.
    start: bool,
    pieces: Vec<Piece>,
    /// Whether it ends where the name ends.
    end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// Any characters, or none.
    Any,
    /// Any one character.
    One,
}

/// How the names of two patterns lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Every name of the first is one of the second.
    Inside,
    /// No name is of both.
    Apart,
    /// Nothing is known.
    Unknown,
}

impl Meant {
    /// What a regular expression means, searched anywhere in a name: the patterns that together mean the same. `None`:
    /// sdnq has no words for it.
    pub fn from_regex(text: &str) -> Option<Vec<Self>> {
        let mut all = Vec::new();
        for part in parts(text) {
            if let Some(segment) = part.strip_prefix(r"(^|\.)").and_then(|t| t.strip_suffix(r"(\.|$)")) {
                for mut pieces in Reader::new(segment).alternatives()? {
                    match &mut pieces[..] {
                        [Piece::Text(t)] if !t.contains('.') => all.push(Self::Segment(std::mem::take(t))),
                        _ => return None,
                    }
                }
                continue;
            }
            let (start, rest) = match part.strip_prefix('^') {
                Some(rest) => (true, rest),
                None => (false, part),
            };
            let (end, rest) = match rest.strip_suffix('$') {
                Some(before) if !is_escaped(before) => (true, before),
                _ => (false, rest),
            };
            let alternatives = Reader::new(rest).alternatives()?;
            all.extend(alternatives.into_iter().map(|pieces| Wild { start, pieces, end }.meant()));
        }
        (all.len() <= MOST).then_some(all)
    }

    /// What a pattern of sdnq's means. Names with a `*` in them are not thought of.
    pub fn from_sdnq(text: &str) -> Self {
        if let Some(prefix) = text.strip_prefix('.') {
            return Self::Prefix(prefix.to_owned());
        }
        if text.contains('*') {
            return wild_of_sdnq(text)
                .map(Wild::meant)
                .unwrap_or_else(|| Self::Other(format!("^(?:{})", text.replace(".*", r"\.*").replace('*', ".*"))));
        }
        if text.contains('.') { Self::Name(text.to_owned()) } else { Self::Segment(text.to_owned()) }
    }

    /// In sdnq's words, where it has any.
    pub fn sdnq(&self) -> Option<String> {
        match self {
            Self::Prefix(text) => Some(format!(".{text}")),
            Self::Segment(text) => (!text.contains(['*', '.'])).then(|| text.clone()),
            Self::Name(text) if text.contains('.') && !text.starts_with('.') && !text.contains('*') => {
                Some(text.clone())
            }
            // A name without a dot would be taken for a segment.
            Self::Name(text) => Wild { start: true, pieces: vec![Piece::Text(text.clone())], end: true }.sdnq(),
            Self::Wild(wild) => wild.sdnq(),
            Self::Other(_) => None,
        }
    }

    /// As a regular expression, to be searched anywhere in a name.
    pub fn regex(&self) -> String {
        match self {
            Self::Name(text) => format!("^{}$", escaped(text)),
            Self::Prefix(text) => format!("^{}", escaped(text)),
            Self::Segment(text) => format!(r"(^|\.){}(\.|$)", escaped(text)),
            Self::Wild(wild) => wild.regex(),
            Self::Other(regex) => regex.clone(),
        }
    }

    /// Whether it means that name; of another tool's expression nothing is known.
    pub fn hits(&self, name: &str) -> Option<bool> {
        Some(match self {
            Self::Name(text) => name == text,
            Self::Prefix(text) => name.starts_with(text.as_str()),
            Self::Segment(text) => name.split('.').any(|segment| segment == text),
            Self::Wild(wild) => wild.hits(name),
            Self::Other(_) => return None,
        })
    }

    /// How its names lie to those of another.
    pub fn relation(&self, other: &Self) -> Relation {
        use Relation::{Apart, Inside, Unknown};
        if self == other {
            return Inside;
        }
        match (self, other) {
            (Self::Name(name), _) => {
                return other.hits(name).map_or(Unknown, |hit| if hit { Inside } else { Apart });
            }
            (_, Self::Name(name)) => return if self.hits(name) == Some(false) { Apart } else { Unknown },
            (_, Self::Prefix(all)) if all.is_empty() => return Inside,
            (Self::Prefix(a), Self::Prefix(b)) if a.starts_with(b) => return Inside,
            _ => {}
        }
        let differ = |a: Option<&str>, b: Option<&str>, same: fn(&str, &str) -> bool| match (a, b) {
            (Some(a), Some(b)) => !same(a, b) && !same(b, a),
            _ => false,
        };
        if differ(self.head(), other.head(), |a, b| a.starts_with(b))
            || differ(self.tail(), other.tail(), |a, b| a.ends_with(b))
        {
            return Apart;
        }
        let holds = |what: &str| self.texts().any(|t| t.contains(what));
        let inside = match other {
            Self::Wild(Wild { start: false, pieces, end: false }) => match &pieces[..] {
                [Piece::Text(text)] => holds(text),
                _ => false,
            },
            Self::Segment(segment) => {
                let inner = format!(".{segment}.");
                holds(&inner) || self.head().is_some_and(|h| format!(".{h}").starts_with(&inner))
            }
            _ => false,
        };
        if inside { Inside } else { Unknown }
    }

    /// What every name of it begins with, where that is known.
    fn head(&self) -> Option<&str> {
        match self {
            Self::Prefix(text) => Some(text),
            Self::Wild(Wild { start: true, pieces, .. }) => match pieces.first() {
                Some(Piece::Text(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// What every name of it ends with, where that is known.
    fn tail(&self) -> Option<&str> {
        match self {
            Self::Wild(Wild { pieces, end: true, .. }) => match pieces.last() {
                Some(Piece::Text(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Texts that are in every name of it.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let (one, pieces): (Option<&str>, &[Piece]) = match self {
            Self::Name(text) | Self::Prefix(text) | Self::Segment(text) => (Some(text), &[]),
            Self::Wild(wild) => (None, &wild.pieces),
            Self::Other(_) => (None, &[]),
        };
        one.into_iter().chain(pieces.iter().filter_map(|p| match p {
            Piece::Text(text) => Some(text.as_str()),
            _ => None,
        }))
    }
}

impl Wild {
    /// The simplest form that means the same.
    fn meant(mut self) -> Meant {
        self.tidy();
        match (self.start, &mut self.pieces[..], self.end) {
            (true, [], true) => Meant::Name(String::new()),
            (_, [], _) => Meant::Prefix(String::new()),
            (true, [Piece::Text(text)], true) => Meant::Name(std::mem::take(text)),
            (true, [Piece::Text(text)], false) => Meant::Prefix(std::mem::take(text)),
            _ => Meant::Wild(self),
        }
    }

    /// One text where several follow each other; `Any` before `One`, once; none at the open ends.
    fn tidy(&mut self) {
        let mut out: Vec<Piece> = Vec::with_capacity(self.pieces.len());
        for piece in joined(std::mem::take(&mut self.pieces)) {
            let gap = out.iter().rposition(|p| matches!(p, Piece::Text(_))).map_or(0, |i| i + 1);
            match piece {
                Piece::Any if out.get(gap) == Some(&Piece::Any) => {}
                Piece::Any => out.insert(gap, Piece::Any),
                piece => out.push(piece),
            }
        }
        if out.first() == Some(&Piece::Any) {
            self.start = false;
            out.remove(0);
        }
        // What may follow needs no saying, unless single characters stand behind it.
        if out.last() == Some(&Piece::Any) {
            self.end = false;
            out.pop();
        }
        self.pieces = out;
    }

    fn hits(&self, name: &str) -> bool {
        enum Token {
            Char(char),
            One,
            Any,
        }
        let mut tokens = Vec::new();
        tokens.extend((!self.start).then_some(Token::Any));
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => tokens.extend(text.chars().map(Token::Char)),
                Piece::One => tokens.push(Token::One),
                Piece::Any => tokens.push(Token::Any),
            }
        }
        tokens.extend((!self.end).then_some(Token::Any));
        let chars: Vec<char> = name.chars().collect();
        let (mut token, mut at) = (0, 0);
        // Where to go on when it does not fit: the last `Any` takes one character more.
        let mut back: Option<(usize, usize)> = None;
        while at < chars.len() {
            match (tokens.get(token), back) {
                (Some(Token::Any), _) => {
                    back = Some((token + 1, at));
                    token += 1;
                }
                (Some(Token::One), _) => (token, at) = (token + 1, at + 1),
                (Some(Token::Char(c)), _) if chars.get(at) == Some(c) => (token, at) = (token + 1, at + 1),
                (_, Some((after, from))) => {
                    back = Some((after, from + 1));
                    (token, at) = (after, from + 1);
                }
                _ => return false,
            }
        }
        tokens.iter().skip(token).all(|t| matches!(t, Token::Any))
    }

    fn regex(&self) -> String {
        let mut out = String::from(if self.start { "^" } else { "" });
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(&escaped(text)),
                Piece::Any => out.push_str(".*"),
                Piece::One => out.push('.'),
            }
        }
        out.push_str(if self.end { "$" } else { "" });
        out
    }

    fn sdnq(&self) -> Option<String> {
        let mut out = String::from(if self.start { "" } else { "*" });
        for (i, piece) in self.pieces.iter().enumerate() {
            let starred =
                matches!(self.pieces.get(i + 1), Some(Piece::Any)) || (i + 1 == self.pieces.len() && !self.end);
            match piece {
                Piece::Any => out.push('*'),
                Piece::One if starred || out.is_empty() => return None,
                Piece::One => out.push('.'),
                Piece::Text(text) => {
                    let mut chars = text.chars().peekable();
                    while let Some(c) = chars.next() {
                        let last = chars.peek().is_none();
                        match c {
                            '*' => return None,
                            // `.*` has the dot in it; what begins with a dot is a prefix.
                            '.' if last && starred => {
                                if out.is_empty() {
                                    return None;
                                }
                                out.push('.');
                            }
                            c if is_special(c) => {
                                let _ = write!(out, "\\{c}");
                            }
                            c => out.push(c),
                        }
                    }
                }
            }
        }
        if self.end {
            out.push('$');
        }
        // Without a `*` it would be taken for a name.
        if !self.end || !out.contains('*') {
            out.push('*');
        }
        Some(out)
    }
}

/// A pattern with `*`, where it is made of texts and `*` alone.
fn wild_of_sdnq(text: &str) -> Option<Wild> {
    let mut wild = Wild { start: true, pieces: Vec::new(), end: false };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        let (piece, next) = match c {
            '.' if after.starts_with('*') => {
                wild.pieces.push(Piece::Text(".".into()));
                (Piece::Any, after.get(1..).unwrap_or_default())
            }
            '*' => (Piece::Any, after),
            '.' => (Piece::One, after),
            '$' if after.chars().all(|c| c == '*') => {
                wild.end = true;
                break;
            }
            '\\' if !after.starts_with(".*") => {
                let c = after.chars().next().filter(|c| c.is_ascii_punctuation() && *c != '*')?;
                (Piece::Text(c.into()), after.get(1..).unwrap_or_default())
            }
            c if is_special(c) => return None,
            c => (Piece::Text(c.into()), after),
        };
        wild.pieces.push(piece);
        rest = next;
    }
    Some(wild)
}

/// Neighbouring letters as one text.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match (piece, out.last_mut()) {
            (Piece::Text(t), _) if t.is_empty() => {}
            (Piece::Text(t), Some(Piece::Text(before))) => before.push_str(&t),
            (piece, _) => out.push(piece),
        }
    }
    out
}

/// What has a meaning of its own in a regular expression.
fn is_special(c: char) -> bool {
    r"\.+*?()|[]{}^$".contains(c)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_special(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Whether what follows such a text is escaped by it.
fn is_escaped(before: &str) -> bool {
    before.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// The alternatives of a regular expression outside of groups and classes.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth, mut class, mut escape) = (Vec::new(), 0, 0usize, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut escape) => {}
            '\\' => escape = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth = depth.saturating_sub(1),
            '|' if !class && depth == 0 => {
                parts.extend(text.get(from..i));
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(from..));
    parts
}

/// Reads the little of regular expressions that has a meaning here: texts, `.`, `.*`, `(a|b)` and `[abc]`.
struct Reader<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { chars: text.chars().peekable(), depth: 0 }
    }

    /// Everything that the text stands for, if that can be written out.
    fn alternatives(&mut self) -> Option<Vec<Vec<Piece>>> {
        let mut done: Vec<Vec<Piece>> = Vec::new();
        let mut open: Vec<Vec<Piece>> = vec![Vec::new()];
        while let Some(c) = self.chars.next() {
            let next: Vec<Vec<Piece>> = match c {
                ')' if self.depth > 0 => break,
                '|' if self.depth > 0 => {
                    done.append(&mut open);
                    open.push(Vec::new());
                    continue;
                }
                '(' => {
                    // A group that only groups is the same; what else begins with `(?` is not.
                    if self.chars.peek() == Some(&'?') {
                        self.chars.next();
                        if self.chars.next() != Some(':') {
                            return None;
                        }
                    }
                    self.depth += 1;
                    if self.depth > 8 {
                        return None;
                    }
                    let inside = self.alternatives()?;
                    self.depth -= 1;
                    inside
                }
                '[' => self.class()?.into_iter().map(|c| vec![Piece::Text(c.into())]).collect(),
                '.' if self.chars.next_if_eq(&'*').is_some() => vec![vec![Piece::Any]],
                '.' => vec![vec![Piece::One]],
                '\\' => {
                    let c = self.chars.next().filter(char::is_ascii_punctuation)?;
                    vec![vec![Piece::Text(c.into())]]
                }
                c if is_special(c) => return None,
                c => vec![vec![Piece::Text(c.into())]],
            };
            // Anything repeated is no text any more.
            if self.chars.peek().is_some_and(|c| "*+?{".contains(*c)) || open.len() * next.len() > MOST {
                return None;
            }
            open = open
                .iter()
                .flat_map(|before| next.iter().map(|piece| [before.clone(), piece.clone()].concat()))
                .collect();
        }
        done.append(&mut open);
        let done: Vec<Vec<Piece>> = done.into_iter().map(joined).collect();
        (done.len() <= MOST).then_some(done)
    }

    /// The characters of `[abc]`; ranges of digits and letters too.
    fn class(&mut self) -> Option<Vec<char>> {
        let mut out: Vec<char> = Vec::new();
        loop {
            let c = match self.chars.next()? {
                ']' if !out.is_empty() => return Some(out),
                '\\' => self.chars.next().filter(char::is_ascii_punctuation)?,
                '-' => {
                    let from = out.pop().filter(char::is_ascii_alphanumeric)?;
                    let to = self.chars.next().filter(char::is_ascii_alphanumeric)?;
                    out.extend(from..=to);
                    continue;
                }
                c if c.is_ascii_alphanumeric() || "_.".contains(c) => c,
                _ => return None,
            };
            out.push(c);
        }
    }
}
