//! Slabs of values to bytes and back, once what the whole tensor shares is known.
use std::cell::Cell;
use std::ops::Range as Rows;
use std::thread::LocalKey;

use super::{
    AWQ_TOP, AWQ_ZERO, CODEBOOK, ComfyCodec, INT4_TOP, LEAST_INT4, LEAST_INT8, SCALE, SHRINKS, THIRD, WEIGHT,
    best_scale, floats, greatest,
};
use crate::core::Result;
use crate::core::recipe::ScaleSearch;
use crate::quant::affine::{self, Range};
use crate::quant::blockfloat::{self, MXFP8_BLOCK, NVFP4_BLOCK, tiled};
use crate::quant::int8grid::{self, Levels};
use crate::quant::{Blocks, hadamard};
use crate::target::codec::{Codec, Piece, Prepared};
use crate::target::comfy::format::Format;
use crate::target::late::Late;

fn put(floats: &[f32], bytes: &mut [u8]) {
    for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(floats) {
        *bytes = value.to_le_bytes();
    }
}

/// A codec with the scales that all slabs share.
pub(super) struct Ready {
    codec: ComfyCodec,
    scales: Vec<f32>,
    late: Vec<Late>,
}

thread_local!(static VALUES: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
thread_local!(static CODES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
thread_local!(static SCALES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });

/// A buffer that is kept from slab to slab: fresh memory costs as much as the arithmetic on it.
fn with<T: Clone + Default, R>(
    buffer: &'static LocalKey<Cell<Vec<T>>>,
    len: usize,
    f: impl FnOnce(&mut [T]) -> R,
) -> R {
    let mut kept = buffer.take();
    // What is there is overwritten: fresh zeros would cost as much as the arithmetic on them.
    kept.resize(len, T::default());
    let out = f(&mut kept);
    buffer.set(kept);
    out
}

impl Ready {
    /// With parts that are stored, or with room for them.
    pub fn new(codec: ComfyCodec, scales: Vec<f32>, stored: Option<&dyn Fn(usize) -> Result<Vec<u8>>>) -> Result<Self> {
        let late = codec.late().into_iter().map(|(part, len)| Late::new(part, len, stored));
        Ok(Self { late: late.collect::<Result<_>>()?, codec, scales })
    }

    fn scale(&self) -> f32 {
        self.scales.first().copied().unwrap_or(1.0)
    }

    /// Rows with the columns that padding adds, if it adds any.
    fn padded<R>(&self, values: &[f32], f: impl FnOnce(&[f32]) -> R) -> R {
        let (cols, padded) = (self.codec.cols, self.codec.padded_cols);
        if cols == padded || cols == 0 {
            return f(values);
        }
        with(&VALUES, values.len() / cols * padded, |out| {
            for (to, from) in out.chunks_exact_mut(padded).zip(values.chunks_exact(cols)) {
                let (values, padding) = to.split_at_mut(cols);
                values.copy_from_slice(from);
                padding.fill(0.0);
            }
            f(out)
        })
    }

    /// Gives rows with padding to `f`, and takes them without.
    fn unpadded(&self, out: &mut [f32], f: impl FnOnce(&mut [f32])) {
        let (cols, padded) = (self.codec.cols, self.codec.padded_cols);
        if cols == padded || cols == 0 {
            return f(out);
        }
        with(&VALUES, out.len() / cols * padded, |all| {
            f(all);
            for (to, from) in out.chunks_exact_mut(cols).zip(all.chunks_exact(padded)) {
                to.copy_from_slice(&from[..cols]);
            }
        });
    }

    /// Scales of rows from `first` on, `per_row` each: index in their order, and the place among the tiles.
    fn tile(&self, first: usize, rows: usize, per_row: usize, mut each: impl FnMut(usize, usize)) {
        let tile_cols = self.codec.tile_cols();
        for row in 0..rows {
            for block in 0..per_row {
                each(row * per_row + block, tiled(first + row, block, tile_cols));
            }
        }
    }

    fn encode_tiled(&self, first: usize, values: &[f32], codes: &mut [u8]) {
        let (codec, Some(late)) = (&self.codec, self.late.first()) else { return };
        let block = if codec.format == Format::Nvfp4 { NVFP4_BLOCK } else { MXFP8_BLOCK };
        self.padded(values, |values| {
            with(&SCALES, values.len() / block, |scales| {
                if codec.format == Format::Nvfp4 {
                    blockfloat::encode_nvfp4(codec.search, self.scale(), values, codes, scales);
                } else {
                    blockfloat::encode_mxfp8(codec.search, values, codes, scales);
                }
                let per_row = codec.padded_cols / block;
                self.tile(first, scales.len() / per_row.max(1), per_row, |i, at| late.set(at, scales[i]));
            });
        });
    }

    fn decode_tiled(&self, first: usize, codes: &[u8], out: &mut [f32]) {
        let (codec, Some(late)) = (&self.codec, self.late.first()) else { return };
        let block = if codec.format == Format::Nvfp4 { NVFP4_BLOCK } else { MXFP8_BLOCK };
        self.unpadded(out, |out| {
            with(&SCALES, out.len() / block, |scales| {
                let per_row = codec.padded_cols / block;
                self.tile(first, scales.len() / per_row.max(1), per_row, |i, at| scales[i] = late.get(at));
                if codec.format == Format::Nvfp4 {
                    blockfloat::decode_nvfp4(self.scale(), codes, scales, out);
                } else {
                    blockfloat::decode_mxfp8(codes, scales, out);
                }
            });
        });
    }

    /// One code to a byte, scales of rows.
    fn encode_rows(&self, values: &[f32], codes: &mut [u8], scale: &mut [u8]) {
        let codec = &self.codec;
        let blocks = Blocks { outer: values.len() / codec.cols.max(1), groups: 1, len: codec.cols, inner: 1 };
        let mut scales = vec![0.0; blocks.outer];
        affine::scales(codec.int8, blocks, values, &mut scales, &mut []);
        for (scale, row) in scales.iter_mut().zip(values.chunks_exact(codec.cols.max(1))) {
            let rounds = |t: f32| t.round_ties_even().clamp(-128.0, 127.0);
            *scale = best_scale(row, scale.max(LEAST_INT8), codec.search, rounds);
        }
        codec.encode_scaled(values, &scales, blocks, codes);
        put(&scales, scale);
    }

    fn encode_w4a4(&self, values: &[f32], bytes: &mut [u8], scale: &mut [u8]) {
        let cols = self.codec.cols.max(1);
        let rows = values.chunks_exact(cols).zip(bytes.chunks_exact_mut(cols / 2));
        for ((row, bytes), stored) in rows.zip(scale.as_chunks_mut::<4>().0) {
            let rounds = |t: f32| t.round_ties_even().clamp(-INT4_TOP, INT4_TOP);
            let scale = best_scale(row, greatest(row).max(LEAST_INT4) / INT4_TOP, self.codec.search, rounds);
            for (byte, pair) in bytes.iter_mut().zip(row.as_chunks::<2>().0) {
                let [low, high] = pair.map(|v| rounds(v / scale) as i8 as u8);
                *byte = low & 15 | high << 4;
            }
            *stored = scale.to_le_bytes();
        }
    }

    fn encode_grid(&self, values: &[f32], bytes: &mut [u8], s_rel: &mut [u8], s_channel: &mut [u8]) {
        let (cols, group, levels) = (self.codec.cols.max(1), self.codec.group(), &self.codec.levels);
        let width = levels.row_bytes(cols);
        let rows = values.chunks_exact(cols).zip(bytes.chunks_exact_mut(width));
        let scales = s_rel.chunks_exact_mut(cols / group).zip(s_channel.as_chunks_mut::<4>().0);
        with(&CODES, cols, |codes| {
            for ((row, bytes), (s_rel, s_channel)) in rows.zip(scales) {
                *s_channel = int8grid::encode_row(levels, group, self.codec.search, row, codes, s_rel).to_le_bytes();
                int8grid::pack_row(levels, codes, bytes);
            }
        });
    }

    fn decode_grid(&self, bytes: &[u8], s_rel: &[u8], s_channel: &[u8], out: &mut [f32]) {
        let (cols, group, levels) = (self.codec.cols.max(1), self.codec.group(), &self.codec.levels);
        let rows = out.chunks_exact_mut(cols).zip(bytes.chunks_exact(levels.row_bytes(cols)));
        let scales = s_rel.chunks_exact(cols / group).zip(s_channel.as_chunks::<4>().0);
        with(&CODES, cols, |codes| {
            for ((row, bytes), (s_rel, s_channel)) in rows.zip(scales) {
                int8grid::unpack_row(levels, bytes, codes);
                int8grid::decode_row(levels, group, codes, s_rel, f32::from_le_bytes(*s_channel), row);
            }
        });
    }

    fn encode_awq(&self, first: usize, values: &[f32], bytes: &mut [u8]) {
        let (cols, group, rows) = (self.codec.cols.max(1), self.codec.group(), self.codec.rows);
        let [scales, zeros] = self.late.as_slice() else { return };
        for (r, (row, bytes)) in values.chunks_exact(cols).zip(bytes.chunks_exact_mut(cols / 2)).enumerate() {
            let groups = row.chunks_exact(group).zip(bytes.chunks_exact_mut(group / 2));
            for (g, (values, bytes)) in groups.enumerate() {
                let (scale, zero) = awq_scale(values, self.codec.search);
                scales.set_float(g * rows + first + r, scale);
                zeros.set_float(g * rows + first + r, zero);
                for (byte, pair) in bytes.iter_mut().zip(values.as_chunks::<2>().0) {
                    let [low, high] = pair.map(|v| awq_code(v, scale, zero));
                    *byte = low | high << 4;
                }
            }
        }
    }

    fn decode_awq(&self, first: usize, bytes: &[u8], out: &mut [f32]) {
        let (cols, group, rows) = (self.codec.cols.max(1), self.codec.group(), self.codec.rows);
        let [scales, zeros] = self.late.as_slice() else { return };
        for (r, (row, bytes)) in out.chunks_exact_mut(cols).zip(bytes.chunks_exact(cols / 2)).enumerate() {
            let groups = row.chunks_exact_mut(group).zip(bytes.chunks_exact(group / 2));
            for (g, (values, bytes)) in groups.enumerate() {
                let at = g * rows + first + r;
                let (scale, zero) = (scales.float(at), zeros.float(at));
                for (pair, byte) in values.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                    *pair = [byte & 15, byte >> 4].map(|c| (f32::from(c) - AWQ_ZERO) * scale + zero);
                }
            }
        }
    }

    /// Values of a format with scales by block, of which all are at hand.
    fn decode_blocks(&self, (height, width): (usize, usize), rows: Rows<usize>, codes: &[u8], out: &mut [f32]) {
        let codec = &self.codec;
        let per_row = codec.cols / width.max(1);
        let blocks = Blocks { outer: 1, groups: per_row, len: width, inner: 1 };
        let lines = out.chunks_exact_mut(codec.cols.max(1)).zip(codes.chunks_exact(codec.cols.max(1)));
        for (row, (out, codes)) in rows.zip(lines) {
            let first = row / height * per_row;
            if let Some(scales) = self.scales.get(first..first + per_row) {
                codec.decode_scaled(codes, scales, blocks, out);
            }
        }
    }
}

