//! `general.*`: what a model is called, whose it is, and how it likes to be sampled; from its card, its config and its
//! name.
use serde_json::Value as Json;

use super::card::Card;
use super::name::{self, Parts, title};
use crate::format::gguf::{Pair, Value};

/// Parameters, for what the size is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// All of them.
    pub all: u64,
    /// Those of one expert of each bank.
    pub expert: u64,
    /// Those outside of banks.
    pub shared: u64,
    /// Experts of a bank; 0 without any.
    pub experts: u64,
}

impl Parameters {
    /// Of the tensors of a file: names, shapes in PyTorch's order.
    pub fn of<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>) -> Self {
        let mut p = Self::default();
        let (mut banks, mut sum) = (0u64, 0u64);
        for (name, shape) in tensors {
            let size: u64 = shape.iter().product();
            p.all += size;
            match shape {
                [.., experts, _, _] if name.contains("_exps.") && *experts > 0 => {
                    p.expert += size / experts;
                    (banks, sum) = (banks + 1, sum + experts);
                }
                _ => p.shared += size,
            }
        }
        p.experts = sum.checked_div(banks).unwrap_or(0);
        p
    }

    /// `7.2B`, `8x7B`.
    pub fn label(&self) -> String {
        match self.experts {
            0 => name::rounded(self.all),
            n => format!("{n}x{}", name::rounded(self.shared + self.expert)),
        }
    }
}

/// What the keys are made from.
#[derive(Clone, Debug, Default)]
pub struct About<'a> {
    /// The model card.
    pub card: Card,
    /// `_name_or_path` of config.json.
    pub path: Option<&'a str>,
    /// generation_config.json.
    pub generation: Option<Json>,
    /// The folder's name, or the model's id in a cache.
    pub folder: String,
    /// Its size.
    pub parameters: Parameters,
}

/// The keys, in gguf-py's order.
pub fn keys(about: &About) -> Vec<Pair> {
    let mut keys = vec![Pair::new("general.type", "model")];
    sampling(about.generation.as_ref(), &mut keys);
    let card = &about.card;
    let all = about.parameters.all;
    // A path on somebody's computer is no name.
    let path = about.path.filter(|p| !p.is_empty() && p.matches('/').count() <= 1);
    let told: Vec<Parts> = path.into_iter().chain([about.folder.as_str()]).map(|id| name::parts(id, all)).collect();
    let from_name = |part: fn(&Parts) -> Option<&String>| told.iter().find_map(part).cloned();
    let mut text = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            keys.push(Pair::new(key, value.as_str()));
        }
    };
    let called = card.text(&["name", "model_name"]);
    let called = called.or_else(|| from_name(|p| p.full.as_ref()).map(|full| title(&full)));
    text("general.name", Some(called.unwrap_or_else(|| about.folder.clone())));
    text("general.author", card.text(&["author", "model_author", "model_creator"]));
    let version = card.text(&["version", "model_version"]);
    text("general.version", version.or_else(|| from_name(|p| p.version.as_ref())));
    let organization = card.text(&["organization", "model_organization"]);
    text(
        "general.organization",
        organization.or_else(|| from_name(|p| p.organization.as_ref()).map(|org| title(&org))),
    );
    let finetune = card.text(&["finetune", "model_finetune"]);
    text("general.finetune", finetune.or_else(|| from_name(|p| p.finetune.as_ref())));
    let basename = card.text(&["basename", "model_basename", "model_type"]);
    text("general.basename", basename.or_else(|| from_name(|p| p.basename.as_ref())));
    text("general.description", card.text(&["description", "model_description"]));
    let size = card.text(&["size_label", "model_size_label"]).or_else(|| from_name(|p| p.size_label.as_ref()));
    text("general.size_label", size.or_else(|| (all > 0).then(|| about.parameters.label())));
    text("general.license", card.text(&["license"]));
    text("general.license.name", card.text(&["license_name"]));
    text("general.license.link", card.text(&["license_link"]));
    text("general.source.url", card.text(&["url", "model_url"]));
    text("general.source.doi", card.text(&["doi", "model_doi"]));
    text("general.source.uuid", card.text(&["uuid", "model_uuid"]));
    text("general.source.repo_url", card.text(&["repo_url", "model_repo_url"]));
    related("general.base_model", card.list(&["base_model", "base_models", "base_model_sources"]), all, &mut keys);
    related("general.dataset", card.list(&["datasets", "dataset", "dataset_sources"]), all, &mut keys);
    let mut list = |key: &str, of: [&str; 2]| {
        let words: Vec<String> = of.iter().filter_map(|k| card.list(&[k])).flatten().collect();
        // No empty arrays: some readers refuse them.
        if !words.is_empty() {
            keys.push(Pair::new(key, Value::strings(words)));
        }
    };
    list("general.tags", ["tags", "pipeline_tag"]);
    list("general.languages", ["languages", "language"]);
    keys
}

