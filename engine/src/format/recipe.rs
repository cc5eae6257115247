//! Recipes: how a packed slot of a segment file is made from blocks of what it holds.
//!
//! Source: FORMAT.md 5.5. A recipe is a meta chunk of a codec of its own: its id is that of the packed
//! slot, so whoever has the slot's bytes finds the recipe, and whoever has followed it can tell that
//! it led to the right bytes.

use super::extent::{Extent, put_extents};
use super::wire::{Decoded, Reader, put_varint};
use crate::id::{ChunkId, IdKey};

/// The codec byte of a recipe.
pub const CODEC_RECIPE: u8 = 2;

/// Unpacked bytes of a slot at most: 4 MiB.
pub const UNPACKED_BYTES_MAX: u32 = 4 << 20;

/// Bytes before the payload of a packed slot: signature, checksum and length.
pub const SLOT_HEAD_BYTES: usize = 9;

/// Blocks that a slot has at most: of 4 KiB each.
pub const BLOCKS_MAX: usize = 1024;

/// Chunks and runs of zeros behind a payload at most.
pub const PADDING_PARTS_MAX: usize = 2;

/// The checksum that ends a recipe's stored form, in bytes.
const CHECK_LEN: usize = 16;

/// How a packed slot is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The number of the packer.
    pub packer: u8,
    /// Bytes of the payload that it makes.
    pub payload_length: u32,
    /// What is packed: chunks and zeros.
    pub blocks: Vec<Extent>,
    /// What stands behind the payload: chunks and zeros.
    pub padding: Vec<Extent>,
}

impl Recipe {
    /// Returns how many bytes are packed.
    pub fn unpacked_length(&self) -> u64 {
        self.blocks.iter().map(Extent::length).sum()
    }

    /// Returns the length of the packed slot: head, payload and padding.
    pub fn slot_length(&self) -> u64 {
        let padding: u64 = self.padding.iter().map(Extent::length).sum();
        SLOT_HEAD_BYTES as u64 + u64::from(self.payload_length) + padding
    }

    /// Returns the extents of blocks and padding.
    pub fn extents(&self) -> impl Iterator<Item = &Extent> {
        self.blocks.iter().chain(&self.padding)
    }

    /// Returns the ids of the data chunks that it names.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkId> + '_ {
        self.extents().filter_map(|extent| match extent {
            Extent::Chunk { id, .. } => Some(*id),
            _ => None,
        })
    }

    /// Returns the stored form, codec byte and checksum included, of the recipe of slot `id`.
    pub fn seal(&self, id: ChunkId, key: &IdKey) -> Vec<u8> {
        let mut out = vec![CODEC_RECIPE, self.packer];
        put_varint(&mut out, self.payload_length.into());
        put_extents(&mut out, &self.blocks);
        put_extents(&mut out, &self.padding);
        let check = check_of(id, &out, key);
        out.extend_from_slice(&check);
        out
    }

    /// Reads the stored form of the recipe of slot `id`, which has `slot_length` bytes.
    pub fn open(stored: &[u8], id: ChunkId, slot_length: u32, key: &IdKey) -> Decoded<Self> {
        let start = Reader::new(stored);
        let (body, check) = stored
            .split_last_chunk::<CHECK_LEN>()
            .ok_or_else(|| start.malformed("recipe with its checksum"))?;
        let mut reader = Reader::new(body);
        if reader.u8("codec")? != CODEC_RECIPE {
            return Err(start.malformed("codec 2 (recipe)"));
        }
        if check_of(id, body, key) != *check {
            return Err(start.malformed("recipe that matches its checksum"));
        }
        let recipe = Recipe {
            packer: reader.u8("packer")?,
            payload_length: reader.varint_u32("payload length")?,
            blocks: take_parts(&mut reader, BLOCKS_MAX)?,
            padding: take_parts(&mut reader, PADDING_PARTS_MAX)?,
        };
        reader.end("end of the recipe")?;
        let unpacked = recipe.unpacked_length();
        if unpacked == 0 || unpacked > UNPACKED_BYTES_MAX.into() {
            return Err(start.malformed("recipe of 1 byte to 4 MiB"));
        }
        if recipe.slot_length() != u64::from(slot_length) {
            return Err(start.malformed("recipe as long as its slot"));
        }
        Ok(recipe)
    }
}

/// Reads a count, of so many at most, and extents that are chunks or zeros.
fn take_parts(reader: &mut Reader<'_>, most: usize) -> Decoded<Vec<Extent>> {
    let start = reader.clone();
    let count = reader.count(2, "number of extents")?;
    if count > most {
        return Err(start.malformed("as many extents as a slot has"));
    }
    let mut extents = Vec::with_capacity(count);
    let mut total: u64 = 0;
    for _ in 0..count {
        let start = reader.clone();
        let extent = Extent::decode(reader)?;
        if !matches!(extent, Extent::Chunk { .. } | Extent::Zero { .. }) {
            return Err(start.malformed("chunk or zeros"));
        }
        // Sums are formed later; a slot is far shorter than this.
        total = total.saturating_add(extent.length());
        if total > u64::from(u32::MAX) {
            return Err(start.malformed("extents below 4 GiB"));
        }
        extents.push(extent);
    }
    Ok(extents)
}

/// Binds a recipe to its slot: its own bytes do not hash to its id.
fn check_of(id: ChunkId, body: &[u8], key: &IdKey) -> [u8; CHECK_LEN] {
    let hash = key.chunk_id(&[&id.0[..], body].concat());
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&hash.0[..CHECK_LEN]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe {
            packer: 1,
            payload_length: 5000,
            blocks: vec![
                Extent::Chunk { id: ChunkId([3; 32]), length: 262_144 },
                Extent::Zero { length: 3_932_160 },
            ],
            padding: vec![Extent::Zero { length: 8192 - 9 - 5000 }],
        }
    }

    #[test]
    fn a_recipe_comes_back_and_damage_is_noticed() {
        let (id, key) = (ChunkId([7; 32]), IdKey([1; 32]));
        let stored = recipe().seal(id, &key);
        assert_eq!(Recipe::open(&stored, id, 8192, &key), Ok(recipe()));
        assert!(Recipe::open(&stored, id, 16_384, &key).is_err(), "another length");
        assert!(Recipe::open(&stored, ChunkId([8; 32]), 8192, &key).is_err(), "another slot");
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 1;
            assert!(Recipe::open(&damaged, id, 8192, &key).is_err(), "byte {at}");
            assert!(Recipe::open(&stored[..at], id, 8192, &key).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_no_slot_can_be_is_refused() {
        let (id, key) = (ChunkId([7; 32]), IdKey([1; 32]));
        let wrong = [
            Recipe { blocks: vec![Extent::Zero { length: (4 << 20) + 1 }], ..recipe() },
            Recipe { blocks: vec![], ..recipe() },
            Recipe { blocks: vec![Extent::Zero { length: 1 }; 1025], ..recipe() },
            Recipe { padding: vec![Extent::Zero { length: 1061 }; 3], ..recipe() },
            Recipe { blocks: vec![Extent::Hole { length: 8192 }], ..recipe() },
            Recipe { padding: vec![Extent::Zero { length: u64::MAX }; 2], ..recipe() },
        ];
        for recipe in wrong {
            let stored = recipe.seal(id, &key);
            assert!(Recipe::open(&stored, id, 8192, &key).is_err(), "{recipe:?}");
        }
    }
}
