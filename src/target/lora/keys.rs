//! The arrays of an adapter file, by name: what each one is, and which of them make one module.
//!
//! Every trainer has a naming of its own: kohya (`lora_unet_a_b.lora_down.weight`), PEFT
//! (`base_model.model.a.b.lora_A.weight`), old diffusers (`unet.a.processor.to_q_lora.down.weight`), ComfyUI
//! (`diffusion_model.a.b.diff`), LyCORIS (`hada_…`, `lokr_…`). They all end in the part that the array plays; what
//! stands before it is the module, in the words of some model.
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The part that an array plays in its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// LoRA, `[rank, in, k…]`.
    Down,
    /// LoRA, `[out, rank, 1…]`.
    Up,
    /// LoCon with a Tucker core, `[rank, rank, k…]`.
    Mid,
    /// The bias that PEFT trains beside `lora_B`.
    UpBias,
    /// AdaLoRA's singular values, between the two factors.
    Singular,
    /// LoRA of an embedding, `[rank, entries]`.
    EmbeddingA,
    /// LoRA of an embedding, `[width, rank]`.
    EmbeddingB,
    /// One number: the update is scaled by alpha / rank.
    Alpha,
    /// DoRA as LyCORIS has it: `[out, 1…]` or `[1, in, 1…]`.
    DoraScale,
    /// DoRA as PEFT has it: one number per output.
    Magnitude,
    /// LoHa, `[out, rank]`; with a Tucker core `[rank, out]`.
    HadaW1A,
    /// LoHa, `[rank, in·k]`; with a Tucker core `[rank, in]`.
    HadaW1B,
    /// LoHa's Tucker core, `[rank, rank, k…]`.
    HadaT1,
    /// Like the first.
    HadaW2A,
    /// Like the first.
    HadaW2B,
    /// Like the first.
    HadaT2,
    /// LoKr, `[a, c]` of `[a·b, c·d, k…]`.
    LokrW1,
    /// LoKr, `[a, rank]`.
    LokrW1A,
    /// LoKr, `[rank, c]`.
    LokrW1B,
    /// LoKr, `[b, d, k…]`.
    LokrW2,
    /// LoKr, `[b, rank]`; with a Tucker core `[rank, b]`.
    LokrW2A,
    /// LoKr, `[rank, d·k]`; with a Tucker core `[rank, d]`.
    LokrW2B,
    /// LoKr's Tucker core, `[rank, rank, k…]`.
    LokrT2,
    /// What is added to the weight as it is.
    Diff,
    /// What is added to the bias as it is.
    DiffBias,
    /// What takes the place of the weight.
    Set,
}

/// How a module changes its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A product of two thin matrices.
    Lora,
    /// The same for a table of vectors, transposed.
    Embedding,
    /// The elementwise product of two such products.
    Loha,
    /// A Kronecker product.
    Lokr,
    /// A full difference.
    Diff,
    /// A full replacement.
    Set,
    /// Only the bias changes.
    Bias,
}

/// The arrays that change one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The layer, as the file calls it: with its prefix, without the array's part.
    pub path: String,
    /// How its weight changes.
    pub kind: Kind,
    /// Its arrays: the part each plays, and its index in the file. Ordered by part.
    pub arrays: Vec<(Role, usize)>,
    /// Rows and columns (of a convolution, with the kernel) of the change; 0 × 0 of [`Kind::Bias`].
    pub shape: (u64, u64),
    /// The length of the change of the bias, if there is one.
    pub bias: Option<u64>,
}

impl Module {
    /// The array that plays a part.
    pub fn array(&self, role: Role) -> Option<usize> {
        self.arrays.iter().find(|(r, _)| *r == role).map(|(_, index)| *index)
    }
}

/// An array that nothing can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its index in the file.
    pub key: usize,
    /// Why, for people.
    pub why: &'static str,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    /// In the order of their first arrays.
    pub modules: Vec<Module>,
    /// What is left, in the order of the file.
    pub unknown: Vec<Unknown>,
}

