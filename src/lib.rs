//! mixdown: a mixing desk for model weights.
//!
//! Layers, top to bottom; each imports only those below it:
//!
//! | layer | what it is |
//! |---|---|
//! | [`cli`], [`tui`] | the two faces: commands and the desk |
//! | [`engine`], [`session`] | threads; what the person has chosen |
//! | [`target`] | families of output files: dtypes, encode and decode, names, metadata, plans |
//! | [`quant`], [`format`](mod@format) | arithmetic on slices; bytes on disk |
//! | [`core`](mod@core) | the domain: model, tree, recipe, rules, plan, loss |
//!
//! The conversion as a pure function in memory is [`target::state_dict::convert_state_dict`].
pub mod cli;
pub mod core;
pub mod engine;
pub mod format;
pub mod quant;
pub mod session;
pub mod target;
pub mod tui;
