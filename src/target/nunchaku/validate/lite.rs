//! A Lite folder: the config's section, and the arrays of each layer that it names. What is missing diffusers leaves on
//! the meta device, what is too much it ignores; it says neither.
use serde_json::Value;

use super::ByName;
use crate::core::Storage;
use crate::core::dtype::StorageExt;
use crate::target::check::{Check, Findings, passes};

/// The config's section, of a folder that is one.
pub fn config(config: Option<&Value>) -> Option<&Value> {
    let section = config?.get("quantization_config")?;
    (section.get("quant_method")?.as_str() == Some("nunchaku_lite")).then_some(section)
}

/// All checks of the arrays.
pub fn checks(config: &Value, has_class: bool, by_name: &ByName) -> Vec<Check> {
    let mut said = Findings::new("config");
    if !has_class {
        said.warn("config.json names no class of diffusers (`_class_name`), which alone loads such folders");
    }
    let mut complete = Findings::new("complete");
    let mut shapes = Findings::new("shapes");
    let sections = ["svdq_w4a4", "awq_w4a16"].map(|key| (key, config.get(key).filter(|s| !s.is_null())));
    if sections.iter().all(|(_, s)| s.is_none()) {
        said.error("quantization_config has neither `svdq_w4a4` nor `awq_w4a16`");
    }
    let mut layers = 0;
    let mut needs_fp4 = false;
    for (key, section) in sections {
        let Some(section) = section else { continue };
        let precision = section.get("precision").and_then(Value::as_str).unwrap_or_default();
        let group = match (key, precision) {
            (_, "int4") => 64,
            ("svdq_w4a4", "nvfp4") => 16,
            _ => {
                said.error(format!("{key}: no precision `{precision}`"));
                continue;
            }
        };
        needs_fp4 |= precision == "nvfp4";
        if section.get("group_size").and_then(Value::as_u64) != Some(group) {
            said.error(format!("{key}: group_size is not {group}, as {precision} has"));
        }
        let rank = section.get("rank").and_then(Value::as_u64).unwrap_or(0);
        if key == "svdq_w4a4" && !(rank >= 16 && rank.is_multiple_of(16)) {
            said.error(format!("{key}: rank {rank}; the kernels take multiples of 16, from 16"));
        }
        let targets: Vec<&str> =
            section.get("targets").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if targets.is_empty() {
            said.error(format!("{key}: `targets` names no layer"));
        }
        for target in targets {
            layers += 1;
            let awq = key == "awq_w4a16";
            layer(target, awq, precision == "nvfp4", rank, by_name, &mut complete, &mut shapes);
        }
    }
    let named: std::collections::HashSet<&str> = ["svdq_w4a4", "awq_w4a16"]
        .iter()
        .filter_map(|key| config.get(*key)?.get("targets")?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for name in by_name.keys() {
        let Some((layer, part)) = name.rsplit_once('.') else { continue };
        if part == "qweight" && !named.contains(layer) {
            complete.error(format!("`{name}`: its layer is no target, so it is ignored"));
        }
        if part == "smooth_factor_orig" && named.contains(layer) {
            complete.warn(format!("`{name}` is ignored: Lite has none"));
        }
    }
    let mut all = said.close(format!("quantization_config names {layers} layers"));
    all.extend(complete.close("every layer has all of its arrays"));
    all.extend(shapes.close("every array has the shape and type that its layer wants"));
    let gpu = if needs_fp4 { "compute capability 10 or newer" } else { "compute capability 7.5 or newer, not Hopper" };
    let detail = format!("diffusers 0.40 or newer with `kernels` installed, on GPUs of {gpu}");
    all.push(super::loads_with(passes(&all), detail));
    all
}

fn layer(
    target: &str,
    awq: bool,
    fp4: bool,
    rank: u64,
    by_name: &ByName,
    complete: &mut Findings,
    shapes: &mut Findings,
) {
    let Some(codes) = by_name.get(format!("{target}.qweight").as_str()) else {
        complete.error(format!("`{target}.qweight` is missing: the layer stays without weights, without a word"));
        return;
    };
    let [first, second] = codes.shape[..] else {
        shapes.error(format!("`{target}.qweight` {:?} is no matrix", codes.shape));
        return;
    };
    let half = Storage::BF16;
    let (rows, cols, mut wanted) = if awq {
        let (n, k) = (first.saturating_mul(4), second.saturating_mul(2));
        let grid = vec![k / 64, n];
        (
            n,
            k,
            vec![
                ("qweight", Storage::I32, codes.shape.clone()),
                ("wscales", half, grid.clone()),
                ("wzeros", half, grid),
            ],
        )
    } else {
        let (n, k) = (first, second.saturating_mul(2));
        let (scales, group) = if fp4 { (Storage::F8_E4M3, 16) } else { (half, 64) };
        let wanted = vec![
            ("qweight", Storage::I8, codes.shape.clone()),
            ("wscales", scales, vec![k / group, n]),
            ("smooth_factor", half, vec![k]),
            ("proj_down", half, vec![k, rank]),
            ("proj_up", half, vec![n, rank]),
        ];
        (n, k, wanted)
    };
    if fp4 && !awq {
        wanted.extend([("wcscales", half, vec![rows]), ("wtscale", half, vec![1])]);
    }
    let multiple = if awq { (8, 64) } else { (128, 128) };
    if !rows.is_multiple_of(multiple.0) || !cols.is_multiple_of(multiple.1) {
        let (n, k) = multiple;
        shapes.error(format!("`{target}` is {rows} × {cols}: the kernels want multiples of {n} and {k}"));
    }
    if by_name.contains_key(format!("{target}.bias").as_str()) {
        wanted.push(("bias", half, vec![rows]));
    }
    for (part, storage, shape) in wanted {
        let name = format!("{target}.{part}");
        match by_name.get(name.as_str()) {
            None => complete.error(format!("`{name}` is missing: it stays without values, without a word")),
            Some(array) => {
                let fits = array.storage == storage || storage == half && array.storage == Storage::F16;
                if !fits || array.shape != shape {
                    shapes.error(format!(
                        "`{name}` is {} {:?}, not {} {shape:?}",
                        array.storage.name(),
                        array.shape,
                        storage.name()
                    ));
                }
            }
        }
    }
}
