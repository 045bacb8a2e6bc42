//! `mixdown validate`: a good model passes, and each way to break one is found and said with the layer's name.
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Run, Sandbox, example, read, with_header};

/// A folder of two-scale uint4 with a low-rank branch, and one layer of its own dtype; made by a conversion.
fn folder() -> Sandbox {
    let s = Sandbox::new();
    s.write("m/model.safetensors", example());
    s.write("m/config.json", r#"{"architectures": ["BertModel"]}"#);
    let recipe = "--dtype uint4 --group-size 32 --svd-rank 8 --tensor-type blocks.1.ff=int8,svd_rank=0,group_size=-1";
    let run = s.run(&format!("convert m {recipe} -o q"));
    assert_eq!(run.code(), 0, "{}", run.stderr());
    s
}

type Arrays = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

/// Rewrites the folder's weights; what mixdown says of them in the header is lost, as after any other program's saving.
fn edit(s: &Sandbox, change: impl FnOnce(&mut Arrays)) {
    let path = s.path("q/model.safetensors");
    let mut arrays = read(&path);
    change(&mut arrays);
    write(s, "q/model.safetensors", &arrays);
}

fn write(s: &Sandbox, name: &str, arrays: &Arrays) {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, (dtype, shape, bytes)) in arrays {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend(bytes);
    }
    s.write(name, with_header(&Value::Object(header).to_string(), &data));
}

/// Changes both places of the config.
fn configure(s: &Sandbox, change: impl Fn(&mut Value)) {
    let open =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(s.path(name)).expect("there")).expect("JSON") };
    let (mut file, mut config) = (open("q/quantization_config.json"), open("q/config.json"));
    change(&mut file);
    change(&mut config["quantization_config"]);
    s.write("q/quantization_config.json", file.to_string());
    s.write("q/config.json", config.to_string());
}

/// The details of the checks of that level.
fn details(s: &Sandbox, words: &str, level: &str) -> Vec<String> {
    let run = s.run(&format!("validate {words} --json"));
    let report: Value = serde_json::from_slice(&run.0.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stderr()));
    assert_eq!(run.code(), i32::from(report["ok"] != true), "{report:#}");
    let checks = report["checks"].as_array().expect("a list").iter();
    let of_level = checks.filter(|c| c["level"] == level);
    of_level
        .map(|c| format!("{}: {}", c["name"].as_str().expect("a name"), c["detail"].as_str().expect("text")))
        .collect()
}

fn errors(s: &Sandbox, words: &str) -> Vec<String> {
    details(s, words, "error")
}

