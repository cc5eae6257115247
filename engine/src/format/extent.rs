//! Extents: what a file's content is made of, and the span lists that hold them.
//!
//! Source: FORMAT.md 5.1 and 5.2.

use super::wire::{Decoded, Reader, put_varint};
use crate::id::ChunkId;

/// How many extents stand inline in a manifest entry; more go to span lists.
pub const EXTENTS_INLINE_MAX: usize = 32;

/// How many span lists one list of lists holds.
pub const LISTS_PER_GROUP: usize = 1024;

/// How deep lists may nest: span lists, groups of them, groups of groups.
pub const LIST_DEPTH_MAX: usize = 4;

/// The length of a span in bytes: the unit of parallel work inside one file.
pub const SPAN_BYTES: u64 = 64 << 20;

/// In segment files a span is this many slots instead.
pub const SPAN_SLOTS: usize = 16;

const TAG: [u8; 4] = *b"CVS1";

/// A piece of a file's content. Lengths are raw bytes and never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A whole chunk.
    Chunk {
        /// Its id.
        id: ChunkId,
        /// Its raw length.
        length: u32,
    },
    /// A part of a chunk.
    Slice {
        /// The chunk's id.
        id: ChunkId,
        /// The chunk's raw length.
        chunk_length: u32,
        /// Where the part begins in the chunk's raw bytes.
        offset: u32,
        /// The part's length.
        length: u32,
    },
    /// Zeros that take space: they come back allocated.
    Zero {
        /// How many.
        length: u64,
    },
    /// A hole of the source: it comes back as a hole.
    Hole {
        /// How long.
        length: u64,
    },
    /// Content that could not be read when the snapshot was made.
    Lost {
        /// How long.
        length: u64,
    },
    /// A meta chunk that lists the extents of this stretch.
    List {
        /// The list's id.
        id: ChunkId,
        /// How many raw bytes of the file it describes.
        length: u64,
    },
    /// A slot of a segment file, packed again from the blocks that its recipe names.
    Recipe {
        /// The recipe's id: the id that the packed slot would have as a chunk. A meta chunk.
        id: ChunkId,
        /// The packed slot's length.
        length: u32,
    },
}

impl Extent {
    /// Returns how many raw bytes of the file this describes.
    pub fn length(&self) -> u64 {
        match *self {
            Extent::Chunk { length, .. }
            | Extent::Slice { length, .. }
            | Extent::Recipe { length, .. } => u64::from(length),
            Extent::Zero { length }
            | Extent::Hole { length }
            | Extent::Lost { length }
            | Extent::List { length, .. } => length,
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Extent::Chunk { id, length } => {
                out.push(1);
                out.extend_from_slice(&id.0);
                put_varint(out, length.into());
            }
            Extent::Slice { id, chunk_length, offset, length } => {
                out.push(2);
                out.extend_from_slice(&id.0);
                put_varint(out, chunk_length.into());
                put_varint(out, offset.into());
                put_varint(out, length.into());
            }
            Extent::Zero { length } => put_run(out, 3, length),
            Extent::Hole { length } => put_run(out, 4, length),
            Extent::Lost { length } => put_run(out, 5, length),
            Extent::List { id, length } => {
                out.push(6);
                out.extend_from_slice(&id.0);
                put_varint(out, length);
            }
            Extent::Recipe { id, length } => {
                out.push(7);
                out.extend_from_slice(&id.0);
                put_varint(out, length.into());
            }
        }
    }

