//! Whole configs.
use super::*;

fn rule(pattern: &str, patch: Patch) -> Rule {
    Rule { pattern: Pattern::new(pattern).expect("a pattern"), patch, reason: None, enabled: true }
}

fn dtype(name: &str) -> Patch {
    Patch { dtype: Some(Dtype::new(name)), ..Patch::default() }
}

fn group(size: i64) -> Patch {
    Patch { group_size: Some(size), ..Patch::default() }
}

/// A profile without a preset, in uint4.
fn profile(rules: &[(&str, Patch)], change: impl Fn(&mut Settings)) -> Profile {
    let mut settings = Settings::new(Family::Sdnq);
    settings.defaults = dtype("uint4");
    settings.rules = rules.iter().map(|(pattern, patch)| rule(pattern, patch.clone())).collect();
    change(&mut settings);
    let mut profile = Profile::new(settings);
    profile.preset = PresetChoice::None;
    profile
}

/// A model of which every weight can be quantized.
fn known(settings: &Settings) -> Known {
    let layer = |name: String| Layer { kept: settings.decide(&[&name]).keeps(), name, rows: false };
    Known { layers: names().into_iter().map(layer).collect(), ..Known::default() }
}

/// The library decides as we do, with the config as it is written and as it is saved again.
fn agrees(settings: &Settings, config: &Value, names: &[String]) -> Result<(), TestCaseError> {
    for name in names {
        let mine = ours(settings, name);
        prop_assert_eq!(&theirs(config, name), &mine, "{} with {:#}", name, config);
    }
    Ok(())
}

#[test]
fn a_profile_in_the_librarys_words() {
    let patch = Patch { svd_rank: Some(16), hadamard: Some(64), codebook: Some(true), ..group(32) };
    let rules =
        [(r"^blocks\.0", dtype("int8")), (r"(^|\.)to_q(\.|$)", Patch { group_size: Some(-1), ..dtype("int6") })];
    let mut profile = profile(&rules[..1], |s| {
        s.quant_conv = true;
        s.exclude.extend(Pattern::new("norm"));
        s.overrides.insert("single_blocks.1.attn.to_q.weight".into(), patch.clone());
    });
    let exported = export(&profile, &dtypes(), None).expect("it can be said");
    assert_eq!(exported.warnings, Vec::<String>::new());
    assert_eq!(
        exported.config,
        json!({
            "quant_method": "sdnq",
            "weights_dtype": "uint4",
            "group_size": 0,
            "use_svd": false,
            "svd_rank": 32,
            "svd_steps": 8,
            "use_hadamard": false,
            "hadamard_group_size": 256,
            "use_codebook": false,
            "quant_conv": true,
            "quant_embedding": false,
            "add_skip_keys": false,
            "modules_to_not_convert": ["*norm*"],
            "modules_dtype_dict": {},
            "modules_quant_config": {
                "single_blocks.1.attn.to_q.weight": {
                    "group_size": 32, "use_svd": true, "svd_rank": 16, "use_hadamard": true, "hadamard_group_size": 64,
                    "use_codebook": true,
                },
                ".blocks.0": { "weights_dtype": "int8", "group_size": -1 },
            },
        })
    );
    // Both rules may match one layer, but the second says all that the first says.
    profile.settings.rules.push(rule(rules[1].0, rules[1].1.clone()));
    let exported = export(&profile, &dtypes(), None).expect("it can be said");
    let entries: Vec<&String> = exported.config["modules_quant_config"].as_object().expect("entries").keys().collect();
    assert_eq!(entries, ["single_blocks.1.attn.to_q.weight", "to_q", ".blocks.0"], "the last rule comes first");
    assert!(exported.warnings.iter().any(|w| w.contains("sorts")), "{:?}", exported.warnings);
}

#[test]
fn what_cannot_be_said_without_a_model() {
    fn check(rules: &[(&str, Patch)], change: fn(&mut Settings), part: &str) {
        let profile = profile(rules, change);
        let error = export(&profile, &dtypes(), None).expect_err(part).to_string();
        assert!(error.contains(part) && error.contains("give MODEL"), "{error}");
        // With the model there is always a way.
        let exported = export(&profile, &dtypes(), Some(&known(&profile.settings))).expect("names can be said");
        agrees(&profile.settings, &exported.config, &names()).expect("the same decisions");
        agrees(&profile.settings, &sorted(&exported.config), &names()).expect("whatever the order");
    }
    check(&[(r"blocks\.\d+\.attn", dtype("int8"))], |_| {}, r"`blocks\.\d+\.attn`: SDNQ's patterns have no words");
    check(&[], |s| s.include.extend(Pattern::new("attn")), "`include`");
    check(&[("attn", dtype("int8")), (r"\.1\.", group(32))], |_| {}, r"`attn` and `\.1\.` say different things");
    check(
        &[("norm", Patch { keep: Some(false), ..Patch::default() })],
        |s| s.exclude.extend(Pattern::new("linear")),
        "`norm` quantizes a part of what `linear` keeps",
    );
}

