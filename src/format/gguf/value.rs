//! The value of a key, kept as the bytes it has in a file: a vocabulary of 250,000 strings is one block of memory, and
//! what is not understood (text that is not UTF-8, truth that is neither 0 nor 1) is written again as it was.
use std::borrow::Cow;
use std::fmt::Write as _;

/// What a value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One byte, unsigned.
    U8,
    /// One byte, signed.
    I8,
    /// Two bytes, unsigned.
    U16,
    /// Two bytes, signed.
    I16,
    /// Four bytes, unsigned.
    U32,
    /// Four bytes, signed.
    I32,
    /// Four bytes, floating.
    F32,
    /// One byte, 0 or 1.
    Bool,
    /// A u64 length and as many bytes.
    String,
    /// An element kind, a u64 count, and elements; never the kind of an element.
    Array,
    /// Eight bytes, unsigned.
    U64,
    /// Eight bytes, signed.
    I64,
    /// Eight bytes, floating.
    F64,
}

/// By number in files.
const KINDS: [(Kind, &str, Option<u64>); 13] = [
    (Kind::U8, "u8", Some(1)),
    (Kind::I8, "i8", Some(1)),
    (Kind::U16, "u16", Some(2)),
    (Kind::I16, "i16", Some(2)),
    (Kind::U32, "u32", Some(4)),
    (Kind::I32, "i32", Some(4)),
    (Kind::F32, "f32", Some(4)),
    (Kind::Bool, "bool", Some(1)),
    (Kind::String, "string", None),
    (Kind::Array, "array", None),
    (Kind::U64, "u64", Some(8)),
    (Kind::I64, "i64", Some(8)),
    (Kind::F64, "f64", Some(8)),
];

impl Kind {
    /// The kind of that number.
    pub fn by_id(id: i32) -> Option<Self> {
        KINDS.get(usize::try_from(id).ok()?).map(|k| k.0)
    }
    /// Its number in files.
    pub fn id(self) -> i32 {
        self as i32
    }
    /// Its name: `u32`.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].1
    }
    /// Bytes of one; `None` where each has a length of its own.
    pub fn bytes(self) -> Option<u64> {
        KINDS[self as usize].2
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// UTF-8 by convention.
    pub key: Box<[u8]>,
    /// What it is.
    pub value: Value,
}

