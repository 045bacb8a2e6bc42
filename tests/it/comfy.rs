//! Files for ComfyUI: what may be said on the command line, and each way to break a file found by `validate`.
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Sandbox, example, read, with_header};

type Arrays = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

/// A model of four layers, and what it becomes with those words.
fn converted(words: &str) -> Sandbox {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let run = s.run(&format!("convert m.safetensors --to comfy {words} -o q.safetensors"));
    assert_eq!(run.code(), 0, "{words}: {}", run.stderr());
    s
}

fn write(s: &Sandbox, metadata: &Value, arrays: &Arrays) {
    let mut header = serde_json::Map::new();
    if metadata.is_object() {
        header.insert("__metadata__".into(), metadata.clone());
    }
    let mut data = Vec::new();
    for (name, (dtype, shape, bytes)) in arrays {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend(bytes);
    }
    s.write("q.safetensors", with_header(&Value::Object(header).to_string(), &data));
}

/// The checks of a level, as `name: detail`.
fn checks(s: &Sandbox, words: &str, level: &str) -> Vec<String> {
    let run = s.run(&format!("validate {words} --json"));
    let report: Value = serde_json::from_slice(&run.0.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stderr()));
    assert_eq!(run.code(), i32::from(report["ok"] != true), "{report:#}");
    let all = report["checks"].as_array().expect("a list").iter().filter(|c| c["level"] == level);
    all.map(|c| format!("{}: {}", c["name"].as_str().expect("a name"), c["detail"].as_str().expect("text"))).collect()
}

#[test]
fn what_mixdown_writes_passes() {
    for words in [
        "",
        "--dtype float8_e5m2",
        "--dtype int8 --group-size -2",
        "--dtype int8 --convrot --quant-embedding",
        "--dtype nvfp4 --scale-search mse --quant-metadata",
        "--dtype mxfp8 --no-metadata-tensors",
        "--dtype convrot_w4a4",
        "--dtype w4a8 --tensor-type ff=w6a8",
        "--dtype awq",
    ] {
        let s = converted(words);
        let out = "q.safetensors --against m.safetensors";
        assert_eq!(checks(&s, out, "error"), Vec::<String>::new(), "{words}");
    }
}

const LAYER: &str = "blocks.0.ff";

fn description(arrays: &mut Arrays, layer: &str, text: &str) {
    let key = format!("{layer}.comfy_quant");
    arrays.insert(key, ("U8".into(), vec![text.len()], text.as_bytes().to_vec()));
}

fn rename(arrays: &mut Arrays, from: &str, to: &str) {
    let array = arrays.remove(from).expect(from);
    arrays.insert(to.into(), array);
}

