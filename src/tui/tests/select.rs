//! Marks, the order of rows, and the rules that marks stand for.
use super::*;
use insta::assert_snapshot;

/// Names of what is marked after those keys, without `.weight`.
fn marked(keys: &str) -> String {
    let (mut driver, _) = desk(SMALL, (120, 30));
    driver.keys("= A").settle();
    driver.keys("- j").keys(keys).settle();
    let marks: Vec<&str> = driver
        .app
        .session
        .marks
        .iter()
        .map(|id| driver.app.session.model.tensor(id).name.trim_end_matches(".weight"))
        .collect();
    marks.join(" ")
}

#[test]
fn a_range_grows_with_the_cursor() {
    // Closed, there are two rows: blocks and embed.
    assert_eq!(marked("= g g j j j v j v j"), "blocks.0.attn.to_k blocks.0.attn.to_q");
    assert_eq!(marked("= g g j j j v j k"), "blocks.0.attn.to_k");
    assert_eq!(marked("= g g j j j v j Esc"), "");
    assert_eq!(marked("G v"), "embed");
}

#[test]
fn the_same_kind_in_every_block() {
    assert_eq!(marked("= g g j j j ."), "blocks.0.attn.to_k blocks.1.attn.to_k");
    assert_eq!(marked("= g g j j ."), "blocks.0.attn.to_k blocks.0.attn.to_q blocks.1.attn.to_k blocks.1.attn.to_q");
    assert_eq!(marked("G ."), "embed");
}

#[test]
fn names_by_expression() {
    assert_eq!(marked("+ n o r m Enter"), "blocks.0.norm blocks.1.norm");
    assert_eq!(marked("+ 1 . * q Enter"), "blocks.1.attn.to_q");
    assert_eq!(marked("+ z z Enter"), "");
}

#[test]
fn the_worst_by_estimated_damage() {
    // Of equal errors the largest matrices cost most.
    assert_eq!(marked("# Backspace Backspace 1 Enter"), "embed");
    assert_eq!(marked("# Backspace Backspace 3 Enter"), "blocks.0.ff blocks.1.ff embed");
}

#[test]
fn from_the_worst_to_the_next() {
    fn check(keys: &str, at: &str) {
        let (mut driver, _) = desk(SMALL, (120, 30));
        driver.keys("= A").settle();
        driver.keys(keys);
        let id = driver.app.tensor().expect("a tensor");
        assert_eq!(driver.app.session.model.tensor(id).name.trim_end_matches(".weight"), at, "{keys}");
    }
    check("g g ] e", "embed");
    check("g g ] e ] e", "blocks.0.ff");
    check("g g ] e ] e ] e", "blocks.1.ff");
    check("g g ] e ] e [ e", "embed");
    check("g g ] e [ e", "embed");
    // From elsewhere it begins anew; where a tensor is folded away, the groups above it open.
    check("g g ] e ] e k k ] e", "embed");
    check("- G ] e ] e", "blocks.0.ff");
    // What was mended leaves its place to the next one, measured again or not.
    check("g g ] e r 1 6 Enter ] e", "blocks.0.ff");
    check("g g ] e ] e r 1 6 Enter ] e", "blocks.1.ff");
    check("g g ] e ] e r 1 6 Enter [ e", "embed");
}

