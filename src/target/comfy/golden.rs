//! Against comfy-kitchen, by a file that `tests/interop/make_comfy_golden.py` wrote.
use std::collections::BTreeMap;

use super::describe::SUFFIX;
use super::format::Format;
use crate::core::recipe::group_size;
use crate::core::{Family, Settings, Storage};
use crate::target::state_dict::{Array, convert_state_dict};

type Arrays = BTreeMap<String, Array>;

/// Every array of the file, by its name there.
fn golden() -> Arrays {
    let file = safetensors::SafeTensors::deserialize(include_bytes!("../../../tests/data/comfy/golden.safetensors"));
    let file = file.expect("the golden file");
    let array = |t: safetensors::tensor::TensorView| Array {
        storage: t.dtype(),
        shape: t.shape().iter().map(|n| *n as u64).collect(),
        bytes: t.data().to_vec(),
    };
    file.tensors().into_iter().map(|(name, t)| (name, array(t))).collect()
}

/// The arrays of one case, by their names in a model.
fn case(all: &Arrays, prefix: &str) -> Arrays {
    let of_case = all.iter().filter_map(|(name, a)| Some((name.strip_prefix(prefix)?.to_owned(), a.clone())));
    of_case.filter(|(name, _)| name.starts_with("l.")).collect()
}

fn floats(array: &Array) -> Vec<f32> {
    array.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// What mixdown makes of a weight.
fn ours(all: &Arrays, weight: &str, format: Format, change: impl Fn(&mut Settings)) -> Arrays {
    let mut settings = Settings::new(Family::Comfy);
    settings.defaults.dtype = Some(format.dtype());
    settings.defaults.keep = Some(false);
    settings.metadata_tensors = Some(false);
    change(&mut settings);
    let tensors = BTreeMap::from([("l.weight".to_owned(), all[&format!("{weight}/w")].clone())]);
    convert_state_dict(tensors, &settings).expect("converted").tensors
}

/// What mixdown reads of arrays that somebody else wrote.
fn read(arrays: Arrays) -> Vec<f32> {
    let mut settings = Settings::new(Family::Float);
    settings.defaults.dtype = Some(crate::core::Dtype::new("F32"));
    let read = convert_state_dict(arrays, &settings).expect("read").tensors;
    assert_eq!(read.keys().collect::<Vec<_>>(), ["l.weight"]);
    floats(&read["l.weight"])
}

/// What a description says, whatever the order in which it does.
fn said(array: &Array) -> serde_json::Value {
    serde_json::from_slice(&array.bytes).expect("JSON")
}

const WEIGHTS: [&str; 3] = ["even", "odd", "powers"];

#[test]
fn bytes_are_those_of_comfy_kitchen() {
    let all = golden();
    let check = |name: &str, format: Format, change: &dyn Fn(&mut Settings)| {
        for weight in WEIGHTS {
            let theirs = case(&all, &format!("{weight}/{name}/"));
            let ours = ours(&all, weight, format, change);
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{weight} {name}");
            for (part, theirs) in &theirs {
                let ours = &ours[part];
                if part.ends_with(SUFFIX) {
                    assert_eq!(said(ours), said(theirs), "{weight} {name}");
                    continue;
                }
                assert_eq!((ours.storage, &ours.shape), (theirs.storage, &theirs.shape), "{weight} {name} {part}");
                let other = ours.bytes.iter().zip(&theirs.bytes).position(|(a, b)| a != b);
                assert_eq!(other, None, "{weight} {name} {part}: the first byte that differs");
            }
        }
    };
    check("float8_e4m3fn", Format::E4m3, &|_| ());
    check("float8_e5m2", Format::E5m2, &|_| ());
    check("int8_tensor", Format::Int8, &|s| s.defaults.group_size = Some(group_size::TENSOR));
    check("int8_row", Format::Int8, &|_| ());
    check("nvfp4", Format::Nvfp4, &|_| ());
    check("mxfp8", Format::Mxfp8, &|_| ());
}

#[test]
fn what_comfy_kitchen_wrote_is_read_as_it_reads_it() {
    let all = golden();
    let mut cases = 0;
    for (name, theirs) in all.iter().filter(|(name, _)| name.ends_with("/back")) {
        let prefix = name.trim_end_matches("back");
        let mut arrays = case(&all, prefix);
        // Padding hides a layer's shape, which ComfyUI has from its model; convert_to_quant writes it down.
        let description = arrays.get_mut("l.comfy_quant").expect("a description");
        let mut text = said(description);
        text["orig_shape"] = theirs.shape.clone().into();
        description.bytes = text.to_string().into_bytes();
        description.shape = vec![description.bytes.len() as u64];
        let (ours, theirs) = (read(arrays), floats(theirs));
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let most = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            // A rotation of 64 adds 64 values in another order than torch: 6 roundings more or less of the largest sum.
            let slack = if prefix.contains("w") || prefix.contains("rot") { 8.0 * f32::EPSILON * most } else { 0.0 };
            assert!((a - b).abs() <= slack, "{name} {i}: {a}, not {b}");
        }
        cases += 1;
    }
    assert_eq!(cases, 26);
}

