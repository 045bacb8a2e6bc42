//! `--dynamic`: each layer's dtype by what it loses.
use serde_json::Value;

use crate::support::{Sandbox, example};

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The quantized rows of a report: name and dtype.
fn dtypes(report: &Value) -> Vec<(String, String)> {
    let rows = report["tensors"].as_array().expect("rows").iter().filter(|t| t["excluded"] == false);
    rows.map(|t| (text(&t["name"]), text(&t["to"]))).collect()
}

#[test]
fn a_layer_gets_the_first_dtype_that_passes() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    // Of a sum of three uniform numbers, int4 by row loses some 0.8 % of the variance, uint4 less, int5 a quarter of it.
    let report = s.json("trial m.safetensors --dtype int4 --group-size -1 --dynamic=0.004 --json");
    let chosen = dtypes(&report);
    assert_eq!(chosen.len(), 4);
    for row in report["tensors"].as_array().expect("rows").iter().filter(|t| t["excluded"] == false) {
        // The mean is nearly nothing, so that the relative error is nearly the share of the variance.
        let lost = row["relative_error"].as_f64().expect("a loss");
        assert!(lost <= 0.004 * 1.01, "{row}");
    }
    for (name, dtype) in &chosen {
        assert_ne!(dtype, "int4", "{name}");
        let before = s.json("trial m.safetensors --dtype int4 --group-size -1 --json");
        let row = before["tensors"].as_array().expect("rows").iter().find(|t| t["name"] == name.as_str());
        let lost = row.expect("the row")["relative_error"].as_f64().expect("a loss");
        assert!(lost > 0.004 * 0.99, "{name} would have passed as int4: {lost}");
    }
}

#[test]
fn choices_are_said_and_saved_as_overrides() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let flags = "--dtype uint2 --svd-rank 4 --hadamard";
    let run = s.run(&format!("plan m.safetensors {flags} --dynamic --save-profile p.toml --json"));
    assert_eq!(run.code(), 0, "{}", run.stderr());
    assert!(run.stderr().contains("read") && run.stderr().contains("4 layers"), "{}", run.stderr());
    let chosen: Value = serde_json::from_str(&run.stdout()).expect("JSON");
    assert!(chosen["warnings"].to_string().contains("--dynamic read"), "{}", chosen["warnings"]);
    let again = s.json("plan m.safetensors --profile p.toml --json");
    assert_eq!(again["tensors"], chosen["tensors"], "the profile holds the choices");
    let text = std::fs::read_to_string(s.path("p.toml")).expect("the profile");
    assert!(text.contains("[tensor.\"blocks.0.ff.weight\"]"), "{text}");
}

#[test]
fn what_no_dtype_passes_for_is_kept() {
    let s = Sandbox::new();
    s.write("m.safetensors", example());
    let report = s.json("plan m.safetensors --dtype int15 --dynamic=0 --json");
    assert_eq!(dtypes(&report), []);
    assert!(report["warnings"].to_string().contains("no dtype passes for 4"), "{}", report["warnings"]);
}

#[test]
fn it_takes_a_number_or_nothing() {
    fn check(words: &str, part: &str) {
        let s = Sandbox::new();
        s.write("m.safetensors", example());
        s.run(words).fails(2, &[part]);
    }
    check("plan m.safetensors --dynamic=much", "--dynamic=much");
    check("plan m.safetensors --dynamic=-1", "--dynamic=-1");
    check("plan m.safetensors --dynamic=nan", "--dynamic=nan");
    check("plan m.safetensors --to float --dynamic", "sdnq has it");
    check("plan m.safetensors --codebook", "uint4");
}
