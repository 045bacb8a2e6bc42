//! A quantized model against the one it was made from, whatever the names of the two.
use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::core::dtype::StorageExt;
use crate::core::model::{Encoding, Tensor};
use crate::core::options::Names;
use crate::core::plan::Action;
use crate::core::{Cancel, Dtype, Error, Family, Loss, LossSums, Model, Result, Row, Settings, TensorId};
use crate::format::Opened;
use crate::quant::cast;
use crate::target::architecture::HEADS;
use crate::target::check::{Check, Findings, Level};
use crate::target::codec::Values;
use crate::target::comfy::without_prefix;
use crate::target::items;
use crate::target::nunchaku;
use crate::target::sdnq::code::Code;
use crate::target::sdnq::layers;
use crate::target::values;

/// A relative error above which a layer is not what it was: zeros alone would be as near.
const MOST: f64 = 1.0;
/// Bytes that are compared at a time; a multiple of every element's size.
const CHUNK: u64 = 1 << 20;

/// Compares names, shapes, what was kept, and what quantized layers decode to. Both models are recognised.
pub fn against(opened: &Arc<Opened>, source: &Arc<Opened>, cancel: &Cancel) -> Result<Vec<Check>> {
    let (model, original) = (&opened.model, &source.model);
    if let Some(why) = model.foreign.as_ref().or(original.foreign.as_ref()) {
        let mut found = Findings::new("against");
        found.error(format!("cannot be compared: {why}"));
        return Ok(found.close(""));
    }
    let rows = match !opened.gguf.is_empty() && source.gguf.is_empty() {
        true => in_gguf(original)?,
        false => as_called(model, original),
    };
    let mine: HashMap<&str, TensorId> = model.ids().map(|id| (without_prefix(&model.tensor(id).name), id)).collect();
    let theirs: HashMap<&str, &Row> = rows.iter().map(|row| (without_prefix(&row.name), row)).collect();
    let mut names = Findings::new("same tensors");
    for row in &rows {
        if !mine.contains_key(without_prefix(&row.name)) && !layers::is_leftover(&row.name, &row.shape) {
            // A head that shares its table may be left out.
            match HEADS.iter().any(|head| row.name.ends_with(head)) {
                true => names.warn(format!("`{}` is not there; fine if it shares another's weight", row.name)),
                false => names.error(format!("`{}` is not there", row.name)),
            }
        }
    }
    let mut shapes = Findings::new("same shapes");
    let mut pairs: Vec<(TensorId, &Row)> = Vec::new();
    for id in model.ids() {
        let tensor = model.tensor(id);
        let Some(before) = theirs.get(without_prefix(&tensor.name)) else {
            names.warn(format!("`{}` is not in {}", tensor.name, original.label));
            continue;
        };
        if is_same_shape(tensor, before) {
            pairs.push((id, before));
        } else {
            shapes.error(format!("`{}` is {:?}, it was {:?}", tensor.name, tensor.shape, before.shape));
        }
    }
    let (coded, plain): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|(id, _)| matches!(model.tensor(*id).encoding, Encoding::Packed { .. }));
    let mut kept = Findings::new("kept tensors");
    let changed: Vec<Option<String>> = plain
        .par_iter()
        .map(|(a, b)| {
            if copied(opened, source, *a, b) {
                bytes(opened, source, *a, b, cancel)
            } else {
                rounded(opened, source, *a, b, cancel)
            }
        })
        .collect::<Result<_>>()?;
    changed.into_iter().flatten().for_each(|c| kept.error(c));
    let losses: Vec<(&str, Loss)> =
        coded.par_iter().map(|(a, b)| loss(opened, source, *a, b, cancel)).collect::<Result<_>>()?;
    let mut error = Findings::new("relative error");
    for (name, loss) in &losses {
        let recipe = model.find(name).and_then(|id| match &model.tensor(id).encoding {
            Encoding::Packed { recipe, .. } => Some(recipe),
            Encoding::Plain(_) => None,
        });
        if let Some(recipe) = recipe.filter(|r| r.family == Family::Nunchaku) {
            let greatest = match model.find(name) {
                Some(id) if recipe.dtype.as_str() == nunchaku::read::BIAS => {
                    nunchaku::read::greatest(opened, model.tensor(id))?
                }
                _ => 0.0,
            };
            match nunchaku::read::judge(recipe, loss, greatest) {
                (Level::Ok, _) => {}
                (Level::Warn, said) => error.warn(format!("`{name}` {said}")),
                (Level::Error, said) => error.error(format!("`{name}` {said}")),
            }
            continue;
        }
        let detail = format!("`{name}` has {:.3e}: it is not the weight that it was", loss.relative_error);
        if loss.relative_error <= MOST {
            continue;
        }
        // Of a wide range one bit leaves the two ends, which may be further from most weights than zero is.
        let id = model.find(name).map(|id| model.tensor(id).dtype_name()).and_then(|d| Code::parse(&d));
        match loss.relative_error.is_finite() && id.is_some_and(|code| code.bits() == 1) {
            true => error.warn(detail),
            false => error.error(detail),
        }
    }
    // A bias that was zero is off by all of what it is now, however little that is.
    let weights = losses.iter().filter(|(name, _)| !name.ends_with(".bias"));
    let worst = weights.max_by(|a, b| a.1.relative_error.total_cmp(&b.1.relative_error));
    let worst = worst.map_or("no layer is quantized".to_owned(), |(name, loss)| {
        format!("{:.3e} at most, of `{name}`", loss.relative_error)
    });
    let same = plain.len();
    let checks = [
        names.close(format!("{} tensors", original.tensors.len())),
        shapes.close("every tensor has its shape"),
        kept.close(format!("{same} tensors are as they were")),
        error.close(worst),
    ];
    Ok(checks.concat())
}