#[test]
fn what_follows_from_the_patterns_is_said_without_a_model() {
    /// The entries and their order.
    fn check(rules: &[(&str, Patch)], change: fn(&mut Settings), entries: &[&str], keep: &[&str]) {
        let profile = profile(rules, change);
        let exported = export(&profile, &dtypes(), None).expect("it can be said");
        let got: Vec<&String> = exported.config["modules_quant_config"].as_object().expect("entries").keys().collect();
        assert_eq!(got, entries);
        assert_eq!(exported.config["modules_to_not_convert"], json!(keep));
        agrees(&profile.settings, &exported.config, &names()).expect("the same decisions");
    }
    // One inside the other: the inner one says both.
    check(&[("^blocks", dtype("int8")), (r"^blocks\.1\.", group(32))], |_| {}, &[".blocks.1.", ".blocks"], &[]);
    check(&[("^blocks", dtype("int8")), ("^single", group(32))], |_| {}, &[".single", ".blocks"], &[]);
    // A rule that takes an earlier one back stays as an empty entry.
    check(&[("^blocks", dtype("int8")), (r"^blocks\.1\.", dtype("uint4"))], |_| {}, &[".blocks.1.", ".blocks"], &[]);
    check(&[("^blocks", dtype("uint4"))], |_| {}, &[], &[]);
    // The same pattern twice.
    check(&[("ff", dtype("int8")), ("ff", group(32))], |_| {}, &["*ff*"], &[]);
    check(
        &[("^blocks", Patch { keep: Some(false), ..dtype("int8") })],
        |s| s.exclude.extend([r"^blocks\.0", "^single"].map(|p| Pattern::new(p).expect("a pattern"))),
        &[".blocks"],
        &[".single"],
    );
    // A rule that is off says nothing.
    check(&[("^blocks", dtype("int8"))], |s| s.rules[0].enabled = false, &[], &[]);
}

#[test]
fn the_preset_is_left_to_the_library_until_the_class_is_known() {
    let skip = |p: &Profile, model: Option<&Known>| {
        let exported = export(p, &dtypes(), model).expect("it can be said");
        (exported.config["add_skip_keys"].clone(), exported.config["modules_to_not_convert"].clone(), exported.warnings)
    };
    let mut p = profile(&[], |_| {});
    p.preset = PresetChoice::Automatic;
    assert_eq!(skip(&p, None), (json!(true), json!([]), vec![]));
    p.settings.rules.push(rule(r"(^|\.)x_embedder(\.|$)", dtype("int8")));
    assert!(skip(&p, None).2[0].contains("leaves alone by itself"));
    p.set_preset(crate::session::preset::by_name("flux"));
    // The rule lifts what the preset keeps.
    let (by_class, keep, _) = skip(&p, Some(&known(&p.settings)));
    assert_eq!(by_class, json!(false));
    let keep: Vec<&str> = keep.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(keep.contains(&".proj_out") && keep.contains(&"norm_out") && !keep.contains(&"x_embedder"), "{keep:?}");
    // A rule of the preset that is off has no name without the class.
    p.settings.preset[4].enabled = false;
    p.set_preset(None);
    p.settings.preset_name = None;
    assert!(export(&p, &dtypes(), None).expect_err("which rule?").to_string().contains("give MODEL"));
}

#[test]
fn other_targets_are_not_told_to_sdnq() {
    let profile = Profile::new(Settings::new(Family::Float));
    assert!(export(&profile, &dtypes(), None).expect_err("float").to_string().contains("one for float"));
}

#[test]
fn what_the_target_adds_is_in_the_config() {
    let p = profile(&[], |_| {});
    let layer = |name: &str, kept, rows| Layer { name: name.into(), kept, rows };
    let model = Known {
        layers: vec![layer("a.weight", true, false), layer("b.weight", false, true), layer("head", true, false)],
        kept: vec!["lm_head".into()],
        quant_conv: true,
        quant_embedding: true,
    };
    let config = export(&p, &dtypes(), Some(&model)).expect("it can be said").config;
    assert_eq!(config["modules_to_not_convert"], json!(["a.weight", "head$*", "lm_head"]));
    assert_eq!(config["modules_quant_config"], json!({"b.weight": {"group_size": -1}}));
    assert_eq!((&config["quant_conv"], &config["quant_embedding"]), (&json!(true), &json!(true)));
}