/// How the makers sample from it.
fn sampling(generation: Option<&Json>, keys: &mut Vec<Pair>) {
    let Some(generation) = generation else { return };
    const KEYS: [(&str, &[&str], bool); 11] = [
        ("top_k", &["top_k"], true),
        ("top_p", &["top_p"], false),
        ("min_p", &["min_p"], false),
        ("xtc_probability", &["xtc_probability"], false),
        ("xtc_threshold", &["xtc_threshold"], false),
        ("temp", &["temperature"], false),
        ("penalty_last_n", &["penalty_last_n"], true),
        ("penalty_repeat", &["penalty_repeat", "repetition_penalty"], false),
        ("mirostat", &["mirostat"], true),
        ("mirostat_tau", &["mirostat_tau"], false),
        ("mirostat_eta", &["mirostat_eta"], false),
    ];
    if let Some(sequence) = generation.get("sequence").and_then(Json::as_str) {
        keys.push(Pair::new("general.sampling.sequence", sequence));
    }
    for (key, from, whole) in KEYS {
        let Some(number) = from.iter().find_map(|k| generation.get(*k)?.as_f64()) else { continue };
        let value: Value = if whole { (number as i32).into() } else { (number as f32).into() };
        keys.push(Pair::new(&format!("general.sampling.{key}"), value));
    }
}

/// Models that it comes from, or data sets.
fn related(key: &str, ids: Option<Vec<String>>, parameters: u64, keys: &mut Vec<Pair>) {
    let Some(ids) = ids else { return };
    keys.push(Pair::new(&format!("{key}.count"), ids.len() as u32));
    for (i, id) in ids.iter().enumerate() {
        let is_url = ["http://", "https://", "ssh://"].iter().any(|scheme| id.starts_with(scheme));
        let on_hub = id.split_once("://huggingface.co/").map(|(_, rest)| rest);
        let known = match is_url {
            true => on_hub.filter(|rest| rest.matches('/').count() == 1 && !rest.ends_with('/')),
            false => Some(id.as_str()),
        };
        let parts = known.map(|id| name::parts(id, parameters)).unwrap_or_default();
        let mut text = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                keys.push(Pair::new(&format!("{key}.{i}.{name}"), value.as_str()));
            }
        };
        text("name", parts.full.as_deref().map(title));
        text("version", parts.version);
        text("organization", parts.organization.as_deref().map(title));
        let own = parts.organization.zip(parts.full).map(|(org, full)| format!("https://huggingface.co/{org}/{full}"));
        text("repo_url", if is_url { Some(id.clone()) } else { own });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(keys: &[Pair]) -> Vec<String> {
        keys.iter().map(|p| format!("{} = {} {}", p.name(), p.value.type_name(), p.value.shown())).collect()
    }

    #[test]
    fn a_card_and_a_generation_config_fill_the_keys() {
        let text = "---\nlicense: mit\nbase_model: acme/Base-7B-v0.2\ndatasets:\n- https://huggingface.co/datasets/acme/words\ntags: [tiny]\npipeline_tag: text-generation\nlanguage: en\n---\n";
        let about = About {
            card: Card::read(text),
            path: Some("/home/me/models/x"),
            generation: Some(json!({"temperature": 0.5, "top_k": 40, "repetition_penalty": 1.25, "do_sample": true})),
            folder: "Tiny-7B-chat-v2".into(),
            parameters: Parameters { all: 7_000_000_000, ..Parameters::default() },
        };
        let expected = [
            "general.type = string model",
            "general.sampling.top_k = i32 40",
            "general.sampling.temp = f32 0.5",
            "general.sampling.penalty_repeat = f32 1.25",
            "general.name = string Tiny 7B Chat v2",
            "general.version = string v2",
            "general.finetune = string chat",
            "general.basename = string Tiny",
            "general.size_label = string 7B",
            "general.license = string mit",
            "general.base_model.count = u32 1",
            "general.base_model.0.name = string Base 7B v0.2",
            "general.base_model.0.version = string v0.2",
            "general.base_model.0.organization = string Acme",
            "general.base_model.0.repo_url = string https://huggingface.co/acme/Base-7B-v0.2",
            "general.dataset.count = u32 1",
            "general.dataset.0.repo_url = string https://huggingface.co/datasets/acme/words",
        ];
        assert_eq!(shown(&keys(&about))[..expected.len()], expected);
        let names: Vec<String> = keys(&about).iter().skip(expected.len()).map(|p| p.name().into_owned()).collect();
        assert_eq!(names, ["general.tags", "general.languages"]);
    }

    #[test]
    fn a_folder_alone_gives_a_name_and_a_size() {
        let parameters =
            Parameters::of([("blk.0.ffn_up_exps.weight", &[8, 1000, 1000][..]), ("token_embd.weight", &[1000, 1000])]);
        assert_eq!(parameters, Parameters { all: 9_000_000, expert: 1_000_000, shared: 1_000_000, experts: 8 });
        let about = About { folder: "my-model".into(), parameters, ..About::default() };
        assert_eq!(
            shown(&keys(&about)),
            ["general.type = string model", "general.name = string My Model", "general.size_label = string 8x2.0M"]
        );
    }
}
