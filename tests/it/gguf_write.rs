//! GGUF files as they are written: what is planned, what is refused, and what the file says of itself. That ggml writes
//! the same bytes is held by `tests/interop`, against ggml.
use serde_json::{Value, json};

use crate::gguf::{f32s, file, keys};
use crate::support::Sandbox;
use mixdown::format::gguf::Pair;

/// A Llama of two layers, of more keys than a quantizer knows.
fn llama() -> Vec<u8> {
    let mut all = keys();
    all.extend([
        Pair::new("llama.block_count", 2u32),
        Pair::new("llama.attention.head_count", 4u32),
        Pair::new("llama.attention.head_count_kv", &[2u32, 2][..]),
        Pair::new("general.file_type", 0u32),
    ]);
    let matrix =
        |name: &'static str, rows: u64, cols: u64| (name, vec![rows, cols], "F32", f32s((rows * cols) as usize));
    let tensors = [
        matrix("output.weight", 8, 256),
        matrix("token_embd.weight", 8, 256),
        ("output_norm.weight", vec![256], "F32", f32s(256)),
        matrix("blk.1.attn_v.weight", 4, 256),
        matrix("blk.1.ffn_down.weight", 4, 96),
        matrix("blk.0.attn_v.weight", 4, 256),
        matrix("blk.0.ffn_down.weight", 4, 96),
    ];
    let tensors: Vec<_> = tensors.iter().map(|(n, s, t, d)| (*n, s.as_slice(), *t, d.clone())).collect();
    file(&all, &tensors)
}

/// The same as llama.cpp would begin to load it, or not.
fn loadable(layers: u32, width: u32, model: Option<&str>, tokens: Option<usize>, norm: Vec<u8>) -> Vec<u8> {
    let mut all = vec![
        Pair::new("general.architecture", "llama"),
        Pair::new("llama.block_count", layers),
        Pair::new("llama.embedding_length", width),
        Pair::new("llama.attention.head_count", 4u32),
        Pair::new("general.file_type", 0u32),
    ];
    all.extend(model.map(|model| Pair::new("tokenizer.ggml.model", model)));
    all.extend(tokens.map(|n| {
        Pair::new("tokenizer.ggml.tokens", mixdown::format::gguf::Value::strings((0..n).map(|i| format!("<{i}>"))))
    }));
    let matrix =
        |name: &'static str, rows: u64, cols: u64| (name, vec![rows, cols], "F32", f32s((rows * cols) as usize));
    let tensors = [
        matrix("output.weight", 8, 256),
        matrix("token_embd.weight", 8, 256),
        ("output_norm.weight", vec![256], "F32", norm),
        matrix("blk.0.attn_v.weight", 4, 256),
        matrix("blk.0.ffn_down.weight", 4, 96),
        matrix("blk.1.attn_v.weight", 4, 256),
        matrix("blk.1.ffn_down.weight", 4, 96),
    ];
    let tensors: Vec<_> = tensors.iter().map(|(n, s, t, d)| (*n, s.as_slice(), *t, d.clone())).collect();
    file(&all, &tensors)
}

fn sandbox() -> Sandbox {
    let s = Sandbox::new();
    s.write("m.gguf", llama());
    s
}

/// Name and dtype of each row.
fn types(report: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    report["tensors"].as_array().expect("rows").iter().map(|r| (text(&r["name"]), text(&r["to"]))).collect()
}

#[test]
fn the_mixture_chooses_and_says_why() {
    let s = sandbox();
    let plan = s.json("plan m.gguf --to gguf --json");
    let expected = [
        // What belongs to no layer, then by layer; in each by name.
        ("output.weight", "Q6_K"),
        ("output_norm.weight", "F32"),
        ("token_embd.weight", "Q4_K"),
        ("blk.0.attn_v.weight", "Q4_K"),
        ("blk.0.ffn_down.weight", "Q5_0"),
        ("blk.1.attn_v.weight", "Q6_K"),
        ("blk.1.ffn_down.weight", "Q8_0"),
    ];
    assert_eq!(types(&plan), expected.map(|(n, t)| (n.to_owned(), t.to_owned())));
    let reason = |i: usize| plan["tensors"][i]["reason"].as_str().unwrap_or("none").to_owned();
    assert!(reason(1).contains("one dimension") && plan["tensors"][1]["excluded"] == true, "{}", reason(1));
    assert_eq!(reason(2), "none");
    assert!(reason(4).contains("fallback from Q4_K: rows of 96"), "{}", reason(4));
    assert!(reason(5).contains("attn_v of Q4_K_M"), "{}", reason(5));
}

