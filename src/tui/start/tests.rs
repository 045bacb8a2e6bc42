//! The start screen from keys to screen, without a terminal and without a disk.
use insta::assert_snapshot;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::item::{Item, Pick, Section};
use super::state::Start;
use super::update::{Effect, Msg, News, update};
use super::view;
use crate::format::find::{Kind, Listed, Listing};
use crate::tui::key::{self, Key, Named};
use crate::tui::testing::shown;

struct Driver {
    start: Start,
    fx: Vec<Effect>,
    terminal: Terminal<TestBackend>,
}

impl Driver {
    fn empty(width: u16, height: u16) -> Self {
        let Ok(terminal) = Terminal::new(TestBackend::new(width, height));
        Self { start: Start::new(None), fx: Vec::new(), terminal }
    }
    /// A screen on which everything was found.
    fn new(width: u16, height: u16) -> Self {
        let mut d = Self::empty(width, height);
        d.send(Msg::News(News::Items(recent())));
        d.send(Msg::News(News::Profiles(vec!["flux-q4".into(), "tiny".into()])));
        d.send(Msg::News(News::Missing("/old/gone.gguf".into())));
        let item = |section, name: &str, format: &str, bytes| Item {
            format: format.into(),
            bytes: Some(bytes),
            path: Some(format!("/work/{name}")),
            ..Item::new(section, name, name)
        };
        d.send(Msg::News(News::Items(vec![
            item(Section::Cache, "Qwen/Qwen3-0.6B", "folder", 1_500_000_000),
            item(Section::Cache, "openai/whisper-tiny", "folder", 151_000_000),
        ])));
        d.send(Msg::News(News::Items(vec![
            item(Section::Here, "models/vae.safetensors", "safetensors", 335_000_000),
            item(Section::Here, "model.gguf", "gguf", 670_000_000),
        ])));
        for section in [Section::Recent, Section::Here, Section::Cache] {
            d.send(Msg::News(News::Ended(section)));
        }
        d
    }
    fn send(&mut self, msg: Msg) {
        let fx = update(&mut self.start, msg);
        for effect in fx {
            match effect {
                Effect::List(folder) => {
                    let listing = listing(&folder);
                    self.send(Msg::News(News::Listed(folder, listing)));
                }
                other => self.fx.push(other),
            }
        }
        self.draw();
    }
    fn keys(&mut self, keys: &str) -> &mut Self {
        for key in key::sequence(keys).unwrap() {
            self.send(Msg::Key(key));
        }
        self
    }
    fn text(&mut self, text: &str) -> &mut Self {
        text.chars().for_each(|c| self.send(Msg::Key(Key::char(c))));
        self
    }
    fn draw(&mut self) {
        let Self { start, terminal, .. } = self;
        let Ok(_) = terminal.draw(|frame| view::draw(start, frame));
    }
    fn resize(&mut self, width: u16, height: u16) {
        self.terminal.backend_mut().resize(width, height);
        self.draw();
    }
    fn screen(&mut self) -> String {
        self.draw();
        shown(self.terminal.backend().buffer())
    }
    fn last_line(&mut self) -> String {
        let screen = self.screen();
        screen.lines().rev().nth(1).unwrap_or_default().trim().to_owned()
    }
    fn current(&self) -> &str {
        self.start.current().map_or("", |i| &i.name)
    }
}

fn recent() -> Vec<Item> {
    let item = |label: &str, name: &str, last: Option<&str>| Item {
        place: label.into(),
        format: "safetensors".into(),
        bytes: Some(23_800_000_000),
        when: "2 h ago".into(),
        last: last.map(str::to_owned),
        ..Item::new(Section::Recent, label, name)
    };
    vec![
        item("/models/FLUX.1-dev", "FLUX.1-dev › transformer", Some("flux-q4")),
        item("/old/gone.gguf", "gone.gguf", None),
        item("/work/model.gguf", "model.gguf", None),
    ]
}

/// A disk with one folder of models.
fn listing(folder: &str) -> Result<Listing, String> {
    let entry = |name: &str, is_folder, kind: Option<Kind>| Listed { name: name.into(), is_folder, kind, bytes: 5000 };
    let entries = match folder {
        "/" => vec![entry("models", true, None), entry("mnt", true, None)],
        "/models/" => vec![
            entry(".cache", true, None),
            entry("flux-dev", true, Some(Kind::Pipeline)),
            entry("flux-schnell", true, Some(Kind::Pipeline)),
            entry("loras", true, None),
            entry("tiny.gguf", false, Some(Kind::Gguf)),
        ],
        "/models/flux-dev/" => {
            let vae = entry("vae", true, None);
            return Ok(Listing { path: folder.into(), kind: Some(Kind::Pipeline), bytes: 7000, entries: vec![vae] });
        }
        _ => return Err(format!("{folder}: no such folder")),
    };
    Ok(Listing { path: folder.into(), kind: None, bytes: 0, entries })
}

