//! Every glyph that is drawn, as one cell of ASCII.

/// What signs are drawn with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Glyphs {
    /// As they are.
    #[default]
    Unicode,
    /// As ASCII.
    Ascii,
}

/// Signs by what stands for them. Box drawing, blocks and braille are told by their place in Unicode.
const SIGNS: &[(char, &str)] = &[
    ('*', "●•◆▪★✱"),
    ('o', "◐◑◒◓◦□◇"),
    ('.', "○·…⋯∙"),
    // What is open and closed in a tree, since there were trees.
    ('+', "▸▹"),
    ('-', "▾▿–—−‐"),
    ('>', "→›»▶≥⇒"),
    ('<', "←‹«◂◀≤⇐↵⏎"),
    ('^', "↑▲△⇧"),
    ('v', "↓▼▽✓✔"),
    ('|', "↕"),
    ('x', "×✗✕✘"),
    ('~', "±≈∼"),
    ('!', "≠⚠"),
    ('2', "²"),
    ('3', "³"),
    ('1', "¹"),
    ('0', "⁰"),
    ('a', "α"),
    ('b', "β"),
    ('d', "δ∂"),
    ('e', "ε"),
    ('l', "λ"),
    ('p', "π"),
    ('s', "σ"),
    ('u', "µμ"),
    ('w', "ŵ"),
    ('D', "Δ∆"),
    ('S', "Σ∑"),
    ('V', "√"),
    ('8', "∞"),
    ('#', "■"),
    ('\'', "‘’′"),
    ('"', "“”″"),
    (' ', "\u{A0}\u{2009}\u{202F}"),
    ('?', "\u{FFFD}"),
];

/// The ASCII that stands for a glyph, if it is one that is drawn.
pub fn ascii(c: char) -> Option<char> {
    Some(match c {
        '─' | '━' | '┄' | '┅' | '┈' | '┉' | '╌' | '╍' | '═' | '╴' | '╶' | '╸' | '╺' | '╼' | '╾' => {
            '-'
        }
        '│' | '┃' | '┆' | '┇' | '┊' | '┋' | '╎' | '╏' | '║' | '╵' | '╷' | '╹' | '╻' | '╽' | '╿' => {
            '|'
        }
        '╱' => '/',
        '╲' => '\\',
        '╳' => 'X',
        '\u{2500}'..='\u{257F}' => '+',
        // Heights, each a little more ink than the one before.
        '▁' => '.',
        '▂' => ':',
        '▃' => '-',
        '▄' => '=',
        '▅' => '+',
        '▆' => '*',
        '▇' => '%',
        '█' => '#',
        // Widths. The thinnest is an edge as often as a share, the half also a cursor.
        '▏' | '▕' | '▐' => '|',
        '▎' => '-',
        '▍' => '=',
        '▌' | '▋' | '▊' => '>',
        '▉' => '%',
        '▀' | '▔' => '"',
        '░' => ':',
        '▒' => '+',
        '▓' => '%',
        '▖' | '▗' | '▘' | '▝' => '.',
        '▚' | '▞' => ':',
        '\u{2580}'..='\u{259F}' => '#',
        // Braille, by how many of the eight dots are set.
        '\u{2800}'..='\u{28FF}' => match (u32::from(c) & 0xFF).count_ones() {
            0 => ' ',
            1 | 2 => '.',
            3 | 4 => ':',
            5 | 6 => '*',
            _ => '#',
        },
        _ => return SIGNS.iter().find(|(_, of)| of.contains(c)).map(|(sign, _)| *sign),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::{text, theme};
    use std::path::Path;

    #[test]
    fn a_sign_for_each() {
        fn check(text: &str, as_ascii: &str) {
            let translated: String = text.chars().map(|c| ascii(c).unwrap_or(c)).collect();
            assert_eq!(translated, as_ascii, "{text}");
        }
        check("┌─ Tensors ─┐ │ ├┤ └┘", "+- Tensors -+ | ++ ++");
        check("▾ blocks ▸ 0 ● ◐ ─", "- blocks + 0 * o -");
        check("160 KiB → 85 KiB · mean MSE", "160 KiB > 85 KiB . mean MSE");
        check("20×4 sdnq ≥ 0.2 measuring… 1–15/19", "20x4 sdnq > 0.2 measuring. 1-15/19");
        check("▕████▍  ▏", "|####=  |");
        check(&theme::EIGHTHS.concat(), " .:-=+*%#");
        check("·░▒▓█", ".:+%#");
        check("⠀⠁⠃⠇⡇⣧⣿", " ..::*#");
        // Letters are letters, whatever the alphabet.
        check("重みäé", "重みäé");
    }

    #[test]
    fn heights_stay_apart() {
        let signs: std::collections::HashSet<char> =
            theme::EIGHTHS.iter().flat_map(|s| s.chars()).map(|c| ascii(c).unwrap_or(c)).collect();
        assert_eq!(signs.len(), theme::EIGHTHS.len());
    }

    #[test]
    fn one_cell_stays_one_cell() {
        let ranges = ('\u{2500}'..='\u{259F}').chain('\u{2800}'..='\u{28FF}');
        for c in SIGNS.iter().flat_map(|(_, of)| of.chars()).chain(ranges) {
            let sign = ascii(c).unwrap_or(c);
            assert!(sign.is_ascii() && !sign.is_ascii_control(), "{c}");
            assert_eq!(text::width(&c.to_string()), 1, "{c}");
        }
    }

    /// String and character literals of Rust code; its comments are left out.
    fn literals(code: &str) -> String {
        let mut out = String::new();
        for line in code.lines() {
            let mut quoted = false;
            let mut rest = line.chars().peekable();
            while let Some(c) = rest.next() {
                match c {
                    '\\' => {
                        rest.next();
                    }
                    '"' => quoted = !quoted,
                    '/' if !quoted && rest.peek() == Some(&'/') => break,
                    c => out.push(c),
                }
            }
        }
        out
    }

    #[test]
    fn no_glyph_is_drawn_that_has_no_ascii() {
        fn walk(folder: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                let name = path.to_string_lossy().into_owned();
                if path.is_dir() {
                    walk(&path, found);
                } else if name.contains("tokenizer") {
                    // Letters of vocabularies, which are compared and never drawn.
                } else if name.ends_with(".rs") && !name.contains("test") && !name.ends_with("glyphs.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                    let new =
                        literals(code).chars().filter(|c| !c.is_ascii() && ascii(*c).is_none()).collect::<String>();
                    if !new.is_empty() {
                        found.push(format!("{name}: {new}"));
                    }
                }
            }
        }
        // What other layers say reaches the screen too.
        let mut found = Vec::new();
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert_eq!(found, Vec::<String>::new(), "add them to the table in src/tui/theme/glyphs.rs");
    }
}
