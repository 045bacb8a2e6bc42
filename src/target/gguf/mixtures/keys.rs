//! What quantizing does to a file's keys, in llama-quantize's order.
use super::Mixture;
use crate::core::{Error, Result};
use crate::format::gguf::{Pair, Type, Value, split};

/// One change to the list of keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// The key goes.
    Remove(&'static str),
    /// The key goes from where it was, and comes last.
    Append(Pair),
}

impl Edit {
    /// Makes the change.
    pub fn apply(self, keys: &mut Vec<Pair>) {
        match self {
            Self::Remove(key) => keys.retain(|p| *p.key != *key.as_bytes()),
            Self::Append(pair) => {
                keys.retain(|p| p.key != pair.key);
                keys.push(pair);
            }
        }
    }
}

/// What is recorded of an importance matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imatrix {
    /// The name of its file; without folders, as files travel.
    pub file: String,
    /// The first text that it was made with, if it says.
    pub dataset: Option<String>,
    /// Entries that are left after `--include-weights` and `--exclude-weights`.
    pub entries: u32,
    /// Chunks of text it was made with; 0 if it does not say.
    pub chunks: u32,
}

/// The version of ggml's block layouts.
pub const QUANTIZATION_VERSION: u32 = 2;

/// The changes, to be made one after another: `file_type` is [`Mixture::number`] or [`copied_file_type`],
/// `block_count` the architecture and its layers after pruning. A split file's parts get their own `split.*` keys after
/// these.
pub fn edits(
    file_type: u32,
    overrides: &[Pair],
    imatrix: Option<&Imatrix>,
    block_count: Option<(&str, u64)>,
) -> Vec<Edit> {
    let append = |key: &str, value: Value| Edit::Append(Pair::new(key, value));
    let mut edits = vec![
        append("general.quantization_version", QUANTIZATION_VERSION.into()),
        append("general.file_type", file_type.into()),
    ];
    edits.extend([split::NO, split::COUNT, split::TENSORS].map(Edit::Remove));
    edits.extend(overrides.iter().cloned().map(Edit::Append));
    if let Some(imatrix) = imatrix {
        edits.push(append("quantize.imatrix.file", imatrix.file.as_str().into()));
        if let Some(dataset) = &imatrix.dataset {
            edits.push(append("quantize.imatrix.dataset", dataset.as_str().into()));
        }
        edits.push(append("quantize.imatrix.entries_count", imatrix.entries.into()));
        if imatrix.chunks > 0 {
            edits.push(append("quantize.imatrix.chunks_count", imatrix.chunks.into()));
        }
    }
    if let Some((arch, blocks)) = block_count {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        edits.push(append(&format!("{arch}.block_count"), blocks.into()));
    }
    edits
}

/// The `general.file_type` of a copy: the one the file has, else the mixture of its most frequent type (of those equally
/// frequent, the one that came to it first, in output order), marked as guessed.
pub fn copied_file_type(stated: Option<u32>, types: impl IntoIterator<Item = Type>) -> u32 {
    const GUESSED: u32 = 1024;
    const NVFP4: u32 = 39;
    if let Some(stated) = stated {
        return stated;
    }
    let mut counts = std::collections::BTreeMap::new();
    let (mut most, mut usual) = (0, Type::F32);
    for ty in types {
        let count = counts.entry(ty).or_insert(0u64);
        *count += 1;
        if *count > most {
            (most, usual) = (*count, ty);
        }
    }
    let number = match usual {
        Type::Q3_K => Mixture::Q3KM.number(),
        Type::Q4_K => Mixture::Q4KM.number(),
        Type::Q5_K => Mixture::Q5KM.number(),
        Type::NVFP4 => NVFP4,
        // Not guessed by llama.cpp.
        Type::MXFP4 => 0,
        other => Mixture::ALL.iter().find(|m| m.name() == other.name()).map_or(0, |m| m.number()),
    };
    number | GUESSED
}

