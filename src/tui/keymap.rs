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

/// Keys that a person bound to an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The action.
    pub action: Action,
    /// Its keys, as far as they are keys.
    pub keys: Vec<Vec<Key>>,
    /// Whether it is to have none.
    pub unbinds: bool,
    /// The line where that is written.
    pub line: usize,
}

/// Keys that could not be bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// The action.
    pub action: Action,
    /// The keys.
    pub keys: Vec<Key>,
    /// What is in the way.
    pub other: Action,
    /// Its keys.
    pub there: Vec<Key>,
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
    /// Whether these, as they are written, are keys of an action.
    pub fn has(&self, action: Action, keys: &str) -> bool {
        self.0.iter().any(|(k, a)| *a == action && key::show(k) == keys)
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
    /// The defaults with a person's bindings in place of those of the same actions. What cannot be is left out and told:
    /// keys that mean something else already, or are the beginning of keys that do.
    ///
    /// An action none of whose keys could be had keeps its own, as far as they are free.
    pub fn with(bindings: &[Binding]) -> (Self, Vec<Conflict>) {
        let bound = |action| bindings.iter().any(|b| b.action == action);
        let mut map = Self(Self::default().0.into_iter().filter(|(_, action)| !bound(*action)).collect());
        let mut conflicts = Vec::new();
        for binding in bindings {
            for keys in &binding.keys {
                match map.in_the_way(keys) {
                    // The same keys twice for one action are only said twice.
                    Some((there, action)) if action == binding.action && there == *keys => {}
                    Some((there, other)) => {
                        conflicts.push(Conflict { action: binding.action, keys: keys.clone(), other, there });
                    }
                    None => map.0.push((keys.clone(), binding.action)),
                }
            }
        }
        for binding in bindings.iter().filter(|b| !b.unbinds) {
            if map.keys_of(binding.action).is_none() {
                for (keys, action) in Self::default().0.into_iter().filter(|(_, a)| *a == binding.action) {
                    if map.in_the_way(&keys).is_none() {
                        map.0.push((keys, action));
                    }
                }
            }
        }
        (map, conflicts)
    }
    /// The binding that these keys would hide, or be hidden by.
    fn in_the_way(&self, keys: &[Key]) -> Option<(Vec<Key>, Action)> {
        self.0.iter().find(|(bound, _)| bound.starts_with(keys) || keys.starts_with(bound)).cloned()
    }
    /// The keys of an action, or its name where it has none.
    pub fn name(&self, action: Action) -> String {
        self.keys_of(action).unwrap_or_else(|| action.spec().name.into())
    }
    /// A reason with the desk's keys for the command line's flags.
    pub fn for_flags(&self, reason: &str) -> String {
        let flags = [
            ("--quant-embedding", Action::QuantEmbedding),
            ("--quant-conv", Action::QuantConv),
            ("`--imatrix`", Action::Imatrix),
            ("--imatrix", Action::Imatrix),
        ];
        let mut said = reason.to_owned();
        for (flag, action) in flags {
            if said.contains(flag) {
                said = said.replace(flag, &self.command(action));
            }
        }
        said
    }
    /// The keys of an action or, where it has none, what is typed to find it.
    pub fn command(&self, action: Action) -> String {
        self.keys_of(action).unwrap_or_else(|| {
            let name = action.spec().name;
            let palette = self.name(Action::Palette);
            let gap = if palette.chars().count() > 1 { " " } else { "" };
            format!("`{palette}{gap}{}`", name.rsplit('.').next().unwrap_or(name))
        })
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

    fn bind(action: Action, keys: &[&str]) -> Binding {
        let keys: Vec<_> = keys.iter().map(|k| key::sequence(k).unwrap()).collect();
        Binding { action, unbinds: keys.is_empty(), keys, line: 1 }
    }

    #[test]
    fn a_persons_keys_take_the_place_of_the_actions_own() {
        fn check(bindings: &[Binding], means: &[(&str, Found)]) {
            let (map, conflicts) = Keymap::with(bindings);
            assert_eq!(conflicts, []);
            assert_eq!(map.conflicts(), []);
            for (keys, found) in means {
                assert_eq!(map.find(&key::sequence(keys).unwrap()), *found, "{keys}");
            }
        }
        let does = Found::Action;
        check(&[bind(Action::Dtype, &["F2"])], &[("F2", does(Action::Dtype)), ("t", Found::Nothing)]);
        check(&[bind(Action::Dtype, &["t", "F2"])], &[("F2", does(Action::Dtype)), ("t", does(Action::Dtype))]);
        check(&[bind(Action::Dtype, &[])], &[("t", Found::Nothing)]);
        // Two that change places.
        check(
            &[bind(Action::Dtype, &["s"]), bind(Action::GroupSize, &["t"])],
            &[("s", does(Action::Dtype)), ("t", does(Action::GroupSize))],
        );
        // Keys that were freed can be had, and chords can be new.
        check(
            &[bind(Action::Undo, &[]), bind(Action::Jobs, &["u u"])],
            &[("u", Found::Prefix), ("u u", does(Action::Jobs))],
        );
    }

    #[test]
    fn what_is_in_the_way_stays() {
        fn check(bindings: &[Binding], told: &str) {
            let (map, conflicts) = Keymap::with(bindings);
            let tell = |c: &Conflict| {
                let (action, other) = (c.action.spec().name, c.other.spec().name);
                format!("{action} {} / {other} {}", key::show(&c.keys), key::show(&c.there))
            };
            assert_eq!(conflicts.iter().map(tell).collect::<Vec<_>>().join("; "), told);
            assert_eq!(map.conflicts(), []);
            assert_eq!(map.keys_of(Action::Quit).as_deref(), Some("q"), "what was in the way still works");
        }
        check(&[bind(Action::Dtype, &["q"])], "recipe.dtype q / program.quit q");
        check(&[bind(Action::Dtype, &["q t"])], "recipe.dtype q t / program.quit q");
        check(&[bind(Action::Dtype, &["g"])], "recipe.dtype g / move.top g g");
        check(&[bind(Action::Dtype, &["F2"]), bind(Action::Jobs, &["F2"])], "work.jobs F2 / recipe.dtype F2");
        check(&[bind(Action::Dtype, &["F2", "F2"])], "");
    }

    #[test]
    fn who_gets_no_key_keeps_its_own() {
        let (map, _) = Keymap::with(&[bind(Action::Dtype, &["q"])]);
        assert_eq!(map.keys_of(Action::Dtype).as_deref(), Some("t"));
        let (map, _) = Keymap::with(&[bind(Action::Dtype, &["q"]), bind(Action::Jobs, &["t"])]);
        assert_eq!(map.keys_of(Action::Dtype), None, "somebody else has them");
        assert_eq!(map.name(Action::Dtype), "recipe.dtype");
    }

    #[test]
    fn reasons_name_keys_not_flags() {
        fn check(map: &Keymap, reason: &str, expected: &str) {
            assert_eq!(map.for_flags(reason), expected);
        }
        let own = Keymap::default();
        check(
            &own,
            "an embedding: quantized with --quant-embedding",
            "an embedding: quantized with `:quant_embedding`",
        );
        check(&own, "IQ2_S needs one; give `--imatrix`", "IQ2_S needs one; give I");
        check(&own, "it has one dimension", "it has one dimension");
        let (bound, _) = Keymap::with(&[bind(Action::QuantConv, &["F3"]), bind(Action::Palette, &["Ctrl-p"])]);
        check(&bound, "a convolution: quantized with --quant-conv", "a convolution: quantized with F3");
        check(&bound, "quantized with --quant-embedding", "quantized with `Ctrl-p quant_embedding`");
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
