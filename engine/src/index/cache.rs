//! The cache file: runs, packs and which index objects are in it. The door to redb.

use std::collections::{BTreeMap, HashSet};
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    TableDefinition,
};

use super::filter::Filter;
use super::runs::{
    BLOCKS, RunEntry, RunWriter, find_in_run, merge_runs, pack_number, prefix_of, read_run,
};
use super::{CachePlace, KnownPack, Location, PlacedChunk, known_pack};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ChunkKind;
use crate::format::index::IndexedPack;
use crate::format::pack::with_offsets;
use crate::id::{ChunkId, IndexId, PackId, RepositoryId};

/// Changes whenever the tables do; another version is thrown away.
const CACHE_VERSION: u64 = 1;

/// Page cache of redb in bytes.
const PAGE_CACHE_BYTES: usize = 64 << 20;

/// Runs of one tier are merged when there are this many.
const RUNS_PER_TIER: usize = 8;

/// How many processes can have a cache of their own at once on one host.
const SLOTS: usize = 16;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const PACKS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("packs");
const PACK_ORDINALS: TableDefinition<'static, &[u8], u32> = TableDefinition::new("pack-ordinals");
const INDEXES: TableDefinition<'static, &[u8], ()> = TableDefinition::new("index-objects");
const RUNS: TableDefinition<'static, u32, u64> = TableDefinition::new("runs");

type Bytes = &'static [u8];

pub(super) struct Cache {
    database: Database,
    path: Option<PathBuf>,
    view: View,
    filter: Filter,
    chunks: u64,
    filter_is_saved: bool,
}

/// Tables as of the last change, read without a transaction of one's own.
struct View {
    blocks: ReadOnlyTable<Bytes, Bytes>,
    packs: ReadOnlyTable<u32, Bytes>,
    /// Entries by run.
    runs: BTreeMap<u32, u64>,
}

