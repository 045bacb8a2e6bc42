//! mixdown: a mixing desk for model weights.
pub mod quant;
