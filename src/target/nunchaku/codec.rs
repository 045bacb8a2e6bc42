//! Values to the arrays of a layer with a low-rank branch, and back.
//!
//! Of the effective weight that is shown and written: `codes · scales / smooth + up · down`, every number as stored.
use std::ops::Range;

use super::four::{Coded, Scheme, paired, unpaired};
use super::layout::{self, BLOCK};
use super::parts::{Precision, Role, roles};
use super::search::{Branch, Layer, smoothed, unsmoothed};
use crate::core::recipe::{Kernel, Recipe};
use crate::core::{Cancel, Error, Result};
use crate::quant::four::{bf16, to_bf16};
use crate::quant::lowrank;
use crate::target::codec::{Codec, Geometry, LONGEST_ROW, Piece, Prepared, Values};

/// What the kernel adds to GELU's output, which is above -0.17 everywhere.
pub const SHIFT: f32 = 0.171_875;
/// Ranks come in tiles of so many; without one the kernels would load a tile that is not there.
pub const RANK_TILE: u64 = 16;
/// The highest rank that the kernels take.
pub const MOST_RANK: u64 = 1024;

/// The codec of one layer.
#[derive(Clone, Debug)]
pub struct SvdqCodec {
    geometry: Geometry,
    scheme: Scheme,
    kernel: Kernel,
    roles: Vec<Role>,
    rank: usize,
    steps: usize,
}

impl SvdqCodec {
    /// For a matrix and a resolved recipe.
    pub fn new(precision: Precision, shape: &[u64], recipe: &Recipe) -> Result<Self> {
        let &[rows, cols] = shape else {
            return Err(Error::failed(format!("shape {shape:?} is not that of a matrix")));
        };
        if !rows.is_multiple_of(BLOCK as u64) || !cols.is_multiple_of(BLOCK as u64) || cols > LONGEST_ROW {
            return Err(Error::failed(format!("{rows}×{cols}: both have to be multiples of {BLOCK}")));
        }
        let rank = u64::from(recipe.svd_rank);
        if !(RANK_TILE..=MOST_RANK).contains(&rank) || !rank.is_multiple_of(RANK_TILE) {
            return Err(Error::failed(format!("rank {rank}: Nunchaku takes multiples of {RANK_TILE} to {MOST_RANK}")));
        }
        let kernel = recipe.kernel.as_deref().cloned().unwrap_or_default();
        if kernel.smooth.as_ref().is_some_and(|s| s.values().len() as u64 != cols) {
            return Err(Error::failed(format!("what smooths it is not of {cols} columns")));
        }
        Ok(Self {
            geometry: Geometry { rows: rows as usize, cols: cols as usize, slab_rows: BLOCK },

            scheme: Scheme { floats: precision == Precision::Nvfp4, search: recipe.scale_search },
            roles: roles(precision, &kernel),
            kernel,
            rank: rank as usize,
            steps: recipe.svd_steps as usize,
        })
    }

    fn smooth(&self) -> Option<&[f32]> {
        self.kernel.smooth.as_ref().map(crate::core::recipe::Smooth::values)
    }

    fn layer<'a>(&'a self, values: &'a dyn Values) -> Layer<'a> {
        Layer { values, smooth: self.smooth(), scheme: self.scheme, rank: self.rank, steps: self.steps }
    }

    fn at(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|r| *r == role)
    }

    fn groups(&self) -> usize {
        self.geometry.cols / self.scheme.group()
    }

    /// Whole blocks around some rows.
    fn blocks(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start / BLOCK * BLOCK..rows.end.next_multiple_of(BLOCK)
    }

    /// Parts that lie in blocks of rows, with their bytes for each row.
    fn by_row(&self) -> Vec<(Role, usize)> {
        let scales = self.groups() * if self.scheme.floats { 1 } else { 2 };
        let mut all = vec![(Role::Codes, self.geometry.cols / 2), (Role::Scales, scales), (Role::Up, 2 * self.rank)];
        if self.kernel.bias {
            all.push((Role::Bias, 2));
        }
        all
    }
}

impl Codec for SvdqCodec {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn is_global(&self) -> bool {
        true
    }

    fn memory(&self) -> u64 {
        // Codes and scales of a round, and those of the next.
        let codes = self.geometry.rows as u64 * (self.geometry.cols as u64 / 2 + 2 * self.groups() as u64);
        let factors = (self.geometry.rows + 2 * self.geometry.cols) as u64 * self.rank as u64 * 4;
        2 * codes + 2 * factors
    }