impl Pair {
    /// A key with any value that converts.
    pub fn new(key: &str, value: impl Into<Value>) -> Self {
        Self { key: key.as_bytes().into(), value: value.into() }
    }
    /// The key as text, for people.
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// A value: one element, or an array of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// Never [`Kind::Array`].
    kind: Kind,
    /// Elements of an array; `None` for a single one.
    count: Option<u64>,
    /// The elements as in a file; whole ones, as many as `count` says.
    raw: Box<[u8]>,
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// Of any unsigned kind.
    Unsigned(u64),
    /// Of any signed kind.
    Signed(i64),
    /// Four bytes, floating.
    F32(f32),
    /// Eight bytes, floating.
    F64(f64),
    /// Whether the byte is not 0.
    Bool(bool),
    /// Text, UTF-8 by convention.
    String(&'a [u8]),
}

impl Value {
    /// From elements as they lie in a file. The caller has proved that they are whole and as many as `count` says.
    pub(super) fn of_raw(kind: Kind, count: Option<u64>, raw: Box<[u8]>) -> Self {
        Self { kind, count, raw }
    }
    /// An array of strings.
    pub fn strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Self {
        let (mut raw, mut count) = (Vec::new(), 0);
        for s in strings {
            push_string(&mut raw, s.as_ref());
            count += 1;
        }
        Self { kind: Kind::String, count: Some(count), raw: raw.into() }
    }
    /// A single string of any bytes.
    pub fn bytes(text: &[u8]) -> Self {
        let mut raw = Vec::with_capacity(text.len() + 8);
        push_string(&mut raw, text);
        Self { kind: Kind::String, count: None, raw: raw.into() }
    }
    /// The kind of its elements.
    pub fn kind(&self) -> Kind {
        self.kind
    }
    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        self.count.is_some()
    }
    /// Its elements: 1 for a single one.
    pub fn count(&self) -> u64 {
        self.count.unwrap_or(1)
    }
    /// Its elements as in a file.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
    /// In words: `u32`, `array of string`.
    pub fn type_name(&self) -> Cow<'static, str> {
        if self.is_array() { format!("array of {}", self.kind.name()).into() } else { self.kind.name().into() }
    }
    /// Bytes that it takes in a file, its type included.
    pub fn file_bytes(&self) -> u64 {
        let array = if self.is_array() { 12 } else { 0 };
        4 + array + self.raw.len() as u64
    }
    /// Appends it as it lies in a file: type, for an array element type and count, elements.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some(count) = self.count {
            out.extend(Kind::Array.id().to_le_bytes());
            out.extend(self.kind.id().to_le_bytes());
            out.extend(count.to_le_bytes());
        } else {
            out.extend(self.kind.id().to_le_bytes());
        }
        out.extend_from_slice(&self.raw);
    }

    /// An array of some of its elements, by index; one that is not there is passed over.
    pub fn only(&self, indexes: &[u64]) -> Self {
        let elements: Vec<&[u8]> = match self.kind.bytes() {
            Some(n) => self.raw.chunks_exact(n as usize).collect(),
            None => {
                let (mut rest, mut all) = (&*self.raw, Vec::new());
                while let Some(Item::String(text)) = (Items { kind: self.kind, raw: rest }).next() {
                    let (element, after) = rest.split_at(8 + text.len());
                    all.push(element);
                    rest = after;
                }
                all
            }
        };
        let kept = |i: &u64| elements.get(usize::try_from(*i).ok()?).copied();
        let kept: Vec<&[u8]> = indexes.iter().filter_map(kept).collect();
        Self { kind: self.kind, count: Some(kept.len() as u64), raw: kept.concat().into() }
    }

    /// Its elements, in order.
    pub fn items(&self) -> Items<'_> {
        Items { kind: self.kind, raw: &self.raw }
    }
    fn single(&self) -> Option<Item<'_>> {
        if self.is_array() { None } else { self.items().next() }
    }
    /// A single integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self.single()? {
            Item::Unsigned(n) => Some(n),
            Item::Signed(n) => n.try_into().ok(),
            _ => None,
        }
    }
    /// A single integer.
    pub fn as_i64(&self) -> Option<i64> {
        match self.single()? {
            Item::Unsigned(n) => n.try_into().ok(),
            Item::Signed(n) => Some(n),
            _ => None,
        }
    }
    /// A single floating number.
    pub fn as_f64(&self) -> Option<f64> {
        match self.single()? {
            Item::F32(x) => Some(x.into()),
            Item::F64(x) => Some(x),
            _ => None,
        }
    }
    /// A single truth.
    pub fn as_bool(&self) -> Option<bool> {
        match self.single()? {
            Item::Bool(b) => Some(b),
            _ => None,
        }
    }
    /// A single string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self.single()? {
            Item::String(s) => Some(s),
            _ => None,
        }
    }
    /// A single string that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// For people: a single value as text; a short array as JSON; of a long one its length and its first elements.
    pub fn shown(&self) -> String {
        /// Elements of an array that are shown whole, and of a longer one.
        const WHOLE: u64 = 16;
        const FIRST: usize = 4;
        /// Characters of a string, alone and in an array.
        const LONG: usize = 16_384;
        const SHORT: usize = 48;
        if !self.is_array() {
            let mut text = String::new();
            if let Some(item) = self.single() {
                match item {
                    Item::String(s) => shorten(&mut text, s, LONG),
                    other => show(&mut text, other),
                }
            }
            return text;
        }
        let whole = self.count() <= WHOLE;
        let mut text = if whole { String::from("[") } else { format!("{} × {}: ", self.count(), self.kind.name()) };
        for (i, item) in self.items().take(if whole { usize::MAX } else { FIRST }).enumerate() {
            text.push_str(if i == 0 { "" } else { ", " });
            match item {
                Item::String(s) => {
                    let mut short = String::new();
                    shorten(&mut short, s, SHORT);
                    text.push_str(&serde_json::Value::from(short).to_string());
                }
                other => show(&mut text, other),
            }
        }
        text.push_str(if whole { "]" } else { ", …" });
        text
    }
}

