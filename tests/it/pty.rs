//! The program in a real terminal: what no screen without one can show.
#![cfg(unix)]
use std::time::{Duration, Instant};

use super::support::terminal::Terminal;
use super::support::{Sandbox, example};

/// A line that stands on the screen once the desk is open.
const OPEN: &str = "┌ Tensors";

#[test]
fn it_starts_moves_and_quits() {
    let mut t = Terminal::demo(&[]);
    t.until(OPEN);
    assert!(t.screen(vt100::Screen::alternate_screen));
    let row = |s: &vt100::Screen| (0..30).find(|y| s.cell(*y, 1).is_some_and(|c| c.contents() == "▌"));
    let first = t.screen(row);
    t.send("j");
    t.until_that("the cursor further down", |s| row(s) > first);
    t.until_that("it is reversed too", |s| row(s).is_some_and(|y| s.cell(y, 5).is_some_and(vt100::Cell::inverse)));
    t.send("q");
    assert_eq!(t.end(), 0);
    t.assert_restored();
}

#[test]
fn the_shell_finds_its_terminal_as_it_was() {
    let program = env!("CARGO_BIN_EXE_mixdown");
    let script = format!(
        "stty -a | tr -d '\\n' > before; {program} --demo; stty -a | tr -d '\\n' > after; cmp before after && echo SAME"
    );
    let mut t = Terminal::start(&["sh", "-c", &script], &[]);
    t.until(OPEN);
    t.send("q");
    t.until("SAME");
    assert_eq!(t.end(), 0);
}

#[test]
fn trials_come_in_while_one_looks() {
    let mut t = Terminal::demo(&[]);
    t.until(OPEN);
    t.send("A");
    t.until_that("a mean over all of them", |s| {
        let text = s.contents();
        text.contains("mean MSE") && !text.contains("~ of") && !text.contains("running")
    });
}

#[test]
fn a_storm_of_sizes_is_weathered() {
    let mut t = Terminal::demo(&[]);
    t.until(OPEN);
    for (w, h) in [(1, 1), (2, 1), (19, 4), (300, 2), (20, 4), (1, 90), (80, 24), (33, 7), (200, 60), (1, 1), (99, 10)]
    {
        t.resize(w, h);
        t.send("j?");
        t.send("\x1b");
    }
    // An Esc that arrives together with the key after it is Alt; what is still open closes now.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(100));
        t.send("\x1b");
    }
    t.resize(120, 30);
    t.until(OPEN);
    t.until_that("both panes", |s| s.rows(0, 120).nth(1).is_some_and(|l| l.matches('┌').count() == 2));
}

#[test]
fn asked_to_end_it_cleans_up_and_says_by_which_signal() {
    for (name, code) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        let mut t = Terminal::demo(&[]);
        t.until(OPEN);
        t.signal(name);
        assert_eq!(t.end(), code, "SIG{name}");
        t.assert_restored();
    }
}

#[test]
fn a_panic_of_a_worker_leaves_the_desk_alive() {
    let mut t = Terminal::demo(&[("MIXDOWN_TEST_PANIC", "trial")]);
    t.until(OPEN);
    t.send("A");
    t.until("failed!");
    assert!(!t.text().contains("panicked at"), "nothing is written over the screen");
    t.send("q");
    assert_eq!(t.end(), 0);
    t.assert_restored();
}

#[test]
fn a_panic_of_the_desk_gives_the_terminal_back_before_it_is_reported() {
    let mut t = Terminal::demo(&[("MIXDOWN_TEST_PANIC", "ui")]);
    t.until(OPEN);
    t.send("\x1b[24~");
    t.until("asked for by MIXDOWN_TEST_PANIC=ui");
    assert_ne!(t.end(), 0);
    t.assert_restored();
}

