//! Profiles of other tools: their settings as ours, and ours as theirs.
pub mod ctq;
pub mod sdnq;
