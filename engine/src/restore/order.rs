//! In which order a window is read, so that few slots wait for blocks.
//!
//! Most blocks of a slot lie side by side in one pack, its home; some lie elsewhere, because another slot
//! had them first. Packs that others want something of are read first. What has come of a slot is kept as it is
//! stored until the rest has come. A window of which too much would have to be kept is read in parts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::slots::{Block, Slot};
use super::stretch::Job;
use crate::id::PackId;
use crate::index::Location;
use crate::pack::home;

/// Stored bytes of slots of which some blocks have come and others not; two windows may be under way.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// Sorts what a window reads, and divides it where too many slots would wait for blocks.
pub(super) fn batches(mut jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let order = pack_order(&jobs);
    jobs.sort_unstable_by_key(|job| {
        (order.get(&job.location.pack).copied(), job.location.pack, job.location.offset)
    });
    divide(jobs)
}

fn blocks(jobs: &[Job]) -> impl Iterator<Item = (&Job, &Block)> {
    jobs.iter().flat_map(|job| job.blocks.iter().map(move |block| (job, block)))
}

/// Returns in which pack most of each slot lies.
fn homes(jobs: &[Job]) -> HashMap<*const Slot, PackId> {
    let mut chunks: HashMap<*const Slot, Vec<Location>> = HashMap::new();
    for (job, block) in blocks(jobs) {
        chunks.entry(Arc::as_ptr(&block.slot)).or_default().push(job.location);
    }
    let home = |(slot, chunks)| home(chunks).map(|home| (slot, home));
    chunks.into_iter().filter_map(home).collect()
}

/// Returns the packs in an order in which those come first that slots of others want something of, as
/// far as there is one: mostly it is the order in which they were stored.
fn pack_order(jobs: &[Job]) -> HashMap<PackId, usize> {
    // How many blocks a pack has for slots at home in another.
    let mut gives: BTreeMap<PackId, BTreeMap<PackId, u64>> = BTreeMap::new();
    let mut wants: BTreeMap<PackId, u64> = jobs.iter().map(|job| (job.location.pack, 0)).collect();
    let homes = homes(jobs);
    for (job, block) in blocks(jobs) {
        let pack = job.location.pack;
        let home = homes.get(&Arc::as_ptr(&block.slot));
        if let Some(home) = home.filter(|home| **home != pack) {
            *gives.entry(pack).or_default().entry(*home).or_default() += 1;
            *wants.entry(*home).or_default() += 1;
        }
    }
    let mut left: BTreeSet<(u64, PackId)> =
        wants.iter().map(|(pack, wants)| (*wants, *pack)).collect();
    let mut order = HashMap::new();
    while let Some((_, pack)) = left.pop_first() {
        order.insert(pack, order.len());
        for (home, count) in gives.remove(&pack).unwrap_or_default() {
            let wants = wants.entry(home).or_default();
            if left.remove(&(*wants, home)) {
                *wants -= count;
                left.insert((*wants, home));
            }
        }
    }
    order
}

fn divide(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let order = slot_order(&jobs);
    if order.len() < 2 || kept_bytes_most(&jobs) <= KEPT_BYTES_MAX {
        return vec![jobs];
    }
    let first: HashSet<*const Slot> = order[..order.len() / 2].iter().copied().collect();
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for Job { location, id, uses, blocks } in jobs {
        let is_first = |block: &Block| first.contains(&Arc::as_ptr(&block.slot));
        let (now, later): (Vec<Block>, Vec<Block>) = blocks.into_iter().partition(is_first);
        if !later.is_empty() {
            tail.push(Job { location, id, uses: Vec::new(), blocks: later });
        }
        if !uses.is_empty() || !now.is_empty() {
            head.push(Job { location, id, uses, blocks: now });
        }
    }
    let mut parts = divide(head);
    parts.append(&mut divide(tail));
    parts
}

/// Returns the slots, those first whose home is read first.
fn slot_order(jobs: &[Job]) -> Vec<*const Slot> {
    let (homes, mut seen) = (homes(jobs), HashSet::new());
    let slots = blocks(jobs).map(|(job, block)| (job.location.pack, Arc::as_ptr(&block.slot)));
    let at_home = slots.filter(|(pack, slot)| homes.get(slot) == Some(pack));
    at_home.map(|(_, slot)| slot).filter(|slot| seen.insert(*slot)).collect()
}

