//! Every action of the table: keys that lead to it, and what is then on the screen.
use super::*;
use crate::tui::action::TABLE;
use crate::tui::msg::Effect;

/// Name, keys, and what must be seen. A text that begins with `!` must not.
const WALKS: &[(&str, &str, &str)] = &[
    ("move.down", "j", "│▌   ▸ 0"),
    ("move.up", "j j k", "│▌   ▸ 0"),
    ("move.half_page_down", "Ctrl-d", "│▌   embed.weight"),
    ("move.half_page_up", "G Ctrl-u", "│▌ ▾ blocks"),
    ("move.page_down", "PgDn", "│▌   embed.weight"),
    ("move.page_up", "G PgUp", "│▌ ▾ blocks"),
    ("move.top", "G g g", "│▌ ▾ blocks"),
    ("move.bottom", "G", "│▌   embed.weight"),
    ("tree.open", "- l", "│▌ ▾ blocks"),
    ("tree.enter", "Enter", "│▌ ▸ blocks"),
    ("tree.close", "h", "│▌ ▸ blocks"),
    ("tree.collapse_all", "-", "│▌ ▸ blocks"),
    ("tree.expand_all", "=", "to_q.weight"),
    ("tree.collapse_below", "= Shift-Left", "│▌ ▸ blocks"),
    ("tree.expand_below", "Shift-Right", "to_q.weight"),
    ("move.next_worst", "A ] e", "number 1 of 7 by estimated damage"),
    ("move.previous_worst", "A ] e ] e [ e", "number 1 of 7 by estimated damage"),
    ("select.mark", "G Space", "1 marked"),
    ("select.mark_shown", "Ctrl-a", "9 marked"),
    ("select.invert", "G Space *", "8 marked"),
    ("select.range", "= j j j v j", "2 marked"),
    ("select.kind", "= j j j .", "blocks.*.attn.to_k.weight: 2 tensors marked"),
    ("select.regex", "+ n o r m Enter", "2 tensors marked"),
    ("select.worst", "A # Enter", "the worst 7 tensors marked"),
    ("select.filter", "/ f f", "2/9  Enter keeps it"),
    ("recipe.exclude", "G x", "exclude embed.weight"),
    ("recipe.dtype", "G t", "Dtype of embed.weight"),
    ("recipe.default_dtype", "D", "Default dtype of test"),
    ("recipe.group_size", "G s", "Group size of embed.weight"),
    ("recipe.svd_rank", "G r", "SVD rank of embed.weight"),
    ("recipe.hadamard", "G H", "Hadamard rotation of embed.weight"),
    ("recipe.codebook", "G t u 4 Enter b", "codebook on embed.weight"),
    ("recipe.reset", "G x R", "back to the rules on embed.weight"),
    ("recipe.copy", "G y", "copied: quantize int8"),
    ("recipe.paste", "G t i 6 Enter y j p", "quantize int6 on embed.weight"),
    ("recipe.target", "T", "Target of test"),
    ("recipe.rules", "E", "no rules yet"),
    ("recipe.preset", "P", "P: sdnq has no preset"),
    ("recipe.generalise", "G Space Ctrl-g", "embed=int8"),
    ("recipe.imatrix", "I g o o d . g g u f Enter", "importance matrix of 0 tensors"),
    ("recipe.quant_conv", ": q u a n t _ c o n v Enter", "quantize convolutions"),
    ("recipe.quant_embedding", ": q u a n t _ e m b Enter", "quantize embedding tables"),
    ("recipe.undo", "G x u", "undid: exclude embed.weight"),
    ("recipe.redo", "G x u U", "did again: exclude embed.weight"),
    ("recipe.history", "G x x Z Up Enter", "as after: exclude embed.weight"),
    ("work.what_if", "G W", "What if"),
    ("work.trial", "G a", "from every value"),
    ("work.trial_shown", "A", "mean MSE 1.53e-8"),
    ("work.convert", "c", "Enter  convert"),
    ("work.jobs", "w", "no conversion was started yet"),
    ("work.command", "Y", "The same on the command line"),
    ("work.save", "Ctrl-s", "Save the profile as"),
    ("view.focus", "G Tab", "Enter take it"),
    ("view.inspector", "i", "!What if"),
    ("view.list", "`", "Tensors by name"),
    ("view.sort_damage", "A o d", "Tensors by damage, estimated"),
    ("view.sort_error", "A o e", "Tensors by error"),
    ("view.sort_gain", "A o g", "Tensors by damage per byte, estimated"),
    ("view.sort_size", "o s", "Tensors by size"),
    ("view.sort_name", "o n", "Tensors by name"),
    ("view.sort_tree", "o n o o", "│  ▾ blocks"),
    ("view.map", "M", "Map · damage, estimated"),
    ("view.differences", "d", "What differs from the beginning"),
    ("view.pin", "B", "pinned: d compares"),
    ("view.scale", "G L", "Weights (linear)"),
    ("view.redraw", "Ctrl-l", "Redraw"),
    ("program.mouse", "m", "Mouse"),
    ("program.help", "?", "type to find"),
    ("program.palette", ":", "type to find"),
    ("program.back", "G Space Esc", "!marked ┘"),
    ("program.another", "O", "Another"),
    ("program.suspend", "Ctrl-z", "Suspend"),
    ("program.stop", "Ctrl-c", "nothing to cancel"),
    ("program.quit", "q", "Quit"),
];

#[test]
fn every_action_does_what_it_says() {
    // Planned at once, as a small model's desk does, and aside, as a large one's.
    for ((name, keys, seen), apart) in WALKS.iter().flat_map(|walk| [(walk, false), (walk, true)]) {
        let (mut driver, _) = desk(SMALL, (120, 40));
        driver.app.aside.apart = apart;
        // What is measured first is there when the keys that need it are pressed.
        match keys.strip_prefix("A ") {
            Some(rest) => driver.keys("A").settle().keys(rest).settle(),
            None => driver.keys(keys).settle(),
        };
        // What is asked of the terminal stands on no screen.
        let asked = driver.left.iter().map(|e| match e {
            Effect::Redraw => "Redraw",
            Effect::Suspend => "Suspend",
            Effect::Another => "Another",
            Effect::Quit(_) => "Quit",
            Effect::Mouse(_) => "Mouse",
            _ => "",
        });
        let asked: Vec<&str> = asked.collect();
        let screen = driver.screen();
        match seen.strip_prefix('!') {
            Some(not) => assert!(!screen.contains(not), "{name}: {keys}\n{screen}"),
            None => assert!(screen.contains(seen) || asked.contains(seen), "{name}: {keys}\n{screen}"),
        }
    }
}

#[test]
fn no_action_is_left_out() {
    let walked: Vec<&str> = WALKS.iter().map(|(name, ..)| *name).collect();
    let missing: Vec<&str> = TABLE.iter().map(|s| s.name).filter(|n| !walked.contains(n)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
