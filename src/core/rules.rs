//! Rules: patterns over names that decide, field by field, what becomes of a tensor.
//!
//! In order, each later word beats the earlier ones: the target's defaults, the preset's rules, `include`, `exclude`,
//! the profile's rules, the overrides by exact name.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use regex::Regex;

use super::dtype::Dtype;
use super::error::{Error, Result};
use super::imatrix::Imatrix;
use super::options::{ComfyOptions, Donor, GgufOptions, Names, NunchakuOptions};
use super::recipe::{Family, Patch, ScaleSearch};

/// A regex as it was written; searched, not anchored.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles it; an error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self> {
        // A pattern comes from a person; 1 MiB of automaton is far beyond any list of layers.
        regex::RegexBuilder::new(text).size_limit(1 << 22).build().map(Self).map_err(|e| {
            let detail = e.to_string();
            let last = detail.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::usage(format!("`{text}` is not a regular expression: {last}")).because(e)
        })
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
    /// Whether it is found in any of a tensor's names.
    pub fn hits(&self, names: &[&str]) -> bool {
        names.iter().any(|n| self.0.is_match(n))
    }
}

/// All patterns of some settings, searched for at once; see [`Settings::search`].
#[derive(Clone, Debug)]
pub struct Search(Option<regex::RegexSet>);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// A pattern and what it says of the tensors it matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Searched in the source name and in the output name.
    pub pattern: Pattern,
    /// What it says.
    pub patch: Patch,
    /// Why, for people.
    pub reason: Option<String>,
    /// Switched off rules stay in the list.
    pub enabled: bool,
}

/// Yes, no, or the target's habit.
pub type Switch = Option<bool>;

/// Everything that was chosen, for a whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What to write.
    pub target: Family,
    /// What holds where nothing else is said.
    pub defaults: Patch,
    /// Rules that come with the model's architecture. They give way to any dtype that the user names.
    pub preset: Vec<Rule>,
    /// The preset's name, for people.
    pub preset_name: Option<String>,
    /// When there are any, only what one of them matches is quantized.
    pub include: Vec<Pattern>,
    /// What one of them matches is left as it is.
    pub exclude: Vec<Pattern>,
    /// Ordered; the last match wins.
    pub rules: Vec<Rule>,
    /// By exact source name.
    pub overrides: BTreeMap<String, Patch>,
    /// Self-description as tensors (`true`) or in the header (`false`).
    pub metadata_tensors: Switch,
    /// Whether convolutions are quantized too.
    pub quant_conv: bool,
    /// Whether embedding tables are quantized too.
    pub quant_embedding: bool,
    /// What only GGUF knows.
    pub gguf: GgufOptions,
    /// What only ComfyUI's files know.
    pub comfy: ComfyOptions,
    /// What only Nunchaku's files know.
    pub nunchaku: NunchakuOptions,
    /// What the file that smoothing comes from holds, once it was read.
    pub donor: Option<Arc<Donor>>,
    /// The model's configuration, where it was said to be elsewhere than beside the weights: its JSON.
    pub config: Option<Arc<str>>,
    /// Whose names tensors have; none: those that the target's consumer knows.
    pub names: Option<Names>,
    /// The file of the importance matrix.
    pub imatrix: Option<String>,
    /// What that file holds, once it was read.
    pub importance: Option<Arc<Imatrix>>,
}

impl Settings {
    /// Nothing chosen yet.
    pub fn new(target: Family) -> Self {
        Self {
            target,
            defaults: Patch::default(),
            preset: Vec::new(),
            preset_name: None,
            include: Vec::new(),
            exclude: Vec::new(),
            rules: Vec::new(),
            overrides: BTreeMap::new(),
            metadata_tensors: None,
            quant_conv: false,
            quant_embedding: false,
            gguf: GgufOptions::default(),
            comfy: ComfyOptions::default(),
            nunchaku: NunchakuOptions::default(),
            donor: None,
            config: None,
            names: None,
            imatrix: None,
            importance: None,
        }
    }