#[test]
fn a_config_becomes_a_profile() {
    let config = json!({
        "architectures": ["BertModel"],
        "quantization_config": {
            "quant_method": "sdnq",
            "sdnq_version": "0.2.8",
            "weights_dtype": "uint4",
            "group_size": 64,
            "use_svd": true,
            "use_hadamard": true,
            "hadamard_group_size": 100,
            "quant_embedding": true,
            "add_skip_keys": false,
            "modules_to_not_convert": ["lm_head", ".proj_out", "a.b.weight", "blocks.0.norm*", "lm_head"],
            "modules_dtype_dict": {"minimum_6bit": ["to_q"], "INT8": "to_k"},
            "modules_quant_config": {
                "blocks.1.to_v.weight": {"use_svd": false},
                ".blocks.1": {"svd_rank": 8, "group_size": -3},
            },
            "scale_dtype": "int8",
            "use_quantized_matmul": true,
            "dequantize_fp32": true,
            "modules_to_not_use_matmul": [],
            "nonsense": 1,
        },
    });
    let imported = import(&config, &dtypes()).expect("a config");
    let text = imported.profile.to_text();
    let body: Vec<&str> = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
    assert_eq!(
        body.join("\n"),
        r#"target = "sdnq"
architecture = "BertModel"
preset = false
exclude = ['(^|\.)lm_head(\.|$)', "^proj_out", '^a\.b\.weight$', "^blocks.0.norm"]
quant_embedding = true
[defaults]
dtype = "uint4"
group_size = 64
svd_rank = 32
svd_steps = 8
hadamard = 128
[[rule]]
pattern = '^blocks\.1'
group_size = "row"
svd_rank = 8
[[rule]]
pattern = '^blocks\.1\.to_v\.weight$'
group_size = 64
svd_rank = 0
[[rule]]
pattern = '(^|\.)to_k(\.|$)'
dtype = "int8"
[[rule]]
pattern = '(^|\.)to_q(\.|$)'
dtype = "int6""#
    );
    assert_eq!(
        imported.warnings,
        [
            "`scale_dtype` = \"int8\" is left out: scales are written as they are",
            "`use_quantized_matmul` = true is left out: the file is for any product; who loads it chooses",
            "`nonsense` = 1 is left out: not a setting that mixdown knows of SDNQ",
        ]
    );
}

