//! Folders as convert_hf_to_gguf converts them (`tests/interop/make_hf_tokenizers.py`).
use std::path::Path;

use super::*;

/// Ids that the converter leaves out, for which llama.cpp then takes its own: the first of a list in config.json.
const MORE: [(&str, &str, u32); 1] = [("gemma3-vision", "tokenizer.ggml.eos_token_id", 1)];

/// A value as the list writes it: its type and its elements.
fn value(kind: &str, json: &Json) -> Found {
    fn all<T>(json: &Json, f: impl Fn(&Json) -> T) -> Vec<T> {
        json.as_array().unwrap().iter().map(f).collect()
    }
    match kind {
        "string" => json.as_str().unwrap().into(),
        "bool" => json.as_bool().unwrap().into(),
        "u32" => u32::try_from(json.as_u64().unwrap()).unwrap().into(),
        "array of string" => Found::strings(all(json, |v| v.as_str().unwrap().to_owned())),
        "array of i32" => all(json, |v| i32::try_from(v.as_i64().unwrap()).unwrap()).as_slice().into(),
        "array of f32" => all(json, |v| v.as_f64().unwrap() as f32).as_slice().into(),
        "array of u8" => all(json, |v| u8::try_from(v.as_u64().unwrap()).unwrap()).as_slice().into(),
        other => panic!("{other}"),
    }
}

/// The places at which two arrays of text differ.
fn differences(found: &Found, expected: &Found) -> Vec<String> {
    let pairs = found.items().zip(expected.items()).enumerate();
    pairs.filter(|(_, (a, b))| a != b).map(|(i, (a, b))| format!("{i}: {a:?}, expected {b:?}")).take(5).collect()
}

fn check(folder: &Path) {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let json = |file: &str| -> Json { serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap() };
    let (expected, config) = (json("expected.json"), json("config.json"));
    let read = |file: &str| Ok(std::fs::read(folder.join(file)).ok());
    let architecture = expected["architecture"].as_str().unwrap();
    let request = Request { read: &read, config: &config, architecture, family: Wanted::Auto, pre: None };
    let mut found = vocabulary(&request).unwrap_or_else(|e| panic!("{name}: {e}")).unwrap();
    for (_, key, id) in MORE.iter().filter(|more| more.0 == name) {
        let place = found.pairs.iter().position(|p| p.name() == *key).unwrap();
        assert_eq!(found.pairs.remove(place).value, Found::from(*id), "{name} {key}");
    }
    let pairs: Vec<(String, Found)> = expected["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p[0].as_str().unwrap().to_owned(), value(p[1].as_str().unwrap(), &p[2])))
        .collect();
    let keys: Vec<&str> = pairs.iter().map(|p| p.0.as_str()).collect();
    assert_eq!(found.pairs.iter().map(|p| p.name().into_owned()).collect::<Vec<_>>(), keys, "{name}");
    for (pair, (key, value)) in found.pairs.iter().zip(&pairs) {
        assert_eq!(pair.value, *value, "{name} {key}: {:?}", differences(&pair.value, value));
    }
    assert_eq!(found.get("ggml.tokens").unwrap().count(), found.tokens as u64, "{name}");
}

#[test]
fn as_convert_hf_to_gguf_has_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hf");
    let mut folders: Vec<_> =
        std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders.iter().for_each(|folder| check(folder));
    assert_eq!(folders.len(), 17);
}
