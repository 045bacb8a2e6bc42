//! Plain floats: every weight cast to one type, quantized sources dequantized.
use std::ops::Range;

use serde_json::json;

use super::codec::{Codec, Geometry, Piece, Prepared, Values};
use super::layout::{Context, Description, pretty};
use super::metadata::Facts;
use super::{DtypeInfo, Knob, Target, kept, row_of};
use crate::core::dtype::{Storage, StorageExt};
use crate::core::model::{Encoding, TensorId};
use crate::core::plan::{Action, Part, Plan, Row};
use crate::core::recipe::Family;
use crate::core::rules::Decision;
use crate::core::{Cancel, Dtype, Error, Model, Result, Settings, Tensor};
use crate::quant::cast;

/// The target.
#[derive(Debug)]
pub struct Float;

/// Types that are written, with the names people give them.
const TYPES: [(Storage, &str, &[&str], &str); 3] = [
    (Storage::F32, "F32", &["float32", "fp32"], "exact for every source but F64"),
    (Storage::F16, "F16", &["float16", "fp16", "half"], "10 bits of mantissa; overflows above 65504"),
    (Storage::BF16, "BF16", &["bfloat16"], "the range of F32, 7 bits of mantissa"),
];

impl Target for Float {
    fn family(&self) -> Family {
        Family::Float
    }

    fn dtypes(&self) -> Vec<DtypeInfo> {
        TYPES
            .iter()
            .map(|(storage, name, _, about)| DtypeInfo {
                name: Dtype::new(name),
                bits: storage.bitsize() as f64,
                about,
            })
            .collect()
    }

    fn parse_dtype(&self, name: &str) -> Result<Dtype> {
        let lower = name.trim().to_ascii_lowercase();
        let found =
            TYPES.iter().find(|(_, n, aliases, _)| n.eq_ignore_ascii_case(&lower) || aliases.contains(&lower.as_str()));
        match found {
            Some((_, n, _, _)) => Ok(Dtype::new(n)),
            None => Err(super::unknown_dtype(Family::Float, name, TYPES.iter().map(|t| t.1))),
        }
    }

    fn default_dtype(&self) -> Dtype {
        Dtype::new("BF16")
    }

    fn has(&self, knob: Knob) -> Result<(), String> {
        Err(match knob {
            Knob::GroupSize => "float has no groups: nothing is scaled",
            Knob::SvdRank => "float has no low-rank branch",
            Knob::MetadataTensors => "float describes itself in the header",
            Knob::Hadamard => "float is not quantized: there is nothing to rotate for",
            Knob::Codebook => "float has no codes",
            Knob::QuantConv | Knob::QuantEmbedding => "float casts every layer",
            Knob::Dynamic => "float has no losses to choose by",
            Knob::Mixtures => "float has one type for all",
            Knob::Importance => "float is not quantized: there is nothing to weigh",
            Knob::ScaleSearch => "float has no scales",
            Knob::ConvRot => "float is not quantized: there is nothing to rotate for",
            Knob::KeepNames => "float keeps the source's names anyway",
            Knob::KeyNames => "float keeps the source's prefixes",
            Knob::DiffusersNames => return Ok(()),
            Knob::Nunchaku => "float is not quantized",
        }
        .into())
    }

    fn row(&self, _: &Model, id: TensorId, tensor: &Tensor, decision: &Decision, settings: &Settings) -> Result<Row> {
        if !tensor.is_float() {
            return Ok(kept(tensor, id, decision, Some(format!("{} is not a float type", tensor.storage.name()))));
        }
        if decision.keeps() {
            let cause = decision.kept_by.as_ref().unwrap_or(&decision.by);
            return Ok(kept(tensor, id, decision, Some(settings.explain(cause))));
        }
        let dtype = decision.patch.dtype.clone().unwrap_or_else(|| self.default_dtype());
        let storage = storage_of(&dtype)?;
        if matches!(tensor.encoding, Encoding::Plain(_)) && tensor.storage == storage && !tensor.merged {
            return Ok(kept(tensor, id, decision, Some(format!("is {} already", storage.name()))));
        }
        let part = Part { name: tensor.name.clone(), storage, shape: tensor.shape.clone() };
        Ok(row_of(tensor, id, decision, Action::Cast(storage), vec![part], None))
    }

