//! The contract of the command line: commands, flags, JSON fields, exit codes.
use crate::support::{Sandbox, example};

#[test]
fn exit_codes_tell_wrong_usage() {
    fn check(words: &str, part: &str) {
        let s = Sandbox::new();
        s.write("m.safetensors", example());
        let run = s.run(words);
        assert_eq!(run.code(), 2, "{words}: {}", run.stderr());
        assert!(run.stderr().contains(part), "{words}: {}", run.stderr());
    }
    check("", "terminal");
    check("m.safetensors", "mixdown inspect");
    check("--demo", "convert");
    check("plan", "which model");
    check("plan m.safetensors --demo", "--demo");
    check("plan m.safetensors --dtype unt4", "uint4");
    check("plan m.safetensors --to nothing", "float, sdnq");
    check("plan m.safetensors --to float --svd-rank 4", "sdnq");
    check("plan m.safetensors --to float --group-size 64", "sdnq");
    check("plan m.safetensors --to float --metadata-tensors", "sdnq");
    check("plan m.safetensors --to float --hadamard", "sdnq");
    check("plan m.safetensors --to float --hadamard=64", "sdnq");
    check("plan m.safetensors --to float --no-hadamard", "--no-hadamard");
    check("plan m.safetensors --to float --codebook", "sdnq");
    check("plan m.safetensors --to float --no-codebook", "--no-codebook");
    check("plan m.safetensors --to float --quant-conv", "sdnq");
    check("plan m.safetensors --to float --no-quant-embedding", "--no-quant-embedding");
    check("plan m.safetensors --to float --tensor-type a=bf16,hadamard=64", "sdnq");
    check("plan m.safetensors --to float --tensor-type a=bf16,codebook=true", "sdnq");
    check("plan m.safetensors --hadamard=48", "a power of two from 4 to 65536");
    check("plan --hadamard 64 m.safetensors", "unexpected argument 'm.safetensors'");
    check("plan m.safetensors --exclude (", "--exclude");
    check("plan m.safetensors --tensor-type attn", "--tensor-type");
    check("plan m.safetensors --group-size -3", "group size -3");
    check("plan m.safetensors --memory much --dtype int8 --threads 0 --unknown", "--unknown");
    check("convert m.safetensors", "--output");
    check("convert m.safetensors -o out.safetensors --max-shard-size 1MB", "--max-shard-size");
    check("convert m.safetensors -o out.safetensors --threads 0", "--threads");
    check("convert m.safetensors -o out.safetensors --threads 1000000", "1024");
    check("m.safetensors plan m.safetensors", "after the command");
    check("plan m.safetensors --component vae", "--component");
}

#[test]
fn a_model_that_is_not_there_is_a_failure() {
    let s = Sandbox::new();
    s.run("inspect nothing.safetensors").fails(1, &["nothing.safetensors"]);
    s.run("inspect org/name").fails(1, &["org/name", "hf download"]);
    s.run("inspect flux.1-dev").fails(1, &["black-forest-labs/FLUX.1-dev"]);
}

#[test]
fn inspect_says_what_is_in_a_model() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let j = s.json("inspect m.safetensors --json");
    assert_eq!(j["format"], "safetensors");
    assert_eq!(j["metadata"]["format"], "pt");
    assert_eq!(j["tensors"].as_array().map(Vec::len), Some(8));
    assert_eq!(j["parameters"], 4 * 128 * 256 + 128 + 64 * 256 + 256 + 1);
    let one = s.json("inspect m.safetensors --json --tensor steps");
    assert_eq!(one["tensors"][0]["dtype"], "I64");
    assert_eq!(one["tensors"][0]["bytes"], 8);
    s.run("inspect m.safetensors --tensor nothing").fails(1, &["`nothing`"]);
}

