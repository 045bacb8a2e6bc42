//! The desk from keys to screen, without a terminal: a model, keys, and what is then to be seen.
mod actions;
mod aside;
mod edits;
mod fake;
mod look;
mod monkey;
mod pages;
mod presets;
mod screens;
mod select;
mod sizes;
mod whatif;
mod work;

use super::testing::Driver;
use fake::{Fake, State, model};
use std::rc::Rc;
use std::sync::Arc;

use crate::core::{Dtype, Family, Patch, Settings};
use crate::session::preset::{self, Preset};
use crate::session::{Profile, Session};

/// A transformer of two blocks, small enough to be seen at once.
pub const SMALL: &str = "
    embed.weight 512x64
    blocks.0.attn.to_q.weight 64x64
    blocks.0.attn.to_k.weight 64x64
    blocks.0.ff.weight 256x64
    blocks.0.norm.weight 64
    blocks.1.attn.to_q.weight 64x64
    blocks.1.attn.to_k.weight 64x64
    blocks.1.ff.weight 256x64
    blocks.1.norm.weight 64
";

/// A desk over a model written as lines of name and shape, with a look behind its door.
pub fn desk(spec: &str, size: (u16, u16)) -> (Driver, Rc<State>) {
    desk_with(spec, None, size)
}

/// The same, over a preset's rules.
pub fn desk_with(spec: &str, preset: Option<Preset>, size: (u16, u16)) -> (Driver, Rc<State>) {
    let (session, fake, state) = opened(spec, preset);
    (Driver::new(session, fake, size).unwrap(), state)
}

/// What a desk stands over.
fn opened(spec: &str, preset: Option<Preset>) -> (Session, Box<Fake>, Rc<State>) {
    let model = Arc::new(model(spec));
    let mut settings = Settings::new(Family::Sdnq);
    settings.defaults = Patch { dtype: Some(Dtype::new("int8")), ..Patch::default() };
    let state = Rc::new(State::default());
    let fake = Fake { model: Arc::clone(&model), state: Rc::clone(&state), refuses: false };
    let mut profile = Profile::new(settings);
    profile.set_preset(preset);
    (Session::new(model, profile), Box::new(fake), state)
}

/// The screen after those keys, with every trial answered.
pub fn after(spec: &str, size: (u16, u16), keys: &str) -> String {
    let (mut driver, _) = desk(spec, size);
    driver.keys(keys).settle();
    driver.screen()
}

/// The bottom line after those keys.
pub fn says(keys: &str) -> String {
    let screen = after(SMALL, (80, 24), keys);
    screen.lines().nth(23).unwrap_or_default().trim().to_owned()
}
