//! The formats of quantized layers that ComfyUI knows, with the arrays each is made of.
use crate::core::plan::Part;
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::{Dtype, Storage, name};
use crate::quant::blockfloat::{MXFP8_BLOCK, NVFP4_BLOCK, TILE_COLS, TILE_ROWS};
use crate::quant::minifloat::FloatCode;

/// A format. The last few are only read: stock ComfyUI does not know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `float8_e4m3fn`: one scale.
    E4m3,
    /// `float8_e5m2`: one scale.
    E5m2,
    /// `int8_tensorwise`: one scale, or one for each row.
    Int8,
    /// `nvfp4`: a scale for 16 values, and one for all.
    Nvfp4,
    /// `mxfp8`: a power of two for 32 values.
    Mxfp8,
    /// `convrot_w4a4`: rotated, one scale for each row.
    W4a4,
    /// `asym_w4a8_int8`: rotated, a scale for each group of a row, sixteen levels.
    W4a8,
    /// The same with 6 bits.
    W6a8,
    /// `awq_w4a16`: a scale and a zero point for each group of a row.
    Awq,
    /// E4M3 with scales for rows or blocks, of a custom node.
    E4m3Blocks,
    /// Int8 with scales for blocks, of a custom node.
    Int8Blocks,
    /// `asym_w4a8_int8` with equal steps in the place of levels.
    W4a8Uniform,
}

/// What a format says of itself.
struct Facts {
    format: Format,
    /// Its name on mixdown's command line.
    name: &'static str,
    /// ComfyUI's name.
    tag: &'static str,
    aliases: &'static [&'static str],
    bits: f64,
    about: &'static str,
    /// The first ComfyUI that loads it, where that is known.
    since: &'static str,
}

const FACTS: &[Facts] = &[
    Facts {
        format: Format::E4m3,
        name: "float8_e4m3fn",
        tag: "float8_e4m3fn",
        aliases: &["fp8", "float8", "fp8_e4m3fn", "fp8_e4m3", "f8_e4m3"],
        bits: 8.0,
        about: "one scale a tensor; every card, fast from Ada on",
        since: "0.4.0",
    },
    Facts {
        format: Format::Int8,
        name: "int8_tensorwise",
        tag: "int8_tensorwise",
        aliases: &["int8", "int8_row", "int8_rowwise"],
        bits: 8.0,
        about: "a scale a row (-2: a tensor); a third of fp8's error, fast from Turing on",
        since: "0.27.0",
    },
    Facts {
        format: Format::Mxfp8,
        name: "mxfp8",
        tag: "mxfp8",
        aliases: &[],
        bits: 8.25,
        about: "a power of two for 32 values; fast on Blackwell",
        since: "0.18.0",
    },
    Facts {
        format: Format::Nvfp4,
        name: "nvfp4",
        tag: "nvfp4",
        aliases: &["fp4"],
        bits: 4.5,
        about: "a scale for 16 values; fast on Blackwell",
        since: "0.8.0",
    },
    Facts {
        format: Format::W4a8,
        name: "asym_w4a8_int8",
        tag: "asym_w4a8_int8",
        aliases: &["w4a8"],
        bits: 4.5,
        about: "rotated, sixteen levels on the int8 grid; less error than nvfp4, fast from Ampere on",
        since: "0.31.0",
    },
    Facts {
        format: Format::W6a8,
        name: "asym_w6a8_int8",
        tag: "asym_w4a8_int8",
        aliases: &["w6a8"],
        bits: 6.5,
        about: "the same with 6 bits: less error than fp8",
        since: "0.31.0",
    },
    Facts {
        format: Format::W4a4,
        name: "convrot_w4a4",
        tag: "convrot_w4a4",
        aliases: &["w4a4"],
        bits: 4.0,
        about: "rotated int4, a scale a row, activations of 4 bits too",
        since: "0.28.0",
    },
    Facts {
        format: Format::Awq,
        name: "awq_w4a16",
        tag: "awq_w4a16",
        aliases: &["awq"],
        bits: 5.0,
        about: "a scale and a zero point for 64 values; activations stay floats",
        since: "",
    },
    Facts {
        format: Format::E5m2,
        name: "float8_e5m2",
        tag: "float8_e5m2",
        aliases: &["fp8_e5m2", "f8_e5m2"],
        bits: 8.0,
        about: "one scale a tensor; twice the error of e4m3",
        since: "0.4.0",
    },
    Facts {
        format: Format::E4m3Blocks,
        name: "float8_e4m3fn_blockwise",
        tag: "float8_e4m3fn_blockwise",
        aliases: &[],
        bits: 8.0,
        about: "read only: a custom node's",
        since: "",
    },
    Facts {
        format: Format::Int8Blocks,
        name: "int8_blockwise",
        tag: "int8_blockwise",
        aliases: &[],
        bits: 8.0,
        about: "read only: a custom node's",
        since: "",
    },
    Facts {
        format: Format::W4a8Uniform,
        name: "asym_w4a8_int8_uniform",
        tag: "asym_w4a8_int8",
        aliases: &[],
        bits: 4.5,
        about: "read only: equal steps, which lose more",
        since: "0.31.0",
    },
];

