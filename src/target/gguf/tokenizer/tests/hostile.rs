//! Files that lie, and files that are broken.
use super::*;

#[test]
fn broken_files_are_named() {
    fn check(name: &str, bytes: &str, expected: &str) {
        let files = Files::of(&[("tokenizer.json", &byte_level())]).with(name, bytes);
        let error = files.error("gpt2", &json!({}));
        assert!(error.starts_with(expected), "{error}");
    }
    check("tokenizer.json", "{", "tokenizer.json: is not valid JSON: ");
    check("tokenizer.json", "[]", "tokenizer.json: is not a JSON object");
    check("tokenizer.json", "{}", "tokenizer.json: its model has no `vocab`");
    check("tokenizer.json", r#"{"model": {"vocab": {}}}"#, "tokenizer.json: its vocabulary is empty");
    check("tokenizer_config.json", "\u{0}", "tokenizer_config.json: is not valid JSON: ");
    check("tokenizer_config.json", "7", "tokenizer_config.json: is not a JSON object");
    check("chat_template.json", "}", "chat_template.json: is not valid JSON: ");
}

#[test]
fn ids_beyond_any_vocabulary_are_refused() {
    fn check(change: impl Fn(&mut Json), expected: &str) {
        let mut tokenizer = byte_level();
        change(&mut tokenizer);
        assert_eq!(Files::of(&[("tokenizer.json", &tokenizer)]).error("gpt2", &json!({})), expected);
    }
    let id = |id: Json| move |t: &mut Json| t["model"]["vocab"]["a"] = id.clone();
    let said = |id: &str| format!("tokenizer.json: an id of `vocab` is {id}, expected a number up to 2097152");
    check(id(json!(u64::MAX)), &said("18446744073709551615"));
    check(id(json!(4_000_000_000u64)), &said("4000000000"));
    check(id(json!(-1)), &said("-1"));
    check(id(json!("0")), &said("\"0\""));
    check(id(json!(1)), "tokenizer.json: `vocab` gives id 1 to both \"a\" and \"b\"");
    check(
        |t| t["added_tokens"][0]["id"] = json!(1e18),
        "tokenizer.json: an id of `added_tokens` is 1e+18, expected a number up to 2097152",
    );
    check(|t| t["model"]["merges"][0] = json!(["a", 7]), "tokenizer.json: merge 0 is neither text nor a pair of texts");
    let size = Files::of(&[("tokenizer.json", &byte_level())]).error("gpt2", &json!({"vocab_size": 1u64 << 40}));
    assert_eq!(size, "config.json: `vocab_size` is 1099511627776, expected a number up to 2097152");
}

#[test]
fn an_added_token_takes_no_other_ones_place() {
    let mut tokenizer = byte_level();
    tokenizer["added_tokens"][0]["id"] = json!(0);
    let files = [("tokenizer.json", &tokenizer), ("tokenizer_config.json", &json!({}))];
    let found = Files::of(&files).vocabulary("gpt2", &json!({}));
    assert_eq!(found.get("ggml.tokens"), Some(&Found::strings(["a", "b", "ab", "<|end|>"])));
    assert_eq!(found.warnings, ["tokenizer.json: added token \"<|end|>\" says id 0, and has 3"]);
}

/// JSON of any shape, with the words that tokenizers use.
fn shapes() -> impl Strategy<Value = Json> {
    let word = prop::sample::select(vec![
        "type",
        "BPE",
        "WordPiece",
        "Unigram",
        "Sequence",
        "Split",
        "ByteLevel",
        "TemplateProcessing",
        "single",
        "pair",
        "SpecialToken",
        "id",
        "A",
        "content",
        "<s>",
        "vocab",
        "merges",
        "processors",
        "normalizers",
        "a b",
    ]);
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (0i64..5).prop_map(Json::from),
        word.clone().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|all| Json::Object(all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_shape_of_the_files_makes_it_panic(
        key in prop::sample::select(vec!["model", "added_tokens", "pre_tokenizer", "post_processor", "normalizer", "decoder"]),
        setting in prop::sample::select(vec!["added_tokens_decoder", "bos_token", "chat_template", "extra_special_tokens"]),
        architecture in prop::sample::select(vec!["llama", "gpt2", "bert", "t5", "gemma3", "phi3", "of the future"]),
        shape in shapes(),
        other in shapes(),
    ) {
        let mut tokenizer = byte_level();
        tokenizer[key] = shape.clone();
        let settings = json!({setting: other, "eos_token": "<|end|>"});
        let files = Files::of(&[("tokenizer.json", &tokenizer), ("tokenizer_config.json", &settings), ("added_tokens.json", &shape)]);
        if let Ok(Some(found)) = files.asked(architecture, &json!({"vocab_size": 8}), None) {
            prop_assert_eq!(found.get("ggml.tokens").map(Found::count), Some(found.tokens as u64));
            prop_assert_eq!(found.get("ggml.token_type").map(Found::count), Some(found.tokens as u64));
        }
    }
}