#[test]
fn what_is_wrong_with_a_config_is_said() {
    fn check(config: Value, part: &str) {
        let error = import(&config, &dtypes()).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
    check(json!([]), "no JSON object");
    check(json!({"hidden_size": 4}), "neither `quant_method` nor `weights_dtype`");
    check(json!({"quant_method": "bitsandbytes"}), "a config of `bitsandbytes`");
    check(json!({"weights_dtype": "int99"}), "no dtype `int99`");
    check(json!({"weights_dtype": 4}), "`weights_dtype` takes a string; it is 4");
    check(json!({"quant_method": "sdnq", "group_size": "64"}), "`group_size` takes a whole number; it is \"64\"");
    check(json!({"quant_method": "sdnq", "svd_rank": -1}), "`svd_rank` takes a whole number from 0 up");
    check(json!({"quant_method": "sdnq", "modules_to_not_convert": [1]}), "takes strings");
    check(json!({"quant_method": "sdnq", "modules_to_not_convert": ["(?=a)*"]}), "not a regular expression");
    check(json!({"quant_method": "sdnq", "modules_dtype_dict": {"minimum_xbit": ["a"]}}), "no number of bits");
    check(json!({"quant_method": "sdnq", "modules_dtype_dict": ["a"]}), "`modules_dtype_dict` takes an object");
    check(json!({"quant_method": "sdnq", "modules_quant_config": {"a": 4}}), "`a`: takes an object");
    check(
        json!({"quant_method": "sdnq", "modules_quant_config": {"a": {"use_svd": 1}}}),
        "modules_quant_config: `a`: `use_svd` takes true or false",
    );
}

#[test]
fn minima_of_bits_are_resolved() {
    fn check(key: &str, weights_dtype: &str, expected: &str) {
        let config = json!({"quant_method": "sdnq", "weights_dtype": weights_dtype, "group_size": 64,
            "modules_dtype_dict": {key: ["to_q"]}});
        let settings = import(&config, &dtypes()).expect("a config").profile.settings;
        let name = "blocks.0.to_q.weight";
        assert_eq!(settings.decide(&[name]).patch.dtype, Some(Dtype::new(expected)), "{key} of {weights_dtype}");
        assert_eq!(ours(&settings, name), theirs(&config, name));
    }
    check("minimum_6bit", "uint4", "int6");
    check("minimum-6bits", "uint4", "int6");
    check("minimum_uint6", "int4", "uint6");
    check("6bit", "int2", "int6");
    check("minimum4", "int2", "uint4");
    check("minimum_int8", "int8", "int8");
    check("minimum_6bit", "int8", "int8");
    check("Minimum_5Bit", "uint4", "int5");
    check("uint5", "int8", "uint5");
}

#[test]
fn a_minimum_that_depends_on_the_layer_is_told() {
    let config = json!({"quant_method": "sdnq", "weights_dtype": "uint4", "modules_dtype_dict": {"minimum_6bit": ["to_q"]},
        "modules_quant_config": {"*blocks.1*": {"weights_dtype": "int8"}}});
    let warnings = import(&config, &dtypes()).expect("a config").warnings;
    assert!(
        warnings
            .contains(&"layers that both `to_q` and `*blocks.1*` match become int6; SDNQ makes them int8".to_owned()),
        "{warnings:?}"
    );
}

fn patches() -> impl Strategy<Value = Patch> {
    let dtypes = prop::sample::select(vec!["uint4", "int4", "uint8", "int8", "int6"]).prop_map(Dtype::new);
    (
        prop::option::weighted(0.2, any::<bool>()),
        prop::option::of(dtypes),
        prop::option::weighted(0.3, prop::sample::select(vec![-2i64, -1, 0, 32])),
        prop::option::weighted(0.3, prop::sample::select(vec![0u32, 8, 32])),
        prop::option::weighted(0.2, prop::sample::select(vec![4u32, 8])),
        prop::option::weighted(0.2, prop::sample::select(vec![0u32, 64, 256])),
        prop::option::weighted(0.2, any::<bool>()),
    )
        .prop_map(|(keep, dtype, group_size, svd_rank, svd_steps, hadamard, codebook)| Patch {
            keep,
            dtype,
            group_size,
            svd_rank,
            svd_steps,
            hadamard,
            codebook,
            scale_search: None,
        })
}

/// Patterns of ours that sdnq has words for, and some that it has none for.
fn sayable() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "^blocks",
        r"^blocks\.0\.",
        r"^blocks\.1\.attn",
        "^single",
        r"(^|\.)attn(\.|$)",
        r"(^|\.)to_q(\.|$)",
        "norm",
        r"attn\.to_",
        r"^blocks\..*\.ff",
        r"^ff\.weight$",
        r"^blocks\.0\.attn\.to_q\.weight$",
        r"\.0\.weight$",
        "^",
        r"to_[qk]|ff",
    ])
    .prop_map(str::to_owned)
}

fn any_pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => sayable(),
        1 => prop::sample::select(vec![r"blocks\.\d+\.attn", r"\b1\b", r"^(single_)?blocks\.0", "[^_]blocks"])
            .prop_map(str::to_owned),
    ]
}

fn settings<P: Strategy<Value = String>>(patterns: fn() -> P) -> impl Strategy<Value = Settings> {
    let rules = |n| prop::collection::vec((patterns(), patches(), prop::bool::weighted(0.9)), 0..n);
    let lists = |n| prop::collection::vec(patterns(), 0..n);
    let overrides = prop::collection::btree_map(prop::sample::select(names()), patches(), 0..3);
    (patches(), rules(2), lists(2), rules(4), overrides, prop::option::weighted(0.2, patterns())).prop_map(
        |(defaults, preset, exclude, rules, overrides, include)| {
            let compile = |p: &String| Pattern::new(p).expect("a pattern");
            let mut s = Settings::new(Family::Sdnq);
            s.defaults = Patch { keep: None, ..defaults };
            s.preset = preset.iter().map(|(p, _, on)| Rule { enabled: *on, ..rule(p, Patch::keep()) }).collect();
            s.preset_name = Some("test".into());
            s.exclude = exclude.iter().map(compile).collect();
            s.include = include.iter().map(compile).collect();
            s.rules = rules.into_iter().map(|(p, patch, on)| Rule { enabled: on, ..rule(&p, patch) }).collect();
            s.overrides = overrides;
            s
        },
    )
}