/// Returns the most bytes that are kept of slots which wait for blocks, when jobs are done in this order.
fn kept_bytes_most(jobs: &[Job]) -> u64 {
    #[derive(Default)]
    struct Waiting {
        to_come: usize,
        kept: u64,
    }
    let mut waiting: HashMap<*const Slot, Waiting> = HashMap::new();
    for (_, block) in blocks(jobs) {
        waiting.entry(Arc::as_ptr(&block.slot)).or_default().to_come += 1;
    }
    let (mut now, mut most) = (0, 0);
    for (job, block) in blocks(jobs) {
        let Some(slot) = waiting.get_mut(&Arc::as_ptr(&block.slot)) else { continue };
        let stored = u64::from(job.location.stored_length);
        slot.to_come -= 1;
        slot.kept += stored;
        now += stored;
        most = most.max(now);
        if slot.to_come == 0 {
            now -= slot.kept;
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::extent::Extent;
    use crate::format::recipe::Recipe;
    use crate::id::ChunkId;
    use crate::recipe::SlotParts;

    const BLOCK: u32 = 256 << 10;
    const STORED: u32 = 128 << 10;

    /// A slot of 4 MiB whose blocks lie in the packs given, one after the other from the slot's number on.
    fn slot(number: u32, packs: [u8; 16]) -> Vec<Job> {
        let chunk = |n: usize| {
            let mut id = [packs[n]; 32];
            id[..4].copy_from_slice(&(number * 16 + n as u32).to_be_bytes());
            ChunkId(id)
        };
        let blocks = (0..16).map(|n| Extent::Chunk { id: chunk(n), length: BLOCK }).collect();
        let recipe = Recipe { packer: 1, payload_length: 100, blocks, padding: Vec::new() };
        let parts = SlotParts::new(chunk(0), recipe).unwrap();
        let slot = Arc::new(Slot::new(chunk(0), Vec::new(), parts));
        let job = |(n, block): (usize, Block)| Job {
            location: Location {
                pack: PackId([packs[n]; 32]),
                offset: (number * 16 + n as u32) * STORED,
                stored_length: STORED,
                raw_length: BLOCK,
            },
            id: block.part.chunk,
            uses: Vec::new(),
            blocks: vec![block],
        };
        slot.blocks().enumerate().map(job).collect()
    }

    /// A slot that lies in two packs, of which one has to wait for the other.
    fn waiting(number: u32) -> Vec<Job> {
        let (a, b) = if number.is_multiple_of(2) { (1, 2) } else { (2, 1) };
        slot(number, std::array::from_fn(|n| if n < 9 { a } else { b }))
    }

    /// Packs in the order in which they are read.
    fn packs(batch: &[Job]) -> Vec<u8> {
        let mut packs: Vec<u8> = batch.iter().map(|job| job.location.pack.0[0]).collect();
        packs.dedup();
        packs
    }

    /// Catches a pack that is read after those whose slots wait for it, and one that is read in turns.
    #[test]
    fn packs_that_others_want_something_of_come_first() {
        let mut jobs = Vec::new();
        // Pack 9 gives a block to every slot in 5, and 5 to every slot in 1.
        for n in 0..40 {
            let home =
                |other: u8, own: u8| std::array::from_fn(|n| if n == 3 { other } else { own });
            jobs.extend(slot(n, [9; 16]));
            jobs.extend(slot(100 + n, home(9, 5)));
            jobs.extend(slot(200 + n, home(5, 1)));
        }
        let batches = batches(jobs);
        assert_eq!(batches.iter().map(|batch| packs(batch)).collect::<Vec<_>>(), [[9, 5, 1]]);
        let offsets = batches[0].iter().map(|job| (job.location.pack, job.location.offset));
        assert!(offsets.is_sorted_by(|a, b| a.0 != b.0 || a.1 < b.1));
    }

    /// Catches slots that all wait for each other, whatever memory they take; and a job that is lost or
    /// done twice when they are read in parts.
    #[test]
    fn slots_that_wait_for_each_other_are_read_in_parts() {
        let mut jobs = Vec::new();
        (0..100).for_each(|n| jobs.extend(waiting(n)));
        let mut wanted: Vec<ChunkId> = jobs.iter().map(|job| job.id).collect();
        jobs.sort_unstable_by_key(|job| (job.location.pack, job.location.offset));
        assert!(kept_bytes_most(&jobs) > KEPT_BYTES_MAX, "the test tests nothing");
        let batches = batches(jobs);
        assert!((2..=4).contains(&batches.len()), "{}", batches.len());
        for batch in &batches {
            assert!(kept_bytes_most(batch) <= KEPT_BYTES_MAX);
        }
        let mut found: Vec<ChunkId> = batches.iter().flatten().map(|job| job.id).collect();
        wanted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, wanted);
    }

    /// Catches a block that several slots want and only those of one part get.
    #[test]
    fn a_shared_block_goes_to_the_slots_of_every_part() {
        // The first block of all of them is the same chunk.
        let (firsts, mut jobs): (Vec<Job>, Vec<Job>) = (0..100)
            .flat_map(waiting)
            .partition(|job| job.location.offset.is_multiple_of(16 * STORED));
        let mut firsts = firsts.into_iter();
        let mut shared = firsts.next().unwrap();
        shared.blocks.extend(firsts.flat_map(|job| job.blocks));
        assert_eq!(shared.blocks.len(), 100);
        jobs.push(shared);
        let count = |jobs: &[Job]| jobs.iter().map(|job| job.blocks.len()).sum::<usize>();
        let wanted = count(&jobs);
        let batches = batches(jobs);
        assert!(batches.len() > 1, "the test tests nothing");
        assert_eq!(batches.iter().map(|batch| count(batch)).sum::<usize>(), wanted);
    }
}
