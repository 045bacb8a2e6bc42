//! Which keys mean which action.
use super::action::{Action, TABLE};
use super::key::{self, Key};

/// Keys bound to actions.
#[derive(Clone, Debug)]
pub struct Keymap(Vec<(Vec<Key>, Action)>);

/// What a sequence of keys means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// An action.
    Action(Action),
    /// The beginning of one or more bindings.
    Prefix,
    /// Nothing.
    Nothing,
}

impl Default for Keymap {
    fn default() -> Self {
        Self(
            TABLE
                .iter()
                .flat_map(|spec| spec.keys.iter().map(move |keys| (keys, spec.action)))
                .filter_map(|(keys, action)| Some((key::sequence(keys).ok()?, action)))
                .collect(),
        )
    }
}

impl Keymap {
    /// What these keys mean.
    pub fn find(&self, keys: &[Key]) -> Found {
        let mut found = Found::Nothing;
        for (bound, action) in &self.0 {
            if bound == keys {
                return Found::Action(*action);
            }
            if bound.starts_with(keys) {
                found = Found::Prefix;
            }
        }
        found
    }
    /// The first keys of an action, as they are written.
    pub fn keys_of(&self, action: Action) -> Option<String> {
        self.0.iter().find(|(_, a)| *a == action).map(|(keys, _)| key::show(keys))
    }
    /// All keys of an action, as they are written.
    pub fn all_keys_of(&self, action: Action) -> String {
        self.0.iter().filter(|(_, a)| *a == action).map(|(keys, _)| key::show(keys)).collect::<Vec<_>>().join("  ")
    }
    /// What can follow these keys.
    pub fn after(&self, keys: &[Key]) -> Vec<(String, Action)> {
        self.0
            .iter()
            .filter(|(bound, _)| bound.len() > keys.len() && bound.starts_with(keys))
            .map(|(bound, action)| (key::show(&bound[keys.len()..]), *action))
            .collect()
    }
    /// Bindings of which one hides another.
    pub fn conflicts(&self) -> Vec<(Action, Action)> {
        let mut out = Vec::new();
        for (i, (a, one)) in self.0.iter().enumerate() {
            for (b, other) in &self.0[i + 1..] {
                if a.starts_with(b) || b.starts_with(a) {
                    out.push((*one, *other));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_table_is_a_key() {
        let bound: usize = TABLE.iter().map(|s| s.keys.len()).sum();
        assert_eq!(Keymap::default().0.len(), bound);
    }

    #[test]
    fn no_two_actions_share_keys() {
        assert_eq!(Keymap::default().conflicts(), []);
    }

    #[test]
    fn rows_stand_in_the_order_of_the_actions() {
        for spec in TABLE {
            assert_eq!(spec.action.spec().name, spec.name);
        }
    }

    #[test]
    fn chords_are_found_key_by_key() {
        fn check(keys: &str, found: Found) {
            let keys = key::sequence(keys).unwrap();
            assert_eq!(Keymap::default().find(&keys), found);
        }
        check("g", Found::Prefix);
        check("g g", Found::Action(Action::Top));
        check("g x", Found::Nothing);
        check("G", Found::Action(Action::Bottom));
        check("F9", Found::Nothing);
    }
}
