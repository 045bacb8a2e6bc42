//! SDNQ's integer dtypes and the codec of a Linear layer.
use std::ops::Range as Rows;

use rayon::prelude::*;

use super::super::codec::{Codec, Geometry, Piece, Prepared, Values};
use crate::core::dtype::{Storage, StorageExt};
use crate::core::recipe::{Recipe, group_size};
use crate::core::{Cancel, Error, Result};
use crate::quant::affine::{self, IntCode, Range};
use crate::quant::{Blocks, bitpack, cast, lowrank};

/// Fixed, so that the same weights give the same file on every run.
const SEED: u64 = 0x6d69_7864_6f77_6e00;

/// An integer dtype: `int2` … `int8`, `uint1` … `uint8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(IntCode);

/// Every dtype, from many bits to few, signed before unsigned.
pub fn all() -> impl Iterator<Item = Code> {
    (1..=8).rev().flat_map(|bits| [true, false].into_iter().filter_map(move |s| IntCode::new(bits, s)).map(Code))
}

impl Code {
    /// The dtype of a name in any case, aliases included.
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        let canonical = match lower.as_str() {
            "bool" | "int1" => "uint1",
            other => other,
        };
        all().find(|c| c.name() == canonical)
    }
    /// Its canonical name.
    pub fn name(self) -> String {
        format!("{}int{}", if self.0.is_signed() { "" } else { "u" }, self.0.bits())
    }
    /// Bits of a code.
    pub fn bits(self) -> u8 {
        self.0.bits()
    }
    /// In a few words.
    pub fn about(self) -> &'static str {
        match (self.0.bits(), self.0.is_signed()) {
            (8, true) => "symmetric; near lossless, fast matrix products",
            (8, false) => "with a zero point; for one-sided weights",
            (5..=7, true) => "symmetric, packed",
            (5..=7, false) => "with a zero point, packed",
            (4, true) => "symmetric, two codes per byte",
            (4, false) => "with a zero point, two codes per byte; the usual 4 bit",
            (3, _) => "small; look at the loss",
            (_, _) => "tiny; mostly for experiments",
        }
    }
    /// Whether it has a zero point beside its scale.
    pub fn has_zero_point(self) -> bool {
        !self.0.is_signed()
    }
    /// Whether codes share bytes.
    pub fn is_packed(self) -> bool {
        self.0.bits() < 8
    }
    /// Codes in a unit of packing.
    pub fn unit(self) -> usize {
        bitpack::unit(self.0.bits())
    }
    /// The stored element type.
    pub fn storage(self) -> Storage {
        if self.0.bits() == 8 && self.0.is_signed() { Storage::I8 } else { Storage::U8 }
    }
    /// Shape of the packed codes of so many elements; `None` when they do not fill whole units.
    pub fn packed_shape(self, elements: u64) -> Option<Vec<u64>> {
        let bits = u64::from(self.0.bits());
        let unit = self.unit() as u64;
        if !elements.is_multiple_of(unit) {
            return None;
        }
        Some(match bits {
            8 => vec![elements],
            1 | 2 | 4 => vec![elements / unit],
            _ => vec![elements / unit, unit * bits / 8],
        })
    }
    /// Bytes of so many codes that fill whole units.
    fn bytes(self, elements: usize) -> u64 {
        elements as u64 * u64::from(self.0.bits()) / 8
    }
}

const WEIGHT: usize = 0;
const SCALE: usize = 1;
const ZERO_POINT: usize = 2;

/// The codec of one Linear layer.
#[derive(Clone, Debug)]
pub struct SdnqCodec {
    geometry: Geometry,
    code: Code,
    group_size: i64,
    svd_rank: usize,
    svd_steps: usize,
    factors: Storage,
}

impl SdnqCodec {
    /// For a shape and a resolved recipe; the low-rank factors are stored as `factors`.
    pub fn new(shape: &[u64], code: Code, recipe: &Recipe, factors: Storage) -> Result<Self> {
        let geometry = Geometry::of(shape);
        let size = recipe.group_size;
        if size == group_size::AUTO || (size > 0 && !geometry.cols.is_multiple_of(size as usize)) {
            return Err(Error::failed(format!("group size {size} does not divide rows of {}", geometry.cols)));
        }
        if code.packed_shape(geometry.rows as u64 * geometry.cols as u64).is_none() {
            return Err(Error::failed(format!(
                "shape {shape:?} does not fill {}'s units of {}",
                code.name(),
                code.unit()
            )));
        }
        Ok(Self {
            geometry,
            code,
            group_size: size,
            svd_rank: recipe.svd_rank as usize,
            svd_steps: recipe.svd_steps as usize,
            factors,
        })
    }

    fn svd_part(&self) -> usize {
        if self.code.has_zero_point() { 3 } else { 2 }
    }