/// Scale and zero point of a group: from the least to the greatest, or, searched, from a bit above to a bit below.
fn awq_scale(values: &[f32], search: ScaleSearch) -> (f32, f32) {
    let range = Range::of(values);
    let fit = |shrink: f32| {
        let (middle, half) = ((range.max + range.min) / 2.0, (range.max - range.min) / 2.0 * shrink);
        let scale = (2.0 * half / AWQ_TOP).max(1e-12);
        (scale, if shrink == 1.0 { range.min } else { middle - half } + AWQ_ZERO * scale)
    };
    if search == ScaleSearch::Absmax {
        return fit(1.0);
    }
    let error = |(scale, zero): (f32, f32)| {
        values
            .iter()
            .map(|v| (v - ((f32::from(awq_code(*v, scale, zero)) - AWQ_ZERO) * scale + zero)).powi(2))
            .sum::<f32>()
    };
    let tried = SHRINKS.map(|f| (error(fit(f)), fit(f)));
    tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(fit(1.0), |(_, found)| found)
}

fn awq_code(value: f32, scale: f32, zero: f32) -> u8 {
    (((value - zero) / scale).round_ties_even() + AWQ_ZERO).clamp(0.0, AWQ_TOP) as u8
}

impl Prepared for Ready {
    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        let bytes = |v: &[f32]| v.iter().flat_map(|f| f.to_le_bytes()).collect::<Vec<u8>>();
        let mut out = Vec::new();
        if self.codec.is_global() {
            out.push((if self.codec.format == Format::Nvfp4 { THIRD } else { SCALE }, bytes(&self.scales)));
        }
        if let (Format::W4a8, Levels::Sixteen(levels)) = (self.codec.format, &self.codec.levels) {
            out.push((CODEBOOK, bytes(levels)));
        }
        out
    }

    fn finish(&self) -> Vec<(usize, Vec<u8>)> {
        self.late.iter().map(|late| (late.part, late.bytes())).collect()
    }

    fn pieces(&self, rows: Rows<usize>) -> Vec<Piece> {
        let codec = &self.codec;
        let piece = |part: usize, per_row: usize| Piece {
            part,
            bytes: (rows.start * per_row) as u64..(rows.end * per_row) as u64,
        };
        match codec.format {
            Format::E4m3 | Format::E5m2 | Format::E4m3Blocks | Format::Int8Blocks => vec![piece(WEIGHT, codec.cols)],
            Format::Int8 if codec.is_global() => vec![piece(WEIGHT, codec.cols)],
            Format::Int8 => vec![piece(WEIGHT, codec.cols), piece(SCALE, 4)],
            Format::Nvfp4 => vec![piece(WEIGHT, codec.padded_cols / 2)],
            Format::Mxfp8 => vec![piece(WEIGHT, codec.padded_cols)],
            Format::W4a4 => vec![piece(WEIGHT, codec.cols / 2), piece(SCALE, 4)],
            Format::W4a8 | Format::W4a8Uniform | Format::W6a8 => vec![
                piece(WEIGHT, codec.levels.row_bytes(codec.cols)),
                piece(SCALE, codec.cols / codec.group()),
                piece(THIRD, 4),
            ],
            Format::Awq => vec![piece(WEIGHT, codec.cols / 2)],
        }
    }

    fn encode(&self, rows: Rows<usize>, values: &[f32], pieces: &mut [&mut [u8]]) {
        let codec = &self.codec;
        if codec.rotation == 0 {
            return self.encode_turned(rows.start, values, pieces);
        }
        thread_local!(static TURNED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
        let mut turned = TURNED.take();
        turned.clear();
        turned.extend_from_slice(values);
        hadamard::rotate(codec.rotation, &mut turned);
        self.encode_turned(rows.start, &turned, pieces);
        TURNED.set(turned);
    }

    fn decode(&self, rows: Rows<usize>, pieces: &[&[u8]], out: &mut [f32]) {
        let codec = &self.codec;
        let whole = Blocks::whole(out.len());
        match (codec.format, pieces) {
            (Format::Nvfp4 | Format::Mxfp8, [codes]) => self.decode_tiled(rows.start, codes, out),
            (Format::W4a4, [bytes, scale]) => {
                let cols = codec.cols.max(1);
                let lines = out.chunks_exact_mut(cols).zip(bytes.chunks_exact(cols / 2));
                for ((row, bytes), scale) in lines.zip(scale.as_chunks::<4>().0) {
                    let scale = f32::from_le_bytes(*scale);
                    for (pair, byte) in row.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                        *pair = [(byte << 4) as i8 >> 4, *byte as i8 >> 4].map(|q| f32::from(q) * scale);
                    }
                }
            }
            (Format::W4a8 | Format::W4a8Uniform | Format::W6a8, [bytes, s_rel, s_channel]) => {
                self.decode_grid(bytes, s_rel, s_channel, out);
            }
            (Format::Awq, [bytes]) => self.decode_awq(rows.start, bytes, out),
            (Format::Int8, [codes, scale]) => {
                let blocks = Blocks { outer: rows.len(), groups: 1, len: codec.cols, inner: 1 };
                codec.decode_scaled(codes, &floats(scale), blocks, out);
            }
            (_, [codes]) => match codec.block {
                Some(block) => self.decode_blocks(block, rows, codes, out),
                None => codec.decode_scaled(codes, &[self.scale()], whole, out),
            },
            _ => {}
        }
        if codec.rotation > 0 {
            hadamard::rotate(codec.rotation, out);
        }
    }
}

impl Ready {
    fn encode_turned(&self, first: usize, values: &[f32], pieces: &mut [&mut [u8]]) {
        let codec = &self.codec;
        match (codec.format, pieces) {
            (Format::Nvfp4 | Format::Mxfp8, [codes]) => self.encode_tiled(first, values, codes),
            (Format::W4a4, [bytes, scale]) => self.encode_w4a4(values, bytes, scale),
            (Format::W4a8 | Format::W4a8Uniform | Format::W6a8, [bytes, s_rel, s_channel]) => {
                self.encode_grid(values, bytes, s_rel, s_channel);
            }
            (Format::Awq, [bytes]) => self.encode_awq(first, values, bytes),
            (Format::Int8, [codes, scale]) => self.encode_rows(values, codes, scale),
            (_, [codes]) => codec.encode_scaled(values, &[self.scale()], Blocks::whole(values.len()), codes),
            _ => {}
        }
    }
}
