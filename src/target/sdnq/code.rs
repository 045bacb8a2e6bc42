//! SDNQ's dtypes: names, sizes, and how codes lie in a file.
use crate::core::dtype::Storage;
use crate::core::recipe::Family;
use crate::core::{Error, Result};
use crate::quant::affine::IntCode;
use crate::quant::bitpack;
use crate::quant::minifloat::FloatCode;

/// A dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// `int2` … `int16`, `uint1` … `uint16`.
    Int(IntCode),
    /// `float8_e4m3fn`, `float8_e5m2`, and `float{n}_e{E}m{M}fn[u]`.
    Float(FloatCode),
}

/// Names that other tools and people use, in the order of sdnq's own table.
const ALIASES: &[(&str, &str)] = &[
    ("bool", "uint1"),
    ("int1", "uint1"),
    ("fp15", "float15_e5m9fn"),
    ("fp14", "float14_e5m8fn"),
    ("fp13", "float13_e5m7fn"),
    ("fp12", "float12_e5m6fn"),
    ("fp11", "float11_e5m5fn"),
    ("fp10", "float10_e5m4fn"),
    ("fp9", "float9_e4m4fn"),
    ("fp8", "float8_e4m3fn"),
    ("fp7", "float7_e3m3fn"),
    ("fp6", "float6_e3m2fn"),
    ("fp5", "float5_e2m2fn"),
    ("fp4", "float4_e2m1fn"),
    ("fp3", "float3_e1m1fn"),
    ("fp2", "float2_e1m0fn"),
    ("fp1", "float1_e1m0fnu"),
    ("ufp16", "float16_e5m11fnu"),
    ("ufp15", "float15_e5m10fnu"),
    ("ufp14", "float14_e5m9fnu"),
    ("ufp13", "float13_e5m8fnu"),
    ("ufp12", "float12_e5m7fnu"),
    ("ufp11", "float11_e5m6fnu"),
    ("ufp10", "float10_e5m5fnu"),
    ("ufp9", "float9_e4m5fnu"),
    ("ufp8", "float8_e4m4fnu"),
    ("ufp7", "float7_e3m4fnu"),
    ("ufp6", "float6_e3m3fnu"),
    ("ufp5", "float5_e2m3fnu"),
    ("ufp4", "float4_e2m2fnu"),
    ("ufp3", "float3_e1m2fnu"),
    ("ufp2", "float2_e1m1fnu"),
    ("ufp1", "float1_e1m0fnu"),
];

/// Names of sdnq's that are not written, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (&["float8_e8m0fnu"], "sdnq decodes it wrong: it holds powers of two, and no zero"),
    (&["int32", "uint32"], "sdnq computes in f32, which does not hold its codes; int16 is smaller and nearer"),
    (
        &["float16", "fp16", "bfloat16", "bf16", "float32", "fp32", "float64"],
        "a plain float is not quantized: say --to float, or exclude the layer",
    ),
    (
        &["float8_e4m3fnuz", "float8_e5m2fnuz"],
        "a hardware's variant with half the range; float8_e4m3fn and float8_e5m2 are read everywhere",
    ),
];

/// Every dtype, the usual ones first: integers, then floats, up to 8 bits; then the wide ones. Each from many bits to few.
pub fn all() -> impl Iterator<Item = Code> {
    let ints = |bits: u8| [true, false].into_iter().filter_map(move |signed| IntCode::new(bits, signed)).map(Code::Int);
    let native = [FloatCode::E4M3FN, FloatCode::E5M2].map(Code::Float);
    let narrow = (1..=8).rev().flat_map(ints).chain(native).chain((1..=8).rev().flat_map(floats));
    narrow.chain((9..=16).rev().flat_map(ints)).chain((9..=16).rev().flat_map(floats))
}

/// The custom floats of so many bits.
fn floats(bits: u8) -> impl Iterator<Item = Code> {
    [true, false].into_iter().flat_map(move |signed| {
        (1..=5u8).filter_map(move |e| {
            let mantissa = bits.checked_sub(e + u8::from(signed))?;
            FloatCode::new(e, mantissa, signed).map(Code::Float)
        })
    })
}

/// The order in which sdnq's dynamic quantization tries dtypes: by bits; of one width signed before unsigned, and of
/// one sign the integer, then floats from few exponent bits to many.
pub fn by_size() -> Vec<Code> {
    let mut order = Vec::new();
    for bits in 1..=16 {
        for signed in [true, false] {
            order.extend(IntCode::new(bits, signed).map(Code::Int));
            if bits == 8 && signed {
                order.extend([FloatCode::E4M3FN, FloatCode::E5M2].map(Code::Float));
            }
            order.extend(floats(bits).filter(|c| c.is_signed() == signed));
        }
    }
    order
}

