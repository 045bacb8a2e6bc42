//! What keys do to the choices.
use super::*;
use crate::tui::backend::Form;

/// The overrides after those keys, as `name: patch`.
fn check(keys: &str, overrides: &[&str]) {
    let (mut driver, _) = desk(SMALL, (120, 30));
    driver.keys(keys);
    let set: Vec<String> =
        driver.app.session.settings().overrides.iter().map(|(name, patch)| format!("{name}: {patch}")).collect();
    assert_eq!(set, overrides, "{keys}");
}

// SMALL opens with four rows: blocks, blocks.0, blocks.1 and embed.
#[test]
fn x_keeps_and_again_includes() {
    check("/ f f . w e i g h t Enter x", &["blocks.0.ff.weight: keep"]);
    check("G l x", &["embed.weight: keep"]);
    check("G l x x", &[]);
}

#[test]
fn on_a_group_x_means_all_its_tensors_that_can_be_quantized() {
    check("j x", &["blocks.0.attn.to_k.weight: keep", "blocks.0.attn.to_q.weight: keep", "blocks.0.ff.weight: keep"]);
    check("j x x", &[]);
}

#[test]
fn marks_are_acted_on_before_the_cursor() {
    check("G Space g g t u 4 Enter", &["embed.weight: uint4"]);
}

#[test]
fn pickers_take_digits() {
    check("G t 6 Enter", &["embed.weight: int6"]);
    check("G s 3 2 Enter", &["embed.weight: group 32"]);
    check("G s 4 8 Enter", &["embed.weight: group 48"]);
    check("G s - 1 Enter", &["embed.weight: group row"]);
    check("G s r o w Enter", &["embed.weight: group row"]);
    check("G r 1 6 Enter", &["embed.weight: rank 16"]);
    check("G r 7 Enter", &["embed.weight: rank 7"]);
    check("G H 6 4 Enter", &["embed.weight: hadamard 64"]);
    check("G H 4 0 9 6 Enter", &["embed.weight: hadamard 4096"]);
    check("G H 4 8 Enter", &[]);
    check("G H 2 5 6 Enter H 0 Enter", &["embed.weight: no hadamard"]);
    check("G r z Enter", &[]);
    check("G r Esc", &[]);
}

#[test]
fn b_finds_levels_and_again_takes_equal_steps() {
    check("G t u 4 Enter b", &["embed.weight: uint4 codebook"]);
    check("G t u 4 Enter b b", &["embed.weight: uint4 no codebook"]);
    // What the dtype cannot take is not kept for another one.
    check("G b", &[]);
    check("j b", &[]);
    // Where some have levels, all get them; what one of them cannot take is told.
    check(
        "G t u 4 Enter Space g g = j j j Space b",
        &["blocks.0.attn.to_k.weight: codebook", "embed.weight: uint4 codebook"],
    );
}

#[test]
fn kinds_of_layers_are_switched_for_the_whole_model() {
    const MIXED: &str = "
        conv.weight 64x32x3x3
        ff.weight 256x64
        tables.words.weight 512x64
    ";
    fn check(keys: &str, line: &str, quantized: [bool; 3]) {
        let (mut driver, _) = desk(MIXED, (80, 24));
        driver.keys(keys);
        let screen = driver.screen();
        assert_eq!(screen.lines().nth(23).unwrap_or_default().trim(), line, "{keys}");
        let rows = &driver.app.board.plan.rows;
        assert_eq!([0, 1, 2].map(|i| !rows[i].excluded), quantized, "{keys}");
    }
    check(": c o n v o l Enter", "quantize convolutions · 1 tensor more quantized", [true, true, false]);
    check(
        ": c o n v o l Enter : c o n v o l Enter",
        "leave convolutions · 1 tensor fewer quantized",
        [false, true, false],
    );
    check(": t a b l e s Enter", "quantize embedding tables · 1 tensor more quantized", [false, true, true]);
    check(": t a b l e s Enter u", "undid: quantize embedding tables", [false, true, false]);
    check("T f Enter : t a b l e s Enter", "! recipe.quant_embedding: float casts every layer", [true, true, true]);
}

#[test]
fn a_dtype_set_on_one_kept_tensor_includes_it() {
    check("G x t 4 Enter", &["embed.weight: uint4"]);
}

#[test]
fn of_a_group_the_kept_ones_are_left_alone() {
    check(
        "G Space x Esc g g j l j Space t 4 Enter",
        &["blocks.0.attn.to_k.weight: uint4", "blocks.0.attn.to_q.weight: uint4", "embed.weight: keep"],
    );
}

#[test]
fn recipes_are_copied_and_pasted() {
    check(
        "G l l t u 4 Enter y g g j l l l l l p",
        &["blocks.0.attn.to_k.weight: quantize uint4", "embed.weight: uint4"],
    );
}

#[test]
fn reset_goes_back_to_the_rules() {
    check("G x R", &[]);
}

#[test]
fn undo_and_redo_hold_everywhere() {
    check("G x t 4 Enter u", &["embed.weight: keep"]);
    check("G x t 4 Enter u u", &[]);
    check("G x t 4 Enter u u U U", &["embed.weight: uint4"]);
    check("G x T f l o Enter u", &["embed.weight: keep"]);
}

