use super::*;
use crate::core::model::Span;

fn array(name: &str, storage: Storage, shape: &[u64]) -> Stored {
    Stored { name: name.to_owned(), storage, shape: shape.to_vec(), span: Span { file: 0, offset: 0, len: 0 } }
}

/// A layer of 256 × 128 in V2 names.
fn layer(name: &str, scales: Storage, rank: u64) -> Vec<Stored> {
    let groups = if scales == Storage::F8_E4M3 { 8 } else { 2 };
    vec![
        array(&format!("{name}.qweight"), Storage::I8, &[256, 64]),
        array(&format!("{name}.wscales"), scales, &[groups, 256]),
        array(&format!("{name}.proj_down"), Storage::BF16, &[128, rank]),
    ]
}

fn flux() -> Value {
    json!({
        "_class_name": "FluxTransformer2DModel", "attention_head_dim": 128, "guidance_embeds": true, "in_channels": 64,
        "joint_attention_dim": 4096, "num_attention_heads": 24, "num_layers": 19, "num_single_layers": 38,
        "patch_size": 1, "pooled_projection_dim": 768, "axes_dims_rope": [16, 56, 56],
    })
}

#[test]
fn a_quantization_config_is_as_loaders_read_it() {
    fn check(precision: Precision, rank: u64, skip: Option<bool>, expected: Value) {
        let text = quantization_config(precision, rank, skip);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), expected);
    }
    let int4 = json!({"dtype": "int4", "scale_dtype": null, "group_size": 64});
    check(Precision::Int4, 32, None, json!({"method": "svdquant", "weight": int4, "activation": int4, "rank": 32}));
    check(
        Precision::Fp4,
        128,
        Some(true),
        json!({
            "method": "svdquant",
            "weight": {"dtype": "fp4_e2m1_all", "scale_dtype": [null, "fp8_e4m3_nan"], "group_size": 16},
            "activation": {"dtype": "fp4_e2m1_all", "scale_dtype": "fp8_e4m3_nan", "group_size": 16},
            "rank": 128,
            "skip_refiners": true,
        }),
    );
}

#[test]
fn classes_are_nunchakus() {
    fn check(class: &str, expected: Option<&str>) {
        assert_eq!(model_class(class), expected, "{class}");
    }
    check("FluxTransformer2DModel", Some("NunchakuFluxTransformer2dModel"));
    check("QwenImageTransformer2DModel", Some("NunchakuQwenImageTransformer2DModel"));
    check("ZImageTransformer2DModel", Some("NunchakuZImageTransformer2DModel"));
    check("UNet2DConditionModel", Some("NunchakuSDXLUNet2DConditionModel"));
    check("ChromaTransformer2DModel", None);
}

#[test]
fn comfy_builds_the_flux_that_the_config_says() {
    fn check(change: Value, class: &str, expected: Value) {
        let mut config = flux();
        for (key, value) in change.as_object().expect("an object") {
            config[key] = value.clone();
        }
        let comfy = comfy_config(&config).expect("a FLUX");
        assert_eq!(comfy["model_class"], class, "{change}");
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(comfy["model_config"][key], *value, "{change}: {key}");
        }
    }
    check(
        json!({}),
        "Flux",
        json!({
            "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 19,
            "depth_single_blocks": 38, "hidden_size": 3072, "num_heads": 24, "mlp_ratio": 4.0, "context_in_dim": 4096,
            "vec_in_dim": 768, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": true, "guidance_embed": true,
            "disable_unet_model_creation": true,
        }),
    );
    check(json!({"guidance_embeds": false}), "FluxSchnell", json!({"guidance_embed": false}));
    check(json!({"in_channels": 384, "out_channels": 64}), "Flux", json!({"in_channels": 96, "out_channels": 16}));
    check(json!({"num_layers": 2, "attention_head_dim": 64}), "Flux", json!({"depth": 2, "hidden_size": 1536}));
    assert_eq!(comfy_config(&json!({"_class_name": "QwenImageTransformer2DModel"})), None);
}

#[test]
fn a_sources_config_is_kept_as_its_text() {
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(source_config(text).ok().as_deref(), expected, "{text}");
    }
    check("{ \"a\" : 1 }\n", Some("{ \"a\" : 1 }\n"));
    check(r#"{"a":1,"quantization_config":{"quant_method":"sdnq"},"b":2}"#, Some("{\n  \"a\": 1,\n  \"b\": 2\n}"));
    check("[]", None);
    check("{", None);
}