    fn codec(&self, shape: &[u64], _: Storage, action: &Action) -> Result<Box<dyn Codec>> {
        codec(shape, action)
    }

    fn description(&self, plan: &Plan, context: &Context) -> Result<Description> {
        let mut described = Description::default();
        described.metadata.push(("format".into(), "pt".into()));
        described.of_row = Some(|row, model| {
            let Action::Cast(storage) = row.action else {
                return Facts::new();
            };
            let mut d = Facts::new();
            d.insert("target".into(), json!("float"));
            d.insert("weights_dtype".into(), json!(storage.name()));
            d.insert("original_shape".into(), json!(row.shape));
            let source = row.sources.first().map(|id| model.tensor(*id).storage.name());
            d.insert("original_dtype".into(), json!(source));
            d
        });
        if let (true, Some(serde_json::Value::Object(mut config))) = (context.is_folder(), context.model.config.clone())
        {
            // Loaders take the type to compute in from here; it should be that of most weights.
            let largest =
                plan.rows.iter().flat_map(|r| &r.parts).filter(|p| p.storage.is_float()).max_by_key(|p| p.bytes());
            let name = largest.and_then(|p| TYPES.iter().find(|t| t.0 == p.storage)).map(|t| match t.0 {
                Storage::F32 => "float32",
                Storage::F16 => "float16",
                _ => "bfloat16",
            });
            for key in ["dtype", "torch_dtype"] {
                if let (Some(name), Some(value)) = (name, config.get_mut(key).filter(|v| v.is_string())) {
                    *value = json!(name);
                }
            }
            described.sidecars.push(("config.json".into(), pretty(&config.into())));
        }
        Ok(described)
    }

    fn loads_with(&self, _: &Model, _: &Plan) -> String {
        "anything that reads safetensors".into()
    }
}

fn storage_of(dtype: &Dtype) -> Result<Storage> {
    TYPES
        .iter()
        .find(|t| t.1 == dtype.as_str())
        .map(|t| t.0)
        .ok_or_else(|| Error::usage(format!("float has no dtype `{dtype}`")))
}

/// The codec of a cast, which every target needs for what it keeps of a packed source.
pub fn codec(shape: &[u64], action: &Action) -> Result<Box<dyn Codec>> {
    match action {
        Action::Cast(storage) => Ok(Box::new(CastCodec { geometry: Geometry::of(shape), storage: *storage })),
        other => Err(Error::failed(format!("a float tensor cannot be made by {other:?}"))),
    }
}

#[derive(Clone, Debug)]
struct CastCodec {
    geometry: Geometry,
    storage: Storage,
}

impl Codec for CastCodec {
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn is_global(&self) -> bool {
        false
    }
    fn prepare(&self, _: &dyn Values, _: &Cancel) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(self.clone()))
    }
    fn load(&self, _: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(self.clone()))
    }
}

impl Prepared for CastCodec {
    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        Vec::new()
    }
    fn pieces(&self, rows: Range<usize>) -> Vec<Piece> {
        let row = self.storage.array_bytes(self.geometry.cols as u64).unwrap_or(0);
        vec![Piece { part: 0, bytes: rows.start as u64 * row..rows.end as u64 * row }]
    }
    fn encode(&self, _: Range<usize>, values: &[f32], pieces: &mut [&mut [u8]]) {
        if let [bytes] = pieces {
            cast::encode_to(self.storage, values, bytes);
        }
    }
    fn decode(&self, _: Range<usize>, pieces: &[&[u8]], out: &mut [f32]) {
        cast::decode(self.storage, pieces.first().copied().unwrap_or_default(), out);
    }
}
