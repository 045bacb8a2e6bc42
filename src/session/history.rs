//! Undo and redo as a line of inverses.
use super::Edit;
use crate::core::Settings;

#[derive(Debug)]
struct Step {
    title: String,
    /// Leads back while it lies in the past, forward while it lies in the future.
    edit: Edit,
}

/// Every change since the session began, and those taken back.
#[derive(Debug, Default)]
pub struct History {
    past: Vec<Step>,
    future: Vec<Step>,
    /// Length of `past` at the last save; `None` when that state can no longer be reached.
    saved: Option<usize>,
    touched: bool,
}

impl History {
    /// Notes a change that was made; its inverse undoes it.
    pub fn push(&mut self, title: String, inverse: Edit) {
        let base = if self.touched { self.saved } else { Some(0) };
        self.touched = true;
        // What was saved may lie in the future that is now forgotten.
        self.saved = base.filter(|n| *n <= self.past.len());
        self.future.clear();
        self.past.push(Step { title, edit: inverse });
    }
    /// Another title for the last change.
    pub fn retitle(&mut self, title: &str) {
        if let Some(step) = self.past.last_mut().filter(|step| step.title != title) {
            step.title = title.to_owned();
        }
    }
    /// Takes the last change back.
    pub fn undo(&mut self, s: &mut Settings) -> Option<String> {
        let step = self.past.pop()?;
        let edit = step.edit.apply(s);
        self.future.push(Step { title: step.title.clone(), edit });
        Some(step.title)
    }
    /// Takes the last change back for good.
    pub fn take_back(&mut self, s: &mut Settings) {
        if let Some(step) = self.past.pop() {
            step.edit.apply(s);
        }
    }
    /// Makes it again.
    pub fn redo(&mut self, s: &mut Settings) -> Option<String> {
        let step = self.future.pop()?;
        let edit = step.edit.apply(s);
        self.past.push(Step { title: step.title.clone(), edit });
        Some(step.title)
    }
    /// Whether there is a change to take back.
    pub fn can_undo(&self) -> bool {
        !self.past.is_empty()
    }
    /// Whether there is a change to make again.
    pub fn can_redo(&self) -> bool {
        !self.future.is_empty()
    }
    /// Whether what stands differs from what was saved.
    pub fn is_dirty(&self) -> bool {
        self.touched && self.saved != Some(self.past.len())
    }
    /// What stands now is saved.
    pub fn mark_saved(&mut self) {
        self.touched = true;
        self.saved = Some(self.past.len());
    }
    /// What stands now was never saved.
    pub fn mark_unsaved(&mut self) {
        self.touched = true;
        self.saved = None;
    }
    /// Titles of every change in their order, those that were taken back too.
    pub fn titles(&self) -> impl Iterator<Item = &str> {
        self.past.iter().chain(self.future.iter().rev()).map(|s| s.title.as_str())
    }
    /// How many of these hold now.
    pub fn at(&self) -> usize {
        self.past.len()
    }
    /// How many of these held at the last save, where that state can still be reached.
    pub fn saved_at(&self) -> Option<usize> {
        if self.touched { self.saved } else { Some(0) }
    }
}
