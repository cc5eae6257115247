//! Raw bytes to stored bytes and back. The door to zstd.
//!
//! A stored chunk is one codec byte and its bytes (FORMAT.md 4.1). A chunk that compresses by less
//! than 3 % is stored raw: it would cost time at every restore and save nothing.

use crate::error::{Error, ErrorKind, Result};

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// The zstd level for new chunks. Measured: docs/ARCHITECTURE.md, "Compression".
pub const ZSTD_LEVEL: i32 = 1;

/// Compresses chunks; one for each thread, since it keeps its working memory.
pub struct Compressor {
    context: zstd::bulk::Compressor<'static>,
}

impl Compressor {
    /// Makes one at [`ZSTD_LEVEL`].
    pub fn new() -> Self {
        let context = zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("level 1 is a level of zstd");
        Compressor { context }
    }

    /// Appends the stored form of `raw` to `out` and returns its length: codec byte included, at
    /// most `raw.len() + 1`.
    pub fn store(&mut self, raw: &[u8], out: &mut Vec<u8>) -> usize {
        let start = out.len();
        // Room for the result that is worth having; zstd says when it does not fit.
        let worth = raw.len() - raw.len() / 32;
        out.resize(start + 1 + worth, 0);
        out[start] = ZSTD;
        let written = match self.context.compress_to_buffer(raw, &mut out[start + 1..]) {
            Ok(length) if length < worth => {
                out.truncate(start + 1 + length);
                length
            }
            _ => {
                out.truncate(start);
                out.push(RAW);
                out.extend_from_slice(raw);
                raw.len()
            }
        };
        written + 1
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

/// Decompresses chunks; one for each thread.
pub struct Decompressor {
    context: zstd::bulk::Decompressor<'static>,
    buffer: Vec<u8>,
}

impl Decompressor {
    /// Makes one.
    pub fn new() -> Self {
        let context = zstd::bulk::Decompressor::new().expect("zstd gives a context");
        Decompressor { context, buffer: Vec::new() }
    }

    /// Returns the raw bytes of a stored chunk that must have `raw_length` of them.
    ///
    /// Fails with `Corrupt` when they are not there, with `Unsupported` on an unknown codec. The
    /// caller verifies the hash.
    pub fn open<'a>(
        &'a mut self,
        stored: &'a [u8],
        raw_length: u32,
        object: &str,
    ) -> Result<&'a [u8]> {
        if let Some((&RAW, raw)) = stored.split_first() {
            return same_length(raw.len(), raw_length as usize, object).map(|()| raw);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(raw_length as usize, 0);
        let opened = self.open_into(stored, &mut buffer, object);
        self.buffer = buffer;
        opened.map(|()| &self.buffer[..])
    }

    /// Fills `raw` with the raw bytes of a stored chunk that must have exactly as many.
    ///
    /// Fails as [`Decompressor::open`]; what `raw` holds then is of no meaning.
    pub fn open_into(&mut self, stored: &[u8], raw: &mut [u8], object: &str) -> Result<()> {
        let (&codec, bytes) = stored
            .split_first()
            .ok_or_else(|| Error::corrupt(object, "codec byte expected, found nothing"))?;
        match codec {
            RAW => {
                same_length(bytes.len(), raw.len(), object)?;
                raw.copy_from_slice(bytes);
                Ok(())
            }
            ZSTD => {
                let length = self.context.decompress_to_buffer(bytes, raw).map_err(|error| {
                    Error::corrupt(object, "zstd cannot decompress it").caused_by(error)
                })?;
                same_length(length, raw.len(), object)
            }
            other => Err(Error::new(
                ErrorKind::Unsupported,
                object,
                format!("codec 0 (raw) or 1 (zstd) expected, found {other}"),
            )),
        }
    }
}

fn same_length(found: usize, expected: usize, object: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::corrupt(object, format!("{expected} raw bytes expected, found {found}")))
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressible_and_random_bytes_come_back() {
        let random: Vec<u8> = (0..4000u32)
            .flat_map(|n| crate::id::hash_stored(&[&n.to_le_bytes()])[..8].to_vec())
            .collect();
        let mut compressor = Compressor::new();
        for (raw, codec) in [(vec![7; 100_000], ZSTD), (random, RAW), (vec![1], RAW)] {
            let mut out = b"before".to_vec();
            let length = compressor.store(&raw, &mut out);
            let stored = &out[6..];
            assert_eq!((length, stored[0]), (stored.len(), codec));
            let mut decompressor = Decompressor::new();
            let raw_length = u32::try_from(raw.len()).unwrap();
            assert_eq!(decompressor.open(stored, raw_length, "c").unwrap(), raw);
            assert!(decompressor.open(stored, raw_length + 1, "c").is_err());
            assert!(decompressor.open(&stored[..stored.len() / 2], raw_length, "c").is_err());
        }
    }

    #[test]
    fn an_unknown_codec_is_unsupported_not_damaged() {
        let error = Decompressor::new().open(&[9, 1, 2], 2, "chunk x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