impl View {
    fn of(database: &Database) -> Result<Self, redb::Error> {
        let reading = database.begin_read()?;
        let mut runs = BTreeMap::new();
        for run in reading.open_table(RUNS)?.iter()? {
            let (run, entries) = run?;
            runs.insert(run.value(), entries.value());
        }
        Ok(View { blocks: reading.open_table(BLOCKS)?, packs: reading.open_table(PACKS)?, runs })
    }
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
        Self::prepare(database, None, repository)
    }

    fn in_directory(directory: &Path, repository: RepositoryId) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| Error::io(directory, "create the cache directory", error))?;
        for slot in 0..SLOTS {
            let path = directory.join(format!("index.{slot}.redb"));
            let opened = open_database(&path).or_else(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => Err(error),
                // Damaged, of another version, cut short: it is only a cache.
                _ => {
                    std::fs::remove_file(&path).map_err(redb::StorageError::from)?;
                    open_database(&path)
                }
            });
            let database = match opened {
                Err(DatabaseError::DatabaseAlreadyOpen) => continue,
                Err(error) => return Err(failed(Some(&path), error)),
                Ok(database) => database,
            };
            return Self::prepare(database, Some(path), repository);
        }
        Err(Error::new(
            ErrorKind::Locked,
            directory.display().to_string(),
            format!("all {SLOTS} cache files are in use by other processes"),
        ))
    }

    fn prepare(
        database: Database,
        path: Option<PathBuf>,
        repository: RepositoryId,
    ) -> Result<Self> {
        let open = || -> Result<(View, Option<Filter>), redb::Error> {
            let writing = database.begin_write()?;
            {
                let mut meta = writing.open_table(META)?;
                let mut wanted = CACHE_VERSION.to_le_bytes().to_vec();
                wanted.extend_from_slice(&repository.0);
                let fits = meta.get("identity")?.is_some_and(|found| found.value() == wanted);
                if !fits {
                    meta.insert("identity", &wanted[..])?;
                    meta.remove("filter")?;
                    clear_tables(&writing)?;
                }
                writing.open_table(BLOCKS)?;
                writing.open_table(PACKS)?;
                writing.open_table(PACK_ORDINALS)?;
                writing.open_table(INDEXES)?;
                writing.open_table(RUNS)?;
            }
            writing.commit()?;
            let token = database.begin_read()?.open_table(META)?.get("filter")?;
            let filter = token
                .and_then(|token| token.value().try_into().ok())
                .zip(path.as_deref())
                .and_then(|(token, path)| Filter::open(&filter_path(path), token).ok().flatten());
            Ok((View::of(&database)?, filter))
        };
        let (view, filter) = open().map_err(|error| failed(path.as_deref(), error))?;
        let chunks = view.runs.values().sum();
        let filter_is_saved = filter.is_some();
        let filter = filter.unwrap_or_else(|| Filter::in_memory(0));
        let mut cache = Cache { database, path, view, filter, chunks, filter_is_saved };
        if !filter_is_saved {
            cache.rebuild_filter()?;
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
        let read = || -> Result<HashSet<IndexId>, redb::Error> {
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
        let clear = |database: &Database| -> Result<View, redb::Error> {
            let writing = database.begin_write()?;
            clear_tables(&writing)?;
            writing.open_table(META)?.remove("filter")?;
            writing.commit()?;
            View::of(database)
        };
        self.view = clear(&self.database).map_err(|error| self.failed(error))?;
        self.chunks = 0;
        self.rebuild_filter()
    }

    /// Adds the packs of index objects, as one run.
    pub fn insert(&mut self, packs: &[IndexedPack], names: &[IndexId]) -> Result<()> {
        let added: u64 = packs.iter().map(|pack| pack.places.len() as u64).sum();
        self.view = self.insert_run(packs, names).map_err(|error| self.failed(error))?;
        self.filter_is_saved = false;
        self.chunks += added;
        if self.chunks > self.filter.capacity {
            return self.rebuild_filter();
        }
        for place in packs.iter().flat_map(|pack| &pack.places) {
            self.filter.insert(&prefix_of(place.id));
        }
        Ok(())
    }

    fn insert_run(&self, packs: &[IndexedPack], names: &[IndexId]) -> Result<View, redb::Error> {
        let mut writing = self.database.begin_write()?;
        // The truth is in the repository: what a crash undoes here is loaded again.
        writing.set_durability(Durability::None)?;
        {
            writing.open_table(META)?.remove("filter")?;
            let mut entries = Vec::new();
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
                for (offset, place) in with_offsets(&pack.places) {
                    entries.push(RunEntry {
                        prefix: prefix_of(place.id),
                        pack: pack_number(ordinal, pack.kind),
                        offset,
                        stored_length: place.stored_length,
                        raw_length: place.raw_length,
                    });
                }
            }
            entries.sort_unstable();
            let mut runs = writing.open_table(RUNS)?;
            let mut blocks = writing.open_table(BLOCKS)?;
            let run = runs.last()?.map_or(0, |(last, _)| last.value() + 1);
            if !entries.is_empty() {
                let mut writer = RunWriter::new(&mut blocks, run);
                for entry in &entries {
                    writer.push(entry)?;
                }
                runs.insert(run, writer.finish()?)?;
            }
            let mut index_objects = writing.open_table(INDEXES)?;
            for name in names {
                index_objects.insert(&name.0[..], ())?;
            }
        }
        writing.commit()?;
        let mut view = View::of(&self.database)?;
        while let Some(full) = full_tier(&view.runs) {
            merge(&self.database, &view, &full)?;
            view = View::of(&self.database)?;
        }
        Ok(view)
    }

    fn rebuild_filter(&mut self) -> Result<()> {
        let capacity = (2 * self.chunks).max(1 << 16);
        let created = match &self.path {
            Some(path) => Filter::create(&filter_path(path), capacity).ok(),
            None => None,
        };
        // Without its file the filter is in memory: 1.25 bytes a chunk.
        let mut filter = created.unwrap_or_else(|| Filter::in_memory(capacity));
        let View { blocks, runs, .. } = &self.view;
        for run in runs.keys() {
            read_run(blocks, *run, &mut |entry| {
                filter.insert(&entry.prefix);
                Ok(())
            })
            .map_err(|error| self.failed(error))?;
        }
        self.filter = filter;
        self.filter_is_saved = false;
        Ok(())
    }

    /// Makes what was loaded durable.
    pub fn finish_load(&mut self) -> Result<()> {
        self.save().map_err(|error| self.failed(error))
    }

    fn save(&mut self) -> Result<(), redb::Error> {
        if self.filter_is_saved {
            return Ok(());
        }
        let token = self.filter.seal();
        let writing = self.database.begin_write()?;
        writing.open_table(META)?.insert("filter", &token[..])?;
        writing.commit()?;
        self.filter_is_saved = true;
        Ok(())
    }

    pub fn close(mut self) {
        // A cache that cannot be saved is loaded again next time.
        let _ = self.save();
    }

    pub fn may_contain(&self, id: ChunkId) -> bool {
        self.filter.may_contain(id)
    }

    /// Calls `each` for every place of a chunk until it returns false.
    pub fn find(
        &self,
        id: ChunkId,
        kind: ChunkKind,
        each: &mut dyn FnMut(Location) -> bool,
    ) -> Result<()> {
        self.find_places(id, kind, each).map_err(|error| self.failed(error))
    }

    fn find_places(
        &self,
        id: ChunkId,
        kind: ChunkKind,
        each: &mut dyn FnMut(Location) -> bool,
    ) -> Result<(), redb::Error> {
        let prefix = prefix_of(id);
        let mut entries = Vec::new();
        for run in self.view.runs.keys().rev() {
            entries.clear();
            find_in_run(&self.view.blocks, *run, &prefix, &mut entries)?;
            for entry in entries.iter().filter(|entry| entry.kind() == kind) {
                let pack = self.view.packs.get(entry.ordinal())?;
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
        let mut failure = None;
        let mut read = || -> Result<(), redb::Error> {
            for pack in self.view.packs.iter()? {
                let (ordinal, pack) = pack?;
                taken.resize(ordinal.value() as usize + 1, false);
                let is_taken = decode_pack(pack.value()).is_some_and(|pack| takes(&pack));
                taken[ordinal.value() as usize] = is_taken;
            }
            let runs: Vec<u32> = self.view.runs.keys().copied().collect();
            merge_runs(&self.view.blocks, &runs, &mut |entry| {
                if taken.get(entry.ordinal() as usize) != Some(&true) {
                    return Ok(());
                }
                let place = PlacedChunk {
                    prefix: entry.prefix,
                    kind: entry.kind(),
                    stored_length: entry.stored_length,
                    raw_length: entry.raw_length,
                };
                each(place).map_err(|error| {
                    failure = Some(error);
                    redb::Error::Io(std::io::ErrorKind::Interrupted.into())
                })
            })
        };
        let outcome = read();
        match failure {
            Some(error) => Err(error),
            None => outcome.map_err(|error| self.failed(error)),
        }
    }

    pub fn packs(&self, each: &mut dyn FnMut(KnownPack)) -> Result<()> {
        let read = |each: &mut dyn FnMut(KnownPack)| -> Result<(), redb::Error> {
            for pack in self.view.packs.iter()? {
                decode_pack(pack?.1.value()).into_iter().for_each(&mut *each);
            }
            Ok(())
        };
        read(each).map_err(|error| self.failed(error))
    }
}

/// Returns the runs of the first tier that has grown full.
fn full_tier(runs: &BTreeMap<u32, u64>) -> Option<Vec<u32>> {
    let mut tiers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (run, entries) in runs {
        tiers.entry(entries.max(&1).ilog2() / 3).or_default().push(*run);
    }
    tiers.into_values().find(|tier| tier.len() >= RUNS_PER_TIER)
}

/// Replaces some runs by one with the same entries. They are read from the view, a transaction of
/// its own, while the new one is written.
fn merge(database: &Database, view: &View, old: &[u32]) -> Result<(), redb::Error> {
    let mut writing = database.begin_write()?;
    writing.set_durability(Durability::None)?;
    {
        let mut runs = writing.open_table(RUNS)?;
        let mut blocks = writing.open_table(BLOCKS)?;
        let target = runs.last()?.map_or(0, |(last, _)| last.value() + 1);
        let mut writer = RunWriter::new(&mut blocks, target);
        merge_runs(&view.blocks, old, &mut |entry| writer.push(entry))?;
        let entries = writer.finish()?;
        for run in old {
            let (low, high) = (run.to_be_bytes(), (run + 1).to_be_bytes());
            blocks.retain_in::<&[u8], _>(&low[..]..&high[..], |_, _| false)?;
            runs.remove(*run)?;
        }
        runs.insert(target, entries)?;
    }
    writing.commit()?;
    Ok(())
}

fn open_database(path: &Path) -> Result<Database, DatabaseError> {
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

fn filter_path(database: &Path) -> PathBuf {
    database.with_extension("filter")
}

fn clear_tables(writing: &redb::WriteTransaction) -> Result<(), redb::Error> {
    writing.delete_table(BLOCKS)?;
    writing.delete_table(PACKS)?;
    writing.delete_table(PACK_ORDINALS)?;
    writing.delete_table(INDEXES)?;
    writing.delete_table(RUNS)?;
    writing.open_table(BLOCKS)?;
    writing.open_table(PACKS)?;
    writing.open_table(PACK_ORDINALS)?;
    writing.open_table(INDEXES)?;
    writing.open_table(RUNS)?;
    Ok(())
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
