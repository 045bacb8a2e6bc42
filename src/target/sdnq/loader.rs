//! A `quantization_config` as sdnq's loader understands it: what it says of each layer.
use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::code::Code;
use super::layers::Kind;
use super::patterns::Patterns;
use super::resolve::{Group, channels, resolve_hadamard};
use crate::core::plan::Part;
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::{Dtype, Error, Model, Result, Storage};
use crate::quant::minifloat::FloatCode;

/// What the loader knows of one layer: sdnq's own words and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerConfig {
    /// Storage type of the codes, as it is written.
    pub weights_dtype: String,
    /// Values per scale: 0 the library's rule, -1 a row, -2 the whole tensor.
    pub group_size: i64,
    /// Whether there is a low-rank branch.
    pub use_svd: bool,
    /// The most that its rank may be.
    pub svd_rank: u32,
    /// Power iterations of its search.
    pub svd_steps: u32,
    /// Whether the weight was rotated.
    pub use_hadamard: bool,
    /// The most values that the rotation mixes.
    pub hadamard_group_size: u32,
    /// Whether codes stand for levels.
    pub use_codebook: bool,
    /// Whether matrix products are of codes, which turns some arrays.
    pub use_quantized_matmul: bool,
    /// The same of convolutions.
    pub use_quantized_matmul_conv: bool,
    /// The type that those products are in; none: by the type of the codes.
    pub quantized_matmul_dtype: Option<String>,
    /// Type of the scales, where they are quantized themselves.
    pub scale_dtype: Option<String>,
    /// Type of the zero points, where they are.
    pub zero_point_dtype: Option<String>,
}

impl Default for LayerConfig {
    fn default() -> Self {
        Self {
            weights_dtype: "int8".into(),
            group_size: group_size::AUTO,
            use_svd: false,
            svd_rank: 32,
            svd_steps: super::SVD_STEPS,
            use_hadamard: false,
            hadamard_group_size: 256,
            use_codebook: false,
            use_quantized_matmul: false,
            use_quantized_matmul_conv: false,
            quantized_matmul_dtype: None,
            scale_dtype: None,
            zero_point_dtype: None,
        }
    }
}

/// A whole config.
#[derive(Clone, Debug)]
pub struct Config {
    general: LayerConfig,
    /// Whether embeddings are quantized.
    pub quant_embedding: bool,
    /// Whether convolutions are.
    pub quant_conv: bool,
    /// Layers that stay as they are.
    pub kept: Patterns,
    /// Layers whose products are not of codes.
    no_matmul: Patterns,
    /// Dtypes, or least numbers of bits, each with its layers.
    dtypes: Vec<(String, Patterns)>,
    /// Layers with what is different about them.
    others: Patterns,
    differences: Vec<Map<String, Value>>,
}

/// The config beside a model's weights: quantization_config.json, else what config.json says. `None` when neither is
/// there, or it is another quantizer's.
pub fn of(model: &Model) -> Option<&Value> {
    model.quantization.as_ref().filter(|v| is_sdnq(v)).or_else(|| entry(model))
}

/// What config.json says, where it says that it is sdnq's.
pub fn entry(model: &Model) -> Option<&Value> {
    model.config.as_ref()?.get("quantization_config").filter(|v| is_sdnq(v))
}

fn is_sdnq(config: &Value) -> bool {
    match config.get("quant_method") {
        Some(method) => method == "sdnq",
        None => config.get("weights_dtype").is_some(),
    }
}

/// Puts a value of the config into its place; one that is absent or null leaves the default.
fn take<T: DeserializeOwned>(map: &Map<String, Value>, key: &str, into: &mut T) -> Result<()> {
    if let Some(value) = map.get(key).filter(|v| !v.is_null()) {
        *into = serde_json::from_value(value.clone()).map_err(|e| Error::failed(format!("`{key}`: {e}")).because(e))?;
    }
    Ok(())
}

/// One pattern, or a list of them.
fn patterns(key: &str, value: Option<&Value>) -> Result<Patterns> {
    let one = |v: &Value| match v.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Error::failed(format!("`{key}`: {v} is no pattern"))),
    };
    Ok(Patterns::new(match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(one).collect::<Result<_>>()?,
        Some(value) => vec![one(value)?],
    }))
}

/// An object of the config, in its order.
fn object<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a Map<String, Value>>> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(Error::failed(format!("`{key}`: is not an object"))),
    }
}