#[test]
fn a_shell_can_stop_and_resume_it() {
    let program = env!("CARGO_BIN_EXE_mixdown");
    let mut t = Terminal::start(&["bash", "--norc", "-i"], &[("PS1", "ready> ")]);
    t.until("ready>");
    t.send(&format!("{program} --demo\r"));
    t.until(OPEN);
    t.send("\x1a");
    t.until("Stopped");
    t.until_that("the shell's own screen", |s| {
        !s.alternate_screen() && s.mouse_protocol_mode() == vt100::MouseProtocolMode::None
    });
    t.send("fg\r");
    // The shell's line says the same words; a key sent before the desk has the terminal again would be lost.
    t.until_that("the desk again", |s| s.alternate_screen() && s.contents().contains(OPEN));
    t.send("q");
    // The third prompt: the two before it stand on the shell's screen all the time.
    t.until_that("the shell again", |s| !s.alternate_screen() && s.contents().matches("ready>").count() == 3);
    t.send("exit\r");
    t.end();
}

#[test]
fn without_a_shell_behind_it_it_does_not_stop() {
    let mut t = Terminal::demo(&[]);
    t.until(OPEN);
    t.send("\x1a");
    t.until("cannot suspend");
    t.send("q");
    assert_eq!(t.end(), 0);
}

#[test]
fn what_was_not_saved_is_kept_and_said() {
    let mut t = Terminal::demo(&[]);
    t.until(OPEN);
    t.send("jjjjx");
    t.until("exclude 7 tensors");
    t.send("q");
    assert_eq!(t.end(), 0);
    // The path is longer than a line.
    let says = |s: &vt100::Screen, text: &str| s.contents().replace('\n', "").contains(text);
    t.until_that("where it is kept", |s| says(s, "were not saved, and are kept in") && says(s, "unsaved/demo-"));
    t.until_that("how to come back to it", |s| says(s, "mixdown --demo --profile"));
}

#[test]
fn what_is_pasted_is_text() {
    let mut t = Terminal::demo(&[]);
    t.until(OPEN);
    t.send("/");
    t.until("Enter keeps it");
    // A line break in it must not end the filter, nor `q` the program.
    t.send("\x1b[200~q_\nproj\x1b[201~");
    t.until("/q_proj");
    t.until("4/39");
    t.send("\x1b");
    t.until("39/39");
    t.send("q");
    assert_eq!(t.end(), 0);
}

#[test]
fn without_colour_everything_can_still_be_read() {
    let mut t = Terminal::demo(&[("NO_COLOR", "1")]);
    t.until(OPEN);
    t.send("t");
    t.until("┌ Dtype");
    t.screen(|s| {
        let cells: Vec<_> = (0..30).flat_map(|y| (0..100).filter_map(move |x| s.cell(y, x))).collect();
        assert!(cells.iter().all(|c| c.fgcolor() == vt100::Color::Default && c.bgcolor() == vt100::Color::Default));
        assert!(cells.iter().any(|c| c.inverse()), "the cursor is reversed");
    });
}

/// The colours of the cells that have one.
fn colours(screen: &vt100::Screen) -> Vec<vt100::Color> {
    let cells = (0..30).flat_map(|y| (0..100).filter_map(move |x| screen.cell(y, x)));
    cells.map(vt100::Cell::fgcolor).filter(|c| *c != vt100::Color::Default).collect()
}

#[test]
fn colours_are_those_that_the_terminal_has() {
    use vt100::Color::{Idx, Rgb};
    fn check(flags: &[&str], env: &[(&str, &str)], is: fn(&vt100::Color) -> bool) {
        let t = Terminal::configured("theme = \"dark\"", flags, env);
        t.until(OPEN);
        t.until_that("no other colours", |s| colours(s).iter().all(is));
        assert_eq!(t.screen(colours).is_empty(), flags.contains(&"never"), "{flags:?} {env:?}");
    }
    check(&[], &[("COLORTERM", "truecolor")], |c| matches!(c, Rgb(..)));
    check(&[], &[], |c| matches!(c, Idx(16..)));
    check(&[], &[("TERM", "xterm")], |c| matches!(c, Idx(0..16)));
    check(&["--theme", "terminal"], &[("COLORTERM", "truecolor")], |c| matches!(c, Idx(0..16)));
    check(&["--color", "always"], &[("NO_COLOR", "1")], |c| matches!(c, Idx(16..)));
    check(&["--color", "never"], &[("COLORTERM", "truecolor")], |_| false);
}

