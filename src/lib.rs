//! mixdown: a mixing desk for model weights.
pub mod cli;
pub mod core;
pub mod engine;
pub mod format;
pub mod quant;
pub mod session;
pub mod target;
pub mod tui;
