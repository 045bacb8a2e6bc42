//! Every popup on every screen, down to none at all.
use super::*;

/// Keys that lead from one popup to the next, through all of them.
pub const STATES: [&str; 31] = [
    "",
    "?",
    "? z",
    "t",
    "t Esc s",
    "Esc r",
    "Esc T",
    "Esc H",
    "Esc b P",
    "G x",
    "Esc c",
    "p",
    "Esc Esc / a",
    "Esc w",
    "Esc Ctrl-s",
    "Esc E",
    "n a = k e e p Enter",
    "Esc M",
    "v Esc B t i 6 Enter d",
    "Esc Y",
    "Esc + a",
    "Esc # x",
    "Esc Z",
    "Esc o d W",
    "Esc Esc o o i",
    "Tab G",
    "Esc Esc G l l",
    "c Enter",
    "w",
    "Esc Ctrl-c",
    "Esc q",
];

#[test]
fn nothing_falls_over_at_any_size() {
    let (mut driver, state) = desk_with(SMALL, preset::by_name("common"), (60, 20));
    for keys in STATES {
        driver.keys(keys).answers();
        for h in 0..=20 {
            for w in (0..=60).step_by(if h % 5 == 0 { 1 } else { 7 }) {
                driver.resize(w, h);
            }
        }
        for (w, h) in [(79, 24), (80, 24), (81, 24), (99, 9), (100, 10), (120, 30), (300, 100)] {
            driver.resize(w, h);
        }
    }
    assert!(state.job.borrow().is_some(), "the keys went where they should");
}

#[test]
fn a_screen_that_is_too_small_says_what_it_needs() {
    assert_eq!(after(SMALL, (19, 4), ""), "needs 20×4\n\n\n\nreversed:\n");
    assert_eq!(after(SMALL, (80, 3), "").lines().next(), Some("needs 20×4"));
}

#[test]
fn names_from_files_reach_the_screen_harmless() {
    let screen = after("a\u{1b}[31mred.weight 64x64\nb\u{202e}x.weight 64x64\n重み.weight 64x64", (80, 12), "= j");
    assert!(
        screen.contains("a\u{fffd}[31mred") && screen.contains("b\u{fffd}x") && screen.contains("重み"),
        "{screen}"
    );
    assert!(!screen.contains('\u{1b}'));
}
