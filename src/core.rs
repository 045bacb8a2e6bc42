//! The domain: what a model is, what should become of each tensor, and what that costs.
//!
//! Nothing here opens a file, starts a thread, reads a clock or draws on a terminal.
pub mod cancel;
pub mod dtype;
pub mod error;
pub mod histogram;
pub mod imatrix;
pub mod loss;
pub mod model;
pub mod name;
pub mod options;
pub mod plan;
pub mod profile;
pub mod recipe;
pub mod rules;
pub mod tradeoff;
pub mod tree;
pub mod units;

pub use cancel::Cancel;
pub use dtype::{Dtype, Storage};
pub use error::{Error, Result};
pub use loss::{Loss, LossSums};
pub use model::{Model, Tensor, TensorId};
pub use plan::{Plan, Row};
pub use recipe::{Family, Patch, Recipe, ScaleSearch};
pub use rules::{Rule, Settings};