#[test]
fn a_list_by_damage() {
    let (mut driver, _) = desk(SMALL, (100, 16));
    driver.keys("= A").settle();
    driver.keys("o d j").settle();
    assert_snapshot!(driver.screen(), @"
     mixdown  test · 82.0 K parameters · 9 tensors                                                 sdnq
    ┌ Tensors by damage, estimated ────────────────────────┐┌ blocks.0.ff.weight ──────────────────────┐
    │  name                         to       error  damage ││ int8   group 64   rank 0                 │
    │    embed.weight               int8  0.0015 %  █████▍ ││ by defaults                              │
    │▌   blocks.0.ff.weight         int8  0.0015 %  █████  ││ BF16 256×64 · 32.0 KiB → 17.0 KiB (53 %) │
    │    blocks.1.ff.weight         int8  0.0015 %  █████  ││                                          │
    │    blocks.0.attn.to_k.weight  int8  0.0015 %  ████   ││ Loss ─────────────────────────────────── │
    │    blocks.0.attn.to_q.weight  int8  0.0015 %  ████   ││ MSE        1.53e-8  SQNR         48.2 dB │
    │    blocks.1.attn.to_k.weight  int8  0.0015 %  ████   ││ max error  3.71e-4  relative    0.0015 % │
    │    blocks.1.attn.to_q.weight  int8  0.0015 %  ████   ││ damage     6.10e-5  of all          20 % │
    │    blocks.0.norm.weight       keep         ─         ││ from every value; damage estimated by    │
    │    blocks.1.norm.weight       keep         ─         ││ size                                     │
    │                                                      ││                                          │
    └───────────────────────────────────────────────── 9/9 ┘└───────────────────────────────── 1–11/33 ┘
     160 KiB → 85.2 KiB · 8.51 bits/weight · mean MSE 1.53e-8
     x exclude   t dtype   a measure   c convert   / filter   ? help   q quit
    reversed: 5:1-54
    ");
}

#[test]
fn orders() {
    fn check(before: &str, keys: &str, first: &str) {
        let (mut driver, _) = desk(SMALL, (120, 30));
        driver.keys("= A").settle();
        driver.keys("- G").keys(before).settle();
        driver.keys(keys);
        let names: Vec<&str> = driver
            .app
            .tree
            .visible()
            .iter()
            .filter_map(|n| driver.app.tree.tensor(*n))
            .map(|id| driver.app.session.model.tensor(id).name.trim_end_matches(".weight"))
            .collect();
        assert_eq!(names.first().copied().unwrap_or_default(), first, "{keys}");
    }
    check("", "o s", "embed");
    check("", "o d", "embed");
    check("", "o n", "blocks.0.attn.to_k");
    check("", "`", "blocks.0.attn.to_k");
    check("", "` `", "embed");
    check("", "o d o o", "embed");
    check("+ 1 . * k Enter t u 4 Enter", "o e", "blocks.1.attn.to_k");
    check("+ 1 . * k Enter t u 4 Enter", "o g", "blocks.1.attn.to_k");
}

/// The rules after those keys.
fn rules(keys: &str) -> String {
    let (mut driver, _) = desk(SMALL, (120, 30));
    driver.keys(keys).settle();
    let settings = driver.app.session.settings();
    let rules =
        settings.rules.iter().map(|r| format!("{}{}={}", if r.enabled { "" } else { "off " }, r.pattern, r.patch));
    let by_hand = settings.overrides.len();
    let mut out: Vec<String> = rules.collect();
    if by_hand > 0 {
        out.push(format!("{by_hand} by hand"));
    }
    out.join(" · ")
}

#[test]
fn marks_become_a_rule() {
    assert_eq!(rules("+ t o _ q Enter t u 4 Enter Ctrl-g Enter"), "to_q=uint4");
    assert_eq!(rules("+ t o _ q Enter Ctrl-g Enter"), "to_q=int8");
    assert_eq!(rules("+ t o _ q Enter x Ctrl-g Enter"), "to_q=keep");
    // Without marks: what was set by hand alike.
    assert_eq!(rules("+ t o _ q Enter t u 4 Enter Esc Ctrl-g Enter"), "to_q=uint4");
    assert_eq!(rules("+ t o _ q Enter t u 4 Enter Ctrl-g Enter u"), "2 by hand");
    assert_eq!(rules("Ctrl-g"), "");
}

#[test]
fn the_page_of_rules() {
    let made = "E n f f = u i n t 4 , g r o u p _ s i z e = 3 2 Enter n n o r m = k e e p Enter";
    assert_eq!(rules(made), "ff=uint4 group 32 · norm=keep");
    // The cursor is at what was written last.
    assert_eq!(rules(&format!("{made} Space")), "ff=uint4 group 32 · off norm=keep");
    assert_eq!(rules(&format!("{made} k Space")), "off ff=uint4 group 32 · norm=keep");
    assert_eq!(rules(&format!("{made} K")), "norm=keep · ff=uint4 group 32");
    assert_eq!(rules(&format!("{made} K K J")), "ff=uint4 group 32 · norm=keep");
    assert_eq!(rules(&format!("{made} x")), "ff=uint4 group 32");
    assert_eq!(rules(&format!("{made} x u")), "ff=uint4 group 32 · norm=keep");
    assert_eq!(
        rules(&format!("{made} e Backspace Backspace Backspace Backspace i n t 4 Enter")),
        "ff=uint4 group 32 · norm=int4"
    );
    assert_snapshot!(after(SMALL, (100, 20), &format!("{made} Esc + e m b Enter x E")), @"
     mixdown  test · 82.0 K parameters · 9 tensors                                               sdnq *
    ┌ Tensors ─────────────────────────────────────────────┐┌ blocks ──────────────────────────────────┐
    │  name                  to      size    error  damage ││ 8 tensors · 6 quantized, 2 kept          │
    │▌ ▾ blocks              mixed  37.2K                  ││ 96.2 KiB → 37.2 KiB (39 %)               │
    │    ▸ 0                 mixed  18.6K                  ││ 49.3 K parameters · 6.19 bits each       │
    │ ┌ Rules · later ones win, what keeps a layer stays ────────────────────────────────────────────┐ │
    │ │   on  whose   pattern                        says                 matches  decides           │ │
    │ │ ▌ [x] rule    ff                             uint4,group_size=32        2        2           │ │
    │ │   [x] rule    norm                           keep                       2        2           │ │
    │ │       by hand set by hand, tensor by tensor                             1        1           │ │
    │ │                                                                                              │ │
    │ │ matches 2 tensors, decides 2                                                                 │ │
    │ │                                                                                              │ │
    │ └──────────────────── Space on/off · n new · e edit · x remove · J K order · Enter shows · Esc ┘ │
    │                                                      ││                                          │
    │                                                      ││                                          │
    │                                                      ││                                          │
    └────────────────────────────────────── 9/9 · 1 marked ┘└──────────────────────────────────────────┘
     160 KiB → 101 KiB · 10.11 bits/weight · loss not measured
     exclude embed.weight
    reversed: 4:1-54 8:4-95
    ");
}

#[test]
fn a_rule_that_cannot_be_read_stays_to_be_put_right() {
    let (mut driver, _) = desk(SMALL, (100, 20));
    driver.keys("E n f f = u i n t 9 Enter");
    assert_eq!(driver.screen().lines().nth(19).unwrap_or_default().trim(), "! there is no dtype `uint9`");
    driver.keys("Backspace 4 Enter");
    assert_eq!(driver.app.session.settings().rules.len(), 1);
}

#[test]
fn a_rule_shows_what_it_matches() {
    let (mut driver, _) = desk(SMALL, (100, 20));
    driver.keys("E n t o _ q = k e e p Enter Enter");
    assert_eq!((driver.app.filter.as_str(), driver.app.tree.shown()), ("re:to_q", 2));
}
