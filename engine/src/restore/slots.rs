//! Slots that are stored as recipes: gathered with what else a window writes, their blocks put
//! together as they are read, packed again and written.
//!
//! What has come of a slot is kept as it is stored until the last of its blocks has come; see
//! [`super::order`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use rayon::prelude::*;
use rustix::fs::{Advice, fadvise};

use super::stretch::{Use, WRITE_BYTES_MAX, WRITEBACK_BYTES_MIN};
use super::window::Windows;
use crate::columnstore::segment::SLOT_BYTES_MAX;
use crate::compress::Decompressor;
use crate::error::{Error, Result};
use crate::finding::{Finding, FindingKind};
use crate::format::ChunkKind;
use crate::id::ChunkId;
use crate::index::Location;
use crate::recipe::{KeptPart, Part, Rebuilt, SlotParts};

/// What a thread keeps from slot to slot.
#[derive(Default)]
struct Finishing {
    decompressor: Decompressor,
    packed: Vec<u8>,
}

thread_local! {
    static FINISHING: RefCell<Finishing> = RefCell::default();
}

/// A slot on its way to its files.
pub(super) struct Slot {
    id: ChunkId,
    uses: Vec<Use>,
    parts: SlotParts,
}

/// A place in a slot that wants a chunk.
pub(super) struct Block {
    pub slot: Arc<Slot>,
    pub part: Part,
}

/// Slots that a window wants, in the order of the files.
#[derive(Default)]
pub(super) struct WantedSlots {
    wanted: Vec<(ChunkId, u32, Vec<Use>)>,
    known: HashMap<(ChunkId, u32), usize>,
}

impl WantedSlots {
    /// Adds a place where a slot is wanted.
    pub fn add(&mut self, id: ChunkId, length: u32, place: Use) {
        let next = self.wanted.len();
        match *self.known.entry((id, length)).or_insert(next) {
            at if at < next => self.wanted[at].2.push(place),
            _ => self.wanted.push((id, length, vec![place])),
        }
    }
}

impl Slot {
    pub fn new(id: ChunkId, uses: Vec<Use>, parts: SlotParts) -> Self {
        Slot { id, uses, parts }
    }

    /// Returns the places where its chunks go.
    pub fn blocks(self: &Arc<Self>) -> impl Iterator<Item = Block> + '_ {
        self.parts.parts().iter().map(|part| Block { slot: Arc::clone(self), part: *part })
    }
}

