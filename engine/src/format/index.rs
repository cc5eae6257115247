//! Index objects: which chunks are in which packs.
//!
//! Source: FORMAT.md 4.2.

use super::ChunkKind;
use super::pack::{PLACE_LEN, Place};
use super::wire::{Decoded, Reader, put_varint};
use crate::id::{IndexId, PackId};

/// A pack and its chunks, in the order they stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedPack {
    /// The pack.
    pub id: PackId,
    /// Which kind of chunks it holds.
    pub kind: ChunkKind,
    /// Its chunks.
    pub places: Vec<Place>,
}

/// The body of an index object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Index objects whose content this one repeats as far as it is still true.
    pub replaces: Vec<IndexId>,
    /// Packs that no longer exist or are about to be deleted.
    pub gone: Vec<PackId>,
    /// Packs, in any order.
    pub packs: Vec<IndexedPack>,
}

impl Index {
    /// Returns the body's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.replaces.len() as u64);
        self.replaces.iter().for_each(|id| out.extend_from_slice(&id.0));
        put_varint(&mut out, self.gone.len() as u64);
        self.gone.iter().for_each(|id| out.extend_from_slice(&id.0));
        put_varint(&mut out, self.packs.len() as u64);
        for pack in &self.packs {
            out.extend_from_slice(&pack.id.0);
            out.push(pack.kind.number());
            put_varint(&mut out, pack.places.len() as u64);
            pack.places.iter().for_each(|place| place.encode(&mut out));
        }
        out
    }

    /// Reads a body.
    pub fn decode(body: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(body);
        let mut index = Index::default();
        for _ in 0..reader.count(IndexId::LEN, "number of replaced indexes")? {
            index.replaces.push(IndexId(reader.array("index id")?));
        }
        for _ in 0..reader.count(PackId::LEN, "number of gone packs")? {
            index.gone.push(PackId(reader.array("pack id")?));
        }
        for _ in 0..reader.count(PackId::LEN + 2, "number of packs")? {
            let id = PackId(reader.array("pack id")?);
            let kind = ChunkKind::from_number(reader.u8("chunk kind")?)
                .ok_or_else(|| reader.malformed("chunk kind 0 or 1"))?;
            let count = reader.count(PLACE_LEN, "number of chunks")?;
            let places =
                (0..count).map(|_| Place::decode(&mut reader)).collect::<Decoded<Vec<_>>>()?;
            index.packs.push(IndexedPack { id, kind, places });
        }
        reader.end("end of the index")?;
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;

    #[test]
    fn an_index_comes_back_and_no_truncation_passes() {
        let index = Index {
            replaces: vec![IndexId([3; 32])],
            gone: vec![PackId([4; 32]), PackId([5; 32])],
            packs: vec![
                IndexedPack { id: PackId([6; 32]), kind: ChunkKind::Meta, places: Vec::new() },
                IndexedPack {
                    id: PackId([7; 32]),
                    kind: ChunkKind::Data,
                    places: vec![Place { id: ChunkId([8; 32]), stored_length: 9, raw_length: 8 }],
                },
            ],
        };
        let body = index.encode();
        assert_eq!(Index::decode(&body), Ok(index));
        for cut in 0..body.len() {
            assert!(Index::decode(&body[..cut]).is_err(), "cut at {cut}");
        }
    }
}
