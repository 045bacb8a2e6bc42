//! Pre-tokenizers as tokenizers' files write them.
use super::super::added::Vocab;
use super::*;
use serde_json::json;

fn split(regex: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn bytes() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
}

fn sequence(steps: &[Value]) -> Value {
    json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "model": {}})
}

fn of(tokens: &[&str]) -> Vocab {
    Vocab { tokens: tokens.iter().enumerate().map(|(i, t)| (i, (*t).to_owned())).collect(), ..Vocab::default() }
}

const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[test]
fn pre_tokenizers_of_models() {
    fn check(tokenizer: &Value, expected: &str) {
        assert_eq!(recognize(tokenizer, "of no weight", &of(&[])).unwrap(), expected, "{tokenizer}");
    }
    let gpt2 = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    let digits = json!({"type": "Digits", "individual_digits": true});
    check(&json!({"pre_tokenizer": gpt2}), "gpt-2");
    check(&sequence(&[digits.clone(), gpt2.clone()]), "starcoder");
    check(&sequence(&[split(&WORDS.replace("{1,3}", "")), bytes()]), "qwen2");
    check(&sequence(&[split(WORDS), bytes()]), "dbrx");
    // DeepSeek's, as its files have them: ends of lines as themselves.
    check(
        &sequence(&[
            split("[\r\n]"),
            split("\\s?\\p{L}+"),
            split("\\s?\\p{P}+"),
            split("[一-龥ࠀ-一가-퟿]+"),
            digits,
            bytes(),
        ]),
        "deepseek-coder",
    );
    let v3 = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| \
              ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
    check(&sequence(&[split("\\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(v3), bytes()]), "deepseek-v3");
    // Mistral's Nemo and GPT-4o.
    let tekken = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    check(&sequence(&[split(tekken), bytes()]), "tekken");
    let gpt4o = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let mut kept = split(gpt4o);
    (kept["behavior"], kept["invert"]) = (json!("Removed"), json!(true));
    check(&sequence(&[kept, bytes()]), "gpt-4o");
    let falcon = [
        json!({"type": "Punctuation", "behavior": "Contiguous"}),
        gpt2,
        json!({"type": "Digits", "individual_digits": false}),
        split("[0-9][0-9][0-9]"),
    ];
    check(&sequence(&falcon), "falcon");
}

#[test]
fn one_pattern_in_several_spellings() {
    for spelling in [
        WORDS.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"),
        WORDS.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"),
        WORDS.replace("\\r\\n", "\r\n"),
        WORDS.replace("]?\\p{L}+", "]?+\\p{L}++").replace("\\p{N}]+[", "\\p{N}]++["),
    ] {
        assert_eq!(recognize(&sequence(&[split(&spelling), bytes()]), "", &of(&[])).unwrap(), "dbrx", "{spelling}");
    }
}

#[test]
fn names_of_the_same_steps_are_told_apart() {
    fn check(tokenizer: &Value, architecture: &str, token: &str, expected: &str) {
        assert_eq!(recognize(tokenizer, architecture, &of(&["a", token])).unwrap(), expected);
    }
    let words = sequence(&[split(WORDS), bytes()]);
    check(&words, "llama", "<|begin_of_text|>", "llama-bpe");
    check(&words, "olmo2", "<|endoftext|>", "dbrx");
    check(&words, "glm4", "", "glm4");
    let mut ignores = words;
    ignores["model"]["ignore_merges"] = json!(true);
    check(&ignores, "llama", "", "llama-bpe");
    let qwen = sequence(&[split(&WORDS.replace("{1,3}", "")), bytes()]);
    check(&qwen, "qwen3", "<|im_start|>", "qwen2");
    check(&qwen, "qwen2", "<｜begin▁of▁sentence｜>", "deepseek-r1-qwen");
    check(&qwen, "stablelm", "", "stablelm2");
    let digits = sequence(&[json!({"type": "Digits", "individual_digits": true}), json!({"type": "ByteLevel"})]);
    check(&digits, "starcoder2", "<fim_prefix>", "starcoder");
    check(&digits, "llama", "<|im_start|>", "smollm");
    check(&digits, "granite", "<fim_prefix>", "refact");
    let gpt2 = json!({"pre_tokenizer": {"type": "ByteLevel"}});
    check(&gpt2, "gpt2", "", "gpt-2");
    check(&gpt2, "phi2", "", "phi-2");
    check(&gpt2, "bert", "", "roberta-bpe");
    check(&gpt2, "gptneox", "<|padding|>", "olmo");
    let blanks = json!({"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}});
    check(&blanks, "gemma3", "", "gemma4");
}

#[test]
fn what_is_not_known_is_told_in_the_error() {
    let tokenizer = sequence(&[
        json!({"type": "Metaspace"}),
        split("x\n"),
        json!({"type": "Split", "pattern": {"String": "▁"}, "behavior": "MergedWithNext"}),
    ]);
    let error = recognize(&tokenizer, "llama", &of(&[])).unwrap_err().to_string();
    assert!(error.contains(": Metaspace, split x\\n, split MergedWithNext text \"▁\"; say which"), "{error}");
    assert!(recognize(&json!({}), "llama", &of(&[])).unwrap_err().to_string().contains(": none at all;"));
}

#[test]
fn every_name_of_the_table_is_one_that_llama_cpp_loads() {
    for pattern in PATTERNS {
        for (_, name) in pattern.names {
            assert!(NAMES.contains(name), "{name}");
        }
        assert!(matches!(pattern.names.last(), Some((Hint::Otherwise, _))), "{:?}", pattern.steps);
        let same = PATTERNS.iter().filter(|p| p.steps == pattern.steps).count();
        assert_eq!(same, 1, "{:?}", pattern.steps);
        for step in pattern.steps.iter().filter_map(|s| s.strip_prefix("split ")) {
            assert_eq!(spelled(step), step, "the table has the one spelling");
        }
    }
}

#[test]
fn word_pieces_of_known_vocabularies() {
    let vocab = |at: &[(usize, &str)]| Vocab {
        tokens: at.iter().map(|(id, text)| (*id, (*text).to_owned())).collect(),
        ..Vocab::default()
    };
    assert_eq!(of_word_pieces(&vocab(&[(101, "[CLS]"), (1996, "the")])), "jina-v2-en");
    assert_eq!(of_word_pieces(&vocab(&[(101, "[CLS]"), (4638, "的")])), "bert-bge-large");
    assert_eq!(of_word_pieces(&vocab(&[(2, "[CLS]"), (1996, "the")])), "default");
}
