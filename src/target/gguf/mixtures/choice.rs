//! A type for every tensor of a model.
use super::table::{Part, Seat, special};
use super::{Mixture, fallback, never};
use crate::core::{Error, Result};
use crate::format::gguf::Type;

/// What the choice needs to know of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hyper {
    /// `general.architecture`.
    pub arch: String,
    /// Layers, those for predicting more than one token included. Of a pruned model: before pruning.
    pub layers: u64,
    /// Query heads for each head of keys in the first layer; 0 where it has none.
    pub gqa: u64,
    /// Experts; 0 for a dense model.
    pub experts: u64,
    /// Whether the model counts as 70B, whose values are shared by eight heads.
    pub seventy: bool,
}

impl Hyper {
    /// From the file's keys. `number` gives a key's value as an integer, of an array its first, overrides first.
    ///
    /// Architectures that llama.cpp does not know, and files without these keys, count as dense with a head of keys for
    /// each head.
    pub fn read(arch: &str, number: impl Fn(&str) -> Option<u64>) -> Self {
        let key = |name: &str| number(&format!("{arch}.{name}"));
        let blocks = key("block_count").unwrap_or(0);
        let nextn = key("nextn_predict_layers").unwrap_or(0).min(blocks);
        let heads = key("attention.head_count").unwrap_or(1);
        let key_heads = key("attention.head_count_kv").unwrap_or(heads);
        let experts = key("expert_count").unwrap_or(0);
        let shared = heads != key_heads && experts != 8;
        let seventy = match arch {
            "llama" | "llama-embed" => blocks - nextn == 80 && shared,
            "deci" | "olmo" | "qwen2" => blocks - nextn == 80,
            "jais2" => blocks - nextn == 68,
            _ => false,
        };
        let layers = match arch {
            // A layer more, for the router.
            "graniteswitch" => (blocks - nextn).saturating_add(1),
            // The same layers, run more than once.
            "nanbeige" => match key("num_loops").unwrap_or(1) {
                0 | 1 => blocks,
                loops => (blocks - nextn).saturating_mul(loops),
            },
            _ => blocks,
        };
        let gqa = heads.checked_div(key_heads).unwrap_or(0);
        Self { arch: arch.to_owned(), layers, gqa, experts, seventy }
    }

    /// The layer that a feed-forward weight belongs to. Experts are not in order in a file, so there the name tells;
    /// none if it does not.
    pub(super) fn layer(&self, seat: &Seat) -> Option<u64> {
        match self.experts {
            0 | 1 => Some(seat.nth),
            _ => block(seat.name).and_then(|b| u64::try_from(b).ok()).filter(|b| *b < self.layers),
        }
    }
}

/// A tensor as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name in the output; of a pruned model the new one.
    pub name: String,
    /// Its dimensions, the length of a row first.
    pub dims: Vec<u64>,
    /// Its type.
    pub from: Type,
}

impl Source {
    /// Dimensions up to the last that is not 1; at least one.
    pub fn n_dims(&self) -> usize {
        self.dims.iter().rposition(|d| *d != 1).map_or(1, |i| i + 1)
    }
    /// Values in a row.
    pub fn cols(&self) -> u64 {
        self.dims.first().copied().unwrap_or(1)
    }
    /// Its matrices: 1, or its experts.
    pub fn matrices(&self) -> u64 {
        self.dims.iter().skip(2).fold(1, |n, d| n.saturating_mul(*d))
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The mixture.
    pub mixture: Mixture,
    /// `--pure`: every tensor gets the mixture's own type.
    pub pure: bool,
    /// `--output-tensor-type`.
    pub output_type: Option<Type>,
    /// `--token-embedding-type`.
    pub embedding_type: Option<Type>,
    /// `--leave-output-tensor`.
    pub leave_output: bool,
    /// `--allow-requantize`.
    pub allow_requantize: bool,
    /// Whether there is an importance matrix with any entry left. Some mixtures choose otherwise then, even for tensors
    /// that have no entry.
    pub has_imatrix: bool,
}

impl Options {
    /// A mixture and nothing else.
    pub fn new(mixture: Mixture) -> Self {
        Self {
            mixture,
            pure: false,
            output_type: None,
            embedding_type: None,
            leave_output: false,
            allow_requantize: false,
            has_imatrix: false,
        }
    }
}

/// A type that a person named for a tensor, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The type.
    pub ty: Type,
    /// What names it, for people: `--tensor-type attn_v=q8_0`.
    pub by: String,
}

