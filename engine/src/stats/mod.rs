//! Stats: what snapshots hold, what that takes in the repository, and what deduplication saves.
//!
//! All figures are exact. Every manifest and list is read once, whatever reaches it, and its
//! references are sorted by chunk (`reach`); then references and the index, which is in
//! the same order, are read in step (`account`): chunks that meet a reference are reached, others
//! are not, references that meet no chunk are missing. Memory: the buffers of at most four sorters
//! at once and one piece of each of their runs, some 250 MiB with
//! [`crate::spill::BUFFER_BYTES_DEFAULT`] whatever the number of chunks, files and nights; and what
//! is returned: a row for each snapshot and group. At 400 million chunks that each have one
//! reference, temporary files take 14 GB.
//!
//! Stored bytes of a chunk are those of one copy, codec byte included. What packs need beside
//! chunks stands apart, so that the parts in [`Occupied`] add up to what the repository takes.

mod account;
mod groups;
mod labels;
mod nights;

use std::collections::{HashMap, HashSet};

use crate::backend::{Key, Space};
use crate::error::Result;
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::ChunkKind;
use crate::format::snapshot::Counts;
use crate::id::{PackId, SessionId};
use crate::index::KnownPack;
use crate::progress::{Cancel, Event, Observer};
use crate::reach::{REFERENCE_LEN, Root, Walk};
use crate::repository::Repository;
use crate::snapshot::{Listing, Named};
use crate::spill::{Sorted, SpillPlace};
use account::Accounts;
pub use groups::GroupName;
use groups::Groups;
use labels::Labels;
use nights::Nights;

/// By what content is grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Not at all.
    Nothing,
    /// By component.
    Component,
    /// By DB Root; what is in none is the rest.
    DbRoot,
    /// By table, with the names that each snapshot has. What is no segment file, and all manifests, is
    /// the rest; an object without a name stands by its number.
    Table,
    /// By column, a dictionary with its column; the same otherwise.
    Column,
    /// By column object, which the paths of segment files name; what is no segment file, and all
    /// manifests, is the rest.
    Oid,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct StatsOptions {
    /// By what content is grouped.
    pub group_by: GroupBy,
    /// Where sorted references go that memory does not hold.
    pub spill: SpillPlace,
    /// To stop it.
    pub cancel: Cancel,
}

/// Some chunks, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub chunks: u64,
    /// Those of them that are stored compressed.
    pub compressed: u64,
    /// Their raw bytes. Of a slot that is stored as a recipe these are the unpacked bytes of its
    /// blocks, more than the file has; a recipe itself counts as long as it is stored. Raw bytes
    /// are what was compressed: only stored bytes compare with the sizes of files.
    pub raw_bytes: u64,
    /// Their stored bytes, codec byte included.
    pub stored_bytes: u64,
}

impl Amount {
    /// Adds another amount.
    pub fn add(&mut self, other: &Amount) {
        self.chunks += other.chunks;
        self.compressed += other.compressed;
        self.raw_bytes += other.raw_bytes;
        self.stored_bytes += other.stored_bytes;
    }
}

/// Chunks of both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    /// Content of files.
    pub data: Amount,
    /// Manifests, lists and recipes.
    pub meta: Amount,
}

impl Chunks {
    /// Returns both kinds added up.
    pub fn all(&self) -> Amount {
        let mut all = self.data;
        all.add(&self.meta);
        all
    }

    pub(crate) fn of_mut(&mut self, kind: ChunkKind) -> &mut Amount {
        match kind {
            ChunkKind::Data => &mut self.data,
            ChunkKind::Meta => &mut self.meta,
        }
    }
}

/// What one snapshot holds and costs.
#[derive(Clone, Debug)]
pub struct SnapshotStats {
    /// The snapshot.
    pub named: Named,
    /// What it holds, as it says itself.
    pub counts: Counts,
    /// Stored bytes that its backup added, as it says itself.
    pub added_recorded: u64,
    /// Chunks that no earlier snapshot of the repository reaches.
    pub added: Chunks,
    /// Stored bytes of everything that it or an earlier snapshot of the repository reaches.
    pub stored_until: u64,
    /// Chunks that no other snapshot of the repository reaches: what deleting it would free.
    pub freed: Chunks,
}

/// What a group of content holds and takes, in the snapshots asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStats {
    /// The deployment; empty for plain paths.
    pub deployment: String,
    /// The group.
    pub name: GroupName,
    /// Of a column, the object ids of its files, rising: its own and its dictionary's, and those of
    /// other nights.
    pub oids: Vec<u32>,
    /// Files, counted in each snapshot.
    pub files: u64,
    /// Their sizes, added up over the snapshots.
    pub logical_bytes: u64,
    /// Chunks that the group reaches; groups may share some.
    pub reached: Chunks,
    /// Chunks of these that no other group reaches.
    pub exclusive: Chunks,
    /// Stored bytes of the chunks it reaches that came to the repository with a later snapshot of the
    /// deployment than its first...
    pub added_later: u64,
    /// ...on so many nights: 0 when only the first was asked for.
    pub nights: u64,
    /// Stored bytes of those that came with the last of the snapshots asked for.
    pub added_last: u64,
}