impl LayerConfig {
    /// Takes over what a config, or a part of one, says.
    fn update(&mut self, map: &Map<String, Value>) -> Result<()> {
        take(map, "weights_dtype", &mut self.weights_dtype)?;
        take(map, "group_size", &mut self.group_size)?;
        take(map, "use_svd", &mut self.use_svd)?;
        take(map, "svd_rank", &mut self.svd_rank)?;
        take(map, "svd_steps", &mut self.svd_steps)?;
        take(map, "use_hadamard", &mut self.use_hadamard)?;
        take(map, "hadamard_group_size", &mut self.hadamard_group_size)?;
        take(map, "use_codebook", &mut self.use_codebook)?;
        take(map, "use_quantized_matmul", &mut self.use_quantized_matmul)?;
        take(map, "use_quantized_matmul_conv", &mut self.use_quantized_matmul_conv)?;
        take(map, "quantized_matmul_dtype", &mut self.quantized_matmul_dtype)?;
        take(map, "scale_dtype", &mut self.scale_dtype)?;
        take(map, "zero_point_dtype", &mut self.zero_point_dtype)?;
        // Any other negative size is a row to the library.
        if self.group_size < group_size::TENSOR {
            self.group_size = group_size::ROW;
        }
        Ok(())
    }

    /// The dtype of the codes, with the reason where it is not one that can be read.
    pub fn code(&self) -> Result<Code> {
        Code::named(&self.weights_dtype)
    }

    /// Why it cannot be read, whatever its arrays look like.
    pub fn refusal(&self) -> Option<String> {
        for (key, dtype) in [("scale_dtype", &self.scale_dtype), ("zero_point_dtype", &self.zero_point_dtype)] {
            if let Some(dtype) = dtype.as_deref().filter(|d| *d != "none") {
                return Some(format!(
                    "`{key}` is {dtype}: its scales are quantized themselves, which sdnq's own loader cannot undo"
                ));
            }
        }
        match self.code() {
            Err(e) => Some(e.to_string()),
            Ok(code) if self.use_codebook && !code.takes_codebook() => Some(format!(
                "{} has a codebook, which needs an unsigned integer dtype of up to 8 bits",
                self.weights_dtype
            )),
            Ok(_) if self.use_hadamard && self.hadamard_group_size == 0 => {
                Some("`hadamard_group_size` is 0 where `use_hadamard` is true".into())
            }
            Ok(_) => None,
        }
    }

    /// Values that the rotation of a layer mixes; 0 for none.
    pub fn hadamard(&self, shape: &[u64]) -> u32 {
        // The library's search begins at the next power of two.
        let limit = self.hadamard_group_size.checked_next_power_of_two().unwrap_or(1 << 31);
        if self.use_hadamard { resolve_hadamard(limit, shape) } else { 0 }
    }

    /// How the loader lays out a layer of that shape and kind, by the rules of its `sdnq_quantize_layer_weight`.
    ///
    /// # Errors
    /// What [`refusal`](Self::refusal) says.
    pub fn layout(&self, kind: Kind, shape: &[u64]) -> Result<Laid> {
        if let Some(why) = self.refusal() {
            return Err(Error::failed(why));
        }
        let code = self.code()?;
        let matmul = self.has_quantized_matmul(kind, shape);
        let again = self.is_quantized_again(code);
        // A convolution whose codes are multiplied is a matrix from the start.
        let flat = [shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<u64>()];
        let shape = if matmul && !again && !is_packed(code) { flat.as_slice() } else { shape };
        let svd_rank = if self.use_svd { u64::from(self.svd_rank).min(flat[0]).min(flat[1]) as u32 } else { 0 };
        let hadamard = self.hadamard(shape);
        let group = Group { kind, bits: code.bits(), svd: svd_rank > 0, codebook: self.use_codebook, hadamard };
        let asked = match self.group_size {
            group_size::AUTO if matmul && !again && code.bits() >= 6 => group_size::ROW,
            n => n,
        };
        let recipe = Recipe {
            family: Family::Sdnq,
            dtype: Dtype::new(&code.name()),
            group_size: group.derive(asked, channels(kind, shape)),
            svd_rank,
            svd_steps: self.svd_steps,
            hadamard,
            codebook: self.use_codebook,
            axis: kind.axis(),
            scale_search: Default::default(),
            importance: None,
            kernel: None,
        };
        let trouble = group.forced(asked).filter(|_| recipe.group_size != group_size::ROW);
        let turned = matmul && !again && !is_packed(code) && recipe.group_size <= 0;
        Ok(Laid { code, recipe, shape: shape.to_vec(), turned, turned_factors: matmul, trouble })
    }

    /// Whether products of a layer are of codes.
    pub fn has_quantized_matmul(&self, kind: Kind, shape: &[u64]) -> bool {
        let asked = match kind {
            Kind::Linear => self.use_quantized_matmul,
            Kind::Convolution => self.use_quantized_matmul_conv,
            _ => false,
        };
        let fits = |n: u64| n >= 32 && n.is_multiple_of(16);
        asked && shape.iter().take(2).all(|n| fits(*n))
    }