/// words, what is done to the file, the level, and what is said of it.
type Fault = (&'static str, fn(&mut Arrays, &mut Value), &'static str, &'static str);

const FAULTS: [Fault; 24] = [
    (
        "",
        |a, _| drop(a.remove("blocks.0.ff.comfy_quant")),
        "error",
        "leftovers: `blocks.0.ff.weight` has no description",
    ),
    (
        "",
        |a, _| description(a, LAYER, r#"{"group_size": 3}"#),
        "error",
        "formats: `blocks.0.ff`: the description has no `format`",
    ),
    (
        "",
        |a, _| description(a, LAYER, r#"{"format": "float9"}"#),
        "error",
        "formats: `blocks.0.ff`: ComfyUI knows no format `float9`",
    ),
    (
        "",
        |a, _| description(a, LAYER, r#"{"format": "float8_e4m3fn_rowwise"}"#),
        "error",
        "formats: `blocks.0.ff`: float8_e4m3fn_rowwise needs the custom node",
    ),
    (
        "",
        |a, _| description(a, LAYER, "float8"),
        "error",
        "described: `blocks.0.ff.comfy_quant`: its description is not JSON",
    ),
    ("", |a, _| drop(a.remove("blocks.0.ff.weight_scale")), "error", "complete: `blocks.0.ff.weight_scale` is missing"),
    ("", |a, _| drop(a.remove("blocks.0.ff.weight")), "error", "complete: `blocks.0.ff.weight` is missing"),
    (
        "",
        |a, _| {
            let scale = a["blocks.0.ff.weight_scale"].clone();
            a.insert("blocks.0.ff.scale_weight".into(), scale);
        },
        "error",
        "complete: `blocks.0.ff.scale_weight` stands beside `blocks.0.ff.weight_scale`",
    ),
    (
        "",
        |a, _| rename(a, "blocks.0.ff.weight_scale", "blocks.0.ff.scale_weight"),
        "error",
        "complete: `blocks.0.ff.scale_weight` stands in the place of `blocks.0.ff.weight_scale`",
    ),
    (
        "--dtype int8",
        |a, _| a.get_mut("blocks.0.ff.weight").expect("there").0 = "U8".into(),
        "error",
        "shapes: `blocks.0.ff.weight`: U8 is not what int8_tensorwise is stored as",
    ),
    (
        "--dtype int8",
        |a, _| {
            let scale = a.get_mut("blocks.0.ff.weight_scale").expect("there");
            (scale.1, scale.2) = (vec![7], vec![0; 28]);
        },
        "error",
        "shapes: `blocks.0.ff.weight_scale` has the shape [7]",
    ),
    (
        "--dtype nvfp4",
        |a, _| a.get_mut("blocks.0.ff.weight_scale").expect("there").1 = vec![128, 16],
        "error",
        "shapes: `blocks.0.ff.weight_scale` has the shape [128, 16], not [256, 8]",
    ),
    (
        "--dtype nvfp4",
        |a, _| drop(a.remove("blocks.0.ff.weight_scale_2")),
        "error",
        "complete: `blocks.0.ff.weight_scale_2` is missing",
    ),
    (
        "--dtype int8 --convrot",
        |a, _| description(a, LAYER, r#"{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 128}"#),
        "error",
        "shapes: `blocks.0.ff`: a rotation of 128, which is no power of 4",
    ),
    (
        "",
        |a, _| a.get_mut("blocks.0.ff.weight").expect("there").0 = "F8_E5M2".into(),
        "error",
        "shapes: `blocks.0.ff` is said to be float8_e4m3fn, and is F8_E5M2 with scales []",
    ),
    (
        "",
        |a, _| {
            let rows = a["blocks.0.ff.weight"].1[0];
            let scale = a.get_mut("blocks.0.ff.weight_scale").expect("there");
            (scale.1, scale.2) = (vec![rows, 1], scale.2.repeat(rows));
        },
        "error",
        "shapes: `blocks.0.ff` is said to be float8_e4m3fn, and is F8_E4M3 with scales [",
    ),
    (
        "--dtype int8",
        |a, _| {
            let scale = a.get_mut("blocks.0.ff.weight_scale").expect("there");
            scale.1.truncate(1);
        },
        "error",
        "which ComfyUI lays over columns",
    ),
    (
        "--dtype awq",
        |a, _| description(a, LAYER, r#"{"format": "awq_w4a16", "group_size": 1}"#),
        "error",
        "shapes: `blocks.0.ff.weight_scale` has the shape",
    ),
    (
        "--dtype nvfp4",
        |a, _| {
            let scale = a["blocks.0.ff.weight_scale_2"].clone();
            a.insert("blocks.0.ff.pre_quant_scale".into(), scale);
        },
        "warn",
        "modules: `blocks.0.ff.pre_quant_scale` scales activations",
    ),
    (
        "--dtype nvfp4",
        |a, _| {
            for part in ["weight", "weight_scale", "weight_scale_2", "comfy_quant"] {
                rename(a, &format!("blocks.0.ff.{part}"), &format!("img_in.{part}"));
            }
        },
        "error",
        "modules: `img_in`: ComfyUI recognises the model by this weight's shape",
    ),
    (
        "--dtype nvfp4",
        |a, _| {
            for part in ["weight", "weight_scale", "weight_scale_2", "comfy_quant"] {
                rename(a, &format!("blocks.0.ff.{part}"), &format!("embed_tokens.{part}"));
            }
        },
        "error",
        "modules: `embed_tokens` is an embedding, which ComfyUI does not read in nvfp4",
    ),
    (
        "",
        |a, _| a.get_mut("blocks.0.ff.weight").expect("there").2[5] = 0x7f,
        "error",
        "numbers: `blocks.0.ff.weight` has NaN at 5",
    ),
    (
        "--quant-metadata",
        |a, _| {
            for part in ["weight", "weight_scale", "comfy_quant"] {
                a.remove(&format!("blocks.0.ff.{part}"));
            }
        },
        "error",
        "described: `_quantization_metadata` speaks of `blocks.0.ff`, which has no weight in the file",
    ),
    (
        "",
        |a, _| {
            a.insert("elsewhere.weight_scale".into(), ("F32".into(), vec![], vec![0; 4]));
        },
        "warn",
        "leftovers: `elsewhere.weight_scale` belongs to no layer",
    ),
];

#[test]
fn each_fault_is_named() {
    for (words, change, level, expected) in FAULTS {
        let s = converted(&format!("{words} --no-metadata-tensors"));
        let mut arrays = read(&s.path("q.safetensors"));
        let mut metadata = json!(null);
        if words.contains("--quant-metadata") {
            let shown = s.json("inspect q.safetensors --json");
            metadata = json!({"_quantization_metadata": shown["metadata"]["_quantization_metadata"]});
        }
        change(&mut arrays, &mut metadata);
        if metadata.is_object() && !metadata["_quantization_metadata"].is_string() {
            let text = metadata["_quantization_metadata"].to_string();
            metadata = json!({"_quantization_metadata": text});
        }
        write(&s, &metadata, &arrays);
        let found = checks(&s, "q.safetensors", level);
        assert!(found.iter().any(|c| c.contains(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn what_a_format_cannot_hold_falls_back_and_says_why() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let reason = |words: &str, name: &str| {
        let plan = s.json(&format!("plan m.safetensors --to comfy {words} --json"));
        let rows = plan["tensors"].as_array().expect("rows");
        let row = rows.iter().find(|r| r["name"] == name).expect(name);
        (row["to"].as_str().expect("a dtype").to_owned(), row["reason"].as_str().unwrap_or_default().to_owned())
    };
    let check = |words: &str, name: &str, to: &str, part: &str| {
        let (dtype, why) = reason(words, name);
        assert!(dtype == to && why.contains(part), "{words} {name}: {dtype}, {why}");
    };
    check("--dtype awq --group-size 96", "blocks.0.ff.weight", "int8_tensorwise", "128 columns are no multiple of 96");
    check(
        "--tensor-type embed=nvfp4 --quant-embedding",
        "embed_tokens.weight",
        "int8_tensorwise",
        "no embedding in nvfp4",
    );
    check("--dtype awq --group-size 1", "blocks.0.ff.weight", "int8_tensorwise", "groups of 1; it takes even ones");
    check("--dtype nvfp4", "embed_tokens.weight", "F32", "embed");
    check("--dtype nvfp4", "norm.weight", "F32", "norm");
    check("--dtype int8 --convrot", "blocks.0.ff.weight", "int8_tensorwise", "rotated by 64s");
    check("--dtype nvfp4", "steps", "I64", "not a float");
}

#[test]
fn wrong_words_say_who_has_them() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let check = |words: &str, part: &str| {
        let run = s.run(&format!("plan m.safetensors {words}"));
        assert!(run.code() == 2 && run.stderr().contains(part), "{words}: {}", run.stderr());
    };
    check("--to sdnq --convrot", "comfy has it: say --to comfy");
    check("--to sdnq --scale-search mse", "comfy, nunchaku have it");
    check("--to float --key-prefix x.", "comfy has it: say --to comfy");
    check("--to comfy --svd-rank 8", "no low-rank branch");
    check("--to comfy --dtype float8_e4m3fn_blockwise", "it is read, not written");
    check("--to comfy --dtype nvfp5", "nvfp4");
    check("--to comfy --convrot=128", "give 4, 16, 64, 256 or 1024");
    check("--to comfy --convrot", "float8_e4m3fn is not rotated; int8_tensorwise can be");
    check("--to comfy --dtype nvfp4 --group-size 32", "nvfp4 has its own, 16");
    check("--to comfy --scale-search best", "give absmax or mse");
    check("--to gguf --diffusers-names", "have it");
}

#[test]
fn an_original_shape_that_cannot_be_is_passed_over() {
    // Padded, they are what is stored, and none is a shape of these codes.
    for shape in ["[18446744073709551615, 128]", "[0, 0]", "[256, 18446744073709551601]", "[-1, 128]"] {
        let s = converted("--dtype nvfp4 --no-metadata-tensors");
        let mut arrays = read(&s.path("q.safetensors"));
        description(&mut arrays, LAYER, &format!(r#"{{"format": "nvfp4", "orig_shape": {shape}}}"#));
        write(&s, &json!(null), &arrays);
        let run = s.run("convert q.safetensors --to float -o back.safetensors --force");
        assert_eq!(run.code(), 0, "{shape}: {}", run.stderr());
        assert_eq!(read(&s.path("back.safetensors"))["blocks.0.ff.weight"].1, [256, 128], "{shape}");
    }
}

#[test]
fn an_adapter_is_not_overwritten() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let floats = |n: usize| ("F32".to_owned(), n, 0.5f32.to_le_bytes().repeat(n));
    let mut arrays = Arrays::new();
    for (name, shape) in [("A", vec![2, 128]), ("B", vec![256, 2])] {
        let (dtype, _, bytes) = floats(shape.iter().product());
        arrays.insert(format!("blocks.0.ff.lora_{name}.weight"), (dtype, shape, bytes));
    }
    write(&s, &json!(null), &arrays);
    let before = std::fs::read(s.path("q.safetensors")).expect("the adapter");
    let convert = "convert m.safetensors --lora q.safetensors --to float --dtype F32 --force -o";
    s.run(&format!("{convert} q.safetensors")).fails(1, &["is the model that is being read"]);
    s.run(&format!("{convert} o.safetensors --loss-report q.safetensors")).fails(1, &["is part of the model"]);
    assert_eq!(std::fs::read(s.path("q.safetensors")).expect("the adapter"), before);
    let run = s.run(&format!("{convert} o.safetensors"));
    assert!(run.code() == 0 && run.stdout().contains("merged into 1 tensors"), "{}{}", run.stdout(), run.stderr());
}

#[test]
fn a_prefix_is_set() {
    let s = converted("--dtype int8 --key-prefix model.diffusion_model.");
    let names: Vec<String> = read(&s.path("q.safetensors")).into_keys().collect();
    assert!(names.iter().all(|n| n.starts_with("model.diffusion_model.")), "{names:?}");
}

#[test]
fn layer_configs_of_convert_to_quant_come_and_go() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    s.write(
        "c.json",
        r#"{"_default": {"format": "nvfp4"}, "attn": {"skip": true}, "blocks\\.1\\.attn": {"format": "mxfp8"}}"#,
    );
    assert_eq!(s.run("profile import c.json --as ctq -o p.toml").code(), 0);
    let plan = s.json("plan m.safetensors --profile p.toml --json");
    let of = |name: &str| {
        let rows = plan["tensors"].as_array().expect("rows");
        rows.iter().find(|r| r["name"] == name).expect(name)["to"].clone()
    };
    assert_eq!(of("blocks.0.attn.to_q.weight"), "F32");
    assert_eq!(of("blocks.1.attn.to_q.weight"), "mxfp8");
    assert_eq!(of("blocks.0.ff.weight"), "nvfp4");
    let exported = s.json("profile export p.toml --as ctq m.safetensors");
    assert_eq!(exported["^blocks\\.1\\.attn\\.to_q$"]["format"], "mxfp8");
    assert_eq!(exported["^blocks\\.0\\.attn\\.to_q$"]["skip"], true);
    s.run("profile export p.toml --as ctq").fails(2, &["give MODEL"]);
}