#[test]
fn extras_are_text() {
    let all: std::collections::BTreeMap<String, String> = extras(&flux()).into_iter().collect();
    let get = |key: &str| all.get(key).map(String::as_str);
    assert_eq!(get("model_type"), Some("FluxTransformer2DModel"));
    assert_eq!(get("architectures"), Some(r#"["FluxTransformer2DModel"]"#));
    assert_eq!(get("hidden_size"), Some("3072"));
    assert_eq!(get("num_hidden_layers"), Some("19"));
    assert_eq!(serde_json::from_str::<Value>(get("full_config").expect("there")).expect("JSON"), flux());
    assert_eq!(extras(&json!({})), [("full_config".to_owned(), "{}".to_owned())]);
}

#[test]
fn arrays_tell_precision_and_rank() {
    type Expected = Option<(Precision, u64, Option<bool>)>;
    fn check(stored: Vec<Stored>, expected: Result<Expected, &str>) {
        match (find(&stored), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.map(|f| (f.precision, f.rank, f.skip_refiners)), expected);
            }
            (Err(e), Err(part)) => assert!(e.to_string().contains(part), "{e}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }
    let int4 = || layer("layers.0.attention.to_qkv", Storage::BF16, 32);
    let with = |more: Vec<Stored>| [int4(), more].concat();
    check(int4(), Ok(Some((Precision::Int4, 32, None))));
    check(layer("l", Storage::F8_E4M3, 128), Ok(Some((Precision::Fp4, 128, None))));
    // An array in 8 bits that is no scale of codes says nothing.
    check(with(vec![array("proj_out.weight", Storage::F8_E4M3, &[64, 64])]), Ok(Some((Precision::Int4, 32, None))));
    let refiner = "noise_refiner.0.attention.to_q.weight";
    check(with(vec![array(refiner, Storage::BF16, &[8, 8])]), Ok(Some((Precision::Int4, 32, Some(true)))));
    let quantized = layer("noise_refiner.0.attention.to_qkv", Storage::BF16, 32);
    check(with(quantized), Ok(Some((Precision::Int4, 32, Some(false)))));
    check(vec![array("a.weight", Storage::BF16, &[8, 8])], Ok(None));
    check(with(layer("m", Storage::F8_E4M3, 32)), Err("`m` fp4 with rank 32"));
    check(with(layer("m", Storage::BF16, 16)), Err("rank 16"));
    check(layer("l", Storage::F32, 16), Err("`l.wscales` is F32"));
    check(int4()[..2].to_vec(), Err("no `lora_down` or `proj_down`"));
}

#[test]
fn a_header_says_all_that_loaders_read() {
    let found = Found { precision: Precision::Int4, rank: 32, skip_refiners: None };
    let keys = |pairs: Vec<(String, String)>| pairs.into_iter().map(|(k, _)| k).collect::<Vec<_>>();
    let text = flux().to_string();
    let four = header(&text, found, false).expect("a header");
    assert_eq!(four[0], ("config".to_owned(), text.clone()));
    assert_eq!(keys(four), ["config", "quantization_config", "model_class", "comfy_config"]);
    assert!(keys(header(&text, found, true).expect("a header")).len() > 8);
    let z =
        header(r#"{"_class_name":"ZImageTransformer2DModel"}"#, Found { skip_refiners: Some(true), ..found }, false);
    let z = z.expect("a header");
    assert!(z[1].1.contains(r#""skip_refiners":true"#), "{}", z[1].1);
    assert_eq!(z[3].1, "{}");
    let no = |config: &str| header(config, found, false).expect_err("refused").to_string();
    assert!(no("{}").contains("_class_name"));
    assert!(no(r#"{"_class_name":"ChromaTransformer2DModel"}"#).contains("Nunchaku does not load"));
}

#[test]
fn a_config_of_another_size_is_refused() {
    fn check(config: Value, names: &[&str], refused: Option<&str>) {
        let stored: Vec<Stored> = names.iter().map(|n| array(n, Storage::BF16, &[1])).collect();
        let message = fits(&config, stored.iter().map(|s| s.name.as_str())).err().map(|e| e.to_string());
        match refused {
            None => assert_eq!(message, None, "{config}"),
            Some(part) => assert!(message.as_deref().is_some_and(|m| m.contains(part)), "{message:?}"),
        }
    }
    let mut small = flux();
    small["num_layers"] = json!(2);
    small["num_single_layers"] = json!(1);
    let names =
        ["transformer_blocks.0.a", "transformer_blocks.1.a", "single_transformer_blocks.0.a", "proj_out.weight"];
    check(small.clone(), &names, None);
    check(flux(), &names, Some("says 19 `transformer_blocks` (num_layers), and the file has 2"));
    check(small.clone(), &names[1..2], Some("single_transformer_blocks"));
    let qwen = json!({"_class_name": "QwenImageTransformer2DModel", "num_layers": 2});
    check(qwen.clone(), &names[..2], None);
    check(qwen, &names, Some("has no `single_transformer_blocks`"));
    check(json!({"_class_name": "SanaTransformer2DModel"}), &names, None);
}
