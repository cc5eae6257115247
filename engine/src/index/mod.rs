//! Which chunk is in which pack: durable index objects, and a cache of them on this host.
//!
//! The truth are the index objects of the repository. The cache is rebuilt from them whenever it
//! does not fit, and its loss costs time only. Memory does not grow with the number of chunks: they
//! stand in sorted runs in files (`runs`), behind a filter in a memory map (`filter`), beside a
//! small database (`cache`); only ids claimed since the last flush are held in memory.
//!
//! Invariants:
//! * a chunk is *known* when an index object names it, in a pack that is neither doomed nor seen to
//!   be missing, or when this session has claimed it;
//! * of several tasks that meet a new chunk, exactly one is told to store it;
//! * the filter may say "known" of an unknown chunk, and may say "new" of a known one only in ways
//!   that cost a second copy; finding a chunk for restore never asks it.

mod cache;
mod filter;
mod runs;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::backend::{Backend, Key, Listed, Space, for_each_read, is_unanswered, listed};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::index::{Index, IndexedPack};
use crate::format::pack::{PLACE_LEN, pack_length_of, with_offsets};
use crate::format::{ChunkKind, ObjectKind, RECORD_BYTES_MAX, open_record_of};
use crate::id::{ChunkId, IndexId, PackId, RepositoryId, hash_stored};
use cache::{Cache, Merging};

/// How many chunks are sorted in memory at once when index objects are loaded (some 60 MB).
const LOAD_BATCH: usize = 1 << 19;

/// Claims are spread over this many locks.
const SHARDS: usize = 64;

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Byte offset of the stored chunk in the pack.
    pub offset: u32,
    /// Stored bytes, codec byte included.
    pub stored_length: u32,
    /// Raw bytes.
    pub raw_length: u32,
}

impl Location {
    /// Returns where in the pack its stored bytes end.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.stored_length)
    }
}

/// A pack as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPack {
    /// The pack.
    pub id: PackId,
    /// What it holds.
    pub kind: ChunkKind,
    /// Its stored length in bytes.
    pub bytes: u64,
}

/// The first bytes of a chunk id, by which the index tells chunks apart: 160 bits of a keyed hash.
pub type IdPrefix = [u8; runs::PREFIX_LEN];

/// Returns the beginning of an id.
pub fn prefix_of(id: ChunkId) -> IdPrefix {
    runs::prefix_of(id)
}

/// One stored copy of a chunk, as [`ChunkIndex::places`] gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedChunk {
    /// The beginning of its id.
    pub prefix: IdPrefix,
    /// What it holds.
    pub kind: ChunkKind,
    /// Stored bytes, codec byte included.
    pub stored_length: u32,
    /// Raw bytes.
    pub raw_length: u32,
}

/// Where the cache is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// In this directory, which belongs to one repository.
    Directory(PathBuf),
    /// In memory, gone at the end: grows with the repository.
    Memory,
}

/// The index of one open repository.
pub struct ChunkIndex {
    cache: RwLock<Cache>,
    repository: RepositoryId,
    /// Ids claimed by this session and not yet in the cache; each shard guards its ids.
    claimed: Vec<Mutex<HashSet<(ChunkId, ChunkKind)>>>,
    /// Packs whose chunks count as unknown.
    avoided: RwLock<HashSet<PackId>>,
    /// Places in packs that no index object names, read from their trailers for this process
    /// alone: the cache holds nothing that the repository does not say.
    unnamed: RwLock<HashMap<(ChunkId, ChunkKind), Location>>,
}

/// What loading the index objects did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Index objects in the repository.
    pub objects: u64,
    /// Those that were read now; the others were in the cache.
    pub loaded: u64,
    /// Objects that could not be used, by name.
    pub findings: Findings,
    /// The cache began empty, or index objects that it knew are gone: what they named may be too.
    pub rebuilt: bool,
    /// Why the cache is not where it was asked to be.
    pub cache_note: Option<String>,
}

