//! A large model's desk: plans are made aside, and what is typed meanwhile is neither lost nor done out of order.
use super::*;

/// What was chosen, what is marked, where the cursor is, what the last line says, and how large what is converted becomes.
fn state(driver: &mut Driver) -> (String, Vec<u32>, usize, String, Vec<u64>) {
    let says = driver.screen().lines().nth(29).unwrap_or_default().to_owned();
    let app = &driver.app;
    let jobs = app.jobs.iter().map(|j| j.board.totals.bytes_after).collect();
    (app.session.profile.to_text(), app.session.marks.iter().map(|id| id.0).collect(), app.cursor, says, jobs)
}

#[test]
fn keys_typed_ahead_do_what_they_do_one_by_one() {
    fn check(keys: &str) {
        let (mut at_once, _) = desk_with(SMALL, preset::by_name("common"), (120, 30));
        at_once.keys(keys).settle();
        let (mut ahead, _) = desk_with(SMALL, preset::by_name("common"), (120, 30));
        ahead.app.aside.apart = true;
        ahead.press(keys);
        ahead.land();
        ahead.settle();
        assert_eq!(state(&mut ahead), state(&mut at_once), "{keys}");
    }
    check("G x");
    check("G x k x j x u u U");
    check("G x k l x j x");
    check("= j j j Space j Space x t u 4 Enter u R");
    check("G x g g x");
    check("P Space j Space u u Esc G x");
    check("E n a t t n = k e e p Enter J x Esc x");
    check("T f l o a t Enter u G x");
    check("D u i n t 4 Enter G x c Esc x");
    check("G x / f f Enter x Esc Esc Z Enter");
    check("G x B x d Esc x");
    check("G r 1 6 Enter H 6 4 Enter b y k p");
    // The table that Enter takes from is of the tensor that the cursor has come to.
    check("= j j j x j Tab j Enter");
    check("= j j j Tab j Enter j j Enter u");
    // What is converted is what was chosen then.
    check("G x c Esc x");
    check("G x Ctrl-s n Enter x");
    // The rule that is removed is the one that the cursor has come to.
    check("E n q = k e e p Enter n k = k e e p Enter n f = k e e p Enter k k J j x Esc");
    check("E n q = k e e p Enter n k = k e e p Enter x k x Esc");
}

#[test]
fn a_plan_that_nobody_has_seen_is_not_agreed_to() {
    let (mut driver, state) = desk(SMALL, (120, 30));
    driver.app.aside.apart = true;
    driver.press("G x c j Enter Enter");
    driver.land();
    assert!(state.job.borrow().is_none());
    let screen = driver.screen();
    assert!(
        screen.contains("┌ Convert") && screen.contains("this is what would be done: Enter again does it"),
        "{screen}"
    );
    driver.keys("Enter");
    assert!(state.job.borrow().is_some());
}

#[test]
fn a_look_around_does_not_wait_for_the_plan() {
    let (mut driver, _) = desk(SMALL, (120, 30));
    driver.app.aside.apart = true;
    let check = |driver: &mut Driver, keys: &str, waits: bool, cursor: usize| {
        driver.press(keys);
        assert!(driver.app.aside.is_busy());
        assert_eq!((driver.app.aside.holds(), driver.app.cursor), (waits, cursor), "{keys}");
    };
    check(&mut driver, "G x", false, 3);
    check(&mut driver, "k", false, 2);
    check(&mut driver, "g g", false, 0);
    check(&mut driver, "Enter G", false, 1);
    // What is pressed after a change comes after it.
    check(&mut driver, "x", true, 1);
    check(&mut driver, "k", true, 1);
    driver.land();
    assert_eq!(driver.app.cursor, 0);
    // The second x took the first back.
    let set = |driver: &Driver| driver.app.session.settings().overrides.keys().cloned().collect::<Vec<_>>();
    assert!(set(&driver).is_empty());
    driver.keys("u");
    assert_eq!(set(&driver), ["embed.weight"]);
}

#[test]
fn the_what_if_table_of_a_large_model_comes_later() {
    let (mut driver, _) = desk(SMALL, (120, 40));
    driver.app.aside.apart = true;
    let lines = |driver: &Driver| driver.app.what_if.shown().count();
    driver.press("G");
    driver.pass(100);
    assert!(driver.app.aside.is_looking() && !driver.app.aside.is_busy());
    assert_eq!(lines(&driver), 0);
    // Nothing waits for it, and what it was about may be left meanwhile.
    driver.press("g g = j j j");
    assert!(!driver.app.aside.holds());
    driver.pass(100);
    driver.land();
    driver.pass(100);
    driver.land();
    let id = driver.app.tensor().expect("a tensor");
    assert_eq!(driver.app.what_if.ids, [id]);
    assert!(lines(&driver) > 3);
    // Keys that are meant for it wait.
    driver.press("k W j Enter");
    assert!(driver.app.aside.is_busy() && driver.app.aside.holds());
    driver.land();
    assert!(!driver.app.session.settings().overrides.is_empty());
}

#[test]
fn what_takes_longer_than_a_moment_is_said() {
    let (mut driver, _) = desk(SMALL, (120, 30));
    driver.app.aside.apart = true;
    let header = |driver: &mut Driver| driver.screen().lines().next().unwrap_or_default().contains("planning…");
    driver.press("G x");
    assert!(!header(&mut driver));
    driver.app.now += std::time::Duration::from_millis(100);
    assert!(header(&mut driver));
    driver.press("x j");
    let screen = driver.screen();
    assert!(screen.contains("planning… 2 keys wait"), "{screen}");
    driver.land();
    assert!(!header(&mut driver));
}

#[test]
fn a_large_model_is_seen_before_its_plan() {
    let (session, fake, _) = opened(SMALL, None);
    let mut driver = Driver::unplanned(session, fake, (120, 30));
    let screen = driver.screen();
    assert!(screen.contains("planning…") && screen.contains("embed.weight"), "{screen}");
    // Before it, too, one can look around, and what is more than that waits.
    driver.press("= j G x");
    assert!(driver.app.aside.holds());
    driver.land();
    driver.pass(100);
    driver.settle();
    let screen = driver.screen();
    assert!(!screen.contains("planning…") && screen.contains("exclude embed.weight"), "{screen}");
    assert!(screen.contains("mean MSE"), "{screen}");
}

#[test]
fn a_plan_that_cannot_be_made_ends_the_desk_with_its_reason() {
    let (session, mut fake, _) = opened(SMALL, None);
    fake.refuses = true;
    let mut driver = Driver::unplanned(session, fake, (120, 30));
    driver.land();
    let why = driver.app.failed.take().map(|e| e.to_string());
    assert_eq!(why.as_deref(), Some("these settings make no plan"));
}