    fn prepare(&self, values: &dyn Values, cancel: &Cancel) -> Result<Box<dyn Prepared>> {
        let branch = self.layer(values).branch(cancel)?;
        let mut bias = values.bias()?;
        if bias.is_empty() {
            bias.resize(self.geometry.rows, 0.0);
        }
        if bias.len() != self.geometry.rows {
            return Err(Error::failed(format!("it has {} rows and a bias of {}", self.geometry.rows, bias.len())));
        }
        if let Some(at) = bias.iter().position(|v| !v.is_finite()) {
            return Err(Error::failed(format!("its bias has the value {} at [{at}]; repair the source", bias[at])));
        }
        let scale = branch.tensor_scale;
        let mut ready = Ready { codec: self.clone(), branch, bias, row_scales: Vec::new(), tensor_scale: scale };
        // Without a place of its own it is the scale of every row.
        if self.scheme.has_tensor_scale() && !self.kernel.tensor_scale {
            ready.tensor_scale = 1.0;
            ready.row_scales = vec![scale; self.geometry.rows];
        }
        Ok(Box::new(ready))
    }

    fn load(&self, part: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>> {
        let (rows, cols, rank) = (self.geometry.rows, self.geometry.cols, self.rank);
        let read = |role: Role, len: usize| -> Result<Option<Vec<u16>>> {
            let Some(at) = self.at(role) else { return Ok(None) };
            let words = words(&part(at)?);
            if words.len() != len {
                return Err(Error::failed(format!("{role:?} has {} numbers where there should be {len}", words.len())));
            }
            Ok(Some(words))
        };
        let natural = |packed: &[u16], unpack: &dyn Fn(&[u16], &mut [u16])| {
            let mut out = vec![0; packed.len()];
            unpack(packed, &mut out);
            out.into_iter().map(bf16).collect::<Vec<f32>>()
        };
        let down = read(Role::Down, cols * rank)?.unwrap_or_default();
        let down = natural(&down, &|from, to| layout::unpack_down(cols, rank, from, to));
        let smooth = read(Role::Smooth, cols)?.unwrap_or_default();
        let smooth = natural(&smooth, &|from, to| layout::unpack_vector(from, to));
        let row_scales = read(Role::RowScales, rows)?.unwrap_or_default();
        let row_scales = natural(&row_scales, &|from, to| layout::unpack_vector(from, to));
        let tensor_scale = read(Role::TensorScale, 1)?.and_then(|w| w.first().copied()).map_or(1.0, bf16);
        let mut codec = self.clone();
        if smooth.iter().any(|s| *s != 1.0) {
            codec.kernel.smooth = Some(crate::core::recipe::Smooth::new(smooth));
        }
        let branch = Branch { up: Vec::new(), down, tensor_scale };
        Ok(Box::new(Ready { codec, branch, bias: Vec::new(), row_scales, tensor_scale }))
    }
}

/// Bytes as words.
pub fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
}

fn put(words: &[u16], bytes: &mut [u8]) {
    for (to, from) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *to = from.to_le_bytes();
    }
}

fn rounded(values: &[f32]) -> Vec<u16> {
    values.iter().map(|v| to_bf16(*v)).collect()
}

fn packed(words: &[u16], pack: impl FnOnce(&[u16], &mut [u16])) -> Vec<u16> {
    let mut out = vec![0; words.len()];
    pack(words, &mut out);
    out
}

