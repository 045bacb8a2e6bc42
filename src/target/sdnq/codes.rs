//! The codec of a layer: rotation, low-rank branch, codes.
//!
//! Encoding goes rotate → subtract the low-rank branch → codes; decoding goes back. Everything but what
//! [`Codec::prepare`] finds is done slab by slab.
use std::cell::Cell;
use std::ops::Range as Rows;
use std::sync::Arc;
use std::thread::LocalKey;

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
    /// Whether codes are packed.
    fn is_packed(self) -> bool {
        matches!(self, Self::Scaled(code) if code.is_packed())
    }
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
            Self::Scaled(Code::Int(code)) => {
                // What is not packed is stored as it is.
                let encode = if self.is_packed() { affine::encode } else { affine::encode_stored };
                encode(code, blocks, values, &fit.scale, &fit.zero_point, codes);
            }
            Self::Scaled(Code::Float(code)) => {
                minifloat::encode(code, blocks, values, &fit.scale, &fit.zero_point, codes)
            }
            // Levels are of bytes only.
            Self::Levels { .. } => {}
        }
    }
    fn encode_bytes(self, blocks: Blocks, values: &[f32], fit: &Fit, codes: &mut [u8]) {
        match self {
            Self::Levels { bits } => codebook::encode(bits, blocks, values, &fit.scale, codes),
            Self::Scaled(_) => self.encode(blocks, values, fit, codes),
        }
    }
    fn decode<W: Word>(self, blocks: Blocks, codes: &[W], fit: &Fit, values: &mut [f32]) {
        match self {
            Self::Scaled(Code::Int(code)) => {
                let decode = if self.is_packed() { affine::decode } else { affine::decode_stored };
                decode(code, blocks, codes, &fit.scale, &fit.zero_point, values);
            }
            Self::Scaled(Code::Float(code)) => {
                minifloat::decode(code, blocks, codes, &fit.scale, &fit.zero_point, values)
            }
            Self::Levels { .. } => {}
        }
    }
    fn decode_bytes(self, blocks: Blocks, codes: &[u8], fit: &Fit, values: &mut [f32]) {
        match self {
            Self::Levels { bits } => codebook::decode(bits, blocks, codes, &fit.scale, values),
            Self::Scaled(_) => self.decode(blocks, codes, fit, values),
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

    fn encode(&self, rows: Rows<usize>, values: &[f32], pieces: &mut [&mut [u8]]) {
        thread_local!(static RESIDUAL: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
        if self.codec.hadamard == 0 && self.low.is_none() {
            return self.encode_residual(rows, values, pieces);
        }
        let mut residual = RESIDUAL.take();
        residual.clear();
        residual.extend_from_slice(values);
        self.codec.residual(self.low.as_deref(), rows.clone(), &mut residual);
        self.encode_residual(rows, &residual, pieces);
        RESIDUAL.set(residual);
    }

    fn decode(&self, rows: Rows<usize>, pieces: &[&[u8]], out: &mut [f32]) {
        let SdnqCodec { code, scheme, .. } = self.codec;
        let blocks = self.codec.blocks(rows.len());
        let own = self.shared.is_none().then(|| Fit {
            scale: pieces.get(1).map(|b| floats(b)).unwrap_or_default(),
            zero_point: pieces.get(2).filter(|_| scheme.has_zero_point()).map(|b| floats(b)).unwrap_or_default(),
        });
        if let Some(fit) = self.shared.as_ref().or(own.as_ref()) {
            unpack(code, scheme, blocks, pieces.first().copied().unwrap_or_default(), fit, out);
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

impl Ready {
    /// [`encode`](Prepared::encode) of what the rotation and the branch have left.
    fn encode_residual(&self, rows: Rows<usize>, values: &[f32], pieces: &mut [&mut [u8]]) {
        let SdnqCodec { code, scheme, .. } = self.codec;
        let blocks = self.codec.blocks(rows.len());
        let own = if self.shared.is_some() { None } else { Some(scheme.fit(blocks, values)) };
        let Some((weight, mut rest)) = pieces.split_first_mut() else { return };
        if let Some(fit) = self.shared.as_ref().or(own.as_ref()) {
            pack(code, scheme, blocks, values, fit, weight);
        }
        let mut next = || rest.split_off_first_mut();
        if let Some(fit) = &own {
            if let Some(scale) = next() {
                cast::encode_to(Storage::F32, &fit.scale, scale);
            }
            if scheme.has_zero_point()
                && let Some(zero_point) = next()
            {
                cast::encode_to(Storage::F32, &fit.zero_point, zero_point);
            }
        }
        if let (Some(low), Some(up)) = (&self.low, next()) {
            // Exact: the values were rounded to this type already.
            cast::encode_to(self.codec.factors, low.up_rows(&rows), up);
        }
    }
}

/// Buffers for codes, kept by each thread: fresh memory costs as much as the arithmetic on it.
fn with_codes<W: Word>(kept: &'static LocalKey<Cell<Vec<W>>>, len: usize, f: impl FnOnce(&mut [W])) {
    let mut codes = kept.take();
    codes.resize(len, W::default());
    f(&mut codes);
    kept.set(codes);
}

thread_local!(static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
thread_local!(static WORDS: Cell<Vec<u16>> = const { Cell::new(Vec::new()) });

/// The bytes of the codes of some values.
fn pack(code: Code, scheme: Scheme, blocks: Blocks, values: &[f32], fit: &Fit, out: &mut [u8]) {
    let bits = code.bits();
    if code.is_wide() {
        with_codes(&WORDS, values.len(), |codes| {
            scheme.encode(blocks, values, fit, codes);
            bitpack::pack16(bits, codes, out);
        });
    } else if code.is_packed() {
        with_codes(&BYTES, values.len(), |codes| {
            scheme.encode_bytes(blocks, values, fit, codes);
            bitpack::pack(bits, codes, out);
        });
    } else {
        scheme.encode_bytes(blocks, values, fit, out);
    }
}

/// The values of packed codes.
fn unpack(code: Code, scheme: Scheme, blocks: Blocks, bytes: &[u8], fit: &Fit, out: &mut [f32]) {
    let bits = code.bits();
    if code.is_wide() {
        with_codes(&WORDS, out.len(), |codes| {
            bitpack::unpack16(bits, bytes, codes);
            scheme.decode(blocks, codes, fit, out);
        });
    } else if code.is_packed() {
        with_codes(&BYTES, out.len(), |codes| {
            bitpack::unpack(bits, bytes, codes);
            scheme.decode_bytes(blocks, codes, fit, out);
        });
    } else {
        scheme.decode_bytes(blocks, bytes, fit, out);
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
        self.values.read(self.rows_of(chunk), out)?;
        if self.hadamard > 0 {
            hadamard::rotate(self.hadamard, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
