//! Reading a file from front to back in small steps, each proved against the file's length before anything is reserved.
use std::fmt::Arguments;

use super::Blob;
use crate::core::{Error, Result};

/// Bytes that are read at a time.
pub(super) const CHUNK: u64 = 256 << 10;

/// A place in a file, and the bytes around it.
pub(super) struct Cursor<'a> {
    blob: &'a Blob,
    /// Of the file.
    len: u64,
    /// Beyond which nothing is read.
    limit: u64,
    at: u64,
    chunk: Vec<u8>,
    /// Where in the file the chunk begins.
    start: u64,
}

impl<'a> Cursor<'a> {
    /// At the start of a file, of which no more than `limit` bytes are read.
    pub fn new(blob: &'a Blob, limit: u64) -> Self {
        Self { blob, len: blob.len(), limit, at: 0, chunk: Vec::new(), start: 0 }
    }
    /// From the start of the file.
    pub fn at(&self) -> u64 {
        self.at
    }
    /// Of the file.
    pub fn len(&self) -> u64 {
        self.len
    }
    /// Bytes up to the end of the file.
    pub fn remaining(&self) -> u64 {
        self.len - self.at
    }

    /// Proves that so many bytes follow.
    fn need(&self, n: u64, what: Arguments) -> Result<()> {
        if n > self.remaining() {
            return Err(Error::failed(format!(
                "{what} at offset {} takes {n} bytes, and the file ends after {}; it is cut short or broken",
                self.at,
                self.remaining()
            )));
        }
        if self.at + n > self.limit {
            return Err(Error::failed(format!(
                "{what} at offset {} ends at {}, expected at most {}",
                self.at,
                self.at + n,
                self.limit
            )));
        }
        Ok(())
    }

    /// How many entries of a kind the file claims, if it has room for them.
    pub fn count(&self, n: i64, least: u64, what: &str) -> Result<u64> {
        let most = self.remaining() / least;
        u64::try_from(n).ok().filter(|n| *n <= most).ok_or_else(|| {
            Error::failed(format!(
                "claims {n} {what} at offset {}, and the file has room for {most}; it is cut short or broken",
                self.at - 8
            ))
        })
    }

    /// The next bytes: as many as are at hand or can be read at once, but not more than `most`.
    fn peek(&mut self, most: u64) -> Result<&[u8]> {
        let end = self.start + self.chunk.len() as u64;
        if self.at >= end {
            let n = CHUNK.min(self.remaining());
            self.chunk.resize(n as usize, 0);
            self.start = self.at;
            self.blob.read_at(self.at, &mut self.chunk)?;
        }
        let from = (self.at - self.start) as usize;
        let n = (self.chunk.len() - from).min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(&self.chunk[from..from + n])
    }

    /// Appends so many bytes.
    pub fn append(&mut self, out: &mut Vec<u8>, n: u64, what: Arguments) -> Result<()> {
        self.need(n, what)?;
        let mut left = n;
        while left > 0 {
            let bytes = self.peek(left)?;
            let read = bytes.len() as u64;
            out.extend_from_slice(bytes);
            self.at += read;
            left -= read;
        }
        Ok(())
    }

    /// So many bytes.
    pub fn bytes(&mut self, n: u64, what: Arguments) -> Result<Box<[u8]>> {
        self.need(n, what)?;
        // Not more than a chunk beforehand: a file may be sparse, and its length then means little.
        let mut out = Vec::with_capacity(n.min(CHUNK) as usize);
        self.append(&mut out, n, what)?;
        Ok(out.into_boxed_slice())
    }

    /// As many bytes as the caller's array has.
    pub fn take<const N: usize>(&mut self, what: Arguments) -> Result<[u8; N]> {
        self.need(N as u64, what)?;
        let mut out = [0; N];
        let mut filled = 0;
        while filled < N {
            let bytes = self.peek((N - filled) as u64)?;
            let read = bytes.len();
            out[filled..filled + read].copy_from_slice(bytes);
            self.at += read as u64;
            filled += read;
        }
        Ok(out)
    }

    /// A little-endian u32.
    pub fn u32(&mut self, what: Arguments) -> Result<u32> {
        self.take(what).map(u32::from_le_bytes)
    }
    /// A little-endian i32.
    pub fn i32(&mut self, what: Arguments) -> Result<i32> {
        self.take(what).map(i32::from_le_bytes)
    }
    /// A little-endian u64.
    pub fn u64(&mut self, what: Arguments) -> Result<u64> {
        self.take(what).map(u64::from_le_bytes)
    }
    /// A little-endian i64.
    pub fn i64(&mut self, what: Arguments) -> Result<i64> {
        self.take(what).map(i64::from_le_bytes)
    }
}
