//! Ids of special tokens out of `tokenizer.json` alone, where no `tokenizer_config.json` names them.
use serde_json::Value;

/// What special tokens are called in most tokenizers. BERT's first and last are those around a text.
const CALLED: [(&str, &[&str]); 6] = [
    ("bos", &["<s>", "<bos>", "[CLS]"]),
    ("eos", &["</s>", "<eos>", "[SEP]"]),
    ("unk", &["[UNK]", "<unk>"]),
    ("sep", &["[SEP]"]),
    ("pad", &["[PAD]", "<pad>"]),
    ("mask", &["[MASK]", "<mask>"]),
];

/// Kinds and ids, the likeliest first where a kind has several.
pub(super) fn ids(tokenizer: &Value) -> Vec<(&'static str, Value)> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let added = list(tokenizer.get("added_tokens"));
    let model = tokenizer.get("model");
    let id = |content: &str| -> Option<Value> {
        let own = added.iter().find(|a| a.get("content").and_then(Value::as_str) == Some(content));
        own.and_then(|a| a.get("id")).or_else(|| model?.get("vocab")?.get(content)).cloned()
    };
    let mut found = Vec::new();
    let mut say = |kind: &'static str, id: Option<Value>| found.extend(id.map(|id| (kind, id)));
    let processor = tokenizer.get("post_processor").filter(|p| !p.is_null());
    let steps = processor.map_or_else(Vec::new, |p| match p.get("processors") {
        Some(several) => list(Some(several)),
        None => vec![p.clone()],
    });
    for step in &steps {
        let pair = |key: &str| step.get(key)?.get(1).cloned();
        let around = list(step.get("single"));
        let special = |part: Option<&Value>| id(part?.get("SpecialToken")?.get("id")?.as_str()?);
        say("bos", pair("cls").or_else(|| special(around.first())));
        say("eos", pair("sep").or_else(|| special(around.last().filter(|_| around.len() > 1))));
        say("sep", pair("sep"));
    }
    let unknown = model.and_then(|m| m.get("unk_token")).and_then(Value::as_str).and_then(&id);
    say("unk", unknown.or_else(|| model?.get("unk_id").cloned()));
    say("pad", tokenizer.get("padding").and_then(|p| p.get("pad_id")).cloned());
    for (kind, names) in CALLED {
        say(kind, names.iter().find_map(|name| id(name)));
    }
    found
}