#[test]
fn in_a_locale_without_utf_8_it_is_drawn_in_ascii() {
    let t = Terminal::demo(&[("LANG", "C")]);
    t.until("+ Tensors");
    assert!(t.text().is_ascii(), "{}", t.text());
}

#[test]
fn a_broken_config_stops_nothing_and_is_said() {
    let mut t = Terminal::configured("theme = ", &[], &[]);
    t.until("! config.toml:1: ");
    t.until(OPEN);
    t.send("q");
    assert_eq!(t.end(), 0);
    let t = Terminal::demo(&[("MIXDOWN_CONFIG", "./mine.toml")]);
    t.until("! ./mine.toml: there is no such file");
}

#[test]
fn keys_can_be_others() {
    let mut t = Terminal::configured("[keys]\n\"program.quit\" = \"Ctrl-q\"\n", &[], &[]);
    t.until("Ctrl-q quit");
    t.send("\x11");
    assert_eq!(t.end(), 0);
}

#[test]
fn the_mouse_is_released_and_taken_back() {
    use vt100::MouseProtocolMode::{AnyMotion, None};
    let mut t = Terminal::demo(&[]);
    t.until(OPEN);
    assert_eq!(t.screen(vt100::Screen::mouse_protocol_mode), AnyMotion);
    t.send("m");
    t.until("the terminal has the mouse");
    t.until_that("the mouse released", |s| s.mouse_protocol_mode() == None);
    t.send("m");
    t.until_that("the mouse taken", |s| s.mouse_protocol_mode() == AnyMotion);
    t.send("q");
    assert_eq!(t.end(), 0);
    t.assert_restored();
    let mut t = Terminal::configured("mouse = false", &[], &[]);
    t.until(OPEN);
    assert_eq!(t.screen(vt100::Screen::mouse_protocol_mode), None);
    t.send("m");
    t.until_that("the mouse taken", |s| s.mouse_protocol_mode() == AnyMotion);
}

#[test]
fn a_released_mouse_stays_released_over_a_suspension() {
    let program = env!("CARGO_BIN_EXE_mixdown");
    let mut t = Terminal::start(&["bash", "--norc", "-i"], &[("PS1", "ready> ")]);
    t.until("ready>");
    t.send(&format!("{program} --demo\r"));
    t.until(OPEN);
    t.send("m");
    t.until("the terminal has the mouse");
    t.send("\x1a");
    t.until("Stopped");
    t.send("fg\r");
    t.until_that("the desk again", |s| s.alternate_screen() && s.contents().contains(OPEN));
    // A key is answered only when the modes are on again.
    t.send("j?");
    t.until("┌ Help");
    assert_eq!(t.screen(vt100::Screen::mouse_protocol_mode), vt100::MouseProtocolMode::None);
}

#[test]
fn idle_it_draws_nothing_and_computes_nothing() {
    let t = Terminal::demo(&[]);
    t.until(OPEN);
    assert_idle(&t);
}

fn assert_idle(t: &Terminal) {
    // Quiet for a while: then whatever opening took is over.
    let (mut bytes, mut since) = (t.bytes(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(20));
        if t.bytes() != bytes {
            (bytes, since) = (t.bytes(), Instant::now());
        }
    }
    let before = ticks(t.id());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(t.bytes(), bytes, "nothing is drawn");
    assert!(ticks(t.id()).saturating_sub(before) <= 1, "a hundredth of a second in half of one");
}

