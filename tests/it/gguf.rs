//! GGUF files as models: what is said of them, and what is refused.
use mixdown::format::gguf::write::{Entry, Limits, places, write_header};
use mixdown::format::gguf::{Pair, Type, Value, split};
use serde_json::json;

use crate::support::{Sandbox, read, values};

/// A file of those keys, and tensors of names, shapes, types and bytes.
pub fn file(keys: &[Pair], tensors: &[(&str, &[u64], &str, Vec<u8>)]) -> Vec<u8> {
    let kind = |name: &str| Type::by_name(name).expect("a type");
    let entries: Vec<Entry> = tensors.iter().map(|(name, shape, k, _)| Entry::new(name, shape, kind(k))).collect();
    let places = places(keys, &entries, Limits::DIFFUSION).expect("a layout");
    let mut bytes = write_header(keys, &entries, &places);
    bytes.resize(places.total as usize, 0);
    for ((.., data), offset) in tensors.iter().zip(&places.offsets) {
        let at = (places.header + offset) as usize;
        bytes[at..at + data.len()].copy_from_slice(data);
    }
    bytes
}

pub fn f32s(n: usize) -> Vec<u8> {
    values(7, n).iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn keys() -> Vec<Pair> {
    vec![
        Pair::new("general.architecture", "llama"),
        Pair::new("llama.rope.freq_base", 1e6f32),
        Pair::new("tokenizer.ggml.tokens", Value::strings((0..1000).map(|i| format!("<{i}>")))),
        Pair::new("tokenizer.ggml.token_type", &[1i32, 2, 3][..]),
        Pair::new("evil\u{1b}[31m", "\u{1b}]0;title\u{7}"),
    ]
}

#[test]
fn inspect_says_what_is_in_a_file() {
    let s = Sandbox::new();
    let quantized = [
        ("blk.0.attn_q.weight", &[4u64, 256][..], "Q4_K", vec![0; 576]),
        ("blk.0.ffn_up_exps.weight", &[3, 2, 64], "Q8_0", vec![0; 408]),
        ("output_norm.weight", &[256], "F32", f32s(256)),
    ];
    s.write("m.gguf", file(&keys(), &quantized));
    let j = s.json("inspect m.gguf --json");
    assert_eq!((&j["format"], &j["architecture"]), (&json!("gguf"), &json!("llama")));
    assert_eq!(j["parameters"], 1024 + 384 + 256);
    assert_eq!(j["metadata"]["llama.rope.freq_base"], "1000000");
    assert_eq!(j["metadata"]["tokenizer.ggml.tokens"], r#"1000 × string: "<0>", "<1>", "<2>", "<3>", …"#);
    assert_eq!(j["metadata"]["tokenizer.ggml.token_type"], json!([1, 2, 3]));
    let of = |i: usize| {
        [&j["tensors"][i]["name"], &j["tensors"][i]["dtype"], &j["tensors"][i]["shape"]].map(ToOwned::to_owned)
    };
    assert_eq!(of(0), [json!("blk.0.attn_q.weight"), json!("Q4_K"), json!([4, 256])]);
    assert_eq!(of(1), [json!("blk.0.ffn_up_exps.weight"), json!("Q8_0"), json!([3, 2, 64])]);
    assert_eq!(of(2), [json!("output_norm.weight"), json!("F32"), json!([256])]);
    assert_eq!(j["tensors"][0]["bytes"], 576);
    let text = s.run("inspect m.gguf").stdout();
    assert!(text.contains("gguf · llama · 1.66 K parameters · 3 tensors"), "{text}");
    assert!(text.contains("Q4_K") && text.contains("4×256"), "{text}");
    assert!(!text.contains('\u{1b}'), "what a file says must not reach the terminal");
    s.run("inspect m.gguf --tensor nothing").fails(1, &["`nothing`"]);
}

#[test]
fn blocks_are_decoded_as_they_are_read() {
    let s = Sandbox::new();
    // Q8_0: a scale as F16, then 32 codes. 0.5 · (-16 … 15).
    let block = |start: i8| [vec![0x00, 0x38], (0..32).map(|i| (start + i) as u8).collect()].concat();
    let bank: Vec<u8> = (0..6).flat_map(|i| block(i - 16)).collect();
    s.write(
        "m.gguf",
        file(&keys(), &[("a.weight", &[1, 32], "Q8_0", block(-16)), ("bank.weight", &[3, 2, 32], "Q8_0", bank)]),
    );
    let run = s.run("convert m.gguf --to float --dtype f32 -o out.safetensors");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let arrays = read(&s.path("out.safetensors"));
    let values = |start: i32| (0..32).flat_map(move |i| (0.5 * (start + i) as f32).to_le_bytes());
    assert_eq!(arrays["a.weight"], ("F32".into(), vec![1, 32], values(-16).collect()));
    assert_eq!(arrays["bank.weight"], ("F32".into(), vec![3, 2, 32], (0..6).flat_map(|i| values(i - 16)).collect()));
    // And from there into another family, with a warning that something was lost before.
    let plan = s.run("plan m.gguf --to sdnq --dtype int8");
    assert_eq!(plan.code(), 0, "{}", plan.stderr());
    assert!(plan.stderr().contains("quantized already") || plan.stdout().contains("quantized already"));
}

#[test]
fn types_that_nothing_decodes_are_said() {
    let s = Sandbox::new();
    s.write("m.gguf", file(&keys(), &[("a.weight", &[1, 256], "Q8_K", vec![0; 292])]));
    s.run("convert m.gguf --to float -o out.safetensors").fails(1, &["a.weight", "Q8_K"]);
    assert_eq!(s.list(""), ["m.gguf"]);
}

#[test]
fn plain_tensors_are_weights() {
    let s = Sandbox::new();
    let data = f32s(6 * 64);
    let steps = 7i64.to_le_bytes().to_vec();
    s.write(
        "m.gguf",
        file(&keys(), &[("a.weight", &[6, 64], "F32", data.clone()), ("steps", &[1], "I64", steps.clone())]),
    );
    let run = s.run("convert m.gguf --to float --dtype f32 -o out.safetensors");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    let arrays = read(&s.path("out.safetensors"));
    assert_eq!(arrays["a.weight"], ("F32".into(), vec![6, 64], data));
    assert_eq!(arrays["steps"], ("I64".into(), vec![1], steps));
}

#[test]
fn several_files_are_one_model() {
    let s = Sandbox::new();
    let part = |no, name| {
        let keys = split::keys(&keys(), no, 2, 2).expect("few enough");
        file(&keys, &[(name, &[4], "F32", f32s(4))])
    };
    s.write("m/x-00001-of-00002.gguf", part(0, "a.weight"));
    s.write("m/x-00002-of-00002.gguf", part(1, "b.weight"));
    for words in ["inspect m --json", "inspect m/x-00001-of-00002.gguf --json"] {
        let j = s.json(words);
        assert_eq!(j["tensors"].as_array().map(Vec::len), Some(2), "{words}");
        assert!(j["tensors"][1]["file"].as_str().expect("a path").ends_with("x-00002-of-00002.gguf"));
    }
    s.run("inspect m/x-00002-of-00002.gguf").fails(1, &["open the first, x-00001-of-00002.gguf"]);
    s.write("m/y.gguf", part(0, "a.weight"));
    s.run("inspect m").fails(1, &["several GGUF models", "y.gguf"]);
    std::fs::remove_file(s.path("m/x-00002-of-00002.gguf")).expect("removed");
    s.run("inspect m/x-00001-of-00002.gguf").fails(1, &["x-00002-of-00002.gguf, is missing"]);
}

#[test]
fn broken_files_are_refused_in_one_line() {
    let s = Sandbox::new();
    let whole = file(&keys(), &[("a.weight", &[64], "F32", f32s(64))]);
    s.write("short.gguf", &whole[..whole.len() - 1]);
    s.run("inspect short.gguf").fails(1, &["short.gguf: tensor `a.weight` lies at", "1 B are missing"]);
    s.write("cut.gguf", &whole[..100]);
    s.run("inspect cut.gguf").fails(1, &["cut.gguf: ", "cut short"]);
    s.write("empty.gguf", "");
    s.run("inspect empty.gguf").fails(1, &["empty.gguf: the magic number at offset 0"]);
    s.write("safetensors.gguf", crate::support::example());
    s.run("inspect safetensors.gguf").fails(1, &["expected `GGUF` at offset 0"]);
}

#[test]
fn what_llama_cpp_would_refuse_is_said() {
    let s = Sandbox::new();
    s.write("m.gguf", file(&[], &[("patch_embedding.weight", &[8, 2, 1, 2, 2], "F32", f32s(64))]));
    let run = s.run("inspect m.gguf");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(run.stderr().contains("`patch_embedding.weight` has more than 4 dimensions"), "{}", run.stderr());
}
