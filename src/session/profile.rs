//! temp
use crate::core::*;
#[derive(Clone, Debug, Default)]
pub enum PresetChoice {
    #[default]
    Automatic,
    None,
    Named(String),
}
#[derive(Clone, Debug)]
pub struct Profile {
    pub settings: Settings,
    pub name: Option<String>,
    pub preset: PresetChoice,
}
impl Profile {
    pub fn new(settings: Settings) -> Self {
        Self { settings, name: None, preset: PresetChoice::Automatic }
    }
    pub fn parse(_: &str, _: &str, _: &dyn Fn(Family, &str) -> Result<Dtype>) -> Result<Self> {
        Err(Error::failed("temp"))
    }
    pub fn to_text(&self) -> String {
        String::new()
    }
    pub fn set_preset(&mut self, p: Option<super::preset::Preset>) {
        self.settings.preset_name = p.as_ref().map(|p| p.name.clone());
        self.settings.preset = p.map(|p| p.rules).unwrap_or_default();
    }
}
