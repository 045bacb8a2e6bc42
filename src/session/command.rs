//! The choices as a command line, so that what was done by hand becomes a script.
use super::Profile;
use super::profile::PresetChoice;
use crate::core::options::{GgufOptions, Names};
use crate::core::rules::Pattern;
use crate::core::{Family, Patch, Settings};

/// What cannot be said on a command line, and needs the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsProfile(pub &'static str);

/// `mixdown convert MODEL … -o OUTPUT`. `saved` is where the choices are saved as they stand; then that says them all.
///
/// # Errors
/// Where a choice has no flag and there is no such profile.
pub fn line(profile: &Profile, model: &[String], output: &str, saved: Option<&str>) -> Result<String, NeedsProfile> {
    let mut words = vec!["mixdown".to_owned(), "convert".to_owned()];
    words.extend(model.iter().cloned());
    match saved {
        Some(name) => words.extend(["--profile".to_owned(), name.to_owned()]),
        None if profile.preset != PresetChoice::Automatic => return Err(NeedsProfile("the preset is another")),
        None => words.extend(flags(&profile.settings)?),
    }
    words.extend(["-o".to_owned(), output.to_owned()]);
    Ok(words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "))
}

fn flags(s: &Settings) -> Result<Vec<String>, NeedsProfile> {
    let mut out = vec!["--to".to_owned(), s.target.name().to_owned()];
    let mut add = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            out.extend([flag.to_owned(), value]);
        }
    };
    let d = &s.defaults;
    add("--dtype", d.dtype.as_ref().map(ToString::to_string));
    add("--group-size", d.group_size.map(|n| n.to_string()));
    add("--svd-rank", d.svd_rank.map(|n| n.to_string()));
    add("--svd-steps", d.svd_steps.map(|n| n.to_string()));
    add("--scale-search", d.scale_search.map(|s| s.name().to_owned()));
    add("--pre", s.gguf.pre.clone().filter(|_| s.target == Family::Gguf));
    add("--imatrix", s.imatrix.clone().filter(|_| s.target == Family::Gguf));
    if let Some(size) = d.hadamard {
        out.push(if size > 0 { format!("--hadamard={size}") } else { "--no-hadamard".into() });
    }
    if let Some(on) = d.codebook {
        out.push(if on { "--codebook" } else { "--no-codebook" }.into());
    }
    if let Some(prefix) = s.comfy.key_prefix.as_ref().filter(|_| s.target == Family::Comfy) {
        out.push(format!("--key-prefix={prefix}"));
    }
    if s.target == Family::Nunchaku {
        for (flag, value) in [
            ("--smooth-from", &s.nunchaku.smooth_from),
            ("--config-yaml", &s.nunchaku.config_yaml),
            ("--model-path", &s.nunchaku.model_path),
        ] {
            if let Some(value) = value {
                out.extend([flag.to_owned(), value.clone()]);
            }
        }
    }
    for (on, flag) in [
        (s.nunchaku.lite && s.target == Family::Nunchaku, "--lite"),
        (s.nunchaku.extra_metadata && s.target == Family::Nunchaku, "--extra-metadata"),
        (s.quant_conv, "--quant-conv"),
        (s.quant_embedding, "--quant-embedding"),
        (s.comfy.header && s.target == Family::Comfy, "--quant-metadata"),
        (s.names == Some(Names::Source) && matches!(s.target, Family::Comfy | Family::Gguf), "--keep-names"),
        (s.names == Some(Names::Diffusers) && s.target != Family::Gguf, "--diffusers-names"),
    ] {
        if on {
            out.push(flag.into());
        }
    }
    if s.preset.iter().any(|r| !r.enabled) {
        return Err(NeedsProfile("a rule of the preset is off"));
    }
    if s.target == Family::Gguf && s.gguf != (GgufOptions { pre: s.gguf.pre.clone(), ..Default::default() }) {
        return Err(NeedsProfile("GGUF's own options are set"));
    }
    if d.keep.is_some() {
        return Err(NeedsProfile("nothing is quantized by default"));
    }
    if s.metadata_tensors.is_some() {
        return Err(NeedsProfile("where the self-description goes is set"));
    }
    for pattern in &s.include {
        out.push(format!("--include={pattern}"));
    }
    // What is kept stays kept whatever dtype is named for it beside, so the order of the two does not matter.
    let mut excluded: Vec<String> = s.exclude.iter().map(Pattern::to_string).collect();
    let mut typed = Vec::new();
    let by_rule = s.rules.iter().filter(|r| r.enabled).map(|r| (r.pattern.to_string(), &r.patch));
    let by_hand = s.overrides.iter().map(|(name, patch)| (format!("^{}$", regex::escape(name)), patch));
    for (pattern, patch) in by_rule.chain(by_hand) {
        match said(patch)? {
            Said::Keep => excluded.push(pattern),
            Said::Type(text) => typed.push(format!("{pattern}={text}")),
        }
    }
    for pattern in excluded {
        out.push(format!("--exclude={pattern}"));
    }
    for text in typed {
        out.push(format!("--tensor-type={text}"));
    }
    Ok(out)
}

