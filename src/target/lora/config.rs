//! What scales an adapter whose file has no alphas of its own: PEFT keeps them in a config beside it, diffusers in the
//! file's metadata.
use std::collections::HashMap;

use regex::{RegexSet, RegexSetBuilder};
use serde_json::{Map, Value};

use crate::core::{Error, Result};

/// The settings of a PEFT adapter, or of the adapters of a pipeline's parts.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Of each part, by the prefix of its names; a config of its own has one, for the empty prefix.
    parts: Vec<(String, Part)>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    rank: f64,
    alpha: f64,
    rank_stabilized: bool,
    ranks: Patterns,
    alphas: Patterns,
}

impl Config {
    /// Reads PEFT's `adapter_config.json`.
    pub fn of_peft(config: &Value) -> Result<Self> {
        let part = config.as_object().map(Part::of).transpose()?.flatten();
        Ok(Self { parts: part.map(|part| (String::new(), part)).into_iter().collect() })
    }
    /// Reads diffusers' `lora_adapter_metadata`: the same settings, each behind its part's name (`transformer.r`).
    pub fn of_diffusers(metadata: &Value) -> Result<Self> {
        let mut parts: Vec<(String, Map<String, Value>)> = Vec::new();
        for (key, value) in metadata.as_object().into_iter().flatten() {
            let Some((part, setting)) = key.split_once('.') else { continue };
            let at = parts.iter().position(|(name, _)| name == part).unwrap_or(parts.len());
            if at == parts.len() {
                // A pipeline has a handful of parts.
                if at == 16 {
                    return Err(Error::failed("the adapter's metadata is of too many parts"));
                }
                parts.push((part.to_owned(), Map::new()));
            }
            if let Some((_, settings)) = parts.get_mut(at) {
                settings.insert(setting.to_owned(), value.clone());
            }
        }
        let read = |(name, settings): (String, Map<String, Value>)| {
            Part::of(&settings).map(|part| part.map(|part| (format!("{name}."), part))).transpose()
        };
        Ok(Self { parts: parts.into_iter().filter_map(read).collect::<Result<_>>()? })
    }
    /// What the update of a layer is scaled by, for an adapter that does not say so itself: alpha / rank, or
    /// alpha / √rank of a rank-stabilized one (Kalajdzievski, *A rank stabilization scaling factor for fine-tuning with
    /// LoRA*, 2023). `path` is the layer's as the file calls it.
    pub fn scale(&self, path: &str) -> Option<f32> {
        let path = path.strip_prefix("base_model.model.").unwrap_or(path);
        let find = |(prefix, part): &'_ (String, Part)| path.strip_prefix(prefix.as_str()).map(|path| part.scale(path));
        self.parts.iter().find_map(find)
    }
}

impl Part {
    fn of(settings: &Map<String, Value>) -> Result<Option<Self>> {
        let number = |names: [&str; 2]| names.iter().find_map(|name| settings.get(*name)).and_then(Value::as_f64);
        // LoHa and LoKr call it alpha.
        let (Some(rank), Some(alpha)) = (number(["r", "rank"]), number(["lora_alpha", "alpha"])) else {
            return Ok(None);
        };
        let scale = alpha / rank;
        if rank <= 0.0 || !scale.is_finite() {
            return Err(Error::failed(format!("the adapter's config: alpha {alpha} of rank {rank} is no scale")));
        }
        Ok(Some(Self {
            rank,
            alpha,
            rank_stabilized: settings.get("use_rslora").and_then(Value::as_bool).unwrap_or_default(),
            ranks: Patterns::of(settings.get("rank_pattern"))?,
            alphas: Patterns::of(settings.get("alpha_pattern"))?,
        }))
    }
    fn scale(&self, path: &str) -> f32 {
        let rank = self.ranks.find(path).filter(|rank| *rank > 0.0).unwrap_or(self.rank);
        let alpha = self.alphas.find(path).unwrap_or(self.alpha);
        (alpha / if self.rank_stabilized { rank.sqrt() } else { rank }) as f32
    }
}

/// Numbers by the ends of layers' names, whole segments. PEFT takes them for regular expressions, and the first that
/// matches counts; nearly all are plain names, where a dot is a dot, and there may be one for every layer.
#[derive(Clone, Debug, Default)]
struct Patterns {
    /// In order.
    values: Vec<f64>,
    plain: HashMap<String, usize>,
    /// The others, and which those are.
    expressions: Option<(RegexSet, Vec<usize>)>,
}