/// What the objects of the repository take, in bytes. The parts do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupied {
    /// Chunks that a snapshot reaches, one copy of each.
    pub reached: Chunks,
    /// Chunks that no snapshot reaches: of interrupted or running backups, or of snapshots that
    /// are gone.
    pub unreached: Chunks,
    /// Further copies of chunks.
    pub copies: Amount,
    /// Headers, trailers and footers of packs.
    pub pack_overhead_bytes: u64,
    /// Packs that cannot be used: of another length than the index says, or without a trailer.
    pub unusable_packs: u64,
    /// What these take.
    pub unusable_pack_bytes: u64,
    /// Packs, usable or not.
    pub packs: u64,
    /// Those of them that no index object names. Their chunks are counted as what they are.
    pub packs_unindexed: u64,
    /// What these take.
    pub packs_unindexed_bytes: u64,
    /// The objects, by kind.
    pub objects: Objects,
}

/// Some objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// The objects of a repository by kind; each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Packs of data, as the index knows them.
    pub data_packs: Tally,
    /// Packs of manifests, lists and recipes, as the index knows them.
    pub meta_packs: Tally,
    /// Packs that no index object names.
    pub unindexed_packs: Tally,
    /// Index objects.
    pub indexes: Tally,
    /// Snapshots and tombstones.
    pub snapshots: Tally,
    /// Config, features, leases, doomed records.
    pub records: Tally,
    /// Those with names that are not this program's.
    pub foreign: Tally,
}

impl Occupied {
    /// Returns all parts added up: the bytes of all objects.
    pub fn total_bytes(&self) -> u64 {
        self.reached.all().stored_bytes
            + self.unreached.all().stored_bytes
            + self.copies.stored_bytes
            + self.pack_overhead_bytes
            + self.unusable_pack_bytes
            + self.objects.indexes.bytes
            + self.objects.snapshots.bytes
            + self.objects.records.bytes
            + self.objects.foreign.bytes
    }
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct StatsReport {
    /// The snapshots asked for, oldest first.
    pub snapshots: Vec<SnapshotStats>,
    /// What the snapshots asked for hold, as they say themselves, added up.
    pub counts: Counts,
    /// Chunks that the snapshots asked for reach.
    pub reached: Chunks,
    /// Groups, by deployment and name.
    pub groups: Vec<GroupStats>,
    /// What the whole repository takes.
    pub occupied: Occupied,
    /// Chunks that are needed and cannot be had.
    pub chunks_missing: u64,
    /// What could not be read: with any, the figures are incomplete.
    pub findings: Findings,
}

/// Counts what snapshots reach. `listing` has all snapshots of the repository and was read before
/// the index was loaded: then the index names all they need. Changes nothing.
///
/// What is missing or damaged is a finding, and not counted.
pub fn stats(
    repository: &Repository,
    listing: &Listing,
    selected: &HashSet<SessionId>,
    options: &StatsOptions,
    observer: &dyn Observer,
) -> Result<StatsReport> {
    let mut report = StatsReport { findings: listing.findings.clone(), ..StatsReport::default() };
    let roots: Vec<Root<'_>> = listing
        .snapshots
        .iter()
        .map(|named| Root { named, is_selected: selected.contains(&named.id) })
        .collect();
    observer.event(Event::Stage("manifests"));
    let mut findings = std::mem::take(&mut report.findings);
    let labels = Labels::read(repository, &roots, options.group_by, observer, &mut findings)?;
    let mut groups = Groups::new(options.group_by, labels);
    let mut walk = Walk {
        repository,
        spill: &options.spill,
        cancel: &options.cancel,
        observer,
        findings,
        refers_to_missing: false,
    };
    let references = walk.references(&roots, &mut groups)?;
    report.findings = walk.findings;

    observer.event(Event::Stage("packs"));
    let stored = Stored::list(repository, observer, &mut report)?;
    observer.event(Event::Stage("chunks"));
    let nights = Nights::new(&roots);
    let mut accounts = Accounts::new(&roots, groups.len(), &nights);
    stored.account(repository, references, &mut accounts, options, observer, &mut report)?;

    let mut stored_until = 0;
    for (root, snapshot) in roots.iter().zip(accounts.snapshots) {
        stored_until += snapshot.added.all().stored_bytes;
        if !root.is_selected {
            continue;
        }
        let counts = root.named.snapshot.counts();
        report.counts.add(&counts);
        report.snapshots.push(SnapshotStats {
            named: root.named.clone(),
            counts,
            added_recorded: root.named.snapshot.stats.data_added_packed,
            added: snapshot.added,
            stored_until,
            freed: snapshot.freed,
        });
    }
    report.reached = accounts.selected;
    report.groups = groups.rows(&accounts.groups, &|deployment| nights.later(deployment));
    report.occupied.reached = accounts.reached;
    report.occupied.unreached = accounts.unreached;
    report.occupied.copies = accounts.copies;
    report.chunks_missing = accounts.missing;
    Ok(report)
}

/// The packs of a repository: which can be used, and which the index does not know.
struct Stored {
    /// Named by the index, but missing or of another length: what they hold is not there.
    unusable: HashSet<PackId>,
    unindexed: Vec<(PackId, u64)>,
}

impl Stored {
    /// Lists all objects and adds up what is not chunks.
    fn list(
        repository: &Repository,
        observer: &dyn Observer,
        report: &mut StatsReport,
    ) -> Result<Self> {
        let backend = repository.backend();
        let occupied = &mut report.occupied;
        let mut objects = Objects::default();
        let mut packs: HashMap<PackId, u64> = HashMap::new();
        for space in Space::ALL {
            backend.list(space, &mut |object| match (Key::parse(&object.name), space) {
                (None, _) => objects.foreign.add(object.bytes),
                (Some(Key::Pack(id)), _) => drop(packs.insert(id, object.bytes)),
                (Some(_), Space::Indexes) => objects.indexes.add(object.bytes),
                (Some(_), Space::Snapshots) => objects.snapshots.add(object.bytes),
                (Some(_), _) => objects.records.add(object.bytes),
            })?;
        }
        objects.records.add(backend.length(&Key::Config)?);
        occupied.packs = packs.len() as u64;
        occupied.pack_overhead_bytes = packs.values().sum();
        let mut stored = Stored { unusable: HashSet::new(), unindexed: Vec::new() };
        let mut wrong = Vec::new();
        repository.index().packs(&mut |pack| {
            let found = packs.remove(&pack.id);
            let of_kind = match pack.kind {
                ChunkKind::Data => &mut objects.data_packs,
                ChunkKind::Meta => &mut objects.meta_packs,
            };
            found.into_iter().for_each(|bytes| of_kind.add(bytes));
            if found != Some(pack.bytes) {
                wrong.push((pack, found));
            }
        })?;
        packs.values().for_each(|bytes| objects.unindexed_packs.add(*bytes));
        report.occupied.objects = objects;
        for (pack, found) in wrong {
            let finding = match found {
                None => missing_pack(&pack),
                Some(bytes) => {
                    report.occupied.unusable_packs += 1;
                    report.occupied.unusable_pack_bytes += bytes;
                    report.occupied.pack_overhead_bytes -= bytes;
                    let detail = format!("{} bytes expected, found {bytes}", pack.bytes);
                    Finding::new(FindingKind::WrongSize, Key::Pack(pack.id).to_string(), detail)
                }
            };
            observer.event(Event::Finding(&finding));
            report.findings.push(finding);
            stored.unusable.insert(pack.id);
        }
        stored.unindexed = packs.into_iter().collect();
        stored.unindexed.sort_unstable();
        Ok(stored)
    }

