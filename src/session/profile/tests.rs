//! Reading, saving, and both after each other.
mod edits;

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::core::options::GgufOptions;
use crate::core::rules::Pattern;
use crate::core::{Error, Patch, Rule, ScaleSearch};
use crate::session::preset;

/// A target's table of dtypes, as small as can be.
fn dtype(family: Family, name: &str) -> Result<Dtype> {
    const NAMES: [&str; 5] = ["uint4", "int4", "int6", "int8", "bf16"];
    let lower = name.to_ascii_lowercase();
    if NAMES.contains(&lower.as_str()) {
        return Ok(Dtype::new(&lower));
    }
    Err(Error::usage(format!("{family} has no dtype `{name}`; near ones: uint4")))
}

fn parse(text: &str) -> Profile {
    Profile::parse(text, "p.toml", &dtype).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn samples(kind: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/profiles").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .map(|p| (p.clone(), std::fs::read_to_string(p).expect("a text")))
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let mut wrong = Vec::new();
    for (path, text) in samples("invalid") {
        let file = path.file_name().expect("a name").to_string_lossy();
        let expected = text.lines().next().and_then(|l| l.strip_prefix("# error: "));
        let error = Profile::parse(&text, &file, &dtype).expect_err(&file);
        assert_eq!(error.kind(), crate::core::error::Kind::Failed);
        let said = error.to_string();
        if Some(said.as_str()) != expected {
            wrong.push(said);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn an_untouched_profile_gives_back_its_text() {
    for (path, text) in samples("valid") {
        let mut profile = parse(&text);
        assert_eq!(profile.to_text(), text, "{}", path.display());
        profile.set_preset(preset::by_name("flux"));
        assert_eq!(profile.to_text(), text, "{}", path.display());
    }
}

#[test]
fn every_form_can_be_changed() {
    for (path, text) in samples("valid") {
        for other in everything() {
            let mut profile = parse(&text);
            profile.settings = other.settings.clone();
            profile.preset = other.preset.clone();
            let saved = profile.to_text();
            let again = parse(&saved);
            assert_eq!(again.settings, other.settings, "{}\n{saved}", path.display());
            assert_eq!(again.preset, other.preset, "{}\n{saved}", path.display());
        }
    }
}

/// Very different profiles.
fn everything() -> Vec<Profile> {
    let mut all: Vec<Profile> = samples("valid").iter().map(|(_, t)| parse(t)).collect();
    all.push(Profile::new(Settings::new(Family::Sdnq)));
    all
}

fn rule(pattern: &str, patch: Patch) -> Rule {
    Rule { pattern: Pattern::new(pattern).expect("a pattern"), patch, reason: None, enabled: true }
}

#[test]
fn a_full_profile_says_all_of_it() {
    let text = samples("valid");
    let (_, text) = text.iter().find(|(p, _)| p.ends_with("full.toml")).expect("the full one");
    let profile = parse(text);
    assert_eq!(profile.architecture.as_deref(), Some("FluxTransformer2DModel"));
    assert_eq!(profile.preset, PresetChoice::Named("flux".into()));
    let s = &profile.settings;
    assert_eq!(s.defaults.to_string(), "uint4 group 64 rank 0 steps 8 hadamard 256 codebook");
    assert_eq!((s.exclude.len(), s.include.len()), (2, 0));
    assert_eq!((s.metadata_tensors, s.quant_conv, s.quant_embedding), (Some(true), true, false));
    let said: Vec<_> = s.rules.iter().map(|r| (r.pattern.as_str(), r.patch.to_string(), r.enabled)).collect();
    assert_eq!(said, [(r"attn\.to_[qkv]", "int8".to_owned(), false), ("ff", "keep".to_owned(), true)]);
    assert_eq!(
        s.overrides["transformer_blocks.0.attn.to_k.weight"].to_string(),
        "int4 group 32 rank 16 no hadamard no codebook"
    );
}

#[test]
fn the_documentation_tells_the_truth() {
    let text = include_str!("../../../docs/profile.md");
    let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    for example in &examples {
        match example.contains("target") {
            true => parse(example),
            false => parse(&format!("target = \"sdnq\"\n{example}")),
        };
    }
    let mut profile = parse(examples[0]);
    profile.set_preset(preset::for_class(Family::Sdnq, Some("FluxTransformer2DModel")));
    let mut seen = 0;
    for row in text.lines().filter(|l| l.starts_with("| `") && l.contains(".weight`")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let decision = profile.settings.decide(&[cells[1].trim_matches('`')]);
        let result = match decision.keeps() {
            true => "kept".to_owned(),
            false => decision.patch.to_string(),
        };
        assert_eq!(result, cells[2].replace(',', ""), "{}", cells[1]);
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn deep_texts_do_no_harm() {
    let target = "target = 'sdnq'\n";
    for text in [
        format!("{target}a = {}", "[".repeat(200_000)),
        format!("{target}a = {}", "{a=".repeat(200_000)),
        format!("{target}{}a = 1", "a.".repeat(200_000)),
        format!("{target}[{}a]", "a.".repeat(200_000)),
    ] {
        assert!(Profile::parse(&text, "p.toml", &dtype).is_err());
    }
}

#[test]
fn preset_rules_that_are_off_are_saved() {
    const EMBEDDER: &str = r"(^|\.)x_embedder(\.|$)";
    let mut profile = parse("target = \"sdnq\"\n\n[preset]\noff = ['gone']\n");
    profile.set_preset(preset::by_name("flux"));
    assert!(profile.settings.preset.iter().all(|r| r.enabled));
    for rule in &mut profile.settings.preset {
        rule.enabled = rule.pattern.as_str() != EMBEDDER;
    }
    let saved = profile.to_text();
    assert_eq!(saved, format!("target = \"sdnq\"\n\n[preset]\noff = ['gone', '{EMBEDDER}']\n"));
    // Read again, they are off; another preset, and this one again, do not switch them on.
    let mut again = parse(&saved);
    for name in ["flux", "wan", "flux"] {
        again.set_preset(preset::by_name(name));
        let off = again.settings.preset.iter().filter(|r| !r.enabled);
        assert_eq!(off.count(), usize::from(name == "flux"), "{name}");
        assert_eq!(again.to_text(), saved);
    }
    // Switched on again they are not in the file.
    for rule in &mut again.settings.preset {
        rule.enabled = true;
    }
    assert_eq!(again.to_text(), "target = \"sdnq\"\n\n[preset]\noff = ['gone']\n");
    again.preset = PresetChoice::None;
    assert_eq!(again.to_text(), "target = \"sdnq\"\npreset = false\n");
}

#[test]
fn a_new_profile_reads_well() {
    let mut s = Settings::new(Family::Sdnq);
    s.defaults = Patch { dtype: Some(Dtype::new("uint4")), group_size: Some(0), ..Patch::default() };
    s.exclude.extend(Pattern::new("norm"));
    s.rules.push(Rule {
        reason: Some("attention is \"sensitive\"".into()),
        ..rule(r"attn\.to_[qkv]", Patch { dtype: Some(Dtype::new("int8")), ..Patch::default() })
    });
    s.overrides.insert("a.b.weight".into(), Patch::keep());
    let mut profile = Profile::new(s);
    profile.preset = PresetChoice::Named("flux".into());
    let text = profile.to_text();
    let (header, body) = text.split_once("target").expect("a target");
    assert!(header.lines().all(|l| l.starts_with("# ")), "{header}");
    assert!(header.contains(env!("CARGO_PKG_VERSION")), "{header}");
    assert_eq!(
        body,
        " = \"sdnq\"\npreset = \"flux\"\nexclude = [\"norm\"]\n\n[defaults]\ndtype = \"uint4\"\ngroup_size = \"auto\"\n\n\
         [[rule]]\npattern = 'attn\\.to_[qkv]'\ndtype = \"int8\"\nreason = 'attention is \"sensitive\"'\n\n\
         [tensor.\"a.b.weight\"]\nkeep = true\n"
    );
}

fn patches() -> impl Strategy<Value = Patch> {
    let dtypes = prop::sample::select(vec!["uint4", "int4", "int6", "int8", "bf16"]);
    (
        prop::option::of(any::<bool>()),
        prop::option::of(dtypes.prop_map(Dtype::new)),
        prop::option::of(-2i64..100),
        prop::option::of(any::<u32>()),
        prop::option::of(any::<u32>()),
        prop::option::of(prop_oneof![Just(0), (2u32..=16).prop_map(|n| 1 << n)]),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::sample::select(ScaleSearch::ALL.to_vec())),
    )
        .prop_map(|(keep, dtype, group_size, svd_rank, svd_steps, hadamard, codebook, scale_search)| Patch {
            keep,
            dtype,
            group_size,
            svd_rank,
            svd_steps,
            hadamard,
            codebook,
            scale_search,
        })
}

fn patterns() -> impl Strategy<Value = Pattern> {
    r##"[a-c.*'"#\\ü\n ]{0,5}"##.prop_filter_map("a pattern", |t| Pattern::new(&t).ok())
}

/// llama-quantize's options, and the file of an importance matrix.
fn gguf() -> impl Strategy<Value = (GgufOptions, Option<String>)> {
    let text = || prop::option::of("[a-z0-9=:.,]{1,8}");
    let ty = || prop::option::of(prop::sample::select(vec!["int4", "int8"]).prop_map(Dtype::new));
    (any::<[bool; 5]>(), ty(), ty(), prop::collection::vec("[a-z0-9=:.]{1,8}", 0..3), (text(), text()), text())
        .prop_map(|(on, output_type, embedding_type, override_kv, (prune_layers, pre), imatrix)| {
            let [pure, leave_output, allow_requantize, keep_split, embed_loss] = on;
            let options = GgufOptions {
                pure,
                output_type,
                embedding_type,
                leave_output,
                allow_requantize,
                keep_split,
                embed_loss,
                override_kv,
                prune_layers,
                pre,
            };
            (options, imatrix)
        })
}

fn profiles() -> impl Strategy<Value = Profile> {
    let rules = (patterns(), patches(), prop::option::of(r##"[a-z'"#\\\n]{0,6}"##), any::<bool>())
        .prop_map(|(pattern, patch, reason, enabled)| Rule { pattern, patch, reason, enabled });
    let lists = || prop::collection::vec(patterns(), 0..4);
    let choices = prop_oneof![
        Just(PresetChoice::Automatic),
        Just(PresetChoice::None),
        Just(PresetChoice::Named("flux".into())),
        Just(PresetChoice::Named("wan".into())),
    ];
    (
        prop::sample::select(Family::ALL.to_vec()),
        (lists(), lists()),
        patches(),
        prop::collection::vec(rules, 0..5),
        prop::collection::btree_map(r#"[a-c0-2."\n=]{0,4}"#, patches(), 0..4),
        (prop::option::of(any::<bool>()), any::<bool>(), any::<bool>()),
        choices,
        gguf(),
    )
        .prop_map(|(target, (exclude, include), defaults, rules, overrides, switches, preset, (gguf, imatrix))| {
            let (metadata_tensors, quant_conv, quant_embedding) = switches;
            let mut profile = Profile::new(Settings {
                defaults,
                include,
                exclude,
                rules,
                overrides,
                metadata_tensors,
                quant_conv,
                quant_embedding,
                gguf,
                imatrix,
                ..Settings::new(target)
            });
            profile.preset = preset;
            profile
        })
}

proptest! {
    #[test]
    fn what_is_saved_is_read(first in profiles(), second in profiles()) {
        // From nothing, then from one file to any other.
        let mut profile = parse(&first.to_text());
        prop_assert_eq!(&profile.settings, &first.settings);
        prop_assert_eq!(&profile.preset, &first.preset);
        profile.settings = second.settings.clone();
        profile.preset = second.preset.clone();
        let again = parse(&profile.to_text());
        prop_assert_eq!(&again.settings, &second.settings);
        prop_assert_eq!(&again.preset, &second.preset);
    }

    #[test]
    fn any_sample_becomes_any_profile(at in 0usize..100, other in profiles()) {
        let samples = samples("valid");
        let mut profile = parse(&samples[at % samples.len()].1);
        profile.settings = other.settings.clone();
        profile.preset = other.preset.clone();
        let again = parse(&profile.to_text());
        prop_assert_eq!(&again.settings, &other.settings);
        prop_assert_eq!(&again.preset, &other.preset);
    }

    #[test]
    fn no_text_is_too_strange(text in "(target = 'sdnq'\n)?[a-z=\\[\\]{}'\"#.\n 0-9]{0,40}") {
        if let Ok(profile) = Profile::parse(&text, "p.toml", &dtype) {
            prop_assert_eq!(profile.to_text(), text);
        }
    }
}
