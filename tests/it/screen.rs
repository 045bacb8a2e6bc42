//! The desk over the real engine and the built-in model, without a terminal.
use std::sync::Arc;

use mixdown::core::{Family, Settings};
use mixdown::engine::Limits;
use mixdown::format::demo;
use mixdown::session::{Profile, Session};
use mixdown::target;
use mixdown::tui::Live;
use mixdown::tui::testing::Driver;

fn desk(size: (u16, u16)) -> Driver {
    let opened = Arc::new(demo::open().expect("the built-in model"));
    let session = Session::new(Arc::clone(&opened.model), Profile::new(Settings::new(Family::Sdnq)));
    let live = Live::new(opened, Limits::default(), session.settings().clone(), || {}).expect("workers");
    Driver::new(session, Box::new(live), size).expect("a desk")
}

#[test]
fn every_dtype_of_every_target_can_be_picked_and_measured() {
    let mut d = desk((120, 40));
    for family in Family::ALL {
        d.keys("T").text(family.name()).keys("Enter");
        if d.app.session.settings().target != family {
            // Of a language model there is no file of Nunchaku's.
            assert_eq!(family, Family::Nunchaku);
            continue;
        }
        for dtype in target::get(family).dtypes() {
            d.keys("g g Ctrl-a t").text(dtype.name.as_str()).keys("Enter Esc A").settle();
            let screen = d.screen();
            let wants_more = dtype.about.contains("needs an importance matrix");
            assert!(wants_more || !screen.contains("failed"), "{family} {}:\n{screen}", dtype.name);
        }
    }
}

#[test]
fn fewer_bits_lose_more() {
    let mut d = desk((120, 40));
    let mut last = 0.0;
    for dtype in ["int8", "int6", "int4", "int2"] {
        d.keys("g g Ctrl-a t").text(dtype).keys("Enter Esc A").settle();
        let all = 0..d.app.session.model.tensors.len();
        let sums = d.app.losses.sums(&all);
        assert_eq!(u64::from(sums.measured), d.app.board.totals.quantized, "{dtype}");
        assert!(sums.relative_error() > last, "{dtype}");
        last = sums.relative_error();
    }
}