    /// What is said of a tensor that is called any of `names`, the source name first.
    pub fn decide(&self, names: &[&str]) -> Decision {
        self.decide_by(names, |_, pattern| pattern.hits(names))
    }

    /// The same of each of many tensors, whose names are searched for all patterns at once.
    pub fn decider(&self, tensors: usize) -> impl Fn(&[&str]) -> Decision + Sync + '_ {
        let search = self.search(tensors);
        move |names| self.decide_found(&search, names)
    }

    /// All patterns together, for [`Self::decide_found`] of so many tensors.
    pub fn search(&self, tensors: usize) -> Search {
        /// Making it takes as long as searching the names of some tens of tensors for one pattern after another.
        const WORTH_IT: usize = 64;
        if tensors < WORTH_IT {
            return Search(None);
        }
        let texts: Vec<&str> = self.patterns().map(Pattern::as_str).collect();
        // A few are found faster one by one.
        let set = (texts.len() > 3).then(|| regex::RegexSetBuilder::new(&texts).size_limit(1 << 24).build());
        // Many large ones together may be too large.
        Search(set.and_then(std::result::Result::ok))
    }

    /// What [`Self::decide`] says, by a search for these settings' patterns; the overrides may be others by now.
    pub fn decide_found(&self, search: &Search, names: &[&str]) -> Decision {
        let Some(set) = &search.0 else { return self.decide(names) };
        let found: Vec<regex::SetMatches> = names.iter().map(|name| set.matches(name)).collect();
        self.decide_by(names, |i, _| found.iter().any(|f| f.matched(i)))
    }

    /// Every pattern, in the order in which they speak.
    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let preset = self.preset.iter().map(|r| &r.pattern);
        let rules = self.rules.iter().map(|r| &r.pattern);
        preset.chain(&self.include).chain(&self.exclude).chain(rules)
    }

    /// `hits`: whether a pattern is found, by its place among all of them.
    fn decide_by(&self, names: &[&str], hits: impl Fn(usize, &Pattern) -> bool) -> Decision {
        let include = self.preset.len();
        let exclude = include + self.include.len();
        let rules = exclude + self.exclude.len();
        let mut d = Decision { patch: self.defaults.clone(), kept_by: None, by: Cause::Defaults };
        for (i, rule) in self.preset.iter().enumerate().filter(|(i, r)| r.enabled && hits(*i, &r.pattern)) {
            d.say(&rule.patch, Cause::Preset(i));
        }
        if !self.include.is_empty() && !self.include.iter().enumerate().any(|(i, p)| hits(include + i, p)) {
            d.say(&Patch::keep(), Cause::NotIncluded);
        }
        for (i, _) in self.exclude.iter().enumerate().filter(|(i, p)| hits(exclude + i, p)) {
            d.say(&Patch::keep(), Cause::Exclude(i));
        }
        for (i, rule) in self.rules.iter().enumerate().filter(|(i, r)| r.enabled && hits(rules + i, &r.pattern)) {
            // A person who names a dtype for a layer means to quantize it, whatever the preset advises.
            if rule.patch.dtype.is_some() && matches!(d.kept_by, Some(Cause::Preset(_))) {
                d.patch.keep = None;
                d.kept_by = None;
            }
            d.say(&rule.patch, Cause::Rule(i));
        }
        if let Some(patch) = names.first().and_then(|n| self.overrides.get(*n)) {
            if patch.dtype.is_some() && patch.keep.is_none() && matches!(d.kept_by, Some(Cause::Preset(_))) {
                d.patch.keep = None;
                d.kept_by = None;
            }
            d.say(patch, Cause::Override);
        }
        d
    }

    /// Why a tensor is kept, in words.
    pub fn explain(&self, cause: &Cause) -> String {
        let named = |rule: &Rule| match &rule.reason {
            Some(reason) => format!("`{}`: {reason}", rule.pattern.as_str()),
            None => format!("`{}`", rule.pattern.as_str()),
        };
        match cause {
            Cause::Defaults => "defaults".into(),
            Cause::Preset(i) => match (self.preset.get(*i), &self.preset_name) {
                (Some(rule), Some(name)) => format!("preset {name} {}", named(rule)),
                (Some(rule), None) => format!("preset {}", named(rule)),
                (None, _) => "preset".into(),
            },
            Cause::NotIncluded => "not included".into(),
            Cause::Exclude(i) => match self.exclude.get(*i) {
                Some(p) => format!("excluded by `{}`", p.as_str()),
                None => "excluded".into(),
            },
            Cause::Rule(i) => self.rules.get(*i).map_or_else(|| "rule".into(), |r| format!("rule {}", named(r))),
            Cause::Override => "set by hand".into(),
        }
    }
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nothing but the defaults.
    Defaults,
    /// A rule of the preset, by index.
    Preset(usize),
    /// There is an `include` list and no entry of it matches.
    NotIncluded,
    /// An entry of `exclude`, by index.
    Exclude(usize),
    /// A rule of the profile, by index.
    Rule(usize),
    /// An override by exact name.
    Override,
}

