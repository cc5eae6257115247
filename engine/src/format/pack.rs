//! Packs: chunks back to back, then a trailer that lists them.
//!
//! Source: FORMAT.md 4.1. `header | chunk | chunk | ... | trailer | footer`; a chunk is one codec
//! byte and its stored bytes.

use super::HEADER_LEN;
use super::wire::{Decoded, Reader};
use crate::id::{ChunkId, hash_stored};

/// The length of the footer in bytes.
pub const FOOTER_LEN: usize = 48;

/// The length of one entry of a trailer or index in bytes.
pub const PLACE_LEN: usize = 40;

/// The largest raw chunk a reader accepts: 16 MiB.
pub const CHUNK_RAW_BYTES_MAX: u32 = 16 << 20;

const MAGIC: [u8; 8] = *b"cvtrailr";

/// One chunk of a pack. Chunks follow each other without gaps, the first at byte 80.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The chunk's id.
    pub id: ChunkId,
    /// Bytes in the pack, the codec byte included.
    pub stored_length: u32,
    /// Bytes after decompression.
    pub raw_length: u32,
}

impl Place {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.stored_length.to_le_bytes());
        out.extend_from_slice(&self.raw_length.to_le_bytes());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Decoded<Self> {
        let id = ChunkId(reader.array("chunk id")?);
        let stored_length = reader.u32("stored length")?;
        let raw_length = reader.u32("raw length")?;
        if stored_length < 2 || raw_length == 0 || raw_length > CHUNK_RAW_BYTES_MAX {
            return Err(reader.malformed("chunk lengths within limits"));
        }
        Ok(Place { id, stored_length, raw_length })
    }
}

/// Returns trailer and footer of a pack with these chunks.
pub fn encode_trailer(places: &[Place]) -> Vec<u8> {
    let mut out = Vec::with_capacity(places.len() * PLACE_LEN + FOOTER_LEN);
    places.iter().for_each(|place| place.encode(&mut out));
    let checksum = hash_stored(&[&out]);
    let length = u32::try_from(out.len()).expect("a trailer is below 4 GiB");
    out.extend_from_slice(&checksum);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&MAGIC);
    out
}

/// Reads a footer: returns the length of the trailer before it and the trailer's checksum.
pub fn decode_footer(bytes: &[u8]) -> Decoded<(u32, [u8; 32])> {
    let mut reader = Reader::new(bytes);
    let checksum = reader.array("trailer checksum")?;
    let length = reader.u32("trailer length")?;
    reader.bytes(4, "reserved bytes")?;
    if reader.array::<8>("footer magic")? != MAGIC {
        return Err(reader.malformed("footer magic \"cvtrailr\""));
    }
    reader.end("end of the footer")?;
    if !(length as usize).is_multiple_of(PLACE_LEN) {
        return Err(reader.malformed("trailer length of whole entries"));
    }
    Ok((length, checksum))
}

/// Reads a trailer whose pack has `pack_length` bytes: every chunk has its place in it.
pub fn decode_trailer(bytes: &[u8], checksum: [u8; 32], pack_length: u64) -> Decoded<Vec<Place>> {
    let mut reader = Reader::new(bytes);
    if hash_stored(&[bytes]) != checksum {
        return Err(reader.malformed("trailer that matches its checksum"));
    }
    let mut places = Vec::with_capacity(bytes.len() / PLACE_LEN);
    while reader.remaining() > 0 {
        places.push(Place::decode(&mut reader)?);
    }
    if pack_length_of(&places) != pack_length {
        return Err(reader.malformed("chunks that fill the pack"));
    }
    Ok(places)
}

/// Returns each chunk of a pack with the offset where it begins, in order.
pub fn with_offsets(places: &[Place]) -> impl Iterator<Item = (u32, &Place)> {
    let mut next = HEADER_LEN as u32;
    places.iter().map(move |place| {
        let offset = next;
        // A pack is below 4 GiB: its config was validated, and its trailer must fill it.
        next = next.saturating_add(place.stored_length);
        (offset, place)
    })
}

/// Returns the stored length of a pack with these chunks.
pub fn pack_length_of(places: &[Place]) -> u64 {
    let chunks: u64 = places.iter().map(|place| u64::from(place.stored_length)).sum();
    HEADER_LEN as u64 + chunks + (places.len() * PLACE_LEN + FOOTER_LEN) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_comes_back_and_damage_is_noticed() {
        let places = vec![
            Place { id: ChunkId([1; 32]), stored_length: 17, raw_length: 65_536 },
            Place { id: ChunkId([2; 32]), stored_length: 2, raw_length: 1 },
        ];
        let bytes = encode_trailer(&places);
        let (trailer, footer) = bytes.split_at(bytes.len() - FOOTER_LEN);
        let (length, checksum) = decode_footer(footer).unwrap();
        assert_eq!(length as usize, trailer.len());
        let pack_length = pack_length_of(&places);
        assert_eq!(pack_length, 80 + 19 + 80 + 48);
        assert_eq!(decode_trailer(trailer, checksum, pack_length).as_ref(), Ok(&places));
        assert!(decode_trailer(trailer, checksum, pack_length + 1).is_err());
        let mut damaged = trailer.to_vec();
        damaged[33] ^= 1;
        assert!(decode_trailer(&damaged, checksum, pack_length).is_err());
    }
}
