//! `--prune-layers`: which tensors go, and what becomes of the rest.
use crate::core::{Error, Result};

/// Layers of a model, some of which go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruning {
    /// Ascending, each once.
    gone: Vec<u64>,
    /// Layers before.
    before: u64,
}

impl Pruning {
    /// The layers of a list such as `3,7`, of a model of `layers` (`{arch}.block_count`).
    pub fn parse(list: &str, layers: u64) -> Result<Self> {
        let mut gone = Vec::new();
        for word in list.split(',') {
            let layer: u64 = word.trim().parse().map_err(|_| {
                Error::usage(format!("`{word}` is not the number of a layer; write `--prune-layers 3,7`"))
            })?;
            if layer >= layers {
                return Err(Error::usage(format!(
                    "there is no layer {layer} to prune: the model has {layers}, from 0 on"
                )));
            }
            gone.push(layer);
        }
        gone.sort_unstable();
        gone.dedup();
        if gone.len() as u64 == layers {
            return Err(Error::usage("pruning every layer leaves no model"));
        }
        Ok(Self { gone, before: layers })
    }

    /// The layers that stay, by their old numbers; arrays with an entry for each layer keep these.
    pub fn kept(&self) -> Vec<u64> {
        (0..self.before).filter(|l| !self.gone.contains(l)).collect()
    }
    /// Layers that stay: the new `{arch}.block_count`.
    pub fn block_count(&self) -> u64 {
        self.before - self.gone.len() as u64
    }

    /// A tensor's name in the output; none if it goes. What belongs to no layer keeps its name.
    pub fn rename(&self, name: &str) -> Option<String> {
        let Some((head, layer, tail)) = split(name) else {
            return Some(name.to_owned());
        };
        match self.gone.binary_search(&layer) {
            Ok(_) => None,
            Err(below) => Some(format!("{head}{}{tail}", layer - below as u64)),
        }
    }

    /// The name that a tensor of the output had before: importance matrices speak of that.
    pub fn original(&self, name: &str) -> String {
        let Some((head, layer, tail)) = split(name) else {
            return name.to_owned();
        };
        let old = self.gone.iter().fold(layer, |l, gone| if *gone <= l { l + 1 } else { l });
        format!("{head}{old}{tail}")
    }

    /// Whether an array of a key has an entry for each layer, of which only [`Pruning::kept`] should stay. A loader
    /// refuses an array that is longer than the model has layers.
    pub fn is_per_layer(&self, arch: &str, key: &str, len: u64) -> bool {
        let own = key.strip_prefix(arch).is_some_and(|rest| rest.starts_with('.'));
        own && len == self.before
    }
}

/// A name around the number of its layer: the first `blk.N.` in it.
fn split(name: &str) -> Option<(&str, u64, &str)> {
    let mut from = 0;
    while let Some(at) = name.get(from..)?.find("blk.") {
        let start = from + at + "blk.".len();
        let rest = name.get(start..)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(digits)?;
        if let (Ok(layer), true) = (number.parse(), tail.starts_with('.')) {
            return Some((name.get(..start)?, layer, tail));
        }
        from = start;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layers_go_and_the_rest_move_up() {
        let pruning = Pruning::parse("3, 7,3", 9).expect("a list");
        let check =
            |name: &str, expected: Option<&str>| assert_eq!(pruning.rename(name).as_deref(), expected, "{name}");
        check("token_embd.weight", Some("token_embd.weight"));
        check("blk.0.attn_q.weight", Some("blk.0.attn_q.weight"));
        check("blk.3.attn_q.weight", None);
        check("blk.4.attn_q.weight", Some("blk.3.attn_q.weight"));
        check("blk.7.attn_q.weight", None);
        check("blk.8.ffn_up.weight", Some("blk.6.ffn_up.weight"));
        check("v.blk.8.ffn_up.weight", Some("v.blk.6.ffn_up.weight"));
        check("blk.x.blk.8.up", Some("blk.x.blk.6.up"));
        assert_eq!(pruning.block_count(), 7);
        assert_eq!(pruning.kept(), [0, 1, 2, 4, 5, 6, 8]);
        assert!(pruning.is_per_layer("llama", "llama.attention.head_count", 9));
        assert!(!pruning.is_per_layer("llama", "llama.rope.dimension_sections", 4));
        assert!(!pruning.is_per_layer("llama", "tokenizer.ggml.tokens", 9));
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        for list in ["", "x", "-1", "9", "1,,2", "0,1,2,3,4,5,6,7,8"] {
            assert!(Pruning::parse(list, 9).is_err(), "{list}");
        }
    }

    proptest! {
        #[test]
        fn names_lead_back(gone in proptest::collection::btree_set(0u64..20, 1..19), layer in 0u64..20) {
            let list: Vec<String> = gone.iter().map(u64::to_string).collect();
            let pruning = Pruning::parse(&list.join(","), 20).expect("a list");
            let name = format!("blk.{layer}.attn_v.weight");
            match pruning.rename(&name) {
                Some(new) => prop_assert_eq!(pruning.original(&new), name),
                None => prop_assert!(gone.contains(&layer)),
            }
        }
    }
}