impl Code {
    /// The dtype of a name in any case, aliases included.
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        let canonical = ALIASES.iter().find(|(alias, _)| *alias == lower).map_or(lower.as_str(), |(_, name)| *name);
        canonical_int(canonical).or_else(|| canonical_float(canonical))
    }
    /// The same, with the reason where it is none: an unknown name lists the near ones.
    pub fn named(name: &str) -> Result<Self> {
        let lower = name.trim().to_ascii_lowercase();
        if let Some((_, why)) = REFUSED.iter().find(|(names, _)| names.contains(&lower.as_str())) {
            return Err(Error::usage(format!("sdnq dtype `{name}`: {why}")));
        }
        Self::parse(name).ok_or_else(|| {
            let names: Vec<String> = all().map(Self::name).collect();
            let near = crate::target::near(name, names.iter().map(String::as_str));
            let list = if near.is_empty() {
                "it has int2 … int16, uint1 … uint16, float8_e4m3fn, float8_e5m2, \
                 and float{n}_e{E}m{M}fn or fnu with n from 1 to 16 bits"
                    .to_owned()
            } else {
                format!("near ones: {}", near.join(", "))
            };
            Error::usage(format!("{} has no dtype `{name}`; {list}", Family::Sdnq))
        })
    }
    /// Its canonical name.
    pub fn name(self) -> String {
        match self {
            Self::Int(c) => format!("{}int{}", if c.is_signed() { "" } else { "u" }, c.bits()),
            Self::Float(FloatCode::E4M3FN) => "float8_e4m3fn".into(),
            Self::Float(FloatCode::E5M2) => "float8_e5m2".into(),
            Self::Float(c) => {
                let unsigned = if c.is_signed() { "" } else { "u" };
                let name = format!("float{}_e{}m{}fn{unsigned}", c.bits(), c.exponent_bits(), c.mantissa_bits());
                // That name is the hardware's type.
                if name == "float8_e4m3fn" { format!("{name}_sdnq") } else { name }
            }
        }
    }
    /// Bits of a code.
    pub fn bits(self) -> u8 {
        match self {
            Self::Int(c) => c.bits(),
            Self::Float(c) => c.bits(),
        }
    }
    /// Whether codes are symmetric about zero.
    pub fn is_signed(self) -> bool {
        match self {
            Self::Int(c) => c.is_signed(),
            Self::Float(c) => c.is_signed(),
        }
    }
    /// Whether it is an integer.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int(_))
    }
    /// Whether its codes may stand for levels: sdnq takes unsigned integers, and more than 8 bits of levels would be
    /// larger than what they stand for.
    pub fn takes_codebook(self) -> bool {
        matches!(self, Self::Int(c) if !c.is_signed() && c.bits() <= 8)
    }
    /// In a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Int(c) => match (c.bits(), c.is_signed()) {
                (9.., _) => "near the source; for layers that bear nothing less",
                (8, true) => "symmetric; near lossless, fast matrix products",
                (8, false) => "with a zero point; for one-sided weights",
                (5..=7, true) => "symmetric, packed",
                (5..=7, false) => "with a zero point, packed",
                (4, true) => "symmetric, two codes per byte",
                (4, false) => "with a zero point, two codes per byte; the usual 4 bit",
                (3, _) => "small; look at the loss",
                (_, _) => "tiny; mostly for experiments",
            },
            Self::Float(FloatCode::E4M3FN) => "the 8-bit float of GPUs; outliers cost less than with int8",
            Self::Float(FloatCode::E5M2) => "the 8-bit float of GPUs with more range, less precision",
            Self::Float(c) => match (c.bits(), c.is_signed(), c.exponent_bits()) {
                (_, _, 1) => "an even grid, like an integer",
                (9.., _, _) => "a wide custom float",
                (4..=8, true, 2..=3) => "a custom float: fine near zero, coarse far out",
                (_, true, _) => "a custom float with much range",
                (_, false, _) => "a custom float above a zero point",
            },
        }
    }
    /// Whether it has a zero point beside its scale.
    pub fn has_zero_point(self) -> bool {
        !self.is_signed()
    }
    /// Whether codes share bytes or words.
    pub fn is_packed(self) -> bool {
        !matches!(self.bits(), 8 | 16)
    }
    /// Whether a code takes more than a byte in memory.
    pub fn is_wide(self) -> bool {
        self.bits() > 8
    }
    /// Codes in a unit of packing.
    pub fn unit(self) -> usize {
        bitpack::unit(self.bits())
    }
    /// The stored element type.
    pub fn storage(self) -> Storage {
        match (self, self.bits()) {
            (Self::Float(FloatCode::E4M3FN), _) => Storage::F8_E4M3,
            (Self::Float(FloatCode::E5M2), _) => Storage::F8_E5M2,
            (Self::Int(c), 8) if c.is_signed() => Storage::I8,
            (_, ..=8) => Storage::U8,
            (Self::Int(c), 16) if c.is_signed() => Storage::I16,
            (_, 16) => Storage::U16,
            // Packed words.
            _ => Storage::I16,
        }
    }
    /// Shape of the packed codes of so many elements; `None` when they do not fill whole units.
    pub fn packed_shape(self, elements: u64) -> Option<Vec<u64>> {
        let unit = self.unit() as u64;
        if !elements.is_multiple_of(unit) {
            return None;
        }
        let units = elements / unit;
        let container = if self.is_wide() { 16 } else { 8 };
        Some(match unit * u64::from(self.bits()) / container {
            1 => vec![units],
            per_unit => vec![units, per_unit],
        })
    }
    /// Bytes of so many codes that fill whole units.
    pub fn bytes(self, elements: usize) -> u64 {
        elements as u64 * u64::from(self.bits()) / 8
    }
}

