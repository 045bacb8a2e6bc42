//! What was asked of a layer, as it comes out for its kind and shape: the rules by which sdnq's loader finds groups,
//! ranks and rotations again, and the arrays that follow.
use super::code::Code;
use super::layers::Kind;
use crate::core::plan::Part;
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::{Storage, name};

/// The recipe that comes out, and, where that is not what was asked, why.
pub fn resolve(asked: &Recipe, code: Code, kind: Kind, shape: &[u64]) -> (Recipe, Option<String>) {
    let mut notes: Vec<String> = Vec::new();
    let channels = channels(kind, shape);
    let (rows, cols) = (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<u64>());
    let svd_rank = u64::from(asked.svd_rank).min(rows).min(cols) as u32;
    let hadamard = resolve_hadamard(asked.hadamard, shape);
    if asked.hadamard > 0 && hadamard == 0 {
        notes.push("no power of two divides its channels: not rotated".into());
    }
    let codebook = asked.codebook && code.takes_codebook();
    if asked.codebook && !codebook {
        notes.push(format!("{} takes no codebook: equal steps", code.name()));
    }
    let group = Group { kind, bits: code.bits(), svd: svd_rank > 0, codebook, hadamard };
    let group_size = group.resolve(asked.group_size, channels);
    if asked.group_size != group_size && asked.group_size != group_size::AUTO {
        notes.push(match group.forced(asked.group_size) {
            Some(why) => why.to_owned(),
            None => {
                let found = match group_size {
                    group_size::ROW => "one scale per row".to_owned(),
                    n => format!("groups of {n}"),
                };
                format!("{channels} channels do not divide into groups of {}: SDNQ takes {found}", asked.group_size)
            }
        });
    }
    let recipe = Recipe {
        family: Family::Sdnq,
        dtype: asked.dtype.clone(),
        group_size,
        svd_rank,
        svd_steps: asked.svd_steps,
        hadamard,
        codebook,
        axis: kind.axis(),
        scale_search: Default::default(),
        importance: None,
        kernel: None,
    };
    (recipe, (!notes.is_empty()).then(|| notes.join("; ")))
}

/// Elements along the dimension that groups run along.
pub fn channels(kind: Kind, shape: &[u64]) -> u64 {
    shape.get(usize::from(kind.axis())).copied().unwrap_or(1)
}

/// What a group size depends on.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The layer's kind.
    pub kind: Kind,
    /// Bits of a code.
    pub bits: u8,
    /// Whether there is a low-rank branch.
    pub svd: bool,
    /// Whether codes stand for levels.
    pub codebook: bool,
    /// Values that a rotation mixes, as resolved.
    pub hadamard: u32,
}

impl Group {
    /// The group size that sdnq's loader derives from the one in its config (`quantizer.py`), as far as its other code
    /// works with it.
    pub fn resolve(self, asked: i64, channels: u64) -> i64 {
        match self.forced(asked) {
            Some(_) => group_size::ROW,
            None => self.derive(asked, channels),
        }
    }

    /// Why only rows work, where sdnq fails at anything else.
    pub fn forced(self, asked: i64) -> Option<&'static str> {
        match (self.kind, asked) {
            (_, group_size::ROW) => None,
            (Kind::TransposedConvolution, n) if n != group_size::TENSOR => Some(
                "SDNQ unfolds groups of a transposed convolution along the wrong dimension: one scale per position",
            ),
            (Kind::Embedding, group_size::TENSOR) => {
                Some("SDNQ looks up an embedding's scales by row: one scale per row")
            }
            (Kind::Embedding, _) if self.svd => {
                Some("SDNQ cannot add a low-rank branch to an embedding's groups: one scale per row")
            }
            (Kind::Embedding, n) if self.hadamard > 0 && (n <= 0 || n % i64::from(self.hadamard) != 0) => {
                Some("SDNQ cannot rotate across an embedding's groups: one scale per row")
            }
            _ => None,
        }
    }

    /// The rule itself.
    pub fn derive(self, asked: i64, channels: u64) -> i64 {
        let exponent = 1
            + u32::from(self.bits)
            + u32::from(self.kind == Kind::Linear)
            + u32::from(self.svd)
            + if self.codebook { 3 } else { 0 };
        let asked = if asked == group_size::AUTO { 1i64 << exponent } else { asked };
        if asked <= 0 {
            return asked;
        }
        let mut size = asked as u64;
        if size >= channels {
            return group_size::ROW;
        }
        let mut groups = channels / size;
        while groups * size != channels {
            // The number of groups shrinks first and the size follows from it: 240 channels in 64s become 120, not 80.
            groups -= 1;
            if groups <= 1 {
                return group_size::ROW;
            }
            size = channels / groups;
        }
        if groups <= 1 { group_size::ROW } else { size as i64 }
    }
}

