//! Held to llama-quantize's own choices: `tests/data/gguf/mixtures.json` has what llama.cpp (0c1e570) answered for models
//! of many kinds. In `types` each character stands for a tensor, in output order, and is its type's id: `0` to `9`, then
//! `A` to `Z`, then `a` on.
use serde_json::Value;

use super::Named;
use super::rules::{parse_file, parse_type};
use super::*;

fn digit(ty: Type) -> char {
    let id = ty as u8;
    char::from(match id {
        0..10 => b'0' + id,
        10..36 => b'A' + id - 10,
        _ => b'a' + id - 36,
    })
}

fn tensors(model: &Value) -> Vec<Source> {
    let layers = model["layers"].as_u64().expect("a number");
    let mut all = Vec::new();
    for line in model["tensors"].as_array().expect("tensors") {
        let name = line[0].as_str().expect("a name");
        let dims: Vec<u64> = line[1].as_array().expect("dims").iter().filter_map(Value::as_u64).collect();
        let from = line[2].as_str().map_or(Type::F32, |t| Type::by_name(t).expect(t));
        let times = if name.contains("{}") { layers } else { 1 };
        all.extend((0..times).map(|i| Source { name: name.replace("{}", &i.to_string()), dims: dims.clone(), from }));
    }
    in_order(&mut all, |t| &t.name);
    all
}

fn hyper(model: &Value) -> Hyper {
    let arch = model["arch"].as_str().expect("a name");
    let field = |key: &str| model[key].as_u64();
    Hyper::read(arch, |key| match key.strip_prefix(arch)? {
        ".block_count" => field("n_layer").or(field("layers")),
        ".attention.head_count" => field("heads"),
        ".attention.head_count_kv" => field("kv"),
        ".expert_count" => field("experts"),
        _ => None,
    })
}

#[test]
fn every_mixture_chooses_as_llama_quantize_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/gguf/mixtures.json");
    let models: Value = serde_json::from_str(&std::fs::read_to_string(path).expect(path)).expect("JSON");
    let (mut compared, mut wrong) = (0, Vec::new());
    for model in models.as_array().expect("models") {
        let (tensors, hyper) = (tensors(model), hyper(model));
        for run in model["runs"].as_array().expect("runs") {
            let given = &run["options"];
            let ty = |key: &str| given[key].as_str().map(|t| parse_type(t).expect(t));
            let options = Options {
                pure: given["pure"] == true,
                leave_output: given["leave_output"] == true,
                output_type: ty("output"),
                embedding_type: ty("embedding"),
                has_imatrix: run["imatrix"] == true,
                ..Options::new(Mixture::parse(run["mixture"].as_str().expect("a name")).expect("a mixture"))
            };
            let file = parse_file(given["file"].as_str().unwrap_or_default()).expect("entries");
            let choices = choose(&hyper, &tensors, &options, &|name| {
                let rule = file.iter().find(|e| e.pattern.hits(&[name]))?;
                Some(Named { ty: parse_type(&rule.dtype).expect("a type"), by: rule.dtype.clone() })
            });
            let Some(expected) = run["types"].as_str() else {
                assert!(choices.is_err(), "{} of {}: llama-quantize refuses", model["name"], run["mixture"]);
                continue;
            };
            let choices = choices.expect("types");
            assert_eq!(choices.len(), expected.len(), "{}", model["name"]);
            compared += choices.len();
            for ((tensor, choice), expected) in tensors.iter().zip(&choices).zip(expected.chars()) {
                if digit(choice.ty) != expected {
                    let place = format!("{} {} {given} {}", model["name"], options.mixture, tensor.name);
                    wrong.push(format!("{place}: {} ({}), not {expected}", choice.ty, choice.why));
                }
            }
        }
    }
    println!("{compared} choices compared");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(30)].join("\n"));
    assert!(compared > 10_000, "{compared}");
}
