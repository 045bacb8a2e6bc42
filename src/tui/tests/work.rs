//! Trials, conversions, saving and quitting.
use super::*;
use crate::tui::backend::{JobState, Priority};
use crate::tui::losses::{Known, Quality};
use crate::tui::msg::Effect;

fn asked(state: &State) -> Vec<String> {
    state.asked.borrow().iter().map(|(row, priority)| format!("{} {priority:?}", row.name)).collect()
}

#[test]
fn the_cursor_has_its_tensor_measured_when_it_rests() {
    let (mut driver, state) = desk(SMALL, (80, 24));
    assert_eq!(asked(&state), Vec::<String>::new(), "a group is not measured unasked");
    driver.keys("G l");
    driver.keys("l");
    assert_eq!(asked(&state), ["embed.weight Cursor"]);
    driver.answers();
    driver.keys("k j");
    assert_eq!(asked(&state), Vec::<String>::new(), "what is known is not asked again");
}

#[test]
fn a_new_recipe_is_measured_at_once_and_an_old_one_is_remembered() {
    let (mut driver, state) = desk(SMALL, (80, 24));
    driver.keys("G l l").answers();
    driver.keys("t 4 Enter");
    assert_eq!(asked(&state), ["embed.weight Cursor"]);
    driver.answers();
    driver.keys("u U u");
    assert_eq!(asked(&state), Vec::<String>::new());
}

#[test]
fn stale_answers_are_dropped() {
    let (mut driver, _) = desk(SMALL, (80, 24));
    driver.keys("G l l");
    let stale = driver.app.backend.drain();
    driver.keys("t 4 Enter");
    driver.send(crate::tui::msg::Msg::Answers(stale));
    let row = driver.app.board.find("embed.weight").unwrap();
    assert_eq!(driver.app.losses.of_row(row), None);
    driver.answers();
    assert!(matches!(driver.app.losses.of_row(row), Some(Known::Loss(_, Quality::Exact))));
}

#[test]
fn a_measures_the_marks_or_the_group() {
    let (mut driver, state) = desk(SMALL, (80, 24));
    driver.keys("j a");
    assert_eq!(state.asked.borrow().len(), 3);
    assert!(state.asked.borrow().iter().all(|(_, p)| *p == Priority::Marked));
    driver.answers();
    driver.keys("a");
    assert_eq!(state.asked.borrow().len(), 0, "known already");
    driver.keys("A");
    assert_eq!(state.asked.borrow().len(), 4);
}

#[test]
fn a_failed_trial_is_data() {
    let (mut driver, state) = desk(SMALL, (120, 30));
    *state.broken.borrow_mut() = Some("a worker stopped: no message".into());
    driver.keys("G l l").settle();
    let screen = driver.screen();
    assert!(screen.contains("failed!") && screen.contains("the trial failed: a worker stopped"), "{screen}");
    assert_eq!(state.asked.borrow().len(), 0, "it is not asked for ever again");
}

#[test]
fn converting_fills_the_tree_with_final_losses() {
    let (mut driver, state) = desk(SMALL, (80, 24));
    driver.keys("c Enter");
    let stage = state.job.borrow().clone().unwrap();
    assert!(driver.screen().contains("converting   0 %"));
    let row = driver.app.board.plan.rows.last().unwrap().clone();
    stage.losses.borrow_mut().push((row.name.clone(), fake::loss(&row.action)));
    {
        let mut p = stage.progress.borrow_mut();
        (p.bytes_done, p.elapsed, p.current) = (370, 5.0, "blocks.0.ff.weight".into());
    }
    driver.pass(100);
    let screen = driver.screen();
    assert!(screen.contains("converting  37 % ▕███████▍") && screen.contains("0:09 left · blocks.0"), "{screen}");
    let at = driver.app.board.find(&row.name).unwrap();
    assert!(matches!(driver.app.losses.of_row(at), Some(Known::Loss(_, Quality::Written))));
    stage.progress.borrow_mut().state = JobState::Done("5.0 KiB in 0:08".into());
    driver.pass(100);
    let screen = driver.screen();
    assert!(screen.contains("./test-sdnq.safetensors is written: 5.0 KiB in 0:08"), "{screen}");
    assert!(driver.app.running_job().is_none());
}