/// The greatest rotation that is asked for when nothing is said.
pub const ROTATION: u32 = 256;
/// Sizes of ComfyUI's rotation: powers of 4.
const ROTATIONS: [u32; 5] = [1024, 256, 64, 16, 4];
/// Columns that int4 kernels take at a time.
const W4A4_COLUMNS: u64 = 64;
/// Values that share a scale where nothing is said.
const W4A8_GROUP: i64 = 16;
const AWQ_GROUP: i64 = 64;

impl Format {
    /// Those that are written, the usual ones first.
    pub fn written() -> impl Iterator<Item = Self> {
        FACTS.iter().map(|f| f.format).filter(|f| f.is_written())
    }
    /// The format of a name on the command line, aliases included, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        FACTS.iter().find(|f| f.name == lower || f.aliases.contains(&lower.as_str())).map(|f| f.format)
    }
    /// The format of a dtype in its canonical spelling.
    pub fn of(dtype: &Dtype) -> Option<Self> {
        FACTS.iter().find(|f| f.name == dtype.as_str()).map(|f| f.format)
    }
    fn facts(self) -> &'static Facts {
        // Every format has its line; a test sees to it.
        FACTS.iter().find(|f| f.format == self).unwrap_or(&FACTS[0])
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        self.facts().name
    }
    /// Its dtype.
    pub fn dtype(self) -> Dtype {
        Dtype::new(self.name())
    }
    /// What ComfyUI calls it.
    pub fn tag(self) -> &'static str {
        self.facts().tag
    }
    /// Bits of a value, scales included.
    pub fn bits(self) -> f64 {
        self.facts().bits
    }
    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        self.facts().about
    }
    /// The first ComfyUI that loads it; empty where that is not known, or none does.
    pub fn since(self) -> &'static str {
        self.facts().since
    }
    /// Whether mixdown writes it.
    pub fn is_written(self) -> bool {
        !matches!(self, Self::E4m3Blocks | Self::Int8Blocks | Self::W4a8Uniform)
    }
    /// Whether ComfyUI takes an embedding table in it.
    pub fn takes_embeddings(self) -> bool {
        matches!(self, Self::E4m3 | Self::E5m2 | Self::Int8)
    }
    /// Whether its weight has other columns than the layer, so that a shape that is read from it would be wrong.
    pub fn hides_shape(self, shape: &[u64]) -> bool {
        match self {
            Self::Nvfp4 | Self::W4a4 | Self::W4a8 | Self::W4a8Uniform | Self::W6a8 | Self::Awq => true,
            Self::Mxfp8 => shape.iter().any(|n| !n.is_multiple_of(MXFP8_BLOCK as u64)),
            _ => false,
        }
    }
    /// Whether it can be rotated: not at all, at will, or always.
    pub fn rotation(self) -> Option<bool> {
        match self {
            Self::Int8 => Some(false),
            Self::W4a4 | Self::W4a8 | Self::W4a8Uniform | Self::W6a8 => Some(true),
            _ => None,
        }
    }
    /// Its codes, where they are floats.
    pub fn float_code(self) -> Option<FloatCode> {
        match self {
            Self::E4m3 | Self::E4m3Blocks => Some(FloatCode::E4M3FN),
            Self::E5m2 => Some(FloatCode::E5M2),
            _ => None,
        }
    }
    /// How many values share a scale, where nothing else can be asked for.
    pub fn fixed_group(self) -> Option<i64> {
        match self {
            Self::E4m3 | Self::E5m2 => Some(group_size::TENSOR),
            Self::Int8 | Self::W4a4 => Some(group_size::ROW),
            Self::Nvfp4 => Some(NVFP4_BLOCK as i64),
            Self::Mxfp8 => Some(MXFP8_BLOCK as i64),
            _ => None,
        }
    }
    /// The recipe that comes out for a layer of that shape, or why there is none.
    pub fn resolve(self, asked: &Recipe, shape: &[u64]) -> Result<Recipe, String> {
        let &[_, cols] = shape else {
            return Err(format!("{} is for matrices", self.name()));
        };
        let divides = |n: u64| cols.is_multiple_of(n);
        let whole = |n: u64, what: &str| {
            if divides(n) { Ok(()) } else { Err(format!("{}: {cols} columns are no {what} of {n}", self.name())) }
        };
        let mut recipe = Recipe { family: Family::Comfy, dtype: self.dtype(), hadamard: 0, ..asked.clone() };
        recipe.group_size = match self {
            Self::Int8 if asked.group_size == group_size::TENSOR && asked.hadamard == 0 => group_size::TENSOR,
            Self::W4a8 | Self::W4a8Uniform | Self::W6a8 if asked.group_size <= 0 => W4A8_GROUP,
            Self::Awq if asked.group_size <= 0 => AWQ_GROUP,
            _ => self.fixed_group().unwrap_or(asked.group_size),
        };
        if let Some(always) = self.rotation() {
            let most = if always && asked.hadamard == 0 { ROTATION } else { asked.hadamard };
            recipe.hadamard = ROTATIONS.into_iter().find(|n| *n <= most && divides(u64::from(*n))).unwrap_or(0);
            if always && recipe.hadamard == 0 {
                return Err(format!("{}: no power of 4 divides {cols} columns, and it is always rotated", self.name()));
            }
        }
        match self {
            Self::W4a4 => whole(W4A4_COLUMNS, "multiple")?,
            Self::W4a8 | Self::W4a8Uniform | Self::W6a8 => {
                let (size, six) = (recipe.group_size as u64, self == Self::W6a8);
                if size < 4 || !(size % 16 == 0 || 16 % size == 0 && !six) {
                    let least = if six { "multiples of 16" } else { "4, 8, 16 and its multiples" };
                    return Err(format!("{}: groups of {size}; it takes {least}", self.name()));
                }
                whole(if six { 32 } else { 16 }, "multiple")?;
                whole(size, "multiple")?;
            }
            Self::Awq => {
                // Two codes share a byte, and a byte lies within a group.
                if recipe.group_size % 2 != 0 {
                    return Err(format!("{}: groups of {}; it takes even ones", self.name(), recipe.group_size));
                }
                whole(recipe.group_size as u64, "multiple")?;
            }
            _ => {}
        }
        Ok(recipe)
    }
    /// Rows and columns as they are stored, codes counted, for a matrix.
    pub fn padded(self, rows: u64, cols: u64) -> (u64, u64) {
        let to = match self {
            Self::Nvfp4 => NVFP4_BLOCK as u64,
            Self::Mxfp8 => MXFP8_BLOCK as u64,
            _ => return (rows, cols),
        };
        let up = |n: u64| n.checked_next_multiple_of(to).unwrap_or(u64::MAX);
        (up(rows), up(cols))
    }
    /// The arrays of a layer, in the order in which the codec knows them. `name` is the weight's.
    pub fn parts(self, name: &str, shape: &[u64], recipe: &Recipe) -> Vec<Part> {
        let layer = name::layer(name);
        let part = |suffix: &str, storage, shape: &[u64]| Part {
            name: format!("{layer}.{suffix}"),
            storage,
            shape: shape.to_vec(),
        };
        let (rows, cols) = (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<u64>());
        let (padded_rows, padded_cols) = self.padded(rows, cols);
        let tiles = |block: u64| {
            [padded_rows.next_multiple_of(TILE_ROWS as u64), (padded_cols / block).next_multiple_of(TILE_COLS as u64)]
        };
        let group = recipe.group_size.max(1) as u64;
        match self {
            Self::E4m3 | Self::E4m3Blocks => {
                vec![part("weight", Storage::F8_E4M3, shape), part("weight_scale", Storage::F32, &[])]
            }
            Self::E5m2 => vec![part("weight", Storage::F8_E5M2, shape), part("weight_scale", Storage::F32, &[])],
            Self::Int8 | Self::Int8Blocks => {
                let scale: &[u64] = if recipe.group_size == group_size::TENSOR { &[] } else { &[rows, 1] };
                vec![part("weight", Storage::I8, shape), part("weight_scale", Storage::F32, scale)]
            }
            Self::Nvfp4 => vec![
                part("weight", Storage::U8, &[padded_rows, padded_cols / 2]),
                part("weight_scale", Storage::F8_E4M3, &tiles(NVFP4_BLOCK as u64)),
                part("weight_scale_2", Storage::F32, &[]),
            ],
            Self::Mxfp8 => vec![
                part("weight", Storage::F8_E4M3, &[padded_rows, padded_cols]),
                part("weight_scale", Storage::U8, &tiles(MXFP8_BLOCK as u64)),
            ],
            Self::W4a4 => {
                vec![part("weight", Storage::I8, &[rows, cols / 2]), part("weight_scale", Storage::F32, &[rows])]
            }
            Self::W4a8 | Self::W4a8Uniform | Self::W6a8 => {
                let bits = if self == Self::W6a8 { 6 } else { 4 };
                let mut parts = vec![
                    part("weight", Storage::I8, &[rows, cols * bits / 8]),
                    part("weight_s_rel", Storage::F8_E4M3, &[rows, cols / group]),
                    part("weight_s_channel", Storage::F32, &[rows]),
                ];
                if self == Self::W4a8 {
                    parts.push(part("weight_codebook", Storage::F32, &[16]));
                }
                parts
            }
            Self::Awq => vec![
                part("weight", Storage::I8, &[rows, cols / 2]),
                part("weight_scale", Storage::F32, &[cols / group, rows]),
                part("weight_zeros", Storage::F32, &[cols / group, rows]),
            ],
        }
    }
}
