//! Find: which files of which snapshots are named like this, or need this chunk or this pack.
//!
//! Every chunk of entries is searched once, whatever number of snapshots has it: references to
//! chunks are sorted by id, with the snapshots and places they stand for. The places of chunks in
//! which something was found are sorted back, and these chunks are read once more, snapshot by
//! snapshot in path order. Memory: one chunk of entries, the buffers of the sorters
//! ([`crate::spill`]), and for content the answers for the span lists met last.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::backend::Key;
use crate::columnstore::SegmentPath;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, Findings};
use crate::format::ChunkKind;
use crate::format::extent::{Extent, LIST_DEPTH_MAX};
use crate::format::manifest::{Entry, Node, Time};
use crate::format::snapshot::Component;
use crate::format::text::decode_path;
use crate::id::{ChunkId, PackId, SessionId};
use crate::index::{IdPrefix, prefix_of};
use crate::manifest::MetaReader;
use crate::names::Oids;
use crate::pattern::Patterns;
use crate::progress::{Cancel, Event, Observer};
use crate::reach::{Reached, Root, damage_kind, needed_by};
use crate::repository::Repository;
use crate::restore::Select;
use crate::snapshot::Named;
use crate::spill::{Sorted, Sorter, SpillPlace};

/// Answers for span lists that are kept: enough for 64 TiB of content that is not the same.
const ANSWERS_MAX: usize = 1 << 20;

/// What to look for: all of it must hold for an entry.
#[derive(Clone, Debug)]
pub struct FindOptions {
    /// Globs on the path as the source named it, any of which must match; none means all.
    pub patterns: Patterns,
    /// Components and paths.
    pub select: Select,
    /// Files of at least so many bytes.
    pub size_min: Option<u64>,
    /// Files of at most so many bytes.
    pub size_max: Option<u64>,
    /// Changed at this time or later.
    pub oldest: Option<Time>,
    /// Changed at this time or before.
    pub newest: Option<Time>,
    /// Segment files of this column object.
    pub oid: Option<u32>,
    /// Segment files of the columns and dictionaries that tables have, which may be others in each
    /// snapshot; `None` means no matter. A snapshot that is not named has none.
    pub tables: Option<HashMap<SessionId, Oids>>,
    /// What needs a chunk whose id begins like this.
    pub chunk: Option<IdPrefix>,
    /// What needs this pack.
    pub pack: Option<PackId>,
    /// Where sorted references go that memory does not hold.
    pub spill: SpillPlace,
    /// To stop it.
    pub cancel: Cancel,
}

/// An entry that was found.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The snapshot.
    pub named: &'a Named,
    /// The component.
    pub component: &'a Component,
    /// The entry.
    pub entry: &'a Entry,
}

/// What was searched and found.
#[derive(Clone, Debug, Default)]
pub struct FindReport {
    /// Snapshots searched.
    pub snapshots: u64,
    /// Those in which something was found.
    pub snapshots_matched: u64,
    /// Entries found, in each snapshot anew.
    pub matches: u64,
    /// Snapshots that need a chunk that was asked for as names of their tables and columns.
    pub needed_as_names: Vec<SessionId>,
    /// Chunks of entries searched, each once.
    pub chunks_searched: u64,
    /// What could not be read, and so was not searched.
    pub findings: Findings,
}

