//! Whole screens: the model, the keys, and what is then to be seen.
use super::*;
use insta::assert_snapshot;

#[test]
fn a_group_and_what_it_is_made_of() {
    assert_snapshot!(after(SMALL, (120, 22), "j l l l t u 4 Enter"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                                                                   sdnq *
    ┌ Tensors ─────────────────────────────────────────────────────────────┐┌ blocks.0.attn ───────────────────────────────┐
    │  name                      shape       to      size    error  damage ││ 2 tensors · 2 quantized, 0 kept              │
    │  ▾ blocks                  8 tensors   mixed  47.2K   0.39 %~ ██████ ││ 16.0 KiB → 4.50 KiB (28 %)                   │
    │    ▾ 0                     4 tensors   mixed  21.6K   0.39 %~ ██████ ││ 8.19 K parameters · 4.50 bits each           │
    │▌     ▾ attn                2 tensors   uint4  4.50K   0.39 %  ██████ ││                                              │
    │          to_k.weight       64×64       uint4  2.25K   0.39 %  █████▌ ││ Loss ─────────────────────────────────────── │
    │          to_q.weight       64×64       uint4  2.25K   0.39 %  █████▌ ││ MSE          3.91e-6  relative        0.39 % │
    │        ff.weight           256×64      int8   17.0K                  ││ damage       7.81e-3  of measured      100 % │
    │        norm.weight         64          keep     128        ─         ││ of 2 of 2; damage estimated by size          │
    │    ▸ 1                     4 tensors   int8   25.6K                  ││                                              │
    │    embed.weight            512×64      int8   34.0K                  ││ Made of ──────────────────────────────────── │
    │                                                                      ││ uint4 group 64            2 tensors 4.50 KiB │
    │                                                                      ││                                              │
    │                                                                      ││ Most damage ──────────────────── of measured │
    │                                                                      ││ to_k.weight                             50 % │
    │                                                                      ││ to_q.weight                             50 % │
    │                                                                      ││                                              │
    │                                                                      ││                                              │
    └───────────────────────────────────────────────────────────────── 9/9 ┘└──────────────────────────────────────────────┘
     160 KiB → 81.2 KiB · 8.11 bits/weight · mean MSE 3.91e-6~ of 2/7
     uint4 on 2 tensors
    reversed: 6:1-70
    ");
}

#[test]
fn one_pane_at_eighty_columns() {
    assert_snapshot!(after(SMALL, (80, 12), "G Space g g A"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                             sdnq
    ┌ Tensors ─────────────────────────────────────────────────────────────────────┐
    │  name                        shape       to            size    error  damage │
    │▌ ▾ blocks                    8 tensors   int8   96.2K→51.2K 0.0015 %  █████▋ │
    │    ▸ 0                       4 tensors   int8   48.1K→25.6K 0.0015 %  █████▎ │
    │    ▸ 1                       4 tensors   int8   48.1K→25.6K 0.0015 %  █████▎ │
    │ ●  embed.weight              512×64      int8   64.0K→34.0K 0.0015 %  █████▍ │
    │                                                                              │
    │                                                                              │
    └────────────────────────────────────────────────────────────── 9/9 · 1 marked ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · mean MSE 1.53e-8
     x exclude marked   t dtype   a measure   Esc unmark   ? help
    reversed: 4:1-78
    ");
}

#[test]
fn the_inspector_over_the_tree() {
    // The figures first; the table of what else there is below them, and `W` goes there.
    assert_snapshot!(after(SMALL, (80, 20), "G l l Enter"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                             sdnq
    ┌ embed.weight ────────────────────────────────────────────────────────────────┐
    │ int8   group 64   rank 0                                                     │
    │ by defaults                                                                  │
    │ BF16 512×64 · 64.0 KiB → 34.0 KiB (53 %)                                     │
    │                                                                              │
    │ Loss ─────────────────────────────────────────────────────────────────────── │
    │ MSE                          1.53e-8  SQNR                           48.2 dB │
    │ max error                    3.71e-4  relative                      0.0015 % │
    │ damage                       1.22e-4  of measured                      100 % │
    │ from every value; damage estimated by size                                   │
    │                                                                              │
    │ Weights                                Errors                                │
    │                   █                    █▆▆█▆▇▆▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▆▇▆█▆▆▆ │
    │                 ▁▃█▃▁                  █████████████████████████████████████ │
    │ ▅▄▅▅▄▄▅▅▅▅▅▅▆▇▇███████▇▇▆▅▅▅▅▅▅▄▄▅▅▄▄  █████████████████████████████████████ │
    │ -1.00             0              1.00  -0.01             0              0.01 │
    └───────────────────────────────────────────────────────────────────── 1–15/32 ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · mean MSE 1.53e-8~ of 1/7
     Enter take it   u undo   = every dtype   - fewer   Esc to the tree   ? help
    reversed:
    ");
}

#[test]
fn the_table_and_back_above_it() {
    let lines = |keys: &str| {
        let screen = after(SMALL, (80, 20), keys);
        let shown = |what: &str| screen.contains(what);
        (shown("int8   group 64   rank 0"), shown("▌•int8 g64"))
    };
    let check = |keys: &str, figures: bool, table: bool| assert_eq!(lines(keys), (figures, table), "{keys}");
    check("G Enter", true, false);
    check("G W", false, true);
    check("G W g g k", true, false);
    check("G W g g k j k k", true, false);
}

#[test]
fn before_it_writes() {
    assert_snapshot!(after(SMALL, (80, 20), "A c"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                             sdnq
    ┌ Tensors ─────────────────────────────────────────────────────────────────────┐
    │  name                        shape       to            size    error  damage │
    │▌┌ Convert ─────────────────────────────────────────────────────────────────┐ │
    │ │ test   →   ./test-sdnq.safetensors                                       │ │
    │ │ sdnq ≥ 0.2.2                                                             │ │
    │ │                                                                          │ │
    │ │ quantized      7 tensors   160 KiB → 85.0 KiB  relative error 0.0015 %   │ │
    │ │ kept           2 tensors     256 B →    256 B                            │ │
    │ │ total          9 tensors   160 KiB → 85.2 KiB  8.51 bits/weight          │ │
    │ │                                                                          │ │
    │ │ ! 2 layers stay BF16: 1155 elements do not fit int6's units of 4         │ │
    │ │ disk: 85.8 KiB needed, 81.0 GiB free                                     │ │
    │ │                                                                          │ │
    │ │ Enter  convert      p  change path      Esc  back                        │ │
    │ └──────────────────────────────────────────────────────────────────────────┘ │
    │                                                                              │
    └───────────────────────────────────────────────────────────────────────── 9/9 ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · mean MSE 1.53e-8
     x exclude   t dtype   a measure   c convert   / filter   ? help   q quit
    reversed: 4:1-1 4:78-78
    ");
}

#[test]
fn a_small_screen_has_what_matters_before_it_writes() {
    let check = |size, expected: &[&str]| {
        let screen = after(SMALL, size, "A c");
        expected.iter().for_each(|text| assert!(screen.contains(text), "{size:?}: no {text} in {screen}"));
    };
    check((60, 12), &["→   ./test-sdnq", "total", "! 2 layers", "disk:", "change path", "Esc"]);
    check((40, 10), &["test   →", "total", "! 2 layers", "disk:", "Enter convert · p path · Esc"]);
    check((20, 5), &["(+4) ! 2", "Enter p Esc"]);
}

#[test]
fn what_stands_in_the_way_is_said_and_again_on_enter() {
    let (mut driver, state) = desk(SMALL, (80, 20));
    *state.refuse.borrow_mut() = Some("taken: is there already".into());
    let mut check = |keys: &str, expected: &str| {
        driver.keys(keys);
        let screen = driver.screen();
        assert!(screen.contains(expected), "{keys}: no {expected} in {screen}");
    };
    check("c p Ctrl-u t a k e n Enter", "! something of that name is there already (f: overwrite it)");
    check("Enter", "! not started: something of that name is there (f: overwrite it)");
    check("f", "what is there is overwritten (f: do not)");
}

#[test]
fn filtering_goes_to_the_best_hit() {
    assert_snapshot!(after(SMALL, (80, 13), "/ 1 Space q"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                             sdnq
    ┌ Tensors /1 q ────────────────────────────────────────────────────────────────┐
    │  name                        shape       to            size    error  damage │
    │  ▾ blocks                    8 tensors   int8   96.2K→51.2K 0.0015 %~ ██████ │
    │    ▾ 1                       4 tensors   int8   48.1K→25.6K 0.0015 %~ ██████ │
    │      ▾ attn                  2 tensors   int8   16.0K→8.50K 0.0015 %  ██████ │
    │▌         to_q.weight         64×64       int8   8.00K→4.25K 0.0015 %  █████▌ │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    └───────────────────────────────────────────────────────────────────────── 1/9 ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · mean MSE 1.53e-8~ of 2/7
     /1 q                                        1/9  Enter keeps it · Esc drops it
    reversed: 7:1-78
    ");
}

#[test]
fn a_chord_says_what_can_follow() {
    assert_snapshot!(after(SMALL, (80, 9), "g"), @"
    ┌ Tensors ─────────────────────────────────────────────────────────────────────┐
    │  name                        shape       to            size    error  damage │
    │▌ ▾ blocks                    8 tensors   int8   96.2K→51.2K                  │
    │    ▸ 0                       4 tensors   int8   48.1K→25.6K                  │
    │    ▸ 1                       4 tensors   int8   48.1K→25.6K                  │
    │    embed.weight              512×64      int8   64.0K→34.0K                  │
    └───────────────────────────────────────────────────────────────────────── 9/9 ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · loss not measured
     g  g To the first row
    reversed: 3:1-78
    ");
}

#[test]
fn help_finds_and_says_what_is_not_possible() {
    assert_snapshot!(after(SMALL, (80, 14), "? u n d"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                             sdnq
    ┌ ┌ Help ────────────────────────────────────────────────────────────────────┐─┐
    │ │ › und                                                                    │ │
    │▌│ ▌ u                 Undo (nothing to undo)                               │ │
    │ │   Shift-Left        Close the group and all below it                     │ │
    │ │   Shift-Right       Open the group and all below it                      │ │
    │ │   Ctrl-z            Suspend                                              │ │
    │ │   =                 Open every group                                     │ │
    │ │   E                 The rules in their order: what each matches and dec… │ │
    │ │   (no key)          Quantize embedding tables too; again: leave them     │ │
    │ │   Ctrl-g            Make a rule of the marks, or of what was set by han… │ │
    └─└──────────────────────── 1/12 · type to find · Enter does it · Esc closes ┘ ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · loss not measured
     Undo (nothing to undo)
    reversed: 4:1-1 4:4-75 4:78-78
    ");
}

#[test]
fn a_running_conversion() {
    assert_snapshot!(after(SMALL, (80, 12), "c Enter w"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                             sdnq
    ┌ ┌ Jobs ────────────────────────────────────────────────────────────────────┐─┐
    │ │ trials: none running                                                     │ │
    │▌│                                                                          │ │
    │ │ running    ./test-sdnq.safetensors                                       │ │
    │ │ ▕                    ▏   0 % · 0/9 tensors · 0 B/s                       │ │
    │ │                                                                          │ │
    │ │                                                                          │ │
    └─│                                                                          │ ┘
     c└────────────────────────────────────────────────── x cancels · Esc closes ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · loss not measured
     converting into ./test-sdnq.safetensors · w shows it
    reversed: 4:1-1 4:78-78
    ");
}

#[test]
fn a_picker() {
    assert_snapshot!(after(SMALL, (80, 14), "s"), @"
     mixdown  test · 8┌ Group size of 6 tensors ─────────────────┐             sdnq
    ┌ Tensors ────────│ ›                                        │─────────────────┐
    │  name           │ ▌•auto     what the target finds best    │   error  damage │
    │▌ ▾ blocks       │   row      one scale a row               │                 │
    │    ▸ 0          │   tensor   one scale for all             │                 │
    │    ▸ 1          │   16                                     │                 │
    │    embed.weight │   32                                     │                 │
    │                 │   64                                     │                 │
    │                 │   128                                    │                 │
    │                 │   256                                    │                 │
    │                 │   512                                    │                 │
    └─────────────────└─────────────────────────── Enter sets it ┘──────────── 9/9 ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · loss not measured
     x exclude   t dtype   a measure   c convert   / filter   ? help   q quit
    reversed: 3:20-59 4:1-17 4:62-78
    ");
}

#[test]
fn a_rotation_and_levels_in_the_inspector() {
    assert_snapshot!(after(SMALL, (120, 12), "G l l t u 4 Enter H 6 4 Enter b"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                                                                   sdnq *
    ┌ Tensors ─────────────────────────────────────────────────────────────┐┌ embed.weight ────────────────────────────────┐
    │  name                      shape       to      size    error  damage ││ uint4   group 64   rank 0                    │
    │  ▾ blocks                  8 tensors   int8   51.2K                  ││ hadamard 64   codebook                       │
    │    ▸ 0                     4 tensors   int8   25.6K                  ││ set by hand                                  │
    │    ▸ 1                     4 tensors   int8   25.6K                  ││ BF16 512×64 · 64.0 KiB → 18.0 KiB (28 %)     │
    │▌   embed.weight            512×64      uint4  18.0K   0.39 %  ██████ ││                                              │
    │                                                                      ││ Loss ─────────────────────────────────────── │
    │                                                                      ││ MSE          3.91e-6  SQNR           24.1 dB │
    └───────────────────────────────────────────────────────────────── 9/9 ┘└────────────────────────────────────── 1–7/33 ┘
     160 KiB → 69.2 KiB · 6.91 bits/weight · mean MSE 3.91e-6~ of 1/7
     codebook on embed.weight
    reversed: 7:1-70
    ");
}

#[test]
fn sizes_of_rotations() {
    assert_snapshot!(after(SMALL, (80, 14), "G H"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                             sdnq
    ┌ Tensors ──────────┌ Hadamard rotation of embed.weight ──┐────────────────────┐
    │  name             │ ›                                   │ze    error  damage │
    │  ▾ blocks         │ ▌•0        no rotation              │2K                  │
    │    ▸ 0            │   16                                │6K                  │
    │    ▸ 1            │   32                                │6K                  │
    │▌   embed.weight   │   64                                │0K 0.0015 %  ██████ │
    │                   │   128                               │                    │
    │                   │   256      the usual                │                    │
    │                   │   512                               │                    │
    │                   │   1024                              │                    │
    └───────────────────└────────────────────── Enter sets it ┘─────────────── 9/9 ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · mean MSE 1.53e-8~ of 1/7
     x exclude   t dtype   a measure   c convert   / filter   ? help   q quit
    reversed: 4:22-56 7:1-19 7:59-78
    ");
}

#[test]
fn a_narrow_screen() {
    assert_snapshot!(after(SMALL, (40, 8), "j a"), @r"
┌ Tensors ─────────────────────────────┐
│  name         to      size    error  │
│  ▾ blocks     int8   51.2K 0.0015 %~ │
│▌   ▸ 0        int8   25.6K 0.0015 %  │
│    ▸ 1        int8   25.6K           │
└───────────────────────────────── 9/9 ┘
 160 KiB → 85.2 KiB · 8.51 bits/weight
 x exclude   t dtype   a measure
reversed: 4:1-38
");
}

#[test]
fn excluded_by_hand() {
    assert_snapshot!(after(SMALL, (100, 20), "G l l x"), @"
     mixdown  test · 82.0 K parameters · 9 tensors                                               sdnq *
    ┌ Tensors ─────────────────────────────────────────────┐┌ embed.weight ────────────────────────────┐
    │  name                  to      size    error  damage ││ keep as it is (BF16)                     │
    │  ▾ blocks              int8   51.2K                  ││ set by hand                              │
    │    ▸ 0                 int8   25.6K                  ││ BF16 512×64 · 64.0 KiB                   │
    │    ▸ 1                 int8   25.6K                  ││                                          │
    │▌   embed.weight        keep   64.0K        ─         ││ Loss ─────────────────────────────────── │
    │                                                      ││ nothing is lost: it is kept              │
    │                                                      ││                                          │
    │                                                      ││ What if ────────────── size  relative ◂  │
    │                                                      ││  •keep                64.0K         ─ ◂  │
    │                                                      ││   int8 g32            36.0K  0.0015 %~   │
    │                                                      ││   int8 g64            34.0K  0.0015 %    │
    │                                                      ││   int8 g128           33.0K  0.0015 %~◂  │
    │                                                      ││   int6 g64            26.0K   0.024 %~◂  │
    │                                                      ││   int5 g64            22.0K   0.098 %~◂  │
    │                                                      ││   uint4 g64           18.0K    0.39 %~◂  │
    └───────────────────────────────────────────────── 9/9 ┘└───────────────────────────────── 1–15/19 ┘
     160 KiB → 115 KiB · 11.51 bits/weight · loss not measured
     exclude embed.weight
    reversed: 7:1-54
    ");
}
