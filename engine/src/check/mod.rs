//! Check: is everything there that the snapshots need, and is it what it should be.
//!
//! Without options every config, feature, index and snapshot object is read and hashed, every
//! manifest and span list is read and verified, every chunk they name is looked up, and packs are
//! compared with the index by name and length. Trailers, and all data, are read on request. A recipe
//! is bound to its slot by its checksum; that it leads to the slot is seen by following it, which is
//! done for every recipe when all data is read: a sample of the packs verifies their chunks alone.

mod packs;

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::{Key, Space};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::ChunkKind;
use crate::format::extent::{Extent, LIST_DEPTH_MAX};
use crate::format::manifest::{Entry, Node, compare_paths};
use crate::format::snapshot::{Counts, SnapshotState};
use crate::format::text::encode;
use crate::id::{ChunkId, PackId};
use crate::index::KnownPack;
use crate::manifest::MetaReader;
use crate::packer::{Pack, Packer};
use crate::progress::{Cancel, Event, Observer};
use crate::recipe::{SlotParts, refuse_unknown_packers};
use crate::repository::Repository;
use crate::snapshot::{self, Listing, Named};

/// What to check beyond the structure.
#[derive(Clone)]
pub struct CheckOptions {
    /// Read every pack's trailer and compare it with the index.
    pub read_trailers: bool,
    /// Read this share of all packs, in percent, and verify every chunk in them; at 100 also pack
    /// every slot again whose recipe a snapshot reaches.
    pub read_data_percent: Option<f64>,
    /// What packs slots again: [`Packers`](crate::packer::Packers), or a test's.
    pub packers: &'static dyn Pack,
    /// Threads that read and verify.
    pub threads: usize,
    /// To stop it.
    pub cancel: Cancel,
}

/// What a check looked at, and what it found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Snapshots read.
    pub snapshots: u64,
    /// Packs the index names.
    pub packs: u64,
    /// Index objects.
    pub indexes: u64,
    /// Chunks that snapshots name, each as often as a manifest not seen before does.
    pub chunks: u64,
    /// Leases: sessions that run, or ended without removing theirs.
    pub leases: u64,
    /// Bytes of these packs.
    pub pack_bytes: u64,
    /// Packs read in full.
    pub packs_read: u64,
    /// Bytes of packs read.
    pub bytes_read: u64,
    /// Slots packed again.
    pub slots_packed: u64,
    /// Packs that no index names: of interrupted backups, or of a running one.
    pub packs_unindexed: u64,
    /// What is wrong.
    pub findings: Findings,
}

/// Checks a repository. Changes nothing. The index must not have been loaded before.
///
/// What is wrong is in the report; an error means that the check could not be done.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    observer: &dyn Observer,
) -> Result<CheckReport> {
    // What is missing is to be reported here, not worked around.
    repository.never_recover();
    let mut checker = Checker {
        repository,
        options,
        observer,
        report: CheckReport::default(),
        seen: HashMap::new(),
        counted: HashMap::new(),
        slots: Vec::new(),
    };
    // Backups look only where they may have left something themselves.
    if repository.backend().reads_at_once().is_some() {
        repository.backend().clean_up()?;
    }
    repository.read_anew();
    // Packs first: what a backup adds meanwhile is then newer than this listing, never older.
    let stored = checker.list_packs()?;
    checker.other_objects()?;
    // Snapshots before the index: what they name is in index objects that were there before they were.
    let listing = snapshot::list(repository)?;
    observer.event(Event::Stage("index"));
    checker.index()?;
    observer.event(Event::Stage("packs"));
    let packs = checker.packs(stored)?;
    observer.event(Event::Stage("snapshots"));
    checker.snapshots(listing)?;
    if options.read_trailers || options.read_data_percent.is_some() {
        observer.event(Event::Stage("reading packs"));
        checker.read_packs(&packs)?;
    }
    Ok(checker.report)
}

struct Checker<'a> {
    repository: &'a Repository,
    options: &'a CheckOptions,
    observer: &'a dyn Observer,
    report: CheckReport,
    /// Span lists and recipes that were looked at already, by id and length, and the packers that what
    /// they name needs.
    seen: HashMap<(ChunkId, u64), Needed>,
    /// Manifest chunks that were looked at already, and what they hold: nights share most of them.
    counted: HashMap<ChunkId, ChunkFacts>,
    /// Slots whose recipes are to be followed, each once, when all data is read.
    slots: Vec<SeenSlot>,
}

/// Numbers of packers, a bit each; those from 31 on share one.
type Needed = u32;

