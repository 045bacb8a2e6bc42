//! The page of keys is what the program itself says.
use mixdown::tui::action;

#[test]
fn the_page_of_keys_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/keys.md");
    let page = action::document();
    if std::env::var_os("MIXDOWN_BLESS").is_some() {
        std::fs::write(path, &page).expect("the page can be written");
    }
    let stale = std::fs::read_to_string(path).unwrap_or_default() != page;
    assert!(!stale, "docs/keys.md is stale: run the tests with MIXDOWN_BLESS=1");
}
