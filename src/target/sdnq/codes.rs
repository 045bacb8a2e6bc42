//! The codec of a layer: rotation, low-rank branch, codes.
//!
//! Encoding goes rotate → subtract the low-rank branch → codes; decoding goes back. Everything but what
//! [`Codec::prepare`] finds is done slab by slab.
use std::ops::Range as Rows;
use std::sync::Arc;

use rayon::prelude::*;

use super::super::codec::{Codec, Found, Geometry, Piece, Prepared, Values};
use super::code::Code;
use crate::core::dtype::{Storage, StorageExt};
use crate::core::recipe::{Recipe, group_size};
use crate::core::{Cancel, Error, Result};
use crate::quant::affine::{self, Range};
use crate::quant::{Blocks, Word, bitpack, cast, codebook, hadamard, lowrank, minifloat};

/// Fixed, so that the same weights give the same file on every run.
const SEED: u64 = 0x6d69_7864_6f77_6e00;
/// Rounds of the search for levels; sdnq's own default.
pub const CODEBOOK_STEPS: usize = 24;

const WEIGHT: usize = 0;
const SCALE: usize = 1;
const ZERO_POINT: usize = 2;

/// What codes mean: values of their own with a scale, or levels.
#[derive(Clone, Copy, Debug)]
enum Scheme {
    Scaled(Code),
    Levels { bits: u8 },
}

impl Scheme {
    fn has_zero_point(self) -> bool {
        matches!(self, Self::Scaled(code) if code.has_zero_point())
    }
    /// Numbers of a block that stand in the place of its scale.
    fn scales_per_block(self) -> usize {
        match self {
            Self::Scaled(_) => 1,
            Self::Levels { bits } => 1 << bits,
        }
    }
    /// Scales (or levels) and zero points of some blocks.
    fn fit(self, blocks: Blocks, values: &[f32]) -> Fit {
        let mut fit = Fit {
            scale: vec![0.0; blocks.scales() * self.scales_per_block()],
            zero_point: vec![0.0; if self.has_zero_point() { blocks.scales() } else { 0 }],
        };
        match self {
            Self::Scaled(Code::Int(code)) => affine::scales(code, blocks, values, &mut fit.scale, &mut fit.zero_point),
            Self::Scaled(Code::Float(code)) => {
                minifloat::scales(code, blocks, values, &mut fit.scale, &mut fit.zero_point)
            }
            Self::Levels { bits } => codebook::levels(bits, blocks, values, CODEBOOK_STEPS, &mut fit.scale),
        }
        fit
    }
    /// The scale and zero point of a range.
    fn fit_range(self, range: Range) -> (f32, f32) {
        match self {
            Self::Scaled(Code::Int(code)) => range.scale_of(code),
            Self::Scaled(Code::Float(code)) => range.float_scale_of(code),
            Self::Levels { .. } => (0.0, 0.0),
        }
    }
    fn encode<W: Word>(self, blocks: Blocks, values: &[f32], fit: &Fit, codes: &mut [W]) {
        match self {
            Self::Scaled(Code::Int(code)) => affine::encode(code, blocks, values, &fit.scale, &fit.zero_point, codes),
            Self::Scaled(Code::Float(code)) => {
                minifloat::encode(code, blocks, values, &fit.scale, &fit.zero_point, codes)
            }
            // Levels are of bytes only, and decoded by `levels`.
            Self::Levels { .. } => {}
        }
    }
    fn decode<W: Word>(self, blocks: Blocks, codes: &[W], fit: &Fit, values: &mut [f32]) {
        match self {
            Self::Scaled(Code::Int(code)) => affine::decode(code, blocks, codes, &fit.scale, &fit.zero_point, values),
            Self::Scaled(Code::Float(code)) => {
                minifloat::decode(code, blocks, codes, &fit.scale, &fit.zero_point, values)
            }
            Self::Levels { .. } => {}
        }
    }
}

/// Scales or levels, and zero points.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fit {
    scale: Vec<f32>,
    zero_point: Vec<f32>,
}

