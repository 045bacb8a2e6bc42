//! The preset's rules: what holds, why, and what a switch does to the profile.
use super::*;
use crate::tui::msg::Msg;
use insta::assert_snapshot;

/// Names of FLUX, some of which its preset keeps.
const FLUX: &str = "
    x_embedder.weight 3072x64
    context_embedder.weight 3072x4096
    proj_out.weight 64x3072
    norm_out.linear.weight 6144x3072
    transformer_blocks.0.attn.to_q.weight 3072x3072
    single_transformer_blocks.0.norm.linear.weight 9216x3072
    single_transformer_blocks.0.proj_mlp.weight 12288x3072
";

fn flux(size: (u16, u16)) -> Driver {
    desk_with(FLUX, preset::by_name("flux"), size).0
}

/// The screen after those keys.
fn shown(size: (u16, u16), keys: &str) -> String {
    let mut driver = flux(size);
    driver.keys(keys);
    driver.screen()
}

#[test]
fn the_rules_at_eighty_columns() {
    assert_snapshot!(shown((80, 24), "P j j j j"), @r"
     mixdown  test · 107 M parameters · 7 tensors                              sdnq
    ┌ Tensors ─────────────────────────────────────────────────────────────────────┐
    │  name                        shape       to            size    error  damage │
    │▌   context_embedder.weight   3072×4096   keep         24.0M        ─         │
    │    norm_out.linear.weight    6144×3072   keep         36.0M        ─         │
    │ ┌ Rules · later ones win, what keeps a layer stays · preset flux ──────────┐ │
    │ │   on  whose   pattern                             says  matches  decides │ │
    │ │   [x] preset  ^single_transformer_blocks\.0\.no…  keep        1        1 │ │
    │ │   [x] preset  (^|\.)time_text_embed(\.|$)         keep        0        0 │ │
    │ │   [x] preset  (^|\.)time_embed(\.|$)              keep        0        0 │ │
    │ │   [x] preset  (^|\.)context_embedder(\.|$)        keep        1        1 │ │
    │ │ ▌ [x] preset  (^|\.)x_embedder(\.|$)              keep        1        1 │ │
    │ │   [x] preset  ^proj_out                           keep        1        1 │ │
    │ │   [x] preset  (^|\.)norm_out(\.|$)                keep        1        1 │ │
    │ │                                                                          │ │
    │ │ reads the latent directly; small, and every error in it reaches the      │ │
    │ │ output                                                                   │ │
    │ └────────────────── Space on/off · n new · e edit · x remove · J K · Enter ┘ │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    └───────────────────────────────────────────────────────────────────────── 7/7 ┘
     205 MiB → 163 MiB · 12.70 bits/weight · loss not measured
     x exclude   t dtype   a measure   c convert   / filter   ? help   q quit
    reversed: 4:1-78 12:4-75
    ");
}

#[test]
fn a_rule_that_is_off() {
    assert_snapshot!(shown((120, 18), "P j j j j Space"), @r"
     mixdown  test · 107 M parameters · 7 tensors                                                                    sdnq *
    ┌ Tensors ─────────────────────────────────────────────────────────────┐┌ context_embedder.weight ─────────────────────┐
    │ ┌ Rules · later ones win, what keeps a layer stays · preset flux ──────────────────────────────────────────────────┐ │
    │▌│   on  whose   pattern                                               says  matches  decides                       │ │
    │ │   [x] preset  ^single_transformer_blocks\.0\.norm\.linear\.weight$  keep        1        1                       │ │
    │ │   [x] preset  (^|\.)time_text_embed(\.|$)                           keep        0        0                       │ │
    │ │   [x] preset  (^|\.)time_embed(\.|$)                                keep        0        0                       │ │
    │ │   [x] preset  (^|\.)context_embedder(\.|$)                          keep        1        1                       │ │
    │ │ ▌ [ ] preset  (^|\.)x_embedder(\.|$)                                keep        1        0                       │ │
    │ │   [x] preset  ^proj_out                                             keep        1        1                       │ │
    │ │   [x] preset  (^|\.)norm_out(\.|$)                                  keep        1        1                       │ │
    │ │                                                                                                                  │ │
    │ │ off · reads the latent directly; small, and every error in it reaches the output                                 │ │
    │ │                                                                                                                  │ │
    │ └──────────────────────────────────────── Space on/off · n new · e edit · x remove · J K order · Enter shows · Esc ┘ │
    └───────────────────────────────────────────────────────────────── 7/7 ┘└───────────────────────────────────── 1–13/22 ┘
     205 MiB → 162 MiB · 12.69 bits/weight · loss not measured · 1 trial running
     preset rule (^|\.)x_embedder(\.|$) off · 1 tensor more quantized
    reversed: 4:1-1 9:4-115
    ");
}

#[test]
fn more_rules_than_lines() {
    let (mut driver, _) = desk_with(FLUX, preset::by_name("common"), (60, 12));
    driver.keys("P G");
    assert_snapshot!(driver.screen(), @r"
     m┌ … ones win, what keeps a layer stays · preset common ┐q
    ┌ │   on  whose   pattern         says  matches  decides │─┐
    │ │   [x] preset  (^|\.)patch_e…  keep        0        0 │ │
    │▌│   [x] preset  (^|\.)patch_e…  keep        0        0 │ │
    │ │   [x] preset  (^|\.)patch_e…  keep        0        0 │ │
    │ │   [x] preset  (^|\.)lm_head…  keep        0        0 │ │
    │ │ ▌ [x] preset  (^|\.)wte(\.|…  keep        0        0 │ │
    │ │                                                      │ │
    │ │ one row per token or place, read as it is; its error │ │
    └─│ is in every state that follows                       │ ┘
     2└─────────────────────────── Space n e x J K Enter Esc ┘
     x exclude   t dtype   a measure   c convert   / filter
    reversed: 4:1-1 4:58-58 7:4-55
    ");
}

#[test]
fn a_switch_is_an_edit_of_the_profile() {
    /// What the profile says of its preset after those keys.
    fn check(keys: &str, expected: &str) {
        let mut driver = flux((80, 24));
        driver.keys(keys);
        let text = driver.app.session.profile.to_text();
        let said: Vec<&str> = text.lines().filter(|l| l.starts_with("off") || l.starts_with("[preset]")).collect();
        assert_eq!(said.join(" "), expected, "{keys}");
    }
    check("P", "");
    check("P Space", r"[preset] off = ['^single_transformer_blocks\.0\.norm\.linear\.weight$']");
    check(
        "P Space j Space",
        r"[preset] off = ['^single_transformer_blocks\.0\.norm\.linear\.weight$', '(^|\.)time_text_embed(\.|$)']",
    );
    check("P Space Space", "");
    check("P Space Esc u", "");
    check("P Space Esc u U", r"[preset] off = ['^single_transformer_blocks\.0\.norm\.linear\.weight$']");
    check("P G k Space", r#"[preset] off = ["^proj_out"]"#);
}

#[test]
fn a_switch_says_what_it_does() {
    fn check(keys: &str, line: &str) {
        let screen = shown((100, 24), keys);
        assert_eq!(screen.lines().nth(23).unwrap_or_default().trim(), line, "{keys}");
    }
    check("P G k Space", "preset rule ^proj_out off · 1 tensor more quantized");
    check("P G k Space Space", "preset rule ^proj_out on · 1 tensor fewer quantized");
    check("P j Space", r"preset rule (^|\.)time_text_embed(\.|$) off · no tensor is changed by that");
}

#[test]
fn esc_leads_back_and_the_mouse_switches() {
    let mut driver = flux((80, 24));
    driver.keys("P");
    let (left, top, ..) = driver.app.screen.list.expect("a list");
    // A click selects, a click on what is selected switches.
    driver.send(Msg::Click(left + 3, top + 5));
    assert!(driver.app.session.settings().preset[5].enabled);
    driver.send(Msg::Click(left + 3, top + 5));
    assert!(!driver.app.session.settings().preset[5].enabled);
    driver.send(Msg::Wheel(left, top, 1));
    driver.keys("Space");
    assert!(!driver.app.session.settings().preset[6].enabled, "the wheel goes on from where the mouse was");
    // A click beside the rules means nothing.
    driver.send(Msg::Click(left + 3, top + 7));
    assert_eq!(driver.app.session.settings().preset.iter().filter(|r| !r.enabled).count(), 2);
    driver.keys("Esc");
    assert!(driver.app.overlays.is_empty());
    assert_eq!(driver.app.session.settings().preset.len(), 7);
}
