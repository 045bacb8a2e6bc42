//! What config.toml and the flags make of the desk: its colours, its glyphs, its keys, the mouse.
use super::sizes::STATES;
use super::*;
use crate::tui::config::Config;
use crate::tui::msg::Effect;
use crate::tui::theme::Look;
use crate::tui::theme::depth::Depth;
use crate::tui::theme::environment::{Environment, When, Wish};
use crate::tui::theme::glyphs::Glyphs;
use crate::tui::theme::palette::Theme;
use insta::assert_snapshot;
use ratatui::style::{Color, Modifier};

/// A desk that found that config.toml.
fn configured(config: &str, size: (u16, u16)) -> Driver {
    let (mut driver, _) = desk(SMALL, size);
    Config::parse("config.toml", config).apply(&mut driver.app, Wish::default(), &Environment::default());
    driver
}

fn bottom(driver: &mut Driver) -> String {
    driver.screen().lines().nth_back(1).unwrap_or_default().trim().to_owned()
}

/// Keys to the pages that fill the screen, from whatever popup is open.
const PAGES: [&str; 5] = ["Esc M", "v", "Esc E", "Esc d", "Esc Y"];

#[test]
fn in_ascii_every_screen_is_ascii() {
    for size in [(60, 20), (120, 30), (120, 9), (19, 4)] {
        let (mut driver, _) = desk_with(SMALL, preset::by_name("common"), size);
        driver.app.look = Look::new(Theme::Terminal, Glyphs::Ascii, Depth::True);
        for keys in STATES.into_iter().chain(PAGES) {
            driver.keys(keys);
            assert!(driver.screen().is_ascii(), "before the answers, after {keys}:\n{}", driver.screen());
            driver.answers();
            assert!(driver.screen().is_ascii(), "after {keys}:\n{}", driver.screen());
        }
    }
}

#[test]
fn the_desk_in_ascii() {
    let mut driver = configured("ascii = true", (80, 12));
    driver.keys("j Space g g A").settle();
    assert_snapshot!(driver.screen(), @"
     mixdown  test . 82.0 K parameters . 9 tensors                             sdnq
    + Tensors ---------------------------------------------------------------------+
    |  name                        shape       to            size    error  damage |
    |>o- blocks                    8 tensors   int8   96.2K>51.2K 0.0015 %  #####> |
    | *  + 0                       4 tensors   int8   48.1K>25.6K 0.0015 %  #####- |
    |    + 1                       4 tensors   int8   48.1K>25.6K 0.0015 %  #####- |
    |    embed.weight              512x64      int8   64.0K>34.0K 0.0015 %  #####= |
    |                                                                              |
    |                                                                              |
    +-------------------------------------------------------------- 9/9 . 4 marked +
     160 KiB > 85.2 KiB . 8.51 bits/weight . mean MSE 1.53e-8
     x exclude marked   t dtype   a measure   Esc unmark   ? help
    reversed: 4:1-78
    ");
}

#[test]
fn names_are_shown_as_they_are() {
    let (mut driver, _) = desk("重み.weight 64x64", (60, 9));
    driver.app.look = Look::new(Theme::Terminal, Glyphs::Ascii, Depth::True);
    let screen = driver.screen();
    assert!(screen.contains("重み"), "{screen}");
    assert!(screen.chars().all(|c| c.is_ascii() || "重み".contains(c)), "{screen}");
}

#[test]
fn without_colour_no_cell_has_one() {
    for theme in Theme::ALL {
        let (mut driver, _) = desk(SMALL, (120, 30));
        driver.app.look = Look::new(*theme, Glyphs::Unicode, Depth::None);
        driver.keys("A Space t").settle();
        let cells = &driver.draw().content;
        assert!(cells.iter().all(|c| c.fg == Color::Reset && c.bg == Color::Reset), "{theme:?}");
        assert!(cells.iter().any(|c| c.modifier.contains(Modifier::REVERSED)), "{theme:?}");
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_environment() {
    fn check(config: &str, wish: Wish, theme: Theme, glyphs: Glyphs) {
        let (mut driver, _) = desk(SMALL, (80, 24));
        Config::parse("config.toml", config).apply(&mut driver.app, wish, &Environment::default());
        assert_eq!((driver.app.look.theme(), driver.app.look.glyphs()), (theme, glyphs), "{config}");
    }
    let wish = Wish { theme: Some(Theme::Light), ascii: Some(true), colour: When::Auto };
    check("", Wish::default(), Theme::Terminal, Glyphs::Unicode);
    check("theme = \"dark\"\nascii = true", Wish::default(), Theme::Dark, Glyphs::Ascii);
    check("theme = \"dark\"\nascii = false", wish, Theme::Light, Glyphs::Ascii);
}

#[test]
fn what_is_wrong_in_the_file_is_said_and_the_desk_works() {
    let mut driver = configured("theme = \"drak\"", (80, 24));
    assert_eq!(bottom(&mut driver), "! config.toml:1: unknown theme `drak`; did you mean `dark`?");
    driver.keys("j");
    assert_eq!(driver.app.cursor, 1);
    assert!(!bottom(&mut driver).contains("config.toml"), "a key is an answer to it");
}

#[test]
fn keys_are_those_of_the_file_wherever_they_are_named() {
    let mut driver = configured(
        "[keys]\nrecipe.dtype = \"F2\"\nwork.trial = \"F6\"\nrecipe.copy = \"F3\"\nprogram.quit = \"Ctrl-q\"\n",
        (120, 24),
    );
    let hints = bottom(&mut driver);
    assert!(hints.contains("F2 dtype") && hints.contains("F6 measure") && hints.contains("Ctrl-q quit"), "{hints}");
    assert!(driver.screen().contains("not measured yet: F6 measures it"));
    driver.keys("p");
    assert_eq!(bottom(&mut driver), "! p: nothing was copied yet: `F3` copies a recipe");
    driver.keys("F2");
    assert!(driver.screen().contains("┌ dtype of") || driver.screen().contains("┌ Dtype"), "{}", driver.screen());
    driver.keys("Esc ?").text("F2");
    assert!(driver.screen().contains("▌ F2"), "the help finds keys as they are now:\n{}", driver.screen());
}

#[test]
fn suspend_and_redraw_work_in_popups_on_other_keys_too() {
    let mut driver = configured("[keys]\nprogram.suspend = \"F4\"\nview.redraw = [\"F5\", \"Z\"]\n", (80, 24));
    driver.keys("? F4 F5 Z Ctrl-z");
    assert_eq!(driver.left, [Effect::Suspend, Effect::Redraw], "Z is text in the help, Ctrl-z nothing any more");
}

#[test]
fn the_mouse_is_released_and_taken_back() {
    let (mut driver, _) = desk(SMALL, (80, 24));
    driver.keys("m");
    assert_eq!(bottom(&mut driver), "the terminal has the mouse and selects text: m takes it back");
    driver.keys("m");
    assert_eq!(bottom(&mut driver), "the desk has the mouse: m releases it");
    assert_eq!(driver.left, [Effect::Mouse(false), Effect::Mouse(true)]);
    let mut released = configured("mouse = false", (80, 24));
    released.keys("m");
    assert_eq!(released.left, [Effect::Mouse(true)]);
}