/// Names that say what an array is, as the last segment but for `.weight` and the name of an adapter.
const FACTORS: [(&str, Role); 23] = [
    ("lora_down", Role::Down),
    ("lora_A", Role::Down),
    ("lora_up", Role::Up),
    ("lora_B", Role::Up),
    ("lora_mid", Role::Mid),
    ("lora_E", Role::Singular),
    ("lora_embedding_A", Role::EmbeddingA),
    ("lora_embedding_B", Role::EmbeddingB),
    ("lora_magnitude_vector", Role::Magnitude),
    ("dora_scale", Role::DoraScale),
    ("hada_w1_a", Role::HadaW1A),
    ("hada_w1_b", Role::HadaW1B),
    ("hada_t1", Role::HadaT1),
    ("hada_w2_a", Role::HadaW2A),
    ("hada_w2_b", Role::HadaW2B),
    ("hada_t2", Role::HadaT2),
    ("lokr_w1", Role::LokrW1),
    ("lokr_w1_a", Role::LokrW1A),
    ("lokr_w1_b", Role::LokrW1B),
    ("lokr_w2", Role::LokrW2),
    ("lokr_w2_a", Role::LokrW2A),
    ("lokr_w2_b", Role::LokrW2B),
    ("lokr_t2", Role::LokrT2),
];

/// Names that say so as the very last segment only.
const ENDS: [(&str, Role); 6] = [
    ("alpha", Role::Alpha),
    ("diff", Role::Diff),
    ("diff_b", Role::DiffBias),
    ("set_weight", Role::Set),
    ("w_norm", Role::Diff),
    ("b_norm", Role::DiffBias),
];

/// Arrays of methods that change weights in another way, by their last segments.
const OTHER_METHODS: [(&[&str], &str); 3] = [
    (
        &["oft_blocks", "oft_diag", "oft_R", "boft_R", "boft_s", "rescale"],
        "an orthogonal adapter (OFT, BOFT): it cannot be merged row by row",
    ),
    (&["a1", "a2", "b1", "b2"], "a GLoRA adapter: not supported"),
    (&["reshape_weight"], "the adapter changes the shape of the layer: not supported"),
];

fn lookup(table: &[(&str, Role)], segment: &str) -> Option<Role> {
    table.iter().find(|(name, _)| *name == segment).map(|(_, role)| *role)
}

/// A name taken apart: the layer, the adapter (PEFT can keep several in one file), the part.
fn split(name: &str) -> Option<(String, &str, Role)> {
    let (rest, last) = name.rsplit_once('.')?;
    if let Some(role) = lookup(&ENDS, last) {
        return Some((rest.to_owned(), "", role));
    }
    // `.lora_A`, `.lora_A.weight`, `.lora_A.default`, `.lora_A.default.weight`.
    let (stem, is_bias) = match last {
        "weight" => (rest, false),
        "bias" => (rest, true),
        _ => (name, false),
    };
    let (before, end) = stem.rsplit_once('.')?;
    if let Some((path, role)) = factor(before, end) {
        return finish(path, "", role, is_bias);
    }
    let (before, factor_name) = before.rsplit_once('.')?;
    let (path, role) = factor(before, factor_name)?;
    finish(path, if end == "default" { "" } else { end }, role, is_bias)
}

fn finish(path: String, adapter: &str, role: Role, is_bias: bool) -> Option<(String, &str, Role)> {
    let role = match (role, is_bias) {
        (role, false) => role,
        (Role::Up, true) => Role::UpBias,
        _ => return None,
    };
    Some((path, adapter, role))
}

/// The layer and the part, where `end` is the last segment that counts and `before` all that stands before it.
fn factor(before: &str, end: &str) -> Option<(String, Role)> {
    if let Some(role) = lookup(&FACTORS, end) {
        return Some((before.to_owned(), role));
    }
    let role = match end {
        "down" => Role::Down,
        "up" => Role::Up,
        _ => return None,
    };
    let (path, holder) = before.rsplit_once('.')?;
    match holder {
        "lora" | "lora_linear_layer" => Some((path.to_owned(), role)),
        // Attention processors of old diffusers hold the factors of their attention's layers.
        _ if holder.starts_with("to_") => holder.strip_suffix("_lora").map(|layer| (format!("{path}.{layer}"), role)),
        // XLabs' processors: which layer these are is a matter of the model.
        "qkv_lora" | "qkv_lora1" | "qkv_lora2" | "proj_lora" | "proj_lora1" | "proj_lora2" => {
            Some((before.to_owned(), role))
        }
        _ => None,
    }
}

/// What takes a whole tensor's place, by the names of whole tensors.
fn replacement(name: &str, bfl: bool) -> Option<String> {
    let is_saved = name.starts_with("base_model.model.") && (name.ends_with(".weight") || name.ends_with(".bias"));
    if let (true, Some(layer)) = (is_saved, name.strip_suffix(".base_layer.weight")) {
        return Some(format!("{layer}.weight"));
    }
    // PEFT's modules_to_save; Black Forest Labs' control adapters bring the norms' scales whole.
    (is_saved || (bfl && name.ends_with("_norm.scale"))).then(|| name.to_owned())
}

