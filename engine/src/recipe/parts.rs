//! A slot on its way: its blocks come in from the threads that open them, in any order.
//!
//! Blocks lie in packs in an order of their own, and one block may be wanted by several slots. Whoever
//! brings the last one packs the slot; until then its unpacked bytes lie in a buffer that is lent
//! when the first one comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Rebuilt, known_packer, lengths, pack_again};
use crate::error::{Error, Result};
use crate::format::extent::Extent;
use crate::format::recipe::Recipe;
use crate::id::{ChunkId, IdKey};
use crate::index::Location;
use crate::packer::Pack;

/// Buffers that are kept; more are freed.
const BUFFERS_MAX: usize = 32;

/// Buffers for unpacked slots, handed on from slot to slot: fresh memory costs page faults.
#[derive(Default)]
pub struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < BUFFERS_MAX {
            kept.push(buffer);
        }
    }
}

/// A chunk that a slot wants, and where.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The data chunk.
    pub chunk: ChunkId,
    /// Its raw length.
    pub length: u32,
    /// Where it begins in the unpacked bytes, behind which the padding stands.
    at: usize,
}

/// A part that has come and is opened when all have.
pub struct KeptPart {
    /// Which.
    pub part: Part,
    /// Its stored bytes.
    pub stored: Box<[u8]>,
    /// Where they were stored.
    pub location: Location,
}

/// What has come in of a slot.
#[derive(Default)]
struct Content {
    /// Unpacked bytes, then padding; empty until the first part is put.
    bytes: Vec<u8>,
    /// Parts that came before.
    kept: Vec<KeptPart>,
    /// Why it cannot be made.
    lost: Option<Error>,
}

/// A slot whose parts come in.
pub struct SlotParts {
    id: ChunkId,
    recipe: Recipe,
    unpacked_length: usize,
    padding_length: usize,
    parts: Vec<Part>,
    /// Parts that have not come.
    left: AtomicUsize,
    content: Mutex<Content>,
}

impl SlotParts {
    /// Begins slot `id`. One without parts can be packed at once.
    ///
    /// Fails with `Unsupported` for an unknown packer, and with `Corrupt` for a slot longer than any.
    pub fn new(id: ChunkId, recipe: Recipe) -> Result<Self> {
        known_packer(id, recipe.packer)?;
        let (unpacked_length, padding_length) = lengths(id, &recipe)?;
        let mut at = 0;
        let mut parts = Vec::with_capacity(recipe.blocks.len());
        for extent in recipe.extents() {
            if let Extent::Chunk { id, length } = *extent {
                parts.push(Part { chunk: id, length, at });
            }
            at += extent.length() as usize;
        }
        let left = AtomicUsize::new(parts.len());
        let content = Mutex::default();
        Ok(SlotParts { id, recipe, unpacked_length, padding_length, parts, left, content })
    }

    /// Returns what it wants; each is to be put, or lost, once.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns how much memory it takes while its parts come in.
    pub fn bytes(&self) -> u64 {
        (self.unpacked_length + self.padding_length) as u64
    }

    /// Puts the raw bytes of a part in their place. Returns whether it was the last.
    pub fn put(&self, part: &Part, raw: &[u8], buffers: &Buffers) -> bool {
        self.fill(part, raw, buffers);
        self.count_down()
    }

    /// Says that a part cannot be had. Returns whether it was the last.
    pub fn lose(&self, part: &Part, why: &Error) -> bool {
        self.spoil(part, why);
        self.count_down()
    }

    /// Keeps the stored bytes of a part, to be opened when all have come: they are far less than the buffer
    /// of the slot. Returns whether it was the last.
    pub fn keep(&self, part: &Part, stored: &[u8], location: &Location) -> bool {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.kept.push(KeptPart { part: *part, stored: stored.into(), location: *location });
        drop(content);
        self.count_down()
    }

    /// Returns what was kept: when all parts have come, to be filled in before the slot is packed.
    pub fn take_kept(&self) -> Vec<KeptPart> {
        std::mem::take(&mut self.content.lock().unwrap_or_else(PoisonError::into_inner).kept)
    }

