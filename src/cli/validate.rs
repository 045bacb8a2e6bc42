//! `mixdown validate`.
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{Global, ValidateArgs};
use super::{demo, limits, print_bytes, print_json, signals};
use crate::core::error::Kind;
use crate::core::{Cancel, Error, Result, name};
use crate::engine;
use crate::format::{self, OpenOptions, Opened};
use crate::target;
use crate::target::against;
use crate::target::check::{self, Check, Level};
use crate::target::comfy;
use crate::target::faithful;
use crate::target::gguf;
use crate::target::nunchaku;
use crate::target::sdnq::validate;

/// What this version can check.
const KNOWN: &str = "this version of validate knows SDNQ (model folders, components, pipelines, single files), ComfyUI's and Nunchaku's files, and GGUF files";

pub fn run(global: &Global, args: &ValidateArgs) -> Result<u8> {
    let cancel = signals::cancel_on_signal()?;
    let pool = engine::pool(limits(global)?.threads, "validate")?;
    let (format, checks) = pool.install(|| checks(args, &cancel))?;
    let ok = check::passes(&checks);
    if args.json {
        let checks: Vec<Value> = checks.iter().map(Check::json).collect();
        print_json(&json!({"format": format, "ok": ok, "checks": checks}))?;
    } else {
        print_bytes(text(&checks).as_bytes())?;
    }
    Ok(u8::from(!ok))
}

fn checks(args: &ValidateArgs, cancel: &Cancel) -> Result<(String, Vec<Check>)> {
    let asked = &args.model.component;
    let components = match (&args.model.model, asked) {
        (Some(label), None) => format::components(label)?,
        _ => Vec::new(),
    };
    if components.is_empty() {
        return one(args, asked.clone(), cancel).map(|(format, checks)| match checks {
            Some(checks) => (format, checks),
            None => {
                let detail = format!("not quantized in a known way, but {format}; {KNOWN}");
                (format, vec![Check { name: "format", level: Level::Error, detail }])
            }
        });
    }
    let mut all = Vec::new();
    for component in components {
        // What is not quantized is nobody's concern here.
        if let (_, Some(checks)) = one(args, Some(component.clone()), cancel)? {
            let at = |c: Check| Check { detail: format!("{component}: {}", c.detail), ..c };
            all.extend(checks.into_iter().map(at));
        }
    }
    if all.is_empty() {
        let detail = format!("no component is quantized in a known way; {KNOWN}");
        return Ok(("safetensors".into(), vec![Check { name: "format", level: Level::Error, detail }]));
    }
    Ok(("sdnq".into(), all))
}

/// The checks of one model or component; none where it is quantized in no known way.
fn one(args: &ValidateArgs, component: Option<String>, cancel: &Cancel) -> Result<(String, Option<Vec<Check>>)> {
    let opened = match arrays(args, component.clone()) {
        Ok(opened) => opened,
        Err(e) if e.kind() != Kind::Failed => return Err(e),
        // That it does not open is the first thing that its consumer meets.
        Err(e) => {
            let check = Check { name: "opens", level: Level::Error, detail: e.to_string() };
            return Ok(("unknown".into(), Some(vec![check])));
        }
    };
    if !opened.gguf.is_empty() {
        let mut checks = faithful::alone(&opened);
        checks.extend(gguf::validate::checks(&opened, cancel)?);
        if let Some(label) = &args.against {
            let source = target::open(label, &OpenOptions::default()).map_err(|e| e.at("--against"))?;
            if source.gguf.is_empty() {
                // Made from a model of other names: its tensors are compared as they would be called here.
                checks.extend(against::against(&Arc::new(opened), &Arc::new(source), cancel)?);
                return Ok(("gguf".into(), Some(checks)));
            }
            // What was checked of the file by itself needs no second line.
            let more =
                faithful::checks(&source, &opened).into_iter().filter(|m| !checks.iter().any(|c| c.name == m.name));
            checks.extend(more.collect::<Vec<_>>());
        }
        return Ok(("gguf".into(), Some(checks)));
    }
    let (format, mut checks) = match validate::validate(&opened, cancel)? {
        Some(checks) => ("sdnq", checks),
        None => match nunchaku::validate::validate(&opened, cancel)? {
            Some(checks) => ("nunchaku", checks),
            None => match comfy::validate::validate(&opened, cancel)? {
                Some(checks) => ("comfy", checks),
                None => return Ok((opened.model.format.clone(), None)),
            },
        },
    };
    if let Some(label) = &args.against {
        checks.extend(against(opened, label, component, cancel)?);
    }
    Ok((format.into(), Some(checks)))
}

fn arrays(args: &ValidateArgs, component: Option<String>) -> Result<Opened> {
    match (&args.model.model, args.model.demo) {
        (Some(label), false) => target::open_arrays(label, &OpenOptions { component }),
        (None, true) => demo::open(),
        (None, false) => Err(Error::usage("which model? give a file, a folder or an id")),
        (Some(_), true) => Err(Error::usage("--demo takes the place of MODEL; give one of them")),
    }
}

fn against(mut opened: Opened, label: &str, component: Option<String>, cancel: &Cancel) -> Result<Vec<Check>> {
    let of_pipeline = !format::components(label)?.is_empty();
    let options = OpenOptions { component: component.filter(|_| of_pipeline) };
    let source = Arc::new(target::open(label, &options).map_err(|e| e.at("--against"))?);
    target::recognise(&mut opened)?;
    against::against(&Arc::new(opened), &source, cancel)
}

/// A line for each check, and how it came out.
fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let count = |level| checks.iter().filter(|c| c.level == level).count();
    let mut out = String::new();
    for c in checks {
        out.push_str(&format!("{} {:width$}  {}\n", c.level.mark(), c.name, name::clean(&c.detail)));
    }
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (errors, warnings) = (count(Level::Error), count(Level::Warn));
    let verdict = if errors == 0 { "passes" } else { "does not pass" };
    out.push_str(&format!("\n{verdict}: {}, {}\n", plural(errors, "error"), plural(warnings, "warning")));
    out
}