fn canonical_int(name: &str) -> Option<Code> {
    let (signed, bits) = match name.strip_prefix("uint") {
        Some(bits) => (false, bits),
        None => (true, name.strip_prefix("int")?),
    };
    IntCode::new(number(bits)?, signed).map(Code::Int)
}

fn canonical_float(name: &str) -> Option<Code> {
    match name {
        "float8_e4m3fn" => return Some(Code::Float(FloatCode::E4M3FN)),
        "float8_e5m2" => return Some(Code::Float(FloatCode::E5M2)),
        _ => {}
    }
    let (bits, rest) = name.strip_prefix("float")?.split_once("_e")?;
    let rest = if name == "float8_e4m3fn_sdnq" { "4m3fn" } else { rest };
    let (exponent, rest) = rest.split_once('m')?;
    let (mantissa, signed) = match rest.strip_suffix("fnu") {
        Some(mantissa) => (mantissa, false),
        None => (rest.strip_suffix("fn")?, true),
    };
    let code = FloatCode::new(number(exponent)?, number(mantissa)?, signed)?;
    (number(bits)? == code.bits()).then_some(Code::Float(code))
}

/// A number as it is written canonically: no sign, no leading zero.
fn number(text: &str) -> Option<u8> {
    let n: u8 = text.parse().ok()?;
    (n.to_string() == text).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        fn check(name: &str, canonical: Option<&str>) {
            assert_eq!(Code::parse(name).map(Code::name).as_deref(), canonical, "{name}");
        }
        check("UINT4", Some("uint4"));
        check("bool", Some("uint1"));
        check("int1", Some("uint1"));
        check("int16", Some("int16"));
        check("int17", None);
        check("int04", None);
        check("fp8", Some("float8_e4m3fn"));
        check("float8_e4m3fn", Some("float8_e4m3fn"));
        check("float8_e4m3fn_sdnq", Some("float8_e4m3fn_sdnq"));
        check("float8_e5m2fn", Some("float8_e5m2fn"));
        check("float8_e5m2", Some("float8_e5m2"));
        check("FP6", Some("float6_e3m2fn"));
        check("ufp4", Some("float4_e2m2fnu"));
        check("float4_e2m1fn", Some("float4_e2m1fn"));
        check("float4_e2m2fn", None);
        check("float8_e4m3fnu_sdnq", None);
        check("float16", None);
    }

    #[test]
    fn every_dtype_is_called_by_one_name() {
        let names: Vec<String> = all().map(Code::name).collect();
        for name in &names {
            assert_eq!(Code::parse(name).map(Code::name).as_ref(), Some(name));
        }
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        // sdnq's own order has these and float16.
        assert_eq!((names.len(), by_size().len()), (168, 168));
        for (_, canonical) in ALIASES {
            assert!(names.iter().any(|n| n == canonical), "{canonical}");
        }
    }

    #[test]
    fn the_order_of_dynamic_quantization() {
        let names: Vec<String> = by_size().into_iter().map(Code::name).collect();
        let at = |name: &str| names.iter().position(|n| n == name).expect(name);
        assert_eq!(names[..7].join(" "), "uint1 float1_e1m0fnu int2 float2_e1m0fn uint2 float2_e1m1fnu float2_e2m0fnu");
        assert_eq!(
            names[at("int8")..=at("uint8")].join(" "),
            "int8 float8_e4m3fn float8_e5m2 float8_e1m6fn float8_e2m5fn float8_e3m4fn float8_e4m3fn_sdnq float8_e5m2fn uint8"
        );
    }

    #[test]
    fn refusals_say_why() {
        fn check(name: &str, word: &str) {
            let message = Code::named(name).expect_err("refused").to_string();
            assert!(message.contains(word), "{message}");
        }
        check("float8_e8m0fnu", "powers of two");
        check("int32", "f32");
        check("bf16", "--to float");
        check("unt4", "uint4");
        check("Q4_K_M", "float{n}");
    }

    #[test]
    fn packed_shapes() {
        fn check(name: &str, elements: u64, shape: Option<&[u64]>) {
            let code = Code::parse(name).expect("a dtype");
            assert_eq!(code.packed_shape(elements).as_deref(), shape, "{name} of {elements}");
        }
        check("uint1", 64, Some(&[8]));
        check("int3", 64, Some(&[8, 3]));
        check("uint4", 64, Some(&[32]));
        check("float6_e3m2fn", 64, Some(&[16, 3]));
        check("int6", 1155, None);
        check("int9", 64, Some(&[4, 9]));
        check("uint12", 64, Some(&[16, 3]));
        check("int15", 24, None);
    }
}