#[test]
fn ctrl_c_asks_once_before_it_cancels() {
    let (mut driver, state) = desk(SMALL, (80, 24));
    driver.keys("c Enter Ctrl-c");
    let stage = state.job.borrow().clone().unwrap();
    assert!(driver.screen().contains("Cancel the conversion?") && !stage.cancelled.get());
    driver.keys("Esc");
    assert!(!stage.cancelled.get());
    driver.keys("Ctrl-c Ctrl-c");
    assert!(stage.cancelled.get());
    stage.progress.borrow_mut().state = JobState::Cancelled;
    driver.pass(100);
    assert!(driver.screen().contains("cancelled; ./test-sdnq.safetensors was not written"));
}

#[test]
fn with_nothing_running_ctrl_c_says_how_to_quit() {
    assert_eq!(says("Ctrl-c"), "nothing to cancel: q quits");
}

#[test]
fn a_refused_conversion_says_why_and_can_be_forced() {
    let (mut driver, state) = desk(SMALL, (80, 24));
    *state.refuse.borrow_mut() = Some("out.safetensors exists".into());
    driver.keys("c Enter");
    assert!(driver.screen().contains("! out.safetensors exists"));
    driver.keys("f Enter");
    assert!(state.job.borrow().is_some());
}

#[test]
fn the_path_of_a_conversion_can_be_changed() {
    let (mut driver, state) = desk(SMALL, (80, 24));
    driver.keys("c p Ctrl-u").text("x.gguf").keys("Enter");
    assert!(driver.screen().contains("writes safetensors, not GGUF"));
    driver.keys("p Ctrl-u").text("qy.safetensors").keys("Enter Enter");
    let stage = state.job.borrow().clone().unwrap();
    assert_eq!(stage.progress.borrow().output.display().to_string(), "qy.safetensors");
}

#[test]
fn quitting_asks_only_where_a_conversion_runs() {
    fn check(keys: &str, quits: bool) {
        let (mut driver, _) = desk(SMALL, (80, 24));
        driver.keys(keys);
        assert_eq!(driver.left == [Effect::Quit(0)], quits, "{keys}: {:?}", driver.left);
    }
    check("q", true);
    check("j a q", true);
    // What was not saved is kept, and said when the terminal is given back.
    check("x q", true);
    check("c Enter q", false);
    check("c Enter q Esc", false);
    check("c Enter q Ctrl-c", false);
    check("c Enter q q", true);
}

#[test]
fn another_model_is_opened_as_one_quits() {
    fn check(keys: &str, left: &[Effect]) {
        let (mut driver, _) = desk(SMALL, (80, 24));
        driver.keys(keys);
        assert_eq!(driver.left, left, "{keys}");
    }
    check("O", &[Effect::Another]);
    check("x O", &[Effect::Another]);
    check("c Enter O", &[]);
    check("c Enter O O", &[Effect::Another]);
    check("c Enter O Esc q q", &[Effect::Quit(0)]);
    let screen = after(SMALL, (80, 24), "c Enter O");
    assert!(screen.contains("Open another model while converting?"), "{screen}");
}

#[test]
fn the_profile_is_saved_under_the_name_it_has() {
    let (mut driver, state) = desk(SMALL, (80, 24));
    driver.keys("x Ctrl-s").text("a!").keys("Enter");
    assert!(driver.screen().contains("! `a!` is not a profile's name"));
    driver.keys("Ctrl-s").text("mine").keys("Enter");
    assert!(driver.screen().contains("saved mine.toml"));
    assert!(!driver.app.session.is_dirty());
    driver.keys("x Ctrl-s");
    assert_eq!(*state.saved.borrow(), ["mine", "mine"]);
}

#[test]
fn a_group_says_that_something_below_it_failed() {
    let (mut driver, state) = desk(SMALL, (80, 12));
    *state.broken.borrow_mut() = Some("no".into());
    driver.keys("j a").settle();
    let screen = driver.screen();
    assert!(screen.contains("failed!") && screen.contains("! 3 failed"), "{screen}");
}