/// Reads the names and shapes of a file's arrays. Nothing is dropped: what makes no module is listed.
pub fn parse(arrays: &[(&str, &[u64])]) -> Keys {
    let has = |wanted: &str| arrays.iter().any(|(name, _)| *name == wanted);
    let bfl = has("img_in.lora_A.weight") && has("single_blocks.0.norm.key_norm.scale");
    let mut keys = Keys::default();
    let mut found: Vec<(String, Vec<(Role, usize)>)> = Vec::new();
    let mut by_name: HashMap<(String, &str), usize> = HashMap::new();
    for (index, (name, _)) in arrays.iter().enumerate() {
        let split = split(name).or_else(|| replacement(name, bfl).map(|path| (path, "", Role::Set)));
        let Some((path, adapter, role)) = split.filter(|(path, ..)| !path.is_empty()) else {
            keys.unknown.push(Unknown { key: index, why: why_unknown(name) });
            continue;
        };
        let module = match by_name.entry((path, adapter)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                found.push((entry.key().0.clone(), Vec::new()));
                *entry.insert(found.len() - 1)
            }
        };
        let Some((_, roles)) = found.get_mut(module) else { continue };
        if roles.iter().any(|(r, _)| *r == role) {
            keys.unknown.push(Unknown { key: index, why: "the layer has another array of this kind" });
        } else {
            roles.push((role, index));
        }
    }
    for (path, mut roles) in found {
        roles.sort_unstable();
        match module(path, &roles, |index| arrays.get(index).map_or(&[], |(_, shape)| *shape)) {
            Ok((module, rest)) => {
                let why = "the layer is already changed in another way";
                keys.unknown.extend(rest.into_iter().map(|key| Unknown { key, why }));
                keys.modules.push(module);
            }
            Err(why) => keys.unknown.extend(roles.iter().map(|(_, key)| Unknown { key: *key, why })),
        }
    }
    keys.unknown.sort_by_key(|u| u.key);
    keys
}

fn why_unknown(name: &str) -> &'static str {
    let mut segments = name.rsplit('.').filter(|s| *s != "weight");
    let last = segments.next().unwrap_or_default();
    let method = OTHER_METHODS.iter().find(|(names, _)| names.contains(&last));
    method.map_or("not the name of an adapter's array", |(_, why)| why)
}

/// Parts that belong to no way of changing the weight, but go with several.
const BESIDE: [Role; 4] = [Role::Alpha, Role::DoraScale, Role::Magnitude, Role::DiffBias];

/// A module of its arrays, and the arrays that it has no place for; else why there is none.
fn module<'a>(
    path: String,
    roles: &[(Role, usize)],
    shape_of: impl Fn(usize) -> &'a [u64],
) -> Result<(Module, Vec<usize>), &'static str> {
    let get = |role: Role| roles.iter().find(|(r, _)| *r == role).map(|(_, index)| shape_of(*index));
    let (kind, used, shape) = weight_change(&get)?;
    let takes = |role: Role| match role {
        // A number beside a full difference has nothing to scale.
        Role::Alpha => true,
        Role::Magnitude => !matches!(kind, Kind::Set | Kind::Bias),
        Role::DoraScale => !matches!(kind, Kind::Set | Kind::Bias) && get(Role::Magnitude).is_none(),
        Role::UpBias => kind == Kind::Lora,
        role => used.contains(&role) || BESIDE.contains(&role),
    };
    let (arrays, rest): (Vec<_>, Vec<_>) = roles.iter().partition(|(role, _)| takes(*role));
    let bias = get(Role::DiffBias).or_else(|| get(Role::UpBias)).map(elements);
    let bias = bias.map(|elements| elements.ok_or(MALFORMED)).transpose()?;
    Ok((Module { path, kind, arrays, shape, bias }, rest.into_iter().map(|(_, index)| index).collect()))
}

const MALFORMED: &str = "the shapes of the layer's arrays make no matrix";

