//! Chat templates: one, or several by name.
use serde_json::Value;

use super::files::Folder;
use super::tokens::Pairs;
use crate::core::Result;
use crate::format::gguf;

/// Names under which models ship further templates as files; a folder is asked for files, never for a list of them.
const ADDITIONAL: [&str; 3] = ["tool_use", "rag", "thinking"];

/// The template that a folder has: a text, a list of objects with `name` and `template`, or none.
pub(super) fn read(folder: &Folder) -> Result<Option<Value>> {
    if let Some(value) = folder.setting("chat_template") {
        return Ok(match value {
            Value::String(_) | Value::Array(_) => Some(value.clone()),
            Value::Null => None,
            _ => {
                folder.warn("tokenizer_config.json: `chat_template` is neither text nor a list, and is left out");
                None
            }
        });
    }
    let one = |name: &str, template: String| serde_json::json!({"name": name, "template": template});
    if let Some(template) = folder.text("chat_template.jinja")? {
        let mut all = Vec::new();
        for name in ADDITIONAL {
            if let Some(template) = folder.text(&format!("additional_chat_templates/{name}.jinja"))? {
                all.push(one(name, template));
            }
        }
        if all.is_empty() {
            return Ok(Some(template.into()));
        }
        all.insert(0, one("default", template));
        return Ok(Some(all.into()));
    }
    let json = folder.json("chat_template.json")?;
    Ok(json.and_then(|mut v| v.get_mut("chat_template").map(Value::take)).filter(|v| v.is_string() || v.is_array()))
}

/// Writes a template's keys.
pub(super) fn put(template: &Value, pairs: &mut Pairs) {
    if let Some(text) = template.as_str() {
        pairs.put_text("tokenizer.chat_template", text);
        return;
    }
    let mut default = None;
    let mut names: Vec<String> = Vec::new();
    for choice in template.as_array().into_iter().flatten() {
        let name = choice.get("name").and_then(Value::as_str).unwrap_or_default();
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        match choice.get("template").and_then(Value::as_str) {
            Some(text) if name == "default" => default = Some(text),
            Some(text) if !name.is_empty() => {
                pairs.put_text(&format!("tokenizer.chat_template.{name}"), text);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            _ => {}
        }
    }
    if !names.is_empty() {
        pairs.put("tokenizer.chat_templates", gguf::Value::strings(names));
    }
    if let Some(text) = default {
        pairs.put_text("tokenizer.chat_template", text);
    }
}