fn bytes_of(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// A codec with its branch.
struct Ready {
    codec: SvdqCodec,
    /// Without `up` where the parts were loaded: its rows come with the slabs.
    branch: Branch,
    bias: Vec<f32>,
    /// Where they are not 1.
    row_scales: Vec<f32>,
    /// As it is stored for the kernel; codes are made with that of the branch.
    tensor_scale: f32,
}

impl Ready {
    /// The bias as the kernel wants it of some rows whose codes mean `quantized`.
    fn bias(&self, rows: &Range<usize>, quantized: &[f32]) -> Vec<u16> {
        let codec = &self.codec;
        let natural: Vec<f32> = self.bias.get(rows.clone()).unwrap_or_default().to_vec();
        let natural = if codec.kernel.shifted && !codec.scheme.floats {
            let shifts = shifts(codec.smooth(), codec.geometry.cols, quantized);
            natural.iter().zip(shifts).map(|(bias, shift)| (f64::from(*bias) - shift) as f32).collect()
        } else {
            natural
        };
        packed(&rounded(&natural), layout::pack_vector)
    }
}

/// What the shift of GELU adds to each row's product.
pub fn shifts(smooth: Option<&[f32]>, cols: usize, quantized: &[f32]) -> Vec<f64> {
    let of = |row: &[f32]| {
        let sum: f64 = match smooth {
            Some(smooth) => row.iter().zip(smooth).map(|(q, s)| f64::from(*q) / f64::from(*s)).sum(),
            None => row.iter().map(|q| f64::from(*q)).sum(),
        };
        f64::from(SHIFT) * sum
    };
    quantized.chunks_exact(cols.max(1)).map(of).collect()
}

impl Prepared for Ready {
    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        let codec = &self.codec;
        let (cols, rank) = (codec.geometry.cols, codec.rank);
        let mut out = Vec::new();
        for (part, role) in codec.roles.iter().enumerate() {
            let words = match role {
                Role::Smooth | Role::SmoothOrig => {
                    let ones = vec![1.0; cols];
                    let natural = rounded(codec.smooth().unwrap_or(&ones));
                    packed(&natural, layout::pack_vector)
                }
                Role::Down => packed(&rounded(&self.branch.down), |from, to| layout::pack_down(cols, rank, from, to)),
                Role::TensorScale => vec![to_bf16(self.tensor_scale)],
                // All alike, so that their order does not matter.
                Role::RowScales if self.row_scales.is_empty() => vec![to_bf16(1.0); codec.geometry.rows],
                Role::RowScales => rounded(&self.row_scales),
                _ => continue,
            };
            out.push((part, bytes_of(&words)));
        }
        out
    }

    fn pieces(&self, rows: Range<usize>) -> Vec<Piece> {
        let rows = self.codec.blocks(&rows);
        let piece = |(role, per_row): (Role, usize)| {
            let bytes = (rows.start * per_row) as u64..(rows.end * per_row) as u64;
            Some(Piece { part: self.codec.at(role)?, bytes })
        };
        self.codec.by_row().into_iter().filter_map(piece).collect()
    }

    fn encode(&self, rows: Range<usize>, values: &[f32], pieces: &mut [&mut [u8]]) {
        let codec = &self.codec;
        let (cols, rank, groups) = (codec.geometry.cols, codec.rank, codec.groups());
        let [codes, scales, up, rest @ ..] = pieces else { return };
        let mut residual = values.to_vec();
        let natural = self.branch.up.get(rows.start * rank..rows.end * rank).unwrap_or_default();
        lowrank::subtract(natural, &self.branch.down, rank, cols, &mut residual);
        smoothed(codec.smooth(), &mut residual);
        let coded = codec.scheme.encode(self.branch.tensor_scale, &residual);
        let mut single = vec![0; values.len()];
        unpaired(&coded.codes, &mut single);
        layout::pack_codes(cols, &single, codes);
        if codec.scheme.floats {
            let bytes: Vec<u8> = coded.scales.iter().map(|s| *s as u8).collect();
            layout::pack_micro(groups, &bytes, scales);
        } else {
            put(&packed(&coded.scales, |from, to| layout::pack_vectors(groups, from, to)), scales);
        }
        put(&packed(&rounded(natural), |from, to| layout::pack_up(rank, from, to)), up);
        if let [bias] = rest {
            codec.scheme.decode(&coded, self.branch.tensor_scale, &mut residual);
            put(&self.bias(&rows, &residual), bias);
        }
    }

    fn decode(&self, rows: Range<usize>, pieces: &[&[u8]], out: &mut [f32]) {
        let codec = &self.codec;
        let (cols, rank) = (codec.geometry.cols, codec.rank);
        let all = codec.blocks(&rows);
        let [codes, scales, up, ..] = pieces else { return };
        let mut block = vec![0.0; all.len() * cols];
        self.quantized(codes, scales, &all, &mut block);
        unsmoothed(codec.smooth(), &mut block);
        let mut natural = vec![0; all.len() * rank];
        layout::unpack_up(rank, &words(up), &mut natural);
        let natural: Vec<f32> = natural.into_iter().map(bf16).collect();
        lowrank::add(&natural, &self.branch.down, rank, cols, &mut block);
        let skip = (rows.start - all.start) * cols;
        if let Some(wanted) = block.get(skip..skip + out.len()) {
            out.copy_from_slice(wanted);
        }
    }
}

impl Ready {
    /// What codes of whole blocks mean.
    fn quantized(&self, codes: &[u8], scales: &[u8], rows: &Range<usize>, out: &mut [f32]) {
        let codec = &self.codec;
        let (cols, groups) = (codec.geometry.cols, codec.groups());
        let mut single = vec![0; out.len()];
        layout::unpack_codes(cols, codes, &mut single);
        let mut natural = vec![0u16; rows.len() * groups];
        if codec.scheme.floats {
            let mut bytes = vec![0; natural.len()];
            layout::unpack_micro(groups, scales, &mut bytes);
            natural.iter_mut().zip(bytes).for_each(|(to, from)| *to = u16::from(from));
        } else {
            layout::unpack_vectors(groups, &words(scales), &mut natural);
        }
        let coded = Coded { codes: paired(&single), scales: natural, tensor_scale: self.tensor_scale };
        codec.scheme.decode(&coded, self.tensor_scale, out);
        for (row, scale) in out.chunks_exact_mut(cols.max(1)).zip(self.row_scales.get(rows.clone()).unwrap_or_default())
        {
            row.iter_mut().for_each(|v| *v *= scale);
        }
    }
}

#[cfg(test)]
mod tests;
