//! temp
use crate::{core::*, engine::Limits, format::Opened, session::Profile};
use std::sync::Arc;
pub fn run(_: Arc<Opened>, _: Profile, _: Limits) -> Result<u8> {
    Ok(0)
}