#[test]
fn a_plan_has_the_fields_of_the_contract() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let j = s.json("plan m.safetensors --dtype uint4 --svd-rank 8 -o out.safetensors --json");
    assert_eq!(
        (&j["target"], &j["model"], &j["output"]),
        (&"sdnq".into(), &"m.safetensors".into(), &"out.safetensors".into())
    );
    let row = &j["tensors"][1];
    assert_eq!(row["name"], "blocks.0.attn.to_q.weight");
    assert_eq!(row["sources"], serde_json::json!(["blocks.0.attn.to_q.weight"]));
    assert_eq!(row["shape"], serde_json::json!([128, 256]));
    assert_eq!((&row["from"], &row["to"], &row["excluded"]), (&"F32".into(), &"uint4".into(), &false.into()));
    assert_eq!((&row["group_size"], &row["svd_rank"]), (&128.into(), &8.into()));
    assert_eq!(row["bytes_before"], 128 * 256 * 4);
    // Codes, two groups per row with scale and zero point, and two factors in the source's type.
    assert_eq!(row["bytes_after"], 128 * 256 / 2 + 2 * 128 * 2 * 4 + 8 * (128 + 256) * 4);
    assert!(row["mse"].is_null());
    let bias = &j["tensors"][0];
    assert_eq!((&bias["excluded"], &bias["to"]), (&true.into(), &"F32".into()));
    let t = &j["totals"];
    assert_eq!((&t["tensors"], &t["quantized"], &t["output_tensors"]), (&8.into(), &4.into(), &(4 * 5 + 4).into()));
}

#[test]
fn settings_from_flags() {
    /// The dtype of each matrix, `-` where it is kept.
    fn check(options: &str, expected: [&str; 5]) {
        let s = Sandbox::new();
        s.write("m.safetensors", example());
        s.write("rules.txt", "blocks.0=int4\nblocks=int5 ");
        let j = s.json(&format!("plan m.safetensors --json {options}"));
        let names = [
            "blocks.0.attn.to_q.weight",
            "blocks.0.ff.weight",
            "blocks.1.attn.to_q.weight",
            "blocks.1.ff.weight",
            "embed_tokens.weight",
        ];
        let got = names.map(|n| {
            let row = j["tensors"].as_array().and_then(|t| t.iter().find(|r| r["name"] == n)).expect("a row");
            if row["excluded"] == true { "-".to_owned() } else { row["to"].as_str().expect("a dtype").to_owned() }
        });
        assert_eq!(got, expected, "{options}");
    }
    check("", ["int8", "int8", "int8", "int8", "-"]);
    check("--dtype UINT4", ["uint4", "uint4", "uint4", "uint4", "-"]);
    check("--dtype bool", ["uint1", "uint1", "uint1", "uint1", "-"]);
    check("--exclude attn --exclude embed", ["-", "int8", "-", "int8", "-"]);
    check("--include attn", ["int8", "-", "int8", "-", "-"]);
    check("--include attn --exclude blocks.1", ["int8", "-", "-", "-", "-"]);
    check("--tensor-type attn=int4 --tensor-type blocks.1=uint2", ["int4", "int8", "uint2", "uint2", "-"]);
    check("--tensor-type-file rules.txt", ["int4", "int4", "int5", "int5", "-"]);
    check("--exclude attn --tensor-type attn=int4", ["-", "int8", "-", "int8", "-"]);
    check("--to float", ["BF16", "BF16", "BF16", "BF16", "BF16"]);
    check("--to float --dtype fp16", ["F16", "F16", "F16", "F16", "F16"]);
}

#[test]
fn profiles_are_saved_and_loaded() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let flags = "--dtype uint4 --group-size 32 --exclude ff --tensor-type blocks.1=int5,svd_rank=4";
    let by_flags = s.json(&format!("plan m.safetensors {flags} --save-profile p.toml --json"));
    let by_file = s.json("plan m.safetensors --profile p.toml --json");
    assert_eq!(by_flags["tensors"], by_file["tensors"]);
    std::fs::create_dir_all(s.path("config/mixdown/profiles")).expect("a folder");
    std::fs::copy(s.path("p.toml"), s.path("config/mixdown/profiles/mine.toml")).expect("copied");
    assert_eq!(s.json("plan m.safetensors --profile mine --json")["tensors"], by_flags["tensors"]);
    assert_eq!(s.json("profile list --json")["profiles"][0]["name"], "mine");
    assert!(s.run("profile show mine").stdout().contains("uint4"));
    assert!(s.run("profile path mine").stdout().trim_end().ends_with("mine.toml"));
    s.run("plan m.safetensors --profile other").fails(1, &["other", "profile list"]);
    let overridden = s.json("plan m.safetensors --profile mine --dtype int8 --json");
    assert_eq!(overridden["tensors"][1]["to"], "int8");
}