/// The codec of one layer.
#[derive(Clone, Debug)]
pub struct SdnqCodec {
    geometry: Geometry,
    code: Code,
    scheme: Scheme,
    /// Elements along the dimension that groups run along, and positions between neighbours there.
    channels: usize,
    inner: usize,
    axis: u8,
    group_size: i64,
    hadamard: usize,
    svd_rank: usize,
    svd_steps: usize,
    factors: Storage,
}

impl SdnqCodec {
    /// For a shape and a resolved recipe; the low-rank factors are stored as `factors`.
    pub fn new(shape: &[u64], code: Code, recipe: &Recipe, factors: Storage) -> Result<Self> {
        let fails = |what: String| Err(Error::failed(what));
        let geometry = Geometry::of(shape);
        let (&[rows, channels, ..], Some(cols)) =
            (shape, shape.get(1..).and_then(|rest| rest.iter().try_fold(1u64, |n, d| n.checked_mul(*d))))
        else {
            return fails(format!("shape {shape:?} is not that of a layer"));
        };
        if (geometry.rows as u64, geometry.cols as u64) != (rows, cols) {
            return fails(format!("rows of {cols} elements are longer than mixdown works on"));
        }
        let size = recipe.group_size;
        let divides = |n: i64| channels.is_multiple_of(n as u64);
        if size == group_size::AUTO || (size > 0 && (!divides(size) || recipe.axis != 1)) || recipe.axis > 1 {
            return fails(format!("group size {size} does not divide {channels} channels"));
        }
        if code.packed_shape(rows * cols).is_none() {
            return fails(format!("shape {shape:?} does not fill {}'s units of {}", code.name(), code.unit()));
        }
        let hadamard = recipe.hadamard as usize;
        if hadamard > 0 && (hadamard < 4 || !hadamard.is_power_of_two() || !geometry.cols.is_multiple_of(hadamard)) {
            return fails(format!("a rotation of {hadamard} does not divide rows of {cols}"));
        }
        if recipe.codebook && !code.takes_codebook() {
            return fails(format!("{} takes no codebook", code.name()));
        }
        Ok(Self {
            geometry,
            code,
            scheme: if recipe.codebook { Scheme::Levels { bits: code.bits() } } else { Scheme::Scaled(code) },
            channels: channels as usize,
            inner: if recipe.axis == 0 { geometry.cols } else { (cols / channels.max(1)) as usize },
            axis: recipe.axis,
            group_size: size,
            hadamard,
            svd_rank: recipe.svd_rank as usize,
            svd_steps: recipe.svd_steps as usize,
            factors,
        })
    }

    fn search(&self) -> Option<Search> {
        // Types of one width are told apart by the source's type, which all codecs of the same values share.
        (self.svd_rank > 0).then(|| (self.svd_rank, self.svd_steps, self.hadamard, self.factors.bitsize()))
    }

    fn svd_part(&self) -> usize {
        if self.scheme.has_zero_point() { 3 } else { 2 }
    }

    /// Whether all slabs share their scales.
    fn shares_scales(&self) -> bool {
        self.group_size == group_size::TENSOR || self.axis == 0
    }

    /// How values of so many rows divide into blocks.
    fn blocks(&self, rows: usize) -> Blocks {
        match self.group_size {
            group_size::TENSOR => Blocks::whole(rows * self.geometry.cols),
            _ if self.axis == 0 => Blocks { outer: 1, groups: 1, len: rows, inner: self.inner },
            n if n > 0 => {
                Blocks { outer: rows, groups: self.channels / n as usize, len: n as usize, inner: self.inner }
            }
            _ => Blocks { outer: rows, groups: 1, len: self.channels, inner: self.inner },
        }
    }

    /// Factors as the file's reader will have them: rounded to the stored type.
    fn rounded(&self, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let mut bytes = Vec::new();
        cast::encode(self.factors, values, &mut bytes);
        let mut back = vec![0.0; values.len()];
        cast::decode(self.factors, &bytes, &mut back);
        (bytes, back)
    }

    /// The values of a slab as they are coded: rotated, without their low-rank part.
    fn residual(&self, low: Option<&Low>, rows: Rows<usize>, values: &mut [f32]) {
        if self.hadamard > 0 {
            hadamard::rotate(self.hadamard, values);
        }
        if let Some(low) = low {
            low.subtract(self.geometry, rows, values);
        }
    }

