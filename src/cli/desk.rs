//! The desk, and before it the start screen where no MODEL was given.
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, unbounded};

use super::args::{Color, DeskArgs, Global, ModelArg, SettingsArgs};
use super::{dynamic, limits, open_with};
use crate::core::{Error, Result};
use crate::format::{Opened, config, find, state};
use crate::session::command::quoted;
use crate::session::recent::{Entry, Recent};
use crate::session::{Profile, Session};
use crate::tui::start::{self, DEMO, Outcome, Pick};
use crate::tui::theme::environment::{When, Wish};
use crate::{target, tui};

/// A model with the choices to begin with.
struct Ready {
    opened: Arc<Opened>,
    /// The component that was asked for.
    component: Option<String>,
    profile: Profile,
    /// Whether the choices differ from what the profile's file says.
    changed: bool,
    greeting: Option<String>,
}

/// Runs it.
pub fn run(global: &Global, model: &ModelArg, choices: &SettingsArgs, desk: DeskArgs) -> Result<u8> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Error::usage(
            "the desk needs a terminal; without one use `mixdown inspect`, `plan`, `trial` or `convert` (see --help)",
        ));
    }
    let limits = limits(global)?;
    let given = model.model.is_some() || model.demo;
    if !given && choices.dynamic.is_some() {
        return Err(Error::usage("--dynamic reads all weights before the desk opens: give the MODEL with it"));
    }
    let mut next = if given { Some(ready(global, model, choices)?) } else { None };
    let colour = match global.color {
        Color::Auto => When::Auto,
        Color::Always => When::Always,
        Color::Never => When::Never,
    };
    let wish = Wish { theme: desk.theme, ascii: desk.ascii.then_some(true), colour };
    let mut stage = tui::Stage::new(config::read(), wish)?;
    let memory = Memory::start();
    // What was not saved is told about once the screen is given back.
    let kept: Rc<RefCell<Vec<String>>> = Rc::default();
    let mut back: Option<Back> = None;
    // What the command line says is said of the first model; another one begins afresh.
    let mut said = (model.clone(), choices.clone());
    loop {
        let ready = match next.take() {
            Some(ready) => ready,
            None => match pick(&mut stage, global, &said, back.is_some())? {
                Outcome::Picked(ready) => ready,
                Outcome::Quit(0) if back.is_some() => {
                    let Some(Back { model, profile, drafted }) = back.take() else { continue };
                    // It is where it was: nothing is left over.
                    if drafted {
                        kept.borrow_mut().pop();
                    }
                    let choices = SettingsArgs { profile, ..SettingsArgs::default() };
                    ready(&Global { quiet: true, ..global.clone() }, &model, &choices)?
                }
                Outcome::Quit(code) => {
                    drop(stage);
                    tell_kept(&kept.borrow());
                    return Ok(code);
                }
            },
        };
        said = (ModelArg::default(), SettingsArgs::default());
        let entry = entry(&ready);
        memory.remember(&entry);
        let Ready { opened, profile, changed, greeting, .. } = ready;
        let make = move |wake: tui::Waker| {
            let mut session = Session::new(Arc::clone(&opened.model), profile);
            if changed {
                session.mark_unsaved();
            }
            let live = tui::Live::new(opened, limits, session.settings().clone(), move || wake.wake())?;
            Ok((session, Box::new(live) as Box<dyn tui::backend::Backend>))
        };
        let title = entry.title.clone();
        let mut words = vec!["mixdown".to_owned(), entry.model.clone()];
        words.extend(entry.component.iter().flat_map(|c| ["--component".to_owned(), c.clone()]));
        let came_from = ModelArg {
            model: (entry.model != DEMO).then(|| entry.model.clone()),
            demo: entry.model == DEMO,
            component: entry.component.clone(),
        };
        let named = entry.profile.clone();
        let draft: Rc<RefCell<Option<String>>> = Rc::default();
        let drafted = Rc::clone(&draft);
        let tell = memory.teller(entry);
        let list = Rc::clone(&kept);
        let keep = move |text: &str| {
            let line = match state::write_draft(&title, &words.join(" "), seconds(), text) {
                Ok(path) => {
                    let path = path.display().to_string();
                    *drafted.borrow_mut() = Some(path.clone());
                    let all = words.iter().map(String::as_str).chain(["--profile", &path]);
                    let command: Vec<String> = all.map(quoted).collect();
                    format!("kept in {path}: {}", command.join(" "))
                }
                Err(e) => format!("lost: {e}"),
            };
            list.borrow_mut().push(format!("the choices for {title} were not saved, and are {line}"));
        };
        let options = tui::Options { greeting, keep: Some(Box::new(keep)), profile: Some(Box::new(tell)) };
        match tui::run(&mut stage, make, options)? {
            tui::Ended::Quit(code) => {
                drop(stage);
                tell_kept(&kept.borrow());
                return Ok(code);
            }
            tui::Ended::Another => {
                let draft = draft.borrow_mut().take();
                back = Some(Back { model: came_from, drafted: draft.is_some(), profile: draft.or(named) });
            }
        }
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn tell_kept(lines: &[String]) {
    for line in lines {
        // If stderr is gone there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "{}", crate::core::name::clean(line));
    }
}

fn ready(global: &Global, model: &ModelArg, choices: &SettingsArgs) -> Result<Ready> {
    let opened = open_with(model, &choices.lora, global)?;
    // Who opens a GGUF file at the desk means to write one, unless something else is said.
    let mut choices = choices.clone();
    let is_gguf = opened.model.format == "gguf" && choices.to.is_none() && choices.profile.is_none();
    if is_gguf && choices == SettingsArgs::default() {
        choices.to = Some(crate::core::Family::Gguf.name().to_owned());
    }
    let choices = &choices;
    let (mut profile, _) = dynamic::profile(global, choices, &opened, None)?;
    // Flags over a named profile are choices that its file does not have.
    let only_profile = SettingsArgs { profile: choices.profile.clone(), ..SettingsArgs::default() };
    let changed = choices.profile.is_some() && choices.save_profile.is_none() && *choices != only_profile;
    // A draft is no place to save to: the next one may take its place.
    let drafts = state::drafts();
    let is_draft = profile.name.as_deref().is_some_and(|n| drafts.as_ref().is_ok_and(|d| Path::new(n).starts_with(d)));
    if is_draft {
        profile.name = None;
    }
    let changed = changed || is_draft;
    Ok(Ready { opened, component: model.component.clone(), profile, changed, greeting: None })
}

/// A desk that was left for another model.
struct Back {
    model: ModelArg,
    /// The choices, where there were any.
    profile: Option<String>,
    /// Whether these were kept as a draft.
    drafted: bool,
}

/// Asks which model; `back` says whether there is one to go back to.
fn pick(
    stage: &mut tui::Stage,
    global: &Global,
    said: &(ModelArg, SettingsArgs),
    back: bool,
) -> Result<Outcome<Ready>> {
    // Nothing is printed while the screen is taken; warnings greet at the desk.
    let global = Global { quiet: true, ..global.clone() };
    let (model, choices) = said.clone();
    let given = choices.profile.clone();
    let open = move |pick: &Pick| {
        let demo = pick.label == DEMO;
        let model = ModelArg {
            model: (!demo).then(|| pick.label.clone()),
            demo,
            component: model.component.clone().or_else(|| pick.component.clone()),
        };
        let choices = SettingsArgs { profile: pick.profile.clone(), ..choices.clone() };
        let mut ready = ready(&global, &model, &choices)?;
        // What cannot be planned is refused where another model can be picked, not by the desk.
        target::plan(&ready.opened.model, &ready.profile.settings)?;
        let warnings = &ready.opened.model.warnings;
        ready.greeting = warnings.first().map(|w| match warnings.len() {
            1 => w.clone(),
            n => format!("{w} (and {} more: `mixdown inspect` lists them)", n - 1),
        });
        Ok(ready)
    };
    start::run(stage, given, back, Arc::new(open))
}

fn entry(ready: &Ready) -> Entry {
    let model = &ready.opened.model;
    Entry {
        model: find::absolute(&model.label).filter(|_| model.label != DEMO).unwrap_or_else(|| model.label.clone()),
        component: ready.component.clone(),
        title: model.title.clone(),
        format: model.format.clone(),
        bytes: model.files.iter().map(|f| f.bytes).sum(),
        opened: seconds(),
        profile: ready.profile.name.as_deref().map(whole),
    }
}

/// A profile's name; of a path, one that does not depend on where one is.
fn whole(name: &str) -> String {
    let absolute = |path: &Path| std::path::absolute(path).ok()?.to_str().map(str::to_owned);
    let path = Some(name).filter(|n| n.ends_with(".toml")).map(find::at_home);
    path.and_then(|p| absolute(&p)).unwrap_or_else(|| name.to_owned())
}

/// Writes the list of recent models, on a thread: the desk waits for no disk.
struct Memory {
    sender: Option<Sender<Entry>>,
    writer: Option<JoinHandle<()>>,
}

impl Memory {
    fn start() -> Self {
        let (sender, entries) = unbounded::<Entry>();
        let write = move || {
            for entry in entries {
                let mut list = Recent::parse(&state::read_recent());
                list.push(entry);
                if let Err(e) = state::write_recent(&list.to_text()) {
                    log::info!("the list of recent models is not kept: {e}");
                }
            }
        };
        let writer = std::thread::Builder::new().name("memory".into()).spawn(write).ok();
        Self { sender: Some(sender), writer }
    }
    fn remember(&self, entry: &Entry) {
        if let Some(sender) = &self.sender {
            // Without the thread nothing is remembered, and that is all.
            let _ = sender.send(entry.clone());
        }
    }
    /// Remembers that the model's profile has another name now.
    fn teller(&self, entry: Entry) -> impl Fn(&str) + 'static {
        let sender = self.sender.clone();
        move |name| {
            if let Some(sender) = &sender {
                let _ = sender.send(Entry { profile: Some(whole(name)), ..entry.clone() });
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
