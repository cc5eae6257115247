//! The account: references and stored chunks, both in rising order of id, read in step.

use super::nights::Nights;
use super::{Amount, Chunks};
use crate::error::Result;
use crate::finding::{FINDINGS_LISTED_MAX, Finding, FindingKind};
use crate::format::ChunkKind;
use crate::format::index::IndexedPack;
use crate::index::{ChunkIndex, IdPrefix, KnownPack, PlacedChunk, prefix_of};
use crate::progress::Cancel;
use crate::reach::{REFERENCE_LEN, Reached, Reference, Root, needed_by};
use crate::spill::{Sorted, Sorter, SpillPlace};

/// The length of a place as its sorter has it: prefix, kind, stored and raw length.
const PLACE_LEN: usize = 20 + 1 + 4 + 4;

/// Chunks of packs that no index object names.
pub(super) struct Places(Sorter<PLACE_LEN>);

impl Places {
    pub fn new(spill: &SpillPlace) -> Self {
        Places(Sorter::new(spill))
    }

    pub fn add(&mut self, pack: &IndexedPack) -> Result<()> {
        pack.places.iter().try_for_each(|place| {
            let mut record = [0; PLACE_LEN];
            record[..20].copy_from_slice(&prefix_of(place.id));
            record[20] = pack.kind.number();
            record[21..25].copy_from_slice(&place.stored_length.to_be_bytes());
            record[25..].copy_from_slice(&place.raw_length.to_be_bytes());
            self.0.push(record)
        })
    }
}

fn decode_place(record: &[u8; PLACE_LEN]) -> PlacedChunk {
    let mut prefix = [0; 20];
    prefix.copy_from_slice(&record[..20]);
    let number = |at: usize| {
        u32::from_be_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
    };
    PlacedChunk {
        prefix,
        kind: if record[20] == 0 { ChunkKind::Data } else { ChunkKind::Meta },
        stored_length: number(21),
        raw_length: number(25),
    }
}

/// What one snapshot brought and what only it reaches.
#[derive(Clone, Copy, Default)]
pub(super) struct OfSnapshot {
    pub added: Chunks,
    pub freed: Chunks,
}

/// What a group of content came to, in the snapshots asked for.
#[derive(Clone, Copy, Default)]
pub(super) struct OfGroup {
    /// What it reaches.
    pub reached: Chunks,
    /// What only it does.
    pub exclusive: Chunks,
    /// Stored bytes of what it reaches that a later night than the first of its source brought...
    pub added_later: u64,
    /// ...and of what the last night did.
    pub added_last: u64,
}

/// What all references came to.
pub(super) struct Accounts<'a> {
    roots: &'a [Root<'a>],
    pub snapshots: Vec<OfSnapshot>,
    pub groups: Vec<OfGroup>,
    /// Which night of its source each snapshot is.
    nights: &'a Nights,
    /// What the snapshots asked for reach.
    pub selected: Chunks,
    pub reached: Chunks,
    pub unreached: Chunks,
    pub copies: Amount,
    /// Chunks that are referred to and not there.
    pub missing: u64,
    pub findings: Vec<Finding>,
    /// Groups that refer to the present chunk.
    referring: Vec<u32>,
}

/// All copies of the chunk that is being looked at, by kind.
#[derive(Default)]
struct Copies {
    prefix: Option<IdPrefix>,
    data: Vec<PlacedChunk>,
    meta: Vec<PlacedChunk>,
}