/// What the rules say of one tensor, and which of them spoke last.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Field by field.
    pub patch: Patch,
    /// What said that it is kept, when it is.
    pub kept_by: Option<Cause>,
    /// What spoke last.
    pub by: Cause,
}

impl Decision {
    fn say(&mut self, patch: &Patch, cause: Cause) {
        match patch.keep {
            Some(true) => self.kept_by = Some(cause.clone()),
            Some(false) => self.kept_by = None,
            None => {}
        }
        self.patch.apply(patch);
        self.by = cause;
    }
    /// The same with a patch laid over it by hand. One that names a dtype means to quantize.
    pub fn with(&self, patch: &Patch) -> Self {
        let mut d = self.clone();
        if patch.dtype.is_some() && patch.keep.is_none() {
            d.patch.keep = None;
            d.kept_by = None;
        }
        d.say(patch, Cause::Override);
        d
    }
    /// Whether the tensor is to be left as it is.
    pub fn keeps(&self) -> bool {
        self.patch.keep == Some(true)
    }
}

/// How many values a Hadamard rotation mixes, as people say it.
pub mod hadamard {
    /// What *on* means.
    pub const DEFAULT: u32 = 256;
    /// What is allowed beside 0 for none, in words.
    pub const FORM: &str = "a power of two from 4 to 65536";

    /// A size of that form. Smaller ones mix nothing worth the name.
    pub fn size(n: u64) -> Option<u32> {
        u32::try_from(n).ok().filter(|n| n.is_power_of_two() && (4..=65536).contains(n))
    }
}

/// The form of a [`TensorType`], for help and errors.
const FORM: &str =
    "REGEX=DTYPE[,group_size=N][,svd_rank=N][,svd_steps=N][,hadamard=N][,codebook=BOOL][,scale_search=HOW]";

/// One `REGEX=DTYPE[,group_size=N][,svd_rank=N]…` of the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorType {
    /// The part before the last `=` that is followed by a dtype.
    pub pattern: Pattern,
    /// The dtype as written; the target makes it canonical.
    pub dtype: String,
    /// The other fields, as far as they were given.
    pub patch: Patch,
}

