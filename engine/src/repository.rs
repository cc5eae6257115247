//! An open repository: its config, features, index and the objects behind them.
//!
//! What it enforces: nothing is read before config and features are understood; a chunk is handed
//! out only after its hash was verified; an object is created, never replaced.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::ahead::{ReadAhead, RecordCache};
use crate::backend::{Backend, Key, Listed, Space, is_unanswered, listed};
use crate::compress::Decompressor;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::FindingKind;
use crate::format::config::{
    Config, CutterParameters, FeatureRecord, SlotParameters, StoreFacts, from_json, to_json,
};
use crate::format::index::Index;
use crate::format::recipe::Recipe;
use crate::format::{
    ChunkKind, FEATURE_RECIPES, FEATURE_ZSTD, Header, KNOWN_FEATURES, ObjectKind, RECORD_BYTES_MAX,
    feature_bits, open_record, open_record_of, seal_record,
};
use crate::id::{ChunkId, IdKey, IndexId, PackId, RepositoryId, SessionId, hash_stored, random};
use crate::index::{CachePlace, ChunkIndex, IndexReport, Location};
use crate::pack::read_trailer;
use crate::progress::{Event, Observer};

/// What a new repository is created with.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// How content is cut.
    pub cutter: CutterParameters,
    /// How slots of segment files are stored.
    pub slots: SlotParameters,
    /// The size packs are filled to, in bytes.
    pub pack_bytes: u32,
    /// The present time, RFC 3339.
    pub now: String,
    /// The program that creates it.
    pub program: String,
    /// What is known of the store it is in.
    pub store: StoreFacts,
}

/// The size packs are filled to unless asked otherwise.
pub const PACK_BYTES_DEFAULT: u32 = 64 << 20;

/// A repository whose config and features are understood.
pub struct Repository {
    backend: Arc<dyn Backend>,
    config: Config,
    id_key: IdKey,
    index: ChunkIndex,
    index_note: Option<String>,
    /// The features that were there when it was opened, or its session began.
    features: OnceLock<Vec<String>>,
    /// What single chunks are read from, where each read waits for a store.
    ahead: Option<ReadAhead>,
    /// Records of snapshots that were read before.
    records: RecordCache,
    /// Whether packs without an index object were looked for; held while they are, so that every
    /// reader waits for what they name.
    recovered: Mutex<bool>,
}

/// Packs as the repository has them, compared with the index.
#[derive(Clone, Debug, Default)]
pub struct PackSurvey {
    /// Named by the index, and missing or of another length.
    pub missing: Vec<PackId>,
    /// Present, and named by no index object: what an interrupted session left, or what a lost
    /// index object named.
    pub unindexed: Vec<(PackId, u64)>,
}

