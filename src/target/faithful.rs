//! Whether a file is a faithful quantization of another: nothing lost but bits.
use std::collections::BTreeMap;

use super::check::{Check, Level};
use super::gguf::diffusion::{architectures, types};
use super::gguf::mixtures::{self, Hyper, Kind, Mixture, Options, Source};
use super::gguf::sheet::type_of;
use super::sdnq::layers;
use crate::core::model::Encoding;
use crate::core::{Model, Result, Tensor};
use crate::format::Opened;
use crate::format::gguf::Type;

/// A key of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// For people; long values are cut.
    pub shown: String,
    /// Type and value as they lie in the file.
    pub raw: Vec<u8>,
}

fn check(name: &'static str, ok: bool, detail: impl Into<String>) -> Check {
    Check { name, level: if ok { Level::Ok } else { Level::Error }, detail: detail.into() }
}

/// The keys of a model's files; of several files the first that has one counts.
pub fn keys(opened: &Opened) -> BTreeMap<String, Key> {
    let mut all = BTreeMap::new();
    for pair in opened.gguf.iter().flat_map(|h| &h.keys) {
        let mut raw = Vec::new();
        pair.value.write(&mut raw);
        all.entry(pair.name().into_owned()).or_insert(Key { shown: pair.value.shown(), raw });
    }
    if opened.gguf.is_empty() {
        for (key, text) in opened.model.metadata() {
            all.insert(key.to_owned(), Key { shown: text.to_owned(), raw: text.as_bytes().to_vec() });
        }
    }
    all
}

/// Keys that quantizing must change, or whose value is about the file rather than the model.
fn may_change(key: &str) -> bool {
    const OWN: [&str; 5] =
        ["general.file_type", "general.quantization_version", "general.quantized_by", "general.alignment", "mixdown"];
    const BEGIN: [&str; 3] = ["split.", "quantize.imatrix.", "mixdown."];
    OWN.contains(&key) || BEGIN.iter().any(|b| key.starts_with(b))
}

/// All checks: `b` against the `a` that it was made from.
pub fn checks(a: &Opened, b: &Opened) -> Vec<Check> {
    let mut all = vec![survive(a, b), added(b), shapes(&a.model, &b.model), floats(&a.model, &b.model)];
    if !b.gguf.is_empty() {
        all.extend([types(&b.model), file_type(&b.model), offsets(b)]);
    }
    all
}

/// What llama.cpp fails on of a GGUF file by itself, or is misled by.
pub fn alone(b: &Opened) -> Vec<Check> {
    let architecture = match b.model.metadata().get("general.architecture") {
        Some(name) => check("architecture", true, *name),
        None => check("architecture", false, "`general.architecture` is missing: no loader knows what this is"),
    };
    let mut file_type = file_type(&b.model);
    if file_type.level == Level::Error {
        // It is for people: loaders go by the tensors' own types.
        file_type.level = Level::Warn;
    }
    vec![architecture, version(b), types(&b.model), file_type, offsets(b)]
}

fn version(b: &Opened) -> Check {
    let name = "quantization version";
    let packed = b.model.tensors.iter().any(|t| matches!(t.encoding, Encoding::Packed { .. }));
    match (b.model.numbers.get("general.quantization_version"), packed) {
        (Some(2), _) => check(name, true, "2"),
        (None, false) => check(name, true, "nothing is quantized"),
        (None, true) => check(name, false, "`general.quantization_version` is missing, and tensors are quantized"),
        (Some(n), _) => {
            check(name, false, format!("`general.quantization_version` is {n}, and ggml's blocks are of 2"))
        }
    }
}

fn survive(a: &Opened, b: &Opened) -> Check {
    let (mine, theirs) = (keys(a), keys(b));
    let (mut lost, mut changed, mut excepted) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in &mine {
        match theirs.get(key) {
            Some(other) if other.raw == value.raw => {}
            _ if may_change(key) => excepted.push(key.as_str()),
            Some(_) => changed.push(key.as_str()),
            None => lost.push(key.as_str()),
        }
    }
    let list = |what: &str, keys: &[&str]| (!keys.is_empty()).then(|| format!("{what}: {}", keys.join(", ")));
    let mut detail = vec![format!(
        "{} of {} keys are there as they were",
        mine.len() - lost.len() - changed.len() - excepted.len(),
        mine.len()
    )];
    detail.extend(list("missing", &lost));
    detail.extend(list("changed", &changed));
    detail.extend(list("changed as they must be", &excepted));
    check("keys survive", lost.is_empty() && changed.is_empty(), detail.join("; "))
}

