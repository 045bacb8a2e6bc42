//! What a conversion writes: the same as was tried, the same on every run, complete, and readable by others.
use crate::support::{Sandbox, example, read};

const RECIPES: [&str; 12] = [
    "--dtype int8",
    "--dtype float8_e4m3fn",
    "--dtype float6_e3m2fn --group-size 64 --hadamard",
    "--dtype int12 --quant-embedding --svd-rank 4 --hadamard=32",
    "--dtype uint4 --group-size 128 --codebook",
    "--dtype uint3 --group-size -2 --codebook --svd-rank 4",
    "--dtype uint4 --group-size 64",
    "--dtype int5 --group-size 32 --svd-rank 16",
    "--dtype uint3 --group-size -2",
    "--dtype uint2 --group-size -2 --svd-rank 8",
    "--to float --dtype f16",
    "--to float",
];

#[test]
fn trial_plan_and_conversion_agree() {
    for recipe in RECIPES {
        for out in ["out.safetensors", "out"] {
            let s = Sandbox::new();
            s.write("m.safetensors", example());
            let plan = s.json(&format!("plan m.safetensors {recipe} -o {out} --json"));
            let trial = s.json(&format!("trial m.safetensors {recipe} --json"));
            let done = s.json(&format!("convert m.safetensors {recipe} -o {out} --json"));
            // Digit for digit: the same rows with the same losses.
            assert_eq!(trial["tensors"], done["tensors"], "{recipe}");
            let file = if out == "out" { s.path("out/model.safetensors") } else { s.path(out) };
            let bytes = std::fs::metadata(&file).expect("the file is there").len();
            assert_eq!(plan["totals"]["file_bytes"], bytes, "{recipe}");
            let names = |j: &serde_json::Value| -> Vec<String> {
                j["tensors"].as_array().expect("rows").iter().map(|t| t["name"].to_string()).collect()
            };
            assert_eq!(names(&plan), names(&done));
            read(&file);
        }
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    for recipe in RECIPES {
        let s = Sandbox::new();
        s.write("m.safetensors", example());
        for threads in [1, 2, 5] {
            let run = s.run(&format!("convert m.safetensors {recipe} -o {threads}.safetensors --threads {threads}"));
            assert_eq!(run.code(), 0, "{}", run.stderr());
        }
        let bytes = |n: usize| std::fs::read(s.path(&format!("{n}.safetensors"))).expect("there");
        assert!(bytes(1) == bytes(2) && bytes(1) == bytes(5), "{recipe}");
    }
}

#[test]
fn what_was_written_is_read_back_as_it_was_previewed() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let original = read(&s.path("m.safetensors"));
    for (i, switch) in ["", "--no-metadata-tensors"].into_iter().enumerate() {
        let recipe = "--dtype uint4 --group-size 32 --svd-rank 4";
        let done = s.json(&format!("convert m.safetensors {recipe} {switch} -o q{i}.safetensors --json"));
        s.json(&format!("convert q{i}.safetensors --to float --dtype f32 -o back{i}.safetensors --json"));
        let back = read(&s.path(&format!("back{i}.safetensors")));
        assert_eq!(back.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>(), "names are restored");
        for row in done["tensors"].as_array().expect("rows").iter() {
            let name = row["name"].as_str().expect("a name");
            let floats = |m: &std::collections::BTreeMap<String, (String, Vec<usize>, Vec<u8>)>| -> Vec<f64> {
                m[name].2.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect()
            };
            if row["excluded"] == true {
                assert_eq!(back[name], original[name], "{name} is untouched");
                continue;
            }
            let (w, d) = (floats(&original), floats(&back));
            let mse: f64 = w.iter().zip(&d).map(|(w, d)| (w - d) * (w - d)).sum::<f64>() / w.len() as f64;
            let max = w.iter().zip(&d).map(|(w, d)| (w - d).abs()).fold(0.0, f64::max);
            let told = row["mse"].as_f64().expect("a loss");
            // Both sums are exact to n·2^-53; n is 32768.
            assert!((told - mse).abs() <= mse * 1e-11, "{name}: {told} against {mse}");
            assert!((row["max_error"].as_f64().expect("a loss") - max).abs() <= max * 1e-6);
        }
    }
}