fn show(out: &mut String, item: Item) {
    // Writing to a string cannot fail.
    let _ = match item {
        Item::Unsigned(n) => write!(out, "{n}"),
        Item::Signed(n) => write!(out, "{n}"),
        Item::F32(x) => write!(out, "{x}"),
        Item::F64(x) => write!(out, "{x}"),
        Item::Bool(b) => write!(out, "{b}"),
        Item::String(s) => write!(out, "{}", String::from_utf8_lossy(s)),
    };
}

fn shorten(out: &mut String, text: &[u8], most: usize) {
    // Four bytes are the longest character: more are never looked at.
    let start = &text[..text.len().min(most.saturating_mul(4))];
    let lossy = String::from_utf8_lossy(start);
    let mut chars = lossy.chars();
    out.extend(chars.by_ref().take(most));
    if chars.next().is_some() || start.len() < text.len() {
        let _ = write!(out, "… ({} bytes)", text.len());
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.type_name(), self.shown())
    }
}

/// The elements of a value.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    kind: Kind,
    raw: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.kind == Kind::String {
            let (len, rest) = self.raw.split_first_chunk::<8>()?;
            let (text, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            self.raw = rest;
            return Some(Item::String(text));
        }
        Some(match self.kind {
            Kind::U8 => Item::Unsigned(u8::from_le_bytes(self.take()?).into()),
            Kind::U16 => Item::Unsigned(u16::from_le_bytes(self.take()?).into()),
            Kind::U32 => Item::Unsigned(u32::from_le_bytes(self.take()?).into()),
            Kind::U64 => Item::Unsigned(u64::from_le_bytes(self.take()?)),
            Kind::I8 => Item::Signed(i8::from_le_bytes(self.take()?).into()),
            Kind::I16 => Item::Signed(i16::from_le_bytes(self.take()?).into()),
            Kind::I32 => Item::Signed(i32::from_le_bytes(self.take()?).into()),
            Kind::I64 => Item::Signed(i64::from_le_bytes(self.take()?)),
            Kind::F32 => Item::F32(f32::from_le_bytes(self.take()?)),
            Kind::F64 => Item::F64(f64::from_le_bytes(self.take()?)),
            Kind::Bool => Item::Bool(self.take::<1>()? != [0]),
            Kind::String | Kind::Array => return None,
        })
    }
}

impl Items<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.raw.split_first_chunk::<N>()?;
        self.raw = rest;
        Some(*bytes)
    }
}

/// Appends a string as it lies in a file.
pub(super) fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

macro_rules! from_numbers {
    ($($number:ty => $kind:ident),+) => {$(
        impl From<$number> for Value {
            fn from(n: $number) -> Self {
                Self { kind: Kind::$kind, count: None, raw: n.to_le_bytes().into() }
            }
        }
        impl From<&[$number]> for Value {
            fn from(all: &[$number]) -> Self {
                let raw: Vec<u8> = all.iter().flat_map(|n| n.to_le_bytes()).collect();
                Self { kind: Kind::$kind, count: Some(all.len() as u64), raw: raw.into() }
            }
        }
    )+};
}
from_numbers!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64, f32 => F32, f64 => F64);

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self { kind: Kind::Bool, count: None, raw: Box::new([b.into()]) }
    }
}