#[test]
fn what_mixdown_writes_passes() {
    for recipe in [
        "--dtype int8",
        "--dtype uint4",
        "--dtype uint4 --svd-rank 8",
        "--dtype uint4 --codebook",
        "--dtype int5 --hadamard --svd-rank 500",
        "--dtype uint1 --group-size -1",
        "--dtype int6 --group-size -2",
        "--dtype float8_e4m3fn --quant-embedding",
        "--dtype float6_e3m2fn --exclude attn",
        "--dtype uint12 --tensor-type ff=uint2,group_size=16 --tensor-type blocks.1.ff=float8_e5m2",
    ] {
        let s = Sandbox::new();
        s.write("m/model.safetensors", example());
        s.write("m/config.json", r#"{"architectures": ["BertModel"], "hidden_size": 256}"#);
        for out in ["q", "q.safetensors", "shards --max-shard-size 40KB"] {
            let run = s.run(&format!("convert m {recipe} -o {out}"));
            assert_eq!(run.code(), 0, "{recipe}: {}", run.stderr());
            let out = out.split(' ').next().expect("a word");
            assert_eq!(errors(&s, &format!("{out} --against m")), Vec::<String>::new(), "{recipe} to {out}");
            if out != "q.safetensors" {
                assert_eq!(details(&s, out, "warn"), Vec::<String>::new(), "{recipe} to {out}");
            }
        }
    }
}

#[test]
fn the_report_is_for_people_and_for_scripts() {
    let s = folder();
    let run = s.run("validate q");
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(run.stdout().lines().any(|l| l.starts_with("✓ shapes")), "{}", run.stdout());
    assert!(run.stdout().ends_with("passes: 0 errors, 0 warnings\n"));
    let j = s.json("validate q --json");
    assert_eq!((&j["format"], &j["ok"]), (&"sdnq".into(), &true.into()));
    assert!(j["checks"].as_array().is_some_and(|c| c.iter().all(|c| c["level"] == "ok" && c["name"].is_string())));
    edit(&s, |a| drop(a.remove("blocks.0.ff.scale")));
    let run = s.run("validate q");
    assert_eq!(run.code(), 1);
    assert!(run.stdout().lines().any(|l| l.starts_with("✗ complete") && l.contains("blocks.0.ff")), "{}", run.stdout());
    assert!(run.stdout().contains("does not pass"));
}

#[test]
fn every_way_to_break_a_folder_is_found() {
    /// Breaks a good folder; the checks that fail, and no others, name `layer`.
    fn check(what: &str, layer: &str, checks: &[&str], change: impl FnOnce(&Sandbox)) {
        let s = folder();
        edit(&s, |_| ());
        assert_eq!(errors(&s, "q"), Vec::<String>::new(), "good before");
        change(&s);
        let errors = errors(&s, "q");
        let names: Vec<&str> = errors.iter().map(|e| e.split(':').next().unwrap_or_default()).collect();
        assert_eq!(names, checks, "{what}: {errors:#?}");
        for error in errors {
            assert!(error.contains(layer), "{what}: `{layer}` in: {error}");
        }
    }
    check("missing scale", "blocks.0.ff", &["complete"], |s| edit(s, |a| drop(a.remove("blocks.0.ff.scale"))));
    check("missing zero point", "blocks.0.ff", &["complete"], |s| {
        edit(s, |a| drop(a.remove("blocks.0.ff.zero_point")));
    });
    check("a zero point too many", "blocks.1.ff", &["complete"], |s| {
        edit(s, |a| drop(a.insert("blocks.1.ff.zero_point".into(), ("F32".into(), vec![256, 1], vec![0; 1024]))));
    });
    check("one factor missing", "blocks.0.ff", &["complete"], |s| edit(s, |a| drop(a.remove("blocks.0.ff.svd_down"))));
    check("both factors missing", "blocks.0.ff", &["complete"], |s| {
        edit(s, |a| a.retain(|name, _| !name.starts_with("blocks.0.ff.svd")));
    });
    check("scale of another shape", "blocks.0.ff", &["shapes"], |s| {
        edit(s, |a| a.get_mut("blocks.0.ff.scale").expect("there").1 = vec![256, 2, 2]);
    });
    check("scale of another type", "blocks.0.ff", &["shapes"], |s| {
        edit(s, |a| a.get_mut("blocks.0.ff.scale").expect("there").0 = "I32".into());
    });
    check("weight cut short", "blocks.0.ff", &["shapes"], |s| {
        edit(s, |a| {
            let weight = a.get_mut("blocks.0.ff.weight").expect("there");
            weight.1 = vec![weight.2.len() / 2];
            weight.2.truncate(weight.1[0]);
        });
    });
    check("weight of odd length", "blocks.0.ff", &["shapes"], |s| {
        edit(s, |a| {
            let weight = a.get_mut("blocks.0.ff.weight").expect("there");
            weight.1[0] -= 1;
            weight.2.pop();
        });
    });
    check("NaN in a scale", "blocks.0.ff.scale` is NaN at [0, 1, 0]", &["numbers"], |s| {
        edit(s, |a| a.get_mut("blocks.0.ff.scale").expect("there").2[4..8].copy_from_slice(&f32::NAN.to_le_bytes()));
    });
    check("a negative scale", "blocks.1.ff.scale` is -1", &["numbers"], |s| {
        edit(s, |a| a.get_mut("blocks.1.ff.scale").expect("there").2[..4].copy_from_slice(&(-1f32).to_le_bytes()));
    });
    check("infinity in a factor", "blocks.0.ff.svd_up", &["numbers"], |s| {
        edit(s, |a| {
            a.get_mut("blocks.0.ff.svd_up").expect("there").2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes())
        });
    });
    check("a matrix not listed", "embed_out.weight", &["listed"], |s| {
        edit(s, |a| drop(a.insert("embed_out.weight".into(), ("F32".into(), vec![4, 4], vec![0; 64]))));
        configure(s, |c| {
            let kept = c["modules_to_not_convert"].as_array_mut().expect("a list");
            kept.retain(|p| p != "embed_out.weight");
        });
    });
    check("a quantized layer listed", "blocks.0.ff.weight", &["listed"], |s| {
        configure(s, |c| {
            c["modules_to_not_convert"].as_array_mut().expect("a list").push("blocks.0.ff.weight".into());
        });
    });
    check("another rank", "svd_", &["shapes", "shapes", "shapes"], |s| configure(s, |c| c["svd_rank"] = json!(16)));
    check("what no loader needs", "", &[], |s| configure(s, |c| c["svd_steps"] = json!(1)));
    check("another group size", "scale", &["shapes", "shapes", "shapes"], |s| {
        configure(s, |c| c["group_size"] = json!(64));
    });
    check("another dtype", "blocks.", &["complete", "complete", "complete"], |s| {
        configure(s, |c| c["weights_dtype"] = json!("int4"));
    });
    check("a dtype that nobody knows", "float99", &["dtypes", "dtypes", "dtypes"], |s| {
        configure(s, |c| c["weights_dtype"] = json!("float99"));
    });
    check("scales quantized themselves", "scale_dtype", &["dtypes"; 4], |s| {
        configure(s, |c| c["scale_dtype"] = json!("uint8"));
    });
    check("leftovers", "embed_tokens.svd_up", &["leftovers"], |s| {
        edit(s, |a| drop(a.insert("embed_tokens.svd_up".into(), ("F32".into(), vec![1], vec![0; 4]))));
    });
    check("leftovers of no layer", "nobody.zero_point", &["leftovers"], |s| {
        edit(s, |a| drop(a.insert("nobody.zero_point".into(), ("F32".into(), vec![1], vec![0; 4]))));
    });
    check("configs that differ", "group_size", &["configs agree"], |s| {
        let config = std::fs::read_to_string(s.path("q/config.json")).expect("there");
        s.write("q/config.json", config.replace("\"group_size\": 32", "\"group_size\": 64"));
    });
    check("a config of the wrong type", "group_size", &["config"], |s| configure(s, |c| c["group_size"] = json!("32")));
}

