//! The map, what differs, and the command line.
use super::*;
use crate::tui::msg::{Effect, Msg};
use insta::assert_snapshot;

#[test]
fn the_map_at_a_glance() {
    let (mut driver, _) = desk(SMALL, (80, 16));
    driver.keys("= A").settle();
    driver.keys("/ f f Enter x Esc g g M j");
    assert_snapshot!(driver.screen(), @"
    ┌ Map · damage, estimated ─────────────────────────────────────────────────────┐
    │                    0                                                         │
    │ embed              ██                                                        │
    │ blocks.*.attn.to_k ░░ ░░                                                     │
    │ blocks.*.attn.to_q ░░ ░░                                                     │
    │ blocks.*.ff        ·· ▓▓                                                     │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │ ·░░▒▒▓▓██  · kept   ░ 1.53e-5 … █ 1.22e-4   ? not measured                   │
    │ blocks.0.attn.to_q.weight                                                    │
    │ 64×64 · int8 · 4.25 KiB · 8.50 bits · error 0.0015 % · damage 1.53e-5 (6.2 … │
    └───────────────────────────── v figure · Enter goes there · Space marks · Esc ┘
     x exclude   t dtype   a measure   c convert   / filter   ? help   q quit
    reversed: 5:21-22
    ");
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
    assert_eq!(driver.app.session.marks.len(), 2, "each press goes on to the next block");
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
    let (mut driver, _) = desk(SMALL, (110, 20));
    driver.keys("= A").settle();
    driver.keys("G t u 4 Enter / t o _ q Enter x Esc").settle();
    driver.keys("d");
    assert_snapshot!(driver.screen(), @r#"
     mixdown  test · 82.0 K parameters · 9 tensors                                                         sdnq *
    ┌┌ What differs from the beginning ─────────────────────────────────────────────────────────────────────────┐┐
    ││           size        bits      error       damage, estimated                                            ││
    ││ then      85.2 KiB    8.51      0.0015 %    3.05e-4                                                      ││
    ││ now       73.0 KiB    7.29      0.17 %      3.14e-2                                                      ││
    ││                                                                                                          ││
    ││   what changes                                                                                           ││
    ││ ▌ int8 g64 → uint4 g64               1 tensor   34.0K →  18.0K  0.0015 % →   0.39 %   1.22e-4 →  3.12e-2 ││
    ││   int8 g64 → keep                    1 tensor   4.25K →  8.00K  0.0015 % →      0 %   1.53e-5 →        0 ││
    ││                                                                                                          ││
    ││ the profile's text                                                                                       ││
    ││   + [tensor."blocks.0.attn.to_q.weight"]                                                                 ││
    ││   + keep = true                                                                                          ││
    ││   + [tensor."embed.weight"]                                                                              ││
    ││   + dtype = "uint4"                                                                                      ││
    ││                                                                                                          ││
    │└───────────────────────────────────────────────────────── Enter marks these · Tab other side · Esc closes ┘│
    └─────────────────────────────────────────────────────────── 9/9 ┘└───────────────────────────────── 1–15/19 ┘
     160 KiB → 73.0 KiB · 7.29 bits/weight · mean MSE 1.65e-6
     x exclude   t dtype   a measure   c convert   / filter   ? help   q quit
    reversed: 8:3-106
    "#);
}

#[test]
fn what_differs_from_what_was_pinned() {
    let (mut driver, _) = desk(SMALL, (110, 24));
    driver.keys("G t u 4 Enter B t i 6 Enter d");
    let screen = driver.screen();
    assert!(
        screen.contains("What differs from what was pinned") && screen.contains("uint4 g64 → int6 g64"),
        "{screen}"
    );
    driver.keys("Tab");
    let screen = driver.screen();
    assert!(screen.contains("What differs from the beginning") && screen.contains("int8 g64 → int6 g64"), "{screen}");
    driver.keys("Enter");
    assert_eq!(driver.app.session.marks.len(), 1);
}

#[test]
fn nothing_differs() {
    let screen = after(SMALL, (80, 20), "d");
    assert!(screen.contains("every tensor is treated as before"), "{screen}");
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
        r"mixdown convert test.safetensors --to sdnq --dtype int8 '--exclude=^embed\.weight$' -o ./test-sdnq.safetensors",
    );
    check(
        "E n t o _ q = u i n t 4 Enter Esc",
        "mixdown convert test.safetensors --to sdnq --dtype int8 --tensor-type=to_q=uint4 -o ./test-sdnq.safetensors",
    );
    check("Ctrl-s q 4 Enter", "mixdown convert test.safetensors --profile q4 -o ./test-sdnq.safetensors");
    check("G s 3 2 Enter", "");
    assert_eq!(
        says("G s 3 2 Enter Y"),
        "! no flag says that a group size or rank is set without a dtype: save the prof…"
    );
}