/// What settled a tensor's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The mixture's own type.
    Default,
    /// A rule of the mixture.
    Mixture,
    /// A person.
    Named,
    /// Its rows do not fit the type that was meant.
    Fallback,
    /// It is never quantized, or should be left as it is.
    Kept,
}

/// A tensor's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The type in the output.
    pub ty: Type,
    /// What settled it.
    pub kind: Kind,
    /// Why, for people.
    pub why: String,
}

impl Choice {
    /// Whether the tensor's bytes stay as they are.
    pub fn copies(&self, source: &Source) -> bool {
        self.ty == source.from
    }
}

/// The types of all tensors, which must stand in [`in_order`] (or [`in_shards`]): some rules count. `named` says which
/// type a person named for a tensor.
///
/// Fails where rows do not fit a type for which there is no stand-in.
pub fn choose(
    model: &Hyper,
    tensors: &[Source],
    options: &Options,
    named: &dyn Fn(&str) -> Option<Named>,
) -> Result<Vec<Choice>> {
    let parts: Vec<Part> = tensors.iter().map(|t| Part::of(&t.name)).collect();
    let values = parts.iter().filter(|p| **p == Part::Value).count() as u64;
    let tied = !parts.contains(&Part::Output);
    let mut met = Counters::default();
    let mut choices = Vec::with_capacity(tensors.len());
    for (tensor, &part) in tensors.iter().zip(&parts) {
        let kept = kept(model, tensor, part, options);
        // Counted whoever settles the type, so that naming one tensor's type moves no other tensor.
        let nth = if kept.is_none() { met.next(part) } else { 0 };
        let choice = match kept {
            Some(why) => Choice { ty: tensor.from, kind: Kind::Kept, why },
            None => {
                let stacked = tensor.dims.get(2).is_some_and(|n| *n > 1);
                let seat = Seat { name: &tensor.name, part, cols: tensor.cols(), stacked, nth, values, tied };
                let wanted = wanted(&seat, model, options, named);
                fitted(tensor, wanted).map_err(|e| e.at(format!("`{}`", tensor.name)))?
            }
        };
        choices.push(choice);
    }
    Ok(choices)
}

/// Why a tensor stays as it is, if it does.
fn kept(model: &Hyper, tensor: &Source, part: Part, options: &Options) -> Option<String> {
    if options.mixture == Mixture::Copy {
        return Some("COPY leaves every tensor as it is".into());
    }
    if let Some(why) = never::reason(&model.arch, tensor) {
        return Some(format!("never quantized: {why}"));
    }
    if options.leave_output && part == Part::Output {
        return Some("`--leave-output-tensor`".into());
    }
    (!tensor.from.holds_weights()).then(|| format!("{} is not quantized", tensor.from))
}

/// The type that is meant for a tensor, before its rows are looked at.
fn wanted(seat: &Seat, model: &Hyper, options: &Options, named: &dyn Fn(&str) -> Option<Named>) -> Choice {
    let settled = |ty, why: &str| Choice { ty, kind: Kind::Named, why: why.to_owned() };
    let named = named(seat.name);
    // A second table of embeddings can be named by itself.
    let own = seat.name == "per_layer_token_embd.weight" && named.is_some();
    match (options.embedding_type, options.output_type) {
        (Some(ty), _) if seat.part == Part::TokenEmbedding && !own => return settled(ty, "`--token-embedding-type`"),
        (_, Some(ty)) if seat.part == Part::Output => return settled(ty, "`--output-tensor-type`"),
        _ => {}
    }
    if let Some(Named { ty, by }) = named {
        return settled(ty, &by);
    }
    let default = options.mixture.default_type();
    let special = if options.pure || !default.is_quantized() { None } else { special(seat, model, options) };
    match special {
        // A rule that says what the mixture says anyway is no departure.
        Some((ty, _)) if ty == default => {
            Choice { ty, kind: Kind::Default, why: format!("the type of {}", options.mixture) }
        }
        Some((ty, why)) => Choice { ty, kind: Kind::Mixture, why },
        None => Choice { ty: default, kind: Kind::Default, why: format!("the type of {}", options.mixture) },
    }
}