fn pick(label: &str, profile: Option<&str>) -> Pick {
    Pick { label: label.into(), component: None, profile: profile.map(str::to_owned) }
}

#[test]
fn everything_that_could_be_opened() {
    assert_snapshot!(Driver::new(100, 20).screen(), @"
     mixdown  a mixing desk for model weights
    ┌ Open a model ────────────────────────────────────────────────────────────────────────────────────┐
    │ › type to find one; a path begins with / or ~ or ./                                              │
    │ Recent                                                                                           │
    │▌  FLUX.1-dev › transformer  /models/FLUX.1-dev        with flux-q4  safetensors   22.2G  2 h ago │
    │   gone.gguf                 /old/gone.gguf            not there any more                         │
    │   model.gguf                /work/model.gguf                        safetensors   22.2G  2 h ago │
    │ In this folder                                                                                   │
    │   models/vae.safetensors                                            safetensors    319M          │
    │ In the Hugging Face cache                                                                        │
    │   Qwen/Qwen3-0.6B                                                   folder        1.40G          │
    │   openai/whisper-tiny                                               folder         144M          │
    │ To try things on                                                                                 │
    │   demo                      a tiny model to try thi…                                             │
    │                                                                                                  │
    │                                                                                                  │
    │                                                                                                  │
    │                                                                                                  │
    └──────────────────────────────────────────────────────────────────────────────────────────────────┘
     Enter opens it with flux-q4   Ctrl-o without   Tab another profile   Esc quits
    reversed: 5:1-98
    ");
    assert_snapshot!(Driver::new(60, 12).keys("Down").screen(), @"
     mixdown  a mixing desk for model weights
    ┌ Open a model ────────────────────────────────────────────┐
    │ › type to find one; a path begins with / or ~ or ./      │
    │ Recent                                                   │
    │   FLUX.1-dev › trans…  with flux-q4  safetensors   22.2G │
    │▌  gone.gguf            not there any more                │
    │   model.gguf                         safetensors   22.2G │
    │ In this folder                                           │
    │   models/vae.safeten…                safetensors    319M │
    │ In the Hugging Face cache                                │
    └────────────────────────────────────────── /old/gone.gguf ┘
     Esc quits
    reversed: 6:1-58
    ");
    assert_snapshot!(Driver::new(34, 7).screen(), @"
    ┌ Open a model ──────────────────┐
    │ › type to find one; a path be… │
    │ Recent                         │
    │▌  FLUX.1-dev › transformer     │
    │   gone.gguf                    │
    └──────────── /models/FLUX.1-dev ┘
     Enter opens it with flux-q4
    reversed: 4:1-32
    ");
}

#[test]
fn before_anything_was_found_there_is_the_demo() {
    let mut d = Driver::empty(80, 10);
    assert_snapshot!(d.screen(), @"
     mixdown  a mixing desk for model weights
    ┌ Open a model ────────────────────────────────────────────────────────────────┐
    │ › type to find one; a path begins with / or ~ or ./                          │
    │ To try things on                                                             │
    │▌  demo  a tiny model to try things on                                        │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    └───────────────────────────────────────────────────────────── looking around… ┘
     Enter opens it   Esc quits
    reversed: 5:1-78
    ");
    d.keys("Enter");
    assert_eq!(d.fx, [Effect::Open(1, pick("--demo", None))]);
}

#[test]
fn typing_filters() {
    let mut d = Driver::new(80, 12);
    d.text("whis");
    assert_snapshot!(d.screen(), @"
     mixdown  a mixing desk for model weights
    ┌ Open a model ────────────────────────────────────────────────────────────────┐
    │ › whis                                                                       │
    │ In the Hugging Face cache                                                    │
    │▌  openai/whisper-tiny                                         folder    144M │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
     Enter opens it   Tab with a profile   Esc clears
    reversed: 5:1-78
    ");
    d.keys("Enter");
    assert_eq!(d.fx, [Effect::Open(1, pick("openai/whisper-tiny", None))]);
    d.keys("Esc Esc").text("flxdv");
    assert_eq!(d.current(), "FLUX.1-dev › transformer", "letters in order, where no row has the word");
    d.keys("Esc").text("flux.1-dev-2");
    assert_eq!(d.current(), "flux.1-dev-2", "what is typed can be opened as it is");
    d.keys("Esc Esc");
    assert_eq!(d.fx.last(), Some(&Effect::Quit(0)));
}

#[test]
fn paths_are_completed_as_a_shell_does() {
    let mut d = Driver::new(80, 14);
    d.text("/mo").keys("Tab");
    assert_eq!(d.start.input.value(), "/models/");
    assert_snapshot!(d.screen(), @"
     mixdown  a mixing desk for model weights
    ┌ Open a model ────────────────────────────────────────────────────────────────┐
    │ › /models/                                                                   │
    │ There                                                                        │
    │▌  flux-dev/                                                 pipeline   4.88K │
    │   flux-schnell/                                             pipeline   4.88K │
    │   loras/                                                                     │
    │   tiny.gguf                                                 gguf       4.88K │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
     Enter opens it   Tab completes   Esc clears
    reversed: 5:1-78
    ");
    d.text("f").keys("Tab");
    assert_eq!(d.start.input.value(), "/models/flux-");
    d.keys("Down Tab");
    assert_eq!(d.start.input.value(), "/models/flux-schnell/");
    assert_snapshot!(d.last_line(), @"Tab completes   Esc clears");
    d.keys("Ctrl-u").text("/models/flux-dev").keys("Enter");
    assert_eq!(d.fx.pop(), Some(Effect::Open(1, pick("/models/flux-dev", None))));
    d.keys("Esc Ctrl-u").text("/m").keys("Enter");
    assert_eq!(d.start.input.value(), "/models/", "a folder that is no model is gone into");
    d.text("nothing").keys("Enter");
    assert_eq!(d.fx.pop(), Some(Effect::Open(2, pick("/models/nothing", None))), "the error says what is wrong");
    d.keys("Esc Ctrl-u").text("/nowhere/x");
    assert!(d.screen().contains("/nowhere/: no such folder"));
}

#[test]
fn keys_typed_faster_than_the_disk_answers_are_not_lost() {
    let mut start = Start::new(None);
    let mut fx = Vec::new();
    let mut press = |start: &mut Start, key| fx.extend(update(start, Msg::Key(key)));
    "/models/ti".chars().for_each(|c| press(&mut start, Key::char(c)));
    press(&mut start, Key::named(Named::Tab));
    press(&mut start, Key::named(Named::Enter));
    assert_eq!(fx, [Effect::List("/".into()), Effect::List("/models/".into())]);
    let listed = |folder: &str| Msg::News(News::Listed(folder.into(), listing(folder)));
    assert_eq!(update(&mut start, listed("/")), [], "what is not asked for any more");
    assert_eq!(update(&mut start, listed("/models/")), [Effect::Open(1, pick("/models/tiny.gguf", None))]);
}

#[test]
fn a_recent_model_comes_with_its_profile_or_another() {
    let check = |keys: &str, profile: Option<&str>| {
        let mut d = Driver::new(80, 20);
        d.keys(keys);
        assert_eq!(d.fx, [Effect::Open(1, pick("/models/FLUX.1-dev", profile))], "{keys}");
    };
    check("Enter", Some("flux-q4"));
    check("Ctrl-o", None);
    check("Tab Enter", None);
    check("Tab Tab Enter", Some("tiny"));
    check("Tab Tab Tab Enter", Some("flux-q4"));
    check("Shift-Tab Enter", Some("tiny"));
    let mut d = Driver::empty(80, 20);
    d.keys("Tab");
    assert_eq!(d.last_line(), "! no profile is saved yet: Ctrl-s saves one at the desk");
}

#[test]
fn what_cannot_be_opened_says_why_and_one_can_pick_again() {
    let mut d = Driver::new(80, 14);
    d.keys("Enter");
    assert_eq!(d.last_line(), "opening FLUX.1-dev › transformer · Esc stops waiting");
    let why = "/models/FLUX.1-dev/transformer/model-00001-of-00003.safetensors: the file ends at byte 4096, before the \
               tensor `a\u{1b}[31m.weight` does; download it again";
    d.send(Msg::Failed(1, why.into()));
    assert_snapshot!(d.screen(), @"
     mixdown  a mixing desk for model weights
    ┌ Open a model ────────────────────────────────────────────────────────────────┐
    │ › type to find one; a path begins with / or ~ or ./                          │
    │ Recent                                                                       │
    │▌  FLUX.1-dev › transformer        with flux-q4  safetensors   22.2G  2 h ago │
    │   gone.gguf                       not there any more                         │
    │   model.gguf                                    safetensors   22.2G  2 h ago │
    │ In this folder                                                               │
    │   models/vae.safetensors                        safetensors    319M          │
    │ In the Hugging Face cache                                                    │
    │   Qwen/Qwen3-0.6B                               folder        1.40G          │
    └────────────────────────────────────────────────────────── /models/FLUX.1-dev ┘
     ! /models/FLUX.1-dev/transformer/model-00001-of-00003.safetensors: the file
     ends at byte 4096, before the tensor `a�[31m.weight` does; download it again
    reversed: 5:1-78
    ");
    d.keys("Down Enter");
    assert_eq!(d.last_line(), "! /old/gone.gguf is not there any more; was it moved? Type its path");
    d.keys("Down Enter Esc");
    d.send(Msg::Failed(2, "too late".into()));
    assert_eq!(d.start.note, None, "nobody waits for it any more");
    d.keys("Ctrl-c");
    assert_eq!(d.fx.last(), Some(&Effect::Quit(130)));
}

#[test]
fn the_cursor_stays_where_it_was_put() {
    let mut d = Driver::empty(80, 20);
    d.send(Msg::News(News::Items(recent())));
    assert_eq!(d.current(), "FLUX.1-dev › transformer", "untouched it stays on the first row");
    d.keys("Down Down Down");
    assert_eq!(d.current(), "demo");
    let here = Item { path: Some("/work/model.gguf".into()), ..Item::new(Section::Here, "model.gguf", "model.gguf") };
    let other = Item::new(Section::Here, "other.gguf", "other.gguf");
    d.send(Msg::News(News::Items(vec![here, other])));
    assert_eq!(d.current(), "demo");
    let names: Vec<&str> = d.start.items.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(
        names,
        ["FLUX.1-dev › transformer", "gone.gguf", "model.gguf", "other.gguf", "demo"],
        "what is recent is not shown twice"
    );
}

#[test]
fn the_mouse_selects_and_opens() {
    let mut d = Driver::new(80, 20);
    let (x, y) = (10, d.start.screen.list.1 + 3);
    d.send(Msg::Click(x, y));
    assert_eq!((d.current(), d.fx.len()), ("model.gguf", 0));
    d.send(Msg::Click(x, y));
    assert_eq!(d.fx, [Effect::Open(1, pick("/work/model.gguf", None))]);
    d.send(Msg::Click(x, d.start.screen.list.1));
    assert_eq!(d.current(), "model.gguf", "a heading is no row");
    d.send(Msg::Wheel(1));
    assert_eq!(d.start.at, 5);
    d.send(Msg::Wheel(-9));
    assert_eq!(d.start.at, 0);
}

#[test]
fn names_from_files_are_harmless() {
    let mut d = Driver::empty(80, 12);
    let evil = "a\u{1b}[31mred\u{202e}";
    let item = Item {
        place: evil.into(),
        format: evil.into(),
        last: Some(evil.into()),
        ..Item::new(Section::Recent, evil, evil)
    };
    d.send(Msg::News(News::Items(vec![item])));
    d.send(Msg::Paste(evil.into()));
    let screen = d.screen();
    assert!(!screen.contains(['\u{1b}', '\u{202e}']), "{screen}");
}

#[test]
fn nothing_falls_over_at_any_size() {
    let mut d = Driver::new(60, 20);
    for keys in ["", "Tab", "Enter", "Esc End Down Down PgDn", "f", "x y z z y", "Ctrl-u /", "m n t / x"] {
        d.keys(keys);
        for h in 0..=20 {
            for w in (0..=60).step_by(if h % 5 == 0 { 1 } else { 7 }) {
                d.resize(w, h);
            }
        }
        d.send(Msg::Failed(d.start.requests, "weights.safetensors: the header is cut off".into()));
        for (w, h) in [(80, 24), (33, 7), (300, 100), (20, 4)] {
            d.resize(w, h);
        }
    }
    d.resize(19, 4);
    assert_eq!(d.screen().lines().next(), Some("needs 20×4"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_keys_leave_a_row_under_the_cursor(keys in prop::collection::vec("[a-z/~.重 ]|Tab|Down|Up|Esc|Enter|PgDn|Ctrl-w", 0..40)) {
        let mut d = Driver::new(40, 12);
        for key in keys {
            let key = if key == " " { "Space".to_owned() } else { key };
            d.keys(&key);
            prop_assert!(d.start.at < d.start.shown.len().max(1));
        }
    }
}
