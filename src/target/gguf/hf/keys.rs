//! The keys of a model's architecture, from its config.
use serde_json::{Map, Value as Json};

use super::config::Config;
use crate::core::Result;
use crate::format::gguf::{Pair, Value};

/// Keys that are made one after another.
#[derive(Debug)]
pub struct Keys<'a> {
    /// What they are made from.
    pub config: &'a Config,
    arch: &'static str,
    pairs: Vec<Pair>,
}

/// Names of one thing in configs of different times.
pub mod names {
    /// Layers.
    pub const LAYERS: &[&str] = &["n_layers", "num_hidden_layers", "n_layer", "num_layers"];
    /// Tokens that the model sees at once.
    pub const CONTEXT: &[&str] =
        &["max_position_embeddings", "n_ctx", "n_positions", "max_length", "max_sequence_length", "model_max_length"];
    /// Values of a token.
    pub const HIDDEN: &[&str] = &["hidden_size", "n_embd", "dim"];
    /// Values in the middle of a feed-forward part.
    pub const FEED_FORWARD: &[&str] = &["intermediate_size", "n_inner", "hidden_dim"];
    /// Query heads.
    pub const HEADS: &[&str] = &["num_attention_heads", "n_head", "n_heads"];
    /// Heads of keys.
    pub const KEY_HEADS: &[&str] = &["num_key_value_heads", "n_kv_heads"];
    /// What keeps RMS norms from dividing by zero.
    pub const RMS_EPSILON: &[&str] = &["rms_norm_eps", "norm_eps"];
    /// The same of layer norms.
    pub const EPSILON: &[&str] = &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"];
    /// Experts.
    pub const EXPERTS: &[&str] = &["num_local_experts", "num_experts", "n_routed_experts"];
    /// How positions are scaled.
    pub const SCALING: &[&str] = &["rope_parameters", "rope_scaling"];
    /// Tokens that it was trained with before its context was stretched.
    pub const ORIGINAL: &[&str] = &["original_max_position_embeddings"];
    /// The share of a head that is turned.
    pub const PARTIAL: &[&str] = &["partial_rotary_factor", "rope_pct", "rope_percent"];
}
/// Layers that llama.cpp has room for.
pub const MOST_LAYERS: u32 = 512;
/// Values of a head, and more than any has.
pub const MOST_HEAD: u32 = 1 << 16;
use names::*;

impl<'a> Keys<'a> {
    /// None yet.
    pub fn new(arch: &'static str, config: &'a Config) -> Self {
        Self { config, arch, pairs: Vec::new() }
    }

    /// All of them.
    pub fn done(self) -> Vec<Pair> {
        self.pairs
    }

    /// Sets a key by its whole name. One that is there keeps its place.
    pub fn set_whole(&mut self, key: &str, value: impl Into<Value>) {
        let pair = Pair::new(key, value);
        match self.pairs.iter_mut().find(|p| p.key == pair.key) {
            Some(old) => *old = pair,
            None => self.pairs.push(pair),
        }
    }