/// A slot that is stored as a recipe, and where it was seen first.
struct SeenSlot {
    id: ChunkId,
    length: u32,
    path: Arc<str>,
}

/// What a manifest chunk holds.
#[derive(Clone)]
struct ChunkFacts {
    counts: Counts,
    entries: u64,
    first_path: Vec<u8>,
    last_path: Vec<u8>,
    packers: Needed,
}

impl Checker<'_> {
    fn find(&mut self, kind: FindingKind, object: impl Into<String>, detail: impl Into<String>) {
        self.push(Finding::new(kind, object, detail));
    }

    fn push(&mut self, finding: Finding) {
        self.observer.event(Event::Finding(&finding));
        self.report.findings.push(finding);
    }

    fn list(&mut self, space: Space) -> Result<Vec<(Key, u64)>> {
        let mut found = Vec::new();
        let mut foreign = Vec::new();
        self.repository.backend().list(space, &mut |object| match Key::parse(&object.name) {
            Some(key) => found.push((key, object.bytes)),
            None => foreign.push(object.name),
        })?;
        for name in foreign {
            self.find(
                FindingKind::ForeignObject,
                name,
                "the name of an object of colvault expected",
            );
        }
        Ok(found)
    }

    fn list_packs(&mut self) -> Result<HashMap<PackId, u64>> {
        let listed = self.list(Space::Packs)?;
        Ok(listed
            .into_iter()
            .filter_map(|(key, bytes)| match key {
                Key::Pack(id) => Some((id, bytes)),
                _ => None,
            })
            .collect())
    }

    /// Features and leases; config was verified when the repository was opened.
    fn other_objects(&mut self) -> Result<()> {
        for (key, _) in self.list(Space::Features)? {
            let bytes = match self.repository.backend().get(&key, 1 << 20) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.push(crate::index::object_finding(self.repository.backend(), &error)?);
                    continue;
                }
            };
            if let Err(error) = crate::format::open_record(&bytes, &key.to_string()) {
                self.push(crate::index::object_finding(self.repository.backend(), &error)?);
            }
        }
        self.report.leases = self.list(Space::Leases)?.len() as u64;
        Ok(())
    }

    fn index(&mut self) -> Result<()> {
        // A cache may hold what the repository has lost: every object is read anew.
        self.repository.index().forget()?;
        let report = self.repository.index().refresh(self.repository.backend())?;
        report.findings.listed.into_iter().for_each(|finding| self.push(finding));
        self.report.indexes = report.objects;
        Ok(())
    }

    fn packs(&mut self, mut stored: HashMap<PackId, u64>) -> Result<Vec<KnownPack>> {
        let mut known = Vec::new();
        self.repository.index().packs(&mut |pack| known.push(pack))?;
        self.report.packs = known.len() as u64;
        self.report.pack_bytes = known.iter().map(|pack| pack.bytes).sum();
        let mut present = Vec::new();
        for pack in known {
            let object = Key::Pack(pack.id).to_string();
            match stored.remove(&pack.id) {
                // Added since packs were listed, or gone: ask for it by name.
                None => match self.repository.backend().length(&Key::Pack(pack.id)) {
                    Ok(bytes) if bytes == pack.bytes => present.push(pack),
                    Ok(bytes) => self.wrong_size(object, pack.bytes, bytes),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        let detail =
                            format!("a pack of {} bytes expected, it is not there", pack.bytes);
                        self.find(FindingKind::MissingObject, object, detail);
                    }
                    Err(error) => return Err(error),
                },
                Some(bytes) if bytes != pack.bytes => self.wrong_size(object, pack.bytes, bytes),
                Some(_) => present.push(pack),
            }
        }
        self.report.packs_unindexed = stored.len() as u64;
        Ok(present)
    }

    fn wrong_size(&mut self, object: String, expected: u64, found: u64) {
        let detail = format!("{expected} bytes expected, found {found}");
        self.find(FindingKind::WrongSize, object, detail);
    }

    fn snapshots(&mut self, listing: Listing) -> Result<()> {
        for finding in listing.findings.listed {
            self.push(finding);
        }
        for named in &listing.snapshots {
            self.report.snapshots += 1;
            if named.snapshot.state != SnapshotState::Complete {
                let detail =
                    format!("made {}, state {}", named.snapshot.time, named.snapshot.state.name());
                self.find(
                    FindingKind::IncompleteSnapshot,
                    format!("snapshot {}", named.id.short()),
                    detail,
                );
            }
            if let Err(error) = refuse_unknown_packers("snapshot", &named.snapshot.packers) {
                let object = format!("snapshot {}", named.id.short());
                self.find(FindingKind::UnknownPacker, object, error.problem());
            }
            if named.snapshot.is_refuted() {
                let detail = format!(
                    "made {}, its proof does not hold; check --columnstore says where",
                    named.snapshot.time
                );
                let object = format!("snapshot {}", named.id.short());
                self.find(FindingKind::RefutedSnapshot, object, detail);
            }
            let mut needed = 0;
            for component in &named.snapshot.components {
                needed |= self.component(named, component)?;
            }
            self.packers(named, needed);
            self.names(named)?;
        }
        Ok(())
    }

    /// Compares the packers that a snapshot names with those its recipes need.
    fn packers(&mut self, named: &Named, needed: Needed) {
        for number in (0..Needed::BITS).filter(|number| needed >> number & 1 != 0) {
            let packer = u8::try_from(number).ok().and_then(Packer::from_number);
            let name = packer.map_or("of an unknown number", Packer::name);
            if !named.snapshot.packers.iter().any(|packer| packer == name) {
                let object = format!("snapshot {}", named.id.short());
                let detail = format!("its recipes need the packer {name}, which it does not name");
                self.find(FindingKind::DamagedManifest, object, detail);
            }
        }
    }

    /// Reads the names of tables and columns, each chunk of them once.
    fn names(&mut self, named: &Named) -> Result<()> {
        let mut meta = MetaReader::new(self.repository);
        for id in &named.snapshot.names {
            self.options.cancel.check()?;
            if self.seen.insert((*id, 0), 0).is_some() {
                continue;
            }
            if let Err(error) = meta.names(*id) {
                self.broken(&format!("snapshot {} names", named.id.short()), &error)?;
            }
        }
        Ok(())
    }

    /// Reads a manifest and looks at every chunk it names.
    fn component(
        &mut self,
        named: &Named,
        component: &crate::format::snapshot::Component,
    ) -> Result<Needed> {
        let object = format!("snapshot {} component {}", named.id.short(), component.name);
        let mut meta = MetaReader::new(self.repository);
        let mut counts = Counts::default();
        let mut last_path: Option<Vec<u8>> = None;
        let mut needed = 0;
        for list in &component.manifest {
            let refs = match meta.manifest_list(*list) {
                Ok(refs) => refs,
                Err(error) => return self.broken(&object, &error).map(|()| needed),
            };
            for chunk in refs {
                self.options.cancel.check()?;
                let Some(facts) = self.manifest_chunk(&mut meta, &object, chunk.id)? else {
                    return Ok(needed);
                };
                needed |= facts.packers;
                let rising = last_path
                    .as_ref()
                    .is_none_or(|last| compare_paths(last, &facts.first_path).is_lt());
                if !rising || facts.entries != chunk.entries || facts.first_path != chunk.first_path
                {
                    let detail =
                        format!("manifest chunk {} is not the one its list describes", chunk.id);
                    self.find(FindingKind::DamagedManifest, &*object, detail);
                    return Ok(needed);
                }
                counts.add(&facts.counts);
                last_path = Some(facts.last_path);
            }
        }
        // Holes inside lists are not counted when a snapshot is made, see `backup`.
        let same = Counts { allocated_bytes: component.counts.allocated_bytes, ..counts };
        if same != component.counts {
            let detail = format!(
                "{} entries and {} bytes expected, its manifest has {} and {}",
                component.counts.entries(),
                component.counts.bytes,
                counts.entries(),
                counts.bytes
            );
            self.find(FindingKind::DamagedManifest, object, detail);
        }
        Ok(needed)
    }

    /// Looks at the entries of a manifest chunk, once. `None` when it cannot be read.
    fn manifest_chunk(
        &mut self,
        meta: &mut MetaReader<'_>,
        object: &str,
        id: ChunkId,
    ) -> Result<Option<ChunkFacts>> {
        if let Some(facts) = self.counted.get(&id) {
            return Ok(Some(facts.clone()));
        }
        let entries = match meta.manifest_chunk(id) {
            Ok(entries) => entries,
            Err(error) => {
                self.broken(object, &error)?;
                return Ok(None);
            }
        };
        let mut counts = Counts::default();
        let mut packers = 0;
        for entry in &entries {
            count(&mut counts, entry);
            packers |= self.content(meta, object, entry)?;
        }
        let path =
            |entry: Option<&Entry>| entry.map(|entry| entry.path.clone()).unwrap_or_default();
        let facts = ChunkFacts {
            counts,
            entries: entries.len() as u64,
            first_path: path(entries.first()),
            last_path: path(entries.last()),
            packers,
        };
        self.counted.insert(id, facts.clone());
        Ok(Some(facts))
    }

    fn broken(&mut self, object: &str, error: &Error) -> Result<()> {
        let kind = match error.kind() {
            ErrorKind::NotFound => FindingKind::MissingChunk,
            ErrorKind::Corrupt => FindingKind::DamagedManifest,
            ErrorKind::Unsupported => FindingKind::UnknownPacker,
            _ => return Err(error.repeat()),
        };
        self.find(kind, object, error.to_string());
        Ok(())
    }

    /// Looks at the content of an entry and returns the packers it needs.
    fn content(
        &mut self,
        meta: &mut MetaReader<'_>,
        object: &str,
        entry: &Entry,
    ) -> Result<Needed> {
        let path: Arc<str> = format!("{object} file {}", encode(&entry.path)).into();
        self.extents(meta, &path, entry.extents(), 0)
    }

    fn extents(
        &mut self,
        meta: &mut MetaReader<'_>,
        path: &Arc<str>,
        extents: &[Extent],
        depth: usize,
    ) -> Result<Needed> {
        let mut needed = 0;
        for extent in extents {
            match *extent {
                Extent::Chunk { id, length } => self.chunk(path, id, length)?,
                Extent::Slice { id, chunk_length, .. } => self.chunk(path, id, chunk_length)?,
                Extent::List { id, .. } if depth >= LIST_DEPTH_MAX => {
                    let detail = format!("span list {id} nests too deep");
                    self.find(FindingKind::DamagedManifest, &**path, detail);
                }
                Extent::List { id, length } => {
                    needed |= match self.seen.get(&(id, length)) {
                        Some(seen) => *seen,
                        None => {
                            let below = match meta.list(id, length) {
                                Ok(listed) => self.extents(meta, path, &listed, depth + 1)?,
                                Err(error) => self.broken(path, &error).map(|()| 0)?,
                            };
                            self.seen.insert((id, length), below);
                            below
                        }
                    };
                }
                Extent::Recipe { id, length } => {
                    needed |= match self.seen.get(&(id, length.into())) {
                        Some(seen) => *seen,
                        None => {
                            let packer = self.recipe(meta, path, id, length)?;
                            self.seen.insert((id, length.into()), packer);
                            packer
                        }
                    };
                }
                Extent::Zero { .. } | Extent::Hole { .. } | Extent::Lost { .. } => {}
            }
        }
        Ok(needed)
    }

    /// Looks at a recipe and returns the packer it needs.
    fn recipe(
        &mut self,
        meta: &mut MetaReader<'_>,
        path: &Arc<str>,
        id: ChunkId,
        length: u32,
    ) -> Result<Needed> {
        let opened = meta.recipe(id, length).and_then(|recipe| {
            let needed = 1 << u32::from(recipe.packer).min(Needed::BITS - 1);
            Ok((SlotParts::new(id, recipe)?, needed))
        });
        let (slot, needed) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.broken(path, &error).map(|()| 0),
        };
        for part in slot.parts() {
            self.chunk(path, part.chunk, part.length)?;
        }
        if self.reads_all() {
            self.slots.push(SeenSlot { id, length, path: Arc::clone(path) });
        }
        Ok(needed)
    }

    fn chunk(&mut self, path: &str, id: ChunkId, length: u32) -> Result<()> {
        self.report.chunks += 1;
        match self.repository.index().find(id, ChunkKind::Data)? {
            None => {
                let detail = format!("chunk {id} of {length} bytes is in no index object");
                self.find(FindingKind::MissingChunk, path, detail);
            }
            Some(location) if location.raw_length != length => {
                let detail = format!(
                    "chunk {id} of {length} bytes expected, the index says {}",
                    location.raw_length
                );
                self.find(FindingKind::DamagedManifest, path, detail);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn reads_all(&self) -> bool {
        self.options.read_data_percent.is_some_and(|percent| percent >= 100.0)
    }
}

fn count(counts: &mut Counts, entry: &Entry) {
    match &entry.node {
        Node::File { size, .. } => {
            counts.files += 1;
            counts.bytes += size;
        }
        Node::Unreadable { .. } => counts.files += 1,
        Node::Directory => counts.directories += 1,
        Node::Symlink { .. } => counts.symlinks += 1,
        _ => counts.others += 1,
    }
}
