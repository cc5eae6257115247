//! Storing slots as recipes: unpacked, seen to pack again to the same bytes, and cut in blocks.
//!
//! A slot that is known by the hash of its packed bytes is neither unpacked nor packed. One that does
//! not come out the same is left to the caller, who stores its packed bytes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::parent::Former;
use crate::chunker::leading_zeros;
use crate::columnstore::segment::{Packing, SLOT_HEAD_BYTES, SlotHead};
use crate::compress::Compressor;
use crate::error::Result;
use crate::format::extent::Extent;
use crate::format::recipe::Recipe;
use crate::format::segment::Damage;
use crate::format::snapshot::RecipeStats;
use crate::id::ChunkId;
use crate::packer::{Pack, Packer, unpack_slot};
use crate::pipeline::{Added, ChunkStore, Known};
use crate::repository::Repository;
use crate::transform::Transform;

/// After so many slots of a span that came out otherwise, and none that came out the same, the rest of
/// it is not tried: another library has packed the file.
const FAILURES_MAX: u32 = 4;

/// What earlier slots of a span tell about the next.
#[derive(Default)]
pub(super) struct Guess {
    /// The packer that gave the same bytes last.
    packer: Option<Packer>,
    /// Slots that no packer gave, while there was none that one did.
    failures: u32,
}

/// What became of a slot.
pub(super) enum Stored {
    /// It was known.
    Known { id: ChunkId, length: u32 },
    /// It is stored now.
    New { id: ChunkId, length: u32, stats: RecipeStats },
    /// It cannot be stored as a recipe.
    Not(RecipeStats),
    /// Its checksum holds, and it cannot be unpacked: no server can read it.
    Damaged(RecipeStats, Box<Damage>),
}

/// A packed slot and where it is.
#[derive(Clone, Copy)]
pub(super) struct PackedSlot<'a> {
    pub bytes: &'a [u8],
    /// Its number in its file.
    pub number: u64,
    /// Where in its file it begins.
    pub offset: u64,
}

/// The extents of blocks or of padding, and how many of their bytes are in chunks that were known.
#[derive(Default)]
struct Parts {
    extents: Vec<Extent>,
    known: u64,
}

/// What a thread keeps from slot to slot: fresh memory costs page faults.
struct Kept {
    unpacked: Vec<u8>,
    payload: Vec<u8>,
    compressor: Compressor,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::new(Kept {
        unpacked: Vec::new(),
        payload: Vec::new(),
        compressor: Compressor::new(),
    });
}

/// Stores slots as recipes.
pub(super) struct SlotStore<'a> {
    store: &'a ChunkStore<'a>,
    repository: &'a Repository,
    packers: &'a dyn Pack,
    /// Packs are missing: what the parent reaches may be gone.
    doubtful: bool,
    /// The names of the packers that recipes of this session need.
    used: Mutex<BTreeSet<String>>,
}

impl<'a> SlotStore<'a> {
    pub fn new(
        store: &'a ChunkStore<'a>,
        repository: &'a Repository,
        packers: &'a dyn Pack,
        doubtful: bool,
    ) -> Self {
        SlotStore { store, repository, packers, doubtful, used: Mutex::default() }
    }

    /// Returns the names of the packers that recipes of this session need.
    pub fn packers(self) -> BTreeSet<String> {
        self.used.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn need(&self, packer: Packer) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if !used.contains(packer.name()) {
            used.insert(packer.name().to_owned());
        }
    }