impl<'a> Accounts<'a> {
    pub fn new(roots: &'a [Root<'a>], groups: usize, nights: &'a Nights) -> Self {
        Accounts {
            roots,
            nights,
            snapshots: vec![OfSnapshot::default(); roots.len()],
            groups: vec![Default::default(); groups],
            selected: Chunks::default(),
            reached: Chunks::default(),
            unreached: Chunks::default(),
            copies: Amount::default(),
            missing: 0,
            findings: Vec::new(),
            referring: Vec::new(),
        }
    }

    /// Reads everything once, in order.
    pub fn settle(
        &mut self,
        index: &ChunkIndex,
        takes: &dyn Fn(&KnownPack) -> bool,
        unindexed: Places,
        mut references: Sorted<REFERENCE_LEN>,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut unindexed = unindexed.0.finish()?;
        let mut copies = Copies::default();
        index.places(takes, &mut |place| {
            cancel.check()?;
            let is_before = |other: &PlacedChunk| other.prefix < place.prefix;
            while let Some(other) = unindexed.peek()?.map(decode_place).filter(is_before) {
                self.meet(&mut copies, other, &mut references)?;
                unindexed.next()?;
            }
            self.meet(&mut copies, place, &mut references)
        })?;
        while let Some(record) = unindexed.next()? {
            self.meet(&mut copies, decode_place(&record), &mut references)?;
        }
        self.count(&mut copies, &mut references)?;
        while let Some((reference, reached)) = self.next_referred(&mut references, None)? {
            self.miss(&reference, &reached);
        }
        Ok(())
    }

    /// Takes a copy; when it is of another chunk, the one before is complete.
    fn meet(
        &mut self,
        copies: &mut Copies,
        place: PlacedChunk,
        references: &mut Sorted<REFERENCE_LEN>,
    ) -> Result<()> {
        if copies.prefix != Some(place.prefix) {
            self.count(copies, references)?;
            copies.prefix = Some(place.prefix);
        }
        match place.kind {
            ChunkKind::Data => copies.data.push(place),
            ChunkKind::Meta => copies.meta.push(place),
        }
        Ok(())
    }

    /// Counts a chunk with all its copies, once as content and once as a manifest.
    fn count(&mut self, copies: &mut Copies, references: &mut Sorted<REFERENCE_LEN>) -> Result<()> {
        let Some(prefix) = copies.prefix.take() else { return Ok(()) };
        for (kind, places) in
            [(ChunkKind::Data, &mut copies.data), (ChunkKind::Meta, &mut copies.meta)]
        {
            let Some(first) = places.first() else { continue };
            let first = *first;
            let reached = loop {
                match self.next_referred(references, Some((prefix, kind)))? {
                    Some((reference, reached))
                        if (reference.prefix, reference.kind) == (prefix, kind) =>
                    {
                        break Some((reference.is_recipe, reached));
                    }
                    Some((reference, reached)) => self.miss(&reference, &reached),
                    None => break None,
                }
            };
            let is_recipe = reached.is_some_and(|(is_recipe, _)| is_recipe);
            places[1..].iter().for_each(|further| self.copies.add(&amount(further, is_recipe)));
            places.clear();
            let one = amount(&first, is_recipe);
            match reached {
                Some((_, reached)) => self.reach(kind, &one, &reached),
                None => self.unreached.of_mut(kind).add(&one),
            }
        }
        Ok(())
    }

    /// Takes all references to the next chunk, unless it comes after `until`. Leaves the groups
    /// that refer to it in the snapshots asked for.
    fn next_referred(
        &mut self,
        references: &mut Sorted<REFERENCE_LEN>,
        until: Option<(IdPrefix, ChunkKind)>,
    ) -> Result<Option<(Reference, Reached)>> {
        let key = |reference: &Reference| (reference.prefix, reference.kind);
        let is_due = |reference: &Reference| until.is_none_or(|until| key(reference) <= until);
        let Some(first) = references.peek()?.map(Reference::decode).filter(is_due) else {
            return Ok(None);
        };
        let mut reached = first.reached;
        self.referring.clear();
        while let Some(next) =
            references.peek()?.map(Reference::decode).filter(|next| key(next) == key(&first))
        {
            references.next()?;
            reached.join(&next.reached);
            // References stand in order of their groups.
            if next.reached.is_selected && self.referring.last() != Some(&next.group) {
                self.referring.push(next.group);
            }
        }
        Ok(Some((first, reached)))
    }

    fn reach(&mut self, kind: ChunkKind, one: &Amount, reached: &Reached) {
        self.reached.of_mut(kind).add(one);
        if let Some(snapshot) = self.snapshots.get_mut(reached.first as usize) {
            snapshot.added.of_mut(kind).add(one);
            if reached.is_exclusive() {
                snapshot.freed.of_mut(kind).add(one);
            }
        }
        if reached.is_selected {
            self.selected.of_mut(kind).add(one);
        }
        let (is_later, is_last) = self.nights.of(reached.first);
        for group in &self.referring {
            let group = &mut self.groups[*group as usize];
            group.reached.of_mut(kind).add(one);
            if self.referring.len() == 1 {
                group.exclusive.of_mut(kind).add(one);
            }
            group.added_later += if is_later { one.stored_bytes } else { 0 };
            group.added_last += if is_last { one.stored_bytes } else { 0 };
        }
    }

    fn miss(&mut self, reference: &Reference, reached: &Reached) {
        self.missing += 1;
        let kind = FindingKind::MissingChunk;
        // Whoever reports them names no more.
        if self.findings.len() < FINDINGS_LISTED_MAX {
            let id: String = reference.prefix.iter().map(|byte| format!("{byte:02x}")).collect();
            let detail = format!("no usable pack has it; {}", needed_by(self.roots, reached));
            self.findings.push(Finding::new(kind, format!("chunk {id}..."), detail));
        }
    }
}

/// Returns what a chunk adds to a sum. A recipe is as long raw as stored: the raw length that the
/// index has of it is that of the packed slot, which it makes and does not hold.
fn amount(place: &PlacedChunk, is_recipe: bool) -> Amount {
    let raw_length = if is_recipe { place.stored_length } else { place.raw_length };
    Amount {
        chunks: 1,
        // Raw chunks have their codec byte more.
        compressed: u64::from(!is_recipe && place.stored_length <= place.raw_length),
        raw_bytes: raw_length.into(),
        stored_bytes: place.stored_length.into(),
    }
}