#[test]
fn a_shard_that_is_missing_is_said_with_a_tensor_of_it() {
    let s = Sandbox::new();
    s.write("m/model.safetensors", example());
    assert_eq!(s.run("convert m --dtype uint4 -o q --max-shard-size 20KB").code(), 0);
    let index = s.path("q/model.safetensors.index.json");
    let index: Value = serde_json::from_slice(&std::fs::read(index).expect("there")).expect("JSON");
    let shard = index["weight_map"]["blocks.0.ff.weight"].as_str().expect("a shard").to_owned();
    std::fs::remove_file(s.path("q").join(&shard)).expect("removed");
    let found = errors(&s, "q");
    assert!(found.len() == 1 && found[0].contains(&shard) && found[0].contains("blocks.0.ff"), "{found:?}");
}

#[test]
fn what_folders_hold_besides_is_said() {
    let s = folder();
    s.write("q/old.safetensors", example());
    let warnings = details(&s, "q", "warn");
    assert!(warnings.len() == 1 && warnings[0].contains("old.safetensors"), "{warnings:?}");
    let s = folder();
    assert_eq!(s.run("convert m --metadata-tensors -o described").code(), 0);
    let warnings = details(&s, "described", "warn");
    assert!(warnings.len() == 1 && warnings[0].contains("load_sdnq_model"), "{warnings:?}");
    s.write("q/config.json", "{}");
    let warnings = details(&s, "q", "warn");
    assert!(warnings.iter().any(|w| w.starts_with("config:")) && warnings.iter().any(|w| w.starts_with("class:")));
}