    /// Every slab of the residual, in parallel on the current pool; what `f` makes of them, in order.
    fn slabs<T: Send>(
        &self,
        low: Option<&Low>,
        values: &dyn Values,
        cancel: &Cancel,
        f: impl Fn(&[f32]) -> T + Sync,
    ) -> Result<Vec<T>> {
        let g = self.geometry;
        (0..g.slabs())
            .into_par_iter()
            .map(|i| {
                cancel.check()?;
                let mut slab = Vec::new();
                values.read(g.slab(i), &mut slab)?;
                self.residual(low, g.slab(i), &mut slab);
                Ok(f(&slab))
            })
            .collect()
    }

    /// The scales that all slabs share.
    fn shared(&self, low: Option<&Low>, values: &dyn Values, cancel: &Cancel) -> Result<Fit> {
        if self.axis == 0 && self.group_size != group_size::TENSOR {
            return self.columns(low, values, cancel);
        }
        let range = self.slabs(low, values, cancel, Range::of)?.into_iter().fold(Range::EMPTY, Range::merge);
        let Scheme::Levels { bits } = self.scheme else {
            let (scale, zero_point) = self.scheme.fit_range(range);
            let zero_point = if self.scheme.has_zero_point() { vec![zero_point] } else { Vec::new() };
            return Ok(Fit { scale: vec![scale], zero_point });
        };
        let mut levels = vec![0.0; 1 << bits];
        codebook::uniform(range, &mut levels);
        for _ in 0..CODEBOOK_STEPS {
            let mut all = codebook::Sums::empty(levels.len());
            for sums in self.slabs(low, values, cancel, |slab| codebook::Sums::of(&levels, slab))? {
                all.merge(&sums);
            }
            if !all.move_levels(&mut levels) {
                break;
            }
        }
        Ok(Fit { scale: levels, zero_point: Vec::new() })
    }

    /// Scales of a transposed convolution: one for each column of its matrix.
    fn columns(&self, low: Option<&Low>, values: &dyn Values, cancel: &Cancel) -> Result<Fit> {
        let cols = self.geometry.cols;
        if let Scheme::Levels { .. } = self.scheme {
            // Levels of a column need all of it; such weights are small.
            let all: Vec<f32> = self.slabs(low, values, cancel, <[f32]>::to_vec)?.concat();
            return Ok(self.scheme.fit(self.blocks(self.geometry.rows), &all));
        }
        let ranges = self.slabs(low, values, cancel, |slab| {
            let mut ranges = vec![Range::EMPTY; cols];
            for row in slab.chunks_exact(cols) {
                for (range, value) in ranges.iter_mut().zip(row) {
                    *range = range.merge(Range { min: *value, max: *value });
                }
            }
            ranges
        })?;
        let mut fit = Fit::default();
        for col in 0..cols {
            let range = ranges.iter().fold(Range::EMPTY, |all, slab| all.merge(slab[col]));
            let (scale, zero_point) = self.scheme.fit_range(range);
            fit.scale.push(scale);
            if self.scheme.has_zero_point() {
                fit.zero_point.push(zero_point);
            }
        }
        Ok(fit)
    }
}

impl Codec for SdnqCodec {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn is_global(&self) -> bool {
        self.svd_rank > 0 || self.shares_scales()
    }

    fn prepare(&self, values: &dyn Values, cancel: &Cancel) -> Result<Box<dyn Prepared>> {
        self.prepare_with(values, cancel, None)
    }