#[test]
fn rotated_codes_are_as_good_as_those_of_comfy_kitchen() {
    let all = golden();
    let check = |name: &str, format: Format, group: u32| {
        for weight in ["even", "powers"] {
            let values = floats(&all[&format!("{weight}/w")]);
            let error = |back: &[f32]| values.iter().zip(back).map(|(v, b)| f64::from(v - b).powi(2)).sum::<f64>();
            let theirs = error(&floats(&all[&format!("{weight}/{name}/back")]));
            let ours = ours(&all, weight, format, |s| s.defaults.hadamard = Some(group));
            let described = said(&ours[&format!("l{SUFFIX}")]);
            assert_eq!(described, said(&all[&format!("{weight}/{name}/l{SUFFIX}")]), "{weight} {name}");
            let ours = error(&read(ours));
            // Sums in another order: codes differ where two are almost equally near.
            assert!(ours <= theirs * 1.001, "{weight} {name}: {ours} and {theirs}");
        }
    };
    check("int8_convrot", Format::Int8, 64);
    check("convrot_w4a4", Format::W4a4, 64);
    check("w4a8", Format::W4a8, 64);
    check("w6a8", Format::W6a8, 64);
}

#[test]
fn a_search_never_loses_more() {
    let all = golden();
    let weight = floats(&all["even/w"]);
    let check = |format: Format, most: f64| {
        let error = |search| {
            let back = read(ours(&all, "even", format, |s| s.defaults.scale_search = Some(search)));
            weight.iter().zip(&back).map(|(v, b)| f64::from(v - b).powi(2)).sum::<f64>()
        };
        let ratio = error(crate::core::ScaleSearch::Mse) / error(crate::core::ScaleSearch::Absmax);
        assert!(ratio <= most, "{}: {ratio}", format.name());
    };
    check(Format::E4m3, 1.0);
    check(Format::E5m2, 1.0);
    check(Format::Int8, 1.0);
    check(Format::Nvfp4, 1.0);
    check(Format::Mxfp8, 1.0);
    check(Format::W4a4, 1.0);
    check(Format::W4a8, 1.0);
    check(Format::W6a8, 1.0);
    check(Format::Awq, 1.0);
}

#[test]
fn storage_types() {
    let all = golden();
    let arrays = ours(&all, "even", Format::Awq, |_| ());
    let shape = |name: &str| (arrays[name].storage, arrays[name].shape.clone());
    assert_eq!(shape("l.weight"), (Storage::I8, vec![32, 64]));
    assert_eq!(shape("l.weight_scale"), (Storage::F32, vec![2, 32]));
    assert_eq!(shape("l.weight_zeros"), (Storage::F32, vec![2, 32]));
    assert_eq!(said(&arrays["l.comfy_quant"]), serde_json::json!({"format": "awq_w4a16", "group_size": 64}));
}

#[test]
fn any_rows_are_read_of_a_tiled_layer() {
    use crate::target::codec::{Codec, Values};
    use crate::target::comfy::codec::ComfyCodec;
    use crate::target::values::InMemory;
    let shape = [300u64, 48];
    let values: Vec<f32> =
        (0..300 * 48).map(|i| ((i * 37 % 1009) as f32 / 504.0 - 1.0) * (1 + i / 4800) as f32).collect();
    for format in [Format::Nvfp4, Format::Mxfp8, Format::Awq] {
        let asked =
            crate::core::Recipe::plain(Family::Comfy, format.dtype(), if format == Format::Awq { 16 } else { 0 });
        let recipe = format.resolve(&asked, &shape).expect("it fits");
        let codec = ComfyCodec::new(format, &shape, &recipe).expect("a codec");
        let source = InMemory::new(&shape, values.clone()).expect("values");
        let prepared = codec.prepare(&source, &crate::core::Cancel::new()).expect("prepared");
        let mut parts: Vec<Vec<u8>> =
            format.parts("l.weight", &shape, &recipe).iter().map(|p| vec![0; p.bytes() as usize]).collect();
        let (g, mut slab) = (codec.geometry(), Vec::new());
        for i in 0..g.slabs() {
            source.read(g.slab(i), &mut slab).expect("read");
            let pieces = prepared.pieces(g.slab(i));
            let mut bytes: Vec<Vec<u8>> = pieces.iter().map(|p| vec![0; p.len()]).collect();
            let mut places: Vec<&mut [u8]> = bytes.iter_mut().map(Vec::as_mut_slice).collect();
            prepared.encode(g.slab(i), &slab, &mut places);
            for (piece, bytes) in pieces.iter().zip(&bytes) {
                parts[piece.part][piece.bytes.start as usize..piece.bytes.end as usize].copy_from_slice(bytes);
            }
        }
        for (part, bytes) in prepared.whole().into_iter().chain(prepared.finish()) {
            parts[part][..].copy_from_slice(&bytes);
        }
        let prepared = codec.load(&|part| Ok(parts[part].clone())).expect("loaded");
        let decode = |rows: std::ops::Range<usize>| {
            let pieces = prepared.pieces(rows.clone());
            let bytes: Vec<&[u8]> =
                pieces.iter().map(|p| &parts[p.part][p.bytes.start as usize..p.bytes.end as usize]).collect();
            let mut out = vec![0.0; rows.len() * 48];
            prepared.decode(rows, &bytes, &mut out);
            out
        };
        let whole = decode(0..300);
        for rows in [0..1, 100..130, 127..129, 130..300, 299..300] {
            let expected = &whole[rows.start * 48..rows.end * 48];
            assert_eq!(decode(rows.clone()), expected, "{} {rows:?}", format.name());
        }
        let most = whole.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most < 1.0, "{}: {most}", format.name());
    }
}
