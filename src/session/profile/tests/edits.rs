//! What a change does to the text, and what it leaves alone.
use super::*;

const TEXT: &str = r#"# about the file
target = "sdnq" # the target
exclude = ["norm", "out"]  # kept

[defaults] # everywhere
dtype = "uint4" # small

# about a
[[rule]]
pattern = 'a'
dtype = "INT8" # wide

# about b
[[rule]]
pattern = 'b'
keep = true

# about x
[tensor."x.weight"]
dtype = "int4"
# the end
"#;

/// `TEXT` with one piece changed.
fn with(old: &str, new: &str) -> String {
    assert!(TEXT.contains(old), "{old}");
    TEXT.replacen(old, new, 1)
}

#[test]
fn a_change_leaves_the_rest_alone() {
    fn check(change: fn(&mut Profile), expected: &str) {
        let mut profile = parse(TEXT);
        change(&mut profile);
        assert_eq!(profile.to_text(), expected);
    }
    check(|p| p.settings.defaults.dtype = Some(Dtype::new("int8")), &with("\"uint4\" # small", "\"int8\" # small"));
    check(|p| p.settings.defaults.group_size = Some(-1), &with("# small\n", "# small\ngroup_size = \"row\"\n"));
    check(|p| p.settings.metadata_tensors = Some(false), &with("# kept\n", "# kept\nmetadata_tensors = false\n"));
    check(|p| p.settings.quant_conv = true, &with("# kept\n", "# kept\nquant_conv = true\n"));
    check(|p| p.settings.defaults.hadamard = Some(128), &with("# small\n", "# small\nhadamard = 128\n"));
    check(|p| p.settings.rules[0].patch.hadamard = Some(0), &with("# wide\n", "# wide\nhadamard = false\n"));
    check(|p| p.settings.rules[0].patch.codebook = Some(true), &with("# wide\n", "# wide\ncodebook = true\n"));
    check(|p| p.settings.exclude.extend(Pattern::new(r"ff\.0")), &with("\"out\"]", "\"out\", 'ff\\.0']"));
    check(|p| drop(p.settings.exclude.remove(0)), &with("[\"norm\", \"out\"]", "[\"out\"]"));
    check(|p| p.settings.exclude.clear(), &with("exclude = [\"norm\", \"out\"]  # kept\n", ""));
    check(
        |p| p.settings.rules.swap(0, 1),
        &with(
            "# about a\n[[rule]]\npattern = 'a'\ndtype = \"INT8\" # wide\n\n# about b\n[[rule]]\npattern = 'b'\nkeep = true\n",
            "# about b\n[[rule]]\npattern = 'b'\nkeep = true\n\n# about a\n[[rule]]\npattern = 'a'\ndtype = \"INT8\" # wide\n",
        ),
    );
    check(
        |p| drop(p.settings.rules.remove(0)),
        &with("\n# about a\n[[rule]]\npattern = 'a'\ndtype = \"INT8\" # wide\n", ""),
    );
    check(
        |p| p.settings.rules.insert(1, rule("c", Patch::keep())),
        &with("\n# about b", "\n[[rule]]\npattern = \"c\"\nkeep = true\n\n# about b"),
    );
    check(|p| p.settings.rules[0].enabled = false, &with("# wide\n", "# wide\nenabled = false\n"));
    check(|p| p.settings.rules[1].pattern = Pattern::new("bb").expect("a pattern"), &with("'b'", "\"bb\""));
    check(
        |p| {
            let patch = Patch { svd_rank: Some(8), ..Patch::default() };
            p.settings.overrides.insert("x.10".into(), patch.clone());
            p.settings.overrides.insert("x.9".into(), patch);
        },
        &with("\"int4\"\n", "\"int4\"\n\n[tensor.\"x.9\"]\nsvd_rank = 8\n\n[tensor.\"x.10\"]\nsvd_rank = 8\n"),
    );
    check(|p| p.settings.overrides.clear(), &with("\n# about x\n[tensor.\"x.weight\"]\ndtype = \"int4\"\n", ""));
    check(|p| p.preset = PresetChoice::None, &with("# kept\n", "# kept\npreset = false\n"));
    check(|p| p.preset = PresetChoice::Named("wan".into()), &with("# kept\n", "# kept\npreset = \"wan\"\n"));
    check(|p| p.architecture = Some("UNet".into()), &with("# kept\n", "# kept\narchitecture = \"UNet\"\n"));
}

