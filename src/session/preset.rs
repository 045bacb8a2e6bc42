//! temp
use crate::core::{Family, Rule};
#[derive(Clone, Debug)]
pub struct Preset {
    pub name: String,
    pub about: String,
    pub classes: Vec<String>,
    pub rules: Vec<Rule>,
}
pub fn for_class(_: Family, _: Option<&str>) -> Option<Preset> {
    None
}
pub fn by_name(_: &str) -> Option<Preset> {
    None
}
pub fn all() -> &'static [Preset] {
    &[]
}