    /// Puts a part that was kept in its place.
    pub fn fill(&self, part: &Part, raw: &[u8], buffers: &Buffers) {
        if raw.len() != part.length as usize {
            let problem = format!("{} raw bytes expected, found {}", part.length, raw.len());
            return self.spoil(part, &Error::corrupt(format!("chunk {}", part.chunk), problem));
        }
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        if content.lost.is_none() {
            if content.bytes.is_empty() {
                content.bytes = self.begin(buffers);
            }
            content.bytes[part.at..][..raw.len()].copy_from_slice(raw);
        }
    }

    /// Says that a part that was kept cannot be had.
    pub fn spoil(&self, part: &Part, why: &Error) {
        let problem = format!("its block at unpacked byte {} is lost: {why}", part.at);
        let error = Error::new(why.kind(), format!("recipe {}", self.id), problem);
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.lost.get_or_insert(error);
    }

    /// Fills `out` with the packed slot, when all parts have come.
    ///
    /// Fails with what a part was lost by, and as [`rebuild`](super::rebuild).
    pub fn pack(
        &self,
        key: &IdKey,
        packers: &dyn Pack,
        buffers: &Buffers,
        out: &mut Vec<u8>,
    ) -> Result<Rebuilt> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let Content { mut bytes, lost, .. } = std::mem::take(&mut *content);
        drop(content);
        let packed = match lost {
            Some(error) => Err(error),
            None => {
                if bytes.is_empty() {
                    bytes = self.begin(buffers);
                }
                let (unpacked, padding) = bytes.split_at(self.unpacked_length);
                pack_again(self.id, &self.recipe, key, packers, unpacked, padding, out)
            }
        };
        buffers.give_back(bytes);
        packed
    }

    fn count_down(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Returns a buffer in which zeros stand where the recipe has zeros.
    fn begin(&self, buffers: &Buffers) -> Vec<u8> {
        let mut bytes = buffers.take();
        super::resize(&mut bytes, self.unpacked_length + self.padding_length);
        let mut at = 0;
        for extent in self.recipe.extents() {
            let length = extent.length() as usize;
            if !matches!(extent, Extent::Chunk { .. }) {
                bytes[at..at + length].fill(0);
            }
            at += length;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columnstore::segment::SLOT_HEAD_BYTES;
    use crate::error::ErrorKind;
    use crate::id::PackId;
    use crate::packer::{Packer, Packers};

    const KEY: IdKey = IdKey([3; 32]);

    /// A slot whose middle is zeros, with padding of both kinds: its id, its recipe, its parts' bytes
    /// and its own.
    fn slot(seed: u64) -> (ChunkId, Recipe, [Vec<u8>; 3], Vec<u8>) {
        let mut state = seed;
        let mut bytes = |length: usize| -> Vec<u8> {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            };
            (0..length).map(|_| next()).collect()
        };
        let parts = [bytes(5000), bytes(700), bytes(30)];
        let unpacked = [&parts[0][..], &[0; 4000], &parts[1]].concat();
        let padding = [&[0; 20][..], &parts[2]].concat();
        let mut payload = Vec::new();
        assert!(Packers.pack(Packer::Lz4V1, &unpacked, &mut payload));
        let chunk = |n: usize| Extent::Chunk {
            id: KEY.chunk_id(&parts[n]),
            length: parts[n].len().try_into().unwrap(),
        };
        let recipe = Recipe {
            packer: Packer::Lz4V1.number(),
            payload_length: payload.len().try_into().unwrap(),
            blocks: vec![chunk(0), Extent::Zero { length: 4000 }, chunk(1)],
            padding: vec![Extent::Zero { length: 20 }, chunk(2)],
        };
        let mut slot = vec![0; SLOT_HEAD_BYTES + payload.len()];
        super::super::write_payload(Packer::Lz4V1, &payload, &mut slot);
        slot.extend(padding);
        (KEY.chunk_id(&slot), recipe, parts, slot)
    }

    /// Catches other content that is given out as the slot's because it packs and unpacks.
    #[test]
    fn blocks_of_another_slot_are_not_another_packing() {
        let (id, recipe, bytes, _) = slot(0);
        let mut fetch = |chunk: ChunkId, out: &mut [u8]| {
            let n = bytes.iter().position(|part| KEY.chunk_id(part) == chunk).unwrap();
            out.copy_from_slice(&bytes[n]);
            out[0] ^= u8::from(n == 0);
            Ok(())
        };
        let mut out = Vec::new();
        let made = super::super::rebuild(id, &recipe, &KEY, &Packers, &mut fetch, &mut out);
        assert_eq!(made.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    /// Catches parts in wrong places, and what an earlier slot left in a buffer where zeros should be.
    #[test]
    fn parts_come_in_any_order_into_a_buffer_that_was_used() {
        let buffers = Buffers::default();
        for (seed, order) in [[0, 1, 2], [2, 1, 0], [1, 2, 0]].into_iter().enumerate() {
            let (id, recipe, bytes, expected) = slot(seed as u64);
            let parts = SlotParts::new(id, recipe).unwrap();
            let put = |n: usize| parts.put(&parts.parts()[n], &bytes[n], &buffers);
            assert_eq!(order.map(put), [false, false, true], "the last one is told");
            let mut out = vec![9; 3];
            let packed = parts.pack(&KEY, &Packers, &buffers, &mut out);
            assert_eq!(packed.unwrap(), Rebuilt::Same);
            assert_eq!(out, expected);
            buffers.give_back(vec![0xaa; 20_000]);
        }
    }

    /// Catches parts that are kept and not counted, or told twice, and one that cannot be opened passed off
    /// as there.
    #[test]
    fn parts_are_kept_as_they_are_stored_until_all_have_come() {
        let buffers = Buffers::default();
        let (id, recipe, bytes, expected) = slot(5);
        let location =
            Location { pack: PackId([1; 32]), offset: 7, stored_length: 3, raw_length: 5000 };
        for spoils in [false, true] {
            let parts = SlotParts::new(id, recipe.clone()).unwrap();
            let part = |n: usize| &parts.parts()[n];
            assert!(!parts.keep(part(1), b"one", &location));
            assert!(!parts.put(part(0), &bytes[0], &buffers));
            assert!(parts.keep(part(2), b"two", &location), "the last one is told");
            let kept = parts.take_kept();
            assert!(parts.take_kept().is_empty(), "told once");
            let [one, two] = &kept[..] else { panic!("two were kept") };
            assert_eq!(
                (&*one.stored, &*two.stored, one.location),
                (&b"one"[..], &b"two"[..], location)
            );
            assert_eq!([one, two].map(|kept| kept.part.chunk), [part(1).chunk, part(2).chunk]);
            parts.fill(&two.part, &bytes[2], &buffers);
            match spoils {
                false => parts.fill(&one.part, &bytes[1], &buffers),
                true => parts.spoil(&one.part, &Error::new(ErrorKind::Corrupt, "chunk", "torn")),
            }
            let mut out = Vec::new();
            match parts.pack(&KEY, &Packers, &buffers, &mut out) {
                Ok(Rebuilt::Same) if !spoils => assert_eq!(out, expected),
                Err(error) if spoils => assert_eq!(error.kind(), ErrorKind::Corrupt),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Catches a slot that is made although a part was lost or has another length, and one that is
    /// never finished because of it.
    #[test]
    fn a_slot_without_a_part_is_lost_with_it() {
        let buffers = Buffers::default();
        let (id, recipe, bytes, _) = slot(9);
        for lost in 0..3 {
            let parts = SlotParts::new(id, recipe.clone()).unwrap();
            let ends = [0, 1, 2].map(|n| {
                let part = &parts.parts()[n];
                match (n == lost, lost) {
                    (true, 0) => parts.put(part, &bytes[n][1..], &buffers),
                    (true, _) => {
                        parts.lose(part, &Error::new(ErrorKind::NotFound, "chunk", "gone"))
                    }
                    _ => parts.put(part, &bytes[n], &buffers),
                }
            });
            assert_eq!(ends, [false, false, true]);
            let error = parts.pack(&KEY, &Packers, &buffers, &mut Vec::new()).unwrap_err();
            let kind = if lost == 0 { ErrorKind::Corrupt } else { ErrorKind::NotFound };
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(&id.to_string()), "{error}");
        }
    }

    /// Catches memory taken for a slot that no file has, and an unknown packer that is found late.
    #[test]
    fn what_no_slot_can_be_is_refused() {
        let (id, recipe, ..) = slot(1);
        let long = Recipe { padding: vec![Extent::Zero { length: 9 << 20 }], ..recipe.clone() };
        let error = SlotParts::new(id, long).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let error = SlotParts::new(id, Recipe { packer: 200, ..recipe }).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}