#[test]
fn what_is_planned_is_written_to_the_byte_and_reads_back() {
    let s = sandbox();
    for words in [
        "-o out.gguf",
        "-o out.gguf --dtype q5_0 --embed-loss",
        "-o out.gguf --dtype F16",
        "--to gguf -o out --max-shard-size 4KB",
        "-o out.gguf --prune-layers 0 --override-kv a.b=str:c",
    ] {
        let plan = s.json(&format!("plan m.gguf {words} --json"));
        let report = s.json(&format!("convert m.gguf {words} --force --json"));
        assert_eq!(types(&plan), types(&report), "{words}");
        assert_eq!(plan["totals"]["file_bytes"], report["totals"]["file_bytes"], "{words}");
        let out = words.split_whitespace().skip_while(|w| *w != "-o").nth(1).expect("an output");
        let files = if out.ends_with("gguf") { vec![out.to_owned()] } else { s.list(out) };
        let path = |f: &String| if out.ends_with("gguf") { s.path(f) } else { s.path(out).join(f) };
        let bytes: u64 = files.iter().map(|f| path(f).metadata().expect("a file").len()).sum();
        assert_eq!(report["totals"]["file_bytes"], bytes, "{words}");
        // Read again, it is a model of those types.
        let again = s.json(&format!("inspect {out} --json"));
        assert_eq!(again["tensors"].as_array().map(Vec::len), report["tensors"].as_array().map(Vec::len), "{words}");
    }
}

#[test]
fn keys_survive_and_the_file_says_what_was_done() {
    let s = sandbox();
    let report = s.json("convert m.gguf -o out.gguf --json");
    let (before, after) = (s.json("inspect m.gguf --json"), s.json("inspect out.gguf --json"));
    for (key, value) in before["metadata"].as_object().expect("keys") {
        let expected = if key == "general.file_type" { &json!("15") } else { value };
        assert_eq!(&after["metadata"][key], expected, "{key}");
    }
    let said = |key: &str| after["metadata"][key].as_str().unwrap_or_else(|| panic!("{key}")).to_owned();
    assert_eq!(said("mixdown.quantization_format"), "Q4_K_M");
    assert_eq!(said("mixdown.original_dtype"), "F32");
    let mse: f64 = said("mixdown.quantization_loss_mse").parse().expect("a number");
    let told = report["totals"]["mean_mse"].as_f64().expect("a number");
    // It is kept as f32.
    assert!((mse - told).abs() <= told * f64::from(f32::EPSILON), "{mse} {told}");
}

#[test]
fn what_must_not_be_written_is_refused_before_anything_is() {
    let s = sandbox();
    s.run("convert m.gguf -o q.gguf --dtype Q8_0 -q");
    let check = |words: &str, code: i32, parts: &[&str]| {
        s.run(words).fails(code, parts);
        assert_eq!(s.list(""), ["m.gguf", "q.gguf"], "{words}");
    };
    check("convert q.gguf -o x.gguf", 2, &["quantized already, to Q8_0", "--allow-requantize"]);
    check(
        "convert m.gguf -o x.gguf --dtype IQ2_XXS --pure",
        2,
        &["`blk.0.attn_v.weight`", "needs an importance matrix"],
    );
    check("convert m.gguf -o x.gguf --tensor-type v=iq1_s", 1, &["IQ1_S is read but not written"]);
    check("convert m.gguf -o x.gguf --dtype Q4_K_X", 2, &["no dtype `Q4_K_X`", "Q4_K_M"]);
    check("convert m.gguf -o x.gguf --dtype nvfp4", 2, &["--tensor-type"]);
    check("convert m.gguf -o x.gguf --tensor-type v=Q4_K_M", 2, &["no tensor type `Q4_K_M`"]);
    check("convert m.gguf -o x.gguf --tensor-type down=nvfp4", 2, &["`blk.0.ffn_down.weight`", "96"]);
    check("convert m.gguf -o x.gguf --override-kv a=3", 2, &["KEY=TYPE:VALUE"]);
    check("convert m.gguf -o x.gguf --prune-layers 2", 2, &["no layer 2"]);
    check("convert m.gguf -o x.gguf --group-size 64", 2, &["--group-size", "sdnq"]);
    check("convert m.gguf -o x.gguf --max-shard-size 1MB", 2, &["single .gguf file"]);
    check("convert m.gguf --to gguf -o x --max-shard-size 1MB --keep-split", 2, &["--keep-split and --max-shard-size"]);
    check("convert m.gguf -o x --dtype q4_k_m", 2, &["--to gguf"]);
    check("convert m.gguf -o x.safetensors --to gguf", 2, &["--to sdnq"]);
    check("convert m.gguf -o x.gguf --to sdnq", 2, &["--to gguf"]);
    check("convert m.gguf -o x.safetensors --pure", 2, &["--pure", "gguf has it"]);
    check("convert m.gguf -o x.gguf --imatrix m.gguf", 1, &["importance matrix: m.gguf", "not an importance matrix"]);
    check("convert m.gguf -o m.gguf --force", 1, &["is the model that is being read"]);
    // A plan tells the same, and goes on.
    let plan = s.json("plan q.gguf --to gguf --json");
    assert!(plan["warnings"].to_string().contains("--allow-requantize"), "{plan}");
}