impl Patterns {
    fn of(value: Option<&Value>) -> Result<Self> {
        let mut found = Self::default();
        let mut expressions = (Vec::new(), Vec::new());
        for (pattern, value) in value.and_then(Value::as_object).into_iter().flatten() {
            let Some(value) = value.as_f64() else { continue };
            let index = found.values.len();
            found.values.push(value);
            if pattern.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')) {
                found.plain.entry(pattern.clone()).or_insert(index);
            } else {
                expressions.0.push(format!(r"^(.*\.)?({pattern})$"));
                expressions.1.push(index);
            }
        }
        if !expressions.0.is_empty() {
            let set = RegexSetBuilder::new(expressions.0).size_limit(1 << 22).build();
            let set =
                set.map_err(|e| Error::failed("the adapter's config: a pattern is no regular expression").because(e))?;
            found.expressions = Some((set, expressions.1));
        }
        Ok(found)
    }
    fn find(&self, path: &str) -> Option<f64> {
        // Names of layers have a dozen segments; more in a file is not looked at, or it would be at each of them again.
        let dots = path.rmatch_indices('.').take(32).map(|(dot, _)| dot + 1);
        let ends = dots.chain([0]).filter_map(|start| path.get(start..));
        let plain = ends.filter_map(|end| self.plain.get(end)).min();
        let expressed = self
            .expressions
            .as_ref()
            .and_then(|(set, indices)| set.matches(path).iter().next().and_then(|first| indices.get(first)));
        plain.into_iter().chain(expressed).min().and_then(|index| self.values.get(*index)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scales_of_peft() {
        fn check(config: Value, path: &str, scale: Option<f32>) {
            assert_eq!(Config::of_peft(&config).unwrap().scale(path), scale, "{config} {path}");
        }
        let q = "base_model.model.layers.0.q_proj";
        check(json!({"r": 8, "lora_alpha": 16}), q, Some(2.0));
        check(json!({"r": 16, "lora_alpha": 8, "use_rslora": true}), q, Some(2.0));
        check(json!({"r": 4, "alpha": 2, "peft_type": "LOKR"}), q, Some(0.5));
        check(json!({"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 4}}), q, Some(4.0));
        check(json!({"r": 8, "lora_alpha": 16, "rank_pattern": {"proj": 4}}), q, Some(2.0));
        check(json!({"r": 8, "lora_alpha": 16, "alpha_pattern": {r"layers\.\d+\.q_proj": 4}}), q, Some(0.5));
        check(json!({"r": 8, "lora_alpha": 16, "alpha_pattern": {"[kq]_proj": 4, "q_proj": 8}}), q, Some(0.5));
        check(json!({"r": 8, "lora_alpha": 16, "alpha_pattern": {"q_proj": 8, "[kq]_proj": 4}}), q, Some(1.0));
        check(json!({"peft_type": "LORA"}), q, None);
        check(json!([]), q, None);
    }

    #[test]
    fn scales_of_a_pipeline() {
        let config = json!({
            "transformer.r": 8, "transformer.lora_alpha": 4, "transformer.alpha_pattern": {"blocks.1.to_q": 8},
            "text_encoder.r": 2, "text_encoder.lora_alpha": 6,
        });
        let config = Config::of_diffusers(&config).unwrap();
        assert_eq!(config.scale("transformer.blocks.0.to_q"), Some(0.5));
        assert_eq!(config.scale("transformer.blocks.1.to_q"), Some(1.0));
        assert_eq!(config.scale("text_encoder.layers.0.q_proj"), Some(3.0));
        assert_eq!(config.scale("text_encoder_2.layers.0.q_proj"), None);
    }

    #[test]
    fn configs_that_scale_nothing() {
        fn check(config: Value, about: &str) {
            let error = Config::of_peft(&config).unwrap_err().to_string();
            assert!(error.contains(about), "{error}");
        }
        check(json!({"r": 0, "lora_alpha": 16}), "alpha 16 of rank 0");
        check(json!({"r": 8, "lora_alpha": 16, "rank_pattern": {"(": 4}}), "no regular expression");
    }
}
