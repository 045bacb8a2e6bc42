//! Ours as theirs.
use serde_json::{Map, Value, json};

use super::pattern::{Meant, Relation};
use super::{Dtypes, Kwargs};
use crate::core::recipe::group_size;
use crate::core::{Error, Family, Patch, Result, Rule, Settings};
use crate::session::Profile;
use crate::session::profile::PresetChoice;

/// A profile in sdnq's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// What `SDNQConfig.from_dict` takes.
    pub config: Value,
    /// Where it may come out otherwise.
    pub warnings: Vec<String>,
}

/// A weight of the model that the library might quantize.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its full name.
    pub name: String,
    /// Whether it stays as it is, whatever the reason.
    pub kept: bool,
    /// Whether it has a scale per row although another group size is asked for.
    pub rows: bool,
}

/// What is known of the model that a profile is exported for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Its weights.
    pub layers: Vec<Layer>,
    /// Patterns of sdnq's for layers that are not in the file and must be kept too.
    pub kept: Vec<String>,
    /// Whether any convolution is quantized.
    pub quant_conv: bool,
    /// Whether any embedding table is quantized.
    pub quant_embedding: bool,
}

/// Where a word of the profile stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Preset,
    Exclude,
    Rule,
    Override,
}

/// A word of the profile: a pattern and what it says.
struct Word<'a> {
    place: Place,
    /// As the person wrote it.
    text: &'a str,
    patch: Patch,
}

/// The same in patterns that sdnq has words for.
struct Said {
    place: Place,
    text: String,
    meant: Meant,
    sdnq: String,
    patch: Patch,
}

/// What goes into the config's lists.
#[derive(Default)]
struct Lists {
    keep: Vec<String>,
    quantize: Vec<(String, Kwargs)>,
    warnings: Vec<String>,
}

/// A profile as `SDNQConfig`. Without a model every pattern must have its like among sdnq's; with one, what has none is
/// said by the full names of the layers. The preset's rules are those that stand in the settings; where none was looked
/// up, the library is left to find its own.
pub fn export(profile: &Profile, dtypes: &Dtypes, model: Option<&Known>) -> Result<Exported> {
    let settings = &profile.settings;
    if settings.target != Family::Sdnq {
        return Err(Error::usage(format!(
            "the profile is one for {}; only those for sdnq can be told to SDNQ",
            settings.target
        )));
    }
    let by_class = profile.preset == PresetChoice::Automatic && settings.preset_name.is_none();
    if by_class && !profile.switched_off().is_empty() {
        return Err(give_model("the preset's rules that are off", "which these are depends on the model's class"));
    }
    let general = Kwargs::of(&settings.defaults, dtypes);
    let mut lists = match model {
        Some(model) => with_model(settings, dtypes, &general, model)?,
        None => without_model(settings, dtypes, &general)?,
    };
    let lifts = |p: &Patch| p.dtype.is_some() || p.keep == Some(false);
    if by_class
        && (settings.rules.iter().any(|r| r.enabled && lifts(&r.patch)) || settings.overrides.values().any(lifts))
    {
        lists.warnings.push(
            "layers that the library leaves alone by itself stay so, though a rule may quantize some of them here; give \
             MODEL to have that in the config"
                .into(),
        );
    }
    let mut config = Map::new();
    config.insert("quant_method".into(), json!("sdnq"));
    config.append(&mut general.json());
    config.insert("quant_conv".into(), json!(model.map_or(settings.quant_conv, |m| m.quant_conv)));
    config.insert("quant_embedding".into(), json!(model.map_or(settings.quant_embedding, |m| m.quant_embedding)));
    config.insert("add_skip_keys".into(), json!(by_class));
    config.insert("modules_to_not_convert".into(), json!(lists.keep));
    config.insert("modules_dtype_dict".into(), json!({}));
    let quantize = lists.quantize.iter().map(|(text, kwargs)| (text.clone(), Value::Object(kwargs.beside(&general))));
    config.insert("modules_quant_config".into(), Value::Object(quantize.collect()));
    Ok(Exported { config: Value::Object(config), warnings: lists.warnings })
}

fn give_model(what: &str, why: &str) -> Error {
    Error::usage(format!("{what}: {why}; give MODEL, and the layers are named one by one"))
}

