//! From raw chunks to durable packs and index objects.
//!
//! Many threads call [`ChunkStore::add`]; each hashes, looks up and compresses its own chunk. A
//! chunk that nobody has is placed in the open pack of its kind; a full pack goes to an uploader,
//! which names it, writes it and hands its places to the index. Bytes in flight are bounded by the
//! number of open packs and uploaders, whatever the size of data, files and index.
//!
//! Order (FORMAT.md 7.1): a pack is durable before an index object names it; the caller commits a
//! snapshot only after [`store_chunks`] has returned.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::Key;
use crate::compress::{Compression, Compressor};
use crate::error::{Error, ErrorKind, Result};
use crate::format::index::{Index, IndexedPack};
use crate::format::pack::{CHUNK_RAW_BYTES_MAX, Place, encode_trailer};
use crate::format::recipe::Recipe;
use crate::format::{ChunkKind, HEADER_LEN, Header};
use crate::id::{ChunkId, PackId, SessionId, hash_stored};
use crate::manifest::MetaStore;
use crate::progress::{Event, Observer};
use crate::repository::Repository;
use crate::transform::Transform;

/// Bytes of packs being written at most, unless one pack alone is more: each takes a thread that waits
/// for the store.
const UPLOAD_BYTES_MAX: usize = 256 << 20;

/// An index object is written when so many chunks wait for one; later ones are larger, so that
/// their number grows with the logarithm of the data...
const INDEX_CHUNKS_MIN: u64 = 8192;
const INDEX_CHUNKS_MAX: u64 = 1 << 18;
/// ...or when the last one is this old: an interrupted backup loses little.
const INDEX_AGE_MAX: Duration = Duration::from_secs(30);

/// How chunks are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Hash, look up and compress, but write nothing.
    pub dry_run: bool,
    /// Data packs open at once; more than one only pays with many threads.
    pub lanes: usize,
    /// How hard chunks are compressed.
    pub compression: Compression,
}

/// What was stored, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Data chunks added.
    pub data_chunks: u64,
    /// Meta chunks added.
    pub meta_chunks: u64,
    /// Their raw bytes.
    pub added_raw: u64,
    /// Their stored bytes.
    pub added_stored: u64,
    /// Bytes of the source that were known.
    pub known_raw: u64,
    /// Packs written.
    pub packs: u64,
    /// Index objects written.
    pub indexes: u64,
}

struct PackBuffer {
    kind: ChunkKind,
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Places waiting for an index object.
struct Waiting {
    packs: Vec<IndexedPack>,
    chunks: u64,
    flushed: u64,
    since: Instant,
}

/// A chunk that was handed to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its id.
    pub id: ChunkId,
    /// Whether nobody had it: neither the repository nor another task of this session.
    pub is_new: bool,
}

/// What is known of the recipe of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// There is none.
    No,
    /// There is one that cannot be read, or that names a chunk which is not stored.
    Unusable,
    /// This session has stored it.
    Claimed,
    /// The caller has said that a snapshot reaches it.
    Reached,
    /// It and each of its chunks are stored.
    Stored {
        /// The number of its packer.
        packer: u8,
    },
}

/// Takes chunks from any thread.
pub struct ChunkStore<'a> {
    repository: &'a Repository,
    session: SessionId,
    options: StoreOptions,
    observer: &'a dyn Observer,
    /// Open packs: the lanes for data, then one for meta.
    open: Vec<Mutex<PackBuffer>>,
    full: SyncSender<PackBuffer>,
    /// Buffers of written packs, to be used again: fresh memory costs page faults.
    spare: Mutex<Vec<Vec<u8>>>,
    waiting: Mutex<Waiting>,
    /// The first thing that went wrong in an uploader.
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    data_chunks: AtomicU64,
    meta_chunks: AtomicU64,
    added_raw: AtomicU64,
    added_stored: AtomicU64,
    known_raw: AtomicU64,
    packs: AtomicU64,
    indexes: AtomicU64,
}