    fn prepare_with(&self, values: &dyn Values, cancel: &Cancel, found: Option<Found>) -> Result<Box<dyn Prepared>> {
        let low = match (self.search(), found.and_then(|f| f.downcast::<Low>().ok())) {
            (None, _) => None,
            (Some(search), Some(low)) if low.search == search => Some(low),
            (Some(search), _) => {
                let stop = || cancel.is_cancelled();
                let rotated = Slabs { values, hadamard: self.hadamard };
                let found = lowrank::low_rank(&rotated, self.svd_rank, self.svd_steps, SEED, &stop)?;
                let factors = found.ok_or_else(Error::interrupted)?;
                let (_, up) = self.rounded(&factors.up);
                let (bytes, down) = self.rounded(&factors.down);
                Some(Arc::new(Low { search, rank: factors.rank, up, down, bytes }))
            }
        };
        let shared = if self.shares_scales() { Some(self.shared(low.as_deref(), values, cancel)?) } else { None };
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
            let search = self.search().unwrap_or_default();
            Some(Arc::new(Low { search, rank: self.svd_rank, up: Vec::new(), down, bytes: Vec::new() }))
        } else {
            None
        };
        let shared = if self.shares_scales() {
            let blocks = self.blocks(self.geometry.rows);
            let scale = floats(&part(SCALE)?);
            let zero_point = if self.scheme.has_zero_point() { floats(&part(ZERO_POINT)?) } else { Vec::new() };
            let zero_points = if self.scheme.has_zero_point() { blocks.scales() } else { 0 };
            if (scale.len(), zero_point.len()) != (blocks.scales() * self.scheme.scales_per_block(), zero_points) {
                return Err(Error::failed("its scales do not have the size its shape says"));
            }
            Some(Fit { scale, zero_point })
        } else {
            None
        };
        Ok(Box::new(Ready { codec: self.clone(), low, shared }))
    }
}

/// What low-rank factors depend on besides the values: rank, steps, rotation, and bits of their stored type.
type Search = (usize, usize, usize, usize);

/// Low-rank factors, rounded as they are stored.
struct Low {
    search: Search,
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

struct Ready {
    codec: SdnqCodec,
    low: Option<Arc<Low>>,
    /// Scales of all slabs, where they share them.
    shared: Option<Fit>,
}

impl Prepared for Ready {
    fn found(&self) -> Option<Found> {
        self.low.clone().map(|low| low as Found)
    }

    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        let mut parts = Vec::new();
        if let Some(shared) = &self.shared {
            parts.push((SCALE, bytes_of(&shared.scale)));
            if self.codec.scheme.has_zero_point() {
                parts.push((ZERO_POINT, bytes_of(&shared.zero_point)));
            }
        }
        if let Some(low) = &self.low {
            parts.push((self.codec.svd_part() + 1, low.bytes.clone()));
        }
        parts
    }