#[test]
fn self_description_goes_where_the_loader_bears_it() {
    fn check(out: &str, switch: &str, as_tensors: bool) {
        let s = Sandbox::new();
        s.write("m/model.safetensors", example());
        let run = s.run(&format!("convert m {switch} -o {out}"));
        assert_eq!(run.code(), 0, "{}", run.stderr());
        let file = if out.ends_with(".safetensors") { s.path(out) } else { s.path(out).join("model.safetensors") };
        let described = read(&file).keys().filter(|n| n.ends_with(".weight_metadata")).count();
        assert_eq!(described, if as_tensors { 4 } else { 0 }, "{out} {switch}");
        let j = s.json(&format!("inspect {} --json", file.display()));
        let key = "blocks.0.ff";
        let facts =
            if as_tensors { &j["metadata"][format!("{key}.weight_metadata")] } else { &j["metadata"]["mixdown"][key] };
        assert_eq!(facts["weights_dtype"], "int8", "{out} {switch}: {j}");
        assert_eq!(facts["original_dtype"], "F32");
        assert_eq!(facts["original_shape"], serde_json::json!([256, 128]));
        assert!(facts["mse"].as_f64().expect("a loss") > 0.0);
    }
    check("out.safetensors", "", true);
    check("out.safetensors", "--no-metadata-tensors", false);
    check("out", "", false);
    check("out", "--metadata-tensors", true);
}

#[test]
fn a_folder_is_complete() {
    let s = Sandbox::new();
    s.write("m/model.safetensors", example());
    s.write("m/config.json", r#"{"architectures": ["X"], "hidden_size": 256}"#);
    s.write("m/tokenizer.json", "{}");
    s.write("m/sub/notes.txt", "hello");
    s.write("m/pytorch_model.bin", "not these");
    let run = s.run("convert m -o out --max-shard-size 100KB");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(run.stderr().contains("pytorch_model.bin"), "{}", run.stderr());
    let names = s.list("out");
    for name in ["config.json", "quantization_config.json", "sub", "tokenizer.json", "model.safetensors.index.json"] {
        assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
    }
    assert!(!names.contains(&"pytorch_model.bin".to_owned()));
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(s.path("out/config.json")).expect("there")).expect("JSON");
    assert_eq!(config["quantization_config"]["quant_method"], "sdnq");
    assert_eq!(config["hidden_size"], 256);
    let kept = config["quantization_config"]["modules_to_not_convert"].as_array().expect("a list");
    assert!(kept.contains(&"embed_tokens.weight".into()));
    // And back: a float folder that knows nothing of quantization.
    assert_eq!(s.run("convert out --to float --dtype f32 -o back").code(), 0);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(s.path("back/config.json")).expect("there")).expect("JSON");
    assert!(config.get("quantization_config").is_none());
    assert!(!s.list("back").contains(&"quantization_config.json".to_owned()));
}

#[test]
fn a_pipeline_goes_in_and_a_pipeline_comes_out() {
    let s = Sandbox::new();
    s.write("p/model_index.json", "{}");
    s.write("p/transformer/config.json", r#"{"_class_name": "FluxTransformer2DModel"}"#);
    s.write("p/transformer/diffusion_pytorch_model.safetensors", example());
    s.write("p/vae/config.json", "{}");
    s.write("p/vae/diffusion_pytorch_model.safetensors", example());
    let run = s.run("convert p -o out");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(run.stderr().contains("component `transformer`"), "it says which: {}", run.stderr());
    assert!(s.path("out/model_index.json").is_file() && s.path("out/transformer/quantization_config.json").is_file());
    let vae = |p: &str| std::fs::read(s.path(p).join("vae/diffusion_pytorch_model.safetensors")).expect("there");
    assert_eq!(vae("p"), vae("out"));
    assert_eq!(s.json("inspect p --component vae --json")["tensors"].as_array().map(Vec::len), Some(8));
    s.run("inspect p --component text_encoder").fails(2, &["text_encoder", "transformer, vae"]);
}

#[test]
fn a_loss_report_is_json_or_csv() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let done = s.json("convert m.safetensors -o a.safetensors --loss-report loss.json --json");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(s.path("loss.json")).expect("there")).expect("JSON");
    assert_eq!(report["tensors"], done["tensors"]);
    assert_eq!(s.run("convert m.safetensors -o b.safetensors --loss-report loss.csv").code(), 0);
    let csv = std::fs::read_to_string(s.path("loss.csv")).expect("there");
    assert_eq!(csv.lines().count(), 9);
    assert!(csv.starts_with("name,shape,from,to,"));
    let run = s.run("trial m.safetensors --tensor ff --csv t.csv");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert_eq!(std::fs::read_to_string(s.path("t.csv")).expect("there").lines().count(), 3);
}
