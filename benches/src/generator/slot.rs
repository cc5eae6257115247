//! Slots: 4 MiB of a column or dictionary, packed, with a checksum (`utils/compress/idbcompress.cpp`).

use std::io::{Error, ErrorKind, Result};

use serde::{Deserialize, Serialize};

use super::murmur::checksum;
use super::schema::BLOCK;

/// Bytes that a slot unpacks to, unless it is a column's only one and abbreviated.
pub(super) const CHUNK: usize = 4 << 20;

/// Signature, checksum and length before the payload.
pub(super) const SLOT_HEADER: usize = 9;

/// What packs slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// Raw Snappy.
    Snappy,
    /// LZ4 blocks.
    Lz4,
}

impl Codec {
    fn signature(self) -> u8 {
        match self {
            Codec::Snappy => 0xfd,
            Codec::Lz4 => 0xfc,
        }
    }

    /// The compression type that a column file's header names.
    pub(super) fn number(self) -> u64 {
        match self {
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
        }
    }
}

/// Packs and unpacks slots with buffers that are used again.
pub(super) struct Packer {
    codec: Codec,
    encoder: snap::raw::Encoder,
    slot: Vec<u8>,
}

fn wrong(problem: String) -> Error {
    Error::new(ErrorKind::InvalidData, problem)
}

impl Packer {
    pub fn new(codec: Codec) -> Self {
        Packer { codec, encoder: snap::raw::Encoder::new(), slot: Vec::new() }
    }

    /// Packs bytes into a slot without padding.
    pub fn pack(&mut self, bytes: &[u8]) -> Result<&[u8]> {
        let room = match self.codec {
            Codec::Snappy => snap::raw::max_compress_len(bytes.len()),
            Codec::Lz4 => lz4::block::compress_bound(bytes.len())?,
        };
        self.slot.resize(SLOT_HEADER + room, 0);
        let payload = &mut self.slot[SLOT_HEADER..];
        let length = match self.codec {
            Codec::Snappy => self.encoder.compress(bytes, payload)?,
            Codec::Lz4 => lz4::block::compress_to_buffer(bytes, None, false, payload)?,
        };
        let checksum = checksum(&payload[..length]);
        let length_field = u32::try_from(length).map_err(|_| wrong("slot too long".into()))?;
        self.slot[0] = self.codec.signature();
        self.slot[1..5].copy_from_slice(&checksum.to_le_bytes());
        self.slot[5..9].copy_from_slice(&length_field.to_le_bytes());
        Ok(&self.slot[..SLOT_HEADER + length])
    }
}

/// Returns how long a slot is made whose packed bytes are this many: CompressedPaddingBlocks is 1.
pub(super) fn slot_bytes(packed: usize) -> usize {
    packed.next_multiple_of(BLOCK) + BLOCK
}

/// Unpacks what [`Packer::pack`] made.
pub(super) fn unpack(slot: &[u8]) -> Result<Vec<u8>> {
    let (header, rest) = slot
        .split_at_checked(SLOT_HEADER)
        .ok_or_else(|| wrong(format!("a slot of {} bytes", slot.len())))?;
    let length = u32::from_le_bytes([header[5], header[6], header[7], header[8]]) as usize;
    let payload = rest.get(..length).ok_or_else(|| wrong(format!("{length} bytes in a slot")))?;
    match header[0] {
        0xfd => Ok(snap::raw::Decoder::new().decompress_vec(payload)?),
        0xfc => {
            let mut bytes = vec![0; CHUNK];
            let length = lz4::block::decompress_to_buffer(payload, Some(CHUNK as i32), &mut bytes)?;
            bytes.truncate(length);
            Ok(bytes)
        }
        other => Err(wrong(format!("a slot with signature {other:#x}"))),
    }
}
