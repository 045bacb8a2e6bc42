//! What llama.cpp refuses of a GGUF file although its header is sound: layers, widths and tokens that its keys do not
//! tell as they are, and numbers that are none.
use std::collections::BTreeSet;

use rayon::prelude::*;

use super::diffusion::architectures;
use crate::core::dtype::StorageExt;
use crate::core::model::Encoding;
use crate::core::{Cancel, Error, Result, Tensor};
use crate::format::Opened;
use crate::format::gguf::Value;
use crate::quant::cast;
use crate::quant::ggml;
use crate::target::check::{Check, Findings};

/// Blocks that are looked at a time, or single numbers: a chunk is some hundreds of KiB at most.
const CHUNK: u64 = 1 << 11;

/// Architectures some of whose layers may have no tensor.
const HOLLOW: [&str; 1] = ["deci"];
/// Those whose table of tokens has a width of its own.
const OWN_WIDTH: [&str; 1] = ["wavtokenizer-dec"];
/// Those that others run too, with tokenizers of their own.
const ENCODERS: [&str; 2] = ["t5", "t5encoder"];

/// All checks.
///
/// # Errors
/// If a file cannot be read, or the work was asked to stop.
pub fn checks(opened: &Opened, cancel: &Cancel) -> Result<Vec<Check>> {
    let mut all = Vec::new();
    let pairs = opened.model.metadata();
    let architecture = pairs.get("general.architecture").copied().unwrap_or_default();
    // Adapters, projectors and the like are loaded by other rules; a file of a vocabulary has no tensors.
    let is_model = pairs.get("general.type").is_none_or(|kind| *kind == "model");
    let known = !architecture.is_empty() && architectures::named(architecture).is_none();
    if is_model && known && !opened.model.tensors.is_empty() {
        let file = File { opened, architecture };
        all.extend(file.layers());
        all.extend(file.width());
        all.extend(file.tokens());
    }
    all.extend(numbers(opened, cancel)?);
    Ok(all)
}

struct File<'a> {
    opened: &'a Opened,
    architecture: &'a str,
}

impl<'a> File<'a> {
    fn value(&self, key: &str) -> Option<&'a Value> {
        let mut pairs = self.opened.gguf.iter().flat_map(|h| &h.keys);
        pairs.find(|p| *p.key == *key.as_bytes()).map(|p| &p.value)
    }

    /// A number of the architecture, with its key.
    fn number(&self, key: &str) -> (String, Option<u64>) {
        let key = format!("{}.{key}", self.architecture);
        let number = self.value(&key).and_then(Value::as_u64);
        (key, number)
    }

    fn table(&self) -> Option<&'a Tensor> {
        self.opened.model.tensors.iter().find(|t| t.name == "token_embd.weight")
    }

    /// The layers that there are, against the number of them.
    fn layers(&self) -> Vec<Check> {
        let mut found = Findings::new("layers");
        let number = |name: &str| -> Option<u64> {
            let name = name.strip_prefix("enc.").unwrap_or(name);
            name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
        };
        let layers: BTreeSet<u64> = self.opened.model.tensors.iter().filter_map(|t| number(&t.name)).collect();
        let (key, count) = self.number("block_count");
        let (Some(last), Some(count)) = (layers.last().copied(), count) else {
            if !layers.is_empty() {
                found
                    .error(format!("`{key}` is missing, and there are layers 0 to {}", layers.len().saturating_sub(1)));
            }
            return found.close("none");
        };
        if last >= count {
            let tensor = self.opened.model.tensors.iter().find(|t| number(&t.name) >= Some(count));
            let name = tensor.map_or("", |t| t.name.as_str());
            found.error(format!("`{key}` is {count}, and `{name}` is of a layer beyond: expected {}", last + 1));
        } else if let Some(missing) = (0..count).find(|n| !layers.contains(n))
            && !HOLLOW.contains(&self.architecture)
        {
            found.error(format!("`{key}` is {count}, and no tensor is of layer {missing}"));
        }
        found.close(format!("{count}, and all are there"))
    }

    /// Values of a token.
    fn width(&self) -> Vec<Check> {
        let mut found = Findings::new("width");
        let (key, width) = self.number("embedding_length");
        let Some(table) = self.table().filter(|_| !OWN_WIDTH.contains(&self.architecture)) else { return Vec::new() };
        match width {
            None => found.error(format!("`{key}` is missing")),
            Some(width) if width != table.cols() => found.error(format!(
                "`{key}` is {width}, and `{}` has shape {:?}: expected rows of {width}",
                table.name, table.shape
            )),
            Some(_) => {}
        }
        found.close(format!("{}, as the table of tokens has it", table.cols()))
    }

    /// The tokenizer, and the table that it speaks of.
    fn tokens(&self) -> Vec<Check> {
        const MODEL: &str = "tokenizer.ggml.model";
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let Some(table) = self.table() else { return Vec::new() };
        let mut found = Findings::new("tokens");
        let rows = table.rows();
        let kind = self.value(MODEL).and_then(Value::as_str);
        let count = self.value(TOKENS).map(Value::count);
        match (kind, count) {
            (None, None) if ENCODERS.contains(&self.architecture) => {
                found.warn(format!("`{MODEL}` and `{TOKENS}` are missing: llama.cpp does not load it"));
            }
            (None, None) => found.error(format!("`{MODEL}` and `{TOKENS}` are missing")),
            (None, Some(_)) => found.error(format!("`{MODEL}` is missing, and `{TOKENS}` is there")),
            // For models whose tokens others make.
            (Some("none" | "no_vocab"), _) => {}
            (Some(kind), None) => found.error(format!("`{TOKENS}` is missing, and `{MODEL}` is {kind}")),
            (Some(_), Some(count)) if count != rows => found.error(format!(
                "`{TOKENS}` has {count}, and `{}` has shape {:?}: expected {count} rows",
                table.name, table.shape
            )),
            (Some(_), Some(_)) => {}
        }
        found.close(format!("a row of the table for each of {rows}"))
    }
}