    /// Stores a packed slot as a recipe, unless it is known; `former` is what the
    /// parent has there, `holds` verifies the slot and is asked only when it is not known, `expected`
    /// is how the file's slots are packed, `width` that of the column's values in bytes, 0 for a
    /// dictionary.
    pub fn store(
        &self,
        place: PackedSlot<'_>,
        expected: Option<Packing>,
        width: u64,
        former: &Former,
        guess: &mut Guess,
        holds: &mut dyn FnMut() -> bool,
    ) -> Result<Stored> {
        let mut stats = RecipeStats::default();
        let PackedSlot { bytes: slot, number, offset } = place;
        // That it holds as a slot of another file says nothing where slots are packed otherwise.
        let packing = slot.first().and_then(|signature| Packing::of_signature(*signature));
        let Some(packing) = packing.filter(|packing| expected == Some(*packing)) else {
            return Ok(Stored::Not(stats));
        };
        let id = self.repository.id_key().chunk_id(slot);
        let length = u32::try_from(slot.len()).expect("a slot is below 4 GiB");
        let is_reached = !self.doubtful && former.reaches(id);
        let known = self.store.knows_recipe(id, length, is_reached)?;
        match known {
            Known::No | Known::Unusable => {}
            known => {
                if let Known::Stored { packer } = known {
                    // One that this program does not know cannot be named: the slot is stored anew.
                    match Packer::from_number(packer) {
                        Some(packer) => self.need(packer),
                        None => {
                            let stats =
                                RecipeStats { slots_packed_otherwise: 1, ..Default::default() };
                            return Ok(Stored::Not(stats));
                        }
                    }
                }
                self.store.count_known(slot.len() as u64);
                return Ok(Stored::Known { id, length });
            }
        }
        let head = SlotHead::decode(slot);
        let Some((head, end)) = head.and_then(|head| Some((head, head.payload_end(slot.len())?)))
        else {
            return Ok(Stored::Not(stats));
        };
        if !holds() {
            return Ok(Stored::Not(stats));
        }
        KEPT.with_borrow_mut(|kept| {
            let payload = &slot[SLOT_HEAD_BYTES..end];
            if let Err(damage) = unpack_slot(slot, number, offset, &mut kept.unpacked) {
                stats.slots_not_unpacked = 1;
                return Ok(Stored::Damaged(stats, damage));
            }
            // Only now: unpacking costs little, and tells whether a server can read the slot.
            if guess.packer.is_none() && guess.failures >= FAILURES_MAX {
                stats.slots_not_tried = 1;
                return Ok(Stored::Not(stats));
            }
            stats.slots_unpacked = 1;
            stats.slots_unpacked_bytes = kept.unpacked.len() as u64;
            let Some(packer) = self.same_packer(packing, payload, guess, kept) else {
                guess.failures += 1;
                stats.slots_packed_otherwise = 1;
                return Ok(Stored::Not(stats));
            };
            guess.packer = Some(packer);
            self.need(packer);
            let (mut blocks, mut padding) = (Parts::default(), Parts::default());
            self.blocks(width, kept, &mut blocks)?;
            self.padding(&slot[end..], &mut padding)?;
            // Of the payload as much counts as known as of what it holds.
            let share = u64::from(head.length) * blocks.known / stats.slots_unpacked_bytes;
            self.store.count_known(share + padding.known);
            let recipe = Recipe {
                packer: packer.number(),
                payload_length: head.length,
                blocks: blocks.extents,
                padding: padding.extents,
            };
            match self.store.add_recipe(id, &recipe, known == Known::Unusable)? {
                true => stats.slots_recipe_new = 1,
                // Another task had the same slot, and was faster.
                false => stats.slots_recipe_known = 1,
            }
            Ok(Stored::New { id, length, stats })
        })
    }

    /// Returns the packer that gives exactly this payload, the likeliest tried first.
    fn same_packer(
        &self,
        packing: Packing,
        payload: &[u8],
        guess: &Guess,
        kept: &mut Kept,
    ) -> Option<Packer> {
        let likely = guess.packer.filter(|packer| packer.packing() == packing);
        let others = Packer::all_of(packing).iter().copied().filter(|other| Some(*other) != likely);
        likely
            .into_iter()
            .chain(others)
            .find(|packer| self.packers.gives(*packer, &kept.unpacked, payload, &mut kept.payload))
    }

    fn blocks(&self, width: u64, kept: &mut Kept, parts: &mut Parts) -> Result<()> {
        let Kept { unpacked, compressor, .. } = kept;
        let mut chosen = None;
        for block in unpacked.chunks(self.repository.config().slots.block_bytes as usize) {
            self.part(block, parts, &mut || {
                *chosen.get_or_insert_with(|| compressor.choose(unpacked, width))
            })?;
        }
        Ok(())
    }

    /// Stores what stands behind a payload: mostly zeros, after an update what was there before.
    fn padding(&self, bytes: &[u8], parts: &mut Parts) -> Result<()> {
        match bytes {
            [] => Ok(()),
            _ => self.part(bytes, parts, &mut || Transform::NONE),
        }
    }

    fn part(
        &self,
        bytes: &[u8],
        parts: &mut Parts,
        choose: &mut dyn FnMut() -> Transform,
    ) -> Result<()> {
        if leading_zeros(bytes) < bytes.len() {
            let Added { id, is_new } = self.store.add_block(bytes, choose)?;
            let length = u32::try_from(bytes.len()).expect("a block is below 4 GiB");
            parts.extents.push(Extent::Chunk { id, length });
            parts.known += if is_new { 0 } else { bytes.len() as u64 };
        } else if let Some(Extent::Zero { length }) = parts.extents.last_mut() {
            *length += bytes.len() as u64;
        } else {
            parts.extents.push(Extent::Zero { length: bytes.len() as u64 });
        }
        Ok(())
    }
}