impl Repository {
    /// Creates a repository and returns its id. The config is written last: without it there is
    /// no repository, and `create` can be tried again.
    ///
    /// Fails with `AlreadyExists` when there is one, `Invalid` when the options make no sense.
    pub fn create(backend: &dyn Backend, options: &CreateOptions) -> Result<RepositoryId> {
        options.cutter.validate("cutter")?;
        options.slots.validate("slots")?;
        validate_pack_bytes(options.pack_bytes, options.cutter.max_bytes, "pack size")?;
        refuse_orphans(backend)?;
        backend.clean_up()?;
        let repository = RepositoryId(random());
        let session = SessionId(random());
        write_features(backend, &[], repository, session)?;
        let config = Config {
            repository,
            id_key: ChunkId(random()).to_string(),
            cutter: options.cutter.clone(),
            slots: options.slots.clone(),
            pack_bytes: options.pack_bytes,
            encryption: "none".to_owned(),
            created: options.now.clone(),
            program: options.program.clone(),
            store: options.store,
        };
        let header = Header::new(ObjectKind::Config, 0, repository, session);
        let bytes = seal_record(&header, &to_json(&config));
        backend.put_new(&Key::Config, &[&bytes]).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::new(
                ErrorKind::AlreadyExists,
                backend.location(),
                "there is a repository already",
            ),
            _ => error,
        })?;
        Ok(repository)
    }

    /// Opens the repository at a backend, with the index cache that `cache` chooses for its id.
    /// The index is empty until [`Repository::load_index`].
    ///
    /// Fails with `NoRepository`, `Unsupported` (version, feature, encryption) or `Corrupt`.
    pub fn open(
        backend: Arc<dyn Backend>,
        cache: impl FnOnce(RepositoryId) -> CachePlace,
    ) -> Result<Self> {
        let repository = Self::open_for_session(backend, cache)?;
        let features = check_features(&*repository.backend)?;
        let _ = repository.features.set(features);
        Ok(repository)
    }

    /// Opens as [`Repository::open`] for whoever begins a session before anything is read: it lists
    /// everything once, the features too, and fails where there is one that this program does not know.
    pub fn open_for_session(
        backend: Arc<dyn Backend>,
        cache: impl FnOnce(RepositoryId) -> CachePlace,
    ) -> Result<Self> {
        let config = read_config(&*backend)?;
        let id_key = IdKey(
            config
                .id_key
                .parse::<ChunkId>()
                .map_err(|error| Error::corrupt("config", "id key").caused_by(error))?
                .0,
        );
        let (index, index_note) = ChunkIndex::open(&cache(config.repository), config.repository)?;
        let is_far = backend.reads_at_once().is_some();
        let directory = index.cache_path().and_then(|path| path.parent().map(Path::to_owned));
        Ok(Repository {
            ahead: is_far.then(|| ReadAhead::new(directory.clone())),
            records: RecordCache::new(directory.filter(|_| is_far)),
            backend,
            config,
            id_key,
            index,
            index_note,
            features: OnceLock::new(),
            recovered: Mutex::new(false),
        })
    }

    /// Brings the index up to date and tells the observer what it met.
    pub fn load_index(&self, observer: &dyn Observer) -> Result<IndexReport> {
        self.load_listed_index(&listed(&*self.backend, Space::Indexes)?, observer)
    }

    /// The same with what was listed below `index/`.
    pub fn load_listed_index(
        &self,
        objects: &[Listed],
        observer: &dyn Observer,
    ) -> Result<IndexReport> {
        let mut report = self.index.refresh_from(&*self.backend, objects)?;
        report.cache_note = self.index_note.clone().or(report.cache_note);
        if let Some(note) = &report.cache_note {
            observer.event(Event::Warning(note));
        }
        for finding in &report.findings.listed {
            observer.event(Event::Finding(finding));
        }
        Ok(report)
    }

    /// The backend.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// The config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The repository's id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// The key of chunk ids.
    pub fn id_key(&self) -> &IdKey {
        &self.id_key
    }

    /// The index.
    pub fn index(&self) -> &ChunkIndex {
        &self.index
    }

    /// Ends the use of the repository and keeps the cache.
    pub fn close(self) {
        self.index.close();
    }

    /// Returns more bytes than any pack of this repository has: one is full when it is as large as it was to be,
    /// and its trailer comes to that.
    pub fn pack_bytes_max(&self) -> u64 {
        2 * u64::from(self.config.pack_bytes)
    }

    /// Returns the required-feature bits of packs with chunks of a kind.
    pub fn pack_features(&self, kind: ChunkKind) -> u64 {
        match kind {
            ChunkKind::Data => feature_bits(&[FEATURE_ZSTD, FEATURE_RECIPES]),
            ChunkKind::Meta => feature_bits(&KNOWN_FEATURES),
        }
    }

    /// Looks at what was listed below `features/`.
    ///
    /// Fails with `Unsupported` when the repository requires one that this program does not know.
    pub fn take_features(&self, objects: Vec<Listed>) -> Result<()> {
        let features = known_features(objects)?;
        let _ = self.features.set(features);
        Ok(())
    }

    /// Adds the features that this program's backups use and the repository lacks: one made by an
    /// older program. From then on that program refuses the repository, by the feature's name.
    pub fn add_features(&self, session: SessionId) -> Result<()> {
        let present = self.features.get().map_or(&[][..], Vec::as_slice);
        write_features(self.backend(), present, self.id(), session)
    }

    /// Creates a record under `key`. An object of the same name is an error unless its bytes are
    /// exactly these: then it is a retry of ours that had succeeded.
    pub fn create_record(
        &self,
        key: &Key,
        kind: ObjectKind,
        session: SessionId,
        body: &[u8],
    ) -> Result<()> {
        let bytes = seal_record(&Header::new(kind, 0, self.id(), session), body);
        self.create_sealed(key, &bytes)
    }

    fn create_sealed(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        match self.backend.put_new(key, &[bytes]) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let stored = self.backend.get(key, RECORD_BYTES_MAX)?;
                if stored == bytes { Ok(()) } else { Err(error) }
            }
            other => other,
        }
    }

    /// Creates an index object, which has to name durable packs only, and returns its name.
    pub fn create_index(&self, session: SessionId, index: &Index) -> Result<IndexId> {
        let header = Header::new(ObjectKind::Index, 0, self.id(), session);
        let bytes = seal_record(&header, &index.encode());
        let id = IndexId(hash_stored(&[&bytes]));
        self.backend.put_new(&Key::Index(id), &[&bytes])?;
        Ok(id)
    }

    /// Reads a record of one kind and returns its header and body.
    pub fn read_record(&self, key: &Key, kind: ObjectKind) -> Result<(Header, Vec<u8>)> {
        let object = key.to_string();
        let bytes = self.backend.get(key, RECORD_BYTES_MAX)?;
        let (header, body) = open_record_of(&bytes, &object, kind, Some(self.id()))?;
        Ok((header, body.to_vec()))
    }

    /// Reads the snapshot record `session`, or finds that the session was revoked: `None`.
    pub fn read_snapshot_record(&self, session: SessionId) -> Result<Option<Vec<u8>>> {
        let key = Key::Snapshot(session);
        // An object never changes, and its own checksum tells whether a copy is whole.
        let kept = self.records.get(session).map(|bytes| self.open_snapshot(session, &bytes));
        if let Some(Ok(record)) = kept {
            return Ok(record);
        }
        let bytes = self.backend.get(&key, RECORD_BYTES_MAX)?;
        let record = self.open_snapshot(session, &bytes)?;
        self.records.put(session, &bytes);
        Ok(record)
    }

    /// Creates the record of a snapshot, and keeps a copy of it on this host. Fails as
    /// [`Repository::create_record`].
    pub fn create_snapshot(&self, session: SessionId, body: &[u8]) -> Result<()> {
        let header = Header::new(ObjectKind::Snapshot, 0, self.id(), session);
        let bytes = seal_record(&header, body);
        self.create_sealed(&Key::Snapshot(session), &bytes)?;
        self.records.put(session, &bytes);
        Ok(())
    }

    /// Reads from the repository from here on, also what this host has kept of it.
    pub fn read_anew(&self) {
        self.records.pass_over();
        self.ahead.iter().for_each(ReadAhead::pass_over);
    }

    /// Forgets kept records of snapshots that are not listed any more.
    pub fn keep_snapshot_records(&self, listed: &[SessionId]) {
        self.records.keep(listed);
    }

    /// Keeps what this host has stored as a pack, if it is one of meta chunks: the next backup reads it.
    pub fn keep_stored_pack(&self, id: PackId, kind: ChunkKind, bytes: &[u8]) {
        if let (ChunkKind::Meta, Some(ahead)) = (kind, &self.ahead) {
            ahead.keep_meta_pack(id, bytes);
        }
    }

    /// Forgets what was kept of packs that are not listed any more.
    pub fn keep_packs(&self, listed: &HashMap<PackId, u64>) {
        self.ahead.iter().for_each(|ahead| ahead.keep_packs(listed));
    }

    fn open_snapshot(&self, session: SessionId, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let object = Key::Snapshot(session).to_string();
        let (header, body) = open_record(bytes, &object)?;
        if header.kind == ObjectKind::Tombstone {
            return Ok(None);
        }
        crate::format::expect_header(&header, &object, ObjectKind::Snapshot, Some(self.id()))?;
        if header.session != session {
            return Err(Error::corrupt(
                object,
                format!("snapshot of the session in its name expected, found {}", header.session),
            ));
        }
        Ok(Some(body.to_vec()))
    }

    /// Returns the kind of finding that an error of reading a chunk or a recipe is. Passes on other errors, as
    /// that a store gave no answer.
    pub fn loss_kind(&self, error: &Error) -> Result<FindingKind> {
        match error.kind() {
            _ if is_unanswered(self.backend(), error) => Err(error.repeat()),
            ErrorKind::NotFound => Ok(FindingKind::MissingChunk),
            ErrorKind::Corrupt | ErrorKind::Io => Ok(FindingKind::DamagedChunk),
            ErrorKind::Unsupported => Ok(FindingKind::UnknownPacker),
            _ => Err(error.repeat()),
        }
    }

    /// Reads a chunk: looks it up, reads its range, decompresses it and verifies its hash. When one
    /// copy is missing or damaged, the next is tried.
    ///
    /// Fails with `NotFound` when no index names it, otherwise with the last copy's error.
    pub fn read_chunk(
        &self,
        id: ChunkId,
        kind: ChunkKind,
        decompressor: &mut Decompressor,
    ) -> Result<Vec<u8>> {
        self.read_copy(id, kind, &mut |stored, location| {
            self.open_chunk(id, stored, location, decompressor).map(<[u8]>::to_vec)
        })
    }

    /// Fills `raw` with the raw bytes of a chunk that must be as long.
    ///
    /// Fails as [`Repository::read_chunk`].
    pub fn read_chunk_into(
        &self,
        id: ChunkId,
        kind: ChunkKind,
        decompressor: &mut Decompressor,
        raw: &mut [u8],
    ) -> Result<()> {
        self.read_copy(id, kind, &mut |stored, location| {
            if location.raw_length as usize != raw.len() {
                let (expected, found) = (raw.len(), location.raw_length);
                let problem = format!("{expected} raw bytes expected, found {found}");
                return Err(damaged(id, location, &problem));
            }
            self.open_chunk_into(id, stored, location, decompressor, raw)
        })
    }

    /// Reads the recipe of a packed slot, with whose id and length it was stored.
    ///
    /// Fails as [`Repository::read_chunk`].
    pub fn read_recipe(&self, id: ChunkId, length: u32) -> Result<Recipe> {
        self.read_copy(id, ChunkKind::Meta, &mut |stored, location| {
            if location.raw_length != length {
                let problem = format!("{length} raw bytes expected, found {}", location.raw_length);
                return Err(damaged(id, location, &problem));
            }
            self.open_recipe(id, stored, location)
        })
    }

    /// Reads the first copy of a chunk that `open` can open.
    fn read_copy<T>(
        &self,
        id: ChunkId,
        kind: ChunkKind,
        open: &mut dyn FnMut(&[u8], &Location) -> Result<T>,
    ) -> Result<T> {
        let mut last = None;
        self.find(id, kind)?;
        for location in self.index.locations(id, kind)? {
            let open = &mut |stored: &[u8]| open(stored, &location);
            let opened = match &self.ahead {
                Some(ahead) => ahead.read(&*self.backend, kind, &location, open),
                None => {
                    let (offset, length) =
                        (location.offset.into(), location.stored_length as usize);
                    let stored = self.backend.get_range(&Key::Pack(location.pack), offset, length);
                    stored.and_then(|stored| open(&stored))
                }
            };
            match opened {
                Ok(opened) => return Ok(opened),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("chunk {id}"), "no index object names it")
        }))
    }

    /// Returns the recipe of a stored chunk that was read from `location`. That it leads to the slot
    /// of its id is seen when it is followed.
    pub fn open_recipe(&self, id: ChunkId, stored: &[u8], location: &Location) -> Result<Recipe> {
        Recipe::open(stored, id, location.raw_length, &self.id_key)
            .map_err(|error| damaged(id, location, &error.to_string()))
    }

    /// Returns the verified raw bytes of a stored chunk that was read from `location`.
    pub fn open_chunk<'a>(
        &self,
        id: ChunkId,
        stored: &'a [u8],
        location: &Location,
        decompressor: &'a mut Decompressor,
    ) -> Result<&'a [u8]> {
        // Codecs this program does not know are features that stopped it at open; met here, one
        // is damage.
        let raw = decompressor
            .open(stored, location.raw_length, "chunk")
            .map_err(|error| damaged(id, location, error.problem()))?;
        self.verify(id, raw, location).map(|()| raw)
    }

    /// Fills `raw`, as long as the location says, with the verified raw bytes of a stored chunk.
    pub fn open_chunk_into(
        &self,
        id: ChunkId,
        stored: &[u8],
        location: &Location,
        decompressor: &mut Decompressor,
        raw: &mut [u8],
    ) -> Result<()> {
        decompressor
            .open_into(stored, raw, "chunk")
            .map_err(|error| damaged(id, location, error.problem()))?;
        self.verify(id, raw, location)
    }

    fn verify(&self, id: ChunkId, raw: &[u8], location: &Location) -> Result<()> {
        match self.id_key.chunk_id(raw) == id {
            true => Ok(()),
            false => Err(damaged(id, location, "its bytes do not hash to its id")),
        }
    }

    /// Returns where a chunk is. When no index object names it, packs that none names are looked
    /// for and their trailers read, once: a lost index object costs time, not data.
    pub fn find(&self, id: ChunkId, kind: ChunkKind) -> Result<Option<Location>> {
        let found = self.index.find(id, kind)?;
        if found.is_some() {
            return Ok(found);
        }
        let mut recovered = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        if !*recovered {
            self.recover()?;
            *recovered = true;
        }
        drop(recovered);
        self.index.find(id, kind)
    }

    /// Leaves it at what index objects say: for whoever reports what they lack.
    pub fn never_recover(&self) {
        *self.recovered.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn recover(&self) -> Result<()> {
        for (id, bytes) in self.survey_packs()?.unindexed {
            // One that cannot be read is as good as not there; `check` names it.
            match read_trailer(&*self.backend, id, bytes, self.id()) {
                Ok(pack) => self.index.add_unnamed(&pack),
                Err(error) if is_unanswered(&*self.backend, &error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Compares the packs that are there with those the index names.
    pub fn survey_packs(&self) -> Result<PackSurvey> {
        let mut stored = HashMap::new();
        self.backend.list(Space::Packs, &mut |object| {
            if let Some(Key::Pack(id)) = Key::parse(&object.name) {
                stored.insert(id, object.bytes);
            }
        })?;
        self.survey_listed_packs(stored)
    }

    /// The same with the packs that were listed, and their lengths.
    pub fn survey_listed_packs(&self, mut stored: HashMap<PackId, u64>) -> Result<PackSurvey> {
        let mut survey = PackSurvey::default();
        self.index.packs(&mut |pack| {
            if stored.remove(&pack.id) != Some(pack.bytes) {
                survey.missing.push(pack.id);
            }
        })?;
        survey.unindexed = stored.into_iter().collect();
        survey.unindexed.sort_unstable();
        Ok(survey)
    }
}

/// Writes the features that are not there yet; `present` are known to be.
fn write_features(
    backend: &dyn Backend,
    present: &[String],
    repository: RepositoryId,
    session: SessionId,
) -> Result<()> {
    for feature in KNOWN_FEATURES {
        let key = Key::Feature(feature.name.to_owned());
        if present.contains(&key.to_string()) {
            continue;
        }
        let record = FeatureRecord { name: feature.name.to_owned(), bit: feature.bit };
        let header = Header::new(ObjectKind::Feature, 0, repository, session);
        let bytes = seal_record(&header, &to_json(&record));
        match backend.put_new(&key, &[&bytes]) {
            // From another writer that began at the same time.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}

/// Fails with `Refused` where objects of a repository are whose config is gone: a new config would
/// make them foreign.
fn refuse_orphans(backend: &dyn Backend) -> Result<()> {
    if !matches!(backend.length(&Key::Config), Err(error) if error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    for space in [Space::Packs, Space::Indexes, Space::Snapshots] {
        let mut found = None;
        backend.list(space, &mut |object| found = Some(object.name))?;
        if let Some(name) = found {
            return Err(Error::new(
                ErrorKind::Refused,
                backend.location(),
                format!("objects of a repository are there ({name}) whose config is missing"),
            ));
        }
    }
    Ok(())
}

/// Fails with `Invalid` for a pack size whose offsets would not fit their 32 bits.
fn validate_pack_bytes(pack_bytes: u32, chunk_bytes_max: u32, object: &str) -> Result<()> {
    if (chunk_bytes_max..=1 << 30).contains(&pack_bytes) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        object,
        format!("a pack size from the largest chunk to 1 GiB expected, found {pack_bytes} bytes"),
    ))
}

/// The longest config.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads the config of the repository at a backend.
pub fn read_config(backend: &dyn Backend) -> Result<Config> {
    let bytes =
        backend.get(&Key::Config, CONFIG_BYTES_MAX).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(
                ErrorKind::NoRepository,
                backend.location(),
                "no repository there: its config object is missing",
            ),
            // A file where a directory should be.
            _ if error.os_error() == Some(rustix::io::Errno::NOTDIR.raw_os_error()) => Error::new(
                ErrorKind::NoRepository,
                backend.location(),
                "no repository there: a directory expected",
            ),
            _ => error,
        })?;
    config_of(&bytes)
}

/// Reads a config from its object's bytes.
pub fn config_of(bytes: &[u8]) -> Result<Config> {
    let (header, body) = open_record_of(bytes, "config", ObjectKind::Config, None)?;
    let config: Config = from_json(body, "config")?;
    if config.repository != header.repository {
        return Err(Error::corrupt("config", "the repository id of its header expected"));
    }
    if config.encryption != "none" {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "config",
            format!("encryption \"none\" expected, found {:?}", config.encryption),
        ));
    }
    config.cutter.validate("config")?;
    config.slots.validate("config")?;
    validate_pack_bytes(config.pack_bytes, config.cutter.max_bytes, "config")?;
    Ok(config)
}

/// Returns the features of a repository, by their objects' names.
///
/// Fails with `Unsupported` when it requires one that this program does not know. Asked at open, and
/// again right before a commit.
pub fn check_features(backend: &dyn Backend) -> Result<Vec<String>> {
    known_features(listed(backend, Space::Features)?)
}

fn known_features(objects: Vec<Listed>) -> Result<Vec<String>> {
    let is_known = |object: &Listed| {
        let name = object.name.trim_start_matches("features/");
        KNOWN_FEATURES.iter().any(|feature| feature.name == name)
    };
    match objects.iter().find(|object| !is_known(object)) {
        None => Ok(objects.into_iter().map(|object| object.name).collect()),
        Some(unknown) => Err(Error::new(
            ErrorKind::Unsupported,
            &unknown.name,
            "the repository requires this feature, which this program does not know",
        )),
    }
}

fn damaged(id: ChunkId, location: &Location, problem: &str) -> Error {
    let (offset, pack) = (location.offset, location.pack);
    Error::corrupt(format!("chunk {id} at byte {offset} of pack {pack}"), problem)
}
