//! mixdown: a mixing desk for model weights.
pub mod core;
pub mod quant;
pub mod session;
pub mod tui;
