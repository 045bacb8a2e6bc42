use super::*;

fn imported(text: &str) -> (Settings, Vec<String>) {
    let imported = import(&serde_json::from_str(text).expect("JSON")).expect(text);
    (imported.profile.settings, imported.warnings)
}

#[test]
fn the_most_specific_pattern_wins() {
    fn check(text: &str, layer: &str, expected: &str) {
        let decision = imported(text).0.decide(&[&format!("{layer}.weight")]);
        let got = if decision.keeps() {
            "skip".to_owned()
        } else {
            decision.patch.dtype.map_or("-".into(), |d| d.to_string())
        };
        assert_eq!(got, expected, "{layer} in {text}");
    }
    let both = r#"{"attn\\.qkv": {"format": "nvfp4"}, "attn": {"skip": true}, "_default": {"format": "mxfp8"}}"#;
    check(both, "blocks.0.attn.qkv", "nvfp4");
    check(both, "blocks.0.attn.proj", "skip");
    check(both, "blocks.0.mlp", "mxfp8");
    // A digit class and eight literals beat any number of literals.
    let tiers = r#"{"double_blocks_and_more": {"format": "nvfp4"}, "double_blocks\\D*\\d": {"format": "mxfp8"}}"#;
    check(tiers, "double_blocks_and_more.0.qkv", "mxfp8");
    // Of equal ones the first.
    check(r#"{"ab.c": {"format": "nvfp4"}, "a.bc": {"skip": true}}"#, "abbc", "nvfp4");
    // The end is that of the layer.
    check(r#"{"qkv$": {"format": "nvfp4"}}"#, "blocks.0.qkv", "nvfp4");
    check(r#"{"qkv$": {"format": "nvfp4"}}"#, "blocks.0.qkv.lin", "-");
}

#[test]
fn patterns_of_layers_are_patterns_of_weights() {
    fn check(pattern: &str, expected: &str) {
        assert_eq!(of_weight(pattern), expected);
    }
    check("^a$", r"^a\.weight$");
    check(r"a\$[$]|b$", r"a\$[$]|b\.weight$");
    check("a", "a");
}

#[test]
fn what_is_lost_is_told() {
    let (settings, warnings) = imported(
        r#"{"a": {"format": "float8_e4m3fn_rowwise"}, "b": {"format": "int8_tensorwise", "scaling_mode": "tensor"},
            "c": {"format": ""}, "_exclusions": ["x"]}"#,
    );
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("float8_e4m3fn_rowwise becomes float8_e4m3fn"), "{warnings:?}");
    assert_eq!(settings.rules.len(), 2);
    assert_eq!(settings.decide(&["b.weight"]).patch.group_size, Some(group_size::TENSOR));
}

#[test]
fn what_is_no_layer_config_is_refused() {
    fn check(text: &str, part: &str) {
        let error = import(&serde_json::from_str(text).expect("JSON")).expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
    }
    check("[]", "no JSON object");
    check(r#"{"a": 1}"#, "`a`: takes an object");
    check(r#"{"a": {}}"#, "has no `format`");
    check(r#"{"a": {"format": "int3"}}"#, "`int3` is not known");
    check(r#"{"a(": {"format": "nvfp4"}}"#, "`a(`");
}

#[test]
fn layers_are_named_one_by_one() {
    let layer = |name: &str, dtype: Option<(&str, i64)>| Layer {
        name: name.into(),
        dtype: dtype.map(|(d, n)| (Dtype::new(d), n)),
    };
    let (config, warnings) = export(&[
        layer("a.0", Some(("int8_tensorwise", -1))),
        layer("a.1", None),
        layer("a.2", Some(("asym_w4a8_int8", 16))),
    ]);
    assert_eq!(
        config,
        json!({"^a\\.0$": {"format": "int8_tensorwise", "scaling_mode": "row", "simple": true},
               "^a\\.1$": {"skip": true}, "^a\\.2$": {"skip": true}})
    );
    assert_eq!(warnings.len(), 1);
    let (settings, _) = imported(&config.to_string());
    assert!(settings.decide(&["a.1.weight"]).keeps() && !settings.decide(&["a.0.weight"]).keeps());
}