/// The choice with a type that the tensor's rows fit.
fn fitted(tensor: &Source, wanted: Choice) -> Result<Choice> {
    let ty = fallback(wanted.ty, tensor.cols())?;
    if ty == wanted.ty {
        return Ok(wanted);
    }
    let (cols, block) = (tensor.cols(), wanted.ty.block());
    let why = format!("fallback from {}: rows of {cols} are not whole blocks of {block}", wanted.ty);
    Ok(Choice { ty, kind: Kind::Fallback, why })
}

/// How many tensors of a kind the rule met.
#[derive(Default)]
struct Counters {
    values: u64,
    down: u64,
    gate: u64,
    up: u64,
}

impl Counters {
    fn next(&mut self, part: Part) -> u64 {
        let counter = match part {
            Part::Value => &mut self.values,
            Part::Down => &mut self.down,
            Part::Gate => &mut self.gate,
            Part::Up => &mut self.up,
            _ => return 0,
        };
        let nth = *counter;
        *counter += 1;
        nth
    }
}

/// Whether a tensor of that type is worth nothing without an importance matrix.
pub fn requires_imatrix(name: &str, ty: Type, mixture: Mixture) -> bool {
    use Type::*;
    if matches!(Part::of(name), Part::TokenEmbedding | Part::Output) {
        return false;
    }
    match ty {
        IQ3_XXS | IQ2_XXS | IQ2_XS | IQ2_S | IQ1_M | IQ1_S => true,
        // Two bits are bearable as part of Q2_K, which has three where it hurts.
        Q2_K => mixture == Mixture::Q2KS,
        _ => false,
    }
}

/// Refuses what should not be written: a tensor that is quantized already, unless that is allowed, and one that needs
/// an importance matrix but has no entry in it (`has_entry`, by name).
pub fn check(
    tensors: &[Source],
    choices: &[Choice],
    options: &Options,
    has_entry: &dyn Fn(&str) -> bool,
) -> Result<()> {
    for (tensor, choice) in tensors.iter().zip(choices).filter(|(t, c)| !c.copies(t)) {
        let (name, ty) = (&tensor.name, choice.ty);
        if tensor.from.is_quantized() && !options.allow_requantize {
            return Err(Error::usage(format!(
                "`{name}` is quantized already, to {}; start from the original, or say `--allow-requantize`",
                tensor.from
            )));
        }
        if requires_imatrix(name, ty, options.mixture) && !has_entry(name) {
            let what =
                if options.has_imatrix { "the importance matrix has no entry for it" } else { "give `--imatrix`" };
            return Err(Error::usage(format!("`{name}` to {ty} needs an importance matrix; {what}")));
        }
    }
    Ok(())
}

/// The number of the block that a name starts with.
pub(super) fn block(name: &str) -> Option<i64> {
    let rest = name.strip_prefix("blk.")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Sorts names as the output has them: what belongs to no block, then by block; in each by name.
pub fn in_order<T>(tensors: &mut [T], name: impl Fn(&T) -> &str) {
    tensors.sort_by(|a, b| {
        let key = |t| block_or_first(t);
        key(name(a)).cmp(&key(name(b)))
    });
}

fn block_or_first(name: &str) -> (i64, &[u8]) {
    // A name such as `blk.3` without more counts too: only the number is read.
    (block(name).unwrap_or(-1), name.as_bytes())
}

/// Sorts as the output has them with `--keep-split`: by input shard and offset in it.
pub fn in_shards<T>(tensors: &mut [T], place: impl Fn(&T) -> (u32, u64)) {
    tensors.sort_by_key(place);
}

#[cfg(test)]
mod tests;