    /// Reads one extent.
    pub fn decode(reader: &mut Reader<'_>) -> Decoded<Self> {
        let start = reader.clone();
        let extent = match reader.u8("extent type")? {
            1 => Extent::Chunk {
                id: ChunkId(reader.array("chunk id")?),
                length: reader.varint_u32("chunk length")?,
            },
            2 => Extent::Slice {
                id: ChunkId(reader.array("chunk id")?),
                chunk_length: reader.varint_u32("chunk length")?,
                offset: reader.varint_u32("offset in the chunk")?,
                length: reader.varint_u32("slice length")?,
            },
            3 => Extent::Zero { length: reader.varint("zero length")? },
            4 => Extent::Hole { length: reader.varint("hole length")? },
            5 => Extent::Lost { length: reader.varint("lost length")? },
            6 => Extent::List {
                id: ChunkId(reader.array("list id")?),
                length: reader.varint("list length")?,
            },
            7 => Extent::Recipe {
                id: ChunkId(reader.array("recipe id")?),
                length: reader.varint_u32("slot length")?,
            },
            _ => return Err(start.malformed("extent type 1 to 7")),
        };
        if extent.length() == 0 {
            return Err(start.malformed("extent that is not empty"));
        }
        if let Extent::Slice { chunk_length, offset, length, .. } = extent {
            let end = u64::from(offset) + u64::from(length);
            if end > u64::from(chunk_length) {
                return Err(start.malformed("slice inside its chunk"));
            }
        }
        Ok(extent)
    }
}

fn put_run(out: &mut Vec<u8>, tag: u8, length: u64) {
    out.push(tag);
    put_varint(out, length);
}

/// Appends a count and the extents.
pub fn put_extents(out: &mut Vec<u8>, extents: &[Extent]) {
    put_varint(out, extents.len() as u64);
    extents.iter().for_each(|extent| extent.encode(out));
}

/// Reads a count and the extents; they must add up to `length` raw bytes.
pub fn take_extents(reader: &mut Reader<'_>, length: u64) -> Decoded<Vec<Extent>> {
    let start = reader.clone();
    let count = reader.count(2, "number of extents")?;
    let mut extents = Vec::with_capacity(count);
    let mut total: u64 = 0;
    for _ in 0..count {
        let extent = Extent::decode(reader)?;
        total = total
            .checked_add(extent.length())
            .ok_or_else(|| start.malformed("extents below 2^64 bytes"))?;
        extents.push(extent);
    }
    if total != length {
        return Err(start.malformed("extents that add up to the length"));
    }
    Ok(extents)
}

/// Returns the raw bytes of a span list.
pub fn encode_list(extents: &[Extent]) -> Vec<u8> {
    let mut out = TAG.to_vec();
    put_extents(&mut out, extents);
    out
}

/// Reads a span list that must describe `length` raw bytes.
pub fn decode_list(raw: &[u8], length: u64) -> Decoded<Vec<Extent>> {
    let mut reader = Reader::new(raw);
    if reader.array::<4>("span list")? != TAG {
        return Err(Reader::new(raw).malformed("span list tag \"CVS1\""));
    }
    let extents = take_extents(&mut reader, length)?;
    reader.end("end of the span list")?;
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back() {
        let id = ChunkId([5; 32]);
        let extents = vec![
            Extent::Chunk { id, length: 65_536 },
            Extent::Slice { id, chunk_length: 100, offset: 50, length: 50 },
            Extent::Zero { length: 1 << 40 },
            Extent::Hole { length: 1 },
            Extent::Lost { length: 4096 },
            Extent::List { id, length: SPAN_BYTES },
            Extent::Recipe { id, length: 1_720_320 },
        ];
        let length = extents.iter().map(Extent::length).sum();
        let raw = encode_list(&extents);
        assert_eq!(decode_list(&raw, length), Ok(extents));
        assert!(decode_list(&raw, length + 1).is_err());
        for cut in 0..raw.len() {
            assert!(decode_list(&raw[..cut], length).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_slice_past_its_chunk_and_an_empty_extent_are_refused() {
        let id = ChunkId([5; 32]);
        for wrong in [
            Extent::Slice { id, chunk_length: 100, offset: 60, length: 41 },
            Extent::Zero { length: 0 },
        ] {
            assert!(decode_list(&encode_list(&[wrong]), wrong.length()).is_err(), "{wrong:?}");
        }
    }
}