#[test]
fn every_flag_is_saved() {
    /// What the saved profile says below its target, `; ` between lines.
    fn check(profile: &str, flags: &str, expected: &str) {
        let s = Sandbox::new();
        s.write("m.safetensors", example());
        s.write("in.toml", format!("target = \"sdnq\"\n{profile}"));
        s.run(&format!("plan m.safetensors --profile in.toml {flags} --save-profile out.toml --quiet"));
        let text = std::fs::read_to_string(s.path("out.toml")).expect("saved");
        let said: Vec<&str> = text.lines().skip(1).filter(|l| !l.is_empty()).collect();
        assert_eq!(said.join("; "), expected, "{profile} {flags}");
    }
    check("", "--hadamard", "[defaults]; hadamard = 256");
    check(
        "",
        "--hadamard=64 --codebook --dtype uint4",
        "[defaults]; dtype = \"uint4\"; hadamard = 64; codebook = true",
    );
    check("", "--quant-conv --quant-embedding", "quant_conv = true; quant_embedding = true");
    check("quant_conv = true\n", "--no-quant-conv", "quant_conv = false");
    check(
        "[defaults]\nhadamard = true\ncodebook = true\n",
        "--no-hadamard --no-codebook",
        "[defaults]; hadamard = false; codebook = false",
    );
    check("", "--hadamard --no-hadamard", "[defaults]; hadamard = false");
    check("", "--no-hadamard --hadamard=8", "[defaults]; hadamard = 8");
    check("", "--no-codebook --codebook --dtype uint4", "[defaults]; dtype = \"uint4\"; codebook = true");
    check(
        "",
        "--tensor-type ff=uint4,svd_steps=2,hadamard=32,codebook=true",
        "[[rule]]; pattern = \"ff\"; dtype = \"uint4\"; svd_steps = 2; hadamard = 32; codebook = true",
    );
}

#[test]
fn profiles_are_told_to_sdnq_and_back() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    s.write(
        "p.toml",
        "target = \"sdnq\"\n[defaults]\ndtype = \"uint4\"\n[[rule]]\npattern = 'attn'\ndtype = \"int8\"\n",
    );
    let config = s.json("profile export p.toml --as sdnq");
    assert_eq!((&config["quant_method"], &config["weights_dtype"]), (&"sdnq".into(), &"uint4".into()));
    assert_eq!(config["modules_quant_config"]["*attn*"]["weights_dtype"], "int8");
    assert_eq!(config["add_skip_keys"], true, "the library has the same presets");
    // With the model everything is said: the preset's patterns, and what the target keeps.
    let config = s.json("profile export p.toml --as sdnq m.safetensors");
    let keep: Vec<&str> =
        config["modules_to_not_convert"].as_array().expect("a list").iter().filter_map(|v| v.as_str()).collect();
    assert_eq!(config["add_skip_keys"], false);
    assert!(keep.contains(&".proj_out") && keep.contains(&"embed_tokens.weight"), "{keep:?}");
    // What sdnq has no words for is said by names.
    s.write("q.toml", "target = \"sdnq\"\n[[rule]]\npattern = '\\d+\\.ff'\ndtype = \"uint4\"\n");
    s.run("profile export q.toml --as sdnq").fails(2, &[r"`\d+\.ff`", "give MODEL"]);
    assert_eq!(s.run("profile export q.toml --as sdnq m.safetensors -o q.json").code(), 0);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(s.path("q.json")).expect("written")).expect("JSON");
    let names: Vec<&String> = config["modules_quant_config"].as_object().expect("entries").keys().collect();
    assert_eq!(names, ["blocks.0.ff.weight", "blocks.1.ff.weight"]);

    assert_eq!(s.run("profile import q.json --as sdnq --save mine").code(), 0);
    assert_eq!(s.run("profile import q.json --as sdnq -o back.toml").code(), 0);
    let plan = |profile: &str| s.json(&format!("plan m.safetensors --profile {profile} --json"))["tensors"].clone();
    let words = |tensors: &serde_json::Value| -> Vec<String> {
        let rows = tensors.as_array().expect("rows").iter();
        rows.map(|r| format!("{} {} {} {}", r["name"], r["to"], r["group_size"], r["svd_rank"])).collect()
    };
    assert_eq!(words(&plan("mine")), words(&plan("q.toml")));
    assert_eq!(plan("mine"), plan("back.toml"));
}

