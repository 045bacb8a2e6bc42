//! The one table of actions: from it come the keymap, the help, the palette, the hints and docs/keys.md.
use super::app::{App, Focus};
use super::backend::Knob;
use crate::session::profile::PresetChoice;

macro_rules! actions {
    ($($variant:ident $group:ident $name:literal $doc:literal [$($key:literal),*];)*) => {
        /// A named intent that keys can be bound to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $(#[doc = $doc] $variant),* }
        /// The table.
        pub const TABLE: &[Spec] = &[$(Spec {
            action: Action::$variant, group: Group::$group, name: $name, doc: $doc, keys: &[$($key),*],
        }),*];
    };
}

/// A row of the table.
#[derive(Debug)]
pub struct Spec {
    /// The action.
    pub action: Action,
    /// Under which heading it is listed.
    pub group: Group,
    /// Its stable name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its keys unless they are bound otherwise.
    pub keys: &'static [&'static str],
}

/// Headings of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where to go.
    Move,
    /// What to act on.
    Select,
    /// What to set.
    Recipe,
    /// What to measure and to write.
    Work,
    /// What to show.
    View,
    /// The program.
    Program,
}

impl Group {
    /// As it is written above its actions.
    pub fn title(self) -> &'static str {
        match self {
            Self::Move => "Move",
            Self::Select => "Select",
            Self::Recipe => "Recipe",
            Self::Work => "Measure and write",
            Self::View => "View",
            Self::Program => "Program",
        }
    }
}

actions! {
    Down Move "move.down" "One row down" ["j", "Down"];
    Up Move "move.up" "One row up" ["k", "Up"];
    HalfDown Move "move.half_page_down" "Half a page down" ["Ctrl-d"];
    HalfUp Move "move.half_page_up" "Half a page up" ["Ctrl-u"];
    PageDown Move "move.page_down" "A page down" ["PgDn", "Ctrl-f"];
    PageUp Move "move.page_up" "A page up" ["PgUp", "Ctrl-b"];
    Top Move "move.top" "To the first row" ["g g", "Home"];
    Bottom Move "move.bottom" "To the last row" ["G", "End"];
    Open Move "tree.open" "Open the group, or step into it" ["l", "Right"];
    Enter Move "tree.enter" "Open the group; on a tensor, inspect it" ["Enter"];
    Close Move "tree.close" "Close the group, or go to the one above" ["h", "Left"];
    CollapseAll Move "tree.collapse_all" "Close every group" ["-"];
    ExpandAll Move "tree.expand_all" "Open every group" ["="];
    CollapseBelow Move "tree.collapse_below" "Close the group and all below it" ["Shift-Left"];
    ExpandBelow Move "tree.expand_below" "Open the group and all below it" ["Shift-Right"];

    NextWorst Move "move.next_worst" "To the next tensor by estimated damage, the worst first" ["] e"];
    PreviousWorst Move "move.previous_worst" "To the one before" ["[ e"];

    Mark Select "select.mark" "Mark, and move down" ["Space"];
    MarkShown Select "select.mark_shown" "Mark everything that is shown" ["Ctrl-a"];
    Invert Select "select.invert" "Mark what is not marked, of what is shown" ["*"];
    Range Select "select.range" "Mark a range: move, then again to end it" ["v"];
    Kind Select "select.kind" "Mark the same kind in every block" ["."];
    MarkRegex Select "select.regex" "Mark names that match a regular expression" ["+"];
    MarkWorst Select "select.worst" "Mark the worst by estimated damage" ["#"];
    Filter Select "select.filter" "Show only names that match; `re:` for a regular expression" ["/"];

    Exclude Recipe "recipe.exclude" "Exclude: keep as it is; again: include" ["x"];
    Dtype Recipe "recipe.dtype" "Choose the dtype" ["t"];
    DefaultDtype Recipe "recipe.default_dtype" "Choose the dtype of all that nothing else is said of; for GGUF the mixture" ["D"];
    GroupSize Recipe "recipe.group_size" "Choose the group size" ["s"];
    SvdRank Recipe "recipe.svd_rank" "Choose the rank of the low-rank branch" ["r"];
    Hadamard Recipe "recipe.hadamard" "Choose how many values a Hadamard rotation mixes" ["H"];
    Codebook Recipe "recipe.codebook" "A codebook for each group; again: equal steps" ["b"];
    Reset Recipe "recipe.reset" "Back to what the rules say" ["R"];
    Copy Recipe "recipe.copy" "Copy the recipe" ["y"];
    Paste Recipe "recipe.paste" "Paste the recipe" ["p"];
    Target Recipe "recipe.target" "Choose the target: the family of files to write" ["T"];
    Rules Recipe "recipe.rules" "The rules in their order: what each matches and decides" ["E"];
    Preset Recipe "recipe.preset" "The preset's rules: why layers are kept" ["P"];
    Generalise Recipe "recipe.generalise" "Make a rule of the marks, or of what was set by hand" ["Ctrl-g"];
    Imatrix Recipe "recipe.imatrix" "Weigh errors by an importance matrix: its file" ["I"];
    QuantConv Recipe "recipe.quant_conv" "Quantize convolutions too; again: leave them" [];
    QuantEmbedding Recipe "recipe.quant_embedding" "Quantize embedding tables too; again: leave them" [];
    Undo Recipe "recipe.undo" "Undo" ["u"];
    Redo Recipe "recipe.redo" "Redo" ["U", "Ctrl-r"];
    History Recipe "recipe.history" "Every change, to go back or forth to" ["Z"];

    WhatIf Work "work.what_if" "What if: every other way with its size and loss; Enter takes one" ["W"];
    Trial Work "work.trial" "Quantize in memory and measure" ["a"];
    TrialShown Work "work.trial_shown" "Measure everything that is shown" ["A"];
    Convert Work "work.convert" "Convert: see the plan first" ["c"];
    Jobs Work "work.jobs" "Conversions and trials" ["w"];
    Command Work "work.command" "The choices as a command line, on the clipboard" ["Y"];
    Save Work "work.save" "Save the profile" ["Ctrl-s"];

    Focus View "view.focus" "To the other pane" ["Tab", "Shift-Tab"];
    Inspector View "view.inspector" "Show or hide the inspector" ["i"];
    List View "view.list" "A list of everything; again: the tree" ["`"];
    SortDamage View "view.sort_damage" "A list by estimated damage" ["o d"];
    SortError View "view.sort_error" "A list by error" ["o e"];
    SortGain View "view.sort_gain" "A list by estimated damage per byte: where bytes gain most" ["o g"];
    SortSize View "view.sort_size" "A list by size" ["o s"];
    SortName View "view.sort_name" "A list by name" ["o n"];
    SortTree View "view.sort_tree" "The tree again" ["o o"];
    Map View "view.map" "A map of the whole model: blocks across, kinds of layers down" ["M"];
    Differences View "view.differences" "What differs from the saved profile, or from what was pinned" ["d"];
    Pin View "view.pin" "Pin the present choices, to compare with" ["B"];
    Scale View "view.scale" "Histograms by root, linear or logarithmic" ["L"];
    Redraw View "view.redraw" "Draw the screen anew" ["Ctrl-l"];
    Help Program "program.help" "What can be done here; Enter does it" ["?", "F1"];
    Palette Program "program.palette" "Find a command" [":", "Ctrl-p"];
    Back Program "program.back" "One step back: popup, filter, marks" ["Esc"];
    Mouse Program "program.mouse" "Release the mouse, so that the terminal selects text; again: take it back" ["m"];
    Another Program "program.another" "Open another model" ["O"];
    Suspend Program "program.suspend" "Suspend" ["Ctrl-z"];
    Stop Program "program.stop" "Cancel what runs" ["Ctrl-c"];
    Quit Program "program.quit" "Quit" ["q"];
}