#[test]
fn every_edit_says_what_it_did() {
    fn check(keys: &str, line: &str) {
        assert_eq!(says(keys), line, "{keys}");
    }
    check("j x", "exclude 3 tensors");
    check("j x x", "include 3 tensors");
    check("j t u 4 Enter", "uint4 on 3 tensors · 1 tensor left as kept");
    check("G x u", "undid: exclude embed.weight");
    check("G x u U", "did again: exclude embed.weight");
    check("g g y", "! y: go to a tensor first");
    check("p", "! p: nothing was copied yet: `y` copies a recipe");
    check("R", "! R: nothing was set by hand here");
    check("u", "! u: nothing to undo");
    check("T f Enter r", "! r: float has no low-rank branch");
    check("T f Enter H", "! H: float rotates nothing");
    check("T f Enter b", "! b: float has no codes");
    check("T f Enter P", "! P: float has no preset");
    check("G H 6 4 Enter", "hadamard 64 on embed.weight");
    check("G b", "! embed.weight: int8 takes no codebook");
    check("G t u 4 Enter b", "codebook on embed.weight");
    check("G x b", "! embed.weight: kept as it is; x includes it");
    check("G l r 8 Enter x r", "! embed.weight: kept as it is; x includes it");
}

#[test]
fn what_cannot_be_quantized_says_why() {
    assert_eq!(says("/ 0 Space n o r m Enter x"), "blocks.0.norm.weight: kept already: it has one dimension");
}

/// Kinds of layers that stay as they are unless they are asked for, or always.
const KINDS: &str = "
    conv.weight 64x32x3x3
    ff.weight 256x64
    head.weight 256x64
    norm.weight 64
    tables.words.weight 512x64
";

#[test]
fn what_is_told_is_what_was_done() {
    fn check(keys: &str, line: &str) {
        let screen = after(KINDS, (160, 24), keys);
        assert_eq!(screen.lines().nth(23).unwrap_or_default().trim(), line, "{keys}");
    }
    // Of kept ones those come back that were excluded by hand.
    check("Ctrl-a x t u 4 Enter", "uint4 on 2 tensors · 3 tensors left as kept");
    check("Ctrl-a t u 4 Enter", "uint4 on 2 tensors · 3 tensors left as kept");
    // A rule's too; what stays for other reasons is not counted, there or in the history.
    let rule = "E n . = k e e p Enter Esc Ctrl-a t u 4 Enter";
    let stay = "an embedding: quantized with `:quant_embedding` (1)";
    check(rule, "uint4 on 2 tensors · 3 stay as they are: a convolution (1), and 2 other reasons");
    check(&format!("{rule} u"), "undid: uint4 on 2 tensors");
    check(
        "E n . = k e e p Enter Esc G Space k Space k k Space x",
        &format!("include head.weight · 2 stay as they are: it has one dimension (1), {stay}"),
    );
    // Where no other can be meant, what stays says why.
    check(
        "G t u 4 Enter",
        "uint4 on tables.words.weight · stays as it is: an embedding: quantized with `:quant_embedding`",
    );
    check("G x", "tables.words.weight: kept already: an embedding: quantized with `:quant_embedding`");
}

#[test]
fn what_was_included_in_vain_is_taken_back() {
    let rule = "E n t a b l e s = k e e p Enter Esc G";
    let check = |keys: &str, overrides: &[&str]| {
        let (mut driver, _) = desk(KINDS, (80, 24));
        driver.keys(&format!("{rule} {keys}"));
        let set = &driver.app.session.settings().overrides;
        let set: Vec<String> = set.iter().map(|(name, patch)| format!("{name}: {patch}")).collect();
        assert_eq!(set, overrides, "{keys}");
    };
    check("x", &["tables.words.weight: quantize"]);
    check("x x", &[]);
    // So it is where no rule keeps it, and nothing else that was set is lost.
    check("k l x", &[]);
    check("k k y j p", &["norm.weight: quantize int8"]);
    check("k k y j p x", &["norm.weight: int8"]);
}

#[test]
fn what_is_kept_says_so_before_anything_is_chosen() {
    for key in ["s", "r", "H"] {
        let (mut driver, _) = desk(SMALL, (80, 24));
        driver.keys("G x").keys(key);
        assert!(driver.app.overlays.is_empty(), "{key}");
        assert!(driver.screen().contains("! embed.weight: kept as it is; x includes it"), "{key}");
        driver.keys("/ n o r m Enter").keys(key);
        assert!(driver.screen().contains("norm.weight: it has one dimension"), "{key}");
    }
}

#[test]
fn the_star_means_that_something_differs() {
    let check = |keys: &str, star: bool| {
        let (mut driver, _) = desk(SMALL, (80, 24));
        driver.keys(keys);
        let screen = driver.screen();
        let header = screen.lines().next().unwrap_or_default();
        assert_eq!(header.trim_end().ends_with("sdnq *"), star, "{keys}: {header}");
    };
    check("G x", true);
    check("G x u", false);
    check("G x x", false);
    check("G t u 4 Enter R", false);
    check(": c o n v o l Enter : c o n v o l Enter", false);
}

#[test]
fn the_folder_of_nunchakus_is_a_target_of_its_own() {
    let check = |keys: &str, expected: &str| {
        let (mut driver, _) = desk(SMALL, (120, 30));
        driver.keys(keys);
        assert_eq!(Form::of(driver.app.session.settings()).name(), expected, "{keys}");
    };
    check("T n u n Enter", "nunchaku");
    check("T l i t e Enter", "nunchaku lite");
    check("T l i t e Enter T f l o a t Enter", "float");
    check("T l i t e Enter u", "sdnq");
}
