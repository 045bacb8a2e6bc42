//! A token as the decoder of `tokenizer.json` writes it, for added tokens that are matched before normalizing: the
//! consumer finds them in text as people write it.
use serde_json::Value;

/// The text of a single token.
pub(super) fn decode(token: &str, decoder: Option<&Value>) -> String {
    let Some(decoder) = decoder else { return token.into() };
    let text = |key: &str| decoder.get(key).and_then(Value::as_str);
    let number = |key: &str| decoder.get(key).and_then(Value::as_u64).unwrap_or(0);
    match text("type").unwrap_or_default() {
        "ByteLevel" => byte_level(token),
        "Sequence" => {
            let steps = decoder.get("decoders").and_then(Value::as_array);
            steps.into_iter().flatten().fold(token.to_owned(), |token, step| decode(&token, Some(step)))
        }
        "Replace" => {
            match (decoder.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str), text("content")) {
                (Some(pattern), Some(content)) if !pattern.is_empty() => token.replace(pattern, content),
                _ => token.into(),
            }
        }
        "Metaspace" => {
            let mark = text("replacement").unwrap_or("\u{2581}");
            let first =
                text("prepend_scheme") != Some("never") && decoder.get("add_prefix_space") != Some(&false.into());
            token.replace(mark, if first { "" } else { " " })
        }
        "ByteFallback" => match byte(token) {
            Some(byte @ ..0x80) => char::from(byte).into(),
            Some(_) => char::REPLACEMENT_CHARACTER.into(),
            None => token.into(),
        },
        "Strip" => {
            let mut left = token;
            if let Some(c) = text("content").and_then(|c| c.chars().next()) {
                for _ in 0..number("start").min(left.len() as u64) {
                    left = left.strip_prefix(c).unwrap_or(left);
                }
                for _ in 0..number("stop").min(left.len() as u64) {
                    left = left.strip_suffix(c).unwrap_or(left);
                }
            }
            left.into()
        }
        "BPEDecoder" => token.replace(text("suffix").unwrap_or("</w>"), ""),
        _ => token.into(),
    }
}

/// The byte that `<0x0A>` stands for.
pub(super) fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// GPT-2's characters that stand for bytes, as the bytes; any other character, and the token is what it is.
fn byte_level(token: &str) -> String {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.map_or_else(|| token.into(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Printable characters of Latin-1 stand for themselves; the 68 other bytes, in order, are U+0100 and on.
fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_byte_has_one_character() {
        let mut bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(
            (byte_of('Ġ'), byte_of('Ċ'), byte_of('é'), byte_of('ł')),
            (Some(b' '), Some(b'\n'), Some(0xe9), Some(0xa0))
        );
    }

    #[test]
    fn tokens_as_decoders_write_them() {
        fn check(decoder: Value, token: &str, expected: &str) {
            assert_eq!(decode(token, Some(&decoder)), expected, "{decoder}");
        }
        let bytes = json!({"type": "ByteLevel"});
        check(bytes.clone(), "Ġfoo", " foo");
        check(bytes.clone(), "<｜end▁of｜>", "<｜end▁of｜>");
        check(bytes.clone(), "caf é", "caf é");
        check(bytes, "café", "caf\u{FFFD}");
        check(json!({"type": "WordPiece", "prefix": "##"}), "[CLS]", "[CLS]");
        check(json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}), "▁a▁b", "ab");
        check(json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}), "▁a▁b", " a b");
        let llama = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        check(llama.clone(), "▁▁", " ");
        check(llama.clone(), "<0x0A>", "\n");
        check(llama.clone(), "<0xE2>", "\u{FFFD}");
        check(llama.clone(), "<0x+1>", "<0x+1>");
        check(llama, "<s>", "<s>");
        check(json!({"type": "Strip", "content": " ", "start": u64::MAX, "stop": u64::MAX}), "  a ", "a");
        check(json!({"type": "Replace", "pattern": {"String": ""}, "content": " "}), "ab", "ab");
        check(json!({"type": "of the future"}), "▁a", "▁a");
        assert_eq!(decode("▁a", None), "▁a");
    }
}
