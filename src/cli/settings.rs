//! From flags and profiles to settings. Flags override the profile.
use std::path::Path;
use std::sync::Arc;

use super::args::SettingsArgs;
use crate::core::options::{ComfyOptions, GgufOptions, Names, NunchakuOptions};
use crate::core::recipe::{Patch, group_size};
use crate::core::rules::{Pattern, Rule, TensorType};
use crate::core::{Dtype, Error, Family, Model, Result, Settings};
use crate::format::hub::config;
use crate::format::{Opened, imatrix, profiles, save};
use crate::session::preset;
use crate::session::profile::{PresetChoice, Profile};
use crate::target::comfy::format::Format;
use crate::target::gguf::mixtures::{Mixture, rules};
use crate::target::{self, Knob};

/// The profile that the flags describe, for this model. `output` may tell the target.
pub fn profile(args: &SettingsArgs, opened: &Opened, output: Option<&Path>) -> Result<Profile> {
    let model = &opened.model;
    let mut profile = match &args.profile {
        Some(name) => load(name)?,
        None => Profile::new(Settings::new(default_family(output))),
    };
    if let Some(to) = &args.to {
        let family = parse_family(to)?;
        if family != profile.settings.target {
            retarget(&mut profile.settings, family);
        }
    }
    let s = &mut profile.settings;
    let target = target::get(s.target);
    if let Some(dtype) = &args.dtype {
        s.defaults.dtype = Some(target.parse_dtype(dtype).map_err(|e| elsewhere(e, s.target, dtype).at("--dtype"))?);
    }
    if args.group_size.is_some() {
        require(s.target, Knob::GroupSize, "--group-size")?;
        s.defaults.group_size = args.group_size;
    }
    if args.svd_rank.is_some_and(|r| r > 0) || args.svd_steps.is_some() {
        require(s.target, Knob::SvdRank, if args.svd_rank.is_some() { "--svd-rank" } else { "--svd-steps" })?;
    }
    s.defaults.svd_rank = args.svd_rank.or(s.defaults.svd_rank);
    s.defaults.svd_steps = args.svd_steps.or(s.defaults.svd_steps);
    if args.hadamard.is_some() || args.no_hadamard {
        require(s.target, Knob::Hadamard, if args.no_hadamard { "--no-hadamard" } else { "--hadamard" })?;
        s.defaults.hadamard = args.hadamard.or(Some(0));
    }
    if args.convrot.is_some() {
        require(s.target, Knob::ConvRot, "--convrot")?;
        s.defaults.hadamard = args.convrot;
    }
    if args.scale_search.is_some() {
        require(s.target, Knob::ScaleSearch, "--scale-search")?;
        s.defaults.scale_search = args.scale_search;
    }
    let names = [("--quant-metadata", args.quant_metadata), ("--key-prefix", args.key_prefix.is_some())];
    if let Some((flag, _)) = names.iter().find(|(_, given)| *given) {
        require(s.target, Knob::KeyNames, flag)?;
    }
    s.comfy.header |= args.quant_metadata;
    s.comfy.key_prefix = args.key_prefix.clone().or(s.comfy.key_prefix.take());
    if args.diffusers_names {
        require(s.target, Knob::DiffusersNames, "--diffusers-names")?;
        s.names = Some(Names::Diffusers);
    } else if args.keep_names {
        require(s.target, Knob::KeepNames, "--keep-names")?;
        s.names = Some(Names::Source);
    }
    let switch = |yes, no, knob, flags: [&str; 2]| -> Result<Option<bool>> {
        if yes || no {
            require(s.target, knob, flags[usize::from(no)])?;
        }
        Ok((yes || no).then_some(yes))
    };
    let codebook = switch(args.codebook, args.no_codebook, Knob::Codebook, ["--codebook", "--no-codebook"])?;
    let conv = switch(args.quant_conv, args.no_quant_conv, Knob::QuantConv, ["--quant-conv", "--no-quant-conv"])?;
    let embedding = switch(
        args.quant_embedding,
        args.no_quant_embedding,
        Knob::QuantEmbedding,
        ["--quant-embedding", "--no-quant-embedding"],
    )?;
    let metadata = switch(
        args.metadata_tensors,
        args.no_metadata_tensors,
        Knob::MetadataTensors,
        ["--metadata-tensors", "--no-metadata-tensors"],
    )?;
    s.defaults.codebook = codebook.or(s.defaults.codebook);
    s.quant_conv = conv.unwrap_or(s.quant_conv);
    s.quant_embedding = embedding.unwrap_or(s.quant_embedding);
    s.metadata_tensors = metadata.or(s.metadata_tensors);
    for text in &args.exclude {
        s.exclude.push(Pattern::new(text).map_err(|e| e.at("--exclude"))?);
    }
    for text in &args.include {
        s.include.push(Pattern::new(text).map_err(|e| e.at("--include"))?);
    }
    if let Some(path) = &args.tensor_type_file {
        let mut rules = tensor_type_file(path, s.target)?;
        s.rules.append(&mut rules);
    }
    for text in &args.tensor_type {
        let parsed = TensorType::parse(text).map_err(|e| e.at("--tensor-type"))?;
        if parsed.patch.group_size.is_some() {
            require(s.target, Knob::GroupSize, "--tensor-type group_size")?;
        }
        if parsed.patch.svd_rank.is_some_and(|r| r > 0) {
            require(s.target, Knob::SvdRank, "--tensor-type svd_rank")?;
        }
        if parsed.patch.hadamard.is_some_and(|n| n > 0) {
            require(s.target, Knob::Hadamard, "--tensor-type hadamard")?;
        }
        if parsed.patch.scale_search.is_some() {
            require(s.target, Knob::ScaleSearch, "--tensor-type scale_search")?;
        }
        if parsed.patch.codebook == Some(true) {
            require(s.target, Knob::Codebook, "--tensor-type codebook")?;
        }
        let dtype = target.parse_dtype(&parsed.dtype).map_err(|e| e.at("--tensor-type"))?;
        s.rules.push(parsed.rule(dtype));
    }
    gguf(args, s)?;
    comfy(args, s)?;
    nunchaku(args, s)?;
    apply_preset(&mut profile, model)?;
    if let Some(path) = &args.save_profile {
        save::check_side_file(path, "--save-profile", opened, output)?;
    }
    Ok(profile)
}