    /// Sets a key of the architecture.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.set_whole(&format!("{}.{key}", self.arch), value);
    }

    /// Sets a count that the config may have.
    pub fn count(&mut self, key: &str, from: &[&str]) -> Result<()> {
        if let Some(n) = self.config.count(from)? {
            self.set(key, n);
        }
        Ok(())
    }

    /// Sets a count that the config must have.
    pub fn need(&mut self, key: &str, from: &[&str]) -> Result<u32> {
        let n = self.config.need(from)?;
        self.set(key, n);
        Ok(n)
    }

    /// Sets the number of layers.
    pub fn layers(&mut self) -> Result<u32> {
        let n = self.config.bounded(LAYERS, 1, MOST_LAYERS)?.ok_or_else(|| self.config.missing(LAYERS))?;
        self.set("block_count", n);
        Ok(n)
    }

    /// Sets a number that the config may have.
    pub fn number(&mut self, key: &str, from: &[&str]) -> Result<()> {
        if let Some(n) = self.config.number(from)? {
            self.set(key, n as f32);
        }
        Ok(())
    }

    /// The place of the number of the mixture, which is not known yet.
    pub fn file_type(&mut self) {
        self.set_whole("general.file_type", 0u32);
    }

    /// What most architectures have.
    pub fn common(&mut self, rope: &Rope) -> Result<()> {
        self.layers()?;
        self.need("context_length", CONTEXT)?;
        self.need("embedding_length", HIDDEN)?;
        self.need("feed_forward_length", FEED_FORWARD)?;
        self.need("attention.head_count", HEADS)?;
        self.count("attention.head_count_kv", KEY_HEADS)?;
        if self.config.is("is_causal", false) {
            self.set("attention.causal", false);
        }
        self.rope(rope)?;
        self.number("attention.layer_norm_rms_epsilon", RMS_EPSILON)?;
        self.number("attention.layer_norm_epsilon", EPSILON)?;
        self.count("expert_count", EXPERTS)?;
        self.count("expert_used_count", &["num_experts_per_tok", "num_experts_per_token", "top_k_experts"])?;
        if let Some(dim) = self.config.head()? {
            self.set("attention.key_length", dim);
            self.set("attention.value_length", dim);
        }
        self.file_type();
        Ok(())
    }

    fn rope(&mut self, rope: &Rope) -> Result<()> {
        let factor = rope.number("factor");
        let kind = rope.kind().map(str::to_lowercase);
        match (kind.as_deref(), factor) {
            (Some("linear"), Some(factor)) => {
                self.set("rope.scaling.type", "linear");
                self.set("rope.scaling.factor", factor as f32);
            }
            (Some("yarn"), Some(factor)) => {
                self.set("rope.scaling.type", "yarn");
                self.set("rope.scaling.factor", factor as f32);
                let original = rope.number("original_max_position_embeddings").ok_or_else(|| {
                    self.config.error("config.json: yarn needs `original_max_position_embeddings`".into())
                })?;
                ORIGINAL.iter().for_each(|key| self.config.place(key));
                self.set("rope.scaling.original_context_length", original as u32);
                for (key, from) in [
                    ("yarn_ext_factor", &["extrapolation_factor"][..]),
                    ("yarn_attn_factor", &["attention_factor", "attn_factor"]),
                    ("yarn_beta_fast", &["beta_fast"]),
                    ("yarn_beta_slow", &["beta_slow"]),
                ] {
                    if let Some(n) = from.iter().find_map(|name| rope.number(name)) {
                        self.set(&format!("rope.scaling.{key}"), n as f32);
                    }
                }
            }
            (Some("su" | "longrope"), _) => self.set("rope.scaling.type", "longrope"),
            (None | Some("default"), _) => {}
            // Its factors are a tensor.
            (Some("llama3"), _) if self.arch == "llama" => ORIGINAL.iter().for_each(|key| self.config.place(key)),
            (Some(kind), _) => rope.displace(self.config, kind),
        }
        if let Some(theta) = rope.number("rope_theta") {
            self.set("rope.freq_base", theta as f32);
        }
        if let Some(theta) = rope.sliding_theta {
            self.set("rope.freq_base_swa", theta as f32);
        }
        Ok(())
    }
}

/// How positions turn keys and queries.
#[derive(Clone, Debug, Default)]
pub struct Rope {
    map: Map<String, Json>,
    /// The base of layers that see a window only.
    pub sliding_theta: Option<f64>,
}

impl Rope {
    /// As configs of either form have it; `theta` where none says.
    pub fn of(config: &Config, theta: Option<f64>) -> Result<Self> {
        let object = |value: Option<&Json>| value.and_then(Json::as_object).cloned().unwrap_or_default();
        let said = object(config.get(SCALING));
        let base = config.number(&[
            "global_rope_theta",
            "rope_global_theta",
            "rope_theta_global",
            "rope_theta",
            "rotary_emb_base",
        ])?;
        let local = config.number(&[
            "local_rope_theta",
            "rope_local_theta",
            "rope_theta_local",
            "swa_rope_theta",
            "rope_local_base_freq",
        ])?;
        let sliding = said.get("sliding_attention").and_then(|s| s.get("rope_theta")).and_then(Json::as_f64);
        let mut map = match said.get("full_attention") {
            Some(full) => object(Some(full)),
            None => said,
        };
        let mut fill = |key: &str, value: Option<Json>| {
            if let (None, Some(value)) = (map.get(key).filter(|v| !v.is_null()), value) {
                map.insert(key.to_owned(), value);
            }
        };
        fill("rope_theta", base.or(theta).map(Json::from));
        fill("partial_rotary_factor", config.find(PARTIAL).map(|(_, v)| v.clone()));
        fill("original_max_position_embeddings", config.find(ORIGINAL).map(|(_, v)| v.clone()));
        let older = map.get("type").cloned();
        if let (None, Some(kind)) = (map.get("rope_type"), older) {
            map.insert("rope_type".into(), kind);
        }
        Ok(Self { map, sliding_theta: sliding.or(local) })
    }

    /// Its kind: `llama3`, `yarn`.
    pub fn kind(&self) -> Option<&str> {
        self.map.get("rope_type").and_then(Json::as_str)
    }

    /// Says that there are no keys for how it scales.
    pub fn displace(&self, config: &Config, kind: &str) {
        let shown = crate::core::name::clean(kind);
        let what = format!(
            "config.json scales positions as `{shown}`, for which the file has no keys: llama.cpp runs the model without, \
             and is right up to the context that it was trained with only"
        );
        config.displace(SCALING, what);
    }

    /// A number of it.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.map.get(key).and_then(Json::as_f64)
    }

    /// Numbers of it.
    pub fn numbers(&self, key: &str) -> Option<Vec<f32>> {
        let list = self.map.get(key)?.as_array()?;
        list.iter().map(|n| n.as_f64().map(|n| n as f32)).collect()
    }
}
