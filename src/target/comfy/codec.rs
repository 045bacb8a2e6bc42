//! Values to the arrays of a layer and back, for every format.
mod ready;

use std::cell::Cell;

use rayon::prelude::*;

use super::format::Format;
use crate::core::recipe::{Recipe, ScaleSearch, group_size};
use crate::core::{Cancel, Error, Result};
use crate::quant::affine::{self, IntCode, Range};
use crate::quant::blockfloat::{self, MXFP8_BLOCK, NVFP4_BLOCK, TILE_COLS, TILE_ROWS};
use crate::quant::int8grid::{self, Levels};
use crate::quant::minifloat;
use crate::quant::{Blocks, hadamard};
use crate::target::codec::{Codec, Geometry, LONGEST_ROW, Prepared, Values};
use ready::Ready;

const WEIGHT: usize = 0;
const SCALE: usize = 1;
/// The third array: the tensor's scale of nvfp4, a row's of w4a8, zero points of awq.
const THIRD: usize = 2;
const CODEBOOK: usize = 3;

/// comfy-kitchen's least scales.
const LEAST_INT8: f32 = 1e-30;
const LEAST_INT4: f32 = 1e-10;
/// The greatest code of int4, which leaves out -8.
const INT4_TOP: f32 = 7.0;
/// The greatest code of 4 bits without a sign, and the one that stands for the zero point.
const AWQ_TOP: f32 = 15.0;
const AWQ_ZERO: f32 = 8.0;

fn int8() -> Result<IntCode> {
    IntCode::new(8, true).ok_or_else(|| Error::failed("int8 is no code"))
}

/// The codec of one layer.
#[derive(Clone, Debug)]
pub struct ComfyCodec {
    format: Format,
    rows: usize,
    cols: usize,
    padded_cols: usize,
    slab_rows: usize,
    group_size: i64,
    rotation: usize,
    levels: Levels,
    search: ScaleSearch,
    int8: IntCode,
    /// Rows and columns that share a scale, where a file that is read has them so.
    block: Option<(usize, usize)>,
}

impl ComfyCodec {
    /// For a matrix and a resolved recipe.
    pub fn new(format: Format, shape: &[u64], recipe: &Recipe) -> Result<Self> {
        let &[rows, cols] = shape else {
            return Err(Error::failed(format!("shape {shape:?} is not that of a matrix")));
        };
        if cols > LONGEST_ROW || rows.checked_mul(cols).is_none() {
            return Err(Error::failed(format!("rows of {cols} elements are longer than mixdown works on")));
        }
        let resolved = format.resolve(recipe, shape).map_err(Error::failed)?;
        if !matches!(format, Format::E4m3Blocks | Format::Int8Blocks)
            && (resolved.group_size, resolved.hadamard) != (recipe.group_size, recipe.hadamard)
        {
            return Err(Error::failed(format!("{} does not fit shape {shape:?}", format.name())));
        }
        let block = matches!(format, Format::E4m3Blocks | Format::Int8Blocks)
            .then(|| block_of(recipe, rows, cols))
            .transpose()?;
        let (_, padded_cols) = format.padded(rows, cols);
        let geometry = Geometry::of(shape);
        let levels = match format {
            Format::W6a8 => Levels::Uniform6,
            Format::W4a8Uniform => Levels::Uniform4,
            _ => Levels::Sixteen(int8grid::LEVELS),
        };
        Ok(Self {
            format,
            rows: geometry.rows,
            cols: geometry.cols,
            padded_cols: padded_cols as usize,
            slab_rows: geometry.slab_rows,
            group_size: recipe.group_size,
            rotation: recipe.hadamard as usize,
            levels,
            search: recipe.scale_search,
            int8: int8()?,
            block,
        })
    }

    fn group(&self) -> usize {
        usize::try_from(self.group_size).unwrap_or(1).max(1)
    }

    /// Scales of a row, rounded up to whole tiles.
    fn tile_cols(&self) -> usize {
        let block = if self.format == Format::Nvfp4 { NVFP4_BLOCK } else { MXFP8_BLOCK };
        (self.padded_cols / block).next_multiple_of(TILE_COLS)
    }

