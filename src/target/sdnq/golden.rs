//! The codec against layers that sdnq itself quantized: `tests/interop/make_sdnq_layers.py`.
use std::ops::Range;

use safetensors::SafeTensors;
use serde::Deserialize;

use super::code::Code;
use super::codes::SdnqCodec;
use super::resolve::parts;
use crate::core::dtype::StorageExt;
use crate::core::recipe::{Family, Recipe, group_size};
use crate::core::{Cancel, Dtype, Storage};
use crate::target::codec::{Codec, Prepared, room};
use crate::target::values::InMemory;

const LAYERS: &[u8] = include_bytes!("../../../tests/data/sdnq/layers.safetensors");

/// A layer's recipe as sdnq resolved it.
#[derive(Deserialize)]
struct Layer {
    kind: String,
    dtype: String,
    group_size: i64,
    svd_rank: u32,
    hadamard: u32,
    codebook: bool,
    axis: u8,
    /// The type that the low-rank factors are stored in.
    factors: String,
    /// Whether mixdown writes the same bytes.
    same_bytes: bool,
}

/// Calls `f` with every layer and its name; returns how many there were.
fn each(f: impl Fn(&str, &Layer, &SafeTensors)) -> usize {
    let (_, header) = SafeTensors::read_metadata(LAYERS).expect("a header");
    let layers = header.metadata().as_ref().and_then(|m| m.get("layers")).expect("a description");
    let layers: std::collections::BTreeMap<String, Layer> = serde_json::from_str(layers).expect("recipes");
    let tensors = SafeTensors::deserialize(LAYERS).expect("tensors");
    for (name, layer) in &layers {
        f(name, layer, &tensors);
    }
    layers.len()
}

fn floats(tensors: &SafeTensors, name: &str) -> Vec<f32> {
    let bytes = tensors.tensor(name).expect(name).data();
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn shape(layer: &Layer, tensors: &SafeTensors) -> Vec<u64> {
    tensors.tensor(&layer.kind).expect("a source").shape().iter().map(|n| *n as u64).collect()
}

impl Layer {
    fn recipe(&self) -> Recipe {
        Recipe {
            svd_rank: self.svd_rank,
            hadamard: self.hadamard,
            codebook: self.codebook,
            axis: self.axis,
            ..Recipe::plain(Family::Sdnq, Dtype::new(&self.dtype), self.group_size)
        }
    }
    fn code(&self) -> Code {
        Code::parse(&self.dtype).expect("a dtype")
    }
    fn factors(&self) -> Storage {
        match self.factors.as_str() {
            "bfloat16" => Storage::BF16,
            "float16" => Storage::F16,
            _ => Storage::F32,
        }
    }
    /// The bytes that sdnq stored, part by part, after a look at their shapes and types.
    fn stored<'a>(&self, name: &str, shape: &[u64], tensors: &SafeTensors<'a>) -> Vec<&'a [u8]> {
        let stored = parts("a.weight", shape, self.code(), &self.recipe(), self.factors()).into_iter().map(|part| {
            let part_name = part.name.trim_start_matches("a.");
            let tensor = tensors.tensor(&format!("{name}/{part_name}")).expect(part_name);
            let found: Vec<u64> = tensor.shape().iter().map(|n| *n as u64).collect();
            assert_eq!((part.storage.name(), &part.shape), (tensor.dtype().to_string(), &found), "{name}");
            tensor.data()
        });
        stored.collect()
    }
}

fn pieces<'a>(ready: &dyn Prepared, rows: Range<usize>, stored: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let bytes = |r: Range<u64>| r.start as usize..r.end as usize;
    ready.pieces(rows).into_iter().map(|p| &stored[p.part][bytes(p.bytes)]).collect()
}

#[test]
fn what_sdnq_wrote_is_decoded_as_sdnq_decodes_it() {
    let count = each(|name, layer, tensors| {
        let shape = shape(layer, tensors);
        let stored = layer.stored(name, &shape, tensors);
        let codec = SdnqCodec::new(&shape, layer.code(), &layer.recipe(), layer.factors()).expect(name);
        let ready = codec.load(&|part| Ok(stored[part].to_vec())).expect(name);
        let rows = 0..shape[0] as usize;
        let expected = floats(tensors, &format!("{name}/dequantized"));
        let mut decoded = vec![0.0; expected.len()];
        ready.decode(rows.clone(), &pieces(&*ready, rows, &stored), &mut decoded);
        // A code's value is a product and a sum, rounded once or twice; a rotation or a branch sums up at most 64
        // products in an order of its own: a few roundings, 6e-8 each, of the largest value that shares the scale.
        let shares_scales = layer.axis == 0 || layer.group_size == group_size::TENSOR;
        let block = if shares_scales { expected.len() } else { codec.geometry().cols };
        for (block, (decoded, expected)) in decoded.chunks(block).zip(expected.chunks(block)).enumerate() {
            let most = 1e-6 * expected.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            for (a, b) in decoded.iter().zip(expected) {
                assert!((a - b).abs() <= most, "{name}, block {block}: {a} for {b}");
            }
        }
    });
    assert_eq!(count, 49);
}

#[test]
fn integers_and_hardware_floats_are_encoded_to_sdnqs_bytes() {
    each(|name, layer, tensors| {
        if !layer.same_bytes {
            return;
        }
        let shape = shape(layer, tensors);
        let source = floats(tensors, &layer.kind);
        let codec = SdnqCodec::new(&shape, layer.code(), &layer.recipe(), layer.factors()).expect(name);
        let values = InMemory::new(&shape, source.clone()).expect(name);
        let ready = codec.prepare(&values, &Cancel::new()).expect(name);
        let stored = layer.stored(name, &shape, tensors);
        let mut found: Vec<Vec<u8>> = stored.iter().map(|_| Vec::new()).collect();
        for (part, bytes) in ready.whole() {
            found[part] = bytes;
        }
        let rows = 0..shape[0] as usize;
        let (pieces, mut bytes) = (ready.pieces(rows.clone()), Vec::new());
        let mut places = room(&pieces, &mut bytes);
        ready.encode(rows, &source, &mut places);
        for (piece, bytes) in pieces.iter().zip(places) {
            found[piece.part] = bytes.to_vec();
        }
        for (part, (found, stored)) in found.iter().zip(stored).enumerate() {
            assert!(found == stored, "{name}: part {part} differs");
        }
    });
}