#[test]
fn other_forms_stay_what_they_are() {
    fn check(text: &str, change: fn(&mut Profile), expected: &str) {
        let mut profile = parse(&format!("target = 'sdnq'\n{text}"));
        change(&mut profile);
        assert_eq!(profile.to_text(), format!("target = 'sdnq'\n{expected}"));
    }
    check(
        "defaults = { dtype = 'int8' } # c\n",
        |p| p.settings.defaults.svd_rank = Some(4),
        "defaults = { dtype = 'int8', svd_rank = 4 } # c\n",
    );
    check(
        "defaults.dtype = 'int8'\n",
        |p| p.settings.defaults.svd_rank = Some(4),
        "defaults.dtype = 'int8'\ndefaults.svd_rank = 4\n",
    );
    check(
        "[tensor]\nx = { keep = true }\n",
        |p| {
            p.settings.overrides.insert("y".into(), Patch::keep());
        },
        "[tensor]\nx = { keep = true }\n\n[tensor.y]\nkeep = true\n",
    );
    check(
        "tensor.x.keep = true\n",
        |p| {
            p.settings.overrides.insert("y".into(), Patch::keep());
        },
        "tensor.x.keep = true\ntensor.y = { keep = true }\n",
    );
    check(
        "exclude = [\n  'a', # one\n  'b', # two\n]\n",
        |p| p.settings.exclude.extend(Pattern::new("c")),
        "exclude = [\n  'a', # one\n  'b', # two\n  \"c\",\n]\n",
    );
    check(
        "exclude = [\n  'a', # one\n  'b', # two\n  'c',\n]\n",
        |p| drop(p.settings.exclude.remove(1)),
        "exclude = [\n  'a', # one\n  'c',\n]\n",
    );
    check(
        "exclude = [ # these\n  # x\n  'a', # one\n  'b' # two\n  # end\n]\n",
        |p| {
            p.settings.exclude.swap(0, 1);
            p.settings.exclude.extend(Pattern::new("c"));
        },
        "exclude = [ # these\n  'b', # two\n  # x\n  'a', # one\n  \"c\"\n  # end\n]\n",
    );
    check(
        "exclude = [ 'a', 'b', ]\n",
        |p| p.settings.exclude.extend(Pattern::new("c")),
        "exclude = ['a', 'b', \"c\"]\n",
    );
    check(
        "exclude = ['a', 'b',\n  'c'] # c\n",
        |p| p.settings.exclude.swap(0, 2),
        "exclude = [\n  'c', 'b', 'a'\n] # c\n",
    );
    check(
        "rule = [{ pattern = 'a' }]\n",
        |p| p.settings.rules.push(rule("b", Patch::keep())),
        "\n[[rule]]\npattern = 'a'\n\n[[rule]]\npattern = \"b\"\nkeep = true\n",
    );
    check(
        "quant_embedding = true # tables\n",
        |p| p.settings.quant_embedding = false,
        "quant_embedding = false # tables\n",
    );
    check(
        "defaults.hadamard = true # c\n",
        |p| p.settings.defaults.hadamard = Some(0),
        "defaults.hadamard = false # c\n",
    );
    check("preset = 'flux' # c\n", |p| p.preset = PresetChoice::Named("wan".into()), "preset = \"wan\" # c\n");
    check(
        "[preset]\nname = 'flux'\noff = ['x'] # c\n",
        |p| p.preset = PresetChoice::Automatic,
        "[preset]\noff = ['x'] # c\n",
    );
}

#[test]
fn what_stands_above_the_first_entry_speaks_of_the_file() {
    let mut profile = parse("# mine\nexclude = ['a']\n# t\ntarget = 'sdnq'\n");
    profile.settings.exclude.clear();
    assert_eq!(profile.to_text(), "# mine\n# t\ntarget = 'sdnq'\n");
}