/// Configs of theirs, without what depends on the layer.
fn configs() -> impl Strategy<Value = Value> {
    let patterns = || {
        prop::sample::select(vec![
            ".blocks",
            ".blocks.0.",
            "attn",
            "to_q",
            "*norm*",
            "blocks.*.ff*",
            "ff.weight",
            "blocks.0.attn.to_q.weight",
            "*.0.weight",
            "single_blocks.1*",
            "[bs]*.1.*",
        ])
    };
    let dtypes = || prop::sample::select(vec!["uint4", "int4", "uint8", "int8", "int6"]);
    let kwargs = || {
        (
            prop::option::of(dtypes()),
            prop::option::weighted(0.4, prop::sample::select(vec![-2i64, -1, 0, 32])),
            prop::option::weighted(0.3, any::<bool>()),
            prop::option::weighted(0.3, prop::sample::select(vec![8u32, 32])),
            prop::option::weighted(0.3, prop::sample::select(vec![4u32, 8])),
            prop::option::weighted(0.3, any::<bool>()),
            prop::option::weighted(0.3, prop::sample::select(vec![64u32, 256])),
        )
            .prop_map(|(dtype, group_size, use_svd, rank, steps, use_hadamard, hadamard)| {
                let all = json!({"weights_dtype": dtype, "group_size": group_size, "use_svd": use_svd, "svd_rank": rank,
                    "svd_steps": steps, "use_hadamard": use_hadamard, "hadamard_group_size": hadamard});
                let Value::Object(mut map) = all else { unreachable!("it is one") };
                map.retain(|_, v| !v.is_null());
                map
            })
    };
    let keys = prop::sample::select(vec!["uint4", "int8", "minimum_6bit", "minimum_uint5", "8bits"]);
    (
        kwargs(),
        prop::collection::vec(patterns(), 0..2),
        prop::collection::vec((keys, prop::collection::vec(patterns(), 0..3)), 0..3),
        prop::collection::vec((patterns(), kwargs()), 0..4),
    )
        .prop_map(|(general, keep, by_dtype, entries)| {
            let mut config = general;
            config.insert("quant_method".into(), json!("sdnq"));
            config.insert("add_skip_keys".into(), json!(false));
            config.insert("modules_to_not_convert".into(), json!(keep));
            let by_dtype: Map<_, _> = by_dtype.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
            config.insert("modules_dtype_dict".into(), by_dtype.into());
            let entries: Map<_, _> = entries.into_iter().map(|(k, v)| (k.to_owned(), v.into())).collect();
            config.insert("modules_quant_config".into(), entries.into());
            config.into()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn with_a_model_every_decision_is_exported(settings in settings(any_pattern)) {
        let profile = Profile::new(settings);
        let exported = export(&profile, &dtypes(), Some(&known(&profile.settings))).expect("names can be said");
        agrees(&profile.settings, &exported.config, &names())?;
        agrees(&profile.settings, &sorted(&exported.config), &names())?;
    }

    #[test]
    fn what_is_exported_without_a_model_holds_for_every_name(settings in settings(sayable)) {
        let profile = Profile::new(settings);
        let exported = export(&profile, &dtypes(), None);
        prop_assume!(exported.is_ok());
        let exported = exported.expect("it can be said");
        agrees(&profile.settings, &exported.config, &names())?;
        if !exported.warnings.iter().any(|w| w.contains("sorts")) {
            agrees(&profile.settings, &sorted(&exported.config), &names())?;
        }
    }

    #[test]
    fn an_imported_config_decides_as_it_did(config in configs()) {
        let imported = import(&config, &dtypes()).expect("a config");
        prop_assume!(imported.warnings.is_empty());
        agrees(&imported.profile.settings, &config, &names())?;
        // And back: a profile that was theirs can be theirs again.
        let known = known(&imported.profile.settings);
        let again = export(&imported.profile, &dtypes(), Some(&known)).expect("names can be said");
        for name in names() {
            prop_assert_eq!(theirs(&again.config, &name), theirs(&config, &name), "{}", name);
        }
    }

    #[test]
    fn an_exported_profile_comes_back(settings in settings(any_pattern)) {
        let profile = Profile::new(settings);
        let exported = export(&profile, &dtypes(), Some(&known(&profile.settings))).expect("names can be said");
        let imported = import(&exported.config, &dtypes()).expect("its own config");
        prop_assert_eq!(imported.warnings, Vec::<String>::new());
        for name in names() {
            prop_assert_eq!(ours(&imported.profile.settings, &name), ours(&profile.settings, &name), "{}", name);
        }
    }
}