/// llama-quantize's options, and the importance matrix, which is read here.
fn gguf(args: &SettingsArgs, s: &mut Settings) -> Result<()> {
    let given = [
        ("--pure", args.pure),
        ("--output-tensor-type", args.output_tensor_type.is_some()),
        ("--token-embedding-type", args.token_embedding_type.is_some()),
        ("--leave-output-tensor", args.leave_output_tensor),
        ("--allow-requantize", args.allow_requantize),
        ("--override-kv", !args.override_kv.is_empty()),
        ("--prune-layers", args.prune_layers.is_some()),
        ("--pre", args.pre.is_some()),
        ("--keep-split", args.keep_split),
        ("--embed-loss", args.embed_loss),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
        require(s.target, Knob::Mixtures, flag)?;
    }
    let target = target::get(s.target);
    let dtype = |name: &Option<String>, flag: &str| {
        name.as_ref().map(|n| target.parse_dtype(n).map_err(|e| e.at(flag))).transpose()
    };
    let g = &mut s.gguf;
    g.output_type = dtype(&args.output_tensor_type, "--output-tensor-type")?.or(g.output_type.take());
    g.embedding_type = dtype(&args.token_embedding_type, "--token-embedding-type")?.or(g.embedding_type.take());
    for (mine, given) in [
        (&mut g.pure, args.pure),
        (&mut g.leave_output, args.leave_output_tensor),
        (&mut g.allow_requantize, args.allow_requantize),
        (&mut g.keep_split, args.keep_split),
        (&mut g.embed_loss, args.embed_loss),
    ] {
        *mine |= given;
    }
    g.override_kv.extend(args.override_kv.iter().cloned());
    g.prune_layers = args.prune_layers.clone().or(g.prune_layers.take());
    g.pre = args.pre.clone().or(g.pre.take());
    if let Some(path) = &args.imatrix {
        require(s.target, Knob::Importance, "--imatrix")?;
        s.imatrix = Some(path.display().to_string());
    }
    if let (Some(path), Ok(())) = (&s.imatrix, target.has(Knob::Importance)) {
        s.importance = Some(Arc::new(imatrix::open(Path::new(path)).map_err(|e| e.at("importance matrix"))?));
    }
    Ok(())
}