    fn pieces(&self, rows: Rows<usize>) -> Vec<Piece> {
        let g = self.codec.geometry;
        let (code, scheme) = (self.codec.code, self.codec.scheme);
        let mut pieces =
            vec![Piece { part: WEIGHT, bytes: code.bytes(rows.start * g.cols)..code.bytes(rows.end * g.cols) }];
        if self.shared.is_none() {
            let of_row = self.codec.blocks(1).scales() as u64 * 4;
            let bytes = |per_row: u64| rows.start as u64 * per_row..rows.end as u64 * per_row;
            pieces.push(Piece { part: SCALE, bytes: bytes(of_row * scheme.scales_per_block() as u64) });
            if scheme.has_zero_point() {
                pieces.push(Piece { part: ZERO_POINT, bytes: bytes(of_row) });
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
        let SdnqCodec { code, scheme, .. } = self.codec;
        self.codec.residual(self.low.as_deref(), rows.clone(), values);
        let blocks = self.codec.blocks(rows.len());
        let own = if self.shared.is_some() { None } else { Some(scheme.fit(blocks, values)) };
        let mut pieces = Vec::with_capacity(4);
        if let Some(fit) = self.shared.as_ref().or(own.as_ref()) {
            pieces.push(pack(code, scheme, blocks, values, fit));
        }
        if let Some(fit) = &own {
            pieces.push(bytes_of(&fit.scale));
            if scheme.has_zero_point() {
                pieces.push(bytes_of(&fit.zero_point));
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
        let SdnqCodec { code, scheme, .. } = self.codec;
        let blocks = self.codec.blocks(rows.len());
        let own = self.shared.is_none().then(|| Fit {
            scale: pieces.get(1).map(|b| floats(b)).unwrap_or_default(),
            zero_point: pieces.get(2).filter(|_| scheme.has_zero_point()).map(|b| floats(b)).unwrap_or_default(),
        });
        if let Some(fit) = self.shared.as_ref().or(own.as_ref()) {
            unpack(code, scheme, blocks, pieces.first().map_or(&[], Vec::as_slice), fit, out);
        }
        if let (Some(low), Some(stored)) = (&self.low, pieces.last()) {
            let mut up = vec![0.0; rows.len() * low.rank];
            cast::decode(self.codec.factors, stored, &mut up);
            lowrank::add(&up, &low.down, low.rank, self.codec.geometry.cols, out);
        }
        if self.codec.hadamard > 0 {
            hadamard::rotate(self.codec.hadamard, out);
        }
    }
}

/// The bytes of the codes of some values.
fn pack(code: Code, scheme: Scheme, blocks: Blocks, values: &[f32], fit: &Fit) -> Vec<u8> {
    let bits = code.bits();
    if code.is_wide() {
        let mut codes = vec![0u16; values.len()];
        scheme.encode(blocks, values, fit, &mut codes);
        if code.storage() == Storage::I16 && !code.is_packed() {
            affine::flip_sign16(&mut codes);
        }
        let mut packed = vec![0; code.bytes(codes.len()) as usize];
        bitpack::pack16(bits, &codes, &mut packed);
        return packed;
    }
    let mut codes = vec![0u8; values.len()];
    match scheme {
        Scheme::Levels { bits } => codebook::encode(bits, blocks, values, &fit.scale, &mut codes),
        Scheme::Scaled(_) => scheme.encode(blocks, values, fit, &mut codes),
    }
    if code.is_packed() {
        let mut packed = vec![0; code.bytes(codes.len()) as usize];
        bitpack::pack(bits, &codes, &mut packed);
        return packed;
    }
    if code.storage() == Storage::I8 {
        affine::flip_sign(&mut codes);
    }
    codes
}

/// The values of packed codes.
fn unpack(code: Code, scheme: Scheme, blocks: Blocks, bytes: &[u8], fit: &Fit, out: &mut [f32]) {
    let bits = code.bits();
    if code.is_wide() {
        let mut codes = vec![0u16; out.len()];
        bitpack::unpack16(bits, bytes, &mut codes);
        if code.storage() == Storage::I16 && !code.is_packed() {
            affine::flip_sign16(&mut codes);
        }
        return scheme.decode(blocks, &codes, fit, out);
    }
    let mut codes;
    let codes = if code.is_packed() {
        codes = vec![0u8; out.len()];
        bitpack::unpack(bits, bytes, &mut codes);
        &codes
    } else if code.storage() == Storage::I8 {
        codes = bytes.to_vec();
        affine::flip_sign(&mut codes);
        &codes
    } else {
        bytes
    };
    match scheme {
        Scheme::Levels { bits } => codebook::decode(bits, blocks, codes, &fit.scale, out),
        Scheme::Scaled(_) => scheme.decode(blocks, codes, fit, out),
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A tensor's slabs, rotated, as the low-rank search takes them.
struct Slabs<'a> {
    values: &'a dyn Values,
    hadamard: usize,
}

impl lowrank::Chunks for Slabs<'_> {
    type Error = Error;
    fn rows(&self) -> usize {
        self.values.geometry().rows
    }
    fn cols(&self) -> usize {
        self.values.geometry().cols
    }
    fn chunk_rows(&self) -> usize {
        self.values.geometry().chunk_rows(lowrank::CHUNK)
    }
    fn read(&self, chunk: usize, out: &mut Vec<f32>) -> Result<()> {
        let start = chunk * self.chunk_rows();
        self.values.read(start..(start + self.chunk_rows()).min(self.rows()), out)?;
        if self.hadamard > 0 {
            hadamard::rotate(self.hadamard, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::all;
    use super::*;
    use crate::core::{Dtype, LossSums};
    use crate::quant::affine::IntCode;
    use crate::target::values::InMemory;
    use proptest::prelude::*;

    fn weights(shape: &[u64]) -> Vec<f32> {
        let n = shape.iter().product::<u64>();
        (0..n).map(|i| ((i as f32 * 0.7).sin() + (i as f32 * 0.013).cos()) * 0.05).collect()
    }

    /// Encodes slab by slab and decodes again, once from memory and once from the stored parts; returns the decoded.
    fn round_trip(shape: &[u64], recipe: &Recipe) -> Vec<f32> {
        let code = Code::parse(recipe.dtype.as_str()).expect("a dtype");
        let codec = SdnqCodec::new(shape, code, recipe, Storage::BF16).expect("it fits");
        let w = weights(shape);
        let values = InMemory::new(shape, w.clone()).expect("a matrix");
        let ready = codec.prepare(&values, &Cancel::new()).expect("prepared");
        let all = 0..shape[0] as usize;
        let pieces = ready.encode(all.clone(), &mut w.clone());
        for (piece, bytes) in ready.pieces(all.clone()).iter().zip(&pieces) {
            assert_eq!(piece.bytes.end - piece.bytes.start, bytes.len() as u64);
        }
        // What is stored is as long as the parts that the plan announced.
        let parts = super::super::resolve::parts("a.weight", shape, code, recipe, Storage::BF16);
        let mut lengths = vec![0; parts.len()];
        let whole = ready.whole();
        whole.iter().for_each(|(part, bytes)| lengths[*part] += bytes.len() as u64);
        ready.pieces(all.clone()).iter().for_each(|p| lengths[p.part] += p.bytes.end - p.bytes.start);
        assert_eq!(lengths, parts.iter().map(|p| p.bytes()).collect::<Vec<_>>(), "{recipe:?}");

        let mut decoded = vec![0.0; w.len()];
        ready.decode(all.clone(), &pieces, &mut decoded);
        let stored = |i: usize| Ok(whole.iter().find(|(p, _)| *p == i).map(|(_, b)| b.clone()).unwrap_or_default());
        let mut again = vec![0.0; w.len()];
        codec.load(&stored).expect("loaded").decode(all, &pieces, &mut again);
        assert_eq!(decoded, again, "what is read back is what was previewed");
        decoded
    }

    fn relative_error(shape: &[u64], recipe: &Recipe) -> f64 {
        LossSums::of(&weights(shape), &round_trip(shape, recipe)).loss().relative_error
    }

    fn recipe(dtype: &str, group_size: i64) -> Recipe {
        Recipe::plain(crate::core::Family::Sdnq, Dtype::new(dtype), group_size)
    }

    const LINEAR: &[u64] = &[32, 64];
    const CONVOLUTION: &[u64] = &[16, 32, 3, 3];

    #[test]
    fn every_integer_comes_back_within_half_a_step() {
        for code in all().filter(|c| c.is_integer()) {
            for group in [-1, 32, -2] {
                let Code::Int(int) = code else { continue };
                let (w, d) = (weights(LINEAR), round_trip(LINEAR, &recipe(&code.name(), group)));
                let (scale, _) = Range::of(&w).scale_of(int);
                let worst = w.iter().zip(&d).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Half a step of the coarsest scale; f32 rounding of code·scale+zero adds an ulp of the largest value.
                assert!(worst <= scale * 0.5 + 1e-6, "{} group {group}: {worst} > {scale}/2", code.name());
            }
        }
    }

    #[test]
    fn every_dtype_fits_every_kind_of_layer() {
        for code in all() {
            let name = code.name();
            for group in [-1, 16, -2] {
                for shape in [LINEAR, CONVOLUTION] {
                    round_trip(shape, &recipe(&name, group));
                }
            }
            for group in [-1, -2] {
                round_trip(CONVOLUTION, &Recipe { axis: 0, ..recipe(&name, group) });
            }
        }
    }

    #[test]
    fn branches_lower_the_error() {
        /// `recipe` must lose less than `than`.
        fn check(shape: &[u64], recipe: Recipe, than: Recipe) {
            let (error, before) = (relative_error(shape, &recipe), relative_error(shape, &than));
            assert!(error < before, "{recipe:?}: {error} is not below {before}");
        }
        for shape in [LINEAR, CONVOLUTION] {
            for group in [-1, 16, -2] {
                let plain = recipe("uint2", group);
                check(shape, Recipe { svd_rank: 8, ..plain.clone() }, plain.clone());
                check(shape, Recipe { codebook: true, ..plain.clone() }, plain.clone());
                check(shape, Recipe { svd_rank: 8, hadamard: 16, ..plain.clone() }, plain.clone());
            }
        }
        let transposed = Recipe { axis: 0, ..recipe("uint2", -1) };
        check(CONVOLUTION, Recipe { codebook: true, ..transposed.clone() }, transposed);
    }

    #[test]
    fn a_rotation_spreads_an_outlier() {
        let mut w = weights(LINEAR);
        w[5] = 8.0;
        let values = InMemory::new(LINEAR, w.clone()).expect("a matrix");
        let error = |hadamard| {
            let recipe = Recipe { hadamard, ..recipe("int4", -1) };
            let codec =
                SdnqCodec::new(LINEAR, Code::parse("int4").expect("a dtype"), &recipe, Storage::F32).expect("fits");
            let ready = codec.prepare(&values, &Cancel::new()).expect("prepared");
            let pieces = ready.encode(0..32, &mut w.clone());
            let mut decoded = vec![0.0; w.len()];
            ready.decode(0..32, &pieces, &mut decoded);
            LossSums::of(&w[..64], &decoded[..64]).loss().mse
        };
        assert!(error(64) < error(0), "{} {}", error(64), error(0));
    }

    #[test]
    fn factors_are_used_again_where_they_are_the_same() {
        let values = InMemory::new(LINEAR, weights(LINEAR)).expect("a matrix");
        let prepare = |dtype: &str, hadamard: u32, found: Option<Found>| {
            let recipe = Recipe { svd_rank: 8, hadamard, ..recipe(dtype, -1) };
            let codec =
                SdnqCodec::new(LINEAR, Code::parse(dtype).expect("a dtype"), &recipe, Storage::F32).expect("fits");
            codec.prepare_with(&values, &Cancel::new(), found).expect("prepared").found().expect("factors")
        };
        let first = prepare("uint4", 0, None);
        assert!(Arc::ptr_eq(&first, &prepare("int8", 0, Some(first.clone()))));
        assert!(!Arc::ptr_eq(&first, &prepare("int8", 16, Some(first.clone()))), "rotated values have others");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        fn check(shape: &[u64], recipe: Recipe) {
            let code = Code::parse(recipe.dtype.as_str()).expect("a dtype");
            assert!(SdnqCodec::new(shape, code, &recipe, Storage::F32).is_err(), "{shape:?} {recipe:?}");
        }
        check(&[64], recipe("int8", -1));
        check(&[33, 35], recipe("int6", -1));
        check(LINEAR, recipe("int8", 24));
        check(LINEAR, recipe("int8", 0));
        check(LINEAR, Recipe { hadamard: 128, ..recipe("int8", -1) });
        check(LINEAR, Recipe { hadamard: 24, ..recipe("int8", -1) });
        check(LINEAR, Recipe { codebook: true, ..recipe("int8", -1) });
        check(LINEAR, Recipe { axis: 0, ..recipe("int8", 16) });
    }

    proptest! {
        #[test]
        fn slabs_do_not_change_the_bytes(cut in 1usize..4, bits in 1u8..=16, signed: bool, conv: bool, rotated: bool) {
            let Some(code) = IntCode::new(bits, signed).map(Code::Int) else { return Ok(()) };
            let shape: &[u64] = if conv { &[64, 16, 2, 2] } else { &[64, 64] };
            let recipe = Recipe { hadamard: if rotated { 16 } else { 0 }, ..recipe(&code.name(), 8) };
            let codec = SdnqCodec::new(shape, code, &recipe, Storage::F32).expect("it fits");
            let w = weights(shape);
            let values = InMemory::new(shape, w.clone()).expect("a matrix");
            let ready = codec.prepare(&values, &Cancel::new()).expect("prepared");
            let whole = ready.encode(0..64, &mut w.clone());
            let cut = cut * 16;
            let a = ready.encode(0..cut, &mut w[..cut * 64].to_vec());
            let b = ready.encode(cut..64, &mut w[cut * 64..].to_vec());
            for ((a, b), whole) in a.iter().zip(&b).zip(&whole) {
                prop_assert_eq!(&[a.as_slice(), b.as_slice()].concat(), whole);
            }
        }
    }
}