impl ChunkIndex {
    /// Opens the cache at `place`; it may be empty or out of date until [`ChunkIndex::refresh`].
    ///
    /// A cache that is held by another process gets a neighbour; one that cannot be used is thrown
    /// away; where none can be written, memory is used and the note says so.
    pub fn open(place: &CachePlace, repository: RepositoryId) -> Result<(Self, Option<String>)> {
        let (cache, note) = Cache::open(place, repository)?;
        let index = ChunkIndex {
            cache: RwLock::new(cache),
            repository,
            claimed: (0..SHARDS).map(|_| Mutex::default()).collect(),
            avoided: RwLock::default(),
            unnamed: RwLock::default(),
        };
        Ok((index, note))
    }

    /// Brings the cache up to date with the index objects of the repository.
    ///
    /// An object that cannot be read is a finding, not an error: its chunks are unknown, which
    /// costs storing them again. A store that gives no answer is an error. A cache file that fails, for want of space say, gives way to one
    /// in memory. Fails when the listing fails, too.
    pub fn refresh(&self, backend: &dyn Backend) -> Result<IndexReport> {
        self.refresh_from(backend, &listed(backend, Space::Indexes)?)
    }

    /// The same with what was listed below `index/`.
    pub fn refresh_from(&self, backend: &dyn Backend, objects: &[Listed]) -> Result<IndexReport> {
        let file = self.cache_path().map(|path| path.display().to_string());
        let error = match self.load(backend, objects) {
            Err(error) if file.is_some_and(|file| file == error.object()) => error,
            other => return other,
        };
        self.use_memory()?;
        let mut report = self.load(backend, objects)?;
        report.cache_note =
            Some(format!("{error}; using memory instead, which grows with the index"));
        Ok(report)
    }

    fn use_memory(&self) -> Result<()> {
        let (cache, _) = Cache::open(&CachePlace::Memory, self.repository)?;
        *self.cache.write().unwrap_or_else(PoisonError::into_inner) = cache;
        Ok(())
    }

    fn load(&self, backend: &dyn Backend, objects: &[Listed]) -> Result<IndexReport> {
        let mut report = IndexReport::default();
        let mut listed = HashMap::new();
        for object in objects {
            match Key::parse(&object.name) {
                Some(Key::Index(id)) => drop(listed.insert(id, object.bytes)),
                _ => report.findings.push(Finding::new(
                    FindingKind::ForeignObject,
                    &object.name,
                    "the name of an index object expected",
                )),
            }
        }
        report.objects = listed.len() as u64;
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let mut have = cache.index_objects()?;
        report.rebuilt = have.is_empty() && !listed.is_empty();
        if have.iter().any(|id| !listed.contains_key(id)) {
            // Index objects are gone: start again from what there is.
            report.rebuilt = true;
            cache.clear()?;
            have.clear();
        }
        listed.retain(|id, _| !have.contains(id));
        // An object has little but places; what a listing says is believed as far as it can be true.
        let places = listed.values().map(|bytes| bytes.min(&RECORD_BYTES_MAX) / PLACE_LEN as u64);
        let expected = cache.chunks() + places.sum::<u64>();
        cache.expect(expected)?;
        let mut missing: Vec<_> = listed.into_keys().collect();
        missing.sort_unstable();
        let mut batch = Vec::new();
        let mut names = Vec::new();
        let mut chunks = 0;
        let read = |id| (id, read_index(backend, id, self.repository));
        let all_read = for_each_read(backend, missing, read, |(id, index)| {
            match index {
                Ok(index) => {
                    report.loaded += 1;
                    chunks += index.packs.iter().map(|pack| pack.places.len()).sum::<usize>();
                    batch.extend(index.packs);
                    names.push(id);
                }
                Err(error) => report.findings.push(object_finding(backend, &error)?),
            }
            if chunks >= LOAD_BATCH {
                let (packs, names) = (std::mem::take(&mut batch), std::mem::take(&mut names));
                cache.insert(&packs, &names, Merging::Loading)?;
                chunks = 0;
            }
            Ok(())
        });
        // What was read before a store gave no answer need not be read again.
        if !names.is_empty() {
            cache.insert(&batch, &names, Merging::Loading)?;
        }
        cache.finish_load()?;
        all_read.map(|()| report)
    }

