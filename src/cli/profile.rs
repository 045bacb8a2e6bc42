//! `mixdown profile`.
use serde_json::{Value, json};

use super::args::{Global, ProfileArgs, ProfileCommand};
use super::{print_bytes, print_json};
use crate::core::{Error, Result, name};
use crate::format::profiles;
use crate::session::preset;

pub fn run(global: &Global, args: &ProfileArgs) -> Result<u8> {
    match &args.command {
        ProfileCommand::List { json } => list(*json),
        ProfileCommand::Show { name } => show(name),
        ProfileCommand::Path { name } => {
            let path = match name {
                Some(name) => profiles::locate(name)?,
                None => profiles::folder()?,
            };
            print_bytes(format!("{}\n", path.display()).as_bytes())
        }
        ProfileCommand::Export { name, model, tool, output } => {
            super::exchange::export(name, model, *tool, output.as_deref(), global)
        }
        ProfileCommand::Import { file, tool, output, save } => {
            super::exchange::import(file, *tool, output.as_deref(), save.as_deref(), global)
        }
    }
}

fn list(as_json: bool) -> Result<u8> {
    let names = profiles::list()?;
    if as_json {
        let profiles: Vec<Value> = names
            .iter()
            .map(|n| json!({"name": n, "path": profiles::locate(n).map(|p| p.display().to_string()).ok()}))
            .collect();
        let presets: Vec<Value> = preset::all()
            .iter()
            .map(|p| json!({"name": p.name, "about": p.about, "classes": p.classes, "rules": p.rules.len()}))
            .collect();
        return print_json(&json!({"profiles": profiles, "presets": presets}));
    }
    let mut text = String::new();
    if names.is_empty() {
        text.push_str(&format!("no profiles in {}\n", profiles::folder()?.display()));
    }
    for n in &names {
        text.push_str(&format!("{}\n", name::clean(n)));
    }
    text.push_str("\nbuilt-in presets (chosen by the model's class)\n");
    let width = preset::all().iter().map(|p| p.name.len()).max().unwrap_or(0);
    for p in preset::all() {
        text.push_str(&format!("  {:width$}  {}\n", p.name, p.about));
    }
    print_bytes(text.as_bytes())
}

fn show(name: &str) -> Result<u8> {
    let path = profiles::locate(name)?;
    match std::fs::read(&path) {
        Ok(text) => print_bytes(&text),
        Err(e) => match preset::by_name(name) {
            Some(p) => print_bytes(preset_text(&p).as_bytes()),
            None => Err(Error::failed(format!("profile {}: cannot be read: {e}", path.display())).because(e)),
        },
    }
}

fn preset_text(p: &preset::Preset) -> String {
    let mut text = format!(
        "# preset {}: {}\n# for {}\n",
        p.name,
        p.about,
        match &p.classes {
            Some(classes) if classes.is_empty() => "every class that has none of its own".into(),
            Some(classes) => classes.join(", "),
            None => "those who name it".into(),
        }
    );
    for rule in &p.rules {
        text.push_str(&format!("\n[[rule]]\npattern = '{}'\n", rule.pattern));
        if let Some(reason) = &rule.reason {
            text.push_str(&format!("reason = {}\n", toml_edit::Value::from(reason.as_str())));
        }
        if rule.patch.keep == Some(true) {
            text.push_str("keep = true\n");
        }
    }
    text
}