fn added(b: &Opened) -> Check {
    const GGUF: [&str; 2] = ["general.quantization_version", "general.file_type"];
    const OURS: [&str; 7] = [
        "general.quantized_by",
        "mixdown.quantized",
        "mixdown.quantization_format",
        "mixdown.original_dtype",
        "mixdown.quantization_loss_mse",
        "mixdown.quantization_loss_max",
        "mixdown.version",
    ];
    let name = "quantization keys";
    let has = keys(b);
    if b.gguf.is_empty() {
        let described = has.contains_key(super::metadata::HEADER_KEY)
            || b.model.stored.iter().any(super::metadata::is_description)
            || b.model.quantization.is_some()
            || b.model.config.as_ref().is_some_and(|c| c.get("quantization_config").is_some());
        let detail = match described {
            true => "the file describes what was done to its layers",
            false => "nothing describes what was done to its layers",
        };
        return check(name, described, detail);
    }
    let ours = OURS.iter().any(|k| has.contains_key(*k));
    let wanted = GGUF.iter().chain(OURS.iter().filter(|_| ours));
    let missing: Vec<&str> = wanted.copied().filter(|k| !has.contains_key(*k)).collect();
    let detail = match (&missing[..], ours) {
        ([], true) => "all are there".to_owned(),
        ([], false) => "general.* are there; mixdown.* are not, so another tool wrote it".into(),
        (missing, _) => format!("missing: {}", missing.join(", ")),
    };
    check(name, missing.is_empty(), detail)
}

fn shapes(a: &Model, b: &Model) -> Check {
    let mut wrong = Vec::new();
    for tensor in &a.tensors {
        match b.find(&tensor.name).map(|id| b.tensor(id)) {
            // What SDNQ's strict loader refuses is left out.
            None if b.format == "sdnq" && layers::is_leftover(&tensor.name, &tensor.shape) => {}
            None => wrong.push(format!("`{}` is missing", tensor.name)),
            Some(other) if other.shape != tensor.shape => {
                wrong.push(format!("`{}` is {:?}, was {:?}", tensor.name, other.shape, tensor.shape));
            }
            Some(_) => {}
        }
    }
    for tensor in b.tensors.iter().filter(|t| a.find(&t.name).is_none()) {
        wrong.push(format!("`{}` is new", tensor.name));
    }
    few("tensors and shapes", wrong, format!("all {} tensors are there in their shapes", a.tensors.len()))
}

/// What was a number of one kind must not become one of another.
fn floats(a: &Model, b: &Model) -> Check {
    let pairs = a.tensors.iter().filter_map(|t| Some((t, b.tensor(b.find(&t.name)?))));
    let wrong = pairs.filter(|(x, y)| x.is_float() != y.is_float());
    let wrong = wrong.map(|(x, y)| format!("`{}` was {}, is {}", x.name, x.dtype_name(), y.dtype_name())).collect();
    few("kinds of numbers", wrong, "floats stay floats, integers integers".into())
}

fn types(b: &Model) -> Check {
    let mut counts: BTreeMap<Type, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for tensor in &b.tensors {
        match type_of(tensor) {
            Ok(ty) if matches!(ty, Type::Q8_1 | Type::Q8_K) => {
                wrong.push(format!("`{}` is {ty}, which is not for weights", tensor.name));
            }
            Ok(ty) => *counts.entry(ty).or_default() += 1,
            Err(e) => wrong.push(e.to_string()),
        }
    }
    let counted: Vec<String> = counts.iter().map(|(ty, n)| format!("{n} {ty} ({})", ty.id())).collect();
    few("type ids", wrong, format!("all are ggml's: {}", counted.join(", ")))
}