enum Said {
    Keep,
    Type(String),
}

fn said(patch: &Patch) -> Result<Said, NeedsProfile> {
    if patch.keep == Some(true) {
        return Ok(Said::Keep);
    }
    if patch.keep == Some(false) {
        return Err(NeedsProfile("something is included that is kept otherwise"));
    }
    let Some(dtype) = &patch.dtype else {
        return Err(NeedsProfile("a group size or rank is set without a dtype"));
    };
    let mut text = dtype.to_string();
    let numbers = [
        ("group_size", patch.group_size.map(|n| n.to_string())),
        ("svd_rank", patch.svd_rank.map(|n| n.to_string())),
        ("svd_steps", patch.svd_steps.map(|n| n.to_string())),
        ("hadamard", patch.hadamard.map(|n| n.to_string())),
        ("codebook", patch.codebook.map(|on| on.to_string())),
        ("scale_search", patch.scale_search.map(|s| s.name().to_owned())),
    ];
    for (key, value) in numbers {
        if let Some(value) = value {
            text.push_str(&format!(",{key}={value}"));
        }
    }
    Ok(Said::Type(text))
}

/// A word as a POSIX shell reads it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Dtype, Rule};

    fn uint4() -> Patch {
        Patch { dtype: Some(Dtype::new("uint4")), ..Patch::default() }
    }

    fn rule(pattern: &str, patch: Patch) -> Rule {
        Rule { pattern: Pattern::new(pattern).expect("a pattern"), patch, reason: None, enabled: true }
    }

    #[test]
    fn choices_as_flags() {
        fn check(change: impl Fn(&mut Settings), expected: Result<&str, &'static str>) {
            let mut s = Settings::new(Family::Sdnq);
            change(&mut s);
            let got = line(&Profile::new(s), &["m.safetensors".into()], "out dir", None);
            let expected = expected.map(|flags| format!("mixdown convert m.safetensors --to sdnq{flags} -o 'out dir'"));
            assert_eq!(got, expected.map_err(NeedsProfile));
        }
        check(|_| (), Ok(""));
        check(
            |s| s.defaults = Patch { group_size: Some(-1), svd_rank: Some(8), ..uint4() },
            Ok(" --dtype uint4 --group-size -1 --svd-rank 8"),
        );
        check(|s| s.exclude = vec![Pattern::new("norm|out").expect("a pattern")], Ok(" '--exclude=norm|out'"));
        check(
            |s| s.rules = vec![rule("to_[qk]", Patch { group_size: Some(64), ..uint4() })],
            Ok(" '--tensor-type=to_[qk]=uint4,group_size=64'"),
        );
        check(
            |s| {
                s.overrides.insert("a.weight".into(), Patch::keep());
                s.overrides.insert("b.weight".into(), uint4());
            },
            Ok(r" '--exclude=^a\.weight$' '--tensor-type=^b\.weight$=uint4'"),
        );
        check(
            |s| {
                s.rules = vec![rule("a", uint4()), rule("b", Patch::keep())];
                s.overrides.insert("a.weight".into(), Patch::keep());
            },
            Ok(r" --exclude=b '--exclude=^a\.weight$' --tensor-type=a=uint4"),
        );
        check(
            |s| {
                s.overrides.insert("a.weight".into(), Patch { keep: Some(false), ..uint4() });
            },
            Err("something is included that is kept otherwise"),
        );
    }

    #[test]
    fn the_pre_tokenizer_is_a_flag_and_other_options_of_gguf_need_a_profile() {
        let said = |change: fn(&mut Settings)| {
            let mut s = Settings::new(Family::Gguf);
            change(&mut s);
            line(&Profile::new(s), &["m".into()], "o.gguf", None)
        };
        let pre: fn(&mut Settings) = |s| s.gguf.pre = Some("llama-bpe".into());
        assert_eq!(said(pre), Ok("mixdown convert m --to gguf --pre llama-bpe -o o.gguf".into()));
        assert_eq!(said(|s| s.gguf.pure = true), Err(NeedsProfile("GGUF's own options are set")));
    }

    #[test]
    fn a_saved_profile_says_it_all() {
        let mut s = Settings::new(Family::Sdnq);
        s.overrides.insert("a.weight".into(), Patch { keep: Some(false), ..Patch::default() });
        assert_eq!(
            line(&Profile::new(s), &["--demo".into()], "o", Some("my profile")).expect("a line"),
            "mixdown convert --demo --profile 'my profile' -o o"
        );
    }

    #[test]
    fn words_for_a_shell() {
        fn check(word: &str, expected: &str) {
            assert_eq!(quoted(word), expected);
        }
        check("a.safetensors", "a.safetensors");
        check("", "''");
        check("it's", r"'it'\''s'");
        check("~/x", "'~/x'");
        check("$(x)", "'$(x)'");
    }
}