/// What a thread keeps from chunk to chunk: a compressor costs more than a small one.
#[derive(Default)]
struct Scratch {
    compressor: Option<(Compression, Compressor)>,
    stored: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` with a store, then makes everything it added durable: packs, then the index
/// objects that name them.
pub fn store_chunks<T>(
    repository: &Repository,
    session: SessionId,
    options: StoreOptions,
    observer: &dyn Observer,
    work: impl FnOnce(&ChunkStore<'_>) -> Result<T>,
) -> Result<(T, StoreStats)> {
    // Nobody waits in this channel: a pack is open, being handed over or being written.
    let (full, to_write) = sync_channel(0);
    let to_write = Mutex::new(to_write);
    let fit = UPLOAD_BYTES_MAX / repository.config().pack_bytes as usize;
    let uploaders = repository.backend().writes_at_once().min(fit).max(2);
    let kinds = std::iter::repeat_n(ChunkKind::Data, options.lanes.max(1));
    let store = ChunkStore {
        repository,
        session,
        options,
        observer,
        open: kinds
            .chain([ChunkKind::Meta])
            .map(|kind| Mutex::new(PackBuffer { kind, bytes: Vec::new(), places: Vec::new() }))
            .collect(),
        full,
        spare: Mutex::default(),
        waiting: Mutex::new(Waiting {
            packs: Vec::new(),
            chunks: 0,
            flushed: 0,
            since: Instant::now(),
        }),
        failure: Mutex::default(),
        failed: AtomicBool::new(false),
        data_chunks: AtomicU64::new(0),
        meta_chunks: AtomicU64::new(0),
        added_raw: AtomicU64::new(0),
        added_stored: AtomicU64::new(0),
        known_raw: AtomicU64::new(0),
        packs: AtomicU64::new(0),
        indexes: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        let (store, to_write) = (&store, &to_write);
        let stop = StopUploaders { store, uploaders };
        for _ in 0..uploaders {
            scope.spawn(move || store.upload(to_write));
        }
        let done = work(store).and_then(|value| {
            store.send_open_packs()?;
            Ok(value)
        });
        drop(stop);
        done
    })
    .and_then(|value| {
        store.check()?;
        store.flush_index()?;
        Ok((value, store.stats()))
    })
}

/// Tells the uploaders that nothing more comes, on every path out.
struct StopUploaders<'a, 'b> {
    store: &'a ChunkStore<'b>,
    uploaders: usize,
}

impl Drop for StopUploaders<'_, '_> {
    fn drop(&mut self) {
        for _ in 0..self.uploaders {
            let end = PackBuffer { kind: ChunkKind::Data, bytes: Vec::new(), places: Vec::new() };
            let _ = self.store.full.send(end);
        }
    }
}

impl ChunkStore<'_> {
    /// Stores a chunk unless it is known.
    ///
    /// Fails when an uploader has failed: the backup ends, what is written stays for the next.
    pub fn add(&self, kind: ChunkKind, raw: &[u8]) -> Result<Added> {
        let added = self.add_through(kind, raw, &mut || Transform::NONE)?;
        if kind == ChunkKind::Data && !added.is_new {
            self.count_known(raw.len() as u64);
        }
        Ok(added)
    }

    /// Stores a data chunk of what a slot holds, unless it is known, through the transform that
    /// `choose` returns; it is asked only when the chunk is new. What is known is not counted: its bytes
    /// are not those of the source.
    ///
    /// Fails as [`ChunkStore::add`].
    pub fn add_block(&self, raw: &[u8], choose: &mut dyn FnMut() -> Transform) -> Result<Added> {
        self.add_through(ChunkKind::Data, raw, choose)
    }

    fn add_through(
        &self,
        kind: ChunkKind,
        raw: &[u8],
        choose: &mut dyn FnMut() -> Transform,
    ) -> Result<Added> {
        if raw.is_empty() || raw.len() > CHUNK_RAW_BYTES_MAX as usize {
            // No reader would accept it: better no snapshot than one that cannot be restored.
            return Err(Error::new(
                ErrorKind::Invalid,
                "chunk",
                format!("1 to {CHUNK_RAW_BYTES_MAX} raw bytes expected, found {}", raw.len()),
            ));
        }
        let id = self.repository.id_key().chunk_id(raw);
        let raw_length = raw.len() as u64;
        if !self.repository.index().claim(id, kind)? {
            return Ok(Added { id, is_new: false });
        }
        self.check()?;
        let transform = choose();
        SCRATCH.with_borrow_mut(|Scratch { compressor, stored }| {
            stored.clear();
            let wanted = self.options.compression;
            if compressor.as_ref().is_none_or(|(kept, _)| *kept != wanted) {
                *compressor = Some((wanted, Compressor::with_level(wanted.level())));
            }
            let Some((_, compressor)) = compressor else { unreachable!("made above") };
            compressor.store_typed(raw, transform, stored);
            self.added_raw.fetch_add(raw_length, Ordering::Relaxed);
            self.place(kind, id, raw.len(), stored)
        })?;
        Ok(Added { id, is_new: true })
    }

    /// Stores the recipe of the packed slot `id`, whose chunks were added before, unless another task
    /// has. With `again` there is one that is of no use: another copy is stored, and found first.
    /// Returns whether it was stored.
    pub fn add_recipe(&self, id: ChunkId, recipe: &Recipe, again: bool) -> Result<bool> {
        self.check()?;
        let index = self.repository.index();
        let is_ours = match again {
            true => index.claim_again(id, ChunkKind::Meta),
            false => index.claim(id, ChunkKind::Meta)?,
        };
        if !is_ours {
            return Ok(false);
        }
        let stored = recipe.seal(id, self.repository.id_key());
        let slot_length = usize::try_from(recipe.slot_length()).unwrap_or(usize::MAX);
        // What the slot holds was counted with its blocks.
        self.added_raw.fetch_add(stored.len() as u64, Ordering::Relaxed);
        self.place(ChunkKind::Meta, id, slot_length, &stored)?;
        Ok(true)
    }

    /// Returns whether the packed slot `id` of `length` bytes has a recipe that leads to it: one that
    /// this session has stored, or one each of whose chunks is stored. With `is_reached` the caller
    /// says that a snapshot reaches it, listed since the lease: then its chunks need no look
    /// (FORMAT.md 7.1, 5).
    pub fn knows_recipe(&self, id: ChunkId, length: u32, is_reached: bool) -> Result<Known> {
        let index = self.repository.index();
        if index.has_claimed(id, ChunkKind::Meta) {
            return Ok(Known::Claimed);
        }
        if !index.may_contain(id) || index.find(id, ChunkKind::Meta)?.is_none() {
            return Ok(Known::No);
        }
        if is_reached {
            return Ok(Known::Reached);
        }
        let Ok(recipe) = self.repository.read_recipe(id, length) else {
            return Ok(Known::Unusable);
        };
        for chunk in recipe.chunks() {
            let is_there = index.has_claimed(chunk, ChunkKind::Data)
                || index.find(chunk, ChunkKind::Data)?.is_some();
            if !is_there {
                return Ok(Known::Unusable);
            }
        }
        Ok(Known::Stored { packer: recipe.packer })
    }

    /// Counts bytes of the source that were known in another form than a chunk of them.
    pub fn count_known(&self, bytes: u64) {
        self.known_raw.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Puts a stored chunk into the open pack of its kind.
    fn place(&self, kind: ChunkKind, id: ChunkId, raw_length: usize, stored: &[u8]) -> Result<()> {
        self.added_stored.fetch_add(stored.len() as u64, Ordering::Relaxed);
        match kind {
            ChunkKind::Data => self.data_chunks.fetch_add(1, Ordering::Relaxed),
            ChunkKind::Meta => self.meta_chunks.fetch_add(1, Ordering::Relaxed),
        };
        let length = |bytes: usize| u32::try_from(bytes).expect("a chunk is below 4 GiB");
        let place =
            Place { id, stored_length: length(stored.len()), raw_length: length(raw_length) };
        if self.options.dry_run { Ok(()) } else { self.append(kind, place, stored) }
    }

    fn lane(&self, kind: ChunkKind) -> &Mutex<PackBuffer> {
        let lanes = self.open.len() - 1;
        match kind {
            ChunkKind::Meta => &self.open[lanes],
            ChunkKind::Data => &self.open[rayon::current_thread_index().unwrap_or(0) % lanes],
        }
    }

    fn append(&self, kind: ChunkKind, place: Place, stored: &[u8]) -> Result<()> {
        let full = {
            let mut pack = lock(self.lane(kind));
            if pack.bytes.is_empty() {
                pack.bytes = lock(&self.spare).pop().unwrap_or_default();
                let features = self.repository.pack_features(kind);
                let header = Header::new(kind.pack(), features, self.repository.id(), self.session);
                pack.bytes.extend_from_slice(&header.encode());
            }
            debug_assert!(pack.bytes.len() >= HEADER_LEN, "a pack begins with its header");
            pack.bytes.extend_from_slice(stored);
            pack.places.push(place);
            let limit = self.repository.config().pack_bytes as usize;
            (pack.bytes.len() >= limit).then(|| PackBuffer {
                kind,
                bytes: std::mem::take(&mut pack.bytes),
                places: std::mem::take(&mut pack.places),
            })
        };
        full.map_or(Ok(()), |pack| self.send(pack))
    }

    fn send(&self, pack: PackBuffer) -> Result<()> {
        self.full.send(pack).map_err(|_| {
            Error::new(ErrorKind::Io, "pack", "the threads that write packs have ended")
        })
    }

    fn send_open_packs(&self) -> Result<()> {
        for open in &self.open {
            let mut pack = lock(open);
            if !pack.places.is_empty() {
                self.send(PackBuffer {
                    kind: pack.kind,
                    bytes: std::mem::take(&mut pack.bytes),
                    places: std::mem::take(&mut pack.places),
                })?;
            }
        }
        Ok(())
    }

    /// Writes packs until an empty one says that it was the last.
    fn upload(&self, to_write: &Mutex<Receiver<PackBuffer>>) {
        loop {
            let received = lock(to_write).recv();
            let Ok(pack) = received else { return };
            if pack.places.is_empty() {
                return;
            }
            // After a failure packs are still taken, so that nobody waits for ever.
            if !self.failed.load(Ordering::Relaxed)
                && let Err(error) = self.write_pack(pack)
            {
                lock(&self.failure).get_or_insert(error);
                self.failed.store(true, Ordering::Release);
            }
        }
    }

    fn write_pack(&self, pack: PackBuffer) -> Result<()> {
        let PackBuffer { kind, mut bytes, places } = pack;
        bytes.extend_from_slice(&encode_trailer(&places));
        let id = PackId(hash_stored(&[&bytes]));
        let (backend, key) = (self.repository.backend(), Key::Pack(id));
        match kind {
            ChunkKind::Data => backend.put_new_data(&key, &[&bytes])?,
            ChunkKind::Meta => backend.put_new(&key, &[&bytes])?,
        }
        self.repository.keep_stored_pack(id, kind, &bytes);
        self.packs.fetch_add(1, Ordering::Relaxed);
        bytes.clear();
        lock(&self.spare).push(bytes);
        let due = {
            let mut waiting = lock(&self.waiting);
            waiting.chunks += places.len() as u64;
            waiting.packs.push(IndexedPack { id, kind, places });
            let enough = (waiting.flushed / 8).clamp(INDEX_CHUNKS_MIN, INDEX_CHUNKS_MAX);
            waiting.chunks >= enough || waiting.since.elapsed() >= INDEX_AGE_MAX
        };
        if due { self.flush_index() } else { Ok(()) }
    }

    /// Writes an index object for the packs that wait for one.
    fn flush_index(&self) -> Result<()> {
        let packs = {
            let mut waiting = lock(&self.waiting);
            waiting.flushed += std::mem::take(&mut waiting.chunks);
            waiting.since = Instant::now();
            std::mem::take(&mut waiting.packs)
        };
        if packs.is_empty() {
            return Ok(());
        }
        let index = Index { packs, ..Index::default() };
        let id = self.repository.create_index(self.session, &index)?;
        self.indexes.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.repository.index().add(&index.packs, id) {
            // The object is durable; only the cache on this host lags behind.
            self.observer.event(Event::Warning(&error.to_string()));
        }
        Ok(())
    }

    /// Fails with the first error of an uploader.
    pub fn check(&self) -> Result<()> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(lock(&self.failure)
            .as_ref()
            .map_or_else(|| Error::new(ErrorKind::Io, "pack", "writing has failed"), Error::repeat))
    }

    fn stats(&self) -> StoreStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            data_chunks: read(&self.data_chunks),
            meta_chunks: read(&self.meta_chunks),
            added_raw: read(&self.added_raw),
            added_stored: read(&self.added_stored),
            known_raw: read(&self.known_raw),
            packs: read(&self.packs),
            indexes: read(&self.indexes),
        }
    }
}

impl MetaStore for ChunkStore<'_> {
    fn store_meta(&self, raw: &[u8]) -> Result<ChunkId> {
        self.add(ChunkKind::Meta, raw).map(|added| added.id)
    }
}
