//! The what-if table: what it shows, when it is made, and what Enter does.
use super::*;
use insta::assert_snapshot;

/// The lines of the table on a wide screen after those keys: what, and which marks.
fn table(keys: &str) -> Vec<String> {
    let (mut driver, _) = desk(SMALL, (120, 40));
    driver.keys(keys).settle();
    driver.answers();
    driver
        .app
        .what_if
        .shown()
        .map(|c| format!("{}{}{}", c.label, if c.now { " •" } else { "" }, if c.best { " ◂" } else { "" }))
        .collect()
}

#[test]
fn the_table_stands_below_the_loss_as_the_cursor_rests() {
    assert_snapshot!(after(SMALL, (120, 34), "G"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                                                                     sdnq
    ┌ Tensors ─────────────────────────────────────────────────────────────┐┌ embed.weight ────────────────────────────────┐
    │  name                      shape       to      size    error  damage ││ int8   group 64   rank 0                     │
    │  ▾ blocks                  8 tensors   int8   51.2K                  ││ by defaults                                  │
    │    ▸ 0                     4 tensors   int8   25.6K                  ││ BF16 512×64 · 64.0 KiB → 34.0 KiB (53 %)     │
    │    ▸ 1                     4 tensors   int8   25.6K                  ││                                              │
    │▌   embed.weight            512×64      int8   34.0K 0.0015 %  ██████ ││ Loss ─────────────────────────────────────── │
    │                                                                      ││ MSE          1.53e-8  SQNR           48.2 dB │
    │                                                                      ││ max error    3.71e-4  relative      0.0015 % │
    │                                                                      ││ damage       1.22e-4  of measured      100 % │
    │                                                                      ││ from every value; damage estimated by size   │
    │                                                                      ││                                              │
    │                                                                      ││ Weights                Errors                │
    │                                                                      ││           █            █▅▇▇▆▇▆▆▆▅█▅▆▆▆▇▆▇▇▅▅ │
    │                                                                      ││           █            █████████████████████ │
    │                                                                      ││           █            █████████████████████ │
    │                                                                      ││          ▂█▂           █████████████████████ │
    │                                                                      ││        ▁▄███▄▁         █████████████████████ │
    │                                                                      ││ ▅▄▅▅▆▇█████████▇▆▅▅▄▄  █████████████████████ │
    │                                                                      ││ █████████████████████  █████████████████████ │
    │                                                                      ││ -1.00     0      1.00  -0.01     0      0.01 │
    │                                                                      ││ Rows             2.9×  Columns      #63 2.0× │
    │                                                                      ││   █                              ▁▁▂▃▄▄▅▆▇▇█ │
    │                                                                      ││ ▂▂█▂                   ▁▂▃▃▄▅▆▆▇████████████ │
    │                                                                      ││                                              │
    │                                                                      ││ What if ────────────────── size  relative ◂  │
    │                                                                      ││   keep                    64.0K         ─ ◂  │
    │                                                                      ││   int8 g32                36.0K  0.0015 %~   │
    │                                                                      ││  •int8 g64                34.0K  0.0015 %    │
    │                                                                      ││   int8 g128               33.0K  0.0015 %~◂  │
    │                                                                      ││   int6 g64                26.0K   0.024 %~◂  │
    └───────────────────────────────────────────────────────────────── 9/9 ┘└───────────────────────────────────── 1–29/36 ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · mean MSE 1.53e-8~ of 1/7
     x exclude   t dtype   a measure   c convert   / filter   ? help   q quit
    reversed: 7:1-70
    ");
}

#[test]
fn there_and_back_before_the_cursor_rests_leaves_the_table_and_an_idle_desk() {
    let (mut driver, _) = desk(SMALL, (120, 40));
    driver.keys("= j j j").settle();
    let lines = driver.app.what_if.shown().count();
    assert!(lines > 3);
    driver.press("j k");
    driver.pass(100);
    driver.settle();
    assert_eq!(driver.app.what_if.shown().count(), lines);
    driver.pass(100);
    assert_eq!(driver.app.rest_at, None, "nothing is waited for");
}

#[test]
fn every_way_by_size_with_the_best_and_what_holds_now() {
    assert_eq!(
        table("G"),
        ["keep ◂", "int8 g32", "int8 g64 •", "int8 g128 ◂", "int6 g64 ◂", "int5 g64 ◂", "uint4 g64 ◂", "int4 g64"]
    );
}

#[test]
fn what_is_odd_is_shown_on_demand_or_where_it_is_best() {
    let (mut driver, _) = desk(SMALL, (120, 40));
    driver.keys("G W").settle();
    assert!(driver.app.what_if.shown().any(|c| c.label == "int5 g64"), "it is the best of its size");
    driver.app.losses = Default::default();
    driver.keys("Esc g g G W");
    assert_eq!(driver.app.what_if.hidden(), 1);
    driver.keys("=");
    assert_eq!(driver.app.what_if.hidden(), 0);
    driver.keys("-");
    assert_eq!(driver.app.what_if.hidden(), 1);
}

#[test]
fn enter_takes_a_line_and_undo_gives_it_back() {
    fn check(keys: &str, overrides: &[&str]) {
        let (mut driver, _) = desk(SMALL, (120, 40));
        driver.keys(keys);
        let set = driver.app.session.settings().overrides.iter();
        let set: Vec<String> = set.map(|(name, patch)| format!("{name}: {patch}")).collect();
        assert_eq!(set, overrides, "{keys}");
    }
    check("G W Enter", &[]);
    check("G W G Enter", &["embed.weight: int4"]);
    check("G W g g Enter", &["embed.weight: keep"]);
    check("G W G Enter u", &[]);
    // What was kept is included by taking anything else.
    check("G x W G Enter", &["embed.weight: quantize int4"]);
    // The inspector gets the keys by Enter too, and Esc leads back to the tree.
    check("G Enter G Enter Esc k", &["embed.weight: int4"]);
}

#[test]
fn marks_and_groups_have_a_table_of_their_own() {
    fn check(keys: &str, tensors: usize, overrides: usize) {
        let (mut driver, _) = desk(SMALL, (120, 40));
        driver.keys(keys).settle();
        assert_eq!(driver.app.what_if.ids.len(), tensors, "{keys}");
        driver.keys("G Enter");
        assert_eq!(driver.app.session.settings().overrides.len(), overrides, "{keys}");
    }
    check("G Space Ctrl-a W", 7, 7);
    check("j W", 3, 3);
    assert_snapshot!(after(SMALL, (120, 24), "g g Space W"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                                                                     sdnq
    ┌ Tensors ─────────────────────────────────────────────────────────────┐┌ Marked ──────────────────────────────────────┐
    │  name                      shape       to      size    error  damage ││ 8 tensors marked                             │
    │ ●▾ blocks                  8 tensors   int8   51.2K                  ││ 2 tensors of them kept as they are           │
    │▌●  ▸ 0                     4 tensors   int8   25.6K                  ││ 96.0 KiB → 51.0 KiB (53 %)                   │
    │ ●  ▸ 1                     4 tensors   int8   25.6K                  ││                                              │
    │    embed.weight            512×64      int8   34.0K                  ││ What if ────────────────── size  relative ◂  │
    │                                                                      ││   keep                    96.0K         ─ ◂  │
    │                                                                      ││   group 32                54.0K  0.0015 %~   │
    │                                                                      ││ ▌•as it is now            51.0K  0.0015 %~   │
    │                                                                      ││   group 128               49.5K  0.0015 %~◂  │
    │                                                                      ││   int6                    39.0K   0.024 %~◂  │
    │                                                                      ││   int5                    33.0K   0.098 %~◂  │
    │                                                                      ││   uint4                   27.0K    0.39 %~◂  │
    │                                                                      ││   int4                    27.0K    0.39 %~   │
    │                                                                      ││                                              │
    │                                                                      ││                                              │
    │                                                                      ││                                              │
    │                                                                      ││                                              │
    │                                                                      ││                                              │
    │                                                                      ││                                              │
    └────────────────────────────────────────────────────── 9/9 · 8 marked ┘└──────────────────────────────────────────────┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · loss not measured
     Enter take it   u undo   = every dtype   - fewer   Esc to the tree   ? help
    reversed: 10:74-117
    ");
}

#[test]
fn what_is_no_longer_looked_at_is_not_measured() {
    let (mut driver, state) = desk(SMALL, (120, 40));
    driver.keys("G");
    assert!(!state.what_if.borrow().is_empty());
    driver.keys("k");
    assert!(state.what_if.borrow().is_empty());
}

#[test]
fn the_mouse_selects_and_takes() {
    use crate::tui::msg::Msg;
    let (mut driver, _) = desk(SMALL, (120, 40));
    driver.keys("G").settle();
    driver.draw();
    let (left, top, ..) = driver.app.screen.choices.expect("a table");
    driver.send(Msg::Click(left + 3, top));
    assert_eq!(driver.app.what_if.at, 0);
    driver.send(Msg::Click(left + 3, top));
    assert_eq!(driver.app.session.settings().overrides["embed.weight"], Patch::keep());
}

#[test]
fn the_edge_between_the_panes_can_be_dragged() {
    use crate::tui::msg::Msg;
    let (mut driver, _) = desk(SMALL, (120, 20));
    let edge = |driver: &mut Driver| {
        let screen = driver.screen();
        let line: Vec<char> = screen.lines().nth(1).unwrap_or_default().chars().collect();
        line.windows(2).position(|w| w == ['┐', '┌'])
    };
    assert_eq!(edge(&mut driver), Some(71));
    driver.send(Msg::Click(71, 8));
    driver.send(Msg::Drag(60, 9));
    assert_eq!(edge(&mut driver), Some(59));
    driver.send(Msg::Drag(1, 9));
    driver.send(Msg::Release);
    assert_eq!(edge(&mut driver), Some(39), "the tree keeps what it needs");
    driver.send(Msg::Drag(100, 9));
    assert_eq!(edge(&mut driver), Some(39), "the button is up");
}