#[test]
fn an_importance_matrix_that_does_not_fit_is_told() {
    let s = sandbox();
    let legacy = |entries: &[(&str, Vec<f32>)]| {
        let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
        for (name, values) in entries {
            bytes.extend((name.len() as i32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(1i32.to_le_bytes());
            bytes.extend((values.len() as i32).to_le_bytes());
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        bytes
    };
    let ones = |n: usize| (0..n).map(|i| 1.0 + i as f32).collect::<Vec<f32>>();
    s.write(
        "i.dat",
        legacy(&[
            ("blk.0.attn_v.weight", ones(256)),
            ("blk.1.attn_v.weight", vec![0.0; 256]),
            ("blk.0.ffn_down.weight", ones(96)),
            ("blk.9.attn_v.weight", ones(256)),
        ]),
    );
    let plan = s.json("trial m.gguf --to gguf --imatrix i.dat --json");
    let warnings = plan["warnings"].to_string();
    for part in [
        "have no entry in the importance matrix",
        "`blk.1.attn_v.weight` has an entry in the importance matrix that is zero, or no number",
        "`blk.9.attn_v.weight` of the importance matrix is not in this model",
    ] {
        assert!(warnings.contains(part), "`{part}` in {warnings}");
    }
    let weighted: Vec<&str> = plan["tensors"]
        .as_array()
        .expect("rows")
        .iter()
        .filter(|r| r["weighted_relative_error"].is_number())
        .map(|r| r["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(weighted, ["blk.0.attn_v.weight", "blk.0.ffn_down.weight"]);
    s.write("wide.dat", legacy(&[("blk.0.attn_v.weight", ones(128))]));
    s.run("plan m.gguf --to gguf --imatrix wide.dat").fails(1, &["128 values", "expected 256"]);
    s.write("cut.dat", &legacy(&[("blk.0.attn_v.weight", ones(128))])[..100]);
    s.run("plan m.gguf --to gguf --imatrix cut.dat").fails(1, &["importance matrix: cut.dat", "offset"]);
}

#[test]
fn a_profile_keeps_what_was_chosen() {
    let s = sandbox();
    let flags = "--to gguf --dtype q3_k_m --pure --output-tensor-type q6_k --override-kv a.b=int:3 --prune-layers 1";
    let plan = s.json(&format!("plan m.gguf {flags} --save-profile p.toml --json"));
    let again = s.json("plan m.gguf --profile p.toml --json");
    assert_eq!(types(&plan), types(&again));
    let text = std::fs::read_to_string(s.path("p.toml")).expect("a profile");
    for part in ["target = \"gguf\"", "[gguf]", "pure = true", "output_tensor_type = \"Q6_K\"", "prune_layers = \"1\""]
    {
        assert!(text.contains(part), "`{part}` in {text}");
    }
}

#[test]
fn files_of_pattern_and_type_are_read_as_llama_quantize_reads_them() {
    let s = sandbox();
    s.write("types.txt", "BLK\\.0\\.ATTN=q5_K attn_v=q8_0\n");
    let plan = s.json("plan m.gguf --to gguf --tensor-type-file types.txt --json");
    let rows = types(&plan);
    let of = |name: &str| rows.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone()).expect(name);
    // The first entry that matches decides, whatever its case.
    assert_eq!((of("blk.0.attn_v.weight"), of("blk.1.attn_v.weight")), ("Q5_K".into(), "Q8_0".into()));
    s.write("types.txt", "attn_v");
    s.run("plan m.gguf --to gguf --tensor-type-file types.txt").fails(2, &["types.txt", "no `=`"]);
}

#[test]
fn a_name_that_promises_another_mixture_is_told() {
    let s = sandbox();
    let check = |words: &str, told: bool| {
        let run = s.run(&format!("plan m.gguf {words}"));
        assert_eq!(run.stderr().contains("--dtype Q8_0 makes it so"), told, "{words}: {}", run.stderr());
    };
    check("-o x-Q8_0.gguf", true);
    check("-o x-Q8_0.gguf --dtype q8_0", false);
    check("-o Q8_0-to-Q4_K_M.gguf", false);
    check("-o x.gguf", false);
}

#[test]
fn numbers_that_are_none_and_integers_differ_too() {
    let s = Sandbox::new();
    let of = |last: f32, id: i32| {
        let values: Vec<u8> = [1.0f32, 2.0, 3.0, last].iter().flat_map(|v| v.to_le_bytes()).collect();
        file(&keys(), &[("a.weight", &[1, 4], "F32", values), ("ids", &[1], "I32", id.to_le_bytes().to_vec())])
    };
    s.write("a.gguf", of(4.0, 7));
    s.write("nan.gguf", of(f32::NAN, 7));
    s.write("ids.gguf", of(4.0, 9));
    let check = |a: &str, b: &str, code: i32, part: &str| {
        let run = s.run(&format!("diff {a} {b} --values"));
        assert_eq!(run.code(), code, "{a} {b}: {}", run.stdout());
        assert!(run.stdout().contains(part), "`{part}` in {}", run.stdout());
    };
    check("a.gguf", "a.gguf", 0, "no difference");
    check("nan.gguf", "nan.gguf", 0, "no difference");
    check("a.gguf", "nan.gguf", 1, "a.weight  some are no numbers");
    check("nan.gguf", "a.gguf", 1, "a.weight  some are no numbers");
    check("a.gguf", "ids.gguf", 1, "ids  other bytes");
    assert!(s.run("diff a.gguf ids.gguf --values --check").stdout().contains("✗ values"));
    s.run("diff a.gguf").fails(2, &["A and B"]);
}

#[test]
fn two_models_are_told_apart() {
    let s = sandbox();
    s.run("convert m.gguf -o q.gguf -q");
    assert_eq!(s.run("diff m.gguf m.gguf").stdout(), "no difference\n");
    let run = s.run("diff m.gguf q.gguf --json");
    assert_eq!(run.code(), 1);
    let d: Value = serde_json::from_str(&run.stdout()).expect("JSON");
    assert_eq!(d["metadata"]["changed"], json!({"general.file_type": {"a": "0", "b": "15"}}));
    assert_eq!(d["metadata"]["added"]["mixdown.quantized"], "true");
    assert_eq!((&d["tensors"]["added"], &d["same"]), (&json!([]), &json!(false)));
    assert_eq!(
        d["tensors"]["changed"][0],
        json!({"name": "blk.0.attn_v.weight", "dtype": {"a": "F32", "b": "Q4_K"}, "shape": {"a": [4, 256], "b": [4, 256]}})
    );
    let checked = s.json("diff m.gguf q.gguf --check --values --json");
    let checks = checked["checks"].as_array().expect("checks");
    assert!(checks.len() >= 7 && checks.iter().all(|c| c["ok"] == true), "{checks:?}");
    assert!(checked["values"].as_array().is_some_and(|v| v.len() == 7), "{checked}");
    // What a faithful quantization must not do.
    s.run("convert m.gguf -o pruned.gguf --prune-layers 1 -q");
    s.run("convert m.gguf -o renamed.gguf --override-kv llama.rope.freq_base=float:5 -q");
    s.run("convert m.gguf -o lies.gguf --override-kv general.file_type=int:2 -q");
    let check = |file: &str, failing: &[&str]| {
        let run = s.run(&format!("diff m.gguf {file} --check --json"));
        assert_eq!(run.code(), 1, "{file}");
        let d: Value = serde_json::from_str(&run.stdout()).expect("JSON");
        let wrong: Vec<&str> = d["checks"]
            .as_array()
            .expect("checks")
            .iter()
            .filter(|c| c["ok"] == false)
            .map(|c| c["name"].as_str().expect("a name"))
            .collect();
        assert_eq!(wrong, failing, "{file}");
    };
    check("pruned.gguf", &["keys survive", "tensors and shapes"]);
    check("renamed.gguf", &["keys survive"]);
    check("lies.gguf", &["file type"]);
    check("m.gguf", &["quantization keys"]);
    // Safetensors too.
    s.write("a.safetensors", crate::support::example());
    s.run("convert a.safetensors -o b.safetensors --dtype int8 -q");
    assert_eq!(s.json("diff a.safetensors b.safetensors --check --values --json")["same"], false);
}

#[test]
fn files_are_validated_by_themselves_and_against_their_source() {
    let s = Sandbox::new();
    s.write("m.gguf", loadable(2, 256, Some("gpt2"), Some(8), f32s(256)));
    s.run("convert m.gguf -o q.gguf -q");
    let levels = |words: &str, code: i32| -> Vec<(String, String)> {
        let run = s.run(&format!("validate {words} --json"));
        assert_eq!(run.code(), code, "{words}: {}", run.stdout());
        let d: Value = serde_json::from_str(&run.stdout()).expect("JSON");
        assert_eq!((&d["format"], &d["ok"]), (&json!("gguf"), &json!(code == 0)));
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        let checks = d["checks"].as_array().expect("checks").iter();
        checks.map(|c| (text(&c["name"]), text(&c["level"]))).filter(|(_, level)| level != "ok").collect()
    };
    assert_eq!(levels("q.gguf", 0), []);
    assert_eq!(levels("q.gguf --against m.gguf", 0), []);
    s.run("convert m.gguf -o lies.gguf --override-kv general.file_type=int:2 -q");
    assert_eq!(levels("lies.gguf", 0), [("file type".to_owned(), "warn".to_owned())]);
    s.run("convert m.gguf -o odd.gguf --override-kv general.quantization_version=int:1 -q");
    assert_eq!(levels("odd.gguf", 1), [("quantization version".to_owned(), "error".to_owned())]);
    s.run("convert m.gguf -o pruned.gguf --prune-layers 1 -q");
    let wrong = levels("pruned.gguf --against m.gguf", 1);
    assert!(wrong.contains(&("tensors and shapes".to_owned(), "error".to_owned())), "{wrong:?}");
}

#[test]
fn what_llama_cpp_refuses_does_not_pass() {
    let s = Sandbox::new();
    let check = |file: Vec<u8>, check: &str, expected: &str| {
        s.write("x.gguf", file);
        let run = s.run("validate x.gguf --json");
        let d: Value = serde_json::from_str(&run.stdout()).expect("JSON");
        let wrong: Vec<&Value> =
            d["checks"].as_array().expect("checks").iter().filter(|c| c["level"] == "error").collect();
        assert_eq!((run.code(), wrong.len(), &wrong[0]["name"]), (1, 1, &json!(check)), "{wrong:?}");
        assert_eq!(wrong[0]["detail"], expected);
    };
    let norm = || f32s(256);
    check(
        loadable(1, 256, Some("gpt2"), Some(8), norm()),
        "layers",
        "`llama.block_count` is 1, and `blk.1.attn_v.weight` is of a layer beyond: expected 2",
    );
    check(
        loadable(3, 256, Some("gpt2"), Some(8), norm()),
        "layers",
        "`llama.block_count` is 3, and no tensor is of layer 2",
    );
    check(
        loadable(2, 128, Some("gpt2"), Some(8), norm()),
        "width",
        "`llama.embedding_length` is 128, and `token_embd.weight` has shape [8, 256]: expected rows of 128",
    );
    check(
        loadable(2, 256, Some("gpt2"), None, norm()),
        "tokens",
        "`tokenizer.ggml.tokens` is missing, and `tokenizer.ggml.model` is gpt2",
    );
    check(
        loadable(2, 256, None, None, norm()),
        "tokens",
        "`tokenizer.ggml.model` and `tokenizer.ggml.tokens` are missing",
    );
    check(
        loadable(2, 256, Some("gpt2"), Some(9), norm()),
        "tokens",
        "`tokenizer.ggml.tokens` has 9, and `token_embd.weight` has shape [8, 256]: expected 9 rows",
    );
    let mut bad = norm();
    bad[12..16].copy_from_slice(&f32::INFINITY.to_le_bytes());
    check(
        loadable(2, 256, Some("gpt2"), Some(8), bad),
        "numbers",
        "`output_norm.weight` (F32) has inf at row 3, column 0",
    );
    // The scale of a block that is none: the last of the last tensor, which has 12 of Q5_0. Blocks of it hold 32 values in
    // 22 bytes and begin with the scale; data ends at a multiple of 32.
    s.write("m.gguf", loadable(2, 256, Some("gpt2"), Some(8), norm()));
    s.run("convert m.gguf -o q.gguf --dtype q5_0 --pure -q");
    let mut bytes = std::fs::read(s.path("q.gguf")).expect("a file");
    let at = bytes.len() - (12 * 22usize).next_multiple_of(32) + 11 * 22;
    bytes[at..at + 2].copy_from_slice(&[0, 0x7e]);
    check(bytes, "numbers", "`blk.1.ffn_down.weight` (Q5_0) has NaN at row 3, column 64");
}

#[test]
fn types_that_were_set_by_hand_are_told() {
    let s = Sandbox::new();
    s.write("m.gguf", loadable(2, 256, Some("gpt2"), Some(8), f32s(256)));
    let told = |words: &str| {
        s.run(&format!("convert m.gguf -o q.gguf --force --dtype q8_0 -q {words}"));
        let d = s.json("validate q.gguf --json");
        let line = d["checks"].as_array().expect("checks").iter().find(|c| c["name"] == "file type").expect("a line");
        (line["level"].as_str().unwrap_or_default().to_owned(), line["detail"].as_str().unwrap_or_default().to_owned())
    };
    let (level, detail) = told("");
    assert_eq!((level.as_str(), detail.as_str()), ("ok", "Q8_0 (7): all 6 tensors have the type that it gives them"));
    let (level, detail) = told("--tensor-type blk.0.attn_v=Q4_0");
    assert_eq!(level, "ok");
    assert_eq!(
        detail,
        "Q8_0 (7), and 1 of 6 tensors have other types than it gives, as if set by hand: `blk.0.attn_v.weight` for one is Q4_0, where it gives Q8_0"
    );
}

#[test]
fn modes_stand_side_by_side() {
    let s = sandbox();
    let j = s.json("bench m.gguf --to gguf --modes Q4_0 Q8_0 --json --plot p.svg");
    let modes = j["modes"].as_array().expect("modes");
    let of = |i: usize, key: &str| modes[i][key].as_f64().unwrap_or(f64::NAN);
    assert_eq!((modes.len(), &modes[0]["mode"], &modes[1]["run"]), (2, &json!("Q4_0"), &Value::Null));
    assert!(of(0, "file_bytes") < of(1, "file_bytes") && of(0, "relative_error") > of(1, "relative_error"));
    for (i, mode) in ["Q4_0", "Q8_0"].into_iter().enumerate() {
        let report = s.json(&format!("convert m.gguf --dtype {mode} -o {mode}.gguf --json"));
        assert_eq!(report["totals"]["file_bytes"], modes[i]["file_bytes"], "{mode}");
        assert_eq!(report["totals"]["mean_mse"], modes[i]["mean_mse"], "{mode}");
    }
    let svg = std::fs::read_to_string(s.path("p.svg")).expect("a plot");
    assert!(svg.contains(">Q4_0<") && svg.ends_with("</svg>\n"), "{svg}");
    let text = s.run("bench --model m.gguf --to gguf --modes Q4_0").stdout();
    assert!(text.starts_with("mode") && text.contains("Q4_0"), "{text}");
    s.run("bench m.gguf --to gguf --modes Q4_9").fails(2, &["--modes", "Q4_9"]);
    s.run("bench m.gguf --to gguf --pure --modes IQ2_XS").fails(2, &["IQ2_XS", "importance matrix"]);
    s.run("bench --to gguf --modes Q4_0 m.gguf").fails(2, &["MODEL before --modes"]);
    s.run("bench m.gguf --to gguf --modes Q4_0 --dtype Q4_1").fails(2, &["--dtype"]);
}

#[cfg(unix)]
#[test]
fn a_command_looks_at_each_mode() {
    let s = sandbox();
    let run =
        |command: &str| s.run_args(["bench", "m.gguf", "--to", "gguf", "--modes", "Q8_0", "--json", "--run", command]);
    let done = run("wc -c < {} && echo 'loss: 2.5 nats'");
    let j: Value = serde_json::from_str(&done.stdout()).expect("JSON");
    assert_eq!(j["modes"][0]["run"], 2.5, "{}", done.stderr());
    run("echo no figure # {}").fails(1, &["has no number"]);
    run("echo broken >&2; exit 3 # {}").fails(1, &["--run", "broken"]);
    run("true").fails(2, &["{}"]);
}
