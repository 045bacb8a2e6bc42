//! Folders as tables of files, and what becomes of them.
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::format::gguf::Value as Found;

mod golden;
mod hostile;

/// A folder in memory.
#[derive(Clone, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn of(files: &[(&str, &Json)]) -> Self {
        Self(files.iter().map(|(name, json)| ((*name).to_owned(), json.to_string().into_bytes())).collect())
    }

    fn with(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name.into(), bytes.into());
        self
    }

    fn asked(&self, architecture: &str, config: &Json, pre: Option<&str>) -> Result<Option<Vocabulary>> {
        let read = |name: &str| Ok(self.0.get(name).cloned());
        vocabulary(&Request { read: &read, config, architecture, family: Wanted::Auto, pre })
    }

    fn vocabulary(&self, architecture: &str, config: &Json) -> Vocabulary {
        self.asked(architecture, config, None).unwrap().unwrap()
    }

    fn error(&self, architecture: &str, config: &Json) -> String {
        self.asked(architecture, config, None).unwrap_err().to_string()
    }
}

impl Vocabulary {
    fn get(&self, key: &str) -> Option<&Found> {
        self.pairs.iter().find(|p| *p.name() == *format!("tokenizer.{key}")).map(|p| &p.value)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// A byte-level tokenizer of a few tokens.
fn byte_level() -> Json {
    json!({
        "added_tokens": [{"id": 3, "content": "<|end|>", "special": true, "normalized": false}],
        "pre_tokenizer": {"type": "ByteLevel"},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    })
}

#[test]
fn a_folder_without_a_tokenizer_has_none() {
    let config = json!({"vocab_size": 4});
    let settings = json!({"bos_token": "<s>"});
    assert_eq!(Files::of(&[("tokenizer_config.json", &settings)]).asked("llama", &config, None).unwrap(), None);
    let tekken = Files::default().with("tekken.json", "{}");
    assert!(tekken.error("llama", &config).starts_with("tekken.json: Mistral's own form"));
}

#[test]
fn tokens_are_numbered_up_to_the_embedding() {
    let found = Files::of(&[("tokenizer.json", &byte_level())]).vocabulary("gpt2", &json!({"vocab_size": 6}));
    assert_eq!(found.tokens, 6);
    let tokens = ["a", "b", "ab", "<|end|>", "[PAD4]", "[PAD5]"];
    assert_eq!(found.get("ggml.tokens"), Some(&Found::strings(tokens)));
    assert_eq!(found.get("ggml.token_type"), Some(&[1, 1, 1, 3, 5, 5].as_slice().into()));
    assert_eq!(found.get("ggml.merges"), Some(&Found::strings(["a b"])));
    let short = Files::of(&[("tokenizer.json", &byte_level())]).error("gpt2", &json!({"vocab_size": 3}));
    assert_eq!(short, "tokenizer.json: token \"<|end|>\" has id 3, but config.json's `vocab_size` is 3");
}

#[test]
fn a_named_pre_tokenizer_is_taken_if_llama_cpp_has_it() {
    let config = json!({});
    let mut tokenizer = byte_level();
    tokenizer["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "\\S+|\n"}, "behavior": "Isolated"});
    let files = Files::of(&[("tokenizer.json", &tokenizer)]);
    let error = files.error("llama", &config);
    assert!(
        error
            .starts_with("tokenizer.json: its pre-tokenizer is none that llama.cpp is known to have: split \\S+|\\n; ")
    );
    assert!(error.contains("--pre NAME: default, llama-bpe, "), "{error}");
    let named = files.asked("llama", &config, Some("tekken")).unwrap().unwrap();
    assert_eq!(named.text("ggml.pre"), Some("tekken"));
    let unknown = files.asked("llama", &config, Some("lama-bpe")).unwrap_err().to_string();
    assert!(unknown.starts_with(
        "--pre lama-bpe: llama.cpp knows no such pre-tokenizer (did you mean `llama-bpe`?); it knows default, "
    ));
}

#[test]
fn special_ids_come_from_names_before_config() {
    fn check(settings: Json, config: Json, id: Option<u32>) {
        let files = Files::of(&[("tokenizer.json", &byte_level()), ("tokenizer_config.json", &settings)]);
        let found = files.vocabulary("gpt2", &config);
        assert_eq!(found.get("ggml.eos_token_id"), id.map(Found::from).as_ref(), "{settings} {config}");
    }
    let named = json!({"eos_token": "<|end|>"});
    check(json!({}), json!({}), None);
    check(json!({}), json!({"eos_token_id": 2}), Some(2));
    check(json!({}), json!({"eos_token_id": [2, 3]}), Some(2));
    check(json!({}), json!({"eos_token_id": []}), None);
    check(json!({}), json!({"eos_token_id": null, "text_config": {"eos_token_id": 1}}), Some(1));
    check(json!({}), json!({"eos_token_id": -1}), None);
    check(json!({}), json!({"eos_token_id": 1u64 << 32}), None);
    check(named, json!({"eos_token_id": 2}), Some(3));
    check(json!({"eos_token": {"content": "<|end|>"}}), json!({}), Some(3));
}

#[test]
fn special_ids_are_found_in_tokenizer_json_where_nothing_names_them() {
    const KEYS: [&str; 6] = ["bos", "eos", "unknown", "seperator", "padding", "mask"];
    fn check(architecture: &str, tokenizer: &Json, config: Json, expected: [Option<u32>; 6], warning: &str) {
        let found = Files::of(&[("tokenizer.json", tokenizer)]).vocabulary(architecture, &config);
        let ids = KEYS.map(|k| found.get(&format!("ggml.{k}_token_id")).and_then(Found::as_u64).map(|id| id as u32));
        assert_eq!(ids, expected, "{tokenizer}");
        let told = found.warnings.iter().find(|w| w.contains("tokenizer_config.json")).map_or("", String::as_str);
        assert_eq!(told, warning);
    }
    // As all-MiniLM-L6-v2 has it.
    let content = |id: u32, content: &str| json!({"id": id, "content": content, "special": true});
    let mut bert = json!({
        "added_tokens": [content(0, "[PAD]"), content(1, "[UNK]"), content(2, "[CLS]"), content(3, "[SEP]"), content(4, "[MASK]")],
        "model": {"type": "WordPiece", "unk_token": "[UNK]",
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5}},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}], "pair": []},
    });
    let all = [Some(2), Some(3), Some(1), Some(3), Some(0), Some(4)];
    check("bert", &bert, json!({"pad_token_id": 0}), all, "");
    bert["post_processor"] = json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]});
    check("bert", &bert, json!({}), all, "");
    // What config.json says counts more.
    check("bert", &bert, json!({"bos_token_id": 5}), [Some(5), Some(3), Some(1), Some(3), Some(0), Some(4)], "");
    let left_out = "there is no tokenizer_config.json, and tokenizer.json does not tell the ids of bos, unk, sep, pad, mask: they are left out";
    check("gpt2", &byte_level(), json!({"eos_token_id": 3}), [None, Some(3), None, None, None, None], left_out);
}

