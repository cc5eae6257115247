//! The cache on this host: runs of chunk places in files, and beside them a small database of packs,
//! runs, and which index objects are in it. The door to redb.
//!
//! A change is made durable when the cache is saved; what a crash undoes before that is loaded
//! again. Runs that were merged are removed only after the database that no longer names them is
//! durable, so the database a crash leaves names only runs that are there. If they are not, for
//! whatever reason, everything is thrown away: it is only a cache.

use std::collections::{BTreeMap, HashSet};
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    TableDefinition,
};

use super::filter::{Filter, Token};
use super::runs::{Run, RunEntry, RunWriter, merge, pack_number, prefix_of};
use super::{CachePlace, KnownPack, Location, PlacedChunk, known_pack};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ChunkKind;
use crate::format::index::IndexedPack;
use crate::format::pack::with_offsets;
use crate::id::{ChunkId, IndexId, PackId, RepositoryId};

/// Changes whenever tables or runs do; another version is thrown away.
const CACHE_VERSION: u64 = 2;

/// Page cache of redb in bytes: it holds packs and names only.
const PAGE_CACHE_BYTES: usize = 16 << 20;

/// Runs of one tier are merged when there are this many...
const RUNS_PER_TIER: usize = 8;

/// ...but while index objects are loaded only when there are this many: a bulk load writes an entry
/// twice, to a run and to the run it is merged into. Each needs a buffer of 256 KiB.
const RUNS_PER_TIER_LOADING: usize = 192;

/// While a backup runs, only runs of fewer entries are merged, in a second or two: look-ups wait.
const MERGED_WHILE_RUNNING_MAX: u64 = 4 << 20;

/// A listing may say anything; for more chunks than these the filter grows as they come.
const EXPECTED_MAX: u64 = 1 << 30;

/// How many processes can have a cache of their own at once on one host.
const SLOTS: usize = 16;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const PACKS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("packs");
const PACK_ORDINALS: TableDefinition<'static, &[u8], u32> = TableDefinition::new("pack-ordinals");
const INDEXES: TableDefinition<'static, &[u8], ()> = TableDefinition::new("index-objects");
/// Entries and token of each run.
const RUNS: TableDefinition<'static, u32, (u64, Token)> = TableDefinition::new("runs");

type Bytes = &'static [u8];

/// When runs are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merging {
    /// Index objects are being loaded, many of them perhaps.
    Loading,
    /// All are loaded.
    Loaded,
    /// A backup adds what it has stored.
    Running,
}

pub(super) struct Cache {
    database: Database,
    path: Option<PathBuf>,
    packs: ReadOnlyTable<u32, Bytes>,
    runs: BTreeMap<u32, Run>,
    /// Numbers of the runs, largest first: most known chunks are found at once.
    largest_first: Vec<u32>,
    filter: Filter,
    chunks: u64,
    filter_is_saved: bool,
}

impl Cache {
    pub fn open(place: &CachePlace, repository: RepositoryId) -> Result<(Self, Option<String>)> {
        let CachePlace::Directory(directory) = place else {
            return Ok((Self::in_memory(repository)?, None));
        };
        match Self::in_directory(directory, repository) {
            Ok(cache) => Ok((cache, None)),
            Err(error) => {
                let note = format!("{error}; using memory instead, which grows with the index");
                Ok((Self::in_memory(repository)?, Some(note)))
            }
        }
    }

    fn in_memory(repository: RepositoryId) -> Result<Self> {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder()
            .set_cache_size(PAGE_CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| failed(None, error))?;
        Self::prepare(database, None, repository).map_err(|error| failed(None, error))
    }