    /// Factors as the file's reader will have them: rounded to the stored type.
    fn rounded(&self, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let mut bytes = Vec::new();
        cast::encode(self.factors, values, &mut bytes);
        let mut back = vec![0.0; values.len()];
        cast::decode(self.factors, &bytes, &mut back);
        (bytes, back)
    }

    /// The range of the whole tensor without its low-rank part.
    fn range(&self, low: Option<&Low>, values: &dyn Values, cancel: &Cancel) -> Result<Range> {
        let g = self.geometry;
        (0..g.slabs())
            .into_par_iter()
            .map(|i| {
                cancel.check()?;
                let mut slab = Vec::new();
                values.read(g.slab(i), &mut slab)?;
                if let Some(low) = low {
                    low.subtract(g, g.slab(i), &mut slab);
                }
                Ok(Range::of(&slab))
            })
            // Merging gives the same bits in any order.
            .try_reduce(|| Range::EMPTY, |a, b| Ok(a.merge(b)))
    }
}

impl Codec for SdnqCodec {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn is_global(&self) -> bool {
        self.svd_rank > 0 || self.group_size == group_size::TENSOR
    }

    fn prepare(&self, values: &dyn Values, cancel: &Cancel) -> Result<Box<dyn Prepared>> {
        let low = if self.svd_rank > 0 {
            let stop = || cancel.is_cancelled();
            let found = lowrank::low_rank(&Slabs(values), self.svd_rank, self.svd_steps, SEED, &stop)?;
            let factors = found.ok_or_else(Error::interrupted)?;
            let (_, up) = self.rounded(&factors.up);
            let (bytes, down) = self.rounded(&factors.down);
            Some(Low { rank: factors.rank, up, down, bytes })
        } else {
            None
        };
        let shared = if self.group_size == group_size::TENSOR {
            let range = self.range(low.as_ref(), values, cancel)?;
            let (scale, zero_point) = range.scale_of(self.code.0);
            Some(Shared { scale: [scale], zero_point: [zero_point] })
        } else {
            None
        };
        Ok(Box::new(Ready { codec: self.clone(), low, shared }))
    }

    fn load(&self, part: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>> {
        let low = if self.svd_rank > 0 {
            let stored = part(self.svd_part() + 1)?;
            let elements = self.geometry.cols * self.svd_rank;
            if stored.len() as u64 != self.factors.array_bytes(elements as u64).unwrap_or(0) {
                return Err(Error::failed("its low-rank factors do not have the size its metadata says"));
            }
            let mut down = vec![0.0; elements];
            cast::decode(self.factors, &stored, &mut down);
            // Rows of `up` come with the slabs that need them.
            Some(Low { rank: self.svd_rank, up: Vec::new(), down, bytes: Vec::new() })
        } else {
            None
        };
        let shared = if self.group_size == group_size::TENSOR {
            let scale = floats(&part(SCALE)?);
            let zero_point = if self.code.has_zero_point() { floats(&part(ZERO_POINT)?) } else { vec![0.0] };
            match (scale[..].try_into(), zero_point[..].try_into()) {
                (Ok(scale), Ok(zero_point)) => Some(Shared { scale, zero_point }),
                _ => return Err(Error::failed("its scale is not one number")),
            }
        } else {
            None
        };
        Ok(Box::new(Ready { codec: self.clone(), low, shared }))
    }
}

/// Low-rank factors, rounded as they are stored.
struct Low {
    rank: usize,
    /// Empty where the parts were loaded.
    up: Vec<f32>,
    down: Vec<f32>,
    /// `down` as stored; empty where it was loaded.
    bytes: Vec<u8>,
}

impl Low {
    fn up_rows(&self, rows: &Rows<usize>) -> &[f32] {
        &self.up[rows.start * self.rank..rows.end * self.rank]
    }
    fn subtract(&self, g: Geometry, rows: Rows<usize>, values: &mut [f32]) {
        lowrank::subtract(self.up_rows(&rows), &self.down, self.rank, g.cols, values);
    }
}

/// One scale for the whole tensor.
struct Shared {
    scale: [f32; 1],
    zero_point: [f32; 1],
}

struct Ready {
    codec: SdnqCodec,
    low: Option<Low>,
    shared: Option<Shared>,
}

impl Ready {
    fn blocks(&self, rows: usize) -> Blocks {
        let cols = self.codec.geometry.cols;
        match self.codec.group_size {
            group_size::TENSOR => Blocks::whole(rows * cols),
            n if n > 0 => Blocks { outer: rows, groups: cols / n as usize, len: n as usize, inner: 1 },
            _ => Blocks::rows(rows, cols),
        }
    }
    fn zero_points(&self, scales: usize) -> usize {
        if self.codec.code.has_zero_point() { scales } else { 0 }
    }
}

impl Prepared for Ready {
    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        let mut parts = Vec::new();
        if let Some(shared) = &self.shared {
            parts.push((SCALE, shared.scale[0].to_le_bytes().to_vec()));
            if self.codec.code.has_zero_point() {
                parts.push((ZERO_POINT, shared.zero_point[0].to_le_bytes().to_vec()));
            }
        }
        if let Some(low) = &self.low {
            parts.push((self.codec.svd_part() + 1, low.bytes.clone()));
        }
        parts
    }