#[test]
fn a_file_is_judged_by_its_own_description() {
    let s = folder();
    assert_eq!(s.run("convert m --dtype uint4 --group-size 32 -o one.safetensors").code(), 0);
    assert_eq!(errors(&s, "one.safetensors"), Vec::<String>::new());
    let mut arrays = read(&s.path("one.safetensors"));
    arrays.remove("blocks.0.ff.zero_point");
    write(&s, "one.safetensors", &arrays);
    let found = errors(&s, "one.safetensors");
    assert!(found.len() == 1 && found[0].contains("blocks.0.ff.zero_point"), "{found:?}");
    arrays.retain(|name, _| !name.ends_with(".weight_metadata"));
    write(&s, "one.safetensors", &arrays);
    assert!(errors(&s, "one.safetensors")[0].contains("not quantized in a known way"));
}

#[test]
fn a_pipeline_is_checked_by_its_components() {
    let s = Sandbox::new();
    s.write("p/model_index.json", "{}");
    s.write("p/transformer/config.json", r#"{"_class_name": "FluxTransformer2DModel"}"#);
    s.write("p/transformer/diffusion_pytorch_model.safetensors", example());
    s.write("p/vae/config.json", "{}");
    s.write("p/vae/diffusion_pytorch_model.safetensors", example());
    assert!(errors(&s, "p")[0].contains("no component"));
    assert_eq!(s.run("convert p -o q --quiet").code(), 0);
    assert_eq!(errors(&s, "q --against p"), Vec::<String>::new());
    let fine = details(&s, "q", "ok");
    assert!(fine.iter().all(|line| line.contains("transformer: ")), "{fine:?}");
    assert_eq!(errors(&s, "q/transformer --against p/transformer"), Vec::<String>::new());
    assert!(errors(&s, "q --component vae")[0].contains("not quantized in a known way"));
}

#[test]
fn a_model_is_compared_with_what_it_was() {
    fn check(change: impl FnOnce(&mut Arrays), part: &str, layer: &str) {
        let s = folder();
        let mut original = read(&s.path("m/model.safetensors"));
        change(&mut original);
        write(&s, "m/model.safetensors", &original);
        let found = errors(&s, "q --against m");
        assert!(found.len() == 1 && found[0].starts_with(part) && found[0].contains(layer), "{found:?}");
    }
    check(|a| drop(a.insert("more.bias".into(), ("F32".into(), vec![1], vec![0; 4]))), "same tensors", "more.bias");
    check(|a| a.get_mut("blocks.0.ff.weight").expect("there").1 = vec![128, 256], "same shapes", "blocks.0.ff");
    check(|a| a.get_mut("norm.weight").expect("there").2[0] ^= 1, "kept tensors", "norm.weight");
    check(|a| a.get_mut("steps").expect("there").2[0] ^= 1, "kept tensors", "steps");
    check(|a| a.get_mut("blocks.0.ff.weight").expect("there").2.reverse(), "relative error", "blocks.0.ff.weight");
}

#[test]
fn other_models_are_not_judged() {
    fn says(run: Run, part: &str) {
        assert_eq!(run.code(), 1, "{}", run.stderr());
        assert!(run.stdout().contains(part), "{}", run.stdout());
    }
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    says(s.run("validate m.safetensors"), "not quantized in a known way");
    says(s.run("validate --demo"), "not quantized in a known way");
    s.write("broken.safetensors", "x");
    says(s.run("validate broken.safetensors"), "✗ opens");
    assert_eq!(s.run("validate").code(), 2);
    assert_eq!(s.run("validate m.safetensors --demo").code(), 2);
}