impl Action {
    /// Its row of the table.
    pub fn spec(self) -> &'static Spec {
        // The table has a row per variant, in their order.
        &TABLE[self as usize]
    }
    /// Whether it only moves about in the tree and the inspector, and rests on no plan.
    pub fn looks_around(self) -> bool {
        use Action::*;
        matches!(
            self,
            Down | Up
                | HalfDown
                | HalfUp
                | PageDown
                | PageUp
                | Top
                | Bottom
                | Open
                | Close
                | CollapseAll
                | ExpandAll
                | CollapseBelow
                | ExpandBelow
                | Focus
                | Inspector
                | Scale
                | Redraw
                | Suspend
        )
    }
}

/// Whether an action means something now; if not, why.
pub fn when(action: Action, app: &App) -> Result<(), String> {
    use Action::*;
    let family = app.session.settings().target;
    let key = |action| app.keymap.name(action);
    let tree = || {
        if app.tree.visible().is_empty() {
            Err(if app.tree.filtered() {
                "no tensor matches the filter".to_owned()
            } else {
                "the model has no tensors".to_owned()
            })
        } else {
            Ok(())
        }
    };
    match action {
        Dtype | Exclude | Mark | MarkShown | Invert | Range | Kind | Trial | TrialShown | WhatIf => tree(),
        Generalise => super::update::select::can_generalise(app),
        GroupSize => tree().and_then(|()| app.backend.can(family, Knob::GroupSize)),
        SvdRank => tree().and_then(|()| app.backend.can(family, Knob::SvdRank)),
        Hadamard => tree().and_then(|()| app.backend.can(family, Knob::Hadamard)),
        Codebook => tree().and_then(|()| app.backend.can(family, Knob::Codebook)),
        Imatrix => app.backend.can(family, Knob::Importance),
        QuantConv => app.backend.can(family, Knob::QuantConv),
        QuantEmbedding => app.backend.can(family, Knob::QuantEmbedding),
        Preset if app.session.settings().preset.is_empty() => Err(match app.session.profile.preset {
            PresetChoice::None => "the profile says that there is none".into(),
            _ => format!("{family} has no preset"),
        }),
        Reset => tree().and_then(|()| {
            if app.targets().iter().any(|id| app.override_of(*id).is_some()) {
                Ok(())
            } else {
                Err("nothing was set by hand here".into())
            }
        }),
        Copy => tree().and_then(|()| match app.tensor() {
            Some(_) => Ok(()),
            None => Err("go to a tensor first".into()),
        }),
        Paste => tree().and_then(|()| match &app.clipboard {
            None => Err(format!("nothing was copied yet: `{}` copies a recipe", key(Copy))),
            Some((f, _)) if *f != family => Err(format!("the copied recipe is one of {f}")),
            Some(_) => Ok(()),
        }),
        History if !app.session.can_undo() && !app.session.can_redo() => Err("nothing was changed yet".into()),
        Undo if !app.session.can_undo() => Err("nothing to undo".into()),
        Redo if !app.session.can_redo() => Err("nothing to redo".into()),
        Convert if app.running_job().is_some() => Err(format!("a conversion is running: `{}` shows it", key(Jobs))),
        Convert => tree().or_else(|e| if app.tree.filtered() { Ok(()) } else { Err(e) }),
        Focus if !app.inspector_shown() => Err(format!("there is one pane: `{}` opens the inspector", key(Inspector))),
        CollapseAll | ExpandAll if app.focus == self::Focus::Inspector => Ok(()),
        Open | Close | CollapseAll | ExpandAll | CollapseBelow | ExpandBelow if app.tree.is_list() => {
            Err(format!("it is a list: {} shows the tree", app.keymap.keys_of(List).unwrap_or_default()))
        }
        Open | Close | CollapseAll | ExpandAll | CollapseBelow | ExpandBelow if app.tree.filtered() => {
            if matches!(action, Open | Close) { Ok(()) } else { Err("the filter holds every group open".into()) }
        }
        CollapseBelow | ExpandBelow if app.focus == self::Focus::Inspector => Err("go to the tree first".into()),
        _ => Ok(()),
    }
}