    /// Whether codes of that dtype are quantized again for the products, and so stay as they are in the file.
    fn is_quantized_again(&self, code: Code) -> bool {
        let own = match code {
            Code::Int(_) if self.weights_dtype == "uint8" => "uint8",
            Code::Int(_) => "int8",
            Code::Float(_) if code.bits() < 16 => "float8_e4m3fn",
            Code::Float(_) => "float16",
        };
        let product = self.quantized_matmul_dtype.as_deref().unwrap_or(own);
        let (bits, max) = match product {
            "float16" | "fp16" => (16, 65504.0),
            "float8_e4m3fn" | "fp8" => (8, 448.0),
            _ => (8, 127.0),
        };
        let integer = matches!(product, "int8" | "uint8");
        self.use_codebook
            || code.bits() > bits
            || code.is_integer() != integer
            || (!code.is_signed() && !integer)
            || matches!(code, Code::Float(c) if is_packed(code) && !integer && (code.bits() >= bits || c.max() > max))
    }
}

/// Whether the library calls a dtype packed: all but those that PyTorch has too.
fn is_packed(code: Code) -> bool {
    match code {
        Code::Int(_) => code.is_packed(),
        Code::Float(c) => !matches!(c, FloatCode::E4M3FN | FloatCode::E5M2),
    }
}

/// How a layer lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Laid {
    /// Its dtype.
    pub code: Code,
    /// What was done to it.
    pub recipe: Recipe,
    /// The shape that it was done to.
    pub shape: Vec<u64>,
    /// Whether the weight, and with it scale and zero point, lie transposed.
    pub turned: bool,
    /// Whether the low-rank factors do.
    pub turned_factors: bool,
    /// What the library fails at when it uses the layer.
    pub trouble: Option<&'static str>,
}

impl Laid {
    /// The arrays, as they are in the file.
    pub fn parts(&self, name: &str, factors: Storage) -> Vec<Part> {
        let mut parts = super::resolve::parts(name, &self.shape, self.code, &self.recipe, factors);
        for part in &mut parts {
            let factor = part.name.ends_with(".svd_up") || part.name.ends_with(".svd_down");
            if if factor { self.turned_factors } else { self.turned } {
                part.shape.reverse();
            }
        }
        parts
    }
}

impl Config {
    /// A config from its JSON. Keys that are not known are passed over.
    pub fn parse(config: &Value) -> Result<Self> {
        let map = config.as_object().ok_or_else(|| Error::failed("is not an object"))?;
        let mut general = LayerConfig::default();
        general.update(map)?;
        let (mut quant_embedding, mut quant_conv) = (false, false);
        take(map, "quant_embedding", &mut quant_embedding)?;
        take(map, "quant_conv", &mut quant_conv)?;
        let mut dtypes = Vec::new();
        for (dtype, list) in object(map, "modules_dtype_dict")?.into_iter().flatten() {
            dtypes.push((dtype.to_lowercase(), patterns("modules_dtype_dict", Some(list))?));
        }
        let (mut others, mut differences) = (Vec::new(), Vec::new());
        for (pattern, said) in object(map, "modules_quant_config")?.into_iter().flatten() {
            let said = said.as_object();
            let said =
                said.ok_or_else(|| Error::failed(format!("`modules_quant_config`: `{pattern}` is no object")))?;
            general.clone().update(said).map_err(|e| e.at(format!("`modules_quant_config`: `{pattern}`")))?;
            others.push(pattern.clone());
            differences.push(said.clone());
        }
        Ok(Self {
            general,
            quant_embedding,
            quant_conv,
            kept: patterns("modules_to_not_convert", map.get("modules_to_not_convert"))?,
            no_matmul: patterns("modules_to_not_use_matmul", map.get("modules_to_not_use_matmul"))?,
            dtypes,
            others: Patterns::new(others),
            differences,
        })
    }