/// Hundredths of a second of processor time, where the system tells.
fn ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].into_iter().filter_map(|i| fields.get(i)?.parse::<u64>().ok()).sum()
}

#[test]
fn a_profile_set_by_keys_is_saved_and_a_file_is_written() {
    let mut t = Terminal::demo(&[]);
    t.until(OPEN);
    t.send("tuint4\r");
    t.until("uint4 on");
    t.send("\x13");
    t.until("Save the profile as");
    t.send("./mine.toml\r");
    t.until("saved ./mine.toml");
    t.send("c");
    t.until("┌ Convert");
    t.send("p\x15./out.safetensors\r");
    t.until("./out.safetensors");
    t.send("\r");
    t.until("out.safetensors is written");
    t.send("q");
    assert_eq!(t.end(), 0);
}

/// The start screen, before anything was picked.
const START: &str = "┌ Open a model";

fn recent(t: &Terminal) -> String {
    std::fs::read_to_string(t.sandbox.path("state/mixdown/recent.toml")).unwrap_or_default()
}

#[test]
fn without_a_model_it_asks_which() {
    let sandbox = Sandbox::new();
    sandbox.write("models/tiny.safetensors", example());
    sandbox.write("models/broken.safetensors", &example()[..100]);
    sandbox.write("state/mixdown/recent.toml", "[[model]]\npath = '/old/\\e]0;gone'\n[[model] broken");
    let mut t = Terminal::start_in(sandbox, &[env!("CARGO_BIN_EXE_mixdown")], &[("NO_COLOR", "1")]);
    t.until(START);
    t.until("models/tiny.safetensors");
    t.screen(|s| {
        let cells: Vec<_> = (0..30).flat_map(|y| (0..100).filter_map(move |x| s.cell(y, x))).collect();
        assert!(cells.iter().all(|c| c.fgcolor() == vt100::Color::Default && c.bgcolor() == vt100::Color::Default));
        assert!(cells.iter().any(|c| c.inverse()), "the cursor is reversed");
    });
    // What cannot be opened says so, and one can pick another.
    t.send("broken\r");
    t.until("! models/broken.safetensors");
    t.send("\x15demo\r");
    t.until(OPEN);
    t.send("tuint4\r");
    t.until("uint4 on");
    t.send("\x13mine\r");
    t.until("saved");
    t.until_that("the profile is remembered", |_| recent(&t).contains("profile = \"mine\""));
    // Another model, without leaving the program; the demo is recent now, and comes with the profile.
    t.send("O");
    t.until(START);
    t.until("with mine");
    t.send("./models/ti\t\r");
    t.until(OPEN);
    t.send("q");
    assert_eq!(t.end(), 0);
    t.assert_restored();
    let text = recent(&t);
    let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name} in {text}"));
    assert!(at("tiny.safetensors") < at("--demo"), "{text}");
}

#[test]
fn the_start_screen_is_idle_when_idle_and_ends_when_told_to() {
    let mut t = Terminal::start(&[env!("CARGO_BIN_EXE_mixdown")], &[]);
    t.until(START);
    t.until_that("everything was looked for", |s| !s.contents().contains("looking around"));
    assert_idle(&t);
    t.send("\x1a");
    t.until("cannot suspend");
    for (w, h) in [(1, 1), (20, 4), (300, 90), (100, 30)] {
        t.resize(w, h);
    }
    // What was drawn for another size may still be on its way.
    t.send("\x0c");
    t.until(START);
    t.send("\x1b");
    assert_eq!(t.end(), 0);
    t.assert_restored();
    assert_eq!(recent(&t), "", "nothing was opened");
    let mut t = Terminal::start(&[env!("CARGO_BIN_EXE_mixdown")], &[]);
    t.until(START);
    t.signal("TERM");
    assert_eq!(t.end(), 143);
    t.assert_restored();
}
