//! Parts of which a slab's bytes lie scattered: held whole while slabs write into them, each to places of its own.
use std::sync::atomic::{AtomicU8, Ordering};

use crate::core::{Error, Result};

/// Such a part.
pub struct Late {
    /// Which.
    pub part: usize,
    bytes: Vec<AtomicU8>,
}

impl Late {
    /// With room for so many bytes, or with those that are stored.
    pub fn new(part: usize, len: usize, stored: Option<&dyn Fn(usize) -> Result<Vec<u8>>>) -> Result<Self> {
        let bytes = stored.map_or_else(|| Ok(vec![0; len]), |read| read(part))?;
        if bytes.len() != len {
            return Err(Error::failed(format!("an array of it has {} bytes where there should be {len}", bytes.len())));
        }
        Ok(Self { part, bytes: bytes.into_iter().map(AtomicU8::new).collect() })
    }
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().map(|b| b.load(Ordering::Relaxed)).collect()
    }
    /// Writes a byte.
    pub fn set(&self, at: usize, byte: u8) {
        if let Some(place) = self.bytes.get(at) {
            place.store(byte, Ordering::Relaxed);
        }
    }
    /// Sets bits of a byte that nobody else writes at the same time; they were zero.
    pub fn add(&self, at: usize, bits: u8) {
        self.set(at, self.get(at) | bits);
    }
    /// A byte.
    pub fn get(&self, at: usize) -> u8 {
        self.bytes.get(at).map_or(0, |b| b.load(Ordering::Relaxed))
    }
    /// Writes 16 bits, of an array of such.
    pub fn set_word(&self, index: usize, word: u16) {
        for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
            self.set(2 * index + i, byte);
        }
    }
    /// 16 bits of an array of such.
    pub fn word(&self, index: usize) -> u16 {
        u16::from_le_bytes(std::array::from_fn(|i| self.get(2 * index + i)))
    }
    /// Writes a float, of an array of such.
    pub fn set_float(&self, index: usize, value: f32) {
        for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
            self.set(4 * index + i, byte);
        }
    }
    /// A float of an array of such.
    pub fn float(&self, index: usize) -> f32 {
        f32::from_le_bytes(std::array::from_fn(|i| self.get(4 * index + i)))
    }
}
