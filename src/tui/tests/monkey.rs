//! Random keys, sizes and answers: nothing panics, and all of it can be undone.
use super::*;
use crate::tui::action::TABLE;
use crate::tui::key::{self, Key, Named};
use crate::tui::msg::{Effect, Msg};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Key(Key),
    Size(u16, u16),
    Click(u16, u16),
    Wheel(u16, u16, bool),
    Answers,
    Paste(String),
}

fn steps() -> impl Strategy<Value = Step> {
    let bound: Vec<Key> = TABLE.iter().flat_map(|s| s.keys).flat_map(|k| key::sequence(k).unwrap()).collect();
    prop_oneof![
        12 => prop::sample::select(bound).prop_map(Step::Key),
        4 => prop::sample::select(vec![Named::Enter, Named::Esc, Named::Down, Named::Backspace]).prop_map(|n| Step::Key(Key::named(n))),
        3 => prop::char::range(' ', '~').prop_map(|c| Step::Key(Key::char(c))),
        1 => (0u16..130, 0u16..40).prop_map(|(w, h)| Step::Size(w, h)),
        1 => (0u16..130, 0u16..40).prop_map(|(x, y)| Step::Click(x, y)),
        1 => (0u16..130, 0u16..40, any::<bool>()).prop_map(|(x, y, d)| Step::Wheel(x, y, d)),
        2 => Just(Step::Answers),
        1 => "\\PC{0,6}".prop_map(Step::Paste),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_walk_over_the_keys_can_be_undone(steps in prop::collection::vec(steps(), 1..80), apart in any::<bool>()) {
        let (mut driver, _) = desk_with(SMALL, preset::by_name("common"), (100, 24));
        driver.app.aside.apart = apart;
        let start = driver.app.session.settings().clone();
        for step in steps {
            match step {
                Step::Key(key) => driver.send(Msg::Key(key)),
                Step::Size(w, h) => driver.resize(w, h),
                Step::Click(x, y) => driver.send(Msg::Click(x, y)),
                Step::Wheel(x, y, down) => driver.send(Msg::Wheel(x, y, if down { 1 } else { -1 })),
                Step::Answers => { driver.answers(); }
                Step::Paste(text) => driver.send(Msg::Paste(text)),
            }
            driver.pass(50);
            driver.draw();
            let app = &driver.app;
            prop_assert!(app.cursor < app.tree.visible().len().max(1));
            prop_assert!(app.session.marks.iter().all(|id| id.index() < app.session.model.tensors.len()));
            let terminal = |e: &Effect| {
                use Effect::*;
                matches!(e, Redraw | Suspend | Copy(_) | Mouse(_) | Another | Quit(_))
            };
            prop_assert!(driver.left.iter().all(terminal));
        }
        driver.land();
        while driver.app.session.undo().is_some() {}
        prop_assert_eq!(driver.app.session.settings(), &start);
    }
}