/// Everything the profile says of names, the strongest last.
fn words(settings: &Settings) -> Vec<Word<'_>> {
    fn of(place: Place, rule: &Rule) -> Option<Word<'_>> {
        rule.enabled.then(|| Word { place, text: rule.pattern.as_str(), patch: rule.patch.clone() })
    }
    let preset = settings.preset.iter().filter_map(|r| of(Place::Preset, r));
    let exclude =
        settings.exclude.iter().map(|p| Word { place: Place::Exclude, text: p.as_str(), patch: Patch::keep() });
    let rules = settings.rules.iter().filter_map(|r| of(Place::Rule, r));
    let overrides =
        settings.overrides.iter().map(|(name, p)| Word { place: Place::Override, text: name, patch: p.clone() });
    preset.chain(exclude).chain(rules).chain(overrides).collect()
}

impl Word<'_> {
    /// The patterns that together mean the same, each with its spelling in sdnq's words.
    fn said(&self) -> Option<Vec<(Meant, String)>> {
        let meant = match self.place {
            Place::Override => vec![Meant::Name(self.text.to_owned())],
            _ => Meant::from_regex(self.text)?,
        };
        meant.into_iter().map(|m| m.sdnq().map(|sdnq| (m, sdnq))).collect()
    }
}

/// What a patch says of a recipe, field by field.
fn fields(p: &Patch) -> [bool; 6] {
    let Patch { keep: _, dtype, group_size, svd_rank, svd_steps, hadamard, codebook, scale_search: _ } = p;
    [
        dtype.is_some(),
        group_size.is_some(),
        svd_rank.is_some(),
        svd_steps.is_some(),
        hadamard.is_some(),
        codebook.is_some(),
    ]
}

/// In which fields two patches agree.
fn agree(a: &Patch, b: &Patch) -> [bool; 6] {
    [
        a.dtype == b.dtype,
        a.group_size == b.group_size,
        a.svd_rank == b.svd_rank,
        a.svd_steps == b.svd_steps,
        a.hadamard == b.hadamard,
        a.codebook == b.codebook,
    ]
}

/// The lists where nothing is known of names: what one pattern says of the names of another must follow from the
/// patterns alone.
fn without_model(settings: &Settings, dtypes: &Dtypes, general: &Kwargs) -> Result<Lists> {
    if !settings.include.is_empty() {
        return Err(give_model("`include`", "SDNQ can only be told what to leave alone"));
    }
    let mut said = Vec::new();
    for word in words(settings) {
        let Some(patterns) = word.said() else {
            return Err(give_model(&format!("`{}`", word.text), "SDNQ's patterns have no words for it"));
        };
        said.extend(patterns.into_iter().map(|(meant, sdnq)| Said {
            place: word.place,
            text: word.text.to_owned(),
            meant,
            sdnq,
            patch: word.patch.clone(),
        }));
    }
    let mut lists = Lists::default();
    for (i, one) in said.iter().enumerate().filter(|(_, s)| s.patch.keep == Some(true)) {
        if stays_kept(one, said.get(i + 1..).unwrap_or_default())? {
            push_new(&mut lists.keep, &one.sdnq);
        }
    }
    let recipes: Vec<&Said> = said.iter().filter(|s| fields(&s.patch) != [false; 6]).collect();
    let mut entries = Vec::with_capacity(recipes.len());
    for (i, one) in recipes.iter().enumerate() {
        let patch = merged(one, recipes.get(..i).unwrap_or_default(), &settings.defaults)?;
        entries.push((*one, Kwargs::of(&patch, dtypes)));
    }
    // The first match wins there, the last one here.
    for (i, (one, kwargs)) in entries.iter().enumerate().rev() {
        if lists.quantize.iter().any(|(text, _)| *text == one.sdnq) {
            continue;
        }
        let below = entries.get(..i).unwrap_or_default();
        let mut hidden = below.iter().filter(|(other, k)| may_meet(one, other) && !k.is_like(kwargs));
        let hides = hidden.next().map(|(other, _)| &other.text);
        if let (Some(other), true) = (hides, lists.warnings.is_empty()) {
            lists.warnings.push(format!(
                "`{}` comes before `{other}` in modules_quant_config, and the library sorts it when it saves a model; \
                 give MODEL to have entries of which no two match one layer",
                one.text
            ));
        }
        if hides.is_some() || !kwargs.is_like(general) {
            lists.quantize.push((one.sdnq.clone(), kwargs.clone()));
        }
    }
    Ok(lists)
}

fn push_new(list: &mut Vec<String>, text: &str) {
    if !list.iter().any(|t| t == text) {
        list.push(text.to_owned());
    }
}

fn may_meet(a: &Said, b: &Said) -> bool {
    a.meant.relation(&b.meant) != Relation::Apart && b.meant.relation(&a.meant) != Relation::Apart
}