    /// Parts that are held whole, as a slab's bytes lie scattered in them: scales in tiles, or by column; with their bytes.
    fn late(&self) -> Vec<(usize, usize)> {
        let tiles = || vec![(SCALE, self.rows.next_multiple_of(TILE_ROWS) * self.tile_cols())];
        match self.format {
            Format::Nvfp4 | Format::Mxfp8 => tiles(),
            Format::Awq => {
                let columns = self.cols / self.group() * self.rows * 4;
                vec![(SCALE, columns), (THIRD, columns)]
            }
            _ => Vec::new(),
        }
    }

    /// Every slab, rotated, in parallel on the current pool; what `f` makes of them, in order.
    fn slabs<T: Send>(&self, values: &dyn Values, cancel: &Cancel, f: impl Fn(&[f32]) -> T + Sync) -> Result<Vec<T>> {
        let g = self.geometry();
        (0..g.slabs())
            .into_par_iter()
            .map(|i| {
                cancel.check()?;
                thread_local!(static SLAB: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
                let mut slab = SLAB.take();
                let read = values.read(g.slab(i), &mut slab);
                let found = read.map(|()| {
                    if self.rotation > 0 {
                        hadamard::rotate(self.rotation, &mut slab);
                    }
                    f(&slab)
                });
                SLAB.set(slab);
                found
            })
            .collect()
    }

    /// The scale of the whole tensor.
    fn tensor_scale(&self, values: &dyn Values, cancel: &Cancel) -> Result<f32> {
        let range = self.slabs(values, cancel, Range::of)?.into_iter().fold(Range::EMPTY, Range::merge);
        let amax = if range == Range::EMPTY { 0.0 } else { range.min.abs().max(range.max.abs()) };
        let first = match (self.format, self.format.float_code()) {
            (Format::Nvfp4, _) => return Ok(blockfloat::nvfp4_tensor_scale(amax)),
            // Of zeros any scale is right but 0, by which nothing can be divided.
            (_, Some(_)) if amax == 0.0 => 1.0,
            // No smaller than a number whose reciprocal is one too.
            (_, Some(code)) => (amax / code.max()).max(f32::MIN_POSITIVE),
            (_, None) => (amax / 127.0).max(LEAST_INT8),
        };
        if self.search == ScaleSearch::Absmax {
            return Ok(first);
        }
        // Floats lose the same everywhere but at the ends of their range; integers gain by cutting what stands out.
        let steps = if self.format.float_code().is_some() { -4..=12 } else { -24..=0 };
        let tried: Vec<f32> = steps.map(|i| first * 2f32.powf(i as f32 / 8.0)).collect();
        let errors = self.slabs(values, cancel, |slab| {
            let mut codes = vec![0; slab.len()];
            let mut back = vec![0.0; slab.len()];
            let error = |scale: &f32| {
                self.encode_scaled(slab, &[*scale], Blocks::whole(slab.len()), &mut codes);
                self.decode_scaled(&codes, &[*scale], Blocks::whole(slab.len()), &mut back);
                squared_error(slab, &back)
            };
            tried.iter().map(error).collect::<Vec<f64>>()
        })?;
        let total = |i: usize| errors.iter().filter_map(|slab| slab.get(i)).sum::<f64>();
        let best = (0..tried.len()).map(|i| (total(i), tried[i])).min_by(|a, b| a.0.total_cmp(&b.0));
        Ok(best.map_or(first, |(_, scale)| scale))
    }

    /// Codes of a byte for scales by block: E4M3 and E5M2 as comfy-kitchen has them, by the reciprocal; int8.
    fn encode_scaled(&self, values: &[f32], scale: &[f32], blocks: Blocks, codes: &mut [u8]) {
        match (self.format.float_code(), scale) {
            (Some(code), [scale]) => minifloat::encode_by(code, 1.0 / scale, values, codes),
            (Some(code), _) => minifloat::encode(code, blocks, values, scale, &[], codes),
            (None, _) => affine::encode_stored(self.int8, blocks, values, scale, &[], codes),
        }
    }

    fn decode_scaled(&self, codes: &[u8], scale: &[f32], blocks: Blocks, values: &mut [f32]) {
        match self.format.float_code() {
            Some(code) => minifloat::decode(code, blocks, codes, scale, &[], values),
            None => affine::decode_stored(self.int8, blocks, codes, scale, &[], values),
        }
    }
}

/// Rows and columns that share a scale in a format that is only read.
fn block_of(recipe: &Recipe, rows: u64, cols: u64) -> Result<(usize, usize)> {
    // A row's group is written `n`, a square block of the same side `n` along both: the axis tells them apart.
    let (height, width) = match recipe.group_size {
        group_size::TENSOR => (rows, cols),
        group_size::ROW => (1, cols),
        n if n > 0 && recipe.axis == 0 => (n as u64, n as u64),
        n if n > 0 => (1, n as u64),
        n => return Err(Error::failed(format!("group size {n} means nothing here"))),
    };
    if height == 0 || width == 0 || !rows.is_multiple_of(height) || !cols.is_multiple_of(width) {
        return Err(Error::failed(format!("blocks of {height}×{width} do not divide {rows}×{cols}")));
    }
    Ok((height as usize, width as usize))
}

fn squared_error(values: &[f32], back: &[f32]) -> f64 {
    values.iter().zip(back).map(|(v, b)| f64::from(v - b) * f64::from(v - b)).sum()
}

/// Scales that are tried for a row besides the one for its greatest value: that, less 1/32 of it at a time.
const SHRINKS: [f32; 20] = {
    let mut out = [0.0; 20];
    let mut i = 0;
    while i < out.len() {
        out[i] = 1.0 - i as f32 / 32.0;
        i += 1;
    }
    out
};

/// The scale with the least error among `first` and some smaller ones.
fn best_scale(values: &[f32], first: f32, search: ScaleSearch, round: impl Fn(f32) -> f32) -> f32 {
    if search == ScaleSearch::Absmax {
        return first;
    }
    let error = |scale: f32| values.iter().map(|v| (v - round(v / scale) * scale).powi(2)).sum::<f32>();
    let tried = SHRINKS.map(|f| (error(first * f), first * f));
    tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(first, |(_, scale)| scale)
}

fn greatest(values: &[f32]) -> f32 {
    let range = Range::of(values);
    if range == Range::EMPTY { 0.0 } else { range.min.abs().max(range.max.abs()) }
}

impl Codec for ComfyCodec {
    fn geometry(&self) -> Geometry {
        Geometry { rows: self.rows, cols: self.cols, slab_rows: self.slab_rows }
    }

