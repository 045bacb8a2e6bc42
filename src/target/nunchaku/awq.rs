//! Values to the arrays of a modulation layer, and back: codes without a sign, a scale and a zero point per group.
use std::ops::Range;

use super::layout;
use super::parts::{Precision, Role, roles};
use crate::core::recipe::{Kernel, Recipe};
use crate::core::{Cancel, Error, Result, ScaleSearch};
use crate::quant::four::{self, GROUP, bf16, to_bf16};
use crate::target::codec::{Codec, Geometry, LONGEST_ROW, Piece, Prepared, Values};
use crate::target::late::Late;

/// What rows are a multiple of.
const ROWS: u64 = 8;

/// The codec of one layer.
#[derive(Clone, Debug)]
pub struct AwqCodec {
    geometry: Geometry,
    kernel: Kernel,
    roles: Vec<Role>,
    search: ScaleSearch,
}

/// Whether a matrix can be kept so, in so many fields.
pub fn fits(rows: u64, cols: u64, fields: u32) -> bool {
    rows.is_multiple_of(ROWS) && cols.is_multiple_of(GROUP as u64) && rows.is_multiple_of(u64::from(fields.max(1)))
}

impl AwqCodec {
    /// For a matrix and a resolved recipe.
    pub fn new(shape: &[u64], recipe: &Recipe) -> Result<Self> {
        let kernel = recipe.kernel.as_deref().cloned().unwrap_or_default();
        let (rows, cols) = match *shape {
            [rows, cols] if fits(rows, cols, kernel.fields) && cols <= LONGEST_ROW => (rows, cols),
            _ => return Err(Error::failed(format!("shape {shape:?} does not fit AWQ's groups of {GROUP}"))),
        };
        Ok(Self {
            geometry: Geometry::of_rows(rows, cols),
            roles: roles(Precision::Awq, &kernel),
            kernel,
            search: recipe.scale_search,
        })
    }

    fn at(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|r| *r == role)
    }

    /// Where a row is stored.
    fn place(&self, row: usize) -> usize {
        match self.kernel.fields as usize {
            0 | 1 => row,
            fields => layout::interleaved(fields, self.geometry.rows, row),
        }
    }

    fn late(&self, stored: Option<&dyn Fn(usize) -> Result<Vec<u8>>>) -> Result<Vec<Late>> {
        let (rows, cols) = (self.geometry.rows, self.geometry.cols);
        let columns = cols / GROUP * rows * 2;
        let all = [(Role::Codes, rows * cols / 2), (Role::Scales, columns), (Role::Zeros, columns)];
        all.into_iter().map(|(role, len)| Late::new(self.at(role).unwrap_or_default(), len, stored)).collect()
    }
}

/// Which fields are scales, to whose bias the runtime wants one to be added.
pub fn is_scale(fields: usize, field: usize) -> bool {
    fields > 1 && (field == 1 || field + 2 == fields)
}

impl Codec for AwqCodec {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn is_global(&self) -> bool {
        false
    }

    fn memory(&self) -> u64 {
        let (rows, cols) = (self.geometry.rows as u64, self.geometry.cols as u64);
        // While they are made, and as the bytes that are written.
        2 * (rows * cols / 2 + 2 * (cols / GROUP as u64 * rows * 2))
    }

    fn prepare(&self, values: &dyn Values, _: &Cancel) -> Result<Box<dyn Prepared>> {
        let rows = self.geometry.rows;
        let mut natural = values.bias()?;
        if natural.is_empty() {
            natural.resize(rows, 0.0);
        }
        if natural.len() != rows {
            return Err(Error::failed(format!("it has {rows} rows and a bias of {}", natural.len())));
        }
        if let Some(at) = natural.iter().position(|v| !v.is_finite()) {
            return Err(Error::failed(format!("its bias has the value {} at [{at}]; repair the source", natural[at])));
        }
        let fields = self.kernel.fields.max(1) as usize;
        let mut bias = vec![0; rows];
        for (row, value) in natural.into_iter().enumerate() {
            let one = if is_scale(fields, row / (rows / fields).max(1)) { 1.0 } else { 0.0 };
            if let Some(place) = bias.get_mut(self.place(row)) {
                *place = to_bf16(value + one);
            }
        }
        Ok(Box::new(Ready { codec: self.clone(), late: self.late(None)?, bias }))
    }

    fn load(&self, part: &dyn Fn(usize) -> Result<Vec<u8>>) -> Result<Box<dyn Prepared>> {
        Ok(Box::new(Ready { codec: self.clone(), late: self.late(Some(part))?, bias: Vec::new() }))
    }
}

/// A codec with its arrays, which slabs fill in.
struct Ready {
    codec: AwqCodec,
    late: Vec<Late>,
    /// As stored.
    bias: Vec<u16>,
}

impl Prepared for Ready {
    fn whole(&self) -> Vec<(usize, Vec<u8>)> {
        let bytes = || self.bias.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.codec.at(Role::Bias).map(|part| (part, bytes())).into_iter().collect()
    }

    fn pieces(&self, _: Range<usize>) -> Vec<Piece> {
        Vec::new()
    }

    fn encode(&self, rows: Range<usize>, values: &[f32], _: &mut [&mut [u8]]) {
        let codec = &self.codec;
        let (all, cols) = (codec.geometry.rows, codec.geometry.cols);
        let groups = cols / GROUP;
        let [codes, scales, zeros] = self.late.as_slice() else { return };
        let (mut single, mut scale, mut zero) = (vec![0; cols], vec![0; groups], vec![0; groups]);
        for (row, values) in rows.zip(values.chunks_exact(cols.max(1))) {
            four::encode_unsigned(codec.search, values, &mut single, &mut scale, &mut zero);
            let row = codec.place(row);
            for (group, (scale, zero)) in scale.iter().zip(&zero).enumerate() {
                scales.set_word(group * all + row, *scale);
                zeros.set_word(group * all + row, *zero);
            }
            // Four codes of a row share a word; each is 8 columns after the one before.
            for (col, code) in single.iter().enumerate() {
                let (byte, shift) = layout::awq_place(row, col, cols);
                codes.add(byte, code << shift);
            }
        }
    }

    fn finish(&self) -> Vec<(usize, Vec<u8>)> {
        self.late.iter().map(|late| (late.part, late.bytes())).collect()
    }

    fn decode(&self, rows: Range<usize>, _: &[&[u8]], out: &mut [f32]) {
        let codec = &self.codec;
        let (all, cols) = (codec.geometry.rows, codec.geometry.cols);
        let [codes, scales, zeros] = self.late.as_slice() else { return };
        for (row, values) in rows.zip(out.chunks_exact_mut(cols.max(1))) {
            let row = codec.place(row);
            for (group, values) in values.chunks_exact_mut(GROUP).enumerate() {
                let (scale, zero) = (bf16(scales.word(group * all + row)), bf16(zeros.word(group * all + row)));
                for (i, value) in values.iter_mut().enumerate() {
                    let (byte, shift) = layout::awq_place(row, group * GROUP + i, cols);
                    *value = f32::from(codes.get(byte) >> shift & 15) * scale + zero;
                }
            }
        }
    }
}