    fn pieces(&self, rows: Rows<usize>) -> Vec<Piece> {
        let g = self.codec.geometry;
        let code = self.codec.code;
        let mut pieces =
            vec![Piece { part: WEIGHT, bytes: code.bytes(rows.start * g.cols)..code.bytes(rows.end * g.cols) }];
        if self.shared.is_none() {
            let groups = self.blocks(1).groups as u64;
            let bytes = rows.start as u64 * groups * 4..rows.end as u64 * groups * 4;
            pieces.push(Piece { part: SCALE, bytes: bytes.clone() });
            if code.has_zero_point() {
                pieces.push(Piece { part: ZERO_POINT, bytes });
            }
        }
        if let Some(low) = &self.low {
            let row = self.codec.factors.array_bytes(low.rank as u64).unwrap_or(0);
            let bytes = rows.start as u64 * row..rows.end as u64 * row;
            pieces.push(Piece { part: self.codec.svd_part(), bytes });
        }
        pieces
    }

    fn encode(&self, rows: Rows<usize>, values: &mut [f32]) -> Vec<Vec<u8>> {
        let code = self.codec.code;
        if let Some(low) = &self.low {
            low.subtract(self.codec.geometry, rows.clone(), values);
        }
        let blocks = self.blocks(rows.len());
        let mut codes = vec![0u8; values.len()];
        let mut pieces = Vec::with_capacity(3);
        match &self.shared {
            Some(s) => {
                let zero_point = &s.zero_point[..self.zero_points(1)];
                affine::encode(code.0, blocks, values, &s.scale, zero_point, &mut codes);
                pieces.push(pack(code, codes));
            }
            None => {
                let scales = blocks.scales();
                let (mut scale, mut zero_point) = (vec![0.0; scales], vec![0.0; self.zero_points(scales)]);
                affine::scales(code.0, blocks, values, &mut scale, &mut zero_point);
                affine::encode(code.0, blocks, values, &scale, &zero_point, &mut codes);
                pieces.push(pack(code, codes));
                pieces.push(bytes_of(&scale));
                if code.has_zero_point() {
                    pieces.push(bytes_of(&zero_point));
                }
            }
        }
        if let Some(low) = &self.low {
            let mut up = Vec::new();
            // Exact: the values were rounded to this type already.
            cast::encode(self.codec.factors, low.up_rows(&rows), &mut up);
            pieces.push(up);
        }
        pieces
    }

    fn decode(&self, rows: Rows<usize>, pieces: &[Vec<u8>], out: &mut [f32]) {
        let code = self.codec.code;
        let blocks = self.blocks(rows.len());
        let codes = unpack(code, pieces.first().map_or(&[], Vec::as_slice), out.len());
        match &self.shared {
            Some(s) => affine::decode(code.0, blocks, &codes, &s.scale, &s.zero_point[..self.zero_points(1)], out),
            None => {
                let scale = pieces.get(1).map(|b| floats(b)).unwrap_or_default();
                let zero_point = pieces.get(2).filter(|_| code.has_zero_point()).map(|b| floats(b)).unwrap_or_default();
                affine::decode(code.0, blocks, &codes, &scale, &zero_point, out);
            }
        }
        if let (Some(low), Some(stored)) = (&self.low, pieces.last()) {
            let mut up = vec![0.0; rows.len() * low.rank];
            cast::decode(self.codec.factors, stored, &mut up);
            lowrank::add(&up, &low.down, low.rank, self.codec.geometry.cols, out);
        }
    }
}

fn pack(code: Code, mut codes: Vec<u8>) -> Vec<u8> {
    if code.is_packed() {
        let mut packed = vec![0; code.bytes(codes.len()) as usize];
        bitpack::pack(code.bits(), &codes, &mut packed);
        packed
    } else {
        if code.storage() == Storage::I8 {
            affine::flip_sign(&mut codes);
        }
        codes
    }
}