    fn is_global(&self) -> bool {
        self.block.is_none() && (self.group_size == group_size::TENSOR || self.format == Format::Nvfp4)
    }

    fn memory(&self) -> u64 {
        // While they are made, and as the bytes that are written.
        self.late().iter().map(|(_, len)| *len as u64 * 2).sum()
    }

    fn prepare(&self, values: &dyn Values, cancel: &Cancel) -> Result<Box<dyn Prepared>> {
        if self.block.is_some() {
            return Err(Error::failed(format!("{} is only read", self.format.name())));
        }
        let scales = if self.is_global() { vec![self.tensor_scale(values, cancel)?] } else { Vec::new() };
        Ok(Box::new(Ready::new(self.clone(), scales, None)?))
    }

    fn load(&self, part: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>> {
        let mut codec = self.clone();
        let scales = match self.format {
            Format::Nvfp4 => floats(&part(THIRD)?),
            _ if self.block.is_some() || self.group_size == group_size::TENSOR => floats(&part(SCALE)?),
            _ => Vec::new(),
        };
        if let (Format::W4a8, Levels::Sixteen(levels)) = (self.format, &mut codec.levels) {
            for (level, stored) in levels.iter_mut().zip(floats(&part(CODEBOOK)?)) {
                *level = stored;
            }
        }
        let wanted = match self.block {
            Some((height, width)) => (self.rows / height) * (self.cols / width),
            None => usize::from(self.is_global()),
        };
        if scales.len() != wanted {
            return Err(Error::failed(format!("it has {} scales where there should be {wanted}", scales.len())));
        }
        Ok(Box::new(Ready::new(codec, scales, Some(part))?))
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
