//! The arrays of a layer: which, of what type and shape, and what each is called.
use super::layers::Words;
use crate::core::Storage;
use crate::core::plan::Part;
use crate::core::recipe::{Kernel, Recipe};

/// What an array of a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Codes.
    Codes,
    /// Scales of groups.
    Scales,
    /// Zero points of groups.
    Zeros,
    /// What the product is added to.
    Bias,
    /// What inputs are divided by.
    Smooth,
    /// The same, which nothing reads and loaders want.
    SmoothOrig,
    /// The narrow factor on the input's side.
    Down,
    /// The narrow factor on the output's side.
    Up,
    /// The scale of all scales.
    TensorScale,
    /// Scales of rows.
    RowScales,
}

/// How a layer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Codes of 4 bits, groups of 64, a low-rank branch.
    Int4,
    /// Floats of 4 bits, blocks of 16, a low-rank branch.
    Nvfp4,
    /// Codes of 4 bits without a sign, groups of 64; activations of 16 bits.
    Awq,
}

impl Precision {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Int4, Self::Nvfp4, Self::Awq];

    /// Its name as a dtype.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Nvfp4 => "nvfp4",
            Self::Awq => "awq_int4",
        }
    }
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
    /// Values that share a scale.
    pub fn group(self) -> u64 {
        if self == Self::Nvfp4 { 16 } else { 64 }
    }
}

/// The arrays of a layer, in the order that its codec counts them.
pub fn roles(precision: Precision, kernel: &Kernel) -> Vec<Role> {
    let mut all = vec![Role::Codes, Role::Scales];
    if precision == Precision::Awq {
        all.push(Role::Zeros);
    } else {
        all.push(Role::Smooth);
        if kernel.twice {
            all.push(Role::SmoothOrig);
        }
        all.extend([Role::Down, Role::Up]);
    }
    if kernel.bias {
        all.push(Role::Bias);
    }
    if kernel.tensor_scale {
        all.push(Role::TensorScale);
    }
    if kernel.row_scales {
        all.push(Role::RowScales);
    }
    all
}

/// What an array is called after its layer.
pub fn word(role: Role, words: Words) -> &'static str {
    match (role, words) {
        (Role::Codes, _) => "qweight",
        (Role::Scales, _) => "wscales",
        (Role::Zeros, _) => "wzeros",
        (Role::Bias, _) => "bias",
        (Role::Smooth, Words::Classic) => "smooth",
        (Role::Smooth, Words::Second) => "smooth_factor",
        (Role::SmoothOrig, Words::Classic) => "smooth_orig",
        (Role::SmoothOrig, Words::Second) => "smooth_factor_orig",
        (Role::Down, Words::Classic) => "lora_down",
        (Role::Down, Words::Second) => "proj_down",
        (Role::Up, Words::Classic) => "lora_up",
        (Role::Up, Words::Second) => "proj_up",
        (Role::TensorScale, _) => "wtscale",
        (Role::RowScales, _) => "wcscales",
    }
}

/// The arrays of a layer called `name` (`….weight`) of so many rows and columns.
pub fn parts(name: &str, [rows, cols]: [u64; 2], recipe: &Recipe, precision: Precision, words: Words) -> Vec<Part> {
    let default = Kernel::default();
    let kernel = recipe.kernel.as_deref().unwrap_or(&default);
    let (layer, rank, group) = (crate::core::name::layer(name), u64::from(recipe.svd_rank), precision.group());
    let of = |role: Role| {
        let (storage, shape) = match role {
            Role::Codes if precision == Precision::Awq => (Storage::I32, vec![rows / 4, cols / 2]),
            Role::Codes => (Storage::I8, vec![rows, cols / 2]),
            Role::Scales if precision == Precision::Nvfp4 => (Storage::F8_E4M3, vec![cols / group, rows]),
            Role::Scales | Role::Zeros => (Storage::BF16, vec![cols / group, rows]),
            Role::Bias | Role::RowScales => (Storage::BF16, vec![rows]),
            Role::Smooth | Role::SmoothOrig => (Storage::BF16, vec![cols]),
            Role::Down => (Storage::BF16, vec![cols, rank]),
            Role::Up => (Storage::BF16, vec![rows, rank]),
            Role::TensorScale => (Storage::BF16, vec![1]),
        };
        Part { name: format!("{layer}.{}", word(role, words)), storage, shape }
    };
    roles(precision, kernel).into_iter().map(of).collect()
}