    fn in_directory(directory: &Path, repository: RepositoryId) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| Error::io(directory, "create the cache directory", error))?;
        for slot in 0..SLOTS {
            let path = directory.join(format!("index.{slot}.redb"));
            let anew = || {
                std::fs::remove_file(&path).map_err(redb::StorageError::from)?;
                open_database(&path)
            };
            let opened = match open_database(&path) {
                Err(DatabaseError::DatabaseAlreadyOpen) => Err(DatabaseError::DatabaseAlreadyOpen),
                Ok(database) => match is_of(&database, repository) {
                    Ok(true) => Ok(database),
                    _ => {
                        drop(database);
                        anew()
                    }
                },
                // Damaged, cut short: it is only a cache.
                Err(_) => anew(),
            };
            let database = match opened {
                Err(DatabaseError::DatabaseAlreadyOpen) => continue,
                Err(error) => return Err(failed(Some(&path), error)),
                Ok(database) => database,
            };
            return Self::prepare(database, Some(&path), repository)
                .map_err(|error| failed(Some(&path), error));
        }
        Err(Error::new(
            ErrorKind::Locked,
            directory.display().to_string(),
            format!("all {SLOTS} cache files are in use by other processes"),
        ))
    }

    fn prepare(
        database: Database,
        path: Option<&Path>,
        repository: RepositoryId,
    ) -> std::result::Result<Self, redb::Error> {
        let writing = database.begin_write()?;
        {
            writing.open_table(META)?.insert("identity", &identity(repository)[..])?;
            writing.open_table(PACKS)?;
            writing.open_table(PACK_ORDINALS)?;
            writing.open_table(INDEXES)?;
            writing.open_table(RUNS)?;
        }
        writing.commit()?;
        let runs = open_runs(&database, path)?;
        let packs = database.begin_read()?.open_table(PACKS)?;
        let mut cache = Cache {
            database,
            path: path.map(Path::to_path_buf),
            packs,
            chunks: 0,
            runs: BTreeMap::new(),
            largest_first: Vec::new(),
            filter: Filter::in_memory(0),
            filter_is_saved: false,
        };
        match runs {
            Some(runs) => cache.runs = runs,
            None => cache.clear_tables()?,
        }
        cache.remove_strays();
        cache.runs_changed();
        let token = cache.database.begin_read()?.open_table(META)?.get("filter")?;
        let saved = token
            .and_then(|token| token.value().try_into().ok())
            .zip(path)
            .and_then(|(token, path)| Filter::open(&filter_path(path), token).ok().flatten());
        cache.filter_is_saved = saved.is_some();
        match saved {
            Some(filter) => cache.filter = filter,
            None => cache.rebuild_filter(2 * cache.chunks)?,
        }
        Ok(cache)
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    fn failed(&self, error: impl Into<redb::Error>) -> Error {
        failed(self.path.as_deref(), error)
    }

    pub fn index_objects(&self) -> Result<HashSet<IndexId>> {
        let read = || -> std::result::Result<HashSet<IndexId>, redb::Error> {
            let reading = self.database.begin_read()?;
            let mut names = HashSet::new();
            for name in reading.open_table(INDEXES)?.iter()? {
                names.extend(name?.0.value().try_into().ok().map(IndexId));
            }
            Ok(names)
        };
        read().map_err(|error| self.failed(error))
    }

    /// Forgets everything but what the cache is for.
    pub fn clear(&mut self) -> Result<()> {
        self.clear_tables()
            .and_then(|()| self.rebuild_filter(0))
            .map_err(|error| self.failed(error))
    }

    fn clear_tables(&mut self) -> std::result::Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        writing.delete_table(PACKS)?;
        writing.delete_table(PACK_ORDINALS)?;
        writing.delete_table(INDEXES)?;
        writing.delete_table(RUNS)?;
        writing.open_table(PACKS)?;
        writing.open_table(PACK_ORDINALS)?;
        writing.open_table(INDEXES)?;
        writing.open_table(RUNS)?;
        writing.open_table(META)?.remove("filter")?;
        writing.commit()?;
        self.packs = self.database.begin_read()?.open_table(PACKS)?;
        self.runs.clear();
        self.runs_changed();
        self.remove_strays();
        Ok(())
    }

    /// Brings what follows from the runs up to date.
    fn runs_changed(&mut self) {
        self.largest_first = self.runs.keys().copied().collect();
        self.largest_first.sort_by_key(|number| std::cmp::Reverse(self.runs[number].entries));
        self.chunks = self.runs.values().map(|run| run.entries).sum();
    }

    /// Removes files of runs that are not there any more, or were never finished. That they stay
    /// costs space only.
    fn remove_strays(&self) {
        let Some(path) = &self.path else { return };
        let Some((directory, stem)) = path.parent().zip(path.file_stem()) else { return };
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for name in entries.map(|entry| entry.file_name()) {
            let number = name
                .as_encoded_bytes()
                .strip_prefix(stem.as_encoded_bytes())
                .and_then(|rest| rest.strip_prefix(b"."))
                .and_then(|rest| rest.strip_suffix(b".run"))
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
            if number.is_some_and(|number| !self.runs.contains_key(&number)) {
                let _ = std::fs::remove_file(directory.join(name));
            }
        }
    }

    fn next_run(&self) -> (u32, Option<PathBuf>) {
        let number = self.runs.last_key_value().map_or(0, |(last, _)| last + 1);
        (number, self.path.as_deref().map(|path| run_path(path, number)))
    }

    /// Makes room in the filter for so many chunks in all, and a little more, so that it need not
    /// grow while they come. A hint: where there is no such room, nothing is lost.
    pub fn expect(&mut self, chunks: u64) -> Result<()> {
        // Made with room to spare, so that a night's chunks do not make it anew every time.
        let expected = chunks.min(EXPECTED_MAX);
        if expected > self.filter.capacity && self.path.is_some() {
            self.rebuild_filter(expected / 8 * 9).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Adds the packs of index objects, as one run.
    pub fn insert(
        &mut self,
        packs: &[IndexedPack],
        names: &[IndexId],
        merging: Merging,
    ) -> Result<()> {
        let added = self.insert_run(packs, names).and_then(|()| self.merge_full_tiers(merging));
        added.map_err(|error| self.failed(error))
    }

    fn insert_run(
        &mut self,
        packs: &[IndexedPack],
        names: &[IndexId],
    ) -> std::result::Result<(), redb::Error> {
        let (number, path) = self.next_run();
        let mut writing = self.database.begin_write()?;
        // The truth is in the repository: what a crash undoes here is loaded again.
        writing.set_durability(Durability::None)?;
        let mut entries = Vec::new();
        let run = {
            writing.open_table(META)?.remove("filter")?;
            let mut pack_table = writing.open_table(PACKS)?;
            let mut ordinals = writing.open_table(PACK_ORDINALS)?;
            let mut next = pack_table.last()?.map_or(0, |(last, _)| last.value() + 1);
            for pack in packs {
                let known = ordinals.get(&pack.id.0[..])?.map(|ordinal| ordinal.value());
                let ordinal = match known {
                    Some(ordinal) => ordinal,
                    None => {
                        pack_table.insert(next, &encode_pack(&known_pack(pack))[..])?;
                        ordinals.insert(&pack.id.0[..], next)?;
                        next += 1;
                        next - 1
                    }
                };
                entries.reserve(pack.places.len());
                entries.extend(with_offsets(&pack.places).map(|(offset, place)| RunEntry {
                    prefix: prefix_of(place.id),
                    pack: pack_number(ordinal, pack.kind),
                    offset,
                    stored_length: place.stored_length,
                    raw_length: place.raw_length,
                }));
            }
            entries.sort_unstable();
            let mut index_objects = writing.open_table(INDEXES)?;
            for name in names {
                index_objects.insert(&name.0[..], ())?;
            }
            let mut writer = RunWriter::new(path.as_deref())?;
            entries.iter().try_for_each(|entry| writer.push(entry))?;
            let run = writer.finish()?;
            if run.entries > 0 {
                writing.open_table(RUNS)?.insert(number, (run.entries, run.token))?;
            }
            run
        };
        writing.commit()?;
        self.packs = self.database.begin_read()?.open_table(PACKS)?;
        if run.entries > 0 {
            self.runs.insert(number, run);
        }
        self.runs_changed();
        self.filter_is_saved = false;
        if self.chunks > self.filter.capacity {
            return self.rebuild_filter(2 * self.chunks);
        }
        // In order, so that the filter is written from its beginning to its end.
        entries.iter().for_each(|entry| self.filter.insert(&entry.prefix));
        Ok(())
    }

    fn merge_full_tiers(&mut self, merging: Merging) -> std::result::Result<(), redb::Error> {
        let (limit, entries_max) = match merging {
            Merging::Loading => (RUNS_PER_TIER_LOADING, u64::MAX),
            Merging::Loaded => (RUNS_PER_TIER, u64::MAX),
            Merging::Running => (RUNS_PER_TIER, MERGED_WHILE_RUNNING_MAX),
        };
        while let Some(full) = self.full_tier(limit, entries_max) {
            self.merge_runs(&full)?;
        }
        Ok(())
    }

    /// Returns the runs of the first tier that has grown full.
    fn full_tier(&self, limit: usize, entries_max: u64) -> Option<Vec<u32>> {
        let mut tiers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (number, run) in self.runs.iter().filter(|(_, run)| run.entries < entries_max) {
            tiers.entry(run.entries.max(1).ilog2() / 3).or_default().push(*number);
        }
        let mut full = tiers.into_values().find(|tier| tier.len() >= limit)?;
        full.truncate(RUNS_PER_TIER_LOADING);
        Some(full)
    }

    /// Replaces some runs by one with the same entries, durably.
    fn merge_runs(&mut self, old: &[u32]) -> std::result::Result<(), redb::Error> {
        let (number, path) = self.next_run();
        let mut writer = RunWriter::new(path.as_deref())?;
        let sources: Vec<&Run> = old.iter().filter_map(|number| self.runs.get(number)).collect();
        merge(&sources, &mut |entry| writer.push(entry))?;
        let run = writer.finish()?;
        self.runs.insert(number, run);
        self.sync_runs()?;
        let writing = self.database.begin_write()?;
        {
            let mut runs = writing.open_table(RUNS)?;
            for old in old {
                runs.remove(*old)?;
            }
            let run = &self.runs[&number];
            runs.insert(number, (run.entries, run.token))?;
        }
        writing.commit()?;
        for old in old {
            self.runs.remove(old);
            if let Some(path) = &self.path {
                // One that stays is a stray when the cache is opened again.
                let _ = std::fs::remove_file(run_path(path, *old));
            }
        }
        self.runs_changed();
        Ok(())
    }

    fn sync_runs(&mut self) -> std::io::Result<()> {
        self.runs.values_mut().try_for_each(Run::sync)
    }

    fn rebuild_filter(&mut self, capacity: u64) -> std::result::Result<(), redb::Error> {
        let capacity = capacity.max(1 << 16);
        let created = match &self.path {
            Some(path) => Filter::create(&filter_path(path), capacity).ok(),
            None => None,
        };
        // Without its file the filter is in memory: 1.25 bytes a chunk that is really there.
        let in_memory = || Filter::in_memory(capacity.min((2 * self.chunks).max(1 << 16)));
        let mut filter = created.unwrap_or_else(in_memory);
        for run in self.runs.values() {
            run.for_each(&mut |entry| {
                filter.insert(&entry.prefix);
                Ok(())
            })?;
        }
        self.filter = filter;
        self.filter_is_saved = false;
        Ok(())
    }

    /// Merges what a load has left, and makes it durable.
    pub fn finish_load(&mut self) -> Result<()> {
        let finished = self.merge_full_tiers(Merging::Loaded).and_then(|()| self.save());
        finished.map_err(|error| self.failed(error))
    }

    fn save(&mut self) -> std::result::Result<(), redb::Error> {
        if self.filter_is_saved {
            return Ok(());
        }
        self.sync_runs()?;
        let token = self.filter.seal();
        let writing = self.database.begin_write()?;
        writing.open_table(META)?.insert("filter", &token[..])?;
        writing.commit()?;
        self.filter_is_saved = true;
        Ok(())
    }

    pub fn close(mut self) {
        // A cache that cannot be saved is loaded again next time: what follows sees to that.
        let _ = self.save();
    }

    pub fn may_contain(&self, id: ChunkId) -> bool {
        self.filter.may_contain(id)
    }

    /// Calls `each` for every place of a chunk until it returns false; which comes first is
    /// not said.
    pub fn find(
        &self,
        id: ChunkId,
        kind: ChunkKind,
        each: &mut dyn FnMut(Location) -> bool,
    ) -> Result<()> {
        self.find_places(&self.largest_first, id, kind, each).map_err(|error| self.failed(error))
    }

    /// Calls `each` for every place of a chunk, those added last first.
    pub fn find_newest_first(
        &self,
        id: ChunkId,
        kind: ChunkKind,
        each: &mut dyn FnMut(Location),
    ) -> Result<()> {
        let newest_first: Vec<u32> = self.runs.keys().rev().copied().collect();
        self.find_places(&newest_first, id, kind, &mut |location| {
            each(location);
            true
        })
        .map_err(|error| self.failed(error))
    }

    fn find_places(
        &self,
        runs: &[u32],
        id: ChunkId,
        kind: ChunkKind,
        each: &mut dyn FnMut(Location) -> bool,
    ) -> std::result::Result<(), redb::Error> {
        let prefix = prefix_of(id);
        let mut entries = Vec::new();
        for run in runs.iter().filter_map(|number| self.runs.get(number)) {
            entries.clear();
            run.find(&prefix, &mut entries)?;
            for entry in entries.iter().filter(|entry| entry.kind() == kind) {
                let pack = self.packs.get(entry.ordinal())?;
                let Some(pack) = pack.and_then(|bytes| decode_pack(bytes.value())) else {
                    continue;
                };
                let location = Location {
                    pack: pack.id,
                    offset: entry.offset,
                    stored_length: entry.stored_length,
                    raw_length: entry.raw_length,
                };
                if !each(location) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Calls `each` for every place in packs that are taken, in rising order of the ids' beginnings.
    pub fn places(
        &self,
        takes: &dyn Fn(&KnownPack) -> bool,
        each: &mut dyn FnMut(PlacedChunk) -> Result<()>,
    ) -> Result<()> {
        let mut taken = Vec::new();
        self.packs_by_ordinal(&mut |ordinal, pack| {
            taken.resize(ordinal as usize + 1, false);
            taken[ordinal as usize] = takes(&pack);
        })?;
        self.for_each_place(&mut |ordinal, place| match taken.get(ordinal as usize) {
            Some(true) => each(place),
            _ => Ok(()),
        })
    }

    /// Returns the packs with a chunk that is wanted; asks for the places in rising order of the ids'
    /// beginnings.
    pub fn packs_with(
        &self,
        is_wanted: &mut dyn FnMut(PlacedChunk) -> Result<bool>,
    ) -> Result<Vec<KnownPack>> {
        let mut wanted = Vec::new();
        self.for_each_place(&mut |ordinal, place| {
            let ordinal = ordinal as usize;
            if is_wanted(place)? {
                wanted.resize(wanted.len().max(ordinal + 1), false);
                wanted[ordinal] = true;
            }
            Ok(())
        })?;
        let mut found = Vec::new();
        self.packs_by_ordinal(&mut |ordinal, pack| {
            if wanted.get(ordinal as usize) == Some(&true) {
                found.push(pack);
            }
        })?;
        Ok(found)
    }

    /// Calls `each` for every place and the ordinal of its pack, in rising order of the ids' beginnings.
    fn for_each_place(&self, each: &mut dyn FnMut(u32, PlacedChunk) -> Result<()>) -> Result<()> {
        let mut failure = None;
        let runs: Vec<&Run> = self.runs.values().collect();
        let merged = merge(&runs, &mut |entry| {
            let place = PlacedChunk {
                prefix: entry.prefix,
                kind: entry.kind(),
                stored_length: entry.stored_length,
                raw_length: entry.raw_length,
            };
            each(entry.ordinal(), place).map_err(|error| {
                failure = Some(error);
                std::io::ErrorKind::Interrupted.into()
            })
        });
        match failure {
            Some(error) => Err(error),
            None => merged.map_err(|error| self.failed(redb::StorageError::from(error))),
        }
    }

    pub fn packs(&self, each: &mut dyn FnMut(KnownPack)) -> Result<()> {
        self.packs_by_ordinal(&mut |_, pack| each(pack))
    }

    fn packs_by_ordinal(&self, each: &mut dyn FnMut(u32, KnownPack)) -> Result<()> {
        let mut read = || -> std::result::Result<(), redb::Error> {
            for pack in self.packs.iter()? {
                let (ordinal, pack) = pack?;
                if let Some(pack) = decode_pack(pack.value()) {
                    each(ordinal.value(), pack);
                }
            }
            Ok(())
        };
        read().map_err(|error| self.failed(error))
    }
}

impl Drop for Cache {
    /// The database commits what is pending when it is dropped, so that every run it names has to be
    /// on the disk before, on every path out; if that cannot be, it names none.
    fn drop(&mut self) {
        if self.sync_runs().is_err() {
            let _ = self.clear_tables();
        }
    }
}

fn open_database(path: &Path) -> std::result::Result<Database, DatabaseError> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(redb::StorageError::from)?;
    let backend = redb::backends::FileBackend::new(file)?;
    Database::builder().set_cache_size(PAGE_CACHE_BYTES).create_with_backend(backend)
}

fn identity(repository: RepositoryId) -> Vec<u8> {
    let mut identity = CACHE_VERSION.to_le_bytes().to_vec();
    identity.extend_from_slice(&repository.0);
    identity
}

/// Whether a database is new, or of this version and repository.
fn is_of(database: &Database, repository: RepositoryId) -> std::result::Result<bool, redb::Error> {
    let reading = database.begin_read()?;
    let meta = match reading.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(true),
        other => other?,
    };
    let found = meta.get("identity")?;
    Ok(found.is_none_or(|found| found.value() == identity(repository)))
}

/// Opens the runs that the database names; none when one of them is missing or another.
fn open_runs(
    database: &Database,
    path: Option<&Path>,
) -> std::result::Result<Option<BTreeMap<u32, Run>>, redb::Error> {
    let mut runs = BTreeMap::new();
    for run in database.begin_read()?.open_table(RUNS)?.iter()? {
        let (number, value) = run?;
        let (number, (entries, token)) = (number.value(), value.value());
        let opened = path.and_then(|path| Run::open(&run_path(path, number), entries, token));
        match opened {
            Some(run) => drop(runs.insert(number, run)),
            None => return Ok(None),
        }
    }
    Ok(Some(runs))
}

fn filter_path(database: &Path) -> PathBuf {
    database.with_extension("filter")
}

fn run_path(database: &Path, number: u32) -> PathBuf {
    database.with_extension(format!("{number}.run"))
}

fn encode_pack(pack: &KnownPack) -> Vec<u8> {
    let mut out = pack.id.0.to_vec();
    out.push(pack.kind.number());
    out.extend_from_slice(&pack.bytes.to_le_bytes());
    out
}

fn decode_pack(bytes: &[u8]) -> Option<KnownPack> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (kind, bytes) = rest.split_first()?;
    let bytes = u64::from_le_bytes(bytes.try_into().ok()?);
    Some(KnownPack { id: PackId(*id), kind: ChunkKind::from_number(*kind)?, bytes })
}

fn failed(path: Option<&Path>, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let kind = match &error {
        redb::Error::Io(cause) => match cause.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            _ => ErrorKind::Io,
        },
        _ => ErrorKind::Io,
    };
    let object = path.map_or("index cache in memory".to_owned(), |path| path.display().to_string());
    Error::new(kind, object, "the index cache cannot be used").caused_by(error)
}