/// Keys as Markdown shows them, the backtick too.
fn code(keys: &str) -> String {
    if keys.contains('`') { format!("`` {keys} ``") } else { format!("`{keys}`") }
}

/// docs/keys.md, made from the table.
pub fn document() -> String {
    let mut out = String::from(HEAD);
    let mut group = None;
    for spec in TABLE {
        if group != Some(spec.group) {
            group = Some(spec.group);
            out.push_str(&format!("\n## {}\n\n| Keys | Does | Name |\n|---|---|---|\n", spec.group.title()));
        }
        let keys = spec.keys.iter().map(|k| code(k)).collect::<Vec<_>>().join(" ");
        let keys = if keys.is_empty() { "`:`, its name".to_owned() } else { keys };
        out.push_str(&format!("| {keys} | {} | `{}` |\n", spec.doc, spec.name));
    }
    out.push_str(BINDING);
    out
}

const HEAD: &str = "# Keys

Written by `mixdown` itself from its table of actions: a test fails when this page is stale.

Commands act on the marks if there are any, else on the cursor; on a group, on its tensors. In a text field every \
printable key is text. `Esc` always goes one step back.
";

const BINDING: &str = "
## Other keys

The table `[keys]` of [config.toml](config.md) gives an action other keys, by its name:

```toml
[keys]
\"recipe.dtype\" = [\"t\", \"F2\"]   # several
\"work.jobs\" = \"g j\"            # one after the other
\"program.suspend\" = []         # none; `:` and its name still does it
```

They take the place of the action's own. Keys are written as above: a character as Shift makes it (`G`), `Space`, \
`Enter`, `Tab`, `Backspace`, `Delete`, `Insert`, `Left`, `Right`, `Up`, `Down`, `Home`, `End`, `PgUp`, `PgDn`, `F1` to \
`F24`; before it `Ctrl-`, `Alt-`, and for keys that are no characters `Shift-`.

Keys that mean something else already, or are the beginning of keys that do, are not bound: the desk names both when it \
opens, and the other action keeps them. To move them, give that one other keys, or `[]`. An action that gets none of its \
keys keeps its own. `Esc` and `Ctrl-c` stay what they are, and so do the keys in popups, which the popups name.
";