/// Whether nothing later lifts what this keeps. Lifting a part of it cannot be said.
fn stays_kept(one: &Said, later: &[Said]) -> Result<bool> {
    for other in later {
        let by_dtype = one.place == Place::Preset && other.patch.dtype.is_some() && other.patch.keep != Some(true);
        if !by_dtype && other.patch.keep != Some(false) {
            continue;
        }
        if one.meant.relation(&other.meant) == Relation::Inside {
            return Ok(false);
        }
        if may_meet(one, other) {
            return Err(give_model(
                &format!("`{}` quantizes a part of what `{}` keeps", other.text, one.text),
                "SDNQ leaves alone all of it",
            ));
        }
    }
    Ok(true)
}

/// What holds for the names of one pattern, all words together. `before` are the words that come earlier.
fn merged(one: &Said, before: &[&Said], defaults: &Patch) -> Result<Patch> {
    let around = |s: &Said| one.meant.relation(&s.meant) == Relation::Inside;
    let mut patch = defaults.clone();
    for other in before.iter().filter(|s| around(s)) {
        patch.apply(&other.patch);
    }
    patch.apply(&one.patch);
    for (j, other) in before.iter().enumerate().filter(|(_, s)| !around(s) && may_meet(one, s)) {
        // Where both match, theirs takes this one's word alone: it must say, or agree on, what the other says.
        let mut open = fields(&other.patch);
        let settled = before.get(j + 1..).unwrap_or_default().iter().filter(|s| around(s)).map(|s| fields(&s.patch));
        for by in settled.chain([fields(&one.patch), agree(&patch, &other.patch)]) {
            for (open, by) in open.iter_mut().zip(by) {
                *open &= !by;
            }
        }
        if open != [false; 6] {
            return Err(give_model(
                &format!("`{}` and `{}` say different things of a layer that both may match", other.text, one.text),
                "SDNQ takes the word of one of them",
            ));
        }
    }
    Ok(patch)
}

/// The lists for the layers of a model. A pattern is used only if all that it matches comes out alike; so it does not
/// matter which of two entries is looked at first.
fn with_model(settings: &Settings, dtypes: &Dtypes, general: &Kwargs, model: &Known) -> Result<Lists> {
    let kwargs = |layer: &Layer| {
        let said = Kwargs::of(&settings.decide(&[&layer.name]).patch, dtypes);
        if layer.rows { Kwargs { group_size: group_size::ROW, ..said } } else { said }
    };
    let recipes: Vec<Option<Kwargs>> = model.layers.iter().map(|layer| (!layer.kept).then(|| kwargs(layer))).collect();
    let mut lists = Lists::default();
    let mut covered = vec![false; model.layers.len()];
    for word in words(settings) {
        let keeps = word.patch.keep == Some(true);
        if word.place == Place::Override || !(keeps || fields(&word.patch) != [false; 6]) {
            continue;
        }
        for (meant, sdnq) in word.said().unwrap_or_default() {
            let hits: Vec<usize> = (0..covered.len())
                .filter(|i| model.layers.get(*i).is_some_and(|l| meant.hits(&l.name) == Some(true)))
                .collect();
            let found: Vec<Option<&Kwargs>> = hits.iter().filter_map(|i| Some(recipes.get(*i)?.as_ref())).collect();
            if keeps && found.iter().all(Option::is_none) {
                push_new(&mut lists.keep, &sdnq);
            } else if let (false, Some(kwargs)) = (keeps, found.iter().flatten().next())
                && found.iter().flatten().all(|k| k.is_like(kwargs))
                && !kwargs.is_like(general)
            {
                if !lists.quantize.iter().any(|(text, _)| *text == sdnq) {
                    lists.quantize.push((sdnq, (*kwargs).clone()));
                }
            } else {
                continue;
            }
            for i in hits {
                // What is kept is covered only by what keeps it.
                if let (Some(covered), Some(recipe)) = (covered.get_mut(i), recipes.get(i)) {
                    *covered |= keeps || recipe.is_some();
                }
            }
        }
    }
    for ((layer, recipe), _) in model.layers.iter().zip(recipes).zip(covered).filter(|(_, covered)| !covered) {
        let name = || {
            let unsayable = || Error::failed(format!("`{}`: SDNQ cannot be told this name", layer.name));
            Meant::Name(layer.name.clone()).sdnq().ok_or_else(unsayable)
        };
        match recipe {
            None => lists.keep.push(name()?),
            Some(kwargs) if !kwargs.is_like(general) => lists.quantize.push((name()?, kwargs)),
            Some(_) => {}
        }
    }
    for text in &model.kept {
        push_new(&mut lists.keep, text);
    }
    Ok(lists)
}
