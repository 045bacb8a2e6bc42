//! The map, what differs, and the command line.
use super::*;
use crate::tui::msg::{Effect, Msg};
use insta::assert_snapshot;

#[test]
fn the_map_at_a_glance() {
    assert_snapshot!(after(SMALL, (80, 16), "= A / f f Enter x Esc g g M j"), @"");
}

#[test]
fn the_map_leads_to_a_tensor() {
    fn check(keys: &str, at: &str) {
        let (mut driver, _) = desk(SMALL, (80, 24));
        driver.keys(keys);
        let id = driver.app.tensor().expect("a tensor");
        assert_eq!(driver.app.session.model.tensor(id).name.trim_end_matches(".weight"), at, "{keys}");
    }
    check("G M Enter", "embed");
    check("G M j Enter", "blocks.0.attn.to_k");
    check("G M j l Enter", "blocks.1.attn.to_k");
    check("G M j j $ Enter", "blocks.1.attn.to_q");
    check("- G M j j j l Enter", "blocks.1.ff");
}

#[test]
fn the_map_marks_and_shows_other_figures() {
    let (mut driver, _) = desk(SMALL, (80, 24));
    driver.keys("G M j Space Space v v");
    assert_eq!(driver.app.session.marks.len(), 1, "a second press unmarks the last of the row, where it stays");
    assert!(driver.screen().contains("Map · bits per weight"));
    driver.draw();
    let cells = driver.app.screen.cells.expect("cells");
    let (left, top, ..) = cells.place;
    driver.send(Msg::Click(left, top + 3));
    driver.send(Msg::Click(left, top + 3));
    let id = driver.app.tensor().expect("a tensor");
    assert_eq!(driver.app.session.model.tensor(id).name, "blocks.0.ff.weight");
}

#[test]
fn what_differs_from_the_beginning() {
    assert_snapshot!(after(SMALL, (110, 20), "= A G t u 4 Enter / t o _ q Enter x Esc d"), @"");
}

#[test]
fn what_differs_from_what_was_pinned() {
    let (mut driver, _) = desk(SMALL, (110, 24));
    driver.keys("G t u 4 Enter B t i 6 Enter d");
    let screen = driver.screen();
    assert!(screen.contains("What differs from what was pinned") && screen.contains("uint4 g64 → int6 g64"), "{screen}");
    driver.keys("Tab");
    let screen = driver.screen();
    assert!(screen.contains("What differs from the beginning") && screen.contains("int8 g64 → int6 g64"), "{screen}");
    driver.keys("Enter");
    assert_eq!(driver.app.session.marks.len(), 1);
}

#[test]
fn nothing_differs() {
    let screen = after(SMALL, (80, 20), "d");
    assert!(screen.contains("every tensor becomes what it became"), "{screen}");
}

#[test]
fn the_choices_as_a_command_line() {
    fn check(keys: &str, line: &str) {
        let (mut driver, _) = desk(SMALL, (80, 24));
        driver.keys(keys).keys("Y");
        let copied = driver.left.iter().find_map(|e| match e {
            Effect::Copy(text) => Some(text.as_str()),
            _ => None,
        });
        assert_eq!(copied.unwrap_or_default(), line, "{keys}");
    }
    check("", "mixdown convert test.safetensors --to sdnq --dtype int8 -o ./test-sdnq.safetensors");
    check(
        "G x",
        r"mixdown convert test.safetensors --to sdnq --dtype int8 --exclude '^embed\.weight$' -o ./test-sdnq.safetensors",
    );
    check(
        "E n t o _ q = u i n t 4 Enter Esc",
        "mixdown convert test.safetensors --to sdnq --dtype int8 --tensor-type to_q=uint4 -o ./test-sdnq.safetensors",
    );
    check("Ctrl-s q 4 Enter", "mixdown convert test.safetensors --profile q4 -o ./test-sdnq.safetensors");
    check("G s 3 2 Enter", "");
    assert_eq!(
        says("G s 3 2 Enter Y"),
        "! no flag says that a group size or rank is set without a dtype: save the profile (Ctrl-s), and the line…"
    );
}
