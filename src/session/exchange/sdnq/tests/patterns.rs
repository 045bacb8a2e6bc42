//! Patterns in both words.
use super::*;
use crate::session::exchange::sdnq::pattern::{Meant, Relation};

#[test]
fn what_is_sayable_in_sdnqs_words() {
    /// A regular expression, and the patterns that together mean the same; none: there are no words for it.
    fn check(regex: &str, patterns: &[&str]) {
        let meant = Meant::from_regex(regex).unwrap_or_default();
        let got: Option<Vec<String>> = meant.iter().map(Meant::sdnq).collect();
        assert_eq!(got.unwrap_or_default(), patterns, "{regex}");
    }
    check(r"^a\.b\.weight$", &["a.b.weight"]);
    check(r"^blocks\.0", &[".blocks.0"]);
    check(r"^proj_out", &[".proj_out"]);
    check(r"(^|\.)norm_out(\.|$)", &["norm_out"]);
    check(r"(^|\.)(a|b)(\.|$)", &["a", "b"]);
    check(r"attn", &["*attn*"]);
    check(r"attn\.to_q", &[r"*attn\.to_q*"]);
    check(r"^blocks\..*\.attn", &[r"blocks.*\.attn*"]);
    check(r"^blocks.*norm", &["blocks*norm*"]);
    check(r"\.bias$", &[r"*\.bias$"]);
    check(r"^blocks\..*\.ff\.weight$", &[r"blocks.*\.ff\.weight$"]);
    check(r"attn\.to_[qk]", &[r"*attn\.to_q*", r"*attn\.to_k*"]);
    check(r"attn\.(to|add)_q", &[r"*attn\.to_q*", r"*attn\.add_q*"]);
    check(r"norm|^proj_out|(^|\.)wte(\.|$)", &["*norm*", ".proj_out", "wte"]);
    check(r"blocks\.[0-2]\.", &["*blocks\\.0.*", "*blocks\\.1.*", "*blocks\\.2.*"]);
    // What any name fits.
    check("", &["."]);
    check("^", &["."]);
    check(".*", &["."]);
    // A whole name without a dot would be taken for a segment.
    check("^head$", &["head$*"]);
    check(r"^transformer_blocks.0.norm", &["transformer_blocks.0.norm*"]);
    for none in [
        r"blocks\.\d+\.",
        "a+",
        "(a|b)?c",
        "^[^a]",
        "(?i)attn",
        r"\bnorm\b",
        "a{2}",
        r"^\..*x",
        r"a\*",
        r"(^|\.)a\.b(\.|$)",
        r"(^|\.)a",
        "[a-z][a-z]",
        "x$y",
    ] {
        check(none, &[]);
    }
}

#[test]
fn what_sdnqs_patterns_mean() {
    fn check(pattern: &str, regex: &str) {
        assert_eq!(Meant::from_sdnq(pattern).regex(), regex);
    }
    check("a.b.weight", r"^a\.b\.weight$");
    check("norm_out", r"(^|\.)norm_out(\.|$)");
    check(".proj_out", "^proj_out");
    check(".", "^");
    check("", r"(^|\.)(\.|$)");
    check("transformer_blocks.0.norm*", "^transformer_blocks.0.norm");
    check("blocks.*.attn*", r"^blocks\..*.attn");
    check("*attn*", "attn");
    check("*.weight", r".weight");
    check(r"*\.weight$", r"\.weight$");
    check("head$*", "^head$");
    // What is more than texts stays what it is.
    check("(a|b)*", "^(?:(a|b).*)");
    check(r"a\.*", r"^(?:a\\..*)");
}

fn sdnq_patterns() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => r"[ab.*_$-]{0,6}",
        1 => r"[ab][ab.*]{0,3}\\\.[ab]{0,2}[*]?",
        1 => Just("(a|b)*".to_owned()),
        1 => Just("[ab]*.b".to_owned()),
    ]
    .prop_filter("a pattern that the library takes", |p| {
        let python = p.replace(".*", "\\.*").replace('*', ".*");
        !p.contains('*') || p.starts_with('.') || regex::Regex::new(&python).is_ok()
    })
}

fn regexes() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[ab_]{1,2}",
        3 => Just(r"\.".to_owned()),
        2 => Just(".*".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just("(a|b.*)".to_owned()),
        1 => Just("[ab_]".to_owned()),
        1 => Just("a+".to_owned()),
    ];
    let text = prop::collection::vec(piece, 0..5).prop_map(|p| p.concat());
    let one = (prop::sample::select(vec!["", "^", r"(^|\.)"]), text, prop::sample::select(vec!["", "$", r"(\.|$)"]))
        .prop_map(|(a, b, c)| format!("{a}{b}{c}"));
    prop::collection::vec(one, 1..3).prop_map(|parts| parts.join("|"))
}

fn some_names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab_.$-]{0,8}", 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_pattern_of_theirs_means_what_the_library_takes_it_for(pattern in sdnq_patterns(), names in some_names()) {
        let meant = Meant::from_sdnq(&pattern);
        let regex = Pattern::new(&meant.regex()).expect("a regular expression");
        for name in names.iter().chain([&pattern]).filter(|n| !n.contains('*')) {
            let expected = check_param_name_in(name, &[&pattern]);
            prop_assert_eq!(regex.hits(&[name]), expected, "{} as {} on {}", pattern, meant.regex(), name);
            prop_assert!(meant.hits(name).is_none_or(|hit| hit == expected), "{:?} on {}", meant, name);
        }
    }

    #[test]
    fn a_pattern_of_ours_is_said_in_theirs(regex in regexes(), names in some_names()) {
        let patterns: Option<Vec<String>> =
            Meant::from_regex(&regex).and_then(|meant| meant.iter().map(Meant::sdnq).collect());
        if let Some(patterns) = patterns {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let ours = Pattern::new(&regex).expect("a regular expression");
            for name in names {
                prop_assert_eq!(ours.hits(&[&name]), check_param_name_in(&name, &patterns), "{} on {}", regex, name);
            }
        }
    }

    #[test]
    fn what_is_said_of_two_patterns_holds(
        a in prop_oneof![sdnq_patterns(), "[ab.]{1,3}", r"\.[ab.]{0,2}"],
        b in prop_oneof![sdnq_patterns(), "[ab.]{1,3}", r"\.[ab.]{0,2}"],
        names in some_names(),
    ) {
        let (a, b) = (Meant::from_sdnq(&a), Meant::from_sdnq(&b));
        for name in names {
            let (Some(of_a), Some(of_b)) = (a.hits(&name), b.hits(&name)) else { continue };
            match a.relation(&b) {
                Relation::Inside => prop_assert!(!of_a || of_b, "{:?} is not inside {:?}: {}", a, b, name),
                Relation::Apart => prop_assert!(!(of_a && of_b), "{:?} and {:?} meet in {}", a, b, name),
                Relation::Unknown => {}
            }
        }
    }
}