impl From<&[bool]> for Value {
    fn from(all: &[bool]) -> Self {
        Self { kind: Kind::Bool, count: Some(all.len() as u64), raw: all.iter().map(|b| u8::from(*b)).collect() }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::bytes(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_elements_of_an_array() {
        fn check(all: Value, expected: Value) {
            assert_eq!(all.only(&[2, 0, 9]), expected);
        }
        check([1u32, 2, 3].as_slice().into(), [3u32, 1].as_slice().into());
        check([true, false, false].as_slice().into(), [false, true].as_slice().into());
        check(Value::strings(["a", "", "ccc"]), Value::strings(["ccc", "a"]));
    }

    #[test]
    fn every_kind_has_its_number() {
        for (i, (kind, name, _)) in KINDS.iter().enumerate() {
            assert_eq!((Kind::by_id(i as i32), kind.id(), kind.name()), (Some(*kind), i as i32, *name));
        }
        for id in [-1, 13, i32::MAX] {
            assert_eq!(Kind::by_id(id), None);
        }
    }

    #[test]
    fn values_lie_in_files_as_ggml_has_them() {
        fn check(value: impl Into<Value>, bytes: &[u8]) {
            let (value, mut out) = (value.into(), Vec::new());
            value.write(&mut out);
            assert_eq!(out, bytes, "{value:?}");
            assert_eq!(value.file_bytes(), bytes.len() as u64);
        }
        check(7u8, &[0, 0, 0, 0, 7]);
        check(-2i16, &[3, 0, 0, 0, 0xfe, 0xff]);
        check(1.0f32, &[6, 0, 0, 0, 0, 0, 0x80, 0x3f]);
        check(true, &[7, 0, 0, 0, 1]);
        check("ab", &[8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
        check(&[1u16, 2][..], &[9, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0]);
        check(
            Value::strings(["", "x"]),
            &[9, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'x'],
        );
    }

    #[test]
    fn single_values_are_asked_by_what_they_mean() {
        assert_eq!(Value::from(5u16).as_u64(), Some(5));
        assert_eq!(Value::from(5i8).as_u64(), Some(5));
        assert_eq!(Value::from(-5i32).as_u64(), None);
        assert_eq!(Value::from(-5i32).as_i64(), Some(-5));
        assert_eq!(Value::from(u64::MAX).as_i64(), None);
        assert_eq!(Value::from(0.5f32).as_f64(), Some(0.5));
        assert_eq!(Value::from(0.5f32).as_u64(), None);
        assert_eq!(Value::from("é").as_str(), Some("é"));
        assert_eq!(Value::bytes(b"\xff\0").as_str(), None);
        assert_eq!(Value::bytes(b"\xff\0").as_bytes(), Some(&b"\xff\0"[..]));
        assert_eq!(Value::from(&[1u32][..]).as_u64(), None, "an array of one is no number");
        assert_eq!(Value::of_raw(Kind::Bool, None, Box::new([2])).as_bool(), Some(true));
    }

    #[test]
    fn values_are_shown_short() {
        fn check(value: impl Into<Value>, text: &str) {
            assert_eq!(value.into().shown(), text);
        }
        check(1e-5f32, "0.00001");
        check(-3i64, "-3");
        check("plain \"text\"", "plain \"text\"");
        check(Value::bytes(b"a\xffb"), "a\u{FFFD}b");
        check(&[1i32, -2][..], "[1, -2]");
        check(&[true, false][..], "[true, false]");
        check(&[] as &[f32], "[]");
        check(Value::strings(["a", "b\""]), r#"["a", "b\""]"#);
        check(Value::strings((0..32_000).map(|i| format!("t{i}"))), r#"32000 × string: "t0", "t1", "t2", "t3", …"#);
        check("x".repeat(20_000).as_str(), &format!("{}… (20000 bytes)", "x".repeat(16_384)));
    }
}