fn file_type(b: &Model) -> Check {
    /// The number was guessed, from the types, by a tool that was not told.
    const GUESSED: u64 = 1024;
    /// No mixture makes it, but a copy of a file may say so.
    const NVFP4: u64 = 39;
    let name = "file type";
    let Some(number) = b.numbers.get("general.file_type") else {
        return check(name, false, "`general.file_type` is missing");
    };
    if number & GUESSED != 0 || *number == NVFP4 {
        return check(name, true, format!("{number}: guessed from the tensors' types"));
    }
    let stated = u32::try_from(*number).ok().and_then(Mixture::from_number);
    let Some(mixture) = stated else {
        return check(name, false, format!("`general.file_type` is {number}, which llama.cpp does not have"));
    };
    // With `--pure` a file has the same number.
    let both = [false, true].map(|pure| given(b, mixture, pure));
    let others = |all: &[(&Tensor, Type)]| all.iter().filter(|(t, ty)| type_of(t).ok() != Some(*ty)).count();
    let expected = match both {
        [Ok(mixed), Ok(pure)] => {
            if others(&pure) < others(&mixed) {
                pure
            } else {
                mixed
            }
        }
        [Ok(expected), Err(_)] | [Err(_), Ok(expected)] => expected,
        [Err(e), Err(_)] => return check(name, false, format!("{mixture} ({number}): {e}")),
    };
    let others: Vec<&(&Tensor, Type)> = expected.iter().filter(|(t, ty)| type_of(t).ok() != Some(*ty)).collect();
    let (all, fitting) = (expected.len(), expected.len() - others.len());
    let detail = match others.first() {
        None => format!("{mixture} ({number}): all {all} tensors have the type that it gives them"),
        Some((tensor, ty)) => format!(
            "{mixture} ({number}), and {} of {all} tensors have other types than it gives, as if set by hand: `{}` for one is \
             {}, where it gives {ty}",
            others.len(),
            tensor.name,
            tensor.dtype_name()
        ),
    };
    // Single tensors may have been given another type; a file that is mostly something else is called wrongly.
    check(name, fitting * 2 >= all, detail)
}

/// The types that a mixture gives the tensors it speaks of.
fn given(b: &Model, mixture: Mixture, pure: bool) -> Result<Vec<(&Tensor, Type)>> {
    let mut all: Vec<(&Tensor, Source)> = Vec::new();
    for tensor in &b.tensors {
        let from = Some(type_of(tensor)?).filter(|t| !t.holds_weights()).unwrap_or(Type::F32);
        let dims = tensor.shape.iter().rev().copied().collect();
        all.push((tensor, Source { name: tensor.name.clone(), dims, from }));
    }
    mixtures::in_order(&mut all, |(_, source)| &source.name);
    let (tensors, sources): (Vec<&Tensor>, Vec<Source>) = all.into_iter().unzip();
    let arch = b.metadata().get("general.architecture").copied().unwrap_or_default().to_owned();
    let hyper = Hyper::read(&arch, |key| b.numbers.get(key).copied());
    let has_imatrix = b.numbers.contains_key("quantize.imatrix.entries_count");
    let options = Options { pure, has_imatrix, ..Options::new(mixture) };
    let choices = match architectures::named(&arch) {
        Some(architecture) => types::choose(architecture, &sources, &options, &|_| None, &|_| None),
        None => mixtures::choose(&hyper, &sources, &options, &|_| None)?,
    };
    Ok(tensors.into_iter().zip(choices).filter(|(_, c)| c.kind != Kind::Kept).map(|(t, c)| (t, c.ty)).collect())
}

fn offsets(b: &Opened) -> Check {
    // Reading a header has proved that every tensor lies within its file; what is odd was a warning.
    let mut wrong = Vec::new();
    for header in &b.gguf {
        for tensor in header.tensors.iter().filter(|t| !t.offset.is_multiple_of(header.alignment)) {
            let name = String::from_utf8_lossy(&tensor.name);
            wrong.push(format!("`{name}` lies at {}, no multiple of {}", tensor.offset, header.alignment));
        }
        wrong.extend(header.warnings.iter().cloned());
    }
    few("offsets", wrong, "every tensor lies aligned within its file, one after another".into())
}

/// The first of what is wrong, and how many more.
fn few(name: &'static str, wrong: Vec<String>, right: String) -> Check {
    const SHOWN: usize = 5;
    if wrong.is_empty() {
        return check(name, true, right);
    }
    let mut detail = wrong.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if wrong.len() > SHOWN {
        detail.push_str(&format!("; and {} more", wrong.len() - SHOWN));
    }
    check(name, false, detail)
}