/// Nunchaku's options; what they name is read here.
fn nunchaku(args: &SettingsArgs, s: &mut Settings) -> Result<()> {
    let given = [
        ("--lite", args.lite),
        ("--smooth-from", args.smooth_from.is_some()),
        ("--config-yaml", args.config_yaml.is_some()),
        ("--model-path", args.model_path.is_some()),
        ("--extra-metadata", args.extra_metadata),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
        require(s.target, Knob::Nunchaku, flag)?;
    }
    let n = &mut s.nunchaku;
    n.lite |= args.lite;
    n.extra_metadata |= args.extra_metadata;
    let path = |given: &Option<std::path::PathBuf>| given.as_ref().map(|p| p.display().to_string());
    n.smooth_from = path(&args.smooth_from).or(n.smooth_from.take());
    if args.config_yaml.is_some() || args.model_path.is_some() {
        // Either says where the config lies, so one given here beats both of the profile's.
        (n.config_yaml, n.model_path) = (path(&args.config_yaml), args.model_path.clone());
    }
    if s.target != Family::Nunchaku {
        return Ok(());
    }
    if let Some(file) = &n.smooth_from {
        let found = target::nunchaku::donor::open(Path::new(file)).map_err(|e| e.at("--smooth-from"))?;
        s.donor = Some(Arc::new(found));
    }
    if let Some(text) = model_config(n.config_yaml.as_deref(), n.model_path.as_deref())? {
        s.config = Some(text.into());
    }
    Ok(())
}

/// The model's configuration, where it is said to lie elsewhere than beside the weights.
fn model_config(yaml: Option<&str>, path: Option<&str>) -> Result<Option<String>> {
    let found = match (path, yaml) {
        (Some(label), _) => config::of_model(label).map_err(|e| e.at("--model-path"))?,
        (None, Some(file)) => config::of_yaml(Path::new(file)).map_err(|e| e.at("--config-yaml"))?,
        (None, None) => return Ok(None),
    };
    Ok(Some(found.text))
}

/// Refuses what the one format that is asked for has no use for. With rules of their own formats, some layer may have.
fn comfy(args: &SettingsArgs, s: &Settings) -> Result<()> {
    let named = |p: &Patch| p.dtype.is_some();
    let several = s.rules.iter().any(|r| named(&r.patch)) || s.overrides.values().any(named);
    let format = said_dtype(s).and_then(|dtype| Format::of(&dtype)).filter(|_| s.target == Family::Comfy && !several);
    let Some(format) = format else { return Ok(()) };
    if args.convrot.is_some_and(|n| n > 0) && format.rotation().is_none() {
        return Err(Error::usage(format!(
            "--convrot: {} is not rotated; int8_tensorwise can be: add --dtype int8_tensorwise",
            format.name()
        )));
    }
    if let (Some(size), Some(fixed)) = (args.group_size, format.fixed_group())
        && ![group_size::AUTO, fixed].contains(&size)
        && !(format == Format::Int8 && size == group_size::TENSOR)
    {
        return Err(Error::usage(format!(
            "--group-size {size}: {} has its own, {}",
            format.name(),
            group_size::name(fixed)
        )));
    }
    Ok(())
}

/// `--save-profile`.
pub fn save(args: &SettingsArgs, profile: &Profile, opened: &Opened, output: Option<&Path>) -> Result<()> {
    let Some(path) = &args.save_profile else {
        return Ok(());
    };
    save::check_side_file(path, "--save-profile", opened, output)?;
    profiles::write(path, &profile.to_text())
}

/// Puts the preset of the model's architecture under the profile's own rules.
pub fn apply_preset(profile: &mut Profile, model: &Model) -> Result<()> {
    let family = profile.settings.target;
    let preset = match &profile.preset {
        PresetChoice::Automatic => preset::for_class(family, model.architecture.as_deref()),
        PresetChoice::None => None,
        PresetChoice::Named(name) => Some(preset::by_name(name).ok_or_else(|| {
            Error::usage(format!("there is no preset `{name}`; there are {}", preset::names(family).join(", ")))
        })?),
    };
    profile.set_preset(preset);
    Ok(())
}

/// What to say of an output whose name is that of another mixture than it gets.
pub fn misnamed(s: &Settings, output: Option<&Path>) -> Option<String> {
    let name = output?.file_name()?.to_str()?;
    let mixture = Mixture::parse(said_dtype(s).filter(|_| s.target == Family::Gguf)?.as_str()).ok()?;
    let word = |w: &&str| Mixture::ALL.iter().any(|m| m.name().eq_ignore_ascii_case(w));
    let words: Vec<&str> = name.split(['-', '.', ' ']).filter(word).collect();
    let other = words.iter().find(|w| !w.eq_ignore_ascii_case(mixture.name()))?;
    let right = words.iter().any(|w| w.eq_ignore_ascii_case(mixture.name()));
    (!right).then(|| format!("the output is called {other} and is quantized to {mixture}; --dtype {other} makes it so"))
}