impl Windows<'_> {
    /// Drops slots that are in place, reads the recipes of the others.
    pub(super) fn begin_slots(&self, slots: WantedSlots) -> Result<Vec<Arc<Slot>>> {
        let begin = |(id, length, uses)| self.begin_slot(id, length, uses);
        let begun: Vec<Result<Option<Arc<Slot>>>> =
            self.pool.install(|| slots.wanted.into_par_iter().map(begin).collect());
        begun.into_iter().filter_map(Result::transpose).collect()
    }

    fn begin_slot(&self, id: ChunkId, length: u32, uses: Vec<Use>) -> Result<Option<Arc<Slot>>> {
        if u64::from(length) > SLOT_BYTES_MAX {
            let problem = format!("a slot of at most {SLOT_BYTES_MAX} bytes expected");
            self.lose_slot(id, &uses, FindingKind::DamagedManifest, &problem);
            return Ok(None);
        }
        let uses = self.not_in_place(id, uses)?;
        if uses.is_empty() {
            return Ok(None);
        }
        let recipe = self.repository.read_recipe(id, length);
        match recipe.and_then(|recipe| SlotParts::new(id, recipe)) {
            Ok(parts) => {
                let slot = Arc::new(Slot::new(id, uses, parts));
                if slot.parts.parts().is_empty() {
                    // It packs zeros: there is nothing to wait for.
                    self.finish_slot(&slot)?;
                    return Ok(None);
                }
                Ok(Some(slot))
            }
            Err(error) => {
                self.lose_slot(id, &uses, self.repository.loss_kind(&error)?, &error.to_string());
                Ok(None)
            }
        }
    }

    fn lose_slot(&self, id: ChunkId, uses: &[Use], kind: FindingKind, why: &str) {
        self.lose(&format!("slot {id}"), uses, kind, why);
    }

    /// Puts a verified chunk in its place in a slot; the last one packs the slot and writes it.
    pub(super) fn put_block(&self, block: &Block, raw: &[u8]) -> Result<()> {
        match block.slot.parts.put(&block.part, raw, &self.buffers) {
            true => self.finish_slot(&block.slot),
            false => Ok(()),
        }
    }

    /// Keeps a stored chunk for a slot; the last one opens them all, packs the slot and writes it.
    pub(super) fn keep_block(
        &self,
        block: &Block,
        stored: &[u8],
        location: &Location,
    ) -> Result<()> {
        match block.slot.parts.keep(&block.part, stored, location) {
            true => self.finish_slot(&block.slot),
            false => Ok(()),
        }
    }

    /// Opens what was kept of a slot; of a chunk that is damaged any other copy will do.
    fn open_kept(&self, slot: &Slot, decompressor: &mut Decompressor) {
        for KeptPart { part, stored, location } in slot.parts.take_kept() {
            let opened = self.repository.open_chunk(part.chunk, &stored, &location, decompressor);
            if let Ok(raw) = opened {
                slot.parts.fill(&part, raw, &self.buffers);
                continue;
            }
            match self.repository.read_chunk(part.chunk, ChunkKind::Data, decompressor) {
                Ok(raw) => slot.parts.fill(&part, &raw, &self.buffers),
                Err(error) => slot.parts.spoil(&part, &error),
            }
        }
    }

    /// Goes without a chunk: the slot is lost with it.
    pub(super) fn lose_block(&self, block: &Block, why: &Error) -> Result<()> {
        match block.slot.parts.lose(&block.part, why) {
            true => self.finish_slot(&block.slot),
            false => Ok(()),
        }
    }

    /// Packs a slot whose parts have all come, and writes it wherever it is wanted.
    fn finish_slot(&self, slot: &Slot) -> Result<()> {
        FINISHING.with_borrow_mut(|Finishing { decompressor, packed }| {
            self.open_kept(slot, decompressor);
            let key = self.repository.id_key();
            match slot.parts.pack(key, self.options.packers, &self.buffers, packed) {
                Ok(Rebuilt::Same) => {}
                Ok(Rebuilt::Otherwise(how)) => self.tell_otherwise(slot, &how),
                Err(error) => {
                    self.lose_slot(
                        slot.id,
                        &slot.uses,
                        self.repository.loss_kind(&error)?,
                        &error.to_string(),
                    );
                    return Ok(());
                }
            }
            slot.uses.iter().try_for_each(|place| self.write_slot(place, packed))
        })
    }

    fn tell_otherwise(&self, slot: &Slot, how: &str) {
        for place in &slot.uses {
            let detail = format!(
                "{} bytes from byte {} are slot {}, packed otherwise: {how}",
                place.length, place.file_offset, slot.id
            );
            self.find(Finding::new(FindingKind::SlotPackedOtherwise, &*place.file.path, detail));
        }
    }

    fn write_slot(&self, place: &Use, packed: &[u8]) -> Result<()> {
        for (n, bytes) in packed.chunks(WRITE_BYTES_MAX).enumerate() {
            self.write_at(place, place.file_offset + (n * WRITE_BYTES_MAX) as u64, bytes)?;
        }
        if packed.len() as u64 >= WRITEBACK_BYTES_MIN / 2 {
            // As for other long stretches: the disk is to work meanwhile.
            let length = NonZeroU64::new(packed.len() as u64);
            let _ = fadvise(&place.file.file, place.file_offset, length, Advice::DontNeed);
        }
        self.count_down(&place.file);
        Ok(())
    }
}