    /// Forgets what an earlier session in this process claimed, avoided or read from trailers.
    pub fn begin_session(&self) {
        for shard in &self.claimed {
            shard.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        self.avoided.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.unnamed.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Empties the cache: the next refresh reads every index object anew.
    pub fn forget(&self) -> Result<()> {
        let cleared = self.cache.write().unwrap_or_else(PoisonError::into_inner).clear();
        cleared.or_else(|_| self.use_memory())
    }

    /// Treats every chunk in these packs as unknown from now on.
    pub fn avoid(&self, packs: impl IntoIterator<Item = PackId>) {
        self.avoided.write().unwrap_or_else(PoisonError::into_inner).extend(packs);
    }

    /// Whether any pack is avoided.
    pub fn avoids_any(&self) -> bool {
        !self.avoided.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Returns where a chunk is, in a pack of its kind that is not avoided.
    pub fn find(&self, id: ChunkId, kind: ChunkKind) -> Result<Option<Location>> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        let avoided = self.avoided.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        cache.find(id, kind, &mut |location| {
            found = (!avoided.contains(&location.pack)).then_some(location);
            found.is_none()
        })?;
        Ok(found.or_else(|| self.find_unnamed(id, kind)))
    }

    /// Returns where a chunk is of which only the beginning of the id is known.
    pub fn find_by_prefix(&self, prefix: IdPrefix, kind: ChunkKind) -> Result<Option<Location>> {
        let mut id = ChunkId([0; 32]);
        id.0[..prefix.len()].copy_from_slice(&prefix);
        if let Some(location) = self.find(id, kind)? {
            return Ok(Some(location));
        }
        let unnamed = self.unnamed.read().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(id, of): &(ChunkId, ChunkKind)| *of == kind && prefix_of(*id) == prefix;
        Ok(unnamed.iter().find(|(key, _)| is_it(key)).map(|(_, location)| *location))
    }

    fn find_unnamed(&self, id: ChunkId, kind: ChunkKind) -> Option<Location> {
        self.unnamed.read().unwrap_or_else(PoisonError::into_inner).get(&(id, kind)).copied()
    }

    /// Takes over the places of a pack that no index object names, to be read from only.
    pub fn add_unnamed(&self, pack: &IndexedPack) {
        let mut unnamed = self.unnamed.write().unwrap_or_else(PoisonError::into_inner);
        for (offset, place) in with_offsets(&pack.places) {
            let location = Location {
                pack: pack.id,
                offset,
                stored_length: place.stored_length,
                raw_length: place.raw_length,
            };
            unnamed.insert((place.id, pack.kind), location);
        }
    }

    /// Returns every place where a chunk is, in packs of its kind, newest first.
    pub fn locations(&self, id: ChunkId, kind: ChunkKind) -> Result<Vec<Location>> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        cache.find_newest_first(id, kind, &mut |location| found.push(location))?;
        found.extend(self.find_unnamed(id, kind));
        Ok(found)
    }

    /// Whether the filter lets a chunk pass: false means that no index object names it.
    pub fn may_contain(&self, id: ChunkId) -> bool {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).may_contain(id)
    }

    /// Claims a chunk for the caller to store. Returns false when it is known or claimed already.
    pub fn claim(&self, id: ChunkId, kind: ChunkKind) -> Result<bool> {
        let shard = &self.claimed[id.0[31] as usize % SHARDS];
        let claimed = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed().contains(&(id, kind)) {
            return Ok(false);
        }
        // A flush puts chunks into the cache before it drops their claims, so a chunk whose claim
        // is gone is found here.
        let maybe_known = self.cache.read().unwrap_or_else(PoisonError::into_inner).may_contain(id);
        if maybe_known && self.find(id, kind)?.is_some() {
            return Ok(false);
        }
        Ok(claimed().insert((id, kind)))
    }

    /// Claims a chunk whose stored copy is of no use, for the caller to store another. Returns false
    /// when this session has claimed it already.
    pub fn claim_again(&self, id: ChunkId, kind: ChunkKind) -> bool {
        let shard = &self.claimed[id.0[31] as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner).insert((id, kind))
    }