#[test]
fn what_surrounds_a_text_is_told_by_the_post_processor_first() {
    fn check(post_processor: Json, settings: Json, expected: [Option<bool>; 3]) {
        let mut tokenizer = byte_level();
        tokenizer["added_tokens"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": 4, "content": "<|start|>", "special": true}));
        tokenizer["post_processor"] = post_processor;
        let files = Files::of(&[("tokenizer.json", &tokenizer), ("tokenizer_config.json", &settings)]);
        let found = files.vocabulary("gpt2", &json!({}));
        let adds = ["bos", "eos", "sep"].map(|k| found.get(&format!("ggml.add_{k}_token")).and_then(Found::as_bool));
        assert_eq!(adds, expected, "{}", tokenizer["post_processor"]);
    }
    let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let template =
        |single: &[Json], pair: &[Json]| json!({"type": "TemplateProcessing", "single": single, "pair": pair});
    let settings = json!({"bos_token": "<|start|>", "eos_token": "<|end|>", "add_bos_token": true});
    check(Json::Null, settings.clone(), [Some(true), None, None]);
    check(json!({"type": "ByteLevel"}), settings.clone(), [Some(false), Some(false), None]);
    check(json!({"type": "RobertaProcessing"}), settings.clone(), [Some(true), Some(true), Some(true)]);
    let (start, end) = (token("<|start|>"), token("<|end|>"));
    let single = [start.clone(), text("A")];
    check(template(&single, &[]), settings.clone(), [Some(true), None, None]);
    check(template(&[text("A")], &[text("A"), text("B")]), settings.clone(), [Some(true), None, None]);
    let both = [start.clone(), text("A"), end.clone()];
    let pair = [start, text("A"), end.clone(), text("B"), end.clone()];
    check(template(&both, &pair), settings.clone(), [Some(true), Some(true), Some(false)]);
    let twice = [pair[0].clone(), text("A"), end.clone(), end.clone(), text("B"), end.clone()];
    check(template(&both, &twice), settings.clone(), [Some(true), Some(true), Some(true)]);
    let between = [text("A"), end, text("B")];
    check(template(&[text("A")], &between), settings, [Some(true), None, Some(true)]);
}

#[test]
fn the_end_that_a_template_puts_makes_the_named_one_the_end_of_a_turn() {
    let mut tokenizer = byte_level();
    tokenizer["added_tokens"].as_array_mut().unwrap().push(json!({"id": 4, "content": "<|turn|>", "special": true}));
    tokenizer["post_processor"] = json!({"type": "TemplateProcessing", "pair": [],
        "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<|end|>"}}]});
    let settings = json!({"eos_token": "<|turn|>"});
    let files = Files::of(&[("tokenizer.json", &tokenizer), ("tokenizer_config.json", &settings)]);
    let found = files.vocabulary("gpt2", &json!({}));
    assert_eq!(found.get("ggml.eos_token_id"), Some(&3u32.into()));
    assert_eq!(found.get("ggml.eot_token_id"), Some(&4u32.into()));
}