/// Whether every value is a number: a scale that is none spoils its whole block.
fn numbers(opened: &Opened, cancel: &Cancel) -> Result<Vec<Check>> {
    let mut found = Findings::new("numbers");
    let odd: Vec<_> = opened.model.tensors.par_iter().map(|t| odd(opened, t, cancel)).collect::<Result<_>>()?;
    let odd = opened.model.tensors.iter().zip(odd).filter_map(|(tensor, odd)| Some((tensor, odd?)));
    for (tensor, (at, value)) in odd {
        let ty = tensor.dtype_name();
        let (name, cols) = (&tensor.name, tensor.cols().max(1));
        found.error(format!("`{name}` ({ty}) has {value} at row {}, column {}", at / cols, at % cols));
    }
    Ok(found.close("all are finite"))
}

/// How a tensor's bytes become values.
enum Coding {
    Blocks(ggml::Type),
    Plain(crate::core::Storage),
}

/// The first value of a tensor that is not finite, and where it is.
fn odd(opened: &Opened, tensor: &Tensor, cancel: &Cancel) -> Result<Option<(u64, f32)>> {
    let (array, coding) = match &tensor.encoding {
        Encoding::Plain(i) if tensor.storage.is_float() => (*i, Coding::Plain(tensor.storage)),
        Encoding::Packed { recipe, parts } => match (parts.first(), ggml::Type::named(recipe.dtype.as_str())) {
            (Some(part), Some(ty)) => (part.array, Coding::Blocks(ty)),
            _ => return Ok(None),
        },
        Encoding::Plain(_) => return Ok(None),
    };
    let missing = || Error::failed(format!("tensor `{}` lies nowhere", tensor.name));
    let span = opened.model.stored.get(array as usize).map(|s| s.span).ok_or_else(missing)?;
    let blob = opened.blobs.get(span.file as usize).ok_or_else(missing)?;
    let (block, size) = match coding {
        Coding::Blocks(ty) => (ty.block() as u64, ty.bytes() as u64),
        Coding::Plain(storage) => (1, storage.bytes().unwrap_or(1).max(1)),
    };
    let chunk = CHUNK * if block == 1 { 32 } else { 1 } * size;
    let (mut at, mut bytes, mut values) = (0, Vec::new(), Vec::new());
    while at < span.len {
        cancel.check()?;
        let len = chunk.min(span.len - at);
        bytes.resize(len as usize, 0);
        values.resize((len / size * block) as usize, 0.0f32);
        blob.read_at(span.offset + at, &mut bytes)?;
        match coding {
            Coding::Blocks(ty) => ty.decode(&bytes, &mut values),
            Coding::Plain(storage) if cast::decode(storage, &bytes, &mut values) => {}
            Coding::Plain(_) => return Ok(None),
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Ok(Some((at / size * block + i as u64, values.get(i).copied().unwrap_or(f32::NAN))));
        }
        at += len;
    }
    Ok(None)
}
