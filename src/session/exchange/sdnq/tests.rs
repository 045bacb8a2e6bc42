//! Every decision is compared with a port of the library's own, made from its config alone.
mod configs;
mod patterns;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::core::rules::Pattern;
use crate::core::{Error, Family, Rule, Settings};
use crate::session::preset::tests::check_param_name_in;
use crate::session::profile::{PresetChoice, Profile};

/// Integers of 1 to 8 bits.
fn parse(name: &str) -> Result<Dtype> {
    let digits = name.strip_prefix("uint").or_else(|| name.strip_prefix("int"));
    match digits.and_then(|d| d.parse().ok()) {
        Some(1u32..=8) => Ok(Dtype::new(name)),
        _ => Err(Error::usage(format!("sdnq has no dtype `{name}`"))),
    }
}

fn bits(dtype: &Dtype) -> u32 {
    dtype.as_str().trim_start_matches(char::is_alphabetic).parse().expect("digits")
}

fn dtypes() -> Dtypes<'static> {
    Dtypes { default: Dtype::new("int8"), parse: &parse, bits: &bits }
}

/// What becomes of a weight: `keep`, or its recipe.
fn words(k: &Kwargs) -> String {
    let Kwargs { dtype, group_size, svd_rank, svd_steps, hadamard, codebook } = k;
    let svd = if *svd_rank > 0 { format!("rank {svd_rank} steps {svd_steps}") } else { "no svd".into() };
    format!("{dtype} group {group_size} {svd} hadamard {hadamard} codebook {codebook}")
}

fn ours(settings: &Settings, name: &str) -> String {
    let d = settings.decide(&[name]);
    if d.keeps() { "keep".into() } else { words(&Kwargs::of(&d.patch, &dtypes())) }
}

/// `utils.get_minimum_dtype`.
fn minimum_dtype(weights_dtype: &str, name: &str, modules: &Map<String, Value>) -> String {
    for (key, list) in modules {
        let list: Vec<&str> = list.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        if !check_param_name_in(name, &list) {
            continue;
        }
        let key = key.to_lowercase();
        if !(key.starts_with("minimum") || key.ends_with("bit") || key.ends_with("bits")) {
            return key;
        }
        let mut text = key.clone();
        for prefix in ["minimum", "-", "_"] {
            text = text.strip_prefix(prefix).unwrap_or(&text).to_owned();
        }
        for suffix in ["bits", "bit", "-", "_"] {
            text = text.strip_suffix(suffix).unwrap_or(&text).to_owned();
        }
        let unsigned = text.starts_with("uint");
        let digits = text.trim_start_matches("uint").trim_start_matches("int").to_owned();
        let least: u32 = digits.parse().expect("a number");
        if bits(&Dtype::new(weights_dtype)) < least {
            return if unsigned || least <= 4 { format!("uint{digits}") } else { format!("int{digits}") };
        }
        return weights_dtype.to_owned();
    }
    weights_dtype.to_owned()
}

/// What the library would do with a weight of that name, after `utils.get_quant_kwargs`.
fn theirs(config: &Value, name: &str) -> String {
    let list = |key: &str| -> Vec<String> {
        let list = config[key].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let keep = list("modules_to_not_convert");
    if check_param_name_in(name, &keep.iter().map(String::as_str).collect::<Vec<_>>()) {
        return "keep".into();
    }
    let mut kwargs = json!({
        "weights_dtype": "int8", "group_size": 0, "use_svd": false, "svd_rank": 32, "svd_steps": 8,
        "use_hadamard": false, "hadamard_group_size": 256, "use_codebook": false,
    });
    let map = kwargs.as_object_mut().expect("an object");
    for (key, value) in map.iter_mut() {
        if let Some(said) = config.get(key) {
            *value = said.clone();
        }
    }
    let entries = config["modules_quant_config"].as_object().cloned().unwrap_or_default();
    if let Some((_, entry)) = entries.iter().find(|(pattern, _)| check_param_name_in(name, &[pattern])) {
        map.extend(entry.as_object().expect("an object").clone());
    }
    let by_dtype = config["modules_dtype_dict"].as_object().cloned().unwrap_or_default();
    let dtype = minimum_dtype(map["weights_dtype"].as_str().expect("a dtype"), name, &by_dtype);
    let number = |key: &str| kwargs[key].as_i64().expect("a number");
    let on = |key: &str, value: i64| if kwargs[key] == true { value as u32 } else { 0 };
    words(&Kwargs {
        dtype: Dtype::new(&dtype),
        group_size: number("group_size"),
        svd_rank: on("use_svd", number("svd_rank")),
        svd_steps: number("svd_steps") as u32,
        hadamard: on("use_hadamard", number("hadamard_group_size")),
        codebook: kwargs["use_codebook"] == true,
    })
}

/// The config as the library writes it: with its keys sorted.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            keys.into_iter().map(|k| (k.clone(), sorted(&map[k]))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// Names of a model whose parts are in each other's names.
fn names() -> Vec<String> {
    let mut names = vec!["proj_out.weight".to_owned(), "x_embedder.weight".into(), "ff.weight".into()];
    for block in ["blocks", "single_blocks"] {
        for i in [0, 1, 10] {
            for layer in ["attn.to_q", "attn.to_k", "attn.to_out.0", "ff.net.0", "norm.linear"] {
                names.push(format!("{block}.{i}.{layer}.weight"));
            }
        }
    }
    names
}
