//! How a model was trained, where its files tell: other converters lose it.
use serde_json::Value as Json;

use super::card::Card;
use super::config::Config;
use crate::format::gguf::{Pair, Value};

/// `mixdown.training.*`, from config.json, else trainer_state.json as transformers' trainer leaves it, else the list of
/// hyperparameters that it writes into cards.
pub fn keys(config: &Config, state: Option<&Json>, card: &Card) -> Vec<Pair> {
    let listed = |key: &str| {
        card.body.lines().find_map(|line| {
            let (name, value) = line.trim().trim_start_matches(['-', '*']).trim().split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let mut keys = Vec::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            keys.push(Pair::new(&format!("mixdown.training.{key}"), value));
        }
    };
    let text = |key: &str| config.text(&[key]).map(Value::from);
    let base = || card.list(&["base_model"]).filter(|l| l.len() == 1).map(|l| Value::from(l[0].as_str()));
    put("fine_tuned_from", text("fine_tuned_from").or_else(|| text("finetuned_from")).or_else(base));
    put("fine_tune_dataset", text("fine_tune_dataset").or_else(|| text("finetune_dataset")));
    // Some write numbers as text.
    let steps = config.parsed(&["training_steps"], |v| v.as_u64().or_else(|| v.as_str()?.trim().parse().ok()));
    let steps = steps.or_else(|| state?.get("global_step")?.as_u64());
    put("training_steps", steps.or_else(|| listed("training_steps")?.parse().ok()).map(Value::from));
    let finite = |rate: &f64| rate.is_finite();
    let number = |v: &Json| v.as_f64().or_else(|| v.as_str()?.trim().parse().ok().filter(finite));
    let rate = config.parsed(&["learning_rate"], number);
    // The first rate that was logged is the highest, but for the warm-up before it.
    let logged = || {
        let history = state?.get("log_history")?.as_array()?;
        history.iter().filter_map(|entry| entry.get("learning_rate")?.as_f64()).reduce(f64::max)
    };
    let rate = rate.or_else(|| listed("learning_rate")?.parse().ok()).or_else(logged);
    put("learning_rate", rate.map(|rate| Value::from(rate as f32)));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn training_is_told_where_a_file_tells_it() {
        fn check(config: Json, state: Option<Json>, card: &str, expected: &[(&str, Value)]) {
            let found = keys(&Config::new("m", &config), state.as_ref(), &Card::read(card));
            let expected: Vec<Pair> =
                expected.iter().map(|(k, v)| Pair::new(&format!("mixdown.training.{k}"), v.clone())).collect();
            assert_eq!(found, expected);
        }
        check(json!({}), None, "", &[]);
        check(
            json!({"fine_tuned_from": "acme/base", "fine_tune_dataset": "acme/words", "training_steps": 1000, "learning_rate": 0.5}),
            None,
            "",
            &[
                ("fine_tuned_from", "acme/base".into()),
                ("fine_tune_dataset", "acme/words".into()),
                ("training_steps", 1000u64.into()),
                ("learning_rate", 0.5f32.into()),
            ],
        );
        check(
            json!({"training_steps": "1000", "learning_rate": "1e-4"}),
            None,
            "",
            &[("training_steps", 1000u64.into()), ("learning_rate", 1e-4f32.into())],
        );
        check(json!({"training_steps": "all", "learning_rate": "NaN", "fine_tuned_from": 3}), None, "", &[]);
        let state =
            json!({"global_step": 60, "log_history": [{"learning_rate": 0.125}, {"learning_rate": 0.25}, {"loss": 1}]});
        check(json!({}), Some(state), "", &[("training_steps", 60u64.into()), ("learning_rate", 0.25f32.into())]);
        check(
            json!({}),
            None,
            "---\nbase_model: acme/base\n---\n### Training hyperparameters\n- learning_rate: 5e-05\n- training_steps: 10\n",
            &[
                ("fine_tuned_from", "acme/base".into()),
                ("training_steps", 10u64.into()),
                ("learning_rate", 5e-5f32.into()),
            ],
        );
    }
    #[test]
    fn what_is_not_understood_is_kept() {
        let said = json!({"training_steps": "all", "learning_rate": "NaN", "fine_tuned_from": 3});
        let config = Config::new("m", &said);
        keys(&config, None, &Card::read(""));
        assert_eq!(Json::Object(config.rest(&[])), said);
    }
}