/// The tensors of `original` as a GGUF file has them.
fn in_gguf(original: &Model) -> Result<Vec<Row>> {
    let mut settings = Settings::new(Family::Gguf);
    settings.defaults.dtype = Some(Dtype::new("F32"));
    Ok(super::get(Family::Gguf).rows(original, &settings)?.0)
}

/// The tensors of `original` under the names by which `model` has most of them.
fn as_called(model: &Model, original: &Model) -> Vec<Row> {
    let mine: std::collections::HashSet<&str> = model.tensors.iter().map(|t| without_prefix(&t.name)).collect();
    let known = |rows: &Vec<Row>| rows.iter().filter(|r| mine.contains(without_prefix(&r.name))).count();
    let mut best = items::rows(original, Names::Source);
    if known(&best) == best.len() {
        return best;
    }
    for names in [Names::Original, Names::Diffusers] {
        let rows = items::rows(original, names);
        if known(&rows) > known(&best) {
            best = rows;
        }
    }
    best
}

/// Whether a tensor has its shape still. Kernels that were made rows of a matrix for its products have.
fn is_same_shape(tensor: &Tensor, before: &Row) -> bool {
    let packed = matches!(tensor.encoding, Encoding::Packed { .. });
    let (rows, cols) = (before.shape.first().copied().unwrap_or(1), before.shape.iter().skip(1).product::<u64>());
    let flat = packed && tensor.shape.len() == 2 && (tensor.rows(), tensor.cols()) == (rows, cols);
    tensor.shape == before.shape || flat
}

/// Whether both are plain arrays of one type.
fn copied(opened: &Opened, source: &Opened, a: TensorId, b: &Row) -> bool {
    let a = opened.model.tensor(a);
    let theirs = |id: &TensorId| source.model.tensor(*id);
    b.action == Action::Copy
        && matches!(a.encoding, Encoding::Plain(_))
        && b.sources.iter().all(|id| theirs(id).storage == a.storage)
}

/// Compares bytes; says what differs.
fn bytes(opened: &Opened, source: &Opened, a: TensorId, b: &Row, cancel: &Cancel) -> Result<Option<String>> {
    let tensor = opened.model.tensor(a);
    let Encoding::Plain(i) = &tensor.encoding else { return Ok(None) };
    let mine = opened.model.stored[*i as usize].span;
    let mut at = 0;
    while at < mine.len.min(b.bytes_after()) {
        cancel.check()?;
        let len = CHUNK.min(mine.len - at) as usize;
        let (mut x, mut y) = (vec![0; len], vec![0; len]);
        opened.blobs[mine.file as usize].read_at(mine.offset + at, &mut x)?;
        values::copy(source, b, at, &mut y)?;
        if x != y {
            return Ok(Some(format!("`{}` is not quantized, yet other bytes than it was", tensor.name)));
        }
        at += len as u64;
    }
    Ok(None)
}

/// Compares values that may have been rounded to another type; says what differs.
fn rounded(
    opened: &Arc<Opened>,
    source: &Arc<Opened>,
    a: TensorId,
    b: &Row,
    cancel: &Cancel,
) -> Result<Option<String>> {
    let tensor = opened.model.tensor(a);
    let differs =
        |what: &str| Ok(Some(format!("`{}` is {}, it was {}{what}", tensor.name, tensor.storage.name(), b.from)));
    if !tensor.is_float() || !super::is_float(&source.model, b) {
        return differs("");
    }
    let mut same = true;
    let mine = values::of(opened, a)?;
    slabs(&*mine, &*values::of_row(source, b, mine.geometry())?, cancel, |mine, its| {
        let (mut bytes, mut back) = (Vec::new(), vec![0.0; its.len()]);
        // Rounding to a type that mixdown does not write is not held against a tensor.
        if cast::encode(tensor.storage, its, &mut bytes) && cast::decode(tensor.storage, &bytes, &mut back) {
            same &= mine.iter().zip(&back).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        }
    })?;
    if same { Ok(None) } else { differs(", and its values are not those rounded") }
}

/// What a layer lost.
fn loss<'a>(
    opened: &'a Arc<Opened>,
    source: &Arc<Opened>,
    a: TensorId,
    b: &Row,
    cancel: &Cancel,
) -> Result<(&'a str, Loss)> {
    let name = &opened.model.tensor(a).name;
    let mut sums = LossSums::default();
    let mine = values::of(opened, a)?;
    let its = values::of_row(source, b, mine.geometry())?;
    slabs(&*mine, &*its, cancel, |decoded, weights| sums.merge(&LossSums::of(weights, decoded)))
        .map_err(|e| e.at(format!("`{name}`")))?;
    Ok((name, sums.loss()))
}

/// Both tensors' values, slab by slab.
fn slabs(mine: &dyn Values, its: &dyn Values, cancel: &Cancel, mut f: impl FnMut(&[f32], &[f32])) -> Result<()> {
    let g = mine.geometry();
    if (g.rows, g.cols) != (its.geometry().rows, its.geometry().cols) {
        return Err(Error::failed("rows are not as long as they were"));
    }
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for slab in 0..g.slabs() {
        cancel.check()?;
        mine.read(g.slab(slab), &mut x)?;
        its.read(g.slab(slab), &mut y)?;
        f(&x, &y);
    }
    Ok(())
}