#[test]
fn what_an_exchange_refuses() {
    fn check(words: &str, code: i32, parts: &[&str]) {
        let s = Sandbox::new();
        s.write("p.toml", "target = \"sdnq\"\n");
        s.write("f.toml", "target = \"float\"\n");
        s.write("c.json", r#"{"quant_method": "gptq"}"#);
        s.write("s.json", r#"{"quant_method": "sdnq", "use_quantized_matmul": true}"#);
        s.write("config/mixdown/profiles/mine.toml", "target = \"sdnq\"\n");
        s.run(words).fails(code, parts);
    }
    check("profile export p.toml --as nothing", 2, &["nothing"]);
    check("profile export f.toml --as sdnq", 2, &["one for float"]);
    check("profile export f.toml --as sdnq --demo", 2, &["one for float"]);
    check("profile export p.toml --as sdnq -o p.toml", 2, &["JSON"]);
    check("profile export gone --as sdnq", 1, &["gone"]);
    check("profile import c.json --as sdnq", 1, &["c.json", "gptq"]);
    check("profile import gone.json --as sdnq", 1, &["gone.json", "no such file"]);
    check("profile import s.json --as sdnq -o s.json", 2, &[".toml"]);
    check("profile import s.json --as sdnq --save mine.toml", 2, &["give a name"]);
    check("profile import s.json --as sdnq --save mine", 1, &["exists already"]);
    let s = Sandbox::new();
    s.write("s.json", r#"{"quant_method": "sdnq", "use_quantized_matmul": true}"#);
    let run = s.run("profile import s.json --as sdnq");
    assert_eq!((run.code(), run.stderr().contains("warning: `use_quantized_matmul` = true")), (0, true));
    assert!(run.stdout().contains("target = \"sdnq\""));
}

/// A profile that says nothing of groups comes to the same in SDNQ's words, where every group size is said.
#[test]
fn the_target_and_the_exchange_agree_on_what_is_not_said() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    for dtype in ["int8", "uint8", "uint4", "int5", "uint2", "int12", "float8_e4m3fn", "float8_e3m4fn", "float4_e2m1fn"]
    {
        s.write("p.toml", format!("target = \"sdnq\"\npreset = false\n[defaults]\ndtype = \"{dtype}\"\n"));
        s.run("profile export p.toml --as sdnq -o p.json");
        s.run("profile import p.json --as sdnq -o q.toml");
        let plan = |profile: &str| s.json(&format!("plan m.safetensors --profile {profile} --json"))["tensors"].clone();
        assert_eq!(plan("p.toml"), plan("q.toml"), "{dtype}");
    }
}

#[test]
fn a_wrong_profile_is_said_with_its_place() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    s.write("p.toml", "target = \"sdnq\"\n[defaults]\ngrup_size = 64\n");
    s.run("plan m.safetensors --profile p.toml").fails(1, &["p.toml:3:1", "grup_size", "group_size"]);
}

#[test]
fn presets_are_chosen_by_class() {
    let s = Sandbox::new();
    s.write("m/model.safetensors", example());
    s.write("m/config.json", r#"{"architectures": ["LlamaForCausalLM"]}"#);
    assert_eq!(s.json("inspect m --json")["architecture"], "LlamaForCausalLM");
    let presets = s.json("profile list --json");
    let names: Vec<&str> =
        presets["presets"].as_array().expect("a list").iter().filter_map(|p| p["name"].as_str()).collect();
    assert!(names.contains(&"common") && names.contains(&"flux"), "{names:?}");
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    for words in ["--quiet --threads 1 plan m.safetensors", "plan m.safetensors -q --threads 1", "-v inspect --demo"] {
        assert_eq!(s.run(words).code(), 0, "{words}: {}", s.run(words).stderr());
    }
}

#[test]
fn python_numbers_in_a_config_are_kept() {
    let s = Sandbox::new();
    s.write("m/model.safetensors", example());
    s.write("m/config.json", r#"{"limit": [0.0, Infinity], "x": NaN}"#);
    assert_eq!(s.run("convert m -o out").code(), 0);
    let config = std::fs::read_to_string(s.path("out/config.json")).expect("there");
    assert!(config.contains("Infinity") && config.contains("NaN") && !config.contains("number:"), "{config}");
}

#[test]
fn help_and_completions_are_no_failure() {
    let s = Sandbox::new();
    for words in ["--help", "--version", "convert --help", "completions bash", "completions fish", "man"] {
        let run = s.run(words);
        assert_eq!(run.code(), 0, "{words}");
        assert!(run.stdout().contains("mixdown"), "{words}");
    }
}

#[test]
fn the_cache_is_found_by_its_variables() {
    let s = Sandbox::new();
    let repository = "hub/models--org--name";
    s.write(&format!("{repository}/snapshots/abc/model.safetensors"), example());
    s.write(&format!("{repository}/snapshots/abc/config.json"), "{}");
    s.write(&format!("{repository}/refs/main"), "abc");
    for (key, value) in [("HF_HUB_CACHE", "hub"), ("HF_HOME", "."), ("XDG_CACHE_HOME", "xdg")] {
        if key == "XDG_CACHE_HOME" {
            std::fs::create_dir_all(s.path("xdg/huggingface")).expect("a folder");
            std::fs::rename(s.path("hub"), s.path("xdg/huggingface/hub")).expect("moved");
        }
        let run =
            s.command().env(key, s.path(value)).args(["inspect", "org/name", "--json"]).output().expect("it runs");
        assert!(run.status.success(), "{key}: {}", String::from_utf8_lossy(&run.stderr));
    }
}

#[test]
fn looks_are_the_desks_alone() {
    let s = Sandbox::new();
    for flags in ["--ascii", "--theme light"] {
        s.run(&format!("{flags} plan --demo")).fails(2, &["--theme", "--ascii", "the desk's"]);
    }
}

#[test]
fn every_other_way_to_treat_a_layer() {
    let s = Sandbox::new();
    let document = s.json("trial --demo --tensor 0.mlp.down_proj --what-if --json");
    let tensors = document["tensors"].as_array().expect("tensors");
    assert_eq!(tensors.len(), 1);
    let choices = tensors[0]["choices"].as_array().expect("choices");
    let now: Vec<&str> = choices.iter().filter(|c| c["now"] == true).filter_map(|c| c["label"].as_str()).collect();
    assert_eq!(now, ["int8 row"]);
    assert!(choices.windows(2).all(|w| w[0]["bytes_after"].as_u64() >= w[1]["bytes_after"].as_u64()));
    assert!(choices.iter().any(|c| c["best"] == true) && choices.iter().any(|c| c["best"] == false));
    // What it says of a dtype is what a trial of it says.
    let uint4 = choices.iter().find(|c| c["label"] == "uint4 g64").expect("uint4");
    let trial = s.json("trial --demo --tensor 0.mlp.down_proj --dtype uint4 --json");
    let row = trial["tensors"].as_array().and_then(|t| t.iter().find(|t| t["to"] == "uint4")).expect("the row");
    for figure in ["mse", "max_error", "relative_error", "bytes_after"] {
        assert_eq!(uint4[figure], row[figure], "{figure}");
    }
    let table = s.run("trial --demo --tensor 0.mlp.down_proj --what-if").stdout();
    assert!(table.contains("• int8 row") && table.contains("◂"), "{table}");
    s.run("trial --demo --what-if").fails(2, &["--tensor"]);
    s.run("trial --demo --what-if --tensor zzz").fails(1, &["zzz"]);
}