    /// Whether this session has claimed a chunk that is not in the cache yet.
    pub fn has_claimed(&self, id: ChunkId, kind: ChunkKind) -> bool {
        let shard = &self.claimed[id.0[31] as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner).contains(&(id, kind))
    }

    /// Takes over packs whose index object `name` is durable, and drops the claims of their
    /// chunks. On failure the claims stay: memory is spent, nothing is lost.
    pub fn add(&self, packs: &[IndexedPack], name: IndexId) -> Result<()> {
        self.cache.write().unwrap_or_else(PoisonError::into_inner).insert(
            packs,
            std::slice::from_ref(&name),
            Merging::Running,
        )?;
        for pack in packs {
            for place in &pack.places {
                self.claimed[place.id.0[31] as usize % SHARDS]
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&(place.id, pack.kind));
            }
        }
        Ok(())
    }

    /// Calls `each` for every pack that an index object names.
    pub fn packs(&self, each: &mut dyn FnMut(KnownPack)) -> Result<()> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).packs(each)
    }

    /// Calls `each` for every copy of every chunk in the packs that `takes` wants, in rising order
    /// of the beginning of their ids: one pass over the runs at sequential speed. Ends with the
    /// first error of `each`. Packs that no index object names are not among them.
    pub fn places(
        &self,
        takes: &dyn Fn(&KnownPack) -> bool,
        each: &mut dyn FnMut(PlacedChunk) -> Result<()>,
    ) -> Result<()> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).places(takes, each)
    }

    /// Returns the packs in which a chunk is that `is_wanted`, which is asked for every copy of every chunk
    /// in rising order of the beginning of their ids. Ends with its first error.
    pub fn packs_with(
        &self,
        is_wanted: &mut dyn FnMut(PlacedChunk) -> Result<bool>,
    ) -> Result<Vec<KnownPack>> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).packs_with(is_wanted)
    }

    /// Returns how many chunks the index objects name, repetitions included.
    pub fn chunks(&self) -> u64 {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).chunks()
    }

    /// Makes the cache durable. Without this the next opening loads a little more.
    pub fn close(self) {
        self.cache.into_inner().unwrap_or_else(PoisonError::into_inner).close();
    }

    /// Returns the file of the cache, unless it is in memory.
    pub fn cache_path(&self) -> Option<PathBuf> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        cache.path().map(Path::to_path_buf)
    }
}

/// Reads an index object; its name and its checksum both have to hold.
pub fn read_index(backend: &dyn Backend, id: IndexId, repository: RepositoryId) -> Result<Index> {
    let key = Key::Index(id);
    let object = key.to_string();
    let bytes = backend.get(&key, RECORD_BYTES_MAX)?;
    if hash_stored(&[&bytes]) != id.0 {
        return Err(Error::corrupt(object, "the object's bytes do not hash to its name"));
    }
    let (_, body) = open_record_of(&bytes, &object, ObjectKind::Index, Some(repository))?;
    Index::decode(body).map_err(|error| error.in_object(object))
}

/// Turns the error of reading one object into a finding, when it is one; passes others on: that a store gave no
/// answer is one, since what is not known of this object is not known of the next either. A backup that
/// went on would store again what is there, and a check would call damaged what is not.
pub fn object_finding(backend: &dyn Backend, error: &Error) -> Result<Finding> {
    let kind = match error.kind() {
        _ if is_unanswered(backend, error) => return Err(error.repeat()),
        ErrorKind::NotFound => FindingKind::MissingObject,
        ErrorKind::Corrupt | ErrorKind::Io => FindingKind::DamagedObject,
        _ => return Err(error.repeat()),
    };
    Ok(Finding::new(kind, error.object(), error.problem()))
}

/// Returns the facts of a pack that is about to be indexed.
fn known_pack(pack: &IndexedPack) -> KnownPack {
    KnownPack { id: pack.id, kind: pack.kind, bytes: pack_length_of(&pack.places) }
}