/// Searches snapshots and hands on what is found, in the order of the snapshots given, components
/// and paths.
///
/// Fails with `NotFound` for a pack that is neither in the index nor in the repository; when
/// temporary files cannot be written; and when `each` fails.
pub fn find(
    repository: &Repository,
    snapshots: &[Named],
    options: &FindOptions,
    observer: &dyn Observer,
    each: &mut dyn FnMut(&Match<'_>) -> Result<()>,
) -> Result<FindReport> {
    let roots: Vec<Root<'_>> =
        snapshots.iter().map(|named| Root { named, is_selected: true }).collect();
    let mut search = Search {
        meta: MetaReader::new(repository),
        options,
        observer,
        wanted: wanted_chunks(repository, options)?,
        answers: HashMap::new(),
        report: FindReport { snapshots: snapshots.len() as u64, ..FindReport::default() },
        roots: &roots,
    };
    for root in &roots {
        if root.named.snapshot.names.iter().any(|id| search.is_wanted_meta(*id)) {
            search.report.needed_as_names.push(root.named.id);
        }
    }
    observer.event(Event::Stage("manifests"));
    let lists = search.lists()?;
    let chunks = search.chunks(lists)?;
    let places = search.search(chunks)?;
    search.tell(places, each)?;
    Ok(search.report)
}

type Wanted = HashSet<(IdPrefix, ChunkKind)>;

/// Returns the chunks that are asked for; `None` when content does not matter.
fn wanted_chunks(repository: &Repository, options: &FindOptions) -> Result<Option<Wanted>> {
    let mut wanted = Wanted::new();
    if let Some(prefix) = options.chunk {
        wanted.extend([(prefix, ChunkKind::Data), (prefix, ChunkKind::Meta)]);
    }
    if let Some(id) = options.pack {
        let mut of_pack = Wanted::new();
        repository.index().places(&|pack| pack.id == id, &mut |place| {
            of_pack.insert((place.prefix, place.kind));
            Ok(())
        })?;
        if of_pack.is_empty() {
            let backend = repository.backend();
            let key = Key::Pack(id);
            let bytes = backend.length(&key).map_err(|error| match error.kind() {
                ErrorKind::NotFound => Error::new(
                    ErrorKind::NotFound,
                    key.to_string(),
                    "the repository has no such pack, and no index object names it",
                ),
                _ => error,
            })?;
            let pack = crate::pack::read_trailer(backend, id, bytes, repository.id())?;
            of_pack.extend(pack.places.iter().map(|place| (prefix_of(place.id), pack.kind)));
        }
        match options.chunk {
            Some(_) => wanted.retain(|chunk| of_pack.contains(chunk)),
            None => wanted = of_pack,
        }
    }
    Ok((options.chunk.is_some() || options.pack.is_some()).then_some(wanted))
}

/// A list of manifest chunks: its id, and where it stands.
const LIST_LEN: usize = 32 + 12;
/// A manifest chunk: its id, where it stands, and whether a list above it is asked for.
const CHUNK_LEN: usize = 32 + 16 + 1;
/// The same, place first.
const PLACE_LEN: usize = 16 + 32 + 1;

/// Where a manifest chunk stands: snapshot, component, list, number in the list.
type Place = [u32; 4];

fn put_place(record: &mut [u8], place: &[u32]) {
    for (bytes, number) in record.chunks_exact_mut(4).zip(place) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
}

fn take_place(record: &[u8]) -> Place {
    let mut place = [0; 4];
    for (number, bytes) in place.iter_mut().zip(record.chunks_exact(4)) {
        *number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    place
}

fn take_id(record: &[u8]) -> ChunkId {
    let mut id = [0; 32];
    id.copy_from_slice(&record[..32]);
    ChunkId(id)
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

struct Search<'a> {
    meta: MetaReader<'a>,
    options: &'a FindOptions,
    observer: &'a dyn Observer,
    wanted: Option<Wanted>,
    /// Whether span lists need what is wanted.
    answers: HashMap<ChunkId, bool>,
    report: FindReport,
    roots: &'a [Root<'a>],
}

impl<'a> Search<'a> {
    fn lists(&self) -> Result<Sorted<LIST_LEN>> {
        let mut lists = Sorter::new(&self.options.spill);
        for (snapshot, root) in self.roots.iter().enumerate() {
            for (at, component) in root.named.snapshot.components.iter().enumerate() {
                if !self.options.select.takes_component(&component.name) {
                    continue;
                }
                for (list, id) in component.manifest.iter().enumerate() {
                    let mut record = [0; LIST_LEN];
                    record[..32].copy_from_slice(&id.0);
                    put_place(&mut record[32..], &[number(snapshot), number(at), number(list)]);
                    lists.push(record)?;
                }
            }
        }
        lists.finish()
    }

    fn chunks(&mut self, mut lists: Sorted<LIST_LEN>) -> Result<Sorted<CHUNK_LEN>> {
        let mut chunks = Sorter::new(&self.options.spill);
        let mut last = None;
        let mut refs = Vec::new();
        while let Some(record) = lists.next()? {
            self.options.cancel.check()?;
            let id = take_id(&record);
            let [snapshot, component, list, _] = take_place(&record[32..]);
            if last != Some(id) {
                last = Some(id);
                refs = self.meta.manifest_list(id).or_else(|error| {
                    self.not_read(&error, "manifest list", id, snapshot).map(|()| Vec::new())
                })?;
            }
            let is_wanted = self.is_wanted_meta(id);
            for (at, chunk) in refs.iter().enumerate() {
                let mut record = [0; CHUNK_LEN];
                record[..32].copy_from_slice(&chunk.id.0);
                put_place(&mut record[32..48], &[snapshot, component, list, number(at)]);
                record[48] = is_wanted.into();
                chunks.push(record)?;
            }
        }
        chunks.finish()
    }

    /// Reads every chunk of entries once and returns the places of those with a match in them.
    fn search(&mut self, mut chunks: Sorted<CHUNK_LEN>) -> Result<Sorted<PLACE_LEN>> {
        let mut places = Sorter::new(&self.options.spill);
        let mut last = None;
        let mut entries = Vec::new();
        // The answer depends on what the component is called and where it was, and on what object ids
        // the tables have.
        let mut answer: Option<(&Component, Option<&Oids>, bool, bool)> = None;
        while let Some(record) = chunks.next()? {
            self.options.cancel.check()?;
            let id = take_id(&record);
            let place = take_place(&record[32..48]);
            let is_wanted = record[48] != 0;
            if last != Some(id) {
                last = Some(id);
                answer = None;
                self.report.chunks_searched += 1;
                entries = self.meta.manifest_chunk(id).or_else(|error| {
                    self.not_read(&error, "manifest chunk", id, place[0]).map(|()| Vec::new())
                })?;
                self.observer.event(Event::Done { entries: entries.len() as u64, bytes: 0 });
            }
            let Some(component) = self.component(place) else { continue };
            let oids = self.oids(place);
            let known = answer.filter(|(other, others_oids, wanted, _)| {
                (&other.name, &other.path, *wanted) == (&component.name, &component.path, is_wanted)
                    && *others_oids == oids
            });
            let has_match = match known {
                Some((_, _, _, has_match)) => has_match,
                None => {
                    let is_wanted = is_wanted || self.is_wanted_meta(id);
                    let mut has_match = false;
                    for entry in &entries {
                        has_match = has_match || self.matches(component, oids, entry, is_wanted)?;
                    }
                    has_match
                }
            };
            answer = Some((component, oids, is_wanted, has_match));
            if has_match {
                let mut back = [0; PLACE_LEN];
                back[..16].copy_from_slice(&record[32..48]);
                back[16..48].copy_from_slice(&record[..32]);
                back[48] = record[48];
                places.push(back)?;
            }
        }
        places.finish()
    }

    /// Hands on what was found, in order.
    fn tell(
        &mut self,
        mut places: Sorted<PLACE_LEN>,
        each: &mut dyn FnMut(&Match<'_>) -> Result<()>,
    ) -> Result<()> {
        self.observer.event(Event::Stage("matches"));
        let mut last = None;
        while let Some(record) = places.next()? {
            self.options.cancel.check()?;
            let place = take_place(&record[..16]);
            let id = take_id(&record[16..48]);
            let Some(component) = self.component(place) else { continue };
            let named = self.roots[place[0] as usize].named;
            let is_wanted = record[48] != 0 || self.is_wanted_meta(id);
            let oids = self.oids(place);
            for entry in self.meta.manifest_chunk(id)? {
                if self.matches(component, oids, &entry, is_wanted)? {
                    self.report.matches += 1;
                    if last != Some(place[0]) {
                        last = Some(place[0]);
                        self.report.snapshots_matched += 1;
                    }
                    each(&Match { named, component, entry: &entry })?;
                }
            }
        }
        Ok(())
    }

    fn component(&self, place: Place) -> Option<&'a Component> {
        let root = self.roots.get(place[0] as usize)?;
        root.named.snapshot.components.get(place[1] as usize)
    }

    /// Returns the object ids that the tables asked for have in a snapshot.
    fn oids(&self, place: Place) -> Option<&'a Oids> {
        let root = self.roots.get(place[0] as usize)?;
        self.options.tables.as_ref()?.get(&root.named.id)
    }

    fn not_read(&mut self, error: &Error, noun: &str, id: ChunkId, snapshot: u32) -> Result<()> {
        let kind = damage_kind(error)?;
        let reached = Reached { first: snapshot, last: snapshot, is_selected: true, times: 1 };
        let detail = format!("{error}; {}", needed_by(self.roots, &reached));
        let finding = Finding::new(kind, format!("{noun} {id}"), detail);
        self.observer.event(Event::Finding(&finding));
        self.report.findings.push(finding);
        Ok(())
    }

    fn is_wanted_meta(&self, id: ChunkId) -> bool {
        let wanted = self.wanted.as_ref();
        wanted.is_some_and(|wanted| wanted.contains(&(prefix_of(id), ChunkKind::Meta)))
    }

    /// Whether an entry is what is looked for; `is_needed` when all of its chunk is.
    fn matches(
        &mut self,
        component: &Component,
        oids: Option<&Oids>,
        entry: &Entry,
        is_needed: bool,
    ) -> Result<bool> {
        let options = self.options;
        let is_of_table = options.tables.is_none()
            || SegmentPath::parse(&entry.path).zip(oids).is_some_and(|(segment, oids)| {
                component.name.starts_with("dbroot/") && oids.contains(&segment.oid)
            });
        if !is_of_table || !options.select.takes(component, &entry.path) {
            return Ok(false);
        }
        if !options.patterns.is_empty() {
            let full = decode_path(&component.path).join(OsStr::from_bytes(&entry.path));
            let full = full.as_os_str().as_bytes();
            let below_root = full.strip_prefix(b"/").unwrap_or(full);
            if options
                .patterns
                .first_match(below_root.strip_suffix(b"/").unwrap_or(below_root))
                .is_none()
            {
                return Ok(false);
            }
        }
        let has_size = matches!(entry.node, Node::File { .. } | Node::Unreadable { .. });
        let asks_size = options.size_min.is_some() || options.size_max.is_some();
        let is_sized = has_size
            && options.size_min.is_none_or(|least| entry.size() >= least)
            && options.size_max.is_none_or(|most| entry.size() <= most);
        let is_timely = options.oldest.is_none_or(|oldest| entry.mtime >= oldest)
            && options.newest.is_none_or(|newest| entry.mtime <= newest);
        let is_of_column = options.oid.is_none_or(|oid| {
            SegmentPath::parse(&entry.path).is_some_and(|segment| segment.oid == oid)
        });
        if (asks_size && !is_sized) || !is_timely || !is_of_column {
            return Ok(false);
        }
        match self.wanted {
            Some(_) if !is_needed => self.needs(entry.extents(), LIST_DEPTH_MAX),
            _ => Ok(true),
        }
    }

    /// Whether content needs a chunk that is wanted, or a list that is.
    fn needs(&mut self, extents: &[Extent], depth: usize) -> Result<bool> {
        for extent in extents {
            let is_needed = match *extent {
                Extent::Chunk { id, .. } | Extent::Slice { id, .. } => {
                    let key = (prefix_of(id), ChunkKind::Data);
                    self.wanted.as_ref().is_some_and(|wanted| wanted.contains(&key))
                }
                Extent::List { id, .. } | Extent::Recipe { id, .. } if self.is_wanted_meta(id) => {
                    true
                }
                Extent::List { id, length } if depth > 0 => self.list_needs(id, length, depth)?,
                // Below the deepest list, too: nothing nests in it.
                Extent::Recipe { id, length } => self.recipe_needs(id, length, depth)?,
                _ => false,
            };
            if is_needed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn list_needs(&mut self, id: ChunkId, length: u64, depth: usize) -> Result<bool> {
        self.those_need(id, "span list", depth, |meta| meta.list(id, length))
    }

    fn recipe_needs(&mut self, id: ChunkId, length: u32, depth: usize) -> Result<bool> {
        self.those_need(id, "recipe", depth, |meta| {
            Ok(meta.recipe(id, length)?.extents().copied().collect())
        })
    }

    /// Whether what a list or a recipe names needs a chunk that is wanted.
    fn those_need(
        &mut self,
        id: ChunkId,
        noun: &str,
        depth: usize,
        read: impl FnOnce(&mut MetaReader<'_>) -> Result<Vec<Extent>>,
    ) -> Result<bool> {
        if let Some(answer) = self.answers.get(&id) {
            return Ok(*answer);
        }
        let answer = match read(&mut self.meta) {
            Ok(listed) => self.needs(&listed, depth.saturating_sub(1))?,
            Err(error) => {
                let finding =
                    Finding::new(damage_kind(&error)?, format!("{noun} {id}"), error.to_string());
                self.observer.event(Event::Finding(&finding));
                self.report.findings.push(finding);
                false
            }
        };
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.insert(id, answer);
        Ok(answer)
    }
}