/// The largest power of two up to `limit` that divides the second dimension; 0 if that is less than 4.
pub fn resolve_hadamard(limit: u32, shape: &[u64]) -> u32 {
    let channels = shape.get(1).copied().unwrap_or(0);
    if limit == 0 || channels == 0 {
        return 0;
    }
    // A rotation of more than the channels is cut to them first; what divides them is no larger anyway.
    let divides = 1u64 << channels.trailing_zeros();
    let size = divides.min(u64::from(limit)) as u32;
    if size >= 4 { size } else { 0 }
}

/// The arrays of a quantized layer, in this order: weight, scale, zero point, low-rank factors.
pub fn parts(name: &str, shape: &[u64], code: Code, recipe: &Recipe, factors: Storage) -> Vec<Part> {
    let layer = name::layer(name);
    let part = |suffix: &str, storage, shape| Part { name: format!("{layer}.{suffix}"), storage, shape };
    let axis = usize::from(recipe.axis);
    // The weight as the library sees it: the grouped dimension is two.
    let mut view = shape.to_vec();
    let mut reduced = axis;
    if recipe.group_size > 0 {
        let size = recipe.group_size as u64;
        if let Some(channels) = view.get_mut(axis) {
            *channels /= size;
        }
        view.insert(axis + 1, size);
        reduced = axis + 1;
    }
    let per_block = if recipe.codebook { 1u64 << code.bits() } else { 1 };
    let scale_shape = match recipe.group_size {
        group_size::TENSOR if recipe.codebook => vec![per_block],
        group_size::TENSOR => vec![1; shape.len()],
        _ => view.iter().enumerate().map(|(i, n)| if i == reduced { per_block } else { *n }).collect(),
    };
    let weight_shape = code.packed_shape(shape.iter().product()).filter(|_| code.is_packed()).unwrap_or(view);
    let mut parts =
        vec![part("weight", code.storage(), weight_shape), part("scale", Storage::F32, scale_shape.clone())];
    if code.has_zero_point() && !recipe.codebook {
        parts.push(part("zero_point", Storage::F32, scale_shape));
    }
    if recipe.svd_rank > 0 {
        let rank = u64::from(recipe.svd_rank);
        parts.push(part("svd_up", factors, vec![shape.first().copied().unwrap_or(1), rank]));
        parts.push(part("svd_down", factors, vec![rank, shape.iter().skip(1).product()]));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Dtype;

    #[test]
    fn groups_come_out_as_the_loader_finds_them() {
        fn check(asked: i64, bits: u8, kind: Kind, svd: bool, channels: u64, size: i64) {
            let group = Group { kind, bits, svd, codebook: false, hadamard: 0 };
            assert_eq!(
                group.resolve(asked, channels),
                size,
                "{asked} for {channels} channels of {bits} bits, {kind:?}"
            );
        }
        check(0, 4, Kind::Linear, false, 3072, 64);
        check(0, 4, Kind::Linear, true, 3072, 128);
        check(0, 8, Kind::Linear, false, 3072, 1024);
        check(0, 8, Kind::Linear, false, 1536, -1);
        check(0, 1, Kind::Linear, false, 64, 8);
        check(0, 4, Kind::Convolution, false, 320, 32);
        check(0, 4, Kind::Embedding, false, 320, 32);
        check(0, 16, Kind::Linear, false, 3072, -1);
        check(64, 4, Kind::Linear, false, 192, 64);
        check(64, 4, Kind::Linear, false, 240, 120);
        check(128, 4, Kind::Linear, false, 3072, 128);
        check(48, 4, Kind::Linear, false, 64, -1);
        check(64, 4, Kind::Linear, false, 64, -1);
        check(-1, 4, Kind::Linear, false, 3072, -1);
        check(-2, 4, Kind::Linear, false, 3072, -2);
        check(64, 4, Kind::TransposedConvolution, false, 256, -1);
        check(-2, 4, Kind::TransposedConvolution, false, 256, -2);
        check(-2, 4, Kind::Embedding, false, 256, -1);
        check(64, 4, Kind::Embedding, true, 256, -1);
    }

    #[test]
    fn rotations_divide_the_channels() {
        fn check(limit: u32, channels: u64, size: u32) {
            assert_eq!(resolve_hadamard(limit, &[64, channels]), size, "{limit} for {channels}");
        }
        check(256, 3072, 256);
        check(256, 192, 64);
        check(256, 128, 128);
        check(128, 3072, 128);
        check(256, 1155, 0);
        check(256, 30, 0);
        check(0, 3072, 0);
    }

    #[test]
    fn arrays_have_the_shapes_that_the_library_makes() {
        fn check(shape: &[u64], dtype: &str, recipe: Recipe, expected: &str) {
            let code = Code::parse(dtype).expect("a dtype");
            let recipe = Recipe { dtype: Dtype::new(dtype), ..recipe };
            let parts = parts("a.weight", shape, code, &recipe, Storage::BF16);
            let text: Vec<String> =
                parts.iter().map(|p| format!("{} {}{:?}", name::last(&p.name), p.storage, p.shape)).collect();
            assert_eq!(text.join(", "), expected);
        }
        let group = |n| Recipe::plain(Family::Sdnq, Dtype::new(""), n);
        check(&[256, 192], "int8", group(-1), "weight I8[256, 192], scale F32[256, 1]");
        check(&[256, 192], "int8", group(-2), "weight I8[256, 192], scale F32[1, 1]");
        check(&[256, 192], "int8", group(64), "weight I8[256, 3, 64], scale F32[256, 3, 1]");
        check(&[256, 192], "uint4", group(64), "weight U8[24576], scale F32[256, 3, 1], zero_point F32[256, 3, 1]");
        check(&[256, 192], "float8_e3m4fn", group(64), "weight U8[256, 3, 64], scale F32[256, 3, 1]");
        check(&[256, 192], "float16_e5m10fn", group(-1), "weight U16[256, 192], scale F32[256, 1]");
        check(&[256, 192], "float6_e3m2fn", group(-1), "weight U8[12288, 3], scale F32[256, 1]");
        let levels = Recipe { codebook: true, ..group(64) };
        check(&[256, 192], "uint4", levels, "weight U8[24576], scale F32[256, 3, 16]");
        let levels = Recipe { codebook: true, ..group(-2) };
        check(&[256, 192], "uint4", levels, "weight U8[24576], scale F32[16]");
        check(&[96, 64, 3, 3], "int8", group(-1), "weight I8[96, 64, 3, 3], scale F32[96, 1, 3, 3]");
        check(&[96, 64, 3, 3], "int8", group(32), "weight I8[96, 2, 32, 3, 3], scale F32[96, 2, 1, 3, 3]");
        check(&[96, 64, 3, 3], "int8", group(-2), "weight I8[96, 64, 3, 3], scale F32[1, 1, 1, 1]");
        let low_rank = Recipe { svd_rank: 32, ..group(-1) };
        check(
            &[96, 64, 3, 3],
            "uint4",
            low_rank,
            "weight U8[27648], scale F32[96, 1, 3, 3], zero_point F32[96, 1, 3, 3], svd_up BF16[96, 32], svd_down BF16[32, 576]",
        );
        let transposed = Recipe { axis: 0, ..group(-1) };
        check(&[64, 32, 3, 3], "int8", transposed, "weight I8[64, 32, 3, 3], scale F32[1, 32, 3, 3]");
    }
}