impl TensorType {
    /// Reads it. The pattern may itself contain `=` and `,`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |what: &str| Error::usage(format!("`{text}`: {what}; write {FORM}"));
        let number = |key: &str| bad(&format!("{key} takes a whole number"));
        let mut rest = text;
        let mut patch = Patch::default();
        // Options are taken from the end, so that the pattern keeps its own commas.
        while let Some((before, option)) = rest.rsplit_once(',') {
            let Some((key, value)) = option.split_once('=') else {
                break;
            };
            let (key, value) = (key.trim(), value.trim());
            match key {
                "group_size" => patch.group_size = Some(value.parse().map_err(|_| number(key))?),
                "svd_rank" => patch.svd_rank = Some(value.parse().map_err(|_| number(key))?),
                "svd_steps" => patch.svd_steps = Some(value.parse().map_err(|_| number(key))?),
                "hadamard" => {
                    let size = value.parse().ok().and_then(|n| if n == 0 { Some(0) } else { hadamard::size(n) });
                    let wrong = || bad(&format!("hadamard takes {}, or 0 for none", hadamard::FORM));
                    patch.hadamard = Some(size.ok_or_else(wrong)?);
                }
                "codebook" => {
                    patch.codebook = Some(value.parse().map_err(|_| bad("codebook takes true or false"))?);
                }
                "scale_search" => {
                    let wrong = || bad("scale_search takes absmax or mse");
                    patch.scale_search = Some(ScaleSearch::parse(value).ok_or_else(wrong)?);
                }
                // A pattern may have commas and `=` of its own, but not a dtype before them.
                _ if before.contains('=') && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                    return Err(bad(&format!("there is no field `{key}`")));
                }
                _ => break,
            }
            rest = before;
        }
        let (pattern, dtype) = rest.rsplit_once('=').ok_or_else(|| bad("there is no `=`"))?;
        if pattern.is_empty() || dtype.is_empty() {
            return Err(bad("the pattern or the dtype is missing"));
        }
        Ok(Self { pattern: Pattern::new(pattern)?, dtype: dtype.trim().to_owned(), patch })
    }

    /// The rule it stands for, with the dtype in its canonical spelling.
    pub fn rule(self, dtype: Dtype) -> Rule {
        Rule { pattern: self.pattern, patch: Patch { dtype: Some(dtype), ..self.patch }, reason: None, enabled: true }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, patch: Patch) -> Rule {
        Rule { pattern: Pattern::new(pattern).expect("a pattern"), patch, reason: None, enabled: true }
    }
    fn dtype(name: &str) -> Patch {
        Patch { dtype: Some(Dtype::new(name)), ..Patch::default() }
    }

    /// Settings in which every kind of word is spoken once.
    fn settings() -> Settings {
        let mut s = Settings::new(Family::Sdnq);
        s.defaults = dtype("int8");
        s.preset = vec![rule("lm_head|embed", Patch::keep())];
        s.exclude = vec![Pattern::new("norm").expect("a pattern")];
        s.rules = vec![
            rule("attn", dtype("uint4")),
            rule("attn.to_v", Patch { group_size: Some(32), ..dtype("int6") }),
            rule("blocks.1.norm", Patch { keep: Some(false), ..Patch::default() }),
            rule("embed", dtype("uint5")),
        ];
        s.overrides.insert("blocks.0.attn.to_v".into(), Patch { svd_rank: Some(8), ..Patch::default() });
        s
    }

    #[test]
    fn later_words_beat_earlier_ones_field_by_field() {
        fn check(name: &str, said: &str, by: Cause) {
            let d = settings().decide(&[name]);
            assert_eq!((d.patch.to_string().as_str(), d.by), (said, by), "{name}");
        }
        check("blocks.0.mlp", "int8", Cause::Defaults);
        check("blocks.0.attn.to_q", "uint4", Cause::Rule(0));
        check("blocks.0.attn.to_v", "int6 group 32 rank 8", Cause::Override);
        check("blocks.0.norm", "keep int8", Cause::Exclude(0));
        check("blocks.1.norm", "quantize int8", Cause::Rule(2));
        check("lm_head", "keep int8", Cause::Preset(0));
    }

    #[test]
    fn a_dtype_named_by_the_user_beats_the_preset_but_not_an_exclusion() {
        assert!(!settings().decide(&["embed"]).keeps());
        let mut s = settings();
        s.exclude.push(Pattern::new("embed").expect("a pattern"));
        assert!(s.decide(&["embed"]).keeps());
    }

    #[test]
    fn a_search_for_all_patterns_at_once_decides_the_same() {
        let mut off = settings();
        off.rules.iter_mut().for_each(|r| r.enabled = false);
        let mut included = settings();
        included.include = ["attn", "embed"].iter().filter_map(|p| Pattern::new(p).ok()).collect();
        let few = Settings { preset: Vec::new(), rules: Vec::new(), ..settings() };
        let names =
            ["blocks.0.mlp", "blocks.0.attn.to_q", "blocks.0.attn.to_v", "blocks.0.norm", "blocks.1.norm", "lm_head"];
        for settings in [settings(), off, included, few] {
            let decide = settings.decider(1000);
            for (a, b) in names.iter().zip(names.iter().rev()) {
                for names in [&[*a][..], &[*a, *b]] {
                    assert_eq!(decide(names), settings.decide(names), "{names:?}");
                }
            }
        }
    }

    #[test]
    fn sizes_of_rotations() {
        fn check(n: u64, ok: bool) {
            assert_eq!(hadamard::size(n), ok.then_some(n as u32), "{n}");
        }
        for n in [4, 8, 256, 65536] {
            check(n, true);
        }
        for n in [0, 1, 2, 3, 48, 131_072, u64::MAX, (1 << 32) + 256] {
            check(n, false);
        }
    }

    #[test]
    fn either_name_counts() {
        assert!(settings().decide(&["a.b", "x.norm"]).keeps());
    }

    #[test]
    fn tensor_types_are_read() {
        fn check(text: &str, expected: Result<(&str, &str, &str), &str>) {
            let got = TensorType::parse(text);
            match (&got, expected) {
                (Ok(t), Ok((pattern, dtype, patch))) => {
                    assert_eq!(
                        (t.pattern.as_str(), t.dtype.as_str(), t.patch.to_string().as_str()),
                        (pattern, dtype, patch)
                    );
                }
                (Err(e), Err(part)) => assert!(e.to_string().contains(part), "{e}"),
                _ => panic!("{text}: {got:?}"),
            }
        }
        check("attn=uint4", Ok(("attn", "uint4", "")));
        check("attn=uint4,group_size=-1,svd_rank=16", Ok(("attn", "uint4", "group row rank 16")));
        check("a{1,2}=b=int8", Ok(("a{1,2}=b", "int8", "")));
        check("attn", Err("there is no `=`"));
        check("=int8", Err("is missing"));
        check("attn=int8,group_size=x", Err("whole number"));
        check("a(=int8", Err("not a regular expression"));
        check("attn=uint4,hadamard=64,codebook=true", Ok(("attn", "uint4", "hadamard 64 codebook")));
        check("attn=uint4,hadamard=0,codebook=false", Ok(("attn", "uint4", "no hadamard no codebook")));
        check("attn=uint4, svd_steps = 4 ,hadamard=4", Ok(("attn", "uint4", "steps 4 hadamard 4")));
        check(
            "attn=int8,hadamard=48",
            Err("hadamard takes a power of two from 4 to 65536, or 0 for none; write REGEX="),
        );
        check("attn=int8,hadamard=2", Err("a power of two from 4"));
        check("attn=int8,hadamard=131072", Err("to 65536"));
        check("attn=int8,codebook=yes", Err("codebook takes true or false"));
        check("attn=nvfp4,scale_search=mse", Ok(("attn", "nvfp4", "scales by mse")));
        check("attn=nvfp4,scale_search=best", Err("scale_search takes absmax or mse"));
        check("attn=int8,grp=3", Err("there is no field `grp`"));
        check("to_q,to_k=int8", Ok(("to_q,to_k", "int8", "")));
    }
}