type Change = (Kind, &'static [Role], (u64, u64));

fn weight_change<'a>(get: &impl Fn(Role) -> Option<&'a [u64]>) -> Result<Change, &'static str> {
    use Role::*;
    if get(Singular).is_some() {
        return Err("an AdaLoRA adapter: not supported");
    }
    if get(Down).is_some() || get(Up).is_some() {
        let (Some(down), Some(up)) = (get(Down), get(Up)) else {
            return Err("only one of the two factors of a LoRA");
        };
        let kernel = get(Mid).map_or(Some(1), kernel);
        let shape = first(up).zip(tail(down).zip(kernel).and_then(|(a, b)| a.checked_mul(b)));
        return Ok((Kind::Lora, &[Down, Up, Mid], shape.ok_or(MALFORMED)?));
    }
    if get(EmbeddingA).is_some() || get(EmbeddingB).is_some() {
        let (Some(a), Some(b)) = (get(EmbeddingA), get(EmbeddingB)) else {
            return Err("only one of the two factors of a LoRA");
        };
        return Ok((Kind::Embedding, &[EmbeddingA, EmbeddingB], tail(a).zip(first(b)).ok_or(MALFORMED)?));
    }
    if [HadaW1A, HadaW1B, HadaW2A, HadaW2B].into_iter().any(|role| get(role).is_some()) {
        let (Some(a), Some(b), Some(_), Some(_)) = (get(HadaW1A), get(HadaW1B), get(HadaW2A), get(HadaW2B)) else {
            return Err("some of the four factors of a LoHa are missing");
        };
        if get(HadaT1).is_some() != get(HadaT2).is_some() {
            return Err("only one of the two cores of a LoHa");
        }
        let shape = product(a, b, get(HadaT1)).ok_or(MALFORMED)?;
        return Ok((Kind::Loha, &[HadaW1A, HadaW1B, HadaW2A, HadaW2B, HadaT1, HadaT2], shape));
    }
    if [LokrW1, LokrW2, LokrW1A, LokrW1B, LokrW2A, LokrW2B].into_iter().any(|role| get(role).is_some()) {
        const MISSING: &str = "some of the factors of a LoKr are missing";
        let side = |whole: Option<&[u64]>, a: Option<&[u64]>, b: Option<&[u64]>, core: Option<&[u64]>| match whole {
            Some(whole) => first(whole).zip(tail(whole)).ok_or(MALFORMED),
            None => product(a.ok_or(MISSING)?, b.ok_or(MISSING)?, core).ok_or(MALFORMED),
        };
        let (a, c) = side(get(LokrW1), get(LokrW1A), get(LokrW1B), None)?;
        let (b, d) = side(get(LokrW2), get(LokrW2A), get(LokrW2B), get(LokrT2))?;
        let shape = a.checked_mul(b).zip(c.checked_mul(d)).ok_or(MALFORMED)?;
        // Of a factor that is there whole and in parts, the whole counts.
        let used: &[Role] = match (get(LokrW1).is_some(), get(LokrW2).is_some()) {
            (true, true) => &[LokrW1, LokrW2],
            (true, false) => &[LokrW1, LokrW2A, LokrW2B, LokrT2],
            (false, true) => &[LokrW1A, LokrW1B, LokrW2],
            (false, false) => &[LokrW1A, LokrW1B, LokrW2A, LokrW2B, LokrT2],
        };
        return Ok((Kind::Lokr, used, shape));
    }
    let whole = |shape: &[u64]| first(shape).zip(tail(shape)).ok_or(MALFORMED);
    if let Some(shape) = get(Set) {
        return Ok((Kind::Set, &[Set], if shape.is_empty() { (1, 1) } else { whole(shape)? }));
    }
    if let Some(shape) = get(Diff) {
        return Ok((Kind::Diff, &[Diff], if shape.is_empty() { (1, 1) } else { whole(shape)? }));
    }
    if get(DiffBias).is_some() {
        return Ok((Kind::Bias, &[], (0, 0)));
    }
    Err("nothing that changes a weight goes with it")
}

fn first(shape: &[u64]) -> Option<u64> {
    shape.first().copied()
}

/// Columns, all dimensions but the first taken together.
fn tail(shape: &[u64]) -> Option<u64> {
    elements(shape.get(1..)?)
}

/// The kernel's elements, which is what follows the two ranks of a core.
fn kernel(core: &[u64]) -> Option<u64> {
    elements(core.get(2..)?)
}

fn elements(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim))
}

/// Rows and columns of `a · b`; with a core between them `a` lies transposed.
fn product(a: &[u64], b: &[u64], core: Option<&[u64]>) -> Option<(u64, u64)> {
    match core {
        None => first(a).zip(tail(b)),
        Some(core) => tail(a).zip(tail(b)?.checked_mul(kernel(core)?)),
    }
}

#[cfg(test)]
mod tests;