fn unpack(code: Code, bytes: &[u8], elements: usize) -> Vec<u8> {
    if code.is_packed() {
        let mut codes = vec![0; elements];
        bitpack::unpack(code.bits(), bytes, &mut codes);
        codes
    } else {
        let mut codes = bytes.to_vec();
        if code.storage() == Storage::I8 {
            affine::flip_sign(&mut codes);
        }
        codes
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A tensor's slabs as the low-rank search takes them.
struct Slabs<'a>(&'a dyn Values);

impl lowrank::Chunks for Slabs<'_> {
    type Error = Error;
    fn rows(&self) -> usize {
        self.0.geometry().rows
    }
    fn cols(&self) -> usize {
        self.0.geometry().cols
    }
    fn chunk_rows(&self) -> usize {
        self.0.geometry().slab_rows
    }
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<()> {
        self.0.read(self.0.geometry().slab(chunk), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Dtype;
    use crate::target::values::InMemory;
    use proptest::prelude::*;

    fn weights(rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols).map(|i| ((i as f32 * 0.7).sin() + (i as f32 * 0.013).cos()) * 0.05).collect()
    }

    /// Encodes slab by slab and decodes again, once from memory and once from the stored parts.
    fn round_trip(dtype: &str, rows: u64, cols: u64, group_size: i64, svd_rank: u32) -> (Vec<f32>, Vec<f32>) {
        let recipe = Recipe { svd_rank, ..Recipe::plain(Dtype::new(dtype), group_size) };
        let code = Code::parse(dtype).expect("a dtype");
        let codec = SdnqCodec::new(&[rows, cols], code, &recipe, Storage::BF16).expect("it fits");
        let w = weights(rows as usize, cols as usize);
        let values = InMemory::new(&[rows, cols], w.clone()).expect("a matrix");
        let ready = codec.prepare(&values, &Cancel::new()).expect("prepared");
        let all = 0..rows as usize;
        let pieces = ready.encode(all.clone(), &mut w.clone());
        for (piece, bytes) in ready.pieces(all.clone()).iter().zip(&pieces) {
            assert_eq!(piece.bytes.end - piece.bytes.start, bytes.len() as u64);
        }
        let mut decoded = vec![0.0; w.len()];
        ready.decode(all.clone(), &pieces, &mut decoded);
        let whole = ready.whole();
        let stored = |i: usize| Ok(whole.iter().find(|(p, _)| *p == i).map(|(_, b)| b.clone()).unwrap_or_default());
        let mut again = vec![0.0; w.len()];
        codec.load(&stored).expect("loaded").decode(all, &pieces, &mut again);
        assert_eq!(decoded, again, "what is read back is what was previewed");
        (w, decoded)
    }

    #[test]
    fn every_dtype_comes_back_within_half_a_step() {
        for code in all() {
            for group in [-1, 32, -2] {
                let (w, d) = round_trip(&code.name(), 16, 64, group, 0);
                let range = Range::of(&w);
                let (scale, _) = range.scale_of(code.0);
                let worst = w.iter().zip(&d).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Half a step of the coarsest scale; f32 rounding of code·scale+zero adds an ulp of the largest value.
                assert!(worst <= scale * 0.5 + 1e-6, "{} group {group}: {worst} > {scale}/2", code.name());
            }
        }
    }

    #[test]
    fn a_low_rank_branch_lowers_the_error() {
        let error = |rank| {
            let (w, d) = round_trip("uint2", 64, 64, -1, rank);
            crate::core::LossSums::of(&w, &d).loss().relative_error
        };
        assert!(error(16) < error(0) / 2.0);
    }

    #[test]
    fn names() {
        fn check(name: &str, canonical: Option<&str>) {
            assert_eq!(Code::parse(name).map(|c| c.name()).as_deref(), canonical);
        }
        check("UINT4", Some("uint4"));
        check("bool", Some("uint1"));
        check("int1", Some("uint1"));
        check("int9", None);
        assert_eq!(all().count(), 15);
    }

    proptest! {
        #[test]
        fn slabs_do_not_change_the_bytes(cut in 1usize..8, bits in 1u8..=8, signed: bool) {
            let Some(code) = IntCode::new(bits, signed).map(Code) else { return Ok(()) };
            let recipe = Recipe::plain(Dtype::new(&code.name()), 32);
            let codec = SdnqCodec::new(&[64, 64], code, &recipe, Storage::F32).expect("it fits");
            let w = weights(64, 64);
            let values = InMemory::new(&[64, 64], w.clone()).expect("a matrix");
            let ready = codec.prepare(&values, &Cancel::new()).expect("prepared");
            let whole = ready.encode(0..64, &mut w.clone());
            let cut = cut * 8;
            let a = ready.encode(0..cut, &mut w[..cut * 64].to_vec());
            let b = ready.encode(cut..64, &mut w[cut * 64..].to_vec());
            for ((a, b), whole) in a.iter().zip(&b).zip(&whole) {
                prop_assert_eq!(&[a.as_slice(), b.as_slice()].concat(), whole);
            }
        }
    }
}