    /// The keys that two configs do not agree on, of those that a loader reads.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (a, b) = (&self.general, &other.general);
        let sorted = |p: &Patterns| p.list().iter().cloned().collect::<BTreeSet<String>>();
        let dtypes = |c: &Self| {
            c.dtypes.iter().map(|(d, p)| (d.clone(), sorted(p))).collect::<BTreeMap<String, BTreeSet<String>>>()
        };
        let others = |c: &Self| -> BTreeMap<String, Map<String, Value>> {
            c.others.list().iter().cloned().zip(c.differences.iter().cloned()).collect()
        };
        let same = [
            ("weights_dtype", a.weights_dtype == b.weights_dtype),
            ("group_size", a.group_size == b.group_size),
            ("use_svd", a.use_svd == b.use_svd),
            ("svd_rank", a.svd_rank == b.svd_rank),
            ("use_hadamard", a.use_hadamard == b.use_hadamard),
            ("hadamard_group_size", a.hadamard_group_size == b.hadamard_group_size),
            ("use_codebook", a.use_codebook == b.use_codebook),
            ("use_quantized_matmul", a.use_quantized_matmul == b.use_quantized_matmul),
            ("use_quantized_matmul_conv", a.use_quantized_matmul_conv == b.use_quantized_matmul_conv),
            ("quantized_matmul_dtype", a.quantized_matmul_dtype == b.quantized_matmul_dtype),
            ("scale_dtype", a.scale_dtype == b.scale_dtype),
            ("zero_point_dtype", a.zero_point_dtype == b.zero_point_dtype),
            ("quant_conv", self.quant_conv == other.quant_conv),
            ("quant_embedding", self.quant_embedding == other.quant_embedding),
            ("modules_to_not_convert", sorted(&self.kept) == sorted(&other.kept)),
            ("modules_to_not_use_matmul", sorted(&self.no_matmul) == sorted(&other.no_matmul)),
            ("modules_dtype_dict", dtypes(self) == dtypes(other)),
            ("modules_quant_config", others(self) == others(other)),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }

    /// Whether a layer of a class that is quantized is taken for quantized. `name` is the weight's full name.
    pub fn converts(&self, name: &str) -> bool {
        !self.kept.meets(name)
    }

    /// What it says of all layers of which it says nothing else.
    pub fn general(&self) -> &LayerConfig {
        &self.general
    }

    /// What it says of a layer. `name` is the weight's full name.
    pub fn kwargs(&self, name: &str) -> Result<LayerConfig> {
        let mut layer = self.general.clone();
        if let Some(place) = self.others.first(name) {
            layer.update(&self.differences[place])?;
        }
        if let Some(dtype) = self.dtype(&layer.weights_dtype, name)? {
            layer.weights_dtype = dtype;
        }
        if self.no_matmul.meets(name) {
            layer.use_quantized_matmul = false;
            layer.use_quantized_matmul_conv = false;
        }
        Ok(layer)
    }

    /// The dtype that `modules_dtype_dict` gives a layer in the place of `dtype`.
    fn dtype(&self, dtype: &str, name: &str) -> Result<Option<String>> {
        for (key, _) in self.dtypes.iter().filter(|(_, patterns)| patterns.meets(name)) {
            let Some(least) = least_bits(key) else {
                return Ok(Some(key.clone()));
            };
            let (unsigned, digits) = match least.strip_prefix("uint") {
                Some(digits) => (true, digits),
                None => (false, least.strip_prefix("int").unwrap_or(least)),
            };
            let bits: u32 = digits
                .parse()
                .map_err(|_| Error::failed(format!("`modules_dtype_dict`: `{key}` names no number of bits")))?;
            // A key that asks for no more than there is leaves the word to the next.
            if bits_of(dtype)? < bits {
                return Ok(Some(format!("{}int{digits}", if unsigned || bits <= 4 { "u" } else { "" })));
            }
        }
        Ok(None)
    }
}

/// What is left of a key that asks for a least number of bits (`minimum_6bit`, `minimum-uint4bits`, `6bit`) without
/// those words: `6`, `uint4`. `None` for a dtype's name.
fn least_bits(key: &str) -> Option<&str> {
    fn without<'a>(text: &'a str, word: &str) -> &'a str {
        text.strip_prefix(word).unwrap_or(text)
    }
    fn before<'a>(text: &'a str, word: &str) -> &'a str {
        text.strip_suffix(word).unwrap_or(text)
    }
    if !(key.starts_with("minimum") || key.ends_with("bit") || key.ends_with("bits")) {
        return None;
    }
    let rest = ["minimum", "-", "_"].iter().fold(key, |text, word| without(text, word));
    Some(["bits", "bit", "-", "_"].iter().fold(rest, |text, word| before(text, word)))
}

/// Bits of a dtype, of those too that are not read.
fn bits_of(dtype: &str) -> Result<u32> {
    match dtype {
        "float32" | "fp32" | "int32" | "uint32" => Ok(32),
        "float16" | "fp16" | "bfloat16" | "bf16" => Ok(16),
        "float8_e4m3fnuz" | "float8_e5m2fnuz" | "float8_e8m0fnu" => Ok(8),
        name => Code::named(name).map(|code| u32::from(code.bits())),
    }
}

#[cfg(test)]
mod tests;