#[test]
fn chat_templates_are_in_one_of_three_files() {
    fn check(files: Files, expected: &[(&str, &str)]) {
        let found = files.with("tokenizer.json", byte_level().to_string()).vocabulary("gpt2", &json!({}));
        let templates: Vec<_> = found.pairs.iter().filter(|p| p.name().starts_with("tokenizer.chat")).collect();
        let shown: Vec<(String, String)> = templates.iter().map(|p| (p.name().into_owned(), p.value.shown())).collect();
        let shown: Vec<(&str, &str)> = shown.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(shown, expected);
    }
    let none = || Files::default();
    let jinja = || none().with("chat_template.jinja", "of jinja\r\n");
    check(none(), &[]);
    check(jinja(), &[("tokenizer.chat_template", "of jinja\n")]);
    check(
        none().with("chat_template.json", r#"{"chat_template": "of json"}"#),
        &[("tokenizer.chat_template", "of json")],
    );
    check(jinja().with("tokenizer_config.json", r#"{"chat_template": "x"}"#), &[("tokenizer.chat_template", "x")]);
    check(jinja().with("tokenizer_config.json", r#"{"chat_template": null}"#), &[]);
    check(jinja().with("tokenizer_config.json", r#"{"chat_template": 7}"#), &[]);
    check(
        jinja().with("additional_chat_templates/tool_use.jinja", "of tools"),
        &[
            ("tokenizer.chat_template.tool_use", "of tools"),
            ("tokenizer.chat_templates", r#"["tool_use"]"#),
            ("tokenizer.chat_template", "of jinja\n"),
        ],
    );
}

#[test]
fn code_llama_and_granite_are_told_by_their_number_of_tokens() {
    let pieces = |n: usize| -> Vec<u8> {
        (0..n).flat_map(|i| proto::testing::piece(&format!("t{i}"), -(i as f32), proto::Type::Normal)).collect()
    };
    let files = Files::default().with("tokenizer.model", pieces(10));
    let found = files.vocabulary("llama", &json!({"vocab_size": 32_016}));
    assert_eq!((found.tokens, found.get("ggml.eot_token_id")), (32_016, Some(&32_010u32.into())));
    let found = files.vocabulary("llama", &json!({"vocab_size": 49_152}));
    assert_eq!(found.get("ggml.add_bos_token"), Some(&false.into()));
    let found = files.vocabulary("llama", &json!({"vocab_size": 4}));
    assert_eq!((found.tokens, found.warnings.len()), (4, 1), "{:?}", found.warnings);
}

#[test]
fn a_tokenizer_of_bytes_that_fall_back_is_padded_to_the_embedding() {
    let tokenizer = json!({
        "added_tokens": [{"id": 3, "content": "<x>", "special": true}],
        "decoder": {"type": "Sequence", "decoders": []},
        "model": {"type": "BPE", "byte_fallback": true, "vocab": {"<0x0A>": 0, "a": 1, "</s>": 2}, "merges": []},
    });
    let settings = json!({"eos_token": "</s>"});
    let files = Files::of(&[("tokenizer.json", &tokenizer), ("tokenizer_config.json", &settings)]);
    let found = files.vocabulary("llama", &json!({"vocab_size": 5}));
    assert_eq!(found.get("ggml.tokens"), Some(&Found::strings(["<0x0A>", "a", "</s>", "<x>", "[PAD4]"])));
    assert_eq!(found.get("ggml.token_type"), Some(&[6, 1, 3, 4, 5].as_slice().into()));
}

#[test]
fn gemma_without_its_model_file_is_bpe() {
    let mut tokenizer = byte_level();
    tokenizer["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    tokenizer["pre_tokenizer"] =
        json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    tokenizer["model"]["byte_fallback"] = json!(true);
    tokenizer["decoder"] = json!({"type": "Sequence", "decoders": []});
    for architecture in ["gemma", "gemma2", "gemma3"] {
        let found = Files::of(&[("tokenizer.json", &tokenizer)]).vocabulary(architecture, &json!({}));
        assert_eq!((found.text("ggml.model"), found.text("ggml.pre")), (Some("gpt2"), Some("gemma4")));
        assert_eq!(found.get("ggml.add_space_prefix"), None);
    }
}

#[test]
fn roberta_may_have_its_tokenizer_in_two_files() {
    let files = Files::of(&[("vocab.json", &json!({"<s>": 0, "a": 1, "b": 2, "ab": 3}))]);
    let files = files.with("merges.txt", "#version: 0.2\na b\n\nnot a merge\n");
    let files = files.with("tokenizer_config.json", r#"{"cls_token": "<s>"}"#);
    let found = files.vocabulary("bert", &json!({"type_vocab_size": 1}));
    assert_eq!(found.text("ggml.pre"), Some("roberta-bpe"));
    assert_eq!(found.get("ggml.token_type"), Some(&[3, 1, 1, 1].as_slice().into()));
    assert_eq!(found.get("ggml.merges"), Some(&Found::strings(["a b"])));
    assert_eq!(found.get("ggml.token_type_count"), Some(&1u32.into()));
    assert_eq!(found.warnings, ["merges.txt: line 4 is not two parts, and is left out"]);
    let error = Files::default().with("tokenizer.model", "").error("bert", &json!({}));
    assert!(error.starts_with("vocab.json: not found; "), "{error}");
}

#[test]
fn a_tokenizer_without_merges_has_an_empty_list_of_them() {
    let mut tokenizer = byte_level();
    tokenizer["model"]["merges"] = json!([]);
    let files = [("tokenizer.json", &tokenizer), ("tokenizer_config.json", &json!({}))];
    let found = Files::of(&files).vocabulary("gpt2", &json!({}));
    assert_eq!(found.get("ggml.merges"), Some(&Found::strings([""; 0])));
    assert_eq!(found.warnings, ["the tokenizer has no merges: every byte is a token of its own"]);
}

#[test]
fn two_ids_never_have_one_text() {
    let mut pieces = proto::testing::piece("<unk>", 0.0, proto::Type::Unknown);
    for text in ["a", "b", "a"] {
        pieces.extend(proto::testing::piece(text, 0.0, proto::Type::Normal));
    }
    let found = Files::default().with("tokenizer.model", pieces).vocabulary("llama", &json!({}));
    assert_eq!(found.get("ggml.tokens"), Some(&Found::strings(["<unk>", "a", "b", "[PAD3]"])));
    assert_eq!(found.warnings, ["token 3 has the text of token 1, \"a\", and is made unused"]);
}