/// A key and its value, from `KEY=TYPE:VALUE`: `int`, `float`, `bool` and `str` as llama-quantize has them, or one of
/// GGUF's own types (`u8` … `i64`, `f32`, `f64`) where the file must have just that.
///
/// An `int` is written as u32; one that does not fit, and which llama-quantize would bend, as i32, u64 or i64.
pub fn parse_override(text: &str) -> Result<Pair> {
    /// What a key and a text may have at most, in bytes.
    const LIMIT: usize = 127;
    let wrong = |what: &str| Error::usage(format!("`--override-kv {text}`: {what}"));
    let (key, rest) = text.split_once('=').ok_or_else(|| wrong("no `=`; write KEY=TYPE:VALUE"))?;
    let (ty, value) = rest.split_once(':').ok_or_else(|| wrong("no type; write KEY=TYPE:VALUE, as `a.b=int:3`"))?;
    if key.is_empty() || key.len() > LIMIT {
        return Err(wrong("a key has 1 to 127 bytes"));
    }
    let not = || wrong(&format!("`{value}` is not a value of type {ty}"));
    macro_rules! number {
        ($number:ty) => {
            Value::from(value.trim().parse::<$number>().map_err(|_| not())?)
        };
    }
    let value = match ty {
        "int" => {
            let n: i128 = value.trim().parse().map_err(|_| not())?;
            None.or(u32::try_from(n).ok().map(Value::from))
                .or(i32::try_from(n).ok().map(Value::from))
                .or(u64::try_from(n).ok().map(Value::from))
                .or(i64::try_from(n).ok().map(Value::from))
                .ok_or_else(not)?
        }
        // Through f64, as there: a number in between can be rounded twice.
        "float" => Value::from(value.trim().parse::<f64>().map_err(|_| not())? as f32),
        "bool" => Value::from(match value {
            "true" => true,
            "false" => false,
            _ => return Err(wrong("a bool is `true` or `false`")),
        }),
        "str" if value.len() > LIMIT => return Err(wrong("a text has at most 127 bytes")),
        "str" => Value::from(value),
        "u8" => number!(u8),
        "i8" => number!(i8),
        "u16" => number!(u16),
        "i16" => number!(i16),
        "u32" => number!(u32),
        "i32" => number!(i32),
        "u64" => number!(u64),
        "i64" => number!(i64),
        "f32" => number!(f32),
        "f64" => number!(f64),
        _ => return Err(wrong("the types are int, float, bool, str, and u8 to i64, f32, f64")),
    };
    let pair = Pair::new(key, value);
    // The one key that decides where everything lies.
    crate::format::gguf::alignment(std::slice::from_ref(&pair)).map_err(|why| wrong(&why))?;
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_have_types() {
        fn check(text: &str, key: &str, expected: impl Into<Value>) {
            assert_eq!(parse_override(text).expect(text), Pair::new(key, expected), "{text}");
        }
        check("llama.context_length=int:4096", "llama.context_length", 4096u32);
        check("a=int:-1", "a", -1i32);
        check("a=int:4294967296", "a", 1u64 << 32);
        check("a=int:-4294967296", "a", -(1i64 << 32));
        check("a=float:0.1", "a", 0.1f32);
        check("a=float:1e4", "a", 1e4f32);
        check("a=bool:true", "a", true);
        check("general.name=str:a:b=c", "general.name", "a:b=c");
        check("a=str:", "a", "");
        check("a=u8:255", "a", 255u8);
        check("a=i64:-5", "a", -5i64);
        check("a=f64:0.1", "a", 0.1f64);
        check("general.alignment=int:64", "general.alignment", 64u32);
    }

    #[test]
    fn broken_overrides_are_refused() {
        let long = format!("a=str:{}", "x".repeat(128));
        let key = format!("{}=int:1", "k".repeat(128));
        let fits = format!("{}=str:{}", "k".repeat(127), "x".repeat(127));
        assert!(parse_override(&fits).is_ok());
        for text in [
            "a",
            "a=3",
            "=int:3",
            "a=int:",
            "a=int:3x",
            "a=int:18446744073709551616",
            "a=float:x",
            "a=bool:yes",
            "a=u8:256",
            "a=list:1",
            "general.alignment=int:48",
            "general.alignment=str:32",
            &long,
            &key,
        ] {
            assert!(parse_override(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_come_in_llama_quantizes_order() {
        let overrides = [Pair::new("general.name", "x")];
        let imatrix = Imatrix { file: "i.gguf".into(), dataset: Some("wiki".into()), entries: 12, chunks: 3 };
        let names = |edits: &[Edit]| -> Vec<String> {
            let name = |e: &Edit| match e {
                Edit::Remove(key) => format!("-{key}"),
                Edit::Append(pair) => pair.name().into_owned(),
            };
            edits.iter().map(name).collect()
        };
        let all = edits(15, &overrides, Some(&imatrix), Some(("llama", 7)));
        let expected = [
            "general.quantization_version",
            "general.file_type",
            "-split.no",
            "-split.count",
            "-split.tensors.count",
            "general.name",
            "quantize.imatrix.file",
            "quantize.imatrix.dataset",
            "quantize.imatrix.entries_count",
            "quantize.imatrix.chunks_count",
            "llama.block_count",
        ];
        assert_eq!(names(&all), expected);
        assert_eq!(all.last(), Some(&Edit::Append(Pair::new("llama.block_count", 7u32))));
        let silent = Imatrix { dataset: None, chunks: 0, ..imatrix };
        assert_eq!(
            names(&edits(15, &[], Some(&silent), None)).split_off(5),
            ["quantize.imatrix.file", "quantize.imatrix.entries_count"]
        );
    }

    #[test]
    fn a_copy_keeps_its_file_type_or_guesses() {
        use Type::*;
        fn check(stated: Option<u32>, types: &[Type], expected: u32) {
            assert_eq!(copied_file_type(stated, types.iter().copied()), expected, "{stated:?} {types:?}");
        }
        check(Some(7), &[F32], 7);
        check(None, &[F32, Q4_K, Q4_K], 1024 + 15);
        check(None, &[Q6_K, F32, F32, Q6_K], 1024);
        check(None, &[IQ2_S], 1024 + 28);
        check(None, &[MXFP4], 1024);
        check(None, &[], 1024);
    }
}