/// The dtype that holds where nothing else is said.
pub fn said_dtype(s: &Settings) -> Option<Dtype> {
    s.defaults.dtype.clone().or_else(|| Some(target::get(s.target).default_dtype()))
}

/// What is wrong with a dtype's name, and whose name it is.
pub fn elsewhere(error: Error, family: Family, name: &str) -> Error {
    let knows = |f: &Family| *f != family && target::get(*f).parse_dtype(name).is_ok();
    match Family::ALL.into_iter().find(knows) {
        Some(other) => Error::usage(format!("{error}; {other} has it: say --to {other}")),
        None => error,
    }
}

/// Refuses a flag that the target has no use for.
pub fn require(family: Family, knob: Knob, flag: &str) -> Result<()> {
    target::get(family).has(knob).map_err(|why| {
        let others: Vec<&str> =
            Family::ALL.into_iter().filter(|f| target::get(*f).has(knob).is_ok()).map(Family::name).collect();
        let has = if others.len() == 1 { "has" } else { "have" };
        let how = if let [other] = others[..] { format!(": say --to {other}") } else { String::new() };
        Error::usage(format!("{flag}: {why}; {} {has} it{how}", others.join(", ")))
    })
}

fn parse_family(name: &str) -> Result<Family> {
    Family::parse(name).ok_or_else(|| {
        let names: Vec<&str> = Family::ALL.into_iter().map(Family::name).collect();
        Error::usage(format!("--to {name}: this version writes {}", names.join(", ")))
    })
}

fn default_family(output: Option<&Path>) -> Family {
    match output.and_then(|o| o.extension()).map(|e| e.to_string_lossy().to_ascii_lowercase()) {
        Some(e) if e == "gguf" => Family::Gguf,
        _ => Family::Sdnq,
    }
}

/// Another target: its dtypes are others, so only what speaks of keeping survives.
fn retarget(s: &mut Settings, family: Family) {
    let keep_only = |p: &Patch| Patch { keep: p.keep, ..Patch::default() };
    s.target = family;
    s.defaults = keep_only(&s.defaults);
    (s.quant_conv, s.quant_embedding) = (false, false);
    for rule in &mut s.rules {
        rule.patch = keep_only(&rule.patch);
    }
    s.rules.retain(|r| !r.patch.is_empty());
    for patch in s.overrides.values_mut() {
        *patch = keep_only(patch);
    }
    s.overrides.retain(|_, p| !p.is_empty());
    if target::get(family).has(Knob::KeyNames).is_err() {
        s.comfy = ComfyOptions::default();
    }
    if target::get(family).has(Knob::DiffusersNames).is_err() || s.names != Some(Names::Diffusers) {
        s.names = None;
    }
    if target::get(family).has(Knob::Mixtures).is_err() {
        s.gguf = GgufOptions::default();
    }
    if target::get(family).has(Knob::Nunchaku).is_err() {
        (s.nunchaku, s.donor, s.config) = (NunchakuOptions::default(), None, None);
    }
    if target::get(family).has(Knob::Importance).is_err() {
        (s.imatrix, s.importance) = (None, None);
    }
}

/// llama-quantize's form: entries `PATTERN=DTYPE`, separated by white space, matched in lower case, the first match
/// wins. Ours lets the last match win, so they are taken in reverse.
fn tensor_type_file(path: &Path, family: Family) -> Result<Vec<Rule>> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::failed(format!("{}: cannot be read: {e}", path.display())).because(e))?;
    let place = path.display();
    let mut all = Vec::new();
    for entry in rules::parse_file(&text).map_err(|e| e.at(&place))? {
        let dtype = target::get(family).parse_dtype(&entry.dtype).map_err(|e| e.at(&place))?;
        let patch = Patch { dtype: Some(dtype), ..Patch::default() };
        all.push(Rule { pattern: entry.pattern, patch, reason: None, enabled: true });
    }
    all.reverse();
    Ok(all)
}

/// Loads a profile by name or path.
pub fn load(name: &str) -> Result<Profile> {
    let path = profiles::locate(name)?;
    let dtype = |family: Family, name: &str| target::get(family).parse_dtype(name);
    let mut profile = Profile::parse(&profiles::read(&path)?, &path.display().to_string(), &dtype)?;
    // A file is called by its path, so that saving goes where it came from.
    profile.name = if path.as_os_str() == name { Some(name.to_owned()) } else { profiles::name_of(&path) };
    Ok(profile)
}