    /// Reads references and stored chunks in step.
    fn account(
        &self,
        repository: &Repository,
        references: Sorted<REFERENCE_LEN>,
        accounts: &mut Accounts<'_>,
        options: &StatsOptions,
        observer: &dyn Observer,
        report: &mut StatsReport,
    ) -> Result<()> {
        let mut unindexed = account::Places::new(&options.spill);
        for (id, bytes) in &self.unindexed {
            options.cancel.check()?;
            report.occupied.packs_unindexed += 1;
            report.occupied.packs_unindexed_bytes += bytes;
            let backend = repository.backend();
            match crate::pack::read_trailer(backend, *id, *bytes, repository.id()) {
                Ok(pack) => unindexed.add(&pack)?,
                Err(error) => {
                    report.occupied.unusable_packs += 1;
                    report.occupied.unusable_pack_bytes += bytes;
                    report.occupied.pack_overhead_bytes -= bytes;
                    let finding = crate::index::object_finding(backend, &error)?;
                    observer.event(Event::Finding(&finding));
                    report.findings.push(finding);
                }
            }
        }
        let takes = |pack: &KnownPack| !self.unusable.contains(&pack.id);
        accounts.settle(repository.index(), &takes, unindexed, references, &options.cancel)?;
        let unnamed = accounts.missing - accounts.findings.len() as u64;
        for finding in accounts.findings.drain(..) {
            observer.event(Event::Finding(&finding));
            report.findings.push(finding);
        }
        if unnamed > 0 {
            *report.findings.counts.entry(FindingKind::MissingChunk).or_default() += unnamed;
        }
        // What is in packs and is not a chunk frames them.
        let chunks = accounts.reached.all().stored_bytes
            + accounts.unreached.all().stored_bytes
            + accounts.copies.stored_bytes;
        report.occupied.pack_overhead_bytes =
            report.occupied.pack_overhead_bytes.saturating_sub(chunks);
        Ok(())
    }
}

fn missing_pack(pack: &KnownPack) -> Finding {
    let detail = format!("a pack of {} bytes expected, it is not there", pack.bytes);
    Finding::new(FindingKind::MissingObject, Key::Pack(pack.id).to_string(), detail)
}
