//! What can be set is offered: one of several values for what is acted on.
use super::recipe::{is_kept, kept, names, reach, recipe_of, whose};
use crate::core::recipe::group_size;
use crate::core::rules::hadamard;
use crate::core::{Family, Patch, TensorId};
use crate::tui::app::App;
use crate::tui::backend::{DtypeChoice, Form};
use crate::tui::overlay::{Choice, Item, Overlay, Picker};

/// The title where a dtype is chosen.
const DTYPE: &str = "Dtype";

fn item(label: String, figure: String, about: &str, choice: Choice) -> Item {
    Item { label, figure, about: about.into(), choice }
}

fn open(app: &mut App, title: &str, items: Vec<Item>, current: impl Fn(&App, TensorId, Patch) -> Option<Choice>) {
    let (ids, _) = reach(app);
    // A dtype includes; anything else is about what is quantized.
    if title != DTYPE && ids.iter().all(|id| is_kept(app, *id)) {
        return app.complain(kept(app, &ids));
    }
    let (first, same) = {
        let decide = app.session.settings().decider(ids.len());
        let mut all = ids.iter().map(|id| current(app, *id, decide(&names(app, *id)).patch));
        let first = all.next().flatten();
        let same = all.all(|choice| choice == first);
        (first, same)
    };
    let picker = Picker::new(title, whose(app, &ids), items, first.filter(|_| same));
    app.overlays.push(Overlay::Picker(picker));
}

/// `t`
pub fn dtype(app: &mut App) {
    let items = app
        .backend
        .dtypes(app.session.settings().target)
        .into_iter()
        .map(|d| item(d.name.to_string(), format!("{} bit", d.bits), d.about, Choice::Dtype(d.name.clone())))
        .collect();
    open(app, DTYPE, items, |app, id, said| match recipe_of(app, id) {
        // What a mixture gives a tensor is a dtype of another name than the mixture's.
        Some(recipe) if recipe.family == Family::Gguf => Some(Choice::Dtype(recipe.dtype.clone())),
        // What is kept has none of these.
        None if is_kept(app, id) => None,
        _ => said.dtype.map(Choice::Dtype),
    });
}

/// `D`
pub fn default(app: &mut App) {
    let family = app.session.settings().target;
    let all = app.backend.defaults(family).into_iter();
    // Of a mixture the bits depend on the model.
    let mixtures = family == Family::Gguf;
    let bits = |d: &DtypeChoice| if mixtures { String::new() } else { format!("{} bit", d.bits) };
    let items = all.map(|d| item(d.name.to_string(), bits(&d), d.about, Choice::Default(d.name.clone()))).collect();
    let title = if mixtures { "Mixture" } else { "Default dtype" };
    let settings = app.session.settings();
    let current = settings
        .defaults
        .dtype
        .clone()
        .or_else(|| app.backend.settings_for(Form::of(settings), settings).defaults.dtype);
    let whose = crate::core::name::clean(&app.session.model.title).into_owned();
    app.overlays.push(Overlay::Picker(Picker::new(title, whose, items, current.map(Choice::Default))));
}

/// `s`
pub fn group_size(app: &mut App) {
    let words = [
        (group_size::AUTO, "what the target finds best"),
        (group_size::ROW, "one scale a row"),
        (group_size::TENSOR, "one scale for all"),
    ];
    let items = words
        .into_iter()
        .chain([16, 32, 64, 128, 256, 512].map(|n| (n, "")))
        .map(|(n, about)| item(group_size::name(n), String::new(), about, Choice::GroupSize(n)))
        .collect();
    open(app, "Group size", items, |_, _, said| Some(Choice::GroupSize(said.group_size.unwrap_or(group_size::AUTO))));
}

/// `r`
pub fn rank(app: &mut App) {
    // Where a file has one rank for all, its kernels have tiles of 16, and at least one.
    let rank = |n: u32| Patch { svd_rank: Some(n), ..Patch::default() };
    let least = if app.backend.is_for_all(app.session.settings().target, &rank(0)) { 16 } else { 0 };
    let items = [0, 4, 8, 16, 32, 64, 128, 256]
        .into_iter()
        .filter(|n| *n >= least)
        .map(|n: u32| {
            item(n.to_string(), String::new(), if n == 0 { "no low-rank branch" } else { "" }, Choice::SvdRank(n))
        })
        .collect();
    open(app, "SVD rank", items, |app, id, said| {
        Some(Choice::SvdRank(said.svd_rank.or_else(|| Some(recipe_of(app, id)?.svd_rank)).unwrap_or(0)))
    });
}

/// `H`
pub fn hadamard(app: &mut App) {
    let items = [0, 16, 32, 64, 128, 256, 512, 1024]
        .into_iter()
        .map(|n: u32| {
            let about = match n {
                0 => "no rotation",
                hadamard::DEFAULT => "the usual",
                _ => "",
            };
            item(n.to_string(), String::new(), about, Choice::Hadamard(n))
        })
        .collect();
    open(app, "Hadamard rotation", items, |_, _, said| Some(Choice::Hadamard(said.hadamard.unwrap_or(0))));
}

/// `Z`: every state since the beginning.
pub fn state(app: &mut App) {
    let history = app.session.history();
    let saved = |n: usize| if history.saved_at() == Some(n) { "saved" } else { "" };
    let begin = item("the beginning".into(), String::new(), saved(0), Choice::State(0));
    let states = history
        .titles()
        .enumerate()
        .map(|(i, title)| item(title.to_owned(), format!("{}", i + 1), saved(i + 1), Choice::State(i + 1)));
    let items = std::iter::once(begin).chain(states).collect();
    let current = Some(Choice::State(history.at()));
    let whose = crate::core::name::clean(&app.session.model.title).into_owned();
    app.overlays.push(Overlay::Picker(Picker::new("History", whose, items, current)));
}

fn about(form: Form) -> &'static str {
    match form.family {
        _ if form.lite => "the same of any diffusers model, a folder",
        Family::Float => "plain floats; undoes quantization",
        Family::Sdnq => "diffusers, transformers, SD.Next",
        Family::Gguf => "llama.cpp and what is built on it",
        Family::Comfy => "ComfyUI, in one file",
        Family::Nunchaku => "Nunchaku's kernels: 4-bit weights and activations",
    }
}

/// `T`
pub fn target(app: &mut App) {
    let items = Form::all().map(|form| item(form.name(), String::new(), about(form), Choice::Target(form))).collect();
    let current = Some(Choice::Target(Form::of(app.session.settings())));
    let whose = crate::core::name::clean(&app.session.model.title).into_owned();
    app.overlays.push(Overlay::Picker(Picker::new("Target", whose, items, current)));
}
